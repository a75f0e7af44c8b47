//! Listing 5.1: InfoNCE. Find each anchor's positive among the other rows of the batch, and among negatives of its own.
//!
//! cargo run --release --example infonce_loss

use candle_core::{DType, Device, Tensor, Var};
use ch05_contrastive_learning::families::{FamilyWorld, train};
use ch05_contrastive_learning::information::{TRUE_MI, information_bound};
use eas_losses::contrastive::{RetrievalMetrics, candidate_loss};
use eas_losses::{InfoNce, LossError, Negatives, fixtures, normalize};
use eas_nn::encoders::Encoder;
use eas_report::{Chart, Table, num};

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();

    page.section("One batch, five kinds of candidates");
    let t = fixtures::tiny(DType::F64, &Device::Cpu)?;
    let mut table =
        Table::new(["candidates", "each", "loss at .07", "at .1", "at .5", "accuracy", "positive", "negative"]);
    let mut losses = Vec::new();
    for (name, negatives) in [
        ("other positives", Negatives::InBatch),
        ("own negatives", Negatives::Explicit(&t.negatives)),
        ("both", Negatives::InBatchPlusOwn(&t.negatives)),
        ("both, shared by all", Negatives::InBatchPlusPool(&t.negatives)),
        ("both views, not itself", Negatives::TwoView),
    ] {
        let mut row = Vec::new();
        for temperature in [0.07, 0.1, 0.5] {
            let out = InfoNce::new(temperature).forward(&t.anchors, &t.positives, negatives)?;
            row.push((out.loss.to_scalar::<f64>()?, out.metrics));
        }
        let m = row[0].1;
        let cells = row.iter().map(|(loss, _)| num(*loss, 6));
        let cosines = [num(m.accuracy, 2), num(m.positive_similarity, 4), num(m.negative_similarity, 4)];
        table.row([name.into(), m.n_candidates.into()].into_iter().chain(cells).chain(cosines));
        losses.extend(row.into_iter().map(|(loss, _)| loss));
    }
    page.table("Four anchors and positives; similarities are cosines, not divided by the temperature", &table);
    let ones = Tensor::ones((64, 3), DType::F64, &Device::Cpu)?;
    let same = InfoNce::new(0.1).forward(&ones, &ones, Negatives::InBatch)?;

    page.section("The wrong target");
    page.text("With candidates [anchors; positives] and target i, each anchor is told to find itself, and its positive is pushed away.");
    let right = |a: &Tensor, p: &Tensor| Ok(InfoNce::new(0.07).forward(a, p, Negatives::InBatch)?.loss);
    let (start, corrected) = cosine_after_a_step(&t, right)?;
    let (_, mistaken) = cosine_after_a_step(&t, |a, p| self_as_positive(a, p, 0.07))?;
    let wrong = self_as_positive(&t.anchors, &t.positives, 0.07)?.to_scalar::<f64>()?;
    let mut table = Table::new(["target", "loss at .07", "mean cosine before", "after one step"]);
    table.row(["its positive".into(), num(losses[0], 6), num(start, 7), num(corrected, 7)]);
    table.row(["itself".into(), num(wrong, 6), num(start, 7), num(mistaken, 7)]);
    page.table("Gradient descent on the inputs, learning rate 0.1", &table);

    page.section("Training an encoder");
    let world = FamilyWorld::new(page.seed_or(5))?;
    let (encoder, params) = world.encoder(1)?;
    let (raw, batch) = (world.raw_recall()?, page.size(128, 512));
    let mut log: Vec<(u64, f64, RetrievalMetrics)> = Vec::new();
    train(&params, 301, 3e-3, |step| {
        let (a, p) = world.batch(step, batch)?;
        let out = InfoNce::new(0.1).forward(&encoder.forward(&a)?, &encoder.forward(&p)?, Negatives::InBatch)?;
        if step % 50 == 0 {
            log.push((step, f64::from(out.loss.to_scalar::<f32>()?), out.metrics));
        }
        Ok(out.loss)
    })?;
    let recall = world.recall_at_1(&encoder)?;
    let mut table = Table::new(["step", "loss", "accuracy", "positive", "negative", "gap", "MI bound, nats"]);
    for (step, loss, m) in &log {
        let cosines = [m.positive_similarity, m.negative_similarity, m.similarity_gap].map(|x| num(x, 3));
        let bound = num(m.mi_lower_bound(*loss), 3);
        table.row([(*step).into(), num(*loss, 3), num(m.accuracy, 3)].into_iter().chain(cosines).chain([bound]));
    }
    page.table("1,000 items in 200 families, 128 pairs a step, temperature 0.1", &table);
    page.text(format!("A second view finds its item among 1,000: {raw:.3} by raw cosine, {recall:.3} after training."));

    page.section("The bound");
    page.text("ln N - loss can't exceed ln N, N the number of candidates. With the true density ratio as the score:");
    let mut table = Table::new(["candidates N", "ln N", "bound", "true MI"]);
    let mut bounds = Vec::new();
    for n in [2, 8, 32, 128, 512, 2_048, 4_096].into_iter().take(page.size(5, 7)) {
        let bound = information_bound(n, 32_768 / n, page.seed_or(5))?;
        table.row([n.into(), num((n as f64).ln(), 4), num(bound, 4), num(TRUE_MI, 4)]);
        bounds.push((n, bound));
    }
    page.table("Two vectors in R^4, correlation 0.8 in each coordinate", &table);
    let chart = Chart::lines("What N candidates can prove", "candidates", "nats")
        .log_x()
        .series("bound", bounds.clone())
        .series("ln N", bounds.iter().map(|&(n, _)| (n, (n as f64).ln())).filter(|p| p.1 < 3.0))
        .level("true mutual information", TRUE_MI);
    page.chart("bound.svg", &chart)?;

    let expected = [
        0.0118112760,
        0.0411822892,
        0.5619190058,
        0.2026408426,
        0.2295119502,
        0.5635816437,
        0.2094375956,
        0.2543499694,
        0.9163177202,
        0.7008592836,
        0.7247938400,
        1.4944773579,
        0.0125632770,
        0.0475880125,
        0.8537291765,
    ];
    page.claim("the losses are PyTorch's").all(losses.iter().zip(expected), |(x, y)| (x - y).abs() < 1e-9);
    page.claim("a batch that tells nothing apart costs ln B").close(same.loss.to_scalar::<f64>()?, 64f64.ln(), 1e-12);
    page.claim("the wrong target's loss is another").close(wrong, 0.346_867_011_0, 1e-9);
    page.claim("a step on the right loss brings pairs together").close(corrected, 0.935_198_8, 1e-7);
    page.claim("a step on the wrong one drives them apart").close(mistaken, 0.914_303_8, 1e-7);
    page.claim("the trained encoder finds the item").at_least(recall, 0.95);
    page.claim("which raw cosine seldom does").at_most(raw, 0.35);
    let expected = bounds.iter().zip([0.5396, 1.3558, 1.7644, 1.9373, 2.0242]);
    page.claim("the bound is what theory says at each N")
        .all(expected, |((_, bound), exact)| (bound - exact).abs() < 0.05);
    page.claim("it grows with N").all(bounds.windows(2), |pair| pair[0].1 < pair[1].1);
    let ceiling = |n: usize| (n as f64).ln().min(TRUE_MI + 0.05);
    page.claim("and stays below ln N and the true value").all(&bounds, |&(n, bound)| bound < ceiling(n));
    page.finish()
}

/// The book's loss: candidates are anchors and positives, and the target of anchor i is column i, which is anchor i.
fn self_as_positive(anchors: &Tensor, positives: &Tensor, temperature: f64) -> Result<Tensor, LossError> {
    let (a, p) = (normalize(anchors)?, normalize(positives)?);
    let cosines = a.matmul(&Tensor::cat(&[&a, &p], 0)?.t()?)?;
    let itself: Vec<u32> = (0..anchors.dim(0)? as u32).collect();
    candidate_loss(&cosines, &itself, temperature, None, None)
}

/// The mean cosine of the pairs before and after one step of gradient descent on both sides.
fn cosine_after_a_step(
    t: &fixtures::Tiny,
    loss: impl Fn(&Tensor, &Tensor) -> Result<Tensor, LossError>,
) -> anyhow::Result<(f64, f64)> {
    let (a, p) = (Var::from_tensor(&t.anchors)?, Var::from_tensor(&t.positives)?);
    let cosine =
        || -> anyhow::Result<f64> { Ok((normalize(&a)? * normalize(&p)?)?.sum(1)?.mean_all()?.to_scalar::<f64>()?) };
    let before = cosine()?;
    let gradients = loss(&a, &p)?.backward()?;
    for side in [&a, &p] {
        if let Some(gradient) = gradients.get(side) {
            side.set(&(side.as_tensor() - (gradient * 0.1)?)?)?;
        }
    }
    Ok((before, cosine()?))
}
