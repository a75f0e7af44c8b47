//! Recall as a distribution over queries, not only as a mean: an average of 0.95 may hide queries that found nothing.

use crate::EvalError;
use crate::bootstrap::{Interval, bootstrap_ci};
use crate::error::{not_empty, same_length};

/// The recall of many queries.
#[derive(Debug, Clone, PartialEq)]
pub struct RecallReport {
    /// Share of the true neighbours found, a query each.
    pub per_query: Vec<f64>,
    /// The mean with its 95% bootstrap interval.
    pub mean: Interval,
    /// The recall that 95% of the queries reach or exceed, by nearest rank.
    pub p5: f64,
    /// The least recall.
    pub worst: f64,
}

impl RecallReport {
    /// Compares what was found with the true neighbours, a list a query, from 1,000 resamples of the queries. A query without true
    /// neighbours is an error.
    ///
    /// ```
    /// use eas_eval::recall::RecallReport;
    ///
    /// let report = RecallReport::new(&[vec![1, 2], vec![9, 8]], &[vec![2, 1], vec![3, 8]], 1)?;
    /// assert_eq!(report.per_query, [1.0, 0.5]);
    /// # Ok::<(), eas_eval::EvalError>(())
    /// ```
    pub fn new<I: PartialEq>(found: &[Vec<I>], exact: &[Vec<I>], seed: u64) -> Result<Self, EvalError> {
        same_length("queries", found.len(), exact.len())?;
        not_empty("queries", exact)?;
        let mut per_query = Vec::with_capacity(exact.len());
        for (found, exact) in found.iter().zip(exact) {
            not_empty("true neighbours", exact)?;
            let hits = exact.iter().filter(|id| found.contains(id)).count();
            per_query.push(hits as f64 / exact.len() as f64);
        }
        let mut sorted = per_query.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (0.05 * sorted.len() as f64).ceil() as usize;
        Ok(Self {
            mean: bootstrap_ci(&per_query, 1_000, seed)?,
            p5: sorted[rank.saturating_sub(1)],
            worst: sorted[0],
            per_query,
        })
    }
}

/// The first rank, from 1, of `exact` (best first) that `found` lacks; `None` when nothing is missing.
pub fn first_miss<I: PartialEq>(found: &[I], exact: &[I]) -> Option<usize> {
    exact.iter().position(|id| !found.contains(id)).map(|rank| rank + 1)
}

/// How much farther the neighbours found are than the true ones: mean of found over true distance, rank by rank, both ascending.
/// Ranks with a true distance of 0 count as 1 when the found distance is 0 too, and are left out otherwise. 1 when nothing is left.
/// An error when fewer were found.
pub fn distance_ratio(found: &[f64], exact: &[f64]) -> Result<f64, EvalError> {
    same_length("distances", found.len(), exact.len())?;
    let ratios: Vec<f64> = found
        .iter()
        .zip(exact)
        .filter(|(found, exact)| **exact > 0.0 || **found == 0.0)
        .map(|(found, exact)| if *exact > 0.0 { found / exact } else { 1.0 })
        .collect();
    Ok(if ratios.is_empty() { 1.0 } else { ratios.iter().sum::<f64>() / ratios.len() as f64 })
}

/// Positions of the points that no other point beats, cheapest first: `points` are `(cost, quality)`, of which less and more are
/// better. Of equal points the first stands for all.
///
/// ```
/// use eas_eval::recall::pareto_front;
///
/// assert_eq!(pareto_front(&[(5.0, 0.9), (1.0, 0.5), (2.0, 0.4), (5.0, 0.8)]), [1, 0]);
/// ```
pub fn pareto_front(points: &[(f64, f64)]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..points.len()).collect();
    order.sort_by(|&a, &b| {
        let (cost, quality) = (points[a].0.total_cmp(&points[b].0), points[b].1.total_cmp(&points[a].1));
        cost.then(quality).then(a.cmp(&b))
    });
    let mut best = f64::NEG_INFINITY;
    order.retain(|&at| {
        let better = points[at].1 > best;
        best = best.max(points[at].1);
        better
    });
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use eas_tensor::rng::SplitMix64;
    use proptest::prelude::*;

    #[test]
    fn a_good_mean_hides_queries_that_found_nothing() {
        let exact = vec![vec![1, 2, 3, 4, 5]; 100];
        let mut found = exact.clone();
        for list in &mut found[..6] {
            *list = vec![9, 8];
        }
        let report = RecallReport::new(&found, &exact, 1).unwrap();
        assert!((report.mean.mean - 0.94).abs() < 1e-12);
        assert_eq!((report.p5, report.worst), (0.0, 0.0));
        assert!(report.mean.low < 0.93 && report.mean.high > 0.95);
    }

    #[test]
    fn ratios_and_misses() {
        assert_eq!(first_miss(&[1, 3], &[1, 2, 3]), Some(2));
        assert_eq!(first_miss(&[3, 1], &[1, 3]), None);
        assert_eq!(distance_ratio(&[1.0, 3.0], &[1.0, 2.0]), Ok(1.25));
        assert_eq!(distance_ratio(&[0.0, 1.0], &[0.0, 0.0]), Ok(1.0));
        assert_eq!(distance_ratio(&[], &[]), Ok(1.0));
        assert!(distance_ratio(&[1.0], &[]).is_err());
        assert!(RecallReport::new(&[vec![1]], &[vec![]], 1).is_err());
        assert!(RecallReport::new::<u32>(&[], &[], 1).is_err());
        assert!(RecallReport::new(&[vec![1]], &[], 1).is_err());
    }

    proptest! {
        #[test]
        fn the_front_is_what_no_point_dominates(seed in 0u64..500, n in 0usize..30) {
            let mut rng = SplitMix64::new(seed);
            let points: Vec<(f64, f64)> = (0..n).map(|_| (rng.below(6) as f64, rng.below(6) as f64)).collect();
            let dominated = |at: usize| points.iter().enumerate().any(|(other, p)| {
                let (cost, quality) = points[at];
                p.0 <= cost && p.1 >= quality && (p.0 < cost || p.1 > quality || other < at)
            });
            let mut expected: Vec<usize> = (0..n).filter(|&at| !dominated(at)).collect();
            let mut front = pareto_front(&points);
            front.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(front, expected);
        }
    }
}
