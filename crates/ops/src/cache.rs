//! [`Cache`]: a bounded map with first-in-first-out, least-recently and least-frequently used eviction, and statistics that count each
//! access once; [`replay`]: what a policy makes of a trace.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// Which entry leaves when a new one needs its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Policy {
    /// The one that was inserted first, however often it was asked for since.
    Fifo,
    /// The one whose last access is longest ago.
    Lru,
    /// The one with the fewest accesses, counted since the cache was made, also while it was not cached; among equals the one whose last access
    /// is longest ago. A new entry is always admitted.
    Lfu,
    /// As [`Lfu`](Self::Lfu), with every count halved, rounded down, before each access whose number is a multiple of `period`. What is not cached
    /// and has count 0 is forgotten, so that memory stays bounded. A period of 0 never ages.
    LfuAging {
        /// Accesses between two halvings.
        period: u64,
    },
}

/// What a cache did so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Accesses that found their entry.
    pub hits: u64,
    /// Accesses that didn't, the first of each key included.
    pub misses: u64,
    /// Entries that left for another.
    pub evictions: u64,
}

impl CacheStats {
    /// Hits and misses together.
    pub fn accesses(&self) -> u64 {
        self.hits + self.misses
    }

    /// Share of the accesses that found their entry; 0 before the first.
    pub fn hit_rate(&self) -> f64 {
        self.hits as f64 / self.accesses().max(1) as f64
    }
}

/// Rank of an entry: the smallest leaves first. The number of the last access is in one entry only, so ranks are distinct.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    count: u64,
    last_access: u64,
}

#[derive(Debug, Clone)]
struct Entry<V> {
    value: V,
    rank: Rank,
}

/// At most `capacity` values by key. Every operation takes `O(log capacity)`, except for the halving of counts, which takes `O(keys)` once a period.
///
/// ```
/// use eas_ops::{Cache, Policy};
///
/// let mut squares = Cache::new(2, Policy::Lru);
/// for n in [3, 4, 3, 5, 4] {
///     if squares.get(&n).is_none() {
///         squares.insert(n, n * n);
///     }
/// }
/// assert_eq!((squares.stats().hits, squares.stats().misses, squares.stats().evictions), (1, 4, 2));
/// assert_eq!(squares.peek(&5), Some(&25));
/// assert_eq!(squares.peek(&3), None);
/// ```
#[derive(Debug, Clone)]
pub struct Cache<K, V> {
    capacity: usize,
    policy: Policy,
    entries: HashMap<K, Entry<V>>,
    by_rank: BTreeMap<Rank, K>,
    /// Accesses of each key, kept for evicted ones; empty with [`Policy::Fifo`] and [`Policy::Lru`].
    counts: HashMap<K, u64>,
    /// Numbers accesses and insertions.
    clock: u64,
    stats: CacheStats,
}

impl<K: Clone + Eq + Hash, V> Cache<K, V> {
    /// An empty cache. With capacity 0 it keeps nothing and every access is a miss.
    pub fn new(capacity: usize, policy: Policy) -> Self {
        Self {
            capacity,
            policy,
            entries: HashMap::new(),
            by_rank: BTreeMap::new(),
            counts: HashMap::new(),
            clock: 0,
            stats: CacheStats::default(),
        }
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True without entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Most entries it holds.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Hits, misses and evictions so far.
    pub fn stats(&self) -> CacheStats {
        self.stats
    }

    /// The cached keys, in no particular order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.entries.keys()
    }

    /// Number of keys whose accesses are remembered: what the policy takes beside the entries.
    pub fn remembered(&self) -> usize {
        self.counts.len()
    }

    /// The value, without counting an access.
    pub fn peek(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|entry| &entry.value)
    }

    /// Accesses `key`: its value, if it is cached. After a miss the caller may [`insert`](Self::insert) what it looked for.
    pub fn get(&mut self, key: &K) -> Option<&V> {
        self.clock += 1;
        if let Policy::LfuAging { period } = self.policy
            && period > 0
            && (self.stats.accesses() + 1).is_multiple_of(period)
        {
            self.age();
        }
        let count = match self.policy {
            Policy::Fifo | Policy::Lru => 0,
            Policy::Lfu | Policy::LfuAging { .. } => {
                let count = self.counts.entry(key.clone()).or_default();
                *count += 1;
                *count
            }
        };
        let Some(entry) = self.entries.get_mut(key) else {
            self.stats.misses += 1;
            return None;
        };
        self.stats.hits += 1;
        if self.policy == Policy::Fifo {
            return Some(&entry.value);
        }
        let rank = Rank { count, last_access: self.clock };
        if let Some(own) = self.by_rank.remove(&std::mem::replace(&mut entry.rank, rank)) {
            self.by_rank.insert(rank, own);
        }
        Some(&entry.value)
    }

    /// Caches `value` under `key`, which is no access. Returns the entry that left for it; with capacity 0 that is the new one.
    pub fn insert(&mut self, key: K, value: V) -> Option<(K, V)> {
        if self.capacity == 0 {
            return Some((key, value));
        }
        self.clock += 1;
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.value = value;
            return None;
        }
        let evicted = if self.entries.len() < self.capacity { None } else { self.evict() };
        let rank = Rank { count: self.counts.get(&key).copied().unwrap_or(0), last_access: self.clock };
        self.by_rank.insert(rank, key.clone());
        self.entries.insert(key, Entry { value, rank });
        evicted
    }

    fn evict(&mut self) -> Option<(K, V)> {
        let (_, key) = self.by_rank.pop_first()?;
        let entry = self.entries.remove(&key)?;
        self.stats.evictions += 1;
        Some((key, entry.value))
    }

    /// Forgets `key`, its count included.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.counts.remove(key);
        let entry = self.entries.remove(key)?;
        self.by_rank.remove(&entry.rank);
        Some(entry.value)
    }

    /// Forgets all entries and counts; the statistics stay.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.by_rank.clear();
        self.counts.clear();
    }

    fn age(&mut self) {
        self.counts.retain(|key, count| {
            *count /= 2;
            *count > 0 || self.entries.contains_key(key)
        });
        for entry in self.entries.values_mut() {
            entry.rank.count /= 2;
        }
        self.by_rank = self.entries.iter().map(|(key, entry)| (entry.rank, key.clone())).collect();
    }
}

/// What a cache of `capacity` that inserts after every miss does on a trace of keys.
pub fn replay<K: Clone + Eq + Hash>(trace: &[K], capacity: usize, policy: Policy) -> CacheStats {
    let mut cache = Cache::new(capacity, policy);
    for key in trace {
        if cache.get(key).is_none() {
            cache.insert(key.clone(), ());
        }
    }
    cache.stats()
}

#[cfg(test)]
mod tests {
    use eas_data::synth::zipf::Zipf;
    use proptest::prelude::*;

    use super::*;

    /// The definition, with a list that is searched from end to end at each step.
    fn replay_naively(trace: &[usize], capacity: usize, policy: Policy) -> CacheStats {
        let mut stats = CacheStats::default();
        let mut cached: Vec<(usize, usize)> = Vec::new(); // key, last access
        let mut counts: HashMap<usize, u64> = HashMap::new();
        for (now, &key) in trace.iter().enumerate() {
            if let Policy::LfuAging { period } = policy
                && period > 0
                && (now + 1).is_multiple_of(period as usize)
            {
                for count in counts.values_mut() {
                    *count /= 2;
                }
            }
            *counts.entry(key).or_default() += 1;
            if let Some(at) = cached.iter().position(|&(k, _)| k == key) {
                if policy != Policy::Fifo {
                    cached[at].1 = now;
                }
                stats.hits += 1;
                continue;
            }
            stats.misses += 1;
            if cached.len() == capacity {
                let rank = |&(k, last): &(usize, usize)| {
                    let counted = !matches!(policy, Policy::Fifo | Policy::Lru);
                    (if counted { counts[&k] } else { 0 }, last)
                };
                let Some(victim) = (0..cached.len()).min_by_key(|&at| rank(&cached[at])) else {
                    continue;
                };
                cached.swap_remove(victim);
                stats.evictions += 1;
            }
            cached.push((key, now));
        }
        stats
    }

    fn cache_after(trace: &[usize], capacity: usize, policy: Policy) -> Cache<usize, usize> {
        let mut cache = Cache::new(capacity, policy);
        for &key in trace {
            match cache.get(&key) {
                Some(&value) => assert_eq!(value, key),
                None => assert!(cache.insert(key, key).is_none_or(|(k, v)| k == v)),
            }
        }
        cache
    }

    #[test]
    fn hits_on_the_zipf_trace_are_the_published_ones() {
        let trace = Zipf::new(10_000, 1.0).unwrap().trace(41, 50_000);
        assert_eq!(cache_after(&trace, 1_000, Policy::Lru).stats().hits, 33_667);
        assert_eq!(cache_after(&trace, 1_000, Policy::Lfu).stats().hits, 36_541);
        let flipped: Vec<usize> =
            trace.iter().enumerate().map(|(t, &id)| if t < 25_000 { id } else { 9_999 - id }).collect();
        let rate = |policy| cache_after(&flipped, 1_000, policy).stats().hit_rate();
        assert_eq!(rate(Policy::Lfu), 0.670_26);
        assert_eq!(rate(Policy::LfuAging { period: 5_000 }), 0.688_72);
        assert_eq!(rate(Policy::Lru), 0.669_26);
    }

    #[test]
    fn aging_bounds_what_is_remembered() {
        let scan: Vec<usize> = (0..20_000).collect();
        let (lfu, aging) = (Policy::Lfu, Policy::LfuAging { period: 100 });
        assert_eq!(cache_after(&scan, 10, lfu).remembered(), 20_000);
        assert!(cache_after(&scan, 10, aging).remembered() <= 110);
    }

    #[test]
    fn first_accesses_are_misses_and_capacity_zero_keeps_nothing() {
        let trace: Vec<usize> = (0..100).collect();
        let cache = cache_after(&trace, 100, Policy::Lfu);
        assert_eq!((cache.stats().hit_rate(), cache.stats().misses, cache.len()), (0.0, 100, 100));
        let mut none = cache_after(&trace, 0, Policy::Lru);
        assert_eq!((none.len(), none.stats().evictions), (0, 0));
        assert_eq!(none.insert(5, 6), Some((5, 6)));
        let mut cache = cache;
        assert_eq!((cache.remove(&7), cache.remove(&7), cache.len(), cache.remembered()), (Some(7), None, 99, 99));
        cache.clear();
        assert!(cache.is_empty() && cache.stats().misses == 100);
    }

    proptest! {
        #[test]
        fn every_policy_does_what_its_definition_says(
            trace in proptest::collection::vec(0usize..30, 0..400),
            capacity in 1usize..20,
            period in 0u64..60,
        ) {
            for policy in [Policy::Fifo, Policy::Lru, Policy::Lfu, Policy::LfuAging { period }] {
                let cache = cache_after(&trace, capacity, policy);
                prop_assert_eq!(cache.stats(), replay_naively(&trace, capacity, policy));
                prop_assert_eq!(cache.stats(), super::replay(&trace, capacity, policy));
                prop_assert!(cache.len() <= capacity && cache.by_rank.len() == cache.len());
            }
        }
    }
}
