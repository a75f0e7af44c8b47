//! Similarity that ages: scores that decay with the age of a document, and time as further dimensions of a vector.

use eas_tensor::Matrix;
use eas_tensor::kernels::norm;

use crate::RetrievalError;

/// Exponential decay of a score with age in days.
///
/// A decay must act on the score. A vector times a positive number has the cosine that it had.
///
/// ```
/// use eas_retrieval::temporal::Decay;
///
/// let half_year = Decay::half_life(180.0)?;
/// assert!((half_year.weight(180.0) - 0.5).abs() < 1e-12);
/// // exp(-age / 180) is a shorter memory than it looks.
/// assert!((Decay::e_fold(180.0)?.half_life_days() - 124.7665).abs() < 1e-4);
/// # Ok::<(), eas_retrieval::RetrievalError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decay {
    half_life: f64,
}

impl Decay {
    /// `2^(-age / days)`: half after `days`.
    ///
    /// # Errors
    /// `days` that aren't above 0 and finite.
    pub fn half_life(days: f64) -> Result<Self, RetrievalError> {
        Ok(Self { half_life: positive("half-life in days", days)? })
    }

    /// `exp(-age / days)`: 1/e, about 0.37, after `days`.
    ///
    /// # Errors
    /// As [`Self::half_life`].
    pub fn e_fold(days: f64) -> Result<Self, RetrievalError> {
        Ok(Self { half_life: positive("e-folding time in days", days)? * std::f64::consts::LN_2 })
    }

    /// Days after which half is left.
    pub fn half_life_days(&self) -> f64 {
        self.half_life
    }

    /// What is left of a score whose document is `days` older or younger than the query; fractions of a day count.
    pub fn weight(&self, days: f64) -> f64 {
        (-days.abs() / self.half_life).exp2()
    }

    /// A score aged by `days`. A negative score stays as it is: it must not rise with age.
    pub fn apply(&self, score: f64, days: f64) -> f64 {
        if score > 0.0 { score * self.weight(days) } else { score }
    }
}

/// Turns a time into features whose dot product depends on the difference of two times alone: for periods `P_k` spaced evenly on a
/// log scale, `(cos, sin)(2 pi t / P_k) / sqrt(periods)` (random Fourier features, Rahimi and Recht 2007, with fixed frequencies).
#[derive(Debug, Clone, PartialEq)]
pub struct TimeEncoder {
    periods: Vec<f64>,
}

impl TimeEncoder {
    /// `dims / 2` periods from one day to `longest` days.
    ///
    /// # Errors
    /// `dims` that are odd or below 4, a `longest` that isn't above 1.
    pub fn new(dims: usize, longest: f64) -> Result<Self, RetrievalError> {
        if dims < 4 || dims % 2 == 1 {
            return Err(RetrievalError::argument("dimensions of time", &dims, "an even number from 4 up"));
        }
        if !(longest > 1.0 && longest.is_finite()) {
            return Err(RetrievalError::argument("longest period", &longest, "more than a day"));
        }
        let last = (dims / 2 - 1) as f64;
        Ok(Self { periods: (0..dims / 2).map(|k| longest.powf(k as f64 / last)).collect() })
    }

    /// Dimensions of the features.
    pub fn dims(&self) -> usize {
        2 * self.periods.len()
    }

    /// Unit features of a time in days; shape (dims).
    pub fn encode(&self, days: f64) -> Vec<f32> {
        let scale = (self.periods.len() as f64).sqrt();
        let angle = |period: &f64| (std::f64::consts::TAU * days / period).sin_cos();
        self.periods.iter().map(angle).flat_map(|(sin, cos)| [(cos / scale) as f32, (sin / scale) as f32]).collect()
    }

    /// Dot product of the features of two times `days` apart: 1 for the same time, less with distance, though not at every step.
    pub fn kernel(&self, days: f64) -> f64 {
        let sum: f64 = self.periods.iter().map(|period| (std::f64::consts::TAU * days / period).cos()).sum();
        sum / self.periods.len() as f64
    }
}

/// Text and time in one vector: `[sqrt(1 - alpha) s, sqrt(alpha) tau(t)]` for the unit vector `s` of the text, so that the cosine of
/// two is `(1 - alpha) cos(s, s') + alpha kernel(t - t')` whatever the lengths were before.
#[derive(Debug, Clone, PartialEq)]
pub struct TemporalEmbedding {
    time: TimeEncoder,
    alpha: f64,
}

impl TemporalEmbedding {
    /// The share `alpha` of time.
    ///
    /// # Errors
    /// `alpha` outside `[0, 1]`.
    pub fn new(time: TimeEncoder, alpha: f64) -> Result<Self, RetrievalError> {
        if !(0.0..=1.0).contains(&alpha) {
            return Err(RetrievalError::argument("alpha", &alpha, "a number in [0, 1]"));
        }
        Ok(Self { time, alpha })
    }

    /// Joins vectors of shape (n, dim) with their days; shape (n, dim + dims of time), rows of length 1. A zero vector has only time.
    ///
    /// # Errors
    /// A number of days that differs from that of the vectors, and days that aren't finite.
    pub fn encode(&self, vectors: &Matrix, days: &[f64]) -> Result<Matrix, RetrievalError> {
        let (given, expected) = (days.len(), vectors.rows());
        if given != expected {
            return Err(RetrievalError::Length { what: "days", given, of: "vectors", expected });
        }
        if let Some(day) = days.iter().find(|d| !d.is_finite()) {
            return Err(RetrievalError::argument("day", day, "finite"));
        }
        let mut joined = Matrix::zeros(vectors.rows(), vectors.dim() + self.time.dims());
        let (text, time) = ((1.0 - self.alpha).sqrt() as f32, self.alpha.sqrt() as f32);
        for (i, (row, &day)) in vectors.iter_rows().zip(days).enumerate() {
            let length = norm(row);
            let scale = if length > 0.0 { text / length } else { 0.0 };
            let parts = row.iter().map(|x| x * scale).chain(self.time.encode(day).into_iter().map(|x| x * time));
            for (to, from) in joined.row_mut(i).iter_mut().zip(parts) {
                *to = from;
            }
        }
        Ok(joined)
    }
}

fn positive(name: &'static str, days: f64) -> Result<f64, RetrievalError> {
    if days > 0.0 && days.is_finite() { Ok(days) } else { Err(RetrievalError::argument(name, &days, "above zero")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eas_tensor::kernels::{cosine, dot};
    use eas_tensor::rng::SplitMix64;

    #[test]
    fn decays_at_five_ages() {
        let (half, fold) = (Decay::half_life(180.0).unwrap(), Decay::e_fold(180.0).unwrap());
        for (days, h, e) in [
            (30.0, 0.8908987181, 0.8464817249),
            (90.0, std::f64::consts::FRAC_1_SQRT_2, 0.6065306597),
            (180.0, 0.5, 0.3678794412),
            (365.0, 0.2452325219, 0.1316277024),
            (730.0, 0.0601389898, 0.0173258520),
        ] {
            assert!((half.weight(days) - h).abs() < 1e-10);
            assert!((fold.weight(days) - e).abs() < 1e-10);
            assert_eq!(half.weight(days), half.weight(-days));
        }
        assert_eq!(half.apply(-0.2, 365.0), -0.2);
    }

    #[test]
    fn features_depend_on_the_difference_alone() {
        let encoder = TimeEncoder::new(64, 4_096.0).unwrap();
        for (days, kernel) in [
            (0.0, 1.0),
            (1.0, 0.71621488),
            (7.0, 0.51894883),
            (30.0, 0.30100524),
            (90.0, 0.20354572),
            (365.0, 0.09792004),
        ] {
            assert!((encoder.kernel(days) - kernel).abs() < 1e-8, "{days}");
            for start in [0.0, 17.25, 1_000.5] {
                let product = dot(&encoder.encode(start), &encoder.encode(start + days));
                assert!((f64::from(product) - kernel).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn cosines_of_joined_vectors_are_the_stated_mixture() {
        let mut rng = SplitMix64::new(3);
        let rows: Vec<Vec<f32>> = (0..6).map(|_| (0..20).map(|_| 5.0 * rng.normal() as f32).collect()).collect();
        let vectors = Matrix::from_rows(&rows).unwrap();
        let days = [0.0, 3.5, 100.0, 101.0, 700.0, 1_000.0];
        let time = TimeEncoder::new(64, 4_096.0).unwrap();
        for alpha in [0.0, 0.3, 1.0] {
            let joined = TemporalEmbedding::new(time.clone(), alpha).unwrap().encode(&vectors, &days).unwrap();
            assert_eq!(joined.dim(), 84);
            for i in 0..6 {
                for j in 0..6 {
                    let text = f64::from(cosine(vectors.row(i), vectors.row(j)));
                    let mixed = (1.0 - alpha) * text + alpha * time.kernel(days[i] - days[j]);
                    assert!((f64::from(cosine(joined.row(i), joined.row(j))) - mixed).abs() < 1e-5);
                }
            }
        }
    }

    #[test]
    fn bad_arguments_are_refused() {
        for days in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Decay::half_life(days).is_err() && Decay::e_fold(days).is_err());
        }
        assert!(TimeEncoder::new(7, 100.0).is_err());
        assert!(TimeEncoder::new(2, 100.0).is_err());
        assert!(TimeEncoder::new(8, 1.0).is_err());
        let time = TimeEncoder::new(8, 100.0).unwrap();
        assert!(TemporalEmbedding::new(time.clone(), 1.1).is_err());
        let joint = TemporalEmbedding::new(time, 0.5).unwrap();
        assert!(joint.encode(&Matrix::zeros(2, 3), &[1.0]).is_err());
        assert!(joint.encode(&Matrix::zeros(1, 3), &[f64::NAN]).is_err());
        assert!(joint.encode(&Matrix::zeros(1, 3), &[4.0]).unwrap().as_slice().iter().all(|x| x.is_finite()));
    }
}
