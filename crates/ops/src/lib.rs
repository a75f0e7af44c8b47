//! What a search service runs on, apart from the index: clocks, caches, worker pools, batching, balancing, service levels, load.
//!
//! Everything that depends on time takes the time as an argument, in whole microseconds from an origin of the caller's
//! choice. The same code so runs on the wall clock, in a simulation and in a test, and gives the same answers.

#![forbid(unsafe_code)]

pub mod breaker;
pub mod bucket;
pub mod clock;
mod error;
pub mod metrics;
pub mod sim;

pub use error::OpsError;
