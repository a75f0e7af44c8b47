//! Listing 5.4: NT-Xent, SimCLR's loss: of 2B views each has one positive, its twin. Which row is the twin must be said right.
//!
//! cargo run --release --example nt_xent_loss

use candle_core::{DType, Device, Tensor, Var};
use ch05_contrastive_learning::families::{FamilyWorld, train};
use eas_losses::contrastive::candidate_loss;
use eas_losses::supervised::sup_con;
use eas_losses::{LossError, NtXent, PairLayout, fixtures, normalize};
use eas_nn::encoders::Encoder;
use eas_report::{Table, num};
use eas_tensor::rng::SplitMix64;

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let t = fixtures::tiny(DType::F64, &Device::Cpu)?;
    let halves = Tensor::cat(&[&t.anchors, &t.positives], 0)?;
    let interleaved = interleave(&t.anchors, &t.positives)?;
    let loss = |views: &Tensor, temperature, layout| -> Result<f64, LossError> {
        Ok(NtXent { temperature, layout }.forward(views)?.loss.to_scalar()?)
    };

    page.section("Two layouts, one loss");
    let mut table =
        Table::new(["temperature", "[a0 p0 a1 p1 ..] as Interleaved", "[A; P] as Halves", "[a0 p0 ..] as Halves"]);
    let (mut losses, mut apart, mut crossed) = (Vec::new(), Vec::new(), Vec::new());
    for temperature in [0.07, 0.1, 0.5, 1.0] {
        let right = loss(&interleaved, temperature, PairLayout::Interleaved)?;
        let also = loss(&halves, temperature, PairLayout::Halves)?;
        let wrong = loss(&interleaved, temperature, PairLayout::Halves)?;
        table.row([num(temperature, 2), num(right, 7), num(also, 7), num(wrong, 7)]);
        losses.push(right);
        apart.push((right - also).abs());
        crossed.push(wrong);
    }
    page.table("Fixture T, four pairs; the last column pairs every view with a stranger and raises no error", &table);
    let metrics = NtXent { temperature: 0.5, layout: PairLayout::Halves }.forward(&halves)?.metrics;
    let rows = row_losses(&interleaved, 0.5)?;

    let views = Var::from_tensor(&interleaved)?;
    let gradients = NtXent { temperature: 0.5, layout: PairLayout::Interleaved }.forward(&views)?.loss.backward()?;
    let gradient = gradients.get(&views).map(Tensor::to_vec2::<f64>).transpose()?.unwrap_or_default();

    page.section("The layout guard");
    page.text("Before training, a batch goes in as its own second view. Twins that are no more alike than strangers stop the run:");
    let probe = |layout, views: &Tensor| NtXent { temperature: 0.5, layout }.check_layout(views);
    let same = interleave(&t.anchors, &t.anchors)?;
    let refused = probe(PairLayout::Halves, &same);
    if let Err(error) = &refused {
        page.text(error.to_string());
    }

    page.section("What the mistake costs");
    let world = FamilyWorld::new(page.seed_or(5))?;
    let mut table = Table::new(["layout given to the loss", "first loss", "last loss", "recall@1"]);
    let mut recalls = Vec::new();
    for layout in [PairLayout::Interleaved, PairLayout::Halves] {
        let (encoder, params) = world.encoder(1)?;
        let criterion = NtXent { temperature: 0.1, layout };
        let history = train(&params, page.size(150, 600), 3e-3, |step| {
            let (a, p) = world.batch(step, 64)?;
            Ok(criterion.forward(&interleave(&encoder.forward(&a)?, &encoder.forward(&p)?)?)?.loss)
        })?;
        let recall = world.recall_at_1(&encoder)?;
        let ends = [history[0], history[history.len() - 1]].map(|x| num(x, 3).within(0.02));
        table.row([format!("{layout:?}").into()].into_iter().chain(ends).chain([num(recall, 3).within(0.02)]));
        recalls.push(recall);
    }
    let (raw, untrained) = (world.raw_recall()?, world.recall_at_1(&world.encoder(1)?.0)?);
    page.table("Interleaved views of the planted families, 64 items a step, 150 steps", &table);
    page.text(format!(
        "The untrained encoder finds {untrained:.3}, raw cosine {raw:.3}: the wrong layout teaches next to nothing."
    ));

    page.section("One product instead of a loop");
    let mut rng = SplitMix64::new(4);
    let many = Tensor::from_iter((0..512 * 64).map(|_| rng.normal()), &Device::Cpu)?.reshape((512, 64))?;
    let whole = page.timed("512 views at once", || loss(&many, 0.5, PairLayout::Interleaved))?;
    let looped = page.timed("512 views row by row", || row_losses(&many, 0.5))?;
    let looped = looped.iter().sum::<f64>() / 512.0;

    let identical = Tensor::ones((8, 3), DType::F64, &Device::Cpu)?;
    let labels = [0, 0, 1, 1, 2, 2, 3, 3];
    page.claim("the losses are PyTorch's")
        .all(losses.iter().zip([0.0321276954, 0.0851574007, 0.9153401133, 1.3413647863]), |(x, y)| {
            (x - y).abs() < 1e-9
        });
    page.claim("both layouts give the same loss").all(apart, |gap| gap < 1e-12);
    page.claim("the mean of the row losses is the loss").close(rows.iter().sum::<f64>() / 8.0, losses[2], 1e-12);
    let expected = [0.78250522, 0.91822022, 0.60653624, 0.80746513, 0.75402069, 0.89151098, 1.27185455, 1.29060787];
    page.claim("row by row, as PyTorch has them").all(rows.iter().zip(expected), |(x, y)| (x - y).abs() < 1e-8);
    let expected = [0.05306357, -0.06132533, 0.08960363, 0.00554873, -0.00832310, 0.27732155];
    page.claim("so are the gradients of the first pair")
        .all(gradient[..2].concat().iter().zip(expected), |(x, y)| (x - y).abs() < 1e-8);
    page.claim("every view of fixture T finds its twin").equals(metrics.accuracy, 1.0);
    page.claim("the mean cosine of strangers").close(metrics.negative_similarity, 0.1216539507, 1e-9);
    page.claim("crossed layouts at .5 cost nearly three times as much").close(crossed[2], 2.6464454195, 1e-9);
    page.claim("and 386 times at .07").close(crossed[0], 12.3971655972, 1e-9);
    page.claim("one pair costs nothing").equals(loss(&interleaved.narrow(0, 0, 2)?, 0.5, PairLayout::Halves)?, 0.0);
    page.claim("identical rows cost ln(2B - 1)").close(loss(&identical, 0.5, PairLayout::Halves)?, 7f64.ln(), 1e-12);
    page.claim("it is the supervised loss with one label a pair").close(
        sup_con(&interleaved, &labels, 0.5)?.to_scalar::<f64>()?,
        losses[2],
        1e-12,
    );
    page.claim("the guard lets the right layout through")
        .all([probe(PairLayout::Interleaved, &same)], |probe| probe.is_ok());
    page.claim("and refuses the wrong one").fails(refused, "in another order");
    page.claim("the right layout teaches").at_least(recalls[0], 0.95);
    page.claim("the wrong one ends below raw cosine").less(recalls[1], raw);
    page.claim("the loop and the product agree").close(looped, whole, 1e-12);
    page.finish()
}

/// Rows `a0, p0, a1, p1, ...`.
fn interleave(a: &Tensor, p: &Tensor) -> Result<Tensor, LossError> {
    let (batch, dim) = a.dims2()?;
    Ok(Tensor::stack(&[a, p], 1)?.reshape((2 * batch, dim))?)
}

/// The loss of each interleaved view on its own, in a loop as the book has it.
fn row_losses(views: &Tensor, temperature: f64) -> Result<Vec<f64>, LossError> {
    let z = normalize(views)?;
    let n = z.dim(0)?;
    let row = |i: usize| {
        let cosines = z.narrow(0, i, 1)?.matmul(&z.t()?)?;
        let keep = Tensor::from_iter((0..n).map(|j| u8::from(i != j)), &Device::Cpu)?.unsqueeze(0)?;
        Ok(candidate_loss(&cosines, &[(i ^ 1) as u32], temperature, Some(&keep), None)?.to_scalar()?)
    };
    (0..n).map(row).collect()
}
