//! The planted families trained on by several ranks, whatever carries their messages.

use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use eas_losses::sampler::ShardedSampler;
use eas_nn::NnError;
use eas_nn::dist::sync::{average_gradients, broadcast_parameters, flatten};
use eas_nn::dist::{DistributedInfoNce, ProcessGroup, Traffic};
use eas_nn::encoders::Encoder;
use eas_nn::optim::{Method, Optimizer};

use crate::families::FamilyWorld;

/// What cosines are divided by.
pub const TEMPERATURE: f64 = 0.1;
const LEARNING_RATE: f64 = 3e-3;
const SEED: u64 = 16;

/// What one rank's training gave.
#[derive(Debug, Clone)]
pub struct RankRun {
    /// The global loss of each step, the mean over the ranks.
    pub losses: Vec<f64>,
    /// All weights at the end.
    pub weights: Vec<f32>,
    /// What the rank sent and received, before the losses of all steps were averaged in one last message.
    pub traffic: Traffic,
    /// The time of all steps, communication included.
    pub time: Duration,
}

/// This rank's rows of the global batch of `batch` pairs of one step: rows `rank`, `rank + world`, ..., which are those that
/// [`ShardedSampler`] deals to the rank. The epoch changes when the items run out, and with it their order.
pub fn rank_batch(
    group: &dyn ProcessGroup,
    world: &FamilyWorld,
    step: u64,
    batch: usize,
) -> Result<(Tensor, Tensor), NnError> {
    let steps = (world.families().len() / batch).max(1);
    let (epoch, at) = (step / steps as u64, (step % steps as u64) as usize);
    let sampler = sampler(world.families().len(), 0, 1);
    let items: Vec<u32> = sampler.epoch(epoch)?.into_iter().map(|item| item as u32).collect();
    let items = items.get(at * batch..(at + 1) * batch).ok_or_else(|| NnError::Argument {
        name: "global batch",
        got: batch.to_string(),
        expected: format!("at most {} items", items.len()),
    })?;
    let (anchors, positives) = world.pairs(items, step)?;
    let own: Vec<u32> = (group.rank()..batch).step_by(group.world_size()).map(|row| row as u32).collect();
    let own = Tensor::new(own, &Device::Cpu)?;
    Ok((anchors.index_select(&own, 0)?, positives.index_select(&own, 0)?))
}

fn sampler(len: usize, rank: usize, world: usize) -> ShardedSampler {
    ShardedSampler { len, world, rank, seed: SEED, shuffle: true, drop_last: true }
}

/// Trains the families' encoder with the other ranks: `steps` steps of Adam on global batches of `batch` pairs.
///
/// Each rank starts with weights of its own, so the broadcast from rank 0 matters.
pub fn train_rank(
    group: &Arc<dyn ProcessGroup>,
    world: &FamilyWorld,
    steps: u64,
    batch: usize,
) -> Result<RankRun, NnError> {
    let (encoder, params) = world.encoder(1 + group.rank() as u64)?;
    broadcast_parameters(&**group, &params, 0)?;
    let info_nce = DistributedInfoNce::new(Arc::clone(group), TEMPERATURE)?;
    let mut adam = Optimizer::new(Method::ADAM, &params)?;
    let (start, mut losses) = (Instant::now(), Vec::new());
    for step in 0..steps {
        let (anchors, positives) = rank_batch(&**group, world, step, batch)?;
        let out = info_nce.forward(&encoder.forward(&anchors)?, &encoder.forward(&positives)?)?;
        losses.push(out.loss.to_scalar::<f32>()?);
        adam.step(&average_gradients(&**group, &out.loss, &params)?, LEARNING_RATE)?;
    }
    let (traffic, time) = (group.traffic(), start.elapsed());
    group.all_reduce_sum(&mut losses)?;
    let losses = losses.into_iter().map(|sum| f64::from(sum) / group.world_size() as f64).collect();
    Ok(RankRun { losses, weights: flatten(&params)?, traffic, time })
}

/// The largest difference of two equally long lists of numbers.
pub fn largest_difference<T: Copy + Into<f64>>(a: &[T], b: &[T]) -> f64 {
    if a.len() != b.len() {
        return f64::INFINITY;
    }
    a.iter().zip(b).map(|(&x, &y)| (x.into() - y.into()).abs()).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use eas_nn::dist::ThreadGroup;

    #[test]
    fn ranks_get_the_rows_that_the_sharded_sampler_deals() {
        let world = FamilyWorld::new(5).unwrap();
        // Step 17 of batches of 64 is batch 2 of epoch 1.
        let dealt = ThreadGroup::run(4, |group| -> Result<(), NnError> {
            let (anchors, _) = rank_batch(&*group, &world, 17, 64)?;
            let shard = sampler(1_000, group.rank(), 4).epoch(1)?;
            let whole = sampler(1_000, 0, 1).epoch(1)?;
            let global: Vec<u32> = whole[128..192].iter().map(|&item| item as u32).collect();
            assert!(
                shard[32..48].iter().zip(global.iter().skip(group.rank()).step_by(4)).all(|(a, b)| *a == *b as usize)
            );
            let rows = world.pairs(&global, 17)?.0.to_vec2::<f32>()?;
            let own: Vec<_> = rows.into_iter().skip(group.rank()).step_by(4).collect();
            assert_eq!(anchors.to_vec2::<f32>()?, own);
            Ok(())
        });
        dealt.unwrap();
        ThreadGroup::run(1, |group| -> Result<(), NnError> {
            assert!(rank_batch(&*group, &world, 0, 1_001).is_err());
            Ok(())
        })
        .unwrap();
    }
}
