//! Matrices of f32 rows, distance kernels, selection, clustering, projections, quantizers and seeded randomness.

pub mod align;
pub mod assign;
pub mod binary;
pub mod buffer;
pub mod capacity;
pub mod cluster;
pub mod fastscan;
pub mod gemm;
pub mod hamming;
pub mod image;
pub mod intrinsic;
pub mod kernels;
pub mod kmeans;
mod linalg;
pub mod mapped;
pub mod matrix;
pub mod pca;
pub mod projection;
pub mod quant;
pub mod rabitq;
pub mod rng;
pub mod signal;
pub mod sparse;
pub mod special;
pub mod topk;
pub mod training;
pub mod transformer;

pub use matrix::{Matrix, TensorError};
pub use topk::{Scored, TopK, nearest_rows, top_k};
