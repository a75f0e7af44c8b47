//! Losses that compare a row with one learned vector a class instead of with other rows.
//!
//! `embeddings` have shape `(rows, dim)`, `weights` (or proxies) `(classes, dim)`, labels one a row below `classes`. Both get
//! gradients.

use candle_core::Tensor;

use crate::metric::{sine, softmax_cross_entropy};
use crate::ops::{cross_entropy, log_sum_exp, mask, masked, products};
use crate::{Distance, LossError, matrix, normalize, one_a_row, positive};

/// The cosines of rows and classes, `(rows, classes)`, after checks.
fn class_cosines(embeddings: &Tensor, weights: &Tensor, labels: &[u32]) -> Result<Tensor, LossError> {
    check(embeddings, weights, labels)?;
    products(&normalize(embeddings)?, &normalize(weights)?)
}

fn check(embeddings: &Tensor, weights: &Tensor, labels: &[u32]) -> Result<(), LossError> {
    let (rows, dim) = matrix("embeddings", embeddings)?;
    let (classes, other) = matrix("weights", weights)?;
    if dim != other {
        return Err(LossError::Shape { left: embeddings.dims().to_vec(), right: weights.dims().to_vec() });
    }
    one_a_row("labels", labels.len(), rows)?;
    match labels.iter().position(|&l| l as usize >= classes) {
        None => Ok(()),
        Some(row) => Err(LossError::OutOfRange { what: "label", row, got: labels[row] as usize, limit: classes }),
    }
}

/// ArcFace (Deng et al. 2019): the softmax loss of `scale cos(theta)` with `margin` added to the angle of the true class.
///
/// Where the angle would pass 180 degrees the true class's cosine becomes `cos(theta) - margin sin(margin)`, which keeps the loss
/// falling with the cosine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ArcFace {
    /// The margin in radians.
    pub margin: f64,
    /// What the cosines are multiplied by.
    pub scale: f64,
}

impl Default for ArcFace {
    fn default() -> Self {
        Self { margin: 0.5, scale: 64.0 }
    }
}

impl ArcFace {
    /// The mean loss.
    pub fn forward(&self, embeddings: &Tensor, weights: &Tensor, labels: &[u32]) -> Result<Tensor, LossError> {
        positive("scale", self.scale)?;
        if !(0.0..std::f64::consts::PI).contains(&self.margin) {
            return Err(LossError::Argument { name: "margin", got: self.margin, expected: "in [0, pi) radians" });
        }
        let cosine = class_cosines(embeddings, weights, labels)?;
        let turned = ((&cosine * self.margin.cos())? - (sine(&cosine)? * self.margin.sin())?)?;
        let beyond = (&cosine - self.margin * self.margin.sin())?;
        let turned = cosine.ge(-self.margin.cos())?.where_cond(&turned, &beyond)?;
        margin_softmax(&cosine, &turned, labels, self.scale)
    }
}

/// CosFace (Wang et al. 2018): the softmax loss of `scale cos(theta)` with `margin` subtracted from the cosine of the true class.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CosFace {
    /// The margin.
    pub margin: f64,
    /// What the cosines are multiplied by.
    pub scale: f64,
}

impl Default for CosFace {
    fn default() -> Self {
        Self { margin: 0.35, scale: 64.0 }
    }
}

impl CosFace {
    /// The mean loss.
    pub fn forward(&self, embeddings: &Tensor, weights: &Tensor, labels: &[u32]) -> Result<Tensor, LossError> {
        positive("scale", self.scale)?;
        crate::not_negative("margin", self.margin)?;
        let cosine = class_cosines(embeddings, weights, labels)?;
        margin_softmax(&cosine, &(&cosine - self.margin)?, labels, self.scale)
    }
}

/// The softmax loss of cosines, with the true class's taken from `turned`.
fn margin_softmax(cosine: &Tensor, turned: &Tensor, labels: &[u32], scale: f64) -> Result<Tensor, LossError> {
    let (rows, classes) = cosine.dims2()?;
    let own = mask(rows, classes, cosine, |i, j| labels[i] as usize == j)?;
    softmax_cross_entropy(&(own.where_cond(turned, cosine)? * scale)?, labels)
}

/// Proxy-NCA: the mean of `-ln(exp(-scale d_y) / sum_c exp(-scale d_c))` with squared distances d of unit vectors.
///
/// In the paper (Movshovitz-Attias et al. 2017) the sum leaves the row's own class out; ProxyNCA++ (Teh et al. 2020) and
/// pytorch-metric-learning keep it, which makes it a softmax.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProxyNca {
    /// What the squared distances are multiplied by.
    pub scale: f64,
    /// Whether the sum runs over the row's own class too.
    pub own_in_sum: bool,
}

impl Default for ProxyNca {
    fn default() -> Self {
        Self { scale: 1.0, own_in_sum: true }
    }
}

impl ProxyNca {
    /// The mean loss; without the own class in the sum there must be two classes.
    pub fn forward(&self, embeddings: &Tensor, proxies: &Tensor, labels: &[u32]) -> Result<Tensor, LossError> {
        positive("scale", self.scale)?;
        check(embeddings, proxies, labels)?;
        let distances = Distance::SquaredEuclidean.pairwise(&normalize(embeddings)?, &normalize(proxies)?)?;
        let logits = (distances * -self.scale)?;
        if self.own_in_sum {
            return Ok(cross_entropy(&logits, labels)?.mean_all()?);
        }
        let (rows, classes) = logits.dims2()?;
        if classes < 2 {
            return Err(LossError::Argument { name: "classes", got: classes as f64, expected: "at least 2" });
        }
        let other = mask(rows, classes, &logits, |i, j| labels[i] as usize != j)?;
        let index = Tensor::from_slice(labels, (rows, 1), logits.device())?;
        let own = logits.gather(&index, 1)?.squeeze(1)?;
        Ok((log_sum_exp(&masked(&logits, &other)?)? - own)?.mean_all()?)
    }
}
