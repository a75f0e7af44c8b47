//! WordNet's nouns as a knowledge graph, for the full run of listing 14.5.

use eas_data::wordnet::{Pos, Relation, WordNet};
use eas_nn::kg::{KnowledgeGraph, Triple};

/// Facts about nouns: to learn from, all, and those held out.
pub struct NounFacts {
    /// What a model learns from.
    pub train: KnowledgeGraph,
    /// All facts, so that a true answer isn't counted as wrong.
    pub known: KnowledgeGraph,
    /// The upward facts of every hundredth noun, whose downward inverses are in `train`.
    pub held_out: Vec<Triple>,
}

/// Three upward relations between nouns (kind of, member of, part of) and their inverses.
pub fn noun_facts() -> anyhow::Result<NounFacts> {
    let words = WordNet::load()?;
    let nouns: Vec<_> = (words.synsets().iter()).filter(|synset| synset.pos == Pos::Noun).collect();
    let upward = [Relation::Hypernym, Relation::MemberHolonym, Relation::PartHolonym];
    let downward = [Relation::Hyponym, Relation::MemberMeronym, Relation::PartMeronym];
    let (mut facts, mut held_out) = (Vec::new(), Vec::new());
    for synset in &nouns {
        for (relation, (&up, &down)) in (0..).zip(upward.iter().zip(&downward)) {
            let to = |kind, relation| {
                let others = words.related(synset.id, kind).iter();
                others.map(move |&other| Triple::new(synset.id, relation, other))
            };
            if synset.id % 100 == 7 {
                held_out.extend(to(up, relation));
            } else {
                facts.extend(to(up, relation));
            }
            facts.extend(to(down, 3 + relation));
        }
    }
    let names = || nouns.iter().map(|synset| (synset.lemmas[0].clone(), "noun"));
    let relations = ["hypernym", "member of", "part of", "hyponym", "has member", "has part"];
    Ok(NounFacts {
        train: KnowledgeGraph::new(names(), relations, facts.iter().copied())?,
        known: KnowledgeGraph::new(names(), relations, facts.iter().chain(&held_out).copied())?,
        held_out,
    })
}
