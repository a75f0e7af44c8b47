//! Tokenizers, sentence encoders, lexical indexes, topic models, word vectors and near-duplicates.

#![forbid(unsafe_code)]
