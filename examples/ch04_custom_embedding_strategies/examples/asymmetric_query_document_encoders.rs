//! Listing 4.4: a relation with a direction, which one shared encoder can't learn and two towers can.
//!
//! cargo run --release --example asymmetric_query_document_encoders

use candle_core::{Device, Tensor};
use eas_nn::NnError;
use eas_nn::descent::Descent;
use eas_nn::params::Parameters;
use eas_nn::two_tower::{AsymmetricEncoder, Tower};
use eas_report::{Table, num};
use eas_tensor::kernels::dot_rows;
use eas_tensor::rng::SplitMix64;
use eas_tensor::top_k;

const DIM: usize = 16;

/// A quarter turn in each of eight planes; `-1` turns back. `x` and `R x` are at right angles for every `x`.
fn turn(x: &[f64], direction: f64) -> Vec<f64> {
    x.chunks(2).flat_map(|pair| [-direction * pair[1], direction * pair[0]]).collect()
}

fn unit(rng: &mut SplitMix64) -> Vec<f64> {
    normalized((0..DIM).map(|_| rng.normal()).collect())
}

fn normalized(x: Vec<f64>) -> Vec<f64> {
    let norm = x.iter().map(|v| v * v).sum::<f64>().sqrt();
    x.into_iter().map(|v| v / norm).collect()
}

fn tensor(rows: &[Vec<f64>]) -> Result<Tensor, NnError> {
    let values: Vec<f32> = rows.concat().into_iter().map(|x| x as f32).collect();
    Ok(Tensor::from_vec(values, (rows.len(), DIM), &Device::Cpu)?)
}

/// Queries, and the document of each: the query turned, with some noise.
fn pairs(n: usize, seed: u64) -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
    let mut rng = SplitMix64::new(seed);
    let pair = |_| {
        let x = unit(&mut rng);
        let document = turn(&x, 1.0).iter().zip(unit(&mut rng)).map(|(r, u)| r + 0.3 * u).collect();
        (x, normalized(document))
    };
    (0..n).map(pair).unzip()
}

/// What a trained model does with 500 new pairs.
struct Measured {
    recall: f64,
    direction: f64,
    positive: f64,
    gap: f64,
}

fn train(model: &AsymmetricEncoder<Tower>, params: &Parameters, seed: u64) -> anyhow::Result<Measured> {
    let (queries, documents) = pairs(4_000, seed);
    let (queries, documents) = (tensor(&queries)?, tensor(&documents)?);
    Descent { steps: 300, learning_rate: 1e-2, seed }.run(params, |_, rng| {
        let ids: Vec<u32> = (0..128).map(|_| rng.below(4_000) as u32).collect();
        let ids = Tensor::new(ids, &Device::Cpu)?;
        model.loss(&queries.index_select(&ids, 0)?, &documents.index_select(&ids, 0)?, 0.1)
    })?;
    let (new, answers) = pairs(500, seed + 1);
    let (queries, documents) = (tensor(&new)?, tensor(&answers)?);
    let (q, d) = model.encode(&queries, &documents)?;
    let right = (0..500).filter(|&i| top_k(&dot_rows(q.row(i), &d), 1)[0].id == i).count();
    let turned = |direction: f64| tensor(&new.iter().map(|x| turn(x, direction)).collect::<Vec<_>>());
    let (there, back) = (model.similarity(&queries, &turned(1.0)?)?, model.similarity(&queries, &turned(-1.0)?)?);
    let swapped = model.similarity(&documents, &queries)?;
    let own = model.similarity(&queries, &documents)?;
    Ok(Measured {
        recall: right as f64 / 500.0,
        direction: there.iter().zip(&back).filter(|(t, b)| t > b).count() as f64 / 500.0,
        positive: own.iter().map(|&s| f64::from(s)).sum::<f64>() / 500.0,
        gap: own.iter().zip(&swapped).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max),
    })
}

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let seed = page.seed();
    let mut params = Parameters::new(seed, &Device::Cpu);
    let linear = |params: &mut Parameters, name: &str| Tower::linear(params, name, DIM, DIM);
    let mlp = |params: &mut Parameters, name: &str| Tower::mlp(params, name, DIM, 64, DIM);
    let mut results = Vec::new();
    let mut table = Table::new(["model", "recall@1 of 500", "direction", "cosine of pairs", "roles swapped"]);
    for (name, is_linear, shared) in [
        ("shared linear", true, true),
        ("two linear towers", true, false),
        ("shared MLP", false, true),
        ("two MLP towers", false, false),
    ] {
        params = Parameters::new(seed + u64::from(is_linear), params.device());
        let mut tower = |name: &str| if is_linear { linear(&mut params, name) } else { mlp(&mut params, name) };
        let query = tower("query")?;
        let model =
            if shared { AsymmetricEncoder::shared(query) } else { AsymmetricEncoder::new(query, tower("document")?)? };
        let own = train(&model, &params, seed)?;
        table.row([
            name.into(),
            num(own.recall, 3).within(0.02),
            num(own.direction, 3).within(0.03),
            num(own.positive, 3).within(0.02),
            num(own.gap, 3).within(0.05),
        ]);
        results.push(own);
    }
    page.table(
        "Direction: s(x, Rx) > s(x, R'x). Swapped: largest change when query and document change places",
        &table,
    );
    page.text(
        "A shared linear encoder scores x'Sy with a symmetric S, and x'SRx averages to trace(SR) = 0: its pairs are no nearer than \
         strangers. A shared perceptron can fold the sphere so that x and Rx meet, but then R'x meets them too: it finds the \
         document among others and can't tell forwards from backwards.",
    );

    let mut table = Table::new(["use", "query side", "document side"]);
    for (purpose, query, document) in [
        ("question answering", "a question", "a passage that answers it"),
        ("web search", "a few keywords", "a page"),
        ("image search", "a sentence", "a picture"),
        ("recommendation", "a user's history", "an item"),
    ] {
        table.row([purpose, query, document].map(Into::into));
    }
    page.table("Where the two sides differ", &table);

    let [shared_linear, two_linear, shared_mlp, two_mlp] = &results[..] else { anyhow::bail!("four models") };
    let mut params = Parameters::new(seed, &Device::Cpu);
    let odd = AsymmetricEncoder::new(
        Tower::linear(&mut params, "query", DIM, 8)?,
        Tower::linear(&mut params, "document", DIM, 9)?,
    );
    page.claim("a shared linear encoder finds no document").at_most(shared_linear.recall, 0.02);
    page.claim("its pairs have a cosine of about 0").close(shared_linear.positive, 0.0, 0.1);
    page.claim("two linear towers find them").at_least(two_linear.recall, 0.97);
    page.claim("and know the direction").at_least(two_linear.direction, 0.98);
    page.claim("as do two perceptrons").at_least(two_mlp.recall.min(two_mlp.direction), 0.97);
    page.claim("a shared perceptron finds most of them").at_least(shared_mlp.recall, 0.6);
    page.claim("but guesses the direction").between(shared_mlp.direction, 0.4, 0.6);
    page.claim("like the shared linear one").between(shared_linear.direction, 0.4, 0.6);
    page.claim("shared encoders can't tell the roles apart").at_most(shared_linear.gap.max(shared_mlp.gap), 1e-6);
    page.claim("two towers can").at_least(two_linear.gap.min(two_mlp.gap), 0.5);
    page.claim("towers of different dimensions are refused").fails(odd, "is 9, must be 8");
    page.finish()
}
