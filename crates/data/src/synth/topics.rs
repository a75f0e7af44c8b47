//! Documents from known topics: the generative model of latent Dirichlet allocation (Blei, Ng and Jordan, JMLR 2003).

use crate::DataError;
use eas_tensor::rng::SplitMix64;

/// Sizes and concentrations of a planted-topic corpus.
#[derive(Debug, Clone)]
pub struct TopicConfig {
    /// Number of topics.
    pub topics: usize,
    /// Number of distinct words.
    pub vocabulary: usize,
    /// Number of documents.
    pub documents: usize,
    /// Words in each document.
    pub words: usize,
    /// Concentration of a topic's words; small makes topics of few words.
    pub eta: f64,
    /// Concentration of a document's topics; small makes documents of few topics.
    pub alpha: f64,
    /// Seed of the stream.
    pub seed: u64,
}

impl Default for TopicConfig {
    /// 5 topics over 200 words, 600 documents of 80 words, eta 0.05, alpha 0.2, seed 4.
    fn default() -> Self {
        Self { topics: 5, vocabulary: 200, documents: 600, words: 80, eta: 0.05, alpha: 0.2, seed: 4 }
    }
}

/// A corpus and the parameters it was drawn from.
#[derive(Debug, Clone)]
pub struct TopicCorpus {
    /// Words of each document, in the order drawn, as indices into the vocabulary.
    pub documents: Vec<Vec<usize>>,
    /// Word probabilities of each topic; shape (topics, vocabulary), rows sum to 1.
    pub beta: Vec<Vec<f64>>,
    /// Topic probabilities of each document; shape (documents, topics), rows sum to 1.
    pub theta: Vec<Vec<f64>>,
}

impl TopicCorpus {
    /// Draws the topics, then each document: its topic mixture, and for each word a topic and a word of that topic.
    pub fn generate(config: &TopicConfig) -> Result<Self, DataError> {
        let counts = [config.topics, config.vocabulary, config.documents, config.words];
        let positive = |x: f64| x.is_finite() && x > 0.0;
        if counts.contains(&0) || !positive(config.eta) || !positive(config.alpha) {
            return Err(DataError::Argument {
                what: "topic configuration",
                given: format!("{config:?}"),
                expected: "positive sizes and concentrations",
            });
        }
        let mut rng = SplitMix64::new(config.seed);
        let beta: Vec<Vec<f64>> = (0..config.topics).map(|_| rng.dirichlet(config.eta, config.vocabulary)).collect();
        let mut documents = Vec::with_capacity(config.documents);
        let mut theta = Vec::with_capacity(config.documents);
        for _ in 0..config.documents {
            let mixture = rng.dirichlet(config.alpha, config.topics);
            let words = (0..config.words).map(|_| {
                let topic = rng.weighted(&mixture);
                rng.weighted(&beta[topic])
            });
            documents.push(words.collect());
            theta.push(mixture);
        }
        Ok(Self { documents, beta, theta })
    }

    /// The topic with the largest share of document `document`.
    pub fn dominant_topic(&self, document: usize) -> usize {
        let shares = &self.theta[document];
        (0..shares.len()).fold(0, |best, k| if shares[k] > shares[best] { k } else { best })
    }

    /// Perplexity of the corpus under the parameters it was drawn from: the least that a model can be expected to reach.
    pub fn true_perplexity(&self) -> f64 {
        let mut log_likelihood = 0.0;
        let mut words = 0;
        for (document, theta) in self.documents.iter().zip(&self.theta) {
            for &word in document {
                let p: f64 = theta.iter().zip(&self.beta).map(|(share, topic)| share * topic[word]).sum();
                log_likelihood += p.max(f64::MIN_POSITIVE).ln();
            }
            words += document.len();
        }
        (-log_likelihood / words as f64).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_has_the_stated_shape_and_is_repeatable() {
        let corpus = TopicCorpus::generate(&TopicConfig::default()).unwrap();
        assert_eq!(corpus.documents.len(), 600);
        assert!(corpus.documents.iter().all(|words| words.len() == 80));
        for row in corpus.beta.iter().chain(&corpus.theta) {
            assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        }
        let again = TopicCorpus::generate(&TopicConfig::default()).unwrap();
        assert_eq!(corpus.documents, again.documents);
    }

    #[test]
    fn words_follow_their_document_topics() {
        let corpus = TopicCorpus::generate(&TopicConfig::default()).unwrap();
        // Expected count of each word under the true mixture, against the drawn count, over the whole corpus.
        let mut expected = vec![0.0; 200];
        let mut drawn = vec![0.0; 200];
        for (words, theta) in corpus.documents.iter().zip(&corpus.theta) {
            for &word in words {
                drawn[word] += 1.0;
            }
            for (w, slot) in expected.iter_mut().enumerate() {
                *slot += 80.0 * (0..5).map(|k| theta[k] * corpus.beta[k][w]).sum::<f64>();
            }
        }
        for (e, d) in expected.iter().zip(&drawn) {
            assert!((d - e).abs() <= 6.0 * e.sqrt() + 3.0, "expected {e}, drawn {d}");
        }
        let uniform = corpus.true_perplexity();
        assert!(uniform > 2.0 && uniform < 60.0, "{uniform}");
    }

    #[test]
    fn empty_or_improper_configurations_are_refused() {
        for bad in [
            TopicConfig { topics: 0, ..TopicConfig::default() },
            TopicConfig { words: 0, ..TopicConfig::default() },
            TopicConfig { eta: 0.0, ..TopicConfig::default() },
            TopicConfig { alpha: f64::NAN, ..TopicConfig::default() },
        ] {
            assert!(TopicCorpus::generate(&bad).is_err());
        }
    }
}
