//! What several listings of chapter 3 share.

#![forbid(unsafe_code)]

pub mod churn;
pub mod consistency;
pub mod coordination;
pub mod faiss;
pub mod faults;
pub mod gloss_rows;
pub mod graphs;
pub mod guarantees;
pub mod incidents;
pub mod load;
pub mod lookup;
pub mod mini_db;
pub mod product_codes;
pub mod profiles;
pub mod regions;
pub mod replication;
pub mod served;
pub mod sharding;
pub mod shootout;
pub mod subjects;
