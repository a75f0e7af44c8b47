//! MiniLM agrees with sentence-transformers: `scripts/oracles/minilm_golden.py` made the golden files.
//!
//! Without the model each test prints that it was skipped and what to run; the continuous integration fetches the model first.

use eas_tensor::Matrix;
use eas_text::TextError;
use eas_text::encoder::SentenceEncoder;
use eas_text::minilm::{MAX_TOKENS, MiniLm};
use std::path::Path;
use std::sync::LazyLock;

static MODEL: LazyLock<Option<MiniLm>> = LazyLock::new(|| match MiniLm::load() {
    Ok(model) => Some(model),
    Err(TextError::MissingModel { command, .. }) => {
        eprintln!("skipped: all-MiniLM-L6-v2 isn't here, run {command}");
        None
    }
    Err(other) => panic!("{other}"),
});

fn golden(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn sentences() -> Vec<String> {
    let text = std::fs::read_to_string(golden("minilm_sentences.txt")).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn largest_difference(a: &Matrix, b: &Matrix) -> f32 {
    assert_eq!((a.rows(), a.dim()), (b.rows(), b.dim()));
    let pairs = a.as_slice().iter().zip(b.as_slice());
    pairs.map(|(x, y)| (x - y).abs()).fold(0.0, f32::max)
}

#[test]
fn embeddings_of_200_sentences_equal_the_reference() {
    let Some(model) = MODEL.as_ref() else { return };
    let sentences = sentences();
    let texts: Vec<&str> = sentences.iter().map(String::as_str).collect();
    let want = eas_data::npy::read_f32(golden("minilm_sentences.npy")).unwrap();
    assert_eq!(want.rows(), 200);
    let difference = largest_difference(&model.encode(&texts).unwrap(), &want);
    assert!(difference <= 1e-5, "{difference}");
}

#[test]
fn token_vectors_equal_the_reference_hidden_states() {
    let Some(model) = MODEL.as_ref() else { return };
    let text = &sentences()[90];
    let tokens = model.token_embeddings(text);
    let rows: Vec<&[f32]> = tokens.iter().map(|t| t.vector.as_slice()).collect();
    let want = eas_data::npy::read_f32(golden("minilm_tokens.npy")).unwrap();
    let difference = largest_difference(&Matrix::from_rows(&rows).unwrap(), &want);
    assert!(difference <= 1e-4, "{difference}");
    for token in &tokens {
        let part = text[token.range.clone()].to_lowercase();
        assert_eq!(part, token.token.trim_start_matches("##"));
    }
}

#[test]
fn a_row_does_not_depend_on_the_batch_and_empty_texts_give_zeros() {
    let Some(model) = MODEL.as_ref() else { return };
    let all = model.encode(&["", "a cat", "the stock market fell", " \t"]).unwrap();
    assert_eq!(all.row(0), [0.0; 384]);
    assert_eq!(all.row(3), [0.0; 384]);
    assert_eq!(model.encode(&["a cat"]).unwrap().row(0), all.row(1));
    assert_eq!(model.encode(&[]).unwrap().rows(), 0);
    assert!(model.token_embeddings("").is_empty());
}

#[test]
fn a_text_of_100000_tokens_is_cut_at_256() {
    let Some(model) = MODEL.as_ref() else { return };
    let long = "river ".repeat(100_000);
    let cut = "river ".repeat(MAX_TOKENS - 2);
    assert_eq!(model.encode(&[&long]).unwrap(), model.encode(&[&cut]).unwrap());
    assert_eq!(model.token_embeddings(&long).len(), MAX_TOKENS - 2);
    let too_long = vec![vec![5; MAX_TOKENS + 1]];
    let message = model.encode_ids(&too_long).unwrap_err().to_string();
    assert!(message.contains("number of tokens is 257"), "{message}");
    let message = model.encode_ids(&[vec![1, 99_999, 2]]).unwrap_err().to_string();
    assert!(message.contains("token id is 99999"), "{message}");
}

#[test]
fn a_words_vector_depends_on_its_context() {
    let Some(model) = MODEL.as_ref() else { return };
    let cosine = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    let money = model.word_vector("The bank raised interest rates on savings.", "bank").unwrap();
    let loan = model.word_vector("He asked the bank for credit.", "Bank").unwrap();
    let river = model.word_vector("Otters dug a den in the bank beside the water.", "bank").unwrap();
    assert!((cosine(&money, &money) - 1.0).abs() < 1e-5);
    assert!(cosine(&money, &loan) > cosine(&money, &river) + 0.05);
    assert!(model.word_vector("The banker smiled.", "bank").is_err());
    assert!(model.word_vector("Unaffable people.", "unaffable").is_ok());
    assert!(model.word_vector("A cat.", "").is_err());
}
