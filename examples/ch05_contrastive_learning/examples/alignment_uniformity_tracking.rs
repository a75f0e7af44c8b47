//! Listing 5.5: alignment and uniformity, two numbers that tell healthy training from collapse without a label.
//!
//! cargo run --release --example alignment_uniformity_tracking

use candle_core::Tensor;
use ch05_contrastive_learning::families::{FamilyWorld, train};
use eas_data::synth::rotation::random_orthogonal;
use eas_losses::diagnostics::{AlignmentUniformityTracker, Verdict, alignment, uniformity};
use eas_losses::fixtures::{ANCHORS, POSITIVES};
use eas_losses::{InfoNce, LossError, Negatives, self_supervised};
use eas_nn::encoders::Encoder;
use eas_report::{Chart, Table, num};
use eas_tensor::rng::SplitMix64;
use eas_tensor::{Matrix, gemm};

type Objective = fn(&Tensor, &Tensor) -> Result<Tensor, LossError>;

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();

    page.section("The two numbers");
    let (a, p) = (Matrix::from_rows(&ANCHORS)?, Matrix::from_rows(&POSITIVES)?);
    let mut both = a.clone();
    both.append(&p)?;
    let tetrahedron =
        Matrix::from_rows(&[[1.0f32, 1.0, 1.0], [1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]])?;
    let same = Matrix::from_rows(&[[0.6f32, 0.8, 0.0]; 4])?;
    let mut table = Table::new(["rows", "uniformity, t = 2", "t = 1"]);
    let mut values = Vec::new();
    for (name, rows) in
        [("A", &a), ("P", &p), ("[A; P]", &both), ("regular tetrahedron", &tetrahedron), ("one point", &same)]
    {
        let pair = (uniformity(rows, 2.0)?, uniformity(rows, 1.0)?);
        table.row([name.into(), num(pair.0, 6).within(1e-5), num(pair.1, 6).within(1e-5)]);
        values.push(pair);
    }
    page.table("ln of the mean of exp(-t |x - y|^2) over pairs of unit rows; lower is more uniform", &table);
    let aligned = alignment(&a, &p, 2.0)?;
    let (each, union) = (f64::midpoint(values[0].0, values[1].0), values[2].0);
    page.text(format!(
        "Alignment of A and P: {aligned:.6}, the mean of |x - y|^2 over pairs. Uniformity is taken in each view and averaged \
         ({each:.4}). Taken over both together ({union:.4}) it counts every well-aligned pair as a clump."
    ));

    page.section("The uniform law on a sphere");
    let mut table = Table::new(["dimension", "exact", "4,000 points"]);
    let mut sampled = Vec::new();
    for dim in [2, 3, 8, 16, 64, 128] {
        let mut rng = SplitMix64::stream(page.seed_or(5), dim as u64);
        let values = (0..4_000 * dim).map(|_| rng.normal() as f32).collect();
        let measured = uniformity(&Matrix::from_vec(4_000, dim, values)?, 2.0)?;
        table.row([dim.into(), num(uniform_law(dim), 4), num(measured, 4).within(1e-3)]);
        sampled.push((uniform_law(dim), measured));
    }
    page.table("Uniformity with t = 2; its floor, which -4 is only in the limit", &table);

    page.section("Three ways to train");
    let world = FamilyWorld::new(page.seed_or(5))?;
    let objectives: [(&str, Objective); 3] = [
        ("InfoNCE", |a, p| Ok(InfoNce::new(0.1).forward(a, p, Negatives::InBatch)?.loss)),
        ("positives only", self_supervised::mean_squared_difference),
        ("uniformity only", |a, p| {
            Ok(((self_supervised::uniformity(a, 2.0)? + self_supervised::uniformity(p, 2.0)?)? * 0.5)?)
        }),
    ];
    let all: Vec<u32> = (0..world.families().len() as u32).collect();
    let views = [world.view(&all, 0)?, world.view(&all, 1)?];
    let mut table = Table::new(["objective", "step", "alignment", "uniformity", "verdict", "recall@1"]);
    let mut chart = Chart::scatter("Training in the plane of the two numbers", "alignment", "uniformity");
    let (mut ends, mut recalls) = (Vec::new(), Vec::new());
    for (name, objective) in objectives {
        let (encoder, params) = world.encoder(1)?;
        let mut tracker = AlignmentUniformityTracker::new();
        let mut measure = |step: u64| -> Result<f64, eas_nn::NnError> {
            tracker.push(step as usize, &encoder.encode(&views[0])?, &encoder.encode(&views[1])?)?;
            world.recall_at_1(&encoder)
        };
        let mut found = vec![measure(0)?];
        train(&params, 400, 3e-3, |step| {
            if step > 0 && step % 50 == 0 {
                found.push(measure(step)?);
            }
            let (a, p) = world.batch(step, 64)?;
            Ok(objective(&encoder.forward(&a)?, &encoder.forward(&p)?)?)
        })?;
        found.push(measure(400)?);
        for (row, recall) in tracker.rows().iter().zip(&found).filter(|(row, _)| [0, 50, 200, 400].contains(&row.epoch))
        {
            let [near, spread] = [row.alignment, row.uniformity].map(|x| num(x, 4).within(0.02));
            let verdict = format!("{:?}", row.verdict);
            table.row([name.into(), row.epoch.into(), near, spread, verdict.into(), num(*recall, 3).within(0.02)]);
        }
        chart = chart.series(name, tracker.rows().iter().map(|row| (row.alignment, row.uniformity)));
        ends.push(tracker.rows()[tracker.rows().len() - 1]);
        recalls.push(found[found.len() - 1]);
    }
    page.table("The planted families, two views of all 1,000 items; 400 steps of 64 pairs", &table);
    page.chart("plane.svg", &chart)?;
    page.text(
        "Pulling positives together without pushing anything away shrinks the sphere to a point. Recall hides it for long, \
         because directions around the point still differ; uniformity shows it at once. Spreading rows without pulling any \
         pair together is as uniform as InfoNCE and finds nothing.",
    );

    let rotation = random_orthogonal(3, &mut SplitMix64::new(9));
    let rotated = [gemm::matmul_transposed(&a, &rotation)?, gemm::matmul_transposed(&p, &rotation)?];
    let moved = [uniformity(&rotated[0], 2.0)? - values[0].0, alignment(&rotated[0], &rotated[1], 2.0)? - aligned];
    let expected = [-3.1369528379, -2.2969801653, -1.7520424505, -16.0 / 3.0, 0.0];
    page.claim("uniformity at t = 2 is the reference's")
        .all(values.iter().zip(expected), |(v, e)| (v.0 - e).abs() < 2e-6);
    page.claim("and at t = 1").all([values[0].1 + 1.7157252875, values[2].1 + 1.1472404677], |e| e.abs() < 2e-6);
    page.claim("so is alignment").close(aligned, 0.1335087303, 1e-7);
    page.claim("each view on its own is 1 more uniform than both together").close(each, -2.7169665016, 2e-6);
    let law = [-1.5750272045, -2.0797770606, -3.0825272335, -3.5130364364, -3.8752355897, -3.9375300102];
    page.claim("the uniform law is the reference's").all(sampled.iter().zip(law), |(s, l)| (s.0 - l).abs() < 1e-9);
    page.claim("and 4,000 random points meet it").all(sampled, |(exact, measured)| (exact - measured).abs() < 0.02);
    page.claim("a rotation changes neither number").all(moved, |change| change.abs() < 1e-5);
    page.claim("InfoNCE aligns").less(ends[0].alignment, 0.1);
    page.claim("and spreads").less(ends[0].uniformity, -3.0);
    page.claim("positives alone end in a point").greater(ends[1].uniformity, -0.3);
    page.claim("which the tracker says").equals(ends[1].verdict, Verdict::Collapsing);
    page.claim("while recall is still high").at_least(recalls[1], 0.8);
    page.claim("InfoNCE stays healthy").equals(ends[0].verdict, Verdict::Healthy);
    page.claim("uniformity alone finds less than half of what InfoNCE finds").less(recalls[2], recalls[0] / 2.0);
    page.finish()
}

/// Uniformity (t = 2) of the uniform law on the sphere in `dim` dimensions: `-4 + ln(sum_k 4^k / (k! (d/2) (d/2 + 1) ...))`, the
/// Bessel function of the closed form written out.
fn uniform_law(dim: usize) -> f64 {
    let half = dim as f64 / 2.0;
    let (mut term, mut sum) = (1.0, 1.0);
    for k in 0..60 {
        term *= 4.0 / (f64::from(k + 1) * (half + f64::from(k)));
        sum += term;
    }
    -4.0 + f64::ln(sum)
}
