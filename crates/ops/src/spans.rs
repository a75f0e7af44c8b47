//! [`Spans`]: arrivals and replies, and what follows from them.

use eas_eval::latency::{LatencySummary, LittlesLaw, littles_law};

use crate::OpsError;
use crate::clock::{Micros, milliseconds};

/// Arrival and reply of each request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Spans(pub Vec<(Micros, Micros)>);

impl Spans {
    /// Time from arrival to reply of each request.
    pub fn latencies(&self) -> Vec<Micros> {
        self.0.iter().map(|(arrival, reply)| reply - arrival).collect()
    }

    /// The latencies, summed up in milliseconds. Refused without requests.
    pub fn summary(&self) -> Result<LatencySummary, OpsError> {
        let ms: Vec<f64> = self.latencies().into_iter().map(milliseconds).collect();
        Ok(LatencySummary::of(&ms)?)
    }

    /// Little's law, from the latencies and a count of who was in the system.
    pub fn littles_law(&self) -> Result<LittlesLaw, OpsError> {
        Ok(littles_law(&self.0, &self.latencies())?)
    }

    /// Replies a second from the first arrival to the last reply; `None` when no time passes between them.
    pub fn throughput(&self) -> Option<f64> {
        let first = self.0.iter().map(|span| span.0).min()?;
        let last = self.0.iter().map(|span| span.1).max()?;
        (last > first).then(|| self.0.len() as f64 * 1e6 / (last - first) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_requests_and_none() {
        let spans = Spans(vec![(0, 2_000), (1_000, 4_000)]);
        assert_eq!(spans.latencies(), [2_000, 3_000]);
        assert_eq!(spans.summary().unwrap().mean, 2.5);
        assert_eq!(spans.throughput(), Some(500.0));
        assert!(spans.littles_law().unwrap().relative_gap() < 1e-12);
        assert!(Spans::default().summary().is_err());
        assert_eq!(Spans::default().throughput(), None);
    }
}
