//! Contrastive losses: pull matched rows together, push the other rows of the batch away.

use candle_core::{D, Tensor};
use candle_nn::ops::log_softmax;

use crate::{LossError, same_shape};

/// Symmetric InfoNCE with in-batch negatives (van den Oord et al. 2018; the two-sided form is CLIP's, Radford et al. 2021).
///
/// `a` and `b` have shape `(batch, dim)` and L2-normalised rows; row `i` of `a` belongs to row `i` of `b`, and every other
/// row of the batch is a negative. The logits are `a b^T / temperature`; the loss is the mean of the cross-entropy over rows
/// (find the `b` of each `a`) and over columns (find the `a` of each `b`), in nats, as a scalar tensor. A batch that tells
/// nothing apart costs `ln(batch)`.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
///
/// // Four orthonormal pairs: ln(1 + 3 exp(-10)).
/// let pairs = Tensor::eye(4, DType::F64, &Device::Cpu)?;
/// let loss = eas_losses::info_nce(&pairs, &pairs, 0.1)?.to_scalar::<f64>()?;
/// assert!((loss - 1.361905e-4).abs() < 1e-9);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn info_nce(a: &Tensor, b: &Tensor, temperature: f64) -> Result<Tensor, LossError> {
    same_shape(a, b, 2)?;
    if !(temperature > 0.0 && temperature.is_finite()) {
        return Err(LossError::Argument {
            name: "temperature",
            got: temperature,
            expected: "positive and finite",
        });
    }
    let logits = (a.matmul(&b.t()?)? / temperature)?;
    let matched = Tensor::arange(0, a.dim(0)? as u32, a.device())?.unsqueeze(1)?;
    let cross_entropy = |logits: &Tensor| -> Result<Tensor, LossError> {
        let own = log_softmax(logits, D::Minus1)?.gather(&matched, 1)?;
        Ok(own.mean_all()?.neg()?)
    };
    let forward = cross_entropy(&logits)?;
    let backward = cross_entropy(&logits.t()?.contiguous()?)?;
    Ok(((forward + backward)? * 0.5)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_abs_diff_eq;
    use candle_core::{DType, Device, Var};
    use eas_tensor::rng::SplitMix64;

    fn unit_rows(n: usize, dim: usize, seed: u64) -> Vec<Vec<f64>> {
        let mut rng = SplitMix64::new(seed);
        (0..n)
            .map(|_| {
                let row: Vec<f64> = (0..dim).map(|_| rng.normal()).collect();
                let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt();
                row.iter().map(|x| x / norm).collect()
            })
            .collect()
    }

    fn tensor(rows: &[Vec<f64>]) -> Tensor {
        Tensor::from_vec(rows.concat(), (rows.len(), rows[0].len()), &Device::Cpu).unwrap()
    }

    /// The definition in loops.
    fn naive(a: &[Vec<f64>], b: &[Vec<f64>], temperature: f64) -> f64 {
        let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(p, q)| p * q).sum::<f64>() / temperature;
        let n = a.len();
        let mut total = 0.0;
        for i in 0..n {
            let row: f64 = (0..n).map(|j| dot(&a[i], &b[j]).exp()).sum();
            let column: f64 = (0..n).map(|j| dot(&a[j], &b[i]).exp()).sum();
            total += row.ln() + column.ln() - 2.0 * dot(&a[i], &b[i]);
        }
        total / (2 * n) as f64
    }

    #[test]
    fn orthonormal_pairs_have_the_closed_form() {
        for (batch, temperature, expected) in [(4, 0.1, 1.361905e-4), (64, 0.07, 3.936635e-5)] {
            let pairs = Tensor::eye(batch, DType::F64, &Device::Cpu).unwrap();
            let loss = info_nce(&pairs, &pairs, temperature)
                .unwrap()
                .to_scalar::<f64>()
                .unwrap();
            assert_abs_diff_eq!(loss, expected, epsilon = 1e-10);
            let closed_form = ((batch - 1) as f64 * (-1.0 / temperature).exp()).ln_1p();
            assert_abs_diff_eq!(loss, closed_form, epsilon = 1e-12);
        }
    }

    #[test]
    fn equals_the_loops_and_is_symmetric_in_its_operands() {
        for seed in 0..5 {
            let (a, b) = (unit_rows(9, 6, seed), unit_rows(9, 6, seed + 100));
            let loss = |x: &Tensor, y: &Tensor| info_nce(x, y, 0.3).unwrap().to_scalar::<f64>().unwrap();
            let value = loss(&tensor(&a), &tensor(&b));
            assert_abs_diff_eq!(value, naive(&a, &b, 0.3), epsilon = 1e-12);
            assert_abs_diff_eq!(value, loss(&tensor(&b), &tensor(&a)), epsilon = 1e-12);
        }
    }

    #[test]
    fn a_batch_that_tells_nothing_apart_costs_the_log_of_its_size() {
        let same = tensor(&vec![vec![0.6, 0.8]; 32]);
        let loss = info_nce(&same, &same, 0.1).unwrap().to_scalar::<f64>().unwrap();
        assert_abs_diff_eq!(loss, 32f64.ln(), epsilon = 1e-12);
    }

    #[test]
    fn the_gradient_equals_finite_differences() {
        let (a, b) = (unit_rows(5, 4, 1), unit_rows(5, 4, 2));
        let var = Var::from_tensor(&tensor(&a)).unwrap();
        let grads = info_nce(&var, &tensor(&b), 0.2).unwrap().backward().unwrap();
        let gradient = grads.get(&var).unwrap().to_vec2::<f64>().unwrap();
        let step = 1e-5;
        for i in 0..5 {
            for j in 0..4 {
                let shifted = |by: f64| {
                    let mut moved = a.clone();
                    moved[i][j] += by;
                    naive(&moved, &b, 0.2)
                };
                let difference = (shifted(step) - shifted(-step)) / (2.0 * step);
                assert_abs_diff_eq!(gradient[i][j], difference, epsilon = 1e-8);
            }
        }
    }

    #[test]
    fn large_logits_stay_finite() {
        let pairs = Tensor::eye(3, DType::F32, &Device::Cpu).unwrap();
        let loss = info_nce(&pairs, &pairs, 1e-4).unwrap().to_scalar::<f32>().unwrap();
        assert_eq!(loss, 0.0);
    }

    #[test]
    fn bad_input_is_refused() {
        let zeros = |rows, dim| Tensor::zeros((rows, dim), DType::F32, &Device::Cpu).unwrap();
        assert!(matches!(
            info_nce(&zeros(3, 2), &zeros(2, 2), 0.1),
            Err(LossError::Shape { .. })
        ));
        assert!(matches!(
            info_nce(&zeros(0, 2), &zeros(0, 2), 0.1),
            Err(LossError::Empty(_))
        ));
        for temperature in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(
                info_nce(&zeros(2, 2), &zeros(2, 2), temperature),
                Err(LossError::Argument { .. })
            ));
        }
    }
}
