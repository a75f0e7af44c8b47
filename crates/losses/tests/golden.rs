//! Every loss of the registry agrees with PyTorch, value and gradients: `scripts/oracles/losses.py` made the golden file.
//!
//! On a GPU: `EAS_TEST_DEVICE=cuda cargo test -p eas-losses --features cuda --test golden`, or `metal` twice.

use candle_core::{DType, Device, Tensor};
use eas_losses::registry;
use std::collections::{BTreeMap, BTreeSet};

type Tensors = BTreeMap<String, Tensor>;

struct Case {
    label: String,
    loss: String,
    set: String,
    params: BTreeMap<String, String>,
    results: Tensors,
}

/// The device that `EAS_TEST_DEVICE` names: `cpu`, `cuda` or `metal`.
fn device() -> Device {
    match std::env::var("EAS_TEST_DEVICE").as_deref() {
        Err(_) | Ok("cpu") => Device::Cpu,
        Ok("cuda") => Device::new_cuda(0).expect("a CUDA device, in a build with the feature cuda"),
        Ok("metal") => Device::new_metal(0).expect("a Metal device, in a build with the feature metal"),
        Ok(other) => panic!("EAS_TEST_DEVICE is {other}, must be cpu, cuda or metal"),
    }
}

/// The input sets and the cases of the golden file.
fn golden() -> (BTreeMap<String, Tensors>, Vec<Case>) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/losses.safetensors");
    let mut sets: BTreeMap<String, Tensors> = BTreeMap::new();
    let mut cases: BTreeMap<String, Case> = BTreeMap::new();
    for (name, tensor) in candle_core::safetensors::load(path, &Device::Cpu).unwrap() {
        match name.split('|').collect::<Vec<_>>()[..] {
            ["set", set, input] => {
                sets.entry(set.to_owned()).or_default().insert(input.to_owned(), tensor);
            }
            ["case", loss, set, params, result] => {
                let params = params.split(',').filter_map(|pair| pair.split_once('='));
                let case = cases.entry(name.rsplit_once('|').unwrap().0.to_owned()).or_insert_with(|| Case {
                    label: name.clone(),
                    loss: loss.to_owned(),
                    set: set.to_owned(),
                    params: params.map(|(k, v)| (k.to_owned(), v.replace(';', ","))).collect(),
                    results: Tensors::new(),
                });
                case.results.insert(result.to_owned(), tensor);
            }
            _ => panic!("{name}"),
        }
    }
    (sets, cases.into_values().collect())
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// The largest difference relative to the largest value; absolute where all values are tiny.
fn difference(got: &Tensor, want: &Tensor) -> f64 {
    let (got, want) = (values(got), values(want));
    assert_eq!(got.len(), want.len());
    let size = want.iter().fold(1e-6, |m: f64, x| m.max(x.abs()));
    got.iter().zip(&want).fold(0.0, |m: f64, (g, w)| m.max((g - w).abs())) / size
}

/// Runs every case in the given type and compares within the tolerances of values and gradients.
fn compare(dtype: DType, value_tolerance: f64, gradient_tolerance: f64, forced: &[(&str, &str)]) -> BTreeSet<String> {
    let (sets, cases) = golden();
    let device = device();
    if dtype == DType::F64 && device.is_metal() {
        eprintln!("skipped: Metal has no f64");
        return registry::entries().iter().map(|entry| entry.name.to_owned()).collect();
    }
    let mut seen = BTreeSet::new();
    let mut wrong = Vec::new();
    for case in &cases {
        let entry = registry::entries().iter().find(|entry| entry.name == case.loss).unwrap();
        let mut params = case.params.clone();
        for &(name, value) in forced {
            if entry.params.iter().any(|param| param.name == name) {
                params.insert(name.to_owned(), value.to_owned());
            }
        }
        let inputs: Tensors = sets[&case.set]
            .iter()
            .map(|(name, tensor)| {
                let tensor = if tensor.dtype().is_float() { tensor.to_dtype(dtype).unwrap() } else { tensor.clone() };
                (name.clone(), tensor.to_device(&device).unwrap())
            })
            .collect();
        let got = match registry::evaluate(&case.loss, &inputs, &params) {
            Ok(got) => got,
            Err(error) => {
                wrong.push(format!("{}: {error}", case.label));
                continue;
            }
        };
        let off = difference(&got.loss, &case.results["loss"]);
        if off.is_nan() || off > value_tolerance {
            wrong.push(format!("{}: value off by {off:.1e}: {:?}", case.label, values(&got.loss)));
        }
        let wanted = case.results.iter().filter_map(|(name, want)| Some((name.strip_prefix("grad_")?, want)));
        for (input, want) in wanted {
            let off = difference(&got.gradients[input], want);
            if off.is_nan() || off > gradient_tolerance {
                wrong.push(format!("{}: gradient by {input} off by {off:.1e}", case.label));
            }
        }
        for (input, gradient) in &got.gradients {
            if !case.results.contains_key(&format!("grad_{input}")) {
                assert!(values(gradient).iter().all(|&g| g == 0.0), "{}: gradient by {input}", case.label);
            }
        }
        seen.insert(case.loss.clone());
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    seen
}

#[test]
fn every_loss_and_its_gradients_equal_pytorch_in_f64() {
    let seen = compare(DType::F64, 1e-9, 1e-8, &[("tiled", "false")]);
    for entry in registry::entries() {
        assert!(seen.contains(entry.name), "no golden case of {}", entry.name);
    }
}

#[test]
fn the_strips_equal_pytorch_in_f64() {
    compare(DType::F64, 1e-9, 1e-8, &[("tiled", "true")]);
}

#[test]
fn every_loss_and_its_gradients_equal_pytorch_in_f32() {
    for tiled in ["false", "true"] {
        compare(DType::F32, 3e-5, 1e-4, &[("tiled", tiled)]);
    }
}
