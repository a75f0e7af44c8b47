//! The test every chapter runs: each listing does what its committed output says.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::catalogue::{Chapter, Entry};
use crate::{Record, ReportError};

/// A listing that takes longer than this has hung.
const LIMIT: Duration = Duration::from_mins(5);

/// The model file that `--encoder minilm` needs, relative to the workspace root.
pub const MINILM_FILE: &str = "data/models/all-MiniLM-L6-v2/model.safetensors";

/// Where that model file lies for the workspace in `root`: under `EAS_DATA` if set, as `eas-data` has it, else under `data/`.
pub fn minilm_file(root: &Path) -> PathBuf {
    let inside = MINILM_FILE.strip_prefix("data/").unwrap_or(MINILM_FILE);
    std::env::var_os("EAS_DATA").map_or_else(|| root.join(MINILM_FILE), |data| Path::new(&data).join(inside))
}

/// Listings run side by side: each uses the processor's threads itself, so more than two only disturb each other.
const SIDE_BY_SIDE: usize = 2;

/// A finished run of a listing.
#[derive(Clone, Debug)]
pub struct Run {
    /// What it reported.
    pub record: Record,
    /// Wall-clock time of the process.
    pub time: Duration,
}

/// Runs a built listing with `--json` and reads what it reports. Its charts go to a temporary folder. A run whose claims
/// fail is a run; one that prints no report is an error with the end of its stderr.
pub fn run_listing(executable: &Path, encoder: &str, arguments: &[String]) -> Result<Run, ReportError> {
    let name = executable.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let failed = |reason: String| ReportError::Run { name: name.clone(), reason };
    if !executable.is_file() {
        return Err(failed(format!(
            "{} is not built; run `cargo build --examples` (with --release for a release run)",
            executable.display()
        )));
    }
    let scratch = tempfile::tempdir().map_err(ReportError::file(std::env::temp_dir()))?;
    let (stdout, stderr) = (scratch.path().join("stdout"), scratch.path().join("stderr"));
    let create = |path: &PathBuf| File::create(path).map_err(ReportError::file(path));
    let start = Instant::now();
    let mut child = Command::new(executable)
        .args(["--json", "--encoder", encoder, "--out"])
        .arg(scratch.path().join("out"))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(create(&stdout)?)
        .stderr(create(&stderr)?)
        .spawn()
        .map_err(ReportError::file(executable))?;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(ReportError::file(executable))? {
            break status;
        }
        if start.elapsed() > LIMIT {
            let _ = child.kill();
            let _ = child.wait();
            return Err(failed(format!("stopped after {} s", LIMIT.as_secs())));
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let time = start.elapsed();
    let read = |path: &PathBuf| std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let text = read(&stdout).map_err(ReportError::file(&stdout))?;
    let errors = read(&stderr).map_err(ReportError::file(&stderr))?;
    match text.lines().rev().find(|line| !line.trim().is_empty()) {
        Some(line) => Ok(Run { record: Record::from_json(line, &format!("output of {name}"))?, time }),
        None => Err(failed(format!("no report, {status}: {}", tail(&errors)))),
    }
}

/// Where the committed output of a listing lies.
pub fn expected_path(chapter_dir: &Path, name: &str, encoder: &str) -> PathBuf {
    let file = if encoder == "static" { format!("{name}.json") } else { format!("{name}.{encoder}.json") };
    chapter_dir.join("expected").join(file)
}

/// Runs every listing of the chapter in `chapter_dir`, with each of its encoders, and compares with `expected/`. Panics with
/// every reason found; prints a line for each variant that cannot run because MiniLM is not there.
///
/// # Panics
/// When a listing is not built, fails, makes fewer than two claims, has no committed output, or differs from it.
pub fn check_chapter(chapter_dir: &str) {
    let dir = Path::new(chapter_dir);
    let examples = match examples_dir() {
        Ok(examples) => examples,
        Err(error) => panic!("{error}"),
    };
    let root = dir.parent().and_then(Path::parent).unwrap_or(dir);
    let problems = match Chapter::load(dir) {
        Ok(chapter) => {
            let (work, skipped) = variants(&chapter, minilm_file(root).is_file());
            for name in skipped {
                // Straight to stderr: what `eprintln!` writes in a passing test is never seen.
                let _ = writeln!(
                    std::io::stderr(),
                    "skipped: {name} --encoder minilm ({MINILM_FILE} is absent; run scripts/fetch_models.sh)"
                );
            }
            chapter_problems(&chapter, &work, &examples)
        }
        Err(error) => vec![error.to_string()],
    };
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

/// The runs a chapter asks for (each listing, and each with MiniLM that has something to show with it), and the names of those
/// that are skipped because the model is not there.
fn variants(chapter: &Chapter, minilm: bool) -> (Vec<(&Entry, &'static str)>, Vec<&str>) {
    let (mut work, mut skipped) = (Vec::new(), Vec::new());
    for entry in &chapter.entries {
        work.push((entry, "static"));
        if entry.encoders.iter().any(|encoder| encoder == "minilm") {
            if minilm {
                work.push((entry, "minilm"));
            } else {
                skipped.push(entry.name.as_str());
            }
        }
    }
    (work, skipped)
}

fn chapter_problems(chapter: &Chapter, work: &[(&Entry, &str)], examples: &Path) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let problems = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                while let Some((entry, encoder)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let found = listing_problems(chapter, entry, encoder, examples);
                    let label = format!("{} {} ({encoder})", entry.number, entry.name);
                    eprintln!("{label}: {}", if found.is_empty() { "ok" } else { "FAILED" });
                    if let Ok(mut problems) = problems.lock() {
                        problems.extend(found.into_iter().map(|problem| format!("{label}: {problem}")));
                    }
                }
            });
        }
    });
    let mut problems = problems.into_inner().unwrap_or_default();
    problems.sort();
    problems
}

fn listing_problems(chapter: &Chapter, entry: &Entry, encoder: &str, examples: &Path) -> Vec<String> {
    let executable = examples.join(format!("{}{}", entry.name, std::env::consts::EXE_SUFFIX));
    let run = match run_listing(&executable, encoder, &[]) {
        Ok(run) => run,
        Err(error) => return vec![error.to_string()],
    };
    let mut problems: Vec<String> = run.record.problems.clone();
    for claim in run.record.claims.iter().filter(|claim| !claim.held) {
        problems.push(format!("claim failed: {}: {}; wanted {}", claim.sentence, claim.value, claim.bound));
    }
    if run.record.claims.len() < 2 {
        problems.push(format!("makes {} claims; two are the least", run.record.claims.len()));
    }
    let path = expected_path(&chapter.dir, &entry.name, encoder);
    let expected = std::fs::read_to_string(&path)
        .map_err(ReportError::file(&path))
        .and_then(|text| Record::from_json(&text, &path.display().to_string()));
    match expected {
        Ok(expected) => problems.extend(expected.differences(&run.record).into_iter().map(|difference| difference.0)),
        Err(error) => problems.push(format!("{error} (make it with `cargo book bless {}`)", entry.name)),
    }
    problems
}

/// The folder with the built examples, from the place of the running test (`target/<profile>/deps/<test>`).
fn examples_dir() -> Result<PathBuf, ReportError> {
    let executable = std::env::current_exe().map_err(ReportError::file("the running test"))?;
    Ok(executable.parent().and_then(Path::parent).unwrap_or(Path::new("target/debug")).join("examples"))
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.trim().lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    const GOOD: &str = r#"{"number":"1.1","name":"good","encoder":"static","tables":[],"charts":[],"claims":[
        {"claim":"a","held":true,"value":1.0,"within":0.1,"bound":"> 0"},{"claim":"b","held":true,"shown":"x","bound":"= x"}]}"#;

    /// A chapter with one listing, a shell script that prints `output`, and the committed output `expected`.
    fn problems(output: &str, expected: Option<&str>, minilm: bool) -> Vec<String> {
        let home = tempfile::tempdir().expect("temporary folder");
        let dir = home.path().join("ch01_x");
        std::fs::create_dir_all(dir.join("expected")).expect("folder");
        let toml = "[[listing]]\nnumber = \"1.1\"\nname = \"good\"\ntitle = \"T\"\nsection = \"S\"\npython = \"p.py\"\n\
                    kind = \"mock\"\nencoders = [\"static\", \"minilm\"]\n";
        std::fs::write(dir.join("listings.toml"), toml).expect("written");
        if let Some(expected) = expected {
            std::fs::write(dir.join("expected/good.json"), expected).expect("written");
        }
        std::fs::write(home.path().join("out.txt"), output.replace('\n', "")).expect("written");
        let script = home.path().join("good");
        let text = format!("#!/bin/sh\necho trouble >&2\ncat '{}'\n", home.path().join("out.txt").display());
        std::fs::write(&script, text).expect("written");
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("executable");
        let chapter = Chapter::load(&dir).expect("loads");
        let (work, skipped) = variants(&chapter, minilm);
        assert_eq!(skipped, if minilm { vec![] } else { vec!["good"] });
        chapter_problems(&chapter, &work, home.path())
    }

    #[test]
    fn a_listing_that_matches_passes() {
        assert_eq!(problems(GOOD, Some(GOOD), false), Vec::<String>::new());
    }

    #[test]
    fn whatever_is_wrong_is_said() {
        let one = |found: Vec<String>, part: &str| {
            assert!(found.iter().any(|problem| problem.contains(part)), "{part}: {found:?}");
        };
        one(problems(GOOD, None, false), "cargo book bless good");
        one(problems(&GOOD.replace("1.0", "1.2"), Some(GOOD), false), "expected 1 within 0.1, got 1.2");
        one(
            problems(&GOOD.replace("\"held\":true,\"value\"", "\"held\":false,\"value\""), Some(GOOD), false),
            "claim failed: a",
        );
        one(problems("", Some(GOOD), false), "trouble");
        one(problems("no JSON", Some(GOOD), false), "output of good");
        one(problems(GOOD, Some("{"), false), "good.json");
        one(problems(GOOD, Some(GOOD), true), "good.minilm.json");
        let lone = GOOD.split(",{\"claim\":\"b\"").next().map(|head| format!("{head}]}}")).expect("two claims");
        one(problems(&lone, Some(&lone), false), "makes 1 claims");
    }

    #[test]
    fn a_listing_that_is_not_built_is_said_to_be_so() {
        let error = run_listing(Path::new("/nowhere/thing"), "static", &[]).expect_err("absent").to_string();
        assert!(error.contains("not built"), "{error}");
    }
}
