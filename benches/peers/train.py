"""Measures training steps here against PyTorch (eager) on the CPU, in interleaved rounds from the same weights and batch.

usage: python benches/peers/train.py [--threads 2] [--rounds 5] [--bins target/release] [--only transformer|mlp]
needs: torch, safetensors, and cargo build --release -p eas-bench --bin train_step

transformer: two views of 256 texts of 32 tokens, one batch of 512; 4 pre-norm layers of width 256, 4 heads, feed-forward 1,024, exact GELU,
the mean of the tokens; NT-Xent over the 512 views. mlp: 512-256-128 with ReLU on 1,024 pairs; InfoNCE. Forward, loss, backward and AdamW
are one step. PyTorch's side is nn.TransformerEncoderLayer (fused projection of queries, keys and values, scaled_dot_product_attention),
F.normalize, F.cross_entropy and AdamW(fused=True). A round runs each side once in a process of its own, which reports the median of its
steps after one to warm up; ratios are taken within a round, and the median over the rounds is reported. The losses of all steps must agree.
"""

import argparse
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

root = pathlib.Path(__file__).resolve().parents[2]
parser = argparse.ArgumentParser()
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--bins", default=str(root / "target/release"))
parser.add_argument("--only")
parser.add_argument("--verbose", action="store_true", help="print each round")
parser.add_argument("--peer", help=argparse.SUPPRESS)
parser.add_argument("--file", help=argparse.SUPPRESS)
parser.add_argument("--steps", type=int, help=argparse.SUPPRESS)
flags = parser.parse_args()
STEPS = {"transformer": 3, "mlp": 100}


def run_peer():
    import torch
    import torch.nn.functional as F
    from safetensors.torch import load_file

    torch.set_num_threads(flags.threads)
    w = load_file(flags.file)
    first, second = w.pop("batch.first"), w.pop("batch.second")

    class Text(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens, self.positions = torch.nn.Parameter(w["text.tokens"]), torch.nn.Parameter(w["text.positions"])
            layer = lambda: torch.nn.TransformerEncoderLayer(256, 4, 1024, 0.0, F.gelu, batch_first=True, norm_first=True)
            self.layers = torch.nn.ModuleList([layer() for _ in range(4)])
            self.norm = torch.nn.LayerNorm(256)
            with torch.no_grad():
                for i, layer in enumerate(self.layers):
                    name = f"text.layer.{i}"
                    for kind in ("weight", "bias"):
                        of = lambda part: w[f"{name}.{part}.{kind}"]
                        packed = torch.cat([of(f"attention.{part}") for part in ("query", "key", "value")])
                        getattr(layer.self_attn, f"in_proj_{kind}").copy_(packed)
                        getattr(layer.self_attn.out_proj, kind).copy_(of("attention.output"))
                        getattr(layer.norm1, kind).copy_(of("attention.norm"))
                        getattr(layer.norm2, kind).copy_(of("feed.norm"))
                        getattr(layer.linear1, kind).copy_(of("feed.inner"))
                        getattr(layer.linear2, kind).copy_(of("feed.outer"))

        def forward(self, ids):
            x = F.embedding(ids, self.tokens) + self.positions
            for layer in self.layers:
                x = layer(x)
            return self.norm(x).mean(1)

    if flags.peer == "transformer":
        model = Text()
        ids, n = torch.cat([first, second]).long(), len(first)
        target = (torch.arange(2 * n) + n) % (2 * n)
        itself = torch.eye(2 * n, dtype=torch.bool)

        def loss():
            z = F.normalize(model(ids))
            return F.cross_entropy((z @ z.T / 0.1).masked_fill(itself, float("-inf")), target)

    else:
        hidden, head = torch.nn.Linear(512, 256), torch.nn.Linear(256, 128)
        with torch.no_grad():
            for name, layer in (("hidden", hidden), ("head", head)):
                layer.weight.copy_(w[f"mlp.{name}.weight"])
                layer.bias.copy_(w[f"mlp.{name}.bias"])
        model = torch.nn.Sequential(hidden, torch.nn.ReLU(), head)
        target = torch.arange(len(first))

        def loss():
            a, b = F.normalize(model(first)), F.normalize(model(second))
            return F.cross_entropy(a @ b.T / 0.1, target)

    resident = lambda field: int(re.search(field + r":\s+(\d+)", open("/proc/self/status").read())[1]) / 1024
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
    times = []
    for _ in range(flags.steps + 1):
        started = time.perf_counter()
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
        print(f"loss {value.item():.6f}")
        times.append(time.perf_counter() - started)
    print(f"{statistics.median(times[1:]) * 1e3:.2f} ms a step, {resident('VmHWM') - before:.1f} MiB")


def measure(command, environment):
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{command} failed:\n{done.stderr}")
    losses = [float(x) for x in re.findall(r"loss ([\d.]+)", done.stdout)]
    milliseconds, memory = re.search(r"([\d.]+) ms a step, ([\d.]+) MiB", done.stdout).groups()
    return float(milliseconds), float(memory), losses


if flags.peer:
    run_peer()
    sys.exit()

environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_CORETYPE"}
# CANDLE_NUM_THREADS is what .cargo/config.toml sets for programs that cargo runs.
environment |= {"OMP_NUM_THREADS": str(flags.threads), "RAYON_NUM_THREADS": str(flags.threads), "CANDLE_NUM_THREADS": "1"}
folder = tempfile.mkdtemp()
for name, steps in STEPS.items():
    if flags.only and flags.only != name:
        continue
    file = f"{folder}/{name}.safetensors"
    ours = [f"{flags.bins}/train_step", "--work", name]
    subprocess.run([*ours, "--init", file], check=True)
    ours += ["--in", file, "--threads", str(flags.threads), "--steps", str(steps)]
    peer = [sys.executable, __file__, "--peer", name, "--file", file, "--threads", str(flags.threads), "--steps", str(steps)]
    here, there = [], []
    for _ in range(flags.rounds):
        here.append(measure(ours, environment))
        there.append(measure(peer, environment))
        if flags.verbose:
            print(f"  {here[-1][0]:.1f} ms, PyTorch {there[-1][0]:.1f} ms", flush=True)
    apart = max(abs(a - b) / b for a, b in zip(here[0][2], there[0][2]))
    if apart > 2e-3 or any(run[2] != here[0][2] for run in here):
        sys.exit(f"{name}: the losses differ by {apart:.1e} or between runs: {here[0][2]} {there[0][2]}")
    ratio = statistics.median(t[0] / h[0] for h, t in zip(here, there))
    middle = lambda runs, at: statistics.median(run[at] for run in runs)
    print(f"{name}: here {middle(here, 0):.1f} ms, {middle(here, 1):.0f} MiB; PyTorch {middle(there, 0):.1f} ms, {middle(there, 1):.0f} MiB; "
          f"{ratio:.2f} times as fast; losses within {apart:.0e}")
