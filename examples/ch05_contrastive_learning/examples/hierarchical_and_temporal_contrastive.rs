//! Listing 5.9: graded positives: likeness falls with the distance in a tree, or with the distance in time, instead of being yes or no.
//!
//! cargo run --release --example hierarchical_and_temporal_contrastive

use candle_core::{DType, Device, Tensor};
use ch05_contrastive_learning::families::{tensor, train};
use ch05_contrastive_learning::graded::{Items, calendar, tree};
use eas_eval::correlation::spearman;
use eas_losses::supervised::{Averaging, WeightedSupCon, temporal_similarity};
use eas_losses::{NtXent, PairLayout, fixtures};
use eas_nn::encoders::{Encoder, Mlp};
use eas_nn::params::Parameters;
use eas_report::{Chart, Table, num};
use eas_tensor::rng::SplitMix64;
use eas_tensor::{Matrix, gemm};

const RELATIONS: [&str; 4] = ["same leaf", "same parent", "same grandparent", "other"];
/// Half-life of likeness, in days.
const HALF_LIFE: f64 = 30.0;

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let seed = page.seed_or(5);

    page.section("The losses on fixture T");
    let t = fixtures::tiny(DType::F64, &Device::Cpu)?;
    let both = Tensor::cat(&[&t.anchors, &t.positives], 0)?;
    let (parents, leaves) = ([0, 0, 1, 1, 0, 0, 1, 1], [0, 1, 2, 3, 0, 1, 2, 3]);
    let tree_loss = |temperature, weights: &[f64], averaging| -> anyhow::Result<f64> {
        let loss = WeightedSupCon { temperature, weights: weights.to_vec(), averaging };
        Ok(loss.forward(&both, &[&leaves[..], &parents[..]])?.to_scalar()?)
    };
    let mut table = Table::new(["averaged", "at .1", "at .5"]);
    let mut losses = Vec::new();
    for averaging in [Averaging::PerPair, Averaging::PerLevel] {
        let row = [tree_loss(0.1, &[1.0, 0.5], averaging)?, tree_loss(0.5, &[1.0, 0.5], averaging)?];
        table.row([format!("{averaging:?}").into()].into_iter().chain(row.map(|x| num(x, 6))));
        losses.extend(row);
    }
    page.table("Two parents of two leaves, two rows a leaf; weight 1 for a leaf mate, 1/2 for a parent mate", &table);
    let leaf_only = tree_loss(0.5, &[1.0, 0.0], Averaging::PerLevel)?;
    let twins = NtXent { temperature: 0.5, layout: PairLayout::Halves }.forward(&both)?.loss.to_scalar::<f64>()?;
    let dated = temporal_similarity(&t.anchors, &[0.0, 10.0, 30.0, 90.0], HALF_LIFE)?.to_scalar::<f64>()?;
    // With the diagonal, whose error is 0, the mean of the 12 pairs is spread over 16; with exp(-dt / 30) it isn't a half-life.
    let e_folding = HALF_LIFE * 2f64.ln();
    let diluted =
        temporal_similarity(&t.anchors, &[0.0, 10.0, 30.0, 90.0], e_folding)?.to_scalar::<f64>()? * 12.0 / 16.0;
    page.text(format!(
        "In time, cosines should be 2^(-days / 30): {dated:.6} on days 0, 10, 30, 90. The book's exp(-days / 30) halves in \
         {e_folding:.3} days, and its mean over the diagonal too dilutes the loss to {diluted:.6}."
    ));

    page.section("A tree");
    let [train_items, test_items] = tree(seed)?;
    let mut table = Table::new(["trained with"].into_iter().chain(RELATIONS));
    let mut means = vec![relation_means(&test_items, &test_items.rows)?];
    table.row(["nothing: raw cosine".into()].into_iter().chain(means[0].map(|x| num(x, 3))));
    for (name, weights, averaging) in [
        ("each level's mean", [1.0, 0.5, 0.25], Averaging::PerLevel),
        ("each pair", [1.0, 0.5, 0.25], Averaging::PerPair),
        ("leaf mates alone", [1.0, 0.0, 0.0], Averaging::PerLevel),
    ] {
        let mut params = Parameters::new(1, &Device::Cpu);
        let encoder = Mlp::new(&mut params, "tree", 40, 96, 32)?;
        let loss = WeightedSupCon { temperature: 0.2, weights: weights.to_vec(), averaging };
        train(&params, page.size(300, 1_000), 3e-3, |step| {
            let picks = SplitMix64::stream(seed ^ 1, step).sample_indices(train_items.rows.rows(), 256);
            let of = |level: usize| picks.iter().map(|&i| train_items.labels[level][i]).collect::<Vec<u32>>();
            let rows = encoder.forward(&tensor(&train_items.rows.select(&picks))?)?;
            Ok(loss.forward(&rows, &[&of(0), &of(1), &of(2)])?)
        })?;
        let mean = relation_means(&test_items, &encoder.encode(&tensor(&test_items.rows)?)?)?;
        table.row([name.into()].into_iter().chain(mean.map(|x| num(x, 3).within(0.01))));
        means.push(mean);
    }
    page.table("Mean cosine of held-out items by their relation; 6 grandparents of 4 parents of 5 leaves", &table);
    page.text("Averaged over pairs, the 15 leaves under other parents swamp the one leaf, and leaf and parent mates look alike.");
    let names = ["raw", "per level", "per pair", "leaves"];
    let chart = Chart::bars("Cosine by relation in the tree", "relation", "mean cosine", RELATIONS);
    page.chart("tree.svg", &means.iter().zip(names).fold(chart, |chart, (m, name)| chart.series(name, *m)))?;

    page.section("Time");
    let (rows, days) = calendar(600, seed)?;
    let (learn, judge): (Vec<usize>, Vec<usize>) = (0..600).partition(|&i| i < 400);
    let mut params = Parameters::new(1, &Device::Cpu);
    let encoder = Mlp::new(&mut params, "time", 16, 64, 32)?;
    let test_days: Vec<f64> = judge.iter().map(|&i| days[i]).collect();
    let test_rows = rows.select(&judge);
    let before = time_quality(&encoder.encode(&tensor(&test_rows)?)?, &test_days)?;
    train(&params, page.size(400, 1_000), 3e-3, |step| {
        let picks: Vec<usize> = SplitMix64::stream(seed ^ 2, step).sample_indices(400, 128);
        let picks: Vec<usize> = picks.into_iter().map(|i| learn[i]).collect();
        let dates: Vec<f64> = picks.iter().map(|&i| days[i]).collect();
        Ok(temporal_similarity(&encoder.forward(&tensor(&rows.select(&picks))?)?, &dates, HALF_LIFE)?)
    })?;
    let after = time_quality(&encoder.encode(&tensor(&test_rows)?)?, &test_days)?;
    let mut table = Table::new(["encoder", "squared error", "rank correlation, pairs above .05"]);
    for (name, (error, correlation)) in [("untrained", before), ("trained", after)] {
        table.row([name.into(), num(error, 4).within(0.002), num(correlation, 3).within(0.02)]);
    }
    page.table("Cosines of 200 held-out items against 2^(-days / 30)", &table);

    page.claim("the tree's losses are PyTorch's")
        .all(losses.iter().zip([3.4648595700, 1.5912805471, 2.3382921802, 1.3659670692]), |(x, y)| {
            (x - y).abs() < 1e-9
        });
    page.claim("with leaf mates alone it is NT-Xent").close(leaf_only, twins, 1e-12);
    page.claim("the loss in time is the reference's").close(dated, 0.4729968267, 1e-9);
    page.claim("the book's is a third lower").close(diluted, 0.2982237050, 1e-9);
    page.claim("per level, each relation lies .04 below the nearer one")
        .all(means[1].windows(2), |w| w[0] - w[1] >= 0.04);
    page.claim("per pair, leaf and parent are .02 apart at most").at_most(means[2][0] - means[2][1], 0.02);
    page.claim("leaf mates alone leave the grandparent behind").less(means[3][2], means[1][2]);
    page.claim("training cuts the error in time").at_most(after.0, 0.015);
    page.claim("and ranks close dates").at_least(after.1, 0.85);
    page.claim("which it didn't before").less(before.1, 0.6);
    page.finish()
}

/// Cosines of all pairs `(i, j)`, i < j, of `rows`.
fn cosines(rows: &Matrix) -> anyhow::Result<Vec<(usize, usize, f64)>> {
    let mut unit = rows.clone();
    unit.normalize_rows();
    let products = gemm::matmul_transposed(&unit, &unit)?;
    Ok((0..rows.rows())
        .flat_map(|j| (0..j).map(move |i| (i, j)))
        .map(|(i, j)| (i, j, f64::from(products.row(i)[j])))
        .collect())
}

/// The mean cosine of pairs by the nearest level at which their labels agree.
fn relation_means(items: &Items, rows: &Matrix) -> anyhow::Result<[f64; 4]> {
    let mut sums = [(0.0, 0usize); 4];
    for (i, j, cosine) in cosines(rows)? {
        let relation = items.labels.iter().position(|level| level[i] == level[j]).unwrap_or(3);
        sums[relation] = (sums[relation].0 + cosine, sums[relation].1 + 1);
    }
    Ok(sums.map(|(sum, count)| sum / count as f64))
}

/// The mean squared error of cosines as likeness in time, and their rank correlation with it where it is above .05.
fn time_quality(rows: &Matrix, days: &[f64]) -> anyhow::Result<(f64, f64)> {
    let pairs: Vec<(f64, f64)> =
        cosines(rows)?.into_iter().map(|(i, j, s)| (s, (-(days[i] - days[j]).abs() / HALF_LIFE).exp2())).collect();
    let error = pairs.iter().map(|(s, wanted)| (s - wanted).powi(2)).sum::<f64>() / pairs.len() as f64;
    let (near, wanted): (Vec<f64>, Vec<f64>) = pairs.into_iter().filter(|pair| pair.1 > 0.05).unzip();
    Ok((error, spearman(&near, &wanted)?))
}
