//! Maximal marginal relevance: a list of good results that are not all the same.
//!
//! Carbonell and Goldstein, "The Use of MMR, Diversity-Based Reranking for Reordering Documents and Producing Summaries" (SIGIR 1998).

use crate::RetrievalError;

/// Selects up to `k` items greedily by `lambda * relevance - (1 - lambda) * (greatest similarity to a selected item)` and returns
/// their indices in the order of selection. Ties go to the lower index.
///
/// `relevance` should be on the scale of `similarity`, usually `[0, 1]` (see [`min_max`]). `lambda = 1` is the order of relevance;
/// `lambda = 0` starts with item 0 and then takes whatever is least like the items taken. `k` beyond the number of items takes all.
///
/// # Errors
/// `lambda` outside `[0, 1]`, `k = 0`, or a relevance or similarity that is NaN.
///
/// ```
/// use eas_retrieval::mmr::mmr;
///
/// // Items 0 and 1 say the same; item 2 is a little less relevant and new.
/// let similarity = |a: usize, b: usize| if a + b == 1 { 0.95 } else { 0.1 };
/// assert_eq!(mmr(&[0.9, 0.88, 0.7], similarity, 2, 1.0)?, [0, 1]);
/// assert_eq!(mmr(&[0.9, 0.88, 0.7], similarity, 2, 0.5)?, [0, 2]);
/// # Ok::<(), eas_retrieval::RetrievalError>(())
/// ```
pub fn mmr(
    relevance: &[f64],
    similarity: impl Fn(usize, usize) -> f64,
    k: usize,
    lambda: f64,
) -> Result<Vec<usize>, RetrievalError> {
    if !(0.0..=1.0).contains(&lambda) {
        return Err(RetrievalError::argument("lambda", &lambda, "a number in [0, 1]"));
    }
    if k == 0 {
        return Err(RetrievalError::argument("k", &k, "at least 1"));
    }
    if let Some(i) = relevance.iter().position(|r| r.is_nan()) {
        return Err(RetrievalError::argument("relevance", &format!("NaN at {i}"), "a number"));
    }
    let mut left: Vec<usize> = (0..relevance.len()).collect();
    // The greatest similarity of each item to the selected ones; an item has no rival before the first selection.
    let mut closest: Vec<Option<f64>> = vec![None; relevance.len()];
    let mut selected = Vec::with_capacity(k.min(left.len()));
    while selected.len() < k && !left.is_empty() {
        let gain = |i: usize| lambda * relevance[i] - (1.0 - lambda) * closest[i].unwrap_or(0.0);
        let best = (1..left.len()).fold(0, |best, at| if gain(left[at]) > gain(left[best]) { at } else { best });
        let chosen = left.remove(best);
        selected.push(chosen);
        for &i in &left {
            let s = similarity(i, chosen);
            if s.is_nan() {
                let given = format!("NaN between {i} and {chosen}");
                return Err(RetrievalError::argument("similarity", &given, "a number"));
            }
            closest[i] = Some(closest[i].map_or(s, |c| c.max(s)));
        }
    }
    Ok(selected)
}

/// Scales `scores` to `[0, 1]`: the least becomes 0, the greatest 1; equal scores all become 1.
pub fn min_max(scores: &[f64]) -> Vec<f64> {
    let low = scores.iter().copied().fold(f64::INFINITY, f64::min);
    let high = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let range = high - low;
    let scale = |&s: &f64| if range > 0.0 { (s - low) / range } else { 1.0 };
    scores.iter().map(scale).collect()
}

/// Mean similarity over all pairs of `items`; 0 for fewer than two.
pub fn mean_pairwise_similarity(items: &[usize], similarity: impl Fn(usize, usize) -> f64) -> f64 {
    let mut sum = 0.0;
    let mut pairs = 0u32;
    for (n, &a) in items.iter().enumerate() {
        for &b in &items[n + 1..] {
            sum += similarity(a, b);
            pairs += 1;
        }
    }
    if pairs == 0 { 0.0 } else { sum / f64::from(pairs) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eas_tensor::rng::SplitMix64;
    use proptest::prelude::*;

    const RELEVANCE: [f64; 5] = [0.90, 0.88, 0.70, 0.60, 0.55];

    fn fixture(i: usize, j: usize) -> f64 {
        let upper = [
            [1.0, 0.95, 0.30, 0.20, 0.60],
            [0.0, 1.0, 0.35, 0.25, 0.55],
            [0.0, 0.0, 1.0, 0.80, 0.10],
            [0.0, 0.0, 0.0, 1.0, 0.15],
            [0.0, 0.0, 0.0, 0.0, 1.0],
        ];
        upper[i.min(j)][i.max(j)]
    }

    #[test]
    fn five_documents_by_hand() {
        let cases = [
            (1.0, [0, 1, 2], 0.533_333),
            (0.7, [0, 2, 1], 0.533_333),
            (0.5, [0, 2, 4], 0.333_333),
            (0.3, [0, 3, 4], 0.316_667),
        ];
        for (lambda, order, mean) in cases {
            let selected = mmr(&RELEVANCE, fixture, 3, lambda).unwrap();
            assert_eq!(selected, order, "lambda {lambda}");
            assert!((mean_pairwise_similarity(&selected, fixture) - mean).abs() < 1e-6);
        }
    }

    #[test]
    fn the_ends_of_lambda() {
        assert_eq!(mmr(&RELEVANCE, fixture, 9, 1.0).unwrap(), [0, 1, 2, 3, 4]);
        assert_eq!(mmr(&[0.1, 0.9, 0.9], |_, _| 0.0, 3, 1.0).unwrap(), [1, 2, 0]);
        // Without relevance: item 0, then always the least similar to those taken.
        assert_eq!(mmr(&RELEVANCE, fixture, 3, 0.0).unwrap(), [0, 3, 4]);
        assert!(mmr(&[], fixture, 3, 0.5).unwrap().is_empty());
    }

    #[test]
    fn bad_arguments_are_refused() {
        for (lambda, k) in [(-0.1, 3), (1.1, 3), (f64::NAN, 3), (0.5, 0)] {
            assert!(mmr(&RELEVANCE, fixture, k, lambda).is_err());
        }
        assert!(mmr(&[0.5, f64::NAN], fixture, 1, 0.5).unwrap_err().to_string().contains("NaN at 1"));
        assert!(mmr(&[0.5, 0.4], |_, _| f64::NAN, 2, 0.5).is_err());
    }

    #[test]
    fn scaling_keeps_order_and_ends() {
        assert_eq!(min_max(&[2.0, 4.0, 3.0]), [0.0, 1.0, 0.5]);
        assert_eq!(min_max(&[2.0, 2.0]), [1.0, 1.0]);
        assert!(min_max(&[]).is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn less_lambda_never_selects_a_more_uniform_set_from_planted_clusters(seed in any::<u64>()) {
            // Three clusters of 6: similarity 0.9 within, 0.1 between; the clusters differ in relevance.
            let mut rng = SplitMix64::new(seed);
            let relevance: Vec<f64> =
                (0..18).map(|i| 0.9 - 0.2 * (i / 6) as f64 - 0.05 * rng.uniform()).collect();
            let similarity = |a: usize, b: usize| if a / 6 == b / 6 { 0.9 } else { 0.1 };
            let mut before = f64::INFINITY;
            for lambda in [1.0, 0.8, 0.6, 0.4, 0.2, 0.0] {
                let mean = mean_pairwise_similarity(&mmr(&relevance, similarity, 6, lambda).unwrap(), similarity);
                prop_assert!(mean <= before + 1e-9);
                before = mean;
            }
        }
    }
}
