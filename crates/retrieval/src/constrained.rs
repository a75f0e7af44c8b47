//! Relevance under constraints on the whole list: diversity, freshness, coverage of price tiers.
//!
//! A constraint holds for the final list, not for each prefix of it: one item alone has no diversity. [`Reranker::quota`] takes items
//! by relevance as long as the rest can still satisfy the constraints, [`Reranker::swap`] mends and improves such lists by exchanging
//! one to three items at a time, and [`Reranker::exact`] finds the best list of a small problem by branch and bound.

use crate::RetrievalError;

/// Candidates that [`Reranker`] accepts at most: it keeps their distances.
pub const MOST_CANDIDATES: usize = 5_000;
/// Candidates and items that [`Reranker::exact`] accepts at most.
pub const MOST_EXACT: (usize, usize) = (30, 10);
/// Starts of [`Reranker::swap`]: how much a mean distance of the farthest two weighs, in units of the range of relevance.
const STARTS: [f64; 4] = [0.0, 0.5, 2.0, 8.0];
/// More of its starts: each takes one of so many most relevant candidates first.
const FIRST: usize = 20;
/// Exchanges of two or three items for as many others that one round looks at, at most.
const MOST_EXCHANGES: usize = 500_000;

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
    /// Tier of each candidate, numbered without gaps.
    tiers: Vec<usize>,
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

/// A list with what its exchanges need, so that one takes constant time.
struct Counted {
    items: Vec<usize>,
    /// Summed distance from each candidate to the items.
    to_items: Vec<f64>,
    spread: f64,
    fresh: usize,
    /// Items in each tier.
    by_tier: Vec<usize>,
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
        let mut known: Vec<usize> = candidates.iter().map(|c| c.tier).collect();
        known.sort_unstable();
        known.dedup();
        let tiers = candidates.iter().map(|c| known.partition_point(|t| *t < c.tier)).collect();
        Ok(Self { candidates, constraints, k: k.min(n), distances, farthest, order, tiers })
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
            let items = self.greedy(needs, 0.0, None);
            (self.shortfall(&items, needs) == 0.0).then_some(items)
        })
    }

    /// Starts from the list of [`Self::quota`], from others like it that prefer items far from those taken or take another item first,
    /// and from the top `k`. In each it exchanges one item at a time, two or three where one doesn't help: first whatever brings the list
    /// closest to the constraints, then whatever gains most relevance without violating one, until no exchange helps. The best list
    /// wins.
    pub fn swap(&self) -> Outcome {
        self.relaxing(|needs| {
            if !self.can_complete(&[], &self.order, needs) {
                return None;
            }
            let by_weight = STARTS.iter().map(|weight| self.greedy(needs, *weight, None));
            let firsts = self.order.iter().take(FIRST).flat_map(|&first| [(first, STARTS[0]), (first, STARTS[1])]);
            let by_first = firsts.map(|(first, weight)| self.greedy(needs, weight, Some(first)));
            let mut starts: Vec<Vec<usize>> =
                by_weight.chain(by_first).chain([self.order[..self.k].to_vec()]).collect();
            for start in &mut starts {
                start.sort_unstable();
            }
            starts.sort();
            starts.dedup();
            let ends = starts.into_iter().map(|start| self.exchange(start, needs));
            let feasible = ends.filter(|items| self.shortfall(items, needs) == 0.0);
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

    /// By how much a list misses what it needs, in items, tiers and distances of the farthest two; 0 when it doesn't.
    fn shortfall(&self, items: &[usize], needs: &Needs) -> f64 {
        let fresh = items.iter().filter(|&&i| self.candidates[i].age_days <= needs.days).count();
        self.missing(needs, fresh, self.tiers(items).len(), self.spread(items))
    }

    fn missing(&self, needs: &Needs, fresh: usize, tiers: usize, spread: f64) -> f64 {
        let counts = needs.fresh.saturating_sub(fresh) + needs.tiers.saturating_sub(tiers);
        let unit = if self.farthest > 0.0 { self.farthest } else { 1.0 };
        let distance = (needs.distance - spread) / unit;
        counts as f64 + if distance > 1e-9 { distance } else { 0.0 }
    }

    fn tiers(&self, items: &[usize]) -> Vec<usize> {
        let mut tiers: Vec<usize> = items.iter().map(|&i| self.tiers[i]).collect();
        tiers.sort_unstable();
        tiers.dedup();
        tiers
    }

    /// Takes the best of what is left as long as the rest can complete the list. `weight` is that of the mean distance to the items
    /// taken before, in which the farthest two count as much as the most against the least relevant. A `first` item is tried first.
    fn greedy(&self, needs: &Needs, weight: f64, first: Option<usize>) -> Vec<usize> {
        let range = match (self.order.first(), self.order.last()) {
            (Some(&most), Some(&least)) => self.candidates[most].relevance - self.candidates[least].relevance,
            _ => 0.0,
        };
        let unit = if self.farthest > 0.0 { weight * range / self.farthest } else { 0.0 };
        let mut items = Vec::with_capacity(self.k);
        let mut rest = self.order.clone();
        let mut to_items = vec![0.0; self.candidates.len()];
        while items.len() < self.k && !rest.is_empty() {
            let taken = items.len().max(1) as f64;
            let score = |i: usize| self.candidates[i].relevance + unit * to_items[i] / taken;
            let best = (1..rest.len()).fold(0, |best, at| if score(rest[at]) > score(rest[best]) { at } else { best });
            let best = rest.iter().position(|item| Some(*item) == first).unwrap_or(best);
            let item = rest.remove(best);
            items.push(item);
            if self.can_complete(&items, &rest, needs) {
                for &r in &rest {
                    to_items[r] += self.distance(item, r);
                }
            } else {
                items.pop();
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
        // Every exchange lowers the shortfall or raises the relevance, so that no list comes back.
        loop {
            let now = self.count(items, needs);
            let one = self.best_exchange::<1>(&now, needs);
            let two = one.or_else(|| self.best_exchange::<2>(&now, needs));
            let next = two.or_else(|| self.best_exchange::<3>(&now, needs));
            items = now.items;
            let Some((out, into)) = next else {
                return items;
            };
            items.retain(|i| !out.contains(i));
            items.extend(into);
        }
    }

    fn count(&self, items: Vec<usize>, needs: &Needs) -> Counted {
        let to = |i: usize| items.iter().map(|&j| self.distance(i, j)).sum();
        let mut by_tier = vec![0; self.candidates.len()];
        for &i in &items {
            by_tier[self.tiers[i]] += 1;
        }
        Counted {
            to_items: (0..self.candidates.len()).map(to).collect(),
            spread: self.spread(&items),
            fresh: items.iter().filter(|&&i| self.candidates[i].age_days <= needs.days).count(),
            by_tier,
            items,
        }
    }

    /// The best exchange of `N` items for others; beyond one, for as many of the most relevant as keep the work bounded.
    fn best_exchange<const N: usize>(&self, now: &Counted, needs: &Needs) -> Option<(Vec<usize>, Vec<usize>)> {
        let mut outside: Vec<usize> = self.order.iter().filter(|i| !now.items.contains(i)).copied().collect();
        let out = groups::<N>(&now.items);
        if N > 1 {
            let size = |m: usize| (0..N).fold(1.0, |size, i| size * m.saturating_sub(i) as f64 / (i + 1) as f64);
            let fits = |m: &usize| size(*m) * out.len() as f64 <= MOST_EXCHANGES as f64;
            outside.truncate((1..=outside.len()).take_while(fits).last().unwrap_or(0));
        }
        let into = groups::<N>(&outside);
        let mut best = Best::new(self, now, needs);
        for out in out {
            for into in &into {
                best.consider(out, *into);
            }
        }
        best.found
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

/// The best exchange of a round.
struct Best<'a> {
    of: &'a Reranker<'a>,
    now: &'a Counted,
    needs: &'a Needs,
    tiers: usize,
    shortfall: f64,
    gain: f64,
    /// What a gain must exceed, so that rounding is never taken for one.
    least: f64,
    found: Option<(Vec<usize>, Vec<usize>)>,
}

impl<'a> Best<'a> {
    fn new(of: &'a Reranker<'a>, now: &'a Counted, needs: &'a Needs) -> Self {
        let tiers = now.by_tier.iter().filter(|count| **count > 0).count();
        let shortfall = of.missing(needs, now.fresh, tiers, now.spread);
        let least = 1e-12 * of.candidates.iter().map(|c| c.relevance.abs()).fold(0.0, f64::max);
        Self { of, now, needs, tiers, shortfall, gain: 0.0, least, found: None }
    }

    fn consider<const N: usize>(&mut self, out: [usize; N], into: [usize; N]) {
        let (of, now) = (self.of, self.now);
        let relevance = |items: [usize; N]| items.iter().map(|&i| of.candidates[i].relevance).sum::<f64>();
        let gain = relevance(into) - relevance(out);
        let gains = gain > self.gain + self.least;
        if self.shortfall == 0.0 && !gains {
            return;
        }
        let fresh = |items: [usize; N]| items.iter().filter(|&&i| of.candidates[i].age_days <= self.needs.days).count();
        let mut spread = now.spread;
        for at in 0..N {
            spread += now.to_items[into[at]] - now.to_items[out[at]];
            spread -= out.iter().map(|&o| of.distance(into[at], o)).sum::<f64>();
            spread += (0..at).map(|b| of.distance(into[at], into[b]) + of.distance(out[at], out[b])).sum::<f64>();
        }
        let within = |items: &[usize], tier: usize| items.iter().filter(|&&i| of.tiers[i] == tier).count();
        let mut tiers = self.tiers;
        for at in 0..N {
            let (closed, opened) = (of.tiers[out[at]], of.tiers[into[at]]);
            let gone = now.by_tier[closed] + within(&into, closed) == within(&out, closed);
            tiers -= usize::from(gone && within(&out[..at], closed) == 0);
            tiers += usize::from(now.by_tier[opened] == 0 && within(&into[..at], opened) == 0);
        }
        let shortfall = of.missing(self.needs, now.fresh + fresh(into) - fresh(out), tiers, spread);
        if shortfall < self.shortfall - 1e-9 || (shortfall <= self.shortfall && gains) {
            (self.shortfall, self.gain, self.found) = (shortfall, gain, Some((out.to_vec(), into.to_vec())));
        }
    }
}

/// All groups of `N` different members of `of`.
fn groups<const N: usize>(of: &[usize]) -> Vec<[usize; N]> {
    let mut found = Vec::new();
    let mut places: [usize; N] = std::array::from_fn(|i| i);
    while of.len() >= N {
        found.push(places.map(|place| of[place]));
        // The last place that can still move does, and those behind it follow closely.
        let Some(at) = (0..N).rev().find(|&at| places[at] < of.len() - N + at) else {
            break;
        };
        places[at] += 1;
        for next in at + 1..N {
            places[next] = places[next - 1] + 1;
        }
    }
    found
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

    /// Demands that few lists of these candidates satisfy.
    #[test]
    fn swap_comes_close_to_the_best_list() {
        let demands = [
            Constraint::Diversity(0.8),
            Constraint::Freshness { min: 0.6, days: 20.0 },
            Constraint::PriceCoverage { min: 0.8, tiers: 5 },
        ];
        let mut rng = SplitMix64::new(3);
        let (mut feasible, mut missed, mut least) = (0, 0, 1.0_f64);
        for _ in 0..2_000 {
            let (candidates, _) = random(&mut rng, 14);
            let clusters: Vec<usize> = (0..14).map(|_| rng.below(4)).collect();
            let distance = |i: usize, j: usize| f64::from(u8::from(clusters[i] != clusters[j]));
            let reranker = Reranker::new(&candidates, distance, &demands, 5).unwrap();
            let (exact, swap) = (reranker.exact().unwrap(), reranker.swap());
            if !exact.relaxed.is_empty() {
                assert!(!swap.relaxed.is_empty());
            } else if swap.relaxed.is_empty() {
                feasible += 1;
                least = least.min(swap.relevance / exact.relevance);
                assert!(reranker.violated(&swap.items).is_empty());
            } else {
                missed += 1;
            }
        }
        assert!(feasible > 1_000 && missed == 0 && least >= 0.97, "{feasible} {missed} {least}");
    }

    /// What an exchange is said to change against what it changes.
    #[test]
    fn exchanges_are_counted_right() {
        let mut rng = SplitMix64::new(4);
        for round in 0..200 {
            let (candidates, _) = random(&mut rng, 12);
            let places: Vec<f64> = (0..12).map(|_| rng.uniform()).collect();
            let distance = |i: usize, j: usize| (places[i] - places[j]).abs();
            let reranker = Reranker::new(&candidates, distance, &ALL, 5).unwrap();
            let needs = needs(&ALL, 5);
            let picked = rng.sample_indices(12, 7);
            let (now, after) = (picked[..5].to_vec(), [&picked[2..5], &picked[5..]].concat());
            let counted = reranker.count(now.clone(), &needs);
            let mut best = Best::new(&reranker, &counted, &needs);
            assert!((best.shortfall - reranker.shortfall(&now, &needs)).abs() < 1e-9);
            // Take any exchange.
            (best.shortfall, best.gain) = (f64::INFINITY, f64::NEG_INFINITY);
            best.consider([picked[0], picked[1]], [picked[5], picked[6]]);
            assert!((best.shortfall - reranker.shortfall(&after, &needs)).abs() < 1e-9, "round {round}");
            assert!((best.gain - reranker.relevance(&after) + reranker.relevance(&now)).abs() < 1e-9);
        }
    }

    #[test]
    fn groups_are_all_and_different() {
        assert_eq!(groups::<2>(&[7, 8, 9]), [[7, 8], [7, 9], [8, 9]]);
        assert_eq!(groups::<1>(&[7, 8]), [[7], [8]]);
        assert_eq!(groups::<3>(&(0..9).collect::<Vec<_>>()).len(), 84);
        assert!(groups::<3>(&[1, 2]).is_empty());
    }

    /// Equal relevance far from 1: rounding must not look like a gain for ever.
    #[test]
    fn large_relevance_does_not_loop() {
        let candidates: Vec<Candidate> =
            (0..40).map(|i| Candidate { relevance: 1e15 + f64::from(i % 3), age_days: 1.0, tier: 0 }).collect();
        let reranker = Reranker::new(&candidates, |i, j| (i as f64 - j as f64).abs() * 1e9, &ALL[..2], 6).unwrap();
        assert!(reranker.swap().relaxed.is_empty());
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
