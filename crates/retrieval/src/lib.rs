//! Query understanding, fusion, reranking, context packing, retrieval-augmented generation.

#![forbid(unsafe_code)]

pub mod claims;
pub mod conflict;
mod error;
pub mod mmr;

pub use error::RetrievalError;
