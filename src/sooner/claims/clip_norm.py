"""Clipping by the global norm lets descent take steps that would break it where the loss is steep."""

import math
from typing import Any

import torch

from sooner.claims._claim import Claim, Criterion, Measured, Measurement, Race
from sooner.claims._findings import Findings
from sooner.claims._regimes import ON_TEXT, text_regime
from sooner.gradient.clip_norm import ClipNorm
from sooner.update.sgd import SGD

STEEP = "steep walls"
LANGUAGE = "language model"
ADAMW = "with AdamW"
CLIPPED = "clip_norm + sgd"
RATES = [10 ** (k / 4) for k in range(4, -21, -1)]
"""Learning rates from 10 down to 1e-5, four per decade: both methods get the best of them."""
STARTS = (1.0, 0.9, 0.8, -0.7)
"""Where descent starts, in units of the outermost point; a method needs as many steps as from the worst of them."""
GOAL = 0.01
CAPS = (64, 512, 4096, 32_768)
"""Most steps that are tried; the larger ones only where no learning rate gets there within the smaller ones."""


def steps_to_flat(steepest: float, clipped: bool) -> dict[str, Any]:
    """Return the steps that descent needs to a gradient below `GOAL`, at the best of `RATES`.

    The loss is ``cosh(x)``, whose curvature grows with its gradient as the paper assumes (L0 = L1 = 1).

    Args:
        steepest: gradient at the outermost start.
        clipped: whether gradients are clipped at 1, the norm beyond which the curvature follows the gradient.
    """
    for cap in CAPS:
        best, rate = cap, math.nan
        for lr in RATES:
            if all(_descend(share * math.asinh(steepest), lr, clipped, best) < best for share in STARTS):
                best = max(_descend(share * math.asinh(steepest), lr, clipped, best) for share in STARTS)
                rate = lr
        if best < cap:
            break
    return {"steps": best, "lr": rate}


def _descend(start: float, lr: float, clipped: bool, enough: int) -> int:
    """Return the number of steps to a flat place, or `enough` if that is not reached before."""
    x = torch.tensor([start], dtype=torch.float64, requires_grad=True)
    optimizer = SGD([x], lr=lr, momentum=0.0)
    if clipped:
        ClipNorm(optimizer, max_norm=1.0)
    for step in range(enough):
        slope = math.sinh(x.item())
        if abs(slope) < GOAL:
            return step
        x.grad = torch.tensor([slope], dtype=torch.float64)
        optimizer.step()
        if abs(x.item()) > 2 * abs(start) + 10:
            return enough
    return enough


def _saving(f: Findings, steepest: float) -> Measured:
    """Return the steps of clipped over those of plain descent, which is exact."""
    (ours,) = f.values(STEEP, "steps", steepest=steepest, clipped=True)
    (theirs,) = f.values(STEEP, "steps", steepest=steepest, clipped=False)
    return Measured(ours / theirs, unit="x")


CASES = [{"steepest": s, "clipped": c} for s in (10.0, 100.0, 1000.0) for c in (False, True)]

CLAIM = Claim(
    part="clip_norm",
    paper="",
    headline=(
        "Where curvature grows with the gradient, clipped descent is faster than descent with a fixed step by a factor "
        "that grows without bound with the steepness of the start."
    ),
    source=(
        "Zhang, He, Sra and Jadbabaie, 2020, 'Why gradient clipping accelerates training', arXiv 1905.11881, "
        "theorems 3 and 4, and their language model"
    ),
    experiment=(
        "Steps to a flat place of cosh(x) are counted with and without clipping, for starts of growing steepness. Then "
        "a character GPT is trained by SGD with momentum, and by AdamW, with and without clipping."
    ),
    baseline=(
        "The same optimizer without clipping: on cosh at the best of 25 learning rates, which clipped descent gets "
        "too; in the races its learning rate tuned with as many trials as learning rate and norm of the other."
    ),
    experiments={
        STEEP: Measurement(steps_to_flat, CASES, CASES),
        LANGUAGE: Race(
            "sgd; clip_norm + sgd; clip_value(fraction=0.1) + sgd; adamw", "charlm", steps=1000, tune=7
        ),  # the same race as in the claim of clip_value
        ADAMW: Race("adamw; clip_norm + adamw", "charlm", steps=1000),
    },
    criteria=[
        Criterion(
            "from a gradient of 1000 on cosh, at most 0.1x of the steps without clipping",
            lambda f: _saving(f, 1000.0),
            at_most=0.1,
            paper="of order log(M) / M",
        ),
        Criterion(
            "that ratio is at most 0.25x of the one from a gradient of 100: the gain grows with the steepness",
            lambda f: Measured(_saving(f, 1000.0).value / _saving(f, 100.0).value, unit="x"),
            at_most=0.25,
            paper="about 0.15x",
        ),
        Criterion(
            "on the language model at most 0.9x of the steps of SGD with momentum to the middle target",
            lambda f: f.steps_ratio(LANGUAGE, CLIPPED),
            at_most=0.9,
            gain=True,
        ),
    ],
    trend={
        "cosh, gradient 10": lambda f: _saving(f, 10.0),
        "cosh, gradient 100": lambda f: _saving(f, 100.0),
        "language model, AdamW": lambda f: f.steps_ratio(ADAMW, "clip_norm + adamw"),
    },
    regime=text_regime(
        "exact descent in theory; a recurrent language model with SGD, constant and decayed rates",
        "a steep loss without noise, and a language model with SGD",
        optimizer="SGD with momentum",
    ),
    known=ON_TEXT,
    minutes=12,
    limits="The theorems speak of descent without noise or momentum; the language model has both.",
)
