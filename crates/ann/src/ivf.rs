//! [`IvfIndex`]: an inverted file. k-means cuts the space into cells, each cell has a list of its vectors, and a search scans only
//! the lists of the `nprobe` cells whose centres are nearest to the query (Sivic and Zisserman, "Video Google", ICCV 2003; in this
//! form Jégou, Douze and Schmid, IEEE TPAMI 2011).
//!
//! ```
//! use eas_ann::{IvfConfig, IvfIndex, Metric, VectorIndex};
//! use eas_tensor::Matrix;
//!
//! let vectors = Matrix::from_rows(&[[0.0, 0.0], [0.1, 0.0], [5.0, 5.0], [5.1, 5.0]])?;
//! let config = IvfConfig { lists: 2, nprobe: 1, ..IvfConfig::default() };
//! let mut index = IvfIndex::train(&vectors, Metric::SquaredL2, config)?;
//! index.add(&[1, 2, 3, 4], &vectors)?;
//! assert_eq!(index.search(&[5.2, 5.0], 2)?[0].id, 4);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::BinaryHeap;
use std::path::Path;

use eas_tensor::Matrix;
use eas_tensor::kmeans::{Centres, Init, KMeans};
use eas_tensor::rng::SplitMix64;
use rayon::prelude::*;

use crate::AnnError;
use crate::file::{Reader, Writer};
use crate::index::{
    Hit, Metric, SearchStats, VectorIndex, check_new_ids, check_queries, check_rows, ordered_bits, prepare_query,
    sorted_hits,
};
use crate::lists::VectorLists;

const KIND: [u8; 4] = *b"IVFF";
/// Queries whose products with all centres one task holds at once.
const QUERIES_A_TASK: usize = 32;

/// Settings of an inverted file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IvfConfig {
    /// Number of lists: cells of the space.
    pub lists: usize,
    /// Lists that a search scans unless told otherwise.
    pub nprobe: usize,
    /// Most Lloyd iterations while training.
    pub max_iter: usize,
    /// Training stops when no centre moves farther than this share of the vectors' root mean square length.
    pub tolerance: f64,
    /// Cells by angle: unit-length centres, vectors go to the centre of greatest dot product. For vectors of unit length, which
    /// [`Metric::Cosine`] makes of any.
    pub spherical: bool,
    /// Where the centres start.
    pub init: Init,
    /// Vectors to train on, a random sample when there are more.
    pub sample: usize,
    /// Seed of the sample and of the centres.
    pub seed: u64,
}

impl Default for IvfConfig {
    /// 1,000 lists, 10 probes, at most 50 iterations, tolerance 1e-4, Euclidean, k-means++ on at most 65,536 vectors, seed 42.
    fn default() -> Self {
        Self {
            lists: 1_000,
            nprobe: 10,
            max_iter: 50,
            tolerance: 1e-4,
            spherical: false,
            init: Init::PlusPlus,
            sample: 65_536,
            seed: 42,
        }
    }
}

impl IvfConfig {
    /// The centres of the cells, trained on `sample` in the metric's stored form.
    pub(crate) fn centres(&self, sample: &Matrix) -> Result<Centres, AnnError> {
        if self.nprobe == 0 {
            return Err(AnnError::parameter("nprobe", &0, "at least 1"));
        }
        let limit = self.sample.max(self.lists);
        let drawn = (sample.rows() > limit && self.init != Init::Stride)
            .then(|| sample.select(&SplitMix64::new(self.seed).sample_indices(sample.rows(), limit)));
        let clustering = KMeans {
            max_iter: self.max_iter,
            tolerance: self.tolerance,
            spherical: self.spherical,
            init: self.init,
            seed: self.seed,
            ..KMeans::new(self.lists)
        }
        .fit(drawn.as_ref().unwrap_or(sample))?;
        Ok(Centres::new(clustering.centroids, self.spherical))
    }
}

/// An inverted file over uncompressed vectors.
///
/// [`VectorIndex::search`] scans `nprobe` lists, and further ones in the order of their centres while it has fewer than `k` hits;
/// [`Self::search_counted`] stops after `nprobe`.
#[derive(Debug, Clone)]
pub struct IvfIndex {
    metric: Metric,
    dim: usize,
    config: IvfConfig,
    centres: Centres,
    lists: VectorLists,
}

impl IvfIndex {
    /// An empty index whose cells are those of `sample`, shape `(n, dim)` with `n >= lists`.
    pub fn train(sample: &Matrix, metric: Metric, config: IvfConfig) -> Result<Self, AnnError> {
        let stored = metric.stored(sample.clone());
        let centres = config.centres(&stored)?;
        Ok(Self { metric, dim: sample.dim(), config, lists: VectorLists::new(sample.dim(), config.lists), centres })
    }

    /// The settings.
    pub fn config(&self) -> IvfConfig {
        self.config
    }

    /// Sets how many lists [`VectorIndex::search`] scans.
    pub fn set_nprobe(&mut self, nprobe: usize) -> Result<(), AnnError> {
        if nprobe == 0 {
            return Err(AnnError::parameter("nprobe", &0, "at least 1"));
        }
        self.config.nprobe = nprobe;
        Ok(())
    }

    /// The centres of the cells, shape `(lists, dim)`.
    pub fn centroids(&self) -> &Matrix {
        self.centres.centroids()
    }

    /// Number of vectors in each list.
    pub fn list_lens(&self) -> Vec<usize> {
        self.lists.lens()
    }

    /// `lists * sum(n_i^2) / n^2`: 1 when all lists are equally long, and the factor by which a scan of one list is longer
    /// otherwise when queries fall where the vectors are.
    pub fn imbalance(&self) -> f64 {
        let squares: f64 = self.list_lens().iter().map(|&n| (n as f64).powi(2)).sum();
        self.lists.count() as f64 * squares / (self.len() as f64).powi(2)
    }

    /// Bytes of vectors, ids and centres, without the hash table from id to place.
    pub fn bytes(&self) -> usize {
        self.lists.bytes() + size_of_val(self.centroids().as_slice())
    }

    /// The `k` nearest of the vectors in the `nprobe` nearest lists (default: the index's) whose ids pass `keep`, and what it
    /// cost. May give fewer than `k` when those lists hold fewer.
    pub fn search_counted(
        &self,
        query: &[f32],
        k: usize,
        nprobe: Option<usize>,
        keep: &(dyn Fn(u64) -> bool + Sync),
    ) -> Result<(Vec<Hit>, SearchStats), AnnError> {
        let query = prepare_query(self.metric, self.dim, query)?;
        let scores = self.centres.scores(query.as_slice());
        let nprobe = nprobe.unwrap_or(self.config.nprobe);
        Ok(self.scan(query.row(0), &scores, k, nprobe, nprobe, keep))
    }

    /// Scans lists in the order of their scores: `least` of them, then up to `most` while there are fewer than `k` hits.
    fn scan(
        &self,
        query: &[f32],
        scores: &[f32],
        k: usize,
        least: usize,
        most: usize,
        keep: &(dyn Fn(u64) -> bool + Sync),
    ) -> (Vec<Hit>, SearchStats) {
        let mut stats = SearchStats::default();
        if k == 0 || self.is_empty() {
            return (Vec::new(), stats);
        }
        stats.full_distances(self.lists.count(), self.dim);
        let mut best = BinaryHeap::new();
        let mut ranked = Ranking::new(scores);
        for (nth, list) in ranked.by_ref(least, most).enumerate() {
            if nth >= least && best.len() >= k {
                break;
            }
            self.lists.scan(list, self.metric, query, k, keep, &mut best, &mut stats);
        }
        (sorted_hits(self.metric, best), stats)
    }
}

/// Lists by falling score, equal scores by lower number; sorted only as far as it is asked.
pub(crate) struct Ranking {
    /// Inverted score above, number below: ascending is the order, and a comparison is one of integers.
    keys: Vec<u64>,
}

impl Ranking {
    pub(crate) fn new(scores: &[f32]) -> Self {
        let key = |(list, &score): (u64, &f32)| u64::from(!ordered_bits(score)) << 32 | list;
        Self { keys: (0..).zip(scores).map(key).collect() }
    }

    /// The first `most` lists; those after the first `least` are put in order only when they are reached.
    pub(crate) fn by_ref(&mut self, least: usize, most: usize) -> impl Iterator<Item = usize> + '_ {
        let keys = &mut self.keys;
        let all = keys.len();
        let least = least.min(all);
        if least < all && least > 0 {
            keys.select_nth_unstable(least - 1);
        }
        keys[..least].sort_unstable();
        (0..most.min(all)).map(move |nth| {
            if nth == least {
                keys[least..].sort_unstable();
            }
            keys[nth] as u32 as usize
        })
    }
}

impl VectorIndex for IvfIndex {
    fn dim(&self) -> usize {
        self.dim
    }

    fn metric(&self) -> Metric {
        self.metric
    }

    fn len(&self) -> usize {
        self.lists.len()
    }

    fn contains(&self, id: u64) -> bool {
        self.lists.contains(id)
    }

    fn add(&mut self, ids: &[u64], vectors: &Matrix) -> Result<(), AnnError> {
        check_rows(self.dim, ids, vectors)?;
        check_new_ids(ids, |id| self.contains(id))?;
        let vectors = self.metric.stored(vectors.clone());
        for ((&id, vector), list) in ids.iter().zip(vectors.iter_rows()).zip(self.centres.assign(&vectors)) {
            self.lists.push(list, id, vector);
        }
        Ok(())
    }

    /// The last vector of the list moves into the gap: `O(dim)` an id.
    fn remove(&mut self, ids: &[u64]) -> Result<usize, AnnError> {
        Ok(self.lists.remove(ids))
    }

    fn search_where(&self, query: &[f32], k: usize, keep: &(dyn Fn(u64) -> bool + Sync)) -> Result<Vec<Hit>, AnnError> {
        let query = prepare_query(self.metric, self.dim, query)?;
        let scores = self.centres.scores(query.as_slice());
        let (least, most) = (self.config.nprobe, self.lists.count());
        Ok(self.scan(query.row(0), &scores, k, least, most, keep).0)
    }

    /// The products of the queries with the centres are one matrix product a task.
    fn search_batch(&self, queries: &Matrix, k: usize) -> Result<Vec<Vec<Hit>>, AnnError> {
        check_queries(self.dim, queries)?;
        let queries = self.metric.stored(queries.clone());
        let (least, most) = (self.config.nprobe, self.lists.count());
        let task = |rows: &[f32]| -> Vec<Vec<Hit>> {
            let scores = self.centres.scores(rows);
            let each = rows.chunks_exact(self.dim).zip(scores.chunks_exact(self.lists.count()));
            each.map(|(query, scores)| self.scan(query, scores, k, least, most, &|_| true).0).collect()
        };
        Ok(queries.as_slice().par_chunks(QUERIES_A_TASK * self.dim).flat_map_iter(task).collect())
    }

    fn save(&self, path: &Path) -> Result<(), AnnError> {
        let mut out = Writer::default();
        out.u8(self.metric.code());
        write_config(&mut out, &self.config);
        write_matrix(&mut out, self.centroids());
        self.lists.write(&mut out);
        out.finish(path, KIND)
    }

    fn load(path: &Path) -> Result<Self, AnnError> {
        let mut file = Reader::open(path, KIND)?;
        let metric = Metric::from_code(file.u8()?).ok_or_else(|| file.corrupt("unknown metric"))?;
        let config = read_config(&mut file)?;
        let centroids = read_matrix(&mut file)?;
        if centroids.rows() != config.lists || centroids.dim() == 0 {
            return Err(file.corrupt("the centres don't fit the number of lists"));
        }
        let dim = centroids.dim();
        let lists = VectorLists::read(&mut file, dim, config.lists)?;
        file.finish()?;
        Ok(Self { metric, dim, config, centres: Centres::new(centroids, config.spherical), lists })
    }
}

pub(crate) fn write_matrix(out: &mut Writer, matrix: &Matrix) {
    out.u32(matrix.rows() as u32);
    out.u32(matrix.dim() as u32);
    out.f32s(matrix.as_slice());
}

pub(crate) fn read_matrix(file: &mut Reader) -> Result<Matrix, AnnError> {
    let (rows, dim) = (file.u32()? as usize, file.u32()? as usize);
    let values = file.f32s(rows.saturating_mul(dim))?;
    let matrix = Matrix::from_vec(rows, dim, values)?;
    matrix.check_finite()?;
    Ok(matrix)
}

pub(crate) fn write_config(out: &mut Writer, config: &IvfConfig) {
    for value in [config.lists, config.nprobe, config.max_iter, config.sample] {
        out.u64(value as u64);
    }
    out.u64(config.tolerance.to_bits());
    out.u64(config.seed);
    out.u8(u8::from(config.spherical));
    out.u8(match config.init {
        Init::PlusPlus => 0,
        Init::Random => 1,
        Init::Stride => 2,
    });
}

pub(crate) fn read_config(file: &mut Reader) -> Result<IvfConfig, AnnError> {
    let counts = file.u64s(4)?;
    let tolerance = f64::from_bits(file.u64()?);
    let seed = file.u64()?;
    let spherical = file.u8()? != 0;
    let init = match file.u8()? {
        0 => Init::PlusPlus,
        1 => Init::Random,
        2 => Init::Stride,
        _ => return Err(file.corrupt("unknown start of the centres")),
    };
    if counts[0] == 0 || counts[1] == 0 {
        return Err(file.corrupt("no lists, or none to probe"));
    }
    Ok(IvfConfig {
        lists: counts[0] as usize,
        nprobe: counts[1] as usize,
        max_iter: counts[2] as usize,
        tolerance,
        spherical,
        init,
        sample: counts[3] as usize,
        seed,
    })
}

/// Distance evaluations that a search over `n` vectors in `lists` lists of equal length needs with `nprobe` probes:
/// `lists + n nprobe / lists`.
pub fn ivf_cost(n: f64, lists: f64, nprobe: f64) -> f64 {
    lists + n * nprobe / lists
}

/// The number of lists at which [`ivf_cost`] is least: `sqrt(n nprobe)`.
pub fn ivf_best_lists(n: f64, nprobe: f64) -> f64 {
    (n * nprobe).sqrt()
}
