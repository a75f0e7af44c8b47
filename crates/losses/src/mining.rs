//! Miners: which triplets of a labelled batch are worth comparing.

use candle_core::{DType, Tensor};
use eas_tensor::gemm::{Epilogue, PackedMatrix};
use eas_tensor::{Matrix, TensorError};
use rayon::prelude::*;

use crate::ops::{extreme, to_rows, widen};
use crate::{Distance, LossError, matrix, normalize, not_negative, one_a_row};

/// Row numbers of anchors, positives and negatives; entry `t` of each list is triplet `t`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Triplets {
    /// Anchors.
    pub anchors: Vec<u32>,
    /// Rows of the anchors' classes.
    pub positives: Vec<u32>,
    /// Rows of other classes.
    pub negatives: Vec<u32>,
}

impl Triplets {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.anchors.len()
    }

    /// True when nothing was mined.
    pub fn is_empty(&self) -> bool {
        self.anchors.is_empty()
    }

    /// The triplets one by one.
    pub fn iter(&self) -> impl Iterator<Item = (usize, usize, usize)> + '_ {
        self.anchors
            .iter()
            .zip(&self.positives)
            .zip(&self.negatives)
            .map(|((&a, &p), &n)| (a as usize, p as usize, n as usize))
    }

    fn push(&mut self, a: usize, p: usize, n: usize) {
        self.anchors.push(a as u32);
        self.positives.push(p as u32);
        self.negatives.push(n as u32);
    }

    /// An error when the lists differ in length or name a row that isn't there.
    pub(crate) fn check(&self, rows: usize) -> Result<(), LossError> {
        one_a_row("positives", self.positives.len(), self.len())?;
        one_a_row("negatives", self.negatives.len(), self.len())?;
        for list in [&self.anchors, &self.positives, &self.negatives] {
            if let Some(at) = list.iter().position(|&i| i as usize >= rows) {
                return Err(LossError::OutOfRange {
                    what: "row of triplet",
                    row: at,
                    got: list[at] as usize,
                    limit: rows,
                });
            }
        }
        Ok(())
    }
}

/// What happens to an anchor and positive without a semi-hard negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// They are dropped.
    Skip,
    /// The nearest negative is taken.
    Hardest,
}

/// Which triplets of a batch are taken. Ties go to the lower row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// Every anchor with every positive and every negative.
    All,
    /// Each anchor once, with its farthest positive and nearest negative (Hermans et al. 2017).
    BatchHard,
    /// Each anchor and positive with the nearest negative.
    HardestNegative,
    /// Each anchor and positive with the nearest negative that is farther than the positive, but by less than the margin.
    SemiHard(Fallback),
    /// Each anchor and positive with the nearest negative farther than the positive, else the farthest negative (the usual code of
    /// Schroff et al. 2015).
    SemiHardFaceNet,
    /// Each anchor and positive with the first row, not the nearest, in the semi-hard window; else the nearest negative.
    SemiHardFirst,
}

/// Picks triplets from labelled rows.
///
/// ```
/// use candle_core::{DType, Device};
/// use eas_losses::{Distance, TripletMiner, fixtures, mining::Strategy};
///
/// let (points, labels) = fixtures::labelled(DType::F64, &Device::Cpu)?;
/// let miner = TripletMiner { strategy: Strategy::BatchHard, margin: 1.0, distance: Distance::Euclidean };
/// let triplets = miner.mine(&points, labels)?;
/// assert_eq!(triplets.iter().next(), Some((0, 1, 3)));
/// assert_eq!(triplets.len(), 8);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TripletMiner {
    /// Which triplets are taken.
    pub strategy: Strategy,
    /// The width of the semi-hard window; other strategies ignore it.
    pub margin: f64,
    /// How far rows are apart.
    pub distance: Distance,
}

/// From this many rows of f32 on, batch-hard mining uses the blocked products of [`batch_hard`].
const BLOCKED_FROM: usize = 512;

impl TripletMiner {
    /// The triplets of `embeddings`, `(rows, dim)`, with one label a row. An anchor without a positive or without a negative has none.
    ///
    /// Embeddings that aren't finite are an error.
    pub fn mine(&self, embeddings: &Tensor, labels: &[u32]) -> Result<Triplets, LossError> {
        let (rows, dim) = matrix("embeddings", embeddings)?;
        one_a_row("labels", labels.len(), rows)?;
        not_negative("margin", self.margin)?;
        let embeddings = widen(&embeddings.detach())?;
        if self.strategy == Strategy::BatchHard && embeddings.dtype() == DType::F32 && rows >= BLOCKED_FROM {
            let x = match self.distance {
                Distance::Cosine => normalize(&embeddings)?,
                _ => embeddings,
            };
            let x = Matrix::from_vec(rows, dim, x.flatten_all()?.to_vec1()?)?;
            return batch_hard(&x, labels);
        }
        let distances = distances(&embeddings, self.distance)?;
        Ok(self.pick(&distances, labels))
    }

    /// The triplets of given distances, one list a row.
    fn pick(&self, d: &[Vec<f64>], labels: &[u32]) -> Triplets {
        let n = labels.len();
        let mut triplets = Triplets::default();
        for a in 0..n {
            let positives = || (0..n).filter(|&j| j != a && labels[j] == labels[a]);
            let negatives = || (0..n).filter(|&j| labels[j] != labels[a]);
            let nearest = |from: &mut dyn Iterator<Item = usize>| from.min_by(|&x, &y| d[a][x].total_cmp(&d[a][y]));
            let farthest = |from: &mut dyn Iterator<Item = usize>| {
                from.max_by(|&x, &y| d[a][x].total_cmp(&d[a][y]).then(y.cmp(&x)))
            };
            let Some(hardest) = nearest(&mut negatives()) else {
                continue;
            };
            if self.strategy == Strategy::BatchHard {
                if let Some(p) = farthest(&mut positives()) {
                    triplets.push(a, p, hardest);
                }
                continue;
            }
            for p in positives() {
                let window = |j: &usize| d[a][*j] > d[a][p] && d[a][*j] < d[a][p] + self.margin;
                let negative =
                    match self.strategy {
                        Strategy::All => {
                            negatives().for_each(|j| triplets.push(a, p, j));
                            None
                        }
                        Strategy::BatchHard | Strategy::HardestNegative => Some(hardest),
                        Strategy::SemiHard(fallback) => nearest(&mut negatives().filter(window))
                            .or((fallback == Fallback::Hardest).then_some(hardest)),
                        Strategy::SemiHardFaceNet => nearest(&mut negatives().filter(|&j| d[a][j] > d[a][p]))
                            .or_else(|| farthest(&mut negatives())),
                        Strategy::SemiHardFirst => negatives().find(window).or(Some(hardest)),
                    };
                if let Some(j) = negative {
                    triplets.push(a, p, j);
                }
            }
        }
        triplets
    }
}

/// All distances between rows, in f64.
fn distances(embeddings: &Tensor, distance: Distance) -> Result<Vec<Vec<f64>>, LossError> {
    let x = embeddings.to_dtype(DType::F64)?;
    let rows = to_rows(&match distance {
        Distance::Cosine => normalize(&x)?,
        _ => x,
    })?;
    for (row, values) in rows.iter().enumerate() {
        if let Some(column) = values.iter().position(|x| !x.is_finite()) {
            return Err(not_finite(row, column, values[column] as f32));
        }
    }
    Ok(rows
        .par_iter()
        .map(|a| {
            let to = |b: &Vec<f64>| match distance {
                Distance::Cosine => 1.0 - a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>(),
                Distance::SquaredEuclidean => a.iter().zip(b).map(|(x, y)| (x - y).powi(2)).sum(),
                Distance::Euclidean => a.iter().zip(b).map(|(x, y)| (x - y).powi(2)).sum::<f64>().sqrt(),
            };
            rows.iter().map(to).collect()
        })
        .collect())
}

fn not_finite(row: usize, column: usize, value: f32) -> LossError {
    TensorError::NotFinite { row, column, value }.into()
}

/// Rows whose distances one task holds at a time: `48 x rows` floats.
const TASK: usize = 48;

/// Batch-hard triplets by Euclidean distance (of unit rows: by cosine) for large batches, in parallel and without a `rows x rows` matrix.
///
/// The distances come from products of rows in f32, so that negatives whose distances differ by less than rounding may change places.
pub fn batch_hard(embeddings: &Matrix, labels: &[u32]) -> Result<Triplets, LossError> {
    let (n, dim) = (embeddings.rows(), embeddings.dim());
    one_a_row("labels", labels.len(), n)?;
    if n * dim == 0 {
        return Err(LossError::Empty(vec![n, dim]));
    }
    embeddings.check_finite()?;
    // Sorted by class, the positives of a row are one range, and its negatives all the rest.
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by_key(|&i| labels[i]);
    let sorted = embeddings.select(&order);
    let mut class = vec![(0, n); n];
    let mut start = 0;
    for end in 1..=n {
        if end == n || labels[order[end]] != labels[order[start]] {
            class[start..end].fill((start, end));
            start = end;
        }
    }
    let squares: Vec<f32> = (0..n).map(|i| eas_tensor::kernels::dot(sorted.row(i), sorted.row(i))).collect();
    let packed = PackedMatrix::new(&sorted);
    let mut found: Vec<Option<(usize, usize, usize)>> = vec![None; n];
    found.par_chunks_mut(TASK).enumerate().for_each_init(
        || vec![0.0f32; TASK * n],
        |products, (task, found)| {
            let from = task * TASK;
            let products = &mut products[..found.len() * n];
            let rows = &sorted.as_slice()[from * dim..(from + found.len()) * dim];
            packed.product(rows, products, Epilogue::None);
            for (r, (slot, row)) in found.iter_mut().zip(products.chunks_exact_mut(n)).enumerate() {
                let i = from + r;
                let (start, end) = class[i];
                if end - start < 2 || end - start == n {
                    continue;
                }
                // |b|^2 - 2 a.b orders the rows b as their distance to a does.
                for (x, square) in row.iter_mut().zip(&squares) {
                    *x = square - 2.0 * *x;
                }
                // The row itself is no positive.
                let own = std::mem::replace(&mut row[i], f32::NEG_INFINITY);
                let largest = extreme(&row[start..end], f32::max, f32::NEG_INFINITY);
                row[i] = own;
                let before = extreme(&row[..start], f32::min, f32::INFINITY);
                let smallest = extreme(&row[end..], f32::min, before);
                let lowest = |range: std::ops::Range<usize>, value: f32| {
                    range.filter(|&j| row[j] == value && j != i).map(|j| order[j]).min()
                };
                let positive = lowest(start..end, largest);
                let negative = [lowest(0..start, smallest), lowest(end..n, smallest)];
                if let (Some(p), Some(q)) = (positive, negative.into_iter().flatten().min()) {
                    *slot = Some((order[i], p, q));
                }
            }
        },
    );
    let mut by_anchor: Vec<(usize, usize, usize)> = found.into_iter().flatten().collect();
    by_anchor.sort_unstable();
    let mut triplets = Triplets::default();
    for (a, p, q) in by_anchor {
        triplets.push(a, p, q);
    }
    Ok(triplets)
}

/// Keeps the negatives that are less similar to their anchor than its positive is by more than `margin`; the others may be positives
/// nobody labelled.
///
/// `positive[i]` is the cosine of anchor i and its positive, `negatives[i]` those of its candidates; the result has their shape.
pub fn margin_filter(positive: &[f64], negatives: &[Vec<f64>], margin: f64) -> Result<Vec<Vec<bool>>, LossError> {
    one_a_row("lists of negatives", negatives.len(), positive.len())?;
    not_negative("margin", margin)?;
    let keep = |(p, list): (&f64, &Vec<f64>)| list.iter().map(|s| *s < p - margin).collect();
    Ok(positive.iter().zip(negatives).map(keep).collect())
}
