//! Search over documents that have a text, an image and a sound, or only some of these, in one embedding space.

use std::collections::BTreeMap;

use eas_ann::Hit;
use eas_tensor::kernels::dot;
use eas_tensor::topk::compare_scores;
use eas_tensor::{Matrix, TensorError};

use crate::RetrievalError;

/// A kind of input with an encoder of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Modality {
    /// Captions, descriptions, words.
    Text,
    /// Pictures.
    Image,
    /// Sounds.
    Audio,
}

/// All modalities, in the order of their indexes.
const MODALITIES: [Modality; 3] = [Modality::Text, Modality::Image, Modality::Audio];

/// A query of one to three embedded parts with weights.
///
/// ```
/// use eas_retrieval::multimodal::{Modality, MultiModalQuery};
///
/// let query = MultiModalQuery::new()
///     .with(Modality::Text, vec![1.0, 0.0], 0.6)
///     .with(Modality::Image, vec![0.0, 1.0], 0.4);
/// assert_eq!(query.parts().len(), 2);
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MultiModalQuery {
    parts: Vec<(Modality, Vec<f32>, f32)>,
}

impl MultiModalQuery {
    /// A query without parts, to be filled by [`MultiModalQuery::with`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a part; `vector` is the output of the modality's encoder, a unit vector.
    #[must_use]
    pub fn with(mut self, modality: Modality, vector: Vec<f32>, weight: f32) -> Self {
        self.parts.push((modality, vector, weight));
        self
    }

    /// The parts given, equally weighted.
    #[must_use]
    pub fn equal(parts: impl IntoIterator<Item = (Modality, Vec<f32>)>) -> Self {
        let parts: Vec<_> = parts.into_iter().collect();
        let weight = 1.0 / parts.len().max(1) as f32;
        let weighted = parts.into_iter().map(|(modality, vector)| (modality, vector, weight));
        Self { parts: weighted.collect() }
    }

    /// Modality, vector and weight of each part.
    pub fn parts(&self) -> &[(Modality, Vec<f32>, f32)] {
        &self.parts
    }
}

/// What makes cosines of different modalities comparable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Calibration {
    /// Cosines as they are.
    Raw,
    /// Each cosine in standard deviations from the mean of the same query part over all entries of the same modality. The gap
    /// between modalities (captions lie closer to captions than to pictures, whatever they say) cancels.
    Background,
}

/// One similarity behind a score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Similarity {
    /// Modality of the query part.
    pub query: Modality,
    /// Modality of the document's entry.
    pub document: Modality,
    /// Their cosine, calibrated as the index is.
    pub value: f32,
}

/// Vectors of documents by modality; a document has at most one of each.
#[derive(Debug, Clone)]
pub struct CrossModalIndex {
    dim: usize,
    calibration: Calibration,
    shelves: [Shelf; 3],
}

/// The entries of one modality: rows, the documents they belong to, and where each document's row is.
#[derive(Debug, Clone, Default)]
struct Shelf {
    rows: Vec<f32>,
    ids: Vec<u64>,
    position: BTreeMap<u64, usize>,
}

impl CrossModalIndex {
    /// An empty index of vectors of dimension `dim`.
    pub fn new(dim: usize, calibration: Calibration) -> Self {
        Self { dim, calibration, shelves: Default::default() }
    }

    /// Number of entries of a modality.
    pub fn len(&self, modality: Modality) -> usize {
        self.shelves[modality as usize].ids.len()
    }

    /// Sets the vector of a document in one modality, replacing an earlier one. The vector must be finite and of the index's
    /// dimension; it is scaled to unit length.
    pub fn upsert(&mut self, id: u64, modality: Modality, vector: &[f32]) -> Result<(), RetrievalError> {
        let unit = self.unit(vector)?;
        let shelf = &mut self.shelves[modality as usize];
        if let Some(&at) = shelf.position.get(&id) {
            shelf.rows[at * self.dim..(at + 1) * self.dim].copy_from_slice(&unit);
        } else {
            shelf.position.insert(id, shelf.ids.len());
            shelf.ids.push(id);
            shelf.rows.extend(unit);
        }
        Ok(())
    }

    /// The `k` best documents for which `filter` is true, best first, ties by lower id.
    ///
    /// A document's score is the sum over the query's parts of weight times the *largest* similarity among the document's
    /// modalities: one good match counts, three weak ones don't add up to it. A document without some modality is scored by those
    /// it has. Fewer than `k` hits come back when fewer documents pass; a query without parts is an error.
    pub fn search(
        &self,
        query: &MultiModalQuery,
        k: usize,
        filter: impl Fn(u64) -> bool,
    ) -> Result<Vec<Hit>, RetrievalError> {
        let mut best: BTreeMap<u64, Vec<f32>> = BTreeMap::new();
        let parts = self.check(query)?;
        for (part, vector) in parts.iter().enumerate() {
            for modality in MODALITIES {
                let shelf = &self.shelves[modality as usize];
                for (&id, value) in shelf.ids.iter().zip(self.similarities(vector, modality)) {
                    let scores = best.entry(id).or_insert_with(|| vec![f32::NEG_INFINITY; parts.len()]);
                    scores[part] = scores[part].max(value);
                }
            }
        }
        let mut hits: Vec<Hit> = best
            .into_iter()
            .filter(|&(id, _)| filter(id))
            .map(|(id, scores)| {
                let weighted = query.parts.iter().zip(scores).map(|((_, _, weight), score)| weight * score);
                Hit { id, score: weighted.sum() }
            })
            .collect();
        hits.sort_by(|a, b| compare_scores(b.score, a.score).then(a.id.cmp(&b.id)));
        hits.truncate(k);
        Ok(hits)
    }

    /// Every similarity of a document to the query, by query part and modality of the document: what its score is made of.
    pub fn explain(&self, query: &MultiModalQuery, id: u64) -> Result<Vec<Similarity>, RetrievalError> {
        let mut explained = Vec::new();
        for ((part, _, _), vector) in query.parts.iter().zip(self.check(query)?) {
            for document in MODALITIES {
                if let Some(&at) = self.shelves[document as usize].position.get(&id) {
                    explained.push(Similarity {
                        query: *part,
                        document,
                        value: self.similarities(&vector, document)[at],
                    });
                }
            }
        }
        Ok(explained)
    }

    /// Calibrated similarities of a unit vector to all entries of a modality.
    fn similarities(&self, vector: &[f32], modality: Modality) -> Vec<f32> {
        let rows = self.shelves[modality as usize].rows.chunks_exact(self.dim);
        let cosines: Vec<f32> = rows.map(|row| dot(vector, row)).collect();
        match self.calibration {
            Calibration::Raw => cosines,
            Calibration::Background => standardize(&cosines),
        }
    }

    /// The unit vectors of the query's parts.
    fn check(&self, query: &MultiModalQuery) -> Result<Vec<Vec<f32>>, RetrievalError> {
        if query.parts.is_empty() {
            return Err(RetrievalError::argument("number of query parts", &0, "at least one"));
        }
        let parts = query.parts.iter();
        parts
            .map(|(_, vector, weight)| {
                if !weight.is_finite() || *weight < 0.0 {
                    return Err(RetrievalError::argument("weight", weight, "a number of at least 0"));
                }
                self.unit(vector)
            })
            .collect()
    }

    fn unit(&self, vector: &[f32]) -> Result<Vec<f32>, RetrievalError> {
        if vector.len() != self.dim {
            return Err(TensorError::Dimension { expected: self.dim, got: vector.len() }.into());
        }
        let mut row = Matrix::from_vec(1, self.dim, vector.to_vec())?;
        row.check_finite()?;
        row.normalize_rows();
        Ok(row.into_vec())
    }
}

/// Values in standard deviations from their mean; all zero when they don't vary.
fn standardize(values: &[f32]) -> Vec<f32> {
    let n = values.len().max(1) as f64;
    let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let variance = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
    let deviation = variance.sqrt();
    if deviation < 1e-9 {
        return vec![0.0; values.len()];
    }
    let scaled = values.iter().map(|&v| ((f64::from(v) - mean) / deviation) as f32);
    scaled.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A unit vector whose cosines to the first two axes are `text` and `image`.
    fn with_cosines(text: f32, image: f32) -> Vec<f32> {
        vec![text, image, (1.0 - text * text - image * image).sqrt()]
    }

    fn query() -> MultiModalQuery {
        MultiModalQuery::new().with(Modality::Text, vec![1.0, 0.0, 0.0], 0.6).with(
            Modality::Image,
            vec![0.0, 1.0, 0.0],
            0.4,
        )
    }

    fn fixture() -> CrossModalIndex {
        let mut index = CrossModalIndex::new(3, Calibration::Raw);
        for (id, modality, text, image) in [
            (0, Modality::Text, 0.8, 0.3),
            (0, Modality::Image, 0.4, 0.9),
            (1, Modality::Text, 0.85, 0.35),
            (2, Modality::Text, 0.4, 0.35),
            (2, Modality::Image, 0.35, 0.4),
            (2, Modality::Audio, 0.3, 0.3),
        ] {
            index.upsert(id, modality, &with_cosines(text, image)).unwrap();
        }
        index
    }

    #[test]
    fn one_good_match_beats_three_weak_ones() {
        let index = fixture();
        let hits = index.search(&query(), 9, |_| true).unwrap();
        let expected = [(0, 0.84), (1, 0.65), (2, 0.40)];
        assert_eq!(hits.len(), 3);
        for (hit, (id, score)) in hits.iter().zip(expected) {
            assert_eq!(hit.id, id);
            assert!((hit.score - score).abs() < 1e-5, "{hit:?}");
        }
        // The flawed rule adds up everything a document has.
        let summed = |id| -> f32 {
            let weight = |s: &Similarity| if s.query == Modality::Text { 0.6 } else { 0.4 };
            let all = index.explain(&query(), id).unwrap();
            all.iter().map(|s| weight(s) * s.value).sum()
        };
        for (id, score) in [(0, 1.20), (2, 1.05), (1, 0.65)] {
            assert!((summed(id) - score).abs() < 1e-5, "{id}: {}", summed(id));
        }
    }

    #[test]
    fn an_upsert_replaces_and_filters_and_k_are_kept() {
        let mut index = fixture();
        index.upsert(2, Modality::Text, &with_cosines(0.7, 0.7)).unwrap();
        assert_eq!(index.len(Modality::Text), 3);
        let ids = |k, filter: &dyn Fn(u64) -> bool| -> Vec<u64> {
            let hits = index.search(&query(), k, filter).unwrap();
            hits.iter().map(|hit| hit.id).collect()
        };
        assert_eq!(ids(9, &|_| true), [0, 2, 1]);
        assert_eq!(ids(9, &|id| id != 0), [2, 1]);
        assert_eq!(ids(1, &|_| true), [0]);
        assert!(ids(0, &|_| true).is_empty());
        assert!(ids(9, &|_| false).is_empty());
    }

    #[test]
    fn calibration_cancels_a_gap_between_modalities() {
        let mut index = CrossModalIndex::new(3, Calibration::Background);
        // Texts all lie near the query; among the images one stands out.
        for (id, text) in [(0, 0.90), (1, 0.91), (2, 0.89)] {
            index.upsert(id, Modality::Text, &with_cosines(text, 0.0)).unwrap();
        }
        for (id, text) in (3..12).map(|id| (id, 0.05)).chain([(12, 0.5)]) {
            index.upsert(id, Modality::Image, &with_cosines(text, 0.0)).unwrap();
        }
        let part = MultiModalQuery::equal([(Modality::Text, vec![1.0, 0.0, 0.0])]);
        assert_eq!(index.search(&part, 1, |_| true).unwrap()[0].id, 12);
        let explained = index.explain(&part, 12).unwrap();
        assert!((explained[0].value - 3.0).abs() < 1e-4, "{explained:?}");
        assert_eq!(standardize(&[0.5; 3]), [0.0; 3]);
    }

    #[test]
    fn bad_queries_and_vectors_are_refused() {
        let mut index = fixture();
        assert!(index.search(&MultiModalQuery::new(), 3, |_| true).is_err());
        let wrong = MultiModalQuery::equal([(Modality::Text, vec![1.0])]);
        assert!(index.search(&wrong, 3, |_| true).is_err());
        let weight = MultiModalQuery::new().with(Modality::Text, vec![1.0, 0.0, 0.0], f32::NAN);
        assert!(index.search(&weight, 3, |_| true).is_err());
        assert!(index.upsert(9, Modality::Text, &[f32::NAN, 0.0, 0.0]).is_err());
        assert!(index.explain(&query(), 99).unwrap().is_empty());
        let empty = CrossModalIndex::new(3, Calibration::Background);
        assert!(empty.search(&query(), 3, |_| true).unwrap().is_empty());
    }
}
