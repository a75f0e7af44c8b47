//! [`LocalSgd`]: ranks that train alone for a while, then average their models.

use std::sync::Arc;

use super::compress::{ErrorFeedback, TopK};
use super::sync::{flatten, unflatten};
use super::{DistError, ProcessGroup};
use crate::NnError;
use crate::params::Parameters;

/// Averages the models of all ranks after every `sync_every` local steps (Stich, "Local SGD converges fast and communicates little",
/// ICLR 2019). With weights this is federated averaging (McMahan et al. 2017).
///
/// After plain gradient descent and `sync_every` 1 the average is the step with the mean gradient. With more local steps each rank drifts
/// towards its own optimum, and when the ranks' data differ the average settles beside the common one. Buffers, such as running
/// statistics, are averaged too; an optimizer's memory stays local.
#[derive(Debug)]
pub struct LocalSgd {
    group: Arc<dyn ProcessGroup>,
    sync_every: usize,
    steps: usize,
    syncs: usize,
    weight: f32,
    sparse: Option<SparseChange>,
}

/// Averaging of what changed since the last time, in sparse messages.
#[derive(Debug)]
struct SparseChange {
    top: TopK,
    feedback: Option<ErrorFeedback>,
    /// The common model of the last synchronisation, the same on every rank.
    common: Vec<f32>,
}

impl LocalSgd {
    /// Ranks of equal weight that average all numbers of the model.
    pub fn new(group: Arc<dyn ProcessGroup>, sync_every: usize) -> Result<Self, NnError> {
        if sync_every == 0 {
            let (got, expected) = ("0".to_owned(), "at least 1".to_owned());
            return Err(DistError::Argument { name: "steps between two averages", got, expected }.into());
        }
        Ok(Self { group, sync_every, steps: 0, syncs: 0, weight: 1.0, sparse: None })
    }

    /// This rank counts `weight` times in the average, for example by its number of examples.
    pub fn with_weight(self, weight: f32) -> Result<Self, NnError> {
        if weight > 0.0 && weight.is_finite() {
            return Ok(Self { weight, ..self });
        }
        let (got, expected) = (weight.to_string(), "positive and finite".to_owned());
        Err(DistError::Argument { name: "weight of a rank", got, expected }.into())
    }

    /// Sends only the largest changes of the model since the last average; with `feedback` what is left out is added to the next
    /// change, else it is lost. The ranks' models must be equal now.
    pub fn with_compression(self, params: &Parameters, top: TopK, feedback: bool) -> Result<Self, NnError> {
        let common = flatten(params)?;
        let feedback = feedback.then(|| ErrorFeedback::new(top, common.len()));
        Ok(Self { sparse: Some(SparseChange { top, feedback, common }), ..self })
    }

    /// Averages so far.
    pub fn syncs(&self) -> usize {
        self.syncs
    }

    /// To be called after each local step; averages after every `sync_every` of them, and says whether it did.
    pub fn after_step(&mut self, params: &Parameters) -> Result<bool, NnError> {
        self.steps += 1;
        let due = self.steps.is_multiple_of(self.sync_every);
        if due {
            self.average(params)?;
        }
        Ok(due)
    }

    /// Averages now.
    pub fn average(&mut self, params: &Parameters) -> Result<(), NnError> {
        let own = flatten(params)?;
        let common = match &mut self.sparse {
            None => {
                let mut sums: Vec<f32> = own.iter().map(|value| self.weight * value).collect();
                sums.push(self.weight);
                self.group.all_reduce_sum(&mut sums)?;
                let total = sums.pop().unwrap_or(1.0);
                sums.into_iter().map(|sum| sum / total).collect()
            }
            Some(sparse) => {
                sparse.average(&*self.group, self.weight, &own)?;
                sparse.common.clone()
            }
        };
        self.syncs += 1;
        unflatten(params, &common)
    }
}

impl SparseChange {
    /// Moves the common model by the mean of what all ranks send.
    fn average(&mut self, group: &dyn ProcessGroup, weight: f32, own: &[f32]) -> Result<(), DistError> {
        let change: Vec<f32> = own.iter().zip(&self.common).map(|(own, common)| own - common).collect();
        let dim = change.len();
        let mut message = weight.to_le_bytes().to_vec();
        message.extend(match &mut self.feedback {
            Some(feedback) => feedback.encode(&change)?,
            None => self.top.encode(&change, dim)?,
        });
        let (mut mean, mut total) = (vec![0.0; dim], 0.0);
        for (rank, message) in group.all_gather_bytes(&message)?.iter().enumerate() {
            let (weight, change) = message
                .split_first_chunk::<4>()
                .ok_or_else(|| DistError::Corrupt(format!("{} bytes from rank {rank}", message.len())))?;
            let weight = f32::from_le_bytes(*weight);
            total += weight;
            for (sum, change) in mean.iter_mut().zip(self.top.decode(change, dim, dim)?) {
                *sum += weight * change;
            }
        }
        for (common, sum) in self.common.iter_mut().zip(mean) {
            *common += sum / total;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::compress::By;
    use super::*;
    use crate::dist::{ThreadGroup, sync::average_gradients};
    use crate::gradients::Gradients;
    use crate::optim::{Method, Optimizer};
    use candle_core::{Device, Tensor, Var};

    const CURVATURE: [f64; 2] = [1.0, 3.0];
    const TARGET: [f64; 2] = [1.0, -1.0];

    fn quadratic(rank: usize, x: &Var) -> Tensor {
        ((x.as_tensor() - TARGET[rank]).unwrap().sqr().unwrap().sum_all().unwrap() * (0.5 * CURVATURE[rank])).unwrap()
    }

    /// The common value after each average of two ranks that minimise a quadratic each, with steps of 0.1.
    fn descend(sync_every: usize, averages: usize) -> Vec<f32> {
        let ranks = ThreadGroup::run(2, |group| -> Result<Vec<f32>, NnError> {
            let mut params = Parameters::new(1, &Device::Cpu);
            let x = params.constant("x", &[1], 0.0)?;
            let mut sgd = Optimizer::new(Method::SGD, &params)?;
            let mut local = LocalSgd::new(Arc::clone(&group), sync_every)?;
            let mut path = Vec::new();
            while path.len() < averages {
                sgd.step(&Gradients::of(&quadratic(group.rank(), &x), &params)?, 0.1)?;
                if local.after_step(&params)? {
                    path.extend(x.to_vec1::<f32>()?);
                }
            }
            assert_eq!(local.syncs(), averages);
            Ok(path)
        });
        let mut ranks = ranks.unwrap();
        assert_eq!(ranks[0], ranks[1]);
        ranks.remove(0)
    }

    #[test]
    fn drift_moves_the_fixed_point_away_from_the_optimum() {
        for (every, fixed) in [(1, -0.5), (2, -0.457_142_86), (10, -0.197_422_24)] {
            let path = descend(every, 200 / every);
            assert!((path.last().unwrap() - fixed).abs() < 1e-6, "{path:?}");
        }
        for (got, want) in descend(10, 3).iter().zip([-0.160_215_46, -0.190_410_14, -0.196_100_72]) {
            assert!((got - want).abs() < 1e-6, "{got}");
        }
    }

    fn two_layers() -> (Parameters, Var, Var) {
        let mut params = Parameters::new(3, &Device::Cpu);
        let a = params.uniform("a", &[4, 3], 1.0).unwrap();
        let b = params.uniform("b", &[3], 1.0).unwrap();
        (params, a, b)
    }

    fn loss(rank: usize, a: &Var, b: &Var) -> Tensor {
        let rows = Tensor::new(&[[1.0f32, 0.5, -1.0, rank as f32], [0.0, 1.0, 2.0, 1.0]], &Device::Cpu).unwrap();
        let out = rows.matmul(a).unwrap().broadcast_add(b).unwrap();
        out.tanh().unwrap().sqr().unwrap().mean_all().unwrap()
    }

    #[test]
    fn averaging_after_every_step_is_the_step_with_the_mean_gradient() {
        let outcome = ThreadGroup::run(3, |group| -> Result<f32, NnError> {
            let ((local, a, b), (synchronous, c, d)) = (two_layers(), two_layers());
            let mut steps = [Optimizer::new(Method::SGD, &local)?, Optimizer::new(Method::SGD, &synchronous)?];
            let mut averaging = LocalSgd::new(Arc::clone(&group), 1)?;
            for _ in 0..20 {
                steps[0].step(&Gradients::of(&loss(group.rank(), &a, &b), &local)?, 0.3)?;
                averaging.after_step(&local)?;
                steps[1].step(&average_gradients(&*group, &loss(group.rank(), &c, &d), &synchronous)?, 0.3)?;
            }
            let (x, y) = (flatten(&local)?, flatten(&synchronous)?);
            Ok(x.iter().zip(&y).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max))
        });
        assert!(outcome.unwrap().into_iter().all(|difference| difference < 1e-6));
    }

    #[test]
    fn weights_and_buffers_are_averaged() {
        let outcome = ThreadGroup::run(2, |group| -> Result<Vec<f32>, NnError> {
            let mut params = Parameters::new(1, &Device::Cpu);
            params.constant("x", &[1], group.rank() as f32)?;
            params.buffer("mean", &[1], 8.0 * group.rank() as f32)?;
            LocalSgd::new(Arc::clone(&group), 1)?.with_weight(1.0 + 2.0 * group.rank() as f32)?.average(&params)?;
            flatten(&params)
        });
        assert_eq!(outcome.unwrap(), [[0.75, 6.0], [0.75, 6.0]]);
    }

    #[test]
    fn with_everything_kept_compression_changes_nothing_and_feedback_brings_the_rest_later() {
        let outcome = ThreadGroup::run(2, |group| -> Result<[Vec<f32>; 4], NnError> {
            let run = |ratio: Option<f64>, feedback: bool, averages: usize| -> Result<Vec<f32>, NnError> {
                let (params, ..) = two_layers();
                let mut local = LocalSgd::new(Arc::clone(&group), 1)?;
                if let Some(ratio) = ratio {
                    local = local.with_compression(&params, TopK::new(ratio, By::Magnitude)?, feedback)?;
                }
                // One change, then nothing: what feedback holds back comes out bit by bit.
                let moved = |(i, x): (usize, &f32)| x + (i + group.rank()) as f32;
                unflatten(&params, &flatten(&params)?.iter().enumerate().map(moved).collect::<Vec<_>>())?;
                for _ in 0..averages {
                    local.average(&params)?;
                }
                flatten(&params)
            };
            Ok([run(None, false, 1)?, run(Some(1.0), false, 1)?, run(Some(0.2), true, 5)?, run(Some(0.2), false, 5)?])
        });
        let far = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
        for [dense, all, feedback, dropped] in outcome.unwrap() {
            assert!(far(&dense, &all) < 1e-5);
            assert!(far(&dense, &feedback) < 1e-5);
            assert!(far(&dense, &dropped) > 1.0);
        }
    }

    #[test]
    fn settings_that_mean_nothing_are_refused() {
        let group = || Arc::new(ThreadGroup::new(1).unwrap().remove(0)) as Arc<dyn ProcessGroup>;
        assert!(LocalSgd::new(group(), 0).is_err());
        for weight in [0.0, -1.0, f32::NAN] {
            assert!(LocalSgd::new(group(), 1).unwrap().with_weight(weight).is_err());
        }
    }
}
