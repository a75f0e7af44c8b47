//! [`EmbeddingService`]: an encoder behind a cache. It encodes each item once, in batches, and answers from what it has when the encoder fails.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eas_tensor::kernels::cosine;
use sha2::{Digest as _, Sha256};

use crate::breaker::{BreakerConfig, CircuitBreaker};
use crate::clock::{Clock, Micros};
use crate::digest::Digest;
use crate::error::check;
use crate::{Cache, OpsError, Policy};

/// What identifies an item: 128 bits of a hash of its type, shape and bytes. Equal bytes of another shape or type are another item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key([u8; 16]);

impl Key {
    /// The key of an array of `shape` whose values of type `dtype` are `bytes`.
    ///
    /// ```
    /// use eas_ops::embedding::Key;
    ///
    /// let bytes = [0; 24];
    /// assert_eq!(Key::of("f32", &[2, 3], &bytes), Key::of("f32", &[2, 3], &bytes));
    /// assert_ne!(Key::of("f32", &[2, 3], &bytes), Key::of("f32", &[3, 2], &bytes));
    /// assert_ne!(Key::of("f32", &[6], &bytes), Key::of("i32", &[6], &bytes));
    /// ```
    pub fn of(dtype: &str, shape: &[usize], bytes: &[u8]) -> Self {
        let mut hash = Sha256::new();
        // Lengths in front of what they count: no two different inputs are one stream.
        hash.update((dtype.len() as u64).to_le_bytes());
        hash.update(dtype.as_bytes());
        hash.update((shape.len() as u64).to_le_bytes());
        for side in shape {
            hash.update((*side as u64).to_le_bytes());
        }
        hash.update(bytes);
        let mut key = [0; 16];
        key.copy_from_slice(&hash.finalize()[..16]);
        Self(key)
    }
}

/// Something that can be embedded.
pub trait Item {
    /// What identifies it.
    fn key(&self) -> Key;
}

/// One dimension of f32 values.
impl Item for Vec<f32> {
    fn key(&self) -> Key {
        let bytes: Vec<u8> = self.iter().flat_map(|x| x.to_le_bytes()).collect();
        Key::of("f32", &[self.len()], &bytes)
    }
}

/// An embedding; many hold the same one.
pub type Embedding = Arc<[f32]>;

/// From a batch of items to as many vectors of one dimension, or the reason why not.
pub type Encode<T> = dyn Fn(&[&T]) -> Result<Vec<Vec<f32>>, String> + Send + Sync;

/// What an item gets that isn't cached while the encoder fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// The embedding of an earlier model where the cache still has it, else an error.
    Stale,
    /// An error.
    Error,
}

/// Settings of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceConfig {
    /// Embeddings kept.
    pub capacity: usize,
    /// Most items the encoder gets at a time.
    pub batch: usize,
    /// A batch that takes longer counts as a failure, though its result is used: the encoder can't be interrupted.
    pub limit: Micros,
    /// What happens while the encoder fails.
    pub fallback: Fallback,
    /// When the encoder isn't called at all for a while.
    pub breaker: BreakerConfig,
}

impl Default for ServiceConfig {
    /// 100,000 embeddings, batches of 256, a second each, stale answers, five failures of ten.
    fn default() -> Self {
        Self {
            capacity: 100_000,
            batch: 256,
            limit: 1_000_000,
            fallback: Fallback::Stale,
            breaker: BreakerConfig::default(),
        }
    }
}

/// What a service did so far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ServiceStats {
    /// Embeddings in the cache.
    pub size: usize,
    /// Items answered without the encoder, repetitions within a batch included.
    pub hits: u64,
    /// Items that were not cached for the model in force.
    pub misses: u64,
    /// Items that the encoder has encoded.
    pub encoded: u64,
    /// Misses answered with an embedding of an earlier model.
    pub stale: u64,
    /// Embeddings that left for others.
    pub evictions: u64,
    /// Half of the calls took at most so long, in microseconds; `None` before the first.
    pub p50: Option<f64>,
    /// 99 of 100 did.
    pub p99: Option<f64>,
}

impl ServiceStats {
    /// Share of the items answered without the encoder; 0 before the first.
    pub fn hit_rate(&self) -> f64 {
        self.hits as f64 / (self.hits + self.misses).max(1) as f64
    }
}

/// Whether the last batch was encoded as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It was, or there was none yet.
    Healthy,
    /// It wasn't, for this reason.
    Degraded(String),
}

struct Model<T> {
    version: String,
    encode: Box<Encode<T>>,
}

#[derive(Debug)]
struct Cached {
    embedding: Embedding,
    /// Number of the model that made it.
    generation: u64,
}

struct State<T> {
    model: Arc<Model<T>>,
    generation: u64,
    cache: Cache<Key, Cached>,
    breaker: CircuitBreaker,
    health: Health,
    latency: Digest,
    hits: u64,
    misses: u64,
    encoded: u64,
    stale: u64,
}

/// Embeddings of items, for many threads at a time.
///
/// The cache is searched by content, and each embedding knows the model that made it: after [`switch_model`](Self::switch_model) all items
/// are misses, but the old embeddings remain as a fallback until they are encoded anew. Nothing is locked while the encoder runs, so that
/// two threads which miss the same item at once both encode it.
///
/// ```
/// use std::sync::Arc;
/// use eas_ops::clock::VirtualClock;
/// use eas_ops::embedding::{EmbeddingService, ServiceConfig};
///
/// let double = |items: &[&Vec<f32>]| Ok(items.iter().map(|x| x.iter().map(|v| 2.0 * v).collect()).collect());
/// let service = EmbeddingService::new(ServiceConfig::default(), Arc::new(VirtualClock::new()), "v1", double)?;
/// let batch = service.get_batch(&[vec![1.0, 2.0], vec![3.0, 4.0], vec![1.0, 2.0]])?;
/// assert_eq!(&*batch[2], [2.0, 4.0]);
/// assert_eq!(service.stats().encoded, 2);
/// assert!((service.compare(&vec![1.0, 2.0], &vec![2.0, 4.0])? - 1.0).abs() < 1e-6);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct EmbeddingService<T> {
    config: ServiceConfig,
    clock: Arc<dyn Clock>,
    state: Mutex<State<T>>,
}

impl<T> fmt::Debug for EmbeddingService<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddingService").field("config", &self.config).finish_non_exhaustive()
    }
}

impl<T: Item> EmbeddingService<T> {
    /// A service of one model. `batch` of 0 is an error.
    pub fn new(
        config: ServiceConfig,
        clock: Arc<dyn Clock>,
        version: impl Into<String>,
        encode: impl Fn(&[&T]) -> Result<Vec<Vec<f32>>, String> + Send + Sync + 'static,
    ) -> Result<Self, OpsError> {
        check("batch", config.batch, config.batch > 0, "at least 1")?;
        let state = State {
            model: Arc::new(Model { version: version.into(), encode: Box::new(encode) }),
            generation: 0,
            cache: Cache::new(config.capacity, Policy::Lru),
            breaker: CircuitBreaker::new(config.breaker)?,
            health: Health::Healthy,
            latency: Digest::new(0.01)?,
            hits: 0,
            misses: 0,
            encoded: 0,
            stale: 0,
        };
        Ok(Self { config, clock, state: Mutex::new(state) })
    }

    /// The embedding of one item.
    pub fn get(&self, item: &T) -> Result<Embedding, OpsError> {
        let found = self.get_all(&[item])?;
        found.into_iter().next().ok_or(OpsError::Encoder("no vector for one item".into()))
    }

    /// The embeddings of `items`, in their order. Each different item that isn't cached is encoded once.
    ///
    /// What was encoded before a failure stays cached. The call fails when an item has neither an embedding nor a fallback.
    pub fn get_batch(&self, items: &[T]) -> Result<Vec<Embedding>, OpsError> {
        self.get_all(&items.iter().collect::<Vec<_>>())
    }

    fn get_all(&self, items: &[&T]) -> Result<Vec<Embedding>, OpsError> {
        let start = self.clock.now();
        let keys: Vec<Key> = items.iter().map(|item| item.key()).collect();
        let (mut found, missing, model, generation) = self.look_up(&keys);
        let mut failure = None;
        for chunk in missing.chunks(self.config.batch) {
            let batch: Vec<&T> = chunk.iter().map(|&at| items[at]).collect();
            match self.encode(&model, generation, &batch) {
                Ok(embeddings) => {
                    self.keep(chunk.iter().map(|&at| keys[at]), &embeddings, generation);
                    found.extend(chunk.iter().map(|&at| keys[at]).zip(embeddings));
                }
                Err(reason) => {
                    if self.config.fallback == Fallback::Stale {
                        self.serve_stale(chunk.iter().map(|&at| keys[at]), &mut found);
                    }
                    failure = Some(reason);
                }
            }
        }
        self.state().latency.add(self.clock.now().saturating_sub(start) as f64);
        let all = keys.iter().map(|key| found.get(key).cloned()).collect::<Option<Vec<Embedding>>>();
        all.ok_or(OpsError::Encoder(failure.unwrap_or_default()))
    }

    /// What the cache has, and the first position of each item that it hasn't.
    fn look_up(&self, keys: &[Key]) -> (HashMap<Key, Embedding>, Vec<usize>, Arc<Model<T>>, u64) {
        let (mut found, mut missing) = (HashMap::new(), HashMap::new());
        let mut guard = self.state();
        let state = &mut *guard;
        for (at, key) in keys.iter().enumerate() {
            if found.contains_key(key) || missing.contains_key(key) {
                state.hits += 1;
                continue;
            }
            match state.cache.get(key) {
                Some(cached) if cached.generation == state.generation => {
                    state.hits += 1;
                    found.insert(*key, Arc::clone(&cached.embedding));
                }
                _ => {
                    state.misses += 1;
                    missing.insert(*key, at);
                }
            }
        }
        let mut missing: Vec<usize> = missing.into_values().collect();
        missing.sort_unstable();
        (found, missing, Arc::clone(&state.model), state.generation)
    }

    /// Calls the encoder, unless it has failed too often of late.
    fn encode(&self, model: &Model<T>, generation: u64, batch: &[&T]) -> Result<Vec<Embedding>, String> {
        let start = self.clock.now();
        let permit = self.state().breaker.try_call(start).map_err(|open| open.to_string())?;
        let vectors = (model.encode)(batch).and_then(|vectors| checked(vectors, batch.len()));
        let end = self.clock.now();
        let taken = end.saturating_sub(start);
        let mut state = self.state();
        let problem = match &vectors {
            Err(reason) => Some(reason.clone()),
            Ok(_) if taken > self.config.limit => {
                Some(format!("{taken} us for a batch, {} allowed", self.config.limit))
            }
            Ok(_) => None,
        };
        state.breaker.record(permit, problem.is_none(), end);
        state.encoded += vectors.as_ref().map_or(0, |v| v.len() as u64);
        // What a model that has been replaced does says nothing about the one in force.
        if state.generation == generation {
            state.health = problem.map_or(Health::Healthy, Health::Degraded);
        }
        vectors
    }

    /// Caches embeddings, unless the model has been replaced meanwhile.
    fn keep(&self, keys: impl Iterator<Item = Key>, embeddings: &[Embedding], generation: u64) {
        let mut state = self.state();
        if state.generation == generation {
            for (key, embedding) in keys.zip(embeddings) {
                state.cache.insert(key, Cached { embedding: Arc::clone(embedding), generation });
            }
        }
    }

    fn serve_stale(&self, keys: impl Iterator<Item = Key>, found: &mut HashMap<Key, Embedding>) {
        let mut guard = self.state();
        let state = &mut *guard;
        for key in keys {
            if let Some(cached) = state.cache.peek(&key) {
                state.stale += 1;
                found.insert(key, Arc::clone(&cached.embedding));
            }
        }
    }

    /// The cosine of two items.
    pub fn compare(&self, a: &T, b: &T) -> Result<f32, OpsError> {
        let both = self.get_all(&[a, b])?;
        one_dimension(&both)?;
        Ok(cosine(&both[0], &both[1]).clamp(-1.0, 1.0))
    }

    /// The `k` candidates most alike to `query`: their positions and cosines, best first, ties by position.
    pub fn find_similar(&self, query: &T, candidates: &[T], k: usize) -> Result<Vec<(usize, f32)>, OpsError> {
        let items: Vec<&T> = std::iter::once(query).chain(candidates).collect();
        let embeddings = self.get_all(&items)?;
        one_dimension(&embeddings)?;
        let alike = |candidate: &Embedding| cosine(&embeddings[0], candidate).clamp(-1.0, 1.0);
        let mut scored: Vec<(usize, f32)> = embeddings[1..].iter().map(alike).enumerate().collect();
        scored.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        scored.truncate(k);
        Ok(scored)
    }

    /// Puts another model in force: from now on nothing cached counts as a hit.
    pub fn switch_model(
        &self,
        version: impl Into<String>,
        encode: impl Fn(&[&T]) -> Result<Vec<Vec<f32>>, String> + Send + Sync + 'static,
    ) -> Result<(), OpsError> {
        let model = Arc::new(Model { version: version.into(), encode: Box::new(encode) as Box<Encode<T>> });
        let breaker = CircuitBreaker::new(self.config.breaker)?;
        let mut state = self.state();
        state.generation += 1;
        state.health = Health::Healthy;
        (state.model, state.breaker) = (model, breaker);
        Ok(())
    }

    /// The version in force.
    pub fn version(&self) -> String {
        self.state().model.version.clone()
    }

    /// What was done so far.
    pub fn stats(&self) -> ServiceStats {
        let state = self.state();
        ServiceStats {
            size: state.cache.len(),
            hits: state.hits,
            misses: state.misses,
            encoded: state.encoded,
            stale: state.stale,
            evictions: state.cache.stats().evictions,
            p50: state.latency.quantile(0.5),
            p99: state.latency.quantile(0.99),
        }
    }

    /// Whether the encoder works.
    pub fn health(&self) -> Health {
        self.state().health.clone()
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        // The encoder doesn't run under the lock; each change of the state is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As many vectors as items, of one dimension and of numbers.
fn checked(vectors: Vec<Vec<f32>>, items: usize) -> Result<Vec<Embedding>, String> {
    if vectors.len() != items {
        return Err(format!("the encoder gave {} vectors for {items} items", vectors.len()));
    }
    let dim = vectors.first().map_or(0, Vec::len);
    for (i, vector) in vectors.iter().enumerate() {
        if vector.len() != dim || dim == 0 {
            return Err(format!("vector {i} has {} values, the first has {dim}", vector.len()));
        }
        if let Some(x) = vector.iter().find(|x| !x.is_finite()) {
            return Err(format!("vector {i} holds {x}"));
        }
    }
    Ok(vectors.into_iter().map(Embedding::from).collect())
}

/// A stale embedding may come from a model of another dimension.
fn one_dimension(embeddings: &[Embedding]) -> Result<(), OpsError> {
    let dim = embeddings.first().map_or(0, |e| e.len());
    match embeddings.iter().find(|e| e.len() != dim) {
        None => Ok(()),
        Some(other) => {
            Err(OpsError::Encoder(format!("embeddings of {dim} and {} values can't be compared", other.len())))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::*;
    use crate::clock::VirtualClock;

    /// Counts the items it encodes, and fails when told to.
    #[derive(Clone, Default)]
    struct Probe {
        items: Arc<AtomicUsize>,
        largest: Arc<AtomicUsize>,
        down: Arc<AtomicBool>,
    }

    impl Probe {
        fn encoder(&self, factor: f32) -> impl Fn(&[&Vec<f32>]) -> Result<Vec<Vec<f32>>, String> + use<> {
            let probe = self.clone();
            move |items| {
                if probe.down.load(Ordering::Relaxed) {
                    return Err("out of memory".into());
                }
                probe.items.fetch_add(items.len(), Ordering::Relaxed);
                probe.largest.fetch_max(items.len(), Ordering::Relaxed);
                Ok(items.iter().map(|x| x.iter().map(|v| factor * v).collect()).collect())
            }
        }
    }

    fn item(n: u32) -> Vec<f32> {
        vec![n as f32, 1.0]
    }

    fn service(config: ServiceConfig) -> (EmbeddingService<Vec<f32>>, Probe, VirtualClock) {
        let (probe, clock) = (Probe::default(), VirtualClock::new());
        let made = EmbeddingService::new(config, Arc::new(clock.clone()), "v1", probe.encoder(2.0)).unwrap();
        (made, probe, clock)
    }

    #[test]
    fn the_least_recently_used_leaves() {
        let (service, probe, _) = service(ServiceConfig { capacity: 3, ..ServiceConfig::default() });
        for n in [1, 2, 3, 1, 4, 1, 2] {
            assert_eq!(&*service.get(&item(n)).unwrap(), [2.0 * n as f32, 2.0]);
        }
        let stats = service.stats();
        // First in, first out would have thrown 1 out for 4, and found it once.
        assert_eq!((stats.hits, stats.misses, stats.encoded, stats.evictions, stats.size), (2, 5, 5, 2, 3));
        assert_eq!(probe.items.load(Ordering::Relaxed), 5);
        assert!((stats.hit_rate() - 2.0 / 7.0).abs() < 1e-12);
    }

    #[test]
    fn batches_encode_each_item_once_in_chunks_and_keep_the_order() {
        let (service, probe, _) = service(ServiceConfig { batch: 4, ..ServiceConfig::default() });
        service.get(&item(3)).unwrap();
        let items: Vec<Vec<f32>> = [5, 3, 5, 9, 3, 7, 1, 2, 9, 8].map(item).to_vec();
        let found = service.get_batch(&items).unwrap();
        for (embedding, item) in found.iter().zip(&items) {
            assert_eq!(**embedding, [2.0 * item[0], 2.0]);
        }
        assert_eq!((probe.items.load(Ordering::Relaxed), probe.largest.load(Ordering::Relaxed)), (7, 4));
        assert_eq!((service.stats().hits, service.stats().misses), (4, 7));
        assert!(service.get_batch(&[]).unwrap().is_empty());
    }

    #[test]
    fn another_model_makes_misses_and_the_old_embeddings_are_a_fallback() {
        for fallback in [Fallback::Stale, Fallback::Error] {
            let (service, probe, _) = service(ServiceConfig { fallback, ..ServiceConfig::default() });
            service.get(&item(1)).unwrap();
            service.switch_model("v2", probe.encoder(3.0)).unwrap();
            probe.down.store(true, Ordering::Relaxed);
            let got = service.get(&item(1));
            assert_eq!(service.health(), Health::Degraded("out of memory".into()));
            match fallback {
                Fallback::Stale => assert_eq!((&*got.unwrap(), service.stats().stale), (&[2.0, 2.0][..], 1)),
                Fallback::Error => assert_eq!(got.unwrap_err(), OpsError::Encoder("out of memory".into())),
            }
            assert!(service.get(&item(2)).is_err(), "nothing to fall back on");
            probe.down.store(false, Ordering::Relaxed);
            assert_eq!(&*service.get(&item(1)).unwrap(), [3.0, 3.0]);
            assert_eq!((service.health(), service.version()), (Health::Healthy, "v2".to_owned()));
            assert_eq!(service.stats().hits, 0);
        }
    }

    #[test]
    fn a_failing_encoder_is_left_alone_for_a_while() {
        let breaker = BreakerConfig::consecutive(2, 1_000);
        let (service, probe, clock) = service(ServiceConfig { breaker, ..ServiceConfig::default() });
        probe.down.store(true, Ordering::Relaxed);
        for _ in 0..2 {
            assert_eq!(service.get(&item(1)), Err(OpsError::Encoder("out of memory".into())));
        }
        assert!(service.get(&item(1)).unwrap_err().to_string().contains("circuit"));
        probe.down.store(false, Ordering::Relaxed);
        assert!(service.get(&item(1)).is_err());
        clock.advance(1_000);
        assert!(service.get(&item(1)).is_ok());
        assert_eq!(service.health(), Health::Healthy);
    }

    #[test]
    fn a_slow_batch_is_used_but_counts_as_a_failure() {
        let clock = VirtualClock::new();
        let inner = clock.clone();
        let slow = move |items: &[&Vec<f32>]| {
            inner.advance(500);
            Ok(items.iter().map(|x| (*x).clone()).collect())
        };
        let config = ServiceConfig { limit: 499, ..ServiceConfig::default() };
        let service = EmbeddingService::new(config, Arc::new(clock), "v1", slow).unwrap();
        assert_eq!(&*service.get(&item(4)).unwrap(), [4.0, 1.0]);
        assert!(matches!(service.health(), Health::Degraded(reason) if reason.contains("500 us")));
        assert!((service.stats().p99.unwrap() / 500.0 - 1.0).abs() < 0.02);
    }

    #[test]
    fn vectors_that_are_none_are_refused() {
        let wrong: [Vec<Vec<f32>>; 4] = [vec![], vec![vec![1.0], vec![1.0]], vec![vec![f32::NAN]], vec![vec![]]];
        for vectors in wrong {
            let encode = move |_: &[&Vec<f32>]| Ok(vectors.clone());
            let config = ServiceConfig::default();
            let service = EmbeddingService::new(config, Arc::new(VirtualClock::new()), "v1", encode).unwrap();
            assert!(matches!(service.get(&item(1)), Err(OpsError::Encoder(_))));
            assert_eq!(service.stats().size, 0);
        }
        let none = |_: &[&Vec<f32>]| Ok(vec![]);
        let config = ServiceConfig { batch: 0, ..ServiceConfig::default() };
        assert!(EmbeddingService::new(config, Arc::new(VirtualClock::new()), "v1", none).is_err());
    }

    #[test]
    fn similar_items_come_best_first() {
        let (service, _, _) = service(ServiceConfig::default());
        let candidates = [vec![0.0, 1.0], vec![1.0, 0.0], vec![1.0, 1.0], vec![2.0, 0.0], vec![-1.0, 0.0]];
        let found = service.find_similar(&vec![1.0, 0.0], &candidates, 3).unwrap();
        assert_eq!(found.iter().map(|f| f.0).collect::<Vec<_>>(), [1, 3, 2]);
        assert!((found[2].1 - 0.5f32.sqrt()).abs() < 1e-6);
        assert!(service.find_similar(&vec![1.0, 0.0], &[], 3).unwrap().is_empty());
        assert!(service.compare(&vec![1.0, 0.0], &vec![1.0]).is_err());
        assert_eq!(service.compare(&vec![1.0, 0.0], &vec![-2.0, 0.0]).unwrap(), -1.0);
    }

    #[test]
    fn threads_get_right_answers_and_every_item_is_a_hit_or_a_miss() {
        let (service, probe, _) = service(ServiceConfig { capacity: 20, ..ServiceConfig::default() });
        std::thread::scope(|scope| {
            for thread in 0..8u32 {
                let service = &service;
                scope.spawn(move || {
                    for i in 0..500 {
                        let n = (i * 7 + thread) % 40;
                        assert_eq!(&*service.get(&item(n)).unwrap(), [2.0 * n as f32, 2.0]);
                    }
                });
            }
        });
        let stats = service.stats();
        assert_eq!(stats.hits + stats.misses, 4_000);
        assert_eq!(stats.misses, probe.items.load(Ordering::Relaxed) as u64);
        assert!(stats.size <= 20);
    }
}
