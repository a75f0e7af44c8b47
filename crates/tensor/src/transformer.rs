//! What a transformer's encoder layer needs beside matrix products: GELU, softmax, layer normalisation and attention, on plain slices.
//!
//! Each routine is written once as a loop over fixed lanes and compiled twice: for AVX2 with FMA, chosen at run time, and for the
//! target's baseline.

#![expect(clippy::inline_always, reason = "a body must be compiled with its caller's target features")]

use crate::gemm::{NR, Operand, Simd};

/// Lanes of a reduction: eight sums kept apart and added at the end, in the same order on every machine.
const LANES: usize = 8;

/// `a * b + c`, fused when `FUSED` says that the target does it in one instruction.
#[inline(always)]
pub(crate) fn mul_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// GELU, `x/2 (1 + erf(x / sqrt 2))`, with erf as a rational function accurate to a few units in the last place.
#[inline(always)]
pub(crate) fn gelu<const FUSED: bool>(x: f32) -> f32 {
    let half = 0.5 * x;
    mul_add::<FUSED>(half, erf::<FUSED>(x * std::f32::consts::FRAC_1_SQRT_2), half)
}

/// The error function on f32; beyond 4 it is 1 to the last place.
#[inline(always)]
pub(crate) fn erf<const FUSED: bool>(x: f32) -> f32 {
    const ODD: [f32; 7] = [
        -2.726_142_3e-10,
        2.770_681_4e-8,
        -2.101_024_1e-6,
        -5.692_506_4e-5,
        -7.349_906_3e-4,
        -2.954_6e-3,
        -1.609_603_3e-2,
    ];
    const EVEN: [f32; 5] = [-1.456_607_2e-5, -2.133_740_6e-4, -1.682_827e-3, -7.373_329_3e-3, -1.426_473_9e-2];
    let x = x.clamp(-4.0, 4.0);
    let square = x * x;
    let mut above = ODD[0];
    for c in &ODD[1..] {
        above = mul_add::<FUSED>(above, square, *c);
    }
    let mut below = EVEN[0];
    for c in &EVEN[1..] {
        below = mul_add::<FUSED>(below, square, *c);
    }
    x * above / below
}

/// `e^x` for `x <= 0`, to about one unit in the last place; below -87 it is 0 or the smallest normal number.
#[inline(always)]
pub(crate) fn exp<const FUSED: bool>(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to the nearest integer, which then sits in the low bits.
    const SHIFT: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    const SERIES: [f32; 6] = [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
    let x = x.max(-87.0);
    let shifted = mul_add::<FUSED>(x, std::f32::consts::LOG2_E, SHIFT);
    let power = shifted - SHIFT;
    let rest = mul_add::<FUSED>(power, -LN2_HIGH, x);
    let rest = mul_add::<FUSED>(power, -LN2_LOW, rest);
    let mut series = SERIES[0];
    for c in &SERIES[1..] {
        series = mul_add::<FUSED>(series, rest, *c);
    }
    let value = mul_add::<FUSED>(series, rest * rest, rest) + 1.0;
    let scale = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    value * scale
}

#[inline(always)]
pub(crate) fn sum(values: &[f32]) -> f32 {
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [0.0_f32; LANES];
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += x;
        }
    }
    lanes.iter().sum::<f32>() + rest.iter().sum::<f32>()
}

#[inline(always)]
fn softmax_body<const FUSED: bool>(row: &mut [f32]) {
    let (chunks, rest) = row.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = if *x > *lane { *x } else { *lane };
        }
    }
    let largest = lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |m, x| m.max(*x));
    for x in row.iter_mut() {
        *x = exp::<FUSED>(*x - largest);
    }
    let total = sum(row);
    for x in row.iter_mut() {
        *x /= total;
    }
}

#[inline(always)]
fn exp_body<const FUSED: bool>(row: &mut [f32], shift: f32, total: &mut f32) {
    for x in row.iter_mut() {
        let below = *x - shift;
        *x = if below < -87.0 { 0.0 } else { exp::<FUSED>(below) };
    }
    *total = sum(row);
}

#[inline(always)]
fn layer_norm_body<const FUSED: bool>(row: &mut [f32], gain: &[f32], bias: &[f32], epsilon: f32) {
    let count = row.len() as f32;
    let mean = sum(row) / count;
    let mut lanes = [0.0_f32; LANES];
    let (chunks, rest) = row.as_chunks_mut::<LANES>();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *x -= mean;
            *lane = mul_add::<FUSED>(*x, *x, *lane);
        }
    }
    let mut squares = lanes.iter().sum::<f32>();
    for x in rest {
        *x -= mean;
        squares += *x * *x;
    }
    let scale = 1.0 / (squares / count + epsilon).sqrt();
    for ((x, g), b) in row.iter_mut().zip(gain).zip(bias) {
        *x = mul_add::<FUSED>(*x * scale, *g, *b);
    }
}

/// Compiles a body for AVX2 with FMA beside the portable version, and picks at run time.
macro_rules! dispatch {
    ($(#[$doc:meta])* $visibility:vis fn $name:ident($($arg:ident: $type:ty),*) = $body:ident) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments, reason = "with the instruction set, where the body has seven")]
        $visibility fn $name(simd: Simd, $($arg: $type),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($arg: $type),*) {
                $body::<true>($($arg),*);
            }
            match simd {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: `Avx2` is only made after run-time detection.
                Simd::Avx2 => unsafe { avx2($($arg),*) },
                Simd::Portable => $body::<{ cfg!(any(target_arch = "aarch64", target_feature = "fma")) }>($($arg),*),
            }
        }
    };
}
pub(crate) use dispatch;

dispatch!(pub(crate) fn softmax_row(row: &mut [f32]) = softmax_body);
dispatch!(fn exp_row(row: &mut [f32], shift: f32, total: &mut f32) = exp_body);
dispatch!(fn layer_norm_row(row: &mut [f32], gain: &[f32], bias: &[f32], epsilon: f32) = layer_norm_body);

/// Softmax of `row` in place: positive numbers that sum to 1; an empty row stays empty.
pub fn softmax(row: &mut [f32]) {
    softmax_row(Simd::detect(), row);
}

/// Replaces each `x` of `row` by `exp(x - shift)` and returns their sum; `shift` must not be below any `x` by more
/// than rounding. Below `shift - 87` the result is 0.
pub fn exp_shifted(row: &mut [f32], shift: f32) -> f32 {
    let mut total = 0.0;
    exp_row(Simd::detect(), row, shift, &mut total);
    total
}

/// Layer normalisation (Ba, Kiros and Hinton 2016) of each row of `gain.len()` values, in place.
///
/// # Panics
///
/// When `gain` and `bias` differ in length or `rows` isn't a whole number of rows.
pub fn layer_norm(rows: &mut [f32], gain: &[f32], bias: &[f32], epsilon: f32) {
    assert!(!gain.is_empty() && gain.len() == bias.len() && rows.len().is_multiple_of(gain.len()));
    let simd = Simd::detect();
    for row in rows.chunks_exact_mut(gain.len()) {
        layer_norm_row(simd, row, gain, bias, epsilon);
    }
}

/// Buffers of [`attention`], kept between calls so that nothing is allocated per sequence.
#[derive(Debug, Default)]
pub struct AttentionScratch {
    keys: Vec<f32>,
    scores: Vec<f32>,
}

/// Multi-head self-attention over one sequence (Vaswani et al. 2017, section 3.2), without a mask.
///
/// `qkv` has one row a token, queries, keys and values side by side, shape `(tokens, 3 heads head_dim)`, with queries already divided by the
/// square root of `head_dim`; `out` has shape `(tokens, heads head_dim)`.
///
/// # Panics
///
/// When the slices don't have these shapes, or `head_dim` isn't a multiple of 16.
pub fn attention(qkv: &[f32], heads: usize, head_dim: usize, out: &mut [f32], scratch: &mut AttentionScratch) {
    let width = heads * head_dim;
    let stride = 3 * width;
    assert!(width > 0 && head_dim.is_multiple_of(NR), "head_dim is {head_dim}");
    let tokens = qkv.len() / stride;
    assert!(qkv.len() == tokens * stride && out.len() == tokens * width);
    let simd = Simd::detect();
    let padded = tokens.next_multiple_of(NR);
    scratch.keys.resize(padded * head_dim, 0.0);
    scratch.scores.resize(tokens * padded, 0.0);
    let AttentionScratch { keys, scores } = scratch;
    for head in 0..heads {
        let query = head * head_dim;
        // Keys of 16 tokens side by side, so that the scores of 16 tokens come out of one tile.
        for (panel, block) in keys.chunks_exact_mut(NR * head_dim).enumerate() {
            for column in 0..NR {
                let token = panel * NR + column;
                if token < tokens {
                    let key = &qkv[token * stride + width + query..][..head_dim];
                    for (slot, x) in block[column..].iter_mut().step_by(NR).zip(key) {
                        *slot = *x;
                    }
                } else {
                    block[column..].iter_mut().step_by(NR).for_each(|slot| *slot = 0.0);
                }
            }
        }
        for (panel, block) in keys.chunks_exact(NR * head_dim).enumerate() {
            for row in (0..tokens).step_by(6) {
                let a = Operand { values: &qkv[row * stride + query..], stride };
                let b = Operand { values: block, stride: NR };
                let tile = &mut scores[row * padded + panel * NR..];
                simd.tile(head_dim, (tokens - row).min(6), a, b, tile, padded, false);
            }
        }
        for row in scores.chunks_exact_mut(padded) {
            softmax_row(simd, &mut row[..tokens]);
        }
        for from in (0..head_dim).step_by(NR) {
            let b = Operand { values: &qkv[2 * width + query + from..], stride };
            for row in (0..tokens).step_by(6) {
                let a = Operand { values: &scores[row * padded..], stride: padded };
                let tile = &mut out[row * width + query + from..];
                simd.tile(tokens, (tokens - row).min(6), a, b, tile, width, false);
            }
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

    #[test]
    fn gelu_has_the_reference_values() {
        // torch.nn.functional.gelu in double precision.
        for (x, want) in [
            (-4.0_f32, -1.266_849_6e-4_f32),
            (-1.0, -0.158_655_25),
            (-0.1, -0.046_017_216),
            (0.0, 0.0),
            (0.5, 0.345_731_23),
            (1.0, 0.841_344_8),
            (3.0, 2.995_950_3),
            (10.0, 10.0),
        ] {
            let bound = 1e-7 + 2e-7 * x.abs();
            assert!((gelu::<true>(x) - want).abs() < bound, "gelu({x}) = {}", gelu::<true>(x));
            assert!((gelu::<false>(x) - want).abs() < bound);
        }
    }

    #[test]
    fn exp_is_close_to_the_library_for_every_exponent() {
        for i in 0..8_600 {
            let x = -(i as f32) / 100.0;
            let want = f64::from(x).exp();
            let got = f64::from(exp::<true>(x));
            assert!((got - want).abs() <= 3e-7 * want, "exp({x}) = {got}, not {want}");
        }
        assert!(exp::<false>(-1e9) < 1e-37);
    }

    #[test]
    fn softmax_equals_its_definition() {
        for n in [1, 7, 8, 33] {
            let mut row = normals(n, 3);
            let exps: Vec<f64> = row.iter().map(|&x| f64::from(x).exp()).collect();
            let total: f64 = exps.iter().sum();
            softmax(&mut row);
            for (got, e) in row.iter().zip(exps) {
                assert!((f64::from(*got) - e / total).abs() < 1e-6);
            }
        }
        softmax(&mut []);
    }

    #[test]
    fn shifted_exponentials_and_their_sum_equal_the_definition() {
        let mut hidden = [f32::NEG_INFINITY, 0.0, -100.0];
        assert_eq!(exp_shifted(&mut hidden, 0.0), 1.0);
        assert_eq!(hidden, [0.0, 1.0, 0.0]);
        for n in [0, 1, 7, 8, 100] {
            let mut row = normals(n, 4);
            let want: Vec<f64> = row.iter().map(|&x| (f64::from(x) - 9.0).exp()).collect();
            let total = f64::from(exp_shifted(&mut row, 9.0));
            let sum: f64 = want.iter().sum();
            assert!((total - sum).abs() <= 1e-6 * sum, "{total} is not {sum}");
            for (got, want) in row.iter().zip(want) {
                assert!((f64::from(*got) - want).abs() <= 1e-6 * want);
            }
        }
    }

    #[test]
    fn layer_norm_equals_its_definition() {
        let (gain, bias) = (normals(37, 1), normals(37, 2));
        let mut rows = normals(37 * 3, 4);
        let before = rows.clone();
        layer_norm(&mut rows, &gain, &bias, 1e-12);
        for (row, old) in rows.chunks(37).zip(before.chunks(37)) {
            let mean = old.iter().map(|&x| f64::from(x)).sum::<f64>() / 37.0;
            let variance = old.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / 37.0;
            for i in 0..37 {
                let want = (f64::from(old[i]) - mean) / variance.sqrt() * f64::from(gain[i]) + f64::from(bias[i]);
                assert!((f64::from(row[i]) - want).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn attention_equals_its_definition() {
        let (heads, head_dim) = (2, 16);
        let width = heads * head_dim;
        let mut scratch = AttentionScratch::default();
        for tokens in [40, 1, 17] {
            let qkv = normals(tokens * 3 * width, 5);
            let mut out = vec![0.0; tokens * width];
            attention(&qkv, heads, head_dim, &mut out, &mut scratch);
            let at = |token: usize, part: usize, i: usize| f64::from(qkv[token * 3 * width + part * width + i]);
            for t in 0..tokens {
                for h in 0..heads {
                    let span = h * head_dim..(h + 1) * head_dim;
                    let weights: Vec<f64> = (0..tokens)
                        .map(|u| span.clone().map(|i| at(t, 0, i) * at(u, 1, i)).sum::<f64>().exp())
                        .collect();
                    let total: f64 = weights.iter().sum();
                    for i in span {
                        let want: f64 = (0..tokens).map(|u| weights[u] / total * at(u, 2, i)).sum();
                        assert!((f64::from(out[t * width + i]) - want).abs() < 1e-5);
                    }
                }
            }
        }
    }
}
