//! Makes the bundled encoder `data/models/static-256` from MiniLM and WordNet, and its rows in `data/PROVENANCE.md`.
//!
//! cargo run --release -p eas-bench --bin distill_static -- --cache target/teacher
//!
//! MiniLM's vectors of some 200,000 texts take most of the time; with `--cache` a second run starts from them.

use anyhow::{Context, Result};
use clap::Parser;
use eas_bench::lessons::{self, Teacher};
use eas_bench::quality;
use eas_data::wordnet::WordNet;
use eas_text::distill::{Corpus, Distill, Lessons};
use eas_text::encoder::{SentenceEncoder as _, StaticEncoder};
use eas_text::wordpiece::WordPiece;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

#[derive(Parser)]
#[command(about = "Distils the bundled static encoder from MiniLM")]
struct Flags {
    /// Folder with the teacher's vectors of earlier runs.
    #[arg(long)]
    cache: Option<PathBuf>,
    /// Folder to write to; the bundled model's when left out.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Training steps.
    #[arg(long, default_value_t = Distill::default().steps)]
    steps: usize,
}

fn main() -> Result<()> {
    let flags = Flags::parse();
    let wordnet = WordNet::load()?;
    let vocabulary = std::fs::read(eas_data::root().join("models/all-MiniLM-L6-v2/vocab.txt"))
        .context("the teacher's vocabulary: run scripts/fetch_models.sh")?;
    let tokenizer = WordPiece::from_bytes(&vocabulary)?;
    let texts = lessons::texts(&wordnet);
    let held_out: Vec<String> =
        lessons::held_out(&wordnet).into_iter().map(|i| wordnet.synsets()[i].gloss.clone()).collect();

    let mut teacher = Teacher::open(flags.cache.as_deref())?;
    let tokens = teacher.encode_vocabulary(&tokenizer)?;
    let held_out_targets = teacher.encode(&held_out)?;
    let ids = |text: &String| -> Vec<u32> {
        let specials = tokenizer.specials();
        tokenizer.ids(text, usize::MAX).into_iter().filter(|id| !specials.contains(*id)).collect()
    };
    let mut corpus = |texts: &[String]| -> Result<Corpus> {
        Ok(Corpus { texts: texts.iter().map(ids).collect(), targets: teacher.encode(texts)? })
    };
    let (sentences, words) = (corpus(&texts.sentences)?, corpus(&texts.words)?);
    drop(teacher);

    let synonyms: Vec<(Vec<u32>, Vec<u32>)> = texts.synonyms.iter().map(|(a, b)| (ids(a), ids(b))).collect();
    let settings = Distill { steps: flags.steps, ..Distill::default() };
    let lessons = Lessons {
        tokens: &tokens,
        frequency: &lessons::token_frequency(&wordnet, &tokenizer),
        sentences: &sentences,
        words: &words,
        synonyms: &synonyms,
    };
    let mut table = settings.fit(&lessons, |p| {
        if p.step % 20 == 0 {
            println!("step {:4}: direction {:.4}, neighbourhood {:.4}", p.step, p.direction, p.neighbourhood);
        }
    })?;
    let specials = tokenizer.specials();
    for id in [specials.pad, specials.unk, specials.cls, specials.sep, specials.mask] {
        table.row_mut(id as usize).fill(0.0);
    }
    let encoder = StaticEncoder::from_table(tokenizer, &table)?;

    let texts: Vec<&str> = held_out.iter().map(String::as_str).collect();
    let agreement = quality::neighbour_agreement(&encoder.encode(&texts)?, &held_out_targets, 10)?;
    println!("held-out glosses: {agreement:.4} of MiniLM's ten nearest are among the table's ten nearest");
    for task in quality::retrieval_tasks(&encoder)? {
        println!("{}: {:.3}, TF-IDF {:.3}", task.name, task.encoder, task.tfidf);
    }
    println!("senses of bank: AUC {:.3}", quality::bank_sense_auc(&encoder)?);

    let model = encoder.to_bytes()?;
    if let Some(folder) = &flags.out {
        return store(folder, &model, &vocabulary);
    }
    store(&eas_data::root().join("models/static-256"), &model, &vocabulary)?;
    record(&model, &vocabulary)
}

fn store(folder: &Path, model: &[u8], vocabulary: &[u8]) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    std::fs::write(folder.join("model.safetensors"), model)?;
    std::fs::write(folder.join("vocab.txt"), vocabulary)?;
    println!("wrote {}", folder.display());
    Ok(())
}

/// Replaces the model's rows in the table of origins, which is sorted by path.
fn record(model: &[u8], vocabulary: &[u8]) -> Result<()> {
    let path = eas_data::root().join("PROVENANCE.md");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let (rows, prose): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with("| `"));
    let row = |name: &str, bytes: &[u8], source: &str, licence: &str| {
        let sha256 = Sha256::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        let made_by = "`cargo run --release -p eas-bench --bin distill_static`";
        format!("| `models/static-256/{name}` | {} | {sha256} | {source} | {licence} | {made_by} |", bytes.len())
    };
    let mut rows: Vec<String> =
        rows.into_iter().filter(|row| !row.contains("`models/static-256/")).map(str::to_owned).collect();
    rows.push(row(
        "model.safetensors",
        model,
        "distilled from all-MiniLM-L6-v2 (Apache-2.0) on WordNet 3.0 texts",
        "Apache-2.0 and the WordNet 3.0 licence",
    ));
    rows.push(row("vocab.txt", vocabulary, "vocabulary of bert-base-uncased", "Apache-2.0"));
    rows.sort();
    let lines: Vec<&str> = prose.into_iter().chain(rows.iter().map(String::as_str)).collect();
    Ok(std::fs::write(path, lines.join("\n") + "\n")?)
}
