//! Listing 11.4: a file of vectors that opens at once and survives a crash, and what a tier of memory in front of it saves.
//!
//! cargo run --release --example mmap_tiered_vector_store

use std::path::Path;
use std::time::Instant;

use eas_ann::{AnnError, Dtype, FlatIndex, Hit, Metric, VectorFile, VectorIndex};
use eas_data::synth::vectors::unit_cube;
use eas_data::synth::zipf::Zipf;
use eas_ops::{Policy, TieredStore, tiered::amat};
use eas_report::{Chart, Table, duration, num, pct};
use eas_tensor::{Matrix, rng::SplitMix64};

const POLICIES: [(&str, Policy); 3] = [
    ("least recently used", Policy::Lru),
    ("least frequently used", Policy::Lfu),
    ("... halved every 5,000", Policy::LfuAging { period: 5_000 }),
];

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("vectors.vec");
    let vectors = unit_cube(11, page.size(50_000, 1_000_000), page.size(64, 512));
    let (rows, dim) = (vectors.rows(), vectors.dim());

    let order = SplitMix64::new(page.seed()).sample_indices(rows, rows);
    let mut flat = FlatIndex::new(dim, Metric::Cosine)?;
    flat.add(&(0..rows as u64).collect::<Vec<_>>(), &vectors)?;
    let query = unit_cube(12, 1, dim);

    page.section("One file: a header, then the rows");
    let mut table = Table::new(["what", "time"]);
    let mut start = Instant::now();
    let mut lap = |what: &str| {
        table.row([what.into(), duration(start.elapsed())]);
        start = Instant::now();
    };
    let mut file = VectorFile::create(&path, dim, Dtype::F32)?;
    for from in (0..rows).step_by(rows / 10) {
        file.append(&vectors.select(&(from..from + rows / 10).collect::<Vec<_>>()))?;
    }
    lap("append in 10 batches, each waited for");
    drop(file);
    let file = VectorFile::open_read(&path)?;
    lap("open again");
    let in_order = reads_back(&file, &vectors, 0..rows)?;
    lap("read every row, in order");
    let in_any_order = reads_back(&file, &vectors, order)?;
    lap("read every row, in random order");
    file.scan(query.row(0), 10, 10_000)?;
    lap("scan for the 10 nearest");
    let found = file.scan(query.row(0), 10, 10_000)?;
    lap("scan again");
    let exact = flat.search(query.row(0), 10)?;
    lap("the same with the vectors in memory");
    let bytes = std::fs::metadata(&path)?.len();
    page.table(format!("{rows} vectors of {dim} values, {bytes} bytes"), &table);

    page.section("A crash in the midst of an append");
    let outcomes = crash(folder.path(), page.seed())?;
    let refused = outcomes.iter().filter(|o| **o == Some(false)).count();
    page.text(format!(
        "2,000 published rows and an append that never ended, cut off at 20 places: {refused} files are refused as too \
         short, the others open with exactly the published rows."
    ));

    page.section("A tier of memory");
    let zipf = Zipf::new(10_000, 1.0)?;
    let trace = zipf.trace(41, 50_000);
    let flip = |(t, &id): (usize, &usize)| if t < 25_000 { id } else { 9_999 - id };
    let flipped: Vec<usize> = trace.iter().enumerate().map(flip).collect();
    let share = |count: u64| count as f64 / trace.len() as f64;
    let accesses_to = |kept: &dyn Fn(u64) -> bool| trace.iter().filter(|&&id| kept(id as u64)).count() as u64;
    let mut table = Table::new(["in memory", "hits", "mean ms", "hits after the flip", "flawed rate"]);
    let mut chart = Chart::lines("Hit rate by rows in memory", "rows in memory, of 10,000", "hit rate").log_x();
    let sizes = [50, 100, 200, 500, 1_000, 2_000, 5_000];
    let mut counts = Vec::new();
    for (name, policy) in POLICIES {
        let store = replay(&path, &trace, 1_000, policy)?;
        let after_flip = replay(&path, &flipped, 1_000, policy)?.stats().hits;
        let count = [store.stats().hits, after_flip, accesses_to(&|id| store.in_ram(id))];
        let [hits, after_flip, flawed] = count.map(|count| pct(share(count), 3));
        let time = num(amat(share(count[0]), 0.1, 10.0), 3);
        table.row([name.into(), hits, time, after_flip, flawed]);
        counts.push(count);
        let rate = |&size: &usize| Ok((size, replay(&path, &trace, size, policy)?.stats().hit_rate()));
        chart = chart.series(name, sizes.iter().map(rate).collect::<anyhow::Result<Vec<_>>>()?);
    }
    let (top, theory) = (share(accesses_to(&|id| id < 1_000)), zipf.share_of_top(1_000));
    let cells = [pct(top, 3), num(amat(top, 0.1, 10.0), 3), "".into(), "".into()];
    table.row(["the most popular".into()].into_iter().chain(cells));
    page.table("50,000 Zipf accesses to 10,000 rows, 1,000 in memory", &table);
    chart = chart.series("the most popular", sizes.map(|size| (size, zipf.share_of_top(size))));
    page.chart("hit_rate.svg", &chart)?;
    page.text(
        "Memory takes 0.1 ms, the disk 10 ms. The flip makes the least popular rows the most popular ones half way. The \
         flawed rate is the share of accesses to rows that are cached in the end: it counts first accesses as hits.",
    );
    let (mut low, mut high) = (0.5, 2.0);
    while high - low > 1e-9 {
        let middle = f64::midpoint(low, high);
        let enough = Zipf::new(10_000, middle)?.share_of_top(1_000) >= 0.9;
        *(if enough { &mut high } else { &mut low }) = middle;
    }
    let (fit, mean) = (128e3 / (512.0 * 4.0), amat(0.9, 0.1, 10.0));
    page.text(format!(
        "128 GB hold {fit} million rows of 512 values. A hit rate of 90 % gives {mean:.2} ms, 9.17 times faster than the \
         disk alone; a tenth of the rows reaches it from a Zipf exponent of {low:.3} on."
    ));

    page.claim("the file has 4096 bytes and 4 a value").equals(bytes, 4096 + (rows * dim * 4) as u64);
    page.claim("every row is read back bit for bit").equals(in_order && in_any_order, true);
    let same = |(a, b): (&Hit, &Hit)| a.id == b.id && (a.score - b.score).abs() < 1e-6;
    page.claim("a scan finds the rows and scores that the flat index finds").all(found.iter().zip(&exact), same);
    page.claim("a file cut off anywhere is refused or holds what was published")
        .all(outcomes, |outcome| outcome.is_some());
    page.claim("hits of LRU and LFU, then of all three after the flip")
        .equals([0, 1, 3, 4, 5].map(|i| counts[i % 3][i / 3]), [33_667, 36_541, 33_463, 33_513, 34_436]);
    page.claim("a fixed tenth hits as often as theory says").close(top, theory, 1e-3);
    page.claim("the flawed statistic flatters LFU").close(share(counts[1][2]), 0.775_22, 1e-9);
    page.claim("exponent at which a tenth of the rows gets 90 % of the accesses").close(low, 1.193_128, 1e-6);
    page.finish()
}

/// Whether the rows, read in this order, are bit for bit what was written.
fn reads_back(file: &VectorFile, written: &Matrix, order: impl IntoIterator<Item = usize>) -> anyhow::Result<bool> {
    let mut same = true;
    for row in order {
        same &= *file.get(row as u64)? == *written.row(row);
    }
    Ok(same)
}

fn replay(path: &Path, trace: &[usize], ram_rows: usize, policy: Policy) -> anyhow::Result<TieredStore> {
    let mut store = TieredStore::new(VectorFile::open_read(path)?, ram_rows, policy);
    for &id in trace {
        store.get(id as u64)?;
    }
    Ok(store)
}

/// Cuts a file off at 20 places. Opening it: `Some(true)` for the published rows, `Some(false)` for a refusal, `None` for garbage.
fn crash(folder: &Path, seed: u64) -> anyhow::Result<Vec<Option<bool>>> {
    let (path, rows) = (folder.join("crash.vec"), unit_cube(13, 2_000, 64));
    VectorFile::create(&path, 64, Dtype::F32)?.append(&rows)?;
    let mut bytes = std::fs::read(&path)?;
    let published = bytes.len();
    bytes.resize(published * 3 / 2, 0xAB);
    let mut rng = SplitMix64::new(seed);
    let mut open = |_| {
        let cut = rng.below(bytes.len());
        std::fs::write(&path, &bytes[..cut])?;
        Ok(match VectorFile::open_append(&path) {
            Ok(file) if cut >= published && file.len() == 2_000 => reads_back(&file, &rows, 0..2_000)?.then_some(true),
            Err(AnnError::Truncated { .. }) => (cut < published).then_some(false),
            _ => None,
        })
    };
    (0..20).map(&mut open).collect()
}
