//! What the listings of chapter 5 share.
