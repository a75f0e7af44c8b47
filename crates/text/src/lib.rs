//! Tokenizers, sentence encoders, lexical indexes, topic models, word vectors and near-duplicates.

#![forbid(unsafe_code)]

pub mod augment;
pub mod code;
pub mod distill;
pub mod encoder;
pub mod error;
pub mod glosses;
pub mod hash;
pub mod lexical;
pub mod minhash;
pub mod minilm;
mod models;
pub mod sentences;
pub mod static_encoder;
pub mod stopwords;
pub mod tokens;
pub mod topics;
pub mod values;
pub mod word2vec;
pub mod wordpiece;

pub use error::TextError;
