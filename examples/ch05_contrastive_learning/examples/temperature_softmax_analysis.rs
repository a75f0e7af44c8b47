//! Listing 5.2: what the temperature does: one row of similarities at six temperatures, and an encoder trained at each.
//!
//! cargo run --release --example temperature_softmax_analysis

use candle_core::{D, DType, Device, Tensor};
use ch05_contrastive_learning::families::{FamilyWorld, train};
use eas_losses::contrastive::candidate_loss;
use eas_losses::temperature::{LearnableTemperature, Quality, profile, recommend};
use eas_losses::{InfoNce, Negatives, fixtures, normalize};
use eas_nn::encoders::Encoder;
use eas_nn::gradients::Gradients;
use eas_report::{Chart, Table, num, sci};

/// The cosine of the positive, then those of nine negatives.
const SIMILARITIES: [f64; 10] = [0.8, 0.3, 0.25, 0.2, 0.15, 0.15, 0.12, 0.1, 0.1, 0.1];
const TEMPERATURES: [f64; 6] = [0.01, 0.05, 0.07, 0.1, 0.3, 0.5];

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();

    page.section("One row");
    let profiles = profile(&SIMILARITIES, &TEMPERATURES)?;
    let columns =
        ["temperature", "p(positive)", "loss", "entropy", "effective negatives", "hardest's share", "gradient"];
    let mut table = Table::new(columns);
    for p in &profiles {
        let shape = [p.entropy, p.effective_negatives, p.hardest_share, p.positive_gradient].map(|x| num(x, 5));
        let start = [num(p.temperature, 2), num(p.positive_probability, 7), sci(p.loss, 3)];
        table.row(start.into_iter().chain(shape));
    }
    page.table("A positive at cosine .8, nine negatives at .3 to .1; gradient by the positive's cosine", &table);
    page.text(
        "At .01 the row is solved and teaches nothing; at .5 the loss asks for far more than a cosine can give, and all \
         negatives push alike. In between the hardest negatives do most of the pushing.",
    );
    let names = (0..SIMILARITIES.len()).map(|i| if i == 0 { "positive".to_owned() } else { format!("n{i}") });
    let mut chart = Chart::bars("What the softmax makes of one row", "candidate", "probability", names);
    for tau in TEMPERATURES {
        let weights = SIMILARITIES.map(|s| ((s - SIMILARITIES[0]) / tau).exp());
        let total: f64 = weights.iter().sum();
        chart = chart.series(format!("temperature {tau}"), weights.map(|w| w / total));
    }
    page.chart("softmax.svg", &chart)?;

    page.section("Overflow");
    let t = fixtures::tiny(DType::F32, &Device::Cpu)?;
    let mut table =
        Table::new(["type", "exp(1/t) overflows below t =", "exp at .01", "plain loss at .01", "stable loss at .01"]);
    let mut limits = Vec::new();
    for (name, dtype, largest) in [("f32", DType::F32, f64::from(f32::MAX)), ("f16", DType::F16, 65_504.0)] {
        let exponential = Tensor::new(1.0 / 0.01, &Device::Cpu)?.to_dtype(dtype)?.exp()?.to_dtype(DType::F64)?;
        let (a, plain) = (normalize(&t.anchors)?.to_dtype(dtype)?, plain_loss(&t.anchors, dtype, 0.01)?);
        let stable = InfoNce::new(0.01).forward(&a, &a, Negatives::InBatch)?.loss.to_dtype(DType::F64)?;
        let stable = stable.to_scalar::<f64>()?;
        let exponential = exponential.to_scalar::<f64>()?.to_string();
        let limit = num(1.0 / largest.ln(), 6);
        table.row([name.into(), limit, exponential.into(), plain.to_string().into(), sci(stable, 2).within(1e-6)]);
        limits.push((1.0 / largest.ln(), plain, stable));
    }
    page.table("Identical pairs: exponentials as they come, and with the largest logit taken off first", &table);
    let sharp = InfoNce::new(0.001).forward(&t.anchors, &t.positives, Negatives::InBatch)?.loss.to_scalar::<f32>()?;

    page.section("Choosing one");
    let sizes = [32, 64, 255, 256, 1_023, 1_024, 4_095, 4_096];
    let qualities = [Quality::High, Quality::Medium, Quality::Low];
    let advice = qualities.map(|quality| sizes.map(|size| recommend(size, quality)));
    let mut table = Table::new(["pairs".to_owned()].into_iter().chain(sizes.map(|size| format!("B = {size}"))));
    for (quality, row) in qualities.iter().zip(advice) {
        table.row([format!("{quality:?}").into()].into_iter().chain(row.map(|tau| num(tau, 2))));
    }
    page.table("A rule of thumb to start from, by quality of the pairs and batch size", &table);
    let t64 = fixtures::tiny(DType::F64, &Device::Cpu)?;
    let learnable = LearnableTemperature::new(0.07, DType::F64, &Device::Cpu)?;
    let cosines = normalize(&t64.anchors)?.matmul(&normalize(&t64.positives)?.t()?)?;
    let loss = candidate_loss(&learnable.logits(&cosines)?, &[0, 1, 2, 3], 1.0, None, None)?;
    let slope = loss.backward()?.get(learnable.var()).map(Tensor::to_scalar::<f64>).transpose()?.unwrap_or(f64::NAN);
    page.text(format!(
        "Or learn it: the parameter is ln(1/t); at t = .07 the slope of fixture T's loss is {slope:.6}."
    ));

    page.section("Measured");
    let world = FamilyWorld::new(page.seed_or(5))?;
    let mut table = Table::new(["temperature", "recall@1", "last loss", "hardest's share", "gradient norm"]);
    let (mut recalls, mut shares) = (Vec::new(), Vec::new());
    for tau in TEMPERATURES {
        let (encoder, params) = world.encoder(1)?;
        let loss_of = |step: u64| -> Result<(Tensor, Tensor, Tensor), eas_nn::NnError> {
            let (a, p) = world.batch(step, 128)?;
            let (a, p) = (encoder.forward(&a)?, encoder.forward(&p)?);
            Ok((InfoNce::new(tau).forward(&a, &p, Negatives::InBatch)?.loss, a, p))
        };
        train(&params, page.size(150, 600), 3e-3, |step| Ok(loss_of(step)?.0))?;
        let (loss, a, p) = loss_of(1_000)?;
        let norm = Gradients::of(&loss, &params)?.norm()?;
        // Each row with its positive first, as `profile` takes it.
        let mut rows = a.matmul(&p.t()?)?.to_dtype(DType::F64)?.to_vec2::<f64>()?;
        rows.iter_mut().enumerate().for_each(|(i, row)| row[..=i].rotate_right(1));
        let hardest = rows.iter().map(|row| Ok(profile(row, &[tau])?[0].hardest_share));
        let share = hardest.collect::<Result<Vec<f64>, eas_losses::LossError>>()?.iter().sum::<f64>() / 128.0;
        recalls.push(world.recall_at_1(&encoder)?);
        shares.push(share);
        let (recall, loss) = (recalls[recalls.len() - 1], f64::from(loss.to_scalar::<f32>()?));
        table.row([
            num(tau, 2),
            num(recall, 3).within(0.01),
            num(loss, 4).within(0.01),
            num(share, 3).within(0.02),
            num(norm, 4).within(0.05),
        ]);
    }
    page.table("The planted families after 150 steps of 128 pairs, on a batch not trained on", &table);
    let chart = Chart::lines("Recall after training at a temperature", "temperature", "recall@1")
        .log_x()
        .series("trained", TEMPERATURES.into_iter().zip(recalls.clone()));
    page.chart("recall.svg", &chart)?;
    let best = (0..6).max_by(|&x, &y| recalls[x].total_cmp(&recalls[y])).unwrap_or(0);
    page.text(format!(
        "Lower isn't better: the best of the six is {}, and .01 reaches {:.3}.",
        TEMPERATURES[best], recalls[0]
    ));

    let digits = [
        [0.9999235043, 7.649866e-5, 3.54959745, 0.59345085, -0.0015299146],
        [0.9982540502, 0.001747475728, 5.18352796, 0.45196613, -0.02494214],
        [0.9802386149, 0.01995925233, 6.78571194, 0.33422737, -0.19761385],
        [0.4744325112, 0.7456359025, 8.74456823, 0.17049899, -1.7518916],
        [0.2822100440, 1.265103649, 8.91074784, 0.14463740, -1.4355799],
    ];
    let measured = profiles[1..]
        .iter()
        .map(|p| [p.positive_probability, p.loss, p.effective_negatives, p.hardest_share, p.positive_gradient]);
    let off = measured.zip(digits).flat_map(|(x, y)| [0, 1, 2, 3, 4].map(|i| (x[i] / y[i] - 1.0).abs()));
    page.claim("the profiles are the reference's, to its digits").all(off, |error| error < 1e-7);
    page.claim("at .01 the loss is below rounding").all([profiles[0].loss], |loss| (0.0..1e-15).contains(&loss));
    let falls = profiles.windows(2).map(|w| w[0].positive_probability > w[1].positive_probability);
    page.claim("the positive's probability falls with the temperature").all(falls, |falls| falls);
    let grows = profiles.windows(2).map(|w| w[0].effective_negatives < w[1].effective_negatives);
    page.claim("and the effective negatives grow").all(grows, |grows| grows);
    page.claim("f32 overflows below 1/ln(max)").close(limits[0].0, 0.011271, 1e-6);
    page.claim("f16 far earlier").close(limits[1].0, 0.0901724, 1e-7);
    page.claim("plain exponentials give no number at .01, log-softmax does")
        .all(&limits, |l| l.1.is_nan() && l.2.is_finite());
    page.claim("nor does it fail at .001").between(sharp, 0.0, 1e-6);
    page.claim("the slope of the learnable temperature").close(slope, -0.0488431246, 1e-9);
    page.claim("the advice").equals(
        advice,
        [
            [0.2, 0.1, 0.1, 0.07, 0.07, 0.05, 0.05, 0.03],
            [0.2, 0.1, 0.1, 0.07, 0.07, 0.07, 0.07, 0.05],
            [0.2, 0.15, 0.15, 0.07, 0.07, 0.07, 0.07, 0.05],
        ],
    );
    page.claim("the best temperature beats the lowest by .05").greater(recalls[best], recalls[0] + 0.05);
    page.claim("in training too, the hardest negative's share falls as the temperature rises")
        .all(shares.windows(2), |w| w[0] > w[1]);
    page.finish()
}

/// InfoNCE of rows with themselves from exponentials as they come.
fn plain_loss(rows: &Tensor, dtype: DType, temperature: f64) -> anyhow::Result<f64> {
    let rows = normalize(rows)?;
    let weights = (rows.matmul(&rows.t()?)? / temperature)?.to_dtype(dtype)?.exp()?;
    let own = (&weights * Tensor::eye(rows.dim(0)?, dtype, &Device::Cpu)?)?.sum(D::Minus1)?;
    let loss = (own / weights.sum(D::Minus1)?)?.log()?.neg()?.mean_all()?;
    Ok(loss.to_dtype(DType::F64)?.to_scalar()?)
}
