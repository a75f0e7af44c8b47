//! [`CircuitBreaker`]: stops calling what keeps failing, and tries again after a while (Nygard, *Release It!*).
//!
//! Closed, it lets every call through and remembers the outcomes of the last few. Too many failures among them open it:
//! calls are refused at once, which spares the caller the wait and the callee the load. After a pause it is half open: one
//! call goes through as a probe, whose success closes it and whose failure opens it for another pause.
//!
//! ```
//! use eas_ops::breaker::{BreakerConfig, CircuitBreaker, State};
//!
//! let mut breaker = CircuitBreaker::new(BreakerConfig::default())?; // 5 failures of 10, 1 s
//! for at in 0..5 {
//!     let permit = breaker.try_call(at)?;
//!     breaker.record(permit, false, at);
//! }
//! assert_eq!(breaker.state(5), State::Open);
//! assert!(breaker.try_call(5).is_err());
//! let probe = breaker.try_call(1_000_004)?; // a second after the fifth failure
//! breaker.record(probe, true, 1_000_100);
//! assert_eq!(breaker.state(1_000_100), State::Closed);
//! # Ok::<(), eas_ops::OpsError>(())
//! ```

use std::collections::VecDeque;

use crate::OpsError;
use crate::error::check;

/// When a breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerConfig {
    /// It opens when this many of the last [`Self::window`] calls failed.
    pub failures: usize,
    /// How many outcomes are remembered. Equal to `failures`: only failures in a row open it.
    pub window: usize,
    /// Microseconds from opening to the first probe, and after which a probe without an outcome is given up.
    pub pause_us: u64,
}

impl Default for BreakerConfig {
    /// 5 failures of 10 calls, one second.
    fn default() -> Self {
        Self { failures: 5, window: 10, pause_us: 1_000_000 }
    }
}

impl BreakerConfig {
    /// Opens after `failures` failures in a row.
    pub fn consecutive(failures: usize, pause_us: u64) -> Self {
        Self { failures, window: failures, pause_us }
    }
}

/// What a breaker does with the next call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Lets it through.
    Closed,
    /// Refuses it.
    Open,
    /// Lets one through, to see.
    HalfOpen,
}

/// Leave to make one call. Its outcome goes back through [`CircuitBreaker::record`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "report the outcome of the call with `record`"]
pub struct Permit {
    period: u64,
}

/// A circuit breaker; see the [module](self). Time is in microseconds and given by the caller.
#[derive(Debug, Clone)]
pub struct CircuitBreaker {
    config: BreakerConfig,
    /// Outcomes of the last calls while closed, oldest first: true is success.
    outcomes: VecDeque<bool>,
    /// When it opened or let the last probe through; `None` while closed.
    since_us: Option<u64>,
    probing: bool,
    /// Counts the changes of state, so that the outcome of a call from an earlier one is known to be stale.
    period: u64,
    opened: u64,
}

impl CircuitBreaker {
    /// A closed breaker. Refuses `failures = 0` and a window smaller than `failures`.
    pub fn new(config: BreakerConfig) -> Result<Self, OpsError> {
        check("failures", config.failures, config.failures > 0, "at least 1")?;
        check(
            "window",
            config.window,
            config.window >= config.failures,
            "at least the number of failures that open the breaker",
        )?;
        Ok(Self {
            config,
            outcomes: VecDeque::with_capacity(config.window),
            since_us: None,
            probing: false,
            period: 0,
            opened: 0,
        })
    }

    /// The state at `now_us`.
    pub fn state(&self, now_us: u64) -> State {
        match self.since_us {
            None => State::Closed,
            Some(_) if self.probing => State::HalfOpen,
            Some(since) if now_us >= since.saturating_add(self.config.pause_us) => State::HalfOpen,
            Some(_) => State::Open,
        }
    }

    /// How often it has opened, failed probes included.
    pub fn times_opened(&self) -> u64 {
        self.opened
    }

    /// Asks to make a call at `now_us`. Refused while open, and while a probe is under way.
    pub fn try_call(&mut self, now_us: u64) -> Result<Permit, OpsError> {
        if let Some(since) = self.since_us {
            let ready = since.saturating_add(self.config.pause_us);
            if now_us < ready {
                let retry_after_us = if self.probing { 0 } else { ready - now_us };
                return Err(OpsError::CircuitOpen { retry_after_us });
            }
            // The first probe, or one in place of a probe that nobody has heard of since.
            self.since_us = Some(now_us);
            self.probing = true;
            self.period += 1;
        }
        Ok(Permit { period: self.period })
    }

    /// The outcome of a call. It counts only in the state in which the call was let through: an answer that arrives late
    /// says nothing about a breaker that has opened or closed since.
    pub fn record(&mut self, permit: Permit, success: bool, now_us: u64) {
        if permit.period != self.period {
            return;
        }
        if self.probing {
            if success {
                self.close();
            } else {
                self.open(now_us);
            }
        } else if self.since_us.is_none() {
            if self.outcomes.len() == self.config.window {
                self.outcomes.pop_front();
            }
            self.outcomes.push_back(success);
            let failures = self.outcomes.iter().filter(|&&ok| !ok).count();
            if failures >= self.config.failures {
                self.open(now_us);
            }
        }
    }

    fn open(&mut self, now_us: u64) {
        self.since_us = Some(now_us);
        self.probing = false;
        self.outcomes.clear();
        self.period += 1;
        self.opened += 1;
    }

    fn close(&mut self) {
        self.since_us = None;
        self.probing = false;
        self.period += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn call(breaker: &mut CircuitBreaker, success: bool, at: u64) {
        let permit = breaker.try_call(at).unwrap();
        breaker.record(permit, success, at);
    }

    #[test]
    fn it_opens_at_five_of_ten_and_not_at_five_of_eleven() {
        let mut breaker = CircuitBreaker::new(BreakerConfig::default()).unwrap();
        for success in [false, true, false, true, false, true, false, true, true, true] {
            call(&mut breaker, success, 0);
        }
        assert_eq!(breaker.state(0), State::Closed);
        // The first failure has left the window of ten when the fifth arrives.
        call(&mut breaker, false, 1);
        assert_eq!(breaker.state(1), State::Closed);
        call(&mut breaker, true, 2);
        call(&mut breaker, false, 3);
        call(&mut breaker, false, 4);
        assert_eq!(breaker.state(4), State::Open);
        assert_eq!(breaker.times_opened(), 1);
    }

    #[test]
    fn the_trace_closed_open_half_open_open_half_open_closed() {
        let mut breaker = CircuitBreaker::new(BreakerConfig::consecutive(3, SECOND)).unwrap();
        call(&mut breaker, false, 0);
        call(&mut breaker, false, 1);
        call(&mut breaker, true, 2); // the row of failures is broken
        for at in [3, 4, 5] {
            call(&mut breaker, false, at);
        }
        assert_eq!(breaker.try_call(6), Err(OpsError::CircuitOpen { retry_after_us: SECOND - 1 }));
        let probe = breaker.try_call(5 + SECOND).unwrap();
        assert_eq!(breaker.state(5 + SECOND), State::HalfOpen);
        assert_eq!(breaker.try_call(6 + SECOND), Err(OpsError::CircuitOpen { retry_after_us: 0 }));
        breaker.record(probe, false, 7 + SECOND);
        assert_eq!(breaker.state(8 + SECOND), State::Open);
        call(&mut breaker, true, 7 + 2 * SECOND);
        assert_eq!(breaker.state(8 + 2 * SECOND), State::Closed);
        // Closed again, it has forgotten the failures from before.
        call(&mut breaker, false, 9 + 2 * SECOND);
        call(&mut breaker, false, 9 + 2 * SECOND);
        assert_eq!(breaker.state(9 + 2 * SECOND), State::Closed);
        assert_eq!(breaker.times_opened(), 2);
    }

    #[test]
    fn late_answers_dont_count_and_lost_probes_dont_block() {
        let mut breaker = CircuitBreaker::new(BreakerConfig::consecutive(1, SECOND)).unwrap();
        let slow = breaker.try_call(0).unwrap();
        call(&mut breaker, false, 1);
        breaker.record(slow, true, 2);
        assert_eq!(breaker.state(2), State::Open, "a success from before the opening");
        let lost = breaker.try_call(1 + SECOND).unwrap();
        assert!(breaker.try_call(SECOND + SECOND).is_err());
        let second = breaker.try_call(1 + 2 * SECOND).unwrap();
        breaker.record(lost, false, 2 + 2 * SECOND);
        assert_eq!(breaker.state(2 + 2 * SECOND), State::HalfOpen);
        breaker.record(second, true, 3 + 2 * SECOND);
        assert_eq!(breaker.state(3 + 2 * SECOND), State::Closed);
    }

    #[test]
    fn impossible_configurations_are_refused() {
        assert!(CircuitBreaker::new(BreakerConfig::consecutive(0, SECOND)).is_err());
        let narrow = BreakerConfig { failures: 5, window: 4, pause_us: 0 };
        let error = CircuitBreaker::new(narrow).unwrap_err();
        assert!(error.to_string().contains("window is 4"), "{error}");
    }
}
