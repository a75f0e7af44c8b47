//! Vectors as sign bits: 32 times smaller than f32, compared by XOR and a count of ones, and the true scores computed for the best few.
//!
//! With a random rotation in front, two vectors at angle `t` differ in each bit with probability `t / pi` (Goemans and Williamson 1995;
//! Charikar 2002), so that the share of differing bits estimates the angle.

use crate::hamming::hamming;
use crate::rabitq::Rotation;
use crate::topk::{Scored, TopK};
use crate::{Matrix, TensorError, kernels};

/// The sign bits of one vector, the first in the lowest bit of the first word; bits beyond the dimension are 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BinaryCode {
    bits: usize,
    words: Vec<u64>,
}

impl BinaryCode {
    /// A bit is set where the value is above 0: 0 itself gives 0.
    pub fn of(row: &[f32]) -> Self {
        let pack = |chunk: &[f32]| chunk.iter().rev().fold(0, |word, &x| word << 1 | u64::from(x > 0.0));
        Self { bits: row.len(), words: row.chunks(64).map(pack).collect() }
    }

    /// Number of bits.
    pub fn bits(&self) -> usize {
        self.bits
    }

    /// The bits in bytes, the first in the highest bit of the first byte, zeros after the last: as `numpy.packbits` writes them.
    pub fn to_bytes(&self) -> Vec<u8> {
        let bytes = self.words.iter().flat_map(|word| word.to_le_bytes().map(u8::reverse_bits));
        bytes.take(self.bits.div_ceil(8)).collect()
    }

    /// Bits in which the two codes differ; an error for codes of another length.
    pub fn hamming(&self, other: &Self) -> Result<u32, TensorError> {
        if self.bits != other.bits {
            return Err(TensorError::Dimension { expected: self.bits, got: other.bits });
        }
        Ok(hamming(&self.words, &other.words))
    }

    /// Share of equal bits: of the dimension's bits, those that fill up the last byte don't count.
    pub fn similarity(&self, other: &Self) -> Result<f64, TensorError> {
        Ok(1.0 - f64::from(self.hamming(other)?) / self.bits as f64)
    }

    /// The cosine that the share of differing bits stands for, `cos(pi h / bits)`.
    pub fn cosine(&self, other: &Self) -> Result<f64, TensorError> {
        Ok((std::f64::consts::PI * f64::from(self.hamming(other)?) / self.bits as f64).cos())
    }
}

/// What is done to a vector before its signs are taken.
#[derive(Debug, Clone)]
pub struct Binarizer {
    dim: usize,
    centre: Option<Vec<f32>>,
    rotation: Option<Rotation>,
}

impl Binarizer {
    /// Plain signs of vectors of dimension `dim`, at least 1.
    pub fn new(dim: usize) -> Result<Self, TensorError> {
        if dim == 0 {
            return Err(TensorError::argument("dimension", &dim, "at least 1"));
        }
        Ok(Self { dim, centre: None, rotation: None })
    }

    /// Subtracts the mean of `rows` first, so that each bit is set for about half of them.
    #[must_use = "returns the changed binarizer"]
    pub fn centred(mut self, rows: &Matrix) -> Result<Self, TensorError> {
        if rows.dim() != self.dim || rows.is_empty() {
            let expected = format!("at least one row of {} values", self.dim);
            return Err(TensorError::argument("rows", &format!("{} of {}", rows.rows(), rows.dim()), expected));
        }
        rows.check_finite()?;
        let mut mean = vec![0.0f64; self.dim];
        for row in rows.iter_rows() {
            mean.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
        }
        self.centre = Some(mean.into_iter().map(|sum| (sum / rows.rows() as f64) as f32).collect());
        Ok(self)
    }

    /// Rotates at random before the signs are taken. The number of bits becomes a multiple of 16.
    #[must_use]
    pub fn rotated(mut self, seed: u64) -> Self {
        self.rotation = Some(Rotation::new(self.dim, seed));
        self
    }

    /// Bits of a code.
    pub fn bits(&self) -> usize {
        self.rotation.as_ref().map_or(self.dim, Rotation::padded)
    }

    /// The code of one vector; an error for another dimension or values that aren't finite.
    pub fn encode(&self, row: &[f32]) -> Result<BinaryCode, TensorError> {
        if row.len() != self.dim {
            return Err(TensorError::Dimension { expected: self.dim, got: row.len() });
        }
        if let Some(x) = row.iter().find(|x| !x.is_finite()) {
            return Err(TensorError::argument("value", x, "finite"));
        }
        let mut values = row.to_vec();
        if let Some(centre) = &self.centre {
            values.iter_mut().zip(centre).for_each(|(x, c)| *x -= c);
        }
        let Some(rotation) = &self.rotation else { return Ok(BinaryCode::of(&values)) };
        let mut turned = Vec::new();
        rotation.rotate(&values, &mut turned);
        Ok(BinaryCode::of(&turned))
    }
}

/// Codes of many vectors, one after the other in memory.
#[derive(Debug, Clone)]
pub struct BinaryIndex {
    binarizer: Binarizer,
    words: Vec<u64>,
}

impl BinaryIndex {
    /// Encodes every row.
    pub fn new(binarizer: Binarizer, rows: &Matrix) -> Result<Self, TensorError> {
        let mut words = Vec::with_capacity(rows.rows() * binarizer.bits().div_ceil(64));
        for row in rows.iter_rows() {
            words.extend(binarizer.encode(row)?.words);
        }
        Ok(Self { binarizer, words })
    }

    /// Number of codes.
    pub fn len(&self) -> usize {
        self.words.len() / self.binarizer.bits().div_ceil(64)
    }

    /// True when it holds none.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The number of bits in which each code differs from that of `query`.
    pub fn distances(&self, query: &[f32]) -> Result<Vec<u32>, TensorError> {
        let code = self.binarizer.encode(query)?;
        Ok(match *code.words {
            // A width known to the compiler makes the comparison a few instructions.
            [a, b, c, d] => {
                let (codes, _) = self.words.as_chunks::<4>();
                codes.iter().map(|words| hamming(words, &[a, b, c, d])).collect()
            }
            _ => self.words.chunks_exact(code.words.len()).map(|words| hamming(words, &code.words)).collect(),
        })
    }

    /// The `k` codes that differ in fewest bits from that of `query`, with minus the number as score; ties by lower row.
    pub fn search(&self, query: &[f32], k: usize) -> Result<Vec<Scored>, TensorError> {
        let mut best = TopK::new(k);
        for (id, distance) in self.distances(query)?.into_iter().enumerate() {
            best.push(id, -(distance as f32));
        }
        Ok(best.into_sorted_vec())
    }

    /// The `k` rows of largest dot product with `query` among the `oversample` that [`search`](Self::search) finds; `rows` are those the
    /// index was made of.
    pub fn search_then_rescore(
        &self,
        query: &[f32],
        rows: &Matrix,
        k: usize,
        oversample: usize,
    ) -> Result<Vec<Scored>, TensorError> {
        if oversample < k {
            return Err(TensorError::argument("oversample", &oversample, format!("at least k, {k}")));
        }
        if rows.rows() != self.len() {
            return Err(TensorError::argument("rows", &rows.rows(), format!("the {} encoded", self.len())));
        }
        let mut best = TopK::new(k);
        for candidate in self.search(query, oversample)? {
            best.push(candidate.id, kernels::dot(query, rows.row(candidate.id)));
        }
        Ok(best.into_sorted_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SplitMix64;
    use proptest::prelude::*;

    const A: [f32; 12] = [0.1, -0.2, 0.3, 0.0, -0.5, 0.6, 0.7, -0.8, 0.9, -1.0, 0.2, 0.3];
    const B: [f32; 12] = [0.2, 0.1, 0.3, -0.1, -0.4, -0.6, 0.7, 0.8, 0.9, -1.0, -0.2, 0.3];

    #[test]
    fn two_small_vectors_have_their_codes() {
        let (a, b) = (BinaryCode::of(&A), BinaryCode::of(&B));
        assert_eq!((a.to_bytes(), b.to_bytes()), (vec![166, 176], vec![227, 144]));
        assert_eq!(a.hamming(&b).unwrap(), 4);
        assert!((a.similarity(&b).unwrap() - 2.0 / 3.0).abs() < 1e-12);
        assert!((a.cosine(&b).unwrap() - 0.5).abs() < 1e-12);
        assert_eq!(BinaryCode::of(&[1.0; 768]).to_bytes(), [255; 96]);
        assert!(a.hamming(&BinaryCode::of(&[1.0; 11])).is_err());
    }

    #[test]
    fn bits_differ_as_the_angle_says() {
        for cosine in [0.9f64, 0.5, -0.5] {
            let (mut differ, mut total) = (0, 0);
            for seed in 0..80 {
                // Two vectors of this cosine in a random plane.
                let mut rng = SplitMix64::new(seed);
                let u: Vec<f64> = (0..256).map(|_| rng.normal()).collect();
                let v: Vec<f64> = (0..256).map(|_| rng.normal()).collect();
                let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
                let along = dot(&u, &v) / dot(&u, &u);
                let w: Vec<f64> = v.iter().zip(&u).map(|(y, x)| y - along * x).collect();
                let (nu, nw) = (dot(&u, &u).sqrt(), dot(&w, &w).sqrt());
                let sine = (1.0 - cosine * cosine).sqrt();
                let x: Vec<f32> = u.iter().map(|a| (a / nu) as f32).collect();
                let y: Vec<f32> = u.iter().zip(&w).map(|(a, b)| (cosine * a / nu + sine * b / nw) as f32).collect();
                let binarizer = Binarizer::new(256).unwrap().rotated(seed);
                differ += binarizer.encode(&x).unwrap().hamming(&binarizer.encode(&y).unwrap()).unwrap();
                total += 256;
            }
            let share = f64::from(differ) / f64::from(total);
            assert!((share - cosine.acos() / std::f64::consts::PI).abs() < 0.01, "{cosine}: {share}");
        }
    }

    #[test]
    fn rescoring_everything_is_an_exact_search() {
        let mut rng = SplitMix64::new(3);
        let rows = Matrix::from_vec(50, 20, (0..1_000).map(|_| rng.normal() as f32).collect()).unwrap();
        let binarizer = Binarizer::new(20).unwrap().centred(&rows).unwrap().rotated(1);
        assert_eq!(binarizer.bits(), 32);
        let index = BinaryIndex::new(binarizer, &rows).unwrap();
        let query = rows.row(7);
        let exact = crate::top_k(&kernels::dot_rows(query, &rows), 5);
        assert_eq!(index.search_then_rescore(query, &rows, 5, 50).unwrap(), exact);
        assert_eq!(index.search(query, 1).unwrap()[0].id, 7);
        assert!(index.search_then_rescore(query, &rows, 5, 4).is_err());
        assert!(index.search_then_rescore(query, &rows.select(&[0]), 1, 4).is_err());
        assert!(index.search(&[1.0; 19], 1).is_err() && index.search(&[f32::NAN; 20], 1).is_err());
        assert!(Binarizer::new(0).is_err());
        assert!(Binarizer::new(20).unwrap().centred(&Matrix::zeros(0, 20)).is_err());
    }

    proptest! {
        #[test]
        fn hamming_is_a_metric(values in prop::collection::vec(prop::array::uniform3(-1.0f32..1.0), 1..200)) {
            let code = |i: usize| BinaryCode::of(&values.iter().map(|v| v[i]).collect::<Vec<_>>());
            let (a, b, c) = (code(0), code(1), code(2));
            let (ab, bc, ac) = (a.hamming(&b).unwrap(), b.hamming(&c).unwrap(), a.hamming(&c).unwrap());
            prop_assert_eq!(a.hamming(&a).unwrap(), 0);
            prop_assert_eq!(ab, b.hamming(&a).unwrap());
            prop_assert!(ac <= ab + bc);
            prop_assert_eq!(ab == 0, a == b);
        }
    }
}
