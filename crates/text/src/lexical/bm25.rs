//! Okapi BM25 (Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009).

use super::Tokenizer;
use crate::TextError;
use eas_tensor::topk::{Scored, TopK};
use std::collections::{BTreeMap, HashMap};

/// A BM25 index; ids are positions in the input.
///
/// A document scores `sum over query terms of idf(t) * tf (k1 + 1) / (tf + k1 (1 - b + b * length / mean length))` with
/// `idf(t) = ln(1 + (n - df + 0.5) / (df + 0.5))`, which is never negative. A term that the query repeats counts each time.
#[derive(Debug, Clone)]
pub struct Bm25 {
    tokenizer: Tokenizer,
    k1: f64,
    b: f64,
    /// Term -> (document, times it occurs there), ascending by document.
    postings: HashMap<String, Vec<(u32, u32)>>,
    lengths: Vec<u32>,
    mean_length: f64,
}

impl Bm25 {
    /// Indexes `documents` with `k1 = 1.2` and `b = 0.75`; an empty collection is an index without hits.
    pub fn new<S: AsRef<str>>(documents: &[S], tokenizer: Tokenizer) -> Self {
        let mut postings: HashMap<String, Vec<(u32, u32)>> = HashMap::new();
        let mut lengths = Vec::with_capacity(documents.len());
        for (id, document) in documents.iter().enumerate() {
            let tokens = tokenizer.tokens(document.as_ref());
            lengths.push(tokens.len() as u32);
            let mut counts: BTreeMap<String, u32> = BTreeMap::new();
            for token in tokens {
                *counts.entry(token).or_default() += 1;
            }
            for (term, count) in counts {
                postings.entry(term).or_default().push((id as u32, count));
            }
        }
        let total: u64 = lengths.iter().map(|&l| u64::from(l)).sum();
        Self { tokenizer, k1: 1.2, b: 0.75, postings, mean_length: total as f64 / lengths.len().max(1) as f64, lengths }
    }

    /// Replaces the saturation `k1 >= 0` and the length normalisation `b` in `[0, 1]`.
    pub fn with_parameters(mut self, k1: f64, b: f64) -> Result<Self, TextError> {
        if !(k1.is_finite() && k1 >= 0.0) {
            return Err(TextError::argument("k1", &k1, "a number >= 0"));
        }
        if !(0.0..=1.0).contains(&b) {
            return Err(TextError::argument("b", &b, "between 0 and 1"));
        }
        self.k1 = k1;
        self.b = b;
        Ok(self)
    }

    /// Number of documents.
    pub fn len(&self) -> usize {
        self.lengths.len()
    }

    /// True when nothing was indexed.
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// The tokenizer of documents and queries.
    pub fn tokenizer(&self) -> Tokenizer {
        self.tokenizer
    }

    /// Number of documents that contain `term` (a token as the tokenizer makes it).
    pub fn document_frequency(&self, term: &str) -> usize {
        self.postings.get(term).map_or(0, Vec::len)
    }

    /// The weight of `term`; an unknown term has the weight of one that occurs nowhere, the largest.
    pub fn idf(&self, term: &str) -> f64 {
        let df = self.document_frequency(term) as f64;
        (1.0 + (self.len() as f64 - df + 0.5) / (df + 0.5)).ln()
    }

    /// The `k` best documents with a positive score, best first, ties by lower id.
    ///
    /// ```
    /// use eas_text::lexical::{Bm25, Tokenizer};
    ///
    /// let index = Bm25::new(&["cheap flights to Rome", "flights of stairs", "trains"], Tokenizer::Word);
    /// let ids: Vec<usize> = index.search("cheap flights", 5).iter().map(|hit| hit.id).collect();
    /// assert_eq!(ids, [0, 1]);
    /// ```
    pub fn search(&self, query: &str, k: usize) -> Vec<Scored> {
        self.search_where(query, k, |_| true)
    }

    /// Like [`Bm25::search`] among the documents that `keep` accepts: the filter runs before selection, so `k` hits come back
    /// whenever `k` accepted documents match.
    pub fn search_where(&self, query: &str, k: usize, keep: impl Fn(usize) -> bool) -> Vec<Scored> {
        let mut scores = vec![0.0_f64; self.len()];
        let mut touched = Vec::new();
        for (term, times) in self.query_terms(query) {
            let Some(postings) = self.postings.get(&term) else {
                continue;
            };
            let weight = self.idf(&term) * times;
            for &(id, tf) in postings {
                let id = id as usize;
                if scores[id] == 0.0 {
                    touched.push(id);
                }
                scores[id] += weight * self.saturation(id, tf);
            }
        }
        let mut best = TopK::new(k);
        for id in touched {
            if keep(id) {
                best.push(id, scores[id] as f32);
            }
        }
        best.into_sorted_vec()
    }

    /// The score of one document; 0 when it shares no term with the query or `id` is not in the index.
    pub fn score(&self, query: &str, id: usize) -> f32 {
        let mut score = 0.0;
        for (term, times) in self.query_terms(query) {
            let postings = self.postings.get(&term).map_or(&[][..], Vec::as_slice);
            if let Ok(at) = postings.binary_search_by_key(&id, |&(document, _)| document as usize) {
                score += self.idf(&term) * times * self.saturation(id, postings[at].1);
            }
        }
        score as f32
    }

    /// Distinct query terms in alphabetical order (so that sums round alike in every run) with their counts.
    fn query_terms(&self, query: &str) -> BTreeMap<String, f64> {
        let mut terms = BTreeMap::new();
        for token in self.tokenizer.tokens(query) {
            *terms.entry(token).or_default() += 1.0;
        }
        terms
    }

    fn saturation(&self, id: usize, tf: u32) -> f64 {
        let tf = f64::from(tf);
        let length = f64::from(self.lengths[id]) / self.mean_length;
        tf * (self.k1 + 1.0) / (tf + self.k1 * (1.0 - self.b + self.b * length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eas_tensor::rng::SplitMix64;

    #[test]
    fn the_formula_by_hand() {
        // Three documents of 2, 1 and 3 tokens: mean length 2. "aa" is in two of them, "bb" in one.
        let index = Bm25::new(&["aa bb", "aa", "cc cc dd"], Tokenizer::Word);
        let idf = |df: f64| (1.0 + (3.0 - df + 0.5) / (df + 0.5)).ln();
        let tf1 = |length: f64| 2.2 / (1.0 + 1.2 * (0.25 + 0.75 * length / 2.0));
        let hits = index.search("aa bb", 5);
        assert_eq!(hits.iter().map(|h| h.id).collect::<Vec<_>>(), [0, 1]);
        assert!((f64::from(hits[0].score) - (idf(2.0) + idf(1.0)) * tf1(2.0)).abs() < 1e-6);
        assert!((f64::from(hits[1].score) - idf(2.0) * tf1(1.0)).abs() < 1e-6);
        let twice = index.search("cc", 5);
        let expected = idf(1.0) * 2.0 * 2.2 / (2.0 + 1.2 * (0.25 + 0.75 * 1.5));
        assert!((f64::from(twice[0].score) - expected).abs() < 1e-6);
        assert_eq!(index.document_frequency("aa"), 2);
    }

    #[test]
    fn search_agrees_with_scoring_every_document() {
        let mut rng = SplitMix64::new(3);
        let mut text =
            |n: usize| -> String { (0..n).map(|_| format!("t{} ", rng.below(40))).collect::<Vec<_>>().concat() };
        let documents: Vec<String> = (0..200).map(|i| text(i % 15)).collect();
        let index = Bm25::new(&documents, Tokenizer::Word);
        for n in 0..100 {
            let query = text(1 + n % 6);
            let mut oracle = TopK::new(10);
            for id in 0..documents.len() {
                let score = index.score(&query, id);
                if score > 0.0 && id % 3 != 0 {
                    oracle.push(id, score);
                }
            }
            let hits = index.search_where(&query, 10, |id| id % 3 != 0);
            assert_eq!(hits, oracle.into_sorted_vec(), "{query}");
        }
    }

    #[test]
    fn a_filter_is_applied_before_selection() {
        let documents: Vec<String> = (0..50).map(|i| "word ".repeat(1 + i % 7)).collect();
        let index = Bm25::new(&documents, Tokenizer::Word);
        let hits = index.search_where("word", 5, |id| id >= 45);
        assert_eq!(hits.len(), 5);
        assert!(hits.iter().all(|hit| hit.id >= 45));
    }

    #[test]
    fn empty_and_bad_input() {
        let empty = Bm25::new::<&str>(&[], Tokenizer::Word);
        assert!(empty.is_empty() && empty.search("a b", 3).is_empty());
        let index = Bm25::new(&["", "aa"], Tokenizer::Word);
        assert!(index.search("", 3).is_empty());
        assert!(index.search("aa", 0).is_empty());
        assert!(index.search("unknown", 3).is_empty());
        assert_eq!(index.search("aa", 10).len(), 1);
        assert_eq!(index.score("aa", 99), 0.0);
        let blank = Bm25::new(&["", "?"], Tokenizer::Word);
        assert!(blank.search("aa", 3).is_empty());
        assert!(index.clone().with_parameters(f64::NAN, 0.5).is_err());
        let message = index.with_parameters(1.2, 1.5).map(|_| ()).unwrap_err().to_string();
        assert_eq!(message, "b is 1.5, must be between 0 and 1");
    }

    #[test]
    fn a_query_of_a_hundred_thousand_tokens_is_answered() {
        let index = Bm25::new(&["aa bb", "bb"], Tokenizer::Word);
        let hits = index.search(&"bb aa ".repeat(50_000), 2);
        assert_eq!(hits.iter().map(|hit| hit.id).collect::<Vec<_>>(), [0, 1]);
    }
}
