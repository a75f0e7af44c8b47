//! Clusters of very different sizes, and what a batch drawn from them is worth.

use std::collections::BTreeSet;

use candle_core::Var;
use eas_data::synth::Zipf;
use eas_losses::{InfoNce, Negatives};
use eas_tensor::Matrix;
use eas_tensor::kernels::dot;
use eas_tensor::rng::SplitMix64;

use crate::families::tensor;

/// Points.
pub const POINTS: usize = 3_000;
/// Clusters, of sizes by Zipf's law.
pub const CLUSTERS: usize = 30;
const DIM: usize = 16;

/// Points around centres, a second view of each, and how hard each is.
#[derive(Debug, Clone)]
pub struct ZipfClusters {
    /// Shape `(3000, 16)`, rows of length 1.
    pub rows: Matrix,
    views: Matrix,
    /// The cluster of each row.
    pub clusters: Vec<u32>,
    /// The cosine of each row with the nearest centre of another cluster.
    pub difficulty: Vec<f64>,
}

impl ZipfClusters {
    /// Drawn from `seed`.
    pub fn new(seed: u64) -> anyhow::Result<Self> {
        let mut rng = SplitMix64::new(seed);
        let mut centres = Matrix::zeros(CLUSTERS, DIM);
        centres.as_mut_slice().fill_with(|| rng.normal() as f32);
        centres.normalize_rows();
        let clusters: Vec<u32> = Zipf::new(CLUSTERS, 1.0)?.trace(seed, POINTS).into_iter().map(|c| c as u32).collect();
        let mut near = |rows: &[u32], centres: &Matrix, noise: f64| {
            let mut view = Matrix::zeros(rows.len(), DIM);
            for (i, &row) in rows.iter().enumerate() {
                for (x, c) in view.row_mut(i).iter_mut().zip(centres.row(row as usize)) {
                    *x = c + (noise * rng.normal()) as f32;
                }
            }
            view.normalize_rows();
            view
        };
        let rows = near(&clusters, &centres, 0.12);
        let all: Vec<u32> = (0..POINTS as u32).collect();
        let views = near(&all, &rows, 0.05);
        let nearest = |(i, row): (usize, &[f32])| {
            let others = (0..CLUSTERS).filter(|&c| c != clusters[i] as usize);
            others.map(|c| f64::from(dot(row, centres.row(c)))).fold(-1.0, f64::max)
        };
        let difficulty = rows.iter_rows().enumerate().map(nearest).collect();
        Ok(Self { rows, views, clusters, difficulty })
    }

    /// Clusters in the batch, the mean cosine of an anchor with its hardest negative, and the length of the loss's gradient by the anchors.
    pub fn judge(&self, picks: &[usize]) -> anyhow::Result<[f64; 3]> {
        let covered: BTreeSet<u32> = picks.iter().map(|&i| self.clusters[i]).collect();
        let (anchors, positives) = (self.rows.select(picks), self.views.select(picks));
        let hardest = |i: usize| {
            let rivals = (0..picks.len()).filter(|&j| j != i);
            rivals.map(|j| f64::from(dot(anchors.row(i), positives.row(j)))).fold(-1.0, f64::max)
        };
        let mean = (0..picks.len()).map(hardest).sum::<f64>() / picks.len() as f64;
        let leaf = Var::from_tensor(&tensor(&anchors)?)?;
        let loss = InfoNce::new(0.1).forward(&leaf, &tensor(&positives)?, Negatives::InBatch)?.loss;
        let gradient = loss.backward()?.remove(&leaf).map_or(Ok(0.0), |g| g.sqr()?.sum_all()?.to_scalar::<f32>())?;
        Ok([covered.len() as f64, mean, f64::from(gradient).sqrt()])
    }
}
