//! The service under load: four workers that each scan a million vectors a request.

use eas_ops::OpsError;
use eas_ops::clock::{MILLISECOND, MINUTE, Micros, SECOND, micros};
use eas_ops::loadgen::{self, Autoscaler, LoadRun, Scenario, Service, Spacing};

/// Rates and durations of the scenarios are divided by this.
pub const SCALE: u64 = 1_000;
/// The promise: 99 of 100 accepted requests within this.
pub const LIMIT: Micros = 100 * MILLISECOND;
/// Time that a worker takes for a request on average: one scan of a million vectors of 64 values.
pub const SCAN: Micros = 16 * MILLISECOND;
/// A request may take this much more or less, evenly spread.
const SPREAD: Micros = SCAN / 10;
/// Workers without an autoscaler.
pub const WORKERS: usize = 4;

/// Takes any number of requests.
pub fn unbounded() -> Service {
    Service::unbounded(WORKERS)
}

/// Turns away what it can't answer within [`LIMIT`].
pub fn bounded() -> Service {
    Service { queue_limit: Some(Service::queue_limit_for(LIMIT, WORKERS, SCAN + SPREAD)), ..unbounded() }
}

/// Adds workers, to keep them 70% busy: a decision every 15 seconds, a minute to start one, five before one is let go (all
/// divided by [`SCALE`]).
pub fn autoscaled() -> Service {
    Service {
        autoscaler: Some(Autoscaler {
            target: 0.7,
            interval: 15 * SECOND / SCALE,
            start_delay: MINUTE / SCALE,
            hold: 5 * MINUTE / SCALE,
            max_workers: 40,
        }),
        ..bounded()
    }
}

/// Random requests of a scenario, scaled down, through a service.
pub fn run(scenario: Scenario, service: Service, seed: u64) -> Result<LoadRun, OpsError> {
    let arrivals = scenario.arrivals(SCALE, SCALE, Spacing::Poisson(seed))?;
    loadgen::simulate(&arrivals, service, seed, |rng| SCAN - SPREAD + rng.below(2 * SPREAD as usize + 1) as Micros)
}

/// An M/M/c queue in simulation: about `requests` of them, `rate` a second, at servers that take 1 ms on average.
pub fn simulate_mmc(rate: f64, servers: usize, requests: u64, seed: u64) -> Result<LoadRun, OpsError> {
    let arrivals = loadgen::arrivals(|_| rate, micros(requests as f64 / rate), Spacing::Poisson(seed))?;
    loadgen::simulate(&arrivals, Service::unbounded(servers), seed, |rng| micros(rng.exponential(0.001)))
}
