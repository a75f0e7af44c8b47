//! Chapter 14. Semantic search beyond text.

#![forbid(unsafe_code)]

pub mod trimodal;
pub mod wordnet_facts;
