//! Three patterns of replication under the same faults (listing 3.15).

use std::collections::BTreeSet;
use std::ops::Range;

use eas_ops::clock::{MILLISECOND, Micros, SECOND, SkewedClock, VirtualClock, seconds};
use eas_pipeline::crdt::NodeId;
use eas_pipeline::replica::multi::{MultiPrimary, MultiPrimaryNode, Stamping};
use eas_pipeline::replica::network::{Cluster, Links, Request};
use eas_pipeline::replica::primary::{Acknowledge, PrimaryConfig, PrimaryReplica};
use eas_pipeline::replica::quorum::{Quorum, QuorumConfig, ReadRepair};
use eas_pipeline::replica::workload::{Fault, Outcome, Workload, run};
use eas_pipeline::replica::{ReplicaError, Write};
use eas_tensor::Matrix;
use eas_tensor::rng::SplitMix64;

/// Nodes of every cluster.
pub const NODES: usize = 3;
/// When nodes crash or are cut off, and until when.
pub const FAULT: Range<Micros> = 20 * SECOND..80 * SECOND;

/// A pattern of replication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// One leader, when it acknowledges a write.
    Primary(Acknowledge),
    /// Every node accepts writes.
    Multi,
    /// Two of three.
    Quorum,
}

/// One pattern under one fault.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The pattern.
    pub pattern: Pattern,
    /// `none`, `crash` or `split`.
    pub fault: &'static str,
    /// What clients saw.
    pub outcome: Outcome,
    /// Terms with the time at which their leader was elected.
    pub led: Vec<(u64, Micros)>,
}

impl Report {
    /// From the fault until a new leader was elected, in seconds.
    pub fn failover(&self) -> Option<f64> {
        let after = self.led.iter().filter(|(_, at)| *at > FAULT.start);
        after.map(|(_, at)| seconds(at - FAULT.start)).min_by(f64::total_cmp)
    }

    /// Whether every term had one leader at most.
    pub fn one_leader_a_term(&self) -> bool {
        let terms: BTreeSet<u64> = self.led.iter().map(|(term, _)| *term).collect();
        terms.len() == self.led.len()
    }
}

/// What happens to node 0, the first leader.
pub fn faults() -> [(&'static str, Vec<(Micros, Fault)>); 3] {
    let (from, to) = (FAULT.start, FAULT.end);
    let split = |groups: &[usize]| Fault::Split(groups.to_vec());
    [
        ("none", Vec::new()),
        ("crash", vec![(from, Fault::Crash(0)), (to, Fault::Restart(0))]),
        ("split", vec![(from, split(&[0, 1, 1])), (to, split(&[0; NODES]))]),
    ]
}

/// Every pattern under every fault.
#[derive(Debug)]
pub struct Comparison(pub Vec<Report>);

impl Comparison {
    /// Runs them all.
    pub fn run(patterns: &[Pattern], vectors: &Matrix, seed: u64) -> Result<Self, ReplicaError> {
        let mut reports = Vec::new();
        for &pattern in patterns {
            for (fault, faults) in faults() {
                let (outcome, led) = run_pattern(pattern, &faults, vectors, seed)?;
                reports.push(Report { pattern, fault, outcome, led });
            }
        }
        Ok(Self(reports))
    }

    /// What clients saw of a pattern, under each fault or, when it isn't empty, under one.
    pub fn of(&self, pattern: Pattern, fault: &str) -> impl Iterator<Item = &Outcome> {
        let wanted = move |report: &&Report| report.pattern == pattern && (fault.is_empty() || report.fault == fault);
        self.0.iter().filter(wanted).map(|report| &report.outcome)
    }

    /// Acknowledged writes that a pattern lost.
    pub fn lost(&self, pattern: Pattern, fault: &str) -> usize {
        self.of(pattern, fault).map(|outcome| outcome.lost).sum()
    }
}

/// Links between regions: 100 ms and as much again on average.
pub fn far_links() -> Links {
    Links { delay: 100 * MILLISECOND, jitter: 0.1, timeout: 2 * SECOND }
}

/// 5,000 operations, one every 20 ms, against one pattern with these faults: what clients saw, and the elections.
fn run_pattern(
    pattern: Pattern,
    faults: &[(Micros, Fault)],
    vectors: &Matrix,
    seed: u64,
) -> Result<(Outcome, Vec<(u64, Micros)>), ReplicaError> {
    let work = Workload { every: 20 * MILLISECOND, recent: 25, faults: faults.to_vec(), ..Workload::new(seed) };
    let (links, dim) = (far_links(), vectors.dim());
    match pattern {
        Pattern::Primary(acknowledge) => {
            let node = |_| PrimaryReplica::new(PrimaryConfig::new(dim, acknowledge));
            let nodes = (0..NODES).map(node).collect::<Result<_, _>>()?;
            let mut cluster = Cluster::new(nodes, links, seed)?;
            let outcome = run(&mut cluster, &work, vectors, PrimaryReplica::copy)?;
            let led = cluster.nodes().iter().flat_map(PrimaryReplica::led).copied().collect();
            Ok((outcome, led))
        }
        Pattern::Multi => {
            let mut cluster = Cluster::new(MultiPrimaryNode::nodes(NODES, dim)?, links, seed)?;
            let outcome = run(&mut cluster, &work, vectors, MultiPrimaryNode::copy)?;
            Ok((outcome, Vec::new()))
        }
        Pattern::Quorum => Ok((quorum(2, 2, &work, vectors, seed)?, Vec::new())),
    }
}

/// A workload against W of three and R of three with read repair.
pub fn quorum(w: usize, r: usize, work: &Workload, vectors: &Matrix, seed: u64) -> Result<Outcome, ReplicaError> {
    let config = QuorumConfig { dim: vectors.dim(), w, r, read_repair: ReadRepair::Background };
    let mut cluster = Cluster::new(Quorum::nodes(NODES, config)?, far_links(), seed)?;
    run(&mut cluster, work, vectors, Quorum::copy)
}

/// Share of writes that succeed when each node is up with probability `p` and `w` of three must have the write.
pub fn availability(w: usize, p: f64, writes: usize, seed: u64) -> Result<f64, ReplicaError> {
    let config = QuorumConfig { dim: 1, w, r: 1, read_repair: ReadRepair::Off };
    let links = Links { delay: MILLISECOND, jitter: 0.0, timeout: SECOND };
    let mut cluster = Cluster::new(Quorum::nodes(NODES, config)?, links, seed)?;
    let mut rng = SplitMix64::stream(seed, w as u64);
    for _ in 0..writes {
        for node in 0..NODES {
            if rng.chance(p) {
                cluster.restart(node)?;
            } else {
                cluster.crash(node);
            }
        }
        cluster.ask(rng.below(NODES), Request::Write(Write::upsert(1, &[1.0])));
        cluster.run_until(cluster.now() + 10 * MILLISECOND)?;
    }
    let answered = cluster.asked().iter().filter(|asked| asked.answer.is_some()).count();
    Ok(answered as f64 / writes as f64)
}

/// Of `pairs` updates of a product, each written on a node after it has seen the one before, how many are lost because the
/// first node's clock is ahead by `skew`. The second update follows after 200 ms.
pub fn lost_to_skew(stamping: Stamping, skew: Micros, pairs: usize) -> Result<usize, ReplicaError> {
    let clock = VirtualClock::new();
    let mut fast = MultiPrimary::new(0, 1, SkewedClock::new(clock.clone(), skew as i64), stamping)?;
    let mut right = MultiPrimary::new(1, 1, SkewedClock::new(clock.clone(), 0), stamping)?;
    let mut lost = 0;
    for pair in 0..pairs {
        let first = fast.write(Write::upsert(pair as u64, &[1.0]))?;
        right.receive(&first)?;
        clock.advance(200 * MILLISECOND);
        let second = right.write(Write::upsert(pair as u64, &[2.0]))?;
        fast.receive(&second)?;
        lost += usize::from(fast.copy().index().vector(pair as u64) != Some(&[2.0]));
        clock.advance(SECOND);
    }
    Ok(lost)
}

/// Writes, deletes and tags on three nodes; the changes are then delivered to fresh nodes in `shuffles` random orders, each
/// twice. Returns the states, as hash of the vectors and tags of each id: one, when order doesn't matter.
pub fn states_over_orders(shuffles: u64, seed: u64) -> Result<Vec<String>, ReplicaError> {
    let clock = VirtualClock::new();
    let node = |i: NodeId| MultiPrimary::new(i, 1, clock.clone(), Stamping::Hybrid);
    let mut nodes = (0..NODES as NodeId).map(node).collect::<Result<Vec<_>, _>>()?;
    let mut rng = SplitMix64::new(seed);
    let mut changes = Vec::new();
    for step in 0..120 {
        clock.advance(rng.below(50_000) as Micros);
        let (at, id) = (rng.below(NODES), rng.below(10) as u64);
        changes.push(match rng.below(5) {
            0 => nodes[at].write(Write::delete(id))?,
            1 => nodes[at].tag(id, "sale"),
            2 => nodes[at].untag(id, "sale"),
            _ => nodes[at].write(Write::upsert(id, &[step as f32]))?,
        });
        let change = changes[rng.below(changes.len())].clone();
        nodes[rng.below(NODES)].receive(&change)?;
    }
    changes.extend(changes.clone());
    let mut states = Vec::new();
    for _ in 0..shuffles {
        rng.shuffle(&mut changes);
        let mut node = node(9)?;
        changes.iter().try_for_each(|change| node.receive(change))?;
        states.push(format!("{:016x} {:?}", node.copy().digest(), node.tags()));
    }
    states.sort();
    states.dedup();
    Ok(states)
}

/// A service that is to be replicated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Needs {
    /// Regions that must accept writes at once.
    pub writing_regions: usize,
    /// Writes a second.
    pub writes: f64,
    /// Reads a second.
    pub reads: f64,
    /// Vectors.
    pub vectors: f64,
}

/// Writes a second that one leader takes in before they have to be spread over shards, an assumption.
const WRITES_A_LEADER: f64 = 10_000.0;
/// Vectors a shard, an assumption.
const VECTORS_A_SHARD: f64 = 100e6;

/// The pattern, the shards that carry it (each replicated so), and why.
pub fn recommend(needs: Needs) -> (Pattern, usize, &'static str) {
    let (pattern, why) = if needs.writing_regions > 1 && needs.writes > 0.1 * needs.reads {
        (Pattern::Multi, "regions write much")
    } else if needs.writing_regions > 1 {
        (Pattern::Quorum, "regions mostly read")
    } else {
        (Pattern::Primary(Acknowledge::Replicas(1)), "one region writes")
    };
    let by_size = (needs.vectors / VECTORS_A_SHARD).ceil();
    let by_writes = if matches!(pattern, Pattern::Primary(_)) { (needs.writes / WRITES_A_LEADER).ceil() } else { 1.0 };
    (pattern, by_size.max(by_writes).max(1.0) as usize, why)
}
