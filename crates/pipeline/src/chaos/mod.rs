//! Faults on purpose: does every one get noticed in time, is it mended, and what is lost meanwhile?
//!
//! | module | what it is |
//! | --- | --- |
//! | [`drill`] | a cluster of shards with replicas over index files, its detectors and recoveries, and the faults |
//! | [`region`] | a region that goes down, and the standby that takes over |
//! | [`durability`] | how long replicated data lasts, by Markov chain and by simulation |

pub mod drill;
pub mod durability;
pub mod region;

use std::hash::{Hash, Hasher};

use eas_ann::{FlatIndex, VectorIndex};
use eas_ops::sim::TraceHasher;
use eas_tensor::Matrix;

use crate::replica::ReplicaError;

/// A vector under an id of its own, as a shard's log keeps it. Nothing is overwritten, so that a lost id is a lost vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Insert {
    /// The id.
    pub id: u64,
    /// The vector.
    pub vector: Vec<f32>,
}

/// Adds a part of a log to an index.
pub(crate) fn replay(index: &mut FlatIndex, log: &[Insert]) -> Result<(), ReplicaError> {
    if log.is_empty() {
        return Ok(());
    }
    let ids: Vec<u64> = log.iter().map(|insert| insert.id).collect();
    let values: Vec<f32> = log.iter().flat_map(|insert| insert.vector.iter().copied()).collect();
    let vectors = Matrix::from_vec(log.len(), index.dim(), values)?;
    Ok(index.add(&ids, &vectors)?)
}

/// A hash of an index's ids and vectors, whatever order they are kept in.
pub fn digest(index: &FlatIndex) -> u64 {
    let mut ids = index.ids().to_vec();
    ids.sort_unstable();
    let mut hasher = TraceHasher::default();
    for id in ids {
        id.hash(&mut hasher);
        for value in index.vector(id).unwrap_or_default() {
            value.to_bits().hash(&mut hasher);
        }
    }
    hasher.finish()
}
