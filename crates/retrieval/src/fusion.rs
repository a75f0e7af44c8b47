//! One ranking out of many: reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009) for scores that can't be compared, and
//! weighted sums for scores that can be made comparable.

use std::collections::{BTreeMap, BTreeSet};

use crate::RetrievalError;
use crate::mmr::min_max;
use eas_eval::correlation::mean_ranks;

/// The constant of the paper, which keeps the first rank of one list from deciding alone.
pub const RRF_K: f64 = 60.0;

/// Fuses ranked lists: an item scores the sum over the lists of `1 / (k + rank)`, ranks from 1 in each list.
///
/// Best first, ties by lower id. An item that a list names twice counts there by its better rank. The order of the lists doesn't
/// matter: contributions are added from the largest down.
///
/// ```
/// use eas_retrieval::fusion::{RRF_K, reciprocal_rank_fusion};
///
/// let fused = reciprocal_rank_fusion(&[vec!['a', 'b', 'c'], vec!['b', 'd', 'a']], RRF_K);
/// assert_eq!(fused.iter().map(|f| f.0).collect::<String>(), "badc");
/// assert!((fused[0].1 - 0.032_522_5).abs() < 1e-7);
/// ```
pub fn reciprocal_rank_fusion<I: Ord + Clone>(lists: &[Vec<I>], k: f64) -> Vec<(I, f64)> {
    let mut parts: BTreeMap<&I, Vec<f64>> = BTreeMap::new();
    for list in lists {
        let mut seen = BTreeSet::new();
        for (at, item) in list.iter().enumerate() {
            if seen.insert(item) {
                parts.entry(item).or_default().push(1.0 / (k + (at + 1) as f64));
            }
        }
    }
    let mut fused: Vec<(I, f64)> = parts
        .into_iter()
        .map(|(item, mut scores)| {
            scores.sort_by(|a, b| b.total_cmp(a));
            (item.clone(), scores.iter().sum())
        })
        .collect();
    // Stable, and the map was in the order of the items: equal scores stay by lower id.
    fused.sort_by(|a, b| b.1.total_cmp(&a.1));
    fused
}

/// How scores of several lists become one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fusion {
    /// The weighted sum of the scores as they are: right when they share a scale.
    WeightedSum,
    /// The weighted sum of standard scores: each list's mean becomes 0, its standard deviation 1. A level list counts 0.
    ZScore,
    /// The weighted sum of scores scaled to `[0, 1]` list by list.
    MinMax,
    /// The weighted sum of `1 / (k + rank)`, as [`reciprocal_rank_fusion`] takes it; equal scores share the mean of their ranks.
    Rrf {
        /// The constant; [`RRF_K`] is the paper's.
        k: f64,
    },
}

impl Fusion {
    /// All four, with the paper's constant.
    pub const ALL: [Self; 4] = [Self::WeightedSum, Self::ZScore, Self::MinMax, Self::Rrf { k: RRF_K }];

    /// A short name.
    pub fn name(self) -> &'static str {
        match self {
            Self::WeightedSum => "weighted sum",
            Self::ZScore => "z-score",
            Self::MinMax => "min-max",
            Self::Rrf { .. } => "RRF",
        }
    }
}

/// Scales weights to sum to 1 over those whose part is present; a part that is absent gets 0.
///
/// # Errors
/// Lengths that differ, a weight that is negative or not finite, and present weights that sum to 0.
///
/// ```
/// use eas_retrieval::fusion::present_weights;
///
/// let weights = present_weights(&[0.4, 0.4, 0.2], &[false, true, true])?;
/// assert!(weights[0] == 0.0 && (weights[1] - 2.0 / 3.0).abs() < 1e-12);
/// # Ok::<(), eas_retrieval::RetrievalError>(())
/// ```
pub fn present_weights(weights: &[f64], present: &[bool]) -> Result<Vec<f64>, RetrievalError> {
    if weights.len() != present.len() {
        let (given, expected) = (weights.len(), present.len());
        return Err(RetrievalError::Length { what: "weights", given, of: "parts", expected });
    }
    if let Some(w) = weights.iter().find(|w| !(w.is_finite() && **w >= 0.0)) {
        return Err(RetrievalError::argument("weight", w, "zero or more"));
    }
    let kept: Vec<f64> = weights.iter().zip(present).map(|(&w, &p)| if p { w } else { 0.0 }).collect();
    let total: f64 = kept.iter().sum();
    if total > 0.0 && total.is_finite() {
        return Ok(kept.iter().map(|w| w / total).collect());
    }
    Err(RetrievalError::argument("sum of the present weights", &total, "above zero and finite"))
}

/// Fuses the scores that several lists give to the same candidates: `scores` has shape (lists, candidates), with `None` where a list
/// says nothing of a candidate. Returns one score a candidate, larger is better.
///
/// A candidate's weights are scaled to sum to 1 over the lists that score it, so that saying nothing is no vote against. One that no
/// list of positive weight scores gets minus infinity.
///
/// # Errors
/// Lists of different lengths, weights that [`present_weights`] refuses, a score that isn't finite, a `k` of RRF that isn't above 0.
pub fn fuse(scores: &[Vec<Option<f64>>], weights: &[f64], fusion: Fusion) -> Result<Vec<f64>, RetrievalError> {
    let weights = present_weights(weights, &vec![true; scores.len()])?;
    let n = scores.first().map_or(0, Vec::len);
    if let Fusion::Rrf { k } = fusion
        && !(k > 0.0 && k.is_finite())
    {
        return Err(RetrievalError::argument("k of reciprocal rank fusion", &k, "above zero"));
    }
    let (mut sums, mut totals) = (vec![0.0; n], vec![0.0; n]);
    for (list, &weight) in scores.iter().zip(&weights) {
        if list.len() != n {
            return Err(RetrievalError::Length { what: "scores", given: list.len(), of: "candidates", expected: n });
        }
        let (at, given): (Vec<usize>, Vec<f64>) =
            list.iter().enumerate().filter_map(|(i, score)| score.map(|s| (i, s))).unzip();
        if let Some(score) = given.iter().find(|s| !s.is_finite()) {
            return Err(RetrievalError::argument("score", score, "finite"));
        }
        if weight == 0.0 {
            continue;
        }
        for (i, score) in at.into_iter().zip(rescaled(&given, fusion)) {
            sums[i] += weight * score;
            totals[i] += weight;
        }
    }
    let fused = sums.iter().zip(totals).map(|(sum, total)| if total > 0.0 { sum / total } else { f64::NEG_INFINITY });
    Ok(fused.collect())
}

/// The scores of one list on the scale that `fusion` adds.
fn rescaled(scores: &[f64], fusion: Fusion) -> Vec<f64> {
    match fusion {
        Fusion::WeightedSum => scores.to_vec(),
        Fusion::MinMax => min_max(scores),
        Fusion::ZScore => {
            let n = scores.len() as f64;
            let mean = scores.iter().sum::<f64>() / n;
            let deviation = (scores.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / n).sqrt();
            // Below rounding of the scores a deviation is none.
            let level = deviation <= 1e-12 * mean.abs().max(f64::MIN_POSITIVE);
            scores.iter().map(|s| if level { 0.0 } else { (s - mean) / deviation }).collect()
        }
        Fusion::Rrf { k } => {
            let n = scores.len() as f64;
            mean_ranks(scores).into_iter().map(|ascending| 1.0 / (k + n + 1.0 - ascending)).collect()
        }
    }
}

/// Positions of `scores`, the best first, ties by lower position.
pub fn ranking(scores: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn close(fused: &[(char, f64)], expected: &[(char, f64)]) {
        assert_eq!(fused.len(), expected.len());
        for (f, e) in fused.iter().zip(expected) {
            assert_eq!(f.0, e.0, "{fused:?}");
            assert!((f.1 - e.1).abs() < 5e-8, "{fused:?}");
        }
    }

    #[test]
    fn the_two_fixtures_of_the_chapter() {
        let mut lists = vec![vec!['a', 'b', 'c'], vec!['b', 'd', 'a']];
        let two = [('b', 0.032_522_5), ('a', 0.032_266_5), ('d', 0.016_129_0), ('c', 0.015_873_0)];
        close(&reciprocal_rank_fusion(&lists, RRF_K), &two);
        lists.push(vec!['c', 'd', 'a']);
        let three = [('a', 0.048_139_5), ('b', 0.032_522_5), ('c', 0.032_266_5), ('d', 0.032_258_1)];
        close(&reciprocal_rank_fusion(&lists, RRF_K), &three);
    }

    #[test]
    fn ranks_that_run_on_over_concatenated_lists_reverse_an_order() {
        let position = |fused: &[(char, f64)], item| fused.iter().position(|f| f.0 == item);
        let apart = reciprocal_rank_fusion(&[vec!['a', 'b', 'c'], vec!['b', 'd', 'a']], RRF_K);
        assert!(position(&apart, 'd') < position(&apart, 'c'), "second of a list beats third of a list");
        let run_on = reciprocal_rank_fusion(&[vec!['a', 'b', 'c', 'b', 'd', 'a']], RRF_K);
        assert!(position(&run_on, 'd') > position(&run_on, 'c'), "as rank 5 it doesn't");
    }

    #[test]
    fn empty_and_repeated_items() {
        assert!(reciprocal_rank_fusion::<u32>(&[], RRF_K).is_empty());
        assert!(reciprocal_rank_fusion::<u32>(&[vec![], vec![]], RRF_K).is_empty());
        let fused = reciprocal_rank_fusion(&[vec![7, 7, 3]], RRF_K);
        assert_eq!(fused, [(7, 1.0 / 61.0), (3, 1.0 / 63.0)]);
        let level = fuse(&given(&[&[0.5, 0.9, 0.5]]), &[1.0], Fusion::Rrf { k: 1.0 }).unwrap();
        assert_eq!(level, [1.0 / 3.5, 0.5, 1.0 / 3.5]);
        let tie = reciprocal_rank_fusion(&[vec![2], vec![1]], RRF_K);
        assert_eq!(tie.iter().map(|f| f.0).collect::<Vec<_>>(), [1, 2]);
    }

    fn given(lists: &[&[f64]]) -> Vec<Vec<Option<f64>>> {
        lists.iter().map(|list| list.iter().map(|s| Some(*s)).collect()).collect()
    }

    #[test]
    fn fused_scores_by_hand() {
        let scores = given(&[&[1.0, 0.5, 0.0], &[10.0, 30.0, 20.0]]);
        let of = |fusion| fuse(&scores, &[3.0, 1.0], fusion).unwrap();
        assert_eq!(of(Fusion::WeightedSum), [3.25, 7.875, 5.0]);
        assert_eq!(of(Fusion::MinMax), [0.75, 0.625, 0.125]);
        let z = 1.5f64.sqrt();
        for (got, want) in of(Fusion::ZScore).iter().zip([0.75 * z - 0.25 * z, 0.25 * z, -0.75 * z]) {
            assert!((got - want).abs() < 1e-12);
        }
        for (got, want) in of(Fusion::Rrf { k: 1.0 }).iter().zip([0.375 + 0.0625, 0.25 + 0.125, 0.1875 + 0.25 / 3.0]) {
            assert!((got - want).abs() < 1e-12);
        }
    }

    #[test]
    fn a_list_that_says_nothing_is_no_vote() {
        let scores = vec![vec![Some(0.2), None, None], vec![Some(0.8), Some(0.6), None]];
        let fused = fuse(&scores, &[1.0, 1.0], Fusion::WeightedSum).unwrap();
        assert_eq!(fused, [0.5, 0.6, f64::NEG_INFINITY]);
        assert_eq!(ranking(&fused), [1, 0, 2]);
        assert_eq!(fuse(&scores, &[1.0, 0.0], Fusion::WeightedSum).unwrap()[1], f64::NEG_INFINITY);
    }

    #[test]
    fn unweighted_lists_rank_as_reciprocal_rank_fusion_does() {
        let mut rng = eas_tensor::rng::SplitMix64::new(5);
        for _ in 0..50 {
            let lists: Vec<Vec<f64>> = (0..3).map(|_| (0..9).map(|_| rng.uniform()).collect()).collect();
            let fused =
                fuse(&given(&lists.iter().map(Vec::as_slice).collect::<Vec<_>>()), &[1.0; 3], Fusion::Rrf { k: RRF_K });
            let ranks: Vec<Vec<usize>> = lists.iter().map(|list| ranking(list)).collect();
            for (item, score) in reciprocal_rank_fusion(&ranks, RRF_K) {
                assert!((fused.as_ref().unwrap()[item] - score / 3.0).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn level_lists_and_bad_input() {
        let level = given(&[&[0.3, 0.3], &[1.0, 2.0]]);
        for fusion in Fusion::ALL {
            assert!(fuse(&level, &[1.0, 1.0], fusion).unwrap().iter().all(|s| s.is_finite()), "{fusion:?}");
            assert!(fuse(&level, &[1.0], fusion).is_err());
            assert!(fuse(&level, &[0.0, 0.0], fusion).is_err());
            assert!(fuse(&level, &[-1.0, 2.0], fusion).is_err());
            assert!(fuse(&given(&[&[1.0], &[1.0, 2.0]]), &[1.0, 1.0], fusion).is_err());
            assert!(fuse(&given(&[&[f64::NAN]]), &[1.0], fusion).unwrap_err().to_string().contains("NaN"));
            assert!(fuse(&[], &[], fusion).is_err());
        }
        assert!(fuse(&level, &[1.0, 1.0], Fusion::Rrf { k: 0.0 }).is_err());
        assert!(present_weights(&[1.0, 0.0], &[false, true]).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_order_of_the_lists_is_irrelevant(lists in prop::collection::vec(prop::collection::vec(0u8..12, 0..8), 0..6), turn in 0usize..6) {
            let mut turned = lists.clone();
            if !turned.is_empty() {
                let n = turned.len();
                turned.rotate_left(turn % n);
            }
            prop_assert_eq!(reciprocal_rank_fusion(&lists, RRF_K), reciprocal_rank_fusion(&turned, RRF_K));
        }
    }
}
