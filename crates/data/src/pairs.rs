//! Pairs of texts that belong together, split so that nothing of what is held out was seen in training.

use std::collections::HashSet;

use eas_tensor::rng::SplitMix64;

use crate::DataError;
use crate::wordnet::{Pos, WordNet};

/// Pairs to train on and pairs to measure with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairSplit<'a> {
    /// To train on.
    pub train: Vec<(&'a str, &'a str)>,
    /// To measure with.
    pub held_out: Vec<(&'a str, &'a str)>,
}

/// The glosses of nouns, each with the gloss of its first hypernym: "a shoe carved from a single block of wood" and "footwear shaped to
/// fit the foot ...".
///
/// Every gloss occurs once, in one pair: a held-out pair shares neither of its synsets with training, and its second gloss answers no other
/// query. The order is a seeded shuffle; the held-out pairs are drawn first, so they are the same for any `train`.
///
/// An error when WordNet has fewer such pairs: there are over ten thousand.
pub fn hypernym_glosses(
    wordnet: &WordNet,
    train: usize,
    held_out: usize,
    seed: u64,
) -> Result<PairSplit<'_>, DataError> {
    let synsets = wordnet.synsets();
    let mut order: Vec<usize> = (0..synsets.len()).filter(|&i| synsets[i].pos == Pos::Noun).collect();
    SplitMix64::new(seed).shuffle(&mut order);
    let wanted = train.saturating_add(held_out);
    let mut used = HashSet::new();
    let mut pairs = Vec::new();
    for at in order {
        if pairs.len() == wanted {
            break;
        }
        let Some(&above) = synsets[at].hypernyms.first() else { continue };
        let (own, above) = (synsets[at].gloss.as_str(), synsets[above as usize].gloss.as_str());
        if own != above && !used.contains(own) && !used.contains(above) {
            used.extend([own, above]);
            pairs.push((own, above));
        }
    }
    if pairs.len() < wanted {
        return Err(DataError::Argument {
            what: "number of pairs",
            given: format!("{wanted} (WordNet has {})", pairs.len()),
            expected: "no more than there are",
        });
    }
    let train = pairs.split_off(held_out);
    Ok(PairSplit { train, held_out: pairs })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_gloss_is_on_both_sides_of_the_split_or_in_two_pairs() {
        let wordnet = WordNet::load().unwrap();
        let split = hypernym_glosses(&wordnet, 2_000, 500, 1).unwrap();
        assert_eq!((split.train.len(), split.held_out.len()), (2_000, 500));
        let all: HashSet<&str> = split.train.iter().chain(&split.held_out).flat_map(|&(a, b)| [a, b]).collect();
        assert_eq!(all.len(), 5_000);
        let parents = |gloss: &str| -> Vec<&str> {
            let synsets = wordnet.synsets().iter().filter(|synset| synset.gloss == gloss);
            let above = synsets.flat_map(|synset| &synset.hypernyms);
            above.map(|&id| wordnet.synsets()[id as usize].gloss.as_str()).collect()
        };
        for (own, above) in &split.held_out[..20] {
            assert!(parents(own).contains(above), "{own}");
        }
        assert_eq!(hypernym_glosses(&wordnet, 10, 500, 1).unwrap().held_out, split.held_out);
        assert_ne!(hypernym_glosses(&wordnet, 10, 500, 2).unwrap().held_out, split.held_out);
        let error = hypernym_glosses(&wordnet, 100_000, 1, 1).unwrap_err().to_string();
        assert!(error.contains("100001"), "{error}");
    }
}
