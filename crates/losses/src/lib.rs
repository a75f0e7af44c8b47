//! Contrastive, metric, ranking and self-supervised objectives on candle tensors.
//!
//! The parts are orthogonal:
//!
//! | part | module | what it decides |
//! | --- | --- | --- |
//! | distance | [`distance`] | how far two rows are apart |
//! | miner | [`mining`] | which pairs and triplets of a batch are compared |
//! | objective | [`contrastive`], [`supervised`], [`metric`], [`proxy`], [`self_supervised`], [`ranking`], [`proto`] | what a comparison costs |
//! | wrapper | [`wrapper`], [`queue`] | nested dimensions, rows of earlier batches, batches larger than memory |
//! | sampler | [`sampler`] | which examples meet in a batch |
//!
//! Every objective is a checked set of hyper-parameters and a function from embeddings to a scalar tensor that can be
//! differentiated. Unless a loss says otherwise it takes embeddings of any length and normalises the rows itself, averages over
//! rows, computes half precision in f32, and refuses empty or ill-shaped input with an error that says what it got.
//! [`tiled`] computes the softmax losses of large batches without ever holding a batch x batch matrix, and [`registry`] names every
//! loss for programs that choose one at run time.

#![forbid(unsafe_code)]

pub mod clip;
pub mod contrastive;
pub mod diagnostics;
pub mod distance;
pub mod filters;
pub mod fixtures;
pub mod metric;
pub mod mining;
mod ops;
pub mod proto;
pub mod proxy;
pub mod queue;
pub mod queue_mining;
pub mod ranking;
pub mod registry;
pub mod regularisers;
pub mod sampler;
pub mod self_supervised;
pub mod supervised;
pub mod temperature;
pub mod tiled;
pub mod wrapper;

pub use contrastive::{InfoNce, Negatives, NtXent, PairLayout, info_nce};
pub use distance::{Distance, normalize};
pub use metric::{Reduction, Triplet};
pub use mining::{TripletMiner, Triplets};
pub use ranking::{logistic_ranking, margin_ranking};

use candle_core::Tensor;

/// A loss that can be differentiated, and what was measured on the way.
#[derive(Debug, Clone)]
pub struct LossOutput<M> {
    /// The loss, a scalar tensor.
    pub loss: Tensor,
    /// Plain numbers for a log.
    pub metrics: M,
}

/// What a loss refuses.
#[derive(Debug, thiserror::Error)]
pub enum LossError {
    /// Two operands whose shapes must agree don't.
    #[error("operands must have one shape, got {left:?} and {right:?}")]
    Shape {
        /// Shape of the first operand.
        left: Vec<usize>,
        /// Shape of the second operand.
        right: Vec<usize>,
    },
    /// An operand has a shape that the loss doesn't take.
    #[error("{what} must have shape {expected}, got {got:?}")]
    Operand {
        /// The operand.
        what: &'static str,
        /// The accepted shape, in words.
        expected: String,
        /// The shape given.
        got: Vec<usize>,
    },
    /// A batch without rows, for which the mean is undefined.
    #[error("the batch is empty: shape {0:?}")]
    Empty(Vec<usize>),
    /// Not one label, id or target a row.
    #[error("{got} {what} for {rows} rows")]
    Count {
        /// What is counted.
        what: &'static str,
        /// How many there are.
        got: usize,
        /// How many rows there are.
        rows: usize,
    },
    /// A label or index beyond its table.
    #[error("{what} {got} at row {row} is out of range, there are {limit}")]
    OutOfRange {
        /// What is counted.
        what: &'static str,
        /// The row of the first offender.
        row: usize,
        /// Its value.
        got: usize,
        /// How many there are.
        limit: usize,
    },
    /// A hyper-parameter outside its range.
    #[error("{name} is {got}, must be {expected}")]
    Argument {
        /// The parameter's name.
        name: &'static str,
        /// What was given.
        got: f64,
        /// What is accepted.
        expected: &'static str,
    },
    /// A hyper-parameter, input or loss that isn't known by that name, or whose text can't be read.
    #[error("{0}")]
    Name(String),
    /// A matrix was refused.
    #[error(transparent)]
    Tensor(#[from] eas_tensor::TensorError),
    /// An operation on tensors failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// Checks that both tensors have the same non-empty shape of the given rank.
fn same_shape(a: &Tensor, b: &Tensor, rank: usize) -> Result<(), LossError> {
    if a.dims() != b.dims() || a.rank() != rank {
        return Err(LossError::Shape { left: a.dims().to_vec(), right: b.dims().to_vec() });
    }
    if a.elem_count() == 0 {
        return Err(LossError::Empty(a.dims().to_vec()));
    }
    Ok(())
}

/// `(rows, dim)` of a non-empty matrix.
fn matrix(what: &'static str, x: &Tensor) -> Result<(usize, usize), LossError> {
    let (rows, dim) = x.dims2().map_err(|_| LossError::Operand {
        what,
        expected: "(rows, dim)".to_owned(),
        got: x.dims().to_vec(),
    })?;
    if rows * dim == 0 {
        return Err(LossError::Empty(x.dims().to_vec()));
    }
    Ok((rows, dim))
}

/// Checks that there is one label (or id) a row.
fn one_a_row(what: &'static str, got: usize, rows: usize) -> Result<(), LossError> {
    if got == rows { Ok(()) } else { Err(LossError::Count { what, got, rows }) }
}

/// Checks that a hyper-parameter is positive and finite.
fn positive(name: &'static str, got: f64) -> Result<(), LossError> {
    if got > 0.0 && got.is_finite() {
        return Ok(());
    }
    Err(LossError::Argument { name, got, expected: "positive and finite" })
}

/// Checks that a hyper-parameter is finite and not negative.
fn not_negative(name: &'static str, got: f64) -> Result<(), LossError> {
    if got >= 0.0 && got.is_finite() {
        return Ok(());
    }
    Err(LossError::Argument { name, got, expected: "finite and not negative" })
}
