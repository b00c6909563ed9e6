"""Signs of instability at small scale: sensitivity to the learning rate, and where logits will blow up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sooner.error import SoonerError
from sooner.forecast.fitted import LEVEL
from sooner.forecast.table import FloatArray

DIVERGES = 1e4
"""Largest attention logit above which training was seen to fail."""


def learning_rate_sensitivity(
    lr: FloatArray, loss: FloatArray, initial: float, *, low: float = 3e-4, high: float = 3e-1
) -> float:
    """Return the mean over learning rates of min(loss, loss at initialisation) minus the best loss.

    Wortsman et al., 2023, arXiv 2309.14322, section 2.2: the mean is over the logarithm of the learning rate.

    Args:
        lr: (n,) learning rates of the sweep.
        loss: (n,) final losses; NaN or infinite for runs that diverged.
        initial: loss before training, as which a diverged run counts.
        low: smallest learning rate that counts.
        high: largest.

    Raises:
        SoonerError: fewer than three learning rates in the range, or none of them trained.
    """
    lr, loss = np.asarray(lr, dtype=np.float64), np.asarray(loss, dtype=np.float64)
    inside = (lr >= low * (1 - 1e-9)) & (lr <= high * (1 + 1e-9))
    if inside.sum() < 3:
        raise SoonerError(f"{int(inside.sum())} learning rates lie in {low:g} to {high:g}; sweep three or more of them")
    capped = np.where(np.isfinite(loss[inside]), np.minimum(loss[inside], initial), initial)
    order = np.argsort(lr[inside])
    x, y = np.log(lr[inside])[order], capped[order]
    if not (y < initial).any():
        raise SoonerError(f"no learning rate brought the loss below its start ({initial:g}); mend the sweep first")
    return float(np.trapezoid(y - y.min(), x) / (x[-1] - x[0]))


@dataclass(frozen=True)
class Divergence:
    """When a quantity that grows with scale reaches the value at which training fails.

    Args:
        at: the scale; infinite where the quantity does not grow.
        low: lower end of its band.
        high: upper end.
        largest: the largest scale measured.
        curved: whether a parabola in the logarithms was used, which takes five scales.
    """

    at: float
    low: float
    high: float
    largest: float
    curved: bool


def when_it_diverges(
    scale: FloatArray,
    logit: FloatArray,
    *,
    limit: float = DIVERGES,
    level: float = LEVEL,
    draws: int = 1000,
    seed: int = 0,
) -> Divergence:
    """Extrapolate the largest attention logit (or any such quantity) along width, parameters or learning rate.

    Wortsman et al., 2023, arXiv 2309.14322, section 3.4: a power law, or a parabola in the logarithms.

    Args:
        scale: (n,) such as widths.
        logit: (n,) largest value seen in stable runs.
        limit: where training fails.
        level: of the band.
        draws: refits on the line plus its noise.
        seed: of the noise.

    Raises:
        SoonerError: fewer than three scales, or a value that is not positive.
    """
    x, y = (np.log(np.asarray(one, dtype=np.float64)) for one in (scale, logit))
    if len(np.unique(x)) < 3 or not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise SoonerError("an extrapolation needs three or more scales, with positive values")
    degree = 2 if len(np.unique(x)) >= 5 else 1
    middle = x.mean()
    found = np.polyfit(x - middle, y, degree)
    residual = y - np.polyval(found, x - middle)
    freedom = max(len(x) - degree - 1, 1)
    random = np.random.default_rng(seed)
    spread = np.sqrt((residual**2).sum() / random.chisquare(freedom, draws))
    shaken = np.polyval(found, x - middle) + spread[:, None] * random.standard_normal((draws, len(x)))
    drawn = np.polyfit(x - middle, shaken.T, degree).T
    grid = np.linspace(x.min(), x.max() + 30.0, 4001)
    places = np.array([_reaches(one, grid, middle, np.log(limit)) for one in [found, *drawn]])
    low, high = np.quantile(places[1:], [(1 - level) / 2, (1 + level) / 2], method="nearest")
    return Divergence(float(places[0]), float(low), float(high), float(np.exp(x.max())), degree == 2)


def _reaches(coefficients: FloatArray, grid: FloatArray, middle: float, limit: float) -> float:
    above = np.flatnonzero(np.polyval(coefficients, grid - middle) >= limit)
    return float(np.exp(grid[above[0]])) if above.size else float("inf")
