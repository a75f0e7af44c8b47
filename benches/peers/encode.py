"""Measures MiniLM here against sentence-transformers (PyTorch) and ONNX Runtime, in interleaved rounds on the same file.

usage: python benches/peers/encode.py LINES.txt [--threads 2] [--rounds 5] [--binary target/release/encode_file]
needs: sentence-transformers, scripts/fetch_models.sh, and cargo build --release -p eas-bench; ONNX Runtime and onnx are optional

Each round times every program once, loading excluded, so that what else the machine does hits all alike; the ratio of a round is
taken within it, and the median over the rounds is reported.
"""

import argparse
import os
import pathlib
import re
import statistics
import subprocess
import tempfile
import time

root = pathlib.Path(__file__).resolve().parents[2]
parser = argparse.ArgumentParser()
parser.add_argument("lines")
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--binary", default=str(root / "target/release/encode_file"))
flags = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(flags.threads)

import numpy
import torch
from sentence_transformers import SentenceTransformer, models

torch.set_num_threads(flags.threads)
folder = str(root / "data/models/all-MiniLM-L6-v2")
texts = [line.rstrip("\n") for line in open(flags.lines, encoding="utf-8")]
transformer = models.Transformer(folder, max_seq_length=256)
peer = SentenceTransformer(modules=[transformer, models.Pooling(384, pooling_mode="mean"), models.Normalize()], device="cpu")


def pytorch():
    started = time.perf_counter()
    vectors = peer.encode(texts, batch_size=32, convert_to_numpy=True)
    return time.perf_counter() - started, vectors


def ours():
    with tempfile.TemporaryDirectory() as work:
        out = work + "/emb.npy"
        command = [flags.binary, "--encoder", "minilm", "--in", flags.lines, "--out", out, "--threads", str(flags.threads)]
        printed = subprocess.run(command, check=True, capture_output=True, text=True, cwd=root).stdout
        return float(re.search(r"sentences, ([0-9.]+) s", printed).group(1)), numpy.load(out)


def onnx_session():
    """The same weights exported to ONNX, run without padding beyond the longest text of a batch of 32 texts sorted by length."""
    import onnxruntime

    class Encoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bert = transformer.auto_model

        def forward(self, ids, mask):
            hidden = self.bert(input_ids=ids, attention_mask=mask).last_hidden_state
            weights = mask.unsqueeze(-1).to(hidden.dtype)
            return torch.nn.functional.normalize((hidden * weights).sum(1) / weights.sum(1), dim=1)

    path = tempfile.mkdtemp() + "/minilm.onnx"
    example = (torch.ones(2, 8, dtype=torch.long), torch.ones(2, 8, dtype=torch.long))
    axes = {"ids": {0: "batch", 1: "tokens"}, "mask": {0: "batch", 1: "tokens"}}
    torch.onnx.export(Encoder().eval(), example, path, input_names=["ids", "mask"], output_names=["out"], dynamic_axes=axes, dynamo=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = flags.threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run():
        started = time.perf_counter()
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        vectors = numpy.zeros((len(texts), 384), numpy.float32)
        for at in range(0, len(order), 32):
            part = order[at : at + 32]
            batch = peer.tokenizer([texts[i] for i in part], padding=True, truncation=True, max_length=256, return_tensors="np")
            vectors[part] = session.run(None, {"ids": batch["input_ids"], "mask": batch["attention_mask"]})[0]
        return time.perf_counter() - started, vectors

    return run


programs = {"eas-text MiniLm": ours, "sentence-transformers": pytorch}
try:
    programs["ONNX Runtime"] = onnx_session()
except Exception as reason:  # An exporter or runtime that isn't installed leaves the peer out, and says why.
    print(f"ONNX Runtime left out: {type(reason).__name__}: {str(reason)[:200]}")

seconds = {name: [] for name in programs}
reference = None
for round_ in range(flags.rounds):
    for name, program in programs.items():
        taken, vectors = program()
        seconds[name].append(taken)
        if reference is None:
            reference = vectors
        print(f"round {round_ + 1}: {name:22} {taken:7.2f} s {len(texts) / taken:8.1f}/s  max difference {abs(vectors - reference).max():.1e}", flush=True)

for name in list(programs)[1:]:
    ratios = [theirs / mine for theirs, mine in zip(seconds[name], seconds["eas-text MiniLm"])]
    print(f"eas-text MiniLm is {statistics.median(ratios):.2f} x {name} (median of {len(ratios)} rounds, {min(ratios):.2f} to {max(ratios):.2f})")
