//! Return on investment: four kinds of benefit, and [`RoiCase`], which adds them up against their cost.

pub mod efficiency;
pub mod fraud;
pub mod ltv;
pub mod search;

use serde::Serialize;

use crate::PlanError;
use crate::error::non_negative;
use crate::finance::Payback;
use crate::risk::{RiskInput, risk_adjusted};
use crate::sensitivity::{Swing, one_at_a_time};
use efficiency::{EfficiencyInput, efficiency_roi};
use fraud::{FraudInput, fraud_roi};
use ltv::{LtvInput, ltv_roi};
use search::{SearchRoiInput, search_roi};

/// Discount rate a year unless [`RoiCase::discount`] says otherwise.
pub const DEFAULT_DISCOUNT: f64 = 0.15;

/// What the project costs; dollars.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Costs {
    /// Once, today.
    pub implementation: f64,
    /// To run it, a year.
    pub annual_operating: f64,
    /// For data, a year.
    pub annual_data: f64,
}

/// How benefits are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// As the usual formulas add them up: recovered sales on top of conversion, rework at the old hours, lifetime value
    /// proportional to the churn reduction.
    AsListed,
    /// Each dollar once: conversion (times margin) only, rework at the new hours, lifetime value as margin over churn.
    NoOverlap,
}

/// One line of the breakdown.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Component {
    /// What the benefit is.
    pub label: String,
    /// Dollars a year if the project succeeds.
    pub annual: f64,
}

/// An evaluated case; money in dollars.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RoiReport {
    /// The case's name.
    pub name: String,
    /// How benefits were counted.
    pub method: Method,
    /// The benefits in the order in which they were added.
    pub breakdown: Vec<Component>,
    /// Their sum, a year.
    pub annual_benefit: f64,
    /// The sum times the probability of success.
    pub expected_benefit: f64,
    /// Operating and data cost a year.
    pub annual_cost: f64,
    /// Net present value of the expected flows.
    pub npv: f64,
    /// `100 npv / implementation`; `None` without an implementation cost.
    pub roi_percent: Option<f64>,
    /// Payback of the expected flows.
    pub payback: Payback,
    /// Effect of each assumption alone, 20% down and up, on the NPV; longest first.
    pub tornado: Vec<Swing>,
    /// Reasons to distrust the result.
    pub warnings: Vec<String>,
}

#[derive(Debug, Clone)]
enum Benefit {
    Search(SearchRoiInput),
    Efficiency(EfficiencyInput),
    Fraud(FraudInput),
    Ltv(LtvInput),
}

impl Benefit {
    fn evaluate(&self, method: Method) -> Result<Component, PlanError> {
        let listed = method == Method::AsListed;
        let (label, annual) = match self {
            Self::Search(input) => {
                let roi = search_roi(input)?;
                ("search".into(), if listed { roi.naive_total } else { roi.benefit })
            }
            Self::Efficiency(input) => {
                let roi = efficiency_roi(input)?;
                let annual = if listed { roi.total_at_old_hours } else { roi.total };
                (format!("efficiency: {}", input.process), annual)
            }
            Self::Fraud(input) => ("fraud".into(), fraud_roi(input)?.total),
            Self::Ltv(input) => {
                let roi = ltv_roi(input)?;
                let annual = if listed { roi.annual_linear } else { roi.annual_geometric };
                ("lifetime value".into(), annual)
            }
        };
        Ok(Component { label, annual })
    }
}

/// A business case: any number of benefits of each kind, and the costs.
///
/// ```
/// use eas_plan::roi::{Costs, Method, RoiCase, ltv::LtvInput};
///
/// let case = RoiCase::new("retention").ltv(LtvInput::new(850.0, 0.05, 2e6));
/// let missing = case.clone().evaluate(5, 0.8, Method::NoOverlap);
/// assert_eq!(missing.unwrap_err().to_string(), "costs is missing");
///
/// let costs = Costs { implementation: 20e6, annual_operating: 5e6, annual_data: 1e6 };
/// let report = case.costs(costs).evaluate(5, 0.8, Method::NoOverlap)?;
/// assert!(report.npv > 0.0);
/// # Ok::<(), eas_plan::PlanError>(())
/// ```
#[derive(Debug, Clone)]
pub struct RoiCase {
    name: String,
    benefits: Vec<Benefit>,
    costs: Option<Costs>,
    discount: f64,
}

impl RoiCase {
    /// A case without benefits and costs, at [`DEFAULT_DISCOUNT`].
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), benefits: Vec::new(), costs: None, discount: DEFAULT_DISCOUNT }
    }

    /// Adds a search benefit.
    #[must_use]
    pub fn search(self, input: SearchRoiInput) -> Self {
        self.with(Benefit::Search(input))
    }

    /// Adds an efficiency benefit.
    #[must_use]
    pub fn efficiency(self, input: EfficiencyInput) -> Self {
        self.with(Benefit::Efficiency(input))
    }

    /// Adds a fraud benefit.
    #[must_use]
    pub fn fraud(self, input: FraudInput) -> Self {
        self.with(Benefit::Fraud(input))
    }

    /// Adds a lifetime-value benefit.
    #[must_use]
    pub fn ltv(self, input: LtvInput) -> Self {
        self.with(Benefit::Ltv(input))
    }

    /// Sets the costs.
    #[must_use]
    pub fn costs(mut self, costs: Costs) -> Self {
        self.costs = Some(costs);
        self
    }

    /// Sets the discount rate a year.
    #[must_use]
    pub fn discount(mut self, discount: f64) -> Self {
        self.discount = discount;
        self
    }

    fn with(mut self, benefit: Benefit) -> Self {
        self.benefits.push(benefit);
        self
    }

    /// The case over `years`, all benefits coming with probability `p_success` or not at all. An error when the costs
    /// are missing or any input is invalid.
    pub fn evaluate(&self, years: u32, p_success: f64, method: Method) -> Result<RoiReport, PlanError> {
        let costs = self.costs.ok_or(PlanError::Missing("costs"))?;
        non_negative("implementation cost", costs.implementation)?;
        non_negative("annual operating cost", costs.annual_operating)?;
        non_negative("annual data cost", costs.annual_data)?;
        let breakdown = self.benefits.iter().map(|benefit| benefit.evaluate(method)).collect::<Result<Vec<_>, _>>()?;
        let annual_benefit = breakdown.iter().map(|component| component.annual).sum();
        let annual_cost = costs.annual_operating + costs.annual_data;
        let input = RiskInput {
            annual_benefit,
            p_success,
            implementation: costs.implementation,
            annual_operating: annual_cost,
            years,
            discount: self.discount,
        };
        let result = risk_adjusted(&input)?;
        Ok(RoiReport {
            name: self.name.clone(),
            method,
            breakdown,
            annual_benefit,
            expected_benefit: result.expected_benefit,
            annual_cost,
            npv: result.npv,
            roi_percent: result.roi_percent,
            payback: result.payback,
            tornado: tornado(&input, 0.2)?,
            warnings: warnings(result.roi_percent, result.payback),
        })
    }
}

fn tornado(base: &RiskInput, change: f64) -> Result<Vec<Swing>, PlanError> {
    let assumptions = [
        ("annual benefit", base.annual_benefit),
        ("probability of success", base.p_success),
        ("implementation cost", base.implementation),
        ("annual cost", base.annual_operating),
        ("discount rate", base.discount),
    ];
    one_at_a_time(&assumptions, change, |values| {
        let input = RiskInput {
            annual_benefit: values[0],
            // A probability can't pass 1.
            p_success: values[1].min(1.0),
            implementation: values[2],
            annual_operating: values[3],
            discount: values[4],
            ..*base
        };
        risk_adjusted(&input).map(|result| result.npv)
    })
}

/// Results that should make a reader look for an error before they look for a budget.
fn warnings(roi_percent: Option<f64>, payback: Payback) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(roi) = roi_percent
        && roi > 300.0
    {
        warnings.push(format!("a return of {roi:.0}% is above 300%: check what is counted as benefit"));
    }
    if let Payback::Years(years) = payback
        && years < 0.5
    {
        warnings.push(format!("a payback of {years:.2} years is below half a year: check the costs"));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use approx::assert_relative_eq;

    use super::search::SearchMetrics;
    use super::*;
    use crate::finance::annuity;

    const COSTS: Costs = Costs { implementation: 40e6, annual_operating: 12e6, annual_data: 3e6 };

    fn listed_search() -> SearchRoiInput {
        let metrics = |conversion_rate, minutes_to_find, zero_result_rate| SearchMetrics {
            conversion_rate,
            minutes_to_find,
            zero_result_rate,
        };
        SearchRoiInput::new(metrics(0.08, 3.5, 0.15), metrics(0.12, 1.5, 0.03), 1e6, 50.0)
    }

    fn listed() -> RoiCase {
        RoiCase::new("embeddings")
            .search(listed_search())
            .efficiency(EfficiencyInput::new("document review", 4.0, 1.0, 10_000.0, 500.0))
            .fraud(FraudInput::new(50e9, (0.0006, 0.00025), (0.023, 0.004), 5.0))
            .ltv(LtvInput::new(850.0, 0.05, 2e6))
            .costs(COSTS)
    }

    #[test]
    fn the_worked_case_both_ways() {
        let expected = [
            (Method::AsListed, 292_250_000.0, 233_800_000.0, 693_451_535.444_895, 1_733.628_839, 0.182_815),
            (
                Method::NoOverlap,
                202_618_421.052_632,
                162_094_736.842_105,
                453_084_371.995_909,
                1_132.710_930,
                0.271_934,
            ),
        ];
        for (method, benefit, expectation, npv, roi, years) in expected {
            let report = listed().evaluate(5, 0.8, method).unwrap();
            assert_relative_eq!(report.annual_benefit, benefit, max_relative = 1e-12);
            assert_relative_eq!(report.expected_benefit, expectation, max_relative = 1e-12);
            assert_relative_eq!(report.npv, npv, max_relative = 1e-12);
            assert_relative_eq!(report.roi_percent.unwrap(), roi, max_relative = 1e-8);
            let Payback::Years(payback) = report.payback else { panic!("it pays back") };
            assert_relative_eq!(payback, years, epsilon = 1e-6);
            assert_eq!(report.warnings.len(), 2);
            let sum: f64 = report.breakdown.iter().map(|c| c.annual).sum();
            assert_relative_eq!(sum, report.annual_benefit, max_relative = 1e-9);
        }
    }

    #[test]
    fn a_second_benefit_of_a_kind_adds_up() {
        let one = listed().evaluate(5, 0.8, Method::NoOverlap).unwrap();
        let two = listed().search(listed_search()).evaluate(5, 0.8, Method::NoOverlap).unwrap();
        assert_relative_eq!(two.annual_benefit - one.annual_benefit, 100e6, max_relative = 1e-9);
    }

    #[test]
    fn without_benefits_the_value_is_the_cost() {
        let report = RoiCase::new("none").costs(COSTS).evaluate(5, 0.8, Method::AsListed).unwrap();
        let cost = -40e6 - 15e6 * annuity(0.15, 5).unwrap();
        assert_relative_eq!(report.npv, cost, max_relative = 1e-12);
        assert_eq!(report.payback, Payback::Never);
        assert!(report.warnings.is_empty());
    }

    #[test]
    fn missing_costs_and_bad_inputs_are_errors() {
        let case = RoiCase::new("x");
        assert_eq!(case.evaluate(5, 0.8, Method::AsListed), Err(PlanError::Missing("costs")));
        assert!(listed().evaluate(5, 1.5, Method::AsListed).is_err());
        let bad = listed().ltv(LtvInput::new(850.0, 1.0, 1.0));
        assert!(bad.evaluate(5, 0.8, Method::AsListed).is_err());
        let negative = Costs { annual_data: -1.0, ..COSTS };
        assert!(listed().costs(negative).evaluate(5, 0.8, Method::AsListed).is_err());
    }

    #[test]
    fn the_tornado_is_led_by_the_benefit() {
        let report = listed().discount(0.10).evaluate(5, 0.8, Method::NoOverlap).unwrap();
        assert_eq!(report.tornado[0].assumption, "annual benefit");
        assert!(report.tornado.windows(2).all(|pair| pair[0].span() >= pair[1].span()));
        let base = listed().evaluate(5, 0.8, Method::NoOverlap).unwrap();
        assert!(report.npv > base.npv, "a lower discount rate raises the value");
    }
}
