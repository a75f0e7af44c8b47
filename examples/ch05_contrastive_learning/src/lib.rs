//! What the listings of chapter 5 share.

pub mod families;
pub mod glosses;
