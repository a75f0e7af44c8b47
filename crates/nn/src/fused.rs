//! Operations that candle would run in many steps, as one step each: linear layers, layer normalisation, unit rows, a transformer's layer,
//! the update of Adam.
//!
//! A composition of candle operations writes a tensor for each of them, and the backward pass two more. For what training spends
//! its time on, that is more work than the arithmetic. The operations here serve contiguous f32 tensors on a CPU, have backward passes of their
//! own, and cut their rows into parts of a fixed size, so that results don't depend on the number of threads. Callers fall back to
//! the composition elsewhere: see [`serves`].

use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, DType, InplaceOp1, InplaceOp2, Layout, Shape, Tensor};
use eas_tensor::Matrix;
use eas_tensor::gemm::{Epilogue, PackedMatrix};
use eas_tensor::training::{
    RowStatistics, SelfAttention, SelfAttentionScratch, add_column_sums, gelu_backward, gelu_into, layer_norm,
    layer_norm_backward,
};
use rayon::prelude::*;

use crate::NnError;

/// Rows of a part: its operands stay in the second-level cache, and tiles of six rows divide it.
const PART: usize = 96;
/// Weights that one task of an optimizer's step updates.
const UPDATE: usize = 1 << 15;

type Result<T> = candle_core::Result<T>;

/// Whether the operations of this module take all of these tensors.
pub(crate) fn serves(tensors: &[&Tensor]) -> bool {
    tensors.iter().all(|t| t.device().is_cpu() && t.dtype() == DType::F32 && t.elem_count() > 0)
}

/// `x W^T + b`: `x` of shape `(rows, inputs)`, `weight` of `(outputs, inputs)`, `bias` of `(outputs,)`.
pub(crate) fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, Linear)
}

/// Layer normalisation over the last axis.
pub(crate) fn normalized(x: &Tensor, gain: &Tensor, bias: &Tensor, epsilon: f64) -> Result<Tensor> {
    let op = LayerNorm { epsilon: epsilon as f32, statistics: Mutex::new(Vec::new()) };
    x.contiguous()?.apply_op3(&gain.contiguous()?, &bias.contiguous()?, op)
}

/// Each vector of the last axis divided by `sqrt(its squares + 1e-12)`.
pub(crate) fn unit_rows(x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op1(UnitRows { inverses: Mutex::new(Vec::new()) })
}

/// The values of a contiguous f32 tensor.
fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let (from, to) =
        layout.contiguous_offsets().ok_or_else(|| candle_core::Error::msg("fused operation: not contiguous"))?;
    Ok(&storage.as_slice::<f32>()?[from..to])
}

/// Runs `f` on the values of a tensor that [`serves`] accepts, without a copy where it is contiguous.
fn with_values<T>(x: &Tensor, f: impl FnOnce(&[f32]) -> Result<T>) -> Result<T> {
    let x = x.contiguous()?;
    let (storage, layout) = x.storage_and_layout();
    match &*storage {
        candle_core::Storage::Cpu(storage) => f(slice(storage, layout)?),
        _ => candle_core::bail!("fused operation: not on a CPU"),
    }
}

fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::from_vec(values, shape.into(), &candle_core::Device::Cpu)
}

/// Weights of shape `(outputs, inputs)` for `a W^T`.
fn forwards(weight: &[f32], outputs: usize, inputs: usize) -> PackedMatrix {
    // The length was checked by candle's shapes; an empty matrix multiplies nothing.
    let weight = Matrix::from_vec(outputs, inputs, weight.to_vec()).unwrap_or_else(|_| Matrix::zeros(0, inputs));
    PackedMatrix::new(&weight)
}

/// The same weights for `a W`.
fn backwards(weight: &[f32], outputs: usize, inputs: usize) -> PackedMatrix {
    PackedMatrix::from_transposed(weight, outputs, inputs)
}

/// Sums of the columns of `rows`, part by part.
fn column_sums(rows: &[f32], width: usize) -> Vec<f32> {
    let parts: Vec<Vec<f32>> = rows
        .par_chunks(PART * width)
        .map(|rows| {
            let mut sums = vec![0.0; width];
            add_column_sums(rows, &mut sums);
            sums
        })
        .collect();
    total(&parts, width)
}

/// The sum of vectors, in order.
fn total(parts: &[Vec<f32>], width: usize) -> Vec<f32> {
    let mut sums = vec![0.0; width];
    for part in parts {
        add_column_sums(part, &mut sums);
    }
    sums
}

struct Linear;

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, _) = x_layout.shape().dims2()?;
        let (outputs, inputs) = weight_layout.shape().dims2()?;
        let (x, bias) = (slice(x, x_layout)?, slice(bias, bias_layout)?);
        if x.len() != rows * inputs || bias.len() != outputs {
            candle_core::bail!("linear: {:?} by {:?} and {} biases", x_layout.dims(), weight_layout.dims(), bias.len());
        }
        let weight = forwards(slice(weight, weight_layout)?, outputs, inputs);
        let mut out = vec![0.0; rows * outputs];
        out.par_chunks_mut(PART * outputs)
            .zip(x.par_chunks(PART * inputs))
            .for_each(|(out, x)| weight.product(x, out, Epilogue::Bias(bias)));
        Ok((CpuStorage::F32(out), (rows, outputs).into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _out: &Tensor,
        upstream: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let upstream = upstream.contiguous()?;
        let by_x = if x.track_op() { Some(upstream.matmul(&weight.detach())?) } else { None };
        let by_weight = if weight.track_op() { Some(upstream.t()?.matmul(&x.detach())?) } else { None };
        let by_bias = if bias.track_op() {
            let width = bias.elem_count();
            Some(tensor(with_values(&upstream, |rows| Ok(column_sums(rows, width)))?, width)?)
        } else {
            None
        };
        Ok((by_x, by_weight, by_bias))
    }
}

struct LayerNorm {
    epsilon: f32,
    statistics: Mutex<Vec<RowStatistics>>,
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer-normalisation"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        gain: &CpuStorage,
        gain_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, gain, bias) = (slice(x, x_layout)?, slice(gain, gain_layout)?, slice(bias, bias_layout)?);
        let width = gain.len();
        if bias.len() != width || x_layout.dims().last() != Some(&width) {
            candle_core::bail!("layer normalisation: {:?} by {width} gains, {} biases", x_layout.dims(), bias.len());
        }
        let mut out = vec![0.0; x.len()];
        let mut statistics = vec![[0.0; 2]; x.len() / width];
        out.par_chunks_mut(PART * width)
            .zip(x.par_chunks(PART * width))
            .zip(statistics.par_chunks_mut(PART))
            .for_each(|((out, x), statistics)| layer_norm(x, gain, bias, self.epsilon, out, statistics));
        *self.statistics.lock().unwrap_or_else(PoisonError::into_inner) = statistics;
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        gain: &Tensor,
        _bias: &Tensor,
        _out: &Tensor,
        upstream: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let width = gain.elem_count();
        let mut by_x = vec![0.0; x.elem_count()];
        let statistics = self.statistics.lock().unwrap_or_else(PoisonError::into_inner);
        let sums: Vec<Vec<f32>> = with_values(x, |x| {
            with_values(gain, |gain| {
                with_values(upstream, |upstream| {
                    Ok(by_x
                        .par_chunks_mut(PART * width)
                        .zip(x.par_chunks(PART * width))
                        .zip(upstream.par_chunks(PART * width))
                        .zip(statistics.par_chunks(PART))
                        .map(|(((by_x, x), upstream), statistics)| {
                            let mut sums = vec![0.0; 2 * width];
                            let (by_gain, by_bias) = sums.split_at_mut(width);
                            layer_norm_backward(x, statistics, gain, upstream, by_x, by_gain, by_bias);
                            sums
                        })
                        .collect())
                })
            })
        })?;
        let mut by_gain = total(&sums, 2 * width);
        let by_bias = by_gain.split_off(width);
        Ok((Some(tensor(by_x, x.shape())?), Some(tensor(by_gain, width)?), Some(tensor(by_bias, width)?)))
    }
}

struct UnitRows {
    /// One over each row's length.
    inverses: Mutex<Vec<f32>>,
}

impl CustomOp1 for UnitRows {
    fn name(&self) -> &'static str {
        "unit-rows"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = slice(x, layout)?;
        let width = layout.dims().last().copied().unwrap_or(1);
        let mut out = x.to_vec();
        let mut inverses = vec![0.0; x.len() / width];
        out.par_chunks_mut(PART * width).zip(inverses.par_chunks_mut(PART)).for_each(|(rows, inverses)| {
            for (row, inverse) in rows.chunks_exact_mut(width).zip(inverses) {
                *inverse = 1.0 / (eas_tensor::kernels::dot(row, row) + 1e-12).sqrt();
                for x in row {
                    *x *= *inverse;
                }
            }
        });
        *self.inverses.lock().unwrap_or_else(PoisonError::into_inner) = inverses;
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, out: &Tensor, upstream: &Tensor) -> Result<Option<Tensor>> {
        let width = x.dims().last().copied().unwrap_or(1);
        let inverses = self.inverses.lock().unwrap_or_else(PoisonError::into_inner);
        let mut by_x = with_values(upstream, |upstream| Ok(upstream.to_vec()))?;
        with_values(out, |out| {
            by_x.par_chunks_mut(PART * width)
                .zip(out.par_chunks(PART * width))
                .zip(inverses.par_chunks(PART))
                .for_each(|((rows, out), inverses)| {
                    let rows = rows.chunks_exact_mut(width).zip(out.chunks_exact(width));
                    for ((row, unit), inverse) in rows.zip(inverses) {
                        let along = eas_tensor::kernels::dot(row, unit);
                        row.iter_mut().zip(unit).for_each(|(g, u)| *g = (*g - along * u) * inverse);
                    }
                });
            Ok(())
        })?;
        Ok(Some(tensor(by_x, x.shape())?))
    }
}

/// A pre-norm transformer layer: attention, then a feed-forward network with GELU, each added to what came in.
pub(crate) struct EncoderLayer {
    /// Sequences and the shape of their attention.
    pub(crate) batch: usize,
    pub(crate) attention: SelfAttention,
    /// Width of the feed-forward network.
    pub(crate) inner: usize,
    pub(crate) epsilon: f64,
    /// Added to each token's scores, shape `(batch, length)`; empty for nothing.
    pub(crate) hidden: Vec<f32>,
    /// What attention weights, the attention's output and the network's output are multiplied with; empty for nothing.
    pub(crate) drops: [Vec<f32>; 3],
}

/// The tensors of a layer, in the order in which [`EncoderLayer::apply`] takes them.
struct Weights<'a> {
    attention_norm: [&'a [f32]; 2],
    qkv: &'a [f32],
    qkv_bias: &'a [f32],
    output: &'a [f32],
    output_bias: &'a [f32],
    feed_norm: [&'a [f32]; 2],
    inner: &'a [f32],
    inner_bias: &'a [f32],
    outer: &'a [f32],
    outer_bias: &'a [f32],
}

/// What the backward pass needs of the forward pass; a row a token.
#[derive(Default)]
struct Saved {
    first: Vec<f32>,
    first_statistics: Vec<RowStatistics>,
    qkv: Vec<f32>,
    weights: Vec<f32>,
    context: Vec<f32>,
    middle: Vec<f32>,
    second: Vec<f32>,
    second_statistics: Vec<RowStatistics>,
    inner: Vec<f32>,
    activated: Vec<f32>,
}

/// The rows of a part, what the backward pass finds for them, and the gradients behind the two dropouts.
type Gradients<'a> = (std::ops::Range<usize>, [&'a mut [f32]; 4], [&'a mut [f32]; 2]);

struct LayerOp {
    layer: EncoderLayer,
    saved: Mutex<Option<Saved>>,
}

/// Takes consecutive pieces from a buffer; from an empty one, empty pieces.
struct Pieces<'a, T>(&'a mut [T]);

impl<'a, T> Pieces<'a, T> {
    fn next(&mut self, length: usize) -> &'a mut [T] {
        let whole = std::mem::take(&mut self.0);
        let (piece, rest) = whole.split_at_mut(length.min(whole.len()));
        self.0 = rest;
        piece
    }
}

/// `values[from..to]`, or nothing of nothing.
fn piece(values: &[f32], from: usize, length: usize) -> &[f32] {
    if values.is_empty() { values } else { &values[from..from + length] }
}

impl EncoderLayer {
    /// `x` of shape `(batch, length, width)`; `parts`, the layer's tensors: gain and bias of the first normalisation, the weights
    /// of queries, keys and values, their biases, weight and bias of the output, of the second normalisation, of the inner and the outer
    /// linear layer.
    pub(crate) fn apply(self, x: &Tensor, parts: &[&Tensor; 16]) -> std::result::Result<Tensor, NnError> {
        let flat = parts.iter().map(|part| part.flatten_all()).collect::<Result<Vec<_>>>()?;
        let op = LayerOp { layer: self, saved: Mutex::new(None) };
        Ok(x.contiguous()?.apply_op2(&Tensor::cat(&flat, 0)?, op)?)
    }

    fn width(&self) -> usize {
        self.attention.heads * self.attention.head_dim
    }

    fn split<'a>(&self, all: &'a [f32]) -> Result<Weights<'a>> {
        let (w, f) = (self.width(), self.inner);
        if all.len() != 4 * w * w + 2 * w * f + 9 * w + f {
            candle_core::bail!(
                "a layer of width {w} has {} weights, not {}",
                4 * w * w + 2 * w * f + 9 * w + f,
                all.len()
            );
        }
        let mut rest = all;
        let mut next = |length: usize| {
            let (part, behind) = rest.split_at(length);
            rest = behind;
            part
        };
        Ok(Weights {
            attention_norm: [next(w), next(w)],
            qkv: next(3 * w * w),
            qkv_bias: next(3 * w),
            output: next(w * w),
            output_bias: next(w),
            feed_norm: [next(w), next(w)],
            inner: next(f * w),
            inner_bias: next(f),
            outer: next(w * f),
            outer_bias: next(w),
        })
    }

    /// Rows of a part: whole sequences.
    fn part(&self) -> usize {
        let tokens = self.attention.tokens;
        tokens * PART.div_ceil(tokens)
    }

    fn forward(&self, x: &[f32], all: &[f32]) -> Result<(Vec<f32>, Saved)> {
        let (w, f, rows) = (self.width(), self.inner, self.batch * self.attention.tokens);
        let weights = self.split(all)?;
        if x.len() != rows * w {
            candle_core::bail!("a layer of {rows} tokens of width {w} got {} values", x.len());
        }
        let packed: Vec<PackedMatrix> =
            [(weights.qkv, 3 * w, w), (weights.output, w, w), (weights.inner, f, w), (weights.outer, w, f)]
                .into_par_iter()
                .map(|(weight, outputs, inputs)| forwards(weight, outputs, inputs))
                .collect();
        let mut saved = Saved {
            first: vec![0.0; rows * w],
            first_statistics: vec![[0.0; 2]; rows],
            qkv: vec![0.0; 3 * rows * w],
            weights: vec![0.0; self.batch * self.attention.weights()],
            context: vec![0.0; rows * w],
            middle: vec![0.0; rows * w],
            second: vec![0.0; rows * w],
            second_statistics: vec![[0.0; 2]; rows],
            inner: vec![0.0; rows * f],
            activated: vec![0.0; rows * f],
        };
        let mut out = vec![0.0; rows * w];
        let mut parts = Vec::new();
        {
            let (mut first, mut first_statistics) = (Pieces(&mut saved.first), Pieces(&mut saved.first_statistics));
            let (mut qkv, mut attention) = (Pieces(&mut saved.qkv), Pieces(&mut saved.weights));
            let (mut context, mut middle) = (Pieces(&mut saved.context), Pieces(&mut saved.middle));
            let (mut second, mut second_statistics) = (Pieces(&mut saved.second), Pieces(&mut saved.second_statistics));
            let (mut inner, mut activated) = (Pieces(&mut saved.inner), Pieces(&mut saved.activated));
            let mut out = Pieces(&mut out);
            for from in (0..rows).step_by(self.part()) {
                let n = self.part().min(rows - from);
                parts.push((
                    from,
                    (first.next(n * w), first_statistics.next(n), qkv.next(3 * n * w)),
                    (attention.next(n / self.attention.tokens * self.attention.weights()), context.next(n * w)),
                    (middle.next(n * w), second.next(n * w), second_statistics.next(n)),
                    (inner.next(n * f), activated.next(n * f), out.next(n * w)),
                ));
            }
        }
        let epsilon = self.epsilon as f32;
        parts.into_par_iter().for_each_init(
            SelfAttentionScratch::default,
            |scratch, (from, (first, statistics, qkv), (attention, context), (middle, second, statistics2), last)| {
                let (inner, activated, out) = last;
                let x = &x[from * w..][..first.len()];
                let [gain, bias] = weights.attention_norm;
                layer_norm(x, gain, bias, epsilon, first, statistics);
                packed[0].product(first, qkv, Epilogue::Bias(weights.qkv_bias));
                self.attend(from, qkv, attention, context, scratch);
                self.add(1, from, context, &packed[1], weights.output_bias, x, middle);
                let [gain, bias] = weights.feed_norm;
                layer_norm(middle, gain, bias, epsilon, second, statistics2);
                packed[2].product(second, inner, Epilogue::Bias(weights.inner_bias));
                gelu_into(inner, activated);
                self.add(2, from, activated, &packed[3], weights.outer_bias, middle, out);
            },
        );
        Ok((out, saved))
    }

    /// Attention of the sequences of a part that starts at row `from`.
    fn attend(
        &self,
        from: usize,
        qkv: &[f32],
        weights: &mut [f32],
        context: &mut [f32],
        scratch: &mut SelfAttentionScratch,
    ) {
        let (tokens, w, squares) = (self.attention.tokens, self.width(), self.attention.weights());
        let sequences = qkv.chunks_exact(3 * tokens * w).zip(weights.chunks_exact_mut(squares));
        for (nth, ((qkv, weights), out)) in sequences.zip(context.chunks_exact_mut(tokens * w)).enumerate() {
            let sequence = from / tokens + nth;
            let hidden = piece(&self.hidden, sequence * tokens, tokens);
            let drop = piece(&self.drops[0], sequence * squares, squares);
            self.attention.forward(qkv, hidden, drop, weights, out, scratch);
        }
    }

    /// `out = residual + drop (a W^T + bias)`.
    #[expect(clippy::too_many_arguments, reason = "the operands of a residual connection")]
    fn add(
        &self,
        drop: usize,
        from: usize,
        a: &[f32],
        weight: &PackedMatrix,
        bias: &[f32],
        residual: &[f32],
        out: &mut [f32],
    ) {
        let drop = piece(&self.drops[drop], from * self.width(), out.len());
        if drop.is_empty() {
            out.copy_from_slice(residual);
            weight.product(a, out, Epilogue::BiasResidual(bias));
        } else {
            weight.product(a, out, Epilogue::Bias(bias));
            for ((out, x), drop) in out.iter_mut().zip(residual).zip(drop) {
                *out = *x + *out * drop;
            }
        }
    }

    /// The gradients by `x` and by the weights.
    fn backward(&self, x: &[f32], all: &[f32], saved: Saved, upstream: &[f32]) -> Result<(Vec<f32>, Vec<f32>)> {
        let (w, f, rows) = (self.width(), self.inner, self.batch * self.attention.tokens);
        let weights = self.split(all)?;
        let packed: Vec<PackedMatrix> =
            [(weights.qkv, 3 * w, w), (weights.output, w, w), (weights.inner, f, w), (weights.outer, w, f)]
                .into_par_iter()
                .map(|(weight, outputs, inputs)| backwards(weight, outputs, inputs))
                .collect();
        let mut by_x = vec![0.0; rows * w];
        let (mut by_inner, mut by_middle, mut by_qkv) =
            (vec![0.0; rows * f], vec![0.0; rows * w], vec![0.0; 3 * rows * w]);
        // Behind a dropout the gradient differs from that of the residual.
        let mut behind = [1, 2].map(|drop| vec![0.0; self.drops[drop].len()]);
        let sums: Vec<Vec<f32>> = {
            let mut parts = Vec::new();
            let [mut attended, mut fed] = behind.each_mut().map(|behind| Pieces(behind));
            let (mut by_inner, mut by_middle) = (Pieces(&mut by_inner), Pieces(&mut by_middle));
            let (mut by_qkv, mut by_x) = (Pieces(&mut by_qkv), Pieces(&mut by_x));
            for from in (0..rows).step_by(self.part()) {
                let n = self.part().min(rows - from);
                parts.push((
                    from..from + n,
                    [by_inner.next(n * f), by_middle.next(n * w), by_qkv.next(3 * n * w), by_x.next(n * w)],
                    [attended.next(n * w), fed.next(n * w)],
                ));
            }
            let run = |scratch: &mut SelfAttentionScratch, part: Gradients<'_>| {
                let (rows, [by_inner, by_middle, by_qkv, by_x], [attended, fed]) = part;
                let span = rows.start * w..rows.end * w;
                let upstream = &upstream[span.clone()];
                let mut sums = vec![0.0; 9 * w + f];
                let mut left = Pieces(&mut sums);
                let (first_norm, qkv_bias, output_bias) = (left.next(2 * w), left.next(3 * w), left.next(w));
                let (second_norm, inner_bias, outer_bias) = (left.next(2 * w), left.next(f), left.next(w));
                let mut scratch_rows = vec![0.0; upstream.len()];

                let above = drop_of(upstream, piece(&self.drops[2], span.start, span.len()), fed);
                add_column_sums(above, outer_bias);
                packed[3].product(above, by_inner, Epilogue::None);
                gelu_backward(&saved.inner[rows.start * f..rows.end * f], by_inner);
                add_column_sums(by_inner, inner_bias);
                packed[2].product(by_inner, &mut scratch_rows, Epilogue::None);
                by_middle.copy_from_slice(upstream);
                let (by_gain, by_bias) = second_norm.split_at_mut(w);
                let statistics = &saved.second_statistics[rows.clone()];
                let middle = &saved.middle[span.clone()];
                let gain = weights.feed_norm[0];
                layer_norm_backward(middle, statistics, gain, &scratch_rows, by_middle, by_gain, by_bias);

                let above = drop_of(by_middle, piece(&self.drops[1], span.start, span.len()), attended);
                add_column_sums(above, output_bias);
                packed[1].product(above, &mut scratch_rows, Epilogue::None);
                self.attend_backward(rows.start, &saved, &scratch_rows, by_qkv, scratch);
                add_column_sums(by_qkv, qkv_bias);
                packed[0].product(by_qkv, &mut scratch_rows, Epilogue::None);
                by_x.copy_from_slice(by_middle);
                let (by_gain, by_bias) = first_norm.split_at_mut(w);
                let statistics = &saved.first_statistics[rows];
                let gain = weights.attention_norm[0];
                layer_norm_backward(&x[span], statistics, gain, &scratch_rows, by_x, by_gain, by_bias);
                sums
            };
            parts.into_par_iter().map_init(SelfAttentionScratch::default, run).collect()
        };
        let sums = total(&sums, 9 * w + f);
        let Saved { first, context, second, activated, .. } = saved;
        let [attended, fed] = behind;
        let attended = if attended.is_empty() { by_middle } else { attended };
        let fed = if fed.is_empty() { upstream.to_vec() } else { fed };
        let by_outer = product_of_columns(fed, w, activated, f)?;
        let by_inner = product_of_columns(by_inner, f, second, w)?;
        let by_output = product_of_columns(attended, w, context, w)?;
        let by_qkv = product_of_columns(by_qkv, 3 * w, first, w)?;
        let mut by_all = Vec::with_capacity(all.len());
        let mut from = 0;
        for (weight, length) in
            [(&[][..], 2 * w), (&by_qkv, 3 * w), (&by_output, w), (&[], 2 * w), (&by_inner, f), (&by_outer, w)]
        {
            by_all.extend_from_slice(weight);
            by_all.extend_from_slice(&sums[from..from + length]);
            from += length;
        }
        Ok((by_x, by_all))
    }

    fn attend_backward(
        &self,
        from: usize,
        saved: &Saved,
        upstream: &[f32],
        by_qkv: &mut [f32],
        scratch: &mut SelfAttentionScratch,
    ) {
        let (tokens, w, squares) = (self.attention.tokens, self.width(), self.attention.weights());
        let sequences = by_qkv.chunks_exact_mut(3 * tokens * w).zip(upstream.chunks_exact(tokens * w));
        for (sequence, (by_qkv, upstream)) in (from / tokens..).zip(sequences) {
            let qkv = &saved.qkv[sequence * 3 * tokens * w..][..3 * tokens * w];
            let weights = &saved.weights[sequence * squares..][..squares];
            let drop = piece(&self.drops[0], sequence * squares, squares);
            self.attention.backward(qkv, drop, weights, upstream, by_qkv, scratch);
        }
    }
}

/// `gradient`, or what a dropout lets through of it, in `to`.
fn drop_of<'a>(gradient: &'a [f32], drop: &[f32], to: &'a mut [f32]) -> &'a [f32] {
    if drop.is_empty() {
        return gradient;
    }
    for ((to, g), d) in to.iter_mut().zip(gradient).zip(drop) {
        *to = g * d;
    }
    to
}

/// `a^T b` of `a`, shape `(rows, columns)`, and `b`, shape `(rows, width)`.
fn product_of_columns(a: Vec<f32>, columns: usize, b: Vec<f32>, width: usize) -> Result<Vec<f32>> {
    let rows = b.len() / width;
    tensor(a, (rows, columns))?.t()?.matmul(&tensor(b, (rows, width))?)?.flatten_all()?.to_vec1()
}

impl CustomOp2 for LayerOp {
    fn name(&self) -> &'static str {
        "encoder-layer"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weights: &CpuStorage,
        weights_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (out, saved) = self.layer.forward(slice(x, x_layout)?, slice(weights, weights_layout)?)?;
        *self.saved.lock().unwrap_or_else(PoisonError::into_inner) = Some(saved);
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weights: &Tensor,
        _out: &Tensor,
        upstream: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (by_x, by_weights) = with_values(x, |values| {
            with_values(weights, |weights| {
                // A second backward pass through the same graph computes the forward pass again.
                let saved = match saved {
                    Some(saved) => saved,
                    None => self.layer.forward(values, weights)?.1,
                };
                with_values(upstream, |upstream| self.layer.backward(values, weights, saved, upstream))
            })
        })?;
        Ok((Some(tensor(by_x, x.shape())?), Some(tensor(by_weights, weights.shape())?)))
    }
}

/// Adam's constants for one step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdamStep {
    pub(crate) betas: [f64; 2],
    /// What the running means are multiplied by, because they started from zero.
    pub(crate) corrections: [f64; 2],
    pub(crate) epsilon: f64,
    pub(crate) learning_rate: f64,
    /// What the weights are multiplied by first.
    pub(crate) shrink: f64,
}

impl AdamStep {
    /// Updates the running means and the weight in one pass, in place; false, and nothing done, unless all are contiguous f32 on a CPU.
    pub(crate) fn apply(self, weight: &Tensor, mean: &Tensor, square: &Tensor, gradient: &Tensor) -> Result<bool> {
        let all = [weight, mean, square, gradient];
        let alike = all.iter().all(|t| t.is_contiguous() && t.elem_count() == weight.elem_count());
        if !serves(&all) || !alike {
            return Ok(false);
        }
        // The storages are taken out, updated together and put back.
        let (own_mean, own_square) = (Swap::default(), Swap::default());
        mean.inplace_op1(&own_mean)?;
        let taken = square.inplace_op1(&own_square);
        let updated = taken
            .and_then(|()| weight.inplace_op2(gradient, &Update { step: self, mean: &own_mean, square: &own_square }));
        mean.inplace_op1(&own_mean)?;
        square.inplace_op1(&own_square)?;
        updated.map(|()| true)
    }
}

/// Exchanges a tensor's storage with the one held here.
struct Swap(Mutex<CpuStorage>);

impl Default for Swap {
    fn default() -> Self {
        Self(Mutex::new(CpuStorage::F32(Vec::new())))
    }
}

impl InplaceOp1 for Swap {
    fn name(&self) -> &'static str {
        "swap"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, _layout: &Layout) -> Result<()> {
        std::mem::swap(storage, &mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }
}

struct Update<'a> {
    step: AdamStep,
    mean: &'a Swap,
    square: &'a Swap,
}

impl InplaceOp2 for Update<'_> {
    fn name(&self) -> &'static str {
        "adam"
    }

    fn cpu_fwd(
        &self,
        weight: &mut CpuStorage,
        weight_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> Result<()> {
        let mut mean = self.mean.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut square = self.square.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (CpuStorage::F32(weight), CpuStorage::F32(mean), CpuStorage::F32(square)) =
            (weight, &mut *mean, &mut *square)
        else {
            candle_core::bail!("f32 only");
        };
        let gradient = slice(gradient, gradient_layout)?;
        let (from, to) = weight_layout.contiguous_offsets().ok_or_else(|| candle_core::Error::msg("not contiguous"))?;
        let weight = &mut weight[from..to];
        if [mean.len(), square.len(), gradient.len()] != [weight.len(); 3] {
            candle_core::bail!("state of another size than the weight's");
        }
        let AdamStep { betas, corrections, epsilon, learning_rate, shrink } = self.step;
        let ([own1, own2], [new1, new2]) = (betas.map(|b| b as f32), betas.map(|b| (1.0 - b) as f32));
        let [first, second] = corrections.map(|c| c as f32);
        let (epsilon, rate, shrink) = (epsilon as f32, learning_rate as f32, shrink as f32);
        let update = |weight: &mut [f32], mean: &mut [f32], square: &mut [f32], gradient: &[f32]| {
            for (((w, m), v), &g) in weight.iter_mut().zip(mean).zip(square).zip(gradient) {
                *m = *m * own1 + g * new1;
                *v = *v * own2 + (g * g) * new2;
                let step = (*m * first) / ((*v * second).sqrt() + epsilon);
                *w = *w * shrink - step * rate;
            }
        };
        if weight.len() <= UPDATE {
            update(weight, mean, square, gradient);
        } else {
            weight
                .par_chunks_mut(UPDATE)
                .zip(mean.par_chunks_mut(UPDATE))
                .zip(square.par_chunks_mut(UPDATE))
                .zip(gradient.par_chunks(UPDATE))
                .for_each(|(((weight, mean), square), gradient)| update(weight, mean, square, gradient));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{D, Device, Var};

    fn noise(shape: &[usize], seed: u64) -> Var {
        let mut rng = eas_tensor::rng::SplitMix64::new(seed);
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.normal() as f32).collect();
        Var::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn values(x: &Tensor) -> Vec<f32> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    /// Values and gradients of two computations of the same inputs.
    fn assert_same(vars: &[&Var], ours: &Tensor, theirs: &Tensor) {
        let above = noise(ours.dims(), 99);
        let gradients = |out: &Tensor| (out * above.as_tensor()).unwrap().sum_all().unwrap().backward().unwrap();
        let (a, b) = (gradients(ours), gradients(theirs));
        let pairs = vars.iter().map(|var| (values(a.get(var).unwrap()), values(b.get(var).unwrap())));
        for (ours, theirs) in pairs.chain([(values(ours), values(theirs))]) {
            assert_eq!(ours.len(), theirs.len());
            let largest = theirs.iter().fold(1f32, |m, x| m.max(x.abs()));
            for (x, y) in ours.iter().zip(&theirs) {
                assert!((x - y).abs() <= 1e-5 * largest, "{x} differs from {y}");
            }
        }
    }

    #[test]
    fn each_operation_equals_the_composition() {
        for (rows, inputs, outputs) in [(1, 1, 1), (5, 3, 17), (97, 20, 16), (200, 400, 33)] {
            let (x, weight, bias) = (noise(&[rows, inputs], 1), noise(&[outputs, inputs], 2), noise(&[outputs], 3));
            let plain = x.matmul(&weight.t().unwrap()).unwrap().broadcast_add(&bias).unwrap();
            assert_same(&[&x, &weight, &bias], &linear(&x, &weight, &bias).unwrap(), &plain);

            let (gain, shift) = (noise(&[inputs], 4), noise(&[inputs], 5));
            let centred = x.broadcast_sub(&x.mean_keepdim(1).unwrap()).unwrap();
            let deviation = (centred.sqr().unwrap().mean_keepdim(1).unwrap() + 0.1).unwrap().sqrt().unwrap();
            let unit = centred.broadcast_div(&deviation).unwrap();
            let plain = unit.broadcast_mul(&gain).unwrap().broadcast_add(&shift).unwrap();
            assert_same(&[&x, &gain, &shift], &normalized(&x, &gain, &shift, 0.1).unwrap(), &plain);

            let length = (x.sqr().unwrap().sum_keepdim(D::Minus1).unwrap() + 1e-12).unwrap().sqrt().unwrap();
            assert_same(&[&x], &unit_rows(&x).unwrap(), &x.broadcast_div(&length).unwrap());
        }
    }

    #[test]
    fn operands_need_not_be_contiguous_and_constants_get_no_gradient() {
        let (x, weight, bias) = (noise(&[6, 40], 1), noise(&[6, 9], 2), noise(&[9], 3));
        let turned = weight.t().unwrap();
        let plain = x.t().unwrap().matmul(&weight).unwrap().broadcast_add(&bias).unwrap();
        assert_same(&[&x, &weight, &bias], &linear(&x.t().unwrap(), &turned, &bias).unwrap(), &plain);
        let part = x.narrow(1, 3, 7).unwrap();
        let length = part.sqr().unwrap().sum_keepdim(1).unwrap().sqrt().unwrap();
        assert_same(&[&x], &unit_rows(&part).unwrap(), &part.broadcast_div(&length).unwrap());
        let constant = x.detach().t().unwrap();
        let store = linear(&constant, &turned, &bias).unwrap().sum_all().unwrap().backward().unwrap();
        assert!(store.get(&constant).is_none() && store.get(&bias).is_some());
        let zeros = Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
        assert_eq!(values(&unit_rows(&zeros).unwrap()), [0.0; 6]);
    }

    #[test]
    fn operands_that_do_not_fit_are_refused() {
        let (x, weight, bias) = (noise(&[6, 4], 1), noise(&[9, 4], 2), noise(&[9], 3));
        assert!(linear(&x.unsqueeze(0).unwrap(), &weight, &bias).is_err());
        let double = x.to_dtype(DType::F64).unwrap();
        let empty = x.narrow(0, 0, 0).unwrap();
        assert!(serves(&[&x, &weight]) && !serves(&[&x, &double]) && !serves(&[&empty]));
        let attention = SelfAttention { tokens: 2, heads: 1, head_dim: 4 };
        let layer = EncoderLayer {
            batch: 3,
            attention,
            inner: 5,
            epsilon: 1e-5,
            hidden: Vec::new(),
            drops: Default::default(),
        };
        let error = layer.apply(&x, &[x.as_tensor(); 16]).unwrap_err().to_string();
        assert!(error.contains("weights"), "{error}");
    }

    #[test]
    fn a_long_step_of_adam_equals_short_ones() {
        let size = 2 * UPDATE + 5;
        let step =
            AdamStep { betas: [0.9, 0.99], corrections: [10.0, 100.0], epsilon: 1e-8, learning_rate: 0.1, shrink: 0.9 };
        let long = [1, 2, 3, 4].map(|seed| Var::from_tensor(&noise(&[size], seed).sqr().unwrap()).unwrap());
        let short: Vec<[Var; 4]> = (0..size)
            .step_by(UPDATE)
            .map(|from| {
                long.each_ref().map(|x| Var::from_tensor(&x.narrow(0, from, UPDATE.min(size - from)).unwrap()).unwrap())
            })
            .collect();
        for [weight, mean, square, gradient] in short.iter().chain([&long]) {
            assert!(step.apply(weight, mean, square, gradient).unwrap());
        }
        for slot in 0..3 {
            let joined: Vec<f32> = short.iter().flat_map(|vars| values(&vars[slot])).collect();
            assert_eq!(values(&long[slot]), joined);
        }
        let [weight, mean, square, _] = &long;
        assert!(!step.apply(weight, mean, square, &weight.to_dtype(DType::F64).unwrap()).unwrap());
        assert!(!step.apply(weight, mean, square, &weight.narrow(0, 0, 3).unwrap()).unwrap());
        assert_eq!(values(mean).len(), size);
    }
}
