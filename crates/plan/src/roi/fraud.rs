//! Better fraud detection, in money: losses avoided, and good customers no longer blocked.

use crate::PlanError;
use crate::error::{finite, non_negative, not_above, positive, rate};

/// A planned improvement of fraud detection. [`FraudInput::new`] sets the usual assumptions, which are public to change.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FraudInput {
    /// Dollars of transactions a year.
    pub volume: f64,
    /// Share of the volume, by value, lost to fraud today.
    pub loss_rate_now: f64,
    /// Share of the volume to be lost after the project.
    pub loss_rate_target: f64,
    /// Share of all transactions, by count, that are good and blocked today.
    pub fp_rate_now: f64,
    /// That share after the project.
    pub fp_rate_target: f64,
    /// Dollars that one wrongly blocked transaction costs.
    pub cost_per_fp: f64,
    /// Dollars of a transaction; 100 unless changed.
    pub avg_transaction: f64,
    /// Compute also when a rate gets worse; false unless changed.
    pub allow_regression: bool,
}

/// What a detector lets through and what it blocks wrongly, measured on a ledger.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DetectorRates {
    /// Dollars of missed fraud over dollars of all transactions.
    pub loss_rate: f64,
    /// Blocked good transactions over all transactions.
    pub fp_rate: f64,
}

impl FraudInput {
    /// Transactions of $100, regressions refused. `loss_rates` and `fp_rates` are (today, target).
    pub fn new(volume: f64, loss_rates: (f64, f64), fp_rates: (f64, f64), cost_per_fp: f64) -> Self {
        Self {
            volume,
            loss_rate_now: loss_rates.0,
            loss_rate_target: loss_rates.1,
            fp_rate_now: fp_rates.0,
            fp_rate_target: fp_rates.1,
            cost_per_fp,
            avg_transaction: 100.0,
            allow_regression: false,
        }
    }

    /// All four rates, the volume and the mean transaction measured on one scored ledger: transactions with a score at
    /// or above the threshold are blocked, at `thresholds` of (today, target). A threshold trades losses against blocked
    /// customers, so one of the two may get worse; that is allowed here.
    pub fn from_scores(
        scores: &[f64],
        is_fraud: &[bool],
        amounts: &[f64],
        thresholds: (f64, f64),
        cost_per_fp: f64,
    ) -> Result<Self, PlanError> {
        let now = rates_at(scores, is_fraud, amounts, thresholds.0)?;
        let target = rates_at(scores, is_fraud, amounts, thresholds.1)?;
        let volume: f64 = amounts.iter().sum();
        Ok(Self {
            avg_transaction: volume / amounts.len() as f64,
            allow_regression: true,
            ..Self::new(volume, (now.loss_rate, target.loss_rate), (now.fp_rate, target.fp_rate), cost_per_fp)
        })
    }
}

/// The two rates of a detector that blocks every transaction with a score of `threshold` or more.
pub fn rates_at(
    scores: &[f64],
    is_fraud: &[bool],
    amounts: &[f64],
    threshold: f64,
) -> Result<DetectorRates, PlanError> {
    let n = amounts.len();
    for (name, got) in [("scores", scores.len()), ("is_fraud", is_fraud.len())] {
        if got != n {
            return Err(PlanError::Length { name, got, expected: n });
        }
    }
    if threshold.is_nan() {
        finite("threshold", threshold)?;
    }
    let (mut volume, mut lost, mut blocked_good) = (0.0, 0.0, 0usize);
    for ((&score, &fraud), &amount) in scores.iter().zip(is_fraud).zip(amounts) {
        finite("score", score)?;
        volume += non_negative("amount", amount)?;
        match (fraud, score >= threshold) {
            (true, false) => lost += amount,
            (false, true) => blocked_good += 1,
            _ => {}
        }
    }
    positive("volume of the ledger", volume)?;
    Ok(DetectorRates { loss_rate: lost / volume, fp_rate: blocked_good as f64 / n as f64 })
}

/// What [`fraud_roi`] computes; money in dollars a year.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FraudRoi {
    /// Fraud losses avoided.
    pub fraud_savings: f64,
    /// Transactions no longer blocked wrongly.
    pub fp_avoided: f64,
    /// What these would have cost.
    pub fp_savings: f64,
    /// Both savings.
    pub total: f64,
}

/// The yearly effect of better fraud detection.
pub fn fraud_roi(input: &FraudInput) -> Result<FraudRoi, PlanError> {
    non_negative("volume", input.volume)?;
    rate("loss rate now", input.loss_rate_now)?;
    rate("loss rate target", input.loss_rate_target)?;
    rate("false-positive rate now", input.fp_rate_now)?;
    rate("false-positive rate target", input.fp_rate_target)?;
    non_negative("cost of a false positive", input.cost_per_fp)?;
    positive("average transaction", input.avg_transaction)?;
    let allow = input.allow_regression;
    not_above("loss rate", input.loss_rate_now, input.loss_rate_target, allow)?;
    not_above("false-positive rate", input.fp_rate_now, input.fp_rate_target, allow)?;
    let fraud_savings = input.volume * (input.loss_rate_now - input.loss_rate_target);
    let transactions = input.volume / input.avg_transaction;
    let fp_avoided = transactions * (input.fp_rate_now - input.fp_rate_target);
    let fp_savings = fp_avoided * input.cost_per_fp;
    Ok(FraudRoi { fraud_savings, fp_avoided, fp_savings, total: fraud_savings + fp_savings })
}

#[cfg(test)]
mod tests {
    use approx::assert_relative_eq;

    use super::*;

    fn listed() -> FraudInput {
        FraudInput::new(50e9, (0.0006, 0.00025), (0.023, 0.004), 5.0)
    }

    #[test]
    fn the_worked_example() {
        let roi = fraud_roi(&listed()).unwrap();
        assert_relative_eq!(roi.fraud_savings, 17.5e6, max_relative = 1e-9);
        assert_relative_eq!(roi.fp_avoided, 9.5e6, max_relative = 1e-9);
        assert_relative_eq!(roi.fp_savings, 47.5e6, max_relative = 1e-9);
        assert_relative_eq!(roi.total, 65e6, max_relative = 1e-9);
    }

    #[test]
    fn rates_of_a_ledger_by_hand() {
        let scores = [0.9, 0.8, 0.3, 0.2, 0.1];
        let fraud = [true, false, true, false, false];
        let amounts = [100.0, 50.0, 30.0, 10.0, 10.0];
        let rates = rates_at(&scores, &fraud, &amounts, 0.8).unwrap();
        assert_eq!((rates.loss_rate, rates.fp_rate), (0.15, 0.2));
        let all = rates_at(&scores, &fraud, &amounts, f64::NEG_INFINITY).unwrap();
        assert_eq!((all.loss_rate, all.fp_rate), (0.0, 0.6));
        let input = FraudInput::from_scores(&scores, &fraud, &amounts, (f64::INFINITY, 0.8), 5.0).unwrap();
        // Without a detector all fraud is lost; with it, the 100 are saved and one good customer is blocked.
        let roi = fraud_roi(&input).unwrap();
        assert_relative_eq!(roi.fraud_savings, 100.0, max_relative = 1e-12);
        assert_relative_eq!(roi.fp_savings, -5.0, max_relative = 1e-12);
    }

    #[test]
    fn bad_input_is_refused() {
        let refused = |change: fn(&mut FraudInput)| {
            let mut input = listed();
            change(&mut input);
            fraud_roi(&input).unwrap_err().to_string()
        };
        assert!(refused(|i| i.loss_rate_now = 1.5).contains("between 0 and 1"));
        assert!(refused(|i| i.fp_rate_target = 0.03).contains("gets worse"));
        assert!(refused(|i| i.avg_transaction = 0.0).contains("above zero"));
        assert!(refused(|i| i.volume = f64::NAN).contains("NaN"));
        assert!(rates_at(&[0.1], &[true, false], &[1.0, 1.0], 0.5).is_err());
        assert!(rates_at(&[], &[], &[], 0.5).is_err());
        assert!(rates_at(&[f64::NAN], &[true], &[1.0], 0.5).is_err());
        assert!(rates_at(&[0.5], &[true], &[1.0], f64::NAN).is_err());
    }
}
