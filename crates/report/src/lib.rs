//! The run of one listing: flags, tables, charts, progress, claims and JSON.

#![forbid(unsafe_code)]
