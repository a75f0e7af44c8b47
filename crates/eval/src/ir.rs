//! The usual retrieval report of an embedding model: every query against a whole corpus by cosine, as sentence-transformers'
//! information-retrieval evaluator has it.

use crate::EvalError;
use crate::error::{mean, not_empty, same_length};
use eas_tensor::{Matrix, kernels, top_k};
use std::collections::BTreeSet;

/// The cut-offs of accuracy, precision and recall.
pub const CUTOFFS: [usize; 4] = [1, 3, 5, 10];

/// Means over the queries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IrReport {
    /// Share of queries with a relevant text among the first 1, 3, 5 and 10.
    pub accuracy: [f64; 4],
    /// Share of the first 1, 3, 5 and 10 that are relevant.
    pub precision: [f64; 4],
    /// Share of the relevant texts that are among the first 1, 3, 5 and 10.
    pub recall: [f64; 4],
    /// One over the rank of the first relevant text, 0 beyond 10.
    pub mrr_10: f64,
    /// Discounted cumulative gain of the first 10.
    pub ndcg_10: f64,
    /// Average precision of the first 100.
    pub map_100: f64,
}

impl IrReport {
    /// Ranks the rows of `corpus` for each row of `queries` by dot product (both at unit length: by cosine), ties by lower row.
    /// `relevant` names the rows that answer each query: all of them, where several hold the same text.
    ///
    /// An error for a query without a relevant row, one that isn't in the corpus, different dimensions or nothing to rank.
    pub fn new(queries: &Matrix, corpus: &Matrix, relevant: &[Vec<usize>]) -> Result<Self, EvalError> {
        not_empty("corpus", corpus.as_slice())?;
        not_empty("queries", queries.as_slice())?;
        same_length("queries", queries.rows(), relevant.len())?;
        same_length("dimensions", queries.dim(), corpus.dim())?;
        let mut columns: [Vec<f64>; 15] = std::array::from_fn(|_| Vec::with_capacity(relevant.len()));
        for (query, relevant) in queries.iter_rows().zip(relevant) {
            if let Some(stranger) = relevant.iter().find(|&&row| row >= corpus.rows()) {
                let (got, expected) = (stranger.to_string(), "a row of the corpus");
                return Err(EvalError::Argument { name: "relevant", got, expected });
            }
            let wanted: BTreeSet<usize> = relevant.iter().copied().collect();
            if wanted.is_empty() {
                return Err(EvalError::NoRelevant);
            }
            let ranked = top_k(&kernels::dot_rows(query, corpus), 100);
            // Ranks, from 1, of the relevant rows found.
            let ranks: Vec<usize> =
                (1..).zip(&ranked).filter(|(_, hit)| wanted.contains(&hit.id)).map(|(rank, _)| rank).collect();
            for (at, &k) in CUTOFFS.iter().enumerate() {
                let found = ranks.iter().filter(|&&rank| rank <= k).count() as f64;
                columns[at].push(found.min(1.0));
                columns[4 + at].push(found / k as f64);
                columns[8 + at].push(found / wanted.len() as f64);
            }
            let gain = |rank: usize| if rank <= 10 { 1.0 / (rank as f64 + 1.0).log2() } else { 0.0 };
            let ideal: f64 = (1..=wanted.len()).map(gain).sum();
            columns[12].push(ranks.first().filter(|&&rank| rank <= 10).map_or(0.0, |&rank| 1.0 / rank as f64));
            columns[13].push(ranks.iter().map(|&rank| gain(rank)).sum::<f64>() / ideal);
            let precisions = (1..).zip(&ranks).map(|(found, &rank)| f64::from(found) / rank as f64);
            columns[14].push(precisions.sum::<f64>() / wanted.len() as f64);
        }
        let means = columns.map(|column| mean(&column));
        let four = |from: usize| [means[from], means[from + 1], means[from + 2], means[from + 3]];
        Ok(Self {
            accuracy: four(0),
            precision: four(4),
            recall: four(8),
            mrr_10: means[12],
            ndcg_10: means[13],
            map_100: means[14],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_corpus_by_hand() {
        let corpus = Matrix::from_rows(&[[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-1.0, 0.0]]).unwrap();
        let queries = Matrix::from_rows(&[[1.0, 0.0], [0.0, 1.0]]).unwrap();
        // Orders: 0 1 2 3 and 2 1 0 3.
        let report = IrReport::new(&queries, &corpus, &[vec![0], vec![0, 1]]).unwrap();
        assert_eq!(report.accuracy, [0.5, 1.0, 1.0, 1.0]);
        for (got, expected) in report.precision.iter().zip([0.5, 0.5, 0.3, 0.15]) {
            assert!((got - expected).abs() < 1e-12);
        }
        assert_eq!(report.recall, [0.5, 1.0, 1.0, 1.0]);
        assert_eq!(report.mrr_10, f64::midpoint(1.0, 0.5));
        assert_eq!(report.map_100, f64::midpoint(1.0, f64::midpoint(0.5, 2.0 / 3.0)));
        let dcg = 1.0 / 3f64.log2() + 0.5;
        let ideal = 1.0 + 1.0 / 3f64.log2();
        assert!((report.ndcg_10 - f64::midpoint(1.0, dcg / ideal)).abs() < 1e-12);
    }

    #[test]
    fn the_metrics_are_those_of_the_ranked_lists() {
        use crate::retrieval::{average_precision, ndcg_at_k, precision_at_k, recall_at_k, reciprocal_rank};
        let mut rng = eas_tensor::rng::SplitMix64::new(1);
        let mut draw = |n: usize| Matrix::from_vec(n, 4, (0..4 * n).map(|_| rng.normal() as f32).collect()).unwrap();
        let (corpus, queries) = (draw(150), draw(20));
        let relevant: Vec<Vec<usize>> =
            (0..20).map(|q| (0..=q % 13).map(|i| (7 * q + 11 * i) % 150).collect()).collect();
        let report = IrReport::new(&queries, &corpus, &relevant).unwrap();
        let mut sums = [0.0; 5];
        for (query, wanted) in queries.iter_rows().zip(&relevant) {
            let ranked: Vec<usize> = top_k(&kernels::dot_rows(query, &corpus), 100).iter().map(|hit| hit.id).collect();
            let grades: Vec<(usize, u32)> = wanted.iter().map(|&row| (row, 1)).collect();
            sums[0] += recall_at_k(&ranked, wanted, 5).unwrap();
            sums[1] += precision_at_k(&ranked, wanted, 10).unwrap();
            sums[2] += reciprocal_rank(&ranked[..10], wanted).unwrap();
            sums[3] += ndcg_at_k(&ranked, &grades, 10).unwrap();
            sums[4] += average_precision(&ranked, wanted).unwrap();
        }
        let got = [report.recall[2], report.precision[3], report.mrr_10, report.ndcg_10, report.map_100];
        for (got, sum) in got.iter().zip(sums) {
            assert!((got - sum / 20.0).abs() < 1e-12, "{got} {}", sum / 20.0);
        }
    }

    #[test]
    fn bad_input_is_refused() {
        let rows = Matrix::from_rows(&[[1.0, 0.0]]).unwrap();
        assert!(IrReport::new(&rows, &rows, &[vec![1]]).is_err());
        assert!(IrReport::new(&rows, &rows, &[vec![]]).is_err());
        assert!(IrReport::new(&rows, &rows, &[]).is_err());
        assert!(IrReport::new(&Matrix::zeros(0, 2), &rows, &[]).is_err());
        assert!(IrReport::new(&Matrix::zeros(1, 3), &rows, &[vec![0]]).is_err());
    }
}
