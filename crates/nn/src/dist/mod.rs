//! Training by several ranks: collectives between threads or processes, a gather that gradients flow through, periodic averaging,
//! and sparse messages.
//!
//! A rank is one worker with a copy of the model. Ranks meet in the collectives of [`ProcessGroup`]: all of them make the same calls
//! in the same order, and each call returns when it has what it needs from the others.
//!
//! | part | what it does |
//! | --- | --- |
//! | [`ThreadGroup`] | ranks that are threads of one process |
//! | [`TcpGroup`] | ranks that are processes, on one machine or several: a ring of sockets |
//! | `MpiGroup` (feature `mpi`) | ranks that `mpirun` started |
//! | [`gather()`], [`DistributedInfoNce`] | one contrastive batch spread over the ranks |
//! | [`sync`] | the same weights and the same gradient on every rank |
//! | [`LocalSgd`], [`compress`] | fewer and smaller messages |
//!
//! A rank that dies, hangs or disagrees is an error on the others, never a wait without end: see [`DistError`]. After an error a group
//! is done for; every later call returns the same error.

pub mod compress;
pub mod gather;
pub mod info_nce;
pub mod local_sgd;
#[cfg(feature = "mpi")]
pub mod mpi;
mod ring;
pub mod sync;
pub mod tcp;
pub mod threads;

pub use gather::{Overlap, gather};
pub use info_nce::DistributedInfoNce;
pub use local_sgd::LocalSgd;
pub use tcp::{Env, TcpGroup};
pub use threads::ThreadGroup;

use std::time::Duration;

/// What one rank sent and received, and how long it was in collectives. Headers and heartbeats are not counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Messages sent.
    pub messages: u64,
    /// Payload bytes sent.
    pub sent: u64,
    /// Payload bytes received. Between threads the ranks read each other's memory, and a rank's own share counts as well.
    pub received: u64,
    /// Time in collectives, waiting included.
    pub time: Duration,
}

/// The ranks that train together, seen from one of them.
///
/// Every rank makes the same calls with equally many values (for bytes: any number), or all get an error. Sums are taken in an order
/// that depends on the number of ranks alone, and every rank gets the same bits.
pub trait ProcessGroup: Send + Sync + std::fmt::Debug {
    /// This rank, below [`world_size`](Self::world_size).
    fn rank(&self) -> usize;

    /// How many ranks there are.
    fn world_size(&self) -> usize;

    /// The bytes of every rank, in rank order; their lengths may differ.
    fn all_gather_bytes(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, DistError>;

    /// The values of every rank, one after the other in rank order: `n` values a rank give `world * n`.
    fn all_gather(&self, own: &[f32]) -> Result<Vec<f32>, DistError>;

    /// Sums `values` over the ranks; every rank gets the sums.
    fn all_reduce_sum(&self, values: &mut [f32]) -> Result<(), DistError>;

    /// Sums `values` over the ranks; rank `r` gets part `r` of `world` equal parts. The length must be a multiple of `world`.
    fn reduce_scatter_sum(&self, values: &[f32]) -> Result<Vec<f32>, DistError>;

    /// Overwrites `values` with those of rank `root`.
    fn broadcast(&self, values: &mut [f32], root: usize) -> Result<(), DistError>;

    /// Returns when every rank has called it.
    fn barrier(&self) -> Result<(), DistError>;

    /// What this rank has sent and received so far.
    fn traffic(&self) -> Traffic;
}

/// Why ranks can't go on together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DistError {
    /// A setting or argument outside its range.
    #[error("{name} is {got}, must be {expected}")]
    Argument {
        /// Its name.
        name: &'static str,
        /// What was given.
        got: String,
        /// What is accepted.
        expected: String,
    },
    /// A rank has died, hangs, or gave up.
    #[error("rank {rank} was lost: {why}")]
    PeerLost {
        /// The rank that failed first, as far as this one can know.
        rank: usize,
        /// How that showed.
        why: String,
    },
    /// A rank lives but didn't come to a collective.
    #[error("rank {rank} did not come to {operation} within {seconds} s")]
    Timeout {
        /// The rank that was waited for.
        rank: usize,
        /// The collective.
        operation: String,
        /// How long.
        seconds: u64,
    },
    /// Two ranks made different calls.
    #[error("ranks disagree: this one called {ours}, rank {rank} {theirs}")]
    Mismatch {
        /// The other rank.
        rank: usize,
        /// This rank's call.
        ours: String,
        /// The other one's.
        theirs: String,
    },
    /// A message announces more bytes than any may have.
    #[error("a message of rank {rank} announces {bytes} bytes, {limit} are the limit")]
    Oversized {
        /// The sender.
        rank: usize,
        /// What it announces.
        bytes: u64,
        /// The most that is accepted.
        limit: u64,
    },
    /// The ranks didn't find together.
    #[error("rendezvous at {address}: {why}")]
    Rendezvous {
        /// Where rank 0 was to be found.
        address: String,
        /// What went wrong.
        why: String,
    },
    /// Rank 0 won't have this process.
    #[error("refused by rank 0: {0}")]
    Refused(String),
    /// Compressed data that can't be what it says.
    #[error("compressed message: {0}")]
    Corrupt(String),
}

impl DistError {
    /// The failure of a group inside an error of candle's backward pass, where [`gather()`](gather::gather) communicates.
    pub fn in_backward(error: &candle_core::Error) -> Option<&Self> {
        match error {
            candle_core::Error::WithBacktrace { inner, .. } | candle_core::Error::Context { inner, .. } => {
                Self::in_backward(inner)
            }
            candle_core::Error::WrappedContext { wrapped, .. } => wrapped.downcast_ref(),
            _ => None,
        }
    }
}

/// The part of a lock that outlives a panic: a rank that panicked is reported as lost, not as a poisoned lock.
fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn check_root(root: usize, world: usize) -> Result<(), DistError> {
    if root < world {
        return Ok(());
    }
    Err(DistError::Argument { name: "root", got: root.to_string(), expected: format!("below {world}") })
}

fn check_parts(values: usize, world: usize) -> Result<(), DistError> {
    if values.is_multiple_of(world) {
        return Ok(());
    }
    Err(DistError::Argument {
        name: "number of values to scatter",
        got: values.to_string(),
        expected: format!("a multiple of {world} ranks"),
    })
}

fn to_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn from_bytes(bytes: &[u8]) -> impl Iterator<Item = f32> + '_ {
    bytes.as_chunks::<4>().0.iter().map(|chunk| f32::from_le_bytes(*chunk))
}

/// What every process group must do, whatever carries its messages.
#[cfg(test)]
pub(crate) mod contract {
    use super::*;

    /// Values that depend on rank and position, with sums that rounding would show.
    pub(crate) fn values(rank: usize, n: usize) -> Vec<f32> {
        (0..n).map(|i| ((rank * 31 + i * 7 + 1) as f32 * 0.37).sin()).collect()
    }

    /// Every collective, on this rank, against sums and copies made without a group.
    pub(crate) fn holds(group: &dyn ProcessGroup) -> Result<(), DistError> {
        let (rank, world) = (group.rank(), group.world_size());
        for n in [0, 1, 2, 3, 5, 64, 1_000] {
            let all: Vec<Vec<f32>> = (0..world).map(|r| values(r, n)).collect();
            let sums: Vec<f64> = (0..n).map(|i| all.iter().map(|v| f64::from(v[i])).sum()).collect();
            assert_eq!(group.all_gather(&all[rank])?, all.concat());

            let mut reduced = all[rank].clone();
            group.all_reduce_sum(&mut reduced)?;
            assert!(reduced.iter().zip(&sums).all(|(&got, want)| (f64::from(got) - want).abs() < 1e-5));
            // Every rank has the same bits.
            let copies = group.all_gather(&reduced)?;
            for copy in copies.chunks(n.max(1)) {
                assert!(copy.iter().zip(&reduced).all(|(a, b)| a.to_bits() == b.to_bits()));
            }

            let wide: Vec<Vec<f32>> = (0..world).map(|r| values(r, n * world)).collect();
            let part = group.reduce_scatter_sum(&wide[rank])?;
            assert_eq!(part.len(), n);
            for (i, &got) in part.iter().enumerate() {
                let want: f64 = wide.iter().map(|v| f64::from(v[rank * n + i])).sum();
                assert!((f64::from(got) - want).abs() < 1e-5);
            }

            for root in 0..world {
                let mut copy = all[rank].clone();
                group.broadcast(&mut copy, root)?;
                assert_eq!(copy, all[root]);
            }
            group.barrier()?;
        }
        // As many bytes as the rank's number, the first none at all.
        let bytes = group.all_gather_bytes(&vec![rank as u8; rank])?;
        assert_eq!(bytes, (0..world).map(|r| vec![r as u8; r]).collect::<Vec<_>>());
        assert!(matches!(group.broadcast(&mut [1.0], world), Err(DistError::Argument { .. })));
        if world > 1 {
            assert!(matches!(group.reduce_scatter_sum(&vec![0.0; world + 1]), Err(DistError::Argument { .. })));
        }
        // A refused argument costs nobody the group.
        group.barrier()
    }
}
