//! [`IvfPq`]: inverted lists of product codes (Jégou, Douze and Schmid, "Product quantization for nearest neighbor search", IEEE TPAMI
//! 2011).
//!
//! 1. A coarse quantizer cuts the space into cells, as in [`crate::IvfIndex`].
//! 2. What is left of a vector when the centre of its cell is subtracted, its *residual*, is coded by a product quantizer: one of
//!    `2^bits` centroids for each of `subspaces` parts. Residuals of all cells look alike and are smaller than the vectors, so one set of
//!    codebooks spends its bits well.
//! 3. A search scans the lists of the `nprobe` nearest cells. The distance to a code is the sum of one table entry a part
//!    (*asymmetric distance computation*: the query itself isn't quantized).
//! 4. With `rerank` the best codes are compared with the query once more, by their full vectors, nearest code first, until what codes err
//!    by can't bring a further one among the best.
//!
//! With 4 bits the tables fit into vector registers, and a list is scanned 32 codes at a time ([`eas_tensor::fastscan`]). With
//! `opq_iterations` the residuals are rotated first so that the parts share the variance (Ge, He, Ke and Sun, "Optimized product
//! quantization", IEEE TPAMI 2014).

use std::collections::{BinaryHeap, HashMap};
use std::path::Path;

use eas_tensor::Matrix;
use eas_tensor::buffer::Buffer;
use eas_tensor::fastscan::{self, ByteTable, PackedCodes};
use eas_tensor::gemm::{Epilogue, PackedMatrix};
use eas_tensor::kernels;
use eas_tensor::kmeans::Centres;
use eas_tensor::quant::{Codec, Pq, PqConfig, opq_rotation, scan_codes};
use eas_tensor::rng::SplitMix64;
use rayon::prelude::*;

use crate::AnnError;
use crate::file::{Reader, Writer};
use crate::index::{
    Candidate, Hit, Metric, Pool, SearchStats, VectorIndex, check_new_ids, check_queries, check_rows, keep_best,
    prepare_query, sorted_hits,
};
use crate::ivf::{IvfConfig, Ranking, read_config, read_matrix, write_config, write_matrix};
use crate::lists::places;

const KIND: [u8; 4] = *b"IVPQ";
/// Queries whose products with all centres one task holds at once.
const QUERIES_A_TASK: usize = 32;
/// Distances to codes that are computed before they are compared with the worst candidate.
const CODES_A_STEP: usize = 256;
/// Bytes of the next list's codes that are asked for while one is scanned.
const PREFETCH_BYTES: usize = 1024;
/// Rows whose memory is asked for ahead of the one that is compared.
const PREFETCH: usize = 8;

/// Settings of inverted lists of product codes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IvfPqConfig {
    /// Cells, probes and how they are trained.
    pub ivf: IvfConfig,
    /// Parts of a vector; must divide the dimension.
    pub subspaces: usize,
    /// Bits a part: 8, or 4 for registers instead of tables in memory.
    pub bits: usize,
    /// Codes residuals (what is left when the centre of the cell is subtracted) rather than the vectors themselves.
    pub by_residual: bool,
    /// Most candidates compared by their full vectors, in the order of their codes and as long as one may still be among the best; 0 ranks
    /// by codes alone and keeps no vectors.
    pub rerank: usize,
    /// Lloyd iterations of each codebook.
    pub iterations: usize,
    /// Rounds of the search for a rotation; 0 rotates nothing.
    pub opq_iterations: usize,
}

impl Default for IvfPqConfig {
    /// 64 lists, 10 probes, 8 parts of 8 bits, residuals, no re-ranking, 20 iterations of k-means, no rotation.
    fn default() -> Self {
        Self {
            ivf: IvfConfig { lists: 64, max_iter: 20, tolerance: 0.0, ..IvfConfig::default() },
            subspaces: 8,
            bits: 8,
            by_residual: true,
            rerank: 0,
            iterations: 20,
            opq_iterations: 0,
        }
    }
}

/// Bytes that `n` vectors take in an index of these settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IvfPqMemory {
    /// The vectors as f32.
    pub raw: f64,
    /// Codes and centres of cells.
    pub codes_and_centres: f64,
    /// What a search really needs: codes, centres, an 8-byte id a vector, and the codebooks.
    pub total: f64,
}

impl IvfPqConfig {
    /// Bytes of `n` vectors of dimension `dim`. Re-ranking needs `raw` in addition, in memory or on disk.
    pub fn memory(&self, n: f64, dim: usize) -> IvfPqMemory {
        let codes = n * (self.subspaces * self.bits) as f64 / 8.0;
        let centres = (self.ivf.lists * dim * 4) as f64;
        let codebooks = ((dim * 4) << self.bits) as f64;
        IvfPqMemory {
            raw: n * (dim * 4) as f64,
            codes_and_centres: codes + centres,
            total: codes + centres + 8.0 * n + codebooks,
        }
    }

    fn check(&self, dim: usize) -> Result<(), AnnError> {
        if ![4, 8].contains(&self.bits) {
            return Err(AnnError::parameter("bits", &self.bits, "4 or 8"));
        }
        if self.subspaces == 0 || !dim.is_multiple_of(self.subspaces) {
            return Err(AnnError::parameter("subspaces", &self.subspaces, "a divisor of the dimension"));
        }
        if self.bits == 4 && self.subspaces > fastscan::MAX_PARTS {
            return Err(AnnError::parameter("subspaces", &self.subspaces, "at most 256 with 4 bits"));
        }
        Ok(())
    }
}

/// Bytes of an index by purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IvfPqBytes {
    /// Codes: `subspaces * bits / 8` a vector.
    pub codes: usize,
    /// Codebooks: `2^bits * dim` values.
    pub codebooks: usize,
    /// Centres of cells, and the rotation if there is one.
    pub centres: usize,
    /// Ids of 8 bytes.
    pub ids: usize,
    /// Full vectors for re-ranking.
    pub vectors: usize,
}

#[derive(Debug, Clone)]
enum Codes {
    /// One byte a part.
    Bytes(Vec<u8>),
    /// Four bits a part.
    Packed(PackedCodes),
}

/// The codes of one cell, with ids and (when re-ranked) numbers of full vectors in the same order.
#[derive(Debug, Clone)]
struct List {
    ids: Vec<u64>,
    codes: Codes,
    /// What the distance to a code has of its own, with squared distances to residuals; empty otherwise.
    terms: Vec<f32>,
    rows: Vec<u32>,
}

/// The full vectors of all lists in one place: re-ranking reads them at random, which wants large pages.
#[derive(Debug, Clone, Default)]
struct Vectors {
    values: Buffer<f32>,
    /// Id of each row.
    ids: Vec<u64>,
}

/// An orthogonal map of the residuals, and the centres as it maps them.
#[derive(Debug, Clone)]
struct Rotation {
    matrix: Matrix,
    packed: PackedMatrix,
    centres: Matrix,
}

/// Inverted lists of product codes.
///
/// [`VectorIndex::search`] scans `nprobe` lists, and further ones while it has fewer than `k` candidates; [`Self::search_counted`]
/// stops after `nprobe`. Scores are those of the codes, or exact ones with re-ranking.
///
/// Of unit vectors, [`Metric::SquaredL2`] ranks the codes a little better than [`Metric::Cosine`] (of 20 candidates re-ranked on the WordNet
/// glosses, all lists asked, 0.991 and 0.986 of the neighbours are found): it takes into account how long a code's vector is.
#[derive(Debug, Clone)]
pub struct IvfPq {
    metric: Metric,
    dim: usize,
    config: IvfPqConfig,
    centres: Centres,
    rotation: Option<Rotation>,
    expansion: Option<Expansion>,
    pq: Pq,
    errors: Errors,
    /// `None` when there is no re-ranking.
    vectors: Option<Vectors>,
    lists: Vec<List>,
    place: HashMap<u64, (u32, u32)>,
}

/// A query in the forms that a scan needs.
struct Query<'a> {
    /// As the metric stores vectors.
    plain: &'a [f32],
    /// Rotated, when there is a rotation.
    rotated: &'a [f32],
    /// Scores of the centres.
    scores: &'a [f32],
}

/// Squared distances to residuals without a table of its own for each list. With `m` the mean of the centres,
///
/// `|q - c - r|^2 = |q - c|^2 + (|r|^2 + 2 (c - m) . r) - 2 (q - m) . r`:
///
/// a number for the list, one for the code that is known when it is added, and products of the query with the centroids.
#[derive(Debug, Clone)]
struct Expansion {
    /// `m`, in the rotated space.
    mean: Vec<f32>,
}

/// Quantization errors `e = x - x'` of a sample: how far the distance to a code may be from that to its vector.
#[derive(Debug, Clone, Copy, Default)]
struct Errors {
    /// Root mean square of `e` along the direction of another vector.
    deviation: f32,
    /// Mean of `|e|^2` (divided by the mean `|x|`, when products are compared): what the distance to the code of a query's equal is too
    /// great by, because `x' . e` is 0 on average and `x . e` is not.
    bias: f32,
}

impl Expansion {
    fn new(centres: &Matrix) -> Self {
        let mut mean = vec![0.0f64; centres.dim()];
        for centre in centres.iter_rows() {
            for (m, &c) in mean.iter_mut().zip(centre) {
                *m += f64::from(c) / centres.rows() as f64;
            }
        }
        Self { mean: mean.into_iter().map(|m| m as f32).collect() }
    }

    /// The number of a code whose residual is decoded as `residual`.
    fn term(&self, residual: &[f32], centre: &[f32]) -> f32 {
        let parts = residual.iter().zip(centre).zip(&self.mean);
        parts.map(|((&r, &c), &m)| f64::from(r) * (f64::from(r) + 2.0 * f64::from(c - m))).sum::<f64>() as f32
    }
}

impl IvfPq {
    /// An empty index with cells and codebooks trained on `sample`, shape `(n, dim)`: at least as many rows as lists and as centroids a
    /// part.
    pub fn train(sample: &Matrix, metric: Metric, config: IvfPqConfig) -> Result<Self, AnnError> {
        let dim = sample.dim();
        config.check(dim)?;
        let stored = metric.stored(sample.clone());
        let centres = config.ivf.centres(&stored)?;
        let mut residuals = stored;
        if config.by_residual {
            let cells = centres.assign(&residuals);
            subtract_centres(&mut residuals, &cells, centres.centroids());
        }
        let pq_config = PqConfig {
            subspaces: config.subspaces,
            centroids: 1 << config.bits,
            iterations: config.iterations,
            sample: config.ivf.sample,
            seed: config.ivf.seed,
        };
        let mut rotation = None;
        if config.opq_iterations > 0 {
            let matrix = opq_rotation(&residuals, &pq_config, config.opq_iterations)?;
            let made = Rotation::new(matrix, centres.centroids());
            residuals = made.apply(residuals.as_slice(), dim)?;
            rotation = Some(made);
        }
        let pq = Pq::train(&residuals, &pq_config)?;
        let lists = vec![List::new(&config); config.ivf.lists];
        let vectors = (config.rerank > 0).then(Vectors::default);
        let mut index =
            Self::from_parts(metric, config, centres, rotation, pq, Errors::default(), vectors, lists, HashMap::new());
        if index.vectors.is_some() {
            let norm = sample.iter_rows().map(|row| f64::from(kernels::norm(row))).sum::<f64>() / sample.rows() as f64;
            index.errors = index.measure_errors(&residuals, if metric == Metric::Dot { norm } else { 1.0 })?;
        }
        Ok(index)
    }

    #[expect(clippy::too_many_arguments, reason = "all that an index is made of")]
    fn from_parts(
        metric: Metric,
        config: IvfPqConfig,
        centres: Centres,
        rotation: Option<Rotation>,
        pq: Pq,
        errors: Errors,
        vectors: Option<Vectors>,
        lists: Vec<List>,
        place: HashMap<u64, (u32, u32)>,
    ) -> Self {
        let rotated = rotation.as_ref().map_or(centres.centroids(), |rotation| &rotation.centres);
        let expands = metric == Metric::SquaredL2 && config.by_residual;
        let expansion = expands.then(|| Expansion::new(rotated));
        let dim = centres.centroids().dim();
        Self { metric, dim, config, centres, rotation, expansion, pq, errors, vectors, lists, place }
    }

    /// Errors of some rows of `residuals` along others, which stand for queries: rotated residuals have the directions that the vectors have
    /// within their cells, and errors matter among neighbours.
    fn measure_errors(&self, residuals: &Matrix, norm: f64) -> Result<Errors, AnnError> {
        let mut rng = SplitMix64::new(self.config.ivf.seed);
        let mut some = || residuals.select(&rng.sample_indices(residuals.rows(), residuals.rows().min(256)));
        let (coded, queries) = (some(), some());
        let decoded = self.pq.reconstruct(&coded)?;
        let (mut squares, mut pairs, mut own) = (0.0, 0, 0.0);
        for (row, code) in coded.iter_rows().zip(decoded.iter_rows()) {
            let error: Vec<f32> = row.iter().zip(code).map(|(x, y)| x - y).collect();
            own += f64::from(kernels::dot(&error, &error));
            for query in queries.iter_rows() {
                let norm = kernels::norm(query);
                if norm > 0.0 {
                    squares += f64::from(kernels::dot(&error, query) / norm).powi(2);
                    pairs += 1;
                }
            }
        }
        Ok(Errors {
            deviation: (squares / f64::from(pairs.max(1))).sqrt() as f32,
            bias: if norm > 0.0 { (own / coded.rows() as f64 / norm) as f32 } else { 0.0 },
        })
    }

    /// The settings.
    pub fn config(&self) -> IvfPqConfig {
        self.config
    }

    /// Sets how many lists [`VectorIndex::search`] scans.
    pub fn set_nprobe(&mut self, nprobe: usize) -> Result<(), AnnError> {
        if nprobe == 0 {
            return Err(AnnError::parameter("nprobe", &0, "at least 1"));
        }
        self.config.ivf.nprobe = nprobe;
        Ok(())
    }

    /// Sets how many candidates are re-ranked; above 0 only in an index that was made to keep its vectors.
    pub fn set_rerank(&mut self, rerank: usize) -> Result<(), AnnError> {
        if rerank > 0 && self.vectors.is_none() {
            return Err(AnnError::parameter("rerank", &rerank, "0 in an index that keeps no vectors"));
        }
        self.config.rerank = rerank;
        Ok(())
    }

    /// The product quantizer of (rotated) residuals.
    pub fn quantizer(&self) -> &Pq {
        &self.pq
    }

    /// Number of codes in each list.
    pub fn list_lens(&self) -> Vec<usize> {
        self.lists.iter().map(|list| list.ids.len()).collect()
    }

    /// The ids of list `list`; `None` when there is no such list.
    pub fn list_ids(&self, list: usize) -> Option<&[u64]> {
        self.lists.get(list).map(|list| list.ids.as_slice())
    }

    /// Bytes by purpose, without the hash table from id to place and the padding of the last block of a list.
    pub fn bytes(&self) -> IvfPqBytes {
        let (n, dim) = (self.len(), self.dim);
        let rotation = self.rotation.as_ref().map_or(0, |_| dim * dim);
        IvfPqBytes {
            codes: n * self.config.subspaces * self.config.bits / 8,
            codebooks: (dim * 4) << self.config.bits,
            centres: 4 * (self.config.ivf.lists * dim + rotation),
            ids: 8 * n,
            vectors: self.vectors.as_ref().map_or(0, |vectors| size_of_val(&vectors.values[..])),
        }
    }

    /// The code of `id`, one byte a part.
    pub fn code(&self, id: u64) -> Option<Vec<u8>> {
        let &(list, slot) = self.place.get(&id)?;
        Some(self.lists[list as usize].code(slot as usize, self.config.subspaces))
    }

    /// The vector that the code of `id` stands for.
    pub fn decode(&self, id: u64) -> Option<Vec<f32>> {
        let &(list, slot) = self.place.get(&id)?;
        let rotated = self.decode_rotated(list, slot);
        let Some(rotation) = &self.rotation else {
            return Some(rotated);
        };
        // The inverse of an orthogonal matrix is its transpose.
        let mut plain = vec![0.0; self.dim];
        for (x, row) in rotated.iter().zip(rotation.matrix.iter_rows()) {
            for (to, r) in plain.iter_mut().zip(row) {
                *to += x * r;
            }
        }
        Some(plain)
    }

    /// The decoded vector in the rotated space.
    fn decode_rotated(&self, list: u32, slot: u32) -> Vec<f32> {
        let code = self.lists[list as usize].code(slot as usize, self.config.subspaces);
        let mut vector = self.pq.decode(&code).unwrap_or_else(|_| vec![0.0; self.dim]);
        if self.config.by_residual {
            for (x, c) in vector.iter_mut().zip(self.rotated_centre(list as usize)) {
                *x += c;
            }
        }
        vector
    }

    fn rotated_centre(&self, list: usize) -> &[f32] {
        match &self.rotation {
            Some(rotation) => rotation.centres.row(list),
            None => self.centres.centroids().row(list),
        }
    }

    /// The `k` best of the codes in the `nprobe` nearest lists (default: the index's) whose ids pass `keep`, and what they cost. May
    /// give fewer than `k` when those lists hold fewer.
    pub fn search_counted(
        &self,
        query: &[f32],
        k: usize,
        nprobe: Option<usize>,
        keep: &(dyn Fn(u64) -> bool + Sync),
    ) -> Result<(Vec<Hit>, SearchStats), AnnError> {
        let nprobe = nprobe.unwrap_or(self.config.ivf.nprobe);
        let query = prepare_query(self.metric, self.dim, query)?;
        let mut found = self.scan_block(query.as_slice(), k, nprobe, nprobe, keep, &mut Scratch::default());
        Ok(found.pop().unwrap_or_default())
    }

    /// Searches for some prepared queries, whose products with centres and rotation are one matrix product each.
    fn scan_block(
        &self,
        queries: &[f32],
        k: usize,
        least: usize,
        most: usize,
        keep: &(dyn Fn(u64) -> bool + Sync),
        scratch: &mut Scratch,
    ) -> Vec<(Vec<Hit>, SearchStats)> {
        let mut scores = std::mem::take(&mut scratch.scores);
        self.centres.fill_scores(queries, &mut scores);
        let rotated = self.rotation.as_ref().map(|rotation| rotation.product(queries));
        let found = queries
            .chunks_exact(self.dim)
            .zip(rotated.as_deref().unwrap_or(queries).chunks_exact(self.dim))
            .zip(scores.chunks_exact(self.lists.len()))
            .map(|((plain, rotated), scores)| {
                let query = Query { plain, rotated, scores };
                self.scan(&query, k, least, most, keep, scratch)
            })
            .collect();
        scratch.scores = scores;
        found
    }

    /// Scans lists in the order of their scores: `least` of them, then up to `most` while there are fewer than `k` candidates.
    fn scan(
        &self,
        query: &Query<'_>,
        k: usize,
        least: usize,
        most: usize,
        keep: &(dyn Fn(u64) -> bool + Sync),
        scratch: &mut Scratch,
    ) -> (Vec<Hit>, SearchStats) {
        let mut stats = SearchStats::default();
        if k == 0 || self.is_empty() {
            return (Vec::new(), stats);
        }
        stats.full_distances(self.lists.len(), self.dim);
        let wanted = match (self.config.rerank, self.config.bits) {
            (0, 8) => k,
            // Sums of bytes are coarse: some more candidates, compared by their decoded vectors at the end.
            (0, _) => 2 * k + 16,
            (rerank, _) => rerank.max(k),
        };
        let mut pool = std::mem::take(&mut scratch.pool);
        pool.start(wanted);
        scratch.visited.clear();
        let mut from = 0;
        let code_bytes = (self.config.subspaces * self.config.bits / 8) as u64;
        self.fill_table(query.rotated, scratch);
        let mut ranking = Ranking::new(query.scores);
        let mut ranked = ranking.by_ref(least, most).peekable();
        let mut nth = 0;
        while let Some(number) = ranked.next() {
            if nth >= least && pool.len() >= k {
                break;
            }
            nth += 1;
            let list = &self.lists[number];
            if nth < least
                && let Some(&next) = ranked.peek()
            {
                self.lists[next].prefetch();
            }
            stats.lists_probed += 1;
            stats.codes_scanned += list.ids.len() as u64;
            stats.bytes_read += list.ids.len() as u64 * code_bytes;
            if list.ids.is_empty() {
                continue;
            }
            let offset = match self.metric {
                _ if !self.config.by_residual => 0.0,
                Metric::SquaredL2 => kernels::squared_l2(query.rotated, self.rotated_centre(number)),
                Metric::Dot | Metric::Cosine => -self.centres.product(number, query.scores[number]),
            };
            list.scan(from, offset, scratch, keep, &mut pool);
            scratch.visited.push((from, number as u32));
            from += list.ids.len() as u32;
        }
        // Places count the codes of the visited lists one after the other.
        let visited = &scratch.visited;
        let found = pool.best().map(|(distance, place)| {
            let (from, number) = visited[visited.partition_point(|&(from, _)| from <= place) - 1];
            (distance, number, (place - from) as usize)
        });
        let mut best = BinaryHeap::with_capacity(k + 1);
        if let Some(vectors) = self.vectors.as_ref().filter(|_| self.config.rerank > 0) {
            scratch.rows.clear();
            scratch
                .rows
                .extend(found.map(|(distance, number, slot)| (distance, self.lists[number as usize].rows[slot])));
            let row = |row: u32| &vectors.values[row as usize * self.dim..(row as usize + 1) * self.dim];
            // Some rows ahead are always on their way to the cache.
            for &(_, at) in scratch.rows.iter().take(PREFETCH) {
                kernels::prefetch(row(at));
            }
            let norm = if self.metric == Metric::SquaredL2 { 0.0 } else { kernels::norm(query.plain) };
            for (i, &(coded, at)) in scratch.rows.iter().enumerate() {
                let worst = best.peek().filter(|_| best.len() == k).map(|worst: &Candidate<u64>| worst.distance);
                if worst.is_some_and(|worst| coded - self.doubt(coded, norm, scratch.bytes.scale()) > worst) {
                    break;
                }
                if let Some(&(_, ahead)) = scratch.rows.get(i + PREFETCH) {
                    kernels::prefetch(row(ahead));
                }
                stats.full_distances(1, self.dim);
                let distance = self.metric.distance(query.plain, row(at));
                keep_best(&mut best, Candidate { distance, id: vectors.ids[at as usize] }, k);
            }
        } else {
            for (coded, number, slot) in found {
                let id = self.lists[number as usize].ids[slot];
                let distance = match self.config.bits {
                    4 => self.metric.distance(query.rotated, &self.decode_rotated(number, slot as u32)),
                    _ => coded,
                };
                keep_best(&mut best, Candidate { distance, id }, k);
            }
        }
        scratch.pool = pool;
        (sorted_hits(self.metric, best), stats)
    }

    /// How much less than the distance to its code the distance to a vector can be, but for four deviations: codes that are this much
    /// farther than the `k`-th best vector need not be compared. `norm` is that of the query, `step` what the table was rounded to.
    fn doubt(&self, coded: f32, norm: f32, step: f32) -> f32 {
        // |q - x|^2 = |q - x'|^2 - 2 (q - x') . e + |e|^2, and q . x = q . x' + q . e
        let length = match self.metric {
            Metric::SquaredL2 => 2.0 * coded.max(0.0).sqrt(),
            Metric::Dot | Metric::Cosine => norm,
        };
        let of_code = self.errors.deviation * length;
        let bias = self.errors.bias * if self.metric == Metric::SquaredL2 { 1.0 } else { norm };
        // The sum of the roundings of a table's entries, each uniform within a step.
        let of_table = if self.config.bits == 4 { step * (self.config.subspaces as f32 / 12.0).sqrt() } else { 0.0 };
        bias + 4.0 * of_code.hypot(of_table)
    }

    /// The table of a rotated query: what each centroid adds to the distance.
    fn fill_table(&self, query: &[f32], scratch: &mut Scratch) {
        let factor = match (&self.expansion, self.metric) {
            (Some(expansion), _) => {
                scratch.centred.clear();
                scratch.centred.extend(query.iter().zip(&expansion.mean).map(|(q, m)| q - m));
                self.pq.fill_products(&scratch.centred, &mut scratch.table);
                -2.0
            }
            (None, Metric::SquaredL2) => {
                self.pq.fill_distances(query, &mut scratch.table);
                1.0
            }
            (None, Metric::Dot | Metric::Cosine) => {
                self.pq.fill_products(query, &mut scratch.table);
                -1.0
            }
        };
        if factor != 1.0 {
            scratch.table.iter_mut().for_each(|x| *x *= factor);
        }
        if self.config.bits == 4 {
            scratch.bytes.fill(&scratch.table);
        }
    }

    /// The term of a code of list `list`, when codes have one.
    fn term(&self, list: usize, code: &[u8]) -> Result<Option<f32>, AnnError> {
        let Some(expansion) = &self.expansion else {
            return Ok(None);
        };
        Ok(Some(expansion.term(&self.pq.decode(code)?, self.rotated_centre(list))))
    }
}

/// Buffers of a scan that are used again for the next list and query.
#[derive(Default)]
struct Scratch {
    scores: Vec<f32>,
    table: Vec<f32>,
    bytes: ByteTable,
    centred: Vec<f32>,
    distances: Vec<f32>,
    pool: Pool,
    /// The lists of a search, each after the number of codes before it.
    visited: Vec<(u32, u32)>,
    /// Distances to codes, and the rows of their full vectors.
    rows: Vec<(f32, u32)>,
}

impl List {
    fn new(config: &IvfPqConfig) -> Self {
        Self {
            ids: Vec::new(),
            codes: match config.bits {
                4 => Codes::Packed(PackedCodes::new(config.subspaces)),
                _ => Codes::Bytes(Vec::new()),
            },
            terms: Vec::new(),
            rows: Vec::new(),
        }
    }

    fn code(&self, slot: usize, parts: usize) -> Vec<u8> {
        match &self.codes {
            Codes::Bytes(bytes) => bytes[slot * parts..(slot + 1) * parts].to_vec(),
            Codes::Packed(packed) => packed.get(slot),
        }
    }

    /// Asks for the memory in which the codes begin; the processor sees by itself how it goes on.
    fn prefetch(&self) {
        let bytes = match &self.codes {
            Codes::Bytes(bytes) => bytes,
            Codes::Packed(packed) => packed.as_bytes(),
        };
        kernels::prefetch(&bytes[..bytes.len().min(PREFETCH_BYTES)]);
    }

    /// Offers every code to the pool, at `offset` plus the sum of its table entries plus its term; the first code's place is `from`.
    fn scan(
        &self,
        from: u32,
        offset: f32,
        scratch: &mut Scratch,
        keep: &(dyn Fn(u64) -> bool + Sync),
        pool: &mut Pool,
    ) {
        match &self.codes {
            Codes::Bytes(codes) => {
                let parts = codes.len() / self.ids.len();
                let steps = self.ids.chunks(CODES_A_STEP).zip(codes.chunks(CODES_A_STEP * parts));
                for (step, (ids, codes)) in steps.enumerate() {
                    scan_codes(&scratch.table, codes, parts, &mut scratch.distances);
                    for (i, (&id, &sum)) in ids.iter().zip(&scratch.distances).enumerate() {
                        let slot = step * CODES_A_STEP + i;
                        let distance = offset + (sum + self.terms.get(slot).copied().unwrap_or(0.0));
                        if distance <= pool.limit() && keep(id) {
                            pool.push(distance, from + slot as u32);
                        }
                    }
                }
            }
            Codes::Packed(codes) => {
                let terms = (!self.terms.is_empty()).then_some(&self.terms[..]);
                fastscan::scan(&scratch.bytes, codes, terms, pool.limit() - offset, |slot, distance| {
                    let (id, distance) = (self.ids[slot], offset + distance);
                    if distance <= pool.limit() && keep(id) {
                        pool.push(distance, from + slot as u32);
                    }
                    pool.limit() - offset
                });
            }
        }
    }
}

impl Vectors {
    /// The last row moves into row `row`.
    fn swap_remove(&mut self, row: usize, dim: usize) {
        self.ids.swap_remove(row);
        let last = self.ids.len() * dim;
        self.values.copy_within(last.., row * dim);
        self.values.resize(last, 0.0);
    }
}

impl Rotation {
    fn new(matrix: Matrix, centres: &Matrix) -> Self {
        let packed = PackedMatrix::new(&matrix);
        let mut rotated = Matrix::zeros(centres.rows(), centres.dim());
        packed.product(centres.as_slice(), rotated.as_mut_slice(), Epilogue::None);
        Self { matrix, packed, centres: rotated }
    }

    fn product(&self, rows: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; rows.len()];
        self.packed.product(rows, &mut out, Epilogue::None);
        out
    }

    fn apply(&self, rows: &[f32], dim: usize) -> Result<Matrix, AnnError> {
        Ok(Matrix::from_vec(rows.len() / dim.max(1), dim, self.product(rows))?)
    }
}

fn subtract_centres(rows: &mut Matrix, cells: &[usize], centroids: &Matrix) {
    for (i, &cell) in cells.iter().enumerate() {
        for (x, c) in rows.row_mut(i).iter_mut().zip(centroids.row(cell)) {
            *x -= c;
        }
    }
}

impl VectorIndex for IvfPq {
    fn dim(&self) -> usize {
        self.dim
    }

    fn metric(&self) -> Metric {
        self.metric
    }

    fn len(&self) -> usize {
        self.place.len()
    }

    fn contains(&self, id: u64) -> bool {
        self.place.contains_key(&id)
    }

    fn add(&mut self, ids: &[u64], vectors: &Matrix) -> Result<(), AnnError> {
        check_rows(self.dim, ids, vectors)?;
        check_new_ids(ids, |id| self.contains(id))?;
        if ids.is_empty() {
            return Ok(());
        }
        let stored = self.metric.stored(vectors.clone());
        let cells = self.centres.assign(&stored);
        let mut residuals = stored.clone();
        if self.config.by_residual {
            subtract_centres(&mut residuals, &cells, self.centres.centroids());
        }
        if let Some(rotation) = &self.rotation {
            residuals = rotation.apply(residuals.as_slice(), self.dim)?;
        }
        let codes = self.pq.encode_all(&residuals)?;
        for (i, code) in codes.chunks_exact(self.config.subspaces).enumerate() {
            let term = self.term(cells[i], code)?;
            let list = &mut self.lists[cells[i]];
            list.terms.extend(term);
            self.place.insert(ids[i], (cells[i] as u32, list.ids.len() as u32));
            list.ids.push(ids[i]);
            match &mut list.codes {
                Codes::Bytes(bytes) => bytes.extend_from_slice(code),
                Codes::Packed(packed) => packed.push(code),
            }
            if let Some(vectors) = &mut self.vectors {
                list.rows.push(vectors.ids.len() as u32);
                vectors.ids.push(ids[i]);
                vectors.values.extend_from_slice(stored.row(i));
            }
        }
        Ok(())
    }

    /// The last code of the list moves into the gap.
    fn remove(&mut self, ids: &[u64]) -> Result<usize, AnnError> {
        let before = self.place.len();
        for id in ids {
            let Some((number, slot)) = self.place.remove(id) else {
                continue;
            };
            let (list, slot) = (&mut self.lists[number as usize], slot as usize);
            list.ids.swap_remove(slot);
            let last = list.ids.len();
            match &mut list.codes {
                Codes::Bytes(bytes) => swap_remove_row(bytes, slot, last, self.config.subspaces),
                Codes::Packed(packed) => packed.swap_remove(slot),
            }
            if !list.terms.is_empty() {
                list.terms.swap_remove(slot);
            }
            let row = (!list.rows.is_empty()).then(|| list.rows.swap_remove(slot));
            if let Some(&moved) = list.ids.get(slot) {
                self.place.insert(moved, (number, slot as u32));
            }
            if let (Some(row), Some(vectors)) = (row, &mut self.vectors) {
                vectors.swap_remove(row as usize, self.dim);
                let moved = vectors.ids.get(row as usize).and_then(|id| self.place.get(id));
                if let Some(&(list, slot)) = moved {
                    self.lists[list as usize].rows[slot as usize] = row;
                }
            }
        }
        Ok(before - self.place.len())
    }

    fn search_where(&self, query: &[f32], k: usize, keep: &(dyn Fn(u64) -> bool + Sync)) -> Result<Vec<Hit>, AnnError> {
        let query = prepare_query(self.metric, self.dim, query)?;
        let (least, most) = (self.config.ivf.nprobe, self.lists.len());
        let mut found = self.scan_block(query.as_slice(), k, least, most, keep, &mut Scratch::default());
        Ok(found.pop().unwrap_or_default().0)
    }

    fn search_batch(&self, queries: &Matrix, k: usize) -> Result<Vec<Vec<Hit>>, AnnError> {
        check_queries(self.dim, queries)?;
        let queries = self.metric.stored(queries.clone());
        let (least, most) = (self.config.ivf.nprobe, self.lists.len());
        Ok(queries
            .as_slice()
            .par_chunks(QUERIES_A_TASK * self.dim)
            .map_init(Scratch::default, |scratch, rows| self.scan_block(rows, k, least, most, &|_| true, scratch))
            .flatten_iter()
            .map(|(hits, _)| hits)
            .collect())
    }

    fn save(&self, path: &Path) -> Result<(), AnnError> {
        let mut out = Writer::default();
        out.u8(self.metric.code());
        write_config(&mut out, &self.config.ivf);
        out.u32(self.config.subspaces as u32);
        out.u8(self.config.bits as u8);
        out.u8(u8::from(self.config.by_residual));
        out.u64(self.config.rerank as u64);
        out.u64(self.config.iterations as u64);
        out.u64(self.config.opq_iterations as u64);
        write_matrix(&mut out, self.centres.centroids());
        out.u8(u8::from(self.rotation.is_some()));
        if let Some(rotation) = &self.rotation {
            write_matrix(&mut out, &rotation.matrix);
        }
        for codebook in self.pq.codebooks() {
            write_matrix(&mut out, codebook);
        }
        out.u8(u8::from(self.vectors.is_some()));
        out.f32s(&[self.errors.deviation, self.errors.bias]);
        for list in &self.lists {
            out.u64(list.ids.len() as u64);
            out.u64s(&list.ids);
            match &list.codes {
                Codes::Bytes(bytes) => out.bytes(bytes),
                Codes::Packed(packed) => out.bytes(packed.as_bytes()),
            }
            if let Some(vectors) = &self.vectors {
                for &row in &list.rows {
                    out.f32s(&vectors.values[row as usize * self.dim..(row as usize + 1) * self.dim]);
                }
            }
        }
        out.finish(path, KIND)
    }

    fn load(path: &Path) -> Result<Self, AnnError> {
        let mut file = Reader::open(path, KIND)?;
        let metric = Metric::from_code(file.u8()?).ok_or_else(|| file.corrupt("unknown metric"))?;
        let config = IvfPqConfig {
            ivf: read_config(&mut file)?,
            subspaces: file.u32()? as usize,
            bits: usize::from(file.u8()?),
            by_residual: file.u8()? != 0,
            rerank: file.u64()? as usize,
            iterations: file.u64()? as usize,
            opq_iterations: file.u64()? as usize,
        };
        let centroids = read_matrix(&mut file)?;
        let dim = centroids.dim();
        if centroids.rows() != config.ivf.lists || dim == 0 {
            return Err(file.corrupt("the centres don't fit the number of lists"));
        }
        if let Err(error) = config.check(dim) {
            return Err(file.corrupt(&error.to_string()));
        }
        let mut rotation = None;
        if file.u8()? != 0 {
            let matrix = read_matrix(&mut file)?;
            if (matrix.rows(), matrix.dim()) != (dim, dim) {
                return Err(file.corrupt("the rotation has another dimension than the centres"));
            }
            rotation = Some(Rotation::new(matrix, &centroids));
        }
        let mut codebooks = Vec::new();
        for _ in 0..config.subspaces {
            let codebook = read_matrix(&mut file)?;
            if (codebook.rows(), codebook.dim() * config.subspaces) != (1 << config.bits, dim) {
                return Err(file.corrupt("a codebook has another shape than the settings say"));
            }
            codebooks.push(codebook);
        }
        let keeps_vectors = file.u8()? != 0;
        let mut vectors = keeps_vectors.then(Vectors::default);
        let errors = file.f32s(2)?;
        let errors = Errors { deviation: errors[0], bias: errors[1] };
        if !(errors.deviation.is_finite() && errors.bias.is_finite()) || errors.deviation.min(errors.bias) < 0.0 {
            return Err(file.corrupt("the errors of codes are no lengths"));
        }
        if config.rerank > 0 && !keeps_vectors {
            return Err(file.corrupt("no vectors to re-rank by"));
        }
        let mut lists = Vec::new();
        for _ in 0..config.ivf.lists {
            let len = file.u64()? as usize;
            let ids = file.u64s(len)?;
            let parts = config.subspaces;
            let codes = if config.bits == 4 {
                let bytes = file.bytes(len.div_ceil(fastscan::BLOCK).saturating_mul(16 * parts))?;
                let packed = PackedCodes::from_bytes(parts, len, bytes);
                Codes::Packed(packed.ok_or_else(|| file.corrupt("codes and ids differ in number"))?)
            } else {
                Codes::Bytes(file.bytes(len.saturating_mul(parts))?)
            };
            let mut rows = Vec::new();
            if let Some(vectors) = &mut vectors {
                let values = file.f32s(len.saturating_mul(dim))?;
                rows.extend((vectors.ids.len() as u32..).take(len));
                vectors.values.extend_from_slice(&values);
                vectors.ids.extend_from_slice(&ids);
            }
            lists.push(List { ids, codes, terms: Vec::new(), rows });
        }
        let place =
            places(lists.iter().map(|list| list.ids.as_slice())).ok_or_else(|| file.corrupt("an id stands twice"))?;
        file.finish()?;
        let (centres, pq) = (Centres::new(centroids, config.ivf.spherical), Pq::from_codebooks(codebooks)?);
        let mut index = Self::from_parts(metric, config, centres, rotation, pq, errors, vectors, lists, place);
        if index.expansion.is_some() {
            // Not in the file: a term that disagrees with its code can't be read.
            let of_list = |(number, list): (usize, &List)| {
                let codes =
                    (0..list.ids.len()).map(|slot| index.term(number, &list.code(slot, index.config.subspaces)));
                Ok(codes.collect::<Result<Vec<_>, AnnError>>()?.into_iter().flatten().collect())
            };
            let terms: Vec<Vec<f32>> = index
                .lists
                .par_iter()
                .enumerate()
                .map(|(i, list)| of_list((i, list)))
                .collect::<Result<_, AnnError>>()?;
            for (list, terms) in index.lists.iter_mut().zip(terms) {
                list.terms = terms;
            }
        }
        Ok(index)
    }
}

/// Moves row `last` into row `slot` and cuts it off.
fn swap_remove_row<T: Copy>(values: &mut Vec<T>, slot: usize, last: usize, width: usize) {
    values.copy_within(last * width..(last + 1) * width, slot * width);
    values.truncate(last * width);
}
