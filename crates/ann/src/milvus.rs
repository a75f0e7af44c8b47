//! [`MilvusIndex`]: the vectors live in a collection on a Milvus server; feature `milvus`.
//!
//! Calls block: the client is asynchronous and runs on a thread of its own, so an index may be used from any thread, also from
//! within an asynchronous program. `scripts/milvus.sh start` starts a server on this machine.
//!
//! ```no_run
//! use eas_ann::milvus::{MilvusConfig, MilvusIndex};
//! use eas_ann::{Metric, VectorIndex};
//! use eas_tensor::Matrix;
//!
//! let config = MilvusConfig { collection: "places".into(), ..MilvusConfig::default() };
//! let mut index = MilvusIndex::create(2, Metric::Cosine, config)?;
//! index.upsert(&[10, 20], &Matrix::from_rows(&[[1.0, 0.0], [0.0, 1.0]])?)?;
//! let hits = index.search_filtered(&[1.0, 0.2], 1, "id > 10")?;
//! assert_eq!(hits[0].id, 20);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use ::milvus::client::{Client, ClientBuilder, ConsistencyLevel};
use ::milvus::data::FieldColumn;
use ::milvus::error::Error as SdkError;
use ::milvus::index::{IndexParams, IndexType, MetricType};
use ::milvus::mutate::{DeleteOptions, UpsertOptions};
use ::milvus::options::CreateCollectionOptions;
use ::milvus::query::{QueryOptions, SearchOptions};
use ::milvus::schema::{CollectionSchemaBuilder, FieldSchema};
use ::milvus::value::{Value, ValueVec};
use eas_tensor::Matrix;
use tokio::runtime::Runtime;

use crate::AnnError;
use crate::file::{Reader, Writer};
use crate::index::{
    Hit, Metric, VectorIndex, check_dim, check_new_ids, check_queries, check_rows, last_rows, prepare_query,
};
use crate::sharded::merge_hits;

const KIND: [u8; 4] = *b"MILV";
const ID: &str = "id";
const VECTOR: &str = "vector";
/// The server answers no search for more hits than this.
const MOST_HITS: usize = 16_384;
/// Ids in one filter expression.
const IDS_AT_ONCE: usize = 10_000;
/// Bytes of vectors in one request; the server takes 64 MiB.
const BYTES_AT_ONCE: usize = 16 << 20;
/// Begins the description of a collection that this module made; the metric follows.
const DESCRIPTION: &str = "eas-ann metric ";

/// What a search is certain to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consistency {
    /// Everything that any client has written. A search waits for the server's next tick, some 200 ms.
    Strong,
    /// Everything that this client has written.
    Session,
    /// Everything but the last few seconds, without waiting.
    Bounded,
    /// Whatever is there, without waiting.
    Eventual,
}

impl Consistency {
    const ALL: [Self; 4] = [Self::Strong, Self::Session, Self::Bounded, Self::Eventual];

    fn level(self) -> ConsistencyLevel {
        match self {
            Self::Strong => ConsistencyLevel::Strong,
            Self::Session => ConsistencyLevel::Session,
            Self::Bounded => ConsistencyLevel::Bounded,
            Self::Eventual => ConsistencyLevel::Eventually,
        }
    }
}

/// The index that the server builds over a full segment; it compares with every vector of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MilvusKind {
    /// Exact.
    Flat,
    /// A graph.
    Hnsw {
        /// Links of a node, 2 to 2,048.
        m: usize,
        /// Width of the beam while building.
        ef_construction: usize,
    },
}

/// Where the collection is, and how it is made and searched.
#[derive(Debug, Clone)]
pub struct MilvusConfig {
    /// Address of the server.
    pub url: String,
    /// Name of the collection: letters, digits and underscores, not beginning with a digit.
    pub collection: String,
    /// Shards among which the server spreads writes; counts when the collection is made.
    pub shards: u16,
    /// The server's index; counts when the collection is made.
    pub kind: MilvusKind,
    /// Width of the search beam of [`MilvusKind::Hnsw`]; a search for more than `ef` vectors widens it.
    pub ef: usize,
    /// What a search sees.
    pub consistency: Consistency,
    /// How long a call is tried again while the server is away or starts. A call that is under way may take as long once more.
    pub patience: Duration,
}

impl Default for MilvusConfig {
    /// `http://127.0.0.1:19530`, collection `vectors`, 1 shard, a graph with `m` 16 and `ef_construction` 200, `ef` 64, strong
    /// consistency, 20 s of patience.
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:19530".into(),
            collection: "vectors".into(),
            shards: 1,
            kind: MilvusKind::Hnsw { m: 16, ef_construction: 200 },
            ef: 64,
            consistency: Consistency::Strong,
            patience: Duration::from_secs(20),
        }
    }
}

/// Vectors in a Milvus collection.
///
/// It differs from the indexes in memory in this: ids are at most `i64::MAX`; a search gives at most 16,384 hits; among equal
/// scores at rank `k` the server chooses; a call that writes more than 16 MiB of vectors is several requests, of which the first
/// may have been carried out when a later one fails (to repeat it is safe); [`VectorIndex::len`] and [`VectorIndex::contains`]
/// can't report a failure: use [`Self::count`] and [`Self::present`] where it matters.
#[derive(Debug)]
pub struct MilvusIndex {
    config: MilvusConfig,
    dim: usize,
    metric: Metric,
    client: Client,
    runtime: Blocking,
    last_count: AtomicUsize,
}

impl MilvusIndex {
    /// Makes the collection for vectors of `dim` values and opens it. Refuses a name that is taken.
    pub fn create(dim: usize, metric: Metric, config: MilvusConfig) -> Result<Self, AnnError> {
        check_dim(dim)?;
        let parameter = |name, got: usize, expected| AnnError::Parameter { name, got: got.to_string(), expected };
        if dim > 32_768 {
            return Err(parameter("dim", dim, "at most 32,768 on this server"));
        }
        if config.shards == 0 || config.shards > 16 {
            return Err(parameter("shards", config.shards.into(), "1 to 16"));
        }
        if let MilvusKind::Hnsw { m, ef_construction } = config.kind {
            if !(2..=2_048).contains(&m) {
                return Err(parameter("m", m, "2 to 2,048"));
            }
            if ef_construction == 0 {
                return Err(parameter("ef_construction", 0, "at least 1"));
            }
        }
        let index = Self::connect(dim, metric, config)?;
        if index.call("looking for the collection", |client, name| async move { client.has_collection(name).await })? {
            return Err(index.error("the collection exists already; open or drop it"));
        }
        let (kind, shards) = (index.config.kind, i32::from(index.config.shards));
        let level = index.config.consistency.level();
        index.call("creating the collection", move |client, name| async move {
            let schema = CollectionSchemaBuilder::new(&name, &format!("{DESCRIPTION}{}", metric_name(metric)))
                .add_field(FieldSchema::new_primary_int64(ID, "", false))
                .add_field(FieldSchema::new_float_vector(VECTOR, "", dim as i64))
                .build()?;
            let options = CreateCollectionOptions::new().shard_num(shards).consistency_level(level);
            // Asked again after a lost answer, the server finds the same collection and is content.
            client.create_collection(schema, Some(options)).await?;
            let params = match kind {
                MilvusKind::Flat => HashMap::new(),
                MilvusKind::Hnsw { m, ef_construction } => HashMap::from([
                    ("M".to_owned(), m.to_string()),
                    ("efConstruction".to_owned(), ef_construction.to_string()),
                ]),
            };
            let index_type = match kind {
                MilvusKind::Flat => IndexType::Flat,
                MilvusKind::Hnsw { .. } => IndexType::HNSW,
            };
            let params = IndexParams::new(VECTOR.to_owned(), index_type, server_metric(metric), params);
            client.create_index(name.clone(), VECTOR, params).await?;
            client.load_collection(name, None).await
        })?;
        Ok(index)
    }

    /// Opens a collection that [`Self::create`] made, here or elsewhere; `shards` and `kind` of the configuration don't matter.
    pub fn open(config: MilvusConfig) -> Result<Self, AnnError> {
        let mut index = Self::connect(1, Metric::Dot, config)?;
        if !index.call("looking for the collection", |client, name| async move { client.has_collection(name).await })? {
            return Err(index.error("there is no such collection"));
        }
        let (description, dim) = index.call("describing the collection", |client, name| async move {
            let schema = client.describe_collection(name).await?.schema;
            let vector = schema.fields.iter().find(|field| field.name == VECTOR);
            let dim = vector.and_then(|field| field.type_params.iter().find(|param| param.key == "dim"));
            Ok((schema.description, dim.and_then(|dim| dim.value.parse::<usize>().ok())))
        })?;
        let metric = [Metric::Dot, Metric::Cosine, Metric::SquaredL2]
            .into_iter()
            .find(|metric| description == format!("{DESCRIPTION}{}", metric_name(*metric)));
        let (Some(metric), Some(dim)) = (metric, dim) else {
            return Err(index.error("the collection was not made by this library"));
        };
        (index.metric, index.dim) = (metric, dim);
        index.call("loading the collection", |client, name| async move { client.load_collection(name, None).await })?;
        Ok(index)
    }

    fn connect(dim: usize, metric: Metric, config: MilvusConfig) -> Result<Self, AnnError> {
        if config.ef == 0 {
            return Err(AnnError::Parameter { name: "ef", got: "0".into(), expected: "at least 1" });
        }
        let runtime = Blocking::new().map_err(|error| failure(&config, error.to_string()))?;
        let (url, timeout) = (config.url.clone(), config.patience.max(Duration::from_secs(1)));
        let deadline = Instant::now() + config.patience;
        let client = loop {
            let attempt = ClientBuilder::new(url.clone()).timeout(timeout).build();
            match runtime.run(attempt) {
                Some(Ok(client)) => break client,
                Some(Err(error)) if transient(&error) && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(200));
                }
                Some(Err(error)) => return Err(failure(&config, format!("connecting: {}", explain(&error)))),
                None => return Err(failure(&config, "connecting: the client gave up".to_owned())),
            }
        };
        Ok(Self { config, dim, metric, client, runtime, last_count: AtomicUsize::new(0) })
    }

    /// Where the collection is and how it is searched.
    pub fn config(&self) -> &MilvusConfig {
        &self.config
    }

    /// Changes what searches see from now on.
    pub fn set_consistency(&mut self, consistency: Consistency) {
        self.config.consistency = consistency;
    }

    /// The server's version.
    pub fn server_version(&self) -> Result<String, AnnError> {
        self.call("asking for the version", |client, _| async move { Ok(client.get_server_version().await?.version) })
    }

    /// The number of shards that the server keeps for the collection.
    pub fn shards(&self) -> Result<usize, AnnError> {
        self.call("describing the collection", |client, name| async move {
            Ok(client.describe_collection(name).await?.shards_num.unsigned_abs() as usize)
        })
    }

    /// Number of vectors.
    pub fn count(&self) -> Result<usize, AnnError> {
        let level = self.config.consistency.level() as i32;
        let count = self.call("counting", move |client, name| async move {
            let options = QueryOptions::new().consistency_level(level);
            client.count_with_expr(name, "", &options).await
        })?;
        let count = usize::try_from(count).unwrap_or_default();
        self.last_count.store(count, Ordering::Relaxed);
        Ok(count)
    }

    /// Those of `ids` that are in the collection.
    pub fn present(&self, ids: &[u64]) -> Result<HashSet<u64>, AnnError> {
        let mut found = HashSet::new();
        let known: Vec<u64> = ids.iter().copied().filter(|&id| i64::try_from(id).is_ok()).collect();
        for part in known.chunks(IDS_AT_ONCE) {
            found.extend(self.ids_where(&among(part))?);
        }
        Ok(found)
    }

    fn ids_where(&self, expression: &str) -> Result<Vec<u64>, AnnError> {
        let (level, expression) = (self.config.consistency.level() as i32, expression.to_owned());
        self.call("reading ids", move |client, name| {
            let expression = expression.clone();
            async move {
                let options = QueryOptions::new().output_fields(vec![ID.to_owned()]).consistency_level(level);
                let columns = client.query(name, &expression, &options).await?;
                Ok(match columns.into_iter().find(|column| column.name == ID) {
                    Some(FieldColumn { value: ValueVec::Long(ids), .. }) => {
                        ids.into_iter().map(i64::cast_unsigned).collect()
                    }
                    _ => Vec::new(),
                })
            }
        })
    }

    /// The `k` nearest among the vectors that pass a filter of the server's language over the field `id`, such as
    /// `id % 2 == 0 && id < 100`: the server applies it inside its search.
    pub fn search_filtered(&self, query: &[f32], k: usize, expression: &str) -> Result<Vec<Hit>, AnnError> {
        let query = prepare_query(self.metric, self.dim, query)?;
        Ok(self.search_rows(&query, self.within_limit(k)?, expression)?.pop().unwrap_or_default())
    }

    /// Writes all that was inserted to the server's storage and seals it, so that its index is built.
    pub fn flush(&self) -> Result<(), AnnError> {
        self.call("flushing", |client, name| async move { client.flush(name).await })
    }

    /// Deletes the collection from the server.
    pub fn drop_collection(self) -> Result<(), AnnError> {
        self.call("dropping the collection", |client, name| async move { client.drop_collection(name).await })
    }

    /// `k`, or an error when as many hits are there and the server can't give them.
    fn within_limit(&self, k: usize) -> Result<usize, AnnError> {
        if k <= MOST_HITS {
            return Ok(k);
        }
        match self.count()? {
            count if count <= MOST_HITS => Ok(count),
            _ => Err(AnnError::Parameter { name: "k", got: k.to_string(), expected: "at most 16,384 on this server" }),
        }
    }

    /// Hits of each prepared query; `k` is at most [`MOST_HITS`].
    fn search_rows(&self, queries: &Matrix, k: usize, expression: &str) -> Result<Vec<Vec<Hit>>, AnnError> {
        if k == 0 || queries.rows() == 0 {
            return Ok(vec![Vec::new(); queries.rows()]);
        }
        let mut all = Vec::with_capacity(queries.rows());
        // The server limits the queries of a request, and the size of its answer.
        let at_once = (1_000_000 / k).clamp(1, 1_000);
        for first in (0..queries.rows()).step_by(at_once) {
            let rows: Vec<Vec<f32>> =
                (first..queries.rows().min(first + at_once)).map(|row| queries.row(row).to_vec()).collect();
            let (level, metric) = (self.config.consistency.level() as i32, server_metric(self.metric));
            let (ef, expression) = (self.config.ef.max(k).to_string(), expression.to_owned());
            let found = self.call("searching", move |client, name| {
                let rows = rows.clone();
                // Built for each attempt: the client's options can't be copied.
                let options = SearchOptions::with_consistency_level(level)
                    .limit(k)
                    .filter(expression.clone())
                    .add_param("anns_field", VECTOR)
                    .add_param("metric_type", metric.to_string())
                    .add_param("ef", ef.clone());
                async move {
                    let rows: Vec<Value<'_>> = rows.into_iter().map(Value::from).collect();
                    let found = match client.search(name, rows, Some(options)).await {
                        // The client's way of saying that no query has a hit.
                        Err(error) if error.to_string().contains("no IDs in search result") => Vec::new(),
                        found => found?,
                    };
                    Ok(found
                        .into_iter()
                        .map(|result| {
                            let hits = result.id.into_iter().zip(result.score);
                            hits.filter_map(|(id, score)| match id {
                                Value::Long(id) => Some(Hit { id: id.cast_unsigned(), score }),
                                _ => None,
                            })
                            .collect::<Vec<_>>()
                        })
                        .collect::<Vec<_>>())
                }
            })?;
            all.extend(found);
        }
        all.resize(queries.rows(), Vec::new());
        for hits in &mut all {
            hits.sort_by(|a, b| self.metric.best_first(a, b));
        }
        Ok(all)
    }

    /// Every write is an upsert: tried again after a lost answer it leaves no second copy.
    fn write(&self, ids: &[u64], vectors: Matrix) -> Result<(), AnnError> {
        let vectors = self.metric.stored(vectors);
        let dim = self.dim;
        let rows_at_once = (BYTES_AT_ONCE / (4 * dim)).max(1);
        for (ids, values) in ids.chunks(rows_at_once).zip(vectors.as_slice().chunks(rows_at_once * dim)) {
            let (ids, values) = (ids.iter().map(|id| id.cast_signed()).collect::<Vec<i64>>(), values.to_vec());
            self.call("writing", move |client, name| {
                let id = FieldSchema::new_primary_int64(ID, "", false);
                let vector = FieldSchema::new_float_vector(VECTOR, "", dim as i64);
                let columns = vec![FieldColumn::new(&id, ids.clone()), FieldColumn::new(&vector, values.clone())];
                async move { client.upsert(name, columns, UpsertOptions::new()).await }
            })?;
        }
        Ok(())
    }

    /// Carries out a request on the client's thread, again and again while the server is away or not ready and patience lasts.
    /// Every request given here may be repeated.
    fn call<T, F>(&self, doing: &str, request: impl Fn(Client, String) -> F) -> Result<T, AnnError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, SdkError>> + Send + 'static,
    {
        let deadline = Instant::now() + self.config.patience;
        let mut pause = Duration::from_millis(50);
        loop {
            let attempt = request(self.client.clone(), self.config.collection.clone());
            match self.runtime.run(attempt) {
                Some(Ok(out)) => return Ok(out),
                Some(Err(error)) if transient(&error) && Instant::now() < deadline => {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
                Some(Err(error)) => return Err(self.error(&format!("{doing}: {}", explain(&error)))),
                None => return Err(self.error(&format!("{doing}: the client gave up"))),
            }
        }
    }

    fn error(&self, reason: &str) -> AnnError {
        failure(&self.config, reason.to_owned())
    }
}

impl VectorIndex for MilvusIndex {
    fn dim(&self) -> usize {
        self.dim
    }

    fn metric(&self) -> Metric {
        self.metric
    }

    /// [`MilvusIndex::count`]; what it was when last asked when the server doesn't answer.
    fn len(&self) -> usize {
        self.count().unwrap_or(self.last_count.load(Ordering::Relaxed))
    }

    /// [`MilvusIndex::present`]; false when the server doesn't answer.
    fn contains(&self, id: u64) -> bool {
        self.present(&[id]).is_ok_and(|found| found.contains(&id))
    }

    fn add(&mut self, ids: &[u64], vectors: &Matrix) -> Result<(), AnnError> {
        check_rows(self.dim, ids, vectors)?;
        check_signed(ids)?;
        let present = self.present(ids)?;
        check_new_ids(ids, |id| present.contains(&id))?;
        self.write(ids, vectors.clone())
    }

    fn remove(&mut self, ids: &[u64]) -> Result<usize, AnnError> {
        let present: Vec<u64> = self.present(ids)?.into_iter().collect();
        for part in present.chunks(IDS_AT_ONCE) {
            let expression = among(part);
            self.call("deleting", move |client, name| {
                let options = DeleteOptions::with_filter(expression.clone());
                async move { client.delete(name, &options).await }
            })?;
        }
        Ok(present.len())
    }

    fn upsert(&mut self, ids: &[u64], vectors: &Matrix) -> Result<usize, AnnError> {
        check_rows(self.dim, ids, vectors)?;
        check_signed(ids)?;
        let (ids, rows) = last_rows(ids);
        let replaced = self.present(&ids)?.len();
        self.write(&ids, vectors.select(&rows))?;
        Ok(replaced)
    }

    /// The server can't be handed a function. So it is asked for ever more hits until `k` of them pass; when they are too rare
    /// for that, all ids are read, and the search goes among those that pass. [`MilvusIndex::search_filtered`] is faster.
    fn search_where(&self, query: &[f32], k: usize, keep: &(dyn Fn(u64) -> bool + Sync)) -> Result<Vec<Hit>, AnnError> {
        let query = prepare_query(self.metric, self.dim, query)?;
        let k = self.within_limit(k)?;
        if k == 0 {
            return Ok(Vec::new());
        }
        let mut asked = k;
        loop {
            let mut hits = self.search_rows(&query, asked, "")?.pop().unwrap_or_default();
            let (seen, all_pass) = (hits.len(), hits.iter().all(|hit| keep(hit.id)));
            hits.retain(|hit| keep(hit.id));
            // Fewer than asked for means that there are no more, but for the odd node that a graph's search can't reach.
            if hits.len() >= k || (seen < asked && all_pass) {
                hits.truncate(k);
                return Ok(hits);
            }
            if seen < asked || asked == MOST_HITS {
                break;
            }
            asked = (4 * asked.max(16)).min(MOST_HITS);
        }
        let passing: Vec<u64> = self.ids_where(&format!("{ID} >= 0"))?.into_iter().filter(|&id| keep(id)).collect();
        let mut parts = Vec::new();
        for part in passing.chunks(IDS_AT_ONCE) {
            parts.extend(self.search_rows(&query, k, &among(part))?);
        }
        Ok(merge_hits(self.metric, &parts, k))
    }

    fn search(&self, query: &[f32], k: usize) -> Result<Vec<Hit>, AnnError> {
        self.search_filtered(query, k, "")
    }

    fn search_batch(&self, queries: &Matrix, k: usize) -> Result<Vec<Vec<Hit>>, AnnError> {
        check_queries(self.dim, queries)?;
        if queries.rows() == 0 {
            return Ok(Vec::new());
        }
        self.search_rows(&self.metric.stored(queries.clone()), self.within_limit(k)?, "")
    }

    /// Has the server write out the collection, and puts the way to it (address, name, search parameters) into a small file.
    fn save(&self, path: &Path) -> Result<(), AnnError> {
        self.flush()?;
        let mut out = Writer::default();
        for text in [&self.config.url, &self.config.collection] {
            out.u32(text.len() as u32);
            text.bytes().for_each(|byte| out.u8(byte));
        }
        out.u64(self.config.ef as u64);
        out.u8(Consistency::ALL.iter().position(|&one| one == self.config.consistency).unwrap_or_default() as u8);
        out.u64(self.config.patience.as_millis() as u64);
        out.finish(path, KIND)
    }

    /// Connects again to the collection that the file names.
    fn load(path: &Path) -> Result<Self, AnnError> {
        let mut input = Reader::open(path, KIND)?;
        let mut texts = Vec::new();
        for _ in 0..2 {
            let bytes = (0..input.u32()?).map(|_| input.u8()).collect::<Result<Vec<_>, _>>()?;
            texts.push(String::from_utf8(bytes).map_err(|_| input.corrupt("a name isn't UTF-8"))?);
        }
        let ef = input.u64()? as usize;
        let consistency =
            *Consistency::ALL.get(usize::from(input.u8()?)).ok_or_else(|| input.corrupt("unknown consistency"))?;
        let patience = Duration::from_millis(input.u64()?);
        input.finish()?;
        let (Some(collection), Some(url)) = (texts.pop(), texts.pop()) else {
            return Err(AnnError::Corrupt { path: path.to_path_buf(), reason: "no names".into() });
        };
        Self::open(MilvusConfig { url, collection, ef, consistency, patience, ..MilvusConfig::default() })
    }
}

/// A runtime whose work is waited for. Waiting goes through a channel rather than `block_on`, which may not be used within another
/// runtime; and a panic of the client ends its task, not the caller.
#[derive(Debug)]
struct Blocking(Option<Runtime>);

impl Blocking {
    fn new() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("milvus-client")
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    /// None when the work panicked.
    fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.0.as_ref()?.spawn(async move {
            let _ = sender.send(work.await);
        });
        receiver.recv().ok()
    }
}

impl Drop for Blocking {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

fn failure(config: &MilvusConfig, reason: String) -> AnnError {
    AnnError::Backend { backend: "milvus", at: format!("{}, collection {}", config.url, config.collection), reason }
}

/// True when the same request may succeed a little later: the server is away, or starts and hasn't loaded everything yet.
fn transient(error: &SdkError) -> bool {
    match error {
        SdkError::Communication(_) => true,
        SdkError::Grpc(status) => {
            let code = format!("{:?}", status.code());
            ["Unavailable", "DeadlineExceeded", "Cancelled", "Unknown"].contains(&code.as_str())
        }
        SdkError::Server(_, reason) => {
            let reason = reason.to_lowercase();
            let passing = [
                "not ready",
                "not available",
                "unavailable",
                "not healthy",
                "not serving",
                "no available",
                "not loaded",
                "not fully loaded",
                "abnormal",
                "initializing",
                "standby",
                "recovering",
                "node offline",
                "node not match",
                "channel not found",
                "lack of",
                "connection error",
                "context deadline exceeded",
            ];
            passing.iter().any(|part| reason.contains(part))
        }
        _ => false,
    }
}

fn explain(error: &SdkError) -> String {
    match error {
        SdkError::Communication(error) => {
            let mut reasons = vec![error.to_string()];
            let mut source = std::error::Error::source(error);
            while let Some(inner) = source {
                reasons.push(inner.to_string());
                source = inner.source();
            }
            let text = reasons.join(": ");
            format!("no server answers ({text}); scripts/milvus.sh start starts one on this machine")
        }
        SdkError::Grpc(status) if transient(error) => format!(
            "the server is away ({:?}: {}); scripts/milvus.sh start starts one on this machine",
            status.code(),
            status.message()
        ),
        SdkError::Server(code, reason) => format!("the server refused ({code:?}): {reason}"),
        other => other.to_string(),
    }
}

fn metric_name(metric: Metric) -> &'static str {
    match metric {
        Metric::Dot => "dot",
        Metric::Cosine => "cosine",
        Metric::SquaredL2 => "squared_l2",
    }
}

/// Cosine is the product of the unit copies that are stored, which gives a zero vector the score 0.
fn server_metric(metric: Metric) -> MetricType {
    match metric {
        Metric::Dot | Metric::Cosine => MetricType::IP,
        Metric::SquaredL2 => MetricType::L2,
    }
}

fn check_signed(ids: &[u64]) -> Result<(), AnnError> {
    match ids.iter().find(|&&id| i64::try_from(id).is_err()) {
        None => Ok(()),
        Some(id) => Err(AnnError::Parameter {
            name: "id",
            got: id.to_string(),
            expected: "at most 9,223,372,036,854,775,807: the server's ids are signed",
        }),
    }
}

fn among(ids: &[u64]) -> String {
    let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
    format!("{ID} in [{}]", ids.join(","))
}
