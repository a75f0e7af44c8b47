//! Listing 6.7: a new kind of fraud from one example. Known kinds teach what to ignore; unseen kinds are then told apart from one example
//! each, and what resembles none of them is left alone.
//!
//! cargo run --release --example one_shot_fraud_detection

use candle_core::Device;
use ch06_siamese_networks::digit_net::tensor;
use ch06_siamese_networks::glyph_net::{PkTraining, batch_hard};
use ch06_siamese_networks::new_kinds::{NEW, ORDINARY, Trial, View};
use eas_data::synth::transactions::{DIM, Transactions};
use eas_nn::encoders::{Encoder, Mlp};
use eas_nn::params::Parameters;
use eas_report::{Cell, Chart, Table, num};
use eas_retrieval::fewshot::{SupportMetric, SupportSet};
use eas_tensor::Matrix;
use eas_tensor::rng::SplitMix64;

/// Kinds of fraud that training knows, and the label of ordinary transactions beside them.
const KNOWN: u32 = 12;
const REPETITIONS: u64 = 20;

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let seed = page.seed_or(7);

    page.section("A support set");
    let mut support = SupportSet::new(2, SupportMetric::Euclidean)?;
    let mut halved = [1.0, 0.0];
    for (i, example) in [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]].iter().enumerate() {
        support.add(0, example)?;
        if i > 0 {
            halved = [0, 1].map(|axis| f64::midpoint(halved[axis], f64::from(example[axis])));
        }
    }
    let mean = support.mean(0).unwrap_or_default().to_vec();
    page.text(format!("The mean of (1, 0), (0, 1), (-1, 0) is {mean:.3?}; halving old and new gives {halved:?}."));
    let only = support.predict_proba(&[0.0, 5.0], 1.0)?;
    let mut line = SupportSet::new(1, SupportMetric::Euclidean)?;
    line.extend(&Matrix::from_vec(3, 1, vec![0.3, 0.9, 1.4])?, &[0, 1, 2])?;
    let share = |t| line.predict_proba(&[0.0], t).map(|p| p.iter().map(|x| x.1).collect::<Vec<f64>>());
    let (warm, cold) = (share(1.0)?, share(0.1)?);

    page.section("Why a share among the known kinds flags nothing");
    // Unit vectors are at most 2 apart: the nearest kind at distance 0, all others at 2.
    let mut table = Table::new(["known kinds", "largest possible softmax(-d)", "can exceed 0.7"]);
    let largest = |kinds: u32| 1.0 / (1.0 + f64::from(kinds - 1) * (-2.0f64).exp());
    for kinds in [1, 2, 3, 4, 5, 16] {
        table.row([kinds.into(), num(largest(kinds), 4), (largest(kinds) > 0.7).into()]);
    }
    page.table("A rule that flags when a kind's share exceeds 0.7", &table);

    page.section("Kinds that training has never seen");
    let world = Transactions::new(seed);
    let mut rng = SplitMix64::stream(seed, 1);
    let (mut rows, mut labels) = world.fraud(&mut rng, 0..KNOWN, 100);
    // Many ordinary rows, so that the sampler puts them into nearly every batch.
    rows.append(&world.normal(&mut rng, 2_000))?;
    labels.resize(rows.rows(), KNOWN);
    let mut params = Parameters::new(seed, &Device::Cpu);
    let encoder = Mlp::new(&mut params, "transactions", DIM, 128, 32)?;
    let training = PkTraining { p: 10, k: 6, steps: 400, learning_rate: 2e-3, seed };
    page.timed("training", || training.run(&params, &encoder, &rows, &labels, batch_hard(0.3)))?;

    let raw = |rows: &Matrix| Ok(rows.clone());
    let trained = |rows: &Matrix| Ok(encoder.encode(&tensor(rows)?)?);
    let truth = |rows: &Matrix| {
        let behaviour = rows.iter_rows().map(|row| world.behaviour(row).map(|x| x as f32));
        Ok(Matrix::from_rows(&behaviour.collect::<Vec<_>>())?)
    };
    let views: [(&str, &View<'_>); 3] =
        [("all 50 coordinates", &raw), ("trained", &trained), ("the 10 that matter", &truth)];
    let mut table =
        Table::new(["compared by", "shots", "kind", "recall", "false pos.", "AUC", "recall of the 0.7 rule"]);
    let mut results = Vec::new();
    for shots in [1, 5] {
        for (name, view) in views {
            let trials =
                (0..REPETITIONS).map(|i| Trial::run(&world, view, shots, &mut SplitMix64::stream(seed, 100 + i)));
            let trials = trials.collect::<anyhow::Result<Vec<Trial>>>()?;
            let mean = |of: fn(&Trial) -> f64| trials.iter().map(of).sum::<f64>() / trials.len() as f64;
            let measures: [fn(&Trial) -> f64; 5] =
                [|t| t.kind, |t| t.recall, |t| t.false_positives, |t| t.auc, |t| t.rule];
            let result = measures.map(mean);
            // Training on another processor ends elsewhere.
            let cell = |x: f64| num(x, 3).within(0.04);
            let rule: Cell = if name == "trained" { cell(result[4]) } else { "-".into() };
            let [kind, recall, false_positives, auc, _] = result;
            let cells = [cell(kind), cell(recall), num(false_positives, 4).within(0.01), cell(auc), rule];
            table.row([name.into(), shots.into()].into_iter().chain(cells));
            results.push(result);
        }
    }
    page.table("Kinds 12-15, each from 1 or 5 examples, 1% of the ordinary flagged; means of 20 draws", &table);

    let example = Trial::run(&world, &trained, 1, &mut SplitMix64::stream(seed, 100))?;
    let (ordinary, fraud) = example.scores.split_at(ORDINARY);
    let chart = Chart::histogram("How much nearer the nearest kind is than the ordinary", "score", 40);
    let chart = chart.series("1,000 ordinary", ordinary.to_vec()).series("40 of new kinds", fraud.to_vec());
    page.chart("scores.svg", &chart.marker("threshold", example.detector.threshold()))?;
    let mut rng = SplitMix64::stream(seed, 99);
    let (shown, kinds) = world.fraud(&mut rng, NEW, 1);
    for (row, kind) in trained(&shown)?.iter_rows().zip(kinds) {
        let said = example.detector.judge(row)?;
        let verdict = if said.flagged { "flagged" } else { "passed" };
        page.text(format!(
            "kind {kind}: looks like {}, score {:.2}, cosine to ordinary {:.2}: {verdict}",
            said.class, said.score, said.similarity_to_ordinary,
        ));
    }

    let off =
        |found: &[f64], expected: &[f64]| found.iter().zip(expected).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
    page.claim("the running mean is the mean, largest error").at_most(off(&mean, &[0.0, 1.0 / 3.0]), 1e-6);
    page.claim("halving isn't").equals(halved, [-0.25, 0.25]);
    page.claim("one known kind: a list of one, with all the probability").equals(only, [(0, 1.0)]);
    page.claim("softmax of -0.3, -0.9, -1.4").at_most(off(&warm, &[0.531_439_22, 0.291_660_03, 0.176_900_75]), 1e-7);
    page.claim("the same at temperature 0.1").at_most(off(&cold, &[0.997_510_76, 0.002_472_58, 0.000_016_660_1]), 1e-7);
    page.claim("the largest shares of 2 to 5 kinds")
        .at_most(off(&[2, 3, 4, 5].map(largest), &[0.8808, 0.7870, 0.7112, 0.6488]), 5e-5);
    let [raw, one, _, _, five, _] = results[..] else { anyhow::bail!("{} results", results.len()) };
    page.claim("one shot: the kind is right").within(0.04).at_least(one[0], 0.70);
    page.claim("one shot: recall").within(0.04).at_least(one[1], 0.30);
    page.claim("which gains at least .20 over all coordinates").within(0.04).at_least(one[1] - raw[1], 0.20);
    page.claim("one shot: share of the ordinary flagged").within(0.01).between(one[2], 0.003, 0.025);
    page.claim("one shot: AUC").within(0.03).at_least(one[3], 0.90);
    page.claim("five shots name more kinds, find more and rank better").all(0..4, |i| i == 2 || five[i] > one[i]);
    page.claim("the 0.7 rule finds next to nothing").at_most(one[4].max(five[4]), 0.02);
    page.finish()
}
