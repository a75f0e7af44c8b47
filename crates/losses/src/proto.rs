//! Prototypical networks: a class is the mean of its support, a query belongs to the nearest mean.

use candle_core::{D, Tensor};

use crate::ops::{constant, cross_entropy, widen};
use crate::{Distance, LossError, matrix, one_a_row};

/// The mean of the rows of each class: `(rows, dim)` and labels below `classes` give `(classes, dim)`.
///
/// A class without a row is an error.
pub fn prototypes(support: &Tensor, labels: &[u32], classes: usize) -> Result<Tensor, LossError> {
    let (rows, _) = matrix("support", support)?;
    one_a_row("labels", labels.len(), rows)?;
    // Labels come from files: one of 4 billion must not take room for as many classes.
    if classes > rows {
        let missing = (0..classes).find(|&class| labels.iter().all(|&label| label as usize != class)).unwrap_or(0);
        return Err(LossError::Name(format!("class {missing} of {classes} has no support")));
    }
    let mut counts = vec![0usize; classes];
    for (row, &label) in labels.iter().enumerate() {
        *counts.get_mut(label as usize).ok_or(LossError::OutOfRange {
            what: "label",
            row,
            got: label as usize,
            limit: classes,
        })? += 1;
    }
    if let Some(class) = counts.iter().position(|&count| count == 0) {
        return Err(LossError::Name(format!("class {class} of {classes} has no support")));
    }
    let support = widen(support)?;
    let mut averaging = vec![0.0; classes * rows];
    for (row, &label) in labels.iter().enumerate() {
        averaging[label as usize * rows + row] = 1.0 / counts[label as usize] as f64;
    }
    Ok(constant(averaging, &[classes, rows], &support)?.matmul(&support)?)
}

/// The log-probabilities of each query's class, `log softmax(-scale |q - c_k|^2)`: `(queries, dim)` and prototypes `(classes, dim)`
/// give `(queries, classes)` (Snell et al. 2017).
pub fn log_proba(queries: &Tensor, prototypes: &Tensor, scale: f64) -> Result<Tensor, LossError> {
    crate::positive("scale", scale)?;
    let logits = (Distance::SquaredEuclidean.pairwise(queries, prototypes)? * -scale)?;
    let normal = crate::ops::log_sum_exp(&logits)?.unsqueeze(D::Minus1)?;
    Ok(logits.broadcast_sub(&normal)?)
}

/// The mean negative log-likelihood of the queries of one episode (Snell et al. 2017).
///
/// ```
/// use candle_core::{Device, Tensor};
///
/// let support = [[1.0, 0.0], [0.8, 0.4], [0.0, 1.0], [0.2, 0.8], [-0.1, 1.2], [-1.0, -0.5]];
/// let queries = [[0.6, 0.5], [-0.4, 0.3], [0.9, 0.1]];
/// let (support, queries) = (Tensor::new(&support, &Device::Cpu)?, Tensor::new(&queries, &Device::Cpu)?);
/// let loss = eas_losses::proto::episodic_loss(&support, &[0, 0, 1, 1, 1, 2], &queries, &[0, 2, 0], 1.0)?;
/// assert!((loss.to_scalar::<f64>()? - 0.6004193463).abs() < 1e-9);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn episodic_loss(
    support: &Tensor,
    support_labels: &[u32],
    queries: &Tensor,
    query_labels: &[u32],
    scale: f64,
) -> Result<Tensor, LossError> {
    crate::positive("scale", scale)?;
    let (rows, _) = matrix("queries", queries)?;
    one_a_row("query labels", query_labels.len(), rows)?;
    let classes = support_labels.iter().max().map_or(0, |&l| l as usize + 1);
    let centres = prototypes(support, support_labels, classes)?;
    if let Some(row) = query_labels.iter().position(|&l| l as usize >= classes) {
        return Err(LossError::OutOfRange {
            what: "query label",
            row,
            got: query_labels[row] as usize,
            limit: classes,
        });
    }
    let logits = (Distance::SquaredEuclidean.pairwise(queries, &centres)? * -scale)?;
    Ok(cross_entropy(&logits, query_labels)?.mean_all()?)
}
