//! Listing 13.4: evaluation. Metrics that react to the fault they are named after, and to no other.
//!
//! cargo run --release --example rag_evaluation_harness

use ch13_rag_at_scale::assistant::{documents, generator, is_correct, processor, questions};
use ch13_rag_at_scale::graded::{Fault, GradedCorpus};
use eas_data::synth::facts::{Attribute, FactConfig, FactCorpus, Question};
use eas_data::wordnet::WordNet;
use eas_eval::bootstrap::bootstrap_ci;
use eas_eval::rag::{Acceptance, METRICS, Metric, RagScores, mean_of, score};
use eas_eval::retrieval::{Judged, evaluate, recall_at_k};
use eas_report::{Listing, Table, num};
use eas_retrieval::rag::{RagConfig, RagPipeline};
use eas_tensor::rng::SplitMix64;
use eas_text::encoder::SentenceEncoder;

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let entities = page.size(60, 1_000);
    let corpus = FactCorpus::generate(FactConfig { entities, seed: page.seed_or(13), ..FactConfig::default() })?;
    let encoder = eas_text::encoder::load(page.encoder().name())?;
    let graded = page.timed("take the corpus apart", || GradedCorpus::new(&corpus, encoder.as_ref()))?;
    ranked_lists(&mut page)?;
    sensitivity(&mut page, &graded)?;
    coverage(&mut page)?;
    whole_system(&mut page, &graded, encoder.as_ref())?;
    page.finish()
}

/// The retrieval half on four queries that can be checked by hand.
fn ranked_lists(page: &mut Listing) -> anyhow::Result<()> {
    page.section("Ranked lists: four queries with graded judgements");
    let judged = |retrieved: &[&str], grades: &[(&str, u32)]| Judged {
        retrieved: retrieved.iter().map(|d| (*d).to_owned()).collect(),
        grades: grades.iter().map(|&(d, g)| (d.to_owned(), g)).collect(),
    };
    let queries = [
        judged(&["d1", "d2", "d5", "d8"], &[("d1", 3), ("d5", 1)]),
        judged(&["d4", "d3", "d9", "d7"], &[("d3", 2), ("d7", 2), ("d6", 1)]),
        judged(&["d2", "d3", "d10", "d11"], &[("d12", 1)]),
        judged(&["d6", "d1"], &[("d6", 1)]),
    ];
    let report = evaluate(&queries, 3)?;
    let mut table = Table::new(["recall@3", "precision@3", "MRR", "MAP", "nDCG@3"]);
    table.row([report.recall, report.precision, report.mrr, report.map, report.ndcg].map(|v| num(v, 6)));
    page.table("Means over the four queries", &table);
    for (name, value, expected) in [
        ("recall@3 is 0.583333", report.recall, 0.583_333),
        ("precision@3 is 0.333333, although one list has only two documents", report.precision, 0.333_333),
        ("the mean reciprocal rank is 0.625", report.mrr, 0.625),
        ("mean average precision is 0.541667", report.map, 0.541_667),
        ("nDCG@3 is 0.583457", report.ndcg, 0.583_457),
    ] {
        page.claim(name).close(value, expected, 1e-6);
    }
    let twice = judged(&["d1", "d1", "d2"], &[("d1", 1)]);
    page.claim("a list that names a document twice is refused").fails(evaluate(&[twice], 3), "same item");
    Ok(())
}

/// 200 gold answers, and what each of five faults, planted into a fifth of them, does to each metric.
fn sensitivity(page: &mut Listing, graded: &GradedCorpus<'_>) -> anyhow::Result<()> {
    page.section("Answers: five faults, each planted alone into 40 of 200 gold answers");
    let questions = gold_questions(graded.corpus, page.seed_or(13));
    let gold: Vec<_> = questions.iter().map(|q| graded.gold(q)).collect();
    let gold_scores: Vec<RagScores> = gold.iter().map(score).collect();
    page.claim("there are 200 gold answers").equals(gold.len(), 200);
    page.claim("each gold answer is perfect by the first six metrics")
        .all(&gold_scores, |s| METRICS[..6].iter().all(|m| m.1(s) == Some(1.0)));

    let metrics = &METRICS[..6];
    let mut deltas = vec![[0.0; 5]; metrics.len()];
    let mut overlap = [0.0; 5];
    for (slice, fault) in Fault::ALL.into_iter().enumerate() {
        let mut rng = SplitMix64::stream(page.seed_or(13), 100 + slice as u64);
        let mut faulty = gold.clone();
        for i in 40 * slice..40 * (slice + 1) {
            graded.corrupt(&mut faulty[i], &questions[i], fault, &mut rng)?;
        }
        let scores: Vec<RagScores> = faulty.iter().map(score).collect();
        for (row, metric) in metrics.iter().enumerate() {
            deltas[row][slice] = mean(&scores, *metric) - mean(&gold_scores, *metric);
        }
        // The usual shortcut: which share of the gold answer's words does the answer have?
        let shared = |i: usize| {
            let words = |sample: &eas_eval::rag::RagSample<_>| {
                sample
                    .answer
                    .iter()
                    .flat_map(|a| a.statement.words.iter().cloned())
                    .collect::<std::collections::BTreeSet<_>>()
            };
            let (all, given) = (words(&gold[i]), words(&faulty[i]));
            all.intersection(&given).count() as f64 / all.len() as f64
        };
        overlap[slice] = (0..gold.len()).map(shared).sum::<f64>() / gold.len() as f64 - 1.0;
    }
    let mut table = Table::new(["change of the mean", "wrong value", "moved", "dropped", "added", "removed"]);
    for (metric, row) in metrics.iter().zip(&deltas) {
        table.row(std::iter::once(metric.0.into()).chain(row.map(|d| num(d, 3))));
    }
    table.row(std::iter::once("(word overlap)".into()).chain(overlap.map(|d| num(d, 3))));
    page.table("Metric by fault: value, citation moved, citation dropped, sentence added, fact removed", &table);

    // Rows: faithfulness, citation recall, citation precision, correctness, completeness, relevance.
    let expected = [
        [-0.2, 0.0, 0.0, 0.0, 0.0],
        [-0.2, -0.2, -0.2, 0.0, 0.0],
        [-0.2, -0.2, 0.0, 0.0, 0.0],
        [-0.2, 0.0, 0.0, 0.0, 0.0],
        [-0.2, 0.0, 0.0, 0.0, -0.1],
        [0.0, 0.0, 0.0, -0.1, 0.0],
    ];
    let cells = |row: usize| (0..5).map(move |slice| (row, slice));
    page.claim("each of the 30 cells is as planted, to 0.03")
        .all((0..6).flat_map(cells), |(row, slice)| (deltas[row][slice] - expected[row][slice]).abs() <= 0.03);
    page.claim("word overlap hardly sees a wrong value: it moves less than half as far as correctness")
        .greater(overlap[0], 0.5 * deltas[3][0]);
    let mut turned = gold_scores.clone();
    turned.reverse();
    page.claim("the order of the samples doesn't matter")
        .equals(mean_of(&turned, METRICS[0], 200, 1)?.mean, mean_of(&gold_scores, METRICS[0], 200, 1)?.mean);
    Ok(())
}

/// Four slices of one-fact questions, then one of two-fact questions.
fn gold_questions(corpus: &FactCorpus, seed: u64) -> Vec<Question> {
    let mut questions = corpus.sample_questions(160, 0, seed);
    let mut rng = SplitMix64::stream(seed, 99);
    for entity in (0..corpus.entities.len()).cycle().take(10_000) {
        let pair = rng.sample_indices(8, 2);
        let question = corpus.two_fact_question(entity, [Attribute::TYPED[pair[0]], Attribute::TYPED[pair[1]]], entity);
        if questions.len() < 200 && question.answerable() {
            questions.push(question);
        }
    }
    questions
}

fn mean(scores: &[RagScores], metric: Metric) -> f64 {
    let values: Vec<f64> = scores.iter().filter_map(metric.1).collect();
    values.iter().sum::<f64>() / values.len() as f64
}

/// Does a 95% interval hold the truth about 95 times in 100?
fn coverage(page: &mut Listing) -> anyhow::Result<()> {
    let mut covered = 0;
    for repetition in 0..100 {
        let mut rng = SplitMix64::stream(page.seed(), repetition);
        let values: Vec<f64> = (0..200).map(|_| f64::from(u8::from(rng.chance(0.8)))).collect();
        covered += usize::from(bootstrap_ci(&values, 1000, repetition)?.contains(0.8));
    }
    page.claim("the bootstrap interval of 200 answers covers a planted rate of 0.8 in at least 90 of 100 repetitions")
        .at_least(covered, 90);
    Ok(())
}

/// The pipeline of listing 13.1, judged.
fn whole_system(page: &mut Listing, graded: &GradedCorpus<'_>, encoder: &dyn SentenceEncoder) -> anyhow::Result<()> {
    page.section("The pipeline of listing 13.1 on 120 answerable questions");
    let corpus = graded.corpus;
    let wordnet = WordNet::load()?;
    let documents = documents(corpus);
    let generator = generator(corpus, encoder)?;
    let pipeline =
        RagPipeline::new(&documents, processor(corpus, &wordnet), encoder, &generator, RagConfig::default())?;
    let (mut scores, mut recalls, mut exact) = (Vec::new(), Vec::new(), Vec::new());
    for question in questions(corpus, page.seed_or(13)).iter().filter(|q| q.answerable()) {
        let response = pipeline.answer(&question.text)?;
        let ids: Vec<usize> = response.reranked.iter().map(|d| d.id).collect();
        recalls.push(recall_at_k(&ids, &question.gold_documents(), 10)?);
        let context = response.contexts.iter().flat_map(|c| c.sentences.iter().map(|s| (c.document, s.0)));
        scores.push(score(&graded.answered(question, &response.answer, context)));
        exact.push(f64::from(u8::from(is_correct(&response.answer, question, corpus))));
    }
    let mut table = Table::new(["metric", "mean", "95% interval, from", "to"]);
    let mut rows = vec![("recall@10", bootstrap_ci(&recalls, 1000, page.seed())?)];
    for metric in METRICS {
        rows.push((metric.0, mean_of(&scores, metric, 1000, page.seed())?));
    }
    rows.push(("exactly right", bootstrap_ci(&exact, 1000, page.seed())?));
    for (name, interval) in &rows {
        table.row([
            (*name).into(),
            num(interval.mean, 3).within(0.02),
            num(interval.low, 3).within(0.03),
            num(interval.high, 3).within(0.03),
        ]);
    }
    page.table("Scores with bootstrap intervals", &table);
    let of = |name: &str| rows.iter().find(|r| r.0 == name).map_or(f64::NAN, |r| r.1.mean);
    let broken =
        Acceptance::default().broken(of("recall@10"), of("correctness"), of("faithfulness"), of("citation recall"));
    page.claim("recall, correctness and faithfulness of 0.8 and citation recall of 0.7: the system is accepted")
        .equals(broken, Vec::<&str>::new());
    page.claim("the typed values are exactly right for at least 85%").at_least(of("exactly right"), 0.85);
    Ok(())
}
