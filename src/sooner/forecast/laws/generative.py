"""The entropy of the data plus a power law: how far a generative model is from the truth, against any one quantity."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from sooner.forecast.formula import Parameter, grid, unpack
from sooner.forecast.one_quantity import OneQuantity
from sooner.forecast.table import FloatArray, Table


class Generative(OneQuantity):
    """L = L_inf + (x0 / x)^alpha.

    Henighan et al., 2020, arXiv 2010.14701, eq. 1.1. L_inf estimates the entropy of the data and the rest the
    divergence of the model from it, in nats if the loss is; few scales determine L_inf badly, so read its interval.

    Args:
        over: the column x: parameters, tokens or compute, the other two not limiting. For compute, see
            `compute_frontier`.
        target: the column to predict.
    """

    name = "generative"
    title = "entropy of the data plus a power law in one quantity"
    formula = "L = L_inf + (x0 / x)^alpha"
    source = "Henighan et al., 2020, arXiv 2010.14701"
    parameters: ClassVar = (
        Parameter("L_inf", "loss", 1e-8, 1e6, "log"),
        Parameter("x0", "of x", 1e-60, 1e120, "log"),
        Parameter("alpha", "exponent", 1e-3, 5.0, "log"),
    )
    floor = "L_inf"

    def starts(self, table: Table) -> FloatArray:
        """Return entropies just below the smallest loss, and slopes from shallow to steep."""
        low, reached = float(table[self.target].min()), float(table[self.over].max())
        floor, amount, exponent = grid([0.2, 0.5, 0.8, 0.97], [0.01, 0.1, 0.4], [0.05, 0.15, 0.4, 0.8, 1.5]).T
        return np.stack([floor * low, reached * (amount * low) ** (1 / exponent), exponent], 1)

    def prepare(self, table: Table) -> FloatArray:
        """Return log x."""
        return np.log(table[self.over])

    def predict(self, values: FloatArray, data: FloatArray) -> FloatArray:
        """Return the loss for log x."""
        floor, scale, exponent = unpack(values)
        return floor + np.exp(exponent * (np.log(scale) - data))


def reducible(values: FloatArray, loss: npt.ArrayLike) -> FloatArray:
    """Return loss - L_inf, a straight line in log-log axes where the law holds.

    Args:
        values: (..., 3) parameters of `Generative`.
        loss: (n,) or a number.

    Returns:
        (..., n) in the unit of the loss; negative where a loss is below the fitted entropy.
    """
    made: FloatArray = np.asarray(loss, dtype=np.float64) - np.asarray(values)[..., :1]
    return made


def compute_frontier(table: Table, target: str = "loss") -> Table:
    """Return the rows that no cheaper row undercuts: the lower envelope of loss against compute, cheapest first.

    Args:
        table: with compute, or parameters and tokens, and the target; checkpoints of a run may be rows of their own if
            its learning rate was not matched to its length.
        target: the column that should be low.

    Raises:
        SoonerError: a column is missing.
    """
    table = table.require("compute", target)
    order = np.lexsort((table[target], table["compute"]))
    loss = table[target][order]
    before = np.concatenate([[np.inf], np.minimum.accumulate(loss)[:-1]])
    return table.where(order[loss < before])
