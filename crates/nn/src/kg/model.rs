//! [`KgModel`]: vectors of entities and relations, and the questions they answer.

use eas_tensor::Matrix;
use eas_tensor::kernels::cosine;
use eas_tensor::rng::SplitMix64;
use eas_tensor::topk::compare_scores;

use super::{KgError, KnowledgeGraph, Scorer, Triple};

/// An entity or a relation with its score; lists of these are sorted best first, ties by lower id.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// Id in the graph.
    pub id: u32,
    /// Score of the model, or cosine; higher is better.
    pub score: f32,
}

/// Vectors of the entities `(entities, dim)` and relations `(relations, relation_dim)` of one graph, and how they combine.
#[derive(Debug, Clone, PartialEq)]
pub struct KgModel {
    scorer: Scorer,
    pub(super) entities: Matrix,
    pub(super) relations: Matrix,
}

impl KgModel {
    /// An untrained model with vectors drawn from `seed`. `dim` must be positive, and even for a complex scorer.
    pub fn new(graph: &KnowledgeGraph, scorer: Scorer, dim: usize, seed: u64) -> Result<Self, KgError> {
        if dim == 0 || (scorer.is_complex() && !dim.is_multiple_of(2)) {
            return Err(KgError::Argument {
                name: "dim",
                got: dim.to_string(),
                expected: "positive, and even for ComplEx and RotatE",
            });
        }
        let mut rng = SplitMix64::new(seed);
        let mut uniform = |rows: usize, dim: usize, bound: f64| {
            let mut matrix = Matrix::zeros(rows, dim);
            matrix.as_mut_slice().iter_mut().for_each(|x| *x = ((2.0 * rng.uniform() - 1.0) * bound) as f32);
            matrix
        };
        // Entities start at length about 1 (the bound gives each value the variance 1/dim). Angles start near 0, every relation
        // close to "stay where you are": from anywhere on the circle, inverse relations seldom find to opposite angles.
        let bound = (3.0 / dim as f64).sqrt();
        let entities = uniform(graph.entities(), dim, bound);
        let relation_bound = match scorer {
            Scorer::RotatE => std::f64::consts::FRAC_PI_4,
            _ => bound,
        };
        let relations = uniform(graph.relations(), scorer.relation_dim(dim), relation_bound);
        Ok(Self { scorer, entities, relations })
    }

    /// The score function.
    pub fn scorer(&self) -> Scorer {
        self.scorer
    }

    /// Dimension of an entity.
    pub fn dim(&self) -> usize {
        self.entities.dim()
    }

    /// The vector of an entity.
    pub fn entity(&self, id: u32) -> Result<&[f32], KgError> {
        if (id as usize) < self.entities.rows() {
            return Ok(self.entities.row(id as usize));
        }
        Err(KgError::Entity { id, entities: self.entities.rows() })
    }

    /// The vector of a relation (for RotatE its angles).
    pub fn relation(&self, id: u32) -> Result<&[f32], KgError> {
        if (id as usize) < self.relations.rows() {
            return Ok(self.relations.row(id as usize));
        }
        Err(KgError::Relation { id, relations: self.relations.rows() })
    }

    /// The score of a triple, higher is more plausible.
    pub fn score(&self, triple: Triple) -> Result<f32, KgError> {
        let Triple { head, relation, tail } = triple;
        Ok(self.scorer.score(self.entity(head)?, self.relation(relation)?, self.entity(tail)?))
    }

    /// Where the walk from `head` along `relations` ends up, as a vector.
    pub(super) fn place(&self, head: u32, relations: &[u32]) -> Result<Vec<f32>, KgError> {
        let mut place = self.entity(head)?.to_vec();
        for &relation in relations {
            place = self.scorer.apply(&place, self.relation(relation)?);
        }
        Ok(place)
    }

    /// How well an entity (an id inside the model) fits a place.
    pub(super) fn fit(&self, place: &[f32], entity: u32) -> f32 {
        self.scorer.compare(place, self.entities.row(entity as usize))
    }

    /// The `k` best new tails for `(head, relation, ?)`: of a kind the relation leads to, not yet known, and not the head.
    pub fn predict_tail(
        &self,
        graph: &KnowledgeGraph,
        head: u32,
        relation: u32,
        k: usize,
    ) -> Result<Vec<Scored>, KgError> {
        let place = self.place(head, &[relation])?;
        let known = graph.neighbours(head, relation);
        let candidates = graph.possible_tails(relation)?.into_iter();
        Ok(best(
            candidates
                .filter(|id| *id != head && known.binary_search(id).is_err())
                .map(|id| (id, self.fit(&place, id))),
            k,
        ))
    }

    /// The `k` best new heads for `(?, relation, tail)`, chosen as in [`KgModel::predict_tail`].
    pub fn predict_head(
        &self,
        graph: &KnowledgeGraph,
        relation: u32,
        tail: u32,
        k: usize,
    ) -> Result<Vec<Scored>, KgError> {
        let (relation_vector, tail_vector) = (self.relation(relation)?, self.entity(tail)?);
        let known = graph.sources(tail, relation);
        let candidates = graph.possible_heads(relation)?.into_iter();
        Ok(best(
            candidates.filter(|id| *id != tail && known.binary_search(id).is_err()).map(|id| {
                let head = self.entities.row(id as usize);
                (id, self.scorer.score(head, relation_vector, tail_vector))
            }),
            k,
        ))
    }

    /// The relations by how plausibly they hold from `head` to `tail`, best first, known ones included.
    pub fn predict_relation(&self, head: u32, tail: u32) -> Result<Vec<Scored>, KgError> {
        let (head, tail) = (self.entity(head)?, self.entity(tail)?);
        let relations = self.relations.iter_rows().enumerate();
        Ok(best(relations.map(|(id, relation)| (id as u32, self.scorer.score(head, relation, tail))), usize::MAX))
    }

    /// The `k` entities of the same kind whose vectors have the largest cosine with that of `entity`.
    pub fn similar(&self, graph: &KnowledgeGraph, entity: u32, k: usize) -> Result<Vec<Scored>, KgError> {
        let own = self.entity(entity)?;
        graph.check_entity(entity)?;
        let peers = graph.members(graph.kind(entity)).iter().copied();
        Ok(best(peers.filter(|&id| id != entity).map(|id| (id, cosine(own, self.entities.row(id as usize)))), k))
    }

    /// The `k` best ends of a walk from `head` along `relations`, of a kind that the last one leads to.
    ///
    /// No step in between is looked up: the vectors are moved by one relation after the other. An empty walk is an error.
    pub fn path(&self, graph: &KnowledgeGraph, head: u32, relations: &[u32], k: usize) -> Result<Vec<Scored>, KgError> {
        let Some(&last) = relations.last() else {
            return Err(KgError::Argument {
                name: "relations of a path",
                got: "none".to_owned(),
                expected: "at least one",
            });
        };
        let place = self.place(head, relations)?;
        let ends = graph.possible_tails(last)?.into_iter();
        Ok(best(ends.map(|id| (id, self.fit(&place, id))), k))
    }

    /// Pairs `(a, b)`, `a < b`, of one kind that are each other's nearest by cosine, at least `threshold` close: entities that
    /// may have been entered twice. Sorted by cosine, closest first.
    pub fn resolve_duplicates(
        &self,
        graph: &KnowledgeGraph,
        kind: u32,
        threshold: f32,
    ) -> Result<Vec<(u32, u32, f32)>, KgError> {
        let mut nearest = Vec::new();
        for &id in graph.members(kind) {
            nearest.extend(self.similar(graph, id, 1)?.first().map(|&hit| (id, hit)));
        }
        let partner = |id: u32| {
            let at = nearest.binary_search_by_key(&id, |&(own, _)| own);
            at.ok().map(|at| nearest[at].1.id)
        };
        let mut pairs: Vec<(u32, u32, f32)> = nearest
            .iter()
            .filter(|(id, hit)| *id < hit.id && hit.score >= threshold && partner(hit.id) == Some(*id))
            .map(|&(id, hit)| (id, hit.id, hit.score))
            .collect();
        pairs.sort_by(|a, b| b.2.total_cmp(&a.2).then(a.0.cmp(&b.0)));
        Ok(pairs)
    }
}

/// The `k` best of `(id, score)`, ties by lower id, NaN last.
fn best(scores: impl Iterator<Item = (u32, f32)>, k: usize) -> Vec<Scored> {
    let mut all: Vec<Scored> = scores.map(|(id, score)| Scored { id, score }).collect();
    all.sort_by(|a, b| compare_scores(b.score, a.score).then(a.id.cmp(&b.id)));
    all.truncate(k);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kg::Norm;

    /// Two people, three things, and exact TransE vectors on a line: owns = +10, likes = +20.
    fn small() -> (KnowledgeGraph, KgModel) {
        let graph = KnowledgeGraph::new(
            [("a", "person"), ("b", "person"), ("x", "thing"), ("y", "thing"), ("z", "thing")],
            ["owns", "likes"],
            [Triple::new(0, 0, 2), Triple::new(1, 0, 3), Triple::new(1, 1, 4)],
        )
        .unwrap();
        let mut model = KgModel::new(&graph, Scorer::TransE(Norm::L2), 1, 0).unwrap();
        model.entities = Matrix::from_rows(&[[0.0], [1.0], [10.0], [11.0], [21.0]]).unwrap();
        model.relations = Matrix::from_rows(&[[10.0], [20.0]]).unwrap();
        (graph, model)
    }

    fn ids(hits: &[Scored]) -> Vec<u32> {
        hits.iter().map(|hit| hit.id).collect()
    }

    #[test]
    fn predictions_leave_out_what_is_known_the_head_and_other_kinds() {
        let (graph, model) = small();
        assert_eq!(ids(&model.predict_tail(&graph, 0, 0, 9).unwrap()), [3, 4]);
        assert_eq!(ids(&model.predict_tail(&graph, 1, 0, 1).unwrap()), [2]);
        assert_eq!(ids(&model.predict_head(&graph, 0, 3, 9).unwrap()), [0]);
        assert_eq!(ids(&model.predict_relation(1, 4).unwrap()), [1, 0]);
        assert!(model.predict_tail(&graph, 0, 0, 0).unwrap().is_empty());
    }

    #[test]
    fn a_path_adds_up_its_relations() {
        let (graph, model) = small();
        let hits = model.path(&graph, 0, &[0, 0], 1).unwrap();
        assert_eq!(hits, [Scored { id: 4, score: -1.0 }]);
        assert!(model.path(&graph, 0, &[], 1).is_err());
    }

    #[test]
    fn similarity_is_cosine_within_the_kind_and_duplicates_are_mutual() {
        let (graph, mut model) = small();
        model.entities = Matrix::from_rows(&[[1.0, 0.0], [0.0, 1.0], [3.0, 4.0], [6.0, 8.1], [-1.0, 0.0]]).unwrap();
        model.relations = Matrix::zeros(2, 2);
        let hits = model.similar(&graph, 2, 2).unwrap();
        assert_eq!(ids(&hits), [3, 4]);
        assert!((hits[1].score + 0.6).abs() < 1e-6);
        let things = graph.kind(2);
        let pairs = model.resolve_duplicates(&graph, things, 0.9).unwrap();
        assert_eq!(pairs.iter().map(|&(a, b, _)| (a, b)).collect::<Vec<_>>(), [(2, 3)]);
        assert!(model.resolve_duplicates(&graph, 9, 0.9).unwrap().is_empty());
    }

    #[test]
    fn unknown_ids_and_dimensions_are_refused() {
        let (graph, model) = small();
        assert!(matches!(model.predict_tail(&graph, 5, 0, 1), Err(KgError::Entity { id: 5, .. })));
        assert!(matches!(model.predict_head(&graph, 2, 0, 1), Err(KgError::Relation { id: 2, .. })));
        assert!(model.similar(&graph, 7, 1).is_err());
        assert!(KgModel::new(&graph, Scorer::DistMult, 0, 1).is_err());
        assert!(KgModel::new(&graph, Scorer::RotatE, 7, 1).is_err());
        assert!(model.score(Triple::new(0, 0, 9)).is_err());
    }
}
