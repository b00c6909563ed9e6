"""What AdamP and SGDP rest on, measured on digits: how scale-invariant weights grow, where their test finds them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sooner.workloads import digits

DELTA = 0.1
"""How far from orthogonal gradient and weights may be, as a multiple of ``1 / sqrt(D)``: the method's default."""

CLASSIFIER = "head.weight"


def probe(make: Callable[[list[nn.Parameter]], Optimizer], seed: int, steps: int) -> dict[str, Any]:
    """Train on digits with an optimizer; return what became of the weights before a normalization.

    Returns:
        ``growth``: how much their norm grew, over where it started; ``before norm``, ``classifier``: the share of steps
        in which the gradient is as orthogonal to every row of such a weight (or of the classifier) as the method asks.
    """
    model = digits.model(seed)
    batches = digits.batches(seed + 1, "train")
    optimizer = make(list(model.parameters()))
    watched = {name: p for name, p in model.named_parameters() if p.ndim > 1}
    convolutions = [p for name, p in watched.items() if name != CLASSIFIER]
    started = _norm(convolutions)
    passed = dict.fromkeys(watched, 0)
    for step in range(steps):
        optimizer.zero_grad()
        torch.autograd.backward(digits.loss(model, batches[step]))
        for name, p in watched.items():
            passed[name] += _orthogonal(p)
        optimizer.step()
    found = passed.pop(CLASSIFIER)
    return {
        "growth": _norm(convolutions) / started - 1,
        "before norm": sum(passed.values()) / (steps * len(passed)),
        "classifier": found / steps,
    }


def _norm(weights: Sequence[Tensor]) -> float:
    return sum(float(p.detach().norm()) for p in weights)


def _orthogonal(p: nn.Parameter) -> bool:
    """Say whether the method's test calls the weight scale-invariant: by output channel, or as one row."""
    assert p.grad is not None
    for rows in (p.shape[0], 1):
        weight, gradient = p.detach().reshape(rows, -1), p.grad.reshape(rows, -1)
        cosines = nn.functional.cosine_similarity(weight, gradient, dim=1).abs()
        if float(cosines.max()) < DELTA / weight.shape[1] ** 0.5:
            return True
    return False
