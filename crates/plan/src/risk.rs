//! A project that may fail: expected value, and the spread behind it.

use eas_tensor::rng::SplitMix64;

use crate::PlanError;
use crate::error::{discount_rate, non_negative, rate};
use crate::finance::{Payback, annuity, discounted_payback, irr, npv, payback};

/// A project with a one-off cost, a yearly cost, and a yearly benefit that comes only if it succeeds. Money in dollars.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RiskInput {
    /// Benefit a year when the project succeeds.
    pub annual_benefit: f64,
    /// Probability of success.
    pub p_success: f64,
    /// Cost today.
    pub implementation: f64,
    /// Cost a year, success or not.
    pub annual_operating: f64,
    /// Years of benefit and cost.
    pub years: u32,
    /// Discount rate a year.
    pub discount: f64,
}

/// How sure one is of a benefit, as the probability of success to plan with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certainty {
    /// 0.3 to 0.5: nobody has done it.
    Low,
    /// 0.6 to 0.7: others have done it.
    Medium,
    /// 0.8 to 0.9: a pilot of one's own has shown it.
    High,
}

impl Certainty {
    /// The tier of a probability; the gaps between the tiers are split at 0.55 and 0.75.
    pub fn of(p_success: f64) -> Result<Self, PlanError> {
        rate("probability of success", p_success)?;
        Ok(match p_success {
            p if p < 0.55 => Self::Low,
            p if p < 0.75 => Self::Medium,
            _ => Self::High,
        })
    }

    /// Lowest and highest probability that the tier stands for.
    pub fn range(self) -> (f64, f64) {
        match self {
            Self::Low => (0.3, 0.5),
            Self::Medium => (0.6, 0.7),
            Self::High => (0.8, 0.9),
        }
    }
}

/// What [`risk_adjusted`] computes.
#[derive(Debug, Clone, PartialEq)]
pub struct RiskReport {
    /// Probability times benefit, a year.
    pub expected_benefit: f64,
    /// Net present value of the expected flows.
    pub npv: f64,
    /// `100 npv / implementation`; `None` without an implementation cost.
    pub roi_percent: Option<f64>,
    /// Payback of the expected flows.
    pub payback: Payback,
    /// Payback of the discounted expected flows.
    pub discounted_payback: Payback,
    /// Internal rate of return of the expected flows; `None` where there is none.
    pub irr: Option<f64>,
    /// Probability at which `npv` is zero; above 1 when even success doesn't pay, infinite without a benefit.
    pub break_even_probability: f64,
    /// Net present value if the project succeeds.
    pub success_npv: f64,
    /// Net present value if it fails and its running cost is paid to the end.
    pub failure_npv: f64,
}

impl RiskInput {
    fn check(&self) -> Result<(), PlanError> {
        non_negative("annual benefit", self.annual_benefit)?;
        rate("probability of success", self.p_success)?;
        non_negative("implementation cost", self.implementation)?;
        non_negative("annual operating cost", self.annual_operating)?;
        discount_rate(self.discount)?;
        Ok(())
    }

    /// Net present value of failure when the project is stopped after `abandon_after` years (`None`: never stopped).
    pub fn failure_npv(&self, abandon_after: Option<u32>) -> Result<f64, PlanError> {
        self.check()?;
        let paid = abandon_after.map_or(self.years, |after| after.min(self.years));
        Ok(-self.implementation - self.annual_operating * annuity(self.discount, paid)?)
    }

    /// Net present value of success.
    pub fn success_npv(&self) -> Result<f64, PlanError> {
        self.check()?;
        let flow = self.annual_benefit - self.annual_operating;
        Ok(flow * annuity(self.discount, self.years)? - self.implementation)
    }

    /// Expected net present value when a failed project is stopped after `abandon_after` years.
    pub fn expected_npv(&self, abandon_after: Option<u32>) -> Result<f64, PlanError> {
        let p = self.p_success;
        Ok(p * self.success_npv()? + (1.0 - p) * self.failure_npv(abandon_after)?)
    }

    /// `n` outcomes of the project as net present values: success with `p_success`, else failure, stopped after
    /// `abandon_after` years.
    pub fn simulate(&self, n: usize, seed: u64, abandon_after: Option<u32>) -> Result<Vec<f64>, PlanError> {
        let (success, failure) = (self.success_npv()?, self.failure_npv(abandon_after)?);
        let mut rng = SplitMix64::new(seed);
        Ok((0..n).map(|_| if rng.chance(self.p_success) { success } else { failure }).collect())
    }
}

/// Expected benefit, net present value and payback of a project that succeeds with a stated probability.
pub fn risk_adjusted(input: &RiskInput) -> Result<RiskReport, PlanError> {
    input.check()?;
    let factor = annuity(input.discount, input.years)?;
    let expected_benefit = input.p_success * input.annual_benefit;
    let net = expected_benefit - input.annual_operating;
    let mut flows = vec![net; input.years as usize + 1];
    flows[0] = -input.implementation;
    let value = npv(input.discount, &flows)?;
    Ok(RiskReport {
        expected_benefit,
        npv: value,
        roi_percent: (input.implementation > 0.0).then(|| 100.0 * value / input.implementation),
        payback: payback(input.implementation, net)?,
        discounted_payback: discounted_payback(input.implementation, net, input.discount)?,
        irr: irr(&flows).ok(),
        break_even_probability: (input.implementation / factor + input.annual_operating) / input.annual_benefit,
        success_npv: input.success_npv()?,
        failure_npv: input.failure_npv(None)?,
    })
}

#[cfg(test)]
mod tests {
    use approx::assert_relative_eq;
    use proptest::prelude::*;

    use super::*;

    const PROJECT: RiskInput = RiskInput {
        annual_benefit: 20e6,
        p_success: 0.8,
        implementation: 15e6,
        annual_operating: 4e6,
        years: 5,
        discount: 0.15,
    };

    #[test]
    fn the_worked_project() {
        let report = risk_adjusted(&PROJECT).unwrap();
        assert_relative_eq!(report.npv, 25_225_861.176_137, epsilon = 1e-5);
        assert_relative_eq!(report.roi_percent.unwrap(), 168.172_408, epsilon = 1e-6);
        assert_eq!(report.payback, Payback::Years(1.25));
        assert_relative_eq!(report.irr.unwrap(), 0.751_461, epsilon = 1e-6);
        assert_relative_eq!(report.break_even_probability, 0.423_737, epsilon = 1e-6);
        assert_relative_eq!(report.success_npv, 38_634_481.568_182, epsilon = 1e-5);
        assert_relative_eq!(report.failure_npv, -28_408_620.392_046, epsilon = 1e-5);
        let at_break_even = RiskInput { p_success: report.break_even_probability, ..PROJECT };
        assert!(risk_adjusted(&at_break_even).unwrap().npv.abs() < 1.0);
    }

    #[test]
    fn stopping_a_failure_is_worth_its_saved_running_cost() {
        assert_relative_eq!(PROJECT.expected_npv(Some(1)).unwrap(), 27_211_933.080_633, epsilon = 1e-5);
        assert_relative_eq!(PROJECT.failure_npv(Some(1)).unwrap(), -18_478_260.869_565, epsilon = 1e-5);
        assert_eq!(PROJECT.expected_npv(Some(9)).unwrap(), PROJECT.expected_npv(None).unwrap());
        assert_relative_eq!(
            PROJECT.expected_npv(None).unwrap(),
            risk_adjusted(&PROJECT).unwrap().npv,
            max_relative = 1e-12
        );
    }

    #[test]
    fn a_losing_project_never_pays_back() {
        let report = risk_adjusted(&RiskInput { annual_benefit: 1e6, p_success: 0.3, ..PROJECT }).unwrap();
        assert_relative_eq!(report.npv, -27_402_973.862_642, epsilon = 1e-5);
        assert_eq!((report.payback, report.discounted_payback), (Payback::Never, Payback::Never));
        assert_eq!(report.irr, None);
        assert!(report.break_even_probability > 1.0);
    }

    #[test]
    fn free_projects_and_bad_input() {
        let free = RiskInput { implementation: 0.0, ..PROJECT };
        let report = risk_adjusted(&free).unwrap();
        assert_eq!((report.roi_percent, report.payback), (None, Payback::Years(0.0)));
        let refused = |change: fn(&mut RiskInput)| {
            let mut input = PROJECT;
            change(&mut input);
            risk_adjusted(&input).unwrap_err().to_string()
        };
        assert!(refused(|i| i.p_success = 1.2).contains("1.2"));
        assert!(refused(|i| i.annual_benefit = f64::NAN).contains("NaN"));
        assert!(refused(|i| i.implementation = -1.0).contains("zero or more"));
        assert!(refused(|i| i.discount = -1.0).contains("above -1"));
    }

    #[test]
    fn certainty_tiers_split_their_gaps() {
        let tiers: Vec<Certainty> = [0.3, 0.54, 0.55, 0.7, 0.75, 0.9].map(|p| Certainty::of(p).unwrap()).to_vec();
        assert_eq!(
            tiers,
            [Certainty::Low, Certainty::Low, Certainty::Medium, Certainty::Medium, Certainty::High, Certainty::High]
        );
        assert!(Certainty::of(1.1).is_err());
        for tier in [Certainty::Low, Certainty::Medium, Certainty::High] {
            let (low, high) = tier.range();
            assert_eq!((Certainty::of(low).unwrap(), Certainty::of(high).unwrap()), (tier, tier));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn value_rises_with_probability_and_falls_with_the_discount_rate(
            p in 0.3..0.9f64, step in 0.01..0.1f64, discount in 0.0..0.5f64
        ) {
            let value = |p_success, discount| risk_adjusted(&RiskInput { p_success, discount, ..PROJECT }).unwrap().npv;
            prop_assert!(value(p + step, discount) > value(p, discount));
            prop_assert!(value(p, discount + step) < value(p, discount));
        }
    }
}
