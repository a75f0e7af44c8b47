//! A gather that gradients flow through, and one that runs beside other work.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use candle_core::{Context, CpuStorage, CustomOp1, DType, Layout, Shape, Tensor};

use super::{DistError, ProcessGroup};
use crate::NnError;

/// The rows of all ranks: `(rows, ...)` on each becomes `(world * rows, ...)`, in rank order.
///
/// Each rank's loss depends on every rank's rows. In the backward pass the ranks therefore add up what their losses want of each row,
/// and every rank gets the sum for its own (a reduce-scatter): the gradient of the sum of all ranks' losses. A plain all-gather has no
/// backward pass, and what it returns are constants.
///
/// The backward pass communicates, so all ranks must differentiate the same graph. f32 on the CPU; the same shape on every rank.
pub fn gather(group: &Arc<dyn ProcessGroup>, rows: &Tensor) -> Result<Tensor, NnError> {
    if rows.rank() == 0 || rows.dtype() != DType::F32 || !rows.device().is_cpu() {
        return Err(NnError::Shape {
            what: "rows to gather".to_owned(),
            expected: "(rows, ...) of f32 on the CPU".to_owned(),
            got: rows.dims().to_vec(),
        });
    }
    rows.contiguous()?.apply_op1(Gather { group: Arc::clone(group) }).map_err(backward_error)
}

/// An error of candle's, where [`gather`] communicates, as what it is: often the failure of a group.
pub fn backward_error(error: candle_core::Error) -> NnError {
    DistError::in_backward(&error).cloned().map_or_else(|| error.into(), NnError::Dist)
}

struct Gather {
    group: Arc<dyn ProcessGroup>,
}

impl CustomOp1 for Gather {
    fn name(&self) -> &'static str {
        "gather of all ranks"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (CpuStorage::F32(values), Some((from, to))) = (storage, layout.contiguous_offsets()) else {
            candle_core::bail!("only contiguous f32 rows are gathered");
        };
        let all = self.group.all_gather(&values[from..to]).context("gather")?;
        let mut dims = layout.dims().to_vec();
        dims[0] *= self.group.world_size();
        Ok((CpuStorage::F32(all), Shape::from(dims)))
    }

    fn bwd(&self, rows: &Tensor, _: &Tensor, gradient: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let values = gradient.flatten_all()?.to_vec1::<f32>()?;
        let own = self.group.reduce_scatter_sum(&values).context("backward of gather")?;
        Ok(Some(Tensor::from_vec(own, rows.shape(), rows.device())?))
    }
}

/// A gather that runs on a thread of its own while this one encodes the next batch.
///
/// Between [`start`](Self::start) and [`wait`](Self::wait) the rank must call no other collective of the group.
#[derive(Debug)]
pub struct Overlap {
    group: Arc<dyn ProcessGroup>,
    pending: Option<Receiver<Result<Vec<f32>, DistError>>>,
}

impl Overlap {
    /// Overlapped gathers of `group`.
    pub fn new(group: Arc<dyn ProcessGroup>) -> Self {
        Self { group, pending: None }
    }

    /// Starts an all-gather of `own` and returns at once. An error when the last one wasn't waited for.
    pub fn start(&mut self, own: Vec<f32>) -> Result<(), DistError> {
        if self.pending.is_some() {
            let (got, expected) = ("1".to_owned(), "0: wait for it first".to_owned());
            return Err(DistError::Argument { name: "gathers under way", got, expected });
        }
        let (sender, receiver) = channel();
        let group = Arc::clone(&self.group);
        std::thread::Builder::new()
            .spawn(move || drop(sender.send(group.all_gather(&own))))
            .map_err(|error| DistError::PeerLost { rank: self.group.rank(), why: error.to_string() })?;
        self.pending = Some(receiver);
        Ok(())
    }

    /// What the gather that was started brought; `None` when none was.
    pub fn wait(&mut self) -> Result<Option<Vec<f32>>, DistError> {
        let Some(pending) = self.pending.take() else { return Ok(None) };
        let lost = |_| DistError::PeerLost { rank: self.group.rank(), why: "its gather panicked".to_owned() };
        pending.recv().map_err(lost)?.map(Some)
    }
}

impl Drop for Overlap {
    /// Waits for what is under way: the next collective must not overtake it.
    fn drop(&mut self) {
        let _ = self.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dist::ThreadGroup;
    use candle_core::{Device, Var};
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn the_gradient_is_that_of_the_sum_of_all_losses() {
        // Rank r's loss is (r + 1) times the sum of the squares of all gathered values, so d/dx of the sum is 6 * 2x with three ranks.
        let x = |rank: usize| [[rank as f32, 1.0], [2.0, -(rank as f32)]];
        let gradients = ThreadGroup::run(3, |group| -> Result<_, NnError> {
            let rank = group.rank();
            let var = Var::new(&x(rank), &Device::Cpu)?;
            let all = gather(&group, &var)?;
            assert_eq!(all.dims(), [6, 2]);
            assert_eq!(all.to_vec2::<f32>()?[4], x(2)[0]);
            let loss = (all.sqr()?.sum_all()? * (rank + 1) as f64)?;
            let grads = loss.backward().map_err(backward_error)?;
            Ok(grads.get(&var).map(Tensor::to_vec2::<f32>).transpose()?)
        });
        for (rank, gradient) in gradients.unwrap().into_iter().enumerate() {
            let expected: Vec<Vec<f32>> = x(rank).iter().map(|row| row.iter().map(|v| 12.0 * v).collect()).collect();
            assert_eq!(gradient.unwrap(), expected);
        }
    }

    #[test]
    fn a_rank_lost_in_the_backward_pass_is_named() {
        let outcome = ThreadGroup::run(2, |group| -> Result<String, NnError> {
            let var = Var::new(&[[1.0f32]], &Device::Cpu)?;
            let all = gather(&group, &var)?;
            if group.rank() == 1 {
                return Ok(String::new());
            }
            let error = all.sum_all()?.backward().map_err(backward_error).unwrap_err();
            assert!(matches!(&error, NnError::Dist(DistError::PeerLost { rank: 1, .. })), "{error}");
            Ok(gather(&group, &var).unwrap_err().to_string())
        });
        let seen = &outcome.unwrap()[0];
        assert!(seen.starts_with("rank 1 was lost: it ended before reduce_scatter_sum of 2 values"), "{seen}");
    }

    #[test]
    fn other_types_are_refused() {
        let group: Arc<dyn ProcessGroup> = Arc::new(ThreadGroup::new(1).unwrap().remove(0));
        let wide = Tensor::zeros((2, 2), DType::F64, &Device::Cpu).unwrap();
        assert!(matches!(gather(&group, &wide), Err(NnError::Shape { .. })));
        // A transposed matrix is gathered as what it shows.
        let x = Tensor::new(&[[1.0f32, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap().t().unwrap();
        assert_eq!(gather(&group, &x).unwrap().to_vec2::<f32>().unwrap(), [[1.0, 3.0], [2.0, 4.0]]);
    }

    #[test]
    fn work_goes_on_while_a_gather_waits() {
        let worked = AtomicBool::new(false);
        let gathered = ThreadGroup::run(2, |group| -> Result<Vec<f32>, DistError> {
            let mut overlap = Overlap::new(Arc::clone(&group));
            assert_eq!(overlap.wait()?, None);
            if group.rank() == 0 {
                overlap.start(vec![1.0])?;
                assert!(overlap.start(vec![1.0]).is_err());
                worked.store(true, Ordering::SeqCst);
            } else {
                // Rank 1 comes only when rank 0 has worked after its start: with a blocking gather this would never end.
                while !worked.load(Ordering::SeqCst) {
                    std::thread::yield_now();
                }
                overlap.start(vec![2.0])?;
            }
            Ok(overlap.wait()?.unwrap_or_default())
        });
        assert_eq!(gathered.unwrap(), [[1.0, 2.0], [1.0, 2.0]]);
    }
}
