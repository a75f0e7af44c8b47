//! Thresholds that follow the data: one a category, moved by labelled feedback towards the best cut of the latest window.
//!
//! ```
//! use eas_eval::threshold::adaptive::{AdaptiveConfig, AdaptiveThresholds, Decision};
//!
//! let mut thresholds = AdaptiveThresholds::new(AdaptiveConfig { window: 4, min_feedback: 4, ..AdaptiveConfig::default() })?;
//! for (time, (distance, same)) in [(0.6, true), (0.7, true), (0.9, false), (1.0, false)].into_iter().enumerate() {
//!     thresholds.observe("shoes", distance, same, time as u64)?;
//! }
//! assert!((thresholds.get(&"shoes") - 0.53).abs() < 1e-12); // a tenth of the way from 0.5 to 0.8
//! assert_eq!(thresholds.get(&"hats"), 0.5);
//! assert_eq!(thresholds.decide(&"shoes", 0.55, 0.05), Decision::Abstain);
//! # Ok::<(), eas_eval::EvalError>(())
//! ```

use std::collections::{BTreeMap, VecDeque};

use super::{Calibrator, Metric};
use crate::EvalError;
use crate::error::finite;

/// How thresholds move.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdaptiveConfig {
    /// The threshold of a category without feedback.
    pub base: f64,
    /// The share of the way to the best cut that an update goes, in (0, 1].
    pub learning_rate: f64,
    /// Observations between updates, and the most that an update looks at.
    pub window: usize,
    /// Observations before the first update of a category; at most `window`.
    pub min_feedback: usize,
    /// The farthest that an update goes.
    pub max_step: f64,
    /// Where thresholds may be: the lowest and the highest.
    pub bounds: (f64, f64),
    /// Updates of a category that are remembered.
    pub history: usize,
}

impl Default for AdaptiveConfig {
    /// Unit vectors: distances from 0 to 2.
    fn default() -> Self {
        Self {
            base: 0.5,
            learning_rate: 0.1,
            window: 200,
            min_feedback: 50,
            max_step: 0.1,
            bounds: (0.0, 2.0),
            history: 1_000,
        }
    }
}

/// A threshold's move.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Update {
    /// The time of the observation that completed the window.
    pub time: u64,
    /// The threshold before.
    pub from: f64,
    /// And after.
    pub to: f64,
    /// The best cut of the window, by accuracy.
    pub best: f64,
    /// The error on the window at `from`.
    pub error: f64,
}

/// What became of an observation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Feedback {
    /// It was kept for the next update.
    Kept,
    /// It completed a window and moved the threshold.
    Moved(Update),
    /// It completed a window of pairs of one kind, which say nothing about a threshold.
    OneKind,
    /// It is older than the latest one of its category, and was ignored.
    Late,
}

/// A decision that may be left to somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Nearer than the threshold by more than the band.
    Same,
    /// Farther than it by more than the band.
    Different,
    /// Too near to the threshold to say.
    Abstain,
}

/// The state of a category.
#[derive(Debug, Clone)]
struct Category {
    threshold: f64,
    latest: u64,
    pending: Vec<(f64, bool)>,
    moves: VecDeque<Update>,
    started: bool,
    late: u64,
}

/// Thresholds by category, each with its own window of feedback; none affects another.
#[derive(Debug, Clone)]
pub struct AdaptiveThresholds<C> {
    config: AdaptiveConfig,
    categories: BTreeMap<C, Category>,
}

impl<C: Ord> AdaptiveThresholds<C> {
    /// No category yet. Fails when a setting contradicts itself, and names it.
    pub fn new(config: AdaptiveConfig) -> Result<Self, EvalError> {
        let refuse = |name, got: String, expected| Err(EvalError::Argument { name, got, expected });
        let (low, high) = config.bounds;
        if !(low.is_finite() && high.is_finite() && low <= high) {
            return refuse("bounds", format!("{low} to {high}"), "finite and in order");
        }
        if !(low..=high).contains(&config.base) {
            return refuse("base", config.base.to_string(), "within the bounds");
        }
        if !(config.learning_rate > 0.0 && config.learning_rate <= 1.0) {
            return refuse("learning_rate", config.learning_rate.to_string(), "in (0, 1]");
        }
        if config.window < 2 {
            return refuse("window", config.window.to_string(), "at least 2");
        }
        if config.min_feedback == 0 || config.min_feedback > config.window {
            return refuse("min_feedback", config.min_feedback.to_string(), "from 1 to the window");
        }
        if config.max_step.is_nan() || config.max_step <= 0.0 {
            return refuse("max_step", config.max_step.to_string(), "positive");
        }
        Ok(Self { config, categories: BTreeMap::new() })
    }

    /// The threshold of a category, the base one if it has had no update.
    pub fn get(&self, category: &C) -> f64 {
        self.categories.get(category).map_or(self.config.base, |c| c.threshold)
    }

    /// Same, different, or neither within `band` of the category's threshold. A negative band counts as 0.
    pub fn decide(&self, category: &C, distance: f64, band: f64) -> Decision {
        let (threshold, band) = (self.get(category), band.max(0.0));
        if distance < threshold - band {
            Decision::Same
        } else if distance >= threshold + band {
            Decision::Different
        } else {
            Decision::Abstain
        }
    }

    /// The latest updates of a category, oldest first.
    pub fn history(&self, category: &C) -> impl Iterator<Item = &Update> {
        self.categories.get(category).into_iter().flat_map(|c| &c.moves)
    }

    /// Observations of a category that came late and were ignored.
    pub fn late(&self, category: &C) -> u64 {
        self.categories.get(category).map_or(0, |c| c.late)
    }

    /// Takes note that a pair at `distance` was found to be the same, or not, at `time` (of whatever clock, if only it doesn't run
    /// backwards within a category). Moves the threshold `t` to `(1 - rate) t + rate best` once the window is full.
    ///
    /// Fails when the distance isn't finite, and then nothing has changed.
    pub fn observe(&mut self, category: C, distance: f64, same: bool, time: u64) -> Result<Feedback, EvalError> {
        finite("distance", &[distance])?;
        let config = self.config;
        let new = || Category {
            threshold: config.base,
            latest: time,
            pending: Vec::new(),
            moves: VecDeque::new(),
            started: false,
            late: 0,
        };
        let state = self.categories.entry(category).or_insert_with(new);
        if time < state.latest {
            state.late += 1;
            return Ok(Feedback::Late);
        }
        state.latest = time;
        state.pending.push((distance, same));
        let full = if state.started { config.window } else { config.min_feedback };
        if state.pending.len() < full {
            return Ok(Feedback::Kept);
        }
        let (distances, labels): (Vec<f64>, Vec<bool>) = state.pending.drain(..).unzip();
        let pairs = match Calibrator::from_scores(&distances, &labels) {
            Err(EvalError::OneClass { .. }) => return Ok(Feedback::OneKind),
            pairs => pairs?,
        };
        let (from, best) = (state.threshold, pairs.best(Metric::Accuracy)?.threshold);
        let step = (config.learning_rate * (best - from)).clamp(-config.max_step, config.max_step);
        let to = (from + step).clamp(config.bounds.0, config.bounds.1);
        let update = Update { time, from, to, best, error: 1.0 - pairs.at(from).counts.accuracy() };
        state.threshold = to;
        state.started = true;
        state.moves.push_back(update);
        while state.moves.len() > config.history {
            state.moves.pop_front();
        }
        Ok(Feedback::Moved(update))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eas_tensor::rng::SplitMix64;

    const QUICK: AdaptiveConfig = AdaptiveConfig {
        base: 0.5,
        learning_rate: 0.5,
        window: 4,
        min_feedback: 2,
        max_step: 1.0,
        bounds: (0.0, 2.0),
        history: 3,
    };

    fn feed(t: &mut AdaptiveThresholds<u8>, category: u8, pairs: &[(f64, bool)], time: u64) -> Feedback {
        let mut last = Feedback::Kept;
        for &(d, same) in pairs {
            last = t.observe(category, d, same, time).unwrap();
        }
        last
    }

    #[test]
    fn moves_a_share_of_the_way_at_each_full_window() {
        let mut t = AdaptiveThresholds::new(QUICK).unwrap();
        assert_eq!(t.observe(1, 0.8, true, 0), Ok(Feedback::Kept));
        // The first after two observations: best cut .9.
        let Feedback::Moved(first) = t.observe(1, 1.0, false, 1).unwrap() else { panic!("no update") };
        assert_eq!((first.from, first.best, first.error), (0.5, 0.9, 0.5));
        assert!((t.get(&1) - 0.7).abs() < 1e-12);
        // The next after four.
        assert_eq!(feed(&mut t, 1, &[(0.2, true), (0.3, true), (0.5, false)], 2), Feedback::Kept);
        assert!(matches!(feed(&mut t, 1, &[(0.6, false)], 3), Feedback::Moved(u) if (u.best - 0.4).abs() < 1e-12));
        assert!((t.get(&1) - 0.55).abs() < 1e-12);
        assert_eq!(t.get(&2), 0.5);
    }

    #[test]
    fn steps_and_thresholds_stay_in_their_limits() {
        let mut t = AdaptiveThresholds::new(AdaptiveConfig { max_step: 0.05, bounds: (0.4, 0.58), ..QUICK }).unwrap();
        feed(&mut t, 0, &[(1.5, true), (1.7, false)], 0);
        assert!((t.get(&0) - 0.55).abs() < 1e-12);
        feed(&mut t, 0, &[(1.5, true), (1.7, false), (1.5, true), (1.7, false)], 1);
        assert!((t.get(&0) - 0.58).abs() < 1e-12);
    }

    #[test]
    fn history_is_bounded_and_late_feedback_ignored() {
        let mut t = AdaptiveThresholds::new(QUICK).unwrap();
        for time in 10..50 {
            feed(&mut t, 0, &[(0.4, true), (0.8, false)], time);
        }
        assert_eq!(t.history(&0).count(), 3);
        assert!(t.history(&0).zip(t.history(&0).skip(1)).all(|(a, b)| a.time < b.time && a.to == b.from));
        let before = t.get(&0);
        for time in 0..40 {
            assert_eq!(t.observe(0, 1.9, true, time), Ok(Feedback::Late));
        }
        assert_eq!((t.get(&0), t.late(&0), t.history(&1).count()), (before, 40, 0));
    }

    #[test]
    fn one_kind_of_pairs_moves_nothing() {
        let mut t = AdaptiveThresholds::new(QUICK).unwrap();
        assert_eq!(feed(&mut t, 0, &[(0.9, true), (1.9, true)], 0), Feedback::OneKind);
        assert_eq!(t.get(&0), 0.5);
    }

    #[test]
    fn decisions_have_a_band() {
        let t = AdaptiveThresholds::<u8>::new(QUICK).unwrap();
        let decide = |d| t.decide(&0, d, 0.125);
        assert_eq!(
            [0.374, 0.375, 0.624, 0.625].map(decide),
            [Decision::Same, Decision::Abstain, Decision::Abstain, Decision::Different]
        );
        assert_eq!([0.49, 0.5].map(|d| t.decide(&0, d, -1.0)), [Decision::Same, Decision::Different]);
    }

    #[test]
    fn a_constant_stream_settles_at_the_bayes_threshold() {
        // Equal spreads, equal shares: the best threshold is midway, .7.
        let mut rng = SplitMix64::new(2);
        let mut t = AdaptiveThresholds::new(AdaptiveConfig { history: 10_000, ..AdaptiveConfig::default() }).unwrap();
        for time in 0..40_000 {
            let same = rng.chance(0.5);
            t.observe(0, if same { 0.5 } else { 0.9 } + 0.1 * rng.normal(), same, time).unwrap();
        }
        let thresholds: Vec<f64> = t.history(&0).map(|update| update.to).collect();
        let spread = |part: &[f64]| {
            let mean = part.iter().sum::<f64>() / part.len() as f64;
            part.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / part.len() as f64
        };
        assert!((t.get(&0) - 0.7).abs() < 0.02, "{}", t.get(&0));
        assert!(spread(&thresholds[100..]) < spread(&thresholds[..100]) / 2.0);
    }

    #[test]
    fn settings_are_checked() {
        let refused = |config: AdaptiveConfig, part: &str| {
            let message = AdaptiveThresholds::<u8>::new(config).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        };
        refused(AdaptiveConfig { base: 3.0, ..QUICK }, "base is 3");
        refused(AdaptiveConfig { base: f64::NAN, ..QUICK }, "base is NaN");
        refused(AdaptiveConfig { bounds: (1.0, 0.0), ..QUICK }, "bounds is 1 to 0");
        refused(AdaptiveConfig { learning_rate: 0.0, ..QUICK }, "learning_rate is 0");
        refused(AdaptiveConfig { window: 1, ..QUICK }, "window is 1");
        refused(AdaptiveConfig { min_feedback: 5, ..QUICK }, "min_feedback is 5");
        refused(AdaptiveConfig { max_step: f64::NAN, ..QUICK }, "max_step is NaN");
        let mut t = AdaptiveThresholds::new(QUICK).unwrap();
        assert!(t.observe(0, f64::INFINITY, true, 0).is_err());
        assert_eq!(t.late(&0), 0);
    }
}
