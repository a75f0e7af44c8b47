//! MiniLM with its last layers tuned on two views of glosses, without their labels.

use std::collections::HashSet;

use eas_data::wordnet::WordNet;
use eas_nn::bert::BertConfig;
use eas_nn::bert_encoder::BertEncoder;
use eas_nn::finetune::{EmbeddingFineTuner, Example, TokenIds};
use eas_tensor::Matrix;
use eas_tensor::rng::SplitMix64;
use eas_text::minilm::MiniLm;

use crate::glosses::{GlossSet, TRAIN, Views};

/// Tunes the last `layers` on `n` glosses of WordNet that aren't held out, and says before and after how many of every `step`-th held-out
/// gloss's 10 nearest among every `step`-th training gloss vote for the right file.
///
/// An error that says what to run when the model isn't here.
pub fn tune_on_views(
    tuner: EmbeddingFineTuner,
    layers: usize,
    glosses: &GlossSet,
    wordnet: &WordNet,
    n: usize,
    step: usize,
) -> anyhow::Result<[f64; 2]> {
    let published = MiniLm::load()?;
    let weights = eas_data::root().join("models/all-MiniLM-L6-v2/model.safetensors");
    let encoder = BertEncoder::load(weights, BertConfig::MINI_LM_L6, layers)?;
    let ids = |words: &[String]| -> TokenIds { published.tokenizer().model_ids(&words.join(" "), 32) };

    let held_out: HashSet<&[String]> = glosses.texts[TRAIN..].iter().map(Vec::as_slice).collect();
    let mut texts: Vec<Vec<String>> = wordnet.synsets().iter().map(|synset| GlossSet::words(&synset.gloss)).collect();
    texts.retain(|words| words.len() >= 4 && !held_out.contains(words.as_slice()));
    SplitMix64::new(tuner.seed).shuffle(&mut texts);
    let view = |words: &[String], row: usize, view| ids(&Views::STRONG.view(wordnet, words, row as u32, 0, view));
    let pairs = texts.iter().take(n).enumerate();
    let examples: Vec<Example> =
        pairs.map(|(row, words)| Example::Pair(view(words, row, 0), view(words, row, 1))).collect();

    let some = |from: usize, to: usize| -> Vec<usize> { (from..to).step_by(step).collect() };
    let (known, asked) = (some(0, TRAIN), some(TRAIN, glosses.texts.len()));
    let labels = |rows: &[usize]| -> Vec<u32> { rows.iter().map(|&row| glosses.labels[row]).collect() };
    let encode = |rows: &[usize]| -> anyhow::Result<Matrix> {
        let texts: Vec<TokenIds> = rows.iter().map(|&row| ids(&glosses.texts[row])).collect();
        Ok(encoder.encode(&texts.iter().map(Vec::as_slice).collect::<Vec<_>>())?)
    };
    let votes = || -> anyhow::Result<f64> {
        Ok(eas_eval::knn::accuracy(&encode(&known)?, &labels(&known), &encode(&asked)?, &labels(&asked), 10)?)
    };
    let before = votes()?;
    tuner.run(&encoder, &examples)?;
    Ok([before, votes()?])
}
