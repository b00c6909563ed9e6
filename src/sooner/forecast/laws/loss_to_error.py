"""From loss to task error: the average error over tasks falls exponentially as the loss falls."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from sooner.forecast.formula import Parameter, grid, unpack
from sooner.forecast.law import Law
from sooner.forecast.table import FloatArray, Table


class LossToError(Law):
    """Err = epsilon - k exp(-gamma L).

    Gadre et al., 2024, arXiv 2403.08540, eq. 5: top-1 error, averaged over tasks on which a small model is above
    chance, against the loss on a validation set (in nats, not perplexity). Plain least squares, as published.
    """

    name = "loss_to_error"
    title = "task error from loss"
    formula = "Err = epsilon - k exp(-gamma L)"
    source = "Gadre et al., 2024, arXiv 2403.08540"
    needs = ("loss",)
    target = "error"
    link = "identity"
    delta = float("inf")
    over = "loss"
    toward = "small"
    parameters: ClassVar = (
        Parameter("epsilon", "error", 0.0, 10.0),
        Parameter("k", "error", 1e-9, 1e9, "log"),
        Parameter("gamma", "1 / loss", 1e-3, 50.0, "log"),
    )

    def starts(self, table: Table) -> FloatArray:
        """Return asymptotes above the largest error and rates from slow to fast, through the row of the lowest loss."""
        best = int(np.argmin(table["loss"]))
        top, loss = float(table["error"].max()), float(table["loss"][best])
        above, gamma = grid([1.01, 1.1, 1.3, 2.0], [0.1, 0.3, 0.7, 1.5, 3.0, 8.0]).T
        k = np.maximum(above * top - table["error"][best], 1e-3) * np.exp(gamma * loss)
        return np.stack([above * top, k, gamma], 1)

    def prepare(self, table: Table) -> FloatArray:
        """Return the loss."""
        return table["loss"]

    def predict(self, values: FloatArray, data: FloatArray) -> FloatArray:
        """Return the error at losses (n,), or at a row of losses per parameter set (k, n)."""
        epsilon, k, gamma = unpack(values)
        return epsilon - np.exp(np.log(k) - gamma * data)
