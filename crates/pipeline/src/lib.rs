//! Stores of vectors that change, grow and fail: versions and migrations, replicas, placement, replicated data types and leases.

#![forbid(unsafe_code)]

pub mod crdt;
pub mod lease;
pub mod placement;
pub mod replica;
pub mod update;
