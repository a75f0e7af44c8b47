//! Multi-head self-attention and a small transformer encoder.
//!
//! Vaswani et al., "Attention Is All You Need" (NeurIPS 2017), with the normalisation before each block (Xiong et al. 2020), which trains
//! without warm-up.

use candle_core::{D, DType, Tensor, Var};
use candle_nn::ops::softmax;
use eas_tensor::training::SelfAttention;

use crate::dropout::Dropout;
use crate::encoders::Encoder;
use crate::fused::{self, EncoderLayer};
use crate::layers::{Linear, l2_normalize};
use crate::norm::LayerNorm;
use crate::params::Parameters;
use crate::{Mode, NnError, Precision};

/// Self-attention: each token's output is a mean of all tokens' values, weighted by how well their keys match its query.
///
/// Over a sequence of one token the only weight is 1: the layer is then linear, `W_o (W_v x + b_v) + b_o`, and neither queries nor keys
/// get a gradient.
#[derive(Debug, Clone)]
pub struct MultiHeadAttention {
    heads: usize,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    dropout: Dropout,
}

impl MultiHeadAttention {
    /// Attention over vectors of `width` values with `heads` heads, which divide the width, and `dropout` on the attention weights.
    pub fn new(params: &mut Parameters, name: &str, width: usize, heads: usize, dropout: f64) -> Result<Self, NnError> {
        if heads == 0 || !width.is_multiple_of(heads) {
            return Err(NnError::Argument {
                name: "attention heads",
                got: format!("{heads} for a width of {width}"),
                expected: "a divisor of the width".to_owned(),
            });
        }
        let mut linear = |part: &str| Linear::new(params, &format!("{name}.{part}"), width, width);
        Ok(Self {
            heads,
            query: linear("query")?,
            key: linear("key")?,
            value: linear("value")?,
            output: linear("output")?,
            dropout: Dropout::new(&format!("{name}.weights"), dropout)?,
        })
    }

    /// `(batch, length, width)` to the same. `padding`, shape `(batch, length)`, is 1 for tokens and 0 for padding, which no token reads.
    pub fn forward(&self, x: &Tensor, padding: Option<&Tensor>, mode: Mode) -> Result<Tensor, NnError> {
        Ok(self.forward_with_weights(x, padding, mode)?.0)
    }

    /// The output, and the weights before dropout, shape `(batch, heads, length, length)`.
    pub fn forward_with_weights(
        &self,
        x: &Tensor,
        padding: Option<&Tensor>,
        mode: Mode,
    ) -> Result<(Tensor, Tensor), NnError> {
        let (batch, length, width) = self.check(x, padding)?;
        let of_head = width / self.heads;
        let by_head = |x: &Tensor, linear: &Linear| -> Result<Tensor, NnError> {
            let heads = linear.forward_in(x, mode)?.reshape((batch, length, self.heads, of_head))?;
            Ok(heads.transpose(1, 2)?.contiguous()?)
        };
        let (query, key, value) = (by_head(x, &self.query)?, by_head(x, &self.key)?, by_head(x, &self.value)?);
        let scores = (mode.precision().matmul(&query, &key.t()?.contiguous()?)? / (of_head as f64).sqrt())?;
        let scores = match padding {
            None => scores,
            Some(padding) => {
                let absent = hidden(&padding.to_dtype(scores.dtype())?)?;
                scores.broadcast_add(&absent.reshape((batch, 1, 1, length))?)?
            }
        };
        let weights = softmax(&scores, D::Minus1)?;
        let context = mode.precision().matmul(&self.dropout.forward(&weights, mode)?, &value)?;
        let joined = context.transpose(1, 2)?.contiguous()?.reshape((batch, length, width))?;
        Ok((self.output.forward_in(&joined, mode)?, weights))
    }

    fn check(&self, x: &Tensor, padding: Option<&Tensor>) -> Result<(usize, usize, usize), NnError> {
        let width = self.query.inputs();
        if x.rank() != 3 || x.dims()[2] != width || x.elem_count() == 0 {
            return Err(NnError::Shape {
                what: "attention".to_owned(),
                expected: format!("(batch, length, {width}), not empty"),
                got: x.dims().to_vec(),
            });
        }
        if let Some(padding) = padding.filter(|padding| padding.dims() != &x.dims()[..2]) {
            return Err(NnError::Shape {
                what: "padding of attention".to_owned(),
                expected: format!("{:?}", &x.dims()[..2]),
                got: padding.dims().to_vec(),
            });
        }
        Ok(x.dims3()?)
    }
}

/// What is added to scores: 0 for tokens, and for padding so little that its share is 0.
fn hidden(padding: &Tensor) -> Result<Tensor, NnError> {
    Ok((padding.affine(-1.0, 1.0)? * -1e9)?)
}

/// The widths of a [`TransformerEncoder`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TransformerConfig {
    /// Width of a token's vector, and of the embedding.
    pub width: usize,
    /// Layers.
    pub layers: usize,
    /// Attention heads; `width` is a multiple of it.
    pub heads: usize,
    /// Width of the feed-forward layer.
    pub inner: usize,
    /// Longest sequence.
    pub positions: usize,
    /// Dropout on attention weights and on what each block adds.
    pub dropout: f64,
}

/// A transformer from sequences to the mean of their tokens' last vectors.
///
/// Sequences are token ids (u32, 0 for padding) for a model made by [`of_tokens`](Self::of_tokens), or vectors (f32) for one made by
/// [`of_vectors`](Self::of_vectors). As an [`Encoder`] it gives unit vectors.
#[derive(Debug, Clone)]
pub struct TransformerEncoder {
    config: TransformerConfig,
    input: Input,
    positions: Var,
    dropout: Dropout,
    layers: Vec<Layer>,
    norm: LayerNorm,
}

#[derive(Debug, Clone)]
enum Input {
    Table(Var),
    Linear(Linear),
}

/// One layer: attention, then a feed-forward network, each added to what came in.
#[derive(Debug, Clone)]
pub struct Layer {
    attention_norm: LayerNorm,
    attention: MultiHeadAttention,
    feed_norm: LayerNorm,
    inner: Linear,
    outer: Linear,
    dropout: [Dropout; 2],
}

impl TransformerEncoder {
    /// An encoder of token ids below `vocabulary`; id 0 is padding.
    pub fn of_tokens(
        params: &mut Parameters,
        name: &str,
        config: TransformerConfig,
        vocabulary: usize,
    ) -> Result<Self, NnError> {
        config.check(vocabulary, "vocabulary")?;
        let table = params.normal(&format!("{name}.tokens"), &[vocabulary, config.width], 0.02)?;
        Self::build(params, name, config, Input::Table(table))
    }

    /// An encoder of sequences of vectors of `inputs` values, which a linear layer brings to the model's width. There is no padding.
    pub fn of_vectors(
        params: &mut Parameters,
        name: &str,
        config: TransformerConfig,
        inputs: usize,
    ) -> Result<Self, NnError> {
        config.check(inputs, "input width")?;
        let linear = Linear::new(params, &format!("{name}.input"), inputs, config.width)?;
        Self::build(params, name, config, Input::Linear(linear))
    }

    fn build(params: &mut Parameters, name: &str, config: TransformerConfig, input: Input) -> Result<Self, NnError> {
        Ok(Self {
            input,
            positions: params.normal(&format!("{name}.positions"), &[config.positions, config.width], 0.02)?,
            dropout: Dropout::new(&format!("{name}.dropout"), config.dropout)?,
            layers: (0..config.layers)
                .map(|i| Layer::new(params, &format!("{name}.layer.{i}"), config))
                .collect::<Result<_, _>>()?,
            norm: LayerNorm::new(params, &format!("{name}.norm"), config.width)?,
            config,
        })
    }

    /// The widths.
    pub fn config(&self) -> TransformerConfig {
        self.config
    }

    /// The layers, for a caller that runs them in segments.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Token vectors with their positions, shape `(batch, length, width)`, and the padding mask of token ids.
    pub fn embed(&self, input: &Tensor, mode: Mode) -> Result<(Tensor, Option<Tensor>), NnError> {
        let wrong = |expected: String| NnError::Shape {
            what: "transformer input".to_owned(),
            expected,
            got: input.dims().to_vec(),
        };
        let longest = self.config.positions;
        let length = input.dims().get(1).copied().unwrap_or(0);
        if length == 0 || length > longest {
            return Err(wrong(format!("(batch, length, ...) with a length of 1 to {longest}")));
        }
        let (tokens, padding) = match &self.input {
            Input::Table(table) => {
                let (batch, length) = input.dims2().map_err(|_| wrong("(batch, length) token ids".to_owned()))?;
                let rows = table.index_select(&input.flatten_all()?, 0)?;
                let padding = input.ne(0u32)?.to_dtype(DType::F32)?;
                (rows.reshape((batch, length, self.config.width))?, Some(padding))
            }
            Input::Linear(linear) if input.rank() == 3 => (linear.forward_in(input, mode)?, None),
            Input::Linear(linear) => return Err(wrong(format!("(batch, length, {})", linear.inputs()))),
        };
        let placed = tokens.broadcast_add(&self.positions.narrow(0, 0, length)?)?;
        Ok((self.dropout.forward(&placed, mode)?, padding))
    }

    /// The mean of the last token vectors, shape `(batch, width)`, of what the layers made of [`embed`](Self::embed)'s tensors.
    pub fn pool(&self, hidden: &Tensor, padding: Option<&Tensor>) -> Result<Tensor, NnError> {
        let hidden = self.norm.forward(hidden)?;
        let Some(padding) = padding else { return Ok(hidden.mean(1)?) };
        let mask = padding.unsqueeze(D::Minus1)?;
        // A sequence of padding alone pools to zero instead of dividing by it.
        let count = mask.sum(1)?.maximum(1.0)?;
        Ok(hidden.broadcast_mul(&mask)?.sum(1)?.broadcast_div(&count)?)
    }

    /// The representation, shape `(batch, width)`, of any length.
    pub fn representation(&self, input: &Tensor, mode: Mode) -> Result<Tensor, NnError> {
        let (mut hidden, padding) = self.embed(input, mode)?;
        for layer in &self.layers {
            hidden = layer.forward(&hidden, padding.as_ref(), mode)?;
        }
        self.pool(&hidden, padding.as_ref())
    }
}

impl Encoder for TransformerEncoder {
    fn dim(&self) -> usize {
        self.config.width
    }

    /// `input`: token ids of shape `(batch, length)`, u32, 0 for padding; or vectors of shape `(batch, length, inputs)`, f32.
    fn forward(&self, input: &Tensor) -> Result<Tensor, NnError> {
        self.forward_in(input, Mode::EVAL)
    }

    fn forward_in(&self, input: &Tensor, mode: Mode) -> Result<Tensor, NnError> {
        l2_normalize(&self.representation(input, mode)?)
    }
}

impl Layer {
    fn new(params: &mut Parameters, name: &str, config: TransformerConfig) -> Result<Self, NnError> {
        let TransformerConfig { width, heads, inner, dropout, .. } = config;
        let drop = |block: &str| Dropout::new(&format!("{name}.{block}"), dropout);
        Ok(Self {
            dropout: [drop("attention.dropout")?, drop("feed.dropout")?],
            attention_norm: LayerNorm::new(params, &format!("{name}.attention.norm"), width)?,
            attention: MultiHeadAttention::new(params, &format!("{name}.attention"), width, heads, dropout)?,
            feed_norm: LayerNorm::new(params, &format!("{name}.feed.norm"), width)?,
            inner: Linear::new(params, &format!("{name}.feed.inner"), width, inner)?,
            outer: Linear::new(params, &format!("{name}.feed.outer"), inner, width)?,
        })
    }

    /// `(batch, length, width)` to the same; `padding` as for [`MultiHeadAttention::forward`].
    pub fn forward(&self, x: &Tensor, padding: Option<&Tensor>, mode: Mode) -> Result<Tensor, NnError> {
        if let Some(out) = self.fused(x, padding, mode)? {
            return Ok(out);
        }
        self.composed(x, padding, mode)
    }

    /// The layer as one operation, where that serves.
    fn fused(&self, x: &Tensor, padding: Option<&Tensor>, mode: Mode) -> Result<Option<Tensor>, NnError> {
        let MultiHeadAttention { heads, query, key, value, output, dropout } = &self.attention;
        let [norm, feed_norm] = [&self.attention_norm, &self.feed_norm].map(LayerNorm::tensors);
        let [query, key, value, output] = [query, key, value, output].map(Linear::tensors);
        let [inner, outer] = [&self.inner, &self.outer].map(Linear::tensors);
        let parts = [
            norm[0],
            norm[1],
            query[0],
            key[0],
            value[0],
            query[1],
            key[1],
            value[1],
            output[0],
            output[1],
            feed_norm[0],
            feed_norm[1],
            inner[0],
            inner[1],
            outer[0],
            outer[1],
        ];
        // What doesn't fit is refused by the composition.
        let &[batch, tokens, width] = x.dims() else { return Ok(None) };
        let fits = width == self.inner.inputs() && padding.is_none_or(|padding| padding.dims() == [batch, tokens]);
        if !fits || mode.precision() != Precision::F32 || !fused::serves(&parts) || !fused::serves(&[x]) {
            return Ok(None);
        }
        let attention = SelfAttention { tokens, heads: *heads, head_dim: width / heads };
        let mut absent = match padding {
            Some(padding) => hidden(&padding.to_dtype(DType::F32)?)?.flatten_all()?.to_vec1::<f32>()?,
            None => Vec::new(),
        };
        if absent.iter().all(|&x| x == 0.0) {
            absent.clear();
        }
        let mask = |dropout: &Dropout, count| dropout.mask(count, mode).unwrap_or_default();
        let layer = EncoderLayer {
            batch,
            attention,
            inner: self.inner.outputs(),
            epsilon: self.attention_norm.epsilon(),
            hidden: absent,
            drops: [
                mask(dropout, batch * attention.weights()),
                mask(&self.dropout[0], x.elem_count()),
                mask(&self.dropout[1], x.elem_count()),
            ],
        };
        layer.apply(x, &parts).map(Some)
    }

    fn composed(&self, x: &Tensor, padding: Option<&Tensor>, mode: Mode) -> Result<Tensor, NnError> {
        let attended = self.attention.forward(&self.attention_norm.forward(x)?, padding, mode)?;
        let x = (x + self.dropout[0].forward(&attended, mode)?)?;
        let inner = self.inner.forward_in(&self.feed_norm.forward(&x)?, mode)?.gelu_erf()?;
        let fed = self.outer.forward_in(&inner, mode)?;
        Ok((x + self.dropout[1].forward(&fed, mode)?)?)
    }
}

impl TransformerConfig {
    fn check(&self, inputs: usize, name: &'static str) -> Result<(), NnError> {
        if inputs == 0 {
            return Err(NnError::Argument { name, got: "0".to_owned(), expected: "at least 1".to_owned() });
        }
        let widths = [self.width, self.layers, self.heads, self.inner, self.positions];
        if widths.contains(&0) || !self.width.is_multiple_of(self.heads) {
            return Err(NnError::Argument {
                name: "transformer configuration",
                got: format!("{self:?}"),
                expected: "widths of at least 1, and a width that the heads divide".to_owned(),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradients::Gradients;
    use crate::train::Training;
    use candle_core::Device;

    const SMALL: TransformerConfig =
        TransformerConfig { width: 16, layers: 2, heads: 4, inner: 32, positions: 8, dropout: 0.1 };

    fn noise(shape: &[usize], seed: u64) -> Tensor {
        let mut rng = eas_tensor::rng::SplitMix64::new(seed);
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.normal() as f32).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn values(x: &Tensor) -> Vec<f32> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    fn assert_close(left: &[f32], right: &[f32], tolerance: f32) {
        assert_eq!(left.len(), right.len());
        for (l, r) in left.iter().zip(right) {
            assert!((l - r).abs() <= tolerance, "{l} differs from {r}");
        }
    }

    fn ids(rows: &[&[u32]]) -> Tensor {
        let rows: Vec<Vec<u32>> = rows.iter().map(|row| row.to_vec()).collect();
        crate::bert::padded_ids(&rows, &Device::Cpu).unwrap()
    }

    #[test]
    fn one_token_makes_attention_a_linear_layer() {
        let mut params = Parameters::new(1, &Device::Cpu);
        let attention = MultiHeadAttention::new(&mut params, "attention", 16, 4, 0.0).unwrap();
        let x = noise(&[5, 1, 16], 2);
        let (out, weights) = attention.forward_with_weights(&x, None, Mode::EVAL).unwrap();
        assert!(values(&weights).iter().all(|&w| w == 1.0));
        let flat = x.squeeze(1).unwrap();
        let linear = attention.output.forward(&attention.value.forward(&flat).unwrap()).unwrap();
        assert_close(&values(&out), &values(&linear), 1e-6);
        let gradients = Gradients::of(&out.sqr().unwrap().sum_all().unwrap(), &params).unwrap();
        for part in ["query", "key"] {
            let gradient = gradients.get(&format!("attention.{part}.weight")).unwrap();
            assert!(values(gradient).iter().all(|&g| g == 0.0), "{part}");
        }
        assert!(values(gradients.get("attention.value.weight").unwrap()).iter().any(|&g| g != 0.0));
    }

    /// Against loops over heads, tokens and values.
    #[test]
    fn attention_equals_loops() {
        let mut params = Parameters::new(3, &Device::Cpu);
        let attention = MultiHeadAttention::new(&mut params, "attention", 6, 2, 0.0).unwrap();
        let x = noise(&[2, 4, 6], 4);
        let padding = Tensor::new(&[[1f32, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0]], &Device::Cpu).unwrap();
        let out = attention.forward(&x, Some(&padding), Mode::EVAL).unwrap();
        for (b, tokens) in [3usize, 4].into_iter().enumerate() {
            let rows = x.get(b).unwrap();
            let apply = |linear: &Linear| linear.forward(&rows).unwrap().to_vec2::<f32>().unwrap();
            let (query, key, value) = (apply(&attention.query), apply(&attention.key), apply(&attention.value));
            let mut joined = vec![0f32; 4 * 6];
            for i in 0..4 {
                for head in 0..2 {
                    let part = 3 * head..3 * head + 3;
                    let score =
                        |j: usize| -> f32 { part.clone().map(|c| query[i][c] * key[j][c]).sum::<f32>() / 3f32.sqrt() };
                    let total: f32 = (0..tokens).map(|j| score(j).exp()).sum();
                    for c in part.clone() {
                        joined[6 * i + c] = (0..tokens).map(|j| score(j).exp() / total * value[j][c]).sum();
                    }
                }
            }
            let joined = Tensor::from_vec(joined, (4, 6), &Device::Cpu).unwrap();
            let expected = attention.output.forward(&joined).unwrap();
            assert_close(&values(&out.get(b).unwrap()), &values(&expected), 1e-5);
        }
        let mut params = Parameters::new(1, &Device::Cpu);
        MultiHeadAttention::new(&mut params, "attention", 512, 8, 0.1).unwrap();
        assert_eq!(params.count(), 1_050_624, "the attention of listing 6.3");
    }

    /// Value and every gradient of the fused layer against candle's composition and, by the input, against differences.
    #[test]
    fn a_fused_layer_equals_the_composition() {
        for (batch, tokens, width, heads, inner, dropout) in
            [(1, 1, 1, 1, 1, 0.0), (2, 5, 6, 2, 7, 0.0), (3, 33, 16, 4, 40, 0.2), (40, 3, 32, 1, 17, 0.5)]
        {
            let config = TransformerConfig { width, layers: 1, heads, inner, positions: tokens, dropout };
            let mut params = Parameters::new(1, &Device::Cpu);
            let layer = Layer::new(&mut params, "layer", config).unwrap();
            for (i, var) in params.vars().iter().enumerate() {
                var.set(&(var.as_tensor() + noise(var.dims(), i as u64) * 0.1).unwrap()).unwrap();
            }
            let x = Var::from_tensor(&noise(&[batch, tokens, width], 50)).unwrap();
            let above = noise(&[batch, tokens, width], 51);
            let kept: Vec<f32> =
                (0..batch * tokens).map(|i| if i % tokens > 2 && i % 5 == 0 { 0.0 } else { 1.0 }).collect();
            let padding = Tensor::from_vec(kept, (batch, tokens), &Device::Cpu).unwrap();
            for padding in [None, Some(&padding)] {
                let mode = Mode::train(1, 2);
                let ours = layer.fused(&x, padding, mode).unwrap().unwrap();
                let theirs = layer.composed(&x, padding, mode).unwrap();
                assert_close(&values(&ours), &values(&theirs), 2e-5);
                let loss = |out: &Tensor| (out * &above).unwrap().sum_all().unwrap();
                let graph = loss(&ours);
                let their_grads = loss(&theirs).backward().unwrap();
                // Twice: the second pass has to compute the forward pass again.
                for _ in 0..2 {
                    let our_grads = graph.backward().unwrap();
                    for var in params.vars().iter().chain([&x]) {
                        let (a, b) = (values(our_grads.get(var).unwrap()), values(their_grads.get(var).unwrap()));
                        let largest = b.iter().fold(1f32, |m, g| m.max(g.abs()));
                        assert_close(&a, &b, 1e-5 * largest);
                    }
                }
                let gradient = values(graph.backward().unwrap().get(&x).unwrap());
                let start = values(&x);
                for i in (0..start.len()).step_by(1 + start.len() / 5) {
                    let shifted = |by: f32| {
                        let mut moved = start.clone();
                        moved[i] += by;
                        let moved = Tensor::from_vec(moved, x.dims(), &Device::Cpu).unwrap();
                        let out = layer.fused(&moved, padding, mode).unwrap().unwrap();
                        let products = values(&(out * &above).unwrap());
                        products.iter().map(|&v| f64::from(v)).sum::<f64>()
                    };
                    let difference = (shifted(1e-2) - shifted(-1e-2)) / 2e-2;
                    let own = f64::from(gradient[i]);
                    assert!((difference - own).abs() < 2e-2 * (1.0 + own.abs()), "{difference} {own}");
                }
            }
        }
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let mut params = Parameters::new(1, &Device::Cpu);
        let model = TransformerEncoder::of_tokens(&mut params, "text", SMALL, 20).unwrap();
        let rows: Vec<Vec<u32>> = (0..90u32).map(|i| (0..=i % 8).map(|t| 1 + (7 * i + t) % 19).collect()).collect();
        let input = crate::bert::padded_ids(&rows, &Device::Cpu).unwrap();
        let run = |threads: usize| {
            rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
                let out = model.forward_in(&input, Mode::train(1, 2)).unwrap();
                let gradients = Gradients::of(&out.narrow(1, 0, 3).unwrap().sum_all().unwrap(), &params).unwrap();
                let gradients: Vec<f32> = gradients.iter().filter_map(|(_, g)| g.map(values)).flatten().collect();
                (values(&out), gradients)
            })
        };
        assert_eq!(run(1), run(3));
    }

    #[test]
    fn padding_does_not_change_a_sequence_and_order_does() {
        let mut params = Parameters::new(5, &Device::Cpu);
        let model = TransformerEncoder::of_tokens(&mut params, "text", SMALL, 20).unwrap();
        let batch = model.encode(&ids(&[&[5, 9, 2], &[3, 4, 5, 6, 7, 8], &[2, 9, 5], &[]])).unwrap();
        let alone = model.encode(&ids(&[&[5, 9, 2]])).unwrap();
        assert_close(alone.row(0), batch.row(0), 1e-6);
        assert_ne!(batch.row(0), batch.row(2));
        assert!(batch.check_finite().is_ok());
        assert!((batch.row(0).iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
    }

    #[test]
    fn dropout_is_for_training_only_and_can_be_replayed() {
        let mut params = Parameters::new(6, &Device::Cpu);
        let model = TransformerEncoder::of_vectors(&mut params, "series", SMALL, 3).unwrap();
        let x = noise(&[4, 8, 3], 7);
        let run = |mode| values(&model.forward_in(&x, mode).unwrap());
        assert_eq!(run(Mode::EVAL), run(Mode::EVAL));
        assert_ne!(run(Mode::EVAL), run(Mode::train(1, 0)));
        assert_eq!(run(Mode::train(1, 0)), run(Mode::train(1, 0).replayed()));
        assert_ne!(run(Mode::train(1, 0)), run(Mode::train(1, 1)));
    }

    #[test]
    fn half_precision_is_near_and_different() {
        let mut params = Parameters::new(8, &Device::Cpu);
        let model = TransformerEncoder::of_vectors(&mut params, "series", SMALL, 3).unwrap();
        let x = noise(&[4, 8, 3], 9);
        let full = values(&model.forward(&x).unwrap());
        for (precision, tolerance) in [(crate::Precision::Bf16, 2e-2), (crate::Precision::F16, 3e-3)] {
            let half = values(&model.forward_in(&x, Mode::EVAL.with_precision(precision)).unwrap());
            assert_ne!(full, half);
            assert_close(&full, &half, tolerance);
        }
    }

    #[test]
    fn training_pulls_pairs_together() {
        let mut params = Parameters::new(10, &Device::Cpu);
        let model = TransformerEncoder::of_tokens(&mut params, "text", SMALL, 20).unwrap();
        // Two phrasings of each of six meanings.
        let phrases = |slot: u32| (0..6u32).map(|i| vec![1, 2 + 3 * i + slot, 2]).collect::<Vec<Vec<u32>>>();
        let of = |slot| crate::bert::padded_ids(&phrases(slot), &Device::Cpu).unwrap();
        let (a, b) = (of(0), of(1));
        let mut step = 0;
        let run = Training { epochs: 60, batch: 6, learning_rate: 3e-3, seed: 1 };
        let history = run
            .run(&params, 6, |_| {
                step += 2;
                let (a, b) =
                    (model.forward_in(&a, Mode::train(1, step))?, model.forward_in(&b, Mode::train(1, step + 1))?);
                Ok(eas_losses::info_nce(&a, &b, 0.2)?)
            })
            .unwrap();
        assert!(history[0] > 1.5 && history[59] < 0.5, "{history:?}");
    }

    #[test]
    fn impossible_models_and_inputs_are_refused() {
        let mut params = Parameters::new(1, &Device::Cpu);
        assert!(MultiHeadAttention::new(&mut params, "attention", 10, 3, 0.0).is_err());
        let wrong = TransformerConfig { heads: 3, ..SMALL };
        assert!(TransformerEncoder::of_tokens(&mut params, "wrong", wrong, 20).is_err());
        assert!(TransformerEncoder::of_tokens(&mut params, "none", SMALL, 0).is_err());
        let text = TransformerEncoder::of_tokens(&mut params, "text", SMALL, 20).unwrap();
        let series = TransformerEncoder::of_vectors(&mut params, "series", SMALL, 3).unwrap();
        assert!(matches!(text.forward(&ids(&[&[1; 9]])), Err(NnError::Shape { .. })), "too long");
        assert!(text.forward(&ids(&[&[1, 20]])).is_err(), "an id beyond the vocabulary");
        assert!(matches!(text.forward(&noise(&[1, 2, 3], 1)), Err(NnError::Shape { .. })));
        assert!(matches!(series.forward(&noise(&[1, 2, 4], 1)), Err(NnError::Shape { .. })));
        assert!(matches!(series.forward(&noise(&[3], 1)), Err(NnError::Shape { .. })));
    }
}
