//! Listing 3.5: flat, IVF, HNSW, LSH and PQ on the same vectors, measured.
//!
//! cargo run --release --example index_structure_shootout

use ch03_vector_database_fundamentals::shootout::{Entry, grown, shootout};
use eas_data::synth::{manifold, manifold_queries};
use eas_report::{Chart, Listing, Table, duration, num};
use eas_text::glosses::gloss_vectors;

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let seed = page.seed();
    // As many as FAISS was measured with.
    let n = 20_000;
    let (vectors, queries) = (manifold(seed, n, 32, 8, 0.02), manifold_queries(seed, 200, 32, 8, 0.02));
    let entries = shootout(&vectors, &queries, seed, false)?;
    show(&mut page, &format!("{n} points of a sheet of 8 dimensions in 32"), "manifold.svg", &entries)?;

    let encoder = eas_text::encoder::load(page.encoder().name())?;
    let (glosses, asked) = gloss_vectors(encoder.as_ref(), page.size(10_000, 50_000), 200, seed)?;
    let on_glosses = shootout(&glosses, &asked, seed, true)?;
    show(&mut page, &format!("{} glosses of WordNet", glosses.rows()), "glosses.svg", &on_glosses)?;

    // How the work grows with the collection: the exponent of a power law through three sizes.
    let mut table = Table::new(["family", "n / 8", "n / 4", "n / 2", "exponent"]);
    let sizes = [n / 8, n / 4, n / 2];
    let mut exponents = Vec::new();
    let growth: Vec<Vec<Entry>> = sizes
        .iter()
        .map(|&size| grown(&vectors.select(&(0..size).collect::<Vec<_>>()), &queries, seed))
        .collect::<anyhow::Result<_>>()?;
    for (nth, first) in growth[0].iter().enumerate() {
        let counts: Vec<f64> = growth.iter().map(|entries| entries[nth].evaluations).collect();
        let points: Vec<(f64, f64)> = sizes.iter().map(|&s| s as f64).zip(counts.iter().copied()).collect();
        let exponent = eas_eval::fit::fit_power(&points)?.slope;
        exponents.push((first.family, exponent));
        let mut row = vec![format!("{} {}", first.family, first.setting).into()];
        row.extend(counts.iter().map(|&count| num(count, 0).within(0.03 * count)));
        row.push(num(exponent, 2).within(0.05));
        table.row(row);
    }
    page.table("Evaluations a query by size", &table);

    let at = |setting: &str| entries.iter().find(|e| e.setting == setting).map_or(f64::NAN, |e| e.recall);
    page.claim("flat finds everything").equals(at("all"), 1.0);
    for (nprobe, expected) in [(1, 0.433), (4, 0.805), (8, 0.937), (16, 0.996)] {
        page.claim(format!("IVF with {nprobe} of 128 lists finds what FAISS finds")).within(0.02).close(
            at(&format!("nprobe {nprobe}")),
            expected,
            0.06,
        );
    }
    page.claim("all 128 lists are exact").equals(at("nprobe 128"), 1.0);
    page.claim("HNSW at ef 64 finds at least 98 %").within(0.005).at_least(at("ef 64"), 0.98);
    page.claim("8 hash tables of 8 bits find at least 85 %").within(0.02).at_least(at("8 tables x 8 bits"), 0.85);
    page.claim("16 of 12 bits as well").within(0.02).at_least(at("16 tables x 12 bits"), 0.85);
    page.claim("and scan less than three fifths as much")
        .within(0.05)
        .at_most(evaluations(&entries, "16 tables x 12 bits") / evaluations(&entries, "8 tables x 8 bits"), 0.6);
    page.claim("more tables never lower recall").all(
        [("8 tables x 8 bits", "16 tables x 8 bits"), ("16 tables x 12 bits", "32 tables x 12 bits")],
        |(few, many)| at(many) >= at(few),
    );
    page.claim("PQ of 8 parts finds 70.8 %").within(0.02).close(at("m 8"), 0.708, 0.05);
    page.claim("PQ of 16 parts 90.5 %").within(0.02).close(at("m 16"), 0.905, 0.05);
    let bytes = |setting: &str| entries.iter().find(|e| e.setting == setting).map_or(0, |e| e.bytes);
    page.claim("PQ takes m n bytes and its codebooks, flat 4 d n")
        .equals((bytes("m 8"), bytes("all")), (8 * n + 256 * 32 * 4, 4 * 32 * n));
    let good = entries.iter().filter(|e| e.recall >= 0.95);
    let least = good.min_by(|a, b| a.evaluations.total_cmp(&b.evaluations)).map_or("none", |e| e.family);
    page.claim("of all that find 95 %, HNSW evaluates least").equals(least, "HNSW");
    page.claim("a flat scan grows with n").close(exponents[0].1, 1.0, 1e-9);
    page.claim("HNSW far slower than n").within(0.05).at_most(exponents[2].1, 0.35);
    page.finish()
}

fn evaluations(entries: &[Entry], setting: &str) -> f64 {
    entries.iter().find(|e| e.setting == setting).map_or(f64::NAN, |e| e.evaluations)
}

/// A table and a chart of recall against evaluations.
fn show(page: &mut Listing, title: &str, file: &str, entries: &[Entry]) -> anyhow::Result<()> {
    let mut table = Table::new(["family", "setting", "build", "MB", "evaluations", "recall@10", "p50", "p99"]);
    for e in entries {
        let quantile = |q: usize| duration(e.times[(e.times.len() * q).div_ceil(100) - 1]);
        table.row([
            e.family.into(),
            e.setting.as_str().into(),
            duration(e.build),
            num(e.bytes as f64 / 1e6, 2).within(0.02 * e.bytes as f64 / 1e6),
            num(e.evaluations, 0).within(0.03 * e.evaluations),
            num(e.recall, 3).within(0.02),
            quantile(50),
            quantile(99),
        ]);
    }
    page.table(title, &table);
    let mut chart = Chart::lines(format!("Recall and work, {title}"), "evaluations a query", "recall@10").log_x();
    for family in ["flat", "IVF", "HNSW", "LSH", "PQ"] {
        let points = entries.iter().filter(|e| e.family == family).map(|e| (e.evaluations, e.recall));
        chart = chart.series(family, points.collect::<Vec<_>>());
    }
    page.chart(file, &chart)?;
    Ok(())
}
