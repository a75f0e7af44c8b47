//! Listing 11.3: vectors in half precision, queries in batches, stages that overlap, shards that are searched side by side.
//!
//! cargo run --release --example device_sharded_search

use std::time::Instant;

use ch11_high_performance_vector_ops::precision::{by_precision, ids, score_error};
use eas_ann::device::{DeviceIndex, DeviceShards, PipelinedSearch, Precision};
use eas_data::synth::{clustered, clustered_queries, unit_cube};
use eas_plan::roofline::{Roofline, Scan, makespan, serial};
use eas_report::{Chart, Table, duration, num, sci};
use eas_tensor::Matrix;
use eas_tensor::quant::{Codec, F16};

const K: usize = 10;

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let (rows, dim) = page.size((20_000, 128), (1_000_000, 512));
    let (corpus, queries) = (clustered(rows, dim, 200, 1.0), clustered_queries(256, dim, 200, 1.0));
    page.text(format!(
        "{rows} vectors of {dim} values and 256 queries, on the processor. Rows are scaled to length 1 in f32 and stored after that; \
         products are summed in f32 whatever the storage."
    ));
    let exact = DeviceIndex::new(&corpus, Precision::F32)?.search_batch(&queries, K, 256)?;
    let mut table = Table::new(["storage", "MB", "recall@10", "error", "batch 1", "16", "256"]);
    for of in by_precision(&corpus, &queries, &exact)? {
        let recall = num(of.recall, 4).within(0.003);
        let error = sci(of.error, 1).within(0.1 * of.error + 1e-7);
        let cells = [of.name.into(), num(of.bytes as f64 / 1e6, 2), recall, error];
        table.row(cells.into_iter().chain(of.times.into_iter().map(duration)));
    }
    page.table("Storage: accuracy, and time a query by batch", &table);

    let here = Roofline::measure();
    let mut table = Table::new(["batch", "reading", "computing", "at least", "bound by"]);
    let collection = Scan::new(rows as u64, dim as u32, 4);
    let large = Scan::new(100_000_000, 512, 2);
    let gpu = Roofline::a100_80gb();
    for batch in [1, 100, 1_000] {
        table.row([
            batch.into(),
            num(gpu.memory_ms(&large)?, 2),
            num(gpu.compute_ms(&large, batch)?, 2),
            num(gpu.least_ms(&large, batch)?, 2),
            gpu.bound(&large, batch)?.name().into(),
        ]);
    }
    page.table("Roofline, ms a batch: 100 million vectors of 512 f16 values", &table);
    page.text(format!(
        "They are 102.4 GB and don't fit an A100 of 80 GB at all; if they did, a pass would take 50 ms, not the 5 that the book quotes. One \
         core here reads {:.1} GB/s and does {:.1} GFLOPS: for {rows} vectors {:.2} ms a pass, compute-bound from a batch of {:.1} on.",
        here.bytes_per_second / 1e9,
        here.flops / 1e9,
        here.memory_ms(&collection)?,
        here.ridge_batch(4)?
    ));

    let mut table = Table::new(["stages", "batches", "overlapped", "one by one", "speed-up"]);
    let mut limits = Vec::new();
    let mut chart = Chart::lines("What overlap can save", "batches", "speed-up");
    for stages in [[4.0, 4.0, 4.0], [2.0, 5.0, 1.0]] {
        let name = format!("{stages:?}");
        for n in [1, 2, 10, 100] {
            let (side_by_side, in_turn) = (makespan(&stages, n)?, serial(&stages, n)?);
            let saved = num(in_turn / side_by_side, 3);
            table.row([name.as_str().into(), n.into(), num(side_by_side, 0), num(in_turn, 0), saved]);
            limits.push((side_by_side, in_turn));
        }
        let mut curve = Vec::new();
        for n in 1..=40 {
            curve.push((n, serial(&stages, n)? / makespan(&stages, n)?));
        }
        chart = chart.series(name, curve);
    }
    page.table("Upload, compute, collect: what overlap can save", &table);
    page.chart("overlap.svg", &chart)?;

    // The small collection whose numbers are published: every way of searching against the plain one.
    let (small, asked) = (unit_cube(11, 1_000, 64), unit_cube(12, 5, 64));
    let full = DeviceIndex::new(&small, Precision::F32)?;
    let half = DeviceIndex::new(&small, Precision::F16)?;
    let plain = full.search_batch(&asked, K, 1)?;
    let rounded = F16::new(64).reconstruct(&asked)?;
    let all = full.search_batch(&asked, 1_000, 5)?;
    let one_side = score_error(&half, &asked, &all);
    let both_sides = score_error(&half, &rounded, &all);
    let mut same = Vec::new();
    let mut table = Table::new(["shards", "sizes", "256 queries"]);
    for shards in [1, 2, 3, 7] {
        let cut = DeviceShards::new(&small, Precision::F32, shards)?;
        for k in [1, 10, 300] {
            same.push(cut.search_batch(&asked, k, 2)? == full.search_batch(&asked, k, 5)?);
        }
        let cut_up = DeviceShards::new(&corpus, Precision::F32, shards)?;
        let start = Instant::now();
        same.push(cut_up.search_batch(&queries, K, 64)? == exact);
        table.row([shards.into(), format!("{:?}", cut.lens()).into(), duration(start.elapsed())]);
    }
    page.table("Shards (sizes of 1,000 rows; time on the large collection)", &table);
    let index = DeviceIndex::new(&corpus, Precision::F16)?;
    let serially = page.timed("256 queries, one stage after the other", || index.search_batch(&queries, K, 32))?;
    let pipelined =
        page.timed("256 queries, stages overlapped", || PipelinedSearch::new(&index, 32)?.search(&queries, K))?;
    let sixty = DeviceIndex::new(&Matrix::from_vec(1, 64, vec![60.0; 64])?, Precision::F16)?;

    let billion = Scan::new(1_000_000_000, 512, 2);
    let f16_ids = ids(&half.search_batch(&asked, K, 5)?);
    let sizes = DeviceShards::new(&small, Precision::F32, 7)?.lens();
    page.claim("f16 storage: largest score error").at_most(one_side, 1.0e-4);
    page.claim("f16 on both sides").at_most(both_sides, 1.4e-4);
    page.claim("f16 top-10 lists are those of f32").equals(f16_ids == ids(&plain), true);
    page.claim("bytes in f16 and f32").equals((half.bytes(), full.bytes()), (128_000, 256_000));
    page.claim("shards give the ids and score bits of one index").all(&same, |same| *same);
    page.claim("1,000 rows in seven shards").equals(sizes, [143, 143, 143, 143, 143, 143, 142]);
    page.claim("no shard is an error").fails(DeviceShards::new(&small, Precision::F32, 0), "shards is 0");
    let published = [(12.0, 12.0), (16.0, 24.0), (48.0, 120.0), (408.0, 1_200.0)];
    page.claim("(4, 4, 4) overlapped and one by one").equals(&limits[..4], published);
    page.claim("(2, 5, 1), 10 batches").equals(limits[6], (53.0, 80.0));
    page.claim("the pipeline gives the serial results in order").equals(pipelined == serially, true);
    for (sentence, value, expected, tolerance) in [
        ("100 million vectors on an A100: ms a pass", gpu.memory_ms(&large)?, 50.220_7, 1e-4),
        ("a billion", gpu.memory_ms(&billion)?, 502.207, 1e-3),
        ("computing a batch of 100", gpu.compute_ms(&large, 100)?, 32.820_5, 1e-4),
        ("batch from which computing takes longer", gpu.ridge_batch(2)?, 153.016, 1e-3),
    ] {
        page.claim(sentence).close(value, expected, tolerance);
    }
    page.claim("64 times 60 is stored as 0.125, not as infinity")
        .equals(sixty.vector(0) == Some(vec![0.125; 64]), true);
    page.finish()
}
