//! Search over source code: dense vectors, BM25 over the parts of identifiers, and their fusion; structural clones.

use crate::RetrievalError;
use crate::fusion::{RRF_K, reciprocal_rank_fusion};
use eas_tensor::kernels::dot;
use eas_tensor::{Matrix, Scored, TopK};
use eas_text::code::{CodeItem, Fingerprint, split_identifiers};
use eas_text::encoder::SentenceEncoder;
use eas_text::lexical::{Bm25, Tokenizer};
use std::collections::HashMap;

/// Hits of each ranker that take part in the fusion.
const DEPTH: usize = 100;

/// An index of code items; hits carry positions in [`CodeIndex::items`].
pub struct CodeIndex {
    encoder: Box<dyn SentenceEncoder>,
    tokenizer: Tokenizer,
    with_doc: bool,
    items: Vec<CodeItem>,
    positions: HashMap<String, usize>,
    /// One unit row an item.
    vectors: Matrix,
    bm25: Bm25,
    /// `None` for an item that does not parse as a function.
    fingerprints: Vec<Option<Fingerprint>>,
}

/// Two items of like structure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClonePair {
    /// Position of the first.
    pub first: usize,
    /// Position of the second, larger than the first.
    pub second: usize,
    /// Similarity of the fingerprints.
    pub similarity: f64,
}

impl CodeIndex {
    /// An empty index. `tokenizer` makes the terms of BM25 ([`Tokenizer::Identifiers`] splits names into their words); `with_doc` says
    /// whether documentation is indexed beside the code.
    pub fn new(encoder: Box<dyn SentenceEncoder>, tokenizer: Tokenizer, with_doc: bool) -> Self {
        Self {
            vectors: Matrix::zeros(0, encoder.dim()),
            encoder,
            tokenizer,
            with_doc,
            items: Vec::new(),
            positions: HashMap::new(),
            bm25: Bm25::new::<&str>(&[], tokenizer),
            fingerprints: Vec::new(),
        }
    }

    /// Adds items, each in the place of an indexed item of the same id; adding the same items again changes nothing.
    pub fn add(&mut self, items: Vec<CodeItem>) -> Result<(), RetrievalError> {
        let mut changed = false;
        for item in items {
            match self.positions.get(&item.id) {
                Some(&at) if self.items[at] == item => {}
                Some(&at) => {
                    self.items[at] = item;
                    changed = true;
                }
                None => {
                    self.positions.insert(item.id.clone(), self.items.len());
                    self.items.push(item);
                    changed = true;
                }
            }
        }
        if changed {
            let texts: Vec<String> = self.items.iter().map(|item| item.text(self.with_doc)).collect();
            let words: Vec<String> = texts.iter().map(|text| split_identifiers(text).join(" ")).collect();
            self.vectors = self.encoder.encode(&words.iter().map(String::as_str).collect::<Vec<_>>())?;
            self.bm25 = Bm25::new(&texts, self.tokenizer);
            let fingerprint = |item: &CodeItem| Fingerprint::of(&format!("{} {}", item.signature, item.body)).ok();
            self.fingerprints = self.items.iter().map(fingerprint).collect();
        }
        Ok(())
    }

    /// The indexed items.
    pub fn items(&self) -> &[CodeItem] {
        &self.items
    }

    /// The `k` best items for `query` by reciprocal rank fusion of [`CodeIndex::dense`] and [`CodeIndex::lexical`]; of one `language`
    /// if given, and then `k` whenever so many are indexed.
    pub fn search(&self, query: &str, k: usize, language: Option<&str>) -> Result<Vec<Scored>, RetrievalError> {
        let depth = DEPTH.max(k);
        let ids = |hits: Vec<Scored>| hits.iter().map(|hit| hit.id).collect::<Vec<_>>();
        let lists = [ids(self.dense(query, depth, language)?), ids(self.lexical(query, depth, language))];
        let fused = reciprocal_rank_fusion(&lists, RRF_K);
        Ok(fused.into_iter().take(k).map(|(id, score)| Scored { id, score: score as f32 }).collect())
    }

    /// The `k` items of highest cosine with the query.
    pub fn dense(&self, query: &str, k: usize, language: Option<&str>) -> Result<Vec<Scored>, RetrievalError> {
        let words = split_identifiers(query).join(" ");
        let query = self.encoder.encode(&[words.as_str()])?;
        Ok(self.nearest(query.row(0), k, |id| self.speaks(id, language)))
    }

    /// The `k` items of highest BM25 score.
    pub fn lexical(&self, query: &str, k: usize, language: Option<&str>) -> Vec<Scored> {
        self.bm25.search_where(query, k, |id| self.speaks(id, language))
    }

    /// The `k` items nearest to the item at position `id`, itself left out; none when there is no such item.
    pub fn similar(&self, id: usize, k: usize) -> Vec<Scored> {
        if id >= self.items.len() {
            return Vec::new();
        }
        self.nearest(self.vectors.row(id), k, |other| other != id)
    }

    /// Pairs of items whose fingerprints are at least `threshold` similar, by first and second position.
    pub fn clones(&self, threshold: f64) -> Vec<ClonePair> {
        let mut found = Vec::new();
        for (first, a) in self.fingerprints.iter().enumerate() {
            for (second, b) in self.fingerprints.iter().enumerate().skip(first + 1) {
                if let (Some(a), Some(b)) = (a, b) {
                    let similarity = a.similarity(b);
                    if similarity >= threshold {
                        found.push(ClonePair { first, second, similarity });
                    }
                }
            }
        }
        found
    }

    fn speaks(&self, id: usize, language: Option<&str>) -> bool {
        language.is_none_or(|language| self.items[id].language == language)
    }

    fn nearest(&self, query: &[f32], k: usize, keep: impl Fn(usize) -> bool) -> Vec<Scored> {
        let mut best = TopK::new(k);
        for (id, row) in self.vectors.iter_rows().enumerate() {
            if keep(id) {
                best.push(id, dot(query, row));
            }
        }
        best.into_sorted_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eas_text::TextError;
    use eas_text::code::{extract_functions, rename_locals};

    /// Bags of words, hashed to 64 places: enough to rank by shared words.
    struct Bags;

    impl SentenceEncoder for Bags {
        fn name(&self) -> &'static str {
            "bags"
        }

        fn dim(&self) -> usize {
            64
        }

        fn encode(&self, texts: &[&str]) -> Result<Matrix, TextError> {
            let mut rows = Matrix::zeros(texts.len(), 64);
            for (i, text) in texts.iter().enumerate() {
                for word in text.split_whitespace() {
                    rows.row_mut(i)[eas_text::hash::fnv1a(word.as_bytes()) as usize % 64] += 1.0;
                }
            }
            rows.normalize_rows();
            Ok(rows)
        }
    }

    const SOURCE: &str = "
        /// Sorts by exchange.
        fn bubble_sort(items: &mut [i32]) { for i in 0..items.len() { for j in 1..items.len() - i { if items[j - 1] > items[j] { items.swap(j - 1, j); } } } }
        /// Adds up.
        fn sum_all(items: &[i32]) -> i32 { let mut sum = 0; for item in items { sum += item; } sum }
        fn read_file(path: &str) -> String { std::fs::read_to_string(path).unwrap_or_default() }
    ";

    fn index() -> CodeIndex {
        let mut index = CodeIndex::new(Box::new(Bags), Tokenizer::Identifiers, false);
        index.add(extract_functions("a.rs", SOURCE)).unwrap();
        index
    }

    #[test]
    fn names_are_found_by_their_words() {
        let index = index();
        for (query, name) in [("bubble sort", "bubble_sort"), ("read a file", "read_file"), ("sum", "sum_all")] {
            let hit = index.search(query, 1, None).unwrap()[0];
            assert_eq!(index.items()[hit.id].name, name);
            assert_eq!(index.lexical(query, 1, None)[0].id, hit.id);
        }
        let whole = CodeIndex::new(Box::new(Bags), Tokenizer::Word, false);
        assert!(whole.lexical("sort", 3, None).is_empty());
    }

    #[test]
    fn adding_again_changes_nothing() {
        let mut index = index();
        let before = (index.items().to_vec(), index.search("sort items", 3, None).unwrap());
        index.add(extract_functions("a.rs", SOURCE)).unwrap();
        assert_eq!((index.items().to_vec(), index.search("sort items", 3, None).unwrap()), before);
    }

    #[test]
    fn a_language_filter_is_pushed_into_both_rankers() {
        let mut index = index();
        let mut python = index.items()[..2].to_vec();
        for item in &mut python {
            item.language = "python".to_owned();
            item.id.push_str("py");
        }
        index.add(python).unwrap();
        let hits = index.search("items", 2, Some("python")).unwrap();
        assert_eq!(hits.len(), 2);
        assert!(hits.iter().all(|hit| index.items()[hit.id].language == "python"));
        assert!(index.search("items", 5, Some("cobol")).unwrap().is_empty());
        assert!(index.search("items", 0, None).unwrap().is_empty());
    }

    #[test]
    fn renamed_copies_are_clones_and_nothing_else_is() {
        let mut index = index();
        let copy = |item: &CodeItem| rename_locals(&format!("{} {}", item.signature, item.body)).unwrap();
        let copies: String = index.items().iter().map(copy).collect::<Vec<_>>().join("\n");
        index.add(extract_functions("copies.rs", &copies)).unwrap();
        let pairs: Vec<(usize, usize)> = index.clones(0.8).iter().map(|pair| (pair.first, pair.second)).collect();
        assert_eq!(pairs, [(0, 3), (1, 4), (2, 5)]);
        assert_eq!(index.similar(0, 9).len(), 5);
        assert!(index.similar(99, 3).is_empty());
    }
}
