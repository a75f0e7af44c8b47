//! The workloads of listings 3.13 and 3.15 on a real server, when `--backend milvus` asks for it: a collection cut into shards, and what a read sees
//! at each consistency level.

#[cfg(not(feature = "milvus"))]
use eas_report::{BackendChoice, Listing};

/// How to get the part that this build lacks.
#[cfg(not(feature = "milvus"))]
fn left_out(page: &mut Listing, what: &str, name: &str) {
    if !page.runs_on(BackendChoice::Milvus) {
        return;
    }
    page.skip(
        what,
        format!(
            "this build has no Milvus client: scripts/milvus.sh start, then cargo run --release -p {} --features milvus --example \
             {name} -- --backend milvus",
            env!("CARGO_PKG_NAME")
        ),
    );
}

/// The same search over a collection of 1, 4 and 16 shards, beside the flat index.
#[cfg(not(feature = "milvus"))]
pub fn sharding(page: &mut Listing) -> anyhow::Result<()> {
    left_out(page, "the same vectors on a server", "sharding_pattern_fanout");
    Ok(())
}

/// Whether a search sees the write before it, and how long it takes, by consistency level.
#[cfg(not(feature = "milvus"))]
pub fn consistency(page: &mut Listing) -> anyhow::Result<()> {
    left_out(page, "reading after writing on a server", "replication_quorum_simulation");
    Ok(())
}

#[cfg(feature = "milvus")]
pub use with_server::{consistency, sharding};

#[cfg(feature = "milvus")]
mod with_server {
    use std::time::{Duration, Instant};

    use eas_ann::milvus::{Consistency, MilvusConfig, MilvusIndex, MilvusKind};
    use eas_ann::{FlatIndex, Metric, VectorIndex, recall};
    use eas_data::synth::{clusters, clusters_queries};
    use eas_report::{BackendChoice, Listing, Table, duration, num};
    use eas_tensor::Matrix;

    const DIM: usize = 32;

    /// A new collection; one of the same name that an earlier run left is dropped.
    fn collection(name: &str, shards: u16) -> anyhow::Result<MilvusIndex> {
        let port = std::env::var("EAS_MILVUS_PORT").unwrap_or_else(|_| "19530".into());
        let config = MilvusConfig {
            url: format!("http://127.0.0.1:{port}"),
            collection: format!("eas_listing_{name}"),
            shards,
            kind: MilvusKind::Flat,
            ..MilvusConfig::default()
        };
        if let Ok(left) = MilvusIndex::open(config.clone()) {
            left.drop_collection()?;
        }
        Ok(MilvusIndex::create(DIM, Metric::SquaredL2, config)?)
    }

    /// The same search over a collection of 1, 4 and 16 shards, beside the flat index.
    pub fn sharding(page: &mut Listing) -> anyhow::Result<()> {
        if !page.runs_on(BackendChoice::Milvus) {
            return Ok(());
        }
        let rows = page.size(5_000, 50_000);
        let vectors = clusters(page.seed(), rows, DIM, 64, 0.6);
        let queries = clusters_queries(page.seed(), 100, DIM, 64, 0.6);
        let ids: Vec<u64> = (0..rows as u64).collect();
        let mut flat = FlatIndex::new(DIM, Metric::SquaredL2)?;
        flat.add(&ids, &vectors)?;
        let exact = flat.search_batch(&queries, 10)?;

        page.section("On a Milvus server");
        page.text(
            "The server places a vector by a hash of its id, the random pattern above: every search goes to every shard, and \
             what it finds doesn't depend on their number.",
        );
        let mut table = Table::new(["shards asked for", "shards kept", "recall@10", "writing", "100 searches"]);
        let mut kept = Vec::new();
        for shards in [1, 4, 16] {
            let mut served = collection(&format!("sharding_{shards}"), shards)?;
            let started = Instant::now();
            served.upsert(&ids, &vectors)?;
            let writing = started.elapsed();
            let started = Instant::now();
            let found = served.search_batch(&queries, 10)?;
            let searching = started.elapsed();
            kept.push((usize::from(shards), served.shards()?, recall(&found, &exact)));
            let (asked, counted, recall) = kept[kept.len() - 1];
            table.row([asked.into(), counted.into(), num(recall, 3), duration(writing), duration(searching)]);
            served.drop_collection()?;
        }
        page.table("One workload over more and more shards", &table);
        page.claim("the server keeps as many shards as it was asked for")
            .all(&kept, |(asked, counted, _)| asked == counted);
        page.claim("however many they are, it finds what the flat index finds")
            .all(&kept, |(.., recall)| *recall >= 0.999);
        Ok(())
    }

    /// Whether a search sees the write before it, and how long it takes, by consistency level.
    pub fn consistency(page: &mut Listing) -> anyhow::Result<()> {
        const TRIES: u64 = 20;
        if !page.runs_on(BackendChoice::Milvus) {
            return Ok(());
        }
        let rows = 1_000;
        let vectors = clusters(page.seed(), rows, DIM, 64, 0.6);
        let mut served = collection("consistency", 2)?;
        served.upsert(&(0..rows as u64).collect::<Vec<_>>(), &vectors)?;
        // A first search at the strongest level waits until all of it can be seen.
        served.search(vectors.row(0), 1)?;

        page.section("On a Milvus server");
        page.text(
            "A vector is written and searched for at once. What the search is certain to see is chosen for each search: a \
             stronger level waits until the node that answers has caught up with the log.",
        );
        let mut table = Table::new(["level", "searches that saw the write", "of", "mean time of a search"]);
        let mut seen_at = Vec::new();
        let far = |i: u64| Matrix::from_vec(1, DIM, vec![100.0 + i as f32; DIM]);
        let mut next = rows as u64;
        for level in [Consistency::Strong, Consistency::Session, Consistency::Bounded, Consistency::Eventual] {
            served.set_consistency(level);
            let (mut seen, mut taken) = (0, Duration::ZERO);
            for _ in 0..TRIES {
                let vector = far(next)?;
                served.upsert(&[next], &vector)?;
                let started = Instant::now();
                let hits = served.search(vector.row(0), 1)?;
                taken += started.elapsed();
                seen += u64::from(hits.first().is_some_and(|hit| hit.id == next));
                next += 1;
            }
            table.row([format!("{level:?}").into(), seen.into(), TRIES.into(), duration(taken / TRIES as u32)]);
            seen_at.push(seen);
        }
        page.table("Searching right after writing", &table);
        page.claim("with strong consistency every search sees the write before it").equals(seen_at[0], TRIES);
        page.claim("so does one that asks for its own writes only").equals(seen_at[1], TRIES);
        served.set_consistency(Consistency::Strong);
        page.claim("in the end nothing is lost").equals(served.count()? as u64, next);
        Ok(served.drop_collection()?)
    }
}
