//! Second wordings of a text: offline by synonyms and swapped words, or from a language model
//! ([`OpenAiGenerator`](crate::generator::OpenAiGenerator)), and a cache in front of either.

use std::sync::{Mutex, PoisonError};

use eas_data::wordnet::WordNet;
use eas_ops::cache::{Cache, CacheStats, Policy};
use eas_tensor::rng::SplitMix64;
use eas_text::augment::{random_swap, synonym_replacement};
use eas_text::hash::fnv1a;

use crate::generator::GenerateError;

/// Says the same in other words.
pub trait Paraphraser {
    /// Another wording of `text`.
    fn paraphrase(&self, text: &str) -> Result<String, GenerateError>;
}

/// Replaces words by WordNet synonyms, then swaps some. The same text always gets the same wording: it is drawn from the seed and the text.
#[derive(Debug, Clone, Copy)]
pub struct SynonymParaphraser<'a> {
    /// Where synonyms are found.
    pub wordnet: &'a WordNet,
    /// Probability of each word to be replaced by a synonym, if it has one.
    pub synonyms: f64,
    /// Probability of each place to be swapped with another one.
    pub swaps: f64,
    /// Of the draws.
    pub seed: u64,
}

impl Paraphraser for SynonymParaphraser<'_> {
    fn paraphrase(&self, text: &str) -> Result<String, GenerateError> {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        let mut rng = SplitMix64::stream(self.seed, fnv1a(text.as_bytes()));
        let replaced = synonym_replacement(&words, self.synonyms, self.wordnet, &mut rng);
        Ok(random_swap(&replaced, self.swaps, &mut rng).join(" "))
    }
}

/// A [`Paraphraser`] that is asked once for each of the texts that were used last. Errors aren't kept.
///
/// ```
/// use eas_data::wordnet::WordNet;
/// use eas_retrieval::paraphrase::{CachedParaphraser, Paraphraser, SynonymParaphraser};
///
/// let wordnet = WordNet::load()?;
/// let offline = SynonymParaphraser { wordnet: &wordnet, synonyms: 0.5, swaps: 0.0, seed: 1 };
/// let cached = CachedParaphraser::new(offline, 1_000);
/// assert_eq!(cached.paraphrase("a fast car")?, cached.paraphrase("a fast car")?);
/// assert_eq!((cached.stats().hits, cached.stats().misses), (1, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct CachedParaphraser<P> {
    inner: P,
    cache: Mutex<Cache<String, String>>,
}

impl<P: Paraphraser> CachedParaphraser<P> {
    /// Keeps the wordings of the `capacity` texts that were asked for last; 0 keeps none.
    pub fn new(inner: P, capacity: usize) -> Self {
        Self { inner, cache: Mutex::new(Cache::new(capacity, Policy::Lru)) }
    }

    /// How often a wording was at hand.
    pub fn stats(&self) -> CacheStats {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).stats()
    }
}

impl<P: Paraphraser> Paraphraser for CachedParaphraser<P> {
    fn paraphrase(&self, text: &str) -> Result<String, GenerateError> {
        let cached = || self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = cached().get(&text.to_owned()) {
            return Ok(known.clone());
        }
        // The lock is free while the inner one works, which may take seconds.
        let reworded = self.inner.paraphrase(text)?;
        cached().insert(text.to_owned(), reworded.clone());
        Ok(reworded)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn synonyms_say_the_same_and_swaps_keep_the_words() {
        let wordnet = WordNet::load().unwrap();
        let reword = |synonyms, swaps, seed, text: &str| {
            SynonymParaphraser { wordnet: &wordnet, synonyms, swaps, seed }.paraphrase(text).unwrap()
        };
        assert_eq!(reword(0.0, 0.0, 1, "the  automobile "), "the automobile");
        assert_eq!(reword(1.0, 1.0, 1, ""), "");
        let car = reword(1.0, 0.0, 1, "car");
        assert!(eas_text::augment::synonyms(&wordnet, "car").contains(&car), "{car}");
        let mut swapped: Vec<String> = reword(0.0, 1.0, 7, "a b c d e f").split(' ').map(str::to_owned).collect();
        assert_ne!(swapped.join(" "), "a b c d e f");
        swapped.sort();
        assert_eq!(swapped.join(" "), "a b c d e f");
        let long = "a large motor car on the road beside the house";
        assert_eq!(reword(0.5, 0.2, 3, long), reword(0.5, 0.2, 3, long));
        assert_ne!(reword(0.5, 0.2, 3, long), reword(0.5, 0.2, 4, long));
    }

    /// Fails on the first call, then counts.
    struct Counting(AtomicUsize);

    impl Paraphraser for Counting {
        fn paraphrase(&self, text: &str) -> Result<String, GenerateError> {
            match self.0.fetch_add(1, Ordering::Relaxed) {
                0 => Err(GenerateError::Evidence("first".to_owned())),
                n => Ok(format!("{text} {n}")),
            }
        }
    }

    #[test]
    fn the_cache_keeps_the_last_used_and_no_errors() {
        let cached = CachedParaphraser::new(Counting(AtomicUsize::new(0)), 2);
        assert!(cached.paraphrase("a").is_err());
        let ask = |text| cached.paraphrase(text).unwrap();
        assert_eq!([ask("a"), ask("b"), ask("a"), ask("c")], ["a 1", "b 2", "a 1", "c 3"]);
        assert_eq!([ask("a"), ask("b")], ["a 1", "b 4"], "b was used before a, and left for c");
    }
}
