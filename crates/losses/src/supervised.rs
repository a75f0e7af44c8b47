//! Contrastive losses with labels: several positives a row, graded positives, positives graded by time.

use candle_core::Tensor;

use crate::ops::{constant, log_sum_exp, mask, masked, products, zero_of};
use crate::{LossError, matrix, normalize, one_a_row, positive};

/// The mean over rows with positive weight of `-sum_j w_ij ln p_ij / sum_j w_ij`, where `p` is the softmax of cosines over
/// temperature without the diagonal. Without such a row the loss is 0, with a zero gradient.
fn weighted_likelihood(embeddings: &Tensor, temperature: f64, weights: &[Vec<f64>]) -> Result<Tensor, LossError> {
    let n = weights.len();
    let sums: Vec<f64> = weights.iter().map(|row| row.iter().sum()).collect();
    let rows = sums.iter().filter(|&&sum| sum > 0.0).count();
    if rows == 0 {
        return zero_of(embeddings);
    }
    let z = normalize(embeddings)?;
    let logits = (products(&z, &z)? / temperature)?;
    let normal = log_sum_exp(&masked(&logits, &mask(n, n, &z, |i, j| i != j)?)?)?.unsqueeze(1)?;
    let scaled: Vec<f64> = weights
        .iter()
        .zip(&sums)
        .flat_map(|(row, &sum)| row.iter().map(move |w| if sum > 0.0 { w / sum } else { 0.0 }))
        .collect();
    let scaled = constant(scaled, &[n, n], &z)?;
    let cost = (normal.broadcast_sub(&logits)? * scaled)?;
    Ok((cost.sum_all()? / rows as f64)?)
}

/// Supervised contrastive loss (Khosla et al. 2020, the form with the sum outside the logarithm).
///
/// `L_i = -1/|P(i)| sum_{j in P(i)} ln p_ij` with `P(i)` the other rows of i's class and `p` the softmax of cosines over temperature
/// without i itself; the mean runs over rows that have a positive. `embeddings` has shape `(rows, dim)`, one label a row. A batch
/// without any pair of one class costs 0 with a zero gradient.
///
/// ```
/// use candle_core::{DType, Device};
/// use eas_losses::{fixtures, supervised::sup_con};
///
/// let (points, labels) = fixtures::labelled(DType::F64, &Device::Cpu)?;
/// let loss = sup_con(&points, labels, 0.1)?.to_scalar::<f64>()?;
/// assert!((loss - 1.8256794362).abs() < 1e-9);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn sup_con(embeddings: &Tensor, labels: &[u32], temperature: f64) -> Result<Tensor, LossError> {
    let (rows, _) = matrix("embeddings", embeddings)?;
    one_a_row("labels", labels.len(), rows)?;
    crate::temperature::check(temperature)?;
    let weights: Vec<Vec<f64>> = (0..rows)
        .map(|i| {
            let same = |j: usize| f64::from(u8::from(i != j && labels[i] == labels[j]));
            (0..rows).map(same).collect()
        })
        .collect();
    weighted_likelihood(embeddings, temperature, &weights)
}

/// How the positives of several levels of a tree share a row's loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Averaging {
    /// Every pair weighs its level's weight, so the many distant relatives outweigh the few close ones.
    PerPair,
    /// Every level weighs its weight, however many relatives it has.
    PerLevel,
}

/// Supervised contrastive loss with positives graded by their place in a tree (after Khosla et al. 2020).
///
/// Two rows are related at the finest level at which their labels agree; `weights[level]` says how much such a relative counts.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightedSupCon {
    /// What cosines are divided by.
    pub temperature: f64,
    /// The weight of each level, finest first; 1, 1/2, 1/4 for leaf, parent, grandparent.
    pub weights: Vec<f64>,
    /// What is averaged.
    pub averaging: Averaging,
}

impl WeightedSupCon {
    /// The loss of `embeddings`, `(rows, dim)`; `levels[l]` are the rows' labels at level `l`, finest first, one list a weight.
    pub fn forward(&self, embeddings: &Tensor, levels: &[&[u32]]) -> Result<Tensor, LossError> {
        let (rows, _) = matrix("embeddings", embeddings)?;
        crate::temperature::check(self.temperature)?;
        one_a_row("levels (one list a weight)", levels.len(), self.weights.len())?;
        for labels in levels {
            one_a_row("labels", labels.len(), rows)?;
        }
        for &weight in &self.weights {
            crate::not_negative("weight", weight)?;
        }
        let weights: Vec<Vec<f64>> = (0..rows)
            .map(|i| {
                let level = |j: usize| {
                    let related = |labels: &&[u32]| labels[i] == labels[j];
                    (i != j).then(|| levels.iter().position(related)).flatten()
                };
                let relation: Vec<Option<usize>> = (0..rows).map(level).collect();
                let mut mates = vec![0usize; levels.len()];
                relation.iter().flatten().for_each(|&level| mates[level] += 1);
                let share = |level: usize| match self.averaging {
                    Averaging::PerPair => self.weights[level],
                    Averaging::PerLevel => self.weights[level] / mates[level] as f64,
                };
                relation.iter().map(|r| r.map_or(0.0, share)).collect()
            })
            .collect();
        weighted_likelihood(embeddings, self.temperature, &weights)
    }
}

/// Regression of cosines on closeness in time: the mean over `i != j` of `(cos_ij - 2^(-|t_i - t_j| / half_life))^2`.
///
/// `embeddings` has shape `(rows, dim)` with at least two rows; `times` has one value a row, in the unit of `half_life`.
pub fn temporal_similarity(embeddings: &Tensor, times: &[f64], half_life: f64) -> Result<Tensor, LossError> {
    let (rows, _) = matrix("embeddings", embeddings)?;
    one_a_row("times", times.len(), rows)?;
    positive("half_life", half_life)?;
    if rows < 2 {
        return Err(LossError::Argument { name: "rows", got: rows as f64, expected: "at least 2" });
    }
    let z = normalize(embeddings)?;
    let wanted: Vec<f64> =
        times.iter().flat_map(|s| times.iter().map(move |t| (-(s - t).abs() / half_life).exp2())).collect();
    let wanted = constant(wanted, &[rows, rows], &z)?;
    let off = mask(rows, rows, &z, |i, j| i != j)?.to_dtype(z.dtype())?;
    let error = ((products(&z, &z)? - wanted)?.sqr()? * off)?;
    Ok((error.sum_all()? / (rows * (rows - 1)) as f64)?)
}
