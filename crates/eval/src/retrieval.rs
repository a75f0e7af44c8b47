//! Metrics of ranked lists (Manning, Raghavan and Schütze, *Introduction to Information Retrieval*, chapter 8; graded
//! gain after Burges et al. 2005).
//!
//! A ranked list names each item once (a repeated item is an error, since it would be counted twice) and starts at
//! rank 1. A list shorter than `k` counts as padded with irrelevant items. A query without any relevant item has no
//! recall, average precision or nDCG: these return [`EvalError::NoRelevant`] rather than an invented 0 or 1.

use crate::EvalError;
use crate::error::{mean, not_empty};
use std::collections::BTreeMap;

/// Share of the relevant items that are among the first `k`.
///
/// ```
/// use eas_eval::retrieval::recall_at_k;
///
/// assert_eq!(recall_at_k(&["d1", "d2", "d5"], &["d5", "d9"], 3)?, 0.5);
/// # Ok::<(), eas_eval::EvalError>(())
/// ```
pub fn recall_at_k<I: Ord>(retrieved: &[I], relevant: &[I], k: usize) -> Result<f64, EvalError> {
    let relevant = relevant_set(relevant)?;
    Ok(hits(retrieved, &relevant, k)? as f64 / relevant.len() as f64)
}

/// Share of the first `k` ranks that hold a relevant item; the denominator is `k` even when fewer were retrieved.
pub fn precision_at_k<I: Ord>(retrieved: &[I], relevant: &[I], k: usize) -> Result<f64, EvalError> {
    let relevant = positions("relevant", relevant)?;
    Ok(hits(retrieved, &relevant, k)? as f64 / k as f64)
}

/// One over the rank of the first relevant item; 0 when none was retrieved.
pub fn reciprocal_rank<I: Ord>(retrieved: &[I], relevant: &[I]) -> Result<f64, EvalError> {
    positions("retrieved", retrieved)?;
    let relevant = positions("relevant", relevant)?;
    let first = retrieved.iter().position(|item| relevant.contains_key(item));
    Ok(first.map_or(0.0, |at| 1.0 / (at + 1) as f64))
}

/// Mean over the relevant items of the precision at their rank (0 for those not retrieved).
pub fn average_precision<I: Ord>(retrieved: &[I], relevant: &[I]) -> Result<f64, EvalError> {
    positions("retrieved", retrieved)?;
    let relevant = relevant_set(relevant)?;
    let (mut found, mut sum) = (0usize, 0.0);
    for (at, item) in retrieved.iter().enumerate() {
        if relevant.contains_key(item) {
            found += 1;
            sum += found as f64 / (at + 1) as f64;
        }
    }
    Ok(sum / relevant.len() as f64)
}

/// Discounted cumulative gain of the first `k` ranks, divided by that of the best possible order: gain `2^grade - 1`,
/// discount `1 / log2(rank + 1)`. Items without a grade have grade 0.
pub fn ndcg_at_k<I: Ord>(retrieved: &[I], grades: &[(I, u32)], k: usize) -> Result<f64, EvalError> {
    at_least_one(k)?;
    positions("retrieved", retrieved)?;
    let mut by_item = BTreeMap::new();
    for (at, (item, grade)) in grades.iter().enumerate() {
        if let Some((first, _)) = by_item.insert(item, (at, *grade)) {
            return Err(EvalError::Duplicate { what: "grades", first, second: at });
        }
    }
    let gains = retrieved.iter().map(|item| by_item.get(item).map_or(0, |&(_, g)| g));
    let mut ideal: Vec<u32> = grades.iter().map(|&(_, grade)| grade).collect();
    ideal.sort_unstable_by(|a, b| b.cmp(a));
    let best = dcg(ideal.into_iter().take(k));
    if best == 0.0 {
        return Err(EvalError::NoRelevant);
    }
    Ok(dcg(gains.take(k)) / best)
}

/// A query's ranked list with its relevance judgements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged<I> {
    /// Items in rank order.
    pub retrieved: Vec<I>,
    /// Grade of each judged item; grade 0 means not relevant, as does an item that isn't listed.
    pub grades: Vec<(I, u32)>,
}

/// Means over queries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetrievalReport {
    /// Number of queries.
    pub queries: usize,
    /// The cut-off of the first two and of nDCG.
    pub k: usize,
    /// Mean [`recall_at_k`].
    pub recall: f64,
    /// Mean [`precision_at_k`].
    pub precision: f64,
    /// Mean reciprocal rank over the whole list.
    pub mrr: f64,
    /// Mean average precision over the whole list.
    pub map: f64,
    /// Mean [`ndcg_at_k`].
    pub ndcg: f64,
}

/// Averages all metrics over `queries`; an error when one of them has no relevant item.
pub fn evaluate<I: Ord + Clone>(queries: &[Judged<I>], k: usize) -> Result<RetrievalReport, EvalError> {
    not_empty("queries", queries)?;
    let mut columns: [Vec<f64>; 5] = std::array::from_fn(|_| Vec::with_capacity(queries.len()));
    for query in queries {
        let retrieved = &query.retrieved;
        let relevant: Vec<I> =
            query.grades.iter().filter(|(_, grade)| *grade > 0).map(|(item, _)| item.clone()).collect();
        columns[0].push(recall_at_k(retrieved, &relevant, k)?);
        columns[1].push(precision_at_k(retrieved, &relevant, k)?);
        columns[2].push(reciprocal_rank(retrieved, &relevant)?);
        columns[3].push(average_precision(retrieved, &relevant)?);
        columns[4].push(ndcg_at_k(retrieved, &query.grades, k)?);
    }
    let [recall, precision, mrr, map, ndcg] = columns.map(|column| mean(&column));
    Ok(RetrievalReport { queries: queries.len(), k, recall, precision, mrr, map, ndcg })
}

fn dcg(grades: impl Iterator<Item = u32>) -> f64 {
    grades.enumerate().map(|(at, grade)| (f64::from(grade).exp2() - 1.0) / ((at + 2) as f64).log2()).sum()
}

fn at_least_one(k: usize) -> Result<(), EvalError> {
    if k == 0 {
        return Err(EvalError::Argument { name: "k", got: "0".into(), expected: "at least 1" });
    }
    Ok(())
}

fn hits<I: Ord>(retrieved: &[I], relevant: &BTreeMap<&I, usize>, k: usize) -> Result<usize, EvalError> {
    at_least_one(k)?;
    positions("retrieved", retrieved)?;
    Ok(retrieved.iter().take(k).filter(|item| relevant.contains_key(item)).count())
}

fn relevant_set<I: Ord>(relevant: &[I]) -> Result<BTreeMap<&I, usize>, EvalError> {
    if relevant.is_empty() {
        return Err(EvalError::NoRelevant);
    }
    positions("relevant", relevant)
}

/// Each item with its position; an error when one occurs twice.
fn positions<'a, I: Ord>(what: &'static str, items: &'a [I]) -> Result<BTreeMap<&'a I, usize>, EvalError> {
    let mut seen = BTreeMap::new();
    for (second, item) in items.iter().enumerate() {
        if let Some(first) = seen.insert(item, second) {
            return Err(EvalError::Duplicate { what, first, second });
        }
    }
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_abs_diff_eq;
    use proptest::prelude::*;

    fn fixture() -> Vec<Judged<&'static str>> {
        let judged = |retrieved: &[&'static str], grades: &[(&'static str, u32)]| Judged {
            retrieved: retrieved.to_vec(),
            grades: grades.to_vec(),
        };
        vec![
            judged(&["d1", "d2", "d5", "d8"], &[("d1", 3), ("d5", 1)]),
            judged(&["d4", "d3", "d9", "d7"], &[("d3", 2), ("d7", 2), ("d6", 1)]),
            judged(&["d2", "d3", "d10", "d11"], &[("d12", 1)]),
            judged(&["d6", "d1"], &[("d6", 1)]),
        ]
    }

    #[test]
    fn the_fixture_has_the_published_means() {
        let report = evaluate(&fixture(), 3).unwrap();
        assert_abs_diff_eq!(report.recall, 0.583_333, epsilon = 1e-6);
        assert_abs_diff_eq!(report.precision, 0.333_333, epsilon = 1e-6);
        assert_abs_diff_eq!(report.mrr, 0.625, epsilon = 1e-12);
        assert_abs_diff_eq!(report.map, 0.541_667, epsilon = 1e-6);
        assert_abs_diff_eq!(report.ndcg, 0.583_457, epsilon = 1e-6);
        let expected = [0.982_842, 0.350_985, 0.0, 1.0];
        for (query, expected) in fixture().iter().zip(expected) {
            let got = ndcg_at_k(&query.retrieved, &query.grades, 3).unwrap();
            assert_abs_diff_eq!(got, expected, epsilon = 1e-6);
        }
    }

    #[test]
    fn a_short_list_is_padded_with_misses() {
        assert_eq!(precision_at_k(&[1, 2], &[1, 2, 3], 4), Ok(0.5));
        assert_eq!(recall_at_k(&[1, 2], &[1, 2, 3, 4], 10), Ok(0.5));
        assert_eq!(recall_at_k(&[] as &[u8], &[1], 10), Ok(0.0));
        assert_eq!(ndcg_at_k(&[] as &[u8], &[(1, 2)], 10), Ok(0.0));
        assert_eq!(reciprocal_rank(&[] as &[u8], &[1]), Ok(0.0));
    }

    #[test]
    fn duplicates_no_relevant_items_and_k_of_zero_are_refused() {
        let duplicate = |what, first, second| Err(EvalError::Duplicate { what, first, second });
        assert_eq!(recall_at_k(&[1, 2, 1], &[1], 3), duplicate("retrieved", 0, 2));
        assert_eq!(precision_at_k(&[1, 2], &[3, 3], 3), duplicate("relevant", 0, 1));
        assert_eq!(ndcg_at_k(&[1], &[(1, 1), (1, 2)], 3), duplicate("grades", 0, 1));
        assert_eq!(average_precision(&[1, 1], &[1]), duplicate("retrieved", 0, 1));
        assert_eq!(reciprocal_rank(&[4, 1, 1], &[4]), duplicate("retrieved", 1, 2));
        assert_eq!(recall_at_k(&[1], &[], 3), Err(EvalError::NoRelevant));
        assert_eq!(average_precision(&[1], &[]), Err(EvalError::NoRelevant));
        assert_eq!(ndcg_at_k(&[1], &[(2, 0)], 3), Err(EvalError::NoRelevant));
        assert_eq!(precision_at_k(&[1], &[], 3), Ok(0.0));
        for result in [recall_at_k(&[1], &[1], 0), precision_at_k(&[1], &[1], 0), ndcg_at_k(&[1], &[(1, 1)], 0)] {
            assert!(result.unwrap_err().to_string().contains("k is 0"));
        }
        assert_eq!(evaluate::<u8>(&[], 3), Err(EvalError::Empty("queries")));
    }

    #[test]
    fn ndcg_equals_scikit_learn_on_transformed_gains() {
        // ndcg_score([[7, 0, 3, 1, 0, 15]], [[.9, .8, .7, .6, .5, .4]], k): the gains are 2^grade - 1.
        let grades = [("a", 3), ("b", 0), ("c", 2), ("d", 1), ("e", 0), ("f", 4)];
        let ranked = ["a", "b", "c", "d", "e", "f"];
        for (k, expected) in [(1, 0.466_666_666_666_7), (3, 0.406_377_579_290_3), (6, 0.668_649_495_299_2)] {
            let got = ndcg_at_k(&ranked, &grades, k).unwrap();
            assert_abs_diff_eq!(got, expected, epsilon = 1e-9);
        }
    }

    proptest! {
        #[test]
        fn metrics_stay_within_bounds_and_ideal_order_scores_one(
            grades in prop::collection::vec(0u32..4, 1..20), k in 1usize..25, seed in any::<u64>()
        ) {
            prop_assume!(grades.iter().any(|&g| g > 0));
            let mut order: Vec<usize> = (0..grades.len()).collect();
            eas_tensor::rng::SplitMix64::new(seed).shuffle(&mut order);
            let judged: Vec<(usize, u32)> = grades.iter().copied().enumerate().collect();
            let report = evaluate(&[Judged { retrieved: order.clone(), grades: judged.clone() }], k).unwrap();
            for value in [report.recall, report.precision, report.mrr, report.map, report.ndcg] {
                prop_assert!((0.0..=1.0 + 1e-12).contains(&value));
            }
            order.sort_by_key(|&i| std::cmp::Reverse(grades[i]));
            let ideal = evaluate(&[Judged { retrieved: order, grades: judged }], k).unwrap();
            prop_assert!((ideal.ndcg - 1.0).abs() < 1e-12 && (ideal.map - 1.0).abs() < 1e-12 && ideal.mrr == 1.0);
        }
    }
}
