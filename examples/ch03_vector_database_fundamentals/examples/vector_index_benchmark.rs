//! Listing 3.19: a benchmark that can tell a good index from a fake, and ways in which benchmarks lie.
//!
//! cargo run --release --example vector_index_benchmark

use std::time::{Duration, Instant};

use ch03_vector_database_fundamentals::subjects::{
    Indexed, METRIC, Stub, answers, contenders, figures, graph_config, mean_recall, noise,
};
use eas_ann::{FlatIndex, Hnsw, VectorIndex};
use eas_eval::bench::Subject;
use eas_eval::geometry::concentration;
use eas_eval::recall::pareto_front;
use eas_report::{Chart, Table, duration, num};
use eas_text::glosses::gloss_vectors;

const QUERIES: usize = 200;

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let encoder = eas_text::encoder::load(page.encoder().name())?;
    let rows = page.size(10_000, 100_000);
    let tenth = rows / 10;
    let (glosses, queries) = gloss_vectors(encoder.as_ref(), rows + tenth, QUERIES, 42)?;
    let part = |range: std::ops::Range<usize>| glosses.select(&range.collect::<Vec<_>>());
    let ids = |range: std::ops::Range<usize>| range.map(|row| row as u64).collect::<Vec<_>>();
    let stored = part(0..rows);
    let mut contenders = contenders(&stored)?;
    let truth = answers(contenders[0].index.as_ref(), &queries, 100)?;

    let mut table = Table::new(["index", "build", "@10", "@100", "p5", "p50", "p99", "verdict"]);
    let (mut reports, mut points, mut dollars) = (Vec::new(), Vec::new(), Vec::new());
    for at in 0..=contenders.len() {
        let (name, build) = contenders.get(at).map_or(("stub", Duration::ZERO), |of| (of.name, of.build));
        let indexed = contenders.get(at).map(|of| Indexed(of.index.as_ref()));
        let subject: &dyn Subject = indexed.as_ref().map_or(&Stub, |indexed| indexed);
        let of = figures(subject, &queries, &truth)?;
        let mean = of.recall.mean.mean;
        let verdict = if mean >= 0.5 { "passed" } else { "failed" };
        table.row([
            name.into(),
            duration(build),
            num(mean, 3).within(0.01),
            num(of.deep, 3).within(0.01),
            num(of.recall.p5, 1).within(0.1),
            duration(of.p50),
            duration(of.open_p99),
            verdict.into(),
        ]);
        dollars.push(format!("{name} ${:.4} ({:.2})", of.rate.usd_per_million(1.5), of.rate.in_flight()));
        points.push((of.p50.as_secs_f64() * 1e6, mean));
        reports.push((name, mean, of.ordered));
    }
    page.table("Held-out queries (p5: what 95% of them reach; p99: arrivals don't wait for answers)", &table);
    page.text(format!(
        "A million queries at $1.50 an hour (and searches in flight, two by Little's law): {}.",
        dollars.join("; ")
    ));
    let front: Vec<(f64, f64)> = pareto_front(&points).into_iter().map(|at| points[at]).collect();
    let chart = Chart::scatter("Recall and time", "microseconds a search, p50", "recall@10")
        .series("all", points.iter().copied())
        .series("Pareto front", front)
        .log_x();
    page.chart("pareto.svg", &chart)?;

    // Noise as data, and queries that are in the index: two ways to a number that means nothing.
    let (hiss, hiss_queries) = (noise(rows, stored.dim(), 1)?, noise(QUERIES, stored.dim(), 2)?);
    let mut exact = FlatIndex::new(stored.dim(), METRIC)?;
    exact.add(&ids(0..rows), &hiss)?;
    let hiss_truth = answers(&exact, &hiss_queries, 10)?;
    let mut graph = Hnsw::new(stored.dim(), METRIC, graph_config())?;
    let mut hiss_graph = graph.clone();
    hiss_graph.add(&ids(0..rows), &hiss)?;
    let mut scaling = Table::new(["rows", "distances a search, ef 50"]);
    let mut distances = Vec::new();
    for range in [0..rows / 4, rows / 4..rows / 2, rows / 2..rows] {
        graph.add(&ids(range.clone()), &part(range))?;
        let mut counted = 0;
        for query in queries.iter_rows() {
            counted += graph.search_counted(query, 10, 50, &|_| true)?.1.distance_evaluations;
        }
        distances.push(counted as f64 / QUERIES as f64);
        scaling.row([graph.len().into(), num(distances[distances.len() - 1], 0).within(40.0)]);
    }
    page.table("A growing graph", &scaling);
    let selves: Vec<usize> = (0..QUERIES).map(|row| row * rows / QUERIES).collect();
    let self_truth: Vec<Vec<u64>> = selves.iter().map(|&row| vec![row as u64]).collect();
    let selves = stored.select(&selves);
    let mut table = Table::new(["ef", "glosses", "Gaussian", "@1, held out", "@1, indexed"]);
    let mut sweep = Vec::new();
    for ef in [20, 50, 100] {
        graph.set_ef(ef)?;
        hiss_graph.set_ef(ef)?;
        let row = [
            mean_recall(&graph, &queries, &truth, 10)?,
            mean_recall(&hiss_graph, &hiss_queries, &hiss_truth, 10)?,
            mean_recall(&graph, &queries, &truth, 1)?,
            mean_recall(&graph, &selves, &self_truth, 1)?,
        ];
        table.row([ef.into()].into_iter().chain(row.map(|recall| num(recall, 3).within(0.01))));
        sweep.push(row);
    }
    page.table("HNSW (M 16, efConstruction 100): data and noise, queries held out and not", &table);
    let fifty: Vec<usize> = (0..50).collect();
    let real = concentration(&stored, &queries.select(&fifty))?.mean_to_nearest;
    let unreal = concentration(&hiss, &hiss_queries.select(&fifty))?.mean_to_nearest;

    let mut table = Table::new(["index", "@10 before", "@10 after", "an insert"]);
    let (mut truth_after, mut churned) = (Vec::new(), Vec::new());
    for (of, (_, before, _)) in contenders.iter_mut().zip(&reports) {
        of.index.remove(&ids(0..tenth))?;
        let start = Instant::now();
        of.index.add(&ids(rows..rows + tenth), &part(rows..rows + tenth))?;
        let each = start.elapsed() / tenth as u32;
        if of.name == "flat" {
            truth_after = answers(of.index.as_ref(), &queries, 10)?;
        }
        let after = mean_recall(of.index.as_ref(), &queries, &truth_after, 10)?;
        let recalls = [before, &after].map(|recall| num(*recall, 3).within(0.01));
        table.row([of.name.into()].into_iter().chain(recalls).chain([duration(each)]));
        churned.push((*before, after));
    }
    page.table("A tenth of the rows leaves, as many come", &table);

    page.claim("the stub finds nothing").at_most(reports[5].1, 0.02);
    page.claim("it fails, and every index passes")
        .all(&reports, |(name, recall, _)| (*recall >= 0.5) == (*name != "stub"));
    page.claim("flat recall").equals(reports[0].1, 1.0);
    for (at, (ef, floor)) in [(20, 0.87), (50, 0.94), (100, 0.96)].into_iter().enumerate() {
        page.claim(format!("HNSW on glosses at ef {ef}")).within(0.01).at_least(sweep[at][0], floor);
    }
    for (sentence, value, bound) in [
        ("noise at ef 100 is harder by", sweep[2][0] - sweep[2][1], 0.15),
        ("indexed queries flatter recall@1 at ef 20 by", sweep[0][3] - sweep[0][2], 0.02),
        ("glosses: mean over nearest distance", real, 1.6),
    ] {
        page.claim(sentence).within(0.03).at_least(value, bound);
    }
    page.claim("Gaussian").at_most(unreal, 1.25);
    page.claim("quantiles don't fall from one to the next").all(&reports, |report| report.2);
    page.claim("no index loses more than 0.03 by churn").all(&churned, |(before, after)| *after >= before - 0.03);
    page.claim("distances of four times the rows, over those of a quarter")
        .within(0.1)
        .less(distances[2] / distances[0], 2.0);
    page.finish()
}
