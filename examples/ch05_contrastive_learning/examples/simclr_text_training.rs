//! Listing 5.6: SimCLR on text: two reworded views of a gloss, an encoder with a projection head, and NT-Xent. The representation
//! before the head is the one to keep.
//!
//! cargo run --release --example simclr_text_training                 (--encoder minilm: a transformer too; --full as well: half an hour)

use candle_core::Tensor;
use ch05_contrastive_learning::families::train;
use ch05_contrastive_learning::glosses::{BagEncoder, EpochReport, GlossSet, TRAIN, TwoViews, Views};
use ch05_contrastive_learning::transformer::tune_on_views;
use eas_data::wordnet::WordNet;
use eas_losses::{NtXent, PairLayout};
use eas_nn::finetune::{EmbeddingFineTuner, Objective};
use eas_report::{Chart, EncoderChoice, Table, num};
use eas_retrieval::paraphrase::{CachedParaphraser, Paraphraser, SynonymParaphraser};

/// A training run.
#[derive(Clone, Copy)]
struct SimClr<'a> {
    glosses: &'a GlossSet,
    batches: &'a [TwoViews],
    /// Whether the loss sees the output of the projection head, or the representation itself.
    head: bool,
    /// Whether every epoch is judged, or the last one only.
    watch: bool,
}

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let wordnet = WordNet::load()?;
    let glosses = GlossSet::draw(&wordnet, page.seed_or(5))?;
    let (untrained, _) = BagEncoder::of(&glosses, 1)?;
    let start = glosses.knn(|words| untrained.represent(words))?;

    page.section("Two views");
    let mut table = Table::new(["", "words"]);
    let sample = 5;
    table.row(["gloss".into(), glosses.texts[sample].join(" ").into()]);
    for view in 0..2 {
        let words = Views::STRONG.view(&wordnet, &glosses.texts[sample], sample as u32, 0, view);
        table.row([format!("view {}", view + 1).into(), words.join(" ").into()]);
    }
    let offline = SynonymParaphraser { wordnet: &wordnet, synonyms: 0.3, swaps: 0.1, seed: 5 };
    let paraphraser = CachedParaphraser::new(offline, 1_000);
    let reworded = paraphraser.paraphrase(&glosses.texts[sample].join(" "))?;
    table.row(["paraphrase".into(), reworded.as_str().into()]);
    page.table(
        "Views: synonyms for 3 words of 10, then 4 of 10 dropped; the paraphrase keeps all and swaps 1 of 10",
        &table,
    );

    page.section("Training");
    let epochs = page.size(5, 10);
    let strong = glosses.batches(&wordnet, Views::STRONG, 128, epochs)?;
    let run = SimClr { glosses: &glosses, batches: &strong, head: true, watch: true };
    let log = run.train()?;
    let columns = ["epoch", "loss", "pairs found", "10-NN", "10-NN of the head", "alignment", "uniformity"];
    let mut table = Table::new(columns);
    for row in &log {
        let found = [num(row.loss, 3).within(0.02), num(row.accuracy, 3).within(0.02)];
        let judged = [row.representation, row.projection].map(|x| num(x, 3).within(0.02));
        let shape = [row.alignment, row.uniformity].map(|x| num(x, 3).within(0.05));
        table.row([row.epoch.into()].into_iter().chain(found).chain(judged).chain(shape));
    }
    page.table("4,000 glosses of 10 files, 128 a step; 1,000 others are classified by their 10 nearest", &table);
    page.text(format!(
        "Untrained, the mean of random word vectors, the votes are right for {start:.3}; chance is .100."
    ));
    let chart = Chart::lines("Glosses classified by their neighbours", "epoch", "right")
        .series("representation", log.iter().map(|row| (row.epoch, row.representation)))
        .series("projection", log.iter().map(|row| (row.epoch, row.projection)))
        .level("untrained", start);
    page.chart("knn.svg", &chart)?;

    page.section("What matters");
    let weak = glosses.batches(&wordnet, Views { synonyms: 0.1, deletion: 0.1 }, 128, epochs)?;
    let small = glosses.batches(&wordnet, Views::STRONG, 16, epochs)?;
    let mut table = Table::new(["", "10-NN", "loss, last epoch"]);
    let last = &log[log.len() - 1];
    table.row(["as above".into(), num(last.representation, 3).within(0.02), num(last.loss, 3).within(0.02)]);
    let mut ablated = Vec::new();
    for (name, changed) in [
        ("weak views, 1 word of 10", SimClr { batches: &weak, ..run }),
        ("no head", SimClr { head: false, ..run }),
        ("16 a step, as many steps", SimClr { batches: &small[..strong.len()], ..run }),
    ] {
        let log = SimClr { watch: false, ..changed }.train()?;
        let last = &log[log.len() - 1];
        table.row([name.into(), num(last.representation, 3).within(0.02), num(last.loss, 3).within(0.02)]);
        ablated.push(last.representation);
    }
    page.table("One thing changed at a time; losses of other batches and views don't compare", &table);
    page.text(format!(
        "The book expects 10 to 20 % less without the head. Here the representation does lie above the projection, but trained \
         without a head it reaches {:.3}: a mean of word vectors has little that a head could protect.",
        ablated[1]
    ));

    let mut deep = None;
    if page.encoder() == EncoderChoice::MiniLm {
        page.section("The last layers of a transformer");
        let (n, layers, step) = page.size((640, 1, 5), (50_000, 2, 1));
        let objective = Objective::MultipleNegatives { scale: 10.0 };
        let tuner = EmbeddingFineTuner { objective, learning_rate: 1e-4, epochs: 1, warm_up: 2, ..Default::default() };
        let [before, after] = tune_on_views(tuner, layers, &glosses, &wordnet, n, step)?;
        page.text(format!("MiniLM's votes are right for {before:.3}; tuned on views of {n} glosses, for {after:.3}: it knew more already than rewordings of a text teach."));
        deep = Some((before, after));
    }

    // The book appends view 1 and view 2 in turn and pairs row i with row i + B. With three glosses, seen twice each, the wrong pairs are
    // all pairs of different glosses, once each: they can't be more alike than the rest, whatever the encoder.
    let pair: Vec<Vec<String>> = glosses.texts[..3].iter().flat_map(|text| [text.clone(), text.clone()]).collect();
    let crossed = untrained.project(&glosses.ids(&pair)?)?;
    let guard = |layout| NtXent { temperature: 0.1, layout }.check_layout(&crossed);

    let chance_loss = (2.0 * 128.0 - 1.0f64).ln();
    page.claim("training adds .10 to the votes of the untrained encoder").at_least(last.representation, start + 0.10);
    page.claim("the representation is worth at least the projection").at_least(last.representation, last.projection);
    page.claim("strong views beat weak ones by .03").at_least(last.representation, ablated[0] + 0.03);
    page.claim("the loss is below that of telling nothing apart").less(last.loss, chance_loss);
    page.claim("pairs are found far more often than by chance").at_least(last.accuracy, 0.5);
    if let Some((before, after)) = deep {
        page.claim("a published encoder is better to begin with").less(last.representation, before);
        page.claim("tuned on views it loses at most .03").at_least(after, before - 0.03);
    }
    page.claim("a paraphrase is made once")
        .equals((paraphraser.paraphrase(&glosses.texts[sample].join(" "))?, paraphraser.stats().hits), (reworded, 1));
    page.claim("the layout guard passes interleaved views").all([guard(PairLayout::Interleaved)], |g| g.is_ok());
    page.claim("and stops them in a loss that expects halves").fails(guard(PairLayout::Halves), "in another order");
    page.finish()
}

impl SimClr<'_> {
    /// Trains an encoder from scratch with Adam at 5e-3, reporting once every `TRAIN / 128` steps.
    fn train(self) -> anyhow::Result<Vec<EpochReport>> {
        let (encoder, params) = BagEncoder::of(self.glosses, 1)?;
        let criterion = NtXent { temperature: 0.1, layout: PairLayout::Halves };
        let per_epoch = TRAIN / 128;
        let (mut log, mut sums) = (Vec::new(), [0.0; 2]);
        train(&params, self.batches.len(), 5e-3, |step| {
            let views = &self.batches[step as usize].views;
            let encode = |words| if self.head { encoder.project(words) } else { encoder.represent(words) };
            let out = criterion.forward(&Tensor::cat(&[encode(&views[0])?, encode(&views[1])?], 0)?)?;
            sums = [sums[0] + f64::from(out.loss.to_scalar::<f32>()?), sums[1] + out.metrics.accuracy];
            let done = step as usize + 1;
            if done.is_multiple_of(per_epoch) {
                if self.watch || done == self.batches.len() {
                    let means = sums.map(|x| x / per_epoch as f64);
                    log.push(EpochReport::of(self.glosses, &encoder, done / per_epoch, means, views, self.watch)?);
                }
                sums = [0.0; 2];
            }
            Ok(out.loss)
        })?;
        Ok(log)
    }
}
