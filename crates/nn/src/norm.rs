//! Layer and batch normalisation.

use candle_core::{D, Tensor, Var};

use crate::fused;
use crate::params::Parameters;
use crate::{Mode, NnError};

/// Scales each vector of the last axis to mean 0 and variance 1, then by a learned gain, and adds a learned bias
/// (Ba, Kiros and Hinton 2016). Every example stands for itself, so there is no difference between training and scoring.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    gain: Var,
    bias: Var,
    epsilon: f64,
}

impl LayerNorm {
    /// Normalisation of vectors of `width` values, named `name.weight` and `name.bias`; 1e-5 is added to the variance.
    pub fn new(params: &mut Parameters, name: &str, width: usize) -> Result<Self, NnError> {
        Ok(Self {
            gain: params.constant(&format!("{name}.weight"), &[width], 1.0)?,
            bias: params.constant(&format!("{name}.bias"), &[width], 0.0)?,
            epsilon: 1e-5,
        })
    }

    /// `(..., width)` to the same.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor, NnError> {
        if x.rank() == 0 || x.dim(D::Minus1)? != self.gain.elem_count() {
            return Err(NnError::Shape {
                what: "layer normalisation".to_owned(),
                expected: format!("(..., {})", self.gain.elem_count()),
                got: x.dims().to_vec(),
            });
        }
        if fused::serves(&[x, &self.gain, &self.bias]) {
            return Ok(fused::normalized(x, &self.gain, &self.bias, self.epsilon)?);
        }
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + self.epsilon)?.sqrt()?;
        let unit = centred.broadcast_div(&deviation)?;
        Ok(unit.broadcast_mul(&self.gain)?.broadcast_add(&self.bias)?)
    }
}

impl LayerNorm {
    /// Gain and bias.
    pub(crate) fn tensors(&self) -> [&Tensor; 2] {
        [&self.gain, &self.bias]
    }

    /// What is added to the variance.
    pub(crate) fn epsilon(&self) -> f64 {
        self.epsilon
    }
}

/// Scales each feature to mean 0 and variance 1 over the batch while training, and by running statistics while scoring
/// (Ioffe and Szegedy 2015); then a learned gain and bias.
///
/// The running statistics are buffers of the parameters: they are saved and restored with the model. As in PyTorch the batch is
/// normalised by its biased variance, while the running variance takes in the unbiased one, each with weight 0.1.
#[derive(Debug, Clone)]
pub struct BatchNorm1d {
    gain: Var,
    bias: Var,
    mean: Var,
    variance: Var,
}

const EPSILON: f64 = 1e-5;
const MOMENTUM: f64 = 0.1;

impl BatchNorm1d {
    /// Normalisation of `features` values, named `name.weight`, `name.bias`, `name.running_mean` and `name.running_var`.
    pub fn new(params: &mut Parameters, name: &str, features: usize) -> Result<Self, NnError> {
        Ok(Self {
            gain: params.constant(&format!("{name}.weight"), &[features], 1.0)?,
            bias: params.constant(&format!("{name}.bias"), &[features], 0.0)?,
            mean: params.buffer(&format!("{name}.running_mean"), &[features], 0.0)?,
            variance: params.buffer(&format!("{name}.running_var"), &[features], 1.0)?,
        })
    }

    /// `(batch, features)` to the same. A training batch needs two rows at least: the variance of one row says nothing.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor, NnError> {
        let features = self.gain.elem_count();
        let fits = x.rank() == 2 && x.dim(1)? == features && (!mode.is_training() || x.dim(0)? >= 2);
        if !fits {
            return Err(NnError::Shape {
                what: "batch normalisation".to_owned(),
                expected: if mode.is_training() {
                    format!("(batch, {features}) with at least 2 rows")
                } else {
                    format!("(batch, {features})")
                },
                got: x.dims().to_vec(),
            });
        }
        let (mean, variance) = if mode.is_training() {
            let mean = x.mean(0)?;
            let variance = x.broadcast_sub(&mean)?.sqr()?.mean(0)?;
            if mode.updates_statistics() {
                let rows = x.dim(0)? as f64;
                take_in(&self.mean, &mean.detach())?;
                take_in(&self.variance, &(variance.detach() * (rows / (rows - 1.0)))?)?;
            }
            (mean, variance)
        } else {
            (self.mean.as_detached_tensor(), self.variance.as_detached_tensor())
        };
        let unit = x.broadcast_sub(&mean)?.broadcast_div(&(variance + EPSILON)?.sqrt()?)?;
        Ok(unit.broadcast_mul(&self.gain)?.broadcast_add(&self.bias)?)
    }

    /// The running mean and variance.
    pub fn statistics(&self) -> Result<(Vec<f32>, Vec<f32>), NnError> {
        Ok((self.mean.to_vec1()?, self.variance.to_vec1()?))
    }
}

fn take_in(running: &Var, batch: &Tensor) -> Result<(), NnError> {
    let next = ((running.as_detached_tensor() * (1.0 - MOMENTUM))? + (batch * MOMENTUM)?)?;
    Ok(running.set(&next)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn values(x: &Tensor) -> Vec<f32> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    fn assert_close(left: &[f32], right: &[f32], tolerance: f32) {
        assert_eq!(left.len(), right.len());
        for (l, r) in left.iter().zip(right) {
            assert!((l - r).abs() <= tolerance, "{left:?} differs from {right:?}");
        }
    }

    #[test]
    fn layer_normalisation_by_hand() {
        let mut params = Parameters::new(1, &Device::Cpu);
        let norm = LayerNorm::new(&mut params, "norm", 4).unwrap();
        // Mean 2.5, variance 1.25; a constant row has no direction.
        let x = Tensor::new(&[[1.0f32, 2.0, 3.0, 4.0], [7.0, 7.0, 7.0, 7.0]], &Device::Cpu).unwrap();
        let unit = 1.0 / (1.25f32 + 1e-5).sqrt();
        let row = [-1.5 * unit, -0.5 * unit, 0.5 * unit, 1.5 * unit];
        assert_close(&values(&norm.forward(&x).unwrap())[..4], &row, 1e-6);
        assert_eq!(values(&norm.forward(&x).unwrap())[4..], [0.0; 4]);
        params.vars()[0].set(&Tensor::new(&[2.0f32, 2.0, 2.0, 2.0], &Device::Cpu).unwrap()).unwrap();
        params.vars()[1].set(&Tensor::new(&[1.0f32, 1.0, 1.0, 1.0], &Device::Cpu).unwrap()).unwrap();
        let moved: Vec<f32> = row.iter().map(|v| 2.0 * v + 1.0).collect();
        assert_close(&values(&norm.forward(&x).unwrap())[..4], &moved, 1e-6);
        let wrong = Tensor::zeros((2, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
        assert!(matches!(norm.forward(&wrong), Err(NnError::Shape { .. })));
    }

    #[test]
    fn batch_normalisation_by_hand() {
        let mut params = Parameters::new(1, &Device::Cpu);
        let norm = BatchNorm1d::new(&mut params, "norm", 2).unwrap();
        let x = Tensor::new(&[[1.0f32, 10.0], [3.0, 10.0], [5.0, 40.0]], &Device::Cpu).unwrap();
        // Means 3 and 20; biased variances 8/3 and 200; unbiased 4 and 300.
        let trained = values(&norm.forward(&x, Mode::train(1, 0)).unwrap());
        let (a, b) = (2.0 / (8.0f32 / 3.0 + 1e-5).sqrt(), 10.0 / (200.0f32 + 1e-5).sqrt());
        assert_close(&trained, &[-a, -b, 0.0, -b, a, 2.0 * b], 1e-6);
        let (mean, variance) = norm.statistics().unwrap();
        assert_close(&mean, &[0.3, 2.0], 1e-6);
        assert_close(&variance, &[0.9 + 0.4, 0.9 + 30.0], 1e-5);

        norm.forward(&x, Mode::train(1, 0).replayed()).unwrap();
        assert_eq!(norm.statistics().unwrap().0, mean, "a replay isn't counted twice");
        let scored = values(&norm.forward(&x.narrow(0, 0, 1).unwrap(), Mode::EVAL).unwrap());
        assert_close(&scored, &[(1.0 - 0.3) / (1.3f32 + 1e-5).sqrt(), 8.0 / (30.9f32 + 1e-5).sqrt()], 1e-5);
        assert_eq!(norm.statistics().unwrap().0, mean, "scoring isn't counted at all");
    }

    #[test]
    fn running_statistics_are_saved_but_not_trained() {
        let build = || {
            let mut params = Parameters::new(1, &Device::Cpu);
            (BatchNorm1d::new(&mut params, "norm", 2).unwrap(), params)
        };
        let (norm, params) = build();
        let x = Tensor::new(&[[1.0f32, 10.0], [3.0, 20.0]], &Device::Cpu).unwrap();
        norm.forward(&x, Mode::train(1, 0)).unwrap();
        assert_eq!((params.count(), params.vars().len(), params.buffers().count()), (4, 2, 2));
        let (other, theirs) = build();
        theirs.restore(&params.snapshot().unwrap()).unwrap();
        assert_eq!(norm.statistics().unwrap(), other.statistics().unwrap());
    }

    #[test]
    fn a_training_batch_of_one_is_refused() {
        let mut params = Parameters::new(1, &Device::Cpu);
        let norm = BatchNorm1d::new(&mut params, "norm", 2).unwrap();
        let one = Tensor::new(&[[1.0f32, 10.0]], &Device::Cpu).unwrap();
        let message = norm.forward(&one, Mode::train(1, 0)).unwrap_err().to_string();
        assert!(message.contains("at least 2 rows"), "{message}");
        assert!(norm.forward(&one, Mode::EVAL).is_ok());
    }

    /// The gradient by the input against central differences, through the batch statistics.
    #[test]
    fn gradients_equal_finite_differences() {
        let mut params = Parameters::new(1, &Device::Cpu);
        let (batch, layer) =
            (BatchNorm1d::new(&mut params, "batch", 3).unwrap(), LayerNorm::new(&mut params, "layer", 3).unwrap());
        let start: Vec<f32> = (0..12).map(|i| (i as f32 * 1.7).sin()).collect();
        let factors: Vec<f32> = (0..12).map(|i| (i as f32 * 0.9).cos()).collect();
        let factors = Tensor::from_vec(factors, (4, 3), &Device::Cpu).unwrap();
        let loss = |x: &Tensor| {
            let unit = batch.forward(x, Mode::train(1, 0).replayed()).unwrap();
            (layer.forward(&unit).unwrap() * &factors).unwrap().sum_all().unwrap()
        };
        let x = Var::from_vec(start.clone(), (4, 3), &Device::Cpu).unwrap();
        let gradient = values(loss(&x).backward().unwrap().get(&x).unwrap());
        for i in 0..12 {
            let shifted = |by: f32| {
                let mut moved = start.clone();
                moved[i] += by;
                loss(&Tensor::from_vec(moved, (4, 3), &Device::Cpu).unwrap()).to_scalar::<f32>().unwrap()
            };
            let difference = (shifted(1e-2) - shifted(-1e-2)) / 2e-2;
            assert!((difference - gradient[i]).abs() < 5e-3, "{difference} {}", gradient[i]);
        }
    }
}
