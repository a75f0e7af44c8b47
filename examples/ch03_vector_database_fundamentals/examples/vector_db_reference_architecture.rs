//! Listing 3.6: every layer of a small vector database at work: log and crash, filters and planner, swap, cache, breaker.
//!
//! cargo run --release --example vector_db_reference_architecture

use std::path::Path;
use std::time::Instant;

use ch03_vector_database_fundamentals::gloss_rows::{GlossRows, SCHEMA};
use ch03_vector_database_fundamentals::mini_db::drill::{
    ROWS_A_SECOND, breaker_trace, compare_plans, flip_a_bit, ingest, mixed_load, tear,
};
use ch03_vector_database_fundamentals::mini_db::{MiniVectorDb, OnDuplicate, Query};
use eas_ops::{breaker::State, metrics::Registry};
use eas_plan::shards::ShardCalculator;
use eas_report::{Table, duration, num};
use eas_retrieval::planner::Expr;
use eas_tensor::Matrix;

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let encoder = eas_text::encoder::load(page.encoder().name())?;
    let world = GlossRows::new(encoder.as_ref(), page.size(20_000, 100_000), 500, page.seed())?;
    let (folder, dim) = (tempfile::tempdir()?, world.vectors.dim());
    let open = |at: &Path| MiniVectorDb::open(at, dim, &SCHEMA, 2, ROWS_A_SECOND);

    page.section("A crash after 12,345 inserts");
    let mut db = open(folder.path())?.0;
    let now_us = ingest(&mut db, &world, 0, 12_345, 0)?;
    drop(db); // what was in memory is gone
    let copy = folder.path().join("altered");
    let whole = folder.path().join("shard-0").join("log");
    flip_a_bit(&whole, &copy.join("shard-0").join("log"))?;
    tear(&whole)?;
    let start = Instant::now();
    let (mut db, recovered) = open(folder.path())?;
    let recovery = start.elapsed();
    let torn: Vec<u64> = recovered.iter().map(|shard| shard.torn_bytes).collect();
    let survivors = db.len();
    page.text(format!(
        "{survivors} rows, from {} and {} whole records; {torn:?} bytes of torn ones cut off.",
        recovered[0].records, recovered[1].records
    ));
    let flipped = open(&copy).map(drop).map_err(|error| error.to_string().replace(&copy.display().to_string(), ""));
    let now_us = ingest(&mut db, &world, 12_345, world.rows.len(), now_us)?;
    let mut nan = world.vectors.select(&[0]);
    nan.row_mut(0)[3] = f32::NAN;
    let wide = Matrix::zeros(1, dim + 1);
    let [nan, wide] = [nan, wide].map(|bad| db.ingest(&world.rows[..1], &bad, OnDuplicate::Replace, now_us));

    page.section("A new index under load");
    let ask =
        |q: usize, filter: &Expr| Query { vector: world.queries.row(q % 500), k: 10, filter: filter.clone(), ef: 64 };
    let start = Instant::now();
    let (mut asked, mut lost) = (0, 0);
    std::thread::scope(|scope| {
        let shards = db.shards();
        let builder = scope.spawn(|| shards.iter().try_for_each(|shard| shard.build().map(|new| shard.install(new))));
        while !builder.is_finished() {
            let answer = db.search(&ask(asked, &Expr::All), None);
            lost += usize::from(!answer.is_ok_and(|answer| answer.hits.len() == 10));
            asked += 1;
        }
        builder.join().map_err(|_| anyhow::anyhow!("the builder failed"))?
    })?;
    let build = start.elapsed();
    page.text("Both shards built a graph of their rows and put it in force while queries went on.");

    page.section("Three plans, two planners");
    let plans = compare_plans(&db, &world)?;
    let mut table =
        Table::new(["share that passes", "exact", "traversal", "over-fetch", "recall", "rule chose", "cost chose"]);
    for plan in plans.iter().skip(1).step_by(3) {
        let about = |distances: f64| num(distances, 0).within(0.1 * distances);
        let cells = [num(plan.selectivity, 4), num(plan.recall, 3).within(0.02)];
        let [share, recall] = cells;
        let ([exact, traversal, over_fetch], [rule, cost]) = (plan.distances.map(about), plan.chosen.map(about));
        table.row([share, exact, traversal, over_fetch, recall, rule, cost]);
    }
    page.table("Distances a query", &table);
    page.text(
        "The rule of thumb sees only the share that passes: exact below 2 %, over-fetch above 30 %. By cost, the planner \
         compares how many distances each plan should take on this many rows. A traversal gives up for a comparison of all \
         that passes once it has cost as much.",
    );

    page.section("Cache, deletes, metrics");
    let before = mixed_load(&db, &world)?;
    let deleted = db.delete(&before.nearest)?;
    let after = mixed_load(&db, &world)?;
    let again = mixed_load(&db, &world)?;
    let ghosts = after.nearest.iter().filter(|id| before.nearest.contains(id)).count();
    let registry = Registry::new();
    let queries = registry.counter("queries_total", "Queries answered.", &[])?;
    queries.add((before.times.len() + after.times.len() + again.times.len()) as u64);
    let errors = registry.counter("checksum_errors_total", "Altered records.", &[])?;
    errors.add(u64::from(flipped.is_err()));
    registry.gauge("rows", "Rows that can be found.", &[])?.set(db.len() as f64);
    registry.gauge("shard_skew", "Fullest shard over the mean.", &[])?.set((1e3 * db.skew()).round() / 1e3);
    let mut table = Table::new(["metric", "value"]);
    for line in registry.render().lines().filter(|line| !line.starts_with('#')) {
        table.row(line.splitn(2, ' ').map(Into::into));
    }
    page.table("Metrics, as Prometheus reads them", &table);
    let mut table = Table::new(["p50", "p95", "p99", "p99.9", "recovery", "build of the index"]);
    let times = [250, 475, 495, 499].map(|rank| before.times[rank]);
    table.row(times.into_iter().chain([recovery, build]).map(duration));
    page.table("500 mixed queries", &table);

    let shards = ShardCalculator::default().evaluate()?;
    let [each, all, memory] = [shards.gib_per_shard, shards.gib_in_all, shards.memory_gib_per_shard];
    page.text(format!(
        "256 trillion rows, 256 million a shard: {} shards, or {} where the placement needs a power of two (consistent \
         hashing doesn't), with {} rows, {each:.6} GiB and {memory:.6} GiB of memory each, {all} GiB in all copies.",
        shards.least, shards.power_of_two, shards.vectors_per_shard
    ));

    page.claim("exactly the acknowledged inserts survive").equals(survivors, 12_345);
    page.claim("a torn last record is dropped").equals(torn, [310, 0]);
    page.claim("a flipped bit is reported").fails(flipped, "was altered");
    page.claim("NaN is refused").fails(nan, "NaN");
    page.claim("a wrong dimension is refused").fails(wide, "dimension");
    page.claim("the swap loses no query").equals((lost, asked > 0), (0, true));
    page.claim("the exact plan gives what brute force gives").all(&plans, |plan| plan.exact);
    page.claim("the other plans find 0.95 of it").all(&plans, |plan| plan.recall >= 0.95);
    page.claim("by cost, at most 1.5 times the best plan's distances").all(&plans, |plan| plan.regret()[1] <= 1.5);
    page.claim("sampled recall@10 of the mixed queries").within(0.01).at_least(before.recall, 0.95);
    page.claim("deleted rows are gone at once").equals((deleted > 50, ghosts), (true, 0));
    page.claim("answers from the cache after a change, and when asked again")
        .equals((after.cached, again.cached), (0, 500));
    let states = [State::Closed, State::Open, State::HalfOpen, State::Closed];
    page.claim("the breaker opens and closes by the trace").equals(breaker_trace()?, states);
    page.claim("shards of the calculator").equals((shards.least, shards.power_of_two), (1_000_000, 1_048_576));
    page.claim("GiB a shard").close(shards.gib_per_shard, 1_047.737_896, 1e-6);
    page.finish()
}
