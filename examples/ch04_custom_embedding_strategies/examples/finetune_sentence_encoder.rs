//! Listing 4.2: fine-tuning an encoder on a firm's own pairs: which loss, how many pairs, how fast, and what is forgotten.
//!
//! cargo run --release --example finetune_sentence_encoder              (--encoder minilm: a transformer too; --full: on all of it)

use candle_core::{DType, Device};
use ch04_custom_embedding_strategies::tuning::{Shop, Transformer};
use eas_data::wordnet::WordNet;
use eas_eval::ir::IrReport;
use eas_losses::fixtures::tiny;
use eas_nn::finetune::{EmbeddingFineTuner, Objective, Trainable};
use eas_report::{Chart, EncoderChoice, Table, num, sci};
use eas_tensor::rng::SplitMix64;

/// For the lengths that the bundled token vectors have: the table of rates below shows what larger and smaller ones do.
const RATE: f64 = 1e-3;

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let seed = page.seed();

    page.section("The losses on four rows");
    let t = tiny(DType::F64, &Device::Cpu)?;
    let negatives = t.first_negatives()?;
    let mut table = Table::new(["loss", "of pairs", "of triplets"]);
    let mut losses = Vec::new();
    for (name, objective) in [
        ("cosine regression", Objective::CosineRegression),
        ("triplet, margin .5", Objective::TRIPLET),
        ("contrastive, margin .5", Objective::CONTRASTIVE),
        ("multiple negatives, scale 20", Objective::MULTIPLE_NEGATIVES),
    ] {
        let with = objective.loss(&t.anchors, &t.positives, Some(&negatives))?.to_scalar::<f64>()?;
        let pairs = objective.loss(&t.anchors, &t.positives, None).and_then(|loss| Ok(loss.to_scalar::<f64>()?));
        let cell = pairs.as_ref().map_or("refused".into(), |&loss| num(loss, 10));
        table.row([name.into(), cell, num(with, 10)]);
        losses.push((pairs.unwrap_or(0.0), with));
    }
    let apart = Objective::CosineRegression.labelled(&t.anchors, &t.positives, &[0.0; 4])?.to_scalar::<f64>()?;
    page.table("Fixture T", &table);
    page.text(format!(
        "The book hands triplets to the cosine loss with the label that they have by default, 0: the positives are pushed \
         apart, at a loss of {apart:.10}."
    ));

    page.section("A catalogue with a private vocabulary");
    let shop = Shop::new(seed)?;
    let first = &shop.products[0];
    page.text(format!("\"{}\" answers \"{}\"; no text says which line serves what.", first.text, first.query));
    let (queries, texts) = shop.texts();
    let frozen = shop.report(&shop.words.frozen(&queries)?, &shop.words.frozen(&texts)?)?;
    let tuner = EmbeddingFineTuner { learning_rate: RATE, ..EmbeddingFineTuner::default() };
    let mut table = Table::new(["encoder, 2,000 examples", "accuracy@1", "recall@10", "MRR@10", "NDCG@10", "MAP@100"]);
    let mut line = |name: &str, r: &IrReport| {
        let cells = [r.accuracy[0], r.recall[3], r.mrr_10, r.ndcg_10, r.map_100].map(|x| num(x, 3).within(0.02));
        table.row([name.into()].into_iter().chain(cells));
    };
    line("frozen", &frozen);
    let (encoder, tuned) = shop.tune(tuner, 2_000, false)?;
    line("multiple negatives, pairs", &tuned);
    let mut by_loss = Vec::new();
    for (name, objective) in [
        ("triplet", Objective::TRIPLET),
        ("contrastive, triplets", Objective::CONTRASTIVE),
        ("cosine regression, triplets", Objective::CosineRegression),
    ] {
        let report = shop.tune(EmbeddingFineTuner { objective, ..tuner }, 2_000, true)?.1;
        line(name, &report);
        by_loss.push(report.mrr_10);
    }
    page.table("500 queries against 2,880 products, 3 epochs, batches of 64, learning rate 1e-3", &table);

    let sizes = [48, 96, 192, 384, 2_000];
    let mut table = Table::new(["pairs", "epochs", "multiple negatives", "triplet"]);
    let (mut ranking, mut triplet) = (Vec::new(), Vec::new());
    for n in sizes {
        let few = EmbeddingFineTuner { batch: 32, epochs: (960 / n).max(3), ..tuner };
        ranking.push(shop.tune(few, n, false)?.1.mrr_10);
        triplet.push(shop.tune(EmbeddingFineTuner { objective: Objective::TRIPLET, ..few }, n, true)?.1.mrr_10);
        let [a, b] = [ranking[ranking.len() - 1], triplet[triplet.len() - 1]].map(|x| num(x, 3).within(0.02));
        table.row([n.into(), few.epochs.into(), a, b]);
    }
    page.table("MRR@10 by the number of pairs, batches of 32", &table);
    let chart = Chart::lines("How many pairs", "pairs", "MRR@10")
        .log_x()
        .series("multiple negatives", sizes.into_iter().zip(ranking.clone()))
        .series("triplet", sizes.into_iter().zip(triplet.clone()))
        .level("frozen", frozen.mrr_10);
    page.chart("pairs.svg", &chart)?;

    let mut table = Table::new(["learning rate", "MRR@10"]);
    let mut by_rate = Vec::new();
    for learning_rate in [2e-5, 2e-4, 1e-3, 1e-2] {
        let mrr = shop.tune(EmbeddingFineTuner { learning_rate, ..tuner }, 2_000, false)?.1.mrr_10;
        table.row([sci(learning_rate, 0), num(mrr, 3).within(0.02)]);
        by_rate.push(mrr);
    }
    page.table("A transformer's learning rate of 2e-5 hardly moves a table of token vectors", &table);

    page.section("What is forgotten");
    let wordnet = WordNet::load()?;
    let chosen = SplitMix64::new(seed).sample_indices(wordnet.synsets().len(), 500);
    let (lemmas, glosses): (Vec<&str>, Vec<&str>) =
        chosen.iter().map(|&i| (wordnet.synsets()[i].lemmas[0].as_str(), wordnet.synsets()[i].gloss.as_str())).unzip();
    let own: Vec<Vec<usize>> = (0..500).map(|row| vec![row]).collect();
    let before = IrReport::new(&shop.words.frozen(&lemmas)?, &shop.words.frozen(&glosses)?, &own)?.mrr_10;
    let after = (shop.words.encode(&encoder, &lemmas)?, shop.words.encode(&encoder, &glosses)?);
    let after = IrReport::new(&after.0, &after.1, &own)?.mrr_10;
    page.text(format!(
        "500 WordNet words against their definitions, MRR@10: {before:.3} before, {after:.3} after. Only {} of 30,522 token \
         vectors were trained; those of other words are as they were.",
        shop.words.len()
    ));

    let mut deep = Vec::new();
    if page.encoder() == EncoderChoice::MiniLm || page.full() {
        page.section("The last layers of a transformer");
        let transformer = Transformer::load(page.size(1, 2))?;
        let tuner = EmbeddingFineTuner { learning_rate: 5e-4, batch: 32, warm_up: 4, seed, ..tuner };
        let sizes = page.size([192, 100, 480], [2_000, 500, 2_880]);
        deep.push(("catalogue", transformer.tune_on_shop(tuner, &shop, sizes)?));
        if page.full() {
            let gentle = EmbeddingFineTuner { learning_rate: 1e-4, batch: 64, epochs: 2, ..tuner };
            deep.push(("glosses and their hypernyms'", transformer.tune_on_hypernyms(gentle, &wordnet, 2_000)?));
        }
        let mut table = Table::new(["MiniLM on", "recall@3 before", "after", "MRR@10 before", "after"]);
        for (name, [before, after]) in &deep {
            let cells = [before.recall[1], after.recall[1], before.mrr_10, after.mrr_10];
            table.row([(*name).into()].into_iter().chain(cells.map(|x| num(x, 3).within(0.05))));
        }
        page.table("Queries that weren't trained on; the layers below are frozen and read each text once", &table);
    }

    let path = page.out_dir()?.join("tuned.safetensors");
    encoder.save(&path)?;
    let again = shop.words.encoder(Trainable::TokenTable)?;
    again.load(&path)?;
    let same = shop.words.encode(&again, &queries)? == shop.words.encode(&encoder, &queries)?;
    let long = EmbeddingFineTuner { warm_up: 500, ..tuner }.run(&again, &shop.examples(2_000, false));
    let pairs_only = EmbeddingFineTuner { objective: Objective::CONTRASTIVE, warm_up: 0, ..tuner }
        .run(&again, &shop.examples(64, false));
    let crash = EmbeddingFineTuner { objective: Objective::TRIPLET, warm_up: 0, ..tuner }
        .run(&again, &shop.examples(64, false));
    let book = EmbeddingFineTuner { learning_rate: 2e-5, warm_up: 10, ..tuner };
    let rates = [0, 5, 10, 55, 99].map(|step| (book.rate(step, 100) * 1e10).round() / 1e10);

    page.claim("cosine regression of pairs").close(losses[0].0, 0.005_402_065_2, 1e-9);
    page.claim("with negatives as 0").close(losses[0].1, 0.200_203_806_9, 1e-9);
    page.claim("with the positives as 0, the book's default").close(apart, 0.871_893_335_0, 1e-9);
    page.claim("triplet").close(losses[1].1, 0.188_087_097_1, 1e-9);
    page.claim("contrastive").close(losses[2].1, 0.013_777_535_1, 1e-9);
    page.claim("multiple negatives").close(losses[3].0, 0.002_287_716_8, 1e-9);
    page.claim("with hard negatives").close(losses[3].1, 0.380_757_854_5, 1e-9);
    page.claim("learning rates at steps 0, 5, 10, 55 and 99 of 100").equals(rates, [0.0, 1e-5, 2e-5, 1e-5, 2.222e-7]);
    page.claim("the frozen encoder can't know the lines").at_most(frozen.mrr_10, 0.10);
    page.claim("2,000 pairs teach it").at_least(tuned.mrr_10, 0.9);
    page.claim("no other loss does better").all(&by_loss, |&mrr| mrr <= tuned.mrr_10);
    page.claim("more pairs teach more, from 48 to 384").all(ranking[..4].windows(2), |pair| pair[0] < pair[1]);
    page.claim("48 pairs are worth this").at_least(ranking[0], 0.35);
    page.claim("triplets teach less at each size up to 384").all(ranking.iter().zip(&triplet).take(4), |(r, t)| t < r);
    page.claim("2e-5 leaves most of it unlearned").at_most(by_rate[0], 0.2);
    page.claim("little is forgotten").at_most(before - after, 0.01);
    if !deep.is_empty() {
        page.claim("a transformer's last layers learn it too").all(&deep, |(_, [a, b])| b.mrr_10 > a.mrr_10);
    }
    page.claim("saved and loaded, it encodes the same").equals(same, true);
    page.claim("a warm-up of 500 steps outlasts the run").fails(long, "shorter than the run of 96 steps");
    page.claim("contrastive with positives only is refused").fails(pairs_only, "positives only");
    page.claim("as are pairs for the triplet loss").fails(crash, "triplets for the triplet loss");
    page.finish()
}
