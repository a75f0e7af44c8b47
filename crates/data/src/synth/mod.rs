//! Seeded generators that plant a known truth, so that a listing can show that it was recovered.

pub mod analogies;
pub mod captioned;
pub mod dated;
mod directions;
pub mod enterprise;
pub mod facets;
pub mod facts;
pub mod families;
pub mod glosses;
pub mod glyphs;
pub mod ledger;
pub mod lifetimes;
pub mod media;
pub mod papers;
pub mod plane;
pub mod rotation;
pub mod topics;
pub mod transactions;
pub mod tree;
pub mod trimodal;
pub mod vectors;
pub mod zipf;

pub use plane::near_plane;
pub use vectors::{clustered, clustered_queries, clusters, clusters_queries, manifold, manifold_queries, unit_cube};
pub use zipf::Zipf;
