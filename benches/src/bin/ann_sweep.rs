//! Builds one index over a file of vectors and prints recall and speed at each value of its search parameter.
//!
//! cargo run --release -p eas-bench --bin ann_sweep -- --base b.npy --queries q.npy --metric dot --index hnsw --sweep 10,20,40 --json

use anyhow::{Result, ensure};
use clap::Parser;
use eas_bench::sweep::{Build, By, Kind, Point, Subject, Task, pool};
use std::io::{BufRead as _, Write as _};
use std::path::PathBuf;

#[derive(Parser)]
#[command(about = "Recall and speed of one index at each value of its search parameter")]
struct Flags {
    /// Vectors to search, float32 or float64 `.npy`, one a row
    #[arg(long)]
    base: PathBuf,
    /// Queries, of the same dimension
    #[arg(long)]
    queries: PathBuf,
    /// True neighbours, integer `.npy` of one row of ids a query; computed when left out
    #[arg(long)]
    gt: Option<PathBuf>,
    /// How vectors are compared
    #[arg(long, value_enum, default_value_t = By::Dot)]
    metric: By,
    /// The index
    #[arg(long, value_enum)]
    index: Kind,
    #[command(flatten)]
    build: Build,
    /// Values of the search parameter, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "10,16,24,32,48,64,96,128,192,256")]
    sweep: Vec<usize>,
    /// Neighbours asked for, and counted in the recall
    #[arg(long, default_value_t = 10)]
    k: usize,
    /// Search threads; 0 means all of the machine's
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Threads of the build; 0 means all of the machine's
    #[arg(long, default_value_t = 0)]
    build_threads: usize,
    /// Passes over the queries at each point, of which the fastest counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Print one JSON object a point
    #[arg(long)]
    json: bool,
    /// Once built, make one round for each line on stdin and end it with an empty line: for interleaving with other programs
    #[arg(long, conflicts_with = "rounds")]
    follow: bool,
}

fn main() -> Result<()> {
    let flags = Flags::parse();
    ensure!(flags.rounds > 0, "--rounds is 0, must be at least 1");
    let metric = flags.metric.metric();
    let task = Task::read(&flags.base, &flags.queries, flags.gt.as_deref(), metric, flags.k)?;
    let mut subject = Subject::build(flags.index, flags.build, &task.base, metric, flags.build_threads)?;
    let sweep = match flags.index {
        Kind::Flat => vec![0],
        _ => flags.sweep.clone(),
    };
    let threads = pool(flags.threads)?;
    let mut round =
        || -> Result<Vec<Point>> { sweep.iter().map(|&par| subject.measure(&task, par, flags.k, &threads)).collect() };
    if flags.follow {
        println!("ready");
        for line in std::io::stdin().lock().lines() {
            line?;
            for point in round()? {
                print(&point, flags.json)?;
            }
            println!();
            std::io::stdout().flush()?;
        }
        return Ok(());
    }
    let mut best = round()?;
    for _ in 1..flags.rounds {
        for (best, again) in best.iter_mut().zip(round()?) {
            best.qps = best.qps.max(again.qps);
        }
    }
    best.iter().try_for_each(|point| print(point, flags.json))
}

fn print(point: &Point, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string(point)?);
    } else {
        println!(
            "{} par {:>4}: recall@k {:.4}, {:>9.0} queries/s, built in {:.1} s, {:.0} bytes a vector",
            point.index, point.par, point.recall, point.qps, point.build_s, point.bytes_per_vector
        );
    }
    Ok(())
}
