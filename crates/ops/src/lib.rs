//! What a search service runs on, apart from the index: clocks, caches, worker pools, batching, balancing, service levels, load.

#![forbid(unsafe_code)]
