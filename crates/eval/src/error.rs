//! What a metric refuses.

/// Input on which a metric isn't defined.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EvalError {
    /// There is nothing to measure.
    #[error("{0} is empty")]
    Empty(&'static str),
    /// Two sequences that belong together differ in length.
    #[error("{left} values of {what} against {right}")]
    Length {
        /// What was counted.
        what: &'static str,
        /// Length of the first sequence.
        left: usize,
        /// Length of the second.
        right: usize,
    },
    /// A value is NaN or infinite.
    #[error("{what}[{at}] is {value}, not a finite number")]
    NotFinite {
        /// The sequence.
        what: &'static str,
        /// Position of the first offending value.
        at: usize,
        /// The value.
        value: f64,
    },
    /// An argument is outside what the metric accepts.
    #[error("{name} is {got}, must be {expected}")]
    Argument {
        /// The argument's name.
        name: &'static str,
        /// What was given.
        got: String,
        /// What is accepted.
        expected: &'static str,
    },
    /// A list that must name each item once names one twice.
    #[error("{what} has the same item at positions {first} and {second}")]
    Duplicate {
        /// The list.
        what: &'static str,
        /// First position.
        first: usize,
        /// Second position.
        second: usize,
    },
    /// No threshold is as precise as was asked.
    #[error("no threshold reaches a precision of {target}: the highest is {best}, at {threshold}")]
    Unattainable {
        /// The precision asked for.
        target: f64,
        /// The highest precision that a threshold reaches.
        best: f64,
        /// The smallest threshold with it.
        threshold: f64,
    },
    /// The query has no relevant item, so the metric has no denominator.
    #[error("no item is relevant: leave the query out of this metric")]
    NoRelevant,
    /// All labels are the same, so there is nothing to tell apart.
    #[error("all {count} labels are {label}, both classes are needed")]
    OneClass {
        /// Number of labels.
        count: usize,
        /// The label that all have.
        label: String,
    },
}

pub(crate) fn same_length(what: &'static str, left: usize, right: usize) -> Result<(), EvalError> {
    if left == right { Ok(()) } else { Err(EvalError::Length { what, left, right }) }
}

pub(crate) fn finite(what: &'static str, values: &[f64]) -> Result<(), EvalError> {
    match values.iter().position(|v| !v.is_finite()) {
        None => Ok(()),
        Some(at) => Err(EvalError::NotFinite { what, at, value: values[at] }),
    }
}

pub(crate) fn not_empty<T>(what: &'static str, values: &[T]) -> Result<(), EvalError> {
    if values.is_empty() { Err(EvalError::Empty(what)) } else { Ok(()) }
}

pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
