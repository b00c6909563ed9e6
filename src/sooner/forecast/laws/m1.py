"""The plain power law, without a floor: what M2 to M4 are compared with."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from sooner.forecast.formula import Parameter, unpack
from sooner.forecast.one_quantity import OneQuantity
from sooner.forecast.table import FloatArray, Table


class M1(OneQuantity):
    """L = beta x^-c.

    Alabdulmohsin et al., 2022, arXiv 2209.06640, M1; their M2 has a floor and is the law power_floor here.

    Args:
        over: the column x.
        target: the column to predict.
    """

    name = "m1"
    title = "power law without a floor in one quantity"
    formula = "L = beta x^-c"
    source = "Alabdulmohsin et al., 2022, arXiv 2209.06640"
    parameters: ClassVar = (
        Parameter("beta", "loss x x^c", 1e-60, 1e60, "log"),
        Parameter("c", "exponent", -5.0, 5.0),
    )

    def starts(self, table: Table) -> FloatArray:
        """Return the straight line in log-log axes, and shallower and steeper ones through its middle."""
        x, y = self.prepare(table), np.log(table[self.target])
        spread = float(np.sum((x - x.mean()) ** 2))
        slope = -float((x - x.mean()) @ y) / spread if spread > 0 else 0.1
        c = slope + np.array([0.0, -0.1, 0.1, 0.5])
        return np.stack([np.exp(y.mean() + c * x.mean()), c], 1)

    def prepare(self, table: Table) -> FloatArray:
        """Return log x."""
        return np.log(table[self.over])

    def predict(self, values: FloatArray, data: FloatArray) -> FloatArray:
        """Return the law for log x."""
        beta, c = unpack(values)
        return np.exp(np.log(beta) - c * data)
