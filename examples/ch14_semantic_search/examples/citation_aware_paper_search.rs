//! Listing 14.3: papers found through what they cite, when their own words are unusual.
//!
//! cargo run --release --example citation_aware_paper_search

use std::collections::BTreeSet;

use eas_data::synth::papers::{PaperSet, TOPICS, papers};
use eas_eval::clustering::pairwise;
use eas_eval::retrieval::{ndcg_at_k, recall_at_k};
use eas_report::{Chart, Table, num, pct};
use eas_retrieval::graph::CitationGraph;
use eas_retrieval::papers::{
    AliasTable, CitationPrior, PaperFilter, PaperIndex, Relation, Scoring, disambiguate_authors,
};
use eas_text::lexical::{TfIdf, TfIdfConfig};

const TEXT_ONLY: Scoring = Scoring { prior: CitationPrior::None, half_life: None };

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();

    // Four papers, small enough to check by hand: 1 cites 4; 2 cites 1 and 4; 3 cites 1.
    let four = CitationGraph::new(4, &[(0, 3), (1, 0), (1, 3), (2, 0)])?;
    let rank = four.pagerank(0.85)?;
    let mut table = Table::new(["papers", "coupling (share references)", "co-citation (share citers)"]);
    for (a, b) in [(0, 1), (1, 2), (0, 2), (0, 3)] {
        let (coupling, cocitation) = (four.coupling(a, b), four.cocitation(a, b));
        table.row([format!("{} and {}", a + 1, b + 1).into(), num(coupling.jaccard, 3), num(cocitation.jaccard, 3)]);
    }
    page.table("Four papers, Jaccard overlap", &table);

    // 600 papers on 12 topics; every fifth is written in words that no query uses.
    let set = papers(page.size(600, 3_000), page.seed_or(3))?;
    let texts: Vec<String> = set.papers.iter().map(|p| format!("{} {}", p.title, p.summary)).collect();
    let model = TfIdf::fit(&texts, TfIdfConfig::default())?;
    let text = model.documents().to_dense();
    let aliases = AliasTable::new(&set.spellings)?;
    let index = |alpha: f64| PaperIndex::new(set.papers.clone(), &text, aliases.clone(), alpha, 2);
    let (plain, smoothed) = page.timed("indexing", || (index(0.0), index(0.3)));
    let (plain, smoothed) = (plain?, smoothed?);
    let questions: Vec<String> = set.vocabulary.iter().map(|words| words[..4].join(" ")).collect();
    let queries = model.transform(&questions)?.to_dense();

    let mut table = Table::new(["search", "all papers", "ordinary", "dialect"]);
    let mut recalls = Vec::new();
    for (name, index) in [("text alone", &plain), ("smoothed over citations", &smoothed)] {
        let mut columns = [0.0; 3];
        for topic in 0..TOPICS.len() {
            let found = search(index, queries.row(topic), set.papers.len() / 12, &TEXT_ONLY)?;
            for (sum, dialect) in columns.iter_mut().zip([None, Some(false), Some(true)]) {
                *sum += recall_at_k(&found, &on_topic(&set, topic, dialect), found.len())? / TOPICS.len() as f64;
            }
        }
        table.row([name.into(), pct(columns[0], 1), pct(columns[1], 1), pct(columns[2], 1)]);
        recalls.push(columns);
    }
    page.table(format!("Recall among the first {}", set.papers.len() / 12), &table);

    // What popularity does to the ranking.
    let scorings = [
        ("cosine", CitationPrior::None),
        ("bounded, at most +10%", CitationPrior::Bounded { weight: 0.1 }),
        ("additive, + ln(1 + c) / 10", CitationPrior::Additive),
    ];
    let mut table = Table::new(["citation prior", "text alone", "smoothed"]);
    let mut ndcg = Vec::new();
    for (name, prior) in scorings {
        let scoring = Scoring { prior, half_life: None };
        let mut columns = [0.0; 2];
        for (sum, index) in columns.iter_mut().zip([&plain, &smoothed]) {
            for topic in 0..TOPICS.len() {
                let grades: Vec<(u32, u32)> = on_topic(&set, topic, None).into_iter().map(|id| (id, 1)).collect();
                let found = search(index, queries.row(topic), 20, &scoring)?;
                *sum += ndcg_at_k(&found, &grades, 20)? / TOPICS.len() as f64;
            }
        }
        table.row([name.into(), num(columns[0], 3), num(columns[1], 3)]);
        ndcg.push(columns);
    }
    page.table("nDCG@20 by citation prior", &table);

    let relations = [
        ("bibliographic coupling", Relation::Coupling),
        ("co-citation", Relation::CoCitation),
        ("direct citation", Relation::Direct),
        ("smoothed vector", Relation::Embedding),
    ];
    let mut table = Table::new(["related by", "papers with relatives", "same topic in top 5"]);
    let mut purity = Vec::new();
    for (name, relation) in relations {
        let (mut share, mut papers) = (0.0, 0);
        for paper in &set.papers {
            let hits = smoothed.related(paper.id, relation, 5)?;
            if !hits.is_empty() {
                let own = set.topics[paper.id as usize];
                let same = hits.iter().filter(|hit| set.topics[hit.id as usize] == own).count();
                share += same as f64 / hits.len() as f64;
                papers += 1;
            }
        }
        purity.push(share / f64::from(papers));
        table.row([name.into(), papers.into(), pct(share / f64::from(papers), 1)]);
    }
    page.table("Related papers (chance 8.3%)", &table);

    let ranks = smoothed.graph().pagerank(0.85)?;
    let mut by_rank: Vec<usize> = (0..ranks.len()).collect();
    by_rank.sort_by(|&a, &b| ranks[b].total_cmp(&ranks[a]).then(a.cmp(&b)));
    let mut table = Table::new(["paper", "topic", "year", "cited by", "PageRank"]);
    for &paper in &by_rank[..5] {
        let cited = smoothed.graph().cited_by(paper).len();
        let (topic, year) = (TOPICS[set.topics[paper]], set.papers[paper].year.to_string());
        table.row([paper.into(), topic.into(), year.into(), cited.into(), num(ranks[paper], 4)]);
    }
    page.table("The five most central papers", &table);

    // One name, two persons.
    let persons = disambiguate_authors(&set.papers, smoothed.vectors(), 0.5)?;
    let (found, truth) = (flat(&persons), flat(&set.persons));
    let names: Vec<&String> = set.papers.iter().flat_map(|p| &p.authors).collect();
    let by_name = pairwise(&names, &truth)?;
    let clustered = pairwise(&found, &truth)?;
    let mut table = Table::new(["a person is", "precision", "recall", "F1"]);
    for (way, s) in [("a name", by_name), ("a name with co-authors or topic in common", clustered)] {
        table.row([way.into(), num(s.precision, 3), num(s.recall, 3), num(s.f1, 3)]);
    }
    page.table("Pairs of papers by the same person", &table);

    let points = |dialect: bool| {
        let of = (0..set.papers.len()).filter(|&i| set.dialect[i] == dialect);
        of.map(|i| (plain_cosine(&plain, &queries, &set, i), plain_cosine(&smoothed, &queries, &set, i)))
            .collect::<Vec<(f64, f64)>>()
    };
    let chart = Chart::scatter("Cosine to the query of the paper's own topic", "text alone", "smoothed over citations")
        .series("ordinary", points(false))
        .series("dialect", points(true));
    page.chart("smoothing.svg", &chart)?;

    let hits = |filter: &PaperFilter| smoothed.search(queries.row(0), set.papers.len(), filter, &Scoring::default());
    let years = PaperFilter { years: Some(2010..=2014), ..PaperFilter::default() };
    let author = PaperFilter { author: Some(set.papers[0].authors[0].clone()), ..PaperFilter::default() };
    let entity = PaperFilter { entity: Some(set.spellings[3][2].clone()), ..PaperFilter::default() };
    let paper = |id: u32| &set.papers[id as usize];
    let graph = smoothed.graph();
    let unsmoothed = plain.search(queries.row(0), 50, &PaperFilter::default(), &TEXT_ONLY)?;
    let by_text = eas_tensor::top_k(&eas_tensor::kernels::dot_rows(queries.row(0), &text), 50);

    page.claim("coupling of papers 1 and 2 is one half").equals(four.coupling(0, 1).jaccard, 0.5);
    page.claim("coupling of papers 2 and 3 is one half").equals(four.coupling(1, 2).jaccard, 0.5);
    page.claim("papers 1 and 3 share no reference").equals(four.coupling(0, 2).shared, 0);
    page.claim("co-citation of papers 1 and 4 by Jaccard").close(four.cocitation(0, 3).jaccard, 1.0 / 3.0, 1e-9);
    page.claim("co-citation of papers 1 and 4 by Salton").close(four.cocitation(0, 3).salton, 0.5, 1e-9);
    page.claim("papers 2 and 3 cite something that cites paper 4").equals(four.two_hop(3), [1, 2]);
    for (i, expected) in [0.298_018_667, 0.130_997_216, 0.130_997_216, 0.439_986_9].into_iter().enumerate() {
        page.claim(format!("PageRank of paper {} equals networkx", i + 1)).close(rank[i], expected, 1e-8);
    }
    page.claim("text alone misses the dialect papers").at_most(recalls[0][2], 0.10);
    page.claim("smoothing finds them").at_least(recalls[1][2], 0.85);
    page.claim("and nearly all papers").at_least(recalls[1][0], 0.95);
    page.claim("with the bounded prior the first 20 stay on topic").at_least(ndcg[1][1], 0.95);
    page.claim("the additive prior costs at least 0.2 of nDCG@20 (smoothed)").at_least(ndcg[1][1] - ndcg[2][1], 0.2);
    page.claim("the additive prior costs at least 0.2 of nDCG@20 (text alone)").at_least(ndcg[1][0] - ndcg[2][0], 0.2);
    page.claim("coupled papers are on the same topic").at_least(purity[0], 0.90);
    page.claim("co-cited papers are on the same topic").at_least(purity[1], 0.70);
    page.claim("persons are told apart").at_least(clustered.f1, 0.9);
    page.claim("better than by name").greater(clustered.f1, by_name.f1);
    page.claim("who cites and who is cited agree")
        .all(0..graph.len(), |a| graph.cites(a).iter().all(|&b| graph.cited_by(b).contains(&a)));
    page.claim("a filter by year never leaks").all(hits(&years)?, |hit| (2010..=2014).contains(&paper(hit.id).year));
    page.claim("nor one by author")
        .all(hits(&author)?, |hit| paper(hit.id).authors.contains(&set.papers[0].authors[0]));
    page.claim("nor one by entity, whatever the spelling")
        .all(hits(&entity)?, |hit| paper(hit.id).entities["material"].iter().all(|e| set.spellings[3].contains(e)));
    page.claim("that filter finds several spellings").at_least(
        hits(&entity)?.iter().map(|hit| &paper(hit.id).entities["material"][0]).collect::<BTreeSet<_>>().len(),
        2,
    );
    page.claim("without smoothing the search is the text search").equals(
        unsmoothed.iter().map(|hit| (hit.id, hit.score)).collect::<Vec<_>>(),
        by_text.iter().map(|hit| (hit.id as u32, hit.score)).collect::<Vec<_>>(),
    );
    page.finish()
}

fn search(index: &PaperIndex, query: &[f32], k: usize, scoring: &Scoring) -> anyhow::Result<Vec<u32>> {
    let hits = index.search(query, k, &PaperFilter::default(), scoring)?;
    Ok(hits.iter().map(|hit| hit.id).collect())
}

/// The papers of a topic, of one vocabulary or both.
fn on_topic(set: &PaperSet, topic: usize, dialect: Option<bool>) -> Vec<u32> {
    let wanted = |&i: &usize| set.topics[i] == topic && dialect.is_none_or(|d| set.dialect[i] == d);
    (0..set.papers.len()).filter(wanted).map(|i| i as u32).collect()
}

fn flat(persons: &[Vec<usize>]) -> Vec<usize> {
    persons.iter().flatten().copied().collect()
}

fn plain_cosine(index: &PaperIndex, queries: &eas_tensor::Matrix, set: &PaperSet, paper: usize) -> f64 {
    f64::from(eas_tensor::kernels::dot(queries.row(set.topics[paper]), index.vectors().row(paper)))
}
