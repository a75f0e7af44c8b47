//! HNSW graphs of a world, their recall and counted cost, and what FAISS reaches on the same vectors: what listing 3.9 shows.

use eas_ann::{AnnError, FlatIndex, Hit, Hnsw, HnswConfig, Metric, Selection, VectorIndex};
use eas_data::synth::{clusters, clusters_queries, manifold, manifold_queries};
use eas_tensor::Matrix;

/// Neighbours asked for.
pub const K: usize = 10;

/// Widths of the beam.
pub const EFS: [usize; 5] = [10, 20, 50, 100, 200];

/// World, `m`, and recall@10 by [`EFS`] of FAISS 1.15.1 (`IndexHNSWFlat`, efConstruction 200) on `clusters(42, 10_000, 32, 64, 0.6)` and
/// `manifold(42, 10_000, 32, 8, 0.02)` with 300 queries each; `scripts/oracles/hnsw_faiss.py` measures it.
pub const FAISS_HNSW: [(&str, usize, [f64; 5]); 4] = [
    ("clusters", 8, [0.8833, 0.9747, 0.9987, 0.9993, 0.9993]),
    ("clusters", 16, [0.9307, 0.9927, 0.9993, 1.0, 1.0]),
    ("clusters", 32, [0.9450, 0.9913, 1.0, 1.0, 1.0]),
    ("manifold", 16, [0.9463, 0.9907, 0.9997, 1.0, 1.0]),
];

/// The same of 100,000 vectors, the size of `--full`.
pub const FAISS_HNSW_FULL: [(&str, usize, [f64; 5]); 4] = [
    ("clusters", 8, [0.5670, 0.7350, 0.9207, 0.9747, 0.9977]),
    ("clusters", 16, [0.7780, 0.9197, 0.9923, 0.9993, 1.0]),
    ("clusters", 32, [0.8517, 0.9533, 0.9963, 0.9997, 1.0]),
    ("manifold", 16, [0.9420, 0.9877, 1.0, 1.0, 1.0]),
];

/// What the book recommends, by size of the collection: its name, vectors, `m`, `ef_construction`, `ef`.
pub const TUNING: [(&str, u64, u32, usize, usize); 4] = [
    ("1 million", 1_000_000, 16, 100, 50),
    ("100 million", 100_000_000, 32, 200, 100),
    ("10 billion", 10_000_000_000, 48, 400, 200),
    ("100 trillion", 100_000_000_000_000, 64, 300, 150),
];

/// `n` vectors of `dim` values and 300 queries, in 64 clusters and on a sheet of 8 dimensions.
pub fn worlds(n: usize, dim: usize, seed: u64) -> [(Matrix, Matrix); 2] {
    [
        (clusters(seed, n, dim, 64, 0.6), clusters_queries(seed, 300, dim, 64, 0.6)),
        (manifold(seed, n, dim, 8, 0.02), manifold_queries(seed, 300, dim, 8, 0.02)),
    ]
}

/// A graph of the rows of `base` under their numbers.
pub fn build_hnsw(base: &Matrix, m: usize, selection: Selection, seed: u64) -> Result<Hnsw, AnnError> {
    let config = HnswConfig { m, selection, seed, ..HnswConfig::default() };
    let mut index = Hnsw::new(base.dim(), Metric::SquaredL2, config)?;
    index.add(&(0..base.rows() as u64).collect::<Vec<_>>(), base)?;
    Ok(index)
}

/// The true neighbours of each query.
pub fn exact(base: &Matrix, queries: &Matrix) -> Result<Vec<Vec<Hit>>, AnnError> {
    let mut index = FlatIndex::new(base.dim(), Metric::SquaredL2)?;
    index.add(&(0..base.rows() as u64).collect::<Vec<_>>(), base)?;
    index.search_batch(queries, K)
}

/// The hits of each query, and the mean number of distances that a search computed.
pub fn search_all(index: &Hnsw, queries: &Matrix, ef: usize) -> Result<(Vec<Vec<Hit>>, f64), AnnError> {
    let mut distances = 0;
    let mut found = Vec::with_capacity(queries.rows());
    for query in queries.iter_rows() {
        let (hits, cost) = index.search_counted(query, K, ef, &|_| true)?;
        distances += cost.distance_evaluations;
        found.push(hits);
    }
    Ok((found, distances as f64 / queries.rows().max(1) as f64))
}
