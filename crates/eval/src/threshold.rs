//! How near is near enough? Every cut that a distance threshold can make on labelled pairs, and the ways to choose one.
//!
//! A pair is called a match when its distance is **below** the threshold. Positives are the pairs that are the same, so in
//! each [`Confusion`] a false positive is a different pair called a match. For scores where larger is more alike, pass
//! their negatives.
//!
//! ```
//! use eas_eval::threshold::{Calibrator, Metric};
//!
//! let pairs = Calibrator::from_scores(&[0.1, 0.3, 0.4, 0.9], &[true, true, false, false])?;
//! assert_eq!(pairs.best(Metric::F1)?.threshold, 0.35);
//! assert_eq!(pairs.eer().rate, 0.0);
//! # Ok::<(), eas_eval::EvalError>(())
//! ```

use eas_tensor::rng::SplitMix64;

use crate::EvalError;
use crate::bootstrap::quantile;
use crate::classification::Confusion;
use crate::error::{finite, not_empty, same_length};

pub mod adaptive;

/// What a threshold does to the pairs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cut {
    /// Pairs with a distance below this are called matches.
    pub threshold: f64,
    /// The counts at this threshold.
    pub counts: Confusion,
}

impl Cut {
    /// Recall less false-positive rate (Youden 1950), in `[-1, 1]`.
    pub fn youden(&self) -> f64 {
        self.counts.recall() - self.counts.false_positive_rate()
    }

    /// Correlation of the calls with the truth (Matthews 1975), in `[-1, 1]`; 0 when all calls are alike.
    pub fn mcc(&self) -> f64 {
        let c = &self.counts;
        let [tp, fp, tn, fn_] =
            [c.true_positives, c.false_positives, c.true_negatives, c.false_negatives].map(|count| count as f64);
        let product = (tp + fp) * (tp + fn_) * (tn + fp) * (tn + fn_);
        if product == 0.0 { 0.0 } else { (tp * tn - fp * fn_) / product.sqrt() }
    }

    /// Precision where a share `prior` of the pairs is the same, with this cut's recall and false-positive rate; 0 when
    /// nothing is called a match.
    pub fn precision_at(&self, prior: f64) -> Result<f64, EvalError> {
        share("prior", prior)?;
        let right = prior * self.counts.recall();
        let called = right + (1.0 - prior) * self.counts.false_positive_rate();
        Ok(if called == 0.0 { 0.0 } else { right / called })
    }
}

/// What [`Calibrator::best`] makes as large as it can.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Metric {
    /// Harmonic mean of precision and recall.
    F1,
    /// Share of right calls.
    Accuracy,
    /// Precision among the cuts that reach `min_recall`. With 0 the cut that calls one sure pair a match wins.
    Precision {
        /// The recall to keep.
        min_recall: f64,
    },
    /// Recall among the cuts that reach `min_precision`. With 0 the cut that calls all same pairs matches wins.
    Recall {
        /// The precision to keep.
        min_precision: f64,
    },
    /// Recall less false-positive rate, which the mix of the pairs doesn't change.
    Youden,
    /// Matthews' correlation.
    Mcc,
}

/// The cheapest cut.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CostCut {
    /// The cut.
    pub cut: Cut,
    /// Its cost over all pairs of the calibrator, reweighted to the prior if one was given.
    pub cost: f64,
}

/// Where as large a share of the same pairs is refused as of the different pairs is accepted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EqualError {
    /// Mean of the two error rates at the cut where they are nearest to each other.
    pub rate: f64,
    /// That cut.
    pub cut: Cut,
}

/// A value chosen on the pairs, with its 95% bootstrap interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The value on the pairs themselves.
    pub value: f64,
    /// 2.5% quantile of the values on resamples.
    pub low: f64,
    /// 97.5% quantile.
    pub high: f64,
}

/// Labelled pairs, sorted by distance, with every distinct cut.
///
/// The candidate thresholds lie midway between consecutive distinct distances, and one lies beyond either end; no grid
/// can find a better cut, and none is missed. Where cuts are equally good the smallest threshold is chosen.
#[derive(Debug, Clone)]
pub struct Calibrator {
    /// Distance and whether the pair is the same, ascending.
    pairs: Vec<(f64, bool)>,
    cuts: Vec<Cut>,
}

impl Calibrator {
    /// Sorts the pairs and counts every cut, `O(n log n)`. `distances[i]` belongs to a pair that is the same if `same[i]`.
    ///
    /// Fails when the lengths differ, a distance isn't finite, or one kind of pair is missing.
    pub fn from_scores(distances: &[f64], same: &[bool]) -> Result<Self, EvalError> {
        same_length("distances", distances.len(), same.len())?;
        not_empty("distances", distances)?;
        finite("distances", distances)?;
        if same.iter().all(|s| *s == same[0]) {
            return Err(EvalError::OneClass { count: same.len(), label: same[0].to_string() });
        }
        let mut pairs: Vec<(f64, bool)> = distances.iter().copied().zip(same.iter().copied()).collect();
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let cuts = sweep(pairs.iter().map(|&(d, s)| (d, s, 1)));
        Ok(Self { pairs, cuts })
    }

    /// Every distinct cut, from "nothing matches" to "everything does".
    pub fn cuts(&self) -> &[Cut] {
        &self.cuts
    }

    /// The number of pairs, and how many of them are the same.
    pub fn count(&self) -> (usize, usize) {
        let counts = &self.cuts[0].counts;
        (self.pairs.len(), counts.true_positives + counts.false_negatives)
    }

    /// What any threshold does to the pairs.
    pub fn at(&self, threshold: f64) -> Cut {
        let matched = self.pairs.partition_point(|pair| pair.0 < threshold);
        let right = self.pairs[..matched].iter().filter(|pair| pair.1).count();
        let (all, same) = self.count();
        let false_positives = matched - right;
        let counts = Confusion {
            true_positives: right,
            false_positives,
            true_negatives: all - same - false_positives,
            false_negatives: same - right,
        };
        Cut { threshold, counts }
    }

    /// The cut with the largest value of `metric`. Fails with [`EvalError::Unattainable`] when none has the precision that
    /// [`Metric::Recall`] asks for.
    pub fn best(&self, metric: Metric) -> Result<Cut, EvalError> {
        Ok(match metric {
            Metric::F1 => self.largest(|cut| cut.counts.f1()),
            Metric::Accuracy => self.largest(|cut| cut.counts.accuracy()),
            Metric::Youden => self.largest(Cut::youden),
            Metric::Mcc => self.largest(Cut::mcc),
            Metric::Precision { min_recall } => {
                share("min_recall", min_recall)?;
                self.largest(|cut| only_if(cut.counts.recall() >= min_recall, cut.counts.precision()))
            }
            Metric::Recall { min_precision } => self.for_precision(min_precision)?,
        })
    }

    /// The cut with the largest recall among those with a precision of at least `target`.
    ///
    /// Fails with [`EvalError::Unattainable`], which names the most precise cut there is, when none has it.
    pub fn for_precision(&self, target: f64) -> Result<Cut, EvalError> {
        share("target", target)?;
        let cut = self.largest(|cut| only_if(cut.counts.precision() >= target, cut.counts.recall()));
        if cut.counts.precision() >= target {
            return Ok(cut);
        }
        let best = self.largest(|cut| cut.counts.precision());
        Err(EvalError::Unattainable { target, best: best.counts.precision(), threshold: best.threshold })
    }

    /// The smallest threshold that finds a share of at least `target` of the same pairs.
    pub fn for_recall(&self, target: f64) -> Result<Cut, EvalError> {
        share("target", target)?;
        let found = self.cuts.iter().find(|cut| cut.counts.recall() >= target);
        Ok(*found.unwrap_or(&self.cuts[self.cuts.len() - 1]))
    }

    /// The cut with the largest recall among those that accept a share of at most `target` of the different pairs.
    pub fn for_false_positive_rate(&self, target: f64) -> Result<Cut, EvalError> {
        share("target", target)?;
        Ok(self.largest(|cut| only_if(cut.counts.false_positive_rate() <= target, cut.counts.recall())))
    }

    /// The cut with the smallest cost, where a different pair called a match costs `false_positive` and a same pair refused
    /// costs `false_negative`. With a `prior`, the two kinds of pairs are weighted so that a share `prior` is the same, as
    /// where the threshold will be used; without one the mix is that of the calibration pairs.
    pub fn min_cost(&self, false_positive: f64, false_negative: f64, prior: Option<f64>) -> Result<CostCut, EvalError> {
        for (name, cost) in [("false_positive", false_positive), ("false_negative", false_negative)] {
            if !(cost.is_finite() && cost >= 0.0) {
                let got = cost.to_string();
                return Err(EvalError::Argument { name, got, expected: "a finite cost of 0 or more" });
            }
        }
        let (all, same) = self.count();
        let (same_weight, different_weight) = match prior {
            None => (1.0, 1.0),
            Some(prior) => {
                share("prior", prior)?;
                let all = all as f64;
                (prior * all / same as f64, (1.0 - prior) * all / (all - same as f64))
            }
        };
        let (alarm, miss) = (false_positive * different_weight, false_negative * same_weight);
        let cost = |cut: &Cut| alarm * cut.counts.false_positives as f64 + miss * cut.counts.false_negatives as f64;
        let cut = self.largest(|cut| -cost(cut));
        Ok(CostCut { cut, cost: cost(&cut) })
    }

    /// The ROC curve: false-positive rate and recall of every cut, from (0, 0) to (1, 1).
    pub fn roc(&self) -> Vec<(f64, f64)> {
        self.cuts.iter().map(|cut| (cut.counts.false_positive_rate(), cut.counts.recall())).collect()
    }

    /// Area under the ROC curve: the probability that a same pair is nearer than a different one, ties counting one half.
    pub fn auc(&self) -> f64 {
        let trapezoids = self.cuts.windows(2).map(|w| {
            let width = w[1].counts.false_positives - w[0].counts.false_positives;
            width as u128 * (w[0].counts.true_positives + w[1].counts.true_positives) as u128
        });
        let (all, same) = self.count();
        trapezoids.sum::<u128>() as f64 / (2.0 * same as f64 * (all - same) as f64)
    }

    /// Average precision: the precision of every cut, weighted by the recall it adds.
    pub fn ap(&self) -> f64 {
        let steps = self
            .cuts
            .windows(2)
            .map(|w| (w[1].counts.true_positives - w[0].counts.true_positives) as f64 * w[1].counts.precision());
        steps.sum::<f64>() / self.count().1 as f64
    }

    /// The equal error rate. The two rates are step functions, which need not meet: the rate is their mean at the cut where
    /// they are nearest.
    pub fn eer(&self) -> EqualError {
        let (all, same) = self.count();
        // |FNR - FPR| over a common denominator, exact, so that ties are ties.
        let gap = |c: &Confusion| (c.false_negatives * (all - same)).abs_diff(c.false_positives * same);
        let cut = self.largest(|cut| -(gap(&cut.counts) as f64));
        let rate = f64::midpoint(1.0 - cut.counts.recall(), cut.counts.false_positive_rate());
        EqualError { rate, cut }
    }

    /// How much a value chosen on these pairs would vary: `choose` on the pairs, and on `resamples` draws of as many same
    /// and as many different pairs with replacement (a stratified percentile bootstrap, Efron 1979).
    ///
    /// Fails when `choose` does.
    pub fn bootstrap(
        &self,
        resamples: usize,
        seed: u64,
        choose: impl Fn(&Self) -> Result<f64, EvalError>,
    ) -> Result<Estimate, EvalError> {
        if resamples == 0 {
            return Err(EvalError::Argument { name: "resamples", got: "0".into(), expected: "at least 1" });
        }
        let value = choose(self)?;
        let mut rng = SplitMix64::new(seed);
        let (same, different): (Vec<usize>, Vec<usize>) = (0..self.pairs.len()).partition(|&i| self.pairs[i].1);
        let mut values = Vec::with_capacity(resamples);
        for _ in 0..resamples {
            let mut times = vec![0; self.pairs.len()];
            for kind in [&same, &different] {
                for _ in kind {
                    times[kind[rng.below(kind.len())]] += 1;
                }
            }
            let drawn = self.pairs.iter().zip(&times).filter(|(_, times)| **times > 0);
            let cuts = sweep(drawn.clone().map(|(&(d, s), &times)| (d, s, times)));
            let pairs = drawn.flat_map(|(pair, &times)| std::iter::repeat_n(*pair, times)).collect();
            values.push(choose(&Self { pairs, cuts })?);
        }
        values.sort_by(f64::total_cmp);
        Ok(Estimate { value, low: quantile(&values, 0.025), high: quantile(&values, 0.975) })
    }

    /// The first of the cuts with the largest value.
    fn largest(&self, value: impl Fn(&Cut) -> f64) -> Cut {
        let start = (self.cuts[0], value(&self.cuts[0]));
        let larger = |best: (Cut, f64), cut: &Cut| {
            let value = value(cut);
            if value > best.1 { (*cut, value) } else { best }
        };
        self.cuts.iter().fold(start, larger).0
    }
}

fn only_if(allowed: bool, value: f64) -> f64 {
    if allowed { value } else { f64::NEG_INFINITY }
}

/// The cuts of pairs in ascending order of distance, each counted `times` times.
fn sweep(pairs: impl Iterator<Item = (f64, bool, usize)> + Clone) -> Vec<Cut> {
    let (mut same, mut different) = (0, 0);
    for (_, is_same, times) in pairs.clone() {
        *(if is_same { &mut same } else { &mut different }) += times;
    }
    let mut counts = Confusion { false_negatives: same, true_negatives: different, ..Confusion::default() };
    let mut levels: Vec<(f64, Confusion)> = Vec::new();
    for (d, is_same, times) in pairs {
        if is_same {
            counts.true_positives += times;
            counts.false_negatives -= times;
        } else {
            counts.false_positives += times;
            counts.true_negatives -= times;
        }
        match levels.last_mut() {
            Some(last) if last.0 == d => last.1 = counts,
            _ => levels.push((d, counts)),
        }
    }
    let outside = |end: Option<&(f64, Confusion)>, next: Option<&(f64, Confusion)>| match (end, next) {
        (Some(end), Some(next)) => (end.0 - next.0) / 2.0,
        (Some(end), None) => end.0.abs().max(1.0) / 2.0,
        _ => 1.0,
    };
    let first = levels.first().map_or(0.0, |level| level.0);
    let below = first - outside(levels.first(), levels.get(1)).abs();
    let nothing = Confusion { false_negatives: same, true_negatives: different, ..Confusion::default() };
    let mut cuts = vec![Cut { threshold: below, counts: nothing }];
    for (at, &(d, counts)) in levels.iter().enumerate() {
        let threshold = match levels.get(at + 1) {
            Some(next) => f64::midpoint(d, next.0),
            None => d + outside(Some(&(d, counts)), at.checked_sub(1).and_then(|i| levels.get(i))).abs(),
        };
        // Between neighbouring floats the midpoint is one of them; the pair at `d` has to stay below.
        cuts.push(Cut { threshold: if threshold > d { threshold } else { d.next_up() }, counts });
    }
    cuts
}

fn share(name: &'static str, value: f64) -> Result<(), EvalError> {
    if (0.0..=1.0).contains(&value) {
        Ok(())
    } else {
        Err(EvalError::Argument { name, got: value.to_string(), expected: "between 0 and 1" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_abs_diff_eq;
    use proptest::prelude::*;

    /// Twenty pairs, nine of them the same, with the numbers that scikit-learn gives.
    fn fixture() -> Calibrator {
        let d = [
            0.10, 0.15, 0.22, 0.28, 0.31, 0.36, 0.41, 0.47, 0.52, 0.58, 0.63, 0.69, 0.75, 0.82, 0.90, 0.97, 1.05, 1.12,
            1.20, 1.31,
        ];
        let same = [1, 1, 1, 1, 0, 1, 1, 0, 1, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0].map(|s| s == 1);
        Calibrator::from_scores(&d, &same).unwrap()
    }

    fn summary(cut: Cut) -> (f64, [usize; 3]) {
        let c = cut.counts;
        ((cut.threshold * 1e9).round() / 1e9, [c.true_positives, c.false_positives, c.false_negatives])
    }

    #[test]
    fn the_best_cuts_by_each_metric() {
        let c = fixture();
        assert_eq!(c.cuts().len(), 21);
        assert_eq!(c.count(), (20, 9));
        let best = |m| summary(c.best(m).unwrap());
        assert_eq!(best(Metric::F1), (0.66, [8, 3, 1]));
        assert_eq!(best(Metric::Accuracy), (0.44, [6, 1, 3]));
        assert_eq!(best(Metric::Precision { min_recall: 0.0 }), (0.125, [1, 0, 8]));
        assert_eq!(best(Metric::Precision { min_recall: 0.5 }), (0.44, [6, 1, 3]));
        assert_eq!(best(Metric::Recall { min_precision: 0.0 }), (0.86, [9, 5, 0]));
        assert_eq!(best(Metric::Recall { min_precision: 0.85 }), (0.44, [6, 1, 3]));
        // By hand: 8/9 - 3/11 = .616 is larger than 6/9 - 1/11 = .576 and 9/9 - 5/11 = .545.
        assert_eq!(best(Metric::Youden), (0.66, [8, 3, 1]));
        // (8*8 - 3*1) / sqrt(11 * 9 * 11 * 9) = 61/99.
        assert_eq!(best(Metric::Mcc), (0.66, [8, 3, 1]));
        assert_abs_diff_eq!(c.best(Metric::Mcc).unwrap().mcc(), 61.0 / 99.0, epsilon = 1e-12);
        assert_eq!(summary(c.for_recall(1.0).unwrap()), (0.86, [9, 5, 0]));
        assert_eq!(summary(c.for_recall(0.6).unwrap()), (0.44, [6, 1, 3]));
        assert_eq!(summary(c.for_false_positive_rate(0.1).unwrap()), (0.44, [6, 1, 3]));
        assert_eq!(summary(c.for_false_positive_rate(0.0).unwrap()), (0.295, [4, 0, 5]));
    }

    #[test]
    fn the_cheapest_cuts() {
        let c = fixture();
        let cost = |fp, fn_| {
            let best = c.min_cost(fp, fn_, None).unwrap();
            (summary(best.cut).0, best.cost)
        };
        assert_eq!(cost(1.0, 1.0), (0.44, 4.0));
        assert_eq!(cost(1.0, 5.0), (0.86, 5.0));
        assert_eq!(cost(1.0, 10.0), (0.86, 5.0));
        assert_eq!(cost(5.0, 1.0), (0.295, 5.0));
        assert_eq!(cost(10.0, 1.0), (0.295, 5.0));
        // The prior of the pairs themselves changes nothing.
        let own = c.min_cost(1.0, 5.0, Some(9.0 / 20.0)).unwrap();
        assert_eq!(summary(own.cut).0, 0.86);
        assert_abs_diff_eq!(own.cost, 5.0, epsilon = 1e-12);
    }

    #[test]
    fn precision_targets() {
        let c = fixture();
        let cut = |target| summary(c.for_precision(target).unwrap());
        assert_eq!(cut(0.85), (0.44, [6, 1, 3]));
        for target in [0.9, 0.95, 1.0] {
            assert_eq!(cut(target), (0.295, [4, 0, 5]));
        }
        let hopeless = Calibrator::from_scores(&[0.1, 0.2, 0.3], &[false, true, true]).unwrap();
        let best = EvalError::Unattainable { target: 0.9, best: 2.0 / 3.0, threshold: 0.35 };
        assert_eq!(hopeless.for_precision(0.9), Err(best));
    }

    #[test]
    fn areas_and_equal_error() {
        let c = fixture();
        assert_abs_diff_eq!(c.auc(), 0.878_787_878_8, epsilon = 1e-10);
        assert_abs_diff_eq!(c.ap(), 0.870_931_537_6, epsilon = 1e-10);
        let eer = c.eer();
        assert_abs_diff_eq!(eer.rate, 0.202_020_202, epsilon = 1e-9);
        assert_eq!(summary(eer.cut), (0.55, [7, 2, 2]));
        let roc = c.roc();
        assert_eq!((roc[0], roc[20]), ((0.0, 0.0), (1.0, 1.0)));
    }

    #[test]
    fn a_prior_moves_the_optimum_as_bayes_says() {
        // Same N(0, 1), different N(2, 1): the densities weighted by prior and cost meet at 1 + ln(odds) / 2, where
        // odds = prior * miss / ((1 - prior) * alarm).
        let mut rng = SplitMix64::new(4);
        let n = 200_000;
        let d: Vec<f64> = (0..n).map(|i| rng.normal() + if i % 2 == 0 { 0.0 } else { 2.0 }).collect();
        let same: Vec<bool> = (0..n).map(|i| i % 2 == 0).collect();
        let c = Calibrator::from_scores(&d, &same).unwrap();
        for (prior, alarm, miss) in [(0.5, 1.0, 1.0), (0.1, 1.0, 1.0), (0.1, 1.0, 9.0), (0.02, 1.0, 5.0)] {
            let expected = 1.0 + f64::ln(prior * miss / ((1.0 - prior) * alarm)) / 2.0;
            let found = c.min_cost(alarm, miss, Some(prior)).unwrap();
            assert_abs_diff_eq!(found.cut.threshold, expected, epsilon = 0.12);
        }
        // And precision falls with the prior: the same cut, fewer same pairs to find.
        let cut = c.for_false_positive_rate(0.01).unwrap();
        let by_hand =
            0.01 * cut.counts.recall() / (0.01 * cut.counts.recall() + 0.99 * cut.counts.false_positive_rate());
        assert_abs_diff_eq!(cut.precision_at(0.01).unwrap(), by_hand);
        assert_abs_diff_eq!(cut.precision_at(0.5).unwrap(), cut.counts.precision(), epsilon = 1e-12);
        assert_eq!(c.cuts()[0].precision_at(0.3), Ok(0.0));
    }

    #[test]
    fn the_interval_narrows_with_more_pairs() {
        let pairs = |n: usize| {
            let mut rng = SplitMix64::new(8);
            let d: Vec<f64> = (0..n).map(|i| rng.normal() + if i % 2 == 0 { 0.0 } else { 2.0 }).collect();
            Calibrator::from_scores(&d, &(0..n).map(|i| i % 2 == 0).collect::<Vec<_>>()).unwrap()
        };
        let width = |n: usize| {
            let c = pairs(n);
            let e = c.bootstrap(200, 1, |c| Ok(c.auc())).unwrap();
            assert!(e.low <= e.value && e.value <= e.high, "{e:?}");
            assert_eq!(e.value, c.auc());
            e.high - e.low
        };
        let (few, many) = (width(100), width(10_000));
        assert!(few / many > 6.0 && few / many < 16.0, "{few} {many}");
        assert!(pairs(10).bootstrap(0, 1, |c| Ok(c.auc())).is_err());
        assert!(pairs(10).bootstrap(3, 1, |_| Err(EvalError::NoRelevant)).is_err());
    }

    #[test]
    fn bad_input_is_named() {
        let message = |d: &[f64], s: &[bool]| Calibrator::from_scores(d, s).unwrap_err().to_string();
        assert!(message(&[0.1, f64::NAN], &[true, false]).contains("distances[1] is NaN"));
        assert!(message(&[0.1, 0.2], &[false, false]).contains("all 2 labels are false"));
        assert!(message(&[0.1], &[true, false]).contains("1 values of distances against 2"));
        assert!(message(&[], &[]).contains("empty"));
        let c = fixture();
        assert!(c.for_precision(1.1).unwrap_err().to_string().contains("target is 1.1"));
        assert!(c.for_recall(f64::NAN).is_err());
        assert!(c.best(Metric::Precision { min_recall: -0.1 }).is_err());
        assert!(c.min_cost(-1.0, 1.0, None).unwrap_err().to_string().contains("false_positive is -1"));
        assert!(c.min_cost(1.0, f64::INFINITY, None).is_err());
        assert!(c.min_cost(1.0, 1.0, Some(2.0)).is_err());
        assert!(c.eer().cut.precision_at(-0.5).is_err());
    }

    #[test]
    fn neighbouring_floats_and_equal_distances_stay_apart() {
        let d = 0.3_f64;
        let c = Calibrator::from_scores(&[d, d.next_up()], &[true, false]).unwrap();
        assert_eq!(summary(c.best(Metric::Accuracy).unwrap()).1, [1, 0, 0]);
        let tied = Calibrator::from_scores(&[2.0, 2.0], &[true, false]).unwrap();
        assert_eq!(tied.cuts().len(), 2);
        assert_eq!((tied.auc(), tied.ap(), tied.eer().rate), (0.5, 0.5, 0.5));
    }

    proptest! {
        #[test]
        fn every_cut_is_the_recounted_one(rows in prop::collection::vec((0u8..9, any::<bool>()), 2..50)) {
            let d: Vec<f64> = rows.iter().map(|r| f64::from(r.0) / 8.0).collect();
            let same: Vec<bool> = rows.iter().map(|r| r.1).collect();
            prop_assume!(same.iter().any(|&s| s) && same.iter().any(|&s| !s));
            let c = Calibrator::from_scores(&d, &same).unwrap();
            for cut in c.cuts() {
                let called: Vec<bool> = d.iter().map(|&x| x < cut.threshold).collect();
                prop_assert_eq!(cut.counts, Confusion::new(&called, &same).unwrap());
                prop_assert_eq!(c.at(cut.threshold), *cut);
            }
            prop_assert!(c.cuts().windows(2).all(|w| w[0].threshold < w[1].threshold));
            let near: Vec<f64> = d.iter().map(|x| -x).collect();
            prop_assert!((c.auc() - crate::classification::roc_auc(&near, &same).unwrap()).abs() < 1e-12);
        }

        #[test]
        fn a_dearer_false_positive_never_raises_the_threshold(
            rows in prop::collection::vec((0u8..20, any::<bool>()), 2..50), low in 0.1f64..5.0, more in 1.0f64..5.0
        ) {
            let d: Vec<f64> = rows.iter().map(|r| f64::from(r.0)).collect();
            let same: Vec<bool> = rows.iter().map(|r| r.1).collect();
            prop_assume!(same.iter().any(|&s| s) && same.iter().any(|&s| !s));
            let c = Calibrator::from_scores(&d, &same).unwrap();
            let at = |ratio: f64| c.min_cost(ratio, 1.0, None).unwrap().cut.threshold;
            prop_assert!(at(low * more) <= at(low));
        }
    }
}
