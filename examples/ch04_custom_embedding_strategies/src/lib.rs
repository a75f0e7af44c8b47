//! What the listings of chapter 4 share.

pub mod neighbours;
pub mod shapes;
pub mod tuning;
