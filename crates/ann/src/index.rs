//! The [`VectorIndex`] trait, and what every index shares: metrics, hits, checks of the input.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::path::Path;

use eas_tensor::{Matrix, kernels};
use rayon::prelude::*;

use crate::AnnError;

/// How two vectors are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Metric {
    /// Inner product; higher is better.
    Dot,
    /// Cosine of the angle, in [-1, 1]; higher is better. Indexes keep unit copies of the vectors. A zero vector has
    /// cosine 0 with everything.
    Cosine,
    /// Squared Euclidean distance; lower is better.
    SquaredL2,
}

impl Metric {
    /// Orders hits best first: by score in the metric's direction, equal scores by lower id.
    pub fn best_first(self, a: &Hit, b: &Hit) -> Ordering {
        let by_score = match self {
            Self::Dot | Self::Cosine => b.score.total_cmp(&a.score),
            Self::SquaredL2 => a.score.total_cmp(&b.score),
        };
        by_score.then(a.id.cmp(&b.id))
    }

    /// The number that indexes minimise: the negated product, or the squared distance. Rows are as [`Self::stored`]
    /// leaves them.
    pub(crate) fn distance(self, a: &[f32], b: &[f32]) -> f32 {
        match self {
            Self::Dot | Self::Cosine => -kernels::dot(a, b),
            Self::SquaredL2 => kernels::squared_l2(a, b),
        }
    }

    /// The score a caller sees for a [`Self::distance`].
    pub(crate) fn score(self, distance: f32) -> f32 {
        match self {
            // 0.0 - x rather than -x, so that a product of zero is 0 and never -0.
            Self::Dot | Self::Cosine => 0.0 - distance,
            Self::SquaredL2 => distance,
        }
    }

    /// The form in which vectors are kept and queries compared: unit length for cosine, unchanged otherwise.
    pub(crate) fn stored(self, mut vectors: Matrix) -> Matrix {
        if self == Self::Cosine {
            vectors.normalize_rows();
        }
        vectors
    }

    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Dot => 0,
            Self::Cosine => 1,
            Self::SquaredL2 => 2,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        [Self::Dot, Self::Cosine, Self::SquaredL2].into_iter().find(|metric| metric.code() == code)
    }
}

/// One result of a search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// The id under which the vector was added.
    pub id: u64,
    /// Product or cosine (higher is better), or squared distance (lower is better), by the index's [`Metric`].
    pub score: f32,
}

/// What a search (or a batch of searches, added up) cost, whatever the index.
///
/// Times depend on the machine; these counts don't, so that indexes can be compared by claims.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SearchStats {
    /// Distances (or products) of full vectors computed: stored vectors, centroids and nodes of a graph alike.
    pub distance_evaluations: u64,
    /// Approximate distances read off compressed codes.
    pub codes_scanned: u64,
    /// Inverted lists, leaves, hash buckets or shards opened.
    pub lists_probed: u64,
    /// Coordinates multiplied: `dim` a full distance, fewer where a bound ended one early.
    pub values_read: u64,
    /// Bytes of vectors, codes, centroids and links read.
    pub bytes_read: u64,
}

impl std::ops::AddAssign for SearchStats {
    fn add_assign(&mut self, other: Self) {
        self.distance_evaluations += other.distance_evaluations;
        self.codes_scanned += other.codes_scanned;
        self.lists_probed += other.lists_probed;
        self.values_read += other.values_read;
        self.bytes_read += other.bytes_read;
    }
}

impl std::iter::Sum for SearchStats {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |mut sum, one| {
            sum += one;
            sum
        })
    }
}

impl SearchStats {
    /// Counts `count` distances of full f32 vectors of dimension `dim`.
    pub(crate) fn full_distances(&mut self, count: usize, dim: usize) {
        self.distance_evaluations += count as u64;
        self.values_read += (count * dim) as u64;
        self.bytes_read += (4 * count * dim) as u64;
    }
}

/// Mean share of the exact hits that an approximate search found: recall@k, when `exact[i]` are the true `k` nearest to
/// query `i` and `found[i]` what the search returned. Queries without exact hits don't count; 1 when there is no other.
pub fn recall(found: &[Vec<Hit>], exact: &[Vec<Hit>]) -> f64 {
    let (mut hits, mut shares) = (0.0, 0usize);
    for (found, exact) in found.iter().zip(exact).filter(|(_, exact)| !exact.is_empty()) {
        let common = exact.iter().filter(|e| found.iter().any(|f| f.id == e.id)).count();
        hits += common as f64 / exact.len() as f64;
        shares += 1;
    }
    if shares == 0 { 1.0 } else { hits / shares as f64 }
}

/// A collection of vectors of one dimension under u64 ids of the caller's choice, searched by nearness.
///
/// Results come best first and equal scores by lower id. `k = 0` and an empty index give no hits; a `k` above the
/// number of (matching) vectors gives them all. A call that fails changes nothing.
pub trait VectorIndex: Send + Sync {
    /// Dimension of every vector.
    fn dim(&self) -> usize;

    /// The metric, which decides in what direction [`Hit::score`] is read.
    fn metric(&self) -> Metric;

    /// Number of vectors that a search can find.
    fn len(&self) -> usize;

    /// True when there is nothing to find.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True when `id` can be found.
    fn contains(&self, id: u64) -> bool;

    /// Adds row `i` of `vectors`, shape `(ids.len(), dim)`, under `ids[i]`. Refuses an id that is present or that
    /// stands twice in `ids`, a wrong dimension, and values that aren't finite.
    fn add(&mut self, ids: &[u64], vectors: &Matrix) -> Result<(), AnnError>;

    /// Removes the ids and returns how many of them were present.
    fn remove(&mut self, ids: &[u64]) -> Result<usize, AnnError>;

    /// Adds new ids and replaces the vectors of present ones; when an id stands twice in `ids` the last row wins.
    /// Returns how many present vectors were replaced.
    fn upsert(&mut self, ids: &[u64], vectors: &Matrix) -> Result<usize, AnnError> {
        check_rows(self.dim(), ids, vectors)?;
        let (ids, rows) = last_rows(ids);
        let replaced = self.remove(&ids)?;
        self.add(&ids, &vectors.select(&rows))?;
        Ok(replaced)
    }

    /// The `k` best vectors among those whose id passes `keep`, which is applied inside the search: a selective
    /// filter still gives `k` hits.
    fn search_where(&self, query: &[f32], k: usize, keep: &(dyn Fn(u64) -> bool + Sync)) -> Result<Vec<Hit>, AnnError>;

    /// The `k` vectors nearest to `query`.
    fn search(&self, query: &[f32], k: usize) -> Result<Vec<Hit>, AnnError> {
        self.search_where(query, k, &|_| true)
    }

    /// [`Self::search`] for each row of `queries`, in parallel; results in the order of the rows.
    fn search_batch(&self, queries: &Matrix, k: usize) -> Result<Vec<Vec<Hit>>, AnnError> {
        check_queries(self.dim(), queries)?;
        (0..queries.rows()).into_par_iter().map(|i| self.search(queries.row(i), k)).collect()
    }

    /// Writes the index to `path` with a checksum; the old file is replaced only when the new one is complete.
    fn save(&self, path: &Path) -> Result<(), AnnError>;

    /// Reads an index back. Refuses a truncated or altered file, or one of another kind, and says which.
    fn load(path: &Path) -> Result<Self, AnnError>
    where
        Self: Sized;
}

/// A vector that a search has seen. The order is by distance, equal distances by lower id: the maximum is the worst.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate<Id> {
    pub(crate) distance: f32,
    pub(crate) id: Id,
}

impl<Id: Ord> Ord for Candidate<Id> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.distance.total_cmp(&other.distance).then_with(|| self.id.cmp(&other.id))
    }
}

impl<Id: Ord> PartialOrd for Candidate<Id> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<Id: Ord> PartialEq for Candidate<Id> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<Id: Ord> Eq for Candidate<Id> {}

/// Holds the `k` smallest candidates in a max-heap.
pub(crate) fn keep_best<Id: Ord + Copy>(heap: &mut BinaryHeap<Candidate<Id>>, candidate: Candidate<Id>, k: usize) {
    if heap.len() < k {
        heap.push(candidate);
    } else if let Some(mut worst) = heap.peek_mut()
        && candidate < *worst
    {
        *worst = candidate;
    }
}

/// Bits of a float that order as `f32::total_cmp` does: every bit of a negative one flipped, the sign of another.
#[inline]
pub(crate) fn ordered_bits(value: f32) -> u32 {
    let bits = value.to_bits();
    bits ^ (((bits as i32 >> 31) as u32) | 1 << 31)
}

/// The float of [`ordered_bits`].
#[inline]
pub(crate) fn ordered_value(bits: u32) -> f32 {
    f32::from_bits(if bits >> 31 == 1 { bits ^ 1 << 31 } else { !bits })
}

/// Collects the places of the `wanted` smallest distances: a buffer of twice as many that is cut when it is full. Cheaper than a heap for
/// large `wanted`, and the limit that rules most candidates out is one number. Of equal distances the lower places stay.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    wanted: usize,
    /// Ordered bits of the distance above, place below: a comparison is one of integers.
    keys: Vec<u64>,
    limit: f32,
}

impl Pool {
    /// Empties the pool, for a search for `wanted`.
    pub(crate) fn start(&mut self, wanted: usize) {
        self.wanted = wanted;
        self.keys.clear();
        self.limit = f32::INFINITY;
    }

    /// Candidates farther than this can't be among the best.
    pub(crate) fn limit(&self) -> f32 {
        self.limit
    }

    /// Number of the best so far, at most `wanted`.
    pub(crate) fn len(&self) -> usize {
        self.keys.len().min(self.wanted)
    }

    pub(crate) fn push(&mut self, distance: f32, place: u32) {
        if distance > self.limit || self.wanted == 0 {
            return;
        }
        self.keys.push(u64::from(ordered_bits(distance)) << 32 | u64::from(place));
        if self.keys.len() >= self.wanted.saturating_mul(2).max(32) {
            self.cut();
        }
    }

    fn cut(&mut self) {
        if self.keys.len() > self.wanted {
            let (_, &mut last, _) = self.keys.select_nth_unstable(self.wanted - 1);
            self.limit = ordered_value((last >> 32) as u32);
            self.keys.truncate(self.wanted);
        }
    }

    /// Distances and places of the best, nearest first.
    pub(crate) fn best(&mut self) -> impl Iterator<Item = (f32, u32)> + '_ {
        self.cut();
        self.keys.sort_unstable();
        self.keys.iter().map(|&key| (ordered_value((key >> 32) as u32), key as u32))
    }
}

/// The candidates of a search as hits, best first.
pub(crate) fn sorted_hits(metric: Metric, found: BinaryHeap<Candidate<u64>>) -> Vec<Hit> {
    found
        .into_sorted_vec()
        .into_iter()
        .map(|Candidate { distance, id }| Hit { id, score: metric.score(distance) })
        .collect()
}

pub(crate) fn check_dim(dim: usize) -> Result<(), AnnError> {
    if dim == 0 {
        return Err(AnnError::Parameter { name: "dim", got: "0".into(), expected: "at least 1" });
    }
    Ok(())
}

pub(crate) fn check_queries(dim: usize, queries: &Matrix) -> Result<(), AnnError> {
    if queries.rows() > 0 && queries.dim() != dim {
        return Err(AnnError::Dimension { expected: dim, got: queries.dim() });
    }
    match queries.as_slice().iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(at) => Err(AnnError::NotFinite { row: at / dim, column: at % dim, value: queries.as_slice()[at] }),
    }
}

pub(crate) fn check_rows(dim: usize, ids: &[u64], vectors: &Matrix) -> Result<(), AnnError> {
    if ids.len() != vectors.rows() {
        return Err(AnnError::Ids { ids: ids.len(), rows: vectors.rows() });
    }
    check_queries(dim, vectors)
}

/// Each id once, with the last row it stands in, in the order of these rows.
pub(crate) fn last_rows(ids: &[u64]) -> (Vec<u64>, Vec<usize>) {
    let mut last_row: Vec<(u64, usize)> = ids.iter().copied().zip(0..).collect();
    last_row.sort_unstable_by_key(|&(id, row)| (id, std::cmp::Reverse(row)));
    last_row.dedup_by_key(|&mut (id, _)| id);
    last_row.sort_unstable_by_key(|&(_, row)| row);
    last_row.into_iter().unzip()
}

/// The first id of `ids` that `present` knows or that came before in `ids` is refused.
pub(crate) fn check_new_ids(ids: &[u64], present: impl Fn(u64) -> bool) -> Result<(), AnnError> {
    let mut seen = std::collections::HashSet::with_capacity(ids.len());
    match ids.iter().find(|&&id| present(id) || !seen.insert(id)) {
        Some(&id) => Err(AnnError::DuplicateId(id)),
        None => Ok(()),
    }
}

/// The query in the form that [`Metric::distance`] expects.
pub(crate) fn prepare_query(metric: Metric, dim: usize, query: &[f32]) -> Result<Matrix, AnnError> {
    let query = Matrix::from_vec(1, query.len(), query.to_vec())
        .map_err(|_| AnnError::Dimension { expected: dim, got: query.len() })?;
    check_queries(dim, &query)?;
    Ok(metric.stored(query))
}
