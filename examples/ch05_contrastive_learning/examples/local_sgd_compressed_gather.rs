//! Listing 5.21: ranks that talk less: averages after many steps, sparse changes and embeddings, and what each costs.
//!
//! cargo run --release --example local_sgd_compressed_gather

use ch05_contrastive_learning::families::{DIM, FamilyWorld};
use ch05_contrastive_learning::local::{
    BATCH, LocalRun, RANKS, Talk, feedback_drift, gathered_steps, quadratics, train_gathered, train_local,
};
use ch05_contrastive_learning::ranks::largest_difference;
use eas_nn::dist::compress::{By, TopK};
use eas_report::{Chart, Table, num};
use eas_tensor::rng::SplitMix64;

const X: [f32; 8] = [0.6, -0.9, 0.1, 0.3, -0.2, 0.05, 0.4, -0.5];

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();

    page.section("Two ranks, two optima");
    page.text("Rank 0 minimises 1/2 (x - 1)^2, rank 1 3/2 (x + 1)^2. The sum has its minimum at -0.5.");
    let mut table = Table::new(["steps between averages", "after 1", "after 2", "after 3 averages", "in the end"]);
    let mut chart =
        Chart::lines("Local steps pull the average away from the optimum", "step", "x").level("optimum", -0.5);
    let mut paths = Vec::new();
    for every in [1, 2, 10] {
        let path = quadratics(every, 200 / every)?;
        let end = path[path.len() - 1];
        table.row([every.into()].into_iter().chain([path[0], path[1], path[2], end].map(|x| num(x, 6))));
        let points = path.iter().enumerate().take(40 / every).map(|(i, x)| ((i + 1) * every, *x));
        chart = chart.series(format!("every {every}"), points);
        paths.push(path);
    }
    page.table("Gradient descent, learning rate 0.1", &table);
    page.chart("drift.svg", &chart)?;

    page.section("The largest entries");
    let mut table = Table::new(["of", "by", "entries", "energy kept", "cosine"]);
    let (mut kept, mut gaussian) = (Vec::new(), Vec::new());
    let mut rng = SplitMix64::new(page.seed());
    let normal: Vec<f32> = (0..page.size(20_000, 60_000)).map(|_| rng.normal() as f32).collect();
    for (name, by) in [("magnitude", By::Magnitude), ("value", By::Value)] {
        let top = TopK::new(0.375, by)?.compress(&X)?;
        let energy = energy(&top.values) / energy(&X);
        table.row([
            "8 numbers".into(),
            name.into(),
            format!("{:?}", top.indices).into(),
            num(energy, 6),
            num(energy.sqrt(), 6),
        ]);
        kept.push((top.indices, energy));
    }
    for (name, by) in [("magnitude", By::Magnitude), ("value", By::Value)] {
        let energy = energy(&TopK::new(0.1, by)?.compress(&normal)?.values) / energy(&normal);
        table.row([
            "normal numbers".into(),
            name.into(),
            "a tenth".into(),
            num(energy, 3).within(0.02),
            num(energy.sqrt(), 3).within(0.02),
        ]);
        gaussian.push(energy);
    }
    page.table("The book's comment says magnitude, its code takes the largest values", &table);
    let mut table = Table::new(["dim", "f32", "8-byte indices", "saved", "2-byte indices", "saved"]);
    let (tenth, mut sizes) = (TopK::new(0.1, By::Magnitude)?, Vec::new());
    for dim in [128, 768] {
        let (whole, ours, wide) = (4 * dim, tenth.message_len(dim, dim)?, tenth.kept(dim) * (8 + 4));
        let times = |bytes: usize| num(whole as f64 / bytes as f64, 2);
        table.row([dim.into(), whole.into(), wide.into(), times(wide), ours.into(), times(ours)]);
        sizes.extend([wide, ours]);
    }
    page.table("Bytes of an embedding of which a tenth is sent", &table);

    page.section("Four ranks on the planted families");
    let world = FamilyWorld::new(page.seed_or(5))?;
    let steps = page.size(150, 1_000);
    let gather_steps = page.size(100, 1_000);
    let raw = world.raw_recall()?;
    let mut talks = Vec::new();
    for every in [1, 10, 50] {
        talks.push(("average", every, Talk::Average(every)));
        if every == 10 || page.full() {
            talks.push(("largest tenth of changes", every, Talk::Sparse(every, tenth, false)));
            talks.push(("largest tenth, feedback", every, Talk::Sparse(every, tenth, true)));
        }
    }
    let mut table =
        Table::new(["what is shared", "every", "times", "bytes a rank", "recall@1, same data", "own families"]);
    let mut runs = Vec::new();
    for (name, every, talk) in talks {
        let same = page.timed(name, || train_local(&world, talk, steps, false))?;
        let sparse = matches!(talk, Talk::Sparse(..));
        let own = if sparse { None } else { Some(train_local(&world, talk, steps, true)?) };
        let recall = |run: &LocalRun| num(run.recall, 3).within(0.03);
        let recalls = [recall(&same), own.as_ref().map_or_else(|| "-".into(), recall)];
        table.row([name.into(), every.into(), same.syncs.into(), same.sent.into()].into_iter().chain(recalls));
        runs.push((every, talk, same, own));
    }
    page.table(format!("{steps} steps of 32 pairs a rank, negatives from the rank alone; raw recall {raw:.3}"), &table);

    page.text(
        "A rank with families of its own meets more siblings in a batch. They are the harder negatives, so here unequal data \
         teach more than they drift.",
    );

    page.section("Sparse embeddings, and a gather beside the encoder");
    let mut table = Table::new(["other ranks' rows", "bytes a rank", "recall@1"]);
    let mut gathered = Vec::new();
    for (name, top) in [
        ("whole", None),
        ("largest quarter by magnitude", Some(TopK::new(0.25, By::Magnitude)?)),
        ("largest quarter by value", Some(TopK::new(0.25, By::Value)?)),
    ] {
        let (recall, sent) = train_gathered(&world, top, gather_steps)?;
        table.row([name.into(), sent.into(), num(recall, 3).within(0.03)]);
        gathered.push((recall, sent));
    }
    page.table(format!("Candidates of all {RANKS} ranks, {DIM} values a row"), &table);
    page.text("A sparse row is a constant, so no gradient flows through it; the loss gives it back its length.");
    let direct = page.timed("gather, then encode", || gathered_steps(&world, 50, false))?;
    let overlapped = page.timed("gather while encoding", || gathered_steps(&world, 50, true))?;
    let drift = feedback_drift(&normal[..5_000], tenth)?;
    page.text(format!("After 50 messages of a tenth, sent and kept differ from the sum of all by {drift:.0e}."));

    let ends = paths.iter().map(|path| path[path.len() - 1]).zip([-0.5, -0.457_142_857_1, -0.197_422_242_2]);
    page.claim("where 1, 2 and 10 local steps end").all(ends, |(end, known)| (end - known).abs() < 1e-6);
    let rounds = paths[2].iter().zip([-0.160_215_457_6, -0.190_410_140_6, -0.196_100_720_6]);
    page.claim("first averages of 10 steps").all(rounds, |(x, known)| (x - known).abs() < 1e-6);
    page.claim("entries by magnitude").equals(&kept[0].0, &[1, 0, 7]);
    page.claim("entries by value").equals(&kept[1].0, &[0, 6, 3]);
    page.claim("energy by magnitude").close(kept[0].1, 0.824_383_164_0, 1e-7);
    page.claim("energy by value").close(kept[1].1, 0.354_136_429_6, 1e-7);
    page.claim("a tenth of normal numbers, by magnitude").close(gaussian[0], 0.4393, 0.02);
    page.claim("and by value").close(gaussian[1], 0.3249, 0.02);
    page.claim("bytes of dims 128 and 768").equals(sizes, [144, 72, 912, 456]);
    let run = |wanted: Talk| runs.iter().find(|(_, talk, ..)| *talk == wanted).map(|(_, _, same, own)| (same, own));
    let [every, ten] = [1, 10].map(|h| run(Talk::Average(h)));
    let (Some((every, _)), Some((ten, ten_own))) = (every, ten) else { anyhow::bail!("a run is missing") };
    let [mean, gradient] = [Talk::Average(1), Talk::EveryGradient].map(|talk| train_local(&world, talk, 20, false));
    let synchronous = largest_difference(&mean?.weights, &gradient?.weights);
    page.claim("20 averages after each step are 20 steps with the mean gradient")
        .within(1e-5)
        .at_most(synchronous, 1e-6);
    page.claim("averages are steps / H").all(&runs, |(every, _, same, _)| same.syncs == steps as usize / every);
    page.claim("ten local steps on the same data cost little recall").close(ten.recall, every.recall, 0.03);
    page.claim("and send a tenth").close(every.sent as f64 / ten.sent as f64, 10.0, 0.01);
    page.claim("training beats raw cosine also with own families")
        .greater(ten_own.as_ref().map_or(0.0, |own| own.recall), raw + 0.1);
    let sparse =
        [false, true].map(|feedback| run(Talk::Sparse(10, tenth, feedback)).map_or(0.0, |(same, _)| same.recall));
    page.claim("the largest tenth with feedback stays near").at_least(sparse[1], ten.recall - 0.06);
    page.claim("sent and kept add up").within(1e-5).at_most(drift, 1e-5);
    let quarter = (DIM / 4 * 6, DIM * 4);
    page.claim("sparse rows take 36 bytes of 96")
        .equals(gathered[1].1 * quarter.1 as u64, gathered[0].1 * quarter.0 as u64);
    page.claim("whole rows: 2 x 32 a step").equals(gathered[0].1, gather_steps * 2 * (BATCH * DIM * 4) as u64);
    page.claim("rows by magnitude teach more than rows by value").greater(gathered[1].0, gathered[2].0);
    page.claim("a gather beside the encoder brings the same rows").equals(direct == overlapped, true);
    page.finish()
}

fn energy(x: &[f32]) -> f64 {
    x.iter().map(|&v| f64::from(v).powi(2)).sum()
}
