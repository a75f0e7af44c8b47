//! Training on batches of a few classes with a few examples each, where classes are many: glyphs, and kinds of fraud.

use std::ops::Range;

use anyhow::{Result, ensure};
use candle_core::{Device, Tensor};
use eas_data::synth::glyphs::{Glyphs, PIXELS};
use eas_losses::metric::PairContrastive;
use eas_losses::mining::{Strategy, TripletMiner};
use eas_losses::proto::episodic_loss;
use eas_losses::sampler::PkSampler;
use eas_losses::{Distance, LossError, Reduction, Triplet};
use eas_nn::encoders::{Encoder, Mlp};
use eas_nn::params::Parameters;
use eas_nn::train::Training;
use eas_tensor::Matrix;

use crate::digit_net::{pick, tensor};

/// Steps of Adam, each on `p` classes of `k` rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PkTraining {
    /// Classes a batch; all of them where there are fewer.
    pub p: usize,
    /// Rows a class.
    pub k: usize,
    /// Batches.
    pub steps: usize,
    /// Step size of Adam.
    pub learning_rate: f64,
    /// Seed of the batches.
    pub seed: u64,
}

impl PkTraining {
    /// Trains `encoder` on labelled rows. `loss` gets the embeddings of a batch, class by class, and their labels.
    pub fn run<E: Encoder + Sync>(
        &self,
        params: &Parameters,
        encoder: &E,
        rows: &Matrix,
        labels: &[u32],
        mut loss: impl FnMut(&Tensor, &[u32]) -> Result<Tensor, LossError> + Send,
    ) -> Result<()> {
        ensure!(rows.rows() == labels.len(), "{} rows, {} labels", rows.rows(), labels.len());
        let mut classes = labels.to_vec();
        classes.sort_unstable();
        classes.dedup();
        let sampler = PkSampler::new(labels, self.p.min(classes.len()), self.k, Some(self.steps), self.seed)?;
        let batches: Vec<Vec<u32>> =
            sampler.epoch(0).map(|batch| batch.into_iter().map(|row| row as u32).collect()).collect();
        // One example of the loop is one batch here.
        let run = Training { epochs: 1, batch: 1, learning_rate: self.learning_rate, seed: self.seed };
        let rows = tensor(rows)?;
        run.run(params, self.steps, |number| {
            let batch = &batches[number[0] as usize];
            let of_batch: Vec<u32> = batch.iter().map(|&row| labels[row as usize]).collect();
            Ok(loss(&encoder.forward(&pick(&rows, batch)?)?, &of_batch)?)
        })?;
        Ok(())
    }
}

/// The triplet loss of each row with its farthest positive and nearest negative, over all rows.
pub fn batch_hard(margin: f64) -> impl Fn(&Tensor, &[u32]) -> Result<Tensor, LossError> {
    let miner = TripletMiner { strategy: Strategy::BatchHard, margin, distance: Distance::Euclidean };
    let triplet = Triplet { margin, ..Triplet::default() };
    move |embeddings, labels| {
        let triplets = miner.mine(embeddings, labels)?;
        Ok(triplet.mined(embeddings, &triplets, Reduction::MeanAll)?.loss)
    }
}

/// What the encoders are trained with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Triplets with a margin of 0.3, each row with its farthest positive and nearest negative.
    BatchHard,
    /// The contrastive loss of all pairs with a margin of 1.
    Pairs,
    /// Prototypical episodes, with logits of -5 times the squared distance.
    Episodes,
}

impl Loss {
    /// What tables call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::BatchHard => "batch-hard triplets",
            Self::Pairs => "contrastive, all pairs",
            Self::Episodes => "prototypical episodes",
        }
    }

    /// The loss of a batch that has four rows of each class.
    fn cost(self, embeddings: &Tensor, labels: &[u32]) -> Result<Tensor, LossError> {
        match self {
            Self::BatchHard => batch_hard(0.3)(embeddings, labels),
            Self::Pairs => Ok(PairContrastive { margin: 1.0 }.all_pairs(embeddings, labels)?.loss),
            Self::Episodes => {
                // Two rows are the support of their class, two its queries.
                let half = |queries: bool| {
                    let rows = (0..labels.len() as u32).filter(|row| (row % 4 > 1) == queries);
                    embeddings.index_select(&Tensor::from_iter(rows, embeddings.device())?, 0)
                };
                let classes: Vec<u32> = (0..labels.len() as u32 / 4).flat_map(|class| [class, class]).collect();
                episodic_loss(&half(false)?, &classes, &half(true)?, &classes, 5.0)
            }
        }
    }
}

/// Units of the hidden layer. With 256 its weights would be 65,536, from where on candle spreads every addition over threads that wait for
/// each other: twice the time.
const HIDDEN: usize = 240;

/// An encoder of glyphs, 256 pixels through 240 units to 64 dimensions, trained on 20 pictures of each class, 16 classes of 4 a step.
pub fn glyph_encoder(glyphs: &Glyphs, classes: Range<u32>, loss: Loss, steps: usize, seed: u64) -> Result<Mlp> {
    let mut params = Parameters::new(seed, &Device::Cpu);
    let encoder = Mlp::new(&mut params, "glyphs", PIXELS, HIDDEN, 64)?;
    let (pictures, labels) = glyphs.pictures(classes, 0..20);
    let training = PkTraining { p: 16, k: 4, steps, learning_rate: 2e-3, seed };
    training.run(&params, &encoder, &pictures, &labels, |embeddings, labels| loss.cost(embeddings, labels))?;
    Ok(encoder)
}
