//! What becomes of the gradient when rows of all ranks are gathered, in three ways.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor, Var};
use eas_losses::contrastive::candidate_loss;
use eas_losses::{InfoNce, Negatives, fixtures, normalize};
use eas_nn::NnError;
use eas_nn::dist::sync::{average_gradients, unflatten};
use eas_nn::dist::{DistributedInfoNce, ProcessGroup, ThreadGroup, gather};
use eas_nn::encoders::Encoder;
use eas_nn::gradients::Gradients;

use crate::families::FamilyWorld;
use crate::ranks::{TEMPERATURE, rank_batch};

/// What becomes of the gradient of gathered rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Backward {
    /// Every rank gets what all ranks want of its rows.
    Summed,
    /// Gathered rows are constants: what a plain all-gather gives.
    None,
    /// The usual patch: the rank's own rows are put back among the constants.
    OwnRows,
}

/// One rank's loss on fixture T, the same with the anchor among its candidates, and the gradient of the mean over the ranks.
#[derive(Debug, Clone)]
pub struct Share {
    /// The loss of the rank's anchors.
    pub loss: f32,
    /// The same with each anchor among its own candidates.
    pub unmasked: f32,
    /// The gradient by the anchors.
    pub anchors: Vec<f32>,
    /// The gradient by the positives.
    pub positives: Vec<f32>,
}

/// Fixture T on `world` ranks.
pub fn on_fixture(world: usize, temperature: f64, backward: Backward) -> Result<Vec<Share>, NnError> {
    ThreadGroup::run(world, |group| {
        let t = fixtures::tiny(DType::F32, &Device::Cpu)?;
        let batch = 4 / world;
        let own = |x: &Tensor| Var::from_tensor(&x.narrow(0, group.rank() * batch, batch)?.copy()?);
        let (a, p) = (own(&t.anchors)?, own(&t.positives)?);
        let all = candidates(&group, &a, &p, backward)?;
        let loss = DistributedInfoNce::new(Arc::clone(&group), temperature)?.among(&a, &all)?.loss;
        let cosines = normalize(&a)?.matmul(&normalize(&all)?.t()?)?;
        let targets: Vec<u32> = (0..batch).map(|i| (4 + group.rank() * batch + i) as u32).collect();
        let unmasked = candidate_loss(&cosines, &targets, temperature, None, None)?.to_scalar()?;
        let grads = loss.backward()?;
        let of = |var: &Var| match grads.get(var) {
            Some(gradient) => (gradient * (1.0 / world as f64))?.flatten_all()?.to_vec1::<f32>(),
            None => Ok(vec![0.0; var.elem_count()]),
        };
        Ok(Share { loss: loss.to_scalar()?, unmasked, anchors: of(&a)?, positives: of(&p)? })
    })
}

/// All ranks' anchors, then all ranks' positives.
fn candidates(group: &Arc<dyn ProcessGroup>, a: &Tensor, p: &Tensor, backward: Backward) -> Result<Tensor, NnError> {
    let side = |own: &Tensor| -> Result<Tensor, NnError> {
        let all = gather(group, own)?;
        let (batch, from) = (own.dim(0)?, group.rank() * own.dim(0)?);
        Ok(match backward {
            Backward::Summed => all,
            Backward::None => all.detach(),
            Backward::OwnRows => {
                let after = all.dim(0)? - from - batch;
                let [before, after] =
                    [all.narrow(0, 0, from)?, all.narrow(0, from + batch, after)?].map(|x| x.detach());
                Tensor::cat(&[&before, own, &after], 0)?
            }
        })
    };
    Ok(Tensor::cat(&[side(a)?, side(p)?], 0)?)
}

/// The encoder's gradient on the first batch of four ranks, from given weights.
pub fn gradient(world: &FamilyWorld, weights: Option<&Vec<f32>>, backward: Backward) -> Result<Gradients, NnError> {
    let mut ranks = ThreadGroup::run(4, |group| {
        let (encoder, params) = world.encoder(1)?;
        weights.map_or(Ok(()), |weights| unflatten(&params, weights))?;
        let (a, p) = rank_batch(&*group, world, 0, 64)?;
        let (a, p) = (encoder.forward(&a)?, encoder.forward(&p)?);
        let info_nce = DistributedInfoNce::new(Arc::clone(&group), TEMPERATURE)?;
        let loss = info_nce.among(&a, &candidates(&group, &a, &p, backward)?)?.loss;
        average_gradients(&*group, &loss, &params)
    })?;
    Ok(ranks.remove(0))
}

/// Loss, and the gradient by anchors and by positives, of a single process on fixture T.
pub fn single(temperature: f64) -> anyhow::Result<(f32, Vec<f32>, Vec<f32>)> {
    let t = fixtures::tiny(DType::F32, &Device::Cpu)?;
    let (a, p) = (Var::from_tensor(&t.anchors)?, Var::from_tensor(&t.positives)?);
    let loss = InfoNce::new(temperature).forward(&a, &p, Negatives::TwoView)?.loss;
    let grads = loss.backward()?;
    let of = |var: &Var| grads.get(var).map_or_else(|| Ok(vec![]), |g| g.flatten_all()?.to_vec1::<f32>());
    Ok((loss.to_scalar()?, of(&a)?, of(&p)?))
}

/// Bytes that a rank of four receives in one forward pass over a global batch of 64 pairs.
pub fn bytes_of_a_forward(world: &FamilyWorld) -> Result<u64, NnError> {
    let received = ThreadGroup::run(4, |group| -> Result<u64, NnError> {
        let (encoder, _) = world.encoder(1)?;
        let (a, p) = rank_batch(&*group, world, 0, 64)?;
        let info_nce = DistributedInfoNce::new(group.clone(), TEMPERATURE)?;
        info_nce.forward(&encoder.forward(&a)?, &encoder.forward(&p)?)?;
        Ok(group.traffic().received)
    })?;
    Ok(received[0])
}
