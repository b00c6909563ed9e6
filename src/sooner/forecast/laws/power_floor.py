"""A power law down to a floor, in any one quantity."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from sooner.forecast.formula import Parameter, grid, unpack
from sooner.forecast.law import Law
from sooner.forecast.table import FloatArray, Table


class PowerFloor(Law):
    """L = E + A x^-alpha: the plainest law, and the baseline beside every other.

    Hestness et al., 2017, arXiv 1712.00409, with the floor; L_inf + (x0/x)^alpha in Henighan et al., 2020, arXiv
    2010.14701.

    Args:
        over: the column x.
    """

    name = "power_floor"
    title = "power law with a floor in one quantity"
    formula = "L = E + A x^-alpha"
    source = "Hestness et al., 2017, arXiv 1712.00409"
    parameters: ClassVar = (
        Parameter("E", "loss", 1e-8, 1e6, "log"),
        Parameter("A", "loss x x^alpha", 1e-12, 1e60, "log"),
        Parameter("alpha", "exponent", 1e-3, 5.0, "log"),
    )
    floor = "E"

    def __init__(self, over: str = "tokens") -> None:
        self.needs = (over,)  # type: ignore[misc]
        self.over = over  # type: ignore[misc]

    def starts(self, table: Table) -> FloatArray:
        """Return floors just below the smallest loss, and slopes from shallow to steep."""
        low = float(table[self.target].min())
        made = grid([0.2, 0.5, 0.8, 0.97], [0.01, 0.1, 0.4], [0.05, 0.15, 0.4, 0.8, 1.5])
        floor, amount, exponent = made.T
        return np.stack([floor * low, amount * low * table[self.over].max() ** exponent, exponent], 1)

    def predict(self, values: FloatArray, data: Table) -> FloatArray:
        """Return the law at x."""
        floor, amount, exponent = unpack(values)
        return floor + np.exp(np.log(amount) - exponent * np.log(data[self.over]))
