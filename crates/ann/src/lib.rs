//! Vector indexes behind one trait: [`FlatIndex`] compares the query with every vector and is exact, [`Hnsw`] walks a graph
//! and is fast, [`IvfIndex`], [`IvfPq`], [`Lsh`] and [`KMeansTree`] look into a part of the collection, [`ShardedIndex`] spreads
//! an index over shards with replicas.
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

mod beam;
pub mod compact;
pub mod device;
pub mod disk;
pub mod disk_index;
pub mod error;
#[cfg(feature = "faiss")]
pub mod faiss;
pub(crate) mod file;
pub mod filtered;
pub mod flat;
pub mod hard_negatives;
pub mod hnsw;
pub mod index;
pub mod ivf;
pub mod ivfpq;
pub mod links;
mod lists;
pub mod lsh;
#[cfg(feature = "milvus")]
pub mod milvus;
pub(crate) mod pages;
pub mod pruned;
pub mod quantized_graph;
pub mod service;
pub mod sharded;
pub mod sharder;
pub mod tree;
pub mod versioned;
pub mod wal;

pub use compact::{CompactFlat, Storage};
pub use disk::{Dtype, VectorFile};
pub use disk_index::MappedHnsw;
pub use error::AnnError;
pub use flat::FlatIndex;
pub use hnsw::{Hnsw, HnswConfig, Selection};
pub use index::{Hit, Metric, SearchStats, VectorIndex, recall};
pub use ivf::{IvfConfig, IvfIndex};
pub use ivfpq::{IvfPq, IvfPqConfig};
pub use lsh::{Lsh, LshConfig};
pub use quantized_graph::{QuantizedGraph, QuantizedGraphConfig};
pub use sharded::{Covered, IndexKind, OnMissing, ShardedBuilder, ShardedIndex, jump_hash, merge_hits};
pub use tree::{KMeansTree, TreeConfig};
