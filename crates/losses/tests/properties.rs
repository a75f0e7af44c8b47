//! What every loss of the registry must do: have the derivative of its value, ignore the order of the rows, and answer extreme input with
//! finite numbers or an error.

use candle_core::{DType, Device, Tensor};
use eas_losses::registry::{self, Entry};
use eas_tensor::rng::SplitMix64;
use std::collections::BTreeMap;

type Tensors = BTreeMap<String, Tensor>;
const DIM: usize = 5;
/// The inputs that have one row an anchor.
const PER_ROW: [&str; 8] =
    ["anchors", "positives", "negatives", "labels", "parents", "grandparents", "times", "logits"];

fn normals(shape: &[usize], rng: &mut SplitMix64) -> Tensor {
    let values: Vec<f64> = (0..shape.iter().product()).map(|_| rng.normal()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn classes(values: Vec<u32>) -> Tensor {
    let n = values.len();
    Tensor::from_vec(values, n, &Device::Cpu).unwrap()
}

/// Inputs of `rows` rows for a loss; `k` negatives an anchor.
fn inputs(entry: &Entry, rows: usize, seed: u64) -> Tensors {
    let mut rng = SplitMix64::new(seed);
    let k = if ["angular_triplet", "angular_margin"].contains(&entry.name) { 1 } else { 2 };
    let mut tensors = Tensors::new();
    for input in entry.inputs {
        let name = input.trim_end_matches('?');
        let value = match name {
            "anchors" | "positives" => normals(&[rows, DIM], &mut rng),
            "negatives" => normals(&[rows, k, DIM], &mut rng),
            "weights" => normals(&[3, DIM], &mut rng),
            "queue" => normals(&[4, DIM], &mut rng),
            "support" => normals(&[6, DIM], &mut rng),
            "support_labels" => classes(vec![0, 1, 2, 0, 1, 2]),
            "queue_labels" => classes(vec![2, 1, 0, 1]),
            "scores" => normals(&[rows], &mut rng),
            "logits" => normals(&[rows, 3], &mut rng),
            "times" => (normals(&[rows], &mut rng) * 20.0).unwrap(),
            "labels" | "parents" | "grandparents" => {
                let modulus = match name {
                    "labels" => 3,
                    "parents" => 2,
                    _ => 1,
                };
                classes((0..rows as u32).map(|i| i % modulus).collect())
            }
            _ => panic!("{name}"),
        };
        tensors.insert(name.to_owned(), value);
    }
    tensors
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn loss(entry: &Entry, inputs: &Tensors) -> f64 {
    values(&registry::evaluate(entry.name, inputs, &BTreeMap::new()).unwrap().loss)[0]
}

#[test]
fn gradients_are_central_differences() {
    let step = 1e-5;
    for entry in registry::entries() {
        // Circle loss holds its weights fixed, on purpose; the oracle test covers it.
        if entry.name == "circle" {
            continue;
        }
        let given = inputs(entry, 7, 11);
        let got = registry::evaluate(entry.name, &given, &BTreeMap::new()).unwrap();
        assert!(!got.gradients.is_empty(), "{}", entry.name);
        for (name, gradient) in &got.gradients {
            let base = values(&given[name]);
            let gradient = values(gradient);
            let size = gradient.iter().fold(1e-3, |m: f64, g| m.max(g.abs()));
            for at in 0..base.len() {
                let moved = |by: f64| {
                    let mut values = base.clone();
                    values[at] += by;
                    let mut inputs = given.clone();
                    let tensor = Tensor::from_vec(values, given[name].dims(), &Device::Cpu).unwrap();
                    inputs.insert(name.clone(), tensor);
                    loss(entry, &inputs)
                };
                let difference = (moved(step) - moved(-step)) / (2.0 * step);
                assert!(
                    (gradient[at] - difference).abs() <= 2e-6 * size,
                    "{} by {name}[{at}]: {} is not {difference}",
                    entry.name,
                    gradient[at]
                );
            }
        }
    }
}

#[test]
fn the_order_of_the_rows_does_not_matter() {
    let order = Tensor::new(&[4u32, 0, 6, 2, 5, 1, 3], &Device::Cpu).unwrap();
    for entry in registry::entries() {
        let given = inputs(entry, 7, 5);
        let permuted = given
            .iter()
            .map(|(name, tensor)| {
                let moves = PER_ROW.contains(&name.as_str()) || name == "scores";
                let tensor = if moves { tensor.index_select(&order, 0).unwrap() } else { tensor.clone() };
                (name.clone(), tensor)
            })
            .collect();
        let (before, after) = (loss(entry, &given), loss(entry, &permuted));
        assert!((before - after).abs() <= 1e-12 * before.abs().max(1.0), "{}: {before}, {after}", entry.name);
    }
}

/// Evaluates and checks that value and gradients are finite; an error must say something.
fn finite_or_refused(entry: &Entry, inputs: &Tensors, params: &BTreeMap<String, String>, what: &str) -> bool {
    match registry::evaluate(entry.name, inputs, params) {
        Ok(got) => {
            let numbers = got.gradients.values().chain([&got.loss]).flat_map(values);
            for x in numbers {
                assert!(x.is_finite(), "{} on {what}: {x}", entry.name);
            }
            true
        }
        Err(error) => {
            assert!(error.to_string().len() > 10, "{} on {what}: {error}", entry.name);
            false
        }
    }
}

#[test]
fn extreme_batches_give_finite_numbers_or_an_error() {
    let none = BTreeMap::new();
    let mut refused = Vec::new();
    for entry in registry::entries() {
        for dtype in [DType::F64, DType::F32] {
            let floats = |tensors: &Tensors, change: &dyn Fn(&Tensor) -> Tensor| -> Tensors {
                let change = |(name, tensor): (&String, &Tensor)| {
                    let float = tensor.dtype().is_float();
                    let tensor = if float { change(&tensor.to_dtype(dtype).unwrap()) } else { tensor.clone() };
                    (name.clone(), tensor)
                };
                tensors.iter().map(change).collect()
            };
            let given = inputs(entry, 6, 3);
            let one = inputs(entry, 1, 3);
            if !finite_or_refused(entry, &floats(&one, &Tensor::clone), &none, "a batch of one") {
                refused.push(entry.name);
            }
            let mut same_class = given.clone();
            for name in ["labels", "parents"] {
                if same_class.contains_key(name) {
                    same_class.insert(name.to_owned(), classes(vec![1; 6]));
                }
            }
            let fine = finite_or_refused(entry, &floats(&same_class, &Tensor::clone), &none, "one class");
            assert!(fine, "{} refuses one class", entry.name);
            let zero = |x: &Tensor| x.zeros_like().unwrap();
            assert!(finite_or_refused(entry, &floats(&given, &zero), &none, "zero vectors"), "{}", entry.name);
            let equal = |x: &Tensor| x.ones_like().unwrap();
            assert!(finite_or_refused(entry, &floats(&given, &equal), &none, "duplicates"), "{}", entry.name);
            let opposite = |x: &Tensor| {
                let sign: Vec<f64> =
                    (0..x.elem_count()).map(|i| if (i / DIM).is_multiple_of(2) { 1.0 } else { -1.0 }).collect();
                Tensor::from_vec(sign, x.dims(), &Device::Cpu).unwrap().to_dtype(x.dtype()).unwrap()
            };
            assert!(finite_or_refused(entry, &floats(&given, &opposite), &none, "opposites"), "{}", entry.name);
        }
    }
    refused.dedup();
    // Means over pairs of rows and variances don't exist for one row.
    let undefined = [
        "hard_in_batch",
        "debiased",
        "temporal",
        "contrastive_pairs",
        "vicreg",
        "barlow_twins",
        "uniformity",
        "align_uniform",
        "diversity",
    ];
    assert_eq!(refused, undefined);
}

#[test]
fn tiny_temperatures_give_finite_numbers_and_impossible_ones_an_error() {
    for entry in registry::entries().iter().filter(|entry| entry.params.iter().any(|p| p.name == "temperature")) {
        let given = inputs(entry, 6, 8);
        for dtype in [DType::F64, DType::F32] {
            for tiled in ["true", "false"] {
                for temperature in ["0.01", "0.001", "1e-4", "1e-6"] {
                    let mut params = BTreeMap::from([("temperature".to_owned(), temperature.to_owned())]);
                    if entry.params.iter().any(|p| p.name == "tiled") {
                        params.insert("tiled".to_owned(), tiled.to_owned());
                    }
                    let given: Tensors = given
                        .iter()
                        .map(|(name, x)| {
                            let x = if x.dtype().is_float() { x.to_dtype(dtype).unwrap() } else { x.clone() };
                            (name.clone(), x)
                        })
                        .collect();
                    assert!(finite_or_refused(entry, &given, &params, temperature), "{}", entry.name);
                }
            }
        }
        for temperature in ["0", "-1", "NaN", "inf", "1e-9"] {
            let params = BTreeMap::from([("temperature".to_owned(), temperature.to_owned())]);
            let error = registry::evaluate(entry.name, &given, &params).unwrap_err().to_string();
            assert!(error.contains("temperature is"), "{}: {error}", entry.name);
        }
    }
}

#[test]
fn the_range_of_half_precision_is_survived() {
    for entry in registry::entries() {
        for (dtype, size) in
            [(DType::F16, 6e4), (DType::F16, 6e-8), (DType::BF16, 1e4), (DType::F32, 1e15), (DType::F32, 1e-15)]
        {
            // Losses that aren't made for unit vectors may grow with the square or fourth power of the length.
            let by_length = ["n_pairs", "mnrl_raw", "vicreg", "softmax", "prototypical", "mse"];
            if by_length.contains(&entry.name) && size > 1e5 {
                continue;
            }
            let given: Tensors = inputs(entry, 6, 4)
                .into_iter()
                .map(|(name, x)| {
                    let x = if x.dtype().is_float() {
                        // Within the type's range whatever the normal draw.
                        let bounded = x.tanh().unwrap();
                        (bounded * size).unwrap().to_dtype(dtype).unwrap()
                    } else {
                        x
                    };
                    (name, x)
                })
                .collect();
            match registry::evaluate(entry.name, &given, &BTreeMap::new()) {
                Ok(got) => assert!(values(&got.loss)[0].is_finite(), "{} at {size} in {dtype:?}", entry.name),
                Err(error) => panic!("{} at {size} in {dtype:?}: {error}", entry.name),
            }
        }
    }
}

#[test]
fn mistakes_are_named() {
    let entry = registry::entries().iter().find(|entry| entry.name == "infonce").unwrap();
    let given = inputs(entry, 4, 1);
    let none = BTreeMap::new();
    let error = |name: &str, inputs: &Tensors, params: &[(&str, &str)]| {
        let params = params.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
        registry::evaluate(name, inputs, &params).unwrap_err().to_string()
    };
    assert!(error("infonec", &given, &[]).contains("nt_xent"));
    assert!(error("infonce", &given, &[("tau", "1")]).contains("temperature"));
    assert!(error("infonce", &given, &[("temperature", "warm")]).contains("warm"));
    assert!(error("infonce", &Tensors::new(), &[]).contains("anchors"));
    assert!(error("infonce_own", &given, &[]).contains("negatives"));
    let mut uneven = given.clone();
    uneven.insert("positives".to_owned(), normals(&[3, DIM], &mut SplitMix64::new(0)));
    assert!(error("infonce", &uneven, &[]).contains("[3, 5]"));
    let mut labelled = given.clone();
    labelled.insert("labels".to_owned(), classes(vec![0, 1]));
    assert!(error("supcon", &labelled, &[]).contains("2 labels for 4 rows"));
    let fraction = Tensor::new(&[0.0, 0.5, 1.0, 1.0f64], &Device::Cpu).unwrap();
    labelled.insert("labels".to_owned(), fraction);
    assert!(error("supcon", &labelled, &[]).contains("row 1 is 0.5"));
    labelled.insert("labels".to_owned(), classes(vec![0, 1, 2, 9]));
    labelled.insert("weights".to_owned(), normals(&[3, DIM], &mut SplitMix64::new(0)));
    for proxy in ["arcface", "cosface", "proxy_nca"] {
        assert!(error(proxy, &labelled, &[]).contains("label 9 at row 3"));
    }
    // Labels may come in any integer type.
    let labels = Tensor::new(&[0i64, 1, 1, 0], &Device::Cpu).unwrap();
    labelled.insert("labels".to_owned(), labels);
    assert!(registry::evaluate("supcon", &labelled, &none).is_ok());
}
