//! Alignment and uniformity of embeddings as numbers, followed through training; the differentiable forms are in
//! [`self_supervised`](crate::self_supervised).

use eas_tensor::{Matrix, TensorError, gemm};

use crate::{LossError, positive};

/// Rows whose products are held at a time.
const BLOCK: usize = 512;

fn unit(x: &Matrix) -> Result<Matrix, LossError> {
    if x.is_empty() {
        return Err(LossError::Empty(vec![x.rows(), x.dim()]));
    }
    x.check_finite()?;
    let mut unit = x.clone();
    unit.normalize_rows();
    Ok(unit)
}

/// The mean of `|n(x_i) - n(y_i)|^alpha` over rows (Wang and Isola 2020).
pub fn alignment(x: &Matrix, y: &Matrix, alpha: f64) -> Result<f64, LossError> {
    positive("alpha", alpha)?;
    if x.rows() != y.rows() || x.dim() != y.dim() {
        return Err(LossError::Shape { left: vec![x.rows(), x.dim()], right: vec![y.rows(), y.dim()] });
    }
    let (x, y) = (unit(x)?, unit(y)?);
    let powers = x
        .iter_rows()
        .zip(y.iter_rows())
        .map(|(a, b)| f64::from(eas_tensor::kernels::squared_l2(a, b)).powf(alpha / 2.0));
    Ok(crate::ops::mean(powers))
}

/// `ln mean_{i<j} exp(-t |n(x_i) - n(x_j)|^2)` over the pairs of rows (Wang and Isola 2020), in blocks: memory grows with the rows, not
/// with their pairs.
pub fn uniformity(x: &Matrix, t: f64) -> Result<f64, LossError> {
    positive("t", t)?;
    let x = unit(x)?;
    let n = x.rows();
    if n < 2 {
        return Err(
            TensorError::Argument { name: "rows", got: n.to_string(), expected: "at least 2".to_owned() }.into()
        );
    }
    let mut sum = 0.0;
    for from in (0..n).step_by(BLOCK) {
        let rows: Vec<usize> = (from..n.min(from + BLOCK)).collect();
        let products = gemm::matmul_transposed(&x.select(&rows), &x)?;
        for (row, &i) in products.iter_rows().zip(&rows) {
            for &product in &row[i + 1..] {
                sum += (-t * (2.0 - 2.0 * f64::from(product)).max(0.0)).exp();
            }
        }
    }
    Ok((sum / (n * (n - 1) / 2) as f64).ln())
}

/// Whether training spreads the embeddings or lets them fall together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Uniformity is within 0.3 of its best value so far.
    Healthy,
    /// Uniformity rose by more than 0.3 over its best value so far.
    Collapsing,
}

/// One epoch of an [`AlignmentUniformityTracker`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AlignmentUniformity {
    /// The epoch.
    pub epoch: usize,
    /// Alignment with alpha = 2.
    pub alignment: f64,
    /// Uniformity with t = 2, the mean of the two views' (never of their union, in which good alignment would look like clumping).
    pub uniformity: f64,
    /// The verdict.
    pub verdict: Verdict,
}

/// Follows alignment and uniformity through training: a collapse shows here before the loss or a label does.
#[derive(Debug, Clone, Default)]
pub struct AlignmentUniformityTracker {
    rows: Vec<AlignmentUniformity>,
}

impl AlignmentUniformityTracker {
    /// No epochs yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Measures the two views of an epoch, both `(rows, dim)`.
    pub fn push(&mut self, epoch: usize, x: &Matrix, y: &Matrix) -> Result<AlignmentUniformity, LossError> {
        let uniformity = f64::midpoint(uniformity(x, 2.0)?, uniformity(y, 2.0)?);
        let best = self.rows.iter().map(|row| row.uniformity).fold(uniformity, f64::min);
        let row = AlignmentUniformity {
            epoch,
            alignment: alignment(x, y, 2.0)?,
            uniformity,
            verdict: if uniformity - best > 0.3 { Verdict::Collapsing } else { Verdict::Healthy },
        };
        self.rows.push(row);
        Ok(row)
    }

    /// What was measured so far.
    pub fn rows(&self) -> &[AlignmentUniformity] {
        &self.rows
    }
}
