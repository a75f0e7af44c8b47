//! `cargo book check`: every listing run, one line each, and a total.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use eas_report::testing::{MINILM_FILE, Run, minilm_file, run_listing};
use serde_json::json;

use crate::find::Found;

/// The total over the listings; variants with another encoder are run and can fail, and are no listings of their own.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Total {
    pub(crate) listings: usize,
    pub(crate) held: usize,
    pub(crate) failed: Vec<String>,
    pub(crate) claims: usize,
    pub(crate) seconds: f64,
}

impl Total {
    pub(crate) fn to_json(&self) -> String {
        json!({
            "listings": self.listings,
            "held": self.held,
            "failed": self.failed,
            "claims": self.claims,
            "seconds": (self.seconds * 1000.0).round() / 1000.0,
        })
        .to_string()
    }

    fn text(&self) -> String {
        let Self { listings, held, failed, claims, seconds } = self;
        let mut text = format!("{listings} listings, {held} with all claims held, {claims} claims, {seconds:.1} s");
        if !failed.is_empty() {
            text.push_str("\nFailed: ");
            text.push_str(&failed.join(", "));
        }
        text
    }
}

/// Builds and runs the listings, prints the lines and the total, and returns the total.
pub(crate) fn check(root: &Path, listings: &[Found<'_>], json: bool, out: &mut impl Write) -> Result<Total> {
    let executables = crate::build::build(root, listings, true)?;
    let minilm = minilm_file(root).is_file();
    let run =
        |name: &str, encoder: &str| run_listing(&executables[name], encoder, &[]).map_err(|error| error.to_string());
    let total = run_all(listings, minilm, run, out)?;
    writeln!(out, "{}", total.text())?;
    if json {
        writeln!(out, "{}", total.to_json())?;
    }
    Ok(total)
}

fn run_all(
    listings: &[Found<'_>],
    minilm: bool,
    run: impl Fn(&str, &str) -> Result<Run, String>,
    out: &mut impl Write,
) -> Result<Total> {
    let start = Instant::now();
    let mut total = Total::default();
    let width = listings.iter().map(|found| found.entry.name.len()).max().unwrap_or(0);
    let mut without_model = 0;
    for found in listings {
        let (number, name) = (found.entry.number.to_string(), &found.entry.name);
        total.listings += 1;
        let outcome = run(name, "static");
        if let Ok(run) = &outcome {
            total.claims += run.record.claims.len();
        }
        let (good, line) = judged(&outcome);
        writeln!(out, "{number:>6}  {name:<width$}  {line}")?;
        out.flush()?;
        if good {
            total.held += 1;
        } else {
            total.failed.push(name.clone());
        }
        if !found.entry.encoders.iter().any(|encoder| encoder == "minilm") {
            continue;
        }
        if !minilm {
            without_model += 1;
            continue;
        }
        let (good, line) = judged(&run(name, "minilm"));
        writeln!(out, "{:>6}  {:<width$}  {line}", "", "  with --encoder minilm")?;
        out.flush()?;
        if !good {
            total.failed.push(format!("{name} --encoder minilm"));
        }
    }
    if without_model > 0 {
        writeln!(
            out,
            "Not run: {without_model} listings with --encoder minilm ({MINILM_FILE} is absent; scripts/fetch_models.sh gets it)"
        )?;
    }
    total.seconds = start.elapsed().as_secs_f64();
    Ok(total)
}

/// Whether a run is good, and its line; failed claims follow on lines of their own.
fn judged(outcome: &Result<Run, String>) -> (bool, String) {
    match outcome {
        Err(error) => (false, format!("FAILED  {error}")),
        Ok(run) => {
            let record = &run.record;
            let (held, claims, seconds) = (record.held(), record.claims.len(), run.time.as_secs_f64());
            let mark = if record.is_good() { "ok    " } else { "FAILED" };
            let mut lines = vec![format!("{mark}  {held:>2} of {claims:>2} claims held  {seconds:>5.2} s")];
            for claim in record.claims.iter().filter(|claim| !claim.held) {
                lines.push(format!("          {}: {}; wanted {}", claim.sentence, claim.value, claim.bound));
            }
            lines.extend(record.problems.iter().map(|problem| format!("          {problem}")));
            (record.is_good(), lines.join("\n"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eas_report::{ClaimRecord, ClaimValue, Record};
    use std::time::Duration;

    fn claims(held: &[bool]) -> Run {
        let claims = held
            .iter()
            .map(|held| ClaimRecord {
                sentence: "recall is high".into(),
                held: *held,
                value: ClaimValue::Text("0.25".into()),
                bound: ">= 0.5".into(),
            })
            .collect();
        Run { record: Record { claims, ..Record::default() }, time: Duration::from_millis(1234) }
    }

    #[test]
    fn the_total_counts_listings_claims_and_failures() {
        let mut library = crate::find::tests::library();
        library.chapters[0].entries[1].encoders = vec!["static".into(), "minilm".into()];
        let run = |name: &str, encoder: &str| match (name, encoder) {
            ("keyword_search", "minilm") => Ok(claims(&[true, false])),
            ("example_05", _) => Err("example_05: no report".to_string()),
            ("text_only_product_search", _) => Ok(claims(&[])),
            _ => Ok(claims(&[true, true])),
        };
        let mut out = Vec::new();
        let total = run_all(&library.all(), true, run, &mut out).expect("runs");
        assert_eq!((total.listings, total.held, total.claims), (5, 3, 6));
        assert_eq!(total.failed, ["keyword_search --encoder minilm", "text_only_product_search", "example_05"]);
        let text = String::from_utf8(out).expect("UTF-8");
        assert!(text.contains("   1.1  incremental_embedding_update  ok       2 of  2 claims held   1.23 s"), "{text}");
        assert!(text.contains("recall is high: 0.25; wanted >= 0.5") && text.contains("no report"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&total.to_json()).expect("JSON");
        assert_eq!(
            (json["listings"].as_u64(), json["held"].as_u64(), json["claims"].as_u64()),
            (Some(5), Some(3), Some(6))
        );
        assert!(json["failed"].is_array() && json["seconds"].is_number());
    }

    #[test]
    fn variants_without_the_model_are_named() {
        let mut library = crate::find::tests::library();
        library.chapters[0].entries[1].encoders = vec!["minilm".into()];
        let mut out = Vec::new();
        let total = run_all(&library.all(), false, |_, _| Ok(claims(&[true])), &mut out).expect("runs");
        assert_eq!((total.held, total.failed.len()), (5, 0));
        assert!(String::from_utf8(out).expect("UTF-8").contains("Not run: 1 listings with --encoder minilm"));
    }
}
