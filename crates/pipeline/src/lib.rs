//! Versioned vector stores, migrations and incremental updates.

#![forbid(unsafe_code)]

pub mod update;
