//! What every loss of the registry does with input that can't be right: an error that says something, never a panic.

use candle_core::{DType, Device, Tensor};
use eas_losses::registry::{self, Entry, Evaluation};
use eas_tensor::rng::SplitMix64;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

type Tensors = BTreeMap<String, Tensor>;
const DIM: usize = 8;
const ROWS: usize = 6;

fn normals(shape: &[usize], rng: &mut SplitMix64) -> Tensor {
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.normal() as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn classes(values: Vec<u32>) -> Tensor {
    let n = values.len();
    Tensor::from_vec(values, n, &Device::Cpu).unwrap()
}

/// Every input that any loss takes, with `rows` anchors.
fn world(rows: usize) -> Tensors {
    let mut rng = SplitMix64::new(2);
    let labels = |modulus: u32| classes((0..rows as u32).map(|i| i % modulus).collect());
    let given = [
        ("anchors", normals(&[rows, DIM], &mut rng)),
        ("positives", normals(&[rows, DIM], &mut rng)),
        ("negatives", normals(&[rows, 1, DIM], &mut rng)),
        ("weights", normals(&[3, DIM], &mut rng)),
        ("queue", normals(&[4, DIM], &mut rng)),
        ("queue_labels", classes(vec![2, 1, 0, 1])),
        ("support", normals(&[6, DIM], &mut rng)),
        ("support_labels", classes(vec![0, 1, 2, 0, 1, 2])),
        ("scores", normals(&[rows], &mut rng)),
        ("logits", normals(&[rows, 3], &mut rng)),
        ("times", normals(&[rows], &mut rng)),
        ("labels", labels(3)),
        ("parents", labels(2)),
        ("grandparents", labels(1)),
    ];
    given.into_iter().map(|(name, x)| (name.to_owned(), x)).collect()
}

fn takes(entry: &Entry, input: &str) -> bool {
    entry.inputs.iter().any(|name| name.trim_end_matches('?') == input)
}

/// Each loss on what `change` makes of good inputs, plain and in tiles; `None` where it says that the loss isn't concerned.
fn each(
    change: impl Fn(&Entry, &mut Tensors) -> bool,
    judge: impl Fn(&Entry, Result<Evaluation, String>) -> Option<String>,
) {
    let mut wrong = Vec::new();
    for entry in registry::entries() {
        let tiled = entry.params.iter().any(|param| param.name == "tiled");
        for word in if tiled { &["false", "true"][..] } else { &["-"] } {
            let mut inputs = world(ROWS);
            if !change(entry, &mut inputs) {
                continue;
            }
            let params = if tiled { vec![("tiled".to_owned(), (*word).to_owned())] } else { vec![] };
            let evaluate = || registry::evaluate(entry.name, &inputs, &params.into_iter().collect());
            match catch_unwind(AssertUnwindSafe(evaluate)) {
                Err(_) => wrong.push(format!("{} panics", entry.name)),
                Ok(result) => {
                    let result = result.map_err(|error| error.to_string());
                    wrong.extend(judge(entry, result).map(|what| format!("{} (tiled {word}): {what}", entry.name)));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

fn must_fail(_: &Entry, result: Result<Evaluation, String>) -> Option<String> {
    match result {
        Ok(got) => Some(format!("is {:?}", got.loss.to_dtype(DType::F64).unwrap().to_scalar::<f64>().unwrap())),
        Err(message) if message.len() > 10 => None,
        Err(message) => Some(format!("says only {message:?}")),
    }
}

#[test]
fn the_good_inputs_are_good() {
    each(|_, _| true, |_, result| result.err());
}

#[test]
fn an_empty_batch_is_an_error() {
    each(
        |_, inputs| {
            inputs.extend(world(0));
            true
        },
        must_fail,
    );
}

#[test]
fn vectors_of_no_dimension_are_an_error() {
    each(
        |entry, inputs| {
            for name in ["anchors", "positives", "weights", "queue", "support"] {
                let rows = inputs[name].dims()[0];
                inputs.insert(name.to_owned(), Tensor::zeros((rows, 0), DType::F32, &Device::Cpu).unwrap());
            }
            inputs.insert("negatives".to_owned(), Tensor::zeros((ROWS, 1, 0), DType::F32, &Device::Cpu).unwrap());
            takes(entry, "anchors")
        },
        must_fail,
    );
}

/// One input at a time with a row fewer than there are anchors (or scores, or logits).
#[test]
fn inputs_of_unlike_rows_are_an_error() {
    for name in
        ["positives", "negatives", "labels", "parents", "grandparents", "times", "queue_labels", "support_labels"]
    {
        each(
            |entry, inputs| {
                let short = inputs[name].narrow(0, 1, inputs[name].dims()[0] - 1).unwrap();
                inputs.insert(name.to_owned(), short);
                takes(entry, name)
            },
            must_fail,
        );
    }
}

/// One input at a time with vectors of another width, and with another number of axes.
#[test]
fn inputs_of_unlike_width_or_rank_are_an_error() {
    for name in ["positives", "negatives", "weights", "queue", "support"] {
        each(
            |entry, inputs| {
                let x = inputs[name].clone();
                let narrow = x.narrow(x.rank() - 1, 0, DIM - 1).unwrap();
                inputs.insert(name.to_owned(), narrow);
                takes(entry, name)
            },
            must_fail,
        );
    }
    for name in ["anchors", "positives", "weights", "queue", "support", "scores", "logits"] {
        each(
            |entry, inputs| {
                let deeper = inputs[name].unsqueeze(0).unwrap().unsqueeze(0).unwrap();
                inputs.insert(name.to_owned(), deeper);
                takes(entry, name)
            },
            must_fail,
        );
    }
}

/// Labels that name no row of the weights, no logit and no class of the support.
#[test]
fn labels_out_of_range_are_an_error() {
    for label in [3, u32::MAX] {
        each(
            |entry, inputs| {
                let mut labels = vec![0, 1, 2, 0, 1, 2];
                labels[4] = label;
                inputs.insert("labels".to_owned(), classes(labels));
                takes(entry, "labels") && ["weights", "logits", "support"].iter().any(|name| takes(entry, name))
            },
            must_fail,
        );
    }
    each(
        |entry, inputs| {
            inputs.insert("support_labels".to_owned(), classes(vec![0, 1, 2, 0, 1, u32::MAX]));
            takes(entry, "support_labels")
        },
        must_fail,
    );
    // Elsewhere a label is only a name.
    each(
        |entry, inputs| {
            inputs.insert("labels".to_owned(), classes(vec![u32::MAX, 7, u32::MAX, 7, 9, 9]));
            takes(entry, "labels") && ["weights", "logits", "support", "scores"].iter().all(|name| !takes(entry, name))
        },
        |_, _| None,
    );
}

/// The error names the input.
#[test]
fn what_is_not_a_number_does_not_pass_for_one() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for name in ["anchors", "positives", "negatives", "weights", "queue", "support", "scores", "logits", "times"] {
            each(
                |entry, inputs| {
                    let mut values = inputs[name].flatten_all().unwrap().to_vec1::<f32>().unwrap();
                    values[1] = value;
                    let shape = inputs[name].dims().to_vec();
                    inputs.insert(name.to_owned(), Tensor::from_vec(values, shape, &Device::Cpu).unwrap());
                    takes(entry, name)
                },
                |_, result| match result {
                    Ok(_) => Some(format!("{value} in {name} goes unnoticed")),
                    Err(message) if message.contains(&format!("{name:?} holds {value} at row")) => None,
                    Err(message) => Some(message),
                },
            );
        }
    }
}

/// Vectors of integers.
#[test]
fn vectors_of_another_type_are_an_error() {
    for name in ["anchors", "positives", "negatives", "weights", "queue", "support", "scores", "logits"] {
        for dtype in [DType::U8, DType::U32, DType::I64] {
            each(
                |entry, inputs| {
                    inputs.insert(name.to_owned(), inputs[name].to_dtype(dtype).unwrap());
                    takes(entry, name)
                },
                must_fail,
            );
        }
    }
}
