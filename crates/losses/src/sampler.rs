//! Samplers: which examples meet in a batch. All are seeded, and none draws an index twice into one batch.

use eas_tensor::Matrix;
use eas_tensor::rng::SplitMix64;
use std::collections::BTreeMap;

use crate::{LossError, one_a_row};

fn at_least_one(name: &'static str, got: usize) -> Result<(), LossError> {
    if got > 0 {
        return Ok(());
    }
    Err(LossError::Argument { name, got: 0.0, expected: "at least 1" })
}

/// How many pairs and triplets a batch of `p` classes with `k` rows each holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TripletCounts {
    /// Unordered positive pairs, `P K (K-1) / 2`.
    pub positive_pairs: usize,
    /// Ordered positive pairs, `P K (K-1)`.
    pub ordered_pairs: usize,
    /// Triplets, `P K (K-1) (P-1) K`.
    pub triplets: usize,
}

impl TripletCounts {
    /// Of `p` classes of `k` rows.
    pub fn new(p: usize, k: usize) -> Self {
        let ordered_pairs = p * k * k.saturating_sub(1);
        Self { positive_pairs: ordered_pairs / 2, ordered_pairs, triplets: ordered_pairs * p.saturating_sub(1) * k }
    }
}

/// Batches of `p` classes with `k` examples each (Hermans et al. 2017).
///
/// Every class has its examples in a shuffled cycle that is dealt from the top and shuffled anew when it runs out; the classes of a batch
/// are drawn without repetition, weighted by what is left of their cycle. Classes of fewer than `k` examples are left out.
#[derive(Debug, Clone)]
pub struct PkSampler {
    classes: Vec<Vec<usize>>,
    p: usize,
    k: usize,
    batches: usize,
    seed: u64,
}

impl PkSampler {
    /// A sampler over examples with one label each. An epoch has `batches` batches, by default `ceil(examples / (p k))`.
    ///
    /// Fewer than `p` classes of at least `k` examples are an error.
    pub fn new(labels: &[u32], p: usize, k: usize, batches: Option<usize>, seed: u64) -> Result<Self, LossError> {
        at_least_one("p", p)?;
        at_least_one("k", k)?;
        let mut classes: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (i, &label) in labels.iter().enumerate() {
            classes.entry(label).or_default().push(i);
        }
        let all = classes.len();
        let classes: Vec<Vec<usize>> = classes.into_values().filter(|c| c.len() >= k).collect();
        if classes.len() < p {
            return Err(LossError::Name(format!(
                "{p} classes of {k} examples are needed, {} of {all} classes have that many",
                classes.len()
            )));
        }
        Ok(Self { classes, p, k, batches: batches.unwrap_or(labels.len().div_ceil(p * k)), seed })
    }

    /// Batches an epoch.
    pub fn len(&self) -> usize {
        self.batches
    }

    /// True when an epoch has no batch.
    pub fn is_empty(&self) -> bool {
        self.batches == 0
    }

    /// The batches of one epoch: `p k` distinct example numbers each, class by class.
    pub fn epoch(&self, epoch: u64) -> impl Iterator<Item = Vec<usize>> + '_ {
        let mut rng = SplitMix64::stream(self.seed, epoch);
        let mut decks: Vec<Vec<usize>> = self.classes.clone();
        for deck in &mut decks {
            rng.shuffle(deck);
        }
        (0..self.batches).map(move |_| {
            let mut weights: Vec<f64> = decks.iter().map(|deck| deck.len() as f64).collect();
            let mut batch = Vec::with_capacity(self.p * self.k);
            for _ in 0..self.p {
                let class = rng.weighted(&weights);
                weights[class] = 0.0;
                let from = batch.len();
                while batch.len() < from + self.k {
                    if let Some(example) = decks[class].pop() {
                        batch.push(example);
                    } else {
                        // What this batch already has goes to the bottom of the new deck.
                        let mut deck: Vec<usize> = self.classes[class].clone();
                        rng.shuffle(&mut deck);
                        deck.sort_by_key(|example| !batch[from..].contains(example));
                        decks[class] = deck;
                    }
                }
                if decks[class].is_empty() {
                    decks[class].clone_from(&self.classes[class]);
                    rng.shuffle(&mut decks[class]);
                }
            }
            batch
        })
    }
}

/// One rank's share of an epoch: a seeded permutation, dealt round-robin to `world` ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardedSampler {
    /// Examples.
    pub len: usize,
    /// Ranks.
    pub world: usize,
    /// This rank, below `world`.
    pub rank: usize,
    /// Seed, the same on all ranks.
    pub seed: u64,
    /// Whether each epoch has an order of its own.
    pub shuffle: bool,
    /// Whether the examples beyond a multiple of `world` are dropped; else the first ones are repeated.
    pub drop_last: bool,
}

impl ShardedSampler {
    /// The example numbers of this rank in an epoch; all ranks get equally many.
    pub fn epoch(&self, epoch: u64) -> Result<Vec<usize>, LossError> {
        at_least_one("len", self.len)?;
        at_least_one("world", self.world)?;
        if self.rank >= self.world {
            return Err(LossError::OutOfRange { what: "rank", row: 0, got: self.rank, limit: self.world });
        }
        let mut order: Vec<usize> = (0..self.len).collect();
        if self.shuffle {
            SplitMix64::stream(self.seed, epoch).shuffle(&mut order);
        }
        let share = if self.drop_last { self.len / self.world } else { self.len.div_ceil(self.world) };
        Ok((0..share).map(|i| order[(i * self.world + self.rank) % self.len]).collect())
    }
}

/// `k` rows that lie far apart: from `start` on, always the row whose largest cosine to the chosen ones is smallest (Gonzalez 1985), ties
/// to the lower row.
pub fn farthest_first(rows: &Matrix, k: usize, start: usize) -> Result<Vec<usize>, LossError> {
    let n = rows.rows();
    if k > n {
        return Err(LossError::Argument { name: "k", got: k as f64, expected: "at most the number of rows" });
    }
    if start >= n {
        return Err(LossError::OutOfRange { what: "start", row: 0, got: start, limit: n });
    }
    rows.check_finite()?;
    let mut unit = rows.clone();
    unit.normalize_rows();
    let mut closest = vec![f32::NEG_INFINITY; n];
    let mut chosen = Vec::with_capacity(k);
    let mut next = start;
    for _ in 0..k {
        chosen.push(next);
        for (close, row) in closest.iter_mut().zip(unit.iter_rows()) {
            *close = close.max(eas_tensor::kernels::dot(unit.row(next), row));
        }
        closest[next] = f32::INFINITY;
        next = (0..n).min_by(|&x, &y| closest[x].total_cmp(&closest[y])).unwrap_or(start);
    }
    Ok(chosen)
}

/// A batch of easy, medium and hard examples: shares `easy` and `medium` of it come from the lower and middle third of `scores`
/// (difficulties), the rest from the upper one.
///
/// A third with too few examples hands its shortage to the next one (and the last to the first).
pub fn difficulty_balanced(
    scores: &[f64],
    batch: usize,
    easy: f64,
    medium: f64,
    seed: u64,
) -> Result<Vec<usize>, LossError> {
    let n = scores.len();
    if batch > n {
        return Err(LossError::Argument { name: "batch", got: batch as f64, expected: "at most the number of scores" });
    }
    for (name, share) in [("easy", easy), ("medium", medium)] {
        crate::not_negative(name, share)?;
    }
    if easy + medium > 1.0 {
        return Err(LossError::Argument { name: "easy + medium", got: easy + medium, expected: "at most 1" });
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&x, &y| scores[x].total_cmp(&scores[y]).then(x.cmp(&y)));
    let thirds = [&order[..n / 3], &order[n / 3..2 * n / 3], &order[2 * n / 3..]];
    let (low, middle) = ((easy * batch as f64) as usize, (medium * batch as f64) as usize);
    let mut quota = [low, middle, batch - low - middle];
    let mut spill = 0;
    // Twice around: what the last third can't give, the first and second may have left.
    for turn in 0..6 {
        let wanted = quota[turn % 3] + spill;
        let given = wanted.min(thirds[turn % 3].len());
        quota[turn % 3] = given;
        spill = wanted - given;
    }
    let mut rng = SplitMix64::new(seed);
    let draw = |(third, count): (&[usize], usize)| {
        let picks = rng.sample_indices(third.len(), count);
        picks.into_iter().map(|i| third[i]).collect::<Vec<_>>()
    };
    Ok(thirds.into_iter().zip(quota).flat_map(draw).collect())
}

/// How many of a batch each domain gives, by water-filling: equal shares, but no more than a domain has.
///
/// What can't be shared equally goes one each to the first domains that have more. A batch larger than all domains is an error.
pub fn domain_quotas(sizes: &[usize], batch: usize) -> Result<Vec<usize>, LossError> {
    if batch > sizes.iter().sum() {
        return Err(LossError::Argument {
            name: "batch",
            got: batch as f64,
            expected: "at most the number of examples",
        });
    }
    let mut quotas = vec![0; sizes.len()];
    let mut left = batch;
    while left > 0 {
        let open: Vec<usize> = (0..sizes.len()).filter(|&d| quotas[d] < sizes[d]).collect();
        let level = left / open.len();
        for &domain in &open {
            let more = level.max(1).min(sizes[domain] - quotas[domain]).min(left);
            quotas[domain] += more;
            left -= more;
        }
    }
    Ok(quotas)
}

/// A batch with [`domain_quotas`] of each domain; `domains` has one label an example.
pub fn domain_balanced(domains: &[u32], batch: usize, seed: u64) -> Result<Vec<usize>, LossError> {
    let mut members: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (i, &domain) in domains.iter().enumerate() {
        members.entry(domain).or_default().push(i);
    }
    let sizes: Vec<usize> = members.values().map(Vec::len).collect();
    let quotas = domain_quotas(&sizes, batch)?;
    let mut rng = SplitMix64::new(seed);
    let mut picked = Vec::with_capacity(batch);
    for (examples, quota) in members.values().zip(quotas) {
        let draw = rng.sample_indices(examples.len(), quota);
        picked.extend(draw.into_iter().map(|i| examples[i]));
    }
    one_a_row("picks", picked.len(), batch)?;
    Ok(picked)
}
