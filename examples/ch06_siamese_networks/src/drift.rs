//! A stream of labelled distances whose best threshold is known, and moves.

use eas_tensor::rng::SplitMix64;
use eas_tensor::special::normal_cdf;

/// Batches of the stream.
pub const BATCHES: usize = 60;
/// Pairs a batch and category.
pub const BATCH: usize = 200;
/// The batch with which the drift begins.
pub const DRIFT_FROM: usize = 20;
/// Two kinds of products; the pairs of the second lie farther apart.
pub const CATEGORIES: [(&str, f64); 2] = [("A", 0.0), ("B", 0.2)];

/// Batches for each category: 40% of the pairs are the same, at N(0.5, 0.12²), the others at N(0.9, 0.15²), all of them shifted by the
/// category and from batch 20 on by `drift`.
pub fn draw(seed: u64, drift: f64) -> Vec<[Vec<(f64, bool)>; 2]> {
    let mut rng = SplitMix64::new(seed);
    let mut pair = |shift: f64| {
        let same = rng.chance(0.4);
        let (mean, deviation) = if same { (0.5, 0.12) } else { (0.9, 0.15) };
        (mean + shift + deviation * rng.normal(), same)
    };
    let drifted = |b: usize| if b >= DRIFT_FROM { drift } else { 0.0 };
    let mut batch = |shift: f64| (0..BATCH).map(|_| pair(shift)).collect();
    (0..BATCHES).map(|b| CATEGORIES.map(|(_, shift)| batch(shift + drifted(b)))).collect()
}

/// The threshold at which the two weighted densities meet when all pairs are shifted by `shift`, by bisection, and the share of
/// wrong decisions there: no threshold has a smaller one.
pub fn bayes_threshold(shift: f64) -> (f64, f64) {
    let log_density = |x: f64, share: f64, mean: f64, deviation: f64| {
        (share / deviation).ln() - ((x - shift - mean) / deviation).powi(2) / 2.0
    };
    let (mut low, mut high) = (0.5 + shift, 0.9 + shift);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        let same_wins = log_density(middle, 0.4, 0.5, 0.12) > log_density(middle, 0.6, 0.9, 0.15);
        if same_wins { low = middle } else { high = middle }
    }
    let z = |mean: f64, deviation: f64| (low - shift - mean) / deviation;
    (low, 0.4 * normal_cdf(-z(0.5, 0.12)) + 0.6 * normal_cdf(z(0.9, 0.15)))
}
