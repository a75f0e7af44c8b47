//! Listing 14.1: text, images and sounds in one space, and sounds found by words that were never paired with them.
//!
//! cargo run --release --example trimodal_cross_search

use candle_core::Device;
use ch14_semantic_search::trimodal::{BUCKETS, Encoders, Scaling, concept_cosines};
use eas_data::synth::trimodal::{LARGE, SMALL, TrimodalItem};
use eas_nn::encoders::{Encoder, hashed_tokens};
use eas_report::{Cell, Chart, Table, num};
use eas_retrieval::multimodal::{Calibration, CrossModalIndex, Modality, MultiModalQuery};
use eas_tensor::Matrix;
use eas_tensor::kernels::dot_rows;
use eas_tensor::topk::top_k;

const MODALITIES: [&str; 3] = ["text", "image", "sound"];

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let seed = page.seed_or(7);
    let world = page.size(SMALL, LARGE);
    let unseen = |item: &TrimodalItem| world.is_held_out(item.shape, item.colour);
    let training: Vec<TrimodalItem> = world.items(30, seed).into_iter().filter(|item| !unseen(item)).collect();
    let fresh = world.items(10, seed + 1);
    page.text(format!(
        "{} concepts: {} shapes in {} colours. A picture shows one, a caption names it, a tone has the pitch of its shape and the \
         timbre of its colour. Training pairs captions with pictures and pictures with sounds, {} of each, and leaves {} concepts \
         out. Captions and sounds are never paired.",
        world.concepts(), world.variety, world.variety, training.len(), world.variety,
    ));

    let scaling = Scaling::of(&training)?;
    let (train_inputs, test_inputs) = (scaling.inputs(&training)?, scaling.inputs(&fresh)?);
    let untrained = Encoders::new(world, seed)?.encode(&test_inputs)?;
    let encoders = Encoders::new(world, seed)?;
    let history = page.timed("train three encoders", || encoders.train(&train_inputs, 10, seed))?;
    let trained = encoders.encode(&test_inputs)?;

    page.section("Six directions");
    let mut table = Table::new(["from", "to", "untrained R@1", "seen R@1", "seen R@5", "unseen R@1", "unseen R@5"]);
    let recall = |vectors: &[Matrix; 3], from: usize, to: usize, k: usize, want_unseen: bool| -> f64 {
        let asking: Vec<usize> = (0..fresh.len()).filter(|&i| unseen(&fresh[i]) == want_unseen).collect();
        let same = |i: usize, j: usize| (fresh[i].shape, fresh[i].colour) == (fresh[j].shape, fresh[j].colour);
        let found =
            |i: &&usize| top_k(&dot_rows(vectors[from].row(**i), &vectors[to]), k).iter().any(|hit| same(**i, hit.id));
        asking.iter().filter(found).count() as f64 / asking.len() as f64
    };
    for (from, to) in [(0, 1), (1, 0), (1, 2), (2, 1), (0, 2), (2, 0)] {
        let mut row: Vec<Cell> = vec![MODALITIES[from].into(), MODALITIES[to].into()];
        row.push(num(recall(&untrained, from, to, 1, false), 2).within(0.06));
        for want_unseen in [false, true] {
            for k in [1, 5] {
                row.push(num(recall(&trained, from, to, k, want_unseen), 2).within(0.12));
            }
        }
        table.row(row);
    }
    page.table(
        format!("Share of {} fresh items that find one of their concept among all of them", fresh.len()),
        &table,
    );
    page.text(
        "Sound and caption meet through the picture. For a combination that training left out the sound fails: the sound encoder \
         learnt pitch-and-timbre pairs as wholes, where the caption is a mean of words and composes by itself.",
    );

    page.section("A query of two parts");
    let mut index = CrossModalIndex::new(trained[1].dim(), Calibration::Background);
    for (id, vector) in trained[1].iter_rows().enumerate() {
        index.upsert(id as u64, Modality::Image, vector)?;
    }
    let per_concept = fresh.len() / world.concepts();
    let [mut both, mut text_only, mut image_only] = [0.0; 3];
    let mut example = Table::new(["rank", "picture found", "score"]);
    for shape in 0..world.variety {
        let (word, _) = world.words(shape, 0);
        let words = encoders.text.encode(&hashed_tokens(&[format!("a {word}").as_str()], BUCKETS, &Device::Cpu)?)?;
        for colour in 0..world.variety {
            // A picture of the wanted colour on another shape, a combination that was trained.
            let others = (shape + 3..).map(|other| other % world.variety);
            let other =
                others.filter(|&other| !world.is_held_out(other, colour)).find(|&other| other != shape).unwrap_or(0);
            let picture = (other * world.variety + colour) * per_concept;
            let parts = [(Modality::Text, words.row(0).to_vec()), (Modality::Image, trained[1].row(picture).to_vec())];
            let right = |query: &MultiModalQuery| -> anyhow::Result<f64> {
                let hits = index.search(query, 1, |id| id != picture as u64)?;
                let found = &fresh[hits[0].id as usize];
                Ok(f64::from(u8::from((found.shape, found.colour) == (shape, colour))) / world.concepts() as f64)
            };
            let [text, image] = parts.clone();
            let mixed = MultiModalQuery::new().with(text.0, text.1, 0.6).with(image.0, image.1, 0.4);
            both += right(&mixed)?;
            let [text, image] = parts;
            text_only += right(&MultiModalQuery::equal([text]))?;
            image_only += right(&MultiModalQuery::equal([image]))?;
            if (shape, colour) == (4, 2) {
                for (rank, hit) in (1..).zip(index.search(&mixed, 3, |id| id != picture as u64)?) {
                    let found = &fresh[hit.id as usize];
                    let (shape, colour) = world.words(found.shape, found.colour);
                    example.row([rank.into(), format!("{colour} {shape}").into(), num(hit.score, 2).within(0.3)]);
                }
            }
        }
    }
    page.table("The word \"ring\" (0.6) with a picture of a blue square (0.4)", &example);
    let mut table = Table::new(["query", "R@1"]);
    for (name, value) in [("word and picture", both), ("word alone", text_only), ("picture alone", image_only)] {
        table.row([name.into(), num(value, 2).within(0.12)]);
    }
    page.table("Word for the shape, picture for the colour", &table);

    page.section("Documents with one modality");
    let mut sparse = CrossModalIndex::new(trained[1].dim(), Calibration::Background);
    for i in 0..fresh.len() {
        // A third have only a caption, a third only a picture, a third only a sound.
        let (slot, modality) = [(0, Modality::Text), (1, Modality::Image), (2, Modality::Audio)][i % 3];
        sparse.upsert(i as u64, modality, trained[slot].row(i))?;
    }
    let question = MultiModalQuery::equal([(Modality::Text, trained[0].row(0).to_vec())]);
    let ranking = sparse.search(&question, usize::MAX, |_| true)?;
    let mut silent = Table::new(["kind of document", "best match for the caption", "score"]);
    for (kind, slot) in MODALITIES.iter().zip(0..) {
        let hit = sparse.search(&question, 1, |id| id % 3 == slot)?[0];
        silent.row([(*kind).into(), fresh[hit.id as usize].caption.as_str().into(), num(hit.score, 1).within(0.5)]);
    }
    page.table(format!("\"{}\" asked of documents that have only one modality", fresh[0].caption), &silent);

    let labels: Vec<String> = (0..world.variety * world.variety)
        .map(|c| world.words(c / world.variety, c % world.variety))
        .map(|(shape, colour)| format!("{colour} {shape}"))
        .collect();
    let cosines = |to: usize| concept_cosines(&trained[0], &trained[to], labels.len());
    page.chart(
        "text_image.svg",
        &Chart::heat_map("Captions (rows) and pictures (columns)", &labels, &labels, cosines(1)),
    )?;
    page.chart(
        "text_sound.svg",
        &Chart::heat_map("Captions (rows) and sounds (columns)", &labels, &labels, cosines(2)),
    )?;

    page.section("Checks");
    page.claim("the loss of untrained encoders is near 2 ln 90 a pair of pairs")
        .within(0.5)
        .between(history[0], 2.0, 10.0);
    for (to, name) in [(1, "pictures"), (2, "sounds")] {
        page.claim(format!("untrained captions find {name} at chance (R@1)"))
            .within(0.06)
            .at_most(recall(&untrained, 0, to, 1, false), 0.12);
    }
    page.claim("captions find pictures").within(0.12).at_least(recall(&trained, 0, 1, 1, false), 0.80);
    page.claim("captions find sounds, though never paired")
        .within(0.12)
        .at_least(recall(&trained, 0, 2, 1, false), 0.70);
    page.claim("captions find pictures of unseen combinations")
        .within(0.15)
        .at_least(recall(&trained, 0, 1, 1, true), 0.50);
    page.claim("a word and a picture together find what both mean").within(0.12).at_least(both, 0.65);
    page.claim("much better than either part alone").within(0.12).at_least(both - text_only.max(image_only), 0.3);
    page.claim("documents that lack modalities are ranked all the same").equals(ranking.len(), fresh.len());
    let again = |seed: u64| -> anyhow::Result<[Matrix; 3]> {
        let encoders = Encoders::new(world, seed)?;
        encoders.train(&train_inputs, 1, seed)?;
        encoders.encode(&test_inputs)
    };
    page.claim("the same seed gives the same vectors").equals(again(seed)? == again(seed)?, true);
    page.finish()
}
