//! [`IvfPq`]: inverted lists of product codes (Jégou, Douze and Schmid, "Product quantization for nearest neighbor search", IEEE TPAMI
//! 2011).
//!
//! 1. A coarse quantizer cuts the space into cells, as in [`crate::IvfIndex`].
//! 2. What is left of a vector when the centre of its cell is subtracted, its *residual*, is coded by a product quantizer: one of
//!    `2^bits` centroids for each of `subspaces` parts. Residuals of all cells look alike and are smaller than the vectors, so one set of
//!    codebooks spends its bits well.
//! 3. A search scans the lists of the `nprobe` nearest cells. The distance to a code is the sum of one table entry a part
//!    (*asymmetric distance computation*: the query itself isn't quantized).
//! 4. With `rerank` the best codes are compared with the query once more, by their full vectors.
//!
//! With 4 bits the tables fit into vector registers, and a list is scanned 32 codes at a time ([`eas_tensor::fastscan`]). With
//! `opq_iterations` the residuals are rotated first so that the parts share the variance (Ge, He, Ke and Sun, "Optimized product
//! quantization", IEEE TPAMI 2014).

use std::collections::HashMap;
use std::path::Path;

use eas_tensor::Matrix;
use eas_tensor::buffer::Buffer;
use eas_tensor::fastscan::{self, ByteTable, PackedCodes};
use eas_tensor::gemm::{Epilogue, PackedMatrix};
use eas_tensor::kernels;
use eas_tensor::kmeans::Centres;
use eas_tensor::quant::{Codec, Pq, PqConfig, opq_rotation, scan_codes};
use rayon::prelude::*;

use crate::AnnError;
use crate::file::{Reader, Writer};
use crate::index::{
    Candidate, Hit, Metric, Pool, SearchStats, VectorIndex, check_new_ids, check_queries, check_rows, prepare_query,
};
use crate::ivf::{IvfConfig, Ranking, read_config, read_matrix, write_config, write_matrix};
use crate::lists::places;

const KIND: [u8; 4] = *b"IVPQ";
/// Queries whose products with all centres one task holds at once.
const QUERIES_A_TASK: usize = 32;
/// Distances to codes that are computed before they are compared with the worst candidate.
const CODES_A_STEP: usize = 256;
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
    /// Candidates compared by their full vectors; 0 ranks by codes alone and keeps no vectors.
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

/// Id, list and slot of a code; equal distances are ordered by id.
type Place = (u64, u32, u32);

/// Inverted lists of product codes.
///
/// [`VectorIndex::search`] scans `nprobe` lists, and further ones while it has fewer than `k` candidates; [`Self::search_counted`]
/// stops after `nprobe`. Scores are those of the codes, or exact ones with re-ranking.
#[derive(Debug, Clone)]
pub struct IvfPq {
    metric: Metric,
    dim: usize,
    config: IvfPqConfig,
    centres: Centres,
    rotation: Option<Rotation>,
    pq: Pq,
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
        Ok(Self {
            metric,
            dim,
            config,
            lists: vec![List::new(&config); config.ivf.lists],
            centres,
            rotation,
            pq,
            vectors: (config.rerank > 0).then(Vectors::default),
            place: HashMap::new(),
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
        let mut found = self.scan_block(query.as_slice(), k, nprobe, nprobe, keep);
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
    ) -> Vec<(Vec<Hit>, SearchStats)> {
        let scores = self.centres.scores(queries);
        let rotated = self.rotation.as_ref().map(|rotation| rotation.product(queries));
        let mut scratch = Scratch::default();
        queries
            .chunks_exact(self.dim)
            .zip(rotated.as_deref().unwrap_or(queries).chunks_exact(self.dim))
            .zip(scores.chunks_exact(self.lists.len()))
            .map(|((plain, rotated), scores)| {
                let query = Query { plain, rotated, scores };
                self.scan(&query, k, least, most, keep, &mut scratch)
            })
            .collect()
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
        let mut pool = Pool::new(wanted);
        let code_bytes = (self.config.subspaces * self.config.bits / 8) as u64;
        // Products with residuals are the same for every list; squared distances aren't.
        let table_a_list = self.metric == Metric::SquaredL2 && self.config.by_residual;
        if !table_a_list {
            self.fill_table(query.rotated, scratch);
        }
        let mut ranking = Ranking::new(query.scores);
        for (nth, number) in ranking.by_ref(least, most).enumerate() {
            if nth >= least && pool.len() >= k {
                break;
            }
            let list = &self.lists[number];
            stats.lists_probed += 1;
            stats.codes_scanned += list.ids.len() as u64;
            stats.bytes_read += list.ids.len() as u64 * code_bytes;
            if list.ids.is_empty() {
                continue;
            }
            let mut offset = 0.0;
            if table_a_list {
                scratch.residual.clear();
                let centre = self.rotated_centre(number);
                scratch.residual.extend(query.rotated.iter().zip(centre).map(|(q, c)| q - c));
                let residual = std::mem::take(&mut scratch.residual);
                self.fill_table(&residual, scratch);
                scratch.residual = residual;
            } else if self.config.by_residual {
                offset = -kernels::dot(query.plain, self.centres.centroids().row(number));
            }
            list.scan(number as u32, offset, scratch, keep, &mut pool);
        }
        let found = pool.into_vec();
        let mut best: Vec<(u64, f32)> = Vec::with_capacity(found.len());
        if let Some(vectors) = self.vectors.as_ref().filter(|_| self.config.rerank > 0) {
            stats.full_distances(found.len(), self.dim);
            let row = |candidate: &Candidate<Place>| {
                let (_, list, slot) = candidate.id;
                let row = self.lists[list as usize].rows[slot as usize] as usize;
                &vectors.values[row * self.dim..(row + 1) * self.dim]
            };
            let rows: Vec<&[f32]> = found.iter().map(row).collect();
            // Some rows ahead are always on their way to the cache.
            for row in rows.iter().take(PREFETCH) {
                kernels::prefetch(row);
            }
            for (i, (row, candidate)) in rows.iter().zip(&found).enumerate() {
                if let Some(ahead) = rows.get(i + PREFETCH) {
                    kernels::prefetch(ahead);
                }
                best.push((candidate.id.0, self.metric.distance(query.plain, row)));
            }
        } else if self.config.bits == 4 {
            best.extend(found.iter().map(|candidate| {
                let (id, list, slot) = candidate.id;
                (id, self.metric.distance(query.rotated, &self.decode_rotated(list, slot)))
            }));
        } else {
            best.extend(found.iter().map(|candidate| (candidate.id.0, candidate.distance)));
        }
        best.sort_unstable_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
        best.truncate(k);
        let hit = |(id, distance)| Hit { id, score: self.metric.score(distance) };
        (best.into_iter().map(hit).collect(), stats)
    }

    /// The table of `vector` (a query or its residual): what each centroid adds to the distance.
    fn fill_table(&self, vector: &[f32], scratch: &mut Scratch) {
        match self.metric {
            Metric::SquaredL2 => self.pq.fill_distances(vector, &mut scratch.table),
            Metric::Dot | Metric::Cosine => {
                self.pq.fill_products(vector, &mut scratch.table);
                scratch.table.iter_mut().for_each(|x| *x = -*x);
            }
        }
        if self.config.bits == 4 {
            scratch.bytes.fill(&scratch.table);
        }
    }
}

/// Buffers of a scan that are used again for the next list and query.
#[derive(Default)]
struct Scratch {
    table: Vec<f32>,
    bytes: ByteTable,
    residual: Vec<f32>,
    distances: Vec<f32>,
}

impl List {
    fn new(config: &IvfPqConfig) -> Self {
        Self {
            ids: Vec::new(),
            codes: match config.bits {
                4 => Codes::Packed(PackedCodes::new(config.subspaces)),
                _ => Codes::Bytes(Vec::new()),
            },
            rows: Vec::new(),
        }
    }

    fn code(&self, slot: usize, parts: usize) -> Vec<u8> {
        match &self.codes {
            Codes::Bytes(bytes) => bytes[slot * parts..(slot + 1) * parts].to_vec(),
            Codes::Packed(packed) => packed.get(slot),
        }
    }

    /// Offers every code to the pool, at `offset` plus the sum of its table entries.
    fn scan(
        &self,
        number: u32,
        offset: f32,
        scratch: &mut Scratch,
        keep: &(dyn Fn(u64) -> bool + Sync),
        pool: &mut Pool<Place>,
    ) {
        match &self.codes {
            Codes::Bytes(codes) => {
                let parts = codes.len() / self.ids.len();
                let steps = self.ids.chunks(CODES_A_STEP).zip(codes.chunks(CODES_A_STEP * parts));
                for (step, (ids, codes)) in steps.enumerate() {
                    scan_codes(&scratch.table, codes, parts, &mut scratch.distances);
                    for (i, (&id, &sum)) in ids.iter().zip(&scratch.distances).enumerate() {
                        let distance = offset + sum;
                        if distance <= pool.limit() && keep(id) {
                            let slot = (step * CODES_A_STEP + i) as u32;
                            pool.push(Candidate { distance, id: (id, number, slot) });
                        }
                    }
                }
            }
            Codes::Packed(codes) => {
                let bytes = &scratch.bytes;
                let Some(limit) = bytes.limit(pool.limit() - offset) else {
                    return;
                };
                let mut worst = pool.limit();
                let mut now = limit;
                fastscan::scan(bytes, codes, limit, |slot, sum| {
                    let (id, distance) = (self.ids[slot], offset + bytes.distance(sum));
                    if distance <= worst && keep(id) {
                        pool.push(Candidate { distance, id: (id, number, slot as u32) });
                        if pool.limit() < worst {
                            worst = pool.limit();
                            now = bytes.limit(worst - offset).unwrap_or(0);
                        }
                    }
                    now
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
            let list = &mut self.lists[cells[i]];
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
        let mut found = self.scan_block(query.as_slice(), k, least, most, keep);
        Ok(found.pop().unwrap_or_default().0)
    }

    fn search_batch(&self, queries: &Matrix, k: usize) -> Result<Vec<Vec<Hit>>, AnnError> {
        check_queries(self.dim, queries)?;
        let queries = self.metric.stored(queries.clone());
        let (least, most) = (self.config.ivf.nprobe, self.lists.len());
        Ok(queries
            .as_slice()
            .par_chunks(QUERIES_A_TASK * self.dim)
            .flat_map_iter(|rows| self.scan_block(rows, k, least, most, &|_| true))
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
            lists.push(List { ids, codes, rows });
        }
        let place =
            places(lists.iter().map(|list| list.ids.as_slice())).ok_or_else(|| file.corrupt("an id stands twice"))?;
        file.finish()?;
        Ok(Self {
            metric,
            dim,
            config,
            centres: Centres::new(centroids, config.ivf.spherical),
            rotation,
            pq: Pq::from_codebooks(codebooks)?,
            vectors,
            lists,
            place,
        })
    }
}

/// Moves row `last` into row `slot` and cuts it off.
fn swap_remove_row<T: Copy>(values: &mut Vec<T>, slot: usize, last: usize, width: usize) {
    values.copy_within(last * width..(last + 1) * width, slot * width);
    values.truncate(last * width);
}
