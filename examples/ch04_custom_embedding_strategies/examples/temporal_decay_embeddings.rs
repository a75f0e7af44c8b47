//! Listing 4.6: similarity that ages: decay of the score, half-life and e-folding, and time as further dimensions.
//!
//! cargo run --release --example temporal_decay_embeddings

use ch04_custom_embedding_strategies::gains::{mean, ndcg};
use eas_data::synth::dated::{DatedConfig, dated};
use eas_report::{Chart, Table, num};
use eas_retrieval::fusion::ranking;
use eas_retrieval::temporal::{Decay, TemporalEmbedding, TimeEncoder};
use eas_tensor::Matrix;
use eas_tensor::kernels::{cosine, dot, dot_rows};

const K: usize = 10;
const RECENT: f64 = 90.0;

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let mut table = Table::new(["use", "half-life, days"]);
    for (what, days) in
        [("news", "1 to 7"), ("social media", "1 to 30"), ("fashion", "90 to 180"), ("research", "365 and more")]
    {
        table.row([what.into(), days.into()]);
    }
    page.table("How fast things age, by the book", &table);

    page.section("Half-life and e-folding");
    let (half, fold) = (Decay::half_life(180.0)?, Decay::e_fold(180.0)?);
    let mut table = Table::new(["age, days", "2^(-age/180)", "e^(-age/180)"]);
    let ages = [30.0, 90.0, 180.0, 365.0, 730.0];
    for age in ages {
        table.row([num(age, 0), num(half.weight(age), 10), num(fold.weight(age), 10)]);
    }
    page.table("Two decays with 180 days", &table);
    page.text(format!(
        "e^(-age/180) is called a half-life of 180 days in the book; half is gone after {} days.",
        num(fold.half_life_days(), 4).text()
    ));

    page.section("Search among dated documents");
    let config = DatedConfig { seed: page.seed_or(6), ..DatedConfig::default() };
    let (documents, queries) = dated(&config)?;
    let age = |q: usize, i: usize| queries.days[q] - documents.days[i];
    let gains = |q: usize| -> Vec<f64> {
        let relevant = |i: usize| documents.topics[i] == queries.topics[q] && (0.0..=RECENT).contains(&age(q, i));
        (0..config.documents).map(|i| f64::from(u8::from(relevant(i)))).collect()
    };
    // NDCG of a scoring rule; documents of the future are never shown.
    let evaluate = |score: &dyn Fn(usize) -> Vec<f64>| {
        let of = |q: usize| {
            let (all, scores) = (gains(q), score(q));
            let shown = ranking(&scores).into_iter().filter(|&i| age(q, i) >= 0.0);
            ndcg(&shown.take(K).map(|i| all[i]).collect::<Vec<_>>(), &all, K)
        };
        mean(&(0..config.queries).filter_map(of).collect::<Vec<_>>())
    };
    let cosines = |q: usize| -> Vec<f64> {
        dot_rows(queries.vectors.row(q), &documents.vectors).into_iter().map(f64::from).collect()
    };
    // The listing multiplies the document's vector by its decay; the cosine divides it out again.
    let scaled = |q: usize| -> Vec<f64> {
        let of = |i: usize| {
            let row: Vec<f32> = documents.vectors.row(i).iter().map(|x| x * half.weight(age(q, i)) as f32).collect();
            f64::from(cosine(queries.vectors.row(q), &row))
        };
        (0..config.documents).map(of).collect()
    };
    let decayed = |decay: Decay| {
        move |q: usize| -> Vec<f64> {
            cosines(q).into_iter().enumerate().map(|(i, s)| decay.apply(s, age(q, i))).collect()
        }
    };
    let none = evaluate(&cosines);
    let listed = evaluate(&scaled);
    let mut table = Table::new(["ranking", "NDCG@10"]);
    table.row(["cosine".into(), num(none, 3)]);
    table.row(["cosine of vectors scaled by their decay".into(), num(listed, 3)]);
    let mut grid = Vec::new();
    for days in [30.0, 60.0, 90.0, fold.half_life_days(), 180.0, 270.0, 365.0] {
        let quality = evaluate(&decayed(Decay::half_life(days)?));
        table.row([format!("score decays, half-life {} days", num(days, 1).text()).into(), num(quality, 3)]);
        grid.push((days, quality));
    }
    page.table("200 queries; relevant is the same topic, at most 90 days old", &table);

    // Time as 64 further dimensions next to 448 for the text; here the text has 64.
    let time = TimeEncoder::new(64, 4_096.0)?;
    let mut table = Table::new(["alpha, the share of time", "NDCG@10"]);
    let mut joint = Vec::new();
    for alpha in [0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9] {
        let quality =
            evaluate(&joined(&time, alpha, (&documents.vectors, &documents.days), (&queries.vectors, &queries.days))?);
        table.row([num(alpha, 1), num(quality, 3)]);
        joint.push((alpha, quality));
    }
    page.table("Time inside the vector", &table);
    page.text(
        "Inside the vector time adds to the score instead of multiplying it, and an ordinary index can search it. Its kernel falls fast \
         within days and slowly after, so that it prefers this week more than the last 90 days.",
    );
    let curve = Chart::lines("Quality by half-life", "half-life, days", "NDCG@10")
        .series("decaying score", grid.iter().copied())
        .level("no decay", none);
    page.chart("half_life.svg", &curve)?;
    let kernel = Chart::lines("What is left with age", "days", "weight")
        .series("half-life 180", (0..=365).map(|d| (f64::from(d), half.weight(f64::from(d)))))
        .series("e-folding 180", (0..=365).map(|d| (f64::from(d), fold.weight(f64::from(d)))))
        .series("kernel of time", (0..=365).map(|d| (f64::from(d), time.kernel(f64::from(d)))));
    page.chart("decay.svg", &kernel)?;

    let expected = [
        (0.8908987181, 0.8464817249),
        (std::f64::consts::FRAC_1_SQRT_2, 0.6065306597),
        (0.5, 0.3678794412),
        (0.2452325219, 0.1316277024),
        (0.0601389898, 0.0173258520),
    ];
    page.claim("the ten decays").all(ages.iter().zip(expected), |(&age, (h, e))| {
        (half.weight(age) - h).abs() < 1e-10 && (fold.weight(age) - e).abs() < 1e-10
    });
    page.claim("e-folding in 180 days halves in").close(fold.half_life_days(), 124.7665, 1e-4);
    let hour = 1.0 / 24.0;
    page.claim("an hour before and an hour after weigh the same").equals(half.weight(hour), half.weight(-hour));
    page.claim("and less than a day, which the listing makes of one of them")
        .greater(half.weight(hour), half.weight(1.0));
    let deltas = [0.0, 1.0, 7.0, 30.0, 90.0, 365.0];
    let kernels = [1.0, 0.71621488, 0.51894883, 0.30100524, 0.20354572, 0.09792004];
    page.claim("the kernel of time").all(deltas.iter().zip(kernels), |(&d, k)| (time.kernel(d) - k).abs() < 1e-8);
    let shifts = deltas.iter().flat_map(|&d| [0.0, 123.4, 900.0].map(|t| (d, t)));
    page.claim("depends on the difference alone")
        .all(shifts, |(d, t)| (f64::from(dot(&time.encode(t), &time.encode(t + d))) - time.kernel(d)).abs() < 1e-5);
    page.claim("a vector scaled by its decay is ranked as before").close(listed, none, 1e-12);
    let best = grid.iter().copied().reduce(|a, b| if b.1 > a.1 { b } else { a }).unwrap_or_default();
    page.claim("decaying the score gains").at_least(best.1, none + 0.5);
    page.claim("the best half-life").between(best.0, 60.0, 200.0);
    page.claim("no share of time is the cosine").close(joint[0].1, none, 1e-9);
    page.claim("the best share gains too").greater(joint.iter().map(|j| j.1).fold(0.0, f64::max), none + 0.3);
    page.claim("a half-life of 0 is refused").fails(Decay::half_life(0.0), "half-life in days is 0");
    page.finish()
}

/// Scores of a query by the dot product of vectors that hold text and time.
fn joined(
    time: &TimeEncoder,
    alpha: f64,
    documents: (&Matrix, &[f64]),
    queries: (&Matrix, &[f64]),
) -> anyhow::Result<impl Fn(usize) -> Vec<f64>> {
    let both = TemporalEmbedding::new(time.clone(), alpha)?;
    let (documents, queries) = (both.encode(documents.0, documents.1)?, both.encode(queries.0, queries.1)?);
    Ok(move |q: usize| dot_rows(queries.row(q), &documents).into_iter().map(f64::from).collect())
}
