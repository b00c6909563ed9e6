"""Loss of routed models: more experts help, large models less than small ones, and only up to a point."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from sooner.forecast.formula import Parameter, grid, unpack
from sooner.forecast.law import Law
from sooner.forecast.table import FloatArray, Table

LOG_TEN = float(np.log(10))
"""The law is in logarithms to base 10."""


class MixtureOfExperts(Law):
    """log L = a log N + b log G + c log N log G + d, in logarithms to base 10, with G the experts E after saturation.

    1 / G = 1 / (E - 1 + (1 / E_start - 1 / E_max)^-1) + 1 / E_max, which runs from E_start for a dense model (E = 1) to
    E_max. Clark et al., 2022, arXiv 2202.01169, eqs. 1 and 2. N is the size of the dense model that is routed.
    """

    name = "mixture_of_experts"
    title = "loss from the size of the dense model and the number of experts"
    formula = "log L = a log N + b log G + c log N log G + d, 1/G = 1/(E - 1 + 1/(1/E_start - 1/E_max)) + 1/E_max"
    source = "Clark et al., 2022, arXiv 2202.01169"
    needs = ("parameters", "experts")
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("a", "exponent of parameters", -3.0, 1.0),
        Parameter("b", "exponent of experts", -3.0, 3.0),
        Parameter("c", "exponent per decade of parameters", -1.0, 1.0),
        Parameter("d", "log10 of loss", -30.0, 30.0),
        Parameter("E_start", "experts", 0.5, 10.0, "log"),
        Parameter("E_max", "experts", 11.0, 1e6, "log"),
    )
    over = "parameters"

    def starts(self, table: Table) -> FloatArray:
        """Return saturations on a grid, each with its best a, b, c and d: the rest of the law is linear."""
        size, experts = self.prepare(table)
        target, made = np.log(table["loss"]) / LOG_TEN, []
        for start, most in grid([1.0, 2.0, 5.0], [50.0, 300.0, 2000.0, 50000.0]):
            count = saturated(experts, np.array(start), np.array(most))
            design = np.stack([size, count, size * count, np.ones_like(size)], 1)
            made.append([*np.linalg.lstsq(design, target, rcond=None)[0], start, most])
        return np.array(made)

    def prepare(self, table: Table) -> tuple[FloatArray, FloatArray]:
        """Return log10 N and E."""
        return np.log(table["parameters"]) / LOG_TEN, table["experts"]

    def predict(self, values: FloatArray, data: tuple[FloatArray, FloatArray]) -> FloatArray:
        """Return the loss for (log10 N, E)."""
        a, b, c, d, start, most = unpack(values)
        count = saturated(data[1], start, most)
        return np.exp(LOG_TEN * (a * data[0] + b * count + c * data[0] * count + d))


def saturated(experts: FloatArray, start: FloatArray, most: FloatArray) -> FloatArray:
    """Return log10 of the number of experts after saturation.

    Args:
        experts: (n,) E, at least 1.
        start: (k, 1) or one number, E_start.
        most: of the same shape, E_max.
    """
    made: FloatArray = -np.log(1 / (experts - 1 + 1 / (1 / start - 1 / most)) + 1 / most) / LOG_TEN
    return made
