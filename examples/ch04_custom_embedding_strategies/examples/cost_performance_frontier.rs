//! Listing 4.18: dimension, quantization and index, each combination measured, priced, and reduced to the frontier.
//!
//! cargo run --release --example cost_performance_frontier

use std::time::{Duration, Instant};

use ch04_custom_embedding_strategies::configurations::Built;
use ch04_custom_embedding_strategies::neighbours::prefix;
use eas_eval::bench::Quantiles;
use eas_plan::frontier::{
    Config, Layout, Measured, Precision, Search, by_cost_and_recall, by_cost_recall_and_latency, cheapest,
};
use eas_plan::tco::Prices;
use eas_report::{Chart, Table, duration, num};
use eas_tensor::kernels::dot_rows;
use eas_tensor::projection::Projection;
use eas_tensor::top_k;
use eas_text::glosses::gloss_vectors;

const K: usize = 10;
const VECTORS: f64 = 1e8;

fn main() -> anyhow::Result<()> {
    use Layout::Scalar;

    let mut page = eas_report::listing!();
    let prices = Prices::default();
    let annual = |dim, layout| Config { dim, layout }.annual_cost(VECTORS, 3.0, &prices);
    let listed = Config::all(&[128, 256, 384, 512, 768, 1024]);
    page.text(format!(
        "Six dimensions, four precisions and four indexes are 96 combinations on paper. Product codes take the place of a precision, \
         so that {} can exist.",
        listed.len()
    ));

    let encoder = eas_text::encoder::load(page.encoder().name())?;
    let (stored, asked) = gloss_vectors(encoder.as_ref(), page.size(4_000, 20_000), 200, page.seed())?;
    let full = stored.dim();
    let exact: Vec<Vec<usize>> =
        asked.iter_rows().map(|query| top_k(&dot_rows(query, &stored), K).iter().map(|hit| hit.id).collect()).collect();
    let rotation = Projection::uncentred(&stored, full)?;
    let (rotated, queries) = (rotation.apply(&stored)?, rotation.apply(&asked)?);
    let dims = [32, 64, 128, 256].map(|dim: usize| dim.min(full));
    let mut measured = Vec::new();
    let mut p50 = Vec::new();
    let configs = Config::all(&dims);
    for &config in &configs {
        let (mut rows, mut short) = (prefix(&rotated, config.dim)?, prefix(&queries, config.dim)?);
        rows.normalize_rows();
        short.normalize_rows();
        let built = Built::new(config, &rows, page.seed())?;
        let (mut times, mut found): (Vec<Duration>, usize) = (Vec::new(), 0);
        for (query, exact) in short.iter_rows().zip(&exact) {
            let start = Instant::now();
            let ids = built.search(query, K)?;
            times.push(start.elapsed());
            found += exact.iter().filter(|id| ids.contains(id)).count();
        }
        let quantiles = Quantiles::of(&times)?;
        p50.push(quantiles.p50);
        measured.push(Measured {
            config,
            cost: config.annual_cost(VECTORS, 3.0, &prices)?,
            recall: found as f64 / (K * exact.len()) as f64,
            p99_us: quantiles.p99.as_secs_f64() * 1e6,
        });
    }
    let front = by_cost_and_recall(&measured)?;
    let mut table = Table::new(["configuration", "bytes", "$ a year", "recall@10", "p50", "p99"]);
    for (at, m) in measured.iter().enumerate() {
        table.row([
            m.config.to_string().into(),
            num(m.config.bytes_per_vector(), 0),
            num(m.cost, 2),
            num(m.recall, 3).within(0.01),
            duration(p50[at]),
            duration(Duration::from_secs_f64(m.p99_us / 1e6)),
        ]);
    }
    page.table("100M vectors, three copies; IVF and HNSW walk the decoded values, flat bits use popcount", &table);
    let point = |at: &usize| (measured[*at].cost, measured[*at].recall);
    let chart = Chart::scatter("52 configurations", "dollars a year for 100M vectors", "recall@10")
        .log_x()
        .series("all", measured.iter().map(|m| (m.cost, m.recall)))
        .series("cost and recall", front.iter().map(point));
    page.chart("frontier.svg", &chart)?;
    let three = by_cost_recall_and_latency(&measured)?;
    page.text(format!("{} are on the frontier of cost and recall, {} with p99 as a third.", front.len(), three.len()));
    for target in [0.9, 0.99] {
        let choice =
            cheapest(&measured, target).map_or("none".to_owned(), |m| format!("{} at ${:.2}", m.config, m.cost));
        page.text(format!("Cheapest with a recall of {target}: {choice}."));
    }

    let recall = |dim: usize, layout: Layout| {
        measured.iter().find(|m| m.config == Config { dim, layout }).map_or(f64::NAN, |m| m.recall)
    };
    let beaten = |own: &Measured, with_time: bool| {
        measured.iter().any(|o| {
            let no_worse = o.cost <= own.cost && o.recall >= own.recall && (!with_time || o.p99_us <= own.p99_us);
            no_worse && (o.cost < own.cost || o.recall > own.recall || (with_time && o.p99_us < own.p99_us))
        })
    };
    for (dim, layout, expected) in [
        (768, Scalar(Precision::F32, Search::Flat), 236.89),
        (768, Scalar(Precision::F32, Search::Hnsw), 247.38),
        (768, Scalar(Precision::F16, Search::Flat), 118.45),
        (768, Scalar(Precision::Int8, Search::Flat), 59.22),
        (768, Scalar(Precision::Binary, Search::Flat), 7.40),
        (384, Scalar(Precision::F32, Search::Hnsw), 128.93),
    ] {
        let config = Config { dim, layout };
        page.claim(format!("a year of {config}, dollars")).close(annual(dim, layout)?, expected, 0.01);
    }
    let (bits, short) =
        (recall(dims[3], Scalar(Precision::Binary, Search::Flat)), recall(32, Scalar(Precision::F32, Search::Flat)));
    page.claim("78 of the book's 96 combinations can exist").equals(listed.len(), 78);
    page.claim("52 are measured here").equals(measured.len(), 52);
    page.claim("all values in full find every neighbour")
        .at_least(recall(dims[3], Scalar(Precision::F32, Search::Flat)), 0.999);
    page.claim("int8 loses next to nothing").at_least(recall(dims[3], Scalar(Precision::Int8, Search::Flat)), 0.97);
    page.claim("256 bits find more than 32 floats, in a quarter of the bytes").greater(bits, short);
    page.claim("recall rises along the frontier")
        .all(front.windows(2), |p| measured[p[0]].recall < measured[p[1]].recall);
    let others = (0..measured.len()).filter(|at| !three.contains(at)).all(|at| beaten(&measured[at], true));
    page.claim("everything off the frontier of three is beaten").equals(others, true);
    page.claim("and nothing on it").equals(three.iter().any(|&at| beaten(&measured[at], true)), false);
    page.claim("so are 32 floats, already by cost and recall").equals(
        measured
            .iter()
            .filter(|m| m.config == Config { dim: 32, layout: Scalar(Precision::F32, Search::Flat) })
            .all(|m| beaten(m, false)),
        true,
    );
    page.finish()
}
