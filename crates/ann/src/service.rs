//! [`AnnService`]: an index under ids that can be replaced and removed, rebuilt while searches run, and recovered from a log.
//!
//! Vectors lie in slots that are never used twice. Replacing an id fills a new slot and leaves a tombstone in the old one, removing it leaves
//! a tombstone; a search passes tombstones over as it goes, so that `k` live ids come back wherever there are as many. A rebuild makes an
//! index of the live vectors aside, applies to it what changed meanwhile, and puts it in the place of the old one.
//!
//! Every change is in the write-ahead log before it is in the index. A call is one record: after a crash it is there as a whole or not at
//! all.
//!
//! ```
//! use eas_ann::service::AnnService;
//! use eas_ann::{FlatIndex, Metric};
//! use eas_tensor::Matrix;
//!
//! let service = AnnService::new(2, |_| Ok(Box::new(FlatIndex::new(2, Metric::Cosine)?)))?;
//! service.add(&[10, 20], &Matrix::from_rows(&[[1.0, 0.0], [0.0, 1.0]])?)?;
//! service.add(&[10], &Matrix::from_rows(&[[0.0, -1.0]])?)?; // a known id: replaced
//! assert_eq!(service.search(&[0.0, 1.0], 2)?.iter().map(|hit| hit.id).collect::<Vec<_>>(), [20, 10]);
//! assert_eq!((service.stats().live, service.stats().tombstones), (2, 1));
//! service.rebuild()?;
//! assert_eq!((service.stats().live, service.stats().tombstones), (2, 0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use eas_tensor::Matrix;

use crate::index::{check_dim, check_rows, last_rows, prepare_query};
use crate::versioned::Versioned;
use crate::wal::{Recovery, Wal};
use crate::{AnnError, Hit, Metric, VectorIndex};

/// Makes an empty index, trained on the given vectors where it needs training (they are none in a new service).
pub type Build = dyn Fn(&Matrix) -> Result<Box<dyn VectorIndex>, AnnError> + Send + Sync;

/// Numbers of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceStats {
    /// Ids that a search can find.
    pub live: usize,
    /// Slots of vectors that were replaced or removed.
    pub tombstones: usize,
    /// Slots of the index, live ones and tombstones.
    pub slots: usize,
    /// Values a vector.
    pub dim: usize,
    /// 1 for the first index, one more after each rebuild.
    pub version: u64,
}

/// What a rebuild did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rebuilt {
    /// Tombstones that are gone.
    pub dropped: usize,
    /// Calls that changed the service while the new index was built, and were applied to it.
    pub replayed: usize,
}

/// One call, as the log has it.
#[derive(Debug, Clone)]
enum Change {
    Put { ids: Vec<u64>, vectors: Matrix },
    Remove { ids: Vec<u64> },
}

const PUT: u8 = 1;
const REMOVE: u8 = 2;

impl Change {
    /// The kind (1 byte), the number of ids (4), the ids (8 each), and for vectors their f32 values; little-endian.
    fn to_bytes(&self) -> Vec<u8> {
        let (kind, ids, values) = match self {
            Self::Put { ids, vectors } => (PUT, ids, vectors.as_slice()),
            Self::Remove { ids } => (REMOVE, ids, &[][..]),
        };
        let mut bytes = vec![kind];
        bytes.extend((ids.len() as u32).to_le_bytes());
        bytes.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
        bytes.extend(values.iter().flat_map(|x| x.to_le_bytes()));
        bytes
    }

    /// `None` for what [`to_bytes`](Self::to_bytes) wouldn't have written with this dimension.
    fn from_bytes(bytes: &[u8], dim: usize) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let (count, rest) = rest.split_first_chunk::<4>()?;
        let count = u32::from_le_bytes(*count) as usize;
        let (ids, values) = rest.split_at_checked(count.checked_mul(8)?)?;
        let ids: Vec<u64> = ids.as_chunks::<8>().0.iter().map(|id| u64::from_le_bytes(*id)).collect();
        match *kind {
            PUT if values.len() == count.checked_mul(dim)?.checked_mul(4)? => {
                let values = values.as_chunks::<4>().0.iter().map(|x| f32::from_le_bytes(*x)).collect();
                Some(Self::Put { ids, vectors: Matrix::from_vec(count, dim, values).ok()? })
            }
            REMOVE if values.is_empty() => Some(Self::Remove { ids }),
            _ => None,
        }
    }
}

/// One index with its slots.
struct Body {
    /// Its ids are slot numbers.
    index: Box<dyn VectorIndex>,
    /// The id of each slot, until it becomes a tombstone.
    slots: Vec<Option<u64>>,
    slot_of: HashMap<u64, usize>,
    /// The vector of each slot: what a rebuild reads.
    vectors: Matrix,
}

impl Body {
    fn new(dim: usize, build: &Build, sample: &Matrix) -> Result<Self, AnnError> {
        let index = build(sample)?;
        if index.dim() != dim {
            return Err(AnnError::Dimension { expected: dim, got: index.dim() });
        }
        if index.metric() != Metric::Cosine {
            return Err(AnnError::parameter("metric", &format!("{:?}", index.metric()), "Cosine"));
        }
        if !index.is_empty() {
            return Err(AnnError::parameter("index", &format!("{} vectors", index.len()), "empty"));
        }
        Ok(Self { index, slots: Vec::new(), slot_of: HashMap::new(), vectors: Matrix::zeros(0, dim) })
    }

    fn apply(&mut self, change: &Change) -> Result<(), AnnError> {
        match change {
            Change::Put { ids, vectors } => {
                let first = self.slots.len();
                let slots: Vec<u64> = (first..first + ids.len()).map(|slot| slot as u64).collect();
                self.index.add(&slots, vectors)?;
                self.vectors.append(vectors)?;
                for (slot, &id) in (first..).zip(ids) {
                    self.slots.push(Some(id));
                    if let Some(old) = self.slot_of.insert(id, slot) {
                        self.slots[old] = None;
                    }
                }
            }
            Change::Remove { ids } => {
                for slot in ids.iter().filter_map(|id| self.slot_of.remove(id)) {
                    self.slots[slot] = None;
                }
            }
        }
        Ok(())
    }

    fn tombstones(&self) -> usize {
        self.slots.len() - self.slot_of.len()
    }

    fn search(&self, query: &[f32], k: usize) -> Result<Vec<Hit>, AnnError> {
        let live = |slot: u64| self.slots.get(slot as usize).copied().flatten();
        let found = match self.tombstones() {
            0 => self.index.search(query, k)?,
            _ => self.index.search_where(query, k, &|slot| live(slot).is_some())?,
        };
        let mut hits: Vec<Hit> = found
            .iter()
            .filter_map(|hit| live(hit.id).map(|id| Hit { id, score: hit.score.clamp(-1.0, 1.0) }))
            .collect();
        hits.sort_by(|a, b| Metric::Cosine.best_first(a, b));
        Ok(hits)
    }
}

/// What writers share: who holds it is the only one to change anything.
#[derive(Default)]
struct Writing {
    log: Option<(Wal, PathBuf)>,
    /// A write of the log failed: what it holds is not what the index holds.
    broken: bool,
    /// Changes since a rebuild began, while one is under way.
    since: Option<Vec<Change>>,
}

/// Vectors under ids, by cosine, for many threads at a time.
pub struct AnnService {
    dim: usize,
    build: Box<Build>,
    current: Versioned<RwLock<Body>>,
    writing: Mutex<Writing>,
    /// Held during a rebuild: one at a time.
    rebuilding: Mutex<()>,
}

impl fmt::Debug for AnnService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnnService").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl AnnService {
    /// An empty service in memory. `build` must give empty indexes of dimension `dim` under [`Metric::Cosine`].
    pub fn new(
        dim: usize,
        build: impl Fn(&Matrix) -> Result<Box<dyn VectorIndex>, AnnError> + Send + Sync + 'static,
    ) -> Result<Self, AnnError> {
        check_dim(dim)?;
        let body = Body::new(dim, &build, &Matrix::zeros(0, dim))?;
        Ok(Self {
            dim,
            build: Box::new(build),
            current: Versioned::new(RwLock::new(body)),
            writing: Mutex::default(),
            rebuilding: Mutex::new(()),
        })
    }

    /// A service whose changes are logged in the file at `path`. What the log holds is applied first, and an index is built of what is left;
    /// a record that a crash tore off counts for nothing.
    ///
    /// A log that was altered or that holds vectors of another dimension is [`AnnError::Corrupt`].
    pub fn open(
        path: &Path,
        dim: usize,
        build: impl Fn(&Matrix) -> Result<Box<dyn VectorIndex>, AnnError> + Send + Sync + 'static,
    ) -> Result<(Self, Recovery), AnnError> {
        let service = Self::new(dim, build)?;
        // The last vector of each id, in the order in which they came.
        let (mut vectors, mut row_of) = (Matrix::zeros(0, dim), HashMap::new());
        let (log, recovery) = Wal::open(path, |number, payload| {
            match Change::from_bytes(payload, dim) {
                Some(Change::Put { ids, vectors: rows }) => {
                    row_of.extend(ids.into_iter().zip(vectors.rows()..));
                    vectors.append(&rows)?;
                }
                Some(Change::Remove { ids }) => ids.iter().for_each(|id| {
                    row_of.remove(id);
                }),
                None => {
                    let reason = format!("record {number} is no change of vectors of dimension {dim}");
                    return Err(AnnError::Corrupt { path: path.to_path_buf(), reason });
                }
            }
            Ok(())
        })?;
        let mut live: Vec<(usize, u64)> = row_of.into_iter().map(|(id, row)| (row, id)).collect();
        live.sort_unstable();
        let (rows, ids): (Vec<usize>, Vec<u64>) = live.into_iter().unzip();
        let body = service.built(ids, vectors.select(&rows))?;
        service.current.swap(RwLock::new(body));
        service.writing().log = Some((log, path.to_path_buf()));
        Ok((service, recovery))
    }

    fn built(&self, ids: Vec<u64>, vectors: Matrix) -> Result<Body, AnnError> {
        let mut body = Body::new(self.dim, &*self.build, &vectors)?;
        body.apply(&Change::Put { ids, vectors })?;
        Ok(body)
    }

    /// Adds row `i` of `vectors` under `ids[i]`. A known id is replaced; of an id given twice the last row counts. Returns how many were
    /// replaced.
    pub fn add(&self, ids: &[u64], vectors: &Matrix) -> Result<usize, AnnError> {
        check_rows(self.dim, ids, vectors)?;
        let (ids, rows) = last_rows(ids);
        let mut writing = self.writing();
        let known = self.known(&ids);
        self.change(&mut writing, Change::Put { ids, vectors: vectors.select(&rows) })?;
        Ok(known)
    }

    /// As [`add`](Self::add), for known ids alone: an unknown one is an error, and nothing is changed.
    pub fn update(&self, ids: &[u64], vectors: &Matrix) -> Result<(), AnnError> {
        check_rows(self.dim, ids, vectors)?;
        let (ids, rows) = last_rows(ids);
        let mut writing = self.writing();
        if let Some(unknown) = ids.iter().find(|id| !self.contains(**id)) {
            return Err(AnnError::parameter("id", unknown, "an id of the service"));
        }
        self.change(&mut writing, Change::Put { ids, vectors: vectors.select(&rows) })
    }

    /// Removes ids; unknown ones don't matter. Returns how many were known.
    pub fn remove(&self, ids: &[u64]) -> Result<usize, AnnError> {
        let ids: Vec<u64> = last_rows(ids).0;
        let mut writing = self.writing();
        let known = self.known(&ids);
        self.change(&mut writing, Change::Remove { ids })?;
        Ok(known)
    }

    /// Logs a change and makes it.
    fn change(&self, writing: &mut Writing, change: Change) -> Result<(), AnnError> {
        if let Some((log, path)) = &mut writing.log {
            if writing.broken {
                return Err(AnnError::ReadOnly { path: path.clone() });
            }
            log.append(&change.to_bytes())?;
            if let Err(error) = log.sync() {
                writing.broken = true;
                return Err(error);
            }
        }
        let version = self.current.current();
        version.value.write().unwrap_or_else(PoisonError::into_inner).apply(&change)?;
        if let Some(since) = &mut writing.since {
            since.push(change);
        }
        Ok(())
    }

    /// The `k` live ids nearest to `query`, with their cosines, best first, ties by lower id.
    ///
    /// A change is seen by every search that begins after it returned. A rebuild makes no search wait.
    pub fn search(&self, query: &[f32], k: usize) -> Result<Vec<Hit>, AnnError> {
        prepare_query(Metric::Cosine, self.dim, query)?;
        let version = self.current.current();
        version.value.read().unwrap_or_else(PoisonError::into_inner).search(query, k)
    }

    /// True when `id` can be found.
    pub fn contains(&self, id: u64) -> bool {
        self.read(|body| body.slot_of.contains_key(&id))
    }

    /// The live ids, ascending.
    pub fn ids(&self) -> Vec<u64> {
        let mut ids: Vec<u64> = self.read(|body| body.slot_of.keys().copied().collect());
        ids.sort_unstable();
        ids
    }

    /// Builds an index of the live vectors aside and puts it in force. Searches go on in the old one meanwhile, and so do changes, which are
    /// then made in the new one too. After an error the old index stays.
    pub fn rebuild(&self) -> Result<Rebuilt, AnnError> {
        let _one_at_a_time = self.rebuilding.lock().unwrap_or_else(PoisonError::into_inner);
        let (ids, vectors, dropped) = {
            let mut writing = self.writing();
            writing.since = Some(Vec::new());
            self.read(|body| {
                let live = (0..body.slots.len()).filter_map(|slot| body.slots[slot].map(|id| (id, slot)));
                let (ids, slots): (Vec<u64>, Vec<usize>) = live.unzip();
                (ids, body.vectors.select(&slots), body.tombstones())
            })
        };
        let built = self.built(ids, vectors);
        let mut writing = self.writing();
        let since = writing.since.take().unwrap_or_default();
        let mut body = built?;
        since.iter().try_for_each(|change| body.apply(change))?;
        self.current.swap(RwLock::new(body));
        Ok(Rebuilt { dropped, replayed: since.len() })
    }

    /// The numbers of the service.
    pub fn stats(&self) -> ServiceStats {
        let version = self.current.current();
        let body = version.value.read().unwrap_or_else(PoisonError::into_inner);
        ServiceStats {
            live: body.slot_of.len(),
            tombstones: body.tombstones(),
            slots: body.slots.len(),
            dim: self.dim,
            version: version.number,
        }
    }

    fn known(&self, ids: &[u64]) -> usize {
        self.read(|body| {
            ids.iter().collect::<HashSet<_>>().into_iter().filter(|id| body.slot_of.contains_key(id)).count()
        })
    }

    fn read<T>(&self, look: impl FnOnce(&Body) -> T) -> T {
        let version = self.current.current();
        let body = version.value.read().unwrap_or_else(PoisonError::into_inner);
        look(&body)
    }

    fn writing(&self) -> MutexGuard<'_, Writing> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use eas_tensor::kernels::cosine;
    use eas_tensor::rng::SplitMix64;

    use super::*;
    use crate::{FlatIndex, Hnsw, HnswConfig, IvfConfig, IvfIndex};

    const DIM: usize = 6;

    #[allow(clippy::unnecessary_wraps)]
    fn flat(_: &Matrix) -> Result<Box<dyn VectorIndex>, AnnError> {
        Ok(Box::new(FlatIndex::new(DIM, Metric::Cosine)?))
    }

    fn graph(_: &Matrix) -> Result<Box<dyn VectorIndex>, AnnError> {
        Ok(Box::new(Hnsw::new(DIM, Metric::Cosine, HnswConfig::default())?))
    }

    fn random(rng: &mut SplitMix64, rows: usize) -> Matrix {
        Matrix::from_vec(rows, DIM, (0..rows * DIM).map(|_| rng.normal() as f32).collect()).unwrap()
    }

    /// The definition: every live vector, sorted.
    fn brute_force(truth: &HashMap<u64, Vec<f32>>, query: &[f32], k: usize) -> Vec<u64> {
        let mut all: Vec<Hit> = truth.iter().map(|(&id, v)| Hit { id, score: cosine(query, v) }).collect();
        all.sort_by(|a, b| Metric::Cosine.best_first(a, b));
        all.iter().take(k).map(|hit| hit.id).collect()
    }

    fn agree(service: &AnnService, truth: &HashMap<u64, Vec<f32>>, rng: &mut SplitMix64) {
        for _ in 0..20 {
            let query = random(rng, 1);
            let found = service.search(query.row(0), 5).unwrap();
            assert!(found.iter().all(|hit| (-1.0..=1.0).contains(&hit.score)));
            let ids: Vec<u64> = found.iter().map(|hit| hit.id).collect();
            assert_eq!(ids, brute_force(truth, query.row(0), 5));
        }
        let stats = service.stats();
        assert_eq!((stats.live, stats.live + stats.tombstones), (truth.len(), stats.slots));
    }

    /// Random changes, made to the service and to a map.
    fn churn(service: &AnnService, truth: &mut HashMap<u64, Vec<f32>>, rng: &mut SplitMix64, steps: usize) {
        for _ in 0..steps {
            let ids: Vec<u64> = (0..=rng.below(4)).map(|_| rng.below(60) as u64).collect();
            if rng.chance(0.3) {
                let known = ids.iter().collect::<HashSet<_>>().into_iter().filter(|id| truth.contains_key(id)).count();
                assert_eq!(service.remove(&ids).unwrap(), known);
                for id in &ids {
                    truth.remove(id);
                }
            } else {
                let rows = random(rng, ids.len());
                service.add(&ids, &rows).unwrap();
                truth.extend(ids.iter().copied().zip(rows.iter_rows().map(<[f32]>::to_vec)));
            }
        }
    }

    #[test]
    fn changes_and_rebuilds_keep_what_brute_force_finds() {
        for build in [flat, graph] {
            let (service, mut truth) = (AnnService::new(DIM, build).unwrap(), HashMap::new());
            let mut rng = SplitMix64::new(5);
            for round in 1..6 {
                churn(&service, &mut truth, &mut rng, 60);
                agree(&service, &truth, &mut rng);
                let before = service.stats();
                assert_eq!(service.rebuild().unwrap(), Rebuilt { dropped: before.tombstones, replayed: 0 });
                assert_eq!((service.stats().tombstones, service.stats().version), (0, round + 1));
                agree(&service, &truth, &mut rng);
            }
            let mut ids: Vec<u64> = truth.keys().copied().collect();
            ids.sort_unstable();
            assert_eq!(service.ids(), ids);
        }
    }

    #[test]
    fn an_index_that_needs_training_is_trained_on_the_live_vectors() {
        let mut rng = SplitMix64::new(9);
        let sample = random(&mut rng, 50);
        let build = move |live: &Matrix| -> Result<Box<dyn VectorIndex>, AnnError> {
            let sample = if live.rows() < 8 { &sample } else { live };
            Ok(Box::new(IvfIndex::train(
                sample,
                Metric::Cosine,
                IvfConfig { lists: 4, nprobe: 4, ..IvfConfig::default() },
            )?))
        };
        let (service, mut truth) = (AnnService::new(DIM, build).unwrap(), HashMap::new());
        churn(&service, &mut truth, &mut rng, 80);
        service.rebuild().unwrap();
        agree(&service, &truth, &mut rng);
    }

    #[test]
    fn no_search_fails_and_no_change_is_lost_while_rebuilding() {
        let service = AnnService::new(DIM, graph).unwrap();
        let mut rng = SplitMix64::new(1);
        service.add(&(0..3_000).collect::<Vec<_>>(), &random(&mut rng, 3_000)).unwrap();
        service.remove(&(0..500).collect::<Vec<_>>()).unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for thread in 0..3 {
                let (service, stop) = (&service, &stop);
                scope.spawn(move || {
                    let mut rng = SplitMix64::new(100 + thread);
                    while !stop.load(Ordering::Relaxed) {
                        let found = service.search(random(&mut rng, 1).row(0), 10).unwrap();
                        assert_eq!(found.len(), 10);
                        assert!(found.iter().all(|hit| hit.id >= 500));
                    }
                });
            }
            let writer = scope.spawn(|| {
                let mut rng = SplitMix64::new(77);
                for id in 5_000..5_300 {
                    service.add(&[id], &random(&mut rng, 1)).unwrap();
                }
            });
            for _ in 0..3 {
                service.rebuild().unwrap();
            }
            writer.join().unwrap();
            stop.store(true, Ordering::Relaxed);
        });
        let ids: Vec<u64> = (500..3_000).chain(5_000..5_300).collect();
        assert_eq!(service.ids(), ids);
    }

    #[test]
    fn a_log_cut_off_anywhere_gives_the_state_after_some_call() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let (service, _) = AnnService::open(&path, DIM, flat).unwrap();
        let (mut truth, mut rng) = (HashMap::new(), SplitMix64::new(3));
        let mut states = vec![HashMap::new()];
        for _ in 0..25 {
            churn(&service, &mut truth, &mut rng, 1);
            states.push(truth.clone());
        }
        service.rebuild().unwrap();
        drop(service);
        let bytes = std::fs::read(&path).unwrap();
        let mut lengths: Vec<usize> = (20..bytes.len()).step_by(37).collect();
        lengths.push(bytes.len());
        for length in lengths {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let (service, recovery) = AnnService::open(&path, DIM, flat).unwrap();
            agree(&service, &states[recovery.records as usize], &mut rng);
            assert!(length < bytes.len() || recovery.records == 25);
        }
        // It goes on where it was.
        let (service, _) = AnnService::open(&path, DIM, flat).unwrap();
        churn(&service, &mut truth, &mut rng, 5);
        drop(service);
        agree(&AnnService::open(&path, DIM, flat).unwrap().0, &truth, &mut rng);
        // Vectors of another dimension, and a second writer.
        let other =
            |_: &Matrix| -> Result<Box<dyn VectorIndex>, AnnError> { Ok(Box::new(FlatIndex::new(7, Metric::Cosine)?)) };
        assert!(matches!(AnnService::open(&path, 7, other), Err(AnnError::Corrupt { .. })));
        let held = AnnService::open(&path, DIM, flat).unwrap();
        assert!(matches!(AnnService::open(&path, DIM, flat), Err(AnnError::Locked { .. })));
        drop(held);
    }

    #[test]
    fn bad_input_is_refused_and_changes_nothing() {
        assert!(AnnService::new(0, flat).is_err());
        assert!(matches!(AnnService::new(5, flat), Err(AnnError::Dimension { expected: 5, got: DIM })));
        let l2 = |_: &Matrix| -> Result<Box<dyn VectorIndex>, AnnError> {
            Ok(Box::new(FlatIndex::new(DIM, Metric::SquaredL2)?))
        };
        assert!(AnnService::new(DIM, l2).is_err());
        let service = AnnService::new(DIM, flat).unwrap();
        let mut rng = SplitMix64::new(3);
        service.add(&[1, 2, 1], &random(&mut rng, 3)).unwrap();
        assert_eq!((service.stats().live, service.stats().slots), (2, 2));
        let mut nan = random(&mut rng, 1);
        nan.row_mut(0)[2] = f32::NAN;
        assert!(service.add(&[3], &nan).is_err());
        assert!(service.add(&[3, 4], &random(&mut rng, 1)).is_err());
        assert!(service.add(&[3], &Matrix::zeros(1, 5)).is_err());
        assert!(service.update(&[1, 9], &random(&mut rng, 2)).is_err());
        assert_eq!((service.ids(), service.stats().tombstones), (vec![1, 2], 0));
        service.update(&[1], &random(&mut rng, 1)).unwrap();
        assert_eq!((service.stats().live, service.stats().tombstones), (2, 1));
        assert!(service.search(&[1.0; 5], 1).is_err());
        assert!(service.search(&[f32::INFINITY; DIM], 1).is_err());
        assert!(service.search(&[1.0; DIM], 0).unwrap().is_empty());
        assert_eq!(service.search(&[1.0; DIM], 9).unwrap().len(), 2);
        assert_eq!((service.remove(&[9, 9]).unwrap(), service.remove(&[1, 2, 2]).unwrap()), (0, 2));
        assert!(service.search(&[1.0; DIM], 9).unwrap().is_empty());
        service.rebuild().unwrap();
        service.add(&[], &Matrix::zeros(0, DIM)).unwrap();
        assert_eq!(service.stats(), ServiceStats { live: 0, tombstones: 0, slots: 0, dim: DIM, version: 2 });
    }
}
