//! Chapter 13. Retrieval-augmented generation at scale.

#![forbid(unsafe_code)]

pub mod assistant;
pub mod graded;
pub mod products;
