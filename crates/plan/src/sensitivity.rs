//! One-at-a-time sensitivity: what each assumption alone does to a result.

use serde::Serialize;

use crate::PlanError;
use crate::error::positive;

/// The result when one assumption is lowered and raised while the others stay.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Swing {
    /// The assumption.
    pub assumption: &'static str,
    /// Result with the assumption times `1 - change`.
    pub low: f64,
    /// Result with the assumption times `1 + change`.
    pub high: f64,
}

impl Swing {
    /// Distance between both results: the length of the tornado bar.
    pub fn span(&self) -> f64 {
        (self.high - self.low).abs()
    }
}

/// Evaluates the model with each of the named `assumptions` times `1 - change` and `1 + change`, the others at their
/// stated values; longest span first, equal spans in the order given.
pub fn one_at_a_time(
    assumptions: &[(&'static str, f64)],
    change: f64,
    model: impl Fn(&[f64]) -> Result<f64, PlanError>,
) -> Result<Vec<Swing>, PlanError> {
    positive("change", change)?;
    let base: Vec<f64> = assumptions.iter().map(|&(_, value)| value).collect();
    let with = |i: usize, factor: f64| {
        let mut values = base.clone();
        values[i] *= factor;
        model(&values)
    };
    let mut swings = assumptions
        .iter()
        .enumerate()
        .map(|(i, &(assumption, _))| {
            Ok(Swing { assumption, low: with(i, 1.0 - change)?, high: with(i, 1.0 + change)? })
        })
        .collect::<Result<Vec<_>, PlanError>>()?;
    swings.sort_by(|a, b| b.span().total_cmp(&a.span()));
    Ok(swings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_assumption_with_the_longest_bar_comes_first() {
        let swings = one_at_a_time(&[("a", 2.0), ("b", 4.0)], 0.5, |v| Ok(v[0] + 10.0 / v[1])).unwrap();
        assert_eq!(swings[0].assumption, "b");
        assert_eq!((swings[0].low, swings[0].high), (7.0, 2.0 + 10.0 / 6.0));
        assert_eq!((swings[1].low, swings[1].high), (3.5, 5.5));
        assert!(one_at_a_time(&[], f64::NAN, |_| Ok(0.0)).is_err());
    }
}
