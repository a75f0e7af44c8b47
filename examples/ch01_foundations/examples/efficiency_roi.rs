//! Listing 1.12: hours saved by a shorter process, and rework avoided at the price it still has.
//!
//! cargo run --release --example efficiency_roi

use std::hint::black_box;
use std::time::Instant;

use ch01_foundations::cases::document_review;
use eas_data::wordnet::WordNet;
use eas_plan::roi::efficiency::{EfficiencyInput, efficiency_roi};
use eas_report::{Table, duration, money, num};
use eas_tensor::rng::SplitMix64;

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let review = document_review();
    let roi = efficiency_roi(&review)?;

    page.text(
        "Reviewing a document takes one hour rather than four, and 5% of the documents no longer come back for a second \
         review. What is such a second review worth? Not four hours: after the project it would have taken one. Pricing \
         it at the old hours counts the saved time once more.",
    );
    let mut table = Table::new(["part", "rework at the old hours", "rework at the new hours"]);
    table.row(["time saved".into(), money(roi.direct), money(roi.direct)]);
    table.row(["rework avoided".into(), money(roi.rework_at_old_hours), money(roi.rework_at_new_hours)]);
    table.row(["total a year".into(), money(roi.total_at_old_hours), money(roi.total)]);
    page.table("Document review: 10,000 a year at $500 an hour", &table);

    let adoption = [0.25, 0.60, 1.0];
    let years = roi.phased(&adoption)?;
    let mut phases = Table::new(["year", "documents reviewed the new way", "benefit"]);
    for (year, (share, benefit)) in adoption.iter().zip(&years).enumerate() {
        phases.row([(year + 1).into(), num(*share, 2), money(*benefit)]);
    }
    page.table("Nobody changes in a day: three years of adoption", &phases);

    // The same calculator on a process that is measured here and now: looking up 200 words in WordNet.
    let wordnet = WordNet::load()?;
    let mut rng = SplitMix64::new(page.seed());
    let words: Vec<&str> = (0..200)
        .filter_map(|_| rng.choose(wordnet.synsets()))
        .filter_map(|synset| synset.lemmas.first().map(String::as_str))
        .collect();
    let start = Instant::now();
    let by_scan: Vec<Option<u32>> = words.iter().map(|word| scan(&wordnet, word)).collect();
    let scan_time = start.elapsed();
    let start = Instant::now();
    wordnet.by_lemma("index");
    let build_time = start.elapsed();
    let start = Instant::now();
    let by_index: Vec<Option<u32>> =
        words.iter().map(|word| black_box(wordnet.by_lemma(word)).iter().copied().min()).collect();
    let index_time = start.elapsed();
    let hours = |time: std::time::Duration| time.as_secs_f64() / 3_600.0 / words.len() as f64;
    let lookups = EfficiencyInput {
        rework_reduction: 0.0,
        ..EfficiencyInput::new("WordNet lookup", hours(scan_time), hours(index_time).min(hours(scan_time)), 1e9, 0.05)
    };
    let measured = efficiency_roi(&lookups)?;
    let mut table = Table::new(["way", "200 lookups", "definitions found"]);
    let found = |ids: &[Option<u32>]| ids.iter().flatten().count();
    table.row(["read synsets until the word comes".into(), duration(scan_time), found(&by_scan).into()]);
    table.row(["look it up in an index".into(), duration(index_time), found(&by_index).into()]);
    table.row(["build that index, once".into(), duration(build_time), "".into()]);
    page.table("A process measured here: find the definitions of 200 words", &table);
    page.text(format!(
        "At a billion lookups a year and 5 cents a machine hour the index saves {:.0} hours, ${:.0} a year.",
        measured.hours_saved, measured.direct
    ));

    page.claim("30,000 hours are saved").equals(roi.hours_saved, 30_000.0);
    page.claim("which are 16.67 full-time employees").close(roi.fte_saved, 16.666_667, 1e-6);
    page.claim("their cost is $15,000,000").equals(roi.direct, 15e6);
    page.claim("rework at the old hours is $1,000,000").equals(roi.rework_at_old_hours, 1e6);
    page.claim("rework at the new hours is $250,000").equals(roi.rework_at_new_hours, 250e3);
    page.claim("the total with rework at the old hours is $16,000,000").equals(roi.total_at_old_hours, 16e6);
    page.claim("the total with rework at the new hours is $15,250,000").equals(roi.total, 15.25e6);
    let closed_form = review.hourly_cost
        * review.annual_volume
        * (review.hours_now - review.hours_target + review.rework_reduction * review.hours_target);
    page.claim("the repaired total is c V (h0 - h1 + r h1)").close(roi.total / closed_form, 1.0, 1e-12);
    page.claim("the difference of the totals is the time saved times the rework rate")
        .equals(roi.total_at_old_hours - roi.total, roi.direct * review.rework_reduction);
    page.claim("three years of adoption bring $28,212,500").close(years.iter().sum::<f64>(), 28_212_500.0, 1e-6);
    page.claim("reading and looking up find the same definitions").equals(by_scan == by_index, true);
    let slower = EfficiencyInput::new("slower", 1.0, 4.0, 1.0, 1.0);
    page.claim("a process that gets longer is refused").fails(efficiency_roi(&slower), "gets worse: from 1 to 4");
    page.finish()
}

/// The first synset of a word, found by reading.
fn scan(wordnet: &WordNet, word: &str) -> Option<u32> {
    let holds = |lemmas: &[String]| lemmas.iter().any(|lemma| lemma.eq_ignore_ascii_case(word));
    let found = wordnet.synsets().iter().find(|synset| holds(&synset.lemmas));
    found.map(|synset| synset.id)
}
