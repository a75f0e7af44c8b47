//! What several listings of chapter 11 share.

#![forbid(unsafe_code)]

pub mod exact;
pub mod precision;
pub mod serving;
pub mod tradeoff;
