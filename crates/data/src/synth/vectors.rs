//! Vectors with a stated distribution: uniform directions and clusters.

use eas_tensor::Matrix;
use eas_tensor::rng::SplitMix64;

/// Seed of the cluster centres of [`clustered`].
const CENTRES: u64 = 33;

/// `n` unit vectors of dimension `d`: a row-major stream of `2 u - 1` for uniform `u`, each row divided by its Euclidean length in
/// f64 and stored as f32. Shape `(n, d)`.
pub fn unit_cube(seed: u64, n: usize, d: usize) -> Matrix {
    to_matrix(d, unit_rows(seed, n, d))
}

/// `n` unit vectors around `clusters` centres: row i is `unit(C[i mod clusters] + sigma * noise[i])`, where the centres `C` and the
/// noise are the rows of `unit_cube` with seeds 33 and 34. Shape `(n, d)`; no rows when `clusters` is 0.
pub fn clustered(n: usize, d: usize, clusters: usize, sigma: f64) -> Matrix {
    around_centres(34, n, d, clusters, sigma)
}

/// `m` queries from the same clusters as [`clustered`], with fresh noise (seed 35). Shape `(m, d)`.
pub fn clustered_queries(m: usize, d: usize, clusters: usize, sigma: f64) -> Matrix {
    around_centres(35, m, d, clusters, sigma)
}

fn around_centres(noise_seed: u64, n: usize, d: usize, clusters: usize, sigma: f64) -> Matrix {
    let n = if clusters == 0 { 0 } else { n };
    let centres: Vec<Vec<f64>> = unit_rows(CENTRES, clusters, d).collect();
    let rows = unit_rows(noise_seed, n, d).enumerate().map(|(i, noise)| {
        let centre = &centres[i % clusters];
        unit(centre.iter().zip(&noise).map(|(c, e)| c + sigma * e).collect())
    });
    to_matrix(d, rows)
}

fn unit_rows(seed: u64, n: usize, d: usize) -> impl Iterator<Item = Vec<f64>> {
    let mut rng = SplitMix64::new(seed);
    (0..n).map(move |_| unit((0..d).map(|_| 2.0 * rng.uniform() - 1.0).collect()))
}

fn unit(mut row: Vec<f64>) -> Vec<f64> {
    let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt();
    if norm > 0.0 {
        for x in &mut row {
            *x /= norm;
        }
    }
    row
}

fn to_matrix(d: usize, rows: impl Iterator<Item = Vec<f64>>) -> Matrix {
    let mut matrix = Matrix::zeros(rows.size_hint().0, d);
    for (i, row) in rows.enumerate() {
        for (to, from) in matrix.row_mut(i).iter_mut().zip(row) {
            *to = from as f32;
        }
    }
    matrix
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dot(a: &[f32], b: &[f32]) -> f64 {
        a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
    }

    #[test]
    fn unit_cube_is_the_stated_stream() {
        let corpus = unit_cube(11, 1000, 64);
        for (got, want) in corpus.row(0).iter().zip([-0.078_373_7, -0.101_353_8, 0.058_876_5]) {
            assert!((f64::from(*got) - want).abs() < 5e-8, "{got} {want}");
        }
        assert!(corpus.iter_rows().all(|row| (dot(row, row) - 1.0).abs() < 1e-6));
    }

    /// The neighbours of the first query among 1,000 vectors, computed with NumPy in f64 from the same stream.
    #[test]
    fn neighbours_in_the_cube_are_the_published_ones() {
        let corpus = unit_cube(11, 1000, 64);
        let queries = unit_cube(12, 5, 64);
        let expected = [
            [259, 763, 913, 945, 359, 234, 810, 146, 31, 893],
            [297, 762, 608, 945, 402, 365, 784, 910, 716, 215],
        ];
        for (q, want) in expected.iter().enumerate() {
            let scores: Vec<f64> = corpus.iter_rows().map(|row| dot(row, queries.row(q))).collect();
            let mut order: Vec<usize> = (0..1000).collect();
            order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
            assert_eq!(order[..10], want[..]);
        }
    }

    #[test]
    fn rows_of_a_cluster_are_closer_than_rows_of_two() {
        let data = clustered(40, 64, 4, 0.3);
        let queries = clustered_queries(4, 64, 4, 0.3);
        assert_eq!((data.rows(), data.dim(), queries.rows()), (40, 64, 4));
        for i in 0..4 {
            for j in 0..40 {
                let near = dot(queries.row(i), data.row(j)) > 0.5;
                assert_eq!(near, i == j % 4, "query {i}, row {j}");
            }
        }
        assert_eq!(clustered(10, 8, 0, 1.0).rows(), 0);
        assert_eq!(unit_cube(1, 3, 0).dim(), 0);
    }
}
