//! Listing 1.2: term-overlap search and its vocabulary gap.
//!
//! cargo run --release --example keyword_search

use eas_data::fixtures::mini_catalogue;
use eas_data::wordnet::{Pos, WordNet};
use eas_eval::retrieval::recall_at_k;
use eas_report::{Table, num};
use eas_tensor::{Matrix, gemm::matmul_transposed, rng::SplitMix64, top_k};
use eas_text::encoder;
use eas_text::lexical::{KeywordIndex, Tokenizer, scan};

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let encoder = encoder::load(page.encoder().name())?;

    page.section("A little catalogue");
    page.text(
        "A keyword index counts how many of the query's words a document contains. Two documents are relevant to each query, and \
         one of them says it in other words.",
    );
    let catalogue = mini_catalogue();
    let documents = catalogue.documents.as_slice();
    let index = KeywordIndex::new(documents, Tokenizer::Word);
    let vectors = encoder.encode(documents)?;
    let mut table = Table::new(["query", "hits (document: shared words)", "missed", "why", "keywords", encoder.name()]);
    let (mut by_words, mut by_meaning, mut found) = (0.0, 0.0, Vec::new());
    for query in catalogue.queries {
        let hits = index.search(query.text, 2);
        let ids: Vec<usize> = hits.iter().map(|hit| hit.id).collect();
        let near: Vec<usize> = nearest(&encoder.encode(&[query.text])?, &vectors, 2)?.remove(0);
        let (words, meaning) = (recall_at_k(&ids, query.relevant, 2)?, recall_at_k(&near, query.relevant, 2)?);
        let missed: Vec<String> =
            query.relevant.iter().filter(|id| !ids.contains(id)).map(ToString::to_string).collect();
        let listed: Vec<String> = hits.iter().map(|hit| format!("{}: {}", hit.id, hit.score)).collect();
        table.row([
            query.text.into(),
            listed.join(", ").into(),
            missed.join(", ").into(),
            "no shared term".into(),
            num(words, 2),
            num(meaning, 2),
        ]);
        by_words += words / catalogue.queries.len() as f64;
        by_meaning += meaning / catalogue.queries.len() as f64;
        found.push(hits.iter().map(|hit| (hit.id, hit.score)).collect::<Vec<_>>());
    }
    table.row(["mean".into(), "".into(), "".into(), "".into(), num(by_words, 2), num(by_meaning, 2)]);
    page.table("Recall@2", &table);

    page.section("Definitions asked for by a synonym");
    let wordnet = WordNet::load()?;
    let mut rng = SplitMix64::new(page.seed());
    let nouns: Vec<_> = wordnet.synsets().iter().filter(|s| s.pos == Pos::Noun && s.lemmas.len() > 1).collect();
    let (mut glosses, mut synonyms) = (Vec::new(), Vec::new());
    for pick in rng.sample_indices(nouns.len(), nouns.len()) {
        let (gloss, synonym) = (nouns[pick].gloss.as_str(), nouns[pick].lemmas[1].as_str());
        let own = Tokenizer::Word.tokens(gloss);
        let terms = Tokenizer::Word.tokens(synonym);
        if glosses.len() < 2_000 && !terms.is_empty() && !terms.iter().any(|term| own.contains(term)) {
            glosses.push(gloss);
            synonyms.push(synonym);
        }
    }
    page.text("2,000 noun definitions; the query is a synonym of the word defined, none of whose words the definition contains.");
    let of_glosses = KeywordIndex::new(&glosses, Tokenizer::Word);
    let indexed: Vec<_> = synonyms.iter().map(|query| of_glosses.search(query, 10)).collect();
    let right = indexed.iter().enumerate().filter(|(own, hits)| hits.iter().any(|hit| hit.id == *own)).count();
    let near = nearest(&encoder.encode(&synonyms)?, &encoder.encode(&glosses)?, 10)?;
    let right_by_meaning = near.iter().enumerate().filter(|(own, ids)| ids.contains(own)).count();
    let mut table = Table::new(["search", "own definition in the first 10, of 2,000", "queries without any hit"]);
    let silent = indexed.iter().filter(|hits| hits.is_empty()).count();
    table.row(["keyword index".into(), right.into(), silent.into()]);
    table.row([encoder.name().into(), right_by_meaning.into(), 0.into()]);
    page.table("Synonym queries", &table);

    // The scan of every document gives the same answers; half of these queries are whole definitions.
    let (few, mut rng) = (&glosses[..400], SplitMix64::new(page.seed()));
    let mut draw = |texts: &[&str]| Tokenizer::Word.tokens(texts[rng.below(texts.len())]).join(" ");
    let queries: Vec<String> = (0..500).map(|i| draw(if i % 2 == 0 { few } else { &synonyms })).collect();
    let small = KeywordIndex::new(few, Tokenizer::Word);
    let by_index: Vec<_> =
        page.timed("500 queries, by index", || queries.iter().map(|query| small.search(query, 10)).collect());
    let by_scan: Vec<_> = page
        .timed("500 queries, by scan", || queries.iter().map(|query| scan(few, Tokenizer::Word, query, 10)).collect());

    let whitespace = KeywordIndex::new(&["shoes, boots"], Tokenizer::Whitespace);
    let word = KeywordIndex::new(&["shoes, boots"], Tokenizer::Word);
    let expected: [&[(usize, f32)]; 4] = [&[(1, 1.0)], &[(4, 2.0), (5, 1.0)], &[(7, 2.0), (8, 1.0)], &[(10, 1.0)]];
    page.claim("the four queries find exactly the documents that share words, best first").equals(found, expected);
    page.claim("keyword recall@2 is exactly one half").equals(by_words, 0.5);
    page.claim("vectors find more of what is relevant").greater(by_meaning, by_words);
    if encoder.name() == "minilm" {
        page.claim("MiniLM finds everything").equals(by_meaning, 1.0);
    }
    page.claim("the index ranks as the scan does").all(by_index.iter().zip(&by_scan), |(a, b)| a == b);
    page.claim("a definition is never found by a synonym that it does not contain").equals(right, 0);
    page.claim("vectors find definitions that share no word with the query").greater(right_by_meaning, 0);
    page.claim("the word tokenizer finds \"shoes\" in \"shoes,\"").equals(word.search("shoes", 1).len(), 1);
    page.claim("splitting at white space alone does not").equals(whitespace.search("shoes", 1).len(), 0);
    page.finish()
}

/// For each query row the ids of its `k` nearest documents.
fn nearest(queries: &Matrix, documents: &Matrix, k: usize) -> anyhow::Result<Vec<Vec<usize>>> {
    let scores = matmul_transposed(queries, documents)?;
    Ok(scores.iter_rows().map(|row| top_k(row, k).iter().map(|hit| hit.id).collect()).collect())
}
