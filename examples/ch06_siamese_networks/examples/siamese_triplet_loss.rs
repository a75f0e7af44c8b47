//! Listing 6.4: the triplet loss, and the numbers to watch while it falls.
//!
//! cargo run --release --example siamese_triplet_loss

use candle_core::{DType, Device, Tensor};
use ch06_siamese_networks::digit_net::{DigitNet, STEPS, pick, stretches, tensor};
use ch06_siamese_networks::digits::Digits;
use eas_losses::metric::{Neg, TripletMetrics};
use eas_losses::sampler::PkSampler;
use eas_losses::{Distance, Reduction, Triplet, Triplets, fixtures, normalize};
use eas_report::{Chart, Table, num};
use eas_tensor::rng::SplitMix64;

use Distance::{Cosine, Euclidean, SquaredEuclidean};

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();

    page.section("Four triplets");
    page.text("max(0, d(anchor, positive) - d(anchor, negative) + margin): nothing to pay once the negative is farther by the margin.");
    let tiny = fixtures::tiny(DType::F64, &Device::Cpu)?;
    let raw = [tiny.anchors.clone(), tiny.positives.clone(), tiny.first_negatives()?];
    let unit = [normalize(&raw[0])?, normalize(&raw[1])?, normalize(&raw[2])?];
    let soft = Triplet { soft: true, ..Triplet::default() };
    let hinge = |distance, margin| Triplet { margin, distance, soft: false };
    let cases = [
        ("raw, Euclidean", &raw, hinge(Euclidean, 1.0), 0.371_881_996_7),
        ("", &raw, hinge(Euclidean, 0.2), 0.05),
        ("raw, squared", &raw, hinge(SquaredEuclidean, 0.2), 0.05),
        ("raw, soft margin", &raw, soft, 0.407_180_282_1),
        ("unit, Euclidean", &unit, hinge(Euclidean, 1.0), 0.392_272_566_4),
        ("", &unit, hinge(Euclidean, 0.2), 0.053_392_490_3),
        ("unit, squared", &unit, hinge(SquaredEuclidean, 0.2), 0.053_213_363_3),
        ("unit, soft margin", &unit, soft, 0.432_721_917_3),
        ("cosine", &raw, hinge(Cosine, 1.0), 0.501_000_225_6),
        ("", &raw, hinge(Cosine, 0.5), 0.188_087_097_1),
        ("", &raw, hinge(Cosine, 0.2), 0.051_606_681_6),
    ];
    let mut table = Table::new(["vectors and distance", "margin", "loss", "active", "accuracy", "mean gap"]);
    let mut seen: Vec<(f64, f64, TripletMetrics)> = Vec::new();
    for (name, [a, p, n], loss, expected) in cases {
        let out = loss.forward(a, p, Neg::One(n))?;
        let (value, m) = (out.loss.to_scalar::<f64>()?, out.metrics);
        let margin = if loss.soft { "-".into() } else { num(loss.margin, 1) };
        let shares = [num(m.active, 2), num(m.accuracy, 2), num(m.mean_gap, 6)];
        table.row([name.into(), margin, num(value, 8)].into_iter().chain(shares));
        seen.push((value, expected, m));
    }
    page.table("Fixture T: the fourth positive and negative are equally far", &table);
    page.text(
        "Active is the share of triplets that violate the margin, which the book reports as its share of hard ones; hard is one whose \
         negative is nearer than the positive. The third number, accuracy, tells them apart: half of the raw triplets are active at \
         margin 1, three quarters in the right order, one tied, none hard.",
    );

    // What a margin does to any loss, and when a triplet costs nothing.
    let mut rng = SplitMix64::stream(page.seed(), 2);
    let mut row = || Tensor::from_vec((0..3).map(|_| rng.normal()).collect::<Vec<f64>>(), (1, 3), &Device::Cpu);
    let (mut free, mut falls) = (Vec::new(), Vec::new());
    for _ in 0..200 {
        let (a, p, n) = (row()?, row()?, row()?);
        let apart = |x: &Tensor| Euclidean.paired(&a, x)?.squeeze(0)?.to_scalar::<f64>().map_err(anyhow::Error::from);
        let (near, far) = (apart(&p)?, apart(&n)?);
        let mut last = 0.0;
        for margin in [0.1, 0.3, 1.0, 2.0] {
            let cost = hinge(Euclidean, margin).forward(&a, &p, Neg::One(&n))?.loss.to_scalar::<f64>()?;
            free.push((cost == 0.0, near + margin <= far));
            falls.push(cost < last);
            last = cost;
        }
    }

    page.section("Digits: random triplets run dry");
    let (digits, seed) = (Digits::load()?, page.seed());
    let pixels = tensor(&digits.train)?;
    let sampler = PkSampler::new(&digits.train_labels, 10, 6, Some(STEPS), seed)?;
    let mut table = Table::new(["margin", "active, first 10", "last 50", "hard, last 50", "mean gap", "AUC", "EER"]);
    let mut chart = Chart::lines("Triplets that still cost something", "step", "share of the triplets of 25 steps");
    let (mut ends, mut aucs) = (Vec::new(), Vec::new());
    for margin in [0.1, 0.3, 1.0] {
        let (net, loss) = (DigitNet::new(seed)?, hinge(Euclidean, margin));
        let (mut rng, mut batches) = (SplitMix64::stream(seed, 1), sampler.epoch(0));
        let mut history: Vec<TripletMetrics> = Vec::with_capacity(STEPS);
        net.train(|_| {
            let batch: Vec<u32> = batches.next().unwrap_or_default().into_iter().map(|i| i as u32).collect();
            let embeddings = net.forward(&pick(&pixels, &batch)?)?;
            let out = loss.mined(&embeddings, &random_triplets(10, 6, &mut rng), Reduction::MeanAll)?;
            history.push(out.metrics);
            Ok(out.loss)
        })?;
        let active: Vec<f64> = history.iter().map(|m| m.active).collect();
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let of_end = |f: fn(&TripletMetrics) -> f64| mean(&history[STEPS - 50..].iter().map(f).collect::<Vec<_>>());
        let (start, end) = (mean(&active[..10]), of_end(|m| m.active));
        let scores = digits.verify(&net.embed(&digits.test)?, seed)?;
        table.row([
            num(margin, 1),
            num(start, 3).within(0.05),
            num(end, 3).within(0.02),
            num(of_end(|m| 1.0 - m.accuracy), 4).within(0.003),
            num(of_end(|m| m.mean_gap), 3).within(0.05),
            num(scores.auc, 3).within(0.01),
            num(scores.eer, 3).within(0.015),
        ]);
        chart = chart.series(format!("margin {margin}"), (1..=12).map(|i| 25 * i).zip(stretches(&active, 25)));
        ends.push((start, end));
        aucs.push(scores.auc);
    }
    page.table("300 steps of 60 random triplets from batches of 10 digits x 6", &table);
    page.chart("active.svg", &chart)?;
    page.text(
        "At the book's margin of 1 nine of ten triplets cost something at first, since unit vectors are rarely farther apart than 1.4. \
         After 300 steps hardly a random triplet teaches anything, at any margin: the case for mining, listing 6.5.",
    );

    page.claim("the eleven losses are PyTorch's").all(&seen, |(loss, expected, _)| (loss - expected).abs() < 1e-10);
    let (of_raw, of_unit) = (seen[0].2, seen[4].2);
    page.claim("raw, margin 1: active, accuracy").equals((of_raw.active, of_raw.accuracy), (0.5, 0.75));
    page.claim("its mean gap").close(of_raw.mean_gap, 0.819_011_968_0, 1e-9);
    page.claim("raw, margin 0.2: active").equals(seen[1].2.active, 0.25);
    page.claim("unit, margin 1: active").equals(of_unit.active, 0.75);
    page.claim("its mean gap").close(of_unit.mean_gap, 0.697_332_951_6, 1e-9);
    page.claim("a triplet is free exactly when d+ plus the margin is at most d-").all(free, |(zero, far)| zero == far);
    page.claim("a larger margin never costs less").all(falls, |fell| !fell);
    page.claim("random triplets start active at margin 1").at_least(ends[2].0, 0.7);
    page.claim("after 300 steps fewer than 12% are, at every margin").all(&ends, |(_, end)| *end < 0.12);
    page.claim("a larger margin keeps more of them active")
        .all(ends.windows(2), |w| w[1].0 > w[0].0 && w[1].1 > w[0].1);
    page.claim("AUC with each margin is at least 0.96").all(aucs, |auc| auc >= 0.96);
    page.finish()
}

/// For each row of a batch of `p` classes of `k` rows, class by class, a random row of its class and one of another.
fn random_triplets(p: usize, k: usize, rng: &mut SplitMix64) -> Triplets {
    let mut triplets = Triplets::default();
    for anchor in 0..p * k {
        let (class, member) = (anchor / k, anchor % k);
        let positive = class * k + (member + 1 + rng.below(k - 1)) % k;
        let other = (class + 1 + rng.below(p - 1)) % p;
        triplets.anchors.push(anchor as u32);
        triplets.positives.push(positive as u32);
        triplets.negatives.push((other * k + rng.below(k)) as u32);
    }
    triplets
}
