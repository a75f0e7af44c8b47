//! Listing 5.20: compute for memory. Keep the inputs of segments, run them again in the backward pass: the same gradient.
//!
//! cargo run --release --example checkpointed_contrastive_encoder

use std::time::Instant;

use candle_core::{Device, Tensor, Var};
use eas_losses::wrapper::backward_with;
use eas_losses::{NtXent, PairLayout};
use eas_nn::checkpoint::{ActivationMeter, Block, Differentiated, Segmented};
use eas_nn::dropout::Dropout;
use eas_nn::gradients::Gradients;
use eas_nn::layers::Linear;
use eas_nn::params::Parameters;
use eas_nn::{Mode, NnError};
use eas_report::{Chart, Table, duration, num, sci};
use eas_tensor::rng::SplitMix64;

const WIDTH: usize = 128;
const INNER: usize = 512;
const BLOCKS: usize = 8;
const BATCH: usize = 64;

/// A residual block: x + W2 ReLU(W1 x), with dropout on what is added.
struct Residual {
    inner: Linear,
    outer: Linear,
    dropout: Dropout,
}

impl Residual {
    fn new(params: &mut Parameters, name: &str, dropout: f64) -> Result<Self, NnError> {
        Ok(Self {
            inner: Linear::new(params, &format!("{name}.inner"), WIDTH, INNER)?,
            outer: Linear::new(params, &format!("{name}.outer"), INNER, WIDTH)?,
            dropout: Dropout::new(&format!("{name}.dropout"), dropout)?,
        })
    }

    fn forward(&self, x: &Tensor, mode: Mode, meter: &ActivationMeter) -> Result<Tensor, NnError> {
        meter.keep(x);
        let hidden = self.inner.forward_in(x, mode)?;
        meter.keep(&hidden);
        let active = hidden.relu()?;
        meter.keep(&active);
        Ok((x + self.dropout.forward(&self.outer.forward_in(&active, mode)?, mode)?)?)
    }
}

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let mut rng = SplitMix64::new(page.seed_or(5));
    let values: Vec<f32> = (0..BATCH * WIDTH).map(|_| rng.normal() as f32).collect();
    let input = Tensor::from_vec(values, (BATCH, WIDTH), &Device::Cpu)?;
    let loss = |x: &Tensor| Ok(NtXent { temperature: 0.5, layout: PairLayout::Halves }.forward(x)?.loss);

    let mut table =
        Table::new(["segments", "numbers kept at most", "plain / this", "work / plain", "gradient differs by", "time"]);
    let (mut peaks, mut works, mut differences) = (Vec::new(), Vec::new(), Vec::new());
    for dropout in [0.0, 0.1] {
        let mut params = Parameters::new(1, &Device::Cpu);
        let residuals: Vec<Residual> = (0..BLOCKS)
            .map(|i| Residual::new(&mut params, &format!("block.{i}"), dropout))
            .collect::<Result<_, _>>()?;
        let closures: Vec<_> = residuals
            .iter()
            .map(|r| |x: &Tensor, mode: Mode, meter: &ActivationMeter| r.forward(x, mode, meter))
            .collect();
        let blocks: Vec<&Block<'_>> = closures.iter().map(|block| block as &Block<'_>).collect();
        let mode = Mode::train(page.seed_or(5), 0);
        let mut plain: Option<Gradients> = None;
        for segments in [0, 8, 4, 2, 1] {
            let (meter, start) = (ActivationMeter::new(), Instant::now());
            let done: Differentiated = if segments == 0 {
                Segmented::plain(&blocks, &input, mode, &meter, loss)?
            } else {
                Segmented::new(segments)?.run(&blocks, &input, mode, &meter, loss)?
            };
            let time = start.elapsed();
            let ours = Gradients::from_store(&done.gradients, &params);
            let difference = largest_difference(&ours, plain.get_or_insert_with(|| ours.clone()))?;
            differences.push(difference);
            if dropout > 0.0 {
                continue;
            }
            peaks.push(meter.peak());
            works.push(meter.work());
            let name = if segments == 0 { "none, one graph".to_owned() } else { segments.to_string() };
            let ratios = [num(peaks[0] as f64 / meter.peak() as f64, 2), num(meter.work() as f64 / works[0] as f64, 4)];
            let rest = [sci(difference, 0).within(1e-6), duration(time)];
            table.row([name.into(), meter.peak().into()].into_iter().chain(ratios).chain(rest));
        }
        if dropout == 0.0 {
            // What checkpointing only the head saves: seven blocks in one graph, the last one run again.
            let meter = ActivationMeter::new();
            let leaf = Var::from_tensor(&input)?;
            let mut x = leaf.as_tensor().clone();
            for block in &blocks[..BLOCKS - 1] {
                x = block(&x, mode, &meter)?;
            }
            let head = Segmented::new(1)?.run(&blocks[BLOCKS - 1..], &x, mode, &meter, loss)?;
            let mut store = head.gradients;
            if let Some(upstream) = &head.by_input {
                store.extend(backward_with(&x, upstream)?)?;
            }
            let ours = Gradients::from_store(&store, &params);
            if let Some(plain) = &plain {
                differences.push(largest_difference(&ours, plain)?);
            }
            let cells = [num(peaks[0] as f64 / meter.peak() as f64, 2), "".into(), "".into(), "".into()];
            table.row(["the last block only".into(), meter.peak().into()].into_iter().chain(cells));
            peaks.push(meter.peak());
        }
    }
    page.table("8 residual blocks 128 -> 512 -> 128, batch of 64, NT-Xent", &table);
    page.text("A backward pass is two forward passes' work. The book checkpoints its small head by hand, which saves nothing.");
    let bars = [("none", peaks[0]), ("8", peaks[1]), ("4", peaks[2]), ("2", peaks[3]), ("1", peaks[4])];
    let chart = Chart::bars("Kept for the backward pass", "segments", "numbers", bars.map(|bar| bar.0))
        .series("at most", bars.map(|bar| bar.1 as f64));
    page.chart("kept.svg", &chart)?;

    page.claim("one graph keeps 64 (8 1152 + 128) numbers").equals(peaks[0], 598_016);
    page.claim("eight segments keep 64 (8 128 + 1152 + 128)").equals(peaks[1], 147_456);
    page.claim("a quarter").close(peaks[0] as f64 / peaks[1] as f64, 4.06, 0.005);
    page.claim("at 4/3 of the work, exactly").all(&works[1..], |work| 3 * work == 4 * works[0]);
    page.claim("one segment saves nothing").at_least(peaks[4], peaks[0]);
    page.claim("the last block alone saves nothing either").at_least(peaks[5], peaks[0]);
    page.claim("every gradient is the plain one, with dropout too").all(&differences, |difference| *difference < 1e-6);
    page.finish()
}

/// The largest difference of two gradients of one model, value by value.
fn largest_difference(ours: &Gradients, theirs: &Gradients) -> anyhow::Result<f64> {
    let mut most = 0f64;
    for ((name, ours), (_, theirs)) in ours.iter().zip(theirs.iter()) {
        let (Some(ours), Some(theirs)) = (ours, theirs) else { anyhow::bail!("{name} has no gradient") };
        most = most.max(f64::from((ours - theirs)?.abs()?.max_all()?.to_scalar::<f32>()?));
    }
    Ok(most)
}
