//! [`OpsError`], and the checks that the modules share.

/// What a part of the service refuses, or why it couldn't answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum OpsError {
    /// An argument is outside what is accepted.
    #[error("{name} is {got}, must be {expected}")]
    Argument {
        /// The argument's name.
        name: &'static str,
        /// What was given.
        got: String,
        /// What is accepted.
        expected: &'static str,
    },
    /// The circuit is open: the call wasn't made.
    #[error("the circuit is open for another {retry_after_us} us")]
    CircuitOpen {
        /// Microseconds until a call may be tried; 0 when a probe is under way.
        retry_after_us: u64,
    },
    /// The thread that would serve the call has been stopped.
    #[error("the {0} has been stopped")]
    Stopped(&'static str),
    /// Code that ran on behalf of the call panicked.
    #[error("a {0} panicked")]
    Panicked(&'static str),
    /// No replica is healthy, or every healthy one has been tried.
    #[error("none of {replicas} replicas can be asked")]
    NoReplica {
        /// Replicas in the set.
        replicas: usize,
    },
    /// An encoder gave no vectors, or none that can be used, and there is nothing to fall back on.
    #[error("the encoder failed: {0}")]
    Encoder(String),
    /// A measurement that can't be summed up.
    #[error(transparent)]
    Eval(#[from] eas_eval::EvalError),
    /// A metric or label has a name that Prometheus doesn't read.
    #[error("{what} {name:?} must match {pattern}")]
    MetricName {
        /// "metric name" or "label name".
        what: &'static str,
        /// The name given.
        name: String,
        /// What names look like.
        pattern: &'static str,
    },
    /// The metric exists with another kind, other labels, or other buckets.
    #[error("metric {name:?} exists as {existing}, and is now asked for as {wanted}")]
    MetricConflict {
        /// The metric's name.
        name: String,
        /// What it is.
        existing: String,
        /// What was asked for.
        wanted: String,
    },
}

/// The argument, when `holds`.
pub(crate) fn check<T: std::fmt::Display>(
    name: &'static str,
    value: T,
    holds: bool,
    expected: &'static str,
) -> Result<T, OpsError> {
    if holds { Ok(value) } else { Err(OpsError::Argument { name, got: value.to_string(), expected }) }
}
