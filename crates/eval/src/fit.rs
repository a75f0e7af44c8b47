//! Least-squares lines and the growth laws that they reveal.

use crate::EvalError;
use crate::error::{finite, mean, same_length};

/// The line `y = intercept + slope * x` of least squared error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LineFit {
    /// Value at x = 0.
    pub intercept: f64,
    /// Rise a unit of x.
    pub slope: f64,
    /// Share of the variance of y that the line explains; 1 when y is constant and met.
    pub r_squared: f64,
}

impl LineFit {
    /// The line's value at `x`.
    pub fn at(&self, x: f64) -> f64 {
        self.intercept + self.slope * x
    }
}

/// Fits a line; an error for fewer than two distinct `x`.
pub fn fit_line(x: &[f64], y: &[f64]) -> Result<LineFit, EvalError> {
    same_length("points", x.len(), y.len())?;
    finite("x", x)?;
    finite("y", y)?;
    let (mean_x, mean_y) = (mean(x), mean(y));
    let xx: f64 = x.iter().map(|v| (v - mean_x).powi(2)).sum();
    if x.is_empty() || xx == 0.0 {
        return Err(EvalError::Argument {
            name: "x",
            got: format!("{} points without spread", x.len()),
            expected: "at least two distinct values",
        });
    }
    let xy: f64 = x.iter().zip(y).map(|(a, b)| (a - mean_x) * (b - mean_y)).sum();
    let slope = xy / xx;
    let intercept = mean_y - slope * mean_x;
    let residual: f64 = x.iter().zip(y).map(|(a, b)| (b - intercept - slope * a).powi(2)).sum();
    let total: f64 = y.iter().map(|v| (v - mean_y).powi(2)).sum();
    Ok(LineFit { intercept, slope, r_squared: if total > 0.0 { 1.0 - residual / total } else { 1.0 } })
}

/// Fits `y = intercept + slope * log2(n)`: the slope is the rise a doubling of `n`. All `n` must be positive.
pub fn fit_log2(points: &[(f64, f64)]) -> Result<LineFit, EvalError> {
    let x = logarithms("n", points.iter().map(|p| p.0))?;
    fit_line(&x, &points.iter().map(|p| p.1).collect::<Vec<_>>())
}

/// Fits `log2(y) = intercept + slope * log2(n)`: the slope is the exponent of a power law. All values must be positive.
pub fn fit_power(points: &[(f64, f64)]) -> Result<LineFit, EvalError> {
    let x = logarithms("n", points.iter().map(|p| p.0))?;
    fit_line(&x, &logarithms("y", points.iter().map(|p| p.1))?)
}

fn logarithms(name: &'static str, values: impl Iterator<Item = f64>) -> Result<Vec<f64>, EvalError> {
    values
        .map(|v| {
            if v > 0.0 && v.is_finite() {
                Ok(v.log2())
            } else {
                Err(EvalError::Argument { name, got: v.to_string(), expected: "positive" })
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_abs_diff_eq;

    #[test]
    fn equals_scipy_linregress() {
        let fit = fit_line(&[0.0, 1.0, 2.0, 4.0], &[1.0, 3.0, 2.0, 6.0]).unwrap();
        assert_abs_diff_eq!(fit.slope, 8.0 / 7.0, epsilon = 1e-12);
        assert_abs_diff_eq!(fit.intercept, 1.0, epsilon = 1e-12);
        assert_abs_diff_eq!(fit.r_squared, 0.816_326_530_612_245, epsilon = 1e-12);
        assert_abs_diff_eq!(fit.at(7.0), 9.0, epsilon = 1e-12);
    }

    #[test]
    fn growth_laws_are_recovered() {
        let log: Vec<(f64, f64)> = (10..16).map(|e| (f64::from(e).exp2(), 5.0 + 32.0 * f64::from(e))).collect();
        let fit = fit_log2(&log).unwrap();
        assert_abs_diff_eq!(fit.slope, 32.0, epsilon = 1e-9);
        assert_abs_diff_eq!(fit.intercept, 5.0, epsilon = 1e-9);
        assert_abs_diff_eq!(fit.r_squared, 1.0, epsilon = 1e-12);
        let power: Vec<(f64, f64)> = (1..9).map(|n| (f64::from(n), 3.0 * f64::from(n).powf(0.125))).collect();
        assert_abs_diff_eq!(fit_power(&power).unwrap().slope, 0.125, epsilon = 1e-12);
    }

    #[test]
    fn points_without_spread_or_sign_are_refused() {
        assert!(fit_line(&[], &[]).is_err());
        assert!(fit_line(&[2.0, 2.0], &[1.0, 3.0]).is_err());
        assert!(fit_line(&[1.0, 2.0], &[1.0, f64::INFINITY]).is_err());
        assert!(fit_log2(&[(0.0, 1.0), (2.0, 2.0)]).unwrap_err().to_string().contains("n is 0"));
        assert!(fit_power(&[(1.0, -1.0), (2.0, 2.0)]).is_err());
    }
}
