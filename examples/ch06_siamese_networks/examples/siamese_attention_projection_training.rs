//! Listing 6.3: a projection head, attention that has something to attend to, half precision and recomputation, each a switch.
//!
//! cargo run --release --example siamese_attention_projection_training

use std::time::Instant;

use candle_core::{D, Device, Tensor};
use ch06_siamese_networks::digit_net::{PairBatch, STEPS, pick, tensor};
use ch06_siamese_networks::digits::Digits;
use eas_losses::metric::PairContrastive;
use eas_nn::checkpoint::ActivationMeter;
use eas_nn::encoders::Encoder;
use eas_nn::gradients::Gradients;
use eas_nn::heads::ProjectionHead;
use eas_nn::params::Parameters;
use eas_nn::siamese::attention::{AttentionConfig, AttentionSiamese, SiameseBatch, SiameseTrainer, SiameseTraining};
use eas_nn::transformer::MultiHeadAttention;
use eas_nn::{Mode, Precision};
use eas_report::{Table, duration, num};
use eas_tensor::rng::SplitMix64;

/// The whole picture as one token, as in the book.
const ONE: AttentionConfig =
    AttentionConfig { tokens: 1, width: 64, hidden: 128, dim: 32, heads: Some(4), dropout: 0.1 };
/// A token for each row of pixels.
const ROWS: AttentionConfig = AttentionConfig { tokens: 8, width: 8, ..ONE };

/// Pairs a step.
const PAIRS: usize = 32;

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let (digits, seed) = (Digits::load()?, page.seed());
    let (pixels, mut rng) = (tensor(&digits.train)?, SplitMix64::stream(seed, 1));
    let pairs = (0..STEPS).map(|_| PairBatch::draw(&digits.train_labels, PAIRS, &mut rng)).collect::<Vec<_>>();
    let (x, y) = (pick(&pixels, &pairs[0].first)?, pick(&pixels, &pairs[0].second)?);
    let size = |build: &dyn Fn(&mut Parameters) -> Result<(), eas_nn::NnError>| {
        let mut params = Parameters::new(seed, &Device::Cpu);
        build(&mut params).map(|()| params.count())
    };
    let attention = size(&|params| MultiHeadAttention::new(params, "a", 512, 8, 0.1).map(drop))?;
    let projection = size(&|params| ProjectionHead::with_batch_norm(params, "p", 512, 512, 512).map(drop))?;

    page.section("Attention over one token");
    let build = |config| -> anyhow::Result<(Parameters, AttentionSiamese)> {
        let mut params = Parameters::new(seed, &Device::Cpu);
        let model = AttentionSiamese::new(&mut params, "net", config)?;
        Ok((params, model))
    };
    let gradients = |(params, model): &(Parameters, AttentionSiamese), checkpoint| -> anyhow::Result<Gradients> {
        let (mode, meter) = (Mode::train(seed, 0).replayed(), ActivationMeter::new());
        let done = model.differentiate(&[&x, &y], mode, checkpoint, &meter, |parts| {
            Ok(PairContrastive::default().forward(&parts[0], &parts[1], &pairs[0].labels)?.loss)
        })?;
        Ok(Gradients::from_store(&done.gradients, params))
    };
    let (one, rows) = (build(ONE)?, build(ROWS)?);
    let mut table = Table::new(["gradient of", "one token", "eight tokens"]);
    let (of_one, of_rows) = (gradients(&one, false)?, gradients(&rows, false)?);
    let mut norms = Vec::new();
    for part in ["query", "key", "value", "output"] {
        let norm = |g: &Gradients| -> anyhow::Result<f64> {
            let Some(g) = g.get(&format!("net.attention.{part}.weight")) else { return Ok(0.0) };
            Ok(f64::from(g.sqr()?.sum_all()?.to_scalar::<f32>()?).sqrt())
        };
        let (single, several) = (norm(&of_one)?, norm(&of_rows)?);
        table.row([part.into(), num(single, 5), num(several, 5)]);
        norms.push((single, several));
    }
    page.table("Norm of the first step's gradient", &table);
    page.text(
        "A softmax over one key is 1 whatever the query: the book's block, which reads its features as a sequence of one, is the \
         linear layer W_o (W_v x + b_v) + b_o, and half of its weights never learn. Rows of pixels are a sequence.",
    );
    let token = one.1.tokens(&x, Mode::EVAL)?;
    let block = one.1.attention().map(|a| a.forward_with_weights(&token, None, Mode::EVAL)).transpose()?;
    let (out, weights) = block.ok_or_else(|| anyhow::anyhow!("built with attention"))?;
    let saved = one.0.snapshot()?;
    let linear = |x: &Tensor, part: &str| {
        let of = |kind: &str| &saved[&format!("net.attention.{part}.{kind}")];
        x.matmul(&of("weight").t()?)?.broadcast_add(of("bias"))
    };
    let by_hand = linear(&linear(&token.squeeze(1)?, "value")?, "output")?;
    let block_gap = largest(&(out.squeeze(1)? - by_hand)?)?;
    let weights = weights.flatten_all()?.to_vec1::<f32>()?;
    let recomputed = gradients(&rows, true)?;
    let mut step_gap = 0.0f32;
    for ((_, plain), (_, again)) in of_rows.iter().zip(recomputed.iter()) {
        if let (Some(plain), Some(again)) = (plain, again) {
            step_gap = step_gap.max(largest(&(plain - again)?)?);
        }
    }
    // The rows of each picture from bottom to top: without positions the mean of the tokens wouldn't notice.
    let upside_down = pick(&x.reshape((PAIRS, 8, 8))?.transpose(0, 1)?.contiguous()?, &[7, 6, 5, 4, 3, 2, 1, 0])?;
    let upside_down = upside_down.transpose(0, 1)?.contiguous()?.reshape((PAIRS, 64))?;
    let turned = largest(&(rows.1.forward(&x)? - rows.1.forward(&upside_down)?)?)?;
    for (_, positions) in rows.0.named().filter(|(name, _)| *name == "net.positions") {
        positions.set(&positions.zeros_like()?)?;
    }
    let unplaced = largest(&(rows.1.forward(&x)? - rows.1.forward(&upside_down)?)?)?;

    page.section("Digits");
    let contrastive = pairs.iter().map(|batch| batch.as_pairs(&pixels)).collect::<Result<Vec<_>, _>>()?;
    let triplets = pairs.iter().map(|batch| batch.as_triplets(&pixels, &digits.train_labels));
    let triplets = triplets.collect::<Result<Vec<_>, _>>()?;
    let plain = SiameseTraining { seed, ..SiameseTraining::default() };
    let mut table =
        Table::new(["tokens", "loss", "run", "AUC", "EER", "accuracy, last 50", "stored numbers", "a step"]);
    let mut runs = Vec::new();
    for (config, batches, name, settings) in [
        (ROWS, &contrastive, "f32", plain),
        (ROWS, &contrastive, "bf16", SiameseTraining { precision: Precision::Bf16, ..plain }),
        (ROWS, &contrastive, "recomputed", SiameseTraining { checkpoint: true, ..plain }),
        (ONE, &contrastive, "f32", plain),
        (ONE, &triplets, "f32", plain),
    ] {
        let (params, model) = build(config)?;
        let mut trainer = SiameseTrainer::new(&model, &params, settings)?;
        let start = Instant::now();
        let epochs = batches.chunks(50).map(|part| trainer.train_epoch(part)).collect::<Result<Vec<_>, _>>()?;
        let (step, last) = (start.elapsed() / STEPS as u32, epochs[epochs.len() - 1]);
        let s = digits.verify(&model.encode(&tensor(&digits.test)?)?, seed)?;
        let loss = if matches!(batches[0], SiameseBatch::Pairs { .. }) { "pairs" } else { "triplets" };
        let (auc, eer) = (num(s.auc, 3).within(0.01), num(s.eer, 3).within(0.015));
        let accuracy = num(last.accuracy, 3).within(0.02);
        table.row([
            config.tokens.into(),
            loss.into(),
            name.into(),
            auc,
            eer,
            accuracy,
            last.stored.into(),
            duration(step),
        ]);
        runs.push((s.auc, last));
    }
    page.table("300 steps of 32 pairs; AdamW 1e-3 after 20 steps of warm-up, gradients clipped to 1", &table);
    page.text(
        "Attention doesn't win here: in a picture of 8 x 8 the whole is a better token than a row. Recomputing keeps fewer numbers for \
         the backward pass and takes longer; half precision gains nothing on a CPU, which has no units for it.",
    );
    let both = rows.1.encode(&Tensor::cat(&[&x, &y], 0)?)?.into_vec();
    let apart = [rows.1.encode(&x)?.into_vec(), rows.1.encode(&y)?.into_vec()].concat();

    page.claim("parameters of attention at width 512").equals(attention, 1_050_624);
    page.claim("and of the projection head").equals(projection, 526_336);
    page.claim("over one token every weight is exactly 1").all(weights, |weight| weight == 1.0);
    page.claim("and the block is W_o (W_v x + b_v) + b_o").at_most(block_gap, 1e-6);
    page.claim("its queries and keys get no gradient").equals([norms[0].0, norms[1].0], [0.0; 2]);
    page.claim("over eight tokens they do").all(&norms, |norm| norm.1 > 0.0);
    page.claim("a picture upside down has another embedding").at_least(turned, 1e-3);
    page.claim("without positions it would have the same").at_most(unplaced, 1e-5);
    page.claim("recomputing changes no gradient").at_most(step_gap, 1e-6);
    page.claim("and keeps fewer numbers").less(runs[2].1.stored, runs[0].1.stored);
    page.claim("a joint pass scores as one branch alone").all(both.iter().zip(&apart), |(x, y)| x == y);
    page.claim("AUC of every run").all(&runs, |run| run.0 >= 0.93);
    page.claim("bf16 is within 0.01 of f32").close(runs[1].0, runs[0].0, 0.01);
    page.claim("the whole picture beats its rows").greater(runs[3].0, runs[0].0);
    page.finish()
}

/// The largest magnitude in a tensor.
fn largest(x: &Tensor) -> anyhow::Result<f32> {
    Ok(x.flatten_all()?.abs()?.max(D::Minus1)?.to_scalar::<f32>()?)
}
