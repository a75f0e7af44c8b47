//! [`Hnsw`]: hierarchical navigable small world graphs (Malkov and Yashunin, "Efficient and robust approximate nearest
//! neighbor search using Hierarchical Navigable Small World graphs", IEEE TPAMI 2020). Algorithm numbers below are the
//! paper's.
//!
//! Every vector is a node of the bottom level, one in `m` also of the level above, one in `m^2` of the next, and so on.
//! A search walks greedily through the sparse upper levels towards the query, then explores the bottom level with a beam
//! of `ef` candidates.
//!
//! What makes it fast beside the algorithm: vectors and links each lie in one run of memory, in huge pages; the vectors of
//! a node's links are asked for before the first of them is compared; a search borrows its working memory from a pool;
//! and nodes are inserted in batches, whose searches run in parallel on the graph as it was before the batch. The result
//! doesn't depend on the number of threads.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::ops::{AddAssign, Range};
use std::path::Path;

use eas_tensor::Matrix;
use eas_tensor::buffer::Buffer;
use eas_tensor::kernels::prefetch;
use eas_tensor::rng::SplitMix64;
use rayon::prelude::*;

use crate::AnnError;
use crate::beam::{Links, NONE, Near, Pool, Scratch, check_room, reachable_share};
use crate::file::{Reader, Writer};
use crate::index::{Hit, Metric, VectorIndex, check_dim, check_new_ids, check_rows, prepare_query};

const KIND: [u8; 4] = *b"HNS2";
/// Levels above the bottom one; with `m >= 2` more than these many would need 2^32 vectors.
const MAX_LEVEL: usize = 32;
/// A batch is at most this share of the nodes before it, so that hardly a node misses a neighbour that comes with it...
const BATCH_SHARE: usize = 32;
/// ...and at most this many nodes: enough to keep the threads busy.
const MAX_BATCH: usize = 256;
/// Vectors asked for ahead of the one that is compared.
const AHEAD: usize = 4;
/// Nodes whose ids are shown to a filter to estimate how many pass.
const PROBES: usize = 256;

/// How the links of a node are chosen among its nearest candidates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Selection {
    /// Algorithm 3: the nearest ones. On clustered data all links stay within the cluster.
    Simple,
    /// Algorithm 4: a candidate only if it is nearer to the node than to every neighbour taken before, so that links lead in
    /// different directions.
    #[default]
    Heuristic,
    /// Algorithm 4 with `keepPrunedConnections`: places left are filled with the nearest candidates passed over.
    HeuristicFilled,
}

impl Selection {
    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        [Self::Simple, Self::Heuristic, Self::HeuristicFilled].into_iter().find(|selection| selection.code() == code)
    }
}

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
    /// How links are chosen.
    pub selection: Selection,
}

impl Default for HnswConfig {
    /// `m` 16, `ef_construction` 200, `ef` 64, seed 42, the heuristic of algorithm 4.
    fn default() -> Self {
        Self { m: 16, ef_construction: 200, ef: 64, seed: 42, selection: Selection::Heuristic }
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
                return Err(AnnError::Parameter { name, got: got.to_string(), expected });
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
    /// Nodes of the upper levels whose links were read.
    pub upper_expanded: u64,
    /// Nodes of the bottom level whose links were read.
    pub bottom_expanded: u64,
    /// Vectors compared one by one, because a filter passes so few that a walk would cost more or came back short.
    pub scanned: u64,
}

impl AddAssign for SearchCost {
    fn add_assign(&mut self, other: Self) {
        self.distance_evaluations += other.distance_evaluations;
        self.upper_expanded += other.upper_expanded;
        self.bottom_expanded += other.bottom_expanded;
        self.scanned += other.scanned;
    }
}

/// Bytes of an index by purpose, without the hash table from id to node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HnswBytes {
    /// Values of the vectors.
    pub vectors: usize,
    /// Room for links, used or not.
    pub links: usize,
    /// Ids, levels, marks of removal, numbers of links that lead to a node.
    pub bookkeeping: usize,
}

/// The links of one level.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LevelLinks {
    /// The level, 0 at the bottom.
    pub level: usize,
    /// Nodes on the level.
    pub nodes: usize,
    /// Links of all of them.
    pub links: usize,
    /// Most links of a node.
    pub max_degree: usize,
    /// Room for links of a node: `2 m` on the bottom level, `m` above.
    pub room: usize,
}

/// An approximate index whose search cost grows with the logarithm of its size.
///
/// Inner products are no distance, so with [`Metric::Dot`] recall is good only where the vectors' lengths are similar.
/// Removed vectors stay in the graph as stepping stones and are never returned, until [`Self::repair`] takes them out of it;
/// when they outnumber the live ones the graph is built anew. Two indexes built by the same calls are equal, whatever the
/// number of threads.
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
    values: Buffer<f32>,
    removed: Vec<bool>,
    /// Removed nodes that links still lead to.
    stones: usize,
    /// Highest level of each node.
    levels: Vec<u8>,
    /// Links of node `i` on the bottom level, in row `i`.
    bottom: Links,
    /// Links of node `i` on level `l >= 1`, in row `upper_rows[i] + l - 1`.
    upper: Links,
    upper_rows: Vec<u32>,
    /// Links of the bottom level that lead to node `i`: a node that none leads to couldn't be found.
    in_links: Vec<u32>,
    /// A node of the highest level, where every search starts.
    entry: Option<u32>,
    /// The live nodes.
    node_of: HashMap<u64, u32>,
    build_evaluations: u64,
    pool: Pool<Scratch>,
}

/// What [`Hnsw::parts`] gives; see the fields of [`Hnsw`].
pub(crate) struct Parts<'a> {
    pub(crate) ids: &'a [u64],
    pub(crate) values: &'a [f32],
    pub(crate) removed: &'a [bool],
    pub(crate) stones: usize,
    pub(crate) upper_rows: &'a [u32],
    pub(crate) bottom: &'a [u32],
    pub(crate) upper: &'a [u32],
    /// Places for links of a node on the bottom level and above.
    pub(crate) room: [usize; 2],
    pub(crate) entry: Option<u32>,
}

/// A link that a new node asks of its neighbour `target`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct BackLink {
    level: usize,
    target: u32,
    from: Near,
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
            values: Buffer::new(),
            removed: Vec::new(),
            stones: 0,
            levels: Vec::new(),
            bottom: Links::new(2 * config.m),
            upper: Links::new(config.m),
            upper_rows: Vec::new(),
            in_links: Vec::new(),
            entry: None,
            node_of: HashMap::new(),
            build_evaluations: 0,
            pool: Pool::default(),
        })
    }

    // INSERT

    /// Gives each row a node without links.
    fn append(&mut self, ids: &[u64], vectors: &Matrix) -> Range<u32> {
        let first = self.ids.len();
        let end = first + ids.len();
        self.ids.extend_from_slice(ids);
        self.values.extend_from_slice(vectors.as_slice());
        self.removed.resize(end, false);
        self.in_links.resize(end, 0);
        self.bottom.add_rows(ids.len());
        let nodes = first as u32..end as u32;
        for (node, &id) in nodes.clone().zip(ids) {
            let level = self.draw_level(node);
            self.levels.push(level as u8);
            self.upper_rows.push(self.upper.rows() as u32);
            self.upper.add_rows(level);
            self.node_of.insert(id, node);
        }
        nodes
    }

    /// `floor(-ln(U) / ln(m))`, drawn from the node's number, so that a reloaded index grows as the original would.
    fn draw_level(&self, node: u32) -> usize {
        let u = 1.0 - SplitMix64::stream(self.config.seed, u64::from(node)).uniform();
        ((-u.ln() / (self.config.m as f64).ln()) as usize).min(MAX_LEVEL)
    }

    /// Algorithm 1, INSERT, for nodes without links: batch by batch. A node that rises above the top comes alone, so that it
    /// is the entry point of all after it.
    fn insert(&mut self, nodes: Range<u32>) {
        let mut start = nodes.start;
        while start < nodes.end {
            let level = self.levels[start as usize];
            let Some(entry) = self.entry else {
                self.entry = Some(start);
                start += 1;
                continue;
            };
            let top = self.levels[entry as usize];
            let mut end = start + 1;
            if level <= top {
                let most = (start as usize / BATCH_SHARE).clamp(1, MAX_BATCH) as u32;
                while end < nodes.end && end - start < most && self.levels[end as usize] <= top {
                    end += 1;
                }
            }
            self.insert_batch(start..end);
            if level > top {
                self.entry = Some(start);
            }
            start = end;
        }
    }

    fn insert_batch(&mut self, batch: Range<u32>) {
        // Search: each node for itself, in the graph as it is.
        let plan = |node: u32| self.pool.with(|scratch| self.neighbours_of_new(node, batch.start, scratch));
        let plans: Vec<(Vec<Vec<Near>>, SearchCost)> = match batch.len() {
            1 => vec![plan(batch.start)],
            _ => batch.clone().into_par_iter().map(plan).collect(),
        };
        // Link: the new nodes to their neighbours...
        let mut back_links = Vec::new();
        let mut lost = Vec::new();
        for (node, (levels, cost)) in batch.zip(plans) {
            self.build_evaluations += cost.distance_evaluations;
            lost.extend(levels.first().and_then(|near| near.first()).map(|near| (node, near.node())));
            for (level, neighbours) in levels.into_iter().enumerate() {
                let links: Vec<u32> = neighbours.iter().map(|near| near.node()).collect();
                self.set_links(node, level, &links, &mut lost);
                back_links.extend(neighbours.iter().map(|near| BackLink {
                    level,
                    target: near.node(),
                    from: Near::new(near.distance(), node),
                }));
            }
        }
        // ...and back. Each neighbour's list is chosen from what it has and all that the batch brings.
        back_links.sort_unstable();
        let groups: Vec<&[BackLink]> = back_links.chunk_by(|a, b| (a.level, a.target) == (b.level, b.target)).collect();
        let relink = |group: &&[BackLink]| self.links_with(group);
        let lists: Vec<(Vec<u32>, SearchCost)> = match groups.len() {
            0..16 => groups.iter().map(relink).collect(),
            _ => groups.par_iter().map(relink).collect(),
        };
        for (group, (links, cost)) in groups.iter().zip(lists) {
            self.build_evaluations += cost.distance_evaluations;
            self.set_links(group[0].target, group[0].level, &links, &mut lost);
        }
        self.rescue(&lost);
    }

    /// The neighbours that a node without links should have, by level from the bottom; `first` is the first node of its batch.
    fn neighbours_of_new(&self, node: u32, first: u32, scratch: &mut Scratch) -> (Vec<Vec<Near>>, SearchCost) {
        let vector = self.vector(node);
        let level = usize::from(self.levels[node as usize]);
        let top = self.levels() - 1;
        let mut cost = SearchCost::default();
        scratch.trace = None;
        let mut from = vec![self.descend(vector, level, scratch, &mut cost)];
        let mut chosen = vec![Vec::new(); level.min(top) + 1];
        for at in (0..=level.min(top)).rev() {
            // On the bottom level removed nodes are only stepping stones, and no new link leads to one.
            let live = |other: u32| !self.removed[other as usize];
            let keep: Option<&dyn Fn(u32) -> bool> = (at == 0 && self.stones > 0).then_some(&live);
            let ef = self.config.ef_construction;
            self.search_level(vector, &from, ef, at, keep, u64::MAX, scratch, &mut cost);
            let mut near: Vec<Near> = scratch.beam.found().collect();
            if !near.is_empty() {
                from.clone_from(&near);
            }
            // Those of the batch that come before it aren't in the graph yet, and still neighbours.
            let earlier = (first..node).filter(|&other| usize::from(self.levels[other as usize]) >= at);
            near.extend(earlier.map(|other| self.near(vector, other, &mut cost)));
            near.sort_unstable();
            near.truncate(ef);
            chosen[at] = self.select(&near, self.config.m, &mut cost);
        }
        (chosen, cost)
    }

    /// The links of the group's target when it also gets those of the group.
    fn links_with(&self, group: &[BackLink]) -> (Vec<u32>, SearchCost) {
        let BackLink { level, target, .. } = group[0];
        let mut cost = SearchCost::default();
        let mut links = self.links(target, level).to_vec();
        let room = self.room(level);
        if links.len() + group.len() <= room {
            links.extend(group.iter().map(|link| link.from.node()));
            return (links, cost);
        }
        let vector = self.vector(target);
        for &other in &links {
            prefetch(self.vector(other));
        }
        let mut near: Vec<Near> = links.iter().map(|&other| self.near(vector, other, &mut cost)).collect();
        near.extend(group.iter().map(|link| link.from));
        near.sort_unstable();
        let kept = self.select(&near, room, &mut cost);
        (kept.into_iter().map(Near::node).collect(), cost)
    }

    /// Replaces the links of a node and counts what leads where; those that lost their last link go to `lost`, with the node
    /// that gave them up.
    fn set_links(&mut self, node: u32, level: usize, links: &[u32], lost: &mut Vec<(u32, u32)>) {
        if level > 0 {
            self.upper.set(self.upper_rows[node as usize] as usize + level - 1, links);
            return;
        }
        for &to in links {
            self.in_links[to as usize] += 1;
        }
        for &to in self.bottom.row(node as usize) {
            self.in_links[to as usize] -= 1;
            if self.in_links[to as usize] == 0 {
                lost.push((to, node));
            }
        }
        self.bottom.set(node as usize, links);
    }

    /// Leads a link to each node `x` of the pairs `(x, by)` that has none: from `by`, in the place of its farthest link whose
    /// node can spare one.
    fn rescue(&mut self, lost: &[(u32, u32)]) {
        for &(node, by) in lost {
            if self.in_links[node as usize] > 0 || self.removed[node as usize] || node == by {
                continue;
            }
            if !self.bottom.push(by as usize, node) {
                let mut cost = SearchCost::default();
                let spare = self.bottom.row(by as usize).iter().copied();
                let spare = spare.filter(|&to| self.in_links[to as usize] > 1);
                let Some(farthest) = spare.map(|to| self.near(self.vector(by), to, &mut cost)).max() else {
                    continue;
                };
                self.in_links[farthest.node() as usize] -= 1;
                self.bottom.replace(by as usize, farthest.node(), node);
            }
            self.in_links[node as usize] = 1;
        }
    }

    /// Walks greedily from the entry point down to the level above `level`; the nearest node found on the way.
    fn descend(&self, query: &[f32], level: usize, scratch: &mut Scratch, cost: &mut SearchCost) -> Near {
        let entry = self.entry.unwrap_or(0);
        let mut nearest = self.near(query, entry, cost);
        for at in (level + 1..=usize::from(self.levels[entry as usize])).rev() {
            loop {
                let start = nearest;
                let links = self.links(start.node(), at);
                for &node in links {
                    prefetch(self.vector(node));
                }
                for &node in links {
                    nearest = nearest.min(self.near(query, node, cost));
                }
                cost.upper_expanded += 1;
                if let Some(trace) = &mut scratch.trace {
                    trace.push((at, start.node()));
                }
                if nearest == start {
                    break;
                }
            }
        }
        nearest
    }

    /// Algorithm 2, SEARCH-LAYER: leaves the `ef` nearest nodes of `level` that pass `keep` in the beam. Nodes that don't pass
    /// are walked through, but take no place in the beam. False when it gave up after `most` distances.
    #[allow(clippy::too_many_arguments)]
    fn search_level(
        &self,
        query: &[f32],
        from: &[Near],
        ef: usize,
        level: usize,
        keep: Option<&dyn Fn(u32) -> bool>,
        most: u64,
        scratch: &mut Scratch,
        cost: &mut SearchCost,
    ) -> bool {
        let Scratch { beam, detours, met, batch, trace } = scratch;
        beam.clear(ef.min(self.ids.len()));
        detours.clear();
        met.clear(self.ids.len());
        for &start in from {
            if met.insert(start.node()) {
                match keep {
                    Some(keep) if !keep(start.node()) => detours.push(Reverse(start)),
                    _ => beam.push(start),
                }
            }
        }
        loop {
            // The nearest node that isn't expanded, of those that pass and those that don't. Where the latter is worse than
            // all of a full beam, so is everything left.
            let nearest = match (beam.peek(), detours.peek()) {
                (Some(next), Some(&Reverse(detour))) if detour < next => detours.pop().map(|_| detour),
                (None, Some(&Reverse(detour))) if beam.wants(detour) => detours.pop().map(|_| detour),
                _ => beam.pop(),
            };
            let Some(nearest) = nearest else { return true };
            if cost.distance_evaluations > most {
                return false;
            }
            if let Some(trace) = trace {
                trace.push((level, nearest.node()));
            }
            if level == 0 {
                cost.bottom_expanded += 1;
            } else {
                cost.upper_expanded += 1;
            }
            batch.clear();
            batch.extend(self.links(nearest.node(), level).iter().copied().filter(|&node| met.insert(node)));
            for &node in batch.iter().take(AHEAD) {
                prefetch(self.vector(node));
            }
            for place in 0..batch.len() {
                if let Some(&ahead) = batch.get(place + AHEAD) {
                    prefetch(self.vector(ahead));
                }
                let candidate = self.near(query, batch[place], cost);
                if !beam.wants(candidate) {
                    continue;
                }
                match keep {
                    Some(keep) if !keep(candidate.node()) => detours.push(Reverse(candidate)),
                    _ => {
                        beam.push(candidate);
                        if beam.peek() == Some(candidate) {
                            prefetch(self.places(candidate.node(), level));
                        }
                    }
                }
            }
        }
    }

    /// Algorithm 4, SELECT-NEIGHBORS-HEURISTIC (or 3, by the configuration): up to `m` of `candidates`, which come nearest
    /// first. One is taken if it is nearer to the node than to any taken before, so that links lead in different directions.
    fn select(&self, candidates: &[Near], m: usize, cost: &mut SearchCost) -> Vec<Near> {
        if self.config.selection == Selection::Simple {
            return candidates[..m.min(candidates.len())].to_vec();
        }
        let mut taken: Vec<Near> = Vec::with_capacity(m);
        let mut passed_over = Vec::new();
        for (place, &candidate) in candidates.iter().enumerate() {
            if taken.len() == m {
                break;
            }
            if let Some(next) = candidates.get(place + 1) {
                prefetch(self.vector(next.node()));
            }
            let vector = self.vector(candidate.node());
            let spread = taken.iter().all(|other| self.near(vector, other.node(), cost).key() >= candidate.key());
            if spread {
                taken.push(candidate);
            } else {
                passed_over.push(candidate);
            }
        }
        if self.config.selection == Selection::HeuristicFilled {
            let free = m - taken.len();
            taken.extend(passed_over.into_iter().take(free));
        }
        taken
    }

    // SEARCH

    /// Algorithm 5, K-NN-SEARCH, with a beam of at least `ef`, for ids that pass `keep`; and what it cost.
    ///
    /// Where so few ids pass that comparing them one by one costs less than the walk (judged from a sample of the ids), or
    /// where the walk has cost as much or ends with fewer than `k` hits, they are compared one by one. So no search comes back
    /// short, and none costs much more than a scan of what passes.
    pub fn search_counted(
        &self,
        query: &[f32],
        k: usize,
        ef: usize,
        keep: &(dyn Fn(u64) -> bool + Sync),
    ) -> Result<(Vec<Hit>, SearchCost), AnnError> {
        let query = prepare_query(self.metric, self.dim, query)?;
        Ok(self.pool.with(|scratch| {
            scratch.trace = None;
            self.search_prepared(query.row(0), k, ef, Some(keep), scratch)
        }))
    }

    /// A search without filter, and the nodes whose links it read: `(level, node)` in the order of the walk, nodes numbered in
    /// the order of insertion.
    #[allow(clippy::type_complexity)]
    pub fn search_traced(&self, query: &[f32], k: usize, ef: usize) -> Result<(Vec<Hit>, Vec<(usize, u32)>), AnnError> {
        let query = prepare_query(self.metric, self.dim, query)?;
        Ok(self.pool.with(|scratch| {
            scratch.trace = Some(Vec::new());
            let (hits, _) = self.search_prepared(query.row(0), k, ef, None, scratch);
            (hits, scratch.trace.take().unwrap_or_default())
        }))
    }

    fn search_prepared(
        &self,
        query: &[f32],
        k: usize,
        ef: usize,
        keep: Option<&(dyn Fn(u64) -> bool + Sync)>,
        scratch: &mut Scratch,
    ) -> (Vec<Hit>, SearchCost) {
        let mut cost = SearchCost::default();
        if k == 0 || self.is_empty() {
            return (Vec::new(), cost);
        }
        let passes = |node: u32| !self.removed[node as usize] && keep.is_none_or(|keep| keep(self.ids[node as usize]));
        let ef = ef.max(k);
        let scan_cost = self.scan_cost(keep.is_some(), &passes);
        let walk_cost = self.walk_cost(ef, scan_cost);
        if k < self.len() && (keep.is_none() || walk_cost < scan_cost) {
            let filter: Option<&dyn Fn(u32) -> bool> = (keep.is_some() || self.stones > 0).then_some(&passes);
            let most = if keep.is_some() { scan_cost as u64 } else { u64::MAX };
            let start = self.descend(query, 0, scratch, &mut cost);
            let finished = self.search_level(query, &[start], ef, 0, filter, most, scratch, &mut cost);
            let found = scratch.beam.found();
            if finished && (found.len() >= k || scratch.met.len() == self.ids.len()) {
                return (self.hits(found, k), cost);
            }
        }
        let all = 0..self.ids.len() as u32;
        let passing: Vec<Near> =
            all.filter(|&node| passes(node)).map(|node| self.near(query, node, &mut cost)).collect();
        cost.scanned += passing.len() as u64;
        (self.hits(passing.into_iter(), k), cost)
    }

    /// Distances that comparing all that passes would cost, from a sample of the nodes; asking a filter about an id is taken
    /// as a 64th of a distance.
    fn scan_cost(&self, filtered: bool, passes: &dyn Fn(u32) -> bool) -> f64 {
        let nodes = self.ids.len();
        if !filtered {
            return self.len() as f64;
        }
        let step = nodes.div_ceil(PROBES).max(1);
        let (mut asked, mut passed) = (0.0, 0.0);
        for node in (0..nodes as u32).step_by(step) {
            asked += 1.0;
            passed += f64::from(u8::from(passes(node)));
        }
        nodes as f64 * (passed / asked + 1.0 / 64.0)
    }

    /// Distances that a walk is expected to cost until `ef` nodes that pass are met, about eight each without a filter, when
    /// comparing all that pass costs `scan_cost`.
    fn walk_cost(&self, ef: usize, scan_cost: f64) -> f64 {
        let nodes = self.ids.len() as f64;
        (8.0 * ef as f64 * nodes / scan_cost).min(nodes)
    }

    fn hits(&self, found: impl Iterator<Item = Near>, k: usize) -> Vec<Hit> {
        let mut hits: Vec<Hit> = found
            .map(|near| Hit { id: self.ids[near.node() as usize], score: self.metric.score(near.distance()) })
            .collect();
        hits.sort_unstable_by(|a, b| self.metric.best_first(a, b));
        hits.truncate(k);
        hits
    }

    #[inline]
    fn vector(&self, node: u32) -> &[f32] {
        let from = node as usize * self.dim;
        &self.values[from..from + self.dim]
    }

    #[inline]
    fn near(&self, query: &[f32], node: u32, cost: &mut SearchCost) -> Near {
        cost.distance_evaluations += 1;
        Near::new(self.metric.distance(query, self.vector(node)), node)
    }

    fn links(&self, node: u32, level: usize) -> &[u32] {
        match level {
            0 => self.bottom.row(node as usize),
            _ => self.upper.row(self.upper_rows[node as usize] as usize + level - 1),
        }
    }

    fn places(&self, node: u32, level: usize) -> &[u32] {
        match level {
            0 => self.bottom.places(node as usize),
            _ => self.upper.places(self.upper_rows[node as usize] as usize + level - 1),
        }
    }

    fn room(&self, level: usize) -> usize {
        if level == 0 { self.bottom.stride() } else { self.upper.stride() }
    }

    // REMOVE

    /// Marks nodes as removed and returns how many ids were present.
    fn mark_removed(&mut self, ids: &[u64]) -> usize {
        let before = self.len();
        for id in ids {
            if let Some(node) = self.node_of.remove(id) {
                self.removed[node as usize] = true;
                self.stones += 1;
            }
        }
        before - self.len()
    }

    /// Builds the graph anew when more of its nodes are removed than live.
    fn compact(&mut self) {
        if self.ids.len() > 2 * self.len() {
            *self = self.rebuilt();
        }
    }

    /// The same vectors in a graph without removed nodes, as a fresh build would link them.
    #[must_use]
    pub fn rebuilt(&self) -> Self {
        let mut fresh = Self {
            ids: Vec::new(),
            values: Buffer::new(),
            removed: Vec::new(),
            stones: 0,
            levels: Vec::new(),
            bottom: Links::new(self.bottom.stride()),
            upper: Links::new(self.upper.stride()),
            upper_rows: Vec::new(),
            in_links: Vec::new(),
            entry: None,
            node_of: HashMap::new(),
            pool: Pool::default(),
            ..*self
        };
        let live: Vec<usize> = (0..self.ids.len()).filter(|&node| !self.removed[node]).collect();
        let ids: Vec<u64> = live.iter().map(|&node| self.ids[node]).collect();
        let mut vectors = Matrix::zeros(live.len(), self.dim);
        for (row, &node) in live.iter().enumerate() {
            vectors.row_mut(row).copy_from_slice(self.vector(node as u32));
        }
        let nodes = fresh.append(&ids, &vectors);
        fresh.insert(nodes);
        fresh
    }

    /// [`VectorIndex::remove`], and then [`Self::repair`]: the walk no longer passes through what was removed.
    pub fn remove_and_repair(&mut self, ids: &[u64]) -> Result<usize, AnnError> {
        let removed = self.mark_removed(ids);
        self.repair();
        self.compact();
        Ok(removed)
    }

    /// Takes removed nodes out of the graph and returns how many live ones were linked anew: one that led to a removed node
    /// chooses among the links it keeps and those of the nodes it loses (as Singh et al., "FreshDiskANN", 2021).
    pub fn repair(&mut self) -> usize {
        if self.stones == 0 {
            return 0;
        }
        let mut lost = Vec::new();
        let mut relinked = 0;
        for level in 0..self.levels() {
            let all = (0..self.ids.len() as u32).into_par_iter();
            let lists: Vec<(u32, Vec<u32>)> = all
                .filter(|&node| usize::from(self.levels[node as usize]) >= level)
                .filter_map(|node| self.links_without_removed(node, level).map(|links| (node, links)))
                .collect();
            for (node, links) in lists {
                relinked += usize::from(level == 0 && !self.removed[node as usize]);
                self.set_links(node, level, &links, &mut lost);
            }
        }
        // What nothing leads to any more, and what is left without links, asks the node that a search for it ends at.
        self.stones = 0;
        let live = (0..self.ids.len() as u32).filter(|&node| !self.removed[node as usize]);
        self.entry = live.clone().max_by_key(|&node| (self.levels[node as usize], Reverse(node)));
        let stranded: Vec<u32> = live
            .filter(|&node| self.in_links[node as usize] == 0 || self.bottom.row(node as usize).is_empty())
            .collect();
        for node in stranded {
            let near = self.pool.with(|scratch| self.search_prepared(self.vector(node), 2, 64, None, scratch).0);
            let other = near.iter().filter_map(|hit| self.node_of.get(&hit.id)).find(|&&other| other != node);
            if let Some(&other) = other {
                self.rescue(&[(node, other)]);
                if self.bottom.row(node as usize).is_empty() {
                    self.set_links(node, 0, &[other], &mut lost);
                }
            }
        }
        relinked
    }

    /// What a node's links become when no removed node is among them; `None` when none is. A removed node keeps no links.
    fn links_without_removed(&self, node: u32, level: usize) -> Option<Vec<u32>> {
        let links = self.links(node, level);
        if self.removed[node as usize] {
            return (!links.is_empty()).then(Vec::new);
        }
        let is_removed = |to: u32| self.removed[to as usize];
        if !links.iter().any(|&to| is_removed(to)) {
            return None;
        }
        let (lost, mut others): (Vec<u32>, Vec<u32>) = links.iter().partition(|&&to| is_removed(to));
        for gone in lost {
            others.extend(self.links(gone, level).iter().filter(|&&to| to != node && !is_removed(to)));
        }
        others.sort_unstable();
        others.dedup();
        let mut cost = SearchCost::default();
        let mut near: Vec<Near> = others.iter().map(|&to| self.near(self.vector(node), to, &mut cost)).collect();
        near.sort_unstable();
        let kept = self.select(&near, self.room(level), &mut cost);
        Some(kept.into_iter().map(Near::node).collect())
    }

    // WHAT THE GRAPH LOOKS LIKE

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
        self.entry.map_or(0, |entry| usize::from(self.levels[entry as usize]) + 1)
    }

    /// Nodes of the graph, removed ones included.
    pub fn nodes(&self) -> usize {
        self.ids.len()
    }

    /// The id under which node `i` was added.
    pub fn ids(&self) -> &[u64] {
        &self.ids
    }

    /// The node numbers that node `node` links to on `level`; `None` where there is no such node.
    pub fn links_of(&self, node: u32, level: usize) -> Option<&[u32]> {
        let top = *self.levels.get(node as usize)?;
        (level <= usize::from(top)).then(|| self.links(node, level))
    }

    /// Nodes and links by level, from the bottom.
    pub fn level_links(&self) -> Vec<LevelLinks> {
        let on_level = |level: usize| {
            let nodes = (0..self.ids.len() as u32).filter(|&node| usize::from(self.levels[node as usize]) >= level);
            let degrees: Vec<usize> = nodes.map(|node| self.links(node, level).len()).collect();
            LevelLinks {
                level,
                nodes: degrees.len(),
                links: degrees.iter().sum(),
                max_degree: degrees.iter().copied().max().unwrap_or(0),
                room: self.room(level),
            }
        };
        (0..self.levels()).map(on_level).collect()
    }

    /// Share of the live nodes that links of the bottom level lead to from the entry point; 1 when there is none.
    pub fn reachable_share(&self) -> f64 {
        reachable_share(self.entry, &self.removed, |node| self.links(node, 0).iter().copied())
    }

    /// A number that two graphs share when their nodes, levels, links and entry points are equal (FNV-1a).
    pub fn graph_hash(&self) -> u64 {
        let words = [self.bottom.slots(), self.upper.slots()].concat();
        let levels = self.levels.iter().map(|&level| u64::from(level));
        let all = std::iter::once(self.entry.map_or(u64::MAX, u64::from))
            .chain(self.ids.iter().copied())
            .chain(levels)
            .chain(words.into_iter().map(u64::from));
        all.flat_map(u64::to_le_bytes)
            .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
    }

    /// The arrays that the graph is made of.
    pub(crate) fn parts(&self) -> Parts<'_> {
        Parts {
            ids: &self.ids,
            values: &self.values,
            removed: &self.removed,
            stones: self.stones,
            upper_rows: &self.upper_rows,
            bottom: self.bottom.slots(),
            upper: self.upper.slots(),
            room: [self.bottom.stride(), self.upper.stride()],
            entry: self.entry,
        }
    }

    /// Bytes by purpose.
    pub fn bytes(&self) -> HnswBytes {
        HnswBytes {
            vectors: size_of_val(&self.values[..]),
            links: size_of_val(self.bottom.slots()) + size_of_val(self.upper.slots()),
            bookkeeping: size_of_val(self.ids.as_slice())
                + size_of_val(self.removed.as_slice())
                + size_of_val(self.levels.as_slice())
                + size_of_val(self.upper_rows.as_slice())
                + size_of_val(self.in_links.as_slice()),
        }
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
        check_room(self.ids.len(), ids.len())?;
        let nodes = self.append(ids, &self.metric.stored(vectors.clone()));
        self.insert(nodes);
        Ok(())
    }

    fn remove(&mut self, ids: &[u64]) -> Result<usize, AnnError> {
        let removed = self.mark_removed(ids);
        self.compact();
        Ok(removed)
    }

    fn search_where(&self, query: &[f32], k: usize, keep: &(dyn Fn(u64) -> bool + Sync)) -> Result<Vec<Hit>, AnnError> {
        let (hits, _) = self.search_counted(query, k, self.config.ef, keep)?;
        Ok(hits)
    }

    fn search(&self, query: &[f32], k: usize) -> Result<Vec<Hit>, AnnError> {
        let query = prepare_query(self.metric, self.dim, query)?;
        Ok(self.pool.with(|scratch| {
            scratch.trace = None;
            self.search_prepared(query.row(0), k, self.config.ef, None, scratch).0
        }))
    }

    fn save(&self, path: &Path) -> Result<(), AnnError> {
        let mut out = Writer::default();
        out.u8(self.metric.code());
        out.u8(self.config.selection.code());
        out.u32(self.dim as u32);
        out.u32(self.config.m as u32);
        out.u64(self.config.ef_construction as u64);
        out.u64(self.config.ef as u64);
        out.u64(self.config.seed);
        out.u64(self.build_evaluations);
        out.u64(self.ids.len() as u64);
        out.u64(self.upper.rows() as u64);
        out.u64(self.stones as u64);
        out.u32(self.entry.unwrap_or(NONE));
        // Whole arrays, each from the start of a cache line, as they lie in memory.
        out.align();
        out.u64s(&self.ids);
        for &removed in &self.removed {
            out.u8(u8::from(removed));
        }
        for &level in &self.levels {
            out.u8(level);
        }
        out.align();
        out.u32s(self.bottom.slots());
        out.align();
        out.u32s(self.upper.slots());
        out.align();
        out.f32s(&self.values);
        out.finish(path, KIND)
    }

    fn load(path: &Path) -> Result<Self, AnnError> {
        let mut file = Reader::open(path, KIND)?;
        let metric = Metric::from_code(file.u8()?).ok_or_else(|| file.corrupt("unknown metric"))?;
        let selection = Selection::from_code(file.u8()?).ok_or_else(|| file.corrupt("unknown selection of links"))?;
        let dim = file.u32()? as usize;
        let config = HnswConfig {
            m: file.u32()? as usize,
            ef_construction: file.u64()? as usize,
            ef: file.u64()? as usize,
            seed: file.u64()?,
            selection,
        };
        let mut index = Self::new(dim, metric, config)?;
        index.build_evaluations = file.u64()?;
        let nodes = file.u64()? as usize;
        let upper_rows = file.u64()? as usize;
        index.stones = file.u64()? as usize;
        let entry = file.u32()?;
        file.align()?;
        index.ids = file.u64s(nodes)?;
        for _ in 0..nodes {
            index.removed.push(file.u8()? != 0);
        }
        let mut rows = 0;
        for _ in 0..nodes {
            let level = file.u8()?;
            index.levels.push(level);
            index.upper_rows.push(rows);
            rows = rows.saturating_add(u32::from(level));
        }
        if rows as usize != upper_rows {
            return Err(file.corrupt("the lists of links don't match the levels of the nodes"));
        }
        let mut links = |stride: usize, rows: usize| -> Result<Links, AnnError> {
            file.align()?;
            let slots = file.u32s(rows.saturating_mul(stride))?;
            Links::from_slots(stride, &slots).ok_or_else(|| file.corrupt("a list of links has a gap"))
        };
        index.bottom = links(2 * config.m, nodes)?;
        index.upper = links(config.m, upper_rows)?;
        file.align()?;
        index.values = file.f32s(nodes.saturating_mul(dim))?.as_slice().into();
        // A link must lead to a node that exists on its level.
        let leads_astray = |node: usize| {
            (0..=usize::from(index.levels[node])).any(|at| {
                let links = index.links(node as u32, at);
                links.iter().any(|&to| index.levels.get(to as usize).is_none_or(|&top| usize::from(top) < at))
            })
        };
        let live: Vec<usize> = (0..nodes).filter(|&node| !index.removed[node]).collect();
        if (0..nodes).any(leads_astray) || (entry as usize >= nodes && (entry != NONE || !live.is_empty())) {
            return Err(file.corrupt("a link leads to a node that isn't there"));
        }
        index.in_links = vec![0; nodes];
        for node in 0..nodes {
            for &to in index.bottom.row(node) {
                index.in_links[to as usize] += 1;
            }
        }
        index.entry = (entry != NONE).then_some(entry);
        index.node_of = live.iter().map(|&node| (index.ids[node], node as u32)).collect();
        if index.node_of.len() != live.len() {
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

    const SMALL: HnswConfig =
        HnswConfig { m: 12, ef_construction: 80, ef: 40, seed: 42, selection: Selection::Heuristic };

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
            assert_eq!(wide, flat.search(vectors.row(7), 500).unwrap(), "k = n is exact, ties included");
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
        let config = HnswConfig { m: 8, ef_construction: 8, ..SMALL };
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
                assert!(links.iter().all(|&to| to != node && usize::from(hnsw.levels[to as usize]) >= level));
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
        assert_eq!(hnsw.ids.len(), 500, "the graph was built anew without its removed nodes");
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
        hnsw.add(&ids, &Matrix::from_rows(&vec![[1.0, 2.0, 3.0]; 400]).unwrap()).unwrap();
        let hits = hnsw.search(&[1.0, 2.0, 3.0], 400).unwrap();
        assert_eq!(hits.iter().map(|h| h.id).collect::<Vec<_>>(), (0..400).collect::<Vec<_>>());
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
        assert!(matches!(hnsw.add(&[3, 4], &nan), Err(AnnError::NotFinite { row: 1, .. })));
        assert!(matches!(hnsw.search(&[1.0], 1), Err(AnnError::Dimension { expected: 2, got: 1 })));
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
        assert_eq!((loaded.bytes(), loaded.build_evaluations()), (hnsw.bytes(), hnsw.build_evaluations()));

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

    #[test]
    fn the_number_of_threads_changes_nothing_and_batches_find_what_single_insertions_find() {
        let (vectors, queries) = (random(3_000, 12, 15), random(60, 12, 16));
        let ids: Vec<u64> = (0..3_000).collect();
        let built = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut index = Hnsw::new(12, Metric::Cosine, SMALL).unwrap();
            pool.install(|| index.add(&ids, &vectors)).unwrap();
            index
        };
        let (one, four) = (built(1), built(4));
        assert_eq!(one.graph_hash(), four.graph_hash());
        assert_eq!(one.build_evaluations(), four.build_evaluations());
        let mut single = Hnsw::new(12, Metric::Cosine, SMALL).unwrap();
        for (i, row) in vectors.iter_rows().enumerate() {
            single.add(&[i as u64], &Matrix::from_rows(&[row]).unwrap()).unwrap();
        }
        let mut flat = FlatIndex::new(12, Metric::Cosine).unwrap();
        flat.add(&ids, &vectors).unwrap();
        let (batched, single) = (recall_of(&one, &flat, &queries), recall_of(&single, &flat, &queries));
        assert!(batched >= single - 0.01, "{batched} {single}");
        let hits = one.search_batch(&queries, 7).unwrap();
        for (query, hits) in queries.iter_rows().zip(&hits) {
            assert_eq!(&one.search(query, 7).unwrap(), hits);
            assert_eq!(&one.search_where(query, 7, &|_| true).unwrap(), hits);
        }
    }

    #[test]
    fn every_live_vector_is_found_after_deletes_and_upserts() {
        let vectors = random(5_000, 16, 17);
        let dir = tempfile::tempdir().unwrap();
        for (repair, metric) in [(false, Metric::SquaredL2), (true, Metric::Cosine)] {
            let (mut index, mut flat) = (Hnsw::new(16, metric, SMALL).unwrap(), FlatIndex::new(16, metric).unwrap());
            let ids: Vec<u64> = (0..4_000).collect();
            let rows: Vec<usize> = (0..4_000).collect();
            index.add(&ids, &vectors.select(&rows)).unwrap();
            flat.add(&ids, &vectors.select(&rows)).unwrap();
            let gone: Vec<u64> = (0..4_000).filter(|id| id % 2 == 0).collect();
            assert_eq!(flat.remove(&gone).unwrap(), 2_000);
            let removed = if repair { index.remove_and_repair(&gone) } else { index.remove(&gone) };
            assert_eq!(removed.unwrap(), 2_000);
            let moved: Vec<u64> = (0..600).map(|i| 2 * i + 1).collect();
            let to = vectors.select(&(4_000..4_600).collect::<Vec<_>>());
            assert_eq!(index.upsert(&moved, &to).unwrap(), 600);
            flat.upsert(&moved, &to).unwrap();
            let path = dir.path().join("hnsw");
            index.save(&path).unwrap();
            let loaded = Hnsw::load(&path).unwrap();
            for &id in flat.ids() {
                let own = flat.vector(id).unwrap();
                let hits = index.search(own, 10).unwrap();
                assert!(hits.iter().any(|hit| hit.id == id), "{id} is lost ({repair})");
                assert!(hits.iter().all(|hit| flat.contains(hit.id)));
                assert_eq!(loaded.search(own, 10).unwrap(), hits);
            }
            let queries = random(200, 16, 18);
            let recall = recall_of(&index, &flat, &queries);
            let fresh = recall_of(&index.rebuilt(), &flat, &queries);
            assert!(recall >= fresh - 0.01, "{recall} after changes, {fresh} built anew");
        }
    }

    #[test]
    fn repair_takes_removed_nodes_out_of_the_graph() {
        let (vectors, queries) = (random(2_000, 8, 19), random(100, 8, 20));
        let (mut hnsw, mut flat) = both(Metric::SquaredL2, &vectors);
        let gone: Vec<u64> = (0..2_000).filter(|id| id % 5 < 2).collect();
        assert_eq!(hnsw.repair(), 0);
        hnsw.remove_and_repair(&gone).unwrap();
        flat.remove(&gone).unwrap();
        for node in 0..2_000u32 {
            for level in 0..=usize::from(hnsw.levels[node as usize]) {
                let links = hnsw.links(node, level);
                assert!(links.iter().all(|&to| !hnsw.removed[to as usize] && to != node));
                assert!(!hnsw.removed[node as usize] || links.is_empty());
                assert!(links.len() <= hnsw.room(level));
            }
        }
        assert_eq!(hnsw.reachable_share(), 1.0);
        let recall = recall_of(&hnsw, &flat, &queries);
        assert!(recall >= 0.98, "{recall}");
        let (_, trace) = hnsw.search_traced(queries.row(0), 10, 40).unwrap();
        assert!(trace.iter().all(|&(_, node)| !hnsw.removed[node as usize]));
        assert!(trace.iter().any(|&(level, _)| level > 0) && trace.iter().any(|&(level, _)| level == 0));
        hnsw.remove_and_repair(&(0..2_000).collect::<Vec<_>>()).unwrap();
        assert_eq!((hnsw.len(), hnsw.levels(), hnsw.reachable_share()), (0, 0, 1.0));
    }

    #[test]
    fn a_filter_that_passes_one_in_a_thousand_is_exact_and_cheap() {
        let (vectors, queries) = (random(6_000, 8, 21), random(20, 8, 22));
        let (hnsw, flat) = both(Metric::SquaredL2, &vectors);
        // Ids spread over the collection, and ids at its end, which a sample may miss altogether.
        let spread = |id: u64| id % 1_000 == 3;
        let tail = |id: u64| id >= 5_994;
        let filters: [&(dyn Fn(u64) -> bool + Sync); 2] = [&spread, &tail];
        for keep in filters {
            for query in queries.iter_rows() {
                let (hits, cost) = hnsw.search_counted(query, 10, 40, keep).unwrap();
                assert_eq!(hits, flat.search_where(query, 10, keep).unwrap());
                assert_eq!((hits.len(), cost.scanned), (6, 6));
                assert!(cost.distance_evaluations <= 200, "{cost:?}");
            }
        }
    }

    #[test]
    fn every_node_can_be_reached_and_every_selection_works() {
        // Tight clusters far apart, where the nearest links alone would never leave a cluster.
        let mut rng = SplitMix64::new(23);
        let centres = random(40, 8, 24);
        let rows: Vec<Vec<f32>> = (0..4_000)
            .map(|i| centres.row(i % 40).iter().map(|c| 10.0 * c + 0.1 * rng.normal() as f32).collect())
            .collect();
        let vectors = Matrix::from_rows(&rows).unwrap();
        let ids: Vec<u64> = (0..4_000).collect();
        let mut shares = Vec::new();
        for selection in [Selection::Simple, Selection::Heuristic, Selection::HeuristicFilled] {
            let mut hnsw = Hnsw::new(8, Metric::SquaredL2, HnswConfig { selection, ..SMALL }).unwrap();
            hnsw.add(&ids, &vectors).unwrap();
            let levels = hnsw.level_links();
            assert!(levels.iter().all(|level| level.max_degree <= level.room));
            assert!(levels.windows(2).all(|pair| pair[0].nodes > pair[1].nodes));
            shares.push((hnsw.reachable_share(), levels[0].links));
        }
        assert!(shares[1].0 == 1.0 && shares[2].0 == 1.0, "{shares:?}");
        assert!(shares[0].0 < 0.95, "{shares:?}");
        assert!(shares[1].1 < shares[2].1);
    }
}
