//! Agreement of a clustering with known classes.

use crate::EvalError;
use crate::error::{not_empty, same_length};
use std::collections::BTreeMap;

/// Share of items that belong to the most frequent class of their cluster. It is 1 when each item is its own cluster,
/// so compare only clusterings of equal size.
pub fn purity<C: Ord, T: Ord>(clusters: &[C], classes: &[T]) -> Result<f64, EvalError> {
    let mut counts: BTreeMap<&C, BTreeMap<&T, usize>> = BTreeMap::new();
    same_length("cluster labels", clusters.len(), classes.len())?;
    not_empty("clusters", clusters)?;
    for (cluster, class) in clusters.iter().zip(classes) {
        *counts.entry(cluster).or_default().entry(class).or_default() += 1;
    }
    let kept: usize = counts.values().filter_map(|c| c.values().max()).sum();
    Ok(kept as f64 / classes.len() as f64)
}

/// Precision, recall and F1 over pairs of items: a pair is positive when both share a class, and called positive when
/// both share a cluster.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairwiseScores {
    /// Share of the pairs put together that belong together; 1 when none was put together.
    pub precision: f64,
    /// Share of the pairs that belong together that were put together; 1 when none belongs together.
    pub recall: f64,
    /// Harmonic mean of the two.
    pub f1: f64,
}

/// Scores a clustering by its pairs, in time near-linear in the number of items.
pub fn pairwise<C: Ord, T: Ord>(clusters: &[C], classes: &[T]) -> Result<PairwiseScores, EvalError> {
    same_length("cluster labels", clusters.len(), classes.len())?;
    not_empty("clusters", clusters)?;
    let together = pairs(clusters.iter());
    let belong = pairs(classes.iter());
    let both = pairs(clusters.iter().zip(classes));
    let share = |whole: f64| if whole == 0.0 { 1.0 } else { both / whole };
    let (precision, recall) = (share(together), share(belong));
    let f1 = if precision + recall == 0.0 { 0.0 } else { 2.0 * precision * recall / (precision + recall) };
    Ok(PairwiseScores { precision, recall, f1 })
}

/// Number of unordered pairs of equal keys.
fn pairs<K: Ord>(keys: impl Iterator<Item = K>) -> f64 {
    let mut counts: BTreeMap<K, f64> = BTreeMap::new();
    for key in keys {
        *counts.entry(key).or_default() += 1.0;
    }
    counts.values().map(|n| n * (n - 1.0) / 2.0).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_abs_diff_eq;
    use proptest::prelude::*;

    #[test]
    fn purity_counts_the_majority_class_of_each_cluster() {
        let clusters = [0, 0, 0, 1, 1, 2];
        let classes = ["a", "a", "b", "b", "b", "a"];
        assert_abs_diff_eq!(purity(&clusters, &classes).unwrap(), 5.0 / 6.0);
        assert!(purity::<u8, u8>(&[], &[]).is_err());
        assert!(purity(&[1], &[1, 2]).is_err());
    }

    #[test]
    fn limits_are_defined() {
        let perfect = pairwise(&[1, 1, 2], &["x", "x", "y"]).unwrap();
        assert_eq!((perfect.precision, perfect.recall, perfect.f1), (1.0, 1.0, 1.0));
        let apart = pairwise(&[1, 2, 3], &["x", "x", "y"]).unwrap();
        assert_eq!((apart.precision, apart.recall, apart.f1), (1.0, 0.0, 0.0));
    }

    proptest! {
        #[test]
        fn pairs_equal_the_double_loop(items in prop::collection::vec((0u8..4, 0u8..4), 1..30)) {
            let (clusters, classes): (Vec<u8>, Vec<u8>) = items.into_iter().unzip();
            let (mut both, mut together, mut belong) = (0.0, 0.0, 0.0);
            for i in 0..clusters.len() {
                for j in 0..i {
                    let (c, t) = (clusters[i] == clusters[j], classes[i] == classes[j]);
                    together += f64::from(u8::from(c));
                    belong += f64::from(u8::from(t));
                    both += f64::from(u8::from(c && t));
                }
            }
            let got = pairwise(&clusters, &classes).unwrap();
            prop_assert_eq!(got.precision, if together == 0.0 { 1.0 } else { both / together });
            prop_assert_eq!(got.recall, if belong == 0.0 { 1.0 } else { both / belong });
        }
    }
}
