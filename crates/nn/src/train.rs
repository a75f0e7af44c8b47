//! The training loop: shuffled batches, Adam, and the mean loss of each epoch.

use candle_core::Tensor;
use eas_tensor::rng::SplitMix64;

use crate::NnError;
use crate::gradients::Gradients;
use crate::optim::{Method, Optimizer};
use crate::params::Parameters;

/// Hyper-parameters of a training run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Training {
    /// Passes over the data.
    pub epochs: usize,
    /// Examples a step; the last batch of an epoch may be smaller.
    pub batch: usize,
    /// Step size of Adam (Kingma and Ba 2015; betas 0.9 and 0.999, no weight decay).
    pub learning_rate: f64,
    /// Seed of the shuffles.
    pub seed: u64,
}

impl Training {
    /// Trains `params` on `examples` examples; `loss` turns the indices of a batch into a scalar tensor.
    ///
    /// Returns the mean loss of each epoch, every example weighing the same. Nothing is trained when `epochs` is 0; a loss
    /// that is not finite is an error.
    ///
    /// The whole run stays on one thread: the matrix products of small models are over before a second thread has woken up,
    /// and on a busy machine waiting for it made training four times slower.
    pub fn run(
        &self,
        params: &Parameters,
        examples: usize,
        loss: impl FnMut(&[u32]) -> Result<Tensor, NnError> + Send,
    ) -> Result<Vec<f64>, NnError> {
        self.check(examples)?;
        on_one_thread(|| self.descend(params, examples, loss))
    }

    fn descend(
        &self,
        params: &Parameters,
        examples: usize,
        mut loss: impl FnMut(&[u32]) -> Result<Tensor, NnError>,
    ) -> Result<Vec<f64>, NnError> {
        let mut adam = Optimizer::new(Method::ADAM, params)?;
        let mut rng = SplitMix64::new(self.seed);
        let mut order: Vec<u32> = (0..examples as u32).collect();
        let mut history = Vec::with_capacity(self.epochs);
        for epoch in 0..self.epochs {
            rng.shuffle(&mut order);
            let mut total = 0.0;
            for batch in order.chunks(self.batch) {
                let loss = loss(batch)?;
                let value = f64::from(loss.to_scalar::<f32>()?);
                if !value.is_finite() {
                    return Err(NnError::Diverged { epoch, loss: value });
                }
                adam.step(&Gradients::of(&loss, params)?, self.learning_rate)?;
                total += value * batch.len() as f64;
            }
            history.push(total / examples as f64);
        }
        Ok(history)
    }

    fn check(&self, examples: usize) -> Result<(), NnError> {
        let refused =
            |name, got: String, expected: &str| Err(NnError::Argument { name, got, expected: expected.to_owned() });
        if examples == 0 {
            return refused("number of examples", "0".to_owned(), "at least 1");
        }
        if self.batch == 0 {
            return refused("batch", "0".to_owned(), "at least 1");
        }
        if !(self.learning_rate > 0.0 && self.learning_rate.is_finite()) {
            return refused("learning rate", self.learning_rate.to_string(), "positive and finite");
        }
        Ok(())
    }
}

/// Runs `work` where candle and rayon find one thread only: the right place for models whose products take microseconds.
pub fn on_one_thread<T: Send, E: From<NnError> + Send>(work: impl FnOnce() -> Result<T, E> + Send) -> Result<T, E> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .map_err(|error| NnError::Thread(error.to_string()))?
        .install(work)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    const RUN: Training = Training { epochs: 200, batch: 4, learning_rate: 0.05, seed: 1 };

    #[test]
    fn a_line_is_fitted() {
        let x: Vec<f32> = (0..10).map(|i| i as f32 / 10.0).collect();
        let mut params = Parameters::new(1, &Device::Cpu);
        let slope = params.uniform("slope", &[1], 1.0).unwrap();
        let offset = params.uniform("offset", &[1], 1.0).unwrap();
        let mut seen = vec![0; 10];
        let history = RUN
            .run(&params, 10, |batch| {
                for &i in batch {
                    seen[i as usize] += 1;
                }
                let xs = Tensor::from_iter(batch.iter().map(|&i| x[i as usize]), &Device::Cpu)?;
                let targets = ((&xs * 3.0)? - 1.0)?;
                let predicted = xs.broadcast_mul(&slope)?.broadcast_add(&offset)?;
                Ok((predicted - targets)?.sqr()?.mean_all()?)
            })
            .unwrap();
        assert_eq!(seen, vec![200; 10]);
        assert!(history[199] < 1e-4 && history[0] > 0.1, "{history:?}");
        assert!((slope.to_vec1::<f32>().unwrap()[0] - 3.0).abs() < 0.05);
        assert!((offset.to_vec1::<f32>().unwrap()[0] + 1.0).abs() < 0.05);
    }

    #[test]
    fn a_loss_that_is_not_a_number_stops_the_run() {
        let mut params = Parameters::new(1, &Device::Cpu);
        let weight = params.uniform("weight", &[1], 1.0).unwrap();
        let stopped = RUN.run(&params, 3, |_| Ok((weight.as_tensor() * f64::NAN)?.sum_all()?));
        assert!(matches!(stopped, Err(NnError::Diverged { epoch: 0, .. })));
    }

    #[test]
    fn impossible_settings_are_refused() {
        let params = Parameters::new(1, &Device::Cpu);
        let never = |_: &[u32]| unreachable!("no batch is formed");
        assert!(RUN.run(&params, 0, never).is_err());
        assert!(Training { batch: 0, ..RUN }.run(&params, 3, never).is_err());
        for learning_rate in [0.0, f64::NAN, -1.0] {
            assert!(Training { learning_rate, ..RUN }.run(&params, 3, never).is_err());
        }
        assert_eq!(Training { epochs: 0, ..RUN }.run(&params, 3, never).unwrap(), Vec::<f64>::new());
    }
}
