//! Five families of indexes over the same vectors, each over its parameter: what listing 3.5 compares.

use std::time::{Duration, Instant};

use eas_ann::{
    AnnError, FlatIndex, Hit, Hnsw, HnswConfig, IvfConfig, IvfIndex, IvfPq, IvfPqConfig, Lsh, LshConfig, Metric,
    SearchStats, VectorIndex, recall,
};
use eas_tensor::Matrix;

const K: usize = 10;
const L2: Metric = Metric::SquaredL2;

/// One index at one setting.
#[derive(Debug, Clone)]
pub struct Entry {
    /// flat, IVF, HNSW, LSH or PQ.
    pub family: &'static str,
    /// The parameter that was varied.
    pub setting: String,
    /// Time to train and fill.
    pub build: Duration,
    /// Bytes of vectors or codes and of what finds them; ids only where the index cannot do without.
    pub bytes: usize,
    /// Distances and codes evaluated a query, mean.
    pub evaluations: f64,
    /// Recall@10.
    pub recall: f64,
    /// Time of each query, sorted.
    pub times: Vec<Duration>,
}

type Search<'a> = dyn Fn(&[f32]) -> Result<(Vec<Hit>, SearchStats), AnnError> + 'a;

/// Every family over its parameter, on the rows of `vectors` under ids `0..n`; `short` leaves out the
/// longer hash keys and trains codebooks on less.
pub fn shootout(vectors: &Matrix, queries: &Matrix, seed: u64, short: bool) -> anyhow::Result<Vec<Entry>> {
    let ids: Vec<u64> = (0..vectors.rows() as u64).collect();
    let mut flat = FlatIndex::new(vectors.dim(), L2)?;
    let build = timed(|| flat.add(&ids, vectors))?;
    let truth = flat.search_batch(queries, K)?;
    let mut entries = Vec::new();
    let mut add = |family, setting: String, build, bytes, search: &Search<'_>| -> anyhow::Result<()> {
        entries.push(measure(family, setting, build, bytes, queries, &truth, search)?);
        Ok(())
    };
    add("flat", "all".into(), build, flat.bytes() - 8 * ids.len(), &|q| flat.search_counted(q, K, &|_| true))?;

    let config = IvfConfig { lists: 128, max_iter: 20, seed, ..IvfConfig::default() };
    let start = Instant::now();
    let mut ivf = IvfIndex::train(vectors, L2, config)?;
    ivf.add(&ids, vectors)?;
    let build = start.elapsed();
    for nprobe in [1, 4, 8, 16, 128] {
        add("IVF", format!("nprobe {nprobe}"), build, ivf.bytes(), &|q| {
            ivf.search_counted(q, K, Some(nprobe), &|_| true)
        })?;
    }

    let config = HnswConfig { ef_construction: 100, seed, ..HnswConfig::default() };
    let mut hnsw = Hnsw::new(vectors.dim(), L2, config)?;
    let build = timed(|| hnsw.add(&ids, vectors))?;
    let bytes = hnsw.bytes();
    for ef in [16, 64, 128] {
        let bytes = bytes.vectors + bytes.links + bytes.bookkeeping;
        add("HNSW", format!("ef {ef}"), build, bytes, &|q| graph(&hnsw, q, ef))?;
    }

    for (tables, bits) in [(8, 8), (16, 8), (16, 12), (32, 12)] {
        if short && bits == 12 {
            continue;
        }
        let mut lsh = Lsh::new(vectors.dim(), L2, LshConfig { tables, bits, seed })?;
        let build = timed(|| lsh.add(&ids, vectors))?;
        add("LSH", format!("{tables} tables x {bits} bits"), build, lsh.bytes(), &|q| {
            lsh.search_counted(q, K, &|_| true)
        })?;
    }

    for m in [8, 16] {
        // One list and no residuals: a plain product quantizer.
        let config = IvfPqConfig {
            ivf: IvfConfig {
                lists: 1,
                nprobe: 1,
                sample: if short { 5_000 } else { vectors.rows() },
                seed,
                ..IvfConfig::default()
            },
            subspaces: m,
            by_residual: false,
            iterations: if short { 6 } else { 12 },
            ..IvfPqConfig::default()
        };
        let start = Instant::now();
        let mut pq = IvfPq::train(vectors, L2, config)?;
        pq.add(&ids, vectors)?;
        let bytes = pq.bytes().codes + pq.bytes().codebooks;
        add("PQ", format!("m {m}"), start.elapsed(), bytes, &|q| pq.search_counted(q, K, None, &|_| true))?;
    }
    Ok(entries)
}

/// One setting of the families whose work depends on the collection's size.
pub fn grown(vectors: &Matrix, queries: &Matrix, seed: u64) -> anyhow::Result<Vec<Entry>> {
    let ids: Vec<u64> = (0..vectors.rows() as u64).collect();
    let none = Duration::ZERO;
    let mut flat = FlatIndex::new(vectors.dim(), L2)?;
    flat.add(&ids, vectors)?;
    let truth = flat.search_batch(queries, K)?;
    let config =
        IvfConfig { lists: (vectors.rows() as f64).sqrt() as usize, max_iter: 10, seed, ..IvfConfig::default() };
    let mut ivf = IvfIndex::train(vectors, L2, config)?;
    ivf.add(&ids, vectors)?;
    let config = HnswConfig { ef_construction: 60, seed, ..HnswConfig::default() };
    let mut hnsw = Hnsw::new(vectors.dim(), L2, config)?;
    hnsw.add(&ids, vectors)?;
    let measure =
        |family, setting: &str, search: &Search<'_>| measure(family, setting.into(), none, 0, queries, &truth, search);
    Ok(vec![
        measure("flat", "all", &|q| flat.search_counted(q, K, &|_| true))?,
        measure("IVF", "sqrt(n) lists, nprobe 8", &|q| ivf.search_counted(q, K, Some(8), &|_| true))?,
        measure("HNSW", "ef 64", &|q| graph(&hnsw, q, 64))?,
    ])
}

fn graph(hnsw: &Hnsw, query: &[f32], ef: usize) -> Result<(Vec<Hit>, SearchStats), AnnError> {
    let (hits, cost) = hnsw.search_counted(query, K, ef, &|_| true)?;
    let stats = SearchStats { distance_evaluations: cost.distance_evaluations, ..SearchStats::default() };
    Ok((hits, stats))
}

fn timed<E>(work: impl FnOnce() -> Result<(), E>) -> Result<Duration, E> {
    let start = Instant::now();
    work().map(|()| start.elapsed())
}

/// Runs the queries one by one.
fn measure(
    family: &'static str,
    setting: String,
    build: Duration,
    bytes: usize,
    queries: &Matrix,
    truth: &[Vec<Hit>],
    search: &Search<'_>,
) -> anyhow::Result<Entry> {
    let (mut found, mut times, mut cost) = (Vec::new(), Vec::new(), SearchStats::default());
    for query in queries.iter_rows() {
        let start = Instant::now();
        let (hits, stats) = search(query)?;
        times.push(start.elapsed());
        cost += stats;
        found.push(hits);
    }
    times.sort_unstable();
    Ok(Entry {
        family,
        setting,
        build,
        bytes,
        evaluations: (cost.distance_evaluations + cost.codes_scanned) as f64 / queries.rows() as f64,
        recall: recall(&found, truth),
        times,
    })
}
