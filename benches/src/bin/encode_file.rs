//! Encodes each line of a file and writes the vectors as float32 `.npy`.
//!
//! cargo run --release -p eas-bench --bin encode_file -- --encoder minilm --in lines.txt --out emb.npy --threads 2

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use std::path::PathBuf;
use std::time::Instant;

#[derive(Parser)]
#[command(about = "Encodes each line of a file; ends with the throughput (model loading excluded)")]
struct Flags {
    /// The encoder.
    #[arg(long, value_enum, default_value_t = Encoder::Static)]
    encoder: Encoder,
    /// UTF-8 text, one sentence a line.
    #[arg(long = "in")]
    input: PathBuf,
    /// Where the float32 `.npy` matrix goes, one row a line.
    #[arg(long)]
    out: PathBuf,
    /// Threads; 0 means all of the machine's.
    #[arg(long, default_value_t = 0)]
    threads: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum Encoder {
    Static,
    Minilm,
}

fn main() -> Result<()> {
    let flags = Flags::parse();
    eas_bench::set_threads(flags.threads)?;
    let lines = eas_bench::read_lines(&flags.input)?;
    let texts: Vec<&str> = lines.iter().map(String::as_str).collect();
    let started = Instant::now();
    let encoder = eas_text::encoder::load(match flags.encoder {
        Encoder::Static => "static",
        Encoder::Minilm => "minilm",
    })?;
    let loading = started.elapsed();
    let started = Instant::now();
    let vectors = encoder.encode(&texts)?;
    let seconds = started.elapsed().as_secs_f64();
    eas_data::npy::write_f32(&flags.out, &vectors).with_context(|| format!("writing {}", flags.out.display()))?;
    println!("model {} loaded in {:.1} ms", encoder.name(), loading.as_secs_f64() * 1e3);
    println!("{} sentences, {seconds:.2} s, {:.1}/s", texts.len(), texts.len() as f64 / seconds);
    Ok(())
}
