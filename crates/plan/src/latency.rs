//! Latency of a query that fans out to many shards and waits for the slowest (Dean and Barroso, "The Tail at Scale",
//! CACM 2013), and of one that passes through stages, one after the other.

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
            return Err(PlanError::OutOfRange { name: "p99", value: p99, expected: "at least the p50" });
        }
        Ok(Self { median: p50, sigma: (p99 / p50).ln() / normal_quantile(0.99) })
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
        Ok(Self { shard, shards, select_ms: 5.0, merge_ms: 5.0, hedge_after_ms: None })
    }

    /// Sets the time before the fan-out and after the last answer.
    pub fn overhead(self, select_ms: f64, merge_ms: f64) -> Result<Self, PlanError> {
        non_negative("select time", select_ms)?;
        non_negative("merge time", merge_ms)?;
        Ok(Self { select_ms, merge_ms, ..self })
    }

    /// Asks a replica of each shard that hasn't answered when all but a share `tail` of the requests have (0.05: after
    /// the shard's 95th percentile), and takes the first answer. Costs `tail` more requests.
    pub fn hedged(self, tail: f64) -> Result<Self, PlanError> {
        check_probability("hedged share", tail)?;
        Ok(Self { hedge_after_ms: Some(self.shard.exceeded_by(tail)), ..self })
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
        let mut slowest: Vec<f64> =
            (0..n).map(|_| (0..self.shards).map(|_| self.answer(&mut rng)).fold(0.0, f64::max)).collect();
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

/// A query's stages, one after the other, each with the 99th percentile that it may take, and a reserve on top.
///
/// The 99th percentile of the whole isn't the sum of the stages': independent stages are rarely slow together.
///
/// ```
/// use eas_plan::latency::LatencyBudget;
///
/// let budget = LatencyBudget::new(&[("network", 20.0), ("search", 50.0)], 10.0)?;
/// assert_eq!(budget.total(), 80.0);
/// let totals = budget.simulate(0.25, 10_000, 1)?;
/// assert!(totals[9_900] < 70.0);
/// # Ok::<(), eas_plan::PlanError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct LatencyBudget {
    /// Name and p99 in milliseconds.
    stages: Vec<(&'static str, f64)>,
    buffer_ms: f64,
}

impl LatencyBudget {
    /// A budget of stages, each a name and a p99 above zero, and a reserve of `buffer_ms >= 0`.
    pub fn new(stages: &[(&'static str, f64)], buffer_ms: f64) -> Result<Self, PlanError> {
        if stages.is_empty() {
            return Err(PlanError::Missing("a stage"));
        }
        for &(name, p99) in stages {
            positive(name, p99)?;
        }
        non_negative("buffer", buffer_ms)?;
        Ok(Self { stages: stages.to_vec(), buffer_ms })
    }

    /// 100 ms: network 20, parsing 1, search 50, filter 10, merge 5, serialization 5, and 9 in reserve.
    pub fn hundred_ms() -> Self {
        Self {
            stages: vec![
                ("network", 20.0),
                ("parse", 1.0),
                ("search", 50.0),
                ("filter", 10.0),
                ("merge", 5.0),
                ("serialize", 5.0),
            ],
            buffer_ms: 9.0,
        }
    }

    /// Name and p99 of each stage.
    pub fn stages(&self) -> &[(&'static str, f64)] {
        &self.stages
    }

    /// The reserve.
    pub fn buffer_ms(&self) -> f64 {
        self.buffer_ms
    }

    /// The stages' p99 added up, without the reserve.
    pub fn sum_of_p99s(&self) -> f64 {
        self.stages.iter().map(|stage| stage.1).sum()
    }

    /// The stages' p99 added up, and the reserve.
    pub fn total(&self) -> f64 {
        self.sum_of_p99s() + self.buffer_ms
    }

    /// Whole latencies of `n` queries, ascending, without the reserve: independent lognormal stages whose medians are `p50_share`
    /// of their p99.
    pub fn simulate(&self, p50_share: f64, n: usize, seed: u64) -> Result<Vec<f64>, PlanError> {
        let stages = self
            .stages
            .iter()
            .map(|&(_, p99)| LogNormal::from_p50_p99(p50_share * p99, p99))
            .collect::<Result<Vec<_>, _>>()?;
        let mut rng = SplitMix64::new(seed);
        let mut totals: Vec<f64> = (0..n).map(|_| stages.iter().map(|stage| stage.sample(&mut rng)).sum()).collect();
        totals.sort_by(f64::total_cmp);
        Ok(totals)
    }
}

fn check_probability(name: &'static str, value: f64) -> Result<(), PlanError> {
    positive(name, value)?;
    if value >= 1.0 {
        return Err(PlanError::OutOfRange { name, value, expected: "below 1" });
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
    fn the_p99_of_a_sum_is_below_the_sum_of_the_p99s() {
        let budget = LatencyBudget::hundred_ms();
        assert_eq!((budget.sum_of_p99s(), budget.total()), (91.0, 100.0));
        let totals = budget.simulate(0.25, 200_000, 42).unwrap();
        // 63.77 by convolution of the six densities on a grid of 0.01 ms, in NumPy.
        assert!((totals[198_000] - 63.77).abs() < 0.7, "{}", totals[198_000]);
        // With one stage the two are the same.
        let one = LatencyBudget::new(&[("search", 50.0)], 0.0).unwrap();
        let p99 = one.simulate(0.25, 200_000, 1).unwrap()[198_000];
        assert!((p99 - 50.0).abs() < 1.0, "{p99}");
    }

    #[test]
    fn impossible_latencies_are_refused() {
        assert!(LatencyBudget::new(&[], 0.0).is_err());
        assert!(LatencyBudget::new(&[("parse", 0.0)], 0.0).is_err());
        assert!(LatencyBudget::new(&[("parse", 1.0)], -1.0).is_err());
        assert!(LatencyBudget::hundred_ms().simulate(1.5, 10, 1).is_err());
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
