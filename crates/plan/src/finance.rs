//! Present value of money: NPV, annuities, internal rate of return, payback.
//!
//! Conventions of the textbooks (Brealey, Myers, Allen, *Principles of Corporate Finance*): the flow at index `t` falls
//! due at the end of year `t`, index 0 is today, rates are a year.

use std::fmt;

use serde::Serialize;

use crate::PlanError;
use crate::error::{discount_rate, finite, non_negative};

/// When an investment has earned itself back.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Payback {
    /// After this many years.
    Years(f64),
    /// The net flow doesn't cover the investment however long one waits.
    Never,
}

impl fmt::Display for Payback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Years(years) => write!(f, "{years:.3} years"),
            Self::Never => f.write_str("never"),
        }
    }
}

/// Net present value of `cash_flows[t]` at the end of year `t`: the sum of `cash_flows[t] / (1 + rate)^t`.
pub fn npv(rate: f64, cash_flows: &[f64]) -> Result<f64, PlanError> {
    discount_rate(rate)?;
    for &flow in cash_flows {
        finite("cash flow", flow)?;
    }
    // Horner's scheme from the last year back.
    Ok(cash_flows.iter().rev().fold(0.0, |value, flow| value / (1.0 + rate) + flow))
}

/// Present value of 1 at the end of each of `years` years: `(1 - (1 + rate)^-years) / rate`, and `years` at rate 0.
pub fn annuity(rate: f64, years: u32) -> Result<f64, PlanError> {
    discount_rate(rate)?;
    if rate == 0.0 {
        return Ok(f64::from(years));
    }
    // expm1 and ln_1p keep the digits of small rates.
    Ok(-(-f64::from(years) * rate.ln_1p()).exp_m1() / rate)
}

/// Internal rate of return: a rate above -1 at which [`npv`] is zero, by bisection; where there are several, the one
/// nearest to zero that a search outwards from zero brackets first. An error when no bracket is found up to a rate of 1e6.
///
/// ```
/// let rate = eas_plan::finance::irr(&[-100.0, 60.0, 60.0])?;
/// assert!((rate - 0.130_662_386_291_807_85).abs() < 1e-12);
/// # Ok::<(), eas_plan::PlanError>(())
/// ```
pub fn irr(cash_flows: &[f64]) -> Result<f64, PlanError> {
    let value = |rate: f64| npv(rate, cash_flows);
    value(0.0)?;
    let no_root = || PlanError::NoSolution("the cash flows have no internal rate of return".into());
    if cash_flows.iter().all(|&flow| flow >= 0.0) || cash_flows.iter().all(|&flow| flow <= 0.0) {
        return Err(no_root());
    }
    // Rates 0, 1%, 2.01%, ... upwards, and the matching growth factors 1/1.01, 1/1.01^2, ... downwards.
    let steps: Vec<f64> = (0..1400).map(|i| 1.01f64.powi(i) - 1.0).collect();
    let bracket = steps.windows(2).find_map(|step| {
        let above = (step[0], step[1]);
        let below = (-step[0] / (1.0 + step[0]), -step[1] / (1.0 + step[1]));
        [above, below].into_iter().find(|&(a, b)| match (value(a), value(b)) {
            (Ok(at_a), Ok(at_b)) => at_a.is_finite() && at_b.is_finite() && at_a.signum() * at_b.signum() <= 0.0,
            _ => false,
        })
    });
    let (mut low, mut high) = bracket.ok_or_else(no_root)?;
    let sign_low = value(low)?.signum();
    for _ in 0..200 {
        let middle = f64::midpoint(low, high);
        if value(middle)?.signum() == sign_low {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(f64::midpoint(low, high))
}

/// Years until `annual_net`, flowing evenly, has returned `investment`.
pub fn payback(investment: f64, annual_net: f64) -> Result<Payback, PlanError> {
    non_negative("investment", investment)?;
    finite("annual net benefit", annual_net)?;
    Ok(if investment == 0.0 {
        Payback::Years(0.0)
    } else if annual_net > 0.0 {
        Payback::Years(investment / annual_net)
    } else {
        Payback::Never
    })
}

/// Years until the annuity of `annual_net` is worth `investment` today: `-ln(1 - investment rate / net) / ln(1 + rate)`.
pub fn discounted_payback(investment: f64, annual_net: f64, rate: f64) -> Result<Payback, PlanError> {
    discount_rate(rate)?;
    let plain = payback(investment, annual_net)?;
    if rate == 0.0 || plain == Payback::Never || investment == 0.0 {
        return Ok(plain);
    }
    let covered = investment * rate / annual_net;
    Ok(if covered < 1.0 { Payback::Years(-(-covered).ln_1p() / rate.ln_1p()) } else { Payback::Never })
}

#[cfg(test)]
mod tests {
    use approx::assert_relative_eq;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn annuity_of_the_textbook_table() {
        assert_relative_eq!(annuity(0.15, 5).unwrap(), 3.352_155_098, epsilon = 1e-9);
        assert_eq!(annuity(0.0, 7).unwrap(), 7.0);
        assert_relative_eq!(annuity(1e-12, 7).unwrap(), 7.0, epsilon = 1e-9);
        assert!(annuity(-1.0, 5).is_err());
        assert!(annuity(f64::NAN, 5).is_err());
    }

    #[test]
    fn npv_is_the_sum_of_discounted_flows() {
        let flows = [-15e6, 3e6, 7e6, -2e6, 20e6];
        let sum: f64 = flows.iter().zip(0..).map(|(flow, t)| flow / 1.12f64.powi(t)).sum();
        assert_relative_eq!(npv(0.12, &flows).unwrap(), sum, max_relative = 1e-12);
        assert_eq!(npv(0.1, &[]).unwrap(), 0.0);
        assert!(npv(0.1, &[f64::INFINITY]).is_err());
    }

    #[test]
    fn irr_of_the_annuity_and_of_flows_without_a_root() {
        let flows = [-15e6, 12e6, 12e6, 12e6, 12e6, 12e6];
        let rate = irr(&flows).unwrap();
        assert!((rate - 0.751_461).abs() < 1e-6, "{rate}");
        assert!(npv(rate, &flows).unwrap().abs() < 1e-6);
        assert!(irr(&[5.0, 3.0]).is_err());
        assert!(irr(&[-5.0, -3.0]).is_err());
        assert!(irr(&[1.0, -1.0, 1.0]).is_err(), "the discriminant is negative");
        assert!(irr(&[]).is_err());
        // Nothing comes back but half: the rate is negative.
        assert_relative_eq!(irr(&[-100.0, 50.0]).unwrap(), -0.5, epsilon = 1e-12);
    }

    #[test]
    fn payback_is_never_rather_than_negative() {
        assert_eq!(payback(15e6, 12e6).unwrap(), Payback::Years(1.25));
        assert_eq!(payback(15e6, -3.7e6).unwrap(), Payback::Never);
        assert_eq!(payback(15e6, 0.0).unwrap(), Payback::Never);
        assert_eq!(payback(0.0, -1.0).unwrap(), Payback::Years(0.0));
        assert!(payback(-1.0, 1.0).is_err());
        let Payback::Years(years) = discounted_payback(15e6, 12e6, 0.15).unwrap() else { panic!("it does pay back") };
        assert!((years - 1.485_665).abs() < 1e-6, "{years}");
        assert_eq!(discounted_payback(100.0, 10.0, 0.15).unwrap(), Payback::Never);
        assert_eq!(discounted_payback(100.0, 10.0, 0.0).unwrap(), Payback::Years(10.0));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn irr_makes_the_present_value_vanish(invest in 1.0..1e6f64, back in prop::collection::vec(0.0..1e6f64, 1..8)) {
            let flows: Vec<f64> = std::iter::once(-invest).chain(back).collect();
            if let Ok(rate) = irr(&flows) {
                let scale = 1.0 + flows.iter().zip(0..).map(|(f, t)| (f / (1.0 + rate).powi(t)).abs()).sum::<f64>();
                prop_assert!(npv(rate, &flows).unwrap().abs() <= 1e-9 * scale);
            }
        }
    }
}
