//! Listing 3.4: descend a tree of centroids, lose neighbours at the borders, and buy them back with a beam.
//!
//! cargo run --release --example hierarchical_tree_navigation

use std::cell::Cell;

use eas_ann::tree::tree_cost;
use eas_ann::{FlatIndex, Hit, Hnsw, HnswConfig, KMeansTree, Metric, TreeConfig, VectorIndex, recall};
use eas_data::synth::{manifold, manifold_queries};
use eas_report::{Chart, Table, num, sci};

const K: usize = 10;
const BRANCHING: usize = 27;

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let (n, seed) = (page.size(20_000, 200_000), page.seed());
    let vectors = manifold(seed, n, 32, 8, 0.02);
    let queries = manifold_queries(seed, 300, 32, 8, 0.02);
    let ids: Vec<u64> = (0..n as u64).collect();

    // The arithmetic of a descent through 256 trillion vectors.
    let mut table = Table::new(["children at each level", "vectors", "comparisons", "vectors a comparison"]);
    let listed = tree_cost(&[1_000; 5]);
    let whole = 256e12;
    let exact = tree_cost(&[1_000, 1_000, 1_000, 1_000, 256]);
    table.row([
        "1,000 five times, as the book counts".into(),
        sci(whole, 2),
        num(listed.comparisons, 0),
        sci(whole / listed.comparisons, 4),
    ]);
    table.row([
        "1,000 four times, then 256".into(),
        sci(exact.vectors, 2),
        num(exact.comparisons, 0),
        sci(exact.speed_up, 4),
    ]);
    page.table("One greedy descent by arithmetic: nothing is said about what it finds", &table);

    // The same walk on vectors, where it can be asked what it finds.
    let config = TreeConfig { branching: BRANCHING, seed, ..TreeConfig::default() };
    let mut tree = page.timed("train the tree", || KMeansTree::train(&vectors, Metric::SquaredL2, config))?;
    tree.add(&ids, &vectors)?;
    let mut flat = FlatIndex::new(32, Metric::SquaredL2)?;
    flat.add(&ids, &vectors)?;
    let truth = flat.search_batch(&queries, K)?;
    let leaves = tree.leaf_lens();
    page.text(format!(
        "{n} points on a sheet of 8 dimensions in 32. Two inner levels of {BRANCHING} children make {} leaves; the fullest holds {} vectors. \
         Training compared {:.1} million times, a one-time cost of {:.0} full scans.",
        leaves.len(),
        leaves.iter().max().unwrap_or(&0),
        tree.build_evaluations() as f64 / 1e6,
        tree.build_evaluations() as f64 / n as f64,
    ));

    let firsts =
        |hits: &[Vec<Hit>]| hits.iter().map(|h| h.iter().take(1).copied().collect()).collect::<Vec<Vec<Hit>>>();
    let nearest = firsts(&truth);
    let mut table = Table::new(["beam", "recall@1", "recall@10", "comparisons a query", "of a scan"]);
    let mut curve = Vec::new();
    let most = Cell::new(0);
    let walk = |beam: usize| -> anyhow::Result<(Vec<Vec<Hit>>, f64)> {
        let (mut found, mut compared) = (Vec::new(), 0);
        for query in queries.iter_rows() {
            let (hits, stats) = tree.search_counted(query, K, beam, &|_| true)?;
            most.set(most.get().max(stats.distance_evaluations));
            compared += stats.distance_evaluations;
            found.push(hits);
        }
        Ok((found, compared as f64 / queries.rows() as f64))
    };
    let mut most_of_one = 0;
    for beam in [1, 2, 4, 8, 16, BRANCHING] {
        let (found, compared) = walk(beam)?;
        if beam == 1 {
            most_of_one = most.get();
        }
        let (at_1, at_10) = (recall(&firsts(&found), &nearest), recall(&found, &truth));
        table.row([
            beam.into(),
            num(at_1, 3).within(0.02),
            num(at_10, 3).within(0.02),
            num(compared, 0).within(20.0),
            num(compared / n as f64, 4).within(0.002),
        ]);
        curve.push((beam, at_1, at_10, compared));
    }
    page.table("What the walk finds", &table);

    let graph = HnswConfig { ef_construction: 100, ..HnswConfig::default() };
    let mut hnsw = Hnsw::new(32, Metric::SquaredL2, graph)?;
    page.timed("build HNSW", || hnsw.add(&ids, &vectors))?;
    let mut reference = Vec::new();
    for ef in [10, 20, 40, 80, 160] {
        let (mut found, mut compared) = (Vec::new(), 0);
        for query in queries.iter_rows() {
            let (hits, stats) = hnsw.search_counted(query, K, ef, &|_| true)?;
            compared += stats.distance_evaluations;
            found.push(hits);
        }
        reference.push((compared as f64 / queries.rows() as f64, recall(&found, &truth)));
    }
    let chart = Chart::lines("What a comparison buys", "comparisons a query", "recall@10")
        .series("tree, beam 1 to 27", curve.iter().map(|&(_, _, at_10, compared)| (compared, at_10)))
        .series("HNSW, ef 10 to 160", reference)
        .series("flat", [(n as f64, 1.0)])
        .log_x();
    page.chart("tree.svg", &chart)?;

    let (everything, _) = walk(leaves.len())?;
    let beam = |b: usize| curve.iter().find(|point| point.0 == b).copied().unwrap_or_default();
    page.claim(
        "five levels of 1,000, as listed, are 5,000 comparisons: 5.12e10 times fewer than a scan of 256 trillion",
    )
    .equals((listed.comparisons, whole / listed.comparisons), (5_000.0, 5.12e10));
    page.claim("but the last level has 256 children, which makes 4,256")
        .equals((exact.comparisons, exact.vectors), (4_256.0, 256e12));
    page.claim("a greedy walk never compares more than two levels and the fullest leaf")
        .at_most(most_of_one, 2 * BRANCHING + leaves.iter().max().unwrap_or(&0));
    page.claim("and finds the nearest vector in fewer than 55 of 100 queries, more than 25").within(0.03).between(
        beam(1).1,
        0.25,
        0.55,
    );
    page.claim("a beam of 8 brings recall@10 to at least 0.70").within(0.02).at_least(beam(8).2, 0.70);
    page.claim("a beam of 27 to at least 0.95").within(0.02).at_least(beam(BRANCHING).2, 0.95);
    page.claim("recall and comparisons both rise with the beam")
        .all(curve.windows(2), |pair| pair[1].1 >= pair[0].1 && pair[1].2 > pair[0].2 && pair[1].3 > pair[0].3);
    page.claim("a beam over all leaves is the flat index to the bit").equals(everything == truth, true);
    page.claim("each vector is in exactly one leaf").equals(leaves.iter().sum::<usize>(), n);
    page.finish()
}
