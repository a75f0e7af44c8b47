//! Chapter 1. Foundations: from keywords to embeddings, and what the move is worth.

#![forbid(unsafe_code)]

pub mod autoencoder;
pub mod cases;
