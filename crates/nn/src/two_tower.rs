//! Two towers: one encoder for queries and one for documents, so that "x answers q" need not mean "q answers x".
//!
//! Cosine is symmetric. With one encoder `E` for both sides `s(a, b) = s(b, a)` whatever is trained; only two encoders can tell the
//! direction of a relation (Huang et al., CIKM 2013, where both start from the same words; Karpukhin et al., EMNLP 2020).

use candle_core::{Tensor, Var};
use eas_tensor::{Matrix, kernels};

use crate::NnError;
use crate::encoders::{Encoder, Mlp};
use crate::layers::l2_normalize;
use crate::params::Parameters;

/// A small encoder of feature vectors.
#[derive(Debug, Clone)]
pub enum Tower {
    /// `W x` at unit length, `W` of shape `(dim, inputs)`.
    Linear(Var),
    /// One hidden ReLU layer.
    Mlp(Mlp),
}

impl Tower {
    /// A linear map without an offset, uniform in `+-1/sqrt(inputs)`.
    pub fn linear(params: &mut Parameters, name: &str, inputs: usize, dim: usize) -> Result<Self, NnError> {
        if inputs == 0 || dim == 0 {
            let got = format!("{inputs} -> {dim}");
            return Err(NnError::Argument { name: "tower", got, expected: "at least 1 on both sides".to_owned() });
        }
        let bound = 1.0 / (inputs as f64).sqrt();
        Ok(Self::Linear(params.uniform(&format!("{name}.weight"), &[dim, inputs], bound)?))
    }

    /// A perceptron with `hidden` units.
    pub fn mlp(params: &mut Parameters, name: &str, inputs: usize, hidden: usize, dim: usize) -> Result<Self, NnError> {
        Ok(Self::Mlp(Mlp::new(params, name, inputs, hidden, dim)?))
    }
}

impl Encoder for Tower {
    fn dim(&self) -> usize {
        match self {
            Self::Linear(weight) => weight.dims()[0],
            Self::Mlp(mlp) => mlp.dim(),
        }
    }

    /// `input`: features of shape `(batch, inputs)`, f32.
    fn forward(&self, input: &Tensor) -> Result<Tensor, NnError> {
        match self {
            Self::Mlp(mlp) => mlp.forward(input),
            Self::Linear(weight) => match input.dims() {
                [_, width] if *width == weight.dims()[1] => l2_normalize(&input.matmul(&weight.t()?)?),
                other => Err(NnError::Shape {
                    what: "tower".to_owned(),
                    expected: format!("(batch, {})", weight.dims()[1]),
                    got: other.to_vec(),
                }),
            },
        }
    }
}

/// A query encoder and a document encoder of one dimension.
#[derive(Debug, Clone)]
pub struct AsymmetricEncoder<E> {
    query_tower: E,
    /// `None` when the query tower encodes documents too.
    doc_tower: Option<E>,
}

impl<E: Encoder> AsymmetricEncoder<E> {
    /// Two towers; an error when their dimensions differ.
    pub fn new(query_tower: E, doc_tower: E) -> Result<Self, NnError> {
        if query_tower.dim() != doc_tower.dim() {
            return Err(NnError::Argument {
                name: "dimension of the document tower",
                got: doc_tower.dim().to_string(),
                expected: format!("{}, that of the query tower", query_tower.dim()),
            });
        }
        Ok(Self { query_tower, doc_tower: Some(doc_tower) })
    }

    /// One tower for both sides: the symmetric baseline.
    pub fn shared(tower: E) -> Self {
        Self { query_tower: tower, doc_tower: None }
    }

    /// The encoder of queries.
    pub fn query_tower(&self) -> &E {
        &self.query_tower
    }

    /// The encoder of documents.
    pub fn doc_tower(&self) -> &E {
        self.doc_tower.as_ref().unwrap_or(&self.query_tower)
    }

    /// In-batch InfoNCE: row `i` of `documents` answers row `i` of `queries`.
    pub fn loss(&self, queries: &Tensor, documents: &Tensor, temperature: f64) -> Result<Tensor, NnError> {
        let (q, d) = (self.query_tower.forward(queries)?, self.doc_tower().forward(documents)?);
        Ok(eas_losses::info_nce(&q, &d, temperature)?)
    }

    /// `cos(E_q(q_i), E_d(d_i))` row by row.
    pub fn similarity(&self, queries: &Tensor, documents: &Tensor) -> Result<Vec<f32>, NnError> {
        let (q, d) = (self.query_tower.encode(queries)?, self.doc_tower().encode(documents)?);
        if q.rows() != d.rows() {
            return Err(NnError::Shape {
                what: "documents".to_owned(),
                expected: format!("{} rows, one a query", q.rows()),
                got: documents.dims().to_vec(),
            });
        }
        Ok(q.iter_rows().zip(d.iter_rows()).map(|(a, b)| kernels::dot(a, b)).collect())
    }

    /// Unit vectors of queries and of documents, to index the one and search with the other.
    pub fn encode(&self, queries: &Tensor, documents: &Tensor) -> Result<(Matrix, Matrix), NnError> {
        Ok((self.query_tower.encode(queries)?, self.doc_tower().encode(documents)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use eas_tensor::rng::SplitMix64;

    fn rows(n: usize, seed: u64) -> Tensor {
        let mut rng = SplitMix64::new(seed);
        let values: Vec<f32> = (0..n * 6).map(|_| rng.normal() as f32).collect();
        Tensor::from_vec(values, (n, 6), &Device::Cpu).unwrap()
    }

    #[test]
    fn a_shared_tower_is_symmetric_and_two_are_not() {
        let (a, b) = (rows(20, 1), rows(20, 2));
        let mut params = Parameters::new(1, &Device::Cpu);
        let mlp = |params: &mut Parameters, name| Tower::mlp(params, name, 6, 8, 4).unwrap();
        let one = AsymmetricEncoder::shared(mlp(&mut params, "one"));
        let two = AsymmetricEncoder::new(mlp(&mut params, "q"), mlp(&mut params, "d")).unwrap();
        let gap = |model: &AsymmetricEncoder<Tower>| {
            let (there, back) = (model.similarity(&a, &b).unwrap(), model.similarity(&b, &a).unwrap());
            there.iter().zip(back).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max)
        };
        assert!(gap(&one) < 1e-6 && gap(&two) > 0.1);
    }

    #[test]
    fn bad_shapes_are_refused() {
        let mut params = Parameters::new(1, &Device::Cpu);
        let small = Tower::linear(&mut params, "small", 6, 3).unwrap();
        let large = Tower::linear(&mut params, "large", 6, 4).unwrap();
        let message = AsymmetricEncoder::new(small.clone(), large).unwrap_err().to_string();
        assert!(message.contains("is 4, must be 3"), "{message}");
        let model = AsymmetricEncoder::shared(small);
        assert!(model.similarity(&rows(2, 1), &rows(3, 1)).is_err());
        assert!(model.query_tower().forward(&rows(2, 1).reshape((4, 3)).unwrap()).is_err());
        assert!(Tower::linear(&mut params, "none", 0, 3).is_err());
    }
}
