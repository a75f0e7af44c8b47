//! Ranks that talk less: local steps between averages, sparse changes, sparse embeddings.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use eas_losses::{InfoNce, Negatives};
use eas_nn::NnError;
use eas_nn::dist::compress::{ErrorFeedback, TopK};
use eas_nn::dist::sync::{average_gradients, flatten};
use eas_nn::dist::{DistError, DistributedInfoNce, LocalSgd, ProcessGroup, ThreadGroup, gather};
use eas_nn::encoders::Encoder;
use eas_nn::gradients::Gradients;
use eas_nn::optim::{Method, Optimizer};
use eas_nn::params::Parameters;
use eas_tensor::rng::SplitMix64;

use crate::families::FamilyWorld;
use crate::ranks::{TEMPERATURE, largest_difference, rank_batch};

/// Ranks of all runs.
pub const RANKS: usize = 4;
/// Pairs a rank and step.
pub const BATCH: usize = 32;
const RATE: f64 = 1.0;

/// How the ranks of a run agree on a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Talk {
    /// The mean gradient before every step.
    EveryGradient,
    /// The mean model after so many steps.
    Average(usize),
    /// The largest changes after so many steps; what is left out is added to the next ones, or lost.
    Sparse(usize, TopK, bool),
}

/// What a run gave.
#[derive(Debug, Clone)]
pub struct LocalRun {
    /// The common model.
    pub weights: Vec<f32>,
    /// Averages of the model.
    pub syncs: usize,
    /// Bytes that a rank sent.
    pub sent: u64,
    /// Recall@1 of the common model.
    pub recall: f64,
}

/// Trains the families on four ranks, each with the negatives of its own batch. With `own_families` a rank has a quarter of the families
/// for itself, else each draws from all items.
pub fn train_local(world: &FamilyWorld, talk: Talk, steps: u64, own_families: bool) -> Result<LocalRun, NnError> {
    let mut runs = ThreadGroup::run(RANKS, |group| -> Result<LocalRun, NnError> {
        let (encoder, params) = world.encoder(1)?;
        let mut sgd = Optimizer::new(Method::SGD, &params)?;
        let mut averages = match talk {
            Talk::EveryGradient => None,
            Talk::Average(every) => Some(LocalSgd::new(Arc::clone(&group), every)?),
            Talk::Sparse(every, top, feedback) => {
                Some(LocalSgd::new(Arc::clone(&group), every)?.with_compression(&params, top, feedback)?)
            }
        };
        for step in 0..steps {
            let number = step * RANKS as u64 + group.rank() as u64;
            let share = world.families().len() / RANKS;
            let items: Vec<u32> = if own_families {
                let picks = SplitMix64::stream(21, number).sample_indices(share, BATCH);
                picks.into_iter().map(|item| (group.rank() * share + item) as u32).collect()
            } else {
                world.items(number, BATCH)
            };
            let (a, p) = world.pairs(&items, number)?;
            let (a, p) = (encoder.forward(&a)?, encoder.forward(&p)?);
            let loss = InfoNce::new(TEMPERATURE).forward(&a, &p, Negatives::InBatch)?.loss;
            if let Some(averages) = &mut averages {
                sgd.step(&Gradients::of(&loss, &params)?, RATE)?;
                averages.after_step(&params)?;
            } else {
                sgd.step(&average_gradients(&*group, &loss, &params)?, RATE)?;
            }
        }
        let recall = if group.rank() == 0 { world.recall_at_1(&encoder)? } else { 0.0 };
        let syncs = averages.map_or(0, |averages| averages.syncs());
        Ok(LocalRun { weights: flatten(&params)?, syncs, sent: group.traffic().sent, recall })
    })?;
    Ok(runs.remove(0))
}

/// Trains with the candidates of all ranks, of which the other ranks' rows travel sparse (`top`) or whole: recall@1, and the bytes that a
/// rank sent for embeddings.
///
/// A sparse row is a constant; normalisation, which the loss does, gives it back its length. A rank's own rows stay whole and live.
pub fn train_gathered(world: &FamilyWorld, top: Option<TopK>, steps: u64) -> Result<(f64, u64), NnError> {
    let mut runs = ThreadGroup::run(RANKS, |group| -> Result<(f64, u64), NnError> {
        let (encoder, params) = world.encoder(1)?;
        let mut adam = Optimizer::new(Method::ADAM, &params)?;
        let info_nce = DistributedInfoNce::new(Arc::clone(&group), TEMPERATURE)?;
        let mut sent = 0;
        for step in 0..steps {
            let (a, p) = rank_batch(&*group, world, step, RANKS * BATCH)?;
            let (a, p) = (encoder.forward(&a)?, encoder.forward(&p)?);
            let before = group.traffic().sent;
            let candidates = Tensor::cat(&[all_rows(&group, &a, top)?, all_rows(&group, &p, top)?], 0)?;
            sent += group.traffic().sent - before;
            let loss = info_nce.among(&a, &candidates)?.loss;
            adam.step(&average_gradients(&*group, &loss, &params)?, 3e-3)?;
        }
        Ok((if group.rank() == 0 { world.recall_at_1(&encoder)? } else { 0.0 }, sent))
    })?;
    Ok(runs.remove(0))
}

fn all_rows(group: &Arc<dyn ProcessGroup>, own: &Tensor, top: Option<TopK>) -> Result<Tensor, NnError> {
    let Some(top) = top else { return gather(group, own) };
    let (rows, dim) = own.dims2()?;
    let message = top.encode(&own.flatten_all()?.to_vec1::<f32>()?, dim)?;
    let mut parts = Vec::new();
    for (rank, message) in group.all_gather_bytes(&message)?.iter().enumerate() {
        parts.push(if rank == group.rank() {
            own.clone()
        } else {
            Tensor::from_vec(top.decode(message, rows * dim, dim)?, (rows, dim), &Device::Cpu)?
        });
    }
    Ok(Tensor::cat(&parts, 0)?)
}

/// Two ranks that minimise 1/2 (x - 1)^2 and 3/2 (x + 1)^2 with steps of 0.1 from 0: the common value after each of `averages` averages.
pub fn quadratics(every: usize, averages: usize) -> Result<Vec<f64>, NnError> {
    let mut paths = ThreadGroup::run(2, |group| -> Result<Vec<f64>, NnError> {
        let (curvature, target) = [(1.0, 1.0), (3.0, -1.0)][group.rank()];
        let mut params = Parameters::new(0, &Device::Cpu);
        let x = params.constant("x", &[1], 0.0)?;
        let mut sgd = Optimizer::new(Method::SGD, &params)?;
        let mut local = LocalSgd::new(Arc::clone(&group), every)?;
        let mut path = Vec::new();
        while path.len() < averages {
            let loss = ((x.as_tensor() - target)?.sqr()?.sum_all()? * (curvature / 2.0))?;
            sgd.step(&Gradients::of(&loss, &params)?, 0.1)?;
            if local.after_step(&params)? {
                path.push(f64::from(x.sum_all()?.to_scalar::<f32>()?));
            }
        }
        Ok(path)
    })?;
    Ok(paths.remove(0))
}

/// The embeddings of all ranks at each step, gathered while the next batch is encoded (`overlap`) or before.
pub fn gathered_steps(world: &FamilyWorld, steps: u64, overlap: bool) -> Result<Vec<Vec<f32>>, NnError> {
    let mut runs = ThreadGroup::run(RANKS, |group| -> Result<Vec<Vec<f32>>, NnError> {
        let (encoder, _) = world.encoder(1)?;
        let encode = |step: u64| -> Result<Vec<f32>, NnError> {
            let (anchors, _) = rank_batch(&*group, world, step, RANKS * BATCH)?;
            Ok(encoder.forward(&anchors)?.flatten_all()?.to_vec1()?)
        };
        let mut gathers = eas_nn::dist::Overlap::new(Arc::clone(&group));
        let mut all = Vec::new();
        let mut next = encode(0)?;
        for step in 0..steps {
            let coming = step + 1 < steps;
            if overlap {
                gathers.start(next)?;
                next = if coming { encode(step + 1)? } else { Vec::new() };
                let missing = || DistError::Corrupt("no gather was started".to_owned());
                all.push(gathers.wait()?.ok_or_else(missing)?);
            } else {
                all.push(group.all_gather(&next)?);
                next = if coming { encode(step + 1)? } else { Vec::new() };
            }
        }
        Ok(all)
    })?;
    Ok(runs.remove(0))
}

/// Sends 50 parts of `x`, a tenth of each with what was left before; how far what was sent and is left is from the sum of all.
pub fn feedback_drift(x: &[f32], top: TopK) -> Result<f64, DistError> {
    let dim = x.len() / 50;
    let mut feedback = ErrorFeedback::new(top, dim);
    let (mut given, mut sent) = (vec![0.0; dim], vec![0.0; dim]);
    for part in x.chunks_exact(dim) {
        let message = feedback.encode(part)?;
        for (i, value) in top.decode(&message, dim, dim)?.into_iter().enumerate() {
            sent[i] += f64::from(value);
            given[i] += f64::from(part[i]);
        }
    }
    for (sum, left) in sent.iter_mut().zip(feedback.residual()) {
        *sum += f64::from(*left);
    }
    Ok(largest_difference(&given, &sent))
}
