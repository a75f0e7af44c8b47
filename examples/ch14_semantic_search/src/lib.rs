//! Chapter 14. Semantic search beyond text.

#![forbid(unsafe_code)]
