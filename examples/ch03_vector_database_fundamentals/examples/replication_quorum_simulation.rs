//! Listing 3.15: one leader, many leaders, or a quorum, under the same crash and the same split network.
//!
//! cargo run --release --example replication_quorum_simulation

use ch03_vector_database_fundamentals::consistency::vectors;
use ch03_vector_database_fundamentals::replication::{Comparison, FAULT, NODES, Needs, Pattern, Report};
use ch03_vector_database_fundamentals::replication::{
    availability, lost_to_skew, quorum, recommend, states_over_orders,
};
use eas_ops::clock::{MILLISECOND, Micros, seconds};
use eas_pipeline::replica::multi::Stamping;
use eas_pipeline::replica::primary::Acknowledge;
use eas_pipeline::replica::workload::Workload;
use eas_report::{Table, num, pct};

const P: f64 = 0.99;

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let seed = page.seed();
    let rows = vectors(1_000, seed);
    page.text(format!(
        "{NODES} nodes with an index each, in three regions 100 to 300 ms apart. 5,000 operations, every second one an upsert, \
         the others reads of ids written in the last second, on the nearest node. Node 0, the first leader, crashes or is cut \
         off from {} s to {} s.",
        seconds(FAULT.start),
        seconds(FAULT.end)
    ));

    let patterns = [
        ("primary, asynchronous", Pattern::Primary(Acknowledge::Async)),
        ("primary, 1 replica acks", Pattern::Primary(Acknowledge::Replicas(1))),
        ("multi-primary", Pattern::Multi),
        ("quorum W=2, R=2", Pattern::Quorum),
    ];
    let runs = Comparison::run(&patterns.map(|(_, pattern)| pattern), &rows, seed)?;
    let name = |wanted| patterns.iter().find(|(_, pattern)| *pattern == wanted).map_or("", |(name, _)| *name);
    let ms = |time: Micros| num(time as f64 / 1e3, 0);
    let mut table = Table::new(["pattern", "fault", "writes", "lost", "reads", "stale", "write ms", "read ms"]);
    for Report { pattern, fault, outcome, .. } in &runs.0 {
        let (done, [lost, reads, stale]) =
            (pct(outcome.writes_available, 1), [outcome.lost, outcome.reads, outcome.stale]);
        let (pattern, write, read) = (name(*pattern).into(), ms(outcome.write_p50), ms(outcome.read_p50));
        table.row([pattern, (*fault).into(), done, lost.into(), reads.into(), stale.into(), write, read]);
    }
    page.table("Acknowledged writes that are lost, and reads that miss one", &table);

    let mut table = Table::new(["W", "R", "W + R > N", "stale of 5,000", "write ms", "read ms"]);
    let mut grid = Vec::new();
    for (w, r) in (1..=NODES).flat_map(|w| (1..=NODES).map(move |r| (w, r))) {
        let work = Workload { operations: 10_000, every: 20 * MILLISECOND, recent: 25, ..Workload::new(seed) };
        let seen = quorum(w, r, &work, &rows, seed)?;
        let (overlap, write, read) = (w + r > NODES, ms(seen.write_p50), ms(seen.read_p50));
        table.row([w.into(), r.into(), overlap.into(), seen.stale.into(), write, read]);
        grid.push((overlap, seen.stale));
    }
    page.table("Quorums without faults: what overlap costs", &table);

    let writes = page.size(100_000, 1_000_000);
    let exact = [1.0 - (1.0 - P).powi(3), P.powi(3) + 3.0 * P * P * (1.0 - P), P.powi(3)];
    let mut table = Table::new(["write quorum", "formula", "simulated", "standard error"]);
    let mut measured = Vec::new();
    for (w, exact) in (1..=NODES).zip(exact) {
        let error = (exact * (1.0 - exact) / writes as f64).sqrt();
        let seen = availability(w, P, writes, seed)?;
        table.row([format!("{w} of 3").into(), num(exact, 6), num(seen, 6), num(error, 6)]);
        measured.push((seen, exact, error));
    }
    page.table("Writes that succeed when each node is up 99 % of the time", &table);

    let mut table = Table::new(["regions", "writes/s", "reads/s", "vectors", "pattern", "shards", "why"]);
    for (writing_regions, writes, reads, vectors) in
        [(1, 2e3, 50e3, 80e6), (1, 45e3, 50e3, 80e6), (3, 1e3, 90e3, 5e9), (3, 40e3, 60e3, 5e9)]
    {
        let (chosen, shards, why) = recommend(Needs { writing_regions, writes, reads, vectors });
        let [writes, reads, vectors] = [writes, reads, vectors].map(|number| num(number, 0));
        let (regions, pattern) = (writing_regions.into(), name(chosen).into());
        table.row([regions, writes, reads, vectors, pattern, shards.into(), why.into()]);
    }
    page.table("What to take", &table);

    let (asynchronous, acked) = (patterns[0].1, patterns[1].1);
    let elected: Vec<&Report> = runs.0.iter().filter(|report| !report.led.is_empty()).collect();
    let mut crashes = elected.iter().filter(|report| report.fault == "crash");

    for ((seen, exact, error), name) in measured.iter().zip(["1 of 3", "2 of 3", "3 of 3"]) {
        page.claim(format!("{name} nodes suffice as often as the formula says, within three standard errors")).close(
            *seen,
            *exact,
            3.0 * error,
        );
    }
    page.claim("the formulas give 0.999999, 0.999702 and 0.970299")
        .all(exact.iter().zip([0.999999, 0.999702, 0.970299]), |(exact, listed)| (*exact - listed).abs() < 5e-7);
    page.claim("no read is stale when W + R > N")
        .all(grid.iter().filter(|(overlap, _)| *overlap), |(_, stale)| *stale == 0);
    page.claim("with W = R = 1 some are").greater(grid[0].1, 0);
    page.claim("W = 3 that is done after W/2 + 1 = 2 answers gives stale reads at R = 1").greater(grid[3].1, 0);
    let [crash, split] = ["crash", "split"].map(|fault| runs.lost(asynchronous, fault));
    page.claim("an asynchronous primary loses acknowledged writes when it crashes").greater(crash, 0);
    page.claim("and more when it is cut off and goes on").greater(split, crash);
    page.claim("with one replica's acknowledgement neither loses any").equals(runs.lost(acked, ""), 0);
    page.claim("failover takes 30 to 60 s")
        .all(&mut crashes, |report| report.failover().is_some_and(|span| (30.0..=60.0).contains(&span)));
    page.claim("never two leaders in one term").all(&elected, |report| report.one_leader_a_term());
    page.claim("multi-primary accepts writes through crash and split")
        .all(runs.of(Pattern::Multi, ""), |outcome| outcome.writes_available > 0.999);
    page.claim("the quorum never shows an old vector, and loses none")
        .all(runs.of(Pattern::Quorum, ""), |outcome| outcome.stale + outcome.lost == 0);
    page.claim("100 orders of delivery, every change twice, lead to one state")
        .equals(states_over_orders(100, seed)?.len(), 1);
    let skewed = |stamping| lost_to_skew(stamping, 500 * MILLISECOND, 200);
    page.claim("a clock 500 ms ahead makes last-writer-wins lose every later update")
        .equals(skewed(Stamping::Wall)?, 200);
    page.claim("a hybrid clock loses none").equals(skewed(Stamping::Hybrid)?, 0);
    let again = Comparison::run(&[asynchronous], &rows, seed)?;
    page.claim("the same seed gives the same runs").equals(again.0 == runs.0[..3], true);
    ch03_vector_database_fundamentals::served::consistency(&mut page)?;
    page.finish()
}
