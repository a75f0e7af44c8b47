//! How listing 3.2 measures what an approximate index does.

use std::time::{Duration, Instant};

use eas_ann::{Hit, Hnsw};
use eas_eval::bootstrap::Interval;
use eas_eval::recall::{RecallReport, distance_ratio, first_miss};
use eas_tensor::Matrix;

/// What an index promises. The first follows from the algorithm, and no measurement can prove it; the second is what was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Guarantee {
    /// Every answer is right.
    Exact,
    /// A distribution over queries.
    Approximate {
        /// Mean recall with its 95% interval.
        recall_mean: Interval,
        /// What 95% of the queries reach.
        p5: f64,
        /// The worst query.
        worst: f64,
    },
}

/// A search over some queries.
#[derive(Debug, Clone)]
pub struct Measured {
    /// Recall, query by query.
    pub report: RecallReport,
    /// Mean of found over true distance.
    pub ratio: f64,
    /// Share of the vectors that a search was compared with.
    pub work: f64,
    /// Median rank of the first neighbour that is missing, over the queries that miss one.
    pub first_miss: Option<usize>,
    /// Mean time of a search.
    pub time: Duration,
}

impl Measured {
    /// What was measured, as a promise.
    pub fn guarantee(&self) -> Guarantee {
        Guarantee::Approximate { recall_mean: self.report.mean, p5: self.report.p5, worst: self.report.worst }
    }
}

/// Searches the graph with a beam of `ef` and compares with the exact hits of the same queries.
pub fn measure(graph: &Hnsw, ef: usize, queries: &Matrix, exact: &[Vec<Hit>], seed: u64) -> anyhow::Result<Measured> {
    let k = exact.first().map_or(0, Vec::len);
    let (mut hits, mut evaluations) = (Vec::new(), 0);
    let start = Instant::now();
    for query in queries.iter_rows() {
        let (found, cost) = graph.search_counted(query, k, ef, &|_| true)?;
        evaluations += cost.distance_evaluations;
        hits.push(found);
    }
    let time = start.elapsed() / queries.rows() as u32;
    let (found, truth) = (ids_of(&hits), ids_of(exact));
    let mut ratios = Vec::new();
    for (found, exact) in hits.iter().zip(exact) {
        ratios.push(distance_ratio(&lengths(found), &lengths(exact))?);
    }
    let pairs = found.iter().zip(&truth);
    let mut misses: Vec<usize> = pairs.filter_map(|(found, exact)| first_miss(found, exact)).collect();
    misses.sort_unstable();
    Ok(Measured {
        report: RecallReport::new(&found, &truth, seed)?,
        ratio: ratios.iter().sum::<f64>() / ratios.len() as f64,
        work: evaluations as f64 / (graph.nodes() * queries.rows()) as f64,
        first_miss: misses.get(misses.len() / 2).copied(),
        time,
    })
}

/// The ids of hits, query by query.
pub fn ids_of(hits: &[Vec<Hit>]) -> Vec<Vec<u64>> {
    hits.iter().map(|hits| hits.iter().map(|hit| hit.id).collect()).collect()
}

/// Distances of hits, from their squares.
fn lengths(hits: &[Hit]) -> Vec<f64> {
    hits.iter().map(|hit| f64::from(hit.score).sqrt()).collect()
}
