//! Clocks: real or virtual time behind one trait, in whole microseconds.
//!
//! Code that waits, expires or times out asks a [`Clock`] for the time instead of the system, so that the same code runs
//! under a [`VirtualClock`] in a simulation, where an hour takes no time and every run is the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A point in time or a span of time, in microseconds.
pub type Micros = u64;

/// One millisecond.
pub const MILLISECOND: Micros = 1_000;
/// One second.
pub const SECOND: Micros = 1_000_000;
/// One minute.
pub const MINUTE: Micros = 60 * SECOND;
/// One hour.
pub const HOUR: Micros = 60 * MINUTE;

/// Seconds as whole microseconds, rounded; 0 for negative numbers and NaN, the largest time for what doesn't fit.
pub fn micros(seconds: f64) -> Micros {
    (seconds * SECOND as f64).round() as Micros
}

/// Microseconds as seconds.
pub fn seconds(time: Micros) -> f64 {
    time as f64 / SECOND as f64
}

/// Microseconds as milliseconds.
pub fn milliseconds(time: Micros) -> f64 {
    time as f64 / MILLISECOND as f64
}

/// Something that says what time it is. Times of one clock never go back; times of two clocks can't be compared.
pub trait Clock: Send + Sync {
    /// Microseconds since the clock's own start.
    fn now(&self) -> Micros;
}

/// The machine's monotonic clock; it starts at 0 when it is made.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock that starts now.
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Micros {
        Duration::as_micros(&self.start.elapsed()) as Micros
    }
}

/// A clock that moves only when it is told to. Clones show the same time.
///
/// ```
/// use eas_ops::clock::{Clock, SECOND, VirtualClock};
///
/// let clock = VirtualClock::new();
/// let seen_by_a_cache = clock.clone();
/// clock.advance(5 * SECOND);
/// assert_eq!(seen_by_a_cache.now(), 5_000_000);
/// ```
#[derive(Debug, Clone, Default)]
pub struct VirtualClock {
    now: Arc<AtomicU64>,
}

impl VirtualClock {
    /// A clock that shows 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves the clock forward by `span`.
    pub fn advance(&self, span: Micros) {
        self.advance_to(self.now().saturating_add(span));
    }

    /// Moves the clock forward to `time`; a time that has passed changes nothing, since time never goes back.
    pub fn advance_to(&self, time: Micros) {
        self.now.fetch_max(time, Ordering::SeqCst);
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Micros {
        self.now.load(Ordering::SeqCst)
    }
}

/// A clock that runs ahead of another (or behind, when `offset` is negative) by a fixed span: what a node with a badly set
/// clock sees. It shows 0 until the other clock has made up for a negative offset.
#[derive(Debug, Clone)]
pub struct SkewedClock<C> {
    inner: C,
    offset: i64,
}

impl<C: Clock> SkewedClock<C> {
    /// A clock that shows the time of `inner` plus `offset` microseconds.
    pub fn new(inner: C, offset: i64) -> Self {
        Self { inner, offset }
    }
}

impl<C: Clock> Clock for SkewedClock<C> {
    fn now(&self) -> Micros {
        self.inner.now().saturating_add_signed(self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn virtual_time_is_shared_and_never_goes_back() {
        let clock = VirtualClock::new();
        let twin = clock.clone();
        clock.advance_to(3 * SECOND);
        clock.advance_to(SECOND);
        twin.advance(MILLISECOND);
        assert_eq!((clock.now(), twin.now()), (3_001_000, 3_001_000));
        clock.advance(Micros::MAX);
        assert_eq!(clock.now(), Micros::MAX);
    }

    #[test]
    fn a_skewed_clock_keeps_its_distance() {
        let clock = VirtualClock::new();
        let (fast, slow) = (SkewedClock::new(clock.clone(), 500_000), SkewedClock::new(clock.clone(), -500_000));
        assert_eq!((fast.now(), slow.now()), (500_000, 0));
        clock.advance(SECOND);
        assert_eq!((fast.now(), slow.now()), (1_500_000, 500_000));
    }

    #[test]
    fn the_system_clock_advances() {
        let clock = SystemClock::new();
        let before = clock.now();
        std::thread::sleep(Duration::from_millis(2));
        assert!(clock.now() >= before + 2 * MILLISECOND);
    }

    #[test]
    fn seconds_and_microseconds_convert() {
        assert_eq!(micros(1.5), 1_500_000);
        assert_eq!((micros(-1.0), micros(f64::NAN), micros(1e300)), (0, 0, Micros::MAX));
        assert_eq!(seconds(HOUR + MINUTE), 3_660.0);
    }
}
