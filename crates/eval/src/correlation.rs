//! Correlation of paired values.

use crate::EvalError;
use crate::error::{finite, mean, same_length};

/// Pearson's product-moment correlation, within `[-1, 1]`; an error when either side is constant.
pub fn pearson(x: &[f64], y: &[f64]) -> Result<f64, EvalError> {
    same_length("paired values", x.len(), y.len())?;
    finite("x", x)?;
    finite("y", y)?;
    if x.len() < 2 {
        return Err(EvalError::Argument { name: "number of pairs", got: x.len().to_string(), expected: "at least 2" });
    }
    let (mean_x, mean_y) = (mean(x), mean(y));
    let (mut xy, mut xx, mut yy) = (0.0, 0.0, 0.0);
    for (a, b) in x.iter().zip(y) {
        let (a, b) = (a - mean_x, b - mean_y);
        xy += a * b;
        xx += a * a;
        yy += b * b;
    }
    if xx == 0.0 || yy == 0.0 {
        return Err(EvalError::Argument {
            name: "paired values",
            got: "constant on one side".into(),
            expected: "varying on both sides",
        });
    }
    Ok((xy / (xx.sqrt() * yy.sqrt())).clamp(-1.0, 1.0))
}

/// Spearman's rank correlation: Pearson's of the ranks, tied values sharing their mean rank.
pub fn spearman(x: &[f64], y: &[f64]) -> Result<f64, EvalError> {
    finite("x", x)?;
    finite("y", y)?;
    pearson(&mean_ranks(x), &mean_ranks(y))
}

/// Ascending ranks from 1; equal values share the mean of their ranks.
pub fn mean_ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    for tied in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let rank = before as f64 + (tied.len() + 1) as f64 / 2.0;
        for &i in tied {
            ranks[i] = rank;
        }
        before += tied.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_abs_diff_eq;

    #[test]
    fn equal_scipy_with_ties() {
        let x = [1.0, 2.0, 2.0, 4.0, 7.0, 3.0];
        let y = [2.0, 1.0, 3.0, 3.0, 9.0, 3.0];
        assert_abs_diff_eq!(pearson(&x, &y).unwrap(), 0.915_692_142_675_185_8, epsilon = 1e-12);
        assert_abs_diff_eq!(spearman(&x, &y).unwrap(), 0.800_853_434_723_806_7, epsilon = 1e-12);
        assert_eq!(mean_ranks(&y), [2.0, 1.0, 4.0, 4.0, 6.0, 4.0]);
    }

    #[test]
    fn perfect_order_is_one_and_reversal_minus_one() {
        let x = [0.1, 0.5, 2.0, 9.0];
        let cubes: Vec<f64> = x.iter().map(|v: &f64| v.powi(3)).collect();
        let falling: Vec<f64> = x.iter().map(|v| -v).collect();
        assert_abs_diff_eq!(spearman(&x, &cubes).unwrap(), 1.0, epsilon = 1e-15);
        assert!(pearson(&x, &cubes).unwrap() < 1.0);
        assert_abs_diff_eq!(pearson(&x, &falling).unwrap(), -1.0, epsilon = 1e-15);
    }

    #[test]
    fn constants_nan_and_single_pairs_are_refused() {
        assert!(pearson(&[1.0, 1.0], &[1.0, 2.0]).is_err());
        assert!(spearman(&[1.0, f64::NAN], &[1.0, 2.0]).is_err());
        assert!(pearson(&[1.0], &[1.0]).is_err());
        assert!(spearman(&[1.0, 2.0], &[1.0]).is_err());
    }
}
