//! Listing 5.13: hard negatives from the whole corpus. Encode it, index it, mine, train, and mine again with the better encoder.
//!
//! cargo run --release --example offline_ann_hard_negatives

use std::collections::BTreeMap;

use ch05_contrastive_learning::families::FamilyWorld;
use ch05_contrastive_learning::offline::{Cycle, REFRESH, index_error};
use eas_ann::hard_negatives::{Corpus, OfflineMiner};
use eas_ann::{FlatIndex, IvfConfig, IvfIndex, Metric, VectorIndex, recall};
use eas_data::synth::vectors::manifold;
use eas_data::wordnet::WordNet;
use eas_report::{Chart, Table, num};
use eas_text::encoder::{SentenceEncoder, StaticEncoder};

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();

    page.section("1,797 digits: what gets mined when the positives aren't known");
    let digits = eas_data::uci::digits()?;
    let ids: Vec<u64> = (0..digits.features.rows() as u64).collect();
    let same = |a: u64, b: u64| digits.labels[a as usize] == digits.labels[b as usize];
    let corpus = |k| OfflineMiner { k, ..OfflineMiner::default() }.index(&ids, &digits.features);
    let unaware = corpus(10)?.mine(&ids, &digits.features, &|_, _| false)?;
    // The book searches k + 10 and drops the positives from what it finds.
    let wide = corpus(20)?.mine(&ids, &digits.features, &|_, _| false)?;
    let left: Vec<usize> =
        (0..ids.len()).map(|i| wide.lists[i].iter().filter(|hit| !same(ids[i], hit.id)).count()).collect();
    let mined = corpus(10)?.mine(&ids, &digits.features, &same)?;
    let share = |keep: &dyn Fn(usize) -> bool| (0..ids.len()).filter(|&i| keep(i)).count() as f64 / ids.len() as f64;
    let positives = unaware.lists.iter().zip(&ids).flat_map(|(list, &id)| list.iter().map(move |hit| (id, hit.id)));
    let positives = positives.filter(|&(id, other)| same(id, other)).count() as f64 / (10 * ids.len()) as f64;
    let first_positive = share(&|i| same(ids[i], unaware.lists[i][0].id));
    let (short, none) = (share(&|i| left[i] < 10), share(&|i| left[i] == 0));
    let mean_left = left.iter().sum::<usize>() as f64 / left.len() as f64;
    let mut table = Table::new(["mining", "what", "share or mean"]);
    for (how, what, value, decimals) in [
        ("positives not passed on", "of the 10 mined are positives", positives, 4),
        ("", "of the first ones are", first_positive, 4),
        ("k + 10 searched", "lists of fewer than 10", short, 4),
        ("", "lists of none", none, 4),
        ("", "negatives in a list, mean", mean_left, 3),
        ("filter inside the search", "lists of fewer than 10", mined.short.len() as f64, 4),
    ] {
        table.row([how.into(), what.into(), num(value, decimals)]);
    }
    page.table("Cosine of the pixels; digits of one label are each other's positives", &table);
    let hardest: Vec<f64> = mined.lists.iter().map(|list| f64::from(list[0].score)).collect();
    let mean_hardest = hardest.iter().sum::<f64>() / hardest.len() as f64;
    let mean_negative = mean_cosine_of_different(&digits.features, &digits.labels);
    let mut pairs: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    for (i, list) in mined.lists.iter().enumerate() {
        let (a, b) = (digits.labels[i], digits.labels[list[0].id as usize]);
        *pairs.entry((a.min(b), a.max(b))).or_default() += 1;
    }
    let mut pairs: Vec<_> = pairs.into_iter().collect();
    pairs.sort_by_key(|(pair, count)| (usize::MAX - count, *pair));
    let named: Vec<String> = pairs[..5].iter().map(|((a, b), count)| format!("{a} and {b} {count}")).collect();
    page.text(format!(
        "Hardest negatives have a mean cosine of {mean_hardest:.4}, all negatives {mean_negative:.4}. Most confused: {}.",
        named.join(", ")
    ));

    page.section("The cycle");
    let world = FamilyWorld::new(page.seed_or(5))?;
    let cycle = Cycle { ids: 1_000, steps: 400, batch: 64, seed: page.seed() };
    let all: Vec<u64> = (0..1_000).collect();
    let (mut broken, mut log) = (0, Vec::new());
    let trained = cycle.train(&world, |encoder, step| {
        let rows = cycle.collection(&world, encoder, step)?;
        let corpus = OfflineMiner::default().index(&all, &rows).map_err(index_error)?;
        let mined = corpus.mine(&all, &rows, &|_, _| false).map_err(index_error)?;
        broken +=
            mined.short.len() + mined.lists.iter().zip(&all).filter(|(l, id)| l.iter().any(|h| h.id == **id)).count();
        let sibling = |(id, list): (&u64, &Vec<eas_ann::Hit>)| list.iter().filter(|h| h.id / 5 == id / 5).count();
        let siblings = all.iter().zip(&mined.lists).map(sibling).sum::<usize>() as f64 / 4_000.0;
        log.push((step, siblings, world.recall_at_1(encoder)?));
        Ok(mined.lists.iter().map(|list| list.iter().map(|hit| hit.id as u32).collect()).collect())
    })?;
    let offline = world.recall_at_1(&trained)?;
    let random = world.recall_at_1(&cycle.train(&world, |_, _| Ok(vec![Vec::new(); 1_000]))?)?;
    let mut table = Table::new(["step", "siblings mined", "recall@1"]);
    for &(step, siblings, recall) in &log {
        table.row([step.into(), num(siblings, 3), num(recall, 3)]);
    }
    page.table("1,000 items, mined anew every 50 steps of 64 triplets, k = 10", &table);
    page.text(format!(
        "After {} steps and {} minings an item finds itself among 1,000 with {offline:.3}, after as many with random negatives with \
         {random:.3}: siblings are what an item is mistaken for, and one negative in 250 is one.",
        cycle.steps,
        cycle.steps as u64 / REFRESH
    ));
    let chart = Chart::lines("Offline mining", "step", "recall@1")
        .series("mined", log.iter().map(|&(step, _, recall)| (step, recall)).chain([(cycle.steps as u64, offline)]))
        .level("random negatives at the end", random);
    page.chart("cycle.svg", &chart)?;

    page.section("An inverted file instead of every vector");
    let vectors = manifold(page.seed_or(13), 20_000, 32, 8, 0.1);
    let anchors: Vec<u64> = (0..20_000).step_by(20).collect();
    let rows = vectors.select(&anchors.iter().map(|&id| id as usize).collect::<Vec<_>>());
    let everything: Vec<u64> = (0..20_000).collect();
    let mine = |index: Box<dyn VectorIndex>| Corpus::new(index, 10).mine(&anchors, &rows, &|_, _| false);
    let mut flat = FlatIndex::new(32, Metric::Cosine)?;
    flat.add(&everything, &vectors)?;
    let exact = mine(Box::new(flat))?;
    let lists = 20_000_usize.isqrt();
    let mut ivf = IvfIndex::train(&vectors, Metric::Cosine, IvfConfig { lists, ..IvfConfig::default() })?;
    ivf.add(&everything, &vectors)?;
    let mut table = Table::new(["nprobe", "of the exact negatives"]);
    let mut overlaps = Vec::new();
    for nprobe in [1, 2, 4, lists / 16, 16, 32, 64] {
        ivf.set_nprobe(nprobe)?;
        let overlap = recall(&mine(Box::new(ivf.clone()))?.lists, &exact.lists);
        table.row([nprobe.into(), num(overlap, 4)]);
        overlaps.push((nprobe, overlap));
    }
    page.table("20,000 vectors near a sheet of 8 dimensions, 141 lists; nprobe is 8 by default", &table);

    if page.full() {
        page.section("117,659 glosses");
        let wordnet = WordNet::load()?;
        let glosses: Vec<&str> = wordnet.synsets().iter().map(|synset| synset.gloss.as_str()).collect();
        let rows = StaticEncoder::load()?.encode(&glosses)?;
        let ids: Vec<u64> = (0..glosses.len() as u64).collect();
        let asked: Vec<usize> = (0..glosses.len()).step_by(glosses.len() / 5).take(5).collect();
        let corpus = OfflineMiner { k: 1, ..OfflineMiner::default() }.index(&ids, &rows)?;
        let asked_ids: Vec<u64> = asked.iter().map(|&i| i as u64).collect();
        let mined = corpus.mine(&asked_ids, &rows.select(&asked), &|_, _| false)?;
        for (&i, list) in asked.iter().zip(&mined.lists) {
            page.text(format!("{}\n  hardest: {}", glosses[i], glosses[list[0].id as usize]));
        }
    }

    let found = [positives, first_positive, short, none].map(|x| (x * 1e4).round() / 1e4);
    page.claim("positives mined; short and empty lists").equals(found, [0.9628, 0.9889, 0.9610, 0.7078]);
    page.claim("negatives that the book finds for a digit").close(mean_left, 1.254, 5e-4);
    page.claim("with the filter inside every list is full").equals(mined.short.len(), 0);
    let clean = mined.lists.iter().zip(&ids).flat_map(|(list, &id)| list.iter().map(move |hit| (id, hit.id)));
    page.claim("and without a positive").all(clean, |(id, other)| id != other && !same(id, other));
    let first: Vec<u64> = mined.lists[..5].iter().map(|list| list[0].id).collect();
    page.claim("hardest negatives of digits 0 to 4").equals(first, [1543, 123, 277, 378, 1609]);
    let known = [0.861250, 0.896446, 0.917978, 0.885586, 0.853242];
    page.claim("their cosines").all(hardest.iter().zip(known), |(x, y)| (x - y).abs() < 1e-6);
    page.claim("mean cosine of the hardest").close(mean_hardest, 0.887_899_9, 1e-6);
    page.claim("and of all negatives").close(mean_negative, 0.673_689_0, 1e-6);
    let confused = [((3, 9), 185), ((1, 8), 179), ((5, 9), 135), ((0, 9), 106), ((8, 9), 91)];
    page.claim("most confused").equals(&pairs[..5], confused);
    page.claim("mined triplets find the item").at_least(offline, 0.95);
    page.claim("random ones don't").at_most(random, 0.60);
    page.claim("lists that are short or have the anchor, in all minings").equals(broken, 0);
    page.claim("the inverted file's overlap at its default").at_least(overlaps[3].1, 0.9);
    page.claim("rises with nprobe").all(overlaps.windows(2), |w| w[0].1 <= w[1].1);
    page.finish()
}

/// The mean cosine of rows with different labels, from the sums of unit rows: of all, less those within each label.
fn mean_cosine_of_different(rows: &eas_tensor::Matrix, labels: &[usize]) -> f64 {
    let mut unit = rows.clone();
    unit.normalize_rows();
    let square = |keep: &dyn Fn(usize) -> bool| -> (f64, f64) {
        let kept: Vec<usize> = (0..labels.len()).filter(|&i| keep(labels[i])).collect();
        let sum = |d: usize| kept.iter().map(|&i| f64::from(unit.row(i)[d])).sum::<f64>();
        ((0..unit.dim()).map(|d| sum(d).powi(2)).sum(), (kept.len() as f64).powi(2))
    };
    let within = (0..10).map(|label| square(&|l| l == label));
    let (total, count) = within.fold(square(&|_| true), |all, one| (all.0 - one.0, all.1 - one.1));
    total / count
}
