//! What listing 3.19 benchmarks: indexes of the workspace, and one that only pretends; real vectors, and noise.

use std::time::{Duration, Instant};

use eas_ann::{
    FlatIndex, Hnsw, HnswConfig, IvfConfig, IvfIndex, IvfPq, IvfPqConfig, Lsh, LshConfig, Metric, VectorIndex,
};
use eas_eval::bench::{Quantiles, Subject, Throughput, Workload, open_loop, throughput};
use eas_eval::recall::RecallReport;
use eas_tensor::Matrix;
use eas_tensor::rng::SplitMix64;

/// How vectors are compared.
pub const METRIC: Metric = Metric::Cosine;

/// The graph of the benchmark: M 16, efConstruction 100, ef 50.
pub fn graph_config() -> HnswConfig {
    HnswConfig { m: 16, ef_construction: 100, ef: 50, ..HnswConfig::default() }
}

/// Inverted lists of residual product codes, a byte for 8 values.
pub fn code_config(dim: usize, lists: usize, nprobe: usize, rerank: usize) -> IvfPqConfig {
    IvfPqConfig {
        ivf: IvfConfig { lists, nprobe, max_iter: 10, ..IvfConfig::default() },
        subspaces: dim / 8,
        iterations: 5,
        rerank,
        ..IvfPqConfig::default()
    }
}

/// An index as the subject of a benchmark. A search that fails finds nothing.
pub struct Indexed<'a>(pub &'a dyn VectorIndex);

impl Subject for Indexed<'_> {
    fn search(&self, query: &[f32], k: usize) -> Vec<u64> {
        let hits = self.0.search(query, k).unwrap_or_default();
        hits.iter().map(|hit| hit.id).collect()
    }
}

/// Answers 0 to k - 1 to everything, and is very fast.
pub struct Stub;

impl Subject for Stub {
    fn search(&self, _query: &[f32], k: usize) -> Vec<u64> {
        (0..k as u64).collect()
    }
}

/// An index with its name and the time it took to build.
pub struct Contender {
    /// The name.
    pub name: &'static str,
    /// The index.
    pub index: Box<dyn VectorIndex>,
    /// Training and adding.
    pub build: Duration,
}

type Build<'a> = Box<dyn Fn() -> anyhow::Result<Box<dyn VectorIndex>> + 'a>;

/// Flat, IVF, HNSW, IVF-PQ with re-ranking and LSH over the rows of `stored`, whose ids are their numbers.
pub fn contenders(stored: &Matrix) -> anyhow::Result<Vec<Contender>> {
    let ids: Vec<u64> = (0..stored.rows() as u64).collect();
    let dim = stored.dim();
    let codes = code_config(dim, 100, 10, 100);
    let hashes = LshConfig { tables: 16, bits: 6, seed: 42 };
    let builds: [(&'static str, Build<'_>); 5] = [
        ("flat", Box::new(|| Ok(Box::new(FlatIndex::new(dim, METRIC)?)))),
        ("IVF", Box::new(|| Ok(Box::new(IvfIndex::train(stored, METRIC, codes.ivf)?)))),
        ("HNSW", Box::new(|| Ok(Box::new(Hnsw::new(dim, METRIC, graph_config())?)))),
        ("IVF-PQ", Box::new(|| Ok(Box::new(IvfPq::train(stored, METRIC, codes)?)))),
        ("LSH", Box::new(|| Ok(Box::new(Lsh::new(dim, METRIC, hashes)?)))),
    ];
    let build = |(name, build): (&'static str, Build<'_>)| {
        let start = Instant::now();
        let mut index = build()?;
        index.add(&ids, stored)?;
        Ok(Contender { name, index, build: start.elapsed() })
    };
    builds.into_iter().map(build).collect()
}

/// What a benchmark says about a subject.
pub struct Figures {
    /// Recall@10 by query.
    pub recall: RecallReport,
    /// Mean recall@100.
    pub deep: f64,
    /// Median time of a search.
    pub p50: Duration,
    /// 99th percentile when requests come at 70% of what the subject can do, whether or not it keeps up.
    pub open_p99: Duration,
    /// Two threads without a pause.
    pub rate: Throughput,
    /// True when no quantile is below the one before.
    pub ordered: bool,
}

/// Asks all queries three times, once more for 100 neighbours, and once from two threads.
pub fn figures(subject: &dyn Subject, queries: &Matrix, truth: &[Vec<u64>]) -> anyhow::Result<Figures> {
    let workload = Workload { queries, truth, k: 10, warmup: 20, repeats: 3 };
    let report = workload.run(subject)?;
    let deep = Workload { k: 100, repeats: 1, ..workload };
    let service = Quantiles::of(&report.service)?;
    let waited = Quantiles::of(&open_loop(&report.service, service.mean.mul_f64(1.0 / 0.7)))?;
    Ok(Figures {
        recall: report.recall,
        deep: deep.run(subject)?.recall.mean.mean,
        p50: service.p50,
        open_p99: waited.p99,
        rate: throughput(subject, queries, 10, 2)?,
        ordered: service.ordered() && waited.ordered(),
    })
}

/// The ids that an index answers with.
pub fn answers(index: &dyn VectorIndex, queries: &Matrix, k: usize) -> anyhow::Result<Vec<Vec<u64>>> {
    let hits = index.search_batch(queries, k)?;
    Ok(hits.iter().map(|hits| hits.iter().map(|hit| hit.id).collect()).collect())
}

/// Mean recall@k, without a clock.
pub fn mean_recall(index: &dyn VectorIndex, queries: &Matrix, truth: &[Vec<u64>], k: usize) -> anyhow::Result<f64> {
    let workload = Workload { queries, truth, k, warmup: 0, repeats: 1 };
    Ok(workload.run(&Indexed(index))?.recall.mean.mean)
}

/// `rows` rows of independent normal values: a collection in which nothing is near anything.
pub fn noise(rows: usize, dim: usize, seed: u64) -> anyhow::Result<Matrix> {
    let mut rng = SplitMix64::new(seed);
    let values = (0..rows * dim).map(|_| rng.normal() as f32).collect();
    Ok(Matrix::from_vec(rows, dim, values)?)
}
