//! One bit a coordinate: the codes of Gao and Long, "RaBitQ: Quantizing High-Dimensional Vectors with a Theoretical Error Bound for
//! Approximate Nearest Neighbor Search" (SIGMOD 2024), laid out so that 32 of them are compared with a query at once.
//!
//! A vector `x` near a centre `c` is coded, after a random rotation of the space, by the signs `s` of `x - c` and by two numbers. With
//! `r` the length of `x - c` and `f` the cosine between `x - c` and its signs, `r <s, q - c> / f` is an estimate of `<x - c, q - c>`
//! without bias, whose error is at most about `r |q - c| sqrt(1 - f^2) / (f sqrt(dim))` with high probability; the squared distance
//! of `x` and a query `q` follows.

use crate::rng::SplitMix64;

/// Codes that lie together and are compared at once.
pub const BLOCK: usize = 32;

/// A random rotation: signs drawn by a seed, Hadamard transforms of the first and the last power of two of the coordinates, and
/// rotations by 45 degrees between the two halves; four rounds of it. Costs `O(dim log dim)`, keeps lengths, and makes every coordinate
/// of any vector look normal.
#[derive(Debug, Clone)]
pub struct Rotation {
    dim: usize,
    padded: usize,
    /// Four rounds of `padded` signs.
    signs: Vec<f32>,
}

impl Rotation {
    /// A rotation of vectors of `dim` values, drawn by `seed`. Coordinates are filled up with zeros to a multiple of 16.
    pub fn new(dim: usize, seed: u64) -> Self {
        let padded = dim.next_multiple_of(16).max(16);
        let mut rng = SplitMix64::new(seed);
        let signs = (0..4 * padded).map(|_| if rng.next_u64() >> 63 == 0 { 1.0 } else { -1.0 }).collect();
        Self { dim, padded, signs }
    }

    /// Number of coordinates of a rotated vector.
    pub fn padded(&self) -> usize {
        self.padded
    }

    /// Rotates `from` (at most `dim` values; those missing count as zero) into `to`, which gets [`Self::padded`] values.
    pub fn rotate(&self, from: &[f32], to: &mut Vec<f32>) {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2, the only condition of the call.
            return unsafe { avx2::rotate(self, from, to) };
        }
        self.rotate_on_any(from, to);
    }

    #[allow(clippy::inline_always)] // compiled anew for the lanes of each caller
    #[inline(always)]
    fn rotate_on_any(&self, from: &[f32], to: &mut Vec<f32>) {
        to.clear();
        to.extend_from_slice(&from[..from.len().min(self.dim)]);
        to.resize(self.padded, 0.0);
        let whole = 1 << self.padded.ilog2();
        for (round, signs) in self.signs.chunks_exact(self.padded).enumerate() {
            for (x, sign) in to.iter_mut().zip(signs) {
                *x *= sign;
            }
            let first = if round % 2 == 0 { 0 } else { self.padded - whole };
            hadamard(&mut to[first..first + whole]);
            if whole < self.padded {
                let (low, high) = to.split_at_mut(self.padded / 2);
                for (a, b) in low.iter_mut().zip(high) {
                    let scale = std::f32::consts::FRAC_1_SQRT_2;
                    (*a, *b) = ((*a + *b) * scale, (*a - *b) * scale);
                }
            }
        }
    }
}

/// The orthonormal Walsh-Hadamard transform of a power of two of values.
#[allow(clippy::inline_always)] // compiled anew for the lanes of each caller
#[inline(always)]
fn hadamard(values: &mut [f32]) {
    let mut half = 1;
    while half < values.len() {
        for pair in values.chunks_exact_mut(2 * half) {
            let (low, high) = pair.split_at_mut(half);
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
    let scale = 1.0 / (values.len() as f32).sqrt();
    for value in values {
        *value *= scale;
    }
}

/// Bytes of the codes of one [`BLOCK`] for rotated vectors of `padded` coordinates.
pub fn block_bytes(padded: usize) -> usize {
    padded * BLOCK / 8
}

/// Codes `x` as place `place` of a block around `centre` (both rotated): sets its bits in `codes`, which hold [`block_bytes`], zero at
/// first, and returns the two numbers `(shift, scale)` with which [`QueryTable::distances`] makes a distance of them.
///
/// # Panics
/// When the lengths don't match or `place` is beyond the block.
pub fn encode(centre: &[f32], x: &[f32], place: usize, codes: &mut [u8]) -> (f32, f32) {
    assert_eq!(centre.len(), x.len(), "vectors of different dimension");
    assert_eq!(codes.len(), block_bytes(x.len()), "bytes of a block");
    assert!(place < BLOCK, "place {place} of a block of {BLOCK}");
    let (mut squares, mut sizes, mut signed_centre) = (0.0f32, 0.0f32, 0.0f32);
    let high = 4 * (place / 16);
    let groups = x.as_chunks::<4>().0.iter().zip(centre.as_chunks::<4>().0);
    for ((x, c), codes) in groups.zip(codes.as_chunks_mut::<16>().0) {
        let mut bits = 0;
        for i in 0..4 {
            let offset = x[i] - c[i];
            squares += offset * offset;
            sizes += offset.abs();
            let positive = offset >= 0.0;
            signed_centre += if positive { c[i] } else { -c[i] };
            bits |= u8::from(positive) << i;
        }
        let byte = &mut codes[place % 16];
        *byte = *byte & !(15 << high) | bits << high;
    }
    if sizes == 0.0 {
        return (0.0, 0.0);
    }
    // r / f / sqrt(dim) is the squared length over the sum of sizes.
    let ratio = squares / sizes;
    (squares + 2.0 * ratio * signed_centre, -2.0 * ratio)
}

/// What 32 codes are compared with: for each group of four coordinates of the query, its signed sums by the 16 patterns of signs, in
/// eight bits.
#[derive(Debug, Clone, Default)]
pub struct QueryTable {
    sums: Vec<u8>,
    rotated: Vec<f32>,
    /// What one step of the sums is worth.
    step: f32,
    /// The sum that stands for zero.
    zero: f32,
}

impl QueryTable {
    /// Fills the table for `query`, which is rotated first.
    pub fn prepare(&mut self, rotation: &Rotation, query: &[f32]) {
        rotation.rotate(query, &mut self.rotated);
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2, the only condition of the call.
            return unsafe { avx2::fill(self) };
        }
        self.fill();
    }

    #[allow(clippy::inline_always)] // compiled anew for the lanes of each caller
    #[inline(always)]
    fn fill(&mut self) {
        let (groups, _) = self.rotated.as_chunks::<4>();
        // Sums of all groups must fit 16 bits.
        let half = (65_535 / groups.len().max(1) / 2).min(127) as f32;
        let largest =
            groups.iter().map(|group| group.iter().map(|x| x.abs()).sum::<f32>()).fold(f32::MIN_POSITIVE, f32::max);
        // Rounding adds up to half a step a coordinate.
        self.step = largest / (half - 2.0).max(1.0);
        self.zero = half * groups.len() as f32;
        let per_step = 1.0 / self.step;
        self.sums.resize(groups.len() * 16, 0);
        for (group, sums) in groups.iter().zip(self.sums.as_chunks_mut::<16>().0) {
            let steps = group.map(|x| (x * per_step).round_ties_even() as i16);
            let mut all = [0i16; 16];
            all[0] = half as i16 - steps.iter().sum::<i16>();
            for pattern in 1..16usize {
                all[pattern] = all[pattern & (pattern - 1)] + 2 * steps[pattern.trailing_zeros() as usize];
            }
            *sums = all.map(|sum| sum.clamp(0, 255) as u8);
        }
    }

    /// Estimates the squared distances of the query and the 32 vectors of a block: `from_centre` is the squared distance of the query
    /// and the block's centre, `shifts` and `scales` are what [`encode`] returned. Bit `i` of the result is set where `out[i] < bound`.
    ///
    /// # Panics
    /// When `codes` aren't a block of the table's dimension.
    #[inline]
    #[allow(clippy::too_many_arguments)]
    pub fn distances(
        &self,
        codes: &[u8],
        shifts: &[f32; BLOCK],
        scales: &[f32; BLOCK],
        from_centre: f32,
        bound: f32,
        out: &mut [f32; BLOCK],
    ) -> u32 {
        assert_eq!(codes.len(), self.sums.len(), "codes and table of different dimension");
        #[cfg(target_arch = "x86_64")]
        if avx512::available() {
            // SAFETY: the processor has AVX-512 F and BW, the only condition of the call.
            return unsafe { avx512::distances(self, codes, shifts, scales, from_centre, bound, out) };
        }
        #[cfg(target_arch = "x86_64")]
        let sums = if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2, the only condition of the call.
            unsafe { avx2::sums(codes, &self.sums) }
        } else {
            scalar_sums(codes, &self.sums)
        };
        #[cfg(not(target_arch = "x86_64"))]
        let sums = scalar_sums(codes, &self.sums);
        self.finish(&sums, shifts, scales, from_centre, bound, out)
    }

    fn finish(
        &self,
        sums: &[u16; BLOCK],
        shifts: &[f32; BLOCK],
        scales: &[f32; BLOCK],
        from_centre: f32,
        bound: f32,
        out: &mut [f32; BLOCK],
    ) -> u32 {
        let mut below = 0;
        for i in 0..BLOCK {
            let signed = (f32::from(sums[i]) - self.zero) * self.step;
            out[i] = signed.mul_add(scales[i], from_centre + shifts[i]);
            below |= u32::from(out[i] < bound) << i;
        }
        below
    }
}

/// For each of the 32 codes the sum of the table's entries, by the definition.
fn scalar_sums(codes: &[u8], table: &[u8]) -> [u16; BLOCK] {
    let mut sums = [0u16; BLOCK];
    for (codes, entries) in codes.as_chunks::<16>().0.iter().zip(table.as_chunks::<16>().0) {
        for (place, code) in codes.iter().enumerate() {
            sums[place] += u16::from(entries[usize::from(code & 15)]);
            sums[place + 16] += u16::from(entries[usize::from(code >> 4)]);
        }
    }
    sums
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{
        __m256i, _mm_add_epi16, _mm256_add_epi16, _mm256_and_si256, _mm256_castsi256_si128, _mm256_extracti128_si256,
        _mm256_loadu_si256, _mm256_set1_epi8, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_srli_epi16,
    };

    use super::{BLOCK, QueryTable, Rotation};

    /// The compiler's own eight lanes; the same operations in the same order, so the same bits.
    #[target_feature(enable = "avx2")]
    pub(super) fn rotate(rotation: &Rotation, from: &[f32], to: &mut Vec<f32>) {
        rotation.rotate_on_any(from, to);
    }

    /// As [`rotate`].
    #[target_feature(enable = "avx2")]
    pub(super) fn fill(table: &mut QueryTable) {
        table.fill();
    }

    /// Two groups a step. A byte's neighbour in its 16-bit lane is added along and taken off at the end.
    #[target_feature(enable = "avx2")]
    #[allow(clippy::cast_ptr_alignment)]
    pub(super) fn sums(codes: &[u8], table: &[u8]) -> [u16; BLOCK] {
        let low_bits = _mm256_set1_epi8(15);
        let mut sums = [_mm256_setzero_si256(); 4];
        let (code_pairs, code_rest) = codes.as_chunks::<32>();
        let (table_pairs, table_rest) = table.as_chunks::<32>();
        for (codes, entries) in code_pairs.iter().zip(table_pairs) {
            // SAFETY: both arrays hold the 32 bytes that are read, and these loads need no alignment.
            let (codes, entries) = unsafe {
                let load = |bytes: &[u8; 32]| _mm256_loadu_si256(bytes.as_ptr().cast::<__m256i>());
                (load(codes), load(entries))
            };
            let low = _mm256_shuffle_epi8(entries, _mm256_and_si256(codes, low_bits));
            let high = _mm256_shuffle_epi8(entries, _mm256_and_si256(_mm256_srli_epi16::<4>(codes), low_bits));
            sums[0] = _mm256_add_epi16(sums[0], low);
            sums[1] = _mm256_add_epi16(sums[1], _mm256_srli_epi16::<8>(low));
            sums[2] = _mm256_add_epi16(sums[2], high);
            sums[3] = _mm256_add_epi16(sums[3], _mm256_srli_epi16::<8>(high));
        }
        let mut result = super::scalar_sums(code_rest, table_rest);
        for half in 0..2 {
            let fold = |sum: __m256i| {
                let folded = _mm_add_epi16(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
                // SAFETY: eight lanes of 16 bits.
                unsafe { std::mem::transmute::<_, [u16; 8]>(folded) }
            };
            let (both, odd) = (fold(sums[2 * half]), fold(sums[2 * half + 1]));
            for lane in 0..8 {
                result[16 * half + 2 * lane] =
                    result[16 * half + 2 * lane].wrapping_add(both[lane].wrapping_sub(odd[lane] << 8));
                result[16 * half + 2 * lane + 1] = result[16 * half + 2 * lane + 1].wrapping_add(odd[lane]);
            }
        }
        result
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::{
        __m128i, __m256i, __m512i, _CMP_LT_OQ, _mm_add_epi16, _mm_slli_epi16, _mm_sub_epi16, _mm_unpackhi_epi16,
        _mm_unpacklo_epi16, _mm256_set_m128i, _mm512_add_epi16, _mm512_add_ps, _mm512_and_si512, _mm512_cmp_ps_mask,
        _mm512_cvtepi32_ps, _mm512_cvtepu16_epi32, _mm512_extracti32x4_epi32, _mm512_fmadd_ps, _mm512_loadu_ps,
        _mm512_loadu_si512, _mm512_mul_ps, _mm512_set1_epi8, _mm512_set1_ps, _mm512_setzero_si512, _mm512_shuffle_epi8,
        _mm512_srli_epi16, _mm512_storeu_ps, _mm512_sub_ps,
    };

    use super::{BLOCK, QueryTable};

    #[inline]
    pub(super) fn available() -> bool {
        std::arch::is_x86_feature_detected!("avx512f") && std::arch::is_x86_feature_detected!("avx512bw")
    }

    /// Four groups a step; as the AVX2 version otherwise.
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) fn distances(
        table: &QueryTable,
        codes: &[u8],
        shifts: &[f32; BLOCK],
        scales: &[f32; BLOCK],
        from_centre: f32,
        bound: f32,
        out: &mut [f32; BLOCK],
    ) -> u32 {
        let low_bits = _mm512_set1_epi8(15);
        let mut sums = [_mm512_setzero_si512(); 4];
        // The dimension is a multiple of 16, so that the groups come in fours.
        for (codes, entries) in codes.as_chunks::<64>().0.iter().zip(table.sums.as_chunks::<64>().0) {
            let (codes, entries) = (load(codes), load(entries));
            let low = _mm512_shuffle_epi8(entries, _mm512_and_si512(codes, low_bits));
            let high = _mm512_shuffle_epi8(entries, _mm512_and_si512(_mm512_srli_epi16::<4>(codes), low_bits));
            sums[0] = _mm512_add_epi16(sums[0], low);
            sums[1] = _mm512_add_epi16(sums[1], _mm512_srli_epi16::<8>(low));
            sums[2] = _mm512_add_epi16(sums[2], high);
            sums[3] = _mm512_add_epi16(sums[3], _mm512_srli_epi16::<8>(high));
        }
        let (zero, step) = (_mm512_set1_ps(table.zero), _mm512_set1_ps(table.step));
        let (base, bound) = (_mm512_set1_ps(from_centre), _mm512_set1_ps(bound));
        let mut below = 0;
        for half in 0..2 {
            let sums = _mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(fold(sums[2 * half], sums[2 * half + 1])));
            let signed = _mm512_mul_ps(_mm512_sub_ps(sums, zero), step);
            let from = 16 * half;
            // SAFETY: sixteen floats from place 0 or 16 of arrays of 32.
            let (shift, scale) =
                unsafe { (_mm512_loadu_ps(shifts.as_ptr().add(from)), _mm512_loadu_ps(scales.as_ptr().add(from))) };
            let distance = _mm512_fmadd_ps(signed, scale, _mm512_add_ps(base, shift));
            // SAFETY: as above.
            unsafe { _mm512_storeu_ps(out.as_mut_ptr().add(from), distance) };
            below |= u32::from(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(distance, bound)) << from;
        }
        below
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    #[allow(clippy::cast_ptr_alignment)]
    fn load(bytes: &[u8; 64]) -> __m512i {
        // SAFETY: the array holds the 64 bytes that are read, and this load needs no alignment.
        unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
    }

    /// The sums of sixteen codes in their order, from the sums of both bytes of each lane and of its odd byte alone.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn fold(both: __m512i, odd: __m512i) -> __m256i {
        let (both, odd) = (add_quarters(both), add_quarters(odd));
        let even = _mm_sub_epi16(both, _mm_slli_epi16::<8>(odd));
        _mm256_set_m128i(_mm_unpackhi_epi16(even, odd), _mm_unpacklo_epi16(even, odd))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn add_quarters(sum: __m512i) -> __m128i {
        _mm_add_epi16(
            _mm_add_epi16(_mm512_extracti32x4_epi32::<0>(sum), _mm512_extracti32x4_epi32::<1>(sum)),
            _mm_add_epi16(_mm512_extracti32x4_epi32::<2>(sum), _mm512_extracti32x4_epi32::<3>(sum)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{dot, squared_l2};

    fn normal(rng: &mut SplitMix64, n: usize) -> Vec<f32> {
        (0..n).map(|_| rng.normal() as f32).collect()
    }

    #[test]
    #[cfg_attr(miri, ignore = "long")]
    fn rotations_keep_products_and_spread_single_coordinates() {
        let mut rng = SplitMix64::new(1);
        for dim in [1, 3, 16, 25, 64, 100, 384] {
            let rotation = Rotation::new(dim, 7);
            let (a, b) = (normal(&mut rng, dim), normal(&mut rng, dim));
            let (mut x, mut y) = (Vec::new(), Vec::new());
            rotation.rotate(&a, &mut x);
            rotation.rotate(&b, &mut y);
            assert_eq!(x.len(), rotation.padded());
            assert!((dot(&x, &y) - dot(&a, &b)).abs() < 1e-4 * (dim as f32).sqrt().max(4.0), "{dim}");
            assert!((dot(&x, &x) / dot(&a, &a) - 1.0).abs() < 1e-5);
        }
        let rotation = Rotation::new(384, 3);
        let mut one = vec![0.0; 384];
        one[200] = 1.0;
        let mut x = Vec::new();
        rotation.rotate(&one, &mut x);
        let largest = x.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        assert!(largest < 6.0 / 384f32.sqrt(), "{largest}");
    }

    fn block(dim: usize, seed: u64) -> (Vec<f32>, Vec<Vec<f32>>, Vec<f32>) {
        let mut rng = SplitMix64::new(seed);
        let centre = normal(&mut rng, dim);
        let near = |rng: &mut SplitMix64, size: f32| centre.iter().map(|c| c + size * rng.normal() as f32).collect();
        let others: Vec<Vec<f32>> = (0..BLOCK).map(|i| near(&mut rng, 0.2 + 0.02 * i as f32)).collect();
        let query = near(&mut rng, 0.5);
        (centre, others, query)
    }

    fn estimates(dim: usize, seed: u64) -> (Vec<f32>, Vec<f32>) {
        let (centre, others, query) = block(dim, seed);
        let rotation = Rotation::new(dim, seed);
        let (mut c, mut x) = (Vec::new(), Vec::new());
        rotation.rotate(&centre, &mut c);
        let mut codes = vec![0; block_bytes(rotation.padded())];
        let (mut shifts, mut scales, mut out) = ([0.0; BLOCK], [0.0; BLOCK], [0.0; BLOCK]);
        for (place, other) in others.iter().enumerate() {
            rotation.rotate(other, &mut x);
            (shifts[place], scales[place]) = encode(&c, &x, place, &mut codes);
        }
        let mut table = QueryTable::default();
        table.prepare(&rotation, &query);
        let below = table.distances(&codes, &shifts, &scales, squared_l2(&query, &centre), 1e9, &mut out);
        assert_eq!(below, u32::MAX);
        let exact: Vec<f32> = others.iter().map(|other| squared_l2(&query, other)).collect();
        (out.to_vec(), exact)
    }

    /// The error is within five of the paper's standard deviations, and none is left in the mean over many rotations.
    #[test]
    #[cfg_attr(miri, ignore = "long")]
    fn distances_are_estimated_without_bias_and_within_the_bound() {
        let dim = 128;
        let (mut sum, mut size, mut count) = (0.0, 0.0, 0.0);
        for seed in 0..60 {
            let (centre, others, query) = block(dim, seed);
            let (estimated, exact) = estimates(dim, seed);
            for i in 0..BLOCK {
                let error = f64::from(estimated[i] - exact[i]);
                // f is sqrt(2 / pi) for a random direction.
                let r = squared_l2(&others[i], &centre).sqrt();
                let bound =
                    2.0 * r * squared_l2(&query, &centre).sqrt() * (0.363f32 / 0.637).sqrt() / (dim as f32).sqrt();
                assert!(error.abs() < 5.0 * f64::from(bound), "{error} {bound}");
                (sum, size, count) = (sum + error, size + error * error, count + 1.0);
            }
        }
        let standard_error = (size / count).sqrt() / f64::sqrt(count);
        assert!((sum / count).abs() < 4.0 * standard_error, "{} {standard_error}", sum / count);
    }

    #[test]
    fn kernels_equal_the_definition() {
        let mut rng = SplitMix64::new(9);
        let dims = [16, 32, 48, 384, 1_024, 2_000];
        for &dim in if cfg!(miri) { &dims[..3] } else { &dims } {
            let rotation = Rotation::new(dim, 5);
            let padded = rotation.padded();
            let codes: Vec<u8> = (0..block_bytes(padded)).map(|_| rng.next_u64() as u8).collect();
            let mut table = QueryTable::default();
            table.prepare(&rotation, &normal(&mut rng, dim));
            let sums = scalar_sums(&codes, &table.sums);
            #[cfg(target_arch = "x86_64")]
            if std::arch::is_x86_feature_detected!("avx2") {
                // SAFETY: just asked for.
                assert_eq!(unsafe { avx2::sums(&codes, &table.sums) }, sums);
            }
            let shifts: [f32; BLOCK] = std::array::from_fn(|i| i as f32 * 0.1);
            let scales: [f32; BLOCK] = std::array::from_fn(|i| 0.3 - i as f32 * 0.02);
            let (mut got, mut want) = ([0.0; BLOCK], [0.0; BLOCK]);
            let below = table.distances(&codes, &shifts, &scales, 1.5, 2.0, &mut got);
            table.finish(&sums, &shifts, &scales, 1.5, 2.0, &mut want);
            for i in 0..BLOCK {
                assert!((got[i] - want[i]).abs() <= 1e-5 * want[i].abs().max(1.0), "{dim} {i}: {} {}", got[i], want[i]);
                assert_eq!(below >> i & 1 == 1, got[i] < 2.0);
            }
        }
    }

    #[test]
    fn the_centre_itself_and_bits_set_twice() {
        let centre = vec![0.5f32; 16];
        let mut codes = vec![0xFF; block_bytes(16)];
        assert_eq!(encode(&centre, &centre, 3, &mut codes), (0.0, 0.0));
        let low = vec![0.0f32; 16];
        let (shift, scale) = encode(&centre, &low, 3, &mut codes);
        assert_eq!((shift, scale), (4.0 - 2.0 * 0.5 * 8.0, -1.0));
        assert!(codes.chunks(16).all(|group| group[3] == 0xF0 && group[4] == 0xFF));
    }
}
