//! What stands before the database: a queue that is bounded, a breaker that opens, an answer that may come too late.

use eas_ops::OpsError;
use eas_ops::breaker::{BreakerConfig, CircuitBreaker, State};

/// Why a request got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Too many wait already.
    Shed,
    /// The breaker is open.
    Open,
    /// The answer came after the deadline.
    Late,
    /// The search failed.
    Failed,
}

/// The front of a service. Time is in microseconds and given by the caller.
pub struct Front {
    breaker: CircuitBreaker,
    deadline_us: u64,
    queue: usize,
}

impl Front {
    /// A breaker that opens after 5 failures of the last 10 calls and tries again after a second; answers within `deadline_us`; at most `queue`
    /// requests that wait.
    pub fn new(deadline_us: u64, queue: usize) -> Result<Self, OpsError> {
        Ok(Self {
            breaker: CircuitBreaker::new(BreakerConfig { failures: 5, window: 10, pause_us: 1_000_000 })?,
            deadline_us,
            queue,
        })
    }

    /// The breaker's state.
    pub fn state(&self, now_us: u64) -> State {
        self.breaker.state(now_us)
    }

    /// Lets one request through, while `waiting` others wait. `work` answers and says how many microseconds it took.
    pub fn call<T>(
        &mut self,
        waiting: usize,
        now_us: u64,
        work: impl FnOnce() -> (anyhow::Result<T>, u64),
    ) -> Result<T, Refusal> {
        if waiting >= self.queue {
            return Err(Refusal::Shed);
        }
        let permit = self.breaker.try_call(now_us).map_err(|_| Refusal::Open)?;
        let (answer, took_us) = work();
        let outcome = match answer {
            Ok(_) if took_us > self.deadline_us => Err(Refusal::Late),
            Ok(answer) => Ok(answer),
            Err(_) => Err(Refusal::Failed),
        };
        self.breaker.record(permit, outcome.is_ok(), now_us + took_us);
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_answers_open_the_breaker_and_a_quick_one_closes_it() {
        let mut front = Front::new(50_000, 1_000).unwrap();
        let mut call = |waiting, now, took| front.call(waiting, now, || (Ok(()), took));
        assert_eq!(call(1_000, 0, 1), Err(Refusal::Shed));
        assert_eq!(call(999, 0, 1), Ok(()));
        for _ in 0..5 {
            assert_eq!(call(0, 10, 60_000), Err(Refusal::Late));
        }
        assert_eq!(call(0, 100_000, 1), Err(Refusal::Open));
        assert_eq!(call(0, 1_100_000, 1), Ok(()));
        assert_eq!(front.state(1_200_000), State::Closed);
        let failed: Result<(), _> = front.call(0, 1_200_000, || (Err(anyhow::anyhow!("no")), 1));
        assert_eq!(failed, Err(Refusal::Failed));
    }
}
