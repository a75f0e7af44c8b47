//! Bundled datasets, seeded generators that plant a known truth, and readers and writers of array files.
//!
//! ```
//! let iris = eas_data::uci::iris()?;
//! assert_eq!(iris.features.rows(), 150);
//! # Ok::<(), eas_data::DataError>(())
//! ```

#![forbid(unsafe_code)]

pub mod bundle;
mod error;
pub mod fixtures;
pub mod fvecs;
pub mod loader;
pub mod npy;
pub mod pairs;
pub mod series;
pub mod synth;
mod table;
pub mod uci;
pub mod wordnet;

pub use bundle::{FileCheck, Origin, read_verified, root, verify_all};
pub use error::DataError;
