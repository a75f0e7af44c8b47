//! Listing 5.10: two views of each example for several ranks: who sees what, in which order, from which cache.
//!
//! cargo run --release --example two_view_dataset_loader

use std::collections::{BTreeMap, BTreeSet};

use ch05_contrastive_learning::two_views::{TwoViews, stream};
use eas_data::loader::Loader;
use eas_data::synth::Zipf;
use eas_data::wordnet::WordNet;
use eas_losses::sampler::ShardedSampler;
use eas_ops::cache::{Policy, replay};
use eas_report::{Table, pct};
use eas_tensor::rng::SplitMix64;

const WORLD: usize = 4;
const BATCH: usize = 64;

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let labels = eas_data::uci::digits()?.labels;
    let wordnet = WordNet::load()?;
    let seed = page.seed();
    let sampler =
        |rank, drop_last| ShardedSampler { len: labels.len(), world: WORLD, rank, seed, shuffle: true, drop_last };
    let loader = |workers| Loader::new(BATCH, workers);

    page.section("Who sees what");
    let mut table =
        Table::new(["ranks", "examples each", "all ranks", "seen twice", "left out", "batches", "dropped each"]);
    let mut counts = Vec::new();
    for (name, drop_last) in [("padded", false), ("truncated", true)] {
        let shards = (0..WORLD).map(|rank| sampler(rank, drop_last).epoch(0)).collect::<Result<Vec<_>, _>>()?;
        let total: usize = shards.iter().map(Vec::len).sum();
        let distinct = shards.iter().flatten().collect::<BTreeSet<_>>().len();
        let each = shards[0].len();
        let batches = loader(1)?.batches(each);
        let row = [each, total, total - distinct, labels.len() - distinct, batches, each - batches * BATCH];
        table.row(std::iter::once(name.into()).chain(row.map(Into::into)));
        counts.push(row);
    }
    page.table("1,797 digits on four ranks, batches of 64", &table);
    let first: Vec<usize> = sampler(0, false).epoch(0)?;
    let orders = (0..3).map(|epoch| sampler(0, false).epoch(epoch)).collect::<Result<Vec<_>, _>>()?;
    let frozen = ShardedSampler { shuffle: false, ..sampler(0, false) };
    let shared = |a: &[usize], b: &[usize]| a.iter().filter(|i| b.contains(i)).count();
    let mut table = Table::new(["rank 0", "first five examples", "shared with epoch 0"]);
    for (epoch, order) in orders.iter().enumerate() {
        let share = shared(order, &first) as f64 / first.len() as f64;
        table.row([format!("epoch {epoch}").into(), format!("{:?}", &order[..5]).into(), pct(share, 1)]);
    }
    page.table("Each epoch deals anew: a quarter of a rank's examples come back to it", &table);
    page.text("The book never sets the epoch, so its sampler deals the order of epoch 0 for ever.");

    page.section("Two views");
    let dataset = TwoViews::new(&labels, &wordnet, seed);
    let mut table = Table::new(["example", "view 1 (words dropped)", "view 2 (synonyms)"]);
    for &index in &first[..3] {
        let item = dataset.item(index, 0)?;
        table.row([index.into(), item.view1.into(), item.view2.into()]);
    }
    page.table("Epoch 0, rank 0", &table);
    let mut runs = Vec::new();
    for (workers, epoch) in [(1, 0), (4, 0), (4, 1)] {
        let order = sampler(0, false).epoch(0)?;
        let mut items = Vec::new();
        let load = |index| dataset.item(index, epoch);
        page.timed(format!("450 examples, {workers} workers"), || {
            loader(workers)?.run(&order, load, |batch| {
                items.extend(batch);
                Ok(())
            })
        })?;
        runs.push(items);
    }
    let originals = first.iter().map(|&index| dataset.original(index)).collect::<Vec<_>>();
    let whole = runs[0].iter().zip(&originals).all(|(item, original)| item.original == *original);

    // A generator that each worker copies, and one stream an example.
    let mut table = Table::new(["randomness", "draws", "distinct"]);
    let copied: Vec<u64> = (0..4).flat_map(|_| draws(SplitMix64::new(seed), 100)).collect();
    let own: Vec<u64> = (0..400).map(|index| stream(seed, 0, index, 0).next_u64()).collect();
    let distinct = |draws: &[u64]| draws.iter().collect::<BTreeSet<_>>().len();
    table.row(["a global generator, copied into 4 workers".into(), copied.len().into(), distinct(&copied).into()]);
    table.row(["a stream of (seed, epoch, example, view)".into(), own.len().into(), distinct(&own).into()]);
    page.table("The first draw of 400 views", &table);

    page.section("A cache that is what it says");
    let zipf = Zipf::new(labels.len(), 1.2)?.trace(seed, page.size(50_000, 1_000_000));
    let mut table = Table::new(["trace", "capacity", "accesses", "first in, first out", "least recently used"]);
    let mut hits = BTreeMap::new();
    let short = [1, 2, 3, 1, 4, 1, 2].to_vec();
    for (name, capacity, trace) in
        [("1 2 3 1 4 1 2", 3, &short), ("Zipf 1.2", 50, &zipf), ("Zipf 1.2", 200, &zipf), ("Zipf 1.2", 800, &zipf)]
    {
        let [fifo, lru] = [Policy::Fifo, Policy::Lru].map(|policy| replay(trace, capacity, policy).hits);
        let share = |hits: u64| pct(hits as f64 / trace.len() as f64, 1);
        table.row([name.into(), capacity.into(), trace.len().into(), share(fifo), share(lru)]);
        hits.insert(capacity, (fifo, lru));
    }
    page.table("Hits. The book calls its cache LRU-style; it forgets the oldest entry", &table);

    page.claim("padded: each, all, twice, left out, batches, dropped").equals(counts[0], [450, 1_800, 3, 0, 7, 2]);
    page.claim("truncated: nobody twice, one left out").equals(counts[1], [449, 1_796, 0, 1, 7, 1]);
    page.claim("two epochs differ in order").equals(orders[0] == orders[1] || orders[1] == orders[2], false);
    page.claim("and the same epoch repeats").equals(&sampler(0, false).epoch(1)?, &orders[1]);
    page.claim("without shuffling there is one order").equals(frozen.epoch(0)?, frozen.epoch(7)?);
    page.claim("1 and 4 workers give the same views in the same order").equals(runs[0] == runs[1], true);
    page.claim("another epoch gives others").equals(runs[0] == runs[2], false);
    page.claim("seven batches of 64, each example as it is stored").equals((runs[0].len(), whole), (448, true));
    page.claim("a copied generator repeats its draws in each worker").equals(distinct(&copied), 100);
    page.claim("a stream an example doesn't").equals(distinct(&own), 400);
    page.claim("hits of the short trace, FIFO and LRU").equals(hits[&3], (1, 2));
    page.claim("LRU hits at least as often on the Zipf trace").all(&hits, |(_, (fifo, lru))| lru >= fifo);
    let beyond = ShardedSampler { rank: 4, ..sampler(0, false) };
    page.claim("a rank beyond the world is refused").fails(beyond.epoch(0), "rank 4");
    page.finish()
}

fn draws(mut rng: SplitMix64, n: usize) -> Vec<u64> {
    (0..n).map(|_| rng.next_u64()).collect()
}
