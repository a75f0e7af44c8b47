//! A BERT that [`EmbeddingFineTuner`](crate::finetune::EmbeddingFineTuner) tunes: the last layers of a published one, or all of a small
//! one from scratch.
//!
//! Layers that aren't trained give a text the same vectors at every step, so they read it once: what the first trained layer is given of
//! it is kept, `tokens x hidden` values of four bytes. Of MiniLM with one trained layer a step costs a sixth of a whole pass.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Tensor};
use eas_tensor::Matrix;

use crate::NnError;
use crate::bert::{Bert, BertConfig, mean_pooled, padded_ids};
use crate::finetune::{TokenIds, Tunable};
use crate::params::Parameters;

/// Texts that pass through the frozen layers, or are encoded, together.
const TEXTS_AT_A_TIME: usize = 32;

/// A BERT with the parameters of it that are trained. A text is a list of token ids, `[CLS]` and `[SEP]` among them; its vector is the mean
/// of the last layer's token vectors, scaled to length 1.
///
/// ```
/// use eas_nn::bert::BertConfig;
/// use eas_nn::bert_encoder::BertEncoder;
/// use eas_nn::finetune::{EmbeddingFineTuner, Example};
///
/// let config =
///     BertConfig { vocabulary: 20, hidden: 8, layers: 2, heads: 2, inner: 16, positions: 8, epsilon: 1e-12 };
/// let encoder = BertEncoder::from_scratch(1, config)?;
/// let pairs = [Example::Pair(vec![1, 5, 2], vec![1, 9, 7, 2]), Example::Pair(vec![1, 6, 2], vec![1, 8, 2])];
/// let tuner = EmbeddingFineTuner { learning_rate: 1e-3, warm_up: 1, epochs: 20, ..EmbeddingFineTuner::default() };
/// let losses = tuner.run(&encoder, &pairs)?;
/// assert!(losses[19] < losses[0]);
/// assert_eq!(encoder.encode(&[&[1, 5, 2]])?.dim(), 8);
/// # Ok::<(), eas_nn::NnError>(())
/// ```
#[derive(Debug)]
pub struct BertEncoder {
    bert: Bert,
    params: Parameters,
    /// The first trained layer; `None` when everything is trained, the word vectors too.
    first: Option<usize>,
    read: Mutex<HashMap<TokenIds, Arc<[f32]>>>,
}

impl BertEncoder {
    /// The published model in a safetensors file, whose last `trained_layers` layers are trained, on the CPU.
    ///
    /// An error when the file isn't of this configuration, or has no such number of layers.
    pub fn load(path: impl AsRef<Path>, config: BertConfig, trained_layers: usize) -> Result<Self, NnError> {
        let first = first_trained(config, trained_layers)?;
        let mut params = Parameters::new(0, &Device::Cpu);
        let bert = Bert::load(path, config, &mut params, trained_layers)?;
        Ok(Self { bert, params, first: Some(first), read: Mutex::default() })
    }

    /// Random weights of which only the last `trained_layers` layers are trained.
    pub fn random(seed: u64, config: BertConfig, trained_layers: usize) -> Result<Self, NnError> {
        let first = first_trained(config, trained_layers)?;
        let mut all = Parameters::new(seed, &Device::Cpu);
        Bert::new(&mut all, config)?;
        let mut params = Parameters::new(seed, &Device::Cpu);
        let bert = Bert::from_tensors(all.snapshot()?.into_iter().collect(), config, &mut params, trained_layers)?;
        Ok(Self { bert, params, first: Some(first), read: Mutex::default() })
    }

    /// Random weights, all of them trained.
    pub fn from_scratch(seed: u64, config: BertConfig) -> Result<Self, NnError> {
        let mut params = Parameters::new(seed, &Device::Cpu);
        let bert = Bert::new(&mut params, config)?;
        Ok(Self { bert, params, first: None, read: Mutex::default() })
    }

    /// The model itself, with its tensors as they are now.
    pub fn bert(&self) -> &Bert {
        &self.bert
    }

    /// What is trained.
    pub fn params(&self) -> &Parameters {
        &self.params
    }

    /// Lets the frozen layers read `texts` now rather than at their first use. Does nothing when everything is trained.
    pub fn read(&self, texts: &[&[u32]]) -> Result<(), NnError> {
        self.check(texts)?;
        self.first.map_or(Ok(()), |first| self.recall(texts, first).map(drop))
    }

    /// What layer `first` is given of each text, `(tokens, hidden)`: kept from before, or computed now and kept.
    fn recall(&self, texts: &[&[u32]], first: usize) -> Result<Vec<Arc<[f32]>>, NnError> {
        let mut known: HashMap<&[u32], Arc<[f32]>> = HashMap::new();
        {
            let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
            known.extend(texts.iter().filter_map(|&text| Some((text, read.get(text)?.clone()))));
        }
        let unread: HashSet<&[u32]> = texts.iter().copied().filter(|text| !known.contains_key(text)).collect();
        let mut unread: Vec<&[u32]> = unread.into_iter().collect();
        // Texts of a length together have no padding to carry along; the rest of the order makes every run the same.
        unread.sort_unstable_by(|a, b| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
        for chunk in unread.chunks(TEXTS_AT_A_TIME) {
            let ids: Vec<TokenIds> = chunk.iter().map(|text| text.to_vec()).collect();
            let states = self.bert.states_before(&padded_ids(&ids, self.params.device())?, first)?.detach();
            let (_, length, hidden) = states.dims3()?;
            let values = states.flatten_all()?.to_vec1::<f32>()?;
            let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
            for ((ids, text), values) in ids.into_iter().zip(chunk).zip(values.chunks_exact(length * hidden)) {
                let own: Arc<[f32]> = values[..text.len() * hidden].into();
                read.insert(ids, own.clone());
                known.insert(text, own);
            }
        }
        Ok(texts.iter().filter_map(|text| known.get(text).cloned()).collect())
    }

    /// Bytes of what the frozen layers made of the texts so far.
    pub fn bytes_read(&self) -> usize {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.values().map(|values| 4 * values.len()).sum()
    }

    /// Forgets what the frozen layers made of the texts so far, which frees its memory and changes no result.
    pub fn forget(&self) {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Unit vectors of texts, `(texts, hidden)`, as part of the graph that a loss differentiates.
    ///
    /// An error for a text that is empty or longer than the model's positions, and for token ids that are 0 (padding) or not in the
    /// vocabulary.
    pub fn forward(&self, texts: &[&[u32]]) -> Result<Tensor, NnError> {
        if texts.is_empty() {
            return Err(NnError::Empty { what: "batch of texts".to_owned() });
        }
        self.check(texts)?;
        let device = self.params.device();
        let longest = texts.iter().map(|text| text.len()).max().unwrap_or(0);
        let mut mask = vec![0f32; texts.len() * longest];
        for (row, text) in mask.chunks_exact_mut(longest).zip(texts) {
            row[..text.len()].fill(1.0);
        }
        let mask = Tensor::from_vec(mask, (texts.len(), longest), device)?;
        let (states, first) = match self.first {
            None => {
                let ids: Vec<TokenIds> = texts.iter().map(|text| text.to_vec()).collect();
                (self.bert.states_before(&padded_ids(&ids, device)?, 0)?, 0)
            }
            Some(first) => {
                let hidden = self.bert.config().hidden;
                let mut values = vec![0f32; texts.len() * longest * hidden];
                for (row, own) in values.chunks_exact_mut(longest * hidden).zip(self.recall(texts, first)?) {
                    row[..own.len()].copy_from_slice(&own);
                }
                (Tensor::from_vec(values, (texts.len(), longest, hidden), device)?, first)
            }
        };
        mean_pooled(&self.bert.states_from(&states, &mask, first)?, &mask)
    }

    /// The same vectors, for scoring.
    pub fn encode(&self, texts: &[&[u32]]) -> Result<Matrix, NnError> {
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|&i| texts[i].len());
        let mut rows = Matrix::zeros(texts.len(), self.bert.config().hidden);
        for chunk in order.chunks(TEXTS_AT_A_TIME) {
            let batch: Vec<&[u32]> = chunk.iter().map(|&i| texts[i]).collect();
            let vectors = self.forward(&batch)?.detach().to_dtype(DType::F32)?.to_vec2::<f32>()?;
            for (&i, vector) in chunk.iter().zip(vectors) {
                rows.row_mut(i).copy_from_slice(&vector);
            }
        }
        Ok(rows)
    }

    /// Writes what was trained to a safetensors file; [`Bert::save`] writes the whole model.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), NnError> {
        self.params.save(path)
    }

    /// Reads what an encoder of the same shape and of as many trained layers saved.
    pub fn restore(&self, path: impl AsRef<Path>) -> Result<(), NnError> {
        self.params.load(path)
    }
}

impl Tunable for BertEncoder {
    fn params(&self) -> &Parameters {
        &self.params
    }

    fn forward(&self, texts: &[&[u32]]) -> Result<Tensor, NnError> {
        Self::forward(self, texts)
    }

    fn check(&self, texts: &[&[u32]]) -> Result<(), NnError> {
        let BertConfig { vocabulary, positions, .. } = self.bert.config();
        for text in texts {
            if text.is_empty() || text.len() > positions {
                return Err(NnError::Argument {
                    name: "text length in tokens",
                    got: text.len().to_string(),
                    expected: format!("1 to {positions}"),
                });
            }
            if let Some(id) = text.iter().find(|&&id| id == 0 || id as usize >= vocabulary) {
                return Err(NnError::Argument {
                    name: "token",
                    got: id.to_string(),
                    expected: format!("1 to {}; 0 is padding", vocabulary - 1),
                });
            }
        }
        Ok(())
    }

    /// Up to the width of which a second thread doesn't help.
    fn is_small(&self) -> bool {
        self.bert.config().hidden <= 64
    }
}

fn first_trained(config: BertConfig, trained_layers: usize) -> Result<usize, NnError> {
    config.layers.checked_sub(trained_layers).filter(|_| trained_layers > 0).ok_or_else(|| NnError::Argument {
        name: "number of trained layers",
        got: trained_layers.to_string(),
        expected: format!("1 to {}", config.layers),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finetune::{EmbeddingFineTuner, Example};
    use crate::gradients::Gradients;
    use eas_tensor::rng::SplitMix64;
    use eas_tensor::{kernels::dot_rows, top_k};

    /// Ten things and ten qualities, each with a synonym 20 ids later, between the ids 1 and 2 that begin and end a text.
    const WORDS: u32 = 10;
    const CONFIG: BertConfig =
        BertConfig { vocabulary: 48, hidden: 32, layers: 3, heads: 4, inner: 64, positions: 8, epsilon: 1e-12 };

    /// All 100 phrases and their paraphrases, in which every word is replaced and the order is turned round; shuffled.
    fn world() -> Vec<(TokenIds, TokenIds)> {
        let mut phrases = Vec::new();
        for thing in 0..WORDS {
            for quality in 0..WORDS {
                let (t, q) = (5 + thing, 5 + WORDS + quality);
                phrases.push((vec![1, q, t, 2], vec![1, t + 2 * WORDS, 3, q + 2 * WORDS, 2]));
            }
        }
        SplitMix64::new(7).shuffle(&mut phrases);
        phrases
    }

    /// The share of held-out phrases, which weren't trained on, that find their own paraphrase first among all held-out ones.
    fn held_out_recall(encoder: &BertEncoder) -> f64 {
        let world = world();
        let (queries, texts): (Vec<&[u32]>, Vec<&[u32]>) =
            world[70..].iter().map(|(a, b)| (a.as_slice(), b.as_slice())).unzip();
        let (queries, texts) = (encoder.encode(&queries).unwrap(), encoder.encode(&texts).unwrap());
        let first = |q: usize| top_k(&dot_rows(queries.row(q), &texts), 1)[0].id;
        (0..queries.rows()).filter(|&q| first(q) == q).count() as f64 / queries.rows() as f64
    }

    fn pairs() -> Vec<Example> {
        world().into_iter().take(70).map(|(a, b)| Example::Pair(a, b)).collect()
    }

    fn bits(encoder: &BertEncoder) -> Vec<(String, Vec<u32>)> {
        let values = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let tensors = encoder.bert().tensors().iter();
        tensors.map(|(name, x)| (name.clone(), values(x).into_iter().map(f32::to_bits).collect())).collect()
    }

    const TUNER: EmbeddingFineTuner = EmbeddingFineTuner {
        objective: crate::finetune::Objective::MULTIPLE_NEGATIVES,
        learning_rate: 3e-3,
        batch: 35,
        epochs: 60,
        warm_up: 10,
        weight_decay: 0.01,
        clip: 1.0,
        seed: 1,
    };

    #[test]
    fn trained_last_layers_generalise_and_lower_ones_do_not_move_by_a_bit() {
        let encoder = BertEncoder::random(1, CONFIG, 2).unwrap();
        let (before, frozen) = (held_out_recall(&encoder), bits(&encoder));
        let losses = TUNER.run(&encoder, &pairs()).unwrap();
        let after = held_out_recall(&encoder);
        assert!(before <= 0.2 && after >= 0.5, "recall@1 of texts not trained on: {before} to {after}, {losses:?}");
        for ((name, old), (_, new)) in frozen.iter().zip(bits(&encoder)) {
            let trained = name.starts_with("encoder.layer.1") || name.starts_with("encoder.layer.2");
            assert_eq!(*old != new, trained, "{name}");
        }
        let again = BertEncoder::random(1, CONFIG, 2).unwrap();
        assert_eq!(TUNER.run(&again, &pairs()).unwrap(), losses);
    }

    #[test]
    fn a_small_transformer_learns_from_scratch_what_holds_for_texts_it_has_not_seen() {
        let encoder = BertEncoder::from_scratch(2, CONFIG).unwrap();
        let before = held_out_recall(&encoder);
        TUNER.run(&encoder, &pairs()).unwrap();
        let after = held_out_recall(&encoder);
        assert!(before <= 0.2 && after >= 0.8, "recall@1 of texts not trained on: {before} to {after}");
        assert_eq!(encoder.bytes_read(), 0);
    }

    /// The loss of texts of unlike lengths, and its gradient through what the frozen layers were asked once, against a whole pass.
    #[test]
    fn what_was_read_before_gives_the_vectors_and_gradients_of_a_whole_pass() {
        let encoder = BertEncoder::random(3, CONFIG, 1).unwrap();
        let texts: [&[u32]; 4] = [&[1, 9, 2], &[1, 20, 30, 7, 8, 2], &[1, 9, 2], &[2]];
        let target = Tensor::arange(0f32, 128.0, &Device::Cpu).unwrap().reshape((4, 32)).unwrap().sin().unwrap();
        let loss = |vectors: Tensor| (vectors * &target).unwrap().sum_all().unwrap();
        let whole = || {
            let ids: Vec<TokenIds> = texts.iter().map(|text| text.to_vec()).collect();
            let input = padded_ids(&ids, &Device::Cpu).unwrap();
            let states = encoder.bert().hidden_states(&input).unwrap();
            mean_pooled(&states, &input.ne(0u32).unwrap().to_dtype(DType::F32).unwrap()).unwrap()
        };
        let cached = encoder.forward(&texts).unwrap();
        assert_eq!(encoder.bytes_read(), 4 * 32 * (3 + 6 + 1));
        let off = (&cached - whole()).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(off < 1e-5, "{off}");
        let ours = Gradients::of(&loss(cached), encoder.params()).unwrap();
        let full = Gradients::of(&loss(whole()), encoder.params()).unwrap();
        let mut compared = 0;
        for ((name, ours), (_, full)) in ours.iter().zip(full.iter()) {
            let (ours, full) = (ours.unwrap(), full.unwrap());
            let off = (ours - full).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(off < 1e-5, "{name}: {off}");
            compared += 1;
        }
        assert_eq!(compared, 16, "every tensor of the trained layer");

        // Central differences of the largest entry of each.
        for (name, var) in encoder.params().named() {
            let gradient = ours.get(name).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let largest = (0..gradient.len()).max_by(|&a, &b| gradient[a].abs().total_cmp(&gradient[b].abs())).unwrap();
            if gradient[largest].abs() < 0.05 {
                continue;
            }
            let values = var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let at = |by: f32| {
                let mut moved = values.clone();
                moved[largest] += by;
                var.set(&Tensor::from_vec(moved, var.dims(), &Device::Cpu).unwrap()).unwrap();
                loss(encoder.forward(&texts).unwrap()).to_scalar::<f32>().unwrap()
            };
            let difference = (at(1e-2) - at(-1e-2)) / 2e-2;
            at(0.0);
            let error = (difference - gradient[largest]).abs() / gradient[largest].abs();
            assert!(error < 0.03, "{name}: {difference} {}", gradient[largest]);
        }
        encoder.forget();
        assert_eq!(encoder.bytes_read(), 0);
    }

    #[test]
    fn the_whole_model_and_its_trained_part_are_saved() {
        let folder = tempfile::tempdir().unwrap();
        let (whole, part) = (folder.path().join("model.safetensors"), folder.path().join("layers.safetensors"));
        let encoder = BertEncoder::random(4, CONFIG, 1).unwrap();
        let texts: [&[u32]; 2] = [&[1, 9, 2], &[1, 20, 30, 2]];
        let untrained = encoder.encode(&texts).unwrap();
        EmbeddingFineTuner { epochs: 2, warm_up: 0, ..TUNER }.run(&encoder, &pairs()).unwrap();
        let tuned = encoder.encode(&texts).unwrap();
        assert_ne!(tuned, untrained);
        encoder.bert().save(&whole).unwrap();
        encoder.save(&part).unwrap();
        assert_eq!(BertEncoder::load(&whole, CONFIG, 2).unwrap().encode(&texts).unwrap().rows(), 2);
        assert_eq!(BertEncoder::load(&whole, CONFIG, 1).unwrap().encode(&texts).unwrap(), tuned);
        let other = BertEncoder::random(4, CONFIG, 1).unwrap();
        assert_eq!(other.encode(&texts).unwrap(), untrained);
        other.restore(&part).unwrap();
        assert_eq!(other.encode(&texts).unwrap(), tuned);
        assert!(BertEncoder::random(4, CONFIG, 2).unwrap().restore(&part).is_err());
    }

    #[test]
    fn bad_texts_and_settings_are_refused() {
        for layers in [0, 4] {
            let message = BertEncoder::random(1, CONFIG, layers).unwrap_err().to_string();
            assert!(message.contains("1 to 3"), "{message}");
        }
        let encoder = BertEncoder::random(1, CONFIG, 1).unwrap();
        let refused = |text: &[u32], part: &str| {
            let message = encoder.forward(&[&[1, 2], text]).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
            let tuner = EmbeddingFineTuner { warm_up: 0, ..TUNER };
            let message = tuner.run(&encoder, &[Example::Pair(vec![1, 2], text.to_vec())]).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        };
        refused(&[], "is 0, must be 1 to 8");
        refused(&[1; 9], "is 9, must be 1 to 8");
        refused(&[1, 48, 2], "token is 48");
        refused(&[1, 0, 2], "token is 0");
        assert!(matches!(encoder.forward(&[]), Err(NnError::Empty { .. })));
        assert_eq!(encoder.encode(&[]).unwrap().rows(), 0);
    }

    /// A weight that isn't a number stops the run at once, and the message says where.
    #[test]
    fn a_weight_that_is_not_a_number_stops_the_run() {
        let encoder = BertEncoder::random(1, CONFIG, 1).unwrap();
        let (_, var) = encoder.params().named().next().unwrap();
        var.set(&(var.ones_like().unwrap() * f64::NAN).unwrap()).unwrap();
        let stopped = TUNER.run(&encoder, &pairs()).unwrap_err();
        assert!(matches!(stopped, NnError::Stopped { step: 0, .. }), "{stopped}");
    }
}
