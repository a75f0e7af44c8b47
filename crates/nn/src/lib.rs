//! Encoders, heads, optimizers and training loops on candle tensors, and knowledge-graph embeddings on plain slices.
//!
//! Weights come from [`params::Parameters`], which draws them from a seeded stream: the same seed gives the same model. There
//! is no hidden training switch: [`encoders::Encoder::forward_in`] runs in the [`Mode`] that it is given, training or scoring.

#![forbid(unsafe_code)]

pub mod accumulate;
pub mod amp;
pub mod bert;
pub mod bert_encoder;
pub mod checkpoint;
pub mod descent;
pub mod dist;
pub mod dropout;
pub mod ema;
pub mod encoders;
pub mod finetune;
mod fused;
pub mod gradients;
pub mod heads;
pub mod kg;
pub mod layers;
pub mod mode;
pub mod multitask;
pub mod norm;
pub mod optim;
pub mod params;
pub mod projection;
mod saved;
pub mod siamese;
pub mod train;
pub mod trainer;
pub mod transformer;
pub mod two_tower;

pub use amp::Precision;
pub use mode::Mode;

/// What a model or a training run refuses.
#[derive(Debug, thiserror::Error)]
pub enum NnError {
    /// An input of another shape than the model takes.
    #[error("{what}: expected shape {expected}, got {got:?}")]
    Shape {
        /// The input or parameter.
        what: String,
        /// The accepted shape, in words.
        expected: String,
        /// The shape given.
        got: Vec<usize>,
    },
    /// A hyper-parameter or argument outside its range.
    #[error("{name} is {got}, must be {expected}")]
    Argument {
        /// The argument's name.
        name: &'static str,
        /// What was given.
        got: String,
        /// What is accepted.
        expected: String,
    },
    /// Saved weights lack a parameter of the model, or hold one that the model doesn't have.
    #[error("saved weights and model differ in parameter {0:?}")]
    Parameter(String),
    /// An input without a row.
    #[error("the {what} is empty")]
    Empty {
        /// What was given.
        what: String,
    },
    /// A NaN or an infinity where a number is needed.
    #[error("{what} holds {value}")]
    NotFinite {
        /// The tensor.
        what: String,
        /// The first such value.
        value: f64,
    },
    /// Something in a training step wasn't finite. The step changed nothing.
    #[error("training stopped at step {step}: {what} holds {value}")]
    Stopped {
        /// The step, from 0.
        step: u64,
        /// The tensor, or the loss or metric.
        what: String,
        /// The value.
        value: f64,
    },
    /// A file of a training run can't be read or written, or isn't one of this run.
    #[error("checkpoint {path}: {reason}")]
    Checkpoint {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// The loss stopped being a number.
    #[error("the loss became {loss} in epoch {epoch}: lower the learning rate or check the inputs for NaN")]
    Diverged {
        /// Epoch, from 0.
        epoch: usize,
        /// The loss.
        loss: f64,
    },
    /// The ranks of a distributed run can't go on together.
    #[error(transparent)]
    Dist(#[from] dist::DistError),
    /// A loss function refused its input.
    #[error(transparent)]
    Loss(#[from] eas_losses::LossError),
    /// A matrix was refused.
    #[error(transparent)]
    Tensor(#[from] eas_tensor::TensorError),
    /// An operation on tensors failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
    /// The thread of a training run couldn't be started.
    #[error("training thread: {0}")]
    Thread(String),
    /// A file of weights couldn't be read or written.
    #[error("weights {path}: {source}")]
    Weights {
        /// The file.
        path: String,
        /// What went wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
