//! Linear projections to fewer dimensions: principal components and random directions.

use crate::linalg::eigen_symmetric;
use crate::rng::SplitMix64;
use crate::{Matrix, TensorError, kernels};
use nalgebra::DMatrix;
use rayon::prelude::*;

/// The directions of largest variance of a set of rows (Pearson 1901), from the eigenvectors of their covariance.
///
/// A component's sign is fixed so that its entry of largest magnitude is positive.
#[derive(Debug, Clone, PartialEq)]
pub struct Pca {
    /// Mean of the fitted rows; length `dim`.
    pub mean: Vec<f32>,
    /// Unit directions by falling variance; shape `(components, dim)`.
    pub components: Matrix,
    /// Variance along each component (divided by `rows - 1`).
    pub variances: Vec<f64>,
    /// Variance along all directions together.
    pub total_variance: f64,
}

impl Pca {
    /// Fits `components` directions; there must be at least two rows, and `1 <= components <= dim`.
    pub fn fit(data: &Matrix, components: usize) -> Result<Self, TensorError> {
        let dim = data.dim();
        if components == 0 || components > dim {
            let expected = format!("between 1 and the dimension, {dim}");
            return Err(TensorError::argument("components", &components, expected));
        }
        if data.rows() < 2 {
            return Err(TensorError::argument("rows", &data.rows(), "at least 2"));
        }
        data.check_finite()?;
        let mut mean = vec![0.0f64; dim];
        for row in data.iter_rows() {
            mean.iter_mut().zip(row).for_each(|(m, x)| *m += f64::from(*x));
        }
        for m in &mut mean {
            *m /= data.rows() as f64;
        }
        let covariance = scatter(data, &mean) / (data.rows() - 1) as f64;
        let total_variance = covariance.trace();
        let (variances, vectors) = eigen_symmetric(covariance)?;

        let mut directions = Matrix::zeros(components, dim);
        for c in 0..components {
            let column = vectors.column(c);
            let sign = column[column.iamax()].signum();
            for (to, x) in directions.row_mut(c).iter_mut().zip(column.iter()) {
                *to = (sign * x) as f32;
            }
        }
        Ok(Self {
            mean: mean.iter().map(|&m| m as f32).collect(),
            components: directions,
            // Rounding can leave a variance of zero slightly negative.
            variances: variances.iter().take(components).map(|v| v.max(0.0)).collect(),
            total_variance,
        })
    }

    /// Share of the total variance that lies along each component.
    pub fn explained_ratio(&self) -> Vec<f64> {
        self.variances.iter().map(|v| v / self.total_variance).collect()
    }

    /// Coordinates of `rows` along the components: shape `(n, dim)` to `(n, components)`.
    pub fn transform(&self, rows: &Matrix) -> Result<Matrix, TensorError> {
        let offsets: Vec<f32> = self.components.iter_rows().map(|c| kernels::dot(c, &self.mean)).collect();
        let mut out = project(rows, &self.components)?;
        for i in 0..out.rows() {
            out.row_mut(i).iter_mut().zip(&offsets).for_each(|(x, o)| *x -= o);
        }
        Ok(out)
    }

    /// The rows of the original space that have the given coordinates: shape `(n, components)` to `(n, dim)`.
    pub fn inverse_transform(&self, coordinates: &Matrix) -> Result<Matrix, TensorError> {
        if coordinates.dim() != self.components.rows() {
            return Err(TensorError::Dimension { expected: self.components.rows(), got: coordinates.dim() });
        }
        let mut out = Matrix::zeros(coordinates.rows(), self.mean.len());
        for (i, row) in coordinates.iter_rows().enumerate() {
            let to = out.row_mut(i);
            to.copy_from_slice(&self.mean);
            for (&x, component) in row.iter().zip(self.components.iter_rows()) {
                to.iter_mut().zip(component).for_each(|(t, c)| *t += x * c);
            }
        }
        Ok(out)
    }
}

/// Projection onto random Gaussian directions, scaled so that squared lengths are kept in expectation (Johnson and
/// Lindenstrauss 1984); needs no data to fit.
#[derive(Debug, Clone, PartialEq)]
pub struct RandomProjection {
    /// The directions, shape `(dim to, dim from)`.
    pub directions: Matrix,
}

impl RandomProjection {
    /// `to` directions drawn for vectors of dimension `from`; both at least 1.
    pub fn new(from: usize, to: usize, seed: u64) -> Result<Self, TensorError> {
        for (name, value) in [("dimension from", from), ("dimension to", to)] {
            if value == 0 {
                return Err(TensorError::argument(name, &value, "at least 1"));
            }
        }
        let mut rng = SplitMix64::new(seed);
        let scale = 1.0 / (to as f64).sqrt();
        let values = (0..from * to).map(|_| (scale * rng.normal()) as f32).collect();
        Ok(Self { directions: Matrix::from_vec(to, from, values)? })
    }

    /// Projects rows of shape `(n, dim from)` to `(n, dim to)`.
    pub fn transform(&self, rows: &Matrix) -> Result<Matrix, TensorError> {
        project(rows, &self.directions)
    }
}

/// Dot products of each row with each direction.
fn project(rows: &Matrix, directions: &Matrix) -> Result<Matrix, TensorError> {
    if rows.dim() != directions.dim() {
        return Err(TensorError::Dimension { expected: directions.dim(), got: rows.dim() });
    }
    let mut out = Matrix::zeros(rows.rows(), directions.rows());
    out.as_mut_slice().par_chunks_exact_mut(directions.rows().max(1)).enumerate().for_each(|(i, to)| {
        for (t, direction) in to.iter_mut().zip(directions.iter_rows()) {
            *t = kernels::dot(rows.row(i), direction);
        }
    });
    Ok(out)
}

/// Sum over the rows of the outer product of their difference to the mean. A fixed number of blocks, summed in order, keeps
/// the result independent of the number of threads.
fn scatter(data: &Matrix, mean: &[f64]) -> DMatrix<f64> {
    let (rows, dim) = (data.rows(), data.dim());
    let block = rows.div_ceil(16).max(256);
    let parts: Vec<DMatrix<f64>> = (0..rows.div_ceil(block))
        .into_par_iter()
        .map(|b| {
            let range = b * block..((b + 1) * block).min(rows);
            let values = range.clone().flat_map(|i| data.row(i).iter().zip(mean).map(|(x, m)| f64::from(*x) - m));
            // Column-major from row order: this is the transposed block, one centred row a column.
            let columns = DMatrix::from_iterator(dim, range.len(), values);
            &columns * columns.transpose()
        })
        .collect();
    parts.into_iter().fold(DMatrix::zeros(dim, dim), |sum, part| sum + part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_abs_diff_eq;

    fn small() -> Matrix {
        Matrix::from_rows(&[
            [2.5, 2.4, 0.5],
            [0.5, 0.7, -1.0],
            [2.2, 2.9, 0.1],
            [1.9, 2.2, 0.8],
            [3.1, 3.0, -0.3],
            [2.3, 2.7, 0.6],
        ])
        .unwrap()
    }

    #[test]
    fn equals_scikit_learn() {
        let pca = Pca::fit(&small(), 2).unwrap();
        for (got, expected) in pca.components.as_slice().iter().zip([
            0.665334056,
            0.654368344,
            0.359350338,
            -0.339079308,
            -0.163955036,
            0.926360604,
        ]) {
            assert_abs_diff_eq!(f64::from(*got), expected, epsilon = 1e-6);
        }
        for (got, expected) in pca.variances.iter().zip([1.602640417, 0.286851493]) {
            assert_abs_diff_eq!(*got, expected, epsilon = 1e-6);
        }
        for (got, expected) in pca.explained_ratio().iter().zip([0.829094883, 0.148397047]) {
            assert_abs_diff_eq!(*got, expected, epsilon = 1e-6);
        }
        let coordinates = pca.transform(&small()).unwrap();
        for (got, expected) in coordinates.row(1).iter().zip([-2.512615647, -0.232499798]) {
            assert_abs_diff_eq!(f64::from(*got), expected, epsilon = 1e-5);
        }
    }

    #[test]
    fn all_components_lose_nothing() {
        let pca = Pca::fit(&small(), 3).unwrap();
        let back = pca.inverse_transform(&pca.transform(&small()).unwrap()).unwrap();
        for (a, b) in back.as_slice().iter().zip(small().as_slice()) {
            assert_abs_diff_eq!(a, b, epsilon = 1e-5);
        }
        assert_abs_diff_eq!(pca.explained_ratio().iter().sum::<f64>(), 1.0, epsilon = 1e-9);
    }

    #[test]
    fn planted_directions_are_found_in_many_rows() {
        let mut rng = SplitMix64::new(1);
        let rows: Vec<Vec<f32>> = (0..6_000)
            .map(|_| {
                let (a, b) = (3.0 * rng.normal(), rng.normal());
                (0..20)
                    .map(|d| {
                        let strong = if d < 10 { a / 10f64.sqrt() } else { 0.0 };
                        let weak = if d >= 10 { b / 10f64.sqrt() } else { 0.0 };
                        (5.0 + strong + weak + 0.05 * rng.normal()) as f32
                    })
                    .collect()
            })
            .collect();
        let pca = Pca::fit(&Matrix::from_rows(&rows).unwrap(), 3).unwrap();
        assert_abs_diff_eq!(pca.variances[0], 9.0, epsilon = 0.5);
        assert_abs_diff_eq!(pca.variances[1], 1.0, epsilon = 0.06);
        assert!(pca.variances[2] < 0.01);
        let along: f32 = pca.components.row(0)[..10].iter().sum::<f32>() / 10f32.sqrt();
        assert!(along > 0.999, "{along}");
    }

    #[test]
    fn random_directions_keep_distances_on_average() {
        let mut rng = SplitMix64::new(4);
        let data = Matrix::from_vec(60, 300, (0..18_000).map(|_| rng.normal() as f32).collect()).unwrap();
        let low = RandomProjection::new(300, 128, 7).unwrap().transform(&data).unwrap();
        let mut ratios = Vec::new();
        for i in 0..60 {
            for j in 0..i {
                ratios
                    .push(kernels::squared_l2(low.row(i), low.row(j)) / kernels::squared_l2(data.row(i), data.row(j)));
            }
        }
        let mean = ratios.iter().sum::<f32>() / ratios.len() as f32;
        assert!((mean - 1.0).abs() < 0.03, "{mean}");
        assert!(ratios.iter().all(|r| (0.5..1.6).contains(r)));
    }

    #[test]
    fn bad_input_is_refused() {
        assert!(Pca::fit(&small(), 0).is_err());
        assert!(Pca::fit(&small(), 4).is_err());
        assert!(Pca::fit(&small().select(&[0]), 1).is_err());
        assert!(Pca::fit(&Matrix::from_rows(&[[1.0], [f32::INFINITY]]).unwrap(), 1).is_err());
        let pca = Pca::fit(&small(), 2).unwrap();
        assert!(pca.transform(&Matrix::zeros(1, 2)).is_err());
        assert!(pca.inverse_transform(&Matrix::zeros(1, 3)).is_err());
        assert!(RandomProjection::new(0, 3, 1).is_err() && RandomProjection::new(3, 0, 1).is_err());
        assert!(RandomProjection::new(3, 2, 1).unwrap().transform(&Matrix::zeros(1, 4)).is_err());
    }
}
