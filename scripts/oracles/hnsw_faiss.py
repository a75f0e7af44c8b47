"""Prints recall@10 and distances a search of FAISS's HNSW on the vectors of listing 3.9: `clusters` and `manifold` of
crates/data/src/synth/vectors.rs, 10,000 rows (with --full 100,000) and 300 queries in 32 dimensions, seed 42. The listing compares its own graph with them.

usage: python scripts/oracles/hnsw_faiss.py [rows]
needs: numpy, faiss-cpu
"""

import sys

import faiss
import numpy as np

GOLDEN, MIX = 0x9E3779B97F4A7C15, 0xD1B54A32D192ED03
MASK = (1 << 64) - 1


def words(state, n):
    with np.errstate(over="ignore"):
        z = np.uint64(state) + np.uint64(GOLDEN) * np.arange(1, n + 1, dtype=np.uint64)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def stream(seed, index):
    return int(words(seed ^ (index * MIX & MASK), 1)[0])


def normals(u):
    u = (u >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return np.sqrt(-2 * np.log(1 - u[..., 0::2])) * np.cos(2 * np.pi * u[..., 1::2])


def clusters(seed, which, n, d, c, spread):
    centres = normals(words(stream(seed, 0), 2 * c * d)).reshape(c, d)
    raw = words(stream(seed, which), n * (1 + 2 * d)).reshape(n, 1 + 2 * d)
    pick = [int(w) * c >> 64 for w in raw[:, 0]]
    return (centres[pick] + spread * normals(raw[:, 1:])).astype(np.float32)


def manifold(seed, which, n, d, intrinsic, noise):
    rows = normals(words(stream(seed, 0), 2 * intrinsic * d)).reshape(intrinsic, d)
    axes = []
    for row in rows:
        for _ in range(2):
            for axis in axes:
                row = row - (row @ axis) * axis
            row = row / np.linalg.norm(row)
        axes.append(row)
    raw = normals(words(stream(seed, which), 2 * n * (intrinsic + d)).reshape(n, -1))
    return (raw[:, :intrinsic] @ np.array(axes) + noise * raw[:, intrinsic:]).astype(np.float32)


rows = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
worlds = {
    "clusters": [clusters(42, which, n, 32, 64, 0.6) for which, n in ((1, rows), (2, 300))],
    "manifold": [manifold(42, which, n, 32, 8, 0.02) for which, n in ((1, rows), (2, 300))],
}
print("faiss", faiss.__version__)
for name, (base, queries) in worlds.items():
    exact = faiss.IndexFlatL2(32)
    exact.add(base)
    truth = exact.search(queries, 10)[1]
    print(name, "row 0:", base[0, :3], "query 0:", queries[0, :3])
    for m in (8, 16, 32):
        index = faiss.IndexHNSWFlat(32, m)
        index.hnsw.efConstruction = 200
        index.add(base)
        for ef in (10, 20, 50, 100, 200):
            index.hnsw.efSearch = ef
            faiss.cvar.hnsw_stats.reset()
            found = index.search(queries, 10)[1]
            recall = np.mean([len(set(f) & set(t)) / 10 for f, t in zip(found, truth)])
            print(f"  m {m} ef {ef}: recall {recall:.4f}, distances {faiss.cvar.hnsw_stats.ndis / 300:.0f}")
