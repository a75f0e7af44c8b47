//! [`MultiPrimary`]: every node accepts writes and tells the others; of two writes to an id the later wins.
//!
//! "Later" by the machine's own clock loses updates: a node whose clock is behind can't overwrite what it has just read from
//! one whose clock is ahead. A *hybrid logical clock* (Kulkarni et al. 2014) never falls behind what it has seen: a write that
//! knows of another is later than it, whatever the clocks say. Deletes leave tombstones, and metadata isn't overwritten at
//! all but merged.

use std::collections::BTreeMap;

use eas_ann::Metric;
use eas_ops::clock::{Clock, Micros};

use super::network::{Outbox, Protocol, Reply, Request, RequestId};
use super::{ReplicaError, Stamp, VectorCopy, Write};
use crate::crdt::{Merge, NodeId, OrSet};

/// Which clock stamps a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stamping {
    /// The node's own clock: what loses updates under skew.
    Wall,
    /// The hybrid logical clock.
    Hybrid,
}

/// A clock that follows physical time and never goes behind a stamp that it has seen.
#[derive(Debug, Clone)]
pub struct HybridClock {
    node: NodeId,
    last: Stamp,
}

impl HybridClock {
    /// A clock of `node` that has seen nothing.
    pub fn new(node: NodeId) -> Self {
        Self { node, last: Stamp::default() }
    }

    /// A stamp later than everything seen, at `physical` time when that is later still.
    pub fn tick(&mut self, physical: Micros) -> Stamp {
        let counter = if physical > self.last.time { 0 } else { self.last.counter + 1 };
        self.last = Stamp { time: physical.max(self.last.time), counter, node: self.node };
        self.last
    }

    /// Takes note of another node's stamp.
    pub fn observe(&mut self, stamp: Stamp) {
        self.last = self.last.max(stamp);
    }
}

/// A change as it travels. Tags carry the whole set of the id: merging it twice does no harm.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A vector was stored or deleted.
    Vector {
        /// The write.
        write: Write,
        /// Its stamp.
        stamp: Stamp,
    },
    /// The tags of an id were changed.
    Tags {
        /// The id.
        id: u64,
        /// Its tags.
        tags: OrSet<String>,
    },
}

/// One node's data: vectors by last writer wins, tags by merging.
#[derive(Debug, Clone)]
pub struct MultiPrimary<C> {
    node: NodeId,
    clock: C,
    stamping: Stamping,
    hybrid: HybridClock,
    copy: VectorCopy,
    tags: BTreeMap<u64, OrSet<String>>,
}

impl<C: Clock> MultiPrimary<C> {
    /// An empty node that reads physical time from `clock`.
    pub fn new(node: NodeId, dim: usize, clock: C, stamping: Stamping) -> Result<Self, ReplicaError> {
        Ok(Self {
            node,
            clock,
            stamping,
            hybrid: HybridClock::new(node),
            copy: VectorCopy::new(dim, Metric::SquaredL2)?,
            tags: BTreeMap::new(),
        })
    }

    /// Applies a client's write here and returns the change to send to every other node.
    pub fn write(&mut self, write: Write) -> Result<Change, ReplicaError> {
        let physical = self.clock.now();
        let stamp = match self.stamping {
            Stamping::Hybrid => self.hybrid.tick(physical),
            Stamping::Wall => Stamp { time: physical, counter: 0, node: self.node },
        };
        self.copy.apply(&write, stamp)?;
        Ok(Change::Vector { write, stamp })
    }

    /// Adds a tag to an id.
    pub fn tag(&mut self, id: u64, tag: &str) -> Change {
        let tags = self.tags.entry(id).or_default();
        tags.add(self.node, tag.to_owned());
        Change::Tags { id, tags: tags.clone() }
    }

    /// Takes a tag from an id.
    pub fn untag(&mut self, id: u64, tag: &str) -> Change {
        let tags = self.tags.entry(id).or_default();
        tags.remove(&tag.to_owned());
        Change::Tags { id, tags: tags.clone() }
    }

    /// Applies another node's change. The order of changes doesn't matter, nor whether one comes twice.
    pub fn receive(&mut self, change: &Change) -> Result<(), ReplicaError> {
        match change {
            Change::Vector { write, stamp } => {
                self.hybrid.observe(*stamp);
                self.copy.apply(write, *stamp)?;
            }
            Change::Tags { id, tags } => self.tags.entry(*id).or_default().merge(tags),
        }
        Ok(())
    }

    /// The vectors.
    pub fn copy(&self) -> &VectorCopy {
        &self.copy
    }

    /// The tags of each id.
    pub fn tags(&self) -> &BTreeMap<u64, OrSet<String>> {
        &self.tags
    }
}

/// The same as a [`Protocol`] node: it answers from its own data at once and tells the others. A message may be lost, so
/// every `GOSSIP` microseconds it also sends one node all it has.
#[derive(Debug, Clone)]
pub struct MultiPrimaryNode {
    hybrid: HybridClock,
    copy: VectorCopy,
}

/// Span between two rounds of gossip.
pub const GOSSIP: Micros = 5 * eas_ops::clock::SECOND;

/// What nodes tell each other: writes with their stamps.
pub type Gossip = Vec<(Stamp, Write)>;

impl MultiPrimaryNode {
    /// `n` empty nodes.
    pub fn nodes(n: usize, dim: usize) -> Result<Vec<Self>, ReplicaError> {
        let node = |node| Ok(Self { hybrid: HybridClock::new(node), copy: VectorCopy::new(dim, Metric::SquaredL2)? });
        (0..n as NodeId).map(node).collect()
    }

    /// What the node holds.
    pub fn copy(&self) -> &VectorCopy {
        &self.copy
    }
}

impl Protocol for MultiPrimaryNode {
    type Message = Gossip;
    type Timer = ();

    fn start(&mut self, out: &mut Outbox<'_, Gossip, ()>) {
        out.remind(GOSSIP, ());
    }

    fn request(
        &mut self,
        id: RequestId,
        request: Request,
        out: &mut Outbox<'_, Gossip, ()>,
    ) -> Result<(), ReplicaError> {
        match request {
            Request::Read(key) => {
                let found = self.copy.newest(key).map(|(stamp, write)| (stamp, write.row));
                out.reply(id, Reply::Read(found));
            }
            Request::Write(write) => {
                let stamp = self.hybrid.tick(out.now);
                self.copy.apply(&write, stamp)?;
                out.reply(id, Reply::Written(stamp));
                out.broadcast(&vec![(stamp, write)]);
            }
        }
        Ok(())
    }

    fn message(&mut self, _: NodeId, writes: Gossip, _: &mut Outbox<'_, Gossip, ()>) -> Result<(), ReplicaError> {
        for (stamp, write) in writes {
            self.hybrid.observe(stamp);
            self.copy.apply(&write, stamp)?;
        }
        Ok(())
    }

    fn timer(&mut self, (): (), out: &mut Outbox<'_, Gossip, ()>) {
        let everything: Gossip = self.copy.writes().collect();
        let others: Vec<NodeId> = out.others().collect();
        if !others.is_empty() {
            let chosen = out.jitter(0, others.len() as Micros) as usize;
            out.send(others[chosen], everything);
        }
        out.remind(GOSSIP, ());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eas_ops::clock::{MILLISECOND, SkewedClock, VirtualClock};
    use eas_tensor::rng::SplitMix64;
    use proptest::prelude::*;

    #[test]
    fn under_skew_the_wall_clock_loses_a_later_update_and_the_hybrid_clock_does_not() {
        for (stamping, survives) in [(Stamping::Wall, false), (Stamping::Hybrid, true)] {
            let clock = VirtualClock::new();
            let ahead = SkewedClock::new(clock.clone(), 500 * MILLISECOND as i64);
            let mut fast = MultiPrimary::new(0, 1, ahead, stamping).unwrap();
            let mut slow = MultiPrimary::new(1, 1, SkewedClock::new(clock.clone(), 0), stamping).unwrap();
            let first = fast.write(Write::upsert(1, &[1.0])).unwrap();
            clock.advance(100 * MILLISECOND);
            slow.receive(&first).unwrap();
            clock.advance(100 * MILLISECOND);
            let second = slow.write(Write::upsert(1, &[2.0])).unwrap();
            fast.receive(&second).unwrap();
            for copy in [fast.copy(), slow.copy()] {
                assert_eq!(copy.index().vector(1), Some(&[if survives { 2.0 } else { 1.0 }][..]));
            }
        }
    }

    proptest! {
        /// A stamp is later than every stamp its clock has made or seen, and no further ahead than the furthest clock.
        #[test]
        fn hybrid_stamps_respect_causality(seed in any::<u64>()) {
            let mut rng = SplitMix64::new(seed);
            let mut clocks: Vec<HybridClock> = (0..3).map(HybridClock::new).collect();
            let (mut time, mut latest) = (0, [Stamp::default(); 3]);
            for _ in 0..200 {
                time += rng.below(3) as u64;
                let node = rng.below(3);
                let stamp = clocks[node].tick(time + 10 * node as u64);
                prop_assert!(stamp > latest[node] && stamp.time <= time + 20);
                latest[node] = stamp;
                let other = rng.below(3);
                clocks[other].observe(stamp);
                latest[other] = latest[other].max(stamp);
            }
        }
    }

    #[test]
    fn nodes_converge_for_every_order_of_delivery() {
        for seed in 0..100 {
            let mut rng = SplitMix64::new(seed);
            let clock = VirtualClock::new();
            let node = |i: NodeId| {
                let skewed = SkewedClock::new(clock.clone(), i64::from(i) * 300_000);
                MultiPrimary::new(i, 1, skewed, Stamping::Hybrid).unwrap()
            };
            let mut nodes: Vec<_> = (0..3).map(node).collect();
            let mut changes = Vec::new();
            for step in 0..80 {
                clock.advance(rng.below(50_000) as u64);
                let (node, id) = (&mut nodes[rng.below(3)], rng.below(6) as u64);
                changes.push(match rng.below(5) {
                    0 => node.write(Write::delete(id)).unwrap(),
                    1 => node.tag(id, ["red", "sale"][rng.below(2)]),
                    2 => node.untag(id, "sale"),
                    _ => node.write(Write::upsert(id, &[step as f32])).unwrap(),
                });
                if rng.chance(0.3) {
                    let change = changes[rng.below(changes.len())].clone();
                    nodes[rng.below(3)].receive(&change).unwrap();
                }
            }
            changes.extend(changes.clone());
            for node in &mut nodes {
                rng.shuffle(&mut changes);
                for change in &changes {
                    node.receive(change).unwrap();
                }
            }
            for node in &nodes[1..] {
                assert_eq!(node.copy().digest(), nodes[0].copy().digest());
                assert_eq!(node.tags(), nodes[0].tags());
            }
        }
    }
}
