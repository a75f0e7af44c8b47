//! Verification in stages: a cheap index proposes candidates, a scorer with other evidence judges them, and what it can't decide goes to
//! people.
//!
//! All scores are similarities: larger is more alike. The thresholds come from labelled queries, see [`first_threshold`] and [`Band::calibrate`].

use eas_ann::{Metric, VectorIndex};
use eas_eval::threshold::Calibrator;

use crate::RetrievalError;

/// Judges a query and one candidate. It should know more than the index does: a second look at the same similarity decides nothing.
pub trait PairScorer<Q: ?Sized> {
    /// How alike they are.
    fn score(&self, query: &Q, id: u64) -> Result<f64, RetrievalError>;
}

impl<Q: ?Sized, F: Fn(&Q, u64) -> Result<f64, RetrievalError>> PairScorer<Q> for F {
    fn score(&self, query: &Q, id: u64) -> Result<f64, RetrievalError> {
        self(query, id)
    }
}

/// What is accepted and what people look at in the second stage.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Band {
    /// A match from this score on.
    pub accept: f64,
    /// No match below this score; at most `accept`.
    pub review: f64,
}

impl Band {
    /// Both edges from queries whose best candidate is known to be right or not. `accept` is the score with the largest recall among those
    /// from which on a share of at least `precision` is right; `review` is the largest score below which a share of at most `missed` is.
    ///
    /// A precision that no score has is an error, as are scores that aren't finite and queries that are all right or all wrong.
    pub fn calibrate(scores: &[f64], right: &[bool], precision: f64, missed: f64) -> Result<Self, RetrievalError> {
        if !(0.0..=1.0).contains(&missed) {
            return Err(RetrievalError::argument("missed", &missed, "in [0, 1]"));
        }
        let calibrator = by_score(scores, right)?;
        let accept = -calibrator.for_precision(precision)?.threshold;
        // From the strictest cut on: the first that leaves few enough right ones below it.
        let few = calibrator.cuts().iter().find(|cut| {
            let (lost, below) = (cut.counts.false_negatives, cut.counts.false_negatives + cut.counts.true_negatives);
            lost as f64 <= missed * below as f64
        });
        Ok(Self { accept, review: few.map_or(f64::NEG_INFINITY, |cut| -cut.threshold).min(accept) })
    }
}

/// The similarity that a share of at least `recall` of the true candidates reach: the largest such threshold between two similarities.
pub fn first_threshold(similarities: &[f64], is_true: &[bool], recall: f64) -> Result<f64, RetrievalError> {
    Ok(-by_score(similarities, is_true)?.for_recall(recall)?.threshold)
}

/// The calibrator wants distances.
fn by_score(scores: &[f64], labels: &[bool]) -> Result<Calibrator, RetrievalError> {
    let distances: Vec<f64> = scores.iter().map(|score| -score).collect();
    Ok(Calibrator::from_scores(&distances, labels)?)
}

/// What becomes of a query.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It is none of those known.
    NoMatch {
        /// The stage that decided: 1 when nothing was similar enough, 2 when no candidate scored enough.
        stage: u8,
    },
    /// It is this one.
    Match {
        /// The candidate with the best score.
        id: u64,
        /// Its score.
        confidence: f64,
    },
    /// Somebody has to look.
    Review {
        /// The candidate with the best score.
        id: u64,
        /// Its score.
        confidence: f64,
        /// Why it isn't decided.
        reason: String,
    },
}

/// What a pipeline did so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PipelineStats {
    /// Queries.
    pub queries: u64,
    /// Of these, without a candidate.
    pub no_match_1: u64,
    /// Candidates that the first stage let through, which is also the number of comparisons in the second.
    pub candidates_1: u64,
    /// Queries that were matched.
    pub matches_2: u64,
    /// Queries with candidates of which none scored enough.
    pub rejects_2: u64,
    /// Queries left to people.
    pub reviews: u64,
}

impl PipelineStats {
    /// Share of all queries that people have to look at; 0 before the first.
    pub fn review_rate(&self) -> f64 {
        self.reviews as f64 / self.queries.max(1) as f64
    }
}

/// An index, a scorer, and three thresholds.
#[derive(Debug)]
pub struct VerificationPipeline<I, S> {
    index: I,
    scorer: S,
    top_k: usize,
    similarity: f64,
    band: Band,
    stats: PipelineStats,
}

impl<I: VectorIndex, S> VerificationPipeline<I, S> {
    /// At most `top_k` candidates with a cosine of at least `similarity` go to the scorer, whose best one is judged by `band`.
    ///
    /// Refuses an index under another metric than cosine, a `top_k` of 0, and a band that is no band.
    pub fn new(index: I, scorer: S, top_k: usize, similarity: f64, band: Band) -> Result<Self, RetrievalError> {
        if index.metric() != Metric::Cosine {
            return Err(RetrievalError::argument("metric", &format!("{:?}", index.metric()), "Cosine"));
        }
        if top_k == 0 {
            return Err(RetrievalError::argument("top_k", &top_k, "at least 1"));
        }
        if similarity.is_nan() {
            return Err(RetrievalError::argument("similarity", &similarity, "a number"));
        }
        if band.review.is_nan() || band.accept.is_nan() || band.review > band.accept {
            return Err(RetrievalError::argument("band", &format!("{band:?}"), "review at most accept"));
        }
        Ok(Self { index, scorer, top_k, similarity, band, stats: PipelineStats::default() })
    }

    /// Judges one query: its embedding for the index, and whatever the scorer looks at. Of equal scores the lower id counts.
    pub fn verify<Q: ?Sized>(&mut self, embedding: &[f32], query: &Q) -> Result<Verdict, RetrievalError>
    where
        S: PairScorer<Q>,
    {
        let mut hits = self.index.search(embedding, self.top_k)?;
        hits.retain(|hit| f64::from(hit.score) >= self.similarity);
        let mut best: Option<(u64, f64)> = None;
        for hit in &hits {
            let score = self.scorer.score(query, hit.id)?;
            if score.is_nan() {
                return Err(RetrievalError::argument("score", &format!("{score} for {}", hit.id), "a number"));
            }
            if best.is_none_or(|(id, top)| score > top || (score == top && hit.id < id)) {
                best = Some((hit.id, score));
            }
        }
        self.stats.queries += 1;
        self.stats.candidates_1 += hits.len() as u64;
        let Band { accept, review } = self.band;
        Ok(match best {
            None => {
                self.stats.no_match_1 += 1;
                Verdict::NoMatch { stage: 1 }
            }
            Some((id, confidence)) if confidence >= accept => {
                self.stats.matches_2 += 1;
                Verdict::Match { id, confidence }
            }
            Some((id, confidence)) if confidence >= review => {
                self.stats.reviews += 1;
                let reason = format!("{confidence:.3} is between {review:.3} and {accept:.3}");
                Verdict::Review { id, confidence, reason }
            }
            Some(_) => {
                self.stats.rejects_2 += 1;
                Verdict::NoMatch { stage: 2 }
            }
        })
    }

    /// What was done so far.
    pub fn stats(&self) -> PipelineStats {
        self.stats
    }
}

#[cfg(test)]
mod tests {
    use eas_ann::FlatIndex;
    use eas_tensor::Matrix;
    use eas_tensor::rng::SplitMix64;

    use super::*;

    fn index() -> FlatIndex {
        let mut index = FlatIndex::new(2, Metric::Cosine).unwrap();
        let rows = Matrix::from_rows(&[[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-1.0, 0.0]]).unwrap();
        index.add(&[4, 3, 2, 1], &rows).unwrap();
        index
    }

    /// The scores of the candidates 1 to 4 are the query.
    #[allow(clippy::unnecessary_wraps)] // the signature of a scorer
    fn scorer(query: &[f64; 4], id: u64) -> Result<f64, RetrievalError> {
        Ok(query[id as usize - 1])
    }

    const BAND: Band = Band { accept: 0.8, review: 0.5 };

    #[test]
    fn each_verdict_has_its_place() {
        let mut pipeline = VerificationPipeline::new(index(), scorer, 10, 0.7, BAND).unwrap();
        let mut verdict = |embedding: [f32; 2], scores| pipeline.verify(&embedding, &scores).unwrap();
        // Candidates of (1, 0): 4 and 3, with cosines 1 and 0.8.
        assert_eq!(verdict([1.0, 0.0], [0.9, 0.9, 0.1, 0.8]), Verdict::Match { id: 4, confidence: 0.8 });
        assert_eq!(verdict([2.0, 0.0], [0.0, 0.0, 0.9, 0.9]), Verdict::Match { id: 3, confidence: 0.9 });
        let review = verdict([1.0, 0.0], [0.9, 0.9, 0.5, 0.4]);
        assert!(matches!(review, Verdict::Review { id: 3, confidence: 0.5, reason } if reason.contains("0.500")));
        assert_eq!(verdict([1.0, 0.0], [1.0, 1.0, 0.49, 0.4]), Verdict::NoMatch { stage: 2 });
        assert_eq!(verdict([-0.6, -0.8], [1.0; 4]), Verdict::NoMatch { stage: 1 });
        let expected =
            PipelineStats { queries: 5, no_match_1: 1, candidates_1: 8, matches_2: 2, rejects_2: 1, reviews: 1 };
        assert_eq!(pipeline.stats(), expected);
        assert_eq!(pipeline.stats().review_rate(), 0.2);
        // Only the nearest is a candidate.
        let mut one = VerificationPipeline::new(index(), scorer, 1, 0.7, BAND).unwrap();
        let verdict = one.verify(&[1.0, 0.0], &[0.0, 0.0, 1.0, 0.3]).unwrap();
        assert_eq!((verdict, one.stats().candidates_1), (Verdict::NoMatch { stage: 2 }, 1));
    }

    /// The definitions, by trying every score as an edge.
    #[test]
    fn bands_are_the_best_there_are() {
        let mut rng = SplitMix64::new(6);
        for _ in 0..50 {
            let right: Vec<bool> = (0..80).map(|i| i < 2 || rng.chance(0.5)).collect();
            let scores: Vec<f64> =
                right.iter().map(|&r| (f64::from(u8::from(r)) + 1.2 * rng.normal()) * 8.0).map(f64::round).collect();
            if right.iter().all(|r| *r) {
                continue;
            }
            let count = |keep: &dyn Fn(f64) -> bool| {
                let kept = scores.iter().zip(&right).filter(|(s, _)| keep(**s));
                kept.fold((0, 0), |(n, r), (_, right)| (n + 1, r + usize::from(*right)))
            };
            let reached: Vec<(usize, f64)> = scores
                .iter()
                .map(|edge| (count(&|s| s >= *edge), *edge))
                .filter(|((n, r), _)| *r as f64 >= 0.8 * *n as f64)
                .map(|((_, r), edge)| (r, edge))
                .collect();
            let Ok(band) = Band::calibrate(&scores, &right, 0.8, 0.2) else {
                assert!(reached.is_empty());
                continue;
            };
            let (n, r) = count(&|s| s >= band.accept);
            assert!(r as f64 >= 0.8 * n as f64);
            assert_eq!(Some(r), reached.iter().map(|x| x.0).max());
            let (n, r) = count(&|s| s < band.review);
            assert!(r as f64 <= 0.2 * n as f64 && band.review <= band.accept);
            // No higher score would do, unless it is in the accepted part.
            for edge in scores.iter().filter(|s| **s > band.review && **s < band.accept) {
                let (n, r) = count(&|s| s < *edge);
                let between = scores.iter().any(|s| *s >= band.review && *s < *edge);
                assert!(!between || r as f64 > 0.2 * n as f64, "{edge} {band:?}");
            }
        }
    }

    #[test]
    fn the_first_threshold_keeps_the_stated_share() {
        let similarities: Vec<f64> = (0..40).map(|i| f64::from(i) / 40.0).collect();
        let is_true: Vec<bool> = (0..40).map(|i| i >= 20).collect();
        let threshold = first_threshold(&similarities, &is_true, 0.95).unwrap();
        // 19 of the 20 true ones are from number 21 on.
        assert!(similarities[20] < threshold && threshold <= similarities[21]);
        assert!(first_threshold(&similarities, &is_true[1..], 0.95).is_err());
    }

    #[test]
    fn bad_input_is_refused() {
        let flat = || FlatIndex::new(2, Metric::SquaredL2).unwrap();
        assert!(VerificationPipeline::new(flat(), scorer, 5, 0.5, BAND).is_err());
        assert!(VerificationPipeline::new(index(), scorer, 0, 0.5, BAND).is_err());
        assert!(VerificationPipeline::new(index(), scorer, 5, f64::NAN, BAND).is_err());
        for (accept, review) in [(0.5, 0.8), (f64::NAN, 0.1), (0.5, f64::NAN)] {
            assert!(VerificationPipeline::new(index(), scorer, 5, 0.5, Band { accept, review }).is_err());
        }
        let mut pipeline = VerificationPipeline::new(index(), scorer, 5, 0.5, BAND).unwrap();
        assert!(pipeline.verify(&[1.0], &[1.0; 4]).is_err());
        assert!(pipeline.verify(&[1.0, 0.0], &[f64::NAN; 4]).is_err());
        assert_eq!((pipeline.stats(), pipeline.stats().review_rate()), (PipelineStats::default(), 0.0));
        assert!(Band::calibrate(&[0.1, 0.9], &[true, false], 0.9, 0.1).is_err());
        assert!(Band::calibrate(&[0.1, 0.9], &[false, true], 0.9, 1.5).is_err());
        assert!(Band::calibrate(&[], &[], 0.9, 0.1).is_err());
    }
}
