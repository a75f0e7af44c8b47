//! Load: traffic shapes, arrivals that don't wait for answers, and a simulated service with a bounded queue and an autoscaler.
//!
//! A load test is **open-loop** when requests come at their own times whatever the service does, as users do. A closed loop
//! sends the next request after the last answer, so that a stalled service is asked less, and the requests that would have
//! suffered are never sent: *coordinated omission* (Tene, "How NOT to Measure Latency", 2013). Latency here always counts from
//! the time at which a request was meant to be sent.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use eas_eval::latency::{LatencySummary, nearest_rank};
use eas_tensor::rng::SplitMix64;

use crate::OpsError;
use crate::clock::{Clock, HOUR, MINUTE, Micros, SystemClock, micros, milliseconds, seconds};
use crate::error::check;
use crate::sim::Sim;

// ------------------------------------------------------------------------------------------------------ traffic shapes

/// A traffic shape: requests a second as a function of time, with the sizes of a service for 100,000 queries a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// 100,000 for an hour.
    Steady,
    /// From 0 to 200,000 in 30 minutes.
    Ramp,
    /// 50,000, then 500,000 for 5 minutes, then 50,000; 10 minutes before and after.
    Spike,
    /// 150,000 for 8 hours.
    SustainedPeak,
    /// A million requests at once, and then nothing.
    ThunderingHerd,
    /// A day of three regions whose peaks fall at different hours: 100,000 on average.
    GeoMix,
}

/// Share of the traffic and hour (UTC) of the daily peak of the regions of [`Scenario::GeoMix`]: the Americas, Europe with
/// Africa, Asia with Oceania.
pub const REGIONS: [(f64, f64); 3] = [(0.5, 21.0), (0.3, 14.0), (0.2, 6.0)];
/// How far a region's traffic swings around its mean, as a share.
const SWING: f64 = 0.6;

impl Scenario {
    /// All six.
    pub const ALL: [Self; 6] =
        [Self::Steady, Self::Ramp, Self::Spike, Self::SustainedPeak, Self::ThunderingHerd, Self::GeoMix];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Ramp => "ramp",
            Self::Spike => "spike",
            Self::SustainedPeak => "sustained peak",
            Self::ThunderingHerd => "thundering herd",
            Self::GeoMix => "three regions",
        }
    }

    /// How long it lasts.
    pub fn duration(self) -> Micros {
        match self {
            Self::Steady => HOUR,
            Self::Ramp => 30 * MINUTE,
            Self::Spike => 25 * MINUTE,
            Self::SustainedPeak => 8 * HOUR,
            Self::ThunderingHerd => MINUTE,
            Self::GeoMix => 24 * HOUR,
        }
    }

    /// Requests a second at `at`.
    pub fn rate(self, at: Micros) -> f64 {
        match self {
            Self::Steady => 100_000.0,
            Self::Ramp => 200_000.0 * at as f64 / self.duration() as f64,
            Self::Spike if Self::SPIKE.contains(&at) => 500_000.0,
            Self::Spike => 50_000.0,
            Self::SustainedPeak => 150_000.0,
            Self::ThunderingHerd => 0.0,
            Self::GeoMix => (0..REGIONS.len()).map(|region| Self::region_rate(region, at)).sum(),
        }
    }

    /// When the spike of [`Scenario::Spike`] is on.
    pub const SPIKE: Range<Micros> = 10 * MINUTE..15 * MINUTE;

    /// Requests a second of one region of [`Scenario::GeoMix`]; 0 for a region that doesn't exist.
    pub fn region_rate(region: usize, at: Micros) -> f64 {
        REGIONS.get(region).map_or(0.0, |&(share, peak)| {
            let angle = std::f64::consts::TAU * (at as f64 / HOUR as f64 - peak) / 24.0;
            100_000.0 * share * (1.0 + SWING * angle.cos())
        })
    }

    /// Requests that come all at once at the start.
    pub fn burst(self) -> u64 {
        if self == Self::ThunderingHerd { 1_000_000 } else { 0 }
    }

    /// Times of arrival of the scenario with its rates and burst divided by `size` and its duration by `time`, in order.
    pub fn arrivals(self, size: u64, time: u64, spacing: Spacing) -> Result<Vec<Micros>, OpsError> {
        check("divisor of the size", size, size > 0, "at least 1")?;
        check("divisor of the time", time, time > 0, "at least 1")?;
        let mut all = vec![0; (self.burst() / size) as usize];
        let rate = |at: Micros| self.rate(at.saturating_mul(time)) / size as f64;
        all.extend(arrivals(rate, self.duration() / time, spacing)?);
        Ok(all)
    }
}

/// What lies between two requests of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spacing {
    /// Exactly one expected request: a metronome that follows the rate.
    Even,
    /// A random number of expected requests, exponential with mean one: a Poisson process with this seed, as of many
    /// independent users.
    Poisson(u64),
}

/// Parts into which a duration is cut to follow its rate.
const STEPS: u64 = 10_000;

/// Times of arrival, in order, of a stream with `rate(at)` requests a second (finite, not negative) from 0 to `duration`: a
/// unit-rate process through the inverse of the expected count, so that any rate gives an exact Poisson process (up to the
/// rate being taken as constant within 1/10,000 of the duration).
pub fn arrivals(rate: impl Fn(Micros) -> f64, duration: Micros, spacing: Spacing) -> Result<Vec<Micros>, OpsError> {
    let mut rng = match spacing {
        Spacing::Even => None,
        Spacing::Poisson(seed) => Some(SplitMix64::new(seed)),
    };
    let mut gap = move || rng.as_mut().map_or(1.0, |rng| rng.exponential(1.0));
    let step = duration.div_ceil(STEPS).max(1);
    let (mut times, mut expected, mut at) = (Vec::new(), 0.0, 0);
    let mut next = if spacing == Spacing::Even { 0.0 } else { gap() };
    while at < duration {
        let length = step.min(duration - at);
        let rate = rate(at + length / 2);
        check("rate", rate, rate >= 0.0 && rate.is_finite(), "finite and not negative")?;
        let after = expected + rate * seconds(length);
        while next < after {
            times.push((at + micros((next - expected) / rate)).min(duration - 1));
            next += gap();
        }
        expected = after;
        at += length;
    }
    Ok(times)
}

// ----------------------------------------------------------------------------------------------------- what happened

/// The fate of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// When it was meant to be sent.
    pub intended: Micros,
    /// When its answer came; `None` when it was turned away.
    pub finished: Option<Micros>,
}

impl Outcome {
    /// From the intended time to the answer.
    pub fn latency(&self) -> Option<Micros> {
        self.finished.map(|finished| finished - self.intended)
    }
}

/// A load test, summed up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LoadSummary {
    /// Requests sent.
    pub offered: usize,
    /// Requests answered.
    pub accepted: usize,
    /// Requests turned away.
    pub shed: usize,
    /// Latencies of the answered ones, ms; `None` when there is none.
    pub latency: Option<LatencySummary>,
}

impl LoadSummary {
    /// Sums up.
    pub fn of(outcomes: &[Outcome]) -> Result<Self, OpsError> {
        let latencies: Vec<f64> = outcomes.iter().filter_map(|outcome| outcome.latency().map(milliseconds)).collect();
        Ok(Self {
            offered: outcomes.len(),
            accepted: latencies.len(),
            shed: outcomes.iter().filter(|outcome| outcome.finished.is_none()).count(),
            latency: if latencies.is_empty() { None } else { Some(LatencySummary::of(&latencies)?) },
        })
    }
}

/// The `q`-quantile of the latency, ms, of the requests meant for each slice of time; `None` for a slice without answers.
/// `(start of the slice, quantile)`.
pub fn quantile_over_time(outcomes: &[Outcome], q: f64, slice: Micros) -> Result<Vec<(Micros, Option<f64>)>, OpsError> {
    check("slice", slice, slice > 0, "longer than 0")?;
    let mut slices: Vec<Vec<Micros>> = Vec::new();
    for outcome in outcomes {
        let at = (outcome.intended / slice) as usize;
        if at >= slices.len() {
            slices.resize(at + 1, Vec::new());
        }
        slices[at].extend(outcome.latency());
    }
    let mut quantiles = Vec::with_capacity(slices.len());
    for (i, mut slice_of) in slices.into_iter().enumerate() {
        slice_of.sort_unstable();
        let value = if slice_of.is_empty() { None } else { Some(milliseconds(nearest_rank(&slice_of, q)?)) };
        quantiles.push((i as Micros * slice, value));
    }
    Ok(quantiles)
}

// -------------------------------------------------------------------------------------------- coordinated omission

/// A server that does one request at a time, each in `service`, and nothing at all during `stall`.
#[derive(Debug, Clone)]
pub struct StallingServer {
    /// Time a request takes.
    pub service: Micros,
    /// When it stands still.
    pub stall: Range<Micros>,
}

impl StallingServer {
    /// A server with this service time and standstill.
    pub fn new(service: Micros, stall: Range<Micros>) -> Self {
        Self { service, stall }
    }

    /// When a request is done that the server takes up at `start`. Work begun before the stall is carried to its end.
    fn finish(&self, start: Micros) -> Micros {
        let start = if self.stall.contains(&start) { self.stall.end } else { start };
        start + self.service
    }

    /// Requests at their own times, first come, first served.
    pub fn open_loop(&self, arrivals: &[Micros]) -> Vec<Outcome> {
        let mut free = 0;
        arrivals
            .iter()
            .map(|&intended| {
                free = self.finish(free.max(intended));
                Outcome { intended, finished: Some(free) }
            })
            .collect()
    }

    /// One client that sends a request every `period`, or as soon as the last answer is there if that is later, up to `end`,
    /// and times it from the sending.
    pub fn closed_loop(&self, period: Micros, end: Micros) -> Vec<Outcome> {
        let (mut sent, mut outcomes) = (0, Vec::new());
        while sent < end {
            let finished = self.finish(sent);
            outcomes.push(Outcome { intended: sent, finished: Some(finished) });
            sent = finished.max(sent + period.max(1));
        }
        outcomes
    }
}

// ------------------------------------------------------------------------------------------------ a simulated service

/// Adds and removes workers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Autoscaler {
    /// Share of the workers' time that is to be busy.
    pub target: f64,
    /// Time between two decisions.
    pub interval: Micros,
    /// Time from a decision to a worker that works.
    pub start_delay: Micros,
    /// How long a worker is kept after the last decision that wanted it, so that a lull of one interval stops none.
    pub hold: Micros,
    /// Most workers.
    pub max_workers: usize,
}

impl Autoscaler {
    /// Workers that keep `target` of their time busy with `arrived` requests an interval, plus the `waiting` ones, when one
    /// request takes `mean_service`. It goes by the load that is offered: the share of time that workers are busy can't
    /// exceed one, and so can't say by how much the load exceeds it.
    fn wanted(&self, arrived: usize, waiting: usize, mean_service: f64) -> usize {
        let busy = (arrived + waiting) as f64 * mean_service / self.interval as f64;
        (busy / self.target).ceil() as usize
    }
}

/// A service: workers that take requests from one queue.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Service {
    /// Workers at the start, and the fewest.
    pub workers: usize,
    /// Requests that may wait; one more is turned away at once. `None`: any number.
    pub queue_limit: Option<usize>,
    /// What adds workers, if anything.
    pub autoscaler: Option<Autoscaler>,
}

impl Service {
    /// A fixed number of workers and a queue of any length.
    pub fn unbounded(workers: usize) -> Self {
        Self { workers, queue_limit: None, autoscaler: None }
    }

    /// The longest queue with which no accepted request takes longer than `limit` at `workers` busy workers, when none takes a
    /// worker longer than `longest`: the last in line starts after its share of all the work before it, `(queue - 1 + workers)
    /// longest / workers`, at most (Graham's bound on list scheduling). 0 when there is no such queue.
    pub fn queue_limit_for(limit: Micros, workers: usize, longest: Micros) -> usize {
        let rounds = limit.saturating_sub(longest) as f64 / longest.max(1) as f64;
        (workers as f64 * rounds - workers as f64 + 1.0).floor().max(0.0) as usize
    }
}

/// A simulated load test.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadRun {
    /// The fate of each request, in order of arrival.
    pub outcomes: Vec<Outcome>,
    /// Requests in queue and in service that each arrival found, itself included if accepted: what the service must remember.
    pub in_system: Vec<usize>,
    /// Number of workers from each time on.
    pub workers: Vec<(Micros, usize)>,
}

impl LoadRun {
    /// The run, summed up.
    pub fn summary(&self) -> Result<LoadSummary, OpsError> {
        LoadSummary::of(&self.outcomes)
    }

    /// Most requests that were in the service at once.
    pub fn most_in_system(&self) -> usize {
        self.in_system.iter().copied().max().unwrap_or(0)
    }

    /// Most workers at once.
    pub fn most_workers(&self) -> usize {
        self.workers.iter().map(|&(_, workers)| workers).max().unwrap_or(0)
    }

    /// The time from `start` to the last request meant for later that was turned away or took longer than `limit`: how long
    /// the service needed to recover from what happened at `start`. 0 when there is no such request.
    pub fn recovery(&self, start: Micros, limit: Micros) -> Micros {
        let bad = |outcome: &&Outcome| outcome.latency().is_none_or(|latency| latency > limit);
        let last = self.outcomes.iter().filter(bad).map(|outcome| outcome.intended).max();
        last.map_or(0, |last| last.saturating_sub(start))
    }
}

#[derive(Hash)]
enum Event {
    Arrival(usize),
    Done,
    Decide,
    Started(usize),
}

/// Runs requests that arrive at `arrivals` (ascending) through a service; `service_time` draws how long each takes a worker.
pub fn simulate(
    arrivals: &[Micros],
    service: Service,
    seed: u64,
    mut service_time: impl FnMut(&mut SplitMix64) -> Micros,
) -> Result<LoadRun, OpsError> {
    check("arrivals", "not in order", arrivals.is_sorted(), "in ascending order")?;
    check("workers", service.workers, service.workers > 0, "at least 1")?;
    if let Some(Autoscaler { target, interval, .. }) = service.autoscaler {
        check("target utilization", target, target > 0.0 && target <= 1.0, "above 0 and at most 1")?;
        check("interval", interval, interval > 0, "longer than 0")?;
    }
    // A stream of their own: service times must not repeat the gaps of arrivals that were drawn with the same seed.
    let mut sim = Sim::new(SplitMix64::stream(seed, 1).next_u64());
    let mut run = LoadRun {
        outcomes: Vec::with_capacity(arrivals.len()),
        in_system: Vec::with_capacity(arrivals.len()),
        workers: vec![(0, service.workers)],
    };
    let mut queue: VecDeque<usize> = VecDeque::new();
    let (mut workers, mut starting, mut busy) = (service.workers, 0, 0);
    // What the autoscaler has seen: arrivals since its last decision, and all service times.
    let (mut arrived, mut served, mut service_sum) = (0, 0_u64, 0_u64);
    let mut decisions: VecDeque<(Micros, usize)> = VecDeque::new();
    // The next arrival is scheduled by the one before, so that the queue of events stays short.
    if let Some(&first) = arrivals.first() {
        sim.after(first, Event::Arrival(0));
    }
    if let Some(scaler) = service.autoscaler {
        sim.after(scaler.interval, Event::Decide);
    }
    let last = arrivals.len();
    while let Some(event) = sim.next_event() {
        let now = sim.now();
        match event {
            Event::Arrival(i) => {
                if let Some(&next) = arrivals.get(i + 1) {
                    sim.after(next - now, Event::Arrival(i + 1));
                }
                arrived += 1;
                let full = busy >= workers && service.queue_limit.is_some_and(|limit| queue.len() >= limit);
                if !full {
                    queue.push_back(i);
                }
                run.outcomes.push(Outcome { intended: now, finished: None });
                run.in_system.push(queue.len() + busy);
            }
            Event::Done => busy -= 1,
            Event::Decide => {
                if let Some(scaler) = service.autoscaler {
                    if served > 0 {
                        let mean = service_sum as f64 / served as f64;
                        let wanted = scaler.wanted(arrived, queue.len(), mean);
                        let wanted = wanted.clamp(service.workers, scaler.max_workers.max(service.workers));
                        decisions.push_back((now, wanted));
                        while decisions.front().is_some_and(|(at, _)| at + scaler.hold < now) {
                            decisions.pop_front();
                        }
                        let kept = decisions.iter().map(|&(_, wanted)| wanted).max().unwrap_or(wanted);
                        if wanted > workers + starting {
                            let new = wanted - workers - starting;
                            starting += new;
                            sim.after(scaler.start_delay, Event::Started(new));
                        } else if kept < workers {
                            workers = kept; // those that are busy finish what they do
                            run.workers.push((now, workers));
                        }
                    }
                    arrived = 0;
                    if run.outcomes.len() < last || !queue.is_empty() {
                        sim.after(scaler.interval, Event::Decide);
                    }
                }
            }
            Event::Started(new) => {
                starting -= new;
                workers += new;
                run.workers.push((now, workers));
            }
        }
        while busy < workers
            && let Some(i) = queue.pop_front()
        {
            busy += 1;
            let time = service_time(sim.rng());
            (served, service_sum) = (served + 1, service_sum + time);
            run.outcomes[i].finished = Some(now + time);
            sim.after(time, Event::Done);
        }
    }
    Ok(run)
}

// -------------------------------------------------------------------------------------------------------- real load

/// Sends requests at their intended times to `workers` threads through a queue of at most `queue_limit`, in real time, and
/// waits for the last answer. `work(i)` does request `i`. The sender never waits for an answer.
pub fn drive(
    arrivals: &[Micros],
    workers: usize,
    queue_limit: usize,
    work: impl Fn(usize) + Sync,
) -> Result<Vec<Outcome>, OpsError> {
    check("arrivals", "not in order", arrivals.is_sorted(), "in ascending order")?;
    check("workers", workers, workers > 0, "at least 1")?;
    let clock = SystemClock::new();
    let waiting = AtomicUsize::new(0);
    let (sender, receiver) = channel::<usize>();
    let receiver = Mutex::new(receiver);
    let finished: Mutex<Vec<(usize, Micros)>> = Mutex::new(Vec::with_capacity(arrivals.len()));
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let next = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(request) = next else { return };
                    waiting.fetch_sub(1, Ordering::SeqCst);
                    work(request);
                    let done = (request, clock.now());
                    finished.lock().unwrap_or_else(PoisonError::into_inner).push(done);
                }
            });
        }
        for (request, &at) in arrivals.iter().enumerate() {
            let wait = at.saturating_sub(clock.now());
            if wait > 0 {
                std::thread::sleep(Duration::from_micros(wait));
            }
            // An idle worker takes a request from the queue at once; `queue_limit` counts those that still wait.
            if waiting.load(Ordering::SeqCst) < queue_limit.max(1) {
                waiting.fetch_add(1, Ordering::SeqCst);
                let _ = sender.send(request); // the receiver lives as long as this scope
            }
        }
        drop(sender);
    });
    let mut outcomes: Vec<Outcome> = arrivals.iter().map(|&intended| Outcome { intended, finished: None }).collect();
    for (request, at) in finished.into_inner().unwrap_or_else(PoisonError::into_inner) {
        outcomes[request].finished = Some(at.max(outcomes[request].intended));
    }
    Ok(outcomes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{MILLISECOND, SECOND};
    use crate::spans::Spans;

    #[test]
    fn arrivals_follow_the_rate() {
        let even = arrivals(|_| 1_000.0, 10 * SECOND, Spacing::Even).unwrap();
        assert_eq!(even, (0..10_000).map(|i| i * 1_000).collect::<Vec<_>>());
        // A ramp from 0 to 200/s over 2 s: 200 requests, half of them in the first 1/sqrt(2).
        let ramp = arrivals(|at| 100.0 * seconds(at), 2 * SECOND, Spacing::Even).unwrap();
        assert_eq!(ramp.len(), 200);
        assert!((seconds(ramp[100]) - 2.0_f64.sqrt()).abs() < 0.01);
        let poisson = arrivals(|_| 1_000.0, 100 * SECOND, Spacing::Poisson(3)).unwrap();
        assert!((poisson.len() as f64 - 100_000.0).abs() < 1_000.0, "{}", poisson.len());
        assert!(poisson.is_sorted() && poisson.last() < Some(&(100 * SECOND)));
        // The gaps of a Poisson process are exponential: their standard deviation is their mean.
        let gaps: Vec<f64> = poisson.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.02);
        assert!(arrivals(|_| f64::NAN, SECOND, Spacing::Even).is_err());
        assert!(arrivals(|_| -1.0, SECOND, Spacing::Even).is_err());
        assert!(arrivals(|_| 5.0, 0, Spacing::Even).unwrap().is_empty());
    }

    #[test]
    fn scenarios_have_the_sizes_they_say() {
        for (scenario, requests) in [
            (Scenario::Steady, 360),
            (Scenario::Ramp, 180),
            (Scenario::Spike, 60 + 150),
            (Scenario::SustainedPeak, 4_320),
            (Scenario::ThunderingHerd, 1_000),
            (Scenario::GeoMix, 8_640),
        ] {
            let times = scenario.arrivals(1_000, 1_000, Spacing::Even).unwrap();
            assert!(times.len().abs_diff(requests) <= 1, "{scenario:?}: {}", times.len());
            assert!(times.is_sorted());
        }
        assert!(Scenario::Steady.arrivals(0, 1, Spacing::Even).is_err());
        assert_eq!(Scenario::region_rate(9, 0), 0.0);
    }

    #[test]
    fn a_closed_loop_omits_what_an_open_one_suffers() {
        let server = StallingServer::new(500, 5 * SECOND..6 * SECOND);
        let times = arrivals(|_| 1_000.0, 10 * SECOND, Spacing::Even).unwrap();
        let open = server.open_loop(&times);
        let summary = LoadSummary::of(&open).unwrap().latency.unwrap();
        assert_eq!((summary.p50, summary.p90, summary.p99, summary.max), (0.5, 500.5, 950.5, 1_000.5));
        assert_eq!(open.iter().filter(|o| o.latency() > Some(500)).count(), 2_000);
        let closed = server.closed_loop(MILLISECOND, 10 * SECOND);
        let summary = LoadSummary::of(&closed).unwrap().latency.unwrap();
        assert_eq!((closed.len(), summary.p99, summary.max), (9_001, 0.5, 1_000.5));
    }

    /// First come, first served at c workers, by the recursion of Kiefer and Wolfowitz.
    fn by_hand(arrivals: &[Micros], workers: usize, time: Micros) -> Vec<Micros> {
        let mut free = vec![0; workers];
        arrivals
            .iter()
            .map(|&at| {
                free.sort_unstable();
                free[0] = free[0].max(at) + time;
                free[0]
            })
            .collect()
    }

    #[test]
    fn an_unbounded_service_is_the_textbook_queue() {
        let times = arrivals(|_| 300.0, 20 * SECOND, Spacing::Poisson(8)).unwrap();
        for workers in [1, 3, 5] {
            let service = Service::unbounded(workers);
            let run = simulate(&times, service, 1, |_| 12_000).unwrap();
            let finished: Vec<Micros> = run.outcomes.iter().map(|o| o.finished.unwrap()).collect();
            assert_eq!(finished, by_hand(&times, workers, 12_000));
            let spans = Spans(run.outcomes.iter().map(|o| (o.intended, o.finished.unwrap())).collect());
            assert!(spans.littles_law().unwrap().relative_gap() < 1e-12);
        }
    }

    #[test]
    fn one_seed_for_arrivals_and_service_doesnt_tie_them() {
        // M/M/1 at 80 %: 5 ms on average. Service times that follow the gaps would halve it.
        let times = arrivals(|_| 800.0, 400 * SECOND, Spacing::Poisson(42)).unwrap();
        let exponential = |rng: &mut SplitMix64| micros(rng.exponential(0.001));
        let run = simulate(&times, Service::unbounded(1), 42, exponential).unwrap();
        let mean = run.summary().unwrap().latency.unwrap().mean;
        assert!((mean - 5.0).abs() < 0.5, "{mean}");
    }

    #[test]
    fn a_bounded_queue_keeps_its_promise() {
        let mut rng = SplitMix64::new(2);
        for workers in 1..8 {
            let (limit, longest) = (100_000, 17_600);
            let service = Service {
                workers,
                queue_limit: Some(Service::queue_limit_for(limit, workers, longest)),
                autoscaler: None,
            };
            let rate = 100.0 + rng.uniform() * 900.0;
            let times = arrivals(|_| rate, 10 * SECOND, Spacing::Poisson(workers as u64)).unwrap();
            let run = simulate(&times, service, 1, |rng| 14_400 + rng.below(3_201) as Micros).unwrap();
            let summary = LoadSummary::of(&run.outcomes).unwrap();
            assert_eq!(summary.accepted + summary.shed, summary.offered);
            assert!(summary.latency.unwrap().max <= 100.0, "{workers}: {summary:?}");
        }
        assert_eq!(Service::queue_limit_for(100, 4, 1_000), 0);
        // No queue: a request is taken only by an idle worker.
        let service = Service { queue_limit: Some(0), ..Service::unbounded(4) };
        let run = simulate(&[0, 0, 0, 0, 0, 10], service, 1, |_| 10).unwrap();
        let accepted: Vec<bool> = run.outcomes.iter().map(|o| o.finished.is_some()).collect();
        assert_eq!(&accepted[..5], [true, true, true, true, false]);
    }

    #[test]
    fn the_autoscaler_follows_the_load_up_and_down() {
        let scaler = Autoscaler {
            target: 0.7,
            interval: 100 * MILLISECOND,
            start_delay: 50 * MILLISECOND,
            hold: SECOND,
            max_workers: 50,
        };
        let service = Service { autoscaler: Some(scaler), ..Service::unbounded(4) };
        let rate = |at| {
            if (2 * SECOND..6 * SECOND).contains(&at) { 1_000.0 } else { 50.0 }
        };
        let times = arrivals(rate, 10 * SECOND, Spacing::Even).unwrap();
        let run = simulate(&times, service, 1, |_| 10_000).unwrap();
        assert!(run.most_workers() >= 15 && run.most_in_system() > 4);
        let recovery = run.recovery(2 * SECOND, 10_000);
        assert!(recovery > 100_000 && recovery < SECOND, "{recovery}");
        assert_eq!(run.recovery(0, SECOND), 0);
        let at = |time| run.workers.iter().rev().find(|w| w.0 <= time).unwrap().1;
        assert_eq!(at(SECOND), 4);
        // 1,000 requests of 10 ms are 10 workers' work, at 70 % of 15 workers. The backlog of the first moments asks for more.
        assert_eq!(at(5 * SECOND), 15);
        assert_eq!(at(9 * SECOND), 4);
        assert!(run.workers.iter().all(|w| w.1 <= 50));
        let late = run.outcomes.iter().filter(|o| o.intended > 3 * SECOND);
        assert!(late.map(|o| o.latency().unwrap()).all(|latency| latency == 10_000));
        for bad in [Autoscaler { target: 0.0, ..scaler }, Autoscaler { interval: 0, ..scaler }] {
            let service = Service { autoscaler: Some(bad), ..Service::unbounded(4) };
            assert!(simulate(&times, service, 1, |_| 1).is_err());
        }
        assert!(simulate(&[2, 1], Service::unbounded(4), 1, |_| 1).is_err());
        assert!(simulate(&times, Service { workers: 0, ..Service::unbounded(4) }, 1, |_| 1).is_err());
        assert!(simulate(&[], service, 1, |_| 1).unwrap().outcomes.is_empty());
    }

    #[test]
    fn quantiles_over_time_leave_silent_slices_empty() {
        let outcomes = [(0, Some(5_000)), (1_000, Some(3_000)), (25_000, None), (31_000, Some(32_000))]
            .map(|(intended, finished)| Outcome { intended, finished });
        let slices = quantile_over_time(&outcomes, 1.0, 10_000).unwrap();
        assert_eq!(slices, [(0, Some(5.0)), (10_000, None), (20_000, None), (30_000, Some(1.0))]);
        assert!(quantile_over_time(&outcomes, 1.0, 0).is_err());
        assert_eq!(LoadSummary::of(&outcomes[2..3]).unwrap().latency, None);
    }

    #[test]
    fn real_load_is_all_answered_or_shed() {
        let times: Vec<Micros> = (0..200).map(|i| i * 200).collect();
        let answered = Mutex::new(Vec::new());
        let outcomes = drive(&times, 2, 1_000, |i| answered.lock().unwrap().push(i)).unwrap();
        let mut answered = answered.into_inner().unwrap();
        answered.sort_unstable();
        assert_eq!(answered, (0..200).collect::<Vec<_>>());
        assert!(outcomes.iter().all(|o| o.finished >= Some(o.intended)));
        // One slow worker and a queue of one: most are turned away, and all are accounted for.
        let slow = |_| std::thread::sleep(Duration::from_millis(20));
        let outcomes = drive(&times, 1, 1, slow).unwrap();
        let summary = LoadSummary::of(&outcomes).unwrap();
        assert_eq!(summary.accepted + summary.shed, 200);
        assert!(summary.shed > 100, "{summary:?}");
        assert!(drive(&times, 0, 1, slow).is_err());
    }
}
