//! `cargo book doctor`: what is there, what works, and what to run for the rest.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use eas_report::testing::{MINILM_FILE, minilm_file};

use crate::find::Library;

/// The model that the encoder's golden values were made with.
const MINILM_SHA256: &str = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db";

/// How a part stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Good,
    /// Something optional is not there.
    Absent,
    /// Something needed is missing or damaged.
    Bad,
}

#[derive(Debug)]
struct Finding {
    part: &'static str,
    state: State,
    text: String,
}

/// Prints the findings; true when nothing needed is missing.
pub(crate) fn doctor(library: &Library, out: &mut impl Write) -> Result<bool> {
    let mut findings = vec![toolchain(&library.root), linker(), processor(), gpu()];
    findings.extend(data());
    findings.extend([minilm(&library.root), listings(library), servers(&library.root), faiss()]);
    for Finding { part, state, text } in &findings {
        let mark = match state {
            State::Good => "ok    ",
            State::Absent => "absent",
            State::Bad => "BAD   ",
        };
        writeln!(out, "{mark}  {part:<10}  {text}")?;
    }
    Ok(findings.iter().all(|finding| finding.state != State::Bad))
}

fn first_line(program: &str, arguments: &[&str], folder: &Path) -> Option<String> {
    let output = Command::new(program).args(arguments).current_dir(folder).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then(|| text.lines().next().unwrap_or_default().trim().to_string())
}

fn toolchain(root: &Path) -> Finding {
    let wanted = std::fs::read_to_string(root.join("rust-toolchain.toml")).unwrap_or_default();
    let wanted = wanted
        .lines()
        .find_map(|line| line.strip_prefix("channel = "))
        .unwrap_or("\"?\"")
        .trim_matches('"')
        .to_string();
    let (state, text) = match first_line("rustc", &["--version"], root) {
        Some(found) if found.contains(&format!(" {wanted} ")) => (State::Good, found),
        Some(found) => (
            State::Bad,
            format!("{found}, but rust-toolchain.toml wants {wanted}: run `rustup toolchain install {wanted}`"),
        ),
        None => (State::Bad, "rustc does not run: install Rust from https://rustup.rs".to_string()),
    };
    Finding { part: "toolchain", state, text }
}

fn linker() -> Finding {
    let (state, text) = match first_line("cc", &["--version"], Path::new(".")) {
        Some(found) => (State::Good, found),
        None if cfg!(unix) => (State::Bad, "no `cc`, which links Rust programs: install gcc or clang".to_string()),
        None => (State::Good, "the one that came with the toolchain".to_string()),
    };
    Finding { part: "linker", state, text }
}

fn processor() -> Finding {
    let mut features: Vec<&str> = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        for (name, present) in [
            ("avx2", std::is_x86_feature_detected!("avx2")),
            ("fma", std::is_x86_feature_detected!("fma")),
            ("f16c", std::is_x86_feature_detected!("f16c")),
            ("avx512f", std::is_x86_feature_detected!("avx512f")),
        ] {
            if present {
                features.push(name);
            }
        }
    }
    #[cfg(target_arch = "aarch64")]
    if std::arch::is_aarch64_feature_detected!("neon") {
        features.push("neon");
    }
    let fast = features.contains(&"neon") || (features.contains(&"avx2") && features.contains(&"fma"));
    let kernels = if fast { "the vector kernels are used" } else { "scalar kernels are used: right, and slower" };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let text = format!("{}, {threads} threads, {}; {kernels}", std::env::consts::ARCH, features.join(" "));
    Finding { part: "processor", state: State::Good, text }
}

fn gpu() -> Finding {
    let card = first_line("nvidia-smi", &["--query-gpu=name", "--format=csv,noheader"], Path::new("."));
    let card = card.map_or("no NVIDIA GPU seen".to_string(), |name| format!("{name} seen"));
    Finding {
        part: "GPU",
        state: State::Absent,
        text: format!("{card}; every listing that is here runs on the processor"),
    }
}

fn data() -> Vec<Finding> {
    let part = "data";
    match eas_data::verify_all() {
        Err(error) => vec![Finding { part, state: State::Bad, text: error.to_string() }],
        Ok(files) => {
            let mut findings: Vec<Finding> = files
                .iter()
                .filter_map(|file| file.state.as_ref().err())
                .map(|error| Finding { part, state: State::Bad, text: error.to_string() })
                .collect();
            if findings.is_empty() {
                let bytes: u64 = files.iter().map(|file| file.origin.bytes).sum();
                let text = format!("{} bundled files intact, {:.1} MB", files.len(), bytes as f64 / 1e6);
                findings.push(Finding { part, state: State::Good, text });
            }
            findings
        }
    }
}

fn minilm(root: &Path) -> Finding {
    let path = minilm_file(root);
    let (state, text) = match std::fs::read(&path) {
        Err(_) => (State::Absent, "all-MiniLM-L6-v2, for --encoder minilm: run scripts/fetch_models.sh".to_string()),
        Ok(bytes) if eas_data::bundle::sha256_hex(&bytes) == MINILM_SHA256 => {
            (State::Good, "all-MiniLM-L6-v2 intact; --encoder minilm works".to_string())
        }
        Ok(_) => (State::Bad, format!("{MINILM_FILE} is altered: remove it and run scripts/fetch_models.sh")),
    };
    Finding { part: "MiniLM", state, text }
}

fn listings(library: &Library) -> Finding {
    let (here, planned) = (library.all().len(), library.planned.len());
    let chapters = library.chapters.iter().filter(|chapter| !chapter.entries.is_empty()).count();
    Finding {
        part: "listings",
        state: State::Good,
        text: format!("{here} of the book's {planned}, in {chapters} chapters"),
    }
}

fn servers(root: &Path) -> Finding {
    let milvus = first_line("scripts/milvus.sh", &["status"], root)
        .unwrap_or_else(|| "scripts/milvus.sh start starts one for --backend milvus".to_string());
    Finding {
        part: "servers",
        state: State::Good,
        text: format!(
            "none needed; an OpenAI-compatible one can stand in for the extractive answers of chapters 1 and 13; {milvus}"
        ),
    }
}

fn faiss() -> Finding {
    let (state, text) = match first_line("cmake", &["--version"], Path::new(".")) {
        Some(found) => {
            (State::Good, format!("{found}; the feature faiss of eas-ann compiles FAISS, with a C++ compiler and BLAS"))
        }
        None => (
            State::Absent,
            "for the feature faiss of eas-ann: install cmake, a C++ compiler, BLAS and LAPACK".to_string(),
        ),
    };
    Finding { part: "faiss", state, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_altered_model_is_bad_and_a_missing_one_only_absent() {
        let home = tempfile::tempdir().expect("temporary folder");
        assert_eq!(minilm(home.path()).state, State::Absent);
        let path = home.path().join(MINILM_FILE);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(&path, "not the model").expect("written");
        let finding = minilm(home.path());
        assert!(finding.state == State::Bad && finding.text.contains("fetch_models.sh"), "{finding:?}");
    }

    #[test]
    fn another_toolchain_is_bad() {
        let home = tempfile::tempdir().expect("temporary folder");
        std::fs::write(home.path().join("rust-toolchain.toml"), "[toolchain]\nchannel = \"0.9.9\"\n").expect("written");
        let finding = toolchain(home.path());
        assert!(finding.state == State::Bad && finding.text.contains("0.9.9"), "{finding:?}");
    }
}
