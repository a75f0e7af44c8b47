//! How well vectors of one class keep together and apart from the others. Similarity is the cosine.

use crate::EvalError;
use crate::classification::roc_auc;
use crate::error::{mean, not_empty, same_length};
use eas_tensor::{Matrix, TopK, kernels};
use std::collections::BTreeMap;

/// Cosines of all pairs, split by whether the two rows share a label.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairSeparation {
    /// Mean cosine of the pairs with equal labels.
    pub same_mean: f64,
    /// Mean cosine of the pairs with different labels.
    pub different_mean: f64,
    /// Probability that a pair of equal label is closer than one of different labels.
    pub auc: f64,
}

/// Compares all pairs of rows; `labels` has one label a row. Needs both kinds of pairs.
pub fn pair_separation<L: PartialEq>(vectors: &Matrix, labels: &[L]) -> Result<PairSeparation, EvalError> {
    check(vectors, labels)?;
    let (mut cosines, mut same) = (Vec::new(), Vec::new());
    for i in 0..vectors.rows() {
        for j in 0..i {
            cosines.push(f64::from(kernels::cosine(vectors.row(i), vectors.row(j))));
            same.push(labels[i] == labels[j]);
        }
    }
    not_empty("pairs", &cosines)?;
    let auc = roc_auc(&cosines, &same)?;
    let mean_where = |wanted: bool| {
        let chosen = cosines.iter().zip(&same).filter(|(_, s)| **s == wanted).map(|(c, _)| *c);
        mean(&chosen.collect::<Vec<f64>>())
    };
    Ok(PairSeparation { same_mean: mean_where(true), different_mean: mean_where(false), auc })
}

/// Share of rows whose nearest class centroid, computed without that row, is that of their own class. A row that is
/// the only one of its class counts as wrong; equal cosines go to the lower label.
pub fn leave_one_out_centroid<L: Ord>(vectors: &Matrix, labels: &[L]) -> Result<f64, EvalError> {
    check(vectors, labels)?;
    let mut sums: BTreeMap<&L, (usize, Vec<f32>)> = BTreeMap::new();
    for (row, label) in vectors.iter_rows().zip(labels) {
        let (count, sum) = sums.entry(label).or_insert_with(|| (0, vec![0.0; vectors.dim()]));
        *count += 1;
        for (s, x) in sum.iter_mut().zip(row) {
            *s += x;
        }
    }
    let mut right = 0usize;
    for (row, label) in vectors.iter_rows().zip(labels) {
        let mut best: Option<(f32, &L)> = None;
        for (&class, (count, sum)) in &sums {
            let cosine = if class == label {
                if *count == 1 {
                    continue;
                }
                let rest: Vec<f32> = sum.iter().zip(row).map(|(s, x)| s - x).collect();
                kernels::cosine(row, &rest)
            } else {
                kernels::cosine(row, sum)
            };
            if best.is_none_or(|(highest, _)| cosine > highest) {
                best = Some((cosine, class));
            }
        }
        right += usize::from(best.is_some_and(|(_, class)| class == label));
    }
    Ok(right as f64 / vectors.rows() as f64)
}

/// Mean share of each row's `k` nearest other rows (by cosine, ties by lower row) that have its label.
pub fn neighbour_purity<L: PartialEq>(vectors: &Matrix, labels: &[L], k: usize) -> Result<f64, EvalError> {
    check(vectors, labels)?;
    if k == 0 || k >= vectors.rows() {
        return Err(EvalError::Argument {
            name: "k",
            got: k.to_string(),
            expected: "at least 1 and less than the number of rows",
        });
    }
    let mut unit = vectors.clone();
    unit.normalize_rows();
    let shares: Vec<f64> = (0..unit.rows())
        .map(|i| {
            let mut nearest = TopK::new(k);
            for j in (0..unit.rows()).filter(|&j| j != i) {
                nearest.push(j, kernels::dot(unit.row(i), unit.row(j)));
            }
            let same = nearest.into_sorted_vec().iter().filter(|s| labels[s.id] == labels[i]).count();
            same as f64 / k as f64
        })
        .collect();
    Ok(mean(&shares))
}

fn check<L>(vectors: &Matrix, labels: &[L]) -> Result<(), EvalError> {
    same_length("rows", vectors.rows(), labels.len())?;
    not_empty("labels", labels)?;
    if let Some(at) = vectors.as_slice().iter().position(|x| !x.is_finite()) {
        return Err(EvalError::NotFinite { what: "vectors", at, value: f64::from(vectors.as_slice()[at]) });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_abs_diff_eq;

    fn two_bundles() -> (Matrix, Vec<&'static str>) {
        let vectors = Matrix::from_rows(&[[1.0, 0.0], [2.0, 0.2], [0.0, 3.0], [0.1, 1.0]]).unwrap();
        (vectors, vec!["x", "x", "y", "y"])
    }

    #[test]
    fn separate_bundles_score_one_on_everything() {
        let (vectors, labels) = two_bundles();
        let pairs = pair_separation(&vectors, &labels).unwrap();
        assert_eq!(pairs.auc, 1.0);
        assert!(pairs.same_mean > 0.99 && pairs.different_mean < 0.2, "{pairs:?}");
        assert_eq!(leave_one_out_centroid(&vectors, &labels), Ok(1.0));
        assert_eq!(neighbour_purity(&vectors, &labels, 1), Ok(1.0));
        assert_abs_diff_eq!(neighbour_purity(&vectors, &labels, 3).unwrap(), 1.0 / 3.0, epsilon = 1e-12);
    }

    #[test]
    fn swapped_labels_score_zero() {
        let (vectors, _) = two_bundles();
        let labels = [0, 1, 0, 1];
        assert!(pair_separation(&vectors, &labels).unwrap().auc < 0.5);
        assert_eq!(leave_one_out_centroid(&vectors, &labels), Ok(0.0));
        assert_eq!(neighbour_purity(&vectors, &labels, 1), Ok(0.0));
    }

    #[test]
    fn a_lone_member_of_its_class_is_counted_as_wrong() {
        let (vectors, _) = two_bundles();
        assert_eq!(leave_one_out_centroid(&vectors, &[1, 1, 2, 3]), Ok(0.5));
    }

    #[test]
    fn bad_input_is_refused() {
        let (mut vectors, labels) = two_bundles();
        assert!(pair_separation(&vectors, &labels[..3]).is_err());
        assert!(pair_separation(&vectors, &[1; 4]).is_err());
        assert!(neighbour_purity(&vectors, &labels, 0).is_err());
        assert!(neighbour_purity(&vectors, &labels, 4).is_err());
        assert!(leave_one_out_centroid::<u8>(&Matrix::zeros(0, 0), &[]).is_err());
        vectors.row_mut(1)[1] = f32::NAN;
        assert!(leave_one_out_centroid(&vectors, &labels).is_err());
    }
}
