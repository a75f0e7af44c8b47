//! Listing 5.12: hard negatives from a queue of earlier batches, and how stale the queue's entries are.
//!
//! cargo run --release --example queue_hard_negatives

use candle_core::{DType, Device, Tensor};
use ch05_contrastive_learning::families::{FamilyWorld, train};
use eas_losses::contrastive::{InfoNce, Negatives};
use eas_losses::queue_mining::QueueMiner;
use eas_losses::{fixtures, normalize};
use eas_nn::NnError;
use eas_nn::encoders::{Encoder, Mlp};
use eas_report::{Chart, Table, num};

/// Pairs a step.
const BATCH: usize = 16;
/// An id that no item has: with it nothing is masked.
const NOBODY: u32 = u32::MAX;

/// What a queue looks like at one step.
struct Look {
    step: u64,
    utilisation: f64,
    /// Mean cosine of an entry and what the encoder makes of its input now.
    cosine: f64,
    /// Share of the anchors' own items among the mined entries, with their ids masked and without.
    own: [f64; 2],
    /// How far from 1 an entry's length is at most.
    length_error: f64,
}

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let t = fixtures::tiny(DType::F64, &Device::Cpu)?;
    let six = t.negatives.flatten(0, 1)?.narrow(0, 0, 6)?;

    page.section("Four anchors, six entries");
    let mut miner = QueueMiner::new(3, 6, 2, 0.07)?;
    miner.queue.push(&six, &[10, 11, 12, 13, 14, 15])?;
    let best = miner.queue.mine(&t.anchors, &[0, 1, 2, 3], 2)?;
    let raw = normalize(&t.anchors)?.matmul(&six.t()?)?.to_vec2::<f64>()?;
    let slots: Vec<[usize; 2]> = best.iter().map(|found| [found[0].0, found[1].0]).collect();
    let mut table = Table::new(["anchor", "slots of the hardest", "cosine", "cosine", "product with the raw entry"]);
    for (i, found) in best.iter().enumerate() {
        let numbers = [num(found[0].1, 4), num(found[1].1, 4), num(raw[i][slots[i][0]], 4)];
        table.row([i.into(), format!("{:?}", slots[i]).into()].into_iter().chain(numbers));
    }
    page.table("Entries are normalised when they are pushed; raw, their \"cosines\" pass 1", &table);
    let mut losses = Vec::new();
    for (k, temperature) in [1, 2, 3, 6].into_iter().flat_map(|k| [(k, 0.07), (k, 0.5)]) {
        let miner = QueueMiner { k, temperature, queue: miner.queue.clone() };
        losses.push(miner.forward(&t.anchors, &t.positives, &[0, 1, 2, 3])?.loss.to_scalar::<f64>()?);
    }
    let moco = InfoNce::new(0.5).with_queue(&t.anchors, &t.positives, &six)?.loss.to_scalar::<f64>()?;
    // The book's fill level is the pointer divided by the capacity.
    let (mut small, mut fill) = (QueueMiner::new(3, 8, 2, 0.07)?.queue, Vec::new());
    for _ in 0..4 {
        small.push(&t.anchors, &[0, 1, 2, 3])?;
        fill.push((small.utilisation(), small.pointer() as f64 / 8.0));
    }

    page.section("Training with 16 pairs a step");
    let world = FamilyWorld::new(page.seed_or(5))?;
    let steps = page.size(600, 2_000);
    let mut table = Table::new(["told from", "recall@1", "mean age", "cosine to fresh", "itself, masked", "unmasked"]);
    let mut chart = Chart::lines("A longer queue is a staler one", "step", "cosine of entries and new encodings");
    let (mut recalls, mut logs) = (Vec::new(), Vec::new());
    for capacity in [0, 64, 512] {
        let (encoder, params) = world.encoder(1)?;
        let mut miner = QueueMiner::new(encoder.dim(), capacity.max(BATCH), 10, 0.1)?;
        // The inputs behind the entries, a batch of slots each.
        let (mut inputs, mut log) = (Vec::new(), Vec::new());
        train(&params, steps, 3e-3, |step| {
            let items = world.items(step, BATCH);
            let (anchors, input) = world.pairs(&items, step)?;
            let (a, p) = (encoder.forward(&anchors)?, encoder.forward(&input)?);
            let loss = if capacity == 0 || miner.queue.is_empty() {
                InfoNce::new(0.1).forward(&a, &p, Negatives::InBatch)?.loss
            } else {
                if step % 25 == 0 {
                    log.push(look(&miner, &encoder, &inputs, (&a, &items), step)?);
                }
                miner.forward(&a, &p, &items)?.loss
            };
            let slot = miner.queue.pointer() / BATCH;
            if slot < inputs.len() {
                inputs[slot] = input;
            } else {
                inputs.push(input);
            }
            miner.queue.push(&p, &items)?;
            Ok(loss)
        })?;
        let recall = world.recall_at_1(&encoder)?;
        let late: Vec<&Look> = log.iter().filter(|l| l.step >= 100).collect();
        let mean = |f: fn(&Look) -> f64| late.iter().map(|l| f(l)).sum::<f64>() / late.len() as f64;
        if capacity == 0 {
            let none = ["-"; 4].map(Into::into);
            table.row(["the other 15 pairs".into(), num(recall, 3)].into_iter().chain(none));
        } else {
            // Ages run from 1 step to capacity / 16 steps.
            let age = num((capacity / BATCH + 1) as f64 / 2.0, 1);
            let shares = [mean(|l| l.cosine), mean(|l| l.own[0]), mean(|l| l.own[1])].map(|x| num(x, 4));
            table.row([format!("10 of {capacity} entries").into(), num(recall, 3), age].into_iter().chain(shares));
            chart = chart.series(format!("{capacity} entries"), log.iter().map(|l| (l.step, l.cosine)));
            logs.push((mean(|l| l.cosine), mean(|l| l.own[1]), log));
        }
        recalls.push(recall);
    }
    page.table("600 steps, temperature 0.1; ages in steps, means from step 100 on", &table);
    page.chart("staleness.svg", &chart)?;
    page.text(
        "A short queue offers harder negatives than the batch. A long one holds keys of an encoder that is gone: without a slowly \
         moving key encoder (listing 5.7) more entries are no better.",
    );

    page.claim("the hardest entries").equals(slots, [[4, 0], [1, 0], [5, 3], [3, 0]]);
    let known = [[0.97252908, 0.71428571], [0.72939681, 0.60783067], [0.71428571, 0.12156613], [0.983282, 0.59914469]];
    let pairs = best.iter().flatten().map(|found| found.1).zip(known.into_iter().flatten());
    page.claim("their cosines").all(pairs, |(x, y)| (x - y).abs() < 1e-6);
    let known = [
        [0.6095294709, 0.6227974249, 0.6154367421, 0.8404868325],
        [0.6160046219, 0.9670857679, 0.6160264335, 1.0820127998],
    ];
    page.claim("the losses are PyTorch's")
        .all(losses.iter().zip(known.into_iter().flatten()), |(x, y)| (x - y).abs() < 2e-6);
    page.claim("all entries give MoCo's loss").close(losses[7], moco, 1e-6);
    page.claim("a raw entry's product passes 1").greater(raw[0][4], 1.3);
    page.claim("fill level, and by the pointer").equals(fill, [(0.5, 0.5), (1.0, 0.0), (1.0, 0.5), (1.0, 0.0)]);
    let looks = || logs.iter().flat_map(|(_, _, log)| log);
    page.claim("every entry has length 1").all(looks(), |look| look.length_error < 1e-6);
    let steps = logs.iter().flat_map(|(_, _, log)| log.windows(2));
    page.claim("queues fill and stay full").all(steps, |w| w[0].utilisation <= w[1].utilisation);
    page.claim("both are full at the end").all(&logs, |(_, _, log)| log.last().is_some_and(|l| l.utilisation == 1.0));
    page.claim("64 entries beat the batch").at_least(recalls[1], recalls[0] + 0.04);
    page.claim("512 are staler than 64").less(logs[1].0, logs[0].0);
    page.claim("unmasked, anchors would be told from themselves").all(&logs, |(_, unmasked, _)| *unmasked > 0.0);
    page.claim("masked never").all(looks(), |look| look.own[0] == 0.0);
    page.finish()
}

/// Encodes the inputs behind all entries anew, and counts anchors among their own negatives.
fn look(
    miner: &QueueMiner,
    encoder: &Mlp,
    inputs: &[Tensor],
    (anchors, items): (&Tensor, &[u32]),
    step: u64,
) -> Result<Look, NnError> {
    let fresh = encoder.forward(&Tensor::cat(inputs, 0)?)?;
    let stored = miner.queue.tensor(&fresh)?;
    let own = |ids: &[u32]| -> Result<f64, NnError> {
        let mined = miner.queue.mine(anchors, ids, miner.k)?;
        let item_of = |slot: usize| miner.queue.ids()[slot];
        let hits = mined.iter().zip(items).flat_map(|(row, id)| row.iter().filter(|m| item_of(m.0) == *id));
        Ok(hits.count() as f64 / mined.iter().map(Vec::len).sum::<usize>() as f64)
    };
    let lengths = stored.sqr()?.sum(1)?.sqrt()?.to_vec1::<f32>()?;
    Ok(Look {
        step,
        utilisation: miner.queue.utilisation(),
        cosine: f64::from((&fresh * &stored)?.sum(1)?.mean_all()?.to_scalar::<f32>()?),
        own: [own(items)?, own(&[NOBODY; BATCH])?],
        length_error: lengths.iter().map(|x| f64::from((x - 1.0).abs())).fold(0.0, f64::max),
    })
}
