//! Listing 4.15: compressing after training with PCA, random and learned projections, and bisecting for the smallest dimension.
//!
//! cargo run --release --example progressive_dimension_reduction

use ch04_custom_embedding_strategies::neighbours::{Neighbourhood, Quality};
use eas_eval::sweep::{Bisection, smallest_sufficient};
use eas_nn::descent::Descent;
use eas_nn::projection::learn_cosines;
use eas_report::{Chart, Table, num};
use eas_tensor::Matrix;
use eas_tensor::pca::{Pca, RandomProjection};
use eas_tensor::projection::{Projection, cosine_error};
use eas_tensor::rng::SplitMix64;

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let seed = page.seed();
    let digits = Neighbourhood::digits()?;

    page.section("The smallest dimension that keeps a share of the quality");
    let pca = Pca::fit(&digits.corpus, 64)?;
    let (corpus, queries) = (pca.transform(&digits.corpus)?, pca.transform(&digits.queries)?);
    // PCA is fitted once: a smaller one is a prefix of it.
    let every: Vec<Quality> =
        (1..=64).map(|dim| digits.prefix_quality(&corpus, &queries, dim)).collect::<anyhow::Result<_>>()?;
    let recall: fn(&Quality) -> f64 = |q| q.recall;
    let precision: fn(&Quality) -> f64 = |q| q.precision;
    let mut table = Table::new(["quality", "kept", "dimension", "a full scan", "bisection", "looked at below"]);
    let mut runs: Vec<(Bisection, usize)> = Vec::new();
    for (name, quality, share) in [
        ("recall@10", recall, 0.95),
        ("recall@10", recall, 0.9),
        ("recall@10", recall, 0.8),
        ("precision@10", precision, 0.99),
        ("precision@10", precision, 0.95),
    ] {
        let target = share * quality(&every[63]);
        let measure = |dim: usize| anyhow::Ok(quality(&digits.prefix_quality(&corpus, &queries, dim)?));
        let run = smallest_sufficient(1, 64, target, measure)?;
        let scan = 1 + every.iter().position(|q| quality(q) >= target).unwrap_or(63);
        let list = |measured: &[(usize, f64)]| measured.iter().map(|(dim, _)| dim.to_string()).collect::<Vec<_>>();
        let (trace, below) = (list(&run.trace).join(" "), list(&run.verified).join(" "));
        table.row([name.into(), num(share, 2), run.found.into(), scan.into(), trace.into(), below.into()]);
        runs.push((run, scan));
    }
    page.table("Digits under PCA: of 64 dimensions, at most seven are measured", &table);
    let falls = (0..63).filter(|&i| every[i + 1].precision < every[i].precision).count();
    page.text(format!(
        "Precision falls at {falls} of the 63 steps from one dimension to the next, so bisection may stop too high: what lies \
         just below its answer is measured as well."
    ));

    page.section("Three kinds of projection");
    let mut rng = SplitMix64::new(seed);
    let pairs: Vec<(usize, usize)> = (0..4_000).map(|_| (rng.below(797), rng.below(797))).collect();
    let random = |dim: usize| RandomProjection::new(64, dim, seed);
    let train = |start: &Matrix, steps: u64| -> anyhow::Result<Projection> {
        let descent = Descent { steps, learning_rate: 1e-3, seed };
        Ok(Projection::Linear(learn_cosines(&digits.corpus, start, 1_000, descent)?))
    };
    let (dims, mut errors, mut recalls) = ([8, 16, 32], Vec::new(), Vec::new());
    for dim in dims {
        let svd = Projection::uncentred(&digits.corpus, dim)?;
        let Projection::Linear(start) = &svd else { anyhow::bail!("directions") };
        let five = [
            Projection::Pca(Pca::fit(&digits.corpus, dim)?),
            Projection::Random(random(dim)?),
            train(&random(dim)?.directions, 10)?,
            train(start, page.size(500, 2_000))?,
            svd,
        ];
        for projection in &five {
            let (corpus, queries) = (projection.apply(&digits.corpus)?, projection.apply(&digits.queries)?);
            errors.push(cosine_error(&digits.queries, &queries, &pairs)?);
            recalls.push(digits.quality(&corpus, &queries)?.recall);
        }
    }
    let names = ["PCA, centred", "random", "ten steps from random", "learned from the SVD", "uncentred SVD"];
    let mut table = Table::new(["projection", "error, 8", "16", "32", "recall@10, 8", "16", "32"]);
    for (kind, name) in names.into_iter().enumerate() {
        let column = |values: &[f64]| -> Vec<f64> { (0..3).map(|size| values[5 * size + kind]).collect() };
        let errors = column(&errors).into_iter().map(|x| num(x, 6).within(0.1 * x));
        let recalls = column(&recalls).into_iter().map(|x| num(x, 3).within(0.01));
        table.row([name.into()].into_iter().chain(errors).chain(recalls));
    }
    page.table("Mean squared change of the cosine of 4,000 query pairs, and recall of Euclidean neighbours", &table);
    page.text(
        "The book trains ten steps from random weights: hardly more than random. And subtracting the mean, right for distances, \
         changes every angle: PCA keeps the neighbours and loses the cosines.",
    );
    let mut chart = Chart::lines("Change of the cosine", "dimension", "mean squared change").log_y();
    for (kind, name) in names.into_iter().enumerate() {
        chart = chart.series(name, dims.into_iter().enumerate().map(|(size, dim)| (dim, errors[5 * size + kind])));
    }
    page.chart("cosines.svg", &chart)?;

    let trace = |run: usize| runs[run].0.trace.iter().map(|(dim, _)| *dim).collect::<Vec<_>>();
    let by = |kind: usize| (0..3).map(move |size| 5 * size + kind);
    page.claim("95 % of recall: the way to 36").equals((trace(0), runs[0].0.found), (vec![32, 48, 40, 36, 34, 35], 36));
    page.claim("90 % of recall: the way to 27").equals((trace(1), runs[1].0.found), (vec![32, 16, 24, 28, 26, 27], 27));
    page.claim("99 % of precision").equals(runs[3].0.found, 13);
    page.claim("95 % of precision").equals(runs[4].0.found, 9);
    page.claim("every answer is that of a full scan").all(&runs, |(run, scan)| run.found == *scan);
    page.claim("after at most seven evaluations").all(&runs, |(run, _)| run.evaluations() <= 7);
    page.claim("learning halves the error of the SVD")
        .all(by(3).zip(by(4)), |(own, svd)| errors[own] <= 0.5 * errors[svd]);
    page.claim("ten steps from random don't reach it").all(by(2).zip(by(4)), |(ten, svd)| errors[ten] > errors[svd]);
    page.claim("the SVD's errors, 8").close(errors[4], 0.0109, 0.001);
    page.claim("16").close(errors[9], 0.001_98, 0.000_2);
    page.claim("32").close(errors[14], 0.000_111, 0.000_02);
    page.claim("centring loses the cosines").all(by(0), |at| errors[at] > 0.3);
    page.claim("and keeps the neighbours at 16").close(recalls[5], 0.793, 0.005);
    page.claim("random directions keep fewer neighbours than PCA")
        .all(by(1).zip(by(0)), |(r, p)| recalls[r] < recalls[p]);
    page.claim("more quality than there is can't be had").fails(
        smallest_sufficient::<anyhow::Error>(1, 64, 1.1, |dim| Ok(every[dim - 1].recall)),
        "at the largest setting",
    );
    page.finish()
}
