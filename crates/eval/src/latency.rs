//! Latencies: nearest-rank percentiles, and Little's law as a check on how they were measured.
//!
//! A percentile here is a latency that some request really had. Percentiles of parts can't be averaged into one of the
//! whole: keep the latencies, or a mergeable sketch of them.

use crate::EvalError;
use crate::error::{finite, mean, not_empty};

/// What is usually said of a set of latencies; every percentile by nearest rank, in the unit of the latencies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LatencySummary {
    /// Number of requests.
    pub count: usize,
    /// Arithmetic mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    pub p999: f64,
    /// Largest.
    pub max: f64,
}

impl LatencySummary {
    /// Summarizes `latencies`, in any order.
    ///
    /// ```
    /// use eas_eval::latency::LatencySummary;
    ///
    /// let latencies: Vec<f64> = (1..=200).rev().map(f64::from).collect();
    /// let summary = LatencySummary::of(&latencies)?;
    /// assert_eq!((summary.p50, summary.p95, summary.max), (100.0, 190.0, 200.0));
    /// # Ok::<(), eas_eval::EvalError>(())
    /// ```
    pub fn of(latencies: &[f64]) -> Result<Self, EvalError> {
        not_empty("latencies", latencies)?;
        finite("latencies", latencies)?;
        let mut sorted = latencies.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |q| nearest_rank(&sorted, q);
        Ok(Self {
            count: sorted.len(),
            mean: mean(&sorted),
            p50: at(0.5)?,
            p90: at(0.9)?,
            p95: at(0.95)?,
            p99: at(0.99)?,
            p999: at(0.999)?,
            max: at(1.0)?,
        })
    }
}

/// The nearest-rank `q`-quantile of ascending values: the smallest one that at least a share `q` of them doesn't exceed,
/// `0 < q <= 1`.
pub fn nearest_rank<T: Copy>(sorted: &[T], q: f64) -> Result<T, EvalError> {
    not_empty("sorted values", sorted)?;
    if !(q > 0.0 && q <= 1.0) {
        return Err(EvalError::Argument { name: "q", got: q.to_string(), expected: "above 0 and at most 1" });
    }
    // The factor keeps a product that should be whole, like 0.07 * 100, from being rounded up to the next rank.
    let rank = (q * sorted.len() as f64 * (1.0 - 1e-12)).ceil() as usize;
    Ok(sorted[rank.clamp(1, sorted.len()) - 1])
}

/// Both sides of Little's law `L = lambda W` (Little, *Operations Research* 1961), measured apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LittlesLaw {
    /// `L`: requests in the system, averaged over time from the first arrival to the last departure.
    pub mean_in_flight: f64,
    /// `lambda`: requests a unit of time over the same period.
    pub arrival_rate: f64,
    /// `W`: mean time from arrival to departure.
    pub mean_latency: f64,
}

impl LittlesLaw {
    /// `|L - lambda W| / L`: 0 up to rounding if every request was timed from its arrival to its departure, and anything
    /// else if some were not, as when a closed loop times requests only from when it got round to sending them.
    pub fn relative_gap(&self) -> f64 {
        let product = self.arrival_rate * self.mean_latency;
        (self.mean_in_flight - product).abs() / self.mean_in_flight.max(f64::MIN_POSITIVE)
    }
}

/// Counts who is in the system over time from `(arrival, departure)` pairs, and compares with rate times `latencies`, what
/// the measurement says each request took. Times and latencies are in one integer unit, so that the integral is exact.
pub fn littles_law(spans: &[(u64, u64)], latencies: &[u64]) -> Result<LittlesLaw, EvalError> {
    not_empty("spans", spans)?;
    crate::error::same_length("spans and latencies", spans.len(), latencies.len())?;
    let mut changes: Vec<(u64, i64)> = Vec::with_capacity(2 * spans.len());
    for (i, &(arrival, departure)) in spans.iter().enumerate() {
        if departure < arrival {
            return Err(EvalError::Argument {
                name: "departure",
                got: format!("{departure} for request {i}, which arrives at {arrival}"),
                expected: "at or after the arrival",
            });
        }
        changes.extend([(arrival, 1), (departure, -1)]);
    }
    changes.sort_unstable();
    let (first, last) = (changes[0].0, changes[changes.len() - 1].0);
    if first == last {
        return Err(EvalError::Argument {
            name: "the period from first arrival to last departure",
            got: "0".into(),
            expected: "longer than 0",
        });
    }
    let (mut inside, mut before, mut area) = (0_i64, first, 0_u128);
    for (at, change) in changes {
        area += u128::from(at - before) * inside.unsigned_abs() as u128;
        inside += change;
        before = at;
    }
    let period = (last - first) as f64;
    let total: u128 = latencies.iter().map(|&latency| u128::from(latency)).sum();
    Ok(LittlesLaw {
        mean_in_flight: area as f64 / period,
        arrival_rate: spans.len() as f64 / period,
        mean_latency: total as f64 / spans.len() as f64,
    })
}

#[cfg(test)]
mod tests {
    use eas_tensor::rng::SplitMix64;

    use super::*;

    #[test]
    fn nearest_rank_is_the_definition() {
        let values: Vec<usize> = (1..=1_000).collect();
        for n in [1_usize, 7, 20, 100, 1_000] {
            for percent in 1..=100_usize {
                // The definition in integers: the smallest rank r with 100 r >= percent n.
                let rank = (percent * n).div_ceil(100);
                let got = nearest_rank(&values[..n], percent as f64 / 100.0).unwrap();
                assert_eq!(got, rank, "{percent}% of {n}");
            }
        }
        assert!(nearest_rank(&values, 0.0).is_err());
        assert!(nearest_rank(&values, 1.1).is_err());
        assert!(nearest_rank(&values, f64::NAN).is_err());
        assert!(nearest_rank::<f64>(&[], 0.5).is_err());
    }

    #[test]
    fn summaries_refuse_what_has_no_percentiles() {
        assert!(LatencySummary::of(&[]).is_err());
        assert!(LatencySummary::of(&[1.0, f64::NAN]).is_err());
        let one = LatencySummary::of(&[3.0]).unwrap();
        assert_eq!((one.count, one.mean, one.p50, one.p999), (1, 3.0, 3.0, 3.0));
    }

    #[test]
    fn littles_law_holds_for_any_spans_and_notices_wrong_latencies() {
        let mut rng = SplitMix64::new(1);
        let spans: Vec<(u64, u64)> = (0..500)
            .map(|_| {
                let arrival = rng.below(10_000) as u64;
                (arrival, arrival + rng.below(700) as u64)
            })
            .collect();
        let mut latencies: Vec<u64> = spans.iter().map(|(a, d)| d - a).collect();
        assert!(littles_law(&spans, &latencies).unwrap().relative_gap() < 1e-12);
        // Two requests, one from 0 to 10, one from 5 to 10: 1.5 in flight.
        let two = littles_law(&[(0, 10), (5, 10)], &[10, 5]).unwrap();
        assert_eq!((two.mean_in_flight, two.arrival_rate, two.mean_latency), (1.5, 0.2, 7.5));
        latencies[3] += 10_000;
        assert!(littles_law(&spans, &latencies).unwrap().relative_gap() > 0.01);
        assert!(littles_law(&spans, &latencies[1..]).is_err());
        assert!(littles_law(&[(5, 4)], &[0]).is_err());
        assert!(littles_law(&[(5, 5)], &[0]).is_err());
        assert!(littles_law(&[], &[]).is_err());
    }
}
