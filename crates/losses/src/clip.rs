//! The loss of two modalities in one space, with a temperature that is learned.

use std::collections::BTreeMap;

use candle_core::Tensor;

use crate::temperature::LearnableTemperature;
use crate::{LossError, info_nce, normalize, one_a_row, same_shape};

/// CLIP's loss (Radford et al. 2021): each picture must find its text, each text its picture, at a learned scale of their cosines.
///
/// ```
/// use candle_core::{DType, Device};
/// use eas_losses::{clip::Clip, fixtures, temperature::LearnableTemperature};
///
/// let t = fixtures::tiny(DType::F64, &Device::Cpu)?;
/// let clip = Clip::new(LearnableTemperature::new(0.07, DType::F64, &Device::Cpu)?);
/// let loss = clip.forward(&t.anchors, &t.positives, &[0, 1, 2, 3])?.to_scalar::<f64>()?;
/// assert!((loss - 0.0101004149).abs() < 1e-9);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Clip {
    temperature: LearnableTemperature,
}

impl Clip {
    /// The loss at this temperature, whose parameter belongs to the model.
    pub fn new(temperature: LearnableTemperature) -> Self {
        Self { temperature }
    }

    /// The temperature.
    pub fn temperature(&self) -> &LearnableTemperature {
        &self.temperature
    }

    /// The loss of `images` and `texts`, both `(batch, dim)` of any length, whose row `i` belong together. `captions` says which text each
    /// row has; a text that occurs twice is an error, because the diagonal would call one of its pictures wrong.
    pub fn forward(&self, images: &Tensor, texts: &Tensor, captions: &[u32]) -> Result<Tensor, LossError> {
        same_shape(images, texts, 2)?;
        one_a_row("captions", captions.len(), images.dim(0)?)?;
        let mut seen = BTreeMap::new();
        for (row, caption) in captions.iter().enumerate() {
            if let Some(first) = seen.insert(caption, row) {
                return Err(LossError::Name(format!("rows {first} and {row} have one caption, {caption}")));
            }
        }
        let scaled = self.temperature.logits(&normalize(images)?)?;
        info_nce(&scaled, &normalize(texts)?, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{InfoNce, Negatives, fixtures};
    use candle_core::{DType, Device};

    fn number(x: &Tensor) -> f64 {
        x.to_scalar().unwrap()
    }

    fn clip(temperature: f64) -> Clip {
        Clip::new(LearnableTemperature::new(temperature, DType::F64, &Device::Cpu).unwrap())
    }

    #[test]
    fn it_is_symmetric_info_nce() {
        let t = fixtures::tiny(DType::F64, &Device::Cpu).unwrap();
        for (temperature, known) in [(0.05, 0.0018319857), (0.1, 0.0374580772), (1.0, 0.8838090702)] {
            let there = number(&clip(temperature).forward(&t.anchors, &t.positives, &[5, 3, 2, 9]).unwrap());
            let back = number(&clip(temperature).forward(&t.positives, &t.anchors, &[0, 1, 2, 3]).unwrap());
            assert!((there - known).abs() < 1e-9 && (there - back).abs() < 1e-12);
            let fixed = InfoNce::symmetric(temperature).forward(&t.anchors, &t.positives, Negatives::InBatch).unwrap();
            assert!((there - number(&fixed.loss)).abs() < 1e-12);
        }
    }

    #[test]
    fn the_temperature_gets_its_gradient() {
        let t = fixtures::tiny(DType::F64, &Device::Cpu).unwrap();
        let at = |log_scale: f64| {
            let clip = clip((-log_scale).exp());
            (clip.forward(&t.anchors, &t.positives, &[0, 1, 2, 3]).unwrap(), clip)
        };
        let (loss, clip) = at(2.0);
        let gradient = number(loss.backward().unwrap().get(clip.temperature().var()).unwrap());
        let slope = (number(&at(2.0 + 1e-5).0) - number(&at(2.0 - 1e-5).0)) / 2e-5;
        assert!((gradient - slope).abs() < 1e-8 && gradient < 0.0, "{gradient} {slope}");
    }

    #[test]
    fn bad_batches_are_refused() {
        let t = fixtures::tiny(DType::F64, &Device::Cpu).unwrap();
        let message = clip(0.07).forward(&t.anchors, &t.positives, &[0, 1, 7, 7]).unwrap_err().to_string();
        assert_eq!(message, "rows 2 and 3 have one caption, 7");
        assert!(clip(0.07).forward(&t.anchors, &t.positives, &[0, 1, 2]).is_err());
        assert!(clip(0.07).forward(&t.anchors, &t.positives.narrow(1, 0, 2).unwrap(), &[0, 1, 2, 3]).is_err());
    }
}
