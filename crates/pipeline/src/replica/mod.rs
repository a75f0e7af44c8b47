//! Copies of an index on several nodes that change, lag behind, disagree and fail, in simulated time.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`store`] | a primary with lagging replicas: staleness, sessions, tombstones, partitions (Ap or Cp), anti-entropy |
//! | [`network`] | nodes that exchange messages with delays, crashes and partitions, and clients with time-outs |
//! | [`primary`] | one leader with a replicated log, terms and elections |
//! | [`multi`] | every node accepts writes: last writer wins by a hybrid logical clock |
//! | [`quorum`] | W of N nodes acknowledge a write, R of N answer a read, with read repair |
//! | [`history`] | whether what clients saw could have come from one register |
//! | [`workload`] | upserts and reads under faults: availability, stale reads, lost writes, latency |
//!
//! Every node holds a real [`eas_ann::FlatIndex`] in a [`VectorCopy`].

pub mod history;
pub mod multi;
pub mod network;
pub mod primary;
pub mod quorum;
pub mod store;
pub mod workload;

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use eas_ann::{AnnError, FlatIndex, Hit, Metric, VectorIndex};
use eas_ops::sim::TraceHasher;
use eas_tensor::{Matrix, TensorError};

use crate::crdt::NodeId;

/// What replicated stores refuse.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// A node number outside the cluster.
    #[error("node {node} of {nodes} doesn't exist")]
    UnknownNode {
        /// The node given.
        node: usize,
        /// Number of nodes.
        nodes: usize,
    },
    /// A configuration that can't work.
    #[error("{name} is {got}, must be {expected}")]
    Parameter {
        /// The parameter.
        name: &'static str,
        /// What was given.
        got: String,
        /// What is accepted.
        expected: &'static str,
    },
    /// The node can't reach those that it needs for a right answer.
    #[error("node {node} reaches {reached} of {nodes} nodes and refuses rather than answer from old data")]
    Unavailable {
        /// The node asked.
        node: usize,
        /// Nodes on its side, itself included.
        reached: usize,
        /// All nodes.
        nodes: usize,
    },
    /// The permissions are unknown because their authority can't be reached; nothing is shown.
    #[error("node {node} can't reach the authority on permissions and shows user {user} nothing")]
    PermissionUnknown {
        /// The node asked.
        node: usize,
        /// Who asked.
        user: u64,
    },
    /// The index refused a vector.
    #[error(transparent)]
    Index(#[from] AnnError),
    /// A vector had the wrong shape.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// The total order of versions: time first, then a counter, then the node that wrote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// Microseconds, or the term of a leader.
    pub time: u64,
    /// Counts writes of one time, or the position in a log.
    pub counter: u64,
    /// Who wrote.
    pub node: NodeId,
}

/// A vector that messages share without copying; equal and hashed by its bits.
#[derive(Debug, Clone)]
pub struct Row(Arc<[f32]>);

impl Row {
    /// The values.
    pub fn values(&self) -> &[f32] {
        &self.0
    }
}

impl From<&[f32]> for Row {
    fn from(values: &[f32]) -> Self {
        Self(values.into())
    }
}

impl PartialEq for Row {
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.iter().zip(&*other.0).all(|(a, b)| a.to_bits() == b.to_bits())
    }
}

impl Eq for Row {}

impl Hash for Row {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.iter().for_each(|x| x.to_bits().hash(state));
    }
}

/// One change: an upsert, or a delete when there is no row.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Write {
    /// The vector's id.
    pub id: u64,
    /// The new vector, or `None` to delete it.
    pub row: Option<Row>,
}

impl Write {
    /// Stores `vector` under `id`.
    pub fn upsert(id: u64, vector: &[f32]) -> Self {
        Self { id, row: Some(vector.into()) }
    }

    /// Deletes `id`.
    pub fn delete(id: u64) -> Self {
        Self { id, row: None }
    }
}

/// What one node holds: an exact index, and for each id the stamp of the write it shows. A deleted id keeps its stamp as a
/// tombstone, so that an older upsert which arrives later doesn't bring it back.
#[derive(Debug, Clone)]
pub struct VectorCopy {
    index: FlatIndex,
    stamps: BTreeMap<u64, Stamp>,
}

impl VectorCopy {
    /// An empty copy for vectors of `dim` values.
    pub fn new(dim: usize, metric: Metric) -> Result<Self, ReplicaError> {
        Ok(Self { index: FlatIndex::new(dim, metric)?, stamps: BTreeMap::new() })
    }

    /// Applies a write unless the id shows the same or a newer one; says whether anything changed. Applying writes in any
    /// order, any number of times, gives the same copy.
    pub fn apply(&mut self, write: &Write, stamp: Stamp) -> Result<bool, ReplicaError> {
        if self.stamp(write.id).is_some_and(|present| present >= stamp) {
            return Ok(false);
        }
        match &write.row {
            Some(row) => {
                let vectors = Matrix::from_vec(1, row.values().len(), row.values().to_vec())?;
                self.index.upsert(&[write.id], &vectors)?;
            }
            None => _ = self.index.remove(&[write.id])?,
        }
        self.stamps.insert(write.id, stamp);
        Ok(true)
    }

    /// The stamp of the newest write to `id`, a delete included.
    pub fn stamp(&self, id: u64) -> Option<Stamp> {
        self.stamps.get(&id).copied()
    }

    /// The newest write to `id` with its stamp.
    pub fn newest(&self, id: u64) -> Option<(Stamp, Write)> {
        let row = self.index.vector(id).map(Row::from);
        Some((self.stamp(id)?, Write { id, row }))
    }

    /// Every newest write with its stamp, by id.
    pub fn writes(&self) -> impl Iterator<Item = (Stamp, Write)> {
        self.stamps.keys().filter_map(|&id| self.newest(id))
    }

    /// The index, for searching.
    pub fn index(&self) -> &FlatIndex {
        &self.index
    }

    /// The `k` nearest.
    pub fn search(&self, query: &[f32], k: usize) -> Result<Vec<Hit>, ReplicaError> {
        Ok(self.index.search(query, k)?)
    }

    /// A hash of every id, stamp and vector: two copies with the same content have the same.
    pub fn digest(&self) -> u64 {
        let mut hasher = TraceHasher::default();
        self.writes().for_each(|write| write.hash(&mut hasher));
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eas_tensor::rng::SplitMix64;
    use proptest::prelude::*;

    pub(crate) fn stamp(time: u64, node: NodeId) -> Stamp {
        Stamp { time, counter: 0, node }
    }

    #[test]
    fn a_tombstone_outlives_an_older_upsert() {
        let mut copy = VectorCopy::new(1, Metric::SquaredL2).unwrap();
        assert!(copy.apply(&Write::delete(7), stamp(5, 0)).unwrap());
        assert!(!copy.apply(&Write::upsert(7, &[1.0]), stamp(4, 0)).unwrap());
        assert!(copy.search(&[1.0], 1).unwrap().is_empty());
        assert!(copy.apply(&Write::upsert(7, &[2.0]), stamp(6, 0)).unwrap());
        assert_eq!(copy.search(&[1.0], 1).unwrap()[0].id, 7);
    }

    #[test]
    fn a_bad_vector_changes_nothing() {
        let mut copy = VectorCopy::new(2, Metric::SquaredL2).unwrap();
        copy.apply(&Write::upsert(1, &[1.0, 2.0]), stamp(1, 0)).unwrap();
        let before = copy.digest();
        assert!(copy.apply(&Write::upsert(1, &[1.0]), stamp(2, 0)).is_err());
        assert!(copy.apply(&Write::upsert(1, &[1.0, f32::NAN]), stamp(2, 0)).is_err());
        assert_eq!(copy.digest(), before);
    }

    proptest! {
        #[test]
        fn order_and_repetition_of_writes_do_not_matter(seed in any::<u64>()) {
            let mut rng = SplitMix64::new(seed);
            let mut writes: Vec<(Write, Stamp)> = (0..40)
                .map(|i| {
                    let id = rng.below(8) as u64;
                    let write = if rng.chance(0.3) { Write::delete(id) } else { Write::upsert(id, &[rng.uniform() as f32]) };
                    (write, stamp(i, rng.below(3) as NodeId))
                })
                .collect();
            let digest_of = |writes: &[(Write, Stamp)]| {
                let mut copy = VectorCopy::new(1, Metric::SquaredL2).unwrap();
                for (write, stamp) in writes {
                    copy.apply(write, *stamp).unwrap();
                }
                copy.digest()
            };
            let expected = digest_of(&writes);
            writes.extend(writes.clone());
            rng.shuffle(&mut writes);
            prop_assert_eq!(digest_of(&writes), expected);
        }
    }
}
