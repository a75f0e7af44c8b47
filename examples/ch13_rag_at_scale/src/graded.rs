//! Graded answers for 13.4: sentences of the fact corpus in the form in which `eas_eval::rag` compares them, gold answers, and the five
//! faults that are planted into them.

use crate::products::normal_form;
use eas_data::synth::facts::{COLOURS, FactCorpus, GoldFact, Mention, PROTOCOLS, Question, Stance};
use eas_eval::rag::{AnswerSentence, Fact, RagSample, Statement};
use eas_retrieval::generator::Answer;
use eas_retrieval::query::content_terms;
use eas_tensor::rng::SplitMix64;
use eas_text::encoder::SentenceEncoder;
use eas_text::values::{Value, find_members, find_values};
use std::collections::BTreeSet;

/// (document, sentence).
pub type Place = (usize, usize);

/// The corpus with every sentence taken apart.
pub struct GradedCorpus<'a> {
    /// The corpus.
    pub corpus: &'a FactCorpus,
    encoder: &'a dyn SentenceEncoder,
    statements: Vec<Vec<Statement>>,
}

/// A fault that is planted into a gold answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Another value.
    WrongValue,
    /// The citation names a sentence of another entity's document.
    MovedCitation,
    /// No citation.
    DroppedCitation,
    /// A true, cited sentence that nobody asked for.
    AddedSentence,
    /// The second of two facts is missing.
    RemovedFact,
}

impl Fault {
    /// All faults, in the order of the slices that they are planted in.
    pub const ALL: [Self; 5] =
        [Self::WrongValue, Self::MovedCitation, Self::DroppedCitation, Self::AddedSentence, Self::RemovedFact];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::WrongValue => "wrong value",
            Self::MovedCitation => "moved",
            Self::DroppedCitation => "dropped",
            Self::AddedSentence => "added",
            Self::RemovedFact => "removed",
        }
    }
}

impl<'a> GradedCorpus<'a> {
    /// Takes every sentence apart.
    ///
    /// # Errors
    /// The encoder's.
    pub fn new(corpus: &'a FactCorpus, encoder: &'a dyn SentenceEncoder) -> anyhow::Result<Self> {
        let mut statements = Vec::with_capacity(corpus.documents.len());
        for document in &corpus.documents {
            let texts: Vec<&str> = document.sentences.iter().map(String::as_str).collect();
            let vectors = encoder.encode(&texts)?;
            let own =
                texts.iter().zip(vectors.iter_rows()).map(|(text, vector)| statement(corpus, text, vector.to_vec()));
            statements.push(own.collect());
        }
        Ok(Self { corpus, encoder, statements })
    }

    fn at(&self, place: Place) -> Statement {
        self.statements[place.0][place.1].clone()
    }

    fn text(&self, place: Place) -> &'a str {
        &self.corpus.documents[place.0].sentences[place.1]
    }

    fn fact(&self, entity: usize, attribute: &str, value: &Value) -> Fact {
        Fact { about: format!("{} / {attribute}", self.corpus.entities[entity]), value: value.to_string() }
    }

    fn gold_fact(&self, gold: &GoldFact) -> Option<Fact> {
        Some(self.fact(gold.entity, gold.attribute.noun(), &normal_form(gold.value.as_ref()?)))
    }

    /// The sample of a question without an answer: gold facts, and all documents of the entities asked about as context.
    fn unanswered(&self, question: &Question) -> RagSample<Place> {
        let entities: BTreeSet<usize> = question.facts.iter().map(|f| f.entity).collect();
        let own = self.corpus.documents.iter().filter(|d| entities.contains(&d.entity));
        RagSample {
            gold: question.facts.iter().filter_map(|f| self.gold_fact(f)).collect(),
            gold_vector: Vec::new(),
            context: own.flat_map(|d| (0..d.sentences.len()).map(|s| ((d.id, s), self.at((d.id, s))))).collect(),
            relevant: question.facts.iter().flat_map(|f| f.sentences.iter().copied()).collect(),
            answer: Vec::new(),
        }
    }

    /// The gold answer: for each fact the first sentence that states it, cited.
    pub fn gold(&self, question: &Question) -> RagSample<Place> {
        let mut sample = self.unanswered(question);
        for gold in &question.facts {
            if let (Some(fact), Some(&place)) = (self.gold_fact(gold), gold.sentences.first()) {
                sample.answer.push(AnswerSentence {
                    statement: self.at(place),
                    citations: vec![place],
                    facts: vec![fact],
                });
            }
        }
        sample
    }

    /// What a system answered, with the context that it used.
    pub fn answered(
        &self,
        question: &Question,
        answer: &Answer,
        context: impl IntoIterator<Item = Place>,
    ) -> RagSample<Place> {
        let mut sample = self.unanswered(question);
        sample.context = context.into_iter().map(|place| (place, self.at(place))).collect();
        for citation in &answer.citations {
            let place = (citation.document, citation.sentence);
            let entity = self.corpus.documents[place.0].entity;
            let name = self.corpus.entities[entity].as_str();
            let stated = self.corpus.mentions.iter().filter(|m| (m.document, m.sentence) == place);
            let attributes: Vec<&str> = stated.map(|m| m.attribute.noun()).collect();
            let facts = answer.facts.iter().filter(|f| f.entity == name && attributes.contains(&f.attribute.as_str()));
            let facts = facts.map(|f| self.fact(entity, &f.attribute, &f.value)).collect();
            sample.answer.push(AnswerSentence { statement: self.at(place), citations: vec![place], facts });
        }
        sample
    }

    /// Plants a fault into a gold answer.
    ///
    /// # Errors
    /// The encoder's.
    pub fn corrupt(
        &self,
        sample: &mut RagSample<Place>,
        question: &Question,
        fault: Fault,
        rng: &mut SplitMix64,
    ) -> anyhow::Result<()> {
        let asked = &question.facts[0];
        let Some(first) = sample.answer.first_mut() else {
            return Ok(());
        };
        let place = first.citations[0];
        match fault {
            Fault::WrongValue => {
                let others: Vec<&Mention> = self
                    .corpus
                    .mentions
                    .iter()
                    .filter(|m| m.attribute == asked.attribute && differs(m, asked))
                    .collect();
                let Some(other) = rng.choose(&others) else {
                    return Ok(());
                };
                let text = self.with_value_of(place, other, asked.entity);
                let vector = self.encoder.encode(&[&text])?.row(0).to_vec();
                first.statement = statement(self.corpus, &text, vector);
                first.facts = vec![self.fact(asked.entity, asked.attribute.noun(), &normal_form(&other.value))];
            }
            Fault::MovedCitation => {
                let elsewhere: Vec<&Mention> =
                    self.corpus.mentions.iter().filter(|m| m.entity != asked.entity).collect();
                if let Some(other) = rng.choose(&elsewhere) {
                    first.citations = vec![(other.document, other.sentence)];
                }
            }
            Fault::DroppedCitation => first.citations.clear(),
            Fault::AddedSentence => {
                let unasked = |m: &&Mention| {
                    m.entity == asked.entity
                        && m.stance == Stance::True
                        && question.facts.iter().all(|f| f.attribute != m.attribute)
                };
                let extras: Vec<&Mention> = self.corpus.mentions.iter().filter(unasked).collect();
                if let Some(extra) = rng.choose(&extras) {
                    let place = (extra.document, extra.sentence);
                    let facts = vec![self.fact(extra.entity, extra.attribute.noun(), &normal_form(&extra.value))];
                    sample.answer.push(AnswerSentence { statement: self.at(place), citations: vec![place], facts });
                }
            }
            Fault::RemovedFact => {
                sample.answer.truncate(1);
            }
        }
        Ok(())
    }

    /// The sentence at `place` with the value of `other`; the whole sentence of `other` about `entity` where the value has no fixed place.
    fn with_value_of(&self, place: Place, other: &Mention, entity: usize) -> String {
        let (text, foreign) = (self.text(place), self.text((other.document, other.sentence)));
        let own = find_values(text);
        let found = find_values(foreign).into_iter().find(|f| f.value == normal_form(&other.value));
        match (own.as_slice(), found) {
            ([only], Some(found)) => {
                format!("{}{}{}", &text[..only.span.start], &foreign[found.span], &text[only.span.end..])
            }
            _ => foreign.replace(&self.corpus.entities[other.entity], &self.corpus.entities[entity]),
        }
    }
}

/// Whether the mention's value contradicts the gold one: another value, and no subset of it.
fn differs(mention: &Mention, gold: &GoldFact) -> bool {
    let Some(right) = &gold.value else { return false };
    match (normal_form(&mention.value), normal_form(right)) {
        (Value::Set(stated), Value::Set(right)) => !stated.is_subset(&right),
        (stated, right) => stated != right,
    }
}

fn statement(corpus: &FactCorpus, text: &str, vector: Vec<f32>) -> Statement {
    let mut values: BTreeSet<String> = find_values(text).into_iter().map(|f| f.value.to_string()).collect();
    if let Some(Value::Set(members)) = find_members(text, &PROTOCOLS) {
        values.extend(members);
    }
    let lower = text.to_lowercase();
    values.extend(COLOURS.iter().filter(|c| lower.contains(**c)).map(|c| (*c).to_owned()));
    Statement {
        values,
        entities: corpus.entities.iter().filter(|e| text.contains(e.as_str())).cloned().collect(),
        words: content_terms(text).into_iter().collect(),
        vector,
    }
}
