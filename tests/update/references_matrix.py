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


def soap(
    parameters,
    gradients,
    memory,
    step,
    lr,
    betas=(0.95, 0.95),
    shampoo_beta=None,
    interval=10,
    eps=1e-8,
    weight_decay=0.01,
    max_side=10_000,
    first=None,
):
    """`first(matrix)` gives the eigenvectors of G G^T, of which those of eigenvalue zero are not determined."""
    b1, b2 = betas
    b = b2 if shampoo_beta is None else shampoo_beta
    for p, g, kept in zip(parameters, gradients, memory, strict=True):
        full = g.reshape(len(g), -1)
        m, n = full.shape
        if step == 1:
            kept["L"], kept["R"] = (1 - b) * full @ full.T, (1 - b) * full.T @ full
            kept["QL"] = first(full) if m <= max_side else torch.eye(m, dtype=g.dtype)
            kept["QR"] = first(full.T) if n <= max_side else torch.eye(n, dtype=g.dtype)
            kept["M"], kept["V"] = torch.zeros_like(full), torch.zeros_like(full)
            continue
        t = step - 1
        left, right = kept["QL"], kept["QR"]
        kept["M"] = b1 * kept["M"] + (1 - b1) * full  # in the weight's own coordinates, as in the paper
        kept["V"] = b2 * kept["V"] + (1 - b2) * (left.T @ full @ right) ** 2
        normal = (left.T @ kept["M"] @ right) / (kept["V"] ** 0.5 + eps)
        p.sub_((lr * (1 - b2**t) ** 0.5 / (1 - b1**t) * left @ normal @ right.T).reshape(p.shape))
        p.sub_(lr * weight_decay * p)
        kept["L"] = b * kept["L"] + (1 - b) * full @ full.T
        kept["R"] = b * kept["R"] + (1 - b) * full.T @ full
        if t % interval == 0:
            if m <= max_side:
                by_size = sorted(range(m), key=lambda i: -float(left[:, i] @ kept["L"] @ left[:, i]))
                kept["QL"], kept["V"] = torch.linalg.qr(kept["L"] @ left[:, by_size])[0], kept["V"][by_size]
            if n <= max_side:
                by_size = sorted(range(n), key=lambda j: -float(right[:, j] @ kept["R"] @ right[:, j]))
                kept["QR"], kept["V"] = torch.linalg.qr(kept["R"] @ right[:, by_size])[0], kept["V"][:, by_size]


def kl_shampoo(
    parameters,
    gradients,
    memory,
    step,
    lr,
    betas=(0.9, 0.98),
    shampoo_beta=None,
    interval=10,
    eps=1e-8,
    weight_decay=0.01,
    initial=0.1,
    ceiling=4000.0,
    first=None,
):
    """`first` as in `soap`. With matrices that are inverted whole, and momentum in the weight's own coordinates."""
    b = betas[1] if shampoo_beta is None else shampoo_beta
    for p, g, kept in zip(parameters, gradients, memory, strict=True):
        full = g.reshape(len(g), -1)
        m, n = full.shape
        if step == 1:
            kept["S"] = [(1 - b) * full @ full.T / n, (1 - b) * full.T @ full / m]
            kept["Q"] = [first(full), first(full.T)]
            kept["values"] = [torch.full((side,), initial, dtype=g.dtype) for side in (m, n)]
            kept["M"] = torch.zeros_like(full)
            continue
        kept["M"] = betas[0] * kept["M"] + (1 - betas[0]) * full
        (left, right), (of_rows, of_columns) = kept["Q"], kept["values"]
        sizes = torch.sqrt(torch.outer(of_rows, of_columns))
        update = left @ ((left.T @ kept["M"] @ right) / (sizes + eps)) @ right.T
        p.sub_((lr * update).reshape(p.shape))
        p.sub_(lr * weight_decay * p)
        inverses = [left @ torch.diag(1 / of_rows) @ left.T, right @ torch.diag(1 / of_columns) @ right.T]
        found = [full @ inverses[1] @ full.T / n, full.T @ inverses[0] @ full / m]
        for i, side in enumerate((m, n)):
            kept["S"][i] = b * kept["S"][i] + (1 - b) * found[i]
            values = b * kept["values"][i] + (1 - b) * torch.diag(kept["Q"][i].T @ found[i] @ kept["Q"][i])
            kept["values"][i] = torch.clamp(values, min=1 / max(10, min(side, ceiling)) ** 2)
            if (step - 1) % interval == 0:
                kept["Q"][i] = torch.linalg.qr(kept["S"][i] @ kept["Q"][i])[0]


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
