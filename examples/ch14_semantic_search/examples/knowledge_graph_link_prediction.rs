//! Listing 14.5: knowledge-graph embeddings that predict missing facts.
//!
//! cargo run --release --example knowledge_graph_link_prediction

use anyhow::Context;
use ch14_semantic_search::wordnet_facts::{NounFacts, noun_facts};
use eas_data::synth::enterprise::{Enterprise, RELATIONS, enterprise};
use eas_nn::kg::rank::tail_ranks;
use eas_nn::kg::{Candidates, KgModel, KgTraining, KnowledgeGraph, Negatives, Norm, RankSummary, Scorer, Triple};
use eas_report::{Cell, Table, num, pct};

const TESTED: [&str; 4] = ["supplies", "works_with", "located_in", "purchased"];
const TRANSE: Scorer = Scorer::TransE(Norm::L2);

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let seed = page.seed();
    let world = enterprise(seed);
    let graph_of = |facts: &mut dyn Iterator<Item = &[u32; 3]>| {
        let triples = facts.map(|&[head, relation, tail]| Triple::new(head, relation, tail));
        KnowledgeGraph::new(world.entities.clone(), RELATIONS, triples)
    };
    let train = graph_of(&mut world.train.iter())?;
    let known = graph_of(&mut world.train.iter().chain(&world.held_out))?;
    page.text(format!(
        "An enterprise graph: {} entities, {} facts to learn from, {} held out. Each held-out fact follows from others: a \
         supplier supplies what is supplied by it, colleagues are colleagues both ways, a customer is where its manager serves.",
        train.entities(),
        train.triples().len(),
        world.held_out.len(),
    ));

    let learn = |scorer: Scorer, sampling: Negatives, epochs: usize| -> anyhow::Result<KgModel> {
        let mut model = KgModel::new(&train, scorer, 32, seed)?;
        // A RotatE score adds up 16 complex numbers, so its distances are larger than TransE's one length.
        let margin = if scorer == Scorer::RotatE { 4.0 } else { 1.0 };
        let training = KgTraining { margin, sampling, epochs, seed, ..KgTraining::default() };
        training.run(&mut model, &train)?;
        Ok(model)
    };
    let facts_of = |relation: &str| -> Vec<Triple> {
        let id = Enterprise::relation(relation);
        let held_out = world.held_out.iter().filter(|fact| Some(fact[1]) == id);
        held_out.map(|&[head, relation, tail]| Triple::new(head, relation, tail)).collect()
    };
    let mrr = |model: &KgModel, relation: &str, exclude_head: bool| -> anyhow::Result<f64> {
        let ranks = tail_ranks(model, &known, &facts_of(relation), Candidates::Typed, exclude_head)?;
        Ok(RankSummary::of(&ranks)?.mrr)
    };

    page.section("Four models on the same facts");
    let mut table = Table::new(["model", "supplies", "works_with", "located_in", "purchased"]);
    let mut models = Vec::new();
    for scorer in [TRANSE, Scorer::DistMult, Scorer::ComplEx, Scorer::RotatE] {
        let model = page.timed(format!("train {}", scorer.name()), || learn(scorer, Negatives::Mixed, 60))?;
        let mut row: Vec<Cell> = vec![scorer.name().into()];
        for relation in TESTED {
            row.push(num(mrr(&model, relation, true)?, 2).within(0.06));
        }
        table.row(row);
        models.push(model);
    }
    page.table("Filtered MRR of held-out tails among entities of the tail's kind", &table);
    let [transe, distmult, _, rotate] = &models[..] else { unreachable!("four models were trained") };

    page.section("The choice of false facts decides what is learnt");
    page.text(
        "TransE again. Uniform negatives mostly ask whether a region is a product, typed ones which product it is; the path adds \
         the vectors of managed_by and serves to a customer and looks for the nearest region.",
    );
    let (managed_by, serves) = (train.relation("managed_by")?, train.relation("serves")?);
    let (located_in, purchased) = (train.relation("located_in")?, train.relation("purchased")?);
    let customers = train.possible_heads(purchased)?;
    let path_hits = |model: &KgModel| -> anyhow::Result<f64> {
        let mut hits = 0;
        for &customer in &customers {
            let ends = model.path(&train, customer, &[managed_by, serves], 1)?;
            hits += usize::from(known.neighbours(customer, located_in) == [ends[0].id]);
        }
        Ok(hits as f64 / customers.len() as f64)
    };
    let length = |v: &[f32]| f64::from(v.iter().map(|x| x * x).sum::<f32>()).sqrt();
    let uniform = page.timed("train TransE, uniform negatives", || learn(TRANSE, Negatives::Uniform, 60))?;
    let typed = page.timed("train TransE, typed negatives", || learn(TRANSE, Negatives::Typed, 60))?;
    let mut table = Table::new(["negatives", "supplies", "located_in", "purchased", "path finds region"]);
    for (name, model) in [("uniform", &uniform), ("typed", &typed), ("mixed", transe)] {
        let mut row: Vec<Cell> = vec![name.into()];
        for relation in ["supplies", "located_in", "purchased"] {
            row.push(num(mrr(model, relation, true)?, 2).within(0.06));
        }
        row.push(pct(path_hits(model)?, 0).within(0.06));
        table.row(row);
    }
    page.table("Filtered MRR and path queries by kind of negatives", &table);

    page.section("What to recommend");
    let customer = world.twins[0].0;
    let mut table = Table::new(["already bought", "recommended next", "score"]);
    let bought = known.neighbours(customer, purchased);
    for (i, hit) in transe.predict_tail(&known, customer, purchased, 3)?.iter().enumerate() {
        let has = bought.get(i).map_or("", |&id| known.name(id));
        table.row([has.into(), known.name(hit.id).into(), num(hit.score, 2).within(0.3)]);
    }
    page.table(format!("Products for {}", known.name(customer)), &table);
    let mut recommended = Vec::new();
    for &customer in &customers {
        for hit in transe.predict_tail(&known, customer, purchased, 10)? {
            recommended.push(Triple::new(customer, purchased, hit.id));
        }
    }
    page.claim("no recommendation repeats a known purchase or leaves the products")
        .all(&recommended, |fact| !known.contains(*fact) && known.kind_name(known.kind(fact.tail)) == "product");
    let mut twin_rank = 0.0;
    for &(original, twin) in &world.twins {
        let peers = transe.similar(&known, twin, usize::MAX)?;
        let at = peers.iter().position(|peer| peer.id == original).context("a twin is a customer")?;
        twin_rank += 1.0 / (at + 1) as f64 / world.twins.len() as f64;
    }
    page.claim("of a customer entered twice, the original is near the top of the twin's neighbours (MRR)")
        .within(0.1)
        .at_least(twin_rank, 0.6);

    page.section("Checks");
    let untrained = learn(TRANSE, Negatives::Mixed, 0)?;
    let tests: Vec<Triple> = TESTED.iter().flat_map(|relation| facts_of(relation)).collect();
    let ranks = tail_ranks(&untrained, &known, &tests, Candidates::All, true)?;
    page.claim("an untrained model ranks no better than chance among all entities (MRR)")
        .within(0.02)
        .at_most(RankSummary::of(&ranks)?.mrr, 0.05);
    for (model, name) in [(transe, "TransE"), (rotate, "RotatE")] {
        for (relation, floor) in [("supplies", 0.60), ("purchased", 0.30), ("located_in", 0.45)] {
            page.claim(format!("{name} finds held-out {relation} (typed filtered MRR)"))
                .within(0.06)
                .at_least(mrr(model, relation, true)?, floor);
        }
    }
    let vector = |model: &KgModel, name: &str| -> anyhow::Result<Vec<f32>> {
        Ok(model.relation(train.relation(name)?)?.to_vec())
    };
    let mut mean_length = 0.0;
    for name in RELATIONS {
        mean_length += length(&vector(transe, name)?) / RELATIONS.len() as f64;
    }
    page.claim("TransE can hold the symmetric works_with only as almost no translation (share of the mean length)")
        .within(0.1)
        .at_most(length(&vector(transe, "works_with")?) / mean_length, 0.3);
    let (there, back) = (vector(&uniform, "supplied_by")?, vector(&uniform, "supplies")?);
    let sum: Vec<f32> = there.iter().zip(&back).map(|(a, b)| a + b).collect();
    page.claim("supplied_by and supplies are opposite translations (length of the sum over that of one)")
        .within(0.1)
        .at_most(length(&sum) / length(&there), 0.2);
    let angles = vector(rotate, "works_with")?;
    page.claim("RotatE turns works_with by 0 or half a circle (mean |sin|)")
        .within(0.1)
        .at_most(angles.iter().map(|a| f64::from(a.sin().abs())).sum::<f64>() / angles.len() as f64, 0.2);
    page.claim("DistMult can't tell a fact from its reverse: equal scores but for rounding").all(&tests, |fact| {
        let reverse = Triple::new(fact.tail, fact.relation, fact.head);
        matches!((distmult.score(*fact), distmult.score(reverse)), (Ok(a), Ok(b)) if (a - b).abs() <= 1e-4 * a.abs().max(1.0))
    });
    page.claim("managed_by then serves leads to the customer's region").within(0.1).at_least(path_hits(transe)?, 0.5);
    page.claim("with uniform negatives it does so less often")
        .within(0.1)
        .less(path_hits(&uniform)?, path_hits(transe)?);
    let (without, with) = (mrr(transe, "works_with", false)?, mrr(transe, "works_with", true)?);
    page.text(format!(
        "Leaving the head in the race changes works_with from {with:.2} to {without:.2}: head + almost nothing is nearest to the \
         head itself, so the true colleague can at best come second.",
    ));
    page.claim("with the head among the candidates the MRR of works_with is at most one half")
        .within(0.06)
        .at_most(without, 0.5);
    page.claim("and far below the MRR without it").within(0.1).greater(with - without, 0.2);

    if page.full() {
        wordnet(&mut page, seed)?;
    }
    page.finish()
}

/// WordNet's nouns and six relations between them: of some nouns the upward facts are held out, their inverses are known.
fn wordnet(page: &mut eas_report::Listing, seed: u64) -> anyhow::Result<()> {
    page.section("WordNet");
    let NounFacts { train, known, held_out } = noun_facts()?;
    let mut table = Table::new(["model", "MRR", "hits at 10"]);
    for (scorer, margin) in [(TRANSE, 1.0), (Scorer::RotatE, 4.0)] {
        let mut model = KgModel::new(&train, scorer, 32, seed)?;
        let training = KgTraining { margin, batch: 1024, epochs: 30, seed, ..KgTraining::default() };
        page.timed(format!("train {} on WordNet", scorer.name()), || training.run(&mut model, &train))?;
        let ranks = RankSummary::of(&tail_ranks(&model, &known, &held_out, Candidates::All, true)?)?;
        table.row([scorer.name().into(), num(ranks.mrr, 3), pct(ranks.hits_at_10, 1)]);
        let (name, nouns) = (scorer.name(), train.entities());
        page.claim(format!("{name} finds held-out facts among {nouns} nouns (MRR)")).at_least(ranks.mrr, 0.02);
    }
    page.table("Held-out facts above a noun", &table);
    Ok(())
}
