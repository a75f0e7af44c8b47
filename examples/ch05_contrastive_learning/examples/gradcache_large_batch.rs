//! Listing 5.15: large batches on a small machine. Accumulated micro-batches are another loss; cached gradients are the large batch's.
//!
//! cargo run --release --example gradcache_large_batch

use candle_core::{DType, Device, Tensor};
use ch05_contrastive_learning::families::{DIM, FamilyWorld};
use eas_losses::contrastive::candidate_loss;
use eas_losses::wrapper::GradCache;
use eas_losses::{fixtures, normalize};
use eas_nn::NnError;
use eas_nn::accumulate::Accumulator;
use eas_nn::encoders::Encoder;
use eas_nn::gradients::Gradients;
use eas_nn::optim::{Method, Optimizer};
use eas_nn::params::Parameters;
use eas_nn::train::on_one_thread;
use eas_report::{Chart, Table, num, sci};

const EFFECTIVE: usize = 512;
const MICRO: usize = 32;

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();

    page.section("Two halves are not the whole");
    let t = fixtures::tiny(DType::F64, &Device::Cpu)?;
    let start = Tensor::new(&[[0.5f64, -0.25, 1.0], [0.75, 1.0, -0.5]], &Device::Cpu)?;
    let mut params = Parameters::new(1, &Device::Cpu);
    let weight = params.adopt("weight", &start)?;
    let encode = |x: &Tensor| Ok(x.matmul(&weight.t()?)?);
    let towers = [t.anchors, t.positives];
    let mut steps = vec![("batch of 4", whole(&params, &towers, &encode, 0.5)?)];
    steps.push(("2 + 2, accumulated", accumulated(&params, &towers, &encode, 0.5, 2)?));
    for (name, micro) in [("cached, 1 at a time", 1), ("cached, 2 at a time", 2), ("cached, 4 at a time", 4)] {
        steps.push((name, cached(&params, &towers, &encode, 0.5, micro)?));
    }
    let mut table = Table::new(["method", "loss", "dW11", "dW12", "dW13", "dW21", "dW22", "dW23"]);
    let mut values = Vec::new();
    for (name, (loss, gradients)) in &steps {
        let gradient = gradients.get("weight").map_or(Ok(vec![]), |g| g.flatten_all()?.to_vec1::<f64>())?;
        table.row([(*name).into(), num(*loss, 6)].into_iter().chain(gradient.iter().map(|&x| num(x, 5))));
        values.push(gradient);
    }
    page.table("Fixture T, encoder W x, temperature 0.5", &table);
    page.text(
        "A row's negatives are the rest of its batch: the halves never compare a row of one with a row of the other.",
    );

    // For a loss that is a mean over rows the parts do add up.
    let error = |from, rows| -> Result<Tensor, NnError> {
        let out = encode(&towers[0].narrow(0, from, rows)?)?;
        Ok((out - towers[1].narrow(0, from, rows)?.narrow(1, 0, 2)?)?.sqr()?.mean_all()?)
    };
    let mut parts = Accumulator::new(4)?;
    parts.add(&params, &error(0, 3)?, 3)?;
    parts.add(&params, &error(3, 1)?, 1)?;
    let mut difference = Gradients::of(&error(0, 4)?, &params)?;
    difference.add(&parts.take()?.ok_or_else(|| anyhow::anyhow!("no parts"))?.gradients, -1.0)?;

    page.section("During training");
    let world = FamilyWorld::new(page.seed_or(5))?;
    let updates = page.size(100, 400);
    let mut cosines = Vec::new();
    let mut train = |exact: bool| -> Result<f64, NnError> {
        let (encoder, params) = world.encoder(1)?;
        let encode = |x: &Tensor| encoder.forward(x);
        let mut adam = Optimizer::new(Method::ADAM, &params)?;
        for step in 0..=updates as u64 {
            let (a, p) = world.batch(step, EFFECTIVE)?;
            let towers = [a, p];
            let method = if exact { cached } else { accumulated };
            let (_, gradients) = method(&params, &towers, &encode, 0.1, MICRO)?;
            if exact && step % 25 == 0 {
                let full = whole(&params, &towers, &encode, 0.1)?.1;
                let relation =
                    |other: &Gradients| Ok::<_, NnError>((other.cosine(&full)?, other.norm()? / full.norm()?));
                let [small, large] = [MICRO, 128].map(|micro| accumulated(&params, &towers, &encode, 0.1, micro));
                cosines.push((step, [relation(&small?.1)?, relation(&large?.1)?, relation(&gradients)?]));
            }
            if step < updates as u64 {
                adam.step(&gradients, 3e-3)?;
            }
        }
        world.recall_at_1(&encoder)
    };
    let (recall_cached, recall_naive) = on_one_thread(|| Ok::<_, NnError>((train(true)?, train(false)?)))?;
    let mut table = Table::new(["update", "16 x 32", "its length", "4 x 128", "its length", "1 - cached's cosine"]);
    for (step, [small, large, cached]) in &cosines {
        let cells = [small, large].into_iter().flat_map(|(cosine, length)| [num(*cosine, 3), num(*length, 2)]);
        table.row([(*step).into()].into_iter().chain(cells).chain([sci((1.0 - cached.0).max(0.0), 0).within(1e-6)]));
    }
    page.table("Cosine to the gradient of the batch of 512 and length relative to it, temperature 0.1", &table);
    let line = |i: usize| cosines.iter().map(move |(step, relations)| (*step, relations[i].0)).collect::<Vec<_>>();
    let chart = Chart::lines("Where accumulated micro-batches point", "update", "cosine to the true gradient")
        .series("16 x 32 accumulated", line(0))
        .series("4 x 128 accumulated", line(1))
        .series("cached", line(2));
    page.chart("cosine.svg", &chart)?;

    // What the encoder keeps of a row for the backward pass: input, hidden layer before and after ReLU, output.
    let row = world.families().dim() + 2 * 64 + DIM;
    let (plain, small, cache) = (2 * EFFECTIVE * row, 2 * MICRO * row, MICRO * row + 2 * (2 * EFFECTIVE) * DIM);
    let mut table = Table::new(["method", "negatives a row", "numbers kept", "recall@1"]);
    table.row(["batch of 512".into(), 511.into(), plain.into(), num(recall_cached, 3)]);
    table.row(["16 x 32 accumulated".into(), 31.into(), small.into(), num(recall_naive, 3)]);
    table.row(["16 x 32 cached".into(), 511.into(), cache.into(), num(recall_cached, 3)]);
    page.table(format!("After {updates} updates; the cache holds all embeddings and the gradients by them"), &table);

    let near = |x: &[f64], y: &[f64], tolerance: f64| x.iter().zip(y).all(|(x, y)| (x - y).abs() < tolerance);
    let known = [0.46495357, -0.39416908, -0.19914631, -0.01389608, -0.10390518, 0.03509101];
    let halved = [0.55985691, -0.66229191, -0.39417692, -0.39185375, 0.36328441, 0.24143721];
    page.claim("the whole batch's loss").close(steps[0].1.0, 0.829_597_308_2, 1e-9);
    page.claim("the accumulated loss is about half").close(steps[1].1.0, 0.433_749_616_6, 1e-9);
    page.claim("both gradients are PyTorch's").all([known, halved].iter().zip(&values), |(x, y)| near(x, y, 1e-7));
    page.claim("cached gradients are the whole batch's").all(&values[2..], |x| near(x, &values[0], 1e-12));
    page.claim("for a mean over rows accumulation is exact").at_most(difference.norm()?, 1e-14);
    let naive = |step: u64| cosines.iter().find(|row| row.0 == step).map_or(f64::NAN, |row| row.1[0].0);
    page.claim("at first accumulation points nearly the right way").at_least(naive(0), 0.9);
    page.claim("after 50 updates it doesn't").less(naive(50), 0.8);
    page.claim("cached gradients always do").all(&cosines, |row| row.1[2].0 > 0.999_999);
    page.claim("training on cached gradients finds more items").greater(recall_cached, recall_naive);
    page.finish()
}

type Encode<'a> = dyn Fn(&Tensor) -> Result<Tensor, NnError> + 'a;
type Step = Result<(f64, Gradients), NnError>;

/// InfoNCE with in-batch negatives.
fn info_nce(e: &[Tensor], temperature: f64) -> Result<Tensor, NnError> {
    let targets: Vec<u32> = (0..e[0].dim(0)? as u32).collect();
    let cosines = normalize(&e[0])?.matmul(&normalize(&e[1])?.t()?)?;
    Ok(candidate_loss(&cosines, &targets, temperature, None, None)?)
}

fn whole(params: &Parameters, towers: &[Tensor; 2], encode: &Encode<'_>, temperature: f64) -> Step {
    let loss = info_nce(&[encode(&towers[0])?, encode(&towers[1])?], temperature)?;
    Ok((loss.to_dtype(DType::F64)?.to_scalar()?, Gradients::of(&loss, params)?))
}

/// The rows of `x`, `micro` at a time.
fn cut(x: &Tensor, micro: usize) -> Result<Vec<Tensor>, NnError> {
    let rows = x.dim(0)?;
    (0..rows).step_by(micro).map(|from| Ok(x.narrow(0, from, micro.min(rows - from))?)).collect()
}

fn accumulated(params: &Parameters, towers: &[Tensor; 2], encode: &Encode<'_>, temperature: f64, micro: usize) -> Step {
    let mut sum = Accumulator::new(towers[0].dim(0)?)?;
    for (a, p) in cut(&towers[0], micro)?.iter().zip(cut(&towers[1], micro)?) {
        sum.add(params, &info_nce(&[encode(a)?, encode(&p)?], temperature)?, a.dim(0)?)?;
    }
    let done = sum.take()?.ok_or_else(|| NnError::Empty { what: "batch".to_owned() })?;
    Ok((done.loss, done.gradients))
}

fn cached(params: &Parameters, towers: &[Tensor; 2], encode: &Encode<'_>, temperature: f64, micro: usize) -> Step {
    let chunks = [cut(&towers[0], micro)?, cut(&towers[1], micro)?];
    let (loss, store) = GradCache::step(&chunks, |_, x| encode(x), |e| info_nce(e, temperature))?;
    Ok((loss, Gradients::from_store(&store, params)))
}
