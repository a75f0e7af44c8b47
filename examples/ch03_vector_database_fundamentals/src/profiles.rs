//! The profiles of listing 3.12: six indexes measured on the same vectors.

use crate::subjects::{code_config, graph_config};
use eas_ann::sharder::{Item, RoutedShards, Sharder};
use eas_ann::{AnnError, FlatIndex, Hit, Hnsw, HnswConfig, IvfPq, Metric, SearchStats, VectorIndex, recall};
use eas_eval::latency::nearest_rank;
use eas_plan::PlanError;
use eas_plan::index_choice::{IndexKind, LISTED, Profile, Requirement, recommend};
use eas_tensor::Matrix;
use eas_tensor::kmeans::KMeans;
use eas_tensor::quant::{Codec, Int8};
use eas_tensor::rng::SplitMix64;

const K: usize = 10;
const METRIC: Metric = Metric::SquaredL2;
/// Dimension and number of the vectors on a machine that latencies are stated for, however many are measured.
const DIM: f64 = 768.0;
const MACHINE_ROWS: f64 = 1e6;
/// Stated speeds: nanoseconds a value multiplied and a code byte looked up, milliseconds a vector read from disk and for the network.
const NS_A_VALUE: f64 = 0.25;
const NS_A_CODE_BYTE: f64 = 0.5;
const MS_A_READ: f64 = 0.1;
const MS_NETWORK: f64 = 10.0;

/// An index, measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// What it can do.
    pub profile: Profile,
    /// Bytes of memory a vector of those measured, codebooks and centres included.
    pub bytes: f64,
}

/// Centres found through a graph: inverted lists as shards that a query is routed to.
struct GraphRouted {
    centres: Hnsw,
    probes: usize,
}

impl Sharder for GraphRouted {
    fn shards(&self) -> usize {
        self.centres.len()
    }

    fn assign(&self, item: Item<'_>) -> Result<usize, AnnError> {
        Ok(self.centres.search(item.vector, 1)?.first().map_or(0, |hit| hit.id as usize))
    }

    fn route(&self, query: &[f32], _region: usize) -> Result<Vec<usize>, AnnError> {
        let nearest = self.centres.search(query, self.probes)?;
        Ok(nearest.iter().map(|hit| hit.id as usize).collect())
    }
}

/// Builds and measures flat, HNSW, HNSW over 8-bit vectors, IVF-PQ with and without re-ranking, and IVF whose centres are in a graph.
pub fn measure_profiles(vectors: &Matrix, queries: &Matrix) -> anyhow::Result<Vec<Measured>> {
    let (rows, dim) = (vectors.rows(), vectors.dim());
    let ids: Vec<u64> = (0..rows as u64).collect();
    let lists = (rows as f64).sqrt() as usize;
    let probes = lists / 4;
    let times = MACHINE_ROWS / rows as f64;
    let per_row = |bytes: usize| bytes as f64 / rows as f64;
    let mut flat = FlatIndex::new(dim, METRIC)?;
    flat.add(&ids, vectors)?;
    let exact = flat.search_batch(queries, K)?;
    let mut measured = vec![Measured {
        profile: Profile {
            kind: IndexKind::Flat,
            bytes_per_value: 4.0,
            bytes_per_vector: 8.0,
            recall_max: recall(&flat.search_batch(queries, K)?, &exact),
            p99_ms: MS_NETWORK + MACHINE_ROWS * DIM * NS_A_VALUE / 1e6,
            update_rate_max: 1e5,
        },
        bytes: per_row(flat.bytes()),
    }];

    let config = HnswConfig { ef: 200, ..graph_config() };
    // A graph's search grows with the logarithm of its rows.
    let growth = MACHINE_ROWS.ln() / (rows as f64).ln();
    let eight_bits = Int8::new(dim).reconstruct(vectors)?;
    for (kind, stored, bytes_per_value) in [(IndexKind::Hnsw, vectors, 4.0), (IndexKind::HnswSq8, &eight_bits, 1.0)] {
        let mut graph = Hnsw::new(dim, METRIC, config)?;
        graph.add(&ids, stored)?;
        let (mut found, mut evaluations) = (Vec::new(), Vec::new());
        for query in queries.iter_rows() {
            let (hits, cost) = graph.search_counted(query, K, config.ef, &|_| true)?;
            found.push(hits);
            evaluations.push(cost.distance_evaluations as f64);
        }
        let bytes = graph.bytes();
        let beside = per_row(bytes.links + bytes.bookkeeping) + if kind == IndexKind::Hnsw { 0.0 } else { 4.0 };
        let an_insert = graph.build_evaluations() as f64 / rows as f64 * growth * DIM * NS_A_VALUE;
        measured.push(Measured {
            profile: Profile {
                kind,
                bytes_per_value,
                bytes_per_vector: beside,
                recall_max: recall(&found, &exact),
                p99_ms: MS_NETWORK + p99(evaluations)? * growth * DIM * NS_A_VALUE / 1e6,
                update_rate_max: 1e9 / an_insert,
            },
            bytes: bytes_per_value * dim as f64 + beside,
        });
    }

    let codes = code_config(dim, lists, probes, 200);
    let mut coded = IvfPq::train(vectors, METRIC, codes)?;
    coded.add(&ids, vectors)?;
    let sizes = coded.bytes();
    let bytes = per_row(sizes.codes + sizes.codebooks + sizes.centres + sizes.ids);
    let an_insert = (lists + 256) as f64 * DIM * NS_A_VALUE;
    for (kind, rerank, reads) in [(IndexKind::IvfPq, 0, 0.0), (IndexKind::IvfPqRerank, 200, 200.0)] {
        coded.set_rerank(rerank)?;
        let (found, stats) = counted(queries, |query| coded.search_counted(query, K, None, &|_| true))?;
        let scanned = stats.iter().map(|stats| stats.codes_scanned as f64).collect();
        let ms = p99(scanned)? * times * (DIM / 8.0) * NS_A_CODE_BYTE / 1e6;
        measured.push(Measured {
            profile: Profile {
                kind,
                bytes_per_value: 0.125,
                bytes_per_vector: 8.0,
                recall_max: recall(&found, &exact),
                p99_ms: MS_NETWORK + ms + reads * MS_A_READ,
                update_rate_max: 1e9 / an_insert,
            },
            bytes,
        });
    }

    let clustering = KMeans { max_iter: 10, ..KMeans::new(lists) };
    let centroids = clustering.fit(vectors)?.centroids;
    let mut centres = Hnsw::new(dim, METRIC, config)?;
    centres.add(&ids[..lists], &centroids)?;
    let shards = RoutedShards::build(GraphRouted { centres, probes }, METRIC, &ids, vectors, &vec![0; rows])?;
    let (mut found, mut compared) = (Vec::new(), Vec::new());
    for query in queries.iter_rows() {
        let answer = shards.search(query, 0, K)?;
        compared.push(answer.compared as f64);
        found.push(answer.hits);
    }
    measured.push(Measured {
        profile: Profile {
            kind: IndexKind::IvfHnsw,
            bytes_per_value: 4.0,
            bytes_per_vector: 8.0,
            recall_max: recall(&found, &exact),
            p99_ms: MS_NETWORK + p99(compared)? * times * DIM * NS_A_VALUE / 1e6,
            update_rate_max: 1e9 / an_insert,
        },
        bytes: 4.0 * dim as f64 + 8.0 + per_row(4 * centroids.as_slice().len()),
    });
    Ok(measured)
}

type Counted = (Vec<Vec<Hit>>, Vec<SearchStats>);

fn counted(
    queries: &Matrix,
    search: impl Fn(&[f32]) -> Result<(Vec<Hit>, SearchStats), AnnError>,
) -> Result<Counted, AnnError> {
    queries.iter_rows().map(search).collect::<Result<Vec<_>, _>>().map(|all| all.into_iter().unzip())
}

/// 99th percentile by nearest rank.
fn p99(mut values: Vec<f64>) -> anyhow::Result<f64> {
    values.sort_by(f64::total_cmp);
    Ok(nearest_rank(&values, 0.99)?)
}

/// Twelve requirements, each with what sets it apart.
pub fn twelve_requirements() -> [(&'static str, Requirement); 12] {
    let need = |memory_gib, recall, p99_ms| Requirement { memory_gib, recall, p99_ms, ..LISTED };
    let million = |memory_gib, recall, p99_ms| Requirement { rows: 1e6, ..need(memory_gib, recall, p99_ms) };
    let updated = Requirement { update_rate: 1e4, ..LISTED };
    [
        ("100 billion, 50,000 GiB, as listed", LISTED),
        ("recall 0.99", need(5e4, 0.99, 80.0)),
        ("in 15 ms", need(5e4, 0.95, 15.0)),
        ("600,000 GiB", need(6e5, 0.95, 80.0)),
        ("200,000 GiB, recall 0.92", need(2e5, 0.92, 80.0)),
        ("200,000 GiB, recall 0.90", need(2e5, 0.90, 80.0)),
        ("5,000 GiB", need(5e3, 0.95, 80.0)),
        ("recall 0.60 in 25 ms", need(5e4, 0.60, 25.0)),
        ("a million, 4 GiB, in 12 ms", million(4.0, 0.95, 12.0)),
        ("a million, 4 GiB, recall 1", million(4.0, 1.0, 500.0)),
        ("a million, 2 GiB, in 12 ms", million(2.0, 0.95, 12.0)),
        ("10,000 updates a second", updated),
    ]
}

/// Where an index is the choice: points of memory in GiB and recall required.
pub type Area = (IndexKind, Vec<(f64, f64)>);

/// What to use, by memory (2,000 GiB to 2 million) and recall required (0.70 to 1), for the listed rows and latency.
pub fn decision_map(profiles: &[Profile]) -> Result<Vec<Area>, PlanError> {
    let mut map: Vec<Area> = profiles.iter().map(|p| (p.kind, Vec::new())).collect();
    for step in 0..40 {
        for recall in 0..=30 {
            let memory_gib = 2e3 * 10f64.powf(f64::from(step) / 13.0);
            let recall = 0.7 + f64::from(recall) / 100.0;
            let need = Requirement { memory_gib, recall, ..LISTED };
            if let Ok(choice) = recommend(&need, profiles)?
                && let Some(series) = map.iter_mut().find(|(kind, _)| *kind == choice.kind)
            {
                series.1.push((memory_gib, recall));
            }
        }
    }
    map.retain(|(_, points)| !points.is_empty());
    Ok(map)
}

/// What became of 10,000 random requirements: `None` for one that nothing meets; else whether the choice meets it, and whether there still
/// is one with more memory.
pub fn random_requirements(profiles: &[Profile], seed: u64) -> Result<Vec<Option<(bool, bool)>>, PlanError> {
    let mut rng = SplitMix64::new(seed);
    let mut outcomes = Vec::new();
    for _ in 0..10_000 {
        let need = Requirement {
            rows: 10f64.powf(5.0 + 6.0 * rng.uniform()),
            dim: 768,
            memory_gib: 10f64.powf(6.0 * rng.uniform()),
            recall: 0.6 + 0.4 * rng.uniform(),
            p99_ms: 10f64.powf(0.5 + 2.5 * rng.uniform()),
            update_rate: 10f64.powf(5.0 * rng.uniform()),
        };
        let outcome = if let Ok(choice) = recommend(&need, profiles)? {
            let chosen = profiles.iter().find(|profile| profile.kind == choice.kind);
            let kept = chosen.is_some_and(|p| p.recall_max >= need.recall && p.shortfalls(&need).is_empty());
            let richer = Requirement { memory_gib: need.memory_gib * (1.0 + rng.uniform()), ..need };
            Some((kept, recommend(&richer, profiles)?.is_ok()))
        } else {
            None
        };
        outcomes.push(outcome);
    }
    Ok(outcomes)
}
