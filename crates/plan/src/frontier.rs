//! Ways to store and index vectors, what each costs to keep, and which of those measured are worth having.

use crate::PlanError;
use crate::error::{non_negative, positive};
use crate::pareto::{Direction, ParetoPoint, pareto_front};
use crate::tco::Prices;

const GIB: f64 = 1_073_741_824.0;

/// How a value is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Precision {
    /// Four bytes.
    F32,
    /// Two bytes.
    F16,
    /// One byte.
    Int8,
    /// One bit.
    Binary,
}

impl Precision {
    /// All of them, from large to small.
    pub const ALL: [Self; 4] = [Self::F32, Self::F16, Self::Int8, Self::Binary];

    /// Bytes a value.
    pub fn bytes(self) -> f64 {
        match self {
            Self::F32 => 4.0,
            Self::F16 => 2.0,
            Self::Int8 => 1.0,
            Self::Binary => 0.125,
        }
    }

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Int8 => "int8",
            Self::Binary => "binary",
        }
    }
}

/// How the nearest vectors are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Search {
    /// By looking at all.
    Flat,
    /// By cells; an 8-byte id a vector.
    Ivf,
    /// By a graph with `M` = 16: 32 links of 4 bytes and an 8-byte id a vector.
    Hnsw,
}

impl Search {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Flat, Self::Ivf, Self::Hnsw];

    /// Bytes a vector beside the vector itself.
    pub fn bytes(self) -> f64 {
        match self {
            Self::Flat => 0.0,
            Self::Ivf => 8.0,
            Self::Hnsw => 136.0,
        }
    }

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Flat => "flat",
            Self::Ivf => "ivf",
            Self::Hnsw => "hnsw",
        }
    }
}

/// What is stored of a vector, and how it is found. Product codes are a way to store as well as to search, so that they go with no
/// other precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layout {
    /// Each value by itself.
    Scalar(Precision, Search),
    /// One byte for eight values.
    Pq,
}

/// A configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Config {
    /// Values a vector.
    pub dim: usize,
    /// Storage and index.
    pub layout: Layout,
}

impl Config {
    /// The 13 configurations of each dimension that can exist.
    pub fn all(dims: &[usize]) -> Vec<Self> {
        let scalar =
            Precision::ALL.into_iter().flat_map(|p| Search::ALL.into_iter().map(move |s| Layout::Scalar(p, s)));
        let layouts: Vec<Layout> = scalar.chain([Layout::Pq]).collect();
        dims.iter().flat_map(|&dim| layouts.iter().map(move |&layout| Self { dim, layout })).collect()
    }

    /// Bytes of a vector, its share of the index included.
    pub fn bytes_per_vector(self) -> f64 {
        let dim = self.dim as f64;
        match self.layout {
            Layout::Scalar(precision, search) => dim * precision.bytes() + search.bytes(),
            Layout::Pq => dim / 8.0,
        }
    }

    /// Dollars a year to keep `replicas` copies of `vectors` vectors.
    ///
    /// # Errors
    /// Numbers that aren't positive, and a price below 0.
    pub fn annual_cost(self, vectors: f64, replicas: f64, prices: &Prices) -> Result<f64, PlanError> {
        let copies = positive("vectors", vectors)? * positive("replicas", replicas)?;
        let price = non_negative("storage price", prices.storage_gib_month)?;
        Ok(copies * self.bytes_per_vector() / GIB * price * 12.0)
    }
}

impl std::fmt::Display for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.layout {
            Layout::Scalar(precision, search) => write!(f, "{} {} {}", self.dim, precision.name(), search.name()),
            Layout::Pq => write!(f, "{} pq", self.dim),
        }
    }
}

/// A configuration and what was measured of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// The configuration.
    pub config: Config,
    /// Dollars a year.
    pub cost: f64,
    /// Share of the true neighbours found.
    pub recall: f64,
    /// Slow searches, in microseconds.
    pub p99_us: f64,
}

/// Positions of the configurations that no other beats in cost and recall, by rising cost; of equal ones the first.
///
/// # Errors
/// Numbers that aren't finite.
pub fn by_cost_and_recall(measured: &[Measured]) -> Result<Vec<usize>, PlanError> {
    let points = measured.iter().map(|m| ParetoPoint::new((), [m.cost, m.recall])).collect::<Vec<_>>();
    let mut front = pareto_front(&points, &[Direction::Minimize, Direction::Maximize])?;
    front.sort_by(|&a, &b| measured[a].cost.total_cmp(&measured[b].cost).then(a.cmp(&b)));
    front.dedup_by(|b, a| measured[*a].cost == measured[*b].cost && measured[*a].recall == measured[*b].recall);
    Ok(front)
}

/// Positions of the configurations that no other beats in cost, recall and latency.
///
/// # Errors
/// Numbers that aren't finite.
pub fn by_cost_recall_and_latency(measured: &[Measured]) -> Result<Vec<usize>, PlanError> {
    let points = measured.iter().map(|m| ParetoPoint::new((), [m.cost, m.recall, m.p99_us])).collect::<Vec<_>>();
    pareto_front(&points, &[Direction::Minimize, Direction::Maximize, Direction::Minimize])
}

/// The cheapest configuration with at least this recall; of equal cost the one with more, then the first. `None` when none reaches it.
pub fn cheapest(measured: &[Measured], recall: f64) -> Option<&Measured> {
    let enough = measured.iter().filter(|m| m.recall >= recall);
    enough.min_by(|a, b| a.cost.total_cmp(&b.cost).then(b.recall.total_cmp(&a.recall)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annual(dim: usize, layout: Layout) -> f64 {
        Config { dim, layout }.annual_cost(1e8, 3.0, &Prices::default()).unwrap()
    }

    #[test]
    fn hand_worked_costs() {
        use Layout::{Pq, Scalar};
        for (dim, layout, expected) in [
            (768, Scalar(Precision::F32, Search::Flat), 236.89),
            (768, Scalar(Precision::F32, Search::Hnsw), 247.38),
            (768, Scalar(Precision::F16, Search::Flat), 118.45),
            (768, Scalar(Precision::Int8, Search::Flat), 59.22),
            (768, Scalar(Precision::Binary, Search::Flat), 7.40),
            (384, Scalar(Precision::F32, Search::Hnsw), 128.93),
            (768, Pq, 7.40),
        ] {
            let got = annual(dim, layout);
            assert!((got - expected).abs() < 0.01, "{dim} {layout:?}: {got}");
        }
        let config = Config { dim: 8, layout: Pq };
        assert!(config.annual_cost(0.0, 3.0, &Prices::default()).is_err());
        assert!(config.annual_cost(1.0, f64::NAN, &Prices::default()).is_err());
    }

    #[test]
    fn what_cannot_exist_is_not_listed() {
        let all = Config::all(&[128, 256, 384, 512, 768, 1024]);
        assert_eq!(all.len(), 78);
        assert_eq!(all.iter().map(ToString::to_string).collect::<std::collections::BTreeSet<_>>().len(), 78);
        assert_eq!(all[12].to_string(), "128 pq");
    }

    #[test]
    fn the_frontier_rises() {
        let config = Config { dim: 8, layout: Layout::Pq };
        let made = |cost, recall, p99_us| Measured { config, cost, recall, p99_us };
        let measured =
            [made(3.0, 0.9, 5.0), made(1.0, 0.5, 9.0), made(2.0, 0.4, 1.0), made(1.0, 0.5, 9.0), made(4.0, 0.9, 6.0)];
        assert_eq!(by_cost_and_recall(&measured).unwrap(), [1, 0]);
        assert_eq!(by_cost_recall_and_latency(&measured).unwrap(), [0, 1, 2, 3]);
        assert_eq!(cheapest(&measured, 0.5), Some(&measured[1]));
        assert_eq!(cheapest(&measured, 0.95), None);
        assert!(by_cost_and_recall(&[made(f64::NAN, 0.1, 1.0)]).is_err());
    }
}
