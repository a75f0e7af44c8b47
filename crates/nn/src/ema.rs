//! The slowly moving copy of a model: MoCo's momentum encoder, and averaged weights.

use candle_core::Tensor;

use crate::NnError;
use crate::params::Parameters;

/// Keeps `target` an exponential moving average of `online`: `theta_k <- m theta_k + (1 - m) theta_q` (He et al., "Momentum Contrast
/// for Unsupervised Visual Representation Learning", CVPR 2020).
///
/// Both are the parameters of the same architecture, built twice. The target gets no gradient: don't give it to an optimizer, and
/// detach what it encodes. Buffers, such as running statistics, are copied.
///
/// ```
/// use candle_core::Device;
/// use eas_nn::{ema::Ema, params::Parameters};
///
/// let build = |seed| {
///     let mut params = Parameters::new(seed, &Device::Cpu);
///     params.uniform("weight", &[2], 1.0).map(|weight| (weight, params))
/// };
/// let ((online, query), (target, key)) = (build(1)?, build(2)?);
/// let ema = Ema::new(&query, &key, 0.9)?;              // the key encoder starts as a copy
/// online.set(&online.ones_like()?)?;
/// let before = target.to_vec1::<f32>()?[0];
/// ema.update()?;
/// assert!((target.to_vec1::<f32>()?[0] - (0.9 * before + 0.1)).abs() < 1e-6);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Ema {
    online: Parameters,
    target: Parameters,
    momentum: f64,
}

impl Ema {
    /// Makes `target` a copy of `online` that [`update`](Self::update) moves with `momentum`, from 0 (a copy at each step) to 1 (never).
    ///
    /// An error when the two differ in a name or a shape.
    pub fn new(online: &Parameters, target: &Parameters, momentum: f64) -> Result<Self, NnError> {
        if !(0.0..=1.0).contains(&momentum) {
            return Err(NnError::Argument {
                name: "momentum",
                got: momentum.to_string(),
                expected: "0 to 1".to_owned(),
            });
        }
        target.restore(&online.snapshot()?)?;
        Ok(Self { online: online.clone(), target: target.clone(), momentum })
    }

    /// The momentum.
    pub fn momentum(&self) -> f64 {
        self.momentum
    }

    /// The parameters that move slowly; a checkpoint has to save them too.
    pub fn target(&self) -> &Parameters {
        &self.target
    }

    /// Moves the target one step.
    pub fn update(&self) -> Result<(), NnError> {
        for ((_, online), (_, target)) in self.online.named().zip(self.target.named()) {
            let (new, old): (Tensor, Tensor) = (online.as_detached_tensor(), target.as_detached_tensor());
            target.set(&((old * self.momentum)? + (new * (1.0 - self.momentum))?)?)?;
        }
        for ((_, online), (_, target)) in self.online.buffers().zip(self.target.buffers()) {
            target.set(&online.as_detached_tensor().copy()?)?;
        }
        Ok(())
    }
}

/// Steps after which half of the target's start is forgotten: `ln(1/2) / ln(momentum)`.
pub fn half_life(momentum: f64) -> f64 {
    0.5f64.ln() / momentum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoders::{Encoder, Mlp};
    use crate::gradients::Gradients;
    use crate::norm::BatchNorm1d;
    use crate::{Mode, layers::Linear};
    use candle_core::Device;

    fn model(seed: u64) -> (Mlp, Parameters) {
        let mut params = Parameters::new(seed, &Device::Cpu);
        (Mlp::new(&mut params, "mlp", 4, 5, 3).unwrap(), params)
    }

    fn values(params: &Parameters) -> Vec<f32> {
        params.vars().iter().flat_map(|var| var.flatten_all().unwrap().to_vec1::<f32>().unwrap()).collect()
    }

    /// With a query that stands still: `theta_k(n) = theta_q - m^n (theta_q - theta_k(0))`.
    #[test]
    fn the_closed_form_of_constant_queries() {
        let (_, online) = model(1);
        let (_, target) = model(2);
        let ema = Ema::new(&online, &target, 0.99).unwrap();
        assert_eq!(values(&online), values(&target));
        let (_, start) = model(3);
        target.restore(&start.snapshot().unwrap()).unwrap();
        for _ in 0..100 {
            ema.update().unwrap();
        }
        let left = 0.99f64.powi(100) as f32;
        for ((q, k0), k) in values(&online).into_iter().zip(values(&start)).zip(values(&target)) {
            assert!((k - (q - left * (q - k0))).abs() < 1e-6);
        }
    }

    #[test]
    fn momentum_0_copies_and_1_keeps() {
        for (momentum, follows) in [(0.0, true), (1.0, false)] {
            let ((_, online), (_, target)) = (model(1), model(2));
            let ema = Ema::new(&online, &target, momentum).unwrap();
            let before = values(&target);
            online.restore(&model(3).1.snapshot().unwrap()).unwrap();
            ema.update().unwrap();
            assert_eq!(values(&target), if follows { values(&online) } else { before });
        }
    }

    #[test]
    fn keys_get_no_gradient() {
        let ((query, online), (key, target)) = (model(1), model(2));
        Ema::new(&online, &target, 0.9).unwrap();
        let x = Tensor::new(&[[1.0f32, -2.0, 0.5, 3.0], [0.3, 0.1, 0.9, -1.0]], &Device::Cpu).unwrap();
        let loss = eas_losses::info_nce(&query.forward(&x).unwrap(), &key.forward(&x).unwrap().detach(), 0.1).unwrap();
        let by_key = Gradients::of(&loss, &target).unwrap();
        assert!(by_key.iter().all(|(_, gradient)| gradient.is_none()));
        assert!(Gradients::of(&loss, &online).unwrap().norm().unwrap() > 0.0);
    }

    #[test]
    fn running_statistics_are_copied() {
        let build = || {
            let mut params = Parameters::new(1, &Device::Cpu);
            (BatchNorm1d::new(&mut params, "norm", 2).unwrap(), params)
        };
        let ((online, query), (target, key)) = (build(), build());
        let ema = Ema::new(&query, &key, 0.99).unwrap();
        let x = Tensor::new(&[[1.0f32, 10.0], [3.0, 20.0]], &Device::Cpu).unwrap();
        online.forward(&x, Mode::train(1, 0)).unwrap();
        ema.update().unwrap();
        assert_eq!(online.statistics().unwrap(), target.statistics().unwrap());
    }

    #[test]
    fn half_lives_and_refusals() {
        assert!((half_life(0.999) - 692.80).abs() < 0.005 && (half_life(0.99) - 68.97).abs() < 0.005);
        let ((_, online), (_, target)) = (model(1), model(2));
        assert!(Ema::new(&online, &target, 1.1).is_err() && Ema::new(&online, &target, f64::NAN).is_err());
        let mut other = Parameters::new(1, &Device::Cpu);
        Linear::new(&mut other, "linear", 2, 2).unwrap();
        assert!(Ema::new(&online, &other, 0.9).is_err());
    }
}
