"""Measures the losses here against PyTorch on the CPU, in interleaved rounds on the same inputs.

usage: python benches/peers/losses.py [--threads 2] [--rounds 5] [--batch 8192] [--dim 128] [--bins target/release] [--only NAME]
needs: torch, safetensors, and cargo build --release -p eas-bench

InfoNCE (in-batch, temperature 0.07) is value and gradients by both inputs; batch-hard mining picks, for each of 4,096 rows, the farthest row
of its class and the nearest of another. A round times each side once after one warm-up inside the process; ratios are taken within a round, and
the median over the rounds is reported. Memory is the growth of the peak resident set over the loaded inputs.
"""

import argparse
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

root = pathlib.Path(__file__).resolve().parents[2]
parser = argparse.ArgumentParser()
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--batch", type=int, default=8192)
parser.add_argument("--dim", type=int, default=128)
parser.add_argument("--bins", default=str(root / "target/release"))
parser.add_argument("--only")
parser.add_argument("--peer", help=argparse.SUPPRESS)
parser.add_argument("--file", help=argparse.SUPPRESS)
flags = parser.parse_args()
REPEAT = 2


def resident(field):
    return int(re.search(field + r":\s+(\d+)", open("/proc/self/status").read())[1]) / 1024


def infonce(x):
    a, p = x["anchors"].requires_grad_(), x["positives"].requires_grad_()
    a.grad = p.grad = None
    loss = F.cross_entropy(F.normalize(a) @ F.normalize(p).T / 0.07, torch.arange(len(a)))
    loss.backward()
    return loss.item()


def mine_hard(x):
    e, y = x["anchors"], x["labels"]
    d = torch.cdist(e, e)
    same = y[:, None] == y[None]
    positive = d.masked_fill(~same, -1).fill_diagonal_(-1).argmax(1)
    negative = d.masked_fill(same, float("inf")).argmin(1)
    return float(positive.sum() + negative.sum())


def run_peer():
    torch.set_num_threads(flags.threads)
    x = load_file(flags.file)
    work = {"infonce": infonce, "mine_hard": mine_hard}[flags.peer]
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    before, best = resident("VmRSS"), float("inf")
    for _ in range(REPEAT):
        started = time.perf_counter()
        value = work(x)
        best = min(best, time.perf_counter() - started)
    print(f"{value:.6f}: {best * 1e3:.2f} ms, {resident('VmHWM') - before:.1f} MiB")


def measure(command):
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    value, milliseconds, memory = (float(re.search(p, text)[1]) for p in (r"([\d.]+)\b", r"([\d.]+) ms", r"([\d.]+) MiB"))
    return milliseconds, memory, value


if flags.peer:
    run_peer()
    sys.exit()

generator = torch.Generator().manual_seed(7)
normals = lambda *shape: torch.randn(*shape, generator=generator)
anchors = normals(flags.batch, flags.dim)
folder = tempfile.mkdtemp()
files = {"infonce": f"{folder}/infonce.safetensors", "mine_hard": f"{folder}/mine_hard.safetensors"}
save_file({"anchors": anchors, "positives": anchors + normals(flags.batch, flags.dim)}, files["infonce"])
save_file({"anchors": normals(4096, 128), "labels": torch.arange(4096) % 256}, files["mine_hard"])
ours = {
    "infonce": ["loss_eval", "--loss", "infonce", "--out", f"{folder}/out.safetensors"],
    "mine_hard": ["mine_eval", "--strategy", "hard", "--out", f"{folder}/out.safetensors"],
}
for name, file in files.items():
    if flags.only and flags.only != name:
        continue
    command = [f"{flags.bins}/{ours[name][0]}", *ours[name][1:], "--in", file, "--threads", str(flags.threads), "--repeat", str(REPEAT)]
    peer = [sys.executable, __file__, "--peer", name, "--file", file, "--threads", str(flags.threads)]
    here, there = [], []
    for _ in range(flags.rounds):
        here.append(measure(command))
        there.append(measure(peer))
    ratio = statistics.median(t[0] / h[0] for h, t in zip(here, there))
    memory = statistics.median(h[1] / t[1] for h, t in zip(here, there))
    middle = lambda runs, at: statistics.median(run[at] for run in runs)
    print(f"{name}: here {middle(here, 0):.1f} ms, {middle(here, 1):.0f} MiB; PyTorch {middle(there, 0):.1f} ms, {middle(there, 1):.0f} MiB; "
          f"{ratio:.2f} times as fast, {memory:.2f} of the memory")
