"""Writes the golden values of eas-losses: the value and the gradients of every loss on small inputs, from PyTorch's autograd in float64.

python scripts/oracles/losses.py crates/losses/tests/golden/losses.safetensors

Needs torch, safetensors and pytorch-metric-learning. Where pytorch-metric-learning has a loss, its value is the reference and the plain formula
here must agree with it; the others are plain formulas. Tensors are named `set|SET|TENSOR` and
`case|LOSS|SET|param=value,...|loss` or `...|grad_TENSOR`.
"""

import math
import sys

import numpy as np
import torch
import torch.nn.functional as F
from pytorch_metric_learning import distances, losses, miners, reducers
from safetensors.torch import save_file

torch.set_default_dtype(torch.float64)
rng = np.random.default_rng(20240501)
SETS, OUT = {}, {}
DIFFERENTIABLE = ["anchors", "positives", "negatives", "weights", "support", "scores", "logits"]


def normals(*shape, scale=1.0):
    return torch.tensor(rng.normal(size=shape) * scale)


A = torch.tensor([[1, 0.5, -0.25], [-0.5, 1, 0.75], [0.25, -1, 0.5], [0.75, 0.25, 1]])
P = torch.tensor([[0.75, 0.5, 0], [-0.25, 0.75, 1], [0.5, -0.75, 0.25], [1, -0.25, 0.75]])
N = torch.tensor([[[0.5, 1, 0.25], [-1, 0.25, 0.5]], [[-0.75, 0.25, -0.5], [0.75, 0.5, 1]],
                  [[1, 0.75, -0.5], [-0.25, -0.5, 1]], [[0.25, 0.5, 0.75], [-0.5, -1, 0.25]]])
E = torch.tensor([[1.125, 0.625], [2.25, 0.375], [0.875, 1.125], [3.125, 0.875], [3.875, 1.875], [2.75, 2.625], [0.25, 3.375], [1.875, 3.875]])
SETS["tiny"] = dict(anchors=A, positives=P, negatives=N, times=torch.tensor([0.0, 10, 30, 90]), queue=N.reshape(-1, 3)[:6])
SETS["first"] = dict(anchors=A, positives=P, negatives=N[:, :1])
SETS["tree"] = dict(anchors=torch.cat([A, P]), labels=torch.tensor([0, 1, 2, 3, 0, 1, 2, 3]), parents=torch.tensor([0, 0, 1, 1, 0, 0, 1, 1]))
SETS["labelled"] = dict(anchors=E, labels=torch.tensor([0, 0, 0, 1, 1, 1, 2, 2]), weights=torch.tensor([[1.0, 0.5], [1.5, 1.0], [0.25, 2.0]]))
batch, dim = 10, 6
anchors = normals(batch, dim)
labels = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 0, 3])
SETS["random"] = dict(
    anchors=anchors, positives=anchors + 0.6 * normals(batch, dim), negatives=normals(batch, 3, dim), labels=labels, weights=normals(4, dim),
    queue=normals(7, dim), queue_labels=torch.tensor([3, 2, 1, 0, 0, 1, 2]), support=normals(9, dim), support_labels=torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, 3]),
    logits=normals(batch, 4), times=torch.tensor(rng.uniform(0, 100, batch)),
)
SETS["single"] = dict(anchors=anchors, positives=SETS["random"]["positives"], negatives=normals(batch, 1, dim))
SETS["ranked"] = dict(scores=torch.tensor([0.2, 0.9, 0.4, 0.7, 0.1]), labels=torch.tensor([3.0, 1, 2, 0, 1]))
SETS["graded"] = dict(anchors=anchors, positives=SETS["random"]["positives"], labels=torch.tensor(rng.uniform(-1, 1, batch)))


def record(loss, set_name, formula, reference=None, **params):
    """Evaluates `formula(inputs)`, and `reference(inputs)` beside it, and keeps loss and gradients."""
    def evaluate(function):
        inputs = {k: v.clone().requires_grad_(k in DIFFERENTIABLE) for k, v in SETS[set_name].items()}
        value = function(inputs)
        if value.requires_grad:
            value.backward()
        return value.detach(), {k: v.grad for k, v in inputs.items() if v.grad is not None}
    value, gradients = evaluate(formula)
    if reference is not None:
        other, other_gradients = evaluate(reference)
        assert abs(value - other) <= 1e-9 * max(1, abs(value)), (loss, set_name, params, value, other)
        for k, g in gradients.items():
            assert torch.allclose(g, other_gradients[k], rtol=1e-7, atol=1e-9), (loss, set_name, params, k)
    key = f"case|{loss}|{set_name}|" + ",".join(f"{k}={v}" for k, v in params.items())
    OUT[key + "|loss"] = value.reshape(1)
    for k, g in gradients.items():
        OUT[f"{key}|grad_{k}"] = g.contiguous()


def n(x):
    return F.normalize(x, dim=-1)


def ce(logits, target):
    return F.cross_entropy(logits, target)


def eye(size):
    return torch.arange(size)


def infonce(i, t):
    return ce(n(i["anchors"]) @ n(i["positives"]).T / t, eye(len(i["anchors"])))


def off(x):
    return x.masked_fill(torch.eye(len(x), dtype=torch.bool), -math.inf)


def own(i):
    return torch.einsum("bd,bkd->bk", n(i["anchors"]), n(i["negatives"]))


def nt_xent(i, t):
    z = n(torch.cat([i["anchors"], i["positives"]]))
    b = len(i["anchors"])
    return ce(off(z @ z.T / t), torch.cat([eye(b) + b, eye(b)]))


def two_view(i, t):
    a, p = n(i["anchors"]), n(i["positives"])
    b = len(a)
    logits = torch.cat([off(a @ a.T / t), a @ p.T / t], 1)
    return ce(logits, eye(b) + b)


def sup_con(x, labels, t, candidates=None, candidate_labels=None):
    z = n(x)
    c = z if candidates is None else torch.cat([z, n(candidates).detach()])
    cl = labels if candidates is None else torch.cat([labels, candidate_labels])
    total, rows = 0, 0
    for i in range(len(x)):
        logits = torch.stack([z[i] @ c[j] / t for j in range(len(c)) if j != i])
        same = torch.tensor([bool(cl[j] == labels[i]) for j in range(len(c)) if j != i])
        if same.any():
            total = total - torch.log_softmax(logits, 0)[same].mean()
            rows += 1
    return total / rows


def graded(x, leaves, parents, t, level):
    z, total, rows = n(x), 0, 0
    for i in range(len(x)):
        others = [j for j in range(len(x)) if j != i]
        logp = torch.log_softmax(torch.stack([z[i] @ z[j] / t for j in others]), 0)
        w = torch.tensor([1.0 if leaves[j] == leaves[i] else 0.5 if parents[j] == parents[i] else 0.0 for j in others])
        if level:
            w = sum(value * (w == value) / (w == value).sum() for value in (1.0, 0.5) if (w == value).any())
        if w.sum() > 0:
            total = total - (w * logp).sum() / w.sum()
            rows += 1
    return total / rows


def distance(kind, x, y):
    if kind == "cosine":
        return 1 - (n(x) * n(y)).sum(-1)
    square = ((x - y) ** 2).sum(-1)
    return square if kind == "squared" else torch.sqrt(square)


def maybe(normalize, x):
    return n(x) if normalize else x


def hinge(positive, negative, margin, soft):
    return F.softplus(positive - negative) if soft else F.relu(positive - negative + margin)


def triplet(i, margin=1.0, distance_kind="euclidean", normalize=False, soft=False):
    a, p, neg = (maybe(normalize, i[k]) for k in ("anchors", "positives", "negatives"))
    far = distance(distance_kind, a[:, None], neg).min(1).values
    return hinge(distance(distance_kind, a, p), far, margin, soft).mean()


def mined(i, strategy, margin=1.0, kind="euclidean", normalize=False, soft=False, active=False):
    x, labels = maybe(normalize, i["anchors"]), i["labels"].tolist()
    rows = range(len(labels))
    d = {(j, k): distance(kind, x[j], x[k]) for j in rows for k in rows if j != k}
    costs = []
    for a in rows:
        pos = [j for j in rows if j != a and labels[j] == labels[a]]
        neg = [j for j in rows if labels[j] != labels[a]]
        nearest = lambda js: min(js, key=lambda j: d[a, j].item(), default=None)
        if strategy == "hard":
            pairs = [(max(pos, key=lambda j: d[a, j].item()), nearest(neg))] if pos else []
        elif strategy == "all":
            pairs = [(p, j) for p in pos for j in neg]
        else:
            pairs = []
            for p in pos:
                inside = [j for j in neg if d[a, p] < d[a, j] < d[a, p] + margin]
                beyond = [j for j in neg if d[a, j] > d[a, p]]
                pick = {
                    "hardest_negative": lambda: nearest(neg), "skip": lambda: nearest(inside), "hardest": lambda: nearest(inside or neg),
                    "facenet": lambda: nearest(beyond) if beyond else max(neg, key=lambda j: d[a, j].item()),
                    "first": lambda: inside[0] if inside else nearest(neg),
                }[strategy]()
                if pick is not None:
                    pairs.append((p, pick))
        costs += [hinge(d[a, p], d[a, j], margin, soft) for p, j in pairs]
    costs = torch.stack(costs)
    return costs.sum() / max(1, int((costs > 0).sum())) if active else costs.mean()


def contrastive_margin(i, margin, normalize):
    a, p, neg = (maybe(normalize, i[k]) for k in ("anchors", "positives", "negatives"))
    same = distance("squared", a, p)
    different = F.relu(margin - distance("euclidean", a[:, None], neg)).flatten() ** 2
    return 0.5 * torch.cat([same, different]).mean()


def contrastive_pairs(i, margin, normalize):
    x, y = maybe(normalize, i["anchors"]), i["labels"]
    pairs = [(j, k) for j in range(len(x)) for k in range(j + 1, len(x))]
    costs = [distance("squared", x[j], x[k]) if y[j] == y[k] else F.relu(margin - distance("euclidean", x[j], x[k])) ** 2 for j, k in pairs]
    return 0.5 * torch.stack(costs).mean()


def masks(y):
    same = y[:, None] == y[None]
    return same & ~torch.eye(len(y), dtype=torch.bool), ~same


def lse1(x, keep):
    return torch.logsumexp(torch.cat([torch.zeros(len(x), 1), x.masked_fill(~keep, -math.inf)], 1), 1)


def multi_similarity(i, alpha=2.0, beta=50.0, base=0.5, epsilon=None):
    z = n(i["anchors"])
    s = z @ z.T
    pos, neg = masks(i["labels"])
    if epsilon is not None:
        least = s.masked_fill(~pos, math.inf).min(1, keepdim=True).values
        most = s.masked_fill(~neg, -math.inf).max(1, keepdim=True).values
        pos, neg = pos & (s < most + epsilon), neg & (s > least - epsilon)
    return (lse1(-alpha * (s - base), pos) / alpha + lse1(beta * (s - base), neg) / beta).mean()


def circle(i, m=0.4, gamma=80.0):
    z = n(i["anchors"])
    s = z @ z.T
    pos, neg = masks(i["labels"])
    ap, an = F.relu(1 + m - s.detach()), F.relu(s.detach() + m)
    lp = torch.logsumexp((-gamma * ap * (s - 1 + m)).masked_fill(~pos, -math.inf), 1)
    ln = torch.logsumexp((gamma * an * (s - m)).masked_fill(~neg, -math.inf), 1)
    both = pos.any(1) & neg.any(1)
    return F.softplus((lp + ln)[both]).mean()


def angular_terms(a, p, x, t):
    return 4 * t * (a + p) @ x.T - 2 * (1 + t) * (a * p).sum(-1, keepdim=True)


def angular(i, alpha):
    a, p = n(i["anchors"]), n(i["positives"])
    f = angular_terms(a, p, p, math.tan(math.radians(alpha)) ** 2)
    return lse1(f, ~torch.eye(len(a), dtype=torch.bool)).mean()


def angular_labels(i, alpha):
    z, y = n(i["anchors"]), i["labels"]
    a, p = torch.where(masks(y)[0])
    f = angular_terms(z[a], z[p], z, math.tan(math.radians(alpha)) ** 2)
    return lse1(f, y[a][:, None] != y[None]).mean()


def angular_triplet(i, alpha, hinged):
    a, p, x = n(i["anchors"]), n(i["positives"]), n(i["negatives"][:, 0])
    t = math.tan(math.radians(alpha)) ** 2
    if hinged:
        return F.relu(((a - p) ** 2).sum(-1) - 4 * t * ((x - (a + p) / 2) ** 2).sum(-1)).mean()
    return F.softplus(4 * t * ((a + p) * x).sum(-1) - 2 * (1 + t) * (a * p).sum(-1)).mean()


def angular_margin(i, alpha):
    angle = lambda x, y: torch.acos((n(x) * n(y)).sum(-1))
    gap = angle(i["anchors"], i["positives"]) - angle(i["anchors"], i["negatives"][:, 0])
    return F.relu(gap + math.radians(alpha)).mean()


def margin_softmax(i, margin, scale, angle):
    cosine = n(i["anchors"]) @ n(i["weights"]).T
    rows = eye(len(cosine))
    true = cosine[rows, i["labels"]]
    if angle:
        theta = torch.acos(true)
        turned = torch.where(theta <= math.pi - margin, torch.cos(theta + margin), true - margin * math.sin(margin))
    else:
        turned = true - margin
    return ce(scale * cosine.index_put((rows, i["labels"]), turned), i["labels"])


def proxy_nca(i, scale, own_in_sum):
    d = ((n(i["anchors"])[:, None] - n(i["weights"])[None]) ** 2).sum(-1)
    if own_in_sum:
        return ce(-scale * d, i["labels"])
    hide = F.one_hot(i["labels"], d.shape[1]).bool()
    return (scale * d.gather(1, i["labels"][:, None])[:, 0] + torch.logsumexp((-scale * d).masked_fill(hide, -math.inf), 1)).mean()


def vicreg(i, inv=25.0, var=25.0, cov=1.0, eps=1e-4):
    x, y = i["anchors"], i["positives"]
    loss = inv * ((x - y) ** 2).mean()
    for v in (x, y):
        c = torch.cov(v.T)
        loss = loss + var / 2 * F.relu(1 - torch.sqrt(v.var(0) + eps)).mean()
        loss = loss + cov * (c - torch.diag(torch.diag(c))).pow(2).sum() / v.shape[1]
    return loss


def barlow(i, lam=0.0051, eps=1e-5):
    standard = lambda x: F.batch_norm(x, None, None, training=True, eps=eps)
    c = standard(i["anchors"]).T @ standard(i["positives"]) / len(i["anchors"])
    on = torch.diag(c)
    return ((on - 1) ** 2).sum() + lam * ((c ** 2).sum() - (on ** 2).sum())


def uniformity(x, t):
    return torch.pdist(n(x)).pow(2).mul(-t).exp().mean().log()


def alignment(i, alpha):
    return (n(i["anchors"]) - n(i["positives"])).norm(dim=1).pow(alpha).mean()


def debiased(i, t, tau_plus, beta):
    a, p = n(i["anchors"]), n(i["positives"])
    z, b = torch.cat([a, p]), len(a)
    s = z @ z.T / t
    keep = ~torch.eye(2 * b, dtype=torch.bool) & ~torch.eye(2 * b, dtype=torch.bool).roll(b, 1)
    e = s.exp()[keep].reshape(2 * b, -1)
    count = 2 * b - 2
    g = (torch.cat([(a * p).sum(-1)] * 2) / t).exp()
    r = e.sum(-1) if beta == 0 else (e ** (1 + beta)).sum(-1) / (e ** beta).mean(-1)
    negatives = torch.clamp((r - tau_plus * count * g) / (1 - tau_plus), min=count * math.exp(-1 / t))
    return -torch.log(g / (g + negatives)).mean()


def hard_in_batch(i, t, k, threshold):
    a, p = n(i["anchors"]), n(i["positives"])
    b, total = len(a), 0
    c = torch.cat([a, p])
    for j in range(b):
        s = torch.stack([a[j] @ c[m] for m in range(2 * b) if m not in (j, j + b)])
        eligible = s[s > threshold]
        hard = (eligible if len(eligible) else s).sort(descending=True).values[:k]
        total = total + ce(torch.cat([(a[j] @ p[j])[None], hard])[None] / t, torch.tensor([0]))
    return total / b


def prototypical(i, scale):
    centres = torch.stack([i["support"][i["support_labels"] == c].mean(0) for c in range(int(i["support_labels"].max()) + 1)])
    return ce(-scale * ((i["anchors"][:, None] - centres[None]) ** 2).sum(-1), i["labels"])


def ranked_pairs(i):
    s, y = i["scores"], i["labels"]
    j, k = torch.where(y[:, None] > y[None])
    return s[j] - s[k], j, k


def lambdarank(i):
    gaps, j, k = ranked_pairs(i)
    y = i["labels"]
    discount = 1 / torch.log2(torch.arange(len(y)) + 2.0)
    place = torch.empty(len(y))
    place[i["scores"].argsort(descending=True)] = discount
    ideal = ((2 ** y.sort(descending=True).values - 1) * discount).sum()
    weight = ((2 ** y[j] - 2 ** y[k]) * (place[j] - place[k])).abs() / ideal
    return (weight * F.softplus(-gaps)).sum()


def pml(loss, miner=None, views=False):
    """A loss of pytorch-metric-learning on labelled anchors, or on both views labelled by row."""
    def evaluate(i):
        x, y = i["anchors"], i.get("labels")
        if views:
            y = eye(len(x)).repeat(2)
            x = torch.cat([x, i["positives"]])
        return loss(x, y, miner(x, y)) if miner else loss(x, y)
    return evaluate


def pml_proxy(make):
    """One with class vectors: they are moved into the loss as its parameter, whose gradient then is the input's."""
    def evaluate(i):
        weights = i["weights"]
        loss = make(*weights.shape)
        name = "W" if hasattr(loss, "W") else "proxies"
        del loss._parameters[name]
        object.__setattr__(loss, name, weights.T if name == "W" else weights)
        loss.cast_types = lambda *_: None
        return loss(i["anchors"], i["labels"])
    return evaluate


LP = distances.LpDistance
for t in (0.05, 0.07, 0.1, 0.5, 1.0):
    for s in ("tiny", "random"):
        record("infonce", s, lambda i: infonce(i, t), temperature=t)
        record("infonce_symmetric", s, lambda i: (infonce(i, t) + infonce(dict(anchors=i["positives"], positives=i["anchors"]), t)) / 2, temperature=t)
        record("nt_xent", s, lambda i: nt_xent(i, t), pml(losses.NTXentLoss(temperature=t), views=True), temperature=t)
        if t in (0.07, 0.5):
            record("infonce_two_view", s, lambda i: two_view(i, t), temperature=t)
            record("infonce_explicit", s, lambda i: ce(torch.cat([(n(i["anchors"]) * n(i["positives"])).sum(-1, keepdim=True), own(i)], 1) / t, eye(len(i["anchors"])) * 0), temperature=t)
            record("infonce_own", s, lambda i: ce(torch.cat([n(i["anchors"]) @ n(i["positives"]).T, own(i)], 1) / t, eye(len(i["anchors"]))), temperature=t)
            pool = lambda i: torch.cat([n(i["positives"]), n(i["negatives"]).flatten(0, 1)])
            record("infonce_pool", s, lambda i: ce(n(i["anchors"]) @ pool(i).T / t, eye(len(i["anchors"]))), temperature=t)
            record("infonce_queue", s, lambda i: ce(torch.cat([(n(i["anchors"]) * n(i["positives"])).sum(-1, keepdim=True), n(i["anchors"]) @ n(i["queue"]).T], 1) / t, eye(len(i["anchors"])) * 0), temperature=t)
            for k, threshold in ((1, 0.5), (2, 0.5), (6, 0.5), (6, -2)):
                record("hard_in_batch", s, lambda i: hard_in_batch(i, t, k, threshold), temperature=t, k=k, threshold=threshold)
    if t in (0.07, 0.1, 0.5):
        for s in ("labelled", "random"):
            record("supcon", s, lambda i: sup_con(i["anchors"], i["labels"], t), pml(losses.SupConLoss(temperature=t)), temperature=t)
        record("cross_batch_memory", "random", lambda i: sup_con(i["anchors"], i["labels"], t, i["queue"], i["queue_labels"]), temperature=t)
        for averaging in ("level", "pair"):
            record("weighted_supcon", "tree", lambda i: graded(i["anchors"], i["labels"], i["parents"], t, averaging == "level"), temperature=t, averaging=averaging)
for s in ("tiny", "random"):
    for tau_plus, beta in ((0, 0), (0.01, 0), (0.1, 0), (0.2, 0), (0.1, 0.5), (0.2, 1)):
        record("debiased", s, lambda i: debiased(i, 0.5, tau_plus, beta), pml(losses.NTXentLoss(temperature=0.5), views=True) if tau_plus == beta == 0 else None, tau_plus=tau_plus, beta=beta)
    pooled = lambda i, scale: ce(scale * n(i["anchors"]) @ torch.cat([n(i["positives"]), n(i["negatives"]).flatten(0, 1)]).T, eye(len(i["anchors"])))
    record("mnrl", s, lambda i: pooled(i, 20), scale=20)
    for l2 in (0, 0.25):
        record("n_pairs", s, lambda i: ce(i["anchors"] @ i["positives"].T, eye(len(i["anchors"]))) + l2 / 4 * ((i["anchors"] ** 2).sum(-1) + (i["positives"] ** 2).sum(-1)).mean(), l2_reg=l2)
    record("temporal", s, lambda i: ((n(i["anchors"]) @ n(i["anchors"]).T - 2 ** (-(i["times"][:, None] - i["times"][None]).abs() / 30)) ** 2)[~torch.eye(len(i["anchors"]), dtype=torch.bool)].mean(), half_life=30)
    record("vicreg", s, vicreg, lambda i: losses.VICRegLoss()(i["anchors"], ref_emb=i["positives"]))
    record("vicreg", s, lambda i: vicreg(i, 10, 5, 2, 1e-3), invariance=10, variance=5, covariance=2, epsilon=1e-3)
    record("barlow_twins", s, barlow)
    record("barlow_twins", s, lambda i: barlow(i, 0.02, 1e-3), **{"lambda": 0.02, "epsilon": 1e-3})
    record("matryoshka_infonce", s, lambda i: sum(w * infonce({k: i[k][:, :d] for k in ("anchors", "positives")}, 0.1) for d, w in ((2, 0.5), (3, 1))), temperature=0.1, dims="2;3", weights="0.5;1")
    for alpha in (1, 2, 3):
        record("alignment", s, lambda i: alignment(i, alpha), alpha=alpha)
    for t in (1, 2):
        record("uniformity", s, lambda i: uniformity(i["anchors"], t), t=t)
    record("align_uniform", s, lambda i: alignment(i, 2) + 0.5 * (uniformity(i["anchors"], 2) + uniformity(i["positives"], 2)) / 2, **{"lambda": 0.5})
    record("diversity", s, lambda i: (n(i["anchors"]) @ n(i["anchors"]).T)[~torch.eye(len(i["anchors"]), dtype=torch.bool)].mean())
    record("mse", s, lambda i: F.mse_loss(i["anchors"], i["positives"]))
    for alpha in (30, 45):
        record("angular", s, lambda i: angular(i, alpha), alpha=alpha)
for s in ("tiny", "first", "random"):
    for margin in (0.2, 0.5, 1.0):
        for kind in ("euclidean", "squared", "cosine"):
            for normalize in (False, True):
                if (kind, normalize) != ("cosine", True):
                    record("triplet_margin", s, lambda i: triplet(i, margin, kind, normalize), margin=margin, distance=kind, normalize=str(normalize).lower())
        for normalize in (False, True):
            record("contrastive_margin", s, lambda i: contrastive_margin(i, margin, normalize), margin=margin, normalize=str(normalize).lower())
    record("triplet_margin", s, lambda i: triplet(i, soft=True), soft="true")
for s in ("first", "single"):
    for alpha in (30, 45, 50):
        record("angular_triplet", s, lambda i: angular_triplet(i, alpha, False), alpha=alpha)
        record("angular_triplet", s, lambda i: angular_triplet(i, alpha, True), alpha=alpha, hinge="true")
        record("angular_margin", s, lambda i: angular_margin(i, alpha), alpha=alpha)
for s in ("labelled", "random"):
    for margin in (0.5, 1.0):
        for kind, normalize in (("euclidean", False), ("euclidean", True), ("cosine", False)):
            options = dict(margin=margin, distance=kind, normalize=str(normalize).lower())
            d = distances.CosineSimilarity() if kind == "cosine" else LP(normalize_embeddings=normalize)
            every = losses.TripletMarginLoss(margin=margin, distance=d, reducer=reducers.MeanReducer())
            active = losses.TripletMarginLoss(margin=margin, distance=d)
            record("triplet_all", s, lambda i: mined(i, "all", margin, kind, normalize), pml(every), **options)
            record("triplet_all", s, lambda i: mined(i, "all", margin, kind, normalize, active=True), pml(active), **options, reduction="active")
            record("triplet_hard", s, lambda i: mined(i, "hard", margin, kind, normalize), pml(every, miners.BatchHardMiner(distance=d)), **options)
            record("triplet_hardest_negative", s, lambda i: mined(i, "hardest_negative", margin, kind, normalize), **options)
            for fallback in ("skip", "hardest", "facenet", "first"):
                try:
                    record("triplet_semi_hard", s, lambda i: mined(i, fallback, margin, kind, normalize), **options, fallback=fallback)
                except RuntimeError:
                    pass  # no triplet in the window
            record("contrastive_pairs", s, lambda i: contrastive_pairs(i, margin, normalize), margin=margin, normalize=str(normalize).lower())
    record("triplet_hard", s, lambda i: mined(i, "hard", soft=True), soft="true")
    record("multi_similarity", s, multi_similarity, pml(losses.MultiSimilarityLoss()))
    record("multi_similarity", s, lambda i: multi_similarity(i, 1, 10, 0.3), pml(losses.MultiSimilarityLoss(1, 10, 0.3)), alpha=1, beta=10, base=0.3)
    record("multi_similarity", s, lambda i: multi_similarity(i, epsilon=0.1), pml(losses.MultiSimilarityLoss(), miners.MultiSimilarityMiner(epsilon=0.1)), epsilon=0.1)
    record("circle", s, circle, pml(losses.CircleLoss()))
    record("circle", s, lambda i: circle(i, 0.25, 10), pml(losses.CircleLoss(0.25, 10)), m=0.25, gamma=10)
    for alpha in (40, 45):
        record("angular_labels", s, lambda i: angular_labels(i, alpha), # PyTorch Metric Learning leaves the negatives' lengths as they are.
               lambda i: losses.AngularLoss(alpha)(n(i["anchors"]), i["labels"]), alpha=alpha)
    for margin, scale in ((0.5, 64), (0.3, 8), (2.0, 4)):
        record("arcface", s, lambda i: margin_softmax(i, margin, scale, True), pml_proxy(lambda c, d: losses.ArcFaceLoss(c, d, math.degrees(margin), scale)), margin=margin, scale=scale)
    for margin, scale in ((0.35, 64), (0.2, 8)):
        record("cosface", s, lambda i: margin_softmax(i, margin, scale, False), pml_proxy(lambda c, d: losses.CosFaceLoss(c, d, margin=margin, scale=scale)), margin=margin, scale=scale)
    for scale in (1, 8):
        record("proxy_nca", s, lambda i: proxy_nca(i, scale, True), pml_proxy(lambda c, d: losses.ProxyNCALoss(c, d, softmax_scale=scale)), scale=scale)
        record("proxy_nca", s, lambda i: proxy_nca(i, scale, False), scale=scale, own_in_sum="false")
record("softmax", "random", lambda i: ce(i["logits"], i["labels"]))
for scale in (1, 5):
    record("prototypical", "random", lambda i: prototypical(i, scale), scale=scale)
record("cosine_regression", "graded", lambda i: F.mse_loss(F.cosine_similarity(i["anchors"], i["positives"]), i["labels"]))
record("pairwise_hinge", "ranked", lambda i: F.relu(1 - ranked_pairs(i)[0]).mean())
record("ranknet", "ranked", lambda i: F.softplus(-ranked_pairs(i)[0]).mean())
record("lambdarank", "ranked", lambdarank)

for set_name, tensors in SETS.items():
    for name, tensor in tensors.items():
        OUT[f"set|{set_name}|{name}"] = tensor.clone().contiguous()
save_file(OUT, sys.argv[1])
print(sum(k.endswith("|loss") for k in OUT), "cases of", len({k.split("|")[1] for k in OUT if k.startswith("case")}), "losses")
