//! Smaller codes for vectors: half precision, scaled integers, product quantization and sign bits.
//!
//! Each codec turns a row of `dim` f32 values into [`Codec::bytes_per_vector`] bytes and back into the nearest row that it
//! can express. Searching the decoded rows with an uncompressed query is the usual asymmetric search.

use crate::align;
use crate::gemm::matmul_transposed;
use crate::kernels::{self, dot, squared_l2};
use crate::kmeans::{KMeans, assign};
use crate::linalg::{centred, cross, eigen_symmetric};
use crate::rng::SplitMix64;
use crate::{Matrix, TensorError};
use half::f16;
use rayon::prelude::*;

/// A way to store vectors in fewer bytes.
pub trait Codec: Send + Sync {
    /// Dimension of the vectors.
    fn dim(&self) -> usize;

    /// Bytes of each code.
    fn bytes_per_vector(&self) -> usize;

    /// The code of `row`; an error for another dimension or values that aren't finite.
    fn encode(&self, row: &[f32]) -> Result<Vec<u8>, TensorError>;

    /// The row that `code` stands for; an error for a code of another length or one this codec can't have made.
    fn decode(&self, code: &[u8]) -> Result<Vec<f32>, TensorError>;

    /// Every row encoded and decoded: what a search over the codes sees.
    fn reconstruct(&self, rows: &Matrix) -> Result<Matrix, TensorError> {
        let mut out = Matrix::zeros(rows.rows(), self.dim());
        for (i, row) in rows.iter_rows().enumerate() {
            out.row_mut(i).copy_from_slice(&self.decode(&self.encode(row)?)?);
        }
        Ok(out)
    }
}

/// IEEE half precision: 2 bytes a value, 11 significant bits, magnitudes up to 65,504.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct F16 {
    dim: usize,
}

impl F16 {
    /// A codec for vectors of dimension `dim`.
    pub fn new(dim: usize) -> Self {
        Self { dim }
    }
}

impl Codec for F16 {
    fn dim(&self) -> usize {
        self.dim
    }

    fn bytes_per_vector(&self) -> usize {
        2 * self.dim
    }

    fn encode(&self, row: &[f32]) -> Result<Vec<u8>, TensorError> {
        check_row(row, self.dim)?;
        if let Some(x) = row.iter().find(|x| x.abs() >= 65_520.0) {
            return Err(TensorError::argument("value", x, "within the range of half precision, 65504"));
        }
        Ok(row.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect())
    }

    fn decode(&self, code: &[u8]) -> Result<Vec<f32>, TensorError> {
        check_code(code, self.bytes_per_vector())?;
        let (pairs, _) = code.as_chunks::<2>();
        Ok(pairs.iter().map(|&pair| f16::from_le_bytes(pair).to_f32()).collect())
    }
}

/// One signed byte a value times one f32 scale a row, the row's largest magnitude / 127: `dim + 4` bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Int8 {
    dim: usize,
}

impl Int8 {
    /// A codec for vectors of dimension `dim`.
    pub fn new(dim: usize) -> Self {
        Self { dim }
    }
}

impl Codec for Int8 {
    fn dim(&self) -> usize {
        self.dim
    }

    fn bytes_per_vector(&self) -> usize {
        self.dim + 4
    }

    fn encode(&self, row: &[f32]) -> Result<Vec<u8>, TensorError> {
        let (scale, levels) = scaled(row, self.dim, 127)?;
        let mut code = scale.to_le_bytes().to_vec();
        code.extend(levels.iter().map(|&level| level as u8));
        Ok(code)
    }

    fn decode(&self, code: &[u8]) -> Result<Vec<f32>, TensorError> {
        check_code(code, self.bytes_per_vector())?;
        let (scale, levels) = split_scale(code)?;
        Ok(levels.iter().map(|&level| scale * f32::from(level as i8)).collect())
    }
}

/// Four bits a value, -7 to 7, times one f32 scale a row: `ceil(dim / 2) + 4` bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Int4 {
    dim: usize,
}

impl Int4 {
    /// A codec for vectors of dimension `dim`.
    pub fn new(dim: usize) -> Self {
        Self { dim }
    }
}

impl Codec for Int4 {
    fn dim(&self) -> usize {
        self.dim
    }

    fn bytes_per_vector(&self) -> usize {
        self.dim.div_ceil(2) + 4
    }

    fn encode(&self, row: &[f32]) -> Result<Vec<u8>, TensorError> {
        let (scale, levels) = scaled(row, self.dim, 7)?;
        let mut code = scale.to_le_bytes().to_vec();
        // Stored as level + 8, the first value of a pair in the low half.
        let nibble = |level: &i8| (level + 8) as u8;
        code.extend(levels.chunks(2).map(|pair| nibble(&pair[0]) | pair.get(1).map_or(8, nibble) << 4));
        Ok(code)
    }

    fn decode(&self, code: &[u8]) -> Result<Vec<f32>, TensorError> {
        check_code(code, self.bytes_per_vector())?;
        let (scale, pairs) = split_scale(code)?;
        let levels = pairs.iter().flat_map(|&pair| [pair & 15, pair >> 4]);
        Ok(levels.take(self.dim).map(|level| scale * (f32::from(level) - 8.0)).collect())
    }
}

/// One bit a value, its sign: 8 bytes for each started 64 values. Decodes to unit length, `+-1 / sqrt(dim)`; codes are
/// compared by [`crate::hamming::hamming`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binary {
    dim: usize,
}

impl Binary {
    /// A codec for vectors of dimension `dim`.
    pub fn new(dim: usize) -> Self {
        Self { dim }
    }

    /// The sign bits in 64-bit words, first value in the lowest bit; a bit is set where the value is above 0.
    pub fn words(&self, row: &[f32]) -> Result<Vec<u64>, TensorError> {
        check_row(row, self.dim)?;
        let pack = |chunk: &[f32]| chunk.iter().rev().fold(0, |word, &x| word << 1 | u64::from(x > 0.0));
        Ok(row.chunks(64).map(pack).collect())
    }
}

impl Codec for Binary {
    fn dim(&self) -> usize {
        self.dim
    }

    fn bytes_per_vector(&self) -> usize {
        8 * self.dim.div_ceil(64)
    }

    fn encode(&self, row: &[f32]) -> Result<Vec<u8>, TensorError> {
        Ok(self.words(row)?.iter().flat_map(|word| word.to_le_bytes()).collect())
    }

    fn decode(&self, code: &[u8]) -> Result<Vec<f32>, TensorError> {
        check_code(code, self.bytes_per_vector())?;
        let one = 1.0 / (self.dim as f32).sqrt();
        let sign = |i: usize| if code[i / 8] >> (i % 8) & 1 == 1 { one } else { -one };
        Ok((0..self.dim).map(sign).collect())
    }
}

/// Settings of a product quantizer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PqConfig {
    /// Parts into which a vector is cut; must divide the dimension.
    pub subspaces: usize,
    /// Centroids of each part, at most 256: one byte chooses one.
    pub centroids: usize,
    /// Lloyd iterations of each part's k-means.
    pub iterations: usize,
    /// Rows to train on, a random sample when there are more.
    pub sample: usize,
    /// Seed of the sample and of the k-means.
    pub seed: u64,
}

impl Default for PqConfig {
    fn default() -> Self {
        Self { subspaces: 32, centroids: 256, iterations: 12, sample: 8_192, seed: 42 }
    }
}

/// Product quantization (Jégou, Douze and Schmid 2011): each part of a vector is replaced by the nearest of that part's
/// k-means centroids. One byte a part.
#[derive(Debug, Clone, PartialEq)]
pub struct Pq {
    /// Centroids of each part, shape `(centroids, dim / subspaces)`.
    codebooks: Vec<Matrix>,
    /// The same, transposed: for each part and each of its dimensions the values of all centroids, which tables are made from.
    columns: Vec<f32>,
}

impl Pq {
    /// Trains the codebooks on `rows`.
    pub fn train(rows: &Matrix, config: &PqConfig) -> Result<Self, TensorError> {
        let (dim, parts) = (rows.dim(), config.subspaces);
        if parts == 0 || !dim.is_multiple_of(parts) {
            return Err(TensorError::argument("subspaces", &parts, format!("a divisor of the dimension, {dim}")));
        }
        if !(1..=256).contains(&config.centroids) {
            return Err(TensorError::argument("centroids", &config.centroids, "between 1 and 256"));
        }
        let sample = if rows.rows() > config.sample {
            rows.select(&SplitMix64::new(config.seed).sample_indices(rows.rows(), config.sample))
        } else {
            rows.clone()
        };
        let codebook = |part: usize| {
            let fit = KMeans {
                max_iter: config.iterations,
                seed: config.seed.wrapping_add(part as u64),
                ..KMeans::new(config.centroids)
            };
            Ok(fit.fit(&columns(&sample, part, dim / parts)?)?.centroids)
        };
        Self::from_codebooks((0..parts).into_par_iter().map(codebook).collect::<Result<_, TensorError>>()?)
    }

    /// A quantizer of given codebooks, one a part, each of shape `(centroids, dim / parts)`: an error when there is none, when they differ
    /// in shape, or have more than 256 centroids.
    pub fn from_codebooks(codebooks: Vec<Matrix>) -> Result<Self, TensorError> {
        let shape = codebooks.first().map_or((0, 0), |first| (first.rows(), first.dim()));
        if !(1..=256).contains(&shape.0) {
            return Err(TensorError::argument("centroids", &shape.0, "between 1 and 256"));
        }
        if let Some(other) = codebooks.iter().find(|c| (c.rows(), c.dim()) != shape) {
            let got = format!("{} x {}", other.rows(), other.dim());
            return Err(TensorError::argument("codebook", &got, format!("{} x {}", shape.0, shape.1)));
        }
        let mut columns = Vec::with_capacity(codebooks.len() * shape.0 * shape.1);
        for codebook in &codebooks {
            codebook.check_finite()?;
            for j in 0..shape.1 {
                columns.extend(codebook.iter_rows().map(|centroid| centroid[j]));
            }
        }
        Ok(Self { codebooks, columns })
    }

    /// The centroids of each part, shape `(centroids, dim / subspaces)`.
    pub fn codebooks(&self) -> &[Matrix] {
        &self.codebooks
    }

    /// [`Pq::distance_table`] into a buffer, `subspaces * centroids` values.
    ///
    /// # Panics
    /// When `query` hasn't the quantizer's dimension.
    pub fn fill_distances(&self, query: &[f32], table: &mut Vec<f32>) {
        self.fill::<true>(query, table);
    }

    /// [`Pq::dot_table`] into a buffer, `subspaces * centroids` values.
    ///
    /// # Panics
    /// When `query` hasn't the quantizer's dimension.
    pub fn fill_products(&self, query: &[f32], table: &mut Vec<f32>) {
        self.fill::<false>(query, table);
    }

    fn fill<const DIFFERENCE: bool>(&self, query: &[f32], table: &mut Vec<f32>) {
        let (centroids, width) = (self.codebooks[0].rows(), self.codebooks[0].dim());
        assert_eq!(query.len(), width * self.codebooks.len(), "dimension of a query");
        table.clear();
        table.resize(self.codebooks.len() * centroids, 0.0);
        kernels::fill_table::<DIFFERENCE>(query, &self.columns, width, centroids, table);
    }

    /// Number of parts, and bytes a vector.
    pub fn subspaces(&self) -> usize {
        self.codebooks.len()
    }

    /// The codes of many rows at once, concatenated: much faster than one by one.
    pub fn encode_all(&self, rows: &Matrix) -> Result<Vec<u8>, TensorError> {
        if rows.dim() != self.dim() {
            return Err(TensorError::Dimension { expected: self.dim(), got: rows.dim() });
        }
        rows.check_finite()?;
        let parts = self.subspaces();
        let mut codes = vec![0; rows.rows() * parts];
        for (part, codebook) in self.codebooks.iter().enumerate() {
            let nearest = assign(codebook, &columns(rows, part, codebook.dim())?, false);
            for (row, centroid) in nearest.into_iter().enumerate() {
                codes[row * parts + part] = centroid as u8;
            }
        }
        Ok(codes)
    }

    /// Squared distances of each part of `query` to each centroid of that part: the sum of the entries that a code names
    /// is its distance. Shape `(subspaces, centroids)`.
    pub fn distance_table(&self, query: &[f32]) -> Result<Matrix, TensorError> {
        self.table(query, squared_l2)
    }

    /// Like [`Pq::distance_table`] with dot products.
    pub fn dot_table(&self, query: &[f32]) -> Result<Matrix, TensorError> {
        self.table(query, dot)
    }

    fn table(&self, query: &[f32], compare: fn(&[f32], &[f32]) -> f32) -> Result<Matrix, TensorError> {
        check_row(query, self.dim())?;
        let parts = query.chunks_exact(self.codebooks[0].dim()).zip(&self.codebooks);
        let rows: Vec<Vec<f32>> = parts
            .map(|(part, codebook)| codebook.iter_rows().map(|centroid| compare(part, centroid)).collect())
            .collect();
        Matrix::from_rows(&rows)
    }

    /// Sum of the entries of a table that `code` names.
    ///
    /// # Panics
    /// When a byte of `code` is not below the number of centroids, which no code made by this quantizer is.
    pub fn look_up(table: &Matrix, code: &[u8]) -> f32 {
        table.iter_rows().zip(code).map(|(row, &byte)| row[byte as usize]).sum()
    }
}

impl Codec for Pq {
    fn dim(&self) -> usize {
        self.codebooks.iter().map(Matrix::dim).sum()
    }

    fn bytes_per_vector(&self) -> usize {
        self.codebooks.len()
    }

    fn encode(&self, row: &[f32]) -> Result<Vec<u8>, TensorError> {
        check_row(row, self.dim())?;
        self.encode_all(&Matrix::from_vec(1, row.len(), row.to_vec())?)
    }

    fn decode(&self, code: &[u8]) -> Result<Vec<f32>, TensorError> {
        check_code(code, self.bytes_per_vector())?;
        let mut row = Vec::with_capacity(self.dim());
        for (&byte, codebook) in code.iter().zip(&self.codebooks) {
            if byte as usize >= codebook.rows() {
                let expected = format!("below the number of centroids, {}", codebook.rows());
                return Err(TensorError::argument("code byte", &byte, expected));
            }
            row.extend_from_slice(codebook.row(byte as usize));
        }
        Ok(row)
    }

    fn reconstruct(&self, rows: &Matrix) -> Result<Matrix, TensorError> {
        let codes = self.encode_all(rows)?;
        let mut out = Matrix::zeros(rows.rows(), self.dim());
        for (i, code) in codes.chunks_exact(self.subspaces()).enumerate() {
            out.row_mut(i).copy_from_slice(&self.decode(code)?);
        }
        Ok(out)
    }
}

/// Distances to codes of one byte a part: for each code the sum of the entries of `table` that its bytes name, `256` entries a part.
/// `out` gets one value a code.
///
/// # Panics
/// When the table hasn't 256 entries a part, or `codes` isn't a whole number of codes.
pub fn scan_codes(table: &[f32], codes: &[u8], parts: usize, out: &mut Vec<f32>) {
    let (rows, rest) = table.as_chunks::<256>();
    assert!(
        rest.is_empty() && rows.len() == parts && parts > 0 && codes.len().is_multiple_of(parts),
        "{} table entries and {} bytes of codes for {parts} parts",
        table.len(),
        codes.len()
    );
    out.clear();
    // Four sums a code: look-ups don't depend on each other, additions of one sum do.
    let (quads, rest) = rows.as_chunks::<4>();
    out.extend(codes.chunks_exact(parts).map(|code| {
        let (bytes, last) = code.as_chunks::<4>();
        let mut sums = [0.0f32; 4];
        for (rows, bytes) in quads.iter().zip(bytes) {
            for lane in 0..4 {
                sums[lane] += rows[lane][usize::from(bytes[lane])];
            }
        }
        let tail: f32 = rest.iter().zip(last).map(|(row, &byte)| row[usize::from(byte)]).sum();
        (sums[0] + sums[1]) + (sums[2] + sums[3]) + tail
    }));
}

/// An orthogonal matrix, shape `(dim, dim)`, such that rows `R x` are quantized with less error than the rows `x` themselves: the
/// optimized product quantization of Ge, He, Ke and Sun (IEEE TPAMI 2014).
///
/// Starts from the principal axes, dealt out so that the parts have equal products of variances (the parametric solution), then
/// alternates between training codebooks on the rotated rows and finding the rotation that brings the rows closest to their decoded forms
/// (an orthogonal Procrustes problem), `rounds` times.
pub fn opq_rotation(rows: &Matrix, config: &PqConfig, rounds: usize) -> Result<Matrix, TensorError> {
    let sample = if rows.rows() > config.sample {
        rows.select(&SplitMix64::new(config.seed).sample_indices(rows.rows(), config.sample))
    } else {
        rows.clone()
    };
    let mut rotation = balanced_axes(&sample, config.subspaces)?;
    for _ in 0..rounds {
        let rotated = matmul_transposed(&sample, &rotation)?;
        let pq = Pq::train(&rotated, config)?;
        rotation = align::rotation(&sample, &pq.reconstruct(&rotated)?)?;
    }
    Ok(rotation)
}

/// Principal axes as rows, each given to the part with room left whose axes have the least product of variances so far.
fn balanced_axes(rows: &Matrix, parts: usize) -> Result<Matrix, TensorError> {
    let dim = rows.dim();
    if parts == 0 || !dim.is_multiple_of(parts) {
        return Err(TensorError::argument("subspaces", &parts, format!("a divisor of the dimension, {dim}")));
    }
    let (centred, _) = centred(rows);
    let (variances, axes) = eigen_symmetric(cross(&centred, &centred))?;
    let least = variances.first().copied().unwrap_or(0.0).max(f64::MIN_POSITIVE) * 1e-12;
    let (mut logs, mut members) = (vec![0.0f64; parts], vec![Vec::new(); parts]);
    for (axis, variance) in variances.iter().enumerate() {
        let open = (0..parts).filter(|&part| members[part].len() < dim / parts);
        let Some(part) = open.min_by(|&a, &b| logs[a].total_cmp(&logs[b])) else {
            break;
        };
        // Relative to the least variance, so that every axis adds.
        logs[part] += (variance.max(least) / least).ln();
        members[part].push(axis);
    }
    let mut rotation = Matrix::zeros(dim, dim);
    for (to, axis) in members.into_iter().flatten().enumerate() {
        for (x, v) in rotation.row_mut(to).iter_mut().zip(axes.column(axis).iter()) {
            *x = *v as f32;
        }
    }
    Ok(rotation)
}

/// Columns `part * width .. (part + 1) * width`.
fn columns(rows: &Matrix, part: usize, width: usize) -> Result<Matrix, TensorError> {
    let range = part * width..(part + 1) * width;
    let values = rows.iter_rows().flat_map(|row| row[range.clone()].iter().copied()).collect();
    Matrix::from_vec(rows.rows(), width, values)
}

/// The scale and the integers within `-top..=top` of a row; a row of zeros has scale 0.
fn scaled(row: &[f32], dim: usize, top: i8) -> Result<(f32, Vec<i8>), TensorError> {
    check_row(row, dim)?;
    let largest = row.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let scale = largest / f32::from(top);
    // A scale that underflows to 0 leaves nothing to express.
    let inverse = if scale > 0.0 { 1.0 / f64::from(scale) } else { 0.0 };
    let top = f64::from(top);
    let level = |x: &f32| (f64::from(*x) * inverse).round().clamp(-top, top) as i8;
    Ok((scale, row.iter().map(level).collect()))
}

fn split_scale(code: &[u8]) -> Result<(f32, &[u8]), TensorError> {
    let Some((scale, levels)) = code.split_first_chunk::<4>() else {
        return Err(TensorError::Dimension { expected: 4, got: code.len() });
    };
    let scale = f32::from_le_bytes(*scale);
    if !scale.is_finite() {
        return Err(TensorError::argument("scale", &scale, "finite"));
    }
    Ok((scale, levels))
}

fn check_row(row: &[f32], dim: usize) -> Result<(), TensorError> {
    if row.len() != dim {
        return Err(TensorError::Dimension { expected: dim, got: row.len() });
    }
    match row.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(column) => Err(TensorError::NotFinite { row: 0, column, value: row[column] }),
    }
}

fn check_code(code: &[u8], bytes: usize) -> Result<(), TensorError> {
    if code.len() == bytes {
        Ok(())
    } else {
        Err(TensorError::argument("code length", &code.len(), format!("{bytes} bytes")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hamming::hamming;
    use proptest::prelude::*;

    fn clustered(rows: usize, dim: usize, seed: u64) -> Matrix {
        let mut rng = SplitMix64::new(seed);
        let centres: Vec<Vec<f64>> = (0..40).map(|_| (0..dim).map(|_| rng.normal()).collect()).collect();
        let mut values = Vec::new();
        for _ in 0..rows {
            let centre = rng.below(40);
            values.extend(centres[centre].iter().map(|c| (c + 0.3 * rng.normal()) as f32));
        }
        Matrix::from_vec(rows, dim, values).unwrap()
    }

    fn mean_squared_error(codec: &dyn Codec, rows: &Matrix) -> f32 {
        let back = codec.reconstruct(rows).unwrap();
        squared_l2(back.as_slice(), rows.as_slice()) / rows.as_slice().len() as f32
    }

    proptest! {
        #[test]
        fn errors_stay_within_half_a_step(row in prop::collection::vec(-50.0f32..50.0, 1..70)) {
            let dim = row.len();
            let largest = row.iter().fold(0.0f32, |m, x| m.max(x.abs()));
            let step = |codec: &dyn Codec| {
                let code = codec.encode(&row).unwrap();
                assert_eq!(code.len(), codec.bytes_per_vector());
                let back = codec.decode(&code).unwrap();
                row.iter().zip(&back).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
            };
            prop_assert!(step(&F16::new(dim)) <= largest / 2048.0);
            prop_assert!(step(&Int8::new(dim)) <= largest / 127.0 * 0.5001);
            prop_assert!(step(&Int4::new(dim)) <= largest / 7.0 * 0.5001);
            let signs = Binary::new(dim).decode(&Binary::new(dim).encode(&row).unwrap()).unwrap();
            for (x, s) in row.iter().zip(&signs) {
                prop_assert_eq!(*x > 0.0, *s > 0.0);
            }
            prop_assert!((dot(&signs, &signs) - 1.0).abs() < 1e-5);
        }
    }

    #[test]
    fn zeros_and_extremes_survive() {
        for codec in [&Int8::new(3) as &dyn Codec, &Int4::new(3), &F16::new(3)] {
            assert_eq!(codec.decode(&codec.encode(&[0.0; 3]).unwrap()).unwrap(), [0.0; 3]);
        }
        let back = Int8::new(2).reconstruct(&Matrix::from_rows(&[[1e30, -1e30]]).unwrap()).unwrap();
        assert!((back.row(0)[1] / -1e30 - 1.0).abs() < 1e-6);
        assert!(F16::new(1).encode(&[7e4]).unwrap_err().to_string().contains("half precision"));
        assert_eq!(F16::new(1).decode(&F16::new(1).encode(&[65_504.0]).unwrap()).unwrap(), [65_504.0]);
    }

    #[test]
    fn sign_codes_have_the_hamming_distance_of_their_signs() {
        let binary = Binary::new(130);
        let a: Vec<f32> = (0..130).map(|i| if i % 3 == 0 { 1.0 } else { -1.0 }).collect();
        let b: Vec<f32> = (0..130).map(|i| if i % 2 == 0 { 0.5 } else { -2.0 }).collect();
        let differing = a.iter().zip(&b).filter(|(x, y)| (**x > 0.0) != (**y > 0.0)).count();
        let distance = hamming(&binary.words(&a).unwrap(), &binary.words(&b).unwrap());
        assert_eq!(distance as usize, differing);
        assert_eq!(binary.bytes_per_vector(), 24);
    }

    #[test]
    fn product_codes_are_the_nearest_centroids_and_their_tables_give_the_distances() {
        let rows = clustered(2_000, 16, 3);
        let config = PqConfig { subspaces: 4, centroids: 64, ..PqConfig::default() };
        let pq = Pq::train(&rows, &config).unwrap();
        assert_eq!((pq.dim(), pq.bytes_per_vector()), (16, 4));
        let codes = pq.encode_all(&rows).unwrap();
        let query = rows.row(7);
        let (distances, dots) = (pq.distance_table(query).unwrap(), pq.dot_table(query).unwrap());
        for i in 0..200 {
            let code = &codes[i * 4..i * 4 + 4];
            assert_eq!(pq.encode(rows.row(i)).unwrap(), code);
            for (part, &byte) in code.iter().enumerate() {
                let own = &rows.row(i)[part * 4..part * 4 + 4];
                let to = |c: usize| squared_l2(own, pq.codebooks[part].row(c));
                let nearest = (0..64).map(to).fold(f32::INFINITY, f32::min);
                assert!(to(byte as usize) <= nearest + 1e-4);
            }
            let back = pq.decode(code).unwrap();
            assert!((Pq::look_up(&distances, code) - squared_l2(query, &back)).abs() < 1e-3);
            assert!((Pq::look_up(&dots, code) - dot(query, &back)).abs() < 1e-3);
        }
    }

    #[test]
    fn tables_in_buffers_and_scans_agree_with_the_plain_ones() {
        let rows = clustered(2_000, 24, 3);
        for centroids in [16, 256] {
            let config = PqConfig { subspaces: 6, centroids, ..PqConfig::default() };
            let pq = Pq::train(&rows, &config).unwrap();
            let (query, mut table) = (rows.row(3), Vec::new());
            pq.fill_products(query, &mut table);
            let plain = pq.dot_table(query).unwrap();
            assert!(table.iter().zip(plain.as_slice()).all(|(a, b)| (a - b).abs() < 1e-4));
            pq.fill_distances(query, &mut table);
            let plain = pq.distance_table(query).unwrap();
            assert!(table.iter().zip(plain.as_slice()).all(|(a, b)| (a - b).abs() < 1e-4));
            assert_eq!(Pq::from_codebooks(pq.codebooks().to_vec()).unwrap(), pq);
            if centroids == 256 {
                let (codes, mut sums) = (pq.encode_all(&rows).unwrap(), Vec::new());
                scan_codes(&table, &codes, 6, &mut sums);
                for (sum, code) in sums.iter().zip(codes.chunks_exact(6)) {
                    assert!((sum - Pq::look_up(&plain, code)).abs() < 1e-3);
                }
            }
        }
        assert!(Pq::from_codebooks(vec![]).is_err());
        assert!(Pq::from_codebooks(vec![Matrix::zeros(2, 3), Matrix::zeros(2, 4)]).is_err());
    }

    #[test]
    fn a_rotation_spreads_the_variance_over_the_parts() {
        // All variance in the first half of the dimensions: without rotation half of the codebooks have nothing to say.
        let mut rng = SplitMix64::new(5);
        let mut rows = Matrix::zeros(2_000, 16);
        for i in 0..2_000 {
            let latent: Vec<f64> = (0..4).map(|_| rng.normal()).collect();
            for (j, x) in rows.row_mut(i).iter_mut().enumerate() {
                *x = (if j < 4 { 3.0 * latent[j] } else { 0.1 * rng.normal() }) as f32;
            }
        }
        let config = PqConfig { subspaces: 4, centroids: 16, ..PqConfig::default() };
        let rotation = opq_rotation(&rows, &config, 8).unwrap();
        for i in 0..16 {
            for j in 0..16 {
                let expected = f32::from(u8::from(i == j));
                assert!((dot(rotation.row(i), rotation.row(j)) - expected).abs() < 1e-4, "not orthogonal");
            }
        }
        let rotated = matmul_transposed(&rows, &rotation).unwrap();
        let error = |rows: &Matrix| mean_squared_error(&Pq::train(rows, &config).unwrap(), rows);
        assert!(error(&rotated) < 0.6 * error(&rows), "{} of {}", error(&rotated), error(&rows));
    }

    #[test]
    fn more_bytes_mean_less_error() {
        let rows = clustered(3_000, 32, 5);
        let pq = |subspaces| {
            let config = PqConfig { subspaces, centroids: 256, ..PqConfig::default() };
            Pq::train(&rows, &config).unwrap()
        };
        let errors = [
            mean_squared_error(&pq(4), &rows),
            mean_squared_error(&pq(16), &rows),
            mean_squared_error(&Int8::new(32), &rows),
            mean_squared_error(&F16::new(32), &rows),
        ];
        assert!(errors.is_sorted_by(|a, b| a > b), "{errors:?}");
        // Both spend four bits a value, but the trained codebook puts them where the data are.
        assert!(errors[1] < mean_squared_error(&Int4::new(32), &rows));
        // The noise within the planted clusters, 0.09, bounds what any code for the clusters alone reaches.
        assert!(errors[0] < 0.15, "{errors:?}");
    }

    #[test]
    fn bad_input_is_refused() {
        let rows = clustered(300, 16, 1);
        let train = |config: PqConfig| Pq::train(&rows, &config);
        let base = PqConfig { subspaces: 4, centroids: 16, ..PqConfig::default() };
        assert!(train(PqConfig { subspaces: 5, ..base.clone() }).is_err());
        assert!(train(PqConfig { subspaces: 0, ..base.clone() }).is_err());
        assert!(train(PqConfig { centroids: 257, ..base.clone() }).is_err());
        assert!(train(PqConfig { centroids: 0, ..base.clone() }).is_err());
        assert!(Pq::train(&rows.select(&[0, 1]), &base).is_err());
        let pq = train(base).unwrap();
        assert!(pq.decode(&[0, 0, 0, 16]).is_err());
        assert!(pq.distance_table(&[0.0; 15]).is_err() && pq.encode_all(&Matrix::zeros(1, 8)).is_err());
        for codec in [&F16::new(2) as &dyn Codec, &Int8::new(2), &Int4::new(2), &Binary::new(2)] {
            assert!(codec.encode(&[1.0]).is_err());
            assert!(codec.encode(&[1.0, f32::NAN]).is_err());
            assert!(codec.decode(&[1]).is_err());
        }
        assert!(Int8::new(1).decode(&[255, 255, 255, 255, 0]).is_err());
    }
}
