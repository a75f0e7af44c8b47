//! [`Csr`]: matrices of mostly zeros, such as term counts, in compressed sparse rows.

use crate::{Matrix, TensorError};

/// A sparse f32 matrix of shape `(rows, dim)`; within a row the columns ascend and occur once.
#[derive(Debug, Clone, PartialEq)]
pub struct Csr {
    dim: usize,
    starts: Vec<usize>,
    columns: Vec<u32>,
    values: Vec<f32>,
}

/// One row of a [`Csr`]: ascending columns and their values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SparseRow<'a> {
    /// Columns of the stored values, ascending.
    pub columns: &'a [u32],
    /// The stored values.
    pub values: &'a [f32],
}

impl Csr {
    /// Builds from rows of `(column, value)` pairs in any order; values of the same column are added up, and zeros
    /// aren't stored.
    ///
    /// ```
    /// use eas_tensor::sparse::Csr;
    ///
    /// let m = Csr::from_rows(4, &[vec![(3, 1.0), (0, 2.0), (3, 0.5)], vec![]])?;
    /// assert_eq!((m.row(0).columns, m.row(0).values), (&[0, 3][..], &[2.0, 1.5][..]));
    /// # Ok::<(), eas_tensor::TensorError>(())
    /// ```
    pub fn from_rows(dim: usize, rows: &[Vec<(u32, f32)>]) -> Result<Self, TensorError> {
        let mut out = Self { dim, starts: vec![0], columns: Vec::new(), values: Vec::new() };
        for (r, row) in rows.iter().enumerate() {
            let mut row = row.clone();
            row.sort_by_key(|&(column, _)| column);
            for same in row.chunk_by(|a, b| a.0 == b.0) {
                let column = same[0].0;
                let value: f32 = same.iter().map(|&(_, v)| v).sum();
                if column as usize >= dim {
                    return Err(TensorError::argument("column", &column, format!("below {dim}")));
                }
                if !value.is_finite() {
                    return Err(TensorError::NotFinite { row: r, column: column as usize, value });
                }
                if value != 0.0 {
                    out.columns.push(column);
                    out.values.push(value);
                }
            }
            out.starts.push(out.columns.len());
        }
        Ok(out)
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.starts.len() - 1
    }

    /// Number of columns.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Number of stored values.
    pub fn nnz(&self) -> usize {
        self.values.len()
    }

    /// Row `i`. Panics when `i >= rows()`, as slice indexing does.
    pub fn row(&self, i: usize) -> SparseRow<'_> {
        let range = self.starts[i]..self.starts[i + 1];
        SparseRow { columns: &self.columns[range.clone()], values: &self.values[range] }
    }

    /// The rows in order.
    pub fn iter_rows(&self) -> impl ExactSizeIterator<Item = SparseRow<'_>> + '_ {
        (0..self.rows()).map(|i| self.row(i))
    }

    /// Scales each row to unit Euclidean length; rows of zeros stay so.
    pub fn normalize_rows(&mut self) {
        for ends in self.starts.windows(2) {
            let row = &mut self.values[ends[0]..ends[1]];
            let norm = row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
            for v in row {
                *v = (f64::from(*v) / norm) as f32;
            }
        }
    }

    /// The same values with the zeros written out; shape `(rows, dim)`.
    pub fn to_dense(&self) -> Matrix {
        let mut out = Matrix::zeros(self.rows(), self.dim);
        for (i, row) in self.iter_rows().enumerate() {
            let to = out.row_mut(i);
            for (&c, &v) in row.columns.iter().zip(row.values) {
                to[c as usize] = v;
            }
        }
        out
    }

    /// Rows and columns exchanged: row `c` of the result lists the rows that hold column `c`, as an inverted index does.
    #[must_use]
    pub fn transpose(&self) -> Self {
        let mut starts = vec![0; self.dim + 1];
        for &c in &self.columns {
            starts[c as usize + 1] += 1;
        }
        for c in 0..self.dim {
            starts[c + 1] += starts[c];
        }
        let mut next = starts.clone();
        let mut columns = vec![0; self.nnz()];
        let mut values = vec![0.0; self.nnz()];
        for (r, row) in self.iter_rows().enumerate() {
            for (&c, &v) in row.columns.iter().zip(row.values) {
                let at = next[c as usize];
                next[c as usize] += 1;
                columns[at] = r as u32;
                values[at] = v;
            }
        }
        Self { dim: self.rows(), starts, columns, values }
    }
}

impl SparseRow<'_> {
    /// Sum of products over the shared columns.
    pub fn dot(&self, other: &SparseRow<'_>) -> f32 {
        let (mut i, mut j, mut sum) = (0, 0, 0.0);
        while i < self.columns.len() && j < other.columns.len() {
            match self.columns[i].cmp(&other.columns[j]) {
                std::cmp::Ordering::Less => i += 1,
                std::cmp::Ordering::Greater => j += 1,
                std::cmp::Ordering::Equal => {
                    sum += self.values[i] * other.values[j];
                    i += 1;
                    j += 1;
                }
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_the_dense_matrix(rows in prop::collection::vec(prop::collection::vec((0u32..6, -4i8..5), 0..9), 0..7)) {
            let rows: Vec<Vec<(u32, f32)>> =
                rows.into_iter().map(|r| r.into_iter().map(|(c, v)| (c, f32::from(v))).collect()).collect();
            let m = Csr::from_rows(6, &rows).unwrap();
            let mut expected = vec![vec![0.0; 6]; rows.len()];
            for (r, row) in rows.iter().enumerate() {
                for &(c, v) in row {
                    expected[r][c as usize] += v;
                }
            }
            let dense = m.to_dense();
            for (r, row) in expected.iter().enumerate() {
                prop_assert_eq!(dense.row(r), &row[..]);
            }
            prop_assert_eq!(m.nnz(), expected.iter().flatten().filter(|v| **v != 0.0).count());
            let t = m.transpose();
            prop_assert_eq!((t.rows(), t.dim()), (6, rows.len()));
            prop_assert_eq!(&t.transpose(), &m);
            for a in 0..rows.len() {
                for b in 0..rows.len() {
                    let naive: f32 = (0..6).map(|c| expected[a][c] * expected[b][c]).sum();
                    prop_assert_eq!(m.row(a).dot(&m.row(b)), naive);
                }
            }
        }
    }

    #[test]
    fn rows_become_unit_length_and_empty_rows_stay_empty() {
        let mut m = Csr::from_rows(3, &[vec![(0, 3.0), (2, 4.0)], vec![], vec![(1, 2.0), (1, -2.0)]]).unwrap();
        m.normalize_rows();
        assert_eq!(m.row(0).values, [0.6, 0.8]);
        assert_eq!((m.row(1).values.len(), m.row(2).values.len()), (0, 0));
    }

    #[test]
    fn columns_outside_and_values_that_are_not_finite_are_refused() {
        let message = |r: Result<Csr, TensorError>| r.unwrap_err().to_string();
        assert!(message(Csr::from_rows(2, &[vec![(2, 1.0)]])).contains("column is 2, must be below 2"));
        assert!(message(Csr::from_rows(2, &[vec![], vec![(1, f32::NAN)]])).contains("row 1, column 1 is NaN"));
    }
}
