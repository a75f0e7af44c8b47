//! Matrix products of f32: every row of one matrix with every row of another.
//!
//! The scheme is that of Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (ACM TOMS 2008), cut down to tall
//! left and modest right operands. The right operand is packed once into panels of 16 columns; a micro-kernel keeps a tile of 6 x 16
//! sums in registers while it walks down the shared dimension. On x86-64 with AVX2 and FMA the tile is written with intrinsics, elsewhere
//! in plain Rust that the compiler turns into the target's vector code.
//!
//! The sum for one output value runs in the same order whatever the number of rows or threads, so a row of the result depends
//! on its own operands only.

use crate::transformer::gelu;
use crate::{Matrix, TensorError};
use rayon::prelude::*;
use std::ops::Range;

/// Columns of a panel: two AVX2 registers, four NEON registers.
pub(crate) const NR: usize = 16;
/// Rows of a tile: 6 x 2 sums, 2 panel values and a broadcast fill 15 of AVX2's 16 registers.
const MR: usize = 6;
/// Depth of a packed block: 384 x 16 floats are 24 KiB, which stay in the first-level cache while the rows stream past.
const KC: usize = 384;
/// Rows one task of [`matmul_transposed`] computes: a multiple of 6 whose operand fits the second-level cache.
const TASK_ROWS: usize = 96;

/// All dot products of the rows of `a`, shape `(n, dim)`, with the rows of `b`, shape `(m, dim)`: A B^T, shape `(n, m)`.
///
/// An error when the dimensions differ. Either operand may be empty. NaN and infinity propagate as in plain arithmetic.
///
/// ```
/// use eas_tensor::{Matrix, gemm::matmul_transposed};
///
/// let a = Matrix::from_rows(&[[1.0, 2.0], [3.0, 4.0]])?;
/// let b = Matrix::from_rows(&[[1.0, 1.0], [0.0, 2.0], [5.0, 0.0]])?;
/// assert_eq!(matmul_transposed(&a, &b)?.as_slice(), [3.0, 4.0, 5.0, 7.0, 8.0, 15.0]);
/// # Ok::<(), eas_tensor::TensorError>(())
/// ```
pub fn matmul_transposed(a: &Matrix, b: &Matrix) -> Result<Matrix, TensorError> {
    if a.is_empty() || b.is_empty() {
        return Ok(Matrix::zeros(a.rows(), b.rows()));
    }
    if a.dim() != b.dim() {
        return Err(TensorError::Dimension { expected: a.dim(), got: b.dim() });
    }
    let mut out = Matrix::zeros(a.rows(), b.rows());
    if a.dim() == 0 {
        return Ok(out);
    }
    let packed = PackedMatrix::new(b);
    let (dim, columns) = (a.dim(), b.rows());
    out.as_mut_slice()
        .par_chunks_mut(TASK_ROWS * columns)
        .zip(a.as_slice().par_chunks(TASK_ROWS * dim))
        .for_each(|(out, a)| packed.product(a, out, Epilogue::None));
    Ok(out)
}

/// What happens to a sum before it is stored.
#[derive(Debug, Clone, Copy)]
pub enum Epilogue<'a> {
    /// Stored as it is.
    None,
    /// What the output held before is added.
    Residual,
    /// A bias a column is added.
    Bias(&'a [f32]),
    /// A bias is added, then GELU applied (Hendrycks and Gimpel 2016, the exact form with erf).
    BiasGelu(&'a [f32]),
    /// A bias and what the output held before are added: a residual connection.
    BiasResidual(&'a [f32]),
}

/// A matrix of weights, shape `(outputs, inputs)`, in the order in which the micro-kernel reads it.
#[derive(Debug, Clone)]
pub struct PackedMatrix {
    outputs: usize,
    inputs: usize,
    /// For each block of [`KC`] inputs, for each panel of [`NR`] outputs: the block's inputs in order, 16 outputs each.
    values: Vec<f32>,
}

impl PackedMatrix {
    /// Packs `weights`, one row an output.
    pub fn new(weights: &Matrix) -> Self {
        let (outputs, inputs) = (weights.rows(), weights.dim());
        let panels = outputs.div_ceil(NR);
        let mut values = vec![0.0; panels * NR * inputs];
        let mut at = 0;
        for depth in blocks(inputs) {
            for panel in 0..panels {
                let block = &mut values[at..at + depth.len() * NR];
                for (column, output) in (panel * NR..outputs.min((panel + 1) * NR)).enumerate() {
                    let row = &weights.row(output)[depth.clone()];
                    for (&w, slot) in row.iter().zip(block[column..].iter_mut().step_by(NR)) {
                        *slot = w;
                    }
                }
                at += block.len();
            }
        }
        Self { outputs, inputs, values }
    }

    /// Packs weights given as row-major `(inputs, outputs)`: the transpose of what [`new`](Self::new) takes.
    ///
    /// # Panics
    ///
    /// When `weights` doesn't hold `inputs * outputs` values.
    pub fn from_transposed(weights: &[f32], inputs: usize, outputs: usize) -> Self {
        assert_eq!(weights.len(), inputs * outputs, "weights of a product");
        let panels = outputs.div_ceil(NR);
        let mut values = vec![0.0; panels * NR * inputs];
        let mut at = 0;
        for depth in blocks(inputs) {
            for from in (0..panels).map(|panel| panel * NR) {
                let columns = (outputs - from).min(NR);
                for input in depth.clone() {
                    let row = &weights[input * outputs + from..][..columns];
                    values[at..at + columns].copy_from_slice(row);
                    at += NR;
                }
            }
        }
        Self { outputs, inputs, values }
    }

    /// Number of outputs: columns of the product.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Number of inputs: columns of the left operand.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// `out = epilogue(a W^T)` on the calling thread; `a` is row-major `(rows, inputs)`, `out` row-major `(rows, outputs)`.
    ///
    /// # Panics
    ///
    /// When the slices don't hold the same whole number of rows, or a bias isn't `outputs` long.
    pub fn product(&self, a: &[f32], out: &mut [f32], epilogue: Epilogue<'_>) {
        let (inputs, outputs) = (self.inputs, self.outputs);
        if inputs == 0 || outputs == 0 {
            return;
        }
        let rows = a.len() / inputs;
        assert_eq!(a.len(), rows * inputs, "left operand of a product");
        assert_eq!(out.len(), rows * outputs, "output of a product");
        if let Epilogue::Bias(bias) | Epilogue::BiasGelu(bias) | Epilogue::BiasResidual(bias) = epilogue {
            assert_eq!(bias.len(), outputs, "bias of a product");
        }
        let simd = Simd::detect();
        let mut at = 0;
        for depth in blocks(inputs) {
            let (first, last) = (depth.start == 0, depth.end == inputs);
            let accumulate = !first || matches!(epilogue, Epilogue::Residual | Epilogue::BiasResidual(_));
            for from in (0..outputs).step_by(NR) {
                let block = &self.values[at..at + depth.len() * NR];
                at += block.len();
                let columns = (outputs - from).min(NR);
                for row in (0..rows).step_by(MR) {
                    let height = (rows - row).min(MR);
                    let a = Operand { values: &a[row * inputs + depth.start..], stride: inputs };
                    let b = Operand { values: block, stride: NR };
                    if columns == NR {
                        let tile = &mut out[row * outputs + from..];
                        simd.tile(depth.len(), height, a, b, tile, outputs, accumulate);
                    } else {
                        // The last panel is wider than what is left of the output: compute beside it, copy the part that exists.
                        let mut tile = [0.0; MR * NR];
                        for r in 0..height {
                            let at = (row + r) * outputs + from;
                            tile[r * NR..r * NR + columns].copy_from_slice(&out[at..at + columns]);
                        }
                        simd.tile(depth.len(), height, a, b, &mut tile, NR, accumulate);
                        for r in 0..height {
                            let at = (row + r) * outputs + from;
                            out[at..at + columns].copy_from_slice(&tile[r * NR..r * NR + columns]);
                        }
                    }
                    if last {
                        for r in row..row + height {
                            let at = r * outputs + from;
                            let values = &mut out[at..at + columns];
                            match epilogue {
                                Epilogue::None | Epilogue::Residual => {}
                                Epilogue::Bias(bias) | Epilogue::BiasResidual(bias) => {
                                    for (x, b) in values.iter_mut().zip(&bias[from..]) {
                                        *x += b;
                                    }
                                }
                                Epilogue::BiasGelu(bias) => simd.bias_gelu(values, &bias[from..from + columns]),
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The depth cut into blocks of [`KC`].
fn blocks(depth: usize) -> impl Iterator<Item = Range<usize>> {
    (0..depth).step_by(KC).map(move |from| from..depth.min(from + KC))
}

/// A row-major operand whose rows lie `stride` apart.
#[derive(Clone, Copy)]
pub(crate) struct Operand<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) stride: usize,
}

/// The instruction set that the kernels of this module use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Simd {
    /// AVX2 with FMA, seen at run time.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// What the target guarantees.
    Portable,
}

impl Simd {
    /// The best set of this machine.
    pub(crate) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return Self::Avx2;
        }
        Self::Portable
    }

    /// Adds the products of `height <= 6` rows of `a` with 16 columns of `b` over `depth` to the tile of `out` (or overwrites it).
    ///
    /// `a` holds row r at `r * a.stride`, `b` holds the 16 columns of depth d at `d * b.stride`, `out` row r at `r * out_stride`.
    #[expect(clippy::too_many_arguments, reason = "the operands of a strided product")]
    #[inline]
    pub(crate) fn tile(
        self,
        depth: usize,
        height: usize,
        a: Operand<'_>,
        b: Operand<'_>,
        out: &mut [f32],
        out_stride: usize,
        accumulate: bool,
    ) {
        assert!(
            (1..=MR).contains(&height)
                && depth > 0
                && a.values.len() >= (height - 1) * a.stride + depth
                && b.values.len() >= (depth - 1) * b.stride + NR
                && out.len() >= (height - 1) * out_stride + NR
        );
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Avx2` is only made after run-time detection, and the assertion above bounds every access of the kernel.
            Self::Avx2 => unsafe {
                let (a, lda, b, ldb) = (a.values.as_ptr(), a.stride, b.values.as_ptr(), b.stride);
                let out = out.as_mut_ptr();
                match height {
                    1 => avx2::tile::<1>(depth, a, lda, b, ldb, out, out_stride, accumulate),
                    2 => avx2::tile::<2>(depth, a, lda, b, ldb, out, out_stride, accumulate),
                    3 => avx2::tile::<3>(depth, a, lda, b, ldb, out, out_stride, accumulate),
                    4 => avx2::tile::<4>(depth, a, lda, b, ldb, out, out_stride, accumulate),
                    5 => avx2::tile::<5>(depth, a, lda, b, ldb, out, out_stride, accumulate),
                    _ => avx2::tile::<6>(depth, a, lda, b, ldb, out, out_stride, accumulate),
                }
            },
            Self::Portable => match height {
                1 => portable::tile::<1>(depth, a, b, out, out_stride, accumulate),
                2 => portable::tile::<2>(depth, a, b, out, out_stride, accumulate),
                3 => portable::tile::<3>(depth, a, b, out, out_stride, accumulate),
                4 => portable::tile::<4>(depth, a, b, out, out_stride, accumulate),
                5 => portable::tile::<5>(depth, a, b, out, out_stride, accumulate),
                _ => portable::tile::<6>(depth, a, b, out, out_stride, accumulate),
            },
        }
    }

    /// `gelu(values + bias)` in place.
    #[inline]
    fn bias_gelu(self, values: &mut [f32], bias: &[f32]) {
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Avx2` is only made after run-time detection.
            Self::Avx2 => unsafe { avx2::bias_gelu(values, bias) },
            Self::Portable => portable::bias_gelu(values, bias),
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::{NR, gelu};
    use std::arch::x86_64::{
        __m256, _mm256_add_ps, _mm256_broadcast_ss, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_setzero_ps,
        _mm256_storeu_ps,
    };

    /// The micro-kernel for `M` rows.
    ///
    /// # Safety
    ///
    /// The machine has AVX2 and FMA, and the pointers cover what `Simd::tile` asserts.
    #[expect(clippy::too_many_arguments, reason = "the operands of a strided product")]
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn tile<const M: usize>(
        depth: usize,
        a: *const f32,
        lda: usize,
        b: *const f32,
        ldb: usize,
        out: *mut f32,
        ldc: usize,
        accumulate: bool,
    ) {
        let mut sums: [[__m256; 2]; M] = [[_mm256_setzero_ps(); 2]; M];
        for d in 0..depth {
            // SAFETY: `d < depth` and `r < M` stay within the operands, as the caller promises.
            unsafe {
                let row = b.add(d * ldb);
                let left = _mm256_loadu_ps(row);
                let right = _mm256_loadu_ps(row.add(NR / 2));
                for (r, sum) in sums.iter_mut().enumerate() {
                    let x = _mm256_broadcast_ss(&*a.add(r * lda + d));
                    sum[0] = _mm256_fmadd_ps(x, left, sum[0]);
                    sum[1] = _mm256_fmadd_ps(x, right, sum[1]);
                }
            }
        }
        for (r, sum) in sums.iter().enumerate() {
            // SAFETY: row `r < M` of the output has 16 columns, as the caller promises.
            unsafe {
                let row = out.add(r * ldc);
                let (mut left, mut right) = (sum[0], sum[1]);
                if accumulate {
                    left = _mm256_add_ps(left, _mm256_loadu_ps(row));
                    right = _mm256_add_ps(right, _mm256_loadu_ps(row.add(NR / 2)));
                }
                _mm256_storeu_ps(row, left);
                _mm256_storeu_ps(row.add(NR / 2), right);
            }
        }
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn bias_gelu(values: &mut [f32], bias: &[f32]) {
        for (x, b) in values.iter_mut().zip(bias) {
            *x = gelu::<true>(*x + b);
        }
    }
}

mod portable {
    use super::{NR, Operand, gelu};
    use crate::transformer::mul_add;

    /// True where a fused multiply-add is one instruction of the target's baseline.
    pub(super) const FUSED: bool = cfg!(any(target_arch = "aarch64", target_feature = "fma"));

    pub(super) fn tile<const M: usize>(
        depth: usize,
        a: Operand<'_>,
        b: Operand<'_>,
        out: &mut [f32],
        out_stride: usize,
        accumulate: bool,
    ) {
        let rows: [&[f32]; M] = std::array::from_fn(|r| &a.values[r * a.stride..r * a.stride + depth]);
        let mut sums = [[0.0_f32; NR]; M];
        for (d, columns) in b.values.chunks(b.stride).take(depth).enumerate() {
            let columns = &columns[..NR];
            for (row, sum) in rows.iter().zip(&mut sums) {
                let x = row[d];
                for (s, y) in sum.iter_mut().zip(columns) {
                    *s = mul_add::<FUSED>(x, *y, *s);
                }
            }
        }
        for (r, sum) in sums.iter().enumerate() {
            let row = &mut out[r * out_stride..r * out_stride + NR];
            for (x, s) in row.iter_mut().zip(sum) {
                *x = if accumulate { *x + s } else { *s };
            }
        }
    }

    pub(super) fn bias_gelu(values: &mut [f32], bias: &[f32]) {
        for (x, b) in values.iter_mut().zip(bias) {
            *x = gelu::<FUSED>(*x + b);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "long")]
    fn packing_the_transpose_is_packing_the_matrix() {
        let mut rng = crate::rng::SplitMix64::new(5);
        for (outputs, inputs) in [(1, 1), (16, 3), (17, 400), (33, 769)] {
            let values = (0..outputs * inputs).map(|_| rng.normal() as f32).collect();
            let matrix = Matrix::from_vec(outputs, inputs, values).unwrap();
            let transposed: Vec<f32> = (0..inputs * outputs).map(|at| matrix.row(at % outputs)[at / outputs]).collect();
            let packed = PackedMatrix::from_transposed(&transposed, inputs, outputs);
            assert_eq!(packed.values, PackedMatrix::new(&matrix).values);
        }
    }
    use crate::rng::SplitMix64;

    fn random(rows: usize, dim: usize, seed: u64) -> Matrix {
        let mut rng = SplitMix64::new(seed);
        Matrix::from_vec(rows, dim, (0..rows * dim).map(|_| rng.normal() as f32).collect()).unwrap()
    }

    /// Dot products in f64, and the sum of absolute products that bounds the rounding error.
    fn naive(a: &Matrix, b: &Matrix) -> Vec<(f64, f64)> {
        let dot = |x: &[f32], y: &[f32]| {
            x.iter().zip(y).fold((0.0, 0.0), |(s, t), (&x, &y)| {
                let p = f64::from(x) * f64::from(y);
                (s + p, t + p.abs())
            })
        };
        a.iter_rows().flat_map(|x| b.iter_rows().map(move |y| dot(x, y))).collect()
    }

    #[test]
    #[cfg_attr(miri, ignore = "long")]
    fn products_equal_dot_products_in_double_precision_for_every_remainder() {
        for (n, m, dim) in [(1, 1, 1), (6, 16, 384), (7, 17, 385), (13, 33, 800), (97, 5, 3), (200, 40, 64)] {
            let (a, b) = (random(n, dim, 1), random(m, dim, 2));
            let got = matmul_transposed(&a, &b).unwrap();
            for (got, (want, bound)) in got.as_slice().iter().zip(naive(&a, &b)) {
                assert!((f64::from(*got) - want).abs() <= 1e-6 * bound + 1e-9, "{n} x {m} x {dim}: {got} for {want}");
            }
        }
    }

    #[test]
    fn the_portable_tile_agrees_with_the_vector_tile() {
        let (a, b) = (random(6, 50, 3), random(50, NR, 4));
        for height in 1..=MR {
            for accumulate in [false, true] {
                let (mut one, mut two) = ([0.5; MR * NR], [0.5; MR * NR]);
                let operand = |m: &'static str, values| Operand { values, stride: if m == "a" { 50 } else { NR } };
                let (left, right) = (operand("a", a.as_slice()), operand("b", b.as_slice()));
                Simd::detect().tile(50, height, left, right, &mut one, NR, accumulate);
                Simd::Portable.tile(50, height, left, right, &mut two, NR, accumulate);
                for (x, y) in one.iter().zip(two) {
                    assert!((x - y).abs() < 1e-4, "{x} and {y}");
                }
                assert_eq!(one[height * NR..], [0.5; MR * NR][height * NR..], "rows below the tile stay");
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "long")]
    fn a_row_of_the_product_depends_on_its_own_operands_only() {
        let (a, b) = (random(50, 300, 5), random(30, 300, 6));
        let all = matmul_transposed(&a, &b).unwrap();
        for i in 0..50 {
            let one = matmul_transposed(&a.select(&[i]), &b).unwrap();
            assert_eq!(one.row(0), all.row(i));
        }
    }

    #[test]
    fn epilogues_add_bias_residual_and_gelu() {
        let (a, w) = (random(8, 20, 7), random(24, 20, 8));
        let bias: Vec<f32> = (0..24).map(|i| i as f32 / 10.0 - 1.0).collect();
        let plain = matmul_transposed(&a, &w).unwrap();
        let packed = PackedMatrix::new(&w);
        let mut biased = vec![9.0; 8 * 24];
        packed.product(a.as_slice(), &mut biased, Epilogue::Bias(&bias));
        let mut residual = vec![2.0; 8 * 24];
        packed.product(a.as_slice(), &mut residual, Epilogue::BiasResidual(&bias));
        let mut active = vec![9.0; 8 * 24];
        packed.product(a.as_slice(), &mut active, Epilogue::BiasGelu(&bias));
        for i in 0..8 * 24 {
            let sum = plain.as_slice()[i] + bias[i % 24];
            assert!((biased[i] - sum).abs() < 1e-5);
            assert!((residual[i] - sum - 2.0).abs() < 1e-5);
            assert!((active[i] - gelu::<false>(sum)).abs() < 1e-5);
        }
    }

    #[test]
    fn empty_and_mismatched_operands() {
        let a = random(3, 4, 9);
        assert_eq!(matmul_transposed(&a, &Matrix::zeros(0, 4)).unwrap().rows(), 3);
        assert_eq!(matmul_transposed(&Matrix::zeros(0, 4), &a).unwrap().dim(), 3);
        assert_eq!(matmul_transposed(&a, &random(2, 5, 1)), Err(TensorError::Dimension { expected: 4, got: 5 }));
        let nan = Matrix::from_rows(&[[f32::NAN, 1.0, 1.0, 1.0]]).unwrap();
        assert!(matmul_transposed(&nan, &a).unwrap().as_slice().iter().all(|x| x.is_nan()));
    }
}
