//! Fine-tuning MiniLM's last layers on pairs from WordNet improves retrieval among synsets that it wasn't trained on.

use eas_data::pairs::hypernym_glosses;
use eas_data::wordnet::WordNet;
use eas_nn::bert::BertConfig;
use eas_nn::bert_encoder::BertEncoder;
use eas_nn::finetune::{EmbeddingFineTuner, Example, TokenIds};
use eas_tensor::kernels::dot_rows;

fn frozen_bits(encoder: &BertEncoder) -> Vec<u32> {
    let tensors = encoder
        .bert()
        .tensors()
        .iter()
        .filter(|(name, _)| !name.starts_with("encoder.layer.4") && !name.starts_with("encoder.layer.5"));
    let values = tensors.flat_map(|(_, x)| x.flatten_all().and_then(|x| x.to_vec1::<f32>()).expect("f32 tensors"));
    values.map(f32::to_bits).collect()
}

#[test]
fn the_last_layers_of_minilm_learn_hypernyms_of_words_it_has_not_seen() {
    let Some(fast) = eas_tests::minilm() else { return };
    let wordnet = WordNet::load().expect("bundled WordNet");
    let split = hypernym_glosses(&wordnet, 512, 500, 1).expect("enough pairs");
    let ids = |text: &str| -> TokenIds { fast.tokenizer().model_ids(text, 32) };
    let weights = eas_data::root().join("models/all-MiniLM-L6-v2/model.safetensors");
    let encoder = BertEncoder::load(weights, BertConfig::MINI_LM_L6, 2).expect("the model's own file");
    let (queries, texts): (Vec<TokenIds>, Vec<TokenIds>) =
        split.held_out.iter().map(|&(own, above)| (ids(own), ids(above))).unzip();
    // One over the rank of each query's own text among all.
    let reciprocal_ranks = || -> Vec<f64> {
        let encode =
            |texts: &[TokenIds]| encoder.encode(&texts.iter().map(Vec::as_slice).collect::<Vec<_>>()).expect("vectors");
        let (queries, texts) = (encode(&queries), encode(&texts));
        let rank = |(row, query)| {
            let scores = dot_rows(query, &texts);
            1 + scores.iter().filter(|&&score| score > scores[row]).count()
        };
        queries.iter_rows().enumerate().map(rank).map(|rank| 1.0 / rank as f64).collect()
    };
    let (before, frozen) = (reciprocal_ranks(), frozen_bits(&encoder));
    let examples: Vec<Example> = split.train.iter().map(|&(a, b)| Example::Pair(ids(a), ids(b))).collect();
    let tuner = EmbeddingFineTuner { learning_rate: 2e-4, warm_up: 4, ..EmbeddingFineTuner::default() };
    let losses = tuner.run(&encoder, &examples).expect("a run");
    let after = reciprocal_ranks();
    assert!(frozen == frozen_bits(&encoder), "a frozen tensor has moved");
    assert!(losses[16..].iter().sum::<f64>() < losses[..8].iter().sum::<f64>(), "{losses:?}");
    // Hypernyms are close to what MiniLM knows already: the gain is small, but not by chance.
    let gains: Vec<f64> = after.iter().zip(&before).map(|(after, before)| after - before).collect();
    let n = gains.len() as f64;
    let mean = gains.iter().sum::<f64>() / n;
    let error = (gains.iter().map(|gain| (gain - mean).powi(2)).sum::<f64>() / n / (n - 1.0)).sqrt();
    assert!(mean > 2.0 * error, "the mean reciprocal rank rises by {mean} with a standard error of {error}");
    eprintln!("the mean reciprocal rank rises by {mean:.4}, with a standard error of {error:.4}");
}
