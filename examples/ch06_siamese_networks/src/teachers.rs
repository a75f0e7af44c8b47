//! What a training run on the digits is taught by: triplets that are mined in different ways, and two losses on angles.

use candle_core::Tensor;
use eas_losses::metric::{Angular, AngularMargin};
use eas_losses::mining::{Fallback, Strategy};
use eas_losses::{Distance, Reduction, Triplet, TripletMiner};
use eas_nn::NnError;

use crate::digit_net::{STEPS, pick};

/// The margin of all triplet losses, and of what is mined for them.
const MARGIN: f64 = 0.3;
/// Of both losses on angles.
const ALPHA_DEGREES: f64 = 45.0;

/// What a training run on the digits is taught by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Teacher {
    /// The triplet loss of what this strategy mines.
    Mined(Strategy),
    /// Batch-hard triplets without a hinge.
    SoftHard,
    /// Semi-hard triplets for the first 70 % of the steps, then batch-hard ones.
    SemiThenHard,
    /// The book's angular loss: a triplet loss whose distance is the angle.
    AngleMargin,
    /// The one that it cites, Wang et al. 2017: bounds an angle of the triangle.
    Angular,
}

/// A miner by Euclidean distance.
pub fn euclidean_miner(strategy: Strategy, margin: f64) -> TripletMiner {
    TripletMiner { strategy, margin, distance: Distance::Euclidean }
}

impl Teacher {
    /// Rows of each class in a batch: pairs for Wang et al.'s loss, 6 otherwise.
    pub fn per_class(self) -> usize {
        if self == Self::Angular { 2 } else { 6 }
    }

    /// The loss of a batch `(rows, dim)`, in which [`per_class`](Self::per_class) rows of a class follow one another, at a step of a run; with it
    /// how many triplets were mined and how many of them are active, when any are mined.
    pub fn loss(self, x: &Tensor, labels: &[u32], step: usize) -> Result<(Tensor, Option<(f64, f64)>), NnError> {
        let strategy = match self {
            Self::Angular => {
                let pairs = x.reshape((labels.len() / 2, 2, ()))?;
                let side = |i: usize| pairs.narrow(1, i, 1)?.squeeze(1);
                let loss = Angular { alpha_degrees: ALPHA_DEGREES }.in_batch(&side(0)?, &side(1)?)?;
                return Ok((loss, None));
            }
            Self::Mined(strategy) => strategy,
            Self::SemiThenHard if step < STEPS * 7 / 10 => Strategy::SemiHard(Fallback::Skip),
            _ => Strategy::BatchHard,
        };
        let triplets = euclidean_miner(strategy, MARGIN).mine(x, labels)?;
        let loss = Triplet { margin: MARGIN, soft: self == Self::SoftHard, ..Triplet::default() };
        let out = loss.mined(x, &triplets, Reduction::MeanAll)?;
        let mined = out.metrics.triplets as f64;
        let counts = Some((mined, out.metrics.active * mined));
        if self != Self::AngleMargin {
            return Ok((out.loss, counts));
        }
        let [a, p, n] = [triplets.anchors, triplets.positives, triplets.negatives].map(|rows| pick(x, &rows));
        Ok((AngularMargin { alpha_degrees: ALPHA_DEGREES }.forward(&a?, &p?, &n?)?, counts))
    }
}
