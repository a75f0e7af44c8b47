//! Listing 5.18: which examples meet in a batch decides who is a negative: far apart, of mixed difficulty, or from every domain.
//!
//! cargo run --release --example smart_batch_composition

use std::collections::BTreeSet;

use ch05_contrastive_learning::clusters::{CLUSTERS, POINTS, ZipfClusters};
use eas_losses::fixtures::PLANE;
use eas_losses::sampler::{difficulty_balanced, domain_balanced, domain_quotas, farthest_first};
use eas_report::{Chart, Table, num};
use eas_tensor::Matrix;
use eas_tensor::kernels::dot;
use eas_tensor::rng::SplitMix64;

const BATCH: usize = 64;
const DRAWS: u64 = 20;

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();

    page.section("Farthest first, and the nearest to the farthest");
    let plane = Matrix::from_rows(&PLANE)?;
    let right = farthest_first(&plane, 4, 0)?;
    let mistaken = farthest_from_the_farthest(&plane, 4, 0);
    let mut table = Table::new(["next is the row whose", "picks", "largest cosine of two of the first three"]);
    for (rule, picks) in [("largest cosine is smallest", &right), ("smallest cosine is smallest", &mistaken)] {
        table.row([rule.into(), format!("{picks:?}").into(), num(closest_pair(&plane, &picks[..3]), 6)]);
    }
    page.table("Eight points of the plane, from row 0", &table);
    page.text(
        "The book minimises the smallest cosine: it only asks to be far from one chosen row, and so collects neighbours of the \
         others. It also takes all cosines anew in each round; one running maximum a row is enough.",
    );

    page.section("Shares of a batch");
    let scores: Vec<f64> = (0..POINTS).map(|i| i as f64).collect();
    let mut table = Table::new(["batch", "of", "easy", "medium", "hard"]);
    let mut thirds = Vec::new();
    for (batch, of) in [(512, POINTS), (32, POINTS), (29, 30)] {
        let picks = difficulty_balanced(&scores[..of], batch, 0.3, 0.5, page.seed())?;
        let count = |from: usize, to: usize| picks.iter().filter(|&&i| (from..to).contains(&i)).count();
        let counts = [count(0, of / 3), count(of / 3, 2 * of / 3), count(2 * of / 3, of)];
        table.row([batch.into(), of.into()].into_iter().chain(counts.map(Into::into)));
        thirds.push((picks, counts));
    }
    page.table("30 % easy, 50 % medium, the rest hard; 29 of 30 needs more than the middle third has", &table);
    let sizes = [900, 90, 10];
    let quotas = domain_quotas(&sizes, BATCH)?;
    let floor = sizes.map(|size| size.min(BATCH / sizes.len()));
    let left = BATCH - floor.iter().sum::<usize>();
    // The rest at random from what no domain has given yet.
    let expected = |d: usize| left as f64 * (sizes[d] - floor[d]) as f64 / (1_000 - (BATCH - left)) as f64;
    let mut table =
        Table::new(["domain", "examples", "water-filling", "floor of equal shares", "and the rest at random"]);
    for d in 0..3 {
        let rest = num(floor[d] as f64 + expected(d), 1);
        table.row([d.into(), sizes[d].into(), quotas[d].into(), floor[d].into(), rest]);
    }
    page.table("64 examples of three domains", &table);

    page.section("What each does to the negatives");
    let world = ZipfClusters::new(page.seed_or(18))?;
    let names = ["random", "farthest first", "difficulty", "domain"];
    let mut table = Table::new(["batch", "clusters covered", "hardest cosine", "gradient norm"]);
    let (mut means, mut sound) = (Vec::new(), Vec::new());
    for name in names {
        let mut sums = [0.0; 3];
        for draw in 0..DRAWS {
            let mut rng = SplitMix64::stream(page.seed_or(18), draw);
            let seed = rng.next_u64();
            let picks = match name {
                "random" => rng.sample_indices(POINTS, BATCH),
                "farthest first" => farthest_first(&world.rows, BATCH, rng.below(POINTS))?,
                "difficulty" => difficulty_balanced(&world.difficulty, BATCH, 0.3, 0.5, seed)?,
                _ => domain_balanced(&world.clusters, BATCH, seed)?,
            };
            for (sum, value) in sums.iter_mut().zip(world.judge(&picks)?) {
                *sum += value / DRAWS as f64;
            }
            sound.push(picks.iter().collect::<BTreeSet<_>>().len() == BATCH && picks.len() == BATCH);
        }
        table.row([name.into(), num(sums[0], 1), num(sums[1], 3), num(sums[2], 4)]);
        means.push(sums);
    }
    page.table("3,000 points, 30 clusters of Zipf sizes, 64 a batch, mean of 20 draws", &table);
    let chart = Chart::bars("Batches of 64", "batch", "mean of 20 draws", names);
    let chart = chart.series("clusters covered / 30", means.iter().map(|m| m[0] / CLUSTERS as f64));
    page.chart("batches.svg", &chart.series("hardest cosine", means.iter().map(|m| m[1])))?;
    page.text(
        "The hardest cosine is an anchor's with its most similar negative. Batches that lie far apart cover the space, but their \
         negatives are easy and teach little; cover early, and mine harder ones later.",
    );

    page.claim("farthest first from row 0").equals(farthest_first(&plane, 5, 0)?, [0, 4, 2, 5, 7]);
    page.claim("and from row 2").equals(farthest_first(&plane, 5, 2)?, [2, 5, 0, 4, 7]);
    page.claim("the book's rule comes back to a neighbour").equals(&mistaken[..3], [0, 4, 1]);
    page.claim("its two closest picks").close(closest_pair(&plane, &mistaken[..3]), 0.979_804, 1e-6);
    page.claim("those of farthest first").close(closest_pair(&plane, &right[..3]), 0.099_504, 1e-6);
    page.claim("equals the definition on 200 random sets").all(0..200, |set| {
        let mut rng = SplitMix64::stream(7, set);
        let n = 2 + rng.below(20);
        let rows: Vec<Vec<f32>> = (0..n).map(|_| (0..3).map(|_| rng.normal() as f32).collect()).collect();
        let (k, start) = (1 + rng.below(n), rng.below(n));
        Matrix::from_rows(&rows)
            .is_ok_and(|rows| farthest_first(&rows, k, start).is_ok_and(|p| p == defined(&rows, k, start)))
    });
    let counts: Vec<[usize; 3]> = thirds.iter().map(|(_, counts)| *counts).collect();
    page.claim("easy, medium and hard of 512, 32 and 29").equals(counts, [[153, 256, 103], [9, 16, 7], [9, 10, 10]]);
    page.claim("water-filling quotas").equals(quotas, [27, 27, 10]);
    page.claim("64 different examples in every batch").all(sound, |sound| sound);
    page.claim("farthest first covers more clusters than random").greater(means[1][0], means[0][0] + 1.0);
    page.claim("one domain a cluster covers all of them").equals(means[3][0].round() as usize, CLUSTERS);
    page.claim("farthest first has easier negatives than random").less(means[1][1], means[0][1]);
    page.claim("and a smaller gradient").less(means[1][2], means[0][2]);
    page.claim("more than there is can't be asked for").fails(domain_quotas(&sizes, 1_001), "1001");
    page.finish()
}

fn unit(rows: &Matrix) -> Matrix {
    let mut unit = rows.clone();
    unit.normalize_rows();
    unit
}

/// The row that `score` of its cosines with the chosen rows makes smallest, again and again.
fn greedy(rows: &Matrix, k: usize, start: usize, score: impl Fn(f32, f32) -> f32) -> Vec<usize> {
    let rows = unit(rows);
    let mut chosen = vec![start];
    while chosen.len() < k {
        let of = |i: usize| chosen.iter().map(|&c| dot(rows.row(c), rows.row(i))).reduce(&score).unwrap_or(0.0);
        let open = (0..rows.rows()).filter(|i| !chosen.contains(i));
        chosen.extend(open.min_by(|&a, &b| of(a).total_cmp(&of(b))));
    }
    chosen
}

/// Farthest first, with every cosine taken anew.
fn defined(rows: &Matrix, k: usize, start: usize) -> Vec<usize> {
    greedy(rows, k, start, f32::max)
}

/// The book's rule.
fn farthest_from_the_farthest(rows: &Matrix, k: usize, start: usize) -> Vec<usize> {
    greedy(rows, k, start, f32::min)
}

fn closest_pair(rows: &Matrix, picks: &[usize]) -> f64 {
    let rows = unit(rows);
    let pairs = picks.iter().enumerate().flat_map(|(at, &i)| picks[..at].iter().map(move |&j| (i, j)));
    pairs.map(|(i, j)| f64::from(dot(rows.row(i), rows.row(j)))).fold(-1.0, f64::max)
}
