//! The `cargo book` command: list, run, show, check, bless, doctor, completions.

#![forbid(unsafe_code)]

mod build;
mod check;
mod doctor;
mod find;

use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result};
use clap::{CommandFactory as _, Parser, Subcommand};
use eas_report::Record;
use eas_report::testing::{MINILM_FILE, minilm_file};

use crate::find::{Found, Library};

/// The listings of "Embeddings at Scale" in Rust.
///
/// A listing is named by its name (keyword_search), its number (1.2) or its Python file (keyword_search.py).
#[derive(Parser, Debug)]
#[command(name = "cargo-book", bin_name = "cargo book", version)]
struct Arguments {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// List the listings that are here
    List {
        /// Only this chapter
        #[arg(long, value_name = "N")]
        chapter: Option<u32>,
        /// Only listings that mention the word (name, title, section, Python file, data, modules)
        #[arg(long, value_name = "WORD")]
        search: Option<String>,
    },
    /// Run a listing, a chapter (ch01) or all of them
    Run {
        /// Name, number, Python file, chNN or all
        what: String,
        /// Build with optimizations for speed rather than for compile time
        #[arg(long)]
        release: bool,
        /// Flags for the listing, such as --seed 7 or --full
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "FLAGS")]
        flags: Vec<String>,
    },
    /// Show a listing's card: what it shows, where its parts are, what it claims
    Show {
        /// Name, number or Python file
        what: String,
    },
    /// Run listings and print how many claims held
    Check {
        /// Name, number, Python file, chNN or all
        #[arg(default_value = "all")]
        what: String,
        /// End with one line of JSON
        #[arg(long)]
        json: bool,
    },
    /// Rewrite the committed output under expected/
    Bless {
        /// Name, number, Python file, chNN or all
        what: String,
    },
    /// Say what works on this machine and what to run for the rest
    Doctor,
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    match act(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // A closed pipe (`| head`) ends the output early and is no error.
            if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
                return ExitCode::SUCCESS;
            }
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Does it; false when it was done and the answer is bad.
fn act(arguments: Arguments) -> Result<bool> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let root = root.canonicalize().with_context(|| format!("the workspace is not at {} any more", root.display()))?;
    let mut out = io::stdout().lock();
    if let Action::Completions { shell } = arguments.command {
        completions(shell, &mut out)?;
        return Ok(true);
    }
    let library = Library::load(&root)?;
    match arguments.command {
        Action::List { chapter, search } => list(&library, chapter, search.as_deref(), &mut out).map(|()| true),
        Action::Show { what } => show(&library, &library.one(&what)?, &mut out).map(|()| true),
        Action::Check { what, json } => {
            let total = check::check(&root, &library.select(&what)?, json, &mut out)?;
            Ok(total.failed.is_empty())
        }
        Action::Run { what, release, mut flags } => {
            // `cargo book run NAME --release` puts the flag among the listing's own, which know no such flag.
            let release_after = flags.iter().any(|flag| flag == "--release");
            flags.retain(|flag| flag != "--release");
            run(&root, &library.select(&what)?, release || release_after, &flags, Stdio::inherit)
        }
        Action::Bless { what } => bless(&root, &library.select(&what)?),
        Action::Doctor => doctor::doctor(&library, &mut out),
        Action::Completions { .. } => Ok(true),
    }
}

fn list(library: &Library, chapter: Option<u32>, search: Option<&str>, out: &mut impl Write) -> Result<()> {
    let mentions = |found: &Found<'_>| {
        let Some(word) = search else { return true };
        let entry = found.entry;
        let mut fields = vec![&entry.name, &entry.title, &entry.section, &entry.python];
        fields.extend(entry.data.iter().chain(&entry.modules));
        fields.iter().any(|field| field.to_lowercase().contains(&word.to_lowercase()))
    };
    let all = library.all();
    let shown: Vec<&Found<'_>> = all
        .iter()
        .filter(|found| chapter.is_none_or(|chapter| found.chapter.number() == chapter) && mentions(found))
        .collect();
    let width = |text: fn(&Found<'_>) -> usize| shown.iter().map(|found| text(found)).max().unwrap_or(0);
    let (names, files) = (width(|found| found.entry.name.len()), width(|found| found.entry.python.len()));
    for found in &shown {
        let entry = found.entry;
        let number = entry.number.to_string();
        writeln!(out, "{number:>6}  {:<names$}  {:<files$}  {}", entry.name, entry.python, entry.title)?;
    }
    let planned = library
        .planned
        .iter()
        .filter(|line| {
            chapter.is_none_or(|chapter| line.number.split('.').next() == Some(chapter.to_string().as_str()))
        })
        .count();
    match (search, shown.len()) {
        (Some(word), n) => writeln!(out, "{n} listings mention \"{word}\"")?,
        (None, n) => writeln!(out, "{n} listings here of {planned} in the book")?,
    }
    Ok(())
}

fn show(library: &Library, found: &Found<'_>, out: &mut impl Write) -> Result<()> {
    let entry = found.entry;
    let inside = |path: &Path| path.strip_prefix(&library.root).unwrap_or(path).display().to_string();
    let source = found.source();
    let text = std::fs::read_to_string(&source).with_context(|| format!("cannot read {}", source.display()))?;
    writeln!(out, "Listing {}: {}\n", entry.number, entry.title)?;
    let comment = text.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim);
    for line in comment.filter(|line| !line.is_empty() && !line.starts_with("cargo ")) {
        writeln!(out, "  {line}")?;
    }
    writeln!(out)?;
    writeln!(out, "Section   {}", entry.section)?;
    writeln!(out, "Python    {} ({})", entry.python, entry.kind)?;
    writeln!(out, "Source    {} ({} lines)", inside(&source), text.lines().count())?;
    for module in &entry.modules {
        let place = eas_report::catalogue::module_file(&library.root, module)
            .map_or(String::new(), |file| format!(" in {}", inside(&file)));
        writeln!(out, "Module    {module}{place}")?;
    }
    if !entry.data.is_empty() {
        writeln!(out, "Data      {}", entry.data.join(", "))?;
    }
    if !entry.encoders.is_empty() {
        writeln!(out, "Encoders  {}", entry.encoders.join(", "))?;
    }
    let path = found.expected("static");
    match std::fs::read_to_string(&path) {
        Err(_) => writeln!(out, "Expected  none yet: cargo book bless {}", entry.name)?,
        Ok(text) => {
            writeln!(out, "Expected  {}\n\nIt claims", inside(&path))?;
            for claim in Record::from_json(&text, &inside(&path))?.claims {
                writeln!(out, "  - {}: {} ({})", claim.sentence, claim.value, claim.bound)?;
            }
        }
    }
    writeln!(out, "\nRun it with\n  cargo run --release --example {}", entry.name)?;
    Ok(())
}

/// Builds the listings and runs them in turn; false when one failed.
fn run(
    root: &Path,
    listings: &[Found<'_>],
    release: bool,
    flags: &[String],
    stdout: impl Fn() -> Stdio,
) -> Result<bool> {
    let executables = build::build(root, listings, release)?;
    let mut good = true;
    for (i, found) in listings.iter().enumerate() {
        if i > 0 {
            println!();
        }
        let executable = &executables[&found.entry.name];
        let status = Command::new(executable).args(flags).stdout(stdout()).status();
        let status = status.with_context(|| format!("cannot start {}", executable.display()))?;
        if !status.success() && listings.len() > 1 {
            eprintln!("{} {} failed: {status}", found.entry.number, found.entry.name);
        }
        good &= status.success();
    }
    Ok(good)
}

/// Rewrites the committed outputs with the profile that the tests use.
fn bless(root: &Path, listings: &[Found<'_>]) -> Result<bool> {
    let flags = |encoder: &str| ["--bless", "--json", "--encoder", encoder].map(str::to_string);
    let mut good = run(root, listings, false, &flags("static"), Stdio::null)?;
    let both: Vec<Found<'_>> = listings
        .iter()
        .filter(|found| found.entry.encoders.iter().any(|encoder| encoder == "minilm"))
        .copied()
        .collect();
    if both.is_empty() {
        return Ok(good);
    }
    if minilm_file(root).is_file() {
        good &= run(root, &both, false, &flags("minilm"), Stdio::null)?;
    } else {
        let names: Vec<&str> = both.iter().map(|found| found.entry.name.as_str()).collect();
        eprintln!(
            "Not blessed with --encoder minilm ({MINILM_FILE} is absent; scripts/fetch_models.sh gets it): {}",
            names.join(", ")
        );
    }
    Ok(good)
}

/// In bash, `cargo` completes itself, so its function has to hand `cargo book …` over.
const BASH_BRIDGE: &str = r#"
_cargo_with_book() {
    if [[ ${COMP_WORDS[1]} == book && $COMP_CWORD -ge 2 ]]; then
        COMP_WORDS=(cargo-book "${COMP_WORDS[@]:2}")
        COMP_CWORD=$((COMP_CWORD - 1))
        _cargo__book cargo-book "$2" "${COMP_WORDS[COMP_CWORD-1]}"
    elif declare -F _cargo >/dev/null; then
        _cargo "$@"
    fi
}
complete -F _cargo_with_book -o bashdefault -o default cargo
"#;

fn completions(shell: clap_complete::Shell, out: &mut impl Write) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command().bin_name("cargo-book"), "cargo-book", &mut script);
    out.write_all(&script)?;
    if shell == clap_complete::Shell::Bash {
        out.write_all(BASH_BRIDGE.as_bytes())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn listing_flags_follow_the_name() {
        let parsed = Arguments::parse_from(["cargo book", "run", "1.2", "--seed", "7", "--release", "--full"]);
        let Action::Run { what, release, flags } = parsed.command else { panic!("not run") };
        assert_eq!((what.as_str(), release, flags.len()), ("1.2", false, 4));
        let parsed = Arguments::parse_from(["cargo book", "run", "--release", "all"]);
        let Action::Run { release, flags, .. } = parsed.command else { panic!("not run") };
        assert!(release && flags.is_empty());
    }

    #[test]
    fn list_filters_by_chapter_and_word() {
        let library = find::tests::library();
        let listed = |chapter, search| {
            let mut out = Vec::new();
            list(&library, chapter, search, &mut out).expect("written");
            String::from_utf8(out).expect("UTF-8")
        };
        assert_eq!(listed(None, None).lines().count(), 6);
        assert_eq!(listed(Some(2), None).lines().count(), 3);
        let words = listed(None, Some("WORD2vec"));
        assert!(
            words.contains("1.5  word2vec_analogies") && words.ends_with("1 listings mention \"WORD2vec\"\n"),
            "{words}"
        );
        assert!(listed(Some(5), None).contains("0 listings here of 1 in the book"));
    }
}
