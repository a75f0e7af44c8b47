//! Hard negatives from the whole collection: of all items that aren't an anchor's positives, the most similar ones.
//!
//! The filter works inside the search, so that a list is full whenever the collection allows it, however many positives stand
//! before the first negative.

use rayon::prelude::*;

use eas_tensor::Matrix;

use crate::{AnnError, FlatIndex, Hit, IvfConfig, IvfIndex, Metric, VectorIndex};

/// How to mine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OfflineMiner {
    /// Negatives an anchor.
    pub k: usize,
    /// Collections up to this size are searched exactly, larger ones in an inverted file.
    pub ivf_above: usize,
    /// Seed of the inverted file's cells.
    pub seed: u64,
}

impl Default for OfflineMiner {
    fn default() -> Self {
        Self { k: 10, ivf_above: 1_000_000, seed: 42 }
    }
}

/// A collection that negatives are mined from.
pub struct Corpus {
    index: Box<dyn VectorIndex>,
    k: usize,
}

impl std::fmt::Debug for Corpus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Corpus").field("len", &self.index.len()).field("k", &self.k).finish()
    }
}

/// The mined negatives of a list of anchors.
#[derive(Debug, Clone, PartialEq)]
pub struct HardNegatives {
    /// The negatives of each anchor, most similar first, with their cosines.
    pub lists: Vec<Vec<Hit>>,
    /// Positions of the anchors whose lists aren't full.
    pub short: Vec<usize>,
}

impl OfflineMiner {
    /// Indexes `vectors`, shape `(ids.len(), dim)`, by cosine: a [`FlatIndex`], or beyond `ivf_above` an [`IvfIndex`] of `sqrt(n)`
    /// lists of which a sixteenth is searched.
    pub fn index(&self, ids: &[u64], vectors: &Matrix) -> Result<Corpus, AnnError> {
        if self.k == 0 {
            return Err(AnnError::parameter("k", &0, "at least 1"));
        }
        let mut index: Box<dyn VectorIndex> = if vectors.rows() > self.ivf_above {
            let lists = vectors.rows().isqrt().max(1);
            let config = IvfConfig { lists, nprobe: (lists / 16).max(1), seed: self.seed, ..IvfConfig::default() };
            Box::new(IvfIndex::train(vectors, Metric::Cosine, config)?)
        } else {
            Box::new(FlatIndex::new(vectors.dim(), Metric::Cosine)?)
        };
        index.add(ids, vectors)?;
        Ok(Corpus { index, k: self.k })
    }
}

impl Corpus {
    /// A collection in an index of the caller's, `k` negatives an anchor.
    pub fn new(index: Box<dyn VectorIndex>, k: usize) -> Self {
        Self { index, k }
    }

    /// Mines negatives for the anchors `ids` with embeddings `anchors`, shape `(ids.len(), dim)`: no list has the anchor itself or
    /// an item that `is_positive(anchor, item)`.
    pub fn mine(
        &self,
        ids: &[u64],
        anchors: &Matrix,
        is_positive: &(dyn Fn(u64, u64) -> bool + Sync),
    ) -> Result<HardNegatives, AnnError> {
        if ids.len() != anchors.rows() {
            return Err(AnnError::parameter("number of anchor ids", &ids.len(), "one a row of the anchors"));
        }
        let search = |(i, &id): (usize, &u64)| {
            self.index.search_where(anchors.row(i), self.k, &|other| other != id && !is_positive(id, other))
        };
        let lists = ids.par_iter().enumerate().map(search).collect::<Result<Vec<Vec<Hit>>, AnnError>>()?;
        let short = (0..lists.len()).filter(|&i| lists[i].len() < self.k).collect();
        Ok(HardNegatives { lists, short })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eas_tensor::rng::SplitMix64;

    fn rows(n: usize, seed: u64) -> Matrix {
        let mut rng = SplitMix64::new(seed);
        Matrix::from_vec(n, 8, (0..n * 8).map(|_| rng.normal() as f32).collect()).unwrap()
    }

    #[test]
    fn lists_equal_a_scan_and_hold_no_positive() {
        let (n, vectors) = (300, rows(300, 1));
        let ids: Vec<u64> = (0..n).map(|i| 1_000 + 7 * i).collect();
        let positive = |a: u64, b: u64| (a - 1_000) / 70 == (b - 1_000) / 70;
        let miner = OfflineMiner { k: 5, ..OfflineMiner::default() };
        let mined = miner.index(&ids, &vectors).unwrap().mine(&ids, &vectors, &positive).unwrap();
        assert!(mined.short.is_empty());
        let mut unit = vectors.clone();
        unit.normalize_rows();
        for (i, list) in mined.lists.iter().enumerate() {
            let cosine = |j: usize| unit.row(i).iter().zip(unit.row(j)).map(|(x, y)| x * y).sum::<f32>();
            let mut others: Vec<usize> = (0..n as usize).filter(|j| j / 10 != i / 10).collect();
            others.sort_by(|&x, &y| cosine(y).total_cmp(&cosine(x)));
            let expected: Vec<u64> = others[..5].iter().map(|&j| ids[j]).collect();
            assert_eq!(list.iter().map(|hit| hit.id).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn an_inverted_file_fills_its_lists_too() {
        let vectors = rows(2_000, 2);
        let ids: Vec<u64> = (0..2_000).collect();
        let miner = OfflineMiner { k: 10, ivf_above: 1_000, seed: 3 };
        // All but 40 items are positives: the lists of the nearest cells can't fill the wish.
        let positive = |_: u64, b: u64| !b.is_multiple_of(50);
        let mined = miner.index(&ids, &vectors).unwrap().mine(&ids, &vectors, &positive).unwrap();
        assert!(mined.short.is_empty());
        assert!(mined.lists.iter().flatten().all(|hit| hit.id % 50 == 0));
    }

    #[test]
    fn shortfalls_and_bad_input_are_reported() {
        let vectors = rows(6, 3);
        let ids: Vec<u64> = (0..6).collect();
        let corpus = OfflineMiner { k: 4, ..OfflineMiner::default() }.index(&ids, &vectors).unwrap();
        let mined = corpus.mine(&ids, &vectors, &|a, b| a < 2 && b < 3).unwrap();
        assert_eq!(mined.short, [0, 1]);
        assert_eq!(mined.lists.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 4, 4, 4, 4]);
        assert!(corpus.mine(&ids[1..], &vectors, &|_, _| false).is_err());
        assert!(OfflineMiner { k: 0, ..OfflineMiner::default() }.index(&ids, &vectors).is_err());
        assert!(OfflineMiner::default().index(&[1, 1, 2, 3, 4, 5], &vectors).is_err());
    }
}
