//! Listing 4.17: what a hundred billion embeddings cost to own, and how little of it depends on their dimension.
//!
//! cargo run --release --example embedding_tco_calculator

use eas_plan::tco::{EXAMPLE_QUALITY, Optimum, Prices, Requirements};
use eas_report::{Chart, Table, money, num, pct};

const GB: f64 = 1e9;

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let prices = Prices::default();
    let year = Requirements::hundred_billion();
    let (one, three) = (year.tco(&prices)?, Requirements { years: 3.0, ..year }.tco(&prices)?);
    page.text(
        "100 billion embeddings of 768 f32 values, half as much again for the index, three copies; 10,000 queries a second; four \
         trainings a year of 10 GPU hours a million items; ten engineers at an assumed $200,000.",
    );
    let mut table = Table::new(["dollars", "one year", "three years", "share"]);
    for (name, a, b) in [
        ("storage", one.storage, three.storage),
        ("training", one.training, three.training),
        ("inference", one.inference, three.inference),
        ("without the team", one.total() - one.team, three.total() - three.team),
        ("team", one.team, three.team),
        ("total", one.total(), three.total()),
    ] {
        table.row([name.into(), money(a), money(b), pct(b / three.total(), 1)]);
    }
    page.table("What it costs to own", &table);
    page.text(format!(
        "The book's $47M a year is the {} million of three years, and leaves the team out.",
        num((three.total() - three.team) / 1e6, 1).text()
    ));

    page.section("What the dimension changes");
    let mut table =
        Table::new(["dimension", "bytes a value", "storage a year", "total a year", "storage saved", "total saved"]);
    let (mut storage, mut totals) = (Vec::new(), Vec::new());
    for (dim, bytes) in [(128.0, 4.0), (256.0, 4.0), (384.0, 4.0), (512.0, 4.0), (768.0, 4.0), (256.0, 1.0)] {
        let tco = Requirements { dim, bytes_per_value: bytes, ..year }.tco(&prices)?;
        let saved = [pct(1.0 - tco.storage / one.storage, 1), pct(1.0 - tco.total() / one.total(), 2)];
        let cells = [num(dim, 0), num(bytes, 0), money(tco.storage), money(tco.total())];
        table.row(cells.into_iter().chain(saved));
        storage.push(tco.storage);
        totals.push(tco.total());
    }
    page.table("Smaller vectors, everything else unchanged", &table);
    page.text(
        "The model is the listing's: training and queries cost the same at any dimension. Real ones get cheaper too, so that 1.9% is the \
         least that smaller vectors save.",
    );
    let swings = year.sensitivity(&prices, 0.5)?;
    let tornado =
        swings.iter().fold(Chart::tornado("Each alone 50% down and up", "$ a year", one.total()), |chart, swing| {
            chart.bar(swing.assumption, swing.low, swing.high)
        });
    page.chart("tornado.svg", &tornado)?;
    let mut table = Table::new(["alone 50% down and up", "down", "up"]);
    for swing in &swings {
        table.row([swing.assumption.into(), money(swing.low), money(swing.high)]);
    }
    page.table("What moves the total", &table);

    page.section("What a budget buys");
    let mut table = Table::new(["budget a year", "dimension", "quality", "total"]);
    let mut chosen = Vec::new();
    for budget in [17.20e6, 17.25e6, 17.30e6, 17.35e6, 17.40e6, 17.60e6] {
        let optimum = year.optimize(&prices, budget, &EXAMPLE_QUALITY)?;
        match optimum {
            Optimum::Best { dim, quality, total } => {
                table.row([money(budget), num(dim, 0), num(quality, 3), money(total)]);
            }
            Optimum::InsufficientBudget { minimum } => {
                table.row([
                    money(budget),
                    "none".into(),
                    "-".into(),
                    format!("needs {}", money(minimum).text()).into(),
                ]);
            }
        }
        chosen.push(optimum);
    }
    page.table("The best quality that is affordable, by the book's quality table", &table);
    let points = EXAMPLE_QUALITY.iter().zip(&totals).map(|(&(_, quality), &total)| (total / 1e6, quality));
    let frontier =
        Chart::lines("Quality for money", "million $ a year", "quality").series("dimension 128 to 768", points);
    page.chart("budget.svg", &frontier)?;

    // The listing divides by 2^30 and calls it GB; a provider who bills GB of 1e9 bytes sends a larger bill.
    let month = [1024f64.powi(3), GB].map(|unit| year.stored_bytes() / unit * prices.storage_gib_month);
    for (sentence, value, expected) in [
        ("storage, three years", three.storage, 1_066_017.15),
        ("training", three.training, 36_000_000.0),
        ("inference", three.inference, 9_460_800.0),
        ("these three", three.total() - three.team, 46_526_817.15),
        ("team", three.team, 6_000_000.0),
        ("total, three years", three.total(), 52_526_817.15),
        ("total, one year", one.total(), 17_508_939.05),
        ("storage a year at 128", storage[0], 59_223.18),
        ("at 256", storage[1], 118_446.35),
        ("at 384", storage[2], 177_669.53),
        ("at 512", storage[3], 236_892.70),
        ("at 768", storage[4], 355_339.05),
        ("at 256 in int8", storage[5], 29_611.59),
        ("a month at 768 billed in GiB", month[0], 29_611.59),
        ("and in GB", month[1], 31_795.20),
    ] {
        page.claim(sentence).close(value, expected, 0.0051);
    }
    page.claim("256 values in int8 need a twelfth of the storage").close(storage[5], storage[4] / 12.0, 1e-6);
    page.claim("and save this share of the total").close(1.0 - totals[5] / totals[4], 0.0186, 5e-5);
    page.claim("training is the largest part")
        .all([three.storage, three.inference, three.team], |c| c < three.training);
    page.claim("of prices and quantities, that of storage moves the total least").equals(
        swings.iter().rev().take(3).map(|swing| (swing.high - swing.low).round()).collect::<Vec<_>>(),
        [storage[4].round(); 3],
    );
    page.claim("17.3 million buy 256 values").all(
        &chosen[2..3],
        |optimum| matches!(optimum, Optimum::Best { dim: 256.0, total, .. } if (total - 17_272_046.35).abs() < 0.01),
    );
    page.claim("17.2 million buy nothing, and the answer says what is needed").all(
        &chosen[..1],
        |optimum| matches!(optimum, Optimum::InsufficientBudget { minimum } if (minimum - 17_212_823.18).abs() < 0.01),
    );
    page.claim("a negative price is refused")
        .fails(year.tco(&Prices { gpu_hour: -3.0, ..prices }), "price of a GPU is -3, must be zero or more");
    page.finish()
}
