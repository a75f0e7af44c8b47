//! One index of `eas-ann` built from a file of vectors, and measured along its search parameter.

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use eas_ann::{
    FlatIndex, Hnsw, HnswConfig, IvfConfig, IvfPq, IvfPqConfig, MappedHnsw, Metric, QuantizedGraph,
    QuantizedGraphConfig, VectorIndex,
};
use eas_tensor::Matrix;
use rayon::prelude::*;
use serde::Serialize;
use std::path::Path;
use std::time::Instant;

/// The indexes that can be measured, by the name of `--index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Every vector is compared; one point, without a search parameter.
    Flat,
    /// A graph over the vectors; the search parameter is `ef`.
    Hnsw,
    /// A graph with one-bit codes of the neighbours beside the links; the search parameter is `ef`.
    Graph,
    /// Inverted lists of product codes, re-ranked by full vectors; the search parameter is `nprobe`.
    Ivfpq,
    /// The graph of `hnsw` in a file that is mapped into memory; the search parameter is `ef`.
    Disk,
}

impl Kind {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Flat => "flat",
            Self::Hnsw => "hnsw",
            Self::Graph => "graph",
            Self::Ivfpq => "ivfpq",
            Self::Disk => "disk",
        }
    }
}

/// How vectors are compared, by the name of `--metric`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// Inner product.
    Dot,
    /// Euclidean distance.
    L2,
    /// Cosine of the angle.
    Cosine,
}

impl By {
    /// The metric of the indexes.
    pub fn metric(self) -> Metric {
        match self {
            Self::Dot => Metric::Dot,
            Self::L2 => Metric::SquaredL2,
            Self::Cosine => Metric::Cosine,
        }
    }
}

/// How the index is built.
#[derive(Args, Clone, Copy, Debug)]
pub struct Build {
    /// Links of a node (hnsw, disk)
    #[arg(long, default_value_t = 16)]
    pub m: usize,
    /// Links of a node, 32, 64, 96 or 128 (graph)
    #[arg(long, default_value_t = 32)]
    pub degree: usize,
    /// Width of the beam while building (hnsw, graph, disk)
    #[arg(long, default_value_t = 200)]
    pub ef_construction: usize,
    /// Lists; 0 means about four times the root of the number of vectors (ivfpq)
    #[arg(long, default_value_t = 0)]
    pub lists: usize,
    /// Parts of a vector; 0 means one for each two values (ivfpq)
    #[arg(long, default_value_t = 0)]
    pub subspaces: usize,
    /// Bits of a part, 4 or 8 (ivfpq)
    #[arg(long, default_value_t = 4)]
    pub bits: usize,
    /// Candidates that are compared by their full vectors; 0 ranks by codes alone (ivfpq)
    #[arg(long, default_value_t = 100)]
    pub rerank: usize,
    /// Rounds of the search for a rotation (ivfpq)
    #[arg(long, default_value_t = 0)]
    pub opq_iterations: usize,
    /// Seed of what is random in the build
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
}

/// Vectors, queries and the true neighbours of each query: what all libraries of a comparison are given.
#[derive(Debug)]
pub struct Task {
    /// Shape `(n, dim)`; row `i` has id `i`.
    pub base: Matrix,
    /// Shape `(queries, dim)`.
    pub queries: Matrix,
    /// The ids of the `k` nearest rows of each query, best first.
    pub truth: Vec<Vec<u64>>,
}

impl Task {
    /// Reads the files and checks that they belong together. Without a file of true neighbours they are computed.
    pub fn read(base: &Path, queries: &Path, truth: Option<&Path>, metric: Metric, k: usize) -> Result<Self> {
        let base_path = base;
        let base = read_vectors(base_path)?;
        let queries_path = queries;
        let queries = read_vectors(queries_path)?;
        ensure!(
            base.dim() == queries.dim(),
            "{} has vectors of dimension {}, {} of dimension {}",
            base_path.display(),
            base.dim(),
            queries_path.display(),
            queries.dim()
        );
        ensure!(
            (1..=base.rows()).contains(&k),
            "k is {k}, must be 1 to {} (the rows of {})",
            base.rows(),
            base_path.display()
        );
        let truth = match truth {
            None => exact(&base, &queries, metric, k)?,
            Some(path) => read_truth(path, base.rows(), queries.rows(), k)?,
        };
        Ok(Self { base, queries, truth })
    }
}

/// A matrix of at least one row and one column of finite numbers.
pub fn read_vectors(path: &Path) -> Result<Matrix> {
    let matrix = eas_data::npy::read_f32(path)?;
    ensure!(
        matrix.rows() > 0 && matrix.dim() > 0,
        "{} has shape ({}, {}): there is nothing to search",
        path.display(),
        matrix.rows(),
        matrix.dim()
    );
    matrix.check_finite().with_context(|| format!("reading {}", path.display()))?;
    Ok(matrix)
}

fn read_truth(path: &Path, rows: usize, queries: usize, k: usize) -> Result<Vec<Vec<u64>>> {
    let mut truth = eas_data::npy::read_ids(path)?;
    ensure!(truth.len() == queries, "{} has {} rows for {queries} queries", path.display(), truth.len());
    for (at, ids) in truth.iter_mut().enumerate() {
        ensure!(ids.len() >= k, "{} has {} neighbours a query, {k} are needed", path.display(), ids.len());
        ids.truncate(k);
        if let Some(id) = ids.iter().find(|&&id| id >= rows as u64) {
            bail!("{}, row {at}: id {id}, but there are {rows} vectors", path.display());
        }
    }
    Ok(truth)
}

/// The true `k` nearest rows of `base` for each query, by comparing with all of them.
pub fn exact(base: &Matrix, queries: &Matrix, metric: Metric, k: usize) -> Result<Vec<Vec<u64>>> {
    let mut flat = FlatIndex::new(base.dim(), metric)?;
    flat.add(&(0..base.rows() as u64).collect::<Vec<_>>(), base)?;
    Ok(flat.search_batch(queries, k)?.iter().map(|hits| hits.iter().map(|hit| hit.id).collect()).collect())
}

/// An index that is built and waits for queries.
#[derive(Debug)]
pub struct Subject {
    kind: Kind,
    index: Index,
    /// Seconds that the build took.
    pub build_s: f64,
}

#[derive(Debug)]
enum Index {
    Flat(FlatIndex),
    Hnsw(Box<Hnsw>),
    Graph(Box<QuantizedGraph>),
    Ivfpq(Box<IvfPq>),
    Disk {
        index: Box<MappedHnsw>,
        bytes: usize,
        /// Deleted with the index.
        _folder: tempfile::TempDir,
    },
}

impl Subject {
    /// Builds the index with `threads` threads (0: all of the machine's).
    pub fn build(kind: Kind, build: Build, base: &Matrix, metric: Metric, threads: usize) -> Result<Self> {
        let ids: Vec<u64> = (0..base.rows() as u64).collect();
        let started = Instant::now();
        let index = pool(threads)?.install(|| -> Result<Index> {
            Ok(match kind {
                Kind::Flat => {
                    let mut index = FlatIndex::new(base.dim(), metric)?;
                    index.add(&ids, base)?;
                    Index::Flat(index)
                }
                Kind::Hnsw => Index::Hnsw(Box::new(hnsw(build, base, metric, &ids)?)),
                Kind::Graph => {
                    let (degree, ef_construction, seed) = (build.degree, build.ef_construction, build.seed);
                    let config =
                        QuantizedGraphConfig { degree, ef_construction, seed, ..QuantizedGraphConfig::default() };
                    let mut index = QuantizedGraph::new(base.dim(), metric, config)?;
                    index.add(&ids, base)?;
                    Index::Graph(Box::new(index))
                }
                Kind::Ivfpq => {
                    let config = ivfpq_config(build, base);
                    let mut index = IvfPq::train(base, metric, config)?;
                    index.add(&ids, base)?;
                    Index::Ivfpq(Box::new(index))
                }
                Kind::Disk => {
                    let folder = tempfile::tempdir().context("making a folder for the index")?;
                    let path = folder.path().join("graph");
                    MappedHnsw::write(&hnsw(build, base, metric, &ids)?, &path)?;
                    Index::Disk {
                        index: Box::new(MappedHnsw::open(&path)?),
                        bytes: std::fs::metadata(&path).context("looking at the index")?.len() as usize,
                        _folder: folder,
                    }
                }
            })
        })?;
        Ok(Self { kind, index, build_s: started.elapsed().as_secs_f64() })
    }

    /// Bytes of the index without the table from id to row: what a file of it holds.
    pub fn bytes(&self) -> usize {
        match &self.index {
            Index::Flat(index) => index.bytes(),
            Index::Hnsw(index) => {
                let bytes = index.bytes();
                bytes.vectors + bytes.links + bytes.bookkeeping
            }
            Index::Graph(index) => index.bytes(),
            Index::Ivfpq(index) => {
                let bytes = index.bytes();
                bytes.codes + bytes.codebooks + bytes.centres + bytes.ids + bytes.vectors
            }
            Index::Disk { bytes, .. } => *bytes,
        }
    }

    fn set(&mut self, par: usize) -> Result<()> {
        match &mut self.index {
            Index::Flat(_) => {}
            Index::Hnsw(index) => index.set_ef(par)?,
            Index::Graph(index) => index.set_ef(par)?,
            Index::Ivfpq(index) => index.set_nprobe(par)?,
            // Its beam is an argument of the search.
            Index::Disk { .. } => ensure!(par > 0, "ef is 0, must be at least 1"),
        }
        Ok(())
    }

    fn searcher(&self) -> &dyn VectorIndex {
        match &self.index {
            Index::Flat(index) => index,
            Index::Hnsw(index) => index.as_ref(),
            Index::Graph(index) => index.as_ref(),
            Index::Ivfpq(index) => index.as_ref(),
            Index::Disk { index, .. } => index.as_ref(),
        }
    }

    /// Answers all queries once with the search parameter `par`, in `pool`.
    pub fn measure(&mut self, task: &Task, par: usize, k: usize, pool: &rayon::ThreadPool) -> Result<Point> {
        self.set(par)?;
        let queries = &task.queries;
        let (found, seconds) = pool.install(|| {
            let started = Instant::now();
            let found = match &self.index {
                Index::Disk { index, .. } => (0..queries.rows())
                    .into_par_iter()
                    .map(|row| Ok(index.search_counted(queries.row(row), k, par, None)?.0))
                    .collect(),
                _ => self.searcher().search_batch(queries, k),
            };
            (found, started.elapsed().as_secs_f64())
        });
        let found = found?;
        let hits: usize = task
            .truth
            .iter()
            .zip(&found)
            .map(|(truth, found)| truth.iter().filter(|&&id| found.iter().any(|hit| hit.id == id)).count())
            .sum();
        Ok(Point {
            lib: "ours",
            index: self.kind.name(),
            par,
            recall: hits as f64 / (task.truth.len() * k) as f64,
            qps: task.queries.rows() as f64 / seconds,
            build_s: self.build_s,
            bytes_per_vector: self.bytes() as f64 / task.base.rows() as f64,
        })
    }
}

fn hnsw(build: Build, base: &Matrix, metric: Metric, ids: &[u64]) -> Result<Hnsw> {
    let config =
        HnswConfig { m: build.m, ef_construction: build.ef_construction, seed: build.seed, ..HnswConfig::default() };
    let mut index = Hnsw::new(base.dim(), metric, config)?;
    index.add(ids, base)?;
    Ok(index)
}

fn ivfpq_config(build: Build, base: &Matrix) -> IvfPqConfig {
    let or = |given: usize, otherwise: usize| if given == 0 { otherwise } else { given };
    let lists = (4.0 * (base.rows() as f64).sqrt()) as usize;
    let defaults = IvfPqConfig::default();
    IvfPqConfig {
        ivf: IvfConfig { lists: or(build.lists, lists.clamp(1, base.rows())), seed: build.seed, ..defaults.ivf },
        subspaces: or(build.subspaces, base.dim().div_ceil(2)),
        bits: build.bits,
        rerank: build.rerank,
        opq_iterations: build.opq_iterations,
        ..defaults
    }
}

/// A pool of `threads` threads; 0 means all of the machine's.
pub fn pool(threads: usize) -> Result<rayon::ThreadPool> {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().context("starting the threads")
}

/// What one pass over the queries showed.
#[derive(Clone, Debug, Serialize)]
pub struct Point {
    /// Always `ours`.
    pub lib: &'static str,
    /// The kind of index.
    pub index: &'static str,
    /// The search parameter: `ef` or `nprobe`.
    pub par: usize,
    /// Share of the true neighbours that were found.
    pub recall: f64,
    /// Queries a second.
    pub qps: f64,
    /// Seconds of the build.
    pub build_s: f64,
    /// Bytes of the index by the number of vectors.
    pub bytes_per_vector: f64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use eas_data::synth::vectors::{clustered, clustered_queries};
    use std::path::PathBuf;

    const BUILD: Build = Build {
        m: 8,
        degree: 32,
        ef_construction: 60,
        lists: 0,
        subspaces: 0,
        bits: 4,
        rerank: 50,
        opq_iterations: 0,
        seed: 1,
    };

    fn files() -> (tempfile::TempDir, PathBuf, PathBuf, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let (base, queries, truth) = (path("b.npy"), path("q.npy"), path("gt.npy"));
        let (vectors, asked) = (clustered(500, 16, 10, 0.5), clustered_queries(20, 16, 10, 0.5));
        eas_data::npy::write_f32(&base, &vectors).unwrap();
        eas_data::npy::write_f32(&queries, &asked).unwrap();
        eas_data::npy::write_ids(&truth, &exact(&vectors, &asked, Metric::Dot, 20).unwrap()).unwrap();
        (folder, base, queries, truth)
    }

    #[test]
    fn flat_finds_everything_and_the_others_more_with_more_work() {
        let (_folder, base, queries, truth) = files();
        let given = Task::read(&base, &queries, Some(&truth), Metric::Dot, 10).unwrap();
        let computed = Task::read(&base, &queries, None, Metric::Dot, 10).unwrap();
        assert_eq!(given.truth, computed.truth);
        let one = pool(1).unwrap();
        let mut flat = Subject::build(Kind::Flat, BUILD, &given.base, Metric::Dot, 1).unwrap();
        let point = flat.measure(&given, 0, 10, &one).unwrap();
        assert_eq!((point.recall, point.bytes_per_vector), (1.0, 16.0 * 4.0 + 8.0));
        for (kind, pars) in [(Kind::Hnsw, [10, 200]), (Kind::Ivfpq, [1, 60]), (Kind::Disk, [10, 200])] {
            let mut index = Subject::build(kind, BUILD, &given.base, Metric::Dot, 1).unwrap();
            let points = pars.map(|par| index.measure(&given, par, 10, &one).unwrap());
            let recalls = points.map(|point| point.recall);
            assert!(recalls[0] <= recalls[1] && recalls[1] > 0.95, "{kind:?}: {recalls:?}");
            assert!(index.bytes() > 500 * 16, "{kind:?}: {}", index.bytes());
            assert!(index.measure(&given, 0, 10, &one).is_err());
        }
    }

    #[test]
    fn files_that_do_not_fit_are_named() {
        let (folder, base, queries, truth) = files();
        let refusal = |base: &Path, queries: &Path, truth: Option<&Path>, k| {
            format!("{:#}", Task::read(base, queries, truth, Metric::Dot, k).unwrap_err())
        };
        let path = |name: &str| folder.path().join(name);
        let write = |name: &str, matrix: &Matrix| {
            eas_data::npy::write_f32(path(name), matrix).unwrap();
            path(name)
        };
        assert!(refusal(&path("absent.npy"), &queries, None, 10).contains("absent.npy"));
        let narrow = write("narrow.npy", &Matrix::zeros(3, 8));
        assert!(refusal(&base, &narrow, None, 10).contains("of dimension 8"));
        let empty = write("empty.npy", &Matrix::zeros(0, 16));
        assert!(refusal(&empty, &queries, None, 10).contains("shape (0, 16)"));
        let mut holes = Matrix::zeros(2, 16);
        holes.row_mut(1)[3] = f32::NAN;
        let holes = write("holes.npy", &holes);
        let text = refusal(&holes, &queries, None, 1);
        assert!(text.contains("holes.npy") && text.contains("NaN"), "{text}");
        assert!(refusal(&base, &queries, None, 501).contains("k is 501"));
        assert!(refusal(&base, &queries, Some(&truth), 21).contains("20 neighbours"));
        assert!(refusal(&base, &queries, Some(&queries), 10).contains("<f4"));
        eas_data::npy::write_ids(&truth, &vec![vec![500; 10]; 20]).unwrap();
        assert!(refusal(&base, &queries, Some(&truth), 10).contains("id 500"));
        eas_data::npy::write_ids(&truth, &[vec![5; 10]]).unwrap();
        assert!(refusal(&base, &queries, Some(&truth), 10).contains("1 rows for 20 queries"));
        std::fs::write(path("text.npy"), "no array").unwrap();
        assert!(refusal(&path("text.npy"), &queries, None, 1).contains("magic"));
    }
}
