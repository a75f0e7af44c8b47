//! [`RegionFailover`]: a region that goes down, a standby that was sent every write a little later, and the two numbers that
//! say how bad it was: the recovery time and the age of the oldest lost write.

use std::path::Path;

use eas_ann::{FlatIndex, Metric, VectorIndex};
use eas_ops::clock::{MINUTE, Micros, SECOND};
use eas_ops::sim::Sim;

use super::{Insert, digest, replay};
use crate::replica::ReplicaError;

/// How the standby is fed and promoted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RegionFailover {
    /// Recovery point objective: no lost write may be older than this when the region fails.
    pub rpo: Micros,
    /// Recovery time objective.
    pub rto: Micros,
    /// Span between two shipments of the log.
    pub ship_every: Micros,
    /// Mean time in seconds that a shipment takes.
    pub ship_takes: f64,
    /// Span between two health probes of the standby.
    pub probe_every: Micros,
    /// Probes in a row that must fail before the region is given up.
    pub probes: u32,
    /// Bytes of the standby's shards, which are read and checked before they serve.
    pub bytes: f64,
    /// Bytes a second at which that is done.
    pub bytes_per_second: f64,
    /// Until clients are sent to the new region.
    pub switch: Micros,
}

impl Default for RegionFailover {
    /// 5 and 15 minutes; shipments every minute, three probes 10 s apart, 80 GB at 200 MB/s, a minute to switch names.
    fn default() -> Self {
        Self {
            rpo: 5 * MINUTE,
            rto: 15 * MINUTE,
            ship_every: MINUTE,
            ship_takes: 5.0,
            probe_every: 10 * SECOND,
            probes: 3,
            bytes: 80e9,
            bytes_per_second: 200e6,
            switch: MINUTE,
        }
    }
}

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegionOutcome {
    /// From the failure until the standby gave the region up.
    pub detected: Micros,
    /// From the failure until clients were served again.
    pub recovered: Micros,
    /// Writes acknowledged before the failure.
    pub acknowledged: usize,
    /// Of these, writes that the standby's index lacks.
    pub lost: usize,
    /// Age of the oldest lost write at the failure; 0 when none was lost.
    pub oldest_lost: Micros,
    /// Whether the standby's file, read back, held what the standby had in memory.
    pub file_intact: bool,
}

#[derive(Debug, Hash)]
enum Event {
    Write,
    Ship,
    Arrive { upto: usize },
    Probe,
    Serve,
}

impl RegionFailover {
    /// Writes a vector a second from `log`, fails the region at `fails_at`, and waits for the standby, which keeps its index in
    /// the file `path`.
    pub fn run(&self, log: &[Insert], fails_at: Micros, path: &Path, seed: u64) -> Result<RegionOutcome, ReplicaError> {
        let dim = log.first().map_or(1, |insert| insert.vector.len());
        let mut standby = FlatIndex::new(dim, Metric::SquaredL2)?;
        let mut sim: Sim<Event> = Sim::new(seed);
        sim.after(SECOND, Event::Write);
        sim.after(self.ship_every, Event::Ship);
        sim.after(self.probe_every, Event::Probe);
        let (mut written, mut shipped, mut failed_probes) = (0usize, 0usize, 0);
        let (mut detected, mut recovered, mut file_intact) = (0, 0, false);
        while let Some(event) = sim.next_until(fails_at.saturating_add(24 * 60 * MINUTE)) {
            let alive = sim.now() < fails_at;
            match event {
                Event::Write if alive && written < log.len() => {
                    written += 1;
                    sim.after(SECOND, Event::Write);
                }
                Event::Ship if alive => {
                    let takes = sim.exponential(self.ship_takes);
                    sim.after(takes, Event::Arrive { upto: written });
                    sim.after(self.ship_every, Event::Ship);
                }
                // A shipment that was under way when the region failed is cut off.
                Event::Arrive { upto } if alive && upto > shipped => {
                    replay(&mut standby, &log[shipped..upto])?;
                    shipped = upto;
                }
                Event::Probe => {
                    failed_probes = if alive { 0 } else { failed_probes + 1 };
                    if failed_probes == self.probes {
                        detected = sim.now() - fails_at;
                        standby.save(path)?;
                        file_intact = digest(&FlatIndex::load(path)?) == digest(&standby);
                        let load = (self.bytes / self.bytes_per_second * SECOND as f64) as Micros;
                        sim.after(load + self.switch, Event::Serve);
                    } else {
                        sim.after(self.probe_every, Event::Probe);
                    }
                }
                Event::Serve => {
                    recovered = sim.now() - fails_at;
                    break;
                }
                Event::Write | Event::Ship | Event::Arrive { .. } => (),
            }
        }
        let lost: Vec<usize> = (0..written).filter(|&i| !standby.contains(log[i].id)).collect();
        let written_at = |i: &usize| (*i as Micros + 1) * SECOND;
        Ok(RegionOutcome {
            detected,
            recovered,
            acknowledged: written,
            lost: lost.len(),
            oldest_lost: lost.first().map_or(0, |first| fails_at - written_at(first)),
            file_intact,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_lie_within_the_shipping_interval_and_recovery_is_the_sum_of_its_parts() {
        let log: Vec<Insert> = (0..2_000).map(|i| Insert { id: i, vector: vec![i as f32] }).collect();
        let folder = tempfile::tempdir().unwrap();
        for seed in 0..20 {
            let region = RegionFailover::default();
            let fails_at = 30 * MINUTE + seed * 7 * SECOND;
            let seen = region.run(&log, fails_at, &folder.path().join("standby"), seed).unwrap();
            assert!(seen.file_intact && seen.lost > 0 && seen.lost < seen.acknowledged);
            assert!(seen.oldest_lost <= 2 * MINUTE, "{seen:?}");
            assert!((20 * SECOND..=30 * SECOND).contains(&seen.detected), "{seen:?}");
            assert_eq!(seen.recovered, seen.detected + 400 * SECOND + MINUTE);
        }
    }
}
