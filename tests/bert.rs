//! The BERT that trains and the MiniLM that only encodes are the same model: on the same weights they give the same vectors, and both
//! give those of sentence-transformers.

use candle_core::Device;
use eas_nn::bert::{Bert, BertConfig, padded_ids};
use eas_nn::encoders::Encoder;
use eas_nn::params::Parameters;
use eas_tensor::Matrix;
use eas_text::encoder::SentenceEncoder;
use eas_text::minilm::MAX_TOKENS;
use std::path::Path;

fn largest_difference(a: &Matrix, b: &Matrix) -> f32 {
    assert_eq!((a.rows(), a.dim()), (b.rows(), b.dim()));
    let pairs = a.as_slice().iter().zip(b.as_slice());
    pairs.map(|(x, y)| (x - y).abs()).fold(0.0, f32::max)
}

#[test]
fn bert_on_tensors_equals_minilm_and_the_reference() {
    let Some(fast) = eas_tests::minilm() else { return };
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/text/tests/golden");
    let sentences = std::fs::read_to_string(golden.join("minilm_sentences.txt")).expect("golden sentences");
    let want = eas_data::npy::read_f32(golden.join("minilm_sentences.npy")).expect("golden vectors");
    let sentences: Vec<&str> = sentences.lines().collect();

    let weights = eas_data::root().join("models/all-MiniLM-L6-v2/model.safetensors");
    let mut params = Parameters::new(0, &Device::Cpu);
    let bert = Bert::load(weights, BertConfig::MINI_LM_L6, &mut params, 2).expect("the model's own file");
    assert_eq!(params.count(), 2 * 1_774_464, "two layers are trainable");

    let specials = fast.tokenizer().specials();
    // Every eighth sentence, from 1 token to 256, in batches of mixed lengths.
    for first in 0..2 {
        let chosen: Vec<usize> = (first * 4..sentences.len()).step_by(16).collect();
        let ids: Vec<Vec<u32>> = chosen
            .iter()
            .map(|&i| {
                let pieces = fast.tokenizer().ids(sentences[i], MAX_TOKENS - 2);
                [vec![specials.cls], pieces, vec![specials.sep]].concat()
            })
            .collect();
        let input = padded_ids(&ids, &Device::Cpu).expect("token ids");
        let vectors = bert.encode(&input).expect("vectors");
        let texts: Vec<&str> = chosen.iter().map(|&i| sentences[i]).collect();
        let reference = largest_difference(&vectors, &want.select(&chosen));
        assert!(reference <= 1e-5, "reference: {reference}");
        let inference = largest_difference(&vectors, &fast.encode(&texts).expect("vectors"));
        assert!(inference <= 1e-5, "inference path: {inference}");
    }
}
