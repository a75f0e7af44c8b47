//! Listing 1.15: net present value and payback of a project that may fail, and the spread behind the expected value.
//!
//! cargo run --release --example risk_adjusted_npv

use eas_plan::finance::{Payback, annuity};
use eas_plan::risk::{Certainty, RiskInput, risk_adjusted};
use eas_report::{Chart, Table, money, num, pct};

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let project = RiskInput {
        annual_benefit: 20e6,
        p_success: 0.8,
        implementation: 15e6,
        annual_operating: 4e6,
        years: 5,
        discount: 0.15,
    };
    let hopeless = RiskInput { annual_benefit: 1e6, p_success: 0.3, ..project };
    let (good, bad) = (risk_adjusted(&project)?, risk_adjusted(&hopeless)?);

    page.text(
        "Two projects cost $15 million now and $4 million a year for five years, discounted at 15%. One brings $20 million \
         a year with probability 0.8, the other $1 million with probability 0.3.",
    );
    let percent = |value: Option<f64>| value.map_or("none".into(), |fraction| pct(fraction, 1));
    let probability = |p: f64| if p > 1.0 { "above 1".into() } else { num(p, 6) };
    let mut table = Table::new(["", "$20M at 0.8", "$1M at 0.3"]);
    table.row(["expected benefit a year".into(), money(good.expected_benefit), money(bad.expected_benefit)]);
    table.row(["net present value".into(), money(good.npv), money(bad.npv)]);
    table.row([
        "return on investment".into(),
        percent(good.roi_percent.map(|roi| roi / 100.0)),
        percent(bad.roi_percent.map(|roi| roi / 100.0)),
    ]);
    table.row(["payback".into(), good.payback.to_string().into(), bad.payback.to_string().into()]);
    table.row([
        "discounted payback".into(),
        good.discounted_payback.to_string().into(),
        bad.discounted_payback.to_string().into(),
    ]);
    table.row(["internal rate of return".into(), percent(good.irr), percent(bad.irr)]);
    table.row([
        "break-even probability".into(),
        probability(good.break_even_probability),
        probability(bad.break_even_probability),
    ]);
    page.table("Expected values", &table);

    let mut table = Table::new(["policy", "if it succeeds", "if it fails", "expected"]);
    for (policy, stop) in [("run all five years", None), ("stop a failure after year 1", Some(1))] {
        table.row([
            policy.into(),
            money(project.success_npv()?),
            money(project.failure_npv(stop)?),
            money(project.expected_npv(stop)?),
        ]);
    }
    page.table("What the expectation hides, and what the option to stop is worth", &table);

    let runs = page.size(100_000, 1_000_000);
    let simulated = project.simulate(runs, page.seed_or(15), None)?;
    let mean = simulated.iter().sum::<f64>() / runs as f64;
    let variance = simulated.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (runs - 1) as f64;
    let losing = simulated.iter().filter(|npv| **npv < 0.0).count() as f64 / runs as f64;
    let histogram = Chart::histogram("Simulated net present values", "million $", 40)
        .series("projects", simulated.iter().map(|npv| npv / 1e6))
        .marker("expected value", good.npv / 1e6);
    page.chart("outcomes.svg", &histogram)?;
    page.text("No project ever earns the expected value: it lies between the two humps of the histogram.");

    let with = |p_success: f64, discount: f64| risk_adjusted(&RiskInput { p_success, discount, ..project });
    let mut by_probability = Vec::new();
    for i in 0..=20 {
        let p = f64::from(i) / 20.0;
        by_probability.push((p, with(p, project.discount)?.npv));
    }
    let line = Chart::lines("Value over the probability of success", "probability", "net present value, $")
        .series("net present value", by_probability.iter().copied())
        .level("nothing gained", 0.0);
    page.chart("npv_by_probability.svg", &line)?;
    let by_discount = (0..=12)
        .map(|i| Ok(with(project.p_success, f64::from(i) * 0.05)?.npv))
        .collect::<anyhow::Result<Vec<f64>>>()?;

    page.claim("the annuity factor at 15% over 5 years is 3.352155098").close(annuity(0.15, 5)?, 3.352_155_098, 1e-9);
    page.claim("the first project is worth $25,225,861.176137").close(good.npv, 25_225_861.176_137, 1e-5);
    page.claim("its return is 168.172408%").close(good.roi_percent.unwrap_or(f64::NAN), 168.172_408, 1e-6);
    page.claim("it pays back in 1.25 years").equals(good.payback, Payback::Years(1.25));
    page.claim("discounted, in 1.485665 years").close(years(good.discounted_payback), 1.485_665, 1e-6);
    page.claim("its internal rate of return is 75.1461%").close(good.irr.unwrap_or(f64::NAN), 0.751_461, 1e-6);
    page.claim("it breaks even at a probability of 0.423737").close(good.break_even_probability, 0.423_737, 1e-6);
    page.claim("where its value is zero within a dollar").close(
        with(good.break_even_probability, project.discount)?.npv,
        0.0,
        1.0,
    );
    page.claim("the second project is worth -$27,402,973.862642").close(bad.npv, -27_402_973.862_642, 1e-5);
    page.claim("and never pays back; dividing would say -4.054 years").equals(bad.payback, Payback::Never);
    page.claim("success is worth $38,634,481.568182").close(good.success_npv, 38_634_481.568_182, 1e-5);
    page.claim("failure is worth -$28,408,620.392046").close(good.failure_npv, -28_408_620.392_046, 1e-5);
    page.claim("stopped after year 1, failure is worth -$18,478,260.869565").close(
        project.failure_npv(Some(1))?,
        -18_478_260.869_565,
        1e-5,
    );
    page.claim("and the project is expected to be worth $27,211,933.080633").close(
        project.expected_npv(Some(1))?,
        27_211_933.080_633,
        1e-5,
    );
    page.claim("the simulated mean is the expected value within 3 standard errors").close(
        mean,
        good.npv,
        3.0 * (variance / runs as f64).sqrt(),
    );
    page.claim("a fifth of the simulated projects lose money").close(losing, 0.2, 0.005);
    page.claim("value rises with the probability of success")
        .all(by_probability.windows(2), |pair| pair[1].1 > pair[0].1);
    page.claim("value falls with the discount rate").all(by_discount.windows(2), |pair| pair[1] < pair[0]);
    page.claim("a probability of 0.8 is high certainty").equals(Certainty::of(project.p_success)?, Certainty::High);
    page.claim("a negative cost is refused")
        .fails(risk_adjusted(&RiskInput { implementation: -1.0, ..project }), "implementation cost is -1");
    page.finish()
}

fn years(payback: Payback) -> f64 {
    match payback {
        Payback::Years(years) => years,
        Payback::Never => f64::INFINITY,
    }
}
