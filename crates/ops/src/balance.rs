//! [`ReplicaSet`]: which replica gets the next request, and which gets none for a while.
//!
//! The policy matters when replicas differ: taking turns loads the slowest as much as the fastest, and its line grows without
//! end, while a count of outstanding requests notices. Every replica has a [`CircuitBreaker`] that opens after failures in a
//! row, and a request of its own accord probes it after a pause. An error that the request itself is to blame for says
//! nothing about the replica that reported it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::OpsError;
use crate::breaker::{BreakerConfig, CircuitBreaker, Permit, State};
use crate::clock::{Clock, Micros, SECOND};
use crate::error::check;
use crate::sim::Sim;
use crate::spans::Spans;

/// How the next replica is chosen among the healthy ones. Ties go to the lowest index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// In turn.
    RoundRobin,
    /// Fewest requests under way.
    LeastOutstanding,
    /// Smallest `(outstanding + 1) * latency`: the expected wait, with the moving average of the latencies seen.
    LatencyWeighted,
}

/// Weight of the newest latency in the moving average.
const NEWEST: f64 = 0.2;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// An answer, after this long.
    Answered(Micros),
    /// The replica failed.
    Failed,
    /// The request was wrong: the replica did its work by saying so.
    BadRequest,
}

/// A request under way at a replica.
#[derive(Debug, Clone, Copy)]
#[must_use = "report how the request ended with `finish`"]
pub struct Assignment {
    /// Index of the replica.
    pub replica: usize,
    permit: Permit,
}

#[derive(Debug, Clone)]
struct Replica {
    outstanding: usize,
    /// Moving average of latencies in microseconds; 0 until the first, so that an unknown replica is tried early.
    latency: f64,
    assigned: u64,
    breaker: CircuitBreaker,
}

/// The bookkeeping of a set of replicas. Knows no threads and no clock.
#[derive(Debug, Clone)]
pub struct Balancer {
    policy: Policy,
    replicas: Vec<Replica>,
    turn: usize,
}

/// When a replica is given a rest: after 3 failures in a row, for a second.
pub const HEALTH: BreakerConfig = BreakerConfig { failures: 3, window: 3, pause_us: SECOND };

impl Balancer {
    /// `replicas >= 1` healthy replicas of unknown speed.
    pub fn new(policy: Policy, replicas: usize, health: BreakerConfig) -> Result<Self, OpsError> {
        check("replicas", replicas, replicas > 0, "at least 1")?;
        let breaker = CircuitBreaker::new(health)?;
        let replica = Replica { outstanding: 0, latency: 0.0, assigned: 0, breaker };
        Ok(Self { policy, replicas: vec![replica; replicas], turn: 0 })
    }

    /// Chooses a replica for a request at `now`, other than those in `tried`. A replica whose pause is over gets the request
    /// as its probe. Refused when no replica is left.
    pub fn assign(&mut self, now: Micros, tried: &[usize]) -> Result<Assignment, OpsError> {
        let n = self.replicas.len();
        let probe = (0..n).find_map(|i| {
            let breaker = &mut self.replicas[i].breaker;
            let due = breaker.state(now) == State::HalfOpen && !tried.contains(&i);
            due.then(|| breaker.try_call(now).ok()).flatten().map(|permit| (i, permit))
        });
        let chosen = probe.or_else(|| {
            let replica = self.choose(now, tried)?;
            Some((replica, self.replicas[replica].breaker.try_call(now).ok()?))
        });
        let (replica, permit) = chosen.ok_or(OpsError::NoReplica { replicas: n })?;
        let state = &mut self.replicas[replica];
        state.outstanding += 1;
        state.assigned += 1;
        Ok(Assignment { replica, permit })
    }

    fn choose(&mut self, now: Micros, tried: &[usize]) -> Option<usize> {
        let n = self.replicas.len();
        let healthy = |&i: &usize| self.replicas[i].breaker.state(now) == State::Closed && !tried.contains(&i);
        match self.policy {
            Policy::RoundRobin => {
                let next = (self.turn..self.turn + n).map(|i| i % n).find(healthy)?;
                self.turn = (next + 1) % n;
                Some(next)
            }
            Policy::LeastOutstanding => (0..n).filter(healthy).min_by_key(|&i| self.replicas[i].outstanding),
            Policy::LatencyWeighted => {
                let cost = |i: usize| (self.replicas[i].outstanding + 1) as f64 * self.replicas[i].latency;
                // min_by keeps the first of equals.
                (0..n).filter(healthy).min_by(|&a, &b| cost(a).total_cmp(&cost(b)))
            }
        }
    }

    /// The request ended at `now`.
    pub fn finish(&mut self, assignment: Assignment, outcome: Outcome, now: Micros) {
        let replica = &mut self.replicas[assignment.replica];
        replica.outstanding -= 1;
        replica.breaker.record(assignment.permit, outcome != Outcome::Failed, now);
        if let Outcome::Answered(latency) = outcome {
            self.observe(assignment.replica, latency);
        }
    }

    /// Takes a latency into the moving average of `replica`, as a measurement made before the first request would. An index
    /// that doesn't exist changes nothing.
    pub fn observe(&mut self, replica: usize, latency: Micros) {
        if let Some(replica) = self.replicas.get_mut(replica) {
            let newest = latency as f64;
            replica.latency =
                if replica.latency == 0.0 { newest } else { replica.latency + NEWEST * (newest - replica.latency) };
        }
    }

    /// Requests given to each replica so far.
    pub fn assigned(&self) -> Vec<u64> {
        self.replicas.iter().map(|replica| replica.assigned).collect()
    }

    /// State of each replica at `now`: closed is healthy.
    pub fn health(&self, now: Micros) -> Vec<State> {
        self.replicas.iter().map(|replica| replica.breaker.state(now)).collect()
    }

    /// How often the replicas were given a rest, in all.
    pub fn times_opened(&self) -> u64 {
        self.replicas.iter().map(|replica| replica.breaker.times_opened()).sum()
    }
}

/// Probability that at least one of `n` independent replicas is up, when each is with probability `a`.
pub fn availability(a: f64, n: u32) -> Result<f64, OpsError> {
    check("availability", a, (0.0..=1.0).contains(&a), "between 0 and 1")?;
    Ok(1.0 - (1.0 - a).powf(f64::from(n)))
}

// --------------------------------------------------------------------------------------------------------- real calls

/// Whose fault an error is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure<E> {
    /// The request's: no other replica would do better.
    Request(E),
    /// The replica's: another may do better.
    Replica(E),
}

/// Why a call had no answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CallError<E> {
    /// The request is wrong.
    #[error("the request was refused: {0}")]
    Request(E),
    /// Every replica that was tried failed.
    #[error("{attempts} replicas failed, the last one: {last}")]
    Exhausted {
        /// Replicas tried.
        attempts: usize,
        /// Error of the last one.
        last: E,
    },
    /// No replica was healthy.
    #[error(transparent)]
    Unavailable(OpsError),
}

/// Replicas of a service behind a [`Balancer`], for many threads.
pub struct ReplicaSet<S> {
    replicas: Vec<S>,
    balancer: Mutex<Balancer>,
    clock: Arc<dyn Clock>,
    attempts: usize,
}

impl<S> ReplicaSet<S> {
    /// A set that tries at most `attempts >= 1` different replicas a request.
    pub fn new(policy: Policy, replicas: Vec<S>, attempts: usize, clock: Arc<dyn Clock>) -> Result<Self, OpsError> {
        check("attempts", attempts, attempts > 0, "at least 1")?;
        Ok(Self { balancer: Mutex::new(Balancer::new(policy, replicas.len(), HEALTH)?), replicas, clock, attempts })
    }

    /// The replicas, in the order in which they are numbered.
    pub fn replicas(&self) -> &[S] {
        &self.replicas
    }

    fn balancer(&self) -> MutexGuard<'_, Balancer> {
        self.balancer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a request, at another replica if one fails. `request` gets the replica's index and the replica.
    pub fn call<T, E>(&self, mut request: impl FnMut(usize, &S) -> Result<T, Failure<E>>) -> Result<T, CallError<E>> {
        let mut tried = Vec::new();
        let mut last = None;
        loop {
            let start = self.clock.now();
            let assignment = match self.balancer().assign(start, &tried) {
                Ok(assignment) => assignment,
                Err(error) => return Err(last.map_or(CallError::Unavailable(error), |last| exhausted(&tried, last))),
            };
            tried.push(assignment.replica);
            let result = request(assignment.replica, &self.replicas[assignment.replica]);
            let now = self.clock.now();
            let outcome = match &result {
                Ok(_) => Outcome::Answered(now - start),
                Err(Failure::Request(_)) => Outcome::BadRequest,
                Err(Failure::Replica(_)) => Outcome::Failed,
            };
            self.balancer().finish(assignment, outcome, now);
            match result {
                Ok(answer) => return Ok(answer),
                Err(Failure::Request(error)) => return Err(CallError::Request(error)),
                Err(Failure::Replica(error)) if tried.len() == self.attempts => return Err(exhausted(&tried, error)),
                Err(Failure::Replica(error)) => last = Some(error),
            }
        }
    }

    /// A copy of the bookkeeping as it is now.
    pub fn snapshot(&self) -> Balancer {
        self.balancer().clone()
    }
}

fn exhausted<E>(tried: &[usize], last: E) -> CallError<E> {
    CallError::Exhausted { attempts: tried.len(), last }
}

// ------------------------------------------------------------------------------------------------------- virtual time

/// What [`simulate`] has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BalanceRun {
    /// Requests each replica served.
    pub assigned: Vec<u64>,
    /// Arrival and reply of each request, in order of arrival.
    pub spans: Spans,
}

/// Requests that arrive at `arrivals` (ascending) at replicas that serve one at a time, in order, each in its `service` time.
/// A request that ends exactly when another arrives has ended. The latencies that the policy weighs are the service times.
pub fn simulate(policy: Policy, arrivals: &[Micros], service: &[Micros]) -> Result<BalanceRun, OpsError> {
    check("arrivals", "not in order", arrivals.is_sorted(), "in ascending order")?;
    let mut balancer = Balancer::new(policy, service.len(), HEALTH)?;
    for (replica, &time) in service.iter().enumerate() {
        balancer.observe(replica, time);
    }
    let mut free_at = vec![0; service.len()];
    let mut under_way: Vec<Option<Assignment>> = vec![None; arrivals.len()];
    let mut spans = Vec::with_capacity(arrivals.len());
    let mut sim: Sim<usize> = Sim::new(0); // its events are the ends of requests, by number
    for (request, &arrival) in arrivals.iter().enumerate() {
        while let Some(ended) = sim.next_until(arrival) {
            if let Some(assignment) = under_way[ended].take() {
                balancer.finish(assignment, Outcome::Answered(service[assignment.replica]), sim.now());
            }
        }
        let assignment = balancer.assign(arrival, &[])?;
        let replica = assignment.replica;
        free_at[replica] = arrival.max(free_at[replica]) + service[replica];
        under_way[request] = Some(assignment);
        sim.after(free_at[replica] - arrival, request);
        spans.push((arrival, free_at[replica]));
    }
    Ok(BalanceRun { assigned: balancer.assigned(), spans: Spans(spans) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::VirtualClock;

    #[test]
    fn unequal_replicas_under_three_policies() {
        let arrivals: Vec<Micros> = (0..300).map(|i| i * 480).collect();
        for (policy, assigned, mean, max) in [
            (Policy::RoundRobin, [100, 100, 100], 44.240, 257.44),
            (Policy::LeastOutstanding, [144, 122, 34], 1.6696, 4.0),
            (Policy::LatencyWeighted, [147, 146, 7], 3.1168, 4.0),
        ] {
            let run = simulate(policy, &arrivals, &[1_000, 1_000, 4_000]).unwrap();
            let summary = run.spans.summary().unwrap();
            assert_eq!(run.assigned, assigned);
            assert!((summary.mean - mean).abs() < 5e-5, "{policy:?} {}", summary.mean);
            assert_eq!(summary.max, max);
            assert!(run.spans.littles_law().unwrap().relative_gap() < 1e-9);
        }
        assert!(simulate(Policy::RoundRobin, &[], &[]).is_err());
        assert!(simulate(Policy::RoundRobin, &[2, 1], &[1]).is_err());
    }

    #[test]
    fn one_of_three_is_enough() {
        assert!((availability(0.99, 3).unwrap() - 0.999_999).abs() < 1e-12);
        assert_eq!(availability(0.5, 0).unwrap(), 0.0);
        assert!(availability(1.5, 3).is_err());
    }

    fn set(policy: Policy, clock: &VirtualClock) -> ReplicaSet<usize> {
        ReplicaSet::new(policy, vec![0, 1, 2], 3, Arc::new(clock.clone())).unwrap()
    }

    #[test]
    fn a_dead_replica_costs_no_answer_and_comes_back() {
        for policy in [Policy::RoundRobin, Policy::LeastOutstanding, Policy::LatencyWeighted] {
            let clock = VirtualClock::new();
            let set = set(policy, &clock);
            let mut asked_dead = 0;
            let mut call = |dead: Option<usize>| {
                set.call(|i, replica| {
                    clock.advance(1_000);
                    if Some(i) == dead {
                        asked_dead += 1;
                        Err(Failure::Replica("down"))
                    } else {
                        Ok(*replica)
                    }
                })
            };
            for _ in 0..500 {
                assert_ne!(call(Some(0)).unwrap(), 0);
            }
            assert_eq!(set.snapshot().health(clock.now())[0], State::Open, "{policy:?}");
            clock.advance(SECOND);
            // The first request after the pause is the probe, whatever the policy would choose.
            assert_eq!(call(None).unwrap(), 0, "{policy:?}");
            assert_eq!(set.snapshot().health(clock.now()), [State::Closed; 3]);
            // 3 failures opened it; of the half second after that nothing is left for more.
            assert!(asked_dead <= 4, "{policy:?}: {asked_dead}");
        }
    }

    #[test]
    fn a_bad_request_is_not_the_replicas_fault() {
        let clock = VirtualClock::new();
        let set = set(Policy::RoundRobin, &clock);
        for _ in 0..20 {
            let refused: Result<(), _> = set.call(|_, _| Err(Failure::Request("dimension 3")));
            assert_eq!(refused, Err(CallError::Request("dimension 3")));
        }
        assert_eq!(set.snapshot().health(0), [State::Closed; 3]);
        assert_eq!(set.snapshot().assigned(), [7, 7, 6], "and it isn't tried elsewhere");
    }

    #[test]
    fn retries_are_bounded_and_total_failure_is_named() {
        let clock = VirtualClock::new();
        let set = set(Policy::RoundRobin, &clock);
        let mut calls = 0;
        let mut fail = || -> Result<(), CallError<&str>> {
            set.call(|_, _| {
                calls += 1;
                Err(Failure::Replica("down"))
            })
        };
        let expected = CallError::Exhausted { attempts: 3, last: "down" };
        for _ in 0..3 {
            assert_eq!(fail(), Err(expected.clone()));
        }
        let error = fail().unwrap_err();
        assert_eq!(error, CallError::Unavailable(OpsError::NoReplica { replicas: 3 }));
        assert_eq!(calls, 9);
        assert!(ReplicaSet::<u8>::new(Policy::RoundRobin, vec![], 1, Arc::new(clock.clone())).is_err());
        assert!(ReplicaSet::new(Policy::RoundRobin, vec![1], 0, Arc::new(clock)).is_err());
    }

    #[test]
    fn threads_share_a_set() {
        let clock = VirtualClock::new();
        let set = set(Policy::LeastOutstanding, &clock);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..250 {
                        set.call(|i, _| if i == 1 { Err(Failure::Replica(())) } else { Ok(()) }).unwrap();
                    }
                });
            }
        });
        let balancer = set.snapshot();
        assert!(balancer.assigned().iter().sum::<u64>() >= 1_000);
        assert!(balancer.replicas.iter().all(|replica| replica.outstanding == 0));
    }
}
