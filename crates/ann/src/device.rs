//! [`DeviceIndex`]: exact cosine search for batches of queries over vectors in full or half precision; the same cut into shards, and run
//! as a pipeline.
//!
//! Vectors are scaled to unit length in f32 first and rounded then, so that the range of half precision can't overflow; products are
//! summed in f32. A tile of rows is read from memory once and compared with every query of a batch: that is what batching saves.

use std::sync::mpsc::sync_channel;

use eas_tensor::kernels::{dot, dot_f16};
use eas_tensor::quant::{Codec, F16};
use eas_tensor::{Matrix, TopK};
use rayon::prelude::*;

use crate::AnnError;
use crate::index::{Hit, Metric, check_dim, check_queries};
use crate::sharded::merge_hits;

/// Rows that every query of a batch is compared with before the next ones are read.
const ROWS_A_TILE: usize = 256;

/// How values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// 4 bytes a value.
    F32,
    /// 2 bytes a value, 11 significant bits.
    F16,
}

impl Precision {
    /// `f32` or `f16`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
        }
    }
}

/// The rows as they are stored, one after the other.
#[derive(Debug, Clone)]
enum Rows {
    F32(Vec<f32>),
    /// The bits of half precision.
    F16(Vec<u16>),
}

/// Exact cosine search on the processor; ids are row numbers.
///
/// ```
/// use eas_ann::device::{DeviceIndex, Precision};
/// use eas_tensor::Matrix;
///
/// let index = DeviceIndex::new(&Matrix::from_rows(&[[3.0, 4.0], [1.0, 0.0]])?, Precision::F16)?;
/// assert_eq!(index.bytes(), 8);
/// let hits = index.search_batch(&Matrix::from_rows(&[[6.0, 8.0]])?, 1, 1_000)?;
/// assert_eq!(hits[0][0].id, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct DeviceIndex {
    dim: usize,
    rows: usize,
    stored: Rows,
}

impl DeviceIndex {
    /// Stores unit copies of the rows, shape `(n, dim)`. Refuses values that aren't finite.
    pub fn new(corpus: &Matrix, precision: Precision) -> Result<Self, AnnError> {
        check_dim(corpus.dim())?;
        check_queries(corpus.dim(), corpus)?;
        let unit = unit_rows(corpus);
        let dim = corpus.dim();
        let stored = match precision {
            Precision::F32 => Rows::F32(unit.into_vec()),
            Precision::F16 => {
                let codec = F16::new(dim);
                let mut bits = Vec::with_capacity(unit.rows() * dim);
                for row in unit.iter_rows() {
                    let code = codec.encode(row)?;
                    let (pairs, _) = code.as_chunks::<2>();
                    bits.extend(pairs.iter().map(|pair| u16::from_le_bytes(*pair)));
                }
                Rows::F16(bits)
            }
        };
        Ok(Self { dim, rows: corpus.rows(), stored })
    }

    /// Vectors stored.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// True when nothing is stored.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Dimension of the vectors.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Bytes of the stored vectors.
    pub fn bytes(&self) -> usize {
        match &self.stored {
            Rows::F32(values) => size_of_val(values.as_slice()),
            Rows::F16(bits) => size_of_val(bits.as_slice()),
        }
    }

    /// The stored vector of a row; `None` when there is no such row.
    pub fn vector(&self, row: usize) -> Option<Vec<f32>> {
        if row >= self.rows {
            return None;
        }
        let range = row * self.dim..(row + 1) * self.dim;
        match &self.stored {
            Rows::F32(values) => Some(values[range].to_vec()),
            Rows::F16(bits) => {
                let code: Vec<u8> = bits[range].iter().flat_map(|half| half.to_le_bytes()).collect();
                F16::new(self.dim).decode(&code).ok()
            }
        }
    }

    /// The `k` rows of highest cosine for each row of `queries`, `batch >= 1` queries at a time; equal scores by lower row. Each query's
    /// result is the same to the bit for every batch.
    pub fn search_batch(&self, queries: &Matrix, k: usize, batch: usize) -> Result<Vec<Vec<Hit>>, AnnError> {
        check_batch(batch)?;
        check_queries(self.dim, queries)?;
        let unit = unit_rows(queries);
        let rows: Vec<&[f32]> = unit.iter_rows().collect();
        let mut hits = Vec::with_capacity(rows.len());
        for queries in rows.chunks(batch) {
            hits.extend(self.scan(queries, k));
        }
        Ok(hits)
    }

    /// One batch of unit queries: tile by tile, threads share the queries.
    fn scan(&self, queries: &[&[f32]], k: usize) -> Vec<Vec<Hit>> {
        let mut best = vec![TopK::new(k); queries.len()];
        for first in (0..self.rows).step_by(ROWS_A_TILE) {
            let last = self.rows.min(first + ROWS_A_TILE);
            let range = first * self.dim..last * self.dim;
            // Four queries a job: less work than that isn't worth waking a thread.
            let jobs = best.par_iter_mut().zip(queries).with_min_len(4);
            match &self.stored {
                Rows::F32(values) => jobs.for_each(|(best, query)| {
                    for (row, vector) in (first..last).zip(values[range.clone()].chunks_exact(self.dim)) {
                        best.push(row, dot(query, vector));
                    }
                }),
                Rows::F16(bits) => jobs.for_each(|(best, query)| {
                    for (row, vector) in (first..last).zip(bits[range.clone()].chunks_exact(self.dim)) {
                        best.push(row, dot_f16(query, vector));
                    }
                }),
            }
        }
        best.into_iter().map(hits_of).collect()
    }
}

/// The corpus in contiguous shards whose sizes differ by at most one row, searched side by side.
#[derive(Debug, Clone)]
pub struct DeviceShards {
    /// First row and index of each shard.
    shards: Vec<(usize, DeviceIndex)>,
}

impl DeviceShards {
    /// Cuts the rows into `shards >= 1` shards; the first ones get the rows that are left over.
    pub fn new(corpus: &Matrix, precision: Precision, shards: usize) -> Result<Self, AnnError> {
        if shards == 0 {
            return Err(AnnError::Parameter { name: "shards", got: "0".into(), expected: "at least 1" });
        }
        let (size, left_over) = (corpus.rows() / shards, corpus.rows() % shards);
        let mut first = 0;
        let shards = (0..shards)
            .map(|shard| {
                let from = first;
                first += size + usize::from(shard < left_over);
                let rows: Vec<usize> = (from..first).collect();
                Ok((from, DeviceIndex::new(&corpus.select(&rows), precision)?))
            })
            .collect::<Result<_, AnnError>>()?;
        Ok(Self { shards })
    }

    /// Rows of each shard.
    pub fn lens(&self) -> Vec<usize> {
        self.shards.iter().map(|(_, shard)| shard.len()).collect()
    }

    /// [`DeviceIndex::search_batch`] on every shard, rows renumbered, answers merged; the same to the bit as without shards.
    pub fn search_batch(&self, queries: &Matrix, k: usize, batch: usize) -> Result<Vec<Vec<Hit>>, AnnError> {
        let lists = self
            .shards
            .par_iter()
            .filter(|(_, shard)| !shard.is_empty())
            .map(|(first, shard)| {
                let mut answers = shard.search_batch(queries, k, batch)?;
                for hit in answers.iter_mut().flatten() {
                    hit.id += *first as u64;
                }
                Ok(answers)
            })
            .collect::<Result<Vec<_>, AnnError>>()?;
        Ok((0..queries.rows())
            .map(|query| {
                let of_query: Vec<&[Hit]> = lists.iter().map(|answers| answers[query].as_slice()).collect();
                merge_hits(Metric::Cosine, &of_query, k)
            })
            .collect())
    }
}

/// The search of a [`DeviceIndex`] as a pipeline: while a batch is compared with the vectors, the next one is being prepared and the one
/// before is being collected. Two batches wait before each stage at most, so that a slow stage holds the others back instead of piling up
/// memory.
#[derive(Debug, Clone, Copy)]
pub struct PipelinedSearch<'a> {
    index: &'a DeviceIndex,
    batch: usize,
}

/// Batches that wait before a stage.
const DEPTH: usize = 2;

impl<'a> PipelinedSearch<'a> {
    /// A pipeline with `batch >= 1` queries at a time.
    pub fn new(index: &'a DeviceIndex, batch: usize) -> Result<Self, AnnError> {
        check_batch(batch)?;
        Ok(Self { index, batch })
    }

    /// Same results, in the same order, as [`DeviceIndex::search_batch`].
    pub fn search(&self, queries: &Matrix, k: usize) -> Result<Vec<Vec<Hit>>, AnnError> {
        check_queries(self.index.dim, queries)?;
        std::thread::scope(|scope| {
            let (to_compute, uploaded) = sync_channel::<Matrix>(DEPTH);
            let (to_collect, computed) = sync_channel::<Vec<Vec<Hit>>>(DEPTH);
            scope.spawn(move || {
                let order: Vec<usize> = (0..queries.rows()).collect();
                for rows in order.chunks(self.batch) {
                    // A closed channel means that a later stage has stopped: so does this one.
                    if to_compute.send(unit_rows(&queries.select(rows))).is_err() {
                        return;
                    }
                }
            });
            scope.spawn(move || {
                for unit in uploaded {
                    let rows: Vec<&[f32]> = unit.iter_rows().collect();
                    if to_collect.send(self.index.scan(&rows, k)).is_err() {
                        return;
                    }
                }
            });
            let mut hits = Vec::with_capacity(queries.rows());
            for answers in computed {
                hits.extend(answers);
            }
            Ok(hits)
        })
    }
}

fn check_batch(batch: usize) -> Result<(), AnnError> {
    if batch == 0 {
        return Err(AnnError::Parameter { name: "batch", got: "0".into(), expected: "at least 1" });
    }
    Ok(())
}

fn unit_rows(rows: &Matrix) -> Matrix {
    let mut unit = rows.clone();
    unit.normalize_rows();
    unit
}

fn hits_of(best: TopK) -> Vec<Hit> {
    let sorted = best.into_sorted_vec().into_iter();
    sorted.map(|item| Hit { id: item.id as u64, score: item.score + 0.0 }).collect()
}

#[cfg(test)]
mod tests {
    use eas_tensor::rng::SplitMix64;

    use super::*;
    use crate::{FlatIndex, VectorIndex};

    fn random(rows: usize, dim: usize, seed: u64) -> Matrix {
        let mut rng = SplitMix64::new(seed);
        Matrix::from_vec(rows, dim, (0..rows * dim).map(|_| rng.normal() as f32).collect()).unwrap()
    }

    #[test]
    fn full_precision_equals_the_flat_index() {
        let (corpus, queries) = (random(700, 33, 1), random(21, 33, 2));
        let index = DeviceIndex::new(&corpus, Precision::F32).unwrap();
        let mut flat = FlatIndex::new(33, Metric::Cosine).unwrap();
        flat.add(&(0..700).collect::<Vec<_>>(), &corpus).unwrap();
        let expected = flat.search_batch(&queries, 10).unwrap();
        for batch in [1, 4, 20, 1_000] {
            assert_eq!(index.search_batch(&queries, 10, batch).unwrap(), expected);
            assert_eq!(PipelinedSearch::new(&index, batch).unwrap().search(&queries, 10).unwrap(), expected);
        }
        assert_eq!((index.bytes(), index.len()), (700 * 33 * 4, 700));
    }

    #[test]
    fn half_precision_searches_the_rounded_rows() {
        let (corpus, queries) = (random(300, 16, 3), random(5, 16, 4));
        let index = DeviceIndex::new(&corpus, Precision::F16).unwrap();
        assert_eq!((index.bytes(), index.vector(300)), (300 * 32, None));
        let unit = unit_rows(&queries);
        for (query, hits) in unit.iter_rows().zip(index.search_batch(&queries, 300, 2).unwrap()) {
            for hit in &hits {
                let rounded = index.vector(hit.id as usize).unwrap();
                assert!((hit.score - dot(query, &rounded)).abs() < 1e-6);
                let whole = unit_rows(&corpus.select(&[hit.id as usize]));
                assert!(rounded.iter().zip(whole.row(0)).all(|(a, b)| (a - b).abs() <= b.abs() / 2_048.0 + 1e-7));
            }
            assert!(hits.is_sorted_by(|a, b| a.score >= b.score) && hits.len() == 300);
        }
    }

    #[test]
    fn shards_are_balanced_and_give_the_bits_of_one_index() {
        let (corpus, queries) = (random(1_000, 8, 5), random(6, 8, 6));
        for precision in [Precision::F32, Precision::F16] {
            let whole = DeviceIndex::new(&corpus, precision).unwrap();
            for shards in [1, 2, 3, 7, 1_500] {
                let cut = DeviceShards::new(&corpus, precision, shards).unwrap();
                assert_eq!(cut.lens().iter().sum::<usize>(), 1_000);
                for k in [0, 1, 10, 300, 2_000] {
                    assert_eq!(cut.search_batch(&queries, k, 4).unwrap(), whole.search_batch(&queries, k, 4).unwrap());
                }
            }
        }
        let lens = DeviceShards::new(&corpus, Precision::F32, 7).unwrap().lens();
        assert_eq!(lens, [143, 143, 143, 143, 143, 143, 142]);
    }

    #[test]
    fn large_values_are_scaled_before_they_are_stored_in_half_precision() {
        let corpus = Matrix::from_vec(1, 64, vec![60.0; 64]).unwrap();
        let index = DeviceIndex::new(&corpus, Precision::F16).unwrap();
        assert_eq!(index.vector(0).unwrap(), vec![0.125; 64]);
    }

    #[test]
    fn bad_input_is_refused() {
        let corpus = random(10, 4, 7);
        assert!(DeviceShards::new(&corpus, Precision::F32, 0).unwrap_err().to_string().contains("shards is 0"));
        let index = DeviceIndex::new(&corpus, Precision::F16).unwrap();
        assert!(index.search_batch(&corpus, 1, 0).unwrap_err().to_string().contains("batch is 0"));
        assert!(PipelinedSearch::new(&index, 0).is_err());
        assert!(index.search_batch(&random(1, 5, 1), 1, 1).is_err());
        let nan = Matrix::from_rows(&[[f32::NAN, 0.0, 0.0, 0.0]]).unwrap();
        assert!(DeviceIndex::new(&nan, Precision::F32).is_err());
        assert!(PipelinedSearch::new(&index, 3).unwrap().search(&nan, 1).is_err());
        let none = DeviceIndex::new(&Matrix::zeros(0, 4), Precision::F16).unwrap();
        assert!(none.is_empty() && none.search_batch(&corpus, 3, 2).unwrap().iter().all(Vec::is_empty));
        assert!(index.search_batch(&Matrix::zeros(0, 0), 3, 2).unwrap().is_empty());
    }
}
