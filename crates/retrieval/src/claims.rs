//! From sentences to typed claims: who, which attribute, what value, said where and when.
//!
//! A claim needs three things in one sentence: a known entity, a cue word of an attribute, and a value of that attribute's kind.
//! Values are compared in the normal form of [`eas_text::values`], so "$1,299" and "1299.00 USD" are one value.

use crate::RetrievalError;
use eas_text::values::{Date, Polarity, Unit, Value, find_members, find_values};
use std::ops::Range;

/// What kind of value an attribute has, and how it is found in a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueKind {
    /// An amount of money.
    Money,
    /// An amount in this base unit.
    Quantity(Unit),
    /// A day.
    Date,
    /// The members of this vocabulary that the sentence names.
    Set(Vec<String>),
    /// The words between the last of these lead words (such as "is" and "in") and the end of the sentence.
    Text(Vec<String>),
    /// A judgement, from words of praise and complaint.
    Opinion,
}

/// An attribute that claims can be about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttributeRule {
    /// Its name.
    pub name: String,
    /// Words or phrases, one of which the sentence must contain; lower case. A cue that ends in `*` matches longer words too.
    pub cues: Vec<String>,
    /// The kind of its values.
    pub kind: ValueKind,
}

impl AttributeRule {
    /// A rule from its parts.
    pub fn new<'a>(name: &str, cues: impl IntoIterator<Item = &'a str>, kind: ValueKind) -> Self {
        Self { name: name.to_owned(), cues: cues.into_iter().map(str::to_lowercase).collect(), kind }
    }
}

/// A document as a source of claims.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a, S> {
    /// The caller's id.
    pub document: usize,
    /// When it was written.
    pub date: Date,
    /// How far it is believed, in `[0, 1]`.
    pub credibility: f64,
    /// Its sentences in order.
    pub sentences: &'a [S],
}

/// One statement of one source.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// The entity, as the gazetteer spells it.
    pub entity: String,
    /// The attribute's name.
    pub attribute: String,
    /// The value in normal form.
    pub value: Value,
    /// The document's id.
    pub document: usize,
    /// The sentence's position in the document, from 0.
    pub sentence: usize,
    /// When the document was written.
    pub date: Date,
    /// How far the document is believed, in `[0, 1]`.
    pub credibility: f64,
    /// How sure the extraction is, in `[0, 1]`: 1 when the sentence names one entity and one value of the kind; 0.8 for each of
    /// the two that had to be chosen among several.
    pub confidence: f64,
}

/// What remains of the confidence when an entity or a value was chosen among several.
const CHOSEN: f64 = 0.8;

const PRAISE: [&str; 20] = [
    "easy",
    "quick",
    "pleasure",
    "simple",
    "well",
    "good",
    "great",
    "excellent",
    "smooth",
    "fast",
    "reliable",
    "clear",
    "comfortable",
    "effortless",
    "intuitive",
    "love",
    "perfect",
    "straightforward",
    "handy",
    "nice",
];
const COMPLAINT: [&str; 20] = [
    "slow",
    "frustrating",
    "nightmare",
    "confusing",
    "badly",
    "bad",
    "poor",
    "terrible",
    "hard",
    "difficult",
    "awful",
    "unreliable",
    "unclear",
    "painful",
    "clumsy",
    "hate",
    "tedious",
    "annoying",
    "complicated",
    "broken",
];
const NEGATION: [&str; 6] = ["not", "never", "no", "hardly", "isn't", "wasn't"];

/// Finds claims about known entities and attributes.
#[derive(Debug, Clone)]
pub struct ClaimExtractor {
    /// Each entity with its lower-case words.
    entities: Vec<(String, Vec<String>)>,
    attributes: Vec<AttributeRule>,
}

impl ClaimExtractor {
    /// An extractor for these entity names and attributes.
    ///
    /// # Errors
    /// An entity without a word, or an attribute without a cue.
    pub fn new<S: AsRef<str>>(
        entities: impl IntoIterator<Item = S>,
        attributes: Vec<AttributeRule>,
    ) -> Result<Self, RetrievalError> {
        let entities: Vec<(String, Vec<String>)> = entities
            .into_iter()
            .map(|name| {
                let words = words(name.as_ref()).into_iter().map(|word| word.text).collect();
                (name.as_ref().to_owned(), words)
            })
            .collect();
        if let Some((name, _)) = entities.iter().find(|(_, words)| words.is_empty()) {
            return Err(RetrievalError::argument("entity", &format!("{name:?}"), "a name with a word in it"));
        }
        if let Some(rule) = attributes.iter().find(|rule| rule.cues.iter().all(|cue| cue.trim().is_empty())) {
            return Err(RetrievalError::argument("cues", &format!("none for {:?}", rule.name), "at least one cue"));
        }
        Ok(Self { entities, attributes })
    }

    /// The claims of a document, by sentence and then in the order of the attributes.
    pub fn extract<S: AsRef<str>>(&self, source: &Source<'_, S>) -> Vec<Claim> {
        let mut claims = Vec::new();
        for (number, sentence) in source.sentences.iter().enumerate() {
            for found in self.read(sentence.as_ref()) {
                claims.push(Claim {
                    entity: found.entity.to_owned(),
                    attribute: found.attribute.to_owned(),
                    value: found.value,
                    document: source.document,
                    sentence: number,
                    date: source.date,
                    credibility: source.credibility,
                    confidence: found.confidence,
                });
            }
        }
        claims
    }

    /// What one sentence states.
    pub fn read(&self, sentence: &str) -> Vec<Statement<'_>> {
        let words = words(sentence);
        let mentions = self.mentions(&words);
        if mentions.is_empty() {
            return Vec::new();
        }
        let mut statements = Vec::new();
        for rule in &self.attributes {
            let Some(cue) = rule.cues.iter().find_map(|cue| find_cue(&words, cue)) else {
                continue;
            };
            let Some((value, at, candidates)) = find_value(rule, sentence, &words, &cue) else {
                continue;
            };
            // The entity named last before the value; where there is none, the first after it.
            let Some((entity, _)) =
                mentions.iter().min_by_key(|(_, span)| (span.start > at.start, distance(span, &at)))
            else {
                continue;
            };
            let mut confidence = 1.0;
            if mentions.iter().any(|(other, _)| other != entity) {
                confidence *= CHOSEN;
            }
            if candidates > 1 {
                confidence *= CHOSEN;
            }
            statements.push(Statement { entity: &self.entities[*entity].0, attribute: &rule.name, value, confidence });
        }
        statements
    }

    /// Where entities are named, the longest name at each place.
    fn mentions(&self, words: &[Word]) -> Vec<(usize, Range<usize>)> {
        let mut mentions = Vec::new();
        let mut at = 0;
        while at < words.len() {
            let named = |(_, name): &(usize, &Vec<String>)| {
                words.len() - at >= name.len() && name.iter().zip(&words[at..]).all(|(a, b)| *a == b.text)
            };
            let longest = self
                .entities
                .iter()
                .map(|(_, name)| name)
                .enumerate()
                .filter(named)
                .max_by_key(|(id, name)| (name.len(), std::cmp::Reverse(*id)));
            match longest {
                Some((id, name)) => {
                    let last = at + name.len() - 1;
                    mentions.push((id, words[at].span.start..words[last].span.end));
                    at = last + 1;
                }
                None => at += 1,
            }
        }
        mentions
    }
}

/// What a sentence says, before it is known who says it.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement<'a> {
    /// The entity's name.
    pub entity: &'a str,
    /// The attribute's name.
    pub attribute: &'a str,
    /// The value in normal form.
    pub value: Value,
    /// See [`Claim::confidence`].
    pub confidence: f64,
}

struct Word {
    text: String,
    span: Range<usize>,
}

/// Runs of letters, digits and inner apostrophes, lower case.
fn words(text: &str) -> Vec<Word> {
    let mut out = Vec::new();
    let mut start = None;
    for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
        let inside = c.is_alphanumeric() || (c == '\'' && start.is_some());
        match (inside, start) {
            (true, None) => start = Some(at),
            (false, Some(from)) => {
                out.push(Word { text: text[from..at].to_lowercase(), span: from..at });
                start = None;
            }
            _ => {}
        }
    }
    out
}

/// The byte range of a cue phrase in the sentence.
fn find_cue(sentence: &[Word], cue: &str) -> Option<Range<usize>> {
    let parts: Vec<&str> = cue.split_whitespace().collect();
    if parts.is_empty() {
        return None;
    }
    let matches = |(word, part): (&Word, &&str)| match part.strip_suffix('*') {
        Some(stem) => word.text.starts_with(stem),
        None => word.text == **part,
    };
    sentence
        .windows(parts.len())
        .find(|run| run.iter().zip(&parts).all(matches))
        .map(|run| run[0].span.start..run[parts.len() - 1].span.end)
}

/// The value of the rule's kind nearest to the cue, where it stands, and how many different ones there were.
fn find_value(
    rule: &AttributeRule,
    sentence: &str,
    words: &[Word],
    cue: &Range<usize>,
) -> Option<(Value, Range<usize>, usize)> {
    match &rule.kind {
        ValueKind::Set(vocabulary) => {
            let names: Vec<&str> = vocabulary.iter().map(String::as_str).collect();
            Some((find_members(sentence, &names)?, cue.clone(), 1))
        }
        ValueKind::Text(leads) => {
            let lead = words.iter().rev().find(|word| leads.contains(&word.text))?;
            let rest = sentence[lead.span.end..].trim_matches(|c: char| !c.is_alphanumeric());
            let at = lead.span.end..sentence.len();
            (!rest.is_empty()).then(|| (Value::text(rest), at, 1))
        }
        ValueKind::Opinion => Some((Value::Opinion(polarity(words)?), cue.clone(), 1)),
        kind => {
            let fits = |value: &Value| match (kind, value) {
                (ValueKind::Money, Value::Money { .. }) | (ValueKind::Date, Value::Date(_)) => true,
                (ValueKind::Quantity(unit), Value::Quantity { unit: own, .. }) => unit == own,
                _ => false,
            };
            let mut found = find_values(sentence);
            found.retain(|f| fits(&f.value));
            let nearest = found.iter().min_by_key(|f| distance(&f.span, cue))?.clone();
            let others = found.iter().filter(|f| f.value != nearest.value).count();
            Some((nearest.value, nearest.span, 1 + others))
        }
    }
}

/// Bytes between two ranges; 0 when they touch or overlap.
fn distance(a: &Range<usize>, b: &Range<usize>) -> usize {
    b.start.saturating_sub(a.end).max(a.start.saturating_sub(b.end))
}

/// The direction of the words of judgement, each turned round by a negation within the two words before it; `None` when there is none
/// or they balance.
fn polarity(words: &[Word]) -> Option<Polarity> {
    let mut sum = 0i32;
    for (i, word) in words.iter().enumerate() {
        let own = i32::from(PRAISE.contains(&word.text.as_str())) - i32::from(COMPLAINT.contains(&word.text.as_str()));
        let negated = words[i.saturating_sub(2)..i].iter().any(|w| NEGATION.contains(&w.text.as_str()));
        sum += if negated { -own } else { own };
    }
    match sum.signum() {
        1 => Some(Polarity::Positive),
        -1 => Some(Polarity::Negative),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extractor() -> ClaimExtractor {
        let rules = vec![
            AttributeRule::new("price", ["cost*", "price*", "buy"], ValueKind::Money),
            AttributeRule::new("memory", ["memory", "ram"], ValueKind::Quantity(Unit::Gigabyte)),
            AttributeRule::new("warranty", ["warranty", "guarantee*"], ValueKind::Quantity(Unit::Month)),
            AttributeRule::new("release", ["released", "on sale"], ValueKind::Date),
            AttributeRule::new("protocols", ["support*"], ValueKind::Set(vec!["Wi-Fi".into(), "NFC".into()])),
            AttributeRule::new("colour", ["colour", "comes in"], ValueKind::Text(vec!["in".into(), "is".into()])),
            AttributeRule::new("setup", ["setup", "setting up"], ValueKind::Opinion),
        ];
        ClaimExtractor::new(["Ember Drone", "Ember Drone Pro", "Amber Router"], rules).unwrap()
    }

    fn read(sentence: &str) -> Vec<(String, String, String, f64)> {
        let extractor = extractor();
        let statements = extractor.read(sentence).into_iter();
        statements.map(|s| (s.entity.to_owned(), s.attribute.to_owned(), s.value.to_string(), s.confidence)).collect()
    }

    fn one(entity: &str, attribute: &str, value: &str, confidence: f64) -> Vec<(String, String, String, f64)> {
        vec![(entity.into(), attribute.into(), value.into(), confidence)]
    }

    #[test]
    fn each_kind_of_value_is_read() {
        let e = "Ember Drone";
        assert_eq!(read("The Ember Drone costs $1,299."), one(e, "price", "1299.00 USD", 1.0));
        assert_eq!(read("The ember drone has 1 TB of RAM."), one(e, "memory", "1000 GB", 1.0));
        assert_eq!(read("The warranty of the Ember Drone ends after two years."), one(e, "warranty", "24 months", 1.0));
        assert_eq!(read("The Ember Drone has been on sale since June 1, 2023."), one(e, "release", "2023-06-01", 1.0));
        assert_eq!(read("The Ember Drone supports NFC and wifi."), one(e, "protocols", "{nfc, wifi}", 1.0));
        assert_eq!(read("The Ember Drone comes in ruby red."), one(e, "colour", "ruby red", 1.0));
        assert_eq!(read("Setting up the Ember Drone was a nightmare."), one(e, "setup", "negative", 1.0));
        assert_eq!(read("The setup of the Ember Drone is not easy."), one(e, "setup", "negative", 1.0));
    }

    #[test]
    fn entity_cue_and_value_must_all_be_there() {
        for sentence in [
            "",
            "It costs $1,299.",
            "The Ember Drone is $1,299 heavier on the purse.",
            "The Ember Drone costs a fortune.",
            "The price of the Ember Drone is 20 kg.",
            "The Remember Drone costs $5.",
            "The setup of the Ember Drone is easy and slow.",
        ] {
            assert_eq!(read(sentence), [], "{sentence}");
        }
    }

    #[test]
    fn choices_lower_the_confidence() {
        assert_eq!(
            read("The Ember Drone Pro costs $1,500, the Amber Router is elsewhere."),
            one("Ember Drone Pro", "price", "1500.00 USD", CHOSEN)
        );
        assert_eq!(
            read("The Ember Drone costs $900, down from $1,000."),
            one("Ember Drone", "price", "900.00 USD", CHOSEN)
        );
    }

    #[test]
    fn claims_carry_their_source() {
        let date = Date::new(2024, 1, 15).unwrap();
        let sentences = ["Nothing here.", "The Amber Router costs 1299.00 USD."];
        let source = Source { document: 7, date, credibility: 0.9, sentences: &sentences };
        let claims = extractor().extract(&source);
        assert_eq!(claims.len(), 1);
        assert_eq!((claims[0].document, claims[0].sentence, claims[0].credibility), (7, 1, 0.9));
        assert_eq!(claims[0].date, date);
    }

    #[test]
    fn improper_rules_are_refused() {
        assert!(ClaimExtractor::new(["..."], vec![]).is_err());
        let rule = AttributeRule::new("price", [], ValueKind::Money);
        assert!(ClaimExtractor::new(["Ember"], vec![rule]).unwrap_err().to_string().contains("price"));
    }
}
