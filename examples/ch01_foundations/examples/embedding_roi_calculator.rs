//! Listing 1.16: one business case from several benefits, with and without their overlaps.
//!
//! cargo run --release --example embedding_roi_calculator

use ch01_foundations::cases::{document_review, payment_fraud, shop_search, subscriber_retention};
use eas_plan::finance::{Payback, annuity};
use eas_plan::roi::{Costs, DEFAULT_DISCOUNT, Method, RoiCase, RoiReport};
use eas_report::{Cell, Chart, Table, money, num, pct};

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let costs = Costs { implementation: 40e6, annual_operating: 12e6, annual_data: 3e6 };
    let benefits = RoiCase::new("embeddings for search, review, fraud and retention")
        .search(shop_search())
        .efficiency(document_review())
        .fraud(payment_fraud())
        .ltv(subscriber_retention());
    let case = benefits.clone().costs(costs);
    let (years, p) = (5, 0.8);
    let listed = case.evaluate(years, p, Method::AsListed)?;
    let repaired = case.evaluate(years, p, Method::NoOverlap)?;

    page.text(
        "The four benefits of listings 1.11 to 1.14 against $40 million now and $15 million a year, over five years, with a \
         probability of success of 0.8. First as the usual formulas add them up, then with each dollar counted once.",
    );
    let mut table = Table::new(["", "as listed", "no overlap"]);
    for (a, b) in listed.breakdown.iter().zip(&repaired.breakdown) {
        table.row([a.label.as_str().into(), money(a.annual), money(b.annual)]);
    }
    let mut both = |label: &str, cell: fn(&RoiReport) -> Cell| {
        table.row([label.into(), cell(&listed), cell(&repaired)]);
    };
    both("benefit a year", |report| money(report.annual_benefit));
    both("expected benefit a year", |report| money(report.expected_benefit));
    both("cost a year", |report| money(report.annual_cost));
    both("net present value", |report| money(report.npv));
    both("return on investment", |report| pct(report.roi_percent.unwrap_or(f64::NAN) / 100.0, 1));
    both("payback, years", |report| num(payback_years(report), 3));
    page.table("One case, two ways of counting", &table);
    for warning in &repaired.warnings {
        page.text(format!("Warning: {warning}."));
    }

    let mut waterfall = Chart::waterfall("From benefits to net present value, no overlap", "million $");
    let worth = annuity(DEFAULT_DISCOUNT, years)? / 1e6;
    for component in &repaired.breakdown {
        waterfall = waterfall.step(component.label.as_str(), component.annual * p * worth);
    }
    let waterfall = waterfall
        .step("running cost", -repaired.annual_cost * worth)
        .step("implementation", -costs.implementation / 1e6)
        .total("net present value");
    page.chart("waterfall.svg", &waterfall)?;
    let tornado = repaired.tornado.iter().fold(
        Chart::tornado("Each assumption 20% down and up", "net present value, $", repaired.npv),
        |chart, swing| chart.bar(swing.assumption, swing.low, swing.high),
    );
    page.chart("tornado.svg", &tornado)?;

    let mut table = Table::new(["assumption", "20% lower", "20% higher"]);
    for swing in &repaired.tornado {
        table.row([swing.assumption.into(), money(swing.low), money(swing.high)]);
    }
    page.table("Net present value (no overlap) when one assumption moves", &table);

    for (report, benefit, expected, npv, roi, payback) in [
        (&listed, 292_250_000.0, 233_800_000.0, 693_451_535.444_895, 1_733.628_839, 0.182_815),
        (&repaired, 202_618_421.052_632, 162_094_736.842_105, 453_084_371.995_909, 1_132.710_930, 0.271_934),
    ] {
        let way = if report.method == Method::AsListed { "as listed" } else { "without overlap" };
        page.claim(format!("{way}: the benefit is ${benefit} a year")).close(report.annual_benefit, benefit, 1e-5);
        page.claim(format!("{way}: the expected benefit is ${expected}")).close(
            report.expected_benefit,
            expected,
            1e-5,
        );
        page.claim(format!("{way}: the net present value is ${npv}")).close(report.npv, npv, 1e-5);
        page.claim(format!("{way}: the return is {roi}%")).close(report.roi_percent.unwrap_or(f64::NAN), roi, 1e-6);
        page.claim(format!("{way}: it pays back in {payback} years")).close(payback_years(report), payback, 1e-6);
        let sum: f64 = report.breakdown.iter().map(|component| component.annual).sum();
        page.claim(format!("{way}: the breakdown adds up")).close(sum / report.annual_benefit, 1.0, 1e-9);
        page.claim(format!("{way}: so good a case raises both warnings")).equals(report.warnings.len(), 2);
    }
    let nothing = RoiCase::new("no benefit").costs(costs).evaluate(years, p, Method::NoOverlap)?;
    page.claim("without benefits the value is minus the cost").close(
        nothing.npv,
        -costs.implementation - 15e6 * annuity(DEFAULT_DISCOUNT, years)?,
        1e-6,
    );
    let twice = case.search(shop_search()).evaluate(years, p, Method::NoOverlap)?;
    page.claim("a second search benefit adds to the first rather than replacing it").close(
        twice.annual_benefit - repaired.annual_benefit,
        100e6,
        1e-6,
    );
    page.claim("a case without costs is refused")
        .fails(benefits.evaluate(years, p, Method::NoOverlap), "costs is missing");
    page.finish()
}

fn payback_years(report: &RoiReport) -> f64 {
    match report.payback {
        Payback::Years(years) => years,
        Payback::Never => f64::INFINITY,
    }
}
