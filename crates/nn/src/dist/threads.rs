//! [`ThreadGroup`]: ranks that are threads of one process and read each other's values.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::{DistError, ProcessGroup, Traffic, check_parts, check_root, from_bytes, lock, to_bytes};

/// How long a rank waits for one that lives but doesn't come.
const PATIENCE: Duration = Duration::from_mins(2);

/// One rank of a group of threads.
///
/// A collective is one exchange: every rank puts its values down, waits until all have, and reads what it needs. Sums are taken in rank
/// order. Dropping a handle (also by a panic) takes its rank out: whoever waits for it gets [`DistError::PeerLost`].
///
/// ```
/// use eas_nn::dist::{DistError, ProcessGroup, ThreadGroup};
///
/// let sums = ThreadGroup::run(4, |group| -> Result<f32, DistError> {
///     let mut values = [group.rank() as f32];
///     group.all_reduce_sum(&mut values)?;
///     Ok(values[0])
/// })?;
/// assert_eq!(sums, [6.0; 4]);
/// # Ok::<(), DistError>(())
/// ```
#[derive(Debug)]
pub struct ThreadGroup {
    rank: usize,
    shared: Arc<Shared>,
    mine: Mutex<Mine>,
}

/// What a rank knows alone.
#[derive(Debug, Default)]
struct Mine {
    round: u64,
    traffic: Traffic,
    failed: Option<DistError>,
}

#[derive(Debug)]
struct Shared {
    world: usize,
    patience: Duration,
    table: Mutex<Table>,
    changed: Condvar,
}

#[derive(Debug)]
struct Table {
    /// Exchanges under way, by number: a fast rank may be one ahead of a slow one.
    rounds: BTreeMap<u64, Round>,
    gone: Vec<bool>,
}

#[derive(Debug)]
struct Round {
    slots: Vec<Option<(String, Arc<Vec<u8>>)>>,
    readers: usize,
}

impl ThreadGroup {
    /// The handles of `world` ranks, in rank order, one for each thread.
    pub fn new(world: usize) -> Result<Vec<Self>, DistError> {
        Self::with_patience(world, PATIENCE)
    }

    /// The same; a rank that waits longer than `patience` for another gets [`DistError::Timeout`].
    pub fn with_patience(world: usize, patience: Duration) -> Result<Vec<Self>, DistError> {
        if world == 0 {
            let (got, expected) = ("0".to_owned(), "at least 1".to_owned());
            return Err(DistError::Argument { name: "world size", got, expected });
        }
        let table = Mutex::new(Table { rounds: BTreeMap::new(), gone: vec![false; world] });
        let shared = Arc::new(Shared { world, patience, table, changed: Condvar::new() });
        let handle = |rank| Self { rank, shared: Arc::clone(&shared), mine: Mutex::default() };
        Ok((0..world).map(handle).collect())
    }

    /// Runs `work` on `world` threads and returns what they return, in rank order, or the error of the rank that failed first.
    ///
    /// Each thread has a pool of its own with one worker, so that ranks don't wait for each other's tensor operations.
    pub fn run<T, E>(world: usize, work: impl Fn(Arc<dyn ProcessGroup>) -> Result<T, E> + Sync) -> Result<Vec<T>, E>
    where
        T: Send,
        E: Send + From<DistError>,
    {
        let handles = Self::new(world)?;
        let finished = AtomicUsize::new(0);
        let (work, order) = (&work, &finished);
        let one_rank = |group: Self| {
            let (rank, group) = (group.rank, Arc::new(group));
            let result = one_thread(rank).and_then(|pool| {
                let run = std::panic::AssertUnwindSafe(|| pool.install(|| work(group.clone())));
                std::panic::catch_unwind(run)
                    .map_err(|panic| DistError::PeerLost { rank, why: format!("panicked: {}", message(&*panic)) })
            });
            // Only now does the rank leave, so that whoever fails because of it comes later.
            let at = order.fetch_add(1, Ordering::SeqCst);
            drop(group);
            (at, result.map_err(E::from).flatten())
        };
        let outcomes: Vec<(usize, Result<T, E>)> = std::thread::scope(|scope| {
            let threads: Vec<_> = handles.into_iter().map(|group| scope.spawn(move || one_rank(group))).collect();
            threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
        });
        let mut values = Vec::with_capacity(world);
        let mut first: Option<(usize, E)> = None;
        for (at, outcome) in outcomes {
            match outcome {
                Ok(value) => values.push(value),
                Err(error) if first.as_ref().is_none_or(|(earliest, _)| at < *earliest) => first = Some((at, error)),
                Err(_) => {}
            }
        }
        first.map_or(Ok(values), |(_, error)| Err(error))
    }

    /// One exchange: puts `own` down for the call `name` and returns what every rank put down.
    fn exchange(&self, name: impl Display, own: Vec<u8>) -> Result<Vec<Arc<Vec<u8>>>, DistError> {
        let start = Instant::now();
        let mut mine = lock(&self.mine);
        if let Some(error) = &mine.failed {
            return Err(error.clone());
        }
        let result = self.meet(mine.round, name.to_string(), own);
        mine.round += 1;
        match &result {
            Ok(parts) => {
                mine.traffic.messages += 1;
                mine.traffic.sent += parts[self.rank].len() as u64;
                mine.traffic.received += parts.iter().map(|part| part.len() as u64).sum::<u64>();
            }
            Err(error) => {
                mine.failed = Some(error.clone());
                self.leave();
            }
        }
        mine.traffic.time += start.elapsed();
        result
    }

    fn meet(&self, number: u64, name: String, own: Vec<u8>) -> Result<Vec<Arc<Vec<u8>>>, DistError> {
        let (world, deadline) = (self.shared.world, Instant::now() + self.shared.patience);
        let mut table = lock(&self.shared.table);
        let round = table.rounds.entry(number).or_insert_with(|| Round { slots: vec![None; world], readers: 0 });
        round.slots[self.rank] = Some((name.clone(), Arc::new(own)));
        self.shared.changed.notify_all();
        loop {
            let Table { rounds, gone } = &mut *table;
            let Some(round) = rounds.get_mut(&number) else {
                return Err(DistError::PeerLost { rank: self.rank, why: "its exchange has vanished".to_owned() });
            };
            for (rank, slot) in round.slots.iter().enumerate() {
                if let Some((theirs, _)) = slot.as_ref().filter(|(theirs, _)| *theirs != name) {
                    return Err(DistError::Mismatch { rank, ours: name, theirs: theirs.clone() });
                }
            }
            let Some(missing) = round.slots.iter().position(Option::is_none) else {
                let parts = round.slots.iter().flatten().map(|(_, part)| Arc::clone(part)).collect();
                round.readers += 1;
                if round.readers == world {
                    rounds.remove(&number);
                }
                return Ok(parts);
            };
            let lost = (0..world).find(|&rank| round.slots[rank].is_none() && gone[rank]);
            if let Some(rank) = lost {
                return Err(DistError::PeerLost { rank, why: format!("it ended before {name}") });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let seconds = self.shared.patience.as_secs();
                return Err(DistError::Timeout { rank: missing, operation: name, seconds });
            }
            let waited = self.shared.changed.wait_timeout(table, left);
            table = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
    }

    fn leave(&self) {
        lock(&self.shared.table).gone[self.rank] = true;
        self.shared.changed.notify_all();
    }

    /// The sums, in rank order, of the values from `from` to `to` of every part.
    fn sums(parts: &[Arc<Vec<u8>>], from: usize, to: usize) -> Vec<f32> {
        let mut sums = vec![0.0; to - from];
        for part in parts {
            for (sum, value) in sums.iter_mut().zip(from_bytes(&part[4 * from..4 * to])) {
                *sum += value;
            }
        }
        sums
    }
}

impl Drop for ThreadGroup {
    fn drop(&mut self) {
        self.leave();
    }
}

impl ProcessGroup for ThreadGroup {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world_size(&self) -> usize {
        self.shared.world
    }

    fn all_gather_bytes(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, DistError> {
        let parts = self.exchange("all_gather_bytes", own.to_vec())?;
        Ok(parts.iter().map(|part| part.to_vec()).collect())
    }

    fn all_gather(&self, own: &[f32]) -> Result<Vec<f32>, DistError> {
        let parts = self.exchange(format_args!("all_gather of {} values", own.len()), to_bytes(own))?;
        Ok(parts.iter().flat_map(|part| from_bytes(part)).collect())
    }

    fn all_reduce_sum(&self, values: &mut [f32]) -> Result<(), DistError> {
        let n = values.len();
        let parts = self.exchange(format_args!("all_reduce_sum of {n} values"), to_bytes(values))?;
        values.copy_from_slice(&Self::sums(&parts, 0, n));
        Ok(())
    }

    fn reduce_scatter_sum(&self, values: &[f32]) -> Result<Vec<f32>, DistError> {
        check_parts(values.len(), self.shared.world)?;
        let part = values.len() / self.shared.world;
        let name = format!("reduce_scatter_sum of {} values", values.len());
        let parts = self.exchange(name, to_bytes(values))?;
        Ok(Self::sums(&parts, self.rank * part, (self.rank + 1) * part))
    }

    fn broadcast(&self, values: &mut [f32], root: usize) -> Result<(), DistError> {
        check_root(root, self.shared.world)?;
        let own = if self.rank == root { to_bytes(values) } else { Vec::new() };
        let parts = self.exchange(format_args!("broadcast of {} values from rank {root}", values.len()), own)?;
        for (value, new) in values.iter_mut().zip(from_bytes(&parts[root])) {
            *value = new;
        }
        Ok(())
    }

    fn barrier(&self) -> Result<(), DistError> {
        self.exchange("barrier", Vec::new()).map(drop)
    }

    fn traffic(&self) -> Traffic {
        lock(&self.mine).traffic
    }
}

fn one_thread(rank: usize) -> Result<rayon::ThreadPool, DistError> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .map_err(|error| DistError::PeerLost { rank, why: format!("its thread could not be started: {error}") })
}

/// What a panic said.
fn message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dist::contract;

    #[test]
    fn collectives_do_what_they_say_for_any_number_of_ranks() {
        for world in [1, 2, 3, 4, 7] {
            ThreadGroup::run(world, |group| contract::holds(&*group)).unwrap();
        }
        assert!(matches!(ThreadGroup::new(0), Err(DistError::Argument { .. })));
    }

    #[test]
    fn traffic_counts_what_is_read() {
        let traffic = ThreadGroup::run(4, |group| -> Result<Traffic, DistError> {
            group.all_gather(&[1.0; 10])?;
            Ok(group.traffic())
        });
        for seen in traffic.unwrap() {
            assert_eq!((seen.messages, seen.sent, seen.received), (1, 40, 160));
        }
    }

    #[test]
    fn the_rank_that_failed_is_named_by_all() {
        // A rank that returns, one that fails and one that panics: nobody waits for them.
        let quits = ThreadGroup::run(3, |group| -> Result<String, DistError> {
            group.barrier()?;
            if group.rank() == 1 {
                return Ok(String::new());
            }
            let error = group.barrier().unwrap_err();
            // The group stays lost.
            assert_eq!(group.all_gather(&[]).unwrap_err(), error);
            Ok(error.to_string())
        });
        let quits = quits.unwrap();
        assert_eq!(quits[0], "rank 1 was lost: it ended before barrier");
        assert!(quits[2].contains("was lost"), "{}", quits[2]);

        let own = DistError::Corrupt("mine".to_owned());
        let failed = ThreadGroup::run(3, |group| if group.rank() == 2 { Err(own.clone()) } else { group.barrier() });
        assert_eq!(failed.unwrap_err(), own);

        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let panicked = ThreadGroup::run(3, |group| -> Result<(), DistError> {
            assert!(group.rank() != 1, "boom");
            group.barrier()
        });
        std::panic::set_hook(hook);
        let error = panicked.unwrap_err().to_string();
        assert!(error.contains("rank 1 was lost"), "{error}");
    }

    #[test]
    fn different_calls_are_an_error_on_all_ranks() {
        let errors = ThreadGroup::run(2, |group| -> Result<DistError, DistError> {
            let values = vec![0.0; 3 + group.rank()];
            Ok(group.all_gather(&values).unwrap_err())
        });
        for error in errors.unwrap() {
            assert!(matches!(error, DistError::Mismatch { .. }), "{error}");
        }
        let errors = ThreadGroup::run(2, |group| -> Result<DistError, DistError> {
            Ok(if group.rank() == 0 { group.barrier() } else { group.broadcast(&mut [1.0], 0) }.unwrap_err())
        });
        assert!(
            errors.unwrap()[0].to_string().starts_with("ranks disagree: this one called barrier, rank 1 broadcast")
        );
    }

    #[test]
    fn a_rank_that_does_not_come_is_not_waited_for_for_ever() {
        let mut group = ThreadGroup::with_patience(2, Duration::from_millis(20)).unwrap();
        let (late, early) = (group.pop().unwrap(), group.pop().unwrap());
        let error = early.barrier().unwrap_err();
        assert_eq!(error, DistError::Timeout { rank: 1, operation: "barrier".to_owned(), seconds: 0 });
        drop(early);
        // The late one finds what the early one had put down, and a value is never wrong: the barrier was reached by both.
        late.barrier().unwrap();
        assert!(matches!(late.barrier(), Err(DistError::PeerLost { rank: 0, .. })));
    }
}
