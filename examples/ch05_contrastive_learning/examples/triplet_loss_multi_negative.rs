//! Listing 5.3: the triplet loss over one negative or the hardest of several, and why the choice of negatives decides.
//!
//! cargo run --release --example triplet_loss_multi_negative

use candle_core::{DType, Device, Tensor, Var};
use ch05_contrastive_learning::families::{DIM, FamilyWorld, train};
use eas_losses::distance::{Distance, normalize};
use eas_losses::metric::{Neg, TripletMetrics};
use eas_losses::{InfoNce, Negatives, Triplet, fixtures};
use eas_nn::NnError;
use eas_nn::encoders::Encoder;
use eas_report::{Chart, Table, num};
use eas_tensor::rng::SplitMix64;

const BATCH: usize = 64;

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let t = fixtures::tiny(DType::F64, &Device::Cpu)?;
    let first = t.first_negatives()?;
    let unit = [normalize(&t.anchors)?, normalize(&t.positives)?, normalize(&first)?];
    let loss = |margin, distance, soft, [a, p]: [&Tensor; 2], n: Neg<'_>| -> anyhow::Result<f64> {
        Ok(Triplet { margin, distance, soft }.forward(a, p, n)?.loss.to_scalar()?)
    };

    page.section("Margins on fixture T");
    let (raw, on_unit) = ([&t.anchors, &t.positives], [&unit[0], &unit[1]]);
    let mut table = Table::new(["distance", "negatives", "margin .2", ".5", "1.0", "soft"]);
    let mut losses = Vec::new();
    for (name, negatives, distance, rows, n) in [
        ("Euclidean, raw", "one", Distance::Euclidean, raw, Neg::One(&first)),
        ("Euclidean, unit", "one", Distance::Euclidean, on_unit, Neg::One(&unit[2])),
        ("cosine", "one", Distance::Cosine, raw, Neg::One(&first)),
        ("Euclidean, raw", "hardest of 2", Distance::Euclidean, raw, Neg::Many(&t.negatives)),
        ("cosine", "hardest of 2", Distance::Cosine, raw, Neg::Many(&t.negatives)),
    ] {
        let settings = [(0.2, false), (0.5, false), (1.0, false), (0.0, true)];
        let row = settings.map(|(margin, soft)| loss(margin, distance, soft, rows, n));
        let row = row.into_iter().collect::<anyhow::Result<Vec<f64>>>()?;
        table.row([name.into(), negatives.into()].into_iter().chain(row.iter().map(|&x| num(x, 6))));
        losses.push(row);
    }
    page.table("Mean of max(0, d(a,p) - d(a,n) + margin); soft: ln(1 + exp(d(a,p) - d(a,n)))", &table);
    let all = Distance::Euclidean.paired(&t.anchors.unsqueeze(1)?, &t.negatives)?;
    let hardest = all.argmin(1)?.to_vec1::<u32>()?;

    let (a, p) = (Var::from_tensor(&t.anchors)?, Var::from_tensor(&t.positives)?);
    let gradients = Triplet::default().forward(&a, &p, Neg::One(&first))?.loss.backward()?;
    let gradient = |of: &Var| -> anyhow::Result<Vec<Vec<f64>>> {
        Ok(gradients.get(of).map_or_else(|| of.zeros_like(), |g| Ok(g.clone()))?.to_vec2()?)
    };
    let (by_a, by_p) = (gradient(&a)?, gradient(&p)?);
    let coincident = Triplet::default().forward(&a, &t.anchors, Neg::One(&first))?.loss.backward()?;
    let coincident = coincident.get(&a).map(Tensor::to_vec2::<f64>).transpose()?.unwrap_or_default();

    page.section("Growing instead of learning");
    let mut table = Table::new(["scale of the rows", "raw, margin 1", "unit, margin 1"]);
    let mut grown = Vec::new();
    for scale in [1.0, 2.0, 4.0, 8.0] {
        let [a, p, n] = [(&t.anchors * scale)?, (&t.positives * scale)?, (&first * scale)?];
        let raw = loss(1.0, Distance::Euclidean, false, [&a, &p], Neg::One(&n))?;
        let unit = [normalize(&a)?, normalize(&p)?, normalize(&n)?];
        let unit = loss(1.0, Distance::Euclidean, false, [&unit[0], &unit[1]], Neg::One(&unit[2]))?;
        table.row([num(scale, 0), num(raw, 4), num(unit, 4)]);
        grown.push((raw, unit));
    }
    page.table("Raw rows meet the margin of three anchors by scale alone", &table);

    page.section("Which negatives");
    let world = FamilyWorld::new(page.seed_or(5))?;
    let steps = page.size(400, 2_000);
    let triplet = Triplet { margin: 0.2, distance: Distance::Cosine, soft: false };
    let mut recalls = Vec::new();
    let mut idle: Vec<(&str, Vec<(u64, f64)>)> = Vec::new();
    for (name, k) in [("one random", 1), ("hardest of 10 random", 10)] {
        let (encoder, params) = world.encoder(1)?;
        let mut log = Vec::new();
        train(&params, steps, 3e-3, |step| {
            let items = world.items(step, BATCH);
            let (a, p) = world.pairs(&items, step)?;
            let n = encoder.forward(&random_others(&world, &items, k, step)?)?.reshape((BATCH, k, DIM))?;
            let out = triplet.forward(&encoder.forward(&a)?, &encoder.forward(&p)?, Neg::Many(&n))?;
            let TripletMetrics { active, .. } = out.metrics;
            if step % 50 == 49 {
                log.push((step + 1, 1.0 - active));
            }
            Ok(out.loss)
        })?;
        idle.push((name, log));
        recalls.push(world.recall_at_1(&encoder)?);
    }
    let (encoder, params) = world.encoder(1)?;
    train(&params, steps, 3e-3, |step| {
        let (a, p) = world.batch(step, BATCH)?;
        let out = InfoNce::new(0.1).forward(&encoder.forward(&a)?, &encoder.forward(&p)?, Negatives::InBatch)?;
        Ok(out.loss)
    })?;
    recalls.push(world.recall_at_1(&encoder)?);
    let mut table = Table::new(["step", "one random: idle", "hardest of 10: idle"]);
    for (one, ten) in idle[0].1.iter().zip(&idle[1].1) {
        table.row([one.0.into(), num(one.1, 3).within(0.05), num(ten.1, 3).within(0.05)]);
    }
    page.table("Share of the 64 anchors whose loss is zero, and which teach nothing", &table);
    let mut table = Table::new(["loss", "recall@1"]);
    table.row(["none: raw cosine".into(), num(world.raw_recall()?, 3)]);
    for (name, recall) in ["triplet, one random", "triplet, hardest of 10", "InfoNCE, all 63"].into_iter().zip(&recalls)
    {
        table.row([name.into(), num(*recall, 3).within(0.02)]);
    }
    page.table("Second views among 1,000 items after 400 steps of 64 pairs, margin 0.2 on cosines", &table);
    let chart = Chart::lines("Anchors that teach nothing", "step", "share with zero loss");
    let chart = idle.iter().fold(chart, |chart, (name, log)| chart.series(*name, log.clone()));
    page.chart("idle.svg", &chart)?;

    let expected = [
        [0.05, 0.125, 0.3718819967, 0.4071802821],
        [0.0533924903, 0.1283924903, 0.3922725664, 0.4327219173],
        [0.0516066816, 0.1880870971, 0.5010002256, f64::NAN],
        [0.05, f64::NAN, 0.5295553983, f64::NAN],
        [0.0516066816, f64::NAN, 0.7673474053, f64::NAN],
    ];
    let known = losses.iter().flatten().zip(expected.iter().flatten()).filter(|(_, y)| !y.is_nan());
    page.claim("the losses are the reference's").all(known, |(x, y)| (x - y).abs() < 1e-9);
    page.claim("hardest negatives of the four anchors").equals(hardest, [0, 1, 1, 0]);
    page.claim("the gradient is zero exactly where the hinge is")
        .equals([0, 1, 2, 3].map(|i| by_a[i].iter().any(|&g| g != 0.0)), [true, false, false, true]);
    let rows = [by_a[0].clone(), by_a[3].clone(), by_p[0].clone()].concat();
    let wanted = [0.03243913, 0.14433757, -0.03243913, -0.30618622, 0.30618622, 0.0, -0.17677670, 0.0, 0.17677670];
    page.claim("and the reference's elsewhere").all(rows.iter().zip(wanted), |(x, y)| (x - y).abs() < 1e-8);
    page.claim("it is finite where anchor and positive coincide").all(coincident.concat(), f64::is_finite);
    let farther = (&t.anchors + ((&first - &t.anchors)? * 2.0)?)?;
    page.claim("a negative twice as far costs no more")
        .at_most(loss(1.0, Distance::Euclidean, false, raw, Neg::One(&farther))?, losses[0][2]);
    page.claim("one of one negative is the hardest").equals(
        loss(1.0, Distance::Cosine, false, raw, Neg::Many(&first.unsqueeze(1)?))?,
        loss(1.0, Distance::Cosine, false, raw, Neg::One(&first))?,
    );
    page.claim("scaling raw rows by 8 lowers their loss").less(grown[3].0, grown[0].0);
    page.claim("and changes nothing on unit rows").close(grown[3].1, grown[0].1, 1e-12);
    page.claim("the hardest of ten beats one by .25").greater(recalls[1], recalls[0] + 0.25);
    page.claim("all negatives at once beat the hardest of ten").greater(recalls[2], recalls[1]);
    page.finish()
}

/// Views of `k` items drawn at random for each of `items`, never the item itself: shape `(k items, 32)`.
fn random_others(world: &FamilyWorld, items: &[u32], k: usize, step: u64) -> Result<Tensor, NnError> {
    let mut rng = SplitMix64::stream(0x0DD5, step);
    let n = world.families().len();
    let other = |&item: &u32| (item as usize + 1 + rng.below(n - 1)) % n;
    let others: Vec<u32> =
        items.iter().flat_map(|item| std::iter::repeat_n(item, k)).map(other).map(|i| i as u32).collect();
    world.view(&others, u64::MAX - step)
}
