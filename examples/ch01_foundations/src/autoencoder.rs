//! A linear autoencoder with written-out gradients: the smallest encoder that can be frozen, retrained and fine-tuned.

use eas_pipeline::update::{UpdateError, VersionedEncoder};
use eas_tensor::rng::SplitMix64;
use eas_tensor::{Matrix, TensorError};

/// How long and how fast to train.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Training {
    /// Passes over the data.
    pub epochs: usize,
    /// Rows a step.
    pub batch: usize,
    /// Step size of Adam.
    pub learning_rate: f32,
    /// Seed of the shuffles.
    pub seed: u64,
}

/// `x -> D (E x + e) + d`: `inputs` values through `dim` and back, trained on the mean squared error of the reconstruction.
///
/// At the optimum the middle spans the leading principal components, in a basis that depends on where training began (Baldi and
/// Hornik 1989): two trainings agree on distances, not on coordinates.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearAutoencoder {
    /// `dim` rows of `inputs` weights and a bias each.
    encoder: Matrix,
    /// `inputs` rows of `dim` weights and a bias each.
    decoder: Matrix,
    version: String,
}

impl LinearAutoencoder {
    /// An untrained model; weights uniform in `+-1/sqrt(width of their input)`, drawn from `seed`.
    pub fn new(inputs: usize, dim: usize, seed: u64) -> Self {
        let mut rng = SplitMix64::new(seed);
        let mut layer = |outputs: usize, inputs: usize| {
            let bound = 1.0 / (inputs as f64).sqrt();
            let mut weights = Matrix::zeros(outputs, inputs + 1);
            for w in weights.as_mut_slice() {
                *w = ((2.0 * rng.uniform() - 1.0) * bound) as f32;
            }
            weights
        };
        Self { encoder: layer(dim, inputs), decoder: layer(inputs, dim), version: "untrained".to_owned() }
    }

    /// Trains on the rows of `data` from the present weights with Adam (Kingma and Ba 2015), and takes a new version name, since
    /// its vectors are no longer those of before. Returns the mean squared error of each epoch.
    pub fn fit(&mut self, data: &Matrix, training: &Training, version: &str) -> Result<Vec<f32>, TensorError> {
        self.check(data)?;
        version.clone_into(&mut self.version);
        let mut rng = SplitMix64::new(training.seed);
        let mut order: Vec<usize> = (0..data.rows()).collect();
        let (mut encoder_adam, mut decoder_adam) = (Adam::new(&self.encoder), Adam::new(&self.decoder));
        let mut history = Vec::with_capacity(training.epochs);
        for _ in 0..training.epochs {
            rng.shuffle(&mut order);
            let mut total = 0.0;
            for batch in order.chunks(training.batch.max(1)) {
                let (loss, encoder_gradient, decoder_gradient) = self.gradients(data, batch);
                encoder_adam.step(&mut self.encoder, &encoder_gradient, training.learning_rate);
                decoder_adam.step(&mut self.decoder, &decoder_gradient, training.learning_rate);
                total += loss * batch.len() as f32;
            }
            history.push(total / data.rows() as f32);
        }
        Ok(history)
    }

    /// The mean squared error of the rows `batch` of `data`, and its gradients for encoder and decoder.
    fn gradients(&self, data: &Matrix, batch: &[usize]) -> (f32, Matrix, Matrix) {
        let (inputs, dim) = (self.decoder.rows(), self.encoder.rows());
        let mut encoder_gradient = Matrix::zeros(dim, inputs + 1);
        let mut decoder_gradient = Matrix::zeros(inputs, dim + 1);
        let mut loss = 0.0;
        let scale = 1.0 / (batch.len() * inputs) as f32;
        for &i in batch {
            let x = data.row(i);
            let middle = affine(&self.encoder, x);
            let output = affine(&self.decoder, &middle);
            let mut middle_gradient = vec![0.0; dim];
            for (j, (out, target)) in output.iter().zip(x).enumerate() {
                let error = out - target;
                loss += error * error * scale;
                let slope = 2.0 * error * scale;
                add_scaled(decoder_gradient.row_mut(j), &middle, slope);
                for (gradient, weight) in middle_gradient.iter_mut().zip(self.decoder.row(j)) {
                    *gradient += slope * weight;
                }
            }
            for (k, &slope) in middle_gradient.iter().enumerate() {
                add_scaled(encoder_gradient.row_mut(k), x, slope);
            }
        }
        (loss, encoder_gradient, decoder_gradient)
    }

    fn check(&self, data: &Matrix) -> Result<(), TensorError> {
        if data.dim() != self.decoder.rows() {
            return Err(TensorError::Dimension { expected: self.decoder.rows(), got: data.dim() });
        }
        data.check_finite()
    }
}

impl VersionedEncoder for LinearAutoencoder {
    fn version(&self) -> &str {
        &self.version
    }

    fn encode(&self, items: &Matrix) -> Result<Matrix, UpdateError> {
        self.check(items)?;
        let mut vectors = Matrix::zeros(items.rows(), self.encoder.rows());
        for (i, row) in items.iter_rows().enumerate() {
            vectors.row_mut(i).copy_from_slice(&affine(&self.encoder, row));
        }
        Ok(vectors)
    }
}

/// Weights times `x` plus the bias, which is the last column.
fn affine(weights: &Matrix, x: &[f32]) -> Vec<f32> {
    weights.iter_rows().map(|row| row[x.len()] + row.iter().zip(x).map(|(w, x)| w * x).sum::<f32>()).collect()
}

/// Adds `slope` times `(x, 1)`.
fn add_scaled(row: &mut [f32], x: &[f32], slope: f32) {
    row[x.len()] += slope;
    for (gradient, x) in row.iter_mut().zip(x) {
        *gradient += slope * x;
    }
}

/// Running means of the gradients and of their squares.
struct Adam {
    mean: Matrix,
    square: Matrix,
    steps: i32,
}

impl Adam {
    fn new(weights: &Matrix) -> Self {
        let zeros = Matrix::zeros(weights.rows(), weights.dim());
        Self { mean: zeros.clone(), square: zeros, steps: 0 }
    }

    fn step(&mut self, weights: &mut Matrix, gradient: &Matrix, learning_rate: f32) {
        const BETA1: f32 = 0.9;
        const BETA2: f32 = 0.999;
        self.steps += 1;
        // Both means start at zero; dividing by these undoes the bias that this gives the first steps.
        let (started1, started2) = (1.0 - BETA1.powi(self.steps), 1.0 - BETA2.powi(self.steps));
        let moments = self.mean.as_mut_slice().iter_mut().zip(self.square.as_mut_slice());
        for ((w, g), (mean, square)) in weights.as_mut_slice().iter_mut().zip(gradient.as_slice()).zip(moments) {
            *mean = BETA1 * *mean + (1.0 - BETA1) * g;
            *square = BETA2 * *square + (1.0 - BETA2) * g * g;
            *w -= learning_rate * (*mean / started1) / ((*square / started2).sqrt() + 1e-8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 120 points of a plane in 5 dimensions.
    fn plane() -> Matrix {
        let mut rng = SplitMix64::new(9);
        let rows: Vec<[f32; 5]> = (0..120)
            .map(|_| {
                let (u, v) = (rng.normal(), rng.normal());
                std::array::from_fn(|j| (u * (j as f64 * 0.9).sin() + v * (j as f64 * 0.7).cos()) as f32)
            })
            .collect();
        Matrix::from_rows(&rows).unwrap()
    }

    const RUN: Training = Training { epochs: 200, batch: 16, learning_rate: 1e-2, seed: 1 };

    #[test]
    fn gradients_match_finite_differences() {
        let data = plane();
        let model = LinearAutoencoder::new(5, 2, 3);
        let batch = [0, 7, 50];
        let (_, encoder, decoder) = model.gradients(&data, &batch);
        for (which, gradient) in [encoder, decoder].iter().enumerate() {
            for (i, &analytic) in gradient.as_slice().iter().enumerate() {
                let at = |by: f32| {
                    let mut moved = model.clone();
                    let weights = if which == 0 { &mut moved.encoder } else { &mut moved.decoder };
                    weights.as_mut_slice()[i] += by;
                    moved.gradients(&data, &batch).0
                };
                // The loss is quadratic in each weight, so a wide step is exact but for rounding.
                let difference = (at(0.1) - at(-0.1)) / 0.2;
                assert!((difference - analytic).abs() < 1e-4, "{difference} differs from {analytic}");
            }
        }
    }

    #[test]
    fn a_plane_passes_through_two_dimensions_but_not_through_one() {
        let data = plane();
        let error = |dim| {
            let mut model = LinearAutoencoder::new(5, dim, 3);
            *model.fit(&data, &RUN, "v1").unwrap().last().unwrap()
        };
        assert!(error(2) < 1e-3, "{}", error(2));
        assert!(error(1) > 0.05, "{}", error(1));
    }

    #[test]
    fn the_seed_decides_the_weights_and_other_widths_are_refused() {
        let data = plane();
        let train = |seed| {
            let mut model = LinearAutoencoder::new(5, 2, seed);
            model.fit(&data, &Training { epochs: 3, ..RUN }, "v1").unwrap();
            model
        };
        assert_eq!(train(1), train(1));
        assert_ne!(train(1), train(2));
        assert!(train(1).encode(&Matrix::zeros(2, 4)).is_err());
        assert!(train(1).fit(&Matrix::zeros(2, 4), &RUN, "v2").is_err());
    }
}
