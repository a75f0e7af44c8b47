//! A Siamese network with self-attention over the parts of an input and a projection head, and a training loop with its switches: mixed
//! precision, activation checkpointing, warm-up and clipping.

use candle_core::{Tensor, Var};
use eas_losses::metric::{Neg, PairContrastive, PairLabel, Triplet};

use crate::amp::GradScaler;
use crate::checkpoint::{ActivationMeter, Block, Differentiated, Segmented};
use crate::encoders::Encoder;
use crate::gradients::Gradients;
use crate::heads::ProjectionHead;
use crate::layers::{Linear, l2_normalize};
use crate::optim::{Method, Optimizer, Schedule};
use crate::params::Parameters;
use crate::train::on_one_thread;
use crate::transformer::MultiHeadAttention;
use crate::{Mode, NnError, Precision};

/// The widths of an [`AttentionSiamese`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionConfig {
    /// Into how many tokens an input is cut. With one, attention is a linear layer.
    pub tokens: usize,
    /// Features of a token; an input row has `tokens * width`.
    pub width: usize,
    /// Hidden width of the network that reads a token.
    pub hidden: usize,
    /// Width of a token's vector and dimension of the embedding.
    pub dim: usize,
    /// Attention heads, a divisor of `dim`; `None` leaves the attention out.
    pub heads: Option<usize>,
    /// Dropout on the attention weights.
    pub dropout: f64,
}

/// A network with one hidden layer for each token, to which learned positions are added there (after it, a mean over tokens would
/// see only their sum), self-attention with a skip connection (Vaswani et al. 2017), the mean over tokens, and a projection head (linear,
/// batch normalisation, ReLU, linear) to a unit vector.
#[derive(Debug, Clone)]
pub struct AttentionSiamese {
    config: AttentionConfig,
    base: [Linear; 2],
    positions: Option<Var>,
    attention: Option<MultiHeadAttention>,
    projection: ProjectionHead,
}

impl AttentionSiamese {
    /// A network whose parameters are called `name.base1`, `name.base2`, `name.positions` (with two tokens or more), `name.attention` and
    /// `name.projection`.
    pub fn new(params: &mut Parameters, name: &str, config: AttentionConfig) -> Result<Self, NnError> {
        let AttentionConfig { tokens, width, hidden, dim, heads, dropout } = config;
        if tokens == 0 {
            return Err(NnError::Argument { name: "tokens", got: "0".to_owned(), expected: "at least 1".to_owned() });
        }
        Ok(Self {
            config,
            base: [
                Linear::new(params, &format!("{name}.base1"), width, hidden)?,
                Linear::new(params, &format!("{name}.base2"), hidden, dim)?,
            ],
            positions: if tokens > 1 {
                Some(params.normal(&format!("{name}.positions"), &[tokens, hidden], 0.5)?)
            } else {
                None
            },
            attention: match heads {
                Some(heads) => {
                    Some(MultiHeadAttention::new(params, &format!("{name}.attention"), dim, heads, dropout)?)
                }
                None => None,
            },
            projection: ProjectionHead::with_batch_norm(params, &format!("{name}.projection"), dim, dim, dim)?,
        })
    }

    /// The vectors that attention reads, `(batch, tokens, dim)`, of inputs `(batch, tokens * width)`.
    pub fn tokens(&self, input: &Tensor, mode: Mode) -> Result<Tensor, NnError> {
        self.read(input, mode, &ActivationMeter::new())
    }

    /// The attention block.
    pub fn attention(&self) -> Option<&MultiHeadAttention> {
        self.attention.as_ref()
    }

    fn read(&self, input: &Tensor, mode: Mode, meter: &ActivationMeter) -> Result<Tensor, NnError> {
        let AttentionConfig { tokens, width, .. } = self.config;
        if input.rank() != 2 || input.dim(1)? != tokens * width {
            return Err(NnError::Shape {
                what: "input of the attention network".to_owned(),
                expected: format!("(batch, {tokens} x {width})"),
                got: input.dims().to_vec(),
            });
        }
        let x = input.reshape(((), tokens, width))?;
        let mut hidden = self.base[0].forward_in(&x, mode)?;
        if let Some(positions) = &self.positions {
            hidden = hidden.broadcast_add(positions)?;
        }
        let hidden = hidden.relu()?;
        meter.keep(&x);
        meter.keep(&hidden);
        self.base[1].forward_in(&hidden, mode)
    }

    fn attend(&self, x: &Tensor, mode: Mode, meter: &ActivationMeter) -> Result<Tensor, NnError> {
        let Some(attention) = &self.attention else {
            return Ok(x.mean(1)?);
        };
        let (out, weights) = attention.forward_with_weights(x, None, mode)?;
        // The input, queries, keys, values and what the heads say together; the scores become weights, which may be dropped. The sum
        // with the input keeps nothing.
        for _ in 0..5 {
            meter.keep(x);
        }
        meter.keep(&weights);
        meter.keep(&weights);
        Ok((out + x)?.mean(1)?)
    }

    fn project(&self, x: &Tensor, mode: Mode, meter: &ActivationMeter) -> Result<Tensor, NnError> {
        let out = self.projection.forward(x, mode)?;
        // The input, before and after normalisation, after ReLU, and the output before it is scaled: all of one width.
        for _ in 0..5 {
            meter.keep(x);
        }
        l2_normalize(&out)
    }

    /// The gradient of `loss` of the embeddings of `inputs`, which are encoded in one pass, split again and handed to it in order.
    ///
    /// With `checkpoint` only the inputs of the three blocks are kept, and each is run again in the backward pass: the same gradient, the
    /// same dropout, statistics updated once.
    pub fn differentiate(
        &self,
        inputs: &[&Tensor],
        mode: Mode,
        checkpoint: bool,
        meter: &ActivationMeter,
        loss: impl FnOnce(&[Tensor]) -> Result<Tensor, NnError>,
    ) -> Result<Differentiated, NnError> {
        let rows = inputs.iter().map(|x| x.dim(0)).collect::<Result<Vec<_>, _>>()?;
        let read = |x: &Tensor, mode: Mode, meter: &ActivationMeter| self.read(x, mode, meter);
        let attend = |x: &Tensor, mode: Mode, meter: &ActivationMeter| self.attend(x, mode, meter);
        let project = |x: &Tensor, mode: Mode, meter: &ActivationMeter| self.project(x, mode, meter);
        let blocks: [&Block<'_>; 3] = [&read, &attend, &project];
        let split_loss = |all: &Tensor| {
            let mut start = 0;
            let mut parts = Vec::with_capacity(rows.len());
            for &count in &rows {
                parts.push(all.narrow(0, start, count)?);
                start += count;
            }
            loss(&parts)
        };
        let input = Tensor::cat(inputs, 0)?;
        if checkpoint {
            Segmented::new(blocks.len())?.run(&blocks, &input, mode, meter, split_loss)
        } else {
            Segmented::plain(&blocks, &input, mode, meter, split_loss)
        }
    }
}

impl Encoder for AttentionSiamese {
    fn dim(&self) -> usize {
        self.config.dim
    }

    /// `input`: shape `(batch, tokens * width)`, f32.
    fn forward(&self, input: &Tensor) -> Result<Tensor, NnError> {
        self.forward_in(input, Mode::EVAL)
    }

    fn forward_in(&self, input: &Tensor, mode: Mode) -> Result<Tensor, NnError> {
        let meter = ActivationMeter::new();
        let tokens = self.read(input, mode, &meter)?;
        self.project(&self.attend(&tokens, mode, &meter)?, mode, &meter)
    }
}

/// A batch of pairs with what a pair costs, or of triplets with what a triplet costs: a pair can't meet a triplet loss.
#[derive(Debug, Clone)]
pub enum SiameseBatch {
    /// Two inputs and a label a pair.
    Pairs {
        /// What they cost.
        loss: PairContrastive,
        /// First members, `(pairs, features)`.
        first: Tensor,
        /// Second members.
        second: Tensor,
        /// Whether they belong together.
        labels: Vec<PairLabel>,
    },
    /// Three inputs a triplet.
    Triplets {
        /// What they cost.
        loss: Triplet,
        /// Anchors, `(triplets, features)`.
        anchors: Tensor,
        /// One of the same class each.
        positives: Tensor,
        /// One of another class each.
        negatives: Tensor,
    },
}

/// How [`SiameseTrainer`] takes its steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SiameseTraining {
    /// Step size of AdamW (Loshchilov and Hutter 2019) after the warm-up: 1e-3 from scratch, 1e-4 for fine-tuning.
    pub learning_rate: f64,
    /// Decay of weights.
    pub weight_decay: f64,
    /// Steps over which the step size rises from 0.
    pub warmup: usize,
    /// Largest norm of a gradient.
    pub clip: f64,
    /// Precision of matrix products; in f16 the loss is scaled.
    pub precision: Precision,
    /// Whether activations are computed again instead of kept.
    pub checkpoint: bool,
    /// Seed of the dropout.
    pub seed: u64,
}

impl Default for SiameseTraining {
    fn default() -> Self {
        Self {
            learning_rate: 1e-3,
            weight_decay: 0.01,
            warmup: 20,
            clip: 1.0,
            precision: Precision::F32,
            checkpoint: false,
            seed: 0,
        }
    }
}

/// What an epoch came to, means over its examples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SiameseEpoch {
    /// The loss.
    pub loss: f64,
    /// The share of pairs on the right side of half the margin, or of triplets whose positive is nearer.
    pub accuracy: f64,
    /// Steps whose gradient overflowed f16 and was thrown away.
    pub skipped: u64,
    /// The most numbers that waited for a backward pass.
    pub stored: usize,
}

/// Trains an [`AttentionSiamese`] epoch by epoch.
#[derive(Debug)]
pub struct SiameseTrainer<'a> {
    model: &'a AttentionSiamese,
    params: &'a Parameters,
    settings: SiameseTraining,
    optimizer: Optimizer,
    scaler: GradScaler,
    step: u64,
}

impl<'a> SiameseTrainer<'a> {
    /// A trainer at step 0.
    pub fn new(
        model: &'a AttentionSiamese,
        params: &'a Parameters,
        settings: SiameseTraining,
    ) -> Result<Self, NnError> {
        for (name, value) in [("learning rate", settings.learning_rate), ("largest gradient norm", settings.clip)] {
            if !(value > 0.0 && value.is_finite()) {
                return Err(NnError::Argument {
                    name,
                    got: value.to_string(),
                    expected: "positive and finite".to_owned(),
                });
            }
        }
        let optimizer = Optimizer::new(Method::adamw(settings.weight_decay), params)?;
        Ok(Self { model, params, settings, optimizer, scaler: GradScaler::default(), step: 0 })
    }

    /// One step a batch, on one thread.
    pub fn train_epoch(&mut self, batches: &[SiameseBatch]) -> Result<SiameseEpoch, NnError> {
        on_one_thread(|| self.epoch(batches))
    }

    fn epoch(&mut self, batches: &[SiameseBatch]) -> Result<SiameseEpoch, NnError> {
        let skipped = self.scaler.skipped;
        let (mut loss, mut accuracy, mut rows, mut stored) = (0.0, 0.0, 0, 0);
        for batch in batches {
            let meter = ActivationMeter::new();
            let (of_batch, right, count) = self.descend(batch, &meter)?;
            loss += of_batch * count as f64;
            accuracy += right * count as f64;
            rows += count;
            stored = stored.max(meter.peak());
        }
        if rows == 0 {
            return Err(NnError::Argument { name: "examples", got: "0".to_owned(), expected: "at least 1".to_owned() });
        }
        let skipped = self.scaler.skipped - skipped;
        Ok(SiameseEpoch { loss: loss / rows as f64, accuracy: accuracy / rows as f64, skipped, stored })
    }

    /// Loss, accuracy and number of examples of one step.
    fn descend(&mut self, batch: &SiameseBatch, meter: &ActivationMeter) -> Result<(f64, f64, usize), NnError> {
        let SiameseTraining { learning_rate, warmup, clip, precision, checkpoint, seed, .. } = self.settings;
        let mode = Mode::train(seed, self.step).with_precision(precision);
        let scale = if precision == Precision::F16 { self.scaler.scale } else { 1.0 };
        let mut accuracy = 0.0;
        let (done, rows) = match batch {
            SiameseBatch::Pairs { loss, first, second, labels } => {
                let done = self.model.differentiate(&[first, second], mode, checkpoint, meter, |parts| {
                    let out = loss.forward(&parts[0], &parts[1], labels)?;
                    accuracy = out.metrics.accuracy;
                    Ok((out.loss * scale)?)
                })?;
                (done, labels.len())
            }
            SiameseBatch::Triplets { loss, anchors, positives, negatives } => {
                let inputs = [anchors, positives, negatives];
                let done = self.model.differentiate(&inputs, mode, checkpoint, meter, |parts| {
                    let out = loss.forward(&parts[0], &parts[1], Neg::One(&parts[2]))?;
                    accuracy = out.metrics.accuracy;
                    Ok((out.loss * scale)?)
                })?;
                (done, anchors.dim(0)?)
            }
        };
        let Differentiated { loss, gradients, .. } = done;
        let mut gradients = Gradients::from_store(&gradients, self.params);
        gradients.scale(1.0 / scale)?;
        let broken = gradients.first_not_finite()?;
        if precision == Precision::F16 {
            self.scaler.update(broken.is_none());
        } else if let Some((tensor, value)) = broken {
            return Err(NnError::Stopped { step: self.step, what: format!("the gradient of {tensor:?}"), value });
        } else if !loss.is_finite() {
            return Err(NnError::Stopped { step: self.step, what: "the loss".to_owned(), value: loss });
        }
        if broken.is_none() {
            gradients.clip(clip)?;
            let schedule = Schedule { warm_up: warmup as u64, ..Schedule::constant(learning_rate) };
            self.optimizer.step(&gradients, schedule.at(self.step))?;
        }
        self.step += 1;
        Ok((loss / scale, accuracy, rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn config(tokens: usize) -> AttentionConfig {
        AttentionConfig { tokens, width: 8 / tokens, hidden: 12, dim: 8, heads: Some(2), dropout: 0.1 }
    }

    fn waves(rows: usize, frequency: f32) -> Tensor {
        let values: Vec<f32> = (0..rows * 8).map(|i| (i as f32 * frequency).sin()).collect();
        Tensor::from_vec(values, (rows, 8), &Device::Cpu).unwrap()
    }

    fn batches() -> Vec<SiameseBatch> {
        let (first, second) = (waves(6, 0.7), waves(6, 1.3));
        let labels = (0..6).map(|i| if i < 3 { PairLabel::Same } else { PairLabel::Different }).collect();
        let pairs = SiameseBatch::Pairs { loss: PairContrastive::default(), first, second, labels };
        let triplets = SiameseBatch::Triplets {
            loss: Triplet::default(),
            anchors: waves(5, 0.7),
            positives: waves(5, 0.71),
            negatives: waves(5, 2.1),
        };
        vec![pairs, triplets]
    }

    fn train(settings: SiameseTraining) -> (SiameseEpoch, SiameseEpoch, Vec<f32>) {
        let mut params = Parameters::new(2, &Device::Cpu);
        let model = AttentionSiamese::new(&mut params, "net", config(4)).unwrap();
        let mut trainer = SiameseTrainer::new(&model, &params, settings).unwrap();
        let first = trainer.train_epoch(&batches()).unwrap();
        let mut last = first;
        for _ in 0..30 {
            last = trainer.train_epoch(&batches()).unwrap();
        }
        (first, last, model.encode(&waves(3, 0.9)).unwrap().into_vec())
    }

    #[test]
    fn pairs_and_triplets_train_in_every_precision_and_checkpointed_alike() {
        let settings = SiameseTraining { learning_rate: 1e-2, ..SiameseTraining::default() };
        let (first, last, plain) = train(settings);
        assert!(last.loss < 0.5 * first.loss, "{first:?} {last:?}");
        let (_, again, recomputed) = train(SiameseTraining { checkpoint: true, ..settings });
        assert!((again.loss - last.loss).abs() < 1e-3 && again.stored < last.stored, "{last:?} {again:?}");
        assert!(plain.iter().zip(&recomputed).all(|(x, y)| (x - y).abs() < 1e-2));
        for precision in [Precision::Bf16, Precision::F16] {
            let (first, last, _) = train(SiameseTraining { precision, ..settings });
            assert!(last.loss < 0.5 * first.loss, "{precision:?} {first:?} {last:?}");
            // The first scale of f16 is too large, and is halved until it fits.
            assert!(precision == Precision::F16 || first.skipped == 0);
            assert_eq!(last.skipped, 0, "{precision:?}");
        }
    }

    #[test]
    fn checkpointing_changes_no_gradient_and_no_statistic() {
        let run = |checkpoint: bool| {
            let mut params = Parameters::new(2, &Device::Cpu);
            let model = AttentionSiamese::new(&mut params, "net", config(4)).unwrap();
            let (x, y) = (waves(4, 0.7), waves(4, 1.9));
            let distance = |parts: &[Tensor]| Ok((&parts[0] - &parts[1])?.sqr()?.sum_all()?);
            let meter = ActivationMeter::new();
            let out = model.differentiate(&[&x, &y], Mode::train(1, 0), checkpoint, &meter, distance).unwrap();
            let gradients = Gradients::from_store(&out.gradients, &params);
            let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let gradients: Vec<f32> = gradients.iter().flat_map(|(_, g)| flat(g.unwrap())).collect();
            let buffers: Vec<f32> = params.buffers().flat_map(|(_, v)| flat(v)).collect();
            (gradients, buffers)
        };
        let (plain, again) = (run(false), run(true));
        assert!(plain.0.iter().zip(&again.0).all(|(x, y)| (x - y).abs() < 1e-6));
        assert_eq!(plain.1, again.1);
    }

    #[test]
    fn attention_over_one_token_is_linear() {
        let mut params = Parameters::new(2, &Device::Cpu);
        let model = AttentionSiamese::new(&mut params, "net", config(1)).unwrap();
        let tokens = model.tokens(&waves(4, 0.7), Mode::EVAL).unwrap();
        let (_, weights) = model.attention().unwrap().forward_with_weights(&tokens, None, Mode::EVAL).unwrap();
        assert!(weights.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().all(|w| *w == 1.0));
    }

    #[test]
    fn impossible_settings_are_refused() {
        let build = |config| AttentionSiamese::new(&mut Parameters::new(1, &Device::Cpu), "net", config);
        assert!(build(AttentionConfig { tokens: 0, ..config(4) }).is_err());
        assert!(build(AttentionConfig { heads: Some(3), ..config(4) }).is_err());
        assert!(build(AttentionConfig { heads: None, ..config(4) }).is_ok());
        let mut params = Parameters::new(2, &Device::Cpu);
        let model = AttentionSiamese::new(&mut params, "net", config(4)).unwrap();
        assert!(matches!(model.forward(&waves(2, 1.0).narrow(1, 0, 7).unwrap()), Err(NnError::Shape { .. })));
        let settings = SiameseTraining { clip: 0.0, ..SiameseTraining::default() };
        assert!(SiameseTrainer::new(&model, &params, settings).is_err());
        let settings = SiameseTraining { learning_rate: f64::NAN, ..SiameseTraining::default() };
        assert!(SiameseTrainer::new(&model, &params, settings).is_err());
        let mut trainer = SiameseTrainer::new(&model, &params, SiameseTraining::default()).unwrap();
        assert!(trainer.train_epoch(&[]).is_err());
        let nan = (waves(2, 1.0) * f64::NAN).unwrap();
        let labels = vec![PairLabel::Same; 2];
        let batch = SiameseBatch::Pairs { loss: PairContrastive::default(), first: nan.clone(), second: nan, labels };
        assert!(matches!(trainer.train_epoch(&[batch]), Err(NnError::Stopped { step: 0, .. })));
    }
}
