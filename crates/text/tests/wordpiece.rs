//! WordPiece agrees with the reference tokenizer: `scripts/oracles/wordpiece_golden.py` made the golden file.

use eas_text::wordpiece::WordPiece;
use serde_json::Value;
use sha2::{Digest, Sha256};

fn golden() -> Value {
    serde_json::from_str(include_str!("golden/wordpiece.json")).unwrap()
}

fn wordpiece() -> WordPiece {
    WordPiece::from_bytes(&eas_data::read_verified("models/static-256/vocab.txt").unwrap()).unwrap()
}

#[test]
fn nasty_strings_give_the_reference_ids_and_ranges() {
    let wordpiece = wordpiece();
    let golden = golden();
    let cases = golden["cases"].as_array().unwrap();
    assert!(cases.len() >= 40);
    for case in cases {
        let text = case["text"].as_str().unwrap();
        let pieces = wordpiece.tokenize(text, usize::MAX);
        let ids: Vec<u32> = pieces.iter().map(|p| p.id).collect();
        assert_eq!(serde_json::json!(ids), case["ids"], "ids of {text:?}");
        let ranges: Vec<[usize; 2]> = pieces.iter().map(|p| [p.start, p.end]).collect();
        assert_eq!(serde_json::json!(ranges), case["ranges"], "ranges of {text:?}");
    }
}

#[test]
fn every_wordnet_gloss_gives_the_reference_ids() {
    let wordpiece = wordpiece();
    let wordnet = eas_data::wordnet::WordNet::load().unwrap();
    let mut digest = Sha256::new();
    let mut tokens = 0;
    for synset in wordnet.synsets() {
        let ids = wordpiece.ids(&synset.gloss, usize::MAX);
        digest.update((ids.len() as u32).to_le_bytes());
        for id in &ids {
            digest.update(id.to_le_bytes());
        }
        tokens += ids.len();
    }
    let golden = golden();
    assert_eq!(golden["glosses"], wordnet.synsets().len());
    assert_eq!(golden["gloss_tokens"], tokens);
    let hex: Vec<String> = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(golden["gloss_sha256"], hex.concat());
}
