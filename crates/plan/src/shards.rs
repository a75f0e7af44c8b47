//! Shards of a very large collection, in whole numbers: how many, how full, how many bytes.

use crate::PlanError;
use crate::error::positive;

const GIB: f64 = (1u64 << 30) as f64;

/// Divides `total` vectors among shards.
///
/// ```
/// use eas_plan::shards::ShardCalculator;
///
/// let shards = ShardCalculator { total: 1_000_000, target_per_shard: 300_000, dim: 100, ..ShardCalculator::default() }.evaluate()?;
/// assert_eq!((shards.least, shards.power_of_two, shards.vectors_per_shard), (4, 4, 250_000));
/// # Ok::<(), eas_plan::PlanError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ShardCalculator {
    /// Vectors in all.
    pub total: u64,
    /// Most vectors of a shard.
    pub target_per_shard: u64,
    /// Values of a vector, 4 bytes each.
    pub dim: u64,
    /// Bytes with the index over bytes of the vectors.
    pub index_overhead: f64,
    /// Copies of every shard.
    pub replicas: u64,
    /// Memory over bytes with the index.
    pub memory_headroom: f64,
}

impl Default for ShardCalculator {
    /// 256 trillion vectors of 768 values, 256 million a shard, an index of half their size, three copies, a fifth of the memory free.
    fn default() -> Self {
        Self {
            total: 256_000_000_000_000,
            target_per_shard: 256_000_000,
            dim: 768,
            index_overhead: 1.5,
            replicas: 3,
            memory_headroom: 1.2,
        }
    }
}

/// What [`ShardCalculator::evaluate`] computes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shards {
    /// Fewest shards that keep to the target.
    pub least: u64,
    /// The next power of two, for placements that need one. Consistent hashing doesn't.
    pub power_of_two: u64,
    /// Vectors of the fullest shard when there are `power_of_two`.
    pub vectors_per_shard: u64,
    /// GiB of such a shard with its index.
    pub gib_per_shard: f64,
    /// GiB of all shards and their copies.
    pub gib_in_all: f64,
    /// GiB of memory that a shard needs.
    pub memory_gib_per_shard: f64,
}

impl ShardCalculator {
    /// The numbers, in integers as long as they are counts.
    pub fn evaluate(&self) -> Result<Shards, PlanError> {
        positive("target per shard", self.target_per_shard as f64)?;
        positive("total", self.total as f64)?;
        let least = self.total.div_ceil(self.target_per_shard);
        let power_of_two = least.checked_next_power_of_two().ok_or(PlanError::OutOfRange {
            name: "shards",
            value: least as f64,
            expected: "at most 2^63",
        })?;
        let vectors_per_shard = self.total.div_ceil(power_of_two);
        let bytes = u128::from(vectors_per_shard) * u128::from(self.dim) * 4;
        let gib_per_shard = bytes as f64 * positive("index overhead", self.index_overhead)? / GIB;
        Ok(Shards {
            least,
            power_of_two,
            vectors_per_shard,
            gib_per_shard,
            gib_in_all: gib_per_shard * power_of_two as f64 * self.replicas as f64,
            memory_gib_per_shard: gib_per_shard * positive("memory headroom", self.memory_headroom)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_largest_collection() {
        let shards = ShardCalculator::default().evaluate().unwrap();
        assert_eq!((shards.least, shards.power_of_two, shards.vectors_per_shard), (1_000_000, 1_048_576, 244_140_625));
        assert!((shards.gib_per_shard - 1_047.737_896).abs() < 1e-6);
        assert_eq!(shards.gib_in_all, 3_295_898_437.5);
        assert!((shards.gib_in_all / 1024.0 - 3_218_650.817_871).abs() < 1e-6);
        assert!((shards.memory_gib_per_shard - 1_257.285_476).abs() < 1e-6);
    }

    #[test]
    fn counts_are_exact_where_a_logarithm_is_not() {
        let with = |total, target_per_shard| ShardCalculator { total, target_per_shard, ..ShardCalculator::default() };
        assert_eq!(with((1 << 49) + 1, 1).evaluate().unwrap().power_of_two, 1 << 50);
        assert_eq!(with(1 << 49, 1).evaluate().unwrap().power_of_two, 1 << 49);
        assert_eq!(with(7, 100).evaluate().unwrap().vectors_per_shard, 7);
        assert!(
            with(0, 1).evaluate().is_err() && with(1, 0).evaluate().is_err() && with(u64::MAX, 1).evaluate().is_err()
        );
        let no_overhead = ShardCalculator { index_overhead: 0.0, ..ShardCalculator::default() };
        assert!(no_overhead.evaluate().is_err());
    }
}
