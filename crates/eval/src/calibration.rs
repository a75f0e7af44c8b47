//! Whether a stated probability is the share of times it comes true, and how to make it so.

use crate::EvalError;
use crate::error::{finite, mean, not_empty, same_length};

/// One bin of a reliability diagram.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReliabilityBin {
    /// Lower edge, included.
    pub low: f64,
    /// Upper edge, excluded except in the last bin.
    pub high: f64,
    /// Predictions within the bin.
    pub count: usize,
    /// Their mean predicted probability; 0 in an empty bin.
    pub confidence: f64,
    /// The share of them that came true; 0 in an empty bin.
    pub accuracy: f64,
}

/// The reliability diagram of `probabilities` of events that came true or not, over `bins` equal bins of `[0, 1]`.
pub fn reliability(probabilities: &[f64], came_true: &[bool], bins: usize) -> Result<Vec<ReliabilityBin>, EvalError> {
    same_length("probabilities", probabilities.len(), came_true.len())?;
    not_empty("probabilities", probabilities)?;
    if bins == 0 {
        return Err(argument("bins", "0", "at least 1"));
    }
    if let Some(p) = probabilities.iter().find(|p| !(0.0..=1.0).contains(*p)) {
        return Err(argument("probability", &p.to_string(), "within [0, 1]"));
    }
    let mut sums = vec![(0usize, 0.0, 0usize); bins];
    for (&p, &hit) in probabilities.iter().zip(came_true) {
        let bin = &mut sums[((p * bins as f64) as usize).min(bins - 1)];
        bin.0 += 1;
        bin.1 += p;
        bin.2 += usize::from(hit);
    }
    let diagram = sums.iter().enumerate().map(|(i, &(count, sum, hits))| ReliabilityBin {
        low: i as f64 / bins as f64,
        high: (i + 1) as f64 / bins as f64,
        count,
        confidence: sum / count.max(1) as f64,
        accuracy: hits as f64 / count.max(1) as f64,
    });
    Ok(diagram.collect())
}

/// Expected calibration error: the mean over predictions of |confidence - accuracy| of their bin (Naeini et al. 2015).
pub fn expected_calibration_error(probabilities: &[f64], came_true: &[bool], bins: usize) -> Result<f64, EvalError> {
    let diagram = reliability(probabilities, came_true, bins)?;
    let gaps = diagram.iter().map(|b| b.count as f64 * (b.confidence - b.accuracy).abs());
    Ok(gaps.sum::<f64>() / probabilities.len() as f64)
}

/// Mean squared difference between probability and outcome.
pub fn brier_score(probabilities: &[f64], came_true: &[bool]) -> Result<f64, EvalError> {
    reliability(probabilities, came_true, 1)?;
    let errors = probabilities.iter().zip(came_true).map(|(&p, &hit)| (p - f64::from(u8::from(hit))).powi(2));
    Ok(errors.sum::<f64>() / probabilities.len() as f64)
}

/// Logistic regression: probability `1 / (1 + exp(-(bias + weights . features)))`. With the score as single feature
/// this is Platt's calibration (Platt 1999).
#[derive(Debug, Clone, PartialEq)]
pub struct Logistic {
    /// One weight a feature, in the units given to [`Logistic::fit`].
    pub weights: Vec<f64>,
    /// The constant term.
    pub bias: f64,
}

impl Logistic {
    /// Fits by Newton's method the mean log loss plus `l2 / 2` times the squared weights (of features scaled to unit
    /// variance; the bias isn't shrunk). `l2` must be positive: without it separable data have no finite optimum.
    pub fn fit(features: &[Vec<f64>], labels: &[bool], l2: f64) -> Result<Self, EvalError> {
        same_length("feature rows", features.len(), labels.len())?;
        not_empty("features", features)?;
        if !(l2 > 0.0 && l2.is_finite()) {
            return Err(argument("l2", &l2.to_string(), "positive"));
        }
        let dim = features[0].len();
        for row in features {
            same_length("features", row.len(), dim)?;
            finite("features", row)?;
        }
        if labels.iter().all(|&l| l == labels[0]) {
            return Err(EvalError::OneClass { count: labels.len(), label: labels[0].to_string() });
        }
        let scales: Vec<(f64, f64)> = (0..dim).map(|d| mean_and_deviation(features, d)).collect();
        let rows: Vec<Vec<f64>> = features
            .iter()
            .map(|row| {
                let scaled = row.iter().zip(&scales).map(|(x, (mean, dev))| (x - mean) / dev);
                scaled.chain([1.0]).collect()
            })
            .collect();
        let theta = newton(&rows, labels, l2);
        let weights: Vec<f64> = theta.iter().zip(&scales).map(|(w, (_, dev))| w / dev).collect();
        let shift: f64 = weights.iter().zip(&scales).map(|(w, (mean, _))| w * mean).sum();
        Ok(Self { weights, bias: theta[dim] - shift })
    }

    /// The log odds of one feature row.
    pub fn log_odds(&self, features: &[f64]) -> Result<f64, EvalError> {
        same_length("features", features.len(), self.weights.len())?;
        Ok(self.bias + self.weights.iter().zip(features).map(|(w, x)| w * x).sum::<f64>())
    }

    /// The probability of one feature row.
    pub fn predict(&self, features: &[f64]) -> Result<f64, EvalError> {
        Ok(sigmoid(self.log_odds(features)?))
    }
}

fn argument(name: &'static str, got: &str, expected: &'static str) -> EvalError {
    EvalError::Argument { name, got: got.into(), expected }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn mean_and_deviation(features: &[Vec<f64>], d: usize) -> (f64, f64) {
    let column: Vec<f64> = features.iter().map(|row| row[d]).collect();
    let mean = mean(&column);
    let deviation = (column.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / column.len() as f64).sqrt();
    // A constant feature tells nothing; its scaled values are all 0 and its weight stays 0.
    (mean, if deviation > 0.0 { deviation } else { 1.0 })
}

/// Damped Newton steps on the penalised mean log loss; the last column of `rows` is the constant.
fn newton(rows: &[Vec<f64>], labels: &[bool], l2: f64) -> Vec<f64> {
    let (n, dim) = (rows.len() as f64, rows[0].len());
    let penalty = |d: usize| if d + 1 < dim { l2 } else { 0.0 };
    let loss = |theta: &[f64]| -> f64 {
        let fit: f64 = rows
            .iter()
            .zip(labels)
            .map(|(row, &label)| {
                let z: f64 = row.iter().zip(theta).map(|(x, t)| x * t).sum();
                let margin = if label { z } else { -z };
                // ln(1 + exp(-margin)) without overflow.
                (-margin).max(0.0) + (-margin.abs()).exp().ln_1p()
            })
            .sum();
        fit / n + (0..dim).map(|d| penalty(d) * theta[d] * theta[d] / 2.0).sum::<f64>()
    };
    let mut theta = vec![0.0; dim];
    let mut current = loss(&theta);
    for _ in 0..100 {
        let mut gradient: Vec<f64> = (0..dim).map(|d| penalty(d) * theta[d]).collect();
        let mut hessian = vec![vec![0.0; dim]; dim];
        for (row, &label) in rows.iter().zip(labels) {
            let p = sigmoid(row.iter().zip(&theta).map(|(x, t)| x * t).sum());
            let residual = p - f64::from(u8::from(label));
            for a in 0..dim {
                gradient[a] += residual * row[a] / n;
                for b in 0..=a {
                    hessian[a][b] += p * (1.0 - p) * row[a] * row[b] / n;
                }
            }
        }
        for (d, row) in hessian.iter_mut().enumerate() {
            // The small constant keeps the bias direction solvable when every probability is near 0 or 1.
            row[d] += penalty(d) + 1e-12;
        }
        let step = solve_cholesky(hessian, &gradient);
        let mut rate = 1.0;
        let next = loop {
            let candidate: Vec<f64> = theta.iter().zip(&step).map(|(t, s)| t - rate * s).collect();
            let value = loss(&candidate);
            if value <= current || rate < 1e-10 {
                current = value;
                break candidate;
            }
            rate /= 2.0;
        };
        let moved = next.iter().zip(&theta).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        theta = next;
        if moved < 1e-12 {
            break;
        }
    }
    theta
}

/// Solves `A x = b` for a symmetric positive definite `A` of which the lower triangle is given.
fn solve_cholesky(mut a: Vec<Vec<f64>>, b: &[f64]) -> Vec<f64> {
    let n = b.len();
    for i in 0..n {
        for j in 0..=i {
            let sum: f64 = a[i][j] - (0..j).map(|k| a[i][k] * a[j][k]).sum::<f64>();
            a[i][j] = if i == j { sum.max(f64::MIN_POSITIVE).sqrt() } else { sum / a[j][j] };
        }
    }
    let mut x = b.to_vec();
    for i in 0..n {
        x[i] = (x[i] - (0..i).map(|k| a[i][k] * x[k]).sum::<f64>()) / a[i][i];
    }
    for i in (0..n).rev() {
        x[i] = (x[i] - (i + 1..n).map(|k| a[k][i] * x[k]).sum::<f64>()) / a[i][i];
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_abs_diff_eq;
    use eas_tensor::rng::SplitMix64;

    #[test]
    fn the_error_is_the_weighted_gap_of_the_bins() {
        let p = [0.05, 0.15, 0.15, 0.95, 1.0];
        let hit = [false, true, false, true, true];
        let bins = reliability(&p, &hit, 10).unwrap();
        assert_eq!(bins.iter().map(|b| b.count).collect::<Vec<_>>(), [1, 2, 0, 0, 0, 0, 0, 0, 0, 2]);
        // (0.05 * 1 + |0.15 - 0.5| * 2 + |0.975 - 1| * 2) / 5
        assert_abs_diff_eq!(expected_calibration_error(&p, &hit, 10).unwrap(), 0.16, epsilon = 1e-12);
        assert_abs_diff_eq!(brier_score(&[0.5, 1.0], &[true, true]).unwrap(), 0.125, epsilon = 1e-12);
        assert_abs_diff_eq!(
            expected_calibration_error(&[0.85; 4], &[true, false, true, false], 10).unwrap(),
            0.35,
            epsilon = 1e-12
        );
    }

    #[test]
    fn a_fit_recovers_planted_weights_and_is_calibrated() {
        let mut rng = SplitMix64::new(4);
        let rows: Vec<Vec<f64>> = (0..20_000).map(|_| vec![rng.normal(), 100.0 + 10.0 * rng.normal(), 7.0]).collect();
        let truth = |row: &[f64]| sigmoid(1.5 * row[0] - 0.2 * row[1] + 20.5);
        let labels: Vec<bool> = rows.iter().map(|row| rng.chance(truth(row))).collect();
        let fit = Logistic::fit(&rows, &labels, 1e-6).unwrap();
        assert_abs_diff_eq!(fit.weights[0], 1.5, epsilon = 0.08);
        assert_abs_diff_eq!(fit.weights[1], -0.2, epsilon = 0.012);
        assert_eq!(fit.weights[2], 0.0);
        let p: Vec<f64> = rows.iter().map(|row| fit.predict(row).unwrap()).collect();
        assert!(expected_calibration_error(&p, &labels, 10).unwrap() < 0.01);
    }

    #[test]
    fn equals_scikit_learn() {
        // LogisticRegression(C=1/(0.1*6)) on the feature scaled to unit variance.
        let x = [[0.1], [0.4], [0.35], [0.8], [0.6], [0.9]];
        let labels = [false, false, true, true, false, true];
        let rows: Vec<Vec<f64>> = x.iter().map(|r| r.to_vec()).collect();
        let fit = Logistic::fit(&rows, &labels, 0.1).unwrap();
        assert_abs_diff_eq!(fit.weights[0], 3.258_754_594_6, epsilon = 1e-6);
        assert_abs_diff_eq!(fit.bias, -1.714_272_203_1, epsilon = 1e-6);
    }

    #[test]
    fn separable_data_stay_finite() {
        let rows: Vec<Vec<f64>> = (0..10).map(|i| vec![f64::from(i)]).collect();
        let labels: Vec<bool> = (0..10).map(|i| i >= 5).collect();
        let fit = Logistic::fit(&rows, &labels, 1e-3).unwrap();
        assert!(fit.weights[0].is_finite() && fit.weights[0] > 0.0);
        assert!(fit.predict(&[4.0]).unwrap() < 0.5 && fit.predict(&[5.0]).unwrap() > 0.5);
    }

    #[test]
    fn bad_input_is_refused() {
        assert!(reliability(&[1.2], &[true], 10).is_err());
        assert!(reliability(&[f64::NAN], &[true], 10).is_err());
        assert!(reliability(&[0.2], &[true], 0).is_err());
        assert!(expected_calibration_error(&[], &[], 10).is_err());
        let one = vec![vec![1.0]; 2];
        assert!(Logistic::fit(&one, &[true, true], 0.1).is_err());
        assert!(Logistic::fit(&one, &[true, false], 0.0).is_err());
        assert!(Logistic::fit(&[vec![1.0], vec![f64::NAN]], &[true, false], 0.1).is_err());
        assert!(Logistic::fit(&[vec![1.0], vec![]], &[true, false], 0.1).is_err());
        let fit = Logistic { weights: vec![1.0], bias: 0.0 };
        assert!(fit.predict(&[1.0, 2.0]).is_err());
        assert_eq!(fit.predict(&[0.0]), Ok(0.5));
    }
}
