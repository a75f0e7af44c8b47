//! Listing 5.11: hard negatives inside the batch. Only the k candidates most like the anchor matter, and its own positive isn't one.
//!
//! cargo run --release --example in_batch_hard_negatives

use candle_core::{DType, Device, Tensor};
use ch05_contrastive_learning::families::{FamilyWorld, train};
use eas_losses::contrastive::{HardInBatch, InfoNce, Negatives, candidate_loss};
use eas_losses::{LossError, fixtures, normalize};
use eas_nn::encoders::Encoder;
use eas_report::{Chart, Table, num};
use eas_tensor::rng::SplitMix64;

/// What each anchor of a training step is told from.
#[derive(Clone, Copy, PartialEq)]
enum Against {
    OneAtRandom,
    Hardest(usize),
    All,
}

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let t = fixtures::tiny(DType::F64, &Device::Cpu)?;

    page.section("Four anchors, six candidates each");
    let variants = [(1, 0.5), (2, 0.5), (6, 0.5), (6, -2.0)];
    let mut table = Table::new(["k", "cosine above", "loss at .07", "loss at .5", "used by anchor", "mean cosine"]);
    let (mut losses, mut used) = (Vec::new(), Vec::new());
    for (k, hardness_threshold) in variants {
        let at = |temperature| {
            let out = HardInBatch { temperature, hardness_threshold, k }.forward(&t.anchors, &t.positives)?;
            Ok::<_, anyhow::Error>((out.loss.to_scalar::<f64>()?, out.metrics))
        };
        let ((cold, metrics), (warm, _)) = (at(0.07)?, at(0.5)?);
        let count = format!("{:?}", metrics.used);
        let numbers = [num(cold, 6), num(warm, 6), count.into(), num(metrics.hard_similarity, 4)];
        table.row([k.into(), num(hardness_threshold, 1)].into_iter().chain(numbers));
        losses.push([cold, warm]);
        used.push(metrics.used);
    }
    page.table("Of the candidates above the threshold the k hardest; where none is above it, of all", &table);
    let all = InfoNce::new(0.07).forward(&t.anchors, &t.positives, Negatives::TwoView)?.loss.to_scalar::<f64>()?;
    // Were its own positive among the candidates, each anchor's hardest negative would be itself.
    let twins = HardInBatch { k: 1, ..HardInBatch::default() }.forward(&t.anchors, &t.anchors)?.metrics;

    page.section("The anchor's own positive as its hardest negative");
    let mut table = Table::new(["left out", "loss at .07", "at .5"]);
    let mut mistaken = Vec::new();
    for (name, anchors_first) in
        [("column i of [anchors; positives]", true), ("column i of [positives; anchors]", false)]
    {
        let [cold, warm] = [0.07, 0.5].map(|tau| one_column_left_out(&t.anchors, &t.positives, anchors_first, tau));
        let (cold, warm) = (cold?, warm?);
        table.row([name.into(), num(cold, 7), num(warm, 7)]);
        mistaken.extend([cold, warm]);
    }
    page.table("The book's mask with k = 1, for candidates in either order", &table);
    page.text(
        "Leaving out the anchor alone keeps its positive: the loss compares it with itself and is ln 2 whatever the data. In \
         the other order the anchor itself stays.",
    );

    page.section("Training");
    let world = FamilyWorld::new(page.seed_or(5))?;
    let batch = page.size(64, 256);
    let mut table = Table::new(["negatives", "recall@1", "used at first", "at last", "cosine at first", "at last"]);
    let mut chart = Chart::lines("Finding an item among 1,000", "step", "recall@1");
    let mut recalls = Vec::new();
    for (name, against) in [
        ("one at random", Against::OneAtRandom),
        ("the hardest", Against::Hardest(1)),
        ("the 10 hardest", Against::Hardest(10)),
        ("all", Against::All),
    ] {
        let (encoder, params) = world.encoder(1)?;
        let (mut curve, mut first, mut last) = (Vec::new(), None, None);
        let mut rng = SplitMix64::new(page.seed());
        train(&params, 401, 3e-3, |step| {
            if step % 50 == 0 {
                curve.push((step, world.recall_at_1(&encoder)?));
            }
            let (a, p) = world.batch(step, batch)?;
            let (a, p) = (encoder.forward(&a)?, encoder.forward(&p)?);
            let k = match against {
                Against::OneAtRandom => {
                    let others: Vec<u32> =
                        (0..batch).map(|i| ((i + 1 + rng.below(batch - 1)) % batch) as u32).collect();
                    let negatives = p.index_select(&Tensor::new(others, &Device::Cpu)?, 0)?.unsqueeze(1)?;
                    return Ok(InfoNce::new(0.07).forward(&a, &p, Negatives::Explicit(&negatives))?.loss);
                }
                Against::Hardest(k) => k,
                Against::All => return Ok(InfoNce::new(0.07).forward(&a, &p, Negatives::TwoView)?.loss),
            };
            let out = HardInBatch { k, ..HardInBatch::default() }.forward(&a, &p)?;
            let mean = out.metrics.used.iter().sum::<usize>() as f64 / batch as f64;
            last = Some((mean, out.metrics.hard_similarity));
            first = first.or(last);
            Ok(out.loss)
        })?;
        let recall = curve.last().map_or(0.0, |point| point.1);
        let cell = |x: Option<f64>| x.map_or("-".into(), |x| num(x, 2));
        let kept = [first.map(|f| f.0), last.map(|l| l.0), first.map(|f| f.1), last.map(|l| l.1)].map(cell);
        table.row([name.into(), num(recall, 3)].into_iter().chain(kept));
        chart = chart.series(name, curve);
        recalls.push(recall);
    }
    page.table("400 steps of 64 pairs, temperature .07, threshold .5", &table);
    page.chart("recall.svg", &chart)?;
    let random = recalls[0];

    let expected = [
        [0.0076575746, 0.3649019020],
        [0.0118342728, 0.5293766189],
        [0.0118350855, 0.6418412445],
        [0.0125632770, 0.8537291765],
    ];
    let pairs = losses.iter().flatten().zip(expected.into_iter().flatten());
    page.claim("the losses are PyTorch's").all(pairs, |(loss, known)| (loss - known).abs() < 1e-9);
    page.claim("negatives that each anchor really uses")
        .equals(&used[1..], [vec![2, 2, 1, 2], vec![6, 6, 1, 2], vec![6; 4]]);
    page.claim("all six without a threshold are SimCLR's").close(losses[3][0], all, 1e-12);
    page.claim("more negatives never lower the loss")
        .all(losses.windows(2), |w| w[0][0] <= w[1][0] && w[0][1] <= w[1][1]);
    page.claim("with twins as positives the hardest negative is another").less(twins.hard_similarity, 0.99);
    page.claim("the book's loss is ln 2 at any temperature")
        .all(&mistaken[..2], |loss| (loss - 2f64.ln()).abs() < 1e-9);
    page.claim("and this in the other order").close(mistaken[2], 1.298_113_744, 1e-9);
    page.claim("the hardest in the batch find the item").all(&recalls[1..3], |&recall| recall >= 0.95);
    page.claim("which a random one seldom does").all(&recalls[1..3], |&recall| recall >= random + 0.3);
    page.finish()
}

/// The book's loss with k = 1: of `2 batch` candidates only column i is left out.
fn one_column_left_out(a: &Tensor, p: &Tensor, anchors_first: bool, temperature: f64) -> Result<f64, LossError> {
    let (a, p) = (normalize(a)?, normalize(p)?);
    let candidates = if anchors_first { Tensor::cat(&[&a, &p], 0)? } else { Tensor::cat(&[&p, &a], 0)? };
    let rows = a.matmul(&candidates.t()?)?.to_vec2::<f64>()?;
    let positives = (&a * &p)?.sum(1)?.to_vec1::<f64>()?;
    let pair = |(i, row): (usize, &Vec<f64>)| {
        let left = row.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, s)| *s);
        vec![positives[i], left.fold(f64::NEG_INFINITY, f64::max)]
    };
    let similarities: Vec<Vec<f64>> = rows.iter().enumerate().map(pair).collect();
    let targets = vec![0; similarities.len()];
    let similarities = Tensor::new(similarities, &Device::Cpu)?;
    Ok(candidate_loss(&similarities, &targets, temperature, None, None)?.to_scalar::<f64>()?)
}
