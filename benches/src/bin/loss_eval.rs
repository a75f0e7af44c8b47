//! Evaluates a loss and its gradients on tensors from a file.
//!
//! cargo run --release -p eas-bench --bin loss_eval -- --loss nt_xent --in inputs.safetensors --param temperature=0.1 --out result.safetensors
//! cargo run --release -p eas-bench --bin loss_eval -- --list

use anyhow::{Context, Result, bail};
use candle_core::{DType, Device, Tensor};
use clap::{Parser, ValueEnum};
use eas_losses::registry;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::Instant;

/// Up to this many rows of f32 the computation is in f64: it costs nothing there, and small losses keep all digits of the result.
const DOUBLE_UP_TO: usize = 1023;

#[derive(Parser)]
#[command(
    about = "Evaluates a loss and its gradients on tensors from a safetensors file",
    after_help = "The input holds what --list names: anchors (B, D), positives (B, D), negatives (B, K, D), labels (B,), ... The \
                  result holds loss () and grad_NAME for each of these that the loss depends on, in the type of the anchors."
)]
struct Flags {
    /// Prints all losses with their inputs and parameters, and ends.
    #[arg(long)]
    list: bool,
    /// The loss.
    #[arg(long, required_unless_present = "list")]
    loss: Option<String>,
    /// The safetensors file with the inputs.
    #[arg(long = "in", required_unless_present = "list")]
    input: Option<PathBuf>,
    /// A parameter of the loss; may be repeated.
    #[arg(long = "param", value_name = "NAME=VALUE")]
    params: Vec<String>,
    /// The safetensors file that the results go to.
    #[arg(long, required_unless_present = "list")]
    out: Option<PathBuf>,
    /// The floating-point type of the computation; auto: f64 below 1,024 rows, else that of the inputs.
    #[arg(long, value_enum, default_value_t = Precision::Auto)]
    precision: Precision,
    /// Threads; 0 means all of the machine's.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Evaluations; the fastest is reported.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Precision {
    Auto,
    Input,
    F32,
    F64,
}

fn main() -> Result<()> {
    let flags = Flags::parse();
    if flags.list {
        list();
        return Ok(());
    }
    let (Some(loss), Some(input), Some(out)) = (&flags.loss, &flags.input, &flags.out) else {
        bail!("--loss, --in and --out are needed");
    };
    eas_bench::set_threads(flags.threads)?;
    let mut params = BTreeMap::new();
    for param in &flags.params {
        let (name, value) = param.split_once('=').with_context(|| format!("--param {param:?} is not NAME=VALUE"))?;
        params.insert(name.to_owned(), value.to_owned());
    }
    let loaded =
        candle_core::safetensors::load(input, &Device::Cpu).with_context(|| format!("reading {}", input.display()))?;
    let rows = loaded.values().map(|tensor| tensor.dims().first().copied().unwrap_or(0)).max().unwrap_or(0);
    let mut given = DType::F32;
    let mut inputs = BTreeMap::new();
    for (name, tensor) in loaded {
        let dtype = tensor.dtype();
        if name == "anchors" || name == "scores" || name == "logits" {
            given = dtype;
        }
        let compute = match flags.precision {
            _ if !dtype.is_float() => dtype,
            Precision::F64 => DType::F64,
            Precision::F32 => DType::F32,
            Precision::Auto if rows <= DOUBLE_UP_TO => DType::F64,
            Precision::Auto | Precision::Input => dtype,
        };
        inputs.insert(name, if compute == dtype { tensor } else { tensor.to_dtype(compute)? });
    }
    let memory = eas_bench::memory::PeakMemory::start();
    let mut fastest = f64::INFINITY;
    let mut result = None;
    for _ in 0..flags.repeat {
        drop(result.take());
        let started = Instant::now();
        result = Some(registry::evaluate(loss, &inputs, &params)?);
        fastest = fastest.min(started.elapsed().as_secs_f64());
    }
    let result = result.context("nothing was evaluated")?;
    let computed = result.loss.dtype();
    println!("{loss}: {:.9}", result.loss.to_dtype(DType::F64)?.to_scalar::<f64>()?);
    println!("{rows} rows, value and gradients in {computed:?}: {:.2} ms{memory}", fastest * 1e3);
    let cast = |tensor: &Tensor| {
        if given.is_float() { tensor.to_dtype(given) } else { Ok(tensor.clone()) }
    };
    let mut results = HashMap::from([("loss".to_owned(), cast(&result.loss)?)]);
    for (name, gradient) in &result.gradients {
        results.insert(format!("grad_{name}"), cast(gradient)?);
    }
    candle_core::safetensors::save(&results, out).with_context(|| format!("writing {}", out.display()))?;
    Ok(())
}

/// One loss a paragraph: name, what it is, inputs, parameters with their defaults.
fn list() {
    for entry in registry::entries() {
        println!("{}\n    {}\n    inputs: {}", entry.name, entry.summary, entry.inputs.join(", "));
        for param in entry.params {
            println!("    --param {}={}  {}", param.name, param.default, param.meaning);
        }
    }
}
