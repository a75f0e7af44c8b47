//! Rows of earlier batches as negatives.

use std::collections::BTreeMap;

use candle_core::{D, DType, Device, Tensor};
use eas_tensor::{Matrix, TensorError};

use crate::contrastive::RetrievalMetrics;
use crate::ops::{constant, log_sum_exp, mask, masked, mean, products, row_products, softplus, zero_of};
use crate::{LossError, LossOutput, matrix, normalize, one_a_row, same_shape};

/// The names under which [`NegativeQueue::state`] saves the rows, their ids, and the capacity and the pointer.
const STATE: [&str; 3] = ["queue/rows", "queue/ids", "queue/place"];

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

    /// MoCo's loss (He et al. 2020): each anchor is told from the rows held, which get no gradient, with its positive as the target.
    ///
    /// `anchors` and `positives` have shape `(batch, dim)`, any length, with one id a row; rows of the anchor's own id, the anchor
    /// itself in an earlier epoch, are left out. An empty queue costs 0, with a zero gradient.
    pub fn info_nce(
        &self,
        anchors: &Tensor,
        positives: &Tensor,
        ids: &[u32],
        temperature: f64,
    ) -> Result<LossOutput<RetrievalMetrics>, LossError> {
        same_shape(anchors, positives, 2)?;
        let (batch, dim) = anchors.dims2()?;
        one_a_row("ids", ids.len(), batch)?;
        if dim != self.rows.dim() {
            return Err(TensorError::Dimension { expected: self.rows.dim(), got: dim }.into());
        }
        crate::temperature::check(temperature)?;
        let (a, p) = (normalize(anchors)?, normalize(positives)?);
        let positive = row_products(&a, &p)?;
        let cosines: Vec<f64> = positive.to_dtype(DType::F64)?.to_vec1()?;
        let positive_similarity = mean(cosines.iter().copied());
        let (unit, held) = (a.detach(), self.tensor(&a)?);
        let similarities = products(&unit, &held)?;
        let own: Vec<(usize, usize)> = self.own_pairs(ids);
        let kept = batch * self.filled - own.len();
        if kept == 0 {
            let none = RetrievalMetrics {
                accuracy: 1.0,
                positive_similarity,
                negative_similarity: 0.0,
                similarity_gap: positive_similarity,
                n_candidates: 1,
            };
            return Ok(LossOutput { loss: zero_of(&(&a * &p)?)?, metrics: none });
        }
        let mut logits = (&similarities / temperature)?;
        let mut sum: f64 = row_products(&unit, &held.sum_keepdim(0)?.broadcast_as(unit.shape())?)?
            .to_dtype(DType::F64)?
            .sum_all()?
            .to_scalar()?;
        let mut candidates = vec![1 + self.filled; batch];
        if !own.is_empty() {
            let mut keep = vec![1u8; batch * self.filled];
            for &(i, slot) in &own {
                keep[i * self.filled + slot] = 0;
                candidates[i] -= 1;
                sum -= similarities.get(i)?.get(slot)?.to_dtype(DType::F64)?.to_scalar::<f64>()?;
            }
            logits =
                masked(&logits, &Tensor::from_vec(keep, (batch, self.filled), &Device::Cpu)?.to_device(a.device())?)?;
        }
        // The rows held are constants, so the gradient by an anchor of its log-sum-exp over them is their mean by softmax. It is found
        // beside the value, and no (batch, len) matrix becomes part of the graph.
        let largest = logits.max_keepdim(D::Minus1)?;
        let weights = logits.broadcast_sub(&largest)?.exp()?;
        let total = weights.sum_keepdim(D::Minus1)?;
        let pull = (weights.matmul(&held)?.broadcast_div(&total)? / temperature)?;
        let along = row_products(&a, &pull)?;
        let value = (total.log()? + &largest)?.squeeze(1)?;
        let negative = (&along + (value - along.detach())?)?;
        let loss = softplus(&(negative - (&positive / temperature)?)?)?.mean_all()?;
        let hardest: Vec<f64> = largest.squeeze(1)?.to_dtype(DType::F64)?.to_vec1()?;
        let hits = cosines.iter().zip(hardest).filter(|&(&s, logit)| s / temperature >= logit).count();
        let negative_similarity = sum / kept as f64;
        let metrics = RetrievalMetrics {
            accuracy: hits as f64 / batch as f64,
            positive_similarity,
            negative_similarity,
            similarity_gap: positive_similarity - negative_similarity,
            n_candidates: candidates.into_iter().max().unwrap_or(1),
        };
        Ok(LossOutput { loss, metrics })
    }

    /// The (row of `ids`, slot) pairs of one id.
    fn own_pairs(&self, ids: &[u32]) -> Vec<(usize, usize)> {
        let mut rows: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (i, &id) in ids.iter().enumerate() {
            rows.entry(id).or_default().push(i);
        }
        let pairs = |(slot, id): (usize, &u32)| rows.get(id).into_iter().flatten().map(move |&i| (i, slot));
        self.ids().iter().enumerate().flat_map(pairs).collect()
    }

    /// All that a later [`restore`](Self::restore) needs, by name: rows, ids, capacity and pointer.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>, LossError> {
        let (dim, device) = (self.rows.dim(), &Device::Cpu);
        let rows = self.rows.as_slice()[..self.filled * dim].to_vec();
        let place = [self.capacity(), self.pointer].map(|x| x as u32);
        let tensors = [
            Tensor::from_vec(rows, (self.filled, dim), device)?,
            Tensor::from_slice(self.ids(), self.filled, device)?,
            Tensor::new(&place, device)?,
        ];
        Ok(STATE.map(str::to_owned).into_iter().zip(tensors).collect())
    }

    /// Goes on from a saved [`state`](Self::state) of a queue of the same dimension and capacity; otherwise an error, and nothing is
    /// changed.
    pub fn restore(&mut self, state: &BTreeMap<String, Tensor>) -> Result<(), LossError> {
        let refused = |text: String| Err(LossError::Name(text));
        if let Some(stranger) = state.keys().find(|name| !STATE.contains(&name.as_str())) {
            return refused(format!("{stranger:?} is not part of a queue's state"));
        }
        let get =
            |name: &str| state.get(name).ok_or_else(|| LossError::Name(format!("the queue's state lacks {name:?}")));
        let (rows, ids, place) = (get(STATE[0])?, get(STATE[1])?.to_vec1::<u32>()?, get(STATE[2])?.to_vec1::<u32>()?);
        let (filled, dim) = rows.dims2()?;
        let own = [self.capacity(), self.rows.dim()];
        let (saved, pointer) = match place[..] {
            [capacity, pointer] => ([capacity as usize, dim], pointer as usize),
            _ => return refused(format!("the queue's place has {} numbers, not 2", place.len())),
        };
        if saved != own {
            return refused(format!("a queue of (capacity, dim) {saved:?} can't be restored into one of {own:?}"));
        }
        one_a_row("ids", ids.len(), filled)?;
        // Slots fill from 0 on, so until the queue is full the pointer counts them.
        let fits = if filled < own[0] { pointer == filled } else { filled == own[0] && pointer < own[0] };
        if !fits {
            return refused(format!("slot {pointer} can't be next in a queue of {filled} rows of {}", own[0]));
        }
        let rows = Matrix::from_vec(filled, dim, rows.to_device(&Device::Cpu)?.flatten_all()?.to_vec1()?)?;
        let is_unit = |row: &[f32]| (row.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-4;
        if let Some(row) = rows.iter_rows().position(|row| !is_unit(row)) {
            return refused(format!("row {row} of the saved queue doesn't have length 1"));
        }
        self.rows.as_mut_slice()[..filled * dim].copy_from_slice(rows.as_slice());
        self.ids[..filled].copy_from_slice(&ids);
        (self.filled, self.pointer) = (filled, pointer);
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{InfoNce, fixtures};
    use candle_core::Var;
    use eas_tensor::rng::SplitMix64;
    use std::collections::VecDeque;

    fn rows(n: usize, rng: &mut SplitMix64) -> Tensor {
        let values: Vec<f32> = (0..n * 3).map(|_| rng.normal() as f32).collect();
        Tensor::from_vec(values, (n, 3), &Device::Cpu).unwrap()
    }

    fn queue_of_six(ids: [u32; 6]) -> (fixtures::Tiny, NegativeQueue) {
        let t = fixtures::tiny(DType::F64, &Device::Cpu).unwrap();
        let mut queue = NegativeQueue::new(3, 6).unwrap();
        let six = t.negatives.reshape((8, 3)).unwrap().narrow(0, 0, 6).unwrap();
        queue.push(&six, &ids).unwrap();
        (t, queue)
    }

    fn number(loss: &Tensor) -> f64 {
        loss.to_scalar::<f64>().unwrap()
    }

    /// Batches of 1 to 29 rows into 10 slots, beside a deque of unit rows; now and then a copy is saved and goes on instead.
    #[test]
    fn it_holds_what_a_deque_would() {
        let mut rng = SplitMix64::new(3);
        let mut queue = NegativeQueue::new(3, 10).unwrap();
        let mut model: VecDeque<(u32, Vec<f32>)> = VecDeque::new();
        let mut pushed = 0usize;
        for step in 0..1_000u32 {
            let n = 1 + rng.below(if step % 3 == 0 { 29 } else { 7 });
            let keys = rows(n, &mut rng);
            let ids: Vec<u32> = (0..n as u32).map(|i| 100 * step + i).collect();
            queue.push(&keys, &ids).unwrap();
            for (row, &id) in keys.to_vec2::<f32>().unwrap().into_iter().zip(&ids) {
                let length = row.iter().map(|x| f64::from(x * x)).sum::<f64>().sqrt();
                model.push_back((id, row.iter().map(|&x| (f64::from(x) / length) as f32).collect()));
            }
            while model.len() > 10 {
                model.pop_front();
            }
            pushed += n;
            assert_eq!((queue.len(), queue.pointer()), (model.len(), pushed % 10));
            // The oldest row is at the pointer once the queue is full.
            let start = if queue.len() < 10 { 0 } else { queue.pointer() };
            let held = queue.tensor(&keys).unwrap().to_vec2::<f32>().unwrap();
            for (i, (id, row)) in model.iter().enumerate() {
                let slot = (start + i) % 10;
                assert_eq!(queue.ids()[slot], *id);
                assert!(held[slot].iter().zip(row).all(|(x, y)| (x - y).abs() < 1e-6));
            }
            if step % 50 == 0 {
                let mut copy = NegativeQueue::new(3, 10).unwrap();
                copy.push(&rows(4, &mut rng), &[1; 4]).unwrap();
                copy.restore(&queue.state().unwrap()).unwrap();
                queue = copy;
            }
        }
    }

    #[test]
    fn a_part_filled_and_an_empty_queue_are_restored() {
        let mut rng = SplitMix64::new(4);
        for n in [0, 4] {
            let mut queue = NegativeQueue::new(3, 10).unwrap();
            if n > 0 {
                queue.push(&rows(n, &mut rng), &vec![7; n]).unwrap();
            }
            let mut copy = NegativeQueue::new(3, 10).unwrap();
            copy.push(&rows(23, &mut rng), &[1; 23]).unwrap();
            copy.restore(&queue.state().unwrap()).unwrap();
            assert_eq!((copy.len(), copy.pointer(), copy.ids()), (n, n, &vec![7; n][..]));
        }
    }

    #[test]
    fn damaged_states_are_refused_and_change_nothing() {
        let (_, mut queue) = queue_of_six([1; 6]);
        let good = queue.state().unwrap();
        let u32s = |x: &[u32]| Tensor::new(x, &Device::Cpu).unwrap();
        let with = |name: &str, value: Tensor| {
            let mut state = good.clone();
            state.insert(name.to_owned(), value);
            state
        };
        let rows = &good[STATE[0]];
        let narrow = rows.narrow(0, 0, 5).unwrap();
        let mut missing = good.clone();
        missing.remove(STATE[1]);
        for (state, part) in [
            (missing, "lacks"),
            (with("weight", rows.clone()), "weight"),
            (with(STATE[0], narrow.clone()), "6 ids for 5 rows"),
            (with(STATE[0], (rows * 2.0).unwrap()), "length 1"),
            (with(STATE[0], (rows * f64::NAN).unwrap()), "length 1"),
            (with(STATE[0], rows.reshape((9, 2)).unwrap()), "[6, 2]"),
            (with(STATE[1], u32s(&[1; 7])), "7 ids for 6 rows"),
            (with(STATE[2], u32s(&[6, 6])), "slot 6"),
            (with(STATE[2], u32s(&[8, 0])), "[8, 3]"),
            (with(STATE[2], u32s(&[6])), "1 numbers"),
        ] {
            let message = queue.restore(&state).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
        let mut short = with(STATE[0], narrow);
        short.insert(STATE[1].to_owned(), u32s(&[1; 5]));
        assert!(queue.restore(&short).unwrap_err().to_string().contains("slot 0"));
        assert_eq!(queue.state().unwrap()[STATE[0]].to_vec2::<f32>().unwrap(), rows.to_vec2::<f32>().unwrap());
    }

    #[test]
    fn the_loss_is_that_of_explicit_rows() {
        let (t, queue) = queue_of_six([10, 11, 12, 13, 14, 15]);
        for (temperature, known) in [(0.07, 0.616_026_433_5), (0.2, 0.703_067_851_0)] {
            let out = queue.info_nce(&t.anchors, &t.positives, &[0, 1, 2, 3], temperature).unwrap();
            assert!((number(&out.loss) - known).abs() < 2e-6);
            let held = queue.tensor(&t.anchors).unwrap();
            let other = InfoNce::new(temperature).with_queue(&t.anchors, &t.positives, &held).unwrap();
            // `with_queue` normalises the rows once more, which f32 has rounded.
            assert!((number(&out.loss) - number(&other.loss)).abs() < 1e-6);
            assert_eq!((out.metrics.accuracy, out.metrics.n_candidates), (0.5, 7));
            assert!((out.metrics.positive_similarity - other.metrics.positive_similarity).abs() < 1e-12);
            assert!((out.metrics.negative_similarity - other.metrics.negative_similarity).abs() < 1e-7);
        }
    }

    /// Each row alone, against the rows that it may meet.
    #[test]
    fn own_rows_are_left_out_and_rows_held_get_no_gradient() {
        let ids = [10, 11, 2, 10, 0, 2];
        let (t, queue) = queue_of_six(ids);
        let held = queue.tensor(&t.anchors).unwrap();
        let [a, p] = [&t.anchors, &t.positives].map(|x| Var::from_tensor(x).unwrap());
        let out = queue.info_nce(&a, &p, &[0, 1, 2, 3], 0.5).unwrap();
        let (mut total, mut cosines) = (a.zeros_like().unwrap().sum_all().unwrap(), Vec::new());
        for row in 0..4u32 {
            let keep: Vec<u32> = (0..6).filter(|&slot| ids[slot as usize] != row).collect();
            let keep = held.index_select(&Tensor::new(keep, &Device::Cpu).unwrap(), 0).unwrap();
            let one = |x: &Tensor| x.narrow(0, row as usize, 1).unwrap();
            let single = InfoNce::new(0.5).with_queue(&one(&a), &one(&p), &keep).unwrap();
            total = (total + single.loss / 4.0).unwrap();
            let negatives = single.metrics.n_candidates - 1;
            cosines.extend(vec![single.metrics.negative_similarity; negatives]);
        }
        assert!((number(&out.loss) - number(&total)).abs() < 1e-7);
        assert!((out.metrics.negative_similarity - mean(cosines)).abs() < 1e-7);
        assert_eq!(out.metrics.n_candidates, 7);
        let norm = |x: &Tensor| number(&x.abs().unwrap().sum_all().unwrap());
        let (ours, theirs) = (out.loss.backward().unwrap(), total.backward().unwrap());
        for var in [&a, &p] {
            let (x, y) = (ours.get(var).unwrap(), theirs.get(var).unwrap());
            assert!(norm(y) > 0.1 && norm(&(x - y).unwrap()) < 1e-6);
        }

        // Nothing to be told from: the loss is ln 1.
        let (_, own) = queue_of_six([3; 6]);
        for queue in [own, NegativeQueue::new(3, 6).unwrap()] {
            let out = queue.info_nce(&a, &t.positives, &[3; 4], 0.5).unwrap();
            assert_eq!((number(&out.loss), out.metrics.n_candidates, out.metrics.accuracy), (0.0, 1, 1.0));
            assert_eq!(norm(out.loss.backward().unwrap().get(&a).unwrap()), 0.0);
        }
    }

    #[test]
    fn bad_input_is_refused() {
        let (t, queue) = queue_of_six([1; 6]);
        let narrow = t.anchors.narrow(1, 0, 2).unwrap();
        assert!(queue.info_nce(&narrow, &narrow, &[0; 4], 0.1).is_err());
        assert!(queue.info_nce(&t.anchors, &narrow, &[0; 4], 0.1).is_err());
        assert!(queue.info_nce(&t.anchors, &t.positives, &[0; 3], 0.1).is_err());
        assert!(queue.info_nce(&t.anchors, &t.positives, &[0; 4], 0.0).is_err());
    }
}
