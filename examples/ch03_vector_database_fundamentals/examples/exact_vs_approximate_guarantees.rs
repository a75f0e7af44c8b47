//! Listing 3.2: exactness is a property of an algorithm, recall a distribution that must be measured.
//!
//! cargo run --release --example exact_vs_approximate_guarantees

use std::time::Instant;

use ch03_vector_database_fundamentals::guarantees::{Guarantee, ids_of, measure};
use ch03_vector_database_fundamentals::lookup::BPlusTree;
use eas_ann::{FlatIndex, Hnsw, HnswConfig, Metric, VectorIndex};
use eas_data::synth::{manifold, manifold_queries};
use eas_eval::recall::RecallReport;
use eas_report::{Chart, Table, duration, num, pct};

const K: usize = 10;
const QUERIES: usize = 300;
const SETS: usize = 10;

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    // A database keeps its promise on every key, present or absent.
    let present: Vec<u64> = (0..10_000).map(|i| 3 * i + 1).collect();
    let tree = BPlusTree::new(present.clone(), 500)?;
    let finds = |shift: u64| present.iter().filter(|&key| tree.lookup(key + shift).0.is_some()).count();
    let (found, invented) = (finds(0), finds(1));

    let rows = page.size(20_000, 200_000);
    let vectors = manifold(page.seed(), rows, 32, 8, 0.02);
    let queries = manifold_queries(page.seed(), QUERIES * SETS, 32, 8, 0.02);
    let sets: Vec<_> =
        (0..SETS).map(|set| queries.select(&(set * QUERIES..(set + 1) * QUERIES).collect::<Vec<_>>())).collect();
    let ids: Vec<u64> = (0..rows as u64).collect();
    let mut flat = FlatIndex::new(32, Metric::SquaredL2)?;
    flat.add(&ids, &vectors)?;
    let config = HnswConfig { m: 16, ef_construction: 100, ..HnswConfig::default() };
    let mut graph = Hnsw::new(32, Metric::SquaredL2, config)?;
    page.timed("build HNSW", || graph.add(&ids, &vectors))?;
    let start = Instant::now();
    let exact = flat.search_batch(&queries, K)?;
    let flat_time = start.elapsed() / queries.rows() as u32;
    page.text(format!(
        "{rows} points of 8 hidden dimensions in 32, {QUERIES} queries. A lookup finds {found} of 10,000 keys and invents {invented}. A scan \
         is exact because it compares everything. A graph promises nothing; what it does is measured, query by query."
    ));

    let mut table = Table::new(["search", "recall", "95%", "p5", "worst", "miss", "ratio", "work", "time"]);
    let mut show = |name: String, promise: Guarantee, rest: [eas_report::Cell; 4]| {
        let cells = match promise {
            Guarantee::Exact => ["exact", "-", "-", "-"].map(Into::into),
            Guarantee::Approximate { recall_mean, p5, worst } => [
                num(recall_mean.mean, 4).within(0.003),
                format!("{:.2}-{:.2}", recall_mean.low, recall_mean.high).into(),
                num(p5, 1).within(0.1),
                num(worst, 1).within(0.2),
            ],
        };
        table.row([name.into()].into_iter().chain(cells).chain(rest));
    };
    let exactly = ["-".into(), num(1, 5), pct(1, 2), duration(flat_time)];
    show("flat".into(), Guarantee::Exact, exactly);
    let mut levels = Vec::new();
    for ef in [16, 32, 64, 128, 256] {
        let of = measure(&graph, ef, &sets[0], &exact[..QUERIES], 1)?;
        let miss = of.first_miss.map_or(0.0, |rank| rank as f64);
        let (miss, ratio) = (num(miss, 0).within(1.0), num(of.ratio, 5).within(5e-4));
        let rest = [miss, ratio, pct(of.work, 2).within(0.002), duration(of.time)];
        show(format!("HNSW, ef {ef}"), of.guarantee(), rest);
        levels.push(of);
    }
    page.table("What is promised, and what was found (miss: median rank of the first missing neighbour)", &table);
    let histogram = Chart::histogram("Recall of single queries", "recall@10", 20)
        .series("ef 16", levels[0].report.per_query.iter().copied())
        .series("ef 32", levels[1].report.per_query.iter().copied())
        .marker("mean at ef 16", levels[0].report.mean.mean);
    page.chart("recall.svg", &histogram)?;

    // Does the interval keep its own promise? Ten sets of queries, each with its interval, against the mean of all.
    let (mut intervals, mut all) = (Vec::new(), 0.0);
    for (set, queries) in sets.iter().enumerate() {
        let truth = &exact[set * QUERIES..(set + 1) * QUERIES];
        let interval = measure(&graph, 16, queries, truth, set as u64)?.report.mean;
        all += interval.mean / SETS as f64;
        intervals.push(interval);
    }
    let covering = intervals.iter().filter(|interval| interval.contains(all)).count();
    // A second sample of the same size has an error of its own, so the first interval is widened by half to each side.
    let half = (intervals[0].high - intervals[0].low) / 2.0;
    let scan = ids_of(&flat.search_batch(&sets[0], K)?);
    let scan = RecallReport::new(&scan, &ids_of(&exact[..QUERIES]), 1)?;
    let (coarse, fine) = (&levels[0].report, &levels[2]);

    page.claim("a lookup finds every key that is there").equals(found, 10_000);
    page.claim("and none that isn't").equals(invented, 0);
    page.claim("flat recall is exactly 1, in the worst query too").equals(scan.worst, 1.0);
    page.claim("HNSW at ef 64: mean recall@10").within(0.003).at_least(fine.report.mean.mean, 0.98);
    page.claim("with a share of the distances of").within(0.002).at_most(fine.work, 0.10);
    page.claim("and neighbours hardly farther than the true ones: ratio of distances").at_most(fine.ratio, 1.01);
    page.claim("recall doesn't fall when ef grows")
        .all(levels.windows(2), |w| w[1].report.mean.mean >= w[0].report.mean.mean - 0.005);
    page.claim("at ef 16 the worst query is a tenth or more below the mean")
        .within(0.2)
        .at_least(coarse.mean.mean - coarse.worst, 0.1);
    // Of ten 95 % intervals seven or fewer hold once in 87 times, six or fewer once in a thousand.
    page.claim("of ten bootstrap intervals so many cover the recall over all ten sets of queries")
        .within(2.0)
        .at_least(covering, 7);
    page.claim("the first one, widened, covers the second set").within(0.01).between(
        intervals[1].mean,
        intervals[0].low - half,
        intervals[0].high + half,
    );
    page.finish()
}
