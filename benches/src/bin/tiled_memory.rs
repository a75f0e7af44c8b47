//! One forward and backward pass of a softmax loss in tiles: its time, and how far the peak of memory rises above the inputs.
//!
//! cargo run --release -p eas-bench --bin tiled_memory -- --loss info_nce --batch 32768 --dim 256

use std::time::Instant;

use anyhow::{Context, bail};
use candle_core::{Device, Tensor, Var};
use clap::{Parser, ValueEnum};
use eas_bench::memory::PeakMemory;
use eas_losses::{InfoNce, Negatives, NtXent, PairLayout, tiled};
use eas_tensor::rng::SplitMix64;

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Loss {
    /// In-batch InfoNCE of anchors and positives, `(batch, dim)` each.
    #[value(name = "info_nce")]
    InfoNce,
    /// NT-Xent of both views, `(2 batch, dim)`.
    #[value(name = "nt_xent")]
    NtXent,
}

#[derive(Parser)]
#[command(about = "Time and peak memory of a contrastive loss in tiles, forward and backward")]
struct Args {
    #[arg(long, value_enum)]
    loss: Loss,
    /// Pairs
    #[arg(long, default_value_t = 32_768)]
    batch: usize,
    #[arg(long, default_value_t = 256)]
    dim: usize,
    #[arg(long, default_value_t = 0.07)]
    temperature: f64,
    /// The plain loss with its batch x batch matrix instead
    #[arg(long)]
    plain: bool,
    /// Fail when memory rises by more MiB than this
    #[arg(long)]
    limit: Option<f64>,
}

fn main() -> anyhow::Result<()> {
    let Args { loss, batch, dim, temperature, plain, limit } = Args::parse();
    let mut rng = SplitMix64::new(1);
    let mut rows = |near: Option<&[f32]>| -> Vec<f32> {
        (0..batch * dim).map(|i| rng.normal() as f32 + near.map_or(0.0, |near| near[i])).collect()
    };
    let anchors = rows(None);
    let positives = rows(Some(&anchors));
    let device = Device::Cpu;
    let inputs = match loss {
        Loss::InfoNce => vec![(anchors, batch), (positives, batch)],
        Loss::NtXent => vec![([anchors, positives].concat(), 2 * batch)],
    };
    let inputs = inputs.into_iter().map(|(rows, n)| Var::from_vec(rows, (n, dim), &device));
    let inputs: Vec<Var> = inputs.collect::<Result<_, _>>()?;

    let memory = PeakMemory::start();
    let start = Instant::now();
    let value: Tensor = match (loss, plain) {
        (Loss::InfoNce, false) => tiled::info_nce(&inputs[0], &inputs[1], temperature)?,
        (Loss::InfoNce, true) => InfoNce::new(temperature).forward(&inputs[0], &inputs[1], Negatives::InBatch)?.loss,
        (Loss::NtXent, false) => tiled::nt_xent(&inputs[0], temperature)?,
        (Loss::NtXent, true) => NtXent { temperature, layout: PairLayout::Halves }.forward(&inputs[0])?.loss,
    };
    let gradients = value.backward()?;
    let time = start.elapsed().as_secs_f64();
    let mut norm = 0.0;
    for input in &inputs {
        let gradient = gradients.get(input).context("no gradient")?;
        norm += f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?);
    }
    let name = if plain { "plain" } else { "in tiles" };
    println!(
        "{loss:?} {name}, {batch} pairs of {dim}: loss {:.7}, gradient norm {:.7}, {time:.1} s{memory}",
        value.to_scalar::<f32>()?,
        norm.sqrt()
    );
    match (limit, memory.growth()) {
        (Some(limit), Some(growth)) if growth > limit => bail!("{growth:.1} MiB are more than {limit}"),
        (Some(_), None) => bail!("this system doesn't tell how much memory is used"),
        _ => Ok(()),
    }
}
