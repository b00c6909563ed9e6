"""Sizing a run so that no data are repeated: fewer parameters or more tokens at the same compute."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sooner.error import SoonerError
from sooner.forecast.table import FLOP_PER_PARAMETER_AND_TOKEN, FloatArray

RATIO_2019 = 5.0
"""Tokens per parameter of Komatsuzaki, 2019, arXiv 1906.06669."""
RATIO_2022 = 20.0
"""Tokens per parameter of Hoffmann et al., 2022, arXiv 2203.15556."""


@dataclass(frozen=True)
class Sizing:
    """A run of one epoch.

    Args:
        parameters: model size.
        tokens: to train on, each once.
        steps: at the batch size given.
        compute: 6 N D.
        more_data: how many times the unique tokens at hand it needs; 1 or less where they suffice.
    """

    parameters: float
    tokens: float
    steps: float
    compute: float
    more_data: float


def one_epoch(
    parameters: float, tokens: float, *, unique_tokens: float, batch: float, ratio: float = RATIO_2022
) -> Sizing:
    """Resize a planned run to a ratio of tokens to parameters at the same compute, each token used once.

    Komatsuzaki, 2019, arXiv 1906.06669, section 3: P' = P sqrt(r0 / r), T' = T sqrt(r / r0) with r0 = T / P.

    Args:
        parameters: planned model size.
        tokens: planned tokens, repetitions counted.
        unique_tokens: tokens at hand.
        batch: tokens per step.
        ratio: tokens per parameter; 5 as published in 2019, 20 as found later, or your own (`best_ratio`).

    Raises:
        SoonerError: a number that is not positive.
    """
    given = {"parameters": parameters, "tokens": tokens, "unique tokens": unique_tokens, "batch": batch, "ratio": ratio}
    for name, value in given.items():
        if not (np.isfinite(value) and value > 0):
            raise SoonerError(f"{name} is {value:g}; give a positive number")
    change = np.sqrt(tokens / parameters / ratio)
    size, seen = parameters * change, tokens / change
    compute = FLOP_PER_PARAMETER_AND_TOKEN * size * seen
    return Sizing(float(size), float(seen), float(seen / batch), float(compute), float(seen / unique_tokens))


def best_ratio(
    parameters: FloatArray, tokens: FloatArray, loss: FloatArray, *, draws: int = 500, seed: int = 0
) -> tuple[float, float, float]:
    """Return tokens per parameter where a parabola in log N through runs at one compute is lowest, with a 90 % band.

    Args:
        parameters: (n,) four or more sizes.
        tokens: (n,) such that 6 N D is one budget.
        loss: (n,) final.
        draws: bootstrap over the residuals.
        seed: of the resampling.

    Raises:
        SoonerError: fewer than four sizes, different budgets, or a parabola that opens downwards.
    """
    x, y = np.log(parameters), np.asarray(loss, dtype=np.float64)
    budget = np.log(parameters * tokens)
    if len(np.unique(x)) < 4:
        raise SoonerError(f"the ratio needs four or more model sizes at one budget; there are {len(np.unique(x))}")
    if np.ptp(budget) > 0.15:
        raise SoonerError(f"the budgets differ by a factor of {np.exp(np.ptp(budget)):.3g}; give runs of one budget")
    found = np.polyfit(x - x.mean(), y, 2)
    if found[0] <= 0:
        raise SoonerError("the losses have no lowest point over the model sizes; add smaller and larger models")
    random = np.random.default_rng(seed)
    residual = y - np.polyval(found, x - x.mean())
    shaken = (
        y - residual + residual[random.integers(len(y), size=(draws, len(y)))] * np.sqrt(len(y) / max(len(y) - 3, 1))
    )
    drawn = np.polyfit(x - x.mean(), shaken.T, 2)
    bowls = drawn[:, drawn[0] > 0]
    lowest = np.concatenate([[-found[1] / (2 * found[0])], -bowls[1] / (2 * bowls[0])]) + x.mean()
    ratios = np.exp(budget.mean() - 2 * lowest)
    low, high = np.quantile(ratios[1:], [0.05, 0.95])
    return float(ratios[0]), float(low), float(high)
