//! Listing 3.8: memory, build time and latency of 256 trillion vectors, three budgets that rule designs out.
//!
//! cargo run --release --example trillion_scale_constraints

use std::time::Instant;

use eas_ann::{Hnsw, HnswConfig, Metric, VectorIndex};
use eas_data::synth::unit_cube;
use eas_eval::fit::fit_line;
use eas_plan::latency::LatencyBudget;
use eas_plan::scale::{BuildTime, ServingMemory};
use eas_report::{Chart, Table, duration, money, num};

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let model = ServingMemory::default();
    let bill = model.evaluate()?;
    page.text(
        "256 trillion vectors of 768 f32 values, half as much again for the index, on machines of 1 TiB at $8.064 an hour. \
         Binary and decimal units differ by 12.6% at this size, so both are shown and neither stands for the other.",
    );
    let mut table = Table::new(["memory", "book", "value"]);
    table.row(["raw, PiB (2^50 bytes)".into(), "-".into(), num(bill.raw_pib, 6)]);
    table.row(["raw, PB (1e15 bytes)".into(), "-".into(), num(bill.raw_bytes as f64 / 1e15, 3)]);
    table.row(["with index, PiB".into(), "1,047.7, called PB".into(), num(bill.indexed_pib, 6)]);
    table.row(["with index, PB".into(), "1,179.6".into(), num(bill.indexed_pb, 3)]);
    table.row(["machines, not rounded".into(), "-".into(), num(bill.machines_exact, 6)]);
    table.row(["machines to rent".into(), "1,072,883".into(), num(bill.machines as f64, 0)]);
    table.row(["dollars a month".into(), "$71 billion in a comment".into(), money(bill.monthly)]);
    page.table("Memory", &table);

    // Build time: what an insertion costs depends on how many vectors are there already.
    let sizes: Vec<usize> = (0..page.size(5, 8)).map(|doubling| 2_000 << doubling).collect();
    let largest = sizes[sizes.len() - 1];
    let vectors = unit_cube(page.seed(), largest, 16);
    let config = HnswConfig { m: 8, ef_construction: 32, ..HnswConfig::default() };
    let mut graph = Hnsw::new(vectors.dim(), Metric::SquaredL2, config)?;
    let mut table = Table::new(["vectors so far", "distances an insertion", "time an insertion"]);
    let (mut inserted, mut evaluations, mut grown) = (0, 0, Vec::new());
    let mut last_us = 0.0;
    for size in sizes {
        let rows: Vec<usize> = (inserted..size).collect();
        let ids: Vec<u64> = rows.iter().map(|&row| row as u64).collect();
        let batch = vectors.select(&rows);
        let start = Instant::now();
        graph.add(&ids, &batch)?;
        let each = start.elapsed() / rows.len() as u32;
        last_us = each.as_secs_f64() * 1e6;
        let distances = (graph.build_evaluations() - evaluations) as f64 / rows.len() as f64;
        grown.push((size as f64, distances));
        table.row([size.into(), num(distances, 1).within(0.2 * distances), duration(each)]);
        (inserted, evaluations) = (size, graph.build_evaluations());
    }
    page.table("An insertion into a growing HNSW graph (M 8, efConstruction 32, dimension 16)", &table);
    let logs: Vec<f64> = grown.iter().map(|point| point.0.ln()).collect();
    let costs: Vec<f64> = grown.iter().map(|point| point.1).collect();
    let slope = fit_line(&logs, &costs)?;
    let chart = Chart::lines("Cost of an insertion", "vectors in the graph", "distances")
        .series("measured", grown.iter().copied())
        .series("fit in ln N", grown.iter().map(|point| (point.0, slope.at(point.0.ln()))).collect::<Vec<_>>())
        .log_x();
    page.chart("insertion.svg", &chart)?;

    let flat_rate = BuildTime::linear(model.rows, 100.0, 10_000)?;
    let mut table = Table::new(["build", "years on one machine", "days on 10,000"]);
    table.row(["100 us a vector, whatever N".into(), num(flat_rate.years, 6), num(flat_rate.days_on_all, 6)]);
    for measured_at in [1_000_000, 1_000_000_000] {
        let grows = BuildTime::n_log_n(model.rows, 100.0, measured_at, 10_000)?;
        let name = format!("100 us measured at 1e{}, then N log N", (measured_at as f64).log10());
        table.row([name.into(), num(grows.years, 1), num(grows.days_on_all, 1)]);
    }
    page.table("Time to build", &table);
    page.text(format!(
        "The last batch here took {last_us:.0} us an insertion of 16 values. An insertion is a search, so its cost grows with ln N: \
         counting 100 us for each of 256 trillion is too kind."
    ));

    let budget = LatencyBudget::hundred_ms();
    let draws = page.size(200_000, 2_000_000);
    let totals = budget.simulate(0.25, draws, page.seed())?;
    let p99 = totals[draws * 99 / 100];
    let mut table = Table::new(["stage", "p99, ms"]);
    for &(name, ms) in budget.stages() {
        table.row([name.into(), num(ms, 1)]);
    }
    table.row(["reserve".into(), num(budget.buffer_ms(), 1)]);
    table.row(["sum of the p99 with the reserve".into(), num(budget.total(), 1)]);
    table.row(["sum of the p99".into(), num(budget.sum_of_p99s(), 1)]);
    table.row(["p99 of the sum, simulated".into(), num(p99, 1).within(1.0)]);
    page.table("Latency: six lognormal stages with a p50 of a quarter of their p99", &table);
    let histogram = Chart::histogram("Whole latency of a query", "ms", 60)
        .series("queries", totals.iter().step_by(20).copied().filter(|ms| *ms < 120.0).collect::<Vec<_>>())
        .marker("p99 of the sum", p99)
        .marker("sum of the p99", budget.sum_of_p99s());
    page.chart("latency.svg", &histogram)?;

    page.claim("raw bytes in PiB").close(bill.raw_pib, 698.491_932, 2e-6);
    page.claim("and in PB").close(bill.raw_bytes as f64 / 1e15, 786.432, 1e-9);
    page.claim("with the index in PiB").close(bill.indexed_pib, 1_047.737_896, 2e-6);
    page.claim("and in PB").close(bill.indexed_pb, 1_179.648, 1e-9);
    page.claim("machines of 1 TiB, not rounded").close(bill.machines_exact, 1_072_883.605_957, 1e-6);
    page.claim("a part of a machine is a whole machine").equals(bill.machines, 1_072_884);
    page.claim("dollars a month for the unrounded count").close(bill.monthly, 6_229_248_046.875, 1e-3);
    page.claim("seconds to build at 100 us a vector").close(flat_rate.seconds, 25.6e9, 1e-3);
    page.claim("in years").close(flat_rate.years, 811.770_675, 1e-6);
    page.claim("in days on 10,000 machines").close(flat_rate.days_on_all, 29.629_630, 1e-6);
    page.claim("an insertion costs more the larger the graph: slope of its distances in ln N")
        .within(60.0)
        .greater(slope.slope, 0.0);
    page.claim("the stages and the reserve fill the budget").equals(budget.total(), 100.0);
    page.claim("simulated p99 of the sum").close(p99, 63.4, 1.5);
    page.claim("is far below the sum of the p99").less(p99, 0.8 * budget.sum_of_p99s());
    page.finish()
}
