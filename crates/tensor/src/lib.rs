//! Matrices of f32 rows, distance kernels, selection, clustering, projections, quantizers and seeded randomness.

pub mod matrix;
pub mod rng;

pub use matrix::{Matrix, TensorError};
