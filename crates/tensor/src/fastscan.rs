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
}

/// Calls `visit(slot, distance)` for every code whose distance is at most `limit`, in the order of slots. The distance is that of the sum
/// of the entries of `table` which the code names, plus the code's own term if there are `terms`. `visit` returns the limit from then on;
/// within a block of 32 codes the limit at its start may still be in force.
///
/// # Panics
/// When the table hasn't 16 entries for each part of the codes, there are more than [`MAX_PARTS`], or not as many terms as codes.
pub fn scan(
    table: &ByteTable,
    codes: &PackedCodes,
    terms: Option<&[f32]>,
    limit: f32,
    visit: impl FnMut(usize, f32) -> f32,
) {
    let parts = codes.parts;
    assert!(
        table.bytes.len() == CENTROIDS * parts && (1..=MAX_PARTS).contains(&parts),
        "a table of {} entries for {parts} parts",
        table.bytes.len()
    );
    assert!(terms.is_none_or(|terms| terms.len() == codes.len), "terms for {} codes", codes.len);
    match Kernel::detect() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `Avx512` and `Avx2` are only made after run-time detection, the only condition of the calls.
        Kernel::Avx512 => unsafe { x86::scan_avx512(table, codes, terms, limit, visit) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Kernel::Avx2 => unsafe { x86::scan_avx2(table, codes, terms, limit, visit) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: `Neon` is only made after run-time detection.
        Kernel::Neon => unsafe { neon::scan(table, codes, terms, limit, visit) },
        Kernel::Portable => each_block(codes, terms, limit, visit, |block, terms, limit, distances| {
            compare(&portable(&table.bytes, block), table, terms, limit, distances)
        }),
    }
}

/// The loop of [`scan`], given how the distances of one block are computed: it says which lanes are within the limit, as bits, and writes
/// all distances if there is one.
#[expect(clippy::inline_always, reason = "compiled once more with the instructions of each kernel")]
#[inline(always)]
fn each_block(
    codes: &PackedCodes,
    terms: Option<&[f32]>,
    mut limit: f32,
    mut visit: impl FnMut(usize, f32) -> f32,
    block_distances: impl Fn(&[u8], Option<&[f32; BLOCK]>, f32, &mut [f32; BLOCK]) -> u32,
) {
    let mut distances = [0.0; BLOCK];
    for (nth, block) in codes.blocks.chunks_exact(16 * codes.parts).enumerate() {
        let from = nth * BLOCK;
        let here = (codes.len - from).min(BLOCK);
        let mut last = [0.0; BLOCK];
        let terms = terms.map(|terms| {
            terms[from..].first_chunk::<BLOCK>().unwrap_or_else(|| {
                last[..here].copy_from_slice(&terms[from..]);
                &last
            })
        });
        let mut below = block_distances(block, terms, limit, &mut distances);
        if here < BLOCK {
            below &= (1 << here) - 1;
        }
        while below != 0 {
            let lane = below.trailing_zeros() as usize;
            below &= below - 1;
            limit = visit(from + lane, distances[lane]);
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

fn portable(table: &[u8], block: &[u8]) -> [u16; BLOCK] {
    let mut sums = [0; BLOCK];
    for (table, codes) in table.as_chunks::<16>().0.iter().zip(block.as_chunks::<16>().0) {
        for (lane, &byte) in codes.iter().enumerate() {
            sums[lane] += u16::from(table[usize::from(byte & 15)]);
            sums[lane + 16] += u16::from(table[usize::from(byte >> 4)]);
        }
    }
    sums
}

/// Distances of the sums, and the lanes within the limit. Every kernel rounds as this one does.
#[expect(clippy::inline_always, reason = "compiled once more with the instructions of each kernel")]
#[inline(always)]
fn compare(
    sums: &[u16; BLOCK],
    table: &ByteTable,
    terms: Option<&[f32; BLOCK]>,
    limit: f32,
    distances: &mut [f32; BLOCK],
) -> u32 {
    for (distance, &sum) in distances.iter_mut().zip(sums) {
        *distance = table.distance(sum);
    }
    if let Some(terms) = terms {
        for (distance, term) in distances.iter_mut().zip(terms) {
            *distance += term;
        }
    }
    distances.iter().rev().fold(0, |bits, &distance| bits << 1 | u32::from(distance <= limit))
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{BLOCK, ByteTable, PackedCodes, each_block};
    use std::arch::x86_64::{
        __m256, __m256i, __m512, __m512i, _CMP_LE_OQ, _mm_loadu_si128, _mm256_add_epi16, _mm256_add_ps,
        _mm256_and_si256, _mm256_castsi256_si128, _mm256_cmp_ps, _mm256_cvtepi32_ps, _mm256_cvtepu16_epi32,
        _mm256_extracti128_si256, _mm256_inserti128_si256, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_movemask_ps,
        _mm256_mul_ps, _mm256_permute4x64_epi64, _mm256_set1_epi8, _mm256_set1_ps, _mm256_setzero_si256,
        _mm256_shuffle_epi8, _mm256_slli_epi16, _mm256_srli_epi16, _mm256_storeu_ps, _mm256_sub_epi16,
        _mm256_unpackhi_epi16, _mm256_unpacklo_epi16, _mm512_add_epi16, _mm512_add_ps, _mm512_and_si512,
        _mm512_castsi512_si256, _mm512_cmp_ps_mask, _mm512_cvtepi32_ps, _mm512_cvtepu16_epi32,
        _mm512_extracti64x4_epi64, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mul_ps, _mm512_set1_epi8,
        _mm512_set1_ps, _mm512_setzero_si512, _mm512_shuffle_epi8, _mm512_srli_epi16, _mm512_storeu_ps,
    };

    /// [`super::scan`] with the kernel of 512 bits.
    #[target_feature(enable = "avx512f,avx512bw,avx2")]
    pub(super) fn scan_avx512(
        table: &ByteTable,
        codes: &PackedCodes,
        terms: Option<&[f32]>,
        limit: f32,
        visit: impl FnMut(usize, f32) -> f32,
    ) {
        each_block(codes, terms, limit, visit, |block, terms, limit, distances| {
            compare_wide(avx512(&table.bytes, block), table, terms, limit, distances)
        });
    }

    /// [`super::scan`] with the kernel of 256 bits.
    #[target_feature(enable = "avx2")]
    pub(super) fn scan_avx2(
        table: &ByteTable,
        codes: &PackedCodes,
        terms: Option<&[f32]>,
        limit: f32,
        visit: impl FnMut(usize, f32) -> f32,
    ) {
        each_block(codes, terms, limit, visit, |block, terms, limit, distances| {
            compare(avx2(&table.bytes, block), table, terms, limit, distances)
        });
    }

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
    #[inline]
    #[target_feature(enable = "avx2")]
    fn avx2(table: &[u8], block: &[u8]) -> (__m256i, __m256i) {
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
        (low.sums(), high.sums())
    }

    /// Four parts a step, one in each quarter of a register.
    #[inline]
    #[target_feature(enable = "avx512bw,avx2")]
    fn avx512(table: &[u8], block: &[u8]) -> (__m256i, __m256i) {
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
        (low.sums(), high.sums())
    }

    /// [`super::compare`], eight lanes a step.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn compare(
        (low, high): (__m256i, __m256i),
        table: &ByteTable,
        terms: Option<&[f32; BLOCK]>,
        limit: f32,
        distances: &mut [f32; BLOCK],
    ) -> u32 {
        let (scale, floor, most) = (_mm256_set1_ps(table.scale), _mm256_set1_ps(table.floor), _mm256_set1_ps(limit));
        let quarters = [
            _mm256_castsi256_si128(low),
            _mm256_extracti128_si256::<1>(low),
            _mm256_castsi256_si128(high),
            _mm256_extracti128_si256::<1>(high),
        ];
        let mut below = 0;
        let mut found = [_mm256_set1_ps(0.0); 4];
        for (nth, sums) in quarters.into_iter().enumerate() {
            let sums = _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(sums));
            let mut distance = _mm256_add_ps(floor, _mm256_mul_ps(scale, sums));
            if let Some(terms) = terms.and_then(|terms| terms[8 * nth..].first_chunk::<8>()) {
                distance = _mm256_add_ps(distance, load_floats(terms));
            }
            below |= (_mm256_movemask_ps(_mm256_cmp_ps::<_CMP_LE_OQ>(distance, most)) as u32) << (8 * nth);
            found[nth] = distance;
        }
        if below != 0 {
            for (to, distances) in distances.as_chunks_mut::<8>().0.iter_mut().zip(found) {
                // SAFETY: the array holds the eight values that are written; the store needs no alignment.
                unsafe { _mm256_storeu_ps(to.as_mut_ptr(), distances) };
            }
        }
        below
    }

    /// [`super::compare`], sixteen lanes a step.
    #[inline]
    #[target_feature(enable = "avx512f,avx2")]
    fn compare_wide(
        (low, high): (__m256i, __m256i),
        table: &ByteTable,
        terms: Option<&[f32; BLOCK]>,
        limit: f32,
        distances: &mut [f32; BLOCK],
    ) -> u32 {
        let (scale, floor, most) = (_mm512_set1_ps(table.scale), _mm512_set1_ps(table.floor), _mm512_set1_ps(limit));
        let distance =
            |sums| _mm512_add_ps(floor, _mm512_mul_ps(scale, _mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(sums))));
        let (mut first, mut second) = (distance(low), distance(high));
        if let Some((low, high)) = terms.map(|terms| terms.split_at(16))
            && let (Some(low), Some(high)) = (low.first_chunk(), high.first_chunk())
        {
            (first, second) =
                (_mm512_add_ps(first, load_wide_floats(low)), _mm512_add_ps(second, load_wide_floats(high)));
        }
        let within = |distance: __m512| u32::from(_mm512_cmp_ps_mask::<_CMP_LE_OQ>(distance, most));
        let below = within(first) | within(second) << 16;
        if below != 0 {
            for (to, distances) in distances.as_chunks_mut::<16>().0.iter_mut().zip([first, second]) {
                // SAFETY: the array holds the sixteen values that are written; the store needs no alignment.
                unsafe { _mm512_storeu_ps(to.as_mut_ptr(), distances) };
            }
        }
        below
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn load_floats(values: &[f32; 8]) -> __m256 {
        // SAFETY: the array holds the eight values that are read, and this load needs no alignment.
        unsafe { _mm256_loadu_ps(values.as_ptr()) }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn load_wide_floats(values: &[f32; 16]) -> __m512 {
        // SAFETY: the array holds the sixteen values that are read, and this load needs no alignment.
        unsafe { _mm512_loadu_ps(values.as_ptr()) }
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
    use super::{BLOCK, ByteTable, PackedCodes, compare, each_block};
    use std::arch::aarch64::{
        uint8x16_t, uint16x8_t, vaddw_high_u8, vaddw_u8, vandq_u8, vdupq_n_u8, vdupq_n_u16, vget_low_u8, vld1q_u8,
        vqtbl1q_u8, vshrq_n_u8, vst1q_u16,
    };

    /// [`super::scan`] with sums of 128 bits.
    #[target_feature(enable = "neon")]
    pub(super) fn scan(
        table: &ByteTable,
        codes: &PackedCodes,
        terms: Option<&[f32]>,
        limit: f32,
        visit: impl FnMut(usize, f32) -> f32,
    ) {
        each_block(codes, terms, limit, visit, |block, terms, limit, distances| {
            compare(&sums(&table.bytes, block), table, terms, limit, distances)
        });
    }

    #[inline]
    #[target_feature(enable = "neon")]
    fn sums(table: &[u8], block: &[u8]) -> [u16; BLOCK] {
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
        let mut sums = [0; BLOCK];
        let (quarters, _) = sums.as_chunks_mut::<8>();
        for (to, lanes) in quarters.iter_mut().zip(lanes) {
            // SAFETY: the array holds the eight values that are written.
            unsafe { vst1q_u16(to.as_mut_ptr(), lanes) };
        }
        sums
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
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 48 }))]
        #[test]
        fn sums_are_those_of_the_naive_loop(parts in 1usize..70, len in 0usize..100, seed in any::<u64>()) {
            let (table, codes, packed) = world(parts, len, seed);
            let table = ByteTable::new(&table);
            let naive = |code: &[u8]| -> u16 {
                let entry = |(part, &c): (usize, &u8)| u16::from(table.bytes[16 * part + usize::from(c)]);
                code.iter().enumerate().map(entry).sum()
            };
            let own: Vec<f32> = (0..len).map(|i| (i as f32 * 0.7).sin()).collect();
            for terms in [None, Some(&own[..])] {
                let term = |i: usize| terms.map_or(0.0, |terms| terms[i]);
                let expected: Vec<(usize, f32)> =
                    codes.iter().enumerate().map(|(i, c)| (i, table.distance(naive(c)) + term(i))).collect();
                let mut seen = Vec::new();
                scan(&table, &packed, terms, f32::INFINITY, |slot, d| { seen.push((slot, d)); f32::INFINITY });
                prop_assert_eq!(&seen, &expected);
                let middle = expected.get(len / 2).map_or(0.0, |e| e.1);
                let mut near = Vec::new();
                scan(&table, &packed, terms, middle, |slot, d| { near.push((slot, d)); middle });
                let expected: Vec<(usize, f32)> = expected.into_iter().filter(|e| e.1 <= middle).collect();
                prop_assert_eq!(near, expected);
            }
            for (i, code) in codes.iter().enumerate() {
                prop_assert_eq!(&packed.get(i), code);
            }
        }

        #[test]
        #[cfg(target_arch = "x86_64")]
        fn every_kernel_agrees_with_the_portable_one(
            parts in 1usize..=MAX_PARTS, len in 1usize..80, seed in any::<u64>(), limit in 0f32..70_000.0
        ) {
            type Scan = unsafe fn(&ByteTable, &PackedCodes, Option<&[f32]>, f32, &mut dyn FnMut(usize, f32) -> f32);
            let (_, _, codes) = world(parts, len, seed);
            let mut rng = SplitMix64::new(seed);
            // Bytes at which sums of 16 bits are nearly full.
            let bytes = (0..16 * parts).map(|_| if rng.chance(0.5) { 255 } else { rng.below(256) as u8 }).collect();
            let table = ByteTable { bytes, scale: 1.01, floor: -0.3 };
            let terms: Vec<f32> = (0..len).map(|_| rng.normal() as f32 * 100.0).collect();
            let mut kernels: Vec<Scan> = Vec::new();
            if is_x86_feature_detected!("avx2") {
                kernels.push(|t, c, terms, limit, visit| unsafe { x86::scan_avx2(t, c, terms, limit, visit) });
            }
            if Kernel::detect() == Kernel::Avx512 {
                kernels.push(|t, c, terms, limit, visit| unsafe { x86::scan_avx512(t, c, terms, limit, visit) });
            }
            for terms in [None, Some(&terms[..])] {
                let mut expected = Vec::new();
                each_block(&codes, terms, limit, |slot, d| { expected.push((slot, d)); limit }, |block, terms, limit, out| {
                    compare(&portable(&table.bytes, block), &table, terms, limit, out)
                });
                for kernel in &kernels {
                    let mut seen = Vec::new();
                    // SAFETY: each kernel is only listed when the processor has its instructions.
                    unsafe { kernel(&table, &codes, terms, limit, &mut |slot, d| { seen.push((slot, d)); limit }) };
                    prop_assert_eq!(&seen, &expected);
                }
            }
        }
    }

    #[test]
    fn byte_tables_are_within_half_a_step_an_entry() {
        let (table, codes, _) = world(24, 50, 3);
        let bytes = ByteTable::new(&table);
        for code in codes {
            let exact: f32 = code.iter().enumerate().map(|(p, &c)| table[16 * p + usize::from(c)]).sum();
            let sum = code.iter().enumerate().map(|(p, &c)| u16::from(bytes.bytes[16 * p + usize::from(c)])).sum();
            assert!((bytes.distance(sum) - exact).abs() <= 24.0 * 0.5 * bytes.scale() + 1e-4);
        }
        assert_eq!(ByteTable::new(&[2.0; 32]).distance(0), 4.0, "no range, every sum is 0");
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
