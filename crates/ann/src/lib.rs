//! Vector indexes behind one trait: [`FlatIndex`] compares the query with every vector and is exact.
//!
//! ```
//! use eas_ann::{FlatIndex, Metric, VectorIndex};
//! use eas_tensor::Matrix;
//!
//! let mut index = FlatIndex::new(2, Metric::Cosine)?;
//! index.add(&[10, 20, 30], &Matrix::from_rows(&[[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])?)?;
//! let hits = index.search(&[1.0, 0.1], 2)?;
//! assert_eq!(hits.iter().map(|hit| hit.id).collect::<Vec<_>>(), [10, 20]);
//! let even_tens = index.search_where(&[1.0, 0.1], 2, &|id| id % 20 == 0)?;
//! assert_eq!(even_tens[0].id, 20);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

pub mod error;
pub(crate) mod file;
pub mod flat;
pub mod index;

pub use error::AnnError;
pub use flat::FlatIndex;
pub use index::{Hit, Metric, VectorIndex};
