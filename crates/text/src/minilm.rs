//! all-MiniLM-L6-v2 on the CPU: a six-layer BERT whose inference path is written for speed.
//!
//! The architecture is Devlin et al., "BERT" (NAACL 2019), distilled as in Wang et al., "MiniLM" (NeurIPS 2020), and tuned for sentences as
//! in Reimers and Gurevych, "Sentence-BERT" (EMNLP 2019): mean of the last layer's token vectors, scaled to length 1.
//!
//! Three things make it fast. Texts are sorted by length and packed one behind the other, so no padding is computed. Queries, keys and
//! values come out of one product, and biases, GELU and residuals are applied while a product's tile is still in the cache. Threads
//! work on groups of texts that are small enough for their activations to stay in the cache through all layers.

use crate::TextError;
use crate::encoder::{SentenceEncoder, TokenEmbedding};
use crate::models;
use crate::wordpiece::{Piece, WordPiece};
use eas_tensor::Matrix;
use eas_tensor::gemm::{Epilogue, PackedMatrix};
use eas_tensor::transformer::{AttentionScratch, attention, layer_norm};
use rayon::prelude::*;
use safetensors::tensor::{Dtype, SafeTensors};

/// What puts the model's files in place.
const FETCH: &str = "scripts/fetch_models.sh";
const WEIGHTS_SHA256: &str = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db";
const VOCABULARY_SHA256: &str = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3";

/// Tokens of a text that are read, `[CLS]` and `[SEP]` included; the model was tuned with this limit.
pub const MAX_TOKENS: usize = 256;

const HIDDEN: usize = 384;
const INNER: usize = 1536;
const HEADS: usize = 12;
const HEAD_DIM: usize = HIDDEN / HEADS;
const LAYERS: usize = 6;
const EPSILON: f32 = 1e-12;

/// Tokens of a group: the inner activations, 192 x 1536 floats, take 1.2 MB.
const GROUP_TOKENS: usize = 192;

/// The encoder all-MiniLM-L6-v2, 384 dimensions.
#[derive(Debug)]
pub struct MiniLm {
    tokenizer: WordPiece,
    words: Matrix,
    /// Position embedding plus the embedding of segment 0, the only one that sentences use.
    positions: Matrix,
    norm: Norm,
    layers: Vec<Layer>,
}

#[derive(Debug)]
struct Norm {
    gain: Vec<f32>,
    bias: Vec<f32>,
}

impl Norm {
    fn apply(&self, rows: &mut [f32]) {
        layer_norm(rows, &self.gain, &self.bias, EPSILON);
    }
}

#[derive(Debug)]
struct Linear {
    weights: PackedMatrix,
    bias: Vec<f32>,
}

#[derive(Debug)]
struct Layer {
    /// Queries (divided by the square root of the head's width), keys and values.
    qkv: Linear,
    output: Linear,
    attention_norm: Norm,
    inner: Linear,
    outer: Linear,
    output_norm: Norm,
}

/// Activations of one group of texts.
#[derive(Debug, Default)]
struct Scratch {
    hidden: Vec<f32>,
    qkv: Vec<f32>,
    context: Vec<f32>,
    inner: Vec<f32>,
    attention: AttentionScratch,
}

impl MiniLm {
    /// Loads the model that `scripts/fetch_models.sh` fetched; an error says to run it when a file is missing or altered.
    pub fn load() -> Result<Self, TextError> {
        let folder = eas_data::root().join("models/all-MiniLM-L6-v2");
        let vocabulary = models::read(&folder.join("vocab.txt"), VOCABULARY_SHA256, FETCH)?;
        let weights = models::read(&folder.join("model.safetensors"), WEIGHTS_SHA256, FETCH)?;
        Self::from_bytes(WordPiece::from_bytes(&vocabulary)?, &weights)
    }

    fn from_bytes(tokenizer: WordPiece, bytes: &[u8]) -> Result<Self, TextError> {
        let file = SafeTensors::deserialize(bytes).map_err(|e| bad(e.to_string()))?;
        let words = tensor(&file, "embeddings.word_embeddings.weight", &[tokenizer.len(), HIDDEN])?;
        let mut positions = tensor(&file, "embeddings.position_embeddings.weight", &[512, HIDDEN])?;
        let segments = tensor(&file, "embeddings.token_type_embeddings.weight", &[2, HIDDEN])?;
        for row in positions.chunks_exact_mut(HIDDEN) {
            row.iter_mut().zip(&segments).for_each(|(x, s)| *x += s);
        }
        let layers = (0..LAYERS).into_par_iter().map(|i| Layer::new(&file, &format!("encoder.layer.{i}")));
        Ok(Self {
            words: Matrix::from_vec(tokenizer.len(), HIDDEN, words)?,
            positions: Matrix::from_vec(512, HIDDEN, positions)?,
            norm: Norm::new(&file, "embeddings.LayerNorm")?,
            layers: layers.collect::<Result<_, _>>()?,
            tokenizer,
        })
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &WordPiece {
        &self.tokenizer
    }

    /// The last layer's vector of each token of `text` in its context, 384 values each, not normalised.
    ///
    /// `[CLS]` and `[SEP]` are read by the model and left out here; tokens beyond the 254th aren't read.
    pub fn token_embeddings(&self, text: &str) -> Vec<TokenEmbedding> {
        let (pieces, vectors) = self.pieces_in_context(text);
        let embed = |(piece, vector): (Piece, &[f32])| TokenEmbedding {
            token: self.tokenizer.token(piece.id).unwrap_or_default().to_owned(),
            range: piece.start..piece.end,
            vector: vector.to_vec(),
        };
        pieces.into_iter().zip(vectors.iter_rows()).map(embed).collect()
    }

    /// The unit vector of the first occurrence of `word` in `text`: mean of its pieces' vectors in this context.
    ///
    /// An error when `word` has no token, or doesn't occur as a whole word within the first 254 tokens.
    pub fn word_vector(&self, text: &str, word: &str) -> Result<Vec<f32>, TextError> {
        let wanted = self.tokenizer.ids(word, MAX_TOKENS);
        let (pieces, vectors) = self.pieces_in_context(text);
        let continues = |i: usize| {
            let next = pieces.get(i).and_then(|piece| self.tokenizer.token(piece.id));
            next.is_some_and(|token| token.starts_with("##"))
        };
        let found = (0..pieces.len()).find(|&i| {
            let end = i + wanted.len();
            let here = pieces.get(i..end).unwrap_or_default();
            !here.is_empty() && here.iter().map(|piece| piece.id).eq(wanted.iter().copied()) && !continues(end)
        });
        let Some(first) = found else {
            return Err(TextError::Argument {
                name: "word",
                got: format!("{word:?}"),
                expected: format!("a word of {text:?}"),
            });
        };
        let mut vector = vec![0.0; HIDDEN];
        mean_of_rows(&vectors.as_slice()[first * HIDDEN..(first + wanted.len()) * HIDDEN], &mut vector);
        Ok(vector)
    }

    /// The sentence vector of each list of token ids, `[CLS]` and `[SEP]` included in it; a list of two ids or fewer gives zeros.
    ///
    /// An error when a list is longer than [`MAX_TOKENS`] or an id lies beyond the vocabulary.
    pub fn encode_ids(&self, ids: &[Vec<u32>]) -> Result<Matrix, TextError> {
        for list in ids {
            let beyond = list.iter().find(|id| **id as usize >= self.tokenizer.len());
            if let Some(id) = beyond {
                return Err(TextError::argument("token id", id, "below the size of the vocabulary"));
            }
            if list.len() > MAX_TOKENS {
                return Err(TextError::argument("number of tokens", &list.len(), "at most 256"));
            }
        }
        Ok(self.encode_checked(ids))
    }

    /// The pieces of a text and their vectors, without the special tokens around them.
    fn pieces_in_context(&self, text: &str) -> (Vec<Piece>, Matrix) {
        let pieces = self.tokenizer.tokenize(text, MAX_TOKENS - 2);
        if pieces.is_empty() {
            return (pieces, Matrix::zeros(0, HIDDEN));
        }
        let specials = self.tokenizer.specials();
        let mut ids = vec![specials.cls];
        ids.extend(pieces.iter().map(|piece| piece.id));
        ids.push(specials.sep);
        let mut scratch = Scratch::default();
        self.forward(&[ids.as_slice()], &mut scratch);
        let inside: Vec<usize> = (1..=pieces.len()).collect();
        let all = Matrix::from_vec(ids.len(), HIDDEN, scratch.hidden);
        (pieces, all.map_or_else(|_| Matrix::zeros(0, HIDDEN), |all| all.select(&inside)))
    }

    fn encode_checked(&self, ids: &[Vec<u32>]) -> Matrix {
        // A text of two tokens is empty but for the special ones: its row stays zero.
        let mut order: Vec<usize> = (0..ids.len()).filter(|&i| ids[i].len() > 2).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(ids[i].len()));
        let mut groups: Vec<&[usize]> = Vec::new();
        let mut from = 0;
        let mut tokens = 0;
        for (at, &i) in order.iter().enumerate() {
            if at > from && tokens + ids[i].len() > GROUP_TOKENS {
                groups.push(&order[from..at]);
                (from, tokens) = (at, 0);
            }
            tokens += ids[i].len();
        }
        if from < order.len() {
            groups.push(&order[from..]);
        }
        let vectors: Vec<Vec<f32>> = groups
            .par_iter()
            .map_init(Scratch::default, |scratch, group| {
                let texts: Vec<&[u32]> = group.iter().map(|&i| ids[i].as_slice()).collect();
                self.forward(&texts, scratch);
                let mut out = vec![0.0; texts.len() * HIDDEN];
                let mut rest = scratch.hidden.as_slice();
                for (vector, ids) in out.chunks_exact_mut(HIDDEN).zip(&texts) {
                    let (rows, after) = rest.split_at(ids.len() * HIDDEN);
                    mean_of_rows(rows, vector);
                    rest = after;
                }
                out
            })
            .collect();
        let mut out = Matrix::zeros(ids.len(), HIDDEN);
        for (group, vectors) in groups.iter().zip(&vectors) {
            for (&i, vector) in group.iter().zip(vectors.chunks_exact(HIDDEN)) {
                out.row_mut(i).copy_from_slice(vector);
            }
        }
        out
    }

    /// Runs all layers over the texts, whose ids include the special tokens; leaves the last layer's vectors in `scratch.hidden`, shape
    /// `(tokens of all texts, 384)`.
    fn forward(&self, texts: &[&[u32]], scratch: &mut Scratch) {
        let tokens: usize = texts.iter().map(|ids| ids.len()).sum();
        let Scratch { hidden, qkv, context, inner, attention: buffers } = scratch;
        hidden.resize(tokens * HIDDEN, 0.0);
        qkv.resize(tokens * 3 * HIDDEN, 0.0);
        context.resize(tokens * HIDDEN, 0.0);
        inner.resize(tokens * INNER, 0.0);
        let places = texts.iter().flat_map(|ids| ids.iter().enumerate().map(|(at, &id)| (at, id as usize)));
        for (row, (at, id)) in hidden.chunks_exact_mut(HIDDEN).zip(places) {
            for ((x, w), p) in row.iter_mut().zip(self.words.row(id)).zip(self.positions.row(at)) {
                *x = w + p;
            }
        }
        self.norm.apply(hidden);
        for layer in &self.layers {
            layer.qkv.weights.product(hidden, qkv, Epilogue::Bias(&layer.qkv.bias));
            let mut from = 0;
            for ids in texts {
                let to = from + ids.len();
                let out = &mut context[from * HIDDEN..to * HIDDEN];
                attention(&qkv[from * 3 * HIDDEN..to * 3 * HIDDEN], HEADS, HEAD_DIM, out, buffers);
                from = to;
            }
            layer.output.weights.product(context, hidden, Epilogue::BiasResidual(&layer.output.bias));
            layer.attention_norm.apply(hidden);
            layer.inner.weights.product(hidden, inner, Epilogue::BiasGelu(&layer.inner.bias));
            layer.outer.weights.product(inner, hidden, Epilogue::BiasResidual(&layer.outer.bias));
            layer.output_norm.apply(hidden);
        }
    }
}

impl SentenceEncoder for MiniLm {
    fn name(&self) -> &'static str {
        "minilm"
    }

    fn dim(&self) -> usize {
        HIDDEN
    }

    /// The model's sentence vectors. Texts longer than 256 tokens, the two special ones included, are cut there.
    fn encode(&self, texts: &[&str]) -> Result<Matrix, TextError> {
        let ids: Vec<Vec<u32>> = texts.par_iter().map(|text| self.tokenizer.model_ids(text, MAX_TOKENS)).collect();
        Ok(self.encode_checked(&ids))
    }
}

/// The mean of the rows, scaled to length 1.
fn mean_of_rows(rows: &[f32], out: &mut [f32]) {
    for row in rows.chunks_exact(out.len()) {
        out.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
    }
    let norm = out.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
    if norm > 0.0 {
        for x in out.iter_mut() {
            *x = (f64::from(*x) / norm) as f32;
        }
    }
}

impl Norm {
    fn new(file: &SafeTensors<'_>, name: &str) -> Result<Self, TextError> {
        Ok(Self {
            gain: tensor(file, &format!("{name}.weight"), &[HIDDEN])?,
            bias: tensor(file, &format!("{name}.bias"), &[HIDDEN])?,
        })
    }
}

impl Linear {
    fn new(file: &SafeTensors<'_>, name: &str, outputs: usize, inputs: usize) -> Result<Self, TextError> {
        let weights = tensor(file, &format!("{name}.weight"), &[outputs, inputs])?;
        Ok(Self {
            weights: PackedMatrix::new(&Matrix::from_vec(outputs, inputs, weights)?),
            bias: tensor(file, &format!("{name}.bias"), &[outputs])?,
        })
    }
}

impl Layer {
    fn new(file: &SafeTensors<'_>, name: &str) -> Result<Self, TextError> {
        let (mut weights, mut bias) = (Vec::new(), Vec::new());
        for part in ["query", "key", "value"] {
            let scale = if part == "query" { 1.0 / (HEAD_DIM as f32).sqrt() } else { 1.0 };
            let prefix = format!("{name}.attention.self.{part}");
            let w = tensor(file, &format!("{prefix}.weight"), &[HIDDEN, HIDDEN])?;
            let b = tensor(file, &format!("{prefix}.bias"), &[HIDDEN])?;
            weights.extend(w.iter().map(|x| x * scale));
            bias.extend(b.iter().map(|x| x * scale));
        }
        Ok(Self {
            qkv: Linear { weights: PackedMatrix::new(&Matrix::from_vec(3 * HIDDEN, HIDDEN, weights)?), bias },
            output: Linear::new(file, &format!("{name}.attention.output.dense"), HIDDEN, HIDDEN)?,
            attention_norm: Norm::new(file, &format!("{name}.attention.output.LayerNorm"))?,
            inner: Linear::new(file, &format!("{name}.intermediate.dense"), INNER, HIDDEN)?,
            outer: Linear::new(file, &format!("{name}.output.dense"), HIDDEN, INNER)?,
            output_norm: Norm::new(file, &format!("{name}.output.LayerNorm"))?,
        })
    }
}

/// The values of an f32 tensor of the given shape.
fn tensor(file: &SafeTensors<'_>, name: &str, shape: &[usize]) -> Result<Vec<f32>, TextError> {
    let view = file.tensor(name).map_err(|e| bad(format!("{name}: {e}")))?;
    if view.dtype() != Dtype::F32 || view.shape() != shape {
        return Err(bad(format!("{name} is {:?} {:?}, expected F32 {shape:?}", view.dtype(), view.shape())));
    }
    let (values, _) = view.data().as_chunks::<4>();
    Ok(values.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect())
}

fn bad(problem: String) -> TextError {
    TextError::Model { model: "all-MiniLM-L6-v2", problem }
}
