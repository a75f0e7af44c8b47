//! Prints the report of the encoder bars as Markdown.
//!
//! cargo run --release -p eas-bench --bin encoder_report -- --similarity FOLDER > benches/reports/encoder.md
//!
//! FOLDER holds wordsim353.tsv and simlex999.txt (gensim's test data has both). The speed of MiniLM beside its peers is measured by
//! benches/peers/encode.py.

use anyhow::Result;
use clap::Parser;
use eas_bench::{lessons, quality};
use eas_data::wordnet::WordNet;
use eas_text::encoder::{MiniLm, SentenceEncoder, StaticEncoder};
use std::path::PathBuf;
use std::time::Instant;

#[derive(Parser)]
#[command(about = "Prints the report of the encoder bars as Markdown")]
struct Flags {
    /// Folder with wordsim353.tsv and simlex999.txt.
    #[arg(long)]
    similarity: PathBuf,
    /// Threads; 0 means all of the machine's.
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

/// Times each throughput this often and keeps the best: other programs can only slow a run down.
const RUNS: usize = 5;

fn main() -> Result<()> {
    let flags = Flags::parse();
    eas_bench::set_threads(flags.threads)?;
    let wordnet = WordNet::load()?;
    let glosses: Vec<&str> = wordnet.synsets().iter().map(|s| s.gloss.as_str()).collect();
    let held_out: Vec<&str> = lessons::held_out(&wordnet).into_iter().map(|i| glosses[i]).collect();

    let mut loading = f64::INFINITY;
    for _ in 0..RUNS {
        let started = Instant::now();
        StaticEncoder::load()?;
        loading = loading.min(started.elapsed().as_secs_f64() * 1e3);
    }
    let encoder = StaticEncoder::load()?;
    let mut rate: f64 = 0.0;
    for _ in 0..RUNS {
        let started = Instant::now();
        encoder.encode(&glosses)?;
        rate = rate.max(glosses.len() as f64 / started.elapsed().as_secs_f64());
    }
    let folder = eas_data::root().join("models/static-256");
    let bytes = ["model.safetensors", "vocab.txt"].map(|name| std::fs::metadata(folder.join(name)).map(|m| m.len()));
    let megabytes = bytes.into_iter().sum::<std::io::Result<u64>>()? as f64 / 1e6;
    let words = quality::word_similarity(&encoder, &flags.similarity.join("wordsim353.tsv"))?;
    let similar = quality::word_similarity(&encoder, &flags.similarity.join("simlex999.txt"))?;

    println!("# The encoders measured\n");
    println!(
        "Printed by `encoder_report` on {} {}, {} threads. Throughput and loading time are the best of {RUNS} runs.\n",
        std::env::consts::ARCH,
        std::env::consts::OS,
        flags.threads
    );
    println!("| static encoder | measured | bar |\n| --- | --- | --- |");
    println!("| WordSim-353, Spearman | {words:.4} | >= 0.68 |");
    println!("| SimLex-999, Spearman | {similar:.4} | >= 0.50 |");
    if let Ok(teacher) = MiniLm::load() {
        let targets = teacher.encode(&held_out)?;
        let agreement = quality::neighbour_agreement(&encoder.encode(&held_out)?, &targets, 10)?;
        println!("| 10 nearest of 5,000 held-out glosses, share of MiniLM's 10 | {agreement:.4} | >= 0.45 |");
    }
    for task in quality::retrieval_tasks(&encoder)? {
        println!("| {} | {:.3} | > TF-IDF, {:.3} |", task.name, task.encoder, task.tfidf);
    }
    println!("| senses of bank, AUC | {:.3} | >= 0.75 |", quality::bank_sense_auc(&encoder)?);
    println!("| size on disk | {megabytes:.2} MB | <= 9 MB |");
    println!("| loading | {loading:.1} ms | < 50 ms |");
    println!("| throughput, all WordNet glosses | {rate:.0}/s | >= 100,000/s |");
    Ok(())
}
