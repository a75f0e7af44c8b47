//! A shorter manual process, in money: hours saved, and rework avoided at the price it still has.

use crate::PlanError;
use crate::error::{non_negative, not_above, rate};

/// Working hours of one full-time employee a year.
pub const HOURS_PER_FTE: f64 = 1_800.0;

/// A manual process that gets shorter. [`EfficiencyInput::new`] sets the usual assumptions, which are public to change.
#[derive(Debug, Clone, PartialEq)]
pub struct EfficiencyInput {
    /// What the process is, for reports.
    pub process: String,
    /// Hours an item takes today.
    pub hours_now: f64,
    /// Hours an item is to take.
    pub hours_target: f64,
    /// Items a year.
    pub annual_volume: f64,
    /// Dollars an hour.
    pub hourly_cost: f64,
    /// Share of the items that no longer need to be done again; 0.05 unless changed.
    pub rework_reduction: f64,
    /// Compute also when the target takes longer; false unless changed.
    pub allow_regression: bool,
}

impl EfficiencyInput {
    /// 5% less rework, regressions refused.
    pub fn new(
        process: impl Into<String>,
        hours_now: f64,
        hours_target: f64,
        annual_volume: f64,
        hourly_cost: f64,
    ) -> Self {
        Self {
            process: process.into(),
            hours_now,
            hours_target,
            annual_volume,
            hourly_cost,
            rework_reduction: 0.05,
            allow_regression: false,
        }
    }
}

/// What [`efficiency_roi`] computes; money in dollars a year.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EfficiencyRoi {
    /// Hours saved a year.
    pub hours_saved: f64,
    /// These hours at their cost.
    pub direct: f64,
    /// Avoided rework priced at the hours an item takes today, though no item takes that long any more.
    pub rework_at_old_hours: f64,
    /// Avoided rework priced at the hours an item takes after the project.
    pub rework_at_new_hours: f64,
    /// `direct + rework_at_old_hours`: counts saved time twice.
    pub total_at_old_hours: f64,
    /// `direct + rework_at_new_hours`.
    pub total: f64,
    /// Full-time employees that the saved hours stand for.
    pub fte_saved: f64,
}

impl EfficiencyRoi {
    /// The total of each year when only `adoption[year]` of the items go the new way.
    pub fn phased(&self, adoption: &[f64]) -> Result<Vec<f64>, PlanError> {
        adoption.iter().map(|&share| Ok(rate("adoption", share)? * self.total)).collect()
    }
}

/// The yearly effect of a shorter process.
pub fn efficiency_roi(input: &EfficiencyInput) -> Result<EfficiencyRoi, PlanError> {
    let before = non_negative("hours now", input.hours_now)?;
    let after = non_negative("hours target", input.hours_target)?;
    let volume = non_negative("annual volume", input.annual_volume)?;
    let cost = non_negative("hourly cost", input.hourly_cost)?;
    let rework = rate("rework reduction", input.rework_reduction)?;
    not_above("hours an item", before, after, input.allow_regression)?;
    let hours_saved = (before - after) * volume;
    let direct = hours_saved * cost;
    let rework_at_old_hours = volume * before * rework * cost;
    let rework_at_new_hours = volume * after * rework * cost;
    Ok(EfficiencyRoi {
        hours_saved,
        direct,
        rework_at_old_hours,
        rework_at_new_hours,
        total_at_old_hours: direct + rework_at_old_hours,
        total: direct + rework_at_new_hours,
        fte_saved: hours_saved / HOURS_PER_FTE,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_worked_example() {
        let roi = efficiency_roi(&EfficiencyInput::new("document review", 4.0, 1.0, 10_000.0, 500.0)).unwrap();
        assert_eq!((roi.hours_saved, roi.direct), (30_000.0, 15e6));
        assert_eq!((roi.rework_at_old_hours, roi.rework_at_new_hours), (1e6, 250e3));
        assert_eq!((roi.total_at_old_hours, roi.total), (16e6, 15.25e6));
        assert!((roi.fte_saved - 16.666_667).abs() < 1e-6);
        let years = roi.phased(&[0.25, 0.60, 1.0]).unwrap();
        assert!((years.iter().sum::<f64>() - 28_212_500.0).abs() < 1e-6);
        assert!(roi.phased(&[1.5]).is_err());
    }

    #[test]
    fn bad_input_is_refused() {
        let refused = |input: EfficiencyInput| efficiency_roi(&input).unwrap_err().to_string();
        assert!(refused(EfficiencyInput::new("x", 1.0, 4.0, 1.0, 1.0)).contains("gets worse: from 1 to 4"));
        assert!(refused(EfficiencyInput::new("x", f64::NAN, 1.0, 1.0, 1.0)).contains("hours now is NaN"));
        assert!(refused(EfficiencyInput::new("x", 4.0, 1.0, -1.0, 1.0)).contains("annual volume is -1"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_identities_hold(h0 in 0.0..100.0f64, share in 0.0..1.0f64, v in 0.0..1e6f64, c in 0.0..1e3f64, r in 0.0..1.0f64) {
            let h1 = h0 * share;
            let roi = efficiency_roi(&EfficiencyInput {
                rework_reduction: r,
                ..EfficiencyInput::new("x", h0, h1, v, c)
            })
            .unwrap();
            let closed = c * v * (h0 - h1 + r * h1);
            prop_assert!((roi.total - closed).abs() <= 1e-12 * closed.max(1.0));
            let double_counted = roi.total_at_old_hours - roi.total;
            prop_assert!((double_counted - roi.direct * r).abs() <= 1e-12 * roi.total_at_old_hours.max(1.0));
        }
    }
}
