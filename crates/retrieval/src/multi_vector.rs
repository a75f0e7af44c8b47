//! Items with several vectors: each part has its own meaning and its own index, and the caller says what weighs how much.

use std::collections::BTreeSet;

use eas_tensor::kernels::dot_rows;
use eas_tensor::{Matrix, top_k};

use crate::RetrievalError;
use crate::fusion::{Fusion, fuse, present_weights};

/// An item and its score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScoredId {
    /// Position of the item.
    pub id: usize,
    /// Larger is better.
    pub score: f64,
}

/// Attributes as one vector: the one-hot codes of the values, each times the square root of its attribute's weight, so that the dot
/// product of two items is the summed weight of the attributes in which they agree.
///
/// `attributes` holds `(value, number of values, weight)`.
///
/// # Errors
/// A value that isn't below the number of values, a weight that is negative or not finite.
///
/// ```
/// use eas_retrieval::multi_vector::attribute_vector;
/// use eas_tensor::kernels::dot;
///
/// // The same brand of 3, another category of 2.
/// let a = attribute_vector(&[(2, 3, 0.25), (0, 2, 0.75)])?;
/// let b = attribute_vector(&[(2, 3, 0.25), (1, 2, 0.75)])?;
/// assert_eq!((dot(&a, &b), a.len()), (0.25, 5));
/// # Ok::<(), eas_retrieval::RetrievalError>(())
/// ```
pub fn attribute_vector(attributes: &[(usize, usize, f64)]) -> Result<Vec<f32>, RetrievalError> {
    let mut vector = Vec::new();
    for &(value, values, weight) in attributes {
        if value >= values {
            return Err(RetrievalError::argument("value of an attribute", &value, "below the number of its values"));
        }
        if !(weight >= 0.0 && weight.is_finite()) {
            return Err(RetrievalError::argument("weight of an attribute", &weight, "zero or more"));
        }
        vector.extend((0..values).map(|v| if v == value { weight.sqrt() as f32 } else { 0.0 }));
    }
    Ok(vector)
}

/// Rows of [`attribute_vector`] from columns: `columns` holds for each attribute the value of every item, the number of values and
/// the weight. Shape (items, summed number of values).
///
/// # Errors
/// As [`attribute_vector`], and columns of different lengths.
pub fn attribute_matrix(columns: &[(&[usize], usize, f64)]) -> Result<Matrix, RetrievalError> {
    let n = columns.first().map_or(0, |column| column.0.len());
    if let Some(column) = columns.iter().find(|column| column.0.len() != n) {
        return Err(RetrievalError::Length { what: "values", given: column.0.len(), of: "items", expected: n });
    }
    let row = |i: usize| attribute_vector(&columns.iter().map(|c| (c.0[i], c.1, c.2)).collect::<Vec<_>>());
    Ok(Matrix::from_rows(&(0..n).map(row).collect::<Result<Vec<_>, _>>()?)?)
}

/// One part of every item.
#[derive(Debug, Clone, PartialEq)]
struct Part {
    vectors: Matrix,
    present: Vec<bool>,
}

/// Items with several vectors, of which some may be missing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MultiVectorIndex {
    parts: Vec<Part>,
}

impl MultiVectorIndex {
    /// An index without parts.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a part: a vector for each item, shape (items, dim), compared by dot product. `present` says which items have one; the
    /// others' rows are never looked at.
    ///
    /// # Errors
    /// Another number of items than before, and values that aren't finite.
    pub fn part(mut self, vectors: Matrix, present: Option<Vec<bool>>) -> Result<Self, RetrievalError> {
        vectors.check_finite()?;
        let expected = self.parts.first().map_or(vectors.rows(), |part| part.present.len());
        let present = present.unwrap_or_else(|| vec![true; vectors.rows()]);
        for (what, given) in [("vectors", vectors.rows()), ("flags", present.len())] {
            if given != expected {
                return Err(RetrievalError::Length { what, given, of: "items", expected });
            }
        }
        self.parts.push(Part { vectors, present });
        Ok(self)
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.parts.first().map_or(0, |part| part.present.len())
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Dot products of the query's parts with every item's; `None` where either lacks the part. Shape (parts, items).
    ///
    /// # Errors
    /// Another number of parts than the index has, a part of another dimension.
    pub fn scores(&self, query: &[Option<&[f32]>]) -> Result<Vec<Vec<Option<f64>>>, RetrievalError> {
        if query.len() != self.parts.len() {
            let (given, expected) = (query.len(), self.parts.len());
            return Err(RetrievalError::Length { what: "parts of the query", given, of: "parts", expected });
        }
        let score = |(part, query): (&Part, Option<&[f32]>)| {
            let Some(query) = query else {
                return Ok(vec![None; part.present.len()]);
            };
            let (given, expected) = (query.len(), part.vectors.dim());
            if given != expected {
                return Err(RetrievalError::Length { what: "values", given, of: "dimensions", expected });
            }
            let dots = dot_rows(query, &part.vectors).into_iter().zip(&part.present);
            Ok(dots.map(|(s, &present)| present.then_some(f64::from(s))).collect())
        };
        self.parts.iter().zip(query.iter().copied()).map(score).collect()
    }

    /// The `k` best items: the `candidates` best of each part are gathered, every one of them is scored in every part, and the scores
    /// are fused. Weights are scaled to sum to 1 over the parts that the query has. `None` gathers all items. Ranks are those among
    /// all items, whatever is gathered; means, deviations and extremes of scores those of the gathered ones.
    ///
    /// # Errors
    /// As [`Self::scores`] and [`fuse`]; `k` or `candidates` of 0.
    pub fn search(
        &self,
        query: &[Option<&[f32]>],
        weights: &[f64],
        fusion: Fusion,
        candidates: Option<usize>,
        k: usize,
    ) -> Result<Vec<ScoredId>, RetrievalError> {
        if k == 0 || candidates == Some(0) {
            return Err(RetrievalError::argument("k or candidates", &0, "at least 1"));
        }
        let scores = self.scores(query)?;
        let present: Vec<bool> = query.iter().map(Option::is_some).collect();
        let weights = present_weights(weights, &present)?;
        let gathered: Vec<usize> = match candidates {
            None => (0..self.len()).collect(),
            Some(candidates) => {
                let parts = scores.iter().zip(&weights).filter(|(_, weight)| **weight > 0.0);
                let best = parts.flat_map(|(list, _)| {
                    let scores: Vec<f32> = list.iter().map(|s| s.map_or(f32::NEG_INFINITY, |s| s as f32)).collect();
                    let found = top_k(&scores, candidates).into_iter();
                    found.map(|hit| hit.id).filter(|&id| list[id].is_some()).collect::<Vec<_>>()
                });
                best.collect::<BTreeSet<usize>>().into_iter().collect()
            }
        };
        let fused = if let Fusion::Rrf { .. } = fusion {
            // Among the gathered items alone, those that are bad in a part would rank too well there.
            let all = fuse(&scores, &weights, fusion)?;
            gathered.iter().map(|&id| all[id]).collect()
        } else {
            let of_gathered = |list: &Vec<Option<f64>>| gathered.iter().map(|&id| list[id]).collect();
            let lists: Vec<Vec<Option<f64>>> = scores.iter().map(of_gathered).collect();
            fuse(&lists, &weights, fusion)?
        };
        let mut found: Vec<ScoredId> =
            gathered.into_iter().zip(fused).map(|(id, score)| ScoredId { id, score }).collect();
        found.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.id.cmp(&b.id)));
        found.truncate(k);
        Ok(found)
    }
}

/// What a search is for: how much meaning, structure and behaviour weigh, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SearchObjective {
    /// What was asked for.
    Relevance,
    /// What people alike have taken.
    Personalization,
    /// Some of each.
    Balanced,
    /// The book's preset for exploring; it weighs structure most and so returns items of one structure.
    Exploration,
}

impl SearchObjective {
    /// All presets.
    pub const ALL: [Self; 4] = [Self::Relevance, Self::Personalization, Self::Balanced, Self::Exploration];

    /// Weights of meaning, structure and behaviour, which sum to 1.
    pub fn weights(self) -> [f64; 3] {
        let weights: [f64; 3] = match self {
            Self::Relevance => [1.0, 0.2, 0.1],
            Self::Personalization => [0.3, 0.2, 1.0],
            Self::Balanced => [0.5, 0.3, 0.2],
            Self::Exploration => [0.3, 0.7, 0.1],
        };
        let total: f64 = weights.iter().sum();
        weights.map(|w| w / total)
    }
}

impl std::str::FromStr for SearchObjective {
    type Err = RetrievalError;

    fn from_str(name: &str) -> Result<Self, RetrievalError> {
        let expected = "relevance, personalization, balanced or exploration";
        Self::ALL
            .into_iter()
            .find(|objective| format!("{objective:?}").eq_ignore_ascii_case(name))
            .ok_or_else(|| RetrievalError::argument("objective", &name, expected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eas_tensor::kernels::dot;
    use eas_tensor::rng::SplitMix64;

    fn random(rng: &mut SplitMix64, rows: usize, dim: usize) -> Matrix {
        let rows: Vec<Vec<f32>> = (0..rows).map(|_| (0..dim).map(|_| rng.normal() as f32).collect()).collect();
        let mut matrix = Matrix::from_rows(&rows).unwrap();
        matrix.normalize_rows();
        matrix
    }

    #[test]
    fn a_weighted_sum_is_one_search_in_joined_vectors() {
        let mut rng = SplitMix64::new(8);
        let (a, b) = (random(&mut rng, 200, 8), random(&mut rng, 200, 5));
        let index = MultiVectorIndex::new().part(a.clone(), None).unwrap().part(b.clone(), None).unwrap();
        let weights: [f64; 2] = [0.7, 0.3];
        for q in 0..20 {
            let (qa, qb) = (a.row(q), b.row(199 - q));
            let found = index.search(&[Some(qa), Some(qb)], &weights, Fusion::WeightedSum, None, 200).unwrap();
            for hit in found {
                let joined =
                    weights[0] * f64::from(dot(qa, a.row(hit.id))) + weights[1] * f64::from(dot(qb, b.row(hit.id)));
                assert!((hit.score - joined).abs() < 1e-9);
            }
        }
    }

    /// Whatever is gathered, an item's fused rank score is the one by its places in the whole lists.
    #[test]
    fn ranks_are_those_among_all_items() {
        let mut rng = SplitMix64::new(10);
        let (a, b) = (random(&mut rng, 100, 8), random(&mut rng, 100, 8));
        let index = MultiVectorIndex::new().part(a.clone(), None).unwrap().part(b.clone(), None).unwrap();
        let (qa, qb) = (a.row(3), b.row(70));
        let place = |query: &[f32], of: &Matrix, id: usize| {
            let own = dot(query, of.row(id));
            1 + of.iter_rows().filter(|row| dot(query, row) > own).count()
        };
        let found = index.search(&[Some(qa), Some(qb)], &[0.5, 0.5], Fusion::Rrf { k: 60.0 }, Some(10), 20).unwrap();
        assert!(found.len() > 10);
        for hit in found {
            let by_place = |place: usize| 0.5 / (60.0 + place as f64);
            assert!((hit.score - by_place(place(qa, &a, hit.id)) - by_place(place(qb, &b, hit.id))).abs() < 1e-12);
        }
    }

    #[test]
    fn missing_parts_shift_the_weights() {
        let mut rng = SplitMix64::new(9);
        let (a, b) = (random(&mut rng, 10, 4), random(&mut rng, 10, 4));
        let present: Vec<bool> = (0..10).map(|i| i != 3).collect();
        let index = MultiVectorIndex::new().part(a.clone(), None).unwrap().part(b, Some(present)).unwrap();
        let found =
            index.search(&[Some(a.row(0)), Some(a.row(1))], &[1.0, 3.0], Fusion::WeightedSum, None, 10).unwrap();
        let three = found.iter().find(|hit| hit.id == 3).unwrap();
        assert!((three.score - f64::from(dot(a.row(0), a.row(3)))).abs() < 1e-6, "the first part alone");
        let alone = index.search(&[Some(a.row(0)), None], &[1.0, 3.0], Fusion::ZScore, Some(4), 4).unwrap();
        let best = top_k(&dot_rows(a.row(0), &a), 4);
        assert_eq!(alone.iter().map(|h| h.id).collect::<Vec<_>>(), best.iter().map(|h| h.id).collect::<Vec<_>>());
    }

    #[test]
    fn presets_sum_to_one_and_unknown_ones_are_errors() {
        for objective in SearchObjective::ALL {
            assert!((objective.weights().iter().sum::<f64>() - 1.0).abs() < 1e-12);
        }
        assert_eq!("exploration".parse::<SearchObjective>().unwrap(), SearchObjective::Exploration);
        assert!("novelty".parse::<SearchObjective>().unwrap_err().to_string().contains("novelty"));
    }

    #[test]
    fn bad_input_is_refused() {
        let index = MultiVectorIndex::new().part(Matrix::zeros(3, 2), None).unwrap();
        assert!(index.clone().part(Matrix::zeros(4, 2), None).is_err());
        assert!(index.clone().part(Matrix::zeros(3, 2), Some(vec![true])).is_err());
        let search = |q: &[f32], w: &[f64], c, k| index.search(&[Some(q)], w, Fusion::ZScore, c, k);
        assert!(search(&[1.0], &[1.0], None, 1).is_err());
        assert!(search(&[1.0, 0.0], &[1.0, 1.0], None, 1).is_err());
        assert!(search(&[1.0, 0.0], &[1.0], None, 0).is_err());
        assert!(search(&[1.0, 0.0], &[1.0], Some(0), 1).is_err());
        assert!(search(&[f32::NAN, 0.0], &[1.0], None, 1).is_err());
        assert!(index.search(&[None], &[1.0], Fusion::ZScore, None, 1).is_err());
        assert_eq!(search(&[1.0, 0.0], &[1.0], Some(2), 9).unwrap().len(), 2);
        assert!(attribute_vector(&[(3, 3, 1.0)]).is_err());
        assert!(attribute_vector(&[(0, 3, f64::NAN)]).is_err());
        assert!(attribute_matrix(&[(&[0, 1], 2, 1.0), (&[0], 2, 1.0)]).is_err());
    }
}
