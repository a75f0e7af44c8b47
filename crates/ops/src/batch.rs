//! Micro-batching: answering several queries in one pass over the index, at the price of letting the first ones wait.
//!
//! [`BatchPolicy`] says when a batch leaves: when it is full, or when its oldest item has waited `max_wait`, whichever comes
//! first, and never before the server is free. The window opens at the arrival of the first item, not when the server looks
//! at the queue. [`MicroBatcher`] applies the policy to threads on a real clock, [`simulate`] to a stream of arrivals in
//! virtual time; both use [`BatchQueue`].

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::OpsError;
use crate::clock::{Clock, MILLISECOND, Micros};
use crate::error::check;
use crate::sim::Sim;
use crate::spans::Spans;

/// When a batch leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchPolicy {
    /// Items in a full batch.
    pub max_batch: usize,
    /// How long the oldest item may wait for others. 0 takes whatever is there as soon as the server is free: under load the
    /// batch grows by itself while the server works on the one before, and without load nobody waits.
    pub max_wait: Micros,
}

impl Default for BatchPolicy {
    /// 1,000 items or 20 ms.
    fn default() -> Self {
        Self { max_batch: 1_000, max_wait: 20 * MILLISECOND }
    }
}

impl BatchPolicy {
    /// At most `max_batch` items, the oldest of which waits at most `max_wait`.
    pub fn new(max_batch: usize, max_wait: Micros) -> Self {
        Self { max_batch, max_wait }
    }

    /// When a free server should take a batch from a queue whose items arrived at these times, oldest first, if nothing else
    /// arrives: `now` if it is due already, `None` if the queue is empty.
    pub fn next_fire(&self, arrivals: &VecDeque<Micros>, now: Micros) -> Option<Micros> {
        let oldest = *arrivals.front()?;
        if arrivals.len() >= self.max_batch {
            return Some(now);
        }
        Some(oldest.saturating_add(self.max_wait).max(now))
    }
}

/// Items that wait to be batched, under a policy. Knows no threads and no clock.
#[derive(Debug)]
pub struct BatchQueue<T> {
    policy: BatchPolicy,
    arrivals: VecDeque<Micros>,
    items: VecDeque<T>,
}

impl<T> BatchQueue<T> {
    /// An empty queue. Refuses a `max_batch` of 0.
    pub fn new(policy: BatchPolicy) -> Result<Self, OpsError> {
        check("max_batch", policy.max_batch, policy.max_batch > 0, "at least 1")?;
        Ok(Self { policy, arrivals: VecDeque::new(), items: VecDeque::new() })
    }

    /// Items that wait.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// True when nothing waits.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// An item arrives.
    pub fn push(&mut self, now: Micros, item: T) {
        self.arrivals.push_back(now);
        self.items.push_back(item);
    }

    /// When a free server should take the next batch; see [`BatchPolicy::next_fire`].
    pub fn next_fire(&self, now: Micros) -> Option<Micros> {
        self.policy.next_fire(&self.arrivals, now)
    }

    /// The oldest items, at most a full batch of them, with their times of arrival.
    pub fn take(&mut self) -> Vec<(Micros, T)> {
        let n = self.policy.max_batch.min(self.items.len());
        self.arrivals.drain(..n).zip(self.items.drain(..n)).collect()
    }
}

// ------------------------------------------------------------------------------------------------------- virtual time

/// What [`simulate`] has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchRun {
    /// Sizes of the batches, in order.
    pub batches: Vec<usize>,
    /// Arrival and reply of each item, in order of arrival.
    pub spans: Spans,
}

#[derive(Hash)]
enum Event {
    Arrival(usize),
    /// The server looks at the queue: it has become free, or a wait has ended.
    Look,
}

/// One server that takes batches from a queue into which items arrive at `arrivals` (ascending); a batch of `b` takes
/// `service(b)`. An item that arrives at the very moment a batch leaves goes with it.
pub fn simulate(
    policy: BatchPolicy,
    arrivals: &[Micros],
    service: impl Fn(usize) -> Micros,
) -> Result<BatchRun, OpsError> {
    check("arrivals", "not in order", arrivals.is_sorted(), "in ascending order")?;
    let mut queue = BatchQueue::new(policy)?;
    let mut sim = Sim::new(0);
    // All arrivals are scheduled before anything else, and so come first among the events of one time.
    for (item, &at) in arrivals.iter().enumerate() {
        sim.after(at, Event::Arrival(item));
    }
    let mut run = BatchRun { batches: Vec::new(), spans: Spans(arrivals.iter().map(|&at| (at, at)).collect()) };
    let mut free_at = 0;
    while let Some(event) = sim.next_event() {
        let now = sim.now();
        if let Event::Arrival(item) = event {
            queue.push(now, item);
        }
        if now < free_at {
            continue; // the server looks when it is free
        }
        match queue.next_fire(now) {
            None => {}
            // An arrival never fires the batch itself, lest others of the same moment stay behind.
            Some(fire) if fire > now || matches!(event, Event::Arrival(_)) => {
                sim.after(fire - now, Event::Look);
            }
            Some(_) => {
                let batch = queue.take();
                free_at = now + service(batch.len());
                run.batches.push(batch.len());
                for (_, item) in batch {
                    run.spans.0[item].1 = free_at;
                }
                sim.after(free_at - now, Event::Look);
            }
        }
    }
    Ok(run)
}

// ---------------------------------------------------------------------------------------------------------- real time

struct Request<T, R> {
    k: usize,
    item: T,
    reply: Sender<Result<Reply<R>, OpsError>>,
}

/// What a batched call returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply<R> {
    /// The handler's result for this item.
    pub value: R,
    /// From submission to reply, waiting included.
    pub latency: Micros,
    /// Size of the batch it left with, over all k.
    pub batch: usize,
}

/// A result that is to come.
#[derive(Debug)]
pub struct Ticket<R>(Receiver<Result<Reply<R>, OpsError>>);

impl<R> Ticket<R> {
    /// Waits for the reply.
    pub fn wait(self) -> Result<Reply<R>, OpsError> {
        self.0.recv().unwrap_or(Err(OpsError::Stopped("batcher")))
    }
}

struct State<T, R> {
    queue: BatchQueue<Request<T, R>>,
    stopping: bool,
}

struct Shared<T, R> {
    state: Mutex<State<T, R>>,
    changed: Condvar,
}

impl<T, R> Shared<T, R> {
    fn lock(&self) -> MutexGuard<'_, State<T, R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread that collects submitted items into batches and hands them to a function.
///
/// ```
/// use std::sync::Arc;
/// use eas_ops::batch::{BatchPolicy, MicroBatcher};
/// use eas_ops::clock::SystemClock;
///
/// let policy = BatchPolicy { max_batch: 8, max_wait: 1_000 };
/// let batcher = MicroBatcher::new(policy, Arc::new(SystemClock::new()), |k, items: Vec<usize>| {
///     items.iter().map(|item| item * k).collect()
/// })?;
/// let tickets = [batcher.submit(10, 1)?, batcher.submit(5, 2)?];
/// let values: Vec<usize> = tickets.into_iter().map(|t| t.wait().unwrap().value).collect();
/// assert_eq!(values, [10, 10]); // each item with its own k
/// # Ok::<(), eas_ops::OpsError>(())
/// ```
pub struct MicroBatcher<T, R> {
    shared: Arc<Shared<T, R>>,
    clock: Arc<dyn Clock>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

impl<T: Send + 'static, R: Send + 'static> MicroBatcher<T, R> {
    /// Starts the thread. `handler` is called once for each distinct `k` in a batch, with the items of that `k` in order of
    /// submission, and returns one result for each.
    pub fn new(
        policy: BatchPolicy,
        clock: Arc<dyn Clock>,
        handler: impl FnMut(usize, Vec<T>) -> Vec<R> + Send + 'static,
    ) -> Result<Self, OpsError> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State { queue: BatchQueue::new(policy)?, stopping: false }),
            changed: Condvar::new(),
        });
        let worker = std::thread::spawn({
            let (shared, clock) = (Arc::clone(&shared), Arc::clone(&clock));
            move || serve(&shared, clock.as_ref(), handler)
        });
        Ok(Self { shared, clock, worker: Mutex::new(Some(worker)) })
    }

    /// Queues an item. Refused after [`Self::stop`].
    pub fn submit(&self, k: usize, item: T) -> Result<Ticket<R>, OpsError> {
        let (reply, ticket) = channel();
        let mut state = self.shared.lock();
        if state.stopping {
            return Err(OpsError::Stopped("batcher"));
        }
        state.queue.push(self.clock.now(), Request { k, item, reply });
        self.shared.changed.notify_one();
        Ok(Ticket(ticket))
    }
}

impl<T, R> MicroBatcher<T, R> {
    /// Refuses new items, serves those that wait at once, and returns when all have their replies.
    pub fn stop(&self) {
        self.shared.lock().stopping = true;
        self.shared.changed.notify_all();
        let worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(worker) = worker {
            let _ = worker.join();
        }
    }
}

impl<T, R> Drop for MicroBatcher<T, R> {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The life of the batching thread: waits for the next batch, serves it, until it is stopped and the queue is empty.
fn serve<T, R>(shared: &Shared<T, R>, clock: &dyn Clock, mut handler: impl FnMut(usize, Vec<T>) -> Vec<R>) {
    loop {
        let mut state = shared.lock();
        let batch = loop {
            let now = clock.now();
            match state.queue.next_fire(now) {
                Some(fire) if fire <= now || state.stopping => break state.queue.take(),
                None if state.stopping => return,
                // A clock that isn't the machine's may have moved on when the machine's has not, and the reverse: look again.
                Some(fire) => {
                    let wait = Duration::from_micros(fire - now);
                    state = match shared.changed.wait_timeout(state, wait) {
                        Ok((state, _)) => state,
                        Err(poisoned) => poisoned.into_inner().0,
                    };
                }
                None => state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(state); // others may submit while this batch is served
        reply_to(batch, clock, &mut handler);
    }
}

fn reply_to<T, R>(
    batch: Vec<(Micros, Request<T, R>)>,
    clock: &dyn Clock,
    handler: &mut impl FnMut(usize, Vec<T>) -> Vec<R>,
) {
    let size = batch.len();
    let mut by_k: BTreeMap<usize, (Vec<T>, Vec<_>)> = BTreeMap::new();
    for (arrived, Request { k, item, reply }) in batch {
        let group = by_k.entry(k).or_default();
        group.0.push(item);
        group.1.push((arrived, reply));
    }
    for (k, (items, waiting)) in by_k {
        let expected = items.len();
        // A handler that panics fails its group; the thread and the other groups go on.
        let values = catch_unwind(AssertUnwindSafe(|| handler(k, items)))
            .map_err(|_| OpsError::Panicked("handler of the batcher"))
            .and_then(|values| {
                check("number of results", values.len(), values.len() == expected, "one for each item")?;
                Ok(values)
            });
        let now = clock.now();
        // A send fails when the caller no longer waits for its reply.
        match values {
            Ok(values) => {
                for (value, (arrived, reply)) in values.into_iter().zip(waiting) {
                    let latency = now - arrived;
                    let _ = reply.send(Ok(Reply { value, latency, batch: size }));
                }
            }
            Err(error) => {
                for (_, reply) in waiting {
                    let _ = reply.send(Err(error.clone()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use eas_tensor::rng::SplitMix64;

    use super::*;
    use crate::clock::{SystemClock, VirtualClock};

    #[test]
    fn the_five_scenarios() {
        let arrivals: Vec<Micros> = (0..200).map(|i| i * 500).collect();
        for (max_batch, wait, batches, mean, p95, max, qps) in [
            (1, 0, 200, 156.275, 295.0, 310.5, 487.805),
            (32, 5_000, 19, 5.068, 7.55, 7.55, 1_885.014),
            (32, 0, 46, 3.3015, 4.3, 4.4, 1_960.784),
            (8, 5_000, 25, 4.150, 5.9, 5.9, 1_962.709),
            (64, 20_000, 5, 14.230, 23.05, 24.05, 1_890.359),
        ] {
            let run = simulate(BatchPolicy::new(max_batch, wait), &arrivals, |b| 2_000 + 50 * b as Micros).unwrap();
            let summary = run.spans.summary().unwrap();
            assert_eq!(run.batches.len(), batches);
            assert!((summary.mean - mean).abs() < 5e-4, "{}", summary.mean);
            assert_eq!((summary.p95, summary.max), (p95, max));
            assert!((run.spans.throughput().unwrap() - qps).abs() < 5e-4);
            assert!(run.spans.littles_law().unwrap().relative_gap() < 1e-9);
        }
        let run = simulate(BatchPolicy::new(32, 5_000), &arrivals, |b| 2_000 + 50 * b as Micros).unwrap();
        assert_eq!((&run.batches[..18], run.batches[18]), (&[11; 18][..], 2));
    }

    /// The same server written as a loop over batches, without events.
    fn by_hand(policy: BatchPolicy, arrivals: &[Micros], service: impl Fn(usize) -> Micros) -> Vec<usize> {
        let (mut free, mut next, mut batches) = (0, 0, Vec::new());
        while next < arrivals.len() {
            let full = arrivals.get(next + policy.max_batch - 1).copied().unwrap_or(Micros::MAX);
            let fire = full.min(arrivals[next] + policy.max_wait).max(free);
            let there = arrivals[next..].iter().take_while(|&&at| at <= fire).count();
            let batch = there.min(policy.max_batch);
            batches.push(batch);
            free = fire + service(batch);
            next += batch;
        }
        batches
    }

    #[test]
    fn events_and_loop_agree_on_random_traffic() {
        let mut rng = SplitMix64::new(4);
        for _ in 0..300 {
            let mut at = 0;
            let arrivals: Vec<Micros> = (0..60)
                .map(|_| {
                    at += rng.below(5) as Micros * 100;
                    at
                })
                .collect();
            let policy = BatchPolicy::new(1 + rng.below(10), rng.below(10) as Micros * 100);
            let base = rng.below(12) as Micros * 100;
            let service = |b: usize| base + 10 * b as Micros;
            let run = simulate(policy, &arrivals, service).unwrap();
            assert_eq!(run.batches, by_hand(policy, &arrivals, service), "{policy:?} {arrivals:?}");
            assert!(run.spans.0.iter().all(|(arrival, reply)| reply >= arrival));
        }
        assert!(simulate(BatchPolicy::new(1, 0), &[5, 4], |_| 1).is_err());
        assert!(simulate(BatchPolicy::new(0, 0), &[5], |_| 1).is_err());
    }

    fn doubling(policy: BatchPolicy, clock: Arc<dyn Clock>) -> MicroBatcher<usize, (usize, usize)> {
        MicroBatcher::new(policy, clock, |k, items: Vec<usize>| {
            assert!(!items.contains(&13), "unlucky");
            items.into_iter().filter(|&i| i != 99).map(|i| (k, 2 * i)).collect()
        })
        .unwrap()
    }

    #[test]
    fn stopping_an_idle_batcher_returns_at_once() {
        let batcher = doubling(BatchPolicy::default(), Arc::new(SystemClock::new()));
        let start = Instant::now();
        batcher.stop();
        assert!(start.elapsed() < Duration::from_millis(100), "{:?}", start.elapsed());
        assert_eq!(batcher.submit(1, 1).unwrap_err(), OpsError::Stopped("batcher"));
        batcher.stop(); // twice is no harm
    }

    #[test]
    fn stopping_drains_and_loses_nothing() {
        // A clock that stands still: only stopping can release what waits.
        let batcher = doubling(BatchPolicy::new(8, 1_000_000), Arc::new(VirtualClock::new()));
        let tickets: Vec<_> = (0..7).map(|i| batcher.submit(i % 2, i).unwrap()).collect();
        batcher.stop();
        for (i, ticket) in tickets.into_iter().enumerate() {
            let reply = ticket.wait().unwrap();
            assert_eq!((reply.value, reply.batch), ((i % 2, 2 * i), 7));
        }
    }

    #[test]
    fn the_window_opens_with_the_first_item() {
        let clock = VirtualClock::new();
        let batcher = doubling(BatchPolicy::new(100, 5_000), Arc::new(clock.clone()));
        clock.advance(60_000_000); // a minute of silence
        let first = batcher.submit(1, 1).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        assert!(first.0.try_recv().is_err(), "it left alone");
        clock.advance(4_000);
        let second = batcher.submit(1, 2).unwrap();
        clock.advance(1_000);
        let (first, second) = (first.wait().unwrap(), second.wait().unwrap());
        assert_eq!((first.batch, second.batch), (2, 2));
        assert_eq!((first.latency, second.latency), (5_000, 1_000));
    }

    #[test]
    fn a_full_batch_leaves_at_once() {
        let batcher = doubling(BatchPolicy::new(3, 3_600_000_000), Arc::new(SystemClock::new()));
        let tickets: Vec<_> = (0..3).map(|i| batcher.submit(1, i).unwrap()).collect();
        for ticket in tickets {
            assert_eq!(ticket.wait().unwrap().batch, 3);
        }
    }

    #[test]
    fn many_threads_get_each_its_own_answer() {
        let batcher = doubling(BatchPolicy::new(16, 200), Arc::new(SystemClock::new()));
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let batcher = &batcher;
                scope.spawn(move || {
                    for i in 100..300 {
                        let reply = batcher.submit(thread, i).unwrap().wait().unwrap();
                        assert_eq!(reply.value, (thread, 2 * i));
                    }
                });
            }
        });
    }

    #[test]
    fn a_failing_handler_fails_its_group_only() {
        let batcher = doubling(BatchPolicy::new(3, 1_000_000), Arc::new(SystemClock::new()));
        let tickets = [(1, 13), (2, 99), (3, 5)].map(|(k, item)| batcher.submit(k, item).unwrap());
        let [panicked, short, fine] = tickets.map(Ticket::wait);
        assert_eq!(panicked.unwrap_err(), OpsError::Panicked("handler of the batcher"));
        assert!(short.unwrap_err().to_string().contains("number of results is 0"));
        assert_eq!(fine.unwrap().value, (3, 10));
    }
}
