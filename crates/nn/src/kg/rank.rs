//! Filtered ranks: where the true answer stands among the candidates that are not known to be true as well.

use super::{KgError, KgModel, KnowledgeGraph, Triple};

/// Which entities compete with the true tail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Candidates {
    /// Every entity of the graph.
    All,
    /// Entities of the true tail's kind.
    Typed,
}

/// Ranks of a set of test triples, summed up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RankSummary {
    /// Triples ranked.
    pub triples: usize,
    /// Mean reciprocal rank.
    pub mrr: f64,
    /// Share with rank at most 1.
    pub hits_at_1: f64,
    /// Share with rank at most 10.
    pub hits_at_10: f64,
}

impl RankSummary {
    /// Sums up ranks; an error when there are none.
    pub fn of(ranks: &[f64]) -> Result<Self, KgError> {
        if ranks.is_empty() {
            return Err(KgError::Argument { name: "number of ranks", got: "0".to_owned(), expected: "at least 1" });
        }
        let mean = |value: &dyn Fn(f64) -> f64| ranks.iter().map(|&rank| value(rank)).sum::<f64>() / ranks.len() as f64;
        Ok(Self {
            triples: ranks.len(),
            mrr: mean(&|rank| 1.0 / rank),
            hits_at_1: mean(&|rank| f64::from(u8::from(rank <= 1.0))),
            hits_at_10: mean(&|rank| f64::from(u8::from(rank <= 10.0))),
        })
    }
}

/// The rank of `answer` among `candidates` by score, best first, from 1.
///
/// Candidates in `excluded` don't compete: the other known answers (without this filter a model is punished for ranking one
/// truth above another), and usually the head itself. Equal scores share the average of their ranks, so that a model that gives
/// all candidates one score gets the middle rank rather than the first. A score that is NaN counts as the lowest. The answer
/// always competes, whether or not it is in either list; repeated candidates count once each.
///
/// ```
/// use eas_nn::kg::filtered_rank;
///
/// let scores = [0.9, 0.5, 0.7, 0.5];
/// let all = [0, 1, 2, 3];
/// assert_eq!(filtered_rank(|id| scores[id as usize], 1, &all, &[]), 3.5);
/// assert_eq!(filtered_rank(|id| scores[id as usize], 1, &all, &[0, 2]), 1.5);
/// ```
pub fn filtered_rank(score: impl Fn(u32) -> f32, answer: u32, candidates: &[u32], excluded: &[u32]) -> f64 {
    let score = |id| {
        let value = score(id);
        if value.is_nan() { f32::NEG_INFINITY } else { value }
    };
    let own = score(answer);
    let (mut better, mut equal) = (0u32, 0u32);
    for &candidate in candidates {
        if candidate == answer || excluded.contains(&candidate) {
            continue;
        }
        let other = score(candidate);
        better += u32::from(other > own);
        equal += u32::from(other == own);
    }
    1.0 + f64::from(better) + 0.5 * f64::from(equal)
}

/// The filtered rank of the tail of each triple of `test`.
///
/// `known` holds everything known to be true, training and test facts alike: its other tails are filtered out. With
/// `exclude_head` the head doesn't compete either; a translation by almost nothing (a symmetric relation in TransE) would
/// otherwise always find the head itself first.
pub fn tail_ranks(
    model: &KgModel,
    known: &KnowledgeGraph,
    test: &[Triple],
    candidates: Candidates,
    exclude_head: bool,
) -> Result<Vec<f64>, KgError> {
    let everything: Vec<u32> = (0..known.entities() as u32).collect();
    test.iter()
        .map(|&Triple { head, relation, tail }| {
            known.check_entity(tail)?;
            let place = model.place(head, &[relation])?;
            let competing = match candidates {
                Candidates::All => everything.as_slice(),
                Candidates::Typed => known.members(known.kind(tail)),
            };
            let mut excluded = known.neighbours(head, relation).to_vec();
            if exclude_head {
                excluded.push(head);
            }
            let score = |id: u32| model.fit(&place, id);
            Ok(filtered_rank(score, tail, competing, &excluded))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use eas_tensor::rng::SplitMix64;

    /// The average, over all orders of equal scores, of the position in a sorted list.
    fn by_sorting(scores: &[f32], answer: u32, candidates: &[u32], excluded: &[u32]) -> f64 {
        let mut kept: Vec<f32> = candidates
            .iter()
            .filter(|&&id| id != answer && !excluded.contains(&id))
            .map(|&id| scores[id as usize])
            .collect();
        let own = scores[answer as usize];
        kept.push(own);
        kept.sort_by(|a, b| b.total_cmp(a));
        let first = kept.iter().position(|&s| s == own).unwrap();
        let last = kept.iter().rposition(|&s| s == own).unwrap();
        1.0 + (first + last) as f64 / 2.0
    }

    #[test]
    fn ranks_equal_positions_in_a_sorted_list() {
        for seed in 0..50 {
            let mut rng = SplitMix64::new(seed);
            let scores: Vec<f32> = (0..20).map(|_| rng.below(6) as f32).collect();
            let n = rng.below(20);
            let candidates: Vec<u32> = rng.sample_indices(20, n).iter().map(|&i| i as u32).collect();
            let excluded: Vec<u32> = rng.sample_indices(20, 5).iter().map(|&i| i as u32).collect();
            let answer = rng.below(20) as u32;
            assert_eq!(
                filtered_rank(|id| scores[id as usize], answer, &candidates, &excluded),
                by_sorting(&scores, answer, &candidates, &excluded)
            );
        }
    }

    #[test]
    fn nan_is_last_and_no_candidate_means_first() {
        let scores = [f32::NAN, 0.0, -1.0];
        assert_eq!(filtered_rank(|id| scores[id as usize], 0, &[0, 1, 2], &[]), 3.0);
        assert_eq!(filtered_rank(|id| scores[id as usize], 2, &[0, 1, 2], &[]), 2.0);
        assert_eq!(filtered_rank(|id| scores[id as usize], 0, &[], &[]), 1.0);
    }

    #[test]
    fn a_summary_counts_hits_and_refuses_nothing() {
        let summary = RankSummary::of(&[1.0, 4.0, 10.0, 12.5]).unwrap();
        assert_eq!(summary.triples, 4);
        assert!((summary.mrr - (1.0 + 0.25 + 0.1 + 0.08) / 4.0).abs() < 1e-12);
        assert_eq!((summary.hits_at_1, summary.hits_at_10), (0.25, 0.75));
        assert!(RankSummary::of(&[]).is_err());
    }
}
