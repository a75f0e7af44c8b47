//! Forward and backward passes of a transformer's parts on plain slices, for training: GELU, layer normalisation, attention.
//!
//! Like [`transformer`](crate::transformer), whose routines serve scoring, each is compiled for AVX2 with FMA and for the target's baseline.
//! Everything runs on the calling thread and sums in a fixed order.

#![expect(clippy::inline_always, reason = "a body must be compiled with its caller's target features")]

use crate::gemm::{NR, Operand, Simd};
use crate::transformer::{dispatch, erf, exp, gelu, mul_add, softmax_row, sum};

const LANES: usize = 8;

/// What [`layer_norm`] found out about a row, and [`layer_norm_backward`] needs: the mean, and one over the standard deviation.
pub type RowStatistics = [f32; 2];

#[inline(always)]
fn gelu_body<const FUSED: bool>(x: &[f32], out: &mut [f32]) {
    for (out, x) in out.iter_mut().zip(x) {
        *out = gelu::<FUSED>(*x);
    }
}

#[inline(always)]
fn gelu_slope_body<const FUSED: bool>(x: &[f32], gradient: &mut [f32]) {
    // Phi(x) + x phi(x), the normal distribution and its density.
    const DENSITY: f32 = 0.398_942_3;
    for (gradient, &x) in gradient.iter_mut().zip(x) {
        let below = mul_add::<FUSED>(0.5, erf::<FUSED>(x * std::f32::consts::FRAC_1_SQRT_2), 0.5);
        *gradient *= mul_add::<FUSED>(x * DENSITY, exp::<FUSED>(-0.5 * x * x), below);
    }
}

#[inline(always)]
fn norm_row_body<const FUSED: bool>(
    x: &[f32],
    gain: &[f32],
    bias: &[f32],
    epsilon: f32,
    out: &mut [f32],
    statistics: &mut RowStatistics,
) {
    let count = x.len() as f32;
    let mean = sum(x) / count;
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut lanes = [0.0f32; LANES];
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            let centred = *x - mean;
            *lane = mul_add::<FUSED>(centred, centred, *lane);
        }
    }
    let squares = lanes.iter().sum::<f32>() + rest.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>();
    let scale = 1.0 / (squares / count + epsilon).sqrt();
    for (((out, x), g), b) in out.iter_mut().zip(x).zip(gain).zip(bias) {
        *out = mul_add::<FUSED>((*x - mean) * scale, *g, *b);
    }
    *statistics = [mean, scale];
}

#[inline(always)]
fn norm_row_backward_body<const FUSED: bool>(
    x: &[f32],
    statistics: &RowStatistics,
    gain: &[f32],
    upstream: &[f32],
    by_x: &mut [f32],
    by_gain: &mut [f32],
    by_bias: &mut [f32],
) {
    let [mean, scale] = *statistics;
    let n = x.len();
    let (gain, upstream, by_x) = (&gain[..n], &upstream[..n], &mut by_x[..n]);
    let (by_gain, by_bias) = (&mut by_gain[..n], &mut by_bias[..n]);
    // The sums of the gradient by the unit row, and of its products with the unit row.
    let (mut plain, mut along) = ([0.0f32; LANES], [0.0f32; LANES]);
    let whole = n - n % LANES;
    for from in (0..whole).step_by(LANES) {
        let (x, g, u) = (&x[from..from + LANES], &gain[from..from + LANES], &upstream[from..from + LANES]);
        for lane in 0..LANES {
            let d = u[lane] * g[lane];
            plain[lane] += d;
            along[lane] = mul_add::<FUSED>(d, (x[lane] - mean) * scale, along[lane]);
        }
    }
    let (mut total, mut product) = (plain.iter().sum::<f32>(), along.iter().sum::<f32>());
    for i in whole..n {
        let d = upstream[i] * gain[i];
        total += d;
        product += d * ((x[i] - mean) * scale);
    }
    let (total, product) = (total / n as f32, product / n as f32);
    for i in 0..n {
        let unit = (x[i] - mean) * scale;
        let d = upstream[i] * gain[i];
        by_x[i] += scale * mul_add::<FUSED>(-unit, product, d - total);
        by_gain[i] = mul_add::<FUSED>(upstream[i], unit, by_gain[i]);
        by_bias[i] += upstream[i];
    }
}

#[inline(always)]
fn column_sums_body<const FUSED: bool>(rows: &[f32], sums: &mut [f32]) {
    for row in rows.chunks_exact(sums.len()) {
        for (sum, x) in sums.iter_mut().zip(row) {
            *sum += x;
        }
    }
}

#[inline(always)]
fn attention_row_body<const FUSED: bool>(row: &mut [f32], scale: f32, hidden: &[f32]) {
    if hidden.is_empty() {
        for x in row.iter_mut() {
            *x *= scale;
        }
    } else {
        for (x, h) in row.iter_mut().zip(hidden) {
            *x = mul_add::<FUSED>(*x, scale, *h);
        }
    }
}

/// The gradient by a row's scores from that by its weights, in place.
#[inline(always)]
fn softmax_row_backward_body<const FUSED: bool>(weights: &[f32], gradient: &mut [f32], scale: f32) {
    let mut lanes = [0.0f32; LANES];
    let (chunks, rest) = weights.as_chunks::<LANES>();
    let (their_chunks, their_rest) = gradient.as_chunks::<LANES>();
    for (w, g) in chunks.iter().zip(their_chunks) {
        for lane in 0..LANES {
            lanes[lane] = mul_add::<FUSED>(w[lane], g[lane], lanes[lane]);
        }
    }
    let mean = lanes.iter().sum::<f32>() + rest.iter().zip(their_rest).map(|(w, g)| w * g).sum::<f32>();
    for (g, w) in gradient.iter_mut().zip(weights) {
        *g = w * (*g - mean) * scale;
    }
}

dispatch!(fn gelu_slice(x: &[f32], out: &mut [f32]) = gelu_body);
dispatch!(fn gelu_slope(x: &[f32], gradient: &mut [f32]) = gelu_slope_body);
dispatch!(fn norm_row(x: &[f32], gain: &[f32], bias: &[f32], epsilon: f32, out: &mut [f32], statistics: &mut RowStatistics) = norm_row_body);
dispatch!(fn norm_row_backward(x: &[f32], statistics: &RowStatistics, gain: &[f32], upstream: &[f32], by_x: &mut [f32], by_gain: &mut [f32], by_bias: &mut [f32]) = norm_row_backward_body);
dispatch!(fn add_rows(rows: &[f32], sums: &mut [f32]) = column_sums_body);
dispatch!(fn attention_row(row: &mut [f32], scale: f32, hidden: &[f32]) = attention_row_body);
dispatch!(fn softmax_row_backward(weights: &[f32], gradient: &mut [f32], scale: f32) = softmax_row_backward_body);

/// `out = gelu(x)`, the exact form with erf.
///
/// # Panics
///
/// When the lengths differ.
pub fn gelu_into(x: &[f32], out: &mut [f32]) {
    assert_eq!(x.len(), out.len());
    gelu_slice(Simd::detect(), x, out);
}

/// Multiplies `gradient`, which is that by `gelu(x)`, with the slope of GELU at `x`: it becomes the gradient by `x`.
///
/// # Panics
///
/// When the lengths differ.
pub fn gelu_backward(x: &[f32], gradient: &mut [f32]) {
    assert_eq!(x.len(), gradient.len());
    gelu_slope(Simd::detect(), x, gradient);
}

/// Layer normalisation of each row of `gain.len()` values into `out`; one entry of `statistics` a row.
///
/// # Panics
///
/// When the lengths don't fit.
pub fn layer_norm(
    rows: &[f32],
    gain: &[f32],
    bias: &[f32],
    epsilon: f32,
    out: &mut [f32],
    statistics: &mut [RowStatistics],
) {
    let width = gain.len();
    assert!(width > 0 && bias.len() == width && rows.len() == out.len() && rows.len() == width * statistics.len());
    let simd = Simd::detect();
    for ((x, out), statistics) in rows.chunks_exact(width).zip(out.chunks_exact_mut(width)).zip(statistics) {
        norm_row(simd, x, gain, bias, epsilon, out, statistics);
    }
}

/// The backward pass of [`layer_norm`] of the same `rows`: the gradients are added to `by_rows`, `by_gain` and `by_bias`.
///
/// # Panics
///
/// When the lengths don't fit.
pub fn layer_norm_backward(
    rows: &[f32],
    statistics: &[RowStatistics],
    gain: &[f32],
    upstream: &[f32],
    by_rows: &mut [f32],
    by_gain: &mut [f32],
    by_bias: &mut [f32],
) {
    let width = gain.len();
    assert!(width > 0 && by_gain.len() == width && by_bias.len() == width);
    assert!(rows.len() == width * statistics.len() && rows.len() == upstream.len() && rows.len() == by_rows.len());
    let simd = Simd::detect();
    let values = rows.chunks_exact(width).zip(upstream.chunks_exact(width));
    for (((x, upstream), by_x), statistics) in values.zip(by_rows.chunks_exact_mut(width)).zip(statistics) {
        norm_row_backward(simd, x, statistics, gain, upstream, by_x, by_gain, by_bias);
    }
}

/// Adds each row to `sums`.
///
/// # Panics
///
/// When `rows` isn't a whole number of rows of `sums.len()` values.
pub fn add_column_sums(rows: &[f32], sums: &mut [f32]) {
    assert!(!sums.is_empty() && rows.len().is_multiple_of(sums.len()));
    add_rows(Simd::detect(), rows, sums);
}

/// Multi-head self-attention over one sequence (Vaswani et al. 2017, section 3.2), forwards and backwards.
///
/// `qkv` has one row a token, queries, keys and values side by side, shape `(tokens, 3 heads head_dim)`.
#[derive(Debug, Clone, Copy)]
pub struct SelfAttention {
    /// Tokens of the sequence.
    pub tokens: usize,
    /// Heads.
    pub heads: usize,
    /// Width of a head.
    pub head_dim: usize,
}

/// Buffers of [`SelfAttention`], kept between calls so that nothing is allocated per sequence.
#[derive(Debug, Default)]
pub struct SelfAttentionScratch {
    scores: Vec<f32>,
    turned: Vec<f32>,
    turned_weights: Vec<f32>,
    sides: [Vec<f32>; 3],
    product: Vec<f32>,
}

impl SelfAttention {
    /// Values of the weights of one sequence: `heads * tokens * tokens`.
    pub fn weights(&self) -> usize {
        self.heads * self.tokens * self.tokens
    }

    /// `out`, shape `(tokens, heads head_dim)`, and the attention weights, shape `(heads, tokens, tokens)`.
    ///
    /// `hidden` is added to each token's scaled scores: 0 for tokens, and so little for padding that its share is 0; empty for none.
    /// `drop` is what the weights are multiplied with before they are applied, of their shape; empty for nothing.
    ///
    /// # Panics
    ///
    /// When the lengths don't fit.
    pub fn forward(
        &self,
        qkv: &[f32],
        hidden: &[f32],
        drop: &[f32],
        weights: &mut [f32],
        out: &mut [f32],
        scratch: &mut SelfAttentionScratch,
    ) {
        let Self { tokens, heads, head_dim } = *self;
        let width = heads * head_dim;
        self.check(qkv, drop, weights, out);
        assert!(hidden.is_empty() || hidden.len() == tokens, "what is hidden from attention");
        if tokens == 0 || width == 0 {
            return;
        }
        let simd = Simd::detect();
        let (columns, wide) = (tokens.next_multiple_of(NR), head_dim.next_multiple_of(NR));
        let scale = 1.0 / (head_dim as f32).sqrt();
        let SelfAttentionScratch { scores, turned, sides: [values, ..], product, .. } = scratch;
        scores.resize(tokens * columns, 0.0);
        for head in 0..heads {
            let at = head * head_dim;
            let (queries, keys) = (side(&qkv[at..], 3 * width), side(&qkv[width + at..], 3 * width));
            turn(keys, tokens, head_dim, columns, turned);
            copy(side(&qkv[2 * width + at..], 3 * width), tokens, head_dim, wide, values);
            multiply(simd, [tokens, head_dim, columns], queries, side(turned, columns), scores);
            let own = &mut weights[head * tokens * tokens..][..tokens * tokens];
            for (row, own) in scores.chunks_exact_mut(columns).zip(own.chunks_exact_mut(tokens)) {
                let row = &mut row[..tokens];
                attention_row(simd, row, scale, hidden);
                softmax_row(simd, row);
                own.copy_from_slice(row);
            }
            if !drop.is_empty() {
                let drop = drop[head * tokens * tokens..].chunks_exact(tokens);
                for (row, drop) in scores.chunks_exact_mut(columns).zip(drop) {
                    row.iter_mut().zip(drop).for_each(|(x, d)| *x *= d);
                }
            }
            product.resize(tokens * wide, 0.0);
            multiply(simd, [tokens, tokens, wide], side(scores, columns), side(values, wide), product);
            for (out, row) in out.chunks_exact_mut(width).zip(product.chunks_exact(wide)) {
                out[at..at + head_dim].copy_from_slice(&row[..head_dim]);
            }
        }
    }

    /// The gradient by `qkv`, which is overwritten, from that by the output. `weights` are those that [`forward`](Self::forward) gave.
    ///
    /// # Panics
    ///
    /// When the lengths don't fit.
    pub fn backward(
        &self,
        qkv: &[f32],
        drop: &[f32],
        weights: &[f32],
        upstream: &[f32],
        by_qkv: &mut [f32],
        scratch: &mut SelfAttentionScratch,
    ) {
        let Self { tokens, heads, head_dim } = *self;
        let width = heads * head_dim;
        self.check(qkv, drop, weights, upstream);
        assert_eq!(by_qkv.len(), qkv.len(), "gradient of attention");
        if tokens == 0 || width == 0 {
            return;
        }
        let simd = Simd::detect();
        let (columns, wide) = (tokens.next_multiple_of(NR), head_dim.next_multiple_of(NR));
        let scale = 1.0 / (head_dim as f32).sqrt();
        let SelfAttentionScratch { scores, turned, turned_weights, sides, product } = scratch;
        scores.resize(tokens * columns, 0.0);
        product.resize(tokens * wide, 0.0);
        for head in 0..heads {
            let at = head * head_dim;
            let part = |nth: usize| side(&qkv[nth * width + at..], 3 * width);
            let above = side(&upstream[at..], width);
            let own = &weights[head * tokens * tokens..][..tokens * tokens];
            let drop = if drop.is_empty() { drop } else { &drop[head * tokens * tokens..][..tokens * tokens] };
            for (nth, side) in sides.iter_mut().enumerate() {
                copy(if nth < 2 { part(nth) } else { above }, tokens, head_dim, wide, side);
            }
            let [queries, keys, gradients] = &*sides;
            turn(part(2), tokens, head_dim, columns, turned);
            multiply(simd, [tokens, head_dim, columns], above, side(turned, columns), scores);
            let mut put = |nth: usize, product: &[f32]| {
                for (row, from) in by_qkv.chunks_exact_mut(3 * width).zip(product.chunks_exact(wide)) {
                    row[nth * width + at..][..head_dim].copy_from_slice(&from[..head_dim]);
                }
            };
            // Values: the transposed weights, dropped ones apart, times the gradient.
            turned_weights.resize(tokens * tokens, 0.0);
            for (t, row) in own.chunks_exact(tokens).enumerate() {
                for (u, w) in row.iter().enumerate() {
                    let kept = drop.get(t * tokens + u).unwrap_or(&1.0);
                    turned_weights[u * tokens + t] = w * kept;
                }
            }
            multiply(simd, [tokens, tokens, wide], side(turned_weights, tokens), side(gradients, wide), product);
            put(2, product);
            for (t, (row, own)) in scores.chunks_exact_mut(columns).zip(own.chunks_exact(tokens)).enumerate() {
                let row = &mut row[..tokens];
                if !drop.is_empty() {
                    row.iter_mut().zip(&drop[t * tokens..]).for_each(|(x, d)| *x *= d);
                }
                softmax_row_backward(simd, own, row, scale);
            }
            multiply(simd, [tokens, tokens, wide], side(scores, columns), side(keys, wide), product);
            put(0, product);
            for (t, row) in scores.chunks_exact(columns).enumerate() {
                for (u, x) in row[..tokens].iter().enumerate() {
                    turned_weights[u * tokens + t] = *x;
                }
            }
            multiply(simd, [tokens, tokens, wide], side(turned_weights, tokens), side(queries, wide), product);
            put(1, product);
        }
    }

    fn check(&self, qkv: &[f32], drop: &[f32], weights: &[f32], out: &[f32]) {
        let width = self.heads * self.head_dim;
        assert_eq!(qkv.len(), 3 * self.tokens * width, "queries, keys and values of attention");
        assert_eq!(weights.len(), self.weights(), "weights of attention");
        assert_eq!(out.len(), self.tokens * width, "output of attention");
        assert!(drop.is_empty() || drop.len() == weights.len(), "dropout of attention");
    }
}

fn side(values: &[f32], stride: usize) -> Operand<'_> {
    Operand { values, stride }
}

/// The transpose of `rows` rows of `depth` values, shape `(depth, columns)`, zeros behind the last row.
fn turn(from: Operand<'_>, rows: usize, depth: usize, columns: usize, to: &mut Vec<f32>) {
    to.clear();
    to.resize(depth * columns, 0.0);
    for (r, row) in from.values.chunks(from.stride).take(rows).enumerate() {
        for (slot, x) in to[r..].iter_mut().step_by(columns).zip(&row[..depth]) {
            *slot = *x;
        }
    }
}

/// `rows` rows of `depth` values, one after the other, each followed by zeros up to `wide` values.
fn copy(from: Operand<'_>, rows: usize, depth: usize, wide: usize, to: &mut Vec<f32>) {
    to.resize(rows * wide, 0.0);
    for (to, row) in to.chunks_exact_mut(wide).zip(from.values.chunks(from.stride)) {
        to[..depth].copy_from_slice(&row[..depth]);
        to[depth..].fill(0.0);
    }
}

/// `out = a b`, shapes `(rows, depth)`, `(depth, columns)` and `(rows, columns)`; columns a multiple of 16, `out` without gaps.
fn multiply(simd: Simd, [rows, depth, columns]: [usize; 3], a: Operand<'_>, b: Operand<'_>, out: &mut [f32]) {
    for from in (0..columns).step_by(NR) {
        for row in (0..rows).step_by(6) {
            let a = Operand { values: &a.values[row * a.stride..], ..a };
            let b = Operand { values: &b.values[from..], ..b };
            simd.tile(depth, (rows - row).min(6), a, b, &mut out[row * columns + from..], columns, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SplitMix64;

    fn normals(count: usize, seed: u64) -> Vec<f32> {
        let mut rng = SplitMix64::new(seed);
        (0..count).map(|_| rng.normal() as f32).collect()
    }

    fn weighted(values: &[f32], weights: &[f32]) -> f64 {
        values.iter().zip(weights).map(|(v, w)| f64::from(*v) * f64::from(*w)).sum()
    }

    /// Central differences of `f` at some of the entries of `x`.
    fn assert_slope(x: &[f32], gradient: &[f32], tolerance: f64, f: impl Fn(&[f32]) -> f64) {
        for i in (0..x.len()).step_by(1 + x.len() / 40) {
            let shifted = |by: f32| {
                let mut moved = x.to_vec();
                moved[i] += by;
                f(&moved)
            };
            let difference = (shifted(1e-2) - shifted(-1e-2)) / 2e-2;
            let own = f64::from(gradient[i]);
            assert!((difference - own).abs() < tolerance * (1.0 + own.abs()), "{i}: {difference} {own}");
        }
    }

    #[test]
    fn the_slope_of_gelu_equals_differences_and_its_limits() {
        let x = normals(103, 1);
        let mut out = vec![0.0; 103];
        gelu_into(&x, &mut out);
        for (x, y) in x.iter().zip(&out) {
            assert!((f64::from(*y) - f64::from(*x) * crate::special::normal_cdf(f64::from(*x))).abs() < 1e-6);
        }
        let above = normals(103, 2);
        let mut gradient = above.clone();
        gelu_backward(&x, &mut gradient);
        assert_slope(&x, &gradient, 1e-3, |x| {
            let mut out = vec![0.0; x.len()];
            gelu_into(x, &mut out);
            weighted(&out, &above)
        });
        let mut ends = [1.0f32, 1.0, 1.0];
        gelu_backward(&[-30.0, 0.0, 30.0], &mut ends);
        for (own, limit) in ends.iter().zip([0.0, 0.5, 1.0]) {
            assert!((own - limit).abs() < 1e-7, "{own}");
        }
    }

    #[test]
    fn layer_normalisation_equals_the_scoring_one_and_its_gradient_differences() {
        for width in [1, 5, 8, 21] {
            let (gain, bias) = (normals(width, 1), normals(width, 2));
            let (x, above) = (normals(3 * width, 3), normals(3 * width, 4));
            let run = |x: &[f32], gain: &[f32], bias: &[f32]| {
                let (mut out, mut statistics) = (vec![0.0; x.len()], vec![[0.0; 2]; 3]);
                layer_norm(x, gain, bias, 1e-2, &mut out, &mut statistics);
                (out, statistics)
            };
            let (out, statistics) = run(&x, &gain, &bias);
            let mut theirs = x.clone();
            crate::transformer::layer_norm(&mut theirs, &gain, &bias, 1e-2);
            out.iter().zip(&theirs).for_each(|(a, b)| assert!((a - b).abs() < 1e-6));
            let mut by_x = vec![1.0; x.len()];
            let (mut by_gain, mut by_bias) = (vec![0.0; width], vec![0.0; width]);
            layer_norm_backward(&x, &statistics, &gain, &above, &mut by_x, &mut by_gain, &mut by_bias);
            for g in &mut by_x {
                *g -= 1.0;
            }
            assert_slope(&x, &by_x, 5e-3, |x| weighted(&run(x, &gain, &bias).0, &above));
            assert_slope(&gain, &by_gain, 1e-3, |gain| weighted(&run(&x, gain, &bias).0, &above));
            assert_slope(&bias, &by_bias, 1e-3, |bias| weighted(&run(&x, &gain, bias).0, &above));
        }
    }

    #[test]
    fn column_sums_are_added() {
        let mut sums = [1.0, 2.0];
        add_column_sums(&[1.0, 10.0, 2.0, 20.0, 3.0, 30.0], &mut sums);
        assert_eq!(sums, [7.0, 62.0]);
    }

    #[test]
    fn attention_and_its_gradient_equal_the_definition_and_differences() {
        for (tokens, heads, head_dim, masked, dropped) in
            [(1, 1, 1, false, false), (5, 2, 3, true, false), (7, 1, 16, false, true), (19, 2, 20, true, true)]
        {
            let shape = SelfAttention { tokens, heads, head_dim };
            let width = heads * head_dim;
            let qkv = normals(3 * tokens * width, 1);
            let above = normals(tokens * width, 2);
            let hidden: Vec<f32> =
                if masked { (0..tokens).map(|t| if t % 3 == 2 { -1e9 } else { 0.0 }).collect() } else { vec![] };
            let drop: Vec<f32> = if dropped {
                (0..shape.weights()).map(|i| if i % 4 == 1 { 0.0 } else { 1.25 }).collect()
            } else {
                vec![]
            };
            let mut scratch = SelfAttentionScratch::default();
            let (mut weights, mut out) = (vec![0.0; shape.weights()], vec![0.0; tokens * width]);
            shape.forward(&qkv, &hidden, &drop, &mut weights, &mut out, &mut scratch);
            let at = |token: usize, part: usize, i: usize| f64::from(qkv[token * 3 * width + part * width + i]);
            for t in 0..tokens {
                for h in 0..heads {
                    let span = h * head_dim..(h + 1) * head_dim;
                    let exps: Vec<f64> = (0..tokens)
                        .map(|u| {
                            let score: f64 = span.clone().map(|i| at(t, 0, i) * at(u, 1, i)).sum();
                            (score / (head_dim as f64).sqrt() + f64::from(*hidden.get(u).unwrap_or(&0.0))).exp()
                        })
                        .collect();
                    let total: f64 = exps.iter().sum();
                    for i in span {
                        let kept = |u: usize| f64::from(*drop.get((h * tokens + t) * tokens + u).unwrap_or(&1.0));
                        let want: f64 = (0..tokens).map(|u| exps[u] / total * kept(u) * at(u, 2, i)).sum();
                        assert!((f64::from(out[t * width + i]) - want).abs() < 1e-5);
                    }
                }
            }
            let mut by_qkv = vec![9.0; qkv.len()];
            shape.backward(&qkv, &drop, &weights, &above, &mut by_qkv, &mut scratch);
            assert_slope(&qkv, &by_qkv, 2e-3, |qkv| {
                let (mut weights, mut out) = (vec![0.0; shape.weights()], vec![0.0; tokens * width]);
                shape.forward(qkv, &hidden, &drop, &mut weights, &mut out, &mut SelfAttentionScratch::default());
                weighted(&out, &above)
            });
        }
        let none = SelfAttention { tokens: 0, heads: 2, head_dim: 4 };
        none.forward(&[], &[], &[], &mut [], &mut [], &mut SelfAttentionScratch::default());
    }
}
