//! Nodes that count by gossip, and leaders that work under leases, in virtual time (listing 3.17).

use std::collections::{BTreeMap, BTreeSet};

use eas_ops::clock::{MILLISECOND, SECOND};
use eas_ops::sim::{Sim, TraceHasher};
use eas_pipeline::crdt::{Merge, NodeId, PnCounter};
use eas_pipeline::lease::{Fenced, LeaseError, LeaseTable, ShardMap};
use eas_pipeline::placement::{JumpHash, Placement, PlacementError};

/// Nodes that count and nodes that lead.
pub const NODES: usize = 5;

/// How many of `ids` text ids two routers send to different ones of ten shards when each keys its hash with a secret of its
/// own, as processes do whose string hash is seeded at the start.
pub fn disagreeing_routers(ids: usize, seed: u64) -> Result<usize, PlacementError> {
    let shards = JumpHash::new(10)?;
    let route = |secret: u64, id: usize| shards.shard_of(TraceHasher::hash_of(&(secret, format!("sku-{id:05}"))));
    Ok((0..ids).filter(|&id| route(seed, id) != route(seed + 1, id)).count())
}

/// What five nodes counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gossip {
    /// The true total.
    pub truth: i64,
    /// The total by each node's replicated counter.
    pub counters: Vec<i64>,
    /// The total of a node that adds every change that arrives.
    pub naive: Vec<i64>,
    /// Messages sent.
    pub sent: usize,
    /// Messages lost.
    pub lost: usize,
    /// Messages delivered twice.
    pub repeated: usize,
}

/// Five nodes count for a second and send what they know to random peers: 30 % of the messages are lost, 20 % come twice,
/// all of them late by up to half a second. At the end every node hears every other once more.
pub fn gossip(seed: u64) -> Gossip {
    let mut sim: Sim<(usize, usize)> = Sim::new(seed);
    let mut nodes = vec![PnCounter::default(); NODES];
    let mut naive = vec![0; NODES];
    let mut sent: Vec<(PnCounter, i64)> = Vec::new();
    let (mut truth, mut lost, mut repeated) = (0, 0, 0);
    for _ in 0..50 {
        let (node, by) = (sim.rng().below(NODES), sim.rng().below(21) as i64 - 5);
        nodes[node].add(node as NodeId, by);
        naive[node] += by;
        truth += by;
        for to in (0..NODES).filter(|&to| to != node) {
            let fate = sim.rng().uniform();
            let copies = if fate < 0.3 {
                0
            } else if fate < 0.5 {
                2
            } else {
                1
            };
            lost += usize::from(copies == 0);
            repeated += usize::from(copies == 2);
            for _ in 0..copies {
                let delay = sim.rng().below(500) as u64 * MILLISECOND;
                sim.after(delay, (sent.len(), to));
            }
        }
        sent.push((nodes[node].clone(), by));
        let until = sim.now() + 20 * MILLISECOND;
        while let Some((message, to)) = sim.next_until(until) {
            nodes[to].merge(&sent[message].0);
            naive[to] += sent[message].1;
        }
    }
    while let Some((message, to)) = sim.next_event() {
        nodes[to].merge(&sent[message].0);
        naive[to] += sent[message].1;
    }
    let last = nodes.clone();
    for node in &mut nodes {
        for other in &last {
            node.merge(other);
        }
    }
    Gossip {
        truth,
        counters: nodes.iter().map(PnCounter::value).collect(),
        naive,
        sent: sent.len() * (NODES - 1),
        lost,
        repeated,
    }
}

/// What happened to leaders that pause.
#[derive(Debug)]
pub struct Leases {
    /// The write of a leader that slept through its lease while another took over.
    pub paused: Result<(), LeaseError>,
    /// Leases granted.
    pub granted: u64,
    /// Writes that came after their writer's lease had ended.
    pub late: usize,
    /// Writes that the fence refused.
    pub refused: usize,
    /// Whether the accepted writes came in the order of their tokens.
    pub in_order: bool,
    /// Who held each token.
    pub holders: BTreeMap<u64, BTreeSet<u32>>,
}

/// Nodes lead by lease and write once after a while, which now and then is after their lease has ended.
pub fn leaders(seed: u64) -> Result<Leases, LeaseError> {
    let mut sim: Sim<(u32, Option<u64>)> = Sim::new(seed);
    let mut table = LeaseTable::new(sim.clock());
    let mut map = Fenced::new(ShardMap { epoch: 1, dim: 256, leaders: vec![0; 4] });
    let old = table.acquire("shard map", 0, 10 * SECOND)?;
    sim.next_until(15 * SECOND);
    let new = table.acquire("shard map", 1, 10 * SECOND)?;
    map.write(new.token, |map| map.change(|map| map.leaders[0] = 1))?;
    let paused = map.write(old.token, |map| map.change(|map| map.dim = 768));

    let (mut granted, mut late, mut refused, mut accepted) = (new.token, 0, 0, Vec::new());
    let mut holders: BTreeMap<u64, BTreeSet<u32>> = BTreeMap::new();
    for node in 0..NODES as u32 {
        sim.after(u64::from(node) * SECOND, (node, None));
    }
    while let Some((node, token)) = sim.next_until(3_600 * SECOND) {
        if let Some(token) = token {
            late += usize::from(table.holder("shard map").is_none_or(|lease| lease.token != token));
            match map.write(token, |map| map.change(|map| map.leaders[0] = node)) {
                Ok(()) => accepted.push(token),
                Err(_) => refused += 1,
            }
        }
        if let Ok(lease) = table.acquire("shard map", node, 10 * SECOND) {
            granted = lease.token;
            holders.entry(lease.token).or_default().insert(lease.holder);
            let work = sim.exponential(6.0);
            sim.after(work, (node, Some(lease.token)));
        } else {
            let wait = sim.exponential(5.0);
            sim.after(wait, (node, None));
        }
    }
    let in_order = accepted.is_sorted();
    Ok(Leases { paused, granted, late, refused, in_order, holders })
}
