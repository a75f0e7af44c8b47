//! Listing 1.13: fraud losses avoided, and customers no longer blocked by mistake.
//!
//! cargo run --release --example fraud_roi

use ch01_foundations::cases::payment_fraud;
use eas_data::synth::ledger::{Ledger, LedgerConfig};
use eas_eval::classification::{at_recall, cheapest, cost_curve, roc_auc};
use eas_plan::roi::fraud::{FraudInput, fraud_roi};
use eas_report::{Chart, Table, money, num, pct};
use eas_tensor::special::normal_cdf;

const COST_OF_A_BLOCKED_CUSTOMER: f64 = 5.0;

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let listed = fraud_roi(&payment_fraud())?;
    page.text(
        "A processor of $50 billion a year plans to lose 0.025% rather than 0.06% of the value to fraud, and to block 0.4% \
         rather than 2.3% of the payments by mistake. The customers it no longer insults are worth more than the fraud.",
    );
    let mut table = Table::new(["effect", "how much", "dollars a year"]);
    table.row(["fraud losses avoided".into(), "0.035% of the value".into(), money(listed.fraud_savings)]);
    table.row(["payments no longer blocked".into(), num(listed.fp_avoided, 0), money(listed.fp_savings)]);
    table.row(["total".into(), "".into(), money(listed.total)]);
    page.table("The plan", &table);

    // A ledger with a known truth: lognormal amounts, 0.3% fraud, two detectors whose scores are normal with d' 1.5 and 2.5.
    let config = LedgerConfig { seed: page.seed_or(13), ..LedgerConfig::default() };
    let ledger = Ledger::generate(&config)?;
    let volume: f64 = ledger.amounts.iter().sum();
    page.text(
        "The plan states four rates as if they could be chosen. On a ledger they can't: one threshold sets both the losses \
         and the blocked customers. Here are 200,000 payments and two detectors, each at its cheapest threshold.",
    );
    let names = ["today's detector (d' 1.5)", "planned detector (d' 2.5)"];
    let mut table = Table::new(["detector", "AUC", "threshold", "fraud lost", "good payments blocked", "cost"]);
    let mut chart = Chart::lines("Cost over the threshold", "threshold", "dollars").log_y();
    let (mut aucs, mut curves, mut best) = (Vec::new(), Vec::new(), Vec::new());
    for (name, scores) in names.iter().zip(&ledger.scores) {
        let auc = roc_auc(scores, &ledger.fraud)?;
        let curve = cost_curve(scores, &ledger.fraud, &ledger.amounts, COST_OF_A_BLOCKED_CUSTOMER)?;
        let cheapest = cheapest(&curve).ok_or_else(|| anyhow::anyhow!("the cost curve is empty"))?;
        let blocked = cheapest.counts.false_positives;
        let lost = cheapest.cost - COST_OF_A_BLOCKED_CUSTOMER * blocked as f64;
        table.row([
            (*name).into(),
            num(auc, 4),
            num(cheapest.threshold, 3),
            pct(lost / volume, 3),
            blocked.into(),
            money(cheapest.cost),
        ]);
        let points = curve.iter().skip(1).step_by(500).map(|point| (point.threshold, point.cost));
        chart = chart.series(*name, points.collect::<Vec<_>>());
        aucs.push(auc);
        best.push(cheapest);
        curves.push(curve);
    }
    page.table("Each detector at its cheapest threshold", &table);
    page.chart("cost_curve.svg", &chart)?;

    let mut table = Table::new(["fraud found", "blocked by today's", "blocked by the planned", "fewer, at $5 each"]);
    let mut fewer_blocked = Vec::new();
    for recall in [0.5, 0.6, 0.7, 0.8, 0.9] {
        let blocked = |curve| at_recall(curve, recall).map_or(0, |point| point.counts.false_positives);
        let (today, planned) = (blocked(&curves[0]), blocked(&curves[1]));
        let saved = (today as f64 - planned as f64) * COST_OF_A_BLOCKED_CUSTOMER;
        table.row([pct(recall, 0), today.into(), planned.into(), money(saved)]);
        fewer_blocked.push(today > planned);
    }
    page.table("The same share of fraud found, with fewer customers blocked", &table);

    // The four rates of the calculator, measured: the planned detector from "block nothing" to its cheapest threshold.
    let measured = FraudInput::from_scores(
        &ledger.scores[1],
        &ledger.fraud,
        &ledger.amounts,
        (f64::INFINITY, best[1].threshold),
        COST_OF_A_BLOCKED_CUSTOMER,
    )?;
    let without_detector: f64 = curves[1].first().map_or(0.0, |point| point.cost);

    page.claim("fraud savings are $17,500,000").close(listed.fraud_savings, 17.5e6, 17.5e6 * 1e-9);
    page.claim("9,500,000 fewer payments are blocked").close(listed.fp_avoided, 9.5e6, 9.5e6 * 1e-9);
    page.claim("which saves $47,500,000").close(listed.fp_savings, 47.5e6, 47.5e6 * 1e-9);
    page.claim("the total is $65,000,000").close(listed.total, 65e6, 65e6 * 1e-9);
    page.claim("blocked customers are worth more than fraud").greater(listed.fp_savings, listed.fraud_savings);
    page.claim("the mean payment of the ledger is $100 within 1%").close(
        volume / ledger.amounts.len() as f64,
        100.0,
        1.0,
    );
    for (name, (auc, sensitivity)) in names.iter().zip(aucs.iter().zip([1.5f64, 2.5])) {
        page.claim(format!("the AUC of {name} is Phi(d'/sqrt 2)")).close(
            *auc,
            normal_cdf(sensitivity / 2f64.sqrt()),
            0.02,
        );
    }
    page.claim("at equal recall the better detector blocks fewer good payments").all(fewer_blocked, |fewer| fewer);
    page.claim("no fixed threshold is cheaper than the optimal one").all(
        curves.iter().zip(&best).flat_map(|(curve, best)| curve.iter().map(move |p| (p.cost, best.cost))),
        |(any, best)| any >= best,
    );
    page.claim("the calculator's total on measured rates is what the cost curve says").close(
        fraud_roi(&measured)?.total,
        without_detector - best[1].cost,
        0.01,
    );
    let mut worse = payment_fraud();
    worse.fp_rate_target = 0.03;
    page.claim("a plan that blocks more customers is refused")
        .fails(fraud_roi(&worse), "gets worse: from 0.023 to 0.03");
    page.finish()
}
