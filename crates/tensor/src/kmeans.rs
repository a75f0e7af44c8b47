//! k-means clustering: k-means++ seeding (Arthur and Vassilvitskii 2007), Lloyd's iterations, restarts, and repair of
//! clusters that lose all their members.

use crate::kernels::squared_l2;
use crate::rng::SplitMix64;
use crate::{Matrix, TensorError};
use rayon::prelude::*;

/// Rows summed by one task. Fixed, so that sums don't depend on the number of threads.
const BLOCK: usize = 1024;

/// Settings; start from [`KMeans::new`] and change fields as needed.
#[derive(Debug, Clone, PartialEq)]
pub struct KMeans {
    /// Number of clusters.
    pub k: usize,
    /// Most Lloyd iterations of each start.
    pub max_iter: usize,
    /// Independent starts; the one with the least inertia is kept.
    pub restarts: usize,
    /// Seed of the starts.
    pub seed: u64,
}

/// A fitted clustering.
#[derive(Debug, Clone, PartialEq)]
pub struct Clustering {
    /// Cluster centres, shape `(k, dim)`.
    pub centroids: Matrix,
    /// Cluster of each row.
    pub assignments: Vec<usize>,
    /// Sum of squared distances of the rows to their centres.
    pub inertia: f64,
    /// Lloyd iterations of the start that was kept.
    pub iterations: usize,
}

impl KMeans {
    /// `k` clusters, one start of at most 50 iterations, seed 42.
    pub fn new(k: usize) -> Self {
        Self {
            k,
            max_iter: 50,
            restarts: 1,
            seed: 42,
        }
    }

    /// Clusters the rows of `data`; an error for `k` of 0 or above the number of rows, or values that aren't finite.
    pub fn fit(&self, data: &Matrix) -> Result<Clustering, TensorError> {
        if self.k == 0 || self.k > data.rows() {
            let expected = format!("between 1 and the {} rows", data.rows());
            return Err(TensorError::argument("k", &self.k, expected));
        }
        if self.restarts == 0 {
            return Err(TensorError::argument("restarts", &0, "at least 1"));
        }
        data.check_finite()?;
        let mut best = self.start(data, 0);
        for restart in 1..self.restarts {
            let other = self.start(data, restart as u64);
            if other.inertia < best.inertia {
                best = other;
            }
        }
        Ok(best)
    }

    fn start(&self, data: &Matrix, restart: u64) -> Clustering {
        let mut centroids = plus_plus(data, self.k, &mut SplitMix64::stream(self.seed, restart));
        let mut assignments = assign(&centroids, data);
        let mut iterations = 0;
        while iterations < self.max_iter {
            iterations += 1;
            centroids = means(data, &assignments, &centroids);
            let next = assign(&centroids, data);
            if next == assignments {
                break;
            }
            assignments = next;
        }
        let own = |(i, &cluster): (usize, &usize)| f64::from(squared_l2(data.row(i), centroids.row(cluster)));
        let inertia = assignments.iter().enumerate().map(own).sum();
        Clustering {
            centroids,
            assignments,
            inertia,
            iterations,
        }
    }
}

impl Clustering {
    /// The nearest centre of each row of `data`, ties to the lower cluster.
    pub fn predict(&self, data: &Matrix) -> Result<Vec<usize>, TensorError> {
        if data.dim() != self.centroids.dim() {
            return Err(TensorError::Dimension {
                expected: self.centroids.dim(),
                got: data.dim(),
            });
        }
        data.check_finite()?;
        Ok(assign(&self.centroids, data))
    }
}

/// Each next centre is a row drawn with probability proportional to its squared distance to the centres so far.
fn plus_plus(data: &Matrix, k: usize, rng: &mut SplitMix64) -> Matrix {
    let first = rng.below(data.rows());
    let mut chosen = vec![first];
    let mut nearest = vec![f64::INFINITY; data.rows()];
    while chosen.len() < k {
        let last = data.row(chosen[chosen.len() - 1]);
        nearest
            .par_iter_mut()
            .enumerate()
            .for_each(|(i, d)| *d = d.min(f64::from(squared_l2(data.row(i), last))));
        let next = if nearest.iter().all(|&d| d == 0.0) {
            // Fewer distinct rows than clusters: the remaining centres repeat rows.
            rng.below(data.rows())
        } else {
            rng.weighted(&nearest)
        };
        chosen.push(next);
    }
    data.select(&chosen)
}

/// The nearest of `centroids` to each row, ties to the lower index.
///
/// Ranks by `x . c - |c|^2 / 2`, which orders as the distance does. The centres are transposed so that the inner loop runs
/// over them: that is one long vector operation even where the dimension is small, as within product quantization.
pub(crate) fn assign(centroids: &Matrix, data: &Matrix) -> Vec<usize> {
    let k = centroids.rows();
    let half_norms: Vec<f32> = centroids
        .iter_rows()
        .map(|c| -0.5 * crate::kernels::dot(c, c))
        .collect();
    let mut transposed = vec![0.0f32; centroids.as_slice().len()];
    for (c, row) in centroids.iter_rows().enumerate() {
        for (d, &x) in row.iter().enumerate() {
            transposed[d * k + c] = x;
        }
    }
    let nearest = |row: &[f32], scores: &mut Vec<f32>| {
        scores.copy_from_slice(&half_norms);
        for (&x, coordinates) in row.iter().zip(transposed.chunks_exact(k)) {
            for (score, c) in scores.iter_mut().zip(coordinates) {
                *score += x * c;
            }
        }
        let mut best = 0;
        for (c, score) in scores.iter().enumerate() {
            if *score > scores[best] {
                best = c;
            }
        }
        best
    };
    (0..data.rows())
        .into_par_iter()
        .map_init(|| vec![0.0; k], |scores, i| nearest(data.row(i), scores))
        .collect()
}

/// Means of the members of each cluster. A cluster without members takes the row farthest from its own centre, which
/// then no longer counts for the cluster it was in.
fn means(data: &Matrix, assignments: &[usize], previous: &Matrix) -> Matrix {
    let (k, dim) = (previous.rows(), data.dim());
    let blocks: Vec<(Vec<usize>, Vec<f64>)> = assignments
        .par_chunks(BLOCK)
        .enumerate()
        .map(|(block, clusters)| {
            let (mut counts, mut sums) = (vec![0usize; k], vec![0.0f64; k * dim]);
            for (i, &cluster) in clusters.iter().enumerate() {
                counts[cluster] += 1;
                let sum = &mut sums[cluster * dim..(cluster + 1) * dim];
                for (s, x) in sum.iter_mut().zip(data.row(block * BLOCK + i)) {
                    *s += f64::from(*x);
                }
            }
            (counts, sums)
        })
        .collect();
    let (mut counts, mut sums) = (vec![0usize; k], vec![0.0f64; k * dim]);
    for (block_counts, block_sums) in &blocks {
        counts.iter_mut().zip(block_counts).for_each(|(a, b)| *a += b);
        sums.iter_mut().zip(block_sums).for_each(|(a, b)| *a += b);
    }

    if counts.contains(&0) {
        let mut far: Vec<usize> = (0..data.rows()).collect();
        let distance = |i: usize| squared_l2(data.row(i), previous.row(assignments[i]));
        far.sort_by(|&a, &b| distance(b).total_cmp(&distance(a)).then(a.cmp(&b)));
        let mut far = far.into_iter();
        for empty in 0..k {
            if counts[empty] > 0 {
                continue;
            }
            // A row that is the last of its cluster stays, or that cluster would be empty in turn.
            let Some(row) = far.find(|&i| counts[assignments[i]] > 1) else {
                break;
            };
            counts[assignments[row]] -= 1;
            counts[empty] = 1;
            for (d, &x) in data.row(row).iter().enumerate() {
                sums[assignments[row] * dim + d] -= f64::from(x);
                sums[empty * dim + d] = f64::from(x);
            }
        }
    }
    let mut centroids = previous.clone();
    for (cluster, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let sum = &sums[cluster * dim..(cluster + 1) * dim];
        for (c, s) in centroids.row_mut(cluster).iter_mut().zip(sum) {
            *c = (s / count as f64) as f32;
        }
    }
    centroids
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blobs(centres: &[[f32; 3]], each: usize, spread: f64, seed: u64) -> Matrix {
        let mut rng = SplitMix64::new(seed);
        let rows: Vec<Vec<f32>> = (0..each * centres.len())
            .map(|i| {
                centres[i % centres.len()]
                    .iter()
                    .map(|c| c + (spread * rng.normal()) as f32)
                    .collect()
            })
            .collect();
        Matrix::from_rows(&rows).unwrap()
    }

    #[test]
    fn separate_blobs_are_found() {
        let centres = [[0.0, 0.0, 0.0], [10.0, 0.0, 0.0], [0.0, 10.0, 0.0], [0.0, 0.0, 10.0]];
        let data = blobs(&centres, 400, 0.5, 1);
        let fit = KMeans {
            restarts: 4,
            ..KMeans::new(4)
        }
        .fit(&data)
        .unwrap();
        for i in 0..data.rows() {
            assert_eq!(fit.assignments[i], fit.assignments[i % 4]);
        }
        for centroid in fit.centroids.iter_rows() {
            let nearest = centres
                .iter()
                .map(|c| squared_l2(c, centroid))
                .fold(f32::INFINITY, f32::min);
            assert!(nearest < 0.02, "{centroid:?}");
        }
        // Three coordinates of variance 0.25 each.
        assert!((fit.inertia / 1_600.0 - 0.75).abs() < 0.05, "{}", fit.inertia);
        assert_eq!(fit.predict(&data).unwrap(), fit.assignments);
    }

    #[test]
    fn restarts_reach_the_optimum_of_a_small_problem() {
        let data = blobs(&[[0.0; 3], [1.5; 3]], 5, 1.0, 9);
        // Every split of the ten rows into two parts.
        let mut optimum = f64::INFINITY;
        for mask in 1..512u32 {
            let mut inertia = 0.0;
            for side in [true, false] {
                let part: Vec<&[f32]> = (0..10)
                    .filter(|i| (mask >> i & 1 == 1) == side)
                    .map(|i| data.row(i))
                    .collect();
                for d in 0..3 {
                    let mean = part.iter().map(|r| f64::from(r[d])).sum::<f64>() / part.len() as f64;
                    inertia += part.iter().map(|r| (f64::from(r[d]) - mean).powi(2)).sum::<f64>();
                }
            }
            optimum = optimum.min(inertia);
        }
        let fit = KMeans {
            restarts: 20,
            ..KMeans::new(2)
        }
        .fit(&data)
        .unwrap();
        assert!((fit.inertia - optimum).abs() < 1e-4, "{} vs {optimum}", fit.inertia);
    }

    #[test]
    fn clusters_that_lose_their_members_are_refilled() {
        let data = Matrix::from_rows(&[[0.0], [0.1], [5.0], [9.0]]).unwrap();
        // Both members of cluster 1 left; it takes the row farthest from its centre.
        let previous = Matrix::from_rows(&[[3.0], [100.0]]).unwrap();
        let next = means(&data, &[0, 0, 0, 0], &previous);
        assert_eq!(next.row(1), [9.0]);
        assert!((next.row(0)[0] - 1.7).abs() < 1e-6);
        let fit = KMeans::new(4).fit(&data).unwrap();
        assert!(fit.inertia < 1e-9);
    }

    #[test]
    fn fewer_distinct_rows_than_clusters_is_no_failure() {
        let data = Matrix::from_rows(&[[1.0, 2.0]; 6]).unwrap();
        let fit = KMeans::new(3).fit(&data).unwrap();
        assert_eq!((fit.inertia, fit.centroids.rows()), (0.0, 3));
    }

    #[test]
    fn seeds_decide_and_bad_input_is_refused() {
        let data = blobs(&[[0.0; 3]], 3_000, 1.0, 2);
        let fit = |seed| {
            KMeans {
                seed,
                max_iter: 5,
                ..KMeans::new(10)
            }
            .fit(&data)
            .unwrap()
        };
        assert_eq!(fit(1), fit(1));
        assert_ne!(fit(1).centroids, fit(2).centroids);
        assert!(KMeans::new(0).fit(&data).is_err());
        assert!(KMeans::new(3_001).fit(&data).is_err());
        assert!(
            KMeans {
                restarts: 0,
                ..KMeans::new(1)
            }
            .fit(&data)
            .is_err()
        );
        assert!(KMeans::new(1).fit(&Matrix::from_rows(&[[f32::NAN]]).unwrap()).is_err());
        assert!(fit(1).predict(&Matrix::zeros(1, 2)).is_err());
    }
}
