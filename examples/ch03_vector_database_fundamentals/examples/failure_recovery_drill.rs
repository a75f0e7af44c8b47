//! Listing 3.16: ten kinds of fault on purpose: what notices them, how fast they are mended, and what is lost.
//!
//! cargo run --release --example failure_recovery_drill

use ch03_vector_database_fundamentals::faults::{drill, twelve_hours};
use eas_ops::clock::{HOUR, MINUTE, Micros, SECOND, seconds};
use eas_pipeline::chaos::Insert;
use eas_pipeline::chaos::drill::Fault;
use eas_pipeline::chaos::durability::{Durability, failures_a_day};
use eas_pipeline::chaos::region::RegionFailover;
use eas_report::{Chart, Table, num, sci};

const YEAR: f64 = 8_760.0;

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let seed = page.seed();
    let folder = page.out_dir()?.join("nodes");
    let faults = twelve_hours();
    let report = drill(&folder, 12, &faults.map(|(_, at, fault)| (at, fault)), seed)?;
    page.text(
        "Twelve hours of a cluster in virtual time: six nodes, four shards with three copies each, every copy an index with a \
         file of its own. A query every 5 s is compared with an index of everything acknowledged; a write every 10 s is \
         acknowledged when a majority of its shard's copies has it.",
    );
    let mut table = Table::new(["fault", "noticed by", "after s", "limit s", "mended s", "wrong"]);
    let mut bars = [Vec::new(), Vec::new()];
    for ((name, _, _), incident) in faults.iter().zip(&report.incidents) {
        let (detector, noticed) = incident.detected.unwrap_or(("nothing", Micros::MAX));
        let mended = seconds(incident.recovered.unwrap_or(Micros::MAX));
        bars[0].push(seconds(noticed));
        bars[1].push(mended);
        table.row([
            (*name).into(),
            detector.into(),
            num(seconds(noticed), 0),
            num(seconds(incident.limit), 0),
            num(mended, 0),
            incident.wrong.into(),
        ]);
    }
    page.table("What was done to it, and what became of it", &table);
    let [noticed, mended] = bars;
    let chart = Chart::bars("Faults", "fault", "seconds", faults.map(|(name, _, _)| name));
    page.chart("incidents.svg", &chart.series("until noticed", noticed).series("until mended", mended))?;
    let success = 1.0 - report.failed as f64 / report.requests as f64;
    page.text(format!(
        "{} requests, {} failed, {} answered by the second copy asked; writes put off {} times; {} of {} acknowledged vectors lost.",
        report.requests, report.failed, report.retried, report.delayed, report.lost, report.acknowledged
    ));

    // Three nodes within a minute: all copies of shard 1 are gone before another could be made.
    let deadly = [1, 2, 3].map(|node| (HOUR / 2 + node as u64 * 20 * SECOND, Fault::LoseNode(node)));
    let fatal = drill(&folder, 1, &deadly, seed)?;
    let again = drill(&folder, 1, &deadly, seed)?;

    let log: Vec<Insert> = (0..4_000).map(|id| Insert { id, vector: vec![id as f32, 1.0] }).collect();
    let plan = RegionFailover::default();
    let region = plan.run(&log, 50 * MINUTE + 37 * SECOND, &folder.join("standby.index"), seed)?;
    let mut table = Table::new(["region drill", "objective", "measured"]);
    let (rto, rpo) = (seconds(plan.rto), seconds(plan.rpo));
    for (what, objective, measured) in [
        ("back in service, s", num(rto, 0), seconds(region.recovered)),
        ("oldest lost write, s", num(rpo, 0), seconds(region.oldest_lost)),
        ("acknowledged writes lost", "-".into(), region.lost as f64),
    ] {
        table.row([what.into(), objective, num(measured, 0)]);
    }
    page.table("The region with the primary copies goes down", &table);

    let mut table = Table::new(["copies", "fails every", "made in", "hours to loss", "years"]);
    let mut hours = Vec::new();
    for (copies, mtbf, mttr, shown) in [
        (3, 100.0, 5.0, ["100 h", "5 h"]),
        (2, 4.0 * YEAR, 0.5, ["4 years", "0.5 h"]),
        (3, 4.0 * YEAR, 0.5, ["4 years", "0.5 h"]),
    ] {
        let exact = Durability::new(copies, mtbf, mttr)?.mean_hours_to_loss();
        hours.push(exact);
        table.row([copies.into(), shown[0].into(), shown[1].into(), sci(exact, 6), sci(exact / YEAR, 2)]);
    }
    page.table("How long data lasts (one shard, independent failures)", &table);
    let simulated = Durability::new(3, 100.0, 5.0)?.simulate(2_000, seed);
    let daily = failures_a_day(3_000.0, 4.0);
    page.text(format!("3,000 machines that fail once in four years fail {daily:.2} times a day: recovery is routine."));

    let of = |name: &str| faults.iter().position(|(other, _, _)| *other == name).map(|i| &report.incidents[i]);
    let wrong = |name: &str| of(name).map_or(usize::MAX, |incident| incident.wrong);
    page.claim("every fault is noticed within its limit")
        .all(&report.incidents, |incident| incident.detected.is_some_and(|(_, after)| after <= incident.limit));
    page.claim("and mended").all(&report.incidents, |incident| incident.recovered.is_some());
    page.claim("at least 99.9 % of requests succeed").at_least(success, 0.999);
    page.claim("with two copies lost at once no acknowledged vector is lost").equals(report.lost, 0);
    page.claim("when all three die before repair, some are").greater(fatal.lost, 0);
    page.claim("the flipped byte is found by the checksum").equals(report.refused_files, 1);
    page.claim("and never served").equals(wrong("flipped byte"), 0);
    page.claim("an index with shuffled ids passes the checksum and answers wrongly").greater(wrong("shuffled ids"), 0);
    page.claim("until the recall canary finds it")
        .equals(of("shuffled ids").and_then(|incident| incident.detected).map(|(by, _)| by), Some("recall canary"));
    page.claim("rolled back, both have the hash of a healthy copy").equals(report.rollbacks, (2, 2));
    page.claim("fifteen deadly queries reach no third process").equals(report.refused_input, 15);
    page.claim("at the end all copies of every shard are equal").equals(report.equal, true);
    page.claim("the region is back within 15 minutes").at_most(seconds(region.recovered) / 60.0, 15);
    page.claim("it lost writes").greater(region.lost, 0);
    page.claim("none older than 5 minutes").at_most(seconds(region.oldest_lost) / 60.0, 5);
    page.claim("three copies at 100 h and 5 h last 15,850 h").close(hours[0], 15_850, 1e-6);
    page.claim("simulated 2,000 times, the same within 8 %").close(simulated / hours[0], 1, 0.08);
    page.claim("at 4 years and half an hour 5.736576e13 h").close(hours[2] / 5.736_576e13, 1, 1e-6);
    page.claim("3,000 machines fail 2.054795 times a day").close(daily, 2.054_795, 5e-7);
    page.claim("the same seed gives the same drill").equals(fatal == again, true);
    page.finish()
}
