//! Listing 3.21: full copies, home regions, tiers and edges, compared on cost, latency and law.
//!
//! cargo run --release --example global_deployment_cost_model

use ch03_vector_database_fundamentals::regions::{learn, residency_drill, world};
use eas_data::synth::Zipf;
use eas_plan::global::{BilledUnit, Deployment, HotTier, Request, Strategy, simulate};
use eas_plan::latency::LogNormal;
use eas_plan::scale::TIB;
use eas_report::{Chart, Table, money, num, pct};

const ITEMS: usize = 20_000;

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let plan = Deployment::default();
    let (hot, warm, warm_regions) = (0.1, 0.3, 1);
    let (pops, cached) = (100, 0.01);
    let strategies = [
        ("full copies", Strategy::FullReplication),
        ("home regions", Strategy::RegionalSharding),
        ("tiered, as listed", Strategy::Tiered { hot, warm, warm_regions }),
        ("edge, 100 x 1%", Strategy::Edge { pops, cached }),
    ];
    let mut table = Table::new(["strategy", "copies", "as listed", "GiB", "GB", "a million"]);
    let mut listed = Vec::new();
    for (name, strategy) in strategies {
        let cost = plan.cost(strategy, BilledUnit::ThousandPerTib)?;
        table.row([
            name.into(),
            num(strategy.copies()?, 1),
            money(cost.total()),
            money(plan.cost(strategy, BilledUnit::Gib)?.total()),
            money(plan.cost(strategy, BilledUnit::Gb)?.total()),
            money(cost.per_million_queries),
        ]);
        listed.push(cost);
    }
    page.table("Dollars a month, and for a million queries, of 256 trillion vectors", &table);
    page.text(
        "As listed, a TiB is billed as 1,000 GB, 9% too little. The book writes 512 PB where a copy has 786, and its 200 machines a \
         region would hold 1.28 trillion vectors each.",
    );
    let (home, requests) = world(ITEMS, page.size(100_000, 1_000_000), page.seed())?;
    let at_home: Vec<Request> = requests.iter().filter(|r| r.from == home[r.item]).copied().collect();
    let service = LogNormal::from_p50_p99(10.0, 40.0)?;
    let mut table = Table::new(["strategy", "p50, ms", "p99", "p99 at home", "nearby", "hot"]);
    let mut traffic = Vec::new();
    for (name, strategy) in strategies {
        let all = simulate(strategy, &home, &requests, service, 1)?;
        let local = simulate(strategy, &home, &at_home, service, 1)?;
        table.row([
            name.into(),
            num(all.quantile(0.5), 1),
            num(all.quantile(0.99), 1),
            num(local.quantile(0.99), 1),
            pct(all.local, 1),
            pct(all.hot, 1),
        ]);
        traffic.push((all.quantile(0.99), local.quantile(0.99), all.hot));
    }
    page.table("Requests of five regions to the nearest copy", &table);
    let bars = Chart::bars("Cost and tail", "strategy", "million $, ms", strategies.map(|s| s.0))
        .series("cost", listed.iter().map(|cost| cost.total() / 1e6))
        .series("p99", traffic.iter().map(|t| t.0))
        .series("p99 of requests from home", traffic.iter().map(|t| t.1));
    page.chart("cost_and_tail.svg", &bars)?;

    // Nobody knows popularities beforehand: the hot tier learns them a week at a time, through a change of taste.
    let zipf = Zipf::new(ITEMS, 1.0)?;
    let mut tier = HotTier::new(ITEMS, ITEMS / 10, 30);
    let weeks = learn(&mut tier, &zipf, ITEMS, 12, 6, page.seed())?;
    let mut table = Table::new(["week", "hot hits", "promoted", "demoted"]);
    for (week, of) in weeks.iter().enumerate() {
        let moved = [of.promoted.into(), of.demoted.into()];
        table.row([(week + 1).into(), pct(of.hits, 1)].into_iter().chain(moved));
    }
    page.table("A hot tier of 10% that learns; in week 7 taste turns around", &table);
    let drill = residency_drill()?;
    let mut table = Table::new(["residency drill", "count"]);
    for (name, count) in [
        ("items written", drill.written),
        ("illegal writes and copies refused", drill.refused),
        ("EU vectors outside the EU", drill.astray),
        ("copies of deleted users before erasing", drill.before),
        ("and after", drill.after),
        ("found by search after deletion", drill.found),
    ] {
        table.row([name.into(), count.into()]);
    }
    page.table("1,000 tagged items at five sites and a cache, 50 deletions", &table);

    let (full, tiered) = (listed[0], listed[2]);
    let edge_share = |s| Zipf::new(1_000_000, s).map(|zipf| zipf.share_of_top(10_000));
    let in_units = |unit| plan.cost(Strategy::FullReplication, unit).map(|cost| cost.storage);
    let (gib, gb) = (in_units(BilledUnit::Gib)?, in_units(BilledUnit::Gb)?);
    let (tib, saved) = (plan.raw_bytes() / TIB, 1.0 - tiered.total() / full.total());
    for (sentence, value, expected, tolerance) in [
        ("TiB of one copy", tib, 715_255.737_305, 1e-6),
        ("full replication: storage", full.storage, 123_381_614.685_059, 1e-5),
        ("its machines", full.compute, 1_080_000.0, 1e-6),
        ("its traffic between regions", full.sync, 30_000.0, 1e-6),
        ("in all", full.total(), 124_491_614.685_059, 1e-5),
        ("for a million queries", full.per_million_queries, 48.029_172, 1e-6),
        ("its storage billed in GiB", gib, 126_342_773.437_5, 1e-5),
        ("its storage billed in GB", gb, 135_659_520.0, 1e-5),
        ("tiered, in all", tiered.total(), 35_098_852.111_816, 1e-5),
        ("for a million queries", tiered.per_million_queries, 13.541_224, 1e-6),
        ("tiers save 71.8%, not 60 to 70%", saved, 0.718_062_52, 1e-8),
        ("of storage alone", 1.0 - tiered.storage / full.storage, 0.72, 1e-9),
        ("of it with two warm regions", saved_with(2)?, 0.66, 1e-9),
        ("of it with three", saved_with(3)?, 0.60, 1e-9),
        ("share of hot hits is the Zipf sum", traffic[2].2, zipf.share_of_top(ITEMS / 10), 0.02),
        ("top 1% of a million items, exponent 0.8", edge_share(0.8)?, 0.362, 5e-4),
        ("exponent 1", edge_share(1.0)?, 0.680, 5e-4),
        ("exponent 1.2", edge_share(1.2)?, 0.910, 5e-4),
    ] {
        page.claim(sentence).close(value, expected, tolerance);
    }
    page.claim("full replication has the lowest p99").all(&traffic[1..], |t| t.0 > traffic[0].0);
    page.claim("and the highest cost").all(&listed[1..], |cost| cost.total() < full.total());
    page.claim("regional sharding has the lowest cost").all(&listed, |cost| cost.total() >= listed[1].total());
    page.claim("and the highest p99").all(&traffic, |t| t.0 <= traffic[1].0);
    page.claim("but not for users at home").close(traffic[1].1, traffic[0].1, 1e-9);
    page.claim("the tier has learned by week 6").greater(weeks[5].hits, 0.65);
    page.claim("and loses most hits when taste changes").within(0.02).less(weeks[6].hits, 0.2);
    page.claim("it learns again").greater(weeks[11].hits, 0.65);
    page.claim("no item stays hot that nobody wanted for 30 days").all(&weeks, |week| week.stale == 0);
    page.claim("no EU vector is outside the EU").equals(drill.astray, 0);
    page.claim("20 of 20 illegal writes and copies are refused and recorded")
        .equals((drill.refused, drill.recorded), (20, 20));
    page.claim("deleted users' vectors are in no store and no cache")
        .equals((drill.before > 0, drill.after), (true, 0));
    page.claim("and no search finds them").equals(drill.found, 0);
    page.finish()
}

/// Storage that tiers save when warm vectors are in so many regions.
fn saved_with(warm_regions: u32) -> anyhow::Result<f64> {
    let (hot, warm) = (0.1, 0.3);
    let tiers = Strategy::Tiered { hot, warm, warm_regions };
    Ok(1.0 - tiers.copies()? / Strategy::FullReplication.copies()?)
}
