//! The `cargo book` command.

#![forbid(unsafe_code)]

fn main() {}
