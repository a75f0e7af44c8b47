//! Listing 6.2: the contrastive loss of pairs pulls same ones together and pushes different ones apart, up to a margin.
//!
//! cargo run --release --example pairwise_margin_contrastive_loss

use candle_core::{DType, Device, Tensor, Var};
use ch06_siamese_networks::digit_net::{DigitNet, PairBatch, STEPS, pick, stretches, tensor};
use ch06_siamese_networks::digits::Digits;
use eas_losses::metric::{PairContrastive, PairLabel};
use eas_losses::{fixtures, normalize};
use eas_report::{Chart, Table, num};
use eas_tensor::rng::SplitMix64;

use PairLabel::{Different, Same};

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();

    page.section("Eight pairs");
    page.text(
        "A same pair costs d^2 / 2, a different one (margin - d)^2 / 2 until it is as far as the margin. Small d is alike: a pair \
         is called same below half the margin.",
    );
    let tiny = fixtures::tiny(DType::F64, &Device::Cpu)?;
    let first = Tensor::cat(&[&tiny.anchors, &tiny.anchors], 0)?;
    let second = Tensor::cat(&[&tiny.positives, &tiny.first_negatives()?], 0)?;
    let labels = [[Same; 4], [Different; 4]].concat();
    let mut table = Table::new(["vectors", "margin", "loss", "accuracy", "mean same d", "mean different d", "active"]);
    let (mut outputs, mut rows) = (Vec::new(), Vec::new());
    for (vectors, x, y) in [("raw", first.clone(), second.clone()), ("unit", normalize(&first)?, normalize(&second)?)] {
        for margin in [1.0, 2.0] {
            let contrastive = PairContrastive { margin };
            let out = contrastive.forward(&x, &y, &labels)?;
            let (loss, m) = (out.loss.to_scalar::<f64>()?, out.metrics);
            table.row([
                vectors.into(),
                num(margin, 0),
                num(loss, 8),
                num(m.accuracy, 3),
                num(m.mean_same, 6),
                num(m.mean_different, 6),
                num(m.active_different, 2),
            ]);
            outputs.push((loss, m));
            let alone = |i: usize| contrastive.forward(&x.narrow(0, i, 1)?, &y.narrow(0, i, 1)?, &labels[i..=i]);
            for i in 0..8 {
                rows.push(alone(i)?.loss.to_scalar::<f64>()?);
            }
        }
    }
    page.table("Four same pairs, four different ones", &table);

    // What a step would change: only pairs that cost something are moved.
    let (anchors, wide) = (Var::from_tensor(&first)?, PairContrastive { margin: 2.0 });
    let gradient = wide.forward(&anchors, &second, &labels)?.loss.backward()?;
    let gradient = gradient.get(&anchors).map(Tensor::to_vec2::<f64>).transpose()?.unwrap_or_default();
    // At d = 0 the direction to push is unknown: the gradient is zero, not NaN.
    let met = wide.forward(&anchors, &first, &[Different; 8])?.loss;
    let unknown = met.backward()?.get(&anchors).map(|g| g.flatten_all()?.to_vec1::<f64>()).transpose()?;
    let same_only = wide.forward(&first, &first, &[Same; 8])?;
    let (x, y) = (Tensor::new(&[[1.0f64, 0.0]], &Device::Cpu)?, Tensor::new(&[[-1.0f64, 0.0]], &Device::Cpu)?);
    let antipodes = wide.forward(&x, &y, &[Different])?.loss.to_scalar::<f64>()?;

    page.section("Digits: which margin?");
    let (digits, seed) = (Digits::load()?, page.seed());
    let pixels = tensor(&digits.train)?;
    let mut table = Table::new(["margin", "AUC", "EER", "one shot", "active, first 50 steps", "last 50"]);
    let mut chart =
        Chart::lines("Different pairs that still cost something", "step", "share of the different pairs of 50 steps");
    let (mut actives, mut aucs) = (Vec::new(), Vec::new());
    for margin in [0.5, 1.0, 1.5, 2.0] {
        let (net, contrastive) = (DigitNet::new(seed)?, PairContrastive { margin });
        let (mut rng, mut active) = (SplitMix64::stream(seed, 1), Vec::with_capacity(STEPS));
        net.train(|_| {
            let batch = PairBatch::draw(&digits.train_labels, 64, &mut rng);
            // Both members in one pass.
            let all = net.forward(&pick(&pixels, &[batch.first, batch.second].concat())?)?;
            let out = contrastive.forward(&all.narrow(0, 0, 64)?, &all.narrow(0, 64, 64)?, &batch.labels)?;
            active.push(out.metrics.active_different);
            Ok(out.loss)
        })?;
        let (scores, active) = (digits.verify(&net.embed(&digits.test)?, seed)?, stretches(&active, 50));
        table.row([
            num(margin, 1),
            num(scores.auc, 3).within(0.01),
            num(scores.eer, 3).within(0.015),
            num(scores.one_shot, 3).within(0.03),
            num(active[0], 2).within(0.05),
            num(active[5], 2).within(0.05),
        ]);
        chart = chart.series(format!("margin {margin}"), (1..=6).map(|i| 50 * i).zip(active.clone()));
        aucs.push(scores.auc);
        actives.push(active);
    }
    page.table("300 steps of 64 pairs, 4,000 test pairs", &table);
    page.chart("active.svg", &chart)?;
    page.text(
        "On the unit sphere no distance exceeds 2. A margin of 2, the book's, asks that every two classes be antipodes, which only \
         two can be: all different pairs pay for ever, and the loss never says that it is done.",
    );

    let numbers = |f: fn(&(f64, eas_losses::metric::PairMetrics)) -> f64| outputs.iter().map(f).collect::<Vec<_>>();
    let losses = [0.065_200_270_1, 0.272_364_303_7, 0.054_868_273_6, 0.315_447_427_7];
    page.claim("the four losses are PyTorch's").all(apart(&numbers(|o| o.0), &losses), |d| d < 6e-9);
    page.claim("accuracy at half the margin").equals(numbers(|o| o.1.accuracy), [0.875, 0.75, 0.875, 0.75]);
    let means = outputs.iter().flat_map(|o| [o.1.mean_same, o.1.mean_different]).collect::<Vec<_>>();
    let (raw, unit) = ([0.457_987_807_5, 1.276_999_775_5], [0.355_899_309_2, 1.053_232_260_7]);
    page.claim("mean distances of same and different pairs, raw and unit")
        .all(apart(&means, &[raw, raw, unit, unit].concat()), |d| d < 6e-9);
    let raw = [0.0625, 0.09375, 0.09375, 0.1875];
    let unit = [0.031_635_95, 0.053_135_85, 0.066_861_05, 0.115_384_62];
    let pushed = [
        [0.008_974_60, 0.0, 0.0, 0.075_127_56],
        [0.642_949_19, 0.135_710_11, 0.0, 0.962_755_13],
        [0.029_785_34, 0.0, 0.0, 0.142_143_39],
        [0.773_856_39, 0.269_316_94, 0.038_059_74, 1.175_328_89],
    ];
    let expected = [[raw, pushed[0]], [raw, pushed[1]], [unit, pushed[2]], [unit, pushed[3]]];
    page.claim("the cost of each pair").all(apart(&rows, &expected.as_flattened().concat()), |d| d < 6e-9);
    let slopes = [
        [0.03125, 0.0, -0.03125],
        [-0.03125, 0.03125, -0.03125],
        [-0.03125, -0.03125, 0.03125],
        [-0.03125, 0.0625, 0.03125],
        [-0.081_837_57, 0.081_837_57, 0.081_837_57],
        [-0.011_007_71, -0.033_023_14, -0.055_038_56],
        [0.0; 3],
        [-0.141_624_15, 0.070_812_07, -0.070_812_07],
    ];
    page.claim("gradient of the raw pairs at margin 2")
        .all(apart(&gradient.concat(), slopes.as_flattened()), |d| d < 6e-9);
    page.claim("two different items with one embedding get a gradient of zero, and a cost")
        .all([(unknown, met.to_scalar::<f64>()?)], |(g, cost)| g == Some(vec![0.0; 24]) && cost == 2.0);
    page.claim("identical same pairs cost nothing").equals(same_only.loss.to_scalar::<f64>()?, 0.0);
    page.claim("nor do antipodes at margin 2").equals(antipodes, 0.0);
    page.claim("without different pairs their mean distance is 0, not NaN")
        .equals(same_only.metrics.mean_different, 0.0);
    page.claim("at margin 2 every different pair pays in every step").all(actives[3].clone(), |share| share == 1.0);
    page.claim("at margin 1 fewer than 45% do in the last 50 steps").less(actives[1][5], 0.45);
    page.claim("AUC with each margin is at least 0.96").all(aucs, |auc| auc >= 0.96);
    page.finish()
}

/// How far each number is from the expected one; a missing one is infinitely far.
fn apart(numbers: &[f64], expected: &[f64]) -> Vec<f64> {
    let missing = numbers.len().abs_diff(expected.len());
    let differences = numbers.iter().zip(expected).map(|(x, y)| (x - y).abs());
    differences.chain(std::iter::repeat_n(f64::INFINITY, missing)).collect()
}
