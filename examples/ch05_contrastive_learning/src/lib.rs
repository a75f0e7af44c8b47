//! What the listings of chapter 5 share.

pub mod clusters;
pub mod families;
pub mod gathered;
pub mod glosses;
pub mod graded;
pub mod information;
pub mod launch;
pub mod local;
pub mod offline;
pub mod processes;
pub mod ranks;
pub mod transformer;
pub mod two_views;
