//! Listing 4.5: what a product looks like, what it is for, and its attributes: searched apart and fused by weights.
//!
//! cargo run --release --example multi_faceted_product_search

use ch04_custom_embedding_strategies::gains::{mean, ndcg};
use eas_data::synth::facets::{FacetConfig, FacetItems, FacetWorld, VectorFacet, quintiles};
use eas_report::{Chart, Table, num};
use eas_retrieval::fusion::{Fusion, present_weights};
use eas_retrieval::multi_vector::{MultiVectorIndex, attribute_matrix};
use eas_tensor::rng::SplitMix64;
use eas_tensor::{Matrix, top_k};

const K: usize = 10;
const CANDIDATES: usize = 50;
/// Brand, price tier and category: number of values, and weight within the attributes.
const ATTRIBUTES: [(usize, f64); 3] = [(12, 0.4), (5, 0.2), (10, 0.4)];
const WEIGHTS: [(&str, [f64; 3]); 4] = [
    ("default .4/.4/.2", [0.4, 0.4, 0.2]),
    ("looks only", [1.0, 0.0, 0.0]),
    ("use first .2/.6/.2", [0.2, 0.6, 0.2]),
    ("attributes first .2/.2/.6", [0.2, 0.2, 0.6]),
];

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let items = page.size(1_200, 12_000);
    let facet = |classes| VectorFacet { classes, dim: 32, noise: 1.0, present: 1.0 };
    let world = FacetWorld::new(FacetConfig {
        items,
        vectors: vec![facet(20), facet(15)],
        attributes: vec![12, 10],
        seed: page.seed_or(5),
    })?;
    let mut products = world.items();
    // Prices are lognormal; a tier is a fifth of the catalogue.
    let mut rng = SplitMix64::stream(page.seed_or(5), 9);
    let prices: Vec<f64> = (0..items).map(|_| (3.5 + 0.8 * rng.normal()).exp()).collect();
    products.attributes.insert(1, quintiles(&prices));
    let (asked, queries) = world.seen_anew(&products, 200);

    let product_attributes = attribute_vectors(&products)?;
    let index = MultiVectorIndex::new()
        .part(products.vectors[0].clone(), None)?
        .part(products.vectors[1].clone(), None)?
        .part(product_attributes.clone(), None)?;
    let query_attributes = attribute_vectors(&queries)?;
    let parts =
        |q: usize| [Some(queries.vectors[0].row(q)), Some(queries.vectors[1].row(q)), Some(query_attributes.row(q))];
    // What each product is worth to query q: the weight of every facet that matches, attributes in part.
    let gains = |q: usize, weights: &[f64; 3]| -> Vec<f64> {
        let of = |i: usize| {
            let class = |f: usize| f64::from(u8::from(products.classes[f][i] == queries.classes[f][q]));
            let same = |a: usize| products.attributes[a][i] == queries.attributes[a][q];
            let agreed: f64 = (0..3).filter(|&a| same(a)).map(|a| ATTRIBUTES[a].1).sum();
            if i == asked[q] { 0.0 } else { weights[0] * class(0) + weights[1] * class(1) + weights[2] * agreed }
        };
        (0..items).map(of).collect()
    };
    let search = |q: usize, weights: &[f64; 3], fusion, candidates| -> anyhow::Result<Vec<usize>> {
        let found = index.search(&parts(q), weights, fusion, candidates, K + 1)?;
        Ok(found.into_iter().map(|hit| hit.id).filter(|&id| id != asked[q]).take(K).collect())
    };

    let single =
        [("visual alone", [1.0, 0.0, 0.0]), ("function alone", [0.0, 1.0, 0.0]), ("attributes alone", [0.0, 0.0, 1.0])];
    let mut table = Table::new(["NDCG@10", WEIGHTS[0].0, WEIGHTS[1].0, WEIGHTS[2].0, WEIGHTS[3].0]);
    let mut quality: Vec<Vec<f64>> = Vec::new();
    let rows = single.iter().map(|(name, only)| (*name, Some(only), Fusion::WeightedSum));
    for (name, only, fusion) in rows.chain(Fusion::ALL.map(|fusion| (fusion.name(), None, fusion))) {
        let mut row = Vec::new();
        for (_, weights) in &WEIGHTS {
            let mut scores = Vec::new();
            for q in 0..asked.len() {
                let all = gains(q, weights);
                let found = search(q, only.unwrap_or(weights), fusion, Some(CANDIDATES))?;
                scores.extend(ndcg(&found.iter().map(|&i| all[i]).collect::<Vec<_>>(), &all, K));
            }
            row.push(mean(&scores));
        }
        table.row([name.into()].into_iter().chain(row.iter().map(|&x| num(x, 3))));
        quality.push(row);
    }
    page.table("200 products seen anew, themselves excluded; judged by the weights of the column", &table);
    let bars =
        quality[..3].iter().zip(single.map(|s| s.0)).chain(quality[3..].iter().zip(Fusion::ALL.map(Fusion::name)));
    let chart = bars.fold(
        Chart::bars("Facets alone and fused", "weights", "NDCG@10", WEIGHTS.map(|w| w.0)),
        |chart, (row, name)| chart.series(name, row.iter().copied()),
    );
    page.chart("facets.svg", &chart)?;

    // A weighted sum of dot products is one dot product of joined vectors.
    let weights = WEIGHTS[0].1;
    let joined_items = joined(&products.vectors, &product_attributes, &weights)?;
    let joined_queries = joined(&queries.vectors, &query_attributes, &weights)?;
    let (mut same, mut kept) = (0, 0);
    for (q, &own) in asked.iter().enumerate() {
        let scores = eas_tensor::kernels::dot_rows(joined_queries.row(q), &joined_items);
        let best: Vec<usize> = top_k(&scores, K + 1).into_iter().map(|h| h.id).filter(|&i| i != own).take(K).collect();
        same += usize::from(search(q, &weights, Fusion::WeightedSum, None)? == best);
        let gathered = search(q, &weights, Fusion::WeightedSum, Some(CANDIDATES))?;
        kept += gathered.iter().filter(|id| best.contains(id)).count();
    }
    let kept = kept as f64 / (K * asked.len()) as f64;
    page.text(format!(
        "Fusing the 50 best of each facet keeps {} of what scoring every product finds: an item that is good in two facets and best in \
         none is never gathered.",
        num(kept, 3).text()
    ));
    let alone = |q: usize| -> anyhow::Result<Vec<usize>> {
        let found = index.search(&[parts(q)[0], None, None], &[1.0, 0.0, 0.0], Fusion::WeightedSum, None, K + 1)?;
        Ok(found.into_iter().map(|hit| hit.id).filter(|&id| id != asked[q]).take(K).collect())
    };
    let mut visual = Vec::new();
    for q in 0..asked.len() {
        for fusion in Fusion::ALL {
            visual.push(search(q, &[1.0, 0.0, 0.0], fusion, Some(CANDIDATES))? == alone(q)?);
        }
    }
    let without = present_weights(&[0.4, 0.4, 0.2], &[false, true, true])?;

    let best_facet = quality[..3].iter().map(|row| row[0]).fold(0.0, f64::max);
    for (row, fusion) in quality[3..].iter().zip(Fusion::ALL) {
        let sentence = format!("{} beats the best single facet by 0.12", fusion.name());
        page.claim(sentence).at_least(row[0], best_facet + 0.12);
        page.claim(format!("{} with the weight on attributes", fusion.name())).at_least(row[3], 0.9);
    }
    page.claim("weights (1, 0, 0) give the visual ranking whatever the fusion").all(visual, |same| same);
    page.claim("queries for which the weighted sum equals one search in joined vectors").equals(same, asked.len());
    page.claim("50 candidates a facet keep most of it").at_least(kept, 0.9);
    page.claim("without a picture function weighs 2/3").close(without[1], 0.6667, 5e-5);
    page.claim("and attributes 1/3").close(without[2], 0.3333, 5e-5);
    page.finish()
}

/// Brand, price tier and category as one vector whose dot product is the weighted agreement.
fn attribute_vectors(items: &FacetItems) -> anyhow::Result<Matrix> {
    let columns =
        items.attributes.iter().zip(ATTRIBUTES).map(|(column, (values, weight))| (column.as_slice(), values, weight));
    Ok(attribute_matrix(&columns.collect::<Vec<_>>())?)
}

/// The parts of each item side by side, each times the root of its weight.
fn joined(vectors: &[Matrix], attributes: &Matrix, weights: &[f64; 3]) -> anyhow::Result<Matrix> {
    let row = |i: usize| -> Vec<f32> {
        let parts = [vectors[0].row(i), vectors[1].row(i), attributes.row(i)];
        parts.iter().zip(weights).flat_map(|(part, w)| part.iter().map(move |x| x * w.sqrt() as f32)).collect()
    };
    Ok(Matrix::from_rows(&(0..attributes.rows()).map(row).collect::<Vec<_>>())?)
}
