//! Adam on batches that are drawn afresh at every step: the loop for generated data and for pairs that nobody lists.

use candle_core::{DType, Tensor};
use eas_tensor::rng::SplitMix64;

use crate::NnError;
use crate::gradients::Gradients;
use crate::optim::{Method, Optimizer};
use crate::params::Parameters;
use crate::train::on_one_thread;

/// Settings of such a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Descent {
    /// Steps.
    pub steps: u64,
    /// Step size of Adam (Kingma and Ba 2015), the same at every step.
    pub learning_rate: f64,
    /// Seed of the draws.
    pub seed: u64,
}

impl Descent {
    /// Trains `params`; `loss` gets the number of the step, from 0, and a generator to draw a batch from, and gives a scalar tensor. Returns the losses.
    ///
    /// A loss that isn't finite is an error, as is a step size that isn't positive. The run stays on one thread: see
    /// [`Training::run`](crate::train::Training::run).
    pub fn run(
        &self,
        params: &Parameters,
        mut loss: impl FnMut(u64, &mut SplitMix64) -> Result<Tensor, NnError> + Send,
    ) -> Result<Vec<f64>, NnError> {
        if !(self.learning_rate > 0.0 && self.learning_rate.is_finite()) {
            let got = self.learning_rate.to_string();
            return Err(NnError::Argument { name: "learning rate", got, expected: "positive and finite".to_owned() });
        }
        let mut optimizer = Optimizer::new(Method::ADAM, params)?;
        let mut rng = SplitMix64::new(self.seed);
        on_one_thread(|| {
            (0..self.steps)
                .map(|step| {
                    let loss = loss(step, &mut rng)?;
                    let value: f64 = loss.to_dtype(DType::F64)?.to_scalar()?;
                    if !value.is_finite() {
                        return Err(NnError::Stopped { step, what: "the loss".to_owned(), value });
                    }
                    optimizer.step(&Gradients::of(&loss, params)?, self.learning_rate)?;
                    Ok(value)
                })
                .collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn a_slope_is_fitted_and_bad_runs_are_refused() {
        let mut params = Parameters::new(1, &Device::Cpu);
        let slope = params.uniform("slope", &[1], 1.0).unwrap();
        let run = Descent { steps: 300, learning_rate: 0.05, seed: 1 };
        let losses = run
            .run(&params, |_, rng| {
                let x = Tensor::from_iter((0..8).map(|_| rng.normal() as f32), &Device::Cpu)?;
                Ok((x.broadcast_mul(&slope)? - (&x * 3.0)?)?.sqr()?.mean_all()?)
            })
            .unwrap();
        assert!(losses.len() == 300 && losses[299] < 1e-3, "{:?}", losses.last());
        assert!((slope.to_vec1::<f32>().unwrap()[0] - 3.0).abs() < 0.02);
        let stopped = run.run(&params, |_, _| Ok((slope.as_tensor() * f64::NAN)?.sum_all()?));
        assert!(matches!(stopped, Err(NnError::Stopped { step: 0, .. })));
        assert!(Descent { learning_rate: 0.0, ..run }.run(&params, |_, _| Ok(slope.sum_all()?)).is_err());
        assert!(Descent { steps: 0, ..run }.run(&params, |_, _| Ok(slope.sum_all()?)).unwrap().is_empty());
    }
}
