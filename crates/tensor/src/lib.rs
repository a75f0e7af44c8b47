//! Matrices of f32 rows, distance kernels, selection, clustering, projections, quantizers and seeded randomness.

pub mod kernels;
pub mod matrix;
pub mod rng;
pub mod topk;

pub use matrix::{Matrix, TensorError};
pub use topk::{Scored, TopK, top_k};
