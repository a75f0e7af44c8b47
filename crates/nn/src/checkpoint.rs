//! Activation checkpointing: keep the inputs of segments, compute the rest again in the backward pass.
//!
//! Chen, Xu, Zhang and Guestrin, "Training Deep Nets with Sublinear Memory Cost" (2016). The gradient is the same; the cost is one
//! more forward pass, which makes 4/3 of the work when a backward pass costs two.

use std::cell::Cell;

use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor, Var};
use eas_losses::wrapper::backward_with;

use crate::{Mode, NnError};

/// Counts the numbers that wait for the backward pass.
///
/// Candle doesn't say what its graph holds, so a block tells: it passes every tensor that its backward pass reads to
/// [`keep`](Self::keep). While a block runs without a graph nothing is counted.
#[derive(Debug, Default)]
pub struct ActivationMeter {
    held: Cell<usize>,
    peak: Cell<usize>,
    paused: Cell<bool>,
    forwards: Cell<usize>,
    backwards: Cell<usize>,
}

impl ActivationMeter {
    /// A meter at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a tensor that the backward pass will read.
    pub fn keep(&self, x: &Tensor) {
        if !self.paused.get() {
            self.held.set(self.held.get() + x.elem_count());
            self.peak.set(self.peak.get().max(self.held.get()));
        }
    }

    /// The most numbers held at a time so far.
    pub fn peak(&self) -> usize {
        self.peak.get()
    }

    /// Passes through blocks so far, a backward pass counting as two forward ones (a gradient by the input and one by the weights).
    pub fn work(&self) -> usize {
        self.forwards.get() + 2 * self.backwards.get()
    }

    fn release_to(&self, held: usize) {
        self.held.set(held);
    }
}

/// A stretch of a model: the input, the mode and the meter give the output. It must not read a trained tensor's value by other ways
/// than candle operations, and must draw its random numbers from the mode.
pub type Block<'a> = dyn Fn(&Tensor, Mode, &ActivationMeter) -> Result<Tensor, NnError> + 'a;

/// What a pass through blocks and back gives.
#[derive(Debug)]
pub struct Differentiated {
    /// The loss.
    pub loss: f64,
    /// The last block's output, without a graph.
    pub output: Tensor,
    /// The gradient by everything trained.
    pub gradients: GradStore,
    /// The gradient by the input, for what lies before it; `None` for an input of integers.
    pub by_input: Option<Tensor>,
}

/// Runs blocks in segments: forward without a graph, backward from the last segment to the first, each run again with its graph.
///
/// The second run repeats the pass ([`Mode::replayed`]): the same dropout masks, and running statistics aren't updated twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segmented {
    segments: usize,
}

impl Segmented {
    /// A run in `segments` parts.
    pub fn new(segments: usize) -> Result<Self, NnError> {
        if segments == 0 {
            return Err(NnError::Argument { name: "segments", got: "0".to_owned(), expected: "at least 1".to_owned() });
        }
        Ok(Self { segments })
    }

    /// The gradient of `loss` of what `blocks`, one after the other, make of `input`.
    pub fn run(
        self,
        blocks: &[&Block<'_>],
        input: &Tensor,
        mode: Mode,
        meter: &ActivationMeter,
        loss: impl FnOnce(&Tensor) -> Result<Tensor, NnError>,
    ) -> Result<Differentiated, NnError> {
        let segments = self.segments.min(blocks.len());
        let bounds = |i: usize| i * blocks.len() / segments..(i + 1) * blocks.len() / segments;
        let mut inputs = Vec::with_capacity(segments);
        let before = meter.held.get();
        let mut x = input.detach();
        for i in 0..segments {
            meter.keep(&x);
            inputs.push(x.clone());
            for block in &blocks[bounds(i)] {
                meter.paused.set(true);
                let out = block(&x, mode, meter);
                meter.paused.set(false);
                meter.forwards.set(meter.forwards.get() + 1);
                x = out?.detach();
            }
        }
        // The output gives way to the gradient by it, which has its size.
        meter.keep(&x);
        let output = x;
        let leaf = Var::from_tensor(&output)?;
        let value = loss(leaf.as_tensor())?;
        let mut gradients = value.backward()?;
        let mut upstream = gradients.remove(&leaf).ok_or_else(no_dependence)?;
        let mut by_input = Some(upstream.clone());
        for i in (0..segments).rev() {
            let held = meter.held.get();
            let float = inputs[i].dtype().is_float();
            let leaf = if float { Some(Var::from_tensor(&inputs[i])?) } else { None };
            let mut x = leaf.as_ref().map_or_else(|| inputs[i].clone(), |leaf| leaf.as_tensor().clone());
            for block in &blocks[bounds(i)] {
                x = block(&x, mode.replayed(), meter)?;
                meter.forwards.set(meter.forwards.get() + 1);
            }
            let mut part = backward_with(&x, &upstream)?;
            meter.backwards.set(meter.backwards.get() + bounds(i).len());
            by_input = leaf.as_ref().and_then(|leaf| part.remove(leaf));
            gradients.extend(part)?;
            meter.release_to(held - inputs[i].elem_count());
            inputs.truncate(i);
            if i > 0 {
                upstream = by_input.clone().ok_or_else(no_dependence)?;
            }
        }
        meter.release_to(before);
        Ok(Differentiated { loss: value.to_dtype(DType::F64)?.to_scalar()?, output, gradients, by_input })
    }

    /// The same the ordinary way: one graph of all blocks.
    pub fn plain(
        blocks: &[&Block<'_>],
        input: &Tensor,
        mode: Mode,
        meter: &ActivationMeter,
        loss: impl FnOnce(&Tensor) -> Result<Tensor, NnError>,
    ) -> Result<Differentiated, NnError> {
        let before = meter.held.get();
        let leaf = if input.dtype().is_float() { Some(Var::from_tensor(&input.detach())?) } else { None };
        let mut x = leaf.as_ref().map_or_else(|| input.clone(), |leaf| leaf.as_tensor().clone());
        for block in blocks {
            x = block(&x, mode, meter)?;
            meter.forwards.set(meter.forwards.get() + 1);
        }
        meter.keep(&x);
        let value = loss(&x)?;
        let mut gradients = value.backward()?;
        meter.backwards.set(meter.backwards.get() + blocks.len());
        meter.release_to(before);
        let by_input = leaf.as_ref().and_then(|leaf| gradients.remove(leaf));
        Ok(Differentiated { loss: value.to_dtype(DType::F64)?.to_scalar()?, output: x.detach(), gradients, by_input })
    }
}

fn no_dependence() -> NnError {
    NnError::Argument {
        name: "loss",
        got: "one that doesn't depend on the output of the blocks".to_owned(),
        expected: "a function of it".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dropout::Dropout;
    use crate::gradients::Gradients;
    use crate::layers::Linear;
    use crate::norm::BatchNorm1d;
    use crate::params::Parameters;
    use candle_core::Device;
    use eas_losses::{NtXent, PairLayout};

    /// The encoder of listing 5.20: residual blocks 128 -> 512 -> 128 with ReLU, here with dropout if wanted.
    struct Residual {
        inner: Linear,
        outer: Linear,
        dropout: Dropout,
    }

    impl Residual {
        fn forward(&self, x: &Tensor, mode: Mode, meter: &ActivationMeter) -> Result<Tensor, NnError> {
            meter.keep(x);
            let hidden = self.inner.forward_in(x, mode)?;
            meter.keep(&hidden);
            let active = hidden.relu()?;
            meter.keep(&active);
            let added = self.dropout.forward(&self.outer.forward_in(&active, mode)?, mode)?;
            Ok((x + added)?)
        }
    }

    fn model(blocks: usize, dropout: f64) -> (Vec<Residual>, Parameters) {
        let mut params = Parameters::new(1, &Device::Cpu);
        let blocks = (0..blocks)
            .map(|i| Residual {
                inner: Linear::new(&mut params, &format!("{i}.inner"), 128, 512).unwrap(),
                outer: Linear::new(&mut params, &format!("{i}.outer"), 512, 128).unwrap(),
                dropout: Dropout::new(&format!("{i}.dropout"), dropout).unwrap(),
            })
            .collect();
        (blocks, params)
    }

    fn batch() -> Tensor {
        let mut rng = eas_tensor::rng::SplitMix64::new(2);
        let values: Vec<f32> = (0..64 * 128).map(|_| rng.normal() as f32).collect();
        Tensor::from_vec(values, (64, 128), &Device::Cpu).unwrap()
    }

    fn nt_xent(x: &Tensor) -> Result<Tensor, NnError> {
        Ok(NtXent { temperature: 0.5, layout: PairLayout::Halves }.forward(x)?.loss)
    }

    /// Gradients, peak and work of a run in `segments`, 0 for the plain one.
    fn run(residuals: &[Residual], params: &Parameters, segments: usize) -> (Gradients, Tensor, usize, usize) {
        let closures: Vec<_> = residuals
            .iter()
            .map(|block| move |x: &Tensor, mode: Mode, meter: &ActivationMeter| block.forward(x, mode, meter))
            .collect();
        let blocks: Vec<&Block<'_>> = closures.iter().map(|block| block as &Block<'_>).collect();
        let (meter, mode) = (ActivationMeter::new(), Mode::train(3, 4));
        let done = if segments == 0 {
            Segmented::plain(&blocks, &batch(), mode, &meter, nt_xent)
        } else {
            Segmented::new(segments).unwrap().run(&blocks, &batch(), mode, &meter, nt_xent)
        };
        let done = done.unwrap();
        assert_eq!(meter.held.get(), 0);
        let gradients = Gradients::from_store(&done.gradients, params);
        (gradients, done.by_input.unwrap(), meter.peak(), meter.work())
    }

    fn flat(x: &Tensor) -> Vec<f32> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn every_segmentation_has_the_same_gradient_with_and_without_dropout() {
        for dropout in [0.0, 0.2] {
            let (residuals, params) = model(8, dropout);
            let (plain, by_input, ..) = run(&residuals, &params, 0);
            for segments in [1, 2, 3, 4, 8, 20] {
                let (ours, our_input, ..) = run(&residuals, &params, segments);
                for ((name, ours), (_, theirs)) in ours.iter().zip(plain.iter()) {
                    for (a, b) in flat(ours.unwrap()).into_iter().zip(flat(theirs.unwrap())) {
                        assert!((a - b).abs() < 1e-6, "{name}: {a} {b}");
                    }
                }
                for (a, b) in flat(&our_input).into_iter().zip(flat(&by_input)) {
                    assert!((a - b).abs() < 1e-6);
                }
            }
        }
    }

    #[test]
    fn the_peaks_and_the_work_of_listing_5_20() {
        let (residuals, params) = model(8, 0.0);
        let (_, _, plain, work) = run(&residuals, &params, 0);
        assert_eq!(plain, 64 * (8 * 1152 + 128));
        let (_, _, eight, again) = run(&residuals, &params, 8);
        assert_eq!(eight, 64 * (8 * 128 + 1152 + 128));
        assert_eq!((plain, eight), (598_016, 147_456));
        assert_eq!(3 * again, 4 * work, "one more forward pass, a backward pass being two");
        for segments in [1, 2, 4] {
            let longest = 8 / segments;
            let (_, _, peak, _) = run(&residuals, &params, segments);
            assert_eq!(peak, 64 * (segments * 128 + longest * 1152 + 128));
        }
    }

    #[test]
    fn running_statistics_take_in_a_batch_once() {
        let statistics = |segments| {
            let mut params = Parameters::new(1, &Device::Cpu);
            let norm = BatchNorm1d::new(&mut params, "norm", 128).unwrap();
            let block = |x: &Tensor, mode: Mode, _: &ActivationMeter| norm.forward(x, mode);
            let blocks: [&Block<'_>; 1] = [&block];
            let (meter, mode) = (ActivationMeter::new(), Mode::train(1, 0));
            if segments == 0 {
                Segmented::plain(&blocks, &batch(), mode, &meter, nt_xent).unwrap();
            } else {
                Segmented::new(segments).unwrap().run(&blocks, &batch(), mode, &meter, nt_xent).unwrap();
            }
            norm.statistics().unwrap()
        };
        assert_eq!(statistics(0), statistics(1));
    }

    #[test]
    fn integers_may_come_in_first_and_nothing_is_refused() {
        let mut params = Parameters::new(1, &Device::Cpu);
        let table = params.normal("table", &[10, 4], 1.0).unwrap();
        let block = |x: &Tensor, _: Mode, _: &ActivationMeter| Ok(table.index_select(x, 0)?);
        let double = |x: &Tensor, _: Mode, _: &ActivationMeter| Ok((x * 2.0)?);
        let blocks: [&Block<'_>; 2] = [&block, &double];
        let ids = Tensor::new(&[1u32, 3, 3], &Device::Cpu).unwrap();
        let done = Segmented::new(2)
            .unwrap()
            .run(&blocks, &ids, Mode::EVAL, &ActivationMeter::new(), |x| Ok(x.sum_all()?))
            .unwrap();
        assert!(done.by_input.is_none());
        let gradient = done.gradients.get(&table).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!((gradient[1][0], gradient[3][0], gradient[0][0]), (2.0, 4.0, 0.0));
        assert!(Segmented::new(0).is_err());
        let constant = |_: &Tensor| Ok(Tensor::new(1f32, &Device::Cpu)?);
        assert!(Segmented::new(1).unwrap().run(&blocks, &ids, Mode::EVAL, &ActivationMeter::new(), constant).is_err());
    }
}
