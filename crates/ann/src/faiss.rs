//! [`FaissIndex`]: an index of the library FAISS in this process; feature `faiss`.
//!
//! The engine that everyone compares with, as a peer and as an oracle. The feature compiles FAISS from source: it needs cmake, a C++
//! compiler with OpenMP, BLAS and LAPACK (on Debian `cmake g++ libopenblas-dev`), and some ten minutes once.
//!
//! ```no_run
//! use eas_ann::faiss::FaissIndex;
//! use eas_ann::{Metric, VectorIndex};
//! use eas_tensor::Matrix;
//!
//! let mut index = FaissIndex::new(2, Metric::Cosine, "HNSW16,Flat")?;
//! index.add(&[10, 20], &Matrix::from_rows(&[[1.0, 0.0], [0.0, 1.0]])?)?;
//! index.set("efSearch", 32.0)?;
//! assert_eq!(index.search(&[1.0, 0.2], 1)?[0].id, 10);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use ::faiss::index::IndexImpl;
use ::faiss::index::autotune::ParameterSpace;
use ::faiss::{Index as _, MetricType, index_factory};
use eas_tensor::Matrix;

use crate::AnnError;
use crate::file::{Reader, Writer};
use crate::index::{Hit, Metric, VectorIndex, check_dim, check_new_ids, check_queries, check_rows, prepare_query};

const KIND: [u8; 4] = *b"FAIS";

/// An index that FAISS builds from a description such as `Flat`, `HNSW16,Flat` or `IVF256,PQ48x4fs`.
///
/// FAISS numbers vectors from 0 and most of its indexes can't remove any. So a copy of the vectors is kept beside it, and
/// [`VectorIndex::remove`] has FAISS build its index anew from those that stay. What needs training is trained on the vectors of
/// the first [`VectorIndex::add`].
#[derive(Debug)]
pub struct FaissIndex {
    metric: Metric,
    dim: usize,
    description: String,
    ids: Vec<u64>,
    values: Vec<f32>,
    row_of: HashMap<u64, usize>,
    parameters: Vec<(String, f64)>,
    /// Behind a lock because the bindings search through an exclusive reference; a batch is one search, in FAISS's own threads.
    engine: Mutex<IndexImpl>,
}

impl FaissIndex {
    /// An empty index for vectors of `dim` values. Refuses a description that FAISS doesn't understand or that doesn't suit `dim`.
    pub fn new(dim: usize, metric: Metric, description: &str) -> Result<Self, AnnError> {
        check_dim(dim)?;
        Ok(Self {
            metric,
            dim,
            description: description.to_owned(),
            ids: Vec::new(),
            values: Vec::new(),
            row_of: HashMap::new(),
            parameters: Vec::new(),
            engine: Mutex::new(engine(dim, metric, description)?),
        })
    }

    /// The description that FAISS built the index from.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// Sets a search parameter by FAISS's name, such as `efSearch` or `nprobe`.
    pub fn set(&mut self, name: &str, value: f64) -> Result<(), AnnError> {
        self.apply(name, value)?;
        self.parameters.retain(|(known, _)| known != name);
        self.parameters.push((name.to_owned(), value));
        Ok(())
    }

    fn apply(&self, name: &str, value: f64) -> Result<(), AnnError> {
        let engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        ParameterSpace::new()
            .and_then(|space| space.set_index_parameter(&*engine, name, value))
            .map_err(|error| failure(&self.description, &format!("setting {name} to {value}: {error}")))
    }

    fn feed(&mut self, from: usize) -> Result<(), AnnError> {
        let rows = &self.values[from * self.dim..];
        let engine = self.engine.get_mut().unwrap_or_else(PoisonError::into_inner);
        let fed = if engine.is_trained() { Ok(()) } else { engine.train(rows) };
        fed.and_then(|()| engine.add(rows))
            .map_err(|error| failure(&self.description, &format!("adding {} vectors: {error}", self.ids.len() - from)))
    }

    /// Keeps the rows that pass, and builds anew.
    fn rebuild(&mut self, stays: impl Fn(u64) -> bool) -> Result<(), AnnError> {
        let mut next = Self::new(self.dim, self.metric, &self.description)?;
        for (&id, row) in self.ids.iter().zip(self.values.chunks_exact(self.dim)) {
            if stays(id) {
                next.row_of.insert(id, next.ids.len());
                next.ids.push(id);
                next.values.extend_from_slice(row);
            }
        }
        if !next.ids.is_empty() {
            next.feed(0)?;
        }
        for (name, value) in &self.parameters {
            next.apply(name, *value)?;
        }
        next.parameters = std::mem::take(&mut self.parameters);
        *self = next;
        Ok(())
    }

    /// Up to `k` hits of each of the prepared queries.
    fn ask(&self, queries: &Matrix, k: usize) -> Result<Vec<Vec<Hit>>, AnnError> {
        let k = k.min(self.ids.len());
        if k == 0 || queries.rows() == 0 {
            return Ok(vec![Vec::new(); queries.rows()]);
        }
        let mut engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        let found = engine
            .search(queries.as_slice(), k)
            .map_err(|error| failure(&self.description, &format!("searching: {error}")))?;
        Ok(found
            .labels
            .chunks(k)
            .zip(found.distances.chunks(k))
            .map(|(labels, scores)| {
                let mut hits: Vec<Hit> = labels
                    .iter()
                    .zip(scores)
                    .filter_map(|(label, &score)| {
                        let id = *self.ids.get(usize::try_from(label.get()?).ok()?)?;
                        Some(Hit { id, score })
                    })
                    .collect();
                hits.sort_by(|a, b| self.metric.best_first(a, b));
                hits
            })
            .collect())
    }
}

impl VectorIndex for FaissIndex {
    fn dim(&self) -> usize {
        self.dim
    }

    fn metric(&self) -> Metric {
        self.metric
    }

    fn len(&self) -> usize {
        self.ids.len()
    }

    fn contains(&self, id: u64) -> bool {
        self.row_of.contains_key(&id)
    }

    fn add(&mut self, ids: &[u64], vectors: &Matrix) -> Result<(), AnnError> {
        check_rows(self.dim, ids, vectors)?;
        check_new_ids(ids, |id| self.contains(id))?;
        if ids.is_empty() {
            return Ok(());
        }
        let before = self.ids.len();
        self.ids.extend_from_slice(ids);
        self.values.extend_from_slice(self.metric.stored(vectors.clone()).as_slice());
        if let Err(error) = self.feed(before) {
            // What FAISS took of them before it failed isn't known.
            self.ids.truncate(before);
            self.values.truncate(before * self.dim);
            self.rebuild(|_| true)?;
            return Err(error);
        }
        self.row_of.extend(ids.iter().copied().zip(before..));
        Ok(())
    }

    fn remove(&mut self, ids: &[u64]) -> Result<usize, AnnError> {
        let gone: std::collections::HashSet<u64> = ids.iter().copied().filter(|&id| self.contains(id)).collect();
        if !gone.is_empty() {
            self.rebuild(|id| !gone.contains(&id))?;
        }
        Ok(gone.len())
    }

    /// Asks for ever more hits until `k` of them pass or there are no more.
    fn search_where(&self, query: &[f32], k: usize, keep: &(dyn Fn(u64) -> bool + Sync)) -> Result<Vec<Hit>, AnnError> {
        let query = prepare_query(self.metric, self.dim, query)?;
        let mut asked = k;
        loop {
            let mut hits = self.ask(&query, asked)?.pop().unwrap_or_default();
            hits.retain(|hit| keep(hit.id));
            if hits.len() >= k || asked >= self.ids.len() {
                hits.truncate(k);
                return Ok(hits);
            }
            asked = (4 * asked.max(16)).min(self.ids.len());
        }
    }

    fn search_batch(&self, queries: &Matrix, k: usize) -> Result<Vec<Vec<Hit>>, AnnError> {
        check_queries(self.dim, queries)?;
        self.ask(&self.metric.stored(queries.clone()), k)
    }

    /// Writes description, parameters, ids and vectors; [`VectorIndex::load`] has FAISS build its index anew from them.
    fn save(&self, path: &Path) -> Result<(), AnnError> {
        let mut out = Writer::default();
        out.u8(self.metric.code());
        out.u32(self.dim as u32);
        let text = |out: &mut Writer, text: &str| {
            out.u32(text.len() as u32);
            text.bytes().for_each(|byte| out.u8(byte));
        };
        text(&mut out, &self.description);
        out.u32(self.parameters.len() as u32);
        for (name, value) in &self.parameters {
            text(&mut out, name);
            out.u64(value.to_bits());
        }
        out.u64(self.ids.len() as u64);
        out.u64s(&self.ids);
        out.f32s(&self.values);
        out.finish(path, KIND)
    }

    fn load(path: &Path) -> Result<Self, AnnError> {
        let mut input = Reader::open(path, KIND)?;
        let text = |input: &mut Reader| -> Result<String, AnnError> {
            let bytes = (0..input.u32()?).map(|_| input.u8()).collect::<Result<Vec<_>, _>>()?;
            String::from_utf8(bytes).map_err(|_| input.corrupt("a name isn't UTF-8"))
        };
        let metric = Metric::from_code(input.u8()?).ok_or_else(|| input.corrupt("unknown metric"))?;
        let dim = input.u32()? as usize;
        let description = text(&mut input)?;
        let parameters = (0..input.u32()?)
            .map(|_| Ok((text(&mut input)?, f64::from_bits(input.u64()?))))
            .collect::<Result<Vec<_>, AnnError>>()?;
        let rows = input.u64()? as usize;
        let ids = input.u64s(rows)?;
        let values = input.f32s(rows.saturating_mul(dim))?;
        let matrix = Matrix::from_vec(rows, dim, values).map_err(|error| input.corrupt(&error.to_string()))?;
        input.finish()?;
        let mut index = Self::new(dim, metric, &description)?;
        index.add(&ids, &matrix)?;
        for (name, value) in parameters {
            index.set(&name, value)?;
        }
        Ok(index)
    }
}

fn engine(dim: usize, metric: Metric, description: &str) -> Result<IndexImpl, AnnError> {
    let metric = match metric {
        // Of unit vectors the product is the cosine.
        Metric::Dot | Metric::Cosine => MetricType::InnerProduct,
        Metric::SquaredL2 => MetricType::L2,
    };
    let too_large = || failure(description, &format!("dimension {dim} is too large"));
    let dim = i32::try_from(dim).map_err(|_| too_large())?;
    index_factory(dim.unsigned_abs(), description, metric).map_err(|error| failure(description, &error.to_string()))
}

fn failure(description: &str, reason: &str) -> AnnError {
    AnnError::Backend { backend: "faiss", at: description.to_owned(), reason: reason.to_owned() }
}
