//! Listing 1.11: what better search is worth, without counting a sale twice.
//!
//! cargo run --release --example search_roi

use ch01_foundations::cases::shop_search;
use eas_plan::roi::search::{required_conversion, search_roi, sensitivity};
use eas_report::{Chart, Table, money, num, pct};
use eas_tensor::rng::SplitMix64;

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let plan = shop_search();
    let roi = search_roi(&plan)?;

    page.text(
        "A shop's search converts 8% of 50 million searches a year and is to convert 12%. The conversion rate is over all \
         searches, so it already contains every sale that a former empty result page now brings. Adding these sales once \
         more, as the usual formula does, counts them twice.",
    );
    let mut table = Table::new(["what", "a year", "part of the additional revenue"]);
    let mut row = |what: &str, dollars: f64| {
        table.row([what.into(), money(dollars), pct(dollars / roi.additional_revenue, 1)]);
    };
    row("additional revenue from conversion", roi.additional_revenue);
    row("  of it: more searches answered (coverage)", roi.coverage);
    row("  of it: better results (relevance)", roi.relevance);
    row("sales recovered from empty pages, at 30%", roi.recovered_revenue);
    row("the usual total, which counts these twice", roi.naive_total);
    page.table("Revenue effects", &table);
    page.text(format!(
        "Users also save {:.2} million hours a year, {:.1}% of their search time. The hours are theirs, so they are in no total.",
        roi.hours_saved / 1e6,
        100.0 * roi.time_cut
    ));

    let swings = sensitivity(&plan, 0.5)?;
    let tornado = swings.iter().fold(
        Chart::tornado("Each assumption half down and half up", "benefit a year, $", roi.benefit),
        |chart, swing| chart.bar(swing.assumption, swing.low, swing.high),
    );
    page.chart("tornado.svg", &tornado)?;

    // Nobody knows the target. Draw it from a triangle between hardly any effect and the planned one.
    let (low, likely, high) = (0.082, 0.095, 0.12);
    let mut rng = SplitMix64::new(page.seed());
    let draws = page.size(20_000, 1_000_000);
    let mut benefits = Vec::with_capacity(draws);
    for _ in 0..draws {
        let mut drawn = plan;
        drawn.target.conversion_rate = triangular(&mut rng, low, likely, high);
        benefits.push(search_roi(&drawn)?.benefit);
    }
    benefits.sort_by(f64::total_cmp);
    let quantile = |q: f64| benefits[(q * (draws - 1) as f64) as usize];
    let mut spread = Table::new(["5% are below", "median", "95% are below", "mean", "the plan says"]);
    let mean = benefits.iter().sum::<f64>() / draws as f64;
    spread.row([quantile(0.05), quantile(0.5), quantile(0.95), mean, roi.benefit].map(|dollars| num(dollars / 1e6, 1)));
    page.table("Benefit when the conversion target is uncertain, million $", &spread);
    let histogram = Chart::histogram("Benefit over uncertain targets", "million $ a year", 40)
        .series("draws", benefits.iter().map(|dollars| dollars / 1e6))
        .marker("the plan", roi.benefit / 1e6);
    page.chart("uncertain_target.svg", &histogram)?;

    page.claim("additional revenue is $100,000,000").close(roi.additional_revenue, 1e8, 1e-6);
    page.claim("users save 1,666,666.666667 hours").close(roi.hours_saved, 1_666_666.666_667, 1e-6);
    page.claim("recovered revenue is $90,000,000").close(roi.recovered_revenue, 9e7, 1e-6);
    page.claim("the usual total is $190,000,000").close(roi.naive_total, 1.9e8, 1e-6);
    page.claim("the usual total counts 90% too much").close(roi.naive_total / roi.additional_revenue, 1.9, 1e-9);
    page.claim("the coverage part is $28,235,294.117647").close(roi.coverage, 28_235_294.117_647, 1e-6);
    page.claim("the relevance part is $71,764,705.882353").close(roi.relevance, 71_764_705.882_353, 1e-6);
    page.claim("both parts make up the additional revenue").close(
        roi.coverage + roi.relevance,
        roi.additional_revenue,
        1e-6,
    );
    page.claim("finding takes 57.1% less time, not 60%").close(roi.time_cut, 0.571_429, 1e-6);

    let mut more_users = plan;
    more_users.users *= 3.0;
    page.claim("three times the users bring three times the benefit").close(
        search_roi(&more_users)?.benefit,
        3.0 * roi.benefit,
        1e-6,
    );
    let mut unchanged = plan;
    unchanged.target = plan.current;
    page.claim("unchanged metrics are worth nothing").equals(search_roi(&unchanged)?.naive_total, 0.0);
    let mut at_cost = plan;
    at_cost.target.conversion_rate = required_conversion(&plan, 4e7)?;
    page.claim("the conversion target solved for a cost of $40,000,000 earns just that").close(
        search_roi(&at_cost)?.benefit,
        4e7,
        1e-6,
    );
    // The mean of a triangular distribution is the mean of its corners; 3 standard errors of the mean around it.
    let exact = plan.searches() * plan.avg_transaction * ((low + likely + high) / 3.0 - 0.08);
    let variance = benefits.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (draws - 1) as f64;
    page.claim("the simulated mean is the mean of the triangle, within 3 standard errors").close(
        mean,
        exact,
        3.0 * (variance / draws as f64).sqrt(),
    );
    let mut impossible = plan;
    impossible.target.conversion_rate = 1.2;
    page.claim("a conversion rate of 1.2 is refused").fails(search_roi(&impossible), "target conversion rate is 1.2");
    page.finish()
}

/// A draw from the triangular distribution, by the inverse of its cumulative probability.
fn triangular(rng: &mut SplitMix64, low: f64, likely: f64, high: f64) -> f64 {
    let u = rng.uniform();
    if u < (likely - low) / (high - low) {
        low + (u * (high - low) * (likely - low)).sqrt()
    } else {
        high - ((1.0 - u) * (high - low) * (high - likely)).sqrt()
    }
}
