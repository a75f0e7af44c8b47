//! Vectors with a stated distribution: uniform directions, clusters, and curved sheets of low intrinsic dimension.
//!
//! Every generator of a corpus has a twin for queries: the same distribution (the same centres, the same map) from another stream, so
//! that a query is never a vector of the corpus.

use eas_tensor::Matrix;
use eas_tensor::rng::SplitMix64;

/// Seed of the cluster centres of [`clustered`].
const CENTRES: u64 = 33;
/// Streams of one seed: what corpus and queries share, and what each has of its own.
const WORLD: u64 = 0;
const CORPUS: u64 = 1;
const QUERIES: u64 = 2;

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

/// `n` points near a flat sheet of dimension `intrinsic` in `d` dimensions: standard normal coordinates through a random orthonormal
/// map, plus normal noise of standard deviation `noise` in every coordinate. Real embeddings look like this: many coordinates, few
/// degrees of freedom. Shape `(n, d)`; an `intrinsic` above `d` counts as `d`.
pub fn manifold(seed: u64, n: usize, d: usize, intrinsic: usize, noise: f64) -> Matrix {
    on_manifold(seed, CORPUS, n, d, intrinsic, noise)
}

/// `m` queries on the sheet of [`manifold`] with the same seed. Shape `(m, d)`.
pub fn manifold_queries(seed: u64, m: usize, d: usize, intrinsic: usize, noise: f64) -> Matrix {
    on_manifold(seed, QUERIES, m, d, intrinsic, noise)
}

/// `n` points of a mixture of `c` spherical normals of standard deviation `spread`, whose centres are standard normal in `d`
/// dimensions; the component of each point is drawn uniformly. Shape `(n, d)`; no rows when `c` is 0.
pub fn clusters(seed: u64, n: usize, d: usize, c: usize, spread: f64) -> Matrix {
    in_clusters(seed, CORPUS, n, d, c, spread)
}

/// `m` queries from the mixture of [`clusters`] with the same seed. Shape `(m, d)`.
pub fn clusters_queries(seed: u64, m: usize, d: usize, c: usize, spread: f64) -> Matrix {
    in_clusters(seed, QUERIES, m, d, c, spread)
}

fn on_manifold(seed: u64, stream: u64, n: usize, d: usize, intrinsic: usize, noise: f64) -> Matrix {
    let axes = orthonormal(&mut SplitMix64::stream(seed, WORLD), intrinsic.min(d), d);
    let mut rng = SplitMix64::stream(seed, stream);
    let rows = (0..n).map(|_| {
        let mut row = vec![0.0; d];
        for axis in &axes {
            let coordinate = rng.normal();
            for (x, a) in row.iter_mut().zip(axis) {
                *x += coordinate * a;
            }
        }
        for x in &mut row {
            *x += noise * rng.normal();
        }
        row
    });
    to_matrix(d, rows)
}

fn in_clusters(seed: u64, stream: u64, n: usize, d: usize, c: usize, spread: f64) -> Matrix {
    let n = if c == 0 { 0 } else { n };
    let mut world = SplitMix64::stream(seed, WORLD);
    let centres: Vec<Vec<f64>> = (0..c).map(|_| normals(&mut world, d)).collect();
    let mut rng = SplitMix64::stream(seed, stream);
    let rows = (0..n).map(|_| {
        let centre = &centres[rng.below(c)];
        centre.iter().map(|x| x + spread * rng.normal()).collect()
    });
    to_matrix(d, rows)
}

fn normals(rng: &mut SplitMix64, d: usize) -> Vec<f64> {
    (0..d).map(|_| rng.normal()).collect()
}

/// `rows <= d` orthogonal unit vectors, uniform over rotations: Gram-Schmidt on normal vectors, twice for full precision.
pub(super) fn orthonormal(rng: &mut SplitMix64, rows: usize, d: usize) -> Vec<Vec<f64>> {
    let mut axes: Vec<Vec<f64>> = Vec::with_capacity(rows);
    while axes.len() < rows {
        let mut row = normals(rng, d);
        for _ in 0..2 {
            for axis in &axes {
                let along: f64 = row.iter().zip(axis).map(|(x, a)| x * a).sum();
                for (x, a) in row.iter_mut().zip(axis) {
                    *x -= along * a;
                }
            }
            row = unit(row);
        }
        axes.push(row);
    }
    axes
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
        let expected =
            [[259, 763, 913, 945, 359, 234, 810, 146, 31, 893], [297, 762, 608, 945, 402, 365, 784, 910, 716, 215]];
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

    #[test]
    fn a_manifold_has_the_stated_spread_and_few_degrees_of_freedom() {
        let data = manifold(42, 2_000, 32, 8, 0.02);
        let queries = manifold_queries(42, 400, 32, 8, 0.02);
        let power = |m: &Matrix| m.iter_rows().map(|row| dot(row, row)).sum::<f64>() / m.rows() as f64;
        // Eight coordinates of variance 1, and 32 of variance 0.0004.
        assert!((power(&data) - 8.0128).abs() < 0.4, "{}", power(&data));
        assert!((power(&queries) - 8.0128).abs() < 0.8, "{}", power(&queries));
        let estimate = eas_tensor::intrinsic::intrinsic_dimension(&data, 2).unwrap();
        assert!((6.0..11.0).contains(&estimate), "{estimate}");
        // The queries lie on the same sheet: both together need no more axes than one.
        let mut both = data.clone();
        both.append(&queries).unwrap();
        let pca = eas_tensor::pca::Pca::fit(&both, 9).unwrap();
        assert!(pca.variances[8] < 0.01 && pca.variances[7] > 0.5, "{:?}", pca.variances);
        assert_ne!(data.row(0), queries.row(0));
        assert_eq!(data, manifold(42, 2_000, 32, 8, 0.02));
        assert_eq!(manifold(1, 3, 4, 9, 0.0).dim(), 4);
    }

    #[test]
    fn clusters_have_the_stated_centres_and_spread() {
        let data = clusters(7, 4_000, 32, 64, 0.6);
        let queries = clusters_queries(7, 200, 32, 64, 0.6);
        let nearest = |row: &[f32]| {
            let squared = |other: &[f32]| row.iter().zip(other).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
            data.iter_rows().map(squared).fold(f64::INFINITY, f64::min)
        };
        // A neighbour of the same cluster is near sqrt(2 * 32) * 0.6 = 4.8, one of another beyond sqrt(2 * 32) = 8.
        for row in queries.iter_rows() {
            assert!(nearest(row) < 36.0, "{}", nearest(row));
        }
        let power = data.iter_rows().map(|row| dot(row, row)).sum::<f64>() / 4_000.0;
        assert!((power / (32.0 * 1.36) - 1.0).abs() < 0.1, "{power}");
        assert_eq!(clusters(7, 5, 32, 0, 0.6).rows(), 0);
    }
}
