//! Hard negatives from earlier batches: InfoNCE against the k entries of a queue that are most like the anchor.

use candle_core::Tensor;

use crate::contrastive::{HardMetrics, candidate_loss};
use crate::ops::{mask, mean, products, row_products};
use crate::queue::NegativeQueue;
use crate::{LossError, LossOutput, normalize, one_a_row, same_shape};

/// A queue of earlier keys and the rule by which its entries become negatives.
///
/// The keys of a step are pushed after its loss, so that no anchor meets its own positive; entries with the anchor's id, the item in
/// an earlier step, are never mined.
///
/// ```
/// use candle_core::{DType, Device};
/// use eas_losses::{fixtures, queue_mining::QueueMiner};
///
/// let t = fixtures::tiny(DType::F64, &Device::Cpu)?;
/// let mut miner = QueueMiner::new(3, 8, 2, 0.07)?;
/// miner.queue.push(&t.negatives.flatten(0, 1)?.narrow(0, 0, 6)?, &[10, 11, 12, 13, 14, 15])?;
/// let out = miner.forward(&t.anchors, &t.positives, &[0, 1, 2, 3])?;
/// assert!((out.loss.to_scalar::<f64>()? - 0.6154367421).abs() < 1e-6);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct QueueMiner {
    /// The entries.
    pub queue: NegativeQueue,
    /// Negatives an anchor at most.
    pub k: usize,
    /// What cosines are divided by.
    pub temperature: f64,
}

impl QueueMiner {
    /// An empty queue of `capacity` keys of `dim` values.
    pub fn new(dim: usize, capacity: usize, k: usize, temperature: f64) -> Result<Self, LossError> {
        crate::temperature::check(temperature)?;
        if k == 0 {
            return Err(LossError::Argument { name: "k", got: 0.0, expected: "at least 1" });
        }
        Ok(Self { queue: NegativeQueue::new(dim, capacity)?, k, temperature })
    }

    /// The mean over anchors of `-ln softmax(cosines / temperature)` of the positive among the mined entries, which get no gradient.
    /// `anchors` and `positives` have shape `(batch, dim)`, with one id a row.
    ///
    /// While the queue is empty the loss is 0 with a zero gradient.
    pub fn forward(
        &self,
        anchors: &Tensor,
        positives: &Tensor,
        ids: &[u32],
    ) -> Result<LossOutput<HardMetrics>, LossError> {
        same_shape(anchors, positives, 2)?;
        let batch = anchors.dim(0)?;
        one_a_row("ids", ids.len(), batch)?;
        let mined = self.queue.mine(anchors, ids, self.k)?;
        let (a, p) = (normalize(anchors)?, normalize(positives)?);
        let mut similarities = row_products(&a, &p)?.unsqueeze(1)?;
        if !self.queue.is_empty() {
            similarities = Tensor::cat(&[&similarities, &products(&a, &self.queue.tensor(&a)?)?], 1)?;
        }
        let keep = mask(batch, self.queue.len() + 1, &a, |i, j| j == 0 || mined[i].iter().any(|m| m.0 + 1 == j))?;
        let loss = candidate_loss(&similarities, &vec![0; batch], self.temperature, Some(&keep), None)?;
        let metrics = HardMetrics {
            hard_similarity: mean(mined.iter().flatten().map(|m| m.1)),
            used: mined.iter().map(Vec::len).collect(),
        };
        Ok(LossOutput { loss, metrics })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;
    use candle_core::{DType, Device, Var};

    fn miner(k: usize, temperature: f64) -> QueueMiner {
        let t = fixtures::tiny(DType::F64, &Device::Cpu).unwrap();
        let mut miner = QueueMiner::new(3, 6, k, temperature).unwrap();
        let six = t.negatives.flatten(0, 1).unwrap().narrow(0, 0, 6).unwrap();
        miner.queue.push(&six, &[10, 11, 12, 13, 14, 15]).unwrap();
        miner
    }

    fn value(out: &LossOutput<HardMetrics>) -> f64 {
        out.loss.to_scalar::<f64>().unwrap()
    }

    #[test]
    fn equals_pytorch_on_the_fixture() {
        let t = fixtures::tiny(DType::F64, &Device::Cpu).unwrap();
        let expected = [
            (1, 0.609_529_470_9, 0.622_797_424_9),
            (2, 0.615_436_742_1, 0.840_486_832_5),
            (3, 0.616_004_621_9, 0.967_085_767_9),
            (6, 0.616_026_433_5, 1.082_012_799_8),
        ];
        for (k, cold, warm) in expected {
            for (temperature, known) in [(0.07, cold), (0.5, warm)] {
                let out = miner(k, temperature).forward(&t.anchors, &t.positives, &[0, 1, 2, 3]).unwrap();
                assert!((value(&out) - known).abs() < 2e-6, "{k} {temperature} {}", value(&out));
                assert_eq!(out.metrics.used, [k; 4]);
            }
        }
    }

    #[test]
    fn own_entries_are_never_mined() {
        let t = fixtures::tiny(DType::F64, &Device::Cpu).unwrap();
        let masked = miner(6, 0.5).forward(&t.anchors, &t.positives, &[14, 1, 10, 3]).unwrap();
        assert_eq!(masked.metrics.used, [5, 6, 5, 6]);
        // All entries are its own: nothing to be told from, loss ln 1.
        let mut own = QueueMiner::new(3, 2, 2, 0.5).unwrap();
        own.queue.push(&t.positives.narrow(0, 0, 2).unwrap(), &[7, 7]).unwrap();
        assert_eq!(value(&own.forward(&t.anchors, &t.positives, &[7; 4]).unwrap()), 0.0);
    }

    #[test]
    fn an_empty_queue_costs_nothing() {
        let t = fixtures::tiny(DType::F64, &Device::Cpu).unwrap();
        let a = Var::from_tensor(&t.anchors).unwrap();
        let out = QueueMiner::new(3, 4, 2, 0.1).unwrap().forward(&a, &t.positives, &[0, 1, 2, 3]).unwrap();
        assert_eq!((value(&out), out.metrics.used), (0.0, vec![0; 4]));
        let gradient = out.loss.backward().unwrap().remove(&a).unwrap();
        assert_eq!(gradient.abs().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap(), 0.0);
    }

    #[test]
    fn bad_input_is_refused() {
        let t = fixtures::tiny(DType::F64, &Device::Cpu).unwrap();
        assert!(QueueMiner::new(3, 4, 0, 0.1).is_err());
        assert!(QueueMiner::new(3, 0, 1, 0.1).is_err());
        assert!(QueueMiner::new(3, 4, 1, 0.0).is_err());
        assert!(miner(2, 0.1).forward(&t.anchors, &t.positives, &[0]).is_err());
        let narrow = t.anchors.narrow(1, 0, 2).unwrap();
        assert!(miner(2, 0.1).forward(&narrow, &narrow, &[0, 1, 2, 3]).is_err());
    }
}
