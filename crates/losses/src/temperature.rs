//! The temperature of a softmax loss: what it does to one row, how to choose it, how to learn it.

use candle_core::{DType, Device, Tensor, Var};

use crate::LossError;

/// The smallest temperature that losses take: cosines divided by it are at most a million, which f32 still tells apart.
pub const SMALLEST: f64 = 1e-6;

/// Checks a temperature.
pub(crate) fn check(got: f64) -> Result<(), LossError> {
    if got >= SMALLEST && got.is_finite() {
        return Ok(());
    }
    Err(LossError::Argument { name: "temperature", got, expected: "finite and at least 1e-6" })
}

/// One row of similarities at one temperature. The first similarity is the positive's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TemperatureProfile {
    /// The temperature.
    pub temperature: f64,
    /// The positive's probability.
    pub positive_probability: f64,
    /// `-ln` of it.
    pub loss: f64,
    /// The entropy of all candidates, in nats.
    pub entropy: f64,
    /// `exp` of the entropy of the negatives among themselves: as if so many equal ones were left.
    pub effective_negatives: f64,
    /// The hardest negative's share of the negatives' probability.
    pub hardest_share: f64,
    /// The derivative of the loss by the positive's similarity, `-(1 - p) / temperature`.
    pub positive_gradient: f64,
}

/// The profiles of a row of similarities (positive first, at least one negative) at several temperatures.
///
/// ```
/// let row = eas_losses::temperature::profile(&[0.8, 0.3, 0.25], &[0.1])?[0];
/// assert!((row.loss - 0.010_768).abs() < 1e-5);
/// # Ok::<(), eas_losses::LossError>(())
/// ```
pub fn profile(similarities: &[f64], temperatures: &[f64]) -> Result<Vec<TemperatureProfile>, LossError> {
    if similarities.len() < 2 {
        return Err(LossError::Empty(vec![similarities.len()]));
    }
    temperatures
        .iter()
        .map(|&temperature| {
            check(temperature)?;
            // Relative to the positive, so that a loss near zero keeps its digits.
            let logits: Vec<f64> = similarities.iter().map(|s| (s - similarities[0]) / temperature).collect();
            let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = logits.iter().map(|l| (l - largest).exp()).collect();
            let negatives: f64 = weights[1..].iter().sum();
            let total = weights[0] + negatives;
            let entropy = |weights: &[f64], total: f64| -> f64 {
                let shares = weights.iter().map(|w| w / total).filter(|&p| p > 0.0);
                shares.map(|p| -p * p.ln()).sum()
            };
            let hardest = weights[1..].iter().copied().fold(0.0, f64::max);
            let loss = if largest == 0.0 { negatives.ln_1p() } else { total.ln() + largest };
            Ok(TemperatureProfile {
                temperature,
                positive_probability: weights[0] / total,
                loss,
                entropy: entropy(&weights, total),
                effective_negatives: entropy(&weights[1..], negatives).exp(),
                hardest_share: hardest / negatives,
                positive_gradient: -(negatives / total) / temperature,
            })
        })
        .collect()
}

/// How clean the pairs are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quality {
    /// Curated.
    High,
    /// The usual mix.
    Medium,
    /// Noisy.
    Low,
}

/// A temperature to start from: large clean batches bear a sharp softmax, small or noisy ones don't.
pub fn recommend(batch_size: usize, quality: Quality) -> f64 {
    match (batch_size, quality) {
        (4096.., Quality::High) => 0.03,
        (4096.., _) | (1024.., Quality::High) => 0.05,
        (256.., _) => 0.07,
        (64.., Quality::Low) => 0.15,
        (64.., _) => 0.1,
        _ => 0.2,
    }
}

/// A temperature that is trained with the encoder (Radford et al. 2021): the parameter is `ln(1 / temperature)`, and the scale
/// `1 / temperature` is kept at most 100.
#[derive(Debug, Clone)]
pub struct LearnableTemperature {
    log_scale: Var,
}

impl LearnableTemperature {
    /// The largest scale.
    pub const LARGEST_SCALE: f64 = 100.0;

    /// Starts at `temperature` (0.07 in the paper).
    pub fn new(temperature: f64, dtype: DType, device: &Device) -> Result<Self, LossError> {
        check(temperature)?;
        let value = Tensor::new((1.0 / temperature).ln(), device)?.to_dtype(dtype)?;
        Ok(Self { log_scale: Var::from_tensor(&value)? })
    }

    /// The same over a parameter that a model holds already: a scalar, `ln(1 / temperature)`.
    pub fn from_var(log_scale: Var) -> Result<Self, LossError> {
        if log_scale.rank() != 0 {
            return Err(LossError::Operand {
                what: "log_scale",
                expected: "()".to_owned(),
                got: log_scale.dims().to_vec(),
            });
        }
        Ok(Self { log_scale })
    }

    /// The parameter, for the optimizer.
    pub fn var(&self) -> &Var {
        &self.log_scale
    }

    /// The scale, a scalar tensor that carries the gradient; beyond the largest scale the gradient is zero.
    pub fn scale(&self) -> Result<Tensor, LossError> {
        Ok(self.log_scale.exp()?.minimum(Self::LARGEST_SCALE)?)
    }

    /// Similarities times the scale: the logits of a softmax loss (whose own temperature is then 1).
    pub fn logits(&self, similarities: &Tensor) -> Result<Tensor, LossError> {
        Ok(similarities.broadcast_mul(&self.scale()?)?)
    }

    /// The temperature as a number.
    pub fn temperature(&self) -> Result<f64, LossError> {
        Ok(1.0 / crate::ops::to_number(&self.scale()?)?)
    }
}
