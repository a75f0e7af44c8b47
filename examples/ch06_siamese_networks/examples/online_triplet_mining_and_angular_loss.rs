//! Listing 6.5: which triplets of a batch are worth the step, and two losses on angles.
//!
//! cargo run --release --example online_triplet_mining_and_angular_loss

use std::time::Instant;

use candle_core::{DType, Device, Tensor, Var};
use ch06_siamese_networks::digit_net::{DigitNet, STEPS, gradient, pick, tensor};
use ch06_siamese_networks::digits::Digits;
use ch06_siamese_networks::teachers::{Teacher, euclidean_miner as miner};
use eas_losses::metric::{Angular, AngularMargin, angles};
use eas_losses::mining::{Fallback, Strategy};
use eas_losses::sampler::PkSampler;
use eas_losses::{Reduction, Triplet, Triplets, fixtures};
use eas_report::{Table, duration, num};

use Reduction::MeanAll;
use Strategy::{All, BatchHard, HardestNegative, SemiHard, SemiHardFaceNet, SemiHardFirst};

const STRATEGIES: [(&str, Strategy); 7] = [
    ("batch hard", BatchHard),
    ("hardest negative", HardestNegative),
    ("semi-hard, else hardest", SemiHard(Fallback::Hardest)),
    ("semi-hard, else none", SemiHard(Fallback::Skip)),
    ("semi-hard, FaceNet's", SemiHardFaceNet),
    ("first semi-hard (book)", SemiHardFirst),
    ("all", All),
];

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();

    page.section("Eight points, seven strategies");
    let (points, labels) = fixtures::labelled(DType::F64, &Device::Cpu)?;
    let cost = |triplets: &Triplets, margin, soft| -> anyhow::Result<(f64, f64)> {
        let out = Triplet { margin, soft, ..Triplet::default() }.mined(&points, triplets, MeanAll)?;
        Ok((out.loss.to_scalar::<f64>()?, out.metrics.active * out.metrics.triplets as f64))
    };
    let mut table = Table::new(["strategy", "triplets", "active", "loss, margin 1", "margin 0.5", "soft margin"]);
    let (mut picked, mut losses, mut valid) = (Vec::new(), Vec::new(), Vec::new());
    for (name, strategy) in STRATEGIES {
        let (wide, narrow) = (miner(strategy, 1.0).mine(&points, labels)?, miner(strategy, 0.5).mine(&points, labels)?);
        let (one, active) = cost(&wide, 1.0, false)?;
        let half = cost(&narrow, 0.5, false)?.0;
        let soft = cost(&wide, 1.0, true)?.0;
        let values = [num(active, 0), num(one, 6), num(half, 6), num(soft, 6)];
        table.row([name.into(), wide.len().into()].into_iter().chain(values));
        valid.extend(wide.iter().map(|(a, p, n)| a != p && labels[a] == labels[p] && labels[a] != labels[n]));
        losses.push(one);
        picked.push(wide);
    }
    page.table("Fixture L; mean over all mined triplets", &table);
    let mut table =
        Table::new(["anchor, positive", "hardest", "semi, else hardest", "else none", "FaceNet's", "first"]);
    for (a, p, _) in picked[1].iter() {
        let chosen = picked[1..6].iter().map(|triplets| {
            let found = triplets.iter().find(|t| (t.0, t.1) == (a, p));
            found.map_or("-".into(), |t| t.2.into())
        });
        table.row([format!("{a}, {p}").into()].into_iter().chain(chosen));
    }
    page.table("Which negative each takes at margin 1", &table);

    let t = fixtures::tiny(DType::F64, &Device::Cpu)?;
    let (a, p, n) = (&t.anchors, &t.positives, &t.first_negatives()?);
    let (margin, wang) = (AngularMargin { alpha_degrees: 45.0 }, Angular { alpha_degrees: 45.0 });
    let angular = [margin.forward(a, p, n)?, wang.smooth(a, p, n)?, wang.in_batch(a, p)?];
    // Where the book's arc cosine has an infinite slope, and its log(1 + exp x) overflows.
    let row = Var::new(&[[0.6f64, 0.8]], &Device::Cpu)?;
    let slope = gradient(&angles(&row, &row.detach())?.sum_all()?, &row)?;
    let line = Tensor::new(&[[0.0f32], [2_000.0], [1.0]], &Device::Cpu)?;
    let one = Triplets { anchors: vec![0], positives: vec![1], negatives: vec![2] };
    let far_apart = Triplet { soft: true, ..Triplet::default() }.mined(&line, &one, MeanAll)?.loss;
    let lonely = Var::new(&[[0.0f64], [1.0]], &Device::Cpu)?;
    let none = Triplet::default().mined(&lonely, &miner(BatchHard, 1.0).mine(&lonely, &[0, 1])?, MeanAll)?.loss;

    page.section("Digits");
    let (digits, seed) = (Digits::load()?, page.seed());
    let pixels = tensor(&digits.train)?;
    let mut table = Table::new(["taught by", "AUC", "EER", "triplets a batch", "active at the end", "a step"]);
    let mut aucs = Vec::new();
    let more = [
        ("batch hard, soft margin", Teacher::SoftHard),
        ("semi-hard, then hard from 70%", Teacher::SemiThenHard),
        ("angle margin 45", Teacher::AngleMargin),
        ("Wang et al., 45", Teacher::Angular),
    ];
    // The other strategies, of several triplets an anchor, take eight times as long.
    let mined = STRATEGIES.into_iter().filter(|s| page.full() || matches!(s.1, BatchHard | SemiHard(Fallback::Skip)));
    let teachers = mined.map(|(name, strategy)| (name, Teacher::Mined(strategy))).chain(more);
    for (name, teacher) in teachers {
        let net = DigitNet::new(seed)?;
        let k = teacher.per_class();
        let sampler = PkSampler::new(&digits.train_labels, 10, k, Some(STEPS), seed)?;
        let (mut batches, mut mined) = (sampler.epoch(0), Vec::with_capacity(STEPS));
        let labels: Vec<u32> = (0..10 * k as u32).map(|i| i / k as u32).collect();
        let start = Instant::now();
        net.train(|step| {
            let batch: Vec<u32> = batches.next().unwrap_or_default().into_iter().map(|i| i as u32).collect();
            let (loss, counts) = teacher.loss(&net.forward(&pick(&pixels, &batch)?)?, &labels, step)?;
            mined.extend(counts);
            Ok(loss)
        })?;
        let step = start.elapsed() / STEPS as u32;
        let scores = digits.verify(&net.embed(&digits.test)?, seed)?;
        let end = &mined[mined.len().saturating_sub(50)..];
        let mean = |f: fn(&(f64, f64)) -> f64| num(end.iter().map(f).sum::<f64>() / 50.0, 1).within(3.0);
        let [of_batch, active] = if end.is_empty() { ["-".into(), "-".into()] } else { [mean(|m| m.0), mean(|m| m.1)] };
        let (auc, eer) = (num(scores.auc, 3).within(0.01), num(scores.eer, 3).within(0.015));
        table.row([name.into(), auc, eer, of_batch, active, duration(step)]);
        aucs.push(scores.auc);
    }
    page.table("300 steps, margin 0.3, batches of 10 digits x 6 (Wang et al.: x 2)", &table);
    page.text(
        "All triplets run dry here in the end: after 300 steps the training digits hold hardly a violation. Losses without a hinge, the \
         soft margin and Wang et al.'s, go on pulling. `--full` trains with all seven strategies.",
    );

    page.claim("triplets at margin 1")
        .equals(picked.iter().map(Triplets::len).collect::<Vec<_>>(), [8, 14, 14, 10, 14, 14, 72]);
    let expected = [0.840_445, 0.712_516, 0.426_921, 0.365_787, 0.261_277, 0.351_841, 0.193_404];
    page.claim("their losses at margin 1, first and last as in pytorch-metric-learning")
        .all(losses.iter().zip(expected), |(x, expected)| (x - expected).abs() < 1e-6);
    page.claim("batch-hard triplets").equals(
        picked[0].iter().collect::<Vec<_>>(),
        [(0, 1, 3), (1, 2, 3), (2, 1, 3), (3, 5, 1), (4, 5, 1), (5, 3, 7), (6, 7, 2), (7, 6, 5)],
    );
    page.claim("the nearest semi-hard negatives, else the hardest")
        .equals(&picked[2].negatives, &[3, 3, 3, 4, 3, 3, 0, 0, 1, 1, 1, 7, 2, 5]);
    page.claim("the book's take the first, not the nearest, of (5, 3) and (5, 4)")
        .equals(&picked[5].negatives, &[3, 3, 3, 4, 3, 3, 0, 0, 1, 1, 0, 1, 2, 5]);
    page.claim("every mined triplet has a positive of its class and a negative of another").all(valid, |fine| fine);
    let [margin, triplets, pairs] = angular.map(|loss| loss.to_scalar::<f64>());
    page.claim("T, 45 degrees: margin on angles").close(margin?, 0.265_444_289, 1e-9);
    page.claim("Wang et al.'s loss of triplets").close(triplets?, 1.230_247_541, 1e-9);
    page.claim("and of pairs in a batch").close(pairs?, 1.156_429_402, 1e-9);
    page.claim("the angle of a row and itself has a gradient of zero").equals(slope, [0.0; 2]);
    page.claim("a soft margin that is 1,999 too close costs 1,999, not infinity")
        .equals(far_apart.to_scalar::<f32>()?, 1_999.0);
    page.claim("a batch without triplets costs nothing and has a gradient of zero")
        .equals((none.to_scalar::<f64>()?, gradient(&none, &lonely)?), (0.0, vec![0.0; 2]));
    page.claim("the AUC of every teacher is at least 0.96").all(aucs, |auc| auc >= 0.96);
    page.finish()
}
