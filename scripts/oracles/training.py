"""Writes the golden values of eas-nn's layers and optimizers, from PyTorch in float64.

python scripts/oracles/training.py crates/nn/tests/golden/training.safetensors

Needs torch and safetensors. Tensors are named `PART|in|NAME` (inputs and weights, weights by eas-nn's names), `PART|out|NAME` (results) and
`PART|grad|NAME` (gradients of the sum of the output times `PART|in|factors`).
"""

import sys

import torch
from safetensors.torch import save_file
from torch import nn

torch.set_default_dtype(torch.float64)
torch.manual_seed(20240502)
OUT = {}


def record(part, module, names, inputs, run):
    """Runs the module on the inputs and stores weights, output and gradients; `names` maps torch's names to eas-nn's."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    leaves = {name: x.clone().requires_grad_() if x.is_floating_point() and name == "x" else x for name, x in inputs.items()}
    out = run(module, **leaves)
    factors = torch.randn_like(out)
    (out * factors).sum().backward()
    OUT[f"{part}|in|factors"] = factors
    OUT[f"{part}|out|out"] = out.detach()
    for name, x in inputs.items():
        OUT[f"{part}|in|{name}"] = x
        if name == "x":
            OUT[f"{part}|grad|x"] = leaves[name].grad
    for name, parameter in module.named_parameters():
        pieces = names(name, parameter.detach()), names(name, parameter.grad)
        for (ours, value), (_, grad) in zip(*pieces):
            OUT[f"{part}|in|{ours}"] = value.clone()
            OUT[f"{part}|grad|{ours}"] = grad.clone()


def attention_names(prefix):
    def names(name, x):
        if name.startswith("in_proj_"):
            kind = name.removeprefix("in_proj_")
            return [(f"{prefix}.{part}.{kind}", piece) for part, piece in zip(("query", "key", "value"), x.chunk(3))]
        return [(f"{prefix}.output.{name.removeprefix('out_proj.')}", x)]

    return names


def layer_names(name, x):
    if name.startswith("self_attn."):
        return attention_names("model.layer.0.attention")(name.removeprefix("self_attn."), x)
    parts = {"linear1": "feed.inner", "linear2": "feed.outer", "norm1": "attention.norm", "norm2": "feed.norm"}
    module, kind = name.split(".")
    return [(f"model.layer.0.{parts[module]}.{kind}", x)]


record("layer_norm", nn.LayerNorm(6), lambda n, x: [(f"norm.{n}", x)], dict(x=torch.randn(4, 6) * 3 + 1), lambda m, x: m(x))

batch_norm = nn.BatchNorm1d(5)
record("batch_norm", batch_norm, lambda n, x: [(f"norm.{n}", x)], dict(x=torch.randn(7, 5) * 2 - 1), lambda m, x: m(x))
OUT["batch_norm|out|running_mean"] = batch_norm.running_mean.clone()
OUT["batch_norm|out|running_var"] = batch_norm.running_var.clone()
batch_norm.eval()
OUT["batch_norm|out|scored"] = batch_norm(OUT["batch_norm|in|x"]).detach()

padding = torch.tensor([[1.0, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0]])
record(
    "attention",
    nn.MultiheadAttention(8, 2, batch_first=True),
    attention_names("attention"),
    dict(x=torch.randn(3, 5, 8), padding=padding),
    lambda m, x, padding: m(x, x, x, key_padding_mask=padding == 0, need_weights=False)[0],
)

record(
    "layer",
    nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, activation="gelu", norm_first=True, batch_first=True),
    layer_names,
    dict(x=torch.randn(3, 5, 8)),
    lambda m, x: m(x),
)

x, y = torch.randn(6, 4), torch.randn(6, 3)
start = dict(weight=torch.randn(3, 4), bias=torch.randn(3))
OUT["optim|in|x"], OUT["optim|in|y"] = x, y
OUT["optim|in|weight"], OUT["optim|in|bias"] = start["weight"], start["bias"]
METHODS = dict(
    sgd=lambda p: torch.optim.SGD(p, lr=0.1),
    momentum=lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    nesterov=lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.8, nesterov=True),
    adam=lambda p: torch.optim.Adam(p, lr=0.1),
    adamw=lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.1),
)
for name, make in METHODS.items():
    weight, bias = (start[k].clone().requires_grad_() for k in ("weight", "bias"))
    optimizer = make([weight, bias])
    # Warm-up over 4 steps, then a cosine to step 12; gradients clipped to norm 0.5.
    warm_up = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: (t + 1) / 4 if t < 4 else 1)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=8)
    schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [warm_up, cosine], milestones=[4])
    norms = []
    for _ in range(12):
        optimizer.zero_grad()
        ((torch.tanh(x @ weight.T + bias) - y) ** 2).mean().backward()
        norms.append(nn.utils.clip_grad_norm_([weight, bias], 0.5).item())
        optimizer.step()
        schedule.step()
    OUT[f"optim|out|{name}.weight"], OUT[f"optim|out|{name}.bias"] = weight.detach(), bias.detach()
    OUT[f"optim|out|{name}.norms"] = torch.tensor(norms)

save_file({name: x.contiguous() for name, x in OUT.items()}, sys.argv[1])
print(f"{len(OUT)} tensors")
