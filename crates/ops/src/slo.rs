//! Service levels: indicators measured in windows of time (SLI), objectives for them (SLO), and the terms of a contract that say
//! which misses are breaches and what they cost (SLA). After Beyer et al., *Site Reliability Engineering* (2016), chapter 4, and
//! *The Site Reliability Workbook* (2018), chapter 5.
//!
//! A [`Recorder`] takes requests and measurements as they come and keeps them by window in mergeable form. [`Sla::settle`] then
//! judges every window of every term. A window in which nothing was measured has no value: it isn't good, and it isn't bad.
//!
//! Times are in microseconds from the start of the period.

use std::collections::BTreeMap;

use crate::OpsError;
use crate::clock::{HOUR, MINUTE, Micros, SECOND};
use crate::digest::Digest;
use crate::error::check;

/// 24 hours.
pub const DAY: Micros = 24 * HOUR;
/// Seven days.
pub const WEEK: Micros = 7 * DAY;
/// A quarter of 365 days.
pub const QUARTER: Micros = 365 * DAY / 4;

/// Relative error of the latency digests: half of what reports round to.
const DIGEST_ERROR: f64 = 0.005;

// ---------------------------------------------------------------------------------------------- budgets and burn rates

/// How long a service may be down in `period` and still reach the availability `target`, `0 <= target <= 1`; rounded to a
/// microsecond.
///
/// ```
/// use eas_ops::slo::{DAY, error_budget};
///
/// let year = error_budget(0.9999, 365 * DAY)?;
/// assert_eq!(year, 3_153_600_000); // 52.56 minutes
/// # Ok::<(), eas_ops::OpsError>(())
/// ```
pub fn error_budget(target: f64, period: Micros) -> Result<Micros, OpsError> {
    check_target(target)?;
    Ok(((1.0 - target) * period as f64).round() as Micros)
}

/// How many times faster than the objective allows failures come: 1 uses the budget up exactly at the end of the period.
/// `None` without requests.
pub fn burn_rate(failed: u64, requests: u64, target: f64) -> Result<Option<f64>, OpsError> {
    check_target(target)?;
    check("target", target, target < 1.0, "below 1: a target of 1 has no budget to burn")?;
    check("failed requests", failed, failed <= requests, "at most the number of requests")?;
    Ok((requests > 0).then(|| failed as f64 / requests as f64 / (1.0 - target)))
}

/// Share of the budget of `period` that a burn rate uses up in `span`.
pub fn budget_used(burn_rate: f64, span: Micros, period: Micros) -> f64 {
    burn_rate * span as f64 / period as f64
}

fn check_target(target: f64) -> Result<(), OpsError> {
    check("target", target, (0.0..=1.0).contains(&target), "between 0 and 1").map(|_| ())
}

/// Requests of one minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Minute {
    /// All of them, without those in excluded maintenance.
    pub requests: u64,
    /// Those that failed.
    pub failed: u64,
}

/// An alert on two windows at once: the long one says that enough of the budget has burnt to matter, the short one that it
/// still burns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BurnAlert {
    /// Burn rate that both windows must reach.
    pub factor: f64,
    /// Long window.
    pub long: Micros,
    /// Short window, by custom a twelfth of the long one.
    pub short: Micros,
}

impl BurnAlert {
    /// 2 % of a 30-day budget in an hour, and still burning in the last 5 minutes: wakes somebody up.
    pub const PAGE: Self = Self { factor: 14.4, long: HOUR, short: 5 * MINUTE };
    /// 5 % in six hours.
    pub const PAGE_SLOW: Self = Self { factor: 6.0, long: 6 * HOUR, short: 30 * MINUTE };
    /// 10 % in three days: a ticket for the morning.
    pub const TICKET: Self = Self { factor: 1.0, long: 3 * DAY, short: 6 * HOUR };

    /// When the alert fires over `minutes` of traffic: spans from the end of the first minute that raises it to the end of
    /// the first that doesn't. Windows at the beginning are as long as there is history.
    pub fn firings(&self, minutes: &[Minute], target: f64) -> Result<Vec<(Micros, Micros)>, OpsError> {
        let windows = [self.long / MINUTE, self.short / MINUTE];
        for minutes in windows {
            check("window of the alert", minutes, minutes > 0, "at least a minute")?;
        }
        let mut totals = vec![Minute::default()];
        for minute in minutes {
            let last = totals[totals.len() - 1];
            totals.push(Minute { requests: last.requests + minute.requests, failed: last.failed + minute.failed });
        }
        let mut firings: Vec<(Micros, Micros)> = Vec::new();
        let mut since = None;
        for end in 1..totals.len() {
            let mut fires = true;
            for window in windows {
                let start = totals[end.saturating_sub(window as usize)];
                let (failed, requests) = (totals[end].failed - start.failed, totals[end].requests - start.requests);
                fires &= burn_rate(failed, requests, target)?.is_some_and(|rate| rate >= self.factor);
            }
            let now = end as Micros * MINUTE;
            match (fires, since) {
                (true, None) => since = Some(now),
                (false, Some(start)) => {
                    firings.push((start, now));
                    since = None;
                }
                _ => {}
            }
        }
        firings.extend(since.map(|start| (start, minutes.len() as Micros * MINUTE)));
        Ok(firings)
    }
}

/// Share of the period's error budget that is left after each minute; negative once it is overspent. The budget is counted in
/// requests: `(1 - target)` of all of the period's.
pub fn budget_left(minutes: &[Minute], target: f64) -> Result<Vec<f64>, OpsError> {
    check_target(target)?;
    let requests: u64 = minutes.iter().map(|minute| minute.requests).sum();
    let budget = (1.0 - target) * requests as f64;
    check("error budget", budget, budget > 0.0, "above 0 requests")?;
    let mut failed = 0;
    Ok(minutes
        .iter()
        .map(|minute| {
            failed += minute.failed;
            1.0 - failed as f64 / budget
        })
        .collect())
}

// ---------------------------------------------------------------------------------------------- indicators and objectives

/// What machines run out of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// Processors.
    Cpu,
    /// Main memory.
    Memory,
    /// Disk space.
    Disk,
    /// Bandwidth.
    Network,
}

/// A service level indicator: a number that a window of time has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sli {
    /// Quantile of the latency of answered requests, ms.
    LatencyQuantile(f64),
    /// Mean recall of the probes with this `k`.
    RecallAtK(usize),
    /// Share of the requests that were answered.
    Availability,
    /// Quantile of the time from a write to its visibility, s.
    Freshness(f64),
    /// Answers a second, in windows in which at least `demand` a second were asked for: capacity that nobody asks for
    /// can't be seen to be missing.
    Throughput {
        /// Requests a second from which on a window counts.
        demand: f64,
    },
    /// Largest measured utilization of a resource, as a share.
    Utilization(Resource),
}

/// On which side of the target good values lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// `value < target`.
    Below,
    /// `value <= target`.
    AtMost,
    /// `value > target`.
    Above,
    /// `value >= target`.
    AtLeast,
}

impl Op {
    /// Whether `value` is good.
    pub fn holds(self, value: f64, target: f64) -> bool {
        match self {
            Self::Below => value < target,
            Self::AtMost => value <= target,
            Self::Above => value > target,
            Self::AtLeast => value >= target,
        }
    }
}

/// A service level objective: an indicator, its target, and the windows in which it is measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slo {
    /// The indicator.
    pub sli: Sli,
    /// Which side is good.
    pub op: Op,
    /// The target, in the indicator's unit.
    pub target: f64,
    /// Length of a window.
    pub window: Micros,
}

// ---------------------------------------------------------------------------------------------------------- measurement

/// Work on the service that was announced to its customers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Maintenance {
    /// When it begins.
    pub start: Micros,
    /// How long it takes.
    pub length: Micros,
    /// How long before the start it was announced.
    pub notice: Micros,
}

/// Which maintenance the contract doesn't count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaintenancePolicy {
    /// Notice that must have been given.
    pub notice: Micros,
    /// Time that may be excluded a quarter. What goes beyond counts like any other time.
    pub a_quarter: Micros,
}

impl Default for MaintenancePolicy {
    /// 4 hours a quarter with 7 days' notice.
    fn default() -> Self {
        Self { notice: 7 * DAY, a_quarter: 4 * HOUR }
    }
}

impl MaintenancePolicy {
    /// The spans that don't count, in order of time. A quarter's allowance goes to the works in the order in which they start.
    pub fn excluded(&self, works: &[Maintenance]) -> Vec<(Micros, Micros)> {
        let mut works: Vec<_> = works.iter().filter(|work| work.notice >= self.notice).collect();
        works.sort_by_key(|work| (work.start, work.length));
        let mut used: BTreeMap<u64, Micros> = BTreeMap::new();
        let mut spans = Vec::new();
        for work in works {
            let used = used.entry(work.start / QUARTER).or_default();
            let length = work.length.min(self.a_quarter - *used);
            *used += length;
            if length > 0 {
                spans.push((work.start, work.start.saturating_add(length)));
            }
        }
        spans
    }
}

/// What happened in one window.
#[derive(Debug, Clone)]
pub struct Window {
    /// When it begins.
    pub start: Micros,
    /// How long it is.
    pub length: Micros,
    requests: u64,
    failed: u64,
    /// Requests that one recorded request stands for.
    sample: u64,
    latency: Digest,
    lag: Digest,
    /// Sum and number of the recalls measured, by k.
    recall: BTreeMap<usize, (f64, u64)>,
    utilization: BTreeMap<Resource, f64>,
}

impl Window {
    fn new(start: Micros, length: Micros, sample: u64) -> Result<Self, OpsError> {
        Ok(Self {
            start,
            length,
            requests: 0,
            failed: 0,
            sample,
            latency: Digest::new(DIGEST_ERROR)?,
            lag: Digest::new(DIGEST_ERROR)?,
            recall: BTreeMap::new(),
            utilization: BTreeMap::new(),
        })
    }

    fn merge(&mut self, other: &Self) -> Result<(), OpsError> {
        self.requests += other.requests;
        self.failed += other.failed;
        self.latency.merge(&other.latency)?;
        self.lag.merge(&other.lag)?;
        for (&k, &(sum, count)) in &other.recall {
            let into = self.recall.entry(k).or_default();
            *into = (into.0 + sum, into.1 + count);
        }
        for (&resource, &share) in &other.utilization {
            let into = self.utilization.entry(resource).or_default();
            *into = into.max(share);
        }
        Ok(())
    }

    /// The indicator's value in this window; `None` when nothing was measured that it could be computed from.
    pub fn value(&self, sli: Sli) -> Option<f64> {
        let rate = |count: u64| (count * self.sample) as f64 / (self.length as f64 / SECOND as f64);
        match sli {
            Sli::LatencyQuantile(q) => self.latency.quantile(q),
            Sli::RecallAtK(k) => self.recall.get(&k).map(|&(sum, count)| sum / count as f64),
            Sli::Availability => (self.requests > 0).then(|| 1.0 - self.failed as f64 / self.requests as f64),
            Sli::Freshness(q) => self.lag.quantile(q),
            Sli::Throughput { demand } => (rate(self.requests) >= demand).then(|| rate(self.requests - self.failed)),
            Sli::Utilization(resource) => self.utilization.get(&resource).copied(),
        }
    }
}

/// Takes the requests and measurements of a period, and keeps them by window of a few minutes.
#[derive(Debug, Clone)]
pub struct Recorder {
    period: Micros,
    windows: Vec<Window>,
    minutes: Vec<Minute>,
    excluded: Vec<(Micros, Micros)>,
    excluded_requests: u64,
}

impl Recorder {
    /// Records `period` in windows of `window`, which divides it. One recorded request stands for `sample >= 1`; requests
    /// in the `excluded` spans ([`MaintenancePolicy::excluded`]) are counted apart.
    pub fn new(period: Micros, window: Micros, sample: u64, excluded: Vec<(Micros, Micros)>) -> Result<Self, OpsError> {
        check("window", window, window >= MINUTE, "at least a minute")?;
        let divides = period > 0 && period.is_multiple_of(window) && period.is_multiple_of(MINUTE);
        check("period", period, divides, "a whole number of windows and of minutes")?;
        check("requests that one stands for", sample, sample > 0, "at least 1")?;
        Ok(Self {
            period,
            windows: (0..period / window).map(|i| Window::new(i * window, window, sample)).collect::<Result<_, _>>()?,
            minutes: vec![Minute::default(); (period / MINUTE) as usize],
            excluded,
            excluded_requests: 0,
        })
    }

    fn window(&mut self, at: Micros) -> Result<&mut Window, OpsError> {
        check("time", at, at < self.period, "before the end of the period")?;
        let length = self.windows[0].length;
        Ok(&mut self.windows[(at / length) as usize])
    }

    /// A request at `at`: its latency in ms, or `None` when it failed. Failures have no latency: a quick error is not a
    /// quick answer.
    pub fn request(&mut self, at: Micros, latency_ms: Option<f64>) -> Result<(), OpsError> {
        if let Some(latency) = latency_ms {
            check("latency", latency, latency >= 0.0 && latency.is_finite(), "finite and not negative")?;
        }
        if self.excluded.iter().any(|&(start, end)| (start..end).contains(&at)) {
            self.excluded_requests += 1;
            return Ok(());
        }
        let window = self.window(at)?;
        window.requests += 1;
        match latency_ms {
            Some(latency) => window.latency.add(latency),
            None => window.failed += 1,
        }
        let minute = &mut self.minutes[(at / MINUTE) as usize];
        minute.requests += 1;
        minute.failed += u64::from(latency_ms.is_none());
        Ok(())
    }

    /// A probe whose true neighbours are known found this share of `k` of them.
    pub fn recall(&mut self, at: Micros, k: usize, recall: f64) -> Result<(), OpsError> {
        check("recall", recall, (0.0..=1.0).contains(&recall), "between 0 and 1")?;
        let (sum, count) = self.window(at)?.recall.entry(k).or_default();
        *sum += recall;
        *count += 1;
        Ok(())
    }

    /// A write became visible this many seconds after it was accepted.
    pub fn lag(&mut self, at: Micros, seconds: f64) -> Result<(), OpsError> {
        check("lag", seconds, seconds >= 0.0 && seconds.is_finite(), "finite and not negative")?;
        self.window(at)?.lag.add(seconds);
        Ok(())
    }

    /// A resource was seen this busy, as a share.
    pub fn utilization(&mut self, at: Micros, resource: Resource, share: f64) -> Result<(), OpsError> {
        check("utilization", share, (0.0..=1.0).contains(&share), "between 0 and 1")?;
        let highest = self.window(at)?.utilization.entry(resource).or_default();
        *highest = highest.max(share);
        Ok(())
    }

    /// Requests by minute, for burn rates.
    pub fn minutes(&self) -> &[Minute] {
        &self.minutes
    }

    /// Requests during maintenance that doesn't count.
    pub fn excluded_requests(&self) -> u64 {
        self.excluded_requests
    }

    /// The windows of `length`, a multiple of the recorded ones, each merged from them. A last window that the period
    /// doesn't fill is left out: it can't be judged yet.
    pub fn windows(&self, length: Micros) -> Result<Vec<Window>, OpsError> {
        let base = self.windows[0].length;
        let multiple = length > 0 && length.is_multiple_of(base);
        check("window", length, multiple, "a multiple of the recorded windows")?;
        let parts = (length / base) as usize;
        self.windows
            .chunks_exact(parts)
            .map(|parts| {
                let mut merged = parts[0].clone();
                merged.length = length;
                parts[1..].iter().try_for_each(|part| merged.merge(part))?;
                Ok(merged)
            })
            .collect()
    }
}

// --------------------------------------------------------------------------------------------------------- the contract

/// What a breach is worth to the customer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Remedy {
    /// This share of the month's bill, once a month.
    Credit(f64),
    /// A written analysis of the cause.
    Report,
    /// Nothing: the target is for information.
    Informational,
}

/// One term of a contract.
#[derive(Debug, Clone, PartialEq)]
pub struct Term {
    /// What reports call it.
    pub name: &'static str,
    /// What is promised.
    pub slo: Slo,
    /// How many bad windows in a row are no breach yet.
    pub tolerated: usize,
    /// What a breach is worth.
    pub remedy: Remedy,
}

/// A service level agreement.
#[derive(Debug, Clone, PartialEq)]
pub struct Sla {
    /// Its terms.
    pub terms: Vec<Term>,
}

/// A run of bad windows longer than the term tolerates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breach {
    /// Start of its first bad window.
    pub start: Micros,
    /// Number of bad windows.
    pub windows: usize,
}

/// One term, judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Settlement {
    /// The term.
    pub term: Term,
    /// Windows that were judged.
    pub judged: usize,
    /// Windows in which nothing was measured.
    pub unmeasured: usize,
    /// Windows that missed the target.
    pub bad: usize,
    /// Worst value of a window; `None` when none was measured.
    pub worst: Option<f64>,
    /// Breaches, in order of time.
    pub breaches: Vec<Breach>,
}

impl Settlement {
    /// Share of the month's bill that is given back for this term.
    pub fn credit(&self) -> f64 {
        match self.term.remedy {
            Remedy::Credit(share) if !self.breaches.is_empty() => share,
            _ => 0.0,
        }
    }
}

impl Sla {
    /// The terms of a vector search service: latency, recall, availability and capacity, and four limits of utilization for
    /// information.
    pub fn vector_search() -> Self {
        let term = |name, sli, op, target, window, tolerated, remedy| Term {
            name,
            slo: Slo { sli, op, target, window },
            tolerated,
            remedy,
        };
        let utilization = |name, resource, limit| {
            let sli = Sli::Utilization(resource);
            term(name, sli, Op::AtMost, limit, 5 * MINUTE, 3, Remedy::Informational)
        };
        let qps = 100_000.0;
        Self {
            terms: vec![
                term(
                    "p99 latency, ms",
                    Sli::LatencyQuantile(0.99),
                    Op::Below,
                    100.0,
                    5 * MINUTE,
                    3,
                    Remedy::Credit(0.10),
                ),
                term(
                    "p50 latency, ms",
                    Sli::LatencyQuantile(0.5),
                    Op::Below,
                    20.0,
                    5 * MINUTE,
                    5,
                    Remedy::Informational,
                ),
                term("recall@10", Sli::RecallAtK(10), Op::Above, 0.95, WEEK, 1, Remedy::Report),
                term("availability", Sli::Availability, Op::AtLeast, 0.9999, 30 * DAY, 0, Remedy::Credit(0.25)),
                // Four hours to scale: 48 windows of 5 minutes.
                term(
                    "queries a second",
                    Sli::Throughput { demand: qps },
                    Op::AtLeast,
                    qps,
                    5 * MINUTE,
                    48,
                    Remedy::Informational,
                ),
                utilization("CPU", Resource::Cpu, 0.70),
                utilization("memory", Resource::Memory, 0.85),
                utilization("disk", Resource::Disk, 0.80),
                utilization("network", Resource::Network, 0.60),
            ],
        }
    }

    /// Judges every complete window of every term.
    pub fn settle(&self, recorder: &Recorder) -> Result<Vec<Settlement>, OpsError> {
        self.terms
            .iter()
            .map(|term| {
                let windows = recorder.windows(term.slo.window)?;
                let values: Vec<Option<f64>> = windows.iter().map(|window| window.value(term.slo.sli)).collect();
                Ok(settle(term, &values))
            })
            .collect()
    }
}

/// Judges one term on the values of its windows, in order of time. A window without a value neither continues nor ends a
/// run of bad ones: silence is no proof of recovery.
pub fn settle(term: &Term, values: &[Option<f64>]) -> Settlement {
    let slo = &term.slo;
    let mut breaches = Vec::new();
    let mut run: Option<Breach> = None;
    let mut bad = 0;
    for (i, value) in values.iter().enumerate() {
        match value {
            None => {}
            Some(value) if slo.op.holds(*value, slo.target) => {
                breaches.extend(run.take().filter(|run| run.windows > term.tolerated));
            }
            Some(_) => {
                bad += 1;
                let start = i as Micros * slo.window;
                run.get_or_insert(Breach { start, windows: 0 }).windows += 1;
            }
        }
    }
    breaches.extend(run.filter(|run| run.windows > term.tolerated));
    let measured = values.iter().flatten().copied();
    let judged = measured.clone().count();
    let worst = match slo.op {
        Op::Below | Op::AtMost => measured.max_by(f64::total_cmp),
        Op::Above | Op::AtLeast => measured.min_by(f64::total_cmp),
    };
    Settlement { term: term.clone(), judged, unmeasured: values.len() - judged, bad, worst, breaches }
}

/// The whole credit of a month as a share of its bill, at most all of it.
pub fn total_credit(settlements: &[Settlement]) -> f64 {
    settlements.iter().map(Settlement::credit).sum::<f64>().min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latency_term() -> Term {
        Sla::vector_search().terms[0].clone()
    }

    #[test]
    fn budgets_by_the_number_of_nines() {
        for (target, minutes) in [(0.9, 52_560.0), (0.99, 5_256.0), (0.999, 525.6), (0.9999, 52.56), (0.99999, 5.256)] {
            assert_eq!(error_budget(target, 365 * DAY).unwrap() as f64 / MINUTE as f64, minutes);
        }
        assert_eq!(error_budget(0.9999, 30 * DAY).unwrap() as f64 / MINUTE as f64, 4.32);
        assert!((budget_used(14.4, HOUR, 30 * DAY) - 0.02).abs() < 1e-15);
        assert!(error_budget(1.01, DAY).is_err());
        assert!(error_budget(f64::NAN, DAY).is_err());
        assert!((burn_rate(144, 10_000, 0.999).unwrap().unwrap() - 14.4).abs() < 1e-9);
        assert_eq!(burn_rate(0, 0, 0.999).unwrap(), None);
        assert!(burn_rate(1, 10, 1.0).is_err());
        assert!(burn_rate(11, 10, 0.9).is_err());
    }

    #[test]
    fn three_bad_windows_are_no_breach_and_four_are() {
        let (good, bad) = (Some(50.0), Some(150.0));
        let breaches = |values: &[Option<f64>]| settle(&latency_term(), values).breaches;
        assert_eq!(breaches(&[good, bad, bad, bad, good, bad, bad, bad, good]), []);
        let four = breaches(&[good, bad, bad, bad, bad, good]);
        assert_eq!(four, [Breach { start: 5 * MINUTE, windows: 4 }]);
        // A window without traffic doesn't end the run, and one exactly at the target is bad.
        assert_eq!(breaches(&[bad, bad, None, Some(100.0), bad]).len(), 1);
        assert_eq!(breaches(&[bad, bad, None, bad, None, good]).len(), 0);
        let none = settle(&latency_term(), &[None, None]);
        assert_eq!((none.judged, none.unmeasured, none.worst, none.credit()), (0, 2, None, 0.0));
        let settled = settle(&latency_term(), &[good, bad, bad, Some(170.0), bad]);
        assert_eq!((settled.bad, settled.worst, settled.credit()), (4, Some(170.0), 0.10));
    }

    #[test]
    fn windows_merge_and_an_incomplete_one_is_left_out() {
        let mut recorder = Recorder::new(30 * DAY, 5 * MINUTE, 1, Vec::new()).unwrap();
        assert_eq!(recorder.windows(WEEK).unwrap().len(), 4);
        for minute in 0..20 {
            recorder.request(minute * MINUTE, Some(minute as f64)).unwrap();
        }
        recorder.request(MINUTE, None).unwrap();
        recorder.recall(HOUR, 10, 0.8).unwrap();
        recorder.recall(2 * DAY, 10, 1.0).unwrap();
        recorder.lag(0, 3.0).unwrap();
        recorder.utilization(0, Resource::Disk, 0.5).unwrap();
        recorder.utilization(DAY, Resource::Disk, 0.7).unwrap();
        let first = &recorder.windows(WEEK).unwrap()[0];
        let p50 = first.value(Sli::LatencyQuantile(0.5)).unwrap();
        assert!((p50 / 9.0 - 1.0).abs() < 0.006, "{p50}");
        assert_eq!(first.value(Sli::Availability), Some(1.0 - 1.0 / 21.0));
        assert_eq!(first.value(Sli::RecallAtK(10)), Some(0.9));
        assert_eq!(first.value(Sli::RecallAtK(5)), None);
        assert_eq!(first.value(Sli::Utilization(Resource::Disk)), Some(0.7));
        assert!(first.value(Sli::Freshness(0.5)).is_some());
        let quiet = &recorder.windows(5 * MINUTE).unwrap()[100];
        for sli in [Sli::LatencyQuantile(0.99), Sli::Availability, Sli::Freshness(0.9)] {
            assert_eq!(quiet.value(sli), None, "{sli:?}");
        }
        assert_eq!(quiet.value(Sli::Throughput { demand: 1.0 }), None);
    }

    #[test]
    fn throughput_counts_only_where_it_is_asked_for() {
        let mut recorder = Recorder::new(HOUR, 5 * MINUTE, 100, Vec::new()).unwrap();
        for i in 0..300 {
            recorder.request(i * SECOND, if i < 30 { None } else { Some(1.0) }).unwrap();
        }
        let window = &recorder.windows(5 * MINUTE).unwrap()[0];
        assert_eq!(window.value(Sli::Throughput { demand: 100.0 }), Some(90.0));
        assert_eq!(window.value(Sli::Throughput { demand: 101.0 }), None);
    }

    #[test]
    fn maintenance_is_excluded_with_notice_and_within_the_allowance() {
        let work = |start, length, notice| Maintenance { start, length, notice };
        let policy = MaintenancePolicy::default();
        let works = [
            work(20 * DAY, 3 * HOUR, 10 * DAY),
            work(10 * DAY, 2 * HOUR, 7 * DAY),
            work(5 * DAY, HOUR, 6 * DAY), // announced too late
            work(100 * DAY, 5 * HOUR, 30 * DAY),
        ];
        assert_eq!(
            policy.excluded(&works),
            [
                (10 * DAY, 10 * DAY + 2 * HOUR),
                (20 * DAY, 20 * DAY + 2 * HOUR), // two of four hours were used
                (100 * DAY, 100 * DAY + 4 * HOUR),
            ]
        );
        let mut recorder = Recorder::new(30 * DAY, 5 * MINUTE, 1, policy.excluded(&works)).unwrap();
        recorder.request(0, Some(1.0)).unwrap();
        recorder.request(20 * DAY + HOUR, None).unwrap();
        let month = &recorder.windows(30 * DAY).unwrap()[0];
        assert_eq!(month.value(Sli::Availability), Some(1.0));
        assert_eq!(recorder.excluded_requests(), 1);
        recorder.request(20 * DAY + 2 * HOUR, None).unwrap();
        assert_eq!(recorder.windows(30 * DAY).unwrap()[0].value(Sli::Availability), Some(0.5));
    }

    #[test]
    fn the_page_fires_within_minutes_of_an_outage_and_stops_soon_after() {
        let minute = |failed| Minute { requests: 1_000, failed };
        let mut minutes = vec![minute(0); 600];
        minutes[300..307].fill(minute(1_000));
        let firings = BurnAlert::PAGE.firings(&minutes, 0.999).unwrap();
        // One bad minute is 1/60 of the hour, burn rate 16.7; five good minutes later the short window is clean.
        assert_eq!(firings, [(301 * MINUTE, 312 * MINUTE)]);
        // Failures at the allowed rate burn at 1 and wake nobody.
        let steady = vec![minute(1); 600];
        assert!(BurnAlert::PAGE.firings(&steady, 0.999).unwrap().is_empty());
        assert!(BurnAlert::PAGE_SLOW.firings(&steady, 0.999).unwrap().is_empty());
        // An outage that still goes on at the end.
        minutes[590..].fill(minute(500));
        assert_eq!(BurnAlert::PAGE.firings(&minutes, 0.999).unwrap().last(), Some(&(592 * MINUTE, 600 * MINUTE)));
        let silent = vec![Minute::default(); 100];
        assert!(BurnAlert::PAGE.firings(&silent, 0.999).unwrap().is_empty());
        let too_short = BurnAlert { short: SECOND, ..BurnAlert::PAGE };
        assert!(too_short.firings(&minutes, 0.999).is_err());
        let left = budget_left(&minutes, 0.98).unwrap();
        assert_eq!(left[299], 1.0);
        assert!((left[599]).abs() < 1e-9, "{}", left[599]); // 12,000 of 600,000 failed: 2 %
        assert!(budget_left(&silent, 0.99).is_err());
    }

    #[test]
    fn bad_measurements_are_refused() {
        let mut recorder = Recorder::new(HOUR, 5 * MINUTE, 1, Vec::new()).unwrap();
        assert!(recorder.request(HOUR, Some(1.0)).is_err());
        assert!(recorder.request(0, Some(f64::NAN)).is_err());
        assert!(recorder.request(0, Some(-1.0)).is_err());
        assert!(recorder.recall(0, 10, 1.1).is_err());
        assert!(recorder.lag(0, f64::INFINITY).is_err());
        assert!(recorder.utilization(0, Resource::Cpu, 70.0).is_err());
        assert!(recorder.windows(7 * MINUTE).is_err());
        assert!(recorder.windows(0).is_err());
        assert!(Recorder::new(HOUR, 7 * MINUTE, 1, Vec::new()).is_err());
        assert!(Recorder::new(0, MINUTE, 1, Vec::new()).is_err());
        assert!(Recorder::new(HOUR, MINUTE, 0, Vec::new()).is_err());
        assert!(recorder.windows(2 * HOUR).unwrap().is_empty());
    }
}
