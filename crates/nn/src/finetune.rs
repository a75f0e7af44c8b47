//! Fine-tuning an encoder on a domain's pairs: the losses of sentence-transformers, AdamW, a clipped gradient and a learning rate that
//! warms up and falls (Reimers and Gurevych 2019).
//!
//! What is tuned is a [`Tunable`]: mean token vectors ([`TokenEncoder`]), the last layers of a published BERT, or a small one from scratch
//! (both [`BertEncoder`](crate::bert_encoder::BertEncoder)).

use candle_core::{DType, Device, Tensor};
use eas_losses::contrastive::{candidate_loss, cosine_regression, multiple_negatives_ranking};
use eas_losses::distance::Distance;
use eas_losses::metric::{Neg, Triplet};
use eas_tensor::Matrix;
use eas_tensor::rng::SplitMix64;
use std::path::Path;

use crate::NnError;
use crate::gradients::Gradients;
use crate::layers::l2_normalize;
use crate::optim::{Method, Optimizer};
use crate::params::Parameters;
use crate::train::on_one_thread;

/// What of the encoder is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trainable {
    /// The vectors of the tokens.
    TokenTable,
    /// A linear map behind the mean, which starts as the identity.
    Head,
    /// Both.
    Both,
}

/// A text as rows of the token table.
pub type TokenIds = Vec<u32>;

/// One example of what should be near what.
#[derive(Debug, Clone, PartialEq)]
pub enum Example {
    /// A query and a text that answers it.
    Pair(TokenIds, TokenIds),
    /// And one that doesn't.
    Triplet(TokenIds, TokenIds, TokenIds),
    /// Two texts and how similar they should be.
    Labelled(TokenIds, TokenIds, f64),
}

/// What is minimised.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Objective {
    /// The mean of `(cos - y)^2`. A pair has `y = 1`, a triplet gives a pair with 1 and one with 0.
    CosineRegression,
    /// The mean of `max(0, d(q, p) - d(q, n) + margin)` with `d = 1 - cos`; triplets only.
    TripletCosine {
        /// By how much the negative must be farther.
        margin: f64,
    },
    /// The mean of `(y d^2 + (1 - y) max(0, margin - d)^2) / 2` with `d = 1 - cos`; needs some negatives, as without one all texts may as
    /// well become one vector.
    ContrastiveCosine {
        /// The distance from which a negative costs nothing.
        margin: f64,
    },
    /// The cross-entropy of each query's own text among all texts of the batch, cosines times `scale`; the negatives of triplets are
    /// candidates too.
    MultipleNegatives {
        /// What cosines are multiplied by.
        scale: f64,
    },
}

impl Objective {
    /// The triplet loss with margin 0.5.
    pub const TRIPLET: Self = Self::TripletCosine { margin: 0.5 };
    /// The contrastive loss with margin 0.5.
    pub const CONTRASTIVE: Self = Self::ContrastiveCosine { margin: 0.5 };
    /// Multiple negatives with scale 20.
    pub const MULTIPLE_NEGATIVES: Self = Self::MultipleNegatives { scale: 20.0 };

    /// The loss of queries and their texts, both `(batch, dim)`; negatives, if given, `(any, dim)`: one a query for all but multiple
    /// negatives. Rows of any length.
    pub fn loss(self, queries: &Tensor, texts: &Tensor, negatives: Option<&Tensor>) -> Result<Tensor, NnError> {
        match self {
            Self::TripletCosine { margin } => {
                let negatives = negatives.ok_or_else(|| not_for("the triplet loss", "pairs", "triplets"))?;
                let triplet = Triplet { margin, distance: Distance::Cosine, soft: false };
                Ok(triplet.forward(queries, texts, Neg::One(negatives))?.loss)
            }
            Self::MultipleNegatives { scale } => match negatives {
                None => Ok(multiple_negatives_ranking(queries, texts, None, scale)?),
                Some(pool) => {
                    let candidates = Tensor::cat(&[texts, pool], 0)?;
                    let cosines = l2_normalize(queries)?.matmul(&l2_normalize(&candidates)?.t()?)?;
                    let own: Vec<u32> = (0..queries.dim(0)? as u32).collect();
                    Ok(candidate_loss(&cosines, &own, 1.0 / scale, None, None)?)
                }
            },
            Self::CosineRegression | Self::ContrastiveCosine { .. } => {
                let (mut a, mut b) = (queries.clone(), texts.clone());
                let mut similarity = vec![1.0; queries.dim(0)?];
                if let Some(negatives) = negatives {
                    a = Tensor::cat(&[queries, queries], 0)?;
                    b = Tensor::cat(&[texts, negatives], 0)?;
                    similarity.resize(a.dim(0)?, 0.0);
                }
                self.labelled(&a, &b, &similarity)
            }
        }
    }

    /// The loss of pairs with given similarities, for the two objectives that know them.
    pub fn labelled(self, a: &Tensor, b: &Tensor, similarity: &[f64]) -> Result<Tensor, NnError> {
        match self {
            Self::CosineRegression => Ok(cosine_regression(a, b, similarity)?),
            Self::ContrastiveCosine { margin } => {
                let distance = Distance::Cosine.paired(a, b)?;
                let y = Tensor::from_slice(similarity, similarity.len(), a.device())?.to_dtype(distance.dtype())?;
                let near = (distance.sqr()? * &y)?;
                let far = ((margin - &distance)?.relu()?.sqr()? * (1.0 - &y)?)?;
                Ok(((near + far)?.mean_all()? * 0.5)?)
            }
            Self::TripletCosine { .. } => Err(not_for("the triplet loss", "labelled pairs", "triplets")),
            Self::MultipleNegatives { .. } => Err(not_for("multiple negatives", "labelled pairs", "pairs or triplets")),
        }
    }

    /// An error when the examples can't train this objective.
    fn check(self, examples: &[Example]) -> Result<(), NnError> {
        let any = |kind: fn(&Example) -> bool| examples.iter().any(kind);
        let negative = any(|e| match e {
            Example::Pair(..) => false,
            Example::Triplet(..) => true,
            Example::Labelled(_, _, y) => *y < 1.0,
        });
        match self {
            Self::TripletCosine { .. } if any(|e| !matches!(e, Example::Triplet(..))) => {
                Err(not_for("the triplet loss", "an example without a negative", "triplets"))
            }
            Self::MultipleNegatives { .. } if any(|e| matches!(e, Example::Labelled(..))) => {
                Err(not_for("multiple negatives", "labelled pairs", "pairs or triplets"))
            }
            Self::ContrastiveCosine { .. } if !negative => Err(not_for(
                "the contrastive loss",
                "positives only, which one vector for all satisfies",
                "some negatives",
            )),
            _ => Ok(()),
        }
    }
}

/// An encoder of token lists that [`EmbeddingFineTuner`] can tune.
pub trait Tunable: Sync {
    /// What is trained.
    fn params(&self) -> &Parameters;

    /// Unit vectors of texts, `(texts, dim)`, as part of the graph that a loss differentiates.
    fn forward(&self, texts: &[&[u32]]) -> Result<Tensor, NnError>;

    /// An error for a text that [`forward`](Self::forward) would refuse, before anything is trained.
    fn check(&self, texts: &[&[u32]]) -> Result<(), NnError>;

    /// True when its products take microseconds, so that training on one thread is faster.
    fn is_small(&self) -> bool {
        false
    }
}

/// Settings of a fine-tuning run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EmbeddingFineTuner {
    /// What is minimised.
    pub objective: Objective,
    /// The largest learning rate.
    pub learning_rate: f64,
    /// Examples a step.
    pub batch: usize,
    /// Passes over the examples.
    pub epochs: usize,
    /// Steps over which the learning rate rises from 0; fewer than there are steps.
    pub warm_up: u64,
    /// Decoupled weight decay of AdamW.
    pub weight_decay: f64,
    /// The largest gradient norm.
    pub clip: f64,
    /// Seed of the shuffles.
    pub seed: u64,
}

impl Default for EmbeddingFineTuner {
    /// Multiple negatives, batches of 64 for 3 epochs, rate 1e-2 for token vectors, a warm-up of 10, decay 0.01, clipped at 1.
    fn default() -> Self {
        Self {
            objective: Objective::MULTIPLE_NEGATIVES,
            learning_rate: 1e-2,
            batch: 64,
            epochs: 3,
            warm_up: 10,
            weight_decay: 0.01,
            clip: 1.0,
            seed: 1,
        }
    }
}

impl EmbeddingFineTuner {
    /// The learning rate of a step, from 0, of `total`: `peak step / warm_up`, then a line to 0 at step `total`.
    ///
    /// ```
    /// use eas_nn::finetune::EmbeddingFineTuner;
    ///
    /// let tuner = EmbeddingFineTuner { learning_rate: 2.0, warm_up: 10, ..EmbeddingFineTuner::default() };
    /// assert_eq!([0, 5, 10, 55, 100].map(|step| tuner.rate(step, 100)), [0.0, 1.0, 2.0, 1.0, 0.0]);
    /// ```
    pub fn rate(&self, step: u64, total: u64) -> f64 {
        if step < self.warm_up {
            return self.learning_rate * step as f64 / self.warm_up as f64;
        }
        let left = total.saturating_sub(step) as f64 / total.saturating_sub(self.warm_up).max(1) as f64;
        self.learning_rate * left.min(1.0)
    }

    /// Steps of a run over this many examples.
    pub fn steps(&self, examples: usize) -> u64 {
        (examples.div_ceil(self.batch.max(1)) * self.epochs) as u64
    }

    /// Tunes `encoder` on `examples` and returns the loss of each step.
    ///
    /// An error, before anything is trained, for settings out of range, a warm-up that outlasts the run, examples that the objective can't
    /// learn from, examples of different kinds, or a token that isn't in the table. A text without tokens has the zero vector.
    pub fn run<E: Tunable>(&self, encoder: &E, examples: &[Example]) -> Result<Vec<f64>, NnError> {
        self.check(encoder, examples)?;
        let total = self.steps(examples.len());
        let mut optimizer = Optimizer::new(Method::adamw(self.weight_decay), encoder.params())?;
        let mut rng = SplitMix64::new(self.seed);
        let mut order: Vec<usize> = (0..examples.len()).collect();
        let mut descend = || {
            let mut losses = Vec::new();
            for _ in 0..self.epochs {
                rng.shuffle(&mut order);
                for batch in order.chunks(self.batch) {
                    let step = losses.len() as u64;
                    let batch: Vec<&Example> = batch.iter().map(|&i| &examples[i]).collect();
                    let loss = self.batch_loss(encoder, &batch)?;
                    let value: f64 = loss.to_dtype(DType::F64)?.to_scalar()?;
                    if !value.is_finite() {
                        return Err(NnError::Stopped { step, what: "the loss".to_owned(), value });
                    }
                    let mut gradients = Gradients::of(&loss, encoder.params())?;
                    if !gradients.clip(self.clip)?.is_finite()
                        && let Some((tensor, value)) = gradients.first_not_finite()?
                    {
                        return Err(NnError::Stopped { step, what: format!("the gradient of {tensor:?}"), value });
                    }
                    optimizer.step(&gradients, self.rate(step, total))?;
                    losses.push(value);
                }
            }
            Ok(losses)
        };
        if encoder.is_small() { on_one_thread(descend) } else { descend() }
    }

    fn batch_loss(&self, encoder: &impl Tunable, batch: &[&Example]) -> Result<Tensor, NnError> {
        let (mut queries, mut texts, mut negatives) = (Vec::new(), Vec::new(), Vec::new());
        let mut labels = Vec::new();
        for example in batch {
            let (query, text) = match example {
                Example::Pair(query, text) => (query, text),
                Example::Triplet(query, text, negative) => {
                    negatives.push(negative.as_slice());
                    (query, text)
                }
                Example::Labelled(a, b, y) => {
                    labels.push(*y);
                    (a, b)
                }
            };
            queries.push(query.as_slice());
            texts.push(text.as_slice());
        }
        let (queries, texts) = (encoder.forward(&queries)?, encoder.forward(&texts)?);
        if !labels.is_empty() {
            return self.objective.labelled(&queries, &texts, &labels);
        }
        let negatives = if negatives.is_empty() { None } else { Some(encoder.forward(&negatives)?) };
        self.objective.loss(&queries, &texts, negatives.as_ref())
    }

    fn check(&self, encoder: &impl Tunable, examples: &[Example]) -> Result<(), NnError> {
        let refused =
            |name, got: String, expected: &str| NnError::Argument { name, got, expected: expected.to_owned() };
        let Some(first) = examples.first() else {
            return Err(refused("number of examples", "0".to_owned(), "at least 1"));
        };
        if self.batch == 0 {
            return Err(refused("batch", "0".to_owned(), "at least 1"));
        }
        if !(self.learning_rate > 0.0 && self.learning_rate.is_finite()) {
            return Err(refused("learning rate", self.learning_rate.to_string(), "positive and finite"));
        }
        if !(self.weight_decay >= 0.0 && self.weight_decay.is_finite()) {
            return Err(refused("weight decay", self.weight_decay.to_string(), "at least 0 and finite"));
        }
        let total = self.steps(examples.len());
        if self.epochs > 0 && self.warm_up >= total {
            let expected = format!("shorter than the run of {total} steps");
            return Err(refused("warm-up", format!("{} steps", self.warm_up), &expected));
        }
        if let Some(at) = examples.iter().position(|e| std::mem::discriminant(e) != std::mem::discriminant(first)) {
            return Err(refused("examples", format!("another kind at {at}"), "all of the kind of the first"));
        }
        for example in examples {
            match example {
                Example::Pair(a, b) => encoder.check(&[a, b])?,
                Example::Triplet(a, b, c) => encoder.check(&[a, b, c])?,
                Example::Labelled(a, b, y) if y.is_finite() => encoder.check(&[a, b])?,
                Example::Labelled(_, _, y) => return Err(refused("similarity", y.to_string(), "finite")),
            }
        }
        self.objective.check(examples)
    }
}

/// An encoder whose vector of a text is the mean of its tokens' rows, through an optional linear head, at unit length.
#[derive(Debug, Clone)]
pub struct TokenEncoder {
    params: Parameters,
    table: Tensor,
    head: Option<Tensor>,
}

impl TokenEncoder {
    /// Starts from `table`, one row a token; the head, if trained, starts as the identity.
    pub fn new(table: &Matrix, trainable: Trainable) -> Result<Self, NnError> {
        table.check_finite()?;
        if table.is_empty() {
            return Err(NnError::Shape {
                what: "token table".to_owned(),
                expected: "at least one row and column".to_owned(),
                got: vec![table.rows(), table.dim()],
            });
        }
        let device = Device::Cpu;
        let mut params = Parameters::new(0, &device);
        let given = Tensor::from_slice(table.as_slice(), (table.rows(), table.dim()), &device)?;
        let table = match trainable {
            Trainable::Head => given,
            Trainable::TokenTable | Trainable::Both => params.adopt("tokens", &given)?.as_tensor().clone(),
        };
        let head = match trainable {
            Trainable::TokenTable => None,
            Trainable::Head | Trainable::Both => {
                let identity = Tensor::eye(table.dim(1)?, DType::F32, &device)?;
                Some(params.adopt("head", &identity)?.as_tensor().clone())
            }
        };
        Ok(Self { params, table, head })
    }

    /// Rows of the table.
    pub fn tokens(&self) -> usize {
        self.table.dims()[0]
    }

    /// The token table as it is now, `(tokens, dim)`.
    pub fn table(&self) -> Result<Matrix, NnError> {
        Ok(Matrix::from_vec(self.tokens(), self.table.dims()[1], self.table.flatten_all()?.to_vec1::<f32>()?)?)
    }

    /// Unit vectors of texts, `(texts, dim)`, as part of the graph that a loss differentiates.
    pub fn forward(&self, texts: &[&[u32]]) -> Result<Tensor, NnError> {
        self.check(texts)?;
        // How often each token occurs, times the table: the sum of the tokens' rows, which has the direction of their mean. For a table
        // of a few thousand rows the product and its gradient cost less than gathering rows and scattering gradients.
        let mut counts = vec![0.0f32; texts.len() * self.tokens()];
        for (row, text) in counts.chunks_exact_mut(self.tokens()).zip(texts) {
            for &id in *text {
                row[id as usize] += 1.0;
            }
        }
        let sum = Tensor::from_vec(counts, (texts.len(), self.tokens()), self.table.device())?.matmul(&self.table)?;
        let sum = match &self.head {
            Some(head) => l2_normalize(&sum)?.matmul(head)?,
            None => sum,
        };
        l2_normalize(&sum)
    }

    /// The same vectors, for scoring.
    pub fn encode(&self, texts: &[&[u32]]) -> Result<Matrix, NnError> {
        let dim = self.table.dim(1)?;
        let mut values = Vec::with_capacity(texts.len() * dim);
        for chunk in texts.chunks(512) {
            values.extend(self.forward(chunk)?.detach().flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(Matrix::from_vec(texts.len(), dim, values)?)
    }

    /// Writes what was trained to a safetensors file.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), NnError> {
        self.params.save(path)
    }

    /// Reads what an encoder of the same shape saved.
    pub fn load(&self, path: impl AsRef<Path>) -> Result<(), NnError> {
        self.params.load(path)
    }
}

impl Tunable for TokenEncoder {
    fn params(&self) -> &Parameters {
        &self.params
    }

    fn forward(&self, texts: &[&[u32]]) -> Result<Tensor, NnError> {
        Self::forward(self, texts)
    }

    fn is_small(&self) -> bool {
        true
    }

    fn check(&self, texts: &[&[u32]]) -> Result<(), NnError> {
        match texts.iter().copied().flatten().max() {
            Some(&id) if id as usize >= self.tokens() => Err(NnError::Argument {
                name: "token",
                got: id.to_string(),
                expected: format!("below the {} rows of the table", self.tokens()),
            }),
            _ => Ok(()),
        }
    }
}

fn not_for(objective: &'static str, got: &str, expected: &str) -> NnError {
    NnError::Argument { name: "examples", got: got.to_owned(), expected: format!("{expected} for {objective}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_abs_diff_eq;
    use eas_losses::fixtures::tiny;

    /// Forty tokens with random rows; token `i` should come to mean the same as `i + 20`.
    fn table() -> Matrix {
        let mut rng = SplitMix64::new(3);
        Matrix::from_vec(40, 8, (0..320).map(|_| rng.normal() as f32).collect()).unwrap()
    }

    fn pairs() -> Vec<Example> {
        (0..20).map(|i| Example::Pair(vec![i], vec![i + 20])).collect()
    }

    fn found(encoder: &TokenEncoder) -> usize {
        let ids: Vec<[u32; 1]> = (0..40).map(|i| [i]).collect();
        let rows: Vec<&[u32]> = ids.iter().map(|id| &id[..]).collect();
        let (queries, texts) = (encoder.encode(&rows[..20]).unwrap(), encoder.encode(&rows[20..]).unwrap());
        let nearest = |q: usize| eas_tensor::top_k(&eas_tensor::kernels::dot_rows(queries.row(q), &texts), 1)[0].id;
        (0..20).filter(|&q| nearest(q) == q).count()
    }

    #[test]
    fn losses_on_the_fixture_equal_pytorch() {
        let t = tiny(DType::F64, &Device::Cpu).unwrap();
        let n = t.first_negatives().unwrap();
        for (objective, negatives, expected) in [
            (Objective::CosineRegression, None, 0.005_402_065_2),
            (Objective::CosineRegression, Some(&n), 0.200_203_806_9),
            (Objective::TRIPLET, Some(&n), 0.188_087_097_1),
            (Objective::CONTRASTIVE, Some(&n), 0.013_777_535_1),
            (Objective::MULTIPLE_NEGATIVES, None, 0.002_287_716_8),
            (Objective::MULTIPLE_NEGATIVES, Some(&n), 0.380_757_854_5),
        ] {
            let loss = objective.loss(&t.anchors, &t.positives, negatives).unwrap().to_scalar::<f64>().unwrap();
            assert_abs_diff_eq!(loss, expected, epsilon = 1e-9);
        }
        let apart = Objective::CosineRegression.labelled(&t.anchors, &t.positives, &[0.0; 4]).unwrap();
        assert_abs_diff_eq!(apart.to_scalar::<f64>().unwrap(), 0.871_893_335_0, epsilon = 1e-9);
    }

    #[test]
    fn pairs_are_learned_by_table_and_by_head() {
        let tuner = EmbeddingFineTuner { batch: 20, epochs: 40, warm_up: 4, ..EmbeddingFineTuner::default() };
        for trainable in [Trainable::TokenTable, Trainable::Head, Trainable::Both] {
            let encoder = TokenEncoder::new(&table(), trainable).unwrap();
            let before = found(&encoder);
            let losses = tuner.run(&encoder, &pairs()).unwrap();
            assert_eq!(losses.len(), 40);
            assert!(losses[39] < losses[0], "{trainable:?}");
            assert!(found(&encoder) > before, "{trainable:?}: {before} to {}", found(&encoder));
            let again = TokenEncoder::new(&table(), trainable).unwrap();
            assert_eq!(tuner.run(&again, &pairs()).unwrap(), losses);
            let same = again.table().unwrap() == table();
            assert_eq!(same, trainable == Trainable::Head);
        }
    }

    #[test]
    fn a_saved_encoder_is_the_same() {
        let encoder = TokenEncoder::new(&table(), Trainable::Both).unwrap();
        EmbeddingFineTuner { warm_up: 0, ..EmbeddingFineTuner::default() }.run(&encoder, &pairs()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tuned.safetensors");
        encoder.save(&path).unwrap();
        let other = TokenEncoder::new(&table(), Trainable::Both).unwrap();
        let texts: Vec<&[u32]> = vec![&[1, 2], &[], &[7]];
        assert_ne!(other.encode(&texts).unwrap(), encoder.encode(&texts).unwrap());
        other.load(&path).unwrap();
        assert_eq!(other.encode(&texts).unwrap(), encoder.encode(&texts).unwrap());
        assert_eq!(encoder.encode(&texts).unwrap().row(1), [0.0; 8]);
        assert!(TokenEncoder::new(&table(), Trainable::Head).unwrap().load(&path).is_err());
    }

    #[test]
    fn what_an_objective_cannot_learn_from_is_refused() {
        let encoder = TokenEncoder::new(&table(), Trainable::TokenTable).unwrap();
        let tuner = EmbeddingFineTuner { warm_up: 0, ..EmbeddingFineTuner::default() };
        let fails = |tuner: EmbeddingFineTuner, examples: &[Example], part: &str| {
            let error = tuner.run(&encoder, examples).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        let with = |objective| EmbeddingFineTuner { objective, ..tuner };
        fails(with(Objective::TRIPLET), &pairs(), "triplets for the triplet loss");
        fails(with(Objective::CONTRASTIVE), &pairs(), "positives only");
        let labelled = [Example::Labelled(vec![0], vec![1], 0.5)];
        fails(with(Objective::MULTIPLE_NEGATIVES), &labelled, "labelled pairs");
        assert!(with(Objective::CosineRegression).run(&encoder, &labelled).is_ok());
        fails(with(Objective::CosineRegression), &[Example::Labelled(vec![0], vec![1], f64::NAN)], "similarity is NaN");
        fails(EmbeddingFineTuner { warm_up: 500, ..tuner }, &pairs(), "shorter than the run of 3 steps");
        fails(tuner, &[Example::Pair(vec![40], vec![1])], "token is 40");
        fails(tuner, &[], "number of examples");
        fails(EmbeddingFineTuner { batch: 0, ..tuner }, &pairs(), "batch");
        fails(EmbeddingFineTuner { learning_rate: f64::NAN, ..tuner }, &pairs(), "learning rate");
        let mixed = [pairs()[0].clone(), labelled[0].clone()];
        fails(tuner, &mixed, "another kind at 1");
        assert!(TokenEncoder::new(&Matrix::zeros(0, 4), Trainable::Head).is_err());
    }
}
