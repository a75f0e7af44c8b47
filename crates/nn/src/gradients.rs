//! The gradient of a loss by the tensors of a model, as one object that can be added, scaled, measured and clipped.

use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor};

use crate::NnError;
use crate::params::Parameters;

/// One tensor a parameter, in the order and of the shapes of [`Parameters`]; `None` where the loss doesn't depend on it.
#[derive(Debug, Clone)]
pub struct Gradients {
    entries: Vec<(String, Option<Tensor>)>,
}

impl Gradients {
    /// The gradient of `loss`, a scalar.
    pub fn of(loss: &Tensor, params: &Parameters) -> Result<Self, NnError> {
        Ok(Self::from_store(&loss.backward()?, params))
    }

    /// What candle, `GradCache` or [`Segmented`](crate::checkpoint::Segmented) computed for these parameters.
    pub fn from_store(store: &GradStore, params: &Parameters) -> Self {
        let entries = params.named().map(|(name, var)| (name.to_owned(), store.get(var).cloned())).collect();
        Self { entries }
    }

    /// No gradient yet.
    pub fn none(params: &Parameters) -> Self {
        Self { entries: params.named().map(|(name, _)| (name.to_owned(), None)).collect() }
    }

    /// Names and gradients, in the order of the parameters.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&Tensor>)> {
        self.entries.iter().map(|(name, gradient)| (name.as_str(), gradient.as_ref()))
    }

    /// Names and gradients, to replace: what an all-reduce between workers needs.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut Option<Tensor>)> {
        self.entries.iter_mut().map(|(name, gradient)| (name.as_str(), gradient))
    }

    /// The gradient by the parameter of this name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.entries.iter().find(|(own, _)| own == name)?.1.as_ref()
    }

    /// Multiplies every value.
    pub fn scale(&mut self, factor: f64) -> Result<(), NnError> {
        for gradient in self.entries.iter_mut().filter_map(|(_, gradient)| gradient.as_mut()) {
            *gradient = (&*gradient * factor)?;
        }
        Ok(())
    }

    /// Adds `weight` times the gradient of the same model over other examples.
    pub fn add(&mut self, other: &Self, weight: f64) -> Result<(), NnError> {
        if self.entries.len() != other.entries.len() {
            return Err(NnError::Argument {
                name: "gradients to add",
                got: format!("{} tensors", other.entries.len()),
                expected: format!("{} tensors", self.entries.len()),
            });
        }
        for ((name, sum), (theirs, part)) in self.entries.iter_mut().zip(&other.entries) {
            if name != theirs {
                return Err(NnError::Parameter(theirs.clone()));
            }
            let Some(part) = part else { continue };
            let part = (part * weight)?;
            *sum = Some(match sum {
                None => part,
                Some(sum) => (&*sum + part)?,
            });
        }
        Ok(())
    }

    /// The Euclidean length of all values together, summed in f64.
    pub fn norm(&self) -> Result<f64, NnError> {
        let mut total = 0.0;
        for gradient in self.entries.iter().filter_map(|(_, gradient)| gradient.as_ref()) {
            total += sum_of_squares(gradient)?;
        }
        Ok(total.sqrt())
    }

    /// Scales all values so that their [`norm`](Self::norm) is at most `largest` (Pascanu et al. 2013), and returns what it was.
    ///
    /// A norm that isn't finite clips nothing: see [`first_not_finite`](Self::first_not_finite).
    pub fn clip(&mut self, largest: f64) -> Result<f64, NnError> {
        if largest.is_nan() || largest <= 0.0 {
            return Err(NnError::Argument {
                name: "largest gradient norm",
                got: largest.to_string(),
                expected: "positive".to_owned(),
            });
        }
        let norm = self.norm()?;
        if norm.is_finite() && norm > largest {
            self.scale(largest / norm)?;
        }
        Ok(norm)
    }

    /// The cosine of two gradients of one model; 0 when one of them is zero.
    pub fn cosine(&self, other: &Self) -> Result<f64, NnError> {
        let mut product = 0.0;
        for (a, b) in self.entries.iter().zip(&other.entries) {
            if let (Some(a), Some(b)) = (&a.1, &b.1) {
                product += (a * b)?.to_dtype(DType::F64)?.sum_all()?.to_scalar::<f64>()?;
            }
        }
        let lengths = self.norm()? * other.norm()?;
        Ok(if lengths > 0.0 { product / lengths } else { 0.0 })
    }

    /// The first parameter, by order, whose gradient holds a NaN or an infinity, and that value.
    pub fn first_not_finite(&self) -> Result<Option<(String, f64)>, NnError> {
        for (name, gradient) in &self.entries {
            let Some(gradient) = gradient else { continue };
            if let Some(value) = not_finite(gradient)? {
                return Ok(Some((name.clone(), value)));
            }
        }
        Ok(None)
    }
}

/// The first value of a tensor that isn't finite.
pub(crate) fn not_finite(x: &Tensor) -> Result<Option<f64>, NnError> {
    // One sum tells the usual case: it is finite only if every value is, but for an overflow that the search then clears up.
    if sum_of_squares(x)?.is_finite() {
        return Ok(None);
    }
    let values = x.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
    Ok(values.into_iter().find(|value| !value.is_finite()))
}

fn sum_of_squares(x: &Tensor) -> Result<f64, NnError> {
    use candle_core::{CpuStorage, Storage};

    let (storage, layout) = x.storage_and_layout();
    if let (Storage::Cpu(CpuStorage::F32(values)), Some((from, to))) = (&*storage, layout.contiguous_offsets()) {
        // Sixteen sums side by side: short enough a chain for f64, and the compiler turns them into vector code.
        let (chunks, rest) = values[from..to].as_chunks::<16>();
        let mut lanes = [0.0f64; 16];
        for chunk in chunks {
            for (lane, &x) in lanes.iter_mut().zip(chunk) {
                *lane += f64::from(x) * f64::from(x);
            }
        }
        return Ok(lanes.iter().sum::<f64>() + rest.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>());
    }
    drop(storage);
    Ok(x.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    /// Gradients (3, 4) and (12,) of two parameters; a third that the loss doesn't know.
    fn example() -> (Parameters, Gradients) {
        let mut params = Parameters::new(1, &Device::Cpu);
        let a = params.constant("a", &[2], 1.0).unwrap();
        let b = params.constant("b", &[1], 1.0).unwrap();
        params.constant("unused", &[5], 1.0).unwrap();
        let factors = Tensor::new(&[3.0f32, 4.0], &Device::Cpu).unwrap();
        let loss =
            ((a.as_tensor() * factors).unwrap().sum_all().unwrap() + (b.sum_all().unwrap() * 12.0).unwrap()).unwrap();
        let gradients = Gradients::of(&loss, &params).unwrap();
        (params, gradients)
    }

    fn values(gradients: &Gradients, name: &str) -> Vec<f32> {
        gradients.get(name).unwrap().to_vec1().unwrap()
    }

    #[test]
    fn the_norm_is_taken_over_all_tensors_and_clipping_scales_them_alike() {
        let (_, mut gradients) = example();
        assert_eq!(gradients.norm().unwrap(), 13.0);
        assert_eq!(gradients.clip(20.0).unwrap(), 13.0);
        assert_eq!(values(&gradients, "b"), [12.0]);
        assert_eq!(gradients.clip(6.5).unwrap(), 13.0);
        assert_eq!(values(&gradients, "a"), [1.5, 2.0]);
        assert_eq!(values(&gradients, "b"), [6.0]);
        assert!(gradients.get("unused").is_none());
        assert!(gradients.clip(0.0).is_err() && gradients.clip(f64::NAN).is_err());
    }

    #[test]
    fn weighted_sums_and_cosines() {
        let (params, gradients) = example();
        let mut sum = Gradients::none(&params);
        sum.add(&gradients, 0.25).unwrap();
        sum.add(&gradients, 0.25).unwrap();
        assert_eq!(values(&sum, "a"), [1.5, 2.0]);
        assert!((sum.cosine(&gradients).unwrap() - 1.0).abs() < 1e-12);
        assert_eq!(Gradients::none(&params).cosine(&gradients).unwrap(), 0.0);
        let stranger = Gradients::none(&Parameters::new(1, &Device::Cpu));
        assert!(sum.add(&stranger, 1.0).is_err());
    }

    #[test]
    fn what_is_not_finite_is_named() {
        let (_, mut gradients) = example();
        assert_eq!(gradients.first_not_finite().unwrap(), None);
        for (name, gradient) in gradients.iter_mut() {
            if name == "b" {
                *gradient = Some(Tensor::new(&[f32::INFINITY], &Device::Cpu).unwrap());
            }
        }
        assert_eq!(gradients.first_not_finite().unwrap(), Some(("b".to_owned(), f64::INFINITY)));
        let large = Tensor::new(&[3e38f32, 3e38], &Device::Cpu).unwrap();
        assert_eq!(not_finite(&large).unwrap(), None);
    }
}
