//! How many dimensions the rows really use: by local estimates from the distances to neighbours, and by their variance.

use crate::kernels::squared_l2;
use crate::{Matrix, TensorError};
use rayon::prelude::*;
use std::collections::HashSet;

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

/// How the estimates at the single rows become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Averaging {
    /// Their mean, as Levina and Bickel (2004) have it; too high, since a row whose neighbours are crowded counts for much.
    Mean,
    /// Their median.
    Median,
    /// Their harmonic mean, the maximum-likelihood estimate of one dimension for all rows (MacKay and Ghahramani 2005).
    Harmonic,
}

/// Distances from each distinct row to its nearest others: what the local estimators need, computed once.
#[derive(Debug, Clone, PartialEq)]
pub struct NeighbourDistances {
    /// Ascending, `k` a row.
    distances: Vec<Vec<f64>>,
    duplicates: usize,
}

impl NeighbourDistances {
    /// The `k >= 2` smallest distances from each row to the others, rows that equal an earlier one left out: a distance of 0 has no
    /// logarithm. `O(rows^2)`: sample first when there are many. An error when `k` or fewer distinct rows are left.
    pub fn of(rows: &Matrix, k: usize) -> Result<Self, TensorError> {
        rows.check_finite()?;
        // -0 and 0 are the same place.
        let mut seen = HashSet::new();
        let place = |row: &[f32]| row.iter().map(|x| (x + 0.0).to_bits()).collect::<Vec<u32>>();
        let distinct: Vec<usize> = (0..rows.rows()).filter(|&i| seen.insert(place(rows.row(i)))).collect();
        if k < 2 || k >= distinct.len() {
            let expected = format!("at least 2 and below the {} distinct rows", distinct.len());
            return Err(TensorError::argument("k", &k, expected));
        }
        let distances = distinct
            .par_iter()
            .map(|&i| {
                let others = distinct.iter().filter(|&&j| j != i);
                let mut near: Vec<(f32, usize)> = others.map(|&j| (squared_l2(rows.row(i), rows.row(j)), j)).collect();
                near.select_nth_unstable_by(k - 1, |a, b| a.0.total_cmp(&b.0));
                // The ratios of close distances lose digits in f32.
                let mut distances: Vec<f64> =
                    near[..k].iter().map(|&(_, j)| distance(rows.row(i), rows.row(j))).collect();
                distances.sort_by(f64::total_cmp);
                distances
            })
            .collect();
        Ok(Self { distances, duplicates: rows.rows() - distinct.len() })
    }

    /// Rows left out because they equal an earlier one.
    pub fn duplicates(&self) -> usize {
        self.duplicates
    }

    /// The maximum-likelihood estimate from `k` neighbours (Levina and Bickel 2004): at a row whose `j`-th neighbour is at distance `T_j`,
    /// `(k - 1) / sum_{j < k} ln(T_k / T_j)`, averaged over the rows. `unbiased` takes `k - 2` for `k - 1`, and then `k` is at least 3.
    ///
    /// An error when `k` is above that of the distances, or all distances of a row are equal: its estimate is infinite.
    pub fn mle(&self, k: usize, averaging: Averaging, unbiased: bool) -> Result<f64, TensorError> {
        let least = if unbiased { 3 } else { 2 };
        let most = self.distances.first().map_or(0, Vec::len);
        if k < least || k > most {
            return Err(TensorError::argument("k", &k, format!("between {least} and {most}")));
        }
        let sums: Vec<f64> =
            self.distances.iter().map(|t| t[..k - 1].iter().map(|t_j| (t[k - 1] / t_j).ln()).sum()).collect();
        let degrees = (k + 1 - least) as f64;
        let n = sums.len() as f64;
        let estimate = match averaging {
            Averaging::Harmonic => degrees * n / sums.iter().sum::<f64>(),
            Averaging::Mean => sums.iter().map(|sum| degrees / sum).sum::<f64>() / n,
            Averaging::Median => median(sums.iter().map(|sum| degrees / sum).collect()),
        };
        if estimate.is_finite() {
            return Ok(estimate);
        }
        Err(TensorError::argument("rows", &"at equal distances from their neighbours", "at distances that differ"))
    }

    /// The two-neighbour estimate `rows / sum ln(T_2 / T_1)` (Facco et al. 2017).
    pub fn two_nn(&self) -> Result<f64, TensorError> {
        self.mle(2, Averaging::Harmonic, false)
    }
}

/// The first number of components whose variances, given in falling order, sum to at least `share` of `total`.
///
/// An error when they don't reach it, `share` isn't in `(0, 1]` or `total` isn't positive.
pub fn variance_dimension(variances: &[f64], total: f64, share: f64) -> Result<usize, TensorError> {
    if share.is_nan() || share <= 0.0 || share > 1.0 {
        return Err(TensorError::argument("share", &share, "above 0 and at most 1"));
    }
    if total.is_nan() || total <= 0.0 {
        return Err(TensorError::argument("total variance", &total, "above 0"));
    }
    let mut sum = 0.0;
    for (at, variance) in variances.iter().enumerate() {
        sum += variance;
        // All components together may miss the total by rounding.
        if sum / total >= share - 1e-12 {
            return Ok(at + 1);
        }
    }
    Err(TensorError::argument("variances", &format!("{} of the total", sum / total), format!("at least {share} of it")))
}

/// `(sum v)^2 / sum v^2` of the variances along all principal components: their number if they are equal, 1 if one has everything.
pub fn participation_ratio(variances: &[f64]) -> Result<f64, TensorError> {
    let (sum, squares) = variances.iter().fold((0.0, 0.0), |(sum, squares), v| (sum + v, squares + v * v));
    let ratio = sum * sum / squares;
    if ratio.is_finite() {
        Ok(ratio)
    } else {
        Err(TensorError::argument("variances", &"all zero or not finite", "positive"))
    }
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum::<f64>().sqrt()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    f64::midpoint(values[(n - 1) / 2], values[n / 2])
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

    /// The points `i^1.5`, `i = 0..7`, of a line.
    fn eight() -> Matrix {
        let values = (0..8).map(|i| f64::from(i).powf(1.5) as f32).collect();
        Matrix::from_vec(8, 1, values).unwrap()
    }

    #[test]
    fn hand_worked_points_have_their_estimates() {
        let near = NeighbourDistances::of(&eight(), 3).unwrap();
        for (averaging, expected) in
            [(Averaging::Mean, 1.716_769_6), (Averaging::Median, 1.689_375_4), (Averaging::Harmonic, 1.461_261_5)]
        {
            let got = near.mle(3, averaging, false).unwrap();
            assert!((got - expected).abs() < 2e-6, "{averaging:?}: {got}");
            let unbiased = near.mle(3, averaging, true).unwrap();
            assert!((unbiased - got / 2.0).abs() < 1e-12);
        }
    }

    #[test]
    fn rotation_and_scale_change_nothing_and_copies_are_left_out() {
        let rows = sheet(300, 3, 6, 2);
        let estimate =
            |rows: &Matrix| NeighbourDistances::of(rows, 8).unwrap().mle(8, Averaging::Harmonic, false).unwrap();
        let plain = estimate(&rows);
        // Swapping axes and doubling are exact in f32.
        let turned: Vec<f32> = rows.iter_rows().flat_map(|row| row.iter().rev().map(|x| -2.0 * x)).collect();
        assert!((estimate(&Matrix::from_vec(300, 6, turned).unwrap()) - plain).abs() < 1e-6);
        let mut twice = rows.clone();
        twice.append(&rows).unwrap();
        let near = NeighbourDistances::of(&twice, 8).unwrap();
        assert_eq!(near.duplicates(), 300);
        assert_eq!(near.mle(8, Averaging::Harmonic, false).unwrap(), plain);
    }

    #[test]
    fn variances_give_linear_dimensions() {
        let variances = [6.0, 3.0, 1.0, 0.0];
        assert_eq!(variance_dimension(&variances, 10.0, 0.6).unwrap(), 1);
        assert_eq!(variance_dimension(&variances, 10.0, 0.61).unwrap(), 2);
        assert_eq!(variance_dimension(&variances, 10.0, 1.0).unwrap(), 3);
        assert!(variance_dimension(&variances[..2], 10.0, 0.95).is_err());
        assert!(
            variance_dimension(&variances, 10.0, 1.5).is_err() && variance_dimension(&variances, 0.0, 0.5).is_err()
        );
        assert!((participation_ratio(&[2.0; 5]).unwrap() - 5.0).abs() < 1e-12);
        assert!((participation_ratio(&[2.0, 0.0]).unwrap() - 1.0).abs() < 1e-12);
        assert!(participation_ratio(&[0.0]).is_err() && participation_ratio(&[]).is_err());
    }

    #[test]
    fn impossible_estimates_are_refused() {
        assert!(NeighbourDistances::of(&eight(), 1).is_err() && NeighbourDistances::of(&eight(), 8).is_err());
        let near = NeighbourDistances::of(&eight(), 4).unwrap();
        assert!(near.mle(5, Averaging::Mean, false).is_err() && near.mle(2, Averaging::Mean, true).is_err());
        // The corners of a triangle are at equal distances.
        let corners = Matrix::from_rows(&[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]).unwrap();
        let near = NeighbourDistances::of(&corners, 2).unwrap();
        assert!(near.two_nn().is_err());
        assert!(NeighbourDistances::of(&Matrix::from_rows(&[[1.0], [f32::NAN], [2.0]]).unwrap(), 2).is_err());
    }
}
