//! Listing 5.16: one contrastive batch over several ranks, with exactly the gradient of a single process.
//!
//! cargo run --release --example distributed_all_gather_infonce         (--backend mpi: in processes too, with the feature `mpi`)

use ch05_contrastive_learning::families::{DIM, FamilyWorld};
use ch05_contrastive_learning::gathered::{Backward, Share, bytes_of_a_forward, gradient, on_fixture, single};
use ch05_contrastive_learning::processes;
use ch05_contrastive_learning::ranks::{RankRun, largest_difference, train_rank};
use eas_nn::NnError;
use eas_nn::dist::ThreadGroup;
use eas_nn::dist::sync::unflatten;
use eas_report::{Chart, Table, num, sci};

const VARIANTS: [(&str, Backward); 3] = [
    ("reduce-scatter in the backward pass", Backward::Summed),
    ("constants (plain all-gather)", Backward::None),
    ("constants, own rows put back", Backward::OwnRows),
];

fn main() -> anyhow::Result<()> {
    if let Some(done) = processes::rank() {
        return done;
    }
    let mut page = eas_report::listing!();

    page.section("Four pairs on two ranks");
    let mut table = Table::new(["temperature", "candidates", "rank 0", "rank 1", "mean", "one process"]);
    let (mut losses, mut wrong) = (Vec::new(), Vec::new());
    for temperature in [0.07, 0.5] {
        let whole = f64::from(single(temperature)?.0);
        for (name, masked) in [("without the anchor itself", true), ("with it", false)] {
            let ranks = on_fixture(2, temperature, Backward::Summed)?;
            let pair: Vec<f64> = ranks.iter().map(|r| f64::from(if masked { r.loss } else { r.unmasked })).collect();
            let mean = f64::midpoint(pair[0], pair[1]);
            let cells = [pair[0], pair[1], mean, whole].map(|loss| num(loss, 6));
            table.row([num(temperature, 2), name.into()].into_iter().chain(cells));
            if masked { &mut losses } else { &mut wrong }.extend(pair.into_iter().chain([mean]));
        }
    }
    page.table("Each rank's loss: its anchors among all 8 rows", &table);
    page.text("The book leaves the anchor among its own candidates, at cosine 1: no encoder can lower that.");

    let (_, whole_a, whole_p) = single(0.5)?;
    let truth: Vec<f32> = whole_a.iter().chain(&whole_p).copied().collect();
    let mut table = Table::new(["gathered rows", "cosine with one process", "largest gap", "length of dP"]);
    let mut seen = Vec::new();
    for (name, backward) in VARIANTS {
        let ranks = on_fixture(2, 0.5, backward)?;
        let of = |part: fn(&Share) -> &Vec<f32>| ranks.iter().flat_map(|r| part(r).clone()).collect::<Vec<f32>>();
        let (da, dp) = (of(|r| &r.anchors), of(|r| &r.positives));
        let all: Vec<f32> = da.iter().chain(&dp).copied().collect();
        let (cosine, length) = (cosine(&all, &truth), dot(&dp, &dp).sqrt());
        table.row([name.into(), num(cosine, 7), sci(largest_difference(&all, &truth), 1).within(1e-6), num(length, 4)]);
        seen.push((cosine, da, dp));
    }
    page.table("The gradient by anchors and positives, temperature 0.5", &table);

    page.section("Training with 1, 2 and 4 ranks");
    let seed = page.seed_or(5);
    let world = FamilyWorld::new(seed)?;
    let steps = page.size(100, 1_000);
    let mut runs = Vec::new();
    for ranks in [1, 2, 4] {
        let run = page.timed(format!("{ranks} x {}", 64 / ranks), || train(&world, ranks, steps))?;
        runs.push(run);
    }
    let mut table = Table::new(["step", "1 x 64", "2 x 32", "4 x 16", "largest gap"]);
    for step in (0..steps as usize).step_by(steps as usize / 5).chain([steps as usize - 1]) {
        let at = runs.iter().map(|run| run[0].losses[step]).collect::<Vec<_>>();
        let gap = at.iter().map(|loss| (loss - at[0]).abs()).fold(0.0, f64::max);
        table.row([step.into(), num(at[0], 4), num(at[1], 4), num(at[2], 4), sci(gap, 0).within(1e-4)]);
    }
    page.table("The loss of global batches of 64 pairs, temperature 0.1, Adam", &table);
    let chart = Chart::lines("One loss, however many ranks", "step", "loss");
    let chart = chart.series("1 x 64", runs[0][0].losses.iter().copied().enumerate());
    page.chart("loss.svg", &chart.series("4 x 16", runs[2][0].losses.iter().copied().enumerate()))?;
    let (encoder, params) = world.encoder(1)?;
    let raw = world.raw_recall()?;
    let mut recalls = Vec::new();
    for run in &runs {
        unflatten(&params, &run[0].weights)?;
        recalls.push(world.recall_at_1(&encoder)?);
    }
    let gaps = [1, 2].map(|at| largest_difference(&runs[0][0].weights, &runs[at][0].weights));
    page.text(format!(
        "Recall@1 {:.3} with one rank, {:.3} with four (raw {raw:.3}). Weights differ by at most {:.1e}.",
        recalls[0], recalls[2], gaps[1]
    ));

    let processes = processes::train(&mut page, seed, steps)?;
    if let Some(run) = &processes {
        page.text(format!("Two processes under mpirun sent {} bytes each, as two threads did.", run.traffic.sent));
    }

    page.section("What a gather without a backward pass does to an encoder");
    let mut table = Table::new(["weights", "gathered rows", "cosine with the true gradient", "length / true"]);
    let mut cosines = Vec::new();
    for (name, weights) in [("untrained", None), ("trained", Some(&runs[0][0].weights))] {
        let exact = gradient(&world, weights, Backward::Summed)?;
        for (label, backward) in &VARIANTS[1..] {
            let other = gradient(&world, weights, *backward)?;
            let (cosine, length) = (exact.cosine(&other)?, other.norm()? / exact.norm()?);
            table.row([name.into(), (*label).into(), num(cosine, 4).within(0.02), num(length, 4).within(0.02)]);
            cosines.push(cosine);
        }
    }
    page.table("4 ranks of 16 pairs", &table);
    let moved = bytes_of_a_forward(&world)?;
    page.text(format!(
        "One forward pass brings each rank {moved} bytes: 2 views x 4 ranks x 16 rows x {DIM} values x 4 bytes."
    ));

    let known = [0.000_756_328_1, 0.024_370_226_0, 0.012_563_277_0, 0.694_520_732_0, 1.012_937_621_1, 0.853_729_176_5];
    page.claim("losses of the ranks and their mean").all(losses.iter().zip(known), |(l, k)| (*l - k).abs() < 2e-6);
    let known = [1.044_027_839_4, 1.556_973_757_8, 1.300_500_798_6, 1.129_931_847_0, 1.379_297_292_5];
    page.claim("with the anchor among its candidates").all(wrong.iter().zip(known), |(l, k)| (*l - k).abs() < 2e-6);
    let known = [0.07101473, -0.05666188, 0.17073517, 0.13580054, 0.03594716, 0.04260416].into_iter();
    let known = known.chain([0.08012448, 0.10318945, 0.16631666, -0.06111794, 0.15498837, 0.00709137]);
    page.claim("dA of two ranks").all(seen[0].1.iter().zip(known), |(g, k): (&f32, f32)| (g - k).abs() < 2e-7);
    let known = [-0.02748343, 0.04122514, 0.17527776];
    page.claim("dP of the first pair").all(seen[0].2.iter().zip(known), |(g, k): (&f32, f32)| (g - k).abs() < 2e-7);
    let four: Vec<f32> = on_fixture(4, 0.5, Backward::Summed)?.into_iter().flat_map(|r| r.anchors).collect();
    page.claim("four ranks give dA of one process").within(1e-6).at_most(largest_difference(&four, &whole_a), 2e-7);
    page.claim("constants: the positives get no gradient at all").all(&seen[1].2, |g| *g == 0.0);
    page.claim("constants: cosine with the true gradient").close(seen[1].0, 0.747_021_588_1, 1e-6);
    page.claim("own rows put back: cosine").close(seen[2].0, 0.950_179_029_4, 1e-6);
    page.claim("weights of 2 and 4 ranks are those of one").all(gaps, |gap| gap < 1e-5);
    let same = runs.iter().flatten().zip(runs.iter().flat_map(|run| std::iter::repeat_n(&run[0], run.len())));
    let bits = |weights: &[f32]| weights.iter().map(|w| w.to_bits()).collect::<Vec<_>>();
    page.claim("all ranks of a run end with the same bits").all(same, |(a, b)| bits(&a.weights) == bits(&b.weights));
    if let Some(run) = &processes {
        page.claim("two processes under mpirun end with the threads' weights")
            .at_most(largest_difference(&run.weights, &runs[1][0].weights), 1e-5);
        page.claim("having sent as much").equals(run.traffic.sent, runs[1][0].traffic.sent);
    }
    page.claim("recall@1 after training").greater(recalls[2], raw + 0.3);
    page.claim("on an encoder both patches miss the gradient").all(cosines, |cosine| cosine < 0.999);
    page.claim("bytes of a forward pass").equals(moved, 2 * 4 * 16 * DIM as u64 * 4);
    page.finish()
}

fn train(world: &FamilyWorld, ranks: usize, steps: u64) -> Result<Vec<RankRun>, NnError> {
    ThreadGroup::run(ranks, |group| train_rank(&group, world, steps, 64))
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
