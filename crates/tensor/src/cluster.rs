//! Agglomerative clustering: start with every row alone, merge the two clusters that are nearest, until one is left.
//!
//! ```
//! use eas_tensor::Matrix;
//! use eas_tensor::cluster::average_linkage;
//!
//! let rows = Matrix::from_rows(&[[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])?;
//! assert_eq!(average_linkage(&rows)?.cut(0.2), [0, 0, 1]);
//! # Ok::<(), eas_tensor::TensorError>(())
//! ```

use crate::{Matrix, TensorError};

/// The most rows that [`average_linkage`] takes: their distances fill 1.6 GB.
pub const MOST_ROWS: usize = 20_000;

/// Two clusters that became one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Merge {
    /// A row of the one cluster, the lower of the two numbers.
    pub first: usize,
    /// A row of the other.
    pub second: usize,
    /// How far the clusters were apart.
    pub height: f64,
}

/// The merges of a clustering, from the lowest to the highest.
#[derive(Debug, Clone, PartialEq)]
pub struct Dendrogram {
    rows: usize,
    merges: Vec<Merge>,
}

impl Dendrogram {
    /// The merges, in ascending order of height: one less than there are rows.
    pub fn merges(&self) -> &[Merge] {
        &self.merges
    }

    /// The cluster of each row when only merges lower than `height` are made; clusters are numbered from 0 in the order of their
    /// first rows.
    pub fn cut(&self, height: f64) -> Vec<usize> {
        let mut parent: Vec<usize> = (0..self.rows).collect();
        for merge in self.merges.iter().take_while(|merge| merge.height < height) {
            let (a, b) = (root(&mut parent, merge.first), root(&mut parent, merge.second));
            // The lower row leads, so that a root is the first row of its cluster.
            parent[a.max(b)] = a.min(b);
        }
        let mut number = vec![usize::MAX; self.rows];
        let mut clusters = 0;
        (0..self.rows)
            .map(|row| {
                let first = root(&mut parent, row);
                if first == row {
                    number[row] = clusters;
                    clusters += 1;
                }
                number[first]
            })
            .collect()
    }
}

fn root(parent: &mut [usize], mut row: usize) -> usize {
    while parent[row] != row {
        parent[row] = parent[parent[row]];
        row = parent[row];
    }
    row
}

/// Average-linkage clustering (UPGMA, Sokal and Michener 1958) of the rows by cosine distance, `1 - cos`: clusters are as far apart
/// as their rows on average.
///
/// The chain of nearest neighbours (Benzécri 1982, Murtagh 1983) needs `O(n^2 dim)` time; the distances take `4 n^2` bytes, so more
/// than [`MOST_ROWS`] rows are refused. A row of zeros has distance 1 from every other.
///
/// Fails on values that aren't finite.
pub fn average_linkage(rows: &Matrix) -> Result<Dendrogram, TensorError> {
    let n = rows.rows();
    if n > MOST_ROWS {
        return Err(TensorError::argument(
            "number of rows",
            &n,
            format!("at most {MOST_ROWS}: distances of all pairs are held"),
        ));
    }
    rows.check_finite()?;
    let mut apart = Condensed::cosine(rows);
    let mut size = vec![1usize; n];
    let mut alive: Vec<usize> = (0..n).collect();
    let (mut merges, mut chain) = (Vec::with_capacity(n.saturating_sub(1)), Vec::new());
    while alive.len() > 1 {
        let last = if let Some(&last) = chain.last() {
            last
        } else {
            chain.push(alive[0]);
            alive[0]
        };
        let before = chain.len().checked_sub(2).map(|i| chain[i]);
        // In a tie the chain turns back, or it might run in a circle; otherwise the lower row wins.
        let mut nearest = before.map_or((f64::INFINITY, usize::MAX), |before| (apart.get(last, before), before));
        for &other in alive.iter().filter(|&&other| other != last) {
            let distance = apart.get(last, other);
            if distance < nearest.0 {
                nearest = (distance, other);
            }
        }
        if Some(nearest.1) != before {
            chain.push(nearest.1);
            continue;
        }
        chain.truncate(chain.len() - 2);
        let (first, second) = (last.min(nearest.1), last.max(nearest.1));
        merges.push(Merge { first, second, height: nearest.0 });
        alive.retain(|&cluster| cluster != second);
        let (a, b) = (size[first] as f64, size[second] as f64);
        for &other in alive.iter().filter(|&&other| other != first) {
            let mean = (a * apart.get(first, other) + b * apart.get(second, other)) / (a + b);
            apart.set(first, other, mean);
        }
        size[first] += size[second];
    }
    merges.sort_by(|a, b| a.height.total_cmp(&b.height));
    Ok(Dendrogram { rows: n, merges })
}

/// The distances of `i < j`, row by row.
struct Condensed {
    n: usize,
    values: Vec<f64>,
}

impl Condensed {
    fn cosine(rows: &Matrix) -> Self {
        let n = rows.rows();
        let unit = |row: &[f32]| {
            let row: Vec<f64> = row.iter().map(|&x| f64::from(x)).collect();
            let length = row.iter().map(|x| x * x).sum::<f64>().sqrt();
            let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
            row.into_iter().map(|x| x * scale).collect::<Vec<f64>>()
        };
        let rows: Vec<Vec<f64>> = rows.iter_rows().map(unit).collect();
        let mut values = Vec::with_capacity(n * n.saturating_sub(1) / 2);
        for (i, a) in rows.iter().enumerate() {
            let to = |b: &Vec<f64>| 1.0 - a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
            values.extend(rows[i + 1..].iter().map(to));
        }
        Self { n, values }
    }

    fn at(&self, i: usize, j: usize) -> usize {
        let (i, j) = (i.min(j), i.max(j));
        i * (2 * self.n - i - 1) / 2 + j - i - 1
    }

    fn get(&self, i: usize, j: usize) -> f64 {
        self.values[self.at(i, j)]
    }

    fn set(&mut self, i: usize, j: usize, distance: f64) {
        let at = self.at(i, j);
        self.values[at] = distance;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SplitMix64;

    fn planar() -> Matrix {
        Matrix::from_rows(&[[1.0, 0.0], [0.9, 0.3], [0.8, 0.6], [0.3, 0.95], [0.0, 1.0], [-0.6, 0.8]]).unwrap()
    }

    fn heights(dendrogram: &Dendrogram) -> Vec<f64> {
        dendrogram.merges().iter().map(|merge| merge.height).collect()
    }

    /// scikit-learn, `AgglomerativeClustering(metric="cosine", linkage="average", compute_distances=True)`.
    #[test]
    fn heights_and_clusters_equal_those_of_scikit_learn() {
        let dendrogram = average_linkage(&planar()).unwrap();
        let expected = [0.046_417_33, 0.051_316_70, 0.125_658_35, 0.308_906_34, 0.810_954_04];
        assert!(heights(&dendrogram).iter().zip(expected).all(|(h, e)| (h - e).abs() < 1e-7), "{dendrogram:?}");
        assert_eq!(dendrogram.cut(0.2), [0, 0, 0, 1, 1, 2]);
        assert_eq!(dendrogram.cut(0.0), [0, 1, 2, 3, 4, 5]);
        assert_eq!(dendrogram.cut(f64::INFINITY), [0; 6]);
    }

    #[test]
    fn equals_the_naive_merging() {
        for seed in 0..20 {
            let mut rng = SplitMix64::new(seed);
            let rows: Vec<[f32; 3]> = (0..30).map(|_| [(); 3].map(|()| rng.normal() as f32)).collect();
            let rows = Matrix::from_rows(&rows).unwrap();
            let distance = Condensed::cosine(&rows);
            let mut clusters: Vec<Vec<usize>> = (0..30).map(|i| vec![i]).collect();
            let mut expected = Vec::new();
            let mean = |a: &[usize], b: &[usize]| {
                let pairs = a.iter().flat_map(|&i| b.iter().map(move |&j| (i, j)));
                pairs.map(|(i, j)| distance.get(i, j)).sum::<f64>() / (a.len() * b.len()) as f64
            };
            while clusters.len() > 1 {
                let pairs = (0..clusters.len()).flat_map(|i| (i + 1..clusters.len()).map(move |j| (i, j)));
                let (i, j) = pairs
                    .min_by(|x, y| {
                        mean(&clusters[x.0], &clusters[x.1]).total_cmp(&mean(&clusters[y.0], &clusters[y.1]))
                    })
                    .unwrap();
                expected.push(mean(&clusters[i], &clusters[j]));
                let other = clusters.remove(j);
                clusters[i].extend(other);
            }
            let found = heights(&average_linkage(&rows).unwrap());
            assert!(found.iter().zip(&expected).all(|(x, y)| (x - y).abs() < 1e-9), "{found:?} {expected:?}");
        }
    }

    #[test]
    fn ties_end_and_edges_are_accepted() {
        let same = average_linkage(&Matrix::from_rows(&[[1.0, 1.0]; 7]).unwrap()).unwrap();
        assert_eq!(same.cut(1e-9), [0; 7]);
        let square = Matrix::from_rows(&[[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]]).unwrap();
        assert_eq!(average_linkage(&square).unwrap().merges().len(), 3);
        assert!(average_linkage(&Matrix::zeros(0, 2)).unwrap().cut(1.0).is_empty());
        assert_eq!(average_linkage(&Matrix::zeros(1, 2)).unwrap().cut(1.0), [0]);
        assert_eq!(average_linkage(&Matrix::zeros(2, 2)).unwrap().merges()[0].height, 1.0);
    }

    #[test]
    fn bad_input_is_refused() {
        let bad = Matrix::from_rows(&[[1.0, f32::NAN], [0.0, 1.0]]).unwrap();
        assert!(average_linkage(&bad).is_err());
        let message = average_linkage(&Matrix::zeros(MOST_ROWS + 1, 1)).unwrap_err().to_string();
        assert!(message.contains("20001"), "{message}");
    }
}
