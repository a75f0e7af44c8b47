//! Listing 6.10: thresholds that follow the data, one a category; a gate that freezes them too early; and a band in which to abstain.
//!
//! cargo run --release --example adaptive_threshold_manager

use ch06_siamese_networks::drift::{BATCH, BATCHES, CATEGORIES, DRIFT_FROM, bayes_threshold, draw};
use ch06_siamese_networks::twenty::{DISTANCES, SAME, on_grid};
use eas_eval::threshold::adaptive::{AdaptiveConfig, AdaptiveThresholds, Decision, Feedback};
use eas_eval::threshold::{Calibrator, Cut, Metric};
use eas_report::{Chart, Table, num};

const DRIFT: f64 = 0.25;

/// The book's rule: a tenth of the way to the best of 50 thresholds, but only while more than a fifth of the batch is wrong.
struct Gated {
    threshold: f64,
    grid: f64,
}

impl Gated {
    fn update(&mut self, distances: &[f64], pairs: &Calibrator) -> f64 {
        let error = 1.0 - pairs.at(self.threshold).counts.accuracy();
        if error > 0.2 {
            let ends = |fold: fn(f64, f64) -> f64, start| distances.iter().copied().fold(start, fold);
            let (low, high) = (ends(f64::min, f64::INFINITY), ends(f64::max, f64::NEG_INFINITY));
            self.grid = on_grid(pairs, low, high, 50, |cut: &Cut| cut.counts.accuracy()).threshold;
            self.threshold += 0.1 * (self.grid - self.threshold);
        }
        error
    }
}

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();

    page.section("The book's rule on twenty pairs, moved by .3");
    let moved = DISTANCES.map(|d| d + 0.3);
    let pairs = Calibrator::from_scores(&moved, &SAME)?;
    let mut gated = Gated { threshold: 0.5, grid: 0.0 };
    let mut table = Table::new(["round", "error", "threshold after"]);
    let (mut errors, mut thresholds) = (Vec::new(), Vec::new());
    for round in 0..8 {
        errors.push((gated.update(&moved, &pairs) * 100.0).round() / 100.0);
        thresholds.push(gated.threshold);
        table.row([(round + 1).into(), num(errors[round], 2), num(gated.threshold, 4)]);
    }
    page.table("From .5 towards .721, the best of its grid", &table);
    // The book lowers a distance threshold for a confident model and calls that lenient.
    let by_confidence = |confidence: f64| 0.5 - (confidence - 0.5) * 0.2;
    let matches = [0.0, 0.5, 1.0].map(|confidence| {
        let cut = pairs.at(by_confidence(confidence)).counts;
        cut.true_positives + cut.false_positives
    });
    page.text(format!(
        "By confidence 0, .5 and 1 the book's threshold is .6, .5 and .4, which match {matches:?} of the pairs."
    ));

    page.section("A stream with a drift");
    let bayes: Vec<(f64, f64)> =
        CATEGORIES.iter().flat_map(|c| [bayes_threshold(c.1), bayes_threshold(c.1 + DRIFT)]).collect();
    let stream = draw(page.seed(), DRIFT);
    let calibrated = {
        let (d, same): (Vec<f64>, Vec<bool>) = stream[0][0].iter().copied().unzip();
        Calibrator::from_scores(&d, &same)?.best(Metric::Accuracy)?.threshold
    };
    let config = AdaptiveConfig { base: calibrated, ..AdaptiveConfig::default() };
    let mut adaptive = AdaptiveThresholds::new(config)?;
    let mut alone = AdaptiveThresholds::new(config)?;
    let mut gates = [(); 2].map(|()| Gated { threshold: calibrated, grid: 0.0 });
    // Errors by category and by rule (static, gated, adaptive), batch by batch; thresholds of A.
    let mut wrong = [(); 2].map(|()| [const { Vec::new() }; 3]);
    let (mut path, mut undecided, mut decided_wrong) = ([const { Vec::new() }; 2], 0, 0);
    for (b, batches) in stream.iter().enumerate() {
        path[0].push((b, gates[0].threshold));
        path[1].push((b, adaptive.get(&"A")));
        for (c, batch) in batches.iter().enumerate() {
            let name = CATEGORIES[c].0;
            let (d, same): (Vec<f64>, Vec<bool>) = batch.iter().copied().unzip();
            let pairs = Calibrator::from_scores(&d, &same)?;
            let error = |threshold| 1.0 - pairs.at(threshold).counts.accuracy();
            let (fixed, following) = (error(calibrated), error(adaptive.get(&name)));
            let before = gates[c].update(&d, &pairs);
            for (list, error) in wrong[c].iter_mut().zip([fixed, before, following]) {
                list.push(error);
            }
            for (i, &(d, same)) in batch.iter().enumerate() {
                if b >= BATCHES - 20 {
                    match adaptive.decide(&name, d, 0.05) {
                        Decision::Abstain => undecided += 1,
                        verdict => decided_wrong += usize::from((verdict == Decision::Same) != same),
                    }
                }
                let time = (b * BATCH + i) as u64;
                adaptive.observe(name, d, same, time)?;
                if c == 0 {
                    alone.observe(name, d, same, time)?;
                }
            }
        }
    }
    let late = |list: &[f64]| list[BATCHES - 20..].iter().sum::<f64>() / 20.0;
    let mut table = Table::new(["category", "static", "gated", "adaptive", "best possible", "threshold", "best"]);
    let (mut ends, mut rates) = (Vec::new(), Vec::new());
    for (c, (name, _)) in CATEGORIES.into_iter().enumerate() {
        let errors = [0, 1, 2].map(|rule: usize| late(&wrong[c][rule]));
        let (end, best) = (adaptive.get(&name), bayes[2 * c + 1]);
        let cells = [errors[0], errors[1], errors[2], best.1].map(|x| num(x, 3));
        table.row([name.into()].into_iter().chain(cells).chain([num(end, 3), num(best.0, 3)]));
        ends.push((end - best.0).abs());
        rates.push(errors);
    }
    page.table("Errors in the last 20 of 60 batches of 200", &table);
    let asked = 2 * 20 * BATCH;
    let (abstained, error) = (undecided as f64 / asked as f64, decided_wrong as f64 / (asked - undecided) as f64);
    let overall = f64::midpoint(rates[0][2], rates[1][2]);
    page.text(format!(
        "Leaving the {:.0}% within .05 of the threshold to people halves the error among the others: {overall:.3} to {error:.3}.",
        100.0 * abstained
    ));
    let chart = Chart::lines("Category A: the drift comes at batch 20", "batch", "threshold")
        .series("gated", path[0].clone())
        .series("adaptive", path[1].clone())
        .series("best possible", (0..BATCHES).map(|b| (b, bayes[usize::from(b >= DRIFT_FROM)].0)))
        .level("static", calibrated);
    page.chart("thresholds.svg", &chart)?;

    // Feedback about old pairs, and a stream that doesn't drift.
    let before = adaptive.get(&"A");
    let old = (0..BATCH as u64).map(|time| adaptive.observe("A", 0.1, false, time)).collect::<Result<Vec<_>, _>>()?;
    let mut steady = AdaptiveThresholds::new(AdaptiveConfig::default())?;
    for (time, (d, same)) in draw(page.seed(), 0.0).into_iter().flat_map(|[a, _]| a).enumerate() {
        steady.observe("A", d, same, time as u64)?;
    }
    let settled: Vec<f64> = steady.history(&"A").map(|update| update.to).collect();
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let variance = |values: &[f64]| mean(&values.iter().map(|x| (x - mean(values)).powi(2)).collect::<Vec<_>>());
    let halves = [&settled[..settled.len() / 2], &settled[settled.len() / 2..]].map(variance);
    page.text(format!(
        "Without drift, from .5: the threshold's variance is {:.6} in the first half and {:.6} in the second, where it ends at {:.3}.",
        halves[0],
        halves[1],
        steady.get(&"A")
    ));

    let known = [
        [0.5221020408, 0.5419938776, 0.5598965306, 0.5760089184],
        [0.5905100673, 0.6035611014, 0.6153070321, 0.6258783697],
    ];
    page.claim("the book's thresholds")
        .all(thresholds.iter().zip(known.into_iter().flatten()), |(t, k)| (t - k).abs() < 1e-9);
    page.claim("its errors").equals(errors, [0.35, 0.3, 0.3, 0.3, 0.3, 0.25, 0.25, 0.3]);
    page.claim("its target").close(gated.grid, 0.721_020_408_2, 1e-9);
    page.claim("the lower threshold is the stricter one").all(matches.windows(2), |w| w[1] < w[0]);
    page.claim("best threshold of A").close(bayes[0].0, 0.669_535_090_4, 1e-9);
    page.claim("its error").close(bayes[0].1, 0.068_873_038_9, 1e-9);
    page.claim("best threshold after the drift").close(bayes[1].0, 0.919_535_090_4, 1e-9);
    page.claim("adaptive: error on A at the end").at_most(rates[0][2], 0.09);
    page.claim("gated").at_least(rates[0][1], rates[0][2] + 0.04);
    page.claim("static").at_least(rates[0][0], rates[0][1] + 0.04);
    page.claim("both categories end near their best thresholds").all(&ends, |gap| *gap <= 0.05);
    page.claim("A moves as it does alone").all(alone.history(&"A").zip(adaptive.history(&"A")), |(x, y)| x == y);
    page.claim("who abstains in the band errs less").at_most(error, 0.6 * overall);
    page.claim("old feedback is ignored").all(old, |feedback| feedback == Feedback::Late);
    page.claim("and moves nothing").equals(adaptive.get(&"A"), before);
    page.claim("without drift the threshold settles").at_most(halves[1], 0.25 * halves[0]);
    page.finish()
}
