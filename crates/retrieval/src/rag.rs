//! Question to cited answer: retrieve, rerank, pack, generate, validate.
//!
//! [`RagPipeline`] is the whole chain over documents with metadata (chapter 13); [`RagAnswerer`] the smallest that deserves the name,
//! over plain passages (chapter 1). Retrieval-augmented generation is due to Lewis et al., NeurIPS 2020.

use crate::RetrievalError;
use crate::context::{ContextDocument, ContextPacker, Deduplicator, DuplicateMethod, Term};
use crate::fusion::{RRF_K, reciprocal_rank_fusion};
use crate::generator::{Answer, Citation, Context, Generator};
use crate::query::{Filters, Query, QueryProcessor, content_terms};
use eas_ann::{FlatIndex, Metric, VectorIndex};
use eas_eval::calibration::Logistic;
use eas_tensor::Matrix;
use eas_tensor::kernels::dot;
use eas_tensor::topk::top_k;
use eas_text::encoder::SentenceEncoder;
use eas_text::lexical::{Bm25, Tokenizer};
use eas_text::sentences::sentences;
use eas_text::values::{Date, find_values};
use std::collections::BTreeSet;
use std::ops::Range;
use std::time::{Duration, Instant};

/// A document; its id is its position in the collection.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Title; may be empty.
    pub title: String,
    /// Body.
    pub text: String,
    /// Author, if known.
    pub author: Option<String>,
    /// Date, if known.
    pub date: Option<Date>,
    /// How far its statements are believed, in `[0, 1]`.
    pub credibility: f64,
}

/// A document id with a score; scores of different stages are not comparable.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScoredDoc {
    /// The document's id.
    pub id: usize,
    /// Higher is better.
    pub score: f64,
}

/// Dense and lexical search over the same documents, fused by rank.
pub struct Retriever<'a> {
    documents: &'a [Document],
    encoder: &'a dyn SentenceEncoder,
    index: FlatIndex,
    bm25: Bm25,
    k: usize,
}

impl<'a> Retriever<'a> {
    /// Indexes title and text of each document; `k` hits are taken from each search.
    ///
    /// # Errors
    /// No document, `k = 0`, a credibility outside `[0, 1]`, or an encoder's or index's error.
    pub fn new(documents: &'a [Document], encoder: &'a dyn SentenceEncoder, k: usize) -> Result<Self, RetrievalError> {
        if documents.is_empty() {
            return Err(RetrievalError::argument("documents", &0, "at least one document"));
        }
        if k == 0 {
            return Err(RetrievalError::argument("k", &0, "at least 1"));
        }
        if let Some(d) = documents.iter().find(|d| !(0.0..=1.0).contains(&d.credibility)) {
            return Err(RetrievalError::argument("credibility", &d.credibility, "a number in [0, 1]"));
        }
        let texts: Vec<String> = documents.iter().map(|d| format!("{}. {}", d.title, d.text)).collect();
        let refs: Vec<&str> = texts.iter().map(String::as_str).collect();
        let mut index = FlatIndex::new(encoder.dim(), Metric::Dot)?;
        let ids: Vec<u64> = (0..documents.len() as u64).collect();
        index.add(&ids, &encoder.encode(&refs)?)?;
        Ok(Self { documents, encoder, index, bm25: Bm25::new(&texts, Tokenizer::Word), k })
    }

    fn admits(&self, filters: &Filters, id: usize) -> bool {
        let document = &self.documents[id];
        filters.admits(document.author.as_deref(), document.date.map(Date::year))
    }

    /// The ids nearest to each text among the documents that pass the filters, one ranking a text.
    pub fn dense(&self, texts: &[&str], filters: &Filters) -> Result<Vec<Vec<usize>>, RetrievalError> {
        let queries = self.encoder.encode(texts)?;
        let keep = |id: u64| self.admits(filters, id as usize);
        (0..queries.rows())
            .map(|row| {
                let hits = self.index.search_where(queries.row(row), self.k, &keep)?;
                Ok(hits.into_iter().map(|hit| hit.id as usize).collect())
            })
            .collect()
    }

    /// The ids that BM25 ranks best for `text` among the documents that pass the filters.
    pub fn lexical(&self, text: &str, filters: &Filters) -> Vec<usize> {
        let hits = self.bm25.search_where(text, self.k, |id| self.admits(filters, id));
        hits.into_iter().map(|hit| hit.id).collect()
    }

    /// One dense and one lexical ranking for the question and each of its expansions, fused by reciprocal rank. The filters hold in
    /// every search.
    pub fn retrieve(&self, query: &Query) -> Result<Vec<ScoredDoc>, RetrievalError> {
        let mut texts = vec![query.text.as_str()];
        texts.extend(query.expansions.iter().map(String::as_str));
        let mut lists = self.dense(&texts, &query.filters)?;
        lists.extend(texts.iter().map(|text| self.lexical(text, &query.filters)));
        let fused = reciprocal_rank_fusion(&lists, RRF_K);
        Ok(fused.into_iter().take(self.k).map(|(id, score)| ScoredDoc { id, score }).collect())
    }
}

/// Sizes of the stages.
#[derive(Debug, Clone, PartialEq)]
pub struct RagConfig {
    /// Candidates of each search.
    pub candidates: usize,
    /// Documents that pass the reranker.
    pub rerank: usize,
    /// How the context is filled.
    pub packer: ContextPacker,
    /// An answer with less confidence than this is withheld, once confidence has been fitted.
    pub min_confidence: f64,
}

impl Default for RagConfig {
    /// 100 candidates, 10 documents, 4096 tokens of which a quarter is reserved, 500 a document. Only literal repetitions are passed
    /// over: the sentences about two products may differ in a single word.
    fn default() -> Self {
        let deduplicator = Deduplicator { threshold: 1.0, method: DuplicateMethod::MinHash };
        let packer = ContextPacker { deduplicator: Some(deduplicator), ..ContextPacker::default() };
        Self { candidates: 100, rerank: 10, packer, min_confidence: 0.5 }
    }
}

/// Why a citation or a text doesn't hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// An answer without any citation.
    NoCitation,
    /// The cited sentence is not among the contexts.
    UnknownSentence(Citation),
    /// The answer doesn't contain the cited sentence word for word.
    NotVerbatim(Citation),
    /// A number or date of the answer occurs in no cited sentence.
    Unsourced(String),
}

/// What is wrong with `answer`, given what it was made from; empty for a sound answer and for an abstention.
pub fn validate(answer: &Answer, contexts: &[Context]) -> Vec<Problem> {
    if answer.abstained {
        return Vec::new();
    }
    let mut problems = Vec::new();
    if answer.citations.is_empty() {
        problems.push(Problem::NoCitation);
    }
    let mut sourced = BTreeSet::new();
    for &citation in &answer.citations {
        let cited = contexts
            .iter()
            .filter(|c| c.document == citation.document)
            .flat_map(|c| &c.sentences)
            .find(|(n, _)| *n == citation.sentence);
        match cited {
            None => problems.push(Problem::UnknownSentence(citation)),
            Some((_, text)) => {
                if !answer.text.contains(text.as_str()) {
                    problems.push(Problem::NotVerbatim(citation));
                }
                sourced.extend(find_values(text).into_iter().map(|found| found.value));
            }
        }
    }
    for found in find_values(&without_marks(&answer.text)) {
        if !sourced.contains(&found.value) {
            problems.push(Problem::Unsourced(found.value.to_string()));
        }
    }
    problems
}

/// The text without `[...]` marks, whose numbers are ids.
fn without_marks(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('[') {
        let Some(close) = rest[open..].find(']') else { break };
        out.push_str(&rest[..open]);
        rest = &rest[open + close + 1..];
    }
    out + rest
}

/// Everything that a question went through.
#[derive(Debug, Clone)]
pub struct RagResponse {
    /// The question, understood.
    pub query: Query,
    /// After fusion, best first.
    pub retrieved: Vec<ScoredDoc>,
    /// After reranking, best first.
    pub reranked: Vec<ScoredDoc>,
    /// What the generator was given.
    pub contexts: Vec<Context>,
    /// Tokens of the contexts, titles included.
    pub context_tokens: usize,
    /// The answer; an abstention when nothing was found or confidence is too low.
    pub answer: Answer,
    /// What validation found; empty is good.
    pub problems: Vec<Problem>,
    /// The fitted probability that a correct answer was found; `None` before [`RagPipeline::fit_confidence`].
    pub confidence: Option<f64>,
    /// Wall-clock time of each stage, in order.
    pub timings: Vec<(&'static str, Duration)>,
}

/// The chain from question to validated answer.
pub struct RagPipeline<'a> {
    processor: QueryProcessor<'a>,
    retriever: Retriever<'a>,
    generator: &'a dyn Generator,
    config: RagConfig,
    /// The documents, cut into sentences.
    cut: Vec<ContextDocument>,
    /// Content words and vector of each sentence, documents one after the other.
    words: Vec<BTreeSet<String>>,
    vectors: Matrix,
    /// The rows of each document in `words` and `vectors`.
    rows: Vec<Range<usize>>,
    confidence: Option<Logistic>,
}

impl<'a> RagPipeline<'a> {
    /// Indexes `documents` as wholes and sentence by sentence.
    ///
    /// # Errors
    /// Those of [`Retriever::new`], or `rerank = 0`.
    pub fn new(
        documents: &'a [Document],
        processor: QueryProcessor<'a>,
        encoder: &'a dyn SentenceEncoder,
        generator: &'a dyn Generator,
        config: RagConfig,
    ) -> Result<Self, RetrievalError> {
        if config.rerank == 0 {
            return Err(RetrievalError::argument("rerank", &0, "at least 1"));
        }
        let retriever = Retriever::new(documents, encoder, config.candidates)?;
        let cut: Vec<ContextDocument> = documents
            .iter()
            .enumerate()
            .map(|(id, d)| ContextDocument::new(id, d.title.as_str(), d.text.as_str()))
            .collect();
        let mut rows = Vec::with_capacity(cut.len());
        for document in &cut {
            let from = rows.last().map_or(0, |r: &Range<usize>| r.end);
            rows.push(from..from + document.len());
        }
        let texts: Vec<&str> = cut.iter().flat_map(ContextDocument::sentences).collect();
        let words = texts.iter().map(|t| content_terms(t).into_iter().collect()).collect();
        let vectors = encoder.encode(&texts)?;
        Ok(Self { processor, retriever, generator, config, cut, words, vectors, rows, confidence: None })
    }

    /// The retrieval stage on its own.
    pub fn retriever(&self) -> &Retriever<'a> {
        &self.retriever
    }

    /// The query stage on its own.
    pub fn processor(&self) -> &QueryProcessor<'a> {
        &self.processor
    }

    /// Fits the confidence of later answers on past ones: for each, its evidence and whether it gave the correct answer (an
    /// abstention didn't).
    ///
    /// # Errors
    /// No examples, or only correct or only wrong ones.
    pub fn fit_confidence(&mut self, past: &[(crate::generator::Evidence, bool)]) -> Result<&Logistic, RetrievalError> {
        let features: Vec<Vec<f64>> = past.iter().map(|(e, _)| vec![e.top_score, e.margin, e.support]).collect();
        let labels: Vec<bool> = past.iter().map(|(_, correct)| *correct).collect();
        Ok(self.confidence.insert(Logistic::fit(&features, &labels, 0.01)?))
    }

    /// Answers one question.
    ///
    /// # Errors
    /// Those of the encoder, the index and the generator.
    pub fn answer(&self, question: &str) -> Result<RagResponse, RetrievalError> {
        let mut timings = Vec::with_capacity(5);
        let mut lap = Instant::now();
        let mut stage = |name| {
            timings.push((name, lap.elapsed()));
            lap = Instant::now();
        };
        let query = self.processor.process(question);
        stage("query");
        let retrieved = self.retriever.retrieve(&query)?;
        stage("retrieve");
        let terms: Vec<Term> = query.content_terms.iter().map(|t| Term::new(t, self.retriever.bm25.idf(t))).collect();
        let reranked = self.rerank(&query, &terms, &retrieved)?;
        stage("rerank");
        let (contexts, context_tokens) = self.pack(&reranked, &terms)?;
        stage("pack");
        let mut answer = self.generator.generate(&query, &contexts)?;
        stage("generate");
        let evidence = answer.evidence;
        let confidence = match &self.confidence {
            Some(model) => Some(model.predict(&[evidence.top_score, evidence.margin, evidence.support])?),
            None => None,
        };
        if confidence.is_some_and(|c| c < self.config.min_confidence) && !answer.abstained {
            answer = Answer { evidence, ..Answer::abstain() };
        }
        let problems = validate(&answer, &contexts);
        stage("validate");
        Ok(RagResponse { query, retrieved, reranked, contexts, context_tokens, answer, problems, confidence, timings })
    }

    /// Fuses two orders of the candidates: the one they came in, and that by their best sentence (half the idf-weighted share of the
    /// question's terms that it has, half its cosine with the question). The best sentence alone would fill all places with one
    /// thing when a question is about two.
    fn rerank(&self, query: &Query, terms: &[Term], retrieved: &[ScoredDoc]) -> Result<Vec<ScoredDoc>, RetrievalError> {
        let question = self.retriever.encoder.encode(&[&query.text])?;
        let total: f64 = terms.iter().map(|t| t.weight).sum();
        let score = |row: usize| {
            let covered: f64 = terms.iter().filter(|t| self.words[row].contains(&t.text)).map(|t| t.weight).sum();
            let coverage = if total > 0.0 { covered / total } else { 0.0 };
            0.5 * coverage + 0.5 * f64::from(dot(question.row(0), self.vectors.row(row)))
        };
        let best = |id: usize| self.rows[id].clone().map(score).fold(f64::NEG_INFINITY, f64::max);
        let mut by_sentence: Vec<(f64, usize)> = retrieved.iter().map(|d| (best(d.id), d.id)).collect();
        by_sentence.sort_by(|a, b| b.0.total_cmp(&a.0));
        let lists = [retrieved.iter().map(|d| d.id).collect(), by_sentence.into_iter().map(|d| d.1).collect()];
        let fused = reciprocal_rank_fusion::<usize>(&lists, RRF_K).into_iter();
        let reranked = fused.take(self.config.rerank).map(|(id, score)| ScoredDoc { id, score }).collect();
        Ok(reranked)
    }

    /// The sentences that cover the question's terms best within the budget, by document; and how many tokens they take.
    fn pack(&self, reranked: &[ScoredDoc], terms: &[Term]) -> Result<(Vec<Context>, usize), RetrievalError> {
        let documents: Vec<ContextDocument> = reranked.iter().map(|d| self.cut[d.id].clone()).collect();
        let packed = self.config.packer.pack(&documents, terms, None, None)?;
        let mut contexts: Vec<Context> = Vec::new();
        for piece in packed.pieces {
            let text = self.cut[piece.document].text[piece.span].to_owned();
            let sentence = (piece.sentence, text);
            if let Some(context) = contexts.last_mut().filter(|c| c.document == piece.document) {
                context.sentences.push(sentence);
                continue;
            }
            let source = &self.retriever.documents[piece.document];
            contexts.push(Context {
                document: piece.document,
                title: source.title.clone(),
                date: source.date,
                credibility: source.credibility,
                sentences: vec![sentence],
            });
        }
        Ok((contexts, packed.tokens))
    }
}

/// The smallest retrieval-augmented system: passages, their vectors, and a generator.
pub struct RagAnswerer<'a> {
    encoder: &'a dyn SentenceEncoder,
    generator: &'a dyn Generator,
    passages: &'a [&'a str],
    vectors: Matrix,
    k: usize,
    min_similarity: f64,
}

/// An answer from passages.
#[derive(Debug, Clone, PartialEq)]
pub struct PassageAnswer {
    /// The text with `[passage:sentence]` citations, or the refusal.
    pub text: String,
    /// Cited passages, each once.
    pub citations: Vec<usize>,
    /// The retrieved passages with their similarity to the question, best first.
    pub contexts: Vec<(usize, f32)>,
    /// True when the best passage is less similar than demanded, or the generator found no answer in them.
    pub abstained: bool,
}

impl<'a> RagAnswerer<'a> {
    /// Encodes `passages`. The `k` nearest are shown to the generator (all, when there are fewer), and nothing is answered when the
    /// best of them is less similar to the question than `min_similarity`.
    ///
    /// # Errors
    /// No passage, `k = 0`, a `min_similarity` that isn't a number, or an encoder's error.
    pub fn new(
        encoder: &'a dyn SentenceEncoder,
        generator: &'a dyn Generator,
        passages: &'a [&'a str],
        k: usize,
        min_similarity: f64,
    ) -> Result<Self, RetrievalError> {
        if passages.is_empty() {
            return Err(RetrievalError::argument("passages", &0, "at least one passage"));
        }
        if k == 0 {
            return Err(RetrievalError::argument("k", &0, "at least 1"));
        }
        if min_similarity.is_nan() {
            return Err(RetrievalError::argument("min_similarity", &min_similarity, "a number"));
        }
        Ok(Self { encoder, generator, passages, vectors: encoder.encode(passages)?, k, min_similarity })
    }

    /// The `k` passages nearest to `question`, best first.
    pub fn retrieve(&self, question: &str) -> Result<Vec<(usize, f32)>, RetrievalError> {
        let query = self.encoder.encode(&[question])?;
        let scores: Vec<f32> = self.vectors.iter_rows().map(|row| dot(query.row(0), row)).collect();
        Ok(top_k(&scores, self.k).into_iter().map(|s| (s.id, s.score)).collect())
    }

    /// Answers `question` from its nearest passages, or declines.
    pub fn answer(&self, question: &str) -> Result<PassageAnswer, RetrievalError> {
        let found = self.retrieve(question)?;
        let best = found.first().map_or(f64::NEG_INFINITY, |f| f64::from(f.1));
        let answer = if best < self.min_similarity {
            Answer::abstain()
        } else {
            let contexts: Vec<Context> = found
                .iter()
                .map(|&(id, _)| Context {
                    document: id,
                    title: String::new(),
                    date: None,
                    credibility: 1.0,
                    sentences: sentences(self.passages[id]).iter().map(|s| s.text.to_owned()).enumerate().collect(),
                })
                .collect();
            self.generator.generate(&Query::plain(question), &contexts)?
        };
        let mut citations: Vec<usize> = Vec::new();
        for citation in &answer.citations {
            if !citations.contains(&citation.document) {
                citations.push(citation.document);
            }
        }
        Ok(PassageAnswer { text: answer.text, citations, contexts: found, abstained: answer.abstained })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extractive::ExtractiveGenerator;
    use crate::generator::GenerateError;
    use crate::testing::Words;

    /// A generator that can't answer.
    struct Broken;

    impl Generator for Broken {
        fn generate(&self, _: &Query, _: &[Context]) -> Result<Answer, GenerateError> {
            Err(GenerateError::Evidence("broken".into()))
        }
    }

    fn document(title: &str, text: &str, author: &str, year: i32) -> Document {
        Document {
            title: title.into(),
            text: text.into(),
            author: Some(author.into()),
            date: Date::new(year, 1, 1),
            credibility: 0.9,
        }
    }

    fn documents() -> Vec<Document> {
        vec![
            document("Pump manual", "The pump moves water. The pump draws 40 watts. Keep it dry.", "Ada Brook", 2021),
            document("Pump bulletin", "The pump draws 45 watts. A clogged filter stops it.", "Ben Castle", 2023),
            document("Lamp manual", "The lamp draws 9 watts. It is grey.", "Ada Brook", 2023),
        ]
    }

    fn answer(question: &str) -> RagResponse {
        let documents = documents();
        let generator = ExtractiveGenerator::new(&Words, 0.3, 1).expect("valid");
        let processor = QueryProcessor::new(["Pump", "Lamp"], None);
        let pipeline =
            RagPipeline::new(&documents, processor, &Words, &generator, RagConfig::default()).expect("valid");
        pipeline.answer(question).expect("an answer")
    }

    #[test]
    fn a_question_passes_all_stages() {
        let response = answer("How many watts does the lamp draw?");
        assert_eq!(response.reranked[0].id, 2);
        assert_eq!(response.answer.text, "The lamp draws 9 watts. [2:0]");
        assert_eq!(response.problems, []);
        let stages: Vec<&str> = response.timings.iter().map(|t| t.0).collect();
        assert_eq!(stages, ["query", "retrieve", "rerank", "pack", "generate", "validate"]);
        assert!(response.context_tokens > 0);
        assert!(response.confidence.is_none());
    }

    #[test]
    fn filters_hold_in_every_search_and_nothing_found_is_an_abstention() {
        let response = answer("watts of the pump by Ada Brook");
        assert_eq!(response.retrieved.iter().map(|d| d.id).collect::<BTreeSet<_>>(), [0, 2].into());
        let response = answer("watts of the pump by Ada Brook from 2023");
        assert_eq!(response.retrieved.iter().map(|d| d.id).collect::<Vec<_>>(), [2]);
        let response = answer("watts of the pump from 1999");
        assert!(response.retrieved.is_empty() && response.contexts.is_empty() && response.answer.abstained);
        assert!(answer("").answer.abstained);
        assert!(answer("quantum chromodynamics").answer.abstained);
    }

    #[test]
    fn validation_finds_each_fault() {
        let response = answer("How many watts does the lamp draw?");
        let check = |change: &dyn Fn(&mut Answer)| {
            let mut answer = response.answer.clone();
            change(&mut answer);
            validate(&answer, &response.contexts)
        };
        assert_eq!(check(&|_| ()), []);
        assert_eq!(check(&|a| a.citations.clear())[0], Problem::NoCitation);
        let unknown = Citation { document: 2, sentence: 9 };
        assert_eq!(check(&|a| a.citations.push(unknown)), [Problem::UnknownSentence(unknown)]);
        let cited = response.answer.citations[0];
        assert_eq!(
            check(&|a| a.text = a.text.replace('9', "8")),
            [Problem::NotVerbatim(cited), Problem::Unsourced("8".into())]
        );
        assert_eq!(check(&|a| a.text = "It draws 9.".into()), [Problem::NotVerbatim(cited)]);
    }

    #[test]
    fn confidence_is_fitted_and_withholds() {
        let documents = documents();
        let generator = ExtractiveGenerator::new(&Words, 0.0, 1).expect("valid");
        let mut pipeline =
            RagPipeline::new(&documents, QueryProcessor::new(["Pump"], None), &Words, &generator, RagConfig::default())
                .expect("valid");
        assert!(pipeline.fit_confidence(&[]).is_err());
        let past: Vec<_> = (0..20)
            .map(|i| {
                let top_score = f64::from(i) / 20.0;
                (crate::generator::Evidence { top_score, margin: 0.0, support: 1.0 }, i >= 10)
            })
            .collect();
        pipeline.fit_confidence(&past).expect("two classes");
        let good = pipeline.answer("the lamp draws 9 watts").expect("an answer");
        assert!(good.confidence > Some(0.9) && !good.answer.abstained, "{good:?}");
        let poor =
            pipeline.answer("colour of grey whales, their songs, their young and their enemies").expect("an answer");
        assert!(poor.confidence < Some(0.5) && poor.answer.abstained, "{poor:?}");
    }

    #[test]
    fn improper_input_is_refused() {
        let documents = documents();
        let generator = ExtractiveGenerator::new(&Words, 0.0, 1).expect("valid");
        let of = |documents: &[Document], config: RagConfig| {
            let processor = QueryProcessor::new(["Pump"], None);
            RagPipeline::new(documents, processor, &Words, &generator, config)
                .err()
                .map(|e| e.to_string())
                .unwrap_or_default()
        };
        assert!(of(&[], RagConfig::default()).contains("at least one document"));
        assert!(of(&documents, RagConfig { rerank: 0, ..RagConfig::default() }).contains("rerank is 0"));
        assert!(of(&documents, RagConfig { candidates: 0, ..RagConfig::default() }).contains("k is 0"));
        let mut unbelievable = documents.clone();
        unbelievable[1].credibility = f64::NAN;
        assert!(of(&unbelievable, RagConfig::default()).contains("NaN"));
        assert!(ExtractiveGenerator::new(&Words, f64::NAN, 1).is_err());
        assert!(ExtractiveGenerator::new(&Words, 0.0, 0).is_err());
        let pipeline =
            RagPipeline::new(&documents, QueryProcessor::new(["Pump"], None), &Words, &Broken, RagConfig::default());
        let error = pipeline.expect("valid").answer("pump").expect_err("the generator is broken");
        assert!(error.to_string().contains("broken"));
    }

    #[test]
    fn passages_are_answered_or_declined() {
        let passages = ["The tank holds water.", "Descale every 90 days.", "The pump is loud."];
        let generator = ExtractiveGenerator::new(&Words, 0.0, 1).expect("valid");
        let answerer = RagAnswerer::new(&Words, &generator, &passages, 100, 0.2).expect("valid");
        let good = answerer.answer("When to descale?").expect("an answer");
        assert_eq!(
            (good.text.as_str(), good.citations, good.contexts.len()),
            ("Descale every 90 days. [1:0]", vec![1], 3)
        );
        assert!(answerer.answer("Who won?").expect("an answer").abstained);
        assert!(RagAnswerer::new(&Words, &generator, &[], 5, 0.2).is_err());
        assert!(RagAnswerer::new(&Words, &generator, &passages, 0, 0.2).is_err());
        assert!(RagAnswerer::new(&Words, &generator, &passages, 5, f64::NAN).is_err());
        let broken = RagAnswerer::new(&Words, &Broken, &passages, 2, 0.0).expect("valid");
        assert!(broken.answer("tank").is_err());
    }
}
