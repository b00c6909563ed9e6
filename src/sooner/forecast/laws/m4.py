"""A sigmoid in log-log axes: from random guessing, through a power law, down to a floor, in any one quantity."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from sooner.forecast.formula import Parameter, grid, unpack
from sooner.forecast.one_quantity import OneQuantity
from sooner.forecast.table import FloatArray, Table

_ROUNDS = 40
_CLOSE = 1e-7
"""A Newton step as small as this leaves an error of its square."""
_NARROW = 1e-12


class M4(OneQuantity):
    """(L - L_inf) / (L_0 - L)^alpha = beta x^-c, solved for L between the floor L_inf and the random guess L_0.

    Alabdulmohsin et al., 2022, arXiv 2209.06640, M4; their alpha may be zero, which is their M2, the law power_floor.

    Args:
        over: the column x.
        target: the column to predict.
    """

    name = "m4"
    title = "from random guessing through a power law to a floor in one quantity"
    formula = "(L - L_inf) / (L_0 - L)^alpha = beta x^-c"
    source = "Alabdulmohsin et al., 2022, arXiv 2209.06640"
    parameters: ClassVar = (
        Parameter("L_inf", "loss", 1e-8, 1e6, "log"),
        Parameter("L_0", "loss", 1e-8, 1e6, "log"),
        Parameter("alpha", "exponent of the distance from random guessing", 1e-2, 20.0, "log"),
        Parameter("beta", "loss^(1 - alpha) x x^c", 1e-100, 1e100, "log"),
        Parameter("c", "exponent", 1e-3, 5.0, "log"),
    )
    floor = "L_inf"

    def starts(self, table: Table) -> FloatArray:
        """Return floors below and guesses above all losses, and shallow to steep slopes through the median row."""
        x, y = self.prepare(table), table[self.target]
        low, high, middle = float(y.min()), float(y.max()), float(np.median(y))
        floor, top, alpha, c = grid([0.3, 0.8, 0.97], [1.02, 1.5], [0.1, 0.5, 1.5], [0.1, 0.4, 1.0]).T
        ratio = np.log(np.maximum(middle - floor * low, 1e-3 * low)) - alpha * np.log(top * high - middle)
        return np.stack([floor * low, top * high, alpha, np.exp(ratio + c * np.median(x)), c], 1)

    def prepare(self, table: Table) -> FloatArray:
        """Return log x."""
        return np.log(table[self.over])

    def predict(self, values: FloatArray, data: FloatArray) -> FloatArray:
        """Return the law for log x.

        With L = L_inf + span / (1 + e^-t), the law says alpha log(1 + e^t) - log(1 + e^-t) = r, whose left side rises
        and bends one way only, so Newton's steps converge from anywhere.
        """
        floor, top, alpha, beta, c = unpack(values)
        span = np.maximum(top - floor, _NARROW * top)
        r = np.log(beta) - c * data - (1 - alpha) * np.log(span)
        t = np.where(r < 0, r, r / alpha)
        for _ in range(_ROUNDS):
            small = np.exp(-np.abs(t))
            share = np.where(t > 0, 1.0, small) / (1 + small)
            rising = np.maximum(t, 0.0) + np.log1p(small)
            change = (r - t + (1 - alpha) * rising) / (1 + (alpha - 1) * share)
            t = t + change
            if not np.nanmax(np.abs(change) / (1 + np.abs(t)), initial=0.0) > _CLOSE:
                break
        made: FloatArray = floor + span * 0.5 * (1 + np.tanh(0.5 * t))
        return made
