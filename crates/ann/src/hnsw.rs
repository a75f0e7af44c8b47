//! [`Hnsw`]: hierarchical navigable small world graphs (Malkov and Yashunin, "Efficient and robust approximate nearest
//! neighbor search using Hierarchical Navigable Small World graphs", IEEE TPAMI 2020). Algorithm numbers below are the
//! paper's.
//!
//! Every vector is a node of the bottom level, one in `m` also of the level above, one in `m^2` of the next, and so on.
//! A search walks greedily through the sparse upper levels towards the query, then explores the bottom level with a beam
//! of `ef` candidates.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::path::Path;

use eas_tensor::Matrix;
use eas_tensor::rng::SplitMix64;

use crate::AnnError;
use crate::file::{Reader, Writer};
use crate::index::{Candidate, Hit, Metric, VectorIndex, check_dim, check_new_ids, check_rows, prepare_query};

const KIND: [u8; 4] = *b"HNSW";
/// Levels above the bottom one; with `m >= 2` more than these many would need 2^32 vectors.
const MAX_LEVEL: usize = 32;

/// Parameters, by the paper's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HnswConfig {
    /// Links a new node gets on each level; a node keeps up to `m` on the upper levels and `2 m` on the bottom one.
    pub m: usize,
    /// Width of the beam while inserting.
    pub ef_construction: usize,
    /// Width of the beam while searching; a search for more than `ef` vectors widens it.
    pub ef: usize,
    /// Seed of the levels.
    pub seed: u64,
}

impl Default for HnswConfig {
    /// `m` 16, `ef_construction` 200, `ef` 64, seed 42.
    fn default() -> Self {
        Self {
            m: 16,
            ef_construction: 200,
            ef: 64,
            seed: 42,
        }
    }
}

impl HnswConfig {
    fn check(&self) -> Result<(), AnnError> {
        for (name, got, least, expected) in [
            ("m", self.m, 2, "2 to 1,024"),
            ("ef_construction", self.ef_construction, 1, "at least 1"),
            ("ef", self.ef, 1, "at least 1"),
        ] {
            if got < least || (name == "m" && got > 1_024) {
                return Err(AnnError::Parameter {
                    name,
                    got: got.to_string(),
                    expected,
                });
            }
        }
        Ok(())
    }
}

/// What one search cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SearchCost {
    /// Distances computed.
    pub distance_evaluations: u64,
}

/// Bytes of an index by purpose, without the hash table from id to node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HnswBytes {
    /// Values of the vectors.
    pub vectors: usize,
    /// Room for links, used or not.
    pub links: usize,
    /// Ids, levels, numbers of links.
    pub bookkeeping: usize,
}

/// Lists of up to `stride` links, one a row, in one allocation.
#[derive(Debug, Clone)]
struct Links {
    stride: usize,
    nodes: Vec<u32>,
    counts: Vec<u16>,
}

impl Links {
    fn new(stride: usize) -> Self {
        Self {
            stride,
            nodes: Vec::new(),
            counts: Vec::new(),
        }
    }

    fn rows(&self) -> usize {
        self.counts.len()
    }

    fn add_row(&mut self) {
        self.nodes.resize(self.nodes.len() + self.stride, 0);
        self.counts.push(0);
    }

    fn row(&self, row: usize) -> &[u32] {
        let from = row * self.stride;
        &self.nodes[from..from + usize::from(self.counts[row])]
    }

    fn set(&mut self, row: usize, links: impl Iterator<Item = u32>) {
        let from = row * self.stride;
        let mut count = 0;
        for (slot, link) in self.nodes[from..from + self.stride].iter_mut().zip(links) {
            *slot = link;
            count += 1;
        }
        self.counts[row] = count;
    }

    /// Adds a link where there is room for it.
    fn push(&mut self, row: usize, link: u32) -> bool {
        let count = usize::from(self.counts[row]);
        if count == self.stride {
            return false;
        }
        self.nodes[row * self.stride + count] = link;
        self.counts[row] += 1;
        true
    }
}

/// An approximate index whose search cost grows with the logarithm of its size.
///
/// Inner products are no distance, so with [`Metric::Dot`] recall is good only where the vectors' lengths are similar.
/// Removed vectors stay in the graph as stepping stones and are never returned; when they outnumber the live ones the
/// graph is built anew. Two indexes built by the same calls are equal.
///
/// ```
/// use eas_ann::{Hnsw, HnswConfig, Metric, VectorIndex};
/// use eas_tensor::Matrix;
///
/// let mut index = Hnsw::new(2, Metric::SquaredL2, HnswConfig::default())?;
/// index.add(&[1, 2, 3], &Matrix::from_rows(&[[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]])?)?;
/// let hits = index.search(&[3.0, 3.0], 1)?;
/// assert_eq!((hits[0].id, hits[0].score), (2, 1.0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Hnsw {
    config: HnswConfig,
    metric: Metric,
    dim: usize,
    /// Id and vector of node `i`; nodes are numbered in the order of insertion.
    ids: Vec<u64>,
    values: Vec<f32>,
    removed: Vec<bool>,
    /// Highest level of each node.
    levels: Vec<u8>,
    /// Links of node `i` on the bottom level, in row `i`.
    bottom: Links,
    /// Links of node `i` on level `l >= 1`, in row `upper_rows[i] + l - 1`.
    upper: Links,
    upper_rows: Vec<u32>,
    /// A node of the highest level, where every search starts.
    entry: Option<u32>,
    /// The live nodes.
    node_of: HashMap<u64, u32>,
    build_evaluations: u64,
}

impl Hnsw {
    /// An empty index for vectors of `dim >= 1` values.
    pub fn new(dim: usize, metric: Metric, config: HnswConfig) -> Result<Self, AnnError> {
        check_dim(dim)?;
        config.check()?;
        Ok(Self {
            config,
            metric,
            dim,
            ids: Vec::new(),
            values: Vec::new(),
            removed: Vec::new(),
            levels: Vec::new(),
            bottom: Links::new(2 * config.m),
            upper: Links::new(config.m),
            upper_rows: Vec::new(),
            entry: None,
            node_of: HashMap::new(),
            build_evaluations: 0,
        })
    }

    /// The parameters.
    pub fn config(&self) -> HnswConfig {
        self.config
    }

    /// Sets the width of the search beam.
    pub fn set_ef(&mut self, ef: usize) -> Result<(), AnnError> {
        let config = HnswConfig { ef, ..self.config };
        config.check()?;
        self.config = config;
        Ok(())
    }

    /// Distances computed by all insertions so far.
    pub fn build_evaluations(&self) -> u64 {
        self.build_evaluations
    }

    /// Number of levels, the bottom one included; 0 when empty.
    pub fn levels(&self) -> usize {
        self.entry
            .map_or(0, |entry| usize::from(self.levels[entry as usize]) + 1)
    }

    /// Bytes by purpose.
    pub fn bytes(&self) -> HnswBytes {
        HnswBytes {
            vectors: size_of_val(self.values.as_slice()),
            links: size_of_val(self.bottom.nodes.as_slice()) + size_of_val(self.upper.nodes.as_slice()),
            bookkeeping: size_of_val(self.ids.as_slice())
                + size_of_val(self.removed.as_slice())
                + size_of_val(self.levels.as_slice())
                + size_of_val(self.upper_rows.as_slice())
                + size_of_val(self.bottom.counts.as_slice())
                + size_of_val(self.upper.counts.as_slice()),
        }
    }

    fn vector(&self, node: u32) -> &[f32] {
        let from = node as usize * self.dim;
        &self.values[from..from + self.dim]
    }

    fn links(&self, node: u32, level: usize) -> &[u32] {
        match level {
            0 => self.bottom.row(node as usize),
            _ => self.upper.row(self.upper_rows[node as usize] as usize + level - 1),
        }
    }

    fn links_mut(&mut self, node: u32, level: usize) -> (&mut Links, usize) {
        match level {
            0 => (&mut self.bottom, node as usize),
            _ => (&mut self.upper, self.upper_rows[node as usize] as usize + level - 1),
        }
    }

    fn candidate(&self, query: &[f32], node: u32, cost: &mut SearchCost) -> Candidate<u32> {
        cost.distance_evaluations += 1;
        Candidate {
            distance: self.metric.distance(query, self.vector(node)),
            id: node,
        }
    }

    /// Algorithm 1, INSERT. The vector is in the metric's stored form.
    fn insert(&mut self, id: u64, vector: &[f32]) {
        let node = self.ids.len() as u32;
        let level = self.draw_level(node);
        self.ids.push(id);
        self.values.extend_from_slice(vector);
        self.removed.push(false);
        self.levels.push(level as u8);
        self.bottom.add_row();
        self.upper_rows.push(self.upper.rows() as u32);
        (0..level).for_each(|_| self.upper.add_row());
        self.node_of.insert(id, node);

        let Some(entry) = self.entry else {
            self.entry = Some(node);
            return;
        };
        let top = usize::from(self.levels[entry as usize]);
        let mut cost = SearchCost::default();
        let mut near = vec![self.descend(vector, level, &mut cost)];
        for at in (0..=level.min(top)).rev() {
            near = self.search_level(vector, &near, self.config.ef_construction, at, &|_| true, &mut cost);
            let neighbours = self.select(&near, self.config.m, &mut cost);
            let (links, row) = self.links_mut(node, at);
            links.set(row, neighbours.iter().map(|neighbour| neighbour.id));
            for neighbour in neighbours {
                self.link_back(neighbour, node, at, &mut cost);
            }
        }
        if level > top {
            self.entry = Some(node);
        }
        self.build_evaluations += cost.distance_evaluations;
    }

    /// `floor(-ln(U) / ln(m))`, drawn from the node's number, so that a reloaded index grows as the original would.
    fn draw_level(&self, node: u32) -> usize {
        let u = 1.0 - SplitMix64::stream(self.config.seed, u64::from(node)).uniform();
        ((-u.ln() / (self.config.m as f64).ln()) as usize).min(MAX_LEVEL)
    }

    /// Walks greedily from the entry point down to the level above `level`; the nearest node found on the way.
    fn descend(&self, query: &[f32], level: usize, cost: &mut SearchCost) -> Candidate<u32> {
        let entry = self.entry.unwrap_or(0);
        let mut nearest = self.candidate(query, entry, cost);
        for at in (level + 1..=usize::from(self.levels[entry as usize])).rev() {
            loop {
                let start = nearest;
                for &node in self.links(start.id, at) {
                    nearest = nearest.min(self.candidate(query, node, cost));
                }
                if nearest == start {
                    break;
                }
            }
        }
        nearest
    }

    /// Algorithm 2, SEARCH-LAYER: the `ef` nearest nodes of `level` that pass `keep`, nearest first. Nodes that don't
    /// pass are walked through, but take no place in the beam.
    fn search_level(
        &self,
        query: &[f32],
        from: &[Candidate<u32>],
        ef: usize,
        level: usize,
        keep: &dyn Fn(u32) -> bool,
        cost: &mut SearchCost,
    ) -> Vec<Candidate<u32>> {
        let mut visited = vec![0u64; self.ids.len().div_ceil(64)];
        let mut first_visit = |node: u32| {
            let (word, bit) = (node as usize / 64, 1 << (node % 64));
            let first = visited[word] & bit == 0;
            visited[word] |= bit;
            first
        };
        let mut found = BinaryHeap::with_capacity(ef.min(self.ids.len()) + 1);
        let mut open = BinaryHeap::new();
        for &start in from {
            if first_visit(start.id) {
                open.push(Reverse(start));
                if keep(start.id) {
                    found.push(start);
                }
            }
        }
        while let Some(Reverse(nearest)) = open.pop() {
            if found.len() >= ef && found.peek().is_some_and(|worst| nearest > *worst) {
                break;
            }
            for &node in self.links(nearest.id, level) {
                if !first_visit(node) {
                    continue;
                }
                let candidate = self.candidate(query, node, cost);
                if found.len() < ef || found.peek().is_some_and(|worst| candidate < *worst) {
                    open.push(Reverse(candidate));
                    if keep(node) {
                        found.push(candidate);
                        if found.len() > ef {
                            found.pop();
                        }
                    }
                }
            }
        }
        found.into_sorted_vec()
    }

    /// Algorithm 4, SELECT-NEIGHBORS-HEURISTIC: from `candidates`, nearest first, takes up to `m` that are nearer to the
    /// new node than to any taken before, so that links lead in different directions.
    fn select(&self, candidates: &[Candidate<u32>], m: usize, cost: &mut SearchCost) -> Vec<Candidate<u32>> {
        let mut taken: Vec<Candidate<u32>> = Vec::with_capacity(m);
        for &candidate in candidates {
            if taken.len() == m {
                break;
            }
            let vector = self.vector(candidate.id);
            let spread = taken
                .iter()
                .all(|other| self.candidate(vector, other.id, cost).distance >= candidate.distance);
            if spread {
                taken.push(candidate);
            }
        }
        taken
    }

    /// Links `neighbour` to the new `node`; when it has no room, its links are selected anew.
    fn link_back(&mut self, neighbour: Candidate<u32>, node: u32, level: usize, cost: &mut SearchCost) {
        let (links, row) = self.links_mut(neighbour.id, level);
        if links.push(row, node) {
            return;
        }
        let room = links.stride;
        let vector = self.vector(neighbour.id);
        let mut candidates: Vec<Candidate<u32>> = self
            .links(neighbour.id, level)
            .iter()
            .map(|&other| self.candidate(vector, other, cost))
            .collect();
        candidates.push(Candidate {
            distance: neighbour.distance,
            id: node,
        });
        candidates.sort_unstable();
        let kept = self.select(&candidates, room, cost);
        let (links, row) = self.links_mut(neighbour.id, level);
        links.set(row, kept.into_iter().map(|kept| kept.id));
    }

    /// Algorithm 5, K-NN-SEARCH, with a beam of at least `ef`, for ids that pass `keep`; and what it cost.
    ///
    /// Where the walk ends with fewer than `k` hits although vectors are left that it never met, these are compared one
    /// by one, so that no search comes back short.
    pub fn search_counted(
        &self,
        query: &[f32],
        k: usize,
        ef: usize,
        keep: &(dyn Fn(u64) -> bool + Sync),
    ) -> Result<(Vec<Hit>, SearchCost), AnnError> {
        let query = prepare_query(self.metric, self.dim, query)?;
        let query = query.row(0);
        let mut cost = SearchCost::default();
        if k == 0 || self.is_empty() {
            return Ok((Vec::new(), cost));
        }
        let passes = |node: u32| !self.removed[node as usize] && keep(self.ids[node as usize]);
        let start = self.descend(query, 0, &mut cost);
        let before = cost.distance_evaluations;
        let mut found = self.search_level(query, &[start], ef.max(k), 0, &passes, &mut cost);
        // The walk compared every node but its start, or else there is something left to look at.
        let met = (cost.distance_evaluations - before) as usize + 1;
        if found.len() < k && met < self.ids.len() {
            let all = 0..self.ids.len() as u32;
            found = all
                .filter(|&node| passes(node))
                .map(|node| self.candidate(query, node, &mut cost))
                .collect();
        }
        let mut hits: Vec<Hit> = found
            .into_iter()
            .map(|candidate| Hit {
                id: self.ids[candidate.id as usize],
                score: self.metric.score(candidate.distance),
            })
            .collect();
        hits.sort_unstable_by(|a, b| self.metric.best_first(a, b));
        hits.truncate(k);
        Ok((hits, cost))
    }

    /// The same vectors in a graph without removed nodes.
    fn rebuilt(&self) -> Self {
        let mut fresh = Self {
            ids: Vec::new(),
            values: Vec::new(),
            removed: Vec::new(),
            levels: Vec::new(),
            bottom: Links::new(self.bottom.stride),
            upper: Links::new(self.upper.stride),
            upper_rows: Vec::new(),
            entry: None,
            node_of: HashMap::new(),
            ..*self
        };
        for node in 0..self.ids.len() as u32 {
            if !self.removed[node as usize] {
                fresh.insert(self.ids[node as usize], self.vector(node));
            }
        }
        fresh
    }
}

impl VectorIndex for Hnsw {
    fn dim(&self) -> usize {
        self.dim
    }

    fn metric(&self) -> Metric {
        self.metric
    }

    fn len(&self) -> usize {
        self.node_of.len()
    }

    fn contains(&self, id: u64) -> bool {
        self.node_of.contains_key(&id)
    }

    fn add(&mut self, ids: &[u64], vectors: &Matrix) -> Result<(), AnnError> {
        check_rows(self.dim, ids, vectors)?;
        check_new_ids(ids, |id| self.contains(id))?;
        if self.ids.len() + ids.len() > u32::MAX as usize {
            return Err(AnnError::Parameter {
                name: "number of vectors",
                got: (self.ids.len() + ids.len()).to_string(),
                expected: "at most 2^32 - 1, removed ones included",
            });
        }
        let vectors = self.metric.stored(vectors.clone());
        for (&id, vector) in ids.iter().zip(vectors.iter_rows()) {
            self.insert(id, vector);
        }
        Ok(())
    }

    fn remove(&mut self, ids: &[u64]) -> Result<usize, AnnError> {
        let before = self.len();
        for id in ids {
            if let Some(node) = self.node_of.remove(id) {
                self.removed[node as usize] = true;
            }
        }
        if self.ids.len() > 2 * self.len() {
            *self = self.rebuilt();
        }
        Ok(before - self.len())
    }

    fn search_where(&self, query: &[f32], k: usize, keep: &(dyn Fn(u64) -> bool + Sync)) -> Result<Vec<Hit>, AnnError> {
        let (hits, _) = self.search_counted(query, k, self.config.ef, keep)?;
        Ok(hits)
    }

    fn save(&self, path: &Path) -> Result<(), AnnError> {
        let mut out = Writer::default();
        out.u8(self.metric.code());
        out.u32(self.dim as u32);
        out.u32(self.config.m as u32);
        out.u64(self.config.ef_construction as u64);
        out.u64(self.config.ef as u64);
        out.u64(self.config.seed);
        out.u64(self.build_evaluations);
        out.u64(self.ids.len() as u64);
        out.u32(self.entry.unwrap_or(u32::MAX));
        out.u64s(&self.ids);
        out.f32s(&self.values);
        for node in 0..self.ids.len() {
            out.u8(u8::from(self.removed[node]));
            out.u8(self.levels[node]);
            for level in 0..=usize::from(self.levels[node]) {
                let links = self.links(node as u32, level);
                out.u32(links.len() as u32);
                out.u32s(links);
            }
        }
        out.finish(path, KIND)
    }

    fn load(path: &Path) -> Result<Self, AnnError> {
        let mut file = Reader::open(path, KIND)?;
        let metric = Metric::from_code(file.u8()?).ok_or_else(|| file.corrupt("unknown metric"))?;
        let dim = file.u32()? as usize;
        let config = HnswConfig {
            m: file.u32()? as usize,
            ef_construction: file.u64()? as usize,
            ef: file.u64()? as usize,
            seed: file.u64()?,
        };
        let mut index = Self::new(dim, metric, config)?;
        index.build_evaluations = file.u64()?;
        let nodes = file.u64()? as usize;
        let entry = file.u32()?;
        index.ids = file.u64s(nodes)?;
        index.values = file.f32s(nodes.saturating_mul(dim))?;
        for node in 0..nodes {
            index.removed.push(file.u8()? != 0);
            let level = usize::from(file.u8()?);
            index.levels.push(level as u8);
            index.bottom.add_row();
            index.upper_rows.push(index.upper.rows() as u32);
            (0..level).for_each(|_| index.upper.add_row());
            for at in 0..=level {
                let count = file.u32()? as usize;
                let links = file.u32s(count)?;
                let (table, row) = index.links_mut(node as u32, at);
                if count > table.stride {
                    return Err(file.corrupt("a node has more links than m allows"));
                }
                table.set(row, links.into_iter());
            }
        }
        // A link must lead to a node that exists on its level.
        let leads_astray = |node: usize| {
            (0..=usize::from(index.levels[node])).any(|at| {
                let links = index.links(node as u32, at);
                links
                    .iter()
                    .any(|&to| index.levels.get(to as usize).is_none_or(|&top| usize::from(top) < at))
            })
        };
        if (0..nodes).any(leads_astray) || (nodes > 0) != ((entry as usize) < nodes) {
            return Err(file.corrupt("a link leads to a node that isn't there"));
        }
        index.entry = (nodes > 0).then_some(entry);
        let live = (0..nodes).filter(|&node| !index.removed[node]);
        index.node_of = live.clone().map(|node| (index.ids[node], node as u32)).collect();
        if index.node_of.len() != live.count() {
            return Err(file.corrupt("an id stands twice"));
        }
        file.finish()?;
        Ok(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FlatIndex, recall};

    const SMALL: HnswConfig = HnswConfig {
        m: 12,
        ef_construction: 80,
        ef: 40,
        seed: 42,
    };

    fn random(rows: usize, dim: usize, seed: u64) -> Matrix {
        let mut rng = SplitMix64::new(seed);
        Matrix::from_vec(rows, dim, (0..rows * dim).map(|_| rng.normal() as f32).collect()).unwrap()
    }

    fn both(metric: Metric, vectors: &Matrix) -> (Hnsw, FlatIndex) {
        let ids: Vec<u64> = (0..vectors.rows() as u64).collect();
        let mut hnsw = Hnsw::new(vectors.dim(), metric, SMALL).unwrap();
        let mut flat = FlatIndex::new(vectors.dim(), metric).unwrap();
        hnsw.add(&ids, vectors).unwrap();
        flat.add(&ids, vectors).unwrap();
        (hnsw, flat)
    }

    fn recall_of(approximate: &dyn VectorIndex, exact: &dyn VectorIndex, queries: &Matrix) -> f64 {
        let found = approximate.search_batch(queries, 10).unwrap();
        recall(&found, &exact.search_batch(queries, 10).unwrap())
    }

    #[test]
    fn finds_nearly_all_neighbours_under_each_metric() {
        let (vectors, queries) = (random(3_000, 8, 1), random(100, 8, 2));
        for (metric, floor) in [(Metric::SquaredL2, 0.98), (Metric::Cosine, 0.98), (Metric::Dot, 0.9)] {
            let (hnsw, flat) = both(metric, &vectors);
            let recall = recall_of(&hnsw, &flat, &queries);
            assert!(recall >= floor, "{metric:?} {recall}");
        }
    }

    #[test]
    fn scores_equal_those_of_the_exact_index() {
        let vectors = random(500, 16, 3);
        for metric in [Metric::SquaredL2, Metric::Cosine, Metric::Dot] {
            let (hnsw, flat) = both(metric, &vectors);
            let wide = hnsw.search(vectors.row(7), 500).unwrap();
            assert_eq!(
                wide,
                flat.search(vectors.row(7), 500).unwrap(),
                "k = n is exact, ties included"
            );
        }
    }

    #[test]
    fn costs_far_fewer_distances_than_a_scan_and_counts_them() {
        let vectors = random(4_000, 8, 4);
        let (hnsw, _) = both(Metric::SquaredL2, &vectors);
        let (_, cost) = hnsw.search_counted(vectors.row(0), 10, 40, &|_| true).unwrap();
        assert!((40..1_500).contains(&cost.distance_evaluations), "{cost:?}");
        let (_, wider) = hnsw.search_counted(vectors.row(0), 10, 160, &|_| true).unwrap();
        assert!(wider.distance_evaluations > cost.distance_evaluations);
        assert!(hnsw.build_evaluations() > 4_000);
    }

    #[test]
    fn link_bytes_are_those_of_the_level_law() {
        let vectors = random(20_000, 2, 5);
        let ids: Vec<u64> = (0..20_000).collect();
        let config = HnswConfig {
            m: 8,
            ef_construction: 8,
            ..SMALL
        };
        let mut hnsw = Hnsw::new(2, Metric::SquaredL2, config).unwrap();
        hnsw.add(&ids, &vectors).unwrap();
        let expected = 20_000.0 * (2.0 * 8.0 * 4.0 + 8.0 * 4.0 / 7.0);
        let measured = hnsw.bytes().links as f64;
        assert!((measured / expected - 1.0).abs() < 0.02, "{measured} {expected}");
        assert_eq!(hnsw.bytes().vectors, 20_000 * 2 * 4);
        assert!((3..=8).contains(&hnsw.levels()), "{}", hnsw.levels());
    }

    #[test]
    fn lists_respect_their_limits_and_levels() {
        let (hnsw, _) = both(Metric::SquaredL2, &random(2_000, 4, 6));
        for node in 0..2_000u32 {
            for level in 0..=usize::from(hnsw.levels[node as usize]) {
                let links = hnsw.links(node, level);
                assert!(links.len() <= if level == 0 { 24 } else { 12 });
                let mut distinct = links.to_vec();
                distinct.sort_unstable();
                distinct.dedup();
                assert_eq!(distinct.len(), links.len(), "no link stands twice");
                assert!(
                    links
                        .iter()
                        .all(|&to| to != node && usize::from(hnsw.levels[to as usize]) >= level)
                );
            }
        }
    }

    #[test]
    fn removed_vectors_are_never_returned_and_recall_stays() {
        let (vectors, queries) = (random(2_000, 8, 7), random(50, 8, 8));
        let (mut hnsw, mut flat) = both(Metric::SquaredL2, &vectors);
        for share in [0..800u64, 800..1_500] {
            let ids: Vec<u64> = share.collect();
            assert_eq!(hnsw.remove(&ids).unwrap(), ids.len());
            flat.remove(&ids).unwrap();
            assert_eq!((hnsw.len(), hnsw.remove(&ids).unwrap()), (flat.len(), 0));
            let recall = recall_of(&hnsw, &flat, &queries);
            assert!(recall >= 0.98, "{recall}");
        }
        assert_eq!(
            hnsw.ids.len(),
            500,
            "the graph was built anew without its removed nodes"
        );
        hnsw.remove(&(0..2_000).collect::<Vec<_>>()).unwrap();
        assert_eq!(hnsw.search(queries.row(0), 5).unwrap(), []);
        hnsw.add(&[3], &vectors.select(&[3])).unwrap();
        assert_eq!(hnsw.search(queries.row(0), 5).unwrap().len(), 1);
    }

    #[test]
    fn upsert_moves_a_vector() {
        let (mut hnsw, _) = both(Metric::SquaredL2, &random(300, 4, 9));
        let far = Matrix::from_rows(&[[100.0; 4]]).unwrap();
        assert_eq!(hnsw.upsert(&[5], &far).unwrap(), 1);
        let hits = hnsw.search(&[100.0; 4], 1).unwrap();
        assert_eq!((hits[0].id, hits[0].score, hnsw.len()), (5, 0.0, 300));
    }

    #[test]
    fn filters_of_any_selectivity_give_k_hits() {
        let (vectors, queries) = (random(2_000, 8, 10), random(20, 8, 11));
        let (hnsw, flat) = both(Metric::Cosine, &vectors);
        for divisor in [2, 50, 400] {
            let keep = |id: u64| id % divisor == 1;
            let mut hit = 0;
            for query in queries.iter_rows() {
                let found = hnsw.search_where(query, 5, &keep).unwrap();
                let truth = flat.search_where(query, 5, &keep).unwrap();
                assert_eq!(found.len(), 5);
                assert!(found.iter().all(|f| keep(f.id)));
                hit += truth.iter().filter(|t| found.iter().any(|f| f.id == t.id)).count();
            }
            assert!(hit >= 98, "{hit} of 100 at 1/{divisor}");
        }
        assert_eq!(hnsw.search_where(queries.row(0), 5, &|_| false).unwrap(), []);
    }

    #[test]
    fn many_equal_vectors_are_all_found() {
        let ids: Vec<u64> = (0..400).rev().collect();
        let mut hnsw = Hnsw::new(3, Metric::SquaredL2, SMALL).unwrap();
        hnsw.add(&ids, &Matrix::from_rows(&vec![[1.0, 2.0, 3.0]; 400]).unwrap())
            .unwrap();
        let hits = hnsw.search(&[1.0, 2.0, 3.0], 400).unwrap();
        assert_eq!(
            hits.iter().map(|h| h.id).collect::<Vec<_>>(),
            (0..400).collect::<Vec<_>>()
        );
    }

    #[test]
    fn edges_and_bad_input() {
        assert!(Hnsw::new(0, Metric::Dot, SMALL).is_err());
        assert!(Hnsw::new(2, Metric::Dot, HnswConfig { m: 1, ..SMALL }).is_err());
        assert!(Hnsw::new(2, Metric::Dot, HnswConfig { ef: 0, ..SMALL }).is_err());
        let mut hnsw = Hnsw::new(2, Metric::Cosine, SMALL).unwrap();
        assert_eq!((hnsw.search(&[0.0, 1.0], 3).unwrap().len(), hnsw.levels()), (0, 0));
        let two = Matrix::from_rows(&[[1.0, 2.0], [0.0, 0.0]]).unwrap();
        hnsw.add(&[1, 2], &two).unwrap();
        assert_eq!(hnsw.search(&[0.0, 1.0], 0).unwrap(), []);
        assert_eq!(hnsw.search(&[0.0, 1.0], 9).unwrap().len(), 2);
        assert!(matches!(hnsw.add(&[3, 1], &two), Err(AnnError::DuplicateId(1))));
        assert!(matches!(hnsw.add(&[3, 3], &two), Err(AnnError::DuplicateId(3))));
        let nan = Matrix::from_rows(&[[1.0, 2.0], [f32::NAN, 0.0]]).unwrap();
        assert!(matches!(
            hnsw.add(&[3, 4], &nan),
            Err(AnnError::NotFinite { row: 1, .. })
        ));
        assert!(matches!(
            hnsw.search(&[1.0], 1),
            Err(AnnError::Dimension { expected: 2, got: 1 })
        ));
        assert!(hnsw.set_ef(0).is_err());
        assert_eq!(hnsw.len(), 2);
    }

    #[test]
    fn a_reloaded_index_answers_and_grows_as_the_original() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hnsw");
        let vectors = random(600, 6, 12);
        let (mut hnsw, _) = both(Metric::SquaredL2, &vectors);
        hnsw.remove(&[1, 2, 3]).unwrap();
        hnsw.save(&path).unwrap();
        let mut loaded = Hnsw::load(&path).unwrap();
        let more = random(50, 6, 13);
        let ids: Vec<u64> = (1_000..1_050).collect();
        loaded.add(&ids, &more).unwrap();
        hnsw.add(&ids, &more).unwrap();
        for query in random(20, 6, 14).iter_rows() {
            let counted = |index: &Hnsw| index.search_counted(query, 10, 30, &|_| true).unwrap();
            assert_eq!(counted(&loaded), counted(&hnsw));
        }
        assert_eq!(
            (loaded.bytes(), loaded.build_evaluations()),
            (hnsw.bytes(), hnsw.build_evaluations())
        );

        let whole = std::fs::read(&path).unwrap();
        for at in [30, whole.len() / 2, whole.len() - 1] {
            let mut altered = whole.clone();
            altered[at] ^= 4;
            std::fs::write(&path, &altered).unwrap();
            assert!(Hnsw::load(&path).unwrap_err().to_string().contains("altered"));
        }
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert!(Hnsw::load(&path).unwrap_err().to_string().contains("cut off"));
        Hnsw::new(4, Metric::Dot, SMALL).unwrap().save(&path).unwrap();
        assert!(Hnsw::load(&path).unwrap().is_empty());
    }
}
