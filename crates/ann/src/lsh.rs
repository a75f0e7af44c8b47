//! [`Lsh`]: locality-sensitive hashing by random hyperplanes (Charikar, "Similarity estimation techniques from rounding algorithms",
//! STOC 2002; tables as in Indyk and Motwani, STOC 1998).
//!
//! Each table cuts the space with `bits` planes through the origin; vectors on the same side of all of them share a bucket. A search
//! collects the buckets that the query falls in, one a table, and compares the query with their vectors exactly.

use std::collections::{BinaryHeap, HashMap};
use std::path::Path;

use eas_tensor::Matrix;
use eas_tensor::kmeans::Centres;
use eas_tensor::rng::SplitMix64;

use crate::AnnError;
use crate::FlatIndex;
use crate::file::{Reader, Writer};
use crate::index::{
    Candidate, Hit, Metric, SearchStats, VectorIndex, check_dim, check_new_ids, check_rows, keep_best, prepare_query,
    sorted_hits,
};

const KIND: [u8; 4] = *b"LSHT";

/// Settings of a hash index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LshConfig {
    /// Hash tables: each is another chance to meet a neighbour.
    pub tables: usize,
    /// Planes a table, 1 to 64: each halves the bucket that a search has to look through.
    pub bits: usize,
    /// Seed of the planes. The first tables of a larger index are those of a smaller one.
    pub seed: u64,
}

impl Default for LshConfig {
    /// 16 tables of 12 bits, seed 42.
    fn default() -> Self {
        Self { tables: 16, bits: 12, seed: 42 }
    }
}

/// A hash index with exact comparison of what the buckets hold.
///
/// [`VectorIndex::search`] compares every vector when the buckets hold fewer than `k`; [`Self::search_counted`] doesn't.
#[derive(Debug, Clone)]
pub struct Lsh {
    config: LshConfig,
    /// Normals of all planes, those of table `t` in rows `t * bits ..`.
    planes: Centres,
    vectors: FlatIndex,
    tables: Vec<HashMap<u64, Vec<u64>>>,
}

impl Lsh {
    /// An empty index for vectors of `dim >= 1` values.
    pub fn new(dim: usize, metric: Metric, config: LshConfig) -> Result<Self, AnnError> {
        check_dim(dim)?;
        if config.tables == 0 {
            return Err(AnnError::parameter("tables", &0, "at least 1"));
        }
        if !(1..=64).contains(&config.bits) {
            return Err(AnnError::parameter("bits", &config.bits, "1 to 64"));
        }
        let mut normals = Vec::new();
        for table in 0..config.tables {
            let mut rng = SplitMix64::stream(config.seed, table as u64);
            normals.extend((0..config.bits * dim).map(|_| rng.normal() as f32));
        }
        let planes = Matrix::from_vec(config.tables * config.bits, dim, normals)?;
        Ok(Self {
            config,
            planes: Centres::new(planes, true),
            vectors: FlatIndex::new(dim, metric)?,
            tables: vec![HashMap::new(); config.tables],
        })
    }

    /// The settings.
    pub fn config(&self) -> LshConfig {
        self.config
    }

    /// Bytes of vectors, ids, planes and buckets (a key and the ids of its vectors), without the spare room of hash tables.
    pub fn bytes(&self) -> usize {
        let buckets: usize = self.tables.iter().flat_map(HashMap::values).map(|ids| 8 + 8 * ids.len()).sum();
        self.vectors.bytes() + size_of_val(self.planes.centroids().as_slice()) + buckets
    }

    /// The key of each table: bit `b` says on which side of plane `b` the vector is.
    fn keys(&self, vector: &[f32]) -> Vec<u64> {
        let sides = self.planes.scores(vector);
        let key = |sides: &[f32]| sides.iter().rev().fold(0, |key, &side| key << 1 | u64::from(side > 0.0));
        sides.chunks_exact(self.config.bits).map(key).collect()
    }

    /// The `k` nearest of the vectors in the query's buckets whose ids pass `keep`, and what it cost. May give fewer than `k`.
    pub fn search_counted(
        &self,
        query: &[f32],
        k: usize,
        keep: &(dyn Fn(u64) -> bool + Sync),
    ) -> Result<(Vec<Hit>, SearchStats), AnnError> {
        let (metric, dim) = (self.metric(), self.dim());
        let query = prepare_query(metric, dim, query)?;
        let query = query.row(0);
        let mut stats = SearchStats::default();
        if k == 0 {
            return Ok((Vec::new(), stats));
        }
        let mut met = Vec::new();
        for (table, key) in self.tables.iter().zip(self.keys(query)) {
            stats.lists_probed += 1;
            met.extend(table.get(&key).into_iter().flatten().filter(|&&id| keep(id)));
        }
        met.sort_unstable();
        met.dedup();
        let mut best = BinaryHeap::new();
        for (id, row) in met.iter().filter_map(|&id| Some((id, self.vectors.vector(id)?))) {
            let distance = metric.distance(query, row);
            stats.full_distances(1, dim);
            keep_best(&mut best, Candidate { distance, id }, k);
        }
        Ok((sorted_hits(metric, best), stats))
    }
}

impl VectorIndex for Lsh {
    fn dim(&self) -> usize {
        self.vectors.dim()
    }

    fn metric(&self) -> Metric {
        self.vectors.metric()
    }

    fn len(&self) -> usize {
        self.vectors.len()
    }

    fn contains(&self, id: u64) -> bool {
        self.vectors.contains(id)
    }

    fn add(&mut self, ids: &[u64], vectors: &Matrix) -> Result<(), AnnError> {
        check_rows(self.dim(), ids, vectors)?;
        check_new_ids(ids, |id| self.contains(id))?;
        self.vectors.add(ids, vectors)?;
        for &id in ids {
            let keys = self.vectors.vector(id).map(|vector| self.keys(vector)).unwrap_or_default();
            for (table, key) in self.tables.iter_mut().zip(keys) {
                table.entry(key).or_default().push(id);
            }
        }
        Ok(())
    }

    fn remove(&mut self, ids: &[u64]) -> Result<usize, AnnError> {
        for &id in ids {
            let keys = self.vectors.vector(id).map(|vector| self.keys(vector)).unwrap_or_default();
            for (table, key) in self.tables.iter_mut().zip(keys) {
                if let Some(bucket) = table.get_mut(&key) {
                    bucket.retain(|&other| other != id);
                    if bucket.is_empty() {
                        table.remove(&key);
                    }
                }
            }
        }
        self.vectors.remove(ids)
    }

    fn search_where(&self, query: &[f32], k: usize, keep: &(dyn Fn(u64) -> bool + Sync)) -> Result<Vec<Hit>, AnnError> {
        let (hits, _) = self.search_counted(query, k, keep)?;
        if hits.len() < k.min(self.len()) {
            return self.vectors.search_where(query, k, keep);
        }
        Ok(hits)
    }

    /// The planes follow from the seed; the buckets are filled again by [`Self::load`].
    fn save(&self, path: &Path) -> Result<(), AnnError> {
        let mut out = Writer::default();
        out.u32(self.config.tables as u32);
        out.u32(self.config.bits as u32);
        out.u64(self.config.seed);
        self.vectors.write(&mut out);
        out.finish(path, KIND)
    }

    fn load(path: &Path) -> Result<Self, AnnError> {
        let mut file = Reader::open(path, KIND)?;
        let config = LshConfig { tables: file.u32()? as usize, bits: file.u32()? as usize, seed: file.u64()? };
        let vectors = FlatIndex::read(&mut file)?;
        file.finish()?;
        // Planes of a whole file take `tables * bits * dim` values that its length says nothing about.
        let planes = config.tables.saturating_mul(config.bits).saturating_mul(vectors.dim());
        if planes > 1 << 28 {
            return Err(AnnError::Corrupt {
                path: path.to_path_buf(),
                reason: format!("{planes} values of hyperplanes are more than any index of this library has"),
            });
        }
        let mut index = Self::new(vectors.dim(), vectors.metric(), config)?;
        for row in 0..vectors.len() {
            let (id, vector) = (vectors.ids()[row], vectors.row(row));
            for (table, key) in index.keys(vector).into_iter().enumerate() {
                index.tables[table].entry(key).or_default().push(id);
            }
        }
        index.vectors = vectors;
        Ok(index)
    }
}
