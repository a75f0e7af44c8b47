//! [`WorkerPool`]: a fixed number of threads that answer queries against one shared index.
//!
//! A pool raises throughput up to the number of cores and makes no single answer faster. With more queries than workers a
//! query waits in line first, and its latency says so: it is measured from submission to reply.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use eas_ann::{AnnError, Hit, VectorIndex};
use eas_eval::latency::LatencySummary;
use eas_tensor::Matrix;

use crate::OpsError;
use crate::error::check;

struct Job {
    id: usize,
    query: Vec<f32>,
    k: usize,
    submitted: Instant,
    reply: Sender<QueryResponse>,
}

/// The answer to one query, with its times.
#[derive(Debug)]
pub struct QueryResponse {
    /// Position of the query in its submission.
    pub id: usize,
    /// The hits, or why this query has none. One bad query doesn't spoil the others.
    pub hits: Result<Vec<Hit>, AnnError>,
    /// Time in line.
    pub queued: Duration,
    /// Time at a worker.
    pub service: Duration,
    /// From submission to reply: both of the above.
    pub latency: Duration,
}

/// Threads that share an index. Dropping the pool lets them finish their queries and waits for them.
pub struct WorkerPool {
    jobs: Option<Sender<Job>>,
    workers: Vec<JoinHandle<()>>,
    dim: usize,
}

impl WorkerPool {
    /// Starts `workers >= 1` threads.
    pub fn new(index: Arc<dyn VectorIndex>, workers: usize) -> Result<Self, OpsError> {
        check("workers", workers, workers > 0, "at least 1")?;
        let (jobs, queue) = channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        Ok(Self {
            jobs: Some(jobs),
            dim: index.dim(),
            workers: std::iter::repeat_n(index, workers)
                .map(|index| {
                    let queue = Arc::clone(&queue);
                    std::thread::spawn(move || work(index.as_ref(), &queue))
                })
                .collect(),
        })
    }

    /// Number of threads.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Answers each row of `queries`, all submitted at once; responses in the order of the rows.
    pub fn run(&self, queries: &Matrix, k: usize) -> Result<Vec<QueryResponse>, OpsError> {
        check("dimension of the queries", queries.dim(), queries.dim() == self.dim, "that of the index")?;
        let (reply, replies) = channel();
        let jobs = self.jobs.as_ref().ok_or(OpsError::Stopped("pool"))?;
        for (id, query) in queries.iter_rows().enumerate() {
            let job = Job { id, query: query.to_vec(), k, submitted: Instant::now(), reply: reply.clone() };
            jobs.send(job).map_err(|_| OpsError::Stopped("pool"))?;
        }
        drop(reply);
        let mut responses: Vec<QueryResponse> = replies.iter().collect();
        if responses.len() < queries.rows() {
            return Err(OpsError::Panicked("worker of the pool"));
        }
        responses.sort_by_key(|response| response.id);
        Ok(responses)
    }
}

impl Drop for WorkerPool {
    fn drop(&mut self) {
        self.jobs = None; // closes the queue
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
    }
}

/// The life of one worker: takes the next job until the queue is closed. A search that panics loses its own reply, which
/// [`WorkerPool::run`] reports, and not the worker.
fn work(index: &dyn VectorIndex, queue: &Mutex<Receiver<Job>>) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else { return };
        let start = Instant::now();
        if let Ok(hits) = catch_unwind(AssertUnwindSafe(|| index.search(&job.query, job.k))) {
            let (queued, service) = (start - job.submitted, start.elapsed());
            // Nobody waits any more if the caller has gone.
            let _ = job.reply.send(QueryResponse { id: job.id, hits, queued, service, latency: queued + service });
        }
    }
}

/// What a run of queries amounted to. All times in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ThroughputReport {
    /// Queries a second.
    pub qps: f64,
    /// Latencies from submission to reply.
    pub latency: LatencySummary,
    /// How many times faster all queries were done than one after the other.
    pub speedup: f64,
}

impl ThroughputReport {
    /// Sums up the responses to a run that took `elapsed`, where the same queries in sequence take `sequential`. Speed-up is
    /// a ratio of these two times for the same work; a mean latency has no place in it.
    pub fn of(responses: &[QueryResponse], elapsed: Duration, sequential: Duration) -> Result<Self, OpsError> {
        let seconds = elapsed.as_secs_f64();
        check("elapsed time", format!("{elapsed:?}"), seconds > 0.0, "longer than 0")?;
        let latencies: Vec<f64> = responses.iter().map(|r| r.latency.as_secs_f64() * 1e3).collect();
        Ok(Self {
            qps: responses.len() as f64 / seconds,
            latency: LatencySummary::of(&latencies)?,
            speedup: sequential.as_secs_f64() / seconds,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use eas_ann::{FlatIndex, Metric};
    use eas_tensor::rng::SplitMix64;

    use super::*;

    fn vectors(n: usize, seed: u64) -> Matrix {
        let mut rng = SplitMix64::new(seed);
        Matrix::from_vec(n, 16, (0..n * 16).map(|_| rng.normal() as f32).collect()).unwrap()
    }

    fn flat(n: usize) -> FlatIndex {
        let mut index = FlatIndex::new(16, Metric::Cosine).unwrap();
        index.add(&(0..n as u64).collect::<Vec<_>>(), &vectors(n, 1)).unwrap();
        index
    }

    #[test]
    fn responses_equal_sequential_search_in_order_for_any_number_of_workers() {
        let index = Arc::new(flat(500));
        let queries = vectors(100, 2);
        for workers in [1, 2, 4, 9] {
            let pool = WorkerPool::new(index.clone(), workers).unwrap();
            let responses = pool.run(&queries, 7).unwrap();
            assert_eq!(responses.len(), 100);
            for (i, response) in responses.iter().enumerate() {
                assert_eq!(response.id, i);
                assert_eq!(response.hits.as_ref().unwrap(), &index.search(queries.row(i), 7).unwrap());
                assert_eq!(response.latency, response.queued + response.service);
            }
            // The pool can be used again, and by two threads at once.
            std::thread::scope(|scope| {
                let runs: Vec<_> = (0..2).map(|_| scope.spawn(|| pool.run(&queries, 1).unwrap())).collect();
                for run in runs {
                    assert_eq!(run.join().unwrap().len(), 100);
                }
            });
        }
    }

    #[test]
    fn a_bad_query_spoils_only_itself() {
        let pool = WorkerPool::new(Arc::new(flat(50)), 2).unwrap();
        let mut queries = vectors(3, 3).as_slice().to_vec();
        queries[16] = f32::NAN;
        let responses = pool.run(&Matrix::from_vec(3, 16, queries).unwrap(), 5).unwrap();
        let answered: Vec<bool> = responses.iter().map(|r| r.hits.is_ok()).collect();
        assert_eq!(answered, [true, false, true]);
        assert!(pool.run(&Matrix::zeros(1, 3), 5).is_err());
        assert!(WorkerPool::new(Arc::new(flat(5)), 0).is_err());
        assert!(pool.run(&Matrix::zeros(0, 16), 5).unwrap().is_empty());
        assert!(ThroughputReport::of(&[], Duration::from_secs(1), Duration::from_secs(1)).is_err());
    }

    /// An index whose search panics on a negative first value.
    struct Fragile(FlatIndex);

    impl VectorIndex for Fragile {
        fn dim(&self) -> usize {
            self.0.dim()
        }
        fn metric(&self) -> Metric {
            self.0.metric()
        }
        fn len(&self) -> usize {
            self.0.len()
        }
        fn contains(&self, id: u64) -> bool {
            self.0.contains(id)
        }
        fn add(&mut self, ids: &[u64], vectors: &Matrix) -> Result<(), AnnError> {
            self.0.add(ids, vectors)
        }
        fn remove(&mut self, ids: &[u64]) -> Result<usize, AnnError> {
            self.0.remove(ids)
        }
        fn search_where(&self, q: &[f32], k: usize, keep: &(dyn Fn(u64) -> bool + Sync)) -> Result<Vec<Hit>, AnnError> {
            assert!(q[0] >= 0.0, "negative");
            self.0.search_where(q, k, keep)
        }
        fn save(&self, path: &Path) -> Result<(), AnnError> {
            self.0.save(path)
        }
        fn load(path: &Path) -> Result<Self, AnnError> {
            FlatIndex::load(path).map(Self)
        }
    }

    #[test]
    fn a_panicking_search_is_reported_and_the_pool_lives_on() {
        let pool = WorkerPool::new(Arc::new(Fragile(flat(50))), 1).unwrap();
        let bad = pool.run(&Matrix::from_vec(1, 16, vec![-1.0; 16]).unwrap(), 5);
        assert_eq!(bad.unwrap_err(), OpsError::Panicked("worker of the pool"));
        let good = pool.run(&Matrix::from_vec(1, 16, vec![1.0; 16]).unwrap(), 5).unwrap();
        assert!(good[0].hits.is_ok());
    }

    /// Needs two idle cores, so that it isn't part of a normal test run.
    #[test]
    #[ignore = "measures throughput: run alone on a machine with at least two idle cores"]
    fn two_workers_have_at_least_1_3_times_the_throughput_of_one() {
        if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
            return;
        }
        let index = Arc::new(flat(20_000));
        let queries = vectors(500, 2);
        let time = |workers| {
            let pool = WorkerPool::new(index.clone(), workers).unwrap();
            pool.run(&queries, 10).unwrap();
            let start = Instant::now();
            pool.run(&queries, 10).unwrap();
            start.elapsed().as_secs_f64()
        };
        let ratio = time(1) / time(2);
        assert!(ratio >= 1.3, "{ratio}");
    }
}
