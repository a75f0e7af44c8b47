//! Listing 13.3: the four-stage funnel. Recall widely, mix in the words, look closer, diversify, and find which stage loses the document.
//!
//! cargo run --release --example four_stage_retrieval_funnel

use eas_data::synth::glosses::{GlossBench, GlossConfig};
use eas_data::wordnet::WordNet;
use eas_eval::{bootstrap::paired_bootstrap, retrieval::reciprocal_rank};
use eas_report::{Chart, Table, duration, num};
use eas_retrieval::funnel::{Funnel, FunnelConfig, FunnelQuery, FunnelRun, Ranked, Recall, Reranker};
use eas_retrieval::mmr::mean_pairwise_similarity;
use eas_retrieval::rerank::{Features, LearnedReranker, MaxSim, TrainingQuery};
use eas_tensor::rng::SplitMix64;
use eas_text::encoder::StaticEncoder;
use std::time::Duration;

const STAGES: [&str; 4] = ["1 vector + BM25", "2 mix", "3 rerank", "4 diversify"];
const TRAINING: usize = 100;

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let wordnet = WordNet::load()?;
    let config = GlossConfig {
        documents: page.size(20_000, 82_115),
        known_item: 300 + TRAINING,
        seed: page.seed_or(7),
        ..GlossConfig::default()
    };
    let bench = GlossBench::generate(&wordnet, &config, eas_text::stopwords::is_stopword)?;
    let encoder = eas_text::encoder::load(page.encoder().name())?;
    let table = StaticEncoder::load()?;
    let tokens = |text: &str| {
        let pieces = table.tokenizer().tokenize(text, 512);
        pieces.iter().filter_map(|piece| table.tokenizer().token(piece.id)).collect::<Vec<&str>>()
    };
    let texts: Vec<&str> = bench.documents.iter().map(String::as_str).collect();
    let vectors = page.timed("encode the documents", || encoder.encode(&texts))?;
    let max_sim = MaxSim::new(texts.iter().map(|text| tokens(text)), |token| table.token_vector(token))?;
    let glosses: Vec<&str> = bench.synsets.iter().map(|&id| wordnet.synsets()[id as usize].gloss.as_str()).collect();
    let (gloss_vectors, dim) = (encoder.encode(&glosses)?, vectors.dim());
    let index =
        || Funnel::new(FunnelConfig::default(), &texts, vectors, max_sim)?.with_diversity_vectors(gloss_vectors);
    let funnel = page.timed("index the documents", index)?;
    let prepare = |texts: &[&str]| -> anyhow::Result<Vec<FunnelQuery>> {
        let vectors = encoder.encode(texts)?;
        let one = |(text, vector): (&&str, &[f32])| {
            Ok(funnel.query(text, vector, tokens(text).into_iter().map(str::to_owned).collect())?)
        };
        texts.iter().zip(vectors.iter_rows()).map(one).collect()
    };
    let questions: Vec<&str> = bench.known_items.iter().map(|q| q.text.as_str()).collect();
    let all = prepare(&questions)?;
    let (held_out, queries) = all.split_at(TRAINING);
    let gold: Vec<usize> = bench.known_items[TRAINING..].iter().map(|q| q.document).collect();

    // Train the reranker on 100 other queries: each relevant document against the first 30 others of stage 2.
    let mut training = Vec::new();
    for (query, item) in held_out.iter().zip(&bench.known_items) {
        let candidates: Vec<usize> =
            funnel.mix(query, &funnel.recall(query, Recall::Hybrid)).iter().map(|r| r.document).collect();
        if let Some(at) = candidates.iter().position(|&d| d == item.document) {
            let mut shown: Vec<usize> = candidates.iter().copied().take(30).collect();
            let relevant = if at < 30 {
                at
            } else {
                shown.push(item.document);
                30
            };
            training.push(TrainingQuery { candidates: funnel.features(query, &shown)?, relevant });
        }
    }
    let learned = LearnedReranker::fit(&training, 30, 1e-3)?;
    let weights: Vec<String> =
        Features::NAMES.iter().zip(learned.weights()).map(|(name, w)| format!("{name} {w:.2}")).collect();
    page.text(format!(
        "{} synsets, {} degraded glosses as queries, for example {:?}. Learned weights: {}.",
        texts.len(),
        queries.len(),
        bench.known_items[TRAINING].text,
        weights.join(", ")
    ));
    let learned = Reranker::Learned(learned);

    let runs = page.timed("300 queries, four stages", || funnel.run_all(queries, Recall::Hybrid, &learned))?;
    let mut stages = Table::new(["stage", "out", "recall", "MRR@10", "precision@10", "time a query"]);
    let mut recalls = Vec::new();
    for (stage, name) in STAGES.iter().enumerate() {
        let lists: Vec<&[Ranked]> = runs.iter().map(|run| run.stages[stage].as_slice()).collect();
        let out = lists.iter().map(|list| list.len()).sum::<usize>() as f64 / lists.len() as f64;
        let time = runs.iter().map(|run| run.elapsed[stage]).sum::<Duration>() / runs.len() as u32;
        let hits = ranks(&lists, &gold).iter().filter(|&&r| r > 0.0).count() as f64 / gold.len() as f64;
        recalls.push(recall(&lists, &gold));
        stages.row([
            (*name).into(),
            num(out, 1),
            num(recalls[stage], 3),
            num(mean(&ranks(&lists, &gold)), 3),
            num(hits / 10.0, 4),
            duration(time),
        ]);
    }
    page.table("What each stage keeps of the one relevant document", &stages);

    let mrr = |runs: &[FunnelRun], stage: usize| {
        ranks(&runs.iter().map(|r| r.stages[stage].as_slice()).collect::<Vec<_>>(), &gold)
    };
    let (before, after) = (mrr(&runs, 0), mrr(&runs, 2));
    let test = paired_bootstrap(&after, &before, 1000, page.seed())?;
    let mut ablation = Table::new(["variant", "stage-1 recall", "MRR@10 after stage 3"]);
    let mut stage_one = Vec::new();
    let mut rng = SplitMix64::new(page.seed());
    // The first 100 queries are enough to compare variants by.
    let some = &queries[..100];
    let full: Vec<&[Ranked]> = runs[..100].iter().map(|run| run.stages[2].as_slice()).collect();
    let start: Vec<&[Ranked]> = runs[..100].iter().map(|run| run.stages[0].as_slice()).collect();
    ablation.row(["full funnel".into(), num(recall(&start, &gold), 3), num(mean(&ranks(&full, &gold)), 3)]);
    for (name, how) in [("without BM25", Recall::Dense), ("without vectors in stage 1", Recall::Lexical)] {
        let runs = funnel.run_all(some, how, &learned)?;
        let first = recall(&runs.iter().map(|run| run.stages[0].as_slice()).collect::<Vec<_>>(), &gold);
        ablation.row([name.into(), num(first, 3), num(mean(&mrr(&runs, 2)), 3)]);
        stage_one.push(first);
    }
    for (name, reranker) in
        [("late interaction alone reranks", Reranker::MaxSim), ("without reranking", Reranker::Keep)]
    {
        let rerank = |(run, query): (&FunnelRun, &FunnelQuery)| funnel.rerank(query, &run.stages[1], &reranker);
        let lists: Vec<Vec<Ranked>> = runs.iter().zip(some).map(rerank).collect::<Result<_, _>>()?;
        let lists: Vec<&[Ranked]> = lists.iter().map(Vec::as_slice).collect();
        ablation.row([name.into(), num(recall(&start, &gold), 3), num(mean(&ranks(&lists, &gold)), 3)]);
    }
    let noise: Vec<f32> = (0..dim).map(|_| rng.normal() as f32).collect();
    let random = funnel.recall(&funnel.query("", &noise, vec![])?, Recall::Dense);
    let lists: Vec<&[Ranked]> = gold.iter().map(|_| random.as_slice()).collect();
    let lost = recall(&lists, &gold);
    ablation.row(["a random query vector, as in the book".into(), num(lost, 3), num(mean(&ranks(&lists, &gold)), 3)]);
    page.table("Leaving a part out, first 100 queries", &ablation);

    page.section("60 words with four meanings or more");
    let words: Vec<&str> = bench.ambiguous.iter().map(|q| q.text.as_str()).collect();
    let ambiguous = funnel.run_all(&prepare(&words)?, Recall::Hybrid, &learned)?;
    let mut sweep = Table::new(["lambda", "meanings in the top 10", "mean similarity", "MRR@10"]);
    let mut curve = Vec::new();
    for lambda in [1.0, 0.9, 0.7, 0.5, 0.3] {
        let (mut senses, mut alike) = (0.0, 0.0);
        for (run, query) in ambiguous.iter().zip(&bench.ambiguous) {
            let top: Vec<usize> = funnel.diversify(&run.stages[2], lambda)?.iter().map(|r| r.document).collect();
            senses += top.iter().filter(|d| query.senses.contains(d)).count() as f64;
            alike += mean_pairwise_similarity(&top, |a, b| funnel.similarity(a, b));
        }
        let lists: Vec<Vec<Ranked>> =
            runs.iter().map(|run| funnel.diversify(&run.stages[2], lambda)).collect::<Result<_, _>>()?;
        let lists: Vec<&[Ranked]> = lists.iter().map(Vec::as_slice).collect();
        let n = ambiguous.len() as f64;
        curve.push((lambda, senses / n));
        sweep.row([num(lambda, 1), num(senses / n, 2), num(alike / n, 3), num(mean(&ranks(&lists, &gold)), 3)]);
    }
    page.table("Relevance against novelty", &sweep);
    page.chart(
        "lambda.svg",
        &Chart::lines("Meanings in the top 10", "lambda", "meanings").series("60 ambiguous words", curve.clone()),
    )?;

    page.claim("stages hand on at most 1500, 500, 20 and 10 documents")
        .all(&runs, |run| run.stages.iter().zip([1500, 500, 20, 10]).all(|(list, most)| list.len() <= most));
    page.claim("each stage chooses among the one before").all(&runs, |run| {
        run.stages.windows(2).all(|pair| pair[1].iter().all(|r| pair[0].iter().any(|b| b.document == r.document)))
    });
    page.claim("the share of queries whose document survives never rises")
        .all(recalls.windows(2), |pair| pair[1] <= pair[0]);
    page.claim("stage 1 recalls the document").at_least(recalls[0], 0.85);
    page.claim("vectors and BM25 together recall no less than either alone")
        .at_least(recall(&start, &gold), stage_one[0].max(stage_one[1]) - 0.01);
    page.claim("a random query vector recalls far less").less(lost, 0.2 * recalls[0]);
    page.claim("reranking raises MRR@10 over stage 1").at_least(mean(&after) - mean(&before), 0.03);
    page.claim("the gain is not chance (paired bootstrap)").less(test.p_value, 0.05);
    page.claim("lambda 0.5 shows at least as many meanings as lambda 1").at_least(curve[3].1, curve[0].1);
    page.claim("lambda 1 keeps the order of the reranker").all(&runs, |run| {
        funnel.diversify(&run.stages[2], 1.0).is_ok_and(|list| list[..] == run.stages[2][..list.len()])
    });
    page.claim("short terms are kept").equals(prepare(&["SQL API"])?[0].terms().collect::<Vec<_>>(), ["api", "sql"]);
    page.claim("the order in which candidates come does not matter").all(
        queries.iter().zip(&runs).take(50),
        |(query, run)| {
            let reversed: Vec<Ranked> = run.stages[0].iter().rev().copied().collect();
            funnel.mix(query, &reversed) == run.stages[1]
        },
    );
    page.finish()
}

/// Share of the lists that hold their query's document.
fn recall(lists: &[&[Ranked]], gold: &[usize]) -> f64 {
    let held = lists.iter().zip(gold).filter(|(list, document)| list.iter().any(|r| r.document == **document));
    held.count() as f64 / lists.len() as f64
}

/// Reciprocal rank of each query's document in the first ten.
fn ranks(lists: &[&[Ranked]], gold: &[usize]) -> Vec<f64> {
    let rank = |(list, document): (&&[Ranked], &usize)| {
        let ids: Vec<usize> = list.iter().take(10).map(|r| r.document).collect();
        reciprocal_rank(&ids, &[*document]).unwrap_or(0.0)
    };
    lists.iter().zip(gold).map(rank).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
