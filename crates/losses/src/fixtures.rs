//! Three tiny data sets, exact in f32, on which the losses, miners and samplers of this workspace have known values.

use candle_core::{DType, Device, Tensor};

use crate::LossError;

/// Fixture T: four anchors.
pub const ANCHORS: [[f32; 3]; 4] = [[1.0, 0.5, -0.25], [-0.5, 1.0, 0.75], [0.25, -1.0, 0.5], [0.75, 0.25, 1.0]];
/// Fixture T: the positive of each anchor.
pub const POSITIVES: [[f32; 3]; 4] = [[0.75, 0.5, 0.0], [-0.25, 0.75, 1.0], [0.5, -0.75, 0.25], [1.0, -0.25, 0.75]];
/// Fixture T: two negatives of each anchor.
pub const NEGATIVES: [[[f32; 3]; 2]; 4] = [
    [[0.5, 1.0, 0.25], [-1.0, 0.25, 0.5]],
    [[-0.75, 0.25, -0.5], [0.75, 0.5, 1.0]],
    [[1.0, 0.75, -0.5], [-0.25, -0.5, 1.0]],
    [[0.25, 0.5, 0.75], [-0.5, -1.0, 0.25]],
];
/// Fixture L: eight labelled points of the plane; all 28 distances differ, Euclidean and cosine.
pub const LABELLED: [[f32; 2]; 8] = [
    [1.125, 0.625],
    [2.25, 0.375],
    [0.875, 1.125],
    [3.125, 0.875],
    [3.875, 1.875],
    [2.75, 2.625],
    [0.25, 3.375],
    [1.875, 3.875],
];
/// Fixture L: the class of each point.
pub const LABELS: [u32; 8] = [0, 0, 0, 1, 1, 1, 2, 2];
/// Fixture S: eight points of the plane for samplers.
pub const PLANE: [[f32; 2]; 8] =
    [[1.0, 0.0], [0.98, 0.2], [0.0, 1.0], [-0.2, 0.98], [-1.0, 0.1], [0.1, -1.0], [0.7, 0.7], [-0.7, -0.7]];

/// Fixture T as tensors: anchors `(4, 3)`, positives `(4, 3)`, negatives `(4, 2, 3)`.
#[derive(Debug, Clone)]
pub struct Tiny {
    /// Anchors.
    pub anchors: Tensor,
    /// Positives.
    pub positives: Tensor,
    /// Two negatives an anchor.
    pub negatives: Tensor,
}

impl Tiny {
    /// The first negative of each anchor, shape `(4, 3)`.
    pub fn first_negatives(&self) -> Result<Tensor, LossError> {
        Ok(self.negatives.narrow(1, 0, 1)?.squeeze(1)?)
    }
}

/// Fixture T in the given floating-point type.
pub fn tiny(dtype: DType, device: &Device) -> Result<Tiny, LossError> {
    Ok(Tiny {
        anchors: Tensor::new(&ANCHORS, device)?.to_dtype(dtype)?,
        positives: Tensor::new(&POSITIVES, device)?.to_dtype(dtype)?,
        negatives: Tensor::new(&NEGATIVES, device)?.to_dtype(dtype)?,
    })
}

/// Fixture L: points `(8, 2)` in the given floating-point type, and their labels.
pub fn labelled(dtype: DType, device: &Device) -> Result<(Tensor, &'static [u32]), LossError> {
    Ok((Tensor::new(&LABELLED, device)?.to_dtype(dtype)?, &LABELS))
}
