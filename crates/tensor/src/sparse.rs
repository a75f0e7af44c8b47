//! [`Csr`]: matrices that are mostly zero, such as word counts, stored row by row.

use crate::TensorError;

/// A compressed sparse row matrix of f32, shape `(rows, columns)`; within a row the columns ascend and no column repeats.
///
/// ```
/// use eas_tensor::sparse::Csr;
///
/// let counts = Csr::from_rows(4, &[vec![(0, 2.0), (3, 1.0)], vec![]])?;
/// assert_eq!(counts.row(0).collect::<Vec<_>>(), [(0, 2.0), (3, 1.0)]);
/// assert_eq!((counts.rows(), counts.columns(), counts.non_zeros()), (2, 4, 2));
/// # Ok::<(), eas_tensor::TensorError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Csr {
    columns: usize,
    /// Row `i` occupies `starts[i]..starts[i + 1]` of the two lists below.
    starts: Vec<usize>,
    indices: Vec<u32>,
    values: Vec<f32>,
}

impl Csr {
    /// Takes each row as `(column, value)` pairs in ascending order of columns; an error names the first pair that is out of order
    /// or outside of the shape.
    pub fn from_rows(columns: usize, rows: &[Vec<(u32, f32)>]) -> Result<Self, TensorError> {
        let total = rows.iter().map(Vec::len).sum();
        let mut matrix = Self {
            columns,
            starts: vec![0],
            indices: Vec::with_capacity(total),
            values: Vec::with_capacity(total),
        };
        for row in rows {
            let mut least = 0;
            for &(column, value) in row {
                let at = column as usize;
                if at < least || at >= columns {
                    return Err(TensorError::Argument {
                        name: "column",
                        got: column.to_string(),
                        expected: format!("at least {least} and below {columns}"),
                    });
                }
                least = at + 1;
                matrix.indices.push(column);
                matrix.values.push(value);
            }
            matrix.starts.push(matrix.indices.len());
        }
        Ok(matrix)
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.starts.len() - 1
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Number of stored entries.
    pub fn non_zeros(&self) -> usize {
        self.values.len()
    }

    /// The stored `(column, value)` pairs of row `i`, columns ascending. Panics when `i >= rows()`, as slice indexing does.
    pub fn row(&self, i: usize) -> impl ExactSizeIterator<Item = (u32, f32)> + '_ {
        let range = self.starts[i]..self.starts[i + 1];
        self.indices[range.clone()]
            .iter()
            .copied()
            .zip(self.values[range].iter().copied())
    }

    /// The inner product of row `i` with row `j` of `other`, summed in f64 over ascending columns. Panics on a row that does not
    /// exist.
    pub fn dot_rows(&self, i: usize, other: &Self, j: usize) -> f64 {
        let mut b = other.row(j).peekable();
        let mut sum = 0.0;
        for (column, value) in self.row(i) {
            while b.next_if(|&(c, _)| c < column).is_some() {}
            if let Some((_, found)) = b.next_if(|&(c, _)| c == column) {
                sum += f64::from(value) * f64::from(found);
            }
        }
        sum
    }

    /// The rows of the transpose: for each column its `(row, value)` pairs, rows ascending. Shape `(columns, rows)`.
    #[must_use]
    pub fn transpose(&self) -> Self {
        let mut starts = vec![0usize; self.columns + 1];
        for &column in &self.indices {
            starts[column as usize + 1] += 1;
        }
        for column in 0..self.columns {
            starts[column + 1] += starts[column];
        }
        let mut next = starts.clone();
        let mut indices = vec![0; self.indices.len()];
        let mut values = vec![0.0; self.values.len()];
        for i in 0..self.rows() {
            for (column, value) in self.row(i) {
                let at = &mut next[column as usize];
                indices[*at] = i as u32;
                values[*at] = value;
                *at += 1;
            }
        }
        Self {
            columns: self.rows(),
            starts,
            indices,
            values,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn entries_out_of_order_or_outside_are_refused() {
        assert!(Csr::from_rows(3, &[vec![(1, 1.0), (1, 2.0)]]).is_err());
        assert!(Csr::from_rows(3, &[vec![(2, 1.0), (0, 2.0)]]).is_err());
        let message = Csr::from_rows(3, &[vec![(3, 1.0)]]).unwrap_err().to_string();
        assert_eq!(message, "column is 3, must be at least 0 and below 3");
        let empty = Csr::from_rows(0, &[]).unwrap();
        assert_eq!((empty.rows(), empty.columns(), empty.non_zeros()), (0, 0, 0));
        assert_eq!(empty.transpose(), empty);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn agrees_with_dense_rows(dense in prop::collection::vec(prop::collection::vec(0u8..3, 6), 1..8)) {
            let rows: Vec<Vec<(u32, f32)>> = dense
                .iter()
                .map(|row| (0u32..).zip(row).filter(|&(_, &v)| v > 0).map(|(c, &v)| (c, f32::from(v))).collect())
                .collect();
            let sparse = Csr::from_rows(6, &rows).unwrap();
            let transposed = sparse.transpose();
            for (i, a) in dense.iter().enumerate() {
                for (j, b) in dense.iter().enumerate() {
                    let expected: f64 = a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
                    prop_assert_eq!(sparse.dot_rows(i, &sparse, j), expected);
                }
                for (c, v) in sparse.row(i) {
                    prop_assert!(transposed.row(c as usize).any(|entry| entry == (i as u32, v)));
                }
            }
            prop_assert_eq!(transposed.transpose(), sparse);
        }
    }
}
