//! The cycle of offline mining on the planted families: encode everything, mine, train on the mined triplets, and again.

use candle_core::Tensor;
use eas_losses::Distance;
use eas_losses::metric::{Neg, Triplet};
use eas_nn::NnError;
use eas_nn::encoders::{Encoder, Mlp};
use eas_tensor::Matrix;
use eas_tensor::rng::SplitMix64;

use crate::families::{FamilyWorld, train};

/// Steps between two minings.
pub const REFRESH: u64 = 50;
/// The number from which the views of the collection are counted; training views stay below.
const COLLECTION: u64 = 1_000_000;

/// How long and on what to train.
#[derive(Debug, Clone, Copy)]
pub struct Cycle {
    /// Ids, at least two; id i shows item i modulo the number of items, so that items may have several ids.
    pub ids: u32,
    /// Steps.
    pub steps: usize,
    /// Triplets a step.
    pub batch: usize,
    /// Seed of batches and negatives.
    pub seed: u64,
}

impl Cycle {
    /// The items that `ids` show.
    pub fn items(world: &FamilyWorld, ids: &[u32]) -> Vec<u32> {
        ids.iter().map(|&id| id % world.families().len() as u32).collect()
    }

    /// A view of all ids as `encoder` sees them now: shape `(ids, dim)`, rows of length 1.
    pub fn collection(&self, world: &FamilyWorld, encoder: &Mlp, step: u64) -> Result<Matrix, NnError> {
        let all: Vec<u32> = (0..self.ids).collect();
        encoder.encode(&world.view(&Self::items(world, &all), COLLECTION + step)?)
    }

    /// Trains an encoder on triplets of two views of an id and a view of a negative, margin 0.2 in
    /// cosine. Every [`REFRESH`] steps `mine` gets the
    /// encoder and the step and gives each id its list of negatives, from which one is drawn a step.
    ///
    /// Where a list is empty any other id is drawn.
    pub fn train(
        &self,
        world: &FamilyWorld,
        mut mine: impl FnMut(&Mlp, u64) -> Result<Vec<Vec<u32>>, NnError> + Send,
    ) -> Result<Mlp, NnError> {
        let (encoder, params) = world.encoder(1)?;
        let loss = Triplet { margin: 0.2, distance: Distance::Cosine, soft: false };
        let mut lists = Vec::new();
        train(&params, self.steps, 3e-3, |step| {
            if step % REFRESH == 0 {
                lists = mine(&encoder, step)?;
            }
            let mut rng = SplitMix64::stream(self.seed, step);
            let picks = rng.sample_indices(self.ids as usize, self.batch);
            let ids: Vec<u32> = picks.into_iter().map(|id| id as u32).collect();
            let mut draw = |&id: &u32| match lists[id as usize].as_slice() {
                // Any but the id itself, which is its only known positive.
                [] => ((id as usize + 1 + rng.below(self.ids as usize - 1)) % self.ids as usize) as u32,
                list => list[rng.below(list.len())],
            };
            let negatives: Vec<u32> = ids.iter().map(&mut draw).collect();
            let view = |ids: &[u32], number: u64| -> Result<Tensor, NnError> {
                encoder.forward(&world.view(&Self::items(world, ids), 3 * step + number)?)
            };
            Ok(loss.forward(&view(&ids, 2)?, &view(&ids, 3)?, Neg::One(&view(&negatives, 4)?))?.loss)
        })?;
        Ok(encoder)
    }
}

/// An index's error inside a training loop.
pub fn index_error(error: impl std::fmt::Display) -> NnError {
    NnError::Candle(candle_core::Error::Msg(error.to_string()))
}
