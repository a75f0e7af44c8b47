//! Listing 1.14: what a lower churn is worth, by three formulas and by simulated customers.
//!
//! cargo run --release --example lifetime_value_uplift

use ch01_foundations::cases::subscriber_retention;
use eas_data::synth::lifetimes::geometric_lifetimes;
use eas_plan::roi::ltv::{absolute_uplift, discounted_ltv, geometric_uplift, linear_uplift, ltv_roi};
use eas_report::{Chart, Table, money, num};

const CHURN: f64 = 0.25;

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let plan = subscriber_retention();
    let (ltv, reduction) = (plan.current_ltv, plan.churn_reduction);
    let roi = ltv_roi(&plan)?;
    page.text(
        "A customer is worth margin over churn. Cutting the churn by 5% is often booked as 5% more value; dividing by the \
         lower churn gives a little more. And if the 5 are percentage points, 25% to 20%, it is five times as much: a plan \
         must say which of the two it means.",
    );
    let points = absolute_uplift(ltv, CHURN, 0.05)?;
    let mut table = Table::new(["reading of \"5% less churn\"", "uplift a customer", "a year"]);
    let yearly = plan.customers * plan.annual_turnover;
    table.row(["value grows by 5% (linear)".into(), money(roi.linear_uplift), money(roi.annual_linear)]);
    table.row([
        "churn falls by 5% of itself (geometric)".into(),
        money(roi.geometric_uplift),
        money(roi.annual_geometric),
    ]);
    table.row(["churn falls by 5 points, from 25% to 20%".into(), money(points), money(points * yearly)]);
    page.table("Lifetime value of $850, two million customers, a quarter of them new each year", &table);

    let sweep: Vec<f64> = (0..=25).map(|i| f64::from(i) * 0.02).collect();
    let linear = sweep.iter().map(|&r| linear_uplift(ltv, r)).collect::<Result<Vec<_>, _>>()?;
    let geometric = sweep.iter().map(|&r| geometric_uplift(ltv, r)).collect::<Result<Vec<_>, _>>()?;
    // The axis as points of churn, as far as there is churn to lose.
    let below: Vec<f64> = sweep.iter().copied().filter(|&points| points <= 0.2).collect();
    let absolute = below.iter().map(|&d| absolute_uplift(ltv, CHURN, d)).collect::<Result<Vec<_>, _>>()?;
    let line = |values: &[f64]| sweep.iter().copied().zip(values.iter().copied()).collect::<Vec<_>>();
    let chart = Chart::lines("Uplift of a lifetime value of $850", "churn reduction", "dollars a customer")
        .series("linear", line(&linear))
        .series("geometric (relative)", line(&geometric))
        .series("absolute, from 25%", line(&absolute));
    page.chart("uplift.svg", &chart)?;

    // Customers who live: each leaves in every period with the churn's probability.
    let customers = page.size(200_000, 2_000_000);
    let seed = page.seed_or(14);
    let mean_life = |churn: f64| -> anyhow::Result<f64> {
        let lifetimes = geometric_lifetimes(customers, churn, seed)?;
        Ok(lifetimes.iter().sum::<u64>() as f64 / customers as f64)
    };
    let (before, after) = (mean_life(CHURN)?, mean_life(CHURN * (1.0 - reduction))?);
    let mut table = Table::new(["churn", "formula 1/c", "simulated lifetime", "worth today at 10% a period"]);
    let margin = ltv * CHURN;
    for (churn, life) in [(CHURN, before), (CHURN * (1.0 - reduction), after)] {
        table.row([num(churn, 4), num(1.0 / churn, 4), num(life, 4), money(discounted_ltv(margin, churn, 0.10)?)]);
    }
    page.table("Simulated customers", &table);
    page.text(
        "The simulation takes the geometric side: the lifetime grows by more than the 5%. Discounting shrinks both the \
         value and the uplift, since most of what a longer life brings lies far away.",
    );

    page.claim("the linear uplift is $42.50").close(roi.linear_uplift, 42.5, 1e-9);
    page.claim("which is $21,250,000 a year").close(roi.annual_linear, 21_250_000.0, 1e-6);
    page.claim("the geometric uplift is $44.736842").close(roi.geometric_uplift, 44.736_842, 1e-6);
    page.claim("which is $22,368,421.052632 a year").close(roi.annual_geometric, 22_368_421.052_632, 1e-6);
    page.claim("from 25% to 20% the uplift is $212.50").close(points, 212.5, 1e-9);
    page.claim("points are worth 4.75 times the relative reading").close(points / roi.geometric_uplift, 4.75, 1e-9);
    page.claim("the linear uplift never exceeds the geometric one")
        .all(linear.iter().zip(&geometric), |(linear, geometric)| linear <= geometric);
    page.claim("they meet only where nothing changes")
        .all(sweep.iter().zip(linear.iter().zip(&geometric)), |(r, (l, g))| (*r == 0.0) == (l == g));
    page.claim("simulated customers stay 1/c = 4 periods").close(before, 4.0, 0.03);
    page.claim("5% less churn makes lifetimes 1/0.95 times as long, within 2%").between(
        after / before * 0.95,
        0.98,
        1.02,
    );
    page.claim("a reduction by 100% is refused")
        .fails(geometric_uplift(ltv, 1.0), "without churn a lifetime has no end");
    page.finish()
}
