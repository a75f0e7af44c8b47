//! What the listings of chapter 6 share.

#![forbid(unsafe_code)]

pub mod digit_net;
pub mod digits;
pub mod drift;
pub mod enrolment;
pub mod glyph_net;
pub mod new_kinds;
pub mod pictures;
pub mod teachers;
pub mod twenty;
