//! Maps between two embedding spaces, learnt from anchor items that were encoded in both.

use crate::linalg::{centred, cross, eigen_symmetric, singular_vectors};
use crate::{Matrix, TensorError};
use nalgebra::DMatrix;

/// The map `x -> x W + offset` from a space of dimension `W.rows()` to one of dimension `W.dim()`.
#[derive(Debug, Clone, PartialEq)]
pub struct AffineMap {
    /// `W`, shape `(dim from, dim to)`; orthogonal when made by [`procrustes`].
    pub weights: Matrix,
    /// Added to each mapped row; length `dim to`.
    pub offset: Vec<f32>,
}

impl AffineMap {
    /// Maps rows of shape `(n, dim from)` to `(n, dim to)`.
    pub fn apply(&self, rows: &Matrix) -> Result<Matrix, TensorError> {
        if rows.dim() != self.weights.rows() {
            return Err(TensorError::Dimension { expected: self.weights.rows(), got: rows.dim() });
        }
        let mut mapped = Matrix::zeros(rows.rows(), self.weights.dim());
        for (i, row) in rows.iter_rows().enumerate() {
            let out = mapped.row_mut(i);
            out.copy_from_slice(&self.offset);
            for (x, weights) in row.iter().zip(self.weights.iter_rows()) {
                for (o, w) in out.iter_mut().zip(weights) {
                    *o += x * w;
                }
            }
        }
        Ok(mapped)
    }
}

/// The rotation (or reflection) and shift that bring the rows of `from` closest to those of `to` in squared distance:
/// with both centred, `W = U V^T` for the singular value decomposition `from^T to = U S V^T` (Schönemann 1966).
///
/// Row `i` of both is the same item; both have the same dimension. A rotation keeps all distances, so nothing is lost
/// or bent beyond what the two encoders disagree on.
pub fn procrustes(from: &Matrix, to: &Matrix) -> Result<AffineMap, TensorError> {
    check(from, to)?;
    if from.dim() != to.dim() {
        return Err(TensorError::Dimension { expected: from.dim(), got: to.dim() });
    }
    let (a, mean_a) = centred(from);
    let (b, mean_b) = centred(to);
    let (u, v_t) = singular_vectors(cross(&a, &b))?;
    Ok(affine(&(u * v_t), &mean_a, &mean_b))
}

/// The orthogonal matrix `R`, shape `(dim, dim)`, that brings the rows `R x` of `from` closest to the rows of `to`: Procrustes without the
/// shift.
pub fn rotation(from: &Matrix, to: &Matrix) -> Result<Matrix, TensorError> {
    check(from, to)?;
    if from.dim() != to.dim() {
        return Err(TensorError::Dimension { expected: from.dim(), got: to.dim() });
    }
    let plain = |m: &Matrix| DMatrix::from_row_iterator(m.rows(), m.dim(), m.as_slice().iter().map(|&x| f64::from(x)));
    let (u, v_t) = singular_vectors(cross(&plain(from), &plain(to)))?;
    let nothing = vec![0.0; from.dim()];
    Ok(affine(&(u * v_t).transpose(), &nothing, &nothing).weights)
}

/// The affine map of least squared error; of minimal norm where the anchors leave it undetermined. The dimensions may
/// differ.
pub fn linear(from: &Matrix, to: &Matrix) -> Result<AffineMap, TensorError> {
    check(from, to)?;
    let (a, mean_a) = centred(from);
    let (b, mean_b) = centred(to);
    // Pseudo-inverse of A^T A by its eigenvectors; directions without spread (relative to f32 input) get weight 0.
    let (values, vectors) = eigen_symmetric(cross(&a, &a))?;
    let cutoff = values.first().copied().unwrap_or(0.0) * 1e-11;
    let inverse = values.iter().map(|&v| if v > cutoff { 1.0 / v } else { 0.0 });
    let inverse = DMatrix::from_diagonal(&nalgebra::DVector::from_iterator(values.len(), inverse));
    let weights = &vectors * inverse * vectors.transpose() * cross(&a, &b);
    Ok(affine(&weights, &mean_a, &mean_b))
}

fn check(from: &Matrix, to: &Matrix) -> Result<(), TensorError> {
    if from.rows() != to.rows() || from.rows() == 0 {
        let got = format!("{} and {}", from.rows(), to.rows());
        return Err(TensorError::argument("anchor rows", &got, "equal and at least 1"));
    }
    from.check_finite()?;
    to.check_finite()
}

fn affine(weights: &DMatrix<f64>, mean_from: &[f64], mean_to: &[f64]) -> AffineMap {
    let mut out = Matrix::zeros(weights.nrows(), weights.ncols());
    for i in 0..weights.nrows() {
        for (j, w) in out.row_mut(i).iter_mut().enumerate() {
            *w = weights[(i, j)] as f32;
        }
    }
    let offset = mean_to.iter().enumerate().map(|(j, to)| {
        let moved: f64 = mean_from.iter().enumerate().map(|(i, m)| m * weights[(i, j)]).sum();
        (to - moved) as f32
    });
    AffineMap { weights: out, offset: offset.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SplitMix64;

    fn cloud(rows: usize, dim: usize, seed: u64) -> Matrix {
        let mut rng = SplitMix64::new(seed);
        let values = (0..rows * dim).map(|_| rng.normal() as f32).collect();
        Matrix::from_vec(rows, dim, values).unwrap()
    }

    fn orthogonality_error(w: &Matrix) -> f64 {
        let mut worst = 0.0f64;
        for i in 0..w.dim() {
            for j in 0..w.dim() {
                let dot: f64 = w.iter_rows().map(|r| f64::from(r[i]) * f64::from(r[j])).sum();
                worst = worst.max((dot - f64::from(u8::from(i == j))).abs());
            }
        }
        worst
    }

    fn worst_gap(a: &Matrix, b: &Matrix) -> f32 {
        let gaps = a.as_slice().iter().zip(b.as_slice()).map(|(x, y)| (x - y).abs());
        gaps.fold(0.0, f32::max)
    }

    #[test]
    fn a_planted_rotation_and_shift_are_recovered() {
        let from = cloud(50, 6, 1);
        let planted = procrustes(&cloud(40, 6, 2), &cloud(40, 6, 3)).unwrap();
        assert!(orthogonality_error(&planted.weights) < 1e-6);
        let mut shifted = planted.clone();
        shifted.offset = vec![1.0, -2.0, 0.5, 3.0, 0.0, 9.0];
        let to = shifted.apply(&from).unwrap();
        for map in [procrustes(&from, &to).unwrap(), linear(&from, &to).unwrap()] {
            assert!(worst_gap(&map.weights, &planted.weights) < 1e-5);
            assert!(worst_gap(&map.apply(&from).unwrap(), &to) < 1e-5);
        }
    }

    #[test]
    fn procrustes_equals_scipy() {
        // scipy.linalg.orthogonal_procrustes on the centred clouds.
        let from = Matrix::from_rows(&[[1.0, 2.0], [3.0, 1.0], [0.0, -1.0], [2.0, 2.0]]).unwrap();
        let to = Matrix::from_rows(&[[0.0, 1.0], [1.0, 3.0], [-2.0, 0.0], [1.0, 1.0]]).unwrap();
        let map = procrustes(&from, &to).unwrap();
        for (got, expected) in
            map.weights.as_slice().iter().zip([0.301131367937, 0.953582665134, 0.953582665134, -0.301131367937])
        {
            assert!((f64::from(*got) - expected).abs() < 1e-6, "{map:?}");
        }
    }

    #[test]
    fn linear_equals_numpy_and_takes_other_dimensions() {
        // numpy.linalg.lstsq with a column of ones.
        let from = Matrix::from_rows(&[[1.0, 2.0], [3.0, 1.0], [0.0, -1.0], [2.0, 2.0]]).unwrap();
        let to = Matrix::from_rows(&[[0.0, 1.0, 5.0], [1.0, 3.0, 5.0], [-2.0, 0.0, 5.0], [1.0, 1.0, 5.0]]).unwrap();
        let map = linear(&from, &to).unwrap();
        let got: Vec<f32> = map.weights.as_slice().iter().chain(&map.offset).copied().collect();
        for (got, expected) in got.iter().zip([
            0.714285714286,
            1.0,
            0.0,
            0.47619047619,
            -0.166666666667,
            -0.0,
            -1.547619047619,
            -0.083333333333,
            5.0,
        ]) {
            assert!((f64::from(*got) - expected).abs() < 1e-6, "{map:?}");
        }
    }

    #[test]
    fn undetermined_directions_get_no_weight() {
        let from = Matrix::from_rows(&[[1.0, 0.0], [2.0, 0.0], [4.0, 0.0]]).unwrap();
        let to = Matrix::from_rows(&[[2.0], [4.0], [8.0]]).unwrap();
        let map = linear(&from, &to).unwrap();
        assert!((map.weights.row(0)[0] - 2.0).abs() < 1e-6 && map.weights.row(1)[0].abs() < 1e-9);
    }

    #[test]
    fn bad_anchors_are_refused() {
        let a = cloud(4, 3, 1);
        assert!(procrustes(&a, &cloud(5, 3, 1)).is_err());
        assert!(procrustes(&a, &cloud(4, 2, 1)).is_err());
        assert!(linear(&Matrix::zeros(0, 0), &Matrix::zeros(0, 0)).is_err());
        let mut nan = a.clone();
        nan.row_mut(2)[1] = f32::NAN;
        assert!(procrustes(&a, &nan).is_err() && linear(&nan, &a).is_err());
        assert!(procrustes(&a, &a).unwrap().apply(&cloud(1, 2, 1)).is_err());
    }
}
