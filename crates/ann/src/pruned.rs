//! Exact search that does less than all the work, and still loses no neighbour: [`PrunedFlat`] stops multiplying when a bound says
//! that a vector can't be among the best any more (the threshold idea of Fagin's algorithms, here over dimensions), [`Int8Screen`]
//! multiplies in 8 bits and looks at the few full vectors that the rounding error leaves in question.
//!
//! Both are fixed collections under ids `0..n`, compared by dot product in f64 sums of the f32 values, ties by lower id.

use eas_tensor::{Matrix, kernels};

use crate::AnnError;
use crate::index::{Hit, SearchStats};

/// How the rest of a dot product is bounded from above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// `sum |q_j| max_i |x_ij|` over the dimensions left: one number a block for the whole collection.
    MaxContribution,
    /// `|q| |x|` over the dimensions left (Cauchy and Schwarz): needs the norms of every vector's ends.
    CauchySchwarz,
}

/// In which order the dimensions are multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DimOrder {
    /// As they come.
    Natural,
    /// Those with the largest values in the collection first.
    MaxContribution,
    /// Those with the largest `|q_j| max_i |x_ij|` first: another order for every query.
    QueryWeighted,
}

/// What one pruned search did.
#[derive(Debug, Clone, PartialEq)]
pub struct PrunedSearch {
    /// The `k` best, best first.
    pub hits: Vec<Hit>,
    /// Multiplications of the dot products in `values_read`, vectors multiplied to the end in `distance_evaluations`.
    pub stats: SearchStats,
    /// Dimensions multiplied, one entry a vector.
    pub dims_read: Vec<u32>,
}

/// A collection that is scanned in blocks of dimensions, each vector until a bound rules it out.
#[derive(Debug, Clone)]
pub struct PrunedFlat {
    /// Columns as multiplied: natural order or that of the largest values; for [`DimOrder::QueryWeighted`] as they come.
    vectors: Matrix,
    /// `columns[j]` is the dimension of the query that column `j` belongs to.
    columns: Vec<usize>,
    block: usize,
    bound: Bound,
    order: DimOrder,
    /// `max_i |x_ij|` by column.
    largest: Vec<f32>,
    /// For Cauchy-Schwarz, norms of what is left of each vector at each block border; shape `(n, blocks)`. Empty for
    /// [`DimOrder::QueryWeighted`], where they depend on the query.
    rests: Vec<f32>,
}

impl PrunedFlat {
    /// Prepares the rows of `corpus` for dot products in blocks of `block` dimensions.
    pub fn new(corpus: &Matrix, block: usize, bound: Bound, order: DimOrder) -> Result<Self, AnnError> {
        if block == 0 {
            return Err(AnnError::parameter("block", &0, "at least 1"));
        }
        corpus.check_finite()?;
        let dim = corpus.dim();
        let mut largest = vec![0.0f32; dim];
        for row in corpus.iter_rows() {
            largest.iter_mut().zip(row).for_each(|(m, x)| *m = m.max(x.abs()));
        }
        let mut columns: Vec<usize> = (0..dim).collect();
        if order == DimOrder::MaxContribution {
            columns.sort_by(|&a, &b| largest[b].total_cmp(&largest[a]));
        }
        let mut vectors = corpus.clone();
        for (i, row) in corpus.iter_rows().enumerate() {
            vectors.row_mut(i).iter_mut().zip(&columns).for_each(|(to, &j)| *to = row[j]);
        }
        let largest = columns.iter().map(|&j| largest[j]).collect();
        let mut rests = Vec::new();
        if bound == Bound::CauchySchwarz && order != DimOrder::QueryWeighted {
            rests.extend(vectors.iter_rows().flat_map(|row| rest_norms(row.iter().copied(), block)));
        }
        Ok(Self { vectors, columns, block, bound, order, largest, rests })
    }

    /// The `k` rows of greatest dot product with `query`: the same as a full scan finds.
    ///
    /// Rows are visited by id; the first `k` fill the heap. A row is dropped when its partial product plus the bound of the rest is below
    /// the worst of the `k` best so far.
    pub fn search(&self, query: &[f32], k: usize) -> Result<PrunedSearch, AnnError> {
        let dim = self.vectors.dim();
        check_query(query, dim)?;
        // Positions of the columns in the order of this query, and the query in that order.
        let mut order: Vec<usize> = (0..dim).collect();
        let weight = |j: usize| query[self.columns[j]].abs() * self.largest[j];
        if self.order == DimOrder::QueryWeighted {
            order.sort_by(|&a, &b| weight(b).total_cmp(&weight(a)));
        }
        let permuted: Vec<f32> = order.iter().map(|&j| query[self.columns[j]]).collect();
        let blocks = dim.div_ceil(self.block);
        let query_rests = rest_norms(permuted.iter().copied(), self.block);
        let mut contribution = vec![0.0f64; blocks];
        let mut sum = 0.0;
        for nth in (0..blocks).rev() {
            contribution[nth] = sum;
            let here = order[nth * self.block..dim.min((nth + 1) * self.block)].iter();
            sum += here.map(|&j| f64::from(query[self.columns[j]].abs()) * f64::from(self.largest[j])).sum::<f64>();
        }
        let mut best = Best::new(k);
        let (mut stats, mut dims_read) = (SearchStats::default(), Vec::with_capacity(self.vectors.rows()));
        let mut gathered = vec![0.0; dim];
        for (i, row) in self.vectors.iter_rows().enumerate() {
            let row = if self.order == DimOrder::QueryWeighted {
                gathered.iter_mut().zip(&order).for_each(|(to, &j)| *to = row[j]);
                gathered.as_slice()
            } else {
                row
            };
            let rests = match self.bound {
                Bound::MaxContribution => Vec::new(),
                Bound::CauchySchwarz if self.rests.is_empty() => rest_norms(row.iter().copied(), self.block),
                Bound::CauchySchwarz => self.rests[i * blocks..(i + 1) * blocks].to_vec(),
            };
            let (mut product, mut read, mut pruned) = (0.0f64, 0, false);
            for nth in 0..blocks {
                let end = dim.min(read + self.block);
                product += dot_f64(&permuted[read..end], &row[read..end]);
                read = end;
                let rest = match self.bound {
                    Bound::MaxContribution => contribution[nth],
                    Bound::CauchySchwarz => f64::from(query_rests[nth]) * f64::from(rests[nth]),
                };
                // The last block leaves nothing to bound; the sums' own rounding is far below this slack.
                if read < dim && product + rest + 1e-9 * rest.abs().max(1.0) < best.threshold() {
                    pruned = true;
                    break;
                }
            }
            dims_read.push(read as u32);
            stats.values_read += read as u64;
            stats.bytes_read += 4 * read as u64;
            if !pruned {
                stats.distance_evaluations += 1;
                // The sum in the natural order, so that all variants give the same bits.
                best.push(i, self.natural_product(query, i));
            }
        }
        Ok(PrunedSearch { hits: best.into_hits(), stats, dims_read })
    }

    fn natural_product(&self, query: &[f32], row: usize) -> f64 {
        if self.order != DimOrder::MaxContribution {
            return dot_f64(query, self.vectors.row(row));
        }
        let mut natural = vec![0.0; query.len()];
        for (&j, &x) in self.columns.iter().zip(self.vectors.row(row)) {
            natural[j] = x;
        }
        dot_f64(query, &natural)
    }
}

/// A full scan in the arithmetic of this module: what the pruned searches must equal.
pub fn scan(corpus: &Matrix, query: &[f32], k: usize) -> Result<Vec<Hit>, AnnError> {
    check_query(query, corpus.dim())?;
    let mut best = Best::new(k);
    for (i, row) in corpus.iter_rows().enumerate() {
        best.push(i, dot_f64(query, row));
    }
    Ok(best.into_hits())
}

/// What one screened search did.
#[derive(Debug, Clone, PartialEq)]
pub struct ScreenedSearch {
    /// The `k` best, best first.
    pub hits: Vec<Hit>,
    /// Full products in `distance_evaluations`, products of codes in `codes_scanned`.
    pub stats: SearchStats,
}

/// A collection with a copy in 8 bits and the rounding error of each row.
#[derive(Debug, Clone)]
pub struct Int8Screen {
    vectors: Matrix,
    codes: Vec<i8>,
    /// Value of one step of a row: its largest magnitude / 127.
    scales: Vec<f32>,
    /// `|x - scale * code|`.
    residuals: Vec<f32>,
    /// `|scale * code|`.
    norms: Vec<f32>,
}

impl Int8Screen {
    /// Codes the rows of `corpus` with one scale each.
    pub fn new(corpus: &Matrix) -> Result<Self, AnnError> {
        corpus.check_finite()?;
        let mut screen = Self {
            vectors: corpus.clone(),
            codes: Vec::with_capacity(corpus.as_slice().len()),
            scales: Vec::new(),
            residuals: Vec::new(),
            norms: Vec::new(),
        };
        for row in corpus.iter_rows() {
            let coded = Coded::new(row);
            screen.codes.extend_from_slice(&coded.levels);
            screen.scales.push(coded.scale);
            screen.residuals.push(coded.residual);
            screen.norms.push(coded.norm);
        }
        Ok(screen)
    }

    /// The product of the 8-bit forms of `query` and of each row, and how far it can be from the product of the full vectors:
    /// `r_x |q| + r_q |x^|`, since `q.x - q^.x^ = q.(x - x^) + (q - q^).x^`.
    pub fn estimates(&self, query: &[f32]) -> Result<Vec<(f64, f64)>, AnnError> {
        let dim = self.vectors.dim();
        check_query(query, dim)?;
        let coded = Coded::new(query);
        let norm = dot_f64(query, query).sqrt();
        let estimate = |i: usize| {
            let product = kernels::dot_i8(&coded.levels, &self.codes[i * dim..(i + 1) * dim]);
            let score = f64::from(coded.scale) * f64::from(self.scales[i]) * f64::from(product);
            let error = f64::from(self.residuals[i]) * norm + f64::from(coded.residual) * f64::from(self.norms[i]);
            // Residuals and norms are stored as f32.
            (score, error * (1.0 + 1e-6) + 1e-12)
        };
        Ok((0..self.vectors.rows()).map(estimate).collect())
    }

    /// The `k` rows of greatest dot product with `query`: the same as a full scan finds.
    ///
    /// Candidates are visited by falling upper bound (8-bit product plus its error) and multiplied in full until the next upper bound is
    /// below the worst of the `k` best.
    pub fn search(&self, query: &[f32], k: usize) -> Result<ScreenedSearch, AnnError> {
        let upper: Vec<f64> = self.estimates(query)?.into_iter().map(|(score, error)| score + error).collect();
        let dim = self.vectors.dim();
        let mut stats = SearchStats {
            codes_scanned: upper.len() as u64,
            bytes_read: (upper.len() * (dim + 12)) as u64,
            ..SearchStats::default()
        };
        let mut best = Best::new(k);
        // A heap, because only a few of the candidates are ever taken.
        let by_bound = |(i, bound): (usize, &f64)| (OrderedBound(*bound), std::cmp::Reverse(i));
        let mut queue: std::collections::BinaryHeap<_> = upper.iter().enumerate().map(by_bound).collect();
        while let Some((OrderedBound(bound), std::cmp::Reverse(i))) = queue.pop() {
            if k == 0 || bound < best.threshold() {
                break;
            }
            stats.full_distances(1, dim);
            best.push(i, dot_f64(query, self.vectors.row(i)));
        }
        Ok(ScreenedSearch { hits: best.into_hits(), stats })
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct OrderedBound(f64);

impl Eq for OrderedBound {}

impl Ord for OrderedBound {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for OrderedBound {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// A vector in 8 bits.
struct Coded {
    levels: Vec<i8>,
    scale: f32,
    residual: f32,
    norm: f32,
}

impl Coded {
    fn new(row: &[f32]) -> Self {
        let scale = row.iter().fold(0.0f32, |m, x| m.max(x.abs())) / 127.0;
        let level = |x: &f32| if scale > 0.0 { (x / scale).round() as i8 } else { 0 };
        let levels: Vec<i8> = row.iter().map(level).collect();
        let step = f64::from(scale);
        let errors = row.iter().zip(&levels).map(|(x, l)| (f64::from(*x) - step * f64::from(*l)).powi(2));
        let squares = levels.iter().map(|l| (step * f64::from(*l)).powi(2));
        Self { residual: errors.sum::<f64>().sqrt() as f32, norm: squares.sum::<f64>().sqrt() as f32, levels, scale }
    }
}

/// The `k` best of f64 scores; ranks as [`eas_tensor::topk::TopK`] but in full precision.
struct Best {
    k: usize,
    worst_first: std::collections::BinaryHeap<std::cmp::Reverse<(OrderedBound, std::cmp::Reverse<usize>)>>,
}

impl Best {
    fn new(k: usize) -> Self {
        Self { k, worst_first: std::collections::BinaryHeap::new() }
    }

    /// The score below which nothing is accepted any more.
    fn threshold(&self) -> f64 {
        match self.worst_first.peek() {
            Some(worst) if self.worst_first.len() == self.k => worst.0.0.0,
            _ => f64::NEG_INFINITY,
        }
    }

    fn push(&mut self, id: usize, score: f64) {
        let item = std::cmp::Reverse((OrderedBound(score), std::cmp::Reverse(id)));
        if self.worst_first.len() < self.k {
            self.worst_first.push(item);
        } else if let Some(mut worst) = self.worst_first.peek_mut()
            && item < *worst
        {
            *worst = item;
        }
    }

    fn into_hits(self) -> Vec<Hit> {
        let sorted = self.worst_first.into_sorted_vec();
        let hit = |std::cmp::Reverse((OrderedBound(score), std::cmp::Reverse(id)))| Hit {
            id: id as u64,
            score: score as f32,
        };
        sorted.into_iter().map(hit).collect()
    }
}

/// Norms of what is left of a vector after each block.
fn rest_norms(row: impl DoubleEndedIterator<Item = f32> + ExactSizeIterator, block: usize) -> Vec<f32> {
    let (dim, mut sum) = (row.len(), 0.0f64);
    let mut norms = vec![0.0f32; dim.div_ceil(block)];
    for (j, x) in row.enumerate().rev() {
        if (j + 1) % block == 0 && j + 1 < dim {
            // Rounded up, so that the bound stays one.
            norms[j / block] = (sum.sqrt() as f32).next_up();
        }
        sum += f64::from(x) * f64::from(x);
    }
    norms
}

fn dot_f64(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
}

fn check_query(query: &[f32], dim: usize) -> Result<(), AnnError> {
    if query.len() != dim {
        return Err(AnnError::Dimension { expected: dim, got: query.len() });
    }
    match query.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(column) => Err(AnnError::NotFinite { row: 0, column, value: query[column] }),
    }
}

#[cfg(test)]
mod tests {
    use eas_tensor::rng::SplitMix64;
    use proptest::prelude::*;

    use super::*;

    /// All products in f64, sorted: nothing of this module.
    fn naive(corpus: &Matrix, query: &[f32], k: usize) -> Vec<u64> {
        let product = |row: &[f32]| -> f64 { row.iter().zip(query).map(|(x, q)| f64::from(*x) * f64::from(*q)).sum() };
        let mut scored: Vec<(f64, u64)> = corpus.iter_rows().map(product).zip(0..).collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        scored.into_iter().take(k).map(|(_, id)| id).collect()
    }

    fn ids(hits: &[Hit]) -> Vec<u64> {
        hits.iter().map(|hit| hit.id).collect()
    }

    fn variants() -> impl Iterator<Item = (Bound, DimOrder)> {
        [Bound::MaxContribution, Bound::CauchySchwarz].into_iter().flat_map(|bound| {
            [DimOrder::Natural, DimOrder::MaxContribution, DimOrder::QueryWeighted].map(|order| (bound, order))
        })
    }

    /// Coordinates that fall off as `exp(-skew * j)`, where bounds prune; small integers times that, so that ties happen.
    fn skewed(rows: usize, dim: usize, skew: f32, seed: u64) -> Matrix {
        let mut rng = SplitMix64::new(seed);
        let value = |j: usize, rng: &mut SplitMix64| (rng.below(9) as f32 - 4.0) * (-skew * j as f32).exp();
        let values = (0..rows * dim).map(|at| value(at % dim, &mut rng)).collect();
        Matrix::from_vec(rows, dim, values).unwrap()
    }

    proptest! {
        #[test]
        fn every_variant_finds_what_a_full_scan_finds(
            rows in 1usize..40, dim in 1usize..70, k in 0usize..45, skew in 0.0f32..0.3, seed in any::<u64>(),
            block in prop_oneof![Just(1), Just(8), Just(64), 1usize..80],
        ) {
            let corpus = skewed(rows, dim, skew, seed);
            let query = skewed(1, dim, skew / 2.0, seed ^ 1);
            let expected = naive(&corpus, query.row(0), k);
            prop_assert_eq!(ids(&scan(&corpus, query.row(0), k).unwrap()), &expected[..]);
            for (bound, order) in variants() {
                let pruned = PrunedFlat::new(&corpus, block, bound, order).unwrap().search(query.row(0), k).unwrap();
                prop_assert_eq!(ids(&pruned.hits), &expected[..], "{:?} {:?} block {}", bound, order, block);
                prop_assert_eq!(pruned.dims_read.len(), rows);
                prop_assert_eq!(pruned.stats.values_read, pruned.dims_read.iter().map(|&read| u64::from(read)).sum::<u64>());
            }
            let screened = Int8Screen::new(&corpus).unwrap().search(query.row(0), k).unwrap();
            prop_assert_eq!(ids(&screened.hits), &expected[..]);
        }

        #[test]
        fn eight_bits_are_off_by_no_more_than_they_say(dim in 1usize..70, skew in 0.0f32..0.3, seed in any::<u64>()) {
            let corpus = skewed(12, dim, skew, seed);
            let query = skewed(1, dim, skew, seed ^ 2);
            let estimates = Int8Screen::new(&corpus).unwrap().estimates(query.row(0)).unwrap();
            for (row, (score, error)) in corpus.iter_rows().zip(estimates) {
                let exact: f64 = row.iter().zip(query.row(0)).map(|(x, q)| f64::from(*x) * f64::from(*q)).sum();
                prop_assert!((score - exact).abs() <= error, "{score} is {error} from {exact}");
            }
        }
    }

    #[test]
    fn skewed_data_is_pruned_and_a_screen_reads_few_rows_in_full() {
        let corpus = skewed(2_000, 64, 0.2, 3);
        let query = skewed(1, 64, 0.0, 4);
        for (bound, order) in variants() {
            let pruned = PrunedFlat::new(&corpus, 8, bound, order).unwrap().search(query.row(0), 10).unwrap();
            let share = pruned.stats.values_read as f64 / (2_000.0 * 64.0);
            assert!(share < 0.6, "{bound:?} {order:?} read {share}");
        }
        let screened = Int8Screen::new(&corpus).unwrap().search(query.row(0), 10).unwrap();
        assert!(screened.stats.distance_evaluations < 200, "{}", screened.stats.distance_evaluations);
    }

    #[test]
    fn bad_input_is_refused() {
        let corpus = skewed(3, 4, 0.0, 1);
        assert!(PrunedFlat::new(&corpus, 0, Bound::CauchySchwarz, DimOrder::Natural).is_err());
        let broken = Matrix::from_rows(&[[1.0, f32::NAN]]).unwrap();
        assert!(PrunedFlat::new(&broken, 1, Bound::CauchySchwarz, DimOrder::Natural).is_err());
        assert!(Int8Screen::new(&broken).is_err());
        let index = PrunedFlat::new(&corpus, 2, Bound::MaxContribution, DimOrder::QueryWeighted).unwrap();
        assert!(matches!(index.search(&[1.0; 3], 1), Err(AnnError::Dimension { expected: 4, got: 3 })));
        let infinite = [1.0, f32::INFINITY, 0.0, 0.0];
        assert!(matches!(index.search(&infinite, 1), Err(AnnError::NotFinite { column: 1, .. })));
        assert!(scan(&corpus, &infinite, 1).is_err());
        let empty = Matrix::zeros(0, 4);
        assert!(
            PrunedFlat::new(&empty, 2, Bound::MaxContribution, DimOrder::Natural)
                .unwrap()
                .search(&[1.0; 4], 3)
                .unwrap()
                .hits
                .is_empty()
        );
    }
}
