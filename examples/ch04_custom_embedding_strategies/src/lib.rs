//! What the listings of chapter 4 share.

pub mod configurations;
pub mod gains;
pub mod neighbours;
pub mod objectives;
pub mod shapes;
pub mod shopping;
pub mod tuning;
