//! The decompositions that the rest of the crate needs, in f64, with their failures as errors.

use crate::{Matrix, TensorError};
use nalgebra::DMatrix;

/// The rows of `m` less their mean, and the mean; f64 so that sums over many rows keep their digits.
pub(crate) fn centred(m: &Matrix) -> (DMatrix<f64>, Vec<f64>) {
    let mut mean = vec![0.0; m.dim()];
    for row in m.iter_rows() {
        for (sum, x) in mean.iter_mut().zip(row) {
            *sum += f64::from(*x);
        }
    }
    for sum in &mut mean {
        *sum /= m.rows() as f64;
    }
    let values = m.iter_rows().flat_map(|row| row.iter().zip(&mean).map(|(x, m)| f64::from(*x) - m));
    (DMatrix::from_row_iterator(m.rows(), m.dim(), values), mean)
}

/// `a^T b`.
pub(crate) fn cross(a: &DMatrix<f64>, b: &DMatrix<f64>) -> DMatrix<f64> {
    a.tr_mul(b)
}

/// Orthogonal factors of the thin singular value decomposition `m = U diag(s) V^T`: `U` and `V^T`.
pub(crate) fn singular_vectors(m: DMatrix<f64>) -> Result<(DMatrix<f64>, DMatrix<f64>), TensorError> {
    let shape = format!("{} x {}", m.nrows(), m.ncols());
    let svd = m.try_svd(true, true, f64::EPSILON, 10_000);
    svd.and_then(|svd| svd.u.zip(svd.v_t))
        .ok_or_else(|| TensorError::argument("matrix", &shape, "one whose singular value decomposition converges"))
}

/// Eigenvalues in falling order and the matching eigenvectors as columns, of a symmetric matrix.
pub(crate) fn eigen_symmetric(m: DMatrix<f64>) -> Result<(Vec<f64>, DMatrix<f64>), TensorError> {
    let shape = format!("{} x {}", m.nrows(), m.ncols());
    let eigen = m
        .try_symmetric_eigen(f64::EPSILON, 10_000)
        .ok_or_else(|| TensorError::argument("matrix", &shape, "one whose eigenvalues converge"))?;
    let mut order: Vec<usize> = (0..eigen.eigenvalues.len()).collect();
    order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]).then(a.cmp(&b)));
    let values = order.iter().map(|&i| eigen.eigenvalues[i]).collect();
    Ok((values, eigen.eigenvectors.select_columns(&order)))
}
