//! Classes from a few examples: the mean of a class's embeddings stands for it, a query goes to the nearest mean, and what is far from
//! all of them, or nearer to the ordinary, is refused.
//!
//! [`SupportSet`] grows one example at a time, [`Prototypes`] are fitted at once and give probabilities (Snell, Swersky and Zemel 2017),
//! [`Episodes`] measure how well an embedding serves classes that it was not trained on (Vinyals et al. 2016), [`OpenSet`] decides whether
//! a query is any of the known classes at all.

use std::collections::BTreeMap;

use eas_tensor::kernels::squared_l2;
use eas_tensor::rng::SplitMix64;
use eas_tensor::{Matrix, TensorError};

use crate::RetrievalError;

/// How far a query is from a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SupportMetric {
    /// Euclidean distance to the mean.
    Euclidean,
    /// 1 - cosine to the mean, in [0, 2]; 1 where one of them is zero.
    Cosine,
}

impl SupportMetric {
    fn distance(self, query: &[f32], mean: &[f64]) -> f64 {
        match self {
            Self::Euclidean => squared(query, mean).sqrt(),
            Self::Cosine => 1.0 - cosine(query, mean),
        }
    }
}

/// A class and the distance to it.
pub type Near = (u32, f64);

/// Classes, each known by the running mean of its examples. All vectors have one dimension.
///
/// ```
/// use eas_retrieval::fewshot::{SupportMetric, SupportSet};
///
/// let mut support = SupportSet::new(2, SupportMetric::Euclidean)?;
/// for example in [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]] {
///     support.add(7, &example)?;
/// }
/// assert_eq!(support.count(7), 3);
/// assert!(support.mean(7).unwrap()[0].abs() < 1e-12 && (support.mean(7).unwrap()[1] - 1.0 / 3.0).abs() < 1e-12);
/// assert_eq!(support.predict(&[0.0, 0.0], 5)?.len(), 1); // one class: still a list
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct SupportSet {
    dim: usize,
    metric: SupportMetric,
    classes: BTreeMap<u32, Support>,
}

#[derive(Debug, Clone)]
struct Support {
    count: usize,
    mean: Vec<f64>,
}

impl SupportSet {
    /// No class yet. Dimension 0 is an error.
    pub fn new(dim: usize, metric: SupportMetric) -> Result<Self, RetrievalError> {
        if dim == 0 {
            return Err(RetrievalError::argument("dimension", &dim, "at least 1"));
        }
        Ok(Self { dim, metric, classes: BTreeMap::new() })
    }

    /// Adds one example of `class`, `mean <- mean + (example - mean) / count`: every example weighs the same, whenever it came.
    pub fn add(&mut self, class: u32, example: &[f32]) -> Result<(), RetrievalError> {
        check(example, self.dim)?;
        let support = self.classes.entry(class).or_insert_with(|| Support { count: 0, mean: vec![0.0; self.dim] });
        support.count += 1;
        for (mean, x) in support.mean.iter_mut().zip(example) {
            *mean += (f64::from(*x) - *mean) / support.count as f64;
        }
        Ok(())
    }

    /// Adds each row under its class.
    pub fn extend(&mut self, examples: &Matrix, classes: &[u32]) -> Result<(), RetrievalError> {
        one_a_row(classes, examples)?;
        examples.iter_rows().zip(classes).try_for_each(|(row, class)| self.add(*class, row))
    }

    /// Number of classes.
    pub fn len(&self) -> usize {
        self.classes.len()
    }

    /// True without a class.
    pub fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// Examples of a class.
    pub fn count(&self, class: u32) -> usize {
        self.classes.get(&class).map_or(0, |support| support.count)
    }

    /// The mean of a class's examples.
    pub fn mean(&self, class: u32) -> Option<&[f64]> {
        self.classes.get(&class).map(|support| &*support.mean)
    }

    /// The `top_k` nearest classes, nearest first, ties by lower class; fewer when there are fewer, none from an empty set.
    pub fn predict(&self, query: &[f32], top_k: usize) -> Result<Vec<Near>, RetrievalError> {
        check(query, self.dim)?;
        let to = |(&class, support): (&u32, &Support)| (class, self.metric.distance(query, &support.mean));
        let mut near: Vec<Near> = self.classes.iter().map(to).collect();
        near.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
        near.truncate(top_k);
        Ok(near)
    }

    /// `softmax(-distance / temperature)` over all classes, likeliest first. These are shares among the known classes: they say nothing
    /// about whether the query is any of them.
    pub fn predict_proba(&self, query: &[f32], temperature: f64) -> Result<Vec<Near>, RetrievalError> {
        if !(temperature > 0.0 && temperature.is_finite()) {
            return Err(RetrievalError::argument("temperature", &temperature, "a positive number"));
        }
        let mut near = self.predict(query, usize::MAX)?;
        let logits: Vec<f64> = near.iter().map(|(_, distance)| -distance / temperature).collect();
        for ((_, p), log) in near.iter_mut().zip(log_softmax(&logits)) {
            *p = log.exp();
        }
        Ok(near)
    }
}

/// Class means, and probabilities by squared Euclidean distance to them.
#[derive(Debug, Clone, PartialEq)]
pub struct Prototypes {
    classes: Vec<u32>,
    means: Vec<Vec<f64>>,
}

impl Prototypes {
    /// The mean of the rows of each class. An empty support is an error.
    pub fn fit(support: &Matrix, classes: &[u32]) -> Result<Self, RetrievalError> {
        one_a_row(classes, support)?;
        if support.is_empty() {
            return Err(RetrievalError::argument("support", &"no example", "at least one"));
        }
        let mut set = SupportSet::new(support.dim(), SupportMetric::Euclidean)?;
        set.extend(support, classes)?;
        let (classes, means) = set.classes.into_iter().map(|(class, support)| (class, support.mean)).unzip();
        Ok(Self { classes, means })
    }

    /// The classes, ascending; columns of what the other functions return.
    pub fn classes(&self) -> &[u32] {
        &self.classes
    }

    /// The means, in the order of [`classes`](Self::classes).
    pub fn means(&self) -> &[Vec<f64>] {
        &self.means
    }

    /// `|q - c_k|^2` for each class.
    pub fn squared_distances(&self, query: &[f32]) -> Result<Vec<f64>, RetrievalError> {
        check(query, self.means.first().map_or(0, Vec::len))?;
        Ok(self.means.iter().map(|mean| squared(query, mean)).collect())
    }

    /// `log softmax(-scale |q - c_k|^2)` for each class.
    pub fn log_proba(&self, query: &[f32], scale: f64) -> Result<Vec<f64>, RetrievalError> {
        if !(scale > 0.0 && scale.is_finite()) {
            return Err(RetrievalError::argument("scale", &scale, "a positive number"));
        }
        let logits: Vec<f64> = self.squared_distances(query)?.iter().map(|d| -scale * d).collect();
        Ok(log_softmax(&logits))
    }

    /// The class of the nearest mean; ties go to the lower class.
    pub fn predict(&self, query: &[f32]) -> Result<u32, RetrievalError> {
        let distances = self.squared_distances(query)?;
        let nearest = (0..distances.len()).min_by(|&x, &y| distances[x].total_cmp(&distances[y]));
        Ok(nearest.map_or(0, |k| self.classes[k]))
    }

    /// `2 c_k . q - |c_k|^2` for each class: what a linear classifier with weights `2 c_k` and bias `-|c_k|^2` says. It is `|q|^2` minus the
    /// squared distance, so that its largest value is the nearest mean.
    pub fn linear_scores(&self, query: &[f32]) -> Result<Vec<f64>, RetrievalError> {
        check(query, self.means.first().map_or(0, Vec::len))?;
        let score = |mean: &Vec<f64>| {
            let product: f64 = mean.iter().zip(query).map(|(c, q)| c * f64::from(*q)).sum();
            2.0 * product - mean.iter().map(|c| c * c).sum::<f64>()
        };
        Ok(self.means.iter().map(score).collect())
    }
}

/// Tasks of `way` classes with `shot` examples each, and as many `queries` of each class to put into them.
#[derive(Debug, Clone)]
pub struct Episodes {
    classes: Vec<Vec<usize>>,
    rows: usize,
    way: usize,
    shot: usize,
    queries: usize,
    seed: u64,
}

/// The rows of one task; labels number its classes from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Episode {
    /// Example rows.
    pub support: Vec<usize>,
    /// Their classes.
    pub support_labels: Vec<u32>,
    /// Rows to be classified, none of them an example.
    pub queries: Vec<usize>,
    /// Their true classes.
    pub query_labels: Vec<u32>,
}

impl Episodes {
    /// Tasks from labelled rows. Classes with fewer than `shot + queries` rows are left out; fewer than `way` others are an error, as are
    /// zeros.
    pub fn new(labels: &[u32], way: usize, shot: usize, queries: usize, seed: u64) -> Result<Self, RetrievalError> {
        for (name, value) in [("way", way), ("shot", shot), ("queries", queries)] {
            if value == 0 {
                return Err(RetrievalError::argument(name, &value, "at least 1"));
            }
        }
        let mut classes: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (row, &label) in labels.iter().enumerate() {
            classes.entry(label).or_default().push(row);
        }
        let needed = shot.saturating_add(queries);
        let classes: Vec<Vec<usize>> = classes.into_values().filter(|rows| rows.len() >= needed).collect();
        if classes.len() < way {
            let given = format!("{way} with {} classes of {needed} rows", classes.len());
            return Err(RetrievalError::argument("way", &given, "at most the number of classes that are large enough"));
        }
        Ok(Self { classes, rows: labels.len(), way, shot, queries, seed })
    }

    /// Task `number`, always the same.
    pub fn draw(&self, number: u64) -> Episode {
        let mut rng = SplitMix64::stream(self.seed, number);
        let mut episode = Episode { support: vec![], support_labels: vec![], queries: vec![], query_labels: vec![] };
        for (label, class) in (0..).zip(rng.sample_indices(self.classes.len(), self.way)) {
            let members = &self.classes[class];
            let picks = rng.sample_indices(members.len(), self.shot + self.queries);
            for (i, pick) in picks.into_iter().enumerate() {
                let (rows, labels) = if i < self.shot {
                    (&mut episode.support, &mut episode.support_labels)
                } else {
                    (&mut episode.queries, &mut episode.query_labels)
                };
                rows.push(members[pick]);
                labels.push(label);
            }
        }
        episode
    }

    /// The share of queries that go to the nearest prototype of their class, for each of the first `count` tasks; `embeddings` has a row for
    /// each label that the tasks were made from.
    pub fn accuracies(&self, embeddings: &Matrix, count: usize) -> Result<Vec<f64>, RetrievalError> {
        if embeddings.rows() != self.rows {
            let (given, expected) = (embeddings.rows(), self.rows);
            return Err(RetrievalError::Length { what: "embeddings", given, of: "labels", expected });
        }
        embeddings.check_finite()?;
        let accuracy = |number: usize| {
            let episode = self.draw(number as u64);
            let prototypes = Prototypes::fit(&embeddings.select(&episode.support), &episode.support_labels)?;
            let means: Vec<Vec<f32>> =
                prototypes.means.iter().map(|mean| mean.iter().map(|x| *x as f32).collect()).collect();
            let nearest = |row: usize| {
                let to = |k: &usize| squared_l2(embeddings.row(row), &means[*k]);
                (0..means.len()).min_by(|x, y| to(x).total_cmp(&to(y)))
            };
            let truth = episode.queries.iter().zip(&episode.query_labels);
            let right = truth.filter(|(row, label)| nearest(**row) == Some(**label as usize)).count();
            Ok(right as f64 / episode.queries.len() as f64)
        };
        (0..count).map(accuracy).collect()
    }
}

/// Known classes beside the ordinary: a query is flagged when it is nearer to a class than to the ordinary by more than a threshold.
///
/// The score is `d(q, ordinary) - min_k d(q, class k)`, and the threshold a quantile of the scores of ordinary queries, so that a stated share
/// of them is flagged. Adding classes raises scores: calibrate again after each.
#[derive(Debug, Clone)]
pub struct OpenSet {
    support: SupportSet,
    ordinary: Vec<f64>,
    threshold: f64,
}

/// What [`OpenSet`] says about a query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judgement {
    /// Whether the score is above the threshold.
    pub flagged: bool,
    /// The nearest class, flagged or not.
    pub class: u32,
    /// How much nearer that class is than the ordinary.
    pub score: f64,
    /// The cosine of the query and the ordinary's mean.
    pub similarity_to_ordinary: f64,
}

impl OpenSet {
    /// A detector of the classes of `support`. `ordinary` are embeddings from which the ordinary's mean is taken; `held_out` are others, on
    /// which at most the share `false_positives` is flagged.
    ///
    /// An empty support and empty matrices are errors.
    pub fn calibrate(
        support: SupportSet,
        ordinary: &Matrix,
        held_out: &Matrix,
        false_positives: f64,
    ) -> Result<Self, RetrievalError> {
        if support.is_empty() {
            return Err(RetrievalError::argument("support", &"no class", "at least one"));
        }
        if !(0.0..1.0).contains(&false_positives) {
            return Err(RetrievalError::argument("false positive rate", &false_positives, "in [0, 1)"));
        }
        for (name, rows) in [("ordinary", ordinary), ("held out", held_out)] {
            if rows.rows() == 0 {
                return Err(RetrievalError::argument(name, &"no row", "at least one"));
            }
        }
        let mut mean = SupportSet::new(support.dim, support.metric)?;
        mean.extend(ordinary, &vec![0; ordinary.rows()])?;
        let ordinary = mean.mean(0).unwrap_or_default().to_vec();
        let mut detector = Self { support, ordinary, threshold: f64::INFINITY };
        let scores = held_out.iter_rows().map(|row| Ok(detector.judge(row)?.score));
        let mut scores = scores.collect::<Result<Vec<f64>, RetrievalError>>()?;
        scores.sort_by(|a, b| b.total_cmp(a));
        // The first score that may not be flagged any more.
        let allowed = (false_positives * scores.len() as f64) as usize;
        detector.threshold = scores[allowed.min(scores.len() - 1)];
        Ok(detector)
    }

    /// The score above which a query is flagged.
    pub fn threshold(&self) -> f64 {
        self.threshold
    }

    /// The classes that are known.
    pub fn support(&self) -> &SupportSet {
        &self.support
    }

    /// What the query looks like.
    pub fn judge(&self, query: &[f32]) -> Result<Judgement, RetrievalError> {
        let nearest = self.support.predict(query, 1)?;
        let (class, distance) = nearest.first().copied().unwrap_or((0, f64::INFINITY));
        let score = self.support.metric.distance(query, &self.ordinary) - distance;
        let similarity_to_ordinary = cosine(query, &self.ordinary);
        Ok(Judgement { flagged: score > self.threshold, class, score, similarity_to_ordinary })
    }
}

fn one_a_row(classes: &[u32], rows: &Matrix) -> Result<(), RetrievalError> {
    if classes.len() == rows.rows() {
        return Ok(());
    }
    Err(RetrievalError::Length { what: "classes", given: classes.len(), of: "rows", expected: rows.rows() })
}

fn check(vector: &[f32], dim: usize) -> Result<(), RetrievalError> {
    if vector.len() != dim {
        return Err(RetrievalError::Length { what: "values", given: vector.len(), of: "dimensions", expected: dim });
    }
    match vector.iter().position(|x| !x.is_finite()) {
        Some(column) => Err(TensorError::NotFinite { row: 0, column, value: vector[column] }.into()),
        None => Ok(()),
    }
}

/// `|a - b|^2`, in four partial sums.
fn squared(a: &[f32], b: &[f64]) -> f64 {
    let mut sums = [0.0; 4];
    let (a4, b4) = (a.chunks_exact(4), b.chunks_exact(4));
    let rest = a4.remainder().iter().zip(b4.remainder()).map(|(x, y)| (f64::from(*x) - y).powi(2)).sum::<f64>();
    for (x, y) in a4.zip(b4) {
        for lane in 0..4 {
            sums[lane] += (f64::from(x[lane]) - y[lane]).powi(2);
        }
    }
    (sums[0] + sums[1]) + (sums[2] + sums[3]) + rest
}

fn cosine(a: &[f32], b: &[f64]) -> f64 {
    let (mut product, mut left, mut right) = (0.0, 0.0, 0.0);
    for (x, y) in a.iter().zip(b) {
        let x = f64::from(*x);
        product += x * y;
        left += x * x;
        right += y * y;
    }
    let lengths = (left * right).sqrt();
    if lengths > 0.0 { (product / lengths).clamp(-1.0, 1.0) } else { 0.0 }
}

fn log_softmax(logits: &[f64]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let normal = largest + logits.iter().map(|x| (x - largest).exp()).sum::<f64>().ln();
    logits.iter().map(|x| x - normal).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUPPORT: [[f32; 2]; 6] = [[1.0, 0.0], [0.8, 0.4], [0.0, 1.0], [0.2, 0.8], [-0.1, 1.2], [-1.0, -0.5]];
    const LABELS: [u32; 6] = [0, 0, 1, 1, 1, 2];
    const QUERIES: [[f32; 2]; 3] = [[0.6, 0.5], [-0.4, 0.3], [0.9, 0.1]];

    fn matrix(rows: &[[f32; 2]]) -> Matrix {
        Matrix::from_rows(rows).unwrap()
    }

    fn near(found: &[f64], expected: &[f64], tolerance: f64) {
        assert_eq!(found.len(), expected.len());
        for (x, y) in found.iter().zip(expected) {
            assert!((x - y).abs() <= tolerance, "{found:?} instead of {expected:?}");
        }
    }

    /// Numbers of a float64 program.
    #[test]
    fn prototypes_distances_and_probabilities_are_the_stated_ones() {
        let prototypes = Prototypes::fit(&matrix(&SUPPORT), &LABELS).unwrap();
        assert_eq!(prototypes.classes(), [0, 1, 2]);
        near(&prototypes.means()[0], &[0.9, 0.2], 1e-7);
        near(&prototypes.means()[1], &[1.0 / 30.0, 1.0], 1e-7);
        let distances = [[0.18, 0.571_111_11, 3.56], [1.7, 0.677_777_78, 1.0], [0.01, 1.561_111_11, 3.97]];
        for (query, expected) in QUERIES.iter().zip(&distances) {
            near(&prototypes.squared_distances(query).unwrap(), expected, 2e-7);
        }
        let predicted: Vec<u32> = QUERIES.iter().map(|q| prototypes.predict(q).unwrap()).collect();
        assert_eq!(predicted, [0, 1, 0]);
        let log: Vec<Vec<f64>> = QUERIES.iter().map(|q| prototypes.log_proba(q, 1.0).unwrap()).collect();
        let first: Vec<f64> = log[0].iter().map(|x| x.exp()).collect();
        near(&first, &[0.584_674_81, 0.395_418_50, 0.019_906_69], 1e-7);
        let loss = -(log[0][0] + log[1][2] + log[2][0]) / 3.0;
        assert!((loss - 0.600_419_346_3).abs() < 1e-7, "{loss}");
    }

    #[test]
    fn the_nearest_mean_is_a_linear_classifier() {
        let mut rng = SplitMix64::new(4);
        let mut random = |n: usize| {
            let values = (0..n * 9).map(|_| rng.normal() as f32).collect();
            Matrix::from_vec(n, 9, values).unwrap()
        };
        let (support, queries) = (random(30), random(200));
        let labels: Vec<u32> = (0..30).map(|i| i % 7).collect();
        let prototypes = Prototypes::fit(&support, &labels).unwrap();
        for query in queries.iter_rows() {
            let length: f64 = query.iter().map(|x| f64::from(*x).powi(2)).sum();
            let from_scores: Vec<f64> = prototypes.linear_scores(query).unwrap().iter().map(|s| length - s).collect();
            near(&from_scores, &prototypes.squared_distances(query).unwrap(), 1e-10);
        }
    }

    #[test]
    fn a_running_mean_is_the_mean_of_all() {
        let mut rng = SplitMix64::new(8);
        let rows: Vec<[f32; 2]> = (0..500).map(|_| [rng.normal() as f32, rng.uniform() as f32]).collect();
        let mut support = SupportSet::new(2, SupportMetric::Euclidean).unwrap();
        support.extend(&matrix(&rows), &[3; 500]).unwrap();
        let mean = |axis: usize| rows.iter().map(|row| f64::from(row[axis])).sum::<f64>() / 500.0;
        near(support.mean(3).unwrap(), &[mean(0), mean(1)], 1e-12);
        assert_eq!((support.count(3), support.count(4), support.len()), (500, 0, 1));
    }

    #[test]
    fn probabilities_are_a_softmax_of_distances() {
        let mut support = SupportSet::new(1, SupportMetric::Euclidean).unwrap();
        for (class, at) in [(5, 0.3), (1, -0.9), (3, 1.4)] {
            support.add(class, &[at]).unwrap();
        }
        let shares = |t| -> Vec<f64> { support.predict_proba(&[0.0], t).unwrap().iter().map(|p| p.1).collect() };
        near(&shares(1.0), &[0.531_439_22, 0.291_660_03, 0.176_900_75], 1e-7);
        near(&shares(0.1), &[0.997_510_76, 0.002_472_58, 0.000_016_660_1], 1e-7);
        let order: Vec<u32> = support.predict(&[0.0], 2).unwrap().iter().map(|p| p.0).collect();
        assert_eq!(order, [5, 1]);
    }

    #[test]
    fn cosine_ignores_length_and_ties_go_to_the_lower_class() {
        let mut support = SupportSet::new(2, SupportMetric::Cosine).unwrap();
        for (class, row) in [(9, [5.0, 0.0]), (2, [1.0, 0.0]), (4, [0.0, 0.0]), (1, [-3.0, 0.0])] {
            support.add(class, &row).unwrap();
        }
        let found = support.predict(&[2.0, 0.0], 9).unwrap();
        assert_eq!(found, [(2, 0.0), (9, 0.0), (4, 1.0), (1, 2.0)]);
        assert_eq!(support.predict(&[0.0, 0.0], 1).unwrap(), [(1, 1.0)]);
    }

    #[test]
    fn episodes_hold_what_they_promise() {
        let labels: Vec<u32> = (0..60).map(|i| i % 6).chain([7, 7]).collect();
        let episodes = Episodes::new(&labels, 4, 3, 5, 1).unwrap();
        for number in 0..50 {
            let episode = episodes.draw(number);
            assert_eq!((episode.support.len(), episode.queries.len()), (12, 20));
            let mut rows: Vec<usize> = episode.support.iter().chain(&episode.queries).copied().collect();
            rows.sort_unstable();
            rows.dedup();
            assert_eq!(rows.len(), 32);
            let mut of: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
            let support = episode.support.iter().zip(&episode.support_labels);
            for (&row, &label) in support.chain(episode.queries.iter().zip(&episode.query_labels)) {
                of.entry(label).or_default().push(labels[row]);
            }
            assert!(of.values().all(|classes| classes.len() == 8 && classes.iter().all(|c| *c == classes[0])));
            assert_eq!(of.len(), 4);
        }
        assert_eq!(episodes.draw(3), episodes.draw(3));
        assert_ne!(episodes.draw(3), episodes.draw(4));
        // An embedding that is the class itself is never wrong; one that is nothing is right by chance.
        let truth = Matrix::from_vec(62, 1, labels.iter().map(|&l| l as f32).collect()).unwrap();
        assert_eq!(episodes.accuracies(&truth, 20).unwrap(), [1.0; 20]);
        assert_eq!(episodes.accuracies(&Matrix::zeros(62, 1), 20).unwrap(), [0.25; 20]);
    }

    #[test]
    fn a_detector_flags_the_stated_share_of_the_ordinary() {
        let mut rng = SplitMix64::new(2);
        let mut cloud = |n: usize, at: f32| {
            let rows: Vec<[f32; 2]> = (0..n).map(|_| [rng.normal() as f32, at + rng.normal() as f32]).collect();
            matrix(&rows)
        };
        let mut support = SupportSet::new(2, SupportMetric::Euclidean).unwrap();
        support.extend(&cloud(20, 8.0), &[6; 20]).unwrap();
        let held_out = cloud(1_000, 0.0);
        let detector = OpenSet::calibrate(support.clone(), &cloud(100, 0.0), &held_out, 0.01).unwrap();
        let flagged = |rows: &Matrix| rows.iter_rows().filter(|row| detector.judge(row).unwrap().flagged).count();
        assert_eq!(flagged(&held_out), 10);
        assert!((2..25).contains(&flagged(&cloud(1_000, 0.0))));
        assert!(flagged(&cloud(1_000, 8.0)) > 990);
        assert_eq!(detector.judge(&[0.0, 8.0]).unwrap().class, 6);
        let one = OpenSet::calibrate(support.clone(), &cloud(5, 0.0), &cloud(1, 0.0), 0.99).unwrap();
        assert!(one.threshold().is_finite());
        assert!(OpenSet::calibrate(support.clone(), &Matrix::zeros(0, 2), &held_out, 0.01).is_err());
        assert!(OpenSet::calibrate(support.clone(), &held_out, &Matrix::zeros(0, 2), 0.01).is_err());
        assert!(OpenSet::calibrate(support.clone(), &Matrix::zeros(1, 3), &held_out, 0.01).is_err());
        for share in [-0.1, 1.0, f64::NAN] {
            assert!(OpenSet::calibrate(support.clone(), &held_out, &held_out, share).is_err());
        }
        let nothing = SupportSet::new(2, SupportMetric::Cosine).unwrap();
        assert!(OpenSet::calibrate(nothing, &held_out, &held_out, 0.01).is_err());
    }

    #[test]
    fn bad_input_is_refused() {
        assert!(SupportSet::new(0, SupportMetric::Cosine).is_err());
        let mut support = SupportSet::new(2, SupportMetric::Euclidean).unwrap();
        assert!(support.predict(&[1.0, 2.0], 3).unwrap().is_empty());
        assert!(support.predict_proba(&[1.0, 2.0], 1.0).unwrap().is_empty());
        for row in [&[1.0][..], &[1.0, f32::NAN], &[f32::INFINITY, 0.0], &[]] {
            assert!(support.add(1, row).is_err() && support.predict(row, 1).is_err());
        }
        assert!(support.is_empty());
        assert!(support.extend(&matrix(&SUPPORT), &[1, 2]).is_err());
        for t in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(support.predict_proba(&[1.0, 2.0], t).is_err());
        }
        assert!(Prototypes::fit(&Matrix::zeros(0, 2), &[]).is_err());
        assert!(Prototypes::fit(&matrix(&SUPPORT), &[1]).is_err());
        let prototypes = Prototypes::fit(&matrix(&SUPPORT), &LABELS).unwrap();
        assert!(prototypes.predict(&[1.0]).is_err() && prototypes.linear_scores(&[f32::NAN, 1.0]).is_err());
        assert!(prototypes.log_proba(&[1.0, 1.0], 0.0).is_err());
        for (way, shot, queries) in [(0, 1, 1), (1, 0, 1), (1, 1, 0), (4, 1, 1), (2, 2, 2), (1, usize::MAX, 1)] {
            assert!(Episodes::new(&LABELS, way, shot, queries, 0).is_err(), "{way} {shot} {queries}");
        }
        let episodes = Episodes::new(&LABELS, 2, 1, 1, 0).unwrap();
        assert!(episodes.accuracies(&Matrix::zeros(5, 2), 3).is_err());
        assert!(episodes.accuracies(&Matrix::zeros(6, 2), 0).unwrap().is_empty());
        assert!(episodes.accuracies(&Matrix::from_vec(6, 1, vec![f32::NAN; 6]).unwrap(), 1).is_err());
    }
}
