//! Search by the number of shared terms, over an inverted index.

use super::Tokenizer;
use eas_tensor::topk::{Scored, TopK};
use std::collections::{BTreeSet, HashMap};

/// An inverted index from term to the sorted ids of the documents that contain it; ids are positions in the input.
#[derive(Debug, Clone)]
pub struct KeywordIndex {
    tokenizer: Tokenizer,
    postings: HashMap<String, Vec<usize>>,
    documents: usize,
}

impl KeywordIndex {
    /// Indexes `documents`; an empty collection is an index without hits.
    pub fn new<S: AsRef<str>>(documents: &[S], tokenizer: Tokenizer) -> Self {
        let mut postings: HashMap<String, Vec<usize>> = HashMap::new();
        for (id, document) in documents.iter().enumerate() {
            let terms: BTreeSet<String> = tokenizer.tokens(document.as_ref()).into_iter().collect();
            for term in terms {
                postings.entry(term).or_default().push(id);
            }
        }
        Self { tokenizer, postings, documents: documents.len() }
    }

    /// Number of documents.
    pub fn len(&self) -> usize {
        self.documents
    }

    /// True when nothing was indexed.
    pub fn is_empty(&self) -> bool {
        self.documents == 0
    }

    /// Ids of the documents that contain `term`, ascending.
    pub fn postings(&self, term: &str) -> &[usize] {
        self.postings.get(term).map_or(&[], Vec::as_slice)
    }

    /// The `k` documents that share most distinct terms with `query`; the score is that number. Documents that share none are left
    /// out, ties go to the lower id.
    ///
    /// ```
    /// use eas_text::lexical::{KeywordIndex, Tokenizer};
    ///
    /// let index = KeywordIndex::new(&["red running shoes", "blue shoes", "laptop"], Tokenizer::Word);
    /// let hits = index.search("running shoes", 10);
    /// assert_eq!((hits[0].id, hits[0].score), (0, 2.0));
    /// assert_eq!(hits.len(), 2);
    /// ```
    pub fn search(&self, query: &str, k: usize) -> Vec<Scored> {
        let terms: BTreeSet<String> = self.tokenizer.tokens(query).into_iter().collect();
        let mut shared: HashMap<usize, u32> = HashMap::new();
        for term in &terms {
            for &id in self.postings(term) {
                *shared.entry(id).or_default() += 1;
            }
        }
        let mut best = TopK::new(k);
        for (id, count) in shared {
            best.push(id, count as f32);
        }
        best.into_sorted_vec()
    }
}

/// The same ranking by scanning every document: what the index saves, and its oracle in tests.
pub fn scan<S: AsRef<str>>(documents: &[S], tokenizer: Tokenizer, query: &str, k: usize) -> Vec<Scored> {
    let terms: BTreeSet<String> = tokenizer.tokens(query).into_iter().collect();
    let mut best = TopK::new(k);
    for (id, document) in documents.iter().enumerate() {
        let own: BTreeSet<String> = tokenizer.tokens(document.as_ref()).into_iter().collect();
        let shared = own.intersection(&terms).count();
        if shared > 0 {
            best.push(id, shared as f32);
        }
    }
    best.into_sorted_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use eas_tensor::rng::SplitMix64;

    fn pairs(hits: &[Scored]) -> Vec<(usize, f32)> {
        hits.iter().map(|hit| (hit.id, hit.score)).collect()
    }

    #[test]
    fn terms_count_once_and_ties_go_to_the_lower_id() {
        let index = KeywordIndex::new(&["b a a", "a", "b c a"], Tokenizer::AnyWord);
        assert_eq!(pairs(&index.search("a a b", 9)), [(0, 2.0), (2, 2.0), (1, 1.0)]);
        assert_eq!(pairs(&index.search("a a b", 1)), [(0, 2.0)]);
        assert!(index.search("a", 0).is_empty());
        assert!(index.search("", 5).is_empty());
        assert!(index.search("z", 5).is_empty());
        assert_eq!(index.postings("c"), [2]);
        let empty = KeywordIndex::new::<&str>(&[], Tokenizer::Word);
        assert!(empty.is_empty() && empty.search("a", 3).is_empty());
    }

    #[test]
    fn only_the_word_tokenizer_strips_punctuation() {
        let documents = ["shoes, boots"];
        assert_eq!(KeywordIndex::new(&documents, Tokenizer::Word).search("shoes", 1).len(), 1);
        assert!(KeywordIndex::new(&documents, Tokenizer::Whitespace).search("shoes", 1).is_empty());
    }

    #[test]
    fn index_equals_scan_on_random_queries() {
        let mut rng = SplitMix64::new(17);
        let mut text = |words: usize| -> String {
            (0..words).map(|_| format!("w{} ", rng.below(60))).collect::<Vec<_>>().concat()
        };
        let documents: Vec<String> = (0..300).map(|i| text(i % 12)).collect();
        for tokenizer in [Tokenizer::Word, Tokenizer::Whitespace] {
            let index = KeywordIndex::new(&documents, tokenizer);
            for n in 0..250 {
                let query = text(n % 5);
                let k = 1 + n % 20;
                assert_eq!(pairs(&index.search(&query, k)), pairs(&scan(&documents, tokenizer, &query, k)), "{query}");
            }
        }
    }
}
