//! What listing 3.6 puts the database through.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::ensure;
use eas_ann::filtered::Plan;
use eas_ann::recall;
use eas_ann::wal::Wal;
use eas_ops::breaker::State;
use eas_retrieval::planner::{Expr, Planner};

use super::{Answer, BATCH, Front, MiniVectorDb, OnDuplicate, Query, Refusal};
use crate::gloss_rows::GlossRows;

/// Rows that may be ingested a second.
pub const ROWS_A_SECOND: u64 = 100_000;

/// Ingests rows `from` to `to` in batches, each as soon as the rate allows after `now_us`; the time of the last.
pub fn ingest(
    db: &mut MiniVectorDb,
    world: &GlossRows,
    from: usize,
    to: usize,
    mut now_us: u64,
) -> anyhow::Result<u64> {
    for first in (from..to).step_by(BATCH) {
        let rows: Vec<usize> = (first..(first + BATCH).min(to)).collect();
        now_us += 1_000_000 * rows.len() as u64 / ROWS_A_SECOND + 1;
        let vectors = world.vectors.select(&rows);
        db.ingest(&world.rows[first..first + rows.len()], &vectors, OnDuplicate::Refuse, now_us)?;
    }
    Ok(now_us)
}

/// Filters that pass all, most, few and very few of the rows.
fn mixed_filters() -> [Expr; 4] {
    let living = Expr::is("file", "noun.animal").or(Expr::is("file", "noun.plant"));
    let short_verbs = Expr::is("pos", "verb").and(Expr::between("length", 0.0, 40.0));
    [Expr::All, Expr::is("pos", "noun"), living, short_verbs]
}

/// Leaves in a log what a crash in the midst of one more record leaves: the record without its last ten bytes.
pub fn tear(log: &Path) -> anyhow::Result<()> {
    let (mut wal, _) = Wal::open(log, |_, _| Ok(()))?;
    wal.append(&[1; 300])?;
    wal.sync()?;
    std::fs::File::options().write(true).open(log)?.set_len(wal.bytes() - 10)?;
    Ok(())
}

/// Copies a log, with one bit in its middle the other way round.
pub fn flip_a_bit(log: &Path, copy: &Path) -> anyhow::Result<()> {
    let mut bytes = std::fs::read(log)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::create_dir_all(copy.parent().unwrap_or(Path::new(".")))?;
    Ok(std::fs::write(copy, bytes)?)
}

/// What 500 queries with mixed filters met.
#[derive(Debug)]
pub struct Load {
    /// Ascending.
    pub times: Vec<Duration>,
    /// Recall@10 of every fifth against brute force.
    pub recall: f64,
    /// The nearest row to each of those.
    pub nearest: Vec<u64>,
    /// Answers that came from the cache.
    pub cached: usize,
}

/// Asks 500 queries, the filter changing from one to the next.
pub fn mixed_load(db: &MiniVectorDb, world: &GlossRows) -> anyhow::Result<Load> {
    let filters = mixed_filters();
    let (mut times, mut found, mut truth, mut cached) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for q in 0..500 {
        let query = Query { vector: world.queries.row(q), k: 10, filter: filters[q % filters.len()].clone(), ef: 64 };
        let start = Instant::now();
        let answer = db.search(&query, None)?;
        times.push(start.elapsed());
        cached += usize::from(answer.plans.is_empty());
        if q % 5 == 0 {
            truth.push(db.brute_force(&query)?);
            found.push(answer.hits);
        }
    }
    times.sort();
    Ok(Load {
        times,
        recall: recall(&found, &truth),
        nearest: found.iter().filter_map(|hits| hits.first()).map(|hit| hit.id).collect(),
        cached,
    })
}

/// What searches under one filter cost and find.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanCosts {
    /// Share of the rows that pass.
    pub selectivity: f64,
    /// Distances a query by [`Plan::Exact`], [`Plan::Traversal`], [`Plan::OverFetch`].
    pub distances: [f64; 3],
    /// Lower recall@10 of the latter two.
    pub recall: f64,
    /// Whether the first gives what brute force gives.
    pub exact: bool,
    /// Distances a query when the rule of thumb chooses, and when the expected cost does.
    pub chosen: [f64; 2],
}

impl PlanCosts {
    /// Chosen distances over those of the best plan: by the rule of thumb, by cost.
    pub fn regret(&self) -> [f64; 2] {
        let best = self.distances.iter().copied().fold(f64::INFINITY, f64::min);
        self.chosen.map(|chosen| chosen / best)
    }
}

/// Every plan and both planners on filters that pass from a thousandth of the rows to all of them, in 20 equal ratios.
pub fn compare_plans(db: &MiniVectorDb, world: &GlossRows) -> anyhow::Result<Vec<PlanCosts>> {
    let plans = [Plan::Exact, Plan::Traversal, Plan::OverFetch].map(|plan| Some(Planner::Always(plan)));
    let compare = |step: i32| {
        let (low, high) = world.shortest(0.001 * 1_000f64.powf(f64::from(step) / 19.0));
        let filter = Expr::between("length", low, high);
        let queries: Vec<Query<'_>> =
            (0..8).map(|q| Query { vector: world.queries.row(q), k: 10, filter: filter.clone(), ef: 64 }).collect();
        let truth = queries.iter().map(|query| db.brute_force(query)).collect::<anyhow::Result<Vec<_>>>()?;
        let run = |planner| -> anyhow::Result<(f64, f64, bool)> {
            let answers = queries.iter().map(|query| db.search_shards(query, planner));
            let answers = answers.collect::<anyhow::Result<Vec<Answer>>>()?;
            let distances: u64 = answers.iter().map(|answer| answer.distance_evaluations).sum();
            let hits: Vec<_> = answers.into_iter().map(|answer| answer.hits).collect();
            Ok((distances as f64 / queries.len() as f64, recall(&hits, &truth), hits == truth))
        };
        let [exact, traversal, over_fetch] = plans.map(run);
        let (exact, traversal, over_fetch) = (exact?, traversal?, over_fetch?);
        let mut passing = 0;
        for shard in db.shards() {
            passing += shard.columns().matching(&filter)?.count();
        }
        Ok(PlanCosts {
            selectivity: passing as f64 / db.len() as f64,
            distances: [exact.0, traversal.0, over_fetch.0],
            recall: traversal.1.min(over_fetch.1),
            exact: exact.2,
            chosen: [run(Some(Planner::BySelectivity))?.0, run(None)?.0],
        })
    };
    (0..20).map(compare).collect()
}

/// Five answers that come too late, a refusal, a probe after a second: the states of the breaker in between.
pub fn breaker_trace() -> anyhow::Result<Vec<State>> {
    let mut front = Front::new(100_000, 1_000)?;
    let answer = |took_us: u64| move || (Ok(()), took_us);
    let mut states = vec![front.state(0)];
    for call in 0..5 {
        ensure!(front.call(0, 200_000 * call, answer(150_000)) == Err(Refusal::Late), "call {call} was in time");
    }
    states.push(front.state(1_000_000));
    ensure!(front.call(0, 1_000_000, answer(1)) == Err(Refusal::Open), "the breaker let a call through");
    states.push(front.state(2_000_000));
    ensure!(front.call(0, 2_000_000, answer(1)).is_ok(), "the probe was refused");
    states.push(front.state(2_000_001));
    ensure!(front.call(1_000, 3_000_000, answer(1)) == Err(Refusal::Shed), "a full queue took one more");
    Ok(states)
}
