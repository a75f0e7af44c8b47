//! Listing 6.1: one network, two inputs. Are these two pictures of one digit, and what of digits that training never saw?
//!
//! cargo run --release --example siamese_tabular_network

use candle_core::{Device, Tensor};
use ch06_siamese_networks::digit_net::{DigitNet, PairBatch, pick, stretches, tensor};
use ch06_siamese_networks::digits::{Digits, Pairs, distance, one_shot};
use eas_losses::metric::PairContrastive;
use eas_nn::layers::ImageShape;
use eas_nn::params::Parameters;
use eas_nn::siamese::{EmbeddingConfig, EmbeddingNet, SiameseKind};
use eas_nn::{Mode, NnError};
use eas_report::{Chart, Table, num};
use eas_tensor::Matrix;
use eas_tensor::kernels::norm;
use eas_tensor::rng::SplitMix64;

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let seed = page.seed();

    page.section("The network");
    let mut table = Table::new(["input", "hidden layers", "dimension", "parameters"]);
    let mut sizes = Vec::new();
    for (input, hidden, dim) in [(50, vec![1_024, 768, 512], 512), (50, vec![1_024, 512], 512), (64, vec![128, 64], 32)]
    {
        let mut params = Parameters::new(seed, &Device::Cpu);
        let shape = format!("{hidden:?}");
        EmbeddingNet::new(&mut params, "net", &EmbeddingConfig { input, hidden, dim, dropout: 0.3 })?;
        table.row([input.into(), shape.into(), dim.into(), params.count().into()]);
        sizes.push(params.count());
    }
    page.table("Linear, batch normalisation, ReLU, dropout; the output scaled to unit length", &table);

    let picture = ImageShape { height: 8, width: 8, channels: 1 };
    let mut table = Table::new(["kind", "input", "output", "lengths", "pairs a training step needs"]);
    let mut lengths = Vec::new();
    for (name, kind, shape) in [
        ("tabular", SiameseKind::Tabular { input: 50 }, vec![50]),
        ("image", SiameseKind::Image { shape: picture }, vec![64, 1]),
        ("text", SiameseKind::Text { input: 256 }, vec![256]),
        ("multimodal", SiameseKind::MultiModal { image: picture, text: 256 }, vec![64 + 256]),
    ] {
        let mut params = Parameters::new(seed, &Device::Cpu);
        let network = kind.build(&mut params, "net", 512)?;
        let size: usize = shape.iter().product();
        let x: Vec<f32> = (0..4 * size).map(|i| (i as f32).sin()).collect();
        let x = Tensor::from_vec(x, [&[4], &shape[..]].concat(), &Device::Cpu)?;
        let embedded = network.embed(&x)?;
        // A batch of one pair: its two rows make the batch that the normalisation needs.
        network.forward(&x.narrow(0, 0, 1)?, &x.narrow(0, 1, 1)?, Mode::train(seed, 0))?;
        let unit = embedded.iter_rows().map(norm).collect::<Vec<_>>();
        table.row([name.into(), format!("{shape:?}").into(), embedded.dim().into(), num(unit[0], 4), 1.into()]);
        lengths.extend(unit.into_iter().map(|length| (embedded.dim(), length)));
    }
    page.table("The factory: every kind gives unit vectors of the dimension it was asked for", &table);

    page.section("Ten digits");
    let digits = Digits::load()?;
    let mut pixels = digits.test.clone();
    pixels.normalize_rows();
    let (untrained, trained) = (DigitNet::new(seed)?, DigitNet::new(seed)?);
    let losses = train(&trained, &digits.train, &digits.train_labels, seed)?;
    let (before, after) = (untrained.embed(&digits.test)?, trained.embed(&digits.test)?);
    let mut table = Table::new(["vectors", "AUC", "equal error rate", "10-way, one shot"]);
    let mut scores = Vec::new();
    for (name, rows) in [("pixels", &pixels), ("untrained network", &before), ("trained network", &after)] {
        let s = digits.verify(rows, seed)?;
        let (auc, eer) = (num(s.auc, 3).within(0.01), num(s.eer, 3).within(0.015));
        table.row([name.into(), auc, eer, num(s.one_shot, 3).within(0.03)]);
        scores.push(s);
    }
    page.table("4,000 pairs of test pictures, one in ten of one digit", &table);
    let pairs = Pairs::draw(&digits.test_labels, 2_000, 1_000, seed)?;
    for (file, title, rows) in [("before.svg", "Before training", &before), ("after.svg", "After 300 steps", &after)] {
        let (same, different) = pairs.split(&pairs.distances(rows)?);
        let chart = Chart::histogram(title, "distance of a pair", 40).series("one digit", same);
        page.chart(file, &chart.series("two digits", different))?;
    }
    let steps = stretches(&losses, 50).iter().map(|loss| format!("{loss:.4}")).collect::<Vec<_>>().join(", ");
    page.text(format!("Mean loss of 50 steps each: {steps}."));

    page.section("Digits never seen");
    let known: Vec<u32> = (0..7).collect();
    let (rows, labels) = digits.of_classes(&known);
    let narrow = DigitNet::new(seed)?;
    train(&narrow, &rows, &labels, seed)?;
    let embedded = narrow.embed(&digits.test)?;
    let shot = |rows: &Matrix, classes: &[u32]| one_shot(rows, &digits.test_labels, classes, 50, seed);
    let mut table = Table::new(["vectors", "0 to 6, one shot", "7 to 9, one shot"]);
    let mut unseen = Vec::new();
    for (name, rows) in [("pixels", &pixels), ("trained on 0 to 6", &embedded)] {
        let (old, new) = (shot(rows, &known)?, shot(rows, &[7, 8, 9])?);
        table.row([name.into(), num(old, 3).within(0.03), num(new, 3).within(0.05)]);
        unseen.push((old, new));
    }
    page.table("7-way among known digits, 3-way among new ones", &table);
    page.text(
        "Seven classes teach the network to tell these seven apart, and to throw away whatever doesn't: it reads a 7, 8 or 9 as one of \
         them, and loses to the pixels. What makes a Siamese network good at classes it has never seen is to have seen many: \
         listings 6.7 and 6.8.",
    );

    let (x, y) = (tensor(&digits.test)?.narrow(0, 0, 100)?, tensor(&digits.test)?.narrow(0, 100, 100)?);
    let (forth, back) = (trained.network.distances(&x, &y)?, trained.network.distances(&y, &x)?);
    let (left, right) = trained.network.forward(&x, &x, Mode::EVAL)?;
    let farthest = (0..100).map(|i| distance(after.row(i), after.row(100 + i))).zip(&forth);
    let one_row = trained.forward(&x.narrow(0, 0, 1)?);

    page.claim("parameters of the three networks").equals(sizes, [1_500_416, 842_752, 19_040]);
    page.claim("every kind has dimension 512 and unit length")
        .all(lengths, |(dim, length)| dim == 512 && (length - 1.0).abs() < 1e-5);
    page.claim("both branches give one input one embedding")
        .all(left.to_vec2::<f32>()?.into_iter().zip(right.to_vec2::<f32>()?), |(x, y)| x == y);
    page.claim("distances are symmetric").all(forth.iter().zip(&back), |(x, y)| x == y);
    page.claim("and those of embed").all(farthest, |(d, expected)| (d - expected).abs() < 1e-6);
    page.claim("a training batch of a single picture is refused").fails(one_row, "at least 2 rows");
    page.claim("AUC of the trained network").at_least(scores[2].auc, 0.96);
    page.claim("its equal error rate").at_most(scores[2].eer, 0.10);
    page.claim("training halves the error of the pixels").less(scores[2].eer, scores[0].eer / 2.0);
    page.claim("one shot is better than from pixels, by 0.1").at_least(scores[2].one_shot, scores[0].one_shot + 0.1);
    page.claim("the loss falls to less than a third").less(stretches(&losses, 50)[5], stretches(&losses, 50)[0] / 3.0);
    page.claim("trained on seven digits it is no better than pixels on three new ones")
        .at_most(unseen[1].1, unseen[0].1);
    page.claim("though it is on the seven").greater(unseen[1].0, unseen[0].0);
    page.finish()
}

/// 300 steps of 64 pairs with the contrastive loss at margin 1.
fn train(net: &DigitNet, rows: &Matrix, labels: &[u32], seed: u64) -> anyhow::Result<Vec<f64>> {
    let (rows, mut rng) = (tensor(rows)?, SplitMix64::stream(seed, 1));
    net.train(|_| {
        let batch = PairBatch::draw(labels, 64, &mut rng);
        let members = (pick(&rows, &batch.first)?, pick(&rows, &batch.second)?);
        let (first, second) = net.network.forward(&members.0, &members.1, Mode::train(0, 0))?;
        Ok::<_, NnError>(PairContrastive::default().forward(&first, &second, &batch.labels)?.loss)
    })
}
