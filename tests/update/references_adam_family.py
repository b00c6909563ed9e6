"""AdamP, SGDP, diffGrad, SGD-SaI and AdaGrad-Norm once more, in the form that `references` describes.

`memory` also tells which view of a weight was projected, under "view".
"""

import math

import torch


def _without_radial_part(w, g, p, kept, delta, eps):
    """Return p as it is to be applied; kept["view"] says what was taken for scale-invariant."""
    kept["view"] = None
    if w.dim() < 2 or w.numel() == 0:
        return p
    for view, rows in (("channel", w.shape[0]), ("layer", 1)):
        ws, gs, ps = (t.reshape(rows, -1) for t in (w, g, p))
        largest = 0.0
        for a, b in zip(ws, gs, strict=True):
            norms = max(float(a.norm()), eps) * max(float(b.norm()), eps)
            largest = max(largest, abs(float(a @ b)) / norms)
        if largest < delta / math.sqrt(ws.shape[1]):
            kept["view"] = view
            projected = []
            for a, c in zip(ws, ps, strict=True):
                unit = a / (a.norm() + eps)
                projected.append(c - unit * (unit @ c))
            return torch.stack(projected).reshape(w.shape)
    return p


def adamp(
    parameters, gradients, memory, step, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, delta=0.1, wd_ratio=0.1,
    nesterov=False,
):  # fmt: skip
    b1, b2 = betas
    for w, g, kept in zip(parameters, gradients, memory, strict=True):
        m = b1 * kept.get("m", 0) + (1 - b1) * g
        v = b2 * kept.get("v", 0) + (1 - b2) * g**2
        kept.update(m=m, v=v)
        top = b1 * m + (1 - b1) * g if nesterov else m
        p = top / (v**0.5 / math.sqrt(1 - b2**step) + eps)
        p = _without_radial_part(w, g, p, kept, delta, eps)
        w.mul_(1 - lr * weight_decay * (wd_ratio if kept["view"] else 1))
        w.sub_(lr / (1 - b1**step) * p)


def sgdp(
    parameters, gradients, memory, step, lr, momentum=0.9, dampening=0.0, weight_decay=1e-5, nesterov=True, eps=1e-8,
    delta=0.1, wd_ratio=0.1,
):  # fmt: skip
    for w, g, kept in zip(parameters, gradients, memory, strict=True):
        kept["b"] = momentum * kept.get("b", 0) + (1 - dampening) * g
        p = g + momentum * kept["b"] if nesterov else kept["b"]
        p = _without_radial_part(w, g, p, kept, delta, eps)
        w.mul_(1 - lr * weight_decay * (wd_ratio if kept["view"] else 1) / (1 - momentum))
        w.sub_(lr * p)


def diffgrad(
    parameters, gradients, memory, step, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, decoupled=False
):  # fmt: skip
    b1, b2 = betas
    for w, g, kept in zip(parameters, gradients, memory, strict=True):
        if not decoupled:
            g = g + weight_decay * w
        m = b1 * kept.get("m", 0) + (1 - b1) * g
        v = b2 * kept.get("v", 0) + (1 - b2) * g**2
        xi = 1 / (1 + torch.exp(-abs(kept.get("g", 0) - g)))
        kept.update(m=m, v=v, g=g.clone())
        if decoupled:
            w.mul_(1 - lr * weight_decay)
        w.sub_(lr * math.sqrt(1 - b2**step) / (1 - b1**step) * (m * xi) / (v**0.5 + eps))


def sgd_sai(
    parameters, gradients, memory, step, lr, momentum=0.9, eps=1e-8, weight_decay=0.01, scaling="gsnr"
):  # fmt: skip
    for w, g, kept in zip(parameters, gradients, memory, strict=True):
        n = g.numel()
        if "s" not in kept and n > 1 and step in (1, 2, 4, 8, 16, 32) and g.any():
            kept["s"] = float(g.norm() / (g.std() + eps))
        s = {"gsnr": kept.get("s", math.sqrt(n)), "sqrt_numel": math.sqrt(n), "none": 1.0}[scaling]
        kept["m"] = g.clone() if step == 1 else momentum * kept["m"] + (1 - momentum) * g
        w.mul_(1 - lr * weight_decay)
        w.sub_(lr * s * kept["m"])


def adagrad_norm(parameters, gradients, memory, step, lr=1.0, b0=0.1, eps=1e-8):
    shared = memory[0]
    shared["s"] = shared.get("s", b0**2) + sum(float((g**2).sum()) for g in gradients)
    for w, g in zip(parameters, gradients, strict=True):
        w.sub_(lr * g / math.sqrt(shared["s"] + eps))
