//! How many dimensions the rows really use.

use crate::kernels::squared_l2;
use crate::{Matrix, TensorError};
use rayon::prelude::*;

/// Maximum-likelihood estimate of the dimension of the surface that the rows lie on, from the distances to each row's
/// `k` nearest others (Levina and Bickel 2004, averaged as MacKay and Ghahramani correct it). `k = 2` is the two-neighbour
/// estimate of Facco et al. (2017). `O(rows^2)`: sample first when there are many.
///
/// A row equal to its nearest neighbour tells nothing about scale and is left out; an error when all are.
pub fn intrinsic_dimension(rows: &Matrix, k: usize) -> Result<f64, TensorError> {
    if k < 2 || k >= rows.rows() {
        let expected = format!("at least 2 and below the {} rows", rows.rows());
        return Err(TensorError::argument("k", &k, expected));
    }
    rows.check_finite()?;
    let logs: Vec<Option<f64>> = (0..rows.rows())
        .into_par_iter()
        .map(|i| {
            let others = (0..rows.rows()).filter(|&j| j != i);
            let mut distances: Vec<f32> = others.map(|j| squared_l2(rows.row(i), rows.row(j))).collect();
            distances.select_nth_unstable_by(k - 1, f32::total_cmp);
            let last = f64::from(distances[k - 1]);
            if distances[..k].contains(&0.0) {
                return None;
            }
            // Squared distances: half the logarithm of their ratio.
            let sum: f64 = distances[..k - 1].iter().map(|&d| 0.5 * (last / f64::from(d)).ln()).sum();
            Some(sum)
        })
        .collect();
    let (mut sum, mut count) = (0.0, 0.0);
    for log in logs.into_iter().flatten() {
        sum += log;
        count += (k - 1) as f64;
    }
    // One less than the number of ratios makes the estimate unbiased.
    if count < 2.0 || sum <= 0.0 {
        return Err(TensorError::argument("rows", &"all equal to their neighbours", "mostly distinct"));
    }
    Ok((count - 1.0) / sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SplitMix64;

    /// Points of a flat sheet of dimension `inner`, rotated into `outer` dimensions by random directions.
    fn sheet(n: usize, inner: usize, outer: usize, seed: u64) -> Matrix {
        let mut rng = SplitMix64::new(seed);
        let directions: Vec<f64> = (0..inner * outer).map(|_| rng.normal()).collect();
        let mut values = Vec::new();
        for _ in 0..n {
            let point: Vec<f64> = (0..inner).map(|_| rng.normal()).collect();
            for o in 0..outer {
                values.push((0..inner).map(|i| point[i] * directions[i * outer + o]).sum::<f64>() as f32);
            }
        }
        Matrix::from_vec(n, outer, values).unwrap()
    }

    #[test]
    fn the_planted_dimension_is_found() {
        for (inner, tolerance) in [(1, 0.1), (2, 0.15), (4, 0.4)] {
            let rows = sheet(1_500, inner, 20, inner as u64);
            for k in [2, 10] {
                let got = intrinsic_dimension(&rows, k).unwrap();
                assert!((got - inner as f64).abs() < tolerance, "dimension {inner}, k {k}: {got}");
            }
        }
    }

    #[test]
    fn copies_are_left_out_and_bad_input_is_refused() {
        let mut rows = sheet(300, 2, 5, 1);
        let plain = intrinsic_dimension(&rows, 5).unwrap();
        let copy = rows.select(&[0]);
        rows.append(&copy).unwrap();
        assert!((intrinsic_dimension(&rows, 5).unwrap() - plain).abs() < 0.1);
        assert!(intrinsic_dimension(&rows, 1).is_err());
        assert!(intrinsic_dimension(&rows, 301).is_err());
        assert!(intrinsic_dimension(&Matrix::from_rows(&[[1.0]; 9]).unwrap(), 3).is_err());
        assert!(intrinsic_dimension(&Matrix::from_rows(&[[1.0], [2.0], [f32::NAN]]).unwrap(), 2).is_err());
    }
}
