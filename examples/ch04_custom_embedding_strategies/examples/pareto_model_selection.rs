//! Listing 4.12: models that are good at different things: the Pareto front, a point on it by weights, and what weights can't reach.
//!
//! cargo run --release --example pareto_model_selection

use ch04_custom_embedding_strategies::shopping::Shopping;
use eas_nn::multitask::{Task, TaskWeights};
use eas_plan::pareto::{
    Choice, Direction, ParetoPoint, dominates, hypervolume2d, pareto_front, select_chebyshev, select_normalised,
    select_weighted,
};
use eas_report::{Chart, Table, num};
use eas_tensor::rng::SplitMix64;

const MORE: [Direction; 4] = [Direction::Maximize; 4];
/// Relevance, diversity, personalization, business.
const MODELS: [[f64; 4]; 8] = [
    [0.90, 0.30, 0.55, 0.40],
    [0.85, 0.45, 0.60, 0.50],
    [0.80, 0.60, 0.50, 0.55],
    [0.84, 0.44, 0.60, 0.48],
    [0.70, 0.70, 0.65, 0.45],
    [0.90, 0.30, 0.55, 0.38],
    [0.60, 0.65, 0.60, 0.44],
    [0.75, 0.50, 0.80, 0.60],
];

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    page.section("Eight models on paper");
    let models: Vec<_> = MODELS.iter().enumerate().map(|(id, values)| ParetoPoint::new(id, *values)).collect();
    let front = pareto_front(&models, &MORE)?;
    let mut table = Table::new(["model", "relevance", "diversity", "personal", "business", "dominated by"]);
    for model in &models {
        let mut by = Vec::new();
        for other in &models {
            if dominates(&other.values, &model.values, &MORE)? {
                by.push(format!("m{}", other.id));
            }
        }
        let cells = model.values.iter().map(|&v| num(v, 2));
        table.row([format!("m{}", model.id).into()].into_iter().chain(cells).chain([by.join(", ").into()]));
    }
    page.table("Who is beaten everywhere", &table);
    let mut table = Table::new(["weights", "sum", "of", "normalised", "of", "Chebyshev", "distance"]);
    let mut chosen = Vec::new();
    for weights in [[0.4, 0.2, 0.1, 0.3], [0.7, 0.1, 0.1, 0.1], [0.1, 0.6, 0.2, 0.1]] {
        let picks = [
            select_weighted(&models, &MORE, &weights)?,
            select_normalised(&models, &MORE, &weights)?,
            select_chebyshev(&models, &MORE, &weights)?,
        ];
        let cells = picks.iter().flat_map(|pick| [format!("m{}", pick.at).into(), num(pick.score, 4)]);
        table.row([format!("{weights:?}").into()].into_iter().chain(cells));
        chosen.push(picks);
    }
    page.table("An operating point by weights", &table);
    let two: Vec<_> = MODELS.iter().enumerate().map(|(id, v)| ParetoPoint::new(id, [v[0], v[1]])).collect();
    let area = hypervolume2d(&two, &MORE[..2], &[0.0, 0.0])?;
    page.text(format!("Relevance and diversity alone: the front covers {} of the unit square.", num(area, 4).text()));

    page.section("A dent in the front");
    let dent = [[1.0, 0.0], [0.45, 0.45], [0.0, 1.0]].map(|v| ParetoPoint::new((), v));
    let mut by_weight = [0; 3];
    for step in 0..=1_000 {
        let w = f64::from(step) / 1_000.0;
        by_weight[select_weighted(&dent, &MORE[..2], &[w, 1.0 - w])?.at] += 1;
    }
    let middle = select_chebyshev(&dent, &MORE[..2], &[0.5, 0.5])?;
    let mut table = Table::new(["point", "chosen by how many of 1,001 weights", "by Chebyshev at (.5, .5)"]);
    for (at, (point, count)) in dent.iter().zip(by_weight).enumerate() {
        let chebyshev = if at == middle.at { "yes" } else { "" };
        table.row([format!("{:?}", point.values).into(), count.into(), chebyshev.into()]);
    }
    page.table("No weighted sum selects the middle", &table);

    page.section("Twenty-four trained models");
    let steps = page.size(30, 400);
    let shop = Shopping::new(page.seed())?;
    let mut trained = Vec::new();
    for category in [0.0, 0.1, 0.3, 1.0] {
        for brand in [0.0, 0.2, 1.0] {
            for price in [0.0, 0.5] {
                let weights = TaskWeights::from([
                    (Task::Similarity, 1.0),
                    (Task::Category, category),
                    (Task::Brand, brand),
                    (Task::Price, price),
                ]);
                let (model, _) = shop.train(&weights, steps, page.seed())?;
                let kept = shop.measure_with(&model, page.size(40, 250))?;
                let values = [kept.recall_1, kept.category, kept.brand, kept.price_r2];
                trained.push(ParetoPoint::new([category, brand, price], values));
            }
        }
    }
    let real = pareto_front(&trained, &MORE)?;
    let mut table =
        Table::new(["preference", "w category", "w brand", "w price", "recall@1", "category", "brand", "price R2"]);
    let mut picks = Vec::new();
    let (recall_first, price_first) = ([0.85, 0.05, 0.05, 0.05], [0.05, 0.05, 0.05, 0.85]);
    for (name, weights) in [("recall first", recall_first), ("all alike", [0.25; 4]), ("price first", price_first)] {
        let pick = &trained[select_normalised(&trained, &MORE, &weights)?.at];
        // Another machine's rounding may train, and so select, a neighbour.
        let cells = pick.id.map(|w| num(w, 1).within(1.0)).into_iter();
        let cells = cells.chain(pick.values.iter().map(|&v| num(v, 3).within(0.1)));
        table.row([name.into()].into_iter().chain(cells));
        picks.push(pick.values.clone());
    }
    page.table("The encoder of listing 4.9 under a grid of task weights w", &table);
    let mut rng = SplitMix64::new(page.seed());
    let mut reached = vec![false; trained.len()];
    for _ in 0..2_000 {
        reached[select_weighted(&trained, &MORE, &rng.dirichlet(1.0, 4))?.at] = true;
    }
    let never = real.iter().filter(|&&i| !reached[i]).count();
    let mut table = Table::new(["models", "on the front", "chosen by none of 2,000 random weightings"]);
    table.row([trained.len().into(), real.len().into(), never.into()].map(|cell: eas_report::Cell| cell.within(6.0)));
    page.table("Four objectives leave most models on the front", &table);
    let plane: Vec<_> = trained.iter().map(|p| ParetoPoint::new(p.id, [p.values[0], p.values[1]])).collect();
    let on_front = pareto_front(&plane, &MORE[..2])?.into_iter().map(|i| (plane[i].values[0], plane[i].values[1]));
    let mut line: Vec<(f64, f64)> = on_front.collect();
    line.sort_by(|a, b| a.0.total_cmp(&b.0));
    line.dedup();
    let chart = Chart::scatter("Trained models", "recall@1", "category probe")
        .series("all", plane.iter().map(|p| (p.values[0], p.values[1])))
        .series("front of these two", line.iter().copied());
    page.chart("frontier.svg", &chart)?;

    let picked = |choice: &Choice| (choice.at, (choice.score * 1e6).round() / 1e6);
    page.claim("the front").equals(front.clone(), [0, 1, 2, 4, 7]);
    let beaten = [(3, 1), (5, 0), (6, 4)];
    page.claim("m1 beats m3, m0 m5, m4 m6")
        .all(beaten, |(worse, better)| dominates(&MODELS[better], &MODELS[worse], &MORE) == Ok(true));
    page.claim("business first").equals(picked(&chosen[0][0]), (7, 0.66));
    page.claim("relevance first").equals(picked(&chosen[1][0]), (0, 0.755));
    page.claim("diversity first").equals(picked(&chosen[2][0]), (4, 0.665));
    page.claim("business first, normalised").equals(picked(&chosen[0][1]), (7, 0.6));
    page.claim("hypervolume").close(area, 0.5875, 1e-12);
    page.claim("weights that select the dent").equals(by_weight[1], 0);
    page.claim("Chebyshev's distance does").equals(middle.at, 1);
    page.claim("every other trained model is beaten by one of the front").all(0..trained.len(), |i| {
        real.contains(&i) != real.iter().any(|&f| dominates(&trained[f].values, &trained[i].values, &MORE) == Ok(true))
    });
    page.claim("recall falls along the front where the category rises")
        .all(line.windows(2), |pair| pair[0].0 < pair[1].0 && pair[0].1 > pair[1].1);
    page.claim("each preference gets more of what it asks for")
        .all([picks[0][0] >= picks[2][0], picks[2][3] >= picks[0][3]], |more| more);
    let mismatched = select_weighted(&models, &MORE, &[1.0]);
    page.claim("a weight for each objective is demanded").fails(mismatched, "weights has 1 entries, expected 4");
    page.finish()
}
