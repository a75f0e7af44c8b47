//! [`run`]: upserts and reads against any protocol while nodes crash and the network splits.

use std::collections::BTreeMap;

use eas_ops::clock::{MILLISECOND, Micros};
use eas_tensor::Matrix;
use eas_tensor::rng::SplitMix64;

use super::network::{Cluster, Protocol, Reply, Request};
use super::{ReplicaError, Stamp, VectorCopy, Write};

/// What breaks, and what is mended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// A node stops.
    Crash(usize),
    /// A node starts again.
    Restart(usize),
    /// The network splits into these groups, or heals when all are equal.
    Split(Vec<usize>),
}

/// Operations one after another, half of them upserts of new ids, half reads of ids that were written not long ago.
#[derive(Debug, Clone)]
pub struct Workload {
    /// Operations.
    pub operations: usize,
    /// Span between two of them.
    pub every: Micros,
    /// A read's id is drawn from so many of the latest writes.
    pub recent: usize,
    /// What breaks when.
    pub faults: Vec<(Micros, Fault)>,
    /// Time to settle at the end, before it is counted what was lost.
    pub settle: Micros,
    /// Seed of the operations.
    pub seed: u64,
}

/// What clients saw.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Share of operations that were answered in time.
    pub available: f64,
    /// The same for writes alone.
    pub writes_available: f64,
    /// Reads answered.
    pub reads: usize,
    /// Reads that didn't show a write which was acknowledged before the read began.
    pub stale: usize,
    /// Writes acknowledged.
    pub acknowledged: usize,
    /// Acknowledged writes that no node has at the end.
    pub lost: usize,
    /// Median latency of the answered writes.
    pub write_p50: Micros,
    /// Median latency of the answered reads.
    pub read_p50: Micros,
    /// Hash of the run.
    pub trace: u64,
}

/// Runs `work` against a cluster. Vectors are rows of `vectors`, in turn; `copy_of` shows a node's copy.
pub fn run<P: Protocol>(
    cluster: &mut Cluster<P>,
    work: &Workload,
    vectors: &Matrix,
    copy_of: impl Fn(&P) -> &VectorCopy,
) -> Result<Outcome, ReplicaError> {
    if vectors.rows() == 0 || work.operations == 0 || work.recent == 0 {
        return Err(ReplicaError::Parameter {
            name: "workload",
            got: format!("{} vectors, {} operations, {} recent", vectors.rows(), work.operations, work.recent),
            expected: "at least 1 of each",
        });
    }
    let mut rng = SplitMix64::new(work.seed);
    let mut faults = work.faults.clone();
    faults.sort_by_key(|(at, _)| *at);
    let mut faults = faults.into_iter().peekable();
    let start = cluster.now();
    let first = cluster.asked().len();
    let mut written = 0u64;
    for step in 0..work.operations {
        let at = start + step as Micros * work.every;
        while let Some((when, fault)) = faults.next_if(|(when, _)| start + when <= at) {
            cluster.run_until(start + when)?;
            apply(cluster, &fault)?;
        }
        cluster.run_until(at)?;
        let near = rng.below(cluster.nodes().len());
        if step % 2 == 0 {
            let row = vectors.row(written as usize % vectors.rows());
            cluster.ask(near, Request::Write(Write::upsert(written, row)));
            written += 1;
        } else {
            let back = rng.below((work.recent).min(written as usize)) as u64;
            cluster.ask(near, Request::Read(written - 1 - back));
        }
    }
    for (when, fault) in faults {
        cluster.run_until(start + when)?;
        apply(cluster, &fault)?;
    }
    cluster.run_until(cluster.now() + work.settle)?;

    let asked = &cluster.asked()[first..];
    let mut done: BTreeMap<u64, (Micros, Stamp)> = BTreeMap::new();
    let (mut write_times, mut read_times, mut stale) = (Vec::new(), Vec::new(), 0);
    for asked in asked {
        match (&asked.request, &asked.answer) {
            (Request::Write(write), Some((at, Reply::Written(stamp)))) => {
                write_times.push(at - asked.sent);
                done.insert(write.id, (*at, *stamp));
            }
            (Request::Read(id), Some((at, Reply::Read(found)))) => {
                read_times.push(at - asked.sent);
                // An id is written once and before it is read, so its write was handled by an earlier turn of this loop.
                let shown = found.as_ref().map(|(stamp, _)| *stamp);
                let expected = done.get(id).filter(|(at, _)| *at < asked.sent).map(|(_, stamp)| *stamp);
                stale += usize::from(shown < expected);
            }
            _ => (),
        }
    }
    let kept = |id: &u64, stamp: &Stamp| cluster.nodes().iter().any(|node| copy_of(node).stamp(*id) >= Some(*stamp));
    let writes = work.operations.div_ceil(2);
    Ok(Outcome {
        available: (write_times.len() + read_times.len()) as f64 / work.operations as f64,
        writes_available: write_times.len() as f64 / writes as f64,
        reads: read_times.len(),
        stale,
        acknowledged: done.len(),
        lost: done.iter().filter(|(id, (_, stamp))| !kept(id, stamp)).count(),
        write_p50: median(write_times),
        read_p50: median(read_times),
        trace: cluster.trace_hash(),
    })
}

fn apply<P: Protocol>(cluster: &mut Cluster<P>, fault: &Fault) -> Result<(), ReplicaError> {
    match fault {
        Fault::Crash(node) => {
            cluster.crash(*node);
            Ok(())
        }
        Fault::Restart(node) => cluster.restart(*node),
        Fault::Split(groups) => cluster.split(groups),
    }
}

fn median(mut times: Vec<Micros>) -> Micros {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or(0)
}

impl Workload {
    /// 5,000 operations, one every 50 ms, no faults, a minute and a half to settle.
    pub fn new(seed: u64) -> Self {
        Self {
            operations: 5_000,
            every: 50 * MILLISECOND,
            recent: 4,
            faults: Vec::new(),
            settle: 90_000 * MILLISECOND,
            seed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::multi::MultiPrimaryNode;
    use super::super::network::Links;
    use super::super::primary::{Acknowledge, PrimaryConfig, PrimaryReplica};
    use super::super::quorum::{Quorum, QuorumConfig, ReadRepair};
    use super::*;
    use eas_ops::clock::SECOND;

    fn vectors() -> Matrix {
        Matrix::from_vec(100, 1, (0..100).map(|i| i as f32).collect()).unwrap()
    }

    #[test]
    fn without_faults_nothing_is_lost_or_refused_and_runs_repeat() {
        let config = QuorumConfig { dim: 1, w: 2, r: 2, read_repair: ReadRepair::Background };
        let work = Workload { operations: 500, ..Workload::new(1) };
        let outcome = || {
            let mut cluster = Cluster::new(Quorum::nodes(3, config).unwrap(), Links::default(), 5).unwrap();
            run(&mut cluster, &work, &vectors(), Quorum::copy).unwrap()
        };
        let first = outcome();
        assert_eq!((first.available, first.stale, first.lost), (1.0, 0, 0));
        assert_eq!(first, outcome());
    }

    #[test]
    fn an_asynchronous_primary_loses_what_only_it_had_and_one_acknowledgement_prevents_it() {
        for (acknowledge, loses) in [(Acknowledge::Async, true), (Acknowledge::Replicas(1), false)] {
            let nodes = (0..3).map(|_| PrimaryReplica::new(PrimaryConfig::new(1, acknowledge)).unwrap()).collect();
            // A slow network, so that the crash meets writes on their way.
            let links = Links { delay: 200 * MILLISECOND, jitter: 0.1, timeout: 2 * SECOND };
            let mut cluster = Cluster::new(nodes, links, 5).unwrap();
            let work = Workload {
                operations: 4_000,
                faults: vec![(50 * SECOND, Fault::Crash(0)), (150 * SECOND, Fault::Restart(0))],
                ..Workload::new(1)
            };
            let outcome = run(&mut cluster, &work, &vectors(), PrimaryReplica::copy).unwrap();
            assert_eq!(outcome.lost > 0, loses, "{outcome:?}");
            assert!(outcome.writes_available < 0.9 && outcome.writes_available > 0.6);
        }
    }

    #[test]
    fn every_primary_writes_through_a_split_and_all_is_kept() {
        let mut cluster = Cluster::new(MultiPrimaryNode::nodes(3, 1).unwrap(), Links::default(), 5).unwrap();
        let work = Workload {
            operations: 2_000,
            faults: vec![(20 * SECOND, Fault::Split(vec![0, 1, 1])), (60 * SECOND, Fault::Split(vec![0; 3]))],
            ..Workload::new(1)
        };
        let outcome = run(&mut cluster, &work, &vectors(), MultiPrimaryNode::copy).unwrap();
        assert_eq!((outcome.available, outcome.lost), (1.0, 0));
        assert!(outcome.stale > 0);
        let digests: Vec<u64> = cluster.nodes().iter().map(|node| node.copy().digest()).collect();
        assert!(digests.iter().all(|&digest| digest == digests[0]));
    }
}
