//! k-means clustering: k-means++ seeding (Arthur and Vassilvitskii 2007), Lloyd's iterations, restarts, and repair of
//! clusters that lose all their members; in its spherical form (Dhillon and Modha 2001) also by angle.

use crate::gemm::{Epilogue, PackedMatrix};
use crate::kernels::{dot, squared_l2};
use crate::rng::SplitMix64;
use crate::{Matrix, TensorError};
use rayon::prelude::*;

/// Rows summed by one task. Fixed, so that sums don't depend on the number of threads.
const BLOCK: usize = 1024;
/// Rows whose products with all centres one task holds at once.
const ASSIGN_ROWS: usize = 96;

/// Where the centres of the first iteration come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Init {
    /// k-means++: each next centre is a row drawn with probability proportional to its squared distance to the centres so far.
    PlusPlus,
    /// Distinct rows drawn uniformly. For thousands of clusters, where k-means++ would cost as much as the iterations.
    Random,
    /// Centre `j` of `k` is row `floor(j n / k)` of `n`: no randomness at all, for rows that come in no particular order.
    Stride,
}

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
    /// Stops when no centre moved farther than this share of the rows' root mean square length; 0 goes on until no row changes cluster.
    pub tolerance: f64,
    /// Clusters by angle: rows are compared with unit-length centres by dot product. For rows of unit length.
    pub spherical: bool,
    /// Where the centres start.
    pub init: Init,
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
    /// True when the centres have unit length and rows go to the centre of greatest dot product.
    pub spherical: bool,
    /// Lloyd iterations of the start that was kept.
    pub iterations: usize,
}

impl KMeans {
    /// `k` Euclidean clusters, one start by k-means++ of at most 50 iterations without tolerance, seed 42.
    pub fn new(k: usize) -> Self {
        Self { k, max_iter: 50, restarts: 1, seed: 42, tolerance: 0.0, spherical: false, init: Init::PlusPlus }
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
        if !(self.tolerance >= 0.0 && self.tolerance.is_finite()) {
            return Err(TensorError::argument("tolerance", &self.tolerance, "a number of at least 0"));
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
        let mut rng = SplitMix64::stream(self.seed, restart);
        let mut centroids = match self.init {
            Init::PlusPlus => plus_plus(data, self.k, &mut rng),
            Init::Random => data.select(&rng.sample_indices(data.rows(), self.k)),
            Init::Stride => data.select(&(0..self.k).map(|j| j * data.rows() / self.k).collect::<Vec<_>>()),
        };
        if self.spherical {
            centroids.normalize_rows();
        }
        let mean_square = f64::from(dot(data.as_slice(), data.as_slice())) / data.rows() as f64;
        let still = self.tolerance.powi(2) * mean_square;
        let mut assignments = assign(&centroids, data, self.spherical);
        let mut iterations = 0;
        while iterations < self.max_iter {
            iterations += 1;
            let mut next = means(data, &assignments, &centroids);
            if self.spherical {
                next.normalize_rows();
            }
            let moved = next.iter_rows().zip(centroids.iter_rows());
            let farthest = moved.map(|(a, b)| squared_l2(a, b)).fold(0.0, f32::max);
            centroids = next;
            let next = assign(&centroids, data, self.spherical);
            let settled = next == assignments || (self.tolerance > 0.0 && f64::from(farthest) <= still);
            assignments = next;
            if settled {
                break;
            }
        }
        let own = |(i, &cluster): (usize, &usize)| f64::from(squared_l2(data.row(i), centroids.row(cluster)));
        let inertia = assignments.iter().enumerate().map(own).sum();
        Clustering { centroids, assignments, inertia, spherical: self.spherical, iterations }
    }
}

impl Clustering {
    /// The nearest centre of each row of `data`, ties to the lower cluster.
    pub fn predict(&self, data: &Matrix) -> Result<Vec<usize>, TensorError> {
        if data.dim() != self.centroids.dim() {
            return Err(TensorError::Dimension { expected: self.centroids.dim(), got: data.dim() });
        }
        data.check_finite()?;
        Ok(assign(&self.centroids, data, self.spherical))
    }
}

/// Each next centre is a row drawn with probability proportional to its squared distance to the centres so far.
fn plus_plus(data: &Matrix, k: usize, rng: &mut SplitMix64) -> Matrix {
    let first = rng.below(data.rows());
    let mut chosen = vec![first];
    let mut nearest = vec![f64::INFINITY; data.rows()];
    while chosen.len() < k {
        let last = data.row(chosen[chosen.len() - 1]);
        nearest.par_iter_mut().enumerate().for_each(|(i, d)| *d = d.min(f64::from(squared_l2(data.row(i), last))));
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

/// Centres packed for products with many rows at once.
///
/// The score of a row `x` for a centre `c` is `x . c - |c|^2 / 2`, which orders centres as the distance does, or `x . c` alone for
/// spherical ones. It depends on `x` and `c` only, not on what else is computed in the same call.
#[derive(Debug, Clone)]
pub struct Centres {
    centroids: Matrix,
    packed: PackedMatrix,
    offsets: Vec<f32>,
}

impl Centres {
    /// Packs `centroids`, shape `(k, dim)`; `spherical` ranks by dot product.
    pub fn new(centroids: Matrix, spherical: bool) -> Self {
        let offset = |c: &[f32]| if spherical { 0.0 } else { -0.5 * dot(c, c) };
        Self { offsets: centroids.iter_rows().map(offset).collect(), packed: PackedMatrix::new(&centroids), centroids }
    }

    /// The centres, shape `(k, dim)`.
    pub fn centroids(&self) -> &Matrix {
        &self.centroids
    }

    /// Scores of all centres for each of `rows`, row-major `(rows, dim)`; shape `(rows, k)`, higher is nearer.
    ///
    /// # Panics
    /// When `rows` isn't a whole number of rows.
    pub fn scores(&self, rows: &[f32]) -> Vec<f32> {
        let mut scores = Vec::new();
        self.fill_scores(rows, &mut scores);
        scores
    }

    /// [`Self::scores`] into a buffer that is used again: memory of this size is otherwise asked from the system at every call.
    ///
    /// # Panics
    /// When `rows` isn't a whole number of rows.
    pub fn fill_scores(&self, rows: &[f32], scores: &mut Vec<f32>) {
        let (k, dim) = (self.centroids.rows(), self.centroids.dim().max(1));
        scores.resize(rows.len() / dim * k, 0.0);
        self.packed.product(rows, scores, Epilogue::Bias(&self.offsets));
    }

    /// The product `x . c` of a row and centre `centre`, given their score.
    ///
    /// # Panics
    /// When there is no such centre.
    pub fn product(&self, centre: usize, score: f32) -> f32 {
        score - self.offsets[centre]
    }

    /// The nearest centre of each row of `data`, ties to the lower index.
    ///
    /// # Panics
    /// When `data` has another dimension than the centres, or there are rows but no centres.
    pub fn assign(&self, data: &Matrix) -> Vec<usize> {
        let (k, dim) = (self.centroids.rows(), data.dim());
        assert!(data.is_empty() || (dim == self.centroids.dim() && k > 0), "rows of dimension {dim}, {k} centres");
        if dim == 0 {
            return vec![0; data.rows()];
        }
        let mut nearest = vec![0; data.rows()];
        nearest.par_chunks_mut(ASSIGN_ROWS).zip(data.as_slice().par_chunks(ASSIGN_ROWS * dim)).for_each(
            |(nearest, rows)| {
                for (nearest, scores) in nearest.iter_mut().zip(self.scores(rows).chunks_exact(k)) {
                    *nearest = place_of_maximum(scores);
                }
            },
        );
        nearest
    }
}

/// The nearest of `centroids` to each row, ties to the lower index; by dot product alone when `spherical`.
pub(crate) fn assign(centroids: &Matrix, data: &Matrix, spherical: bool) -> Vec<usize> {
    Centres::new(centroids.clone(), spherical).assign(data)
}

/// Index of the first of the greatest values. Sixteen running maxima, so that the compiler can use vector registers.
fn place_of_maximum(values: &[f32]) -> usize {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let (blocks, rest) = values.as_chunks::<16>();
    for block in blocks {
        for (lane, &x) in lanes.iter_mut().zip(block) {
            *lane = if x > *lane { x } else { *lane };
        }
    }
    let greatest = lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |m, &x| if x > m { x } else { m });
    values.iter().position(|&x| x == greatest).unwrap_or(0)
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
            .map(|i| centres[i % centres.len()].iter().map(|c| c + (spread * rng.normal()) as f32).collect())
            .collect();
        Matrix::from_rows(&rows).unwrap()
    }

    #[test]
    fn separate_blobs_are_found() {
        let centres = [[0.0, 0.0, 0.0], [10.0, 0.0, 0.0], [0.0, 10.0, 0.0], [0.0, 0.0, 10.0]];
        let data = blobs(&centres, 400, 0.5, 1);
        let fit = KMeans { restarts: 4, ..KMeans::new(4) }.fit(&data).unwrap();
        for i in 0..data.rows() {
            assert_eq!(fit.assignments[i], fit.assignments[i % 4]);
        }
        for centroid in fit.centroids.iter_rows() {
            let nearest = centres.iter().map(|c| squared_l2(c, centroid)).fold(f32::INFINITY, f32::min);
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
                let part: Vec<&[f32]> = (0..10).filter(|i| (mask >> i & 1 == 1) == side).map(|i| data.row(i)).collect();
                for d in 0..3 {
                    let mean = part.iter().map(|r| f64::from(r[d])).sum::<f64>() / part.len() as f64;
                    inertia += part.iter().map(|r| (f64::from(r[d]) - mean).powi(2)).sum::<f64>();
                }
            }
            optimum = optimum.min(inertia);
        }
        let fit = KMeans { restarts: 20, ..KMeans::new(2) }.fit(&data).unwrap();
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
    fn rows_go_to_the_nearest_centre_whatever_the_shape() {
        for (n, k, dim) in [(1, 1, 1), (300, 7, 3), (250, 33, 40), (97, 16, 2)] {
            let mut rng = SplitMix64::new(n as u64);
            let mut random =
                |rows| Matrix::from_vec(rows, dim, (0..rows * dim).map(|_| rng.normal() as f32).collect()).unwrap();
            let (data, mut centres) = (random(n), random(k));
            for (row, cluster) in data.iter_rows().zip(assign(&centres, &data, false)) {
                let least = centres.iter_rows().map(|c| squared_l2(row, c)).fold(f32::INFINITY, f32::min);
                assert!(squared_l2(row, centres.row(cluster)) <= least + 1e-4);
            }
            centres.normalize_rows();
            for (row, cluster) in data.iter_rows().zip(assign(&centres, &data, true)) {
                let most = centres.iter_rows().map(|c| dot(row, c)).fold(f32::NEG_INFINITY, f32::max);
                assert!(dot(row, centres.row(cluster)) >= most - 1e-4);
            }
        }
        assert_eq!(place_of_maximum(&[1.0, 3.0, 3.0]), 1, "ties to the lower index");
        assert_eq!(place_of_maximum(&[2.0; 40]), 0);
    }

    #[test]
    fn spherical_centres_have_unit_length_and_split_by_angle() {
        // Two directions, rows of very different lengths along each: by angle they are two clusters, by distance they aren't.
        let mut data = Matrix::from_rows(&[[1.0, 0.01], [30.0, 0.3], [0.01, 1.0], [0.3, 40.0]]).unwrap();
        data.normalize_rows();
        let fit = KMeans { spherical: true, init: Init::Stride, ..KMeans::new(2) }.fit(&data).unwrap();
        assert_eq!(fit.assignments, [0, 0, 1, 1]);
        assert!(fit.centroids.iter_rows().all(|c| (dot(c, c) - 1.0).abs() < 1e-6));
        assert_eq!(fit.predict(&data).unwrap(), fit.assignments);
    }

    #[test]
    fn every_start_and_tolerance_ends_in_a_clustering() {
        let data = blobs(&[[0.0; 3], [4.0; 3]], 200, 1.0, 3);
        for init in [Init::PlusPlus, Init::Random, Init::Stride] {
            let fit = |tolerance| {
                let settings = KMeans { tolerance, init, ..KMeans::new(8) };
                settings.fit(&data).unwrap()
            };
            let (exact, loose) = (fit(0.0), fit(0.05));
            assert!(loose.iterations <= exact.iterations);
            assert!(loose.inertia < 1.2 * exact.inertia);
        }
        let negative = KMeans { tolerance: -1.0, ..KMeans::new(2) };
        assert!(negative.fit(&data).unwrap_err().to_string().contains("tolerance is -1"));
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
        let fit = |seed| KMeans { seed, max_iter: 5, ..KMeans::new(10) }.fit(&data).unwrap();
        assert_eq!(fit(1), fit(1));
        assert_ne!(fit(1).centroids, fit(2).centroids);
        assert!(KMeans::new(0).fit(&data).is_err());
        assert!(KMeans::new(3_001).fit(&data).is_err());
        assert!(KMeans { restarts: 0, ..KMeans::new(1) }.fit(&data).is_err());
        assert!(KMeans::new(1).fit(&Matrix::from_rows(&[[f32::NAN]]).unwrap()).is_err());
        assert!(fit(1).predict(&Matrix::zeros(1, 2)).is_err());
    }
}
