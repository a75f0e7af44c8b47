//! Damaged files, killed processes, many threads: what every index and file of the crate has to stand.
//!
//! The default run is short. The long one, of minutes: `cargo test -p eas-ann --test reliability -- --ignored`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use eas_ann::service::AnnService;
use eas_ann::versioned::Shared;
use eas_ann::wal::Wal;
use eas_ann::{
    AnnError, CompactFlat, Dtype, FlatIndex, Hit, Hnsw, HnswConfig, IndexKind, IvfConfig, IvfIndex, IvfPq, IvfPqConfig,
    KMeansTree, Lsh, LshConfig, MappedHnsw, Metric, QuantizedGraph, QuantizedGraphConfig, Selection, ShardedIndex,
    Storage, TreeConfig, VectorFile, VectorIndex, recall,
};
use eas_tensor::Matrix;
use eas_tensor::rng::SplitMix64;
use proptest::prelude::*;

const DIM: usize = 8;
const SMALL: HnswConfig = HnswConfig { m: 6, ef_construction: 40, ef: 40, seed: 42, selection: Selection::Heuristic };

/// The vector of an id in one of its generations.
fn vector(id: u64, generation: u64) -> Vec<f32> {
    let mut rng = SplitMix64::stream(generation, id);
    (0..DIM).map(|_| rng.normal() as f32).collect()
}

fn matrix(ids: &[u64], generation: u64) -> Matrix {
    Matrix::from_rows(&ids.iter().map(|&id| vector(id, generation)).collect::<Vec<_>>()).unwrap()
}

// KINDS

type Boxed = Box<dyn VectorIndex>;

/// A kind of index that can be saved: how an empty one is made, kept in a file and opened again.
struct Kind {
    name: &'static str,
    fresh: fn(Metric) -> Boxed,
    store: fn(&dyn VectorIndex, &Path) -> Result<(), AnnError>,
    load: fn(&Path) -> Result<Boxed, AnnError>,
}

impl Kind {
    const fn new(name: &'static str, fresh: fn(Metric) -> Boxed, load: fn(&Path) -> Result<Boxed, AnnError>) -> Self {
        Self { name, fresh, store: |index, path| index.save(path), load }
    }

    fn filled(&self, metric: Metric, ids: &[u64]) -> Boxed {
        let mut index = (self.fresh)(metric);
        index.add(ids, &matrix(ids, 0)).unwrap();
        index
    }

    fn save(&self, path: &Path, ids: &[u64]) {
        (self.store)(self.filled(Metric::SquaredL2, ids).as_ref(), path).unwrap();
    }
}

fn boxed<I: VectorIndex + 'static>(index: I) -> Boxed {
    Box::new(index)
}

fn flat(metric: Metric) -> FlatIndex {
    FlatIndex::new(DIM, metric).unwrap()
}

fn compact(metric: Metric, storage: Storage) -> CompactFlat {
    CompactFlat::new(DIM, metric, storage).unwrap()
}

fn hnsw(metric: Metric) -> Hnsw {
    Hnsw::new(DIM, metric, SMALL).unwrap()
}

fn graph(metric: Metric) -> QuantizedGraph {
    let config = QuantizedGraphConfig { ef_construction: 64, ..QuantizedGraphConfig::default() };
    QuantizedGraph::new(DIM, metric, config).unwrap()
}

fn sharded(metric: Metric, inner: IndexKind) -> ShardedIndex {
    ShardedIndex::builder().shards(3).replicas(1).inner(inner).build(DIM, metric).unwrap()
}

fn ivf_config() -> IvfConfig {
    IvfConfig { lists: 8, nprobe: 6, max_iter: 5, ..IvfConfig::default() }
}

/// What indexes that need to are trained on.
fn sample() -> Matrix {
    matrix(&(0..400).collect::<Vec<_>>(), 3)
}

fn ivf(metric: Metric) -> IvfIndex {
    IvfIndex::train(&sample(), metric, ivf_config()).unwrap()
}

fn ivf_pq(metric: Metric) -> IvfPq {
    let config =
        IvfPqConfig { ivf: ivf_config(), subspaces: 8, bits: 4, rerank: 100, iterations: 5, ..IvfPqConfig::default() };
    IvfPq::train(&sample(), metric, config).unwrap()
}

fn lsh(metric: Metric) -> Lsh {
    let config = LshConfig { tables: 16, bits: 3, seed: 1 };
    Lsh::new(DIM, metric, config).unwrap()
}

fn tree(metric: Metric) -> KMeansTree {
    let config = TreeConfig { branching: 4, levels: 2, beam: 12, ..TreeConfig::default() };
    KMeansTree::train(&sample(), metric, config).unwrap()
}

const KINDS: [Kind; 12] = [
    Kind::new("flat", |metric| boxed(flat(metric)), |path| FlatIndex::load(path).map(boxed)),
    Kind::new("flat f16", |metric| boxed(compact(metric, Storage::F16)), |path| CompactFlat::load(path).map(boxed)),
    Kind::new("flat int8", |metric| boxed(compact(metric, Storage::Int8)), |path| CompactFlat::load(path).map(boxed)),
    Kind::new("hnsw", |metric| boxed(hnsw(metric)), |path| Hnsw::load(path).map(boxed)),
    Kind {
        name: "mapped hnsw",
        fresh: |metric| boxed(hnsw(metric)),
        store: |index, path| {
            let beside = path.with_extension("hnsw");
            index.save(&beside)?;
            MappedHnsw::write(&Hnsw::load(&beside)?, path)
        },
        load: |path| MappedHnsw::load(path).map(boxed),
    },
    Kind::new("quantized graph", |metric| boxed(graph(metric)), |path| QuantizedGraph::load(path).map(boxed)),
    Kind::new(
        "sharded flat",
        |metric| boxed(sharded(metric, IndexKind::Flat)),
        |path| ShardedIndex::load(path).map(boxed),
    ),
    Kind::new(
        "sharded hnsw",
        |metric| boxed(sharded(metric, IndexKind::Hnsw(SMALL))),
        |path| ShardedIndex::load(path).map(boxed),
    ),
    Kind::new("ivf", |metric| boxed(ivf(metric)), |path| IvfIndex::load(path).map(boxed)),
    Kind::new("ivf-pq", |metric| boxed(ivf_pq(metric)), |path| IvfPq::load(path).map(boxed)),
    Kind::new("lsh", |metric| boxed(lsh(metric)), |path| Lsh::load(path).map(boxed)),
    Kind::new("tree", |metric| boxed(tree(metric)), |path| KMeansTree::load(path).map(boxed)),
];

/// The files of a saved index: itself, or those in its folder.
fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_path_buf()];
    }
    let mut all: Vec<PathBuf> = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}

fn answers(index: &dyn VectorIndex) -> Result<Vec<Vec<Hit>>, AnnError> {
    (0..4).map(|query| index.search(&vector(query, 9), 5)).collect()
}

/// Opens a damaged index: true when it is refused, now or at a search; false when it answers as the whole one. Anything else fails the test.
fn refused(kind: &Kind, path: &Path, whole: &[Vec<Hit>], damage: &str) -> bool {
    match (kind.load)(path).and_then(|index| answers(index.as_ref())) {
        Err(_) => true,
        Ok(found) => {
            assert_eq!(found, whole, "{}: {damage}", kind.name);
            false
        }
    }
}

// DAMAGE

fn damage(flips: usize, cuts: usize) {
    for kind in &KINDS {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index");
        kind.save(&path, &(0..200).collect::<Vec<_>>());
        let whole = answers((kind.load)(&path).unwrap().as_ref()).unwrap();
        let files = files(&path);
        let (mut tried, mut caught) = (0u32, 0u32);
        for file in &files {
            let bytes = std::fs::read(file).unwrap();
            let mut rng = SplitMix64::new(bytes.len() as u64);
            // A damaged file is written beside and renamed, as a file that is mapped must not change.
            let mut attempt = |damaged: &[u8], what: &str| {
                let beside = dir.path().join("damaged");
                std::fs::write(&beside, damaged).unwrap();
                std::fs::rename(&beside, file).unwrap();
                tried += 1;
                caught += u32::from(refused(kind, &path, &whole, what));
            };
            let header = bytes.len().min(if bytes.starts_with(b"EASPAGE1") { 4096 } else { 64 });
            let random = (0..flips / files.len()).map(|_| rng.below(bytes.len())).collect::<Vec<_>>();
            for at in (0..header).chain(random) {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << (at % 8);
                attempt(&damaged, &format!("byte {at} flipped"));
            }
            for cut in 0..cuts / files.len() {
                let length = if cut < 50 { bytes.len() - 1 - cut.min(bytes.len() - 1) } else { rng.below(bytes.len()) };
                attempt(&bytes[..length], &format!("cut off to {length} bytes"));
            }
            attempt(&bytes, "whole again");
        }
        println!("{}: {tried} damaged files, {caught} refused, {} answered as before", kind.name, tried - caught);
        assert!(caught > tried / 2);
    }
}

/// What a file of vectors or a log still holds: a row (or record) after the other.
type Rows = Vec<Vec<u8>>;
type Read = fn(&Path) -> Result<Rows, AnnError>;

fn rows_of_vectors(path: &Path) -> Result<Rows, AnnError> {
    let file = VectorFile::open_read(path)?;
    file.verify()?;
    (0..file.len()).map(|row| Ok(file.get(row)?.iter().flat_map(|value| value.to_le_bytes()).collect())).collect()
}

fn records(path: &Path) -> Result<Rows, AnnError> {
    let mut all = Vec::new();
    Wal::open(path, |_, record| {
        all.push(record.to_vec());
        Ok(())
    })?;
    Ok(all)
}

/// Vector files hold what was published or are refused; of a log that was cut off the first records remain.
fn damage_to_files_that_grow(flips: usize, cuts: usize) {
    let dir = tempfile::tempdir().unwrap();
    let vectors = dir.path().join("vectors");
    let mut file = VectorFile::create(&vectors, DIM, Dtype::F32).unwrap();
    for ids in (0..200).collect::<Vec<_>>().chunks(23) {
        file.append(&matrix(ids, 0)).unwrap();
    }
    drop(file);
    let log = dir.path().join("log");
    let (mut wal, _) = Wal::open(&log, |_, _| Ok(())).unwrap();
    for record in 0..60 {
        wal.append(&payload(record)).unwrap();
    }
    wal.sync().unwrap();
    drop(wal);
    for (name, path, read) in [("vectors", &vectors, rows_of_vectors as Read), ("log", &log, records)] {
        let bytes = std::fs::read(path).unwrap();
        let whole = read(path).unwrap();
        let mut rng = SplitMix64::new(7);
        let (mut refused, mut shorter, mut equal) = (0u32, 0u32, 0u32);
        let mut attempt = |damaged: &[u8], cut: bool| {
            let beside = dir.path().join("damaged");
            std::fs::write(&beside, damaged).unwrap();
            match read(&beside) {
                Err(_) => refused += 1,
                Ok(rows) if rows == whole => equal += 1,
                Ok(rows) => {
                    assert!(cut && name == "log" && whole.starts_with(&rows), "{name}: other rows than were written");
                    shorter += 1;
                }
            }
        };
        let random: Vec<usize> = (0..flips).map(|_| rng.below(bytes.len())).collect();
        for at in (0..bytes.len().min(4096)).chain(random) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            attempt(&damaged, false);
        }
        for cut in 0..cuts {
            let length = if cut < 50 { bytes.len() - 1 - cut } else { rng.below(bytes.len()) };
            attempt(&bytes[..length], true);
        }
        println!(
            "{name}: {} damaged files, {refused} refused, {shorter} with the first records only, {equal} whole",
            refused + shorter + equal
        );
        assert!(refused > 0 && (name == "vectors" || shorter > 0));
    }
}

#[test]
fn a_damaged_index_is_refused_or_answers_correctly() {
    damage(300, 150);
    damage_to_files_that_grow(300, 150);
}

#[test]
#[ignore = "minutes"]
fn ten_thousand_flipped_bytes_and_a_thousand_cuts_of_every_kind() {
    damage(10_000, 1_000);
    damage_to_files_that_grow(10_000, 1_000);
}

/// Gives an altered file good checksums, as who wants to harm would.
fn reseal(bytes: &mut [u8]) {
    if bytes.starts_with(b"EASPAGE1") {
        let table = u64::from_le_bytes(bytes[24..32].try_into().unwrap()) as usize;
        if let Some(pages) =
            bytes.get(4096..table).map(|pages| pages.chunks(4096).map(crc32fast::hash).collect::<Vec<_>>())
        {
            for (at, checksum) in (table..).step_by(4).zip(pages) {
                if let Some(place) = bytes.get_mut(at..at + 4) {
                    place.copy_from_slice(&checksum.to_le_bytes());
                }
            }
            let sum = bytes.get(table..).map_or(0, crc32fast::hash);
            bytes[32..36].copy_from_slice(&sum.to_le_bytes());
        }
        let sum = crc32fast::hash(&bytes[..4092]);
        bytes[4092..4096].copy_from_slice(&sum.to_le_bytes());
    } else {
        let sum = crc32fast::hash(&bytes[24..]);
        bytes[12..16].copy_from_slice(&sum.to_le_bytes());
    }
}

/// The most memory that this process has had addresses for, in MiB; 0 where the system doesn't tell.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmPeak:"));
    peak.and_then(|peak| peak.trim().strip_suffix(" kB")?.parse().ok()).map_or(0, |kib: u64| kib >> 10)
}

/// Every number of the beginning of a file, and some behind, becomes absurd under a good checksum: an error or any answer, and neither a
/// panic nor a large allocation. In a process of its own, so that what it asks of the system can be measured.
#[test]
fn absurd_numbers_under_good_checksums_do_no_harm() {
    for kind in &KINDS {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["absurd", "--exact", "--nocapture", "--test-threads", "1"])
            .env("EAS_ABSURD", kind.name)
            .env("RAYON_NUM_THREADS", "2")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}: {text}{}", kind.name, String::from_utf8_lossy(&output.stderr));
        let said = text.lines().find_map(|line| line.split_once("tried: ")).unwrap().1;
        println!("{}: {said}", kind.name);
    }
}

/// The child of the test above.
#[test]
fn absurd() {
    let Ok(name) = std::env::var("EAS_ABSURD") else { return };
    let kind = KINDS.iter().find(|own| own.name == name).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index");
    kind.save(&path, &(0..60).collect::<Vec<_>>());
    let ask = || {
        let index = (kind.load)(&path)?;
        let _ = index.contains(3);
        let query = vec![0.5; index.dim().min(1 << 16)];
        index.search(&query, 5)?;
        index.search_where(&query, 5, &|id| id % 2 == 0)
    };
    ask().unwrap();
    let (before, mut tried, mut refused) = (peak_mib(), 0, 0);
    for file in files(&path) {
        let bytes = std::fs::read(&file).unwrap();
        let mut rng = SplitMix64::new(5);
        let places: Vec<usize> = if bytes.starts_with(b"EASPAGE1") {
            (8..360).step_by(4).chain((4096..4200).step_by(4)).collect()
        } else {
            (24..120.min(bytes.len())).step_by(4).chain((25..80.min(bytes.len())).step_by(4)).collect()
        };
        let random: Vec<usize> = (0..10).map(|_| 24 + rng.below(bytes.len() - 24)).collect();
        for at in places.into_iter().chain(random) {
            for number in [1u64 << 60, u64::MAX, 1 << 31, 1 << 40, 0] {
                let mut damaged = bytes.clone();
                let width = 8.min(bytes.len() - at);
                damaged[at..at + width].copy_from_slice(&number.to_le_bytes()[..width]);
                reseal(&mut damaged);
                let beside = dir.path().join("damaged");
                std::fs::write(&beside, &damaged).unwrap();
                std::fs::rename(&beside, &file).unwrap();
                tried += 1;
                refused += u32::from(ask().is_err());
                let more = peak_mib() - before;
                assert!(more < 512, "{}: {number:#x} at byte {at} takes {more} MiB", kind.name);
            }
        }
        std::fs::write(&file, &bytes).unwrap();
    }
    println!("tried: {tried} files with absurd numbers, {refused} refused, {} MiB more at most", peak_mib() - before);
}

// KILLED PROCESSES

/// What the child process does, over and over, until it is killed; it says what is acknowledged.
#[test]
fn child() {
    let (Ok(role), Ok(folder)) = (std::env::var("EAS_CHILD"), std::env::var("EAS_FOLDER")) else {
        return;
    };
    let folder = Path::new(&folder);
    let mut rng = SplitMix64::new(u64::from(std::process::id()));
    let say = |acknowledged: u64| println!("acknowledged {acknowledged}");
    match role.as_str() {
        "vectors" => {
            let path = folder.join("vectors");
            let mut file = match VectorFile::open_append(&path) {
                Err(AnnError::NotFound { .. }) => VectorFile::create(&path, DIM, Dtype::F32).unwrap(),
                opened => opened.unwrap(),
            };
            loop {
                let ids: Vec<u64> = (file.len()..).take(1 + rng.below(200)).collect();
                file.append(&matrix(&ids, 0)).unwrap();
                say(file.len());
            }
        }
        "wal" => {
            let (mut log, _) = Wal::open(&folder.join("log"), |_, _| Ok(())).unwrap();
            loop {
                for _ in 0..=rng.below(5) {
                    let record = log.next_sequence();
                    log.append(&payload(record)).unwrap();
                }
                say(log.sync().unwrap());
            }
        }
        "service" => {
            let (service, _) = AnnService::open(&folder.join("log"), DIM, |_| Ok(boxed(flat(Metric::Cosine)))).unwrap();
            loop {
                let from = service.stats().live as u64;
                let ids: Vec<u64> = (from..).take(1 + rng.below(50)).collect();
                service.add(&ids, &matrix(&ids, 0)).unwrap();
                say(service.stats().live as u64);
                if rng.chance(0.1) {
                    service.rebuild().unwrap();
                }
            }
        }
        kind => {
            let kind = KINDS.iter().find(|own| own.name == kind).unwrap();
            let path = folder.join("index");
            let mut generation = (kind.load)(&path).map_or(0, |index| index.len() as u64);
            loop {
                // Generation g holds the ids 0 to g - 1.
                generation += 1;
                kind.save(&path, &(0..generation).collect::<Vec<_>>());
                say(generation);
            }
        }
    }
}

fn payload(sequence: u64) -> Vec<u8> {
    let mut rng = SplitMix64::new(sequence);
    (0..rng.below(300)).map(|_| rng.next_u64() as u8).collect()
}

/// Starts the child, kills it a random time after its first word, and returns the last thing that it acknowledged.
fn kill(role: &str, folder: &Path, rng: &mut SplitMix64) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture"])
        .env("EAS_CHILD", role)
        .env("EAS_FOLDER", folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let number = |line: String| line.strip_prefix("acknowledged ").and_then(|n| n.parse::<u64>().ok());
    let first = lines.by_ref().find_map(number).expect("the child wrote something");
    let reader = std::thread::spawn(move || lines.filter_map(number).last());
    std::thread::sleep(Duration::from_micros(rng.below(30_000) as u64));
    child.kill().unwrap(); // SIGKILL
    child.wait().unwrap();
    reader.join().unwrap().unwrap_or(first)
}

fn kills(times: usize) {
    let roles = ["vectors", "wal", "service"].into_iter().chain(KINDS.iter().map(|kind| kind.name));
    for role in roles {
        let mut rng = SplitMix64::new(11);
        let mut dir = tempfile::tempdir().unwrap();
        let (mut acknowledged_in_all, mut more) = (0, 0);
        for run in 0..times {
            if run % 10 == 0 {
                dir = tempfile::tempdir().unwrap();
            }
            let acknowledged = kill(role, dir.path(), &mut rng);
            let there = match role {
                "vectors" => {
                    let file = VectorFile::open_read(&dir.path().join("vectors")).unwrap();
                    file.verify().unwrap();
                    for row in 0..file.len() {
                        assert_eq!(*file.get(row).unwrap(), vector(row, 0));
                    }
                    file.len()
                }
                "wal" => {
                    let (log, _) = Wal::open(&dir.path().join("log"), |sequence, record| {
                        assert_eq!(record, payload(sequence));
                        Ok(())
                    })
                    .unwrap();
                    log.next_sequence()
                }
                "service" => {
                    let build = |_: &Matrix| Ok(boxed(flat(Metric::Cosine)));
                    let (service, _) = AnnService::open(&dir.path().join("log"), DIM, build).unwrap();
                    let ids = service.ids();
                    assert_eq!(ids, (0..ids.len() as u64).collect::<Vec<_>>());
                    for &id in ids.iter().rev().take(300) {
                        assert_eq!(service.search(&vector(id, 0), 1).unwrap()[0].id, id);
                    }
                    ids.len() as u64
                }
                name => {
                    let kind = KINDS.iter().find(|kind| kind.name == name).unwrap();
                    let index = (kind.load)(&dir.path().join("index")).unwrap();
                    for id in 0..index.len() as u64 {
                        assert_eq!(index.search(&vector(id, 0), 1).unwrap()[0].id, id);
                    }
                    index.len() as u64
                }
            };
            assert!(there >= acknowledged, "{role}: {there} of {acknowledged} acknowledged after kill {run}");
            acknowledged_in_all += acknowledged;
            more += there - acknowledged;
        }
        println!(
            "{role}: killed {times} times, nothing of {acknowledged_in_all} acknowledged lost, {more} more were there"
        );
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    kills(20);
}

#[test]
#[ignore = "minutes"]
fn nothing_acknowledged_is_lost_in_two_hundred_kills() {
    kills(200);
}

// THREADS

const IDS: usize = 3_000;

/// When an id was last deleted and last began to be added, by a clock that all threads advance.
#[derive(Default)]
struct Life {
    deleted: AtomicU64,
    added: AtomicU64,
}

/// An index that many threads share.
trait Many: Sync {
    fn find(&self, query: &[f32], k: usize) -> Vec<Hit>;
    fn put(&self, ids: &[u64], vectors: &Matrix);
    fn take(&self, ids: &[u64]) -> usize;
    fn all(&self) -> usize;
    fn holds(&self, id: u64) -> bool;
    /// What must go on beside everything else, now and then.
    fn tend(&self) {}
}

impl<I: VectorIndex> Many for Shared<I> {
    fn find(&self, query: &[f32], k: usize) -> Vec<Hit> {
        self.search(query, k).unwrap()
    }

    fn put(&self, ids: &[u64], vectors: &Matrix) {
        self.upsert(ids, vectors).unwrap();
    }

    fn take(&self, ids: &[u64]) -> usize {
        self.remove(ids).unwrap()
    }

    fn all(&self) -> usize {
        self.read().len()
    }

    fn holds(&self, id: u64) -> bool {
        self.read().contains(id)
    }
}

impl Many for AnnService {
    fn find(&self, query: &[f32], k: usize) -> Vec<Hit> {
        self.search(query, k).unwrap()
    }

    fn put(&self, ids: &[u64], vectors: &Matrix) {
        self.add(ids, vectors).unwrap();
    }

    fn take(&self, ids: &[u64]) -> usize {
        self.remove(ids).unwrap()
    }

    fn all(&self) -> usize {
        self.stats().live
    }

    fn holds(&self, id: u64) -> bool {
        self.contains(id)
    }

    fn tend(&self) {
        self.rebuild().unwrap();
    }
}

fn stress(name: &str, index: &dyn Many, metric: Metric, time: Duration) {
    let lives: Vec<Life> = (0..IDS).map(|_| Life::default()).collect();
    let clock = AtomicU64::new(1);
    let tick = || clock.fetch_add(1, Ordering::SeqCst);
    let end = Instant::now() + time;
    let (changes, searches) = (AtomicU64::new(0), AtomicU64::new(0));
    let live: Vec<BTreeMap<u64, u64>> = std::thread::scope(|scope| {
        // Four threads change ids of their own, four search.
        for seed in 0..4 {
            let (lives, searches) = (&lives, &searches);
            scope.spawn(move || {
                let mut rng = SplitMix64::new(100 + seed);
                while Instant::now() < end {
                    let begun = tick();
                    let hits = index.find(&vector(rng.below(IDS) as u64, rng.below(3) as u64), 10);
                    assert!(hits.windows(2).all(|pair| metric.best_first(&pair[0], &pair[1]).is_lt()), "{name}");
                    for hit in hits {
                        let life = &lives[hit.id as usize];
                        let deleted = life.deleted.load(Ordering::SeqCst);
                        let added = life.added.load(Ordering::SeqCst);
                        assert!(added > deleted || deleted >= begun, "id {} was deleted before the search", hit.id);
                    }
                    searches.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let changers: Vec<_> = (0..4u64)
            .map(|seed| {
                let (lives, changes) = (&lives, &changes);
                scope.spawn(move || {
                    let mut rng = SplitMix64::new(seed);
                    let mut mine: BTreeMap<u64, u64> = BTreeMap::new(); // id, generation
                    while Instant::now() < end {
                        let ids: Vec<u64> = (0..=rng.below(4)).map(|_| 4 * rng.below(IDS / 4) as u64 + seed).collect();
                        if rng.chance(0.45) {
                            let there = ids.iter().collect::<std::collections::BTreeSet<_>>();
                            let there = there.into_iter().filter(|id| mine.contains_key(id)).count();
                            assert_eq!(index.take(&ids), there, "{name}");
                            for id in ids {
                                mine.remove(&id);
                                lives[id as usize].deleted.store(tick(), Ordering::SeqCst);
                            }
                        } else {
                            let generation = rng.below(3) as u64;
                            for &id in &ids {
                                lives[id as usize].added.store(tick(), Ordering::SeqCst);
                            }
                            index.put(&ids, &matrix(&ids, generation));
                            mine.extend(ids.into_iter().map(|id| (id, generation)));
                        }
                        if changes.fetch_add(1, Ordering::Relaxed).is_multiple_of(2_000) {
                            index.tend();
                        }
                    }
                    mine
                })
            })
            .collect();
        changers.into_iter().map(|changer| changer.join().unwrap()).collect()
    });
    let live: BTreeMap<u64, u64> = live.into_iter().flatten().collect();
    assert_eq!(index.all(), live.len(), "{name}");
    let mut truth = flat(metric);
    for (&id, &generation) in &live {
        assert!(index.holds(id), "{name}");
        truth.add(&[id], &matrix(&[id], generation)).unwrap();
    }
    let queries = matrix(&(0..200).collect::<Vec<_>>(), 77);
    let exact = truth.search_batch(&queries, 10).unwrap();
    let found: Vec<Vec<Hit>> = queries.iter_rows().map(|query| index.find(query, 10)).collect();
    let share = recall(&found, &exact);
    println!(
        "{name}: 8 threads for {time:?}: {} changes, {} searches, {} ids at the end, recall {share:.3}",
        changes.into_inner(),
        searches.into_inner(),
        live.len()
    );
    assert!(share >= 0.9, "{name}: recall {share} after the stress");
    // And nothing but what lives is found, after one more change too.
    index.take(&live.keys().copied().take(live.len() / 2).collect::<Vec<_>>());
    let hits = index.find(&vector(0, 0), 50);
    assert!(hits.iter().all(|hit| index.holds(hit.id)), "{name}");
}

fn stress_all(time: Duration) {
    let l2 = Metric::SquaredL2;
    stress("flat", &Shared::new(flat(l2)), l2, time);
    stress("flat f16", &Shared::new(compact(l2, Storage::F16)), l2, time);
    stress("flat int8", &Shared::new(compact(l2, Storage::Int8)), l2, time);
    stress("hnsw", &Shared::new(hnsw(l2)), l2, time);
    stress("quantized graph", &Shared::new(graph(l2)), l2, time);
    stress("sharded flat", &Shared::new(sharded(l2, IndexKind::Flat)), l2, time);
    stress("sharded hnsw", &Shared::new(sharded(l2, IndexKind::Hnsw(SMALL))), l2, time);
    stress("ivf", &Shared::new(ivf(l2)), l2, time);
    stress("ivf-pq", &Shared::new(ivf_pq(l2)), l2, time);
    stress("lsh", &Shared::new(lsh(l2)), l2, time);
    stress("tree", &Shared::new(tree(l2)), l2, time);
    let service = AnnService::new(DIM, |_| Ok(boxed(hnsw(Metric::Cosine)))).unwrap();
    stress("service", &service, Metric::Cosine, time);
}

#[test]
fn eight_threads_add_delete_and_search() {
    stress_all(Duration::from_millis(400));
}

#[test]
#[ignore = "a minute for each kind"]
fn eight_threads_add_delete_and_search_for_a_minute() {
    stress_all(Duration::from_mins(1));
}

// DELETES AND UPDATES

/// Random additions, deletions and updates, saved and opened again in between: what a search finds is what a table says.
fn churn(kind: &Kind) {
    let (name, mut index) = (kind.name, (kind.fresh)(Metric::SquaredL2));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index");
    let mut rng = SplitMix64::new(21);
    let mut table: BTreeMap<u64, u64> = BTreeMap::new();
    for step in 0..60 {
        let ids: Vec<u64> =
            (0..20).map(|_| rng.below(400) as u64).collect::<std::collections::BTreeSet<_>>().into_iter().collect();
        if rng.chance(0.4) {
            let there = ids.iter().filter(|id| table.remove(id).is_some()).count();
            assert_eq!(index.remove(&ids).unwrap(), there, "{name}");
        } else {
            let generation = rng.below(5) as u64;
            let replaced = index.upsert(&ids, &matrix(&ids, generation)).unwrap();
            assert_eq!(replaced, ids.iter().filter(|&&id| table.insert(id, generation).is_some()).count(), "{name}");
        }
        if step % 7 == 6 {
            index.save(&path).unwrap();
            index = (kind.load)(&path).unwrap();
        }
        assert_eq!(index.len(), table.len(), "{name}");
        assert!((0..400).all(|id| index.contains(id) == table.contains_key(&id)), "{name}");
        let mut truth = flat(Metric::SquaredL2);
        for (&id, &generation) in &table {
            truth.add(&[id], &matrix(&[id], generation)).unwrap();
        }
        let queries = matrix(&(0..10).collect::<Vec<_>>(), 50 + step);
        let found = index.search_batch(&queries, 5).unwrap();
        let exact = truth.search_batch(&queries, 5).unwrap();
        assert!(found.iter().flatten().all(|hit| table.contains_key(&hit.id)), "{name} returns a deleted id");
        assert!(found.iter().zip(&exact).all(|(a, b)| a.len() == b.len()), "{name} comes back short");
        assert!(recall(&found, &exact) >= 0.9, "{name}, step {step}: recall {}", recall(&found, &exact));
        // An updated vector is found where it is now.
        if let Some((&id, &generation)) = table.iter().nth(rng.below(table.len().max(1))) {
            assert_eq!(index.search(&vector(id, generation), 1).unwrap()[0].id, id, "{name}");
        }
    }
}

/// The kinds that can be changed.
fn changeable() -> impl Iterator<Item = &'static Kind> {
    const ALL: &[Kind] = &KINDS;
    ALL.iter().filter(|kind| kind.name != "mapped hnsw")
}

#[test]
fn deletes_and_updates_hold_in_every_kind_also_after_loading() {
    changeable().for_each(churn);
}

/// Share of the live ids that are among the 10 nearest to their own vector.
fn found_by_themselves(index: &dyn VectorIndex, live: &BTreeMap<u64, u64>) -> usize {
    let among = |(&id, &generation): (&u64, &u64)| {
        index.search(&vector(id, generation), 10).unwrap().iter().any(|hit| hit.id == id)
    };
    live.iter().filter(|&pair| among(pair)).count()
}

/// 4,000 vectors, half of them deleted, 30 % of the others replaced: every live one is found by a query with itself, before and after
/// saving, and as many of the true neighbours as in an index that was built of the live ones alone.
#[test]
fn a_changed_index_is_as_good_as_a_fresh_one() {
    for kind in changeable() {
        for metric in [Metric::SquaredL2, Metric::Cosine] {
            let mut index = kind.filled(metric, &(0..4_000).collect::<Vec<_>>());
            let mut rng = SplitMix64::new(3);
            let mut order: Vec<u64> = (0..4_000).collect();
            rng.shuffle(&mut order);
            let (gone, left) = order.split_at(2_000);
            let moved = &left[..600];
            // In calls of different sizes, as such changes come.
            for ids in gone.chunks(400).chain([&[][..]]) {
                assert_eq!(index.remove(ids).unwrap(), ids.len());
            }
            for ids in moved[..200].chunks(1).chain(moved[200..].chunks(50)) {
                assert_eq!(index.upsert(ids, &matrix(ids, 1)).unwrap(), ids.len());
            }
            let live: BTreeMap<u64, u64> = left.iter().map(|&id| (id, u64::from(moved.contains(&id)))).collect();
            let (ids, rows): (Vec<u64>, Vec<Vec<f32>>) =
                live.iter().map(|(&id, &generation)| (id, vector(id, generation))).unzip();
            let rows = Matrix::from_rows(&rows).unwrap();
            let (mut fresh, mut truth) = ((kind.fresh)(metric), flat(metric));
            fresh.add(&ids, &rows).unwrap();
            truth.add(&ids, &rows).unwrap();

            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("index");
            (kind.store)(index.as_ref(), &path).unwrap();
            let loaded = (kind.load)(&path).unwrap();
            let there = [index.as_ref(), loaded.as_ref()].map(|index| found_by_themselves(index, &live));
            let queries = matrix(&(0..300).collect::<Vec<_>>(), 9);
            let exact = truth.search_batch(&queries, 10).unwrap();
            let found = index.search_batch(&queries, 10).unwrap();
            assert_eq!(loaded.search_batch(&queries, 10).unwrap(), found, "{}", kind.name);
            assert!(found.iter().flatten().all(|hit| live.contains_key(&hit.id)), "{}", kind.name);
            let changed = recall(&found, &exact);
            let built = recall(&fresh.search_batch(&queries, 10).unwrap(), &exact);
            println!(
                "{} {metric:?}: {there:?} of {} found by themselves; recall {changed:.4}, built anew {built:.4}",
                kind.name,
                live.len()
            );
            assert_eq!(there, [live.len(); 2], "{} {metric:?}", kind.name);
            assert!(changed >= built - 0.01, "{} {metric:?}: {changed} {built}", kind.name);
        }
    }
}

// PROPERTIES

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_kind_returns_live_ids_once_and_in_order_and_the_same_however_it_is_asked(
        n in 1usize..160, k in 0usize..200, seed in any::<u64>(), which in 0usize..3, one_in in 1u64..30,
    ) {
        let metric = [Metric::SquaredL2, Metric::Cosine, Metric::Dot][which];
        let mut rng = SplitMix64::new(seed);
        let ids: Vec<u64> = (0..n as u64).map(|i| i * 7 + rng.below(7) as u64).collect();
        let gone: Vec<u64> = ids.iter().copied().filter(|_| rng.chance(0.3)).collect();
        let live: Vec<u64> = ids.iter().copied().filter(|id| !gone.contains(id)).collect();
        let queries = matrix(&[1, 2, 3], seed ^ 1);
        let mut truth = flat(metric);
        truth.add(&live, &matrix(&live, 0)).unwrap();
        let exact = truth.search_batch(&queries, k).unwrap();
        for kind in &KINDS {
            let mut index = kind.filled(metric, &ids);
            prop_assert_eq!(index.remove(&gone).unwrap(), gone.len());
            let dir = tempfile::tempdir().unwrap();
            (kind.store)(index.as_ref(), &dir.path().join("index")).unwrap();
            let loaded = (kind.load)(&dir.path().join("index")).unwrap();
            prop_assert_eq!((loaded.len(), loaded.dim(), loaded.metric()), (live.len(), DIM, metric));
            let batch = index.search_batch(&queries, k).unwrap();
            prop_assert_eq!(&loaded.search_batch(&queries, k).unwrap(), &batch, "{}", kind.name);
            for ((query, hits), exact) in queries.iter_rows().zip(&batch).zip(&exact) {
                prop_assert_eq!(&index.search(query, k).unwrap(), hits, "{}", kind.name);
                prop_assert_eq!(&loaded.search(query, k).unwrap(), hits, "{}", kind.name);
                prop_assert_eq!(hits.len(), k.min(live.len()), "{}", kind.name);
                prop_assert!(hits.iter().all(|hit| live.contains(&hit.id)), "{}", kind.name);
                // Strictly in order, so that no id stands twice.
                prop_assert!(hits.windows(2).all(|p| metric.best_first(&p[0], &p[1]).is_lt()), "{}", kind.name);
                if kind.name == "flat" || kind.name == "sharded flat" {
                    prop_assert_eq!(hits, exact, "{}", kind.name);
                }
                let keep = |id: u64| id.is_multiple_of(one_in);
                let some = index.search_where(query, k, &keep).unwrap();
                prop_assert_eq!(some.len(), live.iter().filter(|&&id| keep(id)).count().min(k), "{}", kind.name);
                prop_assert!(some.iter().all(|hit| keep(hit.id) && live.contains(&hit.id)), "{}", kind.name);
            }
        }
    }
}

#[test]
fn every_kind_is_the_same_whatever_the_number_of_threads() {
    let ids: Vec<u64> = (0..1_500).collect();
    let queries = matrix(&(0..100).collect::<Vec<_>>(), 9);
    for kind in &KINDS {
        let [one, four] = [1, 4].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| kind.filled(Metric::SquaredL2, &ids).search_batch(&queries, 10).unwrap())
        });
        assert_eq!(one, four, "{}", kind.name);
        let exact = {
            let mut truth = flat(Metric::SquaredL2);
            truth.add(&ids, &matrix(&ids, 0)).unwrap();
            truth.search_batch(&queries, 10).unwrap()
        };
        let share = recall(&one, &exact);
        let floor = if kind.name.contains("int8") { 0.93 } else { 0.95 };
        assert!(share >= floor, "{}: recall {share}", kind.name);
    }
}
