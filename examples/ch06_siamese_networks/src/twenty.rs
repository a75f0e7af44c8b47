//! Twenty labelled pairs, few enough to follow a threshold by hand, and the grid search that the book runs on them.

use eas_eval::threshold::{Calibrator, Cut};

/// The distances of the pairs.
pub const DISTANCES: [f64; 20] = [
    0.10, 0.15, 0.22, 0.28, 0.31, 0.36, 0.41, 0.47, 0.52, 0.58, 0.63, 0.69, 0.75, 0.82, 0.90, 0.97, 1.05, 1.12, 1.20,
    1.31,
];

/// Which of the pairs are the same: 9 are, 11 aren't.
pub const SAME: [bool; 20] = {
    let (t, f) = (true, false);
    [t, t, t, t, f, t, t, f, t, f, t, f, f, t, f, f, f, f, f, f]
};

/// The first of `steps` even thresholds, from the smallest to the largest distance, with the largest value; at least two steps.
pub fn on_grid(pairs: &Calibrator, low: f64, high: f64, steps: u32, value: fn(&Cut) -> f64) -> Cut {
    let at = |i: u32| pairs.at(low + (high - low) * f64::from(i) / f64::from(steps.max(2) - 1));
    (1..steps).map(at).fold(at(0), |best, cut| if value(&cut) > value(&best) { cut } else { best })
}
