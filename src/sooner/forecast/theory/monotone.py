"""Whether a score rises, falls or turns with scale, before anyone extrapolates it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import t

from sooner.error import SoonerError
from sooner.forecast.fitted import LEVEL
from sooner.forecast.table import FloatArray

Trend = Literal["rising", "falling", "U-shaped", "inverted U", "flat", "too few scales"]


@dataclass(frozen=True)
class Shape:
    """The trend of a score along the logarithm of a scale.

    Args:
        trend: its class; falling is inverse scaling where the score is better when higher.
        slope: of the straight line, per factor of e, with its band.
        curvature: of the parabola, with its band; NaN with fewer than four scales.
        turn: the scale at which the parabola turns; None where it does not bend surely.
        extrapolate: whether going on in the direction of the last scales is defensible.
    """

    trend: Trend
    slope: tuple[float, float, float]
    curvature: tuple[float, float, float]
    turn: float | None
    extrapolate: bool


def shape(scale: FloatArray, score: FloatArray, *, level: float = LEVEL) -> Shape:
    """Return the trend from a straight line and a parabola in the logarithm of the scale.

    The phenomena are those of McKenzie et al., 2023, arXiv 2306.09479. A turn counts where the parabola's curvature
    differs surely from zero and its turning point lies inside the scales measured.

    Args:
        scale: (n,) positive.
        score: (n,).
        level: of the bands.

    Raises:
        SoonerError: lengths that differ, a scale that is not positive, or a score that is no number.
    """
    scale, score = np.asarray(scale, dtype=np.float64), np.asarray(score, dtype=np.float64)
    if scale.shape != score.shape or not (scale > 0).all() or not np.isfinite(score).all():
        raise SoonerError("give as many scores as scales, scales above zero, and scores that are numbers")
    distinct = len(np.unique(scale))
    x = np.log(scale)
    if distinct < 3:
        none = (float("nan"),) * 3
        return Shape("too few scales", none, none, None, False)
    line, _ = _coefficient(np.stack([np.ones_like(x), x], 1), score, 1, level)
    none = (float("nan"),) * 3
    bend, turn = none, None
    if distinct >= 4:
        centre = x.mean()
        design = np.stack([np.ones_like(x), x - centre, (x - centre) ** 2], 1)
        bend, found = _coefficient(design, score, 2, level)
        vertex = centre - found[1] / (2 * found[2]) if found[2] != 0 else np.inf
        sure = bend[1] > 0 or bend[2] < 0
        if sure and x.min() < vertex < x.max():
            turn = float(np.exp(vertex))
    if turn is not None:
        trend: Trend = "U-shaped" if bend[0] > 0 else "inverted U"
        return Shape(trend, line, bend, turn, False)
    trend = "rising" if line[1] > 0 else "falling" if line[2] < 0 else "flat"
    return Shape(trend, line, bend, None, trend != "flat")


def _coefficient(
    design: FloatArray, y: FloatArray, which: int, level: float
) -> tuple[tuple[float, float, float], FloatArray]:
    found: FloatArray = np.linalg.lstsq(design, y, rcond=None)[0].astype(np.float64)
    freedom = max(len(y) - design.shape[1], 1)
    variance = float(((y - design @ found) ** 2).sum()) / freedom
    reach = float(t.ppf((1 + level) / 2, freedom)) * np.sqrt(variance * np.linalg.pinv(design.T @ design)[which, which])
    return (float(found[which]), float(found[which] - reach), float(found[which] + reach)), found
