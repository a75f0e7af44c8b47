//! The bundled encoder: a table of token vectors, and a text's vector is the mean of its tokens' rows.
//!
//! The table is distilled from MiniLM (see the program `distill_static` of `eas-bench`). A row's length is the token's weight,
//! so that frequent words count for little in the mean, the idea of Arora, Liang and Ma, "A Simple but Tough-to-Beat Baseline for
//! Sentence Embeddings" (ICLR 2017).

use crate::TextError;
use crate::encoder::{SentenceEncoder, TokenEmbedding};
use crate::wordpiece::WordPiece;
use eas_tensor::Matrix;
use rayon::prelude::*;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

/// Texts that one thread encodes before it looks for more work.
const TEXTS_A_TASK: usize = 128;

/// Token vectors as int8 rows with one scale each, averaged over a text's tokens.
///
/// Word order plays no part, a token has the same vector in every sentence, and a text is read to its end however long it is.
#[derive(Debug, Clone)]
pub struct StaticEncoder {
    tokenizer: WordPiece,
    dim: usize,
    /// Row-major, shape `(vocabulary, dim)`.
    rows: Vec<i8>,
    scales: Vec<f32>,
}

impl StaticEncoder {
    /// Loads the bundled 256-dimensional model; an error when a file is missing or altered.
    pub fn load() -> Result<Self, TextError> {
        let vocabulary = eas_data::read_verified("models/static-256/vocab.txt")?;
        let table = eas_data::read_verified("models/static-256/model.safetensors")?;
        Self::from_bytes(WordPiece::from_bytes(&vocabulary)?, &table)
    }

    /// Quantizes `table`, one row a vocabulary entry, to int8 with the scale of each row's largest value.
    pub fn from_table(tokenizer: WordPiece, table: &Matrix) -> Result<Self, TextError> {
        table.check_finite()?;
        if table.rows() != tokenizer.len() || table.dim() == 0 {
            return Err(bad(format!(
                "a table of {} rows of {}, the vocabulary has {} entries",
                table.rows(),
                table.dim(),
                tokenizer.len()
            )));
        }
        let mut rows = Vec::with_capacity(table.rows() * table.dim());
        let mut scales = Vec::with_capacity(table.rows());
        for row in table.iter_rows() {
            let largest = row.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
            let scale = largest / 127.0;
            scales.push(scale);
            rows.extend(row.iter().map(|x| if scale > 0.0 { (x / scale).round() as i8 } else { 0 }));
        }
        Ok(Self { tokenizer, dim: table.dim(), rows, scales })
    }

    /// Reads the safetensors file that [`to_bytes`](Self::to_bytes) writes.
    pub fn from_bytes(tokenizer: WordPiece, bytes: &[u8]) -> Result<Self, TextError> {
        let file = SafeTensors::deserialize(bytes).map_err(|e| bad(e.to_string()))?;
        let rows = file.tensor("rows").map_err(|e| bad(e.to_string()))?;
        let scales = file.tensor("scales").map_err(|e| bad(e.to_string()))?;
        let &[count, dim] = rows.shape() else {
            return Err(bad(format!("rows has the shape {:?}, not two axes", rows.shape())));
        };
        if rows.dtype() != Dtype::I8 || scales.dtype() != Dtype::F32 || scales.shape() != [count] || dim == 0 {
            return Err(bad(format!(
                "rows {:?} {:?} and scales {:?} {:?}, expected I8 (tokens, dim) and F32 (tokens)",
                rows.dtype(),
                rows.shape(),
                scales.dtype(),
                scales.shape()
            )));
        }
        if count != tokenizer.len() {
            return Err(bad(format!("{count} rows for a vocabulary of {} entries", tokenizer.len())));
        }
        let (scales, _) = scales.data().as_chunks::<4>();
        Ok(Self {
            tokenizer,
            dim,
            rows: rows.data().iter().map(|&byte| byte.cast_signed()).collect(),
            scales: scales.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect(),
        })
    }

    /// The model as a safetensors file: `rows`, I8 `(tokens, dim)`, and `scales`, F32 `(tokens)`.
    pub fn to_bytes(&self) -> Result<Vec<u8>, TextError> {
        let rows: Vec<u8> = self.rows.iter().map(|x| x.cast_unsigned()).collect();
        let scales: Vec<u8> = self.scales.iter().flat_map(|x| x.to_le_bytes()).collect();
        let count = self.scales.len();
        let rows = TensorView::new(Dtype::I8, vec![count, self.dim], &rows).map_err(|e| bad(e.to_string()))?;
        let scales = TensorView::new(Dtype::F32, vec![count], &scales).map_err(|e| bad(e.to_string()))?;
        safetensors::serialize([("rows", rows), ("scales", scales)], None).map_err(|e| bad(e.to_string()))
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &WordPiece {
        &self.tokenizer
    }

    /// The row of a vocabulary entry, not normalised; `None` when `word` isn't one entry (`encode` spells such a word by pieces).
    pub fn token_vector(&self, word: &str) -> Option<Vec<f32>> {
        self.tokenizer.id(word).map(|id| self.row(id))
    }

    /// The row of each token of `text`, special and unknown tokens left out.
    pub fn token_embeddings(&self, text: &str) -> Vec<TokenEmbedding> {
        let specials = self.tokenizer.specials();
        let pieces = self.tokenizer.tokenize(text, usize::MAX);
        let known = pieces.into_iter().filter(|piece| !specials.contains(piece.id));
        known
            .map(|piece| TokenEmbedding {
                token: self.tokenizer.token(piece.id).unwrap_or_default().to_owned(),
                range: piece.start..piece.end,
                vector: self.row(piece.id),
            })
            .collect()
    }

    fn row(&self, id: u32) -> Vec<f32> {
        let (id, dim) = (id as usize, self.dim);
        let scale = self.scales[id];
        self.rows[id * dim..(id + 1) * dim].iter().map(|&x| f32::from(x) * scale).collect()
    }

    /// Writes the unit vector of `text` into `out`, or zeros.
    fn encode_into(&self, text: &str, out: &mut [f32]) {
        let specials = self.tokenizer.specials();
        self.tokenizer.for_each_id(text, usize::MAX, |id| {
            if !specials.contains(id) {
                let (id, dim) = (id as usize, self.dim);
                let scale = self.scales[id];
                for (sum, &x) in out.iter_mut().zip(&self.rows[id * dim..(id + 1) * dim]) {
                    *sum += f32::from(x) * scale;
                }
            }
        });
        // The mean and the sum have the same direction, so the count isn't needed.
        let norm = out.iter().map(|&x| x * x).sum::<f32>().sqrt();
        if norm > 0.0 {
            for x in out.iter_mut() {
                *x /= norm;
            }
        }
    }
}

impl SentenceEncoder for StaticEncoder {
    fn name(&self) -> &'static str {
        "static"
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn encode(&self, texts: &[&str]) -> Result<Matrix, TextError> {
        let mut out = Matrix::zeros(texts.len(), self.dim);
        out.as_mut_slice().par_chunks_mut(self.dim * TEXTS_A_TASK).zip(texts.par_chunks(TEXTS_A_TASK)).for_each(
            |(rows, texts)| {
                for (row, text) in rows.chunks_exact_mut(self.dim).zip(texts) {
                    self.encode_into(text, row);
                }
            },
        );
        Ok(out)
    }
}

fn bad(problem: String) -> TextError {
    TextError::Model { model: "static-256", problem }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wordpiece::tests::small;
    use std::ops::Range;

    /// Row i of the table points along axis i mod 4 with length i, plus a little along the next axis.
    fn table() -> Matrix {
        let tokenizer = small();
        let mut table = Matrix::zeros(tokenizer.len(), 4);
        for i in 0..tokenizer.len() {
            table.row_mut(i)[i % 4] = i as f32;
            table.row_mut(i)[(i + 1) % 4] = 0.25;
        }
        table
    }

    fn encoder() -> StaticEncoder {
        StaticEncoder::from_table(small(), &table()).unwrap()
    }

    #[test]
    fn a_vector_is_the_normalised_sum_of_the_tokens_rows() {
        let encoder = encoder();
        let got = encoder.encode(&["Banks the", "the banks", "", "[CLS] qqq", "bank"]).unwrap();
        let id = |token| encoder.tokenizer().id(token).unwrap() as usize;
        let mut want = vec![0.0_f64; 4];
        for token in ["bank", "##s", "the"] {
            for (sum, x) in want.iter_mut().zip(table().row(id(token))) {
                *sum += f64::from(*x);
            }
        }
        let norm = want.iter().map(|x| x * x).sum::<f64>().sqrt();
        for (got, want) in got.row(0).iter().zip(&want) {
            assert!((f64::from(*got) - want / norm).abs() < 0.01, "{got} for {}", want / norm);
        }
        assert_eq!(got.row(0), got.row(1), "order plays no part");
        assert_eq!(got.row(2), [0.0; 4], "an empty text");
        assert_eq!(got.row(3), [0.0; 4], "special and unknown tokens only");
        let norm: f32 = got.row(4).iter().map(|x| x * x).sum();
        assert!((norm - 1.0).abs() < 1e-6);
    }

    #[test]
    fn token_vectors_and_positions() {
        let encoder = encoder();
        let tokens = encoder.token_embeddings("A river qqq bank");
        let known: Vec<(&str, Range<usize>)> = tokens.iter().map(|t| (t.token.as_str(), t.range.clone())).collect();
        assert_eq!(known, [("river", 2..7), ("bank", 12..16)]);
        assert_eq!(encoder.token_vector("bank"), Some(tokens[1].vector.clone()));
        assert_eq!(encoder.token_vector("absent"), None);
    }

    #[test]
    fn a_row_does_not_depend_on_the_batch() {
        let encoder = encoder();
        let texts: Vec<String> = (0..1000).map(|i| "river bank ".repeat(i % 5) + "the").collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let all = encoder.encode(&texts).unwrap();
        for i in [0, 1, 127, 128, 999] {
            assert_eq!(encoder.encode(&texts[i..=i]).unwrap().row(0), all.row(i));
        }
        assert_eq!(encoder.encode(&[]).unwrap().rows(), 0);
    }

    #[test]
    fn files_round_trip_and_bad_ones_are_refused() {
        let encoder = encoder();
        let bytes = encoder.to_bytes().unwrap();
        let again = StaticEncoder::from_bytes(small(), &bytes).unwrap();
        assert_eq!((&again.rows, &again.scales), (&encoder.rows, &encoder.scales));
        assert!(StaticEncoder::from_bytes(small(), &bytes[..bytes.len() - 3]).is_err());
        assert!(StaticEncoder::from_bytes(small(), b"").is_err());
        let few = WordPiece::from_vocabulary("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]").unwrap();
        let message = StaticEncoder::from_bytes(few, &bytes).unwrap_err().to_string();
        assert!(message.contains("for a vocabulary of 5 entries"), "{message}");
        let mut nan = table();
        nan.row_mut(2)[1] = f32::NAN;
        let message = StaticEncoder::from_table(small(), &nan).unwrap_err().to_string();
        assert!(message.contains("row 2, column 1 is NaN"), "{message}");
        assert!(StaticEncoder::from_table(small(), &Matrix::zeros(3, 4)).is_err());
    }
}
