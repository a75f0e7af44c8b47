//! Surfaces of known dimension.

use eas_data::synth::rotation::random_orthogonal;
use eas_tensor::Matrix;
use eas_tensor::rng::SplitMix64;

/// `n` points uniform on the sphere of `surface` dimensions, turned into `dim > surface` coordinates.
pub fn sphere(n: usize, surface: usize, dim: usize, seed: u64) -> anyhow::Result<Matrix> {
    embedded(n, surface + 1, dim, seed, |rng| {
        let point: Vec<f64> = (0..=surface).map(|_| rng.normal()).collect();
        let norm = point.iter().map(|x| x * x).sum::<f64>().sqrt();
        point.into_iter().map(|x| x / norm).collect()
    })
}

/// `n` points uniform in the unit cube of `inner` dimensions, turned into `dim >= inner` coordinates.
pub fn cube(n: usize, inner: usize, dim: usize, seed: u64) -> anyhow::Result<Matrix> {
    embedded(n, inner, dim, seed, |rng| (0..inner).map(|_| rng.uniform()).collect())
}

/// `n` points of a rolled-up sheet: `(t cos t, h, t sin t)` with `t` uniform in 1.5 pi to 4.5 pi and `h` in 0 to 21.
pub fn swiss_roll(n: usize, seed: u64) -> anyhow::Result<Matrix> {
    let mut rng = SplitMix64::new(seed);
    let mut values = Vec::with_capacity(3 * n);
    for _ in 0..n {
        let t = 1.5 * std::f64::consts::PI * (1.0 + 2.0 * rng.uniform());
        values.extend([t * t.cos(), 21.0 * rng.uniform(), t * t.sin()].map(|x| x as f32));
    }
    Ok(Matrix::from_vec(n, 3, values)?)
}

/// The rows times a random rotation.
pub fn rotated(rows: &Matrix, seed: u64) -> anyhow::Result<Matrix> {
    let rotation = random_orthogonal(rows.dim(), &mut SplitMix64::new(seed));
    let mut values = Vec::with_capacity(rows.as_slice().len());
    for row in rows.iter_rows() {
        for axis in rotation.iter_rows() {
            values.push(row.iter().zip(axis).map(|(x, a)| f64::from(*x) * f64::from(*a)).sum::<f64>() as f32);
        }
    }
    Ok(Matrix::from_vec(rows.rows(), rows.dim(), values)?)
}

fn embedded(
    n: usize,
    inner: usize,
    dim: usize,
    seed: u64,
    mut draw: impl FnMut(&mut SplitMix64) -> Vec<f64>,
) -> anyhow::Result<Matrix> {
    anyhow::ensure!(inner <= dim, "{inner} coordinates don't fit in {dim}");
    let mut rng = SplitMix64::new(seed);
    let mut rows = Matrix::zeros(n, dim);
    for i in 0..n {
        for (to, x) in rows.row_mut(i).iter_mut().zip(draw(&mut rng)) {
            *to = x as f32;
        }
    }
    rotated(&rows, seed.wrapping_add(1))
}
