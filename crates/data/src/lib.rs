//! Bundled datasets, seeded generators that plant a known truth, and readers and writers of array files.

#![forbid(unsafe_code)]

pub mod bundle;
mod error;
pub mod wordnet;

pub use bundle::{FileCheck, Origin, read_verified, root, verify_all};
pub use error::DataError;
