//! Listing 1.3: weighted terms, still only terms.
//!
//! cargo run --release --example tfidf_cosine_search

use eas_data::fixtures::mini_catalogue;
use eas_data::wordnet::{Pos, WordNet};
use eas_eval::retrieval::recall_at_k;
use eas_report::{EncoderChoice, Table, num, pct};
use eas_tensor::gemm::matmul_transposed;
use eas_tensor::{kernels::dot, rng::SplitMix64, top_k};
use eas_text::encoder::{self, SentenceEncoder};
use eas_text::lexical::{Bm25, TfIdf, TfIdfConfig, Tokenizer};

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let encoder = encoder::load(page.encoder().name())?;

    page.section("A little catalogue");
    let catalogue = mini_catalogue();
    let documents = catalogue.documents.as_slice();
    let model = TfIdf::fit(documents, TfIdfConfig::default())?;
    let bm25 = Bm25::new(documents, Tokenizer::Word);
    let mut table = Table::new(["term", "documents", "idf"]);
    for term in ["with", "notebook", "laptop"] {
        table.row([term.into(), bm25.document_frequency(term).into(), num(model.idf(term).unwrap_or(f64::NAN), 6)]);
    }
    page.table("Rare words weigh more", &table);
    let mut table = Table::new(["query", "TF-IDF (document: cosine)", "BM25 (document: score)", "recall@2"]);
    let (mut scores, mut recall) = (Vec::new(), 0.0);
    for query in catalogue.queries {
        let hits = model.search(query.text, 2);
        let ids: Vec<usize> = hits.iter().map(|hit| hit.id).collect();
        let shown = |hits: &[eas_tensor::Scored], decimals: usize| {
            hits.iter().map(|hit| format!("{}: {:.decimals$}", hit.id, hit.score)).collect::<Vec<_>>().join(", ")
        };
        let found = recall_at_k(&ids, query.relevant, 2)?;
        table.row([
            query.text.into(),
            shown(&hits, 6).into(),
            shown(&bm25.search(query.text, 2), 3).into(),
            num(found, 2),
        ]);
        recall += found / catalogue.queries.len() as f64;
        scores.extend(hits.iter().map(|hit| (hit.id, hit.score)));
    }
    page.table("What the four queries find", &table);

    page.section("Synonyms and negation");
    let mut table = Table::new(["pair", "TF-IDF", encoder.name()]);
    let mut probes = Vec::new();
    for (a, b) in [("car", "automobile"), ("not good", "good"), ("not good", "bad")] {
        let terms = TfIdf::fit(&[a, b], TfIdfConfig::default())?.cosine(a, b)?;
        let meaning = cosine(encoder.as_ref(), a, b)?;
        table.row([format!("{a} / {b}").into(), num(terms, 4), num(meaning, 4).within(2e-3)]);
        probes.push((terms, meaning));
    }
    page.table("Cosines", &table);

    page.section("Definitions by definition");
    let size = match page.encoder() {
        EncoderChoice::Static => page.size(20_000, 82_115),
        EncoderChoice::MiniLm => page.size(4_000, 20_000),
    };
    page.text(
        "The query is the definition of a noun (terrier), relevant is the definition of the class it belongs to (dog).",
    );
    let wordnet = WordNet::load()?;
    let nouns: Vec<_> = wordnet.synsets().iter().filter(|synset| synset.pos == Pos::Noun).collect();
    let mut rng = SplitMix64::new(page.seed());
    let mut picks = rng.sample_indices(nouns.len(), size);
    picks.sort_unstable();
    let chosen: Vec<_> = picks.into_iter().map(|pick| nouns[pick]).collect();
    let glosses: Vec<&str> = chosen.iter().map(|synset| synset.gloss.as_str()).collect();
    let at = |id: u32| chosen.binary_search_by_key(&id, |synset| synset.id).ok();
    let pairs: Vec<(usize, usize)> =
        chosen.iter().enumerate().filter_map(|(i, s)| Some((i, at(*s.hypernyms.first()?)?))).take(300).collect();
    let text_model = page.timed("TF-IDF fit", || TfIdf::fit(&glosses, TfIdfConfig::default()))?;
    let text_bm25 = page.timed("BM25 index", || Bm25::new(&glosses, Tokenizer::Word));
    let vectors = page.timed("encode", || encoder.encode(&glosses))?;
    let queries: Vec<usize> = pairs.iter().map(|pair| pair.0).collect();
    let similar = matmul_transposed(&vectors.select(&queries), &vectors)?;
    let (mut terms, mut okapi, mut meaning) = (0usize, 0usize, 0usize);
    for (row, &(query, relevant)) in pairs.iter().enumerate() {
        // The query itself comes first and is left out.
        let within =
            |ids: Vec<usize>| usize::from(ids.into_iter().filter(|&id| id != query).take(10).any(|id| id == relevant));
        terms += within(text_model.search(glosses[query], 11).iter().map(|hit| hit.id).collect());
        okapi += within(text_bm25.search(glosses[query], 11).iter().map(|hit| hit.id).collect());
        meaning += within(top_k(similar.row(row), 11).iter().map(|hit| hit.id).collect());
    }
    let share = |found: usize| found as f64 / pairs.len() as f64;
    let mut table = Table::new(["search", "parent's definition in the first 10"]);
    for (name, found) in [("TF-IDF", terms), ("BM25", okapi), (encoder.name(), meaning)] {
        table.row([name.into(), pct(share(found), 1).within(0.02)]);
    }
    page.table(format!("{} definitions, {} queries", glosses.len(), pairs.len()), &table);

    page.claim("the catalogue has 61 terms").equals(model.vocabulary().len(), 61);
    page.claim("and 71 weights that are not zero").equals(model.documents().nnz(), 71);
    for (term, idf) in [("laptop", 2.871802), ("notebook", 2.466337), ("with", 1.619039)] {
        page.claim(format!("the weight of \"{term}\" is scikit-learn's")).close(
            model.idf(term).unwrap_or(f64::NAN),
            idf,
            1e-6,
        );
    }
    let sklearn = [(1, 0.433643), (4, 0.654565), (5, 0.239128), (7, 0.563343), (8, 0.227381), (10, 0.5)];
    page.claim("documents and cosines of the four queries are scikit-learn's")
        .all(scores.iter().zip(sklearn), |(&(id, score), (want, value))| {
            id == want && (f64::from(score) - value).abs() < 1e-6
        });
    page.claim("six hits in all").equals(scores.len(), sklearn.len());
    page.claim("weights do not close the gap: recall@2 stays at one half").equals(recall, 0.5);
    page.claim("synonyms score exactly zero by terms").equals(probes[0].0, 0.0);
    page.claim("and far from zero by vectors").at_least(probes[0].1, 0.5);
    if encoder.name() == "minilm" {
        page.claim("MiniLM: cosine of car and automobile").close(probes[0].1, 0.8645, 1e-3);
        page.claim("MiniLM puts \"not good\" next to \"bad\"").greater(probes[2].1, probes[1].1);
    } else {
        page.claim("averaging token vectors leaves \"not good\" next to \"good\"").less(probes[2].1, probes[1].1);
    }
    page.claim("a query of unknown words finds nothing").equals(model.search("zeppelin", 5).len(), 0);
    page.claim("vectors find more related definitions than terms do").greater(meaning, terms.max(okapi));
    page.finish()
}

fn cosine(encoder: &dyn SentenceEncoder, a: &str, b: &str) -> anyhow::Result<f32> {
    let vectors = encoder.encode(&[a, b])?;
    Ok(dot(vectors.row(0), vectors.row(1)))
}
