//! Terms that are added to an objective: vectors spread out, two encoders' vectors brought together, attributes kept readable.

use candle_core::Tensor;

use crate::metric::softmax_cross_entropy;
use crate::ops::widen;
use crate::{LossError, matrix, normalize, same_shape};

/// The mean cosine of two different rows of `(rows, dim)`, at least two rows of any length: what a diversity term makes small.
///
/// It isn't below `-1 / (rows - 1)`, which the corners of a regular simplex reach, since the squared length of the rows' sum isn't negative.
///
/// ```
/// use candle_core::{Device, Tensor};
///
/// let corners = Tensor::new(&[[1.0f64, 1.0, 1.0], [1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]], &Device::Cpu)?;
/// let mean: f64 = eas_losses::regularisers::diversity(&corners)?.to_scalar()?;
/// assert!((mean + 1.0 / 3.0).abs() < 1e-12);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn diversity(rows: &Tensor) -> Result<Tensor, LossError> {
    let (n, _) = matrix("rows", rows)?;
    if n < 2 {
        return Err(LossError::Argument { name: "rows", got: n as f64, expected: "at least 2" });
    }
    let units = normalize(rows)?;
    // The sum of all products is the squared length of the sum of rows; those of a row with itself are its squared length.
    let all = units.sum(0)?.sqr()?.sum_all()?;
    let own = units.sqr()?.sum_all()?;
    Ok(((all - own)? / (n * (n - 1)) as f64)?)
}

/// The mean over all entries of the squared difference of two matrices of one shape.
///
/// Alone it is least when both encoders give one vector for everything: it needs a contrastive term beside it.
pub fn alignment(a: &Tensor, b: &Tensor) -> Result<Tensor, LossError> {
    same_shape(a, b, 2)?;
    Ok((widen(a)? - widen(b)?)?.sqr()?.mean_all()?)
}

/// The sum over attributes of the mean cross-entropy of a head's logits, `(rows, classes)` each, with the attribute's class of each row.
pub fn attribute_preservation(heads: &[(&Tensor, &[u32])]) -> Result<Tensor, LossError> {
    let mut total: Option<Tensor> = None;
    for (logits, classes) in heads {
        let loss = softmax_cross_entropy(logits, classes)?;
        total = Some(match total {
            None => loss,
            Some(total) => (total + loss)?,
        });
    }
    total.ok_or_else(|| LossError::Empty(vec![0]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::tiny;
    use approx::assert_abs_diff_eq;
    use candle_core::{DType, Device};

    fn number(x: &Tensor) -> f64 {
        x.to_scalar().unwrap()
    }

    #[test]
    fn the_fixture_has_its_values() {
        let t = tiny(DType::F64, &Device::Cpu).unwrap();
        assert_abs_diff_eq!(number(&diversity(&t.anchors).unwrap()), 0.033_027_733_0, epsilon = 1e-9);
        let larger = (&t.anchors * 10.0).unwrap();
        assert_abs_diff_eq!(number(&diversity(&larger).unwrap()), 0.033_027_733_0, epsilon = 1e-9);
        assert_abs_diff_eq!(number(&alignment(&t.anchors, &t.positives).unwrap()), 0.072_916_666_7, epsilon = 1e-9);
        let unit = alignment(&normalize(&t.anchors).unwrap(), &normalize(&t.positives).unwrap()).unwrap();
        assert_abs_diff_eq!(number(&unit), 0.044_502_910_1, epsilon = 1e-9);
    }

    #[test]
    fn diversity_is_a_loop_over_pairs() {
        let rows = Tensor::from_iter((0..24).map(|i| f64::from(i * i % 7) - 2.5), &Device::Cpu).unwrap();
        let rows = rows.reshape((6, 4)).unwrap();
        let units = normalize(&rows).unwrap().to_vec2::<f64>().unwrap();
        let mut sum = 0.0;
        for i in 0..6 {
            for j in (0..6).filter(|&j| j != i) {
                sum += units[i].iter().zip(&units[j]).map(|(a, b)| a * b).sum::<f64>();
            }
        }
        assert_abs_diff_eq!(number(&diversity(&rows).unwrap()), sum / 30.0, epsilon = 1e-12);
    }

    #[test]
    fn heads_are_summed_and_bad_input_is_refused() {
        let flat = Tensor::zeros((3, 4), DType::F64, &Device::Cpu).unwrap();
        let two = attribute_preservation(&[(&flat, &[0, 1, 2]), (&flat, &[3, 3, 3])]).unwrap();
        assert_abs_diff_eq!(number(&two), 2.0 * 4f64.ln(), epsilon = 1e-12);
        assert!(attribute_preservation(&[]).is_err());
        assert!(attribute_preservation(&[(&flat, &[0, 1, 4])]).is_err());
        assert!(diversity(&flat.narrow(0, 0, 1).unwrap()).is_err());
        assert!(alignment(&flat, &flat.narrow(0, 0, 2).unwrap()).is_err());
    }
}
