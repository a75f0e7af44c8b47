//! The same weights and the same gradient on every rank.

use candle_core::{DType, Tensor};

use super::ProcessGroup;
use super::gather::backward_error;
use crate::NnError;
use crate::gradients::Gradients;
use crate::params::Parameters;

/// All numbers of a model, trained ones and buffers, one after the other.
pub fn flatten(params: &Parameters) -> Result<Vec<f32>, NnError> {
    let mut values = Vec::new();
    for (_, var) in params.state() {
        values.extend(var.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?);
    }
    Ok(values)
}

/// Sets all numbers of a model to what [`flatten`] gave for one of the same architecture.
pub fn unflatten(params: &Parameters, values: &[f32]) -> Result<(), NnError> {
    let count: usize = params.state().map(|(_, var)| var.elem_count()).sum();
    if values.len() != count {
        let (name, got, expected) = ("numbers of a model", values.len().to_string(), count.to_string());
        return Err(NnError::Argument { name, got, expected });
    }
    let mut rest = values;
    for (_, var) in params.state() {
        let (own, tail) = rest.split_at(var.elem_count());
        rest = tail;
        var.set(&Tensor::from_slice(own, var.shape(), var.device())?.to_dtype(var.dtype())?)?;
    }
    Ok(())
}

/// Gives every rank the model of rank `root`.
pub fn broadcast_parameters(group: &dyn ProcessGroup, params: &Parameters, root: usize) -> Result<(), NnError> {
    let mut values = flatten(params)?;
    group.broadcast(&mut values, root)?;
    unflatten(params, &values)
}

/// The mean over the ranks of the gradient of `loss`, in one message for all parameters; every rank gets the same bits.
///
/// The backward pass may communicate, as that of [`gather()`](super::gather::gather) does.
pub fn average_gradients(group: &dyn ProcessGroup, loss: &Tensor, params: &Parameters) -> Result<Gradients, NnError> {
    let store = loss.backward().map_err(backward_error)?;
    let mut gradients = Gradients::from_store(&store, params);
    let mut bucket = Vec::with_capacity(params.count());
    for ((_, gradient), (_, var)) in gradients.iter().zip(params.named()) {
        match gradient {
            Some(gradient) => bucket.extend(gradient.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?),
            // A rank whose loss doesn't depend on a parameter still counts.
            None => bucket.resize(bucket.len() + var.elem_count(), 0.0),
        }
    }
    group.all_reduce_sum(&mut bucket)?;
    let share = 1.0 / group.world_size() as f32;
    let mut rest = bucket.as_mut_slice();
    for ((_, gradient), (_, var)) in gradients.iter_mut().zip(params.named()) {
        let (own, tail) = rest.split_at_mut(var.elem_count());
        rest = tail;
        for value in own.iter_mut() {
            *value *= share;
        }
        *gradient = Some(Tensor::from_slice(own, var.shape(), var.device())?.to_dtype(var.dtype())?);
    }
    Ok(gradients)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dist::ThreadGroup;
    use candle_core::Device;

    fn model(seed: u64) -> Parameters {
        let mut params = Parameters::new(seed, &Device::Cpu);
        params.uniform("weight", &[2, 3], 1.0).unwrap();
        params.buffer("mean", &[2], seed as f32).unwrap();
        params.uniform("bias", &[2], 1.0).unwrap();
        params
    }

    #[test]
    fn all_ranks_start_with_the_model_of_one() {
        let models = ThreadGroup::run(3, |group| -> Result<Vec<f32>, NnError> {
            let params = model(group.rank() as u64);
            broadcast_parameters(&*group, &params, 2)?;
            flatten(&params)
        });
        assert_eq!(models.unwrap(), vec![flatten(&model(2)).unwrap(); 3]);
        assert!(unflatten(&model(1), &[0.0; 9]).is_err());
    }

    #[test]
    fn gradients_are_averaged_also_where_a_rank_has_none() {
        // Loss of rank r: (r + 1) sum(weight); rank 0 alone uses the bias.
        let gradients = ThreadGroup::run(3, |group| -> Result<_, NnError> {
            let params = model(1);
            let vars = params.vars();
            let mut loss = (vars[0].sum_all()? * (group.rank() + 1) as f64)?;
            if group.rank() == 0 {
                loss = (loss + vars[1].sum_all()?)?;
            }
            let mean = average_gradients(&*group, &loss, &params)?;
            let of = |name| mean.get(name).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            Ok((of("weight"), of("bias")))
        });
        for (weight, bias) in gradients.unwrap() {
            assert_eq!(weight, [2.0; 6]);
            assert_eq!(bias, [1.0 / 3.0; 2]);
        }
    }
}
