//! In which way a model runs: scoring, training, or repeating a training pass; and in which precision.

use eas_tensor::rng::SplitMix64;

use crate::amp::Precision;

/// How one pass through a model runs. Nothing is hidden in the layers: who calls says it.
///
/// A training pass is named by a seed and a step. The masks of [`Dropout`](crate::dropout::Dropout) depend on these and on the layer's
/// name alone, so a pass can be repeated exactly: in the backward pass of [`Segmented`](crate::checkpoint::Segmented), in the second
/// pass of `GradCache`, or after a crash. A layer used twice in one step (two views of an example) wants two steps, `2 t` and `2 t + 1`.
///
/// ```
/// use eas_nn::Mode;
///
/// let pass = Mode::train(7, 3);
/// assert!(pass.is_training() && pass.updates_statistics());
/// assert!(!pass.replayed().updates_statistics());
/// assert_eq!(pass.draws("layer"), pass.replayed().draws("layer"));
/// assert!(!Mode::EVAL.is_training());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode {
    pass: Option<Pass>,
    precision: Precision,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pass {
    seed: u64,
    step: u64,
    replayed: bool,
}

impl Mode {
    /// Scoring: no dropout, running statistics.
    pub const EVAL: Self = Self { pass: None, precision: Precision::F32 };

    /// A training pass: dropout, batch statistics.
    pub fn train(seed: u64, step: u64) -> Self {
        Self { pass: Some(Pass { seed, step, replayed: false }), precision: Precision::F32 }
    }

    /// The same pass once more: the same masks and batch statistics, but running statistics stay as they are.
    #[must_use]
    pub fn replayed(self) -> Self {
        Self { pass: self.pass.map(|pass| Pass { replayed: true, ..pass }), ..self }
    }

    /// The same pass with matrix products in another precision.
    #[must_use]
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// The precision of matrix products.
    pub fn precision(self) -> Precision {
        self.precision
    }

    /// Whether dropout is on and normalisation uses the batch.
    pub fn is_training(self) -> bool {
        self.pass.is_some()
    }

    /// Whether running statistics take in this pass.
    pub fn updates_statistics(self) -> bool {
        self.pass.is_some_and(|pass| !pass.replayed)
    }

    /// The random stream of the layer with this name in this pass; `None` while scoring.
    pub fn draws(self, layer: &str) -> Option<SplitMix64> {
        let pass = self.pass?;
        Some(SplitMix64::stream(pass.seed ^ crate::encoders::fnv1a(layer.as_bytes()), pass.step))
    }
}
