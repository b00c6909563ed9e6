"""How far off forecasts usually are, by how far they reach: a conformal width that the user's own back-tests correct.

A forecast's score is its error in the logarithm, less what single rows scatter by, over the change that was forecast
(`sooner.forecast.fitted.reach`, `sooner.forecast.course.follow`). Scores of the bundled tasks were collected by rolling
origins (`learn.py`): for each kind of forecast their 0.9 quantile at several factors, and how single scores spread
about it. A band at level p is the change forecast, times the 0.9 quantile at the factor, times the p quantile of that
spread, as in split conformal prediction (Papadopoulos et al., 2002, Inductive confidence machines), times how
much harder than usual these rows are, by back-tests on them (`hardness`). It holds as far as a user's scores, once
divided by the hardness and the quantile of their factor, are exchangeable with the bundled ones; nothing makes them so
but likeness. Coverage is measured on public runs, which gave no score, though what they showed guided this design.
Beyond the largest factor of the bundled scores the quantile grows with the logarithm of the factor; beyond `SUPPORTED`
no value is told.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np

from sooner.forecast.table import FloatArray

Kind = Literal["schedule", "blind", "scale"]
"""A run that goes on with its learning rates known, one without, and one quantity or size and data."""
FILE = Path(__file__).with_name("usual.json")
SUPPORTED = 100.0
"""The largest factor at which bands are measured on public runs (`benchmarks/forecast_accuracy.py --bands`)."""
LEVELS = (*(np.arange(1, 20) / 20).tolist(), 0.99)
"""Probabilities of the quantiles that say how scores spread."""
CURVES = 24.0
"""The bundled scores of a kind come from so many curves, and a conformal quantile counts one more."""
EASIEST, HARDEST = 0.1, 2.0
"""Own back-tests move the width by no more than these factors."""


@dataclass(frozen=True)
class Scores:
    """Scores of back-tests.

    Args:
        factor: (n,) how far each reached.
        score: (n,) error over the change forecast.
        origins: how many origins they come from.
    """

    factor: FloatArray
    score: FloatArray
    origins: int


@dataclass(frozen=True)
class Usual:
    """Scores of one kind of forecast.

    Args:
        factors: (m,) ascending.
        width: (m,) the 0.9 quantile of scores there.
        spread: (20,) quantiles of scores over that quantile, at `LEVELS`.
    """

    factors: FloatArray
    width: FloatArray
    spread: FloatArray

    def at(self, factor: FloatArray) -> FloatArray:
        """Return (n,) 0.9 quantiles; beyond the largest factor they grow with its logarithm."""
        logs, known = np.log(np.maximum(factor, 1.0)), np.log(self.factors)
        beyond = np.maximum(logs / known[-1], 1.0)
        made: FloatArray = np.interp(logs, known, self.width) * beyond
        return made


@cache
def usual(kind: Kind) -> Usual:
    """Return the bundled scores of a kind."""
    own = json.loads(FILE.read_text(encoding="utf-8"))["kinds"][kind]
    return Usual(*(np.array(own[name], dtype=np.float64) for name in ("factors", "width", "spread")))


def half_width(kind: Kind, factor: FloatArray, level: float, own: Scores | None = None) -> FloatArray:
    """Return (n,) half-widths of bands, in units of the change forecast.

    Args:
        kind: of the forecast.
        factor: (n,) how far it reaches, 1 for what was measured.
        level: of the band.
        own: back-tests on the user's rows.
    """
    known = usual(kind)
    usually = float(np.interp(level * (1 + 1 / CURVES), LEVELS, known.spread))
    made: FloatArray = usually * hardness(kind, own) * known.at(factor)
    return made


def hardness(kind: Kind, own: Scores | None) -> float:
    """Return how much farther off forecasts of these rows are than usual: 1 without back-tests, or as these say.

    The ratio of their mean score to the bundled one's, to the power n / (n + 1) for n origins: one origin may have been
    lucky, so it moves the width half the way, and three move it three quarters.
    """
    if own is None or not len(own.score):
        return 1.0
    known = usual(kind)
    ratio = float(np.mean(own.score / known.at(own.factor))) / float(known.spread.mean())
    return float(np.clip(ratio, EASIEST, HARDEST) ** (own.origins / (own.origins + 1)))
