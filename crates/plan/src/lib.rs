//! Money and planning models, as pure functions of f64: present value, the return of four kinds of benefit, storage,
//! clusters and regions, latency budgets, limits of a machine.
//!
//! ```
//! use eas_plan::finance::{Payback, npv, payback};
//!
//! // Pay 100 today, receive 60 at the end of each of two years, at 10% a year.
//! let value = npv(0.10, &[-100.0, 60.0, 60.0])?;
//! assert!((value - 4.132_231).abs() < 1e-6);
//! assert_eq!(payback(100.0, 50.0)?, Payback::Years(2.0));
//! assert_eq!(payback(100.0, -1.0)?, Payback::Never);
//! # Ok::<(), eas_plan::PlanError>(())
//! ```

#![forbid(unsafe_code)]

pub mod capacity;
pub mod cluster;
pub mod decision;
pub mod error;
pub mod finance;
pub mod frontier;
pub mod global;
pub mod granularity;
pub mod graph_memory;
pub mod index_choice;
pub mod latency;
pub mod pareto;
pub mod queueing;
pub mod risk;
pub mod roi;
pub mod roofline;
pub mod scale;
pub mod sensitivity;
pub mod shards;
pub mod tco;

pub use error::PlanError;
