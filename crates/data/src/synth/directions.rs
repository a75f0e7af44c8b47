//! Uniform directions, and directions near others.

use eas_tensor::rng::SplitMix64;

/// A uniform direction in `dim` dimensions: a normal vector divided by its length.
pub(crate) fn direction(rng: &mut SplitMix64, dim: usize) -> Vec<f64> {
    let mut row: Vec<f64> = (0..dim).map(|_| rng.normal()).collect();
    normalize(&mut row);
    row
}

/// The direction of `centre` plus a uniform direction of length `noise`.
pub(crate) fn around(rng: &mut SplitMix64, centre: &[f64], noise: f64) -> Vec<f32> {
    let shift = direction(rng, centre.len());
    let mut row: Vec<f64> = centre.iter().zip(shift).map(|(c, u)| c + noise * u).collect();
    normalize(&mut row);
    row.iter().map(|&x| x as f32).collect()
}

/// Divides by the length; a vector without one stays.
pub(crate) fn normalize(row: &mut [f64]) {
    let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt();
    if norm > 0.0 {
        for x in row {
            *x /= norm;
        }
    }
}
