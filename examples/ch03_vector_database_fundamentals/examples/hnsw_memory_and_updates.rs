//! Listing 3.10: where the bytes of a graph are, what may leave memory, and what deletes do to recall.
//!
//! cargo run --release --example hnsw_memory_and_updates

use ch03_vector_database_fundamentals::churn::{IvfHnsw, OnDelete, churn, pages_read};
use eas_ann::links::CompressedLinks;
use eas_ann::{FlatIndex, Hnsw, HnswConfig, MappedHnsw, Metric, VectorIndex};
use eas_data::synth::vectors::{manifold, manifold_queries};
use eas_plan::graph_memory::{CountedLinks, GraphMemory};
use eas_report::{Chart, Table, num, pct};

const WAYS: [(&str, OnDelete); 4] = [
    ("mark", OnDelete::Mark),
    ("repair", OnDelete::Repair),
    ("rebuild", OnDelete::Rebuild),
    ("rebuild at 20 %", OnDelete::RebuildAtFifth),
];

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let seed = page.seed();
    let n = page.size(10_000, 100_000);
    let (vectors, queries) = (manifold(seed, n, 32, 8, 0.02), manifold_queries(seed, 200, 32, 8, 0.02));
    let ids: Vec<u64> = (0..n as u64).collect();
    let config = HnswConfig { ef_construction: 100, ..HnswConfig::default() };
    let mut index = Hnsw::new(32, Metric::SquaredL2, config)?;
    let mut exact = FlatIndex::new(32, Metric::SquaredL2)?;
    index.add(&ids, &vectors)?;
    exact.add(&ids, &vectors)?;

    page.section("A billion vectors of 768 values, m = 48");
    let plain = GraphMemory::default();
    let slim = GraphMemory { id_bytes: 4, link_saving: 0.3, vectors_in_ram: false, ..plain };
    let gib = [CountedLinks::M, CountedLinks::All].map(|counted| Ok([plain.gib(counted)?, slim.gib(counted)?]));
    let gib = gib.into_iter().collect::<anyhow::Result<Vec<[f64; 2]>>>()?;
    let mut table = Table::new(["GiB of memory", "all of it", "32-bit links, 30 % saved, vectors on disk", "saving"]);
    for (counted, [all, less]) in ["m links a node", "2 m at the bottom, m above"].into_iter().zip(&gib) {
        table.row([counted.into(), num(*all, 6), num(*less, 6), pct(1.0 - less / all, 2)]);
    }
    page.table("By formula", &table);

    page.section(format!("{n} vectors of 32 values, m = {}", config.m));
    let bytes = index.bytes();
    let lists = |level: usize| (0..n as u32).filter_map(|node| index.links_of(node, level)).collect::<Vec<_>>();
    let mut table = Table::new(["what", "bytes", "a vector"]);
    let (bottom, above) = (lists(0), (1..index.levels()).flat_map(lists).collect::<Vec<_>>());
    let [raw, raw_above] = [&bottom, &above].map(|lists| 4 * lists.iter().map(|list| list.len()).sum::<usize>());
    let packed = CompressedLinks::new(&bottom);
    for (what, bytes) in [
        ("vectors", bytes.vectors),
        ("room for links", bytes.links),
        ("links there are, bottom level", raw),
        ("the same, sorted and as differences", packed.bytes()),
        ("links there are, upper levels", raw_above),
        ("ids, levels and the rest", bytes.bookkeeping),
    ] {
        table.row([what.into(), bytes.into(), num(bytes as f64 / n as f64, 1)]);
    }
    page.table("Measured", &table);
    let decoded = bottom.iter().enumerate().all(|(node, list)| {
        let mut sorted = list.to_vec();
        sorted.sort_unstable();
        packed.list(node) == sorted
    });
    let saving = 1.0 - packed.bytes() as f64 / raw as f64;

    let (pages, through_upper) = pages_read(&index, &queries)?;
    let share = raw_above as f64 / (raw + raw_above) as f64;
    page.text(format!(
        "With the upper levels on disk a query reads {:.1} pages and {:.1} % of the links leave memory; with the bottom level \
         there, {:.1} pages and the others. Every query passes the upper levels: they belong in memory.",
        pages[0],
        100.0 * share,
        pages[1]
    ));
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("index");
    MappedHnsw::write(&index, &file)?;
    let mapped = MappedHnsw::open(&file)?;
    let same = mapped.search_batch(&queries, 10)? == index.search_batch(&queries, 10)?;

    page.section("Deletes");
    let mut table = Table::new(["deleted", "way", "recall@10", "distances", "bytes"]);
    let mut chart = Chart::lines("Distances a query while vectors are deleted", "deleted, %", "distances");
    let mut runs = Vec::new();
    for (name, way) in WAYS {
        let steps = churn(&index, &exact, &queries, seed, way)?;
        chart = chart.series(name, steps.iter().map(|step| (100.0 * step.deleted, step.distances)));
        runs.push(steps);
    }
    for at in [0, 2, 4, 5] {
        for ((name, _), steps) in WAYS.iter().zip(&runs) {
            let step = steps[at];
            let (recall, distances) = (num(step.recall, 3).within(0.01), num(step.distances, 0).within(20.0));
            table.row([pct(step.deleted, 0), (*name).into(), recall, distances, step.bytes.into()]);
        }
    }
    page.table("A beam of 100, against brute force among what is left", &table);
    page.chart("churn.svg", &chart)?;

    page.section("Lists that a graph finds");
    let hybrid = IvfHnsw::build(&vectors, 100, seed)?;
    let mut table = Table::new(["search", "recall@10", "distances"]);
    for nprobe in [None, Some(8), Some(16)] {
        let (recall, distances) = hybrid.measure(&index, &exact, &queries, nprobe)?;
        let name = nprobe.map_or("graph, beam of 100".into(), |nprobe| format!("{nprobe} of 100 lists"));
        let (recall, distances) = (num(recall, 3).within(0.01), num(distances, 0).within(20.0));
        table.row([name.into(), recall, distances]);
    }
    page.table("IVF-HNSW beside HNSW", &table);

    let listed = [3_218.650_818, 125.169_754, 3_583.887_790, 253.002_694];
    page.claim("GiB in memory by both counts, as listed")
        .all(gib.iter().flatten().zip(listed), |(got, listed)| (got - listed).abs() < 1e-6);
    page.claim("the saving that the book lists").close(1.0 - gib[0][1] / gib[0][0], 0.961_111_11, 1e-8);
    page.claim("compressed links decode exactly").equals(decoded, true);
    page.claim("and save at least a tenth").within(0.01).at_least(saving, 0.1);
    page.claim("a search on the mapped file gives the hits of the one in memory").equals(same, true);
    page.claim("every query passes the upper levels").equals(through_upper, queries.rows());
    page.claim("recall with 40 % marked").within(0.01).at_least(runs[0][4].recall, 0.90);
    page.claim("recall with 40 % repaired").within(0.01).at_least(runs[1][4].recall, 0.95);
    page.claim("recall with 40 % gone and rebuilt").within(0.01).at_least(runs[2][4].recall, 0.95);
    page.claim("nothing deleted is returned").all(runs.iter().flatten(), |step| step.ghosts == 0);
    page.claim("a graph built anew is smaller").less(runs[2][4].bytes, runs[0][4].bytes);
    page.finish()
}
