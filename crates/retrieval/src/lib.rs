//! Query understanding, fusion, reranking, context packing, retrieval-augmented generation.

#![forbid(unsafe_code)]

pub mod claims;
pub mod code;
pub mod conflict;
pub mod constrained;
pub mod context;
mod error;
pub mod extractive;
pub mod fewshot;
pub mod funnel;
pub mod fusion;
pub mod generator;
pub mod graph;
pub mod hierarchy;
pub mod media;
pub mod mmr;
pub mod multi_vector;
pub mod multimodal;
pub mod papers;
pub mod paraphrase;
pub mod planner;
pub mod query;
pub mod rag;
pub mod rerank;
pub mod temporal;
pub mod verification;

#[cfg(test)]
mod testing;

pub use error::RetrievalError;
