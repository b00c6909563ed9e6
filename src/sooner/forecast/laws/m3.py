"""A power law that levels off smoothly, without a floor as a term of its own."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from sooner.forecast.formula import Parameter, grid, unpack
from sooner.forecast.one_quantity import OneQuantity
from sooner.forecast.table import FloatArray, Table


class M3(OneQuantity):
    """L = beta (1 / x + gamma)^c, which levels off at beta gamma^c.

    Alabdulmohsin et al., 2022, arXiv 2209.06640, M3.

    Args:
        over: the column x.
        target: the column to predict.
    """

    name = "m3"
    title = "power law that levels off in one quantity"
    formula = "L = beta (1 / x + gamma)^c"
    source = "Alabdulmohsin et al., 2022, arXiv 2209.06640"
    parameters: ClassVar = (
        Parameter("beta", "loss x x^c", 1e-60, 1e60, "log"),
        Parameter("gamma", "1 / x", 1e-30, 1e6, "log"),
        Parameter("c", "exponent", 1e-3, 5.0, "log"),
    )

    def starts(self, table: Table) -> FloatArray:
        """Return slopes from shallow to steep that level off before, at and beyond the largest x."""
        x, level = np.log(table[self.over]), np.mean(np.log(table[self.target]))
        bend, c = grid(
            np.exp(-np.quantile(x, [0.2, 0.5, 0.8, 1.0]) - [0.0, 0.0, 0.0, 3.0]), [0.03, 0.1, 0.3, 0.6, 1.2]
        ).T
        return np.stack([np.exp(level - c * np.log(np.exp(-x.mean()) + bend)), bend, c], 1)

    def prepare(self, table: Table) -> FloatArray:
        """Return -log x."""
        return -np.log(table[self.over])

    def predict(self, values: FloatArray, data: FloatArray) -> FloatArray:
        """Return the law for -log x."""
        beta, gamma, c = unpack(values)
        return np.exp(np.log(beta) + c * np.logaddexp(data, np.log(gamma)))
