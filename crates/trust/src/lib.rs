//! Where vectors may be kept and who may read them: residency rules, deletion over all copies, and the record of both.

#![forbid(unsafe_code)]

pub mod residency;

pub use residency::{ResidencyError, ResidentStore};
