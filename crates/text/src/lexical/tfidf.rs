//! TF-IDF weights with cosine similarity (Salton and Buckley, "Term-weighting approaches in automatic text retrieval", 1988), in the
//! variant that scikit-learn's `TfidfVectorizer` made common.

use super::Tokenizer;
use crate::TextError;
use eas_tensor::sparse::{Csr, SparseRow};
use eas_tensor::topk::{Scored, TopK};
use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;

/// How [`TfIdf::fit`] makes and weighs terms; the default takes single words of two or more characters, whatever their frequency.
#[derive(Debug, Clone, PartialEq)]
pub struct TfIdfConfig {
    /// How a text becomes tokens.
    pub tokenizer: Tokenizer,
    /// Lengths of the token runs that count as terms; `1..=2` adds pairs ("new york").
    pub ngram: RangeInclusive<usize>,
    /// Terms in fewer documents than this are dropped.
    pub min_df: usize,
    /// Counts one imaginary document that contains every term, so that no weight is infinite.
    pub smooth: bool,
    /// Replaces a count `tf` by `1 + ln tf`.
    pub sublinear: bool,
}

impl Default for TfIdfConfig {
    fn default() -> Self {
        Self { tokenizer: Tokenizer::Word, ngram: 1..=1, min_df: 1, smooth: true, sublinear: false }
    }
}

/// A fitted TF-IDF model together with the documents it was fitted on; document ids are positions in the input.
///
/// A term's weight in a text is `tf * idf` with `idf = ln((1 + n) / (1 + df)) + 1` (smooth) or `ln(n / df) + 1`; rows are scaled to
/// unit length, so that a dot product is a cosine.
#[derive(Debug, Clone)]
pub struct TfIdf {
    config: TfIdfConfig,
    /// Alphabetical; a term's column is its position.
    vocabulary: Vec<String>,
    columns: HashMap<String, u32>,
    idf: Vec<f64>,
    documents: Csr,
    /// The transpose of `documents`: an inverted index from term to weighted documents.
    postings: Csr,
}

impl TfIdf {
    /// Learns the vocabulary and weights of `documents`. Refuses an empty range of n-gram lengths, a length of 0, and documents that
    /// leave no term.
    ///
    /// ```
    /// use eas_text::lexical::{TfIdf, TfIdfConfig};
    ///
    /// let model = TfIdf::fit(&["red shoes", "blue shoes", "a car"], TfIdfConfig::default())?;
    /// let hits = model.search("red car", 5);
    /// assert_eq!(hits.iter().map(|hit| hit.id).collect::<Vec<_>>(), [2, 0]);
    /// assert!(model.search("automobile", 5).is_empty());
    /// # Ok::<(), eas_text::TextError>(())
    /// ```
    pub fn fit<S: AsRef<str>>(documents: &[S], config: TfIdfConfig) -> Result<Self, TextError> {
        if config.ngram.is_empty() || *config.ngram.start() == 0 {
            let got = format!("{:?}", config.ngram);
            return Err(TextError::argument("ngram", &got, "a range of lengths from 1 up"));
        }
        let counted: Vec<BTreeMap<String, u32>> = documents.iter().map(|d| count(&config, d.as_ref())).collect();
        let mut frequencies: BTreeMap<&str, usize> = BTreeMap::new();
        for term in counted.iter().flat_map(BTreeMap::keys) {
            *frequencies.entry(term).or_default() += 1;
        }
        let n = documents.len() as f64;
        let mut vocabulary = Vec::new();
        let mut idf = Vec::new();
        for (term, df) in frequencies {
            if df >= config.min_df {
                let (n, df) = if config.smooth { (n + 1.0, df as f64 + 1.0) } else { (n, df as f64) };
                vocabulary.push(term.to_owned());
                idf.push((n / df).ln() + 1.0);
            }
        }
        if vocabulary.is_empty() {
            return Err(TextError::EmptyVocabulary { documents: documents.len() });
        }
        let columns = (0..).zip(&vocabulary).map(|(column, term)| (term.clone(), column)).collect();
        let mut model = Self {
            config,
            vocabulary,
            columns,
            idf,
            documents: Csr::from_rows(0, &[])?,
            postings: Csr::from_rows(0, &[])?,
        };
        let rows: Vec<_> = counted.iter().map(|counts| model.weigh(counts)).collect();
        model.documents = Csr::from_rows(model.vocabulary.len(), &rows)?;
        model.postings = model.documents.transpose();
        Ok(model)
    }

    /// The terms in alphabetical order; a term's position is its column.
    pub fn vocabulary(&self) -> &[String] {
        &self.vocabulary
    }

    /// The weight of `term`, `None` when it isn't in the vocabulary.
    pub fn idf(&self, term: &str) -> Option<f64> {
        self.columns.get(term).map(|&column| self.idf[column as usize])
    }

    /// The unit rows of the fitted documents, shape `(documents, terms)`.
    pub fn documents(&self) -> &Csr {
        &self.documents
    }

    /// Unit rows of `texts`, shape `(texts, terms)`; terms outside of the vocabulary are ignored, a text without any known term
    /// gives an empty row.
    pub fn transform<S: AsRef<str>>(&self, texts: &[S]) -> Result<Csr, TextError> {
        let rows: Vec<_> = texts.iter().map(|text| self.weigh(&count(&self.config, text.as_ref()))).collect();
        Ok(Csr::from_rows(self.vocabulary.len(), &rows)?)
    }

    /// The cosine of two texts; 0 when they share no known term.
    pub fn cosine(&self, a: &str, b: &str) -> Result<f32, TextError> {
        let rows = self.transform(&[a, b])?;
        Ok(rows.row(0).dot(&rows.row(1)))
    }

    /// The `k` fitted documents of highest cosine with `query` among those that share a term with it, ties by lower id. A query
    /// without any known term finds nothing.
    pub fn search(&self, query: &str, k: usize) -> Vec<Scored> {
        let mut scores: BTreeMap<u32, f64> = BTreeMap::new();
        for (column, weight) in self.weigh(&count(&self.config, query)) {
            let SparseRow { columns, values } = self.postings.row(column as usize);
            for (&document, &value) in columns.iter().zip(values) {
                *scores.entry(document).or_default() += f64::from(weight) * f64::from(value);
            }
        }
        let mut best = TopK::new(k);
        for (document, score) in scores {
            best.push(document as usize, score as f32);
        }
        best.into_sorted_vec()
    }

    /// Columns and weights of counted terms, scaled to unit length.
    fn weigh(&self, counts: &BTreeMap<String, u32>) -> Vec<(u32, f32)> {
        let weights: Vec<(u32, f64)> = counts
            .iter()
            .filter_map(|(term, &count)| {
                let &column = self.columns.get(term)?;
                let tf = f64::from(count);
                let tf = if self.config.sublinear { 1.0 + tf.ln() } else { tf };
                Some((column, tf * self.idf[column as usize]))
            })
            .collect();
        let norm = weights.iter().map(|(_, w)| w * w).sum::<f64>().sqrt();
        weights.into_iter().map(|(column, w)| (column, (w / norm) as f32)).collect()
    }
}

/// How often each term of the configured lengths occurs in `text`.
fn count(config: &TfIdfConfig, text: &str) -> BTreeMap<String, u32> {
    let tokens = config.tokenizer.tokens(text);
    let mut counts = BTreeMap::new();
    for length in config.ngram.clone() {
        for run in tokens.windows(length) {
            *counts.entry(run.join(" ")).or_default() += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use eas_data::fixtures::mini_catalogue;

    fn close(hits: &[Scored], expected: &[(usize, f32)]) {
        assert_eq!(hits.len(), expected.len(), "{hits:?}");
        for (hit, &(id, score)) in hits.iter().zip(expected) {
            assert!(hit.id == id && (hit.score - score).abs() < 1e-6, "{hit:?} is not ({id}, {score})");
        }
    }

    #[test]
    fn values_of_scikit_learn() {
        let model = TfIdf::fit(mini_catalogue().documents, TfIdfConfig::default()).unwrap();
        assert_eq!((model.vocabulary().len(), model.documents().nnz()), (61, 71));
        for (term, idf) in [("laptop", 2.871_802), ("notebook", 2.466_337), ("with", 1.619_039)] {
            assert!((model.idf(term).unwrap() - idf).abs() < 1e-6, "{term}");
        }
        close(&model.search("laptop", 5), &[(1, 0.433_643)]);
        close(&model.search("running shoes", 5), &[(4, 0.654_565), (5, 0.239_128)]);
        close(&model.search("cheap flights", 5), &[(7, 0.563_343), (8, 0.227_381)]);
        close(&model.search("car", 5), &[(10, 0.5)]);
        assert_eq!(model.cosine("car", "automobile").unwrap(), 0.0);
        assert_eq!(model.idf("airplane"), None);
    }

    #[test]
    fn search_is_the_cosine_with_every_document() {
        let model = TfIdf::fit(mini_catalogue().documents, TfIdfConfig::default()).unwrap();
        for &query in mini_catalogue().documents.iter().chain(&["notebook with shoes for the car", "flights flights"]) {
            let row = model.transform(&[query]).unwrap();
            let mut oracle = TopK::new(4);
            for (id, document) in model.documents().iter_rows().enumerate() {
                let score = row.row(0).dot(&document);
                if score > 0.0 {
                    oracle.push(id, score);
                }
            }
            let oracle: Vec<_> = oracle.into_sorted_vec().iter().map(|hit| (hit.id, hit.score)).collect();
            close(&model.search(query, 4), &oracle);
        }
    }

    #[test]
    fn sublinear_counts_change_only_repeats() {
        let fit = |sublinear| {
            let config = TfIdfConfig { sublinear, ..TfIdfConfig::default() };
            TfIdf::fit(&["aa bb", "aa cc", "aa aa aa bb"], config).unwrap()
        };
        let (raw, sub) = (fit(false), fit(true));
        assert_eq!(raw.documents().row(0), sub.documents().row(0));
        assert_eq!(raw.documents().row(1), sub.documents().row(1));
        // 3 idf(aa) : idf(bb) against (1 + ln 3) idf(aa) : idf(bb), with idf(aa) = 1 and idf(bb) = ln(4/3) + 1.
        let ratio = |model: &TfIdf| f64::from(model.documents().row(2).values[0] / model.documents().row(2).values[1]);
        let bb = (4.0_f64 / 3.0).ln() + 1.0;
        assert!((ratio(&raw) - 3.0 / bb).abs() < 1e-6);
        assert!((ratio(&sub) - (1.0 + 3.0_f64.ln()) / bb).abs() < 1e-6);
    }

    #[test]
    fn word_pairs_rare_terms_and_unsmoothed_weights() {
        let config = TfIdfConfig { ngram: 1..=2, min_df: 2, smooth: false, ..TfIdfConfig::default() };
        let model = TfIdf::fit(&["new york city", "new york", "york"], config).unwrap();
        assert_eq!(model.vocabulary(), ["new", "new york", "york"]);
        assert!((model.idf("new york").unwrap() - (1.5_f64.ln() + 1.0)).abs() < 1e-12);
        assert!((model.idf("york").unwrap() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn bad_and_unknown_input() {
        let fit = |documents: &[&str], config| TfIdf::fit(documents, config).map(|_| ()).unwrap_err().to_string();
        assert_eq!(fit(&[], TfIdfConfig::default()), "no term is left of 0 documents");
        assert_eq!(fit(&["a ?", ""], TfIdfConfig::default()), "no term is left of 2 documents");
        let zero = TfIdfConfig { ngram: 0..=1, ..TfIdfConfig::default() };
        assert_eq!(fit(&["aa"], zero), "ngram is 0..=1, must be a range of lengths from 1 up");
        let model = TfIdf::fit(&["aa bb", ""], TfIdfConfig::default()).unwrap();
        assert!(model.search("unknown words", 5).is_empty());
        assert!(model.search("", 5).is_empty());
        assert!(model.search("aa", 0).is_empty());
        assert_eq!(model.cosine("unknown", "unknown").unwrap(), 0.0);
        assert_eq!(model.documents().rows(), 2);
    }
}
