//! Random rotations, which spread planted features over all coordinates.

use eas_tensor::Matrix;
use eas_tensor::rng::SplitMix64;

/// An orthogonal `dim x dim` matrix, uniform over the orthogonal group: Gram-Schmidt on rows of normal numbers (Stewart 1980).
pub fn random_orthogonal(dim: usize, rng: &mut SplitMix64) -> Matrix {
    let mut rows: Vec<Vec<f64>> = Vec::with_capacity(dim);
    while rows.len() < dim {
        let mut row: Vec<f64> = (0..dim).map(|_| rng.normal()).collect();
        // The second pass removes what rounding left of the first.
        for _ in 0..2 {
            for earlier in &rows {
                let along: f64 = row.iter().zip(earlier).map(|(x, e)| x * e).sum();
                for (x, e) in row.iter_mut().zip(earlier) {
                    *x -= along * e;
                }
            }
        }
        let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt();
        // A row that lies in the span of the earlier ones is drawn again.
        if norm > 1e-9 {
            rows.push(row.into_iter().map(|x| x / norm).collect());
        }
    }
    let mut matrix = Matrix::zeros(dim, dim);
    for (i, row) in rows.iter().enumerate() {
        for (to, &from) in matrix.row_mut(i).iter_mut().zip(row) {
            *to = from as f32;
        }
    }
    matrix
}

/// `row` times an orthogonal matrix of as many rows.
pub(crate) fn rotate(row: &[f64], rotation: &Matrix, to: &mut [f32]) {
    let mut sum = vec![0.0; rotation.dim()];
    for (&x, basis) in row.iter().zip(rotation.iter_rows()) {
        for (s, &b) in sum.iter_mut().zip(basis) {
            *s += x * f64::from(b);
        }
    }
    for (out, s) in to.iter_mut().zip(sum) {
        *out = s as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_columns_are_orthonormal() {
        for dim in [1, 2, 32] {
            let q = random_orthogonal(dim, &mut SplitMix64::new(3));
            for i in 0..dim {
                for j in 0..dim {
                    let expected = f32::from(u8::from(i == j));
                    let rows: f32 = q.row(i).iter().zip(q.row(j)).map(|(a, b)| a * b).sum();
                    let columns: f32 = q.iter_rows().map(|row| row[i] * row[j]).sum();
                    assert!((rows - expected).abs() < 1e-5 && (columns - expected).abs() < 1e-5, "{dim} {i} {j}");
                }
            }
        }
        assert!(random_orthogonal(0, &mut SplitMix64::new(3)).is_empty());
    }

    #[test]
    fn first_coordinates_have_the_variance_of_a_uniform_direction() {
        let mut rng = SplitMix64::new(5);
        let squares: f64 = (0..2_000).map(|_| f64::from(random_orthogonal(4, &mut rng).row(3)[0]).powi(2)).sum();
        assert!((squares / 2_000.0 - 0.25).abs() < 0.02, "{squares}");
    }

    #[test]
    fn rotating_keeps_lengths() {
        let q = random_orthogonal(6, &mut SplitMix64::new(8));
        let row = [1.0, -2.0, 0.5, 0.0, 3.0, 1.5];
        let mut out = [0.0; 6];
        rotate(&row, &q, &mut out);
        let (before, after) =
            (row.iter().map(|x| x * x).sum::<f64>(), out.iter().map(|&x| f64::from(x * x)).sum::<f64>());
        assert!((before - after).abs() < 1e-4);
    }
}
