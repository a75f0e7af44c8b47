//! Planted items in two views, and two towers trained on them for one or several objectives.

use candle_core::{D, Device, Tensor};
use eas_eval::retrieval::ndcg_at_k;
use eas_losses::ranking::lambdarank;
use eas_losses::regularisers::{alignment, attribute_preservation, diversity};
use eas_nn::NnError;
use eas_nn::descent::Descent;
use eas_nn::encoders::{Encoder, Mlp};
use eas_nn::layers::Linear;
use eas_nn::params::Parameters;
use eas_tensor::kernels::dot_rows;
use eas_tensor::rng::SplitMix64;
use eas_tensor::{Matrix, top_k};

const CATEGORIES: usize = 8;
const DIM: usize = 16;
/// Items to train on, and to measure.
const SPLIT: (usize, usize) = (1_600, 400);

/// What is minimised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Term {
    /// In-batch InfoNCE between the views, temperature .1.
    InfoNce,
    /// `LambdaRank` over lists of candidates: the item itself has grade 2, its category 1.
    LambdaRank,
    /// Cross-entropy of a category head.
    Attributes,
    /// The mean cosine of different rows.
    Diversity,
    /// The mean squared difference of the views.
    Alignment,
}

/// What two trained towers do with new items.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Learned {
    /// Mean standard deviation of a coordinate of the unit vectors; at most `1 / sqrt(16)`.
    pub spread: f64,
    /// Share of 400 items whose other view is nearest.
    pub recall_1: f64,
    /// Share of items whose nearest other item is of their category.
    pub category: f64,
    /// Mean NDCG@5 of the other views, graded 2, 1 and 0.
    pub ndcg_5: f64,
}

/// Items in two views.
#[derive(Debug, Clone)]
pub struct Views {
    views: [Tensor; 2],
    categories: Vec<u32>,
}

impl Views {
    /// 2,000 items of 8 categories: a centre of normal coordinates, an item's own noise of .5, each view's of .3.
    pub fn new(seed: u64) -> anyhow::Result<Self> {
        let mut rng = SplitMix64::new(seed);
        let centres: Vec<f64> = (0..CATEGORIES * DIM).map(|_| rng.normal()).collect();
        let items = SPLIT.0 + SPLIT.1;
        let (mut views, mut categories) = ([vec![], vec![]], vec![]);
        for _ in 0..items {
            let category = rng.below(CATEGORIES);
            let own: Vec<f64> =
                centres[category * DIM..(category + 1) * DIM].iter().map(|c| c + 0.5 * rng.normal()).collect();
            for view in &mut views {
                view.extend(own.iter().map(|x| (x + 0.3 * rng.normal()) as f32));
            }
            categories.push(category as u32);
        }
        let [a, b] = views.map(|view| Tensor::from_vec(view, (items, DIM), &Device::Cpu));
        Ok(Self { views: [a?, b?], categories })
    }

    /// Trains two towers, 16 to 32 to 16, for the sum of the terms, and measures them.
    pub fn train(&self, terms: &[Term], steps: u64, seed: u64) -> anyhow::Result<Learned> {
        let mut params = Parameters::new(seed, &Device::Cpu);
        let left = Mlp::new(&mut params, "left", DIM, 32, DIM)?;
        let right = Mlp::new(&mut params, "right", DIM, 32, DIM)?;
        let head = Linear::new(&mut params, "category", DIM, CATEGORIES)?;
        Descent { steps, learning_rate: 3e-3, seed }.run(&params, |_, rng| {
            let rows: Vec<u32> = rng.sample_indices(SPLIT.0, 64).into_iter().map(|row| row as u32).collect();
            let classes: Vec<u32> = rows.iter().map(|&row| self.categories[row as usize]).collect();
            let ids = Tensor::new(rows, &Device::Cpu)?;
            let a = left.forward(&self.views[0].index_select(&ids, 0)?)?;
            let b = right.forward(&self.views[1].index_select(&ids, 0)?)?;
            let mut total = Tensor::zeros((), a.dtype(), a.device())?;
            for term in terms {
                let loss = match term {
                    Term::InfoNce => eas_losses::info_nce(&a, &b, 0.1)?,
                    Term::Diversity => diversity(&a)?,
                    Term::Alignment => alignment(&a, &b)?,
                    Term::Attributes => {
                        let (of_a, of_b) = (head.forward(&a)?, head.forward(&b)?);
                        attribute_preservation(&[(&of_a, &classes), (&of_b, &classes)])?
                    }
                    Term::LambdaRank => ranked(&a, &b, &classes)?,
                };
                total = (total + loss)?;
            }
            Ok(total)
        })?;
        self.measure(&left, &right)
    }

    /// Measures towers as they are drawn.
    pub fn untrained(&self, seed: u64) -> anyhow::Result<Learned> {
        self.train(&[Term::InfoNce], 0, seed)
    }

    fn measure(&self, left: &Mlp, right: &Mlp) -> anyhow::Result<Learned> {
        let test = |view: &Tensor| view.narrow(0, SPLIT.0, SPLIT.1);
        let (a, b) = (left.encode(&test(&self.views[0])?)?, right.encode(&test(&self.views[1])?)?);
        let own = &self.categories[SPLIT.0..];
        let (mut right_item, mut right_category, mut ndcg) = (0, 0, 0.0);
        for (item, query) in a.iter_rows().enumerate() {
            let ranked: Vec<usize> = top_k(&dot_rows(query, &b), 5).iter().map(|hit| hit.id).collect();
            right_item += usize::from(ranked[0] == item);
            let grade = |other: usize| if other == item { 2 } else { u32::from(own[other] == own[item]) };
            let grades: Vec<(usize, u32)> = (0..own.len()).map(|other| (other, grade(other))).collect();
            ndcg += ndcg_at_k(&ranked, &grades, 5)?;
            let other = top_k(&dot_rows(query, &a), 2).iter().map(|hit| hit.id).find(|&id| id != item);
            right_category += usize::from(other.is_some_and(|other| own[other] == own[item]));
        }
        let n = own.len() as f64;
        Ok(Learned {
            spread: spread(&a),
            recall_1: right_item as f64 / n,
            category: right_category as f64 / n,
            ndcg_5: ndcg / n,
        })
    }
}

/// `LambdaRank` of eight queries, each with the sixteen views that follow its own as candidates; cosines times 10 are the scores.
fn ranked(a: &Tensor, b: &Tensor, classes: &[u32]) -> Result<Tensor, NnError> {
    let mut total = Tensor::zeros((), a.dtype(), a.device())?;
    for query in (0..64).step_by(8) {
        let candidates: Vec<u32> = (0..16).map(|at| ((query + at) % 64) as u32).collect();
        let grades: Vec<f64> = candidates
            .iter()
            .map(
                |&c| if c as usize == query { 2.0 } else { f64::from(u8::from(classes[c as usize] == classes[query])) },
            )
            .collect();
        let rows = b.index_select(&Tensor::new(candidates, b.device())?, 0)?;
        let scores = (rows.broadcast_mul(&a.narrow(0, query, 1)?)?.sum(D::Minus1)? * 10.0)?;
        total = (total + (lambdarank(&scores, &grades)? / 8.0)?)?;
    }
    Ok(total)
}

fn spread(rows: &Matrix) -> f64 {
    let n = rows.rows() as f64;
    let deviation = |column: usize| {
        let values = || rows.iter_rows().map(|row| f64::from(row[column]));
        let mean = values().sum::<f64>() / n;
        (values().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt()
    };
    (0..rows.dim()).map(deviation).sum::<f64>() / rows.dim() as f64
}
