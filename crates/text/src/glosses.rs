//! WordNet glosses as vectors: a real collection of up to 117,000 short texts to measure indexes on.

use crate::TextError;
use crate::encoder::SentenceEncoder;
use eas_data::wordnet::WordNet;
use eas_tensor::Matrix;
use eas_tensor::rng::SplitMix64;

/// Encodes `n` random glosses to search in, and `queries` others to search for. Shapes `(n, dim)` and `(queries, dim)`. An error when
/// WordNet hasn't so many.
pub fn gloss_vectors(
    encoder: &dyn SentenceEncoder,
    n: usize,
    queries: usize,
    seed: u64,
) -> Result<(Matrix, Matrix), TextError> {
    let wordnet = WordNet::load()?;
    let synsets = wordnet.synsets();
    if n.saturating_add(queries) > synsets.len() {
        return Err(TextError::Argument {
            name: "glosses to store and to ask for",
            got: n.saturating_add(queries).to_string(),
            expected: format!("at most the {} of WordNet", synsets.len()),
        });
    }
    let chosen = SplitMix64::new(seed).sample_indices(synsets.len(), n + queries);
    let glosses: Vec<&str> = chosen.iter().map(|&i| synsets[i].gloss.as_str()).collect();
    let (stored, asked) = glosses.split_at(n);
    Ok((encoder.encode(stored)?, encoder.encode(asked)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoder::StaticEncoder;

    #[test]
    fn rows_are_drawn_by_the_seed_and_no_query_is_stored() {
        let encoder = StaticEncoder::load().unwrap();
        let (stored, asked) = gloss_vectors(&encoder, 200, 20, 7).unwrap();
        assert_eq!((stored.rows(), asked.rows(), stored.dim()), (200, 20, encoder.dim()));
        assert_eq!(gloss_vectors(&encoder, 200, 20, 7).unwrap().0, stored);
        assert_ne!(gloss_vectors(&encoder, 200, 20, 8).unwrap().0, stored);
        let error = gloss_vectors(&encoder, usize::MAX, 1, 7).unwrap_err().to_string();
        assert!(error.contains("of WordNet"), "{error}");
    }
}
