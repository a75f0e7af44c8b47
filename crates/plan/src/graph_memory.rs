//! Memory of an HNSW graph, by what is in it.

use crate::PlanError;
use crate::error::positive;
use crate::scale::hnsw_link_bytes;

const GIB: f64 = (1u64 << 30) as f64;

/// Links of a node that are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CountedLinks {
    /// `m`, as the book counts: half of the bottom level, and none of the upper ones.
    M,
    /// `2 m` on the bottom level and `m / (m - 1)` times `m` above.
    All,
}

/// What a graph over `rows` vectors takes.
///
/// ```
/// use eas_plan::graph_memory::{CountedLinks, GraphMemory};
///
/// assert!((GraphMemory::default().gib(CountedLinks::M)? - 3_218.650_818).abs() < 1e-6);
/// # Ok::<(), eas_plan::PlanError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GraphMemory {
    /// Vectors.
    pub rows: u64,
    /// Links of a node on an upper level.
    pub m: u32,
    /// Values of a vector, 4 bytes each.
    pub dim: u32,
    /// Bytes of a link: 4 number up to 2^32 nodes.
    pub id_bytes: u32,
    /// Share of the links' bytes that compression saves.
    pub link_saving: f64,
    /// Whether the vectors are in memory too.
    pub vectors_in_ram: bool,
}

impl Default for GraphMemory {
    /// A billion vectors of 768 values, m = 48, links of 8 bytes, everything in memory.
    fn default() -> Self {
        Self { rows: 1_000_000_000, m: 48, dim: 768, id_bytes: 8, link_saving: 0.0, vectors_in_ram: true }
    }
}

impl GraphMemory {
    /// GiB of memory.
    pub fn gib(&self, counted: CountedLinks) -> Result<f64, PlanError> {
        let kept = positive("share of the links' bytes that is left", 1.0 - self.link_saving)?;
        let links = match counted {
            CountedLinks::M => f64::from(self.m) * f64::from(self.id_bytes),
            CountedLinks::All => hnsw_link_bytes(self.m, self.id_bytes)?,
        };
        let vector = if self.vectors_in_ram { 4.0 * f64::from(self.dim) } else { 0.0 };
        Ok(self.rows as f64 * (vector + links * kept) / GIB)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gib_of_a_billion_vectors() {
        let in_ram = GraphMemory::default();
        let slim = GraphMemory { id_bytes: 4, link_saving: 0.3, vectors_in_ram: false, ..in_ram };
        for (model, counted, expected) in [
            (in_ram, CountedLinks::M, 3_218.650_818),
            (slim, CountedLinks::M, 125.169_754),
            (in_ram, CountedLinks::All, 3_583.887_790),
            (slim, CountedLinks::All, 253.002_694),
        ] {
            let gib = model.gib(counted).unwrap();
            assert!((gib - expected).abs() < 1e-6, "{gib}");
        }
        let saving = 1.0 - slim.gib(CountedLinks::M).unwrap() / in_ram.gib(CountedLinks::M).unwrap();
        assert!((saving - 0.961_111_11).abs() < 1e-8);
        assert!(GraphMemory { link_saving: 1.0, ..slim }.gib(CountedLinks::All).is_err());
        assert!(GraphMemory { m: 1, ..slim }.gib(CountedLinks::All).is_err());
    }
}
