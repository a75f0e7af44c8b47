//! Sizes and prices of very large collections: storage, index links, what there is to index, what a shard must hold, how long a
//! scan or a build takes.
//!
//! Units are decimal (1 GB is 1e9 bytes, 1 PB is 1e15 bytes) unless a name says GiB, TiB or PiB (2^30, 2^40, 2^50 bytes). A year has
//! 365 days, a month 720 hours.

use crate::PlanError;
use crate::error::positive;
use crate::sensitivity::{Swing, one_at_a_time};

const BYTES_PER_GB: f64 = 1e9;
const BYTES_PER_PB: f64 = 1e15;
/// Bytes of a TiB.
pub const TIB: f64 = (1u64 << 40) as f64;
const PIB: f64 = (1u64 << 50) as f64;
/// Hours of a month of 30 days.
pub const HOURS_A_MONTH: f64 = 720.0;
const SECONDS_A_DAY: f64 = 86_400.0;
const SECONDS_A_YEAR: f64 = 365.0 * SECONDS_A_DAY;

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
        return Err(PlanError::OutOfRange { name: "m", value: m, expected: "at least 2" });
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
    let group = |name, entities, rows_each| EntityGroup { name, entities, rows_each };
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

/// What one exact search costs that compares the query with every row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScanCost {
    /// Rows compared.
    pub rows: u64,
    /// Values a row, one multiplication each.
    pub dim: u32,
    /// Multiplications a second.
    pub ops_per_second: f64,
}

impl ScanCost {
    /// Multiplications, exact.
    pub fn operations(&self) -> u128 {
        u128::from(self.rows) * u128::from(self.dim)
    }

    /// Seconds a search.
    pub fn seconds(&self) -> Result<f64, PlanError> {
        Ok(self.operations() as f64 / positive("operations a second", self.ops_per_second)?)
    }

    /// Years a search.
    pub fn years(&self) -> Result<f64, PlanError> {
        Ok(self.seconds()? / SECONDS_A_YEAR)
    }
}

/// Levels of a search tree of `rows` keys whose nodes have up to `fanout` children: the least `h` with `fanout^h >= rows`, found in
/// integers. 0 for no rows or a single one.
pub fn tree_levels(rows: u64, fanout: u64) -> Result<u32, PlanError> {
    if fanout < 2 {
        return Err(PlanError::OutOfRange { name: "fanout", value: fanout as f64, expected: "at least 2" });
    }
    let (mut levels, mut reach) = (0, 1u128);
    while reach < u128::from(rows) {
        reach *= u128::from(fanout);
        levels += 1;
    }
    Ok(levels)
}

/// A collection that is served from memory, and the machines to hold it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ServingMemory {
    /// Vectors.
    pub rows: u64,
    /// Values a vector, of 4 bytes.
    pub dim: u32,
    /// Bytes with the index over bytes of vectors.
    pub index_factor: f64,
    /// Memory of a machine, in TiB.
    pub ram_tib: f64,
    /// Dollars a machine and hour.
    pub usd_hour: f64,
}

impl Default for ServingMemory {
    /// 256 trillion vectors of 768 values, half as much again for the index, machines of 1 TiB at $8.064 an hour.
    fn default() -> Self {
        Self { rows: 256_000_000_000_000, dim: 768, index_factor: 1.5, ram_tib: 1.0, usd_hour: 8.064 }
    }
}

/// What [`ServingMemory::evaluate`] computes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MemoryBill {
    /// Bytes of the vectors, exact.
    pub raw_bytes: u128,
    /// The same in PiB.
    pub raw_pib: f64,
    /// Bytes with the index, in PiB.
    pub indexed_pib: f64,
    /// Bytes with the index, in PB.
    pub indexed_pb: f64,
    /// Machines that the bytes fill, not rounded.
    pub machines_exact: f64,
    /// Machines to rent: the same rounded up.
    pub machines: u64,
    /// Dollars a month for [`Self::machines_exact`].
    pub monthly: f64,
}

impl ServingMemory {
    /// The bill, step by step.
    pub fn evaluate(&self) -> Result<MemoryBill, PlanError> {
        let raw_bytes = u128::from(self.rows) * u128::from(self.dim) * 4;
        let indexed = raw_bytes as f64 * positive("index factor", self.index_factor)?;
        let machines_exact = indexed / TIB / positive("memory of a machine", self.ram_tib)?;
        Ok(MemoryBill {
            raw_bytes,
            raw_pib: raw_bytes as f64 / PIB,
            indexed_pib: indexed / PIB,
            indexed_pb: indexed / BYTES_PER_PB,
            machines_exact,
            machines: machines_exact.ceil() as u64,
            monthly: machines_exact * positive("price of a machine", self.usd_hour)? * HOURS_A_MONTH,
        })
    }
}

/// How long it takes to build an index.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BuildTime {
    /// Seconds on one machine.
    pub seconds: f64,
    /// The same in years.
    pub years: f64,
    /// Days on all machines, when the work divides without loss.
    pub days_on_all: f64,
}

impl BuildTime {
    /// Every insertion costs the same `us_per_vector` microseconds.
    pub fn linear(rows: u64, us_per_vector: f64, machines: u32) -> Result<Self, PlanError> {
        let seconds = rows as f64 * positive("microseconds a vector", us_per_vector)? / 1e6;
        Ok(Self {
            seconds,
            years: seconds / SECONDS_A_YEAR,
            days_on_all: seconds / positive("machines", f64::from(machines))? / SECONDS_A_DAY,
        })
    }

    /// An insertion searches what is there, so its cost grows with the logarithm of the size: `us_per_vector` is what it was
    /// in a graph of `measured_rows`, and `ln rows / ln measured_rows` times that here. The whole is of order `N log N`.
    pub fn n_log_n(rows: u64, us_per_vector: f64, measured_rows: u64, machines: u32) -> Result<Self, PlanError> {
        let measured = positive("ln of the measured rows", (measured_rows as f64).ln())?;
        let growth = positive("ln rows", (rows as f64).ln())? / measured;
        Self::linear(rows, us_per_vector * growth, machines)
    }
}

#[cfg(test)]
mod tests {
    use approx::assert_relative_eq;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_scan_of_256_trillion_rows() {
        let scan = ScanCost { rows: 256_000_000_000_000, dim: 768, ops_per_second: 1e9 };
        assert_eq!(scan.operations(), 196_608_000_000_000_000);
        assert_relative_eq!(scan.years().unwrap(), 6.234_399, epsilon = 1e-6);
        assert!(ScanCost { ops_per_second: 0.0, ..scan }.seconds().is_err());
    }

    #[test]
    fn tree_levels_are_exact_at_the_powers() {
        assert_eq!(tree_levels(256_000_000_000_000, 500).unwrap(), 6);
        for (rows, levels) in [(0, 0), (1, 0), (2, 1), (10, 1), (11, 2), (1_000, 3), (1_001, 4)] {
            assert_eq!(tree_levels(rows, 10).unwrap(), levels, "{rows}");
        }
        assert_eq!(tree_levels(u64::MAX, 2).unwrap(), 64);
        assert!(tree_levels(10, 1).is_err());
    }

    #[test]
    fn memory_and_build_time_of_256_trillion_vectors() {
        let bill = ServingMemory::default().evaluate().unwrap();
        assert_relative_eq!(bill.raw_pib, 698.491_932, epsilon = 2e-6);
        assert_relative_eq!(bill.indexed_pib, 1_047.737_896, epsilon = 1e-6);
        assert_relative_eq!(bill.indexed_pb, 1_179.648, epsilon = 1e-9);
        assert_relative_eq!(bill.machines_exact, 1_072_883.605_957, epsilon = 1e-6);
        assert_eq!(bill.machines, 1_072_884);
        assert_relative_eq!(bill.monthly, 6_229_248_046.875, epsilon = 1e-3);
        let build = BuildTime::linear(256_000_000_000_000, 100.0, 10_000).unwrap();
        assert_relative_eq!(build.seconds, 25_600_000_000.0, epsilon = 1e-3);
        assert_relative_eq!(build.years, 811.770_675, epsilon = 1e-6);
        assert_relative_eq!(build.days_on_all, 29.629_630, epsilon = 1e-6);
        // ln 256e12 / ln 1e6 = 2.4 times as long.
        let grown = BuildTime::n_log_n(256_000_000_000_000, 100.0, 1_000_000, 10_000).unwrap();
        assert_relative_eq!(grown.seconds / build.seconds, 2.401_373, epsilon = 1e-5);
        assert!(BuildTime::linear(1, 100.0, 0).is_err());
        assert!(BuildTime::n_log_n(100, 1.0, 1, 1).is_err());
        let no_ram = ServingMemory { ram_tib: 0.0, ..ServingMemory::default() };
        assert!(no_ram.evaluate().unwrap_err().to_string().contains("memory of a machine is 0"));
    }

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
        assert_relative_eq!(hnsw_levels(256_000_000_000_000, 16).unwrap(), 11.965_784, epsilon = 1e-6);
        let budget = shard_budget(256_000_000_000_000, 3_072, 1_000, 10).unwrap();
        assert_eq!((budget.rows_per_shard, budget.recall_ceiling), (256e9, 0.01));
        assert_relative_eq!(budget.bytes_per_shard, 786.432e12, max_relative = 1e-12);
    }

    #[test]
    fn bad_input_is_refused() {
        let model = StorageCostModel { compression: 0.0, ..StorageCostModel::default() };
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
