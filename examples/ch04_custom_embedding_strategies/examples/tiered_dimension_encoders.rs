//! Listing 4.19: popular items at full size, rare ones as prefixes, and why merging the tiers needs calibrated scores.
//!
//! cargo run --release --example tiered_dimension_encoders

use eas_data::synth::Zipf;
use eas_pipeline::tiering::{Merge, Tier, TierPolicy, TieredIndex};
use eas_report::{Table, num, pct};
use eas_tensor::Matrix;
use eas_tensor::kernels::norm;
use eas_tensor::pca::Pca;
use eas_tensor::rng::SplitMix64;
use eas_text::glosses::gloss_vectors;

const K: usize = 10;
const PER_TIER: usize = 30;
/// Of 768 dimensions the book keeps all, a half and a sixth.
const SHARES: [(f64, f64); 3] = [(0.01, 1.0), (0.09, 0.5), (0.9, 1.0 / 6.0)];

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let listed: f64 = SHARES.iter().map(|(items, dims)| items * 768.0 * dims).sum();
    page.text(format!(
        "1 % of the items at 768 dimensions, 9 % at 384 and 90 % at 128 take {listed:.2} dimensions on average, a saving of {:.1} %; \
         all at 128 would save {:.2} %.",
        100.0 * (1.0 - listed / 768.0),
        100.0 * (1.0 - 1.0 / 6.0)
    ));

    page.section("Known items among 6,000 glosses");
    let encoder = eas_text::encoder::load(page.encoder().name())?;
    let n = page.size(6_000, 60_000);
    let items = gloss_vectors(encoder.as_ref(), n, 1, page.seed())?.0;
    let full = items.dim();
    let dims = [full, full / 2, full / 6 + usize::from(full % 6 > 2)];
    let pca = Pca::fit(&items, full)?;
    let rotated = pca.transform(&items)?;

    // Row i is the i-th most popular item.
    let mut rng = SplitMix64::new(page.seed());
    let popularity = Zipf::new(n, 1.1)?;
    let mut queries = Matrix::zeros(2_000, full);
    let mut wanted = Vec::with_capacity(2_000);
    for i in 0..queries.rows() {
        let item = popularity.sample(&mut rng);
        let noise: Vec<f32> = (0..full).map(|_| rng.normal() as f32).collect();
        let length = norm(&noise);
        let noisy: Vec<f32> = items.row(item).iter().zip(&noise).map(|(x, u)| x + 1.5 * u / length).collect();
        let length = norm(&noisy);
        queries.row_mut(i).iter_mut().zip(&noisy).for_each(|(to, x)| *to = x / length);
        wanted.push(item);
    }
    let queries = pca.transform(&queries)?;
    let cut = |share: f64| (share * n as f64).round() as usize;
    let tier_of = |item: usize| match item {
        i if i < cut(0.01) => Tier::Hot,
        i if i < cut(0.1) => Tier::Warm,
        _ => Tier::Cold,
    };
    let tiers: Vec<Tier> = (0..n).map(tier_of).collect();
    let policy = TierPolicy::default();
    let build = |dims| TieredIndex::new(&rotated, tiers.clone(), dims, policy);
    let tiered = build(dims)?;

    let mut table = Table::new(["stored", "merged by", "bytes", "all", "hot", "warm", "cold"]);
    let mut shares = Vec::new();
    for (stored, dims, merge) in [
        ("all full", [dims[0]; 3], Merge::RawCosine),
        ("all coldest", [dims[2]; 3], Merge::RawCosine),
        ("in tiers", dims, Merge::RawCosine),
        ("in tiers", dims, Merge::ZScore),
        ("in tiers", dims, Merge::Rescore),
    ] {
        let index = build(dims)?;
        let (mut found, mut asked) = ([0.0; 4], [0.0; 4]);
        for (query, &item) in queries.iter_rows().zip(&wanted) {
            let hit = f64::from(index.search(query, K, PER_TIER, merge)?.contains(&item));
            for at in [0, 1 + tiers[item] as usize] {
                found[at] += hit;
                asked[at] += 1.0;
            }
        }
        let rates: Vec<f64> = found.iter().zip(asked).map(|(found, asked)| found / asked).collect();
        let bytes = index.bytes() as f64 / (4 * n * full) as f64;
        let cells = rates.iter().map(|&rate| num(rate, 3).within(0.01));
        table.row([stored.into(), format!("{merge:?}").into(), pct(bytes, 2)].into_iter().chain(cells));
        shares.push((rates, asked[1] / asked[0]));
    }
    page.table("Share of 2,000 queries whose item is among the first ten, by its tier", &table);
    page.text(
        "A cosine over few dimensions spreads wider, so that the best of 5,400 short vectors beat the right long one. Measured \
         in standard deviations of its own tier and query, a score means the same in all three.",
    );

    page.section("Items that move");
    let mut table =
        Table::new(["day", "queries a day of items 0, 1 and 2", "promoted", "demoted", "without hysteresis"]);
    let trace = [
        [1_500.0, 950.0, 4.0],
        [1_100.0, 1_050.0, 11.0],
        [900.0, 990.0, 9.0],
        [790.0, 1_010.0, 11.0],
        [300.0, 995.0, 7.9],
    ];
    let small = rotated.select(&[0, 1, 2]);
    let mut index = TieredIndex::new(&small, trace[0].map(|rate| policy.place(rate)).to_vec(), dims, policy)?;
    let plain = TierPolicy { hysteresis: 0.0, ..policy };
    let mut flapping = TieredIndex::new(&small, index.tiers().to_vec(), dims, plain)?;
    let (mut moved, mut flaps) = (Vec::new(), 0);
    for (day, rates) in trace.iter().enumerate().skip(1) {
        let moves = index.retier(rates, &small)?;
        let other = flapping.retier(rates, &small)?;
        let count = other.promoted.len() + other.demoted.len();
        flaps += count;
        let list = |items: &[usize]| format!("{items:?}");
        let (up, down) = (list(&moves.promoted), list(&moves.demoted));
        table.row([day.into(), format!("{rates:?}").into(), up.into(), down.into(), format!("{count} moves").into()]);
        moved.push((moves.promoted, moves.demoted));
    }
    page.table("Up at a threshold, down at 20 % below it", &table);
    let moves: usize = moved.iter().map(|(up, down)| up.len() + down.len()).sum();

    let bytes = tiered.bytes() as f64 / (4 * n * full) as f64;
    let [all_full, all_cold, raw, z, _] = &shares[..] else { anyhow::bail!("five ways") };
    page.claim("the book's mix takes this many of 768 dimensions").close(listed, 157.44, 1e-9);
    page.claim("which saves 79.5 %").close(1.0 - listed / 768.0, 0.795, 1e-9);
    page.claim("here the tiers take this share of the bytes").close(bytes, 0.206_171_9, 1e-6);
    page.claim("full vectors find every item").at_least(all_full.0[0], 0.99);
    page.claim("one short size for all loses few").at_least(all_cold.0[0], 0.95);
    page.claim("merged by z-score the tiers find nearly all").at_least(z.0[0], 0.97);
    page.claim("raw cosines lose more").less(raw.0[0], z.0[0] - 0.05);
    page.claim("and lose the hot items most").less(raw.0[1], raw.0[3]);
    page.claim("although most queries want those").close(z.1, 0.64, 0.05);
    page.claim("moves of the four days")
        .equals(moved, [(vec![1, 2], vec![]), (vec![], vec![]), (vec![], vec![0]), (vec![], vec![2])]);
    page.claim("without hysteresis there are twice as many or more").at_least(flaps, 2 * moves);
    page.claim("a query of too few dimensions is refused")
        .fails(tiered.search(&[1.0; 8], K, PER_TIER, Merge::ZScore), "dimension");
    page.finish()
}
