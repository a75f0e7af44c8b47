//! A ledger of card payments with planted fraud and detectors of known power.

use crate::DataError;
use eas_tensor::rng::SplitMix64;

/// Size and rates of a ledger.
#[derive(Debug, Clone)]
pub struct LedgerConfig {
    /// Number of payments.
    pub transactions: usize,
    /// Mean amount in dollars of the lognormal law.
    pub mean_amount: f64,
    /// Standard deviation of the logarithm of the amount.
    pub sigma: f64,
    /// Share of payments that are fraud, by count.
    pub fraud_rate: f64,
    /// Sensitivity index d' of each detector: the distance between the mean scores of fraud and of honest payments, in standard
    /// deviations; its ROC area is Phi(d' / sqrt 2).
    pub sensitivities: Vec<f64>,
    /// Seed of the streams.
    pub seed: u64,
}

impl Default for LedgerConfig {
    /// 200,000 payments of $100 on average (sigma 1), 0.3% fraud, detectors with d' 1.5 and 2.5, seed 13.
    fn default() -> Self {
        Self {
            transactions: 200_000,
            mean_amount: 100.0,
            sigma: 1.0,
            fraud_rate: 0.003,
            sensitivities: vec![1.5, 2.5],
            seed: 13,
        }
    }
}

/// Payments, the truth about them, and what each detector says.
#[derive(Debug, Clone)]
pub struct Ledger {
    /// Amount of each payment in dollars.
    pub amounts: Vec<f64>,
    /// True where the payment is fraud.
    pub fraud: Vec<bool>,
    /// Scores of each detector, higher is more suspicious; shape (detectors, payments).
    pub scores: Vec<Vec<f64>>,
}

impl Ledger {
    /// Draws lognormal amounts, plants `round(transactions * fraud_rate)` frauds at random places, and scores every payment with a
    /// normal number of mean 0 (honest) or d' (fraud) and standard deviation 1.
    pub fn generate(config: &LedgerConfig) -> Result<Self, DataError> {
        let finite = |x: &f64| x.is_finite();
        let proper = config.mean_amount > 0.0
            && config.sigma >= 0.0
            && (0.0..=1.0).contains(&config.fraud_rate)
            && [config.mean_amount, config.sigma].iter().chain(&config.sensitivities).all(finite);
        if !proper {
            return Err(DataError::Argument {
                what: "ledger configuration",
                given: format!("{config:?}"),
                expected: "a positive mean, a sigma of at least 0, a rate in [0, 1], finite sensitivities",
            });
        }
        let n = config.transactions;
        // The mean of a lognormal law is exp(mu + sigma^2 / 2).
        let mu = config.mean_amount.ln() - config.sigma * config.sigma / 2.0;
        let mut rng = SplitMix64::stream(config.seed, 0);
        let amounts = (0..n).map(|_| (mu + config.sigma * rng.normal()).exp()).collect();
        let mut fraud = vec![false; n];
        let frauds = (n as f64 * config.fraud_rate).round() as usize;
        for i in SplitMix64::stream(config.seed, 1).sample_indices(n, frauds) {
            fraud[i] = true;
        }
        let scores = config.sensitivities.iter().zip(2..).map(|(&sensitivity, stream)| {
            let mut rng = SplitMix64::stream(config.seed, stream);
            let score = |&bad: &bool| rng.normal() + if bad { sensitivity } else { 0.0 };
            fraud.iter().map(score).collect()
        });
        Ok(Self { amounts, scores: scores.collect(), fraud: fraud.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_rates_and_scores_are_as_planted() {
        let ledger = Ledger::generate(&LedgerConfig::default()).unwrap();
        let mean = ledger.amounts.iter().sum::<f64>() / 200_000.0;
        assert!((mean / 100.0 - 1.0).abs() < 0.01, "{mean}");
        assert_eq!(ledger.fraud.iter().filter(|&&bad| bad).count(), 600);
        for (scores, planted) in ledger.scores.iter().zip([1.5, 2.5]) {
            let mean_of = |kind: bool| {
                let chosen: Vec<f64> =
                    scores.iter().zip(&ledger.fraud).filter(|(_, f)| **f == kind).map(|(s, _)| *s).collect();
                chosen.iter().sum::<f64>() / chosen.len() as f64
            };
            assert!((mean_of(true) - mean_of(false) - planted).abs() < 0.15);
        }
    }

    #[test]
    fn improper_configurations_are_refused() {
        for bad in [
            LedgerConfig { fraud_rate: 1.2, ..LedgerConfig::default() },
            LedgerConfig { mean_amount: -1.0, ..LedgerConfig::default() },
            LedgerConfig { sigma: f64::NAN, ..LedgerConfig::default() },
            LedgerConfig { sensitivities: vec![f64::INFINITY], ..LedgerConfig::default() },
        ] {
            assert!(Ledger::generate(&bad).is_err());
        }
        let empty = LedgerConfig { transactions: 0, ..LedgerConfig::default() };
        assert!(Ledger::generate(&empty).unwrap().amounts.is_empty());
    }
}
