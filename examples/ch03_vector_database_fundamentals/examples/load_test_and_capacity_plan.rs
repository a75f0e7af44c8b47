//! Listing 3.20: six traffic shapes against one service, what a load test must not omit, and how many replicas to plan.
//!
//! cargo run --release --example load_test_and_capacity_plan

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use ch03_vector_database_fundamentals::load::{self, LIMIT, SCALE, SCAN};
use eas_ann::{FlatIndex, Metric, VectorIndex};
use eas_data::synth::vectors::unit_cube;
use eas_ops::clock::{HOUR, MILLISECOND, MINUTE, SECOND, seconds};
use eas_ops::loadgen::{self, LoadSummary, Scenario, Spacing, StallingServer};
use eas_plan::capacity::{CapacityYear, capacity};
use eas_plan::queueing::Mmc;
use eas_report::{Chart, Table, duration, num};

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let seed = page.seed();
    let plan = capacity(100_000.0, 0.5, 10_000.0, 2, 3)?;
    let mut table = Table::new(["year", "queries/s", "replicas", "added", "added since today"]);
    for y in &plan {
        let counts = [y.replicas, y.added, y.added_since_today].map(Into::into);
        table.row([y.year.into(), num(y.qps, 0)].into_iter().chain(counts));
    }
    page.table("50% more a year, 10,000 queries/s a replica, each twice", &table);
    page.text("Replicas, not shards: a query goes to every shard, so that more shards add no queries a second.");

    let mut table = Table::new(["queue", "P(wait)", "mean ms", "p99 ms", "simulated", "and p99"]);
    let (mut models, mut gaps) = (Vec::new(), Vec::new());
    for (rate, servers, requests) in [(800.0, 1, 3_000_000), (3_200.0, 4, 500_000)] {
        let model = Mmc::new(rate, 1_000.0, servers)?;
        let (wait, mean) = (model.wait_probability(), 1e3 * model.mean_time());
        let p99 = 1e3 * model.time_quantile(0.99)?;
        let run = load::simulate_mmc(rate, servers as usize, requests, seed)?;
        let seen = run.summary()?.latency.context("no answers")?;
        let formula = [wait, mean, p99].map(|value| num(value, 6));
        let simulated = [seen.mean, seen.p99].map(|ms| num(ms, 3).within(0.01));
        let queue = format!("M/M/{servers}").into();
        table.row([queue].into_iter().chain(formula).chain(simulated));
        gaps.extend([seen.mean / mean - 1.0, seen.p99 / p99 - 1.0]);
        models.extend([wait, mean, p99]);
    }
    page.table("Formula and simulation: 1,000 requests/s a server, 80% busy", &table);

    let server = StallingServer::new(500, 5 * SECOND..6 * SECOND);
    let every_ms = loadgen::arrivals(|_| 1_000.0, 10 * SECOND, Spacing::Even)?;
    let open = server.open_loop(&every_ms);
    let closed = server.closed_loop(MILLISECOND, 10 * SECOND);
    let mut table = Table::new(["load", "requests", "delayed", "p50 ms", "p90 ms", "p99 ms", "max ms"]);
    let mut omission = Vec::new();
    for (name, outcomes) in [("open loop", &open), ("closed loop", &closed)] {
        let delayed = outcomes.iter().filter(|o| o.latency() > Some(500)).count();
        let (n, ms) = (outcomes.len(), LoadSummary::of(outcomes)?.latency.context("no answers")?);
        let quantiles = [ms.p50, ms.p90, ms.p99, ms.max];
        let row = [name.into(), n.into(), delayed.into()];
        table.row(row.into_iter().chain(quantiles.map(|ms| num(ms, 1))));
        omission.push((n, delayed, quantiles));
    }
    page.table("A server of 0.5 ms stands still for one second of ten", &table);
    page.text("The closed loop sends 999 requests too few, all in the second that matters.");

    let queries = unit_cube(12, 200, 64);
    let mut index = FlatIndex::new(64, Metric::Cosine)?;
    index.add(&(0..20_000).collect::<Vec<u64>>(), &unit_cube(11, 20_000, 64))?;
    let start = Instant::now();
    let search = |query| index.search(query, 10);
    let answers = queries.iter_rows().map(search).collect::<Result<Vec<_>, _>>()?;
    let scan = start.elapsed() / 200;
    let mut table = Table::new(["20,000 vectors, measured", "a million in proportion", "simulated"]);
    table.row([scan, scan * 50, Duration::from_micros(SCAN)].map(duration));
    page.table("Calibration: one scan by one worker", &table);

    let mut table = Table::new(["load", "offered", "shed", "p50 ms", "p99 ms", "held", "workers"]);
    let shapes = Scenario::ALL.map(|scenario| (scenario, scenario.name(), load::bounded()));
    let others = [("spike, unbounded queue", load::unbounded()), ("spike, autoscaled", load::autoscaled())];
    let others = others.map(|(name, service)| (Scenario::Spike, name, service));
    let mut runs = Vec::new();
    for (scenario, name, service) in shapes.into_iter().chain(others) {
        let run = load::run(scenario, service, seed)?;
        let sum = run.summary()?;
        let ms = sum.latency.context("no answers")?;
        let row = [name.into(), sum.offered.into(), sum.shed.into(), num(ms.p50, 1), num(ms.p99, 1)];
        let most = [run.most_in_system(), run.most_workers()].map(Into::into);
        table.row(row.into_iter().chain(most));
        runs.push((run, sum, ms.p99));
    }
    page.table("Six shapes at 1/1000 of size and time; 4 workers of 62.5/s", &table);
    let mut chart = Chart::lines("The spike: p99 of what is accepted", "s", "ms").log_y();
    for (name, i) in [("bounded", 2), ("unbounded", 6), ("bounded, autoscaled", 7)] {
        let slices = loadgen::quantile_over_time(&runs[i].0.outcomes, 0.99, 50 * MILLISECOND)?;
        let points = slices.into_iter().filter_map(|(at, ms)| Some((seconds(at), ms?)));
        chart = chart.series(name, points);
    }
    page.chart("spike.svg", &chart.level("limit", 100.0))?;

    let real = loadgen::arrivals(|_| 200.0, page.size(1, 3) * SECOND, Spacing::Poisson(seed))?;
    let wrong = AtomicU64::new(0);
    let outcomes = loadgen::drive(&real, 2, 100, |i| {
        let hits = index.search(queries.row(i % 200), 10).unwrap_or_default();
        wrong.fetch_add((hits != answers[i % 200]).into(), Ordering::Relaxed);
    })?;
    let sum = LoadSummary::of(&outcomes)?;
    let ms = sum.latency.context("no answers")?;
    page.text(format!(
        "Real load: {} requests at their own times, 200 a second, on the index of 20,000: p50 {:.2} ms, p99 {:.2} ms.",
        sum.offered, ms.p50, ms.p99
    ));

    let of = |get: fn(&CapacityYear) -> u64| plan.iter().map(get).collect::<Vec<_>>();
    page.claim("replicas by year").equals(of(|y| y.replicas), [20, 30, 46, 68]);
    page.claim("added a year").equals(of(|y| y.added), [0, 10, 16, 22]);
    page.claim("added since today").equals(of(|y| y.added_since_today), [0, 10, 26, 48]);
    let qps: Vec<f64> = plan.iter().map(|y| y.qps).collect();
    page.claim("queries a second").equals(qps, [1e5, 1.5e5, 2.25e5, 3.375e5]);
    page.claim("M/M/1: mean, ms").close(models[1], 5.0, 1e-9);
    page.claim("M/M/1: p99, ms").close(models[2], 23.025_851, 1e-6);
    page.claim("M/M/4: P(wait)").close(models[3], 0.596_432, 1e-6);
    page.claim("M/M/4: mean, ms").close(models[4], 1.745_541, 1e-6);
    page.claim("simulations are within 5%").all(gaps, |gap| gap.abs() <= 0.05);
    let expected = (10_000, 2_000, [0.5, 500.5, 950.5, 1_000.5]);
    page.claim("the open loop sees the stall").equals(omission[0], expected);
    page.claim("the closed loop omits it").equals(omission[1], (9_001, 1, [0.5, 0.5, 0.5, 1_000.5]));
    page.claim("accepted + shed = offered").all(&runs, |(_, sum, _)| sum.accepted + sum.shed == sum.offered);
    page.claim("bounded queues keep p99 in 100 ms").all([0, 1, 2, 3, 4, 5, 7], |i| runs[i].2 <= 100.0);
    page.claim("an unbounded one does not").greater(runs[6].2, 100.0);
    page.claim("steady load, ramp, peak and regions shed nothing").all([0, 1, 3, 5], |i| runs[i].1.shed == 0);
    page.claim("spike and herd shed").all([2, 4], |i| runs[i].1.shed > 0);
    let recovery = SCALE * runs[7].0.recovery(Scenario::SPIKE.start / SCALE, LIMIT);
    page.claim("minutes to recover from the spike, autoscaled").at_most(recovery as f64 / MINUTE as f64, 2.0);
    let held = &runs[3].0.in_system;
    let mean = |held: &[usize]| held.iter().sum::<usize>() as f64 / held.len() as f64;
    let growth = mean(&held[held.len() / 2..]) / mean(&held[..held.len() / 2]);
    page.claim("requests held, second half of the peak over first").close(growth, 1.0, 0.15);
    let hourly = (0..24).map(|hour| Scenario::GeoMix.rate(hour * HOUR));
    page.claim("regions peak at 1.6 times their mean, all three at less").less(hourly.fold(0.0, f64::max) / 1e5, 1.4);
    page.claim("real load: answered + shed = offered").equals(sum.accepted + sum.shed, real.len());
    page.claim("wrong answers").equals(wrong.into_inner(), 0);
    page.finish()
}
