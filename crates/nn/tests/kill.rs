//! Training survives `kill -9`: a process that is killed again and again, and started again each time, ends with the weights, the log and
//! the history of one that wasn't, to the bit.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use eas_nn::encoders::Encoder;
use eas_nn::optim::{Method, Schedule};
use eas_nn::params::Parameters;
use eas_nn::trainer::{Batch, EarlyStopping, Goal, Trainer, TrainerConfig};
use eas_nn::transformer::{TransformerConfig, TransformerEncoder};
use eas_tensor::rng::SplitMix64;

const FOLDER: &str = "EAS_NN_KILL_TEST_FOLDER";
const STEPS: u64 = 60;

fn in_folder(folder: &Path, name: &str) -> PathBuf {
    folder.join(name)
}

/// The whole training program: resume if there is a checkpoint, train to the end, save the weights.
fn train(folder: &Path) {
    let mut params = Parameters::new(3, &Device::Cpu);
    let config = TransformerConfig { width: 16, layers: 2, heads: 2, inner: 32, positions: 6, dropout: 0.1 };
    let model = TransformerEncoder::of_vectors(&mut params, "model", config, 4).unwrap();
    let mut rng = SplitMix64::new(4);
    let values: Vec<f32> = (0..96 * 6 * 4).map(|_| rng.normal() as f32).collect();
    let x = Tensor::from_vec(values, (96, 6, 4), &Device::Cpu).unwrap();
    let mut task = |batch: &Batch<'_>| {
        let x = x.index_select(&Tensor::new(batch.indices, &Device::Cpu)?, 0)?;
        let scale = 1.0 + 0.1 * batch.rng().normal();
        let (a, b) = (model.forward_in(&x, batch.view(0))?, model.forward_in(&(&x * scale)?, batch.view(1))?);
        Ok(eas_losses::info_nce(&a, &b, 0.2)?)
    };
    let config = TrainerConfig {
        method: Method::adamw(0.01),
        schedule: Schedule::cosine(0.01, 5, STEPS),
        clip: Some(1.0),
        early_stopping: Some(EarlyStopping { patience: 100, min_delta: 0.0, goal: Goal::Lower }),
        ..TrainerConfig::new(10, 16, 0.01)
    };
    let mut trainer = Trainer::new(config, &params, 96)
        .unwrap()
        .checkpoint_to(in_folder(folder, "run"), 4)
        .log_to(in_folder(folder, "log.jsonl"));
    trainer.resume(&mut task).unwrap();
    let outcome = trainer
        .run(&mut task, |_| {
            // Slow enough to be killed on the way.
            std::thread::sleep(Duration::from_millis(10));
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(outcome.steps, STEPS);
    params.save(in_folder(folder, "weights.safetensors")).unwrap();
    std::fs::write(in_folder(folder, "outcome"), format!("{outcome:?}")).unwrap();
}

/// Not a test: the child process of the test below, which does nothing when it is run with the others.
#[test]
fn the_trained_process() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        train(Path::new(&folder));
    }
}

fn spawn(folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_trained_process", "--test-threads", "1"])
        .env(FOLDER, folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn lines(folder: &Path) -> usize {
    std::fs::read_to_string(in_folder(folder, "log.jsonl")).map_or(0, |log| log.lines().count())
}

#[test]
fn a_run_killed_again_and_again_ends_with_the_same_weights() {
    let (calm, stormy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    assert!(spawn(calm.path()).wait().unwrap().success());

    let deadline = Instant::now() + Duration::from_mins(4);
    let mut kills = 0;
    // A kill after each dozen lines or so, at whatever moment that is.
    for until in [5, 17, 30, 43, 55] {
        let mut child = spawn(stormy.path());
        loop {
            assert!(Instant::now() < deadline, "the child makes no progress");
            if let Some(status) = child.try_wait().unwrap() {
                assert!(status.success());
                break;
            }
            if lines(stormy.path()) >= until {
                child.kill().unwrap(); // SIGKILL on Unix
                kills += usize::from(!child.wait().unwrap().success());
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    assert!(kills >= 3, "only {kills} kills came in time");
    assert!(spawn(stormy.path()).wait().unwrap().success());
    for name in ["weights.safetensors", "log.jsonl", "outcome"] {
        let [calm, stormy] = [&calm, &stormy].map(|folder| std::fs::read(in_folder(folder.path(), name)).unwrap());
        assert!(calm == stormy, "{name} differs after {kills} kills");
    }
}
