//! What FAISS 1.15.1 finds on the chapter's vectors; `scripts/oracles/ann_faiss.py` measures it.

/// Lists, parts of 8 bits, whether residuals are coded, probes, and recall@10 of `IndexIVFPQ` on `clusters(42, 20_000, 32, 64, 0.6)`.
pub const IVFPQ_ON_CLUSTERS: [(usize, usize, bool, usize, f64); 24] = [
    (64, 8, true, 1, 0.62),
    (64, 8, true, 2, 0.6433),
    (64, 8, true, 4, 0.6437),
    (64, 8, true, 8, 0.6437),
    (64, 8, true, 16, 0.6437),
    (64, 8, true, 64, 0.6437),
    (64, 8, false, 1, 0.4447),
    (64, 8, false, 2, 0.4563),
    (64, 8, false, 4, 0.456),
    (64, 8, false, 8, 0.4563),
    (64, 8, false, 16, 0.4563),
    (64, 8, false, 64, 0.4563),
    (128, 16, true, 1, 0.6703),
    (128, 16, true, 2, 0.8323),
    (128, 16, true, 4, 0.8937),
    (128, 16, true, 8, 0.896),
    (128, 16, true, 16, 0.896),
    (128, 16, true, 64, 0.896),
    (128, 16, false, 1, 0.6267),
    (128, 16, false, 2, 0.761),
    (128, 16, false, 4, 0.812),
    (128, 16, false, 8, 0.8137),
    (128, 16, false, 16, 0.8137),
    (128, 16, false, 64, 0.8137),
];
