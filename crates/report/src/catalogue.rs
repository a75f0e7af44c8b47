//! The listings of the workspace: each chapter's `listings.toml`, read and checked.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::ReportError;

/// One entry of a chapter's `listings.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The listing's number, `chapter.position`.
    pub number: Number,
    /// The example's name, unique in the workspace.
    pub name: String,
    /// What it is about, as in the catalogue.
    pub title: String,
    /// The book's section.
    pub section: String,
    /// The Python file it re-creates.
    pub python: String,
    /// What that Python file was.
    pub kind: ListingKind,
    /// Data sets and generators used.
    #[serde(default)]
    pub data: Vec<String>,
    /// Core modules the page shows, as Rust paths.
    #[serde(default)]
    pub modules: Vec<String>,
    /// Encoders with which it shows or claims something of its own; empty when it uses none.
    #[serde(default)]
    pub encoders: Vec<String>,
}

/// What the book's code was before it was re-created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ListingKind {
    /// It runs as it stands.
    Runnable,
    /// It uses names that it does not define.
    Fragment,
    /// It stands in for the real thing.
    Mock,
    /// It defines classes and calls nothing.
    ClassOnly,
}

impl fmt::Display for ListingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Runnable => "runnable",
            Self::Fragment => "fragment",
            Self::Mock => "mock",
            Self::ClassOnly => "class-only",
        })
    }
}

/// A listing's number, ordered by chapter and then by position: 1.9 comes before 1.10.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Number {
    /// The book's chapter.
    pub chapter: u32,
    /// The position in the chapter, from 1.
    pub position: u32,
}

impl TryFrom<String> for Number {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.split_once('.')
            .and_then(|(chapter, position)| {
                Some(Self { chapter: chapter.parse().ok()?, position: position.parse().ok()? })
            })
            .ok_or_else(|| format!("\"{text}\" is no listing number such as \"1.2\""))
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.chapter, self.position)
    }
}

/// A chapter crate and its listings, in number order.
#[derive(Clone, Debug)]
pub struct Chapter {
    /// Folder and package name, for example `ch01_foundations`.
    pub name: String,
    /// The chapter's folder.
    pub dir: PathBuf,
    /// Its listings.
    pub entries: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    listing: Vec<Entry>,
}

impl Chapter {
    /// Reads the chapter in `dir`.
    pub fn load(dir: &Path) -> Result<Self, ReportError> {
        let path = dir.join("listings.toml");
        let text = std::fs::read_to_string(&path).map_err(ReportError::file(&path))?;
        Self::parse(dir, &text)
    }

    /// Reads the text of the `listings.toml` of the chapter in `dir`.
    pub fn parse(dir: &Path, text: &str) -> Result<Self, ReportError> {
        let error = |reason: String| ReportError::Catalogue { path: dir.join("listings.toml"), reason };
        let name = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let file: File = toml::from_str(text).map_err(|source| error(source.to_string()))?;
        let chapter = name.trim_start_matches("ch").split('_').next().and_then(|digits| digits.parse::<u32>().ok());
        let (mut names, mut last) = (BTreeSet::new(), None);
        for entry in &file.listing {
            let Entry { number, name, .. } = entry;
            if Some(number.chapter) != chapter {
                return Err(error(format!("{number} `{name}` is of another chapter")));
            }
            if last.is_some_and(|last: Number| last.cmp(number) != Ordering::Less) {
                return Err(error(format!("{number} `{name}` is out of order or a duplicate")));
            }
            last = Some(*number);
            if !names.insert(name.as_str()) {
                return Err(error(format!("the name `{name}` occurs twice")));
            }
            if let Some(encoder) =
                entry.encoders.iter().find(|encoder| !["static", "minilm"].contains(&encoder.as_str()))
            {
                return Err(error(format!("`{name}`: unknown encoder \"{encoder}\", known are static and minilm")));
            }
        }
        Ok(Self { name, dir: dir.to_path_buf(), entries: file.listing })
    }

    /// The book's chapter number.
    pub fn number(&self) -> u32 {
        self.name.trim_start_matches("ch").split('_').next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
    }

    /// The entry of the listing called `name`.
    pub fn entry(&self, name: &str) -> Result<&Entry, ReportError> {
        self.entries
            .iter()
            .find(|entry| entry.name == name)
            .ok_or_else(|| ReportError::NotInCatalogue { name: name.to_string(), path: self.dir.join("listings.toml") })
    }
}

/// Reads every chapter under `root/examples`, in chapter order.
pub fn chapters(root: &Path) -> Result<Vec<Chapter>, ReportError> {
    let examples = root.join("examples");
    let mut chapters = Vec::new();
    for item in std::fs::read_dir(&examples).map_err(ReportError::file(&examples))? {
        let dir = item.map_err(ReportError::file(&examples))?.path();
        if dir.join("listings.toml").is_file() {
            chapters.push(Chapter::load(&dir)?);
        }
    }
    chapters.sort_by_key(Chapter::number);
    Ok(chapters)
}

/// The source file of a core module such as `eas_text::lexical`, or of the module that holds the item named last.
pub fn module_file(root: &Path, module: &str) -> Option<PathBuf> {
    let mut parts: Vec<&str> = module.split("::").collect();
    let package = parts.remove(0).strip_prefix("eas_")?;
    let src = root.join("crates").join(package).join("src");
    while !parts.is_empty() {
        let base = parts.iter().fold(src.clone(), |path, part| path.join(part));
        for file in [base.with_extension("rs"), base.join("mod.rs")] {
            if file.is_file() {
                return Some(file);
            }
        }
        parts.pop();
    }
    Some(src.join("lib.rs")).filter(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: &str, name: &str, more: &str) -> String {
        format!(
            "[[listing]]\nnumber = \"{number}\"\nname = \"{name}\"\ntitle = \"T\"\nsection = \"S\"\npython = \"p.py\"\nkind = \"runnable\"\n{more}\n"
        )
    }

    fn parse(text: &str) -> Result<Chapter, ReportError> {
        Chapter::parse(Path::new("examples/ch01_foundations"), text)
    }

    #[test]
    fn entries_come_in_number_order() {
        let text = entry("1.9", "a", "encoders = [\"static\", \"minilm\"]") + &entry("1.10", "b", "");
        let chapter = parse(&text).expect("valid");
        assert_eq!((chapter.number(), chapter.entries.len()), (1, 2));
        assert_eq!(chapter.entry("b").expect("present").number.to_string(), "1.10");
        assert!(matches!(chapter.entry("c"), Err(ReportError::NotInCatalogue { .. })));
        assert!(parse("").expect("an empty chapter is one to be filled").entries.is_empty());
    }

    #[test]
    fn what_breaks_a_rule_is_named() {
        for (text, part) in [
            (entry("1.10", "a", "") + &entry("1.9", "b", ""), "out of order"),
            (entry("1.1", "a", "") + &entry("1.1", "b", ""), "duplicate"),
            (entry("1.1", "a", "") + &entry("1.2", "a", ""), "twice"),
            (entry("2.1", "a", ""), "another chapter"),
            (entry("1", "a", ""), "no listing number"),
            (entry("1.1", "a", "encoders = [\"bert\"]"), "bert"),
            (entry("1.1", "a", "colour = 1"), "colour"),
            ("[[listing]]\nname = \"a\"".to_string(), "number"),
        ] {
            let error = parse(&text).expect_err(part).to_string();
            assert!(error.contains(part) && error.contains("listings.toml"), "{part}: {error}");
        }
    }

    #[test]
    fn a_module_path_leads_to_its_file() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let file = |module: &str| {
            let path = module_file(&root, module)?;
            path.strip_prefix(root.join("crates")).ok().map(Path::to_path_buf)
        };
        assert_eq!(file("eas_report::catalogue"), Some("report/src/catalogue.rs".into()));
        assert_eq!(file("eas_report::chart::Chart"), Some("report/src/chart/mod.rs".into()));
        assert_eq!(file("eas_report::Listing"), Some("report/src/lib.rs".into()));
        assert_eq!(file("eas_nowhere::x"), None);
        assert_eq!(file("serde::Value"), None);
    }
}
