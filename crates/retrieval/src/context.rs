//! Filling a token budget with the right sentences.
//!
//! Sentences are chosen whole, never cut, to cover the query's terms: a term is worth its weight the first time, half of it the second
//! time, a third the third time. This value is monotone and submodular, so choosing greedily by value per token, and comparing with the best
//! single sentence, reaches at least (1 - 1/e)/2 of the optimum (Lin and Bilmes, "Multi-document Summarization via Budgeted
//! Maximization of Submodular Functions", NAACL 2010; the guarantee is that of Khuller, Moss and Naor, 1999).

use crate::RetrievalError;
use eas_tensor::{Matrix, kernels};
use eas_text::lexical::Tokenizer;
use eas_text::minhash::{LshIndex, MinHash, Shingles};
use eas_text::sentences::sentences;
use eas_text::tokens::TokenCounter;
use std::collections::BTreeSet;
use std::ops::Range;

/// A retrieved document, cut into sentences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextDocument {
    /// The caller's id.
    pub id: usize,
    /// Title, shown in the header.
    pub title: String,
    /// The whole text.
    pub text: String,
    spans: Vec<Range<usize>>,
}

impl ContextDocument {
    /// Splits `text` into sentences.
    pub fn new(id: usize, title: impl Into<String>, text: impl Into<String>) -> Self {
        let text = text.into();
        let spans = sentences(&text).into_iter().map(|sentence| sentence.span).collect();
        Self { id, title: title.into(), text, spans }
    }

    /// Number of sentences.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// True when the text has no sentence.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The byte range of sentence `i` in the text.
    pub fn span(&self, i: usize) -> Option<Range<usize>> {
        self.spans.get(i).cloned()
    }

    /// The sentences in order.
    pub fn sentences(&self) -> impl ExactSizeIterator<Item = &str> + '_ {
        self.spans.iter().map(|span| &self.text[span.clone()])
    }
}

/// A term of the query with its weight, usually its idf; lower case.
#[derive(Debug, Clone, PartialEq)]
pub struct Term {
    /// The term as [`Tokenizer::AnyWord`] makes it.
    pub text: String,
    /// Its weight, at least 0.
    pub weight: f64,
}

impl Term {
    /// A term with its weight.
    pub fn new(text: &str, weight: f64) -> Self {
        Self { text: text.to_lowercase(), weight }
    }
}

/// Chooses the best sentences of one document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassageExtractor {
    /// How many sentences are chosen by score.
    pub max_sentences: usize,
    /// How many neighbours on each side come along.
    pub window: usize,
}

impl Default for PassageExtractor {
    /// Five sentences without neighbours.
    fn default() -> Self {
        Self { max_sentences: 5, window: 0 }
    }
}

impl PassageExtractor {
    /// Half the share of the terms' weight that a sentence covers, plus half its similarity to the query (`similarities[i]`, a cosine;
    /// negative counts as 0).
    ///
    /// # Errors
    /// Not one similarity a sentence, or an improper weight.
    pub fn scores(
        &self,
        document: &ContextDocument,
        terms: &[Term],
        similarities: &[f32],
    ) -> Result<Vec<f64>, RetrievalError> {
        check_terms(terms)?;
        if similarities.len() != document.len() {
            return Err(RetrievalError::Length {
                what: "similarities",
                given: similarities.len(),
                of: "sentences",
                expected: document.len(),
            });
        }
        let total: f64 = terms.iter().map(|term| term.weight).sum();
        let score = |(sentence, similarity): (&str, &f32)| {
            let covered: f64 = terms_in(sentence, terms).into_iter().map(|t| terms[t].weight).sum();
            let coverage = if total > 0.0 { covered / total } else { 0.0 };
            0.5 * coverage + 0.5 * f64::from(similarity.max(0.0))
        };
        Ok(document.sentences().zip(similarities).map(score).collect())
    }

    /// The indices of the best sentences with a positive score and their neighbours, in the order of the text. Ties go to the earlier
    /// sentence.
    ///
    /// # Errors
    /// As [`PassageExtractor::scores`].
    pub fn extract(
        &self,
        document: &ContextDocument,
        terms: &[Term],
        similarities: &[f32],
    ) -> Result<Vec<usize>, RetrievalError> {
        let scores = self.scores(document, terms, similarities)?;
        let mut order: Vec<usize> = (0..scores.len()).filter(|&i| scores[i] > 0.0).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
        let mut chosen = BTreeSet::new();
        for i in order.into_iter().take(self.max_sentences) {
            chosen.extend(i.saturating_sub(self.window)..(i + self.window + 1).min(scores.len()));
        }
        Ok(chosen.into_iter().collect())
    }
}

/// How the likeness of two sentences is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DuplicateMethod {
    /// Cosine of the sentence vectors. Beware: two sentences that differ in a number only are close to parallel.
    Cosine,
    /// Jaccard similarity of the word sets; candidates by MinHash bands, then measured exactly.
    MinHash,
}

/// Finds sentences that say again what an earlier one said.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Deduplicator {
    /// Likeness from which a sentence is a duplicate.
    pub threshold: f64,
    /// The measure.
    pub method: DuplicateMethod,
}

impl Default for Deduplicator {
    /// Jaccard similarity of at least 0.85.
    fn default() -> Self {
        Self { threshold: 0.85, method: DuplicateMethod::MinHash }
    }
}

impl Deduplicator {
    /// For each sentence, true if it is kept: no earlier kept sentence is like it. [`DuplicateMethod::Cosine`] needs the sentences'
    /// vectors, one row each.
    ///
    /// # Errors
    /// Cosine without a row for each sentence.
    pub fn keep(&self, sentences: &[&str], vectors: Option<&Matrix>) -> Result<Vec<bool>, RetrievalError> {
        let mut kept = vec![false; sentences.len()];
        match self.method {
            DuplicateMethod::Cosine => {
                let rows = vectors.map_or(0, Matrix::rows);
                let Some(vectors) = vectors.filter(|v| v.rows() == sentences.len()) else {
                    return Err(RetrievalError::Length {
                        what: "vectors",
                        given: rows,
                        of: "sentences",
                        expected: sentences.len(),
                    });
                };
                for i in 0..sentences.len() {
                    let like = |j: usize| f64::from(kernels::cosine(vectors.row(i), vectors.row(j))) >= self.threshold;
                    kept[i] = !(0..i).any(|j| kept[j] && like(j));
                }
            }
            DuplicateMethod::MinHash => {
                // 64 bands of 2: a pair of similarity 0.5 is missed with probability 0.75^64 = 1e-8.
                let hasher = MinHash::new(128, 0);
                let mut index = LshIndex::new(64, 2);
                let shingles: Vec<Shingles> =
                    sentences.iter().map(|s| Shingles::of(s, Tokenizer::AnyWord, 1)).collect();
                for (i, set) in shingles.iter().enumerate() {
                    let signature = hasher.signature(set);
                    let like = |j: usize| set.jaccard(&shingles[j]) >= self.threshold;
                    kept[i] = !index.candidates(&signature).into_iter().any(like);
                    if kept[i] {
                        index.insert(i, &signature);
                    }
                }
            }
        }
        Ok(kept)
    }
}

/// In which order the documents of a context stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// As retrieved.
    #[default]
    Rank,
    /// The best at both ends, the worst in the middle, where language models look least (Liu et al., "Lost in the Middle", 2023).
    EdgesFirst,
}

/// Chooses sentences under a token budget.
#[derive(Debug, Clone, PartialEq)]
pub struct ContextPacker {
    /// Tokens that the model takes in all.
    pub max_tokens: usize,
    /// The share of them kept for instructions, query and answer, in `[0, 1)`.
    pub reserve: f64,
    /// Most tokens of one document, its header included.
    pub per_document: usize,
    /// How many neighbours on each side of a chosen sentence are added while the budget lasts.
    pub window: usize,
    /// Order of the documents.
    pub order: Order,
    /// How tokens are counted.
    pub counter: TokenCounter,
    /// Whether sentences that repeat an earlier one are passed over.
    pub deduplicator: Option<Deduplicator>,
}

impl Default for ContextPacker {
    /// 4096 tokens less a quarter, at most 500 a document, no neighbours, by rank, counted in words, duplicates at 0.85 passed over.
    fn default() -> Self {
        Self {
            max_tokens: 4096,
            reserve: 0.25,
            per_document: 500,
            window: 0,
            order: Order::Rank,
            counter: TokenCounter::Words,
            deduplicator: Some(Deduplicator::default()),
        }
    }
}

/// One sentence of a context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The document's id.
    pub document: usize,
    /// The sentence's position in the document, from 0.
    pub sentence: usize,
    /// Its byte range in the document's text.
    pub span: Range<usize>,
}

/// A context within its budget.
#[derive(Debug, Clone, PartialEq)]
pub struct PackedContext {
    /// For each document a header line `[rank] title` and its chosen sentences; documents are separated by a blank line.
    pub text: String,
    /// The sentences, in the order of the text.
    pub pieces: Vec<Piece>,
    /// Tokens of `text`, headers included.
    pub tokens: usize,
    /// The value of the chosen sentences: the sum over terms of weight times the harmonic number of its count.
    pub value: f64,
}

/// A sentence that may be chosen.
struct Candidate {
    document: usize,
    sentence: usize,
    tokens: usize,
    terms: Vec<usize>,
}

impl ContextPacker {
    /// The tokens that a context may have: `max_tokens` less the reserve.
    pub fn budget(&self) -> usize {
        (self.max_tokens as f64 * (1.0 - self.reserve)) as usize
    }

    /// Packs sentences of `documents`, best document first. `vectors` holds one row a sentence, in order of document and sentence,
    /// and is only needed for [`DuplicateMethod::Cosine`]. `among`, if given, lists for each document the sentences that may be chosen
    /// by value ([`PassageExtractor::extract`]); neighbours may be others.
    ///
    /// # Errors
    /// No token budget, a reserve outside `[0, 1)`, an improper weight, or `among` not matching the documents.
    pub fn pack(
        &self,
        documents: &[ContextDocument],
        terms: &[Term],
        among: Option<&[Vec<usize>]>,
        vectors: Option<&Matrix>,
    ) -> Result<PackedContext, RetrievalError> {
        if !(0.0..1.0).contains(&self.reserve) {
            return Err(RetrievalError::argument("reserve", &self.reserve, "a share in [0, 1)"));
        }
        if self.max_tokens == 0 {
            return Err(RetrievalError::argument("max_tokens", &0, "at least 1"));
        }
        check_terms(terms)?;
        if let Some(among) = among.filter(|among| among.len() != documents.len()) {
            return Err(RetrievalError::Length {
                what: "lists of sentences",
                given: among.len(),
                of: "documents",
                expected: documents.len(),
            });
        }
        let all: Vec<&str> = documents.iter().flat_map(ContextDocument::sentences).collect();
        let kept = match &self.deduplicator {
            Some(deduplicator) => deduplicator.keep(&all, vectors)?,
            None => vec![true; all.len()],
        };
        let mut candidates = Vec::new();
        let places = documents.iter().enumerate().flat_map(|(d, document)| (0..document.len()).map(move |s| (d, s)));
        for (((document, sentence), text), kept) in places.zip(&all).zip(kept) {
            if kept {
                candidates.push(Candidate {
                    document,
                    sentence,
                    tokens: self.counter.count(text),
                    terms: terms_in(text, terms),
                });
            }
        }
        let allowed = |c: &Candidate| among.is_none_or(|lists| lists[c.document].contains(&c.sentence));
        let headers: Vec<String> = (documents.iter().enumerate()).map(|(rank, d)| header(rank, &d.title)).collect();
        let sizes: Vec<usize> = headers.iter().map(|h| self.counter.count(h)).collect();
        let mut packing = Packing::new(self, &candidates, terms, &sizes);
        packing.fill(|c| allowed(c));
        if let Some(single) = packing.best_single(|c| allowed(c)).filter(|&s| packing.worth(&[s]) > packing.value()) {
            packing = Packing::new(self, &candidates, terms, &sizes);
            packing.add(single);
        }
        packing.add_neighbours(self.window);
        // A counter whose parts do not sum to the whole could overshoot: give up the sentences chosen last.
        loop {
            let (text, pieces) = self.render(documents, &headers, &packing);
            let tokens = self.counter.count(&text);
            if tokens <= self.budget() || packing.chosen.is_empty() {
                let value = packing.value();
                return Ok(PackedContext { text, pieces, tokens, value });
            }
            packing.remove_last();
        }
    }

    fn render(&self, documents: &[ContextDocument], headers: &[String], packing: &Packing<'_>) -> (String, Vec<Piece>) {
        let mut chosen: Vec<(usize, usize)> =
            packing.chosen.iter().map(|&c| (packing.candidates[c].document, packing.candidates[c].sentence)).collect();
        chosen.sort_unstable();
        let mut ranks: Vec<usize> = chosen.iter().map(|&(document, _)| document).collect();
        ranks.dedup();
        if self.order == Order::EdgesFirst {
            let back: Vec<usize> = ranks.iter().copied().skip(1).step_by(2).collect();
            ranks = ranks.into_iter().step_by(2).chain(back.into_iter().rev()).collect();
        }
        let mut blocks = Vec::new();
        let mut pieces = Vec::new();
        for rank in ranks {
            let document = &documents[rank];
            let mut texts = Vec::new();
            for &(_, sentence) in chosen.iter().filter(|(d, _)| *d == rank) {
                let span = document.spans[sentence].clone();
                texts.push(&document.text[span.clone()]);
                pieces.push(Piece { document: document.id, sentence, span });
            }
            blocks.push(format!("{}\n{}", headers[rank], texts.join(" ")));
        }
        (blocks.join("\n\n"), pieces)
    }
}

/// The state of the greedy choice.
struct Packing<'a> {
    candidates: &'a [Candidate],
    terms: &'a [Term],
    headers: &'a [usize],
    budget: usize,
    per_document: usize,
    /// Indices into `candidates`, in the order of choice.
    chosen: Vec<usize>,
    spent: usize,
    spent_in: Vec<usize>,
    counts: Vec<usize>,
}

impl<'a> Packing<'a> {
    fn new(packer: &ContextPacker, candidates: &'a [Candidate], terms: &'a [Term], headers: &'a [usize]) -> Self {
        Self {
            candidates,
            terms,
            headers,
            budget: packer.budget(),
            per_document: packer.per_document,
            chosen: Vec::new(),
            spent: 0,
            spent_in: vec![0; headers.len()],
            counts: vec![0; terms.len()],
        }
    }

    /// Tokens that choosing `c` takes: the sentence, and its document's header the first time.
    fn cost(&self, c: usize) -> usize {
        let candidate = &self.candidates[c];
        let first = self.spent_in[candidate.document] == 0;
        candidate.tokens + if first { self.headers[candidate.document] } else { 0 }
    }

    fn fits(&self, c: usize) -> bool {
        let cost = self.cost(c);
        self.spent + cost <= self.budget && self.spent_in[self.candidates[c].document] + cost <= self.per_document
    }

    /// What choosing `c` adds to the value: for each of its terms the next step of the harmonic sum.
    fn gain(&self, c: usize) -> f64 {
        self.candidates[c].terms.iter().map(|&t| self.terms[t].weight / (self.counts[t] + 1) as f64).sum()
    }

    fn add(&mut self, c: usize) {
        let cost = self.cost(c);
        self.spent += cost;
        self.spent_in[self.candidates[c].document] += cost;
        for &t in &self.candidates[c].terms {
            self.counts[t] += 1;
        }
        self.chosen.push(c);
    }

    fn remove_last(&mut self) {
        if let Some(c) = self.chosen.pop() {
            for &t in &self.candidates[c].terms {
                self.counts[t] -= 1;
            }
        }
    }

    /// Adds the candidate of greatest gain per token that fits, until none adds anything. Candidates are in order of document and
    /// sentence, so a tie goes to the lower.
    fn fill(&mut self, allowed: impl Fn(&Candidate) -> bool) {
        let mut left: Vec<usize> = (0..self.candidates.len()).filter(|&c| allowed(&self.candidates[c])).collect();
        loop {
            let mut best: Option<(f64, usize)> = None;
            for &c in left.iter().filter(|&&c| self.fits(c)) {
                let ratio = self.gain(c) / self.cost(c).max(1) as f64;
                if ratio > best.map_or(0.0, |(ratio, _)| ratio) {
                    best = Some((ratio, c));
                }
            }
            let Some((_, c)) = best else { break };
            self.add(c);
            left.retain(|&other| other != c);
        }
    }

    /// The sentence that is worth most alone.
    fn best_single(&self, allowed: impl Fn(&Candidate) -> bool) -> Option<usize> {
        let fits = |&c: &usize| {
            let candidate = &self.candidates[c];
            let cost = candidate.tokens + self.headers[candidate.document];
            allowed(candidate) && cost <= self.budget.min(self.per_document)
        };
        let worth = |c: usize| self.worth(&[c]);
        (0..self.candidates.len()).filter(fits).reduce(|best, c| if worth(c) > worth(best) { c } else { best })
    }

    fn add_neighbours(&mut self, window: usize) {
        let seeds: Vec<(usize, usize)> =
            self.chosen.iter().map(|&c| (self.candidates[c].document, self.candidates[c].sentence)).collect();
        for (document, sentence) in seeds {
            for c in 0..self.candidates.len() {
                let candidate = &self.candidates[c];
                let near = candidate.document == document && candidate.sentence.abs_diff(sentence) <= window;
                if near && !self.chosen.contains(&c) && self.fits(c) {
                    self.add(c);
                }
            }
        }
    }

    fn value(&self) -> f64 {
        self.counts.iter().zip(self.terms).map(|(&count, term)| term.weight * harmonic(count)).sum()
    }

    /// The value of a set of candidates.
    fn worth(&self, set: &[usize]) -> f64 {
        let count = |t: usize| set.iter().filter(|&&c| self.candidates[c].terms.contains(&t)).count();
        (0..self.terms.len()).map(|t| self.terms[t].weight * harmonic(count(t))).sum()
    }
}

/// The baseline that cuts: each document's header and the words of its text up to an equal share of `budget`, sentences cut wherever the
/// share ends.
pub fn truncate_each(documents: &[ContextDocument], budget: usize, counter: &TokenCounter) -> String {
    let share = budget / documents.len().max(1);
    let blocks: Vec<String> = (documents.iter().enumerate())
        .filter_map(|(rank, d)| head(&format!("{}\n{}", header(rank, &d.title), d.text), share, |t| counter.count(t)))
        .collect();
    blocks.join("\n\n")
}

/// The baseline that stops: documents in rank order, cut where the budget ends.
pub fn head_only(documents: &[ContextDocument], budget: usize, counter: &TokenCounter) -> String {
    let blocks: Vec<String> =
        (documents.iter().enumerate()).map(|(rank, d)| format!("{}\n{}", header(rank, &d.title), d.text)).collect();
    head(&blocks.join("\n\n"), budget, |t| counter.count(t)).unwrap_or_default()
}

/// The longest head of `text` of at most `budget` tokens that ends with a whole word; `None` when there is none.
fn head(text: &str, budget: usize, count: impl Fn(&str) -> usize) -> Option<String> {
    let mut ends = Vec::new();
    let mut at = 0;
    for word in text.split_inclusive(char::is_whitespace) {
        ends.push(at + word.trim_end().len());
        at += word.len();
    }
    let fitting = ends.partition_point(|&end| count(&text[..end]) <= budget);
    let end = *ends.get(fitting.checked_sub(1)?)?;
    Some(text[..end].to_owned())
}

fn header(rank: usize, title: &str) -> String {
    format!("[{}] {title}", rank + 1)
}

/// Indices of the terms that occur in `sentence`, ascending.
fn terms_in(sentence: &str, terms: &[Term]) -> Vec<usize> {
    let words: BTreeSet<String> = Tokenizer::AnyWord.tokens(sentence).into_iter().collect();
    (0..terms.len()).filter(|&t| words.contains(&terms[t].text)).collect()
}

fn check_terms(terms: &[Term]) -> Result<(), RetrievalError> {
    match terms.iter().find(|term| !(term.weight.is_finite() && term.weight >= 0.0)) {
        Some(term) => Err(RetrievalError::argument("weight", &term.weight, "a finite number of at least 0")),
        None => Ok(()),
    }
}

fn harmonic(n: usize) -> f64 {
    (1..=n).map(|i| 1.0 / i as f64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use eas_tensor::rng::SplitMix64;
    use proptest::prelude::*;

    fn pump() -> Vec<ContextDocument> {
        vec![
            ContextDocument::new(
                10,
                "Pump manual",
                "The pump moves water through the cooling loop. Its motor draws 40 watts at full speed. \
                 Replace the filter every 90 days. The housing is painted grey.",
            ),
            ContextDocument::new(
                20,
                "Service bulletin",
                "Replace the filter every ninety days. A clogged filter makes the motor overheat. \
                 Overheating shortens motor life by half.",
            ),
            ContextDocument::new(30, "Forum", "My pump is loud at night. Cleaning the filter stopped the motor noise."),
        ]
    }

    fn terms() -> Vec<Term> {
        ["pump", "motor", "overheat", "filter", "clogged"].map(|t| Term::new(t, 1.0)).to_vec()
    }

    fn packer(budget: usize) -> ContextPacker {
        ContextPacker { max_tokens: budget, reserve: 0.0, ..ContextPacker::default() }
    }

    fn places(context: &PackedContext) -> Vec<(usize, usize)> {
        context.pieces.iter().map(|p| (p.document / 10, p.sentence + 1)).collect()
    }

    /// The best value of any set of sentences within the budget, by trying all of them.
    fn optimum(documents: &[ContextDocument], terms: &[Term], budget: usize) -> f64 {
        let sentences: Vec<(usize, &str)> =
            documents.iter().enumerate().flat_map(|(d, doc)| doc.sentences().map(move |s| (d, s))).collect();
        let words = |text: &str| text.split_whitespace().count();
        let mut best = 0.0_f64;
        for set in 0u32..1 << sentences.len() {
            let chosen: Vec<_> = (0..sentences.len()).filter(|i| set >> i & 1 == 1).map(|i| sentences[i]).collect();
            let used: BTreeSet<usize> = chosen.iter().map(|(d, _)| *d).collect();
            let cost: usize = chosen.iter().map(|(_, s)| words(s)).sum::<usize>()
                + used.iter().map(|&d| words(&header(d, &documents[d].title))).sum::<usize>();
            if cost <= budget {
                let count =
                    |t: &Term| chosen.iter().filter(|(_, s)| Tokenizer::AnyWord.tokens(s).contains(&t.text)).count();
                best = best.max(terms.iter().map(|t| t.weight * harmonic(count(t))).sum());
            }
        }
        best
    }

    #[test]
    fn the_pump_by_hand() {
        let cases = [
            (12, vec![(2, 2)], 4.0, 10),
            (20, vec![(2, 2), (3, 1)], 5.0, 18),
            (24, vec![(2, 1), (2, 2), (3, 1)], 5.5, 24),
            (32, vec![(2, 1), (2, 2), (3, 1), (3, 2)], 6.333_333, 31),
            (40, vec![(2, 1), (2, 2), (2, 3), (3, 1), (3, 2)], 6.666_667, 37),
        ];
        for (budget, want, value, tokens) in cases {
            let context = packer(budget).pack(&pump(), &terms(), None, None).unwrap();
            assert_eq!(places(&context), want, "budget {budget}");
            assert!((context.value - value).abs() < 1e-6, "{}", context.value);
            assert_eq!(context.tokens, tokens);
            assert!((optimum(&pump(), &terms(), budget) - value).abs() < 1e-6, "budget {budget} isn't optimal");
        }
        let context = packer(20).pack(&pump(), &terms(), None, None).unwrap();
        assert_eq!(
            context.text,
            "[2] Service bulletin\nA clogged filter makes the motor overheat.\n\n[3] Forum\nMy pump is loud at night."
        );
    }

    #[test]
    fn near_duplicates_are_merged_at_their_jaccard_similarity() {
        let pair = ["Replace the filter every 90 days.", "Replace the filter every ninety days."];
        let keep = |threshold| {
            let deduplicator = Deduplicator { threshold, ..Deduplicator::default() };
            deduplicator.keep(&pair, None).unwrap()
        };
        assert_eq!(keep(0.85), [true, true]);
        assert_eq!(keep(0.7), [true, false]);
        let cosine = Deduplicator { threshold: 0.9, method: DuplicateMethod::Cosine };
        let vectors = Matrix::from_rows(&[[1.0, 0.0], [0.95, 0.05]]).unwrap();
        assert_eq!(cosine.keep(&pair, Some(&vectors)).unwrap(), [true, false]);
        assert!(cosine.keep(&pair, None).unwrap_err().to_string().contains("0 vectors for 2 sentences"));
    }

    #[test]
    fn passages_are_scored_by_terms_and_similarity() {
        let document = &pump()[1];
        let extractor = PassageExtractor { max_sentences: 1, window: 0 };
        assert_eq!(extractor.scores(document, &terms(), &[0.0, 0.5, -1.0]).unwrap(), [0.1, 0.65, 0.1]);
        assert_eq!(extractor.extract(document, &terms(), &[0.0; 3]).unwrap(), [1]);
        // Without terms only similarity speaks; the earlier of equals wins.
        assert_eq!(extractor.extract(document, &[], &[0.2, 0.2, 0.1]).unwrap(), [0]);
        assert!(extractor.extract(document, &[], &[0.0; 3]).unwrap().is_empty());
        let wide = PassageExtractor { max_sentences: 1, window: 1 };
        assert_eq!(wide.extract(document, &terms(), &[0.0; 3]).unwrap(), [0, 1, 2]);
        assert!(extractor.extract(document, &terms(), &[0.0; 2]).is_err());
    }

    #[test]
    fn neighbours_come_while_the_budget_lasts() {
        let with = |budget| ContextPacker { window: 1, ..packer(budget) };
        let context = with(16).pack(&pump(), &terms()[2..3], None, None).unwrap();
        assert_eq!(places(&context), [(2, 1), (2, 2)]);
        let context = with(22).pack(&pump(), &terms()[2..3], None, None).unwrap();
        assert_eq!(places(&context), [(2, 1), (2, 2), (2, 3)]);
    }

    #[test]
    fn edges_first_puts_the_worst_in_the_middle() {
        let documents: Vec<ContextDocument> =
            (0..5).map(|i| ContextDocument::new(i, "t", format!("Pump number {i}."))).collect();
        let packer = ContextPacker { order: Order::EdgesFirst, deduplicator: None, ..packer(100) };
        let context = packer.pack(&documents, &terms(), None, None).unwrap();
        let order: Vec<usize> = context.pieces.iter().map(|p| p.document).collect();
        assert_eq!(order, [0, 2, 4, 3, 1]);
    }

    #[test]
    fn limits_and_bad_arguments() {
        let none = packer(2).pack(&pump(), &terms(), None, None).unwrap();
        assert_eq!((none.text.as_str(), none.tokens, none.value), ("", 0, 0.0));
        assert!(packer(50).pack(&[], &terms(), None, None).unwrap().pieces.is_empty());
        assert!(packer(50).pack(&pump(), &[], None, None).unwrap().pieces.is_empty());
        let capped = ContextPacker { per_document: 10, ..packer(100) };
        let context = capped.pack(&pump(), &terms(), None, None).unwrap();
        assert_eq!(context.pieces.iter().filter(|p| p.document == 20).count(), 1);
        let among = [vec![], vec![0], vec![]];
        let context = packer(100).pack(&pump(), &terms(), Some(&among), None).unwrap();
        assert_eq!(places(&context), [(2, 1)]);
        assert!(packer(100).pack(&pump(), &terms(), Some(&among[..1]), None).is_err());
        assert!(packer(0).pack(&pump(), &terms(), None, None).is_err());
        assert!(packer(9).pack(&pump(), &[Term::new("pump", f64::NAN)], None, None).is_err());
        let greedy = ContextPacker { reserve: 1.0, ..packer(9) };
        assert!(greedy.pack(&pump(), &terms(), None, None).is_err());
    }

    #[test]
    fn one_good_sentence_beats_many_cheap_ones() {
        // Greedy takes the short sentence for its ratio, and the long one no longer fits.
        let documents = [ContextDocument::new(0, "", "Pump. A clogged filter makes the motor overheat.")];
        let context = packer(8).pack(&documents, &terms(), None, None).unwrap();
        assert_eq!(context.value, 4.0);
        assert_eq!(context.pieces[0].sentence, 1);
    }

    #[test]
    fn baselines_cut_at_the_budget() {
        let words = TokenCounter::Words;
        assert_eq!(head_only(&pump(), 5, &words), "[1] Pump manual\nThe pump");
        assert_eq!(head_only(&pump(), 0, &words), "");
        let each = truncate_each(&pump(), 15, &words);
        assert_eq!(each, "[1] Pump manual\nThe pump\n\n[2] Service bulletin\nReplace the\n\n[3] Forum\nMy pump is");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn greedy_keeps_its_guarantee_and_its_budget(seed in any::<u64>(), budget in 3usize..60) {
            let mut rng = SplitMix64::new(seed);
            let vocabulary = ["alpha", "beta", "gamma", "delta", "red", "blue", "green", "pink"];
            let terms: Vec<Term> = vocabulary[..5].iter().map(|t| Term::new(t, rng.uniform())).collect();
            let documents: Vec<ContextDocument> = (0..3).map(|d| {
                let sentences: Vec<String> = (0..3).map(|_| {
                    let words: Vec<&str> =
                        (0..=rng.below(6)).filter_map(|_| rng.choose(&vocabulary).copied()).collect();
                    format!("Word {}.", words.join(" "))
                }).collect();
                ContextDocument::new(d, "Title", sentences.join(" "))
            }).collect();
            let packer = ContextPacker { deduplicator: None, ..packer(budget) };
            let context = packer.pack(&documents, &terms, None, None).unwrap();
            prop_assert!(TokenCounter::Words.count(&context.text) <= budget);
            let best = optimum(&documents, &terms, budget);
            prop_assert!(context.value >= 0.5 * (1.0 - (-1.0f64).exp()) * best - 1e-9, "{} of {best}", context.value);
            for piece in &context.pieces {
                prop_assert!(context.text.contains(&documents[piece.document].text[piece.span.clone()]));
            }
        }
    }
}
