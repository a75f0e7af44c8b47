//! The run of one listing.

use std::cell::Cell as Flag;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, ValueEnum};

use crate::catalogue::{Chapter, Entry};
use crate::cell::seconds_text;
use crate::chart::Plot;
use crate::record::{ClaimRecord, Machine, Record, TableRecord};
use crate::{Claim, Progress, ReportError, Table};

/// Columns of the output.
const WIDTH: u16 = 96;

/// The flags every listing takes.
#[derive(Parser, Debug, Clone, Default)]
struct Flags {
    /// Seed of every random choice (default: the listing's own)
    #[arg(long)]
    seed: Option<u64>,
    /// Run at full size instead of the quick one
    #[arg(long)]
    full: bool,
    /// Where tensors live; `cuda` and `metal` need a build with that feature
    #[arg(long, value_enum, default_value_t)]
    device: DeviceChoice,
    /// Sentence encoder: the bundled static one, or MiniLM (see scripts/fetch_models.sh)
    #[arg(long, value_enum, default_value_t)]
    encoder: EncoderChoice,
    /// Who does the work: this process, a Milvus server (see scripts/milvus.sh), or processes that mpirun starts
    #[arg(long, value_enum, default_value_t)]
    backend: BackendChoice,
    /// Go on as an HTTP server at this address when the listing is done, where it has something to serve
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, default_missing_value = "127.0.0.1:8080")]
    serve: Option<SocketAddr>,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
    /// Folder for charts and other files (default: target/figures/<name>)
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Rewrite the committed output under expected/
    #[arg(long, conflicts_with_all = ["seed", "full", "device", "backend", "serve"])]
    bless: bool,
}

/// The sentence encoder asked for with `--encoder`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum EncoderChoice {
    /// The bundled 256-dimensional encoder.
    #[default]
    Static,
    /// all-MiniLM-L6-v2, 384-dimensional.
    #[value(name = "minilm")]
    MiniLm,
}

impl EncoderChoice {
    /// `static` or `minilm`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::MiniLm => "minilm",
        }
    }
}

/// Who does the work, asked for with `--backend`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum BackendChoice {
    /// This process.
    #[default]
    Own,
    /// A Milvus server, in a build with the feature `milvus`.
    Milvus,
    /// Processes that `mpirun` starts, in a build with the feature `mpi`.
    Mpi,
}

/// The device asked for with `--device`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DeviceChoice {
    /// The processor.
    #[default]
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
    /// An Apple GPU.
    Metal,
}

impl DeviceChoice {
    /// `cpu`, `cuda` or `metal`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Metal => "metal",
        }
    }
}

/// Which flags the listing has asked about. One that is set and never asked about gets a note: it changed nothing.
#[derive(Debug, Default)]
struct Asked {
    seed: Flag<bool>,
    size: Flag<bool>,
    device: Flag<bool>,
    encoder: Flag<bool>,
    backend: Flag<bool>,
    serve: Flag<bool>,
}

/// The run of one listing: takes the flags, prints what is shown, collects the claims.
#[must_use = "end the listing with `page.finish()`"]
pub struct Listing {
    entry: Entry,
    dir: PathBuf,
    flags: Flags,
    asked: Asked,
    record: Record,
    stdout: Box<dyn Write>,
}

impl Listing {
    /// Opens the listing `name` of the chapter in `chapter_dir`, whose `listings.toml` reads `catalogue`, with the
    /// process's command line. Use the [`crate::listing!`] macro. Exits with code 2 when the command line or the catalogue is
    /// at fault.
    pub fn start(name: &'static str, chapter_dir: &str, catalogue: &str) -> Self {
        let arguments: Vec<_> = std::env::args_os().collect();
        match Self::open(name, Path::new(chapter_dir), catalogue, arguments, Box::new(io::stdout())) {
            Ok(listing) => listing,
            Err(Refusal::Usage(error)) => error.exit(),
            Err(Refusal::Catalogue(error)) => {
                eprintln!("Error: {error}");
                std::process::exit(2)
            }
        }
    }

    fn open(
        name: &'static str,
        dir: &Path,
        catalogue: &str,
        arguments: Vec<std::ffi::OsString>,
        stdout: Box<dyn Write>,
    ) -> Result<Self, Refusal> {
        let chapter = Chapter::parse(dir, catalogue).map_err(Refusal::Catalogue)?;
        let entry = chapter.entry(name).map_err(Refusal::Catalogue)?.clone();
        let command = Flags::command().name(name).about(format!("Listing {}: {}", entry.number, entry.title));
        let flags = command
            .try_get_matches_from(arguments)
            .and_then(|matches| Flags::from_arg_matches(&matches))
            .map_err(Refusal::Usage)?;
        let record = Record {
            number: entry.number.to_string(),
            name: entry.name.clone(),
            encoder: flags.encoder.name().to_string(),
            seed: flags.seed,
            full: flags.full,
            machine: Some(Machine::here()),
            ..Record::default()
        };
        let mut listing = Self { entry, dir: dir.to_path_buf(), flags, asked: Asked::default(), record, stdout };
        let heading = format!("Listing {}: {}", listing.entry.number, listing.entry.title);
        listing.print(&format!("{heading}\n{}\n\n", "=".repeat(heading.chars().count().min(WIDTH.into()))));
        Ok(listing)
    }

    /// The seed of `--seed`, or 42.
    pub fn seed(&self) -> u64 {
        self.seed_or(42)
    }

    /// The seed of `--seed`, or `default`.
    pub fn seed_or(&self, default: u64) -> u64 {
        self.asked.seed.set(true);
        self.flags.seed.unwrap_or(default)
    }

    /// Whether to run at full size.
    pub fn full(&self) -> bool {
        self.asked.size.set(true);
        self.flags.full
    }

    /// The size of the run: `quick` by default, `full` with `--full`.
    pub fn size<T>(&self, quick: T, full: T) -> T {
        if self.full() { full } else { quick }
    }

    /// The sentence encoder asked for.
    pub fn encoder(&self) -> EncoderChoice {
        self.asked.encoder.set(true);
        self.flags.encoder
    }

    /// The device asked for.
    pub fn device(&self) -> DeviceChoice {
        self.asked.device.set(true);
        self.flags.device
    }

    /// True when `--backend` names `backend`. A backend that no part of a listing asks about is said to change nothing.
    pub fn runs_on(&self, backend: BackendChoice) -> bool {
        let asked = self.flags.backend == backend;
        if asked {
            self.asked.backend.set(true);
        }
        asked
    }

    /// The address to serve at after [`finish`](Self::finish), if asked for.
    pub fn serve(&self) -> Option<SocketAddr> {
        self.asked.serve.set(true);
        self.flags.serve
    }

    /// The folder for charts and other files of this run, created when missing.
    pub fn out_dir(&self) -> Result<PathBuf, ReportError> {
        let dir = self.flags.out.clone().unwrap_or_else(|| target_dir().join("figures").join(&self.entry.name));
        std::fs::create_dir_all(&dir).map_err(ReportError::file(&dir))?;
        Ok(dir)
    }

    /// Prints prose, wrapped. Blank lines separate paragraphs; a line that starts with a space is kept as it is.
    pub fn text(&mut self, text: impl AsRef<str>) {
        let wrapped = wrap(text.as_ref(), WIDTH.into());
        self.print(&format!("{wrapped}\n"));
    }

    /// Prints a heading.
    pub fn section(&mut self, title: impl AsRef<str>) {
        let title = title.as_ref();
        self.print(&format!("{title}\n{}\n\n", "-".repeat(title.chars().count().min(WIDTH.into()))));
    }

    /// Shows a table under its title.
    pub fn table(&mut self, title: impl Into<String>, table: &Table) {
        let title = title.into();
        if let Some(problem) = table.problem() {
            self.record.problems.push(format!("table \"{title}\" {problem}"));
        }
        self.print(&format!("{title}\n{}\n", table.render(WIDTH)));
        self.record.tables.push(TableRecord { title, table: table.clone() });
    }

    /// Draws a chart into [`Listing::out_dir`] and prints where it is; `file` ends in `.svg` or `.png`.
    pub fn chart(&mut self, file: &str, chart: &impl Plot) -> Result<PathBuf, ReportError> {
        let plain = Path::new(file).file_name().is_some_and(|name| name == file);
        if !plain {
            return Err(ReportError::ChartFile { file: file.to_string() });
        }
        let path = self.out_dir()?.join(file);
        chart.save(&path)?;
        let here = std::env::current_dir().unwrap_or_default();
        let shown = path.strip_prefix(&here).unwrap_or(&path).display().to_string();
        self.print(&format!("Chart \"{}\": {shown}\n\n", chart.title()));
        self.record.charts.push(file.to_string());
        Ok(path)
    }

    /// Does the work, and shows how long it took among the timings at the end.
    pub fn timed<T>(&mut self, label: impl Into<String>, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let out = work();
        self.record.timings.push((label.into(), start.elapsed().as_secs_f64()));
        out
    }

    /// A progress bar on stderr for `total` steps; silent when stderr is no terminal.
    pub fn progress(&self, label: &str, total: usize) -> Progress {
        Progress::new(label, total)
    }

    /// Says that a part is left out, why, and what to do to see it.
    pub fn skip(&mut self, what: impl Into<String>, why: impl Into<String>) {
        let (what, why) = (what.into(), why.into());
        self.text(format!("Skipped: {what} ({why})."));
        self.record.skipped.push((what, why));
    }

    /// Makes a claim. The returned [`Claim`] wants its bound; without one the listing fails.
    pub fn claim(&mut self, sentence: impl AsRef<str>) -> Claim<'_> {
        let at = self.record.claims.len();
        self.record.claims.push(ClaimRecord::unstated(sentence.as_ref()));
        Claim::new(&mut self.record.claims[at])
    }

    /// Prints timings and claims (or the JSON object), writes the committed output with `--bless`, and is an error when a
    /// claim failed, none was made, or a table was misshapen.
    pub fn finish(mut self) -> anyhow::Result<()> {
        self.note_unused_flags();
        if self.flags.json {
            let json = self.record.to_json();
            let _ = writeln!(self.stdout, "{json}");
        } else {
            let summary = self.summary();
            self.print(&summary);
        }
        let _ = self.stdout.flush();
        let (held, total) = (self.record.held(), self.record.claims.len());
        for problem in &self.record.problems {
            eprintln!("Mistake in the listing: {problem}");
        }
        anyhow::ensure!(total > 0, "the listing claims nothing");
        anyhow::ensure!(held == total, "{} of {total} claims failed", total - held);
        anyhow::ensure!(self.record.problems.is_empty(), "the listing misuses its report");
        if self.flags.bless {
            let path = crate::testing::expected_path(&self.dir, &self.entry.name, self.flags.encoder.name());
            let folder = self.dir.join("expected");
            std::fs::create_dir_all(&folder).map_err(ReportError::file(&folder))?;
            std::fs::write(&path, self.record.to_expected()).map_err(ReportError::file(&path))?;
            self.print(&format!("Wrote {}\n", path.display()));
        }
        Ok(())
    }

    fn summary(&self) -> String {
        let mut out = String::new();
        if !self.record.timings.is_empty() {
            let timings: Vec<String> = self
                .record
                .timings
                .iter()
                .map(|(label, seconds)| format!("{label} {}", seconds_text(*seconds)))
                .collect();
            out += &wrap(&format!("Timings: {}.", timings.join(", ")), WIDTH.into());
            out.push('\n');
        }
        out += "Claims\n";
        for claim in &self.record.claims {
            let mark = if claim.held { "held  " } else { "FAILED" };
            let bound = match (claim.held, claim.bound.as_str()) {
                (_, "") => String::new(),
                (true, bound) => format!(" ({bound})"),
                (false, bound) => format!("; wanted {bound}"),
            };
            let line = format!("{mark}  {}: {}{bound}", claim.sentence, claim.value);
            out += &hang(&line, WIDTH.into(), 10, "  ");
        }
        let (held, total) = (self.record.held(), self.record.claims.len());
        let verdict = match (held, total) {
            (0, 0) => "No claim was made.".to_string(),
            (1, 1) => "1 claim, held.".to_string(),
            _ if held == total => format!("{total} claims, all held."),
            _ => format!("{total} claims, {} failed.", total - held),
        };
        out += &verdict;
        out.push('\n');
        out
    }

    fn note_unused_flags(&self) {
        let unused = [
            (self.flags.seed.is_some() && !self.asked.seed.get(), "--seed", "nothing in it is random"),
            (self.flags.full && !self.asked.size.get(), "--full", "it has one size"),
            (self.flags.serve.is_some() && !self.asked.serve.get(), "--serve", "it has nothing to serve"),
            (
                self.flags.device != DeviceChoice::Cpu && !self.asked.device.get(),
                "--device",
                "it runs on the processor",
            ),
            (
                self.flags.encoder != EncoderChoice::Static && !self.asked.encoder.get(),
                "--encoder",
                "it encodes no text",
            ),
            (
                self.flags.backend != BackendChoice::Own && !self.asked.backend.get(),
                "--backend",
                "it has no part that this backend could do",
            ),
        ];
        for (_, flag, reason) in unused.iter().filter(|(unused, ..)| *unused) {
            eprintln!("Note: {flag} changes nothing in this listing: {reason}.");
        }
    }

    fn print(&mut self, text: &str) {
        if !self.flags.json {
            // A closed pipe (`| head`) is no reason to fail.
            let _ = self.stdout.write_all(text.as_bytes());
            let _ = self.stdout.flush();
        }
    }
}

impl std::fmt::Debug for Listing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listing").field("flags", &self.flags).field("record", &self.record).finish_non_exhaustive()
    }
}

#[derive(Debug)]
enum Refusal {
    Usage(clap::Error),
    Catalogue(ReportError),
}

/// The build's target folder, from the place of the running example (`target/<profile>/examples/<name>`).
fn target_dir() -> PathBuf {
    std::env::current_exe()
        .ok()
        .and_then(|exe| {
            let examples = exe.parent()?;
            (examples.file_name()? == "examples").then(|| examples.parent()?.parent().map(Path::to_path_buf))?
        })
        .unwrap_or_else(|| PathBuf::from("target"))
}

/// Wraps each paragraph at `width` characters and ends it with a newline.
fn wrap(text: &str, width: usize) -> String {
    let mut out = String::new();
    let mut line = String::new();
    for source in text.lines() {
        if source.trim().is_empty() || source.starts_with(' ') {
            flush_line(&mut out, &mut line);
            out += source.trim_end();
            out.push('\n');
            continue;
        }
        for word in source.split_whitespace() {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
                flush_line(&mut out, &mut line);
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line += word;
        }
    }
    flush_line(&mut out, &mut line);
    out
}

fn flush_line(out: &mut String, line: &mut String) {
    if !line.is_empty() {
        *out += line;
        out.push('\n');
        line.clear();
    }
}

/// Wraps one paragraph with a first-line prefix, its further lines indented by `indent`.
fn hang(text: &str, width: usize, indent: usize, prefix: &str) -> String {
    let mark_end = text.char_indices().nth(indent - prefix.len()).map_or(text.len(), |(at, _)| at);
    let (mark, rest) = text.split_at(mark_end);
    let body = wrap(rest, width - indent);
    let mut out = String::new();
    for (i, line) in body.lines().enumerate() {
        if i == 0 {
            out += prefix;
            out += mark;
        } else {
            out.extend(std::iter::repeat_n(' ', indent));
        }
        out += line;
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Chart, num};
    use std::cell::RefCell;
    use std::rc::Rc;

    const CATALOGUE: &str = "[[listing]]\nnumber = \"1.2\"\nname = \"keyword_search\"\ntitle = \"Terms\"\nsection = \"S\"\n\
                             python = \"k.py\"\nkind = \"runnable\"\n";

    #[derive(Clone, Default)]
    struct Screen(Rc<RefCell<Vec<u8>>>);

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Screen {
        fn text(&self) -> String {
            String::from_utf8(self.0.borrow().clone()).expect("UTF-8")
        }
    }

    fn open(dir: &Path, arguments: &[&str]) -> (Result<Listing, Refusal>, Screen) {
        let screen = Screen::default();
        let arguments = std::iter::once(&"keyword_search").chain(arguments).map(Into::into).collect();
        let dir = dir.join("ch01_foundations");
        (Listing::open("keyword_search", &dir, CATALOGUE, arguments, Box::new(screen.clone())), screen)
    }

    fn page(arguments: &[&str]) -> (Listing, Screen) {
        let (listing, screen) = open(Path::new("."), arguments);
        (listing.expect("opens"), screen)
    }

    #[test]
    fn flags_reach_the_listing() {
        let (plain, _) = page(&[]);
        assert_eq!((plain.seed(), plain.seed_or(7), plain.full(), plain.size(1, 2)), (42, 7, false, 1));
        assert_eq!((plain.encoder(), plain.device()), (EncoderChoice::Static, DeviceChoice::Cpu));
        assert!(plain.runs_on(BackendChoice::Own) && !plain.runs_on(BackendChoice::Milvus));
        assert_eq!(plain.serve(), None);
        assert_eq!(page(&["--serve"]).0.serve(), Some(([127, 0, 0, 1], 8080).into()));
        assert_eq!(page(&["--serve", "0.0.0.0:80"]).0.serve(), Some(([0, 0, 0, 0], 80).into()));
        let flags = "--seed 9 --full --encoder minilm --device cuda --backend milvus";
        let (set, _) = page(&flags.split(' ').collect::<Vec<_>>());
        assert_eq!((set.seed(), set.seed_or(7), set.size(1, 2)), (9, 9, 2));
        assert!(!set.runs_on(BackendChoice::Mpi) && !set.asked.backend.get());
        assert!(set.runs_on(BackendChoice::Milvus) && set.asked.backend.get());
        assert_eq!((set.encoder().name(), set.device().name()), ("minilm", "cuda"));
    }

    #[test]
    fn a_wrong_command_line_is_refused() {
        for arguments in [
            &["--sed", "1"][..],
            &["--seed", "x"],
            &["--encoder", "bert"],
            &["--bless", "--seed", "1"],
            &["--bless", "--backend", "milvus"],
            &["--bless", "--serve"],
            &["--serve", "8080"],
        ] {
            assert!(matches!(open(Path::new("."), arguments).0, Err(Refusal::Usage(_))), "{arguments:?}");
        }
        let screen = Box::new(Screen::default());
        let unknown = Listing::open("other", Path::new("ch01_x"), CATALOGUE, vec!["other".into()], screen);
        assert!(matches!(unknown, Err(Refusal::Catalogue(ReportError::NotInCatalogue { .. }))));
    }

    #[test]
    fn a_good_page_prints_everything_and_finishes() {
        let (mut page, screen) = page(&[]);
        page.text("word ".repeat(60));
        page.section("Part two");
        let mut table = Table::new(["query", "recall"]);
        table.row(["laptop".into(), num(0.5, 3)]);
        page.table("Hits by query", &table);
        assert_eq!(page.timed("sum", || 1 + 1), 2);
        page.skip("word vectors", "needs MiniLM");
        page.claim("one is less than two").less(1, 2);
        page.claim("each is even").all([2, 4], |n| n % 2 == 0);
        page.finish().expect("all claims hold");
        let text = screen.text();
        for part in [
            "Listing 1.2: Terms",
            "Part two\n--------",
            "laptop",
            "Timings: sum ",
            "Skipped: word vectors (needs MiniLM).",
            "held    one is less than two: 1 (< 2)",
            "2 claims, all held.",
        ] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= 96), "{text}");
    }

    #[test]
    fn a_page_that_proves_nothing_fails() {
        let failure = |claims: fn(&mut Listing)| {
            let (mut page, screen) = page(&[]);
            claims(&mut page);
            (page.finish().map_err(|error| error.to_string()), screen.text())
        };
        let (result, _) = failure(|_| ());
        assert_eq!(result, Err("the listing claims nothing".to_string()));
        let (result, text) = failure(|page| {
            page.claim("true").equals(1, 1);
            page.claim("wrong").at_least(0.25, 0.5);
        });
        assert_eq!(result, Err("1 of 2 claims failed".to_string()));
        assert!(text.contains("FAILED  wrong: 0.25; wanted >= 0.5"), "{text}");
        let (result, text) = failure(|page| drop(page.claim("never bounded")));
        assert!(result.is_err() && text.contains("no bound was stated"), "{text}");
        let (result, _) = failure(|page| {
            page.claim("true").equals(1, 1);
            let mut ragged = Table::new(["a", "b"]);
            ragged.row([1.into()]);
            page.table("ragged", &ragged);
        });
        assert!(result.is_err());
    }

    #[test]
    fn json_is_one_line_and_the_only_output() {
        let (mut page, screen) = page(&["--json", "--seed", "3"]);
        page.text("prose");
        page.claim("one is one").equals(1, 1);
        page.finish().expect("holds");
        let text = screen.text();
        assert_eq!(text.lines().count(), 1);
        let record = Record::from_json(&text, "stdout").expect("valid");
        assert_eq!((record.number.as_str(), record.seed, record.claims.len()), ("1.2", Some(3), 1));
    }

    #[test]
    fn bless_writes_the_expected_file_only_when_the_claims_hold() {
        let home = tempfile::tempdir().expect("temporary folder");
        let expected = home.path().join("ch01_foundations/expected");
        let (listing, _) = open(home.path(), &["--bless"]);
        let mut page = listing.expect("opens");
        page.claim("wrong").equals(1, 2);
        assert!(page.finish().is_err() && !expected.exists());
        for (encoder, file) in [("static", "keyword_search.json"), ("minilm", "keyword_search.minilm.json")] {
            let (listing, _) = open(home.path(), &["--bless", "--encoder", encoder]);
            let mut page = listing.expect("opens");
            page.claim("right").equals(1, 1);
            page.finish().expect("holds");
            let text = std::fs::read_to_string(expected.join(file)).expect("written");
            assert_eq!(Record::from_json(&text, file).expect("valid").encoder, encoder);
        }
    }

    #[test]
    fn charts_go_to_the_out_folder_and_nowhere_else() {
        let home = tempfile::tempdir().expect("temporary folder");
        let out = home.path().display().to_string();
        let (mut page, screen) = page(&["--out", &out]);
        let chart = Chart::lines("Recall", "k", "recall").series("exact", vec![(1, 0.5), (2, 0.75)]);
        let path = page.chart("recall.svg", &chart).expect("drawn");
        assert!(path.starts_with(home.path()) && path.is_file() && screen.text().contains("recall.svg"));
        for file in ["../recall.svg", "a/b.svg", "recall.gif", "recall"] {
            assert!(matches!(page.chart(file, &chart), Err(ReportError::ChartFile { .. })), "{file}");
        }
    }
}
