//! Every chapter that is here is whole: each line of the book's catalogue has its example, its entry in `listings.toml`, its
//! row in the README and its committed output, and nothing else lies around.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use eas_report::Record;
use eas_report::catalogue::{Chapter, Entry, chapters, module_file};
use eas_report::testing::expected_path;

/// Chapters whose listings are still being added. What is there must be whole; what is missing is printed, not refused, and the
/// workspace's README counts them when they are done.
const IN_PROGRESS: [&str; 0] = [];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A line of `data/catalogue.tsv`, as the entry's fields: number, name, Python file, title.
type Line = [String; 4];

fn catalogue() -> BTreeMap<String, Vec<Line>> {
    let text = std::fs::read_to_string(root().join("data/catalogue.tsv")).expect("data/catalogue.tsv");
    let mut chapters: BTreeMap<String, Vec<Line>> = BTreeMap::new();
    for line in text.lines().skip(1) {
        let fields: Vec<String> = line.split('\t').map(str::to_string).collect();
        let [chapter, rest @ ..] = fields.as_slice() else { panic!("empty line") };
        let rest: Line = rest.to_vec().try_into().unwrap_or_else(|_| panic!("not five fields: {line}"));
        chapters.entry(chapter.clone()).or_default().push(rest);
    }
    chapters
}

fn here() -> Vec<Chapter> {
    chapters(&root()).expect("every listings.toml is valid")
}

fn line(entry: &Entry) -> Line {
    [entry.number.to_string(), entry.name.clone(), entry.python.clone(), entry.title.clone()]
}

/// Names of the files with this ending in a folder, without the ending; none when there is no folder.
fn stems(folder: &Path, ending: &str) -> BTreeSet<String> {
    let Ok(items) = std::fs::read_dir(folder) else {
        return BTreeSet::new();
    };
    items
        .map(|item| item.expect("readable").file_name().to_string_lossy().into_owned())
        .filter_map(|name| name.strip_suffix(ending).map(str::to_string))
        .collect()
}

#[test]
fn the_catalogue_is_the_books() {
    let catalogue = catalogue();
    assert_eq!(catalogue.len(), 29);
    assert_eq!(catalogue.values().map(Vec::len).sum::<usize>(), 253);
    let names: BTreeSet<&String> = catalogue.values().flatten().map(|line| &line[1]).collect();
    assert_eq!(names.len(), 253, "names are unique");
}

#[test]
fn every_listing_of_a_present_chapter_is_there() {
    let catalogue = catalogue();
    let chapters = here();
    assert!(!chapters.is_empty());
    for chapter in &chapters {
        let wanted =
            catalogue.get(&chapter.name).unwrap_or_else(|| panic!("{} is no chapter of the book", chapter.name));
        let found: Vec<Line> = chapter.entries.iter().map(line).collect();
        for entry in &found {
            assert!(wanted.contains(entry), "{}: not a line of data/catalogue.tsv: {entry:?}", chapter.name);
        }
        let missing: Vec<&Line> = wanted.iter().filter(|line| !found.contains(line)).collect();
        if IN_PROGRESS.contains(&chapter.name.as_str()) {
            for line in missing {
                let _ = writeln!(std::io::stderr(), "in progress: {} lacks {} {}", chapter.name, line[0], line[1]);
            }
        } else {
            assert!(missing.is_empty(), "{} lacks {missing:?}", chapter.name);
        }
    }
}

#[test]
fn every_listing_has_its_parts() {
    let mut problems = Vec::new();
    for chapter in here() {
        let readme = std::fs::read_to_string(chapter.dir.join("README.md")).unwrap_or_default();
        for entry in &chapter.entries {
            let (number, name) = (entry.number, &entry.name);
            let mut problem = |text: String| problems.push(format!("{number} {name}: {text}"));
            let source = chapter.dir.join("examples").join(format!("{name}.rs"));
            match std::fs::read_to_string(&source) {
                Err(error) => problem(format!("{}: {error}", source.display())),
                Ok(text) => {
                    if !text.starts_with(&format!("//! Listing {number}: ")) {
                        problem(format!("the source does not begin with \"//! Listing {number}: \""));
                    }
                    if !text.contains("eas_report::listing!()") {
                        problem("the source does not open eas_report::listing!()".to_string());
                    }
                }
            }
            let row = format!("| {number} |");
            if !readme.lines().any(|line| line.starts_with(&row) && line.contains(name.as_str())) {
                problem(format!("README.md has no row \"{row} … {name} …\""));
            }
            if entry.modules.is_empty() {
                problem("names no core module".to_string());
            }
            for module in &entry.modules {
                if module.starts_with("eas_") && module_file(&root(), module).is_none() {
                    problem(format!("no such module: {module}"));
                }
            }
            let more = entry.encoders.iter().map(String::as_str).filter(|encoder| *encoder != "static");
            for encoder in std::iter::once("static").chain(more) {
                let path = expected_path(&chapter.dir, name, encoder);
                let record = std::fs::read_to_string(&path)
                    .map_err(|error| format!("{}: {error}", path.display()))
                    .and_then(|text| Record::from_json(&text, "expected output").map_err(|error| error.to_string()));
                match record {
                    Err(error) => problem(error),
                    Ok(record) => {
                        if record.claims.len() < 2 || !record.is_good() {
                            let (held, claims) = (record.held(), record.claims.len());
                            problem(format!("{}: {held} of {claims} claims held; two are the least", path.display()));
                        }
                        if record.number != number.to_string() || record.name != *name || record.encoder != encoder {
                            problem(format!("{} is the output of another listing", path.display()));
                        }
                    }
                }
            }
        }
    }
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn nothing_lies_around() {
    let mut names: BTreeSet<String> = BTreeSet::new();
    for chapter in here() {
        let listed: BTreeSet<String> = chapter.entries.iter().map(|entry| entry.name.clone()).collect();
        let files = stems(&chapter.dir.join("examples"), ".rs");
        let strays: Vec<&String> = files.difference(&listed).collect();
        assert!(strays.is_empty(), "{}: examples that are not in listings.toml: {strays:?}", chapter.name);
        for stem in stems(&chapter.dir.join("expected"), ".json") {
            let name = stem.trim_end_matches(".minilm");
            assert!(listed.contains(name), "{}: expected/{stem}.json belongs to no listing", chapter.name);
        }
        for name in listed {
            assert!(names.insert(name.clone()), "the name {name} occurs in two chapters");
        }
    }
}

#[test]
fn every_chapter_runs_its_listings_in_its_tests() {
    for chapter in here() {
        let text = std::fs::read_to_string(chapter.dir.join("tests/listings.rs")).unwrap_or_default();
        assert!(text.contains("eas_report::testing::check_chapter("), "{}: tests/listings.rs", chapter.name);
    }
}

#[test]
fn the_readme_counts_each_chapter_rightly() {
    let readme = std::fs::read_to_string(root().join("README.md")).expect("README.md");
    let here: BTreeMap<String, usize> =
        here().into_iter().map(|chapter| (chapter.name, chapter.entries.len())).collect();
    for (name, lines) in catalogue() {
        let number = lines[0][0].split('.').next().unwrap_or_default().to_string();
        if IN_PROGRESS.contains(&name.as_str()) {
            continue;
        }
        let found = here.get(&name).copied().unwrap_or(0);
        let (start, end) = (format!("| {number} | "), format!(" | {found} of {} |", lines.len()));
        assert!(
            readme.lines().any(|line| line.starts_with(&start) && line.ends_with(&end)),
            "README.md has no row \"{start}…{end}\""
        );
    }
}
