//! Stores of vectors that change, grow and fail: versions and migrations, replicas, placement, replicated data types,
//! leases, and faults on purpose.

#![forbid(unsafe_code)]

pub mod chaos;
pub mod crdt;
pub mod lease;
pub mod placement;
pub mod replica;
pub mod tiering;
pub mod update;
