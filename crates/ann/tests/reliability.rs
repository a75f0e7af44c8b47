//! Damaged files, killed processes, many threads: what every index and file of the crate has to stand.
//!
//! The default run is short. The long one, of minutes: `cargo test -p eas-ann --test reliability -- --ignored`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use eas_ann::versioned::Shared;
use eas_ann::wal::Wal;
use eas_ann::{
    AnnError, Dtype, FlatIndex, Hit, Hnsw, HnswConfig, IndexKind, IvfConfig, IvfIndex, IvfPq, IvfPqConfig, KMeansTree,
    Lsh, LshConfig, MappedHnsw, Metric, Selection, ShardedIndex, TreeConfig, VectorFile, VectorIndex, recall,
};
use eas_tensor::Matrix;
use eas_tensor::rng::SplitMix64;

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

type Load = fn(&Path) -> Result<Box<dyn VectorIndex>, AnnError>;
type Save = fn(&Path, &[u64]);

/// A kind of index that can be saved: how, and how it is opened again.
struct Kind {
    name: &'static str,
    save: Save,
    load: Load,
}

fn boxed<I: VectorIndex + 'static>(index: I) -> Box<dyn VectorIndex> {
    Box::new(index)
}

fn filled<I: VectorIndex>(mut index: I, ids: &[u64]) -> I {
    index.add(ids, &matrix(ids, 0)).unwrap();
    index
}

fn flat() -> FlatIndex {
    FlatIndex::new(DIM, Metric::SquaredL2).unwrap()
}

fn hnsw() -> Hnsw {
    Hnsw::new(DIM, Metric::SquaredL2, SMALL).unwrap()
}

fn sharded(inner: IndexKind) -> ShardedIndex {
    ShardedIndex::builder().shards(3).replicas(1).inner(inner).build(DIM, Metric::SquaredL2).unwrap()
}

fn ivf_config() -> IvfConfig {
    IvfConfig { lists: 8, nprobe: 8, max_iter: 5, ..IvfConfig::default() }
}

/// What indexes that need to are trained on.
fn sample() -> Matrix {
    matrix(&(0..64).collect::<Vec<_>>(), 3)
}

fn ivf() -> IvfIndex {
    IvfIndex::train(&sample(), Metric::SquaredL2, ivf_config()).unwrap()
}

fn ivf_pq() -> IvfPq {
    let config =
        IvfPqConfig { ivf: ivf_config(), subspaces: 4, bits: 4, rerank: 100, iterations: 5, ..IvfPqConfig::default() };
    IvfPq::train(&sample(), Metric::SquaredL2, config).unwrap()
}

fn lsh() -> Lsh {
    let config = LshConfig { tables: 16, bits: 3, seed: 1 };
    Lsh::new(DIM, Metric::SquaredL2, config).unwrap()
}

fn tree() -> KMeansTree {
    let config = TreeConfig { branching: 4, levels: 2, beam: 16, ..TreeConfig::default() };
    KMeansTree::train(&sample(), Metric::SquaredL2, config).unwrap()
}

const KINDS: [Kind; 9] = [
    Kind {
        name: "flat",
        save: |path, ids| filled(flat(), ids).save(path).unwrap(),
        load: |path| FlatIndex::load(path).map(boxed),
    },
    Kind {
        name: "hnsw",
        save: |path, ids| filled(hnsw(), ids).save(path).unwrap(),
        load: |path| Hnsw::load(path).map(boxed),
    },
    Kind {
        name: "mapped hnsw",
        save: |path, ids| MappedHnsw::write(&filled(hnsw(), ids), path).unwrap(),
        load: |path| MappedHnsw::load(path).map(boxed),
    },
    Kind {
        name: "sharded flat",
        save: |path, ids| filled(sharded(IndexKind::Flat), ids).save(path).unwrap(),
        load: |path| ShardedIndex::load(path).map(boxed),
    },
    Kind {
        name: "sharded hnsw",
        save: |path, ids| filled(sharded(IndexKind::Hnsw(SMALL)), ids).save(path).unwrap(),
        load: |path| ShardedIndex::load(path).map(boxed),
    },
    Kind {
        name: "ivf",
        save: |path, ids| filled(ivf(), ids).save(path).unwrap(),
        load: |path| IvfIndex::load(path).map(boxed),
    },
    Kind {
        name: "ivf-pq",
        save: |path, ids| filled(ivf_pq(), ids).save(path).unwrap(),
        load: |path| IvfPq::load(path).map(boxed),
    },
    Kind {
        name: "lsh",
        save: |path, ids| filled(lsh(), ids).save(path).unwrap(),
        load: |path| Lsh::load(path).map(boxed),
    },
    Kind {
        name: "tree",
        save: |path, ids| filled(tree(), ids).save(path).unwrap(),
        load: |path| KMeansTree::load(path).map(boxed),
    },
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
        (kind.save)(&path, &(0..200).collect::<Vec<_>>());
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
        println!("{}: {tried} damaged files, {caught} refused, the others answered as before", kind.name);
        assert!(caught > tried / 2);
    }
}

#[test]
fn a_damaged_index_is_refused_or_answers_correctly() {
    damage(300, 150);
}

#[test]
#[ignore = "minutes"]
fn ten_thousand_flipped_bytes_and_a_thousand_cuts_of_every_kind() {
    damage(10_000, 1_000);
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

/// Every number of the beginning of a file, and some behind, becomes absurd under a good checksum: an error or any answer, and neither a panic nor an allocation that
/// the machine couldn't serve.
#[test]
fn absurd_numbers_under_good_checksums_do_no_harm() {
    for kind in &KINDS {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index");
        (kind.save)(&path, &(0..60).collect::<Vec<_>>());
        for file in files(&path) {
            let bytes = std::fs::read(&file).unwrap();
            let mut rng = SplitMix64::new(5);
            let places: Vec<usize> = if bytes.starts_with(b"EASPAGE1") {
                (8..360).step_by(4).chain((4096..4200).step_by(4)).collect()
            } else {
                (24..120.min(bytes.len())).step_by(4).collect()
            };
            let random: Vec<usize> = (0..10).map(|_| 24 + rng.below(bytes.len() - 24)).collect();
            for at in places.into_iter().chain(random) {
                for number in [1u64 << 60, u64::MAX, 1 << 31, 0] {
                    let mut damaged = bytes.clone();
                    let width = 8.min(bytes.len() - at);
                    damaged[at..at + width].copy_from_slice(&number.to_le_bytes()[..width]);
                    reseal(&mut damaged);
                    let beside = dir.path().join("damaged");
                    std::fs::write(&beside, &damaged).unwrap();
                    std::fs::rename(&beside, &file).unwrap();
                    if let Ok(index) = (kind.load)(&path) {
                        let _ = index.contains(3);
                        let query = vec![0.5; index.dim().min(1 << 16)];
                        let _ = index.search(&query, 5);
                        let _ = index.search_where(&query, 5, &|id| id % 2 == 0);
                    }
                }
            }
            std::fs::write(&file, &bytes).unwrap();
        }
    }
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
        kind => {
            let kind = KINDS.iter().find(|own| own.name == kind).unwrap();
            let path = folder.join("index");
            let mut generation = (kind.load)(&path).map_or(0, |index| index.len() as u64);
            loop {
                // Generation g holds the ids 0 to g - 1.
                generation += 1;
                (kind.save)(&path, &(0..generation).collect::<Vec<_>>());
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
    let roles = ["vectors", "wal"].into_iter().chain(KINDS.iter().map(|kind| kind.name));
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

fn stress(time: Duration) {
    let index = Shared::new(hnsw());
    let lives: Vec<Life> = (0..IDS).map(|_| Life::default()).collect();
    let clock = AtomicU64::new(1);
    let tick = || clock.fetch_add(1, Ordering::SeqCst);
    let end = Instant::now() + time;
    let (changes, searches) = (AtomicU64::new(0), AtomicU64::new(0));
    let live: Vec<BTreeMap<u64, u64>> = std::thread::scope(|scope| {
        // Four threads change ids of their own, four search.
        for seed in 0..4 {
            let (index, lives, searches) = (&index, &lives, &searches);
            scope.spawn(move || {
                let mut rng = SplitMix64::new(100 + seed);
                while Instant::now() < end {
                    let begun = tick();
                    let hits = index.search(&vector(rng.below(IDS) as u64, rng.below(3) as u64), 10).unwrap();
                    assert!(hits.windows(2).all(|pair| pair[0].score <= pair[1].score));
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
                let (index, lives, changes) = (&index, &lives, &changes);
                scope.spawn(move || {
                    let mut rng = SplitMix64::new(seed);
                    let mut mine: BTreeMap<u64, u64> = BTreeMap::new(); // id, generation
                    while Instant::now() < end {
                        let ids: Vec<u64> = (0..=rng.below(4)).map(|_| 4 * rng.below(IDS / 4) as u64 + seed).collect();
                        if rng.chance(0.45) {
                            let there = ids.iter().collect::<std::collections::BTreeSet<_>>();
                            let there = there.into_iter().filter(|id| mine.contains_key(id)).count();
                            assert_eq!(index.remove(&ids).unwrap(), there);
                            for id in ids {
                                mine.remove(&id);
                                lives[id as usize].deleted.store(tick(), Ordering::SeqCst);
                            }
                        } else {
                            let generation = rng.below(3) as u64;
                            for &id in &ids {
                                lives[id as usize].added.store(tick(), Ordering::SeqCst);
                            }
                            index.upsert(&ids, &matrix(&ids, generation)).unwrap();
                            mine.extend(ids.into_iter().map(|id| (id, generation)));
                        }
                        changes.fetch_add(1, Ordering::Relaxed);
                    }
                    mine
                })
            })
            .collect();
        changers.into_iter().map(|changer| changer.join().unwrap()).collect()
    });
    let mut index = index.into_inner();
    let live: BTreeMap<u64, u64> = live.into_iter().flatten().collect();
    assert_eq!(index.len(), live.len());
    let mut truth = flat();
    for (&id, &generation) in &live {
        assert!(index.contains(id));
        truth.add(&[id], &matrix(&[id], generation)).unwrap();
    }
    let queries = matrix(&(0..200).collect::<Vec<_>>(), 77);
    let exact = truth.search_batch(&queries, 10).unwrap();
    let share = recall(&index.search_batch(&queries, 10).unwrap(), &exact);
    println!(
        "8 threads for {time:?}: {} changes, {} searches, {} ids at the end, recall {share:.3}",
        changes.into_inner(),
        searches.into_inner(),
        live.len()
    );
    assert!(share >= 0.9, "recall {share} after the stress");
    // And nothing but what lives is found, after one more change too.
    index.remove(&live.keys().copied().take(live.len() / 2).collect::<Vec<_>>()).unwrap();
    let hits = index.search(&vector(0, 0), 50).unwrap();
    assert!(hits.iter().all(|hit| index.contains(hit.id)));
}

#[test]
fn eight_threads_add_delete_and_search() {
    stress(Duration::from_millis(1_500));
}

#[test]
#[ignore = "a minute"]
fn eight_threads_add_delete_and_search_for_a_minute() {
    stress(Duration::from_mins(1));
}

// DELETES AND UPDATES

/// Random additions, deletions and updates, saved and opened again in between: what a search finds is what a table says.
fn churn<I: VectorIndex>(name: &str, mut index: I, load: fn(&Path) -> Result<I, AnnError>) {
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
            index = load(&path).unwrap();
        }
        assert_eq!(index.len(), table.len(), "{name}");
        assert!((0..400).all(|id| index.contains(id) == table.contains_key(&id)), "{name}");
        let mut truth = flat();
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

#[test]
fn deletes_and_updates_hold_in_every_kind_also_after_loading() {
    churn("flat", flat(), FlatIndex::load);
    churn("hnsw", hnsw(), Hnsw::load);
    churn("ivf", ivf(), IvfIndex::load);
    churn("ivf-pq", ivf_pq(), IvfPq::load);
    churn("lsh", lsh(), Lsh::load);
    churn("tree", tree(), KMeansTree::load);
    churn("sharded flat", sharded(IndexKind::Flat), ShardedIndex::load);
    churn("sharded hnsw", sharded(IndexKind::Hnsw(SMALL)), ShardedIndex::load);
}
