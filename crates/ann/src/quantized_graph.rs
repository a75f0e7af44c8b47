//! [`QuantizedGraph`]: a graph whose nodes hold one-bit codes of their neighbours, so that a step of the walk reads one run of memory and
//! compares all neighbours at once. After Gou, Gao, Xu and Long, "SymphonyQG: Towards Symphonious Integration of Quantization and
//! Graph for Approximate Nearest Neighbor Search" (SIGMOD 2025), with the codes of RaBitQ ([`eas_tensor::rabitq`]).
//!
//! A node's row is its vector, two numbers and the node number of each neighbour; beside it lie the neighbours' codes, relative to the
//! node. The walk keeps a beam of estimated distances. It takes the nearest node, computes its exact distance (which ranks the
//! results, so that nothing is left to rerank), estimates the distances of its neighbours from there, 32 a kernel call, and goes on
//! until everything in the beam is visited. Every node has exactly as many neighbours as a kernel call compares.

use std::collections::HashMap;
use std::path::Path;

use eas_tensor::buffer::Buffer;
use eas_tensor::kernels::{dot, prefetch, squared_l2};
use eas_tensor::rabitq::{BLOCK, QueryTable, Rotation, block_bytes, encode};
use eas_tensor::{Matrix, kernels};
use rayon::prelude::*;

use crate::AnnError;
use crate::beam::{Beam, Met, NONE, Near, Pool, check_room, reachable_share};
use crate::file::{Reader, Writer};
use crate::hnsw::{Hnsw, HnswConfig};
use crate::index::{Hit, Metric, VectorIndex, check_dim, check_new_ids, check_rows, prepare_query};

const KIND: [u8; 4] = *b"QGRF";
/// Squared factor by which a neighbour may be nearer to another than to the node and still fill a place: 1.2 in distance, as Vamana's.
const RELAXED: f32 = 1.44;
/// A batch of new vectors above this share of the old ones has the graph built anew.
const REBUILD_SHARE: usize = 4;
/// Candidates for a node's links that are remembered while a graph is refined.
const CANDIDATES: usize = 128;

/// Parameters of a [`QuantizedGraph`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuantizedGraphConfig {
    /// Neighbours of a node: 32, 64, 96 or 128.
    pub degree: usize,
    /// Width of the beam that finds candidates for links.
    pub ef_construction: usize,
    /// Times that the graph is refined by searching it for its own vectors.
    pub rounds: usize,
    /// Width of the beam while searching; a search for more than `ef` vectors widens it.
    pub ef: usize,
    /// Seed of the rotation, and of the levels of the graph that the first candidates come from.
    pub seed: u64,
}

impl Default for QuantizedGraphConfig {
    /// `degree` 32, `ef_construction` 200, 1 round, `ef` 64, seed 42.
    fn default() -> Self {
        Self { degree: 32, ef_construction: 200, rounds: 1, ef: 64, seed: 42 }
    }
}

impl QuantizedGraphConfig {
    fn check(&self) -> Result<(), AnnError> {
        let refuse = |name, got: usize, expected| Err(AnnError::Parameter { name, got: got.to_string(), expected });
        match self {
            Self { degree, .. } if !degree.is_multiple_of(BLOCK) || *degree == 0 || *degree > 128 => {
                refuse("degree", *degree, "32, 64, 96 or 128")
            }
            Self { ef_construction: 0, .. } => refuse("ef_construction", 0, "at least 1"),
            Self { ef: 0, .. } => refuse("ef", 0, "at least 1"),
            Self { rounds, .. } if *rounds > 16 => refuse("rounds", *rounds, "at most 16"),
            _ => Ok(()),
        }
    }
}

/// What one search of a [`QuantizedGraph`] cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QuantizedCost {
    /// Exact distances computed: nodes visited, and vectors scanned for a selective filter.
    pub distance_evaluations: u64,
    /// Distances estimated from codes.
    pub codes_scanned: u64,
}

/// The working memory of a search.
#[derive(Debug, Default)]
struct Walk {
    table: QueryTable,
    beam: Beam,
    found: Beam,
    met: Met,
    cost: QuantizedCost,
}

/// A graph index that estimates distances from one-bit codes, for fast searches on one machine.
///
/// Takes `4 dim + dim degree / 8 + 12 degree` bytes a vector. Inner products are searched as distances, by a further coordinate that
/// makes all vectors equally long. Removed vectors stay in the graph and are never returned; when they outnumber the live ones the graph
/// is built anew. Two indexes built by the same calls are equal, whatever the number of threads.
///
/// ```
/// use eas_ann::{Metric, QuantizedGraph, QuantizedGraphConfig, VectorIndex};
/// use eas_tensor::Matrix;
///
/// let mut index = QuantizedGraph::new(2, Metric::SquaredL2, QuantizedGraphConfig::default())?;
/// index.add(&[1, 2, 3], &Matrix::from_rows(&[[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]])?)?;
/// let hits = index.search(&[3.0, 3.0], 1)?;
/// assert_eq!((hits[0].id, hits[0].score), (2, 1.0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct QuantizedGraph {
    config: QuantizedGraphConfig,
    metric: Metric,
    dim: usize,
    rotation: Rotation,
    /// Row of node `i`: the vector, filled up to whole cache lines; then for each block of 32 neighbours their shifts, scales and node
    /// numbers (as the bits of an f32).
    rows: Buffer<f32>,
    /// Codes of the neighbours of node `i`, block by block.
    codes: Buffer<u8>,
    ids: Vec<u64>,
    removed: Vec<bool>,
    /// For [`Metric::Dot`]: the coordinate that makes node `i` as long as the longest vector, and that length squared.
    lengthening: Vec<f32>,
    length: f32,
    entry: Option<u32>,
    node_of: HashMap<u64, u32>,
    pool: Pool<Walk>,
}

impl QuantizedGraph {
    /// An empty index for vectors of `dim >= 1` values.
    pub fn new(dim: usize, metric: Metric, config: QuantizedGraphConfig) -> Result<Self, AnnError> {
        check_dim(dim)?;
        config.check()?;
        Ok(Self {
            config,
            metric,
            dim,
            rotation: Rotation::new(dim + usize::from(metric == Metric::Dot), config.seed),
            rows: Buffer::new(),
            codes: Buffer::new(),
            ids: Vec::new(),
            removed: Vec::new(),
            lengthening: Vec::new(),
            length: 1.0,
            entry: None,
            node_of: HashMap::new(),
            pool: Pool::default(),
        })
    }

    // SEARCH

    /// The best `k` of a walk with a beam of at least `ef`, for ids that pass `keep`; and what it cost.
    pub fn search_counted(
        &self,
        query: &[f32],
        k: usize,
        ef: usize,
        keep: Option<&(dyn Fn(u64) -> bool + Sync)>,
    ) -> Result<(Vec<Hit>, QuantizedCost), AnnError> {
        let query = prepare_query(self.metric, self.dim, query)?;
        Ok(self.pool.with(|walk| self.search_prepared(query.row(0), k, ef, keep, walk)))
    }

    fn search_prepared(
        &self,
        query: &[f32],
        k: usize,
        ef: usize,
        keep: Option<&(dyn Fn(u64) -> bool + Sync)>,
        walk: &mut Walk,
    ) -> (Vec<Hit>, QuantizedCost) {
        walk.cost = QuantizedCost::default();
        if k == 0 || self.is_empty() {
            return (Vec::new(), walk.cost);
        }
        let passes = |node: u32| !self.removed[node as usize] && keep.is_none_or(|keep| keep(self.ids[node as usize]));
        let nodes = self.ids.len();
        let mut width = ef.max(k);
        let mut scan = k >= self.len();
        if keep.is_some() {
            // Few of the visited nodes pass a selective filter: the beam widens until scanning what passes costs less.
            let step = nodes.div_ceil(256);
            let asked = (0..nodes as u32).step_by(step);
            let share =
                (asked.clone().filter(|&node| passes(node)).count() as f64 + 0.5) / (asked.count() as f64 + 0.5);
            width = (width as f64 / share).min(nodes as f64) as usize;
            scan |= 2.0 * width as f64 >= nodes as f64 * (share + 1.0 / 64.0);
        }
        if !scan {
            let filter: Option<&dyn Fn(u32) -> bool> =
                (keep.is_some() || self.len() < nodes).then_some(&passes as &dyn Fn(u32) -> bool);
            self.walk(query, width, k, filter, walk);
            if walk.found.found().len() >= k {
                let hits = walk.found.found().map(|near| self.hit(query, near.node()));
                return (self.best(hits, k), walk.cost);
            }
        }
        let passing = (0..nodes as u32).filter(|&node| passes(node));
        let hits: Vec<Hit> = passing.map(|node| self.hit(query, node)).collect();
        walk.cost.distance_evaluations += hits.len() as u64;
        (self.best(hits.into_iter(), k), walk.cost)
    }

    /// Visits nodes nearest first, by estimate, until all in a beam of `width` are visited; leaves the `most` nearest that pass `keep`,
    /// with their squared distances, in `walk.found`.
    fn walk(&self, query: &[f32], width: usize, most: usize, keep: Option<&dyn Fn(u32) -> bool>, walk: &mut Walk) {
        let Walk { table, beam, found, met, cost } = walk;
        beam.clear(width.min(self.ids.len()));
        found.clear(most.min(self.ids.len()));
        met.clear(self.ids.len());
        let Some(entry) = self.entry else { return };
        table.prepare(&self.rotation, query);
        let own = if self.metric == Metric::SquaredL2 { 0.0 } else { dot(query, query) };
        let mut estimates = [0.0; BLOCK];
        beam.push(Near::new(0.0, entry));
        while let Some(near) = beam.pop() {
            let node = near.node();
            if !met.insert(node) {
                continue;
            }
            // Most likely the next to be visited: fetched while this one is compared.
            let mut nearest = beam.peek();
            if let Some(next) = nearest {
                self.prefetch(next.node());
            }
            let distance = match self.metric {
                Metric::SquaredL2 => squared_l2(query, self.vector(node)),
                _ => (own + self.length - 2.0 * dot(query, self.vector(node))).max(0.0),
            };
            cost.distance_evaluations += 1;
            if keep.is_none_or(|keep| keep(node)) {
                found.push(Near::new(distance, node));
            }
            let (_, blocks) = self.row(node).split_at(self.lines());
            for (numbers, codes) in blocks.as_chunks::<{ 3 * BLOCK }>().0.iter().zip(self.codes_of(node)) {
                let (parts, _) = numbers.as_chunks::<BLOCK>();
                let mut below = table.distances(codes, &parts[0], &parts[1], distance, beam.bound(), &mut estimates);
                cost.codes_scanned += BLOCK as u64;
                let (mut new, mut count) = ([Near::new(0.0, 0); BLOCK], 0);
                while below != 0 {
                    let place = below.trailing_zeros() as usize;
                    below &= below - 1;
                    let neighbour = parts[2][place].to_bits();
                    if !met.contains(neighbour) {
                        new[count] = Near::new(estimates[place], neighbour);
                        count += 1;
                    }
                }
                // A neighbour that will be visited next is fetched while the beam takes all of them in.
                if let Some(&best) = new[..count].iter().min()
                    && nearest.is_none_or(|next| best < next)
                {
                    self.prefetch(best.node());
                    nearest = Some(best);
                }
                beam.merge(&mut new[..count]);
            }
        }
    }

    fn hit(&self, query: &[f32], node: u32) -> Hit {
        Hit { id: self.ids[node as usize], score: self.metric.score(self.metric.distance(query, self.vector(node))) }
    }

    fn best(&self, hits: impl Iterator<Item = Hit>, k: usize) -> Vec<Hit> {
        let mut hits: Vec<Hit> = hits.collect();
        hits.sort_unstable_by(|a, b| self.metric.best_first(a, b));
        hits.truncate(k);
        hits
    }

    // BUILD

    /// A graph of the vectors (in the metric's stored form) from nothing: first candidates from the bottom level of an HNSW, then
    /// rounds in which each node searches the graph for itself, and links and back links are chosen anew.
    fn build(&mut self, ids: Vec<u64>, vectors: &Matrix) {
        let n = ids.len();
        self.node_of = ids.iter().copied().zip(0..).collect();
        self.removed = vec![false; n];
        self.ids = ids;
        self.rows = Buffer::new();
        self.codes = Buffer::new();
        self.lengthen(vectors);
        self.entry = None;
        self.append_rows(vectors);
        if n == 0 {
            return;
        }
        self.entry = Some(self.most_central(vectors));
        let rotated = self.rotated_rows(0..n);
        let config = self.config;
        let mut lists = self.first_lists(vectors);
        self.write_links(&lists, &rotated);
        for _ in 0..config.rounds {
            let candidates: Vec<Vec<Near>> = (0..n as u32)
                .into_par_iter()
                .map(|node| self.pool.with(|walk| self.candidates(node, &lists[node as usize], walk)))
                .collect();
            let chosen: Vec<Vec<Near>> = candidates.par_iter().map(|near| self.choose(near, false)).collect();
            let mut offered: Vec<Vec<Near>> = vec![Vec::new(); n];
            for (node, links) in chosen.iter().enumerate() {
                for near in links {
                    offered[near.node() as usize].push(Near::new(near.distance(), node as u32));
                }
            }
            lists = (0..n)
                .into_par_iter()
                .map(|node| {
                    let mut near = [&chosen[node][..], &offered[node][..]].concat();
                    near.sort_unstable();
                    near.dedup();
                    let mut links = self.choose(&near, true);
                    self.fill(&mut links, &candidates[node]);
                    links.into_iter().map(Near::node).collect()
                })
                .collect();
            self.connect(&mut lists);
            self.write_links(&lists, &rotated);
        }
    }

    /// Links of the bottom level of an HNSW over the same distances.
    fn first_lists(&self, vectors: &Matrix) -> Vec<Vec<u32>> {
        let n = self.ids.len();
        let mut lengthened;
        let vectors = if self.metric == Metric::Dot {
            lengthened = Matrix::zeros(n, self.dim + 1);
            for (node, row) in vectors.iter_rows().enumerate() {
                let to = lengthened.row_mut(node);
                to[..self.dim].copy_from_slice(row);
                to[self.dim] = self.lengthening[node];
            }
            &lengthened
        } else {
            vectors
        };
        let config = HnswConfig {
            m: self.config.degree / 2,
            ef_construction: (self.config.ef_construction / 2).max(self.config.degree),
            seed: self.config.seed,
            ..HnswConfig::default()
        };
        let numbers: Vec<u64> = (0..n as u64).collect();
        let links = Hnsw::new(vectors.dim(), Metric::SquaredL2, config).and_then(|mut graph| {
            graph.add(&numbers, vectors)?;
            Ok((0..n as u32).map(|node| graph.links_of(node, 0).unwrap_or_default().to_vec()).collect())
        });
        // The graph refuses nothing that this index has accepted; without it the rounds start from a ring.
        links.unwrap_or_else(|_| (0..n as u32).map(|node| vec![(node + 1) % n as u32]).collect())
    }

    /// Nodes near `node`, nearest first and without itself: what a search for it visits, and its links.
    fn candidates(&self, node: u32, links: &[u32], walk: &mut Walk) -> Vec<Near> {
        let ef = self.config.ef_construction;
        let live = |other: u32| !self.removed[other as usize];
        let keep: Option<&dyn Fn(u32) -> bool> = (self.len() < self.ids.len()).then_some(&live);
        // A vector searches for itself at length zero in the lengthening coordinate, which all others of its length have too.
        self.walk(self.vector(node), ef, ef, keep, walk);
        let seen = walk.found.found().map(Near::node).chain(links.iter().copied());
        let others = seen.filter(|&other| other != node && live(other));
        let mut near: Vec<Near> = others.map(|other| Near::new(self.between(node, other), other)).collect();
        near.sort_unstable();
        near.dedup();
        near.truncate(CANDIDATES.max(self.config.degree));
        near
    }

    /// Chooses up to `degree` of `near`, nearest first: one that is nearer to the node than to every one chosen before; and with `relax`,
    /// where places are left, those that fail this by a little.
    fn choose(&self, near: &[Near], relax: bool) -> Vec<Near> {
        let degree = self.config.degree;
        let mut chosen: Vec<Near> = Vec::with_capacity(degree);
        let mut nearly = Vec::new();
        for &candidate in near {
            if chosen.len() == degree {
                break;
            }
            let blocked = chosen
                .iter()
                .map(|other| self.between(candidate.node(), other.node()))
                .find(|&between| between < candidate.distance());
            match blocked {
                None => chosen.push(candidate),
                Some(between) if relax && between * RELAXED >= candidate.distance() => nearly.push(candidate),
                Some(_) => {}
            }
        }
        let free = degree - chosen.len();
        chosen.extend(nearly.into_iter().take(free));
        chosen
    }

    /// Fills the places left with the nearest of `candidates`.
    fn fill(&self, links: &mut Vec<Near>, candidates: &[Near]) {
        for candidate in candidates {
            if links.len() >= self.config.degree {
                break;
            }
            if !links.iter().any(|link| link.node() == candidate.node()) {
                links.push(*candidate);
            }
        }
    }

    /// Makes every node reachable from the entry: the links over which a walk first meets each node are kept, and a node that no walk
    /// meets takes the place of another link, of one of its own neighbours where that has one to spare.
    fn connect(&self, lists: &mut [Vec<u32>]) {
        let Some(entry) = self.entry else { return };
        // From whom each node is met; the entry from itself.
        let mut met_from = vec![NONE; lists.len()];
        met_from[entry as usize] = entry;
        spread(entry, &mut met_from, lists);
        let mut fallback = 0u32;
        for node in 0..lists.len() as u32 {
            if met_from[node as usize] != NONE {
                continue;
            }
            // A place among the links of `by` that no walk needs, the last and so the least of them.
            let place = |by: u32, met_from: &[u32]| {
                let links = &lists[by as usize];
                if links.len() < self.config.degree {
                    Some(links.len())
                } else {
                    links.iter().rposition(|&to| met_from[to as usize] != by)
                }
            };
            let near = lists[node as usize].iter().copied().chain([entry]);
            let mut met = near.filter(|&other| met_from[other as usize] != NONE);
            let mut found = met.find_map(|by| place(by, &met_from).map(|at| (by, at)));
            while found.is_none() && (fallback as usize) < lists.len() {
                let met = met_from[fallback as usize] != NONE;
                found = place(fallback, &met_from).filter(|_| met).map(|at| (fallback, at));
                fallback += u32::from(found.is_none());
            }
            let Some((by, at)) = found else { return };
            let links = &mut lists[by as usize];
            if at == links.len() {
                links.push(node);
            } else {
                links[at] = node;
            }
            met_from[node as usize] = by;
            spread(node, &mut met_from, lists);
        }
    }

    /// Adds one vector to a graph that is there: it searches, links, and offers itself to those it links to.
    fn append(&mut self, id: u64, vector: &[f32]) {
        let node = self.ids.len() as u32;
        self.ids.push(id);
        self.removed.push(false);
        self.node_of.insert(id, node);
        if self.metric == Metric::Dot {
            self.lengthening.push((self.length - dot(vector, vector)).max(0.0).sqrt());
        }
        self.append_row(vector);
        let Some(_) = self.entry else {
            self.entry = Some(node);
            return;
        };
        let near = self.pool.with(|walk| self.candidates(node, &[], walk));
        let mut links = self.choose(&near, true);
        self.fill(&mut links, &near);
        self.set_links(node, &links.iter().map(|near| near.node()).collect::<Vec<_>>());
        for (rank, link) in links.iter().enumerate() {
            let other = link.node();
            let mut theirs: Vec<Near> = self.links_of(other).map(|to| Near::new(self.between(other, to), to)).collect();
            let offer = Near::new(link.distance(), node);
            theirs.push(offer);
            theirs.sort_unstable();
            let mut kept = self.choose(&theirs, true);
            self.fill(&mut kept, &theirs);
            if rank == 0 && !kept.contains(&offer) {
                // The nearest neighbour leads to the new node in any case.
                kept.truncate(self.config.degree - 1);
                kept.push(offer);
            }
            if kept.contains(&offer) {
                self.set_links(other, &kept.iter().map(|near| near.node()).collect::<Vec<_>>());
            }
        }
    }

    /// Squared distance of two nodes.
    fn between(&self, a: u32, b: u32) -> f32 {
        let apart = squared_l2(self.vector(a), self.vector(b));
        match self.metric {
            Metric::Dot => apart + (self.lengthening[a as usize] - self.lengthening[b as usize]).powi(2),
            _ => apart,
        }
    }

    /// For products: how far each vector falls short of the longest.
    fn lengthen(&mut self, vectors: &Matrix) {
        if self.metric == Metric::Dot {
            let squares: Vec<f32> = vectors.iter_rows().map(|row| dot(row, row)).collect();
            self.length = squares.iter().fold(0.0, |longest: f32, &square| longest.max(square));
            self.lengthening = squares.iter().map(|square| (self.length - square).max(0.0).sqrt()).collect();
        }
    }

    /// The node nearest to the mean.
    fn most_central(&self, vectors: &Matrix) -> u32 {
        let mut sums = vec![0.0f64; self.dim];
        for row in vectors.iter_rows() {
            for (sum, x) in sums.iter_mut().zip(row) {
                *sum += f64::from(*x);
            }
        }
        let mean: Vec<f32> = sums.iter().map(|sum| (sum / vectors.rows() as f64) as f32).collect();
        let all = vectors.iter_rows().enumerate();
        let nearest = all.map(|(node, row)| Near::new(squared_l2(row, &mean), node as u32)).min();
        nearest.map_or(0, Near::node)
    }

    // ROWS

    /// Numbers that a vector takes in its row.
    fn lines(&self) -> usize {
        self.dim.next_multiple_of(16)
    }

    fn row_len(&self) -> usize {
        self.lines() + 3 * self.config.degree
    }

    #[inline]
    fn row(&self, node: u32) -> &[f32] {
        let len = self.row_len();
        &self.rows[node as usize * len..(node as usize + 1) * len]
    }

    #[inline]
    fn vector(&self, node: u32) -> &[f32] {
        let from = node as usize * self.row_len();
        &self.rows[from..from + self.dim]
    }

    fn code_bytes(&self) -> usize {
        self.config.degree / BLOCK * block_bytes(self.rotation.padded())
    }

    #[inline]
    fn codes_of(&self, node: u32) -> std::slice::ChunksExact<'_, u8> {
        let bytes = self.code_bytes();
        self.codes[node as usize * bytes..(node as usize + 1) * bytes].chunks_exact(block_bytes(self.rotation.padded()))
    }

    #[inline]
    fn prefetch(&self, node: u32) {
        let bytes = self.code_bytes();
        kernels::prefetch(self.row(node));
        prefetch(&self.codes[node as usize * bytes..(node as usize + 1) * bytes]);
    }

    /// The neighbours of a node.
    fn links_of(&self, node: u32) -> impl Iterator<Item = u32> + '_ {
        let (_, blocks) = self.row(node).split_at(self.lines());
        let numbers = blocks.as_chunks::<{ 3 * BLOCK }>().0.iter();
        numbers.flat_map(|block| block[2 * BLOCK..].iter().map(|bits| bits.to_bits())).filter(move |&to| to != node)
    }

    fn append_rows(&mut self, vectors: &Matrix) {
        self.rows.reserve(vectors.rows() * self.row_len());
        self.codes.reserve(vectors.rows() * self.code_bytes());
        for row in vectors.iter_rows() {
            self.append_row(row);
        }
    }

    /// A row whose places all lead to itself and are infinitely far.
    fn append_row(&mut self, vector: &[f32]) {
        let node = self.rows.len() / self.row_len();
        let mut row = vec![0.0; self.row_len()];
        row[..self.dim].copy_from_slice(vector);
        let from = self.lines();
        for block in row[from..].as_chunks_mut::<{ 3 * BLOCK }>().0 {
            block[..BLOCK].fill(f32::INFINITY);
            block[2 * BLOCK..].fill(f32::from_bits(node as u32));
        }
        self.rows.extend_from_slice(&row);
        self.codes.resize(self.codes.len() + self.code_bytes(), 0);
    }

    /// The rotated vector of a node, with its lengthening coordinate.
    fn rotated(&self, node: u32, to: &mut Vec<f32>) {
        if self.metric == Metric::Dot {
            let mut long = self.vector(node).to_vec();
            long.push(self.lengthening[node as usize]);
            self.rotation.rotate(&long, to);
        } else {
            self.rotation.rotate(self.vector(node), to);
        }
    }

    fn rotated_rows(&self, nodes: std::ops::Range<usize>) -> Buffer<f32> {
        let padded = self.rotation.padded();
        let mut rotated = Buffer::new();
        rotated.resize(nodes.len() * padded, 0.0);
        rotated.par_chunks_mut(padded).zip(nodes).for_each_init(Vec::new, |row, (to, node)| {
            self.rotated(node as u32, row);
            to.copy_from_slice(row);
        });
        rotated
    }

    /// Writes all links and their codes; `rotated` holds the rotated vectors of all nodes.
    fn write_links(&mut self, lists: &[Vec<u32>], rotated: &Buffer<f32>) {
        let (row_len, lines, code_bytes) = (self.row_len(), self.lines(), self.code_bytes());
        let padded = self.rotation.padded();
        let vector = |node: u32| &rotated[node as usize * padded..(node as usize + 1) * padded];
        let rows = self.rows.par_chunks_mut(row_len).zip(self.codes.par_chunks_mut(code_bytes));
        rows.zip(lists).enumerate().for_each(|(node, ((row, codes), links))| {
            write_row(node as u32, &mut row[lines..], codes, links, vector);
        });
    }

    /// Writes the links of one node.
    fn set_links(&mut self, node: u32, links: &[u32]) {
        let (row_len, lines, code_bytes) = (self.row_len(), self.lines(), self.code_bytes());
        let padded = self.rotation.padded();
        let mut rotated = Vec::with_capacity((links.len() + 1) * padded);
        let mut one = Vec::new();
        for &each in links.iter().chain(&[node]) {
            self.rotated(each, &mut one);
            rotated.extend_from_slice(&one);
        }
        let place = |each: u32| links.iter().position(|&link| link == each).unwrap_or(links.len());
        let vector = |each: u32| &rotated[place(each) * padded..(place(each) + 1) * padded];
        let at = node as usize;
        let row = &mut self.rows[at * row_len + lines..(at + 1) * row_len];
        let codes = &mut self.codes[at * code_bytes..(at + 1) * code_bytes];
        write_row(node, row, codes, links, vector);
    }

    // REST

    /// The parameters.
    pub fn config(&self) -> QuantizedGraphConfig {
        self.config
    }

    /// Sets the width of the search beam.
    pub fn set_ef(&mut self, ef: usize) -> Result<(), AnnError> {
        let config = QuantizedGraphConfig { ef, ..self.config };
        config.check()?;
        self.config = config;
        Ok(())
    }

    /// Bytes of vectors, links, codes and bookkeeping, without the hash table from id to node.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.rows[..])
            + size_of_val(&self.codes[..])
            + size_of_val(self.ids.as_slice())
            + size_of_val(self.removed.as_slice())
            + size_of_val(self.lengthening.as_slice())
    }

    /// Share of the live nodes that links lead to from the entry point; 1 when there is none.
    pub fn reachable_share(&self) -> f64 {
        reachable_share(self.entry, &self.removed, |node| self.links_of(node))
    }

    /// Ids and vectors of the live nodes.
    fn live(&self) -> (Vec<u64>, Matrix) {
        let live: Vec<u32> = (0..self.ids.len() as u32).filter(|&node| !self.removed[node as usize]).collect();
        let mut vectors = Matrix::zeros(live.len(), self.dim);
        for (row, &node) in live.iter().enumerate() {
            vectors.row_mut(row).copy_from_slice(self.vector(node));
        }
        (live.iter().map(|&node| self.ids[node as usize]).collect(), vectors)
    }

    fn rebuild(&mut self) {
        let (ids, vectors) = self.live();
        self.build(ids, &vectors);
    }
}

/// Follows the links from a node that was met, and notes of each node that is new from whom it is met.
fn spread(from: u32, met_from: &mut [u32], lists: &[Vec<u32>]) {
    let mut open = vec![from];
    while let Some(node) = open.pop() {
        for &to in &lists[node as usize] {
            if met_from[to as usize] == NONE {
                met_from[to as usize] = node;
                open.push(to);
            }
        }
    }
}

/// Writes links, their numbers and their codes into what follows the vector in a row; places left over stay infinitely far.
fn write_row<'a>(node: u32, numbers: &mut [f32], codes: &mut [u8], links: &[u32], vector: impl Fn(u32) -> &'a [f32]) {
    let centre = vector(node);
    let blocks =
        numbers.as_chunks_mut::<{ 3 * BLOCK }>().0.iter_mut().zip(codes.chunks_exact_mut(block_bytes(centre.len())));
    for (block, (numbers, codes)) in blocks.enumerate() {
        for place in 0..BLOCK {
            let link = links.get(block * BLOCK + place).copied();
            let (shift, scale) = match link {
                Some(link) => encode(centre, vector(link), place, codes),
                None => (f32::INFINITY, 0.0),
            };
            numbers[place] = shift;
            numbers[BLOCK + place] = scale;
            numbers[2 * BLOCK + place] = f32::from_bits(link.unwrap_or(node));
        }
    }
}

impl VectorIndex for QuantizedGraph {
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

    /// Few vectors are linked into the graph one by one; with many, or one longer than all before under [`Metric::Dot`], it is built
    /// anew.
    fn add(&mut self, ids: &[u64], vectors: &Matrix) -> Result<(), AnnError> {
        check_rows(self.dim, ids, vectors)?;
        check_new_ids(ids, |id| self.contains(id))?;
        check_room(self.ids.len(), ids.len())?;
        if ids.is_empty() {
            return Ok(());
        }
        let vectors = self.metric.stored(vectors.clone());
        let longer = self.metric == Metric::Dot && vectors.iter_rows().any(|row| dot(row, row) > self.length);
        if longer || ids.len() * REBUILD_SHARE >= self.ids.len() {
            let (mut all, mut rows) = self.live();
            all.extend_from_slice(ids);
            if rows.rows() == 0 {
                rows = vectors;
            } else {
                // Dimensions are equal: `check_rows` saw to it.
                let _ = rows.append(&vectors);
            }
            self.build(all, &rows);
        } else {
            for (&id, vector) in ids.iter().zip(vectors.iter_rows()) {
                self.append(id, vector);
            }
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
        let removed = before - self.len();
        if self.ids.len() > 2 * self.len() {
            self.rebuild();
        }
        Ok(removed)
    }

    fn search_where(&self, query: &[f32], k: usize, keep: &(dyn Fn(u64) -> bool + Sync)) -> Result<Vec<Hit>, AnnError> {
        Ok(self.search_counted(query, k, self.config.ef, Some(keep))?.0)
    }

    fn search(&self, query: &[f32], k: usize) -> Result<Vec<Hit>, AnnError> {
        Ok(self.search_counted(query, k, self.config.ef, None)?.0)
    }

    fn save(&self, path: &Path) -> Result<(), AnnError> {
        let mut out = Writer::default();
        out.u8(self.metric.code());
        out.u32(self.dim as u32);
        out.u32(self.config.degree as u32);
        out.u32(self.config.rounds as u32);
        out.u64(self.config.ef_construction as u64);
        out.u64(self.config.ef as u64);
        out.u64(self.config.seed);
        out.u64(self.ids.len() as u64);
        out.u32(self.entry.unwrap_or(NONE));
        out.f32s(&[self.length]);
        out.align();
        out.u64s(&self.ids);
        out.f32s(&self.lengthening);
        for &removed in &self.removed {
            out.u8(u8::from(removed));
        }
        out.align();
        out.f32s(&self.rows);
        out.align();
        out.bytes(&self.codes);
        out.finish(path, KIND)
    }

    fn load(path: &Path) -> Result<Self, AnnError> {
        let mut file = Reader::open(path, KIND)?;
        let metric = Metric::from_code(file.u8()?).ok_or_else(|| file.corrupt("unknown metric"))?;
        let dim = file.u32()? as usize;
        let config = QuantizedGraphConfig {
            degree: file.u32()? as usize,
            rounds: file.u32()? as usize,
            ef_construction: file.u64()? as usize,
            ef: file.u64()? as usize,
            seed: file.u64()?,
        };
        let mut index = Self::new(dim, metric, config)?;
        let nodes = file.u64()? as usize;
        let entry = file.u32()?;
        index.length = file.f32s(1)?[0];
        file.align()?;
        index.ids = file.u64s(nodes)?;
        index.lengthening = file.f32s(if metric == Metric::Dot { nodes } else { 0 })?;
        index.removed = file.bytes(nodes)?.iter().map(|&removed| removed != 0).collect();
        file.align()?;
        index.rows = file.f32s(nodes.saturating_mul(index.row_len()))?.as_slice().into();
        file.align()?;
        index.codes = file.bytes(nodes.saturating_mul(index.code_bytes()))?.as_slice().into();
        if (0..nodes as u32).any(|node| index.links_of(node).any(|to| to as usize >= nodes))
            || (nodes > 0) != ((entry as usize) < nodes)
        {
            return Err(file.corrupt("a link leads to a node that isn't there"));
        }
        index.entry = (nodes > 0).then_some(entry);
        let live: Vec<usize> = (0..nodes).filter(|&node| !index.removed[node]).collect();
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
    use eas_tensor::rng::SplitMix64;

    use super::*;
    use crate::{FlatIndex, recall};

    const SMALL: QuantizedGraphConfig =
        QuantizedGraphConfig { degree: 32, ef_construction: 100, rounds: 1, ef: 80, seed: 42 };

    /// Points near a random plane of eight dimensions.
    fn plane(rows: usize, dim: usize, seed: u64) -> Matrix {
        let mut world = SplitMix64::new(1);
        let axes: Vec<Vec<f64>> = (0..8).map(|_| (0..dim).map(|_| world.normal() / 3.0).collect()).collect();
        let mut rng = SplitMix64::stream(7, seed);
        let mut values = Vec::with_capacity(rows * dim);
        for _ in 0..rows {
            let at: Vec<f64> = (0..8).map(|_| rng.normal()).collect();
            for i in 0..dim {
                let on_plane: f64 = at.iter().zip(&axes).map(|(x, axis)| x * axis[i]).sum();
                values.push((on_plane + 0.05 * rng.normal()) as f32);
            }
        }
        Matrix::from_vec(rows, dim, values).unwrap()
    }

    fn both(metric: Metric, vectors: &Matrix, config: QuantizedGraphConfig) -> (QuantizedGraph, FlatIndex) {
        let ids: Vec<u64> = (0..vectors.rows() as u64).map(|i| 3 * i + 5).collect();
        let mut graph = QuantizedGraph::new(vectors.dim(), metric, config).unwrap();
        let mut flat = FlatIndex::new(vectors.dim(), metric).unwrap();
        graph.add(&ids, vectors).unwrap();
        flat.add(&ids, vectors).unwrap();
        (graph, flat)
    }

    fn recall_of(graph: &QuantizedGraph, flat: &FlatIndex, queries: &Matrix) -> f64 {
        let found = graph.search_batch(queries, 10).unwrap();
        recall(&found, &flat.search_batch(queries, 10).unwrap())
    }

    #[test]
    fn finds_nearly_all_neighbours_under_each_metric_with_exact_scores() {
        let (vectors, queries) = (plane(3_000, 50, 1), plane(100, 50, 2));
        for (metric, degree, floor) in [
            (Metric::SquaredL2, 32, 0.97),
            (Metric::Cosine, 32, 0.97),
            (Metric::Dot, 32, 0.9),
            (Metric::Cosine, 64, 0.97),
        ] {
            let (graph, flat) = both(metric, &vectors, QuantizedGraphConfig { degree, ..SMALL });
            let recall = recall_of(&graph, &flat, &queries);
            assert!(recall >= floor, "{metric:?} {degree} {recall}");
            assert_eq!(graph.reachable_share(), 1.0);
            for query in queries.iter_rows().take(10) {
                let exact = flat.search(query, 3_000).unwrap();
                let hits = graph.search(query, 10).unwrap();
                assert!(hits.iter().all(|hit| exact.contains(hit)), "scores are exact");
                assert!(hits.windows(2).all(|pair| metric.best_first(&pair[0], &pair[1]).is_lt()), "sorted and unique");
                assert_eq!(graph.search(query, 3_000).unwrap(), exact, "k = n is exact");
            }
            let (_, cost) = graph.search_counted(queries.row(0), 10, 80, None).unwrap();
            assert!(cost.distance_evaluations <= 85 && cost.codes_scanned >= 32 * 20, "{cost:?}");
        }
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let (vectors, queries) = (plane(1_500, 20, 3), plane(40, 20, 4));
        let built = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| both(Metric::Cosine, &vectors, SMALL).0)
        };
        let (one, four) = (built(1), built(4));
        assert!(one.codes[..] == four.codes[..]);
        assert!(one.rows.iter().zip(&four.rows[..]).all(|(a, b)| a.to_bits() == b.to_bits()));
        let batch = one.search_batch(&queries, 10).unwrap();
        for (query, hits) in queries.iter_rows().zip(&batch) {
            assert_eq!(&four.search(query, 10).unwrap(), hits);
        }
    }

    #[test]
    fn every_live_vector_is_found_after_deletes_and_upserts() {
        let vectors = plane(5_000, 24, 5);
        let dir = tempfile::tempdir().unwrap();
        for metric in [Metric::SquaredL2, Metric::Dot] {
            let (mut graph, mut flat) = both(metric, &vectors.select(&(0..4_000).collect::<Vec<_>>()), SMALL);
            let gone: Vec<u64> = (0..2_000).map(|i| 6 * i + 5).collect();
            assert_eq!((graph.remove(&gone).unwrap(), flat.remove(&gone).unwrap()), (2_000, 2_000));
            let moved: Vec<u64> = (0..600).map(|i| 6 * i + 8).collect();
            for (chunk, rows) in moved.chunks(200).zip([4_000..4_200, 4_200..4_400, 4_400..4_600]) {
                let to = vectors.select(&rows.collect::<Vec<_>>());
                assert_eq!((graph.upsert(chunk, &to).unwrap(), flat.upsert(chunk, &to).unwrap()), (200, 200));
            }
            let path = dir.path().join("graph");
            graph.save(&path).unwrap();
            let loaded = QuantizedGraph::load(&path).unwrap();
            let mut missed = 0;
            for &id in flat.ids() {
                let own = flat.vector(id).unwrap();
                let hits = graph.search(own, 10).unwrap();
                assert!(hits.iter().all(|hit| flat.contains(hit.id)));
                assert_eq!(loaded.search(own, 10).unwrap(), hits);
                // Under products a longer vector may well beat the vector itself.
                missed += u32::from(metric == Metric::SquaredL2 && !hits.iter().any(|hit| hit.id == id));
            }
            assert_eq!(missed, 0);
            let queries = plane(200, 24, 6);
            let (changed, floor) = (recall_of(&graph, &flat, &queries), 0.9);
            graph.rebuild();
            let fresh = recall_of(&graph, &flat, &queries);
            assert!(changed >= fresh - 0.01 && changed >= floor, "{changed} after changes, {fresh} built anew");
        }
    }

    #[test]
    fn filters_of_any_selectivity_give_k_hits() {
        let (vectors, queries) = (plane(3_000, 20, 7), plane(20, 20, 8));
        let (graph, flat) = both(Metric::Cosine, &vectors, SMALL);
        for divisor in [2, 20, 300] {
            let keep = |id: u64| (id / 3) % divisor == 1;
            let mut found = Vec::new();
            let mut truth = Vec::new();
            for query in queries.iter_rows() {
                found.push(graph.search_where(query, 10, &keep).unwrap());
                truth.push(flat.search_where(query, 10, &keep).unwrap());
            }
            assert!(found.iter().flatten().all(|hit| keep(hit.id)));
            assert!(found.iter().all(|hits| hits.len() == 10));
            assert!(recall(&found, &truth) >= 0.97, "1/{divisor}: {}", recall(&found, &truth));
        }
        assert_eq!(graph.search_where(queries.row(0), 5, &|_| false).unwrap(), []);
    }

    #[test]
    fn small_equal_and_zero_vectors() {
        for metric in [Metric::SquaredL2, Metric::Cosine, Metric::Dot] {
            let mut graph = QuantizedGraph::new(3, metric, SMALL).unwrap();
            assert_eq!(graph.search(&[1.0, 0.0, 0.0], 3).unwrap(), []);
            for id in 0..10 {
                graph.add(&[id], &Matrix::from_rows(&[[id as f32, 1.0, 0.0]]).unwrap()).unwrap();
                assert_eq!(graph.search(&[1.0, 0.0, 0.0], 20).unwrap().len(), id as usize + 1);
                assert!(graph.search(&[1.0, 0.0, 0.0], 1).unwrap().len() == 1);
            }
            let equal = Matrix::from_rows(&vec![[2.0, 2.0, 2.0]; 200]).unwrap();
            graph.add(&(100..300).collect::<Vec<_>>(), &equal).unwrap();
            assert_eq!(graph.reachable_share(), 1.0);
            graph.add(&[999], &Matrix::zeros(1, 3)).unwrap();
            assert_eq!(graph.search(&[2.0, 2.0, 2.0], 12).unwrap().len(), 12);
            graph.remove(&(0..1_000).collect::<Vec<_>>()).unwrap();
            assert_eq!(graph.search(&[1.0, 0.0, 0.0], 3).unwrap(), []);
        }
    }

    #[test]
    fn bad_input_and_damaged_files_are_refused() {
        assert!(QuantizedGraph::new(0, Metric::Dot, SMALL).is_err());
        for config in [
            QuantizedGraphConfig { degree: 16, ..SMALL },
            QuantizedGraphConfig { degree: 0, ..SMALL },
            QuantizedGraphConfig { ef: 0, ..SMALL },
            QuantizedGraphConfig { rounds: 17, ..SMALL },
            QuantizedGraphConfig { ef_construction: 0, ..SMALL },
        ] {
            assert!(QuantizedGraph::new(4, Metric::Dot, config).is_err());
        }
        let (mut graph, _) = both(Metric::Cosine, &plane(100, 4, 9), SMALL);
        let nan = Matrix::from_rows(&[[f32::NAN; 4]]).unwrap();
        assert!(matches!(graph.add(&[1], &nan), Err(AnnError::NotFinite { row: 0, .. })));
        assert!(matches!(graph.add(&[5], &Matrix::zeros(1, 4)), Err(AnnError::DuplicateId(5))));
        assert!(matches!(graph.search(&[1.0], 1), Err(AnnError::Dimension { expected: 4, got: 1 })));
        assert!(graph.set_ef(0).is_err());
        assert_eq!(graph.len(), 100);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("graph");
        graph.save(&path).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for at in [30, whole.len() / 2, whole.len() - 1] {
            let mut altered = whole.clone();
            altered[at] ^= 4;
            std::fs::write(&path, &altered).unwrap();
            assert!(QuantizedGraph::load(&path).unwrap_err().to_string().contains("altered"));
        }
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert!(QuantizedGraph::load(&path).unwrap_err().to_string().contains("cut off"));
        QuantizedGraph::new(4, Metric::Dot, SMALL).unwrap().save(&path).unwrap();
        assert!(QuantizedGraph::load(&path).unwrap().is_empty());
    }
}
