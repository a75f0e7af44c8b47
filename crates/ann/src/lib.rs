//! Vector indexes: flat, HNSW and sharded.

#![forbid(unsafe_code)]
