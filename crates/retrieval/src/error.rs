use eas_tensor::TensorError;
use eas_text::TextError;

/// What retrieval and answering refuse.
#[derive(Debug, thiserror::Error)]
pub enum RetrievalError {
    /// An argument is outside what is accepted.
    #[error("{name} is {given}, {expected} expected")]
    Argument {
        /// The argument's name.
        name: &'static str,
        /// What was given.
        given: String,
        /// What is accepted.
        expected: &'static str,
    },
    /// Two collections that belong together differ in length.
    #[error("{given} {what} for {expected} {of}")]
    Length {
        /// What there is too few or too many of.
        what: &'static str,
        /// How many were given.
        given: usize,
        /// What they belong to.
        of: &'static str,
        /// How many are needed.
        expected: usize,
    },
    /// A text routine failed.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A numeric routine failed.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// A vector index failed.
    #[error(transparent)]
    Ann(#[from] eas_ann::AnnError),
    /// A generator gave no answer.
    #[error(transparent)]
    Generate(#[from] crate::generator::GenerateError),
    /// A metric or a fit failed.
    #[error(transparent)]
    Eval(#[from] eas_eval::EvalError),
}

impl RetrievalError {
    /// An [`RetrievalError::Argument`] from a printable value.
    pub(crate) fn argument(name: &'static str, given: &impl ToString, expected: &'static str) -> Self {
        Self::Argument { name, given: given.to_string(), expected }
    }
}
