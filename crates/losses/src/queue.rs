//! Rows of earlier batches as negatives.

use candle_core::{DType, Device, Tensor};
use eas_tensor::{Matrix, TensorError};

use crate::ops::{constant, log_sum_exp, mask, masked, products, zero_of};
use crate::{LossError, matrix, normalize, one_a_row};

/// A ring of the last `capacity` rows that were pushed, normalised, each with an id (MoCo's dictionary, He et al. 2020).
///
/// It starts empty: only rows that were really pushed are negatives.
#[derive(Debug, Clone)]
pub struct NegativeQueue {
    rows: Matrix,
    ids: Vec<u32>,
    filled: usize,
    pointer: usize,
}

impl NegativeQueue {
    /// An empty queue of rows of `dim` values.
    pub fn new(dim: usize, capacity: usize) -> Result<Self, LossError> {
        for (name, got) in [("dim", dim), ("capacity", capacity)] {
            if got == 0 {
                return Err(LossError::Argument { name, got: 0.0, expected: "at least 1" });
            }
        }
        Ok(Self { rows: Matrix::zeros(capacity, dim), ids: vec![0; capacity], filled: 0, pointer: 0 })
    }

    /// Rows held.
    pub fn len(&self) -> usize {
        self.filled
    }

    /// True before the first push.
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Rows it can hold.
    pub fn capacity(&self) -> usize {
        self.rows.rows()
    }

    /// The slot that the next row goes to.
    pub fn pointer(&self) -> usize {
        self.pointer
    }

    /// The share of slots in use.
    pub fn utilisation(&self) -> f64 {
        self.filled as f64 / self.capacity() as f64
    }

    /// The ids of the rows held, slot by slot.
    pub fn ids(&self) -> &[u32] {
        &self.ids[..self.filled]
    }

    /// Writes the rows of `keys`, shape `(batch, dim)`, over the oldest ones; of a batch larger than the queue the last rows stay.
    ///
    /// Rows of length zero and rows that aren't finite are errors, and then nothing is written.
    pub fn push(&mut self, keys: &Tensor, ids: &[u32]) -> Result<(), LossError> {
        let (batch, dim) = matrix("keys", keys)?;
        one_a_row("ids", ids.len(), batch)?;
        if dim != self.rows.dim() {
            return Err(TensorError::Dimension { expected: self.rows.dim(), got: dim }.into());
        }
        let unit = normalize(&keys.detach().to_dtype(DType::F64)?)?;
        let unit = unit.to_dtype(DType::F32)?.to_device(&Device::Cpu)?;
        let unit = Matrix::from_vec(batch, dim, unit.flatten_all()?.to_vec1()?)?;
        unit.check_finite()?;
        if let Some(row) = (0..batch).find(|&i| unit.row(i).iter().all(|&x| x == 0.0)) {
            return Err(LossError::Name(format!("row {row} of the keys has length zero")));
        }
        let capacity = self.capacity();
        let skipped = batch.saturating_sub(capacity);
        self.pointer = (self.pointer + skipped) % capacity;
        for (i, &id) in ids.iter().enumerate().skip(skipped) {
            self.rows.row_mut(self.pointer).copy_from_slice(unit.row(i));
            self.ids[self.pointer] = id;
            self.pointer = (self.pointer + 1) % capacity;
        }
        // Slots fill in order; a skipped prefix only occurs with a batch that fills them all.
        self.filled = (self.filled + batch).min(capacity);
        Ok(())
    }

    /// The rows held, shape `(len, dim)`, in the type and on the device of `like`.
    pub fn tensor(&self, like: &Tensor) -> Result<Tensor, LossError> {
        let dim = self.rows.dim();
        let values = self.rows.as_slice()[..self.filled * dim].to_vec();
        Ok(Tensor::from_vec(values, (self.filled, dim), &Device::Cpu)?
            .to_dtype(like.dtype())?
            .to_device(like.device())?)
    }

    /// The `k` rows most similar to each anchor (fewer when fewer are eligible), as (slot, cosine), best first, ties to the lower slot.
    ///
    /// Rows with the id of the anchor are left out: they are the anchor itself in an earlier epoch.
    pub fn mine(&self, anchors: &Tensor, ids: &[u32], k: usize) -> Result<Vec<Vec<(usize, f64)>>, LossError> {
        let (rows, _) = matrix("anchors", anchors)?;
        one_a_row("ids", ids.len(), rows)?;
        if self.is_empty() || k == 0 {
            return Ok(vec![Vec::new(); rows]);
        }
        let anchors = normalize(&anchors.detach())?;
        let cosines = crate::ops::to_rows(&products(&anchors, &self.tensor(&anchors)?)?)?;
        let best = |(row, &id): (&Vec<f64>, &u32)| {
            let mut found: Vec<(usize, f64)> = row.iter().copied().enumerate().collect();
            found.retain(|&(slot, _)| self.ids[slot] != id);
            found.sort_by(|x, y| y.1.total_cmp(&x.1).then(x.0.cmp(&y.0)));
            found.truncate(k);
            found
        };
        Ok(cosines.iter().zip(ids).map(best).collect())
    }
}

/// The supervised contrastive loss of a batch against itself and a memory of earlier rows (cross-batch memory, Wang et al. 2020).
///
/// Each row's candidates are the other rows of the batch and all of `memory`, `(k, dim)`, which gets no gradient; its positives are
/// the candidates of its class. The mean runs over rows that have a positive; without any the loss is 0 with a zero gradient.
pub fn cross_batch_loss(
    embeddings: &Tensor,
    labels: &[u32],
    memory: &Tensor,
    memory_labels: &[u32],
    temperature: f64,
) -> Result<Tensor, LossError> {
    let (rows, dim) = matrix("embeddings", embeddings)?;
    one_a_row("labels", labels.len(), rows)?;
    crate::temperature::check(temperature)?;
    let (held, other) = memory.dims2()?;
    one_a_row("memory labels", memory_labels.len(), held)?;
    if other != dim {
        return Err(LossError::Shape { left: embeddings.dims().to_vec(), right: memory.dims().to_vec() });
    }
    let z = normalize(embeddings)?;
    let candidates =
        if held == 0 { z.clone() } else { Tensor::cat(&[&z, &normalize(&memory.detach())?.to_dtype(z.dtype())?], 0)? };
    let logits = (products(&z, &candidates)? / temperature)?;
    let classes: Vec<u32> = labels.iter().chain(memory_labels).copied().collect();
    let mut averaging = vec![0.0; rows * classes.len()];
    let mut counted = 0;
    for (i, row) in averaging.chunks_exact_mut(classes.len()).enumerate() {
        let mates = || (0..classes.len()).filter(|&j| j != i && classes[j] == labels[i]);
        let count = mates().count();
        counted += usize::from(count > 0);
        mates().for_each(|j| row[j] = 1.0 / count as f64);
    }
    if counted == 0 {
        return zero_of(embeddings);
    }
    let keep = mask(rows, classes.len(), &z, |i, j| i != j)?;
    let normal = log_sum_exp(&masked(&logits, &keep)?)?.unsqueeze(1)?;
    let averaging = constant(averaging, &[rows, classes.len()], &z)?;
    let cost = (normal.broadcast_sub(&logits)? * averaging)?;
    Ok((cost.sum_all()? / counted as f64)?)
}

/// [`cross_batch_loss`] with its memory.
#[derive(Debug, Clone)]
pub struct CrossBatchMemory {
    queue: NegativeQueue,
    temperature: f64,
}

impl CrossBatchMemory {
    /// An empty memory of `capacity` rows.
    pub fn new(dim: usize, capacity: usize, temperature: f64) -> Result<Self, LossError> {
        crate::temperature::check(temperature)?;
        Ok(Self { queue: NegativeQueue::new(dim, capacity)?, temperature })
    }

    /// The rows remembered, with their labels as ids.
    pub fn queue(&self) -> &NegativeQueue {
        &self.queue
    }

    /// The loss of a labelled batch, `(rows, dim)`, which is remembered afterwards.
    pub fn forward(&mut self, embeddings: &Tensor, labels: &[u32]) -> Result<Tensor, LossError> {
        matrix("embeddings", embeddings)?;
        let memory = self.queue.tensor(&crate::ops::widen(embeddings)?)?;
        let loss = cross_batch_loss(embeddings, labels, &memory, self.queue.ids(), self.temperature)?;
        self.queue.push(embeddings, labels)?;
        Ok(loss)
    }
}
