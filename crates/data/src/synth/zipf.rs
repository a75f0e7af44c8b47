//! Requests with a few popular items and a long tail.

use crate::DataError;
use eas_tensor::rng::SplitMix64;

/// Zipf's law over items 0 to n-1: item `i` is asked for with probability proportional to `1 / (i + 1)^s`.
#[derive(Debug, Clone)]
pub struct Zipf {
    cumulative: Vec<f64>,
}

impl Zipf {
    /// The law for `items` items and exponent `s`; an error for no items or an exponent that is negative or not finite.
    pub fn new(items: usize, s: f64) -> Result<Self, DataError> {
        if items == 0 || !s.is_finite() || s < 0.0 {
            return Err(DataError::Argument {
                what: "(items, exponent)",
                given: format!("({items}, {s})"),
                expected: "at least one item and a finite exponent of at least 0",
            });
        }
        let mut cumulative: Vec<f64> = (1..=items)
            .scan(0.0, |sum, i| {
                *sum += (i as f64).powf(-s);
                Some(*sum)
            })
            .collect();
        let total = cumulative[items - 1];
        for value in &mut cumulative {
            *value /= total;
        }
        Ok(Self { cumulative })
    }

    /// The next item: the first whose cumulative probability exceeds a uniform number.
    pub fn sample(&self, rng: &mut SplitMix64) -> usize {
        let u = rng.uniform();
        self.cumulative.partition_point(|&c| c <= u).min(self.cumulative.len() - 1)
    }

    /// `length` items from the stream of `seed`.
    pub fn trace(&self, seed: u64, length: usize) -> Vec<usize> {
        let mut rng = SplitMix64::new(seed);
        (0..length).map(|_| self.sample(&mut rng)).collect()
    }

    /// The share of requests that go to the `n` most popular items.
    pub fn share_of_top(&self, n: usize) -> f64 {
        match n.min(self.cumulative.len()) {
            0 => 0.0,
            n => self.cumulative[n - 1],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_trace_is_the_published_one() {
        let zipf = Zipf::new(10_000, 1.0).unwrap();
        let trace = zipf.trace(41, 50_000);
        assert_eq!(trace[..10], [0, 195, 1, 242, 5925, 466, 1397, 1, 163, 3]);
        assert_eq!(trace.iter().collect::<BTreeSet<_>>().len(), 6_762);
        let top = trace.iter().filter(|&&id| id < 1_000).count();
        assert_eq!(top, 38_237); // a static cache of the 1,000 most popular items: 0.76476 of the requests
        assert!((zipf.share_of_top(1_000) - 0.764_791).abs() < 5e-7);
    }

    #[test]
    fn exponent_zero_is_uniform_and_bad_arguments_are_refused() {
        let zipf = Zipf::new(4, 0.0).unwrap();
        assert_eq!(zipf.share_of_top(1), 0.25);
        assert_eq!((zipf.share_of_top(0), zipf.share_of_top(99)), (0.0, 1.0));
        for (items, s) in [(0, 1.0), (3, -1.0), (3, f64::NAN)] {
            assert!(Zipf::new(items, s).unwrap_err().to_string().contains("exponent"));
        }
    }
}
