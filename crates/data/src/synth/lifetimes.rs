//! How long customers stay when a constant share of them leaves in each period.

use crate::DataError;
use eas_tensor::rng::SplitMix64;

/// `n` lifetimes in whole periods (at least 1), geometric with `churn` the chance of leaving in each period; the mean is
/// `1 / churn`. An error when `churn` is not in (0, 1].
pub fn geometric_lifetimes(n: usize, churn: f64, seed: u64) -> Result<Vec<u64>, DataError> {
    if !(churn > 0.0 && churn <= 1.0) {
        return Err(DataError::Argument { what: "churn", given: churn.to_string(), expected: "a rate in (0, 1]" });
    }
    let mut rng = SplitMix64::new(seed);
    let log_stay = (-churn).ln_1p();
    // Inversion: P(lifetime > t) = (1 - churn)^t. A churn of 1 divides by minus infinity, which gives the 1 it should.
    let draw = |_| ((1.0 - rng.uniform()).ln() / log_stay).ceil().max(1.0) as u64;
    Ok((0..n).map(draw).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_are_geometric() {
        let lifetimes = geometric_lifetimes(200_000, 0.25, 14).unwrap();
        let mean = lifetimes.iter().sum::<u64>() as f64 / 200_000.0;
        assert!((mean - 4.0).abs() < 0.03, "{mean}");
        for (period, survivors) in [(1, 0.75), (2, 0.5625), (5, 0.237_304_7)] {
            let share = lifetimes.iter().filter(|&&t| t > period).count() as f64 / 200_000.0;
            assert!((share - survivors).abs() < 0.005, "{period}: {share}");
        }
    }

    #[test]
    fn everybody_leaves_at_once_at_churn_one_and_bad_rates_are_refused() {
        assert!(geometric_lifetimes(100, 1.0, 1).unwrap().iter().all(|&t| t == 1));
        for churn in [0.0, -0.1, 1.1, f64::NAN] {
            assert!(geometric_lifetimes(1, churn, 1).is_err());
        }
    }
}
