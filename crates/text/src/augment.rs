//! Second views of a text: drop words, swap words, replace words by synonyms.
//!
//! The operations of "easy data augmentation" (Wei and Zou, EMNLP 2019), which contrastive training uses to say what a text keeps
//! when its wording changes. They take and give words, draw from a seeded stream, and treat a probability below 0 (or NaN) as 0 and one
//! above 1 as 1.

use eas_data::wordnet::WordNet;
use eas_tensor::rng::SplitMix64;

/// Drops each word with probability `p`. A text of one word stays; of a text that would be empty one random word is kept.
///
/// ```
/// use eas_tensor::rng::SplitMix64;
///
/// let words: Vec<String> = "a tall tree with cones".split(' ').map(str::to_owned).collect();
/// let kept = eas_text::augment::random_deletion(&words, 0.4, &mut SplitMix64::new(3));
/// assert!(!kept.is_empty() && kept.len() <= 5);
/// ```
pub fn random_deletion(words: &[String], p: f64, rng: &mut SplitMix64) -> Vec<String> {
    if words.len() < 2 {
        return words.to_vec();
    }
    let kept: Vec<String> = words.iter().filter(|_| !rng.chance(p)).cloned().collect();
    if kept.is_empty() { vec![words[rng.below(words.len())].clone()] } else { kept }
}

/// Swaps each position with probability `p` with a position drawn from all.
pub fn random_swap(words: &[String], p: f64, rng: &mut SplitMix64) -> Vec<String> {
    let mut swapped = words.to_vec();
    for i in 0..words.len() {
        if rng.chance(p) {
            swapped.swap(i, rng.below(words.len()));
        }
    }
    swapped
}

/// The words and phrases that share a synset with `word`, without the word itself, in alphabetical order. Case is ignored.
pub fn synonyms(wordnet: &WordNet, word: &str) -> Vec<String> {
    let lemmas = wordnet.by_lemma(word).iter().flat_map(|&id| &wordnet.synsets()[id as usize].lemmas);
    let mut found: Vec<String> = lemmas.filter(|lemma| !lemma.eq_ignore_ascii_case(word)).cloned().collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Replaces each word with probability `p` by one of its WordNet synonyms, all equally likely; a phrase gives several words. A word
/// without synonyms stays.
pub fn synonym_replacement(words: &[String], p: f64, wordnet: &WordNet, rng: &mut SplitMix64) -> Vec<String> {
    let mut replaced = Vec::with_capacity(words.len());
    for word in words {
        let choices = if rng.chance(p) { synonyms(wordnet, word) } else { Vec::new() };
        match rng.choose(&choices) {
            Some(choice) => replaced.extend(choice.split(' ').map(str::to_owned)),
            None => replaced.push(word.clone()),
        }
    }
    replaced
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    proptest! {
        #[test]
        fn deletion_keeps_the_order_and_never_all(text in "([a-d]{1,2} ?){1,8}", p in 0.0..=1.0f64, seed: u64) {
            let words = words(&text);
            let kept = random_deletion(&words, p, &mut SplitMix64::new(seed));
            prop_assert!(!kept.is_empty());
            let mut rest = words.iter();
            prop_assert!(kept.iter().all(|word| rest.any(|w| w == word)));
            prop_assert_eq!(random_deletion(&words, 0.0, &mut SplitMix64::new(seed)), words.clone());
            prop_assert_eq!(random_deletion(&words, f64::NAN, &mut SplitMix64::new(seed)), words.clone());
            prop_assert_eq!(random_deletion(&words, 2.0, &mut SplitMix64::new(seed)).len(), 1);
        }

        #[test]
        fn swaps_keep_the_words(text in "([a-d]{1,2} ?){0,8}", p in 0.0..=1.0f64, seed: u64) {
            let words = words(&text);
            let mut swapped = random_swap(&words, p, &mut SplitMix64::new(seed));
            prop_assert_eq!(&swapped, &random_swap(&words, p, &mut SplitMix64::new(seed)));
            prop_assert_eq!(random_swap(&words, 0.0, &mut SplitMix64::new(seed)), words.clone());
            swapped.sort();
            let mut sorted = words;
            sorted.sort();
            prop_assert_eq!(swapped, sorted);
        }
    }

    #[test]
    fn deletion_drops_the_share_it_says() {
        let words = words(&"w ".repeat(1_000));
        let kept = random_deletion(&words, 0.4, &mut SplitMix64::new(1)).len() as f64;
        assert!((kept / 1_000.0 - 0.6).abs() < 0.05, "{kept}");
    }

    #[test]
    fn synonyms_are_lemmas_of_the_same_synsets() {
        let wordnet = WordNet::load().unwrap();
        let car = synonyms(&wordnet, "car");
        assert!(car.contains(&"automobile".to_owned()) && car.contains(&"railway car".to_owned()), "{car:?}");
        assert!(!car.contains(&"car".to_owned()) && car.is_sorted());
        assert_eq!(synonyms(&wordnet, "qwertzuiop"), Vec::<String>::new());
        let text = words("the car qwertzuiop");
        for seed in 0..50 {
            let out = synonym_replacement(&text, 1.0, &wordnet, &mut SplitMix64::new(seed));
            assert_eq!(out, synonym_replacement(&text, 1.0, &wordnet, &mut SplitMix64::new(seed)));
            assert_eq!((out[0].as_str(), out[out.len() - 1].as_str()), ("the", "qwertzuiop"));
            assert!(car.contains(&out[1..out.len() - 1].join(" ")), "{out:?}");
        }
        assert_eq!(synonym_replacement(&text, 0.0, &wordnet, &mut SplitMix64::new(1)), text);
    }
}
