//! Query understanding, fusion, reranking, context packing, retrieval-augmented generation.

#![forbid(unsafe_code)]
