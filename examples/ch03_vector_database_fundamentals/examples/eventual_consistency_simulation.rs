//! Listing 3.14: what a reader sees of a write, and when: replicas that lag, sessions, tombstones, a split network.
//!
//! cargo run --release --example eventual_consistency_simulation

use ch03_vector_database_fundamentals::consistency::{
    DIM, Revocation, behind_a_fixed_lag, deletes, revocation, split, staleness, vectors,
};
use eas_ops::clock::{MILLISECOND, seconds};
use eas_pipeline::replica::store::{Mode, ReadPolicy, StoreConfig};
use eas_report::{Chart, Table, num, pct};

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let seed = page.seed();
    let config = StoreConfig::new(DIM);
    let pairs = page.size(20_000, 100_000);
    page.text(format!(
        "A primary and two replicas, each with an index of its own. A write is committed on the primary and reaches each \
         replica after a lag of one second on average. {pairs} times a product gets a new vector, and clients search for it."
    ));

    // After t seconds a replica still lacks the write with probability e^-t, and two of three nodes are replicas.
    let after: Vec<u64> = [100, 250, 500, 1_000, 1_500, 2_000, 3_000, 4_000].map(|ms| ms * MILLISECOND).to_vec();
    let updates = vectors(pairs, seed);
    let any = staleness(config, &updates, ReadPolicy::Any, &after, seed)?;
    let session = staleness(config, &updates, ReadPolicy::Session, &after[..3], seed)?;
    let primary = staleness(config, &updates, ReadPolicy::Primary, &after[..3], seed)?;
    let mut table = Table::new(["after", "any node", "(2/3) e^-t", "standard error", "own session", "primary"]);
    let (mut measured, mut expected, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    for (i, &t) in after.iter().enumerate() {
        let p = 2.0 / 3.0 * (-seconds(t)).exp();
        measured.push(any.missed[i] as f64 / pairs as f64);
        expected.push(p);
        errors.push((p * (1.0 - p) / pairs as f64).sqrt());
        let missed = |misses: &[usize]| misses.get(i).map_or("-".into(), |&n| n.into());
        table.row([
            format!("{} s", seconds(t)).into(),
            num(measured[i], 4),
            num(p, 6),
            num(errors[i], 4),
            missed(&session.missed),
            missed(&primary.missed),
        ]);
    }
    page.table("Share of reads that miss the write; for session and primary their number", &table);
    let points = |values: &[f64]| after.iter().map(|&t| seconds(t)).zip(values.iter().copied()).collect::<Vec<_>>();
    let chart = Chart::lines("Reads that miss a write", "seconds since its commit", "share of reads")
        .series("any node, measured", points(&measured))
        .series("(2/3) e^-t", points(&expected));
    page.chart("staleness.svg", &chart)?;

    let behind = behind_a_fixed_lag(seed)?;

    page.section("Thirty seconds with one replica cut off");
    let (ap, cp) = (split(Mode::Ap, seed)?, split(Mode::Cp, seed)?);
    let mut table =
        Table::new(["mode", "answered", "stale reads", "recall@10", "of flagged", "conflicts", "equal after"]);
    for (mode, seen) in [("Ap: answer anyway", &ap), ("Cp: refuse", &cp)] {
        table.row([
            mode.into(),
            pct(seen.available, 1),
            pct(seen.stale, 1),
            num(seen.recall, 3),
            seen.flagged_recall.map_or("-".into(), |recall| num(recall, 3)),
            seen.conflicts.into(),
            seen.converged.into(),
        ]);
    }
    page.table("What clients met during the split, compared with a fully synced index", &table);

    // Deletes travel apart and faster. Permissions don't travel: the primary is asked at every read.
    let deleted = deletes(seed)?;
    let Revocation { granted, revoked, cut_off } = revocation(seed)?;
    page.text(format!(
        "Of {} deleted ids {} were still returned after 50 ms and {} after a second. A user saw {granted} hits in 300 \
         searches, and {revoked} in the 300 after the permission was revoked.",
        deleted.deleted, deleted.early, deleted.late
    ));
    let few = vectors(500, seed);
    let again = |seed| staleness(config, &few, ReadPolicy::Any, &after, seed).map(|seen| seen.trace);

    for (i, t) in [(2, "0.5 s"), (3, "1 s"), (5, "2 s")] {
        page.claim(format!("{t} after a write the share of stale reads is (2/3) e^-t within three standard errors"))
            .close(measured[i], expected[i], 3.0 * errors[i]);
    }
    page.claim("(2/3) e^-t is 0.404354, 0.245253 and 0.090224 there")
        .all([(2, 0.404354), (3, 0.245253), (5, 0.090224)], |(i, p)| (expected[i] - p).abs() < 5e-7);
    page.claim("a client reads its own writes, and the primary shows all")
        .all(session.missed.iter().chain(&primary.missed), |&missed| missed == 0);
    page.claim("with a lag of 5 s both replicas are behind at 1 s and at 4 s, and none at 5 s")
        .equals(behind, [2, 2, 0]);
    page.claim("split, Ap answers everything").equals(ap.available, 1.0);
    page.claim("from old data").greater(ap.stale, 0);
    page.claim("at a measurable loss of recall on the cut-off replica").less(ap.flagged_recall.unwrap_or(1.0), 0.95);
    page.claim("Cp never answers from old data").equals(cp.stale, 0.0);
    page.claim("but refuses some").between(cp.available, 0.5, 0.8);
    page.claim("healed, all replicas are equal").all([ap.converged, cp.converged], |converged| converged);
    page.claim("both sides had written to the same products").greater(ap.conflicts, 0);
    page.claim("a deleted id is returned before its tombstone arrives").greater(deleted.early, 0);
    page.claim("and never after a second").equals(deleted.late, 0);
    page.claim("a revoked user sees nothing at once").equals((granted, revoked), (300, 0));
    page.claim("nor from a node that can't ask").fails(cut_off, "shows user 7 nothing");
    page.claim("the same seed gives the same run, another a different one")
        .equals((again(1)? == again(1)?, again(1)? == again(2)?), (true, false));
    page.finish()
}
