//! Listing 6.13: verification in stages. A loose cheap stage proposes, a strict one with other evidence decides, and people see what is left;
//! every threshold is calibrated.
//!
//! cargo run --release --example multi_stage_verification

use std::fmt::Write as _;

use ch06_siamese_networks::enrolment::{ENROLLED, Enrolment, Query, SHIFTS, TEMPLATES, surest, top};
use ch06_siamese_networks::glyph_net::{Loss, glyph_encoder};
use eas_ann::{FlatIndex, Metric, VectorIndex};
use eas_data::synth::glyphs::Glyphs;
use eas_eval::classification::roc_auc;
use eas_report::{Chart, Table, num, pct};
use eas_retrieval::RetrievalError;
use eas_retrieval::verification::{Band, PipelineStats, Verdict, VerificationPipeline, first_threshold};

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let seed = page.seed_or(13);
    let glyphs = Glyphs::new(seed);
    let encoder = glyph_encoder(&glyphs, 0..120, Loss::BatchHard, page.size(250, 400), seed)?;
    let Enrolment { templates, queries } = Enrolment::new(&glyphs, &encoder)?;
    let (calibration, held_out): (Vec<_>, Vec<_>) = queries.iter().enumerate().partition(|(i, _)| i % 2 == 0);
    let [calibration, held_out] =
        [calibration, held_out].map(|half| half.into_iter().map(|(_, q)| q).collect::<Vec<&Query>>());

    page.section("What each stage knows");
    let mut table = Table::new(["stage", "compares", "class is nearest", "genuine over impostor, AUC"]);
    let mut known = Vec::new();
    for (name, of) in
        [("1: one template", (|q| &q.first) as fn(&Query) -> &Vec<f64>), ("2: five, nine shifts", |q| &q.second)]
    {
        let tops: Vec<(u32, f64)> = queries.iter().map(|q| top(of(q))).collect();
        let genuine: Vec<bool> = queries.iter().map(|q| q.class.is_some()).collect();
        let right = tops.iter().zip(&queries).filter(|((class, _), q)| q.class == Some(*class)).count();
        let share = right as f64 / genuine.iter().filter(|g| **g).count() as f64;
        let auc = roc_auc(&tops.iter().map(|t| t.1).collect::<Vec<_>>(), &genuine)?;
        let pairs = if known.is_empty() { 1 } else { TEMPLATES * SHIFTS };
        table.row([name.into(), pairs.into(), num(share, 3).within(0.04), num(auc, 3).within(0.04)]);
        known.push((share, auc));
    }
    page.table("1,000 queries of 50 enrolled classes, 960 of 30 others", &table);

    page.section("Thresholds from one half of the queries");
    let (mut similarities, mut is_true) = (Vec::new(), Vec::new());
    for query in calibration.iter().filter(|q| q.class.is_some()) {
        similarities.extend(&query.first);
        is_true.extend(ENROLLED.map(|class| query.class == Some(class)));
    }
    let t1 = first_threshold(&similarities, &is_true, 0.95)?;
    // Stage 2's best candidate of each query that has one, and whether it is right.
    let judged = |q: &&Query| {
        let passed = q.second.iter().zip(&q.first).map(|(s, f)| if *f >= t1 { *s } else { f64::NEG_INFINITY });
        let (class, score) = top(&passed.collect::<Vec<f64>>());
        score.is_finite().then_some((score, q.class == Some(class)))
    };
    let (scores, right): (Vec<f64>, Vec<bool>) = calibration.iter().filter_map(judged).unzip();
    let band = Band::calibrate(&scores, &right, 0.95, 0.10)?;
    page.text(format!(
        "Stage 1 keeps 95% of the true classes from a similarity of {t1:.2} on. Stage 2 is right in 95% of its matches from {:.2} on, and in \
         at most 10% below {:.2}.",
        band.accept, band.review,
    ));

    page.section("The other half");
    let mut index = FlatIndex::new(64, Metric::Cosine)?;
    index.add(&ENROLLED.map(u64::from).collect::<Vec<_>>(), &templates)?;
    let second =
        |q: &Query, id: u64| -> Result<f64, RetrievalError> { Ok(q.second[id as usize - ENROLLED.start as usize]) };
    let again =
        |q: &Query, id: u64| -> Result<f64, RetrievalError> { Ok(q.first[id as usize - ENROLLED.start as usize]) };
    let run = |t1: f64, band: Band, scorer: &Scorer<'_>| -> anyhow::Result<(Vec<Verdict>, PipelineStats)> {
        let mut pipeline = VerificationPipeline::new(index.clone(), scorer, 100, t1, band)?;
        let verdicts = held_out.iter().map(|q| pipeline.verify(&q.embedding, *q)).collect::<Result<_, _>>()?;
        Ok((verdicts, pipeline.stats()))
    };
    let (verdicts, stats) = run(t1, band, &second)?;
    let (_, book) = run(0.7, Band { accept: 0.9, review: 0.7 }, &again)?;
    let mut table =
        Table::new(["queries", "matched, right", "matched, wrong", "review", "no match, stage 1", "stage 2"]);
    let mut counts = Vec::new();
    for (name, genuine) in [("enrolled", true), ("not enrolled", false)] {
        let mut count = [0_usize; 5];
        for (query, verdict) in held_out.iter().zip(&verdicts).filter(|(q, _)| q.class.is_some() == genuine) {
            count[match verdict {
                Verdict::Match { id, .. } if query.class.map(u64::from) == Some(*id) => 0,
                Verdict::Match { .. } => 1,
                Verdict::Review { .. } => 2,
                Verdict::NoMatch { stage: 1 } => 3,
                Verdict::NoMatch { .. } => 4,
            }] += 1;
        }
        table.row([name.into()].into_iter().chain(count.map(|n| num(n as u64, 0).within(25.0))));
        counts.push(count);
    }
    page.table("Verdicts", &table);
    let total = |kind: usize| counts[0][kind] + counts[1][kind];
    let (matched, reviewed) = (total(0) + total(1), total(2));
    let precision = total(0) as f64 / matched as f64;
    // As many by stage 1 alone; and a fifth by each, for how many t2 admits hangs on few errors, and of very few both are sure.
    let alone = || held_out.iter().map(|q| (top(&q.first).1, q.class == Some(top(&q.first).0))).collect();
    let precision_alone = surest(alone(), matched);
    let fifth = held_out.len() / 5;
    let fifths = [surest(held_out.iter().filter_map(judged).collect(), fifth), surest(alone(), fifth)];
    let genuine = || held_out.iter().filter_map(|q| Some((q, q.class?)));
    let kept = genuine().filter(|(q, class)| q.first[(class - ENROLLED.start) as usize] >= t1).count();
    let kept = kept as f64 / genuine().count() as f64;
    let exhaustive = stats.candidates_1 as f64 / (stats.queries * 50) as f64;
    let of_all = |n: u64| n as f64 / stats.queries as f64;
    let mut table =
        Table::new(["measure", "calibrated, two kinds of evidence", "0.7 and 0.9, one similarity read twice"]);
    let share = |x: f64| pct(x, 0).within(0.05);
    let row = |of: fn(&PipelineStats) -> u64| [of(&stats), of(&book)].map(|n| share(of_all(n)));
    table.row(["matched".into()].into_iter().chain(row(|s| s.matches_2)));
    table.row(["refused".into()].into_iter().chain(row(|s| s.no_match_1 + s.rejects_2)));
    table.row(["left to people".into()].into_iter().chain(row(|s| s.reviews)));
    page.table("Shares of the queries", &table);
    page.text(format!(
        "{:.1} of 50 candidates a query reach stage 2. Of its matches {:.0}% are right, of as many by stage 1 alone {:.0}%; 95% were asked for, \
         and small samples flatter. Of the fifth of the queries that each is surest of, stage 2 has {:.0}% right and stage 1 {:.0}%. Most of this \
         hard set needs people, and the pipeline says so.",
        stats.candidates_1 as f64 / stats.queries as f64,
        100.0 * precision,
        100.0 * precision_alone,
        100.0 * fifths[0],
        100.0 * fifths[1],
    ));
    let mut queue = "query,candidate,confidence,reason\n".to_owned();
    for (number, verdict) in verdicts.iter().enumerate() {
        if let Verdict::Review { id, confidence, reason } = verdict {
            writeln!(queue, "{number},{id},{confidence:.4},{reason}")?;
        }
    }
    std::fs::write(page.out_dir()?.join("review.csv"), queue)?;
    let mut sweep = Vec::new();
    for step in 0..=20 {
        let accept = band.review + f64::from(step) / 20.0 * (1.0 - band.review);
        let (_, stats) = run(t1, Band { accept, ..band }, &second)?;
        sweep.push((accept, stats.matches_2, stats.reviews));
    }
    let chart = Chart::lines("What is accepted, and what is left to people", "t2", "queries");
    let chart = chart.series("matched", sweep.iter().map(|s| (s.0, s.1)));
    page.chart("t2.svg", &chart.series("left to people", sweep.iter().map(|s| (s.0, s.2))))?;
    let outside = |verdict: &&Verdict| match verdict {
        Verdict::Match { confidence, .. } => *confidence < band.accept,
        Verdict::Review { confidence, .. } => !(band.review..band.accept).contains(confidence),
        Verdict::NoMatch { .. } => false,
    };

    page.claim("stage 2 names the class more often, by .08").within(0.04).at_least(known[1].0 - known[0].0, 0.08);
    page.claim("and tells enrolled from others better, by .05").within(0.04).at_least(known[1].1 - known[0].1, 0.05);
    page.claim("every query has one verdict").equals((0..5).map(total).sum::<usize>(), held_out.len());
    page.claim("verdicts outside their band").equals(verdicts.iter().filter(outside).count(), 0);
    page.claim("the true class passes stage 1").within(0.03).at_least(kept, 0.90);
    page.claim("share of all pairs that stage 2 compares").within(0.05).at_most(exhaustive, 0.40);
    page.claim("automatic matches are right").within(0.06).at_least(precision, 0.80);
    page.claim("no less often than as many by stage 1").within(0.08).at_least(precision - precision_alone, 0.0);
    page.claim("of a fifth more often than stage 1, by .15").within(0.08).at_least(fifths[0] - fifths[1], 0.15);
    page.claim("raising t2 never adds a match").all(sweep.windows(2), |w| w[1].1 <= w[0].1);
    let counted = reviewed as f64 / held_out.len() as f64;
    page.claim("the review rate is reviews over queries").close(stats.review_rate() - counted, 0.0, 1e-12);
    page.finish()
}

type Scorer<'a> = dyn Fn(&Query, u64) -> Result<f64, RetrievalError> + 'a;
