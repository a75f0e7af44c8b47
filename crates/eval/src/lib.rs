//! Metrics of retrieval, ranking, classification, calibration, embedding quality and latency, with bootstrap intervals.

#![forbid(unsafe_code)]

pub mod bench;
pub mod bootstrap;
pub mod calibration;
pub mod classification;
pub mod clustering;
pub mod correlation;
mod error;
pub mod fit;
pub mod geometry;
pub mod ir;
pub mod knn;
pub mod latency;
pub mod rag;
pub mod recall;
pub mod retrieval;
pub mod separation;
pub mod sweep;
pub mod threshold;

pub use error::EvalError;
