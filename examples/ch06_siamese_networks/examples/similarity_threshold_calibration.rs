//! Listing 6.9: how near is near enough? A threshold from a metric, from costs, from a precision target, and what stays uncertain.
//!
//! cargo run --release --example similarity_threshold_calibration

use std::collections::BTreeSet;

use candle_core::{Device, Tensor};
use ch06_siamese_networks::digits::{Digits, Pairs};
use ch06_siamese_networks::twenty::{DISTANCES, SAME, on_grid};
use eas_eval::EvalError;
use eas_eval::threshold::{Calibrator, Cut, Metric};
use eas_losses::metric::PairContrastive;
use eas_nn::encoders::{Encoder, Mlp};
use eas_nn::params::Parameters;
use eas_nn::train::Training;
use eas_report::{Chart, Table, num};
use eas_tensor::Matrix;

/// What a metric maximises, of one cut.
type Share = fn(&Cut) -> f64;

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let pairs = Calibrator::from_scores(&DISTANCES, &SAME)?;

    page.section("Twenty pairs, every cut");
    let metrics: [(&str, Metric, Share); 4] = [
        ("F1", Metric::F1, |cut| cut.counts.f1()),
        ("accuracy", Metric::Accuracy, |cut| cut.counts.accuracy()),
        ("precision", Metric::Precision { min_recall: 0.0 }, |cut| cut.counts.precision()),
        ("recall", Metric::Recall { min_precision: 0.0 }, |cut| cut.counts.recall()),
    ];
    let mut table =
        Table::new(["largest", "threshold", "found", "false", "missed", "precision", "recall", "on a grid"]);
    let (mut chosen, mut gridded) = (Vec::new(), Vec::new());
    for (name, metric, value) in metrics {
        let (cut, grid) = (pairs.best(metric)?, on_grid(&pairs, 0.10, 1.31, 100, value).threshold);
        let counts = [cut.counts.true_positives, cut.counts.false_positives, cut.counts.false_negatives];
        let shares = [num(cut.counts.precision(), 3), num(cut.counts.recall(), 3), num(grid, 4)];
        table.row([name.into(), num(cut.threshold, 3)].into_iter().chain(counts.map(Into::into)).chain(shares));
        chosen.push((rounded(cut.threshold, 1e9), counts));
        gridded.push(rounded(grid, 1e7));
    }
    page.table("9 same, 11 different; ties to the smallest threshold", &table);
    page.text(
        "Precision alone is satisfied with one sure pair, recall alone with everything: each needs the other as a floor. A grid \
         of 100 thresholds finds other numbers for the same cuts, and none beyond the farthest pair.",
    );
    let (auc, ap, eer) = (pairs.auc(), pairs.ap(), pairs.eer());
    page.text(format!("AUC {auc:.4}, average precision {ap:.4}, equal error rate {:.4}.", eer.rate));
    let targets = [0.85, 0.9, 0.95, 1.0].map(|target| pairs.for_precision(target));
    let targets =
        targets.into_iter().map(|cut| Ok(rounded(cut?.threshold, 1e9))).collect::<Result<Vec<f64>, EvalError>>()?;
    let hopeless = Calibrator::from_scores(&[0.1, 0.2, 0.3], &[false, true, true])?;

    let mut table = Table::new(["a false match costs", "a miss costs", "threshold", "cost of all"]);
    let mut cheapest = Vec::new();
    for (alarm, miss) in [(1.0, 1.0), (1.0, 5.0), (1.0, 10.0), (5.0, 1.0), (10.0, 1.0)] {
        let best = pairs.min_cost(alarm, miss, None)?;
        table.row([num(alarm, 0), num(miss, 0), num(best.cut.threshold, 3), num(best.cost, 1)]);
        cheapest.push((rounded(best.cut.threshold, 1e9), best.cost));
    }
    page.table("From costs", &table);
    let ratios = (-30..=30).map(|i| (f64::from(i) / 10.0).exp());
    let by_ratio = ratios.map(|ratio| Ok(pairs.min_cost(ratio, 1.0, None)?.cut.threshold));
    let by_ratio = by_ratio.collect::<Result<Vec<f64>, EvalError>>()?;

    page.section("Digits: chosen on some pairs, judged on others");
    let digits = Digits::load()?;
    let embeddings = train(&digits, page.seed())?;
    let mut seen = BTreeSet::new();
    let mut draw = |count: usize, same: usize, seed: u64| -> anyhow::Result<Calibrator> {
        let mut pairs = Pairs::draw(&digits.test_labels, count, same, seed)?;
        // A pair that has helped to choose doesn't judge.
        let unordered = |(i, j): (usize, usize)| (i.min(j), i.max(j));
        let fresh: Vec<bool> = pairs.rows.iter().map(|&pair| !seen.contains(&unordered(pair))).collect();
        pairs = Pairs { rows: kept(&pairs.rows, &fresh), same: kept(&pairs.same, &fresh) };
        seen.extend(pairs.rows.iter().map(|&pair| unordered(pair)));
        Ok(Calibrator::from_scores(&pairs.distances(&embeddings)?, &pairs.same)?)
    };
    let (fit, held_out, production) = (draw(4_000, 400, 1)?, draw(4_000, 400, 2)?, draw(40_000, 400, 3)?);
    // The most matches with a precision of .9 where one pair of a hundred is the same.
    let rare = fit.cuts().iter().rev().find(|cut| cut.precision_at(0.01).is_ok_and(|p| p >= 0.9));
    let rules = [
        ("F1", fit.best(Metric::F1)?),
        ("equal error", fit.eer().cut),
        ("precision .9", fit.for_precision(0.9)?),
        ("the same at 1%", *rare.unwrap_or(&fit.cuts()[0])),
    ];
    let mut table =
        Table::new(["rule", "threshold", "precision", "recall", "held out", "recall", "at 1% same", "recall"]);
    let mut judged = Vec::new();
    for (name, cut) in rules {
        let counts = [&fit, &held_out, &production].map(|pairs| pairs.at(cut.threshold).counts);
        let shares = counts.iter().flat_map(|c| [num(c.precision(), 3), num(c.recall(), 3)]);
        table.row([name.into(), num(cut.threshold, 3)].into_iter().chain(shares));
        judged.push(counts);
    }
    page.table("4,000 pairs, 10% same, to choose; 4,000 others and 40,000 with 1% same to judge", &table);
    let interval = fit.bootstrap(200, page.seed(), |pairs| Ok(pairs.for_precision(0.9)?.threshold))?;
    let ends = [interval.low, interval.high].map(|end| fit.at(end).counts.precision());
    page.text(format!(
        "The threshold for a precision of .9 is {:.3}; 95% of 200 resamples lie from {:.3} to {:.3}, where precision is {:.2} \
         and {:.2}. Where one pair of a hundred is the same instead of one in ten, nine right calls of ten become one of two.",
        interval.value, interval.low, interval.high, ends[0], ends[1]
    ));
    let curve = |f: fn(&Cut) -> f64| fit.cuts().iter().skip(20).map(move |cut| (cut.threshold, f(cut)));
    let chart = Chart::lines("Digits: what each threshold does", "threshold", "share")
        .series("precision", curve(|cut| cut.counts.precision()))
        .series("recall", curve(|cut| cut.counts.recall()))
        .series("F1", curve(|cut| cut.counts.f1()))
        .series("precision at 1% same", curve(|cut| cut.precision_at(0.01).unwrap_or(0.0)))
        .level("target", 0.9);
    page.chart("threshold.svg", &chart)?;
    // Rarer matches weigh like cheaper misses: prior and costs enter as one product.
    let odds = |prior: f64| prior / (1.0 - prior);
    let rarer = fit.min_cost(1.0, 17.3, Some(0.01))?.cut;
    let cheaper = fit.min_cost(1.0, 17.3 * odds(0.01) / odds(0.1), None)?.cut;

    let metrics = [(0.66, [8, 3, 1]), (0.44, [6, 1, 3]), (0.125, [1, 0, 8]), (0.86, [9, 5, 0])];
    page.claim("thresholds by metric; found, false, missed").equals(chosen, metrics);
    page.claim("a grid answers").equals(gridded, [0.637_777_8, 0.417_777_8, 0.112_222_2, 0.821_111_1]);
    let costs = [(0.44, 4.0), (0.86, 5.0), (0.86, 5.0), (0.295, 5.0), (0.295, 5.0)];
    page.claim("cheapest thresholds and costs").equals(cheapest, costs);
    page.claim("a dearer false match never raises the threshold").all(by_ratio.windows(2), |w| w[1] <= w[0]);
    page.claim("thresholds for a precision of .85, .9, .95, 1").equals(targets, [0.44, 0.295, 0.295, 0.295]);
    page.claim("a target out of reach is refused").fails(hopeless.for_precision(0.9), "the highest is 0.666");
    page.claim("AUC").close(auc, 0.878_787_878_8, 1e-10);
    page.claim("average precision").close(ap, 0.870_931_537_6, 1e-10);
    page.claim("equal error rate").close(eer.rate, 0.202_020_202_0, 1e-9);
    let [_, at_90, once] = judged[2];
    page.claim("digits, a target of .9: precision on other pairs").between(at_90.precision(), 0.84, 0.96);
    page.claim("and recall").at_least(at_90.recall(), 0.75);
    page.claim("resampled thresholds surround it").between(rules[2].1.threshold, interval.low, interval.high);
    page.claim("its precision at 1% same, as foretold").close(rules[2].1.precision_at(0.01)?, once.precision(), 0.12);
    page.claim("is below").at_most(once.precision(), 0.65);
    page.claim("which a threshold for 1% same repairs").at_least(judged[3][2].precision(), once.precision() + 0.2);
    page.claim("a prior is a cost").equals(rarer.threshold == cheaper.threshold, true);
    page.finish()
}

/// 64 pixels to a unit vector of 32, by contrastive loss over all pairs of each batch; the test pictures' embeddings.
fn train(digits: &Digits, seed: u64) -> anyhow::Result<Matrix> {
    let tensor = |m: &Matrix| Tensor::from_slice(m.as_slice(), (m.rows(), m.dim()), &Device::Cpu);
    let mut params = Parameters::new(seed, &Device::Cpu);
    let encoder = Mlp::new(&mut params, "encoder", 64, 128, 32)?;
    let pictures = tensor(&digits.train)?;
    let training = Training { epochs: 15, batch: 60, learning_rate: 2e-3, seed };
    training.run(&params, digits.train.rows(), |batch| {
        let rows = encoder.forward(&pictures.index_select(&Tensor::new(batch, &Device::Cpu)?, 0)?)?;
        let labels: Vec<u32> = batch.iter().map(|&i| digits.train_labels[i as usize]).collect();
        Ok(PairContrastive { margin: 1.0 }.all_pairs(&rows, &labels)?.loss)
    })?;
    Ok(Matrix::from_rows(&encoder.forward(&tensor(&digits.test)?)?.to_vec2::<f32>()?)?)
}

fn kept<T: Copy>(items: &[T], keep: &[bool]) -> Vec<T> {
    items.iter().zip(keep).filter(|(_, keep)| **keep).map(|(item, _)| *item).collect()
}

fn rounded(value: f64, scale: f64) -> f64 {
    (value * scale).round() / scale
}
