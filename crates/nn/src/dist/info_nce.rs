//! InfoNCE over one batch that is spread over several ranks.

use std::sync::Arc;

use candle_core::{D, DType, Tensor};
use eas_losses::contrastive::{RetrievalMetrics, candidate_loss};
use eas_losses::{LossError, LossOutput, normalize};

use super::{ProcessGroup, gather};
use crate::NnError;

/// InfoNCE with two views and the negatives of all ranks: with `world` ranks of `batch` pairs, each anchor has `2 world batch - 1`
/// candidates.
///
/// Rank `r` computes the loss of its own anchors; the global loss is the mean over the ranks, and so is its gradient: average the
/// parameters' gradients with [`average_gradients`](super::sync::average_gradients) and the step is that of a single process with the
/// whole batch, [`InfoNce`](eas_losses::InfoNce) with [`TwoView`](eas_losses::Negatives::TwoView).
#[derive(Debug, Clone)]
pub struct DistributedInfoNce {
    group: Arc<dyn ProcessGroup>,
    temperature: f64,
}

impl DistributedInfoNce {
    /// The loss of the ranks of `group`; cosines are divided by `temperature`.
    pub fn new(group: Arc<dyn ProcessGroup>, temperature: f64) -> Result<Self, NnError> {
        if temperature > 0.0 && temperature.is_finite() {
            return Ok(Self { group, temperature });
        }
        let (got, expected) = (temperature.to_string(), "positive and finite".to_owned());
        Err(NnError::Argument { name: "temperature", got, expected })
    }

    /// The ranks.
    pub fn group(&self) -> &Arc<dyn ProcessGroup> {
        &self.group
    }

    /// This rank's share of the loss, of `anchors` and `positives`, both `(batch, dim)`, f32, of any length and the same shape on all
    /// ranks. Metrics are those of this rank's anchors.
    pub fn forward(&self, anchors: &Tensor, positives: &Tensor) -> Result<LossOutput<RetrievalMetrics>, NnError> {
        if anchors.dims() != positives.dims() {
            let (left, right) = (anchors.dims().to_vec(), positives.dims().to_vec());
            return Err(LossError::Shape { left, right }.into());
        }
        let (batch, dim) = anchors.dims2()?;
        if batch * dim == 0 {
            return Err(LossError::Empty(anchors.dims().to_vec()).into());
        }
        // One message for both.
        let both = gather(&self.group, &Tensor::cat(&[anchors, positives], 0)?)?;
        let mut candidates = Vec::new();
        for half in [0, batch] {
            for rank in 0..self.group.world_size() {
                candidates.push(both.narrow(0, 2 * rank * batch + half, batch)?);
            }
        }
        self.among(anchors, &Tensor::cat(&candidates, 0)?)
    }

    /// The loss of this rank's `anchors`, `(batch, dim)`, among `candidates` from anywhere: all ranks' anchors, then all ranks'
    /// positives, `(2 world batch, dim)`.
    pub fn among(&self, anchors: &Tensor, candidates: &Tensor) -> Result<LossOutput<RetrievalMetrics>, NnError> {
        let (rank, world) = (self.group.rank(), self.group.world_size());
        let (batch, dim) = anchors.dims2()?;
        if candidates.dims() != [2 * world * batch, dim] {
            return Err(NnError::Shape {
                what: "candidates of all ranks".to_owned(),
                expected: format!("({}, {dim})", 2 * world * batch),
                got: candidates.dims().to_vec(),
            });
        }
        let similarities = normalize(anchors)?.matmul(&normalize(candidates)?.t()?)?;
        let own = |i: usize| rank * batch + i;
        let targets: Vec<u32> = (0..batch).map(|i| (world * batch + own(i)) as u32).collect();
        let keep: Vec<u8> =
            (0..batch).flat_map(|i| (0..2 * world * batch).map(move |j| u8::from(j != own(i)))).collect();
        let keep = Tensor::from_vec(keep, similarities.shape(), similarities.device())?;
        let loss = candidate_loss(&similarities, &targets, self.temperature, Some(&keep), None)?;
        let metrics = measure(&similarities, &targets, own)?;
        Ok(LossOutput { loss, metrics })
    }
}

fn measure(similarities: &Tensor, targets: &[u32], own: impl Fn(usize) -> usize) -> Result<RetrievalMetrics, NnError> {
    let columns = similarities.dim(D::Minus1)?;
    let rows = similarities.detach().to_dtype(DType::F64)?.to_vec2::<f64>()?;
    let (mut hits, mut positive, mut all) = (0, 0.0, 0.0);
    for (i, (row, &target)) in rows.iter().zip(targets).enumerate() {
        let target = target as usize;
        let rivals = || (0..columns).filter(|&j| j != own(i) && j != target);
        // Among equals the lower column is the most similar one.
        hits += usize::from(rivals().all(|j| row[j] < row[target] || (row[j] == row[target] && j > target)));
        positive += row[target];
        all += rivals().map(|j| row[j]).sum::<f64>();
    }
    let rivals = columns - 2;
    let positive_similarity = positive / rows.len() as f64;
    let negative_similarity = all / (rows.len() * rivals).max(1) as f64;
    Ok(RetrievalMetrics {
        accuracy: hits as f64 / rows.len() as f64,
        positive_similarity,
        negative_similarity,
        similarity_gap: positive_similarity - negative_similarity,
        n_candidates: rivals + 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dist::ThreadGroup;
    use candle_core::{Device, Var};
    use eas_losses::{InfoNce, Negatives, fixtures};

    struct Share {
        loss: f64,
        metrics: RetrievalMetrics,
        anchors: Vec<Vec<f32>>,
        positives: Vec<Vec<f32>>,
    }

    /// Loss and gradients of each rank's part of fixture T.
    fn run(world: usize, temperature: f64) -> Vec<Share> {
        let outcome = ThreadGroup::run(world, |group| -> Result<_, NnError> {
            let t = fixtures::tiny(DType::F32, &Device::Cpu)?;
            let (batch, rank) = (4 / world, group.rank());
            let part = |x: &Tensor| Ok::<_, NnError>(Var::from_tensor(&x.narrow(0, rank * batch, batch)?.copy()?)?);
            let (a, p) = (part(&t.anchors)?, part(&t.positives)?);
            let out = DistributedInfoNce::new(group, temperature)?.forward(&a, &p)?;
            let grads = out.loss.backward()?;
            // The global loss is the mean of the ranks' losses.
            let of = |var: &Var| Ok::<_, NnError>((grads.get(var).unwrap() * (1.0 / world as f64))?.to_vec2::<f32>()?);
            let loss = f64::from(out.loss.to_scalar::<f32>()?);
            Ok(Share { loss, metrics: out.metrics, anchors: of(&a)?, positives: of(&p)? })
        });
        outcome.unwrap()
    }

    #[test]
    fn two_ranks_share_the_loss_of_one_process() {
        for (temperature, losses, mean) in [
            (0.07, [0.000_756_328_1, 0.024_370_226_0], 0.012_563_277_0),
            (0.5, [0.694_520_732_0, 1.012_937_621_1], 0.853_729_176_5),
        ] {
            let ranks = run(2, temperature);
            for (share, expected) in ranks.iter().zip(losses) {
                assert!((share.loss - expected).abs() < 2e-6, "{}", share.loss);
            }
            assert!((ranks.iter().map(|r| r.loss).sum::<f64>() / 2.0 - mean).abs() < 2e-6);
        }
    }

    #[test]
    fn gradients_are_those_of_one_process() {
        let known = [
            [0.07101473f32, -0.05666188, 0.17073517],
            [0.13580054, 0.03594716, 0.04260416],
            [0.08012448, 0.10318945, 0.16631666],
            [-0.06111794, 0.15498837, 0.00709137],
        ];
        let t = fixtures::tiny(DType::F64, &Device::Cpu).unwrap();
        let (a, p) = (Var::from_tensor(&t.anchors).unwrap(), Var::from_tensor(&t.positives).unwrap());
        let whole = InfoNce::new(0.5).forward(&a, &p, Negatives::TwoView).unwrap();
        let store = whole.loss.backward().unwrap();
        let single = |var: &Var| store.get(var).unwrap().to_dtype(DType::F32).unwrap().to_vec2::<f32>().unwrap();
        let close = |x: &[Vec<f32>], y: &[Vec<f32>]| {
            x.iter().zip(y).all(|(x, y)| x.iter().zip(y).all(|(x, y)| (x - y).abs() < 2e-7))
        };
        for world in [1, 2, 4] {
            let ranks = run(world, 0.5);
            let da: Vec<Vec<f32>> = ranks.iter().flat_map(|r| r.anchors.clone()).collect();
            let dp: Vec<Vec<f32>> = ranks.iter().flat_map(|r| r.positives.clone()).collect();
            assert!(close(&da, &known.map(Vec::from)), "{da:?}");
            assert!(close(&da, &single(&a)) && close(&dp, &single(&p)));
            assert!(close(&dp[..1], &[vec![-0.02748343, 0.04122514, 0.17527776]]));
            // Metrics of the ranks' anchors average to those of the whole batch.
            let mean =
                |of: fn(&RetrievalMetrics) -> f64| ranks.iter().map(|r| of(&r.metrics)).sum::<f64>() / world as f64;
            assert!((mean(|m| m.accuracy) - whole.metrics.accuracy).abs() < 1e-12);
            assert!((mean(|m| m.positive_similarity) - whole.metrics.positive_similarity).abs() < 1e-6);
            assert!((mean(|m| m.negative_similarity) - whole.metrics.negative_similarity).abs() < 1e-6);
            assert_eq!(ranks[0].metrics.n_candidates, whole.metrics.n_candidates);
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let group: Arc<dyn ProcessGroup> = Arc::new(ThreadGroup::new(1).unwrap().remove(0));
        assert!(DistributedInfoNce::new(Arc::clone(&group), 0.0).is_err());
        let loss = DistributedInfoNce::new(group, 0.1).unwrap();
        let zeros = |rows: usize, dim: usize| Tensor::zeros((rows, dim), DType::F32, &Device::Cpu).unwrap();
        assert!(loss.forward(&zeros(2, 3), &zeros(3, 3)).is_err());
        assert!(loss.forward(&zeros(0, 3), &zeros(0, 3)).is_err());
        assert!(loss.among(&zeros(2, 3), &zeros(3, 3)).is_err());
        // One pair has no negatives: the loss is 0.
        let one = Tensor::new(&[[1.0f32, 2.0]], &Device::Cpu).unwrap();
        let out = loss.forward(&one, &one).unwrap();
        assert_eq!((out.loss.to_scalar::<f32>().unwrap(), out.metrics.n_candidates), (0.0, 1));
    }

    #[test]
    fn ranks_with_batches_of_different_sizes_are_told() {
        let outcome = ThreadGroup::run(2, |group| -> Result<(), NnError> {
            let rows = Tensor::ones((1 + group.rank(), 3), DType::F32, &Device::Cpu)?;
            DistributedInfoNce::new(group, 0.1)?.forward(&rows, &rows).map(drop)
        });
        assert!(outcome.unwrap_err().to_string().starts_with("ranks disagree"));
    }
}
