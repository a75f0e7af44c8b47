//! [`TextError`]: what the routines of this crate refuse.

use eas_tensor::TensorError;
use std::fmt::Display;

/// What a text routine refuses, with the offending value.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// An argument is outside what the routine accepts.
    #[error("{name} is {got}, must be {expected}")]
    Argument {
        /// The argument's name.
        name: &'static str,
        /// What was given.
        got: String,
        /// What is accepted.
        expected: String,
    },
    /// No term is left to learn from: the corpus is empty, or every term was filtered out.
    #[error("no term is left of {documents} documents")]
    EmptyVocabulary {
        /// Documents given.
        documents: usize,
    },
    /// A word that the model was not trained on.
    #[error("{word:?} is not in the vocabulary")]
    UnknownWord {
        /// The word.
        word: String,
    },
    /// A matrix routine refused its input.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

impl TextError {
    /// A [`TextError::Argument`] from what was given and what is accepted.
    pub(crate) fn argument(name: &'static str, got: &dyn Display, expected: &str) -> Self {
        Self::Argument {
            name,
            got: got.to_string(),
            expected: expected.to_owned(),
        }
    }
}
