//! Listing 1.10: one interface, from a flat index on one node to shards with replicas that survive failures.
//!
//! cargo run --release --example single_node_vs_sharded_index

use std::time::{Duration, Instant};

use eas_ann::{FlatIndex, Hit, Hnsw, HnswConfig, IndexKind, Metric, OnMissing, ShardedIndex, VectorIndex, recall};
use eas_report::{Table, duration, num, pct};
use eas_tensor::Matrix;
use eas_text::glosses::gloss_vectors;

const SHARDS: usize = 8;
const REPLICAS: usize = 3;
const K: usize = 10;

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let encoder = eas_text::encoder::load(page.encoder().name())?;
    let (vectors, queries) = gloss_vectors(encoder.as_ref(), page.size(20_000, 100_000), 200, 42)?;
    let ids: Vec<u64> = (0..vectors.rows() as u64).collect();
    let dim = vectors.dim();
    page.text(format!(
        "{} glosses of WordNet as vectors of {dim} values. Four indexes behind the same trait: exact and HNSW, on one \
         node and over {SHARDS} shards with {REPLICAS} replicas each. An id's shard is its jump hash; a search asks one \
         live replica of each shard and merges the answers.",
        vectors.rows()
    ));

    let config = HnswConfig { m: 12, ef_construction: 32, ef: 96, ..HnswConfig::default() };
    let sharded = |inner: IndexKind| {
        let builder = ShardedIndex::builder().shards(SHARDS).replicas(REPLICAS).inner(inner);
        builder.on_missing(OnMissing::Partial).build(dim, Metric::SquaredL2)
    };
    let mut flat = FlatIndex::new(dim, Metric::SquaredL2)?;
    let mut hnsw = Hnsw::new(dim, Metric::SquaredL2, config)?;
    let mut shards_flat = sharded(IndexKind::Flat)?;
    let mut shards_hnsw = sharded(IndexKind::Hnsw(config))?;

    let mut table = Table::new(["index", "build", "200 searches", "recall@10", "MB on the largest node"]);
    let mut answers: Vec<Vec<Vec<Hit>>> = Vec::new();
    let mut recalls = Vec::new();
    let indexes: [(&str, &mut dyn VectorIndex); 4] = [
        ("flat, one node", &mut flat),
        ("HNSW, one node", &mut hnsw),
        ("flat, 8 shards", &mut shards_flat),
        ("HNSW, 8 shards", &mut shards_hnsw),
    ];
    let mut times = Vec::new();
    for (name, index) in indexes {
        let start = Instant::now();
        index.add(&ids, &vectors)?;
        let build = start.elapsed();
        let start = Instant::now();
        answers.push(index.search_batch(&queries, K)?);
        times.push((name, build, start.elapsed()));
        recalls.push(recall(&answers[answers.len() - 1], &answers[0]));
    }
    let largest = |index: &ShardedIndex| index.shard_bytes().into_iter().max().unwrap_or(0);
    let graph = hnsw.bytes();
    let bytes =
        [flat.bytes(), graph.vectors + graph.links + graph.bookkeeping, largest(&shards_flat), largest(&shards_hnsw)];
    for (((name, build, search), recall), bytes) in times.into_iter().zip(&recalls).zip(bytes) {
        table.row([
            name.into(),
            duration(build),
            duration(search),
            num(*recall, 4).within(0.005),
            num(bytes as f64 / 1e6, 2),
        ]);
    }
    page.table("One trait, four indexes", &table);

    let lens = shards_flat.shard_lens();
    let mean = vectors.rows() as f64 / SHARDS as f64;
    let fullest = *lens.iter().max().unwrap_or(&0) as f64;

    // Break things: any two replicas of every shard, then the last replica of one shard.
    let mut table = Table::new(["what has failed", "200 searches", "coverage", "recall@10", "unchanged"]);
    let mut survived = Vec::new();
    let (found, coverage, time) = covered(&shards_flat, &queries)?;
    table.row(["nothing".into(), duration(time), pct(coverage, 1), num(recall(&found, &answers[0]), 4), "yes".into()]);
    for alive in 0..REPLICAS {
        let mut wounded = shards_flat.clone();
        for shard in 0..SHARDS {
            (0..REPLICAS).filter(|&r| r != alive).try_for_each(|r| wounded.fail(shard, r))?;
        }
        let (found, coverage, time) = covered(&wounded, &queries)?;
        survived.push(found == answers[2]);
        let unchanged = if found == answers[2] { "yes" } else { "no" };
        table.row([
            format!("all replicas but number {alive} of every shard").into(),
            duration(time),
            pct(coverage, 1),
            num(recall(&found, &answers[0]), 4),
            unchanged.into(),
        ]);
    }
    let dead = 3;
    (0..REPLICAS).try_for_each(|replica| shards_flat.fail(dead, replica))?;
    let (partial, coverage, time) = covered(&shards_flat, &queries)?;
    let partial_recall = recall(&partial, &answers[0]);
    table.row([
        format!("shard {dead} with all replicas").into(),
        duration(time),
        pct(coverage, 1),
        num(partial_recall, 4),
        "no".into(),
    ]);
    page.table("Failures (flat shards, so that every lost neighbour shows)", &table);
    let share = lens[dead] as f64 / vectors.rows() as f64;
    let orphan = (vectors.rows() as u64..).take(1_000).find(|&id| shards_flat.shard_of(id) == dead).unwrap_or(0);
    let refused = shards_flat.add(&[orphan], &vectors.select(&[0]));
    (0..REPLICAS).try_for_each(|replica| shards_flat.recover(dead, replica))?;
    let recovered = shards_flat.search_batch(&queries, K)?;

    // A folder, one file a shard, checksums: what an object store would hold.
    let folder = page.out_dir()?.join("index");
    shards_hnsw.save(&folder)?;
    let reloaded = ShardedIndex::load(&folder)?;
    let cut_off = page.out_dir()?.join("damaged");
    std::fs::create_dir_all(&cut_off)?;
    let manifest = std::fs::read(folder.join("manifest"))?;
    std::fs::write(cut_off.join("manifest"), &manifest[..manifest.len() - 1])?;
    let damaged = ShardedIndex::load(&cut_off);

    page.claim("flat shards give the ids and distances of one flat index").equals(answers[2] == answers[0], true);
    page.claim("recall@10 of sharded HNSW is at least 0.95").within(0.005).at_least(recalls[3], 0.95);
    page.claim("and not below one HNSW by more than 0.01").within(0.005).at_least(recalls[3], recalls[1] - 0.01);
    page.claim("the largest shard holds at most 1.10 times the mean").at_most(fullest / mean, 1.10);
    page.claim("with any two replicas of every shard dead the answers are unchanged").all(&survived, |same| *same);
    page.claim("without one shard the coverage is the share of the others").close(coverage, 1.0 - share, 1e-12);
    page.claim("and recall falls to that share, within 0.03").within(0.005).close(partial_recall, 1.0 - share, 0.03);
    page.claim("a dead shard refuses new vectors").fails(refused, "shard 3 is unavailable");
    page.claim("recovered, the answers are as before").equals(recovered == answers[2], true);
    page.claim("saved and loaded, the index answers the same")
        .equals(reloaded.search_batch(&queries, K)? == answers[3], true);
    page.claim("a cut-off file is refused by name").fails(
        damaged.map_err(|error| error.to_string().replace(&cut_off.display().to_string(), "")),
        "manifest: the file is cut off",
    );
    page.finish()
}

/// The answers of an index of which parts may have failed, their coverage, and the time of all searches.
fn covered(index: &ShardedIndex, queries: &Matrix) -> anyhow::Result<(Vec<Vec<Hit>>, f64, Duration)> {
    let start = Instant::now();
    let mut coverage = 1.0;
    let mut found = Vec::with_capacity(queries.rows());
    for query in queries.iter_rows() {
        let answer = index.search_covered(query, K, &|_| true)?;
        coverage = answer.coverage;
        found.push(answer.hits);
    }
    Ok((found, coverage, start.elapsed()))
}
