//! What a run leaves behind: the JSON object of `--json`, and the committed output it is compared with.

use std::fmt::{self, Write as _};

use serde_json::{Map, Value, json};

use crate::cell::{Cell, close, float_from_json, float_json, rounded};
use crate::claim::shown;
use crate::{ReportError, Table};

/// Everything one run of a listing reported.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// The listing's number, for example `1.2`.
    pub number: String,
    /// The listing's name.
    pub name: String,
    /// `static` or `minilm`.
    pub encoder: String,
    /// The seed given with `--seed`, if any.
    pub seed: Option<u64>,
    /// Whether it ran at full size.
    pub full: bool,
    /// The tables, in the order in which they were shown.
    pub tables: Vec<TableRecord>,
    /// File names of the charts.
    pub charts: Vec<String>,
    /// The claims, in the order in which they were made.
    pub claims: Vec<ClaimRecord>,
    /// Parts that were skipped, each with the reason.
    pub skipped: Vec<(String, String)>,
    /// Labelled times in seconds.
    pub timings: Vec<(String, f64)>,
    /// Mistakes in the use of this crate, such as a row with too few cells. One is enough to fail the listing.
    pub problems: Vec<String>,
    /// Where it ran.
    pub machine: Option<Machine>,
}

/// A table as it was shown.
#[derive(Clone, Debug, PartialEq)]
pub struct TableRecord {
    /// Its title.
    pub title: String,
    /// The table itself.
    pub table: Table,
}

/// A claim and how it went.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimRecord {
    /// What was claimed.
    pub sentence: String,
    /// Whether it held.
    pub held: bool,
    /// The measured value.
    pub value: ClaimValue,
    /// The bound, in words; empty when none was stated.
    pub bound: String,
}

impl ClaimRecord {
    pub(crate) fn unstated(sentence: &str) -> Self {
        Self {
            sentence: sentence.to_string(),
            held: false,
            value: ClaimValue::Text("no bound was stated".to_string()),
            bound: String::new(),
        }
    }
}

/// The measured value of a claim.
#[derive(Clone, Debug, PartialEq)]
pub enum ClaimValue {
    /// A number, and how far it may move before the committed output counts as changed.
    Number {
        /// The measured number.
        value: f64,
        /// The absolute tolerance of the comparison.
        within: f64,
    },
    /// Anything else, as text.
    Text(String),
}

impl fmt::Display for ClaimValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number { value, within } => f.write_str(&shown(*value, *within)),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// The machine of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Operating system, as Rust names it.
    pub os: String,
    /// Processor architecture, as Rust names it.
    pub arch: String,
    /// Threads available to the process.
    pub threads: usize,
}

impl Machine {
    /// The machine this runs on.
    pub fn here() -> Self {
        Self {
            os: std::env::consts::OS.to_string(),
            arch: std::env::consts::ARCH.to_string(),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

/// One way in which a run differs from the committed output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference(pub String);

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Record {
    /// Number of claims that held.
    pub fn held(&self) -> usize {
        self.claims.iter().filter(|claim| claim.held).count()
    }

    /// Whether there is at least one claim, all hold, and nothing was misused.
    pub fn is_good(&self) -> bool {
        !self.claims.is_empty() && self.held() == self.claims.len() && self.problems.is_empty()
    }

    /// The JSON object that `--json` prints on one line.
    pub fn to_json(&self) -> String {
        json!({
            "number": self.number,
            "name": self.name,
            "encoder": self.encoder,
            "seed": self.seed,
            "full": self.full,
            "tables": self.tables.iter().map(|table| json!({
                "title": table.title,
                "columns": table.table.columns,
                "rows": table.table.rows.iter()
                    .map(|row| row.iter().map(|cell| cell.to_json(false)).collect::<Vec<_>>())
                    .collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
            "charts": self.charts,
            "claims": self.claims.iter().map(|claim| claim.to_json(false)).collect::<Vec<_>>(),
            "skipped": self.skipped.iter().map(|(what, why)| json!({ "what": what, "why": why })).collect::<Vec<_>>(),
            "timings": self.timings.iter().map(|(label, seconds)| json!({ "label": label, "seconds": seconds }))
                .collect::<Vec<_>>(),
            "problems": self.problems,
            "machine": self.machine.as_ref()
                .map(|machine| json!({ "os": machine.os, "arch": machine.arch, "threads": machine.threads })),
        })
        .to_string()
    }

    /// The committed output: no timings, no machine, one row or claim a line.
    pub fn to_expected(&self) -> String {
        let mut out = String::from("{\n");
        let _ = writeln!(out, "  \"number\": {},", json!(self.number));
        let _ = writeln!(out, "  \"name\": {},", json!(self.name));
        let _ = writeln!(out, "  \"encoder\": {},", json!(self.encoder));
        out.push_str("  \"tables\": [");
        for (i, table) in self.tables.iter().enumerate() {
            out.push_str(if i == 0 { "\n    {\n" } else { ",\n    {\n" });
            let _ = writeln!(out, "      \"title\": {},", json!(table.title));
            let _ = writeln!(out, "      \"columns\": {},", json!(table.table.columns));
            let rows = table.table.rows.iter().map(|row| {
                let cells: Vec<Value> = row.iter().map(|cell| cell.to_json(true)).collect();
                Value::from(cells)
            });
            let _ = write!(out, "      \"rows\": {}\n    }}", lines(rows, "        ", "      "));
        }
        out.push_str(if self.tables.is_empty() { "],\n" } else { "\n  ],\n" });
        let _ = writeln!(out, "  \"charts\": {},", json!(self.charts));
        let claims = self.claims.iter().map(|claim| claim.to_json(true));
        let _ = writeln!(out, "  \"claims\": {}", lines(claims, "    ", "  "));
        out.push_str("}\n");
        out
    }

    /// Reads what [`Record::to_json`] or [`Record::to_expected`] wrote; `what` names the source in errors.
    pub fn from_json(text: &str, what: &str) -> Result<Self, ReportError> {
        let error = |reason: String| ReportError::Record { what: what.to_string(), reason };
        let value: Value = serde_json::from_str(text).map_err(|source| error(source.to_string()))?;
        let root = value.as_object().ok_or_else(|| error("not a JSON object".to_string()))?;
        Self::from_object(root).ok_or_else(|| error("not the output of a listing".to_string()))
    }

    fn from_object(root: &Map<String, Value>) -> Option<Self> {
        let text = |key: &str| root.get(key)?.as_str().map(str::to_string);
        let mut record = Self {
            number: text("number")?,
            name: text("name")?,
            encoder: text("encoder")?,
            seed: root.get("seed").and_then(Value::as_u64),
            full: root.get("full").and_then(Value::as_bool).unwrap_or(false),
            ..Self::default()
        };
        for table in root.get("tables")?.as_array()? {
            let mut cells = Table::new(strings(table.get("columns")?)?);
            for row in table.get("rows")?.as_array()? {
                let row: Option<Vec<Cell>> = row.as_array()?.iter().map(Cell::from_json).collect();
                cells.row(row?);
            }
            let title = table.get("title")?.as_str()?.to_string();
            record.tables.push(TableRecord { title, table: cells });
        }
        record.charts = strings(root.get("charts")?)?;
        record.claims = root.get("claims")?.as_array()?.iter().map(ClaimRecord::from_json).collect::<Option<_>>()?;
        if let Some(skipped) = root.get("skipped") {
            for part in skipped.as_array()? {
                let field = |key: &str| part.get(key)?.as_str().map(str::to_string);
                record.skipped.push((field("what")?, field("why")?));
            }
        }
        if let Some(timings) = root.get("timings") {
            for timing in timings.as_array()? {
                record.timings.push((timing.get("label")?.as_str()?.to_string(), timing.get("seconds")?.as_f64()?));
            }
        }
        if let Some(problems) = root.get("problems") {
            record.problems = strings(problems)?;
        }
        if let Some(machine) = root.get("machine").filter(|machine| !machine.is_null()) {
            record.machine = Some(Machine {
                os: machine.get("os")?.as_str()?.to_string(),
                arch: machine.get("arch")?.as_str()?.to_string(),
                threads: machine.get("threads")?.as_u64()? as usize,
            });
        }
        Some(record)
    }

    /// How `actual` differs from this committed output: numbers beyond the tolerance committed with them, other text,
    /// other tables, charts or claims. Timings, skipped parts and the machine are not looked at.
    pub fn differences(&self, actual: &Record) -> Vec<Difference> {
        let mut found = Vec::new();
        let mut differ = |what: String| found.push(Difference(what));
        for (what, expected, got) in [
            ("number", &self.number, &actual.number),
            ("name", &self.name, &actual.name),
            ("encoder", &self.encoder, &actual.encoder),
        ] {
            if expected != got {
                differ(format!("{what}: expected {expected}, got {got}"));
            }
        }
        if self.charts != actual.charts {
            differ(format!("charts: expected {:?}, got {:?}", self.charts, actual.charts));
        }
        let titles = |record: &Record| record.tables.iter().map(|table| table.title.clone()).collect::<Vec<_>>();
        if titles(self) != titles(actual) {
            differ(format!("tables: expected {:?}, got {:?}", titles(self), titles(actual)));
        }
        for (expected, got) in self.tables.iter().zip(&actual.tables) {
            let title = &expected.title;
            let (expected, got) = (&expected.table, &got.table);
            if expected.columns != got.columns {
                differ(format!("table \"{title}\": expected columns {:?}, got {:?}", expected.columns, got.columns));
            } else if expected.rows.len() != got.rows.len() {
                differ(format!("table \"{title}\": expected {} rows, got {}", expected.rows.len(), got.rows.len()));
            } else {
                for (i, (expected_row, got_row)) in expected.rows.iter().zip(&got.rows).enumerate() {
                    if expected_row.len() != got_row.len() {
                        let (wanted, cells) = (expected_row.len(), got_row.len());
                        differ(format!("table \"{title}\", row {}: expected {wanted} cells, got {cells}", i + 1));
                    }
                    for ((wanted, cell), column) in expected_row.iter().zip(got_row).zip(&expected.columns) {
                        if let Some(reason) = wanted.difference(cell) {
                            differ(format!("table \"{title}\", row {}, {column}: {reason}", i + 1));
                        }
                    }
                }
            }
        }
        let sentences = |record: &Record| record.claims.iter().map(|claim| claim.sentence.clone()).collect::<Vec<_>>();
        if sentences(self) == sentences(actual) {
            for (expected, got) in self.claims.iter().zip(&actual.claims) {
                if expected.held != got.held {
                    differ(format!("claim \"{}\": expected held {}, got {}", got.sentence, expected.held, got.held));
                }
                if let Some(reason) = expected.value.difference(&got.value) {
                    differ(format!("claim \"{}\": {reason}", got.sentence));
                }
            }
        } else {
            differ(format!("claims: expected {:#?}, got {:#?}", sentences(self), sentences(actual)));
        }
        found
    }
}

impl ClaimRecord {
    fn to_json(&self, compact: bool) -> Value {
        let mut object = Map::new();
        object.insert("claim".into(), json!(self.sentence));
        object.insert("held".into(), json!(self.held));
        match &self.value {
            ClaimValue::Number { value, within } => {
                let value = if compact { rounded(*value, *within) } else { *value };
                object.insert("value".into(), float_json(value));
                object.insert("within".into(), float_json(*within));
            }
            ClaimValue::Text(text) => {
                object.insert("shown".into(), json!(text));
            }
        }
        object.insert("bound".into(), json!(self.bound));
        Value::Object(object)
    }

    fn from_json(value: &Value) -> Option<Self> {
        let text = |key: &str| value.get(key)?.as_str().map(str::to_string);
        let measured = match value.get("value") {
            Some(number) => {
                ClaimValue::Number { value: float_from_json(number)?, within: float_from_json(value.get("within")?)? }
            }
            None => ClaimValue::Text(text("shown")?),
        };
        Some(Self {
            sentence: text("claim")?,
            held: value.get("held")?.as_bool()?,
            value: measured,
            bound: text("bound")?,
        })
    }
}

impl ClaimValue {
    fn difference(&self, actual: &Self) -> Option<String> {
        match (self, actual) {
            (Self::Number { value, within }, Self::Number { value: found, .. }) => {
                (!close(*value, *found, *within)).then(|| format!("expected {value} within {within}, got {found}"))
            }
            (expected, found) if expected == found => None,
            (expected, found) => Some(format!("expected {expected}, got {found}")),
        }
    }
}

fn strings(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|item| item.as_str().map(str::to_string)).collect()
}

fn lines(items: impl Iterator<Item = Value>, indent: &str, close: &str) -> String {
    let items: Vec<String> = items.map(|item| format!("{indent}{item}")).collect();
    if items.is_empty() { "[]".to_string() } else { format!("[\n{}\n{close}]", items.join(",\n")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Claim, duration, num, pct};
    use std::time::Duration;

    fn record() -> Record {
        let mut table = Table::new(["query", "hits", "recall", "time"]);
        table.row(["a \"b\"".into(), 3.into(), num(0.333_333, 3), duration(Duration::from_millis(5))]);
        table.row(["c".into(), 0.into(), pct(f64::NAN, 1), duration(Duration::from_millis(6))]);
        let mut claims = vec![ClaimRecord::unstated("recall is a third"), ClaimRecord::unstated("every id is known")];
        Claim::new(&mut claims[0]).close(0.333_333, 1.0 / 3.0, 1e-3);
        Claim::new(&mut claims[1]).all([1, 2], |id| id > 0);
        Record {
            number: "1.2".into(),
            name: "keyword_search".into(),
            encoder: "static".into(),
            seed: Some(7),
            tables: vec![TableRecord { title: "Hits".into(), table }],
            charts: vec!["recall.svg".into()],
            claims,
            skipped: vec![("x".into(), "y".into())],
            timings: vec![("build".into(), 0.25)],
            machine: Some(Machine::here()),
            ..Record::default()
        }
    }

    #[test]
    fn json_and_expected_read_back() {
        let record = record();
        let back = Record::from_json(&record.to_json(), "test").expect("read back");
        assert_eq!(record.differences(&back), []);
        assert_eq!(
            (back.seed, back.timings.len(), back.skipped.len(), back.machine),
            (Some(7), 1, 1, record.machine.clone())
        );
        let expected = Record::from_json(&record.to_expected(), "test").expect("read back");
        assert_eq!(expected.differences(&record), []);
        assert_eq!(expected.to_expected(), record.to_expected(), "writing what was read changes nothing");
        assert!(!record.to_expected().contains("0.25"), "no timing is committed");
        assert!(record.is_good());
    }

    type Change = fn(&mut Record);

    #[test]
    fn every_kind_of_change_is_found() {
        let expected = record();
        let changes: [(&str, Change); 8] = [
            ("hits", |r| r.tables[0].table.rows[0][1] = 4.into()),
            ("recall", |r| r.tables[0].table.rows[0][2] = num(0.34, 3)),
            ("expected 2 rows", |r| r.tables[0].table.rows.truncate(1)),
            ("columns", |r| r.tables[0].table.columns[0] = "q".into()),
            ("tables", |r| r.tables.clear()),
            ("claims", |r| r.claims.swap(0, 1)),
            ("held", |r| r.claims[0].held = false),
            ("charts", |r| r.charts.clear()),
        ];
        for (word, change) in changes {
            let mut actual = record();
            change(&mut actual);
            let differences = expected.differences(&actual);
            assert!(differences.iter().any(|d| d.0.contains(word)), "{word}: {differences:?}");
        }
        let mut slower = record();
        slower.timings[0].1 = 9.0;
        slower.tables[0].table.rows[0][3] = duration(Duration::from_secs(9));
        assert_eq!(expected.differences(&slower), []);
    }

    #[test]
    fn a_claim_value_may_drift_a_little_and_no_more() {
        let (mut a, mut b) = (record(), record());
        Claim::new(&mut a.claims[0]).at_least(0.974, 0.95);
        Claim::new(&mut b.claims[0]).at_least(0.965, 0.95);
        assert_eq!(a.differences(&b), []);
        Claim::new(&mut b.claims[0]).at_least(1.2, 0.95);
        assert_eq!(a.differences(&b).len(), 1);
        Claim::new(&mut a.claims[0]).within(0.5).at_least(0.974, 0.95);
        assert_eq!(a.differences(&b), []);
    }

    #[test]
    fn damaged_files_are_named() {
        for text in ["", "[]", "{}", "{\"number\": 1}", &record().to_expected()[..200]] {
            let error = Record::from_json(text, "expected/x.json").expect_err("damaged").to_string();
            assert!(error.contains("expected/x.json"), "{error}");
        }
    }
}
