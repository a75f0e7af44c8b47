//! How far two rows are apart.

use candle_core::{D, DType, Tensor};

use crate::ops::{row_products, sqrt_above, widen};
use crate::{LossError, matrix};

/// Below this length a row has no direction.
const SHORTEST: f64 = 1e-12;

/// The rows of `x` divided by their lengths, `n(x) = x / max(|x|, 1e-12)` along the last axis; any rank.
///
/// A row shorter than 1e-12 has no direction: its value stays (nearly) zero and its gradient is zero instead of exploding.
///
/// ```
/// use candle_core::{Device, Tensor};
///
/// let x = Tensor::new(&[[3.0f64, 4.0], [0.0, 0.0]], &Device::Cpu)?;
/// assert_eq!(eas_losses::normalize(&x)?.to_vec2::<f64>()?, [[0.6, 0.8], [0.0, 0.0]]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn normalize(x: &Tensor) -> Result<Tensor, LossError> {
    let x = widen(x)?;
    let square = x.sqr()?.sum_keepdim(D::Minus1)?;
    let long = square.gt(SHORTEST * SHORTEST)?;
    let length = sqrt_above(&square, SHORTEST * SHORTEST)?;
    let unit = x.broadcast_div(&length)?;
    Ok(long.broadcast_as(unit.shape())?.where_cond(&unit, &unit.detach())?)
}

/// The distance between two rows; smaller is more alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distance {
    /// `|x - y|`; its gradient at coincidence is zero.
    Euclidean,
    /// `|x - y|^2`.
    SquaredEuclidean,
    /// `1 - cos(x, y)`, of rows of any length.
    Cosine,
}

impl Distance {
    /// The distance of each row of `a` to the same row of `b`; both `(..., dim)` (or shapes that broadcast), result `(...)`.
    pub fn paired(self, a: &Tensor, b: &Tensor) -> Result<Tensor, LossError> {
        let (a, b) = (widen(a)?, widen(b)?);
        match self {
            Self::Cosine => {
                let product = normalize(&a)?.broadcast_mul(&normalize(&b)?)?.sum(D::Minus1)?;
                Ok((1.0 - product)?)
            }
            Self::SquaredEuclidean => Ok(a.broadcast_sub(&b)?.sqr()?.sum(D::Minus1)?),
            Self::Euclidean => root(&Self::SquaredEuclidean.paired(&a, &b)?),
        }
    }

    /// The distances of all rows of `a`, `(n, dim)`, to all rows of `b`, `(m, dim)`; shape `(n, m)`.
    ///
    /// Euclidean distances are sums of squared differences as long as those fit 128 MiB; beyond, they come from the products of the
    /// rows, which costs digits where two rows nearly coincide.
    pub fn pairwise(self, a: &Tensor, b: &Tensor) -> Result<Tensor, LossError> {
        let (n, dim) = matrix("a", a)?;
        let (m, other) = matrix("b", b)?;
        if dim != other {
            return Err(LossError::Shape { left: a.dims().to_vec(), right: b.dims().to_vec() });
        }
        let (a, b) = (widen(a)?, widen(b)?);
        match self {
            Self::Cosine => Ok((1.0 - normalize(&a)?.matmul(&normalize(&b)?.t()?)?)?),
            Self::SquaredEuclidean if n * m * dim <= 1 << 24 => self.paired(&a.unsqueeze(1)?, &b.unsqueeze(0)?),
            Self::SquaredEuclidean => {
                let left = row_products(&a, &a)?.unsqueeze(1)?;
                let right = row_products(&b, &b)?.unsqueeze(0)?;
                let square = (left.broadcast_add(&right)? - (a.matmul(&b.t()?)? * 2.0)?)?;
                crate::ops::hinge(&square)
            }
            Self::Euclidean => root(&Self::SquaredEuclidean.pairwise(&a, &b)?),
        }
    }
}

/// The root of squared distances: exact 0, with gradient 0, where they vanish.
fn root(square: &Tensor) -> Result<Tensor, LossError> {
    let floor = if square.dtype() == DType::F64 { 1e-24 } else { 1e-14 };
    let apart = square.gt(floor)?;
    let root = sqrt_above(square, floor)?;
    Ok(apart.where_cond(&root, &root.zeros_like()?)?)
}
