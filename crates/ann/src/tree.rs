//! [`KMeansTree`]: a tree of centroids (Nistér and Stewénius, "Scalable recognition with a vocabulary tree", CVPR 2006). Each node
//! cuts its part of the space into `branching` cells by k-means; the vectors are in the leaves.
//!
//! A search walks down. With a beam of 1 it takes the nearest child at each level and never returns: a neighbour just across the border
//! of a cell is lost. A wider beam follows several nodes at each level and buys that recall back with comparisons.

use std::collections::BinaryHeap;
use std::path::Path;

use eas_tensor::Matrix;
use eas_tensor::kmeans::KMeans;

use crate::AnnError;
use crate::file::{Reader, Writer};
use crate::index::{
    Candidate, Hit, Metric, SearchStats, VectorIndex, check_new_ids, check_rows, prepare_query, sorted_hits,
};
use crate::ivf::{read_matrix, write_matrix};
use crate::lists::VectorLists;

const KIND: [u8; 4] = *b"TREE";

/// Settings of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeConfig {
    /// Children of each inner node, at most.
    pub branching: usize,
    /// Levels of inner nodes: a vector passes so many on the way to its leaf.
    pub levels: usize,
    /// Nodes followed at each level.
    pub beam: usize,
    /// Most Lloyd iterations of each node.
    pub max_iter: usize,
    /// Seed of the nodes.
    pub seed: u64,
}

impl Default for TreeConfig {
    /// 27 children on 2 levels, a beam of 8, at most 20 iterations, seed 42.
    fn default() -> Self {
        Self { branching: 27, levels: 2, beam: 8, max_iter: 20, seed: 42 }
    }
}

/// What walking straight down a tree would cost if every level had as many children as stated.
#[derive(Debug, Clone, PartialEq)]
pub struct TreeCost {
    /// Vectors at the end of all paths: the product over the levels.
    pub vectors: f64,
    /// Comparisons of one descent: the sum over the levels.
    pub comparisons: f64,
    /// Vectors a comparison: how many times fewer than a scan.
    pub speed_up: f64,
}

/// The cost of one greedy descent through `levels` children a level, the last level being the vectors of a leaf.
pub fn tree_cost(levels: &[usize]) -> TreeCost {
    let vectors: f64 = levels.iter().map(|&n| n as f64).product();
    let comparisons: f64 = levels.iter().map(|&n| n as f64).sum();
    TreeCost { vectors, comparisons, speed_up: vectors / comparisons }
}

/// An inner node: its children are `first_child ..` on the next level (nodes, or leaves below the last).
#[derive(Debug, Clone)]
struct Node {
    centroids: Matrix,
    first_child: u32,
}

/// A tree of centroids with the vectors in its leaves.
///
/// [`VectorIndex::search`] doubles the beam while it has fewer than `k` hits; [`Self::search_counted`] doesn't.
#[derive(Debug, Clone)]
pub struct KMeansTree {
    metric: Metric,
    dim: usize,
    config: TreeConfig,
    levels: Vec<Vec<Node>>,
    leaves: VectorLists,
    build_evaluations: u64,
}

impl KMeansTree {
    /// An empty tree whose nodes are trained on `sample`, shape `(n, dim)`. A node with fewer rows than `branching` has one child a row.
    pub fn train(sample: &Matrix, metric: Metric, config: TreeConfig) -> Result<Self, AnnError> {
        for (name, got) in [
            ("branching", config.branching),
            ("levels", config.levels),
            ("beam", config.beam),
            ("rows of the sample", sample.rows()),
        ] {
            if got == 0 {
                return Err(AnnError::parameter(name, &got, "at least 1"));
            }
        }
        if sample.dim() == 0 {
            return Err(AnnError::parameter("dim", &0, "at least 1"));
        }
        let stored = metric.stored(sample.clone());
        let mut build_evaluations = 0;
        let mut levels = Vec::new();
        // The rows that each node of the level has to divide.
        let mut parts: Vec<Vec<usize>> = vec![(0..stored.rows()).collect()];
        for level in 0..config.levels {
            let (mut nodes, mut next) = (Vec::new(), Vec::new());
            for (nth, rows) in parts.iter().enumerate() {
                let fit = KMeans {
                    max_iter: config.max_iter,
                    seed: config.seed.wrapping_add((level << 32 | nth) as u64),
                    ..KMeans::new(config.branching.min(rows.len()))
                }
                .fit(&stored.select(rows))?;
                build_evaluations += (rows.len() * fit.centroids.rows() * (fit.iterations + 1)) as u64;
                let mut children = vec![Vec::new(); fit.centroids.rows()];
                for (&row, &child) in rows.iter().zip(&fit.assignments) {
                    children[child].push(row);
                }
                // Equal rows can leave a child without any: such a child would have nothing to divide.
                let kept: Vec<usize> = (0..children.len()).filter(|&child| !children[child].is_empty()).collect();
                nodes.push(Node { centroids: fit.centroids.select(&kept), first_child: next.len() as u32 });
                next.extend(kept.into_iter().map(|child| std::mem::take(&mut children[child])));
            }
            levels.push(nodes);
            parts = next;
        }
        Ok(Self {
            metric,
            dim: sample.dim(),
            config,
            levels,
            leaves: VectorLists::new(sample.dim(), parts.len()),
            build_evaluations,
        })
    }

    /// The settings.
    pub fn config(&self) -> TreeConfig {
        self.config
    }

    /// Sets how many nodes [`VectorIndex::search`] follows at each level.
    pub fn set_beam(&mut self, beam: usize) -> Result<(), AnnError> {
        if beam == 0 {
            return Err(AnnError::parameter("beam", &0, "at least 1"));
        }
        self.config.beam = beam;
        Ok(())
    }

    /// Number of vectors in each leaf.
    pub fn leaf_lens(&self) -> Vec<usize> {
        self.leaves.lens()
    }

    /// Distances that training computed for the assignments of k-means (its k-means++ starts not counted).
    pub fn build_evaluations(&self) -> u64 {
        self.build_evaluations
    }

    /// Bytes of vectors, ids and centroids, without the hash table from id to place.
    pub fn bytes(&self) -> usize {
        let nodes = self.levels.iter().flatten().map(|node| size_of_val(node.centroids.as_slice()) + 4);
        nodes.sum::<usize>() + self.leaves.bytes()
    }

    /// The `k` nearest of the vectors in the leaves that a beam of `beam` nodes a level reaches, whose ids pass `keep`; and what it cost:
    /// every centroid and vector compared counts. May give fewer than `k`.
    pub fn search_counted(
        &self,
        query: &[f32],
        k: usize,
        beam: usize,
        keep: &(dyn Fn(u64) -> bool + Sync),
    ) -> Result<(Vec<Hit>, SearchStats), AnnError> {
        let query = prepare_query(self.metric, self.dim, query)?;
        let query = query.row(0);
        let mut stats = SearchStats::default();
        if k == 0 || self.is_empty() {
            return Ok((Vec::new(), stats));
        }
        let mut best = BinaryHeap::new();
        for leaf in self.reach(query, beam, &mut stats) {
            let leaf = leaf as usize;
            self.leaves.scan(leaf, self.metric, query, k, keep, &mut best, &mut stats);
        }
        Ok((sorted_hits(self.metric, best), stats))
    }

    /// The leaves that a beam ends in.
    fn reach(&self, query: &[f32], beam: usize, stats: &mut SearchStats) -> Vec<u32> {
        let mut frontier = vec![0u32];
        for nodes in &self.levels {
            let mut children = Vec::new();
            for &node in &frontier {
                let node = &nodes[node as usize];
                for (child, centroid) in (node.first_child..).zip(node.centroids.iter_rows()) {
                    // Cells are Euclidean whatever the metric; for unit vectors that is the order of the cosine.
                    children.push(Candidate { distance: Metric::SquaredL2.distance(query, centroid), id: child });
                }
            }
            stats.full_distances(children.len(), self.dim);
            let beam = beam.max(1);
            if beam < children.len() {
                children.select_nth_unstable(beam - 1);
                children.truncate(beam);
            }
            children.sort_unstable();
            frontier = children.into_iter().map(|child| child.id).collect();
        }
        frontier
    }
}

impl VectorIndex for KMeansTree {
    fn dim(&self) -> usize {
        self.dim
    }

    fn metric(&self) -> Metric {
        self.metric
    }

    fn len(&self) -> usize {
        self.leaves.len()
    }

    fn contains(&self, id: u64) -> bool {
        self.leaves.contains(id)
    }

    /// Each vector goes to the leaf that a beam of 1 reaches.
    fn add(&mut self, ids: &[u64], vectors: &Matrix) -> Result<(), AnnError> {
        check_rows(self.dim, ids, vectors)?;
        check_new_ids(ids, |id| self.contains(id))?;
        let vectors = self.metric.stored(vectors.clone());
        for (&id, vector) in ids.iter().zip(vectors.iter_rows()) {
            for number in self.reach(vector, 1, &mut SearchStats::default()) {
                self.leaves.push(number as usize, id, vector);
            }
        }
        Ok(())
    }

    /// The last vector of the leaf moves into the gap; the nodes stay.
    fn remove(&mut self, ids: &[u64]) -> Result<usize, AnnError> {
        Ok(self.leaves.remove(ids))
    }

    fn search_where(&self, query: &[f32], k: usize, keep: &(dyn Fn(u64) -> bool + Sync)) -> Result<Vec<Hit>, AnnError> {
        let mut beam = self.config.beam;
        loop {
            let (hits, _) = self.search_counted(query, k, beam, keep)?;
            if hits.len() >= k || beam >= self.leaves.count() {
                return Ok(hits);
            }
            beam = beam.saturating_mul(2);
        }
    }

    fn save(&self, path: &Path) -> Result<(), AnnError> {
        let mut out = Writer::default();
        out.u8(self.metric.code());
        out.u32(self.dim as u32);
        let config = self.config;
        for value in [config.branching, config.levels, config.beam, config.max_iter] {
            out.u64(value as u64);
        }
        out.u64(config.seed);
        out.u64(self.build_evaluations);
        for nodes in &self.levels {
            out.u32(nodes.len() as u32);
            for node in nodes {
                write_matrix(&mut out, &node.centroids);
            }
        }
        self.leaves.write(&mut out);
        out.finish(path, KIND)
    }

    fn load(path: &Path) -> Result<Self, AnnError> {
        let mut file = Reader::open(path, KIND)?;
        let metric = Metric::from_code(file.u8()?).ok_or_else(|| file.corrupt("unknown metric"))?;
        let dim = file.u32()? as usize;
        let counts = file.u64s(4)?;
        let config = TreeConfig {
            branching: counts[0] as usize,
            levels: counts[1] as usize,
            beam: counts[2] as usize,
            max_iter: counts[3] as usize,
            seed: file.u64()?,
        };
        if [config.branching, config.levels, config.beam].contains(&0) {
            return Err(file.corrupt("a setting is 0"));
        }
        let build_evaluations = file.u64()?;
        let (mut levels, mut expected) = (Vec::new(), 1);
        for _ in 0..config.levels {
            if file.u32()? as usize != expected {
                return Err(file.corrupt("a level hasn't as many nodes as the one above has children"));
            }
            let mut nodes = Vec::new();
            let mut children = 0;
            for _ in 0..expected {
                let centroids = read_matrix(&mut file)?;
                if centroids.dim() != dim || centroids.is_empty() {
                    return Err(file.corrupt("a node without children, or of another dimension"));
                }
                let first_child = children as u32;
                children += centroids.rows();
                nodes.push(Node { centroids, first_child });
            }
            levels.push(nodes);
            expected = children;
        }
        if dim == 0 || levels.is_empty() {
            return Err(file.corrupt("a tree of no dimension or without levels"));
        }
        let leaves = VectorLists::read(&mut file, dim, expected)?;
        file.finish()?;
        Ok(Self { metric, dim, config, levels, leaves, build_evaluations })
    }
}
