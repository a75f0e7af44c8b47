//! Siamese networks: one encoder, applied to both members of a pair (Bromley et al. 1993; Hadsell, Chopra and LeCun 2006).

pub mod attention;

use candle_core::Tensor;
use eas_tensor::Matrix;
use eas_tensor::kernels::squared_l2;

use crate::dropout::Dropout;
use crate::encoders::{ConvImage, Encoder};
use crate::layers::{ImageShape, Linear, l2_normalize};
use crate::norm::BatchNorm1d;
use crate::params::Parameters;
use crate::{Mode, NnError};

/// The widths of an [`EmbeddingNet`].
#[derive(Debug, Clone, PartialEq)]
pub struct EmbeddingConfig {
    /// Features of an input row.
    pub input: usize,
    /// Width of each hidden layer.
    pub hidden: Vec<usize>,
    /// Dimension of the embedding.
    pub dim: usize,
    /// Probability with which training drops a hidden value.
    pub dropout: f64,
}

impl EmbeddingConfig {
    /// Hidden layers of 1,024 and 512, 512 dimensions, dropout 0.3: the book's network for `input` features.
    pub fn new(input: usize) -> Self {
        Self { input, hidden: vec![1_024, 512], dim: 512, dropout: 0.3 }
    }
}

/// Linear, batch normalisation, ReLU and dropout for each hidden layer, then a linear layer to the embedding, scaled to unit length.
///
/// ```
/// use candle_core::Device;
/// use eas_nn::params::Parameters;
/// use eas_nn::siamese::{EmbeddingConfig, EmbeddingNet};
///
/// let mut params = Parameters::new(1, &Device::Cpu);
/// EmbeddingNet::new(&mut params, "net", &EmbeddingConfig::new(50))?;
/// assert_eq!(params.count(), 842_752);
/// # Ok::<(), eas_nn::NnError>(())
/// ```
#[derive(Debug, Clone)]
pub struct EmbeddingNet {
    hidden: Vec<(Linear, BatchNorm1d, Dropout)>,
    head: Linear,
}

impl EmbeddingNet {
    /// A network of the given widths, all at least 1.
    pub fn new(params: &mut Parameters, name: &str, config: &EmbeddingConfig) -> Result<Self, NnError> {
        let mut hidden = Vec::with_capacity(config.hidden.len());
        let mut width = config.input;
        for (i, &next) in config.hidden.iter().enumerate() {
            hidden.push((
                Linear::new(params, &format!("{name}.hidden{i}"), width, next)?,
                BatchNorm1d::new(params, &format!("{name}.norm{i}"), next)?,
                Dropout::new(&format!("{name}.dropout{i}"), config.dropout)?,
            ));
            width = next;
        }
        Ok(Self { hidden, head: Linear::new(params, &format!("{name}.head"), width, config.dim)? })
    }
}

impl Encoder for EmbeddingNet {
    fn dim(&self) -> usize {
        self.head.outputs()
    }

    /// `input`: feature vectors of shape `(batch, input)`, scored with running statistics and without dropout.
    fn forward(&self, input: &Tensor) -> Result<Tensor, NnError> {
        self.forward_in(input, Mode::EVAL)
    }

    /// A training pass needs two rows at least.
    fn forward_in(&self, input: &Tensor, mode: Mode) -> Result<Tensor, NnError> {
        let mut x = input.clone();
        for (linear, norm, dropout) in &self.hidden {
            x = dropout.forward(&norm.forward(&linear.forward_in(&x, mode)?, mode)?.relu()?, mode)?;
        }
        l2_normalize(&self.head.forward_in(&x, mode)?)
    }
}

/// One encoder for several inputs of an example. There is one set of weights, so both branches learn from every pair, and equal inputs
/// have equal embeddings.
#[derive(Debug, Clone)]
pub struct Siamese<E> {
    encoder: E,
}

impl<E: Encoder> Siamese<E> {
    /// A network of two equal branches.
    pub fn new(encoder: E) -> Self {
        Self { encoder }
    }

    /// The branch.
    pub fn encoder(&self) -> &E {
        &self.encoder
    }

    /// Dimension of an embedding.
    pub fn dim(&self) -> usize {
        self.encoder.dim()
    }

    /// The embeddings of both members of pairs, in one pass over all rows: batch normalisation sees one batch, not two with statistics of
    /// their own, and a single pair can be trained on.
    pub fn forward(&self, first: &Tensor, second: &Tensor, mode: Mode) -> Result<(Tensor, Tensor), NnError> {
        let both = self.encoder.forward_in(&Tensor::cat(&[first, second], 0)?, mode)?;
        let rows = first.dim(0)?;
        Ok((both.narrow(0, 0, rows)?, both.narrow(0, rows, second.dim(0)?)?))
    }

    /// The embeddings of anchors, positives and negatives, in one pass as well.
    pub fn forward_triplets(
        &self,
        anchors: &Tensor,
        positives: &Tensor,
        negatives: &Tensor,
        mode: Mode,
    ) -> Result<(Tensor, Tensor, Tensor), NnError> {
        let others = Tensor::cat(&[positives, negatives], 0)?;
        let (a, others) = self.forward(anchors, &others, mode)?;
        let rows = positives.dim(0)?;
        Ok((a, others.narrow(0, 0, rows)?, others.narrow(0, rows, negatives.dim(0)?)?))
    }

    /// Embeddings for scoring, one row an input: running statistics, no dropout, no graph.
    pub fn embed(&self, input: &Tensor) -> Result<Matrix, NnError> {
        self.encoder.encode(input)
    }

    /// The Euclidean distance of row i of `first` and row i of `second`, in `[0, 2]`; smaller is more alike.
    pub fn distances(&self, first: &Tensor, second: &Tensor) -> Result<Vec<f64>, NnError> {
        if first.dims() != second.dims() {
            return Err(NnError::Shape {
                what: "second members of the pairs".to_owned(),
                expected: format!("{:?}", first.dims()),
                got: second.dims().to_vec(),
            });
        }
        let (x, y) = (self.embed(first)?, self.embed(second)?);
        Ok(x.iter_rows().zip(y.iter_rows()).map(|(x, y)| f64::from(squared_l2(x, y)).sqrt()).collect())
    }
}

/// For which kind of input a Siamese network is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SiameseKind {
    /// Rows of features, `(batch, input)`: hidden layers of 1,024, 768 and 512.
    Tabular {
        /// Features of a row.
        input: usize,
    },
    /// Pictures, `(batch, height * width, channels)`: two convolutions.
    Image {
        /// Shape of a picture.
        shape: ImageShape,
    },
    /// Vectors of a sentence encoder that isn't trained, `(batch, input)`: a head with one hidden layer of 256.
    Text {
        /// Dimension of a sentence's vector.
        input: usize,
    },
    /// Items that have a picture and a text, `(batch, height * width * channels + text)`: a tower each, joined by a linear layer.
    MultiModal {
        /// Shape of the picture, whose pixels come first in a row.
        image: ImageShape,
        /// Dimension of the text's vector, which follows.
        text: usize,
    },
}

impl SiameseKind {
    /// A network with embeddings of `dim` values, of unit length, whatever the kind.
    pub fn build(self, params: &mut Parameters, name: &str, dim: usize) -> Result<Siamese<Branch>, NnError> {
        let network = |params: &mut Parameters, name: &str, input, hidden: &[usize], dropout| {
            let config = EmbeddingConfig { input, hidden: hidden.to_vec(), dim, dropout };
            EmbeddingNet::new(params, name, &config)
        };
        Ok(Siamese::new(match self {
            Self::Tabular { input } => Branch::Rows(network(params, name, input, &[1_024, 768, 512], 0.3)?),
            Self::Image { shape } => Branch::Image(ConvImage::new(params, name, shape, [16, 32], dim)?),
            Self::Text { input } => Branch::Rows(network(params, name, input, &[256], 0.1)?),
            Self::MultiModal { image, text } => Branch::Towers(Towers {
                image: ConvImage::new(params, &format!("{name}.image"), image, [16, 32], dim)?,
                text: network(params, &format!("{name}.text"), text, &[256], 0.1)?,
                join: Linear::new(params, &format!("{name}.join"), 2 * dim, dim)?,
                shape: image,
                width: text,
            }),
        }))
    }
}

/// The encoder of a network made by [`SiameseKind::build`].
#[derive(Debug, Clone)]
pub enum Branch {
    /// Of feature or sentence vectors.
    Rows(EmbeddingNet),
    /// Of pictures.
    Image(ConvImage),
    /// Of pictures with texts.
    Towers(Towers),
}

impl Encoder for Branch {
    fn dim(&self) -> usize {
        match self {
            Self::Rows(network) => network.dim(),
            Self::Image(network) => network.dim(),
            Self::Towers(towers) => towers.dim(),
        }
    }

    fn forward(&self, input: &Tensor) -> Result<Tensor, NnError> {
        self.forward_in(input, Mode::EVAL)
    }

    fn forward_in(&self, input: &Tensor, mode: Mode) -> Result<Tensor, NnError> {
        match self {
            Self::Rows(network) => network.forward_in(input, mode),
            Self::Image(network) => network.forward_in(input, mode),
            Self::Towers(towers) => towers.forward_in(input, mode),
        }
    }
}

/// A tower for the picture, one for the text, and a linear layer on both embeddings.
#[derive(Debug, Clone)]
pub struct Towers {
    image: ConvImage,
    text: EmbeddingNet,
    join: Linear,
    shape: ImageShape,
    width: usize,
}

impl Encoder for Towers {
    fn dim(&self) -> usize {
        self.join.outputs()
    }

    fn forward(&self, input: &Tensor) -> Result<Tensor, NnError> {
        self.forward_in(input, Mode::EVAL)
    }

    fn forward_in(&self, input: &Tensor, mode: Mode) -> Result<Tensor, NnError> {
        let ImageShape { height, width, channels } = self.shape;
        let values = height * width * channels;
        if input.rank() != 2 || input.dim(1)? != values + self.width {
            return Err(NnError::Shape {
                what: "pictures with texts".to_owned(),
                expected: format!("(batch, {values} + {})", self.width),
                got: input.dims().to_vec(),
            });
        }
        let picture = input.narrow(1, 0, values)?.contiguous()?.reshape(((), height * width, channels))?;
        let text = input.narrow(1, values, self.width)?.contiguous()?;
        let both = Tensor::cat(&[self.image.forward_in(&picture, mode)?, self.text.forward_in(&text, mode)?], 1)?;
        l2_normalize(&self.join.forward_in(&both, mode)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    fn waves(shape: &[usize]) -> Tensor {
        let count: usize = shape.iter().product();
        Tensor::from_vec((0..count).map(|i| (i as f32 * 0.7).sin()).collect::<Vec<_>>(), shape, &Device::Cpu).unwrap()
    }

    #[test]
    fn networks_have_the_stated_sizes() {
        let count = |input, hidden: &[usize], dim| {
            let mut params = Parameters::new(1, &Device::Cpu);
            let config = EmbeddingConfig { input, hidden: hidden.to_vec(), dim, dropout: 0.3 };
            EmbeddingNet::new(&mut params, "net", &config).unwrap();
            params.count()
        };
        assert_eq!(count(50, &[1_024, 768, 512], 512), 1_500_416);
        assert_eq!(count(64, &[128, 64], 32), 19_040);
    }

    #[test]
    fn every_kind_gives_unit_vectors_of_the_asked_dimension_and_trains_on_one_pair() {
        let image = ImageShape { height: 8, width: 8, channels: 1 };
        let kinds: [(SiameseKind, &[usize]); 4] = [
            (SiameseKind::Tabular { input: 10 }, &[1, 10]),
            (SiameseKind::Image { shape: image }, &[1, 64, 1]),
            (SiameseKind::Text { input: 12 }, &[1, 12]),
            (SiameseKind::MultiModal { image, text: 6 }, &[1, 70]),
        ];
        for (kind, shape) in kinds {
            let mut params = Parameters::new(3, &Device::Cpu);
            let network = kind.build(&mut params, "net", 24).unwrap();
            assert_eq!(network.dim(), 24);
            let (x, y) = (waves(shape), (waves(shape) * -0.5).unwrap());
            let (a, b) = network.forward(&x, &y, Mode::train(1, 0)).unwrap();
            assert_eq!((a.dims(), b.dims()), (&[1, 24][..], &[1, 24][..]), "{kind:?}");
            let loss = (a - b).unwrap().sqr().unwrap().sum_all().unwrap();
            let gradients = crate::gradients::Gradients::of(&loss, &params).unwrap();
            assert!(gradients.first_not_finite().unwrap().is_none(), "{kind:?}");
            for row in network.embed(&Tensor::cat(&[&x, &y], 0).unwrap()).unwrap().iter_rows() {
                assert!((eas_tensor::kernels::norm(row) - 1.0).abs() < 1e-5, "{kind:?}");
            }
        }
    }

    #[test]
    fn a_joint_pass_is_the_branch_on_all_rows() {
        let mut params = Parameters::new(5, &Device::Cpu);
        let config = EmbeddingConfig { input: 4, hidden: vec![8], dim: 3, dropout: 0.3 };
        let network = Siamese::new(EmbeddingNet::new(&mut params, "net", &config).unwrap());
        let (x, y) = (waves(&[5, 4]), waves(&[3, 4]));
        let rows = |t: &Tensor| t.to_vec2::<f32>().unwrap();
        let (a, b) = network.forward(&x, &y, Mode::EVAL).unwrap();
        let (alone, other) = (network.encoder().forward(&x).unwrap(), network.encoder().forward(&y).unwrap());
        assert_eq!((rows(&a), rows(&b)), (rows(&alone), rows(&other)));
        let (a, p, n) = network.forward_triplets(&y, &x, &y, Mode::EVAL).unwrap();
        assert_eq!((rows(&a), rows(&p), rows(&n)), (rows(&other), rows(&alone), rows(&other)));
        // In training the batch is shared: a row's embedding depends on the other branch.
        let (a, _) = network.forward(&x, &y, Mode::train(1, 0).replayed()).unwrap();
        let alone = network.encoder().forward_in(&x, Mode::train(1, 0).replayed()).unwrap();
        assert_ne!(rows(&a), rows(&alone));
    }

    #[test]
    fn distances_are_symmetric_and_zero_for_equal_inputs() {
        let mut params = Parameters::new(5, &Device::Cpu);
        let network = SiameseKind::Text { input: 4 }.build(&mut params, "net", 8).unwrap();
        let (x, y) = (waves(&[5, 4]), (waves(&[5, 4]).cos()).unwrap());
        assert_eq!(network.distances(&x, &y).unwrap(), network.distances(&y, &x).unwrap());
        assert_eq!(network.distances(&x, &x).unwrap(), [0.0; 5]);
        assert!(network.distances(&x, &y).unwrap().iter().all(|d| *d > 0.0 && *d <= 2.0));
        let wrong = Tensor::zeros((5, 3), DType::F32, &Device::Cpu).unwrap();
        assert!(matches!(network.distances(&x, &wrong), Err(NnError::Shape { .. })));
        assert!(network.embed(&wrong).is_err());
    }

    #[test]
    fn impossible_networks_are_refused() {
        let build = |config: EmbeddingConfig| EmbeddingNet::new(&mut Parameters::new(1, &Device::Cpu), "net", &config);
        let good = EmbeddingConfig { input: 4, hidden: vec![8], dim: 3, dropout: 0.3 };
        assert!(build(EmbeddingConfig { hidden: vec![], ..good.clone() }).is_ok());
        assert!(build(EmbeddingConfig { input: 0, ..good.clone() }).is_err());
        assert!(build(EmbeddingConfig { hidden: vec![8, 0], ..good.clone() }).is_err());
        assert!(build(EmbeddingConfig { dim: 0, ..good.clone() }).is_err());
        assert!(build(EmbeddingConfig { dropout: 1.0, ..good }).is_err());
    }
}
