//! Documents with a topic and a day: what is relevant to a question must be about its topic and recent.

use crate::DataError;
use crate::synth::directions::{around, direction};
use eas_tensor::Matrix;
use eas_tensor::rng::SplitMix64;

/// Sizes of a collection of dated documents.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DatedConfig {
    /// Documents.
    pub documents: usize,
    /// Queries.
    pub queries: usize,
    /// Topics.
    pub topics: usize,
    /// Days over which the documents are spread.
    pub days: f64,
    /// The first day on which a query is asked.
    pub asked_from: f64,
    /// Dimension.
    pub dim: usize,
    /// Length of a text's own part where its topic's is 1.
    pub noise: f64,
    /// Seed of the stream.
    pub seed: u64,
}

impl Default for DatedConfig {
    /// 3,000 documents on 25 topics over three years, 200 queries from day 400 on, 64 dimensions, noise 1.2; seed 6.
    fn default() -> Self {
        Self {
            documents: 3_000,
            queries: 200,
            topics: 25,
            days: 1_095.0,
            asked_from: 400.0,
            dim: 64,
            noise: 1.2,
            seed: 6,
        }
    }
}

/// Texts with their topics, days and unit vectors.
#[derive(Debug, Clone, PartialEq)]
pub struct Dated {
    /// Topic of each text.
    pub topics: Vec<usize>,
    /// Day of each text, with its fraction.
    pub days: Vec<f64>,
    /// Vector of each text; shape (texts, dim).
    pub vectors: Matrix,
}

/// Documents and queries on the same topics; days are uniform, of the queries from `asked_from` on.
///
/// # Errors
/// A size of 0, a period that is empty or not finite, noise that is negative or not finite.
pub fn dated(config: &DatedConfig) -> Result<(Dated, Dated), DataError> {
    let sizes = [config.documents, config.queries, config.topics, config.dim];
    let period = 0.0 <= config.asked_from && config.asked_from < config.days && config.days.is_finite();
    if sizes.contains(&0) || !period || !(config.noise >= 0.0 && config.noise.is_finite()) {
        let expected = "positive sizes, a period and noise of 0 or more";
        return Err(DataError::Argument { what: "dated configuration", given: format!("{config:?}"), expected });
    }
    let mut world = SplitMix64::stream(config.seed, 0);
    let centroids: Vec<Vec<f64>> = (0..config.topics).map(|_| direction(&mut world, config.dim)).collect();
    let draw = |n: usize, from: f64, stream: u64| {
        let mut rng = SplitMix64::stream(config.seed, stream);
        let (mut topics, mut days, mut vectors) = (Vec::new(), Vec::new(), Matrix::zeros(n, config.dim));
        for i in 0..n {
            topics.push(rng.below(config.topics));
            days.push(from + rng.uniform() * (config.days - from));
            vectors.row_mut(i).copy_from_slice(&around(&mut rng, &centroids[topics[i]], config.noise));
        }
        Dated { topics, days, vectors }
    };
    Ok((draw(config.documents, 0.0, 1), draw(config.queries, config.asked_from, 2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_topics_are_spread_evenly() {
        let (documents, queries) = dated(&DatedConfig::default()).unwrap();
        assert_eq!((documents.vectors.rows(), queries.vectors.rows()), (3_000, 200));
        assert!(queries.days.iter().all(|day| (400.0..1_095.0).contains(day)));
        let early = documents.days.iter().filter(|day| **day < 365.0).count();
        assert!((900..1_100).contains(&early), "{early}");
        for topic in 0..25 {
            let count = documents.topics.iter().filter(|t| **t == topic).count();
            assert!((80..165).contains(&count), "{count}");
        }
        for bad in [
            DatedConfig { topics: 0, ..DatedConfig::default() },
            DatedConfig { asked_from: 2_000.0, ..DatedConfig::default() },
            DatedConfig { noise: f64::NAN, ..DatedConfig::default() },
        ] {
            assert!(dated(&bad).is_err());
        }
    }
}
