"""Measures the indexes of eas-ann against other libraries on the same vectors, in interleaved rounds with one search thread.

usage: benches/peers/ann.sh --data PREFIX [--metric dot|l2] [--rounds 3] [--only hnsw,hnswlib,...] [--json FILE]
needs: PREFIX_base.npy and PREFIX_queries.npy (see ann_data), cargo build --release -p eas-bench, and what of hnswlib, faiss-cpu,
       usearch, rabitqlib and scann-core pip installs; a library that is missing is left out, and named

Every index is built first. Then each round asks every index all queries once at each value of its search parameter; the median over
the rounds counts, and how much faster one is than another is the median of the ratios within the rounds, so that what else the
machine does hits all alike. Builds use the threads given, one after the other.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

root = pathlib.Path(__file__).resolve().parents[2]
parser = argparse.ArgumentParser()
parser.add_argument("--data", required=True, help="beginning of the names of the _base.npy and _queries.npy")
parser.add_argument("--metric", choices=["dot", "l2"], default="dot")
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of the builds; searches use one")
parser.add_argument("--rows", type=int, help="only the first rows of the base")
parser.add_argument("--queries", type=int, help="only the first queries")
parser.add_argument("--sweep", default="10,16,24,32,48,64,96,128,192,256", help="values of ef")
parser.add_argument("--probes", default="1,2,4,8,16,32,64,128", help="values of nprobe")
parser.add_argument("--targets", default="0.90,0.95,0.98", help="recalls at which speeds are compared")
parser.add_argument("--only", help="names of subjects, separated by commas; ours begin with `ours`")
parser.add_argument("--binary", default=str(root / "target/release/ann_sweep"))
parser.add_argument("--json", help="file for every measured point")
flags = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(flags.threads)

import numpy

work = tempfile.TemporaryDirectory()
base = numpy.load(flags.data + "_base.npy", mmap_mode="r")[: flags.rows]
queries = numpy.ascontiguousarray(numpy.load(flags.data + "_queries.npy")[: flags.queries], dtype=numpy.float32)
base = numpy.ascontiguousarray(base, dtype=numpy.float32)
n, dim = base.shape
k = 10
beams = [int(x) for x in flags.sweep.split(",")]
probes = [int(x) for x in flags.probes.split(",")]


def file_size(write):
    """Bytes of what a library writes for its index."""
    path = os.path.join(work.name, "index")
    write(path)
    size = sum(f.stat().st_size for f in pathlib.Path(work.name).glob("index*"))
    for f in pathlib.Path(work.name).glob("index*"):
        f.unlink()
    return size


class Peer:
    """An index of a Python library: built by `build`, asked by `search(parameter) -> ids` with one thread."""

    def __init__(self, name, pars, build):
        self.name, self.pars = name, pars
        started = time.perf_counter()
        self.search, self.bytes = build()
        self.build_s = time.perf_counter() - started

    def round(self):
        points = []
        for par in self.pars:
            started = time.perf_counter()
            ids = self.search(par)
            seconds = time.perf_counter() - started
            points.append({"par": par, "recall": recall(ids), "qps": len(queries) / seconds})
        return points

    def close(self):
        pass


class Ours:
    """ann_sweep, which builds and then makes one round for each line it is given."""

    def __init__(self, name, arguments, pars):
        self.name = name
        command = [flags.binary, "--base", base_file, "--queries", query_file, "--gt", truth_file, "--metric", flags.metric]
        command += ["--sweep", ",".join(map(str, pars)), "--threads", "1", "--build-threads", str(flags.threads)]
        command += [*arguments, "--json", "--follow"]
        started = time.perf_counter()
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "ready\n":
            raise RuntimeError(f"ann_sweep ended with code {self.process.wait()}")
        # Until the first round tells them: with the reading of the files, and unknown.
        self.build_s, self.bytes = time.perf_counter() - started, 0

    def round(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        points = []
        while (line := self.process.stdout.readline().strip()):
            point = json.loads(line)
            self.build_s, self.bytes = point["build_s"], point["bytes_per_vector"] * n
            points.append({key: point[key] for key in ["par", "recall", "qps"]})
        return points

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def recall(ids):
    return float(numpy.mean([len(set(map(int, found)) & exact) for found, exact in zip(ids, truth)])) / k


def hnswlib_():
    import hnswlib

    index = hnswlib.Index(space="ip" if flags.metric == "dot" else "l2", dim=dim)
    index.init_index(max_elements=n, M=16, ef_construction=200, random_seed=42)
    index.add_items(base, num_threads=flags.threads)

    def search(ef):
        index.set_ef(ef)
        return index.knn_query(queries, k=k, num_threads=1)[0]

    return search, index.index_file_size()


def faiss_(kind):
    import faiss

    metric = faiss.METRIC_INNER_PRODUCT if flags.metric == "dot" else faiss.METRIC_L2
    faiss.omp_set_num_threads(flags.threads)
    # As many lists as a few dozen points each would fill, and codes of half a byte for every two values.
    lists = 1 << int(numpy.log2(numpy.sqrt(n) * 4))
    name = {"flat": "Flat", "hnsw": "HNSW16,Flat", "hnsw-sq8": "HNSW16,SQ8"}.get(kind, f"IVF{lists},PQ{dim // 2}x4fs,Refine(SQ8)")
    index = faiss.index_factory(dim, name, metric)
    if kind.startswith("hnsw"):
        index.hnsw.efConstruction = 200
    if not index.is_trained:
        index.train(base[:: max(1, n // 200_000)])
    index.add(base)

    def search(par):
        faiss.omp_set_num_threads(1)
        if kind.startswith("hnsw"):
            index.hnsw.efSearch = par
        elif kind == "ivfpq-fastscan":
            faiss.downcast_index(index.base_index).nprobe = par
            index.k_factor = 10
        return index.search(queries, k)[1]

    return search, len(faiss.serialize_index(index))


def usearch_(dtype):
    from usearch.index import Index

    index = Index(ndim=dim, metric="ip" if flags.metric == "dot" else "l2sq", dtype=dtype, connectivity=16, expansion_add=200)
    index.add(numpy.arange(n), base, threads=flags.threads)

    def search(ef):
        index.expansion_search = ef
        return index.search(queries, k, threads=1).keys

    return search, index.serialized_length


def symphonyqg():
    import rabitqlib

    index = rabitqlib.SymqgIndex(dim=dim, max_degree=32, metric="ip" if flags.metric == "dot" else "l2")
    index.build(base, ef_construction=200, num_threads=flags.threads)
    return lambda ef: index.search(queries, k, ef, 1)[0], file_size(index.save)


def scann_():
    import scann

    lists = max(1, int(numpy.sqrt(n)))
    metric = "dot_product" if flags.metric == "dot" else "squared_l2"
    builder = scann.scann_ops_pybind.builder(base, k, metric)
    builder = builder.tree(num_leaves=lists, num_leaves_to_search=lists // 20, training_sample_size=min(n, 250_000))
    builder = builder.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(100)
    builder.set_n_training_threads(flags.threads)
    index = builder.build()
    folder = os.path.join(work.name, "index_scann")
    os.makedirs(folder)
    index.serialize(folder)
    size = sum(f.stat().st_size for f in pathlib.Path(folder).iterdir())
    return lambda probe: index.search_batched(queries, leaves_to_search=probe, pre_reorder_num_neighbors=100)[0], size


base_file, query_file, truth_file = [os.path.join(work.name, part) for part in ["base.npy", "queries.npy", "truth.npy"]]
numpy.save(base_file, base)
numpy.save(query_file, queries)
data_binary = str(pathlib.Path(flags.binary).with_name("ann_data"))
subprocess.run(
    [data_binary, "truth", "--base", base_file, "--queries", query_file, "--metric", flags.metric, "--out", truth_file], check=True
)
truth = [set(map(int, row)) for row in numpy.load(truth_file)]

subjects = {
    "ours flat": lambda name: Ours(name, ["--index", "flat"], [0]),
    "faiss flat": lambda name: Peer(name, [0], lambda: faiss_("flat")),
    "ours hnsw": lambda name: Ours(name, ["--index", "hnsw", "--m", "16", "--ef-construction", "200"], beams),
    "ours graph": lambda name: Ours(name, ["--index", "graph"], beams),
    "ours ivfpq": lambda name: Ours(name, ["--index", "ivfpq"], probes),
    "ours disk": lambda name: Ours(name, ["--index", "disk"], beams),
    "hnswlib": lambda name: Peer(name, beams, hnswlib_),
    "faiss hnsw": lambda name: Peer(name, beams, lambda: faiss_("hnsw")),
    "faiss hnsw-sq8": lambda name: Peer(name, beams, lambda: faiss_("hnsw-sq8")),
    "usearch f32": lambda name: Peer(name, beams, lambda: usearch_("f32")),
    "usearch i8": lambda name: Peer(name, beams, lambda: usearch_("i8")),
    "symphonyqg": lambda name: Peer(name, beams, symphonyqg),
    "faiss ivfpq-fastscan": lambda name: Peer(name, probes, lambda: faiss_("ivfpq-fastscan")),
    "scann": lambda name: Peer(name, probes, scann_),
}
chosen = flags.only.split(",") if flags.only else list(subjects)
unknown = [name for name in chosen if name not in subjects]
if unknown:
    sys.exit(f"unknown subjects {unknown}; known are {list(subjects)}")

built, left_out = [], []
for name in chosen:
    try:
        built.append(subjects[name](name))
        print(f"built {name}: {built[-1].build_s:.1f} s", file=sys.stderr, flush=True)
    except ImportError as reason:
        left_out.append(f"{name} ({reason})")
    except Exception as reason:
        left_out.append(f"{name} ({type(reason).__name__}: {str(reason)[:120]})")
rounds = {subject.name: [] for subject in built}
for at in range(flags.rounds):
    for subject in built:
        rounds[subject.name].append(subject.round())
    print(f"round {at + 1} of {flags.rounds}", file=sys.stderr, flush=True)
for subject in built:
    subject.close()


def speed_at(points, target):
    """Queries a second at a recall, between the two measured points around it on a logarithmic scale; None when not reached."""
    points = sorted(points, key=lambda point: point["recall"])
    if points[-1]["recall"] < target:
        return None
    if points[0]["recall"] >= target:
        return max(point["qps"] for point in points)
    for low, high in zip(points, points[1:]):
        if low["recall"] < target <= high["recall"]:
            share = (target - low["recall"]) / (high["recall"] - low["recall"])
            return low["qps"] ** (1 - share) * high["qps"] ** share


def cell(value, text):
    return "-" if value is None else text(value)


def model():
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def instructions():
    try:
        found = open("/proc/cpuinfo").read().split()
        return ", ".join(name for name in ["avx2", "avx512f", "avx512_vnni"] if name in found)
    except OSError:
        return ""


targets = [float(x) for x in flags.targets.split(",")]
load = os.getloadavg()[0]
print(f"\n{pathlib.Path(flags.data).name}: {n:,} x {dim}, {flags.metric}, {len(queries):,} queries, k = {k}, one search thread, median of")
print(f"{flags.rounds} interleaved rounds; builds with {flags.threads} threads. {model()} ({instructions()}), {os.cpu_count()} CPUs, load {load:.1f} at the end.\n")
print("| index | build s | bytes a vector | " + " | ".join(f"queries/s at recall {t:.2f}" for t in targets) + " | highest recall |")
print("| --- | ---: | ---: |" + " ---: |" * (len(targets) + 1))
for subject in built:
    speeds = []
    for target in targets:
        found = [speed_at(points, target) for points in rounds[subject.name]]
        speeds.append(statistics.median(found) if all(found) else None)
    highest = max(point["recall"] for point in rounds[subject.name][0])
    row = [subject.name, f"{subject.build_s:.1f}", f"{subject.bytes / n:.0f}"]
    print("| " + " | ".join(row + [cell(s, lambda s: f"{s:,.0f}") for s in speeds] + [f"{highest:.4f}"]) + " |")
if left_out:
    print("\nLeft out: " + "; ".join(left_out) + ".")

mine = [subject for subject in built if subject.name.startswith("ours")]
theirs = [subject for subject in built if not subject.name.startswith("ours")]
if mine and theirs:
    print("\nHow many times faster ours is, by the median of the ratios within each round:\n")
    print("| ours | at recall | " + " | ".join(subject.name for subject in theirs) + " |")
    print("| --- | ---: |" + " ---: |" * len(theirs))
    for subject in mine:
        for target in targets:
            ratios = []
            for peer in theirs:
                pairs = [
                    (speed_at(a, target), speed_at(b, target)) for a, b in zip(rounds[subject.name], rounds[peer.name])
                ]
                ratios.append(statistics.median(a / b for a, b in pairs) if all(a and b for a, b in pairs) else None)
            if any(ratios):
                print(f"| {subject.name} | {target:.2f} | " + " | ".join(cell(r, lambda r: f"{r:.2f}") for r in ratios) + " |")

if flags.json:
    with open(flags.json, "w") as out:
        for subject in built:
            for points in zip(*rounds[subject.name]):
                line = {"lib": subject.name, "par": points[0]["par"], "recall": points[0]["recall"]}
                line |= {"qps": statistics.median(point["qps"] for point in points), "build_s": subject.build_s}
                out.write(json.dumps(line | {"bytes_per_vector": subject.bytes / n}) + "\n")
