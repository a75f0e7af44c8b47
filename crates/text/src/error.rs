//! [`TextError`]: what the routines of this crate refuse.

use eas_data::DataError;
use eas_tensor::TensorError;
use std::fmt::Display;
use std::path::PathBuf;

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
    /// A model's file isn't there.
    #[error("missing model file {path}: run `{command}`")]
    MissingModel {
        /// The file looked for.
        path: PathBuf,
        /// What to run, from the workspace's root.
        command: &'static str,
    },
    /// A model's file isn't the one this program was made for.
    #[error("model file {path} is altered (sha256 {found}, {expected} expected): run `{command}`")]
    AlteredModel {
        /// The file.
        path: PathBuf,
        /// The digest it should have.
        expected: String,
        /// The digest it has.
        found: String,
        /// What to run, from the workspace's root.
        command: &'static str,
    },
    /// A model lacks a tensor, or has one of another shape or type.
    #[error("model {model}: {problem}")]
    Model {
        /// The model's name.
        model: &'static str,
        /// What is wrong, with the offending value.
        problem: String,
    },
    /// A vocabulary that WordPiece cannot use.
    #[error("WordPiece vocabulary: {problem}")]
    Vocabulary {
        /// What is wrong, with the line or entry.
        problem: String,
    },
    /// The operating system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A bundled file is missing or altered.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A matrix routine refused its input.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

impl TextError {
    /// A [`TextError::Argument`] from what was given and what is accepted.
    pub(crate) fn argument(name: &'static str, got: &dyn Display, expected: &str) -> Self {
        Self::Argument { name, got: got.to_string(), expected: expected.to_owned() }
    }

    /// A [`TextError::Vocabulary`].
    pub(crate) fn vocabulary(problem: &dyn Display) -> Self {
        Self::Vocabulary { problem: problem.to_string() }
    }
}
