//! Listing 5.7: MoCo on text: many negatives from a small batch, by a queue of keys that a slowly moving copy of the encoder made.
//!
//! cargo run --release --example moco_text_training

use candle_core::{DType, Device, Tensor};
use ch05_contrastive_learning::families::train;
use ch05_contrastive_learning::glosses::{BagEncoder, GlossSet, TwoViews, Views};
use eas_data::wordnet::WordNet;
use eas_losses::contrastive::RetrievalMetrics;
use eas_losses::queue::NegativeQueue;
use eas_losses::{LossOutput, NtXent, PairLayout, fixtures};
use eas_nn::NnError;
use eas_nn::ema::{Ema, half_life};
use eas_nn::params::Parameters;
use eas_report::{Chart, Table, num};
use eas_tensor::rng::SplitMix64;

const BATCH: usize = 64;
const TEMPERATURE: f64 = 0.1;
/// An id that no gloss has: with it nothing is masked.
const NOBODY: u32 = u32::MAX;

/// The encoder that is trained, its slow copy, and the keys that the copy made.
struct MoCo {
    query: BagEncoder,
    key: BagEncoder,
    ema: Ema,
    queue: NegativeQueue,
}

impl MoCo {
    fn new(glosses: &GlossSet, momentum: f64, capacity: usize) -> anyhow::Result<(Self, Parameters)> {
        let ((query, params), (key, copy)) = (BagEncoder::of(glosses, 1)?, BagEncoder::of(glosses, 1)?);
        let (ema, queue) = (Ema::new(&params, &copy, momentum)?, NegativeQueue::new(32, capacity)?);
        Ok((Self { query, key, ema, queue }, params))
    }

    /// The copy moves, then encodes without a gradient. Its keys join the queue after the loss, or each would meet itself there.
    fn step(&mut self, batch: &TwoViews) -> Result<LossOutput<RetrievalMetrics>, NnError> {
        self.ema.update()?;
        let (query, key) = (self.query.project(&batch.views[0])?, self.key.project(&batch.views[1])?.detach());
        let out = self.queue.info_nce(&query, &key, &batch.rows, TEMPERATURE)?;
        self.queue.push(&key, &batch.rows)?;
        Ok(out)
    }

    /// The losses of a batch against the queue without and with its own keys, and against as many random rows.
    fn told_from(&self, batch: &TwoViews) -> anyhow::Result<[f64; 3]> {
        let (query, key) = (self.query.project(&batch.views[0])?, self.key.project(&batch.views[1])?);
        let mut random = NegativeQueue::new(32, self.queue.capacity())?;
        let mut rng = SplitMix64::new(2);
        let values: Vec<f32> = (0..32 * random.capacity()).map(|_| rng.normal() as f32).collect();
        let rows = Tensor::from_vec(values, (random.capacity(), 32), &Device::Cpu)?;
        random.push(&rows, &vec![NOBODY; random.capacity()])?;
        let mut losses = [0.0; 3];
        let masks = [(&self.queue, &batch.rows[..]), (&self.queue, &[NOBODY; BATCH]), (&random, &[0; BATCH])];
        for (loss, (queue, ids)) in losses.iter_mut().zip(masks) {
            *loss = f64::from(queue.info_nce(&query, &key, ids, TEMPERATURE)?.loss.to_scalar::<f32>()?);
        }
        Ok(losses)
    }
}

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();

    page.section("The loss and the queue");
    let t = fixtures::tiny(DType::F64, &Device::Cpu)?;
    let mut queue = NegativeQueue::new(3, 6)?;
    queue.push(&t.negatives.flatten(0, 1)?.narrow(0, 0, 6)?, &[10, 11, 12, 13, 14, 15])?;
    let loss_at = |temperature| queue.info_nce(&t.anchors, &t.positives, &[0, 1, 2, 3], temperature);
    let (cold, warm) = (loss_at(0.07)?, loss_at(0.2)?);
    let mut ring = NegativeQueue::new(3, 6)?;
    let mut table = Table::new(["push of 4 into 6", "next slot", "ids, slot by slot"]);
    let mut places = Vec::new();
    for push in 1..3 {
        ring.push(&t.positives, &[0, 1, 2, 3])?;
        table.row([push.into(), ring.pointer().into(), format!("{:?}", ring.ids()).into()]);
        places.push((ring.pointer(), ring.ids().to_vec()));
    }
    page.table("A queue starts empty, without made-up rows; a full one forgets the oldest", &table);

    page.section("Training");
    let wordnet = WordNet::load()?;
    let glosses = GlossSet::draw(&wordnet, page.seed_or(5))?;
    let batches = glosses.batches(&wordnet, Views::STRONG, BATCH, page.size(5, 20))?;
    let (untrained, _) = BagEncoder::of(&glosses, 1)?;
    let start = glosses.knn(|words| untrained.represent(words))?;
    let mut table = Table::new(["trained by", "half-life, steps", "10-NN", "loss", "keys found"]);
    table.row(["nothing".into(), "-".into(), num(start, 3).within(0.02), "-".into(), "-".into()]);
    let mut chart = Chart::lines("The loss of MoCo by momentum", "step", "loss, mean of 10 steps");
    let (mut votes, mut own, mut met_again) = (Vec::new(), 0, Vec::new());
    for momentum in page.size(&[0.0, 0.99, 0.999][..], &[0.0, 0.9, 0.99, 0.999]) {
        let (mut moco, params) = MoCo::new(&glosses, *momentum, page.size(1_000, 4_096))?;
        let mut found = Vec::new();
        let log = train(&params, batches.len(), 5e-3, |step| {
            let out = moco.step(&batches[step as usize])?;
            found.push(out.metrics.accuracy);
            Ok(out.loss)
        })?;
        let right = glosses.knn(|words| moco.query.represent(words))?;
        let last = |values: &[f64]| num(values[values.len() - 50..].iter().sum::<f64>() / 50.0, 3).within(0.05);
        let name = format!("MoCo, momentum {momentum}");
        table.row([name.into(), num(half_life(*momentum), 1), num(right, 3).within(0.02), last(&log), last(&found)]);
        let means = log.chunks(10).enumerate().map(|(i, part)| (10 * i, part.iter().sum::<f64>() / part.len() as f64));
        chart = chart.series(format!("momentum {momentum}"), means);
        votes.push((*momentum, right));
        if *momentum == 0.99 {
            let again = &batches[batches.len() - 10];
            own = moco.queue.ids().iter().filter(|id| again.rows.contains(id)).count();
            met_again = moco.told_from(again)?.to_vec();
        }
    }
    let (simclr, params) = BagEncoder::of(&glosses, 1)?;
    let criterion = NtXent { temperature: TEMPERATURE, layout: PairLayout::Halves };
    train(&params, batches.len(), 5e-3, |step| {
        let [x, y] = &batches[step as usize].views;
        Ok(criterion.forward(&Tensor::cat(&[simclr.project(x)?, simclr.project(y)?], 0)?)?.loss)
    })?;
    let reference = glosses.knn(|words| simclr.represent(words))?;
    table.row(["SimCLR, same views".into(), "-".into(), num(reference, 3).within(0.02), "-".into(), "-".into()]);
    page.table("4,000 glosses, 64 a step, five passes; the means of the last 50 steps", &table);
    page.chart("loss.svg", &chart)?;
    page.text(
        "A key encoder that is copied at each step leaves keys of many encoders in the queue; one that has moved less than a third of \
         the way after all 310 steps gives keys of the untrained encoder. At this budget SimCLR is ahead: its gradient reaches both views.",
    );
    let mut table = Table::new(["a batch of ten steps ago, told from", "loss"]);
    for (name, loss) in
        ["the queue, own keys masked", "the queue", "random unit vectors, as the book begins"].iter().zip(&met_again)
    {
        table.row([(*name).into(), num(*loss, 3).within(0.05)]);
    }
    page.table("What an anchor should not meet", &table);

    let right = |m: f64| votes.iter().find(|vote| vote.0 == m).map_or(f64::NAN, |vote| vote.1);
    let number = |out: &LossOutput<RetrievalMetrics>| out.loss.to_scalar::<f64>();
    page.claim("the loss at .07 is PyTorch's").close(number(&cold)?, 0.6160264335, 2e-6);
    page.claim("and at .2").close(number(&warm)?, 0.7030678515, 2e-6);
    page.claim("half of the positives are found").equals(cold.metrics.accuracy, 0.5);
    page.claim("mean cosine of positives").close(cold.metrics.positive_similarity, 0.9332456349, 1e-9);
    page.claim("mean cosine of queue entries").close(cold.metrics.negative_similarity, 0.1188786562, 1e-7);
    page.claim("pointers and ids after two pushes")
        .equals(places, [(4, vec![0, 1, 2, 3]), (2, vec![2, 3, 2, 3, 0, 1])]);
    page.claim("half-life of .999, in steps").close(half_life(0.999), 692.80, 0.005);
    page.claim("half-life of .99").close(half_life(0.99), 68.97, 0.005);
    page.claim("a slow copy beats none by .05").at_least(right(0.99), right(0.0) + 0.05);
    page.claim("and the untrained encoder").at_least(right(0.99), start + 0.05);
    page.claim("a copy that hardly moves is worse").less(right(0.999), right(0.99));
    page.claim("SimCLR is ahead at this budget").greater(reference, right(0.99));
    page.claim("own keys are met again").at_least(own as f64, 64.0);
    page.claim("unmasked they are pushed away").greater(met_again[1], met_again[0]);
    page.claim("random vectors are easier than keys").less(met_again[2], met_again[0]);
    page.finish()
}
