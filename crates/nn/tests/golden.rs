//! Layers, optimizers, clipping and schedules agree with PyTorch: `scripts/oracles/training.py` made the golden file.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor, Var};
use eas_nn::gradients::Gradients;
use eas_nn::norm::{BatchNorm1d, LayerNorm};
use eas_nn::optim::{Method, Optimizer, Schedule};
use eas_nn::params::Parameters;
use eas_nn::transformer::{MultiHeadAttention, TransformerConfig, TransformerEncoder};
use eas_nn::{Mode, NnError};

type Tensors = BTreeMap<String, Tensor>;

/// The tensors `PART|KIND|NAME` of a part of the golden file, by name.
fn golden(part: &str, kind: &str) -> Tensors {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/training.safetensors");
    let all = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    let prefix = format!("{part}|{kind}|");
    all.into_iter()
        .filter_map(|(name, x)| Some((name.strip_prefix(&prefix)?.to_owned(), x.to_dtype(DType::F32).unwrap())))
        .collect()
}

fn values(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

fn assert_close(what: &str, ours: &Tensor, theirs: &Tensor) {
    assert_eq!(ours.dims(), theirs.dims(), "{what}");
    let (ours, theirs) = (values(ours), values(theirs));
    let size = theirs.iter().fold(1f32, |most, x| most.max(x.abs()));
    for (a, b) in ours.iter().zip(&theirs) {
        assert!((a - b).abs() < 2e-6 * size, "{what}: {a} differs from {b}");
    }
}

/// Sets the weights of the golden file, runs, and compares the output and all gradients that both know.
fn check(part: &str, params: &Parameters, run: impl Fn(&Tensor, &Tensors) -> Result<Tensor, NnError>) {
    let (inputs, gradients) = (golden(part, "in"), golden(part, "grad"));
    let mut compared = 0;
    for (name, var) in params.named() {
        if let Some(value) = inputs.get(name) {
            var.set(value).unwrap();
        }
    }
    let x = Var::from_tensor(&inputs["x"]).unwrap();
    let out = run(&x, &inputs).unwrap();
    assert_close(part, &out, &golden(part, "out")["out"]);
    let store = (out * &inputs["factors"]).unwrap().sum_all().unwrap().backward().unwrap();
    assert_close("gradient by the input", store.get(&x).unwrap(), &gradients["x"]);
    let ours = Gradients::from_store(&store, params);
    for (name, gradient) in ours.iter() {
        if let Some(theirs) = gradients.get(name) {
            assert_close(&format!("{part}: gradient by {name}"), gradient.unwrap(), theirs);
            compared += 1;
        }
    }
    assert_eq!(compared, gradients.len() - 1, "{part}: every weight was compared");
}

#[test]
fn layer_normalisation() {
    let mut params = Parameters::new(1, &Device::Cpu);
    let norm = LayerNorm::new(&mut params, "norm", 6).unwrap();
    check("layer_norm", &params, |x, _| norm.forward(x));
}

#[test]
fn batch_normalisation_and_its_running_statistics() {
    let mut params = Parameters::new(1, &Device::Cpu);
    let norm = BatchNorm1d::new(&mut params, "norm", 5).unwrap();
    check("batch_norm", &params, |x, _| norm.forward(x, Mode::train(1, 0)));
    let out = golden("batch_norm", "out");
    let (mean, variance) = norm.statistics().unwrap();
    assert_close("running mean", &Tensor::new(mean, &Device::Cpu).unwrap(), &out["running_mean"]);
    assert_close("running variance", &Tensor::new(variance, &Device::Cpu).unwrap(), &out["running_var"]);
    let scored = norm.forward(&golden("batch_norm", "in")["x"], Mode::EVAL).unwrap();
    assert_close("scored", &scored, &out["scored"]);
}

#[test]
fn attention_with_padding() {
    let mut params = Parameters::new(1, &Device::Cpu);
    let attention = MultiHeadAttention::new(&mut params, "attention", 8, 2, 0.0).unwrap();
    check("attention", &params, |x, inputs| attention.forward(x, Some(&inputs["padding"]), Mode::EVAL));
}

#[test]
fn a_transformer_layer() {
    let mut params = Parameters::new(1, &Device::Cpu);
    let config = TransformerConfig { width: 8, layers: 1, heads: 2, inner: 12, positions: 5, dropout: 0.0 };
    let model = TransformerEncoder::of_vectors(&mut params, "model", config, 8).unwrap();
    check("layer", &params, |x, _| model.layers()[0].forward(x, None, Mode::EVAL));
}

#[test]
fn optimizers_with_clipping_warm_up_and_cosine() {
    let methods = [
        ("sgd", Method::SGD),
        ("momentum", Method::Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.1 }),
        ("nesterov", Method::Sgd { momentum: 0.8, nesterov: true, weight_decay: 0.0 }),
        ("adam", Method::ADAM),
        ("adamw", Method::adamw(0.1)),
    ];
    let (inputs, out) = (golden("optim", "in"), golden("optim", "out"));
    let schedule = Schedule::cosine(0.1, 4, 12);
    for (name, method) in methods {
        let mut params = Parameters::new(1, &Device::Cpu);
        let weight = params.adopt("weight", &inputs["weight"].copy().unwrap()).unwrap();
        let bias = params.adopt("bias", &inputs["bias"].copy().unwrap()).unwrap();
        let mut optimizer = Optimizer::new(method, &params).unwrap();
        let norms: Vec<f32> = (0..12)
            .map(|step| {
                let out = inputs["x"].matmul(&weight.t().unwrap()).unwrap().broadcast_add(&bias).unwrap();
                let error = (out.tanh().unwrap() - &inputs["y"]).unwrap();
                let mut gradients = Gradients::of(&error.sqr().unwrap().mean_all().unwrap(), &params).unwrap();
                let norm = gradients.clip(0.5).unwrap();
                optimizer.step(&gradients, schedule.at(step)).unwrap();
                norm as f32
            })
            .collect();
        assert_close(name, &weight, &out[&format!("{name}.weight")]);
        assert_close(name, &bias, &out[&format!("{name}.bias")]);
        assert_close(name, &Tensor::new(norms, &Device::Cpu).unwrap(), &out[&format!("{name}.norms")]);
    }
}
