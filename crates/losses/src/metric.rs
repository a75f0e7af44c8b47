//! Metric losses: distances or angles of pairs and triplets against a margin.

use candle_core::Tensor;

use crate::mining::Triplets;
use crate::ops::{
    cross_entropy, hinge, log_one_plus_sum_exp, log_sum_exp, mask, masked, mean, products, row_products, softplus,
    sqrt_above, to_numbers, widen, zero_of,
};
use crate::{Distance, LossError, LossOutput, matrix, normalize, not_negative, one_a_row, positive, same_shape};

/// Over what a triplet loss is averaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reduction {
    /// All triplets.
    MeanAll,
    /// The triplets whose loss isn't zero.
    MeanActive,
}

/// One or several negatives an anchor.
#[derive(Debug, Clone, Copy)]
pub enum Neg<'a> {
    /// One, shape `(batch, dim)`.
    One(&'a Tensor),
    /// Several, shape `(batch, k, dim)`: the nearest counts.
    Many(&'a Tensor),
}

/// The triplet loss (Weinberger and Saul 2009; Schroff et al. 2015): `max(0, d(a,p) - d(a,n) + margin)`, or with a soft margin
/// `ln(1 + exp(d(a,p) - d(a,n)))` (Hermans et al. 2017).
///
/// Rows are compared as they come; on unit vectors, which keep an encoder from satisfying the margin by growing, call
/// [`normalize`] first.
///
/// ```
/// use candle_core::{DType, Device};
/// use eas_losses::{Triplet, fixtures, metric::Neg};
///
/// let t = fixtures::tiny(DType::F64, &Device::Cpu)?;
/// let out = Triplet::default().forward(&t.anchors, &t.positives, Neg::One(&t.first_negatives()?))?;
/// assert!((out.loss.to_scalar::<f64>()? - 0.3718819967).abs() < 1e-9);
/// assert_eq!(out.metrics.accuracy, 0.75);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Triplet {
    /// By how much the negative must be farther; unused with `soft`.
    pub margin: f64,
    /// How far rows are apart.
    pub distance: Distance,
    /// Softplus instead of a hinge.
    pub soft: bool,
}

impl Default for Triplet {
    fn default() -> Self {
        Self { margin: 1.0, distance: Distance::Euclidean, soft: false }
    }
}

/// The numbers to watch while a triplet loss falls.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TripletMetrics {
    /// The share of triplets whose positive is strictly nearer than the negative.
    pub accuracy: f64,
    /// The share of triplets that violate the margin.
    pub active: f64,
    /// The mean distance of anchors and positives.
    pub mean_positive: f64,
    /// The mean distance of anchors and negatives.
    pub mean_negative: f64,
    /// `mean_negative - mean_positive`.
    pub mean_gap: f64,
    /// Triplets compared.
    pub triplets: usize,
}

impl Triplet {
    /// The mean loss of `anchors` and `positives`, both `(batch, dim)`, against their negatives.
    pub fn forward(
        &self,
        anchors: &Tensor,
        positives: &Tensor,
        negatives: Neg<'_>,
    ) -> Result<LossOutput<TripletMetrics>, LossError> {
        same_shape(anchors, positives, 2)?;
        not_negative("margin", self.margin)?;
        let near = self.distance.paired(anchors, positives)?;
        let far = match negatives {
            Neg::One(n) => {
                same_shape(anchors, n, 2)?;
                self.distance.paired(anchors, n)?
            }
            Neg::Many(n) => {
                let (batch, dim) = anchors.dims2()?;
                if n.rank() != 3 || n.dim(0)? != batch || n.dim(1)? == 0 || n.dim(2)? != dim {
                    return Err(LossError::Operand {
                        what: "negatives",
                        expected: format!("({batch}, k, {dim})"),
                        got: n.dims().to_vec(),
                    });
                }
                let all = self.distance.paired(&anchors.unsqueeze(1)?, n)?;
                // The gradient goes to one nearest negative, also in a tie.
                let nearest = all.detach().argmin_keepdim(1)?;
                all.contiguous()?.gather(&nearest, 1)?.squeeze(1)?
            }
        };
        self.compare(&near, &far, Reduction::MeanAll)
    }

    /// The loss of triplets picked from the rows of `embeddings`, `(rows, dim)`, by a miner.
    ///
    /// Without triplets, or without an active one under [`Reduction::MeanActive`], the loss is 0 with a zero gradient.
    pub fn mined(
        &self,
        embeddings: &Tensor,
        triplets: &Triplets,
        reduction: Reduction,
    ) -> Result<LossOutput<TripletMetrics>, LossError> {
        not_negative("margin", self.margin)?;
        let (rows, _) = matrix("embeddings", embeddings)?;
        triplets.check(rows)?;
        if triplets.is_empty() {
            let none = TripletMetrics {
                accuracy: 0.0,
                active: 0.0,
                mean_positive: 0.0,
                mean_negative: 0.0,
                mean_gap: 0.0,
                triplets: 0,
            };
            return Ok(LossOutput { loss: zero_of(embeddings)?, metrics: none });
        }
        let index = |rows: &[u32]| Tensor::from_slice(rows, rows.len(), embeddings.device());
        let (a, p) = (index(&triplets.anchors)?, index(&triplets.positives)?);
        let n = index(&triplets.negatives)?;
        let (near, far) = if 2 * triplets.len() > rows * rows {
            // More pairs than there are: every one once.
            let all = self.distance.pairwise(embeddings, embeddings)?.flatten_all()?;
            let at = |j: &Tensor| -> Result<Tensor, LossError> {
                let flat = (a.affine(rows as f64, 0.0)? + j)?;
                Ok(all.index_select(&flat, 0)?)
            };
            (at(&p)?, at(&n)?)
        } else {
            let anchors = embeddings.index_select(&a, 0)?;
            let to = |j: &Tensor| self.distance.paired(&anchors, &embeddings.index_select(j, 0)?);
            (to(&p)?, to(&n)?)
        };
        self.compare(&near, &far, reduction)
    }

    /// The loss of given distances.
    fn compare(
        &self,
        near: &Tensor,
        far: &Tensor,
        reduction: Reduction,
    ) -> Result<LossOutput<TripletMetrics>, LossError> {
        let gap = (near - far)?;
        let violation = (&gap + self.margin)?;
        let costs = if self.soft { softplus(&gap)? } else { hinge(&violation)? };
        let (d_near, d_far) = (to_numbers(near)?, to_numbers(far)?);
        let count = d_near.len() as f64;
        let violated = to_numbers(&violation)?.iter().filter(|&&v| v > 0.0).count();
        let costly = to_numbers(&costs)?.iter().filter(|&&c| c > 0.0).count();
        let loss = match reduction {
            Reduction::MeanAll => costs.mean_all()?,
            Reduction::MeanActive => (costs.sum_all()? / costly.max(1) as f64)?,
        };
        let nearer = d_near.iter().zip(&d_far).filter(|(p, n)| p < n).count();
        let (mean_positive, mean_negative) = (mean(d_near), mean(d_far));
        Ok(LossOutput {
            loss,
            metrics: TripletMetrics {
                accuracy: nearer as f64 / count,
                active: violated as f64 / count,
                mean_positive,
                mean_negative,
                mean_gap: mean_negative - mean_positive,
                triplets: count as usize,
            },
        })
    }
}

/// Whether the two rows of a pair belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PairLabel {
    /// They do.
    Same,
    /// They don't.
    Different,
}

/// The contrastive loss of pairs (Hadsell, Chopra and LeCun 2006): a pair of one class costs `d^2 / 2`, a pair of two classes
/// `max(0, margin - d)^2 / 2`, with the Euclidean distance d.
///
/// On unit vectors d is at most 2: a margin of 2 makes every different pair pay, always.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairContrastive {
    /// The distance beyond which different rows cost nothing.
    pub margin: f64,
}

impl Default for PairContrastive {
    fn default() -> Self {
        Self { margin: 1.0 }
    }
}

/// What the pairs of a batch look like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairMetrics {
    /// The share of pairs on the right side of half the margin.
    pub accuracy: f64,
    /// The mean distance of pairs of one class; 0 without any.
    pub mean_same: f64,
    /// The mean distance of pairs of two classes; 0 without any.
    pub mean_different: f64,
    /// The share of different pairs within the margin; 0 without any.
    pub active_different: f64,
}

impl PairContrastive {
    /// The mean loss of pairs: row `i` of `first` with row `i` of `second`, both `(pairs, dim)`, one label a pair.
    pub fn forward(
        &self,
        first: &Tensor,
        second: &Tensor,
        labels: &[PairLabel],
    ) -> Result<LossOutput<PairMetrics>, LossError> {
        same_shape(first, second, 2)?;
        one_a_row("labels", labels.len(), first.dim(0)?)?;
        self.of(&Distance::Euclidean.paired(first, second)?, labels)
    }

    /// The mean loss of all pairs `i < j` of labelled rows, `(rows, dim)` with at least two rows.
    pub fn all_pairs(&self, embeddings: &Tensor, labels: &[u32]) -> Result<LossOutput<PairMetrics>, LossError> {
        let (rows, _) = matrix("embeddings", embeddings)?;
        one_a_row("labels", labels.len(), rows)?;
        let pairs = || (0..rows).flat_map(|i| (i + 1..rows).map(move |j| (i, j)));
        let flat: Vec<u32> = pairs().map(|(i, j)| (i * rows + j) as u32).collect();
        if flat.is_empty() {
            return Err(LossError::Argument { name: "rows", got: rows as f64, expected: "at least 2" });
        }
        let same = |(i, j): (usize, usize)| {
            if labels[i] == labels[j] { PairLabel::Same } else { PairLabel::Different }
        };
        let labels: Vec<PairLabel> = pairs().map(same).collect();
        let all = Distance::Euclidean.pairwise(embeddings, embeddings)?.flatten_all()?;
        let flat = Tensor::from_vec(flat, labels.len(), embeddings.device())?;
        self.of(&all.index_select(&flat, 0)?, &labels)
    }

    fn of(self, distances: &Tensor, labels: &[PairLabel]) -> Result<LossOutput<PairMetrics>, LossError> {
        positive("margin", self.margin)?;
        let different: Vec<u8> = labels.iter().map(|&l| u8::from(l == PairLabel::Different)).collect();
        let different = Tensor::from_vec(different, labels.len(), distances.device())?;
        let apart = hinge(&(self.margin - distances)?)?;
        let costs = different.where_cond(&apart.sqr()?, &distances.sqr()?)?;
        let loss = (costs.mean_all()? * 0.5)?;
        let numbers = to_numbers(distances)?;
        let of = |label| numbers.iter().zip(labels).filter(move |(_, l)| **l == label).map(|(d, _)| *d);
        let right = numbers
            .iter()
            .zip(labels)
            .filter(|(d, label)| (**d < self.margin / 2.0) == (**label == PairLabel::Same))
            .count();
        Ok(LossOutput {
            loss,
            metrics: PairMetrics {
                accuracy: right as f64 / labels.len() as f64,
                mean_same: mean(of(PairLabel::Same)),
                mean_different: mean(of(PairLabel::Different)),
                active_different: mean(of(PairLabel::Different).map(|d| f64::from(u8::from(d < self.margin)))),
            },
        })
    }
}

/// `2 asin(|n(x) - n(y)| / 2)` of equal rows, in radians: the angle, with a finite gradient where it is 0 (and zero there).
pub fn angles(x: &Tensor, y: &Tensor) -> Result<Tensor, LossError> {
    same_shape(x, y, 2)?;
    let (x, y) = (normalize(x)?, normalize(y)?);
    // asin(h) = atan2(h, sqrt(1 - h^2)), with h and the cosine half taken from the difference and the sum: no cancellation.
    let sine = Distance::Euclidean.paired(&x, &y)?;
    let cosine = Distance::Euclidean.paired(&x, &y.neg()?)?;
    arc(&sine, &cosine)
}

/// Twice the angle whose sine and cosine are in the ratio of `sine` to `cosine`, both not negative.
///
/// The value comes from the library's atan2; the derivative of `2 atan(s / c)` is `2 (c ds - s dc) / (s^2 + c^2)`, attached to it.
fn arc(sine: &Tensor, cosine: &Tensor) -> Result<Tensor, LossError> {
    let (s, c) = (to_numbers(sine)?, to_numbers(cosine)?);
    let value: Vec<f64> = s.iter().zip(&c).map(|(s, c)| 2.0 * s.atan2(*c)).collect();
    let value = crate::ops::constant(value, sine.dims(), sine)?;
    let (s, c) = (sine.detach(), cosine.detach());
    // Of two unit rows this is 4; of rows without direction it is 0, and so are both slopes.
    let norm = (s.sqr()? + c.sqr()?)?.maximum(1e-12)?;
    let along = ((&c / &norm)? * 2.0)?;
    let across = ((&s / &norm)? * 2.0)?;
    let slope = ((sine - s)? * along)?;
    Ok(((value + slope)? - ((cosine - c)? * across)?)?)
}

/// A hinge on angles: the mean of `max(0, angle(a,p) - angle(a,n) + alpha)`, in radians.
///
/// This is a triplet loss whose distance is the angle; [`Angular`] is the loss of Wang et al. 2017.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AngularMargin {
    /// The margin in degrees.
    pub alpha_degrees: f64,
}

impl AngularMargin {
    /// The loss of three `(batch, dim)` tensors.
    pub fn forward(&self, anchors: &Tensor, positives: &Tensor, negatives: &Tensor) -> Result<Tensor, LossError> {
        positive("alpha", self.alpha_degrees)?;
        let gap = (angles(anchors, positives)? - angles(anchors, negatives)?)?;
        Ok(hinge(&(gap + self.alpha_degrees.to_radians())?)?.mean_all()?)
    }
}

/// The angular loss (Wang et al. 2017): bounds the angle at the negative of the triangle anchor, positive, negative by `alpha`.
///
/// On unit vectors, with `t = tan^2 alpha`, a triplet's term is `f = 4 t (a + p).n - 2 (1 + t) a.p`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Angular {
    /// The upper bound of the angle in degrees, below 90; 40 to 50 in the paper.
    pub alpha_degrees: f64,
}

impl Default for Angular {
    fn default() -> Self {
        Self { alpha_degrees: 40.0 }
    }
}

impl Angular {
    fn tan_squared(self) -> Result<f64, LossError> {
        if self.alpha_degrees > 0.0 && self.alpha_degrees < 90.0 {
            return Ok(self.alpha_degrees.to_radians().tan().powi(2));
        }
        Err(LossError::Argument { name: "alpha", got: self.alpha_degrees, expected: "between 0 and 90 degrees" })
    }

    /// The mean of `ln(1 + exp f)` over triplets, three `(batch, dim)` tensors.
    pub fn smooth(&self, anchors: &Tensor, positives: &Tensor, negatives: &Tensor) -> Result<Tensor, LossError> {
        same_shape(anchors, positives, 2)?;
        same_shape(anchors, negatives, 2)?;
        let t = self.tan_squared()?;
        let (a, p, n) = (normalize(anchors)?, normalize(positives)?, normalize(negatives)?);
        let f = ((row_products(&(&a + &p)?, &n)? * (4.0 * t))? - (row_products(&a, &p)? * (2.0 * (1.0 + t)))?)?;
        Ok(softplus(&f)?.mean_all()?)
    }

    /// The mean of `max(0, |a - p|^2 - 4 t |n - (a + p)/2|^2)` over triplets, three `(batch, dim)` tensors.
    pub fn hinged(&self, anchors: &Tensor, positives: &Tensor, negatives: &Tensor) -> Result<Tensor, LossError> {
        same_shape(anchors, positives, 2)?;
        same_shape(anchors, negatives, 2)?;
        let t = self.tan_squared()?;
        let (a, p, n) = (normalize(anchors)?, normalize(positives)?, normalize(negatives)?);
        let side = Distance::SquaredEuclidean.paired(&a, &p)?;
        let height = Distance::SquaredEuclidean.paired(&n, &((&a + &p)? * 0.5)?)?;
        Ok(hinge(&(side - (height * (4.0 * t))?)?)?.mean_all()?)
    }

    /// In a batch of pairs, the mean over rows of `ln(1 + sum exp f)`, where the negatives of a pair are the other pairs' positives.
    pub fn in_batch(&self, anchors: &Tensor, positives: &Tensor) -> Result<Tensor, LossError> {
        same_shape(anchors, positives, 2)?;
        let t = self.tan_squared()?;
        let (a, p) = (normalize(anchors)?, normalize(positives)?);
        let batch = a.dim(0)?;
        let near = (row_products(&a, &p)? * (2.0 * (1.0 + t)))?.unsqueeze(1)?;
        let f = (products(&(&a + &p)?, &p)? * (4.0 * t))?.broadcast_sub(&near)?;
        let keep = mask(batch, batch, &a, |i, j| i != j)?;
        Ok(log_one_plus_sum_exp(&masked(&f, &keep)?)?.mean_all()?)
    }

    /// Over all ordered pairs of one class of labelled rows, `(rows, dim)`, the mean of `ln(1 + sum exp f)`, where the negatives of a
    /// pair are all rows of other classes. Without a pair the loss is 0 with a zero gradient.
    pub fn labelled(&self, embeddings: &Tensor, labels: &[u32]) -> Result<Tensor, LossError> {
        let (rows, _) = matrix("embeddings", embeddings)?;
        one_a_row("labels", labels.len(), rows)?;
        let t = self.tan_squared()?;
        let pairs: Vec<(usize, usize)> = (0..rows)
            .flat_map(|i| (0..rows).map(move |j| (i, j)))
            .filter(|&(i, j)| i != j && labels[i] == labels[j])
            .collect();
        if pairs.is_empty() {
            return zero_of(embeddings);
        }
        let z = normalize(embeddings)?;
        let pick = |side: fn(&(usize, usize)) -> usize| {
            let rows: Vec<u32> = pairs.iter().map(|pair| side(pair) as u32).collect();
            z.index_select(&Tensor::from_vec(rows, pairs.len(), z.device())?, 0)
        };
        let (a, p) = (pick(|pair| pair.0)?, pick(|pair| pair.1)?);
        let near = (row_products(&a, &p)? * (2.0 * (1.0 + t)))?.unsqueeze(1)?;
        let f = (products(&(&a + &p)?, &z)? * (4.0 * t))?.broadcast_sub(&near)?;
        let keep = mask(pairs.len(), rows, &z, |pair, j| labels[pairs[pair].0] != labels[j])?;
        Ok(log_one_plus_sum_exp(&masked(&f, &keep)?)?.mean_all()?)
    }
}

/// The cosines of labelled rows, and the masks of their positive and negative pairs.
fn labelled_cosines(embeddings: &Tensor, labels: &[u32]) -> Result<(Tensor, Tensor, Tensor), LossError> {
    let (rows, _) = matrix("embeddings", embeddings)?;
    one_a_row("labels", labels.len(), rows)?;
    let z = normalize(embeddings)?;
    let similar = mask(rows, rows, &z, |i, j| i != j && labels[i] == labels[j])?;
    let different = mask(rows, rows, &z, |i, j| labels[i] != labels[j])?;
    Ok((products(&z, &z)?, similar, different))
}

/// The multi-similarity loss (Wang et al. 2019): the mean over rows of
/// `ln(1 + sum_pos exp(-alpha (s - base))) / alpha + ln(1 + sum_neg exp(beta (s - base))) / beta`, with cosines s.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MultiSimilarity {
    /// Sharpness of the positive pairs.
    pub alpha: f64,
    /// Sharpness of the negative pairs.
    pub beta: f64,
    /// The cosine that both sides are measured from.
    pub base: f64,
    /// With `Some(epsilon)`, the paper's mining: a negative counts when it is more similar than the least similar positive less
    /// epsilon, a positive when it is less similar than the most similar negative plus epsilon.
    pub epsilon: Option<f64>,
}

impl Default for MultiSimilarity {
    fn default() -> Self {
        Self { alpha: 2.0, beta: 50.0, base: 0.5, epsilon: None }
    }
}

impl MultiSimilarity {
    /// The loss of labelled rows, `(rows, dim)`.
    pub fn forward(&self, embeddings: &Tensor, labels: &[u32]) -> Result<Tensor, LossError> {
        positive("alpha", self.alpha)?;
        positive("beta", self.beta)?;
        let (cosines, mut similar, mut different) = labelled_cosines(embeddings, labels)?;
        if let Some(epsilon) = self.epsilon {
            let rows = crate::ops::to_rows(&cosines)?;
            let n = rows.len();
            let of = |i: usize, same: bool| (0..n).filter(move |&j| j != i && (labels[i] == labels[j]) == same);
            let bounds: Vec<(f64, f64)> = (0..n)
                .map(|i| {
                    let least = of(i, true).map(|j| rows[i][j]).fold(f64::INFINITY, f64::min);
                    let most = of(i, false).map(|j| rows[i][j]).fold(f64::NEG_INFINITY, f64::max);
                    (least - epsilon, most + epsilon)
                })
                .collect();
            similar = mask(n, n, &cosines, |i, j| i != j && labels[i] == labels[j] && rows[i][j] < bounds[i].1)?;
            different = mask(n, n, &cosines, |i, j| labels[i] != labels[j] && rows[i][j] > bounds[i].0)?;
        }
        let shifted = (cosines - self.base)?;
        let near = log_one_plus_sum_exp(&masked(&(&shifted * -self.alpha)?, &similar)?)?;
        let far = log_one_plus_sum_exp(&masked(&(&shifted * self.beta)?, &different)?)?;
        Ok(((near / self.alpha)? + (far / self.beta)?)?.mean_all()?)
    }
}

/// Circle loss (Sun et al. 2020) on pairs: `ln(1 + sum_neg exp(gamma a_n (s - m)) sum_pos exp(-gamma a_p (s - 1 + m)))` with the
/// self-paced weights `a_n = max(0, s + m)` and `a_p = max(0, 1 + m - s)`, through which no gradient flows.
///
/// The mean runs over rows that have both a positive and a negative; without any the loss is 0 with a zero gradient.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Circle {
    /// The relaxation of the decision boundary.
    pub m: f64,
    /// The scale.
    pub gamma: f64,
}

impl Default for Circle {
    fn default() -> Self {
        Self { m: 0.4, gamma: 80.0 }
    }
}

impl Circle {
    /// The loss of labelled rows, `(rows, dim)`.
    pub fn forward(&self, embeddings: &Tensor, labels: &[u32]) -> Result<Tensor, LossError> {
        positive("gamma", self.gamma)?;
        let (s, similar, different) = labelled_cosines(embeddings, labels)?;
        let n = labels.len();
        let both: Vec<u32> = (0..n)
            .filter(|&i| {
                let mates = labels.iter().filter(|&&l| l == labels[i]).count();
                mates > 1 && mates < n
            })
            .map(|i| i as u32)
            .collect();
        if both.is_empty() {
            return zero_of(embeddings);
        }
        let fixed = s.detach();
        let near = ((&s - (1.0 - self.m))? * hinge(&(1.0 + self.m - &fixed)?)?)?;
        let far = ((&s - self.m)? * hinge(&(&fixed + self.m)?)?)?;
        let near = log_sum_exp(&masked(&(near * -self.gamma)?, &similar)?)?;
        let far = log_sum_exp(&masked(&(far * self.gamma)?, &different)?)?;
        let rows = both.len();
        let both = Tensor::from_vec(both, rows, s.device())?;
        let sum = (near + far)?.index_select(&both, 0)?;
        Ok(softplus(&sum)?.mean_all()?)
    }
}

/// The mean cross-entropy of `logits`, `(rows, classes)`, with one class a row: what a linear head pays.
pub fn softmax_cross_entropy(logits: &Tensor, classes: &[u32]) -> Result<Tensor, LossError> {
    let (rows, columns) = matrix("logits", logits)?;
    one_a_row("classes", classes.len(), rows)?;
    if let Some(row) = classes.iter().position(|&c| c as usize >= columns) {
        return Err(LossError::OutOfRange { what: "class", row, got: classes[row] as usize, limit: columns });
    }
    Ok(cross_entropy(&widen(logits)?, classes)?.mean_all()?)
}

/// The root of `1 - x^2`, with a zero gradient where it vanishes.
pub(crate) fn sine(cosine: &Tensor) -> Result<Tensor, LossError> {
    sqrt_above(&(1.0 - cosine.sqr()?)?, 1e-12)
}
