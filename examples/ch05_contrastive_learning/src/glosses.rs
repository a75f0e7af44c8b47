//! WordNet glosses as texts to train on, the lexicographer's file as the class that nobody tells the encoder, and a small encoder.

use std::collections::BTreeMap;

use anyhow::ensure;
use candle_core::{Device, Tensor, Var};
use eas_data::wordnet::WordNet;
use eas_losses::diagnostics::{alignment, uniformity};
use eas_nn::heads::ProjectionHead;
use eas_nn::params::Parameters;
use eas_nn::{Mode, NnError};
use eas_tensor::rng::SplitMix64;
use eas_text::augment::{random_deletion, synonym_replacement};

use crate::families::matrix;

/// The files that the glosses come from; the label is the index.
pub const FILES: [&str; 10] = [
    "noun.act",
    "noun.animal",
    "noun.artifact",
    "noun.body",
    "noun.communication",
    "noun.food",
    "noun.location",
    "noun.person",
    "noun.plant",
    "noun.state",
];
/// Glosses of each file.
pub const PER_FILE: usize = 500;
/// Rows 0 to 3,999 are for training, 400 a file; the other 1,000 are for judging.
pub const TRAIN: usize = 4_000;
/// Values of a representation.
pub const WIDTH: usize = 64;

/// 5,000 definitions of 6 to 20 words.
#[derive(Debug, Clone)]
pub struct GlossSet {
    /// The words of each gloss, runs of a to z.
    pub texts: Vec<Vec<String>>,
    /// The file of each gloss.
    pub labels: Vec<u32>,
    ids: BTreeMap<String, u32>,
}

impl GlossSet {
    /// Draws 500 glosses of each file, and numbers the words that the training rows have at least twice.
    pub fn draw(wordnet: &WordNet, seed: u64) -> anyhow::Result<Self> {
        let mut rows: [Vec<(Vec<String>, u32)>; 2] = [Vec::new(), Vec::new()];
        for (label, file) in FILES.iter().enumerate() {
            let synsets = wordnet.synsets().iter().filter(|synset| synset.lexicographer == *file);
            let fit: Vec<Vec<String>> =
                synsets.map(|s| Self::words(&s.gloss)).filter(|w| (6..=20).contains(&w.len())).collect();
            ensure!(fit.len() >= PER_FILE, "{file} has {} glosses of 6 to 20 words", fit.len());
            let picks = SplitMix64::stream(seed, label as u64).sample_indices(fit.len(), PER_FILE);
            for (i, pick) in picks.into_iter().enumerate() {
                rows[usize::from(i >= TRAIN / FILES.len())].push((fit[pick].clone(), label as u32));
            }
        }
        let mut count: BTreeMap<&str, usize> = BTreeMap::new();
        for word in rows[0].iter().flat_map(|(words, _)| words) {
            *count.entry(word).or_default() += 1;
        }
        // 0 is for no word.
        let known = count.into_iter().filter(|&(_, n)| n > 1).map(|(word, _)| word.to_owned());
        let ids = known.zip(1..).collect();
        let (texts, labels) = rows.into_iter().flatten().unzip();
        Ok(Self { texts, labels, ids })
    }

    /// The runs of a to z in a text, in lower case.
    pub fn words(text: &str) -> Vec<String> {
        let lower = text.to_lowercase();
        let runs = lower.split(|c: char| !c.is_ascii_lowercase());
        runs.filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }

    /// Rows that a table of the vocabulary needs, padding included.
    pub fn vocabulary(&self) -> usize {
        self.ids.len() + 1
    }

    /// The words of texts by number. Words outside the vocabulary are left out.
    pub fn ids(&self, texts: &[Vec<String>]) -> Result<Words, NnError> {
        let (mut ids, mut rows, mut counts) = (Vec::new(), Vec::new(), Vec::with_capacity(texts.len()));
        for (row, words) in texts.iter().enumerate() {
            let before = ids.len();
            ids.extend(words.iter().filter_map(|word| self.ids.get(word).copied()));
            rows.resize(ids.len(), row as u32);
            counts.push((ids.len() - before).max(1) as f32);
        }
        // Word 0 stands for nothing: without a single known word there would be no tensor to look up.
        if ids.is_empty() {
            (ids, rows) = (vec![0], vec![0]);
        }
        let device = &Device::Cpu;
        Ok(Words {
            ids: Tensor::new(ids, device)?,
            rows: Tensor::new(rows, device)?,
            counts: Tensor::new(counts, device)?.unsqueeze(1)?,
        })
    }

    /// `passes` over the training glosses, each in another order, `size` glosses at a time and two views of each; what is left over at
    /// the end of a pass is dropped. Batches of several runs that share these differ in nothing but what the runs do.
    pub fn batches(&self, wordnet: &WordNet, views: Views, size: usize, passes: u64) -> Result<Vec<TwoViews>, NnError> {
        let mut order: Vec<u32> = (0..TRAIN as u32).collect();
        let (mut rng, mut batches) = (SplitMix64::new(1), Vec::new());
        for pass in 0..passes {
            rng.shuffle(&mut order);
            for rows in order.chunks_exact(size.max(1)) {
                let view = |view| {
                    let text = |&row: &u32| views.view(wordnet, &self.texts[row as usize], row, pass, view);
                    self.ids(&rows.iter().map(text).collect::<Vec<_>>())
                };
                batches.push(TwoViews { rows: rows.to_vec(), views: [view(0)?, view(1)?] });
            }
        }
        Ok(batches)
    }

    /// The share of the 1,000 held-out glosses whose 10 nearest training glosses vote for the right file; `embed` turns words into rows.
    pub fn knn(&self, embed: impl Fn(&Words) -> Result<Tensor, NnError>) -> anyhow::Result<f64> {
        let (train, test) = self.texts.split_at(TRAIN);
        let (rows, queries) = (matrix(&embed(&self.ids(train)?)?)?, matrix(&embed(&self.ids(test)?)?)?);
        Ok(eas_eval::knn::accuracy(&rows, &self.labels[..TRAIN], &queries, &self.labels[TRAIN..], 10)?)
    }
}

/// The words of a batch of texts, one after another: no padding to multiply by zero.
#[derive(Debug, Clone)]
pub struct Words {
    /// The number of each word.
    ids: Tensor,
    /// The text that it belongs to.
    rows: Tensor,
    /// Words of each text, at least 1, shape `(texts, 1)`.
    counts: Tensor,
}

/// The glosses of a training step.
#[derive(Debug, Clone)]
pub struct TwoViews {
    /// Which ones.
    pub rows: Vec<u32>,
    /// A view of each, and another.
    pub views: [Words; 2],
}

/// How two views of a text are made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Views {
    /// Probability that a word is replaced by a synonym.
    pub synonyms: f64,
    /// Probability that a word is then dropped.
    pub deletion: f64,
}

impl Views {
    /// Synonyms for 3 words of 10, then 4 of 10 dropped.
    pub const STRONG: Self = Self { synonyms: 0.3, deletion: 0.4 };

    /// View number `view` of text `row` in pass `epoch`: the same numbers give the same view, whatever else is drawn.
    pub fn view(self, wordnet: &WordNet, words: &[String], row: u32, epoch: u64, view: u64) -> Vec<String> {
        let mut rng = SplitMix64::stream(u64::from(row), 2 * epoch + view);
        let reworded = synonym_replacement(words, self.synonyms, wordnet, &mut rng);
        random_deletion(&reworded, self.deletion, &mut rng)
    }
}

/// The mean of the word vectors of a text, which is the representation, and a projection head for the loss.
#[derive(Debug, Clone)]
pub struct BagEncoder {
    table: Var,
    head: ProjectionHead,
}

impl BagEncoder {
    /// A table of `words` vectors of 64 values drawn with deviation 0.1, and a head 64 -> 64 -> 32.
    pub fn new(params: &mut Parameters, words: usize) -> Result<Self, NnError> {
        Ok(Self {
            table: params.normal("words", &[words, WIDTH], 0.1)?,
            head: ProjectionHead::new(params, "head", WIDTH, 64, 32)?,
        })
    }

    /// The encoder over a set's vocabulary, and its parameters.
    pub fn of(glosses: &GlossSet, seed: u64) -> Result<(Self, Parameters), NnError> {
        let mut params = Parameters::new(seed, &Device::Cpu);
        Ok((Self::new(&mut params, glosses.vocabulary())?, params))
    }

    /// Means of word vectors, shape `(texts, 64)`; a text without a known word is zero, unless no text of the batch has one.
    pub fn represent(&self, words: &Words) -> Result<Tensor, NnError> {
        let vectors = self.table.index_select(&words.ids, 0)?;
        let nothing = Tensor::zeros((words.counts.dim(0)?, WIDTH), vectors.dtype(), vectors.device())?;
        Ok(nothing.index_add(&words.rows, &vectors, 0)?.broadcast_div(&words.counts)?)
    }

    /// What the loss compares: `(batch, 32)`, not normalised.
    pub fn project(&self, words: &Words) -> Result<Tensor, NnError> {
        self.head.forward(&self.represent(words)?, Mode::EVAL)
    }
}

/// How an encoder is at the end of an epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EpochReport {
    /// From 1.
    pub epoch: usize,
    /// Mean over the epoch's steps.
    pub loss: f64,
    /// Share of the views whose twin is the most similar, likewise.
    pub accuracy: f64,
    /// [`GlossSet::knn`] by the representation.
    pub representation: f64,
    /// And by what the head makes of it; NaN when it wasn't asked for.
    pub projection: f64,
    /// Mean squared distance of the last batch's twins, after the head.
    pub alignment: f64,
    /// Log of the mean Gaussian potential of that batch (Wang and Isola, 2020).
    pub uniformity: f64,
}

impl EpochReport {
    /// Judges `encoder`, given the epoch's mean loss and accuracy and its last two views; its head too, if `watch`.
    pub fn of(
        glosses: &GlossSet,
        encoder: &BagEncoder,
        epoch: usize,
        [loss, accuracy]: [f64; 2],
        views: &[Words; 2],
        watch: bool,
    ) -> Result<Self, NnError> {
        let votes = |found: anyhow::Result<f64>| found.map_err(|error| NnError::Thread(error.to_string()));
        let (x, y) = (matrix(&encoder.project(&views[0])?)?, matrix(&encoder.project(&views[1])?)?);
        Ok(Self {
            epoch,
            loss,
            accuracy,
            representation: votes(glosses.knn(|words| encoder.represent(words)))?,
            projection: if watch { votes(glosses.knn(|words| encoder.project(words)))? } else { f64::NAN },
            alignment: alignment(&x, &y, 2.0)?,
            uniformity: f64::midpoint(uniformity(&x, 2.0)?, uniformity(&y, 2.0)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_set_is_balanced_and_its_words_are_numbered() {
        let wordnet = WordNet::load().unwrap();
        let set = GlossSet::draw(&wordnet, 5).unwrap();
        assert_eq!((set.texts.len(), set.labels.len()), (5_000, 5_000));
        for file in 0..10 {
            assert_eq!(set.labels[..TRAIN].iter().filter(|&&l| l == file).count(), 400);
        }
        assert!(set.texts.iter().all(|words| (6..=20).contains(&words.len())));
        assert!(set.texts.iter().flatten().all(|word| word.bytes().all(|b| b.is_ascii_lowercase())));
        assert!((2_000..8_000).contains(&set.vocabulary()), "{}", set.vocabulary());
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let ids = set.ids(&[words("of the"), words("qwertzuiop"), vec![], words("the")]).unwrap();
        assert_eq!(ids.rows.to_vec1::<u32>().unwrap(), [0, 0, 3]);
        assert_eq!(ids.counts.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [2.0, 1.0, 1.0, 1.0]);
        assert!(ids.ids.to_vec1::<u32>().unwrap().iter().all(|&id| id > 0));
    }

    #[test]
    fn a_text_is_the_mean_of_its_words_and_views_repeat() {
        let wordnet = WordNet::load().unwrap();
        let set = GlossSet::draw(&wordnet, 5).unwrap();
        let (encoder, _) = BagEncoder::of(&set, 1).unwrap();
        let rows =
            |texts: &[Vec<String>]| encoder.represent(&set.ids(texts).unwrap()).unwrap().to_vec2::<f32>().unwrap();
        let one = |word: &str| vec![word.to_owned()];
        let out = rows(&[vec!["of".into(), "the".into(), "qwertzuiop".into()], one("of"), one("the"), vec![]]);
        assert!((0..WIDTH).all(|d| (out[0][d] - f32::midpoint(out[1][d], out[2][d])).abs() < 1e-6));
        assert!(out[3].iter().all(|&x| x == 0.0));
        assert!(rows(&[vec![]])[0].iter().all(|x| x.is_finite()));
        let view = |epoch, view| Views::STRONG.view(&wordnet, &set.texts[0], 0, epoch, view);
        assert_eq!(view(1, 0), view(1, 0));
        assert!((0..9).any(|epoch| view(epoch, 0) != view(epoch, 1)));
        let batches = set.batches(&wordnet, Views::STRONG, 1_500, 2).unwrap();
        assert_eq!(batches.iter().map(|batch| batch.rows.len()).collect::<Vec<_>>(), [1_500; 4]);
        let mut rows: Vec<u32> = batches[..2].iter().flat_map(|batch| batch.rows.clone()).collect();
        rows.sort_unstable();
        rows.dedup();
        assert!(rows.len() == 3_000 && batches[0].rows != batches[2].rows);
    }
}
