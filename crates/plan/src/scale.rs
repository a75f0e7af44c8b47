//! Sizes and prices of very large collections: storage, index links, what there is to index, what a shard must hold.
//!
//! Units are decimal: 1 GB is 1e9 bytes, 1 PB is 1e15 bytes.

use crate::PlanError;
use crate::error::positive;
use crate::sensitivity::{Swing, one_at_a_time};

const BYTES_PER_GB: f64 = 1e9;
const BYTES_PER_PB: f64 = 1e15;

/// What it costs to keep vectors, from rows to dollars a year. Storage only: no compute, replicas or requests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StorageCostModel {
    /// Vectors.
    pub rows: u64,
    /// Values a vector.
    pub dim: u32,
    /// Bytes a value before compression.
    pub bytes_per_value: u32,
    /// Raw bytes over stored bytes.
    pub compression: f64,
    /// Dollars a GB and month.
    pub price_gb_month: f64,
    /// Stored bytes with the index over stored bytes without.
    pub index_factor: f64,
}

impl Default for StorageCostModel {
    /// 256 trillion rows of 768 f32 values, compressed 6:1, at $0.02 a GB and month, half as much again for the index.
    fn default() -> Self {
        Self {
            rows: 256_000_000_000_000,
            dim: 768,
            bytes_per_value: 4,
            compression: 6.0,
            price_gb_month: 0.02,
            index_factor: 1.5,
        }
    }
}

/// What [`StorageCostModel::evaluate`] computes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StorageCost {
    /// Uncompressed bytes, exact.
    pub raw_bytes: u128,
    /// The same in PB.
    pub raw_pb: f64,
    /// After compression, in PB.
    pub stored_pb: f64,
    /// Dollars a month for the compressed vectors alone.
    pub monthly_raw: f64,
    /// Dollars a month with the index.
    pub monthly_with_index: f64,
    /// Dollars a year with the index.
    pub annual: f64,
}

impl StorageCostModel {
    /// The bill, step by step.
    pub fn evaluate(&self) -> Result<StorageCost, PlanError> {
        let raw_bytes = u128::from(self.rows) * u128::from(self.dim) * u128::from(self.bytes_per_value);
        let raw = raw_bytes as f64;
        let stored = raw / positive("compression", self.compression)?;
        let monthly_raw = stored / BYTES_PER_GB * positive("price a GB and month", self.price_gb_month)?;
        let monthly_with_index = monthly_raw * positive("index factor", self.index_factor)?;
        Ok(StorageCost {
            raw_bytes,
            raw_pb: raw / BYTES_PER_PB,
            stored_pb: stored / BYTES_PER_PB,
            monthly_raw,
            monthly_with_index,
            annual: 12.0 * monthly_with_index,
        })
    }

    /// The compression at which the annual bill is `budget` dollars.
    pub fn compression_for(&self, budget: f64) -> Result<f64, PlanError> {
        Ok(self.compression * self.evaluate()?.annual / positive("budget", budget)?)
    }

    /// The annual bill with each assumption alone times `1 - change` and `1 + change`, longest bar first.
    pub fn sensitivity(&self, change: f64) -> Result<Vec<Swing>, PlanError> {
        let assumptions = [
            ("rows", self.rows as f64),
            ("dimension", f64::from(self.dim)),
            ("bytes a value", f64::from(self.bytes_per_value)),
            ("price", self.price_gb_month),
            ("compression", self.compression),
            ("index factor", self.index_factor),
        ];
        one_at_a_time(&assumptions, change, |values| {
            let [rows, dim, bytes, price, compression, index] = values else {
                return Err(PlanError::Missing("assumption"));
            };
            let stored = rows * dim * bytes / positive("compression", *compression)?;
            Ok(12.0 * stored / BYTES_PER_GB * price * index)
        })
    }
}

/// Expected bytes of links a vector in an HNSW graph: `2 m` neighbours on the bottom level, and `m` on each of the
/// `1 / (m - 1)` upper levels that a vector has on average when levels are drawn with `1 / ln m`.
pub fn hnsw_link_bytes(m: u32, id_bytes: u32) -> Result<f64, PlanError> {
    let m = f64::from(m);
    if m < 2.0 {
        return Err(PlanError::OutOfRange {
            name: "m",
            value: m,
            expected: "at least 2",
        });
    }
    let id = f64::from(id_bytes);
    Ok(2.0 * m * id + m * id / (m - 1.0))
}

/// Expected number of levels of an HNSW graph of `rows` vectors: `ln rows / ln m`.
pub fn hnsw_levels(rows: u64, m: u32) -> Result<f64, PlanError> {
    positive("rows", rows as f64)?;
    let base = f64::from(m).ln();
    positive("ln m", base)?;
    Ok((rows as f64).ln() / base)
}

/// Things of one kind that could be embedded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntityGroup {
    /// What they are.
    pub name: &'static str,
    /// How many there are.
    pub entities: u64,
    /// Rows each brings.
    pub rows_each: u64,
}

impl EntityGroup {
    /// All rows of the group.
    pub fn rows(&self) -> u128 {
        u128::from(self.entities) * u128::from(self.rows_each)
    }
}

/// A guess at what there is to embed in the world: 200.5 trillion rows.
pub fn entity_inventory() -> [EntityGroup; 5] {
    let group = |name, entities, rows_each| EntityGroup {
        name,
        entities,
        rows_each,
    };
    [
        group("people", 8_000_000_000, 10_000),
        group("businesses", 500_000_000, 1_000),
        group("web pages", 100_000_000_000, 100),
        group("images", 1_000_000_000_000, 10),
        group("devices", 100_000_000_000, 1_000),
    ]
}

/// What one of several equal shards holds, and what searching only some of them can find.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ShardBudget {
    /// Vectors a shard.
    pub rows_per_shard: f64,
    /// Bytes of vectors a shard.
    pub bytes_per_shard: f64,
    /// Share of the true neighbours on the shards searched, when rows are placed at random: all that recall can reach.
    pub recall_ceiling: f64,
}

/// Splits `rows` of `bytes_per_row` over `shards`, of which a query searches `searched`.
pub fn shard_budget(rows: u64, bytes_per_row: u64, shards: u64, searched: u64) -> Result<ShardBudget, PlanError> {
    positive("shards", shards as f64)?;
    if searched > shards {
        return Err(PlanError::OutOfRange {
            name: "searched shards",
            value: searched as f64,
            expected: "at most the number of shards",
        });
    }
    let rows_per_shard = rows as f64 / shards as f64;
    Ok(ShardBudget {
        rows_per_shard,
        bytes_per_shard: rows_per_shard * bytes_per_row as f64,
        recall_ceiling: searched as f64 / shards as f64,
    })
}

#[cfg(test)]
mod tests {
    use approx::assert_relative_eq;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_bill_of_256_trillion_rows() {
        let cost = StorageCostModel::default().evaluate().unwrap();
        assert_eq!(cost.raw_bytes, 786_432_000_000_000_000);
        assert_relative_eq!(cost.raw_pb, 786.432, max_relative = 1e-12);
        assert_relative_eq!(cost.stored_pb, 131.072, max_relative = 1e-12);
        assert_relative_eq!(cost.monthly_raw, 2_621_440.0, max_relative = 1e-12);
        assert_relative_eq!(cost.monthly_with_index, 3_932_160.0, max_relative = 1e-12);
        assert_relative_eq!(cost.annual, 47_185_920.0, max_relative = 1e-12);
        let needed = StorageCostModel::default().compression_for(20e6).unwrap();
        assert_relative_eq!(needed, 14.155_776, epsilon = 1e-6);
    }

    #[test]
    fn inventory_levels_links_and_shards() {
        let total: u128 = entity_inventory().iter().map(EntityGroup::rows).sum();
        assert_eq!(total, 200_500_000_000_000);
        assert_relative_eq!(hnsw_link_bytes(48, 4).unwrap(), 388.085_106, epsilon = 1e-6);
        assert_relative_eq!(
            hnsw_levels(256_000_000_000_000, 16).unwrap(),
            11.965_784,
            epsilon = 1e-6
        );
        let budget = shard_budget(256_000_000_000_000, 3_072, 1_000, 10).unwrap();
        assert_eq!((budget.rows_per_shard, budget.recall_ceiling), (256e9, 0.01));
        assert_relative_eq!(budget.bytes_per_shard, 786.432e12, max_relative = 1e-12);
    }

    #[test]
    fn bad_input_is_refused() {
        let model = StorageCostModel {
            compression: 0.0,
            ..StorageCostModel::default()
        };
        assert!(model.evaluate().unwrap_err().to_string().contains("compression is 0"));
        assert!(StorageCostModel::default().compression_for(f64::NAN).is_err());
        assert!(hnsw_link_bytes(1, 4).is_err());
        assert!(hnsw_levels(0, 16).is_err());
        assert!(hnsw_levels(10, 1).is_err());
        assert!(shard_budget(10, 4, 0, 0).is_err());
        assert!(shard_budget(10, 4, 2, 3).is_err());
    }

    #[test]
    fn cutting_the_compression_hurts_more_than_anything_else() {
        let swings = StorageCostModel::default().sensitivity(0.5).unwrap();
        assert_eq!(swings[0].assumption, "compression");
        assert_relative_eq!(swings[0].low, 2.0 * 47_185_920.0, max_relative = 1e-9);
        let price = swings.iter().find(|s| s.assumption == "price").unwrap();
        assert_relative_eq!(price.high, 1.5 * 47_185_920.0, max_relative = 1e-9);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_bill_is_linear_in_size_and_price_and_inverse_in_compression(factor in 2u32..50) {
            let base = StorageCostModel::default();
            let annual = |model: StorageCostModel| model.evaluate().unwrap().annual;
            let f = f64::from(factor);
            let expected = f * annual(base);
            for model in [
                StorageCostModel { rows: base.rows * u64::from(factor), ..base },
                StorageCostModel { dim: base.dim * factor, ..base },
                StorageCostModel { price_gb_month: base.price_gb_month * f, ..base },
                StorageCostModel { compression: base.compression / f, ..base },
            ] {
                prop_assert!((annual(model) / expected - 1.0).abs() < 1e-12);
            }
        }
    }
}
