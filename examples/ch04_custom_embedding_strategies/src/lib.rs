//! What the listings of chapter 4 share.
