//! Lower churn, in lifetime value: margin over churn, so convex in the reduction and not linear.
//!
//! With a margin of `m` a period and a churn of `c` a period, a customer stays `1 / c` periods on average (a geometric
//! lifetime) and is worth `L = m / c`.

use crate::PlanError;
use crate::error::{finite, non_negative, positive, rate};

/// A planned reduction of churn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LtvInput {
    /// Lifetime value of a customer today, in dollars.
    pub current_ltv: f64,
    /// Relative reduction of the churn: 0.05 takes a churn of 20% to 19%.
    pub churn_reduction: f64,
    /// Customers.
    pub customers: f64,
    /// Share of the customers who are new in a year, and so live their whole life at the new churn; 0.25 unless changed.
    pub annual_turnover: f64,
}

impl LtvInput {
    /// A quarter of the customers is new each year.
    pub fn new(current_ltv: f64, churn_reduction: f64, customers: f64) -> Self {
        Self { current_ltv, churn_reduction, customers, annual_turnover: 0.25 }
    }
}

/// What [`ltv_roi`] computes; dollars.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LtvRoi {
    /// Uplift of a lifetime value if it grew in proportion to the reduction: `L r`.
    pub linear_uplift: f64,
    /// Uplift that margin over churn gives: `L r / (1 - r)`.
    pub geometric_uplift: f64,
    /// The linear uplift over a year's new customers.
    pub annual_linear: f64,
    /// The geometric uplift over a year's new customers.
    pub annual_geometric: f64,
}

/// The uplift `L r` that treats a churn reduction as a gain in lifetime value.
pub fn linear_uplift(ltv: f64, reduction: f64) -> Result<f64, PlanError> {
    Ok(non_negative("lifetime value", ltv)? * relative_reduction(reduction)?)
}

/// The uplift when the churn falls from `c` to `c (1 - reduction)`: `L r / (1 - r)`.
pub fn geometric_uplift(ltv: f64, reduction: f64) -> Result<f64, PlanError> {
    let reduction = relative_reduction(reduction)?;
    Ok(non_negative("lifetime value", ltv)? * reduction / (1.0 - reduction))
}

/// The uplift when the churn falls from `churn` by `points` to `churn - points`: `L d / (c - d)`.
pub fn absolute_uplift(ltv: f64, churn: f64, points: f64) -> Result<f64, PlanError> {
    non_negative("lifetime value", ltv)?;
    rate("churn", churn)?;
    non_negative("churn reduction in points", points)?;
    if points >= churn {
        return Err(PlanError::OutOfRange {
            name: "churn reduction in points",
            value: points,
            expected: "below the churn itself",
        });
    }
    Ok(ltv * points / (churn - points))
}

/// Present value of a margin of `margin` now and at each later period that the customer survives:
/// `m (1 + rate) / (rate + c)`, and `m / c` at rate 0.
pub fn discounted_ltv(margin: f64, churn: f64, discount: f64) -> Result<f64, PlanError> {
    finite("margin", margin)?;
    positive("churn", rate("churn", churn)?)?;
    non_negative("discount rate", discount)?;
    Ok(margin * (1.0 + discount) / (discount + churn))
}

/// Churn estimated from subscriptions of which some still run: `events / exposure`, with its standard error. `events`
/// counts the cancellations seen, `exposure` the periods that all subscriptions together were at risk.
pub fn censored_churn(events: u64, exposure: f64) -> Result<(f64, f64), PlanError> {
    positive("exposure", exposure)?;
    let churn = rate("events an exposed period", events as f64 / exposure)?;
    Ok((churn, (churn * (1.0 - churn) / exposure).sqrt()))
}

/// Uplifts of both models, for one customer and for a year's new customers.
pub fn ltv_roi(input: &LtvInput) -> Result<LtvRoi, PlanError> {
    let new_customers = non_negative("customers", input.customers)? * rate("annual turnover", input.annual_turnover)?;
    let linear = linear_uplift(input.current_ltv, input.churn_reduction)?;
    let geometric = geometric_uplift(input.current_ltv, input.churn_reduction)?;
    Ok(LtvRoi {
        linear_uplift: linear,
        geometric_uplift: geometric,
        annual_linear: linear * new_customers,
        annual_geometric: geometric * new_customers,
    })
}

fn relative_reduction(value: f64) -> Result<f64, PlanError> {
    non_negative("churn reduction", value)?;
    if value >= 1.0 {
        return Err(PlanError::OutOfRange {
            name: "churn reduction",
            value,
            expected: "below 1: without churn a lifetime has no end",
        });
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use approx::assert_relative_eq;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_worked_example() {
        let roi = ltv_roi(&LtvInput::new(850.0, 0.05, 2e6)).unwrap();
        assert_relative_eq!(roi.linear_uplift, 42.5, max_relative = 1e-12);
        assert_relative_eq!(roi.annual_linear, 21_250_000.0, max_relative = 1e-12);
        assert_relative_eq!(roi.geometric_uplift, 44.736_842, epsilon = 1e-6);
        assert_relative_eq!(roi.annual_geometric, 22_368_421.052_632, epsilon = 1e-5);
        assert_relative_eq!(absolute_uplift(850.0, 0.25, 0.05).unwrap(), 212.5, max_relative = 1e-12);
    }

    #[test]
    fn discounted_ltv_is_its_series() {
        let series: f64 = (0..2_000).map(|t| 30.0 * (0.75f64 / 1.1).powi(t)).sum();
        assert_relative_eq!(discounted_ltv(30.0, 0.25, 0.1).unwrap(), series, max_relative = 1e-12);
        assert_eq!(discounted_ltv(30.0, 0.25, 0.0).unwrap(), 120.0);
    }

    #[test]
    fn impossible_reductions_are_refused() {
        assert!(geometric_uplift(850.0, 1.0).unwrap_err().to_string().contains("below 1"));
        assert!(linear_uplift(850.0, f64::NAN).is_err());
        assert!(linear_uplift(-850.0, 0.1).is_err());
        assert!(absolute_uplift(850.0, 0.25, 0.25).is_err());
        assert!(absolute_uplift(850.0, 1.25, 0.25).is_err());
        assert!(discounted_ltv(1.0, 0.0, 0.0).is_err());
        assert!(ltv_roi(&LtvInput { annual_turnover: 1.5, ..LtvInput::new(1.0, 0.1, 1.0) }).is_err());
    }

    #[test]
    fn churn_from_censored_subscriptions() {
        let (churn, error) = censored_churn(250, 1_000.0).unwrap();
        assert_eq!(churn, 0.25);
        assert_relative_eq!(error, (0.25f64 * 0.75 / 1_000.0).sqrt());
        assert!(censored_churn(5, 0.0).is_err());
        assert!(censored_churn(5, 2.0).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_relative_models_agree_with_the_absolute_one(ltv in 0.0..1e5f64, r in 0.0..0.99f64, churn in 0.01..1.0f64) {
            let (linear, geometric) = (linear_uplift(ltv, r).unwrap(), geometric_uplift(ltv, r).unwrap());
            prop_assert!(linear <= geometric);
            prop_assert_eq!(linear_uplift(ltv, 0.0).unwrap(), geometric_uplift(ltv, 0.0).unwrap());
            let absolute = absolute_uplift(ltv, churn, churn * r).unwrap();
            prop_assert!((absolute - geometric).abs() <= 1e-9 * geometric.max(1.0));
        }
    }
}
