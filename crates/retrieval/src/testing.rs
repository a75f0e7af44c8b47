//! What the tests of several modules use.

use eas_tensor::Matrix;
use eas_text::TextError;
use eas_text::encoder::SentenceEncoder;
use eas_text::hash::fnv1a;

use crate::query::content_terms;

/// Content words as dimensions (by hash): cosine is word overlap.
pub(crate) struct Words;

impl SentenceEncoder for Words {
    fn name(&self) -> &'static str {
        "words"
    }

    fn dim(&self) -> usize {
        512
    }

    fn encode(&self, texts: &[&str]) -> Result<Matrix, TextError> {
        let mut out = Matrix::zeros(texts.len(), 512);
        for (row, text) in texts.iter().enumerate() {
            for term in content_terms(text) {
                out.row_mut(row)[fnv1a(term.as_bytes()) as usize % 512] += 1.0;
            }
        }
        out.normalize_rows();
        Ok(out)
    }
}
