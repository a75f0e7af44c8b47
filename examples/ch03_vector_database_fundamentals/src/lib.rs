//! What several listings of chapter 3 share.

#![forbid(unsafe_code)]

pub mod consistency;
pub mod coordination;
pub mod incidents;
pub mod load;
pub mod lookup;
pub mod regions;
pub mod replication;
pub mod served;
