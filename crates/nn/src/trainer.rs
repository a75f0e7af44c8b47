//! The full training loop: schedules, clipping, accumulation, mixed precision, early stopping, a log, and checkpoints from which a run goes
//! on as if nothing had happened.
//!
//! A run is a function of its [`TrainerConfig`] and of the initial weights. The order of the data is drawn from the seed and the epoch, and
//! every random number of a step from the seed and the step, so a checkpoint has to hold only weights, optimizer and position for the
//! rest of the run to be the same to the bit.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use candle_core::{DType, Tensor};
use eas_tensor::rng::SplitMix64;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::accumulate::Accumulator;
use crate::amp::{GradScaler, Precision};
use crate::gradients::{Gradients, not_finite};
use crate::optim::{Method, Optimizer, Schedule};
use crate::params::Parameters;
use crate::{Mode, NnError, saved};

/// Hyper-parameters of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrainerConfig {
    /// Passes over the data.
    pub epochs: usize,
    /// Examples a step.
    pub batch: usize,
    /// Examples at a time within a step, for memory: exact for losses that are means over rows (see [`Accumulator`]).
    pub micro: Option<usize>,
    /// Whether the last batch of an epoch is left out when it is smaller.
    pub drop_last: bool,
    /// The optimizer.
    pub method: Method,
    /// The learning rate by step.
    pub schedule: Schedule,
    /// Largest norm of the gradient.
    pub clip: Option<f64>,
    /// The precision of matrix products, which the task takes from [`Batch::mode`].
    pub precision: Precision,
    /// Loss scaling; used with [`Precision::F16`] only.
    pub scaler: GradScaler,
    /// Seed of the order and of all that a step draws.
    pub seed: u64,
    /// When to stop before the last epoch.
    pub early_stopping: Option<EarlyStopping>,
}

impl TrainerConfig {
    /// Adam at a constant rate in f32; change fields as needed.
    pub fn new(epochs: usize, batch: usize, learning_rate: f64) -> Self {
        Self {
            epochs,
            batch,
            micro: None,
            drop_last: false,
            method: Method::ADAM,
            schedule: Schedule::constant(learning_rate),
            clip: None,
            precision: Precision::F32,
            scaler: GradScaler::default(),
            seed: 1,
            early_stopping: None,
        }
    }

    fn check(&self, examples: usize) -> Result<(), NnError> {
        let refused =
            |name, got: String, expected: &str| Err(NnError::Argument { name, got, expected: expected.to_owned() });
        if examples == 0 || examples > u32::MAX as usize {
            return refused("number of examples", examples.to_string(), "1 to 4,294,967,295");
        }
        if self.batch == 0 || (self.drop_last && self.batch > examples) {
            let expected = "at least 1, and no more than the examples when rests are dropped";
            return refused("batch", self.batch.to_string(), expected);
        }
        if self.micro == Some(0) {
            return refused("micro-batch", "0".to_owned(), "at least 1");
        }
        if let Some(clip) = self.clip.filter(|clip| clip.is_nan() || *clip <= 0.0) {
            return refused("largest gradient norm", clip.to_string(), "positive");
        }
        let sound = |s: &EarlyStopping| s.patience > 0 && s.min_delta >= 0.0 && s.min_delta.is_finite();
        if let Some(stopping) = self.early_stopping.filter(|stopping| !sound(stopping)) {
            let expected = "a patience of at least 1 and a finite min_delta of at least 0";
            return refused("early stopping", format!("{stopping:?}"), expected);
        }
        self.scaler.check()?;
        self.schedule.check()
    }

    /// What has to be the same for a resumed run to be the same run; the number of epochs and early stopping may change.
    fn fingerprint(&self, examples: usize) -> String {
        let Self { batch, micro, drop_last, method, schedule, clip, precision, scaler, seed, .. } = self;
        format!(
            "examples {examples}, batch {batch}, micro {micro:?}, drop_last {drop_last}, {method:?}, {schedule:?}, clip {clip:?}, \
             {precision:?}, {scaler:?}, seed {seed}"
        )
    }
}

/// Stop when the metric hasn't improved for some epochs, and go back to the best weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EarlyStopping {
    /// Epochs without improvement until the end.
    pub patience: usize,
    /// What an improvement must exceed.
    pub min_delta: f64,
    /// Which way is better.
    pub goal: Goal,
}

/// Which way a metric gets better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// A loss.
    Lower,
    /// An accuracy.
    Higher,
}

/// The examples of one (micro-)batch and the randomness of its step.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// Indices of examples.
    pub indices: &'a [u32],
    /// The step, from 0.
    pub step: u64,
    /// The epoch, from 0.
    pub epoch: usize,
    seed: u64,
    part: u64,
    precision: Precision,
}

impl Batch<'_> {
    /// The mode of the pass: training, in the run's precision.
    pub fn mode(&self) -> Mode {
        self.view(0)
    }

    /// The mode for view `view`, below 256, of the same examples: other dropout masks.
    pub fn view(&self, view: u64) -> Mode {
        Mode::train(self.seed, self.pass() | view).with_precision(self.precision)
    }

    /// A random stream of this step's own, for augmentation and sampling.
    pub fn rng(&self) -> SplitMix64 {
        SplitMix64::stream(self.seed ^ 0x6175_676d_656e_7421, self.pass())
    }

    fn pass(&self) -> u64 {
        (self.step << 24) | (self.part << 8)
    }

    /// An error that names the step and the tensor when a value of `x` isn't finite.
    pub fn require_finite(&self, name: &str, x: &Tensor) -> Result<(), NnError> {
        match not_finite(x)? {
            None => Ok(()),
            Some(value) => Err(NnError::Stopped { step: self.step, what: format!("the input {name:?}"), value }),
        }
    }
}

/// What is trained. A closure from a [`Batch`] to a loss is a task.
pub trait Task {
    /// The mean loss of a batch, a scalar tensor.
    fn loss(&mut self, batch: &Batch<'_>) -> Result<Tensor, NnError>;

    /// The loss of a batch and the gradient of `scale` times it; replace it to compute gradients in another way, such as `GradCache`.
    fn gradients(&mut self, params: &Parameters, batch: &Batch<'_>, scale: f64) -> Result<(f64, Gradients), NnError> {
        let loss = self.loss(batch)?;
        let value: f64 = loss.to_dtype(DType::F64)?.to_scalar()?;
        if !value.is_finite() {
            return Ok((value, Gradients::none(params)));
        }
        let scaled = if scale == 1.0 { loss } else { (loss * scale)? };
        Ok((value, Gradients::of(&scaled, params)?))
    }

    /// After each step: move a momentum encoder, push keys to a queue.
    fn after_step(&mut self, step: u64) -> Result<(), NnError> {
        let _ = step;
        Ok(())
    }

    /// Metrics at the end of an epoch, by name; early stopping watches the first one, or the training loss when there is none.
    fn evaluate(&mut self, epoch: usize) -> Result<Vec<(String, f64)>, NnError> {
        let _ = epoch;
        Ok(Vec::new())
    }

    /// Input tensors that are checked for NaN and infinities before the first step.
    fn inputs(&self) -> Vec<(&str, &Tensor)> {
        Vec::new()
    }

    /// State beside the trained parameters that a checkpoint must hold: a momentum encoder's weights, a queue.
    fn state(&self) -> Result<BTreeMap<String, Tensor>, NnError> {
        Ok(BTreeMap::new())
    }

    /// Takes back what [`state`](Self::state) gave; must change nothing when it refuses.
    fn restore(&mut self, state: BTreeMap<String, Tensor>) -> Result<(), NnError> {
        match state.into_keys().next() {
            None => Ok(()),
            Some(name) => Err(NnError::Parameter(name)),
        }
    }
}

impl<F: FnMut(&Batch<'_>) -> Result<Tensor, NnError>> Task for F {
    fn loss(&mut self, batch: &Batch<'_>) -> Result<Tensor, NnError> {
        self(batch)
    }
}

/// A step that was made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// Steps made so far, this one included.
    pub step: u64,
    /// The epoch, from 0.
    pub epoch: usize,
    /// Batches done in this epoch.
    pub batch: usize,
    /// Batches of this epoch.
    pub batches: usize,
    /// The mean loss.
    pub loss: f64,
    /// The learning rate.
    pub learning_rate: f64,
    /// The norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// The loss scale; 1 without scaling.
    pub scale: f64,
    /// Whether the step was skipped because a scaled gradient overflowed.
    pub skipped: bool,
}

/// An epoch that was finished.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochReport {
    /// The epoch, from 0.
    pub epoch: usize,
    /// The mean training loss over its examples.
    #[serde(with = "bits")]
    pub loss: f64,
    /// What the task measured.
    pub metrics: Vec<Metric>,
}

/// A measured value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// Its value.
    #[serde(with = "bits")]
    pub value: f64,
}

/// Why a run returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// All epochs are done.
    Finished,
    /// Early stopping.
    Early,
    /// The callback asked for it; the run can go on.
    Paused,
}

/// What a run did.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Why it returned.
    pub end: End,
    /// Steps made since the very beginning.
    pub steps: u64,
    /// Steps skipped by the loss scaling.
    pub skipped: u64,
    /// All epochs since the very beginning.
    pub epochs: Vec<EpochReport>,
    /// With early stopping the epoch whose weights the model has after the end.
    pub best_epoch: Option<usize>,
}

/// Where a run stands. Floats are stored by their bits.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Progress {
    fingerprint: String,
    step: u64,
    epoch: usize,
    batch: usize,
    rows: usize,
    #[serde(with = "bits")]
    loss_sum: f64,
    epochs: Vec<EpochReport>,
    #[serde(with = "bits")]
    scale: f64,
    good: u64,
    skipped: u64,
    best_epoch: Option<usize>,
    #[serde(with = "bits")]
    best: f64,
    since_best: usize,
    stopped: bool,
}

/// JSON numbers don't keep the last bit of a float in every reader; its bits as an integer do.
mod bits {
    use serde::{Deserialize, Deserializer, Serializer};

    #[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(value.to_bits())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Ok(f64::from_bits(u64::deserialize(deserializer)?))
    }
}

/// The indices of the batches of an epoch.
type Batches = Box<dyn Fn(usize) -> Result<Vec<Vec<u32>>, NnError> + Send>;

/// Trains some [`Parameters`] on a [`Task`].
///
/// ```
/// use candle_core::{Device, Tensor};
/// use eas_nn::{params::Parameters, trainer::{Batch, Trainer, TrainerConfig}};
/// use std::ops::ControlFlow;
///
/// let mut params = Parameters::new(1, &Device::Cpu);
/// let slope = params.constant("slope", &[1], 0.0)?;
/// let mut task = |batch: &Batch<'_>| {
///     let x = Tensor::from_iter(batch.indices.iter().map(|&i| i as f32 / 10.0), &Device::Cpu)?;
///     Ok((x.broadcast_mul(&slope)? - (&x * 3.0)?)?.sqr()?.mean_all()?)
/// };
/// let mut trainer = Trainer::new(TrainerConfig::new(100, 4, 0.1), &params, 10)?;
/// let outcome = trainer.run(&mut task, |_| ControlFlow::Continue(()))?;
/// assert_eq!(outcome.steps, 300);
/// assert!((slope.to_vec1::<f32>()?[0] - 3.0).abs() < 1e-2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Trainer {
    config: TrainerConfig,
    params: Parameters,
    examples: usize,
    optimizer: Optimizer,
    scaler: GradScaler,
    progress: Progress,
    best: Option<BTreeMap<String, Tensor>>,
    batches: Option<Batches>,
    checkpoint: Option<(PathBuf, u64)>,
    log: Option<PathBuf>,
}

impl std::fmt::Debug for Trainer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trainer")
            .field("config", &self.config)
            .field("progress", &self.progress)
            .finish_non_exhaustive()
    }
}

impl Trainer {
    /// A run that hasn't begun, over examples `0..examples`.
    pub fn new(config: TrainerConfig, params: &Parameters, examples: usize) -> Result<Self, NnError> {
        config.check(examples)?;
        Ok(Self {
            progress: Progress { fingerprint: config.fingerprint(examples), ..Progress::default() },
            optimizer: Optimizer::new(config.method, params)?,
            scaler: config.scaler,
            params: params.clone(),
            config,
            examples,
            best: None,
            batches: None,
            checkpoint: None,
            log: None,
        })
    }

    /// Takes the batches of each epoch from `batches` instead of cutting a shuffled order: class-balanced batches, say. It has to give
    /// the same for the same epoch.
    #[must_use]
    pub fn with_batches(self, batches: impl Fn(usize) -> Result<Vec<Vec<u32>>, NnError> + Send + 'static) -> Self {
        Self { batches: Some(Box::new(batches)), ..self }
    }

    /// Writes a checkpoint to `path` after every `steps` steps, after each epoch, and when the callback pauses the run.
    #[must_use]
    pub fn checkpoint_to(self, path: impl Into<PathBuf>, steps: u64) -> Self {
        Self { checkpoint: Some((path.into(), steps.max(1))), ..self }
    }

    /// Appends one JSON object a line to `path`: a line with `step` for each step and one with `epoch_loss` for each epoch.
    ///
    /// A resumed run first takes out what lies behind its checkpoint, so that the log is that of one run.
    #[must_use]
    pub fn log_to(self, path: impl Into<PathBuf>) -> Self {
        Self { log: Some(path.into()), ..self }
    }

    /// Goes to where the checkpoint file stands; false when there is no such file yet.
    ///
    /// A file that is truncated, damaged, of another program, of another model or of other hyper-parameters is an error, and then
    /// nothing is changed.
    pub fn resume(&mut self, task: &mut (impl Task + ?Sized)) -> Result<bool, NnError> {
        let Some((path, _)) = self.checkpoint.clone() else {
            return Err(NnError::Argument {
                name: "checkpoint",
                got: "none".to_owned(),
                expected: "a path set by checkpoint_to".to_owned(),
            });
        };
        if !path.exists() {
            return Ok(false);
        }
        let failed = |reason: String| NnError::Checkpoint { path: path.display().to_string(), reason };
        let (tensors, progress) = saved::read(&path, self.params.device())?;
        let progress: Progress = serde_json::from_str(&progress).map_err(|error| failed(error.to_string()))?;
        let own = self.config.fingerprint(self.examples);
        if progress.fingerprint != own {
            return Err(failed(format!("of another run: it has {}; this run has {own}", progress.fingerprint)));
        }
        let mut parts: BTreeMap<&str, BTreeMap<String, Tensor>> = BTreeMap::new();
        for (name, tensor) in tensors {
            let known =
                name.split_once('/').and_then(|(part, rest)| Some((*PARTS.iter().find(|p| **p == part)?, rest)));
            let (part, rest) = known.ok_or_else(|| failed(format!("unknown tensor {name:?}")))?;
            parts.entry(part).or_default().insert(rest.to_owned(), tensor);
        }
        let mut part = |name| parts.remove(name).unwrap_or_default();
        // The new optimizer and the old weights stay aside until everything has been accepted.
        let mut optimizer = Optimizer::new(self.config.method, &self.params)?;
        optimizer.restore(&part("optimizer")).map_err(|error| failed(error.to_string()))?;
        let before = self.params.snapshot()?;
        self.params.restore(&part("model")).map_err(|error| failed(error.to_string()))?;
        if let Err(error) = task.restore(part("task")) {
            self.params.restore(&before)?;
            return Err(failed(error.to_string()));
        }
        self.optimizer = optimizer;
        self.best = Some(part("best")).filter(|best| !best.is_empty());
        let Progress { scale, good, skipped, .. } = progress;
        self.scaler = GradScaler { scale, good, skipped, ..self.config.scaler };
        self.progress = progress;
        Ok(true)
    }

    /// Writes the checkpoint now. Weights that aren't finite are an error, and the file keeps the last good ones.
    pub fn save(&self, task: &(impl Task + ?Sized)) -> Result<(), NnError> {
        let Some((path, _)) = &self.checkpoint else { return Ok(()) };
        for (name, var) in self.params.state() {
            if let Some(value) = not_finite(var)? {
                return Err(NnError::Stopped { step: self.progress.step, what: format!("the weight {name:?}"), value });
            }
        }
        let mut tensors = BTreeMap::new();
        let best = self.best.clone().unwrap_or_default();
        let parts = [self.params.snapshot()?, self.optimizer.state()?, task.state()?, best];
        for (part, values) in PARTS.iter().zip(parts) {
            tensors.extend(values.into_iter().map(|(name, tensor)| (format!("{part}/{name}"), tensor)));
        }
        let GradScaler { scale, good, skipped, .. } = self.scaler;
        let progress = Progress { scale, good, skipped, ..self.progress.clone() };
        let progress = serde_json::to_string(&progress)
            .map_err(|error| NnError::Checkpoint { path: path.display().to_string(), reason: error.to_string() })?;
        saved::write(path, tensors, progress)
    }

    /// Trains to the last epoch, or goes on from where it stands; `callback` sees every step and may pause the run.
    ///
    /// A loss, gradient or metric that isn't finite ends the run with an error that names step and tensor. That step changed
    /// nothing, and the checkpoint file stays as it was.
    pub fn run(
        &mut self,
        task: &mut (impl Task + ?Sized),
        mut callback: impl FnMut(&StepReport) -> ControlFlow<()>,
    ) -> Result<Outcome, NnError> {
        for (name, x) in task.inputs() {
            if x.elem_count() == 0 {
                return Err(NnError::Empty { what: format!("input {name:?}") });
            }
            if let Some(value) = not_finite(x)? {
                let what = format!("the input {name:?}");
                return Err(NnError::Stopped { step: self.progress.step, what, value });
            }
        }
        let mut log = self.open_log()?;
        while self.progress.epoch < self.config.epochs && !self.progress.stopped {
            let batches = self.batches_of(self.progress.epoch)?;
            while self.progress.batch < batches.len() {
                let report = self.step(task, &batches)?;
                write_log(log.as_mut(), || {
                    json!({
                        "step": report.step, "epoch": report.epoch, "loss": report.loss, "learning_rate": report.learning_rate,
                        "gradient_norm": finite(report.gradient_norm), "scale": report.scale, "skipped": report.skipped,
                    })
                })?;
                let due = self.checkpoint.as_ref().is_some_and(|(_, every)| self.progress.step.is_multiple_of(*every));
                let paused = callback(&report).is_break();
                if due || paused {
                    self.save(task)?;
                }
                if paused {
                    return Ok(self.outcome(End::Paused));
                }
            }
            let report = self.end_epoch(task)?;
            write_log(log.as_mut(), || {
                let metrics = report.metrics.iter().map(|metric| (metric.name.clone(), metric.value.into()));
                let metrics: serde_json::Map<String, serde_json::Value> = metrics.collect();
                json!({ "epoch": report.epoch, "steps": self.progress.step, "epoch_loss": report.loss, "metrics": metrics })
            })?;
            self.save(task)?;
        }
        if let Some(best) = &self.best {
            self.params.restore(best)?;
        }
        Ok(self.outcome(if self.progress.stopped { End::Early } else { End::Finished }))
    }

    fn step(&mut self, task: &mut (impl Task + ?Sized), batches: &[Vec<u32>]) -> Result<StepReport, NnError> {
        let Progress { step, epoch, batch, .. } = self.progress;
        let indices = &batches[batch];
        let halves = self.config.precision == Precision::F16;
        let scale = if halves { self.scaler.scale } else { 1.0 };
        let mut sum = Accumulator::new(indices.len())?;
        for (part, indices) in indices.chunks(self.config.micro.unwrap_or(usize::MAX)).enumerate() {
            let (seed, precision) = (self.config.seed, self.config.precision);
            let batch = Batch { indices, step, epoch, seed, part: part as u64, precision };
            let (loss, gradients) = task.gradients(&self.params, &batch, scale)?;
            if !loss.is_finite() {
                return Err(self.blame(step, loss));
            }
            sum.add_gradients(&self.params, &gradients, loss, indices.len())?;
        }
        let done = sum.take()?.ok_or_else(|| NnError::Empty { what: "batch".to_owned() })?;
        let mut gradients = done.gradients;
        if halves {
            gradients.scale(1.0 / scale)?;
        }
        let norm = gradients.norm()?;
        let learning_rate = self.config.schedule.at(step);
        let skipped = halves && !norm.is_finite() && scale > 1.0;
        if !norm.is_finite() && !skipped {
            let (tensor, value) = gradients.first_not_finite()?.unwrap_or_else(|| ("?".to_owned(), norm));
            return Err(NnError::Stopped { step, what: format!("the gradient of {tensor:?}"), value });
        }
        if !skipped {
            if let Some(largest) = self.config.clip.filter(|largest| norm > *largest) {
                gradients.scale(largest / norm)?;
            }
            self.optimizer.step_unchecked(&gradients, learning_rate)?;
        }
        if halves {
            self.scaler.update(!skipped);
        }
        self.progress.step += 1;
        self.progress.batch += 1;
        self.progress.rows += done.rows;
        self.progress.loss_sum += done.loss * done.rows as f64;
        task.after_step(step)?;
        Ok(StepReport {
            step: step + 1,
            epoch,
            batch: batch + 1,
            batches: batches.len(),
            loss: done.loss,
            learning_rate,
            gradient_norm: norm,
            scale,
            skipped,
        })
    }

    /// The error for a loss that isn't finite: a weight that isn't, or else the loss itself.
    fn blame(&self, step: u64, loss: f64) -> NnError {
        for (name, var) in self.params.state() {
            if let Ok(Some(value)) = not_finite(var) {
                return NnError::Stopped { step, what: format!("the weight {name:?}"), value };
            }
        }
        NnError::Stopped { step, what: "the loss".to_owned(), value: loss }
    }

    fn end_epoch(&mut self, task: &mut (impl Task + ?Sized)) -> Result<EpochReport, NnError> {
        let epoch = self.progress.epoch;
        let metrics = task.evaluate(epoch)?;
        if let Some((name, value)) = metrics.iter().find(|(_, value)| !value.is_finite()) {
            let what = format!("the metric {name:?}");
            return Err(NnError::Stopped { step: self.progress.step, what, value: *value });
        }
        let loss = self.progress.loss_sum / self.progress.rows.max(1) as f64;
        if let Some(stopping) = self.config.early_stopping {
            let watched = metrics.first().map_or(loss, |(_, value)| *value);
            let gain = match stopping.goal {
                Goal::Lower => self.progress.best - watched,
                Goal::Higher => watched - self.progress.best,
            };
            if self.progress.best_epoch.is_none() || gain > stopping.min_delta {
                self.progress.best_epoch = Some(epoch);
                self.progress.best = watched;
                self.progress.since_best = 0;
                self.best = Some(self.params.snapshot()?);
            } else {
                self.progress.since_best += 1;
                self.progress.stopped = self.progress.since_best >= stopping.patience;
            }
        }
        let metrics = metrics.into_iter().map(|(name, value)| Metric { name, value }).collect();
        let report = EpochReport { epoch, loss, metrics };
        self.progress.epochs.push(report.clone());
        self.progress.epoch += 1;
        (self.progress.batch, self.progress.rows, self.progress.loss_sum) = (0, 0, 0.0);
        Ok(report)
    }

    fn batches_of(&self, epoch: usize) -> Result<Vec<Vec<u32>>, NnError> {
        let Some(batches) = &self.batches else {
            let mut order: Vec<u32> = (0..self.examples as u32).collect();
            SplitMix64::stream(self.config.seed, epoch as u64).shuffle(&mut order);
            let mut batches: Vec<Vec<u32>> = order.chunks(self.config.batch).map(<[u32]>::to_vec).collect();
            batches.retain(|batch| !self.config.drop_last || batch.len() == self.config.batch);
            return Ok(batches);
        };
        let batches = batches(epoch)?;
        if batches.is_empty() || batches.iter().any(Vec::is_empty) {
            return Err(NnError::Empty { what: format!("list of batches of epoch {epoch}, or one of them,") });
        }
        if let Some(&index) = batches.iter().flatten().find(|&&index| index as usize >= self.examples) {
            return Err(NnError::Argument {
                name: "index of an example",
                got: index.to_string(),
                expected: format!("below {}", self.examples),
            });
        }
        Ok(batches)
    }

    fn outcome(&self, end: End) -> Outcome {
        Outcome {
            end,
            steps: self.progress.step,
            skipped: self.scaler.skipped,
            epochs: self.progress.epochs.clone(),
            best_epoch: self.progress.best_epoch,
        }
    }

    /// The log without the lines that a run from the present position writes again.
    fn open_log(&self) -> Result<Option<(PathBuf, File)>, NnError> {
        let Some(path) = &self.log else { return Ok(None) };
        let failed = |error: std::io::Error| log_error(path, &error);
        let old = if path.exists() { fs::read_to_string(path).map_err(failed)? } else { String::new() };
        let kept: String = old.lines().filter(|line| self.is_past(line)).flat_map(|line| [line, "\n"]).collect();
        if kept != old {
            fs::write(path, kept).map_err(failed)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(failed)?;
        Ok(Some((path.clone(), file)))
    }

    fn is_past(&self, line: &str) -> bool {
        let Ok(line) = serde_json::from_str::<serde_json::Value>(line) else { return false };
        let number = |key: &str| line.get(key).and_then(serde_json::Value::as_u64);
        match (number("step"), number("epoch")) {
            (Some(step), _) => step <= self.progress.step,
            (None, Some(epoch)) => epoch < self.progress.epoch as u64,
            _ => false,
        }
    }
}

const PARTS: [&str; 4] = ["model", "optimizer", "task", "best"];

fn finite(value: f64) -> Option<f64> {
    Some(value).filter(|value| value.is_finite())
}

fn log_error(path: &Path, error: &std::io::Error) -> NnError {
    NnError::Checkpoint { path: path.display().to_string(), reason: format!("log: {error}") }
}

#[allow(clippy::needless_pass_by_value)] // what `Option::as_mut` gives
fn write_log(log: Option<&mut (PathBuf, File)>, line: impl FnOnce() -> serde_json::Value) -> Result<(), NnError> {
    let Some((path, file)) = log else { return Ok(()) };
    file.write_all(format!("{}\n", line()).as_bytes()).map_err(|error| log_error(path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoders::Encoder;
    use crate::transformer::{TransformerConfig, TransformerEncoder};
    use candle_core::{Device, Var};
    use eas_tensor::rng::SplitMix64;

    fn go(_: &StepReport) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    /// A transformer with dropout on planted pairs, with augmentation noise from the step's stream.
    struct Pairs {
        model: TransformerEncoder,
        x: Tensor,
        steps_seen: u64,
    }

    fn pairs() -> (Pairs, Parameters) {
        let mut params = Parameters::new(3, &Device::Cpu);
        let config = TransformerConfig { width: 8, layers: 1, heads: 2, inner: 16, positions: 4, dropout: 0.1 };
        let model = TransformerEncoder::of_vectors(&mut params, "model", config, 3).unwrap();
        let mut rng = SplitMix64::new(4);
        let values: Vec<f32> = (0..30 * 4 * 3).map(|_| rng.normal() as f32).collect();
        (Pairs { model, x: Tensor::from_vec(values, (30, 4, 3), &Device::Cpu).unwrap(), steps_seen: 0 }, params)
    }

    impl Task for Pairs {
        fn loss(&mut self, batch: &Batch<'_>) -> Result<Tensor, NnError> {
            let x = self.x.index_select(&Tensor::new(batch.indices, &Device::Cpu)?, 0)?;
            let mut rng = batch.rng();
            let noise: Vec<f32> = (0..x.elem_count()).map(|_| 0.1 * rng.normal() as f32).collect();
            let other = (&x + Tensor::from_vec(noise, x.dims(), &Device::Cpu)?)?;
            let a = self.model.forward_in(&x, batch.view(0))?;
            let b = self.model.forward_in(&other, batch.view(1))?;
            Ok(eas_losses::info_nce(&a, &b, 0.2)?)
        }

        fn after_step(&mut self, _: u64) -> Result<(), NnError> {
            self.steps_seen += 1;
            Ok(())
        }

        fn evaluate(&mut self, epoch: usize) -> Result<Vec<(String, f64)>, NnError> {
            Ok(vec![("seen".to_owned(), self.steps_seen as f64 + epoch as f64 / 7.0)])
        }

        fn inputs(&self) -> Vec<(&str, &Tensor)> {
            vec![("x", &self.x)]
        }

        fn state(&self) -> Result<BTreeMap<String, Tensor>, NnError> {
            Ok(BTreeMap::from([("seen".to_owned(), Tensor::new(&[self.steps_seen as i64], &Device::Cpu)?)]))
        }

        fn restore(&mut self, state: BTreeMap<String, Tensor>) -> Result<(), NnError> {
            let seen = state.get("seen").ok_or_else(|| NnError::Parameter("seen".to_owned()))?;
            self.steps_seen = seen.to_vec1::<i64>()?[0] as u64;
            Ok(())
        }
    }

    fn config() -> TrainerConfig {
        TrainerConfig {
            method: Method::adamw(0.01),
            schedule: Schedule::cosine(0.01, 3, 12),
            clip: Some(0.5),
            seed: 5,
            ..TrainerConfig::new(3, 8, 0.01)
        }
    }

    fn weights(params: &Parameters) -> Vec<u32> {
        let flat = |v: Var| v.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        params.vars().into_iter().flat_map(flat).map(f32::to_bits).collect()
    }

    #[test]
    fn a_run_paused_at_any_step_ends_with_the_same_bits_log_and_history() {
        let folder = tempfile::tempdir().unwrap();
        for precision in [Precision::F32, Precision::Bf16, Precision::F16] {
            // An interval of 5 lets the loss scale change during the run.
            let scaler = GradScaler { scale: 1024.0, interval: 5, ..GradScaler::default() };
            let config = TrainerConfig { precision, scaler, ..config() };
            let (mut task, params) = pairs();
            let whole_log = folder.path().join("whole.jsonl");
            let _ = fs::remove_file(&whole_log);
            let mut trainer = Trainer::new(config, &params, 30).unwrap().log_to(&whole_log);
            let whole = trainer.run(&mut task, go).unwrap();
            assert_eq!((whole.end, whole.steps, whole.epochs.len()), (End::Finished, 12, 3));
            let whole_weights = weights(&params);

            for pause in [1, 3, 4, 7, 11] {
                let (file, log) = (folder.path().join("run"), folder.path().join("run.jsonl"));
                let _ = (fs::remove_file(&file), fs::remove_file(&log));
                let (mut task, params) = pairs();
                let mut trainer = Trainer::new(config, &params, 30).unwrap().checkpoint_to(&file, 100).log_to(&log);
                assert!(!trainer.resume(&mut task).unwrap());
                let until = |report: &StepReport| {
                    if report.step == pause { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                };
                assert_eq!(trainer.run(&mut task, until).unwrap().end, End::Paused);
                drop((task, trainer, params));
                // Lines that a killed run wrote after its checkpoint, the last one torn.
                let mut text = fs::read_to_string(&log).unwrap();
                text.push_str("{\"step\":99,\"epoch\":0,\"loss\":1.0}\n{\"step\":100,\"lo");
                fs::write(&log, text).unwrap();

                let (mut task, params) = pairs();
                let mut trainer = Trainer::new(config, &params, 30).unwrap().checkpoint_to(&file, 100).log_to(&log);
                assert!(trainer.resume(&mut task).unwrap());
                let resumed = trainer.run(&mut task, go).unwrap();
                assert_eq!(resumed, whole, "{precision:?} paused at {pause}");
                assert_eq!(weights(&params), whole_weights);
                assert_eq!(fs::read_to_string(&log).unwrap(), fs::read_to_string(&whole_log).unwrap());
            }
        }
    }

    #[test]
    fn resumed_weights_are_those_of_the_whole_run() {
        let folder = tempfile::tempdir().unwrap();
        let (mut task, whole) = pairs();
        Trainer::new(config(), &whole, 30).unwrap().run(&mut task, go).unwrap();
        let file = folder.path().join("run");
        for pause in 1..12 {
            let (mut task, params) = pairs();
            let mut trainer = Trainer::new(config(), &params, 30).unwrap().checkpoint_to(&file, 100);
            trainer.resume(&mut task).unwrap();
            let until = |report: &StepReport| {
                if report.step == pause { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            trainer.run(&mut task, until).unwrap();
        }
        let (mut task, params) = pairs();
        let mut trainer = Trainer::new(config(), &params, 30).unwrap().checkpoint_to(&file, 100);
        assert!(trainer.resume(&mut task).unwrap());
        trainer.run(&mut task, go).unwrap();
        assert_eq!(weights(&params), weights(&whole));
    }

    #[test]
    fn micro_batches_give_the_step_of_the_batch_for_a_mean_over_rows() {
        let run = |micro| {
            let mut params = Parameters::new(1, &Device::Cpu);
            let weight = params.uniform("weight", &[3, 1], 1.0).unwrap();
            let (task, _) = pairs();
            let x = task.x.narrow(1, 0, 1).unwrap().squeeze(1).unwrap().contiguous().unwrap();
            let mut loss = |batch: &Batch<'_>| {
                let rows = x.index_select(&Tensor::new(batch.indices, &Device::Cpu)?, 0)?;
                Ok((rows.matmul(&weight)? - 1.0)?.sqr()?.mean_all()?)
            };
            let config = TrainerConfig { micro, ..config() };
            let outcome = Trainer::new(config, &params, 30).unwrap().run(&mut loss, go).unwrap();
            (weight.flatten_all().unwrap().to_vec1::<f32>().unwrap(), outcome.epochs[2].loss)
        };
        let (whole, whole_loss) = run(None);
        // 30 = 8 + 8 + 8 + 6: parts of 3 divide neither.
        let (parts, parts_loss) = run(Some(3));
        for (a, b) in whole.iter().zip(&parts) {
            assert!((a - b).abs() < 1e-6, "{a} {b}");
        }
        assert!((whole_loss - parts_loss).abs() < 1e-6);
    }

    /// A task whose metric is given.
    struct Scripted(Var, Vec<f64>);

    impl Task for Scripted {
        fn loss(&mut self, _: &Batch<'_>) -> Result<Tensor, NnError> {
            Ok(self.0.sum_all()?)
        }

        fn evaluate(&mut self, epoch: usize) -> Result<Vec<(String, f64)>, NnError> {
            Ok(vec![("metric".to_owned(), self.1[epoch])])
        }
    }

    #[test]
    fn early_stopping_waits_and_goes_back_to_the_best() {
        let run = |goal, metrics: &[f64]| {
            let mut params = Parameters::new(1, &Device::Cpu);
            let weight = params.constant("weight", &[1], 0.0).unwrap();
            let stopping = EarlyStopping { patience: 2, min_delta: 0.1, goal };
            let config = TrainerConfig {
                method: Method::SGD,
                early_stopping: Some(stopping),
                ..TrainerConfig::new(metrics.len(), 1, 1.0)
            };
            let mut trainer = Trainer::new(config, &params, 1).unwrap();
            let outcome = trainer.run(&mut Scripted(weight.clone(), metrics.to_vec()), go).unwrap();
            // Each epoch lowers the weight by 1.
            (outcome.end, outcome.epochs.len(), outcome.best_epoch, -weight.to_vec1::<f32>().unwrap()[0])
        };
        assert_eq!(run(Goal::Lower, &[5.0, 3.0, 2.95, 2.92, 1.0]), (End::Early, 4, Some(1), 2.0));
        assert_eq!(run(Goal::Higher, &[0.1, 0.5, 0.4, 0.7, 0.6]), (End::Finished, 5, Some(3), 4.0));
    }

    #[test]
    fn what_is_not_finite_stops_the_run_by_name_and_leaves_the_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("run");
        let mut params = Parameters::new(1, &Device::Cpu);
        let weight = params.constant("layer.weight", &[2], 1.0).unwrap();
        // The square root has an infinite gradient at 0, which the fourth step meets.
        let mut task = |batch: &Batch<'_>| {
            let x =
                if batch.step == 3 { (weight.as_tensor() * weight.zeros_like()?)? } else { weight.as_tensor().clone() };
            Ok(x.sqrt()?.sum_all()?)
        };
        let mut trainer = Trainer::new(TrainerConfig::new(9, 1, 0.01), &params, 1).unwrap().checkpoint_to(&file, 1);
        let error = trainer.run(&mut task, go).unwrap_err();
        let NnError::Stopped { step: 3, what, .. } = &error else { panic!("{error}") };
        assert!(what.contains("layer.weight") && error.to_string().contains("step 3"), "{error}");
        let before = weight.to_vec1::<f32>().unwrap();
        weight.set(&weight.zeros_like().unwrap()).unwrap();
        let mut resumed = Trainer::new(TrainerConfig::new(9, 1, 0.01), &params, 1).unwrap().checkpoint_to(&file, 1);
        assert!(resumed.resume(&mut task).unwrap());
        assert_eq!(weight.to_vec1::<f32>().unwrap(), before, "the third step's weights");

        let mut loss = |_: &Batch<'_>| Ok((weight.as_tensor() * f64::NAN)?.sum_all()?);
        let error = Trainer::new(TrainerConfig::new(1, 1, 0.01), &params, 1).unwrap().run(&mut loss, go).unwrap_err();
        assert!(error.to_string().contains("the loss holds NaN"), "{error}");

        let (mut task, params) = pairs();
        let mut values = task.x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        values[17] = f32::NEG_INFINITY;
        task.x = Tensor::from_vec(values, (30, 4, 3), &Device::Cpu).unwrap();
        let error = Trainer::new(config(), &params, 30).unwrap().run(&mut task, go).unwrap_err();
        assert!(error.to_string().contains("the input \"x\" holds -inf"), "{error}");
    }

    #[test]
    fn foreign_and_damaged_checkpoints_change_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("run");
        let (mut task, params) = pairs();
        let mut trainer = Trainer::new(config(), &params, 30).unwrap().checkpoint_to(&file, 1);
        trainer.run(&mut task, |_| ControlFlow::Break(())).unwrap();
        let good = fs::read(&file).unwrap();

        let resume = |config: TrainerConfig| {
            let (mut task, params) = pairs();
            let before = weights(&params);
            let mut trainer = Trainer::new(config, &params, 30).unwrap().checkpoint_to(&file, 1);
            let result = trainer.resume(&mut task).map_err(|error| error.to_string());
            assert!(result.is_ok() || (weights(&params) == before && task.steps_seen == 0));
            result
        };
        assert_eq!(resume(config()), Ok(true));
        assert_eq!(resume(TrainerConfig { epochs: 9, ..config() }), Ok(true), "a longer run may go on");
        assert!(resume(TrainerConfig { seed: 6, ..config() }).unwrap_err().contains("another run"));
        for bytes in [&good[..good.len() / 2], &good[..10], b"", b"something else entirely, longer than a header"] {
            fs::write(&file, bytes).unwrap();
            assert!(resume(config()).unwrap_err().contains("run"), "{} bytes", bytes.len());
        }
        // The right frame around another model.
        let mut other = Parameters::new(1, &Device::Cpu);
        let weight = other.constant("weight", &[1], 1.0).unwrap();
        let mut closure = |_: &Batch<'_>| Ok(weight.sqr()?.sum_all()?);
        let mut foreign = Trainer::new(config(), &other, 30).unwrap().checkpoint_to(&file, 1);
        foreign.run(&mut closure, |_| ControlFlow::Break(())).unwrap();
        assert!(resume(config()).is_err());
    }

    #[test]
    fn impossible_settings_and_batches_are_refused() {
        let (mut task, params) = pairs();
        for bad in [
            TrainerConfig { batch: 0, ..config() },
            TrainerConfig { batch: 31, drop_last: true, ..config() },
            TrainerConfig { micro: Some(0), ..config() },
            TrainerConfig { clip: Some(f64::NAN), ..config() },
            TrainerConfig { schedule: Schedule::constant(-1.0), ..config() },
            TrainerConfig {
                early_stopping: Some(EarlyStopping { patience: 0, min_delta: 0.0, goal: Goal::Lower }),
                ..config()
            },
        ] {
            assert!(Trainer::new(bad, &params, 30).is_err(), "{bad:?}");
        }
        assert!(Trainer::new(config(), &params, 0).is_err());
        let trainer = |batches: Vec<Vec<u32>>| {
            Trainer::new(config(), &params, 30).unwrap().with_batches(move |_| Ok(batches.clone()))
        };
        assert!(matches!(trainer(vec![]).run(&mut task, go), Err(NnError::Empty { .. })));
        assert!(matches!(trainer(vec![vec![1], vec![]]).run(&mut task, go), Err(NnError::Empty { .. })));
        assert!(matches!(trainer(vec![vec![1, 30]]).run(&mut task, go), Err(NnError::Argument { .. })));
        assert_eq!(trainer(vec![vec![1, 2], vec![3, 4, 5]]).run(&mut task, go).unwrap().steps, 6);
        assert!(Trainer::new(config(), &params, 30).unwrap().resume(&mut task).is_err(), "no path was given");
        let dropped = TrainerConfig { drop_last: true, ..config() };
        assert_eq!(Trainer::new(dropped, &params, 30).unwrap().run(&mut task, go).unwrap().steps, 9);
    }
}
