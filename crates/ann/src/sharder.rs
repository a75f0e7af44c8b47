//! [`Sharder`]: which shard a vector goes to, and which shards a query asks; and [`RoutedShards`], exact shards behind one.
//!
//! A query that asks fewer shards costs less, and can miss what is on the others. Placing by id spreads load evenly and says nothing about
//! where neighbours are; placing by nearness says where to look and spreads load as unevenly as the data and the questions are; placing by
//! region keeps answers, and data, at home.

use eas_tensor::kernels::squared_l2;
use eas_tensor::kmeans::{Clustering, KMeans};
use eas_tensor::{Matrix, top_k};
use rayon::prelude::*;

use crate::index::{Hit, Metric, VectorIndex, check_queries, check_rows};
use crate::sharded::{jump_hash, merge_hits};
use crate::{AnnError, FlatIndex};

/// A vector that is to be placed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Item<'a> {
    /// Its id.
    pub id: u64,
    /// Its values.
    pub vector: &'a [f32],
    /// The region it belongs to.
    pub region: usize,
}

/// A rule of placement.
pub trait Sharder: Send + Sync {
    /// Number of shards.
    fn shards(&self) -> usize;

    /// The shard of an item, below [`Self::shards`].
    fn assign(&self, item: Item<'_>) -> Result<usize, AnnError>;

    /// The shards that a query from `region` asks, each once.
    fn route(&self, query: &[f32], region: usize) -> Result<Vec<usize>, AnnError>;
}

/// By the hash of the id. A query asks the first `asked` shards: all of them for an exact answer, and a share of the neighbours that is
/// the share of the shards otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hash {
    shards: u32,
    asked: u32,
}

impl Hash {
    /// `shards >= 1` shards, of which a query asks all.
    pub fn new(shards: u32) -> Result<Self, AnnError> {
        check("shards", shards as usize, 1, "at least 1")?;
        Ok(Self { shards, asked: shards })
    }

    /// Asks only this many shards, 1 to all.
    pub fn asking(self, asked: u32) -> Result<Self, AnnError> {
        check("shards asked", asked as usize, 1, "at least 1")?;
        if asked > self.shards {
            return Err(refuse("shards asked", asked as usize, "at most the number of shards"));
        }
        Ok(Self { asked, ..self })
    }
}

impl Sharder for Hash {
    fn shards(&self) -> usize {
        self.shards as usize
    }

    fn assign(&self, item: Item<'_>) -> Result<usize, AnnError> {
        Ok(jump_hash(item.id, self.shards) as usize)
    }

    fn route(&self, _query: &[f32], _region: usize) -> Result<Vec<usize>, AnnError> {
        Ok((0..self.asked as usize).collect())
    }
}

/// By nearness: the shard of the nearest of the centres that k-means has learned. A query asks the shards of the `probes` centres nearest
/// to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Learned {
    centres: Matrix,
    probes: usize,
}

impl Learned {
    /// Learns `shards` centres from a sample; a query asks `probes >= 1` shards, all when there are fewer.
    pub fn train(sample: &Matrix, shards: usize, probes: usize, seed: u64) -> Result<Self, AnnError> {
        check("probes", probes, 1, "at least 1")?;
        let settings = KMeans { max_iter: 20, seed, ..KMeans::new(shards) };
        let Clustering { centroids, .. } = settings.fit(sample)?;
        Ok(Self { centres: centroids, probes })
    }

    /// The same shards with another number of probes.
    pub fn with_probes(&self, probes: usize) -> Result<Self, AnnError> {
        check("probes", probes, 1, "at least 1")?;
        Ok(Self { probes, ..self.clone() })
    }

    /// Splits a shard in two by clustering `members`, the vectors it holds: one half keeps the number, the other becomes the last shard.
    /// Vectors and queries of the other shards stay where they are, except near the new border.
    pub fn split(&self, shard: usize, members: &Matrix, seed: u64) -> Result<Self, AnnError> {
        if shard >= self.centres.rows() {
            return Err(refuse("shard", shard, "below the number of shards"));
        }
        let halves = KMeans { seed, ..KMeans::new(2) }.fit(members)?.centroids;
        let mut centres = self.centres.clone();
        centres.row_mut(shard).copy_from_slice(halves.row(0));
        centres.append(&halves.select(&[1]))?;
        Ok(Self { centres, ..*self })
    }

    fn nearest(&self, vector: &[f32], count: usize) -> Result<Vec<usize>, AnnError> {
        if vector.len() != self.centres.dim() {
            return Err(AnnError::Dimension { expected: self.centres.dim(), got: vector.len() });
        }
        let scores: Vec<f32> = self.centres.iter_rows().map(|centre| -squared_l2(vector, centre)).collect();
        Ok(top_k(&scores, count).iter().map(|centre| centre.id).collect())
    }
}

impl Sharder for Learned {
    fn shards(&self) -> usize {
        self.centres.rows()
    }

    fn assign(&self, item: Item<'_>) -> Result<usize, AnnError> {
        Ok(self.nearest(item.vector, 1)?[0])
    }

    fn route(&self, query: &[f32], _region: usize) -> Result<Vec<usize>, AnnError> {
        self.nearest(query, self.probes)
    }
}

/// By region: items stay in theirs, and queries ask theirs. A region that is down is answered for by the next one that isn't.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Geo {
    up: Vec<bool>,
}

impl Geo {
    /// `regions >= 1` regions, all up.
    pub fn new(regions: usize) -> Result<Self, AnnError> {
        check("regions", regions, 1, "at least 1")?;
        Ok(Self { up: vec![true; regions] })
    }

    /// Takes a region down.
    pub fn fail(&mut self, region: usize) -> Result<(), AnnError> {
        self.check(region)?;
        self.up[region] = false;
        Ok(())
    }

    fn check(&self, region: usize) -> Result<(), AnnError> {
        if region < self.up.len() { Ok(()) } else { Err(refuse("region", region, "below the number of regions")) }
    }
}

impl Sharder for Geo {
    fn shards(&self) -> usize {
        self.up.len()
    }

    fn assign(&self, item: Item<'_>) -> Result<usize, AnnError> {
        self.check(item.region)?;
        Ok(item.region)
    }

    fn route(&self, _query: &[f32], region: usize) -> Result<Vec<usize>, AnnError> {
        self.check(region)?;
        let regions = self.up.len();
        let serving = (0..regions).map(|step| (region + step) % regions).find(|&at| self.up[at]);
        serving.map(|at| vec![at]).ok_or(AnnError::ShardUnavailable(region))
    }
}

/// By region, then by nearness, then by hash: `regions x clusters x pieces` shards. A query asks every piece of its clusters in its region.
#[derive(Debug, Clone, PartialEq)]
pub struct Hybrid {
    geo: Geo,
    learned: Learned,
    pieces: u32,
}

impl Hybrid {
    /// Joins the three rules; `pieces >= 1` shards a cluster and region.
    pub fn new(geo: Geo, learned: Learned, pieces: u32) -> Result<Self, AnnError> {
        check("pieces", pieces as usize, 1, "at least 1")?;
        Ok(Self { geo, learned, pieces })
    }

    fn first_piece(&self, region: usize, cluster: usize) -> usize {
        (region * self.learned.shards() + cluster) * self.pieces as usize
    }
}

impl Sharder for Hybrid {
    fn shards(&self) -> usize {
        self.first_piece(self.geo.shards(), 0)
    }

    fn assign(&self, item: Item<'_>) -> Result<usize, AnnError> {
        let (region, cluster) = (self.geo.assign(item)?, self.learned.assign(item)?);
        Ok(self.first_piece(region, cluster) + jump_hash(item.id, self.pieces) as usize)
    }

    fn route(&self, query: &[f32], region: usize) -> Result<Vec<usize>, AnnError> {
        let clusters = self.learned.route(query, region)?;
        let mut shards = Vec::new();
        for region in self.geo.route(query, region)? {
            for &cluster in &clusters {
                let first = self.first_piece(region, cluster);
                shards.extend(first..first + self.pieces as usize);
            }
        }
        Ok(shards)
    }
}

/// An answer, and what it took.
#[derive(Debug, Clone, PartialEq)]
pub struct Routed {
    /// The hits, best first.
    pub hits: Vec<Hit>,
    /// The shards that were asked.
    pub shards: Vec<usize>,
    /// Vectors compared.
    pub compared: usize,
}

/// Exact shards, filled and asked by the rule of a [`Sharder`].
#[derive(Debug, Clone)]
pub struct RoutedShards<S> {
    sharder: S,
    metric: Metric,
    dim: usize,
    shards: Vec<FlatIndex>,
}

impl<S: Sharder> RoutedShards<S> {
    /// Places row `i` of `vectors`, shape `(n, dim)`, under `ids[i]` in region `regions[i]`.
    pub fn build(
        sharder: S,
        metric: Metric,
        ids: &[u64],
        vectors: &Matrix,
        regions: &[usize],
    ) -> Result<Self, AnnError> {
        check_rows(vectors.dim(), ids, vectors)?;
        if regions.len() != ids.len() {
            return Err(refuse("number of regions", regions.len(), "one a vector"));
        }
        let placed: Vec<usize> = (0..ids.len())
            .into_par_iter()
            .map(|row| sharder.assign(Item { id: ids[row], vector: vectors.row(row), region: regions[row] }))
            .collect::<Result<_, AnnError>>()?;
        let mut rows = vec![Vec::new(); sharder.shards()];
        for (row, shard) in placed.into_iter().enumerate() {
            rows.get_mut(shard).ok_or_else(|| refuse("shard", shard, "below the number of shards"))?.push(row);
        }
        let shards = rows
            .into_par_iter()
            .map(|rows| {
                let mut shard = FlatIndex::new(vectors.dim(), metric)?;
                let ids: Vec<u64> = rows.iter().map(|&row| ids[row]).collect();
                shard.add(&ids, &vectors.select(&rows))?;
                Ok(shard)
            })
            .collect::<Result<_, AnnError>>()?;
        Ok(Self { sharder, metric, dim: vectors.dim(), shards })
    }

    /// The rule.
    pub fn sharder(&self) -> &S {
        &self.sharder
    }

    /// The rule, to take a region down, say. It must not place vectors elsewhere than before.
    pub fn sharder_mut(&mut self) -> &mut S {
        &mut self.sharder
    }

    /// Vectors on each shard.
    pub fn lens(&self) -> Vec<usize> {
        self.shards.iter().map(FlatIndex::len).collect()
    }

    /// Vectors on the fullest shard over the mean; 1 when there are none.
    pub fn size_skew(&self) -> f64 {
        skew(&self.lens())
    }

    /// The ids on a shard, in no particular order; none when there is no such shard.
    pub fn ids(&self, shard: usize) -> &[u64] {
        self.shards.get(shard).map_or(&[], FlatIndex::ids)
    }

    /// The `k` nearest on the shards that the rule chooses for a query from `region`.
    pub fn search(&self, query: &[f32], region: usize, k: usize) -> Result<Routed, AnnError> {
        let rows = Matrix::from_vec(1, query.len(), query.to_vec())?;
        check_queries(self.dim, &rows)?;
        let asked = self.sharder.route(query, region)?;
        let mut lists = Vec::with_capacity(asked.len());
        let mut compared = 0;
        for &shard in &asked {
            let shard = self.shards.get(shard).ok_or_else(|| refuse("shard", shard, "below the number of shards"))?;
            compared += shard.len();
            lists.push(shard.search(query, k)?);
        }
        Ok(Routed { hits: merge_hits(self.metric, &lists, k), shards: asked, compared })
    }
}

/// The greatest of some loads over their mean; 1 when there is no load.
pub fn skew(loads: &[usize]) -> f64 {
    let total: usize = loads.iter().sum();
    match loads.iter().max() {
        Some(&greatest) if total > 0 => greatest as f64 * loads.len() as f64 / total as f64,
        _ => 1.0,
    }
}

fn check(name: &'static str, got: usize, least: usize, expected: &'static str) -> Result<(), AnnError> {
    if got >= least { Ok(()) } else { Err(refuse(name, got, expected)) }
}

fn refuse(name: &'static str, got: usize, expected: &'static str) -> AnnError {
    AnnError::Parameter { name, got: got.to_string(), expected }
}

#[cfg(test)]
mod tests {
    use eas_tensor::rng::SplitMix64;

    use super::*;

    /// 600 points around 6 centres on a line of squares, in three regions in turn.
    fn world() -> (Vec<u64>, Matrix, Vec<usize>, Matrix) {
        let mut rng = SplitMix64::new(3);
        let mut draw = |rows: usize| {
            let values = (0..rows)
                .flat_map(|row| [(row % 6) as f64 * 10.0 + rng.normal(), rng.normal()].map(|x| x as f32))
                .collect();
            Matrix::from_vec(rows, 2, values).unwrap()
        };
        let vectors = draw(600);
        ((0..600).map(|i| 5 * i + 1).collect(), vectors, (0..600).map(|i| i % 3).collect(), draw(30))
    }

    fn flat(ids: &[u64], vectors: &Matrix) -> FlatIndex {
        let mut flat = FlatIndex::new(2, Metric::SquaredL2).unwrap();
        flat.add(ids, vectors).unwrap();
        flat
    }

    fn every_id_once<S: Sharder>(shards: &RoutedShards<S>, ids: &[u64]) {
        let mut all: Vec<u64> = (0..shards.lens().len()).flat_map(|s| shards.ids(s).to_vec()).collect();
        all.sort_unstable();
        assert_eq!(all, ids);
    }

    #[test]
    fn asking_every_shard_is_exact_whatever_the_rule() {
        let (ids, vectors, regions, queries) = world();
        let exact = flat(&ids, &vectors);
        let hash = RoutedShards::build(Hash::new(7).unwrap(), Metric::SquaredL2, &ids, &vectors, &regions).unwrap();
        let learned = Learned::train(&vectors, 6, 6, 1).unwrap();
        let learned = RoutedShards::build(learned, Metric::SquaredL2, &ids, &vectors, &regions).unwrap();
        every_id_once(&hash, &ids);
        every_id_once(&learned, &ids);
        for query in queries.iter_rows() {
            let expected = exact.search(query, 20).unwrap();
            let by_hash = hash.search(query, 0, 20).unwrap();
            assert_eq!((by_hash.hits, by_hash.compared), (expected.clone(), 600));
            assert_eq!(learned.search(query, 0, 20).unwrap().hits, expected);
        }
        assert!(hash.size_skew() < 1.4 && learned.size_skew() >= 1.0);
    }

    #[test]
    fn a_learned_query_asks_the_nearest_centres_and_finds_its_cluster() {
        let (ids, vectors, regions, queries) = world();
        let exact = flat(&ids, &vectors);
        let learned = Learned::train(&vectors, 6, 1, 1).unwrap();
        let shards = RoutedShards::build(learned.clone(), Metric::SquaredL2, &ids, &vectors, &regions).unwrap();
        let mut found = 0;
        for query in queries.iter_rows() {
            let answer = shards.search(query, 0, 5).unwrap();
            assert_eq!(answer.shards.len(), 1);
            found += usize::from(answer.hits == exact.search(query, 5).unwrap());
        }
        assert!(found >= 27, "{found}");
        let members: Vec<usize> = shards.ids(2).iter().map(|id| (id - 1) as usize / 5).collect();
        let split = learned.split(2, &vectors.select(&members), 1).unwrap();
        let after = RoutedShards::build(split, Metric::SquaredL2, &ids, &vectors, &regions).unwrap();
        every_id_once(&after, &ids);
        let lens = after.lens();
        assert_eq!(lens.len(), 7);
        assert!(lens[2] < members.len() && lens[2] > 0 && lens[6] > 0);
    }

    #[test]
    fn regions_keep_their_answers_until_they_fail() {
        let (ids, vectors, regions, queries) = world();
        let geo = Geo::new(3).unwrap();
        let mut shards = RoutedShards::build(geo, Metric::SquaredL2, &ids, &vectors, &regions).unwrap();
        let region_of = |id: u64| ((id - 1) / 5) as usize % 3;
        let answers = |shards: &RoutedShards<Geo>, region| shards.search(queries.row(0), region, 10).unwrap();
        assert!(answers(&shards, 1).hits.iter().all(|hit| region_of(hit.id) == 1));
        shards.sharder_mut().fail(1).unwrap();
        assert!(answers(&shards, 1).hits.iter().all(|hit| region_of(hit.id) == 2));
        shards.sharder_mut().fail(2).unwrap();
        shards.sharder_mut().fail(0).unwrap();
        assert!(matches!(shards.search(queries.row(0), 1, 10), Err(AnnError::ShardUnavailable(1))));
    }

    #[test]
    fn the_hybrid_is_all_three() {
        let (ids, vectors, regions, queries) = world();
        let learned = Learned::train(&vectors, 6, 2, 1).unwrap();
        let hybrid = Hybrid::new(Geo::new(3).unwrap(), learned, 4).unwrap();
        assert_eq!(hybrid.shards(), 72);
        let shards = RoutedShards::build(hybrid, Metric::SquaredL2, &ids, &vectors, &regions).unwrap();
        every_id_once(&shards, &ids);
        let answer = shards.search(queries.row(3), 2, 10).unwrap();
        assert_eq!(answer.shards.len(), 8);
        assert!(answer.hits.iter().all(|hit| ((hit.id - 1) / 5) % 3 == 2));
    }

    #[test]
    fn a_part_of_the_hash_shards_finds_that_part_and_bad_input_is_refused() {
        let (ids, vectors, regions, queries) = world();
        let part = Hash::new(6).unwrap().asking(2).unwrap();
        let shards = RoutedShards::build(part, Metric::SquaredL2, &ids, &vectors, &regions).unwrap();
        let answer = shards.search(queries.row(0), 9, 600).unwrap();
        assert!((150..250).contains(&answer.hits.len()), "{}", answer.hits.len());
        assert!(Hash::new(0).is_err() && part.asking(7).is_err() && part.asking(0).is_err());
        assert!(Learned::train(&vectors, 0, 1, 1).is_err() && Learned::train(&vectors, 6, 0, 1).is_err());
        assert!(Geo::new(0).is_err());
        assert!(shards.search(&[1.0], 0, 1).is_err());
        assert!(shards.search(&[f32::NAN, 0.0], 0, 1).is_err());
        assert!(RoutedShards::build(part, Metric::SquaredL2, &ids, &vectors, &[0]).is_err());
        let far = vec![3; 600];
        let geo = Geo::new(3).unwrap();
        let error = RoutedShards::build(geo, Metric::SquaredL2, &ids, &vectors, &far).unwrap_err().to_string();
        assert!(error.contains("region is 3"), "{error}");
        assert_eq!((skew(&[]), skew(&[0, 0]), skew(&[3, 1])), (1.0, 1.0, 1.5));
    }
}
