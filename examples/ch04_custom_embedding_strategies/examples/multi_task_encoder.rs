//! Listing 4.9: one encoder with four heads: what the auxiliary tasks keep in the representation, and what they take from the main one.
//!
//! cargo run --release --example multi_task_encoder

use candle_core::{DType, Device, Tensor};
use ch04_custom_embedding_strategies::shopping::Shopping;
use eas_losses::fixtures::tiny;
use eas_losses::metric::softmax_cross_entropy;
use eas_nn::gradients::Gradients;
use eas_nn::multitask::{Task, TaskWeights, similarity_margin, squared_error, weighted_total};
use eas_report::{Chart, Table, num};

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let weights =
        TaskWeights::from([(Task::Similarity, 1.0), (Task::Category, 0.3), (Task::Brand, 0.2), (Task::Price, 0.1)]);

    page.section("The four losses on four rows");
    let device = &Device::Cpu;
    let t = tiny(DType::F64, device)?;
    let category = Tensor::new(&[[1.0, 0.0, -1.0], [0.5, 0.5, 0.0], [0.0, 2.0, 1.0], [-1.0, 0.0, 1.0]], device)?;
    let brand = Tensor::new(&[[0.25, -0.5], [1.0, 0.0], [0.0, 1.0], [0.5, 0.5]], device)?;
    let predicted = Tensor::new(&[0.5, -0.25, 1.0, 0.0], device)?;
    let prices = Tensor::new(&[0.25, 0.0, 1.5, -0.5], device)?;
    let parts = [
        (Task::Similarity, similarity_margin(&t.anchors, &t.positives, &t.first_negatives()?)?),
        (Task::Category, softmax_cross_entropy(&category, &[0, 1, 1, 2])?),
        (Task::Brand, softmax_cross_entropy(&brand, &[0, 0, 1, 1])?),
        (Task::Price, squared_error(&predicted, &prices)?),
    ];
    let mut table = Table::new(["task", "weight", "loss"]);
    let mut values = Vec::new();
    for (task, loss) in &parts {
        values.push(loss.to_scalar::<f64>()?);
        table.row([format!("{task:?}").into(), num(weights[task], 1), num(values[values.len() - 1], 10)]);
    }
    let total = weighted_total(&parts, &weights)?.to_scalar::<f64>()?;
    table.row(["weighted sum".into(), "".into(), num(total, 10)]);
    page.table("Fixture T", &table);
    // The same errors with prices in dollars rather than standardised logs.
    let dollars = squared_error(&(predicted * 60.0)?, &(prices * 60.0)?)?.to_scalar::<f64>()?;
    let raw = 0.1 * dollars / (total - 0.1 * values[3] + 0.1 * dollars);
    page.text(format!(
        "With prices in dollars, sixty to the standard deviation, the price would be {:.0} % of the sum despite its weight of .1.",
        100.0 * raw
    ));

    page.section("2,000 items to train on, 600 to measure");
    let seed = page.seed();
    let shop = Shopping::new(seed)?;
    let steps = page.size(400, 2_000);
    let single = TaskWeights::from([(Task::Category, 0.0), (Task::Brand, 0.0), (Task::Price, 0.0)]);
    let strong = TaskWeights::from([(Task::Category, 1.0), (Task::Brand, 1.0), (Task::Price, 0.5)]);
    let mut table = Table::new(["trained for", "recall@1", "category probe", "brand probe", "price R2"]);
    let (mut kept, mut models) = (Vec::new(), Vec::new());
    for (name, weights) in [("similarity", &single), ("all four", &weights), ("all four, heavier", &strong)] {
        let (model, params) = shop.train(weights, steps, seed)?;
        let own = shop.measure(&model)?;
        let cells = [own.recall_1, own.category, own.brand, own.price_r2].map(|x| num(x, 3).within(0.03));
        table.row([name.into()].into_iter().chain(cells));
        kept.push(own);
        models.push((model, params));
    }
    page.table("Probes are linear, on the representation that the heads share", &table);
    page.text(
        "The main task alone forgets what doesn't tell two items apart. The auxiliary heads keep it readable, and take room from the \
         main task: which of the two matters more is a business decision, not a technical one.",
    );
    let chart = Chart::bars("What is kept", "", "share", ["recall@1", "category", "brand", "price R2"])
        .series("similarity alone", [kept[0].recall_1, kept[0].category, kept[0].brand, kept[0].price_r2])
        .series("all four", [kept[1].recall_1, kept[1].category, kept[1].brand, kept[1].price_r2]);
    page.chart("kept.svg", &chart)?;

    // Gradients of one batch: a head of weight 0 gets none, and a batch of one item trains too.
    let rows: Vec<usize> = (0..64).collect();
    let others: Vec<usize> = (1..65).collect();
    let (model, params) = &models[1];
    let moved = |weights: &TaskWeights, name: &str| -> anyhow::Result<f64> {
        let loss = model.loss(&shop.batch(&rows, &others)?.as_batch(), weights)?;
        let gradients = Gradients::of(&loss, params)?;
        Ok(match gradients.get(name) {
            Some(gradient) => f64::from(gradient.abs()?.sum_all()?.to_scalar::<f32>()?),
            None => 0.0,
        })
    };
    let (with, without) = (moved(&weights, "brand.weight")?, moved(&single, "brand.weight")?);
    let one = model.losses(&shop.batch(&rows[..1], &others[..1])?.as_batch())?.len();
    let negative = weighted_total(&parts, &TaskWeights::from([(Task::Price, -1.0)]));

    for ((task, _), (value, expected)) in
        parts.iter().zip(values.iter().zip([0.501_000_225_6, 0.545_209_495_3, 0.426_635_390_4, 0.156_25]))
    {
        page.claim(format!("{task:?} loss")).close(value, expected, 1e-9);
    }
    page.claim("their weighted sum").close(total, 0.765_515_152_3, 1e-9);
    page.claim("the auxiliary tasks keep the category").at_least(kept[1].category, kept[0].category + 0.12);
    page.claim("and the brand").at_least(kept[1].brand, kept[0].brand + 0.15);
    page.claim("and the price").greater(kept[1].price_r2, kept[0].price_r2);
    page.claim("and cost recall").less(kept[1].recall_1, kept[0].recall_1);
    page.claim("more so with more weight").less(kept[2].recall_1, kept[1].recall_1);
    page.claim("a task of weight 0 moves nothing of its head").equals((without, with > 0.0), (0.0, true));
    page.claim("a batch of one item has all four losses").equals(one, 4);
    page.claim("raw prices would swamp the sum").greater(raw, 0.9);
    page.claim("a negative weight is refused").fails(negative, "task weight is -1");
    page.finish()
}
