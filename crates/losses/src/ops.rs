//! Numerics that the objectives share: each has a finite value and a finite gradient wherever its argument is finite.

use candle_core::{D, DType, Device, Tensor};

use crate::LossError;

/// What a masked logit becomes: its exponential is 0 beside any real logit, and, unlike minus infinity, a row in which everything is
/// masked still has a number for its sum.
const MASKED: f64 = -1e30;

/// Half precision becomes f32; f32 and f64 stay.
pub(crate) fn widen(x: &Tensor) -> Result<Tensor, LossError> {
    Ok(match x.dtype() {
        DType::F16 | DType::BF16 => x.to_dtype(DType::F32)?,
        _ => x.clone(),
    })
}

/// A constant like `x`: its type, its device, and no gradient.
pub(crate) fn constant(values: Vec<f64>, shape: &[usize], like: &Tensor) -> Result<Tensor, LossError> {
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(like.dtype())?.to_device(like.device())?)
}

/// Zero, with a zero gradient for `x`.
pub(crate) fn zero_of(x: &Tensor) -> Result<Tensor, LossError> {
    Ok((x * x.zeros_like()?)?.sum_all()?)
}

/// `max(0, x)`, whose gradient at 0 is 0.
pub(crate) fn hinge(x: &Tensor) -> Result<Tensor, LossError> {
    Ok((x * x.gt(0.0)?.to_dtype(x.dtype())?)?)
}

/// `ln(1 + exp(x))` without overflow: `max(x, 0) + ln(1 + exp(-|x|))`.
pub(crate) fn softplus(x: &Tensor) -> Result<Tensor, LossError> {
    Ok((x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?)?)
}

/// The square root, with a zero gradient where `x <= floor` (and there the value `sqrt(floor)`).
pub(crate) fn sqrt_above(x: &Tensor, floor: f64) -> Result<Tensor, LossError> {
    let above = x.gt(floor)?;
    let floor = x.ones_like()?.affine(floor, 0.0)?;
    Ok(above.where_cond(x, &floor)?.sqrt()?)
}

/// Keeps the logits where `keep` (u8, same shape) is 1.
pub(crate) fn masked(logits: &Tensor, keep: &Tensor) -> Result<Tensor, LossError> {
    let nothing = logits.ones_like()?.affine(MASKED, 0.0)?;
    Ok(keep.where_cond(logits, &nothing)?)
}

/// `ln sum_j exp(x_ij)` over the last axis, which disappears.
pub(crate) fn log_sum_exp(x: &Tensor) -> Result<Tensor, LossError> {
    let largest = x.detach().max_keepdim(D::Minus1)?;
    let sum = x.broadcast_sub(&largest)?.exp()?.sum_keepdim(D::Minus1)?;
    Ok((sum.log()? + largest)?.squeeze(D::Minus1)?)
}

/// `ln(1 + sum_j exp(x_ij))` over the last axis.
pub(crate) fn log_one_plus_sum_exp(x: &Tensor) -> Result<Tensor, LossError> {
    let mut one = x.dims().to_vec();
    if let Some(last) = one.last_mut() {
        *last = 1;
    }
    let one = Tensor::zeros(one, x.dtype(), x.device())?;
    log_sum_exp(&Tensor::cat(&[&one, x], D::Minus1)?)
}

/// The cross-entropy of each row of `logits`, shape `(rows, classes)`, with its target; shape `(rows,)`.
///
/// The target's logit is subtracted before the exponentials, so that a loss near zero keeps its digits.
pub(crate) fn cross_entropy(logits: &Tensor, targets: &[u32]) -> Result<Tensor, LossError> {
    let targets = Tensor::from_slice(targets, (targets.len(), 1), logits.device())?;
    let own = logits.contiguous()?.gather(&targets, 1)?;
    log_sum_exp(&logits.broadcast_sub(&own)?)
}

/// The products of all rows of `a` with all rows of `b`: `(n, dim)` and `(m, dim)` give `(n, m)`.
pub(crate) fn products(a: &Tensor, b: &Tensor) -> Result<Tensor, LossError> {
    Ok(a.matmul(&b.t()?)?)
}

/// The products of equal rows: `(n, dim)` twice gives `(n,)`.
pub(crate) fn row_products(a: &Tensor, b: &Tensor) -> Result<Tensor, LossError> {
    Ok((a * b)?.sum(D::Minus1)?)
}

/// A 0/1 mask on the device of `like`, for [`masked`]; `keep(i, j)` decides.
pub(crate) fn mask(
    rows: usize,
    columns: usize,
    like: &Tensor,
    keep: impl Fn(usize, usize) -> bool,
) -> Result<Tensor, LossError> {
    let values: Vec<u8> = (0..rows * columns).map(|at| u8::from(keep(at / columns, at % columns))).collect();
    Ok(Tensor::from_vec(values, (rows, columns), like.device())?)
}

/// The numbers of a matrix, row by row, in f64.
pub(crate) fn to_rows(x: &Tensor) -> Result<Vec<Vec<f64>>, LossError> {
    Ok(x.to_dtype(DType::F64)?.to_vec2()?)
}

/// The number of a scalar, in f64.
pub(crate) fn to_number(x: &Tensor) -> Result<f64, LossError> {
    Ok(x.to_dtype(DType::F64)?.to_scalar()?)
}

/// The numbers of a vector, in f64.
pub(crate) fn to_numbers(x: &Tensor) -> Result<Vec<f64>, LossError> {
    Ok(x.to_dtype(DType::F64)?.to_vec1()?)
}

/// The mean of numbers; 0 of none.
pub(crate) fn mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let (mut sum, mut count) = (0.0, 0usize);
    for value in values {
        sum += value;
        count += 1;
    }
    if count == 0 { 0.0 } else { sum / count as f64 }
}

/// The largest or smallest of `values` and `start`, in 16 lanes that the compiler turns into vector code.
pub(crate) fn extreme(values: &[f32], pick: fn(f32, f32) -> f32, start: f32) -> f32 {
    let (chunks, rest) = values.as_chunks::<16>();
    let mut lanes = [start; 16];
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = pick(*lane, x);
        }
    }
    rest.iter().chain(&lanes).copied().fold(start, pick)
}
