//! The best `k` of many scores with a bounded heap, and the one order in which the workspace ranks: higher score
//! first, equal scores by lower id, NaN after every number.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use rayon::prelude::*;

use crate::kernels::squared_l2;
use crate::{Matrix, TensorError};

/// An item and its score. The greater of two is the one that ranks first, so sorting in descending order ranks.
#[derive(Debug, Clone, Copy)]
pub struct Scored {
    /// The item.
    pub id: usize,
    /// Its score; higher is better.
    pub score: f32,
}

impl Ord for Scored {
    fn cmp(&self, other: &Self) -> Ordering {
        compare_scores(self.score, other.score).then(other.id.cmp(&self.id))
    }
}

impl PartialOrd for Scored {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scored {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scored {}

/// Orders scores from bad to good: NaN below every number, the two zeros equal.
pub fn compare_scores(a: f32, b: f32) -> Ordering {
    // NaN of either sign would be an extreme of `total_cmp`; adding zero turns -0.0 into 0.0.
    match (a.is_nan(), b.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (false, false) => (a + 0.0).total_cmp(&(b + 0.0)),
    }
}

/// Keeps the best `k` of the items pushed, in `O(log k)` each.
///
/// ```
/// use eas_tensor::topk::TopK;
///
/// let mut best = TopK::new(2);
/// for (id, score) in [(7, 0.5), (3, 0.9), (1, 0.5)] {
///     best.push(id, score);
/// }
/// let ids: Vec<usize> = best.into_sorted_vec().iter().map(|s| s.id).collect();
/// assert_eq!(ids, [3, 1]);
/// ```
#[derive(Debug, Clone)]
pub struct TopK {
    k: usize,
    worst_first: BinaryHeap<Reverse<Scored>>,
}

impl TopK {
    /// An empty selection of at most `k` items; with `k = 0` it stays empty.
    pub fn new(k: usize) -> Self {
        Self { k, worst_first: BinaryHeap::new() }
    }

    /// Offers an item; true when it is among the `k` best offered up to here.
    pub fn push(&mut self, id: usize, score: f32) -> bool {
        let item = Scored { id, score };
        if self.worst_first.len() < self.k {
            self.worst_first.push(Reverse(item));
            return true;
        }
        match self.worst_first.peek_mut() {
            Some(mut worst) if item > worst.0 => {
                *worst = Reverse(item);
                true
            }
            _ => false,
        }
    }

    /// The last of the `k` items kept; `None` while fewer than `k` were pushed, when anything is still accepted.
    pub fn worst(&self) -> Option<Scored> {
        if self.worst_first.len() < self.k {
            return None;
        }
        self.worst_first.peek().map(|item| item.0)
    }

    /// Items kept.
    pub fn len(&self) -> usize {
        self.worst_first.len()
    }

    /// True when nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.worst_first.is_empty()
    }

    /// The items kept, best first.
    pub fn into_sorted_vec(self) -> Vec<Scored> {
        // `Reverse` sorted ascending is best first.
        self.worst_first.into_sorted_vec().into_iter().map(|item| item.0).collect()
    }
}

/// The `k` best of `scores` with their positions as ids, best first; all of them when `k` exceeds their number, none
/// when `k` is 0.
pub fn top_k(scores: &[f32], k: usize) -> Vec<Scored> {
    let mut best = TopK::new(k);
    for (id, &score) in scores.iter().enumerate() {
        best.push(id, score);
    }
    best.into_sorted_vec()
}

/// Rows that a thread of [`nearest_rows`] compares before it takes the next ones.
const ROWS_A_JOB: usize = 1_024;

/// What [`nearest_rows`] found, and what it did for it.
#[derive(Debug, Clone, PartialEq)]
pub struct NearestRows {
    /// The nearest rows, nearest first, equal distances by lower row. A score is the negated squared Euclidean distance.
    pub best: Vec<Scored>,
    /// Distances computed.
    pub distances: usize,
}

/// The `k` rows nearest to `query`, by comparing it with every one; of the distances each thread keeps `k`. All threads of the pool share
/// the work, and their number doesn't show in the result.
pub fn nearest_rows(query: &[f32], rows: &Matrix, k: usize) -> Result<NearestRows, TensorError> {
    if rows.rows() > 0 && query.len() != rows.dim() {
        return Err(TensorError::Dimension { expected: rows.dim(), got: query.len() });
    }
    let jobs: Vec<(Vec<Scored>, usize)> = (0..rows.rows().div_ceil(ROWS_A_JOB))
        .into_par_iter()
        .map(|job| {
            let first = job * ROWS_A_JOB;
            let (mut best, mut distances) = (TopK::new(k), 0);
            for row in first..rows.rows().min(first + ROWS_A_JOB) {
                best.push(row, -squared_l2(query, rows.row(row)));
                distances += 1;
            }
            (best.into_sorted_vec(), distances)
        })
        .collect();
    let (mut best, mut distances) = (TopK::new(k), 0);
    for (items, computed) in jobs {
        for item in items {
            best.push(item.id, item.score);
        }
        distances += computed;
    }
    Ok(NearestRows { best: best.into_sorted_vec(), distances })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ids(best: &[Scored]) -> Vec<usize> {
        best.iter().map(|s| s.id).collect()
    }

    #[test]
    fn ties_go_to_the_lower_id_in_whatever_order_they_come() {
        let scores = [0.5, 0.9, 0.5, 0.9, 0.5];
        assert_eq!(ids(&top_k(&scores, 3)), [1, 3, 0]);
        let mut best = TopK::new(3);
        for id in (0..5).rev() {
            best.push(id, scores[id]);
        }
        assert_eq!(best.worst().map(|s| s.id), Some(0));
        assert_eq!(ids(&best.into_sorted_vec()), [1, 3, 0]);
        assert_eq!(ids(&top_k(&[-0.0, 0.0], 2)), [0, 1]);
    }

    #[test]
    fn nan_ranks_after_every_number() {
        let scores = [f32::NAN, f32::NEG_INFINITY, -f32::NAN, 1.0];
        assert_eq!(ids(&top_k(&scores, 4)), [3, 1, 0, 2]);
        assert_eq!(ids(&top_k(&scores, 2)), [3, 1]);
    }

    #[test]
    fn zero_and_too_many_are_defined() {
        assert!(top_k(&[1.0, 2.0], 0).is_empty());
        assert!(top_k(&[], 3).is_empty());
        assert_eq!(ids(&top_k(&[1.0, 2.0], 5)), [1, 0]);
        let mut none = TopK::new(0);
        assert!(!none.push(0, 1.0));
        assert_eq!((none.len(), none.is_empty(), none.worst()), (0, true, None));
    }

    #[test]
    fn nearest_rows_equal_a_full_sort_with_ties_by_row() {
        // Values from a few integers, so that many distances are equal.
        let mut rng = crate::rng::SplitMix64::new(4);
        let values = (0..3_000 * 3).map(|_| rng.below(4) as f32).collect();
        let rows = Matrix::from_vec(3_000, 3, values).unwrap();
        let query = [1.0, 2.0, 0.0];
        let mut all: Vec<(i64, usize)> = rows
            .iter_rows()
            .map(|row| row.iter().zip(query).map(|(a, b)| ((a - b) * (a - b)) as i64).sum())
            .zip(0..)
            .collect();
        all.sort_unstable();
        for k in [0, 1, 100, 2_999, 5_000] {
            let expected: Vec<usize> = all.iter().take(k).map(|item| item.1).collect();
            let found = nearest_rows(&query, &rows, k).unwrap();
            assert_eq!((ids(&found.best), found.distances), (expected, 3_000));
        }
        assert!(nearest_rows(&[1.0], &rows, 1).is_err());
        assert!(nearest_rows(&[1.0], &Matrix::zeros(0, 0), 1).unwrap().best.is_empty());
    }

    proptest! {
        #[test]
        fn equals_a_full_sort(scores in prop::collection::vec(prop_oneof![-3.0f32..3.0, Just(1.0), Just(f32::NAN)], 0..80), k in 0usize..90) {
            let mut all: Vec<usize> = (0..scores.len()).collect();
            all.sort_by(|&a, &b| {
                let key = |i: usize| if scores[i].is_nan() { f32::NEG_INFINITY } else { scores[i] };
                key(b).total_cmp(&key(a)).then(a.cmp(&b))
            });
            all.truncate(k);
            prop_assert_eq!(ids(&top_k(&scores, k)), all);
        }
    }
}
