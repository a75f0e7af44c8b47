//! Knowledge-graph embeddings: entities and relations as vectors, trained so that true triples score higher than false ones.
//!
//! - [`graph`]: [`KnowledgeGraph`], entities with a kind, relations, triples, indexes both ways.
//! - [`scorer`]: what a triple's score is, for TransE, DistMult, ComplEx and RotatE, with hand-written gradients.
//! - [`train`]: negative sampling, margin and logistic loss, Adagrad.
//! - [`rank`]: filtered ranks, the way link prediction is measured.
//! - [`model`]: [`KgModel`], the trained vectors and the questions they answer.
//!
//! Everything works on slices of f32: the models are small enough that writing the gradients out is shorter and many times
//! faster than differentiating a graph of tensor operations.

pub mod graph;
pub mod model;
pub mod rank;
pub mod scorer;
pub mod train;

pub use graph::{KnowledgeGraph, Triple};
pub use model::{KgModel, Scored};
pub use rank::{Candidates, RankSummary, filtered_rank};
pub use scorer::{Norm, Scorer};
pub use train::{KgTraining, Negatives};

/// What a knowledge graph or a model of one refuses.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum KgError {
    /// An entity id outside the graph.
    #[error("entity {id} is unknown: the graph has {entities}")]
    Entity {
        /// The id given.
        id: u32,
        /// Number of entities.
        entities: usize,
    },
    /// A relation id outside the graph.
    #[error("relation {id} is unknown: the graph has {relations}")]
    Relation {
        /// The id given.
        id: u32,
        /// Number of relations.
        relations: usize,
    },
    /// A name that no entity or relation has.
    #[error("no relation or entity is named {0:?}")]
    Name(String),
    /// A hyper-parameter or argument outside its range.
    #[error("{name} is {got}, must be {expected}")]
    Argument {
        /// The argument's name.
        name: &'static str,
        /// What was given.
        got: String,
        /// What is accepted.
        expected: &'static str,
    },
}
