//! Bundled datasets, seeded generators that plant a known truth, and readers and writers of array files.

#![forbid(unsafe_code)]
