//! Listing 5.8: pictures and sentences in one space: two towers of different shape, one loss, and combinations of words never seen.
//!
//! cargo run --release --example clip_style_image_text

use candle_core::{DType, Device, Tensor};
use eas_data::synth::captioned::{Look, SIDE, VALUES, bytes};
use eas_losses::clip::Clip;
use eas_losses::temperature::LearnableTemperature;
use eas_losses::{fixtures, info_nce};
use eas_nn::NnError;
use eas_nn::descent::Descent;
use eas_nn::encoders::{Encoder, MeanTokens, Mlp, hashed_tokens};
use eas_nn::params::Parameters;
use eas_report::{Chart, Table, num};
use eas_tensor::rng::SplitMix64;
use eas_tensor::{Matrix, gemm};

/// Pictures of each combination, and pairs of a step.
const EACH: usize = 20;
const BATCH: usize = 64;
/// Rows of the word table.
const BUCKETS: usize = 1_000;

/// A tower for each modality, with the width that its input has, and a learned temperature.
struct TwoTowers {
    image: Mlp,
    text: MeanTokens,
    clip: Clip,
}

impl TwoTowers {
    fn new(seed: u64) -> anyhow::Result<(Self, Parameters)> {
        let mut params = Parameters::new(seed, &Device::Cpu);
        let image = Mlp::new(&mut params, "image", VALUES, 256, 64)?;
        let text = MeanTokens::new(&mut params, "text", BUCKETS, 64, 64)?;
        let start = Tensor::new((1.0f32 / 0.07).ln(), &Device::Cpu)?;
        let clip = Clip::new(LearnableTemperature::from_var(params.adopt("log_scale", &start)?)?);
        Ok((Self { image, text, clip }, params))
    }
}

/// The pictures `numbers` of some looks, look by look.
fn pictures(looks: &[Look], numbers: std::ops::Range<u32>, seed: u64) -> anyhow::Result<Matrix> {
    let values: Vec<f32> = looks.iter().flat_map(|look| numbers.clone().flat_map(|n| look.picture(n, seed))).collect();
    Ok(Matrix::from_vec(looks.len() * numbers.len(), VALUES, values)?)
}

fn tokens(looks: &[Look]) -> Result<Tensor, NnError> {
    let captions: Vec<String> = looks.iter().map(|look| look.caption()).collect();
    hashed_tokens(&captions.iter().map(String::as_str).collect::<Vec<_>>(), BUCKETS, &Device::Cpu)
}

/// The share of rows of `queries` whose most similar row of `gallery` is `answer(row)`.
fn recall_at_1(queries: &Matrix, gallery: &Matrix, answer: impl Fn(usize) -> usize) -> anyhow::Result<f64> {
    let cosines = gemm::matmul_transposed(queries, gallery)?;
    let best = |row: &[f32]| (0..row.len()).max_by(|&x, &y| row[x].total_cmp(&row[y]).then(y.cmp(&x)));
    let found = cosines.iter_rows().enumerate().filter(|(i, row)| best(row) == Some(answer(*i))).count();
    Ok(found as f64 / queries.rows() as f64)
}

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let seed = page.seed_or(5);

    page.section("The loss");
    let t = fixtures::tiny(DType::F64, &Device::Cpu)?;
    let at = |temperature| LearnableTemperature::new(temperature, DType::F64, &Device::Cpu).map(Clip::new);
    let number = |loss: Tensor| loss.to_scalar::<f64>();
    let mut table = Table::new(["temperature", "pictures, texts", "texts, pictures"]);
    let mut losses = Vec::new();
    for temperature in [0.05, 0.07, 0.1, 0.5] {
        let there = number(at(temperature)?.forward(&t.anchors, &t.positives, &[0, 1, 2, 3])?)?;
        let back = number(at(temperature)?.forward(&t.positives, &t.anchors, &[0, 1, 2, 3])?)?;
        table.row([num(temperature, 2), num(there, 8), num(back, 8)]);
        losses.push((there, back));
    }
    page.table("Each picture finds its text and each text its picture, on the fixture", &table);
    let repeated = at(0.07)?.forward(&t.anchors, &t.positives, &[0, 1, 1, 3]);
    // 64 pairs that are as they should be; then row 1 has the caption of row 0, and so the same embeddings.
    let perfect = Tensor::eye(BATCH, DType::F64, &Device::Cpu)?;
    let ids: Vec<u32> = (0..BATCH as u32).map(|i| if i == 1 { 0 } else { i }).collect();
    let twice = perfect.index_select(&Tensor::new(ids, &Device::Cpu)?, 0)?;
    let floor = [&perfect, &twice].map(|x| info_nce(x, x, 0.07).map(number));
    let [distinct, repeat] = floor.map(|x| anyhow::Ok(x??));
    let (distinct, repeat) = (distinct?, repeat?);
    let mut rng = SplitMix64::new(seed);
    let drawn =
        |rng: &mut SplitMix64| (0..BATCH).map(|_| rng.below(160)).collect::<std::collections::BTreeSet<_>>().len();
    let repeats = (0..200).map(|_| BATCH - drawn(&mut rng)).sum::<usize>() as f64 / 200.0;
    page.text(format!(
        "A perfect encoder costs {distinct:.1e} on 64 pairs, but {repeat:.4} when one caption occurs twice: the diagonal calls its other \
         picture wrong. Pictures drawn without a look at their captions repeat {repeats:.1} of 64, so batches have distinct captions.",
    ));

    page.section("Coloured shapes");
    let (seen, held_out) = Look::split(seed);
    let mut sheet = Chart::images("Captioned shapes", 5);
    for look in held_out.iter().step_by(4) {
        sheet = sheet.tile(look.caption(), SIDE, SIDE, bytes(&look.picture(0, seed)));
    }
    page.chart("shapes.png", &sheet)?;
    let images = pictures(&seen, 0..EACH as u32, seed)?;
    let captions = tokens(&seen)?;
    let (model, params) = TwoTowers::new(1)?;
    let judge = |model: &TwoTowers, looks: &[Look]| -> anyhow::Result<[f64; 2]> {
        let rows = pictures(looks, EACH as u32..2 * EACH as u32, seed)?;
        let rows = Tensor::from_slice(rows.as_slice(), (rows.rows(), VALUES), &Device::Cpu)?;
        let (images, texts) = (model.image.encode(&rows)?, model.text.encode(&tokens(looks)?)?);
        let to_text = recall_at_1(&images, &texts, |row| row / EACH)?;
        // A gallery has one picture of each look; the mean over the 20 galleries.
        let gallery = |n: usize| images.select(&(0..looks.len()).map(|look| look * EACH + n).collect::<Vec<_>>());
        let to_image: anyhow::Result<Vec<f64>> =
            (0..EACH).map(|n| recall_at_1(&texts, &gallery(n), |row| row)).collect();
        Ok([to_text, to_image?.iter().sum::<f64>() / EACH as f64])
    };
    let before = judge(&model, &held_out)?;
    let run = Descent { steps: page.size(400, 2_000), learning_rate: 2e-3, seed };
    let log = run.run(&params, |_, rng| {
        let looks = rng.sample_indices(seen.len(), BATCH);
        let rows: Vec<usize> = looks.iter().map(|look| look * EACH + rng.below(EACH)).collect();
        let looks: Vec<u32> = looks.into_iter().map(|look| look as u32).collect();
        let image =
            model.image.forward(&Tensor::from_vec(images.select(&rows).into_vec(), (BATCH, VALUES), &Device::Cpu)?)?;
        let text = model.text.forward(&captions.index_select(&Tensor::new(&looks[..], &Device::Cpu)?, 0)?)?;
        Ok(model.clip.forward(&image, &text, &looks)?)
    })?;
    let (known, after) =
        (judge(&model, &seen.iter().copied().step_by(4).collect::<Vec<_>>())?, judge(&model, &held_out)?);
    let mut table = Table::new(["40 captions, new pictures", "picture to text", "text to picture"]);
    for (name, recall) in [("held out, untrained", before), ("held out", after), ("40 that were trained on", known)] {
        table.row([name.into()].into_iter().chain(recall.map(|x| num(x, 3).within(0.03))));
    }
    page.table("recall@1; by chance .025", &table);
    let temperature = model.clip.temperature().temperature()?;
    page.text(format!("The temperature went from .07 to {temperature:.3}."));
    let means = log.chunks(10).enumerate().map(|(i, part)| (10 * i, part.iter().sum::<f64>() / part.len() as f64));
    page.chart("loss.svg", &Chart::lines("Training", "step", "loss, mean of 10 steps").series("64 pairs", means))?;

    let table = [0.0018319857, 0.0101004149, 0.0374580772, 0.5678487202];
    page.claim("the losses are PyTorch's").all(losses.iter().zip(table), |(x, y)| (x.0 - y).abs() < 1e-9);
    page.claim("they don't change when the modalities change places").all(&losses, |x| (x.0 - x.1).abs() < 1e-12);
    page.claim("a batch with a caption twice is refused").fails(repeated, "rows 1 and 2 have one caption");
    page.claim("a caption twice costs a perfect encoder ln 2 for 2 of 64 rows").close(repeat, 2f64.ln() / 32.0, 1e-4);
    let words: std::collections::BTreeSet<u32> = captions.flatten_all()?.to_vec1::<u32>()?.into_iter().collect();
    page.claim("no two of the 17 words share a row of the table").equals(words.len(), 17);
    page.claim("pictures find unseen combinations").at_least(after[0], 0.65);
    page.claim("and the other way round").at_least(after[1], 0.65);
    page.claim("untrained they don't").all(before, |x| x < 0.15);
    // The longer the training, the lower it goes; CLIP stops it at 0.01.
    let lowest = page.size(0.02, 0.01);
    page.claim("the temperature is learned").between(temperature, lowest, 0.07);
    page.finish()
}
