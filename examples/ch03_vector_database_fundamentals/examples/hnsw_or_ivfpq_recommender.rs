//! Listing 3.12: recommend only an index that was measured to meet the requirement, or say what is lacking.
//!
//! cargo run --release --example hnsw_or_ivfpq_recommender

use ch03_vector_database_fundamentals::profiles::{
    decision_map, measure_profiles, random_requirements, twelve_requirements,
};
use eas_plan::index_choice::{IndexKind, LISTED, LISTED_HNSW, LISTED_IVFPQ, Profile, as_listed, recommend};
use eas_report::{Chart, Table, num};
use eas_text::glosses::gloss_vectors;

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let encoder = eas_text::encoder::load(page.encoder().name())?;
    let (vectors, queries) = gloss_vectors(encoder.as_ref(), page.size(10_000, 100_000), 200, 42)?;
    let measured = page.timed("measure six indexes", || measure_profiles(&vectors, &queries))?;
    let profiles: Vec<Profile> = measured.iter().map(|index| index.profile).collect();
    page.text(
        "Recall and bytes are measured on glosses. Latency and updates are counted work (values, code bytes, disk reads) at stated speeds, \
         for a machine with a million vectors of 768 values, so that the same choice is made everywhere.",
    );
    let mut table = Table::new(["index", "bytes a vector", "recall@10", "p99, ms", "updates a second"]);
    for index in &measured {
        let of = index.profile;
        table.row([
            of.kind.name().into(),
            num(index.bytes, 1).within(2.0),
            num(of.recall_max, 4).within(0.01),
            num(of.p99_ms, 1).within(0.1 * of.p99_ms),
            num(of.update_rate_max, 0).within(0.1 * of.update_rate_max),
        ]);
    }
    page.table("Measured on glosses", &table);

    let mut table = Table::new(["requirement", "as listed", "here", "because"]);
    let mut broken = 0;
    for (name, need) in &twelve_requirements() {
        let book = as_listed(need)?;
        let listed = profiles.iter().find(|profile| Some(profile.kind) == book);
        broken += usize::from(listed.is_some_and(|profile| !profile.shortfalls(need).is_empty()));
        let (here, because) = match recommend(need, &profiles)? {
            Ok(choice) => (choice.kind.name(), choice.params.to_owned()),
            Err(not) => {
                let respects = if not.shortfalls.len() == 1 { "one respect" } else { "more" };
                let machines = not.machines_needed.map(|n| format!(", {n} times the memory would do"));
                let nearest = not.nearest.name();
                let because = format!("{nearest} falls short in {respects}{}", machines.unwrap_or_default());
                ("nothing", because)
            }
        };
        let book = book.map_or("no rule applies", IndexKind::name);
        table.row([(*name).into(), book.into(), here.into(), because.into()]);
    }
    page.table("Twelve requirements (100 billion vectors, recall 0.95 in 80 ms but for what is said)", &table);
    page.text(format!(
        "By the profiles, {broken} of the listed answers miss the requirement that they answer. For the first one:"
    ));
    if let Ok(choice) = recommend(&LISTED, &profiles)? {
        for reason in &choice.reasons {
            page.text(format!("  {reason}"));
        }
    }
    let chart = Chart::scatter("100 billion vectors in 80 ms", "GiB of memory", "recall@10 required");
    let chart = decision_map(&profiles)?
        .into_iter()
        .fold(chart.log_x(), |chart, (kind, points)| chart.series(kind.name(), points));
    page.chart("decision_map.svg", &chart)?;

    let outcomes = random_requirements(&profiles, page.seed())?;
    let of = |kind| {
        let index = measured.iter().find(|index| index.profile.kind == kind);
        index.ok_or_else(|| anyhow::anyhow!("{kind:?} was not measured"))
    };
    let (hnsw, ivfpq) = (of(IndexKind::Hnsw)?, of(IndexKind::IvfPq)?);
    let ours = recommend(&LISTED, &profiles)?.ok().map(|choice| choice.kind);
    let raw = LISTED.raw_gib();
    for (sentence, value, expected) in [
        ("GiB of 100 billion vectors", raw, 286_102.295),
        ("HNSW, as listed", LISTED_HNSW * raw, 486_373.901),
        ("IVF-PQ, as listed", LISTED_IVFPQ * raw, 8_583.069),
        ("below which the listed ladder takes IVF-PQ", 0.3 * LISTED_HNSW * raw, 145_912.170),
    ] {
        page.claim(sentence).close(value, expected, 1e-3);
    }
    page.claim("the listed answer to its own example").equals(as_listed(&LISTED)?, Some(IndexKind::IvfPq));
    page.claim("which was measured to miss its recall").less(ivfpq.profile.recall_max, LISTED.recall);
    page.claim("the answer here").equals(ours, Some(IndexKind::IvfPqRerank));
    page.claim("no choice for 10,000 requirements breaks one")
        .all(&outcomes, |outcome| outcome.is_none_or(|(kept, _)| kept));
    page.claim("more memory never takes a choice away")
        .all(&outcomes, |outcome| outcome.is_none_or(|(_, still)| still));
    let met = outcomes.iter().flatten().count() as f64 / outcomes.len() as f64;
    page.claim("about half of them can be met").within(0.01).between(met, 0.4, 0.6);
    page.claim("HNSW finds more than IVF-PQ").greater(hnsw.profile.recall_max, ivfpq.profile.recall_max);
    page.claim("IVF-PQ takes less than a tenth of HNSW's bytes").less(ivfpq.bytes / hnsw.bytes, 0.10);
    page.finish()
}
