//! Deletes and what they do to a graph, by four ways to go about them; and a search by lists of which a graph finds the nearest
//! (listing 3.10).

use std::collections::BTreeSet;

use eas_ann::{AnnError, FlatIndex, Hit, Hnsw, HnswConfig, Metric, VectorIndex, recall};
use eas_tensor::Matrix;
use eas_tensor::kmeans::KMeans;
use eas_tensor::rng::SplitMix64;

/// What happens to a graph when vectors are deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDelete {
    /// They stay as stepping stones that are never returned.
    Mark,
    /// Their neighbours are linked to each other.
    Repair,
    /// The graph is built anew each time.
    Rebuild,
    /// They stay, until a fifth of the graph has changed; then it is built anew.
    RebuildAtFifth,
}

/// A graph after a share of its vectors was deleted.
#[derive(Debug, Clone, Copy)]
pub struct ChurnStep {
    /// Deleted share of the vectors it began with.
    pub deleted: f64,
    /// Recall@10 with a beam of 100, against brute force among what is left.
    pub recall: f64,
    /// Distances a query.
    pub distances: f64,
    /// Bytes of vectors, links and the rest.
    pub bytes: usize,
    /// Deleted ids among the hits.
    pub ghosts: usize,
}

/// Deletes half of the vectors of `index` in five steps, in an order drawn from `seed`, and measures after each.
pub fn churn(
    index: &Hnsw,
    exact: &FlatIndex,
    queries: &Matrix,
    seed: u64,
    on_delete: OnDelete,
) -> Result<Vec<ChurnStep>, AnnError> {
    let (mut index, mut exact) = (index.clone(), exact.clone());
    let mut ids = exact.ids().to_vec();
    SplitMix64::new(seed).shuffle(&mut ids);
    let step = ids.len() / 10;
    let mut steps = vec![measure(&index, &exact, queries, 0.0)?];
    let mut changed = 0;
    for (at, gone) in ids.chunks(step).take(5).enumerate() {
        exact.remove(gone)?;
        changed += gone.len();
        match on_delete {
            OnDelete::Mark => drop(index.remove(gone)?),
            OnDelete::Repair => drop(index.remove_and_repair(gone)?),
            OnDelete::Rebuild => {
                index.remove(gone)?;
                index = index.rebuilt();
            }
            OnDelete::RebuildAtFifth => {
                index.remove(gone)?;
                if 5 * changed >= index.nodes() {
                    index = index.rebuilt();
                    changed = 0;
                }
            }
        }
        steps.push(measure(&index, &exact, queries, (at + 1) as f64 / 10.0)?);
    }
    Ok(steps)
}

fn measure(index: &Hnsw, exact: &FlatIndex, queries: &Matrix, deleted: f64) -> Result<ChurnStep, AnnError> {
    let (mut found, mut distances) = (Vec::new(), 0);
    for query in queries.iter_rows() {
        let (hits, cost) = index.search_counted(query, 10, 100, &|_| true)?;
        distances += cost.distance_evaluations;
        found.push(hits);
    }
    let bytes = index.bytes();
    Ok(ChurnStep {
        deleted,
        recall: recall(&found, &exact.search_batch(queries, 10)?),
        distances: distances as f64 / queries.rows() as f64,
        bytes: bytes.vectors + bytes.links + bytes.bookkeeping,
        ghosts: found.iter().flatten().filter(|hit| !exact.contains(hit.id)).count(),
    })
}

/// Pages of 4096 bytes a query reads when the lists of links of the upper levels, or of the bottom one, lie on disk one behind the other; and the
/// number of queries that passed by the upper levels.
pub fn pages_read(index: &Hnsw, queries: &Matrix) -> Result<([f64; 2], usize), AnnError> {
    let m = index.config().m;
    // Lists of m links of the nodes that have upper ones, lists of 2 m links of all.
    let nodes = 0..index.nodes() as u32;
    let upper: Vec<u32> = nodes.filter(|&node| index.links_of(node, 1).is_some()).collect();
    let (mut pages, mut through_upper) = ([0; 2], 0);
    for query in queries.iter_rows() {
        let (_, visited) = index.search_traced(query, 10, 64)?;
        let (mut above, mut below) = (BTreeSet::new(), BTreeSet::new());
        for (level, node) in visited {
            if level == 0 {
                below.insert(node as usize * 2 * m * 4 / 4096);
            } else if let Ok(at) = upper.binary_search(&node) {
                above.insert((level, at * m * 4 / 4096));
            }
        }
        pages = [pages[0] + above.len(), pages[1] + below.len()];
        through_upper += usize::from(!above.is_empty());
    }
    Ok((pages.map(|pages| pages as f64 / queries.rows() as f64), through_upper))
}

/// Lists of vectors around centroids; a graph over the centroids finds the nearest lists (IVF-HNSW).
pub struct IvfHnsw {
    centroids: Hnsw,
    lists: Vec<FlatIndex>,
}

impl IvfHnsw {
    /// Divides the vectors, with ids 0 to n - 1, among `lists` lists.
    pub fn build(vectors: &Matrix, lists: usize, seed: u64) -> anyhow::Result<Self> {
        let clustering = KMeans { seed, restarts: 1, max_iter: 10, ..KMeans::new(lists) }.fit(vectors)?;
        let mut centroids = Hnsw::new(vectors.dim(), Metric::SquaredL2, HnswConfig::default())?;
        centroids.add(&(0..lists as u64).collect::<Vec<_>>(), &clustering.centroids)?;
        let mut indexes = vec![FlatIndex::new(vectors.dim(), Metric::SquaredL2)?; lists];
        for (id, &list) in clustering.assignments.iter().enumerate() {
            indexes[list].add(&[id as u64], &vectors.select(&[id]))?;
        }
        Ok(Self { centroids, lists: indexes })
    }

    /// The `k` nearest in the `nprobe` nearest lists, and the distances computed.
    pub fn search(&self, query: &[f32], k: usize, nprobe: usize) -> Result<(Vec<Hit>, u64), AnnError> {
        let (near, cost) = self.centroids.search_counted(query, nprobe, 2 * nprobe, &|_| true)?;
        let mut distances = cost.distance_evaluations;
        let mut answers = Vec::with_capacity(near.len());
        for list in near {
            let list = &self.lists[list.id as usize];
            distances += list.len() as u64;
            answers.push(list.search(query, k)?);
        }
        Ok((eas_ann::merge_hits(Metric::SquaredL2, &answers, k), distances))
    }

    /// Recall@10 and distances a query: through `nprobe` lists, or through `plain` with a beam of 100.
    pub fn measure(
        &self,
        plain: &Hnsw,
        exact: &FlatIndex,
        queries: &Matrix,
        nprobe: Option<usize>,
    ) -> Result<(f64, f64), AnnError> {
        let (mut found, mut distances) = (Vec::new(), 0);
        for query in queries.iter_rows() {
            let (hits, cost) = if let Some(nprobe) = nprobe {
                self.search(query, 10, nprobe)?
            } else {
                let (hits, cost) = plain.search_counted(query, 10, 100, &|_| true)?;
                (hits, cost.distance_evaluations)
            };
            found.push(hits);
            distances += cost;
        }
        let recall = recall(&found, &exact.search_batch(queries, 10)?);
        Ok((recall, distances as f64 / queries.rows() as f64))
    }
}
