//! The planted families as this chapter trains on them: two views of a batch of items, an encoder, and the search for an item
//! among all others.

use candle_core::{DType, Device, Tensor};
use eas_data::synth::families::{Families, FamilyConfig};
use eas_nn::NnError;
use eas_nn::descent::Descent;
use eas_nn::encoders::{Encoder, Mlp};
use eas_nn::params::Parameters;
use eas_tensor::rng::SplitMix64;
use eas_tensor::{Matrix, gemm};

/// Values of an embedding.
pub const DIM: usize = 24;

/// 1,000 items in 200 families, and the views in which training and search see them.
#[derive(Debug, Clone)]
pub struct FamilyWorld {
    families: Families,
    seed: u64,
}

/// The rows of a matrix as a tensor of f32.
pub fn tensor(rows: &Matrix) -> Result<Tensor, NnError> {
    Ok(Tensor::from_slice(rows.as_slice(), (rows.rows(), rows.dim()), &Device::Cpu)?)
}

/// The rows of a tensor as a matrix.
pub fn matrix(rows: &Tensor) -> Result<Matrix, NnError> {
    let (n, dim) = rows.dims2()?;
    Ok(Matrix::from_vec(n, dim, rows.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)?)
}

impl FamilyWorld {
    /// The default families drawn from `seed`.
    pub fn new(seed: u64) -> anyhow::Result<Self> {
        Ok(Self { families: Families::generate(&FamilyConfig { seed, ..FamilyConfig::default() })?, seed })
    }

    /// Items, their families, and views of them.
    pub fn families(&self) -> &Families {
        &self.families
    }

    /// An untrained perceptron 32 -> 64 -> 24 and its parameters.
    pub fn encoder(&self, seed: u64) -> Result<(Mlp, Parameters), NnError> {
        let mut params = Parameters::new(seed, &Device::Cpu);
        Ok((Mlp::new(&mut params, "encoder", self.families.dim(), 64, DIM)?, params))
    }

    /// The `size` distinct items of a training step, in random order.
    pub fn items(&self, step: u64, size: usize) -> Vec<u32> {
        let picks = SplitMix64::stream(self.seed ^ 0xBA7C, step).sample_indices(self.families.len(), size);
        picks.into_iter().map(|item| item as u32).collect()
    }

    /// View number `number` of `items` as a tensor; 0 and 1 are kept for [`recall_at_1`](Self::recall_at_1).
    pub fn view(&self, items: &[u32], number: u64) -> Result<Tensor, NnError> {
        let view = self.families.view(items, number).map_err(|error| NnError::Argument {
            name: "items",
            got: error.to_string(),
            expected: "items of the families".to_owned(),
        })?;
        tensor(&view)
    }

    /// Two views of the items of a training step, as anchors and positives: shapes `(size, 32)`.
    pub fn batch(&self, step: u64, size: usize) -> Result<(Tensor, Tensor), NnError> {
        self.pairs(&self.items(step, size), step)
    }

    /// Two views of given items that no other training step sees.
    pub fn pairs(&self, items: &[u32], step: u64) -> Result<(Tensor, Tensor), NnError> {
        Ok((self.view(items, 2 * step + 2)?, self.view(items, 2 * step + 3)?))
    }

    /// The share of items whose query view finds their corpus view first among those of all items, by cosine after `encode`.
    pub fn recall_with(&self, encode: impl Fn(&Tensor) -> Result<Matrix, NnError>) -> Result<f64, NnError> {
        let all: Vec<u32> = (0..self.families.len() as u32).collect();
        let side = |number| -> Result<Matrix, NnError> {
            let mut rows = encode(&self.view(&all, number)?)?;
            rows.normalize_rows();
            Ok(rows)
        };
        let products = gemm::matmul_transposed(&side(0)?, &side(1)?)?;
        let found = products.iter_rows().enumerate().filter(|(i, row)| {
            let best = (0..row.len()).max_by(|&x, &y| row[x].total_cmp(&row[y]).then(y.cmp(&x)));
            best == Some(*i)
        });
        Ok(found.count() as f64 / all.len() as f64)
    }

    /// [`recall_with`](Self::recall_with) of a trained encoder.
    pub fn recall_at_1(&self, encoder: &impl Encoder) -> Result<f64, NnError> {
        self.recall_with(|rows| encoder.encode(rows))
    }

    /// The recall without an encoder.
    pub fn raw_recall(&self) -> Result<f64, NnError> {
        self.recall_with(matrix)
    }
}

/// `steps` steps of Adam on the loss of each step, numbered from 0; the loss at each.
pub fn train(
    params: &Parameters,
    steps: usize,
    learning_rate: f64,
    mut loss: impl FnMut(u64) -> Result<Tensor, NnError> + Send,
) -> Result<Vec<f64>, NnError> {
    Descent { steps: steps as u64, learning_rate, seed: 0 }.run(params, |step, _| loss(step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_numbered_and_views_repeat() {
        let world = FamilyWorld::new(5).unwrap();
        let (_, params) = world.encoder(1).unwrap();
        let mut seen = Vec::new();
        let history = train(&params, 3, 0.01, |step| {
            seen.push(step);
            Ok(params.vars()[0].sqr()?.sum_all()?)
        });
        assert_eq!((history.unwrap().len(), seen), (3, vec![0, 1, 2]));
        let values = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let ((a, p), (again, _)) = (world.batch(4, 8).unwrap(), world.batch(4, 8).unwrap());
        assert_eq!(values(&a), values(&again));
        assert_ne!(values(&a), values(&p));
        let mut items = world.items(4, 1_000);
        items.sort_unstable();
        assert_eq!(items, (0..1_000).collect::<Vec<u32>>());
    }

    #[test]
    fn raw_cosine_finds_about_a_quarter() {
        let recall = FamilyWorld::new(5).unwrap().raw_recall().unwrap();
        assert!((0.22..0.32).contains(&recall), "{recall}");
    }
}
