//! Matrices of f32 rows, distance kernels, selection, clustering, projections, quantizers and seeded randomness.

pub mod align;
pub mod assign;
pub mod kernels;
mod linalg;
pub mod matrix;
pub mod rng;
pub mod sparse;
pub mod special;
pub mod topk;

pub use matrix::{Matrix, TensorError};
pub use topk::{Scored, TopK, top_k};
