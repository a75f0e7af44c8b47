//! Classification by the nearest neighbours: what an embedding knows of classes it was never told.

use eas_tensor::gemm::{Epilogue, PackedMatrix};
use eas_tensor::{Matrix, topk};

use crate::EvalError;

/// Queries whose cosines with all rows are held at once.
const QUERIES_AT_A_TIME: usize = 64;

/// The class of each query by majority vote of its `k` nearest rows in cosine; a tie goes to the class whose nearest row comes first.
///
/// `rows` has shape `(n, dim)` with one label a row, `queries` shape `(m, dim)`. An error when there are no rows, when labels or
/// dimensions don't match, when `k` is 0 or more than `n`, and for values that aren't finite.
///
/// ```
/// use eas_tensor::Matrix;
///
/// let rows = Matrix::from_rows(&[[1.0f32, 0.0], [0.9, 0.1], [0.0, 1.0]])?;
/// let queries = Matrix::from_rows(&[[1.0f32, 0.2], [0.1, 2.0]])?;
/// assert_eq!(eas_eval::knn::vote(&rows, &[4, 4, 7], &queries, 1)?, [4, 7]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn vote(rows: &Matrix, labels: &[u32], queries: &Matrix, k: usize) -> Result<Vec<u32>, EvalError> {
    if rows.is_empty() {
        return Err(EvalError::Empty("rows"));
    }
    for (what, left, right) in
        [("labels against rows", labels.len(), rows.rows()), ("dimensions", queries.dim(), rows.dim())]
    {
        if left != right {
            return Err(EvalError::Length { what, left, right });
        }
    }
    if k == 0 || k > rows.rows() {
        return Err(EvalError::Argument { name: "k", got: k.to_string(), expected: "1 to the number of rows" });
    }
    for (what, matrix) in [("rows", rows), ("queries", queries)] {
        if let Some(at) = matrix.as_slice().iter().position(|x| !x.is_finite()) {
            return Err(EvalError::NotFinite { what, at, value: f64::from(matrix.as_slice()[at]) });
        }
    }
    // The length of a query changes no order.
    let mut unit = rows.clone();
    unit.normalize_rows();
    let packed = PackedMatrix::new(&unit);
    let class = |scores: &[f32]| {
        let nearest: Vec<u32> = topk::top_k(scores, k).iter().map(|hit| labels[hit.id]).collect();
        let votes = |class: u32| nearest.iter().filter(|&&c| c == class).count();
        let most = nearest.iter().map(|&c| votes(c)).max().unwrap_or(0);
        nearest.iter().copied().find(|&c| votes(c) == most).unwrap_or_default()
    };
    let mut classes = Vec::with_capacity(queries.rows());
    let mut scores = Vec::new();
    for from in (0..queries.rows()).step_by(QUERIES_AT_A_TIME) {
        let to = queries.rows().min(from + QUERIES_AT_A_TIME);
        scores.resize((to - from) * rows.rows(), 0.0);
        packed.product(&queries.as_slice()[from * queries.dim()..to * queries.dim()], &mut scores, Epilogue::None);
        classes.extend(scores.chunks_exact(rows.rows()).map(class));
    }
    Ok(classes)
}

/// The share of queries for which [`vote`] is right.
pub fn accuracy(rows: &Matrix, labels: &[u32], queries: &Matrix, truth: &[u32], k: usize) -> Result<f64, EvalError> {
    crate::classification::accuracy(&vote(rows, labels, queries, k)?, truth)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(values: &[[f32; 2]]) -> Matrix {
        Matrix::from_rows(values).unwrap()
    }

    #[test]
    fn votes_are_counted_by_angle_and_ties_go_to_the_nearest() {
        let rows = points(&[[1.0, 0.0], [5.0, 1.0], [0.0, 1.0], [0.2, 9.0], [-1.0, 0.0]]);
        let labels = [1, 1, 2, 2, 3];
        let queries = points(&[[10.0, 0.5], [0.01, 0.5], [-3.0, 0.1], [0.7, 0.7]]);
        assert_eq!(vote(&rows, &labels, &queries, 1).unwrap(), [1, 2, 3, 1]);
        // Of two neighbours of two classes the nearer one decides; all five are a tie of 1 and 2.
        assert_eq!(vote(&rows, &labels, &queries, 5).unwrap(), [1, 2, 2, 1]);
        assert_eq!(accuracy(&rows, &labels, &queries, &[1, 2, 3, 2], 1).unwrap(), 0.75);
    }

    /// Against a vote counted by sorting all distances of random points.
    #[test]
    fn the_majority_is_that_of_sorted_distances() {
        let mut rng = eas_tensor::rng::SplitMix64::new(3);
        let mut draw = |n: usize| Matrix::from_vec(n, 4, (0..4 * n).map(|_| rng.normal() as f32).collect()).unwrap();
        let (rows, queries) = (draw(60), draw(3 * QUERIES_AT_A_TIME - 5));
        let labels: Vec<u32> = (0..60).map(|i| i % 3).collect();
        for (query, class) in queries.iter_rows().zip(vote(&rows, &labels, &queries, 7).unwrap()) {
            let cosine = |i: &usize| {
                let row = rows.row(*i);
                let dot: f64 = row.iter().zip(query).map(|(a, b)| f64::from(a * b)).sum();
                dot / row.iter().map(|a| f64::from(a * a)).sum::<f64>().sqrt()
            };
            let mut order: Vec<usize> = (0..60).collect();
            order.sort_by(|x, y| cosine(y).total_cmp(&cosine(x)));
            let count = |c: u32| order[..7].iter().filter(|&&i| labels[i] == c).count();
            assert_eq!(count(class), (0..3).map(count).max().unwrap());
        }
    }

    #[test]
    fn bad_input_is_refused() {
        let rows = points(&[[1.0, 0.0], [0.0, 1.0]]);
        let nan = points(&[[f32::NAN, 0.0]]);
        assert!(vote(&Matrix::zeros(0, 2), &[], &rows, 1).is_err());
        assert!(vote(&rows, &[1], &rows, 1).is_err());
        assert!(vote(&rows, &[1, 2], &Matrix::zeros(1, 3), 1).is_err());
        assert!(vote(&rows, &[1, 2], &rows, 0).is_err() && vote(&rows, &[1, 2], &rows, 3).is_err());
        assert!(vote(&rows, &[1, 2], &nan, 1).is_err());
        assert!(accuracy(&rows, &[1, 2], &rows, &[1], 1).is_err());
        // Vectors without values are all alike: the first row decides.
        assert_eq!(vote(&Matrix::zeros(2, 0), &[5, 6], &Matrix::zeros(3, 0), 1).unwrap(), [5; 3]);
    }
}
