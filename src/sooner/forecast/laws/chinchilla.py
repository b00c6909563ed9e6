"""The parametric law of compute-optimal training, in model size and tokens."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from sooner.forecast.formula import Parameter, grid, unpack
from sooner.forecast.law import Law
from sooner.forecast.table import FloatArray, Table


class Chinchilla(Law):
    """L = E + A / N^alpha + B / D^beta.

    Hoffmann et al., 2022, arXiv 2203.15556, eq. 2; objective, starts and outlier rule as in Besiroglu et al., 2024,
    arXiv 2404.10102: the sum of Huber losses (delta 1e-3) of the residual of log loss.
    """

    name = "chinchilla"
    title = "loss from model size and training tokens"
    formula = "L = E + A / N^alpha + B / D^beta"
    source = "Hoffmann et al., 2022, arXiv 2203.15556"
    needs = ("parameters", "tokens")
    parameters: ClassVar = (
        Parameter("E", "loss", 1e-8, 1e3, "log"),
        Parameter("A", "loss x parameters^alpha", 1e-8, 1e15, "log"),
        Parameter("B", "loss x tokens^beta", 1e-8, 1e15, "log"),
        Parameter("alpha", "exponent of parameters", 1e-3, 3.0),
        Parameter("beta", "exponent of tokens", 1e-3, 3.0),
    )
    floor = "E"

    def starts(self, table: Table) -> FloatArray:
        """Return floors and exponents on a grid, with the amplitudes that make both terms matter in this table."""
        low, high = float(table["loss"].min()), float(np.median(table["loss"]))
        middle = (np.exp(np.mean(np.log(table["parameters"]))), np.exp(np.mean(np.log(table["tokens"]))))
        made = grid([0.3, 0.6, 0.9], [0.2, 0.5, 0.8], [0.1, 0.25, 0.4, 0.7, 1.2], [0.1, 0.25, 0.4, 0.7, 1.2])
        floor, share, alpha, beta = made.T
        rest = np.maximum(high - floor * low, 0.05 * low)
        return np.stack(
            [floor * low, share * rest * middle[0] ** alpha, (1 - share) * rest * middle[1] ** beta, alpha, beta], 1
        )

    def prepare(self, table: Table) -> tuple[FloatArray, FloatArray]:
        """Return log N and log D."""
        return np.log(table["parameters"]), np.log(table["tokens"])

    def predict(self, values: FloatArray, data: tuple[FloatArray, FloatArray]) -> FloatArray:
        """Return the loss for (log N, log D)."""
        floor, a, b, alpha, beta = unpack(values)
        return floor + np.exp(np.log(a) - alpha * data[0]) + np.exp(np.log(b) - beta * data[1])
