//! Contrastive losses: pull matched rows together, push the other candidates away.
//!
//! All of them are one cross-entropy. `s_ij = n(a_i) . n(c_j)` is the cosine of anchor i and candidate j, with `n` of
//! [`normalize`]; the loss of anchor i, whose positive is candidate `y_i`, is
//! `-ln softmax_j(s_ij / temperature)[y_i]`. They differ in who the candidates are.

use candle_core::{D, DType, Tensor};

use crate::ops::{constant, cross_entropy, mask, masked, mean, products, row_products, to_rows, widen};
use crate::{LossError, LossOutput, matrix, normalize, one_a_row, positive, same_shape};

/// Symmetric InfoNCE with in-batch negatives (van den Oord et al. 2018; the two-sided form is CLIP's, Radford et al. 2021).
///
/// `a` and `b` have shape `(batch, dim)` and L2-normalised rows; row `i` of `a` belongs to row `i` of `b`, and every other
/// row of the batch is a negative. The logits are `a b^T / temperature`; the loss is the mean of the cross-entropy over rows
/// (find the `b` of each `a`) and over columns (find the `a` of each `b`), in nats, as a scalar tensor. A batch that tells
/// nothing apart costs `ln(batch)`. [`InfoNce`] normalises the rows itself and knows other kinds of negatives.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
///
/// // Four orthonormal pairs: ln(1 + 3 exp(-10)).
/// let pairs = Tensor::eye(4, DType::F64, &Device::Cpu)?;
/// let loss = eas_losses::info_nce(&pairs, &pairs, 0.1)?.to_scalar::<f64>()?;
/// assert!((loss - 1.361905e-4).abs() < 1e-9);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn info_nce(a: &Tensor, b: &Tensor, temperature: f64) -> Result<Tensor, LossError> {
    same_shape(a, b, 2)?;
    crate::temperature::check(temperature)?;
    let logits = (products(&widen(a)?, &widen(b)?)? / temperature)?;
    let matched: Vec<u32> = (0..a.dim(0)? as u32).collect();
    let forward = cross_entropy(&logits, &matched)?.mean_all()?;
    let backward = cross_entropy(&logits.t()?.contiguous()?, &matched)?.mean_all()?;
    Ok(((forward + backward)? * 0.5)?)
}

/// Whom an anchor must tell its positive from.
#[derive(Debug, Clone, Copy)]
pub enum Negatives<'a> {
    /// The other anchors' positives: `batch` candidates.
    InBatch,
    /// The anchor's own negatives, shape `(batch, k, dim)`: `1 + k` candidates.
    Explicit(&'a Tensor),
    /// The other anchors' positives and the anchor's own negatives: `batch + k` candidates.
    InBatchPlusOwn(&'a Tensor),
    /// The other anchors' positives and everyone's negatives: `batch + batch k` candidates.
    InBatchPlusPool(&'a Tensor),
    /// The other rows of both views, SimCLR's candidates for one view: `2 batch - 1` candidates.
    TwoView,
}

/// What a batch looks like to a contrastive loss; similarities are plain cosines, whatever the temperature.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetrievalMetrics {
    /// The share of anchors whose most similar candidate is their positive.
    pub accuracy: f64,
    /// The mean cosine of anchors and positives.
    pub positive_similarity: f64,
    /// The mean cosine of anchors and negatives; 0 without negatives.
    pub negative_similarity: f64,
    /// The difference of the two.
    pub similarity_gap: f64,
    /// Candidates an anchor.
    pub n_candidates: usize,
}

impl RetrievalMetrics {
    /// `ln(n_candidates) - loss`, a lower bound on the mutual information of anchors and positives in nats (van den Oord et al. 2018;
    /// Poole et al. 2019). It can't exceed `ln(n_candidates)`.
    pub fn mi_lower_bound(&self, loss: f64) -> f64 {
        (self.n_candidates as f64).ln() - loss
    }

    fn measure(similarities: &Tensor, targets: &[u32], keep: impl Fn(usize, usize) -> bool) -> Result<Self, LossError> {
        let rows = to_rows(similarities)?;
        let (mut hits, mut candidates) = (0usize, 0);
        let (mut positives, mut negatives) = (Vec::with_capacity(rows.len()), Vec::new());
        for (i, row) in rows.iter().enumerate() {
            let target = targets[i] as usize;
            let kept = (0..row.len()).filter(|&j| j == target || keep(i, j));
            let best = kept.clone().max_by(|&x, &y| row[x].total_cmp(&row[y]).then(y.cmp(&x)));
            hits += usize::from(best == Some(target));
            candidates = candidates.max(kept.clone().count());
            positives.push(row[target]);
            let others = kept.filter(|&j| j != target).map(|j| row[j]);
            negatives.push((others.clone().sum::<f64>(), others.count()));
        }
        let count: usize = negatives.iter().map(|n| n.1).sum();
        let negative_similarity = negatives.iter().map(|n| n.0).sum::<f64>() / count.max(1) as f64;
        let positive_similarity = mean(positives);
        Ok(Self {
            accuracy: hits as f64 / rows.len() as f64,
            positive_similarity,
            negative_similarity,
            similarity_gap: positive_similarity - negative_similarity,
            n_candidates: candidates,
        })
    }
}

/// The softmax loss over explicit candidates, of which every objective of this module is a case: the mean over rows of
/// `-ln softmax(similarities / temperature)[target]`.
///
/// `similarities` has shape `(anchors, candidates)`. `keep` (u8, same shape) leaves out candidates where it is 0: the anchor itself,
/// a duplicate of its positive, an item of the same user; a target is never left out. `log_q`, shape `(candidates,)`, is the log of
/// the probability with which each candidate came into the batch; it is subtracted from the logits, so that frequent items aren't
/// punished for being frequent (Bengio and Senécal 2008; Yi et al. 2019).
pub fn candidate_loss(
    similarities: &Tensor,
    targets: &[u32],
    temperature: f64,
    keep: Option<&Tensor>,
    log_q: Option<&Tensor>,
) -> Result<Tensor, LossError> {
    crate::temperature::check(temperature)?;
    let (rows, columns) = matrix("similarities", similarities)?;
    one_a_row("targets", targets.len(), rows)?;
    if let Some(row) = targets.iter().position(|&t| t as usize >= columns) {
        return Err(LossError::OutOfRange { what: "target", row, got: targets[row] as usize, limit: columns });
    }
    let mut logits = (widen(similarities)? / temperature)?;
    if let Some(log_q) = log_q {
        if log_q.dims() != [columns] {
            return Err(LossError::Operand {
                what: "log_q",
                expected: format!("({columns},)"),
                got: log_q.dims().to_vec(),
            });
        }
        logits = logits.broadcast_sub(&log_q.to_dtype(logits.dtype())?)?;
    }
    if let Some(keep) = keep {
        same_shape(similarities, keep, 2)?;
        let own = mask(rows, columns, similarities, |i, j| targets[i] as usize == j)?;
        logits = masked(&logits, &keep.to_dtype(DType::U8)?.maximum(&own)?)?;
    }
    Ok(cross_entropy(&logits, targets)?.mean_all()?)
}

/// InfoNCE (van den Oord et al. 2018): find the positive among the candidates.
///
/// ```
/// use candle_core::{DType, Device};
/// use eas_losses::{InfoNce, Negatives, fixtures};
///
/// let t = fixtures::tiny(DType::F64, &Device::Cpu)?;
/// let out = InfoNce::new(0.1).forward(&t.anchors, &t.positives, Negatives::InBatch)?;
/// assert!((out.loss.to_scalar::<f64>()? - 0.0411822892).abs() < 1e-9);
/// assert_eq!(out.metrics.accuracy, 1.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InfoNce {
    /// What cosines are divided by; 0.01 to 0.5 in practice.
    pub temperature: f64,
    /// Whether positives must also find their anchors, and the two losses are averaged (in-batch negatives only).
    pub symmetric: bool,
}

impl Default for InfoNce {
    fn default() -> Self {
        Self::new(0.07)
    }
}

impl InfoNce {
    /// The one-sided loss.
    pub fn new(temperature: f64) -> Self {
        Self { temperature, symmetric: false }
    }

    /// The two-sided loss (Radford et al. 2021).
    pub fn symmetric(temperature: f64) -> Self {
        Self { temperature, symmetric: true }
    }

    /// The loss of `anchors` and `positives`, both `(batch, dim)` of any length, and what the batch looks like.
    pub fn forward(
        &self,
        anchors: &Tensor,
        positives: &Tensor,
        negatives: Negatives<'_>,
    ) -> Result<LossOutput<RetrievalMetrics>, LossError> {
        same_shape(anchors, positives, 2)?;
        crate::temperature::check(self.temperature)?;
        if self.symmetric && !matches!(negatives, Negatives::InBatch) {
            return Err(LossError::Name("the symmetric loss is defined for in-batch negatives only".to_owned()));
        }
        let batch = anchors.dim(0)?;
        let (a, p) = (normalize(anchors)?, normalize(positives)?);
        let with = |n: &Tensor| -> Result<(Tensor, usize), LossError> {
            let shaped = n.rank() == 3 && n.dim(0)? == batch && n.dim(1)? > 0 && n.dim(2)? == anchors.dim(1)?;
            if !shaped {
                return Err(LossError::Operand {
                    what: "negatives",
                    expected: format!("({batch}, k, {})", anchors.dim(1)?),
                    got: n.dims().to_vec(),
                });
            }
            Ok((normalize(n)?, n.dim(1)?))
        };
        let own = |n: &Tensor| -> Result<Tensor, LossError> { Ok(n.matmul(&a.unsqueeze(2)?)?.squeeze(2)?) };
        let diagonal: Vec<u32> = (0..batch as u32).collect();
        let (similarities, targets, left_out) = match negatives {
            Negatives::InBatch => (products(&a, &p)?, diagonal, None),
            Negatives::Explicit(n) => {
                let first = row_products(&a, &p)?.unsqueeze(1)?;
                (Tensor::cat(&[first, own(&with(n)?.0)?], 1)?, vec![0; batch], None)
            }
            Negatives::InBatchPlusOwn(n) => {
                let n = own(&with(n)?.0)?;
                (Tensor::cat(&[products(&a, &p)?, n], 1)?, diagonal, None)
            }
            Negatives::InBatchPlusPool(n) => {
                let (n, k) = with(n)?;
                let pool = Tensor::cat(&[&p, &n.reshape((batch * k, ()))?], 0)?;
                (products(&a, &pool)?, diagonal, None)
            }
            Negatives::TwoView => {
                let targets = (batch as u32..2 * batch as u32).collect();
                let both = Tensor::cat(&[&a, &p], 0)?;
                let keep = mask(batch, 2 * batch, &a, |i, j| i != j)?;
                (products(&a, &both)?, targets, Some(keep))
            }
        };
        let mut loss = candidate_loss(&similarities, &targets, self.temperature, left_out.as_ref(), None)?;
        if self.symmetric {
            let back = similarities.t()?.contiguous()?;
            loss = ((loss + candidate_loss(&back, &targets, self.temperature, None, None)?)? * 0.5)?;
        }
        let masks_self = left_out.is_some();
        let metrics = RetrievalMetrics::measure(&similarities, &targets, |i, j| !masks_self || i != j)?;
        Ok(LossOutput { loss, metrics })
    }

    /// The loss in the presence of a queue (MoCo, He et al. 2020): each anchor's candidates are its positive and the rows of `queue`,
    /// shape `(k, dim)`, which get no gradient.
    pub fn with_queue(
        &self,
        anchors: &Tensor,
        positives: &Tensor,
        queue: &Tensor,
    ) -> Result<LossOutput<RetrievalMetrics>, LossError> {
        same_shape(anchors, positives, 2)?;
        let (_, dim) = matrix("queue", queue)?;
        if dim != anchors.dim(1)? {
            return Err(LossError::Shape { left: anchors.dims().to_vec(), right: queue.dims().to_vec() });
        }
        let (a, p) = (normalize(anchors)?, normalize(positives)?);
        let queue = products(&a, &normalize(&queue.detach())?)?;
        let similarities = Tensor::cat(&[&row_products(&a, &p)?.unsqueeze(1)?, &queue], 1)?;
        let targets = vec![0; anchors.dim(0)?];
        Ok(LossOutput {
            loss: candidate_loss(&similarities, &targets, self.temperature, None, None)?,
            metrics: RetrievalMetrics::measure(&similarities, &targets, |_, _| true)?,
        })
    }
}

/// Multiple-negatives ranking (Henderson et al. 2017, the default loss of sentence-transformers): in-batch InfoNCE on cosines times
/// `scale`, with hard negatives, shape `(batch, k, dim)`, as candidates of every anchor.
///
/// [`wrapper::GradCache`](crate::wrapper::GradCache) computes its gradient for batches whose activations don't fit memory.
pub fn multiple_negatives_ranking(
    anchors: &Tensor,
    positives: &Tensor,
    negatives: Option<&Tensor>,
    scale: f64,
) -> Result<Tensor, LossError> {
    positive("scale", scale)?;
    let negatives = negatives.map_or(Negatives::InBatch, Negatives::InBatchPlusPool);
    Ok(InfoNce::new(1.0 / scale).forward(anchors, positives, negatives)?.loss)
}

/// How the two views of an example lie in one matrix of `2 batch` rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PairLayout {
    /// Rows `2i` and `2i + 1` are views of one example.
    Interleaved,
    /// Rows `i` and `i + batch` are.
    Halves,
}

impl PairLayout {
    /// The row of the other view of row `i`.
    fn twin(self, i: usize, batch: usize) -> usize {
        match self {
            Self::Interleaved => i ^ 1,
            Self::Halves => (i + batch) % (2 * batch),
        }
    }
}

/// NT-Xent, SimCLR's loss (Chen et al. 2020): each of `2 batch` views has one positive, its twin, and `2 batch - 2` negatives.
///
/// A batch of one example costs 0; identical rows cost `ln(2 batch - 1)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NtXent {
    /// What cosines are divided by.
    pub temperature: f64,
    /// Which rows are views of one example.
    pub layout: PairLayout,
}

impl Default for NtXent {
    fn default() -> Self {
        Self { temperature: 0.5, layout: PairLayout::Halves }
    }
}

impl NtXent {
    /// The loss of `views`, shape `(2 batch, dim)`.
    pub fn forward(&self, views: &Tensor) -> Result<LossOutput<RetrievalMetrics>, LossError> {
        let batch = even("views", views)?;
        let targets: Vec<u32> = (0..2 * batch).map(|i| self.layout.twin(i, batch) as u32).collect();
        let z = normalize(views)?;
        let similarities = products(&z, &z)?;
        let keep = mask(2 * batch, 2 * batch, &z, |i, j| i != j)?;
        Ok(LossOutput {
            loss: candidate_loss(&similarities, &targets, self.temperature, Some(&keep), None)?,
            metrics: RetrievalMetrics::measure(&similarities, &targets, |i, j| i != j)?,
        })
    }

    /// Refuses a batch, shape `(2 batch, dim)`, whose twins are no more alike than its other pairs: the sign of a wrong layout. Meant for a
    /// first batch of a few identical or nearly identical views: among many, how alike wrong twins are differs little from how alike the rest is.
    pub fn check_layout(&self, views: &Tensor) -> Result<(), LossError> {
        let metrics = self.forward(views)?.metrics;
        if metrics.similarity_gap > 0.0 {
            return Ok(());
        }
        Err(LossError::Name(format!(
            "the twins of layout {:?} have mean cosine {:.4}, the other pairs {:.4}: are the views in another order?",
            self.layout, metrics.positive_similarity, metrics.negative_similarity
        )))
    }
}

fn even(what: &'static str, views: &Tensor) -> Result<usize, LossError> {
    let (rows, _) = matrix(what, views)?;
    if rows % 2 == 1 {
        return Err(LossError::Operand { what, expected: "(2 batch, dim)".to_owned(), got: views.dims().to_vec() });
    }
    Ok(rows / 2)
}

/// Debiased contrastive loss (Chuang et al. 2020), with the hardness weights of Robinson et al. 2021 when `beta > 0`.
///
/// A share `tau_plus` of the "negatives" is expected to be positives in disguise. Over the two views `[a; p]`, with the twin's
/// `g = exp(s+ / t)` and the N = 2 batch - 2 negatives' `e_k = exp(s_k / t)`:
/// `R = sum e_k` (or `sum e_k^(1+beta) / mean e_k^beta`), `G = max((R - tau_plus N g) / (1 - tau_plus), N exp(-1/t))`, and the loss is
/// the mean of `-ln(g / (g + G))`. With `tau_plus = 0` and `beta = 0` it is [`NtXent`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Debiased {
    /// What cosines are divided by.
    pub temperature: f64,
    /// The share of false negatives, in `[0, 1)`.
    pub tau_plus: f64,
    /// How much more hard negatives weigh; 0 weighs all alike.
    pub beta: f64,
}

impl Default for Debiased {
    fn default() -> Self {
        Self { temperature: 0.5, tau_plus: 0.1, beta: 0.0 }
    }
}

impl Debiased {
    /// The loss of two views, both `(batch, dim)` with `batch >= 2`.
    pub fn forward(&self, anchors: &Tensor, positives: &Tensor) -> Result<Tensor, LossError> {
        same_shape(anchors, positives, 2)?;
        crate::temperature::check(self.temperature)?;
        crate::not_negative("beta", self.beta)?;
        if !(0.0..1.0).contains(&self.tau_plus) {
            return Err(LossError::Argument { name: "tau_plus", got: self.tau_plus, expected: "in [0, 1)" });
        }
        let batch = anchors.dim(0)?;
        if batch < 2 {
            return Err(LossError::Argument {
                name: "batch",
                got: batch as f64,
                expected: "at least 2: one example has no negatives",
            });
        }
        let z = normalize(&Tensor::cat(&[anchors, positives], 0)?)?;
        let logits = (products(&z, &z)? / self.temperature)?;
        let own = row_products(&z, &z.roll(batch as i32, 0)?)?;
        let own = (own / self.temperature)?.unsqueeze(1)?;
        let n = 2 * batch - 2;
        let keep = mask(2 * batch, 2 * batch, &z, |i, j| i != j && i != (j + batch) % (2 * batch))?;
        // Everything is divided by the exponential of the row's largest logit, so that no temperature overflows or leaves only zeros.
        let others = mask(2 * batch, 2 * batch, &z, |i, j| i != j)?;
        let largest = masked(&logits.detach(), &others)?.max_keepdim(D::Minus1)?;
        let e = masked(&logits.broadcast_sub(&largest)?, &keep)?.exp()?;
        let g = (&own - &largest)?.exp()?;
        let r = if self.beta == 0.0 {
            e.sum_keepdim(1)?
        } else {
            let beta = masked(&(logits.broadcast_sub(&largest)? * self.beta)?, &keep)?.exp()?;
            let weighted = (&e * &beta)?.sum_keepdim(1)?;
            (weighted / (beta.sum_keepdim(1)? / n as f64)?)?
        };
        let negatives = ((r - (&g * (self.tau_plus * n as f64))?)? / (1.0 - self.tau_plus))?;
        let least = ((largest.neg()? - 1.0 / self.temperature)?.exp()? * n as f64)?;
        let above = negatives.gt(&least)?;
        let negatives = above.where_cond(&negatives, &least)?;
        let loss = ((&g + negatives)?.log()? - (own - largest)?)?;
        Ok(loss.mean_all()?)
    }
}

/// InfoNCE against the hardest candidates of the batch only.
///
/// The candidates of anchor i are all anchors and positives but its own: `2 batch - 2`. Those whose cosine exceeds
/// `hardness_threshold` are eligible, or all when none does; the `k` most similar become its negatives (fewer when fewer are eligible).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HardInBatch {
    /// What cosines are divided by.
    pub temperature: f64,
    /// The cosine above which a candidate counts as hard.
    pub hardness_threshold: f64,
    /// Negatives an anchor at most.
    pub k: usize,
}

impl Default for HardInBatch {
    fn default() -> Self {
        Self { temperature: 0.07, hardness_threshold: 0.5, k: 10 }
    }
}

/// What [`HardInBatch`] used.
#[derive(Debug, Clone, PartialEq)]
pub struct HardMetrics {
    /// The mean cosine of anchors and the negatives used.
    pub hard_similarity: f64,
    /// Negatives used by each anchor.
    pub used: Vec<usize>,
}

impl HardInBatch {
    /// The loss of two views, both `(batch, dim)` with `batch >= 2`.
    pub fn forward(&self, anchors: &Tensor, positives: &Tensor) -> Result<LossOutput<HardMetrics>, LossError> {
        same_shape(anchors, positives, 2)?;
        let batch = anchors.dim(0)?;
        if batch < 2 || self.k == 0 {
            return Err(LossError::Argument {
                name: if self.k == 0 { "k" } else { "batch" },
                got: if self.k == 0 { 0.0 } else { batch as f64 },
                expected: if self.k == 0 { "at least 1" } else { "at least 2" },
            });
        }
        let (a, p) = (normalize(anchors)?, normalize(positives)?);
        let similarities = products(&a, &Tensor::cat(&[&a, &p], 0)?)?;
        let hard: Vec<Vec<usize>> = to_rows(&similarities)?
            .iter()
            .enumerate()
            .map(|(i, row)| {
                let others = (0..2 * batch).filter(|&j| j != i && j != i + batch);
                let mut eligible: Vec<usize> = others.clone().filter(|&j| row[j] > self.hardness_threshold).collect();
                if eligible.is_empty() {
                    eligible = others.collect();
                }
                eligible.sort_by(|&x, &y| row[y].total_cmp(&row[x]).then(x.cmp(&y)));
                eligible.truncate(self.k);
                eligible
            })
            .collect();
        let keep = mask(batch, 2 * batch, &a, |i, j| hard[i].contains(&j))?;
        let targets: Vec<u32> = (batch as u32..2 * batch as u32).collect();
        let loss = candidate_loss(&similarities, &targets, self.temperature, Some(&keep), None)?;
        let rows = to_rows(&similarities)?;
        let used: Vec<usize> = hard.iter().map(Vec::len).collect();
        let hard_similarity = mean(hard.iter().zip(&rows).flat_map(|(hard, row)| hard.iter().map(|&j| row[j])));
        Ok(LossOutput { loss, metrics: HardMetrics { hard_similarity, used } })
    }
}

/// The N-pair loss (Sohn 2016): the cross-entropy of unnormalised products, `mean_i ln(1 + sum_{j != i} exp(a_i.p_j - a_i.p_i))`, plus
/// `l2_reg / 4` times the mean of `|a_i|^2 + |p_i|^2`, which keeps the lengths in check.
///
/// `anchors` and `positives` have shape `(batch, dim)`; each row is a class of its own.
pub fn n_pairs(anchors: &Tensor, positives: &Tensor, l2_reg: f64) -> Result<Tensor, LossError> {
    same_shape(anchors, positives, 2)?;
    crate::not_negative("l2_reg", l2_reg)?;
    let (a, p) = (widen(anchors)?, widen(positives)?);
    let matched: Vec<u32> = (0..a.dim(0)? as u32).collect();
    let loss = cross_entropy(&products(&a, &p)?, &matched)?.mean_all()?;
    if l2_reg == 0.0 {
        return Ok(loss);
    }
    let lengths = (row_products(&a, &a)? + row_products(&p, &p)?)?.mean_all()?;
    Ok((loss + (lengths * (0.25 * l2_reg))?)?)
}

/// The mean of `(cos(a_i, b_i) - y_i)^2` for given similarities `y`, one a row (sentence-transformers' cosine-similarity loss).
pub fn cosine_regression(a: &Tensor, b: &Tensor, similarity: &[f64]) -> Result<Tensor, LossError> {
    same_shape(a, b, 2)?;
    one_a_row("similarities", similarity.len(), a.dim(0)?)?;
    let cosine = row_products(&normalize(a)?, &normalize(b)?)?;
    let wanted = constant(similarity.to_vec(), &[similarity.len()], &cosine)?;
    Ok((cosine - wanted)?.sqr()?.mean_all()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_abs_diff_eq;
    use candle_core::{DType, Device, Var};
    use eas_tensor::rng::SplitMix64;

    fn unit_rows(n: usize, dim: usize, seed: u64) -> Vec<Vec<f64>> {
        let mut rng = SplitMix64::new(seed);
        (0..n)
            .map(|_| {
                let row: Vec<f64> = (0..dim).map(|_| rng.normal()).collect();
                let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt();
                row.iter().map(|x| x / norm).collect()
            })
            .collect()
    }

    fn tensor(rows: &[Vec<f64>]) -> Tensor {
        Tensor::from_vec(rows.concat(), (rows.len(), rows[0].len()), &Device::Cpu).unwrap()
    }

    /// The definition in loops.
    fn naive(a: &[Vec<f64>], b: &[Vec<f64>], temperature: f64) -> f64 {
        let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(p, q)| p * q).sum::<f64>() / temperature;
        let n = a.len();
        let mut total = 0.0;
        for i in 0..n {
            let row: f64 = (0..n).map(|j| dot(&a[i], &b[j]).exp()).sum();
            let column: f64 = (0..n).map(|j| dot(&a[j], &b[i]).exp()).sum();
            total += row.ln() + column.ln() - 2.0 * dot(&a[i], &b[i]);
        }
        total / (2 * n) as f64
    }

    #[test]
    fn orthonormal_pairs_have_the_closed_form() {
        for (batch, temperature, expected) in [(4, 0.1, 1.361905e-4), (64, 0.07, 3.936635e-5)] {
            let pairs = Tensor::eye(batch, DType::F64, &Device::Cpu).unwrap();
            let loss = info_nce(&pairs, &pairs, temperature).unwrap().to_scalar::<f64>().unwrap();
            assert_abs_diff_eq!(loss, expected, epsilon = 1e-10);
            let closed_form = ((batch - 1) as f64 * (-1.0 / temperature).exp()).ln_1p();
            assert_abs_diff_eq!(loss, closed_form, epsilon = 1e-12);
        }
    }

    #[test]
    fn equals_the_loops_and_is_symmetric_in_its_operands() {
        for seed in 0..5 {
            let (a, b) = (unit_rows(9, 6, seed), unit_rows(9, 6, seed + 100));
            let loss = |x: &Tensor, y: &Tensor| info_nce(x, y, 0.3).unwrap().to_scalar::<f64>().unwrap();
            let value = loss(&tensor(&a), &tensor(&b));
            assert_abs_diff_eq!(value, naive(&a, &b, 0.3), epsilon = 1e-12);
            assert_abs_diff_eq!(value, loss(&tensor(&b), &tensor(&a)), epsilon = 1e-12);
        }
    }

    #[test]
    fn a_batch_that_tells_nothing_apart_costs_the_log_of_its_size() {
        let same = tensor(&vec![vec![0.6, 0.8]; 32]);
        let loss = info_nce(&same, &same, 0.1).unwrap().to_scalar::<f64>().unwrap();
        assert_abs_diff_eq!(loss, 32f64.ln(), epsilon = 1e-12);
    }

    #[test]
    fn the_gradient_equals_finite_differences() {
        let (a, b) = (unit_rows(5, 4, 1), unit_rows(5, 4, 2));
        let var = Var::from_tensor(&tensor(&a)).unwrap();
        let grads = info_nce(&var, &tensor(&b), 0.2).unwrap().backward().unwrap();
        let gradient = grads.get(&var).unwrap().to_vec2::<f64>().unwrap();
        let step = 1e-5;
        for i in 0..5 {
            for j in 0..4 {
                let shifted = |by: f64| {
                    let mut moved = a.clone();
                    moved[i][j] += by;
                    naive(&moved, &b, 0.2)
                };
                let difference = (shifted(step) - shifted(-step)) / (2.0 * step);
                assert_abs_diff_eq!(gradient[i][j], difference, epsilon = 1e-8);
            }
        }
    }

    #[test]
    fn large_logits_stay_finite() {
        let pairs = Tensor::eye(3, DType::F32, &Device::Cpu).unwrap();
        let loss = info_nce(&pairs, &pairs, 1e-4).unwrap().to_scalar::<f32>().unwrap();
        assert_eq!(loss, 0.0);
    }

    #[test]
    fn bad_input_is_refused() {
        let zeros = |rows, dim| Tensor::zeros((rows, dim), DType::F32, &Device::Cpu).unwrap();
        assert!(matches!(info_nce(&zeros(3, 2), &zeros(2, 2), 0.1), Err(LossError::Shape { .. })));
        assert!(matches!(info_nce(&zeros(0, 2), &zeros(0, 2), 0.1), Err(LossError::Empty(_))));
        for temperature in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(info_nce(&zeros(2, 2), &zeros(2, 2), temperature), Err(LossError::Argument { .. })));
        }
    }
}
