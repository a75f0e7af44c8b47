//! A month of search traffic into which incidents are planted, so that a report can be held to what really happened.

use eas_ops::OpsError;
use eas_ops::clock::{HOUR, MINUTE, Micros};
use eas_ops::loadgen::{Spacing, arrivals};
use eas_ops::slo::{DAY, Maintenance, Recorder, Resource};
use eas_tensor::rng::SplitMix64;

/// Length of the month.
pub const MONTH: Micros = 30 * DAY;
/// Requests that one generated request stands for: half of one a second, where 100,000 a second come on average.
pub const SAMPLE: u64 = 200_000;
/// Latency of an ordinary request: lognormal, half below 8 ms and 1 in 100 above 30 ms.
const MEDIAN_MS: f64 = 8.0;
const SIGMA: f64 = 0.568;

/// What an incident does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Effect {
    /// Latencies are this many times longer.
    Slow(f64),
    /// Every request fails.
    Down,
    /// Recall is this.
    Recall(f64),
    /// Nobody sends a request.
    Silence,
}

/// Something that happens to the service.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Incident {
    /// What a post-mortem would call it.
    pub name: &'static str,
    /// When it begins.
    pub start: Micros,
    /// How long it takes.
    pub length: Micros,
    /// What it does.
    pub effect: Effect,
}

/// Slow for exactly three windows of five minutes, which the contract tolerates.
pub const SHORT_SLOWNESS: Incident = incident("15 slow minutes", 3 * DAY + 10 * HOUR, 15 * MINUTE, Effect::Slow(8.0));
/// Slow for four windows.
pub const SLOWNESS: Incident = incident("20 slow minutes", 9 * DAY + 14 * HOUR, 20 * MINUTE, Effect::Slow(8.0));
/// An index build with the wrong parameters serves for two weeks.
pub const RECALL_DROP: Incident = incident("recall at 0.93", 7 * DAY, 14 * DAY, Effect::Recall(0.93));
/// The client's own network is down.
pub const SILENCE: Incident = incident("no traffic", 12 * DAY + 3 * HOUR, 30 * MINUTE, Effect::Silence);
/// The service is down.
pub const OUTAGE: Incident = incident("outage of 7 minutes", 16 * DAY + 11 * HOUR, 7 * MINUTE, Effect::Down);
/// The service is down for work that was announced ten days before.
pub const MAINTENANCE: Maintenance = Maintenance { start: 24 * DAY + 2 * HOUR, length: 2 * HOUR, notice: 10 * DAY };
const MAINTENANCE_DOWN: Incident = incident("maintenance", MAINTENANCE.start, MAINTENANCE.length, Effect::Down);

/// All incidents of the month.
pub const INCIDENTS: [Incident; 6] = [SHORT_SLOWNESS, RECALL_DROP, SLOWNESS, SILENCE, OUTAGE, MAINTENANCE_DOWN];

const fn incident(name: &'static str, start: Micros, length: Micros, effect: Effect) -> Incident {
    Incident { name, start, length, effect }
}

/// Traffic relative to its mean at a time of the day: most at 15:00, least at 3:00.
fn load(at: Micros) -> f64 {
    1.0 + 0.4 * (std::f64::consts::TAU * (at as f64 / HOUR as f64 - 15.0) / 24.0).cos()
}

/// Sends the month's traffic to `recorder`: requests, a recall probe an hour, utilization every five minutes. Returns the
/// times and latencies in ms of the answered requests in order, for checks against what the recorder kept.
pub fn replay(seed: u64, recorder: &mut Recorder) -> Result<Vec<(Micros, f64)>, OpsError> {
    let effects = |at: Micros| {
        let on = INCIDENTS.iter().filter(move |i| (i.start..i.start + i.length).contains(&at));
        on.map(|incident| incident.effect)
    };
    let mut rng = SplitMix64::stream(seed, 1);
    let mut latencies = Vec::new();
    for at in arrivals(|at| 0.5 * load(at), MONTH, Spacing::Poisson(seed))? {
        let mut latency = Some(MEDIAN_MS * (SIGMA * rng.normal()).exp());
        let mut sent = true;
        for effect in effects(at) {
            match effect {
                Effect::Slow(factor) => latency = latency.map(|ms| ms * factor),
                Effect::Down => latency = None,
                Effect::Silence => sent = false,
                Effect::Recall(_) => {}
            }
        }
        if sent {
            recorder.request(at, latency)?;
            latencies.extend(latency.map(|ms| (at, ms)));
        }
    }
    for hour in 0..MONTH / HOUR {
        let at = hour * HOUR;
        let dropped = effects(at).find_map(|effect| match effect {
            Effect::Recall(recall) => Some(recall),
            _ => None,
        });
        let recall = dropped.unwrap_or(0.97) + 0.005 * rng.normal();
        recorder.recall(at, 10, recall.clamp(0.0, 1.0))?;
    }
    for at in (0..MONTH).step_by((5 * MINUTE) as usize) {
        for (resource, idle, loaded) in [
            (Resource::Cpu, 0.10, 0.38),
            (Resource::Memory, 0.74, 0.02),
            (Resource::Disk, 0.71, 0.0),
            (Resource::Network, 0.05, 0.30),
        ] {
            recorder.utilization(at, resource, idle + loaded * load(at))?;
        }
    }
    Ok(latencies)
}
