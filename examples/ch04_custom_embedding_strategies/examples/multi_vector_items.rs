//! Listing 4.10: items with three vectors, searched with weights by objective, and why one preset doesn't explore.
//!
//! cargo run --release --example multi_vector_items

use ch04_custom_embedding_strategies::gains::{mean, ndcg};
use eas_data::synth::facets::{FacetConfig, FacetItems, FacetWorld, VectorFacet};
use eas_report::{Chart, Table, num};
use eas_retrieval::fusion::{Fusion, present_weights};
use eas_retrieval::mmr::{min_max, mmr};
use eas_retrieval::multi_vector::{MultiVectorIndex, SearchObjective, attribute_matrix};
use eas_tensor::Matrix;
use eas_tensor::kernels::dot;

const K: usize = 10;
const POOL: usize = 100;
/// Category, brand and price tier: number of values, and weight within the structure.
const ATTRIBUTES: [(usize, f64); 3] = [(12, 0.4), (15, 0.3), (5, 0.3)];

/// What a list of items is worth: by topic, by structure, by segment; the share of its items on topic; how unlike they are.
#[derive(Clone, Copy)]
struct Quality {
    topic: f64,
    structure: f64,
    segment: f64,
    on_topic: f64,
    distance: f64,
}

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let world = FacetWorld::new(FacetConfig {
        items: page.size(1_500, 15_000),
        vectors: vec![
            VectorFacet { classes: 25, dim: 32, noise: 1.0, present: 1.0 },
            VectorFacet { classes: 10, dim: 16, noise: 0.8, present: 0.8 },
        ],
        attributes: ATTRIBUTES.map(|(values, _)| values).to_vec(),
        seed: page.seed_or(10),
    })?;
    let (items, queries) = (world.items(), world.others(300));
    let (structure, asked) = (structures(&items)?, structures(&queries)?);
    let index = MultiVectorIndex::new()
        .part(items.vectors[0].clone(), None)?
        .part(structure.clone(), None)?
        .part(items.vectors[1].clone(), Some(items.present[1].clone()))?;
    let parts = |q: usize| {
        let behaviour = queries.present[1][q].then(|| queries.vectors[1].row(q));
        [Some(queries.vectors[0].row(q)), Some(asked.row(q)), behaviour]
    };
    let same = |a: &[usize], i: usize, b: &[usize], q: usize| f64::from(u8::from(a[i] == b[q]));
    let n = index.len();
    let judge = |lists: &[Vec<usize>]| {
        let mut columns: [Vec<f64>; 5] = Default::default();
        for (q, list) in lists.iter().enumerate() {
            let topic = |i: usize| same(&items.classes[0], i, &queries.classes[0], q);
            let alike = |i: usize| f64::from(dot(structure.row(i), asked.row(q)));
            let segment = |i: usize| same(&items.classes[1], i, &queries.classes[1], q);
            let worth: [&dyn Fn(usize) -> f64; 3] = [&topic, &alike, &segment];
            for (column, of) in columns.iter_mut().zip(worth) {
                let all: Vec<f64> = (0..n).map(of).collect();
                column.extend(ndcg(&list.iter().map(|&i| all[i]).collect::<Vec<_>>(), &all, K));
            }
            columns[3].push(mean(&list.iter().map(|&i| topic(i)).collect::<Vec<_>>()));
            let pairs = list.iter().enumerate().flat_map(|(at, &a)| list[..at].iter().map(move |&b| (a, b)));
            columns[4].push(mean(
                &pairs.map(|(a, b)| 1.0 - f64::from(dot(structure.row(a), structure.row(b)))).collect::<Vec<_>>(),
            ));
        }
        let [topic, structure, segment, on_topic, distance] = columns.map(|column| mean(&column));
        Quality { topic, structure, segment, on_topic, distance }
    };

    let mut table = Table::new(["preset", "meaning", "structure", "behaviour", "without behaviour"]);
    let mut weights = Vec::new();
    for objective in SearchObjective::ALL {
        let w = objective.weights();
        let without = present_weights(&w, &[true, true, false])?;
        let shown = format!("{:.3}, {:.3}", without[0], without[1]);
        table.row([format!("{objective:?}").into(), num(w[0], 6), num(w[1], 6), num(w[2], 6), shown.into()]);
        weights.push(w);
    }
    page.table("Weights, scaled to sum to 1; the listing's sum to 1.3, 1.5, 1 and 1.1", &table);

    let search = |weights: &[f64], k: usize| -> anyhow::Result<Vec<Vec<(usize, f64)>>> {
        let one = |q: usize| -> anyhow::Result<Vec<(usize, f64)>> {
            let hits = index.search(&parts(q), weights, Fusion::ZScore, None, k)?;
            Ok(hits.into_iter().map(|hit| (hit.id, hit.score)).collect())
        };
        (0..asked.rows()).map(one).collect()
    };
    let ids = |lists: &[Vec<(usize, f64)>]| -> Vec<Vec<usize>> {
        lists.iter().map(|list| list.iter().take(K).map(|hit| hit.0).collect()).collect()
    };
    let mut rows = Vec::new();
    for objective in SearchObjective::ALL {
        rows.push((format!("{objective:?}"), judge(&ids(&search(&objective.weights(), K)?))));
    }
    // Exploring for real: the hundred nearest by meaning, of which each next one must be unlike those taken in structure.
    let pools = search(&[1.0, 0.0, 0.0], POOL)?;
    rows.push(("meaning alone".into(), judge(&ids(&pools))));
    let mut explored = Vec::new();
    for pool in &pools {
        let relevance = min_max(&pool.iter().map(|hit| hit.1).collect::<Vec<_>>());
        let alike = |a: usize, b: usize| f64::from(dot(structure.row(pool[a].0), structure.row(pool[b].0)));
        explored.push(mmr(&relevance, alike, K, 0.5)?.into_iter().map(|at| pool[at].0).collect::<Vec<_>>());
    }
    rows.push(("MMR over structure".into(), judge(&explored)));
    let mut table = Table::new(["ranking", "topic", "structure", "segment", "on topic", "distance within"]);
    for (name, q) in &rows {
        let cells = [q.topic, q.structure, q.segment, q.on_topic, q.distance].map(|x| num(x, 3));
        table.row([name.as_str().into()].into_iter().chain(cells));
    }
    page.table("NDCG@10 of 300 queries, precision on topic, and mean structural distance within a list", &table);
    page.text(
        "The book's preset for exploration weighs structure most, and structure is what its results have in common: no list is less \
         diverse. Diversity is a property of a list, and needs a rule for lists.",
    );
    let bars = Chart::bars("What each ranking is good at", "ranking", "", rows.iter().map(|row| row.0.as_str()))
        .series("topic", rows.iter().map(|row| row.1.topic))
        .series("structure", rows.iter().map(|row| row.1.structure))
        .series("segment", rows.iter().map(|row| row.1.segment))
        .series("distance within", rows.iter().map(|row| row.1.distance));
    page.chart("objectives.svg", &bars)?;

    let [relevance, personal, balanced, exploration, meaning, diverse] = [0, 1, 2, 3, 4, 5].map(|at| rows[at].1);
    let presets = [relevance, personal, balanced, exploration];
    let best = |of: fn(&Quality) -> f64| {
        let order = presets.iter().enumerate().map(|(at, q)| (of(q), at));
        order.reduce(|a, b| if b.0 > a.0 { b } else { a }).map(|(_, at)| SearchObjective::ALL[at])
    };
    let expected =
        [[0.769231, 0.153846, 0.076923], [0.2, 0.133333, 0.666667], [0.5, 0.3, 0.2], [0.272727, 0.636364, 0.090909]];
    page.claim("the weights of the presets")
        .all(weights.iter().zip(expected), |(w, e)| w.iter().zip(e).all(|(a, b)| (a - b).abs() < 1e-6));
    page.claim("sum to 1").all(&weights, |w| (w.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    page.claim("relevance without behaviour").close(
        present_weights(&weights[0], &[true, true, false])?[0],
        0.833333,
        1e-6,
    );
    page.claim("most on topic").equals(best(|q| q.topic), Some(SearchObjective::Relevance));
    page.claim("most alike in structure").equals(best(|q| q.structure), Some(SearchObjective::Exploration));
    page.claim("most of one's segment").equals(best(|q| q.segment), Some(SearchObjective::Personalization));
    page.claim("balanced is second by topic")
        .all([personal, exploration], |q| q.topic < balanced.topic && balanced.topic < relevance.topic);
    page.claim("the exploration preset has the least diverse lists")
        .all(&rows, |(_, q)| q.distance >= exploration.distance);
    page.claim("MMR has the most diverse ones").all(&rows, |(_, q)| q.distance <= diverse.distance);
    page.claim("and stays on topic").at_least(diverse.on_topic, meaning.on_topic - 0.03);
    let unknown = "novelty".parse::<SearchObjective>();
    page.claim("an unknown objective is an error").fails(unknown, "objective is novelty");
    page.finish()
}

/// Category, brand and price tier as one vector whose dot product is the weighted agreement.
fn structures(items: &FacetItems) -> anyhow::Result<Matrix> {
    let columns =
        items.attributes.iter().zip(ATTRIBUTES).map(|(column, (values, weight))| (column.as_slice(), values, weight));
    Ok(attribute_matrix(&columns.collect::<Vec<_>>())?)
}
