//! Confidence intervals and paired tests by resampling (Efron and Tibshirani, *An Introduction to the Bootstrap*).

use crate::EvalError;
use crate::error::{finite, mean, not_empty, same_length};
use eas_tensor::rng::SplitMix64;

/// A mean with its 95% percentile interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Mean of the sample.
    pub mean: f64,
    /// 2.5% quantile of the resampled means.
    pub low: f64,
    /// 97.5% quantile of the resampled means.
    pub high: f64,
}

impl Interval {
    /// True when `value` lies within the interval, ends included.
    pub fn contains(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }
}

/// Difference of two systems measured on the same queries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairedTest {
    /// Mean of `a - b` with its 95% interval.
    pub difference: Interval,
    /// Two-sided p-value of "the mean difference is zero": twice the smaller share of resampled means on either side
    /// of zero, with one resample added to each count so that it is never exactly 0.
    pub p_value: f64,
}

/// The 95% interval of the mean of `values` from `resamples` resamples. The order of `values` doesn't matter.
pub fn bootstrap_ci(values: &[f64], resamples: usize, seed: u64) -> Result<Interval, EvalError> {
    Ok(interval(values, &resampled_means(values, resamples, seed)?))
}

/// Compares paired measurements `a[i]`, `b[i]` of the same query `i` by resampling their differences.
pub fn paired_bootstrap(a: &[f64], b: &[f64], resamples: usize, seed: u64) -> Result<PairedTest, EvalError> {
    same_length("paired values", a.len(), b.len())?;
    let differences: Vec<f64> = a.iter().zip(b).map(|(x, y)| x - y).collect();
    let means = resampled_means(&differences, resamples, seed)?;
    let below = means.iter().filter(|&&m| m <= 0.0).count() + 1;
    let above = means.iter().filter(|&&m| m >= 0.0).count() + 1;
    Ok(PairedTest {
        difference: interval(&differences, &means),
        p_value: (2.0 * below.min(above) as f64 / (resamples + 1) as f64).min(1.0),
    })
}

/// Sorted means of resamples with replacement.
fn resampled_means(values: &[f64], resamples: usize, seed: u64) -> Result<Vec<f64>, EvalError> {
    not_empty("values", values)?;
    finite("values", values)?;
    if resamples == 0 {
        return Err(EvalError::Argument { name: "resamples", got: "0".into(), expected: "at least 1" });
    }
    // Sorted first, so that the same draws pick the same values whatever the order of the sample.
    let mut sample = values.to_vec();
    sample.sort_by(f64::total_cmp);
    let mut rng = SplitMix64::new(seed);
    let mut means: Vec<f64> = (0..resamples)
        .map(|_| (0..sample.len()).map(|_| sample[rng.below(sample.len())]).sum::<f64>() / sample.len() as f64)
        .collect();
    means.sort_by(f64::total_cmp);
    Ok(means)
}

fn interval(values: &[f64], sorted_means: &[f64]) -> Interval {
    Interval { mean: mean(values), low: quantile(sorted_means, 0.025), high: quantile(sorted_means, 0.975) }
}

/// Quantile `q` in `[0, 1]` of non-empty ascending `sorted`, linear between the neighbours (numpy's default).
pub(crate) fn quantile(sorted: &[f64], q: f64) -> f64 {
    let at = q * (sorted.len() - 1) as f64;
    let below = at.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (at - below as f64) * (sorted[above] - sorted[below])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_covers_a_planted_rate_as_often_as_it_says() {
        let covered = (0..200)
            .filter(|&repetition| {
                let mut rng = SplitMix64::stream(11, repetition);
                let sample: Vec<f64> = (0..200).map(|_| f64::from(u8::from(rng.chance(0.7)))).collect();
                bootstrap_ci(&sample, 500, repetition).unwrap().contains(0.7)
            })
            .count();
        assert!((180..200).contains(&covered), "{covered} of 200");
    }

    #[test]
    fn the_half_width_of_a_mean_is_the_normal_one() {
        let mut rng = SplitMix64::new(3);
        let sample: Vec<f64> = (0..2_000).map(|_| rng.normal()).collect();
        let ci = bootstrap_ci(&sample, 2_000, 1).unwrap();
        let half_width = (ci.high - ci.low) / 2.0;
        let expected = 1.96 / (2_000f64).sqrt();
        assert!((half_width / expected - 1.0).abs() < 0.1, "{half_width} vs {expected}");
    }

    #[test]
    fn order_does_not_matter_and_seeds_do() {
        let values = [0.1, 0.9, 0.4, 0.4, 0.7];
        let mut reversed = values;
        reversed.reverse();
        let a = bootstrap_ci(&values, 300, 5).unwrap();
        let b = bootstrap_ci(&reversed, 300, 5).unwrap();
        assert_eq!((a.low, a.high), (b.low, b.high));
        assert_ne!(a, bootstrap_ci(&values, 300, 6).unwrap());
    }

    #[test]
    fn a_real_difference_is_significant_and_none_is_not() {
        let mut rng = SplitMix64::new(9);
        let base: Vec<f64> = (0..300).map(|_| rng.normal()).collect();
        let better: Vec<f64> = base.iter().map(|x| x + 0.3 + 0.5 * rng.normal()).collect();
        let same: Vec<f64> = base.iter().enumerate().map(|(i, x)| x + if i % 2 == 0 { 0.5 } else { -0.5 }).collect();
        let test = paired_bootstrap(&better, &base, 1_000, 1).unwrap();
        assert!(test.p_value < 0.01 && test.difference.low > 0.0, "{test:?}");
        assert!(paired_bootstrap(&same, &base, 1_000, 1).unwrap().p_value > 0.5);
        assert_eq!(paired_bootstrap(&base, &base, 100, 1).unwrap().p_value, 1.0);
    }

    #[test]
    fn bad_input_is_refused() {
        assert_eq!(bootstrap_ci(&[], 10, 1), Err(EvalError::Empty("values")));
        assert!(bootstrap_ci(&[1.0, f64::NAN], 10, 1).is_err());
        assert!(bootstrap_ci(&[1.0], 0, 1).is_err());
        assert!(paired_bootstrap(&[1.0], &[1.0, 2.0], 10, 1).is_err());
        assert_eq!(bootstrap_ci(&[2.0], 10, 1).map(|i| (i.low, i.high)), Ok((2.0, 2.0)));
    }
}
