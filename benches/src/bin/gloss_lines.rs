//! Prints WordNet glosses one a line: all of them in file order, or a seeded sample.
//!
//! cargo run --release -p eas-bench --bin gloss_lines -- --count 2048 > lines.txt

use anyhow::Result;
use clap::Parser;
use eas_data::wordnet::WordNet;
use eas_tensor::rng::SplitMix64;
use std::io::Write as _;

#[derive(Parser)]
#[command(about = "Prints WordNet glosses, one a line")]
struct Flags {
    /// How many, sampled without replacement; all in file order when left out.
    #[arg(long)]
    count: Option<usize>,
    /// Seed of the sample.
    #[arg(long, default_value_t = 42)]
    seed: u64,
}

fn main() -> Result<()> {
    let flags = Flags::parse();
    let wordnet = WordNet::load()?;
    let synsets = wordnet.synsets();
    let chosen = match flags.count {
        Some(count) => SplitMix64::new(flags.seed).sample_indices(synsets.len(), count),
        None => (0..synsets.len()).collect(),
    };
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for i in chosen {
        writeln!(out, "{}", synsets[i].gloss)?;
    }
    Ok(out.flush()?)
}
