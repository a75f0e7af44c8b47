//! One encoder with several heads: what an item is like, and what else should stay readable in its vector (Caruana 1997).

use std::collections::BTreeMap;

use candle_core::{D, Tensor};
use eas_losses::distance::Distance;
use eas_losses::metric::softmax_cross_entropy;
use eas_tensor::Matrix;

use crate::NnError;
use crate::layers::{Linear, l2_normalize};
use crate::params::Parameters;

/// The similarity loss: the mean of `max(0, 1 - cos(a, p) + cos(a, n))`, rows of shape `(batch, dim)` each.
pub fn similarity_margin(anchors: &Tensor, positives: &Tensor, negatives: &Tensor) -> Result<Tensor, NnError> {
    let near = Distance::Cosine.paired(anchors, positives)?;
    let far = Distance::Cosine.paired(anchors, negatives)?;
    Ok(((near - far)? + 1.0)?.relu()?.mean_all()?)
}

/// The mean squared difference of predictions and targets, both of shape `(batch,)`.
pub fn squared_error(predicted: &Tensor, target: &Tensor) -> Result<Tensor, NnError> {
    if predicted.dims() != target.dims() {
        return Err(NnError::Shape {
            what: "targets".to_owned(),
            expected: format!("{:?}, as predicted", predicted.dims()),
            got: target.dims().to_vec(),
        });
    }
    Ok((predicted - target)?.sqr()?.mean_all()?)
}

/// What a head learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Task {
    /// Two views of an item are nearer than two items.
    Similarity,
    /// Its category.
    Category,
    /// Its brand.
    Brand,
    /// Its price; give it on a scale of mean 0 and variance 1, as raw prices swamp the sum.
    Price,
}

/// Weights of the tasks' losses; a task that isn't named has weight 1. Weight 0 leaves a task out.
pub type TaskWeights = BTreeMap<Task, f64>;

/// The sum of weight times loss over the tasks that are given. An error for a weight that is negative or not finite, or when no task with a
/// weight above 0 is left.
pub fn weighted_total(losses: &[(Task, Tensor)], weights: &TaskWeights) -> Result<Tensor, NnError> {
    if let Some(weight) = weights.values().find(|weight| !(weight.is_finite() && **weight >= 0.0)) {
        let got = weight.to_string();
        return Err(NnError::Argument { name: "task weight", got, expected: "finite and at least 0".to_owned() });
    }
    let mut total: Option<Tensor> = None;
    for (task, loss) in losses {
        let weight = weights.get(task).copied().unwrap_or(1.0);
        if weight == 0.0 {
            continue;
        }
        let part = (loss * weight)?;
        total = Some(match total {
            None => part,
            Some(total) => (total + part.to_dtype(loss.dtype())?)?,
        });
    }
    total.ok_or_else(|| NnError::Argument {
        name: "tasks with a target and a weight above 0",
        got: "0".to_owned(),
        expected: "at least 1".to_owned(),
    })
}

/// Sizes of a [`MultiTask`] model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MultiTaskConfig {
    /// Features of an item.
    pub inputs: usize,
    /// Hidden ReLU units.
    pub hidden: usize,
    /// Dimension of the representation that the heads share.
    pub pooled: usize,
    /// Dimension of the similarity head.
    pub similarity: usize,
    /// Number of categories.
    pub categories: usize,
    /// Number of brands.
    pub brands: usize,
}

/// Items and what is known of them. A target that isn't given trains nothing.
#[derive(Debug, Clone, Copy)]
pub struct MultiTaskBatch<'a> {
    /// Features, `(batch, inputs)`.
    pub items: &'a Tensor,
    /// Features of another view of each item and of another item, encoded like the items themselves.
    pub similar: Option<(&'a Tensor, &'a Tensor)>,
    /// Category of each item.
    pub categories: Option<&'a [u32]>,
    /// Brand of each item.
    pub brands: Option<&'a [u32]>,
    /// Standardised log price of each item, `(batch,)`.
    pub prices: Option<&'a Tensor>,
}

/// An encoder of feature vectors and its four heads, named `encoder.*`, `similarity.*`, `category.*`, `brand.*` and `price.*`.
#[derive(Debug, Clone)]
pub struct MultiTask {
    first: Linear,
    second: Linear,
    similarity: Linear,
    category: Linear,
    brand: Linear,
    price: Linear,
}

impl MultiTask {
    /// A model whose weights are drawn by `params`.
    pub fn new(params: &mut Parameters, config: MultiTaskConfig) -> Result<Self, NnError> {
        let MultiTaskConfig { inputs, hidden, pooled, similarity, categories, brands } = config;
        Ok(Self {
            first: Linear::new(params, "encoder.first", inputs, hidden)?,
            second: Linear::new(params, "encoder.second", hidden, pooled)?,
            similarity: Linear::new(params, "similarity", pooled, similarity)?,
            category: Linear::new(params, "category", pooled, categories)?,
            brand: Linear::new(params, "brand", pooled, brands)?,
            price: Linear::new(params, "price", pooled, 1)?,
        })
    }

    /// The representation that the heads share, `(batch, pooled)`.
    pub fn pooled(&self, items: &Tensor) -> Result<Tensor, NnError> {
        self.second.forward(&self.first.forward(items)?.relu()?)
    }

    /// Unit vectors of the similarity head, `(batch, similarity)`.
    pub fn embed(&self, items: &Tensor) -> Result<Tensor, NnError> {
        l2_normalize(&self.similarity.forward(&self.pooled(items)?)?)
    }

    /// The loss of each task that the batch has a target for.
    pub fn losses(&self, batch: &MultiTaskBatch<'_>) -> Result<Vec<(Task, Tensor)>, NnError> {
        let pooled = self.pooled(batch.items)?;
        let mut losses = Vec::new();
        if let Some((positives, negatives)) = batch.similar {
            let anchors = self.similarity.forward(&pooled)?;
            let loss = similarity_margin(&anchors, &self.embed(positives)?, &self.embed(negatives)?)?;
            losses.push((Task::Similarity, loss));
        }
        if let Some(categories) = batch.categories {
            losses.push((Task::Category, softmax_cross_entropy(&self.category.forward(&pooled)?, categories)?));
        }
        if let Some(brands) = batch.brands {
            losses.push((Task::Brand, softmax_cross_entropy(&self.brand.forward(&pooled)?, brands)?));
        }
        if let Some(prices) = batch.prices {
            // The one column by name: `squeeze` of every axis of length 1 would also drop a batch of one.
            losses.push((Task::Price, squared_error(&self.price.forward(&pooled)?.squeeze(D::Minus1)?, prices)?));
        }
        // The losses widen to f64 or stay f32 by what they are made of: one type for the sum.
        losses.into_iter().map(|(task, loss)| Ok((task, loss.to_dtype(pooled.dtype())?))).collect()
    }

    /// The weighted sum of [`losses`](Self::losses).
    pub fn loss(&self, batch: &MultiTaskBatch<'_>, weights: &TaskWeights) -> Result<Tensor, NnError> {
        weighted_total(&self.losses(batch)?, weights)
    }

    /// The shared representation as a matrix, for probes.
    pub fn representation(&self, items: &Tensor) -> Result<Matrix, NnError> {
        matrix(&self.pooled(items)?)
    }

    /// The vectors of the similarity head as a matrix, for search.
    pub fn embedding(&self, items: &Tensor) -> Result<Matrix, NnError> {
        matrix(&self.embed(items)?)
    }
}

fn matrix(rows: &Tensor) -> Result<Matrix, NnError> {
    let (n, dim) = rows.dims2()?;
    Ok(Matrix::from_vec(n, dim, rows.detach().flatten_all()?.to_vec1::<f32>()?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradients::Gradients;
    use approx::assert_abs_diff_eq;
    use candle_core::{DType, Device};
    use eas_losses::fixtures::tiny;

    const CONFIG: MultiTaskConfig =
        MultiTaskConfig { inputs: 3, hidden: 8, pooled: 6, similarity: 4, categories: 3, brands: 2 };

    #[test]
    fn losses_on_the_fixture_equal_pytorch() {
        let device = &Device::Cpu;
        let t = tiny(DType::F64, device).unwrap();
        let category = [[1.0, 0.0, -1.0], [0.5, 0.5, 0.0], [0.0, 2.0, 1.0], [-1.0, 0.0, 1.0]];
        let brand = [[0.25, -0.5], [1.0, 0.0], [0.0, 1.0], [0.5, 0.5]];
        let losses = vec![
            (Task::Similarity, similarity_margin(&t.anchors, &t.positives, &t.first_negatives().unwrap()).unwrap()),
            (Task::Category, softmax_cross_entropy(&Tensor::new(&category, device).unwrap(), &[0, 1, 1, 2]).unwrap()),
            (Task::Brand, softmax_cross_entropy(&Tensor::new(&brand, device).unwrap(), &[0, 0, 1, 1]).unwrap()),
            (
                Task::Price,
                squared_error(
                    &Tensor::new(&[0.5, -0.25, 1.0, 0.0], device).unwrap(),
                    &Tensor::new(&[0.25, 0.0, 1.5, -0.5], device).unwrap(),
                )
                .unwrap(),
            ),
        ];
        for ((_, loss), expected) in losses.iter().zip([0.501_000_225_6, 0.545_209_495_3, 0.426_635_390_4, 0.15625]) {
            assert_abs_diff_eq!(loss.to_scalar::<f64>().unwrap(), expected, epsilon = 1e-9);
        }
        let weights =
            TaskWeights::from([(Task::Similarity, 1.0), (Task::Category, 0.3), (Task::Brand, 0.2), (Task::Price, 0.1)]);
        let total = weighted_total(&losses, &weights).unwrap();
        assert_abs_diff_eq!(total.to_scalar::<f64>().unwrap(), 0.765_515_152_3, epsilon = 1e-9);
        // Tasks without a target count for nothing, whatever their weight.
        let alone = weighted_total(&losses[3..], &TaskWeights::new()).unwrap();
        assert_abs_diff_eq!(alone.to_scalar::<f64>().unwrap(), 0.15625, epsilon = 1e-12);
    }

    fn items(n: usize) -> Tensor {
        Tensor::from_iter((0..3 * n).map(|i| (i as f32 * 0.7).sin()), &Device::Cpu).unwrap().reshape((n, 3)).unwrap()
    }

    #[test]
    fn a_task_of_weight_zero_moves_nothing_of_its_head() {
        let mut params = Parameters::new(1, &Device::Cpu);
        let model = MultiTask::new(&mut params, CONFIG).unwrap();
        let items = items(4);
        let prices = Tensor::new(&[0.1f32, -1.0, 0.5, 0.0], &Device::Cpu).unwrap();
        let batch = MultiTaskBatch {
            items: &items,
            similar: None,
            categories: Some(&[0, 1, 2, 1]),
            brands: Some(&[0, 1, 1, 0]),
            prices: Some(&prices),
        };
        let zero = |name: &str, weights: &TaskWeights| {
            let gradients = Gradients::of(&model.loss(&batch, weights).unwrap(), &params).unwrap();
            let all =
                gradients.get(name).map_or(0.0, |g| g.abs().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap());
            all == 0.0
        };
        assert!(!zero("brand.weight", &TaskWeights::new()));
        assert!(zero("brand.weight", &TaskWeights::from([(Task::Brand, 0.0)])));
        assert!(zero("similarity.weight", &TaskWeights::new()));
        assert!(!zero("encoder.first.weight", &TaskWeights::from([(Task::Brand, 0.0)])));
    }

    #[test]
    fn a_batch_of_one_works_and_bad_input_is_refused() {
        let mut params = Parameters::new(1, &Device::Cpu);
        let model = MultiTask::new(&mut params, CONFIG).unwrap();
        let one = items(1);
        let price = Tensor::new(&[0.5f32], &Device::Cpu).unwrap();
        let batch = MultiTaskBatch {
            items: &one,
            similar: Some((&one, &one)),
            categories: None,
            brands: None,
            prices: Some(&price),
        };
        assert_eq!(model.losses(&batch).unwrap().len(), 2);
        let wrong = Tensor::new(&[0.5f32, 1.0], &Device::Cpu).unwrap();
        assert!(model.losses(&MultiTaskBatch { prices: Some(&wrong), ..batch }).is_err());
        assert!(model.losses(&MultiTaskBatch { categories: Some(&[3]), ..batch }).is_err());
        for weight in [-1.0, f64::NAN] {
            assert!(model.loss(&batch, &TaskWeights::from([(Task::Price, weight)])).is_err());
        }
        let none = TaskWeights::from([(Task::Price, 0.0), (Task::Similarity, 0.0)]);
        assert!(model.loss(&batch, &none).unwrap_err().to_string().contains("at least 1"));
    }
}
