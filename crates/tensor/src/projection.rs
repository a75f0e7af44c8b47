//! Linear maps to fewer dimensions behind one type, and how well they keep cosines.
//!
//! Principal components after centring keep Euclidean neighbours; they don't keep cosines, since the angle at the mean is another than the
//! angle at the origin. [`Projection::uncentred`] keeps those.

use crate::linalg::eigen_symmetric;
use crate::pca::{Pca, RandomProjection};
use crate::{Matrix, TensorError, kernels};
use nalgebra::DMatrix;

/// A linear map from `dim` to fewer dimensions.
#[derive(Debug, Clone, PartialEq)]
pub enum Projection {
    /// Principal components, the mean subtracted.
    Pca(Pca),
    /// Random Gaussian directions.
    Random(RandomProjection),
    /// Given directions, shape `(to, from)`: learned ones, or the right singular vectors of the rows.
    Linear(Matrix),
}

impl Projection {
    /// The right singular vectors of `rows` as they are, by falling singular value: the `to` directions through the origin that keep most of
    /// the squared lengths (Eckart and Young 1936). `1 <= to <= dim`, and at least one row.
    pub fn uncentred(rows: &Matrix, to: usize) -> Result<Self, TensorError> {
        let dim = rows.dim();
        if to == 0 || to > dim {
            return Err(TensorError::argument("dimension to", &to, format!("between 1 and the dimension, {dim}")));
        }
        if rows.rows() == 0 {
            return Err(TensorError::argument("rows", &0, "at least 1"));
        }
        rows.check_finite()?;
        let values = rows.as_slice().iter().map(|&x| f64::from(x));
        // Column-major from row order: one row a column.
        let columns = DMatrix::from_iterator(dim, rows.rows(), values);
        let (_, vectors) = eigen_symmetric(&columns * columns.transpose())?;
        let mut directions = Matrix::zeros(to, dim);
        for c in 0..to {
            let column = vectors.column(c);
            let sign = column[column.iamax()].signum();
            for (to, x) in directions.row_mut(c).iter_mut().zip(column.iter()) {
                *to = (sign * x) as f32;
            }
        }
        Ok(Self::Linear(directions))
    }

    /// Dimension of the projected rows.
    pub fn dim(&self) -> usize {
        match self {
            Self::Pca(pca) => pca.components.rows(),
            Self::Random(random) => random.directions.rows(),
            Self::Linear(directions) => directions.rows(),
        }
    }

    /// Projects rows of shape `(n, from)` to `(n, to)`.
    pub fn apply(&self, rows: &Matrix) -> Result<Matrix, TensorError> {
        match self {
            Self::Pca(pca) => pca.transform(rows),
            Self::Random(random) => random.transform(rows),
            Self::Linear(directions) => crate::gemm::matmul_transposed(rows, directions),
        }
    }
}

/// The mean of `(cos(x_i', x_j') - cos(x_i, x_j))^2` over `pairs` of rows, where `x'` is what became of `x`.
///
/// An error when there are no pairs, a pair names a row that isn't there, or the numbers of rows differ.
pub fn cosine_error(rows: &Matrix, projected: &Matrix, pairs: &[(usize, usize)]) -> Result<f64, TensorError> {
    if rows.rows() != projected.rows() {
        let expected = format!("{}, as many as before the projection", rows.rows());
        return Err(TensorError::argument("projected rows", &projected.rows(), expected));
    }
    if pairs.is_empty() {
        return Err(TensorError::argument("pairs", &0, "at least 1"));
    }
    let mut sum = 0.0;
    for &(i, j) in pairs {
        let largest = i.max(j);
        if largest >= rows.rows() {
            return Err(TensorError::argument("row of a pair", &largest, format!("below {}", rows.rows())));
        }
        let change = kernels::cosine(projected.row(i), projected.row(j)) - kernels::cosine(rows.row(i), rows.row(j));
        sum += f64::from(change).powi(2);
    }
    Ok(sum / pairs.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SplitMix64;

    fn cloud(seed: u64) -> Matrix {
        let mut rng = SplitMix64::new(seed);
        let values = (0..200 * 5).map(|i| ((5 - i % 5) as f64 * rng.normal() + 2.0) as f32).collect();
        Matrix::from_vec(200, 5, values).unwrap()
    }

    #[test]
    fn all_uncentred_directions_keep_every_cosine() {
        let rows = cloud(1);
        let pairs: Vec<_> = (0..199).map(|i| (i, i + 1)).collect();
        let full = Projection::uncentred(&rows, 5).unwrap();
        assert!(cosine_error(&rows, &full.apply(&rows).unwrap(), &pairs).unwrap() < 1e-10);
        let centred = Projection::Pca(Pca::fit(&rows, 5).unwrap());
        assert!(cosine_error(&rows, &centred.apply(&rows).unwrap(), &pairs).unwrap() > 1e-3);
    }

    #[test]
    fn the_directions_are_orthonormal_and_keep_more_than_random_ones() {
        let rows = cloud(2);
        let best = Projection::uncentred(&rows, 2).unwrap();
        let Projection::Linear(directions) = &best else { panic!("linear") };
        assert!((kernels::norm(directions.row(0)) - 1.0).abs() < 1e-6);
        assert!(kernels::dot(directions.row(0), directions.row(1)).abs() < 1e-6);
        let kept = |m: &Matrix| m.as_slice().iter().map(|x| x * x).sum::<f32>();
        let mut other = Projection::uncentred(&cloud(9), 5).unwrap();
        if let Projection::Linear(directions) = &mut other {
            *directions = directions.select(&[3, 4]);
        }
        assert!(kept(&best.apply(&rows).unwrap()) > kept(&other.apply(&rows).unwrap()));
        assert_eq!(best.dim(), 2);
        assert_eq!(Projection::Random(RandomProjection::new(5, 3, 1).unwrap()).dim(), 3);
    }

    #[test]
    fn bad_input_is_refused() {
        let rows = cloud(3);
        assert!(Projection::uncentred(&rows, 0).is_err() && Projection::uncentred(&rows, 6).is_err());
        assert!(Projection::uncentred(&Matrix::zeros(0, 3), 1).is_err());
        assert!(Projection::uncentred(&Matrix::from_rows(&[[f32::NAN]]).unwrap(), 1).is_err());
        assert!(cosine_error(&rows, &rows, &[]).is_err() && cosine_error(&rows, &rows, &[(0, 200)]).is_err());
        assert!(cosine_error(&rows, &rows.select(&[0]), &[(0, 0)]).is_err());
        assert!(Projection::uncentred(&rows, 2).unwrap().apply(&Matrix::zeros(1, 4)).is_err());
    }
}
