//! Listing 3.7: a design for fifty billion products, checked by arithmetic before anybody rents the machines.
//!
//! cargo run --release --example ecommerce_cluster_sizing

use eas_ann::{FlatIndex, HnswConfig, IndexKind, Metric, ShardedIndex, VectorIndex, recall};
use eas_data::synth::{manifold, manifold_queries};
use eas_plan::cluster::{ClusterSpec, Resource, Severity};
use eas_report::{Chart, Table, money, num, pct};

const K: usize = 10;

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let spec = ClusterSpec::fifty_billion_products();
    let cost = spec.cost()?;
    page.text(
        "50 billion products as 512 values each; 500,000 queries a second in five regions; 200 shards with three replicas on machines \
         of 32 cores, 256 GB and 4 TB. Each region has a whole copy, and a query asks one replica of every shard.",
    );
    // The book divides the bill of the disks by 1,000 once too often.
    let listed_storage = cost.storage / 1e3;
    let listed_total = cost.compute + listed_storage + cost.network;
    let mut table = Table::new(["dollars a month", "as listed", "repaired"]);
    for (name, listed, repaired) in [
        ("3,000 machines", cost.compute, cost.compute),
        ("12 PB of disks at $150 a TB", listed_storage, cost.storage),
        ("network", cost.network, cost.network),
        ("total", listed_total, cost.total()),
    ] {
        table.row([name.into(), money(listed), money(repaired)]);
    }
    page.table("The bill", &table);

    let mut table = Table::new(["quantity", "value"]);
    for (name, value) in [
        ("vectors a shard, millions", spec.vectors_per_shard() / 1e6),
        ("GB of vectors a shard", spec.raw_gb_per_shard()),
        ("GB of links a shard (64 ids of 4 bytes)", spec.link_gb_per_shard()),
        ("GB of memory a machine", spec.machine.ram_gb),
        ("searches a second and replica, no cache", spec.qps_per_replica(0.0)),
        ("with 85% of the queries cached", spec.qps_per_replica(spec.cache_hit)),
        ("searches a second a machine can do", spec.searches_per_machine()),
        ("inserts a second and shard", spec.inserts / spec.shards),
    ] {
        table.row([name.into(), num(value, 2)]);
    }
    page.table("What a machine has to do", &table);

    let mut designs = vec![("as listed", spec)];
    designs.extend(spec.fix(64)?);
    let mut table = Table::new(["design", "severity", "finding"]);
    let mut summary = Table::new(["design", "shards", "GB a shard", "$ a month", "available"]);
    let mut fatal = Vec::new();
    for &(name, design) in &designs {
        let findings = design.validate()?;
        for finding in &findings {
            let severity = format!("{:?}", finding.severity).to_lowercase();
            table.row([name.into(), severity.into(), finding.message.as_str().into()]);
        }
        let (gb, up) = (design.memory_gb_per_shard(), design.availability(0.99)?);
        let cost = money(design.cost()?.total());
        summary.row([name.into(), num(design.shards, 0), num(gb, 1), cost, pct(up, 3)]);
        fatal.push(findings.into_iter().filter(|f| f.severity == Severity::Fatal).collect::<Vec<_>>());
    }
    page.table("Findings", &table);
    page.table("Ways out: 64-byte codes in memory and vectors on disk, or more shards", &summary);
    let tornado = spec
        .sensitivity(0.2)?
        .iter()
        .fold(Chart::tornado("Each assumption 20% down and up", "$ a month", cost.total()), |chart, swing| {
            chart.bar(swing.assumption, swing.low, swing.high)
        });
    page.chart("tornado.svg", &tornado)?;
    page.text(
        "More shards make each one smaller, but every query still asks all of them: searches a second and replica stay as they are. \
         Only replicas, caches and faster searches lower them.",
    );

    // The same design, small: 8 shards with 3 replicas each, which really answer.
    let rows = page.size(20_000, 200_000);
    let vectors = manifold(page.seed(), rows, 32, 8, 0.02);
    let queries = manifold_queries(page.seed(), 200, 32, 8, 0.02);
    let config = HnswConfig { m: 32, ef_construction: 400, ef: 100, ..HnswConfig::default() };
    let ids: Vec<u64> = (0..rows as u64).collect();
    let mut exact = FlatIndex::new(32, Metric::SquaredL2)?;
    exact.add(&ids, &vectors)?;
    let builder = ShardedIndex::builder().shards(8).replicas(3).inner(IndexKind::Hnsw(config));
    let mut sharded = builder.build(32, Metric::SquaredL2)?;
    page.timed("build 8 shards", || sharded.add(&ids, &vectors))?;
    let (mut found, mut calls) = (Vec::new(), Vec::new());
    for query in queries.iter_rows() {
        let answer = sharded.search_covered(query, K, &|_| true)?;
        calls.push(answer.shards);
        found.push(answer.hits);
    }
    let measured = recall(&found, &exact.search_batch(&queries, K)?);
    let mut table = Table::new(["shards", "replicas", "vectors", "recall@10", "shard calls a query"]);
    table.row([8.into(), 3.into(), rows.into(), num(measured, 4).within(0.003), calls[0].into()]);
    page.table("Scaled down and run: HNSW with M 32, efConstruction 400, ef 100", &table);

    for (sentence, value, expected, tolerance) in [
        ("machines a region", spec.machines_per_region(), 600.0, 0.0),
        ("machines in all", spec.machines(), 3_000.0, 0.0),
        ("vectors a shard", spec.vectors_per_shard(), 250_000_000.0, 0.0),
        ("dollars for machines", cost.compute, 3_240_000.0, 1e-6),
        ("dollars for disks, as listed", listed_storage, 1_800.0, 1e-9),
        ("dollars for disks, repaired", cost.storage, 1_800_000.0, 1e-6),
        ("dollars in all, as listed", listed_total, 3_291_800.0, 1e-6),
        ("dollars in all, repaired", cost.total(), 5_090_000.0, 1e-6),
        ("GB of vectors a shard", spec.raw_gb_per_shard(), 512.0, 1e-9),
        ("GB of links a shard", spec.link_gb_per_shard(), 64.0, 1e-9),
        ("searches a second and replica", spec.qps_per_replica(0.0), 33_333.33, 0.01),
        ("behind the cache", spec.qps_per_replica(0.85), 5_000.0, 1e-6),
        ("a region is available with replicas at 99%", spec.availability(0.99)?, 0.999_800, 1e-6),
    ] {
        page.claim(sentence).close(value, expected, tolerance);
    }
    let resources: Vec<Resource> = fatal[0].iter().map(|finding| finding.resource).collect();
    page.claim("memory is what the design lacks").equals(resources, [Resource::Memory]);
    page.claim("neither way out has a fatal finding").all(&fatal[1..], Vec::is_empty);
    page.claim("more shards don't lower the searches a replica does")
        .all(&designs, |(_, design)| design.qps_per_replica(0.0) == spec.qps_per_replica(0.0));
    page.claim("recall@10 of the scaled-down cluster").within(0.003).at_least(measured, 0.97);
    page.claim("every query asks exactly 8 shards").all(&calls, |calls| *calls == 8);
    page.finish()
}
