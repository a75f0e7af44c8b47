//! What goes around an objective: nested dimensions, and batches larger than memory.

use candle_core::backprop::GradStore;
use candle_core::{D, DType, Tensor, Var};

use crate::{LossError, not_negative};

/// Matryoshka representation learning (Kusupati et al. 2022): a loss applied to several prefixes of the same embeddings, so that a
/// vector can be cut after training.
///
/// ```
/// use candle_core::{DType, Device};
/// use eas_losses::{InfoNce, Negatives, fixtures, wrapper::Matryoshka};
///
/// let t = fixtures::tiny(DType::F64, &Device::Cpu)?;
/// let nested = Matryoshka::new(&[2, 3], &[1.0, 1.0])?;
/// let loss = nested.forward(&[&t.anchors, &t.positives], |views| {
///     Ok(InfoNce::new(0.1).forward(&views[0], &views[1], Negatives::InBatch)?.loss)
/// })?;
/// assert!(loss.to_scalar::<f64>()? > 0.0411822892);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Matryoshka {
    dims: Vec<usize>,
    weights: Vec<f64>,
}

impl Matryoshka {
    /// Prefixes of `dims` values, each loss with its weight.
    pub fn new(dims: &[usize], weights: &[f64]) -> Result<Self, LossError> {
        crate::one_a_row("weights (one a prefix)", weights.len(), dims.len())?;
        if dims.is_empty() || dims.contains(&0) {
            return Err(LossError::Name(format!("prefixes must be one or more lengths of at least 1, got {dims:?}")));
        }
        for &weight in weights {
            not_negative("weight", weight)?;
        }
        Ok(Self { dims: dims.to_vec(), weights: weights.to_vec() })
    }

    /// The weighted sum of `loss` over the prefixes of `embeddings`, each `(..., dim)`.
    pub fn forward(
        &self,
        embeddings: &[&Tensor],
        loss: impl Fn(&[Tensor]) -> Result<Tensor, LossError>,
    ) -> Result<Tensor, LossError> {
        let mut total: Option<Tensor> = None;
        for (&dim, &weight) in self.dims.iter().zip(&self.weights) {
            let prefixes = embeddings
                .iter()
                .map(|x| {
                    let width = x.dim(D::Minus1)?;
                    if dim > width {
                        return Err(LossError::OutOfRange { what: "prefix", row: 0, got: dim, limit: width });
                    }
                    Ok(x.narrow(D::Minus1, 0, dim)?.contiguous()?)
                })
                .collect::<Result<Vec<_>, LossError>>()?;
            let part = (loss(&prefixes)? * weight)?;
            total = Some(match total {
                None => part,
                Some(sum) => (sum + part)?,
            });
        }
        total.ok_or_else(|| LossError::Empty(vec![0]))
    }
}

/// The gradient of `sum(output * upstream)`: what `upstream`, a gradient by `output`, means for everything below.
///
/// Cached gradients, a differentiable gather between ranks and checkpoints are all this one step.
pub fn backward_with(output: &Tensor, upstream: &Tensor) -> Result<GradStore, LossError> {
    Ok((output * upstream.detach())?.sum_all()?.backward()?)
}

/// The exact gradient of a loss over a large batch with the activations of a small one (GradCache, Gao et al. 2021).
///
/// First every chunk is encoded without keeping its graph; then the loss of all embeddings gives the gradient by each embedding; then
/// each chunk is encoded again and that gradient is sent through it. An encoder that draws random numbers must draw the same ones in
/// both passes.
#[derive(Debug, Clone, Copy)]
pub struct GradCache;

impl GradCache {
    /// The loss, and its gradient by everything that `encode` depends on.
    ///
    /// `inputs` are the inputs of each tower (one for SimCLR, two for query and document), each cut into chunks;
    /// `encode(tower, chunk)` embeds one chunk, `(rows, dim)`; `loss` gets one tensor a tower with all its rows.
    pub fn step<I, E: From<LossError> + From<candle_core::Error>>(
        inputs: &[Vec<I>],
        mut encode: impl FnMut(usize, &I) -> Result<Tensor, E>,
        loss: impl FnOnce(&[Tensor]) -> Result<Tensor, E>,
    ) -> Result<(f64, GradStore), E> {
        let mut leaves = Vec::with_capacity(inputs.len());
        let mut sizes = Vec::with_capacity(inputs.len());
        for (tower, chunks) in inputs.iter().enumerate() {
            if chunks.is_empty() {
                return Err(LossError::Empty(vec![tower, 0]).into());
            }
            let mut encoded = Vec::with_capacity(chunks.len());
            for chunk in chunks {
                encoded.push(encode(tower, chunk)?.detach());
            }
            sizes.push(encoded.iter().map(|e| e.dim(0)).collect::<Result<Vec<_>, _>>()?);
            leaves.push(Var::from_tensor(&Tensor::cat(&encoded, 0)?)?);
        }
        let embeddings: Vec<Tensor> = leaves.iter().map(|leaf| leaf.as_tensor().clone()).collect();
        let value = loss(&embeddings)?;
        let cached = value.backward()?;
        let mut total: Option<GradStore> = None;
        for (tower, chunks) in inputs.iter().enumerate() {
            let Some(gradient) = cached.get(&leaves[tower]) else {
                continue;
            };
            let mut from = 0;
            for (chunk, &rows) in chunks.iter().zip(&sizes[tower]) {
                let part = backward_with(&encode(tower, chunk)?, &gradient.narrow(0, from, rows)?)?;
                from += rows;
                match &mut total {
                    None => total = Some(part),
                    Some(sum) => sum.extend(part)?,
                }
            }
        }
        let total = total.ok_or_else(|| LossError::Name("the loss depends on no embedding".to_owned()))?;
        Ok((value.to_dtype(DType::F64)?.to_scalar()?, total))
    }
}
