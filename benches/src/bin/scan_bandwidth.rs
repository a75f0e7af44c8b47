//! Compares the speed at which one query is compared with all vectors to the speed at which the machine copies memory: a scan that reads
//! every vector once can't be faster than memory.
//!
//! cargo run --release -p eas-bench --bin scan_bandwidth -- --rows 1000000 --dim 128

use anyhow::{Result, ensure};
use clap::Parser;
use eas_ann::{FlatIndex, Metric, VectorIndex as _};
use eas_bench::sweep::pool;
use eas_tensor::Matrix;
use eas_tensor::rng::SplitMix64;
use std::hint::black_box;
use std::time::Instant;

#[derive(Parser)]
#[command(about = "A single query over all vectors, beside a copy of as many bytes")]
struct Flags {
    /// Vectors
    #[arg(long, default_value_t = 1_000_000)]
    rows: usize,
    /// Values of a vector
    #[arg(long, default_value_t = 128)]
    dim: usize,
    /// Interleaved rounds, of whose ratios the median counts
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Threads of the search and of the copy
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

fn main() -> Result<()> {
    let flags = Flags::parse();
    let values = flags.rows.checked_mul(flags.dim).filter(|&n| n > 0 && n <= 1 << 32);
    let Some(values) = values else {
        anyhow::bail!("{} x {} values: must be between 1 and {}", flags.rows, flags.dim, 1u64 << 32);
    };
    ensure!(flags.rounds > 0, "--rounds is 0, must be at least 1");
    let mut rng = SplitMix64::new(42);
    let base = Matrix::from_vec(flags.rows, flags.dim, (0..values).map(|_| rng.normal() as f32).collect())?;
    let query: Vec<f32> = (0..flags.dim).map(|_| rng.normal() as f32).collect();
    let mut copy = vec![0.0f32; values];
    let mut index = FlatIndex::new(flags.dim, Metric::Dot)?;
    index.add(&(0..flags.rows as u64).collect::<Vec<_>>(), &base)?;
    let gigabytes = (4 * values) as f64 / 1e9;
    let (mut copies, mut scans, mut shares) = (Vec::new(), Vec::new(), Vec::new());
    pool(flags.threads)?.install(|| -> Result<()> {
        for _ in 0..flags.rounds {
            let started = Instant::now();
            let part = values.div_ceil(flags.threads.max(1));
            rayon::scope(|scope| {
                for (to, from) in copy.chunks_mut(part).zip(base.as_slice().chunks(part)) {
                    scope.spawn(move |_| to.copy_from_slice(from));
                }
            });
            // As STREAM counts a copy: what is read and what is written.
            let copied = 2.0 * gigabytes / started.elapsed().as_secs_f64();
            black_box(&mut copy);
            let started = Instant::now();
            black_box(index.search(&query, 10)?);
            let scanned = gigabytes / started.elapsed().as_secs_f64();
            copies.push(copied);
            scans.push(scanned);
            shares.push(scanned / copied);
        }
        Ok(())
    })?;
    let median = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    println!(
        "{}",
        serde_json::json!({
            "rows": flags.rows, "dim": flags.dim, "threads": flags.threads,
            "copy_gb_s": median(&mut copies), "scan_gb_s": median(&mut scans), "scan_over_copy": median(&mut shares),
        })
    );
    Ok(())
}
