//! Replicated data types that need no coordinator: replicas change on their own, and merging them in any order, any number
//! of times, gives the same state everywhere.
//!
//! Shapiro, Preguiça, Baquero and Zawirski, "A comprehensive study of convergent and commutative replicated data types"
//! (2011). What makes it work is that [`Merge::merge`] is a least upper bound: commutative, associative, idempotent. So a
//! message that is lost, late or delivered twice costs freshness, never correctness.

use std::collections::{BTreeMap, BTreeSet};

/// Number of a replica.
pub type NodeId = u32;

/// A state that absorbs another replica's state.
pub trait Merge {
    /// The least upper bound of both states; afterwards `self` knows all that `other` knows.
    fn merge(&mut self, other: &Self);
}

/// How the knowledge of one replica relates to another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Causality {
    /// The same knowledge.
    Equal,
    /// The first knows less.
    Before,
    /// The first knows more.
    After,
    /// Each knows something that the other doesn't.
    Concurrent,
}

/// For every replica the number of its events that are known (Mattern 1989; Fidge 1988).
///
/// ```
/// use eas_pipeline::crdt::{Causality, VersionVector};
///
/// let (mut a, mut b) = (VersionVector::default(), VersionVector::default());
/// a.increment(0);
/// b.increment(1);
/// assert_eq!(a.compare(&b), Causality::Concurrent);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct VersionVector {
    counts: BTreeMap<NodeId, u64>,
}

impl VersionVector {
    /// Events of `node` that are known.
    pub fn get(&self, node: NodeId) -> u64 {
        self.counts.get(&node).copied().unwrap_or(0)
    }

    /// Records the next event of `node` and returns its number, from 1.
    pub fn increment(&mut self, node: NodeId) -> u64 {
        let count = self.counts.entry(node).or_default();
        *count += 1;
        *count
    }

    /// Records all events of `node` up to number `count`.
    pub fn advance(&mut self, node: NodeId, count: u64) {
        if count > self.get(node) {
            self.counts.insert(node, count);
        }
    }

    /// Whether event number `count` of `node` is known.
    pub fn contains(&self, node: NodeId, count: u64) -> bool {
        count <= self.get(node)
    }

    /// Whether everything that `other` knows is known.
    pub fn covers(&self, other: &Self) -> bool {
        other.counts.iter().all(|(&node, &count)| self.contains(node, count))
    }

    /// How `self` relates to `other`.
    pub fn compare(&self, other: &Self) -> Causality {
        match (self.covers(other), other.covers(self)) {
            (true, true) => Causality::Equal,
            (false, true) => Causality::Before,
            (true, false) => Causality::After,
            (false, false) => Causality::Concurrent,
        }
    }

    /// Sum over all replicas.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }
}

impl Merge for VersionVector {
    fn merge(&mut self, other: &Self) {
        for (&node, &count) in &other.counts {
            self.advance(node, count);
        }
    }
}

/// A counter that only grows: every node counts its own share, a merge takes the larger count of each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GCounter {
    counts: BTreeMap<NodeId, u64>,
}

impl GCounter {
    /// Adds `by` to the share of `node`. Only that node may call it: two replicas that count under one number lose counts.
    pub fn increment(&mut self, node: NodeId, by: u64) {
        *self.counts.entry(node).or_default() += by;
    }

    /// The total over all nodes known here.
    pub fn value(&self) -> u64 {
        self.counts.values().sum()
    }
}

impl Merge for GCounter {
    fn merge(&mut self, other: &Self) {
        for (&node, &count) in &other.counts {
            let own = self.counts.entry(node).or_default();
            *own = (*own).max(count);
        }
    }
}

/// A counter that goes both ways: one [`GCounter`] of what was added and one of what was taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PnCounter {
    added: GCounter,
    taken: GCounter,
}

impl PnCounter {
    /// Adds `by`, which may be negative, to the share of `node`.
    pub fn add(&mut self, node: NodeId, by: i64) {
        let side = if by < 0 { &mut self.taken } else { &mut self.added };
        side.increment(node, by.unsigned_abs());
    }

    /// Added minus taken.
    pub fn value(&self) -> i64 {
        self.added.value().wrapping_sub(self.taken.value()) as i64
    }
}

impl Merge for PnCounter {
    fn merge(&mut self, other: &Self) {
        self.added.merge(&other.added);
        self.taken.merge(&other.taken);
    }
}

/// A set in which an add wins over a concurrent remove: a remove takes away the adds that its replica has seen, no others.
///
/// Every add has a dot (node, number). A dot that another replica's clock covers but its set lacks was removed there, so
/// no tombstones are kept (Bieniusa et al., "An optimized conflict-free replicated set", 2012).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrSet<T: Ord> {
    clock: VersionVector,
    dots: BTreeMap<T, BTreeSet<(NodeId, u64)>>,
}

impl<T: Ord> Default for OrSet<T> {
    fn default() -> Self {
        Self { clock: VersionVector::default(), dots: BTreeMap::new() }
    }
}

impl<T: Ord + Clone> OrSet<T> {
    /// Adds `item` at replica `node`; only that replica may use the number.
    pub fn add(&mut self, node: NodeId, item: T) {
        let number = self.clock.increment(node);
        self.dots.insert(item, BTreeSet::from([(node, number)]));
    }

    /// Removes `item`; false when it wasn't there.
    pub fn remove(&mut self, item: &T) -> bool {
        self.dots.remove(item).is_some()
    }

    /// Whether `item` is in the set.
    pub fn contains(&self, item: &T) -> bool {
        self.dots.contains_key(item)
    }

    /// The items in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.dots.keys()
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.dots.len()
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.dots.is_empty()
    }
}

impl<T: Ord + Clone> Merge for OrSet<T> {
    fn merge(&mut self, other: &Self) {
        let none = BTreeSet::new();
        let items: BTreeSet<&T> = self.dots.keys().chain(other.dots.keys()).collect();
        let mut merged = BTreeMap::new();
        for item in items {
            let (mine, theirs) = (self.dots.get(item).unwrap_or(&none), other.dots.get(item).unwrap_or(&none));
            // A dot stays when both have it, or when the side that lacks it has never heard of it.
            let kept: BTreeSet<(NodeId, u64)> = mine
                .iter()
                .filter(|dot| theirs.contains(dot) || !other.clock.contains(dot.0, dot.1))
                .chain(theirs.iter().filter(|dot| !self.clock.contains(dot.0, dot.1)))
                .copied()
                .collect();
            if !kept.is_empty() {
                merged.insert(item.clone(), kept);
            }
        }
        self.dots = merged;
        self.clock.merge(&other.clock);
    }
}

/// Counts distinct hashes in `2^precision` bytes: each register keeps the longest run of leading zeros among its hashes
/// (Flajolet et al., "HyperLogLog", 2007), and the total is estimated by Ertl's formula ("New cardinality estimation
/// algorithms for HyperLogLog sketches", 2017), which needs no correction tables. Relative standard error
/// `1.04 / sqrt(2^precision)`. A merge takes the larger register, so nodes may see overlapping parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HyperLogLog {
    precision: u32,
    registers: Vec<u8>,
}

impl HyperLogLog {
    /// An empty sketch of `2^precision` registers, `4 <= precision <= 18`; `None` outside.
    pub fn new(precision: u32) -> Option<Self> {
        (4..=18).contains(&precision).then(|| Self { precision, registers: vec![0; 1 << precision] })
    }

    /// Counts a uniformly distributed 64-bit hash, such as [`crate::placement::stable_hash`].
    pub fn insert(&mut self, hash: u64) {
        let register = (hash >> (64 - self.precision)) as usize;
        let rest = hash << self.precision;
        let run = (rest.leading_zeros().min(64 - self.precision) + 1) as u8;
        self.registers[register] = self.registers[register].max(run);
    }

    /// The estimated number of distinct hashes.
    pub fn estimate(&self) -> f64 {
        let longest = (64 - self.precision) as usize;
        let mut histogram = vec![0.0f64; longest + 2];
        for &register in &self.registers {
            histogram[usize::from(register)] += 1.0;
        }
        let registers = self.registers.len() as f64;
        let mut z = registers * tau(1.0 - histogram[longest + 1] / registers);
        for &count in histogram[1..=longest].iter().rev() {
            z = 0.5 * (z + count);
        }
        z += registers * sigma(histogram[0] / registers);
        registers * registers / (2.0 * std::f64::consts::LN_2 * z)
    }

    /// The relative standard error of the estimate.
    pub fn standard_error(&self) -> f64 {
        1.04 / (self.registers.len() as f64).sqrt()
    }
}

impl Merge for HyperLogLog {
    /// Sketches of another precision are ignored: their registers mean something else.
    fn merge(&mut self, other: &Self) {
        if self.precision == other.precision {
            for (own, &theirs) in self.registers.iter_mut().zip(&other.registers) {
                *own = (*own).max(theirs);
            }
        }
    }
}

/// Ertl's sigma: `x + sum x^(2^k) 2^(k-1)`; infinite at 1, an empty sketch.
fn sigma(mut x: f64) -> f64 {
    if x >= 1.0 {
        return f64::INFINITY;
    }
    let (mut weight, mut sum) = (1.0, x);
    loop {
        x *= x;
        let before = sum;
        sum += x * weight;
        weight += weight;
        if sum == before {
            return sum;
        }
    }
}

/// Ertl's tau: `(1 - x - sum (1 - x^(2^-k))^2 2^-k) / 3`.
fn tau(mut x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut weight, mut sum) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = sum;
        weight *= 0.5;
        sum -= (1.0 - x).powi(2) * weight;
        if sum == before {
            return sum / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eas_tensor::rng::SplitMix64;
    use proptest::prelude::*;

    fn merged<C: Merge + Clone>(a: &C, b: &C) -> C {
        let mut sum = a.clone();
        sum.merge(b);
        sum
    }

    /// Replicas of each type after random changes and random gossip.
    #[derive(Debug, Clone, Default, PartialEq)]
    struct State {
        up: GCounter,
        both: PnCounter,
        set: OrSet<u8>,
        clock: VersionVector,
    }

    impl Merge for State {
        fn merge(&mut self, other: &Self) {
            self.up.merge(&other.up);
            self.both.merge(&other.both);
            self.set.merge(&other.set);
            self.clock.merge(&other.clock);
        }
    }

    fn random_states(seed: u64) -> Vec<State> {
        let mut rng = SplitMix64::new(seed);
        let mut states = vec![State::default(); 3];
        for _ in 0..40 {
            let node = rng.below(3);
            let item = rng.below(6) as u8;
            let by = rng.below(9) as i64 - 4;
            let state = &mut states[node];
            match rng.below(5) {
                0 => state.up.increment(node as NodeId, by.unsigned_abs()),
                1 => state.both.add(node as NodeId, by),
                2 => state.set.add(node as NodeId, item),
                3 => _ = state.set.remove(&item),
                _ => {
                    let other = states[(node + 1) % 3].clone();
                    states[node].merge(&other);
                }
            }
            states[node].clock.increment(node as NodeId);
        }
        states
    }

    proptest! {
        #[test]
        fn merging_is_commutative_associative_and_idempotent(seed in any::<u64>()) {
            let states = random_states(seed);
            let [a, b, c] = [&states[0], &states[1], &states[2]];
            prop_assert_eq!(merged(a, b), merged(b, a));
            prop_assert_eq!(merged(&merged(a, b), c), merged(a, &merged(b, c)));
            prop_assert_eq!(merged(a, a), a.clone());
            prop_assert_eq!(merged(&merged(a, b), b), merged(a, b));
        }

        #[test]
        fn the_version_vector_tells_order_from_concurrency(seed in any::<u64>()) {
            let states = random_states(seed);
            let (a, b) = (&states[0].clock, &states[1].clock);
            let both = merged(a, b);
            prop_assert!(both.covers(a) && both.covers(b));
            match a.compare(b) {
                Causality::Equal => prop_assert_eq!(a, b),
                Causality::After => prop_assert_eq!(&both, a),
                Causality::Before => prop_assert_eq!(&both, b),
                Causality::Concurrent => prop_assert!(&both != a && &both != b),
            }
        }

        /// The oracle keeps every add and every remove with the adds it saw, as the definition says.
        #[test]
        fn the_set_agrees_with_the_definition(seed in any::<u64>()) {
            let mut rng = SplitMix64::new(seed);
            let mut sets = vec![OrSet::<u8>::default(); 3];
            // What each replica has seen: adds as (item, unique tag), and removed tags.
            let mut seen = vec![(BTreeSet::<(u8, usize)>::new(), BTreeSet::<usize>::new()); 3];
            for tag in 0..60 {
                let (node, item) = (rng.below(3), rng.below(4) as u8);
                match rng.below(3) {
                    0 => {
                        sets[node].add(node as NodeId, item);
                        seen[node].0.insert((item, tag));
                    }
                    1 => {
                        sets[node].remove(&item);
                        let tags: Vec<usize> = seen[node].0.iter().filter(|add| add.0 == item).map(|add| add.1).collect();
                        seen[node].1.extend(tags);
                    }
                    _ => {
                        let from = (node + 1 + rng.below(2)) % 3;
                        let (set, known) = (sets[from].clone(), seen[from].clone());
                        sets[node].merge(&set);
                        seen[node].0.extend(known.0);
                        seen[node].1.extend(known.1);
                    }
                }
                for (set, (adds, removed)) in sets.iter().zip(&seen) {
                    let alive: BTreeSet<u8> = adds.iter().filter(|add| !removed.contains(&add.1)).map(|add| add.0).collect();
                    prop_assert_eq!(set.iter().copied().collect::<BTreeSet<u8>>(), alive);
                }
            }
        }
    }

    #[test]
    fn an_add_wins_over_a_concurrent_remove_and_loses_to_a_later_one() {
        let mut a = OrSet::default();
        a.add(0, "jackets");
        let mut b = a.clone();
        assert!(a.remove(&"jackets") && !a.remove(&"jackets"));
        b.add(1, "jackets");
        assert!(merged(&a, &b).contains(&"jackets"));
        let mut both = merged(&a, &b);
        both.remove(&"jackets");
        assert!(merged(&both, &b).is_empty());
        assert_eq!(b.len(), 1);
    }

    #[test]
    fn counters_are_right_whatever_arrives_and_how_often() {
        for seed in 0..1_000 {
            let mut rng = SplitMix64::new(seed);
            let mut nodes = vec![PnCounter::default(); 5];
            let mut total = 0;
            let mut messages: Vec<PnCounter> = Vec::new();
            for _ in 0..60 {
                let (node, by) = (rng.below(5), rng.below(21) as i64 - 10);
                nodes[node].add(node as NodeId, by);
                total += by;
                messages.push(nodes[node].clone());
                // Any message so far may arrive, again or never, anywhere.
                let (to, which) = (rng.below(5), rng.below(messages.len()));
                nodes[to].merge(&messages[which].clone());
            }
            let finals = nodes.clone();
            for node in &mut nodes {
                let mut order: Vec<usize> = (0..5).chain(0..5).collect();
                rng.shuffle(&mut order);
                for &from in &order {
                    node.merge(&finals[from]);
                }
                assert_eq!(node.value(), total);
            }
        }
    }

    #[test]
    fn the_sketch_counts_within_its_error() {
        assert!(HyperLogLog::new(3).is_none() && HyperLogLog::new(19).is_none());
        for precision in [10, 14] {
            for n in [0usize, 1, 10, 1_000, 20_000, 300_000] {
                let mut relative = 0.0;
                for seed in 0..8 {
                    let mut sketch = HyperLogLog::new(precision).unwrap();
                    let mut rng = SplitMix64::new(seed);
                    (0..n).for_each(|_| sketch.insert(rng.next_u64()));
                    if n == 0 {
                        assert_eq!(sketch.estimate(), 0.0);
                    } else {
                        relative += (sketch.estimate() / n as f64 - 1.0) / 8.0;
                        let error = (sketch.estimate() / n as f64 - 1.0).abs();
                        assert!(error < 4.5 * sketch.standard_error(), "{precision} {n}: {error}");
                    }
                }
                // The mean of eight shows a bias, were there one.
                assert!(relative.abs() < 4.0 * 1.04 / f64::from(1u32 << precision).sqrt() / 8f64.sqrt());
            }
        }
    }

    #[test]
    fn merged_sketches_count_the_union_once() {
        let mut rng = SplitMix64::new(4);
        let hashes: Vec<u64> = (0..30_000).map(|_| rng.next_u64()).collect();
        let sketch = |part: &[u64]| {
            let mut sketch = HyperLogLog::new(12).unwrap();
            for &hash in part {
                sketch.insert(hash);
            }
            sketch
        };
        let (left, right) = (sketch(&hashes[..20_000]), sketch(&hashes[10_000..]));
        assert_eq!(merged(&left, &right), sketch(&hashes));
        let other = HyperLogLog::new(10).unwrap();
        assert_eq!(merged(&left, &other), left);
    }
}
