//! How well a smaller copy of some vectors finds the neighbours that the full vectors have.

use std::time::{Duration, Instant};

use eas_data::uci::digits;
use eas_tensor::{Matrix, nearest_rows};

/// Neighbours asked for.
pub const K: usize = 10;

/// Vectors to search in and for, with their true neighbours: the [`K`] nearest by Euclidean distance at full size.
#[derive(Debug, Clone)]
pub struct Neighbourhood {
    /// Searched in, `(rows, dim)`.
    pub corpus: Matrix,
    /// Searched for, `(queries, dim)`.
    pub queries: Matrix,
    /// Class of each row of the corpus and of each query; empty when there are none.
    pub classes: (Vec<usize>, Vec<usize>),
    truth: Vec<Vec<usize>>,
}

/// How the neighbours found by smaller vectors compare.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quality {
    /// Share of the ten true neighbours that are among the ten found.
    pub recall: f64,
    /// Mean of one over the rank at which the nearest true neighbour is found, 0 beyond ten.
    pub mrr: f64,
    /// Share of the ten found that are of the query's class; 0 without classes.
    pub precision: f64,
    /// Share of queries whose nearest is of their class; 0 without classes.
    pub nearest: f64,
    /// 99 of 100 searches took at most this. Not compared: `Quality` is otherwise the same at every run.
    pub p99: Duration,
}

impl Neighbourhood {
    /// Finds the true neighbours.
    pub fn new(corpus: Matrix, queries: Matrix, classes: (Vec<usize>, Vec<usize>)) -> anyhow::Result<Self> {
        let truth = found(&corpus, &queries)?.0;
        Ok(Self { corpus, queries, classes, truth })
    }

    /// The 8 x 8 digits: the first 1,000 to search in, the last 797 to search for.
    pub fn digits() -> anyhow::Result<Self> {
        let all = digits()?;
        let rows: Vec<usize> = (0..all.features.rows()).collect();
        let (first, last) = rows.split_at(1_000);
        let classes = (all.labels[..1_000].to_vec(), all.labels[1_000..].to_vec());
        Self::new(all.features.select(first), all.features.select(last), classes)
    }

    /// Searches `corpus` for `queries`, which stand for the full vectors row by row, and compares.
    pub fn quality(&self, corpus: &Matrix, queries: &Matrix) -> anyhow::Result<Quality> {
        let (found, mut times) = found(corpus, queries)?;
        let (mut recall, mut mrr, mut precision, mut nearest) = (0.0, 0.0, 0.0, 0.0);
        for (query, (found, truth)) in found.iter().zip(&self.truth).enumerate() {
            recall += truth.iter().filter(|id| found.contains(id)).count() as f64 / K as f64;
            mrr += found.iter().position(|id| *id == truth[0]).map_or(0.0, |at| 1.0 / (at + 1) as f64);
            if let Some(own) = self.classes.1.get(query) {
                let same = |id: &usize| self.classes.0[*id] == *own;
                precision += found.iter().filter(|id| same(id)).count() as f64 / K as f64;
                nearest += f64::from(same(&found[0]));
            }
        }
        times.sort_unstable();
        let n = found.len() as f64;
        let p99 = times[(times.len() * 99).div_ceil(100) - 1];
        Ok(Quality { recall: recall / n, mrr: mrr / n, precision: precision / n, nearest: nearest / n, p99 })
    }

    /// The quality that the first `dim` columns of projected vectors have.
    pub fn prefix_quality(&self, corpus: &Matrix, queries: &Matrix, dim: usize) -> anyhow::Result<Quality> {
        self.quality(&prefix(corpus, dim)?, &prefix(queries, dim)?)
    }
}

/// The first `dim` columns.
pub fn prefix(rows: &Matrix, dim: usize) -> anyhow::Result<Matrix> {
    anyhow::ensure!(dim > 0 && dim <= rows.dim(), "{dim} of {} columns", rows.dim());
    Ok(Matrix::from_vec(rows.rows(), dim, rows.iter_rows().flat_map(|row| &row[..dim]).copied().collect())?)
}

/// The [`K`] nearest rows of each query, and the time each search took.
fn found(corpus: &Matrix, queries: &Matrix) -> anyhow::Result<(Vec<Vec<usize>>, Vec<Duration>)> {
    anyhow::ensure!(corpus.rows() >= K && queries.rows() > 0, "{} rows, {} queries", corpus.rows(), queries.rows());
    let (mut ids, mut times) = (Vec::with_capacity(queries.rows()), Vec::with_capacity(queries.rows()));
    for query in queries.iter_rows() {
        let start = Instant::now();
        let best = nearest_rows(query, corpus, K)?.best;
        times.push(start.elapsed());
        ids.push(best.iter().map(|hit| hit.id).collect());
    }
    Ok((ids, times))
}
