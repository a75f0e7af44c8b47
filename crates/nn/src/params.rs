//! Named trainable tensors, drawn from a seeded stream and saved as safetensors.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor, Var};
use eas_tensor::rng::SplitMix64;

use crate::NnError;

/// The trainable tensors of one model, by name, in the order in which they were made, and its buffers: tensors that are saved with
/// them but not trained, such as running statistics.
///
/// Candle's CPU generator can't be seeded, so initial values come from [`SplitMix64`] and enter through `Var::from_vec`: equal
/// seeds give equal weights, whatever else ran before.
#[derive(Debug, Clone)]
pub struct Parameters {
    vars: Vec<(String, Var)>,
    buffers: Vec<(String, Var)>,
    rng: SplitMix64,
    device: Device,
}

impl Parameters {
    /// An empty set whose initial values come from `seed`.
    pub fn new(seed: u64, device: &Device) -> Self {
        Self { vars: Vec::new(), buffers: Vec::new(), rng: SplitMix64::new(seed), device: device.clone() }
    }

    /// Where the tensors live.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// A tensor of values uniform in `[-bound, bound)`.
    pub fn uniform(&mut self, name: &str, shape: &[usize], bound: f64) -> Result<Var, NnError> {
        let rng = &mut self.rng;
        let values = (0..shape.iter().product()).map(|_| ((2.0 * rng.uniform() - 1.0) * bound) as f32).collect();
        self.register(name, shape, values)
    }

    /// A tensor of normal values with mean 0 and the given standard deviation.
    pub fn normal(&mut self, name: &str, shape: &[usize], deviation: f64) -> Result<Var, NnError> {
        let rng = &mut self.rng;
        let values = (0..shape.iter().product()).map(|_| (rng.normal() * deviation) as f32).collect();
        self.register(name, shape, values)
    }

    /// A tensor of equal values.
    pub fn constant(&mut self, name: &str, shape: &[usize], value: f32) -> Result<Var, NnError> {
        self.register(name, shape, vec![value; shape.iter().product()])
    }

    /// A tensor that starts at the given values.
    pub fn adopt(&mut self, name: &str, values: &Tensor) -> Result<Var, NnError> {
        self.claim_name(name)?;
        let var = Var::from_tensor(&values.to_device(&self.device)?)?;
        self.vars.push((name.to_owned(), var.clone()));
        Ok(var)
    }

    /// A tensor of equal values that belongs to the model's state but isn't trained.
    pub fn buffer(&mut self, name: &str, shape: &[usize], value: f32) -> Result<Var, NnError> {
        self.claim_name(name)?;
        let var = Var::from_vec(vec![value; shape.iter().product()], shape, &self.device)?;
        self.buffers.push((name.to_owned(), var.clone()));
        Ok(var)
    }

    fn register(&mut self, name: &str, shape: &[usize], values: Vec<f32>) -> Result<Var, NnError> {
        self.claim_name(name)?;
        let var = Var::from_vec(values, shape, &self.device)?;
        self.vars.push((name.to_owned(), var.clone()));
        Ok(var)
    }

    fn claim_name(&self, name: &str) -> Result<(), NnError> {
        if self.state().any(|(taken, _)| taken == name) {
            return Err(NnError::Parameter(name.to_owned()));
        }
        Ok(())
    }

    /// All tensors, for an optimizer.
    pub fn vars(&self) -> Vec<Var> {
        self.vars.iter().map(|(_, var)| var.clone()).collect()
    }

    /// The trained tensors with their names, in order.
    pub fn named(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.vars.iter().map(|(name, var)| (name.as_str(), var))
    }

    /// The buffers with their names, in order.
    pub fn buffers(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.buffers.iter().map(|(name, var)| (name.as_str(), var))
    }

    /// Trained tensors, then buffers: all that a saved model holds.
    pub fn state(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.named().chain(self.buffers())
    }

    /// How many numbers are trained.
    pub fn count(&self) -> usize {
        self.vars.iter().map(|(_, var)| var.elem_count()).sum()
    }

    /// A copy of the present values, by name.
    pub fn snapshot(&self) -> Result<BTreeMap<String, Tensor>, NnError> {
        self.state().map(|(name, var)| Ok((name.to_owned(), var.as_tensor().copy()?))).collect()
    }

    /// Sets every tensor to the value of its name; names and shapes must be those of the model.
    pub fn restore(&self, values: &BTreeMap<String, Tensor>) -> Result<(), NnError> {
        if let Some(stranger) = values.keys().find(|name| self.state().all(|(own, _)| own != *name)) {
            return Err(NnError::Parameter(stranger.clone()));
        }
        // Everything is checked before anything is changed.
        for (name, var) in self.state() {
            let value = values.get(name).ok_or_else(|| NnError::Parameter(name.to_owned()))?;
            if value.dims() != var.dims() {
                return Err(NnError::Shape {
                    what: name.to_owned(),
                    expected: format!("{:?}", var.dims()),
                    got: value.dims().to_vec(),
                });
            }
        }
        for (name, var) in self.state() {
            var.set(&values[name].copy()?)?;
        }
        Ok(())
    }

    /// Writes all tensors to a safetensors file.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), NnError> {
        let path = path.as_ref();
        safetensors::serialize_to_file(self.snapshot()?, None, path).map_err(|error| weights_error(path, error))
    }

    /// Reads all tensors from a safetensors file that a model of the same shape wrote.
    pub fn load(&self, path: impl AsRef<Path>) -> Result<(), NnError> {
        let path = path.as_ref();
        let values = candle_core::safetensors::load(path, &self.device).map_err(|error| weights_error(path, error))?;
        self.restore(&values.into_iter().collect())
    }
}

pub(crate) fn weights_error(path: &Path, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> NnError {
    NnError::Weights { path: path.display().to_string(), source: source.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(seed: u64) -> Parameters {
        let mut params = Parameters::new(seed, &Device::Cpu);
        params.uniform("weight", &[3, 4], 0.5).unwrap();
        params.normal("table", &[5, 2], 2.0).unwrap();
        params
    }

    fn values(params: &Parameters) -> Vec<f32> {
        params.vars().iter().flat_map(|var| var.flatten_all().unwrap().to_vec1::<f32>().unwrap()).collect()
    }

    #[test]
    fn the_seed_decides_the_weights() {
        assert_eq!(values(&model(1)), values(&model(1)));
        assert_ne!(values(&model(1)), values(&model(2)));
        assert_eq!(model(1).count(), 22);
        assert!(values(&model(1))[..12].iter().all(|w| w.abs() <= 0.5));
    }

    #[test]
    fn weights_survive_a_file_and_a_snapshot_is_a_copy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let (saved, other) = (model(1), model(2));
        saved.save(&path).unwrap();
        other.load(&path).unwrap();
        assert_eq!(values(&saved), values(&other));

        let before = saved.snapshot().unwrap();
        let var = &saved.vars()[0];
        var.set(&var.zeros_like().unwrap()).unwrap();
        assert_ne!(values(&saved), values(&other));
        saved.restore(&before).unwrap();
        assert_eq!(values(&saved), values(&other));
    }

    #[test]
    fn foreign_or_damaged_weights_change_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let params = model(1);
        let before = values(&params);

        let mut wrong_shape = params.snapshot().unwrap();
        let zeros = Tensor::zeros((3, 5), candle_core::DType::F32, &Device::Cpu).unwrap();
        wrong_shape.insert("weight".to_owned(), zeros.clone());
        assert!(matches!(params.restore(&wrong_shape), Err(NnError::Shape { .. })));
        let mut missing = params.snapshot().unwrap();
        missing.remove("table");
        assert!(matches!(params.restore(&missing), Err(NnError::Parameter(name)) if name == "table"));
        let mut stranger = params.snapshot().unwrap();
        stranger.insert("bias".to_owned(), zeros);
        assert!(matches!(params.restore(&stranger), Err(NnError::Parameter(name)) if name == "bias"));

        params.save(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 5]).unwrap();
        let message = params.load(&path).unwrap_err().to_string();
        assert!(message.contains("model.safetensors"), "{message}");
        assert!(params.load(folder.path().join("absent")).is_err());
        assert_eq!(values(&params), before);
    }

    #[test]
    fn a_name_is_given_once() {
        let mut params = model(1);
        assert!(matches!(params.uniform("weight", &[1], 1.0), Err(NnError::Parameter(_))));
    }
}
