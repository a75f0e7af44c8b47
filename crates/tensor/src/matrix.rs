//! [`Matrix`]: embeddings as rows of f32, the shape that every crate of the workspace exchanges.

use ndarray::{Array2, ArrayView2};

/// What a matrix or a numeric routine refuses.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TensorError {
    /// The data doesn't fill the stated shape.
    #[error("{rows} rows of {dim} need {} values, got {got}", rows * dim)]
    Shape {
        /// Rows asked for.
        rows: usize,
        /// Columns asked for.
        dim: usize,
        /// Values given.
        got: usize,
    },
    /// Two operands, or a row and its matrix, differ in dimension.
    #[error("expected dimension {expected}, got {got}")]
    Dimension {
        /// The dimension in force.
        expected: usize,
        /// The dimension given.
        got: usize,
    },
    /// A value is NaN or infinite.
    #[error("row {row}, column {column} is {value}, not a finite number")]
    NotFinite {
        /// Row of the first offending value.
        row: usize,
        /// Column of the first offending value.
        column: usize,
        /// The value itself.
        value: f32,
    },
    /// An argument is outside what the routine accepts.
    #[error("{name} is {got}, must be {expected}")]
    Argument {
        /// The argument's name.
        name: &'static str,
        /// What was given.
        got: String,
        /// What is accepted.
        expected: String,
    },
}

impl TensorError {
    /// An [`Argument`](Self::Argument) error.
    pub(crate) fn argument(name: &'static str, got: &impl ToString, expected: impl Into<String>) -> Self {
        Self::Argument { name, got: got.to_string(), expected: expected.into() }
    }
}

/// Rows of f32, contiguous in memory; shape `(rows, dim)`.
///
/// ```
/// use eas_tensor::Matrix;
///
/// let mut m = Matrix::from_rows(&[[3.0, 4.0], [0.0, 2.0]])?;
/// m.normalize_rows();
/// assert_eq!(m.row(0), [0.6, 0.8]);
/// # Ok::<(), eas_tensor::TensorError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    values: Array2<f32>,
}

impl Matrix {
    /// A matrix of zeros.
    pub fn zeros(rows: usize, dim: usize) -> Self {
        Self { values: Array2::zeros((rows, dim)) }
    }

    /// Takes row-major `values`; an error when they don't fill `(rows, dim)`.
    pub fn from_vec(rows: usize, dim: usize, values: Vec<f32>) -> Result<Self, TensorError> {
        let got = values.len();
        Array2::from_shape_vec((rows, dim), values).map(|values| Self { values }).map_err(|_| TensorError::Shape {
            rows,
            dim,
            got,
        })
    }

    /// Copies rows of equal length; no rows give the shape `(0, 0)`.
    pub fn from_rows<R: AsRef<[f32]>>(rows: &[R]) -> Result<Self, TensorError> {
        let dim = rows.first().map_or(0, |r| r.as_ref().len());
        let mut values = Vec::with_capacity(rows.len() * dim);
        for row in rows {
            let row = row.as_ref();
            if row.len() != dim {
                return Err(TensorError::Dimension { expected: dim, got: row.len() });
            }
            values.extend_from_slice(row);
        }
        Self::from_vec(rows.len(), dim, values)
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.values.nrows()
    }

    /// Number of columns: the embedding dimension.
    pub fn dim(&self) -> usize {
        self.values.ncols()
    }

    /// True when there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows() == 0
    }

    /// Row `i`. Panics when `i >= rows()`, as slice indexing does.
    pub fn row(&self, i: usize) -> &[f32] {
        let dim = self.dim();
        &self.as_slice()[i * dim..(i + 1) * dim]
    }

    /// Row `i`, writable. Panics when `i >= rows()`, as slice indexing does.
    pub fn row_mut(&mut self, i: usize) -> &mut [f32] {
        let dim = self.dim();
        &mut self.as_mut_slice()[i * dim..(i + 1) * dim]
    }

    /// The rows in order.
    pub fn iter_rows(&self) -> impl ExactSizeIterator<Item = &[f32]> + '_ {
        (0..self.rows()).map(|i| self.row(i))
    }

    /// All values, row-major.
    pub fn as_slice(&self) -> &[f32] {
        self.values.as_slice().unwrap_or(&[])
    }

    /// All values, row-major and writable.
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        self.values.as_slice_mut().unwrap_or(&mut [])
    }

    /// The values as a vector, row-major.
    pub fn into_vec(self) -> Vec<f32> {
        self.values.into_raw_vec_and_offset().0
    }

    /// The ndarray view of shape `(rows, dim)`.
    pub fn view(&self) -> ArrayView2<'_, f32> {
        self.values.view()
    }

    /// The rows with the given indices, in their order. Panics on an index `>= rows()`.
    #[must_use]
    pub fn select(&self, indices: &[usize]) -> Self {
        let dim = self.dim();
        let mut out = Self::zeros(indices.len(), dim);
        for (to, &from) in indices.iter().enumerate() {
            out.row_mut(to).copy_from_slice(self.row(from));
        }
        out
    }

    /// Appends the rows of `other`; an error when the dimensions differ (an empty `(0, 0)` matrix takes any).
    pub fn append(&mut self, other: &Self) -> Result<(), TensorError> {
        if self.rows() == 0 {
            *self = other.clone();
            return Ok(());
        }
        if other.dim() != self.dim() {
            return Err(TensorError::Dimension { expected: self.dim(), got: other.dim() });
        }
        let (rows, dim) = (self.rows() + other.rows(), self.dim());
        let mut values = std::mem::replace(self, Self::zeros(0, 0)).into_vec();
        values.extend_from_slice(other.as_slice());
        *self = Self::from_vec(rows, dim, values)?;
        Ok(())
    }

    /// Scales each row to unit Euclidean length; rows of length zero stay zero.
    pub fn normalize_rows(&mut self) {
        let dim = self.dim();
        if dim == 0 {
            return;
        }
        for row in self.as_mut_slice().chunks_exact_mut(dim) {
            let norm = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
            if norm > 0.0 {
                for x in row {
                    *x = (f64::from(*x) / norm) as f32;
                }
            }
        }
    }

    /// An error that names the first NaN or infinite value.
    pub fn check_finite(&self) -> Result<(), TensorError> {
        match self.as_slice().iter().position(|x| !x.is_finite()) {
            None => Ok(()),
            Some(at) => Err(TensorError::NotFinite {
                row: at / self.dim(),
                column: at % self.dim(),
                value: self.as_slice()[at],
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_checked() {
        assert_eq!(Matrix::from_vec(2, 3, vec![0.0; 5]), Err(TensorError::Shape { rows: 2, dim: 3, got: 5 }));
        assert_eq!(
            Matrix::from_rows(&[vec![1.0], vec![1.0, 2.0]]),
            Err(TensorError::Dimension { expected: 1, got: 2 })
        );
        assert_eq!(Matrix::from_rows::<Vec<f32>>(&[]).map(|m| (m.rows(), m.dim())), Ok((0, 0)));
    }

    #[test]
    fn rows_are_selected_appended_and_normalized() {
        let mut m = Matrix::from_rows(&[[3.0, 4.0], [0.0, 0.0], [1.0, 0.0]]).unwrap();
        let picked = m.select(&[2, 0]);
        assert_eq!(picked.row(0), [1.0, 0.0]);
        m.append(&picked).unwrap();
        assert_eq!(m.rows(), 5);
        m.normalize_rows();
        assert_eq!(m.row(0), [0.6, 0.8]);
        assert_eq!(m.row(1), [0.0, 0.0]);
        assert!(m.append(&Matrix::zeros(1, 3)).is_err());
    }

    #[test]
    fn the_first_value_that_is_not_finite_is_named() {
        let m = Matrix::from_rows(&[[0.0, 1.0], [f32::INFINITY, f32::NAN]]).unwrap();
        assert_eq!(m.check_finite(), Err(TensorError::NotFinite { row: 1, column: 0, value: f32::INFINITY }));
    }
}
