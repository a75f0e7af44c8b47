//! What the listings of chapter 6 share.
