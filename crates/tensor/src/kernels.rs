//! Dot product, squared Euclidean distance and cosine of f32 vectors: AVX-512, AVX2 with FMA, or NEON where the processor
//! has them (asked at run time), else plain Rust.
//!
//! All three sum in a fixed order, so the same processor kind gives the same bits; between the vector units and the
//! scalar fallback results differ by rounding only.

use crate::Matrix;

/// The instruction set that the kernels use on this machine: `"avx512"`, `"avx2+fma"`, `"neon"` or `"scalar"`.
pub fn instruction_set() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    if avx512::available() {
        return "avx512";
    }
    #[cfg(target_arch = "x86_64")]
    if avx2::available() {
        return "avx2+fma";
    }
    #[cfg(target_arch = "aarch64")]
    if std::arch::is_aarch64_feature_detected!("neon") {
        return "neon";
    }
    "scalar"
}

/// Sum of `a[i] * b[i]`; 0 for empty vectors.
///
/// # Panics
/// When the lengths differ, as slice indexing does.
#[inline]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    reduce::<false>(a, b)
}

/// Sum of `(a[i] - b[i])^2`; 0 for empty vectors.
///
/// # Panics
/// When the lengths differ, as slice indexing does.
#[inline]
pub fn squared_l2(a: &[f32], b: &[f32]) -> f32 {
    reduce::<true>(a, b)
}

/// Cosine of the angle between `a` and `b`, within `[-1, 1]`; 0 when either has length zero.
///
/// # Panics
/// When the lengths differ, as slice indexing does.
#[inline]
pub fn cosine(a: &[f32], b: &[f32]) -> f32 {
    // The product of two f32 squares is exact in f64, so the cosine of a vector with itself is exactly 1.
    let norms = (f64::from(dot(a, a)) * f64::from(dot(b, b))).sqrt();
    if norms == 0.0 {
        return 0.0;
    }
    (f64::from(dot(a, b)) / norms).clamp(-1.0, 1.0) as f32
}

/// Euclidean length of `a`.
#[inline]
pub fn norm(a: &[f32]) -> f32 {
    dot(a, a).sqrt()
}

/// Asks the processor to fetch `data` into its nearest cache, without waiting for it: a hint, worth giving a few hundred nanoseconds
/// before memory that the processor can't foresee is read.
#[inline]
pub fn prefetch<T>(data: &[T]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let start = data.as_ptr().cast::<i8>();
        for line in (0..size_of_val(data)).step_by(64) {
            // SAFETY: the address lies within `data`; a prefetch reads nothing that the program can see.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(start.add(line)) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = data;
}

/// [`dot`] of `query` with each row of `rows`.
///
/// # Panics
/// When `query` hasn't the dimension of the rows.
pub fn dot_rows(query: &[f32], rows: &Matrix) -> Vec<f32> {
    rows.iter_rows().map(|row| dot(query, row)).collect()
}

/// Sum of `a[i] * b[i]` of signed bytes, exact for up to 131,072 of them; 0 for empty vectors.
///
/// # Panics
/// When the lengths differ.
#[inline]
pub fn dot_i8(a: &[i8], b: &[i8]) -> i32 {
    assert_eq!(a.len(), b.len(), "vectors of different dimension");
    #[cfg(target_arch = "x86_64")]
    if avx2::available() {
        // SAFETY: the processor has AVX2, the only condition of the call.
        return unsafe { avx2::dot_i8(a, b) };
    }
    scalar::dot_i8(a, b)
}

/// The value of half precision bits.
#[inline]
pub fn f16_value(bits: u16) -> f32 {
    half::f16::from_bits(bits).to_f32()
}

/// Sum of `a[i]` times the half precision values `b[i]`, in f32.
///
/// # Panics
/// When the lengths differ.
#[inline]
pub fn dot_f16(a: &[f32], b: &[u16]) -> f32 {
    assert_eq!(a.len(), b.len(), "vectors of different dimension");
    #[cfg(target_arch = "x86_64")]
    if avx2::available() && std::arch::is_x86_feature_detected!("f16c") {
        // SAFETY: the processor has AVX2, FMA and F16C, the only conditions of the call.
        return unsafe { avx2::dot_f16(a, b) };
    }
    a.iter().zip(b).map(|(&x, &y)| x * f16_value(y)).sum()
}

/// Sum of `a[i]` times the signed byte `b[i]`, in f32.
///
/// # Panics
/// When the lengths differ.
#[inline]
pub fn dot_levels(a: &[f32], b: &[i8]) -> f32 {
    assert_eq!(a.len(), b.len(), "vectors of different dimension");
    #[cfg(target_arch = "x86_64")]
    if avx2::available() {
        // SAFETY: the processor has AVX2 and FMA, the only condition of the call.
        return unsafe { avx2::dot_levels(a, b) };
    }
    a.iter().zip(b).map(|(&x, &y)| x * f32::from(y)).sum()
}

/// For each part of `query` its product with (or squared distance to) each of the part's `centroids`, whose values lie in `columns` by
/// part, then by dimension of the part, then by centroid.
pub(crate) fn fill_table<const DIFFERENCE: bool>(
    query: &[f32],
    columns: &[f32],
    width: usize,
    centroids: usize,
    table: &mut [f32],
) {
    #[cfg(target_arch = "x86_64")]
    if avx2::available() {
        // SAFETY: the processor has AVX2 and FMA, the only condition of the call.
        return unsafe { avx2::fill_table::<DIFFERENCE>(query, columns, width, centroids, table) };
    }
    scalar::fill_table::<DIFFERENCE>(query, columns, width, centroids, table);
}

#[inline]
fn reduce<const DIFFERENCE: bool>(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "vectors of different dimension");
    #[cfg(target_arch = "x86_64")]
    if avx512::available() {
        // SAFETY: the processor has AVX-512F, the only condition of the call.
        return unsafe { avx512::reduce::<DIFFERENCE>(a, b) };
    }
    #[cfg(target_arch = "x86_64")]
    if avx2::available() {
        // SAFETY: the processor has AVX2 and FMA, the only condition of the call.
        return unsafe { avx2::reduce::<DIFFERENCE>(a, b) };
    }
    #[cfg(target_arch = "aarch64")]
    if std::arch::is_aarch64_feature_detected!("neon") {
        // SAFETY: the processor has NEON, the only condition of the call.
        return unsafe { neon::reduce::<DIFFERENCE>(a, b) };
    }
    scalar::reduce::<DIFFERENCE>(a, b)
}

mod scalar {
    /// Eight running sums: enough for the compiler to vectorise with whatever the target has, and closer to the exact
    /// sum than one.
    pub(super) fn reduce<const DIFFERENCE: bool>(a: &[f32], b: &[f32]) -> f32 {
        let (a_lanes, a_rest) = a.as_chunks::<8>();
        let (b_lanes, b_rest) = b.as_chunks::<8>();
        let mut sums = [0.0f32; 8];
        for (x, y) in a_lanes.iter().zip(b_lanes) {
            for lane in 0..8 {
                sums[lane] += term::<DIFFERENCE>(x[lane], y[lane]);
            }
        }
        sums.iter().sum::<f32>() + rest::<DIFFERENCE>(a_rest, b_rest)
    }

    pub(super) fn dot_i8(a: &[i8], b: &[i8]) -> i32 {
        a.iter().zip(b).map(|(&x, &y)| i32::from(x) * i32::from(y)).sum()
    }

    /// Sixteen centroids at a time, whose sums stay in registers over the dimensions of the part.
    #[expect(clippy::inline_always, reason = "compiled once more inside the AVX2 version")]
    #[inline(always)]
    pub(super) fn fill_table<const DIFFERENCE: bool>(
        query: &[f32],
        columns: &[f32],
        width: usize,
        centroids: usize,
        table: &mut [f32],
    ) {
        let parts = query.chunks_exact(width).zip(columns.chunks_exact(width * centroids));
        for ((query, columns), table) in parts.zip(table.chunks_exact_mut(centroids)) {
            let (blocks, rest) = table.as_chunks_mut::<16>();
            for (nth, block) in blocks.iter_mut().enumerate() {
                let mut sums = [0.0f32; 16];
                for (&q, column) in query.iter().zip(columns.chunks_exact(centroids)) {
                    if let Some(column) = column.get(16 * nth..).and_then(|c| c.first_chunk::<16>()) {
                        for (sum, &c) in sums.iter_mut().zip(column) {
                            *sum += term::<DIFFERENCE>(q, c);
                        }
                    }
                }
                *block = sums;
            }
            let done = centroids - rest.len();
            for (at, slot) in (done..).zip(rest) {
                let columns = columns.chunks_exact(centroids);
                *slot = query.iter().zip(columns).map(|(&q, column)| term::<DIFFERENCE>(q, column[at])).sum();
            }
        }
    }

    pub(super) fn rest<const DIFFERENCE: bool>(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(&x, &y)| term::<DIFFERENCE>(x, y)).sum()
    }

    #[inline]
    fn term<const DIFFERENCE: bool>(x: f32, y: f32) -> f32 {
        if DIFFERENCE { (x - y) * (x - y) } else { x * y }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::{
        __m512, __mmask16, _mm512_add_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_maskz_loadu_ps,
        _mm512_reduce_add_ps, _mm512_setzero_ps, _mm512_sub_ps,
    };

    #[inline]
    pub(super) fn available() -> bool {
        std::arch::is_x86_feature_detected!("avx512f")
    }

    /// Four registers of sixteen lanes hide the latency of the fused multiply-add; the rest of a vector is read under a mask.
    #[target_feature(enable = "avx512f")]
    pub(super) fn reduce<const DIFFERENCE: bool>(a: &[f32], b: &[f32]) -> f32 {
        let (a_blocks, a_rest) = a.as_chunks::<64>();
        let (b_blocks, b_rest) = b.as_chunks::<64>();
        let mut sums = [_mm512_setzero_ps(); 4];
        for (x, y) in a_blocks.iter().zip(b_blocks) {
            let (x, _) = x.as_chunks::<16>();
            let (y, _) = y.as_chunks::<16>();
            for register in 0..4 {
                sums[register] = step::<DIFFERENCE>(load(&x[register]), load(&y[register]), sums[register]);
            }
        }
        let (a_lanes, a_rest) = a_rest.as_chunks::<16>();
        let (b_lanes, b_rest) = b_rest.as_chunks::<16>();
        for (register, (x, y)) in a_lanes.iter().zip(b_lanes).enumerate() {
            sums[register] = step::<DIFFERENCE>(load(x), load(y), sums[register]);
        }
        if !a_rest.is_empty() {
            sums[3] = step::<DIFFERENCE>(load_part(a_rest), load_part(b_rest), sums[3]);
        }
        _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3])))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn load(lanes: &[f32; 16]) -> __m512 {
        // SAFETY: the array holds the sixteen floats that are read, and this load needs no alignment.
        unsafe { _mm512_loadu_ps(lanes.as_ptr()) }
    }

    /// Fewer than sixteen floats, and zeros in the other lanes.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn load_part(lanes: &[f32]) -> __m512 {
        let mask = ((1u32 << lanes.len().min(16)) - 1) as __mmask16;
        // SAFETY: only the lanes of the mask are read, and the slice holds them.
        unsafe { _mm512_maskz_loadu_ps(mask, lanes.as_ptr()) }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn step<const DIFFERENCE: bool>(x: __m512, y: __m512, sum: __m512) -> __m512 {
        if DIFFERENCE {
            let d = _mm512_sub_ps(x, y);
            _mm512_fmadd_ps(d, d, sum)
        } else {
            _mm512_fmadd_ps(x, y, sum)
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{
        __m256, _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_movehl_ps, _mm_shuffle_ps, _mm256_add_ps,
        _mm256_castps256_ps128, _mm256_extractf128_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_setzero_ps,
        _mm256_sub_ps,
    };

    #[inline]
    pub(super) fn available() -> bool {
        std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
    }

    /// Eight halves a step, widened to f32; four sums.
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) fn dot_f16(a: &[f32], b: &[u16]) -> f32 {
        let (a_blocks, a_rest) = a.as_chunks::<32>();
        let (b_blocks, b_rest) = b.as_chunks::<32>();
        let mut sums = [_mm256_setzero_ps(); 4];
        for (x, y) in a_blocks.iter().zip(b_blocks) {
            for (sum, (x, y)) in sums.iter_mut().zip(x.as_chunks::<8>().0.iter().zip(y.as_chunks::<8>().0)) {
                // SAFETY: the array holds the eight halves that are read, and this load needs no alignment.
                let halves = unsafe { std::arch::x86_64::_mm_loadu_si128(y.as_ptr().cast()) };
                *sum = _mm256_fmadd_ps(load(x), std::arch::x86_64::_mm256_cvtph_ps(halves), *sum);
            }
        }
        let rest: f32 = a_rest.iter().zip(b_rest).map(|(&x, &y)| x * super::f16_value(y)).sum();
        total(sums) + rest
    }

    /// Eight bytes a step, widened to f32; four sums.
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn dot_levels(a: &[f32], b: &[i8]) -> f32 {
        use std::arch::x86_64::{_mm_loadl_epi64, _mm256_cvtepi8_epi32, _mm256_cvtepi32_ps};
        let (a_blocks, a_rest) = a.as_chunks::<32>();
        let (b_blocks, b_rest) = b.as_chunks::<32>();
        let mut sums = [_mm256_setzero_ps(); 4];
        for (x, y) in a_blocks.iter().zip(b_blocks) {
            for (sum, (x, y)) in sums.iter_mut().zip(x.as_chunks::<8>().0.iter().zip(y.as_chunks::<8>().0)) {
                // SAFETY: the array holds the eight bytes that are read, and this load needs no alignment.
                let bytes = unsafe { _mm_loadl_epi64(y.as_ptr().cast()) };
                *sum = _mm256_fmadd_ps(load(x), _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)), *sum);
            }
        }
        let rest: f32 = a_rest.iter().zip(b_rest).map(|(&x, &y)| x * f32::from(y)).sum();
        total(sums) + rest
    }

    /// The sum of 32 lanes in a fixed order.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn total(sums: [__m256; 4]) -> f32 {
        let total = _mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3]));
        let four = _mm_add_ps(_mm256_castps256_ps128(total), _mm256_extractf128_ps::<1>(total));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
    }

    /// The plain loop, compiled for this instruction set.
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn fill_table<const DIFFERENCE: bool>(
        query: &[f32],
        columns: &[f32],
        width: usize,
        centroids: usize,
        table: &mut [f32],
    ) {
        super::scalar::fill_table::<DIFFERENCE>(query, columns, width, centroids, table);
    }

    /// Sixteen bytes a step, widened to 16 bits, products of pairs summed in 32.
    #[target_feature(enable = "avx2")]
    pub(super) fn dot_i8(a: &[i8], b: &[i8]) -> i32 {
        use std::arch::x86_64::{
            _mm_loadu_si128, _mm256_add_epi32, _mm256_cvtepi8_epi16, _mm256_madd_epi16, _mm256_setzero_si256,
            _mm256_storeu_si256,
        };
        let (a_blocks, a_rest) = a.as_chunks::<16>();
        let (b_blocks, b_rest) = b.as_chunks::<16>();
        let mut sum = _mm256_setzero_si256();
        for (x, y) in a_blocks.iter().zip(b_blocks) {
            // SAFETY: both arrays hold the 16 bytes that are read; these loads need no alignment.
            let (x, y) = unsafe { (_mm_loadu_si128(x.as_ptr().cast()), _mm_loadu_si128(y.as_ptr().cast())) };
            sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_cvtepi8_epi16(x), _mm256_cvtepi8_epi16(y)));
        }
        let mut lanes = [0i32; 8];
        // SAFETY: the array holds the eight values that are written.
        unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), sum) };
        lanes.iter().sum::<i32>() + super::scalar::dot_i8(a_rest, b_rest)
    }

    /// Four registers of eight lanes hide the latency of the fused multiply-add.
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn reduce<const DIFFERENCE: bool>(a: &[f32], b: &[f32]) -> f32 {
        let (a_blocks, a_rest) = a.as_chunks::<32>();
        let (b_blocks, b_rest) = b.as_chunks::<32>();
        let mut sums = [_mm256_setzero_ps(); 4];
        for (x, y) in a_blocks.iter().zip(b_blocks) {
            let (x, _) = x.as_chunks::<8>();
            let (y, _) = y.as_chunks::<8>();
            for register in 0..4 {
                sums[register] = step::<DIFFERENCE>(load(&x[register]), load(&y[register]), sums[register]);
            }
        }
        let (a_lanes, a_rest) = a_rest.as_chunks::<8>();
        let (b_lanes, b_rest) = b_rest.as_chunks::<8>();
        for (x, y) in a_lanes.iter().zip(b_lanes) {
            sums[0] = step::<DIFFERENCE>(load(x), load(y), sums[0]);
        }
        total(sums) + super::scalar::rest::<DIFFERENCE>(a_rest, b_rest)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn load(lanes: &[f32; 8]) -> __m256 {
        // SAFETY: the array holds the eight floats that are read, and this load needs no alignment.
        unsafe { _mm256_loadu_ps(lanes.as_ptr()) }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn step<const DIFFERENCE: bool>(x: __m256, y: __m256, sum: __m256) -> __m256 {
        if DIFFERENCE {
            let d = _mm256_sub_ps(x, y);
            _mm256_fmadd_ps(d, d, sum)
        } else {
            _mm256_fmadd_ps(x, y, sum)
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod neon {
    use std::arch::aarch64::{float32x4_t, vaddq_f32, vaddvq_f32, vdupq_n_f32, vfmaq_f32, vld1q_f32, vsubq_f32};

    /// Four registers of four lanes hide the latency of the fused multiply-add.
    #[target_feature(enable = "neon")]
    pub(super) fn reduce<const DIFFERENCE: bool>(a: &[f32], b: &[f32]) -> f32 {
        let (a_blocks, a_rest) = a.as_chunks::<16>();
        let (b_blocks, b_rest) = b.as_chunks::<16>();
        let mut sums = [vdupq_n_f32(0.0); 4];
        for (x, y) in a_blocks.iter().zip(b_blocks) {
            let (x, _) = x.as_chunks::<4>();
            let (y, _) = y.as_chunks::<4>();
            for register in 0..4 {
                sums[register] = step::<DIFFERENCE>(load(&x[register]), load(&y[register]), sums[register]);
            }
        }
        let (a_lanes, a_rest) = a_rest.as_chunks::<4>();
        let (b_lanes, b_rest) = b_rest.as_chunks::<4>();
        for (x, y) in a_lanes.iter().zip(b_lanes) {
            sums[0] = step::<DIFFERENCE>(load(x), load(y), sums[0]);
        }
        let total = vaddq_f32(vaddq_f32(sums[0], sums[1]), vaddq_f32(sums[2], sums[3]));
        vaddvq_f32(total) + super::scalar::rest::<DIFFERENCE>(a_rest, b_rest)
    }

    #[inline]
    #[target_feature(enable = "neon")]
    fn load(lanes: &[f32; 4]) -> float32x4_t {
        // SAFETY: the array holds the four floats that are read, and this load needs no alignment.
        unsafe { vld1q_f32(lanes.as_ptr()) }
    }

    #[inline]
    #[target_feature(enable = "neon")]
    fn step<const DIFFERENCE: bool>(x: float32x4_t, y: float32x4_t, sum: float32x4_t) -> float32x4_t {
        if DIFFERENCE {
            let d = vsubq_f32(x, y);
            vfmaq_f32(sum, d, d)
        } else {
            vfmaq_f32(sum, x, y)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SplitMix64;

    fn vectors(n: usize, seed: u64) -> (Vec<f32>, Vec<f32>) {
        let mut rng = SplitMix64::new(seed);
        let mut draw = || (0..n).map(|_| rng.normal() as f32).collect::<Vec<_>>();
        (draw(), draw())
    }

    /// The exact value to well below f32 rounding, and the sum of absolute terms that bounds the error.
    fn naive(a: &[f32], b: &[f32], term: impl Fn(f64, f64) -> f64) -> (f64, f64) {
        let terms = a.iter().zip(b).map(|(&x, &y)| term(f64::from(x), f64::from(y)));
        terms.fold((0.0, 0.0), |(sum, size), t| (sum + t, size + t.abs()))
    }

    fn product(x: f64, y: f64) -> f64 {
        x * y
    }

    fn squared_difference(x: f64, y: f64) -> f64 {
        (x - y) * (x - y)
    }

    fn assert_near(got: f32, (exact, size): (f64, f64), what: &str) {
        let bound = 4.0 * f64::from(f32::EPSILON) * size;
        assert!((f64::from(got) - exact).abs() <= bound, "{what}: {got} vs {exact}");
    }

    #[test]
    fn every_length_and_alignment_agrees_with_the_exact_sum() {
        for n in 0..=67 {
            let (a, b) = vectors(n + 3, n as u64);
            for offset in 0..3 {
                let (a, b) = (&a[offset..offset + n], &b[3 - offset..3 - offset + n]);
                let what = format!("length {n}, offset {offset}");
                assert_near(dot(a, b), naive(a, b, product), &what);
                assert_near(squared_l2(a, b), naive(a, b, squared_difference), &what);
                assert_near(scalar::reduce::<false>(a, b), naive(a, b, product), &what);
                assert_near(scalar::reduce::<true>(a, b), naive(a, b, squared_difference), &what);
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "long")]
    fn long_vectors_agree_with_the_exact_sum() {
        for n in [256, 384, 768, 3_072, 100_003] {
            let (a, b) = vectors(n, 5);
            assert_near(dot(&a, &b), naive(&a, &b, product), "dot");
            assert_near(squared_l2(&a, &b), naive(&a, &b, squared_difference), "squared_l2");
            assert_near(scalar::reduce::<false>(&a, &b), naive(&a, &b, product), "scalar dot");
        }
    }

    #[test]
    fn cosine_is_exact_for_equal_and_opposite_vectors_and_zero_for_none() {
        for n in 1..=67 {
            let (a, b) = vectors(n, 11);
            let opposite: Vec<f32> = a.iter().map(|x| -x).collect();
            assert_eq!(cosine(&a, &a), 1.0);
            assert_eq!(cosine(&a, &opposite), -1.0);
            assert!(cosine(&a, &b).abs() <= 1.0);
        }
        assert_eq!(cosine(&[0.0, 0.0], &[1.0, 2.0]), 0.0);
        assert_eq!(cosine(&[], &[]), 0.0);
        assert!((cosine(&[3.0, 4.0], &[4.0, 3.0]) - 0.96).abs() < 1e-7);
        // Squares near the top of the f32 range don't overflow the product of the norms.
        assert!((cosine(&[1e18, 1e18], &[1e18, 0.0]) - std::f32::consts::FRAC_1_SQRT_2).abs() < 1e-6);
    }

    #[test]
    fn values_that_are_not_numbers_are_not_hidden() {
        let (mut a, b) = vectors(40, 2);
        a[17] = f32::NAN;
        assert!(dot(&a, &b).is_nan());
        assert!(squared_l2(&a, &b).is_nan());
        assert!(cosine(&a, &b).is_nan());
    }

    #[test]
    fn products_of_bytes_are_exact() {
        let mut rng = SplitMix64::new(8);
        for n in 0..70 {
            let mut draw = || (0..n).map(|_| rng.below(256) as u8 as i8).collect::<Vec<_>>();
            let (a, b) = (draw(), draw());
            assert_eq!(dot_i8(&a, &b), scalar::dot_i8(&a, &b));
        }
        assert_eq!(dot_i8(&[-128; 100], &[-128; 100]), 1_638_400);
    }

    #[test]
    fn products_with_small_types_are_those_of_their_values() {
        let mut rng = SplitMix64::new(9);
        for n in 0..100 {
            let a: Vec<f32> = (0..n).map(|_| rng.normal() as f32).collect();
            let halves: Vec<u16> = (0..n).map(|_| half::f16::from_f64(rng.normal()).to_bits()).collect();
            let levels: Vec<i8> = (0..n).map(|_| rng.below(256) as u8 as i8).collect();
            let wide: Vec<f32> = halves.iter().map(|&h| f16_value(h)).collect();
            assert_near(dot_f16(&a, &halves), naive(&a, &wide, product), "halves");
            let wide: Vec<f32> = levels.iter().map(|&l| f32::from(l)).collect();
            assert_near(dot_levels(&a, &levels), naive(&a, &wide, product), "bytes");
        }
    }

    #[test]
    #[should_panic(expected = "different dimension")]
    fn different_dimensions_are_refused() {
        dot(&[1.0, 2.0], &[1.0]);
    }

    #[test]
    fn rows_are_scored_one_by_one() {
        let rows = Matrix::from_rows(&[[1.0, 0.0], [0.5, 0.5]]).unwrap();
        assert_eq!(dot_rows(&[2.0, 4.0], &rows), [2.0, 3.0]);
        assert_eq!(norm(&[3.0, 4.0]), 5.0);
        assert!(["avx512", "avx2+fma", "neon", "scalar"].contains(&instruction_set()));
    }
}
