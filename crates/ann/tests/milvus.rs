//! The Milvus backend against the flat index, on a real server.
//!
//! scripts/milvus.sh start && cargo test -p eas-ann --features milvus --test milvus
//!
//! Without a server each test says so and is left out, unless `EAS_MILVUS_REQUIRED` is set.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use eas_ann::milvus::{Consistency, MilvusConfig, MilvusIndex, MilvusKind};
use eas_ann::{AnnError, FlatIndex, Hit, Metric, VectorIndex, recall};
use eas_tensor::Matrix;
use eas_tensor::rng::SplitMix64;

/// Held for writing by the test that stops the server.
static SERVER: RwLock<()> = RwLock::new(());

fn script(command: &str) -> Result<(), String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../scripts/milvus.sh");
    let output = Command::new(path).arg(command).output().map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

fn there() -> bool {
    let there = script("status").is_ok();
    assert!(there || std::env::var_os("EAS_MILVUS_REQUIRED").is_none(), "no Milvus server: scripts/milvus.sh start");
    if !there {
        eprintln!("left out: no Milvus server (scripts/milvus.sh start)");
    }
    there
}

fn server() -> Option<RwLockReadGuard<'static, ()>> {
    let guard = SERVER.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    there().then_some(guard)
}

fn url() -> String {
    let port = std::env::var("EAS_MILVUS_PORT").unwrap_or_else(|_| "19530".into());
    format!("http://127.0.0.1:{port}")
}

fn config(collection: &str) -> MilvusConfig {
    MilvusConfig {
        url: url(),
        collection: format!("eas_test_{}_{collection}", std::process::id()),
        patience: Duration::from_mins(1),
        ..MilvusConfig::default()
    }
}

fn cloud(rows: usize, dim: usize, seed: u64) -> Matrix {
    let mut rng = SplitMix64::new(seed);
    Matrix::from_vec(rows, dim, (0..rows * dim).map(|_| rng.normal() as f32).collect()).expect("shape")
}

fn ids(hits: &[Hit]) -> Vec<u64> {
    hits.iter().map(|hit| hit.id).collect()
}

fn same(found: &[Hit], exact: &[Hit]) {
    assert_eq!(ids(found), ids(exact));
    for (found, exact) in found.iter().zip(exact) {
        assert!((found.score - exact.score).abs() <= 1e-4 * exact.score.abs().max(1.0), "{found:?} {exact:?}");
    }
}

#[test]
fn it_answers_as_the_flat_index_does() {
    let Some(_guard) = server() else { return };
    let (vectors, queries) = (cloud(300, 12, 1), cloud(6, 12, 2));
    let keys: Vec<u64> = (0..300).map(|i| 7 * i).collect();
    for metric in [Metric::Dot, Metric::Cosine, Metric::SquaredL2] {
        let mut flat = FlatIndex::new(12, metric).expect("flat");
        let config = MilvusConfig { kind: MilvusKind::Flat, shards: 2, ..config(&format!("flat_{metric:?}")) };
        let mut served = MilvusIndex::create(12, metric, config).expect("created");
        assert!(served.is_empty() && served.search(queries.row(0), 3).expect("empty").is_empty());
        assert_eq!(served.shards().expect("shards"), 2);
        flat.add(&keys, &vectors).expect("added");
        served.add(&keys, &vectors).expect("added");
        assert_eq!((served.len(), served.contains(7), served.contains(8)), (300, true, false));
        let batch = served.search_batch(&queries, 10).expect("batch");
        for (query, batch) in queries.iter_rows().zip(&batch) {
            let exact = flat.search(query, 10).expect("exact");
            same(batch, &exact);
            same(&served.search(query, 10).expect("found"), &exact);
            assert!(served.search(query, 0).expect("none").is_empty());
            assert_eq!(served.search(query, 1_000).expect("all").len(), 300);
            // A common filter, a rare one that needs the list of ids, one that nothing passes.
            for divisor in [2, 150, 5_000] {
                let keep = |id: u64| id % divisor == 1;
                let exact = flat.search_where(query, 5, &keep).expect("exact");
                same(&served.search_where(query, 5, &keep).expect("found"), &exact);
                let expression = format!("id % {divisor} == 1");
                same(&served.search_filtered(query, 5, &expression).expect("found"), &exact);
            }
        }
        // The row of 14 stands twice: the last wins. 3 is new.
        let changed = cloud(4, 12, 3);
        assert_eq!(flat.upsert(&[14, 3, 14, 21], &changed).expect("changed"), 2);
        assert_eq!(served.upsert(&[14, 3, 14, 21], &changed).expect("changed"), 2);
        assert_eq!(flat.remove(&[0, 1, 28]).expect("removed"), 2);
        assert_eq!(served.remove(&[0, 1, 28]).expect("removed"), 2);
        assert_eq!((served.len(), flat.len()), (299, 299));
        for query in queries.iter_rows() {
            same(&served.search(query, 20).expect("found"), &flat.search(query, 20).expect("exact"));
        }
        served.drop_collection().expect("dropped");
    }
}

#[test]
fn bad_input_is_refused_and_changes_nothing() {
    let Some(_guard) = server() else { return };
    let mut served = MilvusIndex::create(3, Metric::Dot, config("bad")).expect("created");
    served.add(&[1], &cloud(1, 3, 1)).expect("added");
    let two = cloud(2, 3, 2);
    let mut holes = two.clone();
    holes.row_mut(1)[2] = f32::NAN;
    assert!(matches!(served.add(&[2, 3], &holes), Err(AnnError::NotFinite { row: 1, column: 2, .. })));
    assert!(matches!(served.add(&[2, 1], &two), Err(AnnError::DuplicateId(1))));
    assert!(matches!(served.add(&[2, 2], &two), Err(AnnError::DuplicateId(2))));
    assert!(matches!(served.add(&[2], &two), Err(AnnError::Ids { ids: 1, rows: 2 })));
    assert!(matches!(served.add(&[2, 3], &cloud(2, 4, 2)), Err(AnnError::Dimension { expected: 3, got: 4 })));
    assert!(matches!(served.upsert(&[2, u64::MAX], &two), Err(AnnError::Parameter { name: "id", .. })));
    assert!(matches!(served.search(&[0.0; 2], 1), Err(AnnError::Dimension { .. })));
    let refused = served.search_filtered(&[0.0; 3], 1, "colour == 7").expect_err("no such field").to_string();
    assert!(refused.contains("colour") && refused.contains("refused"), "{refused}");
    assert_eq!((served.len(), served.contains(u64::MAX)), (1, false));
    let taken = MilvusIndex::create(3, Metric::Dot, served.config().clone()).expect_err("taken").to_string();
    assert!(taken.contains("exists already") && taken.contains("eas_test"), "{taken}");
    for wrong in [
        MilvusConfig { shards: 0, ..config("wrong") },
        MilvusConfig { ef: 0, ..config("wrong") },
        MilvusConfig { kind: MilvusKind::Hnsw { m: 1, ef_construction: 10 }, ..config("wrong") },
    ] {
        assert!(matches!(MilvusIndex::create(3, Metric::Dot, wrong), Err(AnnError::Parameter { .. })));
    }
    assert!(matches!(MilvusIndex::create(0, Metric::Dot, config("wrong")), Err(AnnError::Parameter { .. })));
    let absent = MilvusIndex::open(config("absent")).expect_err("absent").to_string();
    assert!(absent.contains("no such collection"), "{absent}");
    served.drop_collection().expect("dropped");
}

#[test]
fn the_graph_of_a_sealed_segment_finds_nearly_all() {
    let Some(_guard) = server() else { return };
    let (vectors, queries) = (cloud(3_000, 16, 4), cloud(50, 16, 5));
    let keys: Vec<u64> = (0..3_000).collect();
    let mut flat = FlatIndex::new(16, Metric::SquaredL2).expect("flat");
    let mut served = MilvusIndex::create(16, Metric::SquaredL2, config("graph")).expect("created");
    flat.add(&keys, &vectors).expect("added");
    served.add(&keys, &vectors).expect("added");
    served.flush().expect("flushed");
    let exact = flat.search_batch(&queries, 10).expect("exact");
    for consistency in [Consistency::Strong, Consistency::Session] {
        served.set_consistency(consistency);
        let found = served.search_batch(&queries, 10).expect("found");
        assert!(recall(&found, &exact) >= 0.95, "{consistency:?}: {}", recall(&found, &exact));
    }
    served.drop_collection().expect("dropped");
}

#[test]
fn nothing_is_lost_when_the_server_restarts() {
    let _guard = SERVER.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    if !there() {
        return;
    }
    let folder = tempfile::tempdir().expect("folder");
    let (path, vectors, query) = (folder.path().join("way"), cloud(1_000, 16, 6), cloud(1, 16, 7));
    let keys: Vec<u64> = (0..1_000).collect();
    let mut served = MilvusIndex::create(16, Metric::Cosine, config("restart")).expect("created");
    served.add(&keys[..600], &vectors.select(&(0..600).collect::<Vec<_>>())).expect("added");
    served.save(&path).expect("saved");
    // Neither these nor the removals are flushed: they are in the server's log only.
    served.add(&keys[600..], &vectors.select(&(600..1_000).collect::<Vec<_>>())).expect("added");
    assert_eq!(served.remove(&[5, 700, 5_000]).expect("removed"), 2);
    let before = served.search(query.row(0), 50).expect("found");

    script("stop").expect("stopped");
    let mut impatient = served.config().clone();
    impatient.patience = Duration::from_secs(1);
    let started = Instant::now();
    let refused = MilvusIndex::open(impatient).expect_err("down").to_string();
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert!(refused.contains(&url()) && refused.contains("scripts/milvus.sh start"), "{refused}");
    script("start").expect("started");

    // The connection that was open before finds the server again.
    same(&served.search(query.row(0), 50).expect("found"), &before);
    assert_eq!(served.count().expect("counted"), 998);
    assert_eq!(served.present(&keys).expect("present").len(), 998);
    let again = MilvusIndex::load(&path).expect("loaded");
    assert_eq!((again.dim(), again.metric()), (16, Metric::Cosine));
    same(&again.search(query.row(0), 50).expect("found"), &before);
    assert!(!again.contains(5) && !again.contains(700) && again.contains(999));
    again.drop_collection().expect("dropped");
}

#[test]
fn a_server_that_is_not_there_is_named_soon() {
    let nowhere = MilvusConfig {
        url: "http://127.0.0.1:9".into(),
        patience: Duration::from_millis(500),
        ..MilvusConfig::default()
    };
    let started = Instant::now();
    let refused = MilvusIndex::create(4, Metric::Dot, nowhere.clone()).expect_err("down").to_string();
    assert!(refused.contains("http://127.0.0.1:9") && refused.contains("milvus.sh start"), "{refused}");
    assert!(started.elapsed() < Duration::from_secs(5));
    let malformed = MilvusConfig { url: "no address".into(), ..nowhere };
    assert!(MilvusIndex::open(malformed).is_err());
}
