//! The question-answering system that 13.1 shows and 13.4 evaluates, and the questions that both ask.

use crate::products::{attribute_rules, calendar, normal_form};
use eas_data::synth::facts::{Attribute, Contradiction, FactCorpus, Question};
use eas_data::wordnet::WordNet;
use eas_eval::retrieval::recall_at_k;
use eas_report::{Listing, Table, num};
use eas_retrieval::claims::ClaimExtractor;
use eas_retrieval::extractive::{ExtractiveGenerator, SlotReader};
use eas_retrieval::generator::{Answer, AnsweredFact};
use eas_retrieval::query::QueryProcessor;
use eas_retrieval::rag::{Document, RagResponse};
use eas_tensor::rng::SplitMix64;
use eas_text::encoder::SentenceEncoder;
use std::collections::BTreeSet;

/// Words and phrases with which people ask for an attribute; written without looking at the corpus's own phrasings, as a first guess of
/// what users will say.
const ASKED: [(Attribute, &[&str]); 8] = [
    (Attribute::Price, &["price", "cost", "how much to pay", "expensive", "money", "dollars"]),
    (Attribute::Memory, &["memory", "ram", "gigabytes of storage"]),
    (Attribute::Weight, &["weight", "how heavy", "weigh", "mass in kilograms"]),
    (Attribute::Battery, &["battery", "hours on one charge", "battery life", "running time without power"]),
    (Attribute::Warranty, &["warranty", "guarantee", "free repairs", "how long is it covered"]),
    (Attribute::Release, &["release date", "released", "launch", "on sale since when", "date it came out"]),
    (Attribute::Protocols, &["protocols", "supported standards", "wireless connections", "compatible with"]),
    (Attribute::Colour, &["colour", "finish of the case", "what it looks like", "appearance"]),
];

/// The corpus as documents of the pipeline, ids kept.
pub fn documents(corpus: &FactCorpus) -> Vec<Document> {
    let convert = |d: &eas_data::synth::facts::FactDocument| Document {
        title: d.title.clone(),
        text: d.text(),
        author: Some(d.author.clone()),
        date: calendar(d.date),
        credibility: d.kind.credibility(),
    };
    corpus.documents.iter().map(convert).collect()
}

/// A processor that knows the corpus's entities.
pub fn processor<'a>(corpus: &FactCorpus, wordnet: &'a WordNet) -> QueryProcessor<'a> {
    QueryProcessor::new(&corpus.entities, Some(wordnet))
}

/// A generator that reads the corpus's attributes and quotes one sentence a fact.
///
/// # Errors
/// The encoder's.
pub fn generator<'a>(corpus: &FactCorpus, encoder: &'a dyn SentenceEncoder) -> anyhow::Result<ExtractiveGenerator<'a>> {
    let extractor = ClaimExtractor::new(&corpus.entities, attribute_rules())?;
    let slots = SlotReader::new(extractor, &ASKED.map(|(attribute, phrases)| (attribute.noun(), phrases)), encoder)?;
    Ok(ExtractiveGenerator::new(encoder, 0.0, 1)?.with_slots(slots))
}

/// 120 answerable questions (100 for one fact, 8 for two, 12 that compare two entities) and 60 whose answer no document holds, shuffled.
pub fn questions(corpus: &FactCorpus, seed: u64) -> Vec<Question> {
    let mut questions = corpus.sample_questions(100, 60, seed);
    let mut rng = SplitMix64::stream(seed, 1);
    let n = corpus.entities.len();
    let mut tries = 0;
    let (mut two, mut compared) = (0, 0);
    while (two < 8 || compared < 12) && tries < 10_000 {
        tries += 1;
        let entity = rng.below(n);
        let pair = rng.sample_indices(8, 2);
        let (a, b) = (Attribute::TYPED[pair[0]], Attribute::TYPED[pair[1]]);
        let other = (entity + 5) % n;
        let question = if two < 8 {
            corpus.two_fact_question(entity, [a, b], tries)
        } else {
            corpus.comparison([entity, other], a, tries)
        };
        if question.answerable() && entity != other {
            if two < 8 {
                two += 1;
            } else {
                compared += 1;
            }
            questions.push(question);
        }
    }
    rng.shuffle(&mut questions);
    questions
}

/// Whether the answer gives exactly the values asked for.
pub fn is_correct(answer: &Answer, question: &Question, corpus: &FactCorpus) -> bool {
    let given: BTreeSet<_> =
        answer.facts.iter().map(|f| (f.entity.as_str(), f.attribute.as_str(), f.value.clone())).collect();
    let gold: Option<BTreeSet<_>> = question
        .facts
        .iter()
        .map(|f| Some((corpus.entities[f.entity].as_str(), f.attribute.noun(), normal_form(f.value.as_ref()?))))
        .collect();
    !answer.abstained && gold.is_some_and(|gold| gold == given)
}

/// Mean share of the gold documents among the first `k`, over the answerable questions.
///
/// # Errors
/// The metric's, for a ranking that repeats a document.
pub fn mean_recall(questions: &[Question], rankings: &[Vec<usize>], k: usize) -> anyhow::Result<f64> {
    let (mut sum, mut n) = (0.0, 0);
    for (question, ranking) in questions.iter().zip(rankings).filter(|(q, _)| q.answerable()) {
        sum += recall_at_k(ranking, &question.gold_documents(), k)?;
        n += 1;
    }
    Ok(sum / f64::from(n.max(1)))
}

/// For each stage of the pipeline the share of the answerable questions that can still be answered right after it: every fact that is
/// asked for has a document, then a sentence, that states it; then there is an answer; then the answer is sound.
pub fn survival(responses: &[(&Question, RagResponse)]) -> [f64; 6] {
    let answerable: Vec<_> = responses.iter().filter(|(q, _)| q.answerable()).collect();
    let share = |alive: &dyn Fn(&Question, &RagResponse) -> bool| {
        answerable.iter().filter(|(q, r)| alive(q, r)).count() as f64 / answerable.len().max(1) as f64
    };
    let stated = |q: &Question, seen: &dyn Fn(usize, usize) -> bool| {
        q.facts.iter().all(|f| f.sentences.iter().any(|s| seen(s.0, s.1)))
    };
    [
        1.0,
        share(&|q, r| stated(q, &|document, _| r.retrieved.iter().any(|d| d.id == document))),
        share(&|q, r| stated(q, &|document, _| r.reranked.iter().any(|d| d.id == document))),
        share(&|q, r| {
            let packed = |document, sentence| {
                let own = r.contexts.iter().filter(|c| c.document == document);
                own.flat_map(|c| &c.sentences).any(|s| s.0 == sentence)
            };
            stated(q, &packed)
        }),
        share(&|_, r| !r.answer.abstained),
        share(&|_, r| !r.answer.abstained && r.problems.is_empty()),
    ]
}

/// Prints what each stage made of one question.
pub fn trace(page: &mut Listing, corpus: &FactCorpus, response: &RagResponse) {
    let query = &response.query;
    page.text(format!("Question: {}", query.text));
    page.text(format!(
        "Understood as: {} question about {}; also searched as: {}",
        query.intent,
        query.entities.join(", "),
        query.expansions.join(" | ")
    ));
    let mut table = Table::new(["rank", "fused", "reranked", "date", "credibility"]);
    for rank in 0..4.min(response.reranked.len()) {
        let after = &corpus.documents[response.reranked[rank].id];
        table.row([
            (rank + 1).into(),
            corpus.documents[response.retrieved[rank].id].title.as_str().into(),
            after.title.as_str().into(),
            after.date.to_string().into(),
            num(after.kind.credibility(), 2),
        ]);
    }
    page.table(format!("{} candidates, the best four before and after reranking", response.retrieved.len()), &table);
    let sentences: usize = response.contexts.iter().map(|c| c.sentences.len()).sum();
    page.text(format!(
        "Context: {sentences} sentences of {} documents, {} tokens",
        response.contexts.len(),
        response.context_tokens
    ));
    page.text(format!("Answer: {}", response.answer.text));
    for fact in &response.answer.facts {
        page.text(format!(
            "Value: {} of the {}: {}, with {:.0}% of the weighed evidence",
            fact.attribute,
            fact.entity,
            fact.value,
            100.0 * fact.share
        ));
    }
    let answered = |c: &&Contradiction| {
        let same = |f: &AnsweredFact| f.entity == corpus.entities[c.entity] && f.attribute == c.attribute.noun();
        response.answer.facts.iter().any(same)
    };
    for c in corpus.contradictions.iter().filter(answered) {
        let other = &corpus.documents[c.other_document];
        page.text(format!(
            "Against it: the {} of {} says {}, which counts less by age or source.",
            other.title, other.date, c.other
        ));
    }
    let sound =
        if response.problems.is_empty() { "citations exist, are verbatim, and hold every number" } else { "REFUSED" };
    page.text(format!("Validation: {sound}; confidence {:.2}", response.confidence.unwrap_or(f64::NAN)));
}
