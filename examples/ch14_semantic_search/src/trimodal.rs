//! The three encoders of listing 14.1 and what they are fed.

use candle_core::{Device, Tensor};
use eas_data::synth::trimodal::{SAMPLE_RATE, TrimodalItem, TrimodalWorld};
use eas_losses::info_nce;
use eas_nn::encoders::{ConvImage, Encoder, MeanTokens, Mlp, hashed_tokens};
use eas_nn::layers::ImageShape;
use eas_nn::params::Parameters;
use eas_nn::train::Training;
use eas_tensor::Matrix;
use eas_tensor::kernels::dot;
use eas_tensor::signal::LogMel;

/// Hash buckets of the captions' words.
pub const BUCKETS: usize = 2_048;
const FRONT_END: LogMel = LogMel { sample_rate: SAMPLE_RATE, n_fft: 256, hop: 128, bands: 40 };

/// The model inputs of some items: token ids, pixels, sound features.
pub type Inputs = [Tensor; 3];

/// One encoder a modality, into unit vectors of 32 values.
pub struct Encoders {
    params: Parameters,
    /// Captions: the mean of hashed words' vectors.
    pub text: MeanTokens,
    image: ConvImage,
    sound: Mlp,
}

impl Encoders {
    /// Untrained encoders of the world's pictures, captions and sounds.
    pub fn new(world: TrimodalWorld, seed: u64) -> anyhow::Result<Self> {
        let mut params = Parameters::new(seed, &Device::Cpu);
        let picture = ImageShape { height: world.side, width: world.side, channels: 3 };
        let text = MeanTokens::new(&mut params, "text", BUCKETS, 64, 32)?;
        let image = ConvImage::new(&mut params, "image", picture, [12, 32], 32)?;
        let sound = Mlp::new(&mut params, "sound", 2 * FRONT_END.bands, 128, 32)?;
        Ok(Self { params, text, image, sound })
    }

    /// InfoNCE between captions and pictures plus InfoNCE between pictures and sounds; the loss of each epoch.
    pub fn train(&self, inputs: &Inputs, epochs: usize, seed: u64) -> anyhow::Result<Vec<f64>> {
        let run = Training { epochs, batch: 90, learning_rate: 3e-3, seed };
        Ok(run.run(&self.params, inputs[0].dim(0)?, |batch| {
            let rows = Tensor::new(batch, &Device::Cpu)?;
            let text = self.text.forward(&inputs[0].index_select(&rows, 0)?)?;
            let image = self.image.forward(&inputs[1].index_select(&rows, 0)?)?;
            let sound = self.sound.forward(&inputs[2].index_select(&rows, 0)?)?;
            Ok((info_nce(&text, &image, 0.1)? + info_nce(&image, &sound, 0.1)?)?)
        })?)
    }

    /// Vectors of captions, pictures and sounds.
    pub fn encode(&self, inputs: &Inputs) -> anyhow::Result<[Matrix; 3]> {
        Ok([self.text.encode(&inputs[0])?, self.image.encode(&inputs[1])?, self.sound.encode(&inputs[2])?])
    }
}

/// Mean and deviation of each sound feature over the training set.
pub struct Scaling {
    mean: Vec<f32>,
    deviation: Vec<f32>,
}

impl Scaling {
    /// From the sounds of the training set.
    pub fn of(items: &[TrimodalItem]) -> anyhow::Result<Self> {
        let n = items.len() as f32;
        let (mut mean, mut square) = (vec![0.0; 2 * FRONT_END.bands], vec![0.0; 2 * FRONT_END.bands]);
        for item in items {
            for (i, x) in FRONT_END.features(&item.sound)?.iter().enumerate() {
                mean[i] += x / n;
                square[i] += x * x / n;
            }
        }
        let spread = |(square, mean): (&f32, &f32)| (square - mean * mean).max(1e-6).sqrt();
        let deviation = square.iter().zip(&mean).map(spread).collect();
        Ok(Self { mean, deviation })
    }

    /// Token ids, centred pixels and scaled sound features of some items.
    pub fn inputs(&self, items: &[TrimodalItem]) -> anyhow::Result<Inputs> {
        let captions: Vec<&str> = items.iter().map(|item| item.caption.as_str()).collect();
        let pixels: Vec<f32> = items.iter().flat_map(|item| item.image.iter().map(|p| p - 0.5)).collect();
        let mut sounds = Vec::new();
        for item in items {
            let features = FRONT_END.features(&item.sound)?;
            sounds.extend((0..features.len()).map(|i| (features[i] - self.mean[i]) / self.deviation[i]));
        }
        let (n, bands) = (items.len(), 2 * FRONT_END.bands);
        Ok([
            hashed_tokens(&captions, BUCKETS, &Device::Cpu)?,
            Tensor::from_vec(pixels, (n, items[0].image.len() / 3, 3), &Device::Cpu)?,
            Tensor::from_vec(sounds, (n, bands), &Device::Cpu)?,
        ])
    }
}

/// Cosine of each concept's mean row with each concept's mean column; items come concept by concept, equally many of each.
pub fn concept_cosines(rows: &Matrix, columns: &Matrix, concepts: usize) -> Vec<Vec<f64>> {
    let means = |vectors: &Matrix| -> Vec<Vec<f32>> {
        let per_concept = vectors.rows() / concepts;
        let mean = |concept: usize, d: usize| {
            let items = concept * per_concept..(concept + 1) * per_concept;
            items.map(|i| vectors.row(i)[d]).sum::<f32>() / per_concept as f32
        };
        (0..concepts).map(|concept| (0..vectors.dim()).map(|d| mean(concept, d)).collect()).collect()
    };
    let columns = means(columns);
    let cosines = |row: Vec<f32>| columns.iter().map(|column| f64::from(dot(&row, column))).collect();
    means(rows).into_iter().map(cosines).collect()
}
