"""What AdamP and SGDP rest on, measured on digits: how scale-invariant weights grow, where their test finds them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sooner.claims._claim import Criterion
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


def only_where_idle(arm: str, against: str, name: str) -> list[Criterion]:
    """Return the criteria of the mechanism: idle norms hardly grow, and the test finds these weights and no others.

    Args:
        arm: the method.
        against: the same without the projection.
        name: what the sentence calls that.
    """
    return [
        Criterion(
            f"the norm of weights before a normalization grows at most 0.3x as much as with {name}",
            lambda f: f.paired_ratio("norms", "growth", {"arm": arm}, {"arm": against}),
            at_most=0.3,
        ),
        Criterion(
            "the test finds the weights before a normalization in at least 95 % of steps",
            lambda f: f.mean("norms", "before norm", arm=arm),
            at_least=0.95,
        ),
        Criterion("and the classifier in at most 5 %", lambda f: f.mean("norms", "classifier", arm=arm), at_most=0.05),
    ]
