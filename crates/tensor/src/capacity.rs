//! How many categories fit in how many dimensions: nearest-centroid accuracy among random directions, in theory and by simulation.

use crate::kernels::dot_rows;
use crate::rng::SplitMix64;
use crate::special::erfc;
use crate::{Matrix, TensorError};

/// The largest dimension that [`minimal_dimension`] tries.
pub const MOST_DIMENSIONS: usize = 1 << 24;

/// Expected share of points that lie nearest to their own centroid, by dot product. `categories` centroids are uniform on the unit
/// sphere of `dim` dimensions, and a point is its centroid plus a random direction of length `noise`.
///
/// The point's dot product with its own centroid is close to normal with mean 1 and deviation `t = noise / sqrt(d)`, with any other
/// to normal with mean 0 and deviation `s = sqrt((1 + noise^2) / d)`, so that the accuracy is the integral of
/// `phi(z) Phi((1 + t z) / s)^(categories - 1)`. An approximation: it treats the others as
/// independent, and is up to 0.1 off in the middle of the range, less than 0.03 above 0.97.
///
/// # Errors
/// No dimension, no category, or a `noise` that is negative or not finite.
///
/// ```
/// // Ten thousand categories in 128 dimensions, with noise twice as long as the centroid: nine of ten points are found.
/// let accuracy = eas_tensor::capacity::nearest_centroid_accuracy(10_000, 128, 2.0)?;
/// assert!((accuracy - 0.899).abs() < 0.001);
/// # Ok::<(), eas_tensor::TensorError>(())
/// ```
pub fn nearest_centroid_accuracy(categories: usize, dim: usize, noise: f64) -> Result<f64, TensorError> {
    check(categories, dim, noise)?;
    let d = dim as f64;
    let (t, s) = (noise / d.sqrt(), ((1.0 + noise * noise) / d).sqrt());
    let others = (categories - 1) as f64;
    // The trapezoid rule over +-9 deviations: exact to rounding for a function this smooth.
    let step = 0.01;
    let sum: f64 = (-900..=900)
        .map(|i| {
            let z = f64::from(i) * step;
            let above = 0.5 * erfc((1.0 + t * z) / s / std::f64::consts::SQRT_2);
            (-z * z / 2.0).exp() * (others * (-above).ln_1p()).exp()
        })
        .sum();
    Ok(if others == 0.0 { 1.0 } else { sum * step / std::f64::consts::TAU.sqrt() })
}

/// The fewest dimensions in which [`nearest_centroid_accuracy`] reaches `accuracy`.
///
/// # Errors
/// An `accuracy` outside `(0, 1)`, what [`nearest_centroid_accuracy`] refuses, and an accuracy that no dimension up to
/// [`MOST_DIMENSIONS`] reaches.
pub fn minimal_dimension(categories: usize, noise: f64, accuracy: f64) -> Result<usize, TensorError> {
    if !(accuracy > 0.0 && accuracy < 1.0) {
        return Err(TensorError::argument("accuracy", &accuracy, "between 0 and 1, both excluded"));
    }
    let enough = |dim| Ok::<bool, TensorError>(nearest_centroid_accuracy(categories, dim, noise)? >= accuracy);
    let (mut low, mut high) = (0, 1);
    while !enough(high)? {
        if high >= MOST_DIMENSIONS {
            return Err(TensorError::argument("noise", &noise, "less for this accuracy"));
        }
        (low, high) = (high, 2 * high);
    }
    // Too few at `low`, enough at `high`; accuracy grows with the dimension.
    while high - low > 1 {
        let middle = usize::midpoint(low, high);
        if enough(middle)? {
            high = middle;
        } else {
            low = middle;
        }
    }
    Ok(high)
}

/// Draws `categories` centroids and `points` points, and returns the share that lie nearest to their own; ties go to the lower
/// centroid. Points are dealt to the centroids in turn.
///
/// # Errors
/// As [`nearest_centroid_accuracy`], and no points.
pub fn simulate(categories: usize, dim: usize, noise: f64, points: usize, seed: u64) -> Result<f64, TensorError> {
    check(categories, dim, noise)?;
    if points == 0 {
        return Err(TensorError::argument("points", &0, "at least 1"));
    }
    let mut rng = SplitMix64::new(seed);
    let centroids = Matrix::from_rows(&(0..categories).map(|_| direction(&mut rng, dim)).collect::<Vec<_>>())?;
    let right = (0..points).filter(|point| {
        let own = point % categories;
        let shift = direction(&mut rng, dim);
        let point: Vec<f32> = centroids.row(own).iter().zip(shift).map(|(c, u)| c + noise as f32 * u).collect();
        let scores = dot_rows(&point, &centroids);
        (1..categories).fold(0, |best, i| if scores[i] > scores[best] { i } else { best }) == own
    });
    Ok(right.count() as f64 / points as f64)
}

/// A uniform direction: a normal vector divided by its length.
fn direction(rng: &mut SplitMix64, dim: usize) -> Vec<f32> {
    let row: Vec<f64> = (0..dim).map(|_| rng.normal()).collect();
    let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
    row.iter().map(|x| (x / norm) as f32).collect()
}

fn check(categories: usize, dim: usize, noise: f64) -> Result<(), TensorError> {
    for (what, value) in [("categories", categories), ("dimensions", dim)] {
        if value == 0 {
            return Err(TensorError::argument(what, &0, "at least 1"));
        }
    }
    if !(noise >= 0.0 && noise.is_finite()) {
        return Err(TensorError::argument("noise", &noise, "zero or more"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// scipy.integrate.quad of the same integral.
    #[test]
    fn equals_the_integral_computed_apart() {
        let dims = [8, 16, 32, 64, 128, 256];
        for (categories, expected) in [
            (10, [0.423, 0.615, 0.835, 0.972, 0.999, 1.0]),
            (100, [0.105, 0.236, 0.514, 0.861, 0.994, 1.0]),
            (1_000, [0.019, 0.064, 0.230, 0.639, 0.970, 1.0]),
            (10_000, [0.003, 0.014, 0.080, 0.387, 0.899, 1.0]),
        ] {
            for (dim, expected) in dims.into_iter().zip(expected) {
                let got = nearest_centroid_accuracy(categories, dim, 2.0).unwrap();
                assert!((got - expected).abs() <= 0.001, "{categories} in {dim}: {got} {expected}");
            }
        }
        assert_eq!(nearest_centroid_accuracy(1, 8, 5.0).unwrap(), 1.0);
    }

    #[test]
    fn minimal_dimensions_are_the_first_to_reach_the_accuracy() {
        for (categories, expected) in [(10, 54), (100, 87), (1_000, 117), (10_000, 147)] {
            assert_eq!(minimal_dimension(categories, 2.0, 0.95).unwrap(), expected);
            assert!(nearest_centroid_accuracy(categories, expected - 1, 2.0).unwrap() < 0.95);
        }
        assert_eq!(minimal_dimension(1, 0.0, 0.5).unwrap(), 1);
    }

    #[test]
    fn simulation_follows_the_theory() {
        for (categories, dim) in [(10, 64), (100, 64), (100, 128), (10, 256)] {
            let theory = nearest_centroid_accuracy(categories, dim, 2.0).unwrap();
            let drawn = simulate(categories, dim, 2.0, 2_000, 3).unwrap();
            assert!((theory - drawn).abs() < 0.06, "{categories} in {dim}: {theory} {drawn}");
        }
        assert_eq!(simulate(5, 4, 0.0, 50, 1).unwrap(), 1.0);
    }

    #[test]
    fn bad_arguments_are_refused() {
        assert!(nearest_centroid_accuracy(0, 8, 1.0).is_err());
        assert!(nearest_centroid_accuracy(8, 0, 1.0).is_err());
        assert!(simulate(8, 8, f64::NAN, 10, 1).is_err());
        assert!(simulate(8, 8, 1.0, 0, 1).is_err());
        assert!(minimal_dimension(10, 2.0, 1.0).is_err());
        assert!(minimal_dimension(10, 1e6, 0.95).unwrap_err().to_string().contains("1000000"));
    }
}
