//! How good an encoder is: word similarity, agreement with a teacher, and small retrieval tasks beside TF-IDF.

use anyhow::{Context, Result};
use eas_data::fixtures;
use eas_tensor::gemm::matmul_transposed;
use eas_tensor::{Matrix, top_k};
use eas_text::encoder::SentenceEncoder;
use eas_text::lexical::{TfIdf, TfIdfConfig};
use std::path::Path;

/// Spearman correlation of cosines with human scores; `file` has lines of two words and a score separated by tabs, `#` starts a comment.
pub fn word_similarity(encoder: &dyn SentenceEncoder, file: &Path) -> Result<f64> {
    let (mut left, mut right, mut human) = (Vec::new(), Vec::new(), Vec::new());
    for line in crate::read_lines(file)? {
        if line.starts_with('#') || line.is_empty() {
            continue;
        }
        let mut cells = line.split('\t');
        let mut cell = || cells.next().map(str::to_owned).with_context(|| format!("too few cells: {line}"));
        left.push(cell()?);
        right.push(cell()?);
        human.push(cell()?.trim().parse::<f64>().with_context(|| format!("no score: {line}"))?);
    }
    let cosines = pair_cosines(encoder, &left, &right)?;
    Ok(eas_eval::correlation::spearman(&cosines, &human)?)
}

fn pair_cosines(encoder: &dyn SentenceEncoder, left: &[String], right: &[String]) -> Result<Vec<f64>> {
    let encode = |texts: &[String]| encoder.encode(&texts.iter().map(String::as_str).collect::<Vec<_>>());
    let (left, right) = (encode(left)?, encode(right)?);
    let dot = |(x, y): (&[f32], &[f32])| x.iter().zip(y).map(|(x, y)| f64::from(x * y)).sum();
    Ok(left.iter_rows().zip(right.iter_rows()).map(dot).collect())
}

/// Mean share of each row's `k` nearest other rows by `teacher` that are also among its `k` nearest by `student`.
pub fn neighbour_agreement(student: &Matrix, teacher: &Matrix, k: usize) -> Result<f64> {
    let neighbours = |m: &Matrix| -> Result<Vec<Vec<usize>>> {
        let mut scores = matmul_transposed(m, m)?;
        let nearest = |i: usize| {
            let row = scores.row_mut(i);
            row[i] = f32::NEG_INFINITY;
            top_k(row, k).into_iter().map(|hit| hit.id).collect()
        };
        Ok((0..m.rows()).map(nearest).collect())
    };
    let (student, teacher) = (neighbours(student)?, neighbours(teacher)?);
    let shared = |(a, b): (&Vec<usize>, &Vec<usize>)| b.iter().filter(|i| a.contains(i)).count() as f64;
    let total: f64 = student.iter().zip(&teacher).map(shared).sum();
    Ok(total / (student.len() * k) as f64)
}

/// One retrieval task: share of the relevant documents among the first `k` hits.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// What is searched for in what.
    pub name: &'static str,
    /// Recall of TF-IDF.
    pub tfidf: f64,
    /// Recall of the encoder.
    pub encoder: f64,
}

/// The small retrieval tasks, for the encoder and for TF-IDF.
pub fn retrieval_tasks(encoder: &dyn SentenceEncoder) -> Result<Vec<Task>> {
    let catalogue = fixtures::mini_catalogue();
    let products: Vec<(&str, Vec<usize>)> = catalogue.queries.iter().map(|q| (q.text, q.relevant.to_vec())).collect();
    let manual = fixtures::orla_manual();
    let questions: Vec<(&str, Vec<usize>)> = manual.questions.iter().map(|&(text, id)| (text, vec![id])).collect();
    Ok(vec![
        task("catalogue, recall@2", encoder, catalogue.documents, &products, 2)?,
        task("manual, hit@1", encoder, manual.passages, &questions, 1)?,
        task("manual, hit@5", encoder, manual.passages, &questions, 5)?,
    ])
}

/// Recall at `k` of the encoder and of TF-IDF over the same documents and queries.
pub fn task(
    name: &'static str,
    encoder: &dyn SentenceEncoder,
    documents: &[&str],
    queries: &[(&str, Vec<usize>)],
    k: usize,
) -> Result<Task> {
    let index = TfIdf::fit(documents, TfIdfConfig::default())?;
    let texts: Vec<&str> = queries.iter().map(|(text, _)| *text).collect();
    let scores = matmul_transposed(&encoder.encode(&texts)?, &encoder.encode(documents)?)?;
    let (mut lexical, mut dense) = (0.0, 0.0);
    for (i, (text, relevant)) in queries.iter().enumerate() {
        let recall = |hits: Vec<eas_tensor::Scored>| {
            hits.iter().filter(|hit| relevant.contains(&hit.id)).count() as f64 / relevant.len() as f64
        };
        lexical += recall(index.search(text, k));
        dense += recall(top_k(scores.row(i), k));
    }
    Ok(Task { name, tfidf: lexical / queries.len() as f64, encoder: dense / queries.len() as f64 })
}

/// Probability that two sentences with the same sense of "bank" are nearer than two with different senses.
pub fn bank_sense_auc(encoder: &dyn SentenceEncoder) -> Result<f64> {
    let sentences = fixtures::bank_senses();
    let texts: Vec<&str> = sentences.iter().map(|(text, _)| *text).collect();
    let vectors = encoder.encode(&texts)?;
    let cosines = matmul_transposed(&vectors, &vectors)?;
    let (mut scores, mut same) = (Vec::new(), Vec::new());
    for i in 0..texts.len() {
        for j in 0..i {
            scores.push(f64::from(cosines.row(i)[j]));
            same.push(sentences[i].1 == sentences[j].1);
        }
    }
    Ok(eas_eval::classification::roc_auc(&scores, &same)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agreement_counts_shared_neighbours() {
        let line = Matrix::from_rows(&[[1.0, 0.0], [0.9, 0.1], [0.1, 0.9], [0.0, 1.0]]).unwrap();
        assert_eq!(neighbour_agreement(&line, &line, 1).unwrap(), 1.0);
        let crossed = line.select(&[0, 2, 1, 3]);
        assert_eq!(neighbour_agreement(&crossed, &line, 1).unwrap(), 0.0);
    }
}
