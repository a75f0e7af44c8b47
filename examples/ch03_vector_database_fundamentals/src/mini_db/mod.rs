//! A small vector database in one process (listing 3.6): each layer does its work, and each can be read in a minute.
//!
//! [`Shard`] keeps rows: a log that is the truth, mapped segments of vectors, columns of metadata, a graph that is built in the
//! background. [`MiniVectorDb`] spreads rows over shards, merges their answers and caches them. [`Front`] stands before it: deadline,
//! breaker, queue.

pub mod drill;
mod front;
mod record;
mod shard;

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::ensure;
use eas_ann::filtered::Plan;
use eas_ann::{Hit, Metric, jump_hash, merge_hits};
use eas_ops::bucket::TokenBucket;
use eas_ops::{Cache, CacheStats, Policy};
use eas_retrieval::planner::{Expr, Kind, Planner, Value};
use eas_tensor::Matrix;

pub use front::{Front, Refusal};
pub use shard::{Indexed, Recovered, Shard};

/// Rows that are acknowledged together.
pub const BATCH: usize = 256;

/// A row to keep: its id, and its metadata in the order of the schema.
#[derive(Debug, Clone)]
pub struct Row {
    /// The id of the caller's choice.
    pub id: u64,
    /// Values of the columns.
    pub metadata: Vec<Value>,
}

/// What to do with an id that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDuplicate {
    /// Refuse the whole batch.
    Refuse,
    /// Let the new row take its place.
    Replace,
}

/// What to look for.
#[derive(Debug, Clone)]
pub struct Query<'a> {
    /// A vector of any length but zero.
    pub vector: &'a [f32],
    /// How many hits.
    pub k: usize,
    /// Which rows may be hits.
    pub filter: Expr,
    /// Width of the beam.
    pub ef: usize,
}

/// Hits, and what they cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Cosine, best first.
    pub hits: Vec<Hit>,
    /// Distances computed, 0 from the cache.
    pub distance_evaluations: u64,
    /// The plan of each shard; none from the cache.
    pub plans: Vec<Plan>,
}

/// Rows over shards by jump hash of the id.
pub struct MiniVectorDb {
    shards: Vec<Shard>,
    dim: usize,
    bucket: TokenBucket,
    cache: Mutex<Cache<String, Vec<Hit>>>,
    /// One more with every change of the rows: an answer in the cache belongs to one state of the database.
    changes: u64,
}

impl MiniVectorDb {
    /// Opens the database in `folder`, or makes an empty one, and says what each shard recovered.
    pub fn open(
        folder: &Path,
        dim: usize,
        schema: &[(&str, Kind)],
        shards: usize,
        rows_a_second: u64,
    ) -> anyhow::Result<(Self, Vec<Recovered>)> {
        let opened = (0..shards).map(|number| Shard::open(&folder.join(format!("shard-{number}")), dim, schema));
        let (shards, recovered): (Vec<_>, Vec<_>) = opened.collect::<anyhow::Result<Vec<_>>>()?.into_iter().unzip();
        let db = Self {
            shards,
            dim,
            bucket: TokenBucket::new(rows_a_second, 4 * BATCH as u64, 0)?,
            cache: Mutex::new(Cache::new(1_000, Policy::Lru)),
            changes: 0,
        };
        Ok((db, recovered))
    }

    /// The shards.
    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// Rows that a search can find.
    pub fn len(&self) -> usize {
        self.shards.iter().map(Shard::len).sum()
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard_of(&self, id: u64) -> usize {
        jump_hash(id, self.shards.len() as u32) as usize
    }

    /// Takes at most [`BATCH`] rows, all or none. When this returns they are on the disk and can be found. Refuses a wrong dimension, values that aren't finite, a vector of length zero, metadata that don't fit, a duplicate by policy, and more rows a second than agreed.
    pub fn ingest(&mut self, rows: &[Row], vectors: &Matrix, policy: OnDuplicate, now_us: u64) -> anyhow::Result<()> {
        ensure!(rows.len() == vectors.rows(), "{} rows for {} vectors", rows.len(), vectors.rows());
        ensure!(rows.len() <= BATCH, "{} rows in a batch of at most {BATCH}", rows.len());
        ensure!(
            vectors.is_empty() || vectors.dim() == self.dim,
            "vectors of dimension {}, expected {}",
            vectors.dim(),
            self.dim
        );
        vectors.check_finite()?;
        let zero = vectors.iter_rows().position(|row| row.iter().all(|&x| x == 0.0));
        ensure!(zero.is_none(), "vector {} has length 0", zero.unwrap_or(0));
        for (at, row) in rows.iter().enumerate() {
            let shard = &self.shards[self.shard_of(row.id)];
            shard.columns().check(&row.metadata)?;
            let twice = rows[..at].iter().any(|other| other.id == row.id);
            ensure!(!twice, "id {} stands twice in the batch", row.id);
            ensure!(policy == OnDuplicate::Replace || !shard.contains(row.id), "id {} is there already", row.id);
        }
        ensure!(self.bucket.try_take(rows.len() as u64, now_us), "more rows a second than agreed: wait");
        let mut vectors = vectors.clone();
        vectors.normalize_rows();
        self.changes += 1;
        for number in 0..self.shards.len() {
            let mine: Vec<usize> = (0..rows.len()).filter(|&at| self.shard_of(rows[at].id) == number).collect();
            let batch: Vec<&Row> = mine.iter().map(|&at| &rows[at]).collect();
            self.shards[number].insert(&batch, &vectors.select(&mine))?;
        }
        Ok(())
    }

    /// Deletes ids and returns how many were there. No search finds them from now on, in the cache neither.
    pub fn delete(&mut self, ids: &[u64]) -> anyhow::Result<usize> {
        self.changes += 1;
        let mut deleted = 0;
        for number in 0..self.shards.len() {
            let mine: Vec<u64> = ids.iter().copied().filter(|&id| self.shard_of(id) == number).collect();
            deleted += self.shards[number].delete(&mine)?;
        }
        Ok(deleted)
    }

    /// Searches every shard and merges, or takes the answer that the same question had in the same state of the database.
    pub fn search(&self, query: &Query<'_>, planner: Option<Planner>) -> anyhow::Result<Answer> {
        let versions: Vec<u64> = self.shards.iter().map(Shard::version).collect();
        let bits: Vec<u32> = query.vector.iter().map(|x| x.to_bits()).collect();
        let key =
            format!("{} {versions:?} {} {} {:?} {planner:?} {bits:?}", self.changes, query.k, query.ef, query.filter);
        if let Some(hits) = self.cache.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(Answer { hits: hits.clone(), distance_evaluations: 0, plans: Vec::new() });
        }
        let answer = self.search_shards(query, planner)?;
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.insert(key, answer.hits.clone());
        Ok(answer)
    }

    /// [`Self::search`] past the cache.
    pub fn search_shards(&self, query: &Query<'_>, planner: Option<Planner>) -> anyhow::Result<Answer> {
        let answers = self.shards.iter().map(|shard| shard.search(query, planner));
        let answers = answers.collect::<anyhow::Result<Vec<Answer>>>()?;
        let lists: Vec<&[Hit]> = answers.iter().map(|answer| answer.hits.as_slice()).collect();
        Ok(Answer {
            hits: merge_hits(Metric::Cosine, &lists, query.k),
            distance_evaluations: answers.iter().map(|answer| answer.distance_evaluations).sum(),
            plans: answers.into_iter().flat_map(|answer| answer.plans).collect(),
        })
    }

    /// The true answer, by comparing every row that passes.
    pub fn brute_force(&self, query: &Query<'_>) -> anyhow::Result<Vec<Hit>> {
        let lists = self.shards.iter().map(|shard| shard.brute_force(query)).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(merge_hits(Metric::Cosine, &lists, query.k))
    }

    /// Hits and misses of the cache of answers.
    pub fn cache_stats(&self) -> CacheStats {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).stats()
    }

    /// Rows of the fullest shard over the mean: 1 when they are equal.
    pub fn skew(&self) -> f64 {
        let fullest = self.shards.iter().map(Shard::len).max().unwrap_or(0);
        fullest as f64 * self.shards.len() as f64 / self.len().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: [(&str, Kind); 2] = [("kind", Kind::Text), ("size", Kind::Number)];

    fn rows(ids: std::ops::Range<u64>) -> (Vec<Row>, Matrix) {
        let row = |id: u64| Row {
            id,
            metadata: vec![if id.is_multiple_of(2) { "even" } else { "odd" }.into(), (id as f64).into()],
        };
        let angle = |id: u64| id as f32 * 0.01;
        let vectors: Vec<[f32; 2]> = ids.clone().map(|id| [3.0 * angle(id).cos(), 3.0 * angle(id).sin()]).collect();
        (ids.map(row).collect(), Matrix::from_rows(&vectors).unwrap())
    }

    fn query(filter: Expr) -> Query<'static> {
        Query { vector: &[1.0, 0.0], k: 3, filter, ef: 32 }
    }

    fn ids(answer: &Answer) -> Vec<u64> {
        answer.hits.iter().map(|hit| hit.id).collect()
    }

    #[test]
    fn rows_survive_and_versions_and_deletes_are_seen_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let open = || MiniVectorDb::open(dir.path(), 2, &SCHEMA, 2, 1_000_000).unwrap();
        let (mut db, _) = open();
        let (batch, vectors) = rows(0..200);
        db.ingest(&batch, &vectors, OnDuplicate::Refuse, 0).unwrap();
        assert_eq!(ids(&db.search(&query(Expr::All), None).unwrap()), [0, 1, 2]);
        for shard in db.shards() {
            shard.install(shard.build().unwrap());
        }
        assert_eq!(ids(&db.search(&query(Expr::is("kind", "odd")), None).unwrap()), [1, 3, 5]);
        let cached = db.search(&query(Expr::is("kind", "odd")), None).unwrap();
        assert_eq!((cached.distance_evaluations, db.cache_stats().hits), (0, 1));
        assert_eq!(db.delete(&[1, 5, 999]).unwrap(), 2);
        assert_eq!(ids(&db.search(&query(Expr::is("kind", "odd")), None).unwrap()), [3, 7, 9]);
        // Row 3 moves away from the query, and its metadata change.
        let moved = [Row { id: 3, metadata: vec!["even".into(), 3.0.into()] }];
        assert!(db.ingest(&moved, &vectors.select(&[150]), OnDuplicate::Refuse, 0).is_err());
        db.ingest(&moved, &vectors.select(&[150]), OnDuplicate::Replace, 0).unwrap();
        assert_eq!(ids(&db.search(&query(Expr::is("kind", "odd")), None).unwrap()), [7, 9, 11]);
        assert_eq!(db.len(), 198);
        drop(db);
        let (db, recovered) = open();
        assert_eq!(db.len(), 198);
        assert_eq!(recovered.iter().map(|shard| shard.records).sum::<u64>(), 203);
        assert_eq!(ids(&db.search(&query(Expr::is("kind", "odd")), None).unwrap()), [7, 9, 11]);
        assert_eq!(ids(&db.search(&query(Expr::between("size", 3.0, 3.0)), None).unwrap()), [3]);
    }

    #[test]
    fn a_refused_batch_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (mut db, _) = MiniVectorDb::open(dir.path(), 2, &SCHEMA, 2, 300).unwrap();
        let (batch, vectors) = rows(0..10);
        let mut bad = |vectors: &Matrix, batch: &[Row]| {
            let refused = db.ingest(batch, vectors, OnDuplicate::Refuse, 0);
            assert_eq!(db.len(), 0);
            refused.unwrap_err().to_string()
        };
        let mut wrong = vectors.clone();
        wrong.row_mut(4)[1] = f32::NAN;
        assert!(bad(&wrong, &batch).contains("NaN"));
        wrong.row_mut(4).fill(0.0);
        assert!(bad(&wrong, &batch).contains("length 0"));
        assert!(bad(&Matrix::zeros(10, 3), &batch).contains("dimension 3"));
        assert!(bad(&vectors.select(&[0; 9]), &batch).contains("10 rows for 9"));
        let twice: Vec<Row> = batch.iter().chain(&batch[..1]).cloned().collect();
        assert!(bad(&vectors.select(&[0; 11]), &twice).contains("twice"));
        let misfit = [Row { id: 1, metadata: vec![1.0.into(), 1.0.into()] }];
        assert!(bad(&vectors.select(&[0]), &misfit).contains("a text"));
        let (many, vectors) = rows(0..256);
        for batch in 0..4 {
            let shifted: Vec<Row> = many.iter().map(|row| Row { id: row.id + 256 * batch, ..row.clone() }).collect();
            db.ingest(&shifted, &vectors, OnDuplicate::Refuse, 0).unwrap();
        }
        let (late, vector) = rows(5_000..5_001);
        assert!(db.ingest(&late, &vector, OnDuplicate::Refuse, 0).unwrap_err().to_string().contains("wait"));
        db.ingest(&late, &vector, OnDuplicate::Refuse, 10_000).unwrap();
    }
}
