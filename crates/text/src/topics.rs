//! Latent Dirichlet allocation by batch variational Bayes.
//!
//! Blei, Ng and Jordan, "Latent Dirichlet Allocation" (2003), with the smoothed topics and the updates of Hoffman, Blei and Bach,
//! "Online Learning for Latent Dirichlet Allocation" (2010), run over the whole corpus in each iteration.

use crate::TextError;
use crate::lexical::Tokenizer;
use eas_tensor::Matrix;
use eas_tensor::rng::SplitMix64;
use eas_tensor::sparse::{Csr, SparseRow};
use eas_tensor::special::{digamma, ln_gamma};
use eas_tensor::topk::TopK;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Steps of one document's loop, at most.
const DOCUMENT_STEPS: usize = 100;
/// A document's loop ends when its topic weights move by less than this on average.
const DOCUMENT_TOLERANCE: f64 = 1e-3;
/// Documents that one thread works through before its counts are added to the sum. The size is fixed so that the order of additions,
/// and with it every bit of the result, does not depend on the number of threads.
const CHUNK: usize = 256;

/// How often each word occurs in each text.
#[derive(Debug, Clone, PartialEq)]
pub struct CountMatrix {
    /// The words in alphabetical order; a word's column is its position.
    pub vocabulary: Vec<String>,
    /// Counts, shape `(texts, words)`.
    pub counts: Csr,
}

impl CountMatrix {
    /// Counts the tokens of `texts` that `keep` accepts and that occur in at least `min_df` of them.
    ///
    /// ```
    /// use eas_text::{lexical::Tokenizer, stopwords::is_stopword, topics::CountMatrix};
    ///
    /// let matrix = CountMatrix::of(&["the cat and the cat", "a cat"], Tokenizer::Word, 1, |w| !is_stopword(w))?;
    /// assert_eq!(matrix.vocabulary, ["cat"]);
    /// assert_eq!(matrix.counts.row(0).values, [2.0]);
    /// # Ok::<(), eas_text::TextError>(())
    /// ```
    pub fn of<S: AsRef<str>>(
        texts: &[S],
        tokenizer: Tokenizer,
        min_df: usize,
        keep: impl Fn(&str) -> bool,
    ) -> Result<Self, TextError> {
        let counted: Vec<BTreeMap<String, f32>> = texts
            .iter()
            .map(|text| {
                let mut counts = BTreeMap::new();
                for token in tokenizer.tokens(text.as_ref()) {
                    if keep(&token) {
                        *counts.entry(token).or_default() += 1.0;
                    }
                }
                counts
            })
            .collect();
        let mut frequencies: BTreeMap<&str, usize> = BTreeMap::new();
        for word in counted.iter().flat_map(BTreeMap::keys) {
            *frequencies.entry(word).or_default() += 1;
        }
        frequencies.retain(|_, df| *df >= min_df);
        let columns: BTreeMap<&str, u32> = frequencies.keys().copied().zip(0..).collect();
        let rows: Vec<Vec<(u32, f32)>> = counted
            .iter()
            .map(|counts| counts.iter().filter_map(|(w, &c)| Some((*columns.get(w.as_str())?, c))).collect())
            .collect();
        Ok(Self {
            vocabulary: columns.keys().map(|&word| word.to_owned()).collect(),
            counts: Csr::from_rows(columns.len(), &rows)?,
        })
    }
}

/// Settings of the topic model.
#[derive(Debug, Clone, PartialEq)]
pub struct Lda {
    /// Number of topics, chosen in advance.
    pub topics: usize,
    /// Dirichlet prior of a document's topic weights; small values favour few topics a document.
    pub alpha: f64,
    /// Dirichlet prior of a topic's word weights; small values favour few words a topic.
    pub eta: f64,
    /// Iterations over the corpus, at most.
    pub max_iter: usize,
    /// Stops when the bound improves by less than this share of its size.
    pub tol: f64,
    /// Seed of the starting topics.
    pub seed: u64,
}

impl Lda {
    /// `topics` topics with both priors `1 / topics`, at most 30 iterations and a tolerance of 1e-4.
    pub fn new(topics: usize, seed: u64) -> Self {
        let prior = 1.0 / topics.max(1) as f64;
        Self { topics, alpha: prior, eta: prior, max_iter: 30, tol: 1e-4, seed }
    }

    /// Fits the topics of `counts`, shape `(documents, terms)`. Refuses zero topics, priors that aren't positive, negative counts and
    /// a corpus without any word.
    pub fn fit(&self, counts: &Csr) -> Result<LdaModel, TextError> {
        if self.topics == 0 {
            return Err(TextError::argument("topics", &0, "at least 1"));
        }
        for (name, prior) in [("alpha", self.alpha), ("eta", self.eta)] {
            if !(prior.is_finite() && prior > 0.0) {
                return Err(TextError::argument(name, &prior, "a positive number"));
            }
        }
        check_counts(counts)?;
        if counts.nnz() == 0 {
            return Err(TextError::EmptyVocabulary { documents: counts.rows() });
        }
        let terms = counts.dim();
        let mut rng = SplitMix64::new(self.seed);
        let mut model = LdaModel {
            topics: self.topics,
            terms,
            alpha: self.alpha,
            eta: self.eta,
            lambda: (0..terms * self.topics).map(|_| rng.gamma(100.0) / 100.0).collect(),
            elbo: Vec::new(),
        };
        for _ in 0..self.max_iter.max(1) {
            let Expectation { bound, statistics, .. } = model.expectation(counts);
            let previous = model.elbo.last().copied();
            model.elbo.push(bound);
            for (weight, count) in model.lambda.iter_mut().zip(&statistics) {
                *weight = self.eta + count;
            }
            if previous.is_some_and(|p| bound - p < self.tol * bound.abs()) {
                break;
            }
        }
        Ok(model)
    }
}

/// Fitted topics.
#[derive(Debug, Clone, PartialEq)]
pub struct LdaModel {
    topics: usize,
    terms: usize,
    alpha: f64,
    eta: f64,
    /// Variational Dirichlet parameters of the topics, term by term: shape `(terms, topics)`, so that a word's row is contiguous.
    lambda: Vec<f64>,
    elbo: Vec<f64>,
}

impl LdaModel {
    /// Number of topics.
    pub fn topics(&self) -> usize {
        self.topics
    }

    /// The word distributions of the topics, shape `(topics, terms)`; rows sum to 1.
    pub fn beta(&self) -> Matrix {
        let totals = self.topic_totals();
        let mut beta = Matrix::zeros(self.topics, self.terms);
        for (topic, &total) in totals.iter().enumerate() {
            for (term, p) in beta.row_mut(topic).iter_mut().enumerate() {
                *p = (self.lambda[term * self.topics + topic] / total) as f32;
            }
        }
        beta
    }

    /// The `k` most probable terms of `topic` as columns of the count matrix, ties by lower column; none for a topic that does not exist.
    pub fn top_words(&self, topic: usize, k: usize) -> Vec<usize> {
        let mut best = TopK::new(k);
        if topic < self.topics {
            for term in 0..self.terms {
                best.push(term, self.lambda[term * self.topics + topic] as f32);
            }
        }
        best.into_sorted_vec().iter().map(|word| word.id).collect()
    }

    /// The evidence lower bound at each iteration, in nats: a lower bound of the corpus's log-likelihood. It rises
    /// until the topics have settled; with more topics than the corpus has, the fresh start of each document may then cost a little,
    /// which ends the fit.
    pub fn elbo(&self) -> &[f64] {
        &self.elbo
    }

    /// The topic weights of each document of `counts`, shape `(documents, topics)`; rows sum to 1, an empty document's are equal.
    pub fn transform(&self, counts: &Csr) -> Result<Matrix, TextError> {
        self.check_terms(counts)?;
        let gamma = self.expectation(counts).gamma;
        let mut theta = Matrix::zeros(counts.rows(), self.topics);
        for (document, weights) in gamma.chunks_exact(self.topics).enumerate() {
            let total: f64 = weights.iter().sum();
            for (p, w) in theta.row_mut(document).iter_mut().zip(weights) {
                *p = (w / total) as f32;
            }
        }
        Ok(theta)
    }

    /// `exp(-bound / words)` of `counts`: the lower, the better the topics explain it. It bounds the true perplexity from above.
    /// Refuses a corpus without words.
    pub fn perplexity(&self, counts: &Csr) -> Result<f64, TextError> {
        self.check_terms(counts)?;
        let words: f64 = counts.iter_rows().flat_map(|row| row.values).map(|&c| f64::from(c)).sum();
        if words == 0.0 {
            return Err(TextError::EmptyVocabulary { documents: counts.rows() });
        }
        Ok((-self.expectation(counts).bound / words).exp())
    }

    fn check_terms(&self, counts: &Csr) -> Result<(), TextError> {
        if counts.dim() != self.terms {
            return Err(TextError::argument("terms", &counts.dim(), &format!("{}", self.terms)));
        }
        check_counts(counts)
    }

    fn topic_totals(&self) -> Vec<f64> {
        let mut totals = vec![0.0; self.topics];
        for row in self.lambda.chunks_exact(self.topics) {
            for (total, weight) in totals.iter_mut().zip(row) {
                *total += weight;
            }
        }
        totals
    }

    /// One pass over the documents with fixed topics.
    fn expectation(&self, counts: &Csr) -> Expectation {
        let mut gamma = vec![0.0; counts.rows() * self.topics];
        let totals = self.topic_totals();
        let digamma_totals: Vec<f64> = totals.iter().map(|&t| digamma(t)).collect();
        let log_beta: Vec<f64> = self
            .lambda
            .par_chunks(self.topics)
            .flat_map_iter(|row| row.iter().zip(&digamma_totals).map(|(&l, d)| digamma(l) - d))
            .collect();
        let exp_beta: Vec<f64> = log_beta.iter().map(|l| l.exp()).collect();

        let parts: Vec<Part> = gamma
            .par_chunks_mut(CHUNK * self.topics)
            .enumerate()
            .map(|(chunk, rows)| {
                let mut part = Part::default();
                for (i, row) in rows.chunks_exact_mut(self.topics).enumerate() {
                    let document = counts.row(chunk * CHUNK + i);
                    self.document(&document, &exp_beta, row, &mut part);
                }
                part
            })
            .collect();

        let mut bound = 0.0;
        let mut statistics = vec![0.0; self.lambda.len()];
        for part in parts {
            bound += part.bound;
            for (&term, weights) in part.terms.iter().zip(part.weights.chunks_exact(self.topics)) {
                let row = &mut statistics[term as usize * self.topics..][..self.topics];
                for (sum, weight) in row.iter_mut().zip(weights) {
                    *sum += weight;
                }
            }
        }
        // The topics' own part of the bound: minus the divergence of their posterior from their prior.
        for (l, e) in self.lambda.iter().zip(&log_beta) {
            bound += (self.eta - l) * e + ln_gamma(*l) - ln_gamma(self.eta);
        }
        for total in totals {
            bound += ln_gamma(self.eta * self.terms as f64) - ln_gamma(total);
        }
        Expectation { gamma, bound, statistics }
    }

    /// Finds one document's topic weights `gamma`, and adds its expected counts and its share of the bound to `part`.
    fn document(&self, words: &SparseRow<'_>, exp_beta: &[f64], gamma: &mut [f64], part: &mut Part) {
        let (bound, exp_theta) = self.settle(words, exp_beta, gamma);
        part.bound += bound;
        for (&term, &count) in words.columns.iter().zip(words.values) {
            let beta = &exp_beta[term as usize * self.topics..][..self.topics];
            let norm = exp_theta.iter().zip(beta).map(|(t, b)| t * b).sum::<f64>().max(f64::MIN_POSITIVE);
            let share = f64::from(count) / norm;
            part.terms.push(term);
            part.weights.extend(exp_theta.iter().zip(beta).map(|(t, b)| share * t * b));
        }
    }

    /// Coordinate ascent on one document's `gamma` from equal weights; returns its share of the bound and `exp(E[ln theta])`.
    ///
    /// The start is the same in each iteration: a document that went on from its last weights would keep to a topic that it chose
    /// while the topics were still noise.
    fn settle(&self, words: &SparseRow<'_>, exp_beta: &[f64], gamma: &mut [f64]) -> (f64, Vec<f64>) {
        let beta = |term: u32| &exp_beta[term as usize * self.topics..][..self.topics];
        let expected = |gamma: &[f64]| -> Vec<f64> {
            let total = digamma(gamma.iter().sum());
            gamma.iter().map(|&g| digamma(g) - total).collect()
        };
        gamma.fill(1.0);
        let mut log_theta = expected(gamma);
        let mut exp_theta: Vec<f64> = log_theta.iter().map(|l| l.exp()).collect();
        for _ in 0..DOCUMENT_STEPS {
            let mut next = vec![self.alpha; self.topics];
            for (&term, &count) in words.columns.iter().zip(words.values) {
                let beta = beta(term);
                let norm: f64 = exp_theta.iter().zip(beta).map(|(t, b)| t * b).sum();
                let share = f64::from(count) / norm.max(f64::MIN_POSITIVE);
                for ((g, t), b) in next.iter_mut().zip(&exp_theta).zip(beta) {
                    *g += share * t * b;
                }
            }
            let moved: f64 = next.iter().zip(gamma.iter()).map(|(a, b)| (a - b).abs()).sum();
            gamma.copy_from_slice(&next);
            log_theta = expected(gamma);
            exp_theta = log_theta.iter().map(|l| l.exp()).collect();
            if moved < DOCUMENT_TOLERANCE * self.topics as f64 {
                break;
            }
        }
        let mut bound = 0.0;
        for (&term, &count) in words.columns.iter().zip(words.values) {
            let norm = exp_theta.iter().zip(beta(term)).map(|(t, b)| t * b).sum::<f64>().max(f64::MIN_POSITIVE);
            bound += f64::from(count) * norm.ln();
        }
        for (&g, l) in gamma.iter().zip(&log_theta) {
            bound += (self.alpha - g) * l + ln_gamma(g) - ln_gamma(self.alpha);
        }
        bound += ln_gamma(self.alpha * self.topics as f64) - ln_gamma(gamma.iter().sum());
        (bound, exp_theta)
    }
}

/// The documents' side of an iteration.
struct Expectation {
    /// Variational Dirichlet parameters of the documents' topic weights, shape `(documents, topics)`.
    gamma: Vec<f64>,
    bound: f64,
    /// Expected word counts of the topics, shape `(terms, topics)`.
    statistics: Vec<f64>,
}

/// What a chunk of documents contributes to an iteration.
#[derive(Default)]
struct Part {
    bound: f64,
    /// The terms of the documents one after another, and for each its expected count in every topic.
    terms: Vec<u32>,
    weights: Vec<f64>,
}

fn check_counts(counts: &Csr) -> Result<(), TextError> {
    match counts.iter_rows().flat_map(|row| row.values).find(|&&c| c < 0.0) {
        Some(count) => Err(TextError::argument("count", count, "not negative")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two topics over disjoint halves of 20 terms; even documents are of the first, odd ones of the second.
    fn two_topics(documents: usize, seed: u64) -> Csr {
        let mut rng = SplitMix64::new(seed);
        let rows: Vec<Vec<(u32, f32)>> = (0..documents)
            .map(|d| {
                let words = (0..30).map(|_| (10 * (d as u32 % 2) + rng.below(10) as u32, 1.0));
                words.collect()
            })
            .collect();
        Csr::from_rows(20, &rows).unwrap()
    }

    #[test]
    fn disjoint_topics_are_told_apart() {
        let counts = two_topics(300, 1);
        let model = Lda::new(2, 3).fit(&counts).unwrap();
        let theta = model.transform(&counts).unwrap();
        let first = usize::from(theta.row(0)[1] > theta.row(0)[0]);
        for (d, row) in theta.iter_rows().enumerate() {
            let own = if d % 2 == 0 { first } else { 1 - first };
            assert!(row[own] > 0.9, "document {d}: {row:?}");
        }
        let mut words = model.top_words(first, 10);
        words.sort_unstable();
        assert_eq!(words, (0..10).collect::<Vec<_>>());
        // Ten equally likely words are a perplexity of 10, a little more for not knowing the topics beforehand.
        let perplexity = model.perplexity(&counts).unwrap();
        assert!(perplexity > 10.0 && perplexity < 11.5, "{perplexity}");
    }

    #[test]
    fn the_bound_never_falls_and_rows_sum_to_one() {
        for seed in 0..3 {
            let counts = two_topics(120, seed);
            let model = Lda::new(2, seed).fit(&counts).unwrap();
            assert!(model.elbo().len() > 2);
            for pair in model.elbo().windows(2) {
                assert!(pair[1] >= pair[0] - 1e-6 * pair[0].abs(), "{pair:?}");
            }
            let theta = model.transform(&counts).unwrap();
            for row in model.beta().iter_rows().chain(theta.iter_rows()) {
                assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn one_topic_is_the_smoothed_word_distribution() {
        // With one topic there is nothing to infer: lambda = eta + column totals.
        let counts = Csr::from_rows(3, &[vec![(0, 3.0), (1, 1.0)], vec![(1, 4.0)]]).unwrap();
        let model = Lda { eta: 0.5, ..Lda::new(1, 0) }.fit(&counts).unwrap();
        let total = 8.0 + 1.5;
        let expected = [3.5 / total, 5.5 / total, 0.5 / total];
        for (p, e) in model.beta().row(0).iter().zip(expected) {
            assert!((p - e as f32).abs() < 1e-6);
        }
        assert_eq!(model.top_words(0, 9), [1, 0, 2]);
        assert!(model.top_words(1, 3).is_empty());
    }

    #[test]
    fn rare_and_unwanted_words_are_not_counted() {
        let texts = ["red red car", "red bus", "the bus", ""];
        let matrix = CountMatrix::of(&texts, Tokenizer::Word, 2, |word| word != "the").unwrap();
        assert_eq!(matrix.vocabulary, ["bus", "red"]);
        assert_eq!(
            matrix.counts,
            Csr::from_rows(2, &[vec![(1, 2.0)], vec![(0, 1.0), (1, 1.0)], vec![(0, 1.0)], vec![]]).unwrap()
        );
        let nothing = CountMatrix::of(&texts, Tokenizer::Word, 9, |_| true).unwrap();
        assert!(nothing.vocabulary.is_empty() && nothing.counts.rows() == 4);
    }

    #[test]
    fn seeds_decide_and_threads_do_not() {
        let counts = two_topics(600, 5);
        let fit = |seed| Lda::new(3, seed).fit(&counts).unwrap();
        assert_eq!(fit(1), fit(1));
        assert_ne!(fit(1), fit(2));
        let single = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(single.install(|| fit(1)), fit(1));
    }

    #[test]
    fn bad_input_is_refused_and_empty_documents_are_neutral() {
        let counts = two_topics(10, 1);
        let refused = |lda: Lda, counts: &Csr| lda.fit(counts).map(|_| ()).unwrap_err().to_string();
        assert_eq!(refused(Lda::new(0, 1), &counts), "topics is 0, must be at least 1");
        assert_eq!(
            refused(Lda { alpha: f64::NAN, ..Lda::new(2, 1) }, &counts),
            "alpha is NaN, must be a positive number"
        );
        assert_eq!(refused(Lda::new(2, 1), &Csr::from_rows(5, &[]).unwrap()), "no term is left of 0 documents");
        let negative = Csr::from_rows(2, &[vec![(0, -1.0)]]).unwrap();
        assert_eq!(refused(Lda::new(2, 1), &negative), "count is -1, must be not negative");
        let model = Lda::new(2, 1).fit(&counts).unwrap();
        assert!(model.transform(&negative).is_err());
        let empty = Csr::from_rows(20, &[vec![]]).unwrap();
        assert_eq!(model.transform(&empty).unwrap().row(0), [0.5, 0.5]);
        assert!(model.perplexity(&empty).is_err());
    }
}
