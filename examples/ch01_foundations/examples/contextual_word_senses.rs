//! Listing 1.6: one word, two meanings, two vectors.
//!
//! cargo run --release --example contextual_word_senses -- --encoder minilm

use eas_data::fixtures::{BankSense, bank_senses};
use eas_eval::separation::{leave_one_out_centroid, pair_separation};
use eas_report::chart::{Chart, HeatMap};
use eas_report::{EncoderChoice, Table, num};
use eas_tensor::{Matrix, kernels::cosine};
use eas_text::encoder::{self, MiniLm, SentenceEncoder, StaticEncoder};

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let (sentences, senses): (Vec<&str>, Vec<_>) = bank_senses().into_iter().unzip();
    let mut table = Table::new(["", "sense", "sentence"]);
    for (i, (sentence, sense)) in bank_senses().iter().enumerate() {
        table.row([i.into(), format!("{sense:?}").into(), (*sentence).into()]);
    }
    page.table("Eight banks", &table);

    page.section("A table of word vectors");
    page.text(
        "In a static encoder a word has one row, whatever stands around it. Sentence vectors differ all the same, because their \
         other words differ: that two sentences are told apart says nothing about the word.",
    );
    let table_encoder = StaticEncoder::load()?;
    let words =
        sentences.iter().map(|sentence| word_row(&table_encoder, sentence)).collect::<anyhow::Result<Vec<_>>>()?;
    let static_words = Matrix::from_rows(&words)?;
    let static_sentences = table_encoder.encode(&sentences)?;
    let by_table = pair_separation(&static_sentences, &senses)?;
    let mut report = Table::new(["vectors", "same sense", "different sense", "AUC", "nearest centroid, of 8"]);
    report.row(separation("static, the word", &static_words, &senses)?);
    report.row(separation("static, the sentence", &static_sentences, &senses)?);

    page.claim("the table's vector of \"bank\" is the same in every sentence, bit for bit")
        .all(&words, |word| *word == words[0]);
    page.claim("static sentence vectors tell the senses apart to some degree").at_least(by_table.auc, 0.75);

    if page.encoder() == EncoderChoice::MiniLm {
        let model = MiniLm::load()?;
        let words =
            sentences.iter().map(|sentence| model.word_vector(sentence, "bank")).collect::<Result<Vec<_>, _>>()?;
        let in_context = Matrix::from_rows(&words)?;
        let encoded = encoder::load("minilm")?.encode(&sentences)?;
        report.row(separation("MiniLM, the word in context", &in_context, &senses)?);
        report.row(separation("MiniLM, the sentence", &encoded, &senses)?);
        page.table("How well the two senses are told apart", &report);
        page.chart("senses.svg", &heat_map("Cosine of \"bank\" in two sentences (MiniLM)", &in_context, &senses))?;
        let word = pair_separation(&in_context, &senses)?;
        page.claim("MiniLM: \"bank\" in one sense is close to itself").at_least(word.same_mean, 0.82);
        page.claim("MiniLM: \"bank\" in two senses is not").at_most(word.different_mean, 0.75);
        page.claim("MiniLM: every pair of one sense is closer than every pair of two").equals(word.auc, 1.0);
        page.claim("MiniLM: each sentence is nearest to the others of its sense")
            .equals(leave_one_out_centroid(&in_context, &senses)?, 1.0);
        page.claim("MiniLM: sentence vectors do nearly as well")
            .at_least(pair_separation(&encoded, &senses)?.auc, 0.90);
    } else {
        page.table("How well the two senses are told apart", &report);
        page.chart("senses.svg", &heat_map("Cosine of two sentences (static)", &static_sentences, &senses))?;
        page.skip(
            "word vectors in context",
            "they need MiniLM: run scripts/fetch_models.sh, then add --encoder minilm",
        );
    }
    page.finish()
}

fn heat_map(title: &str, vectors: &Matrix, senses: &[BankSense]) -> HeatMap {
    let row = |a: &[f32]| vectors.iter_rows().map(|b| f64::from(cosine(a, b))).collect();
    let names: Vec<String> = senses.iter().enumerate().map(|(i, sense)| format!("{i} {sense:?}")).collect();
    Chart::heat_map(title, names.clone(), names, vectors.iter_rows().map(row).collect())
}

/// The vector that the table gives to "bank" as a token of `sentence`.
fn word_row(encoder: &StaticEncoder, sentence: &str) -> anyhow::Result<Vec<f32>> {
    let token = encoder.token_embeddings(sentence).into_iter().find(|token| token.token == "bank");
    Ok(token.ok_or_else(|| anyhow::anyhow!("no token \"bank\" in {sentence:?}"))?.vector)
}

fn separation<L: Ord>(name: &str, vectors: &Matrix, senses: &[L]) -> anyhow::Result<[eas_report::Cell; 5]> {
    let pairs = pair_separation(vectors, senses)?;
    let right = leave_one_out_centroid(vectors, senses)? * senses.len() as f64;
    Ok([name.into(), num(pairs.same_mean, 4), num(pairs.different_mean, 4), num(pairs.auc, 4), num(right, 0)])
}
