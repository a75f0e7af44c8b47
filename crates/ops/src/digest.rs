//! [`Digest`]: quantiles of a stream in a few kilobytes, within a stated relative error, that merge without loss.
//!
//! The sketch is DDSketch (Masson, Rim and Lee, VLDB 2019), a histogram whose bucket `i` holds the values in
//! `(gamma^(i-1), gamma^i]` with `gamma = (1 + a) / (1 - a)`: whatever value of a bucket is asked for, its middle is off by at
//! most the share `a`. Buckets only count, so that the digest of a day is the sum of the digests of its minutes: the same
//! digest, to the bit, as of all its requests at once. Percentiles of the minutes, averaged, would be no percentile of anything.
//!
//! ```
//! use eas_ops::digest::Digest;
//!
//! let (mut morning, mut evening) = (Digest::new(0.005)?, Digest::new(0.005)?);
//! for ms in 1..=500 {
//!     morning.add(f64::from(ms));
//!     evening.add(f64::from(500 + ms));
//! }
//! morning.merge(&evening)?;
//! let p99 = morning.quantile(0.99).unwrap();
//! assert!((p99 / 990.0 - 1.0).abs() <= 0.005);
//! assert_eq!(Digest::new(0.005)?.quantile(0.99), None); // nothing measured is not "0 ms"
//! # Ok::<(), eas_ops::OpsError>(())
//! ```

use crate::OpsError;
use crate::error::check;

/// Values below this count as zero: in milliseconds a femtosecond, and what keeps bucket numbers small.
const SMALLEST: f64 = 1e-12;
/// Values above this count as this.
const LARGEST: f64 = 1e15;

/// A mergeable sketch of non-negative values; see the [module](self).
#[derive(Debug, Clone, PartialEq)]
pub struct Digest {
    error: f64,
    ln_gamma: f64,
    /// Number of the bucket at the front of `counts`.
    first: i32,
    counts: Vec<u64>,
    zeros: u64,
    count: u64,
    sum: f64,
    max: f64,
}

impl Digest {
    /// An empty digest with quantiles within the share `error` of the exact ones, `0.0001 <= error <= 0.5`. Memory is 8
    /// bytes a bucket in use: `ln(max / min) / (2 error)` buckets, 690 for a thousandfold range at 0.005.
    pub fn new(error: f64) -> Result<Self, OpsError> {
        check("relative error", error, (1e-4..=0.5).contains(&error), "between 0.0001 and 0.5")?;
        Ok(Self {
            error,
            ln_gamma: ((1.0 + error) / (1.0 - error)).ln(),
            first: 0,
            counts: Vec::new(),
            zeros: 0,
            count: 0,
            sum: 0.0,
            max: 0.0,
        })
    }

    /// A digest of `values`.
    pub fn of(values: &[f64], error: f64) -> Result<Self, OpsError> {
        let mut digest = Self::new(error)?;
        for &value in values {
            digest.add(value);
        }
        Ok(digest)
    }

    /// Counts one value. Negative values count as zero, and NaN isn't counted.
    pub fn add(&mut self, value: f64) {
        if value.is_nan() {
            return;
        }
        let value = value.clamp(0.0, LARGEST);
        self.count += 1;
        self.sum += value;
        self.max = self.max.max(value);
        if value < SMALLEST {
            self.zeros += 1;
        } else {
            let bucket = (value.ln() / self.ln_gamma).ceil() as i32;
            *self.bucket(bucket) += 1;
        }
    }

    /// The counter of a bucket, after extending the range of buckets to it.
    fn bucket(&mut self, bucket: i32) -> &mut u64 {
        if self.counts.is_empty() {
            self.first = bucket;
        }
        if bucket < self.first {
            let missing = (self.first - bucket) as usize;
            self.counts.splice(0..0, std::iter::repeat_n(0, missing));
            self.first = bucket;
        }
        let at = (bucket - self.first) as usize;
        if at >= self.counts.len() {
            self.counts.resize(at + 1, 0);
        }
        &mut self.counts[at]
    }

    /// Adds all that `other` has counted. Refuses a digest of another relative error, whose buckets are others.
    pub fn merge(&mut self, other: &Self) -> Result<(), OpsError> {
        check(
            "relative error of the digest to merge",
            other.error,
            other.error == self.error,
            "that of the digest it goes into",
        )?;
        if let Some(last) = other.counts.len().checked_sub(1) {
            self.bucket(other.first);
            self.bucket(other.first + last as i32);
            let offset = (other.first - self.first) as usize;
            for (into, count) in self.counts[offset..].iter_mut().zip(&other.counts) {
                *into += count;
            }
        }
        self.zeros += other.zeros;
        self.count += other.count;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
        Ok(())
    }

    /// The nearest-rank `q`-quantile within the relative error; `None` when nothing was counted or `q` isn't in [0, 1].
    pub fn quantile(&self, q: f64) -> Option<f64> {
        if self.count == 0 || !(0.0..=1.0).contains(&q) {
            return None;
        }
        let rank = ((q * self.count as f64 * (1.0 - 1e-12)).ceil() as u64).max(1);
        let mut seen = self.zeros;
        if seen >= rank {
            return Some(0.0);
        }
        for (i, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                // The point of the bucket that is as far, relatively, from its lower as from its upper end.
                let upper = ((self.first + i as i32) as f64 * self.ln_gamma).exp();
                return Some((upper * (1.0 - self.error)).min(self.max));
            }
        }
        Some(self.max)
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Mean of the values, exact; `None` when there is none.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }

    /// The largest value, exact; `None` when there is none.
    pub fn max(&self) -> Option<f64> {
        (self.count > 0).then_some(self.max)
    }

    /// Bytes of the counters.
    pub fn bytes(&self) -> usize {
        size_of_val(self.counts.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use eas_eval::latency::nearest_rank;
    use eas_tensor::rng::SplitMix64;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantiles_of_heavy_tails_stay_within_the_error() {
        let mut rng = SplitMix64::new(9);
        let values: Vec<f64> = (0..50_000).map(|_| 10.0 * (1.5 * rng.normal()).exp()).collect();
        let digest = Digest::of(&values, 0.005).unwrap();
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        for q in [0.001, 0.01, 0.5, 0.9, 0.99, 0.999, 1.0] {
            let exact = nearest_rank(&sorted, q).unwrap();
            let got = digest.quantile(q).unwrap();
            assert!((got / exact - 1.0).abs() <= 0.005 + 1e-9, "{q}: {got} {exact}");
        }
        assert!(digest.bytes() < 16_000, "{}", digest.bytes());
        assert_eq!(digest.max(), sorted.last().copied());
    }

    #[test]
    fn odd_values_and_requests_are_handled() {
        let mut digest = Digest::new(0.01).unwrap();
        assert_eq!((digest.quantile(0.5), digest.mean(), digest.max()), (None, None, None));
        for value in [f64::NAN, -1.0, 0.0, f64::INFINITY, 1e-300] {
            digest.add(value);
        }
        assert_eq!(digest.count(), 4);
        assert_eq!(digest.quantile(0.75), Some(0.0));
        assert!(digest.quantile(1.0).unwrap() > 9.8e14);
        assert_eq!(digest.quantile(1.5), None);
        assert_eq!(digest.quantile(f64::NAN), None);
        assert!(Digest::new(0.0).is_err());
        assert!(Digest::new(f64::NAN).is_err());
        let error = digest.merge(&Digest::new(0.02).unwrap()).unwrap_err();
        assert!(error.to_string().contains("is 0.02"), "{error}");
    }

    proptest! {
            /// However a stream is cut up and in whatever order the parts are merged, the counters are those of the whole.
            #[test]
            fn parts_merge_into_the_whole(values in prop::collection::vec(0.0_f64..1e6, 1..300), parts in 1_usize..12) {
                let mut whole = Digest::new(0.01).unwrap();
                for &v in &values {
        whole.add(v);
    }
                let mut pieces = vec![Digest::new(0.01).unwrap(); parts];
                for (i, &v) in values.iter().enumerate() {
        pieces[i % parts].add(v);
    }
                let mut merged = Digest::new(0.01).unwrap();
                for piece in pieces.iter().rev() {
                    merged.merge(piece).unwrap();
                }
                for q in 0..=20 {
                    let q = f64::from(q) / 20.0;
                    prop_assert_eq!(whole.quantile(q), merged.quantile(q));
                }
                prop_assert_eq!(whole.count(), merged.count());
            }
        }
}
