//! Answering with sentences of the contexts, word for word: nothing is said that no document says.

use crate::claims::{Claim, ClaimExtractor};
use crate::conflict::{Resolution, Weighting, resolve};
use crate::generator::{Answer, AnsweredFact, Citation, Context, Evidence, GenerateError, Generator};
use crate::query::Query;
use eas_tensor::Matrix;
use eas_tensor::kernels::dot;
use eas_text::TextError;
use eas_text::encoder::SentenceEncoder;
use eas_text::lexical::Tokenizer;
use eas_text::values::Date;
use std::collections::BTreeSet;
use std::ops::Range;

/// Understands which attributes of which entities a question asks for, and reads typed claims about them.
#[derive(Debug, Clone)]
pub struct SlotReader {
    extractor: ClaimExtractor,
    /// Attribute names, each with its rows of `phrases`.
    attributes: Vec<(String, Range<usize>)>,
    phrases: Vec<BTreeSet<String>>,
    vectors: Matrix,
}

/// How well an attribute fits a question.
#[derive(Debug, Clone, PartialEq)]
struct Fit<'a> {
    attribute: &'a str,
    /// Half the cosine and half the word coverage of the best phrase.
    score: f64,
    /// Whether a phrase occurs in the question with all its words.
    named: bool,
}

impl SlotReader {
    /// A reader of the extractor's claims. `asked` gives for each attribute (by the name that the extractor uses) words and phrases
    /// with which people ask for it.
    ///
    /// # Errors
    /// The encoder's.
    pub fn new(
        extractor: ClaimExtractor,
        asked: &[(&str, &[&str])],
        encoder: &dyn SentenceEncoder,
    ) -> Result<Self, TextError> {
        let mut attributes = Vec::with_capacity(asked.len());
        let mut texts = Vec::new();
        for (name, phrases) in asked {
            let from = texts.len();
            texts.extend_from_slice(phrases);
            attributes.push(((*name).to_owned(), from..texts.len()));
        }
        Ok(Self {
            extractor,
            attributes,
            phrases: texts.iter().map(|t| word_set(t)).collect(),
            vectors: encoder.encode(&texts)?,
        })
    }

    /// Attributes by how well they fit the question, best first.
    fn fits(&self, query: &Query, encoder: &dyn SentenceEncoder) -> Result<Vec<Fit<'_>>, TextError> {
        let names: BTreeSet<String> = query.entities.iter().flat_map(|e| Tokenizer::AnyWord.tokens(e)).collect();
        let words: Vec<String> =
            Tokenizer::AnyWord.tokens(&query.text).into_iter().filter(|w| !names.contains(w)).collect();
        let question = encoder.encode(&[&words.join(" ")])?;
        let words: BTreeSet<String> = words.into_iter().collect();
        let mut fits: Vec<Fit<'_>> = self
            .attributes
            .iter()
            .map(|(attribute, rows)| {
                let mut fit = Fit { attribute, score: 0.0, named: false };
                for row in rows.clone() {
                    let phrase = &self.phrases[row];
                    let covered =
                        phrase.iter().filter(|w| words.contains(*w)).count() as f64 / phrase.len().max(1) as f64;
                    let cosine = f64::from(dot(question.row(0), self.vectors.row(row))).max(0.0);
                    fit.score = fit.score.max(0.5 * cosine + 0.5 * covered);
                    fit.named |= covered == 1.0;
                }
                fit
            })
            .collect();
        fits.sort_by(|a, b| b.score.total_cmp(&a.score));
        Ok(fits)
    }

    /// The claims of the contexts about (`entity`, `attribute`).
    fn claims(&self, entity: &str, attribute: &str, contexts: &[Context], undated: Date) -> Vec<Claim> {
        let lower = entity.to_lowercase();
        let mut claims = Vec::new();
        for context in contexts {
            for (number, sentence) in &context.sentences {
                if !sentence.to_lowercase().contains(&lower) {
                    continue;
                }
                for found in self.extractor.read(sentence) {
                    if found.entity == entity && found.attribute == attribute {
                        claims.push(Claim {
                            entity: entity.to_owned(),
                            attribute: attribute.to_owned(),
                            value: found.value,
                            document: context.document,
                            sentence: *number,
                            date: context.date.unwrap_or(undated),
                            credibility: context.credibility,
                            confidence: found.confidence,
                        });
                    }
                }
            }
        }
        claims
    }
}

/// Answers with the sentences of the contexts that fit the question.
///
/// With a [`SlotReader`] it finds what is asked (which attribute of which entity), weighs the claims about it by credibility, age and
/// extraction confidence ([`resolve`]), quotes the best supporting sentence and gives its value typed. Without one it quotes the
/// sentences nearest to the question. In both cases it abstains when nothing fits well enough.
pub struct ExtractiveGenerator<'a> {
    encoder: &'a dyn SentenceEncoder,
    min_score: f64,
    max_sentences: usize,
    slots: Option<SlotReader>,
}

impl<'a> ExtractiveGenerator<'a> {
    /// A generator that quotes up to `max_sentences` sentences, none whose similarity to the question is below `min_score` or below
    /// nine tenths of the best one's.
    ///
    /// # Errors
    /// A `min_score` that isn't a number, or `max_sentences = 0`.
    pub fn new(encoder: &'a dyn SentenceEncoder, min_score: f64, max_sentences: usize) -> Result<Self, GenerateError> {
        if min_score.is_nan() {
            return Err(GenerateError::Argument { name: "min_score", given: "NaN".into(), expected: "a number" });
        }
        if max_sentences == 0 {
            return Err(GenerateError::Argument { name: "max_sentences", given: "0".into(), expected: "at least 1" });
        }
        Ok(Self { encoder, min_score, max_sentences, slots: None })
    }

    /// Reads typed facts instead of quoting what is near.
    #[must_use]
    pub fn with_slots(mut self, slots: SlotReader) -> Self {
        self.slots = Some(slots);
        self
    }

    fn quote_nearest(&self, query: &Query, contexts: &[Context]) -> Result<Answer, GenerateError> {
        let places: Vec<(Citation, &str)> = contexts
            .iter()
            .flat_map(|c| {
                c.sentences
                    .iter()
                    .map(|(sentence, text)| (Citation { document: c.document, sentence: *sentence }, text.as_str()))
            })
            .collect();
        let mut texts = vec![query.text.as_str()];
        texts.extend(places.iter().map(|p| p.1));
        let vectors = self.encoder.encode(&texts)?;
        let mut scored: Vec<(f64, usize)> =
            (0..places.len()).map(|i| (f64::from(dot(vectors.row(0), vectors.row(i + 1))), i)).collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let Some(&(best, _)) = scored.first() else {
            return Ok(Answer::abstain());
        };
        let evidence = Evidence { top_score: best, margin: best - scored.get(1).map_or(0.0, |s| s.0), support: 1.0 };
        if best < self.min_score {
            return Ok(Answer { evidence: Evidence { support: 0.0, ..evidence }, ..Answer::abstain() });
        }
        let chosen = scored
            .iter()
            .take(self.max_sentences)
            .take_while(|s| s.0 >= self.min_score.max(0.9 * best))
            .map(|s| places[s.1]);
        let mut answer = Answer { evidence, ..Answer::default() };
        for (citation, text) in chosen {
            quote(&mut answer, citation, text);
        }
        Ok(answer)
    }

    fn read_slots(&self, slots: &SlotReader, query: &Query, contexts: &[Context]) -> Result<Answer, GenerateError> {
        let fits = slots.fits(query, self.encoder)?;
        let Some(best) = fits.first() else {
            return Ok(Answer::abstain());
        };
        // "the price and the weight": a second attribute counts only when it is named as plainly as the first.
        let joined = Tokenizer::AnyWord.tokens(&query.text).iter().any(|w| w == "and");
        let also = fits.get(1).filter(|f| joined && best.named && f.named && f.score >= 0.8 * best.score);
        let next = fits.get(1 + usize::from(also.is_some())).map_or(0.0, |f| f.score);
        let mut evidence = Evidence { top_score: best.score, margin: best.score - next, support: 0.0 };
        let as_of = contexts.iter().filter_map(|c| c.date).max();
        let Some(as_of) = as_of.or_else(|| Date::new(1970, 1, 1)) else {
            return Ok(Answer::abstain());
        };
        let mut resolutions = Vec::new();
        for entity in &query.entities {
            for fit in [Some(best), also].into_iter().flatten() {
                let claims = slots.claims(entity, fit.attribute, contexts, as_of);
                if !claims.is_empty() {
                    let resolution = resolve(&claims, as_of, Weighting::Combined);
                    resolutions.push(resolution.map_err(|e| GenerateError::Evidence(e.to_string()))?);
                }
            }
        }
        let asked = query.entities.len() * (1 + usize::from(also.is_some()));
        evidence.support = resolutions.iter().map(|r| r.share).fold(f64::INFINITY, f64::min).min(1.0);
        // A question of which only a part can be answered is supported by that part.
        evidence.support *= resolutions.len() as f64 / asked.max(1) as f64;
        if resolutions.is_empty() || best.score < self.min_score {
            return Ok(Answer { evidence: Evidence { support: 0.0, ..evidence }, ..Answer::abstain() });
        }
        let mut answer = Answer { evidence, ..Answer::default() };
        for resolution in &resolutions {
            for claim in quoted_claims(resolution) {
                let text = contexts
                    .iter()
                    .filter(|c| c.document == claim.document)
                    .flat_map(|c| &c.sentences)
                    .find(|(n, _)| *n == claim.sentence)
                    .map_or("", |(_, text)| text.as_str());
                quote(&mut answer, Citation { document: claim.document, sentence: claim.sentence }, text);
            }
            if let Some(value) = &resolution.value {
                answer.facts.push(AnsweredFact {
                    entity: resolution.entity.clone(),
                    attribute: resolution.attribute.clone(),
                    value: value.clone(),
                    share: resolution.share,
                });
            }
        }
        Ok(answer)
    }
}

impl Generator for ExtractiveGenerator<'_> {
    fn generate(&self, query: &Query, contexts: &[Context]) -> Result<Answer, GenerateError> {
        match &self.slots {
            Some(slots) => self.read_slots(slots, query, contexts),
            None => self.quote_nearest(query, contexts),
        }
    }
}

/// The claim that weighs most for the answer; of every side when there is no single value.
fn quoted_claims(resolution: &Resolution) -> Vec<&Claim> {
    let exact = resolution.sides.iter().find(|side| Some(&side.value) == resolution.value.as_ref());
    match exact {
        Some(side) => side.claims.first().into_iter().collect(),
        None => resolution.sides.iter().filter_map(|side| side.claims.first()).collect(),
    }
}

fn quote(answer: &mut Answer, citation: Citation, text: &str) {
    if answer.citations.contains(&citation) {
        return;
    }
    if !answer.text.is_empty() {
        answer.text.push(' ');
    }
    answer.text.push_str(text);
    answer.text.push(' ');
    answer.text.push_str(&citation.to_string());
    answer.citations.push(citation);
}

fn word_set(text: &str) -> BTreeSet<String> {
    Tokenizer::AnyWord.tokens(text).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::{AttributeRule, ValueKind};
    use crate::query::QueryProcessor;
    use crate::testing::Words;
    use eas_text::values::{Unit, find_values};

    fn context(document: usize, year: i32, credibility: f64, sentences: &[&str]) -> Context {
        Context {
            document,
            title: String::new(),
            date: Date::new(year, 1, 1),
            credibility,
            sentences: sentences.iter().map(|s| (*s).to_owned()).enumerate().collect(),
        }
    }

    fn answer(question: &str, contexts: &[Context]) -> Answer {
        let names = ["Ember Drone", "Amber Router"];
        let rules = vec![
            AttributeRule::new("price", ["cost*", "price*"], ValueKind::Money),
            AttributeRule::new("weight", ["weigh*"], ValueKind::Quantity(Unit::Kilogram)),
        ];
        let extractor = ClaimExtractor::new(names, rules).expect("valid rules");
        let asked: [(&str, &[&str]); 2] = [("price", &["price", "cost"]), ("weight", &["weight", "how heavy"])];
        let slots = SlotReader::new(extractor, &asked, &Words).expect("the encoder works");
        let generator = ExtractiveGenerator::new(&Words, 0.2, 1).expect("valid").with_slots(slots);
        generator.generate(&QueryProcessor::new(names, None).process(question), contexts).expect("an answer")
    }

    fn world() -> Vec<Context> {
        vec![
            context(3, 2023, 0.9, &["Nothing here.", "The Ember Drone costs $900.", "The Ember Drone weighs 1.2 kg."]),
            context(5, 2020, 0.9, &["The Ember Drone costs $700."]),
            context(8, 2023, 0.9, &["The Amber Router costs $50.", "It weighs 3 kg."]),
        ]
    }

    #[test]
    fn the_weightier_statement_is_quoted_and_typed() {
        let answer = answer("What is the price of the Ember Drone?", &world());
        assert_eq!(answer.text, "The Ember Drone costs $900. [3:1]");
        assert_eq!(answer.citations, [Citation { document: 3, sentence: 1 }]);
        assert_eq!(answer.facts[0].value, find_values("$900")[0].value);
        // Three years are six half-lives and 16 days: 1 / (1 + 0.5^(1096 / 180)).
        assert!((answer.facts[0].share - 0.985_51).abs() < 1e-4, "{}", answer.facts[0].share);
        assert_eq!(answer.evidence.support, answer.facts[0].share);
    }

    #[test]
    fn two_facts_and_two_entities_are_answered_together() {
        let both = answer("What are the price and the weight of the Ember Drone?", &world());
        assert_eq!(both.text, "The Ember Drone costs $900. [3:1] The Ember Drone weighs 1.2 kg. [3:2]");
        let compared = answer("Compare the price of the Ember Drone and the Amber Router.", &world());
        assert_eq!(compared.text, "The Ember Drone costs $900. [3:1] The Amber Router costs $50. [8:0]");
        let half = answer("Compare the weight of the Ember Drone and the Amber Router.", &world());
        assert_eq!(half.facts.len(), 1);
        assert_eq!(half.evidence.support, 0.5, "half of what was asked for");
    }

    #[test]
    fn what_no_context_states_is_not_answered() {
        for question in [
            "What is the weight of the Amber Router?",
            "What is the price of the Garnet Lamp?",
            "What is the price?",
            "Tell me a joke about the Ember Drone",
            "",
        ] {
            assert!(answer(question, &world()).abstained, "{question}");
        }
        assert!(answer("What is the price of the Ember Drone?", &[]).abstained);
        let plain = ExtractiveGenerator::new(&Words, 0.5, 2).expect("valid");
        assert!(plain.generate(&Query::plain("price"), &[]).expect("an answer").abstained);
        assert!(plain.generate(&Query::plain("whales"), &world()).expect("an answer").abstained);
    }

    #[test]
    fn evidence_that_cannot_be_weighed_is_an_error() {
        let names = ["Ember Drone"];
        let rules = vec![AttributeRule::new("price", ["cost*"], ValueKind::Money)];
        let extractor = ClaimExtractor::new(names, rules).expect("valid rules");
        let slots = SlotReader::new(extractor, &[("price", &["cost"])], &Words).expect("the encoder works");
        let generator = ExtractiveGenerator::new(&Words, 0.0, 1).expect("valid").with_slots(slots);
        let query = QueryProcessor::new(names, None).process("cost of the Ember Drone");
        let error = generator.generate(&query, &[context(0, 2023, f64::NAN, &["The Ember Drone costs $9."])]);
        assert!(error.is_err_and(|e| e.to_string().contains("NaN")));
    }
}
