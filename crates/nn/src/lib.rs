//! Encoders, heads, optimizers and training loops on candle tensors.

#![forbid(unsafe_code)]
