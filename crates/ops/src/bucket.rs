//! [`TokenBucket`]: lets a steady rate through, and short bursts above it.
//!
//! ```
//! use eas_ops::bucket::TokenBucket;
//!
//! let mut bucket = TokenBucket::new(100, 5, 0)?; // 100 a second, bursts of 5, starts full at time 0
//! assert!((0..5).all(|_| bucket.try_take(1, 0)));
//! assert!(!bucket.try_take(1, 9_999));
//! assert!(bucket.try_take(1, 10_000)); // 10 ms have brought one token
//! # Ok::<(), eas_ops::OpsError>(())
//! ```

use crate::OpsError;
use crate::error::check;

/// A token a second is a millionth of a token a microsecond: with levels in millionths the arithmetic is exact.
const PARTS: u128 = 1_000_000;

/// A bucket that gains `rate` tokens a second up to `burst`, and from which every admitted unit takes one. Levels are exact:
/// whole millionths of a token, no rounding that adds up. Time is in microseconds, given by the caller; time that runs
/// backwards brings nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenBucket {
    rate: u64,
    burst: u64,
    level: u128,
    at_us: u64,
}

impl TokenBucket {
    /// A full bucket at `now_us`: `rate >= 1` tokens a second, at most `burst >= 1` at once.
    pub fn new(rate: u64, burst: u64, now_us: u64) -> Result<Self, OpsError> {
        check("rate", rate, rate > 0, "at least 1 a second")?;
        check("burst", burst, burst > 0, "at least 1")?;
        Ok(Self { rate, burst, level: u128::from(burst) * PARTS, at_us: now_us })
    }

    fn refill(&mut self, now_us: u64) {
        let elapsed = u128::from(now_us.saturating_sub(self.at_us));
        self.level = (self.level + elapsed * u128::from(self.rate)).min(u128::from(self.burst) * PARTS);
        self.at_us = self.at_us.max(now_us);
    }

    /// Takes `tokens` if they are there, all or none.
    pub fn try_take(&mut self, tokens: u64, now_us: u64) -> bool {
        self.refill(now_us);
        let wanted = u128::from(tokens) * PARTS;
        let enough = wanted <= self.level;
        if enough {
            self.level -= wanted;
        }
        enough
    }

    /// Microseconds from `now_us` until `tokens` will be there if nobody else takes any; `None` when they never will be,
    /// because the bucket doesn't hold so many.
    pub fn wait_us(&mut self, tokens: u64, now_us: u64) -> Option<u64> {
        if tokens > self.burst {
            return None;
        }
        self.refill(now_us);
        let missing = (u128::from(tokens) * PARTS).saturating_sub(self.level);
        // At most burst * 1e6 us, as the rate is at least 1; a wait beyond u64 microseconds is 584,000 years.
        Some(u64::try_from(missing.div_ceil(u128::from(self.rate))).unwrap_or(u64::MAX))
    }

    /// Whole tokens in the bucket at `now_us`.
    pub fn available(&mut self, now_us: u64) -> u64 {
        self.refill(now_us);
        (self.level / PARTS) as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn odd_rates_lose_nothing_to_rounding() {
        // 3 a second asked every microsecond for 10 s: the burst and exactly 30 more.
        let mut bucket = TokenBucket::new(3, 2, 0).unwrap();
        let admitted = (0..=10_000_000).filter(|&now| bucket.try_take(1, now)).count();
        assert_eq!(admitted, 32);
    }

    #[test]
    fn the_wait_is_exactly_as_long_as_it_says() {
        let mut bucket = TokenBucket::new(7, 4, 0).unwrap();
        assert!(bucket.try_take(4, 0));
        let wait = bucket.wait_us(3, 0).unwrap();
        assert_eq!(wait, 428_572); // 3/7 s, rounded up
        assert!(!bucket.clone().try_take(3, wait - 1));
        assert!(bucket.try_take(3, wait));
        assert_eq!(bucket.wait_us(5, wait), None);
        assert_eq!(TokenBucket::new(7, 4, 0).unwrap().wait_us(4, 0), Some(0));
    }

    #[test]
    fn backward_time_and_long_pauses_are_harmless() {
        let mut bucket = TokenBucket::new(1_000, 10, 5_000).unwrap();
        assert!(bucket.try_take(10, 5_000));
        assert!(!bucket.try_take(1, 1_000));
        assert_eq!(bucket.available(5_999), 0);
        assert_eq!(bucket.available(u64::MAX), 10);
        assert!(TokenBucket::new(0, 1, 0).is_err());
        assert!(TokenBucket::new(1, 0, 0).is_err());
    }

    proptest! {
        /// Over any trace the admitted units are at most `burst + rate * time`: the definition of a token bucket.
        #[test]
        fn no_interval_admits_more_than_burst_and_rate(
            rate in 1_u64..50, burst in 1_u64..20, gaps in prop::collection::vec(0_u64..200_000, 1..80)
        ) {
            let mut bucket = TokenBucket::new(rate, burst, 0).unwrap();
            let mut now = 0;
            let mut admitted = Vec::new();
            for gap in gaps {
                now += gap;
                if bucket.try_take(1, now) {
                    admitted.push(now);
                }
            }
            for (i, start) in admitted.iter().enumerate() {
                for (j, end) in admitted.iter().enumerate().skip(i) {
                    let units = (j - i + 1) as u128 * PARTS;
                    prop_assert!(units <= u128::from(burst) * PARTS + u128::from(rate * (end - start)));
                }
            }
        }
    }
}
