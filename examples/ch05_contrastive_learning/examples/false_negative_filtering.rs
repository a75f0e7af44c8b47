//! Listing 5.14: the hardest negatives are often positives that nobody labelled. Three filters that drop them, a queue for people, and
//! a loss that expects them.
//!
//! cargo run --release --example false_negative_filtering

use candle_core::{DType, Device, Tensor};
use ch05_contrastive_learning::families::FamilyWorld;
use ch05_contrastive_learning::offline::{Cycle, index_error};
use eas_ann::hard_negatives::OfflineMiner;
use eas_losses::contrastive::{Debiased, NtXent, PairLayout};
use eas_losses::filters::{Candidate, FalseNegativeFilter, Verdict, triage};
use eas_losses::fixtures;
use eas_nn::NnError;
use eas_report::{Chart, Table, num};
use eas_tensor::Matrix;
use eas_tensor::cluster::average_linkage;
use eas_tensor::kernels::{dot, squared_l2};

/// Items; each has two ids, i and i + 1000, and nobody knows that they are one.
const ITEMS: u64 = 1_000;
/// Neighbours of an id from which its negative is chosen.
const CANDIDATES: usize = 40;
const MARGIN: f64 = 0.1;

#[derive(Clone, Copy, PartialEq)]
enum Rule {
    None,
    Margin,
    Cluster,
    Oracle,
}

/// The share of ids whose negative is their other id; of other ids among the ten nearest candidates that the filter removes; and of the
/// ten nearest strangers that it keeps.
type Mining = [f64; 3];

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let t = fixtures::tiny(DType::F64, &Device::Cpu)?;

    page.section("A loss that expects false negatives");
    let mut table = Table::new(["beta", "tau+ = 0", ".01", ".1", ".2"]);
    let mut losses = Vec::new();
    for beta in [0.0, 0.5, 1.0] {
        let debiased = |tau_plus| Debiased { temperature: 0.5, tau_plus, beta }.forward(&t.anchors, &t.positives);
        let row = [0.0, 0.01, 0.1, 0.2].map(|tau_plus| Ok(debiased(tau_plus)?.to_scalar::<f64>()?));
        let row = row.into_iter().collect::<anyhow::Result<Vec<f64>>>()?;
        table.row([num(beta, 1)].into_iter().chain(row.iter().map(|&x| num(x, 6))));
        losses.extend(row);
    }
    page.table("Four pairs, temperature .5, share tau+ of the negatives taken for positives", &table);
    let views = Tensor::cat(&[&t.anchors, &t.positives], 0)?;
    let nt_xent = NtXent { temperature: 0.5, layout: PairLayout::Halves }.forward(&views)?.loss.to_scalar::<f64>()?;

    page.section("Clusters by cosine");
    let mut planar = Matrix::from_rows(&[[1.0, 0.0], [0.9, 0.3], [0.8, 0.6], [0.3, 0.95], [0.0, 1.0], [-0.6, 0.8]])?;
    planar.normalize_rows();
    let dendrogram = average_linkage(&planar)?;
    let heights: Vec<f64> = dendrogram.merges().iter().map(|merge| merge.height).collect();
    let clusters = dendrogram.cut(1.0 - 0.8);
    let pairs = (0..6).flat_map(|i| (i + 1..6).map(move |j| (i, j)));
    let nearest = pairs.map(|(i, j)| squared_l2(planar.row(i), planar.row(j)).sqrt()).fold(f32::INFINITY, f32::min);
    page.text(format!(
        "Six vectors at a cosine of .8: clusters {clusters:?}. The book merges by Euclidean distance and stops at 1 - .8 = .2, but a \
         cosine of .8 is a Euclidean distance of .632 and the nearest two are {nearest:.3} apart: six singletons."
    ));

    page.section("Mining among 2,000 ids of 1,000 items");
    let world = FamilyWorld::new(page.seed_or(5))?;
    let cycle = Cycle { ids: 2_000, steps: page.size(400, 1_000), batch: 64, seed: page.seed() };
    let rules = [("none", Rule::None), ("margin", Rule::Margin), ("cluster", Rule::Cluster), ("oracle", Rule::Oracle)];
    let mut table =
        Table::new(["filter", "recall@1", "false at first", "at last", "removed", "at last", "kept", "at last"]);
    let mut chart = Chart::lines("Mined negatives that are the same item", "step", "share");
    let (mut recalls, mut lasts, mut review) = (Vec::new(), Vec::new(), Vec::new());
    for (name, rule) in rules {
        let mut log: Vec<(u64, Mining)> = Vec::new();
        let encoder = cycle.train(&world, |encoder, step| {
            let (rows, others) =
                (cycle.collection(&world, encoder, step)?, cycle.collection(&world, encoder, step + 1)?);
            let (lists, mining, doubtful) = mine(&rows, &others, rule)?;
            log.push((step, mining));
            if rule == Rule::Margin {
                review = doubtful;
            }
            Ok(lists)
        })?;
        let recall = world.recall_at_1(&encoder)?;
        let (first, last) = (log[0].1, log[log.len() - 1].1);
        // Training magnifies the rounding of sums in another order.
        let ends = first.into_iter().zip(last).flat_map(|(first, last)| [first, last].map(|x| num(x, 3).within(0.03)));
        table.row([name.into(), num(recall, 3).within(0.03)].into_iter().chain(ends));
        chart = chart.series(name, log.iter().map(|(step, mining)| (*step, mining[0])));
        recalls.push(recall);
        lasts.push(last);
    }
    page.table("One negative an id, mined anew every 50 of 400 steps, triplets with margin .2", &table);
    page.chart("false_negatives.svg", &chart)?;
    page.text(
        "\"Removed\" counts other ids among the ten nearest, \"kept\" the ten nearest strangers. At first the margin drops nearly all: the encoder \
         doesn't tell a second view from a stranger yet.",
    );
    let line = |(anchor, c, s): &(u64, Candidate, f64)| format!("{anchor},{},{:.4},{s:.4}\n", c.id, c.similarity);
    let csv = "anchor,candidate,cosine,positive_cosine\n".to_owned() + &review.iter().map(line).collect::<String>();
    std::fs::write(page.out_dir()?.join("review.csv"), csv)?;
    let twins = review.iter().filter(|(anchor, candidate, _)| candidate.id % ITEMS == anchor % ITEMS).count();
    page.text(format!(
        "At the last mining {} pairs within {MARGIN} of the positive's cosine go to people (review.csv), {twins} of them the same item.",
        review.len()
    ));

    let known = [
        [0.9153401133, 0.8962181762, 0.6783728750, 0.3834737465],
        [1.0273225029, 1.0114346866, 0.8346581100, 0.5571055864],
        [1.1252864481, 1.1118931789, 0.9653752920, 0.7267835866],
    ];
    let both = losses.iter().zip(known.into_iter().flatten());
    page.claim("the losses are PyTorch's").all(both, |(x, y)| (x - y).abs() < 1e-9);
    page.claim("with tau+ and beta 0 it is NT-Xent").close(losses[0], nt_xent, 1e-12);
    let known = [0.04641733, 0.05131670, 0.12565835, 0.30890634, 0.81095404];
    page.claim("merge heights are scikit-learn's").all(heights.iter().zip(known), |(x, y)| (x - y).abs() < 1e-7);
    page.claim("clusters at a cosine of .8").equals(clusters, [0, 0, 0, 1, 1, 2]);
    page.claim("no two are as near as .2").greater(nearest, 0.2);
    let filtered = recalls[1..].iter().copied().fold(1.0, f64::min);
    page.claim("the worst filter's recall@1").at_least(filtered, 0.98);
    page.claim("is better than none's").at_least(filtered, recalls[0] + 0.02);
    page.claim("margin and cluster remove the other ids").all(&lasts[1..3], |last| last[1] >= 0.9);
    page.claim("and keep the strangers").all(&lasts[1..3], |last| last[2] >= 0.85);
    page.finish()
}

type Doubtful = Vec<(u64, Candidate, f64)>;

/// The negative of each id that `rule` leaves, what the rule did, and the pairs that a person should see.
fn mine(rows: &Matrix, others: &Matrix, rule: Rule) -> Result<(Vec<Vec<u32>>, Mining, Doubtful), NnError> {
    let ids: Vec<u64> = (0..rows.rows() as u64).collect();
    let miner = OfflineMiner { k: CANDIDATES, ..OfflineMiner::default() };
    let mined =
        miner.index(&ids, rows).and_then(|corpus| corpus.mine(&ids, rows, &|_, _| false)).map_err(index_error)?;
    let clusters = if rule == Rule::Cluster { average_linkage(rows)?.cut(1.0 - 0.8) } else { Vec::new() };
    let same = |a: u64, b: u64| a % ITEMS == b % ITEMS;
    let judge = |a: u64, b: u64| if same(a, b) { 1.0 } else { 0.0 };
    let filter = match rule {
        Rule::None => FalseNegativeFilter::Score { scorer: &judge, threshold: 2.0 },
        Rule::Margin => FalseNegativeFilter::Margin { min_margin: MARGIN },
        Rule::Cluster => FalseNegativeFilter::Cluster { clusters: &clusters },
        Rule::Oracle => FalseNegativeFilter::Score { scorer: &judge, threshold: 0.3 },
    };
    let (mut lists, mut doubtful) = (Vec::new(), Vec::new());
    let (mut wrong, mut near, mut removed, mut kept) = (0, 0, 0, 0);
    for (&id, hits) in ids.iter().zip(&mined.lists) {
        let row = rows.row(id as usize);
        let positive = f64::from(dot(row, others.row(id as usize)));
        let found: Vec<Candidate> =
            hits.iter().map(|hit| Candidate { id: hit.id, similarity: f64::from(hit.score) }).collect();
        let left = filter.keep(id, positive, &found)?;
        wrong += usize::from(left.first().is_some_and(|c| same(id, c.id)));
        lists.push(left.first().map(|c| c.id as u32).into_iter().collect());
        let twins: Vec<Candidate> = found[..10].iter().copied().filter(|c| same(id, c.id)).collect();
        near += twins.len();
        removed += twins.len() - filter.keep(id, positive, &twins)?.len();
        let strangers: Vec<Candidate> = found.iter().copied().filter(|c| !same(id, c.id)).take(10).collect();
        kept += filter.keep(id, positive, &strangers)?.len();
        let verdicts = triage(positive, &found, MARGIN)?;
        let asked = found.into_iter().zip(verdicts).filter(|(_, verdict)| *verdict == Verdict::Review);
        doubtful.extend(asked.map(|(candidate, _)| (id, candidate, positive)));
    }
    let share = |count: usize, of: usize| count as f64 / of.max(1) as f64;
    Ok((lists, [share(wrong, ids.len()), share(removed, near), share(kept, 10 * ids.len())], doubtful))
}
