//! Mutual information of correlated normal vectors, and the bound that InfoNCE sets to it (van den Oord et al. 2018).

use candle_core::{Device, Tensor};
use eas_losses::contrastive::candidate_loss;
use eas_tensor::rng::SplitMix64;

/// Mutual information, in nats, of two vectors in R^4 whose coordinates have correlation 0.8.
pub const TRUE_MI: f64 = 2.043_302_5;

/// `ln n - loss`, in nats, a mean over `batches` batches of `n` such pairs. They are scored with the exact `ln p(y|x) / p(y)`, so that what
/// the bound lacks is due to `n` alone.
pub fn information_bound(n: usize, batches: usize, seed: u64) -> anyhow::Result<f64> {
    let rho: f64 = 0.8;
    let rest = 1.0 - rho * rho;
    let score = |x: f64, y: f64| -0.5 * rest.ln() - (y - rho * x).powi(2) / (2.0 * rest) + y * y / 2.0;
    let mut rng = SplitMix64::stream(seed, n as u64);
    let targets: Vec<u32> = (0..n as u32).collect();
    let mut total = 0.0;
    for _ in 0..batches {
        let x: Vec<[f64; 4]> = (0..n).map(|_| [(); 4].map(|()| rng.normal())).collect();
        let y: Vec<[f64; 4]> = x.iter().map(|x| x.map(|v| rho * v + rest.sqrt() * rng.normal())).collect();
        let row = |x: &[f64; 4]| y.iter().map(|y| (0..4).map(|d| score(x[d], y[d])).sum()).collect::<Vec<f64>>();
        let scores: Vec<f64> = x.iter().flat_map(row).collect();
        let scores = Tensor::from_vec(scores, (n, n), &Device::Cpu)?;
        total += (n as f64).ln() - candidate_loss(&scores, &targets, 1.0, None, None)?.to_scalar::<f64>()?;
    }
    Ok(total / batches as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_lies_below_the_information_and_below_ln_n() {
        // Four coordinates, each with -ln(1 - rho^2) / 2.
        assert!((TRUE_MI + 2.0 * (1.0 - 0.8f64 * 0.8).ln()).abs() < 1e-7);
        let bounds = [2, 64].map(|n| information_bound(n, 200, 1).unwrap());
        assert!(bounds[0] < 2.0f64.ln() && bounds[0] < bounds[1] && bounds[1] < TRUE_MI, "{bounds:?}");
    }
}
