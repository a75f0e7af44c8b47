//! Listing 4.16: one bit a dimension: 32 times smaller, compared by XOR and popcount, and rescored to win the recall back.
//!
//! cargo run --release --example binary_hamming_embeddings

use std::hint::black_box;
use std::time::Instant;

use eas_eval::recall::RecallReport;
use eas_report::{Chart, Table, duration, num};
use eas_tensor::binary::{Binarizer, BinaryCode, BinaryIndex};
use eas_tensor::kernels::{cosine, dot_rows};
use eas_tensor::rng::SplitMix64;
use eas_tensor::{Scored, TensorError, top_k};
use eas_text::glosses::gloss_vectors;

const K: usize = 10;
const QUERIES: usize = 500;

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();

    page.section("Two vectors of twelve values");
    let a = [0.1, -0.2, 0.3, 0.0, -0.5, 0.6, 0.7, -0.8, 0.9, -1.0, 0.2, 0.3];
    let b = [0.2, 0.1, 0.3, -0.1, -0.4, -0.6, 0.7, 0.8, 0.9, -1.0, -0.2, 0.3];
    let (code_a, code_b) = (BinaryCode::of(&a), BinaryCode::of(&b));
    let differ = code_a.hamming(&code_b)?;
    // The book divides by the bits of the padded bytes: 16 for 12.
    let padded = 1.0 - f64::from(differ) / (8.0 * code_a.to_bytes().len() as f64);
    let mut table = Table::new(["quantity", "value"]);
    table.row(["bytes of a".into(), format!("{:?}", code_a.to_bytes()).into()]);
    table.row(["bytes of b".into(), format!("{:?}", code_b.to_bytes()).into()]);
    table.row(["bits that differ".into(), differ.into()]);
    table.row(["similarity".into(), num(code_a.similarity(&code_b)?, 6)]);
    table.row(["similarity as the book divides".into(), num(padded, 6)]);
    table.row(["cosine by the bits".into(), num(code_a.cosine(&code_b)?, 6)]);
    table.row(["cosine".into(), num(cosine(&a, &b), 6)]);
    page.table("A bit is 1 where the value is above 0", &table);
    page.text(
        "768 values are 3,072 bytes in f32 and 96 as bits, 32 times less. The book's 96 and 12, 8 times less, start from one \
         byte a value.",
    );

    page.section("Bits and angles");
    // 20,000 random planes: two vectors lie on different sides of angle / pi of them.
    let mut rng = SplitMix64::new(page.seed());
    let mut table = Table::new(["cosine", "differing bits", "angle / pi"]);
    let mut measured = Vec::new();
    for c in [0.9f64, 0.5, -0.5] {
        let sine = (1.0 - c * c).sqrt();
        // Only the plane of the two vectors matters, and a Gaussian direction is Gaussian in it.
        let sides = (0..20_000).map(|_| {
            let (x, y) = (rng.normal(), rng.normal());
            (x as f32, (c * x + sine * y) as f32)
        });
        let (first, second): (Vec<f32>, Vec<f32>) = sides.unzip();
        let share = 1.0 - BinaryCode::of(&first).similarity(&BinaryCode::of(&second))?;
        let expected = c.acos() / std::f64::consts::PI;
        table.row([num(c, 1), num(share, 4), num(expected, 7)]);
        measured.push((share, expected));
    }
    page.table("20,000 random directions", &table);

    page.section("Sentence vectors");
    let encoder = eas_text::encoder::load(page.encoder().name())?;
    let (stored, asked) = gloss_vectors(encoder.as_ref(), page.size(5_000, 50_000), QUERIES, page.seed())?;
    let ids = |hits: &[Scored]| hits.iter().map(|hit| hit.id).collect::<Vec<_>>();
    let exact: Vec<Vec<usize>> = asked.iter_rows().map(|query| ids(&top_k(&dot_rows(query, &stored), K))).collect();
    let plain = Binarizer::new(stored.dim())?;
    let oversamples = [K, 20, 50, 100, 200];
    let mut table = Table::new(["signs of", "no rescoring", "of 20", "of 50", "of 100", "of 200"]);
    let mut chart = Chart::lines("Rescoring the best by bits", "candidates", "recall@10").log_x();
    let mut recalls = Vec::new();
    for (name, binarizer) in [
        ("the vector", plain.clone()),
        ("less the mean", plain.clone().centred(&stored)?),
        ("less the mean, rotated", plain.clone().centred(&stored)?.rotated(page.seed())),
    ] {
        let index = BinaryIndex::new(binarizer, &stored)?;
        let mut row = Vec::new();
        for oversample in oversamples {
            // Among ten candidates, rescoring has nothing left to choose.
            let search = |query: &[f32]| Ok(ids(&index.search_then_rescore(query, &stored, K, oversample)?));
            let found: Vec<Vec<usize>> = asked.iter_rows().map(search).collect::<Result<_, TensorError>>()?;
            row.push(RecallReport::new(&found, &exact, 1)?.mean.mean);
        }
        table.row([name.into()].into_iter().chain(row.iter().map(|&recall| num(recall, 3).within(0.01))));
        chart = chart.series(name, oversamples.into_iter().zip(row.clone()));
        recalls.push(row);
    }
    page.table("Recall@10 of the float neighbours, 500 queries", &table);
    page.text(
        "The encoder's coordinates differ in scale, and a sign keeps as much of a small one as of a large one. A rotation makes \
         them alike.",
    );
    page.chart("rescoring.svg", &chart)?;

    // One pass over everything, for each query, without the choice of the best.
    let index = BinaryIndex::new(plain, &stored)?;
    let distances = (QUERIES * stored.rows()) as u32;
    let start = Instant::now();
    for query in asked.iter_rows() {
        black_box(dot_rows(black_box(query), &stored));
    }
    let floats = start.elapsed();
    let start = Instant::now();
    for query in asked.iter_rows() {
        black_box(index.distances(black_box(query))?);
    }
    let bits = start.elapsed();
    let mut table = Table::new(["scan", "bytes a vector", "one distance"]);
    table.row(["f32 dot product".into(), (4 * stored.dim()).into(), duration(floats / distances)]);
    table.row(["XOR and popcount".into(), stored.dim().div_ceil(8).into(), duration(bits / distances)]);
    page.table("A query against every vector", &table);

    page.claim("a's bytes").equals(code_a.to_bytes(), [166, 176]);
    page.claim("b's bytes").equals(code_b.to_bytes(), [227, 144]);
    page.claim("they differ in 4 of 12 bits").equals(differ, 4);
    page.claim("similarity 2/3").close(code_a.similarity(&code_b)?, 2.0 / 3.0, 1e-12);
    page.claim("divided by padded bits it would be .75").close(padded, 0.75, 1e-12);
    page.claim("the bits stand for a cosine of .5").close(code_a.cosine(&code_b)?, 0.5, 1e-12);
    page.claim("the cosine is").close(cosine(&a, &b), 0.433_886_726_8, 1e-6);
    page.claim("768 values are 96 bytes").equals(BinaryCode::of(&[1.0; 768]).to_bytes().len(), 96);
    page.claim("bits differ as the angle says").all(&measured, |(share, expected)| (share - expected).abs() < 0.01);
    page.claim("recall grows with the candidates").all(&recalls, |row| row.windows(2).all(|pair| pair[0] <= pair[1]));
    page.claim("centred and rotated, rescored from 100").at_least(recalls[2][3], 0.85);
    page.claim("plain signs, rescored from 200").at_least(recalls[0][4], 0.85);
    page.claim("a rotation is worth some recall").greater(recalls[2][0], recalls[0][0] + 0.02);
    page.claim("bits alone lose a third of the neighbours or more").less(recalls[2][0], 0.67);
    page.claim("codes of another length aren't compared").fails(code_a.hamming(&BinaryCode::of(&a[1..])), "11");
    page.finish()
}
