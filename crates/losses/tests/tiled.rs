//! The losses in tiles equal the plain ones at a size of many strips, blocks and parts. The full size is a program that measures memory
//! too: `cargo run --release -p eas-bench --bin tiled_memory -- --loss nt_xent --limit 256`.

use candle_core::{Device, Tensor, Var};
use eas_losses::{InfoNce, LossError, Negatives, NtXent, PairLayout, tiled};
use eas_tensor::rng::SplitMix64;

const PAIRS: usize = 1_100;
const DIM: usize = 24;

/// The loss and the gradient by `x`.
fn evaluated(x: &Var, loss: impl Fn(&Tensor) -> Result<Tensor, LossError>) -> (f32, Vec<f32>) {
    let loss = loss(x.as_tensor()).unwrap();
    let gradient = loss.backward().unwrap().get(x).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    (loss.to_scalar().unwrap(), gradient)
}

fn check(plain: impl Fn(&Tensor) -> Result<Tensor, LossError>, tiles: impl Fn(&Tensor) -> Result<Tensor, LossError>) {
    let mut rng = SplitMix64::new(3);
    let first: Vec<f32> = (0..PAIRS * DIM).map(|_| rng.normal() as f32).collect();
    let second: Vec<f32> = first.iter().map(|x| x + rng.normal() as f32).collect();
    let views = Var::from_vec([first, second].concat(), (2 * PAIRS, DIM), &Device::Cpu).unwrap();
    let ((want, by_plain), (got, by_tiles)) = (evaluated(&views, plain), evaluated(&views, tiles));
    assert!((want - got).abs() <= 1e-5 * want.max(1.0), "{want} {got}");
    let largest = by_plain.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let off = by_plain.iter().zip(&by_tiles).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
    assert!(off <= 1e-5 * largest, "gradients differ by {off}, the largest is {largest}");
}

/// Loss and gradient, at a usual temperature and at one where the largest logit must be found row by row.
#[test]
fn nt_xent_in_tiles_equals_the_plain_loss() {
    for temperature in [0.5, 0.07] {
        check(
            |views| Ok(NtXent { temperature, layout: PairLayout::Halves }.forward(views)?.loss),
            |views| tiled::nt_xent(views, temperature),
        );
    }
}

#[test]
fn info_nce_in_tiles_equals_the_plain_loss() {
    let halves = |views: &Tensor| Ok::<_, LossError>((views.narrow(0, 0, PAIRS)?, views.narrow(0, PAIRS, PAIRS)?));
    for temperature in [0.5, 0.07] {
        check(
            |views| {
                let (a, p) = halves(views)?;
                Ok(InfoNce::new(temperature).forward(&a, &p, Negatives::InBatch)?.loss)
            },
            |views| {
                let (a, p) = halves(views)?;
                tiled::info_nce(&a, &p, temperature)
            },
        );
    }
}
