//! Mixed precision: half-precision matrix products over weights kept in f32, and the loss scaling that f16 needs
//! (Micikevicius et al., "Mixed Precision Training", ICLR 2018).
//!
//! The trained tensors stay f32: they are the master copy. A pass in [`Precision::Bf16`] or [`Precision::F16`] rounds the weights and the
//! activations where they enter a matrix product, multiplies in that type, and goes on in f32: biases, normalisation, softmax, the loss
//! and the optimizer never see halves. Gradients pass through the same casts, so what underflows or overflows in f16 does so here.
//!
//! On a GPU the products run on tensor cores. A CPU has none: candle widens the halves, multiplies in f32 and rounds the result, so
//! the numbers are those of half precision but nothing gets faster, and the rounding itself costs time.

use candle_core::{DType, Tensor};

use crate::NnError;
use crate::gradients::Gradients;

/// The type in which matrix products run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// 24 bits of precision, range to 3.4e38.
    #[default]
    F32,
    /// 8 bits of precision, the range of f32: no loss scaling needed.
    Bf16,
    /// 11 bits of precision, largest value 65,504, smallest 5.96e-8: needs a [`GradScaler`].
    F16,
}

impl Precision {
    /// The element type.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
            Self::F16 => DType::F16,
        }
    }

    /// `x` rounded to this precision, in its own type again. The gradient is rounded too.
    pub fn round(self, x: &Tensor) -> Result<Tensor, NnError> {
        if self == Self::F32 {
            return Ok(x.clone());
        }
        Ok(x.to_dtype(self.dtype())?.to_dtype(x.dtype())?)
    }

    /// The product of `a` and `b` in this precision, in the type of `a`.
    pub fn matmul(self, a: &Tensor, b: &Tensor) -> Result<Tensor, NnError> {
        if self == Self::F32 {
            return Ok(a.matmul(b)?);
        }
        let product = a.to_dtype(self.dtype())?.matmul(&b.to_dtype(self.dtype())?)?;
        Ok(product.to_dtype(a.dtype())?)
    }
}

/// Dynamic loss scaling: the loss is multiplied by a scale before the backward pass so that small gradients survive f16, and the
/// gradients are divided by it afterwards. A step with a gradient that isn't finite is skipped and the scale shrinks; after `interval`
/// good steps in a row it grows.
///
/// ```
/// use eas_nn::amp::GradScaler;
///
/// let mut scaler = GradScaler { interval: 3, ..GradScaler::default() };
/// let finite = [true, false, true, true, true, false, true, true, true, true];
/// let scales: Vec<f64> = finite.iter().map(|&f| { scaler.update(f); scaler.scale }).collect();
/// let (s, h) = (65536.0, 32768.0);
/// assert_eq!(scales, [s, h, h, h, s, h, h, h, s, s]);
/// assert_eq!(scaler.skipped, 2);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GradScaler {
    /// The present scale, 65,536 at the start.
    pub scale: f64,
    /// What the scale is multiplied by when it grows: 2.
    pub growth: f64,
    /// What the scale is multiplied by after a skipped step: 0.5.
    pub backoff: f64,
    /// Good steps in a row until it grows: 2,000.
    pub interval: u64,
    /// Good steps since the scale last changed.
    pub good: u64,
    /// Steps skipped so far.
    pub skipped: u64,
}

impl Default for GradScaler {
    fn default() -> Self {
        Self { scale: 65_536.0, growth: 2.0, backoff: 0.5, interval: 2_000, good: 0, skipped: 0 }
    }
}

impl GradScaler {
    /// An error unless the scale is positive, `growth >= 1`, `0 < backoff < 1` and `interval >= 1`.
    pub fn check(&self) -> Result<(), NnError> {
        let fine = self.scale > 0.0
            && self.scale.is_finite()
            && self.growth >= 1.0
            && self.growth.is_finite()
            && self.backoff > 0.0
            && self.backoff < 1.0
            && self.interval > 0;
        if fine {
            return Ok(());
        }
        Err(NnError::Argument {
            name: "gradient scaler",
            got: format!("{self:?}"),
            expected: "a positive scale, growth of at least 1, backoff between 0 and 1, an interval of at least 1"
                .to_owned(),
        })
    }

    /// The loss to differentiate.
    pub fn scaled(&self, loss: &Tensor) -> Result<Tensor, NnError> {
        Ok((loss * self.scale)?)
    }

    /// Divides by the scale; false when a value isn't finite, and then the step has to be skipped.
    pub fn unscale(&self, gradients: &mut Gradients) -> Result<bool, NnError> {
        gradients.scale(1.0 / self.scale)?;
        Ok(gradients.first_not_finite()?.is_none())
    }

    /// Takes in whether the step's gradients were finite.
    pub fn update(&mut self, finite: bool) {
        if !finite {
            self.scale *= self.backoff;
            self.good = 0;
            self.skipped += 1;
            return;
        }
        self.good += 1;
        if self.good == self.interval {
            self.scale *= self.growth;
            self.good = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::Parameters;
    use candle_core::Device;

    fn values(x: &Tensor) -> Vec<f32> {
        x.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn rounding_is_that_of_the_formats() {
        let x = Tensor::new(&[1.0f32, 1.0 + 2f32.powi(-9), 65_520.0, 1e-8, 5.960_5e-8], &Device::Cpu).unwrap();
        assert_eq!(values(&Precision::F32.round(&x).unwrap()), values(&x));
        let halves = values(&Precision::F16.round(&x).unwrap());
        assert_eq!(halves[..4], [1.0, 1.0 + 2f32.powi(-9), f32::INFINITY, 0.0]);
        assert_eq!(halves[4], 2f32.powi(-24), "the smallest f16");
        let brain = values(&Precision::Bf16.round(&x).unwrap());
        assert_eq!(brain[..3], [1.0, 1.0, 65_536.0]);
        assert!(brain[3] > 9.9e-9);
    }

    #[test]
    fn a_gradient_of_1e_8_dies_in_f16_and_survives_scaling() {
        let mut params = Parameters::new(1, &Device::Cpu);
        let weight = params.constant("weight", &[1], 1.0).unwrap();
        let loss = (Precision::F16.round(&weight).unwrap() * 1e-8).unwrap().sum_all().unwrap();
        let plain = Gradients::of(&loss, &params).unwrap();
        assert_eq!(values(plain.get("weight").unwrap()), [0.0]);
        let scaler = GradScaler::default();
        let mut scaled = Gradients::of(&scaler.scaled(&loss).unwrap(), &params).unwrap();
        assert!(scaler.unscale(&mut scaled).unwrap());
        let gradient = values(scaled.get("weight").unwrap())[0];
        assert!((gradient - 1e-8).abs() < 1e-11, "{gradient}");
    }

    #[test]
    fn an_overflow_is_seen_by_the_scaler() {
        let mut params = Parameters::new(1, &Device::Cpu);
        let weight = params.constant("weight", &[1], 1.0).unwrap();
        let loss = (Precision::F16.round(&weight).unwrap() * 2.0).unwrap().sum_all().unwrap();
        let scaler = GradScaler::default();
        let mut gradients = Gradients::of(&scaler.scaled(&loss).unwrap(), &params).unwrap();
        assert!(!scaler.unscale(&mut gradients).unwrap());
        assert_eq!(gradients.first_not_finite().unwrap().unwrap().0, "weight");
    }

    #[test]
    fn a_product_in_half_precision_rounds_operands_and_result() {
        let a = Tensor::new(&[[1.0f32 + 2f32.powi(-9), 3.0], [0.1, -2.0]], &Device::Cpu).unwrap();
        let b = Tensor::new(&[[0.3f32], [0.7]], &Device::Cpu).unwrap();
        for precision in [Precision::Bf16, Precision::F16] {
            let round = |x: &Tensor| precision.round(x).unwrap();
            let expected = round(&round(&a).matmul(&round(&b)).unwrap());
            assert_eq!(values(&precision.matmul(&a, &b).unwrap()), values(&expected));
        }
        let product = Precision::F32.matmul(&a, &b).unwrap();
        assert_eq!(values(&product), values(&a.matmul(&b).unwrap()));
    }

    #[test]
    fn impossible_scalers_are_refused() {
        let good = GradScaler::default();
        assert!(good.check().is_ok());
        for bad in [
            GradScaler { scale: 0.0, ..good },
            GradScaler { scale: f64::NAN, ..good },
            GradScaler { growth: 0.5, ..good },
            GradScaler { backoff: 1.0, ..good },
            GradScaler { interval: 0, ..good },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }
}
