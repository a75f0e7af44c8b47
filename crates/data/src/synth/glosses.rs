//! A retrieval bench from WordNet: documents are noun synsets, queries are their definitions, thinned and reworded.

use crate::DataError;
use crate::wordnet::{Pos, Synset, WordNet};
use eas_tensor::rng::SplitMix64;
use std::collections::{BTreeMap, BTreeSet};

/// Sizes of a gloss bench.
#[derive(Debug, Clone)]
pub struct GlossConfig {
    /// Number of documents, drawn from the 82,115 nouns; at most all of them.
    pub documents: usize,
    /// Number of queries with one known answer.
    pub known_item: usize,
    /// Number of one-word queries with several meanings.
    pub ambiguous: usize,
    /// Least number of documents that an ambiguous word must name.
    pub senses: usize,
    /// Seed of the streams.
    pub seed: u64,
}

impl Default for GlossConfig {
    /// 20,000 documents, 300 known-item queries, 60 ambiguous ones of at least 4 senses, seed 7.
    fn default() -> Self {
        Self { documents: 20_000, known_item: 300, ambiguous: 60, senses: 4, seed: 7 }
    }
}

/// A query made from one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownItem {
    /// Words in the order of the gloss.
    pub text: String,
    /// Index of the only relevant document.
    pub document: usize,
}

/// A word with several meanings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ambiguous {
    /// The word.
    pub text: String,
    /// The documents that have it as a lemma, ascending.
    pub senses: Vec<usize>,
}

/// Documents with the queries made from them.
#[derive(Debug, Clone)]
pub struct GlossBench {
    /// `lemma, lemma: gloss` of each document, in synset order.
    pub documents: Vec<String>,
    /// Synset id of each document.
    pub synsets: Vec<u32>,
    /// Known-item queries.
    pub known_items: Vec<KnownItem>,
    /// Ambiguous queries, in alphabetical order.
    pub ambiguous: Vec<Ambiguous>,
}

impl GlossBench {
    /// Draws the documents, then a known-item query from each of `known_item` of them: the content words of its gloss without its
    /// own lemmas, half of them dropped, and half of the rest replaced by a synonym where WordNet has one. Only glosses that leave
    /// at least 3 words are used. `is_stop_word` says which lower-case words carry no content.
    ///
    /// An error when there are fewer nouns, usable glosses or ambiguous words than asked for.
    pub fn generate(
        wordnet: &WordNet,
        config: &GlossConfig,
        is_stop_word: impl Fn(&str) -> bool,
    ) -> Result<Self, DataError> {
        let nouns: Vec<u32> =
            (wordnet.synsets().iter()).filter(|synset| synset.pos == Pos::Noun).map(|synset| synset.id).collect();
        at_most("documents", config.documents, nouns.len())?;
        let mut picks = SplitMix64::stream(config.seed, 0).sample_indices(nouns.len(), config.documents);
        picks.sort_unstable();
        let synsets: Vec<u32> = picks.into_iter().map(|i| nouns[i]).collect();
        let synset = |document: usize| &wordnet.synsets()[synsets[document] as usize];
        let mut bench = Self {
            documents: (0..synsets.len()).map(|d| document_text(synset(d))).collect(),
            known_items: Vec::with_capacity(config.known_item),
            ambiguous: Vec::new(),
            synsets: synsets.clone(),
        };
        let mut rng = SplitMix64::stream(config.seed, 1);
        let mut order: Vec<usize> = (0..synsets.len()).collect();
        rng.shuffle(&mut order);
        for document in order {
            if bench.known_items.len() == config.known_item {
                break;
            }
            if let Some(text) = degraded_gloss(wordnet, synset(document), &is_stop_word, &mut rng) {
                bench.known_items.push(KnownItem { text, document });
            }
        }
        at_most("known-item queries", config.known_item, bench.known_items.len())?;

        let mut named: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for document in 0..synsets.len() {
            for lemma in synset(document).lemmas.iter().map(|l| l.to_lowercase()).collect::<BTreeSet<_>>() {
                named.entry(lemma).or_default().push(document);
            }
        }
        let words: Vec<(String, Vec<usize>)> =
            named.into_iter().filter(|(_, documents)| documents.len() >= config.senses).collect();
        at_most("ambiguous queries", config.ambiguous, words.len())?;
        let mut picks = SplitMix64::stream(config.seed, 2).sample_indices(words.len(), config.ambiguous);
        picks.sort_unstable();
        bench.ambiguous =
            (picks.into_iter()).map(|i| Ambiguous { text: words[i].0.clone(), senses: words[i].1.clone() }).collect();
        Ok(bench)
    }
}

fn at_most(what: &'static str, asked: usize, available: usize) -> Result<(), DataError> {
    if asked <= available {
        return Ok(());
    }
    Err(DataError::Argument {
        what,
        given: format!("{asked} of {available} possible"),
        expected: "a number that the synsets can supply",
    })
}

/// `lemma, lemma: gloss`.
pub fn document_text(synset: &Synset) -> String {
    format!("{}: {}", synset.lemmas.join(", "), synset.gloss)
}

/// Half of the content words of a gloss, half of these as synonyms; `None` when fewer than 3 words would be left.
fn degraded_gloss(
    wordnet: &WordNet,
    synset: &Synset,
    is_stop_word: &impl Fn(&str) -> bool,
    rng: &mut SplitMix64,
) -> Option<String> {
    let own: BTreeSet<String> = synset.lemmas.iter().flat_map(|lemma| words(lemma)).collect();
    let mut content: Vec<String> = Vec::new();
    for word in words(&synset.gloss) {
        if word.len() > 1 && !is_stop_word(&word) && !own.contains(&word) && !content.contains(&word) {
            content.push(word);
        }
    }
    let kept = content.len().div_ceil(2);
    if kept < 3 {
        return None;
    }
    let mut places = rng.sample_indices(content.len(), kept);
    // The first half of the random order is reworded, then the order of the gloss is restored.
    let reworded: BTreeSet<usize> = places[..kept / 2].iter().copied().collect();
    places.sort_unstable();
    let query = places.into_iter().map(|i| {
        let synonym = reworded.contains(&i).then(|| synonym(wordnet, &content[i], &own)).flatten();
        synonym.unwrap_or_else(|| content[i].clone())
    });
    Some(query.collect::<Vec<_>>().join(" "))
}

/// Another lemma of the most frequent sense of `word` that has one, without words of `own`.
fn synonym(wordnet: &WordNet, word: &str, own: &BTreeSet<String>) -> Option<String> {
    (wordnet.by_lemma(word).iter())
        .flat_map(|&id| &wordnet.synsets()[id as usize].lemmas)
        .map(|lemma| lemma.to_lowercase())
        .find(|lemma| {
            let parts: Vec<String> = words(lemma).collect();
            !parts.iter().any(|part| part == word || own.contains(part))
        })
}

/// Lower-case runs of letters and digits.
fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stop(word: &str) -> bool {
        ["a", "an", "the", "of", "or", "and", "in", "to", "for", "with", "by", "that", "is", "as", "on", "from"]
            .contains(&word)
    }

    #[test]
    fn queries_follow_the_recipe() {
        let wordnet = WordNet::load().unwrap();
        let bench = GlossBench::generate(&wordnet, &GlossConfig::default(), stop).unwrap();
        assert_eq!((bench.documents.len(), bench.known_items.len(), bench.ambiguous.len()), (20_000, 300, 60));
        let (mut shared, mut total) = (0, 0);
        for query in &bench.known_items {
            let synset = &wordnet.synsets()[bench.synsets[query.document] as usize];
            let own: BTreeSet<String> = synset.lemmas.iter().flat_map(|l| words(l)).collect();
            let gloss: BTreeSet<String> = words(&synset.gloss).collect();
            assert!(words(&query.text).all(|word| !own.contains(&word)), "{query:?}");
            shared += words(&query.text).filter(|word| gloss.contains(word)).count();
            total += words(&query.text).count();
        }
        let share = shared as f64 / total as f64;
        assert!((0.4..0.8).contains(&share), "{share} of the query words are in the gloss");
        for query in &bench.ambiguous {
            assert!(query.senses.len() >= 4);
            for &document in &query.senses {
                assert!(bench.documents[document].to_lowercase().contains(&query.text));
            }
        }
        let again = GlossBench::generate(&wordnet, &GlossConfig::default(), stop).unwrap();
        assert_eq!(bench.known_items, again.known_items);
        assert_eq!(bench.ambiguous, again.ambiguous);
        let too_many = GlossConfig { documents: 100_000, ..GlossConfig::default() };
        let error = GlossBench::generate(&wordnet, &too_many, stop).unwrap_err();
        assert!(error.to_string().contains("100000 of 82115"), "{error}");
        let none = GlossConfig { documents: 0, known_item: 1, ..GlossConfig::default() };
        assert!(GlossBench::generate(&wordnet, &none, stop).is_err());
    }
}
