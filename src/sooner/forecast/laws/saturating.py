"""Error against compute, level at small compute and at large: the law by which whole procedures are compared."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from sooner.forecast.formula import Parameter, grid, unpack
from sooner.forecast.one_quantity import OneQuantity
from sooner.forecast.table import FloatArray, Table


class Saturating(OneQuantity):
    """E = a (C + b)^c + d with c < 0: b levels it off at small compute, d is irreducible.

    Nezhurina et al., 2025, arXiv 2506.04598. Fit it to the lower envelope of the runs, see
    `sooner.forecast.laws.generative.compute_frontier`; the rows of bad settings bend it.

    Args:
        over: the column C.
        target: the column to predict: error, or loss.
    """

    name = "saturating"
    title = "error that saturates at both ends in one quantity"
    formula = "E = a (C + b)^c + d"
    source = "Nezhurina et al., 2025, arXiv 2506.04598"
    parameters: ClassVar = (
        Parameter("a", "target x C^-c", 1e-12, 1e60, "log"),
        Parameter("b", "of C", 1e-6, 1e40, "log"),
        Parameter("c", "exponent", -5.0, -1e-3),
        Parameter("d", "target", 1e-8, 1e6, "log"),
    )
    floor = "d"

    def __init__(self, over: str = "compute", target: str = "loss") -> None:
        super().__init__(over, target)

    def starts(self, table: Table) -> FloatArray:
        """Return floors below the smallest target and knees across the range of C, through the median row."""
        x, y = self.prepare(table), table[self.target]
        low, middle = float(y.min()), float(np.median(y))
        knees = np.quantile(x, [0.0, 0.3, 0.7]) - [5.0, 0.0, 0.0]
        floor, knee, c = grid([0.2, 0.7, 0.97], knees, [-0.05, -0.15, -0.3, -0.6, -1.2]).T
        rest = np.maximum(middle - floor * low, 0.02 * low)
        return np.stack([rest * np.exp(-c * np.logaddexp(np.median(x), knee)), np.exp(knee), c, floor * low], 1)

    def prepare(self, table: Table) -> FloatArray:
        """Return log C."""
        return np.log(table[self.over])

    def predict(self, values: FloatArray, data: FloatArray) -> FloatArray:
        """Return the law for log C."""
        a, b, c, d = unpack(values)
        return d + np.exp(np.log(a) + c * np.logaddexp(data, np.log(b)))
