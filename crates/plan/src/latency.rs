//! Latency of a query that fans out to many shards and waits for the slowest (Dean and Barroso, "The Tail at Scale",
//! CACM 2013).

use eas_tensor::rng::SplitMix64;
use eas_tensor::special::{normal_cdf, normal_quantile};

use crate::PlanError;
use crate::error::{non_negative, positive};

/// A lognormal latency in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogNormal {
    median: f64,
    sigma: f64,
}

impl LogNormal {
    /// The distribution with this median and 99th percentile, `0 < p50 <= p99`.
    pub fn from_p50_p99(p50: f64, p99: f64) -> Result<Self, PlanError> {
        positive("p50", p50)?;
        positive("p99", p99)?;
        if p99 < p50 {
            return Err(PlanError::OutOfRange {
                name: "p99",
                value: p99,
                expected: "at least the p50",
            });
        }
        Ok(Self {
            median: p50,
            sigma: (p99 / p50).ln() / normal_quantile(0.99),
        })
    }

    /// Probability of a latency of at most `ms`.
    pub fn cdf(&self, ms: f64) -> f64 {
        if ms <= 0.0 {
            0.0
        } else if self.sigma == 0.0 {
            f64::from(u8::from(ms >= self.median))
        } else {
            normal_cdf((ms / self.median).ln() / self.sigma)
        }
    }

    /// The latency that a share `tail` of the requests exceeds.
    pub fn exceeded_by(&self, tail: f64) -> f64 {
        self.median * (-self.sigma * normal_quantile(tail)).exp()
    }

    /// A random latency.
    pub fn sample(&self, rng: &mut SplitMix64) -> f64 {
        self.median * (self.sigma * rng.normal()).exp()
    }
}

/// One query to `shards` shards at once, all of which must answer; independent shards of equal speed.
///
/// ```
/// use eas_plan::latency::{FanOut, LogNormal};
///
/// let shard = LogNormal::from_p50_p99(50.0, 200.0)?;
/// let query = FanOut::new(shard, 10)?;
/// assert!((query.slowest(0.5)? - 122.138).abs() < 1e-3); // not 50
/// # Ok::<(), eas_plan::PlanError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FanOut {
    shard: LogNormal,
    shards: u32,
    select_ms: f64,
    merge_ms: f64,
    hedge_after_ms: Option<f64>,
}

impl FanOut {
    /// `shards >= 1` shards, 5 ms to choose them, 5 ms to merge their answers, no hedging.
    pub fn new(shard: LogNormal, shards: u32) -> Result<Self, PlanError> {
        positive("shards", f64::from(shards))?;
        Ok(Self {
            shard,
            shards,
            select_ms: 5.0,
            merge_ms: 5.0,
            hedge_after_ms: None,
        })
    }

    /// Sets the time before the fan-out and after the last answer.
    pub fn overhead(self, select_ms: f64, merge_ms: f64) -> Result<Self, PlanError> {
        non_negative("select time", select_ms)?;
        non_negative("merge time", merge_ms)?;
        Ok(Self {
            select_ms,
            merge_ms,
            ..self
        })
    }

    /// Asks a replica of each shard that hasn't answered when all but a share `tail` of the requests have (0.05: after
    /// the shard's 95th percentile), and takes the first answer. Costs `tail` more requests.
    pub fn hedged(self, tail: f64) -> Result<Self, PlanError> {
        check_probability("hedged share", tail)?;
        Ok(Self {
            hedge_after_ms: Some(self.shard.exceeded_by(tail)),
            ..self
        })
    }

    /// Probability that one shard, hedged or not, takes longer than `ms`.
    fn shard_tail(&self, ms: f64) -> f64 {
        let first = 1.0 - self.shard.cdf(ms);
        match self.hedge_after_ms {
            Some(after) if ms > after => first * (1.0 - self.shard.cdf(ms - after)),
            _ => first,
        }
    }

    /// The `q`-quantile of the slowest shard's latency, `0 < q < 1`: the shard's own quantile at `q^(1/shards)`.
    pub fn slowest(&self, q: f64) -> Result<f64, PlanError> {
        check_probability("quantile", q)?;
        // The tail 1 - q^(1/shards), kept precise where q^(1/shards) is nearly 1.
        let tail = -(q.ln() / f64::from(self.shards)).exp_m1();
        let unhedged = self.shard.exceeded_by(tail);
        let Some(after) = self.hedge_after_ms.filter(|&after| unhedged > after) else {
            return Ok(unhedged);
        };
        let (mut low, mut high) = (after, unhedged);
        for _ in 0..100 {
            let middle = f64::midpoint(low, high);
            if self.shard_tail(middle) > tail {
                low = middle;
            } else {
                high = middle;
            }
        }
        Ok(high)
    }

    /// The `q`-quantile of the whole query: selection, slowest shard, merge.
    pub fn quantile(&self, q: f64) -> Result<f64, PlanError> {
        Ok(self.select_ms + self.slowest(q)? + self.merge_ms)
    }

    /// Latencies of the slowest shard in `n` simulated queries, ascending.
    pub fn simulate_slowest(&self, n: usize, seed: u64) -> Vec<f64> {
        let mut rng = SplitMix64::new(seed);
        let mut slowest: Vec<f64> = (0..n)
            .map(|_| (0..self.shards).map(|_| self.answer(&mut rng)).fold(0.0, f64::max))
            .collect();
        slowest.sort_by(f64::total_cmp);
        slowest
    }

    fn answer(&self, rng: &mut SplitMix64) -> f64 {
        let first = self.shard.sample(rng);
        match self.hedge_after_ms {
            Some(after) if first > after => first.min(after + self.shard.sample(rng)),
            _ => first,
        }
    }
}

fn check_probability(name: &'static str, value: f64) -> Result<(), PlanError> {
    positive(name, value)?;
    if value >= 1.0 {
        return Err(PlanError::OutOfRange {
            name,
            value,
            expected: "below 1",
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use approx::assert_relative_eq;

    use super::*;

    fn fan_out(shards: u32) -> FanOut {
        FanOut::new(LogNormal::from_p50_p99(50.0, 200.0).unwrap(), shards).unwrap()
    }

    #[test]
    fn the_slowest_of_many_is_not_the_median() {
        assert_relative_eq!(fan_out(1).slowest(0.5).unwrap(), 50.0, max_relative = 1e-12);
        assert_relative_eq!(fan_out(1).slowest(0.99).unwrap(), 200.0, max_relative = 1e-12);
        assert_relative_eq!(fan_out(10).slowest(0.5).unwrap(), 122.138, epsilon = 1e-3);
        assert_relative_eq!(fan_out(10).slowest(0.99).unwrap(), 315.048, epsilon = 1e-3);
        assert_relative_eq!(fan_out(1_000).slowest(0.5).unwrap(), 336.130, epsilon = 1e-3);
        assert_relative_eq!(fan_out(10).quantile(0.5).unwrap(), 132.138, epsilon = 1e-3);
        let bare = fan_out(10).overhead(0.0, 1.5).unwrap();
        assert_relative_eq!(bare.quantile(0.5).unwrap(), 123.638, epsilon = 1e-3);
    }

    #[test]
    fn formula_and_simulation_agree_with_and_without_hedging() {
        for query in [fan_out(10), fan_out(10).hedged(0.05).unwrap()] {
            // The standard error of the 99th percentile is 0.4% here, and would be 1.2% with 20,000 queries.
            let simulated = query.simulate_slowest(200_000, 42);
            for q in [0.5, 0.9, 0.99] {
                let formula = query.slowest(q).unwrap();
                let drawn = simulated[(q * 200_000.0) as usize];
                assert!((drawn / formula - 1.0).abs() < 0.0125, "{q}: {drawn} {formula}");
            }
        }
    }

    #[test]
    fn hedging_cuts_the_tail_and_leaves_the_median() {
        let (plain, hedged) = (fan_out(10), fan_out(10).hedged(0.05).unwrap());
        assert_eq!(hedged.slowest(0.5).unwrap(), plain.slowest(0.5).unwrap());
        let tail = hedged.slowest(0.99).unwrap();
        assert!((tail - 223.4).abs() < 5.0, "{tail}");
    }

    #[test]
    fn impossible_latencies_are_refused() {
        assert!(LogNormal::from_p50_p99(0.0, 1.0).is_err());
        assert!(LogNormal::from_p50_p99(50.0, 40.0).is_err());
        assert!(LogNormal::from_p50_p99(f64::NAN, 40.0).is_err());
        let constant = LogNormal::from_p50_p99(50.0, 50.0).unwrap();
        assert_eq!((constant.cdf(49.0), constant.cdf(50.0)), (0.0, 1.0));
        assert_eq!(FanOut::new(constant, 9).unwrap().slowest(0.9).unwrap(), 50.0);
        assert!(FanOut::new(constant, 0).is_err());
        assert!(fan_out(3).slowest(1.0).is_err());
        assert!(fan_out(3).slowest(0.0).is_err());
        assert!(fan_out(3).hedged(1.0).is_err());
        assert!(fan_out(3).overhead(-1.0, 0.0).is_err());
    }
}
