//! Listing 1.9: how search cost really grows with the collection, and why fan-out eats the latency budget.
//!
//! cargo run --release --example trillion_row_query_budget

use eas_ann::{FlatIndex, Hnsw, HnswConfig, Metric, VectorIndex, jump_hash, recall};
use eas_data::synth::near_plane;
use eas_eval::fit::{fit_log2, fit_power};
use eas_plan::latency::{FanOut, LogNormal};
use eas_plan::scale::{hnsw_levels, shard_budget};
use eas_report::{Chart, Table, num, pct};
use eas_tensor::rng::SplitMix64;

const ROWS: u64 = 256_000_000_000_000;
const K: usize = 10;

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let queries = 200;
    let sizes: Vec<usize> = (0..page.size(6, 9)).map(|doubling| 1_000 << doubling).collect();
    let largest = sizes.last().copied().unwrap_or(0);
    let points = near_plane(largest + queries, 8, 32, 0.02, page.seed())?;
    let asked = points.select(&(largest..largest + queries).collect::<Vec<_>>());

    page.text(
        "\"A search over N vectors takes log N hops\" is often turned into a budget: log2 of 256 trillion is 48, so 48 \
         steps. Here one graph grows from 1,000 vectors on, and at each doubling the distances that 200 searches compute \
         are counted.",
    );
    let config = HnswConfig { m: 12, ef_construction: 80, ef: 40, seed: page.seed(), ..HnswConfig::default() };
    let mut graph = Hnsw::new(32, Metric::SquaredL2, config)?;
    let mut exact = FlatIndex::new(32, Metric::SquaredL2)?;
    let mut table = Table::new(["vectors", "log2", "distances a search", "of a scan", "recall@10"]);
    let (mut growth, mut recalls, mut truth) = (Vec::new(), Vec::new(), Vec::new());
    for &n in &sizes {
        let new: Vec<usize> = (graph.len()..n).collect();
        let ids: Vec<u64> = new.iter().map(|&i| i as u64).collect();
        page.timed(format!("insert up to {n}"), || graph.add(&ids, &points.select(&new)))?;
        exact.add(&ids, &points.select(&new))?;
        truth = exact.search_batch(&asked, K)?;
        let mut evaluations = 0;
        let mut found = Vec::with_capacity(queries);
        for query in asked.iter_rows() {
            let (hits, cost) = graph.search_counted(query, K, config.ef, &|_| true)?;
            evaluations += cost.distance_evaluations;
            found.push(hits);
        }
        let mean = evaluations as f64 / queries as f64;
        let recall = recall(&found, &truth);
        // Another processor's rounding may turn a near tie and with it a few steps of the walk.
        table.row([
            n.into(),
            num((n as f64).log2(), 2),
            num(mean, 1).within(2.0),
            pct(mean / n as f64, 2).within(0.002),
            num(recall, 4).within(0.002),
        ]);
        growth.push((n as f64, mean));
        recalls.push(recall);
    }
    page.table("Distances computed by an HNSW search (M 12, ef 40, intrinsic dimension 8)", &table);
    let (law, power) = (fit_log2(&growth)?, fit_power(&growth)?);
    let log2_rows = (ROWS as f64).log2();
    let extrapolated = law.at(log2_rows);
    page.text(format!(
        "The law is {:.0} + {:.1} x log2(N), R^2 {:.4}: logarithmic, but with {:.0} distances a doubling rather than one. \
         At 256 trillion it gives {extrapolated:.0} distances, not 48.",
        law.intercept, law.slope, law.r_squared, law.slope
    ));
    let fitted = sizes.iter().map(|&n| (n as f64, law.at((n as f64).log2())));
    let chart = Chart::lines("Distances a search", "vectors", "distances")
        .series("measured", growth.iter().copied())
        .series("a + b log2 N", fitted.collect::<Vec<_>>())
        .log_x();
    page.chart("growth.svg", &chart)?;

    page.text(
        "The second half of the budget: each shard answers in 50 ms at the median and 200 ms at the 99th percentile, and a \
         query waits for the slowest shard it asks. The median of the slowest of 10 is each shard's 93rd percentile.",
    );
    let shard = LogNormal::from_p50_p99(50.0, 200.0)?;
    let mut table =
        Table::new(["shards asked", "p50, ms", "p99, ms", "p99 with a hedge after p95, ms", "share of data"]);
    for shards in [1, 10, 100, 1_000] {
        let query = FanOut::new(shard, shards)?;
        let hedged = query.hedged(0.05)?;
        let share = shard_budget(ROWS, 3_072, 1_000, u64::from(shards))?.recall_ceiling;
        let cells = [query.quantile(0.5)?, query.quantile(0.99)?, hedged.quantile(0.99)?].map(|ms| num(ms, 1));
        table.row([shards.into()].into_iter().chain(cells).chain([pct(share, 1)]));
    }
    page.table("Latency of a query, 5 ms selection and 5 ms merge included; 1,000 shards in all", &table);

    let (ten, thousand) = (FanOut::new(shard, 10)?, FanOut::new(shard, 1_000)?);
    let hedged = ten.hedged(0.05)?;
    let simulated = ten.simulate_slowest(200_000, page.seed());
    let simulated_hedged = hedged.simulate_slowest(200_000, page.seed());
    let at = |sorted: &[f64], q: f64| sorted[(q * sorted.len() as f64) as usize];

    // Rows placed at random on 1,000 shards: how many of the true neighbours lie on 10 of them?
    let mut rng = SplitMix64::new(page.seed());
    let (mut on_searched, mut neighbours) = (0, 0);
    for _ in 0..50 {
        let searched = rng.sample_indices(1_000, 10);
        let ids = truth.iter().flatten().map(|hit| jump_hash(hit.id, 1_000) as usize);
        on_searched += ids.filter(|shard| searched.contains(shard)).count();
        neighbours += truth.iter().map(Vec::len).sum::<usize>();
    }
    let random_recall = f64::from(on_searched as u32) / neighbours as f64;
    let whole = shard_budget(ROWS, 3_072, 1_000, 10)?;
    page.text(format!(
        "Asking 10 of 1,000 random shards can find 1% of the neighbours ({:.2}% here). And each of these shards would hold \
         {:.0} TB of vectors: no machine does.",
        100.0 * random_recall,
        whole.bytes_per_shard / 1e12
    ));

    page.claim("log2 of 256 trillion is 47.863137").close(log2_rows, 47.863_137, 1e-6);
    page.claim("at M 16 that is 11.965784 levels").close(hnsw_levels(ROWS, 16)?, 11.965_784, 1e-6);
    page.claim("cost grows with log N: R^2 of the fit").within(0.005).at_least(law.r_squared, 0.95);
    page.claim("and far below any power of N: slope in log-log").within(0.005).at_most(power.slope, 0.25);
    page.claim("but 256 trillion need more than ten times 48 distances")
        .within(20.0)
        .greater(extrapolated, 10.0 * log2_rows);
    page.claim("recall@10 is at least 0.98 at every size").all(&recalls, |recall| *recall >= 0.98);
    page.claim("the median of the slowest of 10 is a shard's quantile 0.933033").close(
        0.5f64.powf(0.1),
        0.933_033,
        1e-6,
    );
    page.claim("slowest of 10: p50 is 122.138 ms").close(ten.slowest(0.5)?, 122.138, 1e-3);
    page.claim("slowest of 10: p99 is 315.048 ms").close(ten.slowest(0.99)?, 315.048, 1e-3);
    page.claim("slowest of 1,000: p50 is 336.130 ms").close(thousand.slowest(0.5)?, 336.130, 1e-3);
    for q in [0.5, 0.99] {
        page.claim(format!("slowest of 10: simulation and formula agree within 3% at quantile {q}")).between(
            at(&simulated, q) / ten.slowest(q)?,
            0.97,
            1.03,
        );
    }
    page.claim("hedging after the p95 lowers the simulated p99 by a quarter")
        .at_most(at(&simulated_hedged, 0.99) / at(&simulated, 0.99), 0.75);
    page.claim("and leaves the simulated p50 within 5%").between(
        at(&simulated_hedged, 0.5) / at(&simulated, 0.5),
        0.95,
        1.05,
    );
    page.claim("10 of 1,000 random shards hold 1% of the neighbours").close(random_recall, 0.010, 0.005);
    page.claim("a shard of 256 billion vectors is 786.432 TB").close(whole.bytes_per_shard / 1e12, 786.432, 1e-9);
    page.claim("no more shards can be searched than there are")
        .fails(shard_budget(ROWS, 3_072, 10, 11), "searched shards is 11");
    page.finish()
}
