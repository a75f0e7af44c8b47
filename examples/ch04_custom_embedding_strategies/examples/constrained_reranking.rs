//! Listing 4.11: relevance under hard constraints: why checking every prefix admits nothing, and what works instead.
//!
//! cargo run --release --example constrained_reranking

use eas_report::{Chart, Table, num};
use eas_retrieval::constrained::{Candidate, Constraint, Reranker};
use eas_tensor::rng::SplitMix64;

/// Relevance, age in days, price tier, cluster.
const ITEMS: [(f64, f64, usize, usize); 12] = [
    (0.98, 200.0, 1, 0),
    (0.95, 90.0, 1, 0),
    (0.93, 10.0, 1, 0),
    (0.90, 45.0, 2, 1),
    (0.88, 5.0, 1, 0),
    (0.85, 400.0, 3, 1),
    (0.82, 12.0, 2, 2),
    (0.80, 60.0, 3, 2),
    (0.78, 20.0, 4, 1),
    (0.70, 3.0, 5, 3),
    (0.65, 25.0, 2, 3),
    (0.60, 300.0, 4, 3),
];

fn demands(diversity: f64, fresh: f64, days: f64, coverage: f64) -> [Constraint; 3] {
    let coverage = Constraint::PriceCoverage { min: coverage, tiers: 5 };
    [Constraint::Diversity(diversity), Constraint::Freshness { min: fresh, days }, coverage]
}

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let candidates = ITEMS.map(|(relevance, age_days, tier, _)| Candidate { relevance, age_days, tier });
    let apart = |i: usize, j: usize| f64::from(u8::from(ITEMS[i].3 != ITEMS[j].3));

    page.section("Twelve items");
    page.text("A mean distance of 0.3, half of the items at most 30 days old, a share of the five price tiers.");
    let mut table = Table::new(["tiers, k", "list", "items", "relevance", "violates"]);
    let (mut optima, mut tops, mut admitted) = (Vec::new(), Vec::new(), Vec::new());
    for (coverage, k) in [(0.2, 4), (0.6, 4), (0.6, 6), (0.8, 6)] {
        let asked = demands(0.3, 0.5, 30.0, coverage);
        let reranker = Reranker::new(&candidates, apart, &asked, k)?;
        let (top, quota, swap, exact) = (reranker.top_k(), reranker.quota(), reranker.swap(), reranker.exact()?);
        for (name, found) in [("top k", &top), ("quota", &quota), ("quota and swap", &swap), ("exact", &exact)] {
            let broken = reranker.violated(&found.items).len();
            let (case, items) = (format!("{coverage}, {k}"), format!("{:?}", found.items));
            table.row([case.into(), name.into(), items.into(), num(found.relevance, 2), broken.into()]);
        }
        // The book's way: an item is admitted if the list so far, with it, satisfies every constraint.
        let prefixes = (0..ITEMS.len()).fold(Vec::new(), |list, item| {
            let longer = [list.as_slice(), &[item]].concat();
            if longer.len() <= k && reranker.violated(&longer).is_empty() { longer } else { list }
        });
        admitted.push(prefixes.len());
        tops.push((top.relevance, reranker.violated(&top.items).len()));
        optima.push((exact.items, (exact.relevance * 100.0).round() / 100.0));
    }
    page.table("Lists by four ways", &table);
    page.text(format!(
        "The listing tests each prefix: one item has no diversity, so it admits {admitted:?} items in the four cases and returns the \
         top k as if it complied. Its coverage of 0.2 of five tiers holds for any item."
    ));

    page.section("What can't be had");
    let stale = candidates.map(|c| Candidate { age_days: c.age_days + 100.0, ..c });
    let asked = demands(0.3, 0.5, 30.0, 0.6);
    let impossible = Reranker::new(&stale, apart, &asked, 4)?;
    let relaxed = impossible.exact()?;
    page.text(format!("With all items 100 days older none is fresh. Given up: {:?}.", relaxed.relaxed));

    page.section("Against the optimum");
    let hard = demands(0.8, 0.6, 20.0, 0.8);
    let mut rng = SplitMix64::new(page.seed());
    let (mut quotas, mut swaps, mut solvable) = (Vec::new(), Vec::new(), 0);
    let instances = page.size(200, 2_000);
    for _ in 0..instances {
        let (items, clusters) = products(&mut rng, 14, 4);
        let distance = |i: usize, j: usize| f64::from(u8::from(clusters[i] != clusters[j]));
        let reranker = Reranker::new(&items, distance, &hard, 5)?;
        let exact = reranker.exact()?;
        if exact.relaxed.is_empty() {
            solvable += 1;
            for (found, shares) in [(reranker.quota(), &mut quotas), (reranker.swap(), &mut swaps)] {
                if reranker.violated(&found.items).is_empty() {
                    shares.push(found.relevance / exact.relevance);
                }
            }
        }
    }
    let least = |shares: &[f64]| shares.iter().copied().fold(f64::INFINITY, f64::min);
    let mut table = Table::new(["5 of 14 items", "lists found", "the best one", "least share of the optimum"]);
    for (name, shares) in [("quota alone", &quotas), ("quota and swap", &swaps)] {
        let best = shares.iter().filter(|share| **share > 1.0 - 1e-9).count();
        table.row([name.into(), shares.len().into(), best.into(), num(least(shares), 4)]);
    }
    page.table(
        format!("{solvable} of {instances} instances can be solved: distance 0.8, 60% within 20 days, 4 of 5 tiers"),
        &table,
    );
    let chart = Chart::histogram("Relevance as a share of the optimum", "share", 30)
        .series("quota alone", quotas.iter().copied())
        .series("quota and swap", swaps.iter().copied());
    page.chart("shares.svg", &chart)?;

    page.section("Two hundred products, a list of twenty");
    let (items, clusters) = products(&mut rng, 200, 8);
    let distance = |i: usize, j: usize| f64::from(u8::from(clusters[i] != clusters[j]));
    // Twenty items of eight clusters are 174 of 190 pairs apart at most, a mean distance of 0.916.
    let asked = demands(0.9, 0.6, 20.0, 0.8);
    let reranker = Reranker::new(&items, distance, &asked, 20)?;
    let (top, quota) = (reranker.top_k(), reranker.quota());
    let swap = page.timed("quota and swap", || reranker.swap());
    let mut table = Table::new(["list", "relevance", "mean distance", "violates"]);
    for (name, found) in [("top k", &top), ("quota", &quota), ("quota and swap", &swap)] {
        let (broken, distance) = (reranker.violated(&found.items).len(), reranker.diversity(&found.items));
        table.row([name.into(), num(found.relevance, 3), num(distance, 3), broken.into()]);
    }
    page.table("Distance 0.9 from eight clusters, 60% within 20 days, 4 of 5 tiers", &table);

    let lists = [vec![0, 2, 3, 4], vec![0, 2, 3, 8], vec![0, 1, 2, 3, 4, 8], vec![0, 2, 3, 4, 5, 8]];
    page.claim("the four optima").equals(optima, lists.into_iter().zip([3.69, 3.59, 5.42, 5.32]).collect::<Vec<_>>());
    page.claim("relevance of the top four").close(tops[0].0, 3.76, 1e-9);
    page.claim("no top k complies").all(&tops, |top| top.1 > 0);
    page.claim("items that prefix checks admit").equals(admitted, [0; 4]);
    page.claim("random instances that can be solved").at_least(solvable, instances / 2);
    page.claim("solved by swap").equals(swaps.len(), solvable);
    page.claim("solved by quota alone").less(quotas.len(), solvable);
    page.claim("swap's least share of the optimum").at_least(least(&swaps), 0.97);
    let (named, fresh) = ([impossible.swap().relaxed, relaxed.relaxed], demands(0.3, 0.5, 30.0, 0.6)[1]);
    page.claim("swap and exact name what is impossible").all(named, |relaxed| relaxed == [fresh]);
    page.claim("and the rest kept").equals(relaxed.satisfied.len(), 2);
    page.claim("a list of twenty that complies").equals(reranker.violated(&swap.items), []);
    page.claim("of nearly the relevance of the top k").at_least(swap.relevance / top.relevance, 0.95);
    let free = Reranker::new(&items, distance, &[], 20)?.swap();
    page.claim("without constraints the top k comes back").equals(free.items, top.items);
    let bad = demands(0.3, 1.5, 30.0, 0.2);
    page.claim("a share above 1 is refused").fails(Reranker::new(&items, distance, &bad, 20), "min: 1.5");
    page.finish()
}

/// Random products, most relevant first, and the cluster of each.
fn products(rng: &mut SplitMix64, n: usize, clusters: usize) -> (Vec<Candidate>, Vec<usize>) {
    let mut items: Vec<(Candidate, usize)> = (0..n)
        .map(|_| {
            let relevance = 0.5 + 0.5 * rng.uniform();
            (Candidate { relevance, age_days: rng.exponential(40.0), tier: rng.below(5) }, rng.below(clusters))
        })
        .collect();
    items.sort_by(|a, b| b.0.relevance.total_cmp(&a.0.relevance));
    items.into_iter().unzip()
}
