//! Pictures of digits as a service of embeddings takes them.

use eas_nn::encoders::{Encoder, Mlp};
use eas_ops::embedding::{Item, Key};
use eas_tensor::Matrix;

use crate::digit_net::tensor;

/// A picture of a digit.
#[derive(Debug, Clone)]
pub struct Picture {
    /// Rows and columns.
    pub shape: [usize; 2],
    /// Row after row.
    pub pixels: Vec<f32>,
}

impl Picture {
    /// 8 x 8 pixels.
    pub fn new(pixels: &[f32]) -> Self {
        Self { shape: [8, 8], pixels: pixels.to_vec() }
    }

    /// The picture of the 64 numbers that came with a request.
    pub fn read(pixels: Vec<f32>) -> Result<Self, String> {
        match pixels.len() {
            64 => Ok(Self { shape: [8, 8], pixels }),
            n => Err(format!("{n} values for a picture, must be 64")),
        }
    }
}

impl Item for Picture {
    fn key(&self) -> Key {
        let bytes: Vec<u8> = self.pixels.iter().flat_map(|x| x.to_le_bytes()).collect();
        Key::of("f32", &self.shape, &bytes)
    }
}

/// What a service calls to embed pictures.
pub fn encode_with(encoder: &Mlp) -> impl Fn(&[&Picture]) -> Result<Vec<Vec<f32>>, String> + Send + Sync + use<> {
    let encoder = encoder.clone();
    move |pictures| {
        let encode = || -> anyhow::Result<Matrix> {
            let rows: Vec<&[f32]> = pictures.iter().map(|picture| &*picture.pixels).collect();
            Ok(encoder.encode(&tensor(&Matrix::from_rows(&rows)?)?)?)
        };
        let embeddings = encode().map_err(|error| error.to_string())?;
        Ok(embeddings.iter_rows().map(<[f32]>::to_vec).collect())
    }
}
