//! One shard: log, vectors, metadata, graph.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, ensure};
use eas_ann::filtered::{CostModel, Filtered, Plan, exact, over_fetch, traverse};
use eas_ann::versioned::Versioned;
use eas_ann::wal::Wal;
use eas_ann::{AnnError, Dtype, Hit, Hnsw, HnswConfig, Metric, VectorFile, VectorIndex, merge_hits};
use eas_retrieval::planner::{Columns, Kind, Planner, RowSet};
use eas_tensor::Matrix;

use super::record::Record;
use super::{Answer, Query, Row};

/// Rows after which the vectors in memory go to the file.
const SEGMENT: usize = 4_096;
/// Queries that the cost of a search is measured with.
const PROBES: usize = 16;

/// What opening a shard found in its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovered {
    /// Whole records.
    pub records: u64,
    /// Bytes of a record that a crash had torn.
    pub torn_bytes: u64,
}

/// A graph over the first rows of a shard, by row number.
#[derive(Debug)]
pub struct Indexed {
    graph: Option<Hnsw>,
    rows: usize,
    cost: CostModel,
}

/// Rows of one shard. The log is the truth: what opening reads from it makes the rest again.
pub struct Shard {
    log: Wal,
    /// Vectors of the first rows, unit length, in a mapped file.
    segment: VectorFile,
    /// Those of the rows after them, until there are enough for the file.
    recent: Vec<f32>,
    columns: Columns,
    ids: Vec<u64>,
    row_of: HashMap<u64, usize>,
    /// Rows that were deleted or replaced: never hits again.
    dead: Vec<usize>,
    /// The graph in force; later rows are compared one by one until the next graph takes them in.
    index: Versioned<Indexed>,
}

impl Shard {
    pub(super) fn open(folder: &Path, dim: usize, schema: &[(&str, Kind)]) -> anyhow::Result<(Self, Recovered)> {
        std::fs::create_dir_all(folder)?;
        let mut records = Vec::new();
        let log = folder.join("log");
        let (log, recovery) = Wal::open(&log, |_, payload| {
            records.push(payload.to_vec());
            Ok(())
        })?;
        let path = folder.join("vectors.vec");
        let segment = match VectorFile::open_append(&path) {
            Err(AnnError::NotFound { .. }) => VectorFile::create(&path, dim, Dtype::F32)?,
            opened => opened?,
        };
        ensure!(segment.dim() == dim, "the shard holds vectors of dimension {}, not {dim}", segment.dim());
        let mut shard = Self {
            log,
            segment,
            recent: Vec::new(),
            columns: Columns::new(schema)?,
            ids: Vec::new(),
            row_of: HashMap::new(),
            dead: Vec::new(),
            index: Versioned::new(Indexed { graph: None, rows: 0, cost: CostModel { base: 0.0, per_ef: 0.0 } }),
        };
        for (number, payload) in records.iter().enumerate() {
            let record = Record::decode(payload).with_context(|| format!("record {number}"))?;
            shard.apply(record)?;
        }
        let (kept, logged) = (shard.segment.len(), shard.ids.len());
        ensure!(
            kept <= logged as u64,
            "{kept} vectors in the file, {logged} rows in the log: they don't belong together"
        );
        let recovered = Recovered { records: recovery.records, torn_bytes: recovery.torn_bytes };
        Ok((shard, recovered))
    }

    /// Rows that a search can find.
    pub fn len(&self) -> usize {
        self.row_of.len()
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True when a search can find `id`.
    pub fn contains(&self, id: u64) -> bool {
        self.row_of.contains_key(&id)
    }

    /// The metadata, dead rows included.
    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    /// Number of the graph in force.
    pub fn version(&self) -> u64 {
        self.index.current().number
    }

    /// Bytes of the log that are acknowledged.
    pub fn log_bytes(&self) -> u64 {
        self.log.bytes()
    }

    pub(super) fn insert(&mut self, rows: &[&Row], vectors: &Matrix) -> anyhow::Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let records = rows.iter().zip(vectors.iter_rows());
        let records: Vec<Record> =
            records.map(|(row, vector)| Record::Insert(row.id, vector.to_vec(), row.metadata.clone())).collect();
        records.iter().try_for_each(|record| self.log.append(&record.encode()).map(drop))?;
        self.log.sync()?;
        records.into_iter().try_for_each(|record| self.apply(record))?;
        if self.recent.len() >= SEGMENT * self.segment.dim() {
            let rows = self.recent.len() / self.segment.dim();
            self.segment.append(&Matrix::from_vec(rows, self.segment.dim(), self.recent.clone())?)?;
            self.recent.clear();
        }
        Ok(())
    }

    pub(super) fn delete(&mut self, ids: &[u64]) -> anyhow::Result<usize> {
        let there: Vec<u64> = ids.iter().copied().filter(|&id| self.contains(id)).collect();
        there.iter().try_for_each(|&id| self.log.append(&Record::Delete(id).encode()).map(drop))?;
        self.log.sync()?;
        there.iter().try_for_each(|&id| self.apply(Record::Delete(id)))?;
        Ok(there.len())
    }

    /// What a record of the log does to the state in memory.
    fn apply(&mut self, record: Record) -> anyhow::Result<()> {
        match record {
            Record::Insert(id, vector, metadata) => {
                let row = self.columns.push(&metadata)?;
                // The segment is behind the log, never ahead: its rows are the first that were inserted.
                if row as u64 >= self.segment.len() {
                    self.recent.extend_from_slice(&vector);
                }
                self.ids.push(id);
                self.dead.extend(self.row_of.insert(id, row));
            }
            Record::Delete(id) => self.dead.extend(self.row_of.remove(&id)),
        }
        Ok(())
    }

    /// Builds a graph of all rows that live. Takes a while, during which searches go on with the graph in force.
    pub fn build(&self) -> anyhow::Result<Indexed> {
        let rows = self.ids.len();
        let live: Vec<u64> =
            (0..rows as u64).filter(|&row| self.row_of.get(&self.ids[row as usize]) == Some(&(row as usize))).collect();
        let mut graph = Hnsw::new(self.segment.dim(), Metric::Cosine, HnswConfig::default())?;
        let mut vectors = Matrix::zeros(live.len(), self.segment.dim());
        for (at, &row) in live.iter().enumerate() {
            vectors.row_mut(at).copy_from_slice(&self.vector(row)?);
        }
        graph.add(&live, &vectors)?;
        let probes = (0..vectors.rows()).step_by((vectors.rows() / PROBES).max(1)).map(|row| vectors.row(row));
        let cost = CostModel::measure(&graph, probes, HnswConfig::default().ef)?;
        Ok(Indexed { graph: Some(graph), rows, cost })
    }

    /// Puts a graph in force, for every search that begins from now on.
    pub fn install(&self, index: Indexed) {
        self.index.swap(index);
    }

    fn vector(&self, row: u64) -> Result<Cow<'_, [f32]>, AnnError> {
        match row.checked_sub(self.segment.len()) {
            None => self.segment.get(row),
            Some(recent) => {
                let from = recent as usize * self.segment.dim();
                Ok(Cow::Borrowed(&self.recent[from..from + self.segment.dim()]))
            }
        }
    }

    /// Rows that pass the filter and live.
    fn passing(&self, query: &Query<'_>) -> anyhow::Result<RowSet> {
        let mut rows = self.columns.matching(&query.filter)?;
        for &row in &self.dead {
            rows.remove(row);
        }
        Ok(rows)
    }

    /// Compares the rows that pass and that `range` holds.
    fn scan(&self, query: &Query<'_>, rows: &RowSet, range: std::ops::Range<usize>) -> anyhow::Result<Filtered> {
        let rows = rows.iter().skip_while(|&row| row < range.start).take_while(|&row| row < range.end);
        let rows = rows.map(|row| Ok((row as u64, self.vector(row as u64)?)));
        Ok(exact(Metric::Cosine, query.vector, query.k, rows)?)
    }

    /// Searches the graph by the planner's plan (by cost, if none is given) and the rows after it one by one.
    pub fn search(&self, query: &Query<'_>, planner: Option<Planner>) -> anyhow::Result<Answer> {
        let passing = self.passing(query)?;
        let version = self.index.current();
        let Indexed { graph, rows, cost } = &version.value;
        let matching = passing.iter().take_while(|row| row < rows).count();
        let planner = planner.unwrap_or(Planner::ByCost(*cost));
        let plan = match graph {
            Some(_) => planner.choose(*rows, matching, query.k, query.ef),
            None => Plan::Exact,
        };
        let mut found = self.search_by(plan, query, &passing, &version.value)?;
        let later = self.scan(query, &passing, *rows..self.ids.len())?;
        found.distance_evaluations += later.distance_evaluations;
        let mut hits = merge_hits(Metric::Cosine, &[found.hits, later.hits], query.k);
        for hit in &mut hits {
            hit.id = self.ids[hit.id as usize];
        }
        hits.sort_by(|a, b| Metric::Cosine.best_first(a, b));
        Ok(Answer { hits, distance_evaluations: found.distance_evaluations, plans: vec![plan] })
    }

    /// Searches the rows of the graph by one plan.
    fn search_by(&self, plan: Plan, query: &Query<'_>, passing: &RowSet, index: &Indexed) -> anyhow::Result<Filtered> {
        let Indexed { graph, rows, .. } = index;
        let keep = |row: u64| passing.contains(row as usize);
        let (k, ef) = (query.k, query.ef);
        Ok(match (plan, graph) {
            (Plan::Traversal, Some(graph)) => traverse(graph, query.vector, k, ef, &keep)?,
            (Plan::OverFetch, Some(graph)) => {
                let matching = passing.iter().take_while(|row| row < rows).count();
                over_fetch(graph, query.vector, k, ef, matching as f64 / (*rows).max(1) as f64, &keep)?
            }
            _ => self.scan(query, passing, 0..*rows)?,
        })
    }

    pub(super) fn brute_force(&self, query: &Query<'_>) -> anyhow::Result<Vec<Hit>> {
        let mut hits = self.scan(query, &self.passing(query)?, 0..self.ids.len())?.hits;
        for hit in &mut hits {
            hit.id = self.ids[hit.id as usize];
        }
        hits.sort_by(|a, b| Metric::Cosine.best_first(a, b));
        Ok(hits)
    }
}
