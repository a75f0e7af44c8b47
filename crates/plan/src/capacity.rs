//! How many replicas a growing load needs, year by year.
//!
//! When a query fans out to every shard, more shards make each answer cheaper but add no queries a second: every one of them
//! sees every query. Throughput grows with replicas, so that is what is counted here.

use crate::PlanError;
use crate::error::{non_negative, positive};

/// One year of a [`capacity`] plan.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CapacityYear {
    /// 0 is today.
    pub year: u32,
    /// Queries a second at the peak.
    pub qps: f64,
    /// Replicas that must stand ready.
    pub replicas: u64,
    /// Replicas more than the year before.
    pub added: u64,
    /// Replicas more than today.
    pub added_since_today: u64,
}

/// Replicas for today and each of the next `years`: the load grows by the share `growth` a year, one replica serves
/// `qps_per_node`, and each needed replica is kept `headroom` times (2: the other half may fail, or take a peak twice as
/// high). Whole replicas first, then headroom: a replica that is needed in part is doubled in full.
///
/// ```
/// use eas_plan::capacity::capacity;
///
/// let plan = capacity(100_000.0, 0.5, 10_000.0, 2, 3)?;
/// let replicas: Vec<u64> = plan.iter().map(|year| year.replicas).collect();
/// assert_eq!(replicas, [20, 30, 46, 68]);
/// # Ok::<(), eas_plan::PlanError>(())
/// ```
pub fn capacity(
    qps: f64,
    growth: f64,
    qps_per_node: f64,
    headroom: u32,
    years: u32,
) -> Result<Vec<CapacityYear>, PlanError> {
    non_negative("queries a second", qps)?;
    positive("queries a second and node", qps_per_node)?;
    positive("headroom", f64::from(headroom))?;
    // A load that shrinks by all of itself or more is no load.
    positive("1 + growth", 1.0 + growth)?;
    let mut plan: Vec<CapacityYear> = Vec::with_capacity(years as usize + 1);
    let mut load = qps;
    for year in 0..=years {
        positive("load", load.max(f64::MIN_POSITIVE))?; // refuses growth to infinity
        let replicas = (load / qps_per_node).ceil() as u64 * u64::from(headroom);
        let before = plan.last().map_or(replicas, |last| last.replicas);
        let today = plan.first().map_or(replicas, |first| first.replicas);
        plan.push(CapacityYear {
            year,
            qps: load,
            replicas,
            added: replicas.saturating_sub(before),
            added_since_today: replicas.saturating_sub(today),
        });
        load *= 1.0 + growth;
    }
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_by_half_a_year() {
        let plan = capacity(100_000.0, 0.5, 10_000.0, 2, 3).unwrap();
        let of = |get: fn(&CapacityYear) -> u64| plan.iter().map(get).collect::<Vec<_>>();
        assert_eq!(of(|y| y.replicas), [20, 30, 46, 68]);
        assert_eq!(of(|y| y.added), [0, 10, 16, 22]);
        assert_eq!(of(|y| y.added_since_today), [0, 10, 26, 48]);
        let qps: Vec<f64> = plan.iter().map(|y| y.qps).collect();
        assert_eq!(qps, [100_000.0, 150_000.0, 225_000.0, 337_500.0]);
    }

    #[test]
    fn shrinking_loads_add_nothing_and_nonsense_is_refused() {
        let plan = capacity(100_000.0, -0.5, 10_000.0, 1, 2).unwrap();
        assert_eq!(plan.iter().map(|y| y.replicas).collect::<Vec<_>>(), [10, 5, 3]);
        assert!(plan.iter().all(|y| y.added == 0));
        assert_eq!(capacity(0.0, 0.5, 10.0, 2, 1).unwrap()[1].replicas, 0);
        assert!(capacity(f64::NAN, 0.5, 10.0, 2, 1).is_err());
        assert!(capacity(1.0, -1.0, 10.0, 2, 1).is_err());
        assert!(capacity(1.0, 0.5, 0.0, 2, 1).is_err());
        assert!(capacity(1.0, 0.5, 10.0, 0, 1).is_err());
        assert!(capacity(1e300, 1e10, 10.0, 1, 5).is_err());
    }
}
