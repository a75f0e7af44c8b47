//! Reranking: a slower, closer look at a few hundred candidates.

use crate::RetrievalError;
use eas_eval::calibration::Logistic;
use eas_tensor::{Matrix, kernels};
use std::collections::HashMap;

/// Late interaction: a document scores the mean, over the query's tokens, of the best cosine with one of its tokens.
///
/// Khattab and Zaharia, "ColBERT: Efficient and Effective Passage Search via Contextualized Late Interaction over BERT" (SIGIR 2020),
/// here with whatever token vectors the caller has.
#[derive(Debug, Clone)]
pub struct MaxSim {
    /// Unit token vectors; shape (distinct tokens, dim).
    table: Matrix,
    rows: HashMap<String, u32>,
    /// The distinct tokens of each document, as rows of the table.
    documents: Vec<Vec<u32>>,
}

impl MaxSim {
    /// Takes the tokens of each document and the vector of a token; tokens without a vector are left out.
    ///
    /// # Errors
    /// Vectors of different length, or with a value that isn't finite.
    pub fn new<'a>(
        documents: impl IntoIterator<Item = Vec<&'a str>>,
        vector: impl Fn(&str) -> Option<Vec<f32>>,
    ) -> Result<Self, RetrievalError> {
        let mut rows: HashMap<String, Option<u32>> = HashMap::new();
        let mut vectors: Vec<Vec<f32>> = Vec::new();
        let mut lists = Vec::new();
        for tokens in documents {
            let mut list = Vec::with_capacity(tokens.len());
            for token in tokens {
                let row = if let Some(&row) = rows.get(token) {
                    row
                } else {
                    let row = vector(token).map(|vector| {
                        vectors.push(vector);
                        (vectors.len() - 1) as u32
                    });
                    rows.insert(token.to_owned(), row);
                    row
                };
                list.extend(row);
            }
            list.sort_unstable();
            list.dedup();
            lists.push(list);
        }
        let mut table = Matrix::from_rows(&vectors)?;
        table.check_finite()?;
        table.normalize_rows();
        Ok(Self {
            table,
            rows: rows.into_iter().filter_map(|(token, row)| Some((token, row?))).collect(),
            documents: lists,
        })
    }

    /// Number of documents.
    pub fn len(&self) -> usize {
        self.documents.len()
    }

    /// True when there is no document.
    pub fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }

    /// The score of each candidate, in their order, in `[-1, 1]`; 0 for a document without tokens, and for a query without known ones.
    /// Repeated query tokens count once; tokens that no document has are left out.
    ///
    /// # Errors
    /// A candidate that isn't a document.
    pub fn score(&self, query: &[&str], candidates: &[usize]) -> Result<Vec<f64>, RetrievalError> {
        check_candidates(candidates, self.len())?;
        let mut tokens: Vec<u32> = query.iter().filter_map(|token| self.rows.get(*token).copied()).collect();
        tokens.sort_unstable();
        tokens.dedup();
        // Candidates share most of their tokens: each cosine is computed once.
        let mut seen: Vec<u32> = candidates.iter().flat_map(|&c| self.documents[c].iter().copied()).collect();
        seen.sort_unstable();
        seen.dedup();
        let mut best = vec![0.0_f64; candidates.len()];
        let mut cosines = vec![0.0_f32; self.table.rows()];
        for &token in &tokens {
            let own = self.table.row(token as usize);
            for &row in &seen {
                cosines[row as usize] = kernels::dot(own, self.table.row(row as usize));
            }
            for (sum, &candidate) in best.iter_mut().zip(candidates) {
                let rows = self.documents[candidate].iter();
                *sum += rows.map(|&row| f64::from(cosines[row as usize])).reduce(f64::max).unwrap_or(0.0);
            }
        }
        let count = tokens.len().max(1) as f64;
        Ok(best.into_iter().map(|sum| sum / count).collect())
    }
}

pub(crate) fn check_candidates(candidates: &[usize], documents: usize) -> Result<(), RetrievalError> {
    match candidates.iter().find(|&&c| c >= documents) {
        Some(c) => Err(RetrievalError::argument("candidate", c, "the index of a document")),
        None => Ok(()),
    }
}

/// What a [`LearnedReranker`] looks at, for one query and one document.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Features {
    /// Cosine of the sentence vectors.
    pub cosine: f64,
    /// BM25 score.
    pub bm25: f64,
    /// Share of the query's idf that the document contains.
    pub coverage: f64,
    /// [`MaxSim`] score.
    pub max_sim: f64,
    /// Distinct query terms over the width of the smallest window that holds all of them that occur; 0 for fewer than two.
    pub proximity: f64,
    /// Natural logarithm of one plus the document's number of terms.
    pub length: f64,
}

impl Features {
    /// Names of the features, in the order of [`Features::to_vec`].
    pub const NAMES: [&str; 6] = ["cosine", "bm25", "coverage", "max_sim", "proximity", "length"];

    /// The features as numbers.
    pub fn to_vec(self) -> Vec<f64> {
        vec![self.cosine, self.bm25, self.coverage, self.max_sim, self.proximity, self.length]
    }
}

/// A training query: the features of its candidates and which of them is relevant.
#[derive(Debug, Clone)]
pub struct TrainingQuery {
    /// One entry a candidate.
    pub candidates: Vec<Features>,
    /// Index of the relevant candidate.
    pub relevant: usize,
}

/// A linear score of [`Features`], trained on pairs: the relevant candidate should score above the others of its query.
///
/// The pairwise logistic loss of RankNet (Burges et al., "Learning to Rank using Gradient Descent", ICML 2005) with a linear model.
#[derive(Debug, Clone, PartialEq)]
pub struct LearnedReranker {
    weights: Vec<f64>,
}

impl LearnedReranker {
    /// Fits on the pairs of each query's relevant candidate with up to `negatives` others, the first of its list. `l2` > 0 keeps the
    /// weights finite.
    ///
    /// # Errors
    /// No pair to learn from, a relevant index out of range, a feature that isn't finite.
    pub fn fit(queries: &[TrainingQuery], negatives: usize, l2: f64) -> Result<Self, RetrievalError> {
        let mut differences: Vec<Vec<f64>> = Vec::new();
        let mut labels = Vec::new();
        for query in queries {
            let Some(relevant) = query.candidates.get(query.relevant) else {
                return Err(RetrievalError::argument("relevant", &query.relevant, "the index of a candidate"));
            };
            let relevant = relevant.to_vec();
            let others = query.candidates.iter().enumerate().filter(|(i, _)| *i != query.relevant);
            for (_, other) in others.take(negatives) {
                // Each pair in both directions, so that the bias is zero and the classes are balanced.
                let difference: Vec<f64> = relevant.iter().zip(other.to_vec()).map(|(r, o)| r - o).collect();
                differences.push(difference.iter().map(|x| -x).collect());
                labels.push(false);
                differences.push(difference);
                labels.push(true);
            }
        }
        let model = Logistic::fit(&differences, &labels, l2)?;
        Ok(Self { weights: model.weights })
    }

    /// The weights, in the order of [`Features::NAMES`].
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// The score of one candidate: greater is better, comparable within a query only.
    pub fn score(&self, features: &Features) -> f64 {
        self.weights.iter().zip(features.to_vec()).map(|(w, x)| w * x).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eas_tensor::rng::SplitMix64;

    fn vector(token: &str) -> Option<Vec<f32>> {
        match token {
            "car" => Some(vec![2.0, 0.0, 0.0]),
            "auto" => Some(vec![0.8, 0.6, 0.0]),
            "red" => Some(vec![0.0, 0.0, 3.0]),
            _ => None,
        }
    }

    #[test]
    fn each_query_token_takes_its_best_match() {
        let max_sim = MaxSim::new([vec!["auto", "red"], vec!["car", "zzz"], vec![]], vector).unwrap();
        let scores = max_sim.score(&["car", "red", "car", "unknown"], &[0, 1, 2]).unwrap();
        let expected = [f64::midpoint(0.8, 1.0), 0.5, 0.0];
        for (score, want) in scores.iter().zip(expected) {
            assert!((score - want).abs() < 1e-6, "{scores:?}");
        }
        assert_eq!(max_sim.score(&["unknown"], &[1]).unwrap(), [0.0]);
        assert!(max_sim.score(&["car"], &[]).unwrap().is_empty());
        assert!(max_sim.score(&["car"], &[3]).is_err());
    }

    #[test]
    fn training_finds_the_features_that_matter() {
        let mut rng = SplitMix64::new(5);
        let queries: Vec<TrainingQuery> = (0..300)
            .map(|_| {
                let candidates = (0..20)
                    .map(|i| Features {
                        cosine: rng.normal() + if i == 7 { 2.0 } else { 0.0 },
                        bm25: 10.0 * rng.normal(),
                        coverage: 0.0,
                        max_sim: rng.normal() + if i == 7 { 2.0 } else { 0.0 },
                        proximity: rng.normal(),
                        length: 1.0,
                    })
                    .collect();
                TrainingQuery { candidates, relevant: 7 }
            })
            .collect();
        let model = LearnedReranker::fit(&queries, 19, 1e-3).unwrap();
        let [cosine, bm25, _, max_sim, proximity, _] = model.weights()[..] else { panic!("six weights") };
        assert!(cosine > 1.0 && max_sim > 1.0 && bm25.abs() < 0.1 && proximity.abs() < 0.3, "{:?}", model.weights());
        let first = |q: &TrainingQuery| {
            let scores: Vec<f64> = q.candidates.iter().map(|f| model.score(f)).collect();
            (0..20).all(|i| scores[i] <= scores[7])
        };
        assert!(queries.iter().filter(|q| first(q)).count() > 200);
        assert!(LearnedReranker::fit(&[], 5, 1e-3).is_err());
        let off = TrainingQuery { candidates: queries[0].candidates.clone(), relevant: 20 };
        assert!(LearnedReranker::fit(&[off], 5, 1e-3).is_err());
    }
}
