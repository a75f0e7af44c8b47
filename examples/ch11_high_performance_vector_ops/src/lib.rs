//! What several listings of chapter 11 share.

#![forbid(unsafe_code)]

pub mod serving;
