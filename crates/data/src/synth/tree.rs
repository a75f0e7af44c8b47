//! A planted tree: directions of which each level adds its own part to its parent's.

use crate::DataError;
use crate::synth::directions::{around, direction, normalize};
use eas_tensor::Matrix;
use eas_tensor::rng::SplitMix64;

/// Shape of a planted tree.
#[derive(Debug, Clone, PartialEq)]
pub struct TreeConfig {
    /// Children of a node at each level, the root's first: `[8, 6, 10]` has 8, 48 and 480 nodes.
    pub branching: Vec<usize>,
    /// Weight of each level in the direction of a leaf; a node uses those down to its own level.
    pub shares: Vec<f64>,
    /// Dimension.
    pub dim: usize,
    /// Seed of the stream.
    pub seed: u64,
}

impl Default for TreeConfig {
    /// 8 categories of 6 subcategories of 10 products in 64 dimensions, with shares 0.5, 0.3 and 0.2; seed 7.
    fn default() -> Self {
        Self { branching: vec![8, 6, 10], shares: vec![0.5, 0.3, 0.2], dim: 64, seed: 7 }
    }
}

/// The nodes of a planted tree.
#[derive(Debug, Clone, PartialEq)]
pub struct PlantedTree {
    /// Unit vectors of each level; shape (levels, nodes, dim).
    pub levels: Vec<Matrix>,
    /// The parent of each node in the level above; the first level's are all 0, the root. Shape (levels, nodes).
    pub parents: Vec<Vec<usize>>,
    seed: u64,
}

impl PlantedTree {
    /// Draws a direction for each node. A node's vector is the normalised sum over its path of `sqrt(share)` times the direction.
    ///
    /// # Errors
    /// No levels or dimension, a level without children, more than a million nodes, shares that don't match the levels or aren't
    /// positive.
    pub fn generate(config: &TreeConfig) -> Result<Self, DataError> {
        let positive = |x: &f64| *x > 0.0 && x.is_finite();
        let nodes = config.branching.iter().try_fold(1usize, |n, &b| n.checked_mul(b)).unwrap_or(usize::MAX);
        let shapes = config.branching.len() == config.shares.len() && config.shares.iter().all(positive);
        if config.branching.is_empty() || !(1..=1_000_000).contains(&nodes) || config.dim == 0 || !shapes {
            let expected = "up to a million nodes, and a positive share for each level";
            return Err(DataError::Argument { what: "tree configuration", given: format!("{config:?}"), expected });
        }
        let mut rng = SplitMix64::stream(config.seed, 0);
        let (mut levels, mut parents) = (Vec::new(), Vec::new());
        // The sums along the paths, not yet normalised.
        let mut above = vec![vec![0.0; config.dim]];
        for (&children, share) in config.branching.iter().zip(&config.shares) {
            let parent: Vec<usize> = (0..above.len() * children).map(|node| node / children).collect();
            let sums = parent.iter().map(|&p| {
                let own = direction(&mut rng, config.dim);
                above[p].iter().zip(own).map(|(sum, x)| sum + share.sqrt() * x).collect::<Vec<f64>>()
            });
            let sums: Vec<Vec<f64>> = sums.collect();
            let mut matrix = Matrix::zeros(sums.len(), config.dim);
            for (i, sum) in sums.iter().enumerate() {
                let mut row = sum.clone();
                normalize(&mut row);
                for (to, from) in matrix.row_mut(i).iter_mut().zip(row) {
                    *to = from as f32;
                }
            }
            levels.push(matrix);
            parents.push(parent);
            above = sums;
        }
        Ok(Self { levels, parents, seed: config.seed })
    }

    /// `n` queries for nodes of `level`: which node is meant, and its vector plus a random direction of length `noise`, normalised.
    ///
    /// # Errors
    /// A level that isn't there, or noise that is negative or not finite.
    pub fn queries(&self, level: usize, n: usize, noise: f64) -> Result<(Vec<usize>, Matrix), DataError> {
        let Some(nodes) = self.levels.get(level) else {
            return Err(DataError::Argument {
                what: "level",
                given: level.to_string(),
                expected: "a level of the tree",
            });
        };
        if !(noise >= 0.0 && noise.is_finite()) {
            return Err(DataError::Argument { what: "noise", given: noise.to_string(), expected: "zero or more" });
        }
        let mut rng = SplitMix64::stream(self.seed, 1 + level as u64);
        let mut matrix = Matrix::zeros(n, nodes.dim());
        let meant = (0..n).map(|i| {
            let node = rng.below(nodes.rows());
            let centre: Vec<f64> = nodes.row(node).iter().map(|&x| f64::from(x)).collect();
            matrix.row_mut(i).copy_from_slice(&around(&mut rng, &centre, noise));
            node
        });
        Ok((meant.collect(), matrix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eas_tensor::kernels::dot;

    #[test]
    fn nodes_are_as_like_as_their_common_path() {
        let tree = PlantedTree::generate(&TreeConfig::default()).unwrap();
        assert_eq!(tree.levels.iter().map(Matrix::rows).collect::<Vec<_>>(), [8, 48, 480]);
        let products = &tree.levels[2];
        let subs = &tree.parents[2];
        let (mut siblings, mut cousins, mut strangers) = ((0.0, 0), (0.0, 0), (0.0, 0));
        for i in 0..480 {
            for j in 0..i {
                let s = f64::from(dot(products.row(i), products.row(j)));
                let kind = if subs[i] == subs[j] {
                    &mut siblings
                } else if tree.parents[1][subs[i]] == tree.parents[1][subs[j]] {
                    &mut cousins
                } else {
                    &mut strangers
                };
                *kind = (kind.0 + s, kind.1 + 1);
            }
        }
        for (kind, expected) in [(siblings, 0.8), (cousins, 0.5), (strangers, 0.0)] {
            let mean = kind.0 / f64::from(kind.1);
            assert!((mean - expected).abs() < 0.05, "{mean} {expected}");
        }
        assert_eq!(tree, PlantedTree::generate(&TreeConfig::default()).unwrap());
    }

    #[test]
    fn queries_without_noise_are_the_nodes_and_bad_shapes_are_refused() {
        let tree = PlantedTree::generate(&TreeConfig::default()).unwrap();
        let (meant, queries) = tree.queries(1, 20, 0.0).unwrap();
        for (i, &node) in meant.iter().enumerate() {
            assert!((dot(queries.row(i), tree.levels[1].row(node)) - 1.0).abs() < 1e-5);
        }
        assert!(tree.queries(3, 5, 0.1).is_err());
        assert!(tree.queries(0, 5, f64::NAN).is_err());
        let base = TreeConfig::default();
        for bad in [
            TreeConfig { branching: vec![], shares: vec![], ..base.clone() },
            TreeConfig { branching: vec![8, 0, 3], ..base.clone() },
            TreeConfig { branching: vec![usize::MAX, 2, 2], ..base.clone() },
            TreeConfig { shares: vec![1.0], ..base.clone() },
            TreeConfig { dim: 0, ..base },
        ] {
            assert!(PlantedTree::generate(&bad).is_err(), "{bad:?}");
        }
    }
}
