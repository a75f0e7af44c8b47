//! What less precise storage costs, and how far its scores are from the exact ones.

use std::time::{Duration, Instant};

use eas_ann::device::{DeviceIndex, Precision};
use eas_ann::{AnnError, CompactFlat, Hit, Metric, Storage, VectorIndex, recall};
use eas_tensor::Matrix;
use eas_tensor::kernels::dot;

/// The largest difference of the score that the stored vectors give from the exact one, over the exact hits of all queries.
pub fn score_error(index: &DeviceIndex, queries: &Matrix, exact: &[Vec<Hit>]) -> f64 {
    let mut unit = queries.clone();
    unit.normalize_rows();
    let mut worst = 0.0f64;
    for (query, hits) in unit.iter_rows().zip(exact) {
        for hit in hits {
            let stored = index.vector(hit.id as usize).unwrap_or_default();
            worst = worst.max(f64::from((dot(query, &stored) - hit.score).abs()));
        }
    }
    worst
}

/// The ids of hits, query by query.
pub fn ids(answers: &[Vec<Hit>]) -> Vec<Vec<u64>> {
    let of = |hits: &Vec<Hit>| hits.iter().map(|hit| hit.id).collect();
    answers.iter().map(of).collect()
}

/// A way of storing vectors, measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// `f32`, `f16` or `int8`.
    pub name: &'static str,
    /// Bytes of the vectors.
    pub bytes: usize,
    /// Recall of the exact hits.
    pub recall: f64,
    /// Largest difference of a score from the exact one.
    pub error: f64,
    /// Time a query in batches of 1, 16 and 256; the byte index has no batches, and its time stands last.
    pub times: Vec<Duration>,
}

/// Searches the corpus in each precision.
pub fn by_precision(corpus: &Matrix, queries: &Matrix, exact: &[Vec<Hit>]) -> Result<Vec<Stored>, AnnError> {
    let k = exact.first().map_or(0, Vec::len);
    let count = queries.rows().max(1) as u32;
    let mut all = Vec::new();
    for precision in [Precision::F32, Precision::F16] {
        let index = DeviceIndex::new(corpus, precision)?;
        let (mut found, mut times) = (Vec::new(), Vec::new());
        for batch in [1, 16, 256] {
            let start = Instant::now();
            found = index.search_batch(queries, k, batch)?;
            times.push(start.elapsed() / count);
        }
        all.push(Stored {
            name: precision.name(),
            bytes: index.bytes(),
            recall: recall(&found, exact),
            error: score_error(&index, queries, exact),
            times,
        });
    }
    let mut index = CompactFlat::new(corpus.dim(), Metric::Cosine, Storage::Int8)?;
    index.add(&(0..corpus.rows() as u64).collect::<Vec<_>>(), corpus)?;
    let start = Instant::now();
    let found = index.search_batch(queries, k)?;
    let time = start.elapsed() / count;
    let ranks = found.iter().flatten().zip(exact.iter().flatten());
    all.push(Stored {
        name: "int8",
        bytes: index.value_bytes(),
        recall: recall(&found, exact),
        error: f64::from(ranks.map(|(found, exact)| (found.score - exact.score).abs()).fold(0.0, f32::max)),
        times: vec![Duration::ZERO, Duration::ZERO, time],
    });
    Ok(all)
}
