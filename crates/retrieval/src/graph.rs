//! Directed graphs of citations (or any links): who shares sources with whom, who is cited together, who matters, and how to
//! spread vectors along the edges.

use crate::RetrievalError;
use eas_tensor::Matrix;
use rayon::prelude::*;

/// Links between nodes `0..n`: an edge runs from the citing node to the cited one. The reverse lists are derived, never given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CitationGraph {
    cites: Vec<Vec<usize>>,
    cited_by: Vec<Vec<usize>>,
}

/// How much two sets of neighbours have in common.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Overlap {
    /// Neighbours that both have.
    pub shared: usize,
    /// Shared over all distinct neighbours; 0 when there are none.
    pub jaccard: f64,
    /// Shared over the geometric mean of the two counts (Salton's cosine); 0 when either has none.
    pub salton: f64,
}

impl CitationGraph {
    /// A graph of `n` nodes; an edge given twice counts once. An error for a node outside `0..n` or one that cites itself.
    pub fn new(n: usize, edges: &[(usize, usize)]) -> Result<Self, RetrievalError> {
        let mut cites = vec![Vec::new(); n];
        let mut cited_by = vec![Vec::new(); n];
        let mut sorted = edges.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        for (from, to) in sorted {
            let edge = || format!("{from} -> {to}");
            if from >= n || to >= n {
                return Err(RetrievalError::argument("edge", &edge(), "one between nodes of the graph"));
            }
            if from == to {
                return Err(RetrievalError::argument("edge", &edge(), "one to another node"));
            }
            cites[from].push(to);
            cited_by[to].push(from);
        }
        Ok(Self { cites, cited_by })
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.cites.len()
    }

    /// True when there are no nodes.
    pub fn is_empty(&self) -> bool {
        self.cites.is_empty()
    }

    /// What node `x` cites, ascending. Panics when there is no such node, as slice indexing does.
    pub fn cites(&self, x: usize) -> &[usize] {
        &self.cites[x]
    }

    /// What cites node `x`, ascending. Panics when there is no such node, as slice indexing does.
    pub fn cited_by(&self, x: usize) -> &[usize] {
        &self.cited_by[x]
    }

    /// The graph with every edge turned round.
    #[must_use]
    pub fn transpose(&self) -> Self {
        Self { cites: self.cited_by.clone(), cited_by: self.cites.clone() }
    }

    /// Bibliographic coupling: the references that `a` and `b` share (Kessler 1963). Fixed from the day of publication.
    pub fn coupling(&self, a: usize, b: usize) -> Overlap {
        overlap(&self.cites[a], &self.cites[b])
    }

    /// Co-citation: the later papers that cite both `a` and `b` (Small 1973). Grows with time.
    pub fn cocitation(&self, a: usize, b: usize) -> Overlap {
        overlap(&self.cited_by[a], &self.cited_by[b])
    }

    /// The nodes that cite something that cites `x`, ascending and without `x` itself.
    pub fn two_hop(&self, x: usize) -> Vec<usize> {
        let far = self.cited_by[x].iter().flat_map(|&citer| &self.cited_by[citer]);
        let mut found: Vec<usize> = far.copied().filter(|&node| node != x).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// PageRank (Brin and Page 1998): where a reader ends up who follows a random reference with probability `damping` and
    /// else starts anew anywhere; from a node without references the reader starts anew as well. Sums to 1; iterated until
    /// the ranks change by less than 1e-12 in total.
    pub fn pagerank(&self, damping: f64) -> Result<Vec<f64>, RetrievalError> {
        if !(0.0..1.0).contains(&damping) {
            return Err(RetrievalError::argument("damping", &damping, "at least 0 and below 1"));
        }
        let n = self.len() as f64;
        let mut rank = vec![1.0 / n; self.len()];
        // Each round shrinks the error by the damping factor.
        for _ in 0..10_000 {
            let dangling: f64 = (0..self.len()).filter(|&i| self.cites[i].is_empty()).map(|i| rank[i]).sum();
            let anew = (1.0 - damping + damping * dangling) / n;
            let share = |&citer: &usize| rank[citer] / self.cites[citer].len() as f64;
            let next: Vec<f64> =
                self.cited_by.iter().map(|from| anew + damping * from.iter().map(share).sum::<f64>()).collect();
            let change: f64 = next.iter().zip(&rank).map(|(a, b)| (a - b).abs()).sum();
            rank = next;
            if change < 1e-12 {
                break;
            }
        }
        Ok(rank)
    }

    /// Mixes into each row of `vectors` (one a node) the mean of its neighbours in either direction, `rounds` times:
    /// `z <- (1 - alpha) x + alpha mean(z of neighbours)`, scaled back to unit length. Nodes without neighbours keep their
    /// row, and `alpha = 0` changes nothing at all.
    ///
    /// A paper in an unusual vocabulary thus inherits part of the usual one from what it cites and what cites it.
    pub fn smooth(&self, vectors: &Matrix, alpha: f64, rounds: usize) -> Result<Matrix, RetrievalError> {
        if !(0.0..=1.0).contains(&alpha) {
            return Err(RetrievalError::argument("alpha", &alpha, "between 0 and 1"));
        }
        if vectors.rows() != self.len() {
            return Err(RetrievalError::Length {
                what: "vectors",
                given: vectors.rows(),
                of: "nodes",
                expected: self.len(),
            });
        }
        vectors.check_finite()?;
        let mut current = vectors.clone();
        if alpha == 0.0 || vectors.dim() == 0 {
            return Ok(current);
        }
        for _ in 0..rounds {
            let mut next = vectors.clone();
            next.as_mut_slice().par_chunks_exact_mut(vectors.dim()).enumerate().for_each(|(node, row)| {
                let (cites, cited_by) = (&self.cites[node], &self.cited_by[node]);
                let count = cites.len() + cited_by.len();
                if count == 0 {
                    return;
                }
                let mut sum = vec![0.0f32; row.len()];
                for &neighbour in cites.iter().chain(cited_by) {
                    for (s, x) in sum.iter_mut().zip(current.row(neighbour)) {
                        *s += x;
                    }
                }
                let (own, others) = ((1.0 - alpha) as f32, (alpha / count as f64) as f32);
                for (x, s) in row.iter_mut().zip(&sum) {
                    *x = own * *x + others * s;
                }
            });
            next.normalize_rows();
            for node in (0..self.len()).filter(|&i| self.cites[i].is_empty() && self.cited_by[i].is_empty()) {
                next.row_mut(node).copy_from_slice(vectors.row(node));
            }
            current = next;
        }
        Ok(current)
    }
}

/// Both lists ascend.
fn overlap(a: &[usize], b: &[usize]) -> Overlap {
    let shared = a.iter().filter(|x| b.binary_search(x).is_ok()).count();
    let ratio = |whole: f64| if whole > 0.0 { shared as f64 / whole } else { 0.0 };
    Overlap {
        shared,
        jaccard: ratio((a.len() + b.len() - shared) as f64),
        salton: ratio(((a.len() * b.len()) as f64).sqrt()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_abs_diff_eq;
    use proptest::prelude::*;

    /// Papers 1 to 4 as nodes 0 to 3: 1 cites 4; 2 cites 1 and 4; 3 cites 1.
    fn fixture() -> CitationGraph {
        CitationGraph::new(4, &[(0, 3), (1, 0), (1, 3), (2, 0)]).unwrap()
    }

    #[test]
    fn the_four_papers() {
        let graph = fixture();
        let (one, two, three, four) = (0, 1, 2, 3);
        assert_abs_diff_eq!(graph.coupling(one, two).jaccard, 0.5);
        assert_abs_diff_eq!(graph.coupling(two, three).jaccard, 0.5);
        assert_eq!(graph.coupling(one, three), Overlap { shared: 0, jaccard: 0.0, salton: 0.0 });
        assert_abs_diff_eq!(graph.cocitation(one, four).jaccard, 1.0 / 3.0, epsilon = 1e-12);
        assert_abs_diff_eq!(graph.cocitation(one, four).salton, 0.5, epsilon = 1e-12);
        assert_eq!(graph.two_hop(four), [two, three]);
        let expected = [0.298_018_667, 0.130_997_216, 0.130_997_216, 0.439_986_900];
        for (got, expected) in graph.pagerank(0.85).unwrap().iter().zip(expected) {
            assert_abs_diff_eq!(*got, expected, epsilon = 1e-8);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn measures_are_symmetric_and_transpose_into_each_other(
            edges in prop::collection::vec((0usize..9, 0usize..9), 0..40)
        ) {
            let edges: Vec<(usize, usize)> = edges.into_iter().filter(|(a, b)| a != b).collect();
            let graph = CitationGraph::new(9, &edges).unwrap();
            let turned = graph.transpose();
            for a in 0..9 {
                for &b in graph.cites(a) {
                    prop_assert!(graph.cited_by(b).contains(&a));
                }
                for b in 0..9 {
                    prop_assert_eq!(graph.coupling(a, b), graph.coupling(b, a));
                    prop_assert_eq!(graph.coupling(a, b), turned.cocitation(a, b));
                }
            }
            let rank = graph.pagerank(0.85).unwrap();
            prop_assert!((rank.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            prop_assert!(rank.iter().all(|&r| r > 0.0));
        }
    }

    #[test]
    fn smoothing_mixes_in_the_neighbours() {
        let vectors = Matrix::from_rows(&[[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]).unwrap();
        let graph = CitationGraph::new(3, &[(0, 1)]).unwrap();
        assert_eq!(graph.smooth(&vectors, 0.0, 5).unwrap(), vectors);
        assert_eq!(graph.smooth(&vectors, 0.3, 0).unwrap(), vectors);
        let once = graph.smooth(&vectors, 0.25, 1).unwrap();
        let norm = (0.75f32 * 0.75 + 0.25 * 0.25).sqrt();
        assert_abs_diff_eq!(once.row(0)[0], 0.75 / norm, epsilon = 1e-6);
        assert_abs_diff_eq!(once.row(0)[1], 0.25 / norm, epsilon = 1e-6);
        assert_eq!(once.row(2), vectors.row(2));
    }

    #[test]
    fn bad_input_is_refused() {
        assert!(CitationGraph::new(2, &[(0, 2)]).is_err());
        assert!(CitationGraph::new(2, &[(1, 1)]).is_err());
        let graph = fixture();
        assert!(graph.pagerank(1.0).is_err() && graph.pagerank(f64::NAN).is_err());
        assert!(graph.smooth(&Matrix::zeros(3, 2), 0.3, 1).is_err());
        assert!(graph.smooth(&Matrix::zeros(4, 2), 1.5, 1).is_err());
        assert_eq!(CitationGraph::new(0, &[]).unwrap().pagerank(0.85).unwrap(), Vec::<f64>::new());
    }
}
