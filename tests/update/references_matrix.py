"""The methods for weight matrices once more, one matrix at a time, with no line shared with sooner.

Each reference is a function ``(parameters, gradients, memory, step, **hyper-parameters)`` as in `references`; random
projections and fitted coefficients, which the papers leave open, are passed in.
"""

import math

import torch


def exact_muon(parameters, gradients, memory, step, lr, momentum=0.95, nesterov=True, weight_decay=0.0):
    for p, g, kept in zip(parameters, gradients, memory, strict=True):
        kept["b"] = momentum * kept.get("b", 0) + (1 - momentum) * g
        d = (1 - momentum) * g + momentum * kept["b"] if nesterov else kept["b"]
        u, _, vt = torch.linalg.svd(d.reshape(len(d), -1), full_matrices=False)
        rows, columns = u.shape[0], vt.shape[1]
        p.mul_(1 - lr * weight_decay)
        p.sub_((lr * max(1, rows / columns) ** 0.5 * u @ vt).reshape(p.shape))


def apollo(
    parameters,
    gradients,
    memory,
    step,
    lr,
    draw,
    per_channel=True,
    scale=1.0,
    scale_front=False,
    interval=200,
    betas=(0.9, 0.999),
    eps=1e-6,
    weight_decay=0.0,
):
    """`draw(rows, columns, period)` gives the projection ``[r, shorter side]``."""
    b1, b2 = betas
    for p, g, kept in zip(parameters, gradients, memory, strict=True):
        full = g.reshape(len(g), -1)
        m, n = full.shape
        if (step - 1) % interval == 0:
            kept["projection"] = draw(m, n, (step - 1) // interval)
        low = full @ kept["projection"].T if m >= n else (full.T @ kept["projection"].T).T
        kept["m"] = b1 * kept.get("m", 0) + (1 - b1) * low
        kept["v"] = b2 * kept.get("v", 0) + (1 - b2) * low**2
        normal = kept["m"] / (kept["v"] ** 0.5 + eps)
        if not per_channel:
            update = full * (normal.norm() / (low.norm() + 1e-8))
        elif m >= n:
            update = torch.stack([full[j] * (normal[j].norm() / (low[j].norm() + 1e-8)) for j in range(m)])
        else:
            columns = [full[:, j] * (normal[:, j].norm() / (low[:, j].norm() + 1e-8)) for j in range(n)]
            update = torch.stack(columns, dim=1)
        if scale_front:
            update = update * scale**0.5
        if "norm" in kept:
            update = update / (max(float(update.norm() / (kept["norm"] + 1e-8)), 1.01) / 1.01)
        kept["norm"] = update.norm()
        if not scale_front:
            update = update * scale**0.5
        p.sub_((lr * math.sqrt(1 - b2**step) / (1 - b1**step) * update).reshape(p.shape))
        p.sub_(lr * weight_decay * p)


def root(
    parameters,
    gradients,
    memory,
    step,
    lr,
    coefficients,
    momentum=0.95,
    nesterov=True,
    quantile=0.9,
    iterations=5,
    weight_decay=0.1,
):
    """`coefficients(shorter, longer side)` gives (a, b, c)."""
    for p, g, kept in zip(parameters, gradients, memory, strict=True):
        kept["M"] = momentum * kept.get("M", 0) + g
        z = g + momentum * kept["M"] if nesterov else kept["M"]
        z = z.reshape(len(z), -1)
        threshold = torch.quantile(z.abs().flatten(), torch.tensor(quantile, dtype=z.dtype)) + 1e-9
        outliers = z.sign() * torch.relu(z.abs() - threshold)
        rest = z - outliers if quantile < 1 else z
        rows, columns = rest.shape
        a, b, c = coefficients(min(rows, columns), max(rows, columns))
        x = rest.T if rows > columns else rest
        x = x / (x.pow(2).sum().sqrt() + 1e-7)
        for _ in range(iterations):
            gram = x @ x.T
            x = a * x + (b * gram + c * (gram @ gram)) @ x
        x = x.T if rows > columns else x
        p.mul_(1 - lr * weight_decay)
        p.sub_((lr * 0.2 * math.sqrt(max(rows, columns)) * x).reshape(p.shape))


def newton_schulz(matrix, iterations):
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / (x.pow(2).sum().sqrt() + 1e-7)
    for _ in range(iterations):
        gram = x @ x.T
        x = 3.4445 * x - (4.7750 * gram - 2.0315 * (gram @ gram)) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


def averaged(kept, g, momentum, nesterov):
    kept["b"] = momentum * kept.get("b", 0) + (1 - momentum) * g
    d = (1 - momentum) * g + momentum * kept["b"] if nesterov else kept["b"]
    return d.reshape(len(d), -1)


def normuon(
    parameters, gradients, memory, step, lr, momentum=0.95, nesterov=True, beta2=0.95, weight_decay=0.0, iterations=5,
    eps=1e-10, adjust="original",
):  # fmt: skip
    for p, g, kept in zip(parameters, gradients, memory, strict=True):
        o = newton_schulz(averaged(kept, g, momentum, nesterov), iterations)
        rows, columns = o.shape
        kept["v"] = beta2 * kept.get("v", torch.zeros(rows, dtype=o.dtype)) + (1 - beta2) * (o**2).sum(1) / columns
        even = torch.stack([o[i] / (math.sqrt(kept["v"][i]) + eps) for i in range(rows)])
        if adjust == "original":
            length = math.sqrt(max(1, rows / columns)) * o.pow(2).sum().sqrt()
        else:
            length = 0.2 * math.sqrt(rows * columns)
        p.mul_(1 - lr * weight_decay)
        p.sub_((lr * length / (even.pow(2).sum().sqrt() + 1e-10) * even).reshape(p.shape))


def adamuon(
    parameters, gradients, memory, step, lr, momentum=0.95, nesterov=True, beta2=0.95, weight_decay=0.1, iterations=5,
    eps=1e-8,
):  # fmt: skip
    for p, g, kept in zip(parameters, gradients, memory, strict=True):
        d = averaged(kept, g, momentum, nesterov)
        o = newton_schulz((d > 0).to(d.dtype) - (d < 0).to(d.dtype), iterations)
        kept["v"] = beta2 * kept.get("v", 0) + (1 - beta2) * o**2
        even = o / (kept["v"] ** 0.5 + eps)
        length = 0.2 * math.sqrt(o.numel())
        p.mul_(1 - lr * weight_decay)
        p.sub_((lr * length / (even.pow(2).sum().sqrt() + eps) * even).reshape(p.shape))
