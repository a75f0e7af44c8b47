//! Softmax losses of large batches without a batch x batch matrix.
//!
//! The plain loss of [`contrastive`](crate::contrastive) keeps several matrices of `batch x candidates` for its gradient. Here a strip of
//! 192 anchors meets all candidates at a time: the strip's logits are exponentiated and summed, its gradients added up, and the
//! next strip takes its place. Memory grows with `batch x dim`, time is that of the three matrix products that the gradient
//! needs anyway. (The same idea for attention: Dao et al., FlashAttention, 2022.)
//!
//! On CPU in f32 this is one candle operation with kernels of its own, parallel over candidates; sums run in a fixed order, so the result
//! doesn't depend on the number of threads. In f64 and on a GPU the strips are candle products.

use candle_core::{CpuStorage, CustomOp2, D, DType, Layout, Shape, Tensor};
use eas_tensor::gemm::{Epilogue, PackedMatrix};
use eas_tensor::transformer::exp_shifted;
use eas_tensor::{Matrix, kernels};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use crate::ops::{constant, extreme, mask, masked, products, row_products, to_number, widen};
use crate::{LossError, matrix, normalize, same_shape};

/// Anchors of a strip; half as many where the candidates are [`MANY`].
const STRIP: usize = 192;
/// Values of the candidates from which memory counts for more than a twentieth of the time: their unit rows are then packed anew for each
/// strip rather than kept in a second layout.
const MANY: usize = 10 << 20;
/// Candidates of a block: its logits, 192 KiB, stay in the second-level cache.
const BLOCK: usize = 256;
/// Parallel tasks at most, each with blocks of its own.
const TASKS: usize = 16;

/// [`InfoNce`](crate::InfoNce) with in-batch negatives: `anchors` and `positives` of shape `(batch, dim)`, any length.
///
/// ```
/// use candle_core::{DType, Device};
/// use eas_losses::fixtures;
///
/// let t = fixtures::tiny(DType::F32, &Device::Cpu)?;
/// let loss = eas_losses::tiled::info_nce(&t.anchors, &t.positives, 0.1)?;
/// assert!((loss.to_scalar::<f32>()? - 0.0411823).abs() < 1e-6);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn info_nce(anchors: &Tensor, positives: &Tensor, temperature: f64) -> Result<Tensor, LossError> {
    same_shape(anchors, positives, 2)?;
    let batch = anchors.dim(0)?;
    cross_entropy(anchors, positives, temperature, &Candidates::Aligned { batch })
}

/// The two-sided [`info_nce`], the mean of both directions.
pub fn symmetric_info_nce(a: &Tensor, b: &Tensor, temperature: f64) -> Result<Tensor, LossError> {
    Ok(((info_nce(a, b, temperature)? + info_nce(b, a, temperature)?)? * 0.5)?)
}

/// [`info_nce`] with further candidates for every anchor: `pool` of shape `(k, dim)`.
pub fn info_nce_with_pool(
    anchors: &Tensor,
    positives: &Tensor,
    pool: &Tensor,
    temperature: f64,
) -> Result<Tensor, LossError> {
    same_shape(anchors, positives, 2)?;
    let batch = anchors.dim(0)?;
    let candidates = Tensor::cat(&[&widen(positives)?, &widen(pool)?], 0)?;
    cross_entropy(anchors, &candidates, temperature, &Candidates::Aligned { batch })
}

/// [`InfoNce`](crate::InfoNce) over both views: the candidates of an anchor are all other rows of `anchors` and `positives`.
pub fn two_view_info_nce(anchors: &Tensor, positives: &Tensor, temperature: f64) -> Result<Tensor, LossError> {
    same_shape(anchors, positives, 2)?;
    let batch = anchors.dim(0)?;
    let both = Tensor::cat(&[&widen(anchors)?, &widen(positives)?], 0)?;
    cross_entropy(anchors, &both, temperature, &Candidates::BothViews { batch })
}

/// [`NtXent`](crate::NtXent) of `views`, shape `(2 batch, dim)`, of which rows `i` and `i + batch` belong together.
pub fn nt_xent(views: &Tensor, temperature: f64) -> Result<Tensor, LossError> {
    let (rows, _) = matrix("views", views)?;
    if rows % 2 == 1 {
        return Err(LossError::Operand {
            what: "views",
            expected: "(2 batch, dim)".to_owned(),
            got: views.dims().to_vec(),
        });
    }
    cross_entropy(views, views, temperature, &Candidates::BothViews { batch: rows / 2 })
}

/// Who an anchor's positive is, and which candidate is the anchor itself.
#[derive(Debug, Clone, Copy)]
enum Candidates {
    /// Candidate i is anchor i's positive.
    Aligned { batch: usize },
    /// The candidates are both views one after the other: anchor i is candidate i, its positive the other view.
    BothViews { batch: usize },
}

impl Candidates {
    fn target(self, anchor: usize) -> usize {
        match self {
            Self::Aligned { .. } => anchor,
            Self::BothViews { batch } => (anchor + batch) % (2 * batch),
        }
    }

    fn itself(self, anchor: usize) -> Option<usize> {
        match self {
            Self::Aligned { .. } => None,
            Self::BothViews { .. } => Some(anchor),
        }
    }
}

fn cross_entropy(
    anchors: &Tensor,
    candidates: &Tensor,
    temperature: f64,
    who: &Candidates,
) -> Result<Tensor, LossError> {
    crate::temperature::check(temperature)?;
    matrix("anchors", anchors)?;
    matrix("candidates", candidates)?;
    let (Candidates::Aligned { batch } | Candidates::BothViews { batch }) = *who;
    debug_assert!(batch <= candidates.dim(0)?);
    let (a, c) = (widen(anchors)?, widen(candidates)?);
    if a.device().is_cpu() && a.dtype() == DType::F32 && c.dtype() == DType::F32 {
        let op = StripLoss {
            temperature,
            who: *who,
            differentiate: a.track_op() || c.track_op(),
            gradients: Mutex::new(None),
        };
        return Ok(a.contiguous()?.apply_op2(&c.contiguous()?, op)?);
    }
    composed(&a, &c, temperature, *who)
}

/// The loss in strips of candle products. The gradient by the unit rows is computed beside the value and attached to it.
fn composed(anchors: &Tensor, candidates: &Tensor, temperature: f64, who: Candidates) -> Result<Tensor, LossError> {
    let (a, c) = (normalize(anchors)?, normalize(candidates)?);
    let (fixed_a, fixed_c) = (a.detach(), c.detach());
    let (rows, columns) = (a.dim(0)?, c.dim(0)?);
    let mut value = 0.0;
    let mut grad_a = Vec::new();
    let mut grad_c = fixed_c.zeros_like()?;
    for from in (0..rows).step_by(STRIP) {
        let height = STRIP.min(rows - from);
        let strip = fixed_a.narrow(0, from, height)?.contiguous()?;
        let mut logits = (products(&strip, &fixed_c)? / temperature)?;
        if matches!(who, Candidates::BothViews { .. }) {
            let keep = mask(height, columns, &a, |i, j| who.itself(from + i) != Some(j))?;
            logits = masked(&logits, &keep)?;
        }
        let own = mask(height, columns, &a, |i, j| who.target(from + i) == j)?;
        let target: Vec<u32> = (0..height).map(|i| who.target(from + i) as u32).collect();
        let index = Tensor::from_slice(&target, (height, 1), a.device())?;
        let logits = logits.broadcast_sub(&logits.contiguous()?.gather(&index, 1)?)?;
        let largest = logits.max_keepdim(D::Minus1)?;
        let weights = logits.broadcast_sub(&largest)?.exp()?;
        let total = weights.sum_keepdim(D::Minus1)?;
        value += to_number(&(total.log()? + &largest)?.sum_all()?)?;
        let probability = weights.broadcast_div(&total)?;
        // p - 1 of the positive is minus the sum of the others: exact also where p is nearly 1.
        let others = own.where_cond(&probability.zeros_like()?, &probability)?;
        let own_slope = others.sum_keepdim(D::Minus1)?.neg()?.broadcast_as(others.shape())?;
        let slope = own.where_cond(&own_slope, &others)?;
        grad_a.push(slope.matmul(&fixed_c)?);
        grad_c = (grad_c + slope.t()?.matmul(&strip)?)?;
    }
    let scale = 1.0 / (temperature * rows as f64);
    let value = constant(vec![value / rows as f64], &[], &a)?;
    let grad_a = (Tensor::cat(&grad_a, 0)? * scale)?;
    let by_a = row_products(&(&a - &fixed_a)?, &grad_a)?.sum_all()?;
    let by_c = row_products(&(&c - &fixed_c)?, &(grad_c * scale)?)?.sum_all()?;
    Ok(((value + by_a)? + by_c)?)
}

/// The gradients by anchors and candidates.
type Gradients = (Vec<f32>, Vec<f32>);

/// The candle operation: the loss of f32 rows on the CPU, whose gradients are found on the way.
struct StripLoss {
    temperature: f64,
    who: Candidates,
    differentiate: bool,
    gradients: Mutex<Option<Gradients>>,
}

impl StripLoss {
    fn compute(&self, a: &[f32], c: &[f32], dim: usize, differentiate: bool) -> (f64, Option<Gradients>) {
        let job = Job {
            anchors: a,
            candidates: c,
            dim,
            temperature: self.temperature,
            who: self.who,
            frugal: c.len() >= MANY,
        };
        if differentiate {
            let (value, a, c) = job.run::<true>();
            (value, Some((a, c)))
        } else {
            (job.run::<false>().0, None)
        }
    }
}

/// The values of a contiguous f32 tensor.
fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<&'a [f32]> {
    let (from, to) = layout
        .contiguous_offsets()
        .ok_or_else(|| candle_core::Error::Msg("tiled loss: an operand isn't contiguous".to_owned()))?;
    Ok(&storage.as_slice::<f32>()?[from..to])
}

impl CustomOp2 for StripLoss {
    fn name(&self) -> &'static str {
        "tiled-softmax-loss"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (a, c) = (slice(s1, l1)?, slice(s2, l2)?);
        let (_, dim) = l1.shape().dims2()?;
        let (value, gradients) = self.compute(a, c, dim, self.differentiate);
        *self.gradients.lock().unwrap_or_else(PoisonError::into_inner) = gradients;
        Ok((CpuStorage::F32(vec![value as f32]), Shape::from(())))
    }

    fn bwd(
        &self,
        a: &Tensor,
        c: &Tensor,
        _loss: &Tensor,
        upstream: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let cached = self.gradients.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (mut by_a, mut by_c) = if let Some(gradients) = cached {
            gradients
        } else {
            // A second backward pass through the same graph.
            let (_, dim) = a.dims2()?;
            let values = |x: &Tensor| x.flatten_all()?.to_vec1::<f32>();
            let (_, gradients) = self.compute(&values(a)?, &values(c)?, dim, true);
            gradients.unwrap_or_default()
        };
        let upstream = upstream.to_scalar::<f32>()?;
        if upstream != 1.0 {
            by_a.iter_mut().chain(&mut by_c).for_each(|g| *g *= upstream);
        }
        Ok((Some(Tensor::from_vec(by_a, a.shape(), a.device())?), Some(Tensor::from_vec(by_c, c.shape(), c.device())?)))
    }
}

/// One evaluation of the loss.
struct Job<'a> {
    anchors: &'a [f32],
    candidates: &'a [f32],
    dim: usize,
    temperature: f64,
    who: Candidates,
    /// Keep one layout of the candidates only, and strips of half the height.
    frugal: bool,
}

/// Some blocks of candidates with what one thread needs for them.
struct Part {
    /// Its candidates.
    columns: Range<usize>,
    /// Each block's unit rows, packed for logits (candidates are outputs).
    forward: Vec<PackedMatrix>,
    /// Each block's unit rows, packed for the anchors' gradient (candidates are inputs); empty in a frugal job.
    backward: Vec<PackedMatrix>,
    /// The strip's logits, then exponentials, block after block, each block `(anchors, candidates)`.
    strip: Vec<f32>,
    /// A block, transposed.
    transposed: Vec<f32>,
    /// The part's share of the strip's gradient by unit anchors, times each anchor's sum.
    by_anchor: Vec<f32>,
    /// The gradient by the part's unit candidates.
    by_candidate: Vec<f32>,
    /// For each anchor of the strip: the sum of its exponentials but the positive's.
    sums: Vec<f64>,
    /// For each anchor of the strip: the largest logit but the positive's.
    largest: Vec<f32>,
    /// (anchor of the strip, candidate, logit) of the positives that lie in this part.
    positives: Vec<(usize, usize, f32)>,
}

/// `1 / max(|row|, 1e-12)` for each row; 0 for a row without direction.
fn inverse_lengths(rows: &[f32], dim: usize) -> Vec<f32> {
    rows.par_chunks_exact(dim)
        .map(|row| {
            let length = f64::from(kernels::dot(row, row)).sqrt();
            if length > 1e-12 { (1.0 / length) as f32 } else { 0.0 }
        })
        .collect()
}

/// `columns x rows` from `rows x columns`, in tiles of 8 x 8 values that are turned in registers.
fn transpose(from: &[f32], columns: usize, to: &mut [f32]) {
    const SIDE: usize = 8;
    let rows = from.len() / columns;
    let (whole_rows, whole_columns) = (rows - rows % SIDE, columns - columns % SIDE);
    for top in (0..whole_rows).step_by(SIDE) {
        for left in (0..whole_columns).step_by(SIDE) {
            let mut tile = [[0.0f32; SIDE]; SIDE];
            for r in 0..SIDE {
                let row = &from[(top + r) * columns + left..][..SIDE];
                for c in 0..SIDE {
                    tile[c][r] = row[c];
                }
            }
            for (c, column) in tile.iter().enumerate() {
                to[(left + c) * rows + top..][..SIDE].copy_from_slice(column);
            }
        }
    }
    for r in 0..rows {
        let rest = if r < whole_rows { whole_columns } else { 0 };
        for c in rest..columns {
            to[c * rows + r] = from[r * columns + c];
        }
    }
}

impl Job<'_> {
    /// The loss and its gradients by anchors and candidates (empty unless `GRADIENT`).
    fn run<const GRADIENT: bool>(&self) -> (f64, Vec<f32>, Vec<f32>) {
        let dim = self.dim;
        let (rows, columns) = (self.anchors.len() / dim, self.candidates.len() / dim);
        let (anchor_scale, candidate_scale) =
            (inverse_lengths(self.anchors, dim), inverse_lengths(self.candidates, dim));
        let mut parts = self.parts::<GRADIENT>(columns, &candidate_scale);
        // Unit rows have logits within 1/temperature, and unless that is large, one shift serves all of them.
        let bound = 1.0 / self.temperature;
        let fixed_shift = (2.0 * bound < 80.0).then_some(bound as f32);
        let mut by_anchor = vec![0.0f32; if GRADIENT { rows * dim } else { 0 }];
        let strip = self.strip();
        let (mut unit, mut scaled) = (vec![0.0f32; strip * dim], vec![0.0f32; strip * dim]);
        let pack = |columns: Range<usize>| self.packed_inputs(columns, &candidate_scale);
        let mut loss = 0.0;
        let step = 1.0 / (self.temperature * rows as f64);
        for from in (0..rows).step_by(strip) {
            let height = strip.min(rows - from);
            let unit = &mut unit[..height * dim];
            let scaled = &mut scaled[..height * dim];
            for r in 0..height {
                let scale = anchor_scale[from + r];
                let row = &self.anchors[(from + r) * dim..][..dim];
                for ((u, s), x) in unit[r * dim..][..dim].iter_mut().zip(&mut scaled[r * dim..][..dim]).zip(row) {
                    *u = x * scale;
                    *s = *u * bound as f32;
                }
            }
            parts.par_iter_mut().for_each(|part| {
                part.logits(scaled, height, fixed_shift.is_none(), |r| {
                    (self.who.target(from + r), self.who.itself(from + r))
                });
                if let Some(shift) = fixed_shift {
                    part.exponentials::<GRADIENT>(height, &|_| shift, &pack);
                }
            });
            let mut logit = vec![0.0f32; height];
            let mut target = vec![0usize; height];
            let mut shift = vec![fixed_shift.unwrap_or(f32::NEG_INFINITY); height];
            for part in &parts {
                for &(r, candidate, value) in &part.positives {
                    (logit[r], target[r]) = (value, candidate);
                }
                if fixed_shift.is_none() {
                    for (shift, largest) in shift.iter_mut().zip(&part.largest) {
                        *shift = shift.max(*largest);
                    }
                }
            }
            if fixed_shift.is_none() {
                for (shift, logit) in shift.iter_mut().zip(&logit) {
                    *shift = shift.max(*logit);
                }
                parts.par_iter_mut().for_each(|part| part.exponentials::<GRADIENT>(height, &|r| shift[r], &pack));
            }
            // Relative to the positive: others = sum over the other candidates of exp(logit - positive's logit).
            let mut weights = vec![0.0f64; height];
            let mut own = vec![0.0f64; height];
            for r in 0..height {
                let others: f64 = parts.iter().map(|part| part.sums[r]).sum();
                let gap = f64::from(shift[r]) - f64::from(logit[r]);
                loss += if gap > 600.0 { others.ln() + gap } else { (others * gap.exp()).ln_1p() };
                let total = others + (-gap).exp();
                weights[r] = step / total;
                own[r] = step * others / total;
            }
            if !GRADIENT {
                continue;
            }
            // scaled becomes the unit anchors times their weight: the strip's operand of the candidates' gradient.
            for r in 0..height {
                let weight = weights[r] as f32;
                for (s, u) in scaled[r * dim..][..dim].iter_mut().zip(&unit[r * dim..][..dim]) {
                    *s = u * weight;
                }
            }
            let operand = PackedMatrix::from_transposed(scaled, height, dim);
            let (unit, own) = (&*unit, &own);
            parts.par_iter_mut().for_each(|part| {
                part.pull(&operand, height, dim);
                for &(r, candidate, _) in &part.positives {
                    let slope = own[r] as f32;
                    let at = (candidate - part.columns.start) * dim;
                    for (g, u) in part.by_candidate[at..][..dim].iter_mut().zip(&unit[r * dim..][..dim]) {
                        *g -= slope * u;
                    }
                }
            });
            by_anchor[from * dim..(from + height) * dim].par_chunks_exact_mut(dim).enumerate().for_each(|(r, row)| {
                for part in &parts {
                    for (g, x) in row.iter_mut().zip(&part.by_anchor[r * dim..][..dim]) {
                        *g += x;
                    }
                }
                let (weight, slope) = (weights[r] as f32, own[r] as f32);
                let positive = &self.candidates[target[r] * dim..][..dim];
                let slope = slope * candidate_scale[target[r]];
                for (g, p) in row.iter_mut().zip(positive) {
                    *g = *g * weight - slope * p;
                }
            });
        }
        let mut by_candidate = Vec::new();
        if GRADIENT {
            by_candidate.reserve_exact(columns * dim);
            for part in parts {
                by_candidate.extend_from_slice(&part.by_candidate);
            }
            project(&mut by_anchor, self.anchors, &anchor_scale, dim);
            project(&mut by_candidate, self.candidates, &candidate_scale, dim);
        }
        (loss / rows as f64, by_anchor, by_candidate)
    }

    /// Anchors of a strip.
    fn strip(&self) -> usize {
        if self.frugal { STRIP / 2 } else { STRIP }
    }

    /// The unit rows of some candidates.
    fn unit(&self, columns: Range<usize>, scale: &[f32]) -> Vec<f32> {
        let rows = &self.candidates[columns.start * self.dim..columns.end * self.dim];
        let scaled = rows.chunks_exact(self.dim).zip(&scale[columns]);
        scaled.flat_map(|(row, scale)| row.iter().map(move |x| x * scale)).collect()
    }

    /// The unit rows of a block, packed for the anchors' gradient.
    fn packed_inputs(&self, columns: Range<usize>, scale: &[f32]) -> PackedMatrix {
        let count = columns.len();
        PackedMatrix::from_transposed(&self.unit(columns, scale), count, self.dim)
    }

    /// The candidates cut into parts, with their packed unit rows.
    fn parts<const GRADIENT: bool>(&self, columns: usize, scale: &[f32]) -> Vec<Part> {
        let dim = self.dim;
        let height = self.strip().min(self.anchors.len() / dim);
        let width = columns.div_ceil(BLOCK).div_ceil(TASKS) * BLOCK;
        (0..columns.div_ceil(width))
            .into_par_iter()
            .map(|part| {
                let columns = part * width..columns.min((part + 1) * width);
                let count = columns.len();
                let (mut forward, mut backward) = (Vec::new(), Vec::new());
                for from in columns.clone().step_by(BLOCK) {
                    let block = from..columns.end.min(from + BLOCK);
                    let unit = self.unit(block.clone(), scale);
                    if GRADIENT && !self.frugal {
                        backward.push(PackedMatrix::from_transposed(&unit, block.len(), dim));
                    }
                    let mut matrix = Matrix::zeros(block.len(), dim);
                    matrix.as_mut_slice().copy_from_slice(&unit);
                    forward.push(PackedMatrix::new(&matrix));
                }
                let if_gradient = |n: usize| vec![0.0f32; if GRADIENT { n } else { 0 }];
                Part {
                    forward,
                    backward,
                    strip: vec![0.0; height * count],
                    transposed: if_gradient(height * BLOCK.min(count)),
                    by_anchor: if_gradient(height * dim),
                    by_candidate: if_gradient(count * dim),
                    sums: vec![0.0; height],
                    largest: vec![0.0; height],
                    positives: Vec::new(),
                    columns,
                }
            })
            .collect()
    }
}

impl Part {
    /// The strip's logits with the part's candidates. The positives' are noted and, like those of the anchors with themselves, put
    /// out of the way.
    fn logits(
        &mut self,
        scaled: &[f32],
        height: usize,
        find_largest: bool,
        who: impl Fn(usize) -> (usize, Option<usize>),
    ) {
        self.largest[..height].fill(f32::NEG_INFINITY);
        self.positives.clear();
        let mut rest = self.strip.as_mut_slice();
        let mut start = self.columns.start;
        for packed in &self.forward {
            let width = packed.outputs();
            let (block, after) = rest.split_at_mut(height * width);
            packed.product(scaled, block, Epilogue::None);
            for (r, row) in block.chunks_exact_mut(width).enumerate() {
                let (target, itself) = who(r);
                if let Some(slot) = target.checked_sub(start).and_then(|at| row.get_mut(at)) {
                    self.positives.push((r, target, *slot));
                    *slot = f32::NEG_INFINITY;
                }
                if let Some(slot) = itself.and_then(|i| i.checked_sub(start)).and_then(|at| row.get_mut(at)) {
                    *slot = f32::NEG_INFINITY;
                }
                if find_largest {
                    self.largest[r] = extreme(row, f32::max, self.largest[r]);
                }
            }
            start += width;
            rest = after;
        }
    }

    /// Exponentials in place of logits, their sums, and the part's share of the anchors' gradient.
    fn exponentials<const GRADIENT: bool>(
        &mut self,
        height: usize,
        shift: &dyn Fn(usize) -> f32,
        pack: &dyn Fn(Range<usize>) -> PackedMatrix,
    ) {
        self.sums[..height].fill(0.0);
        if GRADIENT {
            self.by_anchor.fill(0.0);
        }
        let mut from = 0;
        let mut start = self.columns.start;
        for (at, packed) in self.forward.iter().enumerate() {
            let width = packed.outputs();
            let block = &mut self.strip[from..from + height * width];
            from += block.len();
            for (r, (row, sum)) in block.chunks_exact_mut(width).zip(&mut self.sums).enumerate() {
                *sum += f64::from(exp_shifted(row, shift(r)));
            }
            if GRADIENT {
                let anew;
                let backward = if let Some(kept) = self.backward.get(at) {
                    kept
                } else {
                    anew = pack(start..start + width);
                    &anew
                };
                backward.product(block, &mut self.by_anchor[..height * backward.outputs()], Epilogue::Residual);
            }
            start += width;
        }
    }

    /// Adds the strip's pull on each candidate.
    fn pull(&mut self, operand: &PackedMatrix, height: usize, dim: usize) {
        let (mut from, mut to) = (0, 0);
        for packed in &self.forward {
            let width = packed.outputs();
            let block = &self.strip[from..from + height * width];
            from += block.len();
            let transposed = &mut self.transposed[..height * width];
            transpose(block, width, transposed);
            let out = &mut self.by_candidate[to..to + width * dim];
            to += out.len();
            operand.product(transposed, out, Epilogue::Residual);
        }
    }
}

/// From the gradient by unit rows to that by the rows themselves: the part along the row vanishes, the rest is divided by its length.
fn project(gradient: &mut [f32], rows: &[f32], scale: &[f32], dim: usize) {
    gradient.par_chunks_exact_mut(dim).zip(rows.par_chunks_exact(dim)).zip(scale).for_each(|((g, row), &scale)| {
        let along = kernels::dot(g, row) * scale * scale;
        for (g, x) in g.iter_mut().zip(row) {
            *g = (*g - along * x) * scale;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use eas_tensor::rng::SplitMix64;

    /// Loss and gradients with one layout of the candidates and with two, over several parts, blocks and strips; temperatures with one shift
    /// for all rows, and with one a row.
    #[test]
    fn a_frugal_job_gives_the_same() {
        let (pairs, dim) = (700, 12);
        let mut rng = SplitMix64::new(5);
        let rows: Vec<f32> = (0..2 * pairs * dim).map(|_| rng.normal() as f32).collect();
        for temperature in [0.1, 0.01] {
            for who in [Candidates::BothViews { batch: pairs }, Candidates::Aligned { batch: 2 * pairs }] {
                let job = |frugal| Job { anchors: &rows, candidates: &rows, dim, temperature, who, frugal };
                let (loss, a, c) = job(false).run::<true>();
                let (same, by_a, by_c) = job(true).run::<true>();
                assert!((loss - same).abs() < 1e-9 * loss.max(1.0), "{loss} {same}");
                let largest = a.iter().chain(&c).fold(0.0f32, |m, x| m.max(x.abs()));
                for (x, y) in a.iter().chain(&c).zip(by_a.iter().chain(&by_c)) {
                    assert!((x - y).abs() <= 1e-5 * largest, "{x} {y}");
                }
            }
        }
    }
}
