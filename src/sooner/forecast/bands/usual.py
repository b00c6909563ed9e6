"""How far off forecasts usually are, by how far they reach: a conformal width that the user's own back-tests correct.

A forecast's score is its error in the logarithm over the change that was forecast (see `Reach.change`). Scores of the
bundled tasks were collected by rolling origins (`learn.py`), which gives, for each kind of forecast, their 0.9 quantile
at several factors, and how single scores spread about it. A band at level p is the change forecast, times the 0.9
quantile at the factor, times the p quantile of that spread. Scores of back-tests on the user's own rows are pooled with
the spread: split conformal prediction (Vovk et al., 2005, Algorithmic Learning in a Random World; Papadopoulos et al.,
2002), which holds as far as the new score is exchangeable with the pooled ones once it is divided by the quantile of
its factor. Beyond the largest factor that was tested the quantile goes on as it grew, and nothing supports it.
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
OWN = 5.0
"""Scores of one own origin count as this many of the bundled ones."""
BUNDLED = 10.0
"""And all of the bundled ones of a kind together as this many."""


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
        spread: (k,) scores over that quantile, ascending, evenly spaced in probability.
    """

    factors: FloatArray
    width: FloatArray
    spread: FloatArray

    def at(self, factor: FloatArray) -> FloatArray:
        """Return (n,) 0.9 quantiles; beyond the largest factor they grow with its logarithm, as they did before it."""
        logs, known = np.log(np.maximum(factor, 1.0)), np.log(self.factors)
        beyond = np.maximum(logs / known[-1], 1.0)
        made: FloatArray = np.interp(logs, known, self.width) * beyond
        return made


@cache
def usual(kind: Kind) -> Usual:
    """Return the bundled scores of a kind."""
    own = json.loads(FILE.read_text(encoding="utf-8"))["kinds"][kind]
    return Usual(*(np.array(own[name], dtype=np.float64) for name in ("factors", "width", "spread")))


def supported(kind: Kind) -> float:
    """Return the largest factor of the bundled scores."""
    return float(usual(kind).factors[-1])


def half_width(kind: Kind, factor: FloatArray, level: float, own: Scores | None = None) -> FloatArray:
    """Return (n,) half-widths of bands, in units of the change forecast.

    Args:
        kind: of the forecast.
        factor: (n,) how far it reaches, 1 for what was measured.
        level: of the band.
        own: back-tests on the user's rows.
    """
    known = usual(kind)
    values, weights = known.spread, np.full(len(known.spread), BUNDLED / len(known.spread))
    if own is not None and len(own.score):
        values = np.concatenate([values, own.score / np.maximum(known.at(own.factor), 1e-12)])
        weights = np.concatenate([weights, np.full(len(own.score), OWN * own.origins / len(own.score))])
    made: FloatArray = _quantile(values, weights, level) * known.at(factor)
    return made


def _quantile(values: FloatArray, weights: FloatArray, level: float) -> float:
    """Return the weighted quantile, with one more score of unknown size, as conformal prediction counts it."""
    order = np.argsort(values, kind="stable")
    summed = np.cumsum(weights[order])
    whole = summed[-1] + 1.0
    return float(np.interp(level * whole, summed, values[order]))
