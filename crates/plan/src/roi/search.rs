//! Better search, in money: more sales, less time, fewer empty result pages, and how these overlap.

use crate::PlanError;
use crate::error::{non_negative, not_above, rate};
use crate::sensitivity::{Swing, one_at_a_time};

/// How a search box performs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SearchMetrics {
    /// Share of all searches that end in a sale.
    pub conversion_rate: f64,
    /// Minutes until a user has found what they look for.
    pub minutes_to_find: f64,
    /// Share of searches without a result.
    pub zero_result_rate: f64,
}

/// A planned improvement of search. [`SearchRoiInput::new`] sets the usual assumptions, which are public to change.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SearchRoiInput {
    /// Today.
    pub current: SearchMetrics,
    /// After the project.
    pub target: SearchMetrics,
    /// Users a year.
    pub users: f64,
    /// Dollars of a sale.
    pub avg_transaction: f64,
    /// Searches a user makes a year; 50 unless changed.
    pub searches_per_user: f64,
    /// Share of the searches that no longer come up empty and are assumed to end in a sale; 0.30 unless changed.
    pub recovery_rate: f64,
    /// Share of revenue that is margin; 1 (revenue counted as benefit) unless changed.
    pub gross_margin: f64,
    /// Compute also when a target is worse than today; false unless changed.
    pub allow_regression: bool,
}

impl SearchRoiInput {
    /// 50 searches a user, 30% recovery, margin 1, regressions refused.
    pub fn new(current: SearchMetrics, target: SearchMetrics, users: f64, avg_transaction: f64) -> Self {
        Self {
            current,
            target,
            users,
            avg_transaction,
            searches_per_user: 50.0,
            recovery_rate: 0.30,
            gross_margin: 1.0,
            allow_regression: false,
        }
    }

    fn check(&self) -> Result<(), PlanError> {
        for (metrics, conversion, minutes, empty) in [
            (&self.current, "current conversion rate", "current minutes to find", "current zero-result rate"),
            (&self.target, "target conversion rate", "target minutes to find", "target zero-result rate"),
        ] {
            rate(conversion, metrics.conversion_rate)?;
            non_negative(minutes, metrics.minutes_to_find)?;
            rate(empty, metrics.zero_result_rate)?;
        }
        non_negative("users", self.users)?;
        non_negative("average transaction", self.avg_transaction)?;
        non_negative("searches per user", self.searches_per_user)?;
        rate("recovery rate", self.recovery_rate)?;
        rate("gross margin", self.gross_margin)?;
        if self.current.zero_result_rate == 1.0 && self.current.conversion_rate > 0.0 {
            return Err(PlanError::OutOfRange {
                name: "current conversion rate",
                value: self.current.conversion_rate,
                expected: "0 when every search comes up empty",
            });
        }
        let (now, then, allow) = (&self.current, &self.target, self.allow_regression);
        if then.conversion_rate < now.conversion_rate && !allow {
            return Err(PlanError::Regression {
                name: "conversion rate",
                current: now.conversion_rate,
                target: then.conversion_rate,
            });
        }
        not_above("minutes to find", now.minutes_to_find, then.minutes_to_find, allow)?;
        not_above("zero-result rate", now.zero_result_rate, then.zero_result_rate, allow)
    }

    /// Searches a year.
    pub fn searches(&self) -> f64 {
        self.users * self.searches_per_user
    }
}

/// What [`search_roi`] computes; money in dollars a year.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SearchRoi {
    /// Revenue from the higher conversion rate over all searches.
    pub additional_revenue: f64,
    /// Hours that users spend less on searching. Theirs, not the company's: not part of any total.
    pub hours_saved: f64,
    /// Revenue of searches that no longer come up empty, at the recovery rate. Already inside `additional_revenue`,
    /// since the conversion rate is over all searches.
    pub recovered_revenue: f64,
    /// Both revenues added up, which counts the recovered sales twice.
    pub naive_total: f64,
    /// Part of `additional_revenue` that comes from answering more searches, at today's conversion of answered ones.
    pub coverage: f64,
    /// The rest of `additional_revenue`: better results.
    pub relevance: f64,
    /// `additional_revenue` times the gross margin: what a business case may count.
    pub benefit: f64,
    /// Fraction by which the time to find falls; 0 when it was 0.
    pub time_cut: f64,
}

/// The yearly effect of a search project, and its split into coverage and relevance.
pub fn search_roi(input: &SearchRoiInput) -> Result<SearchRoi, PlanError> {
    input.check()?;
    let (now, then) = (&input.current, &input.target);
    let sales = input.searches() * input.avg_transaction;
    let additional_revenue = sales * (then.conversion_rate - now.conversion_rate);
    let fewer_empty = now.zero_result_rate - then.zero_result_rate;
    let recovered_revenue = sales * fewer_empty * input.recovery_rate;
    // Conversion of the searches that have a result at all.
    let answered_conversion =
        if now.conversion_rate == 0.0 { 0.0 } else { now.conversion_rate / (1.0 - now.zero_result_rate) };
    let coverage = sales * fewer_empty * answered_conversion;
    let minutes_saved = now.minutes_to_find - then.minutes_to_find;
    Ok(SearchRoi {
        additional_revenue,
        hours_saved: input.searches() * minutes_saved / 60.0,
        recovered_revenue,
        naive_total: additional_revenue + recovered_revenue,
        coverage,
        relevance: additional_revenue - coverage,
        benefit: additional_revenue * input.gross_margin,
        time_cut: if now.minutes_to_find > 0.0 { minutes_saved / now.minutes_to_find } else { 0.0 },
    })
}

/// The conversion rate at which the benefit covers `cost` dollars a year; an error when that is above 1.
pub fn required_conversion(input: &SearchRoiInput, cost: f64) -> Result<f64, PlanError> {
    input.check()?;
    non_negative("cost", cost)?;
    let dollars_a_point = input.searches() * input.avg_transaction * input.gross_margin;
    let required = input.current.conversion_rate + cost / dollars_a_point;
    if required <= 1.0 {
        Ok(required)
    } else {
        Err(PlanError::NoSolution(format!("covering {cost} a year needs a conversion rate of {required}")))
    }
}

/// What each assumption alone, times `1 - change` and `1 + change`, does to the benefit. For the target conversion the
/// planned *uplift* is scaled, so that a cut never turns it into a regression.
pub fn sensitivity(input: &SearchRoiInput, change: f64) -> Result<Vec<Swing>, PlanError> {
    let base = input.current.conversion_rate;
    let assumptions = [
        ("conversion uplift", input.target.conversion_rate - base),
        ("users", input.users),
        ("searches per user", input.searches_per_user),
        ("average transaction", input.avg_transaction),
        ("gross margin", input.gross_margin),
    ];
    one_at_a_time(&assumptions, change, |values| {
        let mut changed = *input;
        changed.target.conversion_rate = base + values[0];
        changed.users = values[1];
        changed.searches_per_user = values[2];
        changed.avg_transaction = values[3];
        // A margin can't pass 1: the bar of a margin of 1 shows only its downside.
        changed.gross_margin = values[4].min(1.0);
        search_roi(&changed).map(|roi| roi.benefit)
    })
}

#[cfg(test)]
mod tests {
    use approx::assert_relative_eq;
    use proptest::prelude::*;

    use super::*;

    fn listed() -> SearchRoiInput {
        let metrics = |conversion_rate, minutes_to_find, zero_result_rate| SearchMetrics {
            conversion_rate,
            minutes_to_find,
            zero_result_rate,
        };
        SearchRoiInput::new(metrics(0.08, 3.5, 0.15), metrics(0.12, 1.5, 0.03), 1e6, 50.0)
    }

    #[test]
    fn the_worked_example() {
        let roi = search_roi(&listed()).unwrap();
        assert_relative_eq!(roi.additional_revenue, 100e6, max_relative = 1e-12);
        assert_relative_eq!(roi.hours_saved, 1_666_666.666_667, max_relative = 1e-12);
        assert_relative_eq!(roi.recovered_revenue, 90e6, max_relative = 1e-12);
        assert_relative_eq!(roi.naive_total, 190e6, max_relative = 1e-12);
        assert_relative_eq!(roi.coverage, 28_235_294.117_647, max_relative = 1e-12);
        assert_relative_eq!(roi.relevance, 71_764_705.882_353, max_relative = 1e-12);
        assert_relative_eq!(roi.time_cut, 0.571_429, epsilon = 1e-6);
        let margin = SearchRoiInput { gross_margin: 0.25, ..listed() };
        assert_relative_eq!(search_roi(&margin).unwrap().benefit, 25e6, max_relative = 1e-12);
    }

    #[test]
    fn bad_input_and_regressions_are_refused() {
        let refused = |change: fn(&mut SearchRoiInput)| {
            let mut input = listed();
            change(&mut input);
            search_roi(&input).unwrap_err().to_string()
        };
        assert!(refused(|i| i.target.conversion_rate = 1.2).contains("1.2"));
        assert!(refused(|i| i.current.minutes_to_find = f64::NAN).contains("NaN"));
        assert!(refused(|i| i.users = -1.0).contains("users is -1"));
        assert!(refused(|i| i.target.conversion_rate = 0.05).contains("gets worse: from 0.08 to 0.05"));
        assert!(refused(|i| i.target.zero_result_rate = 0.2).contains("zero-result rate gets worse"));
        assert!(refused(|i| i.current.zero_result_rate = 1.0).contains("every search comes up empty"));
        let mut worse = listed();
        worse.target.conversion_rate = 0.05;
        worse.allow_regression = true;
        assert!(search_roi(&worse).unwrap().additional_revenue < 0.0);
    }

    #[test]
    fn the_required_conversion_covers_the_cost() {
        let input = listed();
        let target = required_conversion(&input, 40e6).unwrap();
        let mut at_target = input;
        at_target.target.conversion_rate = target;
        assert_relative_eq!(search_roi(&at_target).unwrap().benefit, 40e6, max_relative = 1e-9);
        assert!(required_conversion(&input, 1e12).is_err());
        let nobody = SearchRoiInput { users: 0.0, ..input };
        assert!(required_conversion(&nobody, 1.0).is_err());
    }

    #[test]
    fn a_half_uplift_is_half_the_benefit() {
        let swings = sensitivity(&listed(), 0.5).unwrap();
        let uplift = swings.iter().find(|s| s.assumption == "conversion uplift").unwrap();
        assert_relative_eq!(uplift.low, 50e6, max_relative = 1e-9);
        assert_relative_eq!(uplift.high, 150e6, max_relative = 1e-9);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn benefit_is_linear_in_users_and_the_parts_add_up(users in 0.0..1e9f64, factor in 0.0..10.0f64) {
            let base = SearchRoiInput { users, ..listed() };
            let scaled = SearchRoiInput { users: users * factor, ..base };
            let (one, many) = (search_roi(&base).unwrap(), search_roi(&scaled).unwrap());
            prop_assert!((many.benefit - factor * one.benefit).abs() <= 1e-9 * many.benefit.max(1.0));
            let parts = one.coverage + one.relevance;
            prop_assert!((parts - one.additional_revenue).abs() <= 1e-12 * one.additional_revenue);
            let same = SearchRoiInput { target: base.current, ..base };
            prop_assert_eq!(search_roi(&same).unwrap().naive_total, 0.0);
        }
    }
}
