//! What the listings of chapter 6 share.

#![forbid(unsafe_code)]

pub mod digits;
