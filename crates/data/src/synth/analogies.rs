//! Sentences in which gender and capital-of are regular, so that word vectors trained on them must solve the analogies.

use eas_tensor::rng::SplitMix64;

/// Which regularity an analogy tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AnalogyKind {
    /// man : woman = king : queen.
    Gender,
    /// france : paris = italy : rome.
    Capital,
}

/// `from` is to `to` as `probe` is to `answer`; solved by the vector `to - from + probe`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Analogy {
    /// First word of the known pair.
    pub from: &'static str,
    /// Second word of the known pair.
    pub to: &'static str,
    /// First word of the asked pair.
    pub probe: &'static str,
    /// The word to be found.
    pub answer: &'static str,
    /// The regularity.
    pub kind: AnalogyKind,
}

/// A role: its masculine and feminine noun and the words that go with both.
struct Role {
    nouns: [&'static str; 2],
    context: [&'static str; 4],
}

/// A country, its capital, and the words that go with both.
struct Country {
    names: [&'static str; 2],
    context: [&'static str; 3],
}

const ROLES: [Role; 6] = [
    Role { nouns: ["king", "queen"], context: ["throne", "crown", "palace", "reign"] },
    Role { nouns: ["man", "woman"], context: ["work", "house", "grown", "citizen"] },
    Role { nouns: ["boy", "girl"], context: ["school", "toys", "young", "playground"] },
    Role { nouns: ["prince", "princess"], context: ["heir", "ball", "carriage", "tower"] },
    Role { nouns: ["uncle", "aunt"], context: ["family", "cousin", "visit", "relative"] },
    Role { nouns: ["actor", "actress"], context: ["stage", "film", "script", "audience"] },
];

const GENDERS: [[&str; 4]; 2] = [["he", "his", "him", "beard"], ["she", "her", "hers", "dress"]];

const COUNTRIES: [Country; 6] = [
    Country { names: ["france", "paris"], context: ["french", "wine", "seine"] },
    Country { names: ["italy", "rome"], context: ["italian", "pasta", "tiber"] },
    Country { names: ["spain", "madrid"], context: ["spanish", "flamenco", "castile"] },
    Country { names: ["japan", "tokyo"], context: ["japanese", "sushi", "kanto"] },
    Country { names: ["egypt", "cairo"], context: ["egyptian", "pyramid", "nile"] },
    Country { names: ["greece", "athens"], context: ["greek", "olive", "attica"] },
];

/// What is said of countries, and what of capitals.
const PLACES: [[&str; 4]; 2] = [["nation", "border", "republic", "army"], ["city", "mayor", "streets", "metro"]];

const FILLERS: [&str; 10] = ["the", "a", "of", "and", "in", "was", "with", "that", "there", "once"];

/// `count` sentences of 8 words in random order. 55% are about a noun of a role: it, 2 of the role's 4 words, 2 of its gender's 4;
/// the rest about a country or its capital: it, 2 of the country's 3 words, 2 of 4 about countries or cities; each with 3 fillers.
pub fn sentences(count: usize, seed: u64) -> Vec<Vec<&'static str>> {
    let mut rng = SplitMix64::new(seed);
    (0..count).map(|_| sentence(&mut rng)).collect()
}

fn sentence(rng: &mut SplitMix64) -> Vec<&'static str> {
    let mut words = Vec::with_capacity(8);
    let mut pick = |rng: &mut SplitMix64, from: &[&'static str], k: usize| {
        let chosen = rng.sample_indices(from.len(), k);
        words.extend(chosen.into_iter().map(|i| from[i]));
    };
    let about_role = rng.chance(0.55);
    let topic = rng.below(6);
    let side = rng.below(2);
    if about_role {
        let role = &ROLES[topic];
        pick(rng, &role.nouns[side..=side], 1);
        pick(rng, &role.context, 2);
        pick(rng, &GENDERS[side], 2);
    } else {
        let country = &COUNTRIES[topic];
        pick(rng, &country.names[side..=side], 1);
        pick(rng, &country.context, 2);
        pick(rng, &PLACES[side], 2);
    }
    pick(rng, &FILLERS, 3);
    rng.shuffle(&mut words);
    words
}

/// All 60 analogies of the corpus: 30 ordered pairs of roles and 30 of countries.
pub fn analogies() -> Vec<Analogy> {
    let families = [
        (AnalogyKind::Gender, ROLES.map(|role| role.nouns)),
        (AnalogyKind::Capital, COUNTRIES.map(|country| country.names)),
    ];
    let mut all = Vec::with_capacity(60);
    for (kind, pairs) in families {
        for known in pairs {
            for asked in pairs {
                if known != asked {
                    all.push(Analogy { from: known[0], to: known[1], probe: asked[0], answer: asked[1], kind });
                }
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn there_are_sixty_analogies_and_the_famous_one_is_among_them() {
        let all = analogies();
        assert_eq!(all.len(), 60);
        assert_eq!(all.iter().filter(|a| a.kind == AnalogyKind::Gender).count(), 30);
        assert!(all.iter().any(|a| (a.from, a.to, a.probe, a.answer) == ("man", "woman", "king", "queen")));
    }

    #[test]
    fn sentences_have_eight_words_and_follow_the_plan() {
        let corpus = sentences(10_000, 5);
        assert!(corpus.iter().all(|s| s.iter().collect::<BTreeSet<_>>().len() == 8));
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for word in corpus.iter().flatten() {
            *counts.entry(word).or_default() += 1;
        }
        let share = |words: &[&str]| words.iter().map(|w| counts[w]).sum::<usize>() as f64 / 10_000.0;
        let nouns: Vec<&str> = ROLES.iter().flat_map(|r| r.nouns).collect();
        assert!((share(&nouns) - 0.55).abs() < 0.02);
        assert!((share(&FILLERS) - 3.0).abs() < 1e-9);
        assert!((share(&["king"]) - 0.55 / 12.0).abs() < 0.01);
        // A noun never stands with the words of the other gender or of another role.
        for s in corpus.iter().filter(|s| s.contains(&"queen")) {
            assert!(!s.iter().any(|w| GENDERS[0].contains(w) || ROLES[1].context.contains(w)));
        }
        assert_eq!(corpus, sentences(10_000, 5));
        assert_ne!(corpus, sentences(10_000, 6));
    }
}
