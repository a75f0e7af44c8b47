//! Dropout whose mask can be drawn again.

use candle_core::{DType, Tensor};

use crate::{Mode, NnError};

/// Sets each value to 0 with probability `p` and scales the others by `1 / (1 - p)` (Srivastava et al. 2014); the identity while scoring.
///
/// Candle's own dropout draws from a generator that can't be seeded on a CPU. Here the mask is a function of the layer's name and the
/// pass ([`Mode::train`]), so that recomputing a segment or resuming a run meets the same one.
#[derive(Debug, Clone, PartialEq)]
pub struct Dropout {
    name: String,
    p: f64,
}

impl Dropout {
    /// A layer that drops with probability `p`, at least 0 and below 1; `name` selects its stream.
    pub fn new(name: &str, p: f64) -> Result<Self, NnError> {
        if !(0.0..1.0).contains(&p) {
            return Err(NnError::Argument {
                name: "dropout probability",
                got: p.to_string(),
                expected: "at least 0 and below 1".to_owned(),
            });
        }
        Ok(Self { name: name.to_owned(), p })
    }

    /// The probability.
    pub fn probability(&self) -> f64 {
        self.p
    }

    /// `x` of any shape.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor, NnError> {
        let Some(mask) = self.mask(x.elem_count(), mode) else {
            return Ok(x.clone());
        };
        let mask = Tensor::from_vec(mask, x.dims(), x.device())?;
        Ok((x * if x.dtype() == DType::F32 { mask } else { mask.to_dtype(x.dtype())? })?)
    }

    /// What `count` values are multiplied with in a pass; `None` where nothing is dropped.
    pub(crate) fn mask(&self, count: usize, mode: Mode) -> Option<Vec<f32>> {
        let mut rng = mode.draws(&self.name).filter(|_| self.p > 0.0)?;
        let kept = (1.0 / (1.0 - self.p)) as f32;
        Some((0..count).map(|_| if rng.chance(self.p) { 0.0 } else { kept }).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn a_mask_has_the_stated_share_keeps_the_mean_and_can_be_drawn_again() {
        let x = Tensor::ones((100, 200), DType::F32, &Device::Cpu).unwrap();
        let dropout = Dropout::new("layer", 0.3).unwrap();
        let values = |mode| dropout.forward(&x, mode).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let first = values(Mode::train(1, 5));
        let zeros = first.iter().filter(|&&v| v == 0.0).count() as f64 / first.len() as f64;
        // 20,000 draws: the standard deviation of the share is 0.0032.
        assert!((zeros - 0.3).abs() < 0.015, "{zeros}");
        assert!(first.iter().all(|&v| v == 0.0 || (v - 1.0 / 0.7).abs() < 1e-6));
        assert_eq!(first, values(Mode::train(1, 5).replayed()));
        assert_ne!(first, values(Mode::train(1, 6)));
        assert_ne!(first, values(Mode::train(2, 5)));
        assert_eq!(values(Mode::EVAL), vec![1.0; 20_000]);
        let other = Dropout::new("other", 0.3).unwrap();
        let theirs = other.forward(&x, Mode::train(1, 5)).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_ne!(first, theirs, "each layer has its own stream");
    }

    #[test]
    fn impossible_probabilities_are_refused() {
        for p in [-0.1, 1.0, f64::NAN] {
            assert!(Dropout::new("layer", p).is_err(), "{p}");
        }
        assert!(Dropout::new("layer", 0.0).is_ok());
    }
}
