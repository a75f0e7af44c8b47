//! [`PlanError`], and the checks that every calculator applies to its input.

/// What a planning model refuses.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// The value is NaN or infinite.
    #[error("{name} is {value}, not a finite number")]
    NotFinite {
        /// The input's name.
        name: &'static str,
        /// The value given.
        value: f64,
    },
    /// The value lies outside what the model is defined for.
    #[error("{name} is {value}, must be {expected}")]
    OutOfRange {
        /// The input's name.
        name: &'static str,
        /// The value given.
        value: f64,
        /// What is accepted.
        expected: &'static str,
    },
    /// The target is worse than the current state, and `allow_regression` isn't set.
    #[error("{name} gets worse: from {current} to {target} (set allow_regression to compute it anyway)")]
    Regression {
        /// The input's name.
        name: &'static str,
        /// Value today.
        current: f64,
        /// Value planned.
        target: f64,
    },
    /// A part that the model needs wasn't given.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// Slices that describe the same items differ in length.
    #[error("{name} has {got} entries, expected {expected}")]
    Length {
        /// The slice's name.
        name: &'static str,
        /// Its length.
        got: usize,
        /// The length of the others.
        expected: usize,
    },
    /// The equation has no solution of the kind asked for.
    #[error("no solution: {0}")]
    NoSolution(String),
}

pub(crate) fn finite(name: &'static str, value: f64) -> Result<f64, PlanError> {
    if value.is_finite() { Ok(value) } else { Err(PlanError::NotFinite { name, value }) }
}

fn within(name: &'static str, value: f64, holds: bool, expected: &'static str) -> Result<f64, PlanError> {
    finite(name, value)?;
    if holds { Ok(value) } else { Err(PlanError::OutOfRange { name, value, expected }) }
}

pub(crate) fn non_negative(name: &'static str, value: f64) -> Result<f64, PlanError> {
    within(name, value, value >= 0.0, "zero or more")
}

pub(crate) fn positive(name: &'static str, value: f64) -> Result<f64, PlanError> {
    within(name, value, value > 0.0, "above zero")
}

pub(crate) fn rate(name: &'static str, value: f64) -> Result<f64, PlanError> {
    within(name, value, (0.0..=1.0).contains(&value), "between 0 and 1")
}

pub(crate) fn discount_rate(value: f64) -> Result<f64, PlanError> {
    within("discount rate", value, value > -1.0, "above -1")
}

/// `target <= current`, unless regressions are allowed.
pub(crate) fn not_above(name: &'static str, current: f64, target: f64, allow: bool) -> Result<(), PlanError> {
    if target > current && !allow {
        return Err(PlanError::Regression { name, current, target });
    }
    Ok(())
}
