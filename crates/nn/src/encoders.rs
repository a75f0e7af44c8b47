//! Small encoders from tokens, pictures and feature vectors to unit vectors.

use candle_core::{D, Device, Tensor, Var};
use eas_tensor::Matrix;

use crate::layers::{Conv3x3, ImageShape, Linear, MaxPool2x2, l2_normalize};
use crate::params::Parameters;
use crate::{Mode, NnError};

/// Rows scored at a time by [`Encoder::encode`], which bounds its memory.
const ROWS_AT_A_TIME: usize = 512;

/// A model from a batch of inputs to unit vectors of one dimension.
pub trait Encoder {
    /// Dimension of the vectors.
    fn dim(&self) -> usize;

    /// Vectors of shape `(batch, dim)` with L2-normalised rows, as part of the graph that a loss differentiates.
    fn forward(&self, input: &Tensor) -> Result<Tensor, NnError>;

    /// The same vectors of a pass in another [`Mode`]: training, with dropout and batch statistics where the model has them, or in half
    /// precision where it can. The provided method is [`forward`](Self::forward), right for models that have neither.
    fn forward_in(&self, input: &Tensor, mode: Mode) -> Result<Tensor, NnError> {
        let _ = mode;
        self.forward(input)
    }

    /// The same vectors for scoring, without a graph; an empty batch gives no rows.
    fn encode(&self, input: &Tensor) -> Result<Matrix, NnError> {
        let rows = input.dim(0)?;
        let mut values = Vec::with_capacity(rows * self.dim());
        for start in (0..rows).step_by(ROWS_AT_A_TIME) {
            let chunk = input.narrow(0, start, ROWS_AT_A_TIME.min(rows - start))?;
            values.extend(self.forward(&chunk)?.flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(Matrix::from_vec(rows, self.dim(), values)?)
    }
}

/// Token ids of `texts` for [`MeanTokens`], shape `(texts, longest)`, 0 where a text has ended.
///
/// A word (a run of letters and digits, lower-cased) becomes `1 + FNV-1a(word) mod (buckets - 1)`: the same id in every process
/// and on every machine, without a vocabulary file. `buckets` below 2 is an error.
pub fn hashed_tokens(texts: &[&str], buckets: usize, device: &Device) -> Result<Tensor, NnError> {
    if buckets < 2 {
        return Err(NnError::Argument {
            name: "buckets",
            got: buckets.to_string(),
            expected: "at least 2, one of them for padding".to_owned(),
        });
    }
    let rows: Vec<Vec<u32>> = texts
        .iter()
        .map(|text| {
            text.to_lowercase()
                .split(|c: char| !c.is_alphanumeric())
                .filter(|word| !word.is_empty())
                .map(|word| (1 + fnv1a(word.as_bytes()) % (buckets as u64 - 1)) as u32)
                .collect()
        })
        .collect();
    let longest = rows.iter().map(Vec::len).max().unwrap_or(0).max(1);
    let padded: Vec<u32> =
        rows.iter().flat_map(|row| row.iter().copied().chain(std::iter::repeat(0)).take(longest)).collect();
    Ok(Tensor::from_vec(padded, (texts.len(), longest), device)?)
}

/// The 64-bit Fowler-Noll-Vo hash, variant 1a.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// The mean of a text's token embeddings, then a linear layer. Padding (id 0) counts for nothing.
#[derive(Debug, Clone)]
pub struct MeanTokens {
    table: Var,
    head: Linear,
}

impl MeanTokens {
    /// `buckets` token embeddings of `width` values, then a layer to `dim`.
    pub fn new(params: &mut Parameters, name: &str, buckets: usize, width: usize, dim: usize) -> Result<Self, NnError> {
        Ok(Self {
            table: params.normal(&format!("{name}.tokens"), &[buckets, width], 1.0)?,
            head: Linear::new(params, &format!("{name}.head"), width, dim)?,
        })
    }
}

impl Encoder for MeanTokens {
    fn dim(&self) -> usize {
        self.head.outputs()
    }

    /// `input`: token ids of shape `(batch, length)`, u32, 0 for padding.
    fn forward(&self, input: &Tensor) -> Result<Tensor, NnError> {
        let (batch, length) = input.dims2()?;
        let width = self.head.inputs();
        let embedded = self.table.index_select(&input.flatten_all()?, 0)?.reshape((batch, length, width))?;
        let mask = input.ne(0u32)?.to_dtype(embedded.dtype())?.unsqueeze(D::Minus1)?;
        // A text without a token pools to zero instead of dividing by it.
        let count = mask.sum(1)?.maximum(1.0)?;
        let mean = embedded.broadcast_mul(&mask)?.sum(1)?.broadcast_div(&count)?;
        l2_normalize(&self.head.forward(&mean)?)
    }
}

/// Two convolutions, 3 x 3: the first halves the picture; ReLU after each; 2 x 2 max-pooling; a linear layer.
#[derive(Debug, Clone)]
pub struct ConvImage {
    first: Conv3x3,
    second: Conv3x3,
    pool: MaxPool2x2,
    head: Linear,
}

impl ConvImage {
    /// An encoder of pictures of shape `input` with the given numbers of channels after the two convolutions.
    pub fn new(
        params: &mut Parameters,
        name: &str,
        input: ImageShape,
        channels: [usize; 2],
        dim: usize,
    ) -> Result<Self, NnError> {
        let first = Conv3x3::new(params, &format!("{name}.conv1"), input, channels[0], 2)?;
        let second = Conv3x3::new(params, &format!("{name}.conv2"), first.output(), channels[1], 1)?;
        let pool = MaxPool2x2::new(params, second.output())?;
        let ImageShape { height, width, channels } = pool.output();
        let head = Linear::new(params, &format!("{name}.head"), height * width * channels, dim)?;
        Ok(Self { first, second, pool, head })
    }
}

impl Encoder for ConvImage {
    fn dim(&self) -> usize {
        self.head.outputs()
    }

    /// `input`: pictures of shape `(batch, height * width, channels)`, f32.
    fn forward(&self, input: &Tensor) -> Result<Tensor, NnError> {
        let hidden = self.first.forward(input)?.relu()?;
        // Pooling before ReLU gives the same values for a quarter of the work.
        let hidden = self.pool.forward(&self.second.forward(&hidden)?)?.relu()?;
        l2_normalize(&self.head.forward(&hidden.flatten_from(1)?)?)
    }
}

/// A multilayer perceptron with one hidden ReLU layer, on feature vectors.
#[derive(Debug, Clone)]
pub struct Mlp {
    hidden: Linear,
    head: Linear,
}

impl Mlp {
    /// From `inputs` features through `hidden` units to `dim`.
    pub fn new(params: &mut Parameters, name: &str, inputs: usize, hidden: usize, dim: usize) -> Result<Self, NnError> {
        Ok(Self {
            hidden: Linear::new(params, &format!("{name}.hidden"), inputs, hidden)?,
            head: Linear::new(params, &format!("{name}.head"), hidden, dim)?,
        })
    }
}

impl Encoder for Mlp {
    fn dim(&self) -> usize {
        self.head.outputs()
    }

    /// `input`: features of shape `(batch, inputs)`, f32.
    fn forward(&self, input: &Tensor) -> Result<Tensor, NnError> {
        l2_normalize(&self.head.forward(&self.hidden.forward(input)?.relu()?)?)
    }

    fn forward_in(&self, input: &Tensor, mode: Mode) -> Result<Tensor, NnError> {
        l2_normalize(&self.head.forward_in(&self.hidden.forward_in(input, mode)?.relu()?, mode)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Training;

    fn pictures(batch: usize) -> Tensor {
        let values: Vec<f32> = (0..batch * 64 * 3).map(|i| (i as f32 * 0.37).sin()).collect();
        Tensor::from_vec(values, (batch, 64, 3), &Device::Cpu).unwrap()
    }

    const SHAPE: ImageShape = ImageShape { height: 8, width: 8, channels: 3 };

    #[test]
    fn tokens_are_hashed_alike_everywhere() {
        // The published test vectors of 64-bit FNV-1a.
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
        let ids = hashed_tokens(&["Red circle!", "", "a red CIRCLE"], 1024, &Device::Cpu).unwrap();
        let ids = ids.to_vec2::<u32>().unwrap();
        assert_eq!(ids[1], [0, 0, 0]);
        assert_eq!(ids[0], [ids[2][1], ids[2][2], 0]);
        assert!(ids[2].iter().all(|&id| (1..1024).contains(&id)));
        assert!(hashed_tokens(&["x"], 1, &Device::Cpu).is_err());
    }

    #[test]
    fn padding_does_not_change_a_text() {
        let mut params = Parameters::new(5, &Device::Cpu);
        let encoder = MeanTokens::new(&mut params, "text", 256, 8, 4).unwrap();
        let encode = |texts: &[&str]| encoder.encode(&hashed_tokens(texts, 256, &Device::Cpu).unwrap()).unwrap();
        let alone = encode(&["blue ring"]);
        let padded = encode(&["blue ring", "a much longer line about a red square"]);
        for (a, b) in alone.row(0).iter().zip(padded.row(0)) {
            assert!((a - b).abs() < 1e-6);
        }
        assert!(encode(&["", "blue"]).check_finite().is_ok());
        assert_eq!(encode(&[]).rows(), 0);
    }

    #[test]
    fn rows_have_length_one_and_the_seed_decides_them() {
        let build = |seed| {
            let mut params = Parameters::new(seed, &Device::Cpu);
            ConvImage::new(&mut params, "image", SHAPE, [4, 6], 5).unwrap()
        };
        let rows = build(1).encode(&pictures(600)).unwrap();
        assert_eq!((rows.rows(), rows.dim()), (600, 5));
        for row in rows.iter_rows() {
            assert!((row.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
        }
        assert_eq!(rows, build(1).encode(&pictures(600)).unwrap());
        assert_ne!(rows, build(2).encode(&pictures(600)).unwrap());
    }

    #[test]
    fn an_encoder_learns_to_pull_pairs_together() {
        let mut params = Parameters::new(1, &Device::Cpu);
        let (left, right) =
            (Mlp::new(&mut params, "left", 12, 16, 8).unwrap(), Mlp::new(&mut params, "right", 12, 16, 8).unwrap());
        let features: Vec<f32> = (0..16 * 12).map(|i| ((i * i) as f32 * 0.11).sin()).collect();
        let a = Tensor::from_vec(features, (16, 12), &Device::Cpu).unwrap();
        let b = a.flip(&[1]).unwrap();
        let run = Training { epochs: 80, batch: 16, learning_rate: 0.01, seed: 1 };
        let history = run
            .run(&params, 16, |batch| {
                let ids = Tensor::new(batch, &Device::Cpu)?;
                let (a, b) = (a.index_select(&ids, 0)?, b.index_select(&ids, 0)?);
                Ok(eas_losses::info_nce(&left.forward(&a)?, &right.forward(&b)?, 0.1)?)
            })
            .unwrap();
        assert!(history[79] < 0.1 * history[0], "{history:?}");
    }

    #[test]
    fn inputs_of_another_shape_are_refused() {
        let mut params = Parameters::new(1, &Device::Cpu);
        let image = ConvImage::new(&mut params, "image", SHAPE, [4, 6], 5).unwrap();
        let mlp = Mlp::new(&mut params, "audio", 10, 8, 4).unwrap();
        assert!(image.encode(&pictures(1).reshape((1, 32, 6)).unwrap()).is_err());
        assert!(mlp.encode(&pictures(1)).is_err());
    }
}
