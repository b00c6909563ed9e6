"""Gradient rules written down once more from their papers: plain, on lists of tensors, no line shared with sooner."""

import math

import torch


def clip_norm(gradients, weights, max_norm):
    """Pascanu et al., 2013: one factor for everything."""
    norm = math.sqrt(sum(float((g**2).sum()) for g in gradients))
    factor = max_norm / (norm + 1e-6)
    return [g * factor if factor < 1 else g.clone() for g in gradients]


def clip_adaptive(gradients, weights, clipping, eps=1e-3):
    """Brock et al., 2021, eq. 3: unit by unit."""
    found = []
    for g, w in zip(gradients, weights, strict=True):
        rows = [(g[i], w[i]) for i in range(len(g))] if g.ndim > 1 else [(g, w)]
        new = []
        for row, weight in rows:
            allowed = clipping * max(math.sqrt(float((weight**2).sum())), eps)
            length = math.sqrt(float((row**2).sum()))
            new.append(row * (allowed / length) if length > allowed else row)
        found.append(torch.stack(new) if g.ndim > 1 else new[0])
    return found


def perpgrad(gradients, weights):
    """Prieto et al., 2025: remove the component along the weights, keep the length."""
    found = []
    for g, w in zip(gradients, weights, strict=True):
        v, u = w.flatten(), g.flatten()
        left = u - (v @ u) / (v @ v + 1e-30) * v
        if g.numel() == 1:
            left = left * 0
        found.append((left * u.norm() / (left.norm() + 1e-30)).view_as(g))
    return found


def clip_value(gradients, weights, fraction=None, value=None, each=False):
    """Pan and Li, 2023, algorithm 1, with the quantile over the entries that are not 0."""
    groups = [[g] for g in gradients] if each else [gradients]
    found = []
    for group in groups:
        sizes = sorted((abs(float(x)) for g in group for x in g.flatten() if float(x) != 0), reverse=True)
        tau = value if fraction is None else (sizes[min(int(fraction * len(sizes)), len(sizes) - 1)] if sizes else 0.0)
        found += [torch.sign(g) * torch.minimum(g.abs(), torch.full_like(g, tau)) for g in group]
    return found
