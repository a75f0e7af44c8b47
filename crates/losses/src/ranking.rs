//! Ranking losses: on pairs of a true and a false item's scores, and on one list with graded relevance. Higher scores are better.

use candle_core::Tensor;

use crate::ops::{constant, hinge, softplus, to_numbers, widen, zero_of};
use crate::{LossError, one_a_row, same_shape};

/// Margin ranking loss, the mean of `max(0, margin - positive + negative)` over pairs (Bordes et al. 2013, where the scores
/// are negated distances).
///
/// `positive` and `negative` have shape `(pairs,)`; a pair that is apart by at least `margin` costs nothing.
pub fn margin_ranking(positive: &Tensor, negative: &Tensor, margin: f64) -> Result<Tensor, LossError> {
    same_shape(positive, negative, 1)?;
    crate::not_negative("margin", margin)?;
    Ok(((negative - positive)? + margin)?.relu()?.mean_all()?)
}

/// Logistic ranking loss, the mean of `ln(1 + exp(-positive)) + ln(1 + exp(negative))` over pairs: each score is the logit of
/// "this item is true" (Trouillon et al. 2016; the negative-sampling form of Mikolov et al. 2013).
///
/// `positive` and `negative` have shape `(pairs,)`; two scores of zero cost `2 ln 2`.
pub fn logistic_ranking(positive: &Tensor, negative: &Tensor) -> Result<Tensor, LossError> {
    same_shape(positive, negative, 1)?;
    Ok((softplus(&positive.neg()?)? + softplus(negative)?)?.mean_all()?)
}

/// Pairwise hinge on one list: the mean over ordered pairs with `y_i > y_j` of `max(0, 1 - (s_i - s_j))`.
///
/// `scores` has shape `(items,)`, `relevance` one grade an item. A list of equal grades costs 0 with a zero gradient.
pub fn pairwise_hinge(scores: &Tensor, relevance: &[f64]) -> Result<Tensor, LossError> {
    over_pairs(scores, relevance, |gaps| hinge(&(1.0 - gaps)?), |_, _| 1.0, true)
}

/// RankNet (Burges et al. 2005): the mean over ordered pairs with `y_i > y_j` of `ln(1 + exp(-(s_i - s_j)))`.
pub fn ranknet(scores: &Tensor, relevance: &[f64]) -> Result<Tensor, LossError> {
    over_pairs(scores, relevance, |gaps| softplus(&gaps.neg()?), |_, _| 1.0, true)
}

/// LambdaRank (Burges et al. 2007): RankNet's terms, summed, each weighted by how much exchanging the two items would change NDCG,
/// `|(2^y_i - 2^y_j)(D_i - D_j)| / IDCG` with `D = 1 / log2(rank + 2)`, ranks from 0 by falling score (ties by position).
///
/// The weights carry no gradient.
pub fn lambdarank(scores: &Tensor, relevance: &[f64]) -> Result<Tensor, LossError> {
    let s = to_numbers(scores)?;
    one_a_row("grades", relevance.len(), s.len())?;
    let ranked = |values: &[f64]| {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|&x, &y| values[y].total_cmp(&values[x]).then(x.cmp(&y)));
        order
    };
    let discount = |rank: usize| 1.0 / (rank as f64 + 2.0).log2();
    let mut discounts = vec![0.0; s.len()];
    for (rank, item) in ranked(&s).into_iter().enumerate() {
        discounts[item] = discount(rank);
    }
    let best = ranked(relevance).into_iter().enumerate();
    let ideal: f64 = best.map(|(rank, item)| (relevance[item].exp2() - 1.0) * discount(rank)).sum();
    let weight = |i: usize, j: usize| {
        let gain = relevance[i].exp2() - relevance[j].exp2();
        (gain * (discounts[i] - discounts[j])).abs() / ideal
    };
    over_pairs(scores, relevance, |gaps| softplus(&gaps.neg()?), weight, false)
}

/// Weighted costs of the score gaps of all pairs `(i, j)` with `y_i > y_j`, averaged or summed.
fn over_pairs(
    scores: &Tensor,
    relevance: &[f64],
    cost: impl Fn(&Tensor) -> Result<Tensor, LossError>,
    weight: impl Fn(usize, usize) -> f64,
    average: bool,
) -> Result<Tensor, LossError> {
    let n = scores.dims1().map_err(|_| LossError::Operand {
        what: "scores",
        expected: "(items,)".to_owned(),
        got: scores.dims().to_vec(),
    })?;
    one_a_row("grades", relevance.len(), n)?;
    if n == 0 {
        return Err(LossError::Empty(vec![0]));
    }
    let scores = widen(scores)?;
    let pairs: Vec<(usize, usize)> =
        (0..n).flat_map(|i| (0..n).map(move |j| (i, j))).filter(|&(i, j)| relevance[i] > relevance[j]).collect();
    if pairs.is_empty() {
        return zero_of(&scores);
    }
    let pick = |side: fn(&(usize, usize)) -> usize| {
        let rows: Vec<u32> = pairs.iter().map(|pair| side(pair) as u32).collect();
        scores.index_select(&Tensor::from_vec(rows, pairs.len(), scores.device())?, 0)
    };
    let gaps = (pick(|pair| pair.0)? - pick(|pair| pair.1)?)?;
    let weights = pairs.iter().map(|&(i, j)| weight(i, j)).collect();
    let costs = (cost(&gaps)? * constant(weights, &[pairs.len()], &scores)?)?;
    Ok(if average { costs.mean_all()? } else { costs.sum_all()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_abs_diff_eq;
    use candle_core::{Device, Var};

    fn scores(values: &[f64]) -> Tensor {
        Tensor::new(values, &Device::Cpu).unwrap()
    }

    #[test]
    fn the_margin_loss_of_distances_matches_hand_worked_pairs() {
        let loss = |d_positive: f64, d_negative: f64| {
            margin_ranking(&scores(&[-d_positive]), &scores(&[-d_negative]), 1.0).unwrap().to_scalar::<f64>().unwrap()
        };
        assert_abs_diff_eq!(loss(0.5, 0.9), 0.6, epsilon = 1e-12);
        assert_eq!(loss(0.5, 2.0), 0.0);
        let both = margin_ranking(&scores(&[-0.5, -0.5]), &scores(&[-0.9, -2.0]), 1.0).unwrap();
        assert_abs_diff_eq!(both.to_scalar::<f64>().unwrap(), 0.3, epsilon = 1e-12);
    }

    #[test]
    fn the_logistic_loss_equals_its_formula_and_does_not_overflow() {
        let loss = |p: f64, n: f64| logistic_ranking(&scores(&[p]), &scores(&[n])).unwrap().to_scalar::<f64>().unwrap();
        assert_abs_diff_eq!(loss(0.0, 0.0), 2.0 * std::f64::consts::LN_2, epsilon = 1e-12);
        assert_abs_diff_eq!(loss(1.3, -0.4), (-1.3f64).exp().ln_1p() + (-0.4f64).exp().ln_1p(), epsilon = 1e-12);
        assert_abs_diff_eq!(loss(-1e4, 1e4), 2e4, epsilon = 1e-9);
    }

    #[test]
    fn the_logistic_gradient_is_sigmoid_minus_label() {
        for value in [-2.0, -0.1, 0.7, 3.0] {
            let positive = Var::from_tensor(&scores(&[value])).unwrap();
            let negative = Var::from_tensor(&scores(&[value])).unwrap();
            let grads = logistic_ranking(&positive, &negative).unwrap().backward().unwrap();
            let of = |var: &Var| grads.get(var).unwrap().to_vec1::<f64>().unwrap()[0];
            let sigmoid = 1.0 / (1.0 + (-value).exp());
            assert_abs_diff_eq!(of(&positive), sigmoid - 1.0, epsilon = 1e-12);
            assert_abs_diff_eq!(of(&negative), sigmoid, epsilon = 1e-12);
        }
    }

    #[test]
    fn bad_input_is_refused() {
        assert!(matches!(margin_ranking(&scores(&[1.0]), &scores(&[1.0, 2.0]), 1.0), Err(LossError::Shape { .. })));
        assert!(matches!(logistic_ranking(&scores(&[]), &scores(&[])), Err(LossError::Empty(_))));
        assert!(matches!(margin_ranking(&scores(&[1.0]), &scores(&[1.0]), f64::NAN), Err(LossError::Argument { .. })));
    }
}
