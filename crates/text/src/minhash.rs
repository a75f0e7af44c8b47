//! Near-duplicates by word sets: exact Jaccard similarity, MinHash signatures, and locality-sensitive hashing over their bands.
//!
//! Broder, "On the resemblance and containment of documents" (1997); banding as in Leskovec, Rajaraman and Ullman, "Mining of Massive
//! Datasets", chapter 3.

use crate::hash::fnv1a;
use crate::lexical::Tokenizer;
use eas_tensor::rng::SplitMix64;
use std::collections::{BTreeSet, HashMap};

/// The set of a text's shingles (runs of `width` consecutive tokens), each kept as a 64-bit hash.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shingles {
    hashes: Vec<u64>,
}

impl Shingles {
    /// Shingles of `width` tokens (at least 1); a text shorter than that is one shingle of all its tokens, an empty text has none.
    pub fn of(text: &str, tokenizer: Tokenizer, width: usize) -> Self {
        let tokens = tokenizer.tokens(text);
        if tokens.is_empty() {
            return Self::default();
        }
        let width = width.clamp(1, tokens.len());
        // The unit separator cannot occur within a token, so no two token runs share a spelling.
        let mut hashes: Vec<u64> = tokens.windows(width).map(|run| fnv1a(run.join("\u{1f}").as_bytes())).collect();
        hashes.sort_unstable();
        hashes.dedup();
        Self { hashes }
    }

    /// Number of distinct shingles.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// True when the text had no token.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Size of the intersection over size of the union, in `[0, 1]`; two empty sets count as equal (1).
    ///
    /// ```
    /// use eas_text::{lexical::Tokenizer, minhash::Shingles};
    ///
    /// let set = |text| Shingles::of(text, Tokenizer::Word, 1);
    /// let a = set("Replace the filter every 90 days.");
    /// let b = set("Replace the filter every ninety days.");
    /// assert!((a.jaccard(&b) - 5.0 / 7.0).abs() < 1e-12);
    /// ```
    pub fn jaccard(&self, other: &Self) -> f64 {
        let (mut i, mut j, mut both) = (0, 0, 0usize);
        while i < self.len() && j < other.len() {
            match self.hashes[i].cmp(&other.hashes[j]) {
                std::cmp::Ordering::Less => i += 1,
                std::cmp::Ordering::Greater => j += 1,
                std::cmp::Ordering::Equal => {
                    both += 1;
                    i += 1;
                    j += 1;
                }
            }
        }
        let union = self.len() + other.len() - both;
        if union == 0 { 1.0 } else { both as f64 / union as f64 }
    }
}

/// The smallest hash of a shingle set under each of a fixed family of hash functions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    minima: Vec<u64>,
}

impl Signature {
    /// The share of agreeing positions: an unbiased estimate of the Jaccard similarity with standard error
    /// `sqrt(j (1 - j) / hashes)`. 0 when the signatures differ in length.
    pub fn similarity(&self, other: &Self) -> f64 {
        if self.minima.len() != other.minima.len() || self.minima.is_empty() {
            return 0.0;
        }
        let equal = self.minima.iter().zip(&other.minima).filter(|(a, b)| a == b).count();
        equal as f64 / self.minima.len() as f64
    }
}

/// A seeded family of hash functions that turns shingle sets into [`Signature`]s.
#[derive(Debug, Clone)]
pub struct MinHash {
    keys: Vec<u64>,
}

impl MinHash {
    /// `hashes` functions drawn from `seed`; at least one.
    pub fn new(hashes: usize, seed: u64) -> Self {
        let mut rng = SplitMix64::new(seed);
        Self { keys: (0..hashes.max(1)).map(|_| rng.next_u64()).collect() }
    }

    /// The signature of `shingles`; that of the empty set agrees only with other empty sets.
    pub fn signature(&self, shingles: &Shingles) -> Signature {
        Signature {
            minima: self
                .keys
                .iter()
                .map(|key| shingles.hashes.iter().map(|h| mix(h ^ key)).min().unwrap_or(u64::MAX))
                .collect(),
        }
    }
}

/// A bijection of 64-bit words without visible structure (the finalizer of SplitMix64).
fn mix(x: u64) -> u64 {
    SplitMix64::new(x).next_u64()
}

/// Buckets of signature bands: documents that agree on all rows of at least one band become candidates.
#[derive(Debug, Clone)]
pub struct LshIndex {
    bands: usize,
    rows: usize,
    buckets: HashMap<(usize, u64), Vec<usize>>,
}

impl LshIndex {
    /// `bands` bands of `rows` rows each, both at least 1; signatures need `bands * rows` hashes (a missing band never matches).
    pub fn new(bands: usize, rows: usize) -> Self {
        Self { bands: bands.max(1), rows: rows.max(1), buckets: HashMap::new() }
    }

    /// The probability that two sets of the given Jaccard similarity become candidates: `1 - (1 - j^rows)^bands`.
    pub fn candidate_probability(&self, jaccard: f64) -> f64 {
        1.0 - (1.0 - jaccard.powi(self.rows as i32)).powi(self.bands as i32)
    }

    /// Adds a signature under an id of the caller's.
    pub fn insert(&mut self, id: usize, signature: &Signature) {
        for key in self.band_keys(signature) {
            self.buckets.entry(key).or_default().push(id);
        }
    }

    /// Ids that share a band with `signature`, ascending and without repeats.
    pub fn candidates(&self, signature: &Signature) -> Vec<usize> {
        let ids: BTreeSet<usize> =
            self.band_keys(signature).into_iter().filter_map(|key| self.buckets.get(&key)).flatten().copied().collect();
        ids.into_iter().collect()
    }

    fn band_keys(&self, signature: &Signature) -> Vec<(usize, u64)> {
        signature
            .minima
            .chunks_exact(self.rows)
            .take(self.bands)
            .enumerate()
            .map(|(band, rows)| (band, rows.iter().fold(0, |key, &row| mix(key ^ row))))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(text: &str) -> Shingles {
        Shingles::of(text, Tokenizer::Word, 1)
    }

    #[test]
    fn jaccard_of_the_fixture_sentences() {
        let a = words("Replace the filter every 90 days.");
        let b = words("Replace the filter every ninety days.");
        assert_eq!(a.jaccard(&b), 5.0 / 7.0);
        assert_eq!(a.jaccard(&a), 1.0);
        assert_eq!(a.jaccard(&words("")), 0.0);
        assert_eq!(words("").jaccard(&words("!")), 1.0);
    }

    #[test]
    fn wider_shingles_see_order() {
        let pair = |width| {
            let a = Shingles::of("dog bites man", Tokenizer::Word, width);
            a.jaccard(&Shingles::of("man bites dog", Tokenizer::Word, width))
        };
        assert_eq!(pair(1), 1.0);
        assert_eq!(pair(2), 0.0);
        assert_eq!(Shingles::of("one", Tokenizer::Word, 5).len(), 1);
        assert_eq!(Shingles::of("one two", Tokenizer::Word, 0).len(), 2);
    }

    #[test]
    fn signatures_estimate_jaccard_without_bias() {
        // Sets {0..60} and {20..80}: Jaccard 40/80. The mean over 30 families of 128 hashes has standard error 0.008.
        let set = |range: std::ops::Range<u32>| words(&range.map(|i| format!("w{i} ")).collect::<Vec<_>>().concat());
        let (a, b) = (set(0..60), set(20..80));
        assert_eq!(a.jaccard(&b), 0.5);
        let mean = (0..30)
            .map(|seed| {
                let family = MinHash::new(128, seed);
                family.signature(&a).similarity(&family.signature(&b))
            })
            .sum::<f64>()
            / 30.0;
        assert!((mean - 0.5).abs() < 0.03, "{mean}");
    }

    #[test]
    fn lsh_finds_near_duplicates_and_spares_the_rest() {
        let family = MinHash::new(96, 11);
        let mut rng = SplitMix64::new(5);
        let mut lsh = LshIndex::new(24, 4);
        let document =
            |rng: &mut SplitMix64| -> Vec<String> { (0..40).map(|_| format!("t{}", rng.below(5_000))).collect() };
        let originals: Vec<Vec<String>> = (0..200).map(|_| document(&mut rng)).collect();
        for (id, tokens) in originals.iter().enumerate() {
            lsh.insert(id, &family.signature(&words(&tokens.join(" "))));
        }
        assert!(lsh.candidate_probability(0.8) > 0.99 && lsh.candidate_probability(0.1) < 0.01);
        let mut strangers = 0;
        for (id, tokens) in originals.iter().enumerate() {
            let mut copy = tokens.clone();
            copy[7] = "changed".to_owned();
            let found = lsh.candidates(&family.signature(&words(&copy.join(" "))));
            assert!(found.contains(&id), "document {id} lost its near-duplicate");
            strangers += found.len() - 1;
        }
        assert!(strangers <= 4, "{strangers}");
    }

    #[test]
    fn short_or_different_signatures_do_not_match() {
        let (small, large) = (MinHash::new(0, 1), MinHash::new(8, 1));
        let set = words("alpha beta");
        assert_eq!(small.signature(&set).similarity(&large.signature(&set)), 0.0);
        let mut lsh = LshIndex::new(2, 4);
        lsh.insert(0, &small.signature(&set));
        assert!(lsh.candidates(&small.signature(&set)).is_empty());
        assert_eq!(large.signature(&words("")).similarity(&large.signature(&set)), 0.0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn jaccard_equals_sets(a in prop::collection::btree_set(0u32..30, 0..20), b in prop::collection::btree_set(0u32..30, 0..20)) {
            let text = |s: &BTreeSet<u32>| s.iter().map(|i| format!("w{i} ")).collect::<Vec<_>>().concat();
            let union = a.union(&b).count();
            let expected = if union == 0 { 1.0 } else { a.intersection(&b).count() as f64 / union as f64 };
            prop_assert_eq!(words(&text(&a)).jaccard(&words(&text(&b))), expected);
        }
    }
}
