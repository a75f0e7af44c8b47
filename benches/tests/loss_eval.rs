//! The program `loss_eval` on files that are damaged, foreign or hold the wrong tensors: it ends with an error that says something, doesn't
//! panic, and leaves an earlier result as it was.

use candle_core::{DType, Device, Tensor};
use eas_tensor::rng::SplitMix64;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const EARLIER: &[u8] = b"an earlier result";

struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn evaluate(&self, loss: &str, input: &Path, params: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loss_eval"));
        command.args(["--threads", "1", "--loss", loss, "--in"]).arg(input).arg("--out").arg(self.path("out"));
        for param in params {
            command.args(["--param", param]);
        }
        command.output().unwrap()
    }

    /// Runs on a file of these bytes and says whether it was evaluated.
    fn survives(&self, loss: &str, bytes: &[u8], what: &str) -> bool {
        let input = self.path("in");
        std::fs::write(&input, bytes).unwrap();
        std::fs::write(self.path("out"), EARLIER).unwrap();
        let output = self.evaluate(loss, &input, &[]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(matches!(output.status.code(), Some(0 | 1)), "{what}: {:?} {said}", output.status);
        if !output.status.success() {
            assert!(said.starts_with("Error: ") && said.len() > 20, "{what}: {said:?}");
            assert_eq!(std::fs::read(self.path("out")).unwrap(), EARLIER, "{what}");
        }
        output.status.success()
    }

    fn file(&self, tensors: Vec<(&str, Tensor)>) -> Vec<u8> {
        let path = self.path("made");
        let tensors: HashMap<String, Tensor> = tensors.into_iter().map(|(k, x)| (k.to_owned(), x)).collect();
        candle_core::safetensors::save(&tensors, &path).unwrap();
        std::fs::read(path).unwrap()
    }
}

fn rows(n: usize, dim: usize, seed: u64) -> Tensor {
    let mut rng = SplitMix64::new(seed);
    let values: Vec<f32> = (0..n * dim).map(|_| rng.normal() as f32).collect();
    Tensor::from_vec(values, (n, dim), &Device::Cpu).unwrap()
}

#[test]
fn damaged_files_are_refused() {
    let bench = Bench::new();
    let good = bench.file(vec![("anchors", rows(4, 3, 1)), ("positives", rows(4, 3, 2))]);
    assert!(bench.survives("infonce", &good, "the good file"));
    for length in (0..good.len()).step_by(5) {
        assert!(!bench.survives("infonce", &good[..length], &format!("the first {length} bytes")));
    }
    // A changed byte may leave a readable file; it must never do worse than that.
    let mut rng = SplitMix64::new(3);
    for _ in 0..150 {
        let mut bytes = good.clone();
        let at = rng.below(bytes.len());
        bytes[at] ^= 1 << rng.below(8);
        bench.survives("infonce", &bytes, &format!("byte {at} changed"));
    }
    for bytes in [&b"not tensors"[..], &[0xff; 64], &u64::MAX.to_le_bytes(), &[0; 8], b"\x02\0\0\0\0\0\0\0{}"] {
        assert!(!bench.survives("infonce", bytes, &format!("{bytes:?}")));
    }
    let output = bench.evaluate("infonce", &bench.path("absent"), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("absent"));
}

#[test]
fn wrong_tensors_are_refused_by_every_kind_of_loss() {
    let bench = Bench::new();
    let labels = |values: &[i64]| Tensor::new(values, &Device::Cpu).unwrap();
    let infinite = (rows(4, 3, 1) * f64::INFINITY).unwrap();
    let files = [
        ("nothing for it", vec![("other", rows(4, 3, 1))]),
        ("no rows", vec![("anchors", rows(0, 3, 1)), ("positives", rows(0, 3, 1)), ("labels", labels(&[]))]),
        (
            "one row too many",
            vec![("anchors", rows(4, 3, 1)), ("positives", rows(5, 3, 1)), ("labels", labels(&[0; 5]))],
        ),
        ("infinities", vec![("anchors", infinite), ("positives", rows(4, 3, 1)), ("labels", labels(&[0, 1, 0, 1]))]),
        (
            "negative labels",
            vec![("anchors", rows(4, 3, 1)), ("labels", labels(&[0, -1, 0, 1])), ("weights", rows(2, 3, 1))],
        ),
        (
            "integers for vectors",
            vec![
                ("anchors", rows(4, 3, 1).to_dtype(DType::U32).unwrap()),
                ("positives", rows(4, 3, 1).to_dtype(DType::U8).unwrap()),
            ],
        ),
    ];
    for (what, tensors) in files {
        let bytes = bench.file(tensors);
        for loss in
            ["infonce", "nt_xent", "supcon", "triplet_hard", "arcface", "softmax", "vicreg", "prototypical", "mse"]
        {
            assert!(!bench.survives(loss, &bytes, what), "{loss}: {what}");
        }
    }
    let input = bench.path("good");
    std::fs::write(&input, bench.file(vec![("anchors", rows(4, 3, 1)), ("positives", rows(4, 3, 2))])).unwrap();
    for param in ["temperature=0", "temperature=-1", "temperature=NaN", "temperature=warm", "tau=1", "temperature"] {
        let output = bench.evaluate("infonce", &input, &[param]);
        assert_eq!(output.status.code(), Some(1), "{param}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(param.split('=').next().unwrap()), "{param}");
    }
}
