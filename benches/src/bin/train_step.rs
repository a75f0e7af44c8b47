//! Times whole training steps: forward pass, loss, backward pass and AdamW.
//!
//! cargo run --release -p eas-bench --bin train_step -- --work transformer --init weights.safetensors
//! cargo run --release -p eas-bench --bin train_step -- --work transformer --in weights.safetensors --steps 3

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use clap::{Parser, ValueEnum};
use eas_losses::tiled;
use eas_nn::encoders::{Encoder, Mlp};
use eas_nn::gradients::Gradients;
use eas_nn::optim::{Method, Optimizer};
use eas_nn::params::Parameters;
use eas_nn::transformer::{TransformerConfig, TransformerEncoder};
use eas_nn::{Mode, NnError};
use std::path::PathBuf;
use std::time::Instant;

const TEMPERATURE: f64 = 0.1;
const LEARNING_RATE: f64 = 1e-4;
const WEIGHT_DECAY: f64 = 0.01;
const VOCABULARY: usize = 2048;

#[derive(Parser)]
#[command(
    about = "Times training steps of a model on one batch",
    after_help = "Weights and batch come from --in, a safetensors file that --init wrote: the tensors of the model by name, \
                  and the batch as `batch.first` and `batch.second`. Dropout is off."
)]
struct Flags {
    /// The model and its loss.
    #[arg(long, value_enum)]
    work: Work,
    /// Writes seeded weights and a batch to this file, and ends.
    #[arg(long)]
    init: Option<PathBuf>,
    /// The file with weights and batch.
    #[arg(long = "in", required_unless_present = "init")]
    input: Option<PathBuf>,
    /// Pairs of views in a batch; default 256 for the transformer, 1,024 for the MLP.
    #[arg(long)]
    pairs: Option<usize>,
    /// Threads; 0 means all of the machine's. Candle's products follow RAYON_NUM_THREADS.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Steps that are timed, after one that isn't.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    steps: u32,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Work {
    /// 4 layers of width 256, 4 heads, 32 tokens; NT-Xent over both views.
    Transformer,
    /// 512 to 256 to 128; InfoNCE.
    Mlp,
}

fn main() -> Result<()> {
    let flags = Flags::parse();
    eas_bench::set_threads(flags.threads)?;
    let mut params = Parameters::new(7, &Device::Cpu);
    let model = Model::new(flags.work, &mut params)?;
    if let Some(path) = &flags.init {
        let mut all: std::collections::HashMap<_, _> = params.snapshot()?.into_iter().collect();
        let [first, second] = model.batch(flags.pairs)?;
        all.extend([("batch.first".to_owned(), first), ("batch.second".to_owned(), second)]);
        candle_core::safetensors::save(&all, path).with_context(|| format!("writing {}", path.display()))?;
        return Ok(());
    }
    let path = flags.input.context("--in is needed")?;
    let mut all =
        candle_core::safetensors::load(&path, &Device::Cpu).with_context(|| format!("reading {}", path.display()))?;
    let mut part = |name: &str| all.remove(name).with_context(|| format!("there is no tensor {name:?} in the input"));
    let batch = [part("batch.first")?, part("batch.second")?];
    params.restore(&all.into_iter().collect())?;

    let memory = eas_bench::memory::PeakMemory::start();
    let mut optimizer = Optimizer::new(Method::adamw(WEIGHT_DECAY), &params)?;
    let mut times = Vec::new();
    for step in 0..=flags.steps {
        let started = Instant::now();
        let loss = model.loss(&batch, u64::from(step))?;
        let value = loss.to_scalar::<f32>()?;
        optimizer.step(&Gradients::of(&loss, &params)?, LEARNING_RATE)?;
        drop(loss);
        times.push(started.elapsed().as_secs_f64() * 1e3);
        println!("loss {value:.6}");
    }
    let timed = &mut times[1..];
    timed.sort_by(f64::total_cmp);
    println!("{:.2} ms a step{memory}", timed[timed.len() / 2]);
    Ok(())
}

enum Model {
    Transformer(TransformerEncoder),
    Mlp(Mlp),
}

impl Model {
    fn new(work: Work, params: &mut Parameters) -> Result<Self, NnError> {
        let config = TransformerConfig { width: 256, layers: 4, heads: 4, inner: 1024, positions: 32, dropout: 0.0 };
        Ok(match work {
            Work::Transformer => Self::Transformer(TransformerEncoder::of_tokens(params, "text", config, VOCABULARY)?),
            Work::Mlp => Self::Mlp(Mlp::new(params, "mlp", 512, 256, 128)?),
        })
    }

    /// Two views of as many things: token ids of which one in ten differs, or features with noise.
    fn batch(&self, pairs: Option<usize>) -> Result<[Tensor; 2]> {
        let mut rng = eas_tensor::rng::SplitMix64::new(11);
        match self {
            Self::Transformer(_) => {
                let (pairs, length) = (pairs.unwrap_or(256), 32);
                let mut token = || 1 + rng.below(VOCABULARY - 1) as u32;
                let first: Vec<u32> = (0..pairs * length).map(|_| token()).collect();
                let second: Vec<u32> =
                    first.iter().enumerate().map(|(i, &id)| if i % 10 == 3 { token() } else { id }).collect();
                let tensor = |ids| Tensor::from_vec(ids, (pairs, length), &Device::Cpu);
                Ok([tensor(first)?, tensor(second)?])
            }
            Self::Mlp(_) => {
                let (pairs, width) = (pairs.unwrap_or(1024), 512);
                let first: Vec<f32> = (0..pairs * width).map(|_| rng.normal() as f32).collect();
                let second: Vec<f32> = first.iter().map(|x| x + rng.normal() as f32).collect();
                let tensor = |values| Tensor::from_vec(values, (pairs, width), &Device::Cpu);
                Ok([tensor(first)?, tensor(second)?])
            }
        }
    }

    fn loss(&self, [first, second]: &[Tensor; 2], step: u64) -> Result<Tensor, NnError> {
        let mode = Mode::train(1, step);
        match self {
            Self::Transformer(model) => {
                let views = model.forward_in(&Tensor::cat(&[first, second], 0)?, mode)?;
                Ok(tiled::nt_xent(&views, TEMPERATURE)?)
            }
            Self::Mlp(model) => {
                let (a, b) = (model.forward_in(first, mode)?, model.forward_in(second, mode)?);
                Ok(tiled::info_nce(&a, &b, TEMPERATURE)?)
            }
        }
    }
}
