//! The four-stage funnel: recall widely, mix in the words, look closer, diversify.
//!
//! Each stage returns its own scores; documents are never changed, so that a lost document can be traced to the stage that lost it.

use crate::RetrievalError;
use crate::mmr::{min_max, mmr};
use crate::query::content_terms;
use crate::rerank::{Features, LearnedReranker, MaxSim, check_candidates};
use eas_tensor::topk::top_k;
use eas_tensor::{Matrix, kernels};
use eas_text::lexical::{Bm25, Tokenizer};
use rayon::prelude::*;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

/// Sizes and weights of the funnel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FunnelConfig {
    /// Documents taken by vector in stage 1; half as many are added by BM25.
    pub k1: usize,
    /// Documents after the mix of stage 2.
    pub k2: usize,
    /// Documents after reranking.
    pub k3: usize,
    /// Documents after diversification.
    pub k4: usize,
    /// Share of the cosine in stage 2, in `[0, 1]`; the rest is keyword coverage.
    pub vector_weight: f64,
    /// Share of relevance against novelty in stage 4, in `[0, 1]`.
    pub lambda: f64,
}

impl Default for FunnelConfig {
    /// 1000 (and 500), 500, 20, 10; 0.7 vector; lambda 0.5.
    fn default() -> Self {
        Self { k1: 1000, k2: 500, k3: 20, k4: 10, vector_weight: 0.7, lambda: 0.5 }
    }
}

/// A document and its score in one stage.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ranked {
    /// Index of the document.
    pub document: usize,
    /// The stage's score; stages have different scales.
    pub score: f64,
}

/// Which lists stage 1 unites.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recall {
    /// Vector search alone.
    Dense,
    /// BM25 alone.
    Lexical,
    /// Both.
    Hybrid,
}

/// How stage 3 scores.
#[derive(Debug, Clone, PartialEq)]
pub enum Reranker {
    /// Leaves the order of stage 2.
    Keep,
    /// Late interaction.
    MaxSim,
    /// A trained linear score.
    Learned(LearnedReranker),
}

/// A query ready for the funnel.
#[derive(Debug, Clone, PartialEq)]
pub struct FunnelQuery {
    text: String,
    vector: Vec<f32>,
    terms: Vec<String>,
    /// The terms that some document has, with their idf.
    known: Vec<(u32, f64)>,
    /// The idf of all terms together.
    total_idf: f64,
    /// Tokens for late interaction.
    tokens: Vec<String>,
}

impl FunnelQuery {
    /// The content terms: lower case, stop words left out, short ones such as "c" and "sql" kept.
    pub fn terms(&self) -> impl Iterator<Item = &str> {
        self.terms.iter().map(String::as_str)
    }
}

/// The result lists of the four stages.
#[derive(Debug, Clone)]
pub struct FunnelRun {
    /// Best first: the union by cosine, the mix, the reranked, the diversified.
    pub stages: [Vec<Ranked>; 4],
    /// How long each stage took.
    pub elapsed: [Duration; 4],
}

/// Documents indexed for every stage.
#[derive(Debug, Clone)]
pub struct Funnel {
    config: FunnelConfig,
    vectors: Matrix,
    /// Unit vectors by which stage 4 compares documents, if not `vectors`.
    meanings: Option<Matrix>,
    bm25: Bm25,
    max_sim: MaxSim,
    vocabulary: HashMap<String, u32>,
    /// The terms of each document in order.
    terms: Vec<Vec<u32>>,
}

impl Funnel {
    /// Indexes `documents` with one vector each (made unit length) and their late-interaction tokens.
    ///
    /// # Errors
    /// Counts that differ, a vector that isn't finite, a size of 0 or one larger than the stage before, a weight outside `[0, 1]`.
    pub fn new<S: AsRef<str>>(
        config: FunnelConfig,
        documents: &[S],
        mut vectors: Matrix,
        max_sim: MaxSim,
    ) -> Result<Self, RetrievalError> {
        for (what, given) in [("vectors", vectors.rows()), ("token lists", max_sim.len())] {
            if given != documents.len() {
                return Err(RetrievalError::Length { what, given, of: "documents", expected: documents.len() });
            }
        }
        let sizes = [config.k1 + config.k1 / 2, config.k2, config.k3, config.k4];
        if config.k4 == 0 || sizes.windows(2).any(|pair| pair[1] > pair[0]) {
            return Err(RetrievalError::argument("sizes", &format!("{sizes:?}"), "positive and falling"));
        }
        for (name, share) in [("vector_weight", config.vector_weight), ("lambda", config.lambda)] {
            if !(0.0..=1.0).contains(&share) {
                return Err(RetrievalError::argument(name, &share, "a number in [0, 1]"));
            }
        }
        vectors.check_finite()?;
        vectors.normalize_rows();
        let mut vocabulary = HashMap::new();
        let mut terms = Vec::with_capacity(documents.len());
        for document in documents {
            let own = Tokenizer::AnyWord.tokens(document.as_ref()).into_iter().map(|term| {
                let next = vocabulary.len() as u32;
                *vocabulary.entry(term).or_insert(next)
            });
            terms.push(own.collect());
        }
        Ok(Self {
            config,
            vectors,
            meanings: None,
            bm25: Bm25::new(documents, Tokenizer::AnyWord),
            max_sim,
            vocabulary,
            terms,
        })
    }

    /// Gives stage 4 vectors of its own by which it tells documents apart, for example of the definition without the headword: documents
    /// that share the query's words are alike in their whole text however different they are.
    ///
    /// # Errors
    /// Not one vector a document, or one that isn't finite.
    pub fn with_diversity_vectors(mut self, mut vectors: Matrix) -> Result<Self, RetrievalError> {
        if vectors.rows() != self.terms.len() {
            return Err(RetrievalError::Length {
                what: "vectors",
                given: vectors.rows(),
                of: "documents",
                expected: self.terms.len(),
            });
        }
        vectors.check_finite()?;
        vectors.normalize_rows();
        self.meanings = Some(vectors);
        Ok(self)
    }

    /// The configuration.
    pub fn config(&self) -> &FunnelConfig {
        &self.config
    }

    /// Prepares a query from its text, its vector and its late-interaction tokens.
    ///
    /// # Errors
    /// A vector of another dimension than the documents', or with a value that isn't finite.
    pub fn query(&self, text: &str, vector: &[f32], tokens: Vec<String>) -> Result<FunnelQuery, RetrievalError> {
        if vector.len() != self.vectors.dim() {
            return Err(RetrievalError::Length {
                what: "values in the query vector",
                given: vector.len(),
                of: "dimensions",
                expected: self.vectors.dim(),
            });
        }
        if let Some(x) = vector.iter().find(|x| !x.is_finite()) {
            return Err(RetrievalError::argument("query vector", x, "finite values"));
        }
        let norm = kernels::norm(vector);
        let scale = if norm > 0.0 { 1.0 / norm } else { 0.0 };
        let terms: BTreeSet<String> = content_terms(text).into_iter().collect();
        let known = terms.iter().filter_map(|term| Some((*self.vocabulary.get(term)?, self.bm25.idf(term))));
        Ok(FunnelQuery {
            text: text.to_owned(),
            vector: vector.iter().map(|x| x * scale).collect(),
            known: known.collect(),
            total_idf: terms.iter().map(|term| self.bm25.idf(term)).sum(),
            terms: terms.into_iter().collect(),
            tokens,
        })
    }

    /// All four stages.
    ///
    /// # Errors
    /// None for a query made by [`Funnel::query`].
    pub fn run(&self, query: &FunnelQuery, recall: Recall, reranker: &Reranker) -> Result<FunnelRun, RetrievalError> {
        let clock = Instant::now();
        let first = self.recall(query, recall);
        let (recalled, clock) = (clock.elapsed(), Instant::now());
        let second = self.mix(query, &first);
        let (mixed, clock) = (clock.elapsed(), Instant::now());
        let third = self.rerank(query, &second, reranker)?;
        let (reranked, clock) = (clock.elapsed(), Instant::now());
        let fourth = self.diversify(&third, self.config.lambda)?;
        Ok(FunnelRun { stages: [first, second, third, fourth], elapsed: [recalled, mixed, reranked, clock.elapsed()] })
    }

    /// [`Funnel::run`] for many queries, on all threads.
    ///
    /// # Errors
    /// As [`Funnel::run`].
    pub fn run_all(
        &self,
        queries: &[FunnelQuery],
        recall: Recall,
        reranker: &Reranker,
    ) -> Result<Vec<FunnelRun>, RetrievalError> {
        queries.par_iter().map(|query| self.run(query, recall, reranker)).collect()
    }

    /// Stage 1: the `k1` nearest by cosine, united with the `k1 / 2` best by BM25; all ranked by cosine, except that BM25 alone
    /// ranks by its own score.
    pub fn recall(&self, query: &FunnelQuery, recall: Recall) -> Vec<Ranked> {
        let lexical =
            if recall == Recall::Dense { Vec::new() } else { self.bm25.search(&query.text, self.config.k1 / 2) };
        if recall == Recall::Lexical {
            let ranked = |hit: &eas_tensor::topk::Scored| Ranked { document: hit.id, score: f64::from(hit.score) };
            return lexical.iter().map(ranked).collect();
        }
        let cosines = kernels::dot_rows(&query.vector, &self.vectors);
        let dense = top_k(&cosines, self.config.k1);
        let union: BTreeSet<usize> = dense.iter().chain(&lexical).map(|hit| hit.id).collect();
        let ranked = union.into_iter().map(|document| Ranked { document, score: f64::from(cosines[document]) });
        best_first(ranked.collect(), usize::MAX)
    }

    /// Stage 2: the `k2` best by `vector_weight * cosine + (1 - vector_weight) * coverage`, the cosine scaled to `[0, 1]` over the
    /// candidates, coverage being the share of the query's idf that the document contains.
    pub fn mix(&self, query: &FunnelQuery, candidates: &[Ranked]) -> Vec<Ranked> {
        let cosines: Vec<f64> = candidates.iter().map(|c| self.cosine(query, c.document)).collect();
        let weight = self.config.vector_weight;
        let mixed = candidates.iter().zip(min_max(&cosines)).map(|(c, cosine)| Ranked {
            document: c.document,
            score: weight * cosine + (1.0 - weight) * self.coverage(query, c.document),
        });
        best_first(mixed.collect(), self.config.k2)
    }

    /// Stage 3: the `k3` best by the reranker.
    ///
    /// # Errors
    /// A candidate that isn't a document.
    pub fn rerank(
        &self,
        query: &FunnelQuery,
        candidates: &[Ranked],
        reranker: &Reranker,
    ) -> Result<Vec<Ranked>, RetrievalError> {
        let documents: Vec<usize> = candidates.iter().map(|c| c.document).collect();
        check_candidates(&documents, self.terms.len())?;
        let scores: Vec<f64> = match reranker {
            Reranker::Keep => candidates.iter().map(|c| c.score).collect(),
            Reranker::MaxSim => self.max_sims(query, &documents)?,
            Reranker::Learned(model) => self.features(query, &documents)?.iter().map(|f| model.score(f)).collect(),
        };
        let ranked = documents.into_iter().zip(scores).map(|(document, score)| Ranked { document, score });
        Ok(best_first(ranked.collect(), self.config.k3))
    }

    /// Stage 4: up to `k4` by maximal marginal relevance over the reranker's scores scaled to `[0, 1]` and the documents' cosines
    /// (negative ones count as 0).
    ///
    /// # Errors
    /// `lambda` outside `[0, 1]`.
    pub fn diversify(&self, candidates: &[Ranked], lambda: f64) -> Result<Vec<Ranked>, RetrievalError> {
        let scores: Vec<f64> = candidates.iter().map(|c| c.score).collect();
        let similarity = |a: usize, b: usize| self.similarity(candidates[a].document, candidates[b].document);
        let order = mmr(&min_max(&scores), similarity, self.config.k4, lambda)?;
        Ok(order.into_iter().map(|i| candidates[i]).collect())
    }

    /// What a learned reranker sees of each document.
    ///
    /// # Errors
    /// An index that isn't a document's.
    pub fn features(&self, query: &FunnelQuery, documents: &[usize]) -> Result<Vec<Features>, RetrievalError> {
        let max_sims = self.max_sims(query, documents)?;
        let wanted: HashSet<usize> = documents.iter().copied().collect();
        let hits = self.bm25.search_where(&query.text, documents.len().max(1), |id| wanted.contains(&id));
        let bm25: HashMap<usize, f32> = hits.into_iter().map(|hit| (hit.id, hit.score)).collect();
        let features = documents.iter().zip(max_sims).map(|(&document, max_sim)| Features {
            cosine: self.cosine(query, document),
            bm25: bm25.get(&document).map_or(0.0, |&score| f64::from(score)),
            coverage: self.coverage(query, document),
            max_sim,
            proximity: self.proximity(query, document),
            length: (1.0 + self.terms[document].len() as f64).ln(),
        });
        Ok(features.collect())
    }

    /// How alike stage 4 finds two documents, in `[0, 1]`. Panics on an index that isn't a document's.
    pub fn similarity(&self, a: usize, b: usize) -> f64 {
        let vectors = self.meanings.as_ref().unwrap_or(&self.vectors);
        f64::from(kernels::dot(vectors.row(a), vectors.row(b)).max(0.0))
    }

    fn max_sims(&self, query: &FunnelQuery, documents: &[usize]) -> Result<Vec<f64>, RetrievalError> {
        let tokens: Vec<&str> = query.tokens.iter().map(String::as_str).collect();
        self.max_sim.score(&tokens, documents)
    }

    fn cosine(&self, query: &FunnelQuery, document: usize) -> f64 {
        f64::from(kernels::dot(&query.vector, self.vectors.row(document)))
    }

    fn coverage(&self, query: &FunnelQuery, document: usize) -> f64 {
        let found = |(term, idf): &(u32, f64)| if self.terms[document].contains(term) { *idf } else { 0.0 };
        let covered: f64 = query.known.iter().map(found).sum();
        if query.total_idf > 0.0 { covered / query.total_idf } else { 0.0 }
    }

    fn proximity(&self, query: &FunnelQuery, document: usize) -> f64 {
        let place = |(at, term): (usize, &u32)| Some((at, query.known.iter().position(|(known, _)| known == term)?));
        let places: Vec<(usize, usize)> = self.terms[document].iter().enumerate().filter_map(place).collect();
        let distinct = (0..query.known.len()).filter(|term| places.iter().any(|(_, t)| t == term)).count();
        if distinct < 2 {
            return 0.0;
        }
        // From each occurrence forward until all are seen.
        let width = |from: usize| {
            let mut seen = vec![false; query.known.len()];
            let mut count = 0;
            let last = places[from..].iter().find(|(_, term)| {
                count += usize::from(!std::mem::replace(&mut seen[*term], true));
                count == distinct
            })?;
            Some(last.0 - places[from].0 + 1)
        };
        let smallest = (0..places.len()).filter_map(width).min().unwrap_or(usize::MAX);
        distinct as f64 / smallest as f64
    }
}

/// Sorted by score, ties by lower document, the first `k`.
fn best_first(mut ranked: Vec<Ranked>, k: usize) -> Vec<Ranked> {
    ranked.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.document.cmp(&b.document)));
    ranked.truncate(k);
    ranked
}

#[cfg(test)]
mod tests {
    use super::*;
    use eas_tensor::rng::SplitMix64;

    const WORDS: [&str; 12] =
        ["sql", "api", "c", "query", "index", "vector", "graph", "cache", "shard", "token", "model", "data"];

    fn vector(word: &str) -> Option<Vec<f32>> {
        let at = WORDS.iter().position(|w| *w == word)?;
        let mut rng = SplitMix64::new(at as u64);
        Some((0..8).map(|_| rng.normal() as f32).collect())
    }

    fn mean(tokens: &[&str]) -> Vec<f32> {
        let mut sum = vec![0.0; 8];
        for row in tokens.iter().filter_map(|t| vector(t)) {
            sum.iter_mut().zip(row).for_each(|(s, x)| *s += x);
        }
        sum
    }

    fn funnel() -> Funnel {
        let mut rng = SplitMix64::new(3);
        let documents: Vec<Vec<&str>> = (0..200).map(|_| (0..5).map(|_| WORDS[rng.below(12)]).collect()).collect();
        let texts: Vec<String> = documents.iter().map(|words| words.join(" ")).collect();
        let vectors: Vec<Vec<f32>> = documents.iter().map(|words| mean(words)).collect();
        let config = FunnelConfig { k1: 80, k2: 40, k3: 10, k4: 5, ..FunnelConfig::default() };
        let max_sim = MaxSim::new(documents, vector).unwrap();
        Funnel::new(config, &texts, Matrix::from_rows(&vectors).unwrap(), max_sim).unwrap()
    }

    fn ask(funnel: &Funnel, text: &str) -> FunnelQuery {
        let tokens = Tokenizer::AnyWord.tokens(text);
        let words: Vec<&str> = tokens.iter().map(String::as_str).collect();
        funnel.query(text, &mean(&words), tokens.clone()).unwrap()
    }

    #[test]
    fn stages_are_nested_and_sized() {
        let funnel = funnel();
        let query = ask(&funnel, "the sql api of a vector cache");
        for reranker in [Reranker::Keep, Reranker::MaxSim] {
            let run = funnel.run(&query, Recall::Hybrid, &reranker).unwrap();
            let sizes = run.stages.each_ref().map(Vec::len);
            assert!((80..=120).contains(&sizes[0]) && sizes[1..] == [40, 10, 5], "{sizes:?}");
            for pair in run.stages.windows(2) {
                assert!(pair[1].iter().all(|r| pair[0].iter().any(|b| b.document == r.document)));
            }
            let third: Vec<usize> = run.stages[2].iter().take(5).map(|r| r.document).collect();
            let plain = funnel.diversify(&run.stages[2], 1.0).unwrap();
            assert_eq!(plain.iter().map(|r| r.document).collect::<Vec<_>>(), third);
        }
    }

    #[test]
    fn short_terms_are_kept_and_stop_words_are_not() {
        let funnel = funnel();
        assert_eq!(ask(&funnel, "SQL API").terms().collect::<Vec<_>>(), ["api", "sql"]);
        assert_eq!(ask(&funnel, "what is the C API?").terms().collect::<Vec<_>>(), ["api", "c"]);
        let query = ask(&funnel, "sql?");
        let found = funnel.recall(&query, Recall::Lexical);
        assert!(!found.is_empty());
        assert!(found.iter().all(|r| funnel.coverage(&query, r.document) == 1.0));
    }

    #[test]
    fn an_empty_query_gives_the_lowest_ids() {
        let funnel = funnel();
        let query = ask(&funnel, "");
        let run = funnel.run(&query, Recall::Hybrid, &Reranker::MaxSim).unwrap();
        assert_eq!(run.stages[2].iter().map(|r| r.document).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
        assert!(funnel.recall(&query, Recall::Lexical).is_empty());
    }

    #[test]
    fn proximity_is_terms_over_window() {
        let max_sim = MaxSim::new([vec![], vec![], vec![]], vector).unwrap();
        let texts = ["sql x x api sql", "sql x", "api"];
        let config = FunnelConfig { k1: 3, k2: 3, k3: 3, k4: 3, ..FunnelConfig::default() };
        let funnel = Funnel::new(config, &texts, Matrix::zeros(3, 8), max_sim).unwrap();
        let query = ask(&funnel, "sql api");
        let proximity: Vec<f64> = funnel.features(&query, &[0, 1, 2]).unwrap().iter().map(|f| f.proximity).collect();
        assert_eq!(proximity, [1.0, 0.0, 0.0]);
    }

    #[test]
    fn improper_sizes_and_vectors_are_refused() {
        let build = |config, rows| {
            let max_sim = MaxSim::new([vec!["sql"], vec!["api"]], vector).unwrap();
            Funnel::new(config, &["sql", "api"], Matrix::zeros(rows, 8), max_sim)
        };
        let good = FunnelConfig::default();
        assert!(build(FunnelConfig { k4: 0, ..good }, 2).is_err());
        assert!(build(FunnelConfig { k3: 600, ..good }, 2).unwrap_err().to_string().contains("falling"));
        assert!(build(FunnelConfig { lambda: 1.5, ..good }, 2).is_err());
        assert!(build(good, 3).unwrap_err().to_string().contains("3 vectors for 2 documents"));
        let funnel = build(good, 2).unwrap();
        assert!(funnel.query("sql", &[0.0; 7], vec![]).is_err());
        assert!(funnel.query("sql", &[f32::NAN; 8], vec![]).is_err());
        let query = funnel.query("sql", &[0.0; 8], vec![]).unwrap();
        let stranger = [Ranked { document: 9, score: 1.0 }];
        assert!(funnel.rerank(&query, &stranger, &Reranker::MaxSim).is_err());
    }
}
