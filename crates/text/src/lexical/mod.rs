//! Search by shared terms: a set-overlap index, TF-IDF with cosine, and BM25, each over inverted lists.

mod bm25;
mod keyword;
mod tfidf;
mod tokenizer;

pub use bm25::Bm25;
pub use keyword::{KeywordIndex, scan};
pub use tfidf::{TfIdf, TfIdfConfig};
pub use tokenizer::Tokenizer;
