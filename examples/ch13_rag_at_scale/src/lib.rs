//! Chapter 13. Retrieval-augmented generation at scale.

#![forbid(unsafe_code)]

pub mod products;
