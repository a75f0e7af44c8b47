//! Reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009): one ranking out of many whose scores can't be compared.

use std::collections::{BTreeMap, BTreeSet};

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
        let tie = reciprocal_rank_fusion(&[vec![2], vec![1]], RRF_K);
        assert_eq!(tie.iter().map(|f| f.0).collect::<Vec<_>>(), [1, 2]);
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
