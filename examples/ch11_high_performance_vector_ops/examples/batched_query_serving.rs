//! Listing 11.5: serving queries with a pool of workers, in micro-batches, and from replicas that fail.
//!
//! cargo run --release --example batched_query_serving

use std::sync::Arc;
use std::time::{Duration, Instant};

use ch11_high_performance_vector_ops::serving::Flaky;
use eas_ann::{AnnError, FlatIndex, Hit, Metric, VectorIndex};
use eas_data::synth::vectors::unit_cube;
use eas_ops::balance::{self, Policy, ReplicaSet, availability};
use eas_ops::batch::{self, BatchPolicy, MicroBatcher, Ticket};
use eas_ops::breaker::State;
use eas_ops::clock::{Clock, MILLISECOND, Micros, SECOND, SystemClock, VirtualClock, milliseconds};
use eas_ops::pool::{ThroughputReport, WorkerPool};
use eas_report::{Chart, Table, duration, num};

const K: usize = 10;

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let vectors = unit_cube(page.seed_or(11), page.size(20_000, 200_000), 64);
    let queries = unit_cube(12, 1_000, 64);
    let mut flat = FlatIndex::new(64, Metric::Cosine)?;
    flat.add(&(0..vectors.rows() as u64).collect::<Vec<_>>(), &vectors)?;
    let index: Arc<dyn VectorIndex> = Arc::new(flat);

    page.section("A pool of workers");
    let start = Instant::now();
    let answers: Result<Vec<Vec<Hit>>, AnnError> = queries.iter_rows().map(|q| index.search(q, K)).collect();
    let (answers, sequential) = (answers?, start.elapsed());
    let mut table = Table::new(["1,000 queries", "all done after", "p50 latency", "p99 latency"]);
    table.row(["in sequence".into(), duration(sequential), "-".into(), "-".into()]);
    let time = |ms: f64| duration(Duration::from_secs_f64(ms / 1e3));
    let (mut same, mut speedups) = (Vec::new(), Vec::new());
    for workers in [1, 2, 4] {
        let pool = WorkerPool::new(Arc::clone(&index), workers)?;
        let start = Instant::now();
        let responses = pool.run(&queries, K)?;
        let elapsed = start.elapsed();
        let report = ThroughputReport::of(&responses, elapsed, sequential)?;
        let (p50, p99) = (time(report.latency.p50), time(report.latency.p99));
        table.row([format!("{workers} workers").into(), duration(elapsed), p50, p99]);
        speedups.push(format!("{:.2}x with {workers}", report.speedup));
        let hits = responses.iter().map(|r| r.hits.as_deref().unwrap_or_default());
        same.push(hits.eq(&answers));
    }
    page.table("Latency counts from submission, waiting included", &table);
    let speedups = speedups.join(", ");
    page.text(format!("Speed-up here and now: {speedups}. Workers beyond the cores add none."));

    page.section("Micro-batches in virtual time");
    page.text("A query arrives every 500 us, 200 in all; the server takes 2,000 us and 50 us a query for a batch.");
    let arrivals: Vec<Micros> = (0..200).map(|i| i * 500).collect();
    let service = |batch: usize| 2_000 + 50 * batch as Micros;
    let mut table = Table::new(["full", "wait ms", "batches", "mean ms", "p95 ms", "max ms", "qps"]);
    let (mut batches, mut mean, mut p95, mut max, mut qps) = (vec![], vec![], vec![], vec![], vec![]);
    let mut gaps = Vec::new();
    for (full, wait) in [(1, 0), (32, 5), (32, 0), (8, 5), (64, 20)] {
        let run = batch::simulate(BatchPolicy::new(full, wait * MILLISECOND), &arrivals, service)?;
        let (made, ms) = (run.batches.len(), run.spans.summary()?);
        let rate = run.spans.throughput().unwrap_or(0.0);
        let measured = [num(ms.mean, 4), num(ms.p95, 2), num(ms.max, 2), num(rate, 3)];
        table.row([full.into(), wait.into(), made.into()].into_iter().chain(measured));
        gaps.push(run.spans.littles_law()?.relative_gap());
        batches.push(made);
        mean.push((ms.mean * 1e4).round() / 10.0);
        p95.push(ms.p95);
        max.push(ms.max);
        qps.push((rate * 1e3).round() / 1e3);
    }
    page.table("A batch leaves when full, or when its first query has waited", &table);
    page.text(
        "A wait of 0 takes what has queued up while the server was busy: faster here than every window, and an idle server \
         keeps nobody waiting. One query at a time can't keep up at all.",
    );

    // The same queue with threads and the machine's clock; every query has its own k.
    let (searcher, clock) = (Arc::clone(&index), Arc::new(SystemClock::new()));
    let batcher = MicroBatcher::new(BatchPolicy::default(), clock.clone(), move |k, rows: Vec<Vec<f32>>| {
        let search = |row: &Vec<f32>| searcher.search(row, k).unwrap_or_default();
        rows.iter().map(search).collect()
    })?;
    let submitted = (0..100).map(|i| batcher.submit(1 + i % 3, queries.row(i).to_vec()));
    let tickets = submitted.collect::<Result<Vec<_>, _>>()?;
    batcher.stop();
    let replies = tickets.into_iter().map(Ticket::wait).collect::<Result<Vec<_>, _>>()?;
    let own_k = replies.iter().zip(0..).map(|(r, i)| r.value == answers[i][..=i % 3]);
    let idle: MicroBatcher<(), ()> = MicroBatcher::new(BatchPolicy::default(), clock, |_, items| items)?;
    page.timed("stop() of an idle batcher", || idle.stop());

    page.section("Replicas");
    page.text("300 queries, one every 480 us, at replicas that take 1,000, 1,000 and 4,000 us.");
    let arrivals: Vec<Micros> = (0..300).map(|i| i * 480).collect();
    let mut table = Table::new(["policy", "queries by replica", "mean ms", "max ms"]);
    let mut chart = Chart::scatter("Three replicas, one of them four times slower", "query", "latency, ms").log_y();
    let (mut assigned, mut latency) = (Vec::new(), Vec::new());
    for (name, policy) in [
        ("round robin", Policy::RoundRobin),
        ("least outstanding", Policy::LeastOutstanding),
        ("latency weighted", Policy::LatencyWeighted),
    ] {
        let run = balance::simulate(policy, &arrivals, &[1_000, 1_000, 4_000])?;
        let (ms, by_replica) = (run.spans.summary()?, format!("{:?}", run.assigned));
        table.row([name.into(), by_replica.into(), num(ms.mean, 4), num(ms.max, 2)]);
        chart = chart.series(name, run.spans.latencies().into_iter().map(milliseconds).enumerate());
        gaps.push(run.spans.littles_law()?.relative_gap());
        assigned.push(run.assigned);
        latency.push(((ms.mean * 1e4).round() / 1e4, ms.max));
    }
    page.table("Unequal replicas under three policies", &table);
    page.chart("replicas.svg", &chart)?;

    // Three replicas that really search. Number 0 fails at times, then always, then never.
    let clock = VirtualClock::new();
    let replicas = (0..3).map(|seed| Flaky::new(Arc::clone(&index), seed)).collect();
    let set = ReplicaSet::new(Policy::RoundRobin, replicas, 3, Arc::new(clock.clone()))?;
    let mut table = Table::new(["replica 0 fails", "right answers", "failed", "tries so far"]);
    let mut right = Vec::new();
    for (label, share) in [("30%", 0.3), ("always", 1.0), ("never", 0.0)] {
        set.replicas()[0].fail(share);
        let mut correct = 0_u64;
        for (query, expected) in queries.iter_rows().zip(&answers).take(300) {
            clock.advance(5 * MILLISECOND);
            correct += u64::from(set.call(|_, replica| replica.search(query, K))? == *expected);
        }
        let (failed, tries) = (set.replicas()[0].failed(), set.snapshot().assigned());
        table.row([label.into(), correct.into(), failed.into(), format!("{tries:?}").into()]);
        right.push(correct);
        clock.advance(SECOND);
    }
    page.table("300 queries each: a rest after three failures in a row", &table);
    let readmitted = set.snapshot().health(clock.now());
    let refused: Vec<_> = (0..10).map(|_| set.call(|_, r| r.search(&[1.0; 3], K))).collect();

    page.claim("1, 2 and 4 workers answer as one does").all(same, |same| same);
    page.claim("batches of the five policies").equals(batches, [200, 19, 46, 25, 5]);
    page.claim("mean latency of the five policies, us").equals(mean, [156_275.0, 5_068.0, 3_301.5, 4_150.0, 14_230.0]);
    page.claim("their p95, ms").equals(p95, [295.0, 7.55, 4.3, 5.9, 23.05]);
    page.claim("their maximum, ms").equals(max, [310.5, 7.55, 4.4, 5.9, 24.05]);
    page.claim("their queries a second").equals(qps, [487.805, 1885.014, 1960.784, 1962.709, 1890.359]);
    page.claim("Little's law holds in all eight simulations").all(gaps, |gap| gap < 1e-9);
    page.claim("a stopping batcher answers all, each with its own k").all(own_k, |own| own);
    page.claim("and takes no more").fails(batcher.submit(1, vec![]), "has been stopped");
    page.claim("queries by replica under three policies")
        .equals(assigned, [[100, 100, 100], [144, 122, 34], [147, 146, 7]]);
    page.claim("their mean and maximum latency, ms").equals(latency, [(44.24, 257.44), (1.6696, 4.0), (3.1168, 4.0)]);
    page.claim("right answers despite a failing replica").equals(right, [300; 3]);
    page.claim("which is let in again").equals(readmitted, [State::Closed; 3]);
    page.claim("a query of the wrong dimension is refused").all(refused, |answer| answer.is_err());
    page.claim("and held against no replica").equals(set.snapshot().health(clock.now()), [State::Closed; 3]);
    page.claim("a replica of three is up, 99% each").close(availability(0.99, 3)?, 0.999_999, 1e-12);
    page.finish()
}
