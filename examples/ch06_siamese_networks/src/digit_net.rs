//! What the listings that compare losses on the digits have in common: one encoder, one optimizer, batches of pairs.

use anyhow::Result;
use candle_core::{Device, Tensor, Var};
use eas_losses::Triplet;
use eas_losses::metric::{PairContrastive, PairLabel};
use eas_nn::descent::Descent;
use eas_nn::encoders::Encoder as _;
use eas_nn::params::Parameters;
use eas_nn::siamese::attention::SiameseBatch;
use eas_nn::siamese::{EmbeddingConfig, EmbeddingNet, Siamese};
use eas_nn::{Mode, NnError};
use eas_tensor::Matrix;
use eas_tensor::rng::SplitMix64;

/// Steps of a training run.
pub const STEPS: usize = 300;
/// Step size of Adam.
pub const LEARNING_RATE: f64 = 2e-3;

/// 64 pixels through 128 and 64 hidden values to a unit vector of 32, without dropout.
#[derive(Debug)]
pub struct DigitNet {
    /// Its 19,040 weights.
    pub params: Parameters,
    /// Both branches.
    pub network: Siamese<EmbeddingNet>,
}

impl DigitNet {
    /// Untrained, with the weights of `seed`.
    pub fn new(seed: u64) -> Result<Self> {
        let mut params = Parameters::new(seed, &Device::Cpu);
        let config = EmbeddingConfig { input: 64, hidden: vec![128, 64], dim: 32, dropout: 0.0 };
        let network = Siamese::new(EmbeddingNet::new(&mut params, "digits", &config)?);
        Ok(Self { params, network })
    }

    /// Takes [`STEPS`] steps down the loss that `loss` gives for each step's number; returns the losses.
    pub fn train(&self, mut loss: impl FnMut(usize) -> Result<Tensor, NnError> + Send) -> Result<Vec<f64>> {
        let descent = Descent { steps: STEPS as u64, learning_rate: LEARNING_RATE, seed: 0 };
        Ok(descent.run(&self.params, |step, _| loss(step as usize))?)
    }

    /// A training pass over rows.
    pub fn forward(&self, rows: &Tensor) -> Result<Tensor, NnError> {
        self.network.encoder().forward_in(rows, Mode::train(0, 0))
    }

    /// Embeddings for scoring.
    pub fn embed(&self, rows: &Matrix) -> Result<Matrix> {
        Ok(self.network.embed(&tensor(rows)?)?)
    }
}

/// Rows as a tensor, `(rows, dim)`.
pub fn tensor(rows: &Matrix) -> Result<Tensor> {
    Ok(Tensor::from_slice(rows.as_slice(), (rows.rows(), rows.dim()), &Device::Cpu)?)
}

/// The given rows of a tensor.
pub fn pick(rows: &Tensor, indices: &[u32]) -> Result<Tensor, NnError> {
    Ok(rows.index_select(&Tensor::from_slice(indices, indices.len(), rows.device())?, 0)?)
}

/// Row numbers of pairs and their labels.
#[derive(Debug, Clone, Default)]
pub struct PairBatch {
    /// First members.
    pub first: Vec<u32>,
    /// Second members.
    pub second: Vec<u32>,
    /// Whether they belong together.
    pub labels: Vec<PairLabel>,
}

impl PairBatch {
    /// `size` random pairs of labelled rows, every other one of one class; each class needs two rows.
    pub fn draw(labels: &[u32], size: usize, rng: &mut SplitMix64) -> Self {
        let mut batch = Self::default();
        while batch.labels.len() < size {
            let wanted = batch.labels.len().is_multiple_of(2);
            let (i, j) = (rng.below(labels.len()), rng.below(labels.len()));
            if i != j && (labels[i] == labels[j]) == wanted {
                batch.first.push(i as u32);
                batch.second.push(j as u32);
                batch.labels.push(if wanted { PairLabel::Same } else { PairLabel::Different });
            }
        }
        batch
    }

    /// A step of the pairwise contrastive loss on these rows of `pixels`.
    pub fn as_pairs(&self, pixels: &Tensor) -> Result<SiameseBatch, NnError> {
        let (first, second) = (pick(pixels, &self.first)?, pick(pixels, &self.second)?);
        Ok(SiameseBatch::Pairs { loss: PairContrastive::default(), first, second, labels: self.labels.clone() })
    }

    /// A step of the triplet loss with margin 0.3: each same pair with the second member of the different pair that follows it, unless all
    /// three are of one class.
    pub fn as_triplets(&self, pixels: &Tensor, classes: &[u32]) -> Result<SiameseBatch, NnError> {
        let (mut anchors, mut positives, mut negatives) = (Vec::new(), Vec::new(), Vec::new());
        for i in 0..self.labels.len().saturating_sub(1) {
            let negative = self.second[i + 1];
            if self.labels[i] == PairLabel::Same && classes[self.first[i] as usize] != classes[negative as usize] {
                anchors.push(self.first[i]);
                positives.push(self.second[i]);
                negatives.push(negative);
            }
        }
        Ok(SiameseBatch::Triplets {
            loss: Triplet { margin: 0.3, ..Triplet::default() },
            anchors: pick(pixels, &anchors)?,
            positives: pick(pixels, &positives)?,
            negatives: pick(pixels, &negatives)?,
        })
    }
}

/// Means of `values` over stretches of `width`.
pub fn stretches(values: &[f64], width: usize) -> Vec<f64> {
    values.chunks(width.max(1)).map(|part| part.iter().sum::<f64>() / part.len() as f64).collect()
}

/// The gradient of a loss by a tensor, flat; empty when the loss doesn't depend on it.
pub fn gradient(loss: &Tensor, by: &Var) -> Result<Vec<f64>> {
    let gradients = loss.backward()?;
    gradients.get(by).map_or(Ok(vec![]), |gradient| Ok(gradient.flatten_all()?.to_vec1()?))
}
