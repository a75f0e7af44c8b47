//! Word2Vec with negative sampling.
//!
//! Mikolov et al., "Efficient Estimation of Word Representations in Vector Space" and "Distributed Representations of Words and Phrases
//! and their Compositionality" (both 2013), with the choices of the authors' program: frequent words are thinned out, the window of each
//! position is drawn anew, noise words follow counts to the power 3/4, and the rate falls linearly. One thread, so that a seed gives
//! the same vectors bit for bit.

use crate::TextError;
use eas_tensor::Matrix;
use eas_tensor::kernels::dot;
use eas_tensor::rng::SplitMix64;
use eas_tensor::topk::{Scored, TopK};
use std::collections::{BTreeMap, HashMap};

/// What predicts what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The mean of the surrounding words predicts the word.
    Cbow,
    /// The word predicts each surrounding word.
    SkipGram,
}

/// Settings of the training.
#[derive(Debug, Clone, PartialEq)]
pub struct Word2Vec {
    /// Length of the vectors.
    pub dim: usize,
    /// Largest distance between a word and its context; each position draws its own from 1 to this.
    pub window: usize,
    /// Words seen fewer times are left out.
    pub min_count: usize,
    /// Noise words a prediction.
    pub negative: usize,
    /// Passes over the corpus.
    pub epochs: usize,
    /// Learning rate at the start.
    pub alpha: f32,
    /// Learning rate at the end.
    pub min_alpha: f32,
    /// Words of a higher share of the corpus than this are randomly skipped; 0 keeps all.
    pub sample: f64,
    /// What predicts what.
    pub mode: Mode,
    /// Seed of the starting vectors, windows, skips and noise.
    pub seed: u64,
}

impl Default for Word2Vec {
    /// 100 dimensions, window 5, at least 5 occurrences, 5 noise words, 5 epochs, rate 0.025 to 0.0001, sample 1e-3, CBOW, seed 42.
    fn default() -> Self {
        Self {
            dim: 100,
            window: 5,
            min_count: 5,
            negative: 5,
            epochs: 5,
            alpha: 0.025,
            min_alpha: 1e-4,
            sample: 1e-3,
            mode: Mode::Cbow,
            seed: 42,
        }
    }
}

impl Word2Vec {
    /// Trains on tokenized `sentences`. Refuses zero for `dim`, `window`, `negative` or `epochs`, rates that aren't positive, and a
    /// corpus of which fewer than two words are left.
    pub fn fit<S: AsRef<str>>(&self, sentences: &[Vec<S>]) -> Result<WordVectors, TextError> {
        for (name, value) in
            [("dim", self.dim), ("window", self.window), ("negative", self.negative), ("epochs", self.epochs)]
        {
            if value == 0 {
                return Err(TextError::argument(name, &value, "at least 1"));
            }
        }
        for (name, rate) in [("alpha", self.alpha), ("min_alpha", self.min_alpha)] {
            if !(rate.is_finite() && rate > 0.0) {
                return Err(TextError::argument(name, &rate, "a positive number"));
            }
        }
        if !(self.sample.is_finite() && self.sample >= 0.0) {
            return Err(TextError::argument("sample", &self.sample, "a number >= 0"));
        }
        let vocabulary = Vocabulary::count(sentences, self.min_count);
        if vocabulary.words.len() < 2 {
            return Err(TextError::EmptyVocabulary { documents: sentences.len() });
        }
        let corpus: Vec<Vec<u32>> = sentences
            .iter()
            .map(|sentence| sentence.iter().filter_map(|word| vocabulary.ids.get(word.as_ref()).copied()).collect())
            .collect();
        let mut training = Training::new(self, &vocabulary);
        let losses = (0..self.epochs).map(|epoch| training.epoch(&corpus, epoch)).collect();
        let vectors = Matrix::from_vec(vocabulary.words.len(), self.dim, training.input)?;
        let mut unit = vectors.clone();
        unit.normalize_rows();
        Ok(WordVectors { words: vocabulary.words, ids: vocabulary.ids, vectors, unit, losses })
    }
}

/// Words by falling count, then in alphabetical order.
struct Vocabulary {
    words: Vec<String>,
    ids: HashMap<String, u32>,
    counts: Vec<u64>,
}

impl Vocabulary {
    fn count<S: AsRef<str>>(sentences: &[Vec<S>], min_count: usize) -> Self {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for word in sentences.iter().flatten() {
            *counts.entry(word.as_ref()).or_default() += 1;
        }
        let mut kept: Vec<(&str, u64)> = counts.into_iter().filter(|&(_, n)| n >= min_count as u64).collect();
        kept.sort_by_key(|&(_, n)| std::cmp::Reverse(n));
        Self {
            words: kept.iter().map(|(word, _)| (*word).to_owned()).collect(),
            ids: (0..).zip(&kept).map(|(id, (word, _))| ((*word).to_owned(), id)).collect(),
            counts: kept.iter().map(|&(_, n)| n).collect(),
        }
    }
}

struct Training<'a> {
    config: &'a Word2Vec,
    rng: SplitMix64,
    /// Probability that an occurrence of the word is used.
    keep: Vec<f64>,
    noise: Noise,
    /// One row of `dim` values a word: what the model is trained for.
    input: Vec<f32>,
    /// One row of `dim` values a word: the classifiers that tell true words from noise.
    output: Vec<f32>,
    words_per_epoch: u64,
}

impl<'a> Training<'a> {
    fn new(config: &'a Word2Vec, vocabulary: &Vocabulary) -> Self {
        let mut rng = SplitMix64::new(config.seed);
        let words = vocabulary.words.len();
        let total: u64 = vocabulary.counts.iter().sum();
        let input = (0..words * config.dim).map(|_| (rng.uniform() - 0.5) as f32 / config.dim as f32).collect();
        let keep = vocabulary.counts.iter().map(|&n| {
            let ratio = config.sample * total as f64 / n as f64;
            if config.sample > 0.0 { (ratio.sqrt() + ratio).min(1.0) } else { 1.0 }
        });
        Self {
            config,
            keep: keep.collect(),
            noise: Noise::new(&vocabulary.counts),
            input,
            output: vec![0.0; words * config.dim],
            words_per_epoch: total,
            rng,
        }
    }

    /// One pass over the corpus; returns the mean loss a prediction, in nats.
    fn epoch(&mut self, corpus: &[Vec<u32>], epoch: usize) -> f64 {
        let config = self.config;
        let total = (self.words_per_epoch * config.epochs as u64) as f32;
        let mut seen = self.words_per_epoch * epoch as u64;
        let (mut loss, mut predictions) = (0.0, 0u64);
        let mut kept = Vec::new();
        let mut hidden = vec![0.0; config.dim];
        let mut change = vec![0.0; config.dim];
        for sentence in corpus {
            kept.clear();
            for &word in sentence {
                if self.keep[word as usize] >= 1.0 || self.rng.uniform() < self.keep[word as usize] {
                    kept.push(word);
                }
            }
            let rate = config.alpha + (config.min_alpha - config.alpha) * (seen as f32 / total);
            seen += sentence.len() as u64;
            for (at, &word) in kept.iter().enumerate() {
                let reach = 1 + self.rng.below(config.window);
                let around = (at.saturating_sub(reach)..(at + reach + 1).min(kept.len())).filter(|&j| j != at);
                match config.mode {
                    Mode::SkipGram => {
                        for j in around {
                            hidden.copy_from_slice(row_mut(&mut self.input, kept[j], config.dim));
                            loss += self.predict(word, &hidden, rate, &mut change);
                            predictions += 1;
                            add(&change, row_mut(&mut self.input, kept[j], config.dim));
                        }
                    }
                    Mode::Cbow => {
                        let count = around.clone().count();
                        if count == 0 {
                            continue;
                        }
                        hidden.fill(0.0);
                        for j in around.clone() {
                            add(row_mut(&mut self.input, kept[j], config.dim), &mut hidden);
                        }
                        for h in &mut hidden {
                            *h /= count as f32;
                        }
                        loss += self.predict(word, &hidden, rate, &mut change);
                        predictions += 1;
                        // Each context word takes the whole step, not its share: the authors' choice, which makes up for the mean.
                        for j in around {
                            add(&change, row_mut(&mut self.input, kept[j], config.dim));
                        }
                    }
                }
            }
        }
        loss / predictions.max(1) as f64
    }

    /// Teaches the classifiers to tell `word` from noise given `hidden`; writes the step for the hidden side into `change` and
    /// returns the loss before the step.
    fn predict(&mut self, word: u32, hidden: &[f32], rate: f32, change: &mut [f32]) -> f64 {
        change.fill(0.0);
        let mut loss = f64::from(self.classify(word, 1.0, hidden, rate, change));
        for _ in 0..self.config.negative {
            let noise = self.noise.draw(&mut self.rng);
            if noise != word {
                loss += f64::from(self.classify(noise, 0.0, hidden, rate, change));
            }
        }
        loss
    }

    fn classify(&mut self, word: u32, label: f32, hidden: &[f32], rate: f32, change: &mut [f32]) -> f32 {
        let row = row_mut(&mut self.output, word, self.config.dim);
        let (loss, slope) = logistic(dot(row, hidden), label);
        for ((c, r), h) in change.iter_mut().zip(row).zip(hidden) {
            *c -= rate * slope * *r;
            *r -= rate * slope * h;
        }
        loss
    }
}

/// The logistic loss of `logit` for a label of 0 or 1, in nats, and its derivative by the logit.
fn logistic(logit: f32, label: f32) -> (f32, f32) {
    // e^-|x| never overflows, and both the loss ln(1 + e^-x) or ln(1 + e^x) and the sigmoid follow from it.
    let small = (-logit.abs()).exp();
    let against = if (logit < 0.0) == (label > 0.5) { logit.abs() } else { 0.0 };
    let sigmoid = if logit < 0.0 { small } else { 1.0 } / (1.0 + small);
    (against + small.ln_1p(), sigmoid - label)
}

fn row_mut(rows: &mut [f32], word: u32, dim: usize) -> &mut [f32] {
    &mut rows[word as usize * dim..][..dim]
}

fn add(from: &[f32], to: &mut [f32]) {
    for (t, f) in to.iter_mut().zip(from) {
        *t += f;
    }
}

/// Draws words in proportion to their counts to the power 3/4 (Walker's alias method: one uniform index, one coin).
struct Noise {
    threshold: Vec<f64>,
    alias: Vec<u32>,
}

impl Noise {
    fn new(counts: &[u64]) -> Self {
        let weights: Vec<f64> = counts.iter().map(|&n| (n as f64).powf(0.75)).collect();
        let mean = weights.iter().sum::<f64>() / weights.len() as f64;
        let mut threshold: Vec<f64> = weights.iter().map(|w| w / mean).collect();
        let mut alias: Vec<u32> = (0..counts.len() as u32).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..counts.len()).partition(|&i| threshold[i] < 1.0);
        while let (Some(s), Some(&l)) = (small.pop(), large.last()) {
            alias[s] = l as u32;
            threshold[l] -= 1.0 - threshold[s];
            if threshold[l] < 1.0 {
                large.pop();
                small.push(l);
            }
        }
        Self { threshold, alias }
    }

    fn draw(&self, rng: &mut SplitMix64) -> u32 {
        let at = rng.below(self.alias.len());
        if rng.uniform() < self.threshold[at] { at as u32 } else { self.alias[at] }
    }
}

/// Trained word vectors.
#[derive(Debug, Clone, PartialEq)]
pub struct WordVectors {
    words: Vec<String>,
    ids: HashMap<String, u32>,
    vectors: Matrix,
    unit: Matrix,
    losses: Vec<f64>,
}

impl WordVectors {
    /// The words by falling count, ties in alphabetical order; a word's position is its row.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// The vectors as trained, shape `(words, dim)`.
    pub fn vectors(&self) -> &Matrix {
        &self.vectors
    }

    /// Mean loss a prediction in each epoch, in nats.
    pub fn losses(&self) -> &[f64] {
        &self.losses
    }

    /// The unit vector of `word`; an error for a word that was not trained.
    pub fn vector(&self, word: &str) -> Result<&[f32], TextError> {
        match self.ids.get(word) {
            Some(&id) => Ok(self.unit.row(id as usize)),
            None => Err(TextError::UnknownWord { word: word.to_owned() }),
        }
    }

    /// The cosine of two words.
    pub fn similarity(&self, a: &str, b: &str) -> Result<f32, TextError> {
        Ok(dot(self.vector(a)?, self.vector(b)?))
    }

    /// The sum of the unit vectors of `positive` minus those of `negative`: the query of an analogy, dimension `dim`.
    pub fn combine(&self, positive: &[&str], negative: &[&str]) -> Result<Vec<f32>, TextError> {
        let mut sum = vec![0.0; self.unit.dim()];
        for word in positive {
            add(self.vector(word)?, &mut sum);
        }
        for word in negative {
            for (s, v) in sum.iter_mut().zip(self.vector(word)?) {
                *s -= v;
            }
        }
        Ok(sum)
    }

    /// The `k` words of highest cosine with `query` (3CosAdd, Mikolov et al. 2013), best first, ties to the more frequent word. Ids are
    /// rows; nothing is left out, so an analogy's own words are usually among the first.
    pub fn nearest(&self, query: &[f32], k: usize) -> Result<Vec<Scored>, TextError> {
        self.nearest_except(query, k, &[])
    }

    /// The `k` words nearest to [`WordVectors::combine`] without the words it was made of: king - man + woman gives queen first.
    pub fn most_similar(&self, positive: &[&str], negative: &[&str], k: usize) -> Result<Vec<(&str, f32)>, TextError> {
        let query = self.combine(positive, negative)?;
        let inputs: Vec<&str> = positive.iter().chain(negative).copied().collect();
        let hits = self.nearest_except(&query, k, &inputs)?;
        Ok(hits.iter().map(|hit| (self.words[hit.id].as_str(), hit.score)).collect())
    }

    fn nearest_except(&self, query: &[f32], k: usize, except: &[&str]) -> Result<Vec<Scored>, TextError> {
        if query.len() != self.unit.dim() {
            return Err(TextError::argument("query dimension", &query.len(), &self.unit.dim().to_string()));
        }
        let norm = dot(query, query).sqrt();
        let mut best = TopK::new(k);
        for (id, row) in self.unit.iter_rows().enumerate() {
            if !except.contains(&self.words[id].as_str()) {
                let cosine = if norm > 0.0 { dot(query, row) / norm } else { 0.0 };
                best.push(id, cosine);
            }
        }
        Ok(best.into_sorted_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words of two themes that never mix.
    fn themes(sentences: usize) -> Vec<Vec<String>> {
        let mut rng = SplitMix64::new(9);
        (0..sentences)
            .map(|s| (0..8).map(|_| format!("{}{}", ["sea", "city"][s % 2], rng.below(12))).collect())
            .collect()
    }

    fn small(mode: Mode) -> Word2Vec {
        Word2Vec { dim: 16, epochs: 8, sample: 0.0, mode, ..Word2Vec::default() }
    }

    #[test]
    fn words_of_a_theme_come_together() {
        for mode in [Mode::Cbow, Mode::SkipGram] {
            let vectors = small(mode).fit(&themes(1_500)).unwrap();
            let inside = vectors.similarity("sea1", "sea2").unwrap();
            let across = vectors.similarity("sea1", "city2").unwrap();
            assert!(inside > across + 0.5, "{mode:?}: {inside} against {across}");
            let nearest = vectors.most_similar(&["city0"], &[], 11).unwrap();
            assert!(nearest.iter().all(|(word, _)| word.starts_with("city") && *word != "city0"), "{nearest:?}");
            assert!(vectors.losses().last() < vectors.losses().first(), "{:?}", vectors.losses());
        }
    }

    #[test]
    fn a_seed_gives_the_same_vectors_bit_for_bit() {
        let corpus = themes(200);
        let fit = |seed| Word2Vec { seed, ..small(Mode::Cbow) }.fit(&corpus).unwrap();
        assert_eq!(fit(1).vectors().as_slice(), fit(1).vectors().as_slice());
        assert_ne!(fit(1).vectors().as_slice(), fit(2).vectors().as_slice());
    }

    #[test]
    fn the_update_is_the_gradient_of_the_loss() {
        // One true word and one noise word against a fixed hidden vector: a step of rate 1 is minus the gradient, which central
        // differences of the loss must reproduce for both sides.
        let hidden = vec![0.3_f32, -0.7, 0.2];
        let outputs = [vec![0.5_f32, 0.1, -0.4], vec![-0.2_f32, 0.6, 0.9]];
        let labels = [1.0, 0.0];
        let loss = |hidden: &[f32], outputs: &[Vec<f32>; 2]| -> f64 {
            (0..2)
                .map(|i| {
                    let logit: f64 = outputs[i].iter().zip(hidden).map(|(o, h)| f64::from(*o) * f64::from(*h)).sum();
                    let p = 1.0 / (1.0 + (-logit).exp());
                    -(if labels[i] > 0.5 { p } else { 1.0 - p }).ln()
                })
                .sum()
        };
        let config = Word2Vec { dim: 3, ..small(Mode::Cbow) };
        let vocabulary = Vocabulary::count(&[vec!["a", "b"]], 1);
        let mut training = Training::new(&config, &vocabulary);
        training.output = outputs.concat();
        let mut change = vec![0.0; 3];
        let mut total = 0.0;
        for (word, label) in [(0, 1.0), (1, 0.0)] {
            total += f64::from(training.classify(word, label, &hidden, 1.0, &mut change));
        }
        assert!((total - loss(&hidden, &outputs)).abs() < 1e-6);
        let h = 1e-3;
        for i in 0..3 {
            let (mut up, mut down) = (hidden.clone(), hidden.clone());
            up[i] += h;
            down[i] -= h;
            let slope = (loss(&up, &outputs) - loss(&down, &outputs)) / f64::from(2.0 * h);
            assert!((f64::from(-change[i]) - slope).abs() < 1e-3, "hidden {i}");
            for word in 0..2 {
                let (mut up, mut down) = (outputs.clone(), outputs.clone());
                up[word][i] += h;
                down[word][i] -= h;
                let slope = (loss(&hidden, &up) - loss(&hidden, &down)) / f64::from(2.0 * h);
                let step = training.output[3 * word + i] - outputs[word][i];
                assert!((f64::from(-step) - slope).abs() < 1e-3, "output {word} {i}");
            }
        }
    }

    #[test]
    fn noise_follows_counts_to_three_quarters() {
        let counts = [810_000, 160_000, 10_000, 1];
        let noise = Noise::new(&counts);
        let mut rng = SplitMix64::new(4);
        let n = 400_000;
        let mut drawn = [0.0; 4];
        for _ in 0..n {
            drawn[noise.draw(&mut rng) as usize] += 1.0 / f64::from(n);
        }
        let weights: Vec<f64> = counts.iter().map(|&c| (c as f64).powf(0.75)).collect();
        let total: f64 = weights.iter().sum();
        for (share, weight) in drawn.iter().zip(weights) {
            assert!((share - weight / total).abs() < 0.003, "{share} against {}", weight / total);
        }
    }

    #[test]
    fn losses_do_not_overflow() {
        assert!((logistic(0.0, 1.0).0 - 2.0_f32.ln()).abs() < 1e-7);
        assert_eq!(logistic(200.0, 0.0), (200.0, 1.0));
        assert_eq!(logistic(-200.0, 1.0), (200.0, -1.0));
        assert!(logistic(200.0, 1.0).0 < 1e-30);
    }

    #[test]
    fn bad_input_is_refused() {
        let corpus = themes(50);
        let refused = |config: Word2Vec| config.fit(&corpus).map(|_| ()).unwrap_err().to_string();
        assert_eq!(refused(Word2Vec { dim: 0, ..Word2Vec::default() }), "dim is 0, must be at least 1");
        assert_eq!(
            refused(Word2Vec { alpha: f32::NAN, ..Word2Vec::default() }),
            "alpha is NaN, must be a positive number"
        );
        assert_eq!(
            refused(Word2Vec { min_count: 1_000_000, ..Word2Vec::default() }),
            "no term is left of 50 documents"
        );
        assert!(Word2Vec::default().fit::<&str>(&[]).is_err());
        let vectors = small(Mode::Cbow).fit(&corpus).unwrap();
        assert_eq!(vectors.vector("ocean").unwrap_err().to_string(), "\"ocean\" is not in the vocabulary");
        assert!(vectors.nearest(&[1.0], 3).is_err());
        assert!(vectors.most_similar(&["sea0"], &[], 0).unwrap().is_empty());
        assert_eq!(vectors.most_similar(&["sea0"], &[], 1_000).unwrap().len(), vectors.words().len() - 1);
    }
}
