//! Listing 6.6: batches of P classes with K examples each, so that every example meets a positive.
//!
//! cargo run --release --example pk_balanced_batch_sampler

use std::collections::{BTreeMap, BTreeSet};

use ch06_siamese_networks::digits::Digits;
use eas_losses::sampler::{PkSampler, TripletCounts};
use eas_report::{Chart, Table, num, pct};
use eas_tensor::rng::SplitMix64;

const P: usize = 10;
const K: usize = 5;

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let seed = page.seed();

    let mut table = Table::new(["P x K", "rows", "positive pairs", "ordered", "triplets", "for"]);
    let mut counts = Vec::new();
    for (p, k, size) in [(16, 8, "small models"), (10, 5, "medium models"), (8, 4, "large models")] {
        let TripletCounts { positive_pairs, ordered_pairs, triplets } = TripletCounts::new(p, k);
        let numbers = [(p * k).into(), positive_pairs.into(), ordered_pairs.into(), triplets.into()];
        table.row([format!("{p} x {k}").into()].into_iter().chain(numbers).chain([size.into()]));
        counts.push([positive_pairs, ordered_pairs, triplets]);
    }
    page.table("What a batch holds", &table);

    page.section("All digits in an epoch");
    let digits = Digits::load()?;
    let labels = [digits.train_labels.clone(), digits.test_labels.clone()].concat();
    let sampler = PkSampler::new(&labels, P, K, None, seed)?;
    let batches: Vec<Vec<usize>> = sampler.epoch(0).collect();
    let shapes: Vec<BTreeMap<u32, usize>> = batches.iter().map(|batch| class_sizes(batch, &labels)).collect();
    let distinct: Vec<usize> = batches.iter().map(|batch| batch.iter().collect::<BTreeSet<_>>().len()).collect();
    let mut draws = vec![0_usize; labels.len()];
    batches.iter().flatten().for_each(|&i| draws[i] += 1);
    let mut by_class = vec![0; 10];
    draws.iter().zip(&labels).for_each(|(n, &class)| by_class[class as usize] += n);
    let seen = draws.iter().filter(|&&n| n > 0).count();
    // The book's sampler deals each class once an epoch.
    let book = PkSampler::new(&labels, P, K, Some(1), seed)?.epoch(0).map(|batch| batch.len()).sum::<usize>();
    let mut table = Table::new(["sampler", "batches", "digits seen", "of 1,797", "seen twice"]);
    let twice = draws.iter().filter(|&&n| n == 2).count();
    let share = |n: usize| pct(n as f64 / labels.len() as f64, 1);
    table.row(["each class once, as in the book".into(), 1.into(), book.into(), share(book), 0.into()]);
    let ours = [batches.len().into(), seen.into(), share(seen), twice.into()];
    table.row(["each class in shuffled cycles".into()].into_iter().chain(ours));
    page.table("10 x 5, one epoch", &table);
    page.text(format!(
        "36 batches draw 180 rows of every digit. Five digits have 180 rows or fewer and are seen whole, some twice; of the others the \
         rest waits for another epoch. Draws by digit: {by_class:?}.",
    ));

    page.section("Who meets a positive?");
    // 200 classes of 20, as the glyphs of listing 6.8, and classes whose sizes fall off as 1 / rank.
    let glyphs: Vec<u32> = (0..4_000).map(|i| i / 20).collect();
    let zipf: Vec<u32> = (1..=200_u32).flat_map(|rank| std::iter::repeat_n(rank - 1, (400 / rank) as usize)).collect();
    let small = class_sizes(&(0..zipf.len()).collect::<Vec<_>>(), &zipf).values().filter(|&&n| n < K).count();
    let mut table = Table::new(["classes", "batch", "rows with a positive", "classes in 400 batches"]);
    let mut chart = Chart::lines("Zipf-sized classes", "class, by size", "mean rows of it in a batch").log_x().log_y();
    let mut valid = Vec::new();
    for (name, labels) in [("200 x 20", &glyphs), ("Zipf, 400 to 2", &zipf)] {
        let mut rng = SplitMix64::stream(seed, 1);
        let random = (0..400).map(|_| rng.sample_indices(labels.len(), P * K)).collect::<Vec<_>>();
        let balanced = PkSampler::new(labels, P, K, Some(400), seed)?.epoch(0).collect::<Vec<_>>();
        for (kind, batches) in [("random 50", random), ("10 x 5", balanced)] {
            let met = batches.iter().map(|batch| valid_anchors(batch, labels)).sum::<f64>() / 400.0;
            let used = class_sizes(&batches.concat(), labels);
            table.row([name.into(), kind.into(), num(met, 3), used.len().into()]);
            if name.starts_with("Zipf") {
                let rows = used.iter().map(|(&class, &n)| (f64::from(class + 1), n as f64 / 400.0));
                chart = chart.series(kind, rows.collect::<Vec<_>>());
            }
            valid.push(met);
        }
    }
    page.table("An anchor without a positive teaches a triplet loss nothing", &table);
    page.chart("zipf.svg", &chart)?;
    page.text(format!(
        "Balanced batches leave out the {small} classes of fewer than five rows. Of the others a large one comes more often, being \
         weighted by what is left of its cycle, but never fills a batch.",
    ));
    // None of 49 other rows, drawn from 3,999 without replacement, is one of the 19 of the class.
    let expected = 1.0 - (0..49).map(|i| f64::from(3_980 - i) / f64::from(3_999 - i)).product::<f64>();
    let too_few = PkSampler::new(&[0, 0, 0, 1, 1, 2], 2, 3, None, seed).map(|sampler| sampler.len());
    let again: Vec<Vec<usize>> = sampler.epoch(0).collect();
    let next: Vec<Vec<usize>> = sampler.epoch(1).collect();

    page.claim("pairs, ordered pairs and triplets of 16 x 8, 10 x 5, 8 x 4")
        .equals(counts, [[448, 896, 107_520], [100, 200, 9_000], [48, 96, 2_688]]);
    page.claim("each batch has exactly 10 classes of 5").all(&shapes, |s| s.len() == P && s.values().all(|&n| n == K));
    page.claim("of 50 different rows").all(distinct, |n| n == P * K);
    page.claim("an epoch has as many batches as it says").equals(batches.len(), sampler.len());
    page.claim("36 of them").equals(batches.len(), 36);
    page.claim("with 180 draws a digit").equals(by_class, [180; 10]);
    page.claim("1,788 of 1,797 digits are seen").equals(seen, 1_788);
    page.claim("none more than twice").all(draws, |n| n <= 2);
    page.claim("the book's epoch sees 50").equals(book, 50);
    page.claim("in balanced batches every row has a positive").equals([valid[1], valid[3]], [1.0; 2]);
    page.claim("of a random batch over 200 classes fewer than a quarter have one").less(valid[0], 0.25);
    page.claim("as many as chance says").close(valid[0], expected, 0.01);
    page.claim("an epoch can be repeated, and the next is another").all([again == batches, next != batches], |yes| yes);
    page.claim("too few classes of K rows are refused").fails(too_few, "1 of 3 classes have that many");
    page.finish()
}

/// How many of the rows are of each class.
fn class_sizes(rows: &[usize], labels: &[u32]) -> BTreeMap<u32, usize> {
    let mut sizes = BTreeMap::new();
    for &i in rows {
        *sizes.entry(labels[i]).or_default() += 1;
    }
    sizes
}

/// The share of a batch's rows that share their class with another row of it.
fn valid_anchors(batch: &[usize], labels: &[u32]) -> f64 {
    let sizes = class_sizes(batch, labels);
    batch.iter().filter(|&&i| sizes[&labels[i]] > 1).count() as f64 / batch.len() as f64
}
