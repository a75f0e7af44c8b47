//! A planted enterprise knowledge graph: relations with known algebra, held-out facts that follow from the rest, and twins.

use std::collections::BTreeSet;

use eas_tensor::rng::SplitMix64;

/// Customers before twins are added.
pub const CUSTOMERS: usize = 240;
/// Customers that were entered twice.
pub const TWINS: usize = 20;
const CATEGORIES: usize = 12;
const PRODUCTS_IN_CATEGORY: usize = 8;
const SUPPLIERS: usize = 24;
const REGIONS: usize = 8;
const EMPLOYEES: usize = 48;

/// The relations, in the order of their ids.
pub const RELATIONS: [&str; 10] = [
    "belongs_to",
    "supplied_by",
    "supplies",
    "works_with",
    "reports_to",
    "managed_by",
    "serves",
    "located_in",
    "purchased",
    "accessory_for",
];

const BELONGS_TO: u32 = 0;
const SUPPLIED_BY: u32 = 1;
const SUPPLIES: u32 = 2;
const WORKS_WITH: u32 = 3;
const REPORTS_TO: u32 = 4;
const MANAGED_BY: u32 = 5;
const SERVES: u32 = 6;
const LOCATED_IN: u32 = 7;
const PURCHASED: u32 = 8;
const ACCESSORY_FOR: u32 = 9;

/// The relations of which a fifth of the facts are held out.
const TESTED: [u32; 4] = [SUPPLIES, WORKS_WITH, LOCATED_IN, PURCHASED];

/// An enterprise graph; a fact is `[head, relation, tail]`, ids count from 0 in `entities` and [`RELATIONS`].
#[derive(Debug, Clone, PartialEq)]
pub struct Enterprise {
    /// Name and kind of each entity. Kinds: customer, product, category, supplier, region, employee.
    pub entities: Vec<(String, &'static str)>,
    /// The facts to learn from, sorted.
    pub train: Vec<[u32; 3]>,
    /// A fifth of `supplies`, `works_with`, `located_in` and `purchased`, sorted.
    pub held_out: Vec<[u32; 3]>,
    /// Customers that are one company entered twice: (original, twin).
    pub twins: Vec<(u32, u32)>,
}

impl Enterprise {
    /// The id of a relation of [`RELATIONS`].
    pub fn relation(name: &str) -> Option<u32> {
        RELATIONS.iter().position(|known| *known == name).map(|id| id as u32)
    }
}

/// Generates the graph: 448 entities, about 2,250 facts.
///
/// What is planted: `supplies` is the inverse of `supplied_by`; `works_with` is symmetric, within teams of six that serve one
/// region; `reports_to` is antisymmetric; a customer is `located_in` the region that its account manager `serves`; a customer
/// `purchased` four of the eight products of its favourite category and, with probability 0.4, one of any category; a twin has
/// the manager and region of its original and most of its purchases. Equal seeds give equal graphs.
pub fn enterprise(seed: u64) -> Enterprise {
    let mut rng = SplitMix64::new(seed);
    let mut entities: Vec<(String, &'static str)> = Vec::new();
    let mut add = |kind: &'static str, count: usize| -> Vec<u32> {
        let first = entities.len() as u32;
        entities.extend((0..count).map(|i| (format!("{kind} {i}"), kind)));
        (first..first + count as u32).collect()
    };
    let customers = add("customer", CUSTOMERS);
    let products = add("product", CATEGORIES * PRODUCTS_IN_CATEGORY);
    let categories = add("category", CATEGORIES);
    let suppliers = add("supplier", SUPPLIERS);
    let regions = add("region", REGIONS);
    let employees = add("employee", EMPLOYEES);
    let copies = add("customer", TWINS);
    let mut facts = BTreeSet::new();

    for (p, &product) in products.iter().enumerate() {
        let category = p / PRODUCTS_IN_CATEGORY;
        facts.insert([product, BELONGS_TO, categories[category]]);
        // Two suppliers share a category.
        let supplier = suppliers[2 * category + rng.below(2)];
        facts.insert([product, SUPPLIED_BY, supplier]);
        facts.insert([supplier, SUPPLIES, product]);
        if rng.chance(0.5) {
            let shelf = category * PRODUCTS_IN_CATEGORY;
            let other = products[shelf + (p - shelf + 1 + rng.below(PRODUCTS_IN_CATEGORY - 1)) % PRODUCTS_IN_CATEGORY];
            facts.insert([product, ACCESSORY_FOR, other]);
        }
    }

    let team_size = EMPLOYEES / REGIONS;
    for (team, members) in employees.chunks(team_size).enumerate() {
        for (i, &member) in members.iter().enumerate() {
            facts.insert([member, SERVES, regions[team]]);
            // The first of a team leads it; the first of all leads the leaders.
            let superior = if i == 0 { employees[0] } else { members[0] };
            if superior != member {
                facts.insert([member, REPORTS_TO, superior]);
            }
            for &colleague in &members[i + 1..] {
                if rng.chance(0.6) {
                    facts.insert([member, WORKS_WITH, colleague]);
                    facts.insert([colleague, WORKS_WITH, member]);
                }
            }
        }
    }

    for &customer in &customers {
        let manager = rng.below(EMPLOYEES);
        facts.insert([customer, MANAGED_BY, employees[manager]]);
        facts.insert([customer, LOCATED_IN, regions[manager / team_size]]);
        let shelf = rng.below(CATEGORIES) * PRODUCTS_IN_CATEGORY;
        for product in rng.sample_indices(PRODUCTS_IN_CATEGORY, PRODUCTS_IN_CATEGORY / 2) {
            facts.insert([customer, PURCHASED, products[shelf + product]]);
        }
        if rng.chance(0.4) {
            facts.insert([customer, PURCHASED, products[rng.below(products.len())]]);
        }
    }
    let originals = rng.sample_indices(CUSTOMERS, TWINS);
    let twins: Vec<(u32, u32)> = originals.iter().map(|&i| customers[i]).zip(copies).collect();
    for &(original, twin) in &twins {
        let of_original: Vec<[u32; 3]> = facts.range([original, 0, 0]..[original + 1, 0, 0]).copied().collect();
        for [_, relation, tail] in of_original {
            if relation != PURCHASED || rng.chance(0.8) {
                facts.insert([twin, relation, tail]);
            }
        }
    }

    let mut held_out = BTreeSet::new();
    for relation in TESTED {
        let all: Vec<[u32; 3]> = facts.iter().filter(|fact| fact[1] == relation).copied().collect();
        held_out.extend(rng.sample_indices(all.len(), all.len() / 5).iter().map(|&i| all[i]));
    }
    Enterprise {
        entities,
        train: facts.difference(&held_out).copied().collect(),
        held_out: held_out.into_iter().collect(),
        twins,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(graph: &Enterprise) -> BTreeSet<[u32; 3]> {
        graph.train.iter().chain(&graph.held_out).copied().collect()
    }

    fn tails(facts: &BTreeSet<[u32; 3]>, head: u32, relation: u32) -> Vec<u32> {
        facts.range([head, relation, 0]..[head, relation + 1, 0]).map(|fact| fact[2]).collect()
    }

    #[test]
    fn sizes_are_as_stated_and_the_seed_decides() {
        let graph = enterprise(42);
        assert_eq!(graph.entities.len(), 448);
        let facts = all(&graph);
        assert_eq!(facts.len(), graph.train.len() + graph.held_out.len());
        assert!((2_150..2_350).contains(&facts.len()), "{}", facts.len());
        for relation in TESTED {
            let count = |facts: &[[u32; 3]]| facts.iter().filter(|fact| fact[1] == relation).count();
            let (train, test) = (count(&graph.train), count(&graph.held_out));
            assert_eq!(test, (train + test) / 5);
        }
        assert_eq!(graph, enterprise(42));
        assert_ne!(graph, enterprise(43));
    }

    #[test]
    fn the_planted_patterns_hold_for_every_fact() {
        for seed in 0..3 {
            let graph = enterprise(seed);
            let facts = all(&graph);
            for &[head, relation, tail] in &facts {
                match relation {
                    SUPPLIED_BY => assert!(facts.contains(&[tail, SUPPLIES, head])),
                    SUPPLIES => assert!(facts.contains(&[tail, SUPPLIED_BY, head])),
                    WORKS_WITH => assert!(head != tail && facts.contains(&[tail, WORKS_WITH, head])),
                    REPORTS_TO => assert!(!facts.contains(&[tail, REPORTS_TO, head])),
                    LOCATED_IN => {
                        let manager = tails(&facts, head, MANAGED_BY);
                        assert_eq!(tails(&facts, manager[0], SERVES), [tail]);
                    }
                    ACCESSORY_FOR => assert_ne!(head, tail),
                    _ => {}
                }
            }
            for &(original, twin) in &graph.twins {
                assert_eq!(tails(&facts, original, MANAGED_BY), tails(&facts, twin, MANAGED_BY));
                let bought = tails(&facts, original, PURCHASED);
                assert!(tails(&facts, twin, PURCHASED).iter().all(|p| bought.contains(p)));
            }
        }
    }
}
