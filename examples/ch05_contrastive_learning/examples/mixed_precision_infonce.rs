//! Listing 5.17: half precision. Where 16 bits break a contrastive loss, and the recipe that keeps it whole.
//!
//! cargo run --release --example mixed_precision_infonce

use std::ops::ControlFlow;

use candle_core::{DType, Device, Tensor};
use ch05_contrastive_learning::families::{FamilyWorld, matrix};
use eas_losses::contrastive::candidate_loss;
use eas_losses::{InfoNce, Negatives, fixtures, normalize};
use eas_nn::amp::{GradScaler, Precision};
use eas_nn::encoders::Encoder;
use eas_nn::gradients::Gradients;
use eas_nn::optim::Method;
use eas_nn::params::Parameters;
use eas_nn::train::on_one_thread;
use eas_nn::trainer::{Batch, Trainer, TrainerConfig};
use eas_nn::{Mode, NnError};
use eas_report::{Table, num, sci};

const TEMPERATURE: f64 = 0.07;

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();

    page.section("What 16 bits hold");
    let largest = (2.0 - 2f64.powi(-10)) * 2f64.powi(15);
    let limit = largest.ln() * TEMPERATURE;
    let mut table =
        Table::new(["format", "bits of precision", "largest", "smallest", "exp(cosine / .07) overflows above"]);
    table.row(["f16".into(), 11.into(), num(largest, 0), sci(2f64.powi(-24), 4), num(limit, 7)]);
    table.row(["bf16".into(), 8.into(), sci(3.389_531_4e38, 2), sci(2f64.powi(-133), 2), "never".into()]);
    table.row(["f32".into(), 24.into(), sci(f64::from(f32::MAX), 2), sci(2f64.powi(-149), 2), "never".into()]);
    page.table("Numbers", &table);

    page.section("One loss, four ways");
    let t = fixtures::tiny(DType::F32, &Device::Cpu)?;
    let (a, p) = (normalize(&t.anchors)?, normalize(&t.positives)?);
    let targets = [0, 1, 2, 3];
    let mut losses = Vec::new();
    for precision in [Precision::F32, Precision::F16, Precision::Bf16] {
        let cosines = precision.matmul(&a, &p.t()?)?;
        losses.push(f64::from(candidate_loss(&cosines, &targets, TEMPERATURE, None, None)?.to_scalar::<f32>()?));
    }
    // Without subtracting the largest logit, everything in f16.
    let shares = (a.to_dtype(DType::F16)?.matmul(&p.to_dtype(DType::F16)?.t()?)? / TEMPERATURE)?.exp()?;
    let shares = shares.broadcast_div(&shares.sum_keepdim(1)?)?.to_dtype(DType::F32)?.to_vec2::<f32>()?;
    let naive = -(0..4).map(|i| shares[i][i].ln()).sum::<f32>() / 4.0;
    // The book's stable loss: candidates [anchors; positives], and each anchor's target is itself.
    let both = a.matmul(&Tensor::cat(&[&a, &p], 0)?.t()?)?;
    let itself = candidate_loss(&both, &targets, TEMPERATURE, None, None)?.to_scalar::<f32>()?;
    let two_view = InfoNce::new(TEMPERATURE).forward(&t.anchors, &t.positives, Negatives::TwoView)?.loss;
    let mut table = Table::new(["cosines in", "exponentials", "loss"]);
    table.row(["f32".into(), "f32, shifted".into(), num(losses[0], 7)]);
    table.row(["f16".into(), "f32, shifted".into(), num(losses[1], 7)]);
    table.row(["bf16".into(), "f32, shifted".into(), num(losses[2], 7)]);
    table.row(["f16".into(), "f16, plain".into(), format!("{naive}").into()]);
    table.row(["f32, both views".into(), "the book's, target itself".into(), num(itself, 7)]);
    table.row(["f32, both views".into(), "target its positive".into(), num(two_view.to_scalar::<f32>()?, 7)]);
    page.table("Fixture T at temperature 0.07", &table);

    page.section("Loss scaling");
    let mut params = Parameters::new(1, &Device::Cpu);
    let weight = params.constant("weight", &[1], 1.0)?;
    let tiny = (Precision::F16.round(&weight)? * 1e-8)?.sum_all()?;
    let survives = |scaler: GradScaler| -> Result<f64, NnError> {
        let mut gradients = Gradients::of(&scaler.scaled(&tiny)?, &params)?;
        scaler.unscale(&mut gradients)?;
        gradients.norm()
    };
    let (lost, kept) =
        (survives(GradScaler { scale: 1.0, ..GradScaler::default() })?, survives(GradScaler::default())?);
    page.text(format!(
        "A gradient of 1e-8 that passes through f16 arrives as {lost:e}; scaled by 65,536 it arrives as {kept:.1e}."
    ));
    // Steps 2 and 6 have gradients beyond 65,504.
    let mut task = |batch: &Batch<'_>| {
        let size = if [1, 5].contains(&batch.step) { 1e3 } else { 1e-3 };
        Ok((Precision::F16.round(&weight)? * size)?.sum_all()?)
    };
    let mut trace: Vec<(f64, bool, f32)> = Vec::new();
    let scaler = GradScaler { interval: 3, ..GradScaler::default() };
    let config =
        TrainerConfig { method: Method::SGD, precision: Precision::F16, scaler, ..TrainerConfig::new(11, 1, 1.0) };
    Trainer::new(config, &params, 1)?.run(&mut task, |report| {
        let now = weight.to_vec1::<f32>().map_or(f32::NAN, |w| w[0]);
        trace.push((report.scale, report.skipped, now));
        ControlFlow::Continue(())
    })?;
    let mut table = Table::new(["step", "scale after it", "skipped", "weight after it"]);
    for (i, pair) in trace.windows(2).enumerate() {
        let skipped = if pair[0].1 { "yes" } else { "" };
        table.row([(i + 1).into(), num(pair[1].0, 0), skipped.into(), num(pair[0].2, 4)]);
    }
    page.table("Growth after 3 good steps; gradients overflow at steps 2 and 6", &table);

    page.section("Training");
    let world = FamilyWorld::new(page.seed_or(5))?;
    let steps = page.size(200, 1_000);
    let mut table = Table::new(["products in", "loss scale", "recall@1", "skipped", "last loss"]);
    let mut recalls = Vec::new();
    let none = GradScaler { scale: 1.0, growth: 1.0, ..GradScaler::default() };
    for (name, precision, scaler) in [
        ("f32", Precision::F32, none),
        ("bf16", Precision::Bf16, none),
        ("f16", Precision::F16, GradScaler::default()),
        ("f16", Precision::F16, none),
    ] {
        let scaled = precision == Precision::F16 && scaler.scale > 1.0;
        let (encoder, params) = world.encoder(1)?;
        let config = TrainerConfig { precision, scaler, clip: Some(1.0), ..TrainerConfig::new(steps, 1, 3e-3) };
        let outcome = page.timed(format!("{name}{}", if scaled { ", scaled" } else { "" }), || {
            on_one_thread(|| {
                let mut task = |batch: &Batch<'_>| {
                    let (a, p) = world.batch(batch.step, 128)?;
                    let (a, p) = (encoder.forward_in(&a, batch.mode())?, encoder.forward_in(&p, batch.mode())?);
                    Ok(InfoNce::new(0.1).forward(&a, &p, Negatives::InBatch)?.loss)
                };
                Trainer::new(config, &params, 1)?.run(&mut task, |_| ControlFlow::Continue(()))
            })
        })?;
        let mode = Mode::EVAL.with_precision(precision);
        let recall = world.recall_with(|x| matrix(&encoder.forward_in(x, mode)?))?;
        let last = outcome.epochs.last().map_or(f64::NAN, |epoch| epoch.loss);
        let scale = if scaled { "dynamic" } else { "none" };
        table.row([
            name.into(),
            scale.into(),
            num(recall, 3).within(0.01),
            outcome.skipped.into(),
            num(last, 3).within(0.01),
        ]);
        recalls.push((recall, outcome.skipped));
    }
    page.table(format!("Dataset F, {steps} steps of 128 pairs; weights, loss and optimizer stay f32"), &table);
    page.text("On a CPU the halves are widened, multiplied in f32 and rounded again: the numbers are those of half precision, the speed isn't.");

    page.claim("f16 ends at 65,504").equals(largest, 65_504.0);
    page.claim("exp overflows at cosines that any good pair has").close(limit, 0.776_290_7, 1e-7);
    page.claim("plain exponentials in f16 give no number").all([naive], f32::is_nan);
    page.claim("the shifted loss in f32 is PyTorch's").close(losses[0], 0.011_811_3, 1e-6);
    page.claim("cosines in f16 change it by less than 1e-4").close(losses[1], losses[0], 1e-4);
    page.claim("in bf16 by less than 2e-4").close(losses[2], losses[0], 2e-4);
    page.claim("a small gradient dies in f16").equals(lost, 0.0);
    page.claim("and survives the scaling").close(kept, 1e-8, 1e-11);
    let (s, h) = (65_536.0, 32_768.0);
    let expected = [s, h, h, h, s, h, h, h, s, s];
    page.claim("the scale halves and doubles as it should").all(trace[1..].iter().zip(expected), |(x, y)| x.0 == y);
    page.claim("a skipped step changes no weight").all([1, 5], |i| trace[i].1 && trace[i].2 == trace[i - 1].2);
    page.claim("scaled f16 trains as well as f32").close(recalls[2].0, recalls[0].0, 0.02);
    page.claim("bf16 needs no scaling").close(recalls[1].0, recalls[0].0, 0.02);
    page.claim("and skips nothing").equals(recalls[1].1, 0);
    page.claim("all of them learn").all(&recalls, |recall| recall.0 > 0.9);
    page.finish()
}
