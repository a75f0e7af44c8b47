//! Ranking losses on pairs of scores: a true item's score and a false item's score, higher meaning better.

use candle_core::Tensor;

use crate::{LossError, same_shape};

/// Margin ranking loss, the mean of `max(0, margin - positive + negative)` over pairs (Bordes et al. 2013, where the scores
/// are negated distances).
///
/// `positive` and `negative` have shape `(pairs,)`; a pair that is apart by at least `margin` costs nothing.
pub fn margin_ranking(positive: &Tensor, negative: &Tensor, margin: f64) -> Result<Tensor, LossError> {
    same_shape(positive, negative, 1)?;
    if !(margin >= 0.0 && margin.is_finite()) {
        return Err(LossError::Argument {
            name: "margin",
            got: margin,
            expected: "finite and not negative",
        });
    }
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

/// `ln(1 + exp(x))` without overflow: `max(x, 0) + ln(1 + exp(-|x|))`.
fn softplus(x: &Tensor) -> Result<Tensor, LossError> {
    Ok((x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?)?)
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
            margin_ranking(&scores(&[-d_positive]), &scores(&[-d_negative]), 1.0)
                .unwrap()
                .to_scalar::<f64>()
                .unwrap()
        };
        assert_abs_diff_eq!(loss(0.5, 0.9), 0.6, epsilon = 1e-12);
        assert_eq!(loss(0.5, 2.0), 0.0);
        let both = margin_ranking(&scores(&[-0.5, -0.5]), &scores(&[-0.9, -2.0]), 1.0).unwrap();
        assert_abs_diff_eq!(both.to_scalar::<f64>().unwrap(), 0.3, epsilon = 1e-12);
    }

    #[test]
    fn the_logistic_loss_equals_its_formula_and_does_not_overflow() {
        let loss = |p: f64, n: f64| {
            logistic_ranking(&scores(&[p]), &scores(&[n]))
                .unwrap()
                .to_scalar::<f64>()
                .unwrap()
        };
        assert_abs_diff_eq!(loss(0.0, 0.0), 2.0 * std::f64::consts::LN_2, epsilon = 1e-12);
        assert_abs_diff_eq!(
            loss(1.3, -0.4),
            (-1.3f64).exp().ln_1p() + (-0.4f64).exp().ln_1p(),
            epsilon = 1e-12
        );
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
        assert!(matches!(
            margin_ranking(&scores(&[1.0]), &scores(&[1.0, 2.0]), 1.0),
            Err(LossError::Shape { .. })
        ));
        assert!(matches!(
            logistic_ranking(&scores(&[]), &scores(&[])),
            Err(LossError::Empty(_))
        ));
        assert!(matches!(
            margin_ranking(&scores(&[1.0]), &scores(&[1.0]), f64::NAN),
            Err(LossError::Argument { .. })
        ));
    }
}
