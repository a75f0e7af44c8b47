//! Discounted gain when gains are real numbers, as they are where an item matches a part of what was asked.

/// Discounted cumulative gain of the first `k` of `ranked`, divided by that of the best order of `all`: gain as it is, discount
/// `1 / log2(rank + 1)`. `None` when nothing has a gain, so that there is no best order.
pub fn ndcg(ranked: &[f64], all: &[f64], k: usize) -> Option<f64> {
    let mut ideal = all.to_vec();
    ideal.sort_by(|a, b| b.total_cmp(a));
    let best = dcg(&ideal, k);
    (best > 0.0).then(|| dcg(ranked, k) / best)
}

fn dcg(gains: &[f64], k: usize) -> f64 {
    gains.iter().take(k).enumerate().map(|(at, gain)| gain / ((at + 2) as f64).log2()).sum()
}

/// Mean; NaN for none, which fails every claim.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let log3 = 3f64.log2();
        assert_eq!(ndcg(&[0.5, 1.0], &[1.0, 0.5, 0.0], 2), Some((0.5 + 1.0 / log3) / (1.0 + 0.5 / log3)));
        assert_eq!(ndcg(&[1.0, 0.5], &[0.5, 1.0], 10), Some(1.0));
        assert_eq!(ndcg(&[0.0], &[0.0], 10), None);
    }
}
