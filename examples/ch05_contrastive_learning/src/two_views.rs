//! The digits as texts, and two views of each.

use std::sync::{Mutex, PoisonError};

use eas_data::DataError;
use eas_data::wordnet::WordNet;
use eas_ops::cache::{Cache, Policy};
use eas_tensor::rng::SplitMix64;
use eas_text::augment::{random_deletion, synonym_replacement};

const DIGITS: [&str; 10] = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];

/// A text for each digit, and two views of it.
#[derive(Debug)]
pub struct TwoViews<'a> {
    labels: &'a [usize],
    wordnet: &'a WordNet,
    seed: u64,
    texts: Mutex<Cache<usize, String>>,
}

/// An example as the training sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Which digit.
    pub index: usize,
    /// The text.
    pub original: String,
    /// Some words dropped.
    pub view1: String,
    /// Some words replaced by synonyms.
    pub view2: String,
}

impl<'a> TwoViews<'a> {
    /// The digits of `labels`, with a cache of 10,000 texts.
    pub fn new(labels: &'a [usize], wordnet: &'a WordNet, seed: u64) -> Self {
        Self { labels, wordnet, seed, texts: Mutex::new(Cache::new(10_000, Policy::Lru)) }
    }

    /// The text of a digit, from the cache when it is there.
    pub fn original(&self, index: usize) -> String {
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(text) = texts.get(&index) {
            return text.clone();
        }
        let digit = DIGITS[self.labels[index] % 10];
        let text = format!("picture {index} shows the small number {digit} written by hand");
        texts.insert(index, text.clone());
        text
    }

    /// Both views of a digit in an epoch, whoever asks and whenever.
    pub fn item(&self, index: usize, epoch: u64) -> Result<Item, DataError> {
        let original = self.original(index);
        let words: Vec<String> = original.split(' ').map(str::to_owned).collect();
        let [mut first, mut second] = [0, 1].map(|view| stream(self.seed, epoch, index as u64, view));
        let view1 = random_deletion(&words, 0.3, &mut first).join(" ");
        let view2 = synonym_replacement(&words, 0.3, self.wordnet, &mut second).join(" ");
        Ok(Item { index, original, view1, view2 })
    }
}

/// The randomness of one view: whoever draws it, and whenever, it is the same.
pub fn stream(seed: u64, epoch: u64, index: u64, view: u64) -> SplitMix64 {
    let mut of_epoch = SplitMix64::stream(seed, epoch);
    SplitMix64::stream(of_epoch.next_u64(), 2 * index + view)
}
