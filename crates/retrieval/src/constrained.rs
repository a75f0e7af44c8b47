//! Relevance under constraints on the whole list: diversity, freshness, coverage of price tiers.
//!
//! A constraint holds for the final list, not for each prefix of it: one item alone has no diversity. [`Reranker::quota`] takes items
//! by relevance as long as the rest can still satisfy the constraints, [`Reranker::swap`] mends and improves its list by exchanging
//! items, and [`Reranker::exact`] finds the best list of a small problem by branch and bound.

use crate::RetrievalError;

/// Candidates that [`Reranker`] accepts at most: it keeps their distances.
pub const MOST_CANDIDATES: usize = 5_000;
/// Candidates and items that [`Reranker::exact`] accepts at most.
pub const MOST_EXACT: (usize, usize) = (30, 10);

/// What a search brought back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Larger is better.
    pub relevance: f64,
    /// Age in days.
    pub age_days: f64,
    /// Price tier.
    pub tier: usize,
}

/// A demand on the final list.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Constraint {
    /// The mean distance over all pairs is at least this; one item alone has 0.
    Diversity(f64),
    /// A share of at least `min` of the items is at most `days` old.
    Freshness {
        /// The share.
        min: f64,
        /// The age in days.
        days: f64,
    },
    /// Items come from a share of at least `min` of `tiers` price tiers.
    PriceCoverage {
        /// The share.
        min: f64,
        /// Number of tiers there are.
        tiers: usize,
    },
}

/// A list and what it satisfies.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Positions of the items, most relevant first.
    pub items: Vec<usize>,
    /// Their summed relevance.
    pub relevance: f64,
    /// The constraints that the list satisfies.
    pub satisfied: Vec<Constraint>,
    /// The constraints that were given up because no list was found that satisfies them with the others.
    pub relaxed: Vec<Constraint>,
}

/// A problem: candidates, constraints in order of importance, and the length of the list.
#[derive(Debug, Clone)]
pub struct Reranker<'a> {
    candidates: &'a [Candidate],
    constraints: &'a [Constraint],
    k: usize,
    distances: Vec<f64>,
    farthest: f64,
    /// Positions by relevance, ties by position.
    order: Vec<usize>,
}

/// What a list must reach, as counts.
#[derive(Debug, Clone, Copy, Default)]
struct Needs {
    /// Summed distance over pairs.
    distance: f64,
    fresh: usize,
    days: f64,
    tiers: usize,
}

impl<'a> Reranker<'a> {
    /// Takes `candidates`, their pairwise `distance` (usually 1 - cosine) and the `constraints`, the most important first. `k` beyond
    /// the number of candidates takes all.
    ///
    /// # Errors
    /// `k = 0`, more than [`MOST_CANDIDATES`], a relevance, an age or a distance that isn't finite (or a negative distance), a
    /// constraint whose numbers make no sense, two of the same kind.
    pub fn new(
        candidates: &'a [Candidate],
        distance: impl Fn(usize, usize) -> f64,
        constraints: &'a [Constraint],
        k: usize,
    ) -> Result<Self, RetrievalError> {
        let n = candidates.len();
        if k == 0 {
            return Err(RetrievalError::argument("k", &k, "at least 1"));
        }
        if n > MOST_CANDIDATES {
            return Err(RetrievalError::argument("candidates", &n, "at most 5,000"));
        }
        for candidate in candidates {
            for (name, value) in [("relevance", candidate.relevance), ("age in days", candidate.age_days)] {
                if !value.is_finite() {
                    return Err(RetrievalError::argument(name, &value, "finite"));
                }
            }
        }
        for (at, constraint) in constraints.iter().enumerate() {
            let (share, sound) = match *constraint {
                Constraint::Diversity(min) => (0.0, min >= 0.0 && min.is_finite()),
                Constraint::Freshness { min, days } => (min, days >= 0.0),
                Constraint::PriceCoverage { min, tiers } => (min, tiers > 0),
            };
            let kind = std::mem::discriminant(constraint);
            let again = constraints[..at].iter().any(|other| std::mem::discriminant(other) == kind);
            if !sound || !(0.0..=1.0).contains(&share) || again {
                let expected = "once, with a share in [0, 1] and the rest zero or more";
                return Err(RetrievalError::argument("constraint", &format!("{constraint:?}"), expected));
            }
        }
        let mut distances = vec![0.0; n * n];
        for i in 0..n {
            for j in 0..i {
                let d = distance(i, j);
                if !(d >= 0.0 && d.is_finite()) {
                    return Err(RetrievalError::argument("distance", &d, "zero or more"));
                }
                distances[i * n + j] = d;
                distances[j * n + i] = d;
            }
        }
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|&a, &b| candidates[b].relevance.total_cmp(&candidates[a].relevance));
        let farthest = distances.iter().copied().fold(0.0, f64::max);
        Ok(Self { candidates, constraints, k: k.min(n), distances, farthest, order })
    }

    /// Mean distance over the pairs of `items`; 0 for fewer than two.
    pub fn diversity(&self, items: &[usize]) -> f64 {
        if items.len() < 2 { 0.0 } else { self.spread(items) / pairs(items.len()) }
    }

    /// The constraints that `items` as a final list violates.
    pub fn violated(&self, items: &[usize]) -> Vec<Constraint> {
        let fails = |c: &&Constraint| self.shortfall(items, &needs(std::slice::from_ref(*c), items.len())) > 0.0;
        self.constraints.iter().filter(fails).copied().collect()
    }

    /// The most relevant items, whatever the constraints.
    pub fn top_k(&self) -> Outcome {
        self.outcome(self.order[..self.k].to_vec(), vec![])
    }

    /// Greedy by relevance with look-ahead: an item is admitted only if the items left can still satisfy the counts, and could
    /// satisfy the diversity if they were as far apart as any two are. The latter is a hope, so that the list may lack diversity.
    pub fn quota(&self) -> Outcome {
        self.relaxing(|needs| {
            let items = self.greedy(needs);
            (self.shortfall(&items, needs) == 0.0).then_some(items)
        })
    }

    /// Starts from the list of [`Self::quota`] and exchanges one item at a time: first whatever brings the list closest to the
    /// constraints, then whatever gains most relevance without violating one, until no exchange helps.
    pub fn swap(&self) -> Outcome {
        self.relaxing(|needs| {
            let starts = [self.greedy(needs), self.order[..self.k].to_vec()];
            let lists = starts.into_iter().map(|start| self.exchange(start, needs));
            let feasible = lists.filter(|items| self.shortfall(items, needs) == 0.0);
            feasible.reduce(|a, b| if self.relevance(&b) > self.relevance(&a) { b } else { a })
        })
    }

    /// The most relevant list that satisfies the constraints, by branch and bound.
    ///
    /// # Errors
    /// More candidates or items than [`MOST_EXACT`].
    pub fn exact(&self) -> Result<Outcome, RetrievalError> {
        if self.candidates.len() > MOST_EXACT.0 || self.k > MOST_EXACT.1 {
            let given = format!("{} of {}", self.k, self.candidates.len());
            return Err(RetrievalError::argument("items of candidates", &given, "at most 10 of 30"));
        }
        Ok(self.relaxing(|needs| {
            let mut best = None;
            self.branch(&mut Vec::with_capacity(self.k), 0, needs, &mut best);
            best.map(|(_, items)| items)
        }))
    }

    /// Tries all constraints, then gives up as few as possible, of equally many the less important ones.
    fn relaxing(&self, solve: impl Fn(&Needs) -> Option<Vec<usize>>) -> Outcome {
        let m = self.constraints.len();
        // A bit for each constraint given up, the least important in the lowest bit: ascending by count, then by importance.
        let mut subsets: Vec<usize> = (0..1 << m).collect();
        subsets.sort_by_key(|s| (s.count_ones(), *s));
        for subset in subsets {
            let (relaxed, kept): (Vec<_>, Vec<_>) =
                self.constraints.iter().enumerate().partition(|(i, _)| subset >> (m - 1 - i) & 1 == 1);
            let kept: Vec<Constraint> = kept.into_iter().map(|(_, c)| *c).collect();
            if let Some(items) = solve(&needs(&kept, self.k)) {
                return self.outcome(items, relaxed.into_iter().map(|(_, c)| *c).collect());
            }
        }
        self.top_k()
    }

    fn outcome(&self, mut items: Vec<usize>, relaxed: Vec<Constraint>) -> Outcome {
        let rank = |i: &usize| self.order.iter().position(|o| o == i);
        items.sort_by_key(rank);
        let violated = self.violated(&items);
        let satisfied = self.constraints.iter().filter(|c| !violated.contains(c)).copied().collect();
        Outcome { relevance: self.relevance(&items), items, satisfied, relaxed }
    }

    fn relevance(&self, items: &[usize]) -> f64 {
        items.iter().map(|&i| self.candidates[i].relevance).sum()
    }

    fn distance(&self, i: usize, j: usize) -> f64 {
        self.distances[i * self.candidates.len() + j]
    }

    fn spread(&self, items: &[usize]) -> f64 {
        let pairs = items.iter().enumerate().flat_map(|(n, &a)| items[..n].iter().map(move |&b| (a, b)));
        pairs.map(|(a, b)| self.distance(a, b)).sum()
    }

    /// By how much a list misses what it needs; 0 when it doesn't.
    fn shortfall(&self, items: &[usize], needs: &Needs) -> f64 {
        let fresh = items.iter().filter(|&&i| self.candidates[i].age_days <= needs.days).count();
        let counts = needs.fresh.saturating_sub(fresh) + needs.tiers.saturating_sub(self.tiers(items).len());
        let distance = needs.distance - self.spread(items);
        counts as f64 + if distance > 1e-9 { distance } else { 0.0 }
    }

    fn tiers(&self, items: &[usize]) -> Vec<usize> {
        let mut tiers: Vec<usize> = items.iter().map(|&i| self.candidates[i].tier).collect();
        tiers.sort_unstable();
        tiers.dedup();
        tiers
    }

    fn greedy(&self, needs: &Needs) -> Vec<usize> {
        let mut items = Vec::with_capacity(self.k);
        for (at, &i) in self.order.iter().enumerate() {
            if items.len() < self.k {
                items.push(i);
                if !self.can_complete(&items, &self.order[at + 1..], needs) {
                    items.pop();
                }
            }
        }
        // Where even the first item dooms the list, the most relevant ones fill it.
        let rest: Vec<usize> = self.order.iter().filter(|i| !items.contains(i)).copied().collect();
        items.extend(rest.into_iter().take(self.k - items.len()));
        items
    }

    /// Whether items of `rest` can fill the list up to `k` so that it has the counts it needs, and perhaps the distance.
    fn can_complete(&self, items: &[usize], rest: &[usize], needs: &Needs) -> bool {
        let left = self.k - items.len();
        if rest.len() < left {
            return false;
        }
        let is_fresh = |i: &usize| self.candidates[*i].age_days <= needs.days;
        let fresh = needs.fresh.saturating_sub(items.iter().filter(|i| is_fresh(i)).count());
        let here = self.tiers(items);
        let tiers = needs.tiers.saturating_sub(here.len());
        let new = |of: &[usize]| self.tiers(of).into_iter().filter(|t| here.binary_search(t).is_err()).count();
        let fresh_rest: Vec<usize> = rest.iter().filter(|i| is_fresh(i)).copied().collect();
        // New tiers are best opened by fresh items, which count for both.
        let both = tiers.min(new(&fresh_rest));
        if fresh_rest.len() < fresh || new(rest) < tiers || tiers + fresh.saturating_sub(both) > left {
            return false;
        }
        if needs.distance <= 0.0 {
            return true;
        }
        let mut to_items: Vec<f64> = rest.iter().map(|&r| items.iter().map(|&i| self.distance(i, r)).sum()).collect();
        to_items.sort_by(|a, b| b.total_cmp(a));
        let hope = self.spread(items) + to_items[..left].iter().sum::<f64>() + pairs(left) * self.farthest;
        hope >= needs.distance - 1e-9
    }

    fn exchange(&self, mut items: Vec<usize>, needs: &Needs) -> Vec<usize> {
        loop {
            let now = (self.shortfall(&items, needs), self.relevance(&items));
            let mut best: Option<((f64, f64), usize, usize)> = None;
            for at in 0..items.len() {
                let out = items[at];
                let outside: Vec<usize> = self.order.iter().filter(|i| !items.contains(i)).copied().collect();
                for i in outside {
                    items[at] = i;
                    let then = (self.shortfall(&items, needs), self.relevance(&items));
                    let better = |a: (f64, f64), b: (f64, f64)| a.0 < b.0 - 1e-9 || (a.0 <= b.0 && a.1 > b.1 + 1e-12);
                    if better(then, now) && best.is_none_or(|(score, ..)| better(then, score)) {
                        best = Some((then, at, i));
                    }
                }
                items[at] = out;
            }
            // Every exchange lowers the shortfall or raises the relevance, so that no list comes back.
            let Some((_, at, i)) = best else {
                return items;
            };
            items[at] = i;
        }
    }

    fn branch(&self, items: &mut Vec<usize>, from: usize, needs: &Needs, best: &mut Option<(f64, Vec<usize>)>) {
        let left = self.k - items.len();
        if left == 0 {
            let relevance = self.relevance(items);
            let better = best.as_ref().is_none_or(|(score, _)| relevance > score + 1e-12);
            if better && self.shortfall(items, needs) == 0.0 {
                *best = Some((relevance, items.clone()));
            }
            return;
        }
        for at in from..=self.order.len().saturating_sub(left) {
            let bound = self.relevance(items) + self.relevance(&self.order[at..at + left]);
            if best.as_ref().is_some_and(|(score, _)| bound <= score + 1e-12) {
                return;
            }
            items.push(self.order[at]);
            if self.can_complete(items, &self.order[at + 1..], needs) {
                self.branch(items, at + 1, needs, best);
            }
            items.pop();
        }
    }
}

fn pairs(n: usize) -> f64 {
    (n * n.saturating_sub(1) / 2) as f64
}

/// Shares as whole numbers: at least half of 5 items are 3.
fn needs(constraints: &[Constraint], items: usize) -> Needs {
    let count = |share: f64, of: usize| (share * of as f64 - 1e-9).ceil().max(0.0) as usize;
    let mut needs = Needs { days: f64::INFINITY, ..Needs::default() };
    for constraint in constraints {
        match *constraint {
            // One item alone has no pairs, and so no diversity.
            Constraint::Diversity(min) if items < 2 => needs.distance = min,
            Constraint::Diversity(min) => needs.distance = min * pairs(items),
            Constraint::Freshness { min, days } => (needs.fresh, needs.days) = (count(min, items), days),
            Constraint::PriceCoverage { min, tiers } => needs.tiers = count(min, tiers),
        }
    }
    needs
}

#[cfg(test)]
mod tests {
    use super::*;
    use eas_tensor::rng::SplitMix64;

    fn random(rng: &mut SplitMix64, n: usize) -> (Vec<Candidate>, Vec<usize>) {
        let candidate = |rng: &mut SplitMix64| Candidate {
            relevance: rng.uniform(),
            age_days: 60.0 * rng.uniform(),
            tier: rng.below(5),
        };
        ((0..n).map(|_| candidate(rng)).collect(), (0..n).map(|_| rng.below(3)).collect())
    }

    const ALL: [Constraint; 3] = [
        Constraint::Diversity(0.5),
        Constraint::Freshness { min: 0.5, days: 30.0 },
        Constraint::PriceCoverage { min: 0.6, tiers: 5 },
    ];

    /// Every subset of nine candidates against branch and bound.
    #[test]
    fn exact_is_the_best_of_all_lists() {
        let mut rng = SplitMix64::new(1);
        let mut feasible = 0;
        for _ in 0..100 {
            let (candidates, clusters) = random(&mut rng, 9);
            let distance = |i: usize, j: usize| f64::from(u8::from(clusters[i] != clusters[j]));
            let reranker = Reranker::new(&candidates, distance, &ALL, 4).unwrap();
            let lists = (0..1usize << 9).filter(|s| s.count_ones() == 4);
            let lists = lists.map(|s| (0..9).filter(|i| s >> i & 1 == 1).collect::<Vec<_>>());
            let best =
                lists.filter(|l| reranker.violated(l).is_empty()).map(|l| reranker.relevance(&l)).reduce(f64::max);
            let (exact, swap) = (reranker.exact().unwrap(), reranker.swap());
            match best {
                Some(best) => {
                    feasible += 1;
                    assert!((exact.relevance - best).abs() < 1e-9);
                    assert!(exact.relaxed.is_empty() && reranker.violated(&exact.items).is_empty());
                    assert!(swap.relevance <= best + 1e-9 || !swap.relaxed.is_empty());
                }
                None => assert!(!exact.relaxed.is_empty()),
            }
        }
        assert!(feasible > 50, "{feasible}");
    }

    #[test]
    fn what_cannot_be_had_is_named() {
        let stale = Candidate { relevance: 1.0, age_days: 100.0, tier: 1 };
        let candidates = [stale; 5];
        let freshness = [Constraint::Freshness { min: 0.5, days: 30.0 }];
        let reranker = Reranker::new(&candidates, |_, _| 1.0, &freshness, 3).unwrap();
        for outcome in [reranker.exact().unwrap(), reranker.quota(), reranker.swap()] {
            assert_eq!(outcome.relaxed, freshness);
            assert_eq!((outcome.items, outcome.satisfied.len()), (vec![0, 1, 2], 0));
        }
        // Alike and stale: diversity, the more important, is impossible too.
        let reranker = Reranker::new(&candidates, |_, _| 0.0, &ALL, 3).unwrap();
        assert_eq!(reranker.exact().unwrap().relaxed, ALL);
        let one = Reranker::new(&candidates, |_, _| 1.0, &ALL[..1], 1).unwrap();
        assert_eq!(one.exact().unwrap().relaxed, ALL[..1], "one item has no diversity");
    }

    #[test]
    fn without_constraints_the_most_relevant_come_back() {
        let mut rng = SplitMix64::new(2);
        let (candidates, _) = random(&mut rng, 30);
        let reranker = Reranker::new(&candidates, |_, _| 1.0, &[], 10).unwrap();
        let top = reranker.top_k();
        assert_eq!(reranker.exact().unwrap(), top);
        assert_eq!(reranker.quota(), top);
        assert_eq!(reranker.swap(), top);
        let empty = Reranker::new(&[], |_, _| 1.0, &ALL, 3).unwrap();
        assert!(empty.swap().items.is_empty());
    }

    #[test]
    fn bad_input_is_refused() {
        let ok = [Candidate { relevance: 1.0, age_days: 1.0, tier: 0 }; 31];
        assert!(Reranker::new(&ok, |_, _| 1.0, &[], 0).is_err());
        assert!(Reranker::new(&ok, |_, _| f64::NAN, &[], 3).is_err());
        assert!(Reranker::new(&ok, |_, _| -1.0, &[], 3).is_err());
        assert!(Reranker::new(&ok, |_, _| 1.0, &[], 3).unwrap().exact().is_err());
        for bad in [
            Constraint::Diversity(f64::NAN),
            Constraint::Freshness { min: 1.5, days: 30.0 },
            Constraint::PriceCoverage { min: 0.5, tiers: 0 },
        ] {
            assert!(Reranker::new(&ok, |_, _| 1.0, &[bad], 3).is_err());
        }
        assert!(Reranker::new(&ok, |_, _| 1.0, &[ALL[0], ALL[0]], 3).is_err());
        let nan = [Candidate { relevance: f64::NAN, ..ok[0] }];
        assert!(Reranker::new(&nan, |_, _| 1.0, &[], 3).is_err());
    }
}
