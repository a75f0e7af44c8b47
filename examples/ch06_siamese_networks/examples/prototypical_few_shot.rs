//! Listing 6.8: prototypes. A class is the mean of its few examples, a query belongs to the nearest mean, and an encoder trained on other
//! classes makes it work if these were many.
//!
//! cargo run --release --example prototypical_few_shot

use std::thread;

use anyhow::bail;
use candle_core::{Device, Tensor};
use ch06_siamese_networks::digit_net::tensor;
use ch06_siamese_networks::glyph_net::{Loss, glyph_encoder};
use eas_data::synth::glyphs::{Glyphs, SIDE};
use eas_eval::bootstrap::{Interval, bootstrap_ci, paired_bootstrap};
use eas_losses::proto::episodic_loss;
use eas_nn::encoders::Encoder;
use eas_report::{Chart, Table, num};
use eas_retrieval::fewshot::{Episodes, Prototypes, SupportMetric, SupportSet};
use eas_tensor::Matrix;
use eas_tensor::kernels::squared_l2;

const SUPPORT: [[f64; 2]; 6] = [[1.0, 0.0], [0.8, 0.4], [0.0, 1.0], [0.2, 0.8], [-0.1, 1.2], [-1.0, -0.5]];
const CLASSES: [u32; 6] = [0, 0, 1, 1, 1, 2];
const QUERIES: [[f64; 2]; 3] = [[0.6, 0.5], [-0.4, 0.3], [0.9, 0.1]];
/// Ways and shots of the test.
const TASKS: [(usize, usize); 3] = [(5, 1), (20, 1), (20, 5)];

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let seed = page.seed_or(1);

    page.section("Three classes, three queries");
    let narrow = |row: [f64; 2]| row.map(|x| x as f32);
    let support = Matrix::from_rows(&SUPPORT.map(narrow))?;
    let prototypes = Prototypes::fit(&support, &CLASSES)?;
    let mut distances = SupportSet::new(2, SupportMetric::Euclidean)?;
    distances.extend(&support, &CLASSES)?;
    let mut table = Table::new(["query", "|q-c|^2 to 0", "to 1", "to 2", "class", "p by |q-c|^2", "p by |q-c|"]);
    let (mut squares, mut predicted, mut shares, mut not_squared) = (vec![], vec![], vec![], vec![]);
    for query in &QUERIES.map(narrow) {
        let (square, class) = (prototypes.squared_distances(query)?, prototypes.predict(query)?);
        let p: Vec<f64> = prototypes.log_proba(query, 1.0)?.iter().map(|log| log.exp()).collect();
        let by_distance = distances.predict_proba(query, 1.0)?;
        let cells = [format!("{query:?}").into()].into_iter().chain(square.iter().map(|d| num(*d, 4)));
        table.row(cells.chain([class.into(), num(p[class as usize], 4), num(by_distance[0].1, 4)]));
        squares.extend(square);
        shares.extend(p);
        predicted.push(class);
        not_squared.push(by_distance[0].0);
    }
    page.table("Squared distances give other probabilities than distances, and the same class", &table);
    let (support, queries) = (Tensor::new(&SUPPORT, &Device::Cpu)?, Tensor::new(&QUERIES, &Device::Cpu)?);
    let loss = episodic_loss(&support, &CLASSES, &queries, &[0, 2, 0], 1.0)?.to_scalar::<f64>()?;

    page.section("Signs that no training has seen");
    let glyphs = Glyphs::new(seed);
    let mut sheet = Chart::images("Six classes, four pictures of each", 8);
    for at in 0..24 {
        let grey = |x: &f32| [(255.0 * (1.0 - x.clamp(0.0, 1.0))) as u8; 3];
        let rgb: Vec<u8> = glyphs.picture(at / 4, at % 4).iter().flat_map(grey).collect();
        sheet = sheet.tile(format!("class {}", at / 4), SIDE, SIDE, rgb);
    }
    page.chart("glyphs.png", &sheet)?;
    let (test, labels) = glyphs.pictures(150..200, 0..20);
    let tasks: Vec<Episodes> =
        TASKS.iter().map(|&(way, shot)| Episodes::new(&labels, way, shot, 5, seed)).collect::<Result<_, _>>()?;
    let score = |embeddings: &Matrix| -> anyhow::Result<Vec<Vec<f64>>> {
        Ok(tasks.iter().map(|task| task.accuracies(embeddings, 400)).collect::<Result<_, _>>()?)
    };
    let mut runs = [5, 10, 25, 50, 100, 150].map(|classes| (Loss::BatchHard, classes)).to_vec();
    runs.extend(page.full().then_some((Loss::Pairs, 150)));
    runs.push((Loss::Episodes, 150));
    let (steps, pixels) = (page.size(200, 400), tensor(&test)?);
    let trained: Vec<anyhow::Result<Matrix>> = thread::scope(|scope| {
        let train = |(loss, classes)| Ok(glyph_encoder(&glyphs, 0..classes, loss, steps, seed)?.encode(&pixels)?);
        let threads: Vec<_> = runs.iter().map(|&run| scope.spawn(move || train(run))).collect();
        let join =
            |thread: thread::ScopedJoinHandle<'_, _>| thread.join().unwrap_or_else(|_| bail!("a training panicked"));
        threads.into_iter().map(join).collect()
    });
    let mut models = vec![("raw pixels", 0, score(&test)?)];
    let mut embeddings = Matrix::zeros(0, 64);
    for ((loss, classes), trained) in runs.into_iter().zip(trained) {
        embeddings = trained?;
        models.push((loss.name(), classes, score(&embeddings)?));
    }

    let mut table =
        Table::new(["encoder", "classes seen", "5-way 1-shot", "±", "20-way 1-shot", "±", "20-way 5-shot", "±"]);
    let mut means = Vec::new();
    for (name, classes, accuracies) in &models {
        let intervals: Vec<Interval> =
            accuracies.iter().map(|a| bootstrap_ci(a, 1_000, seed)).collect::<Result<_, _>>()?;
        // Training on another processor rounds otherwise, and ends elsewhere.
        let cells = |i: &Interval| [num(i.mean, 3).within(0.03), num((i.high - i.low) / 2.0, 3).within(0.003)];
        table.row([(*name).into(), (*classes).into()].into_iter().chain(intervals.iter().flat_map(cells)));
        means.push(intervals.iter().map(|i| i.mean).collect::<Vec<f64>>());
    }
    page.table("Accuracy on 400 tasks from 50 new classes, and half its 95% interval", &table);
    let hard = || models.iter().zip(&means).filter(|(model, _)| model.0.starts_with("batch"));
    let curve = |task: usize| hard().map(move |(model, mean)| (model.1, mean[task]));
    let chart = Chart::lines("New classes, by the number of training classes", "training classes", "accuracy").log_x();
    let chart = chart.series("20-way 1-shot", curve(1)).series("20-way 5-shot", curve(2));
    page.chart("classes.svg", &chart.level("raw, 1-shot", means[0][1]).level("raw, 5-shot", means[0][2]))?;
    page.text(
        "Five classes teach what tells five signs apart, and that is worse than no training. With 150, one example is worth more than \
         with pixels, and the loss hardly matters.",
    );
    let last = models.len() - 1;
    let gain = paired_bootstrap(&models[last].2[1], &models[0].2[1], 1_000, seed)?.difference;

    // One example a class, by hand: the nearest example.
    let mut nearest_example = Vec::new();
    for (number, accuracy) in (0..50).zip(&models[last].2[1]) {
        let task = tasks[1].draw(number);
        let right = task.queries.iter().zip(&task.query_labels).filter(|(row, label)| {
            let to = |i: &usize| squared_l2(embeddings.row(**row), embeddings.row(task.support[*i]));
            let nearest = (0..task.support.len()).min_by(|x, y| to(x).total_cmp(&to(y)));
            nearest.map(|i| task.support_labels[i]) == Some(**label)
        });
        nearest_example.push((right.count() as f64 / task.queries.len() as f64, *accuracy));
    }

    let off =
        |found: &[f64], expected: &[f64]| found.iter().zip(expected).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
    let expected = [0.18, 0.571_111_11, 3.56, 1.7, 0.677_777_78, 1.0, 0.01, 1.561_111_11, 3.97];
    page.claim("the squared distances, largest error").at_most(off(&squares, &expected), 2e-7);
    page.claim("the classes of the three queries").equals(&predicted, &[0, 1, 0]);
    page.claim("distances without the square choose the same").equals(&predicted, &not_squared);
    page.claim("the first query's probabilities, largest error")
        .at_most(off(&shares, &[0.584_674_81, 0.395_418_50, 0.019_906_69]), 1e-7);
    page.claim("the loss for classes 0, 2, 0").close(loss, 0.600_419_346_3, 1e-9);
    page.claim("no example is an error, not a crash").fails(Prototypes::fit(&Matrix::zeros(0, 2), &[]), "at least one");
    page.claim("with one example a class, the nearest prototype is the nearest example")
        .all(nearest_example, |(a, b)| a == b);
    page.claim("prototypical training gains at least .05 over pixels, 20-way 1-shot")
        .within(0.03)
        .at_least(gain.low, 0.05);
    page.claim("five training classes lose at least .10").at_most(means[1][1], means[0][1] - 0.10);
    page.claim("more training classes never cost more than .02")
        .all(means[1..7].windows(2), |w| w[1][1] >= w[0][1] - 0.02);
    page.claim("five examples are better than one, for every encoder").all(&means, |m| m[2] > m[1]);
    page.finish()
}
