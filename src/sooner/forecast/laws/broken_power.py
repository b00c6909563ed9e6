"""A power law that bends once into another, in any one quantity."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from sooner.forecast.formula import Parameter, grid, unpack
from sooner.forecast.one_quantity import OneQuantity
from sooner.forecast.table import FloatArray, Table


class BrokenPower(OneQuantity):
    """y = a + b x^-c0 (1 + (x / d1)^(1 / f1))^(-c1 f1): slope c0 before the break at d1, c0 + c1 beyond it.

    Caballero et al., 2022, arXiv 2210.14891, eq. 1 with one break, whose sharpness is 1 / f1. A break that lies beyond
    the rows can't be seen in them.

    Args:
        over: the column x.
        target: the column to predict.
    """

    name = "broken_power"
    title = "power law with a floor and one smooth break in one quantity"
    formula = "y = a + b x^-c0 (1 + (x / d1)^(1 / f1))^(-c1 f1)"
    source = "Caballero et al., 2022, arXiv 2210.14891"
    parameters: ClassVar = (
        Parameter("a", "loss", 1e-8, 1e6, "log"),
        Parameter("b", "loss x x^c0", 1e-60, 1e60, "log"),
        Parameter("c0", "exponent before the break", -2.0, 5.0),
        Parameter("c1", "change of the exponent", -5.0, 5.0),
        Parameter("d1", "of x", 1e-10, 1e40, "log"),
        Parameter("f1", "width of the break, in units of log x", 0.02, 5.0, "log"),
    )
    floor = "a"

    def starts(self, table: Table) -> FloatArray:
        """Return slopes before and after breaks across the range of x, each through the median row."""
        x, y = np.log(table[self.over]), table[self.target]
        low, high = float(y.min()), float(np.median(y))
        breaks = np.quantile(x, [0.15, 0.5, 0.8])
        floor, c0, c1, d1, f1 = grid([0.3, 0.9], [0.02, 0.2, 0.6], [-0.2, 0.2, 0.8], breaks, [0.3, 1.0]).T
        bend = c0 * np.median(x) + c1 * f1 * np.logaddexp(0.0, (np.median(x) - d1) / f1)
        b = np.maximum(high - floor * low, 0.02 * low) * np.exp(bend)
        return np.stack([floor * low, b, c0, c1, np.exp(d1), f1], 1)

    def prepare(self, table: Table) -> FloatArray:
        """Return log x."""
        return np.log(table[self.over])

    def predict(self, values: FloatArray, data: FloatArray) -> FloatArray:
        """Return the law for log x."""
        floor, b, c0, c1, d1, f1 = unpack(values)
        bend = c1 * f1 * np.logaddexp(0.0, (data - np.log(d1)) / f1)
        return floor + np.exp(np.log(b) - c0 * data - bend)
