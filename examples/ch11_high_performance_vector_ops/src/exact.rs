//! Exact scans over one collection, each timed and its work counted: what listing 11.1 compares.

use std::time::{Duration, Instant};

use eas_ann::pruned::{Bound, DimOrder, Int8Screen, PrunedFlat, scan};
use eas_ann::{AnnError, FlatIndex, Hit, Metric, VectorIndex};
use eas_data::synth::unit_cube;
use eas_tensor::Matrix;

/// Values of a vector.
pub const DIM: usize = 64;
/// Neighbours asked for.
pub const K: usize = 10;
/// Dimensions between two looks at the bound.
pub const BLOCK: usize = 16;
/// Four ways to end a product early.
pub const VARIANTS: [(&str, Bound, DimOrder); 4] = [
    ("largest contribution, natural order", Bound::MaxContribution, DimOrder::Natural),
    ("largest contribution, query's order", Bound::MaxContribution, DimOrder::QueryWeighted),
    ("Cauchy-Schwarz, natural order", Bound::CauchySchwarz, DimOrder::Natural),
    ("Cauchy-Schwarz, corpus order", Bound::CauchySchwarz, DimOrder::MaxContribution),
];

/// `n` unit vectors, as they come or with component `j` divided by `j + 1` first.
pub fn world(seed: u64, n: usize, skewed: bool) -> Matrix {
    let mut vectors = unit_cube(seed, n, DIM);
    if skewed {
        for i in 0..n {
            for (j, x) in vectors.row_mut(i).iter_mut().enumerate() {
                *x /= (j + 1) as f32;
            }
        }
        vectors.normalize_rows();
    }
    vectors
}

/// One way to scan.
#[derive(Debug, Clone)]
pub struct Scan {
    /// What is done.
    pub name: &'static str,
    /// Time a query.
    pub time: Duration,
    /// Share of the multiplications of a full scan.
    pub work: f64,
    /// Share of the vectors multiplied to the end.
    pub whole: f64,
    /// Whether ids (and, where sums are in f64, scores) are those of brute force.
    pub identical: bool,
    /// Dimensions read of each vector for the first query; empty for a scan that reads all.
    pub dims_read: Vec<u32>,
}

/// Runs every scan over the same vectors and queries. The third is the second in a batch, and equal to it to the bit.
pub fn all_scans(corpus: &Matrix, queries: &Matrix) -> Result<Vec<Scan>, AnnError> {
    let count = queries.rows() as f64;
    let products = count * corpus.rows() as f64;
    let brute: Vec<Vec<Hit>> = queries.iter_rows().map(|q| scan(corpus, q, K)).collect::<Result<_, _>>()?;
    let ids: Vec<u64> = (0..corpus.rows() as u64).collect();
    let mut flat = FlatIndex::new(corpus.dim(), Metric::Dot)?;
    flat.add(&ids, corpus)?;
    let full = |name, time: Duration, found: &[Vec<Hit>]| Scan {
        name,
        time: time.div_f64(count),
        work: 1.0,
        whole: 1.0,
        identical: same_ids(found, &brute),
        dims_read: Vec::new(),
    };
    let start = Instant::now();
    let naive: Vec<Vec<Hit>> = queries.iter_rows().map(|q| one_by_one(corpus, q)).collect();
    let mut scans = vec![full("one multiplication at a time", start.elapsed(), &naive)];
    let start = Instant::now();
    let single: Vec<Vec<Hit>> = queries.iter_rows().map(|q| flat.search(q, K)).collect::<Result<_, _>>()?;
    scans.push(full("vector units", start.elapsed(), &single));
    let start = Instant::now();
    let batch = flat.search_batch(queries, K)?;
    let mut batched = full("vector units, queries in blocks", start.elapsed(), &batch);
    batched.identical &= batch == single;
    scans.push(batched);

    for (name, bound, order) in VARIANTS {
        let pruned = PrunedFlat::new(corpus, BLOCK, bound, order)?;
        let start = Instant::now();
        let found: Vec<_> = queries.iter_rows().map(|q| pruned.search(q, K)).collect::<Result<_, _>>()?;
        let time = start.elapsed();
        let read: u64 = found.iter().map(|f| f.stats.values_read).sum();
        let whole: u64 = found.iter().map(|f| f.stats.distance_evaluations).sum();
        scans.push(Scan {
            name,
            time: time.div_f64(count),
            work: read as f64 / products / corpus.dim() as f64,
            whole: whole as f64 / products,
            identical: found.iter().zip(&brute).all(|(found, brute)| found.hits == *brute),
            dims_read: found.into_iter().next().map_or_else(Vec::new, |first| first.dims_read),
        });
    }
    let screen = Int8Screen::new(corpus)?;
    let start = Instant::now();
    let found: Vec<_> = queries.iter_rows().map(|q| screen.search(q, K)).collect::<Result<_, _>>()?;
    let time = start.elapsed();
    let whole: u64 = found.iter().map(|f| f.stats.distance_evaluations).sum();
    scans.push(Scan {
        name: "8-bit screen",
        time: time.div_f64(count),
        work: whole as f64 / products,
        whole: whole as f64 / products,
        identical: found.iter().zip(&brute).all(|(found, brute)| found.hits == *brute),
        dims_read: Vec::new(),
    });
    Ok(scans)
}

/// What a scan costs without vector units and without a heap.
fn one_by_one(corpus: &Matrix, query: &[f32]) -> Vec<Hit> {
    let score = |row: &[f32]| query.iter().zip(row).fold(0.0, |sum, (a, b)| sum + a * b);
    let scored = corpus.iter_rows().zip(0..);
    let mut hits: Vec<Hit> = scored.map(|(row, id)| Hit { id, score: score(row) }).collect();
    hits.sort_by(|a, b| Metric::Dot.best_first(a, b));
    hits.truncate(K);
    hits
}

fn same_ids(a: &[Vec<Hit>], b: &[Vec<Hit>]) -> bool {
    a.iter().flatten().map(|hit| hit.id).eq(b.iter().flatten().map(|hit| hit.id))
}
