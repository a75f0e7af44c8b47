//! Listing 3.1: a key has an order to search by and a meaning has none, so a lookup reads a path and an exact similarity search everything.
//!
//! cargo run --release --example exact_lookup_vs_vector_scan

use std::time::Instant;

use ch03_vector_database_fundamentals::lookup::{BPlusTree, SortedTable};
use eas_eval::fit::fit_power;
use eas_plan::scale::{ScanCost, tree_levels};
use eas_report::{Chart, Table, duration, num, sci};
use eas_tensor::kernels::squared_l2;
use eas_tensor::rng::SplitMix64;
use eas_tensor::{Matrix, nearest_rows};
use eas_text::glosses::gloss_vectors;

const TRILLIONS: u64 = 256_000_000_000_000;
const FANOUT: usize = 500;
const K: usize = 10;

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let encoder = eas_text::encoder::load(page.encoder().name())?;
    let largest = 64_000;
    let (glosses, queries) =
        page.timed("encode 64,000 glosses", || gloss_vectors(encoder.as_ref(), largest, 20, 42))?;
    page.text(
        "The same rows twice: under a key, sorted, where each comparison halves what is left; and as vectors of their glosses, \
         where no comparison says anything about the next row.",
    );

    let mut table = Table::new(["rows", "comparisons", "pages", "a lookup", "distances", "a scan"]);
    let (mut lookups, mut scans, mut within) = (Vec::new(), Vec::new(), Vec::new());
    let mut rate = 0.0;
    let mut rng = SplitMix64::new(page.seed());
    for rows in [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000] {
        let keys: Vec<u64> = (0..rows as u64).map(|i| 7 * i + 3).collect();
        let sorted = SortedTable::new(keys.clone());
        let tree = BPlusTree::new(keys.clone(), FANOUT)?;
        let asked: Vec<u64> = (0..2_000).map(|_| keys[rng.below(rows)]).collect();
        let start = Instant::now();
        let comparisons: Vec<u32> = asked.iter().map(|&key| sorted.lookup(key).1).collect();
        let lookup_time = start.elapsed() / asked.len() as u32;
        let mean = f64::from(comparisons.iter().sum::<u32>()) / asked.len() as f64;
        let bound = ((rows + 1) as f64).log2().ceil();
        within.extend(comparisons.iter().map(|&count| f64::from(count) <= bound));

        let corpus = glosses.select(&(0..rows).collect::<Vec<_>>());
        let start = Instant::now();
        let mut distances = 0;
        for query in queries.iter_rows() {
            distances += nearest_rows(query, &corpus, K)?.distances;
        }
        let scan_time = start.elapsed() / queries.rows() as u32;
        rate = (rows * corpus.dim()) as f64 / scan_time.as_secs_f64();
        let distances = distances / queries.rows();
        lookups.push((rows as f64, mean));
        scans.push((rows as f64, distances as f64));
        table.row([
            rows.into(),
            num(mean, 2),
            tree.lookup(asked[0]).1.into(),
            duration(lookup_time),
            distances.into(),
            duration(scan_time),
        ]);
    }
    page.table("A lookup and a scan by number of rows (mean of 2,000 and of 20)", &table);
    let chart = Chart::lines("Work of one query", "rows", "comparisons or distances")
        .series("binary search", lookups.iter().copied())
        .series("similarity scan", scans.iter().copied())
        .log_x()
        .log_y();
    page.chart("work.svg", &chart)?;

    let assumed = ScanCost { rows: TRILLIONS, dim: 768, ops_per_second: 1e9 };
    page.text(format!(
        "One query over 256 trillion vectors of 768 values takes {} multiplications: {:.2} years at the billion a second that the \
         book assumes. This machine, all threads, did {:.1} billion a second at the largest size, in which case {:.3} years: a faster \
         machine changes the unit, not the verdict. A B+ tree of pages with {FANOUT} keys finds a key among as many rows in {} page reads.",
        assumed.operations(),
        assumed.years()?,
        rate / 1e9,
        ScanCost { ops_per_second: rate, ..assumed }.years()?,
        tree_levels(TRILLIONS, FANOUT as u64)?
    ));

    // The bounded heap against a full sort, on rows of which every third is a copy: many ties.
    let copies: Vec<usize> = (0..3_000).map(|i| if i % 3 == 2 { i - 1 } else { i }).collect();
    let tied = glosses.select(&copies);
    let mut same = Vec::new();
    for query in queries.iter_rows() {
        let by_heap: Vec<usize> = nearest_rows(query, &tied, 50)?.best.iter().map(|hit| hit.id).collect();
        same.push(by_heap == full_sort(query, &tied, 50));
    }

    let mut table = Table::new(["quantity", "value"]);
    table.row(["multiplications of one scan".into(), sci(assumed.operations() as f64, 6)]);
    table.row(["years at 1e9 a second".into(), num(assumed.years()?, 6)]);
    table.row(["log2 of 256 trillion".into(), num((TRILLIONS as f64).log2(), 6)]);
    table.row(["log500 of 256 trillion".into(), num((TRILLIONS as f64).ln() / (FANOUT as f64).ln(), 3)]);
    page.table("At 256 trillion rows", &table);

    page.claim("256 trillion x 768 multiplications").equals(assumed.operations(), 196_608_000_000_000_000_u128);
    page.claim("years at a billion a second").close(assumed.years()?, 6.234_399, 1e-6);
    page.claim("binary search would take log2(256e12) comparisons").close((TRILLIONS as f64).log2(), 47.863_137, 1e-6);
    page.claim("a tree of pages with 500 keys has 6 levels").equals(tree_levels(TRILLIONS, FANOUT as u64)?, 6);
    page.claim("no binary search exceeds ceil(log2(rows + 1)) comparisons").all(&within, |holds| *holds);
    page.claim("a scan computes one distance a row").all(&scans, |(rows, distances)| rows == distances);
    page.claim("log-log slope of the scan's distances").close(fit_power(&scans)?.slope, 1.0, 1e-9);
    page.claim("log-log slope of the lookup's comparisons").at_most(fit_power(&lookups)?.slope, 0.3);
    page.claim("the bounded heap equals a full sort, ties by row").all(&same, |same| *same);
    page.finish()
}

/// All similarities kept and sorted, as the book's fragment does it.
fn full_sort(query: &[f32], corpus: &Matrix, k: usize) -> Vec<usize> {
    let mut all: Vec<(f32, usize)> = corpus.iter_rows().map(|row| squared_l2(query, row)).zip(0..).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    all.into_iter().take(k).map(|item| item.1).collect()
}
