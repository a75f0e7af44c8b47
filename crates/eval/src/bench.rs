//! A benchmark of anything that finds nearest neighbours: recall as a distribution, latency as it would be met under load, throughput by
//! threads.
//!
//! Times are measured with a monotonic clock, after searches that don't count. What is measured is service time; what a user waits is more,
//! since requests come when they please and queue: [`open_loop`] adds that wait. A loop that sends the next request when the last is answered
//! never sees it (Tene's "coordinated omission").

use std::time::{Duration, Instant};

use eas_tensor::Matrix;

use crate::EvalError;
use crate::error::{not_empty, same_length};
use crate::latency::nearest_rank;
use crate::recall::RecallReport;

/// Something to benchmark.
pub trait Subject: Sync {
    /// The ids of the `k` nearest, best first.
    fn search(&self, query: &[f32], k: usize) -> Vec<u64>;
}

/// What to ask, and what the right answers are.
#[derive(Debug, Clone, Copy)]
pub struct Workload<'a> {
    /// Queries that are not in the index, shape `(q, dim)`. One that is would be its own nearest neighbour and the easiest to find.
    pub queries: &'a Matrix,
    /// The true neighbours of each query, best first, at least `k` of them.
    pub truth: &'a [Vec<u64>],
    /// Neighbours to ask for.
    pub k: usize,
    /// Searches before the clock starts.
    pub warmup: usize,
    /// Times that all queries are asked.
    pub repeats: usize,
}

/// What [`Workload::run`] measured.
#[derive(Debug, Clone, PartialEq)]
pub struct BenchReport {
    /// Recall@k.
    pub recall: RecallReport,
    /// Service time of every search, repeat by repeat.
    pub service: Vec<Duration>,
    /// Median service time of each repeat: how far apart they are says how far to trust any of them.
    pub medians: Vec<Duration>,
}

impl Workload<'_> {
    /// Asks one query after the other, `repeats` times.
    pub fn run(&self, subject: &dyn Subject) -> Result<BenchReport, EvalError> {
        same_length("queries", self.queries.rows(), self.truth.len())?;
        not_empty("queries", self.truth)?;
        if self.repeats == 0 || self.k == 0 {
            return Err(EvalError::Argument {
                name: "repeats and k",
                got: format!("{} and {}", self.repeats, self.k),
                expected: "at least 1",
            });
        }
        let truth: Vec<Vec<u64>> = self.truth.iter().map(|ids| ids.iter().take(self.k).copied().collect()).collect();
        for row in 0..self.warmup {
            subject.search(self.queries.row(row % self.queries.rows()), self.k);
        }
        let (mut service, mut medians, mut found) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.repeats {
            found.clear();
            let first = service.len();
            for query in self.queries.iter_rows() {
                let start = Instant::now();
                let ids = subject.search(query, self.k);
                service.push(start.elapsed());
                found.push(ids);
            }
            medians.push(Quantiles::of(&service[first..])?.p50);
        }
        Ok(BenchReport { recall: RecallReport::new(&found, &truth, 1)?, service, medians })
    }
}

/// Quantiles of some times, by nearest rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantiles {
    /// Half of the times are at most this.
    pub p50: Duration,
    /// 95 of 100.
    pub p95: Duration,
    /// 99 of 100.
    pub p99: Duration,
    /// 999 of 1,000.
    pub p999: Duration,
    /// The mean.
    pub mean: Duration,
}

impl Quantiles {
    /// Of one time or more.
    pub fn of(times: &[Duration]) -> Result<Self, EvalError> {
        not_empty("times", times)?;
        let mut sorted = times.to_vec();
        sorted.sort_unstable();
        Ok(Self {
            p50: nearest_rank(&sorted, 0.5)?,
            p95: nearest_rank(&sorted, 0.95)?,
            p99: nearest_rank(&sorted, 0.99)?,
            p999: nearest_rank(&sorted, 0.999)?,
            mean: times.iter().sum::<Duration>() / times.len() as u32,
        })
    }

    /// True when they don't fall from one to the next.
    pub fn ordered(&self) -> bool {
        self.p50 <= self.p95 && self.p95 <= self.p99 && self.p99 <= self.p999
    }
}

/// What users wait when requests arrive every `interval`, whether or not the one before is answered, at a server that does one after the
/// other in these service times: wait in the queue and service (Lindley 1952). Latency counts from the arrival.
///
/// ```
/// use std::time::Duration;
/// use eas_eval::bench::open_loop;
///
/// let ms = Duration::from_millis;
/// assert_eq!(open_loop(&[ms(1), ms(5), ms(1), ms(1)], ms(2)), [ms(1), ms(5), ms(4), ms(3)]);
/// ```
pub fn open_loop(service: &[Duration], interval: Duration) -> Vec<Duration> {
    let mut wait = Duration::ZERO;
    service
        .iter()
        .map(|time| {
            let latency = wait + *time;
            wait = latency.saturating_sub(interval);
            latency
        })
        .collect()
}

/// Throughput of several threads that each search without a pause.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Throughput {
    /// Threads.
    pub threads: usize,
    /// Searches a second, all threads together.
    pub qps: f64,
    /// Mean time of a search.
    pub mean: Duration,
}

impl Throughput {
    /// Searches in progress at a time by Little's law, `qps x mean`: the number of threads, if the clock and the count are right.
    pub fn in_flight(&self) -> f64 {
        self.qps * self.mean.as_secs_f64()
    }

    /// Dollars for a million searches on a machine of this price that does nothing else.
    pub fn usd_per_million(&self, usd_hour: f64) -> f64 {
        usd_hour / 3_600.0 / self.qps * 1e6
    }
}

/// Every one of `threads >= 1` threads asks all queries, each starting at another one.
pub fn throughput(subject: &dyn Subject, queries: &Matrix, k: usize, threads: usize) -> Result<Throughput, EvalError> {
    not_empty("queries", queries.as_slice())?;
    if threads == 0 {
        return Err(EvalError::Argument { name: "threads", got: "0".into(), expected: "at least 1" });
    }
    let start = Instant::now();
    let busy: Duration = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || {
                    let mut busy = Duration::ZERO;
                    for step in 0..queries.rows() {
                        let start = Instant::now();
                        subject.search(queries.row((step + thread * 7) % queries.rows()), k);
                        busy += start.elapsed();
                    }
                    busy
                })
            })
            .collect();
        workers.into_iter().filter_map(|worker| worker.join().ok()).sum()
    });
    let searches = threads * queries.rows();
    Ok(Throughput { threads, qps: searches as f64 / start.elapsed().as_secs_f64(), mean: busy / searches as u32 })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers by the first value of the query, after a nap.
    struct Napper(Duration);

    impl Subject for Napper {
        fn search(&self, query: &[f32], k: usize) -> Vec<u64> {
            std::thread::sleep(self.0);
            (0..k as u64).map(|i| query[0] as u64 + i).collect()
        }
    }

    #[test]
    fn recall_and_times_are_those_of_the_subject() {
        let queries = Matrix::from_rows(&[[10.0], [20.0]]).unwrap();
        let truth = [vec![10, 11, 12], vec![20, 99, 21]];
        let workload = Workload { queries: &queries, truth: &truth, k: 2, warmup: 1, repeats: 3 };
        let report = workload.run(&Napper(Duration::from_millis(2))).unwrap();
        assert_eq!(report.recall.per_query, [1.0, 0.5]);
        assert_eq!((report.service.len(), report.medians.len()), (6, 3));
        assert!(report.service.iter().all(|time| *time >= Duration::from_millis(2)));
        assert!(Quantiles::of(&report.service).unwrap().ordered());
    }

    #[test]
    fn threads_in_flight_are_the_threads() {
        let queries = Matrix::zeros(30, 1);
        let rate = throughput(&Napper(Duration::from_millis(2)), &queries, 1, 3).unwrap();
        assert!((rate.in_flight() / 3.0 - 1.0).abs() < 0.2, "{rate:?}");
        assert!((rate.usd_per_million(3.6) - 1e3 / rate.qps).abs() < 1e-6);
        assert!(throughput(&Napper(Duration::ZERO), &queries, 1, 0).is_err());
    }

    #[test]
    fn quantiles_are_by_nearest_rank() {
        let times: Vec<Duration> = (1..=1_000).rev().map(Duration::from_millis).collect();
        let quantiles = Quantiles::of(&times).unwrap();
        let expected = [500, 950, 990, 999].map(Duration::from_millis);
        assert_eq!([quantiles.p50, quantiles.p95, quantiles.p99, quantiles.p999], expected);
        assert_eq!(quantiles.mean, Duration::from_micros(500_500));
        assert!(Quantiles::of(&[]).is_err());
        assert_eq!(Quantiles::of(&times[..1]).unwrap().p999, Duration::from_secs(1));
    }

    #[test]
    fn a_stall_delays_those_behind_it_in_the_open_loop_only() {
        let mut service = vec![Duration::from_micros(500); 1_000];
        service[100] = Duration::from_millis(100);
        let latency = open_loop(&service, Duration::from_millis(1));
        // The queue of 99.5 ms shrinks by half a millisecond a request: 199 of them wait.
        assert_eq!(latency.iter().filter(|time| **time > Duration::from_micros(500)).count(), 199);
        assert_eq!(service.iter().filter(|time| **time > Duration::from_micros(500)).count(), 1);
    }

    #[test]
    fn bad_input_is_refused() {
        let queries = Matrix::zeros(2, 1);
        let truth = [vec![0], vec![0]];
        let good = Workload { queries: &queries, truth: &truth, k: 1, warmup: 0, repeats: 1 };
        let nap = Napper(Duration::ZERO);
        assert!(good.run(&nap).is_ok());
        assert!(Workload { repeats: 0, ..good }.run(&nap).is_err());
        assert!(Workload { k: 0, ..good }.run(&nap).is_err());
        assert!(Workload { truth: &truth[..1], ..good }.run(&nap).is_err());
    }
}
