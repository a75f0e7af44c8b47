//! Inverted files, product codes, hashing and trees: against FAISS on the same vectors, against an exhaustive scan, and against each other.

use std::path::Path;

use eas_ann::ivfpq::IvfPq;
use eas_ann::{
    AnnError, FlatIndex, Hit, IvfConfig, IvfIndex, IvfPqConfig, KMeansTree, Lsh, LshConfig, Metric, TreeConfig,
    VectorIndex, recall,
};
use eas_data::synth::{clusters, clusters_queries, manifold, manifold_queries, unit_cube};
use eas_tensor::kmeans::Init;
use eas_tensor::quant::Pq;
use eas_tensor::{Matrix, kernels};
use proptest::prelude::*;

fn golden() -> serde_json::Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/faiss.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn ids(n: usize) -> Vec<u64> {
    (0..n as u64).collect()
}

fn exact(vectors: &Matrix, queries: &Matrix, metric: Metric, k: usize) -> Vec<Vec<Hit>> {
    let mut flat = FlatIndex::new(vectors.dim(), metric).unwrap();
    flat.add(&ids(vectors.rows()), vectors).unwrap();
    flat.search_batch(queries, k).unwrap()
}

fn small_ivf(lists: usize) -> IvfConfig {
    IvfConfig { lists, nprobe: 3, max_iter: 20, tolerance: 0.0, ..IvfConfig::default() }
}

fn pq_config(lists: usize, subspaces: usize, bits: usize) -> IvfPqConfig {
    IvfPqConfig { ivf: IvfConfig { nprobe: 8, ..small_ivf(lists) }, subspaces, bits, ..IvfPqConfig::default() }
}

/// Every kind of index of this file over the same vectors.
fn all_kinds(vectors: &Matrix, metric: Metric) -> Vec<Box<dyn VectorIndex>> {
    let dim = vectors.dim();
    let rerank = |bits, opq_iterations| IvfPqConfig { rerank: 40, opq_iterations, ..pq_config(6, 2, bits) };
    let spherical = IvfConfig { spherical: metric == Metric::Cosine, init: Init::Stride, ..small_ivf(6) };
    let tree = TreeConfig { branching: 4, levels: 2, beam: 2, ..TreeConfig::default() };
    let lsh = LshConfig { tables: 6, bits: 4, seed: 3 };
    let mut all: Vec<Box<dyn VectorIndex>> = vec![
        Box::new(FlatIndex::new(dim, metric).unwrap()),
        Box::new(IvfIndex::train(vectors, metric, spherical).unwrap()),
        Box::new(IvfPq::train(vectors, metric, pq_config(6, 2, 4)).unwrap()),
        Box::new(IvfPq::train(vectors, metric, rerank(4, 0)).unwrap()),
        Box::new(IvfPq::train(vectors, metric, rerank(4, 2)).unwrap()),
        Box::new(Lsh::new(dim, metric, lsh).unwrap()),
        Box::new(KMeansTree::train(vectors, metric, tree).unwrap()),
    ];
    if vectors.rows() >= 256 {
        all.push(Box::new(IvfPq::train(vectors, metric, pq_config(6, 2, 8)).unwrap()));
    }
    all
}

#[test]
fn inverted_files_reach_the_recall_of_faiss() {
    let (x, q) = (manifold(42, 20_000, 32, 8, 0.02), manifold_queries(42, 200, 32, 8, 0.02));
    let truth = exact(&x, &q, Metric::SquaredL2, 10);
    let golden = golden();
    let first: Vec<u64> = truth[0].iter().map(|hit| hit.id).collect();
    assert_eq!(serde_json::json!(first), golden["manifold_exact_first"], "the same vectors as in the script");
    let mut index = IvfIndex::train(&x, Metric::SquaredL2, small_ivf(128)).unwrap();
    index.add(&ids(20_000), &x).unwrap();
    assert_eq!(index.list_lens().iter().sum::<usize>(), 20_000);
    for row in golden["manifold_ivf"].as_array().unwrap() {
        index.set_nprobe(row["nprobe"].as_u64().unwrap() as usize).unwrap();
        let got = recall(&index.search_batch(&q, 10).unwrap(), &truth);
        let want = row["recall_at_10"].as_f64().unwrap();
        assert!((got - want).abs() <= 0.06, "{row}: {got}");
    }
    assert_eq!(index.search_batch(&q, 10).unwrap(), truth, "all lists are exact, to the bit");
}

#[test]
fn product_codes_reach_the_recall_of_faiss_and_residuals_matter() {
    let (x, q) = (clusters(42, 20_000, 32, 64, 0.6), clusters_queries(42, 300, 32, 64, 0.6));
    let truth = exact(&x, &q, Metric::SquaredL2, 10);
    let golden = golden();
    for (lists, subspaces) in [(64, 8), (128, 16)] {
        let mut at_eight = [0.0; 2];
        for by_residual in [true, false] {
            let config = IvfPqConfig { by_residual, ..pq_config(lists, subspaces, 8) };
            let mut index = IvfPq::train(&x, Metric::SquaredL2, config).unwrap();
            index.add(&ids(20_000), &x).unwrap();
            let mut last = 0.0;
            for row in golden["clusters_ivfpq"].as_array().unwrap() {
                if row["lists"] != lists || row["subspaces"] != subspaces || row["by_residual"] != by_residual {
                    continue;
                }
                let nprobe = row["nprobe"].as_u64().unwrap() as usize;
                index.set_nprobe(nprobe).unwrap();
                let got = recall(&index.search_batch(&q, 10).unwrap(), &truth);
                let want = row["recall_at_10"].as_f64().unwrap();
                assert!((got - want).abs() <= 0.05, "{row}: {got}");
                assert!(got >= last - 0.005, "recall falls with nprobe: {row}");
                last = got;
                if nprobe == 8 {
                    at_eight[usize::from(by_residual)] = got;
                }
            }
        }
        assert!(at_eight[1] >= at_eight[0] + 0.05, "residual {} raw {}", at_eight[1], at_eight[0]);
    }
}

#[test]
fn product_codes_without_lists_reach_the_recall_of_faiss() {
    let (x, q) = (manifold(42, 20_000, 32, 8, 0.02), manifold_queries(42, 200, 32, 8, 0.02));
    let truth = exact(&x, &q, Metric::SquaredL2, 10);
    for row in golden()["manifold_pq"].as_array().unwrap() {
        let subspaces = row["subspaces"].as_u64().unwrap() as usize;
        // One list, and codes of the vectors themselves.
        let config = IvfPqConfig { by_residual: false, ..pq_config(1, subspaces, 8) };
        let mut index = IvfPq::train(&x, Metric::SquaredL2, config).unwrap();
        index.add(&ids(20_000), &x).unwrap();
        let got = recall(&index.search_batch(&q, 10).unwrap(), &truth);
        let want = row["recall_at_10"].as_f64().unwrap();
        assert!((got - want).abs() <= 0.05, "{row}: {got}");
    }
}

#[test]
fn a_scan_and_a_whole_inverted_file_give_the_ids_and_scores_of_faiss() {
    let (x, q) = (unit_cube(11, 1_000, 64), unit_cube(12, 5, 64));
    let golden = golden();
    let mut flat = FlatIndex::new(64, Metric::Dot).unwrap();
    let mut inverted = IvfIndex::train(&x, Metric::Dot, IvfConfig { nprobe: 6, ..small_ivf(6) }).unwrap();
    for index in [&mut flat as &mut dyn VectorIndex, &mut inverted] {
        index.add(&ids(1_000), &x).unwrap();
        let found = index.search_batch(&q, 10).unwrap();
        assert_eq!(found.len(), golden["unit_cube_ids"].as_array().unwrap().len());
        for (row, hits) in found.iter().enumerate() {
            let own: Vec<u64> = hits.iter().map(|hit| hit.id).collect();
            assert_eq!(serde_json::json!(own), golden["unit_cube_ids"][row]);
            for (hit, score) in hits.iter().zip(golden["unit_cube_scores"][row].as_array().unwrap()) {
                assert!((f64::from(hit.score) - score.as_f64().unwrap()).abs() < 2e-6, "{hit:?} {score}");
            }
        }
    }
}

#[test]
fn all_lists_are_an_exhaustive_scan_of_the_codes_and_table_sums_are_distances_to_decoded_vectors() {
    let (x, q) = (clusters(7, 3_000, 16, 20, 0.6), clusters_queries(7, 20, 16, 20, 0.6));
    for metric in [Metric::SquaredL2, Metric::Dot, Metric::Cosine] {
        for (bits, opq_iterations, by_residual) in [(8, 0, true), (8, 0, false), (4, 0, true), (4, 2, true)] {
            let config = IvfPqConfig { opq_iterations, by_residual, ..pq_config(16, 4, bits) };
            let mut index = IvfPq::train(&x, metric, config).unwrap();
            index.add(&ids(3_000), &x).unwrap();
            index.set_nprobe(16).unwrap();
            let decoded: Vec<Vec<f32>> = (0..3_000).map(|id| index.decode(id).unwrap()).collect();
            for query in q.iter_rows() {
                let mut unit = Matrix::from_rows(&[query]).unwrap();
                if metric == Metric::Cosine {
                    unit.normalize_rows();
                }
                let mut all: Vec<Hit> = (0..3_000)
                    .map(|id| Hit {
                        id,
                        score: match metric {
                            Metric::SquaredL2 => kernels::squared_l2(unit.row(0), &decoded[id as usize]),
                            _ => kernels::dot(unit.row(0), &decoded[id as usize]),
                        },
                    })
                    .collect();
                all.sort_by(|a, b| metric.best_first(a, b));
                let hits = index.search(query, 10).unwrap();
                for (hit, want) in hits.iter().zip(&all) {
                    // Codes that are equal, or nearly, may change places; distances may not.
                    assert!(
                        (hit.score - want.score).abs() <= 1e-4 * (1.0 + want.score.abs()),
                        "{metric:?} {bits}: {hit:?} {want:?}"
                    );
                    let own = all.iter().find(|other| other.id == hit.id).unwrap();
                    assert!((hit.score - own.score).abs() <= 1e-4 * (1.0 + own.score.abs()));
                }
            }
        }
    }
}

#[test]
fn all_lists_equal_table_sums_of_every_code_to_the_bit_of_the_ranking() {
    let (x, q) = (clusters(9, 2_000, 8, 20, 0.6), clusters_queries(9, 30, 8, 20, 0.6));
    let config = IvfPqConfig { by_residual: false, ..pq_config(16, 4, 8) };
    let mut index = IvfPq::train(&x, Metric::SquaredL2, config).unwrap();
    index.add(&ids(2_000), &x).unwrap();
    index.set_nprobe(16).unwrap();
    for query in q.iter_rows() {
        let table = index.quantizer().distance_table(query).unwrap();
        let sums: Vec<f32> = (0..2_000).map(|id| Pq::look_up(&table, &index.code(id).unwrap())).collect();
        let kth = {
            let mut sorted = sums.clone();
            sorted.sort_by(f32::total_cmp);
            sorted[9]
        };
        for hit in index.search(query, 10).unwrap() {
            assert!(sums[hit.id as usize] <= kth + 1e-4 && (sums[hit.id as usize] - hit.score).abs() < 1e-4);
        }
    }
}

#[test]
fn reranking_four_bits_and_rotation_do_what_they_are_for() {
    let (x, q) = (clusters(42, 8_000, 32, 64, 0.6), clusters_queries(42, 100, 32, 64, 0.6));
    let truth = exact(&x, &q, Metric::SquaredL2, 10);
    let recall_of = |config: IvfPqConfig| {
        let mut index = IvfPq::train(&x, Metric::SquaredL2, config).unwrap();
        index.add(&ids(8_000), &x).unwrap();
        let bytes = index.bytes();
        assert_eq!(bytes.codes, 8_000 * config.subspaces * config.bits / 8);
        (recall(&index.search_batch(&q, 10).unwrap(), &truth), bytes)
    };
    let (plain, _) = recall_of(pq_config(64, 8, 8));
    let (reranked, _) = recall_of(IvfPqConfig { rerank: 100, ..pq_config(64, 8, 8) });
    assert!(plain < 0.75 && reranked >= 0.98, "{plain} {reranked}");
    let (four, bytes) = recall_of(pq_config(64, 16, 4));
    assert_eq!((bytes.codes, bytes.codebooks), (8_000 * 8, 16 * 32 * 4));
    assert!(four > 0.5, "{four}");
    let (four_reranked, _) = recall_of(IvfPqConfig { rerank: 100, ..pq_config(64, 16, 4) });
    assert!(four_reranked >= 0.97, "{four_reranked}");
    let (rotated, _) = recall_of(IvfPqConfig { opq_iterations: 3, ..pq_config(64, 8, 8) });
    assert!(rotated >= plain - 0.03, "isotropic noise leaves nothing to gain: {rotated} {plain}");
}

#[test]
fn hashing_and_trees_find_what_the_field_says() {
    let (x, q) = (manifold(42, 20_000, 32, 8, 0.02), manifold_queries(42, 200, 32, 8, 0.02));
    let truth = exact(&x, &q, Metric::SquaredL2, 10);
    let mut last: Vec<f64> = Vec::new();
    for tables in [4, 8, 16] {
        let mut lsh = Lsh::new(32, Metric::SquaredL2, LshConfig { tables, bits: 8, seed: 42 }).unwrap();
        lsh.add(&ids(20_000), &x).unwrap();
        let found: Vec<Vec<Hit>> = q.iter_rows().map(|q| lsh.search_counted(q, 10, &|_| true).unwrap().0).collect();
        let each: Vec<f64> =
            found.iter().zip(&truth).map(|(f, t)| recall(std::slice::from_ref(f), std::slice::from_ref(t))).collect();
        assert!(last.iter().zip(&each).all(|(before, now)| now >= before), "another table never loses a neighbour");
        last = each;
    }
    let mut tree = KMeansTree::train(&x, Metric::SquaredL2, TreeConfig::default()).unwrap();
    tree.add(&ids(20_000), &x).unwrap();
    let lens = tree.leaf_lens();
    assert_eq!((lens.len(), lens.iter().sum::<usize>()), (729, 20_000));
    let largest = *lens.iter().max().unwrap() as u64;
    for (i, query) in q.iter_rows().enumerate() {
        let (_, stats) = tree.search_counted(query, 10, 1, &|_| true).unwrap();
        assert!(stats.distance_evaluations <= 2 * 27 + largest && stats.lists_probed == 1);
        assert_eq!(tree.search_counted(query, 10, 729, &|_| true).unwrap().0, truth[i], "all leaves are exact");
    }
}

fn roundtrip<T: VectorIndex>(index: &T, query: &[f32]) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index");
    index.save(&path).unwrap();
    let loaded = T::load(&path).unwrap();
    assert_eq!(loaded.len(), index.len());
    assert_eq!(loaded.search(query, 30).unwrap(), index.search(query, 30).unwrap());
    // Any single byte changed, and any cut, is an error and not a panic.
    let whole = std::fs::read(&path).unwrap();
    for at in (0..whole.len()).step_by(whole.len() / 40 + 1) {
        let mut altered = whole.clone();
        altered[at] ^= 0x41;
        std::fs::write(&path, &altered).unwrap();
        assert!(T::load(&path).is_err(), "byte {at} changed");
        std::fs::write(&path, &whole[..at]).unwrap();
        assert!(T::load(&path).is_err(), "cut at {at}");
        // The checksum made to fit: whatever the content says, no panic and no allocation beyond the file.
        if at >= 24 {
            let mut forged = whole.clone();
            for byte in &mut forged[at..(at + 8).min(whole.len())] {
                *byte = 0xFF;
            }
            let checksum = crc32fast::hash(&forged[24..]).to_le_bytes();
            forged[12..16].copy_from_slice(&checksum);
            std::fs::write(&path, &forged).unwrap();
            let _ = T::load(&path);
        }
    }
}

#[test]
fn files_round_trip_and_damage_is_refused() {
    let x = clusters(3, 400, 8, 10, 0.5);
    let query = clusters_queries(3, 1, 8, 10, 0.5);
    let metric = Metric::SquaredL2;
    let mut ivf = IvfIndex::train(&x, metric, small_ivf(6)).unwrap();
    ivf.add(&ids(400), &x).unwrap();
    ivf.remove(&[7, 9]).unwrap();
    roundtrip(&ivf, query.row(0));
    for (bits, rerank, opq_iterations) in [(8, 0, 0), (8, 20, 0), (4, 0, 1), (4, 20, 0)] {
        let config = IvfPqConfig { rerank, opq_iterations, ..pq_config(6, 4, bits) };
        let mut pq = IvfPq::train(&x, metric, config).unwrap();
        pq.add(&ids(400), &x).unwrap();
        pq.remove(&[7, 9]).unwrap();
        roundtrip(&pq, query.row(0));
    }
    let mut tree = KMeansTree::train(&x, metric, TreeConfig { branching: 4, ..TreeConfig::default() }).unwrap();
    tree.add(&ids(400), &x).unwrap();
    roundtrip(&tree, query.row(0));
    let mut lsh = Lsh::new(8, metric, LshConfig { tables: 3, bits: 5, seed: 1 }).unwrap();
    lsh.add(&ids(400), &x).unwrap();
    roundtrip(&lsh, query.row(0));
}

#[test]
fn bad_settings_and_input_are_refused() {
    let x = unit_cube(5, 300, 12);
    let message = |result: Result<IvfPq, AnnError>| result.unwrap_err().to_string();
    let train = |config| IvfPq::train(&x, Metric::SquaredL2, config);
    assert!(message(train(pq_config(4, 5, 8))).contains("subspaces is 5, must be a divisor of the dimension"));
    assert!(message(train(pq_config(4, 4, 6))).contains("bits is 6"));
    assert!(message(train(pq_config(301, 4, 8))).contains("k is 301"));
    assert!(message(train(pq_config(0, 4, 8))).contains("k is 0"));
    let few = x.select(&(0..100).collect::<Vec<_>>());
    assert!(message(IvfPq::train(&few, Metric::SquaredL2, pq_config(4, 4, 8))).contains("k is 256"));
    assert!(Lsh::new(3, Metric::Dot, LshConfig { bits: 65, ..LshConfig::default() }).is_err());
    assert!(Lsh::new(3, Metric::Dot, LshConfig { tables: 0, ..LshConfig::default() }).is_err());
    assert!(KMeansTree::train(&x, Metric::Dot, TreeConfig { branching: 0, ..TreeConfig::default() }).is_err());
    assert!(KMeansTree::train(&Matrix::zeros(0, 3), Metric::Dot, TreeConfig::default()).is_err());
    let mut no_vectors = train(pq_config(4, 4, 8)).unwrap();
    assert!(no_vectors.set_rerank(5).is_err() && no_vectors.set_nprobe(0).is_err());
    for metric in [Metric::SquaredL2, Metric::Cosine, Metric::Dot] {
        for mut index in all_kinds(&x, metric) {
            assert_eq!(index.search(x.row(0), 5).unwrap(), [], "an empty index");
            index.add(&ids(300), &x).unwrap();
            assert_eq!(index.search(x.row(0), 0).unwrap(), []);
            assert_eq!(index.search(x.row(0), 1_000).unwrap().len(), 300, "k beyond the index gives all");
            assert!(index.search(&[0.0; 3], 1).is_err());
            assert!(index.search(&[f32::NAN; 12], 1).is_err());
            assert!(index.add(&[5], &x.select(&[0])).is_err(), "a present id");
            assert!(index.add(&[900, 900], &x.select(&[0, 1])).is_err());
            assert_eq!(index.len(), 300);
            let filtered = index.search_where(x.row(1), 7, &|id| id % 29 == 0).unwrap();
            assert_eq!(filtered.len(), 7);
            assert!(filtered.iter().all(|hit| hit.id % 29 == 0));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn hits_are_sorted_unique_and_live_and_batches_equal_single_searches(
        seed in 0u64..1_000, n in 30usize..300, k in 1usize..40, which in 0usize..3,
        gone in prop::collection::vec(0u64..300, 0..40),
    ) {
        let metric = [Metric::SquaredL2, Metric::Cosine, Metric::Dot][which];
        let x = clusters(seed, n, 6, 5, 0.8);
        let queries = clusters_queries(seed, 7, 6, 5, 0.8);
        for mut index in all_kinds(&x, metric) {
            index.add(&ids(n), &x).unwrap();
            index.remove(&gone).unwrap();
            let live = (0..n as u64).filter(|id| !gone.contains(id)).count();
            prop_assert_eq!(index.len(), live);
            let batch = index.search_batch(&queries, k).unwrap();
            for (query, hits) in queries.iter_rows().zip(&batch) {
                prop_assert_eq!(&index.search(query, k).unwrap(), hits);
                prop_assert_eq!(hits.len(), k.min(live));
                prop_assert!(hits.windows(2).all(|pair| metric.best_first(&pair[0], &pair[1]).is_lt()));
                prop_assert!(hits.iter().all(|hit| hit.id < n as u64 && !gone.contains(&hit.id)));
            }
            // What was removed can come back, and is found.
            if let Some(&id) = gone.iter().find(|&&id| id < n as u64) {
                index.upsert(&[id], &x.select(&[id as usize])).unwrap();
                prop_assert!(index.contains(id));
                prop_assert!(index.search(x.row(id as usize), n).unwrap().iter().any(|hit| hit.id == id));
            }
        }
    }
}
