//! Items with a planted category, brand, price and likeness, an encoder trained on them for several tasks, and what it keeps.

use candle_core::{Device, Tensor};
use eas_data::synth::rotation::random_orthogonal;
use eas_losses::metric::softmax_cross_entropy;
use eas_nn::NnError;
use eas_nn::descent::Descent;
use eas_nn::layers::Linear;
use eas_nn::multitask::{MultiTask, MultiTaskBatch, MultiTaskConfig, TaskWeights};
use eas_nn::params::Parameters;
use eas_tensor::align::linear;
use eas_tensor::kernels::dot_rows;
use eas_tensor::rng::SplitMix64;
use eas_tensor::{Matrix, top_k};

const CATEGORIES: usize = 20;
const BRANDS: usize = 30;
/// Latent, category and brand take eight coordinates each, noise 24.
const PART: usize = 8;
const FEATURES: usize = 48;
const TRAIN: usize = 2_000;

/// Items seen in two views each: the first 2,000 to train on, the last 600 to measure.
#[derive(Debug, Clone)]
pub struct Shopping {
    views: [Tensor; 2],
    /// Category of each item.
    pub categories: Vec<u32>,
    /// Brand of each item.
    pub brands: Vec<u32>,
    /// Log price of each item, of mean 0 and variance 1 over the training items.
    pub prices: Vec<f32>,
}

/// What a trained encoder is good for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kept {
    /// Share of test items whose second view is the nearest of all, by the similarity head.
    pub recall_1: f64,
    /// Accuracy of a linear probe for the category on the shared representation.
    pub category: f64,
    /// For the brand.
    pub brand: f64,
    /// Share of the variance of the log price that a linear probe explains.
    pub price_r2: f64,
}

impl Shopping {
    /// Draws 2,600 items.
    pub fn new(seed: u64) -> anyhow::Result<Self> {
        let mut rng = SplitMix64::new(seed);
        let mut table = |rows: usize, scale: f64| -> Vec<f64> { (0..rows).map(|_| scale * rng.normal()).collect() };
        let (category_centres, brand_centres) = (table(CATEGORIES * PART, 1.0), table(BRANDS * PART, 1.0));
        let (category_price, brand_price) = (table(CATEGORIES, 0.6), table(BRANDS, 0.4));
        let rotation = random_orthogonal(FEATURES, &mut rng);
        let (mut views, mut categories, mut brands, mut log_prices) = ([vec![], vec![]], vec![], vec![], vec![]);
        for _ in 0..TRAIN + 600 {
            let (category, brand) = (rng.below(CATEGORIES), rng.below(BRANDS));
            let latent: Vec<f64> = (0..PART).map(|_| rng.normal()).collect();
            for view in &mut views {
                let mut plain: Vec<f64> = latent.iter().map(|z| z + 0.3 * rng.normal()).collect();
                for (centres, at) in [(&category_centres, category), (&brand_centres, brand)] {
                    plain.extend(centres[at * PART..(at + 1) * PART].iter().map(|c| c + 0.5 * rng.normal()));
                }
                plain.extend((plain.len()..FEATURES).map(|_| rng.normal()));
                for axis in rotation.iter_rows() {
                    view.push(axis.iter().zip(&plain).map(|(a, x)| f64::from(*a) * x).sum::<f64>() as f32);
                }
            }
            log_prices.push(3.5 + category_price[category] + brand_price[brand] + 0.1 * rng.normal());
            categories.push(category as u32);
            brands.push(brand as u32);
        }
        let mean = log_prices[..TRAIN].iter().sum::<f64>() / TRAIN as f64;
        let deviation = (log_prices[..TRAIN].iter().map(|p| (p - mean).powi(2)).sum::<f64>() / TRAIN as f64).sqrt();
        let prices = log_prices.iter().map(|p| ((p - mean) / deviation) as f32).collect();
        let [a, b] = views.map(|view| Tensor::from_vec(view, (TRAIN + 600, FEATURES), &Device::Cpu));
        Ok(Self { views: [a?, b?], categories, brands, prices })
    }

    /// Trains an encoder for the weighted tasks: 64 items a step, another view of each as its positive and of the next one as its negative.
    pub fn train(&self, weights: &TaskWeights, steps: u64, seed: u64) -> anyhow::Result<(MultiTask, Parameters)> {
        let mut params = Parameters::new(seed, &Device::Cpu);
        let config = MultiTaskConfig {
            inputs: FEATURES,
            hidden: 128,
            pooled: 64,
            similarity: 32,
            categories: CATEGORIES,
            brands: BRANDS,
        };
        let model = MultiTask::new(&mut params, config)?;
        Descent { steps, learning_rate: 2e-3, seed }.run(&params, |_, rng| {
            let rows: Vec<usize> = rng.sample_indices(TRAIN, 64);
            let mut next = rows.clone();
            next.rotate_left(1);
            model.loss(&self.batch(&rows, &next)?.as_batch(), weights)
        })?;
        Ok((model, params))
    }

    /// Items of the training set with all their targets; `others` are the negatives, as many.
    pub fn batch(&self, rows: &[usize], others: &[usize]) -> Result<Picked, NnError> {
        let pick = |view: &Tensor, rows: &[usize]| -> Result<Tensor, NnError> {
            let ids: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
            Ok(view.index_select(&Tensor::new(ids, view.device())?, 0)?)
        };
        let prices: Vec<f32> = rows.iter().map(|&row| self.prices[row]).collect();
        Ok(Picked {
            items: pick(&self.views[0], rows)?,
            positives: pick(&self.views[1], rows)?,
            negatives: pick(&self.views[1], others)?,
            categories: rows.iter().map(|&row| self.categories[row]).collect(),
            brands: rows.iter().map(|&row| self.brands[row]).collect(),
            prices: Tensor::new(prices, &Device::Cpu)?,
        })
    }

    /// Measures on the test items, with probes of 250 steps.
    pub fn measure(&self, model: &MultiTask) -> anyhow::Result<Kept> {
        self.measure_with(model, 250)
    }

    /// Measures with probes for category and brand of so many steps: fewer are quicker and a little lower.
    pub fn measure_with(&self, model: &MultiTask, probe_steps: u64) -> anyhow::Result<Kept> {
        let test = |view: &Tensor| view.narrow(0, TRAIN, 600);
        let (first, second) = (model.embedding(&test(&self.views[0])?)?, model.embedding(&test(&self.views[1])?)?);
        let right = (0..600).filter(|&i| top_k(&dot_rows(first.row(i), &second), 1)[0].id == i).count();
        let pooled = model.representation(&self.views[0])?;
        let (train, test): (Vec<usize>, Vec<usize>) = (0..pooled.rows()).partition(|&row| row < TRAIN);
        let probe = |targets: &Matrix| -> anyhow::Result<Matrix> {
            Ok(linear(&pooled.select(&train), &targets.select(&train))?.apply(&pooled.select(&test))?)
        };
        let accuracy = |labels: &[u32], classes: usize| -> anyhow::Result<f64> {
            let guessed = logistic_probe(&pooled, labels, classes, probe_steps)?;
            let hits = test.iter().zip(guessed.iter_rows());
            let hits = hits.filter(|(row, scores)| top_k(scores, 1)[0].id == labels[**row] as usize).count();
            Ok(hits as f64 / test.len() as f64)
        };
        let guessed = probe(&Matrix::from_vec(self.prices.len(), 1, self.prices.clone())?)?;
        let own: Vec<f64> = test.iter().map(|&row| f64::from(self.prices[row])).collect();
        let mean = own.iter().sum::<f64>() / own.len() as f64;
        let error: f64 = own.iter().zip(guessed.as_slice()).map(|(p, g)| (p - f64::from(*g)).powi(2)).sum();
        Ok(Kept {
            recall_1: right as f64 / 600.0,
            category: accuracy(&self.categories, CATEGORIES)?,
            brand: accuracy(&self.brands, BRANDS)?,
            price_r2: 1.0 - error / own.iter().map(|p| (p - mean).powi(2)).sum::<f64>(),
        })
    }
}

/// Logits of the test rows under a linear classifier (softmax regression) fitted to the training rows, whose columns are standardised.
fn logistic_probe(rows: &Matrix, labels: &[u32], classes: usize, steps: u64) -> anyhow::Result<Matrix> {
    let all = Tensor::from_slice(rows.as_slice(), (rows.rows(), rows.dim()), &Device::Cpu)?;
    let train = all.narrow(0, 0, TRAIN)?;
    let mean = train.mean_keepdim(0)?;
    let deviation = (train.broadcast_sub(&mean)?.sqr()?.mean_keepdim(0)? + 1e-9)?.sqrt()?;
    let all = all.broadcast_sub(&mean)?.broadcast_div(&deviation)?;
    let mut params = Parameters::new(1, &Device::Cpu);
    let head = Linear::new(&mut params, "probe", rows.dim(), classes)?;
    Descent { steps, learning_rate: 0.02, seed: 1 }.run(&params, |_, rng| {
        let ids: Vec<u32> = (0..256).map(|_| rng.below(TRAIN) as u32).collect();
        let own: Vec<u32> = ids.iter().map(|&row| labels[row as usize]).collect();
        let logits = head.forward(&all.index_select(&Tensor::new(ids, &Device::Cpu)?, 0)?)?;
        Ok(softmax_cross_entropy(&logits, &own)?)
    })?;
    let logits = head.forward(&all.narrow(0, TRAIN, rows.rows() - TRAIN)?)?.detach();
    Ok(Matrix::from_vec(rows.rows() - TRAIN, classes, logits.flatten_all()?.to_vec1::<f32>()?)?)
}

/// The tensors of a batch.
#[derive(Debug, Clone)]
pub struct Picked {
    items: Tensor,
    positives: Tensor,
    negatives: Tensor,
    categories: Vec<u32>,
    brands: Vec<u32>,
    prices: Tensor,
}

impl Picked {
    /// All four tasks.
    pub fn as_batch(&self) -> MultiTaskBatch<'_> {
        MultiTaskBatch {
            items: &self.items,
            similar: Some((&self.positives, &self.negatives)),
            categories: Some(&self.categories),
            brands: Some(&self.brands),
            prices: Some(&self.prices),
        }
    }
}
