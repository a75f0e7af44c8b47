//! Listing 13.5: contradictions. Sentences become typed claims, conflicts get a kind, and the answer is a share of the evidence.
//!
//! cargo run --release --example contradiction_resolution

use anyhow::Context as _;
use ch13_rag_at_scale::products::{attribute_rules, calendar, normal_form};
use eas_data::synth::facts::{ContradictionKind, FactConfig, FactCorpus};
use eas_report::{Table, num, pct};
use eas_retrieval::claims::{Claim, ClaimExtractor, Source};
use eas_retrieval::conflict::{ConflictKind, Resolution, Verdict, Weighting, evidence_weight, group_claims, resolve};
use eas_text::values::{Date, Value, find_values};
use std::collections::BTreeSet;

const KINDS: [ConflictKind; 4] =
    [ConflictKind::Temporal, ConflictKind::Source, ConflictKind::Partial, ConflictKind::Perspective];

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();

    page.section("Three prices for one product, as of 2024-03-01");
    let as_of = day(2024, 3, 1)?;
    let sources =
        [("$999", 0.90, day(2023, 6, 1)?), ("$1299", 0.95, day(2024, 1, 15)?), ("$1,299.00", 0.70, day(2024, 2, 1)?)];
    let mut table = Table::new(["stated", "normal form", "credibility", "age in days", "weight"]);
    let mut prices = Vec::new();
    for (document, (stated, credibility, date)) in sources.into_iter().enumerate() {
        let value = find_values(stated).first().context("a price")?.value.clone();
        let age = as_of.days() - date.days();
        let weight = evidence_weight(credibility, age as f64, 180.0, 1.0);
        table.row([stated.into(), value.to_string().into(), num(credibility, 2), age.into(), num(weight, 6)]);
        prices.push(claim(document, value, date, credibility));
    }
    page.table("Weight = credibility x 0.5^(age / 180) x extraction confidence", &table);
    let outcome = resolve(&prices, as_of, Weighting::Combined)?;
    page.text(format!("{outcome}. As strings, $1299 and $1,299.00 would be two values against each other."));
    page.claim("$1299 and $1,299.00 together hold 0.819420 of the evidence").close(outcome.share, 0.819_420, 1e-6);
    page.claim("that is a clear verdict on a temporal conflict")
        .equals((outcome.verdict, outcome.kind), (Verdict::Clear, Some(ConflictKind::Temporal)));
    let official = claim(0, prices[0].value.clone(), day(2022, 3, 1)?, 0.98);
    let community = claim(1, prices[1].value.clone(), day(2024, 2, 1)?, 0.60);
    let old_note = resolve(&[official, community], as_of, Weighting::Combined)?;
    page.claim("a month-old community post outweighs a two-year-old official note with a share of 0.901380").close(
        old_note.sides[0].share,
        0.901_380,
        1e-6,
    );

    page.section("240 documents with one planted contradiction a product");
    let corpus = FactCorpus::generate(FactConfig { seed: page.seed_or(13), ..FactConfig::default() })?;
    let extractor = ClaimExtractor::new(&corpus.entities, attribute_rules())?;
    let mut claims = Vec::new();
    for document in &corpus.documents {
        let date = calendar(document.date).context("a date in range")?;
        let credibility = document.kind.credibility();
        claims.extend(extractor.extract(&Source {
            document: document.id,
            date,
            credibility,
            sentences: &document.sentences,
        }));
    }
    let key = |c: &Claim| (c.document, c.sentence, c.entity.clone(), c.attribute.clone(), c.value.clone());
    let extracted: BTreeSet<_> = claims.iter().map(key).collect();
    let planted: BTreeSet<_> = (corpus.mentions.iter())
        .map(|m| {
            (
                m.document,
                m.sentence,
                corpus.entities[m.entity].clone(),
                m.attribute.noun().to_owned(),
                normal_form(&m.value),
            )
        })
        .collect();
    let right = extracted.intersection(&planted).count() as f64;
    let (precision, recall) = (right / extracted.len() as f64, right / planted.len() as f64);

    let groups = group_claims(&claims);
    let today = calendar(corpus.as_of()).context("a date in range")?;
    let mut resolutions = Vec::new();
    for group in groups.values() {
        resolutions.push(resolve(group, today, Weighting::Combined)?);
    }
    let disputed: Vec<&Resolution> = resolutions.iter().filter(|r| r.kind.is_some()).collect();
    let find = |entity: usize, attribute: &str| {
        resolutions.iter().find(|r| r.entity == corpus.entities[entity] && r.attribute == attribute)
    };
    let found: Vec<_> = (corpus.contradictions.iter())
        .filter_map(|c| Some((c, find(c.entity, c.attribute.noun()).filter(|r| r.kind.is_some())?)))
        .collect();
    let detection =
        (found.len() as f64 / disputed.len() as f64, found.len() as f64 / corpus.contradictions.len() as f64);
    let mut confusion = Table::new(["planted", "temporal", "source", "partial", "perspective", "missed"]);
    let mut agreeing = 0;
    for kind in KINDS {
        let of_kind = corpus.contradictions.iter().filter(|c| same(c.kind) == kind).count();
        let told = |as_kind| found.iter().filter(|(c, r)| same(c.kind) == kind && r.kind == Some(as_kind)).count();
        let counts = KINDS.map(told);
        agreeing += told(kind);
        let mut row = vec![format!("{kind:?}").to_lowercase().into()];
        row.extend(counts.map(Into::into));
        row.push((of_kind - counts.iter().sum::<usize>()).into());
        confusion.row(row);
    }
    page.text(format!("{} claims from {} sentences that state something.", extracted.len(), planted.len()));
    page.table("Kind of conflict, planted against found", &confusion);

    let mut accuracy = Table::new(["weighting", "temporal", "source", "both"]);
    let mut both = Vec::new();
    for weighting in [Weighting::Latest, Weighting::Authority, Weighting::Combined] {
        let mut shares = Vec::new();
        for kinds in [&KINDS[..1], &KINDS[1..2], &KINDS[..2]] {
            let (mut hits, mut all) = (0.0, 0.0);
            for c in corpus.contradictions.iter().filter(|c| kinds.contains(&same(c.kind))) {
                let group = groups.get(&(corpus.entities[c.entity].clone(), c.attribute.noun().to_owned()));
                let value = group.map(|g| resolve(g, today, weighting)).transpose()?.and_then(|r| r.value);
                hits += f64::from(u8::from(value.is_some() && value == c.truth.as_ref().map(normal_form)));
                all += 1.0;
            }
            shares.push(hits / all);
        }
        accuracy.row([
            format!("{weighting:?}").to_lowercase().into(),
            pct(shares[0], 1),
            pct(shares[1], 1),
            pct(shares[2], 1),
        ]);
        both.push(shares[2]);
    }
    page.table("Conflicts resolved to the true value", &accuracy);

    // The same values as strings: how many agreeing groups would look like conflicts?
    let sentence = |c: &Claim| corpus.documents[c.document].sentences[c.sentence].as_str();
    let written = |c: &Claim| find_values(sentence(c)).first().map_or("", |f| &sentence(c)[f.span.clone()]);
    let alike: Vec<&Vec<Claim>> = (groups.values())
        .filter(|g| g.iter().all(|c| c.value == g[0].value))
        .filter(|g| g.iter().map(written).collect::<BTreeSet<_>>().len() > 1)
        .collect();
    page.text(format!(
        "{} groups write one value in several notations; comparing strings would report each as a conflict.",
        alike.len()
    ));
    page.section("Five answers");
    let firsts = KINDS.map(|kind| disputed.iter().position(|r| r.kind == Some(kind)));
    let contested = |&i: &usize| disputed[i].verdict == Verdict::Contested && !firsts.contains(&Some(i));
    let fifth = (0..disputed.len()).find(contested);
    let shown: BTreeSet<usize> = firsts.into_iter().chain([fifth]).flatten().collect();
    for i in shown {
        let kind = disputed[i].kind.map(|kind| format!("{kind:?}")).unwrap_or_default();
        page.text(format!("{kind}: {}.", disputed[i]));
    }

    page.claim("claims extracted are stated in the corpus (precision)").at_least(precision, 0.98);
    page.claim("stated facts are extracted (recall)").at_least(recall, 0.90);
    page.claim("planted conflicts are found").at_least(detection.1, 0.90);
    page.claim("found conflicts were planted").at_least(detection.0, 0.95);
    page.claim("found conflicts get the planted kind").at_least(f64::from(agreeing as u32) / found.len() as f64, 0.90);
    page.claim("one value in several notations is no conflict")
        .all(&alike, |g| eas_retrieval::conflict::conflict_kind(g).is_none());
    page.claim("temporal and source conflicts resolve to the truth by combined weight").at_least(both[2], 0.90);
    page.claim("the combined weight is no worse than the latest or the most credible source alone")
        .at_least(both[2], both[0].max(both[1]));
    page.claim("the shares of the sides sum to 1")
        .all(&resolutions, |r| (r.sides.iter().map(|s| s.share).sum::<f64>() - 1.0).abs() < 1e-9);
    page.claim("the order of the documents does not matter").all(
        groups.values().zip(&resolutions),
        |(group, resolution)| {
            let reversed: Vec<Claim> = group.iter().rev().cloned().collect();
            resolve(&reversed, today, Weighting::Combined).is_ok_and(|r| r == *resolution)
        },
    );
    let of = |kind| found.iter().filter(move |(c, _)| c.kind == kind);
    page.claim("no opinion is collapsed into a winner, and all sides are printed")
        .all(of(ContradictionKind::Perspective), |(_, r)| {
            r.value.is_none() && r.sides.iter().all(|s| r.to_string().contains(&s.value.to_string()))
        });
    page.claim("each partial list is completed to the full set")
        .all(of(ContradictionKind::Partial), |(c, r)| r.value == c.truth.as_ref().map(normal_form));
    page.finish()
}

fn day(year: i32, month: u8, day: u8) -> anyhow::Result<Date> {
    Date::new(year, month, day).context("a calendar day")
}

fn claim(document: usize, value: Value, date: Date, credibility: f64) -> Claim {
    let (entity, attribute) = ("Ember Drone".to_owned(), "price".to_owned());
    Claim { entity, attribute, value, document, sentence: 0, date, credibility, confidence: 1.0 }
}

fn same(kind: ContradictionKind) -> ConflictKind {
    match kind {
        ContradictionKind::Temporal => ConflictKind::Temporal,
        ContradictionKind::Source => ConflictKind::Source,
        ContradictionKind::Partial => ConflictKind::Partial,
        ContradictionKind::Perspective => ConflictKind::Perspective,
    }
}
