//! [`Sim`]: a discrete-event simulator whose runs are a function of the seed.
//!
//! Events wait in a queue ordered by time, events of one time by the order in which they were scheduled. Taking the next
//! one moves the [`VirtualClock`] to its time. All randomness comes from the simulator's own generator, and every event
//! taken goes into a hash, so that "the same run" can be asserted: equal seeds give equal [`Sim::trace_hash`]es.
//!
//! The simulator knows nothing of what it simulates. A model is an event type and a loop:
//!
//! ```
//! use eas_ops::clock::SECOND;
//! use eas_ops::sim::Sim;
//!
//! #[derive(Hash)]
//! enum Event {
//!     Arrive,
//!     Leave,
//! }
//!
//! let mut sim = Sim::new(42);
//! let (mut inside, mut most) = (0, 0);
//! sim.after(0, Event::Arrive);
//! while let Some(event) = sim.next_until(60 * SECOND) {
//!     match event {
//!         Event::Arrive => {
//!             inside += 1;
//!             most = most.max(inside);
//!             let (gap, stay) = (sim.exponential(1.0), sim.exponential(3.0));
//!             sim.after(gap, Event::Arrive);
//!             sim.after(stay, Event::Leave);
//!         }
//!         Event::Leave => inside -= 1,
//!     }
//! }
//! assert_eq!(sim.now(), 60 * SECOND);
//! assert!(most > 1);
//! ```

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, HashSet};
use std::hash::{Hash, Hasher};

use eas_tensor::rng::SplitMix64;

use crate::clock::{Clock, Micros, VirtualClock, micros};

/// Why an event wasn't scheduled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SimError {
    /// The time has passed.
    #[error("an event can't be scheduled at {at} us: it is {now} us already")]
    Past {
        /// The time asked for.
        at: Micros,
        /// The simulator's time.
        now: Micros,
    },
}

/// Names a scheduled event, so that it can be cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventId(u64);

/// A queue of future events of type `E`, a clock, a generator, and a hash of what has happened.
#[derive(Debug)]
pub struct Sim<E> {
    clock: VirtualClock,
    queue: BinaryHeap<Reverse<Scheduled<E>>>,
    /// Sequence numbers of the events that will happen; one that is in the queue but not here was cancelled.
    waiting: HashSet<u64>,
    sequence: u64,
    taken: u64,
    rng: SplitMix64,
    trace: TraceHasher,
}

#[derive(Debug)]
struct Scheduled<E> {
    at: Micros,
    sequence: u64,
    event: E,
}

impl<E> Ord for Scheduled<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

impl<E> PartialOrd for Scheduled<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Scheduled<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Scheduled<E> {}

impl<E: Hash> Sim<E> {
    /// An empty queue at time 0.
    pub fn new(seed: u64) -> Self {
        Self {
            clock: VirtualClock::new(),
            queue: BinaryHeap::new(),
            waiting: HashSet::new(),
            sequence: 0,
            taken: 0,
            rng: SplitMix64::new(seed),
            trace: TraceHasher::default(),
        }
    }

    /// Microseconds since the start.
    pub fn now(&self) -> Micros {
        self.clock.now()
    }

    /// The clock that the simulator moves, for code that asks a [`Clock`] for the time.
    pub fn clock(&self) -> VirtualClock {
        self.clock.clone()
    }

    /// The simulator's generator: the only source of randomness of a run that is to be repeated.
    pub fn rng(&mut self) -> &mut SplitMix64 {
        &mut self.rng
    }

    /// A span drawn from the exponential distribution with a mean of `mean_seconds`.
    pub fn exponential(&mut self, mean_seconds: f64) -> Micros {
        micros(self.rng.exponential(mean_seconds))
    }

    /// Schedules `event` at `time`; events of one time happen in the order in which they were scheduled.
    pub fn at(&mut self, time: Micros, event: E) -> Result<EventId, SimError> {
        let now = self.now();
        if time < now {
            return Err(SimError::Past { at: time, now });
        }
        Ok(self.after(time - now, event))
    }

    /// Schedules `event` after `delay`.
    pub fn after(&mut self, delay: Micros, event: E) -> EventId {
        let sequence = self.sequence;
        self.sequence += 1;
        self.waiting.insert(sequence);
        self.queue.push(Reverse(Scheduled { at: self.now().saturating_add(delay), sequence, event }));
        EventId(sequence)
    }

    /// Takes an event out of the queue before it happens; false when it has happened or was cancelled before.
    pub fn cancel(&mut self, id: EventId) -> bool {
        self.waiting.remove(&id.0)
    }

    /// The next event, after moving the clock to its time; `None` when nothing is left.
    pub fn next_event(&mut self) -> Option<E> {
        self.next_until(Micros::MAX)
    }

    /// The next event that happens at `end` or before. When there is none the clock moves to `end` (unless that is
    /// [`Micros::MAX`]), and later events stay in the queue.
    pub fn next_until(&mut self, end: Micros) -> Option<E> {
        while let Some(Reverse(next)) = self.queue.peek() {
            if next.at > end {
                break;
            }
            let Some(Reverse(next)) = self.queue.pop() else { break };
            if !self.waiting.remove(&next.sequence) {
                continue;
            }
            self.clock.advance_to(next.at);
            self.taken += 1;
            (next.at, next.sequence, &next.event).hash(&mut self.trace);
            return Some(next.event);
        }
        if end < Micros::MAX {
            self.clock.advance_to(end);
        }
        None
    }

    /// Takes every event up to `end` and lets `handle` act on it.
    pub fn run_until(&mut self, end: Micros, mut handle: impl FnMut(&mut Self, E)) {
        while let Some(event) = self.next_until(end) {
            handle(self, event);
        }
    }

    /// Adds a fact to the trace that isn't an event: what a reader saw, which node was chosen.
    pub fn note(&mut self, fact: &impl Hash) {
        fact.hash(&mut self.trace);
    }

    /// Events taken so far.
    pub fn events(&self) -> u64 {
        self.taken
    }

    /// Events that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// A hash of every event taken, with its time and order, and of every noted fact. Equal on every little-endian machine.
    pub fn trace_hash(&self) -> u64 {
        self.trace.finish()
    }
}

/// A hash that, unlike the standard library's, is the same in every process and on every little-endian machine: each word is mixed into
/// the state by the finalizer of SplitMix64.
#[derive(Debug, Clone, Default)]
pub struct TraceHasher {
    state: u64,
}

impl TraceHasher {
    /// The hash of one value.
    pub fn hash_of(value: &impl Hash) -> u64 {
        let mut hasher = Self::default();
        value.hash(&mut hasher);
        hasher.finish()
    }
}

impl Hasher for TraceHasher {
    fn finish(&self) -> u64 {
        self.state
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            self.write_u64(chunk.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte)));
        }
        self.write_u64(bytes.len() as u64);
    }

    fn write_u64(&mut self, word: u64) {
        self.state = SplitMix64::new(self.state ^ word).next_u64();
    }

    // Integers of every width go in as one little-endian word, whatever the machine's own order and width.
    fn write_u8(&mut self, i: u8) {
        self.write_u64(i.into());
    }

    fn write_u16(&mut self, i: u16) {
        self.write_u64(i.into());
    }

    fn write_u32(&mut self, i: u32) {
        self.write_u64(i.into());
    }

    fn write_usize(&mut self, i: usize) {
        self.write_u64(i as u64);
    }

    fn write_isize(&mut self, i: isize) {
        self.write_u64(i as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SECOND;
    use proptest::prelude::*;

    #[test]
    fn events_come_by_time_and_then_by_order_of_scheduling() {
        let mut sim = Sim::new(1);
        for (delay, name) in [(5, 'c'), (1, 'a'), (5, 'd'), (1, 'b'), (9, 'e')] {
            sim.after(delay, name);
        }
        let order: String = std::iter::from_fn(|| sim.next_event()).collect();
        assert_eq!((order.as_str(), sim.now(), sim.events()), ("abcde", 9, 5));
    }

    #[test]
    fn the_past_is_refused() {
        let mut sim = Sim::new(1);
        sim.after(10, ());
        sim.next_event();
        assert_eq!(sim.at(9, ()), Err(SimError::Past { at: 9, now: 10 }));
        assert!(sim.at(10, ()).is_ok());
    }

    #[test]
    fn a_bounded_run_leaves_the_rest_and_stops_at_its_end() {
        let mut sim = Sim::new(1);
        (1..=5u64).for_each(|s| _ = sim.after(s * SECOND, s));
        let mut seen = Vec::new();
        sim.run_until(3 * SECOND + 1, |_, s| seen.push(s));
        assert_eq!((seen.as_slice(), sim.now(), sim.waiting()), (&[1, 2, 3][..], 3_000_001, 2));
    }

    #[test]
    fn a_cancelled_event_never_happens_and_is_cancelled_once() {
        let mut sim = Sim::new(1);
        let (first, second) = (sim.after(1, 'a'), sim.after(2, 'b'));
        assert!(sim.cancel(first) && !sim.cancel(first));
        assert_eq!(sim.waiting(), 1);
        assert_eq!(sim.next_event(), Some('b'));
        assert!(!sim.cancel(second));
        assert_eq!((sim.next_event(), sim.now()), (None, 2));
    }

    #[test]
    fn handlers_schedule_more_and_the_clock_is_shared() {
        let mut sim = Sim::new(1);
        let clock = sim.clock();
        sim.after(0, 0u32);
        let mut times = Vec::new();
        sim.run_until(SECOND, |sim, generation| {
            times.push(clock.now());
            if generation < 3 {
                sim.after(100, generation + 1);
            }
        });
        assert_eq!(times, [0, 100, 200, 300]);
    }

    #[test]
    fn the_trace_depends_on_time_order_event_and_notes() {
        let hash = |events: &[(Micros, u32)], note: Option<u32>| {
            let mut sim = Sim::new(0);
            for &(delay, event) in events {
                sim.after(delay, event);
            }
            while sim.next_event().is_some() {}
            if let Some(fact) = note {
                sim.note(&fact);
            }
            sim.trace_hash()
        };
        let base = hash(&[(1, 7), (2, 8)], None);
        assert_eq!(base, hash(&[(1, 7), (2, 8)], None));
        for other in [
            hash(&[(1, 7), (3, 8)], None),
            hash(&[(1, 8), (2, 7)], None),
            hash(&[(2, 8), (1, 7)], None),
            hash(&[(1, 7), (2, 8)], Some(0)),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn exponential_spans_have_their_mean() {
        let mut sim: Sim<()> = Sim::new(5);
        let n = 100_000;
        let total: f64 = (0..n).map(|_| sim.exponential(2.0) as f64 / SECOND as f64).sum();
        assert!((total / f64::from(n) - 2.0).abs() < 0.03, "{total}");
    }

    /// Births and deaths with random gaps: the hash and the number of events of one run.
    fn random_run(seed: u64) -> (u64, u64) {
        let mut sim = Sim::new(seed);
        sim.after(0, 0u32);
        sim.run_until(200 * SECOND, |sim, n| {
            if n < 60 {
                let (a, b) = (sim.exponential(1.0), sim.exponential(2.0));
                sim.after(a, n + 1);
                if n % 7 == 0 {
                    sim.after(b, n + 2);
                }
            }
        });
        (sim.trace_hash(), sim.events())
    }

    proptest! {
        #[test]
        fn equal_seeds_give_equal_traces_and_others_do_not(seed in any::<u64>()) {
            prop_assert_eq!(random_run(seed), random_run(seed));
            prop_assert_ne!(random_run(seed).0, random_run(seed ^ 1).0);
        }

        #[test]
        fn time_never_goes_back(delays in proptest::collection::vec(0u64..1000, 1..100)) {
            let mut sim = Sim::new(0);
            for (i, &delay) in delays.iter().enumerate() {
                sim.after(delay, (delay, i));
            }
            let mut expected: Vec<(u64, usize)> = delays.iter().copied().zip(0..).collect();
            expected.sort_unstable();
            let taken: Vec<(u64, usize)> = std::iter::from_fn(|| sim.next_event()).collect();
            prop_assert_eq!(taken, expected);
        }
    }
}
