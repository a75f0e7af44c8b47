//! Listing 1.1: add new items without retraining, and see what a retrained encoder breaks.
//!
//! cargo run --release --example incremental_embedding_update

use ch01_foundations::autoencoder::{LinearAutoencoder, Training};
use eas_data::uci::digits;
use eas_data::wordnet::WordNet;
use eas_pipeline::update::{EmbeddingStore, VersionedEncoder};
use eas_report::{Table, pct};
use eas_tensor::kernels::squared_l2;
use eas_tensor::rng::SplitMix64;
use eas_tensor::{Matrix, align};

const ANCHORS: usize = 200;

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let seed = page.seed();
    let mut digits = digits()?;
    for pixel in digits.features.as_mut_slice() {
        *pixel /= 16.0;
    }
    // Of the known classes 0-7, every second image is stored and the others ask; classes 8 and 9 arrive later.
    let (mut stored, mut asking, mut arriving) = (Vec::new(), Vec::new(), Vec::new());
    for (i, &label) in digits.labels.iter().enumerate() {
        match label {
            8 | 9 => arriving.push(i),
            _ if (stored.len() + asking.len()).is_multiple_of(2) => stored.push(i),
            _ => asking.push(i),
        }
    }
    let images = |rows: &[usize]| digits.features.select(rows);
    let all: Vec<usize> = stored.iter().chain(&arriving).copied().collect();
    page.text(format!(
        "Handwritten digits, 64 pixels each, embedded in 16 numbers by a linear autoencoder that was trained on {} stored images of \
         the digits 0 to 7. {} other images ask for their nearest neighbour; {} images of 8 and 9 arrive afterwards.",
        stored.len(),
        asking.len(),
        arriving.len(),
    ));

    let training = Training { epochs: 60, batch: 64, learning_rate: 3e-3, seed };
    let mut old = LinearAutoencoder::new(64, 16, seed);
    page.timed("train the first encoder", || old.fit(&images(&stored), &training, "v1"))?;
    let store = EmbeddingStore::build(&old, &images(&stored))?;

    let mut routes = Table::new(["route", "1-NN on old digits", "1-NN on new digits", "encoder calls"]);
    let mut frozen = store.clone();
    let extended = |store: &EmbeddingStore, encoder: &LinearAutoencoder| -> anyhow::Result<[f64; 3]> {
        let queries = store.queries(encoder, &images(&asking))?;
        let old_hits =
            hits(store.vectors(), &queries, None, |query, row| digits.labels[asking[query]] == digits.labels[all[row]]);
        // The newcomers are in the store themselves: each looks for another one.
        let newcomers: Vec<usize> = (stored.len()..all.len()).collect();
        let vectors = store.vectors().select(&newcomers);
        let new_hits = hits(store.vectors(), &vectors, Some(stored.len()), |query, row| {
            digits.labels[arriving[query]] == digits.labels[all[row]]
        });
        let (n, m) = (asking.len() as f64, arriving.len() as f64);
        Ok([old_hits as f64 / n, new_hits as f64 / m, (old_hits + new_hits) as f64 / (n + m)])
    };

    // Route 1: keep the encoder, encode what is new.
    page.timed("append to the frozen encoder's store", || frozen.append(&old, &images(&arriving)))?;
    let append_calls = frozen.encoder_calls() - store.encoder_calls();
    let frozen_hits = extended(&frozen, &old)?;
    routes.row(row("frozen encoder, append", &frozen_hits, append_calls));

    // Route 2: train a new encoder on everything and encode everything again.
    let mut retrained = LinearAutoencoder::new(64, 16, seed + 1);
    page.timed("retrain", || retrained.fit(&images(&all), &Training { seed: seed + 1, ..training }, "v2"))?;
    let mut reembedded = frozen.clone();
    page.timed("re-embed", || reembedded.reembed_all(&retrained, &images(&all)))?;
    let reembed_calls = reembedded.encoder_calls() - frozen.encoder_calls();
    let retrained_hits = extended(&reembedded, &retrained)?;
    routes.row(row("retrained encoder, re-embed all", &retrained_hits, reembed_calls));

    // Route 3: the new encoder, with old vectors moved by a rotation that 200 anchors teach; the newcomers are encoded.
    let mut rng = SplitMix64::new(seed);
    let sample = rng.sample_indices(stored.len(), ANCHORS);
    let anchors = images(&sample.iter().map(|&i| stored[i]).collect::<Vec<_>>());
    let (old_anchors, new_anchors) = (old.encode(&anchors)?, retrained.encode(&anchors)?);
    let rotation = page.timed("align on 200 anchors", || align::procrustes(&old_anchors, &new_anchors))?;
    let mut aligned = store.clone();
    aligned.align(&rotation, retrained.version())?;
    aligned.append(&retrained, &images(&arriving))?;
    let aligned_hits = extended(&aligned, &retrained)?;
    routes.row(row("retrained encoder, old vectors rotated", &aligned_hits, ANCHORS + arriving.len()));

    // Route 4: go on training the old weights a little, and hope.
    let mut tuned = old.clone();
    page.timed("fine-tune", || {
        tuned.fit(&images(&all), &Training { epochs: 20, seed: seed + 2, ..training }, "v1-tuned")
    })?;
    let against_old = |encoder: &LinearAutoencoder, index: &Matrix| -> anyhow::Result<f64> {
        let queries = encoder.encode(&images(&asking))?;
        let found =
            hits(index, &queries, None, |query, row| digits.labels[asking[query]] == digits.labels[stored[row]]);
        Ok(found as f64 / asking.len() as f64)
    };
    let tuned_hits = against_old(&tuned, store.vectors())?;
    routes.row(["fine-tuned encoder, old vectors as they are".into(), accuracy(tuned_hits), "-".into(), 0.into()]);
    let stale_hits = against_old(&retrained, store.vectors())?;
    routes.row(["retrained encoder, old vectors as they are".into(), accuracy(stale_hits), "-".into(), 0.into()]);
    page.table("Four routes to a store that knows the new digits, and the accident", &routes);
    page.text(
        "The last row is what concatenating vectors of two trainings does: both encoders are fine, their coordinates have nothing \
         in common, and the dimension check passes. The store refuses it by version.",
    );

    let repaired = against_old(&retrained, &rotation.apply(store.vectors())?)?;
    let affine = align::linear(&old_anchors, &new_anchors)?;
    let repaired_affine = against_old(&retrained, &affine.apply(store.vectors())?)?;
    let mut table = Table::new(["map from the old space to the new, 200 anchors", "1-NN on old digits"]);
    table.row(["none".into(), accuracy(stale_hits)]);
    table.row(["rotation and shift (Procrustes)".into(), accuracy(repaired)]);
    table.row(["linear map and shift (least squares)".into(), accuracy(repaired_affine)]);
    page.table("Retrained queries against old vectors", &table);

    page.claim("the frozen encoder serves all ten digits").within(0.01).at_least(frozen_hits[2], 0.95);
    page.claim("and the two it never saw").within(0.02).at_least(frozen_hits[1], 0.92);
    page.claim("retraining on all ten gains little").within(0.02).between(
        retrained_hits[2] - frozen_hits[2],
        -0.01,
        0.05,
    );
    page.claim("retrained queries against old vectors are near chance, one in eight")
        .within(0.15)
        .at_most(stale_hits, 0.35);
    page.claim("a rotation learnt from 200 anchors mends that").within(0.01).at_least(repaired, 0.96);
    page.claim("fine-tuning for 20 epochs moves the space little").within(0.02).at_least(tuned_hits, 0.95);
    let mut mixed = store.clone();
    page.claim("appending over mixed versions is refused")
        .fails(mixed.append(&retrained, &images(&arriving)), "\"v2\"");
    page.claim("appending encodes the new items only").equals(append_calls, 354);
    page.claim("re-embedding encodes the index and the new items").equals(reembed_calls, 1_076);
    let weights = &rotation.weights;
    let mut worst: f64 = 0.0;
    for i in 0..weights.dim() {
        for j in 0..weights.dim() {
            let product: f64 = weights.iter_rows().map(|row| f64::from(row[i]) * f64::from(row[j])).sum();
            worst = worst.max((product - f64::from(u8::from(i == j))).abs());
        }
    }
    page.claim("the alignment is a rotation: it bends nothing (largest error of R^T R)")
        .within(1e-5)
        .at_most(worst, 1e-5);

    if page.full() {
        migrate_glosses(&mut page)?;
    }
    page.finish()
}

/// How many rows of `queries` have a nearest row of `index` that `agrees`; query `i` is row `own + i` itself and skips it.
fn hits(index: &Matrix, queries: &Matrix, own: Option<usize>, agrees: impl Fn(usize, usize) -> bool) -> usize {
    let mut found = 0;
    for (i, query) in queries.iter_rows().enumerate() {
        let others = (0..index.rows()).filter(|&row| own.is_none_or(|first| first + i != row));
        let distance = |row: usize| squared_l2(query, index.row(row));
        let nearest = others.min_by(|&a, &b| distance(a).total_cmp(&distance(b)));
        found += usize::from(nearest.is_some_and(|row| agrees(i, row)));
    }
    found
}

fn accuracy(share: f64) -> eas_report::Cell {
    pct(share, 1).within(0.03)
}

fn row(route: &str, hits: &[f64; 3], calls: usize) -> [eas_report::Cell; 4] {
    [route.into(), accuracy(hits[0]), accuracy(hits[1]), calls.into()]
}

/// From the bundled encoder to MiniLM: spaces of 256 and 384 dimensions, so a linear map instead of a rotation.
fn migrate_glosses(page: &mut eas_report::Listing) -> anyhow::Result<()> {
    page.section("From the static encoder to MiniLM");
    let (Ok(from), Ok(to)) = (eas_text::encoder::load("static"), eas_text::encoder::load("minilm")) else {
        page.skip("migration of WordNet glosses", "needs MiniLM: run scripts/fetch_models.sh");
        return Ok(());
    };
    let words = WordNet::load()?;
    let glosses: Vec<&str> = words.synsets().iter().step_by(29).map(|synset| synset.gloss.as_str()).collect();
    let (old, new) = (from.encode(&glosses)?, to.encode(&glosses)?);
    let anchors: Vec<usize> = (0..glosses.len()).filter(|i| i % 2 == 0).collect();
    let others: Vec<usize> = (0..glosses.len()).filter(|i| i % 2 == 1).collect();
    let map = align::linear(&old.select(&anchors), &new.select(&anchors))?;
    let mut moved = map.apply(&old.select(&others))?;
    moved.normalize_rows();
    let found = hits(&moved, &new.select(&others), None, |query, row| query == row) as f64 / others.len() as f64;
    page.text(format!(
        "Of {} glosses encoded by MiniLM, {:.1}% find their own migrated vector first.",
        others.len(),
        100.0 * found
    ));
    page.claim("migrated static vectors answer MiniLM queries").within(0.05).at_least(found, 0.1);
    Ok(())
}
