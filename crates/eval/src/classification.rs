//! Metrics of binary decisions and of the scores behind them.
//!
//! A score is higher for a likelier positive; a decision at threshold `t` calls positive every score `>= t`.

use crate::EvalError;
use crate::error::{finite, not_empty, same_length};

/// Counts of a binary decision against the truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Confusion {
    /// Positives called positive.
    pub true_positives: usize,
    /// Negatives called positive.
    pub false_positives: usize,
    /// Negatives called negative.
    pub true_negatives: usize,
    /// Positives called negative.
    pub false_negatives: usize,
}

impl Confusion {
    /// Counts `predicted` against `labels`.
    pub fn new(predicted: &[bool], labels: &[bool]) -> Result<Self, EvalError> {
        same_length("predictions", predicted.len(), labels.len())?;
        not_empty("labels", labels)?;
        let mut counts = Self::default();
        for (&called, &label) in predicted.iter().zip(labels) {
            match (called, label) {
                (true, true) => counts.true_positives += 1,
                (true, false) => counts.false_positives += 1,
                (false, false) => counts.true_negatives += 1,
                (false, true) => counts.false_negatives += 1,
            }
        }
        Ok(counts)
    }

    /// Counts the decision "score >= `threshold`".
    pub fn at_threshold(scores: &[f64], labels: &[bool], threshold: f64) -> Result<Self, EvalError> {
        finite("scores", scores)?;
        let predicted: Vec<bool> = scores.iter().map(|&s| s >= threshold).collect();
        Self::new(&predicted, labels)
    }

    /// Share of the calls that are right among those called positive; 0 when nothing was.
    pub fn precision(&self) -> f64 {
        share(self.true_positives, self.true_positives + self.false_positives)
    }

    /// Share of the positives that were called positive; 0 when there are none.
    pub fn recall(&self) -> f64 {
        share(self.true_positives, self.true_positives + self.false_negatives)
    }

    /// Share of the negatives that were called positive; 0 when there are none.
    pub fn false_positive_rate(&self) -> f64 {
        share(self.false_positives, self.false_positives + self.true_negatives)
    }

    /// Harmonic mean of precision and recall; 0 when both are.
    pub fn f1(&self) -> f64 {
        share(2 * self.true_positives, 2 * self.true_positives + self.false_positives + self.false_negatives)
    }

    /// Share of all decisions that are right.
    pub fn accuracy(&self) -> f64 {
        let right = self.true_positives + self.true_negatives;
        share(right, right + self.false_positives + self.false_negatives)
    }
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Share of `predicted` that equals `truth`, for any number of classes.
pub fn accuracy<T: PartialEq>(predicted: &[T], truth: &[T]) -> Result<f64, EvalError> {
    same_length("predictions", predicted.len(), truth.len())?;
    not_empty("truth", truth)?;
    let right = predicted.iter().zip(truth).filter(|(p, t)| p == t).count();
    Ok(right as f64 / truth.len() as f64)
}

/// Area under the ROC curve: the probability that a random positive scores above a random negative, ties counting one
/// half (Mann and Whitney 1947). `O(n log n)`.
pub fn roc_auc(scores: &[f64], labels: &[bool]) -> Result<f64, EvalError> {
    let (positives, negatives) = check(scores, labels)?;
    // Sum of the positives' ranks, tied scores sharing their mean rank.
    let ranks = crate::correlation::mean_ranks(scores);
    let rank_sum: f64 = ranks.iter().zip(labels).filter(|(_, l)| **l).map(|(r, _)| r).sum();
    let (p, n) = (positives as f64, negatives as f64);
    Ok((rank_sum - p * (p + 1.0) / 2.0) / (p * n))
}

/// A decision threshold and what it does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ThresholdPoint {
    /// Scores at or above this are called positive; infinite for "nothing is".
    pub threshold: f64,
    /// The counts at this threshold.
    pub counts: Confusion,
    /// Sum of the costs of the missed positives and of the false alarms.
    pub cost: f64,
}

/// Every distinct decision that a threshold on `scores` can make, from "nothing is positive" to "everything is", with
/// its cost: `miss_costs[i]` for each positive `i` below the threshold, `false_alarm_cost` for each negative at or
/// above it. `O(n log n)`; tied scores move together.
pub fn cost_curve(
    scores: &[f64],
    labels: &[bool],
    miss_costs: &[f64],
    false_alarm_cost: f64,
) -> Result<Vec<ThresholdPoint>, EvalError> {
    let (positives, negatives) = check(scores, labels)?;
    same_length("miss costs", miss_costs.len(), labels.len())?;
    finite("miss_costs", miss_costs)?;
    finite("false_alarm_cost", &[false_alarm_cost])?;
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));

    let mut counts = Confusion { true_negatives: negatives, false_negatives: positives, ..Confusion::default() };
    let misses = miss_costs.iter().zip(labels).filter(|(_, l)| **l);
    let mut cost: f64 = misses.map(|(c, _)| c).sum();
    let mut curve = vec![ThresholdPoint { threshold: f64::INFINITY, counts, cost }];
    for (at, &i) in order.iter().enumerate() {
        if labels[i] {
            counts.true_positives += 1;
            counts.false_negatives -= 1;
            cost -= miss_costs[i];
        } else {
            counts.false_positives += 1;
            counts.true_negatives -= 1;
            cost += false_alarm_cost;
        }
        if order.get(at + 1).is_none_or(|&next| scores[next] != scores[i]) {
            curve.push(ThresholdPoint { threshold: scores[i], counts, cost });
        }
    }
    Ok(curve)
}

/// The cheapest point of a [`cost_curve`], the highest threshold among equals.
pub fn cheapest(curve: &[ThresholdPoint]) -> Option<ThresholdPoint> {
    curve.iter().copied().reduce(|a, b| if b.cost < a.cost { b } else { a })
}

/// The highest threshold at which at least `recall` of the positives are found.
pub fn at_recall(curve: &[ThresholdPoint], recall: f64) -> Option<ThresholdPoint> {
    curve.iter().copied().find(|point| point.counts.recall() >= recall)
}

fn check(scores: &[f64], labels: &[bool]) -> Result<(usize, usize), EvalError> {
    same_length("scores", scores.len(), labels.len())?;
    not_empty("labels", labels)?;
    finite("scores", scores)?;
    let positives = labels.iter().filter(|l| **l).count();
    if positives == 0 || positives == labels.len() {
        return Err(EvalError::OneClass { count: labels.len(), label: labels[0].to_string() });
    }
    Ok((positives, labels.len() - positives))
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_abs_diff_eq;
    use proptest::prelude::*;

    #[test]
    fn counts_and_their_ratios() {
        let labels = [true, true, true, false, false, false, false];
        let scores = [0.9, 0.8, 0.2, 0.85, 0.1, 0.1, 0.3];
        let c = Confusion::at_threshold(&scores, &labels, 0.8).unwrap();
        assert_eq!((c.true_positives, c.false_positives, c.true_negatives, c.false_negatives), (2, 1, 3, 1));
        assert_abs_diff_eq!(c.precision(), 2.0 / 3.0);
        assert_abs_diff_eq!(c.recall(), 2.0 / 3.0);
        assert_abs_diff_eq!(c.f1(), 2.0 / 3.0);
        assert_abs_diff_eq!(c.accuracy(), 5.0 / 7.0);
        assert_abs_diff_eq!(c.false_positive_rate(), 0.25);
        let none = Confusion::at_threshold(&scores, &labels, 2.0).unwrap();
        assert_eq!((none.precision(), none.recall(), none.f1()), (0.0, 0.0, 0.0));
    }

    #[test]
    fn auc_equals_scikit_learn_with_ties() {
        // roc_auc_score([1,0,1,0,1,0], [.9,.9,.4,.3,.3,.1]) = 0.6667
        let labels = [true, false, true, false, true, false];
        let auc = roc_auc(&[0.9, 0.9, 0.4, 0.3, 0.3, 0.1], &labels).unwrap();
        assert_abs_diff_eq!(auc, 2.0 / 3.0, epsilon = 1e-12);
        assert_eq!(roc_auc(&[1.0; 6], &labels), Ok(0.5));
    }

    #[test]
    fn bad_input_is_named() {
        let message = |r: Result<f64, EvalError>| r.unwrap_err().to_string();
        assert!(message(roc_auc(&[0.1, f64::NAN], &[true, false])).contains("scores[1] is NaN"));
        assert!(message(roc_auc(&[0.1, 0.2], &[true, true])).contains("all 2 labels are true"));
        assert!(message(roc_auc(&[0.1], &[true, false])).contains("1 values of scores against 2"));
        assert!(message(roc_auc(&[], &[])).contains("empty"));
        assert!(message(accuracy::<u8>(&[], &[])).contains("empty"));
        assert!(cost_curve(&[0.1, 0.2], &[true, false], &[f64::INFINITY, 0.0], 1.0).is_err());
    }

    #[test]
    fn the_curve_runs_from_nothing_to_everything() {
        let labels = [true, false, true, false];
        let curve = cost_curve(&[0.9, 0.5, 0.5, 0.1], &labels, &[10.0, 0.0, 4.0, 0.0], 3.0).unwrap();
        let thresholds: Vec<f64> = curve.iter().map(|p| p.threshold).collect();
        assert_eq!(thresholds, [f64::INFINITY, 0.9, 0.5, 0.1]);
        let costs: Vec<f64> = curve.iter().map(|p| p.cost).collect();
        assert_eq!(costs, [14.0, 4.0, 3.0, 6.0]);
        assert_eq!(cheapest(&curve).map(|p| p.threshold), Some(0.5));
        assert_eq!(at_recall(&curve, 0.5).map(|p| p.threshold), Some(0.9));
        assert_eq!(at_recall(&curve, 0.6).map(|p| p.threshold), Some(0.5));
        assert_eq!(cheapest(&[]), None);
    }

    proptest! {
        #[test]
        fn auc_is_the_share_of_ordered_pairs(
            rows in prop::collection::vec((0u8..6, any::<bool>()), 2..40)
        ) {
            let scores: Vec<f64> = rows.iter().map(|r| f64::from(r.0)).collect();
            let labels: Vec<bool> = rows.iter().map(|r| r.1).collect();
            prop_assume!(labels.iter().any(|&l| l) && labels.iter().any(|&l| !l));
            let (mut won, mut pairs) = (0.0, 0.0);
            for i in 0..rows.len() {
                for j in 0..rows.len() {
                    if labels[i] && !labels[j] {
                        pairs += 1.0;
                        won += if scores[i] > scores[j] { 1.0 } else if scores[i] == scores[j] { 0.5 } else { 0.0 };
                    }
                }
            }
            prop_assert!((roc_auc(&scores, &labels).unwrap() - won / pairs).abs() < 1e-12);
        }

        #[test]
        fn each_cost_is_the_recounted_one(
            rows in prop::collection::vec((0u8..8, any::<bool>(), 0.0f64..50.0), 2..40), alarm in 0.0f64..20.0
        ) {
            let scores: Vec<f64> = rows.iter().map(|r| f64::from(r.0)).collect();
            let labels: Vec<bool> = rows.iter().map(|r| r.1).collect();
            let costs: Vec<f64> = rows.iter().map(|r| r.2).collect();
            prop_assume!(labels.iter().any(|&l| l) && labels.iter().any(|&l| !l));
            let recount = |t: f64| -> f64 {
                (0..rows.len()).map(|i| match (labels[i], scores[i] >= t) {
                    (true, false) => costs[i],
                    (false, true) => alarm,
                    _ => 0.0,
                }).sum()
            };
            let curve = cost_curve(&scores, &labels, &costs, alarm).unwrap();
            for point in &curve {
                prop_assert!((point.cost - recount(point.threshold)).abs() < 1e-9);
                prop_assert_eq!(point.counts, Confusion::at_threshold(&scores, &labels, point.threshold).unwrap());
            }
            let best = cheapest(&curve).unwrap().cost;
            for t in 0..9 {
                prop_assert!(best <= recount(f64::from(t)) + 1e-9);
            }
        }
    }
}
