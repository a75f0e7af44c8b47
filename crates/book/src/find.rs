//! From what a person types (a name, a number, a Python file, a chapter) to the listings meant.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use eas_report::catalogue::{Chapter, Entry};

/// A listing together with its chapter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found<'a> {
    pub(crate) chapter: &'a Chapter,
    pub(crate) entry: &'a Entry,
}

impl Found<'_> {
    /// The example's source file.
    pub(crate) fn source(&self) -> PathBuf {
        self.chapter.dir.join("examples").join(format!("{}.rs", self.entry.name))
    }

    /// Its committed output with this encoder.
    pub(crate) fn expected(&self, encoder: &str) -> PathBuf {
        eas_report::testing::expected_path(&self.chapter.dir, &self.entry.name, encoder)
    }

    fn label(&self) -> String {
        let Entry { number, name, python, .. } = self.entry;
        format!("{number} {name} ({python})")
    }
}

/// A line of `data/catalogue.tsv`: a listing of the book, whether or not its chapter is here yet.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) number: String,
    pub(crate) name: String,
    pub(crate) python: String,
    pub(crate) title: String,
}

/// All listings present, and the book's catalogue.
#[derive(Debug)]
pub(crate) struct Library {
    pub(crate) root: PathBuf,
    pub(crate) chapters: Vec<Chapter>,
    pub(crate) planned: Vec<Planned>,
}

impl Library {
    /// Reads the workspace in `root`.
    pub(crate) fn load(root: &Path) -> Result<Self> {
        let path = root.join("data/catalogue.tsv");
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let chapters = eas_report::catalogue::chapters(root)?;
        Ok(Self { root: root.to_path_buf(), chapters, planned: parse_catalogue(&text)? })
    }

    /// Every listing, in number order.
    pub(crate) fn all(&self) -> Vec<Found<'_>> {
        self.chapters
            .iter()
            .flat_map(|chapter| chapter.entries.iter().map(move |entry| Found { chapter, entry }))
            .collect()
    }

    /// The listings that `what` names: `all`, a chapter (`ch01`, `ch1`, `ch01_foundations`), or one listing.
    pub(crate) fn select(&self, what: &str) -> Result<Vec<Found<'_>>> {
        if what == "all" {
            return Ok(self.all());
        }
        let Some(number) = chapter_number(what) else {
            return self.one(what).map(|found| vec![found]);
        };
        let chapter = self.chapters.iter().find(|chapter| chapter.number() == number && !chapter.entries.is_empty());
        if let Some(chapter) = chapter {
            return Ok(chapter.entries.iter().map(|entry| Found { chapter, entry }).collect());
        }
        let present: Vec<String> = self
            .chapters
            .iter()
            .filter(|chapter| !chapter.entries.is_empty())
            .map(|chapter| format!("ch{:02}", chapter.number()))
            .collect();
        bail!("chapter {number} is not here yet; present: {}", present.join(", "))
    }

    /// The one listing that `what` names: by name, number, or the Python file's name, with or without folder, ending, case
    /// and underscores.
    pub(crate) fn one(&self, what: &str) -> Result<Found<'_>> {
        let all = self.all();
        if let Some(found) = all.iter().find(|f| f.entry.name == what || f.entry.number.to_string() == what) {
            return Ok(*found);
        }
        let (folder, file) = what.rsplit_once(['/', '\\']).unwrap_or(("", what));
        let chapter = folder.split(['/', '\\']).find_map(chapter_number);
        let is_python = Path::new(file).extension().is_some_and(|ending| ending.eq_ignore_ascii_case("py"));
        let wanted = plain(file);
        let fits = |name: &str, python: &str| plain(python) == wanted || (!is_python && plain(name) == wanted);
        let mut found: Vec<Found<'_>> = all
            .iter()
            .filter(|f| chapter.is_none_or(|chapter| f.chapter.number() == chapter))
            .filter(|f| fits(&f.entry.name, &f.entry.python))
            .copied()
            .collect();
        // A name outweighs a Python file that happens to be called the same.
        if !is_python && found.len() > 1 && found.iter().any(|f| plain(&f.entry.name) == wanted) {
            found.retain(|f| plain(&f.entry.name) == wanted);
        }
        match found.as_slice() {
            [one] => Ok(*one),
            [] => self.unknown(what, &wanted, &fits, &all),
            several => {
                let labels: Vec<String> = several.iter().map(|f| format!("  {}", f.label())).collect();
                bail!("\"{what}\" is more than one listing:\n{}\nUse the name or the number.", labels.join("\n"))
            }
        }
    }

    fn unknown(
        &self,
        what: &str,
        wanted: &str,
        fits: &dyn Fn(&str, &str) -> bool,
        all: &[Found<'_>],
    ) -> Result<Found<'_>> {
        let planned: Vec<String> = self
            .planned
            .iter()
            .filter(|planned| fits(&planned.name, &planned.python) || planned.number == what)
            .map(|planned| format!("  {} {} ({}): {}", planned.number, planned.name, planned.python, planned.title))
            .collect();
        if !planned.is_empty() {
            bail!("\"{what}\" is a listing of the book whose Rust version is not here yet:\n{}", planned.join("\n"));
        }
        let mut nearest: Vec<(f64, &Found<'_>)> = all
            .iter()
            .map(|f| {
                let name = strsim::jaro_winkler(wanted, &plain(&f.entry.name));
                let python = strsim::jaro_winkler(wanted, &plain(&f.entry.python));
                (name.max(python), f)
            })
            .filter(|(likeness, _)| *likeness >= 0.75)
            .collect();
        nearest.sort_by(|a, b| b.0.total_cmp(&a.0));
        let labels: Vec<String> = nearest.iter().take(3).map(|(_, f)| format!("  {}", f.label())).collect();
        if labels.is_empty() {
            bail!("no listing is called \"{what}\"; `cargo book list` shows them all");
        }
        bail!("no listing is called \"{what}\"; did you mean\n{}", labels.join("\n"))
    }
}

/// The chapter that a word such as `ch1`, `ch01` or `ch01_foundations` names.
fn chapter_number(word: &str) -> Option<u32> {
    let rest = word.strip_prefix("chapter").or_else(|| word.strip_prefix("ch"))?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    (rest.len() == digits.len() || rest[digits.len()..].starts_with('_')).then(|| digits.parse().ok())?
}

/// The name without ending, case, underscores and hyphens.
fn plain(name: &str) -> String {
    let lower = name.to_lowercase();
    let stem = lower.strip_suffix(".py").or_else(|| lower.strip_suffix(".rs")).unwrap_or(&lower);
    stem.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).collect()
}

fn parse_catalogue(text: &str) -> Result<Vec<Planned>> {
    text.lines()
        .skip(1)
        .map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            let [_, number, name, python, title] = fields[..] else {
                bail!("data/catalogue.tsv: not five fields: {line}");
            };
            let own = str::to_string;
            Ok(Planned { number: own(number), name: own(name), python: own(python), title: own(title) })
        })
        .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn library() -> Library {
        let chapter = |dir: &str, entries: &[(&str, &str, &str)]| {
            let text: Vec<String> = entries
                .iter()
                .map(|(number, name, python)| {
                    format!(
                        "[[listing]]\nnumber = \"{number}\"\nname = \"{name}\"\ntitle = \"About {name}\"\nsection = \"S\"\n\
                         python = \"{python}\"\nkind = \"mock\"\n"
                    )
                })
                .collect();
            Chapter::parse(Path::new(dir), &text.concat()).expect("valid")
        };
        Library {
            root: PathBuf::from("."),
            chapters: vec![
                chapter(
                    "examples/ch01_foundations",
                    &[
                        ("1.1", "incremental_embedding_update", "traditional_update.py"),
                        ("1.2", "keyword_search", "keyword_search.py"),
                        ("1.5", "word2vec_analogies", "example_05.py"),
                    ],
                ),
                chapter(
                    "examples/ch02_strategic_architecture",
                    &[("2.5", "text_only_product_search", "example_05.py"), ("2.6", "example_05", "from.py")],
                ),
                chapter("examples/ch03_empty", &[]),
            ],
            planned: parse_catalogue(
                "chapter\tnumber\tlisting\tpython_file\ttitle\nch05_x\t5.9\tinfonce_loss\tinfonceloss.py\tInfoNCE\n",
            )
            .expect("valid"),
        }
    }

    fn name(what: &str) -> Result<String, String> {
        library().one(what).map(|found| found.entry.name.clone()).map_err(|error| error.to_string())
    }

    #[test]
    fn one_listing_by_many_names() {
        for what in [
            "keyword_search",
            "1.2",
            "keyword_search.py",
            "KeywordSearch",
            "keyword-search.rs",
            "code/ch01/keyword_search.py",
        ] {
            assert_eq!(name(what).as_deref(), Ok("keyword_search"), "{what}");
        }
        assert_eq!(name("traditionalupdate.py").as_deref(), Ok("incremental_embedding_update"));
        assert_eq!(name("Traditional_Update").as_deref(), Ok("incremental_embedding_update"));
        assert_eq!(name("ch02/example_05.py").as_deref(), Ok("text_only_product_search"));
        assert_eq!(name("example05").as_deref(), Ok("example_05"), "a name outweighs a Python file");
    }

    #[test]
    fn an_ambiguous_python_file_lists_its_candidates() {
        let error = name("example_05.py").expect_err("two chapters have one");
        assert!(error.contains("1.5 word2vec_analogies") && error.contains("2.5 text_only_product_search"), "{error}");
        assert!(!error.contains("2.6"), "{error}");
    }

    #[test]
    fn an_unknown_name_brings_the_nearest() {
        let error = name("keyword_serch").expect_err("misspelt");
        assert!(error.contains("did you mean\n  1.2 keyword_search"), "{error}");
        let error = name("zzz").expect_err("nothing like it");
        assert!(error.contains("cargo book list"), "{error}");
        let error = name("InfoNCE_loss.py").expect_err("not here yet");
        assert!(error.contains("not here yet") && error.contains("5.9 infonce_loss"), "{error}");
        assert!(name("5.9").expect_err("not here yet").contains("infonce_loss"));
        assert!(name("").is_err());
    }

    #[test]
    fn chapters_and_all() {
        let library = library();
        let count = |what: &str| library.select(what).map(|found| found.len()).map_err(|error| error.to_string());
        assert_eq!(
            (count("all"), count("ch01"), count("ch1"), count("ch02_strategic_architecture")),
            (Ok(5), Ok(3), Ok(3), Ok(2))
        );
        assert_eq!(count("keyword_search"), Ok(1));
        assert!(count("ch03").expect_err("empty").contains("present: ch01, ch02"));
        assert!(count("ch99").is_err() && count("chapters").is_err());
    }

    #[test]
    fn a_damaged_catalogue_is_said_to_be_so() {
        assert!(parse_catalogue("head\na\tb\n").expect_err("two fields").to_string().contains("catalogue.tsv"));
    }
}
