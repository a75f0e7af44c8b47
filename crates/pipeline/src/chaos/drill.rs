//! [`Drill`]: shards with replicas over real index files, in simulated time, and faults that are injected into them.
//!
//! What is real: every copy of a shard is a [`FlatIndex`] and a file with a checksum; queries are answered by copies,
//! merged, and compared with an index of everything that was acknowledged; a corrupted file is corrupted on disk. What is
//! simulated is time, and the size of the shards when copying takes time.
//!
//! | detector | notices | recovery |
//! | --- | --- | --- |
//! | heartbeat time-out | a node that is silent | its copies leave service and are made anew elsewhere |
//! | error rate | a copy that fails three requests in a row | the same for this copy |
//! | checksum | an altered file | back to the last good file, then the log |
//! | recall canary | an index that is whole and wrong | the same |
//! | lag metric | a copy that applies too slowly | it leaves service and writes to the shard wait until it has caught up |
//! | repeated crash | a query that kills what runs it | a breaker for this query, then a check of the input |

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use eas_ann::{AnnError, FlatIndex, Metric, VectorIndex, jump_hash, merge_hits};
use eas_ops::breaker::{BreakerConfig, CircuitBreaker};
use eas_ops::clock::{HOUR, MINUTE, Micros, SECOND};
use eas_ops::sim::Sim;
use eas_tensor::Matrix;

use super::{Insert, digest, replay};
use crate::replica::ReplicaError;

/// Sizes, spans and limits of a drill.
#[derive(Debug, Clone, PartialEq)]
pub struct DrillConfig {
    /// Nodes.
    pub nodes: usize,
    /// Shards.
    pub shards: usize,
    /// Copies of each shard.
    pub replicas: usize,
    /// Span between heartbeats.
    pub heartbeat: Micros,
    /// A node silent for longer is taken for dead.
    pub heartbeat_timeout: Micros,
    /// Span between two rounds of reading every file and of asking every copy the canaries.
    pub check_every: Micros,
    /// Canary queries for each shard.
    pub canaries: usize,
    /// Recall below which a copy is taken out of service.
    pub canary_floor: f64,
    /// Lag above which writes to the shard wait, and the one at which they go on.
    pub max_lag: Micros,
    /// Lag at which a copy serves again.
    pub accepted_lag: Micros,
    /// Time to copy a shard to another node.
    pub copy_takes: Micros,
    /// Time until a crashed process is up again.
    pub restart_takes: Micros,
    /// Span between two queries.
    pub query_every: Micros,
    /// Span between two writes.
    pub write_every: Micros,
    /// Depth of a filter that overflows the stack of the process that evaluates it.
    pub fatal_depth: usize,
    /// Where the index files are.
    pub folder: PathBuf,
    /// Seed of everything.
    pub seed: u64,
}

impl DrillConfig {
    /// Six nodes, four shards of 20 GB with three copies each that are made anew at 100 MB/s.
    pub fn new(folder: &Path, seed: u64) -> Self {
        Self {
            nodes: 6,
            shards: 4,
            replicas: 3,
            heartbeat: 5 * SECOND,
            heartbeat_timeout: 15 * SECOND,
            check_every: 5 * MINUTE,
            canaries: 50,
            canary_floor: 0.9,
            max_lag: MINUTE,
            accepted_lag: 5 * SECOND,
            copy_takes: 200 * SECOND,
            restart_takes: 10 * MINUTE,
            query_every: 5 * SECOND,
            write_every: 10 * SECOND,
            fatal_depth: 10_000,
            folder: folder.to_path_buf(),
            seed,
        }
    }
}

/// What is done to the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The process of a node dies; its disk stays.
    Crash(usize),
    /// A node is lost with its disk.
    LoseNode(usize),
    /// A copy's file can't be read any more, nor can the copy answer.
    DiskError {
        /// The shard.
        shard: usize,
        /// Which of its copies.
        copy: usize,
    },
    /// A node is cut off from all others for a while.
    Partition(usize, Micros),
    /// One byte of a copy's file is flipped.
    FlipByte {
        /// The shard.
        shard: usize,
        /// Which of its copies.
        copy: usize,
    },
    /// An index is deployed that has the right vectors under the wrong ids; its file is whole.
    ShuffledIds {
        /// The shard.
        shard: usize,
        /// Which of its copies.
        copy: usize,
    },
    /// A client sends a query with NaN in it, several times.
    NanQuery,
    /// A client asks for a billion neighbours, several times.
    HugeK,
    /// A client sends a filter nested so deep that it kills the process that evaluates it, and sends it again.
    DeepFilter,
    /// A copy applies only one write in a while.
    SlowCopy {
        /// The shard.
        shard: usize,
        /// Which of its copies.
        copy: usize,
        /// Span between two writes that it applies.
        every: Micros,
        /// For how long.
        lasts: Micros,
    },
}

/// What became of a fault.
#[derive(Debug, Clone, PartialEq)]
pub struct Incident {
    /// The fault.
    pub fault: Fault,
    /// When it was injected.
    pub at: Micros,
    /// What noticed it, and how long after.
    pub detected: Option<(&'static str, Micros)>,
    /// The longest that may take.
    pub limit: Micros,
    /// After how long every shard had all its copies again.
    pub recovered: Option<Micros>,
    /// Queries answered wrongly until then.
    pub wrong: usize,
}

/// The whole drill.
#[derive(Debug, Clone, PartialEq)]
pub struct DrillReport {
    /// The faults, in order.
    pub incidents: Vec<Incident>,
    /// Queries and writes.
    pub requests: usize,
    /// Of these, refused or failed.
    pub failed: usize,
    /// Queries that succeeded at the second copy.
    pub retried: usize,
    /// Writes that had to wait.
    pub delayed: usize,
    /// Wrong answers.
    pub wrong: usize,
    /// Bad queries refused before they reached a node.
    pub refused_input: usize,
    /// Vectors acknowledged, and of these missing from every copy at the end.
    pub acknowledged: usize,
    /// Acknowledged vectors that no copy has at the end.
    pub lost: usize,
    /// Rollbacks after which the copy had the same hash as a healthy one, and all rollbacks.
    pub rollbacks: (usize, usize),
    /// Whether at the end all copies of each shard have one hash.
    pub equal: bool,
    /// Files that were refused by their checksum.
    pub refused_files: usize,
    /// Hash of the run.
    pub trace: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Hash)]
enum Event {
    Query,
    Write,
    WriteAgain(u64),
    Heartbeat,
    Check,
    Checkpoint,
    Fault(usize),
    Restart(usize),
    Heal(usize),
    Copied { shard: usize, to: usize },
    Apply { shard: usize, node: usize },
    Hurry { shard: usize, node: usize },
}

#[allow(clippy::struct_excessive_bools, reason = "each can be true without any other")]
#[derive(Debug)]
struct Node {
    up: bool,
    cut_off: bool,
    disk: bool,
    heard: Micros,
    believed: bool,
}

impl Node {
    fn answers(&self) -> bool {
        self.up && !self.cut_off
    }
}

/// A file that holds the first `applied` writes of a shard.
#[derive(Debug, Clone)]
struct Version {
    file: PathBuf,
    applied: usize,
}

#[derive(Debug)]
struct Copy {
    node: usize,
    index: FlatIndex,
    applied: usize,
    /// Whether queries go to it.
    serving: bool,
    readable: bool,
    /// Newest file last, the one before is the way back.
    versions: Vec<Version>,
    slow: Option<Micros>,
    breaker: CircuitBreaker,
}

#[derive(Debug)]
struct Shard {
    copies: Vec<Copy>,
    log: Vec<Insert>,
    written: Vec<Micros>,
    /// Nodes that a copy is being made on.
    copying: BTreeSet<usize>,
    throttled: bool,
    canary_ids: Vec<u64>,
    canary_queries: Matrix,
    turn: usize,
}

/// A cluster under attack; see the [module](self).
#[derive(Debug)]
pub struct Drill {
    config: DrillConfig,
    sim: Sim<Event>,
    nodes: Vec<Node>,
    shards: Vec<Shard>,
    truth: FlatIndex,
    faults: Vec<Fault>,
    open: Vec<usize>,
    poisons: BTreeMap<u64, CircuitBreaker>,
    max_depth: Option<usize>,
    files: usize,
    next_id: u64,
    report: DrillReport,
}

const DIM: usize = 16;
const K: usize = 10;
const MAX_K: usize = 1_000;

impl Drill {
    /// A cluster that holds `initial` random vectors in all its copies.
    pub fn new(config: DrillConfig, initial: usize) -> Result<Self, ReplicaError> {
        if config.replicas == 0 || config.replicas > config.nodes || config.shards == 0 {
            return Err(ReplicaError::Parameter {
                name: "replicas",
                got: format!("{} on {} nodes", config.replicas, config.nodes),
                expected: "between 1 and the number of nodes, of at least one shard",
            });
        }
        let mut sim = Sim::new(config.seed);
        let mut logs: Vec<Vec<Insert>> = vec![Vec::new(); config.shards];
        for id in 0..initial as u64 {
            let vector = random_vector(&mut sim);
            logs[jump_hash(id, config.shards as u32) as usize].push(Insert { id, vector });
        }
        let mut truth = FlatIndex::new(DIM, Metric::SquaredL2)?;
        for log in &logs {
            replay(&mut truth, log)?;
        }
        let mut drill = Self {
            nodes: (0..config.nodes)
                .map(|_| Node { up: true, cut_off: false, disk: true, heard: 0, believed: true })
                .collect(),
            shards: Vec::new(),
            truth,
            faults: Vec::new(),
            open: Vec::new(),
            poisons: BTreeMap::new(),
            max_depth: None,
            files: 0,
            next_id: initial as u64,
            report: DrillReport {
                incidents: Vec::new(),
                requests: 0,
                failed: 0,
                retried: 0,
                delayed: 0,
                wrong: 0,
                refused_input: 0,
                acknowledged: initial,
                lost: 0,
                rollbacks: (0, 0),
                equal: false,
                refused_files: 0,
                trace: 0,
            },
            sim,
            config,
        };
        for (number, log) in logs.into_iter().enumerate() {
            // A canary is a stored vector: the one nearest to it must be itself.
            let canaries: Vec<&Insert> = log.iter().take(drill.config.canaries).collect();
            let queries: Vec<f32> = canaries.iter().flat_map(|insert| insert.vector.iter().copied()).collect();
            drill.shards.push(Shard {
                copies: Vec::new(),
                canary_ids: canaries.iter().map(|insert| insert.id).collect(),
                canary_queries: Matrix::from_vec(canaries.len(), DIM, queries)?,
                written: vec![0; log.len()],
                log,
                copying: BTreeSet::new(),
                throttled: false,
                turn: 0,
            });
            for copy in 0..drill.config.replicas {
                let mut index = FlatIndex::new(DIM, Metric::SquaredL2)?;
                replay(&mut index, &drill.shards[number].log)?;
                drill.place(number, (number + copy) % drill.config.nodes, index)?;
            }
        }
        Ok(drill)
    }

    /// Runs for `span` with these faults at these times.
    pub fn run(mut self, span: Micros, faults: &[(Micros, Fault)]) -> Result<DrillReport, ReplicaError> {
        self.faults = faults.iter().map(|(_, fault)| *fault).collect();
        for (number, (at, _)) in faults.iter().enumerate() {
            self.sim.after(*at, Event::Fault(number));
        }
        self.sim.after(self.config.query_every, Event::Query);
        self.sim.after(self.config.write_every, Event::Write);
        self.sim.after(self.config.heartbeat, Event::Heartbeat);
        self.sim.after(self.config.check_every, Event::Check);
        self.sim.after(HOUR, Event::Checkpoint);
        while let Some(event) = self.sim.next_until(span) {
            self.handle(event)?;
        }
        let kept: BTreeSet<u64> = self
            .shards
            .iter()
            .flat_map(|shard| shard.copies.iter())
            .filter(|copy| self.nodes[copy.node].disk && copy.readable)
            .flat_map(|copy| copy.index.ids().iter().copied())
            .collect();
        self.report.lost = self.truth.ids().iter().filter(|id| !kept.contains(id)).count();
        self.report.equal = self.shards.iter().all(|shard| {
            let digests: BTreeSet<u64> = shard.copies.iter().map(|copy| digest(&copy.index)).collect();
            digests.len() == 1 && shard.copies.len() == self.config.replicas
        });
        self.report.trace = self.sim.trace_hash();
        Ok(self.report)
    }

    fn handle(&mut self, event: Event) -> Result<(), ReplicaError> {
        match event {
            Event::Query => {
                self.query()?;
                self.sim.after(self.config.query_every, Event::Query);
            }
            Event::Write => {
                let id = self.next_id;
                self.next_id += 1;
                self.report.requests += 1;
                self.write(id)?;
                self.sim.after(self.config.write_every, Event::Write);
            }
            Event::WriteAgain(id) => self.write(id)?,
            Event::Heartbeat => {
                self.heartbeat()?;
                self.sim.after(self.config.heartbeat, Event::Heartbeat);
            }
            Event::Check => {
                self.check_files()?;
                self.ask_canaries()?;
                self.sim.after(self.config.check_every, Event::Check);
            }
            Event::Checkpoint => {
                for shard in 0..self.shards.len() {
                    for copy in 0..self.shards[shard].copies.len() {
                        let node = &self.nodes[self.shards[shard].copies[copy].node];
                        if node.up
                            && self.shards[shard].copies[copy].readable
                            && self.shards[shard].copies[copy].serving
                        {
                            self.save(shard, copy)?;
                        }
                    }
                }
                self.sim.after(HOUR, Event::Checkpoint);
            }
            Event::Fault(number) => self.inject(number)?,
            Event::Restart(node) => {
                self.nodes[node].up = true;
                self.reload(node)?;
            }
            Event::Heal(node) => self.nodes[node].cut_off = false,
            Event::Copied { shard, to } => self.copied(shard, to)?,
            Event::Apply { shard, node } => {
                if let Some(copy) = self.position(shard, node)
                    && let Some(every) = self.shards[shard].copies[copy].slow
                {
                    let upto = self.shards[shard].copies[copy].applied + 1;
                    self.catch_up(shard, copy, upto)?;
                    self.sim.after(every, Event::Apply { shard, node });
                }
            }
            Event::Hurry { shard, node } => {
                if let Some(copy) = self.position(shard, node) {
                    self.shards[shard].copies[copy].slow = None;
                    self.catch_up(shard, copy, usize::MAX)?;
                }
            }
        }
        Ok(())
    }

    // ---- requests ----

    /// Asks one copy of every shard, a second one where the first fails, and compares with the index of everything.
    fn query(&mut self) -> Result<(), ReplicaError> {
        self.report.requests += 1;
        let query = random_vector(&mut self.sim);
        let mut lists = Vec::new();
        let mut retried = false;
        for shard in 0..self.shards.len() {
            let mut found = None;
            for copy in self.candidates(shard).into_iter().take(2) {
                let answers = self.nodes[self.shards[shard].copies[copy].node].answers();
                let now = self.sim.now();
                let copy = &mut self.shards[shard].copies[copy];
                let ok = answers && copy.readable;
                if let Ok(permit) = copy.breaker.try_call(now) {
                    copy.breaker.record(permit, ok, now);
                }
                if ok {
                    found = Some(copy.index.search(&query, K)?);
                    break;
                }
                retried = true;
            }
            self.error_rates(shard);
            let Some(hits) = found else {
                self.report.failed += 1;
                return Ok(());
            };
            lists.push(hits);
        }
        self.report.retried += usize::from(retried);
        let merged = merge_hits(Metric::SquaredL2, &lists, K);
        let wrong = merged != self.truth.search(&query, K)?;
        self.sim.note(&merged.iter().map(|hit| hit.id).collect::<Vec<_>>());
        if wrong {
            self.report.wrong += 1;
            for &incident in &self.open {
                self.report.incidents[incident].wrong += 1;
            }
        }
        Ok(())
    }

    /// Copies of a shard that the router believes in, in turn.
    fn candidates(&mut self, shard: usize) -> Vec<usize> {
        let nodes = &self.nodes;
        let shard = &mut self.shards[shard];
        shard.turn += 1;
        let fit: Vec<usize> = (0..shard.copies.len())
            .filter(|&copy| shard.copies[copy].serving && nodes[shard.copies[copy].node].believed)
            .collect();
        let n = fit.len().max(1);
        (0..fit.len()).map(|step| fit[(shard.turn + step) % n]).collect()
    }

    /// Acknowledged when a majority of the copies has it.
    fn write(&mut self, id: u64) -> Result<(), ReplicaError> {
        let number = jump_hash(id, self.config.shards as u32) as usize;
        if self.shards[number].throttled {
            self.report.delayed += 1;
            self.sim.after(30 * SECOND, Event::WriteAgain(id));
            return Ok(());
        }
        let vector = random_vector(&mut self.sim);
        let now = self.sim.now();
        // Who can take it: copies that can be reached, apply at once, and have everything before it.
        let position = self.shards[number].log.len();
        let mut takers = Vec::new();
        for copy in 0..self.shards[number].copies.len() {
            let held = &self.shards[number].copies[copy];
            if held.readable && held.slow.is_none() && self.nodes[held.node].answers() {
                self.catch_up(number, copy, usize::MAX)?;
                if self.shards[number].copies[copy].applied == position {
                    takers.push(copy);
                }
            }
        }
        if 2 * takers.len() <= self.config.replicas {
            self.report.failed += 1;
            return Ok(());
        }
        let insert = [Insert { id, vector }];
        replay(&mut self.truth, &insert)?;
        self.report.acknowledged += 1;
        for copy in takers {
            let copy = &mut self.shards[number].copies[copy];
            replay(&mut copy.index, &insert)?;
            copy.applied += 1;
        }
        self.shards[number].log.extend(insert);
        self.shards[number].written.push(now);
        Ok(())
    }

    // ---- faults ----

    fn inject(&mut self, number: usize) -> Result<(), ReplicaError> {
        let fault = self.faults[number];
        let now = self.sim.now();
        let heartbeat = self.config.heartbeat_timeout + 2 * self.config.heartbeat;
        let limit = match fault {
            Fault::Crash(_) | Fault::LoseNode(_) | Fault::Partition(..) => heartbeat,
            Fault::DiskError { .. } | Fault::FlipByte { .. } | Fault::ShuffledIds { .. } => self.config.check_every,
            Fault::SlowCopy { every, .. } => 3 * every + self.config.max_lag,
            Fault::NanQuery | Fault::HugeK | Fault::DeepFilter => SECOND,
        };
        let incident = Incident { fault, at: now, detected: None, limit, recovered: None, wrong: 0 };
        self.open.push(self.report.incidents.len());
        self.report.incidents.push(incident);
        match fault {
            Fault::Crash(node) => {
                self.nodes[node].up = false;
                self.sim.after(self.config.restart_takes, Event::Restart(node));
            }
            Fault::LoseNode(node) => {
                self.nodes[node].up = false;
                self.nodes[node].disk = false;
            }
            Fault::Partition(node, lasts) => {
                self.nodes[node].cut_off = true;
                self.sim.after(lasts, Event::Heal(node));
            }
            Fault::DiskError { shard, copy } => {
                let copy = &mut self.shards[shard].copies[copy];
                copy.readable = false;
                for version in &copy.versions {
                    std::fs::remove_file(&version.file).map_err(io(&version.file))?;
                }
            }
            Fault::FlipByte { shard, copy } => {
                let copy = &self.shards[shard].copies[copy];
                if let Some(Version { file, .. }) = copy.versions.last() {
                    let mut bytes = std::fs::read(file).map_err(io(file))?;
                    let at = self.sim.rng().below(bytes.len());
                    bytes[at] ^= 1 << self.sim.rng().below(8);
                    std::fs::write(file, bytes).map_err(io(file))?;
                }
            }
            Fault::ShuffledIds { shard, copy } => {
                let held = &self.shards[shard].copies[copy];
                let mut shuffled = held.index.ids().to_vec();
                let values: Vec<f32> =
                    shuffled.iter().flat_map(|&id| held.index.vector(id).unwrap_or_default().to_vec()).collect();
                self.sim.rng().shuffle(&mut shuffled);
                let mut index = FlatIndex::new(DIM, Metric::SquaredL2)?;
                index.add(&shuffled, &Matrix::from_vec(shuffled.len(), DIM, values)?)?;
                self.shards[shard].copies[copy].index = index;
                self.save(shard, copy)?;
                // The file is whole: it loads without complaint and is served.
                let copy = &mut self.shards[shard].copies[copy];
                if let Some(version) = copy.versions.last() {
                    copy.index = FlatIndex::load(&version.file)?;
                }
            }
            Fault::SlowCopy { shard, copy, every, lasts } => {
                let copy = &mut self.shards[shard].copies[copy];
                copy.slow = Some(every);
                let node = copy.node;
                self.sim.after(every, Event::Apply { shard, node });
                self.sim.after(lasts, Event::Hurry { shard, node });
            }
            Fault::NanQuery | Fault::HugeK => {
                for _ in 0..5 {
                    let mut query = random_vector(&mut self.sim);
                    let k = if fault == Fault::HugeK { 1_000_000_000 } else { K };
                    if fault == Fault::NanQuery {
                        query[3] = f32::NAN;
                    }
                    let refused = k > MAX_K || self.truth.search(&query, k).is_err();
                    self.report.refused_input += usize::from(refused);
                    if refused {
                        self.detect("input check", |other| other == fault);
                    }
                }
            }
            Fault::DeepFilter => {
                for _ in 0..5 {
                    self.deep_filter()?;
                }
            }
        }
        Ok(())
    }

    /// A query that kills the process which runs it, sent to one copy after another until something stops it.
    fn deep_filter(&mut self) -> Result<(), ReplicaError> {
        const FINGERPRINT: u64 = 0xDEAD;
        let depth = 2 * self.config.fatal_depth;
        if self.max_depth.is_some_and(|limit| depth > limit) {
            self.report.refused_input += 1;
            return Ok(());
        }
        let now = self.sim.now();
        for copy in self.candidates(0) {
            let breaker = match self.poisons.entry(FINGERPRINT) {
                std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
                std::collections::btree_map::Entry::Vacant(new) => new.insert(breaker(2)?),
            };
            let Ok(permit) = breaker.try_call(now) else {
                // Two processes died of it: no third one runs it, and from now on its depth is checked at the door.
                self.report.refused_input += 1;
                self.max_depth = Some(self.config.fatal_depth / 100);
                self.detect("repeated crash", |fault| fault == Fault::DeepFilter);
                return Ok(());
            };
            breaker.record(permit, false, now);
            let node = self.shards[0].copies[copy].node;
            self.nodes[node].up = false;
            self.sim.after(30 * SECOND, Event::Restart(node));
        }
        Ok(())
    }

    // ---- detectors ----

    /// Notes that a fault was noticed, and checks which are over.
    fn detect(&mut self, detector: &'static str, is: impl Fn(Fault) -> bool) {
        let now = self.sim.now();
        for &number in &self.open {
            let incident = &mut self.report.incidents[number];
            if is(incident.fault) && incident.detected.is_none() {
                incident.detected = Some((detector, now - incident.at));
            }
        }
        self.close_incidents();
    }

    /// A fault is over when it was noticed, every node that should be up is up, and all copies of all shards serve.
    fn close_incidents(&mut self) {
        let whole = self.shards.iter().all(|shard| {
            let healthy = |copy: &&Copy| copy.serving && copy.readable && self.nodes[copy.node].answers();
            shard.copies.iter().filter(healthy).count() >= self.config.replicas && !shard.throttled
        });
        let now = self.sim.now();
        let incidents = &mut self.report.incidents;
        self.open.retain(|&number| {
            let incident = &mut incidents[number];
            if whole && incident.detected.is_some() {
                incident.recovered = Some(now - incident.at);
            }
            incident.recovered.is_none()
        });
    }

    fn heartbeat(&mut self) -> Result<(), ReplicaError> {
        let now = self.sim.now();
        for node in 0..self.nodes.len() {
            if self.nodes[node].answers() {
                self.nodes[node].heard = now;
                if !self.nodes[node].believed {
                    self.nodes[node].believed = true;
                    self.rejoin(node)?;
                }
            } else if self.nodes[node].believed && now - self.nodes[node].heard > self.config.heartbeat_timeout {
                self.nodes[node].believed = false;
                self.detect(
                    "heartbeat time-out",
                    |fault| matches!(fault, Fault::Crash(n) | Fault::LoseNode(n) | Fault::Partition(n, _) if n == node),
                );
                for shard in 0..self.shards.len() {
                    if let Some(copy) = self.position(shard, node) {
                        self.shards[shard].copies[copy].serving = false;
                        self.make_anew(shard);
                    }
                }
            }
        }
        for shard in 0..self.shards.len() {
            self.watch_lag(shard);
            self.make_anew(shard);
        }
        self.close_incidents();
        Ok(())
    }

    /// A copy that failed three requests in a row, though its node lives, leaves service.
    fn error_rates(&mut self, shard: usize) {
        let now = self.sim.now();
        for copy in (0..self.shards[shard].copies.len()).rev() {
            let held = &self.shards[shard].copies[copy];
            let node_lives = self.nodes[held.node].answers();
            if held.serving && node_lives && held.breaker.state(now) == eas_ops::breaker::State::Open {
                self.detect("error rate", |fault| matches!(fault, Fault::DiskError { shard: s, .. } if s == shard));
                self.shards[shard].copies.remove(copy);
                self.make_anew(shard);
            }
        }
    }

    /// Reads every file of a serving copy back.
    fn check_files(&mut self) -> Result<(), ReplicaError> {
        for shard in 0..self.shards.len() {
            for copy in (0..self.shards[shard].copies.len()).rev() {
                let held = &self.shards[shard].copies[copy];
                let (Some(version), true) = (held.versions.last(), held.serving && self.nodes[held.node].answers())
                else {
                    continue;
                };
                match FlatIndex::load(&version.file) {
                    Ok(_) => (),
                    Err(AnnError::Corrupt { .. }) => {
                        self.report.refused_files += 1;
                        self.detect(
                            "checksum",
                            |fault| matches!(fault, Fault::FlipByte { shard: s, .. } if s == shard),
                        );
                        self.roll_back(shard, copy)?;
                    }
                    Err(AnnError::Io { .. }) => {
                        self.detect(
                            "unreadable file",
                            |fault| matches!(fault, Fault::DiskError { shard: s, .. } if s == shard),
                        );
                        self.shards[shard].copies.remove(copy);
                        self.make_anew(shard);
                    }
                    Err(other) => return Err(other.into()),
                }
            }
        }
        Ok(())
    }

    /// Asks every serving copy for vectors that it is known to hold.
    fn ask_canaries(&mut self) -> Result<(), ReplicaError> {
        for shard in 0..self.shards.len() {
            for copy in (0..self.shards[shard].copies.len()).rev() {
                let held = &self.shards[shard].copies[copy];
                if !held.serving || !held.readable || !self.nodes[held.node].answers() {
                    continue;
                }
                let found = held.index.search_batch(&self.shards[shard].canary_queries, 1)?;
                let expected = &self.shards[shard].canary_ids;
                let right =
                    found.iter().zip(expected).filter(|(hits, id)| hits.first().is_some_and(|hit| hit.id == **id));
                if (right.count() as f64) < self.config.canary_floor * expected.len() as f64 {
                    self.detect(
                        "recall canary",
                        |fault| matches!(fault, Fault::ShuffledIds { shard: s, .. } if s == shard),
                    );
                    self.roll_back(shard, copy)?;
                }
            }
        }
        Ok(())
    }

    /// Age of the oldest write that each copy hasn't applied; above the limit the copy leaves service and writes wait.
    fn watch_lag(&mut self, shard: usize) {
        let now = self.sim.now();
        let mut throttle = false;
        for copy in 0..self.shards[shard].copies.len() {
            let (held, written) = (&self.shards[shard].copies[copy], &self.shards[shard].written);
            if !self.nodes[held.node].answers() || !held.readable {
                continue;
            }
            let lag = written.get(held.applied).map_or(0, |at| now - at);
            if lag > self.config.max_lag && held.serving {
                self.shards[shard].copies[copy].serving = false;
                self.detect("lag metric", |fault| matches!(fault, Fault::SlowCopy { shard: s, .. } if s == shard));
            } else if lag < self.config.accepted_lag {
                self.shards[shard].copies[copy].serving = true;
            }
            throttle |= self.shards[shard].copies[copy].slow.is_some() && !self.shards[shard].copies[copy].serving;
        }
        self.shards[shard].throttled = throttle;
    }

    // ---- recoveries ----

    /// Starts a copy of the shard on another node for each one missing, as long as there is one to copy from.
    fn make_anew(&mut self, shard: usize) {
        let nodes = &self.nodes;
        let held = &mut self.shards[shard];
        let present = held.copies.iter().filter(|copy| nodes[copy.node].believed && copy.readable).count();
        let source = held.copies.iter().any(|copy| copy.readable && nodes[copy.node].answers());
        for _ in (present + held.copying.len())..self.config.replicas {
            let free = (0..nodes.len()).find(|&node| {
                nodes[node].answers() && !held.copying.contains(&node) && held.copies.iter().all(|c| c.node != node)
            });
            if let (Some(to), true) = (free, source) {
                held.copying.insert(to);
                self.sim.after(self.config.copy_takes, Event::Copied { shard, to });
            }
        }
    }

    fn copied(&mut self, shard: usize, to: usize) -> Result<(), ReplicaError> {
        self.shards[shard].copying.remove(&to);
        let source = self.shards[shard]
            .copies
            .iter()
            .filter(|copy| copy.readable && self.nodes[copy.node].answers())
            .max_by_key(|copy| copy.applied);
        if let (Some(source), true) = (source, self.nodes[to].answers()) {
            let index = source.index.clone();
            // Copies on nodes that are gone are replaced by this one.
            let nodes = &self.nodes;
            self.shards[shard].copies.retain(|copy| nodes[copy.node].believed);
            if self.shards[shard].copies.len() < self.config.replicas {
                self.place(shard, to, index)?;
            }
        }
        self.close_incidents();
        Ok(())
    }

    /// A node that was given up is heard again: the copies it still has catch up.
    fn rejoin(&mut self, node: usize) -> Result<(), ReplicaError> {
        for shard in 0..self.shards.len() {
            if let Some(copy) = self.position(shard, node) {
                self.catch_up(shard, copy, usize::MAX)?;
                self.shards[shard].copies[copy].serving = true;
                self.shards[shard].copies[copy].breaker = breaker(3)?;
            }
        }
        Ok(())
    }

    /// A process that starts reads its files, and asks the other copies for what came after.
    fn reload(&mut self, node: usize) -> Result<(), ReplicaError> {
        for shard in 0..self.shards.len() {
            let Some(copy) = self.position(shard, node) else {
                continue;
            };
            let Some(version) = self.shards[shard].copies[copy].versions.last().cloned() else {
                continue;
            };
            self.shards[shard].copies[copy].breaker = breaker(3)?;
            match FlatIndex::load(&version.file) {
                Ok(index) => {
                    self.shards[shard].copies[copy].index = index;
                    self.shards[shard].copies[copy].applied = version.applied;
                    self.catch_up(shard, copy, usize::MAX)?;
                }
                Err(_) => self.roll_back(shard, copy)?,
            }
        }
        Ok(())
    }

    /// Back to the file before the newest, then the log; the copy must then have the hash of a healthy one.
    fn roll_back(&mut self, shard: usize, copy: usize) -> Result<(), ReplicaError> {
        self.shards[shard].copies[copy].versions.pop();
        let Some(good) = self.shards[shard].copies[copy].versions.last().cloned() else {
            self.shards[shard].copies.remove(copy);
            self.make_anew(shard);
            return Ok(());
        };
        self.shards[shard].copies[copy].index = FlatIndex::load(&good.file)?;
        self.shards[shard].copies[copy].applied = good.applied;
        self.catch_up(shard, copy, usize::MAX)?;
        self.save(shard, copy)?;
        let own = digest(&self.shards[shard].copies[copy].index);
        let healthy = self.shards[shard].copies.iter().enumerate().filter(|(other, c)| *other != copy && c.serving);
        let mut others = healthy.map(|(_, c)| digest(&c.index)).peekable();
        self.report.rollbacks.1 += 1;
        self.report.rollbacks.0 += usize::from(others.peek().is_some() && others.all(|other| other == own));
        self.close_incidents();
        Ok(())
    }

    /// Applies writes up to position `upto`, as far as some copy that can be asked has them.
    fn catch_up(&mut self, shard: usize, copy: usize, upto: usize) -> Result<(), ReplicaError> {
        let nodes = &self.nodes;
        let held = &mut self.shards[shard];
        let sources = held.copies.iter().filter(|c| c.readable && nodes[c.node].answers());
        let upto = upto.min(sources.map(|c| c.applied).max().unwrap_or(0));
        let from = held.copies[copy].applied;
        if from < upto {
            replay(&mut held.copies[copy].index, &held.log[from..upto])?;
            held.copies[copy].applied = upto;
        }
        Ok(())
    }

    fn position(&self, shard: usize, node: usize) -> Option<usize> {
        self.shards[shard].copies.iter().position(|copy| copy.node == node)
    }

    /// A new copy on a node, with its file.
    fn place(&mut self, shard: usize, node: usize, index: FlatIndex) -> Result<(), ReplicaError> {
        let applied = index.len();
        self.shards[shard].copies.push(Copy {
            node,
            index,
            applied,
            serving: true,
            readable: true,
            versions: Vec::new(),
            slow: None,
            breaker: breaker(3)?,
        });
        let copy = self.shards[shard].copies.len() - 1;
        // Two versions, so that there is a way back from the start.
        self.save(shard, copy)?;
        self.save(shard, copy)
    }

    fn save(&mut self, shard: usize, copy: usize) -> Result<(), ReplicaError> {
        self.files += 1;
        let number = self.files;
        let copy = &mut self.shards[shard].copies[copy];
        let file = self.config.folder.join(format!("node{}_shard{shard}_{number}.index", copy.node));
        copy.index.save(&file)?;
        copy.versions.push(Version { file, applied: copy.applied });
        if copy.versions.len() > 2 {
            let old = copy.versions.remove(0);
            std::fs::remove_file(&old.file).map_err(io(&old.file))?;
        }
        Ok(())
    }
}

fn random_vector(sim: &mut Sim<Event>) -> Vec<f32> {
    (0..DIM).map(|_| sim.rng().normal() as f32).collect()
}

/// Opens after so many failures in a row and stays open.
fn breaker(failures: usize) -> Result<CircuitBreaker, ReplicaError> {
    CircuitBreaker::new(BreakerConfig::consecutive(failures, 24 * HOUR)).map_err(|error| ReplicaError::Parameter {
        name: "breaker",
        got: error.to_string(),
        expected: "at least one failure",
    })
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> ReplicaError + '_ {
    move |source| ReplicaError::Index(AnnError::Io { path: path.to_path_buf(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(hours: u64, faults: &[(Micros, Fault)], seed: u64) -> DrillReport {
        let folder = tempfile::tempdir().unwrap();
        let drill = Drill::new(DrillConfig::new(folder.path(), seed), 400).unwrap();
        drill.run(hours * HOUR, faults).unwrap()
    }

    fn the_only(report: &DrillReport) -> &Incident {
        assert_eq!(report.incidents.len(), 1);
        let incident = &report.incidents[0];
        assert!(incident.detected.is_some_and(|(_, after)| after <= incident.limit), "{incident:?}");
        assert!(incident.recovered.is_some(), "{incident:?}");
        incident
    }

    #[test]
    fn without_faults_every_answer_is_right() {
        let report = run(1, &[], 1);
        assert_eq!((report.failed, report.wrong, report.lost), (0, 0, 0));
        assert!(report.equal && report.requests > 1_000);
        assert_eq!(report.trace, run(1, &[], 1).trace);
        assert_ne!(report.trace, run(1, &[], 2).trace);
    }

    #[test]
    fn each_fault_is_noticed_by_its_detector_and_mended() {
        let at = 10 * MINUTE + 7 * SECOND;
        let slow = Fault::SlowCopy { shard: 1, copy: 1, every: 100 * SECOND, lasts: 20 * MINUTE };
        for (fault, detector, wrong) in [
            (Fault::Crash(1), "heartbeat time-out", Some(false)),
            (Fault::LoseNode(2), "heartbeat time-out", Some(false)),
            (Fault::Partition(3, 10 * MINUTE), "heartbeat time-out", Some(false)),
            (Fault::DiskError { shard: 2, copy: 1 }, "error rate", Some(false)),
            (Fault::FlipByte { shard: 1, copy: 0 }, "checksum", Some(false)),
            (Fault::ShuffledIds { shard: 0, copy: 2 }, "recall canary", Some(true)),
            (Fault::NanQuery, "input check", Some(false)),
            (Fault::HugeK, "input check", Some(false)),
            (Fault::DeepFilter, "repeated crash", Some(false)),
            (slow, "lag metric", None),
        ] {
            let report = run(2, &[(at, fault)], 3);
            let incident = the_only(&report);
            assert_eq!(incident.detected.unwrap().0, detector, "{fault:?}");
            assert_eq!(wrong.unwrap_or(incident.wrong > 0), incident.wrong > 0, "{incident:?}");
            assert!(report.lost == 0 && report.equal, "{fault:?} {report:?}");
            assert!(report.failed <= 3, "{fault:?}: {} failed", report.failed);
        }
    }

    #[test]
    fn rolled_back_copies_equal_the_others() {
        for fault in [Fault::FlipByte { shard: 1, copy: 0 }, Fault::ShuffledIds { shard: 0, copy: 2 }] {
            for seed in 0..5 {
                assert_eq!(run(2, &[(90 * MINUTE, fault)], seed).rollbacks, (1, 1));
            }
        }
    }

    #[test]
    fn two_lost_copies_lose_nothing_and_three_lose_the_shard() {
        let lose = |nodes: &[usize]| -> Vec<(Micros, Fault)> {
            (0..).zip(nodes).map(|(i, &node)| (HOUR + i * 30 * SECOND, Fault::LoseNode(node))).collect()
        };
        // Shard 1 is on nodes 1, 2 and 3.
        let two = run(2, &lose(&[1, 2]), 5);
        assert_eq!(two.lost, 0);
        assert!(two.incidents.iter().all(|incident| incident.recovered.is_some()));
        let three = run(2, &lose(&[1, 2, 3]), 5);
        assert!(three.lost > 50 && three.lost < three.acknowledged / 2, "{} of {}", three.lost, three.acknowledged);
    }

    #[test]
    fn a_cluster_that_cannot_be_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for (nodes, replicas) in [(2, 3), (3, 0)] {
            let config = DrillConfig { nodes, replicas, ..DrillConfig::new(folder.path(), 1) };
            assert!(Drill::new(config, 10).is_err());
        }
    }
}
