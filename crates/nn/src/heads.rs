//! Projection heads: the small network between a representation and the space in which a contrastive loss compares.

use candle_core::Tensor;

use crate::layers::Linear;
use crate::norm::BatchNorm1d;
use crate::params::Parameters;
use crate::{Mode, NnError};

/// Linear, batch normalisation if wanted, ReLU, linear (SimCLR's head, Chen et al. 2020). It is used in training only: the
/// representation that goes in is the better embedding.
#[derive(Debug, Clone)]
pub struct ProjectionHead {
    hidden: Linear,
    norm: Option<BatchNorm1d>,
    out: Linear,
}

impl ProjectionHead {
    /// From `inputs` values through `hidden` to `outputs`, without normalisation.
    pub fn new(
        params: &mut Parameters,
        name: &str,
        inputs: usize,
        hidden: usize,
        outputs: usize,
    ) -> Result<Self, NnError> {
        Ok(Self {
            hidden: Linear::new(params, &format!("{name}.hidden"), inputs, hidden)?,
            norm: None,
            out: Linear::new(params, &format!("{name}.out"), hidden, outputs)?,
        })
    }

    /// The same with batch normalisation before the ReLU.
    pub fn with_batch_norm(
        params: &mut Parameters,
        name: &str,
        inputs: usize,
        hidden: usize,
        outputs: usize,
    ) -> Result<Self, NnError> {
        let mut head = Self::new(params, name, inputs, hidden, outputs)?;
        head.norm = Some(BatchNorm1d::new(params, &format!("{name}.norm"), hidden)?);
        Ok(head)
    }

    /// Width of the output.
    pub fn outputs(&self) -> usize {
        self.out.outputs()
    }

    /// `(batch, inputs)` to `(batch, outputs)`, of any length.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor, NnError> {
        let mut hidden = self.hidden.forward_in(x, mode)?;
        if let Some(norm) = &self.norm {
            hidden = norm.forward(&hidden, mode)?;
        }
        self.out.forward_in(&hidden.relu()?, mode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn the_head_is_what_it_says_and_has_the_stated_size() {
        let mut params = Parameters::new(1, &Device::Cpu);
        let head = ProjectionHead::new(&mut params, "head", 3, 5, 2).unwrap();
        assert_eq!((params.count(), head.outputs()), (3 * 5 + 5 + 5 * 2 + 2, 2));
        let x = Tensor::new(&[[1.0f32, -2.0, 0.5], [0.0, 0.0, 0.0]], &Device::Cpu).unwrap();
        let by_hand = head.out.forward(&head.hidden.forward(&x).unwrap().relu().unwrap()).unwrap();
        let out = head.forward(&x, Mode::EVAL).unwrap();
        assert_eq!(out.to_vec2::<f32>().unwrap(), by_hand.to_vec2::<f32>().unwrap());

        let mut params = Parameters::new(1, &Device::Cpu);
        ProjectionHead::with_batch_norm(&mut params, "head", 512, 512, 512).unwrap();
        assert_eq!(params.count(), 526_336, "the head of listing 6.3");
    }

    #[test]
    fn batch_statistics_count_in_training_only() {
        let mut params = Parameters::new(1, &Device::Cpu);
        let head = ProjectionHead::with_batch_norm(&mut params, "head", 3, 5, 2).unwrap();
        let x = Tensor::new(&[[1.0f32, -2.0, 0.5], [0.3, 0.1, 0.9]], &Device::Cpu).unwrap();
        let row = |mode, rows: &Tensor| head.forward(rows, mode).unwrap().to_vec2::<f32>().unwrap()[0].clone();
        assert_eq!(row(Mode::EVAL, &x), row(Mode::EVAL, &x.narrow(0, 0, 1).unwrap()));
        assert_ne!(row(Mode::EVAL, &x), row(Mode::train(1, 0).replayed(), &x));
    }
}
