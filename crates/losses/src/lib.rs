//! Contrastive, metric and ranking objectives on candle tensors.
//!
//! Each loss is one function from embeddings or scores to a scalar tensor that can be differentiated, with tests against a
//! closed form or a naive recomputation.

#![forbid(unsafe_code)]

pub mod contrastive;
pub mod ranking;

pub use contrastive::info_nce;
pub use ranking::{logistic_ranking, margin_ranking};

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
    /// A batch without rows, for which the mean is undefined.
    #[error("the batch is empty: shape {0:?}")]
    Empty(Vec<usize>),
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
    /// An operation on tensors failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// Checks that both tensors have the same non-empty shape of the given rank.
fn same_shape(a: &candle_core::Tensor, b: &candle_core::Tensor, rank: usize) -> Result<(), LossError> {
    if a.dims() != b.dims() || a.rank() != rank {
        return Err(LossError::Shape {
            left: a.dims().to_vec(),
            right: b.dims().to_vec(),
        });
    }
    if a.elem_count() == 0 {
        return Err(LossError::Empty(a.dims().to_vec()));
    }
    Ok(())
}
