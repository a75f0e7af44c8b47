//! Listing 13.2: filling a token budget. Truncation, heads, extraction, and greedy packing at equal cost.
//!
//! cargo run --release --example context_window_packing

use eas_data::synth::facts::{FactConfig, FactCorpus};
use eas_report::{Chart, Table, num, pct};
use eas_retrieval::context::{
    ContextDocument, ContextPacker, Deduplicator, PackedContext, PassageExtractor, Term, head_only, truncate_each,
};
use eas_retrieval::fusion::{RRF_K, reciprocal_rank_fusion};
use eas_retrieval::query::content_terms;
use eas_tensor::{Matrix, kernels, topk::top_k};
use eas_text::lexical::{Bm25, Tokenizer};
use eas_text::{minhash::Shingles, sentences::sentences, tokens::TokenCounter};

const BUDGETS: [usize; 4] = [128, 256, 512, 1024];
const STRATEGIES: [&str; 4] = ["truncate each", "head only", "extract", "pack"];

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    page.section("Three documents about a pump, by hand");
    let pump = [
        ContextDocument::new(
            1,
            "Pump manual",
            "The pump moves water through the cooling loop. Its motor draws 40 watts at full speed. Replace the filter every 90 days. The housing is painted grey.",
        ),
        ContextDocument::new(
            2,
            "Service bulletin",
            "Replace the filter every ninety days. A clogged filter makes the motor overheat. Overheating shortens motor life by half.",
        ),
        ContextDocument::new(3, "Forum", "My pump is loud at night. Cleaning the filter stopped the motor noise."),
    ];
    let terms = ["pump", "motor", "overheat", "filter", "clogged"].map(|term| Term::new(term, 1.0));
    let within = |budget| ContextPacker { max_tokens: budget, reserve: 0.0, ..ContextPacker::default() };
    let mut table = Table::new(["budget", "sentences", "value", "tokens"]);
    let mut values = Vec::new();
    for budget in [12, 20, 24, 32, 40] {
        let context = within(budget).pack(&pump, &terms, None, None)?;
        let places: Vec<String> =
            context.pieces.iter().map(|p| format!("({}, {})", p.document, p.sentence + 1)).collect();
        table.row([budget.into(), places.join(" ").into(), num(context.value, 6), context.tokens.into()]);
        values.push((context.value, context.tokens));
    }
    page.table("A term is worth 1 the first time, then 1/2, 1/3, ...", &table);
    for ((value, tokens), (want, length)) in
        values.into_iter().zip([(4.0, 10), (5.0, 18), (5.5, 24), (6.333_333, 31), (6.666_667, 37)])
    {
        page.claim(format!("{length} words are worth {want}")).close(value, want, 1e-6);
        page.claim(format!("the choice worth {want} takes {length} words")).equals(tokens, length);
    }
    let pair = ["Replace the filter every 90 days.", "Replace the filter every ninety days."];
    let [a, b] = pair.map(|s| Shingles::of(s, Tokenizer::AnyWord, 1));
    page.claim("two wordings of the filter rule are 0.714286 alike").close(a.jaccard(&b), 0.714_286, 1e-6);
    for (threshold, kept) in [(0.85, 2), (0.7, 1)] {
        let flags = Deduplicator { threshold, ..Deduplicator::default() }.keep(&pair, None)?;
        page.claim(format!("at a threshold of {threshold}, {kept} of them stay"))
            .equals(flags.iter().filter(|k| **k).count(), kept);
    }
    let tricky = "Version 2.0 costs $3.14. It ships, e.g. by sea.";
    page.claim("a number or an abbreviation does not end a sentence").equals(sentences(tricky).len(), 2);

    page.section("120 questions, ten documents each");
    let corpus = FactCorpus::generate(FactConfig { seed: page.seed_or(13), ..FactConfig::default() })?;
    let documents: Vec<ContextDocument> =
        corpus.documents.iter().map(|d| ContextDocument::new(d.id, d.title.as_str(), d.text())).collect();
    let encoder = eas_text::encoder::load(page.encoder().name())?;
    let texts: Vec<&str> = documents.iter().map(|d| d.text.as_str()).collect();
    let document_vectors = encoder.encode(&texts)?;
    let bm25 = Bm25::new(&texts, Tokenizer::AnyWord);
    let sentence_vectors: Vec<Matrix> =
        documents.iter().map(|d| encoder.encode(&d.sentences().collect::<Vec<_>>())).collect::<Result<_, _>>()?;

    let questions = corpus.sample_questions(120, 0, page.seed());
    let asked: Vec<&str> = questions.iter().map(|q| q.text.as_str()).collect();
    let question_vectors = encoder.encode(&asked)?;
    let counter = TokenCounter::Words;
    let mut kept = [[0.0; BUDGETS.len()]; STRATEGIES.len()];
    let mut facts = kept;
    let mut repeated = kept;
    let mut tokens = kept;
    let mut packed: Vec<(usize, PackedContext)> = Vec::new();
    for (question, vector) in questions.iter().zip(question_vectors.iter_rows()) {
        let ids = |hits: Vec<eas_tensor::topk::Scored>| hits.iter().map(|hit| hit.id).collect::<Vec<_>>();
        let lists =
            [ids(top_k(&kernels::dot_rows(vector, &document_vectors), 50)), ids(bm25.search(&question.text, 50))];
        let top: Vec<usize> = reciprocal_rank_fusion(&lists, RRF_K).into_iter().take(10).map(|(id, _)| id).collect();
        let shown: Vec<ContextDocument> = top.iter().map(|&id| documents[id].clone()).collect();
        let terms: Vec<Term> = content_terms(&question.text).iter().map(|t| Term::new(t, bm25.idf(t))).collect();
        let extractor = PassageExtractor::default();
        let mut among = Vec::new();
        for &id in &top {
            among.push(extractor.extract(&documents[id], &terms, &kernels::dot_rows(vector, &sentence_vectors[id]))?);
        }
        let extracts: Vec<ContextDocument> = shown.iter().zip(&among).map(|(d, chosen)| extract(d, chosen)).collect();
        for (b, &budget) in BUDGETS.iter().enumerate() {
            let context = within(budget).pack(&shown, &terms, Some(&among), None)?;
            let outputs = [
                truncate_each(&shown, budget, &counter),
                head_only(&shown, budget, &counter),
                head_only(&extracts, budget, &counter),
                context.text.clone(),
            ];
            for (s, text) in outputs.iter().enumerate() {
                let holds = |&(d, i): &(usize, usize)| text.contains(corpus.documents[d].sentences[i].as_str());
                let gold = &question.facts[0];
                kept[s][b] += f64::from(u8::from(gold.sentences.iter().any(holds))) / questions.len() as f64;
                let stated = corpus.truth.keys().filter(|(entity, attribute)| {
                    *entity == gold.entity && corpus.fact(*entity, *attribute).sentences.iter().any(holds)
                });
                facts[s][b] += stated.count() as f64 / questions.len() as f64;
                repeated[s][b] += redundancy(text) / questions.len() as f64;
                tokens[s][b] += counter.count(text) as f64 / questions.len() as f64;
            }
            packed.push((budget, context));
        }
    }
    let mut table = Table::new(["budget", "strategy", "answer kept", "facts on the product", "repeated", "tokens"]);
    for (b, &budget) in BUDGETS.iter().enumerate() {
        for (s, strategy) in STRATEGIES.iter().enumerate() {
            table.row([
                budget.into(),
                (*strategy).into(),
                pct(kept[s][b], 1),
                num(facts[s][b], 2),
                pct(repeated[s][b], 1),
                num(tokens[s][b], 1),
            ]);
        }
    }
    page.table("The sentence that answers, and what else is there", &table);
    let mut chart = Chart::lines("Answer sentence in the context", "token budget", "share of questions").log_x();
    for (strategy, kept) in STRATEGIES.iter().zip(kept) {
        chart = chart.series(*strategy, BUDGETS.iter().zip(kept).map(|(&budget, share)| (budget as f64, share)));
    }
    page.chart("retention.svg", &chart)?;

    page.claim("no packed context is over its budget when recounted")
        .all(&packed, |(budget, c)| counter.count(&c.text) <= *budget && counter.count(&c.text) == c.tokens);
    page.claim("every header is followed by a sentence").all(&packed, |(_, c)| {
        c.text.split("\n\n").all(|block| {
            block.split_once('\n').is_some_and(|(header, body)| header.starts_with('[') && !body.is_empty())
        })
    });
    page.claim("every packed sentence stands verbatim in its document")
        .all(packed.iter().flat_map(|(_, c)| c.pieces.iter().map(move |p| (c, p))), |(c, p)| {
            c.text.contains(&documents[p.document].text[p.span.clone()])
        });
    page.claim("no two sentences of a packed context are 0.85 alike").all(&packed, |(_, c)| {
        let sets: Vec<Shingles> = c
            .pieces
            .iter()
            .map(|p| Shingles::of(&documents[p.document].text[p.span.clone()], Tokenizer::AnyWord, 1))
            .collect();
        sets.iter().enumerate().all(|(i, a)| sets[..i].iter().all(|b| a.jaccard(b) < 0.85))
    });
    page.claim("at 256 tokens the packer keeps the answer").at_least(kept[3][1], 0.90);
    page.claim("that is 15 points above truncating each document").at_least(kept[3][1] - kept[0][1], 0.15);
    page.claim("a larger budget keeps no fewer answers").all(kept[3].windows(2), |pair| pair[1] >= pair[0]);
    page.finish()
}

/// The chosen sentences of a document as a document of their own.
fn extract(document: &ContextDocument, chosen: &[usize]) -> ContextDocument {
    let all: Vec<&str> = document.sentences().collect();
    let text: Vec<&str> = chosen.iter().map(|&i| all[i]).collect();
    ContextDocument::new(document.id, document.title.as_str(), text.join(" "))
}

/// The share of sentences that are at least 0.85 like an earlier one.
fn redundancy(text: &str) -> f64 {
    let sets: Vec<Shingles> = sentences(text).iter().map(|s| Shingles::of(s.text, Tokenizer::AnyWord, 1)).collect();
    let repeats = (0..sets.len()).filter(|&i| sets[..i].iter().any(|earlier| sets[i].jaccard(earlier) >= 0.85));
    repeats.count() as f64 / sets.len().max(1) as f64
}
