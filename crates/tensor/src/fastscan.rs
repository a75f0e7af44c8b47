//! Distances to 4-bit product codes, 32 vectors at a time, by table look-ups inside vector registers (André, Kermarrec and Le Scouarnec,
//! "Cache locality is not enough: high-performance nearest neighbor search with product quantization fast scan", VLDB 2015).
//!
//! A 4-bit code has 16 values, so the table of one part has 16 entries; quantized to a byte each they fill one 128-bit register, and the
//! processor's byte shuffle looks up 16 codes in one instruction. The sums are kept in 16 bits.
//!
//! Codes lie in blocks of 32 vectors: for each part 16 bytes, of which byte `j` holds the code of vector `j` in its low and that of
//! vector `j + 16` in its high four bits.

/// Vectors a block.
pub const BLOCK: usize = 32;
/// Entries of the table of one part.
pub const CENTROIDS: usize = 16;
/// Most parts: 257 bytes of 255 still fit 16 bits.
pub const MAX_PARTS: usize = 256;

/// Codes of 4 bits a part, in the blocks that [`scan`] reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedCodes {
    parts: usize,
    len: usize,
    blocks: Vec<u8>,
}

impl PackedCodes {
    /// No codes yet; each will have `parts` parts.
    pub fn new(parts: usize) -> Self {
        Self { parts, len: 0, blocks: Vec::new() }
    }

    /// `len` codes from the bytes of [`Self::as_bytes`]; `None` when there are too few or too many.
    pub fn from_bytes(parts: usize, len: usize, blocks: Vec<u8>) -> Option<Self> {
        let bytes = len.div_ceil(BLOCK).checked_mul(16)?.checked_mul(parts)?;
        (blocks.len() == bytes).then_some(Self { parts, len, blocks })
    }

    /// Number of codes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The blocks: `16 * parts` bytes for each started 32 codes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.blocks
    }

    /// Appends a code: one value below 16 for each part (higher bits are cut off).
    ///
    /// # Panics
    /// When `code` hasn't the stated number of parts.
    pub fn push(&mut self, code: &[u8]) {
        assert_eq!(code.len(), self.parts, "parts of a code");
        if self.len.is_multiple_of(BLOCK) {
            self.blocks.resize(self.blocks.len() + 16 * self.parts, 0);
        }
        self.len += 1;
        self.set(self.len - 1, code);
    }

    /// The code in `slot`, one byte a part.
    ///
    /// # Panics
    /// When `slot` is not below [`Self::len`].
    pub fn get(&self, slot: usize) -> Vec<u8> {
        assert!(slot < self.len, "slot {slot} of {} codes", self.len);
        let (at, shift) = self.place(slot);
        (0..self.parts).map(|part| self.blocks[at + 16 * part] >> shift & 15).collect()
    }

    /// Removes the code in `slot`; the last one moves there.
    ///
    /// # Panics
    /// When `slot` is not below [`Self::len`].
    pub fn swap_remove(&mut self, slot: usize) {
        let last = self.get(self.len - 1);
        self.set(slot, &last);
        self.set(self.len - 1, &vec![0; self.parts]);
        self.len -= 1;
        self.blocks.truncate(self.len.div_ceil(BLOCK) * 16 * self.parts);
    }

    fn set(&mut self, slot: usize, code: &[u8]) {
        let (at, shift) = self.place(slot);
        for (part, &value) in code.iter().enumerate() {
            let byte = &mut self.blocks[at + 16 * part];
            *byte = *byte & !(15 << shift) | (value & 15) << shift;
        }
    }

    /// Byte of the first part, and the position of the four bits within it.
    fn place(&self, slot: usize) -> (usize, usize) {
        let (block, lane) = (slot / BLOCK, slot % BLOCK);
        (block * 16 * self.parts + lane % 16, lane / 16 * 4)
    }
}

/// A table of distances, one byte an entry: entry = `floor + scale * byte sum` for the sum over all parts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ByteTable {
    bytes: Vec<u8>,
    scale: f32,
    floor: f32,
}

impl ByteTable {
    /// Quantizes `table`, 16 entries a part. Every part's least entry becomes 0, and the greatest range of any part 255: no entry is off
    /// by more than half of [`Self::scale`], and the sum over `parts` by no more than `parts` times that.
    pub fn new(table: &[f32]) -> Self {
        let mut out = Self::default();
        out.fill(table);
        out
    }

    /// [`Self::new`] in place.
    pub fn fill(&mut self, table: &[f32]) {
        let (parts, _) = table.as_chunks::<CENTROIDS>();
        self.bytes.resize(parts.len() * CENTROIDS, 0);
        let (bytes, _) = self.bytes.as_chunks_mut::<CENTROIDS>();
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2, the only condition of the call.
            (self.floor, self.scale) = unsafe { x86::quantize(parts, bytes) };
            return;
        }
        (self.floor, self.scale) = quantize(parts, bytes);
    }

    /// The distance that one step of a sum stands for.
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// The distance that a sum of bytes stands for.
    pub fn distance(&self, sum: u16) -> f32 {
        self.floor + self.scale * f32::from(sum)
    }

    /// The greatest sum whose distance is at most `distance`; `None` when there is none.
    pub fn limit(&self, distance: f32) -> Option<u16> {
        if distance.is_nan() || distance < self.floor {
            return None;
        }
        if self.scale <= 0.0 {
            return Some(u16::MAX);
        }
        // One step up, because the division rounds.
        Some(((distance - self.floor) / self.scale + 1.0).min(65_535.0) as u16)
    }
}

/// Sums the entries of `table` that each code names and calls `visit(slot, sum)` for those with `sum <= limit`, in the order of slots.
/// `visit` returns the limit from then on; within a block of 32 codes the limit at its start may still be in force.
///
/// # Panics
/// When the table hasn't 16 entries for each part of the codes, or there are more than [`MAX_PARTS`].
pub fn scan(table: &ByteTable, codes: &PackedCodes, mut limit: u16, mut visit: impl FnMut(usize, u16) -> u16) {
    let parts = codes.parts;
    assert!(
        table.bytes.len() == CENTROIDS * parts && (1..=MAX_PARTS).contains(&parts),
        "a table of {} entries for {parts} parts",
        table.bytes.len()
    );
    let kernel = Kernel::detect();
    let mut sums = [0u16; BLOCK];
    for (nth, block) in codes.blocks.chunks_exact(16 * parts).enumerate() {
        let mut below = kernel.block(&table.bytes, block, limit, &mut sums);
        let here = (codes.len - nth * BLOCK).min(BLOCK);
        if here < BLOCK {
            below &= (1 << here) - 1;
        }
        while below != 0 {
            let lane = below.trailing_zeros() as usize;
            below &= below - 1;
            limit = visit(nth * BLOCK + lane, sums[lane]);
        }
    }
}

/// The instruction set that sums a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kernel {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "aarch64")]
    Neon,
    Portable,
}

impl Kernel {
    fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx2") {
                return Self::Avx512;
            }
            if is_x86_feature_detected!("avx2") {
                return Self::Avx2;
            }
        }
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("neon") {
            return Self::Neon;
        }
        Self::Portable
    }

    /// The 32 sums of a block, and the lanes whose sum is at most `limit` as bits. `sums` is only written where there is such a lane.
    #[inline]
    fn block(self, table: &[u8], block: &[u8], limit: u16, sums: &mut [u16; BLOCK]) -> u32 {
        assert_eq!(table.len(), block.len());
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Avx512` and `Avx2` are only made after run-time detection; the kernels read as many bytes of each slice as it has.
            Self::Avx512 => unsafe { x86::avx512(table, block, limit, sums) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Self::Avx2 => unsafe { x86::avx2(table, block, limit, sums) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: `Neon` is only made after run-time detection.
            Self::Neon => unsafe { neon::block(table, block, limit, sums) },
            Self::Portable => portable(table, block, limit, sums),
        }
    }
}

/// Floor and scale of the table, and its bytes.
#[expect(clippy::inline_always, reason = "compiled once more inside the AVX2 version")]
#[inline(always)]
fn quantize(parts: &[[f32; CENTROIDS]], bytes: &mut [[u8; CENTROIDS]]) -> (f32, f32) {
    let (mut floor, mut range) = (0.0, 0.0f32);
    for part in parts {
        let low = least(part);
        let spread = -least(&part.map(|x| -x)) - low;
        floor += low;
        range = if spread > range { spread } else { range };
    }
    let scale = range / 255.0;
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    for (part, bytes) in parts.iter().zip(bytes) {
        let low = least(part);
        for (byte, x) in bytes.iter_mut().zip(part) {
            *byte = (((x - low) * inverse + 0.5) as i32).min(255) as u8;
        }
    }
    (floor, scale)
}

/// The least of the values, by halves: a chain of comparisons would wait for each of them.
#[expect(clippy::inline_always, reason = "compiled once more inside the AVX2 version")]
#[inline(always)]
fn least(part: &[f32; CENTROIDS]) -> f32 {
    let mut lanes = *part;
    for half in [8, 4, 2, 1] {
        let (low, high) = lanes.split_at_mut(half);
        for (a, b) in low.iter_mut().zip(high) {
            *a = if *b < *a { *b } else { *a };
        }
    }
    lanes[0]
}

fn portable(table: &[u8], block: &[u8], limit: u16, sums: &mut [u16; BLOCK]) -> u32 {
    *sums = [0; BLOCK];
    for (table, codes) in table.as_chunks::<16>().0.iter().zip(block.as_chunks::<16>().0) {
        for (lane, &byte) in codes.iter().enumerate() {
            sums[lane] += u16::from(table[usize::from(byte & 15)]);
            sums[lane + 16] += u16::from(table[usize::from(byte >> 4)]);
        }
    }
    sums.iter().rev().fold(0, |bits, &sum| bits << 1 | u32::from(sum <= limit))
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::BLOCK;
    use std::arch::x86_64::{
        __m256i, __m512i, _mm_loadu_si128, _mm256_add_epi16, _mm256_and_si256, _mm256_castsi256_si128,
        _mm256_cmpeq_epi16, _mm256_inserti128_si256, _mm256_loadu_si256, _mm256_min_epu16, _mm256_movemask_epi8,
        _mm256_packs_epi16, _mm256_permute4x64_epi64, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_setzero_si256,
        _mm256_shuffle_epi8, _mm256_slli_epi16, _mm256_srli_epi16, _mm256_storeu_si256, _mm256_sub_epi16,
        _mm256_unpackhi_epi16, _mm256_unpacklo_epi16, _mm512_add_epi16, _mm512_and_si512, _mm512_castsi512_si256,
        _mm512_extracti64x4_epi64, _mm512_loadu_si512, _mm512_set1_epi8, _mm512_setzero_si512, _mm512_shuffle_epi8,
        _mm512_srli_epi16,
    };

    /// Sums of bytes for 16 vectors: those of even lanes with 256 times those of odd lanes in `all`, those of odd lanes in `odd`.
    struct Pair {
        all: __m256i,
        odd: __m256i,
    }

    impl Pair {
        /// The 16 sums in the order of the lanes, after the two 128-bit halves (two parts of the same vectors) are added.
        #[target_feature(enable = "avx2")]
        fn sums(self) -> __m256i {
            let even = _mm256_sub_epi16(self.all, _mm256_slli_epi16::<8>(self.odd));
            let fold = |x: __m256i| {
                let swapped = _mm256_permute4x64_epi64::<0b01_00_11_10>(x);
                _mm256_add_epi16(x, swapped)
            };
            let (even, odd) = (fold(even), fold(self.odd));
            // Interleave: lane 0 is even 0, lane 1 odd 0, ...
            let low = _mm256_unpacklo_epi16(even, odd);
            let high = _mm256_unpackhi_epi16(even, odd);
            _mm256_inserti128_si256::<1>(low, _mm256_castsi256_si128(high))
        }
    }

    /// The plain loop, compiled for this instruction set.
    #[target_feature(enable = "avx2")]
    pub(super) fn quantize(parts: &[[f32; 16]], bytes: &mut [[u8; 16]]) -> (f32, f32) {
        super::quantize(parts, bytes)
    }

    /// Two parts a step, one in each half of a register.
    #[target_feature(enable = "avx2")]
    pub(super) fn avx2(table: &[u8], block: &[u8], limit: u16, sums: &mut [u16; BLOCK]) -> u32 {
        let low_bits = _mm256_set1_epi8(15);
        let zero = _mm256_setzero_si256();
        let (mut low, mut high) = (Pair { all: zero, odd: zero }, Pair { all: zero, odd: zero });
        let step = |table: __m256i, codes: __m256i, low: &mut Pair, high: &mut Pair| {
            let first = _mm256_shuffle_epi8(table, _mm256_and_si256(codes, low_bits));
            let second = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16::<4>(codes), low_bits));
            low.all = _mm256_add_epi16(low.all, first);
            low.odd = _mm256_add_epi16(low.odd, _mm256_srli_epi16::<8>(first));
            high.all = _mm256_add_epi16(high.all, second);
            high.odd = _mm256_add_epi16(high.odd, _mm256_srli_epi16::<8>(second));
        };
        let (table_pairs, table_rest) = table.as_chunks::<32>();
        let (code_pairs, code_rest) = block.as_chunks::<32>();
        for (table, codes) in table_pairs.iter().zip(code_pairs) {
            step(load(table), load(codes), &mut low, &mut high);
        }
        if let (Some(table), Some(codes)) = (table_rest.first_chunk::<16>(), code_rest.first_chunk::<16>()) {
            // The other half looks up zeros.
            step(half(table), half(codes), &mut low, &mut high);
        }
        finish(low.sums(), high.sums(), limit, sums)
    }

    /// Four parts a step, one in each quarter of a register.
    #[target_feature(enable = "avx512bw,avx2")]
    pub(super) fn avx512(table: &[u8], block: &[u8], limit: u16, sums: &mut [u16; BLOCK]) -> u32 {
        let low_bits = _mm512_set1_epi8(15);
        let zero = _mm512_setzero_si512();
        let (mut low_all, mut low_odd, mut high_all, mut high_odd) = (zero, zero, zero, zero);
        let (table_quads, table_rest) = table.as_chunks::<64>();
        let (code_quads, code_rest) = block.as_chunks::<64>();
        let mut step = |table: __m512i, codes: __m512i| {
            let first = _mm512_shuffle_epi8(table, _mm512_and_si512(codes, low_bits));
            let second = _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16::<4>(codes), low_bits));
            low_all = _mm512_add_epi16(low_all, first);
            low_odd = _mm512_add_epi16(low_odd, _mm512_srli_epi16::<8>(first));
            high_all = _mm512_add_epi16(high_all, second);
            high_odd = _mm512_add_epi16(high_odd, _mm512_srli_epi16::<8>(second));
        };
        for (table, codes) in table_quads.iter().zip(code_quads) {
            step(load_wide(table), load_wide(codes));
        }
        if !table_rest.is_empty() {
            let (mut table, mut codes) = ([0u8; 64], [0u8; 64]);
            table[..table_rest.len()].copy_from_slice(table_rest);
            codes[..code_rest.len()].copy_from_slice(code_rest);
            step(load_wide(&table), load_wide(&codes));
        }
        let halves = |x: __m512i| _mm256_add_epi16(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64::<1>(x));
        // `all` may wrap around 16 bits on the way; what is left after subtracting the odd lanes is exact modulo 2^16.
        let low = Pair { all: halves(low_all), odd: halves(low_odd) };
        let high = Pair { all: halves(high_all), odd: halves(high_odd) };
        finish(low.sums(), high.sums(), limit, sums)
    }

    /// Compares the 32 sums with the limit and stores them if any is at most that.
    #[target_feature(enable = "avx2")]
    fn finish(low: __m256i, high: __m256i, limit: u16, sums: &mut [u16; BLOCK]) -> u32 {
        let limit = _mm256_set1_epi16(limit as i16);
        let within = |x: __m256i| _mm256_cmpeq_epi16(_mm256_min_epu16(x, limit), x);
        let packed = _mm256_packs_epi16(within(low), within(high));
        // Packing works in halves: put the quarters in the order of the vectors.
        let ordered = _mm256_permute4x64_epi64::<0b11_01_10_00>(packed);
        let below = _mm256_movemask_epi8(ordered) as u32;
        if below != 0 {
            let (first, second) = sums.split_at_mut(16);
            // SAFETY: both halves hold the 16 values of 16 bits that are written; the store needs no alignment.
            unsafe {
                _mm256_storeu_si256(first.as_mut_ptr().cast(), low);
                _mm256_storeu_si256(second.as_mut_ptr().cast(), high);
            }
        }
        below
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn load(bytes: &[u8; 32]) -> __m256i {
        // SAFETY: the array holds the 32 bytes that are read, and this load needs no alignment.
        unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn half(bytes: &[u8; 16]) -> __m256i {
        // SAFETY: the array holds the 16 bytes that are read, and this load needs no alignment.
        let low = unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) };
        _mm256_inserti128_si256::<0>(_mm256_setzero_si256(), low)
    }

    #[inline]
    #[target_feature(enable = "avx512bw")]
    fn load_wide(bytes: &[u8; 64]) -> __m512i {
        // SAFETY: the array holds the 64 bytes that are read, and this load needs no alignment.
        unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
    }
}

#[cfg(target_arch = "aarch64")]
mod neon {
    use super::BLOCK;
    use std::arch::aarch64::{
        uint8x16_t, uint16x8_t, vaddw_high_u8, vaddw_u8, vandq_u8, vdupq_n_u8, vdupq_n_u16, vget_low_u8, vld1q_u8,
        vqtbl1q_u8, vshrq_n_u8, vst1q_u16,
    };

    #[target_feature(enable = "neon")]
    pub(super) fn block(table: &[u8], block: &[u8], limit: u16, sums: &mut [u16; BLOCK]) -> u32 {
        let mut lanes: [uint16x8_t; 4] = [vdupq_n_u16(0); 4];
        for (table, codes) in table.as_chunks::<16>().0.iter().zip(block.as_chunks::<16>().0) {
            let (table, codes) = (load(table), load(codes));
            let first = vqtbl1q_u8(table, vandq_u8(codes, vdupq_n_u8(15)));
            let second = vqtbl1q_u8(table, vshrq_n_u8::<4>(codes));
            lanes[0] = vaddw_u8(lanes[0], vget_low_u8(first));
            lanes[1] = vaddw_high_u8(lanes[1], first);
            lanes[2] = vaddw_u8(lanes[2], vget_low_u8(second));
            lanes[3] = vaddw_high_u8(lanes[3], second);
        }
        let (quarters, _) = sums.as_chunks_mut::<8>();
        for (to, lanes) in quarters.iter_mut().zip(lanes) {
            // SAFETY: the array holds the eight values that are written.
            unsafe { vst1q_u16(to.as_mut_ptr(), lanes) };
        }
        sums.iter().rev().fold(0, |bits, &sum| bits << 1 | u32::from(sum <= limit))
    }

    #[inline]
    #[target_feature(enable = "neon")]
    fn load(bytes: &[u8; 16]) -> uint8x16_t {
        // SAFETY: the array holds the 16 bytes that are read.
        unsafe { vld1q_u8(bytes.as_ptr()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SplitMix64;
    use proptest::prelude::*;

    fn world(parts: usize, len: usize, seed: u64) -> (Vec<f32>, Vec<Vec<u8>>, PackedCodes) {
        let mut rng = SplitMix64::new(seed);
        let table = (0..parts * CENTROIDS).map(|_| rng.normal() as f32).collect();
        let codes: Vec<Vec<u8>> = (0..len).map(|_| (0..parts).map(|_| rng.below(16) as u8).collect()).collect();
        let mut packed = PackedCodes::new(parts);
        for code in &codes {
            packed.push(code);
        }
        (table, codes, packed)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn sums_are_those_of_the_naive_loop(parts in 1usize..70, len in 0usize..100, seed in any::<u64>()) {
            let (table, codes, packed) = world(parts, len, seed);
            let table = ByteTable::new(&table);
            let naive = |code: &[u8]| -> u16 {
                let entry = |(part, &c): (usize, &u8)| u16::from(table.bytes[16 * part + usize::from(c)]);
                code.iter().enumerate().map(entry).sum()
            };
            let mut seen = Vec::new();
            scan(&table, &packed, u16::MAX, |slot, sum| { seen.push((slot, sum)); u16::MAX });
            let expected: Vec<(usize, u16)> = codes.iter().enumerate().map(|(i, c)| (i, naive(c))).collect();
            prop_assert_eq!(&seen, &expected);
            let middle = expected.get(len / 2).map_or(0, |e| e.1);
            let mut near = Vec::new();
            scan(&table, &packed, middle, |slot, sum| { near.push((slot, sum)); middle });
            let expected: Vec<(usize, u16)> = expected.into_iter().filter(|e| e.1 <= middle).collect();
            prop_assert_eq!(near, expected);
            for (i, code) in codes.iter().enumerate() {
                prop_assert_eq!(&packed.get(i), code);
            }
        }

        #[test]
        fn every_kernel_agrees_with_the_portable_one(parts in 1usize..=MAX_PARTS, seed in any::<u64>(), limit in any::<u16>()) {
            let mut rng = SplitMix64::new(seed);
            let mut bytes = || (0..16 * parts).map(|_| if rng.chance(0.5) { 255 } else { rng.below(256) as u8 }).collect::<Vec<u8>>();
            let (table, block) = (bytes(), bytes());
            let (mut one, mut two) = ([0; BLOCK], [0; BLOCK]);
            let expected = Kernel::Portable.block(&table, &block, limit, &mut one);
            let mut kernels = vec![Kernel::detect()];
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx2") {
                kernels.push(Kernel::Avx2);
            }
            for kernel in kernels {
                prop_assert_eq!(kernel.block(&table, &block, limit, &mut two), expected);
                if expected != 0 {
                    prop_assert_eq!(one, two);
                }
            }
        }
    }

    #[test]
    fn byte_tables_are_within_half_a_step_an_entry_and_limits_are_not_too_low() {
        let (table, codes, _) = world(24, 50, 3);
        let bytes = ByteTable::new(&table);
        for code in codes {
            let exact: f32 = code.iter().enumerate().map(|(p, &c)| table[16 * p + usize::from(c)]).sum();
            let sum = code.iter().enumerate().map(|(p, &c)| u16::from(bytes.bytes[16 * p + usize::from(c)])).sum();
            assert!((bytes.distance(sum) - exact).abs() <= 24.0 * 0.5 * bytes.scale() + 1e-4);
            assert!(bytes.limit(bytes.distance(sum)).unwrap() >= sum);
        }
        assert_eq!(bytes.limit(bytes.distance(0) - 1.0), None);
        assert_eq!(ByteTable::new(&[2.0; 32]).limit(5.0), Some(u16::MAX), "no range, every sum is 0");
    }

    #[test]
    fn removal_moves_the_last_code_and_bytes_round_trip() {
        let (_, mut codes, mut packed) = world(5, 70, 9);
        for slot in [0, 33, 60, 66] {
            packed.swap_remove(slot);
            codes.swap_remove(slot);
        }
        assert_eq!((packed.len(), packed.as_bytes().len()), (66, 3 * 16 * 5));
        packed.swap_remove(1);
        codes.swap_remove(1);
        packed.swap_remove(5);
        codes.swap_remove(5);
        assert_eq!((packed.len(), packed.as_bytes().len()), (64, 2 * 16 * 5));
        let back = PackedCodes::from_bytes(5, 64, packed.as_bytes().to_vec()).unwrap();
        assert_eq!(back, packed);
        assert!((0..64).all(|i| back.get(i) == codes[i]));
        assert_eq!(PackedCodes::from_bytes(5, 65, packed.as_bytes().to_vec()), None);
        assert_eq!(PackedCodes::from_bytes(usize::MAX, usize::MAX, vec![]), None);
    }
}
