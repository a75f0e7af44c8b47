//! Fitting a table of token vectors so that the mean of a text's rows stands where a teacher puts the text.
//!
//! The start is the teacher's own vector of each vocabulary entry, projected by PCA and weighted against frequency. Gradient descent
//! (Adam, Kingma and Ba 2015) then lowers three losses on batches of texts:
//!
//! - direction: one minus the cosine between a text's vector and its teacher's;
//! - neighbourhood: the divergence between the teacher's and the table's softmax over the other texts of the batch, as in stochastic
//!   neighbour embedding (Hinton and Roweis 2002), so that near texts come out in the teacher's order;
//! - synonyms: InfoNCE (van den Oord et al. 2018) over pairs of words that mean the same, since a teacher of sentences says little about
//!   single words.

use crate::TextError;
use eas_tensor::Matrix;
use eas_tensor::gemm::matmul_transposed;
use eas_tensor::pca::Pca;
use eas_tensor::rng::SplitMix64;
use rayon::prelude::*;

/// Texts as token ids, and the teacher's vector of each.
#[derive(Debug, Clone)]
pub struct Corpus {
    /// Token ids of each text, without special tokens.
    pub texts: Vec<Vec<u32>>,
    /// Row i is the teacher's vector of text i; shape `(texts, teacher's dim)`.
    pub targets: Matrix,
}

/// What [`Distill::fit`] reads.
#[derive(Debug)]
pub struct Lessons<'a> {
    /// The teacher's vector of each vocabulary entry on its own.
    pub tokens: &'a Matrix,
    /// Share of running text that each entry makes up.
    pub frequency: &'a [f64],
    /// Sentences.
    pub sentences: &'a Corpus,
    /// Words and short phrases.
    pub words: &'a Corpus,
    /// Pairs of words with the same meaning, as token ids.
    pub synonyms: &'a [(Vec<u32>, Vec<u32>)],
}

/// The fit's settings.
#[derive(Debug, Clone)]
pub struct Distill {
    /// Length of the table's rows.
    pub dim: usize,
    /// Batches of each kind.
    pub steps: usize,
    /// Texts in a batch.
    pub batch: usize,
    /// Adam's first step size; it falls linearly to zero.
    pub learning_rate: f32,
    /// Temperature of the neighbourhood loss.
    pub temperature: f32,
    /// Weight of the losses on words relative to those on sentences.
    pub word_weight: f32,
    /// Weight of the synonym loss.
    pub synonym_weight: f32,
    /// Temperature of the synonym loss.
    pub synonym_temperature: f32,
    /// A token of this frequency starts with half weight: `a` of a / (a + frequency).
    pub smoothing: f64,
    /// Seed of the batches.
    pub seed: u64,
}

impl Default for Distill {
    fn default() -> Self {
        Self {
            dim: 256,
            steps: 500,
            batch: 512,
            learning_rate: 2e-3,
            temperature: 0.05,
            word_weight: 0.5,
            synonym_weight: 0.3,
            synonym_temperature: 0.1,
            smoothing: 5e-4,
            seed: 42,
        }
    }
}

/// The mean losses of a step, for progress.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Steps done.
    pub step: usize,
    /// One minus cosine, on sentences.
    pub direction: f32,
    /// Divergence of neighbourhoods, on sentences.
    pub neighbourhood: f32,
}

impl Distill {
    /// The table, one row a vocabulary entry; `report` is called after every step.
    ///
    /// An error when shapes disagree, a corpus is empty, an id lies beyond the vocabulary, or a value isn't finite.
    pub fn fit(&self, lessons: &Lessons<'_>, mut report: impl FnMut(Progress)) -> Result<Matrix, TextError> {
        self.check(lessons)?;
        let (tokens, sentences, words) = (lessons.tokens, lessons.sentences, lessons.words);
        let projection = projection(&[&sentences.targets, &words.targets, tokens], self.dim)?;
        let targets = |corpus: &Corpus| -> Result<Matrix, TextError> {
            let mut projected = matmul_transposed(&corpus.targets, &projection)?;
            projected.normalize_rows();
            Ok(projected)
        };
        let (sentence_targets, word_targets) = (targets(sentences)?, targets(words)?);
        let mut table = self.start(tokens, lessons.frequency, &projection)?;
        let mut adam = Adam::new(table.as_slice().len());
        let mut gradient = Matrix::zeros(table.rows(), table.dim());
        for step in 0..self.steps {
            gradient.as_mut_slice().fill(0.0);
            let mut rng = SplitMix64::stream(self.seed, step as u64);
            let (direction, neighbourhood) =
                self.imitate(&table, &sentences.texts, &sentence_targets, 1.0, &mut rng, &mut gradient)?;
            self.imitate(&table, &words.texts, &word_targets, self.word_weight, &mut rng, &mut gradient)?;
            self.unite_synonyms(&table, lessons.synonyms, &mut rng, &mut gradient)?;
            let warm = ((step + 1) as f32 / 20.0).min(1.0);
            let rate = self.learning_rate * warm * (1.0 - step as f32 / self.steps as f32);
            adam.step(table.as_mut_slice(), gradient.as_slice(), rate);
            report(Progress { step: step + 1, direction, neighbourhood });
        }
        table.check_finite()?;
        Ok(table)
    }

    fn check(&self, lessons: &Lessons<'_>) -> Result<(), TextError> {
        let argument =
            |name, got: String, expected: &str| Err(TextError::Argument { name, got, expected: expected.to_owned() });
        let vocabulary = lessons.tokens.rows();
        if lessons.frequency.len() != vocabulary {
            return argument("frequency", lessons.frequency.len().to_string(), "one value a token");
        }
        if self.dim == 0 || self.dim > lessons.tokens.dim() {
            return argument("dim", self.dim.to_string(), "between 1 and the teacher's");
        }
        if self.batch < 2 {
            return argument("batch", self.batch.to_string(), "at least 2");
        }
        for corpus in [lessons.sentences, lessons.words] {
            if corpus.texts.is_empty() || corpus.texts.len() != corpus.targets.rows() {
                let got = format!("{} texts, {} targets", corpus.texts.len(), corpus.targets.rows());
                return argument("corpus", got, "as many targets as texts, at least one");
            }
            corpus.targets.check_finite()?;
        }
        lessons.tokens.check_finite()?;
        let pairs = lessons.synonyms.iter().flat_map(|(a, b)| a.iter().chain(b));
        let texts = lessons.sentences.texts.iter().chain(&lessons.words.texts).flatten();
        match texts.chain(pairs).find(|id| **id as usize >= vocabulary) {
            Some(id) => argument("token id", id.to_string(), "below the number of tokens"),
            None => Ok(()),
        }
    }

    /// The teacher's token vectors less their mean, projected, each scaled by a / (a + frequency).
    fn start(&self, tokens: &Matrix, frequency: &[f64], projection: &Matrix) -> Result<Matrix, TextError> {
        let mut mean = vec![0.0_f64; tokens.dim()];
        for row in tokens.iter_rows() {
            mean.iter_mut().zip(row).for_each(|(m, x)| *m += f64::from(*x));
        }
        let mut centred = tokens.clone();
        for (i, share) in frequency.iter().enumerate() {
            let weight = self.smoothing / (self.smoothing + share);
            for (x, m) in centred.row_mut(i).iter_mut().zip(&mean) {
                *x = ((f64::from(*x) - m / tokens.rows() as f64) * weight) as f32;
            }
        }
        Ok(matmul_transposed(&centred, projection)?)
    }

    /// Adds the gradient of the direction and neighbourhood losses on a random batch; returns both losses.
    fn imitate(
        &self,
        table: &Matrix,
        texts: &[Vec<u32>],
        targets: &Matrix,
        weight: f32,
        rng: &mut SplitMix64,
        gradient: &mut Matrix,
    ) -> Result<(f32, f32), TextError> {
        let chosen: Vec<usize> = (0..self.batch.min(texts.len())).map(|_| rng.below(texts.len())).collect();
        let batch = Batch::new(table, chosen.iter().map(|&i| texts[i].as_slice()).collect());
        let teacher = targets.select(&chosen);
        let size = chosen.len() as f32;
        let own = softmax_of_others(&matmul_transposed(&batch.units, &batch.units)?, self.temperature, &chosen);
        let wanted = softmax_of_others(&matmul_transposed(&teacher, &teacher)?, self.temperature, &chosen);
        let mut neighbourhood = 0.0;
        let mut slope = Matrix::zeros(chosen.len(), chosen.len());
        for i in 0..chosen.len() {
            for j in 0..chosen.len() {
                let (p, q) = (wanted.row(i)[j], own.row(i)[j]);
                if p > 0.0 {
                    neighbourhood += p * (p / q.max(1e-30)).ln();
                }
                let d = (q - p) / (self.temperature * size);
                slope.row_mut(i)[j] += d;
                slope.row_mut(j)[i] += d;
            }
        }
        let mut units = matmul_transposed(&slope, &transposed(&batch.units))?;
        let mut direction = 0.0;
        for i in 0..chosen.len() {
            let (row, target) = (units.row_mut(i), teacher.row(i));
            direction += 1.0 - batch.units.row(i).iter().zip(target).map(|(u, t)| u * t).sum::<f32>();
            row.iter_mut().zip(target).for_each(|(g, t)| *g = weight * (*g - t / size));
        }
        batch.backward(&units, gradient);
        Ok((direction / size, neighbourhood / size))
    }

    /// Adds the gradient of InfoNCE over a random batch of synonym pairs, in both directions.
    fn unite_synonyms(
        &self,
        table: &Matrix,
        pairs: &[(Vec<u32>, Vec<u32>)],
        rng: &mut SplitMix64,
        gradient: &mut Matrix,
    ) -> Result<(), TextError> {
        if pairs.is_empty() || self.synonym_weight == 0.0 {
            return Ok(());
        }
        let chosen: Vec<&(Vec<u32>, Vec<u32>)> = (0..self.batch).map(|_| &pairs[rng.below(pairs.len())]).collect();
        let left = Batch::new(table, chosen.iter().map(|p| p.0.as_slice()).collect());
        let right = Batch::new(table, chosen.iter().map(|p| p.1.as_slice()).collect());
        let count = chosen.len();
        let scale = self.synonym_weight / (2.0 * count as f32 * self.synonym_temperature);
        // A pair that shares a word with the row's own isn't a negative of it.
        let mut masked = matmul_transposed(&left.units, &right.units)?;
        for i in 0..count {
            for j in 0..count {
                let same = i != j && (chosen[i].0 == chosen[j].0 || chosen[i].1 == chosen[j].1);
                let score = &mut masked.row_mut(i)[j];
                *score = if same { f32::NEG_INFINITY } else { *score / self.synonym_temperature };
            }
        }
        let mut slope = softmax_rows(&masked);
        let down = transposed(&softmax_rows(&transposed(&masked)));
        for i in 0..count {
            for (x, y) in slope.row_mut(i).iter_mut().zip(down.row(i)) {
                *x = (*x + y) * scale;
            }
            slope.row_mut(i)[i] -= 2.0 * scale;
        }
        left.backward(&matmul_transposed(&slope, &transposed(&right.units))?, gradient);
        right.backward(&matmul_transposed(&transposed(&slope), &transposed(&left.units))?, gradient);
        Ok(())
    }
}

/// Principal directions of the teacher's vectors about the origin, which is the point that cosines are measured from; shape `(dim, teacher's dim)`.
fn projection(sets: &[&Matrix], dim: usize) -> Result<Matrix, TextError> {
    /// Rows of each set that take part: the directions settle long before this.
    const SAMPLE: usize = 20_000;
    let mut data = Matrix::zeros(0, 0);
    for set in sets {
        let step = set.rows().div_ceil(SAMPLE).max(1);
        let picked: Vec<usize> = (0..set.rows()).step_by(step).collect();
        let half = set.select(&picked);
        // With each vector's opposite beside it the mean is zero, and the covariance is the second moment.
        let opposite = half.as_slice().iter().map(|x| -x).collect();
        data.append(&half)?;
        data.append(&Matrix::from_vec(half.rows(), half.dim(), opposite)?)?;
    }
    Ok(Pca::fit(&data, dim)?.components)
}

fn transposed(m: &Matrix) -> Matrix {
    let mut out = Matrix::zeros(m.dim(), m.rows());
    let rows = m.rows();
    for (i, row) in m.iter_rows().enumerate() {
        for (slot, x) in out.as_mut_slice()[i..].iter_mut().step_by(rows).zip(row) {
            *slot = *x;
        }
    }
    out
}

fn softmax_rows(scores: &Matrix) -> Matrix {
    let mut out = scores.clone();
    for i in 0..out.rows() {
        eas_tensor::transformer::softmax(out.row_mut(i));
    }
    out
}

/// Softmax of each row over the other texts: itself, and copies of it that the batch holds by chance, get probability zero.
fn softmax_of_others(scores: &Matrix, temperature: f32, chosen: &[usize]) -> Matrix {
    let mut out = scores.clone();
    for i in 0..out.rows() {
        let row = out.row_mut(i);
        for (x, text) in row.iter_mut().zip(chosen) {
            *x /= temperature;
            if *text == chosen[i] {
                *x = f32::NEG_INFINITY;
            }
        }
        eas_tensor::transformer::softmax(row);
        for (x, text) in row.iter_mut().zip(chosen) {
            if *text == chosen[i] {
                *x = 0.0;
            }
        }
    }
    out
}

/// The vectors of a batch of texts, and what is needed to carry a gradient back to the table.
struct Batch<'a> {
    texts: Vec<&'a [u32]>,
    norms: Vec<f32>,
    units: Matrix,
}

impl<'a> Batch<'a> {
    fn new(table: &Matrix, texts: Vec<&'a [u32]>) -> Self {
        let dim = table.dim();
        let mut units = Matrix::zeros(texts.len(), dim);
        let mut norms = vec![0.0; texts.len()];
        units.as_mut_slice().par_chunks_mut(dim).zip(&texts).zip(&mut norms).for_each(|((row, ids), norm)| {
            for &id in *ids {
                row.iter_mut().zip(table.row(id as usize)).for_each(|(sum, x)| *sum += x);
            }
            // A text without tokens, or whose rows cancel, stays at zero and gets no gradient.
            *norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            if *norm > 1e-6 {
                for x in row.iter_mut() {
                    *x /= *norm;
                }
            } else {
                row.fill(0.0);
            }
        });
        Self { texts, norms, units }
    }

    /// Adds to `gradient` what a gradient on the unit vectors means for the rows of the table.
    fn backward(&self, units: &Matrix, gradient: &mut Matrix) {
        let mut slope = vec![0.0; units.dim()];
        for (i, ids) in self.texts.iter().enumerate() {
            if self.norms[i] <= 1e-6 {
                continue;
            }
            let (unit, given) = (self.units.row(i), units.row(i));
            let along: f32 = unit.iter().zip(given).map(|(u, g)| u * g).sum();
            for ((s, u), g) in slope.iter_mut().zip(unit).zip(given) {
                *s = (g - along * u) / self.norms[i];
            }
            for &id in *ids {
                gradient.row_mut(id as usize).iter_mut().zip(&slope).for_each(|(sum, s)| *sum += s);
            }
        }
    }
}

/// Adam's running moments.
struct Adam {
    first: Vec<f32>,
    second: Vec<f32>,
    steps: i32,
}

impl Adam {
    const BETA1: f32 = 0.9;
    const BETA2: f32 = 0.99;
    /// Values of one task.
    const BLOCK: usize = 1 << 16;

    fn new(parameters: usize) -> Self {
        Self { first: vec![0.0; parameters], second: vec![0.0; parameters], steps: 0 }
    }

    fn step(&mut self, parameters: &mut [f32], gradient: &[f32], rate: f32) {
        self.steps += 1;
        let first_scale = 1.0 / (1.0 - Self::BETA1.powi(self.steps));
        let second_scale = 1.0 / (1.0 - Self::BETA2.powi(self.steps));
        parameters
            .par_chunks_mut(Self::BLOCK)
            .zip(gradient.par_chunks(Self::BLOCK))
            .zip(self.first.par_chunks_mut(Self::BLOCK))
            .zip(self.second.par_chunks_mut(Self::BLOCK))
            .for_each(|(((parameters, gradient), first), second)| {
                for (((p, g), m), v) in parameters.iter_mut().zip(gradient).zip(first).zip(second) {
                    *m = Self::BETA1 * *m + (1.0 - Self::BETA1) * g;
                    *v = Self::BETA2 * *v + (1.0 - Self::BETA2) * g * g;
                    *p -= rate * *m * first_scale / ((*v * second_scale).sqrt() + 1e-8);
                }
            });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(rows: usize, dim: usize, seed: u64) -> Matrix {
        let mut rng = SplitMix64::new(seed);
        Matrix::from_vec(rows, dim, (0..rows * dim).map(|_| rng.normal() as f32).collect()).unwrap()
    }

    fn texts(count: usize, vocabulary: usize, seed: u64) -> Vec<Vec<u32>> {
        let mut rng = SplitMix64::new(seed);
        let mut text = || (0..=rng.below(4)).map(|_| rng.below(vocabulary) as u32).collect();
        (0..count).map(|_| text()).collect()
    }

    /// A teacher that itself is a mean of hidden token vectors: the fit can find them.
    fn planted() -> (Matrix, Corpus, Corpus) {
        let hidden = random(30, 12, 1);
        let corpus = |count, seed| {
            let texts = texts(count, 30, seed);
            let targets = Batch::new(&hidden, texts.iter().map(Vec::as_slice).collect()).units;
            Corpus { texts, targets }
        };
        (random(30, 12, 9), corpus(200, 2), corpus(100, 3))
    }

    #[test]
    fn the_fit_recovers_a_planted_table() {
        let (tokens, sentences, words) = planted();
        let lessons = Lessons {
            tokens: &tokens,
            frequency: &[1.0 / 30.0; 30],
            sentences: &sentences,
            words: &words,
            synonyms: &[],
        };
        let settings = Distill {
            dim: 12,
            steps: 300,
            batch: 64,
            learning_rate: 0.1,
            // From a random start a sharp neighbourhood loss holds the texts where they are.
            temperature: 1.0,
            smoothing: 1.0,
            ..Distill::default()
        };
        let mut losses = Vec::new();
        let table = settings.fit(&lessons, |p| losses.push(p.direction)).unwrap();
        assert_eq!((table.rows(), table.dim(), losses.len()), (30, 12, 300));
        assert!(losses[0] > 0.5 && losses[299] < 0.05, "{} to {}", losses[0], losses[299]);
        let again = settings.fit(&lessons, |_| ()).unwrap();
        assert_eq!(table, again, "the same seed gives the same table");
    }

    type Loss<'a> = &'a dyn Fn(&Matrix, &mut Matrix) -> f64;

    #[test]
    fn gradients_equal_finite_differences() {
        let table = random(10, 5, 1);
        let all = texts(8, 10, 2);
        let targets = {
            let mut t = random(8, 5, 3);
            t.normalize_rows();
            t
        };
        let settings =
            Distill { batch: 8, temperature: 0.5, synonym_temperature: 0.5, synonym_weight: 1.0, ..Distill::default() };
        let pairs: Vec<(Vec<u32>, Vec<u32>)> = texts(8, 10, 4).into_iter().zip(texts(8, 10, 5)).collect();
        let imitation = |table: &Matrix, gradient: &mut Matrix| {
            let (a, b) = settings.imitate(table, &all, &targets, 1.0, &mut SplitMix64::new(7), gradient).unwrap();
            f64::from(a) + f64::from(b)
        };
        let synonyms = |table: &Matrix, gradient: &mut Matrix| {
            settings.unite_synonyms(table, &pairs, &mut SplitMix64::new(8), gradient).unwrap();
            let mut rng = SplitMix64::new(8);
            let chosen: Vec<_> = (0..8).map(|_| &pairs[rng.below(8)]).collect();
            let unit = |ids: &[u32]| Batch::new(table, vec![ids]).units;
            let dot = |a: &[u32], b: &[u32]| {
                let (a, b) = (unit(a), unit(b));
                a.row(0).iter().zip(b.row(0)).map(|(x, y)| f64::from(x * y)).sum::<f64>() / 0.5
            };
            let mut loss = 0.0;
            for (i, own) in chosen.iter().enumerate() {
                let rival = |j: usize| i == j || (chosen[j].0 != own.0 && chosen[j].1 != own.1);
                let positive = dot(&own.0, &own.1);
                let across: f64 = (0..8).filter(|&j| rival(j)).map(|j| dot(&own.0, &chosen[j].1).exp()).sum();
                let down: f64 = (0..8).filter(|&j| rival(j)).map(|j| dot(&chosen[j].0, &own.1).exp()).sum();
                loss += (across.ln() + down.ln() - 2.0 * positive) / 16.0;
            }
            loss
        };
        let losses: [Loss<'_>; 2] = [&imitation, &synonyms];
        for loss in losses {
            let mut gradient = Matrix::zeros(10, 5);
            loss(&table, &mut gradient);
            let mut unused = Matrix::zeros(10, 5);
            let mut largest: f64 = 0.0;
            for at in 0..50 {
                let mut moved = |step: f32| {
                    let mut moved = table.clone();
                    moved.as_mut_slice()[at] += step;
                    loss(&moved, &mut unused)
                };
                let slope = (moved(5e-3) - moved(-5e-3)) / 1e-2;
                let got = f64::from(gradient.as_slice()[at]);
                assert!((slope - got).abs() < 2e-3, "value {at}: {got}, by differences {slope}");
                largest = largest.max(got.abs());
            }
            assert!(largest > 0.01, "some gradient isn't zero");
        }
    }

    #[test]
    fn bad_lessons_are_refused() {
        let (tokens, sentences, words) = planted();
        let fit = |settings: Distill, frequency: &[f64], sentences: &Corpus| {
            let lessons = Lessons { tokens: &tokens, frequency, sentences, words: &words, synonyms: &[] };
            settings.fit(&lessons, |_| ()).unwrap_err().to_string()
        };
        let frequency = [0.1; 30];
        let settings = || Distill { dim: 12, ..Distill::default() };
        assert!(fit(settings(), &frequency[1..], &sentences).contains("frequency is 29"));
        assert!(fit(Distill::default(), &frequency, &sentences).contains("dim is 256"));
        let mut bad = sentences.clone();
        bad.texts[3] = vec![30];
        assert!(fit(settings(), &frequency, &bad).contains("token id is 30"));
        let mut bad = sentences.clone();
        bad.targets.row_mut(0)[0] = f32::NAN;
        assert!(fit(settings(), &frequency, &bad).contains("NaN"));
        let mut bad = sentences.clone();
        bad.texts.clear();
        assert!(fit(settings(), &frequency, &bad).contains("0 texts, 200 targets"));
    }
}
