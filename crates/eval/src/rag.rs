//! Metrics of retrieval-augmented answers, each of which reacts to one kind of fault: an unsupported statement, a citation that doesn't
//! support it, a missing citation, a wrong value, a missing fact, an irrelevant sentence.
//!
//! Attribution follows Rashkin et al., "Measuring Attribution in Natural Language Generation Models" (2023), and Gao et al., "Enabling
//! Large Language Models to Generate Text with Citations" (EMNLP 2023). A claim is a sentence of the answer. How a text becomes words,
//! values and a vector is the caller's business.

use crate::EvalError;
use crate::bootstrap::{Interval, bootstrap_ci};
use eas_tensor::kernels::cosine;
use std::collections::BTreeSet;

/// Content-word recall from which a source supports a claim.
pub const SUPPORT_WORDS: f64 = 0.6;
/// Cosine from which a source supports a claim.
pub const SUPPORT_COSINE: f64 = 0.75;

/// What counts of a sentence when it is compared with another.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Statement {
    /// Numbers, dates, names of set members and other typed values in normal form. A claim with a value that its source lacks is wrong
    /// however similar the rest is.
    pub values: BTreeSet<String>,
    /// The known entities that it names.
    pub entities: BTreeSet<String>,
    /// Its content words.
    pub words: BTreeSet<String>,
    /// Its embedding; may be empty, and then has cosine 0 with everything.
    pub vector: Vec<f32>,
}

impl Statement {
    /// Whether this sentence supports `claim`: it has all values and entities of the claim, and at least 0.6 of its content words or a
    /// cosine of at least 0.75 with it.
    pub fn supports(&self, claim: &Self) -> bool {
        if !(claim.values.is_subset(&self.values) && claim.entities.is_subset(&self.entities)) {
            return false;
        }
        let shared = claim.words.intersection(&self.words).count();
        let recall = shared as f64 / claim.words.len().max(1) as f64;
        recall >= SUPPORT_WORDS || similarity(&self.vector, &claim.vector) >= SUPPORT_COSINE
    }
}

fn similarity(a: &[f32], b: &[f32]) -> f64 {
    if a.is_empty() || a.len() != b.len() {
        return 0.0;
    }
    f64::from(cosine(a, b))
}

/// A typed fact: what it is about (such as "Amber Router / price") and its value, both in normal form.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fact {
    /// What it is about.
    pub about: String,
    /// The value.
    pub value: String,
}

/// A sentence of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct AnswerSentence<I> {
    /// Its parts.
    pub statement: Statement,
    /// The sources that it cites.
    pub citations: Vec<I>,
    /// The typed facts that it states.
    pub facts: Vec<Fact>,
}

/// One question with its gold facts, the context that the answer was made from, and the answer. `I` identifies a source sentence.
#[derive(Debug, Clone, PartialEq)]
pub struct RagSample<I> {
    /// What is asked for, with the right values; empty when the gold answer has no typed value.
    pub gold: Vec<Fact>,
    /// The gold answer's embedding, for answers without typed values.
    pub gold_vector: Vec<f32>,
    /// The sentences that the answer could be made from.
    pub context: Vec<(I, Statement)>,
    /// Which of them hold a gold fact.
    pub relevant: BTreeSet<I>,
    /// The answer.
    pub answer: Vec<AnswerSentence<I>>,
}

/// The scores of one answer, each in `[0, 1]`. `None` where the metric has no denominator.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RagScores {
    /// Share of the claims that some sentence of the context supports.
    pub faithfulness: f64,
    /// Share of the claims with at least one citation that supports them.
    pub citation_recall: f64,
    /// Share of the citations that support their claim; `None` without any citation.
    pub citation_precision: Option<f64>,
    /// Share of the asked facts stated by the answer whose value is right (0 when it states none). Without typed gold: the cosine of
    /// the answer with the gold answer, negative ones as 0.
    pub correctness: f64,
    /// Share of the gold facts that the answer states with the right value.
    pub completeness: f64,
    /// Share of the sentences that state something asked for.
    pub relevance: f64,
    /// Share of the relevant context sentences that are cited; `None` when the context has none.
    pub context_utilisation: Option<f64>,
}

/// Scores one answer. An answer without a sentence scores 0 throughout.
pub fn score<I: Ord>(sample: &RagSample<I>) -> RagScores {
    let answer = &sample.answer;
    let share = |hits: usize, of: usize| if of == 0 { 0.0 } else { hits as f64 / of as f64 };
    let source = |id: &I| sample.context.iter().find(|(own, _)| own == id).map(|(_, s)| s);
    let supported_by = |id: &I, claim: &Statement| source(id).is_some_and(|s| s.supports(claim));

    let faithful = answer.iter().filter(|a| sample.context.iter().any(|(_, s)| s.supports(&a.statement)));
    let attributed = answer.iter().filter(|a| a.citations.iter().any(|id| supported_by(id, &a.statement)));
    let citations: usize = answer.iter().map(|a| a.citations.len()).sum();
    let sound: usize =
        answer.iter().map(|a| a.citations.iter().filter(|id| supported_by(id, &a.statement)).count()).sum();

    let asked = |fact: &Fact| sample.gold.iter().any(|gold| gold.about == fact.about);
    let stated: BTreeSet<&Fact> = answer.iter().flat_map(|a| &a.facts).filter(|f| asked(f)).collect();
    let right = sample.gold.iter().filter(|gold| stated.contains(gold)).count();
    let correctness = if sample.gold.is_empty() {
        let nearest = answer.iter().map(|a| similarity(&a.statement.vector, &sample.gold_vector));
        nearest.fold(0.0, f64::max).min(1.0)
    } else {
        share(right, stated.len())
    };
    let on_topic = answer.iter().filter(|a| a.facts.iter().any(asked)).count();

    let cited: BTreeSet<&I> = answer.iter().flat_map(|a| &a.citations).collect();
    let available: Vec<&I> =
        sample.context.iter().map(|(id, _)| id).filter(|id| sample.relevant.contains(id)).collect();
    let used = available.iter().filter(|id| cited.contains(*id)).count();
    RagScores {
        faithfulness: share(faithful.count(), answer.len()),
        citation_recall: share(attributed.count(), answer.len()),
        citation_precision: (citations > 0).then(|| share(sound, citations)),
        correctness,
        completeness: share(right, sample.gold.len()),
        relevance: share(on_topic, answer.len()),
        context_utilisation: (!available.is_empty()).then(|| share(used, available.len())),
    }
}

/// Names a metric and reads it from the scores.
pub type Metric = (&'static str, fn(&RagScores) -> Option<f64>);

/// The metrics of [`RagScores`] by name, in the order of its fields.
pub const METRICS: [Metric; 7] = [
    ("faithfulness", |s| Some(s.faithfulness)),
    ("citation recall", |s| Some(s.citation_recall)),
    ("citation precision", |s| s.citation_precision),
    ("correctness", |s| Some(s.correctness)),
    ("completeness", |s| Some(s.completeness)),
    ("relevance", |s| Some(s.relevance)),
    ("context utilisation", |s| s.context_utilisation),
];

/// Mean and 95% bootstrap interval of one metric over the answers that have it.
///
/// # Errors
/// No answer has it, or `resamples = 0`.
pub fn mean_of(scores: &[RagScores], metric: Metric, resamples: usize, seed: u64) -> Result<Interval, EvalError> {
    let values: Vec<f64> = scores.iter().filter_map(metric.1).collect();
    if values.is_empty() {
        return Err(EvalError::Empty(metric.0));
    }
    bootstrap_ci(&values, resamples, seed)
}

/// The least means with which a system is accepted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Acceptance {
    /// Recall of retrieval.
    pub recall: f64,
    /// Correctness.
    pub correctness: f64,
    /// Faithfulness.
    pub faithfulness: f64,
    /// Citation recall.
    pub citation_recall: f64,
}

impl Default for Acceptance {
    /// 0.8 each, 0.7 for citation recall.
    fn default() -> Self {
        Self { recall: 0.8, correctness: 0.8, faithfulness: 0.8, citation_recall: 0.7 }
    }
}

impl Acceptance {
    /// The names of the rules that these means break, in the order of the fields; NaN breaks its rule.
    pub fn broken(&self, recall: f64, correctness: f64, faithfulness: f64, citation_recall: f64) -> Vec<&'static str> {
        [
            ("recall", recall, self.recall),
            ("correctness", correctness, self.correctness),
            ("faithfulness", faithfulness, self.faithfulness),
            ("citation recall", citation_recall, self.citation_recall),
        ]
        .into_iter()
        .filter(|(_, value, least)| value.is_nan() || value < least)
        .map(|rule| rule.0)
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eas_tensor::rng::SplitMix64;

    fn set(items: &[&str]) -> BTreeSet<String> {
        items.iter().map(|&i| i.to_owned()).collect()
    }

    fn statement(words: &[&str], values: &[&str]) -> Statement {
        Statement { values: set(values), entities: set(&["drone"]), words: set(words), vector: Vec::new() }
    }

    fn fact(about: &str, value: &str) -> Fact {
        Fact { about: about.into(), value: value.into() }
    }

    /// Price and weight of the drone: two facts, two sources, a third sentence that is true but wasn't asked for.
    fn gold() -> RagSample<u32> {
        let price = statement(&["drone", "costs"], &["9"]);
        let weight = statement(&["drone", "weighs"], &["2"]);
        let colour = statement(&["drone", "comes", "red"], &["red"]);
        let sentence = |statement: &Statement, id, f| AnswerSentence {
            statement: statement.clone(),
            citations: vec![id],
            facts: vec![f],
        };
        RagSample {
            gold: vec![fact("price", "9"), fact("weight", "2")],
            gold_vector: Vec::new(),
            relevant: [1, 2].into(),
            answer: vec![sentence(&price, 1, fact("price", "9")), sentence(&weight, 2, fact("weight", "2"))],
            context: vec![(1, price), (2, weight), (3, colour)],
        }
    }

    fn row(sample: &RagSample<u32>) -> Vec<Option<f64>> {
        let scores = score(sample);
        METRICS.iter().map(|m| m.1(&scores)).collect()
    }

    #[test]
    fn the_gold_answer_is_perfect() {
        assert_eq!(row(&gold()), vec![Some(1.0); 7]);
    }

    #[test]
    fn each_fault_moves_its_own_metrics() {
        let half = Some(0.5);
        let one = Some(1.0);
        let mut wrong = gold();
        wrong.answer[0].statement.values = set(&["8"]);
        wrong.answer[0].facts = vec![fact("price", "8")];
        assert_eq!(row(&wrong), [half, half, half, half, half, one, one]);
        let mut moved = gold();
        moved.answer[0].citations = vec![3];
        assert_eq!(row(&moved), [one, half, half, one, one, one, half]);
        let mut dropped = gold();
        dropped.answer[0].citations.clear();
        assert_eq!(row(&dropped), [one, half, one, one, one, one, half]);
        let mut added = gold();
        let extra = added.context[2].1.clone();
        added.answer.push(AnswerSentence { statement: extra, citations: vec![3], facts: vec![fact("colour", "red")] });
        assert_eq!(row(&added), [one, one, one, one, one, Some(2.0 / 3.0), one]);
        let mut removed = gold();
        removed.answer.pop();
        assert_eq!(row(&removed), [one, one, one, one, half, one, half]);
    }

    #[test]
    fn an_id_is_not_its_prefix_and_an_unknown_citation_supports_nothing() {
        let mut sample = gold();
        sample.answer[0].citations = vec![10];
        assert_eq!(score(&sample).citation_recall, 0.5);
        assert_eq!(score(&sample).citation_precision, Some(0.5));
    }

    #[test]
    fn support_needs_values_and_words_or_meaning() {
        let source = Statement { vector: vec![1.0, 0.0], ..statement(&["drone", "costs", "dollars"], &["9"]) };
        let mut claim = Statement { vector: vec![0.0, 1.0], ..statement(&["drone", "priced", "at", "nine"], &["9"]) };
        assert!(!source.supports(&claim), "a quarter of the words, cosine 0");
        claim.vector = vec![0.8, 0.6];
        assert!(source.supports(&claim), "cosine 0.8");
        claim.entities.insert("router".into());
        assert!(!source.supports(&claim), "an entity that the source doesn't name");
    }

    #[test]
    fn nothing_said_scores_nothing() {
        let mut silent = gold();
        silent.answer.clear();
        let scores = score(&silent);
        assert_eq!((scores.faithfulness, scores.correctness, scores.completeness), (0.0, 0.0, 0.0));
        assert_eq!(scores.citation_precision, None);
        assert!(mean_of(&[scores], METRICS[2], 100, 1).is_err());
        let mut untyped = gold();
        untyped.gold.clear();
        untyped.gold_vector = vec![1.0, 0.0];
        untyped.answer[0].statement.vector = vec![0.6, 0.8];
        assert!((score(&untyped).correctness - 0.6).abs() < 1e-6);
    }

    #[test]
    fn the_interval_covers_the_planted_rate() {
        let mut covered = 0;
        for repetition in 0..100 {
            let mut rng = SplitMix64::stream(5, repetition);
            let scores: Vec<RagScores> = (0..200)
                .map(|_| {
                    let mut sample = gold();
                    if rng.chance(0.3) {
                        sample.answer.pop();
                        sample.gold.pop();
                        sample.answer[0].facts = vec![fact("price", "7")];
                    }
                    score(&sample)
                })
                .collect();
            let interval = mean_of(&scores, METRICS[3], 500, repetition).expect("200 values");
            covered += usize::from(interval.contains(0.7));
            let mut reversed = scores.clone();
            reversed.reverse();
            assert_eq!(mean_of(&reversed, METRICS[3], 500, repetition), Ok(interval));
        }
        assert!(covered >= 90, "{covered} of 100");
    }

    #[test]
    fn acceptance_names_what_is_missing() {
        let rules = Acceptance::default();
        assert!(rules.broken(0.8, 0.8, 0.8, 0.7).is_empty());
        assert_eq!(rules.broken(0.9, 0.79, f64::NAN, 0.69), ["correctness", "faithfulness", "citation recall"]);
    }
}
