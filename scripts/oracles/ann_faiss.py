"""Recall of FAISS on the seeded data sets of eas_data::synth::vectors, for the parity tests of eas-ann and listing 3.11.

    pip install numpy faiss-cpu
    python scripts/oracles/ann_faiss.py > crates/ann/tests/golden/faiss.json
    python scripts/oracles/ann_faiss.py --full      the 200,000 vectors of listing 3.11 with --full

The generators are those of crates/data/src/synth/vectors.rs and crates/tensor/src/rng.rs, to the last bit but for the rounding of ln and cos.
"""

import json
import sys

import faiss
import numpy as np

U = np.uint64


def splitmix(seed, n):
    """The first n outputs of SplitMix64."""
    with np.errstate(over="ignore"):
        z = U(seed) + (np.arange(1, n + 1, dtype=np.uint64)) * U(0x9E3779B97F4A7C15)
        z = (z ^ (z >> U(30))) * U(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> U(27))) * U(0x94D049BB133111EB)
        return z ^ (z >> U(31))


def stream(seed, index):
    return int(splitmix((seed ^ (index * 0xD1B54A32D192ED03)) & (2**64 - 1), 1)[0])


def uniform(bits):
    return (bits >> U(11)).astype(np.float64) * 2.0**-53


def normals(bits):
    """One normal for each two outputs."""
    u = uniform(bits).reshape(-1, 2)
    return np.sqrt(-2.0 * np.log(1.0 - u[:, 0])) * np.cos(2.0 * np.pi * u[:, 1])


def clusters(seed, which, n, d, c, spread):
    centres = normals(splitmix(stream(seed, 0), 2 * c * d)).reshape(c, d)
    bits = splitmix(stream(seed, which), n * (1 + 2 * d)).reshape(n, 1 + 2 * d)
    component = (uniform(bits[:, 0]) * c).astype(np.int64)  # the high bits of a product with 64, a power of two
    noise = normals(bits[:, 1:].reshape(-1)).reshape(n, d)
    return (centres[component] + spread * noise).astype(np.float32)


def manifold(seed, which, n, d, intrinsic, noise):
    axes = []
    world = normals(splitmix(stream(seed, 0), 2 * intrinsic * d)).reshape(intrinsic, d)
    for row in world:
        for _ in range(2):
            for axis in axes:
                row = row - (row @ axis) * axis
            row = row / np.linalg.norm(row)
        axes.append(row)
    draws = normals(splitmix(stream(seed, which), 2 * n * (intrinsic + d))).reshape(n, intrinsic + d)
    return (draws[:, :intrinsic] @ np.array(axes) + noise * draws[:, intrinsic:]).astype(np.float32)


def unit_cube(seed, n, d):
    rows = 2.0 * uniform(splitmix(seed, n * d)).reshape(n, d) - 1.0
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def recall(found, exact):
    k = exact.shape[1]
    return float(np.mean([len(set(f[:k]) & set(e)) / k for f, e in zip(found, exact)]))


def exact(x, q, k):
    index = faiss.IndexFlatL2(x.shape[1])
    index.add(x)
    return index.search(q, k)[1]


def ivfpq(x, q, truth, nlist, m, residual, probes):
    index = faiss.IndexIVFPQ(faiss.IndexFlatL2(x.shape[1]), x.shape[1], nlist, m, 8)
    index.by_residual = residual
    index.cp.niter = 20
    index.train(x)
    index.add(x)
    out = []
    for nprobe in probes:
        index.nprobe = nprobe
        out.append({"lists": nlist, "subspaces": m, "by_residual": residual, "nprobe": nprobe,
                    "recall_at_10": round(recall(index.search(q, 10)[1], truth), 4)})
    return out


def main():
    faiss.omp_set_num_threads(2)
    out = {"faiss": faiss.__version__}
    full = "--full" in sys.argv
    x, q = clusters(42, 1, 200_000 if full else 20_000, 32, 64, 0.6), clusters(42, 2, 300, 32, 64, 0.6)
    truth = exact(x, q, 10)
    rows = []
    for nlist, m in [(64, 8), (128, 16)]:
        for residual in [True, False]:
            rows += ivfpq(x, q, truth, nlist, m, residual, [1, 2, 4, 8, 16, 64])
    out["clusters_ivfpq"] = rows
    if full:
        print(json.dumps(out, indent=1))
        return

    x, q = manifold(42, 1, 20_000, 32, 8, 0.02), manifold(42, 2, 200, 32, 8, 0.02)
    truth = exact(x, q, 10)
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(32), 32, 128)
    index.cp.niter = 20
    index.train(x)
    index.add(x)
    rows = []
    for nprobe in [1, 4, 8, 16, 128]:
        index.nprobe = nprobe
        rows.append({"lists": 128, "nprobe": nprobe, "recall_at_10": round(recall(index.search(q, 10)[1], truth), 4)})
    out["manifold_ivf"] = rows
    rows = []
    for m in [8, 16]:
        index = faiss.IndexPQ(32, m, 8)
        index.train(x)
        index.add(x)
        rows.append({"subspaces": m, "recall_at_10": round(recall(index.search(q, 10)[1], truth), 4)})
    out["manifold_pq"] = rows
    out["manifold_exact_first"] = truth[0].tolist()

    index = faiss.IndexFlatIP(64)
    index.add(unit_cube(11, 1_000, 64))
    scores, ids = index.search(unit_cube(12, 5, 64), 10)
    out["unit_cube_ids"] = ids.tolist()
    out["unit_cube_scores"] = [[round(float(s), 6) for s in row] for row in scores]
    print(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()
