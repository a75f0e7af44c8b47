//! What a question asks for: intent, entities, filters, content terms, and other ways to ask it.

use eas_data::wordnet::{Pos, WordNet};
use eas_text::lexical::Tokenizer;
use eas_text::stopwords::is_stopword;
use std::collections::BTreeSet;
use std::fmt;

/// What kind of answer is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Intent {
    /// A fact.
    Factual,
    /// Instructions.
    HowTo,
    /// Two things side by side.
    Comparison,
    /// Reasons.
    Explanation,
    /// An enumeration.
    List,
}

impl Intent {
    /// All intents.
    pub const ALL: [Self; 5] = [Self::Factual, Self::HowTo, Self::Comparison, Self::Explanation, Self::List];

    /// The intent of a question: the first of comparison, how-to, explanation and list of which a pattern occurs as whole words,
    /// else factual.
    ///
    /// ```
    /// use eas_retrieval::query::Intent;
    ///
    /// assert_eq!(Intent::of("IVF vs HNSW"), Intent::Comparison);
    /// assert_eq!(Intent::of("Do the TVs ship with HDMI 2.1?"), Intent::Factual);
    /// ```
    pub fn of(question: &str) -> Self {
        let words = words(question);
        let says = |patterns: &[&str]| patterns.iter().any(|pattern| contains_phrase(&words, pattern));
        let starts = |patterns: &[&str]| patterns.iter().any(|pattern| starts_with_phrase(&words, pattern));
        if says(&[
            "vs",
            "versus",
            "compare",
            "compared",
            "comparison",
            "difference",
            "differences",
            "differ",
            "better than",
        ]) {
            Self::Comparison
        } else if says(&[
            "how do i",
            "how do you",
            "how do we",
            "how can i",
            "how can we",
            "how should i",
            "how to",
            "steps to",
        ]) {
            Self::HowTo
        } else if starts(&["why", "explain", "what causes", "what is the reason"])
            || says(&["why does", "why do", "why is", "why are", "reason for", "reasons for"])
        {
            Self::Explanation
        } else if starts(&["list", "name", "enumerate", "what are the", "which are the"])
            || says(&["list all", "list the", "list of", "types of", "kinds of", "examples of"])
        {
            Self::List
        } else {
            Self::Factual
        }
    }
}

impl fmt::Display for Intent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Factual => "factual",
            Self::HowTo => "how-to",
            Self::Comparison => "comparison",
            Self::Explanation => "explanation",
            Self::List => "list",
        })
    }
}

/// What a document must satisfy to be returned at all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filters {
    /// The author, compared without regard to case.
    pub author: Option<String>,
    /// First year, inclusive.
    pub from_year: Option<i32>,
    /// Last year, inclusive.
    pub to_year: Option<i32>,
}

impl Filters {
    /// True when nothing is demanded.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a document by `author` of `year` passes; a document that doesn't know what is demanded fails.
    pub fn admits(&self, author: Option<&str>, year: Option<i32>) -> bool {
        self.author.as_ref().is_none_or(|wanted| author.is_some_and(|a| a.to_lowercase() == wanted.to_lowercase()))
            && self.from_year.is_none_or(|from| year.is_some_and(|y| y >= from))
            && self.to_year.is_none_or(|to| year.is_some_and(|y| y <= to))
    }

    /// The filters that a question states: "by John Smith", "from 2023" or "in 2023" (that year), "since 2021" (that year or later),
    /// "between 2019 and 2021".
    ///
    /// ```
    /// use eas_retrieval::query::Filters;
    ///
    /// let filters = Filters::of("papers by John Smith from 2023");
    /// assert_eq!(filters.author.as_deref(), Some("John Smith"));
    /// assert_eq!((filters.from_year, filters.to_year), (Some(2023), Some(2023)));
    /// assert!(Filters::of("standby time of the Ember Drone").is_empty());
    /// ```
    pub fn of(question: &str) -> Self {
        let tokens: Vec<&str> = question.split_whitespace().collect();
        let lower: Vec<String> = tokens.iter().map(|t| strip(t).to_lowercase()).collect();
        let mut filters = Self::default();
        for (at, word) in lower.iter().enumerate() {
            let year_at = |i: usize| lower.get(i).and_then(|w| year(w));
            match word.as_str() {
                "in" | "from" => {
                    if let Some(y) = year_at(at + 1) {
                        (filters.from_year, filters.to_year) = (Some(y), Some(y));
                    }
                }
                "since" => filters.from_year = year_at(at + 1).or(filters.from_year),
                "between" => {
                    if let (Some(a), Some("and"), Some(b)) =
                        (year_at(at + 1), lower.get(at + 2).map(String::as_str), year_at(at + 3))
                    {
                        (filters.from_year, filters.to_year) = (Some(a.min(b)), Some(a.max(b)));
                    }
                }
                "by" if filters.author.is_none() => {
                    let mut name: Vec<&str> = Vec::new();
                    for token in tokens[at + 1..].iter().take(3) {
                        if !strip(token).starts_with(char::is_uppercase) {
                            break;
                        }
                        name.push(strip(token));
                        // "by Ada Brook, Ember Drone": punctuation ends the name.
                        if token.ends_with([',', ';', '?', '!', ':', ')']) {
                            break;
                        }
                    }
                    if !name.is_empty() {
                        filters.author = Some(name.join(" "));
                    }
                }
                _ => {}
            }
        }
        filters
    }
}

/// A question, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// As it was asked.
    pub text: String,
    /// What kind of answer is wanted.
    pub intent: Intent,
    /// Names of things: known ones as the gazetteer spells them, then other capitalised spans, in the order of the text.
    pub entities: Vec<String>,
    /// Other ways to ask, none equal to the text or to one another (whatever their case).
    pub expansions: Vec<String>,
    /// What documents must satisfy.
    pub filters: Filters,
    /// Words that carry meaning, lower case, each once, in the order of the text.
    pub content_terms: Vec<String>,
}

impl Query {
    /// A question of which nothing but its words is known: no gazetteer, no expansion, no filter.
    pub fn plain(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            intent: Intent::of(text),
            entities: Vec::new(),
            expansions: Vec::new(),
            filters: Filters::default(),
            content_terms: content_terms(text),
        }
    }
}

/// Turns the text of a question into a [`Query`].
#[derive(Debug)]
pub struct QueryProcessor<'a> {
    /// Names with their words.
    gazetteer: Vec<(String, Vec<String>)>,
    wordnet: Option<&'a WordNet>,
}

/// Most synonyms taken of one term.
const SYNONYMS: usize = 3;

impl<'a> QueryProcessor<'a> {
    /// A processor that knows these entity names; with `wordnet`, expansions use synonyms.
    pub fn new<S: AsRef<str>>(gazetteer: impl IntoIterator<Item = S>, wordnet: Option<&'a WordNet>) -> Self {
        let mut gazetteer: Vec<(String, Vec<String>)> = gazetteer
            .into_iter()
            .map(|name| (name.as_ref().to_owned(), words(name.as_ref())))
            .filter(|(_, w)| !w.is_empty())
            .collect();
        // Longest first, so that the longest name at a place is found first; sorted by words for the binary search of `named_at`.
        gazetteer.sort_by(|a, b| a.1.cmp(&b.1));
        Self { gazetteer, wordnet }
    }

    /// Understands `text`. An empty text gives an empty factual query.
    pub fn process(&self, text: &str) -> Query {
        let intent = Intent::of(text);
        let entities = self.entities(text);
        let content_terms = content_terms(text);
        let filters = Filters::of(text);
        let expansions = self.expansions(text, intent, &entities, &content_terms);
        Query { text: text.to_owned(), intent, entities, expansions, filters, content_terms }
    }

    /// Known names wherever they stand; other capitalised spans unless they begin a sentence.
    fn entities(&self, text: &str) -> Vec<String> {
        let tokens: Vec<&str> = text.split_whitespace().collect();
        let spelled: Vec<String> = tokens.iter().map(|t| words(t).join(" ")).collect();
        let (mut known, mut other): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
        let mut at = 0;
        let mut first = true;
        while at < tokens.len() {
            if let Some((name, used)) = self.named_at(&spelled[at..]) {
                if !known.contains(&name) {
                    known.push(name);
                }
                at += used;
            } else if !first && is_name(tokens[at]) {
                let from = at;
                at += 1;
                while at < tokens.len()
                    && is_name(tokens[at])
                    && !ends_clause(tokens[at - 1])
                    && self.named_at(&spelled[at..]).is_none()
                {
                    at += 1;
                }
                let span = tokens[from..at].iter().map(|t| strip(t)).collect::<Vec<_>>().join(" ");
                if !other.contains(&span) {
                    other.push(span);
                }
            } else {
                at += 1;
            }
            first = at > 0 && tokens.get(at - 1).is_some_and(|t| t.ends_with(['.', '?', '!']));
        }
        known.extend(other);
        known
    }

    /// The longest known name at the start of `spelled`, and how many tokens it takes.
    fn named_at(&self, spelled: &[String]) -> Option<(String, usize)> {
        let mut joined: Vec<String> = Vec::new();
        let mut best = None;
        for (i, token) in spelled.iter().enumerate().take(6) {
            joined.extend(token.split(' ').filter(|w| !w.is_empty()).map(str::to_owned));
            let bare: Vec<String> = match joined.last().map(String::as_str) {
                // "the Ember Drone's battery"
                Some("s") => joined[..joined.len() - 1].to_vec(),
                _ => joined.clone(),
            };
            for candidate in [&joined, &bare] {
                if let Ok(found) = self.gazetteer.binary_search_by(|(_, w)| w.cmp(candidate)) {
                    best = Some((self.gazetteer[found].0.clone(), i + 1));
                }
            }
        }
        best
    }

    fn expansions(&self, text: &str, intent: Intent, entities: &[String], terms: &[String]) -> Vec<String> {
        let subject = terms.join(" ");
        let mut candidates = Vec::new();
        if !subject.is_empty() {
            match intent {
                Intent::Factual => candidates.push(subject.clone()),
                Intent::HowTo => candidates.push(format!("instructions {subject}")),
                Intent::Comparison => {
                    // One question a thing: no document may speak of both.
                    let aside: BTreeSet<String> = entities.iter().flat_map(|e| words(e)).collect();
                    let rest: Vec<&str> = terms.iter().map(String::as_str).filter(|t| !aside.contains(*t)).collect();
                    candidates
                        .extend(entities.iter().map(|entity| format!("{entity} {}", rest.join(" ")).trim().to_owned()));
                }
                Intent::Explanation => candidates.push(format!("reason {subject}")),
                Intent::List => candidates.push(format!("all {subject}")),
            }
        }
        let named: BTreeSet<String> = entities.iter().flat_map(|e| words(e)).collect();
        let synonyms: Vec<(&String, Vec<String>)> = terms
            .iter()
            .filter(|t| !named.contains(*t))
            .map(|t| (t, self.synonyms(t)))
            .filter(|(_, s)| !s.is_empty())
            .collect();
        for n in 0..SYNONYMS {
            let replaced: Vec<&str> = terms
                .iter()
                .map(|term| {
                    synonyms
                        .iter()
                        .find(|(t, s)| *t == term && n < s.len())
                        .map_or(term.as_str(), |(_, s)| s[n].as_str())
                })
                .collect();
            candidates.push(replaced.join(" "));
        }
        let mut seen: BTreeSet<String> = [text.trim().to_lowercase()].into();
        candidates.retain(|c| !c.is_empty() && seen.insert(c.to_lowercase()));
        candidates
    }

    /// Other lemmas of the most frequent noun sense of `term`.
    fn synonyms(&self, term: &str) -> Vec<String> {
        let Some(wordnet) = self.wordnet else { return Vec::new() };
        let sense = wordnet
            .by_lemma(term)
            .iter()
            .filter_map(|&id| wordnet.synsets().get(id as usize))
            .find(|synset| synset.pos == Pos::Noun);
        let lemmas = sense.map_or(&[][..], |synset| synset.lemmas.as_slice());
        lemmas.iter().map(|l| l.to_lowercase()).filter(|l| l != term).take(SYNONYMS).collect()
    }
}

/// Words of two or more characters that are not function words, lower case, each once.
pub fn content_terms(text: &str) -> Vec<String> {
    let mut seen = BTreeSet::new();
    Tokenizer::AnyWord
        .tokens(text)
        .into_iter()
        .filter(|t| !is_stopword(t) && t != "s" && seen.insert(t.clone()))
        .collect()
}

/// Runs of letters and digits, lower case.
fn words(text: &str) -> Vec<String> {
    Tokenizer::AnyWord.tokens(text)
}

fn contains_phrase(words: &[String], phrase: &str) -> bool {
    (0..words.len()).any(|at| starts_with_phrase(&words[at..], phrase))
}

fn starts_with_phrase(words: &[String], phrase: &str) -> bool {
    let mut parts = 0;
    let same = phrase.split(' ').enumerate().all(|(i, part)| {
        parts = i + 1;
        words.get(i).is_some_and(|w| w == part)
    });
    same && parts <= words.len()
}

/// A token without the punctuation around it and without a possessive ending.
fn strip(token: &str) -> &str {
    let bare = token.trim_matches(|c: char| !c.is_alphanumeric());
    bare.strip_suffix("'s").or_else(|| bare.strip_suffix("\u{2019}s")).unwrap_or(bare)
}

fn ends_clause(token: &str) -> bool {
    token.ends_with(['.', ',', ';', ':', '?', '!', ')'])
}

/// A capitalised token that is neither the pronoun "I" nor a function word in title case.
fn is_name(token: &str) -> bool {
    let bare = strip(token);
    bare.starts_with(char::is_uppercase) && !is_stopword(&bare.to_lowercase())
}

/// Four digits between 1000 and 2999.
fn year(word: &str) -> Option<i32> {
    (word.len() == 4 && word.bytes().all(|b| b.is_ascii_digit()))
        .then(|| word.parse().ok())
        .flatten()
        .filter(|y| (1000..3000).contains(y))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intents_need_whole_words_in_their_place() {
        for (question, intent) in [
            ("What is the difference between IVF and HNSW?", Intent::Comparison),
            ("IVF vs HNSW", Intent::Comparison),
            ("Do the TVs ship with HDMI 2.1?", Intent::Factual),
            ("Is because a conjunction?", Intent::Factual),
            ("Who listens on port 443?", Intent::Factual),
            ("How do I rotate an API key?", Intent::HowTo),
            ("Why does recall drop?", Intent::Explanation),
            ("What are the types of index?", Intent::List),
            ("", Intent::Factual),
        ] {
            assert_eq!(Intent::of(question), intent, "{question}");
        }
    }

    #[test]
    fn filters_are_read_and_applied() {
        let both = Filters::of("papers by John Smith from 2023");
        assert_eq!(both, Filters { author: Some("John Smith".into()), from_year: Some(2023), to_year: Some(2023) });
        assert!(both.admits(Some("john SMITH"), Some(2023)));
        assert!(!both.admits(Some("John Smith"), Some(2022)));
        assert!(!both.admits(None, Some(2023)) && !both.admits(Some("John Smith"), None));
        assert!(Filters::of("standby time of the Ember Drone").is_empty());
        assert!(Filters::of("How do I get by?").is_empty());
        assert!(Filters::of("in 12 days from Rome by sea").is_empty());
        let since = Filters::of("What changed since 2021?");
        assert_eq!((since.from_year, since.to_year), (Some(2021), None));
        let between = Filters::of("news between 2021 and 2019");
        assert_eq!((between.from_year, between.to_year), (Some(2019), Some(2021)));
        assert_eq!(Filters::of("notes by Ada Brook, Ember Drone").author.as_deref(), Some("Ada Brook"));
        assert!(Filters::default().admits(None, None));
    }

    #[test]
    fn entities_are_known_names_and_capitalised_spans() {
        let processor = QueryProcessor::new(["Ember Drone", "Ember", "Amber Router"], None);
        let entities = |text| processor.process(text).entities;
        assert_eq!(entities("What does the Ember Drone's battery cost?"), ["Ember Drone"]);
        assert_eq!(entities("How do I rotate an API key?"), ["API"]);
        assert_eq!(entities("is the ember drone better than the Amber Router?"), ["Ember Drone", "Amber Router"]);
        assert_eq!(entities("Amber Router vs Ember: which?"), ["Amber Router", "Ember"]);
        assert_eq!(entities("Who met John Smith, Mary Jones? Then Bob."), ["John Smith", "Mary Jones", "Bob"]);
        assert_eq!(entities("How should I do it?"), Vec::<String>::new());
    }

    #[test]
    fn expansions_differ_from_the_question_and_from_each_other() {
        let wordnet = WordNet::load().expect("WordNet is bundled");
        let processor = QueryProcessor::new(["Ember Drone", "Amber Router"], Some(&wordnet));
        for text in [
            "What is the price of the Ember Drone?",
            "How do I budget for the Ember Drone?",
            "weight ember drone",
            "Compare the price of the Ember Drone and the Amber Router.",
            "Why would the Ember Drone stop?",
            "What are the protocols of the Ember Drone?",
        ] {
            let query = processor.process(text);
            assert_eq!(query.expansions.is_empty(), text.starts_with("weight"), "{query:?}");
            let mut all: Vec<String> = query.expansions.iter().map(|e| e.to_lowercase()).collect();
            all.push(text.to_lowercase());
            let n = all.len();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), n, "{query:?}");
        }
        let price = processor.process("What is the price of the Ember Drone?");
        assert!(price.expansions.contains(&"cost ember drone".to_owned()), "{:?}", price.expansions);
        assert!(processor.process("").expansions.is_empty());
        assert!(processor.process("the of and").expansions.is_empty());
        let compare = processor.process("Compare the price of the Ember Drone and the Amber Router.");
        assert!(
            compare.expansions.iter().any(|e| e.starts_with("Amber Router") && !e.contains("mber Drone")),
            "{compare:?}"
        );
    }

    #[test]
    fn a_long_text_is_no_problem() {
        let text = "Ember Drone by Ada in 2020 ".repeat(20_000);
        let query = QueryProcessor::new(["Ember Drone"], None).process(&text);
        assert!(query.entities.contains(&"Ember Drone".to_owned()));
        assert!(query.content_terms.len() < 10);
    }
}
