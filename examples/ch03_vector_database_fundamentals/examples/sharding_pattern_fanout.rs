//! Listing 3.13: random, learned, geographic and hybrid sharding: fewer shards a query, bought with balance and with recall.
//!
//! cargo run --release --example sharding_pattern_fanout

use ch03_vector_database_fundamentals::sharding::{Measured, REGIONS, World};
use eas_ann::sharder::{Geo, Hash, Hybrid, Learned, Sharder};
use eas_data::synth::Zipf;
use eas_plan::latency::{FanOut, LogNormal};
use eas_report::{Chart, Table, num, pct};

const SHARDS: usize = 64;

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let world = World::new(page.size(20_000, 200_000), page.seed())?;
    let listed = |total: usize| [total, (total / 10).clamp(1, 10), total / 3];
    let [random, learned, geo] = listed(1_000);
    page.text(format!(
        "The book's arithmetic for 1,000 shards: a query asks {random} when they are random, {learned} when they are learned, {geo} when \
         they are regions. It says nothing about what a query misses. Below 10 shards its learned fan-out is 0; here it is at least 1."
    ));

    let shard = LogNormal::from_p50_p99(10.0, 50.0)?;
    let mut table = Table::new(["rule", "shards asked", "recall@10", "compared", "size skew", "p99, ms"]);
    let centres = Learned::train(&world.vectors, SHARDS, 1, page.seed())?;
    let mut show = |name: String, of: &Measured| -> anyhow::Result<()> {
        let p99 = FanOut::new(shard, of.asked as u32)?.overhead(0.0, 0.0)?.quantile(0.99)?;
        table.row([
            name.into(),
            of.asked.into(),
            num(of.recall, 4).within(0.003),
            pct(of.compared, 1).within(0.005),
            num(of.skew, 2),
            num(p99, 1),
        ]);
        Ok(())
    };
    let (mut random, mut learned) = (Vec::new(), Vec::new());
    for asked in [1, 2, 4, 8, 16, 32, 64] {
        let of = world.measure(Hash::new(SHARDS as u32)?.asking(asked)?)?;
        show(format!("random, {asked} of 64"), &of)?;
        random.push((f64::from(asked), of));
    }
    for probes in [1, 2, 4, 8] {
        let of = world.measure(centres.with_probes(probes)?)?;
        show(format!("learned, {probes} probes"), &of)?;
        learned.push((probes as f64, of));
    }
    let by_region = world.measure(Geo::new(REGIONS)?)?;
    show("3 regions".into(), &by_region)?;
    let hybrid = Hybrid::new(Geo::new(REGIONS)?, centres.with_probes(2)?, 16)?;
    let hybrid_shards = hybrid.shards();
    show("hybrid 3 x 64 x 16".into(), &world.measure(hybrid)?)?;
    page.table("What each rule costs and finds (p99: the slowest of lognormal shards, 10 to 50 ms)", &table);
    let line = |points: &[(f64, Measured)]| points.iter().map(|(asked, of)| (*asked, of.recall)).collect::<Vec<_>>();
    let chart = Chart::lines("Recall by shards asked", "shards asked", "recall@10")
        .series("random", line(&random))
        .series("learned", line(&learned))
        .log_x();
    page.chart("recall.svg", &chart)?;

    // Questions are skewed as well: popularity of the shards by Zipf's law.
    let zipf = Zipf::new(SHARDS, 1.0)?;
    let hottest = world.split_hottest(centres, &zipf, 4, page.seed())?;
    let mut table = Table::new(["shards", "greatest load", "over the mean"]);
    for of in &hottest {
        table.row([of.shards.into(), pct(of.share, 2).within(0.01), num(of.skew, 2).within(0.6)]);
    }
    page.table("Zipf's law over the shards, and the hottest one split, again and again", &table);

    let mut home = world.place(Geo::new(REGIONS)?)?;
    let before = world.regions_answering(&home)?;
    home.sharder_mut().fail(1)?;
    let after = world.regions_answering(&home)?;

    page.claim("1,000 shards as listed: random, learned, regions").equals(listed(1_000), [1_000, 10, 333]);
    page.claim("fan-out cut 100 times, as listed").equals(listed(1_000)[0] / listed(1_000)[1], 100);
    page.claim("the learned fan-out of 5 shards is at least 1").equals(listed(5)[1], 1);
    page.claim("hybrid shards").equals(hybrid_shards, 3_072);
    page.claim("all random shards give exactly the flat answer").equals(random[6].1.hits == world.exact, true);
    page.claim("p of 64 random shards find p / 64 of the neighbours, within 0.02")
        .all(&random, |(asked, of)| (of.recall - asked / 64.0).abs() <= 0.02);
    for (at, floor) in [(0, 0.90), (1, 0.97), (2, 0.99)] {
        page.claim(format!("learned recall at {} probes", learned[at].0))
            .within(0.003)
            .at_least(learned[at].1.recall, floor);
    }
    page.claim("learned shards are unequal").at_least(learned[0].1.skew, 1.5);
    page.claim("hashed ones are not").at_most(random[0].1.skew, 1.25);
    page.claim("load of the hottest of 64 by Zipf's law").close(zipf.share_of_top(1), 0.210_797, 1e-6);
    page.claim("times the mean").close(64.0 * zipf.share_of_top(1), 13.5, 0.05);
    page.claim("as routed").close(hottest[0].share, zipf.share_of_top(1), 0.02);
    page.claim("each split lowers the greatest load").all(hottest.windows(2), |w| w[1].share < w[0].share);
    page.claim("answers stay in the region of the query").equals(before, [vec![0], vec![1], vec![2]]);
    page.claim("until it fails over").equals(after, [vec![0], vec![2], vec![2]]);
    ch03_vector_database_fundamentals::served::sharding(&mut page)?;
    page.finish()
}
