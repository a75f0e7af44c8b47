//! Search by shared terms: a set-overlap index, TF-IDF with cosine, and BM25 over the same inverted lists.

mod bm25;
mod keyword;
mod tokenizer;

pub use bm25::Bm25;
pub use keyword::{KeywordIndex, scan};
pub use tokenizer::Tokenizer;
