//! [`MpiGroup`]: ranks that `mpirun` started. Feature `mpi`, which needs an MPI library and libclang to build.
//!
//! MPI's own way with a process that dies is to end all others, so there is no [`PeerLost`](super::DistError::PeerLost) here:
//! `mpirun` reports the failure. Ranks that make different calls are found out before any data move, since MPI itself would overrun
//! the smaller buffer.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Instant;

use ::mpi::Threading;
use ::mpi::collective::SystemOperation;
use ::mpi::datatype::PartitionMut;
use ::mpi::topology::SimpleCommunicator;
use ::mpi::traits::{Communicator, CommunicatorCollectives, Root};

use super::{DistError, ProcessGroup, Traffic, check_parts, check_root, lock};

/// One rank of an MPI job.
///
/// A thread of its own owns MPI's communicator and makes all calls, so that the group can be used from any thread. MPI can be started
/// once in a process, and ends when the group is dropped.
///
/// ```text
/// mpirun -n 2 target/release/train        # each process: let group: Arc<dyn ProcessGroup> = Arc::new(MpiGroup::new()?);
/// ```
#[derive(Debug)]
pub struct MpiGroup {
    rank: usize,
    world: usize,
    caller: Mutex<Caller>,
}

#[derive(Debug)]
struct Caller {
    jobs: Option<Sender<Job>>,
    replies: Receiver<Result<Reply, DistError>>,
    thread: Option<JoinHandle<()>>,
    traffic: Traffic,
    failed: Option<DistError>,
}

/// A collective and what this rank gives to it.
#[derive(Debug)]
enum Job {
    GatherBytes(Vec<u8>),
    Gather(Vec<f32>),
    ReduceAll(Vec<f32>),
    ReduceScatter(Vec<f32>),
    Broadcast(Vec<f32>, usize),
    Barrier,
}

#[derive(Debug)]
enum Reply {
    Bytes(Vec<Vec<u8>>),
    Values(Vec<f32>),
}

impl Job {
    fn name(&self) -> String {
        match self {
            Self::GatherBytes(_) => "all_gather_bytes".to_owned(),
            Self::Gather(values) => format!("all_gather of {} values", values.len()),
            Self::ReduceAll(values) => format!("all_reduce_sum of {} values", values.len()),
            Self::ReduceScatter(values) => format!("reduce_scatter_sum of {} values", values.len()),
            Self::Broadcast(values, root) => format!("broadcast of {} values from rank {root}", values.len()),
            Self::Barrier => "barrier".to_owned(),
        }
    }

    fn bytes(&self) -> u64 {
        match self {
            Self::GatherBytes(bytes) => bytes.len() as u64,
            Self::Gather(v) | Self::ReduceAll(v) | Self::ReduceScatter(v) | Self::Broadcast(v, _) => 4 * v.len() as u64,
            Self::Barrier => 0,
        }
    }
}

impl MpiGroup {
    /// Starts MPI. An error when it was started before in this process.
    pub fn new() -> Result<Self, DistError> {
        let failed = |why: &str| DistError::Rendezvous { address: "mpirun".to_owned(), why: why.to_owned() };
        let ((job_sender, jobs), (reply_sender, replies), (place_sender, place)) = (channel(), channel(), channel());
        let thread = std::thread::Builder::new()
            .spawn(move || {
                let Some((universe, _)) = ::mpi::initialize_with_threading(Threading::Funneled) else { return };
                let world = universe.world();
                if place_sender.send((world.rank() as usize, world.size() as usize)).is_err() {
                    return;
                }
                while let Ok(job) = jobs.recv() {
                    if reply_sender.send(run(&world, job)).is_err() {
                        return;
                    }
                }
            })
            .map_err(|error| failed(&error.to_string()))?;
        let (rank, world) = place.recv().map_err(|_| failed("MPI is already in use by this process"))?;
        let caller =
            Caller { jobs: Some(job_sender), replies, thread: Some(thread), traffic: Traffic::default(), failed: None };
        Ok(Self { rank, world, caller: Mutex::new(caller) })
    }

    fn call(&self, job: Job) -> Result<Reply, DistError> {
        let (start, sent) = (Instant::now(), job.bytes());
        let mut caller = lock(&self.caller);
        if let Some(error) = &caller.failed {
            return Err(error.clone());
        }
        let gone = || DistError::PeerLost { rank: self.rank, why: "its MPI thread ended".to_owned() };
        let handed = caller.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok());
        let reply = if handed { caller.replies.recv().map_err(|_| gone()).flatten() } else { Err(gone()) };
        match &reply {
            Ok(reply) => {
                caller.traffic.messages += 1;
                caller.traffic.sent += sent;
                caller.traffic.received += match reply {
                    Reply::Bytes(parts) => parts.iter().map(|part| part.len() as u64).sum(),
                    Reply::Values(values) => 4 * values.len() as u64,
                };
            }
            Err(error) => caller.failed = Some(error.clone()),
        }
        caller.traffic.time += start.elapsed();
        reply
    }

    fn values(&self, job: Job) -> Result<Vec<f32>, DistError> {
        match self.call(job)? {
            Reply::Values(values) => Ok(values),
            Reply::Bytes(_) => Err(DistError::Corrupt("bytes instead of values".to_owned())),
        }
    }
}

/// One collective, on the thread that owns MPI.
fn run(world: &SimpleCommunicator, job: Job) -> Result<Reply, DistError> {
    let size = world.size() as usize;
    agree(world, &job.name())?;
    Ok(match job {
        Job::GatherBytes(mut own) => {
            // The address of an empty Vec<u8> is 1, which Open MPI takes for MPI_IN_PLACE.
            own.reserve(1);
            let mut lengths = vec![0i32; size];
            let length = i32::try_from(own.len()).unwrap_or(-1);
            world.all_gather_into(&length, &mut lengths[..]);
            if let Some(rank) = lengths.iter().position(|&length| length < 0) {
                let limit = i32::MAX as u64;
                return Err(DistError::Oversized { rank, bytes: limit + 1, limit });
            }
            let starts: Vec<i32> = lengths
                .iter()
                .scan(0i32, |next, length| {
                    let start = *next;
                    *next = next.saturating_add(*length);
                    Some(start)
                })
                .collect();
            let total: usize = lengths.iter().map(|&length| length as usize).sum();
            if i32::try_from(total).is_err() {
                let (bytes, limit) = (total as u64, i32::MAX as u64);
                return Err(DistError::Oversized { rank: world.rank() as usize, bytes, limit });
            }
            let mut all = Vec::with_capacity(total + 1);
            all.resize(total, 0u8);
            world.all_gather_varcount_into(&own[..], &mut PartitionMut::new(&mut all[..], &lengths[..], &starts[..]));
            let part = |(&start, &length): (&i32, &i32)| all[start as usize..(start + length) as usize].to_vec();
            Reply::Bytes(starts.iter().zip(&lengths).map(part).collect())
        }
        Job::Gather(own) => {
            let mut all = vec![0.0f32; own.len() * size];
            world.all_gather_into(&own[..], &mut all[..]);
            Reply::Values(all)
        }
        Job::ReduceScatter(values) => {
            let mut part = vec![0.0f32; values.len() / size];
            world.reduce_scatter_block_into(&values[..], &mut part[..], SystemOperation::sum());
            Reply::Values(part)
        }
        // Each part is summed by one rank and copied to the others, so that all have the same bits; MPI promises that for no reduction.
        Job::ReduceAll(mut values) => {
            let count = values.len();
            values.resize(count.next_multiple_of(size), 0.0);
            let mut part = vec![0.0f32; values.len() / size];
            world.reduce_scatter_block_into(&values[..], &mut part[..], SystemOperation::sum());
            world.all_gather_into(&part[..], &mut values[..]);
            values.truncate(count);
            Reply::Values(values)
        }
        Job::Broadcast(mut values, root) => {
            world.process_at_rank(root as i32).broadcast_into(&mut values[..]);
            Reply::Values(values)
        }
        Job::Barrier => {
            world.barrier();
            Reply::Values(Vec::new())
        }
    })
}

/// Compares the calls of all ranks.
fn agree(world: &SimpleCommunicator, name: &str) -> Result<(), DistError> {
    let mut calls = vec![0u64; world.size() as usize];
    let own = crate::encoders::fnv1a(name.as_bytes());
    world.all_gather_into(&own, &mut calls[..]);
    match calls.iter().position(|&call| call != own) {
        None => Ok(()),
        Some(rank) => Err(DistError::Mismatch { rank, ours: name.to_owned(), theirs: "something else".to_owned() }),
    }
}

impl Drop for Caller {
    /// Ends MPI, which waits for the other ranks.
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl ProcessGroup for MpiGroup {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world_size(&self) -> usize {
        self.world
    }

    fn all_gather_bytes(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, DistError> {
        match self.call(Job::GatherBytes(own.to_vec()))? {
            Reply::Bytes(parts) => Ok(parts),
            Reply::Values(_) => Err(DistError::Corrupt("values instead of bytes".to_owned())),
        }
    }

    fn all_gather(&self, own: &[f32]) -> Result<Vec<f32>, DistError> {
        self.values(Job::Gather(own.to_vec()))
    }

    fn all_reduce_sum(&self, values: &mut [f32]) -> Result<(), DistError> {
        values.copy_from_slice(&self.values(Job::ReduceAll(values.to_vec()))?);
        Ok(())
    }

    fn reduce_scatter_sum(&self, values: &[f32]) -> Result<Vec<f32>, DistError> {
        check_parts(values.len(), self.world)?;
        self.values(Job::ReduceScatter(values.to_vec()))
    }

    fn broadcast(&self, values: &mut [f32], root: usize) -> Result<(), DistError> {
        check_root(root, self.world)?;
        values.copy_from_slice(&self.values(Job::Broadcast(values.to_vec(), root))?);
        Ok(())
    }

    fn barrier(&self) -> Result<(), DistError> {
        self.call(Job::Barrier).map(drop)
    }

    fn traffic(&self) -> Traffic {
        lock(&self.caller).traffic
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dist::contract;

    /// Starts this test program under `mpirun`, where it runs only [`rank_of_mpirun`].
    #[test]
    fn collectives_do_what_they_say_under_mpirun() {
        for ranks in ["1", "2", "3"] {
            let run = std::process::Command::new("mpirun")
                .args(["--allow-run-as-root", "--oversubscribe", "-n", ranks])
                .arg(std::env::current_exe().unwrap())
                .args(["--exact", "dist::mpi::tests::rank_of_mpirun", "--ignored", "--test-threads=1"])
                .output()
                .expect("mpirun is installed");
            let said = String::from_utf8_lossy(&run.stdout);
            assert!(run.status.success(), "{said}{}", String::from_utf8_lossy(&run.stderr));
            assert_eq!(said.matches("1 passed").count(), ranks.parse::<usize>().unwrap(), "{said}");
        }
    }

    #[test]
    #[ignore = "a rank: started by the test above"]
    fn rank_of_mpirun() {
        let group = MpiGroup::new().unwrap();
        contract::holds(&group).unwrap();
        assert!(MpiGroup::new().is_err());
        if group.world_size() > 1 {
            let values = vec![0.0; 1 + group.rank()];
            assert!(matches!(group.all_gather(&values), Err(DistError::Mismatch { .. })));
            assert!(group.barrier().is_err());
        }
    }
}
