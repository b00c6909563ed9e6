"""Loss of models trained far beyond the compute-optimal number of tokens, from a handful of small runs."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from sooner.forecast.formula import Parameter, grid, unpack
from sooner.forecast.law import Law
from sooner.forecast.table import FloatArray, Table


class Overtraining(Law):
    """L = alpha N^p + beta 6^(p/2) D^p + E, one exponent p < 0 for both terms.

    Gadre et al., 2024, arXiv 2403.08540, eq. 4, in the form of the authors' code, where D is written as M N. With tied
    exponents, four small models at M = 20 tokens per parameter and the smallest at many more are enough to fit it.
    Plain least squares of the loss, as published.
    """

    name = "overtraining"
    title = "loss from model size and tokens, also far beyond compute-optimal"
    formula = "L = alpha N^p + beta 6^(p/2) D^p + E"
    source = "Gadre et al., 2024, arXiv 2403.08540"
    needs = ("parameters", "tokens")
    link = "identity"
    delta = float("inf")
    parameters: ClassVar = (
        Parameter("alpha", "loss x parameters^-p", 1e-8, 1e15, "log"),
        Parameter("beta", "loss x tokens^-p", 1e-8, 1e15, "log"),
        Parameter("p", "exponent", -3.0, -1e-3),
        Parameter("E", "loss", 0.0, 1e3),
    )
    floor = "E"

    def starts(self, table: Table) -> FloatArray:
        """Return floors and exponents on a grid, with the amplitudes that make both terms matter in this table."""
        low, high = float(table["loss"].min()), float(np.median(table["loss"]))
        size, tokens = (np.mean(np.log(table[name])) for name in self.needs)
        floor, share, p = grid([0.05, 0.3, 0.6, 0.9], [0.2, 0.5, 0.8], [-0.05, -0.1, -0.2, -0.3, -0.5, -0.8]).T
        rest = np.maximum(high - floor * low, 0.05 * low)
        beta = (1 - share) * rest * np.exp(-p * (tokens + np.log(6) / 2))
        return np.stack([share * rest * np.exp(-p * size), beta, p, floor * low], 1)

    def prepare(self, table: Table) -> tuple[FloatArray, FloatArray]:
        """Return log N and log D."""
        return np.log(table["parameters"]), np.log(table["tokens"])

    def predict(self, values: FloatArray, data: tuple[FloatArray, FloatArray]) -> FloatArray:
        """Return the loss for (log N, log D)."""
        alpha, beta, p, floor = unpack(values)
        capacity, learned = np.log(alpha) + p * data[0], np.log(beta) + p * (np.log(6) / 2 + data[1])
        made: FloatArray = np.exp(capacity) + np.exp(learned) + floor
        return made


def forms(values: FloatArray) -> dict[str, float]:
    """Return the constants of the paper's two other ways to write the law.

    L = E + A N^-eta2 + B D^-eta2, and with tokens per parameter M and compute C = 6 N D,
    L = E + (a M^eta + b M^-eta) C^-eta where eta = eta2 / 2.

    Args:
        values: (4,) parameters of `Overtraining`.
    """
    alpha, beta, p, floor = (float(value) for value in values)
    eta = -p / 2
    return {
        "E": floor,
        "A": alpha,
        "B": beta * 6.0**-eta,
        "eta2": -p,
        "a": alpha * 6.0**eta,
        "b": beta,
        "eta": eta,
    }
