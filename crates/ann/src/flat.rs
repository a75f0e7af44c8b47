//! [`FlatIndex`]: the exact answer, by comparing the query with every vector.

use std::collections::{BinaryHeap, HashMap};
use std::path::Path;

use eas_tensor::gemm::{Epilogue, PackedMatrix};
use eas_tensor::{Matrix, kernels};
use rayon::prelude::*;

use crate::AnnError;
use crate::file::{Reader, Writer};
use crate::index::{
    Candidate, Hit, Metric, SearchStats, VectorIndex, check_dim, check_new_ids, check_queries, check_rows,
};
use crate::index::{keep_best, prepare_query, sorted_hits};

const KIND: [u8; 4] = *b"FLAT";
/// Queries of a batch that share one pass over the vectors: their packed values stay in the second-level cache.
const QUERIES_A_PASS: usize = 256;
/// Rows of a product with those queries.
const ROWS_A_PRODUCT: usize = 48;
/// Batches smaller than this are scanned query by query.
const LEAST_BATCH: usize = 8;
/// Lengths beyond which products might overflow, so that their rounding can't be bounded.
const LONGEST: f32 = 1e15;
/// Lengths of a query below which products might underflow; and what underflow can add up to in a product with a longer one.
const SHORTEST: f32 = 1e-15;
const UNDERFLOW: f32 = 1e-25;
/// Rows that a tile of queries is compared with before the next rows are fetched from memory.
const ROWS_A_TILE: usize = 128;
/// Queries of a tile: one parallel job.
const QUERIES_A_TILE: usize = 16;

/// An exact index: every search reads all `n * dim` values once. The ground truth that approximate indexes are
/// measured against, and the right choice below some ten thousand vectors.
#[derive(Debug, Clone)]
pub struct FlatIndex {
    metric: Metric,
    dim: usize,
    ids: Vec<u64>,
    values: Vec<f32>,
    /// Length of each row, from which the rounding of a product is bounded.
    norms: Vec<f32>,
    row_of: HashMap<u64, usize>,
}

impl FlatIndex {
    /// An empty index for vectors of `dim >= 1` values.
    pub fn new(dim: usize, metric: Metric) -> Result<Self, AnnError> {
        check_dim(dim)?;
        Ok(Self { metric, dim, ids: Vec::new(), values: Vec::new(), norms: Vec::new(), row_of: HashMap::new() })
    }

    /// The vector kept under `id`: a unit copy for [`Metric::Cosine`].
    pub fn vector(&self, id: u64) -> Option<&[f32]> {
        self.row_of.get(&id).map(|&row| self.row(row))
    }

    /// The ids, in no particular order.
    pub fn ids(&self) -> &[u64] {
        &self.ids
    }

    /// Bytes of vectors and ids, without the hash table from id to row.
    pub fn bytes(&self) -> usize {
        size_of_val(self.values.as_slice()) + size_of_val(self.ids.as_slice())
    }

    /// [`VectorIndex::search_where`], and what it cost: one distance for each vector that passes `keep`.
    pub fn search_counted(
        &self,
        query: &[f32],
        k: usize,
        keep: &(dyn Fn(u64) -> bool + Sync),
    ) -> Result<(Vec<Hit>, SearchStats), AnnError> {
        let hits = self.search_where(query, k, keep)?;
        let mut stats = SearchStats::default();
        if k > 0 {
            stats.full_distances(self.ids.iter().filter(|&&id| keep(id)).count(), self.dim);
        }
        Ok((hits, stats))
    }

    pub(crate) fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.dim..(row + 1) * self.dim]
    }

    fn push(&mut self, id: u64, vector: &[f32]) {
        self.row_of.insert(id, self.ids.len());
        self.ids.push(id);
        self.values.extend_from_slice(vector);
        self.norms.push(kernels::norm(vector));
    }

    /// Appends the index to a file.
    pub(crate) fn write(&self, out: &mut Writer) {
        out.u8(self.metric.code());
        out.u32(self.dim as u32);
        out.u64(self.ids.len() as u64);
        out.u64s(&self.ids);
        out.f32s(&self.values);
    }

    /// Reads what [`Self::write`] wrote.
    pub(crate) fn read(file: &mut Reader) -> Result<Self, AnnError> {
        let metric = Metric::from_code(file.u8()?).ok_or_else(|| file.corrupt("unknown metric"))?;
        let mut index = Self::new(file.u32()? as usize, metric)?;
        let rows = file.u64()? as usize;
        index.ids = file.u64s(rows)?;
        index.values = file.f32s(rows.saturating_mul(index.dim))?;
        index.norms = index.values.chunks_exact(index.dim).map(kernels::norm).collect();
        index.row_of = index.ids.iter().copied().zip(0..).collect();
        if index.row_of.len() != rows {
            return Err(file.corrupt("an id stands twice"));
        }
        Ok(index)
    }

    /// Exact search for many prepared queries by matrix products.
    ///
    /// A blocked product sums in another order than [`Metric::distance`], so it only *screens*: its rounding is bounded (Higham,
    /// "Accuracy and Stability of Numerical Algorithms", section 3.1), every row that could be among the `k` best within that bound is
    /// kept, and those few are compared once more. The result is that of single searches, to the bit.
    fn search_by_products(&self, queries: &[f32], k: usize) -> Vec<Vec<Hit>> {
        let dim = self.dim;
        let count = queries.len() / dim;
        // Larger is better: q.x for unit q, or q.x - |x|^2 / 2, which orders as the distance does.
        let euclidean = self.metric == Metric::SquaredL2;
        let mut scaled = Matrix::zeros(count, dim);
        scaled.as_mut_slice().copy_from_slice(queries);
        if !euclidean {
            scaled.normalize_rows();
        }
        let packed = PackedMatrix::new(&scaled);
        // Error of both sums together, as a share of the product of lengths; four more roundings for what is added to them.
        let unit = 2.0 * (dim + 8) as f32 * f32::EPSILON;
        let mut screens: Vec<Screen> = (0..count).map(|_| Screen::new(k)).collect();
        let mut limits: Vec<f32> = vec![f32::NEG_INFINITY; count];
        let own_slack: Vec<f32> =
            scaled.iter_rows().map(|q| if euclidean { unit * kernels::dot(q, q) } else { 0.0 }).collect();
        let mut scores = vec![0.0f32; ROWS_A_PRODUCT * count];
        let blocks = self.values.chunks(ROWS_A_PRODUCT * dim).zip(self.norms.chunks(ROWS_A_PRODUCT));
        for (nth, (rows, norms)) in blocks.enumerate() {
            let scores = &mut scores[..norms.len() * count];
            packed.product(rows, scores, Epilogue::None);
            for (i, (scores, norm)) in scores.chunks_exact(count).zip(norms).enumerate() {
                let row = nth * ROWS_A_PRODUCT + i;
                let (shift, slack) =
                    if euclidean { (0.5 * norm * norm, unit * norm * norm) } else { (0.0, unit * norm) };
                let slack = slack + UNDERFLOW;
                // Sixteen queries at a time, of which most often none is interested.
                let raise = slack - shift;
                for (from, (scores, limits)) in scores.chunks(16).zip(limits.chunks_mut(16)).enumerate() {
                    // A count and not `any`, which would stop at the first and keep the compiler from comparing many at once.
                    let reached = scores.iter().zip(limits.iter()).map(|(s, limit)| u32::from(s + raise >= *limit));
                    if reached.sum::<u32>() == 0 {
                        continue;
                    }
                    for (j, (score, limit)) in scores.iter().zip(limits).enumerate() {
                        if score + raise >= *limit {
                            let query = from * 16 + j;
                            let (score, slack) = (score - shift, slack + own_slack[query]);
                            *limit = screens[query].push(row as u32, score + slack, score - slack) - own_slack[query];
                        }
                    }
                }
            }
        }
        screens
            .into_iter()
            .zip(queries.chunks_exact(dim))
            .map(|(screen, query)| {
                let exact = screen.into_rows().map(|row| Candidate {
                    distance: self.metric.distance(query, self.row(row as usize)),
                    id: self.ids[row as usize],
                });
                let mut best = BinaryHeap::new();
                exact.for_each(|candidate| keep_best(&mut best, candidate, k));
                sorted_hits(self.metric, best)
            })
            .collect()
    }

    /// Exact search for a tile of prepared queries: rows outside, queries inside, so that a row is read once a tile.
    fn scan(&self, queries: &[&[f32]], k: usize, keep: &(dyn Fn(u64) -> bool + Sync)) -> Vec<Vec<Hit>> {
        let mut best: Vec<BinaryHeap<Candidate<u64>>> = vec![BinaryHeap::new(); queries.len()];
        if k > 0 {
            for (ids, rows) in self.ids.chunks(ROWS_A_TILE).zip(self.values.chunks(ROWS_A_TILE * self.dim)) {
                for (query, heap) in queries.iter().zip(&mut best) {
                    for (&id, row) in ids.iter().zip(rows.chunks_exact(self.dim)) {
                        if keep(id) {
                            let candidate = Candidate { distance: self.metric.distance(query, row), id };
                            keep_best(heap, candidate, k);
                        }
                    }
                }
            }
        }
        best.into_iter().map(|heap| sorted_hits(self.metric, heap)).collect()
    }
}

/// The rows that may be among the `k` best when each score is only known to lie between two bounds.
struct Screen {
    k: usize,
    /// Row, upper and lower bound of its score.
    items: Vec<(u32, f32, f32)>,
    /// The `k`-th greatest lower bound so far: what a row must be able to reach.
    limit: f32,
    capacity: usize,
}

impl Screen {
    fn new(k: usize) -> Self {
        Self { k, items: Vec::new(), limit: f32::NEG_INFINITY, capacity: k.saturating_mul(2).max(32) }
    }

    /// Takes a row and returns the limit from then on.
    fn push(&mut self, row: u32, upper: f32, lower: f32) -> f32 {
        if upper >= self.limit {
            self.items.push((row, upper, lower));
            if self.items.len() >= self.capacity {
                self.cut();
                // Many rows within each other's rounding stay; leave room before the next cut.
                self.capacity = self.capacity.max(2 * self.items.len());
            }
        }
        self.limit
    }

    fn cut(&mut self) {
        if self.items.len() > self.k {
            let by_lower = |a: &(u32, f32, f32), b: &(u32, f32, f32)| b.2.total_cmp(&a.2);
            let (_, last, _) = self.items.select_nth_unstable_by(self.k - 1, by_lower);
            let limit = last.2;
            self.items.retain(|item| item.1 >= limit);
            self.limit = limit;
        }
    }

    fn into_rows(mut self) -> impl Iterator<Item = u32> {
        self.cut();
        self.items.into_iter().map(|item| item.0)
    }
}

impl VectorIndex for FlatIndex {
    fn dim(&self) -> usize {
        self.dim
    }

    fn metric(&self) -> Metric {
        self.metric
    }

    fn len(&self) -> usize {
        self.ids.len()
    }

    fn contains(&self, id: u64) -> bool {
        self.row_of.contains_key(&id)
    }

    fn add(&mut self, ids: &[u64], vectors: &Matrix) -> Result<(), AnnError> {
        check_rows(self.dim, ids, vectors)?;
        check_new_ids(ids, |id| self.contains(id))?;
        let vectors = self.metric.stored(vectors.clone());
        for (&id, vector) in ids.iter().zip(vectors.iter_rows()) {
            self.push(id, vector);
        }
        Ok(())
    }

    /// The last row moves into the gap: `O(dim)` an id.
    fn remove(&mut self, ids: &[u64]) -> Result<usize, AnnError> {
        let before = self.ids.len();
        for id in ids {
            let Some(row) = self.row_of.remove(id) else { continue };
            let last = self.ids.len() - 1;
            self.ids.swap_remove(row);
            self.norms.swap_remove(row);
            self.values.copy_within(last * self.dim.., row * self.dim);
            self.values.truncate(last * self.dim);
            if row < last {
                self.row_of.insert(self.ids[row], row);
            }
        }
        Ok(before - self.ids.len())
    }

    fn search_where(&self, query: &[f32], k: usize, keep: &(dyn Fn(u64) -> bool + Sync)) -> Result<Vec<Hit>, AnnError> {
        let query = prepare_query(self.metric, self.dim, query)?;
        Ok(self.scan(&[query.row(0)], k, keep).swap_remove(0))
    }

    fn search_batch(&self, queries: &Matrix, k: usize) -> Result<Vec<Vec<Hit>>, AnnError> {
        check_queries(self.dim, queries)?;
        let queries = self.metric.stored(queries.clone());
        let usable = |query: &[f32]| {
            let norm = kernels::norm(query);
            norm == 0.0 || (SHORTEST..LONGEST).contains(&norm)
        };
        let bounded = self.norms.iter().all(|&norm| norm < LONGEST) && queries.iter_rows().all(usable);
        if k > 0 && bounded && queries.rows() >= LEAST_BATCH {
            // As many passes as threads before they get narrower than a pass can be.
            let even = queries.rows().div_ceil(rayon::current_num_threads()).next_multiple_of(16);
            return Ok(queries
                .as_slice()
                .par_chunks(even.min(QUERIES_A_PASS) * self.dim)
                .flat_map_iter(|queries| self.search_by_products(queries, k))
                .collect());
        }
        let rows: Vec<&[f32]> = queries.iter_rows().collect();
        Ok(rows.par_chunks(QUERIES_A_TILE).flat_map(|tile| self.scan(tile, k, &|_| true)).collect())
    }

    fn save(&self, path: &Path) -> Result<(), AnnError> {
        let mut out = Writer::default();
        self.write(&mut out);
        out.finish(path, KIND)
    }

    fn load(path: &Path) -> Result<Self, AnnError> {
        let mut file = Reader::open(path, KIND)?;
        let index = Self::read(&mut file)?;
        file.finish()?;
        Ok(index)
    }
}

#[cfg(test)]
mod tests {
    use eas_tensor::rng::SplitMix64;
    use proptest::prelude::*;

    use super::*;

    fn ids_of(hits: &[Hit]) -> Vec<u64> {
        hits.iter().map(|hit| hit.id).collect()
    }

    fn random(rows: usize, dim: usize, seed: u64) -> Matrix {
        let mut rng = SplitMix64::new(seed);
        Matrix::from_vec(rows, dim, (0..rows * dim).map(|_| rng.normal() as f32).collect()).unwrap()
    }

    /// The definition, in f64: score every vector, sort all of them.
    fn brute_force(metric: Metric, ids: &[u64], vectors: &Matrix, query: &[f32], k: usize) -> Vec<(u64, f64)> {
        let dot = |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum() };
        let mut all: Vec<(u64, f64)> = ids
            .iter()
            .zip(vectors.iter_rows())
            .map(|(&id, row)| {
                let score = match metric {
                    Metric::Dot => dot(query, row),
                    Metric::Cosine => dot(query, row) / (dot(query, query) * dot(row, row)).sqrt(),
                    Metric::SquaredL2 => dot(query, query) - 2.0 * dot(query, row) + dot(row, row),
                };
                (id, score)
            })
            .collect();
        all.sort_by(|a, b| {
            let by_score = if metric == Metric::SquaredL2 { a.1.total_cmp(&b.1) } else { b.1.total_cmp(&a.1) };
            by_score.then(a.0.cmp(&b.0))
        });
        all.truncate(k);
        all
    }

    #[test]
    fn every_metric_agrees_with_the_definition() {
        let (vectors, queries) = (random(300, 17, 1), random(20, 17, 2));
        let ids: Vec<u64> = (0..300).map(|i| i * 7 + 3).collect();
        for metric in [Metric::Dot, Metric::Cosine, Metric::SquaredL2] {
            let mut index = FlatIndex::new(17, metric).unwrap();
            index.add(&ids, &vectors).unwrap();
            let batch = index.search_batch(&queries, 12).unwrap();
            for (query, batched) in queries.iter_rows().zip(&batch) {
                let hits = index.search(query, 12).unwrap();
                let expected = brute_force(metric, &ids, &vectors, query, 12);
                assert_eq!(ids_of(&hits), expected.iter().map(|e| e.0).collect::<Vec<_>>());
                for (hit, (_, score)) in hits.iter().zip(expected) {
                    assert!((f64::from(hit.score) - score).abs() < 1e-4, "{metric:?} {} {score}", hit.score);
                }
                assert_eq!(&hits, batched);
            }
        }
    }

    #[test]
    fn batches_by_products_equal_single_searches_to_the_bit() {
        let mut rng = SplitMix64::new(6);
        for (n, dim, stretch) in [(1, 3, false), (500, 1, false), (700, 19, false), (700, 40, true), (300, 16, true)] {
            let mut vectors = random(n, dim, n as u64);
            for i in 0..n {
                // Lengths over many orders of magnitude, copies, and copies that differ in the last bit.
                let scale = if stretch { 10f32.powi(rng.below(12) as i32 - 6) } else { 1.0 };
                let other = rng.below(n);
                let copy = rng.chance(0.3).then(|| vectors.row(other).to_vec());
                let row = vectors.row_mut(i);
                row.copy_from_slice(&copy.unwrap_or_else(|| row.iter().map(|x| x * scale).collect()));
                if rng.chance(0.2) {
                    row[0] = row[0].next_up();
                }
            }
            let mut queries = random(37, dim, 5);
            queries.row_mut(3).fill(0.0);
            queries.row_mut(4).copy_from_slice(vectors.row(0));
            for metric in [Metric::Dot, Metric::Cosine, Metric::SquaredL2] {
                let mut index = FlatIndex::new(dim, metric).unwrap();
                index.add(&(0..n as u64).rev().collect::<Vec<_>>(), &vectors).unwrap();
                for k in [1, 10, 200, 1_000] {
                    let batch = index.search_batch(&queries, k).unwrap();
                    for (query, hits) in queries.iter_rows().zip(batch) {
                        assert_eq!(hits, index.search(query, k).unwrap(), "{n} x {dim}, {metric:?}, k {k}");
                    }
                }
            }
        }
        // Beyond what can be bounded: the plain scan answers.
        let mut index = FlatIndex::new(2, Metric::Dot).unwrap();
        index.add(&[1, 2], &Matrix::from_rows(&[[1e30, 1.0], [-1e30, 2.0]]).unwrap()).unwrap();
        let queries = Matrix::from_rows(&[[1e20, 0.0]; 9]).unwrap();
        assert_eq!(index.search_batch(&queries, 1).unwrap()[8], index.search(&[1e20, 0.0], 1).unwrap());
    }

    #[test]
    fn ties_come_by_lower_id_whatever_the_order_of_adding() {
        let mut index = FlatIndex::new(1, Metric::SquaredL2).unwrap();
        index.add(&[9, 4, 7, 1], &Matrix::from_rows(&[[1.0], [-1.0], [1.0], [5.0]]).unwrap()).unwrap();
        assert_eq!(ids_of(&index.search(&[0.0], 2).unwrap()), [4, 7]);
        assert_eq!(ids_of(&index.search(&[0.0], 4).unwrap()), [4, 7, 9, 1]);
    }

    #[test]
    fn a_filter_still_gives_k_hits() {
        let vectors = random(500, 8, 3);
        let ids: Vec<u64> = (0..500).collect();
        let mut index = FlatIndex::new(8, Metric::Dot).unwrap();
        index.add(&ids, &vectors).unwrap();
        let hits = index.search_where(vectors.row(0), 5, &|id| id % 50 == 3).unwrap();
        assert_eq!(hits.len(), 5);
        assert!(hits.iter().all(|hit| hit.id % 50 == 3));
        assert_eq!(index.search_where(vectors.row(0), 5, &|_| false).unwrap(), []);
    }

    #[test]
    fn an_exact_search_compares_every_vector_that_may_be_found() {
        let mut index = FlatIndex::new(8, Metric::Dot).unwrap();
        index.add(&(0..50).collect::<Vec<_>>(), &random(50, 8, 3)).unwrap();
        let query = random(1, 8, 4);
        let (hits, stats) = index.search_counted(query.row(0), 5, &|id| id < 20).unwrap();
        assert_eq!(hits, index.search_where(query.row(0), 5, &|id| id < 20).unwrap());
        let expected =
            SearchStats { distance_evaluations: 20, values_read: 160, bytes_read: 640, ..SearchStats::default() };
        assert_eq!(stats, expected);
        let twice: SearchStats = [stats, stats].into_iter().sum();
        assert_eq!(twice.values_read, 320);
    }

    #[test]
    fn recall_is_the_mean_share_of_exact_hits_found() {
        let hits = |ids: &[u64]| ids.iter().map(|&id| Hit { id, score: 0.0 }).collect::<Vec<_>>();
        let exact = [hits(&[1, 2]), hits(&[3, 4, 5, 6]), hits(&[])];
        let found = [hits(&[2, 9]), hits(&[6, 5, 4, 3]), hits(&[1])];
        assert_eq!(crate::recall(&found, &exact), 0.75);
        assert_eq!(crate::recall(&[], &[]), 1.0);
    }

    #[test]
    fn edges_give_documented_results() {
        let empty = FlatIndex::new(3, Metric::Cosine).unwrap();
        assert!(empty.is_empty());
        assert_eq!(empty.search(&[1.0, 2.0, 3.0], 5).unwrap(), []);
        assert_eq!(empty.search_batch(&Matrix::zeros(0, 0), 5).unwrap(), Vec::<Vec<Hit>>::new());
        let mut index = empty;
        index.add(&[], &Matrix::zeros(0, 0)).unwrap();
        index.add(&[5, 6], &Matrix::from_rows(&[[1.0, 0.0, 0.0], [0.0; 3]]).unwrap()).unwrap();
        assert_eq!(index.search(&[1.0, 0.0, 0.0], 0).unwrap(), []);
        assert_eq!(index.search(&[1.0, 0.0, 0.0], 9).unwrap().len(), 2);
        let against_zero = index.search(&[0.0; 3], 2).unwrap();
        assert_eq!(ids_of(&against_zero), [5, 6]);
        assert!(against_zero.iter().all(|hit| hit.score.to_bits() == 0), "a zero vector has cosine 0");
    }

    #[test]
    fn bad_input_is_refused_and_changes_nothing() {
        let message = |result: Result<(), AnnError>| result.unwrap_err().to_string();
        assert!(FlatIndex::new(0, Metric::Dot).is_err());
        let mut index = FlatIndex::new(2, Metric::Dot).unwrap();
        let two = Matrix::from_rows(&[[1.0, 2.0], [3.0, 4.0]]).unwrap();
        index.add(&[1, 2], &two).unwrap();
        assert_eq!(message(index.add(&[3], &two)), "1 ids for 2 vectors");
        assert!(message(index.add(&[3, 2], &two)).contains("id 2 is already"));
        assert!(message(index.add(&[3, 3], &two)).contains("id 3 is already"));
        assert!(message(index.add(&[3], &Matrix::zeros(1, 5))).contains("dimension 2, got 5"));
        let nan = Matrix::from_rows(&[[0.0, 0.0], [0.0, f32::NAN]]).unwrap();
        assert!(message(index.add(&[3, 4], &nan)).contains("row 1, column 1 is NaN"));
        assert!(index.upsert(&[1, 4], &nan).is_err());
        assert!(message(index.search(&[f32::INFINITY, 0.0], 1).map(drop)).contains("inf"));
        assert!(message(index.search(&[0.0], 1).map(drop)).contains("got 1"));
        assert_eq!(index.len(), 2);
        assert_eq!(index.vector(1), Some(&[1.0, 2.0][..]));
    }

    #[test]
    fn upsert_replaces_and_the_last_row_wins() {
        let mut index = FlatIndex::new(1, Metric::Dot).unwrap();
        index.add(&[1, 2], &Matrix::from_rows(&[[1.0], [2.0]]).unwrap()).unwrap();
        let replaced = index.upsert(&[3, 2, 3], &Matrix::from_rows(&[[30.0], [20.0], [33.0]]).unwrap()).unwrap();
        assert_eq!((replaced, index.len()), (1, 3));
        assert_eq!(index.vector(2), Some(&[20.0][..]));
        assert_eq!(index.vector(3), Some(&[33.0][..]));
    }

    #[test]
    fn files_round_trip_and_damage_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index");
        let mut index = FlatIndex::new(4, Metric::Cosine).unwrap();
        index.add(&(0..50).collect::<Vec<_>>(), &random(50, 4, 4)).unwrap();
        index.remove(&[3, 49]).unwrap();
        index.save(&path).unwrap();
        let loaded = FlatIndex::load(&path).unwrap();
        let query = random(1, 4, 5);
        assert_eq!(loaded.search(query.row(0), 48).unwrap(), index.search(query.row(0), 48).unwrap());

        let whole = std::fs::read(&path).unwrap();
        let fails_with = |bytes: &[u8], text: &str| {
            std::fs::write(&path, bytes).unwrap();
            let message = FlatIndex::load(&path).unwrap_err().to_string();
            assert!(message.contains(text), "{message}");
        };
        fails_with(&whole[..whole.len() - 1], "cut off");
        fails_with(&whole[..10], "too few");
        fails_with(&[whole.as_slice(), b"x"].concat(), "padded");
        let mut altered = whole.clone();
        altered[200] ^= 1;
        fails_with(&altered, "checksum differs");
        altered.clone_from(&whole);
        altered[0] = b'X';
        fails_with(&altered, "not an index file");
        altered.clone_from(&whole);
        altered[8] = b'H';
        fails_with(&altered, "kind HLAT, expected FLAT");
        assert!(matches!(FlatIndex::load(&dir.path().join("none")), Err(AnnError::Io { .. })));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_history_of_changes_leaves_the_same_index_as_adding_the_survivors(
            changes in prop::collection::vec((0u64..12, prop::bool::ANY, -3i8..3), 0..60)
        ) {
            let mut index = FlatIndex::new(1, Metric::SquaredL2).unwrap();
            let mut model = std::collections::BTreeMap::new();
            for (id, keep, value) in changes {
                if keep {
                    let replaced = index.upsert(&[id], &Matrix::from_rows(&[[f32::from(value)]]).unwrap()).unwrap();
                    prop_assert_eq!(replaced == 1, model.insert(id, value).is_some());
                } else {
                    prop_assert_eq!(index.remove(&[id]).unwrap() == 1, model.remove(&id).is_some());
                }
            }
            let mut expected: Vec<(i32, u64)> = model.iter().map(|(&id, &v)| (i32::from(v).pow(2), id)).collect();
            expected.sort_unstable();
            let hits = index.search(&[0.0], 12).unwrap();
            prop_assert_eq!(ids_of(&hits), expected.into_iter().map(|(_, id)| id).collect::<Vec<_>>());
        }
    }
}
