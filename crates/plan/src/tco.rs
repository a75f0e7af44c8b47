//! What embeddings cost to own: storage, training, queries, and the people.

use serde::Serialize;

use crate::PlanError;
use crate::error::{non_negative, positive};
use crate::sensitivity::{Swing, one_at_a_time};

const GIB: f64 = 1_073_741_824.0;
const SECONDS_A_YEAR: f64 = 31_536_000.0;
const MONTHS_A_YEAR: f64 = 12.0;

/// What things cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Prices {
    /// Dollars a GiB (2^30 bytes) of storage and month.
    pub storage_gib_month: f64,
    /// Dollars an hour of a GPU.
    pub gpu_hour: f64,
    /// Hours of a GPU that training takes for a million items.
    pub gpu_hours_per_million: f64,
    /// Dollars a million queries.
    pub query_million: f64,
    /// Dollars a year for an engineer.
    pub engineer_year: f64,
}

impl Default for Prices {
    /// $0.023, $3, 10 hours, $10, and an assumed $200,000.
    fn default() -> Self {
        Self {
            storage_gib_month: 0.023,
            gpu_hour: 3.0,
            gpu_hours_per_million: 10.0,
            query_million: 10.0,
            engineer_year: 200_000.0,
        }
    }
}

/// What is to be owned, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Requirements {
    /// Embeddings.
    pub vectors: f64,
    /// Values an embedding.
    pub dim: f64,
    /// Bytes a value: 4 for f32, 1 for int8.
    pub bytes_per_value: f64,
    /// Bytes stored for one byte of embedding, the index included.
    pub index_factor: f64,
    /// Copies of everything stored.
    pub replicas: f64,
    /// Queries a second, all year round.
    pub qps: f64,
    /// Trainings from start to end a year.
    pub trainings_per_year: f64,
    /// Engineers.
    pub team: f64,
    /// Years.
    pub years: f64,
}

impl Requirements {
    /// 100 billion embeddings of 768 f32 values, half as much again for the index, three copies, 10,000 queries a second, four
    /// trainings a year, ten engineers, one year.
    pub fn hundred_billion() -> Self {
        Self {
            vectors: 100e9,
            dim: 768.0,
            bytes_per_value: 4.0,
            index_factor: 1.5,
            replicas: 3.0,
            qps: 10_000.0,
            trainings_per_year: 4.0,
            team: 10.0,
            years: 1.0,
        }
    }

    /// Bytes stored, index and copies included.
    pub fn stored_bytes(&self) -> f64 {
        self.vectors * self.dim * self.bytes_per_value * self.index_factor * self.replicas
    }

    /// What it costs over all the years.
    ///
    /// # Errors
    /// A requirement or a price that is negative or not finite; no vectors, values, copies or years.
    pub fn tco(&self, prices: &Prices) -> Result<Tco, PlanError> {
        for (name, value) in [
            ("vectors", self.vectors),
            ("dimension", self.dim),
            ("bytes a value", self.bytes_per_value),
            ("index factor", self.index_factor),
            ("replicas", self.replicas),
            ("years", self.years),
        ] {
            positive(name, value)?;
        }
        for (name, value) in [
            ("queries a second", self.qps),
            ("trainings a year", self.trainings_per_year),
            ("team", self.team),
            ("price of storage", prices.storage_gib_month),
            ("price of a GPU", prices.gpu_hour),
            ("GPU hours for a million items", prices.gpu_hours_per_million),
            ("price of a million queries", prices.query_million),
            ("price of an engineer", prices.engineer_year),
        ] {
            non_negative(name, value)?;
        }
        let gpu_hours = self.vectors / 1e6 * prices.gpu_hours_per_million * self.trainings_per_year;
        Ok(Tco {
            storage: self.stored_bytes() / GIB * prices.storage_gib_month * MONTHS_A_YEAR * self.years,
            training: gpu_hours * prices.gpu_hour * self.years,
            inference: self.qps * SECONDS_A_YEAR / 1e6 * prices.query_million * self.years,
            team: self.team * prices.engineer_year * self.years,
        })
    }

    /// The total with each quantity and price alone times `1 - change` and `1 + change`, longest bar first.
    ///
    /// # Errors
    /// As [`Self::tco`], and a change that isn't above 0.
    pub fn sensitivity(&self, prices: &Prices, change: f64) -> Result<Vec<Swing>, PlanError> {
        let assumptions = [
            ("vectors", self.vectors),
            ("dimension", self.dim),
            ("replicas", self.replicas),
            ("queries a second", self.qps),
            ("trainings a year", self.trainings_per_year),
            ("team", self.team),
            ("price of storage", prices.storage_gib_month),
            ("price of a GPU hour", prices.gpu_hour),
            ("price of a query", prices.query_million),
        ];
        one_at_a_time(&assumptions, change, |values| {
            let &[vectors, dim, replicas, qps, trainings_per_year, team, storage_gib_month, gpu_hour, query_million] =
                values
            else {
                return Err(PlanError::Missing("assumption"));
            };
            let changed = Self { vectors, dim, replicas, qps, trainings_per_year, team, ..*self };
            let prices = Prices { storage_gib_month, gpu_hour, query_million, ..*prices };
            Ok(changed.tco(&prices)?.total())
        })
    }

    /// The best dimension that the budget pays for: each entry of `quality` is a dimension with the quality measured at it. Of equal
    /// qualities the cheaper dimension wins.
    ///
    /// # Errors
    /// An empty table, a quality that isn't finite, a negative budget, and as [`Self::tco`].
    pub fn optimize(&self, prices: &Prices, budget: f64, quality: &[(f64, f64)]) -> Result<Optimum, PlanError> {
        non_negative("budget", budget)?;
        let mut options = Vec::with_capacity(quality.len());
        for &(dim, quality) in quality {
            let quality = crate::error::finite("quality", quality)?;
            options.push((dim, quality, Self { dim, ..*self }.tco(prices)?.total()));
        }
        let minimum =
            options.iter().map(|option| option.2).reduce(f64::min).ok_or(PlanError::Missing("quality table"))?;
        let within = options.into_iter().filter(|option| option.2 <= budget);
        let best = within.max_by(|a, b| a.1.total_cmp(&b.1).then(b.2.total_cmp(&a.2)));
        Ok(best.map_or(Optimum::InsufficientBudget { minimum }, |(dim, quality, total)| Optimum::Best {
            dim,
            quality,
            total,
        }))
    }
}

/// What [`Requirements::optimize`] finds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Optimum {
    /// The best that the budget pays for.
    Best {
        /// Values an embedding.
        dim: f64,
        /// Its quality.
        quality: f64,
        /// Its total cost in dollars.
        total: f64,
    },
    /// No dimension is cheap enough.
    InsufficientBudget {
        /// Dollars for the cheapest.
        minimum: f64,
    },
}

/// Quality of the book's example at 128 to 768 values.
pub const EXAMPLE_QUALITY: [(f64, f64); 5] =
    [(128.0, 0.834), (256.0, 0.891), (384.0, 0.908), (512.0, 0.915), (768.0, 0.917)];

/// Dollars over all the years.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Tco {
    /// Storage of embeddings, index and copies.
    pub storage: f64,
    /// GPUs for training.
    pub training: f64,
    /// Queries.
    pub inference: f64,
    /// People.
    pub team: f64,
}

impl Tco {
    /// All of it.
    pub fn total(&self) -> f64 {
        self.storage + self.training + self.inference + self.team
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    #[test]
    fn a_hundred_billion_for_three_years() {
        let plan = Requirements { years: 3.0, ..Requirements::hundred_billion() };
        let tco = plan.tco(&Prices::default()).unwrap();
        assert_relative_eq!(tco.storage, 1_066_017.150_879, epsilon = 1e-5);
        assert_relative_eq!(tco.training, 36e6, epsilon = 1e-6);
        assert_relative_eq!(tco.inference, 9_460_800.0, epsilon = 1e-6);
        assert_relative_eq!(tco.team, 6e6, epsilon = 1e-6);
    }

    #[test]
    fn a_small_case_by_hand() {
        // 2^20 vectors of 256 bytes are 0.25 GiB; doubled for the index and copied twice 1 GiB; 2 dollars a month: 24 a year.
        let plan = Requirements {
            vectors: 1_048_576.0,
            dim: 64.0,
            bytes_per_value: 4.0,
            index_factor: 2.0,
            replicas: 2.0,
            qps: 1.0,
            trainings_per_year: 0.0,
            team: 0.0,
            years: 1.0,
        };
        let tco = plan.tco(&Prices { storage_gib_month: 2.0, query_million: 1.0, ..Prices::default() }).unwrap();
        assert_eq!((tco.storage, tco.training, tco.inference, tco.team), (24.0, 0.0, 31.536, 0.0));
    }

    #[test]
    fn totals_are_linear_in_each_price() {
        let plan = Requirements::hundred_billion();
        let total = |prices: Prices| plan.tco(&prices).unwrap().total();
        let base = Prices::default();
        for (name, at) in [
            ("storage", (|x| Prices { storage_gib_month: x, ..Prices::default() }) as fn(f64) -> Prices),
            ("gpu", |x| Prices { gpu_hour: x, ..Prices::default() }),
            ("query", |x| Prices { query_million: x, ..Prices::default() }),
            ("engineer", |x| Prices { engineer_year: x, ..Prices::default() }),
        ] {
            let (one, two, three) = (total(at(1.0)), total(at(2.0)), total(at(3.0)));
            assert_relative_eq!(three - two, two - one, max_relative = 1e-9);
            assert!(two > one, "{name}");
        }
        let swings = plan.sensitivity(&base, 0.2).unwrap();
        assert_eq!(swings[0].assumption, "vectors");
        assert_relative_eq!(swings[0].low + swings[0].high, 2.0 * total(base), max_relative = 1e-12);
    }

    #[test]
    fn the_budget_decides_the_dimension() {
        let plan = Requirements::hundred_billion();
        let optimize = |budget| plan.optimize(&Prices::default(), budget, &EXAMPLE_QUALITY).unwrap();
        assert!(matches!(optimize(17.3e6), Optimum::Best { dim: 256.0, .. }));
        assert!(matches!(optimize(1e9), Optimum::Best { dim: 768.0, .. }));
        assert!(
            matches!(optimize(17.2e6), Optimum::InsufficientBudget { minimum } if (minimum - 17_212_823.18).abs() < 0.01)
        );
        let level = plan.optimize(&Prices::default(), 1e9, &[(768.0, 0.9), (128.0, 0.9)]).unwrap();
        assert!(matches!(level, Optimum::Best { dim: 128.0, .. }), "{level:?}");
        assert!(plan.optimize(&Prices::default(), 1e9, &[]).is_err());
        assert!(plan.optimize(&Prices::default(), f64::NAN, &EXAMPLE_QUALITY).is_err());
        assert!(plan.optimize(&Prices::default(), 1e9, &[(768.0, f64::NAN)]).is_err());
    }

    #[test]
    fn bad_numbers_are_refused() {
        let base = Requirements::hundred_billion();
        for bad in [
            Requirements { vectors: 0.0, ..base },
            Requirements { dim: f64::NAN, ..base },
            Requirements { qps: -1.0, ..base },
            Requirements { years: f64::INFINITY, ..base },
        ] {
            assert!(bad.tco(&Prices::default()).is_err());
        }
        assert!(base.tco(&Prices { gpu_hour: -3.0, ..Prices::default() }).is_err());
    }
}
