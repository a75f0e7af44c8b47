//! IVF and HNSW over one collection, each over its parameter: what listing 11.2 compares.

use std::time::{Duration, Instant};

use eas_ann::{AnnError, FlatIndex, Hit, Hnsw, HnswConfig, IvfConfig, IvfIndex, Metric, VectorIndex, recall};
use eas_tensor::Matrix;
use eas_tensor::kmeans::Init;

/// Neighbours asked for.
pub const K: usize = 10;
/// Lists scanned.
pub const PROBES: [usize; 6] = [1, 2, 4, 8, 16, 64];
/// Widths of the beam.
pub const BEAMS: [usize; 5] = [10, 20, 50, 100, 200];

/// One index at one setting.
#[derive(Debug, Clone)]
pub struct Point {
    /// Recall@10, mean.
    pub recall: f64,
    /// Recall@10 of each query.
    pub each: Vec<f64>,
    /// Distances computed a query, mean.
    pub evaluations: f64,
    /// Time a query, mean.
    pub time: Duration,
}

/// Both indexes over a collection, and what they reached.
#[derive(Debug)]
pub struct Corpus {
    /// What kind of vectors these are.
    pub name: &'static str,
    /// One point for each of [`PROBES`].
    pub by_probes: Vec<Point>,
    /// One point for each of [`BEAMS`].
    pub by_beam: Vec<Point>,
    /// Spherical cells from stride starts.
    pub ivf: IvfIndex,
    /// `m` 16.
    pub hnsw: Hnsw,
    /// Time to build each.
    pub builds: [Duration; 2],
}

impl Corpus {
    /// Builds both and runs the queries.
    pub fn measure(
        name: &'static str,
        vectors: &Matrix,
        queries: &Matrix,
        lists: usize,
        ef_construction: usize,
    ) -> Result<Self, AnnError> {
        let ids: Vec<u64> = (0..vectors.rows() as u64).collect();
        let mut flat = FlatIndex::new(vectors.dim(), Metric::Cosine)?;
        flat.add(&ids, vectors)?;
        let truth = flat.search_batch(queries, K)?;
        let config = IvfConfig {
            lists,
            max_iter: 20,
            tolerance: 0.0,
            spherical: true,
            init: Init::Stride,
            ..IvfConfig::default()
        };
        let start = Instant::now();
        let mut ivf = IvfIndex::train(vectors, Metric::Cosine, config)?;
        ivf.add(&ids, vectors)?;
        let ivf_build = start.elapsed();
        let start = Instant::now();
        let config = HnswConfig { ef_construction, ..HnswConfig::default() };
        let mut hnsw = Hnsw::new(vectors.dim(), Metric::Cosine, config)?;
        hnsw.add(&ids, vectors)?;
        let builds = [ivf_build, start.elapsed()];
        let probing = |nprobe| {
            point(queries, &truth, |query| {
                let (hits, cost) = ivf.search_counted(query, K, Some(nprobe), &|_| true)?;
                Ok((hits, cost.distance_evaluations))
            })
        };
        let walking = |ef| {
            point(queries, &truth, |query| {
                let (hits, cost) = hnsw.search_counted(query, K, ef, &|_| true)?;
                Ok((hits, cost.distance_evaluations))
            })
        };
        Ok(Self {
            name,
            by_probes: PROBES.into_iter().map(probing).collect::<Result<_, _>>()?,
            by_beam: BEAMS.into_iter().map(walking).collect::<Result<_, _>>()?,
            ivf,
            hnsw,
            builds,
        })
    }

    /// Links of all levels of the graph.
    pub fn links(&self) -> usize {
        self.hnsw.level_links().iter().map(|level| level.links).sum()
    }
}

fn point(
    queries: &Matrix,
    truth: &[Vec<Hit>],
    search: impl Fn(&[f32]) -> Result<(Vec<Hit>, u64), AnnError>,
) -> Result<Point, AnnError> {
    let (mut each, mut evaluations) = (Vec::new(), 0);
    let start = Instant::now();
    for (query, truth) in queries.iter_rows().zip(truth) {
        let (hits, cost) = search(query)?;
        evaluations += cost;
        each.push(recall(&[hits], std::slice::from_ref(truth)));
    }
    let count = each.len() as f64;
    Ok(Point {
        recall: each.iter().sum::<f64>() / count,
        evaluations: evaluations as f64 / count,
        time: start.elapsed().div_f64(count),
        each,
    })
}
