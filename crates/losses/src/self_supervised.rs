//! Objectives that need no negatives or no labels at all: decorrelation, alignment, uniformity, diversity.

use candle_core::Tensor;

use crate::ops::{hinge, log_sum_exp, mask, masked, products, row_products, sqrt_above, widen};
use crate::{Distance, LossError, matrix, normalize, not_negative, positive, same_shape};

fn at_least_two_rows(x: &Tensor) -> Result<(usize, usize), LossError> {
    let (rows, dim) = matrix("embeddings", x)?;
    if rows < 2 {
        return Err(LossError::Argument { name: "rows", got: rows as f64, expected: "at least 2" });
    }
    Ok((rows, dim))
}

fn centred(x: &Tensor) -> Result<Tensor, LossError> {
    Ok(x.broadcast_sub(&x.mean_keepdim(0)?)?)
}

/// The sum of the squares off the diagonal of a square matrix.
fn off_diagonal(x: &Tensor) -> Result<Tensor, LossError> {
    let n = x.dim(0)?;
    let off = mask(n, n, x, |i, j| i != j)?.to_dtype(x.dtype())?;
    Ok((x.sqr()? * off)?.sum_all()?)
}

/// VICReg (Bardes, Ponce and LeCun 2022): views agree (invariance), every dimension keeps a spread (variance), dimensions don't repeat
/// each other (covariance).
///
/// `invariance mean (x - y)^2 + variance (v(x) + v(y)) / 2 + covariance (c(x) + c(y))` with `v = mean_d max(0, 1 - sqrt(Var_d + eps))`
/// and `c = sum_{d != e} Cov_de^2 / dim`; variances divide by `rows - 1`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VicReg {
    /// Weight of the agreement.
    pub invariance: f64,
    /// Weight of the spread.
    pub variance: f64,
    /// Weight of the decorrelation.
    pub covariance: f64,
    /// What is added to variances.
    pub epsilon: f64,
}

impl Default for VicReg {
    fn default() -> Self {
        Self { invariance: 25.0, variance: 25.0, covariance: 1.0, epsilon: 1e-4 }
    }
}

impl VicReg {
    /// The loss of two views, both `(rows, dim)` with at least two rows, not normalised.
    pub fn forward(&self, x: &Tensor, y: &Tensor) -> Result<Tensor, LossError> {
        same_shape(x, y, 2)?;
        let (rows, dim) = at_least_two_rows(x)?;
        positive("epsilon", self.epsilon)?;
        let (x, y) = (widen(x)?, widen(y)?);
        let agreement = (&x - &y)?.sqr()?.mean_all()?;
        let mut loss = (agreement * self.invariance)?;
        for view in [&x, &y] {
            let view = centred(view)?;
            let variance = (view.sqr()?.sum(0)? / (rows - 1) as f64)?;
            let short = hinge(&(1.0 - (variance + self.epsilon)?.sqrt()?)?)?.mean_all()?;
            let covariance = (view.t()?.matmul(&view)? / (rows - 1) as f64)?;
            let repeated = (off_diagonal(&covariance)? / dim as f64)?;
            loss = ((loss + (short * (0.5 * self.variance))?)? + (repeated * self.covariance)?)?;
        }
        Ok(loss)
    }
}

/// Barlow twins (Zbontar et al. 2021): the cross-correlation of two views, both standardised over the batch, should be the identity.
///
/// `sum_d (C_dd - 1)^2 + lambda sum_{d != e} C_de^2` with `C = x^T y / rows`; standardising divides by `sqrt(Var + epsilon)`, the variance
/// over `rows`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BarlowTwins {
    /// Weight of the off-diagonal part.
    pub lambda: f64,
    /// What is added to variances; a constant dimension costs 1.
    pub epsilon: f64,
}

impl Default for BarlowTwins {
    fn default() -> Self {
        Self { lambda: 0.0051, epsilon: 1e-5 }
    }
}

impl BarlowTwins {
    /// The loss of two views, both `(rows, dim)` with at least two rows.
    pub fn forward(&self, x: &Tensor, y: &Tensor) -> Result<Tensor, LossError> {
        same_shape(x, y, 2)?;
        let (rows, dim) = at_least_two_rows(x)?;
        not_negative("lambda", self.lambda)?;
        positive("epsilon", self.epsilon)?;
        let standard = |x: &Tensor| -> Result<Tensor, LossError> {
            let x = centred(&widen(x)?)?;
            let deviation = (x.sqr()?.mean_keepdim(0)? + self.epsilon)?.sqrt()?;
            Ok(x.broadcast_div(&deviation)?)
        };
        let correlation = (standard(x)?.t()?.matmul(&standard(y)?)? / rows as f64)?;
        let diagonal = Tensor::eye(dim, correlation.dtype(), correlation.device())?;
        let own = ((&correlation - 1.0)?.sqr()? * diagonal)?.sum_all()?;
        Ok((own + (off_diagonal(&correlation)? * self.lambda)?)?)
    }
}

/// Alignment (Wang and Isola 2020): the mean of `|n(x_i) - n(y_i)|^alpha` over rows, both `(rows, dim)`. Smaller is better.
pub fn alignment(x: &Tensor, y: &Tensor, alpha: f64) -> Result<Tensor, LossError> {
    same_shape(x, y, 2)?;
    positive("alpha", alpha)?;
    let square = Distance::SquaredEuclidean.paired(&normalize(x)?, &normalize(y)?)?;
    if alpha == 2.0 {
        return Ok(square.mean_all()?);
    }
    let apart = square.gt(1e-24)?;
    let powers = sqrt_above(&square, 1e-24)?.powf(alpha)?;
    Ok(apart.where_cond(&powers, &powers.zeros_like()?)?.mean_all()?)
}

/// Uniformity (Wang and Isola 2020): `ln mean_{i<j} exp(-t |n(x_i) - n(x_j)|^2)` over the pairs of rows, `(rows, dim)` with at least two.
///
/// 0 when all rows coincide; the uniform law on a sphere of many dimensions tends to `-2 t`. Smaller is more uniform.
pub fn uniformity(x: &Tensor, t: f64) -> Result<Tensor, LossError> {
    let (rows, _) = at_least_two_rows(x)?;
    positive("t", t)?;
    let z = normalize(x)?;
    let square = Distance::SquaredEuclidean.pairwise(&z, &z)?;
    let upper = mask(rows, rows, &z, |i, j| i < j)?;
    let logits = masked(&(square * -t)?, &upper)?;
    let sum = log_sum_exp(&logits.flatten_all()?)?;
    Ok((sum - ((rows * (rows - 1) / 2) as f64).ln())?)
}

/// Diversity as a penalty: the mean cosine of different rows, `(rows, dim)` with at least two. It can't fall below `-1 / (rows - 1)`.
pub fn diversity(x: &Tensor) -> Result<Tensor, LossError> {
    let (rows, _) = at_least_two_rows(x)?;
    let z = normalize(x)?;
    let all = products(&z, &z)?.sum_all()?;
    let own = row_products(&z, &z)?.sum_all()?;
    Ok(((all - own)? / (rows * (rows - 1)) as f64)?)
}

/// Agreement without normalisation: the mean of `(x - y)^2` over all values. Alone it is minimised by collapse.
pub fn mean_squared_difference(x: &Tensor, y: &Tensor) -> Result<Tensor, LossError> {
    same_shape(x, y, 2)?;
    Ok((widen(x)? - widen(y)?)?.sqr()?.mean_all()?)
}
