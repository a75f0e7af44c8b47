//! Hot, warm and cold items that keep more or fewer dimensions of one space, searched together.
//!
//! The dimensions are ordered by variance (a rotation by principal components), so that every tier's vectors are prefixes of the same
//! vectors: one query serves all of them, and an item moves by cutting its vector or taking it in full again.

use eas_tensor::{Matrix, TensorError, TopK, kernels};

/// What the tiers cost and hold goes by how often an item is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// All dimensions.
    Hot,
    /// Fewer.
    Warm,
    /// Fewest.
    Cold,
}

impl Tier {
    /// From hot to cold.
    pub const ALL: [Self; 3] = [Self::Hot, Self::Warm, Self::Cold];
}

/// What a tier or a search refuses.
#[derive(Debug, thiserror::Error)]
pub enum TieringError {
    /// A setting or argument outside its range.
    #[error("{name} is {got}, must be {expected}")]
    Argument {
        /// Its name.
        name: &'static str,
        /// What was given.
        got: String,
        /// What is accepted.
        expected: String,
    },
    /// A matrix was refused.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

fn refused(name: &'static str, got: &impl ToString, expected: impl Into<String>) -> TieringError {
    TieringError::Argument { name, got: got.to_string(), expected: expected.into() }
}

/// From which rate of queries on an item belongs to a tier.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TierPolicy {
    /// Queries a day above which an item is hot.
    pub hot: f64,
    /// Queries a day above which it is at least warm.
    pub warm: f64,
    /// An item keeps its tier until its rate falls this share below the threshold by which it came in, so that one whose rate moves around
    /// a threshold doesn't move with it.
    pub hysteresis: f64,
}

impl Default for TierPolicy {
    /// Hot above 1,000 queries a day, warm above 10, 20 % below that before an item sinks.
    fn default() -> Self {
        Self { hot: 1_000.0, warm: 10.0, hysteresis: 0.2 }
    }
}

impl TierPolicy {
    /// The tier of a new item.
    pub fn place(&self, rate: f64) -> Tier {
        self.above(rate, 1.0)
    }

    /// The next tier of an item that is in `current`: up as soon as it is above a threshold, down when it is below it by the hysteresis.
    pub fn next(&self, current: Tier, rate: f64) -> Tier {
        let rising = self.above(rate, 1.0);
        if rising < current { rising } else { current.max(self.above(rate, 1.0 - self.hysteresis)) }
    }

    fn above(&self, rate: f64, factor: f64) -> Tier {
        if rate > self.hot * factor {
            Tier::Hot
        } else if rate > self.warm * factor {
            Tier::Warm
        } else {
            Tier::Cold
        }
    }

    fn check(&self) -> Result<(), TieringError> {
        if !(self.warm >= 0.0 && self.warm < self.hot && self.hot.is_finite()) {
            let got = format!("{} and {}", self.warm, self.hot);
            return Err(refused("thresholds", &got, "finite, at least 0, and lower for warm than for hot"));
        }
        if !(0.0..1.0).contains(&self.hysteresis) {
            return Err(refused("hysteresis", &self.hysteresis, "at least 0 and below 1"));
        }
        Ok(())
    }
}

/// Items that moved, in ascending order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moves {
    /// To a hotter tier.
    pub promoted: Vec<usize>,
    /// To a colder one.
    pub demoted: Vec<usize>,
}

/// The scores by which the tiers' lists become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merge {
    /// Cosines as they are: those of short prefixes are larger for no reason of the item's, and crowd out the long ones.
    RawCosine,
    /// How many standard deviations a cosine lies above the mean of its tier, for this query.
    ZScore,
    /// The best of each tier by z-score again, scored by the prefix that all tiers have.
    Rescore,
}

/// Items in three tiers of one rotated space.
#[derive(Debug, Clone)]
pub struct TieredIndex {
    policy: TierPolicy,
    dims: [usize; 3],
    tiers: Vec<Tier>,
    /// Unit prefixes of each tier's items, and which items they are.
    stored: [(Vec<usize>, Matrix); 3],
}

impl TieredIndex {
    /// Stores the first `dims[tier]` values of each row of `rotated`, at unit length; `rotated` has its dimensions by falling variance.
    ///
    /// An error unless there is a tier for each row, and `dims` fall from hot to cold and fit the rows.
    pub fn new(rotated: &Matrix, tiers: Vec<Tier>, dims: [usize; 3], policy: TierPolicy) -> Result<Self, TieringError> {
        policy.check()?;
        if tiers.len() != rotated.rows() {
            return Err(refused("tiers", &tiers.len(), format!("{}, one an item", rotated.rows())));
        }
        if dims[0] > rotated.dim() || dims[0] < dims[1] || dims[1] < dims[2] || dims[2] == 0 {
            let expected = format!("falling, from {} at most to 1 at least", rotated.dim());
            return Err(refused("dimensions", &format!("{dims:?}"), expected));
        }
        rotated.check_finite()?;
        let mut index =
            Self { policy, dims, tiers, stored: std::array::from_fn(|at| (vec![], Matrix::zeros(0, dims[at]))) };
        index.fill(rotated)?;
        Ok(index)
    }

    /// The tier of each item.
    pub fn tiers(&self) -> &[Tier] {
        &self.tiers
    }

    /// Bytes of all vectors, as f32.
    pub fn bytes(&self) -> usize {
        self.stored.iter().map(|(ids, rows)| 4 * ids.len() * rows.dim()).sum()
    }

    /// Moves items by their rates of queries a day; `rotated` are the full vectors, which a promoted item needs again.
    pub fn retier(&mut self, rates: &[f64], rotated: &Matrix) -> Result<Moves, TieringError> {
        if rates.len() != self.tiers.len() || rotated.rows() != rates.len() || rotated.dim() < self.dims[0] {
            let got = format!("{} rates, {} vectors of {}", rates.len(), rotated.rows(), rotated.dim());
            return Err(refused(
                "retiering",
                &got,
                format!("{} of each, of {} values", self.tiers.len(), self.dims[0]),
            ));
        }
        if let Some(rate) = rates.iter().find(|rate| !(**rate >= 0.0 && rate.is_finite())) {
            return Err(refused("rate", &rate, "finite and at least 0"));
        }
        rotated.check_finite()?;
        let mut moves = Moves::default();
        for (item, (tier, &rate)) in self.tiers.iter_mut().zip(rates).enumerate() {
            let next = self.policy.next(*tier, rate);
            if next < *tier {
                moves.promoted.push(item);
            } else if next > *tier {
                moves.demoted.push(item);
            }
            *tier = next;
        }
        self.fill(rotated)?;
        Ok(moves)
    }

    /// The `k` best items for a query in the rotated space: the best `per_tier` of each tier, merged. Best first, ties by lower item.
    pub fn search(&self, query: &[f32], k: usize, per_tier: usize, merge: Merge) -> Result<Vec<usize>, TieringError> {
        if query.len() < self.dims[0] {
            return Err(TensorError::Dimension { expected: self.dims[0], got: query.len() }.into());
        }
        let mut merged = TopK::new(k);
        for (ids, rows) in &self.stored {
            let prefix = unit(&query[..rows.dim()]);
            let cosines = kernels::dot_rows(&prefix, rows);
            let mut best = TopK::new(per_tier);
            for (at, &cosine) in cosines.iter().enumerate() {
                best.push(at, cosine);
            }
            let (mean, deviation) = moments(&cosines);
            let short = unit(&query[..self.dims[2]]);
            for hit in best.into_sorted_vec() {
                let score = match merge {
                    Merge::RawCosine => hit.score,
                    Merge::ZScore => (hit.score - mean) / deviation,
                    Merge::Rescore => kernels::dot(&short, &unit(&rows.row(hit.id)[..self.dims[2]])),
                };
                merged.push(ids[hit.id], score);
            }
        }
        Ok(merged.into_sorted_vec().into_iter().map(|hit| hit.id).collect())
    }

    fn fill(&mut self, rotated: &Matrix) -> Result<(), TieringError> {
        for ((tier, dim), stored) in Tier::ALL.into_iter().zip(self.dims).zip(&mut self.stored) {
            let ids: Vec<usize> = (0..self.tiers.len()).filter(|&item| self.tiers[item] == tier).collect();
            let values = ids.iter().flat_map(|&item| unit(&rotated.row(item)[..dim])).collect();
            *stored = (ids.clone(), Matrix::from_vec(ids.len(), dim, values)?);
        }
        Ok(())
    }
}

/// At unit length; zeros stay.
fn unit(row: &[f32]) -> Vec<f32> {
    let norm = kernels::norm(row);
    if norm > 0.0 { row.iter().map(|x| x / norm).collect() } else { row.to_vec() }
}

/// Mean and standard deviation; a deviation of 0 counts as 1.
fn moments(values: &[f32]) -> (f32, f32) {
    let n = values.len().max(1) as f64;
    let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    let deviation = (values.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n).sqrt();
    (mean as f32, if deviation > 0.0 { deviation as f32 } else { 1.0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use eas_tensor::rng::SplitMix64;

    fn rows(n: usize) -> Matrix {
        let mut rng = SplitMix64::new(5);
        // Falling variance, as after a rotation by principal components.
        Matrix::from_vec(n, 12, (0..n * 12).map(|i| (rng.normal() / (1 + i % 12) as f64) as f32).collect()).unwrap()
    }

    fn tiers(n: usize) -> Vec<Tier> {
        (0..n).map(|i| Tier::ALL[i % 3]).collect()
    }

    #[test]
    fn an_item_rises_at_a_threshold_and_sinks_below_it() {
        use Tier::{Cold, Hot, Warm};

        let policy = TierPolicy::default();
        let mut tier = policy.place(900.0);
        let trace = [1_001.0, 990.0, 810.0, 800.0, 999.0, 1_000.5, 7.0, 9.0, 10.5, 8.5, 8.0];
        let mut seen = Vec::new();
        for rate in trace {
            tier = policy.next(tier, rate);
            seen.push(tier);
        }
        assert_eq!(seen, [Hot, Hot, Hot, Warm, Warm, Hot, Cold, Cold, Warm, Warm, Cold]);
    }

    #[test]
    fn items_move_and_are_found_where_they_are() {
        let (rows, dims) = (rows(30), [12, 6, 3]);
        let mut index = TieredIndex::new(&rows, tiers(30), dims, TierPolicy::default()).unwrap();
        assert_eq!(index.bytes(), 4 * 10 * (12 + 6 + 3));
        for merge in [Merge::RawCosine, Merge::ZScore, Merge::Rescore] {
            for item in 0..30 {
                // Its own vector is nearest to an item, so nothing of its tier comes before it, by whatever score tiers are merged.
                let found = index.search(rows.row(item), 30, 10, merge).unwrap();
                let first = found.iter().find(|&&other| index.tiers()[other] == index.tiers()[item]);
                assert_eq!((found.len(), first), (30, Some(&item)), "{merge:?}");
                if merge != Merge::ZScore {
                    // A cosine of 1, or of 1 with the prefix.
                    assert!(found[..3].contains(&item), "{merge:?}");
                }
            }
        }
        // Item 0 was hot, item 2 cold.
        let mut rates = vec![900.0; 30];
        rates[0] = 5.0;
        let moves = index.retier(&rates, &rows).unwrap();
        assert_eq!(moves.demoted, [0]);
        assert_eq!(moves.promoted, (0..10).map(|i| 3 * i + 2).collect::<Vec<_>>());
        assert_eq!(index.tiers()[3], Tier::Hot, "900 is above 800");
        assert_eq!(index.search(rows.row(2), 1, 10, Merge::ZScore).unwrap(), [2]);
    }

    #[test]
    fn bad_input_is_refused() {
        let rows = rows(6);
        let policy = TierPolicy::default();
        assert!(TieredIndex::new(&rows, tiers(5), [12, 6, 3], policy).is_err());
        for dims in [[13, 6, 3], [6, 12, 3], [12, 6, 0]] {
            assert!(TieredIndex::new(&rows, tiers(6), dims, policy).is_err());
        }
        for policy in [TierPolicy { hot: 5.0, ..policy }, TierPolicy { hysteresis: 1.0, ..policy }] {
            assert!(TieredIndex::new(&rows, tiers(6), [12, 6, 3], policy).is_err());
        }
        let mut index = TieredIndex::new(&rows, tiers(6), [12, 6, 3], policy).unwrap();
        assert!(index.retier(&[1.0], &rows).is_err());
        assert!(index.retier(&[f64::NAN; 6], &rows).is_err());
        assert!(index.search(&[1.0; 11], 1, 1, Merge::ZScore).is_err());
        assert_eq!(index.search(rows.row(0), 0, 5, Merge::ZScore).unwrap(), Vec::<usize>::new());
    }
}
