//! Sentence encoders: one trait, a bundled static model and MiniLM.

pub use crate::minilm::MiniLm;
pub use crate::static_encoder::StaticEncoder;

use crate::TextError;
use eas_tensor::Matrix;
use std::ops::Range;

/// Maps texts to unit vectors whose dot product is their similarity.
pub trait SentenceEncoder: Send + Sync {
    /// The name [`load`] knows it by.
    fn name(&self) -> &str;

    /// Length of the vectors.
    fn dim(&self) -> usize;

    /// Encodes each text to a row; shape `(texts.len(), dim)`.
    ///
    /// Rows have Euclidean length 1, except that a text without any token the model knows (an empty one, say) gives a row of zeros. A row
    /// depends on its own text only, never on the rest of the batch.
    fn encode(&self, texts: &[&str]) -> Result<Matrix, TextError>;
}

/// The vector of one token of a text.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenEmbedding {
    /// The vocabulary entry, `##` included.
    pub token: String,
    /// The bytes of the text it stands for.
    pub range: Range<usize>,
    /// Its vector, not normalised.
    pub vector: Vec<f32>,
}

/// Loads an encoder by name: `static` (bundled) or `minilm` (after `scripts/fetch_models.sh`).
///
/// An error names what to run when the model's files are missing or altered.
pub fn load(name: &str) -> Result<Box<dyn SentenceEncoder>, TextError> {
    match name {
        "static" => Ok(Box::new(StaticEncoder::load()?)),
        "minilm" => Ok(Box::new(MiniLm::load()?)),
        _ => {
            Err(TextError::Argument { name: "encoder", got: name.to_owned(), expected: "static or minilm".to_owned() })
        }
    }
}
