//! [`ReplicatedStore`]: a primary whose replicas follow after a lag, and what readers see of that.
//!
//! A write is committed on the primary at once and travels to every replica by itself; deletes travel on a channel of their
//! own that is quicker. Changes may overtake each other: a replica applies each to its own id only when it is newer. When
//! the network splits, the store keeps one of two promises: [`Mode::Ap`] answers everywhere, from old data and flagged
//! as such, and lets cut-off nodes accept writes; [`Mode::Cp`] reads from the primary alone, and refuses when it can't be
//! reached. After healing, nodes compare version vectors and exchange what the other lacks.
//!
//! Permissions are kept by the primary alone and asked at every read, so that a revocation holds at once; a node that can't
//! ask shows nothing.

use std::collections::{BTreeMap, BTreeSet};

use eas_ann::{Hit, Metric};
use eas_ops::clock::{MILLISECOND, Micros};
use eas_ops::sim::Sim;

use super::{ReplicaError, Stamp, VectorCopy, Write};
use crate::crdt::{Causality, Merge, NodeId, VersionVector};

/// The node that commits writes while it can be reached.
pub const PRIMARY: usize = 0;

/// How long a change takes to a replica.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Lag {
    /// Exponentially distributed, with this mean in seconds.
    Exponential(f64),
    /// Always the same.
    Fixed(Micros),
}

/// What gives way when the network splits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Consistency: every node answers and accepts writes.
    Ap,
    /// Availability: only the primary answers, and only while it reaches a majority.
    Cp,
}

/// Which node a read goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReadPolicy {
    /// Any node that can be reached, by chance.
    Any,
    /// A node that has every write of this client, by chance among these.
    Session,
    /// The primary.
    Primary,
}

/// A [`ReplicatedStore`]'s make.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StoreConfig {
    /// Dimension of the vectors.
    pub dim: usize,
    /// How they are compared.
    pub metric: Metric,
    /// Replicas besides the primary.
    pub replicas: usize,
    /// Lag of upserts.
    pub lag: Lag,
    /// Lag of deletes.
    pub tombstone_lag: Micros,
    /// From the commit of a write until its client hears of it.
    pub write_ack: Micros,
    /// What gives way when the network splits.
    pub mode: Mode,
}

impl StoreConfig {
    /// Two replicas with a lag of one second on average, deletes in 200 ms, acknowledgement in 100 ms, [`Mode::Ap`].
    pub fn new(dim: usize) -> Self {
        Self {
            dim,
            metric: Metric::SquaredL2,
            replicas: 2,
            lag: Lag::Exponential(1.0),
            tombstone_lag: 200 * MILLISECOND,
            write_ack: 100 * MILLISECOND,
            mode: Mode::Ap,
        }
    }
}

/// A client near one node. It remembers the stamps of its own writes: that is its session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Client {
    /// The node it is near.
    pub home: usize,
    written: BTreeMap<u64, Stamp>,
}

impl Client {
    /// A client near node `home` that hasn't written anything.
    pub fn near(home: usize) -> Self {
        Self { home, ..Self::default() }
    }
}

/// A committed write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Its place in the order of versions.
    pub stamp: Stamp,
    /// When the client hears of it.
    pub acknowledged: Micros,
    /// The node that committed it.
    pub node: usize,
}

/// The answer to a read.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The nearest vectors.
    pub hits: Vec<Hit>,
    /// The node that answered.
    pub node: usize,
    /// The flag of [`Mode::Ap`]: how long the node has been cut off from the primary, if it is.
    pub staleness: Option<Micros>,
}

/// A change on its way, with what its writer knew of the id.
#[derive(Debug, Clone)]
struct Change {
    write: Write,
    stamp: Stamp,
    version: VersionVector,
    origin: NodeId,
    number: u64,
}

#[derive(Debug, Hash)]
struct Arrival {
    node: usize,
    change: usize,
}

#[derive(Debug)]
struct Node {
    copy: VectorCopy,
    /// The version of each id: which writes of which nodes it descends from.
    versions: BTreeMap<u64, VersionVector>,
    /// All changes of each node up to a number.
    known: VersionVector,
    /// Changes that came before an earlier one of the same node.
    ahead: BTreeSet<(NodeId, u64)>,
    group: usize,
}

impl Node {
    fn knows(&self, change: &Change) -> bool {
        self.known.contains(change.origin, change.number) || self.ahead.contains(&(change.origin, change.number))
    }
}

/// A primary and its replicas in simulated time.
#[derive(Debug)]
pub struct ReplicatedStore {
    config: StoreConfig,
    sim: Sim<Arrival>,
    nodes: Vec<Node>,
    changes: Vec<Change>,
    allowed: BTreeSet<u64>,
    split_at: Option<Micros>,
    conflicts: usize,
}

impl ReplicatedStore {
    /// An empty store.
    pub fn new(config: StoreConfig, seed: u64) -> Result<Self, ReplicaError> {
        let node = || -> Result<Node, ReplicaError> {
            Ok(Node {
                copy: VectorCopy::new(config.dim, config.metric)?,
                versions: BTreeMap::new(),
                known: VersionVector::default(),
                ahead: BTreeSet::new(),
                group: 0,
            })
        };
        Ok(Self {
            nodes: (0..=config.replicas).map(|_| node()).collect::<Result<_, _>>()?,
            config,
            sim: Sim::new(seed),
            changes: Vec::new(),
            allowed: BTreeSet::new(),
            split_at: None,
            conflicts: 0,
        })
    }

    /// Microseconds since the start.
    pub fn now(&self) -> Micros {
        self.sim.now()
    }

    /// Lets changes arrive until `time`.
    pub fn run_until(&mut self, time: Micros) -> Result<(), ReplicaError> {
        while let Some(Arrival { node, change }) = self.sim.next_until(time) {
            // A change that finds its way cut is lost; anti-entropy brings it after healing.
            if self.nodes[node].group == self.nodes[self.changes[change].origin as usize].group {
                self.deliver(node, change)?;
            }
        }
        Ok(())
    }

    /// Commits a write: on the primary, or on the client's own node when that is cut off and the store is
    /// [`Mode::Ap`].
    pub fn write(&mut self, client: &mut Client, write: Write) -> Result<Receipt, ReplicaError> {
        self.check(client.home)?;
        let node = match self.config.mode {
            _ if self.primary_answers(client.home) => PRIMARY,
            Mode::Ap => client.home,
            Mode::Cp => return Err(self.unavailable(client.home)),
        };
        let origin = node as NodeId;
        let stamp = Stamp { time: self.now(), counter: self.changes.len() as u64, node: origin };
        let mut version = self.nodes[node].versions.get(&write.id).cloned().unwrap_or_default();
        version.increment(origin);
        let number = self.nodes[node].known.get(origin) + 1;
        let id = write.id;
        let is_delete = write.row.is_none();
        self.changes.push(Change { write, stamp, version, origin, number });
        let change = self.changes.len() - 1;
        if let Err(refused) = self.deliver(node, change) {
            self.changes.pop();
            return Err(refused);
        }
        client.written.insert(id, stamp);
        for other in (0..self.nodes.len()).filter(|&other| other != node) {
            let delay = match self.config.lag {
                _ if is_delete => self.config.tombstone_lag,
                Lag::Fixed(lag) => lag,
                Lag::Exponential(mean) => self.sim.exponential(mean),
            };
            self.sim.after(delay, Arrival { node: other, change });
        }
        Ok(Receipt { stamp, acknowledged: self.now() + self.config.write_ack, node })
    }

    /// The `k` nearest vectors to `query` on a node chosen by `policy` among those that the client can reach.
    pub fn read(
        &mut self,
        client: &Client,
        policy: ReadPolicy,
        query: &[f32],
        k: usize,
    ) -> Result<Answer, ReplicaError> {
        self.check(client.home)?;
        let current = self.primary_answers(client.home);
        if self.config.mode == Mode::Cp && !current {
            return Err(self.unavailable(client.home));
        }
        let has = |node: &Node, id: &u64, stamp: &Stamp| node.copy.stamp(*id).is_some_and(|present| present >= *stamp);
        let node = match policy {
            // Only the primary is sure to be current.
            _ if self.config.mode == Mode::Cp => PRIMARY,
            ReadPolicy::Primary if current => PRIMARY,
            ReadPolicy::Primary => client.home,
            ReadPolicy::Any | ReadPolicy::Session => {
                let group = self.nodes[client.home].group;
                let fit: Vec<usize> = (0..self.nodes.len())
                    .filter(|&node| self.nodes[node].group == group)
                    .filter(|&node| {
                        policy == ReadPolicy::Any
                            || client.written.iter().all(|(id, stamp)| has(&self.nodes[node], id, stamp))
                    })
                    .collect();
                // No node has every write of the session: the client's own is as good as any.
                self.sim.rng().choose(&fit).copied().unwrap_or(client.home)
            }
        };
        let hits = self.nodes[node].copy.search(query, k)?;
        self.sim.note(&(node, hits.iter().map(|hit| hit.id).collect::<Vec<_>>()));
        let cut_off = self.nodes[node].group != self.nodes[PRIMARY].group;
        Ok(Answer { hits, node, staleness: self.split_at.filter(|_| cut_off).map(|since| self.now() - since) })
    }

    /// The same for a user who needs a permission, which the primary is asked for: a user without one gets no hits.
    pub fn read_as(
        &mut self,
        user: u64,
        client: &Client,
        policy: ReadPolicy,
        query: &[f32],
        k: usize,
    ) -> Result<Answer, ReplicaError> {
        self.check(client.home)?;
        if self.nodes[client.home].group != self.nodes[PRIMARY].group {
            return Err(ReplicaError::PermissionUnknown { node: client.home, user });
        }
        let mut answer = self.read(client, policy, query, k)?;
        if !self.allowed.contains(&user) {
            answer.hits.clear();
        }
        Ok(answer)
    }

    /// Permits a user to read.
    pub fn grant(&mut self, user: u64) {
        self.allowed.insert(user);
    }

    /// Takes a user's permission back, at once and everywhere.
    pub fn revoke(&mut self, user: u64) {
        self.allowed.remove(&user);
    }

    /// Splits the network: nodes of different groups don't hear of each other. `groups[i]` is the group of node `i`.
    pub fn split(&mut self, groups: &[usize]) -> Result<(), ReplicaError> {
        if groups.len() != self.nodes.len() {
            return Err(ReplicaError::Parameter {
                name: "groups",
                got: format!("{} groups", groups.len()),
                expected: "one for every node",
            });
        }
        for (node, &group) in self.nodes.iter_mut().zip(groups) {
            node.group = group;
        }
        self.split_at = Some(self.now());
        Ok(())
    }

    /// Joins the network again. Every node tells every other what its version vector shows to be missing there.
    pub fn heal(&mut self) {
        for node in &mut self.nodes {
            node.group = 0;
        }
        self.split_at = None;
        for node in 0..self.nodes.len() {
            for change in 0..self.changes.len() {
                let known_elsewhere = self.nodes.iter().any(|other| other.knows(&self.changes[change]));
                if known_elsewhere && !self.nodes[node].knows(&self.changes[change]) {
                    self.sim.after(self.config.write_ack, Arrival { node, change });
                }
            }
        }
    }

    /// Hash of each node's content.
    pub fn digests(&self) -> Vec<u64> {
        self.nodes.iter().map(|node| node.copy.digest()).collect()
    }

    /// What a node holds.
    pub fn copy(&self, node: usize) -> Option<&VectorCopy> {
        self.nodes.get(node).map(|node| &node.copy)
    }

    /// A copy that has every change: what a fully synced store would answer from.
    pub fn synced(&self) -> Result<VectorCopy, ReplicaError> {
        let mut copy = VectorCopy::new(self.config.dim, self.config.metric)?;
        for change in &self.changes {
            copy.apply(&change.write, change.stamp)?;
        }
        Ok(copy)
    }

    /// Pairs of writes that turned out to be concurrent: neither writer knew of the other.
    pub fn conflicts(&self) -> usize {
        self.conflicts
    }

    /// Hash of every arrival and every answer.
    pub fn trace_hash(&self) -> u64 {
        self.sim.trace_hash()
    }

    fn deliver(&mut self, node: usize, change: usize) -> Result<(), ReplicaError> {
        let change = &self.changes[change];
        let node = &mut self.nodes[node];
        if node.knows(change) {
            return Ok(());
        }
        node.copy.apply(&change.write, change.stamp)?;
        let version = node.versions.entry(change.write.id).or_default();
        if version.compare(&change.version) == Causality::Concurrent {
            self.conflicts += 1;
        }
        version.merge(&change.version);
        node.ahead.insert((change.origin, change.number));
        while node.ahead.remove(&(change.origin, node.known.get(change.origin) + 1)) {
            node.known.increment(change.origin);
        }
        Ok(())
    }

    /// Whether the primary can be reached from `home` and, where that counts, reaches a majority itself.
    fn primary_answers(&self, home: usize) -> bool {
        let group = self.nodes[PRIMARY].group;
        self.nodes[home].group == group
            && (self.config.mode == Mode::Ap || 2 * self.reached(PRIMARY) > self.nodes.len())
    }

    fn reached(&self, from: usize) -> usize {
        let group = self.nodes[from].group;
        self.nodes.iter().filter(|node| node.group == group).count()
    }

    fn unavailable(&self, node: usize) -> ReplicaError {
        ReplicaError::Unavailable { node, reached: self.reached(node), nodes: self.nodes.len() }
    }

    fn check(&self, node: usize) -> Result<(), ReplicaError> {
        if node < self.nodes.len() {
            return Ok(());
        }
        Err(ReplicaError::UnknownNode { node, nodes: self.nodes.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eas_ops::clock::SECOND;
    use eas_tensor::rng::SplitMix64;
    use proptest::prelude::*;

    fn store(change: impl FnOnce(&mut StoreConfig)) -> ReplicatedStore {
        let mut config = StoreConfig::new(1);
        change(&mut config);
        ReplicatedStore::new(config, 3).unwrap()
    }

    fn ids(answer: &Answer) -> Vec<u64> {
        answer.hits.iter().map(|hit| hit.id).collect()
    }

    #[test]
    fn with_a_fixed_lag_the_replicas_are_behind_exactly_until_it_has_passed() {
        let mut store = store(|config| config.lag = Lag::Fixed(5 * SECOND));
        let receipt = store.write(&mut Client::near(1), Write::upsert(7, &[1.0])).unwrap();
        assert_eq!((receipt.node, receipt.acknowledged), (PRIMARY, 100 * MILLISECOND));
        let behind = |store: &ReplicatedStore| (0..3).filter(|&n| store.copy(n).unwrap().stamp(7).is_none()).count();
        store.run_until(5 * SECOND - 1).unwrap();
        assert_eq!(behind(&store), 2);
        store.run_until(5 * SECOND).unwrap();
        assert_eq!(behind(&store), 0);
    }

    #[test]
    fn a_session_reads_its_own_writes() {
        let mut store = store(|_| ());
        let mut client = Client::near(1);
        let mut missed = 0;
        for id in 0..300 {
            store.write(&mut client, Write::upsert(id, &[id as f32])).unwrap();
            store.run_until(store.now() + 300 * MILLISECOND).unwrap();
            for policy in [ReadPolicy::Session, ReadPolicy::Primary] {
                assert_eq!(ids(&store.read(&client, policy, &[id as f32], 1).unwrap()), [id]);
            }
            missed += usize::from(ids(&store.read(&client, ReadPolicy::Any, &[id as f32], 1).unwrap()) != [id]);
        }
        assert!(missed > 100, "{missed}");
    }

    #[test]
    fn a_split_in_cp_refuses_the_minority_and_in_ap_flags_it() {
        for mode in [Mode::Ap, Mode::Cp] {
            let mut store = store(|config| config.mode = mode);
            let (mut here, mut there) = (Client::near(1), Client::near(2));
            store.write(&mut here, Write::upsert(1, &[1.0])).unwrap();
            store.run_until(20 * SECOND).unwrap();
            store.split(&[0, 0, 1]).unwrap();
            store.run_until(25 * SECOND).unwrap();
            store.write(&mut here, Write::upsert(2, &[2.0])).unwrap();
            let written = store.write(&mut there, Write::upsert(1, &[9.0]));
            let answer = store.read(&there, ReadPolicy::Any, &[1.0], 5);
            let majority = store.read(&here, ReadPolicy::Any, &[2.0], 1).unwrap();
            if mode == Mode::Ap {
                assert_eq!(written.unwrap().node, 2);
                let answer = answer.unwrap();
                assert_eq!((ids(&answer), answer.staleness), (vec![1], Some(5 * SECOND)));
                store.write(&mut here, Write::upsert(1, &[3.0])).unwrap();
            } else {
                let message = answer.unwrap_err().to_string();
                assert!(message.contains("node 2 reaches 1 of 3"), "{message}");
                assert!(written.is_err());
                assert_eq!((majority.node, ids(&majority)), (PRIMARY, vec![2]));
            }
            assert!(matches!(
                store.read_as(5, &there, ReadPolicy::Any, &[1.0], 5),
                Err(ReplicaError::PermissionUnknown { node: 2, user: 5 })
            ));
            store.heal();
            store.run_until(60 * SECOND).unwrap();
            let digests = store.digests();
            assert!(digests.iter().all(|&digest| digest == store.synced().unwrap().digest()));
            assert_eq!(store.conflicts() > 0, mode == Mode::Ap);
        }
    }

    #[test]
    fn a_primary_in_the_minority_refuses_in_cp() {
        let mut store = store(|config| config.mode = Mode::Cp);
        store.split(&[0, 1, 1]).unwrap();
        assert!(store.read(&Client::near(0), ReadPolicy::Any, &[1.0], 1).is_err());
        assert!(store.split(&[0, 1]).is_err());
    }

    #[test]
    fn a_revoked_user_sees_nothing_at_once() {
        let mut store = store(|_| ());
        let mut client = Client::near(0);
        store.write(&mut client, Write::upsert(1, &[1.0])).unwrap();
        store.grant(5);
        assert_eq!(store.read_as(5, &client, ReadPolicy::Primary, &[1.0], 1).unwrap().hits.len(), 1);
        store.revoke(5);
        assert!(store.read_as(5, &client, ReadPolicy::Primary, &[1.0], 1).unwrap().hits.is_empty());
    }

    #[test]
    fn bad_input_is_refused_and_forgotten() {
        let mut store = store(|_| ());
        assert!(store.write(&mut Client::near(9), Write::delete(1)).is_err());
        let mut client = Client::near(0);
        assert!(store.write(&mut client, Write::upsert(1, &[f32::NAN])).is_err());
        assert!(store.read(&client, ReadPolicy::Any, &[1.0, 2.0], 1).is_err());
        store.write(&mut client, Write::upsert(1, &[1.0])).unwrap();
        store.run_until(60 * SECOND).unwrap();
        assert!(store.digests().iter().all(|&digest| digest == store.synced().unwrap().digest()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        /// Random writes, deletes and splits: once healed, every node holds what a store without lag would hold.
        #[test]
        fn replicas_converge_after_healing(seed in any::<u64>()) {
            let mut rng = SplitMix64::new(seed);
            let mut store = ReplicatedStore::new(StoreConfig::new(1), seed).unwrap();
            for step in 0..120u64 {
                let mut client = Client::near(rng.below(3));
                let id = rng.below(10) as u64;
                let write = if rng.chance(0.2) { Write::delete(id) } else { Write::upsert(id, &[step as f32]) };
                store.write(&mut client, write).unwrap();
                match rng.below(10) {
                    0 => store.split(&[0, rng.below(2), rng.below(3)]).unwrap(),
                    1 => store.heal(),
                    _ => (),
                }
                let until = store.now() + rng.below(500_000) as u64;
                store.run_until(until).unwrap();
            }
            store.heal();
            store.run_until(store.now() + 60 * SECOND).unwrap();
            let expected = store.synced().unwrap().digest();
            prop_assert_eq!(store.digests(), vec![expected; 3]);
        }
    }
}
