//! [`KnowledgeGraph`]: interned entities and relations, and triples indexed from both ends.

use std::collections::{BTreeMap, BTreeSet};

use super::KgError;

/// A fact: `head` stands in `relation` to `tail`. Ids count from 0 in the graph's lists of entities and relations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Triple {
    /// The entity it is said of.
    pub head: u32,
    /// What is said.
    pub relation: u32,
    /// The entity that completes it.
    pub tail: u32,
}

impl Triple {
    /// The fact `(head, relation, tail)`.
    pub fn new(head: u32, relation: u32, tail: u32) -> Self {
        Self { head, relation, tail }
    }
}

/// Entities of several kinds and the facts that link them.
///
/// ```
/// use eas_nn::kg::{KnowledgeGraph, Triple};
///
/// let entities = [("Ada", "person"), ("Lamp", "product"), ("Desk", "product")];
/// let graph = KnowledgeGraph::new(entities, ["bought"], [Triple::new(0, 0, 1)])?;
/// assert_eq!(graph.neighbours(0, 0), [1]);
/// assert_eq!(graph.sources(1, 0), [0]);
/// assert_eq!(graph.members(graph.kind(2)), [1, 2]);
/// # Ok::<(), eas_nn::kg::KgError>(())
/// ```
#[derive(Debug, Clone)]
pub struct KnowledgeGraph {
    names: Vec<String>,
    kinds: Vec<u32>,
    kind_names: Vec<String>,
    members: Vec<Vec<u32>>,
    relations: Vec<String>,
    triples: Vec<Triple>,
    tails: BTreeMap<(u32, u32), Vec<u32>>,
    heads: BTreeMap<(u32, u32), Vec<u32>>,
    tail_kinds: Vec<BTreeSet<u32>>,
    head_kinds: Vec<BTreeSet<u32>>,
}

impl KnowledgeGraph {
    /// A graph of entities given as `(name, kind)`, relation names, and facts; repeated facts count once.
    ///
    /// A triple that names an entity or a relation outside the lists is an error.
    pub fn new<N: Into<String>, K: Into<String>, R: Into<String>>(
        entities: impl IntoIterator<Item = (N, K)>,
        relations: impl IntoIterator<Item = R>,
        triples: impl IntoIterator<Item = Triple>,
    ) -> Result<Self, KgError> {
        let relations: Vec<String> = relations.into_iter().map(Into::into).collect();
        let mut graph = Self {
            names: Vec::new(),
            kinds: Vec::new(),
            kind_names: Vec::new(),
            members: Vec::new(),
            tail_kinds: vec![BTreeSet::new(); relations.len()],
            head_kinds: vec![BTreeSet::new(); relations.len()],
            relations,
            triples: Vec::new(),
            tails: BTreeMap::new(),
            heads: BTreeMap::new(),
        };
        for (id, (name, kind)) in entities.into_iter().enumerate() {
            let kind = kind.into();
            let kind = graph.kind_names.iter().position(|known| *known == kind).unwrap_or_else(|| {
                graph.kind_names.push(kind);
                graph.members.push(Vec::new());
                graph.members.len() - 1
            });
            graph.names.push(name.into());
            graph.kinds.push(kind as u32);
            graph.members[kind].push(id as u32);
        }
        let distinct: BTreeSet<Triple> = triples.into_iter().collect();
        for &triple in &distinct {
            graph.check_entity(triple.head)?;
            graph.check_entity(triple.tail)?;
            graph.check_relation(triple.relation)?;
            let Triple { head, relation, tail } = triple;
            graph.tails.entry((head, relation)).or_default().push(tail);
            graph.heads.entry((tail, relation)).or_default().push(head);
            let (head_kind, tail_kind) = (graph.kind(head), graph.kind(tail));
            graph.head_kinds[relation as usize].insert(head_kind);
            graph.tail_kinds[relation as usize].insert(tail_kind);
        }
        graph.triples = distinct.into_iter().collect();
        Ok(graph)
    }

    /// Number of entities.
    pub fn entities(&self) -> usize {
        self.names.len()
    }

    /// Number of relations.
    pub fn relations(&self) -> usize {
        self.relations.len()
    }

    /// All facts, sorted.
    pub fn triples(&self) -> &[Triple] {
        &self.triples
    }

    /// The name of an entity. Panics on an id outside the graph, as indexing does.
    pub fn name(&self, entity: u32) -> &str {
        &self.names[entity as usize]
    }

    /// The kind of an entity. Panics on an id outside the graph, as indexing does.
    pub fn kind(&self, entity: u32) -> u32 {
        self.kinds[entity as usize]
    }

    /// The name of a kind. Panics on an id outside the graph, as indexing does.
    pub fn kind_name(&self, kind: u32) -> &str {
        &self.kind_names[kind as usize]
    }

    /// The entities of a kind, ascending; none for an unknown kind.
    pub fn members(&self, kind: u32) -> &[u32] {
        self.members.get(kind as usize).map_or(&[], Vec::as_slice)
    }

    /// The name of a relation. Panics on an id outside the graph, as indexing does.
    pub fn relation_name(&self, relation: u32) -> &str {
        &self.relations[relation as usize]
    }

    /// The relation of that name.
    pub fn relation(&self, name: &str) -> Result<u32, KgError> {
        let found = self.relations.iter().position(|known| known == name);
        found.map(|id| id as u32).ok_or_else(|| KgError::Name(name.to_owned()))
    }

    /// What `entity` is linked to by `relation`, ascending: the tails of its facts.
    pub fn neighbours(&self, entity: u32, relation: u32) -> &[u32] {
        self.tails.get(&(entity, relation)).map_or(&[], Vec::as_slice)
    }

    /// What is linked to `entity` by `relation`, ascending: the heads of its facts.
    pub fn sources(&self, entity: u32, relation: u32) -> &[u32] {
        self.heads.get(&(entity, relation)).map_or(&[], Vec::as_slice)
    }

    /// True when the graph states the fact.
    pub fn contains(&self, triple: Triple) -> bool {
        self.neighbours(triple.head, triple.relation).binary_search(&triple.tail).is_ok()
    }

    /// The entities of every kind that occurs as a tail of `relation`, ascending.
    pub fn possible_tails(&self, relation: u32) -> Result<Vec<u32>, KgError> {
        self.check_relation(relation)?;
        Ok(self.of_kinds(&self.tail_kinds[relation as usize]))
    }

    /// The entities of every kind that occurs as a head of `relation`, ascending.
    pub fn possible_heads(&self, relation: u32) -> Result<Vec<u32>, KgError> {
        self.check_relation(relation)?;
        Ok(self.of_kinds(&self.head_kinds[relation as usize]))
    }

    fn of_kinds(&self, kinds: &BTreeSet<u32>) -> Vec<u32> {
        let mut entities: Vec<u32> = kinds.iter().flat_map(|&kind| self.members(kind)).copied().collect();
        entities.sort_unstable();
        entities
    }

    pub(super) fn check_entity(&self, id: u32) -> Result<(), KgError> {
        if (id as usize) < self.entities() {
            return Ok(());
        }
        Err(KgError::Entity { id, entities: self.entities() })
    }

    pub(super) fn check_relation(&self, id: u32) -> Result<(), KgError> {
        if (id as usize) < self.relations() {
            return Ok(());
        }
        Err(KgError::Relation { id, relations: self.relations() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> KnowledgeGraph {
        KnowledgeGraph::new(
            [("a", "person"), ("x", "thing"), ("b", "person"), ("y", "thing")],
            ["owns", "knows"],
            [
                Triple::new(0, 0, 3),
                Triple::new(0, 0, 1),
                Triple::new(2, 0, 1),
                Triple::new(0, 1, 2),
                Triple::new(0, 0, 1),
            ],
        )
        .unwrap()
    }

    #[test]
    fn facts_are_found_from_both_ends() {
        let graph = small();
        assert_eq!(graph.triples().len(), 4);
        assert_eq!(graph.neighbours(0, 0), [1, 3]);
        assert_eq!(graph.sources(1, 0), [0, 2]);
        assert!(graph.neighbours(1, 0).is_empty());
        assert!(graph.contains(Triple::new(0, 1, 2)));
        assert!(!graph.contains(Triple::new(2, 1, 0)));
        assert_eq!(graph.relation("knows"), Ok(1));
        assert_eq!(graph.relation("sells"), Err(KgError::Name("sells".to_owned())));
        assert_eq!(graph.possible_tails(0), Ok(vec![1, 3]));
        assert_eq!(graph.possible_heads(1), Ok(vec![0, 2]));
        assert_eq!(graph.kind_name(graph.kind(3)), "thing");
    }

    #[test]
    fn unknown_ids_are_refused() {
        let build = |triple| KnowledgeGraph::new([("a", "k")], ["r"], [triple]).map(|_| ());
        assert_eq!(build(Triple::new(0, 0, 1)), Err(KgError::Entity { id: 1, entities: 1 }));
        assert_eq!(build(Triple::new(0, 3, 0)), Err(KgError::Relation { id: 3, relations: 1 }));
        assert!(small().possible_tails(2).is_err());
    }
}
