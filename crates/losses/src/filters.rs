//! Which mined negatives to trust. The candidates most like an anchor are often positives that nobody labelled; a filter drops
//! those that it takes for such.

use crate::{LossError, not_negative};

/// A candidate for a negative and its cosine with the anchor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// The item.
    pub id: u64,
    /// Its cosine with the anchor.
    pub similarity: f64,
}

/// Gives a pair of items a score that is higher for likelier positives: a cross-encoder, or any slower and better judge than the
/// encoder in training.
pub trait PairScorer {
    /// The score of `anchor` and `candidate`.
    fn score(&self, anchor: u64, candidate: u64) -> f64;
}

impl<F: Fn(u64, u64) -> f64> PairScorer for F {
    fn score(&self, anchor: u64, candidate: u64) -> f64 {
        self(anchor, candidate)
    }
}

/// A rule that says which candidates are negatives.
#[derive(Clone, Copy)]
pub enum FalseNegativeFilter<'a> {
    /// Keeps candidates that a second judge scores below `threshold`.
    Score {
        /// The judge.
        scorer: &'a dyn PairScorer,
        /// The score from which a candidate counts as a positive.
        threshold: f64,
    },
    /// Keeps candidates of other clusters than the anchor's; item i is in cluster `clusters[i]`.
    Cluster {
        /// The cluster of each item.
        clusters: &'a [usize],
    },
    /// Keeps candidates that are less similar to the anchor than its positive is by more than `min_margin`
    /// (positive-aware mining, Moreira et al. 2024).
    Margin {
        /// By how much, in cosine.
        min_margin: f64,
    },
}

impl FalseNegativeFilter<'_> {
    /// The candidates that are kept, in their order. `positive` is the cosine of the anchor and its positive.
    ///
    /// Fails when the score or a similarity is NaN, a margin is negative, or an item has no cluster.
    pub fn keep(&self, anchor: u64, positive: f64, candidates: &[Candidate]) -> Result<Vec<Candidate>, LossError> {
        let mut kept = Vec::with_capacity(candidates.len());
        match *self {
            Self::Score { scorer, threshold } => {
                number("threshold", threshold)?;
                for candidate in candidates {
                    let score = scorer.score(anchor, candidate.id);
                    number("score", score)?;
                    if score < threshold {
                        kept.push(*candidate);
                    }
                }
            }
            Self::Cluster { clusters } => {
                let of = |id: u64| {
                    let cluster = usize::try_from(id).ok().and_then(|id| clusters.get(id));
                    cluster.copied().ok_or_else(|| {
                        LossError::Name(format!("item {id} has no cluster: {} items have one", clusters.len()))
                    })
                };
                let own = of(anchor)?;
                for candidate in candidates {
                    if of(candidate.id)? != own {
                        kept.push(*candidate);
                    }
                }
            }
            Self::Margin { min_margin } => {
                let verdicts = triage(positive, candidates, min_margin)?;
                let sure = candidates.iter().zip(verdicts).filter(|(_, verdict)| *verdict == Verdict::Negative);
                kept.extend(sure.map(|(candidate, _)| *candidate));
            }
        }
        Ok(kept)
    }
}

/// What the margin rule thinks of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Below `positive - margin`: a negative.
    Negative,
    /// In `[positive - margin, positive + margin)`: worth a person's look.
    Review,
    /// As similar as that or more: a positive, if not the same thing.
    Positive,
}

/// Sorts candidates by their distance from the positive's cosine, so that a person is asked about the doubtful ones only.
pub fn triage(positive: f64, candidates: &[Candidate], margin: f64) -> Result<Vec<Verdict>, LossError> {
    number("positive", positive)?;
    not_negative("margin", margin)?;
    let verdict = |candidate: &Candidate| {
        number("similarity", candidate.similarity)?;
        Ok(match candidate.similarity {
            s if s < positive - margin => Verdict::Negative,
            s if s < positive + margin => Verdict::Review,
            _ => Verdict::Positive,
        })
    };
    candidates.iter().map(verdict).collect()
}

fn number(name: &'static str, got: f64) -> Result<(), LossError> {
    if got.is_nan() { Err(LossError::Argument { name, got, expected: "a number" }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(similarities: &[f64]) -> Vec<Candidate> {
        similarities.iter().zip(0..).map(|(&similarity, id)| Candidate { id, similarity }).collect()
    }

    fn ids(kept: Result<Vec<Candidate>, LossError>) -> Vec<u64> {
        kept.unwrap().iter().map(|candidate| candidate.id).collect()
    }

    /// The cosines of fixture T and its negatives, and what margins of 0, .1 and .3 keep.
    #[test]
    fn margins_on_the_fixture() {
        let positive = [0.968_364_052, 0.946_864_153, 0.933_138_950, 0.884_615_385];
        let negatives = [
            [0.714_285_71, -0.761_904_76],
            [0.198_516_67, 0.482_758_62],
            [-0.486_264_54, 0.714_285_71],
            [0.891_042_11, -0.256_776_30],
        ];
        let keep = |min_margin| -> Vec<Vec<u64>> {
            let filter = FalseNegativeFilter::Margin { min_margin };
            positive.iter().zip(&negatives).map(|(&p, n)| ids(filter.keep(9, p, &candidates(n)))).collect()
        };
        let all_but_one = [vec![0, 1], vec![0, 1], vec![0, 1], vec![1]];
        assert_eq!((keep(0.0), keep(0.1)), (all_but_one.to_vec(), all_but_one.to_vec()));
        assert_eq!(keep(0.3), [vec![1], vec![0, 1], vec![0], vec![1]]);
        let lists: Vec<Vec<f64>> = negatives.iter().map(|n| n.to_vec()).collect();
        let masks = crate::mining::margin_filter(&positive, &lists, 0.3).unwrap();
        assert_eq!(masks, [[false, true], [true, true], [true, false], [false, true]]);
    }

    #[test]
    fn triage_has_a_band() {
        use Verdict::{Negative, Positive, Review};

        let verdicts = triage(0.5, &candidates(&[0.3, 0.375, 0.5, 0.625, 0.9]), 0.125).unwrap();
        assert_eq!(verdicts, [Negative, Review, Review, Positive, Positive]);
    }

    #[test]
    fn scores_and_clusters() {
        let c = candidates(&[0.9, 0.8, 0.7]);
        let scorer = |anchor: u64, candidate: u64| if anchor == 2 { candidate as f64 / 2.0 } else { 1.0 };
        let filter = FalseNegativeFilter::Score { scorer: &scorer, threshold: 0.5 };
        assert_eq!(ids(filter.keep(2, 0.0, &c)), [0]);
        let clusters = [4, 7, 4];
        let filter = FalseNegativeFilter::Cluster { clusters: &clusters };
        assert_eq!(ids(filter.keep(0, 0.0, &c)), [1]);
        assert!(filter.keep(3, 0.0, &c).unwrap_err().to_string().contains("item 3 has no cluster: 3 items"));
    }

    #[test]
    fn bad_numbers_are_refused() {
        let c = candidates(&[0.9]);
        assert!(FalseNegativeFilter::Margin { min_margin: -0.1 }.keep(0, 0.5, &c).is_err());
        assert!(FalseNegativeFilter::Margin { min_margin: 0.1 }.keep(0, f64::NAN, &c).is_err());
        assert!(triage(0.5, &candidates(&[f64::NAN]), 0.1).is_err());
        let nan = |_: u64, _: u64| f64::NAN;
        assert!(FalseNegativeFilter::Score { scorer: &nan, threshold: 0.5 }.keep(0, 0.5, &c).is_err());
        let one = |_: u64, _: u64| 1.0;
        assert!(FalseNegativeFilter::Score { scorer: &one, threshold: f64::NAN }.keep(0, 0.5, &c).is_err());
    }
}
