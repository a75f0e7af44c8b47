//! The world of listing 3.13: clusters in three regions, placed on shards by several rules.

use eas_ann::sharder::{Geo, Learned, RoutedShards, Sharder, skew};
use eas_ann::{AnnError, FlatIndex, Hit, Metric, VectorIndex, recall};
use eas_data::synth::{Zipf, clusters, clusters_queries};
use eas_tensor::Matrix;
use eas_tensor::rng::SplitMix64;

/// Neighbours asked for.
pub const K: usize = 10;
/// Regions.
pub const REGIONS: usize = 3;

/// Vectors under ids in regions, queries, and their exact answers.
pub struct World {
    /// Ids.
    pub ids: Vec<u64>,
    /// Vectors.
    pub vectors: Matrix,
    /// Region of each vector.
    pub regions: Vec<usize>,
    /// Queries.
    pub queries: Matrix,
    /// Exact hits of each query.
    pub exact: Vec<Vec<Hit>>,
}

/// What a rule of placement did.
pub struct Measured {
    /// Hits of each query.
    pub hits: Vec<Vec<Hit>>,
    /// Recall@10.
    pub recall: f64,
    /// Shards a query asked.
    pub asked: usize,
    /// Share of the vectors a query was compared with.
    pub compared: f64,
    /// Vectors on the fullest shard over the mean.
    pub skew: f64,
}

/// The load of the hottest shard.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hottest {
    /// Shards in all.
    pub shards: usize,
    /// Share of the queries that it gets.
    pub share: f64,
    /// The same over the mean.
    pub skew: f64,
}

impl World {
    /// `rows` points of 64 clusters in 32 dimensions, in regions by turns, and 300 queries.
    pub fn new(rows: usize, seed: u64) -> Result<Self, AnnError> {
        let vectors = clusters(seed, rows, 32, 64, 0.6);
        let queries = clusters_queries(seed, 300, 32, 64, 0.6);
        let ids: Vec<u64> = (0..rows as u64).collect();
        let mut flat = FlatIndex::new(32, Metric::SquaredL2)?;
        flat.add(&ids, &vectors)?;
        Ok(Self {
            exact: flat.search_batch(&queries, K)?,
            regions: (0..rows).map(|row| row % REGIONS).collect(),
            ids,
            vectors,
            queries,
        })
    }

    /// All vectors on the shards of a rule.
    pub fn place<S: Sharder>(&self, rule: S) -> Result<RoutedShards<S>, AnnError> {
        RoutedShards::build(rule, Metric::SquaredL2, &self.ids, &self.vectors, &self.regions)
    }

    /// 20,000 queries whose popularity follows Zipf's law over the shards of `rule`; then the hottest shard is split and the same queries
    /// are routed again, `splits` times.
    pub fn split_hottest(
        &self,
        mut rule: Learned,
        popularity: &Zipf,
        splits: usize,
        seed: u64,
    ) -> Result<Vec<Hottest>, AnnError> {
        let shards = self.place(rule.clone())?;
        let mut rng = SplitMix64::new(seed);
        let asked: Vec<usize> = (0..20_000)
            .map(|_| {
                let members = shards.ids(popularity.sample(&mut rng));
                members[rng.below(members.len())] as usize
            })
            .collect();
        let mut history = Vec::new();
        for split in 0..=splits {
            let mut loads = vec![0; rule.shards()];
            for &row in &asked {
                loads[rule.route(self.vectors.row(row), 0)?[0]] += 1;
            }
            let hottest = (0..loads.len()).max_by_key(|&shard| (loads[shard], std::cmp::Reverse(shard))).unwrap_or(0);
            history.push(Hottest {
                shards: loads.len(),
                share: loads[hottest] as f64 / asked.len() as f64,
                skew: skew(&loads),
            });
            if split < splits {
                let members: Vec<usize> =
                    self.place(rule.clone())?.ids(hottest).iter().map(|&id| id as usize).collect();
                rule = rule.split(hottest, &self.vectors.select(&members), seed)?;
            }
        }
        Ok(history)
    }

    /// Places all vectors by a rule and asks all queries, each from the next region.
    pub fn measure(&self, rule: impl Sharder) -> Result<Measured, AnnError> {
        let shards = self.place(rule)?;
        let (mut hits, mut asked, mut compared) = (Vec::new(), 0, 0);
        for (row, query) in self.queries.iter_rows().enumerate() {
            let answer = shards.search(query, row % REGIONS, K)?;
            asked = answer.shards.len();
            compared += answer.compared;
            hits.push(answer.hits);
        }
        Ok(Measured {
            recall: recall(&hits, &self.exact),
            hits,
            asked,
            compared: compared as f64 / (self.queries.rows() * self.ids.len()) as f64,
            skew: shards.size_skew(),
        })
    }

    /// The regions that answers to queries from each region come from.
    pub fn regions_answering(&self, shards: &RoutedShards<Geo>) -> Result<[Vec<usize>; REGIONS], AnnError> {
        let mut seen: [Vec<usize>; REGIONS] = Default::default();
        for (from, seen) in seen.iter_mut().enumerate() {
            for query in self.queries.iter_rows() {
                seen.extend(shards.search(query, from, K)?.hits.iter().map(|hit| self.regions[hit.id as usize]));
            }
            seen.sort_unstable();
            seen.dedup();
        }
        Ok(seen)
    }
}
