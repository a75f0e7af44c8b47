//! Searches among the vectors that pass a filter, by three plans that cost least in different places.
//!
//! [`Plan::Exact`] compares every vector that passes: best when few do. [`Plan::Traversal`] walks the graph and lets only what passes
//! into the beam, so that the walk grows with one over the selectivity. [`Plan::OverFetch`] searches without the filter for so many that enough of them pass: best
//! when most do. [`CostModel`] says how many distances each would compute.

use std::fmt;

use crate::index::{Candidate, prepare_query, sorted_hits};
use crate::{AnnError, Hit, Hnsw, Metric, VectorIndex};

/// How a filtered search is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Plan {
    /// Compare all that passes.
    Exact,
    /// Walk the graph with the filter inside.
    Traversal,
    /// Search without the filter for more, then drop what doesn't pass.
    OverFetch,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exact => "exact",
            Self::Traversal => "traversal",
            Self::OverFetch => "over-fetch",
        })
    }
}

/// Hits of a filtered search, and the distances it computed.
#[derive(Debug, Clone, PartialEq)]
pub struct Filtered {
    /// The best vectors that pass, best first.
    pub hits: Vec<Hit>,
    /// Distances computed.
    pub distance_evaluations: u64,
}

/// The `k` best of `rows`, ids and vectors of dimension `query.len()`, by comparing each. The vectors are taken as they are: unit length for [`Metric::Cosine`].
pub fn exact<V: AsRef<[f32]>>(
    metric: Metric,
    query: &[f32],
    k: usize,
    rows: impl IntoIterator<Item = Result<(u64, V), AnnError>>,
) -> Result<Filtered, AnnError> {
    let query = prepare_query(metric, query.len(), query)?;
    let mut best = std::collections::BinaryHeap::with_capacity(k.min(1 << 16) + 1);
    let mut distance_evaluations = 0;
    for row in rows {
        let (id, vector) = row?;
        let vector = vector.as_ref();
        if vector.len() != query.dim() {
            return Err(AnnError::Dimension { expected: query.dim(), got: vector.len() });
        }
        distance_evaluations += 1;
        best.push(Candidate { distance: metric.distance(query.row(0), vector), id });
        if best.len() > k {
            best.pop();
        }
    }
    Ok(Filtered { hits: sorted_hits(metric, best), distance_evaluations })
}

/// A walk through the graph with a beam of `ef` vectors that pass.
pub fn traverse(
    index: &Hnsw,
    query: &[f32],
    k: usize,
    ef: usize,
    keep: &(dyn Fn(u64) -> bool + Sync),
) -> Result<Filtered, AnnError> {
    let (hits, cost) = index.search_counted(query, k, ef, keep)?;
    Ok(Filtered { hits, distance_evaluations: cost.distance_evaluations })
}

/// A search for as many as should hold `k` that pass when a share `selectivity` of all does, and not less than `ef`; for twice as many, again and again, where they
/// don't, as happens when what is near the query passes more rarely than what is far.
pub fn over_fetch(
    index: &Hnsw,
    query: &[f32],
    k: usize,
    ef: usize,
    selectivity: f64,
    keep: &(dyn Fn(u64) -> bool + Sync),
) -> Result<Filtered, AnnError> {
    let wanted = k as f64 / selectivity.clamp(1e-9, 1.0);
    let mut fetch = (wanted.ceil() as usize).max(ef).min(index.len());
    let mut distance_evaluations = 0;
    loop {
        let (mut hits, cost) = index.search_counted(query, fetch, fetch, &|_| true)?;
        distance_evaluations += cost.distance_evaluations;
        hits.retain(|hit| keep(hit.id));
        if hits.len() >= k || fetch == index.len() {
            hits.truncate(k);
            return Ok(Filtered { hits, distance_evaluations });
        }
        fetch = (2 * fetch).min(index.len());
    }
}

/// How many distances a search through an index computes, as a straight line in the width of its beam: measured, not derived.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CostModel {
    /// Distances of a search with a beam of width 0.
    pub base: f64,
    /// Distances more for each place in the beam.
    pub per_ef: f64,
}

impl CostModel {
    /// Fits the line to searches for `queries` with beams of `ef` and of `4 ef`.
    pub fn measure<'a>(
        index: &Hnsw,
        queries: impl IntoIterator<Item = &'a [f32]>,
        ef: usize,
    ) -> Result<Self, AnnError> {
        let (mut narrow, mut wide, mut asked) = (0.0, 0.0, 0.0f64);
        for query in queries {
            let cost = |ef: usize| {
                index.search_counted(query, 1, ef, &|_| true).map(|found| found.1.distance_evaluations as f64)
            };
            narrow += cost(ef)?;
            wide += cost(4 * ef)?;
            asked += 1.0;
        }
        let (narrow, wide) = (narrow / asked.max(1.0), wide / asked.max(1.0));
        let per_ef = (wide - narrow) / (3 * ef).max(1) as f64;
        Ok(Self { base: narrow - per_ef * ef as f64, per_ef })
    }

    /// Distances that `plan` is expected to compute when `matching` of `rows` vectors pass.
    pub fn distances(&self, plan: Plan, rows: usize, matching: usize, k: usize, ef: usize) -> f64 {
        let selectivity = matching.max(1) as f64 / rows.max(1) as f64;
        let search = |width: f64| (self.base + self.per_ef * width).min(rows as f64);
        match plan {
            Plan::Exact => matching as f64,
            Plan::Traversal => search(ef as f64 / selectivity),
            // What is near the query may pass more rarely than the average: half as often is expected. A beam that should hold k
            // does every other time; the others search again with twice the width.
            Plan::OverFetch => {
                let width = 2.0 * k as f64 / selectivity;
                if width <= ef as f64 {
                    search(ef as f64)
                } else {
                    search(width.max(ef as f64)) + 0.5 * search(2.0 * width.max(ef as f64))
                }
            }
        }
    }

    /// The plan that is expected to compute the fewest distances; of equal ones the first.
    pub fn cheapest(&self, rows: usize, matching: usize, k: usize, ef: usize) -> Plan {
        let mut best = Plan::Exact;
        for plan in [Plan::Traversal, Plan::OverFetch] {
            if self.distances(plan, rows, matching, k, ef) < self.distances(best, rows, matching, k, ef) {
                best = plan;
            }
        }
        best
    }
}

/// The rule of thumb: exact below a selectivity of 2 %, over-fetching above 30 %, traversal between. It knows the share and not the number of what passes, so
/// that on a small collection it walks where it should compare.
pub fn by_selectivity(selectivity: f64) -> Plan {
    if selectivity < 0.02 {
        Plan::Exact
    } else if selectivity <= 0.30 {
        Plan::Traversal
    } else {
        Plan::OverFetch
    }
}

#[cfg(test)]
mod tests {
    use eas_tensor::Matrix;
    use eas_tensor::rng::SplitMix64;

    use super::*;
    use crate::{FlatIndex, HnswConfig, recall};

    #[test]
    fn every_plan_finds_what_brute_force_finds() {
        let mut rng = SplitMix64::new(3);
        let mut random = |rows: usize| {
            let values = (0..rows * 8).map(|_| rng.normal() as f32).collect();
            Matrix::from_vec(rows, 8, values).unwrap()
        };
        let (vectors, queries) = (random(4_000), random(30));
        let ids: Vec<u64> = (0..4_000).collect();
        let mut flat = FlatIndex::new(8, Metric::SquaredL2).unwrap();
        let mut graph = Hnsw::new(8, Metric::SquaredL2, HnswConfig::default()).unwrap();
        flat.add(&ids, &vectors).unwrap();
        graph.add(&ids, &vectors).unwrap();
        for one_in in [1, 2, 10, 100, 4_000, 5_000] {
            let keep = |id: u64| id % one_in == one_in - 1;
            let mut answers = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
            for query in queries.iter_rows() {
                let passing = ids.iter().filter(|&&id| keep(id)).map(|&id| Ok((id, vectors.row(id as usize))));
                let found = exact(Metric::SquaredL2, query, 10, passing).unwrap();
                assert_eq!(found.distance_evaluations, 4_000 / one_in);
                answers[0].push(found.hits);
                answers[1].push(traverse(&graph, query, 10, 64, &keep).unwrap().hits);
                answers[2].push(over_fetch(&graph, query, 10, 64, 1.0 / one_in as f64, &keep).unwrap().hits);
                answers[3].push(flat.search_where(query, 10, &keep).unwrap());
            }
            let [exact, walked, fetched, truth] = answers;
            assert_eq!(exact, truth);
            for found in [walked, fetched] {
                assert!(recall(&found, &truth) >= 0.97, "one in {one_in}");
                assert!(found.iter().zip(&truth).all(|(a, b)| a.len() == b.len()));
            }
        }
    }

    #[test]
    fn the_cheapest_plan_changes_with_the_number_that_passes() {
        let model = CostModel { base: 300.0, per_ef: 9.0 };
        let plan = |rows, matching| model.cheapest(rows, matching, 10, 64);
        assert_eq!(plan(1_000_000, 100), Plan::Exact);
        assert_eq!(plan(1_000_000, 900_000), Plan::OverFetch);
        assert_eq!(plan(500, 250), Plan::Exact, "few vectors in all");
        assert_eq!(by_selectivity(0.5), Plan::OverFetch);
        assert_eq!(
            (by_selectivity(0.019), by_selectivity(0.02), by_selectivity(0.3)),
            (Plan::Exact, Plan::Traversal, Plan::Traversal)
        );
    }

    #[test]
    fn bad_rows_are_refused() {
        let ragged = [Ok((1, vec![0.0, 1.0])), Ok((2, vec![0.0]))];
        let error = exact(Metric::Dot, &[1.0, 0.0], 1, ragged).unwrap_err();
        assert!(matches!(error, AnnError::Dimension { expected: 2, got: 1 }));
        assert!(exact::<Vec<f32>>(Metric::Dot, &[f32::NAN], 1, []).is_err());
        assert!(exact(Metric::Dot, &[1.0], 0, [Ok((1, [1.0]))]).unwrap().hits.is_empty());
    }
}
