//! Mines triplets from labelled rows of a file.
//!
//! cargo run --release -p eas-bench --bin mine_eval -- --strategy hard --in inputs.safetensors --out triplets.safetensors

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use clap::{Parser, ValueEnum};
use eas_losses::mining::{Fallback, Strategy};
use eas_losses::{Distance, TripletMiner};
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Instant;

#[derive(Parser)]
#[command(
    about = "Mines triplets from `anchors` (B, D) and `labels` (B,) of a safetensors file",
    after_help = "The result holds the row numbers `anchors`, `positives` and `negatives`, one a triplet, as u32."
)]
struct Flags {
    /// Which triplets are taken.
    #[arg(long, value_enum)]
    strategy: Name,
    /// The width of the semi-hard window.
    #[arg(long, default_value_t = 1.0)]
    margin: f64,
    /// Cosine instead of Euclidean distance.
    #[arg(long)]
    cosine: bool,
    /// The safetensors file with the inputs.
    #[arg(long = "in")]
    input: PathBuf,
    /// The safetensors file that the triplets go to.
    #[arg(long)]
    out: PathBuf,
    /// Threads; 0 means all of the machine's.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Runs; the fastest is reported.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
}

#[derive(Clone, Copy, ValueEnum)]
enum Name {
    All,
    Hard,
    HardestNegative,
    SemiHard,
    SemiHardOrHardest,
    FaceNet,
}

fn main() -> Result<()> {
    let flags = Flags::parse();
    eas_bench::set_threads(flags.threads)?;
    let inputs = candle_core::safetensors::load(&flags.input, &Device::Cpu)
        .with_context(|| format!("reading {}", flags.input.display()))?;
    let tensor = |name: &str| inputs.get(name).with_context(|| format!("there is no tensor {name:?} in the input"));
    let rows = tensor("anchors")?;
    let labels: Vec<u32> = tensor("labels")?.to_dtype(DType::U32)?.to_vec1()?;
    let miner = TripletMiner {
        strategy: match flags.strategy {
            Name::All => Strategy::All,
            Name::Hard => Strategy::BatchHard,
            Name::HardestNegative => Strategy::HardestNegative,
            Name::SemiHard => Strategy::SemiHard(Fallback::Skip),
            Name::SemiHardOrHardest => Strategy::SemiHard(Fallback::Hardest),
            Name::FaceNet => Strategy::SemiHardFaceNet,
        },
        margin: flags.margin,
        distance: if flags.cosine { Distance::Cosine } else { Distance::Euclidean },
    };
    let memory = eas_bench::memory::PeakMemory::start();
    let mut fastest = f64::INFINITY;
    let mut triplets = miner.mine(rows, &labels)?;
    for _ in 0..flags.repeat {
        let started = Instant::now();
        triplets = miner.mine(rows, &labels)?;
        fastest = fastest.min(started.elapsed().as_secs_f64());
    }
    println!("{} triplets: {:.2} ms{memory}", triplets.len(), fastest * 1e3);
    let index = |rows: &Vec<u32>| Tensor::from_slice(rows, rows.len(), &Device::Cpu);
    let results = HashMap::from([
        ("anchors".to_owned(), index(&triplets.anchors)?),
        ("positives".to_owned(), index(&triplets.positives)?),
        ("negatives".to_owned(), index(&triplets.negatives)?),
    ]);
    candle_core::safetensors::save(&results, &flags.out).with_context(|| format!("writing {}", flags.out.display()))?;
    Ok(())
}
