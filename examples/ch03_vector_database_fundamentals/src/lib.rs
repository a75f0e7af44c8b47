//! What several listings of chapter 3 share.

#![forbid(unsafe_code)]
