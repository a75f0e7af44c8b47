//! WordNet glosses as vectors: the real collection on which listings 1.8 and 1.10 measure.

use eas_data::wordnet::WordNet;
use eas_tensor::Matrix;
use eas_tensor::rng::SplitMix64;
use eas_text::encoder::SentenceEncoder;

/// Encodes `n` random glosses to search in, and `queries` others to search for. Shapes `(n, dim)` and `(queries, dim)`.
pub fn gloss_vectors(
    encoder: &dyn SentenceEncoder,
    n: usize,
    queries: usize,
    seed: u64,
) -> anyhow::Result<(Matrix, Matrix)> {
    let wordnet = WordNet::load()?;
    let synsets = wordnet.synsets();
    let chosen = SplitMix64::new(seed).sample_indices(synsets.len(), n + queries);
    let glosses: Vec<&str> = chosen.iter().map(|&i| synsets[i].gloss.as_str()).collect();
    anyhow::ensure!(
        glosses.len() == n + queries,
        "WordNet has only {} glosses",
        glosses.len()
    );
    let (stored, asked) = glosses.split_at(n);
    Ok((encoder.encode(stored)?, encoder.encode(asked)?))
}
