//! Points near a plane of few dimensions in a space of many: data whose intrinsic dimension is known.

use crate::DataError;
use eas_tensor::Matrix;
use eas_tensor::rng::SplitMix64;

/// `n` points of `dim` values: standard normal in the coordinates of a random orthonormal basis of `intrinsic` axes, plus normal noise
/// of standard deviation `noise` in every direction. Shape `(n, dim)`. An error unless `1 <= intrinsic <= dim` and the noise is finite.
pub fn near_plane(n: usize, intrinsic: usize, dim: usize, noise: f64, seed: u64) -> Result<Matrix, DataError> {
    if intrinsic == 0 || intrinsic > dim || !noise.is_finite() {
        return Err(DataError::Argument {
            what: "plane",
            given: format!("{intrinsic} of {dim} dimensions, noise {noise}"),
            expected: "at least one dimension, no more than those of the space, and finite noise",
        });
    }
    let mut rng = SplitMix64::new(seed);
    // Gram-Schmidt on random directions.
    let mut basis: Vec<Vec<f64>> = Vec::with_capacity(intrinsic);
    while basis.len() < intrinsic {
        let mut axis: Vec<f64> = (0..dim).map(|_| rng.normal()).collect();
        for other in &basis {
            let along: f64 = axis.iter().zip(other).map(|(a, b)| a * b).sum();
            for (a, b) in axis.iter_mut().zip(other) {
                *a -= along * b;
            }
        }
        let norm = axis.iter().map(|a| a * a).sum::<f64>().sqrt();
        basis.push(axis.into_iter().map(|a| a / norm).collect());
    }
    let mut points = Matrix::zeros(n, dim);
    for i in 0..n {
        let place: Vec<f64> = (0..intrinsic).map(|_| rng.normal()).collect();
        for (j, value) in points.row_mut(i).iter_mut().enumerate() {
            let on_plane: f64 = place.iter().zip(&basis).map(|(at, axis)| at * axis[j]).sum();
            *value = (on_plane + noise * rng.normal()) as f32;
        }
    }
    Ok(points)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_have_the_variance_of_the_plane_and_its_noise() {
        let points = near_plane(4_000, 3, 10, 0.1, 5).unwrap();
        let variance = points.as_slice().iter().map(|x| f64::from(x * x)).sum::<f64>() / 4_000.0;
        // Three axes of variance 1, and ten of 0.01.
        assert!((variance - 3.1).abs() < 0.1, "{variance}");
        // Without noise a plane of one dimension is a line through the origin.
        let line = near_plane(50, 1, 10, 0.0, 6).unwrap();
        for i in 1..50 {
            let cosine = eas_tensor::kernels::cosine(line.row(0), line.row(i));
            assert!((cosine.abs() - 1.0).abs() < 1e-6, "{cosine}");
        }
    }

    #[test]
    fn impossible_planes_are_refused() {
        assert!(near_plane(5, 0, 3, 0.1, 1).is_err());
        assert!(near_plane(5, 4, 3, 0.1, 1).is_err());
        assert!(near_plane(5, 2, 3, f64::NAN, 1).is_err());
        assert_eq!(near_plane(0, 2, 3, 0.1, 1).unwrap().rows(), 0);
    }
}
