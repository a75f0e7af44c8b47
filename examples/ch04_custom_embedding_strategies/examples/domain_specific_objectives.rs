//! Listing 4.8: four objectives for a domain, ranking, attributes, diversity and alignment, with the trap in each.
//!
//! cargo run --release --example domain_specific_objectives

use candle_core::{DType, Device, Tensor};
use ch04_custom_embedding_strategies::objectives::{Term, Views};
use eas_data::synth::rotation::random_orthogonal;
use eas_losses::fixtures::{ANCHORS, POSITIVES, tiny};
use eas_losses::ranking::{lambdarank, pairwise_hinge, ranknet};
use eas_losses::regularisers::{alignment, diversity};
use eas_losses::{LossError, normalize};
use eas_report::{Table, num};
use eas_tensor::Matrix;
use eas_tensor::align::rotation;
use eas_tensor::gemm::matmul_transposed;
use eas_tensor::rng::SplitMix64;

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let device = &Device::Cpu;

    page.section("Ranking five items");
    let (scores, grades) = ([0.2, 0.9, 0.4, 0.7, 0.1], [3.0, 1.0, 2.0, 0.0, 1.0]);
    let mirrored = |values: [f64; 5]| [values[4], values[3], values[2], values[1], values[0]];
    let value = |loss: fn(&Tensor, &[f64]) -> Result<Tensor, LossError>, s: [f64; 5], y: [f64; 5]| {
        anyhow::Ok(loss(&Tensor::new(&s, device)?, &y)?.to_scalar::<f64>()?)
    };
    // The book compares an item only with those that come after it, and divides by all pairs.
    let book = |s: [f64; 5], y: [f64; 5]| {
        let pairs = (0..5).flat_map(|i| (i + 1..5).map(move |j| (i, j)));
        let cost = |(i, j): (usize, usize)| if y[i] > y[j] { (1.0 - (s[i] - s[j])).max(0.0) } else { 0.0 };
        pairs.map(cost).sum::<f64>() / 10.0
    };
    let mut table = Table::new(["loss", "as listed", "list reversed"]);
    let mut ranking = Vec::new();
    for (name, loss) in [
        ("hinge over ordered pairs", pairwise_hinge as fn(&Tensor, &[f64]) -> Result<Tensor, LossError>),
        ("RankNet", ranknet),
        ("LambdaRank, a sum", lambdarank),
    ] {
        let both = (value(loss, scores, grades)?, value(loss, mirrored(scores), mirrored(grades))?);
        table.row([name.into(), num(both.0, 10), num(both.1, 10)]);
        ranking.push(both);
    }
    let halves = (book(scores, grades), book(mirrored(scores), mirrored(grades)));
    table.row(["hinge as the book sums it".into(), num(halves.0, 10), num(halves.1, 10)]);
    page.table("Scores .2 .9 .4 .7 .1 for grades 3 1 2 0 1", &table);

    page.section("Diversity and alignment of four rows");
    let t = tiny(DType::F64, device)?;
    let number = |loss: Tensor| loss.to_scalar::<f64>();
    let spread = number(diversity(&t.anchors)?)?;
    let corners = Tensor::new(&[[1.0, 1.0, 1.0], [1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [-1.0, -1.0, 1.0f64]], device)?;
    let simplex = number(diversity(&corners)?)?;
    let raw = |scale: f64| {
        let product = |i: usize, j: usize| -> f64 {
            ANCHORS[i].iter().zip(&ANCHORS[j]).map(|(a, b)| scale * scale * f64::from(a * b)).sum()
        };
        let all = (0..4).flat_map(|i| (0..4).filter(move |&j| j != i).map(move |j| (i, j)));
        all.map(|(i, j)| product(i, j)).sum::<f64>() / 12.0
    };
    let apart = number(alignment(&t.anchors, &t.positives)?)?;
    let unit = number(alignment(&normalize(&t.anchors)?, &normalize(&t.positives)?)?)?;
    let mut table = Table::new(["quantity", "value"]);
    for (name, value) in [
        ("diversity, mean cosine of two rows", spread),
        ("the same of ten times the rows", number(diversity(&(&t.anchors * 10.0)?)?)?),
        ("the book's, mean product of two rows", raw(1.0)),
        ("the book's, of ten times the rows", raw(10.0)),
        ("diversity of a tetrahedron's corners", simplex),
        ("alignment, mean squared difference", apart),
        ("alignment of unit rows", unit),
    ] {
        table.row([name.into(), num(value, 10)]);
    }
    page.table("Fixture T", &table);
    let mut rng = SplitMix64::new(page.seed());
    let mut below = Vec::new();
    for n in [2, 3, 5, 9] {
        for _ in 0..50 {
            let rows: Vec<f64> = (0..n * 4).map(|_| rng.normal()).collect();
            below.push(number(diversity(&Tensor::from_vec(rows, (n, 4), device)?)?)? + 1.0 / (n as f64 - 1.0));
        }
    }

    page.section("Trained alone, and beside InfoNCE");
    let views = Views::new(page.seed())?;
    let steps = page.size(400, 2_000);
    let mut table = Table::new(["objective", "spread", "recall@1", "category", "NDCG@5"]);
    let mut line = |name: String, terms: Option<&[Term]>| -> anyhow::Result<_> {
        let own = match terms {
            Some(terms) => views.train(terms, steps, page.seed())?,
            None => views.untrained(page.seed())?,
        };
        let cells = [own.spread, own.recall_1, own.category, own.ndcg_5].map(|x| num(x, 3).within(0.03));
        table.row([name.into()].into_iter().chain(cells));
        Ok(own)
    };
    let start = line("none".into(), None)?;
    let contrast = line("InfoNCE".into(), Some(&[Term::InfoNce]))?;
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for term in [Term::LambdaRank, Term::Attributes, Term::Diversity, Term::Alignment] {
        alone.push(line(format!("{term:?}"), Some(&[term]))?);
        beside.push(line(format!("{term:?} + InfoNCE"), Some(&[Term::InfoNce, term]))?);
    }
    page.table("Two towers, 400 new items: grade 2 for the item itself, 1 for its category", &table);
    page.text(
        "Alignment alone is best served by one vector for everything, and finds it. Attributes alone make categories of items. \
         Diversity alone spreads the vectors and knows nothing of what they stand for.",
    );

    page.section("Two spaces that differ by a rotation");
    let plain = Matrix::from_vec(200, 6, (0..1_200).map(|_| rng.normal() as f32).collect())?;
    let planted = random_orthogonal(6, &mut rng);
    let found = rotation(&plain, &matmul_transposed(&plain, &planted)?)?;
    let gap = found.as_slice().iter().zip(planted.as_slice()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let (a, p) = (Matrix::from_rows(&ANCHORS)?, Matrix::from_rows(&POSITIVES)?);
    let turn = rotation(&a, &p)?;
    let turned = matmul_transposed(&a, &turn)?;
    let error = |x: &Matrix| {
        let squares = x.as_slice().iter().zip(p.as_slice()).map(|(x, y)| f64::from(x - y).powi(2));
        squares.sum::<f64>() / 12.0
    };
    let m = |i: usize, j: usize| f64::from(turn.row(i)[j]);
    let minor = |a: usize, b: usize| m(1, a) * m(2, b) - m(1, b) * m(2, a);
    let determinant = m(0, 0) * minor(1, 2) - m(0, 1) * minor(0, 2) + m(0, 2) * minor(0, 1);
    let mut table = Table::new(["fixture T, anchors to positives", "mean squared difference"]);
    table.row(["as they are".into(), num(error(&a), 10)]);
    table.row(["rotated by Procrustes".into(), num(error(&turned), 10)]);
    page.table("One rotation aligns what no training has to move", &table);

    for (name, (own, reversed), expected) in [
        ("hinge", ranking[0], 1.244_444_444_4),
        ("RankNet", ranking[1], 0.837_579_206_2),
        ("LambdaRank", ranking[2], 0.756_728_714_1),
    ] {
        page.claim(format!("{name}: its value")).close(own, expected, 1e-9);
        page.claim(format!("{name}: the same for the reversed list")).close(reversed, own, 1e-9);
    }
    page.claim("the book's hinge depends on the order: .81").close(halves.0, 0.81, 1e-9);
    page.claim("and .31").close(halves.1, 0.31, 1e-9);
    page.claim("diversity").close(spread, 0.033_027_733_0, 1e-9);
    page.claim("the book's grows with the rows' length").close((raw(10.0) / raw(1.0) * 1e6).round() / 1e6, 100.0, 1e-9);
    page.claim("a tetrahedron has -1/3").close(simplex, -1.0 / 3.0, 1e-9);
    page.claim("and no rows have less than -1/(n-1)").all(below, |margin| margin >= -1e-9);
    page.claim("alignment").close(apart, 0.072_916_666_7, 1e-9);
    page.claim("of unit rows").close(unit, 0.044_502_910_1, 1e-9);
    page.claim("alignment alone collapses").at_most(alone[3].spread, 0.2 * start.spread);
    page.claim("beside InfoNCE it doesn't").at_least(beside[3].spread, 0.8 * start.spread);
    page.claim("and finds what it can't find alone").greater(beside[3].recall_1, alone[3].recall_1 + 0.4);
    page.claim("LambdaRank raises NDCG@5").greater(alone[0].ndcg_5, start.ndcg_5);
    page.claim("and does so beside InfoNCE").greater(beside[0].ndcg_5, contrast.ndcg_5);
    page.claim("a category head makes categories").greater(alone[1].category, 0.9);
    page.claim("a planted rotation is recovered").at_most(gap, 1e-6);
    page.claim("fixture T before").close(error(&a), 0.072_916_666_7, 1e-7);
    page.claim("and after").close(error(&turned), 0.030_654_789_0, 1e-7);
    page.claim("by a rotation, not a reflection").close(determinant, 1.0, 1e-6);
    page.finish()
}
