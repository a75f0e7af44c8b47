//! Scientific papers with planted topics, vocabularies, citations and authors.

use crate::DataError;
use crate::wordnet::{Pos, WordNet};
use eas_tensor::rng::SplitMix64;
use std::collections::{BTreeMap, BTreeSet};

/// A paper as a library would store it. Who cites it is derived from what others cite, never stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paper {
    /// Identifier.
    pub id: u32,
    /// Title.
    pub title: String,
    /// Abstract.
    pub summary: String,
    /// Names as printed.
    pub authors: Vec<String>,
    /// Year of publication.
    pub year: u32,
    /// Where it appeared.
    pub venue: String,
    /// Ids of the papers it cites.
    pub cites: Vec<u32>,
    /// Names of things it is about, by type ("method", "material").
    pub entities: BTreeMap<String, Vec<String>>,
}

/// Generated papers and what was planted in them.
#[derive(Debug, Clone)]
pub struct PaperSet {
    /// The papers; ids are positions, older papers first.
    pub papers: Vec<Paper>,
    /// Topic of each paper, a position in [`TOPICS`].
    pub topics: Vec<usize>,
    /// Whether the paper is written in the dialect of its topic, whose words occur in no ordinary paper.
    pub dialect: Vec<bool>,
    /// The person behind each author name of each paper; some names belong to two persons.
    pub persons: Vec<Vec<usize>>,
    /// The ordinary words of each topic.
    pub vocabulary: Vec<Vec<String>>,
    /// Every spelling of each entity, the canonical one first.
    pub spellings: Vec<Vec<String>>,
}

/// The WordNet lexicographer files that lend the topics their words.
pub const TOPICS: [&str; 12] = [
    "noun.animal",
    "noun.plant",
    "noun.food",
    "noun.body",
    "noun.substance",
    "noun.artifact",
    "noun.feeling",
    "noun.communication",
    "noun.phenomenon",
    "noun.location",
    "noun.possession",
    "noun.event",
];

const TOPIC_WORDS: usize = 40;
const COMMON_WORDS: usize = 200;
const PERSONS_A_TOPIC: usize = 12;
const SHARED_NAMES: usize = 10;

/// `count` papers of 2005 to 2024, spread evenly over [`TOPICS`]. An abstract has 25 words of its topic and 35 common ones;
/// every fifth paper of a topic writes the topic words in an opaque code of that topic. Each paper cites up to 6 earlier
/// ones, 85% within its topic, the often cited more often. Three authors come from a group of four, with now and then a
/// guest; ten names are shared by two persons of different topics.
pub fn papers(count: usize, seed: u64) -> Result<PaperSet, DataError> {
    if count < TOPICS.len() {
        return Err(DataError::Argument {
            what: "number of papers",
            given: count.to_string(),
            expected: "at least one for each of the 12 topics",
        });
    }
    let mut rng = SplitMix64::new(seed);
    let (vocabulary, common) = words(&mut rng)?;
    let codes: Vec<Vec<String>> = vocabulary
        .iter()
        .map(|words| words.iter().map(|_| format!("zq{:08x}", rng.next_u64() >> 32)).collect())
        .collect();
    let spellings = entity_spellings(&vocabulary);
    let names = names(&mut rng);

    // Topics and dialects in equal shares, in random order.
    let mut kinds: Vec<(usize, bool)> =
        (0..count).map(|i| (i % TOPICS.len(), (i / TOPICS.len()).is_multiple_of(5))).collect();
    rng.shuffle(&mut kinds);

    let mut citations = vec![0usize; count];
    let mut set = PaperSet {
        papers: Vec::with_capacity(count),
        topics: kinds.iter().map(|k| k.0).collect(),
        dialect: kinds.iter().map(|k| k.1).collect(),
        persons: Vec::with_capacity(count),
        vocabulary,
        spellings,
    };
    for (id, &(topic, dialect)) in kinds.iter().enumerate() {
        let lexicon = if dialect { &codes[topic] } else { &set.vocabulary[topic] };
        let pick = |from: &[String], n: usize, rng: &mut SplitMix64| -> Vec<String> {
            (0..n).map(|_| from[rng.below(from.len())].clone()).collect()
        };
        let title = pick(lexicon, 4, &mut rng).join(" ");
        let mut summary = pick(lexicon, 25, &mut rng);
        summary.extend(pick(&common, 35, &mut rng));
        rng.shuffle(&mut summary);

        let cites = references(id, topic, &set.topics, &citations, &mut rng);
        for &cited in &cites {
            citations[cited as usize] += 1;
        }
        let people = team(topic, &mut rng);
        let entity = &set.spellings[2 * topic + rng.below(2)];
        let spelling = entity[rng.below(entity.len())].clone();
        let year = 2005 + (20 * id / count) as u32;
        set.papers.push(Paper {
            id: id as u32,
            title,
            summary: summary.join(" "),
            authors: people.iter().map(|&p| names[p].clone()).collect(),
            year,
            venue: format!("Annals of {} Studies", TOPICS[topic].trim_start_matches("noun.")),
            cites,
            entities: BTreeMap::from([("material".to_string(), vec![spelling])]),
        });
        set.persons.push(people);
    }
    Ok(set)
}

/// Words that WordNet knows in one lexicographer file only, so that topics share none; and common words from the verbs.
fn words(rng: &mut SplitMix64) -> Result<(Vec<Vec<String>>, Vec<String>), DataError> {
    let wordnet = WordNet::load()?;
    let plain = |word: &str| word.len() >= 4 && word.bytes().all(|b| b.is_ascii_lowercase());
    let mut files: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for synset in wordnet.synsets() {
        for lemma in synset.lemmas.iter().filter(|l| plain(l)) {
            files.entry(lemma).or_default().insert(synset.lexicographer);
        }
    }
    let mut by_file: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (word, files) in files {
        if let (1, Some(file)) = (files.len(), files.first()) {
            by_file.entry(file).or_default().push(word);
        }
    }
    let mut draw = |pool: &[&str], n: usize| -> Vec<String> {
        rng.sample_indices(pool.len(), n).into_iter().map(|i| pool[i].to_string()).collect()
    };
    let vocabulary =
        TOPICS.iter().map(|file| draw(by_file.get(file).map_or(&[], Vec::as_slice), TOPIC_WORDS)).collect();
    let verbs: BTreeSet<&str> = wordnet
        .synsets()
        .iter()
        .filter(|s| s.pos == Pos::Verb)
        .flat_map(|s| s.lemmas.iter().map(String::as_str))
        .collect();
    let verbs: Vec<&str> = by_file.values().flatten().copied().filter(|w| verbs.contains(w)).collect();
    Ok((vocabulary, draw(&verbs, COMMON_WORDS)))
}

/// Two entities a topic, each in three spellings.
fn entity_spellings(vocabulary: &[Vec<String>]) -> Vec<Vec<String>> {
    let spell = |word: &String| {
        let mut capital = word.clone();
        capital[..1].make_ascii_uppercase();
        vec![format!("{capital} alloy"), format!("{word}-alloy"), format!("{} A", word.to_ascii_uppercase())]
    };
    vocabulary.iter().flat_map(|words| words.iter().take(2).map(spell)).collect()
}

/// A name for each person; [`SHARED_NAMES`] of the names belong to two persons, each from a topic of its own.
fn names(rng: &mut SplitMix64) -> Vec<String> {
    const FIRST: [&str; 12] =
        ["Ada", "Bruno", "Chen", "Dana", "Emeka", "Farah", "Goran", "Hana", "Ivo", "Jun", "Kofi", "Lena"];
    const LAST: [&str; 12] =
        ["Abel", "Brandt", "Castro", "Duval", "Eriksen", "Fischer", "Grau", "Haddad", "Ito", "Jansen", "Kaya", "Lindt"];
    let persons = TOPICS.len() * PERSONS_A_TOPIC;
    let mut names: Vec<String> = (0..persons).map(|p| format!("{} {}", FIRST[p % 12], LAST[p / 12])).collect();
    let mut topics: Vec<usize> = (0..TOPICS.len()).collect();
    for i in 0..SHARED_NAMES {
        rng.shuffle(&mut topics);
        let slot = |topic: usize| topic * PERSONS_A_TOPIC + i;
        let shared = names[slot(topics[0])].clone();
        names[slot(topics[1])] = shared;
    }
    names
}

fn references(id: usize, topic: usize, topics: &[usize], citations: &[usize], rng: &mut SplitMix64) -> Vec<u32> {
    let mut chosen: BTreeSet<usize> = BTreeSet::new();
    for _ in 0..6 {
        let within = rng.chance(0.85);
        let open: Vec<usize> = (0..id).filter(|&p| (topics[p] == topic) == within && !chosen.contains(&p)).collect();
        if open.is_empty() {
            continue;
        }
        let weights: Vec<f64> = open.iter().map(|&p| 1.0 + citations[p] as f64).collect();
        chosen.insert(open[rng.weighted(&weights)]);
    }
    chosen.into_iter().map(|p| p as u32).collect()
}

/// Three of a group of four; one place in ten goes to a guest from the whole topic, one in fifty to one from anywhere.
fn team(topic: usize, rng: &mut SplitMix64) -> Vec<usize> {
    let group = topic * PERSONS_A_TOPIC + 4 * rng.below(PERSONS_A_TOPIC / 4);
    let mut people: Vec<usize> = Vec::new();
    for member in rng.sample_indices(4, 3) {
        let draw = rng.uniform();
        let person = if draw < 0.02 {
            rng.below(TOPICS.len() * PERSONS_A_TOPIC)
        } else if draw < 0.12 {
            topic * PERSONS_A_TOPIC + rng.below(PERSONS_A_TOPIC)
        } else {
            group + member
        };
        if !people.contains(&person) {
            people.push(person);
        }
    }
    people
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_planted_is_there() {
        let set = papers(600, 3).unwrap();
        assert_eq!(set.papers.len(), 600);
        for topic in 0..12 {
            assert_eq!(set.topics.iter().filter(|t| **t == topic).count(), 50);
            let dialects = (0..600).filter(|&i| set.topics[i] == topic && set.dialect[i]).count();
            assert_eq!(dialects, 10);
        }
        let all: BTreeSet<&String> = set.vocabulary.iter().flatten().collect();
        assert_eq!(all.len(), 12 * TOPIC_WORDS);
        for (i, paper) in set.papers.iter().enumerate() {
            let words: Vec<&str> = paper.summary.split(' ').collect();
            assert_eq!(words.len(), 60);
            let own = words.iter().filter(|w| set.vocabulary[set.topics[i]].iter().any(|v| v == *w)).count();
            assert_eq!(own, if set.dialect[i] { 0 } else { 25 });
            assert!(paper.cites.iter().all(|&c| (c as usize) < i));
            assert!((2005..=2024).contains(&paper.year));
            assert_eq!(paper.authors.len(), set.persons[i].len());
        }
        let (mut within, mut total) = (0, 0);
        for (i, paper) in set.papers.iter().enumerate().skip(100) {
            assert_eq!(paper.cites.len(), 6);
            total += 6;
            within += paper.cites.iter().filter(|&&c| set.topics[c as usize] == set.topics[i]).count();
        }
        let share = within as f64 / f64::from(total);
        assert!((share - 0.85).abs() < 0.03, "{share}");
    }

    #[test]
    fn ten_names_are_shared_by_two_persons() {
        let set = papers(600, 3).unwrap();
        let mut persons: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
        for (paper, people) in set.papers.iter().zip(&set.persons) {
            for (name, &person) in paper.authors.iter().zip(people) {
                persons.entry(name).or_default().insert(person);
            }
        }
        let shared = persons.values().filter(|p| p.len() == 2).count();
        assert!((9..=10).contains(&shared), "{shared}");
        assert!(persons.values().all(|p| p.len() <= 2));
    }

    #[test]
    fn seeds_decide_and_too_few_are_refused() {
        assert_eq!(papers(60, 1).unwrap().papers, papers(60, 1).unwrap().papers);
        assert_ne!(papers(60, 1).unwrap().papers, papers(60, 2).unwrap().papers);
        assert!(papers(11, 1).is_err());
    }
}
