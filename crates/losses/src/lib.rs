//! Contrastive, metric and ranking objectives on candle tensors.

#![forbid(unsafe_code)]
