//! Metrics of retrieval, ranking, classification, calibration and embedding quality, with bootstrap intervals.

#![forbid(unsafe_code)]
