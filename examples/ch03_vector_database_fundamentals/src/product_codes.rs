//! Indexes of product codes over one set of vectors, and their recall by probes beside that of FAISS: what listing 3.11 shows.

use eas_ann::{AnnError, Hit, IvfConfig, IvfPq, IvfPqConfig, Metric, VectorIndex, recall};
use eas_tensor::Matrix;
use eas_tensor::kernels::squared_l2;

use crate::faiss::{IVFPQ_ON_CLUSTERS, IVFPQ_ON_MORE_CLUSTERS};

/// Neighbours asked for.
pub const K: usize = 10;

/// What is varied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Cells.
    pub lists: usize,
    /// Parts of a code.
    pub subspaces: usize,
    /// Bits a part.
    pub bits: usize,
    /// Whether residuals are coded.
    pub by_residual: bool,
    /// Candidates compared by their full vectors.
    pub rerank: usize,
}

impl Shape {
    /// Residuals in 8 bits a part, without re-ranking.
    pub fn new(lists: usize, subspaces: usize) -> Self {
        Self { lists, subspaces, bits: 8, by_residual: true, rerank: 0 }
    }

    /// Codes of the vectors themselves.
    #[must_use]
    pub fn raw(self) -> Self {
        Self { by_residual: false, ..self }
    }

    /// Parts of four bits.
    #[must_use]
    pub fn four_bits(self) -> Self {
        Self { bits: 4, ..self }
    }

    /// The best `rerank` candidates compared by their full vectors.
    #[must_use]
    pub fn reranked(self, rerank: usize) -> Self {
        Self { rerank, ..self }
    }

    /// The settings, with 8 probes; half as many vectors and iterations as FAISS trains with, at a fifth of the time.
    pub fn config(self, seed: u64) -> IvfPqConfig {
        IvfPqConfig {
            ivf: IvfConfig {
                lists: self.lists,
                nprobe: 8,
                max_iter: 10,
                sample: 10_000,
                seed,
                ..IvfPqConfig::default().ivf
            },
            iterations: 10,
            subspaces: self.subspaces,
            bits: self.bits,
            by_residual: self.by_residual,
            rerank: self.rerank,
            ..IvfPqConfig::default()
        }
    }

    /// Trains on `vectors` and adds them under the ids `0..n`.
    pub fn build(self, vectors: &Matrix, seed: u64) -> Result<IvfPq, AnnError> {
        let mut index = IvfPq::train(vectors, Metric::SquaredL2, self.config(seed))?;
        index.add(&(0..vectors.rows() as u64).collect::<Vec<_>>(), vectors)?;
        Ok(index)
    }
}

/// Squared distances of `query` to the decoded vectors of the ids `0..n`, computed without any table; by id.
pub fn decoded_distances(index: &IvfPq, query: &[f32], n: usize) -> Vec<Hit> {
    let distance = |id| {
        let decoded = index.decode(id)?;
        let score = squared_l2(query, &decoded);
        Some(Hit { id, score })
    };
    (0..n as u64).filter_map(distance).collect()
}

/// One index at one number of probes.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    /// Lists scanned.
    pub nprobe: usize,
    /// Recall@10.
    pub recall: f64,
    /// Recall@10 of FAISS at the same settings; NaN where it wasn't measured.
    pub faiss: f64,
    /// Codes scanned a query, mean.
    pub scanned: f64,
}

/// Recall of `index` at each of `probes`; leaves the last of them set.
pub fn curve(
    index: &mut IvfPq,
    probes: &[usize],
    queries: &Matrix,
    truth: &[Vec<Hit>],
) -> Result<Vec<Point>, AnnError> {
    let config = index.config();
    let peers = if index.len() > 20_000 { IVFPQ_ON_MORE_CLUSTERS } else { IVFPQ_ON_CLUSTERS };
    let mut points = Vec::new();
    for &nprobe in probes {
        index.set_nprobe(nprobe)?;
        let setting = (config.ivf.lists, config.subspaces, config.by_residual, nprobe);
        let peer = peers.iter().find(|row| (row.0, row.1, row.2, row.3) == setting);
        let mut scanned = 0;
        for query in queries.iter_rows() {
            scanned += index.search_counted(query, K, None, &|_| true)?.1.codes_scanned;
        }
        points.push(Point {
            nprobe,
            recall: recall(&index.search_batch(queries, K)?, truth),
            faiss: peer.map_or(f64::NAN, |row| row.4),
            scanned: scanned as f64 / queries.rows() as f64,
        });
    }
    Ok(points)
}
