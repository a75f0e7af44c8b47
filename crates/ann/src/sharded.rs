//! [`ShardedIndex`]: one index spread over shards, each kept by several replicas.
//!
//! An id belongs to the shard that [`jump_hash`] gives it. A search asks one live replica of every shard for its `k` best
//! and merges the answers. Live replicas of a shard have equal contents, so this process keeps one copy for all of them:
//! what is real here is placement, routing, merging, failure and recovery, not the network.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::path::Path;

use eas_tensor::Matrix;
use rayon::prelude::*;

use crate::file::{Reader, Writer};
use crate::index::{Hit, Metric, VectorIndex, check_new_ids, check_queries, check_rows};
use crate::{AnnError, FlatIndex, Hnsw, HnswConfig, Selection};

const KIND: [u8; 4] = *b"SHRD";
const MANIFEST: &str = "manifest";
/// Numbers that a search compares (a fraction of a millisecond) from which it pays to ask shards side by side. Below it a search that
/// waits for a thread, which may be building another shard, waits longer than it works.
const PARALLEL_FROM: usize = 1 << 20;

/// The bucket of `key` among `buckets`: when a bucket is added, only the keys that move to it change place
/// (Lamping and Veach, "A Fast, Minimal Memory, Consistent Hash Algorithm", 2014). 0 when there are no buckets.
///
/// ```
/// use eas_ann::jump_hash;
///
/// let moved = (0..10_000u64).filter(|&key| jump_hash(key, 11) != jump_hash(key, 10)).count();
/// assert!((800..1_020).contains(&moved)); // a share of about 1/11
/// ```
pub fn jump_hash(mut key: u64, buckets: u32) -> u32 {
    let (mut bucket, mut next) = (0i64, 0i64);
    while next < i64::from(buckets) {
        bucket = next;
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        let draw = f64::from(1u32 << 31) / ((key >> 33) + 1) as f64;
        next = ((bucket + 1) as f64 * draw) as i64;
    }
    bucket as u32
}

/// Merges lists that are each best first into the `k` best of all, ties by lower id, in `O(k log lists)`.
pub fn merge_hits<L: AsRef<[Hit]>>(metric: Metric, lists: &[L], k: usize) -> Vec<Hit> {
    let mut heads: BinaryHeap<Head> =
        lists.iter().enumerate().filter_map(|(list, hits)| Head::new(metric, list, 0, hits.as_ref())).collect();
    let mut merged = Vec::new();
    while merged.len() < k
        && let Some(head) = heads.pop()
    {
        merged.push(head.hit);
        heads.extend(Head::new(metric, head.list, head.at + 1, lists[head.list].as_ref()));
    }
    merged
}

/// The best hit of a list that hasn't been merged yet. The greatest head is the one to merge next.
struct Head {
    metric: Metric,
    hit: Hit,
    list: usize,
    at: usize,
}

impl Head {
    fn new(metric: Metric, list: usize, at: usize, hits: &[Hit]) -> Option<Self> {
        let hit = *hits.get(at)?;
        Some(Self { metric, hit, list, at })
    }
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        let best_first = self.metric.best_first(&self.hit, &other.hit);
        best_first.then(self.list.cmp(&other.list)).reverse()
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Head {}

/// What each shard is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexKind {
    /// [`FlatIndex`]: the sharded index is exact.
    Flat,
    /// [`Hnsw`].
    Hnsw(HnswConfig),
}

/// What a search does when all replicas of a shard are down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnMissing {
    /// Refuse with [`AnnError::ShardUnavailable`].
    Error,
    /// Answer from the other shards; [`ShardedIndex::search_covered`] says how much they cover.
    Partial,
}

/// Settings of a [`ShardedIndex`].
#[derive(Debug, Clone, Copy)]
pub struct ShardedBuilder {
    shards: usize,
    replicas: usize,
    inner: IndexKind,
    on_missing: OnMissing,
}

impl ShardedBuilder {
    /// Number of shards, 1 unless set.
    #[must_use]
    pub fn shards(self, shards: usize) -> Self {
        Self { shards, ..self }
    }

    /// Replicas a shard, 1 unless set.
    #[must_use]
    pub fn replicas(self, replicas: usize) -> Self {
        Self { replicas, ..self }
    }

    /// What each shard is, [`IndexKind::Flat`] unless set.
    #[must_use]
    pub fn inner(self, inner: IndexKind) -> Self {
        Self { inner, ..self }
    }

    /// What a search does without one of the shards, [`OnMissing::Error`] unless set.
    #[must_use]
    pub fn on_missing(self, on_missing: OnMissing) -> Self {
        Self { on_missing, ..self }
    }

    /// An empty index for vectors of `dim >= 1` values.
    pub fn build(self, dim: usize, metric: Metric) -> Result<ShardedIndex, AnnError> {
        for (name, got) in [("shards", self.shards), ("replicas", self.replicas)] {
            if got == 0 || got > 1 << 20 {
                return Err(AnnError::Parameter { name, got: got.to_string(), expected: "1 to 1,048,576" });
            }
        }
        let empty = match self.inner {
            IndexKind::Flat => Inner::Flat(FlatIndex::new(dim, metric)?),
            IndexKind::Hnsw(config) => Inner::Hnsw(Box::new(Hnsw::new(dim, metric, config)?)),
        };
        let shard = Shard { contents: empty, version: 0, replicas: vec![Replica::Live; self.replicas] };
        Ok(ShardedIndex { settings: self, dim, metric, shards: vec![shard; self.shards] })
    }
}

#[derive(Debug, Clone)]
enum Inner {
    Flat(FlatIndex),
    Hnsw(Box<Hnsw>),
}

impl Inner {
    fn index(&self) -> &dyn VectorIndex {
        match self {
            Self::Flat(flat) => flat,
            Self::Hnsw(hnsw) => hnsw.as_ref(),
        }
    }

    fn index_mut(&mut self) -> &mut dyn VectorIndex {
        match self {
            Self::Flat(flat) => flat,
            Self::Hnsw(hnsw) => hnsw.as_mut(),
        }
    }

    /// Numbers that a search compares, about.
    fn compared(&self) -> usize {
        match self {
            Self::Flat(flat) => flat.len() * flat.dim(),
            Self::Hnsw(hnsw) => hnsw.len().min(hnsw.config().ef.saturating_mul(hnsw.config().m)) * hnsw.dim(),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Flat(flat) => flat.bytes(),
            Self::Hnsw(hnsw) => {
                let bytes = hnsw.bytes();
                bytes.vectors + bytes.links + bytes.bookkeeping
            }
        }
    }
}

/// A copy of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Replica {
    Live,
    /// Down since this version of the shard: it misses the writes that came after.
    Failed {
        version: u64,
    },
}

/// A shard: what its live replicas hold, and the state of each replica.
#[derive(Debug, Clone)]
struct Shard {
    contents: Inner,
    /// Write calls so far.
    version: u64,
    replicas: Vec<Replica>,
}

impl Shard {
    fn is_live(&self) -> bool {
        self.replicas.contains(&Replica::Live)
    }

    fn index(&self) -> &dyn VectorIndex {
        self.contents.index()
    }
}

/// An answer, and the share of the vectors it was chosen from.
#[derive(Debug, Clone, PartialEq)]
pub struct Covered {
    /// The hits, best first.
    pub hits: Vec<Hit>,
    /// Vectors on the shards that answered over all vectors; 1 when all answered, and for an empty index.
    pub coverage: f64,
    /// Shards that were asked: one replica of each.
    pub shards: usize,
}

/// One index over several shards with replicas.
///
/// ```
/// use eas_ann::{Metric, ShardedIndex, VectorIndex};
/// use eas_tensor::Matrix;
///
/// let mut index = ShardedIndex::builder().shards(2).replicas(2).build(1, Metric::SquaredL2)?;
/// index.add(&[1, 2, 3], &Matrix::from_rows(&[[1.0], [2.0], [3.0]])?)?;
/// index.fail(0, 0)?;
/// assert_eq!(index.search(&[1.9], 1)?[0].id, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct ShardedIndex {
    settings: ShardedBuilder,
    dim: usize,
    metric: Metric,
    shards: Vec<Shard>,
}

impl ShardedIndex {
    /// One flat shard with one replica, to be changed.
    pub fn builder() -> ShardedBuilder {
        ShardedBuilder { shards: 1, replicas: 1, inner: IndexKind::Flat, on_missing: OnMissing::Error }
    }

    /// The shard that `id` belongs to.
    pub fn shard_of(&self, id: u64) -> usize {
        jump_hash(id, self.shards.len() as u32) as usize
    }

    /// Vectors on each shard.
    pub fn shard_lens(&self) -> Vec<usize> {
        self.shards.iter().map(|shard| shard.index().len()).collect()
    }

    /// Bytes that one replica of each shard holds.
    pub fn shard_bytes(&self) -> Vec<usize> {
        self.shards.iter().map(|shard| shard.contents.bytes()).collect()
    }

    /// Takes a replica down. Failing a failed one changes nothing.
    pub fn fail(&mut self, shard: usize, replica: usize) -> Result<(), AnnError> {
        let shard = self.shard_mut(shard, replica)?;
        if shard.replicas[replica] == Replica::Live {
            shard.replicas[replica] = Replica::Failed { version: shard.version };
        }
        Ok(())
    }

    /// Brings a replica back. It copies the writes it has missed from a live one; when there is none, a replica that has
    /// missed writes is refused, since serving it would undo them.
    pub fn recover(&mut self, shard: usize, replica: usize) -> Result<(), AnnError> {
        let number = shard;
        let shard = self.shard_mut(number, replica)?;
        if let Replica::Failed { version } = shard.replicas[replica]
            && version < shard.version
            && !shard.is_live()
        {
            return Err(AnnError::StaleReplica { shard: number, replica });
        }
        shard.replicas[replica] = Replica::Live;
        Ok(())
    }

    fn shard_mut(&mut self, shard: usize, replica: usize) -> Result<&mut Shard, AnnError> {
        let refuse = |name, got: usize, expected| AnnError::Parameter { name, got: got.to_string(), expected };
        if replica >= self.settings.replicas {
            return Err(refuse("replica", replica, "below the number of replicas"));
        }
        self.shards.get_mut(shard).ok_or_else(|| refuse("shard", shard, "below the number of shards"))
    }

    /// [`VectorIndex::search_where`], and what share of the vectors the answer was chosen from.
    pub fn search_covered(
        &self,
        query: &[f32],
        k: usize,
        keep: &(dyn Fn(u64) -> bool + Sync),
    ) -> Result<Covered, AnnError> {
        let live = self.answering()?;
        let ask = |shard: &&Shard| shard.index().search_where(query, k, keep);
        let work: usize = live.iter().map(|shard| shard.contents.compared()).sum();
        let lists: Vec<Vec<Hit>> = match work {
            PARALLEL_FROM.. => live.par_iter().map(ask).collect::<Result<_, _>>()?,
            _ => live.iter().map(ask).collect::<Result<_, _>>()?,
        };
        let answered: usize = live.iter().map(|shard| shard.index().len()).sum();
        Ok(Covered {
            hits: merge_hits(self.metric, &lists, k),
            coverage: if self.is_empty() { 1.0 } else { answered as f64 / self.len() as f64 },
            shards: lists.len(),
        })
    }

    /// The shards that a search can ask; an error when one is down that must not be missing, or when none is left.
    fn answering(&self) -> Result<Vec<&Shard>, AnnError> {
        if self.settings.on_missing == OnMissing::Error {
            self.check_live(0..self.shards.len())?;
        }
        let live: Vec<&Shard> = self.shards.iter().filter(|shard| shard.is_live()).collect();
        if live.is_empty() {
            return Err(AnnError::ShardUnavailable(0));
        }
        Ok(live)
    }

    fn check_live(&self, shards: impl IntoIterator<Item = usize>) -> Result<(), AnnError> {
        match shards.into_iter().find(|&shard| !self.shards[shard].is_live()) {
            Some(shard) => Err(AnnError::ShardUnavailable(shard)),
            None => Ok(()),
        }
    }

    /// The positions of `ids`, by the shard they belong to.
    fn placed(&self, ids: &[u64]) -> Vec<Vec<usize>> {
        let mut rows = vec![Vec::new(); self.shards.len()];
        for (row, &id) in ids.iter().enumerate() {
            rows[self.shard_of(id)].push(row);
        }
        rows
    }
}

impl VectorIndex for ShardedIndex {
    fn dim(&self) -> usize {
        self.dim
    }

    fn metric(&self) -> Metric {
        self.metric
    }

    /// Vectors on all shards, those that are down included.
    fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.index().len()).sum()
    }

    fn contains(&self, id: u64) -> bool {
        self.shards[self.shard_of(id)].index().contains(id)
    }

    /// Refused as a whole when a shard that one of the ids belongs to is down.
    fn add(&mut self, ids: &[u64], vectors: &Matrix) -> Result<(), AnnError> {
        check_rows(self.dim, ids, vectors)?;
        check_new_ids(ids, |id| self.contains(id))?;
        self.check_live(ids.iter().map(|&id| self.shard_of(id)))?;
        let placed = self.placed(ids);
        self.shards.par_iter_mut().zip(placed).filter(|(_, rows)| !rows.is_empty()).try_for_each(|(shard, rows)| {
            let ids: Vec<u64> = rows.iter().map(|&row| ids[row]).collect();
            shard.contents.index_mut().add(&ids, &vectors.select(&rows))?;
            shard.version += 1;
            Ok(())
        })
    }

    /// Refused as a whole when a shard that one of the ids belongs to is down.
    fn remove(&mut self, ids: &[u64]) -> Result<usize, AnnError> {
        self.check_live(ids.iter().map(|&id| self.shard_of(id)))?;
        let placed = self.placed(ids);
        let removed = self
            .shards
            .par_iter_mut()
            .zip(placed)
            .filter(|(_, rows)| !rows.is_empty())
            .map(|(shard, rows)| {
                let ids: Vec<u64> = rows.iter().map(|&row| ids[row]).collect();
                shard.version += 1;
                shard.contents.index_mut().remove(&ids)
            })
            .collect::<Result<Vec<usize>, _>>()?;
        Ok(removed.into_iter().sum())
    }

    fn search_where(&self, query: &[f32], k: usize, keep: &(dyn Fn(u64) -> bool + Sync)) -> Result<Vec<Hit>, AnnError> {
        Ok(self.search_covered(query, k, keep)?.hits)
    }

    /// Each shard answers all queries at once, as fast as its kind of index can.
    fn search_batch(&self, queries: &Matrix, k: usize) -> Result<Vec<Vec<Hit>>, AnnError> {
        check_queries(self.dim, queries)?;
        let lists = self
            .answering()?
            .par_iter()
            .map(|shard| shard.index().search_batch(queries, k))
            .collect::<Result<Vec<_>, _>>()?;
        Ok((0..queries.rows())
            .map(|query| {
                let of_query: Vec<&[Hit]> = lists.iter().map(|shard| shard[query].as_slice()).collect();
                merge_hits(self.metric, &of_query, k)
            })
            .collect())
    }

    /// Writes a folder: a manifest, and one file a shard. The shards of the last save stay until the new manifest is in
    /// place, so that a crash leaves one of both whole.
    fn save(&self, path: &Path) -> Result<(), AnnError> {
        self.check_live(0..self.shards.len())?;
        let io = |source| AnnError::Io { path: path.to_path_buf(), source };
        std::fs::create_dir_all(path).map_err(io)?;
        let manifest = path.join(MANIFEST);
        let old = if manifest.exists() { Some(Manifest::load(&manifest)?) } else { None };
        let new = Manifest {
            generation: old.as_ref().map_or(0, |old| old.generation + 1),
            settings: self.settings,
            dim: self.dim,
            metric: self.metric,
        };
        for (number, shard) in self.shards.iter().enumerate() {
            shard.index().save(&new.shard_file(path, number))?;
        }
        new.save(&manifest)?;
        if let Some(old) = old {
            for number in 0..old.settings.shards {
                std::fs::remove_file(old.shard_file(path, number)).map_err(io)?;
            }
        }
        Ok(())
    }

    /// Reads the folder back; all replicas are live.
    fn load(path: &Path) -> Result<Self, AnnError> {
        let manifest = Manifest::load(&path.join(MANIFEST))?;
        let mut index = manifest.settings.build(manifest.dim, manifest.metric)?;
        for number in 0..index.shards.len() {
            let file = manifest.shard_file(path, number);
            let contents = match manifest.settings.inner {
                IndexKind::Flat => Inner::Flat(FlatIndex::load(&file)?),
                IndexKind::Hnsw(_) => Inner::Hnsw(Box::new(Hnsw::load(&file)?)),
            };
            if (contents.index().dim(), contents.index().metric()) != (index.dim, index.metric) {
                return Err(AnnError::Corrupt {
                    path: file,
                    reason: "belongs to another index than the manifest".into(),
                });
            }
            index.shards[number].contents = contents;
        }
        Ok(index)
    }
}

/// The file that names the others.
struct Manifest {
    generation: u64,
    settings: ShardedBuilder,
    dim: usize,
    metric: Metric,
}

impl Manifest {
    fn shard_file(&self, folder: &Path, shard: usize) -> std::path::PathBuf {
        folder.join(format!("shard-{shard:04}.{}", self.generation))
    }

    fn save(&self, path: &Path) -> Result<(), AnnError> {
        let mut out = Writer::default();
        out.u64(self.generation);
        out.u32(self.dim as u32);
        out.u8(self.metric.code());
        out.u32(self.settings.shards as u32);
        out.u32(self.settings.replicas as u32);
        out.u8(u8::from(self.settings.on_missing == OnMissing::Partial));
        match self.settings.inner {
            IndexKind::Flat => out.u8(0),
            IndexKind::Hnsw(config) => {
                out.u8(1);
                out.u64(config.m as u64);
                out.u64(config.ef_construction as u64);
                out.u64(config.ef as u64);
                out.u64(config.seed);
                out.u8(config.selection.code());
            }
        }
        out.finish(path, KIND)
    }

    fn load(path: &Path) -> Result<Self, AnnError> {
        let mut file = Reader::open(path, KIND)?;
        let generation = file.u64()?;
        let dim = file.u32()? as usize;
        let metric = Metric::from_code(file.u8()?).ok_or_else(|| file.corrupt("unknown metric"))?;
        let settings = ShardedBuilder {
            shards: file.u32()? as usize,
            replicas: file.u32()? as usize,
            on_missing: if file.u8()? == 0 { OnMissing::Error } else { OnMissing::Partial },
            inner: match file.u8()? {
                0 => IndexKind::Flat,
                1 => IndexKind::Hnsw(HnswConfig {
                    m: file.u64()? as usize,
                    ef_construction: file.u64()? as usize,
                    ef: file.u64()? as usize,
                    seed: file.u64()?,
                    selection: Selection::from_code(file.u8()?)
                        .ok_or_else(|| file.corrupt("unknown selection of links"))?,
                }),
                _ => return Err(file.corrupt("unknown kind of shard")),
            },
        };
        file.finish()?;
        Ok(Self { generation, settings, dim, metric })
    }
}

#[cfg(test)]
mod tests {
    use eas_tensor::rng::SplitMix64;
    use proptest::prelude::*;

    use super::*;

    fn random(rows: usize, dim: usize, seed: u64) -> Matrix {
        let mut rng = SplitMix64::new(seed);
        Matrix::from_vec(rows, dim, (0..rows * dim).map(|_| rng.normal() as f32).collect()).unwrap()
    }

    fn sharded(inner: IndexKind, on_missing: OnMissing, vectors: &Matrix) -> ShardedIndex {
        let builder = ShardedIndex::builder().shards(8).replicas(3).inner(inner).on_missing(on_missing);
        let mut index = builder.build(vectors.dim(), Metric::SquaredL2).unwrap();
        index.add(&(0..vectors.rows() as u64).collect::<Vec<_>>(), vectors).unwrap();
        index
    }

    fn flat(vectors: &Matrix) -> FlatIndex {
        let mut index = FlatIndex::new(vectors.dim(), Metric::SquaredL2).unwrap();
        index.add(&(0..vectors.rows() as u64).collect::<Vec<_>>(), vectors).unwrap();
        index
    }

    #[test]
    fn flat_shards_answer_as_one_flat_index() {
        let (vectors, queries) = (random(2_000, 12, 1), random(40, 12, 2));
        let index = sharded(IndexKind::Flat, OnMissing::Error, &vectors);
        assert_eq!(index.search_batch(&queries, 10).unwrap(), flat(&vectors).search_batch(&queries, 10).unwrap());
        for (query, batched) in queries.iter_rows().zip(index.search_batch(&queries, 10).unwrap()) {
            assert_eq!(index.search(query, 10).unwrap(), batched);
        }
        assert_eq!(index.search(queries.row(0), 0).unwrap(), []);
        assert_eq!(index.search(queries.row(0), 9_999).unwrap().len(), 2_000);
    }

    #[test]
    fn shards_are_balanced_and_jump_hash_moves_only_to_the_new_bucket() {
        let mut counts = [0usize; 8];
        for id in 0..20_000 {
            counts[jump_hash(id, 8) as usize] += 1;
            let (before, after) = (jump_hash(id, 8), jump_hash(id, 9));
            assert!(after == before || after == 8);
        }
        assert!(counts.iter().all(|&count| (2_250..=2_750).contains(&count)), "{counts:?}");
        assert_eq!(jump_hash(123, 0), 0);
        // Values of the paper's C++ function.
        assert_eq!(
            (jump_hash(1, 1), jump_hash(42, 57), jump_hash(0xDEAD_10CC, 1), jump_hash(256, 1024)),
            (0, 43, 0, 520)
        );
    }

    #[test]
    fn any_two_dead_replicas_change_nothing() {
        let (vectors, queries) = (random(500, 6, 3), random(10, 6, 4));
        let mut index = sharded(IndexKind::Flat, OnMissing::Error, &vectors);
        let before = index.search_batch(&queries, 5).unwrap();
        for alive in 0..3 {
            for shard in 0..8 {
                for replica in (0..3).filter(|&replica| replica != alive) {
                    index.fail(shard, replica).unwrap();
                }
            }
            assert_eq!(index.search_batch(&queries, 5).unwrap(), before);
            for shard in 0..8 {
                for replica in 0..3 {
                    index.recover(shard, replica).unwrap();
                }
            }
        }
        assert!(index.fail(8, 0).is_err());
        assert!(index.fail(0, 3).is_err());
    }

    #[test]
    fn a_dead_shard_is_an_error_or_a_partial_answer() {
        let (vectors, queries) = (random(1_000, 6, 5), random(10, 6, 6));
        let mut strict = sharded(IndexKind::Flat, OnMissing::Error, &vectors);
        let mut lenient = sharded(IndexKind::Flat, OnMissing::Partial, &vectors);
        for index in [&mut strict, &mut lenient] {
            (0..3).for_each(|replica| index.fail(2, replica).unwrap());
        }
        assert!(matches!(strict.search(queries.row(0), 5), Err(AnnError::ShardUnavailable(2))));
        let answer = lenient.search_covered(queries.row(0), 5, &|_| true).unwrap();
        let lost = lenient.shard_lens()[2];
        assert_eq!(answer.coverage, (1_000 - lost) as f64 / 1_000.0);
        assert_eq!(lenient.search_batch(&queries, 5).unwrap()[0], answer.hits);
        assert!(strict.search_batch(&queries, 5).is_err());
        assert_eq!(answer.hits.len(), 5);
        assert!(answer.hits.iter().all(|hit| lenient.shard_of(hit.id) != 2));
        let orphan = (1_000..2_000).find(|&id| lenient.shard_of(id) == 2).unwrap();
        let other = (1_000..2_000).find(|&id| lenient.shard_of(id) != 2).unwrap();
        assert!(matches!(lenient.add(&[other, orphan], &random(2, 6, 7)), Err(AnnError::ShardUnavailable(2))));
        assert_eq!(lenient.len(), 1_000, "a refused call adds nothing anywhere");
        assert!(lenient.remove(&[orphan]).is_err());
        assert!(lenient.save(Path::new("never-written")).is_err());
        for shard in 0..8 {
            (0..3).for_each(|replica| lenient.fail(shard, replica).unwrap());
        }
        assert!(lenient.search(queries.row(0), 5).is_err(), "nobody is left to answer");
    }

    #[test]
    fn a_replica_that_missed_writes_needs_a_live_one_to_recover() {
        let mut index = ShardedIndex::builder().replicas(2).build(1, Metric::SquaredL2).unwrap();
        index.fail(0, 0).unwrap();
        index.add(&[1], &Matrix::from_rows(&[[1.0]]).unwrap()).unwrap();
        index.fail(0, 1).unwrap();
        assert!(matches!(index.recover(0, 0), Err(AnnError::StaleReplica { shard: 0, replica: 0 })));
        index.recover(0, 1).unwrap();
        index.recover(0, 0).unwrap();
        index.fail(0, 1).unwrap();
        assert_eq!(index.search(&[0.0], 1).unwrap()[0].id, 1, "the recovered replica has the write it missed");
    }

    #[test]
    fn folders_round_trip_and_damage_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (vectors, queries) = (random(300, 6, 8), random(10, 6, 9));
        let hnsw = IndexKind::Hnsw(HnswConfig::default());
        for inner in [IndexKind::Flat, hnsw] {
            let path = dir.path().join("index");
            let mut index = sharded(inner, OnMissing::Error, &vectors);
            index.save(&path).unwrap();
            index.remove(&[1, 2, 3]).unwrap();
            index.save(&path).unwrap();
            let loaded = ShardedIndex::load(&path).unwrap();
            assert_eq!(loaded.search_batch(&queries, 7).unwrap(), index.search_batch(&queries, 7).unwrap());
            assert_eq!((loaded.len(), loaded.shard_lens()), (297, index.shard_lens()));
            let files: Vec<_> = std::fs::read_dir(&path).unwrap().map(|f| f.unwrap().path()).collect();
            assert_eq!(files.len(), 9, "the files of the first save are gone");
            let shard = files.iter().find(|f| f.to_string_lossy().contains("shard-0005")).unwrap();
            let mut bytes = std::fs::read(shard).unwrap();
            bytes[100] ^= 1;
            std::fs::write(shard, &bytes).unwrap();
            let message = ShardedIndex::load(&path).unwrap_err().to_string();
            assert!(message.contains("shard-0005") && message.contains("altered"), "{message}");
            std::fs::remove_file(shard).unwrap();
            assert!(matches!(ShardedIndex::load(&path), Err(AnnError::Io { .. })));
            std::fs::remove_dir_all(&path).unwrap();
        }
        assert!(ShardedIndex::load(dir.path()).is_err());
    }

    #[test]
    fn settings_are_checked() {
        assert!(ShardedIndex::builder().shards(0).build(4, Metric::Dot).is_err());
        assert!(ShardedIndex::builder().replicas(0).build(4, Metric::Dot).is_err());
        assert!(ShardedIndex::builder().build(0, Metric::Dot).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn merging_is_sorting_the_concatenation(
            lists in prop::collection::vec(prop::collection::vec((0u64..30, -3i8..3), 0..20), 0..6),
            k in 0usize..40,
            nearest in prop::bool::ANY,
        ) {
            let metric = if nearest { Metric::SquaredL2 } else { Metric::Dot };
            let mut lists: Vec<Vec<Hit>> = lists
                .into_iter()
                .map(|list| list.into_iter().map(|(id, score)| Hit { id, score: f32::from(score) }).collect())
                .collect();
            for list in &mut lists {
                list.sort_by(|a, b| metric.best_first(a, b));
            }
            let mut expected = lists.concat();
            expected.sort_by(|a, b| metric.best_first(a, b));
            expected.truncate(k);
            prop_assert_eq!(merge_hits(metric, &lists, k), expected);
        }
    }
}
