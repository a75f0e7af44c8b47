//! A replica that fails on purpose.

use std::sync::{Arc, Mutex, PoisonError};

use eas_ann::{Hit, VectorIndex};
use eas_ops::balance::Failure;
use eas_tensor::rng::SplitMix64;

/// An index of which a share of the searches fails.
pub struct Flaky {
    index: Arc<dyn VectorIndex>,
    faults: Mutex<Faults>,
}

struct Faults {
    share: f64,
    rng: SplitMix64,
    failed: u64,
}

impl Flaky {
    /// A replica that doesn't fail yet.
    pub fn new(index: Arc<dyn VectorIndex>, seed: u64) -> Self {
        let faults = Mutex::new(Faults { share: 0.0, rng: SplitMix64::new(seed), failed: 0 });
        Self { index, faults }
    }

    /// From now on this share of the searches fails.
    pub fn fail(&self, share: f64) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).share = share;
    }

    /// Searches that failed so far.
    pub fn failed(&self) -> u64 {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).failed
    }

    /// Searches, or fails: by its own fault, or by that of a query which the index refuses.
    pub fn search(&self, query: &[f32], k: usize) -> Result<Vec<Hit>, Failure<String>> {
        {
            let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
            let share = faults.share;
            if faults.rng.chance(share) {
                faults.failed += 1;
                return Err(Failure::Replica("no answer".into()));
            }
        }
        self.index.search(query, k).map_err(|error| Failure::Request(error.to_string()))
    }
}
