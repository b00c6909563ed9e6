"""Task performance too small for a test set: sampling until a pass, and the law that its logarithm obeys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from sooner.error import SoonerError
from sooner.forecast.fitted import LEVEL
from sooner.forecast.table import FloatArray

Emergence = Literal["ordinary", "accelerated", "slowed", "undecided"]


def pass_rate(draws: FloatArray, passes: int = 1, *, unbiased: bool = False) -> FloatArray:
    """Return (n,) pass probabilities from the number of generations until `passes` of them passed.

    Hu et al., 2023, arXiv 2310.03262: r / K, the maximum of the likelihood; unbiased: (r - 1) / (K - 1), r >= 2.

    Args:
        draws: (n,) generations per item.
        passes: r.
        unbiased: whether to use the second form.

    Raises:
        SoonerError: fewer draws than passes, or an unbiased estimate from one pass.
    """
    if unbiased and passes < 2:
        raise SoonerError(
            "an unbiased pass probability needs two or more passes; sample on, or take the other estimate"
        )
    if passes < 1 or (draws < passes).any():
        raise SoonerError(
            f"{np.min(draws):g} generations cannot hold {passes} passes; count generations until the last pass"
        )
    made: FloatArray = (passes - 1) / (draws - 1) if unbiased else passes / np.asarray(draws, dtype=np.float64)
    return made


@dataclass(frozen=True)
class TaskScaling:
    """log(-log PU) = log c - alpha log N.

    Args:
        log_c: intercept.
        alpha: exponent.
        draws: (b, 2) of refits.
        curvature: of log(-log PU) in log N, the quadratic coefficient, with its band.
        emergence: its class: accelerated where the line bends down, slowed where it bends up.
    """

    log_c: float
    alpha: float
    draws: FloatArray
    curvature: tuple[float, float, float]
    emergence: Emergence

    def predict(self, parameters: FloatArray, level: float = LEVEL) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return (n,) pass probabilities at model sizes, and the ends of their bands."""
        logs = np.log(np.asarray(parameters, dtype=np.float64))
        every = np.exp(-np.exp(self.draws[:, :1] - self.draws[:, 1:] * logs))
        low, high = np.quantile(every, [(1 - level) / 2, (1 + level) / 2], axis=0)
        return np.exp(-np.exp(self.log_c - self.alpha * logs)), low, high


def task_scaling(
    parameters: FloatArray, rates: FloatArray, *, level: float = LEVEL, draws: int = 1000, seed: int = 0
) -> TaskScaling:
    """Fit the law to pass probabilities of several model sizes; a bootstrap over models gives the bands.

    Args:
        parameters: (n,) model sizes.
        rates: (n,) pass probabilities, strictly between 0 and 1.
        level: of the bands.
        draws: refits.
        seed: of the resampling.

    Raises:
        SoonerError: fewer than three sizes, or a probability of 0 or 1.
    """
    if len(np.unique(parameters)) < 3:
        raise SoonerError(f"task scaling needs three or more model sizes; there are {len(np.unique(parameters))}")
    if not ((rates > 0) & (rates < 1)).all():
        bad = rates[~((rates > 0) & (rates < 1))][0]
        raise SoonerError(f"a pass probability is {bad:g}; sample until a pass, and leave solved tasks out")
    x, y = np.log(parameters), np.log(-np.log(rates))
    slope, offset = np.polyfit(x, y, 1)
    residual = y - np.polyval([slope, offset], x)
    freedom = max(len(x) - 2, 1)
    random = np.random.default_rng(seed)
    spread = np.sqrt((residual**2).sum() / random.chisquare(freedom, draws))
    shaken = np.polyval([slope, offset], x) + spread[:, None] * random.standard_normal((draws, len(x)))
    lines = np.polyfit(x, shaken.T, 1)
    bend = (float("nan"),) * 3
    emergence: Emergence = "undecided"
    if len(np.unique(parameters)) >= 4:
        bend, emergence = _curvature(x, y, level)
    return TaskScaling(float(offset), float(-slope), np.stack([lines[1], -lines[0]], 1), bend, emergence)


def _curvature(x: FloatArray, y: FloatArray, level: float) -> tuple[tuple[float, float, float], Emergence]:
    from scipy.stats import t

    design = np.stack([np.ones_like(x), x - x.mean(), (x - x.mean()) ** 2], 1)
    found = np.linalg.lstsq(design, y, rcond=None)[0]
    freedom = max(len(x) - 3, 1)
    variance = float(((y - design @ found) ** 2).sum()) / freedom
    error = np.sqrt(variance * np.linalg.pinv(design.T @ design)[2, 2])
    reach = float(t.ppf((1 + level) / 2, freedom)) * error
    low, high = found[2] - reach, found[2] + reach
    kind: Emergence = "accelerated" if high < 0 else "slowed" if low > 0 else "ordinary"
    return (float(found[2]), float(low), float(high)), kind
