//! Listing 6.12: embeddings in an index that changes. Items are added, replaced and removed, the index is rebuilt while searches run, and a
//! crash loses nothing that was acknowledged.
//!
//! cargo run --release --example siamese_ann_service

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ch06_siamese_networks::digit_net::tensor;
use ch06_siamese_networks::glyph_net::{Loss, glyph_encoder};
use eas_ann::service::AnnService;
use eas_ann::{AnnError, FlatIndex, Hit, Hnsw, HnswConfig, Metric, VectorIndex, recall};
use eas_data::synth::glyphs::Glyphs;
use eas_nn::encoders::Encoder;
use eas_report::{Cell, Table, num};
use eas_tensor::Matrix;
use eas_tensor::kernels::dot_rows;
use eas_tensor::rng::SplitMix64;

const DIM: usize = 64;
const K: usize = 10;

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let seed = page.seed_or(12);
    let glyphs = Glyphs::new(seed);
    let encoder = glyph_encoder(&glyphs, 0..100, Loss::BatchHard, 100, seed)?;
    let embed = |pictures: &Matrix| -> anyhow::Result<Matrix> { Ok(encoder.encode(&tensor(pictures)?)?) };
    // Classes from 200 on are new to the encoder; every class has `each` pictures in the index.
    let (classes, each, changed) = page.size((500, 10, 500), (1_000, 20, 2_000));
    let (pictures, _) = glyphs.pictures(200..200 + classes, 0..each);
    let items = embed(&pictures)?;
    let count = items.rows() as u64;
    let queries = embed(&glyphs.pictures(200..200 + classes, each..each + 1).0)?;

    page.section("Exact and approximate");
    let log = page.out_dir()?.join("changes.log");
    std::fs::remove_file(&log).ok();
    let (exact, _) = AnnService::open(&log, DIM, flat)?;
    let fast = AnnService::new(DIM, graph)?;
    let ids: Vec<u64> = (0..count).collect();
    exact.add(&ids, &items)?;
    page.timed("building the graph", || fast.add(&ids, &items))?;
    let all = |service: &AnnService| -> anyhow::Result<Vec<Vec<Hit>>> {
        Ok(queries.iter_rows().map(|query| service.search(query, K)).collect::<Result<_, _>>()?)
    };
    let truth = page.timed(format!("{} exact searches", queries.rows()), || all(&exact))?;
    let found = page.timed(format!("{} searches in the graph", queries.rows()), || all(&fast))?;
    let by_hand = queries.iter_rows().zip(&truth).map(|(query, hits)| {
        let mut order: Vec<(u64, f32)> = (0..).zip(dot_rows(query, &items)).collect();
        order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        hits.iter().zip(&order).all(|(hit, (id, score))| hit.id == *id || (hit.score - score).abs() < 1e-6)
    });
    let by_hand: Vec<bool> = by_hand.collect();
    let scores: Vec<f32> = truth.iter().chain(&found).flatten().map(|hit| hit.score).collect();
    let first = recall(&found, &truth);
    page.text(format!("{count} embeddings, {} queries: recall@{K} of the graph {first:.4}.", queries.rows()));

    page.section("Updates and deletions");
    // The first items become pictures of classes that were not there; the next ones go.
    let replaced: Vec<u64> = (0..changed).collect();
    let removed: Vec<u64> = (changed..2 * changed).collect();
    let fresh = embed(&glyphs.pictures(2_000..2_000 + changed as u32, 0..1).0)?;
    let mut table = Table::new(["service", "live", "tombstones", "slots", "version"]);
    let mut row = |name: &str, service: &AnnService| {
        let s = service.stats();
        table.row([name.into(), s.live.into(), s.tombstones.into(), s.slots.into(), s.version.into()]);
        s.live + s.tombstones == s.slots
    };
    let mut counted = vec![row("before", &fast)];
    for service in [&exact, &fast] {
        service.update(&replaced, &fresh)?;
        service.remove(&removed)?;
        counted.push(row(if counted.len() == 1 { "exact, changed" } else { "graph, changed" }, service));
    }
    // What appending does: a second position for the id, and the first one stays.
    let mut appended = FlatIndex::new(DIM, Metric::Cosine)?;
    appended.add(&ids, &items)?;
    appended.add(&(count..count + changed).collect::<Vec<_>>(), &fresh)?;
    let (mut new_content, mut old_content, mut stale) = (0, 0, 0);
    for (&id, row) in replaced.iter().zip(fresh.iter_rows()) {
        let old = items.row(id as usize);
        new_content += u64::from(fast.search(row, 1)?.first().is_some_and(|hit| hit.id == id));
        old_content += u64::from(fast.search(old, 1)?.first().is_some_and(|hit| hit.id == id));
        stale += u64::from(appended.search(old, 1)?.first().is_some_and(|hit| hit.id % count == id));
    }
    let mut lookups = Table::new(["the updated id comes first for", "this service", "an index that only grows"]);
    let cell = |n: u64| -> Cell { format!("{n} of {changed}").into() };
    lookups.row(["its new content".into(), cell(new_content), "-".into()]);
    lookups.row(["what it was before".into(), cell(old_content), cell(stale)]);
    page.table("Answers after the update", &lookups);
    let gone = removed.iter().map(|&id| Ok(fast.search(items.row(id as usize), K)?));
    let gone = gone.collect::<anyhow::Result<Vec<Vec<Hit>>>>()?;

    page.section("A rebuild while four threads search");
    let (before, before_exact) = (all(&fast)?, all(&exact)?);
    let stop = AtomicBool::new(false);
    let (rebuilt, full) = thread::scope(|scope| {
        let searcher = |number: u64| {
            let mut rng = SplitMix64::stream(seed, number);
            let mut full = Vec::new();
            while full.is_empty() || !stop.load(Ordering::Relaxed) {
                let answer = fast.search(queries.row(rng.below(queries.rows())), K);
                full.push(answer.is_ok_and(|hits| hits.len() == K));
            }
            full
        };
        let threads: Vec<_> = (0..4).map(|number| scope.spawn(move || searcher(number))).collect();
        let rebuilt = fast.rebuild();
        stop.store(true, Ordering::Relaxed);
        (rebuilt, threads.into_iter().map(|t| t.join().unwrap_or(vec![false])).collect::<Vec<_>>())
    });
    let (rebuilt, short) = (rebuilt?, full.iter().flatten().filter(|full| !**full).count());
    exact.rebuild()?;
    counted.extend([row("exact, rebuilt", &exact), row("graph, rebuilt", &fast)]);
    page.table("Slots", &table);
    let (after, after_exact) = (all(&fast)?, all(&exact)?);
    let same = |a: &[Vec<Hit>], b: &[Vec<Hit>]| {
        let ids = |hits: &Vec<Hit>| hits.iter().map(|hit| hit.id).collect::<Vec<_>>();
        a.iter().zip(b).filter(|(x, y)| ids(x) == ids(y)).count() as f64 / a.len() as f64
    };
    let (kept, kept_exact) = (same(&before, &after), same(&before_exact, &after_exact));
    let last = recall(&after, &after_exact);
    let mut table = Table::new(["index", "same ten ids as before the rebuild", "recall@10 after it"]);
    table.row(["exact".into(), num(kept_exact, 4), num(1.0, 4)]);
    table.row(["graph".into(), num(kept, 4).within(0.01), num(last, 4).within(0.005)]);
    page.table(format!("{} tombstones dropped", rebuilt.dropped), &table);

    page.section("A crash");
    let (live, whole) = (exact.ids(), std::fs::metadata(&log)?.len());
    exact.add(&[u64::MAX], &Matrix::from_rows(&[items.row(0)])?)?;
    drop(exact);
    // The last record is there by half: a crash while it was written, before anybody was told of it.
    let half = whole.midpoint(std::fs::metadata(&log)?.len());
    std::fs::File::options().write(true).open(&log)?.set_len(half)?;
    let (recovered, recovery) = AnnService::open(&log, DIM, flat)?;
    let same_state = recovered.ids() == live && same(&all(&recovered)?, &after_exact) == 1.0;
    page.text(format!(
        "{} whole records, {} bytes of a torn one: {} ids are back.",
        recovery.records,
        recovery.torn_bytes,
        recovered.stats().live,
    ));

    page.claim("the exact service equals brute force").all(by_hand, |same| same);
    page.claim("recall@10 of the graph").within(0.01).at_least(first, 0.95);
    page.claim("scores are cosines").all(scores, |score| (-1.0..=1.0).contains(&score));
    page.claim("an updated id comes first for its new content").equals(new_content, changed);
    page.claim("and never for the old").equals(old_content, 0);
    page.claim("in an index that only grows it still does").equals(stale, changed);
    page.claim("removed ids never come back").all(gone.iter().flatten(), |hit| !removed.contains(&hit.id));
    page.claim("live and tombstones are all slots").all(counted, |held| held);
    page.claim("the rebuild drops what was replaced or removed").equals(rebuilt.dropped as u64, 2 * changed);
    page.claim("no search failed or came back short meanwhile").equals(short, 0);
    page.claim("same ten after the rebuild, exact").equals(kept_exact, 1.0);
    page.claim("same ten after the rebuild, graph").within(0.01).at_least(kept, 0.99);
    page.claim("the log gives back the same ids and answers, without the torn record")
        .equals((same_state, recovery.torn_bytes), (true, half - whole));
    page.finish()
}

fn flat(_: &Matrix) -> Result<Box<dyn VectorIndex>, AnnError> {
    Ok(Box::new(FlatIndex::new(DIM, Metric::Cosine)?))
}

fn graph(_: &Matrix) -> Result<Box<dyn VectorIndex>, AnnError> {
    let config = HnswConfig { ef_construction: 100, ef: 200, ..HnswConfig::default() };
    Ok(Box::new(Hnsw::new(DIM, Metric::Cosine, config)?))
}
