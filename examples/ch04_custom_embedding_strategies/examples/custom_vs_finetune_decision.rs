//! Listing 4.1: build an embedding model or fine-tune one: a rule of points, what flips it, and how often it is undecided.
//!
//! cargo run --release --example custom_vs_finetune_decision

use std::collections::BTreeMap;

use eas_plan::decision::Confidence::{High, Medium};
use eas_plan::decision::Verdict::{BuildCustom, FineTune};
use eas_plan::decision::{Advantage, Decision, DecisionContext, Degree, Performance, SPECTRUM, Special, decide, grid};
use eas_report::{Chart, Table, pct};

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let shop = DecisionContext {
        training_examples: 5_000_000,
        performance: Performance::High,
        special: [Special::MultiModal].into(),
        annual_budget_usd: Some(500_000.0),
        timeline_months: 6.0,
        advantage: Advantage::High,
        ..DecisionContext::default()
    };
    let clinic = DecisionContext {
        training_examples: 500_000,
        annual_budget_usd: Some(100_000.0),
        timeline_months: 3.0,
        ..DecisionContext::default()
    };
    let genomics = DecisionContext {
        training_examples: 50_000_000,
        domain_gap: Degree::High,
        performance: Performance::WorldClass,
        annual_budget_usd: Some(2_000_000.0),
        timeline_months: 18.0,
        advantage: Advantage::Critical,
        ..DecisionContext::default()
    };
    let few = DecisionContext { training_examples: 5_000, ..clinic.clone() };

    page.section("Four projects");
    let decision = decide(&shop)?;
    let mut table = Table::new(["factor", "custom", "fine-tune", "reason"]);
    for factor in &decision.factors {
        table.row([factor.name.into(), factor.custom.into(), factor.finetune.into(), factor.reason.into()]);
    }
    page.table("A shop with 5M products, text and pictures", &table);
    let mut table = Table::new(["project", "custom", "fine-tune", "verdict", "level", "effort", "cost"]);
    let mut decisions = Vec::new();
    for (name, context) in [("shop", &shop), ("clinic", &clinic), ("genomics", &genomics), ("clinic, 5k notes", &few)] {
        let d = decide(context)?;
        table.row([
            name.into(),
            d.custom.into(),
            d.finetune.into(),
            verdict(&d).into(),
            SPECTRUM[d.level as usize].name.into(),
            d.effort.into(),
            d.cost.into(),
        ]);
        decisions.push(d);
    }
    page.table("Points and verdicts", &table);
    let mut table = Table::new(["level", "what", "effort", "cost", "% of the best", "examples from"]);
    for level in &SPECTRUM {
        let (low, high) = level.percent_of_optimal;
        table.row([
            level.number.into(),
            level.name.into(),
            level.effort.into(),
            level.cost.into(),
            format!("{low}-{high}").into(),
            level.examples.into(),
        ]);
    }
    page.table("From frozen to from scratch, as the book estimates it", &table);

    page.section("One answer changed");
    let mut changes = Vec::new();
    for (answer, context) in shop.alternatives() {
        changes.push((answer, decide(&context)?));
    }
    changes.sort_by_key(|(_, d)| -d.margin());
    let mut table = Table::new(["the shop, but", "custom", "fine-tune", "difference", "verdict"]);
    for (answer, d) in changes.iter().filter(|(_, d)| d.margin() != decision.margin()) {
        table.row([answer.as_str().into(), d.custom.into(), d.finetune.into(), d.margin().into(), verdict(d).into()]);
    }
    page.table("Training from scratch needs three points more than fine-tuning", &table);

    page.section("Every combination of answers");
    let all = grid().map(|context| decide(&context)).collect::<Result<Vec<_>, _>>()?;
    let share = |count: usize| pct(count as f64 / all.len() as f64, 1);
    let mut counts = BTreeMap::new();
    let mut margins = BTreeMap::new();
    for d in &all {
        *counts.entry((d.verdict, d.confidence)).or_insert(0) += 1;
        *margins.entry(d.margin()).or_insert(0) += 1;
    }
    let mut table = Table::new(["verdict", "projects", "share"]);
    for (&(verdict, confidence), &count) in &counts {
        table.row([format!("{verdict:?}, {confidence:?}").into(), count.into(), share(count)]);
    }
    let close = all.iter().filter(|d| d.is_close()).count();
    table.row(["at most two points apart".into(), close.into(), share(close)]);
    let short = all.iter().filter(|d| d.examples_short > 0).count();
    table.row(["from scratch, without 10M examples".into(), short.into(), share(short)]);
    page.table("7,776 projects", &table);
    let bars = Chart::bars(
        "Difference of points over all projects",
        "custom less fine-tune",
        "projects",
        margins.keys().map(i32::to_string),
    )
    .series("projects", margins.values().copied());
    page.chart("margins.svg", &bars)?;
    page.text(
        "A vote adds what can't be added: many projects are told to train from scratch although their examples wouldn't do, because \
         need outvotes data. Decision::examples_short says how many are missing. The listing's object keeps its scores, so that \
         its second evaluation of the shop has 6 and 12.",
    );
    let unstated = DecisionContext { annual_budget_usd: None, ..shop.clone() };
    let zero = DecisionContext { annual_budget_usd: Some(0.0), ..shop.clone() };
    let points = |i: usize| (decisions[i].custom, decisions[i].finetune, decisions[i].verdict, decisions[i].confidence);
    page.claim("the shop").equals(points(0), (3, 6, FineTune, Medium));
    page.claim("the clinic").equals(points(1), (0, 8, FineTune, High));
    page.claim("genomics").equals(points(2), (14, 0, BuildCustom, High));
    page.claim("no single answer makes the shop build").all(&changes, |(_, d)| d.verdict == FineTune);
    let nearest = (changes[0].0.as_str(), changes[0].1.custom, changes[0].1.finetune);
    page.claim("the nearest is a high domain gap").equals(nearest, ("domain gap High", 6, 4));
    let even = changes.iter().filter(|(_, d)| (d.custom, d.finetune) == (5, 5)).map(|(answer, _)| answer.as_str());
    page.claim("these leave both even")
        .equals(even.collect::<Vec<_>>(), ["performance WorldClass", "advantage Critical"]);
    page.claim("projects by verdict")
        .equals(counts.values().copied().collect::<Vec<_>>(), [3_816, 1_235, 1_261, 1_464]);
    page.claim("least and greatest difference")
        .equals((margins.keys().min(), margins.keys().max()), (Some(&-17), Some(&20)));
    page.claim("raising one answer never lowers the difference").equals(lowered()?, 0);
    page.claim("evaluating twice gives the same").all([decide(&shop)?], |again| again == decision);
    page.claim("an unstated budget counts for neither side").equals(decide(&unstated)?.margin(), -3);
    page.claim("where the listing's default of 0 dollars makes fine-tuning certain")
        .equals((decide(&zero)?.margin(), decide(&zero)?.confidence), (-7, High));
    page.claim("5,000 examples are too few to fine-tune with").equals(decisions[3].level, 0);
    page.finish()
}

/// The verdict and how clear it is.
fn verdict(d: &Decision) -> String {
    format!("{:?}, {:?}", d.verdict, d.confidence)
}

/// How often a grid project's difference falls when one ordered answer is raised.
fn lowered() -> anyhow::Result<usize> {
    let mut count = 0;
    for context in grid() {
        let base = decide(&context)?.margin();
        for (_, other) in context.alternatives() {
            let raised = other.training_examples >= context.training_examples
                && other.domain_gap >= context.domain_gap
                && other.performance >= context.performance
                && other.special.is_superset(&context.special)
                && !other.multimodal_pretrained_available
                && other.annual_budget_usd >= context.annual_budget_usd
                && other.timeline_months >= context.timeline_months
                && other.team >= context.team
                && other.advantage >= context.advantage;
            count += usize::from(raised && decide(&other)?.margin() < base);
        }
    }
    Ok(count)
}
