//! What a search service runs on, apart from the index: clocks, caches, worker pools, batching, balancing, service levels, load.
//!
//! Everything that depends on time takes the time as an argument, in whole microseconds from an origin of the caller's
//! choice. The same code so runs on the wall clock, in a simulation and in a test, and gives the same answers.

#![forbid(unsafe_code)]

pub mod balance;
pub mod batch;
pub mod breaker;
pub mod bucket;
pub mod cache;
pub mod clock;
pub mod digest;
pub mod embedding;
mod error;
pub mod loadgen;
pub mod metrics;
pub mod pool;
#[cfg(feature = "serve")]
pub mod serve;
pub mod sim;
pub mod slo;
pub mod spans;
pub mod tiered;

pub use cache::{Cache, CacheStats, Policy};
pub use error::OpsError;
pub use tiered::TieredStore;
