//! BERT on candle tensors, for training: every operation has a gradient.
//!
//! Devlin, Chang, Lee and Toutanova, "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding" (NAACL 2019).
//! [`Bert::load`] reads the weights of a published model, all-MiniLM-L6-v2 for one, and makes its last layers trainable;
//! [`Bert::new`] starts from random weights. For encoding alone `eas_text::minilm` computes the same vectors several times faster.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::Path;

use candle_core::{D, DType, Device, Tensor};
use candle_nn::ops::softmax;

use crate::NnError;
use crate::encoders::Encoder;
use crate::layers::l2_normalize;
use crate::params::{Parameters, weights_error};

/// The widths of a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BertConfig {
    /// Tokens of the vocabulary.
    pub vocabulary: usize,
    /// Width of a token's vector.
    pub hidden: usize,
    /// Transformer layers.
    pub layers: usize,
    /// Attention heads; `hidden` is a multiple of it.
    pub heads: usize,
    /// Width of the feed-forward layer.
    pub inner: usize,
    /// Longest text in tokens.
    pub positions: usize,
    /// Added to the variance in layer normalisation.
    pub epsilon: f64,
}

impl BertConfig {
    /// all-MiniLM-L6-v2: six layers of width 384 with 12 heads.
    pub const MINI_LM_L6: Self =
        Self { vocabulary: 30_522, hidden: 384, layers: 6, heads: 12, inner: 1_536, positions: 512, epsilon: 1e-12 };

    fn check(&self) -> Result<(), NnError> {
        let widths = [self.vocabulary, self.hidden, self.layers, self.heads, self.inner, self.positions];
        if widths.contains(&0) || !self.hidden.is_multiple_of(self.heads) {
            return Err(NnError::Argument {
                name: "BERT configuration",
                got: format!("{self:?}"),
                expected: "widths of at least 1, and a hidden width that the heads divide".to_owned(),
            });
        }
        Ok(())
    }
}

/// A BERT encoder. As an [`Encoder`] it gives the mean of the last layer's token vectors, scaled to length 1, as sentence-transformers
/// does (Reimers and Gurevych, EMNLP 2019).
#[derive(Debug, Clone)]
pub struct Bert {
    config: BertConfig,
    words: Tensor,
    positions: Tensor,
    segments: Tensor,
    norm: Norm,
    layers: Vec<Layer>,
    /// All of these tensors, by their published names.
    tensors: BTreeMap<String, Tensor>,
}

#[derive(Debug, Clone)]
struct Norm {
    gain: Tensor,
    bias: Tensor,
    epsilon: f64,
}

#[derive(Debug, Clone)]
struct Linear {
    weight: Tensor,
    bias: Tensor,
}

#[derive(Debug, Clone)]
struct Layer {
    heads: usize,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    attention_norm: Norm,
    inner: Linear,
    outer: Linear,
    output_norm: Norm,
}

/// Where a model's tensors come from, by name and shape.
type Source<'a> = dyn FnMut(&str, &[usize]) -> Result<Tensor, NnError> + 'a;

impl Bert {
    /// A model with random weights, all of them trainable and named as published ones are: normal with deviation 0.02, biases 0.
    pub fn new(params: &mut Parameters, config: BertConfig) -> Result<Self, NnError> {
        Self::build(config, &mut |name, shape| {
            let var = match name.rsplit('.').next() {
                Some("bias") => params.constant(name, shape, 0.0),
                _ if name.contains("LayerNorm") => params.constant(name, shape, 1.0),
                _ => params.normal(name, shape, 0.02),
            };
            Ok(var?.as_tensor().clone())
        })
    }

    /// The model in a safetensors file with the names that Hugging Face's BERT uses. The tensors of its last `trained_layers` layers
    /// become part of `params`, whose device they are loaded to; the others stay as they are.
    ///
    /// An error when the file can't be read, lacks a tensor or holds one of another shape.
    pub fn load(
        path: impl AsRef<Path>,
        config: BertConfig,
        params: &mut Parameters,
        trained_layers: usize,
    ) -> Result<Self, NnError> {
        let path = path.as_ref();
        let file = candle_core::safetensors::load(path, params.device()).map_err(|error| weights_error(path, error))?;
        Self::from_tensors(file, config, params, trained_layers)
    }

    /// The same of tensors by name.
    pub(crate) fn from_tensors(
        mut given: HashMap<String, Tensor>,
        config: BertConfig,
        params: &mut Parameters,
        trained_layers: usize,
    ) -> Result<Self, NnError> {
        let frozen = config.layers.saturating_sub(trained_layers);
        Self::build(config, &mut |name, shape| {
            let tensor = given.remove(name).ok_or_else(|| NnError::Parameter(name.to_owned()))?;
            if tensor.dims() != shape {
                return Err(NnError::Shape {
                    what: name.to_owned(),
                    expected: format!("{shape:?}"),
                    got: tensor.dims().to_vec(),
                });
            }
            let tensor = tensor.to_dtype(DType::F32)?;
            let layer: Option<usize> =
                name.strip_prefix("encoder.layer.").and_then(|rest| rest.split('.').next()?.parse().ok());
            match layer {
                Some(layer) if layer >= frozen => Ok(params.adopt(name, &tensor)?.as_tensor().clone()),
                _ => Ok(tensor),
            }
        })
    }

    fn build(config: BertConfig, source: &mut Source<'_>) -> Result<Self, NnError> {
        config.check()?;
        let BertConfig { vocabulary, hidden, positions, .. } = config;
        let mut tensors = BTreeMap::new();
        let source: &mut Source<'_> = &mut |name, shape| {
            let tensor = source(name, shape)?;
            tensors.insert(name.to_owned(), tensor.clone());
            Ok(tensor)
        };
        let words = source("embeddings.word_embeddings.weight", &[vocabulary, hidden])?;
        let positions = source("embeddings.position_embeddings.weight", &[positions, hidden])?;
        let segments = source("embeddings.token_type_embeddings.weight", &[2, hidden])?;
        let norm = Norm::build("embeddings.LayerNorm", config, source)?;
        let layers = (0..config.layers)
            .map(|i| Layer::build(&format!("encoder.layer.{i}"), config, source))
            .collect::<Result<_, _>>()?;
        Ok(Self { config, words, positions, segments, norm, layers, tensors })
    }

    /// Writes all tensors, trained or not, to a safetensors file under their published names, for [`Bert::load`] and other libraries.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), NnError> {
        let path = path.as_ref();
        let tensors = self.tensors.iter().map(|(name, tensor)| Ok((name, tensor.contiguous()?)));
        let tensors: Vec<_> = tensors.collect::<Result<_, NnError>>()?;
        safetensors::serialize_to_file(tensors, None, path).map_err(|error| weights_error(path, error))
    }

    /// The tensors by their published names, as they are now.
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.tensors
    }

    /// The widths.
    pub fn config(&self) -> BertConfig {
        self.config
    }

    /// The last layer's vectors, shape `(batch, length, hidden)`, of token ids of shape `(batch, length)`, u32, 0 where a text has
    /// ended. Padding is read by no token; its own vectors mean nothing.
    pub fn hidden_states(&self, ids: &Tensor) -> Result<Tensor, NnError> {
        let mask = token_mask(ids, self.words.dtype())?;
        self.states_from(&self.states_before(ids, 0)?, &mask, 0)
    }

    /// What layer `layer`, counted from 0, is given of token ids of shape `(batch, length)`; shape `(batch, length, hidden)`. With the
    /// number of layers it is what the last one makes.
    pub fn states_before(&self, ids: &Tensor, layer: usize) -> Result<Tensor, NnError> {
        let (batch, length) = ids.dims2()?;
        if length == 0 || length > self.config.positions {
            return Err(NnError::Argument {
                name: "text length in tokens",
                got: length.to_string(),
                expected: format!("1 to {}", self.config.positions),
            });
        }
        let hidden = self
            .words
            .index_select(&ids.flatten_all()?, 0)?
            .reshape((batch, length, self.config.hidden))?
            .broadcast_add(&self.positions.narrow(0, 0, length)?)?
            .broadcast_add(&self.segments.narrow(0, 0, 1)?)?;
        let mask = token_mask(ids, hidden.dtype())?;
        self.through(self.norm.forward(&hidden)?, &mask, 0..self.checked(layer)?)
    }

    /// The last layer's vectors, shape `(batch, length, hidden)`, of what layer `layer` is given, and of a mask `(batch, length)` that
    /// is 1 for tokens and 0 for padding.
    pub fn states_from(&self, states: &Tensor, mask: &Tensor, layer: usize) -> Result<Tensor, NnError> {
        let (batch, length, hidden) = states.dims3()?;
        if hidden != self.config.hidden || mask.dims() != [batch, length] {
            return Err(NnError::Shape {
                what: "token vectors and mask".to_owned(),
                expected: format!("(batch, length, {}) and (batch, length)", self.config.hidden),
                got: [states.dims(), mask.dims()].concat(),
            });
        }
        self.through(states.clone(), mask, self.checked(layer)?..self.layers.len())
    }

    fn checked(&self, layer: usize) -> Result<usize, NnError> {
        if layer > self.layers.len() {
            return Err(NnError::Argument {
                name: "layer",
                got: layer.to_string(),
                expected: format!("at most {}", self.layers.len()),
            });
        }
        Ok(layer)
    }

    fn through(&self, mut hidden: Tensor, mask: &Tensor, layers: Range<usize>) -> Result<Tensor, NnError> {
        let (batch, length) = mask.dims2()?;
        // What is added to the attention scores: 0 for tokens, and for padding so little that its share is 0.
        let absent = (mask.affine(-1.0, 1.0)? * -1e9)?.reshape((batch, 1, 1, length))?;
        for layer in &self.layers[layers] {
            hidden = layer.forward(&hidden, &absent)?;
        }
        Ok(hidden)
    }
}

/// The mean of the token vectors `(batch, length, hidden)` where `mask`, `(batch, length)`, is 1, scaled to length 1.
pub fn mean_pooled(states: &Tensor, mask: &Tensor) -> Result<Tensor, NnError> {
    let mask = mask.unsqueeze(D::Minus1)?;
    let count = mask.sum(1)?.maximum(1.0)?;
    l2_normalize(&states.broadcast_mul(&mask)?.sum(1)?.broadcast_div(&count)?)
}

impl Encoder for Bert {
    fn dim(&self) -> usize {
        self.config.hidden
    }

    /// `input`: token ids of shape `(batch, length)`, u32, 0 for padding.
    fn forward(&self, input: &Tensor) -> Result<Tensor, NnError> {
        let hidden = self.hidden_states(input)?;
        mean_pooled(&hidden, &token_mask(input, hidden.dtype())?)
    }
}

/// Lists of token ids as one tensor of shape `(texts, longest)`, padded with 0.
pub fn padded_ids(ids: &[Vec<u32>], device: &Device) -> Result<Tensor, NnError> {
    let longest = ids.iter().map(Vec::len).max().unwrap_or(0).max(1);
    let padded: Vec<u32> =
        ids.iter().flat_map(|ids| ids.iter().copied().chain(std::iter::repeat(0)).take(longest)).collect();
    Ok(Tensor::from_vec(padded, (ids.len(), longest), device)?)
}

/// 1 for tokens and 0 for padding, shape `(batch, length)`.
fn token_mask(ids: &Tensor, dtype: DType) -> Result<Tensor, NnError> {
    Ok(ids.ne(0u32)?.to_dtype(dtype)?)
}

impl Norm {
    fn build(name: &str, config: BertConfig, source: &mut Source<'_>) -> Result<Self, NnError> {
        Ok(Self {
            gain: source(&format!("{name}.weight"), &[config.hidden])?,
            bias: source(&format!("{name}.bias"), &[config.hidden])?,
            epsilon: config.epsilon,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor, NnError> {
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + self.epsilon)?.sqrt()?;
        let unit = centred.broadcast_div(&deviation)?;
        Ok(unit.broadcast_mul(&self.gain)?.broadcast_add(&self.bias)?)
    }
}

impl Linear {
    fn build(name: &str, inputs: usize, outputs: usize, source: &mut Source<'_>) -> Result<Self, NnError> {
        Ok(Self {
            weight: source(&format!("{name}.weight"), &[outputs, inputs])?,
            bias: source(&format!("{name}.bias"), &[outputs])?,
        })
    }

    /// `(batch, length, inputs)` to `(batch, length, outputs)`, as one product over all tokens.
    fn forward(&self, x: &Tensor) -> Result<Tensor, NnError> {
        let (batch, length, inputs) = x.dims3()?;
        let rows = x.reshape((batch * length, inputs))?.matmul(&self.weight.t()?)?;
        Ok(rows.broadcast_add(&self.bias)?.reshape((batch, length, self.weight.dim(0)?))?)
    }
}

impl Layer {
    fn build(name: &str, config: BertConfig, source: &mut Source<'_>) -> Result<Self, NnError> {
        let BertConfig { hidden, inner, .. } = config;
        let attention = format!("{name}.attention");
        Ok(Self {
            heads: config.heads,
            query: Linear::build(&format!("{attention}.self.query"), hidden, hidden, source)?,
            key: Linear::build(&format!("{attention}.self.key"), hidden, hidden, source)?,
            value: Linear::build(&format!("{attention}.self.value"), hidden, hidden, source)?,
            output: Linear::build(&format!("{attention}.output.dense"), hidden, hidden, source)?,
            attention_norm: Norm::build(&format!("{attention}.output.LayerNorm"), config, source)?,
            inner: Linear::build(&format!("{name}.intermediate.dense"), hidden, inner, source)?,
            outer: Linear::build(&format!("{name}.output.dense"), inner, hidden, source)?,
            output_norm: Norm::build(&format!("{name}.output.LayerNorm"), config, source)?,
        })
    }

    /// `x`: `(batch, length, hidden)`; `absent`: what is added to the scores, `(batch, 1, 1, length)`.
    fn forward(&self, x: &Tensor, absent: &Tensor) -> Result<Tensor, NnError> {
        let attended = self.output.forward(&self.attention(x, absent)?)?;
        let x = self.attention_norm.forward(&(x + attended)?)?;
        let fed = self.outer.forward(&self.inner.forward(&x)?.gelu_erf()?)?;
        self.output_norm.forward(&(x + fed)?)
    }

    fn attention(&self, x: &Tensor, absent: &Tensor) -> Result<Tensor, NnError> {
        let (batch, length, hidden) = x.dims3()?;
        let width = hidden / self.heads;
        let by_head = |x: Tensor| -> Result<Tensor, NnError> {
            let heads = x.reshape((batch, length, self.heads, width))?.transpose(1, 2)?;
            Ok(heads.contiguous()?)
        };
        let query = by_head(self.query.forward(x)?)?;
        let key = by_head(self.key.forward(x)?)?;
        let value = by_head(self.value.forward(x)?)?;
        let scores = (query.matmul(&key.t()?.contiguous()?)? / (width as f64).sqrt())?;
        let shares = softmax(&scores.broadcast_add(absent)?, D::Minus1)?;
        let context = shares.matmul(&value)?.transpose(1, 2)?.contiguous()?;
        Ok(context.reshape((batch, length, hidden))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Training;
    use eas_losses::info_nce;

    const SMALL: BertConfig =
        BertConfig { vocabulary: 40, hidden: 16, layers: 2, heads: 4, inner: 32, positions: 12, epsilon: 1e-12 };

    fn small(seed: u64) -> (Bert, Parameters) {
        let mut params = Parameters::new(seed, &Device::Cpu);
        (Bert::new(&mut params, SMALL).unwrap(), params)
    }

    fn ids(rows: &[&[u32]]) -> Tensor {
        let rows: Vec<Vec<u32>> = rows.iter().map(|row| row.to_vec()).collect();
        padded_ids(&rows, &Device::Cpu).unwrap()
    }

    #[test]
    fn a_text_does_not_depend_on_its_neighbours_padding() {
        let (model, _) = small(1);
        let batch = model.encode(&ids(&[&[1, 5, 9, 2], &[1, 7, 2], &[1, 3, 4, 5, 6, 7, 8, 2]])).unwrap();
        for (row, text) in [&[1, 5, 9, 2][..], &[1, 7, 2]].into_iter().enumerate() {
            let alone = model.encode(&ids(&[text])).unwrap();
            for (a, b) in alone.row(0).iter().zip(batch.row(row)) {
                assert!((a - b).abs() < 1e-6);
            }
            assert!((alone.row(0).iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
        }
    }

    #[test]
    fn the_order_of_words_counts() {
        let (model, _) = small(2);
        let rows = model.encode(&ids(&[&[1, 5, 9, 2], &[1, 9, 5, 2]])).unwrap();
        assert_ne!(rows.row(0), rows.row(1));
    }

    /// The gradient of a weight of each kind against central differences of the loss.
    #[test]
    fn gradients_equal_finite_differences() {
        let (model, params) = small(3);
        let input = ids(&[&[1, 5, 9, 2], &[1, 7, 2]]);
        let target = Tensor::arange(0f32, 32.0, &Device::Cpu).unwrap().reshape((2, 16)).unwrap();
        let loss = || (model.forward(&input).unwrap() * &target).unwrap().sum_all().unwrap();
        let gradients = loss().backward().unwrap();
        let mut seen = 0;
        for var in params.vars() {
            let Some(gradient) = gradients.get(&var) else { continue };
            let (gradient, values) = (
                gradient.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
                var.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
            );
            let largest = (0..gradient.len()).max_by(|&a, &b| gradient[a].abs().total_cmp(&gradient[b].abs())).unwrap();
            if gradient[largest].abs() < 1.0 {
                continue;
            }
            let shifted = |by: f32| {
                let mut moved = values.clone();
                moved[largest] += by;
                var.set(&Tensor::from_vec(moved, var.dims(), &Device::Cpu).unwrap()).unwrap();
                loss().to_scalar::<f32>().unwrap()
            };
            let step = 2e-3;
            let difference = (shifted(step) - shifted(-step)) / (2.0 * step);
            shifted(0.0);
            let error = (difference - gradient[largest]).abs() / gradient[largest].abs();
            assert!(error < 0.02, "{:?}: {difference} {}", var.dims(), gradient[largest]);
            seen += 1;
        }
        assert!(seen >= 10, "{seen}");
    }

    #[test]
    fn training_pulls_pairs_together() {
        let (model, params) = small(4);
        // Two phrasings of each of six meanings.
        let words: Vec<[u32; 2]> = (0..6).map(|i| [5 + 3 * i, 6 + 3 * i]).collect();
        let phrase = |slot: usize| -> Tensor {
            let rows: Vec<Vec<u32>> = words.iter().map(|w| vec![1, w[slot], 2]).collect();
            padded_ids(&rows, &Device::Cpu).unwrap()
        };
        let (a, b) = (phrase(0), phrase(1));
        let run = Training { epochs: 60, batch: 6, learning_rate: 3e-3, seed: 1 };
        let history = run.run(&params, 6, |_| Ok(info_nce(&model.forward(&a)?, &model.forward(&b)?, 0.2)?)).unwrap();
        assert!(history[0] > 1.5, "{}", history[0]);
        assert!(history[history.len() - 1] < 0.2, "{history:?}");
    }

    #[test]
    fn a_saved_model_is_loaded_and_only_its_last_layers_are_trained() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let (model, params) = small(5);
        params.save(&path).unwrap();
        let mut tuned = Parameters::new(0, &Device::Cpu);
        let loaded = Bert::load(&path, SMALL, &mut tuned, 1).unwrap();
        let input = ids(&[&[1, 5, 9, 2]]);
        assert_eq!(model.encode(&input).unwrap(), loaded.encode(&input).unwrap());
        let layer = 4 * (16 * 16 + 16) + 2 * 32 + (16 * 32 + 32) + (32 * 16 + 16);
        assert_eq!(tuned.count(), layer);
        tuned.vars()[0].set(&tuned.vars()[0].zeros_like().unwrap()).unwrap();
        assert_ne!(model.encode(&input).unwrap(), loaded.encode(&input).unwrap());
    }

    #[test]
    fn foreign_files_and_bad_input_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let (model, params) = small(6);
        params.save(&path).unwrap();
        let load = |config| Bert::load(&path, config, &mut Parameters::new(0, &Device::Cpu), 0).map(drop);
        let wider = BertConfig { inner: 64, ..SMALL };
        assert!(matches!(load(wider), Err(NnError::Shape { what, .. }) if what.contains("intermediate")));
        let deeper = BertConfig { layers: 3, ..SMALL };
        assert!(matches!(load(deeper), Err(NnError::Parameter(name)) if name.starts_with("encoder.layer.2")));
        assert!(load(BertConfig { heads: 3, ..SMALL }).is_err());
        std::fs::write(&path, b"not weights").unwrap();
        assert!(matches!(load(SMALL), Err(NnError::Weights { .. })));
        let long = ids(&[&[1; 13]]);
        assert!(matches!(model.forward(&long), Err(NnError::Argument { .. })));
        assert!(model.forward(&ids(&[&[1, 99, 2]])).is_err(), "an id beyond the vocabulary");
    }
}
