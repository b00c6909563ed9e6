"""Loss when the data runs out: repeated tokens count for less and less, and so do parameters that it can't feed."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from sooner.forecast.formula import Parameter, grid, unpack
from sooner.forecast.law import Law
from sooner.forecast.table import FloatArray, Table


class DataConstrained(Law):
    """L = E + A / N'^alpha + B / D'^beta with N' = U_N + U_N R_N* (1 - exp(-R_N / R_N*)) and D' likewise of tokens.

    Muennighoff et al., 2023, arXiv 2305.16264, eqs. 5 and 6. U_D is the tokens of one pass, R_D = D / U_D - 1 the
    repetitions; U_N = min(N_opt(U_D), N) is the size that suits U_D, R_N = N / U_N - 1 the excess. All seven constants
    are fitted: the published ones miss other recipes by their level.
    """

    name = "data_constrained"
    title = "loss from model size, tokens and unique tokens"
    formula = (
        "L = E + A / (U_N + U_N R_N* (1 - e^(-R_N / R_N*)))^alpha + B / (U_D + U_D R_D* (1 - e^(-R_D / R_D*)))^beta"
    )
    source = "Muennighoff et al., 2023, arXiv 2305.16264"
    needs = ("parameters", "tokens", "unique_tokens")
    parameters: ClassVar = (
        Parameter("E", "loss", 1e-8, 1e3, "log"),
        Parameter("A", "loss x parameters^alpha", 1e-8, 1e15, "log"),
        Parameter("B", "loss x tokens^beta", 1e-8, 1e15, "log"),
        Parameter("alpha", "exponent of parameters", 1e-2, 3.0),
        Parameter("beta", "exponent of tokens", 1e-2, 3.0),
        Parameter("R_D*", "repetitions", 1e-2, 1e4, "log"),
        Parameter("R_N*", "excess of parameters", 1e-2, 1e4, "log"),
    )
    floor = "E"

    def starts(self, table: Table) -> FloatArray:
        """Return floors, exponents and decays on a grid, with amplitudes that make both terms matter in this table."""
        low, high = float(table["loss"].min()), float(np.median(table["loss"]))
        size, tokens = (np.mean(np.log(table[name])) for name in ("parameters", "tokens"))
        exponents = [0.2, 0.35, 0.6]
        floor, share, alpha, beta, pass_on, excess = grid(
            [0.4, 0.8], [0.3, 0.7], exponents, exponents, [4.0, 15.0], [5.0]
        ).T
        rest = np.maximum(high - floor * low, 0.05 * low)
        a, b = share * rest * np.exp(alpha * size), (1 - share) * rest * np.exp(beta * tokens)
        return np.stack([floor * low, a, b, alpha, beta, pass_on, excess], 1)

    def prepare(self, table: Table) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return log N, log U_D and R_D; less than one pass has seen no more unique tokens than it took."""
        unique = np.minimum(table["unique_tokens"], table["tokens"])
        return np.log(table["parameters"]), np.log(unique), table["tokens"] / unique - 1.0

    def predict(self, values: FloatArray, data: tuple[FloatArray, FloatArray, FloatArray]) -> FloatArray:
        """Return the loss for (log N, log U_D, R_D)."""
        floor, a, b, alpha, beta, pass_on, excess = unpack(values)
        size, unique, repeats = data
        balance = (np.log(alpha) + np.log(a) - np.log(beta) - np.log(b)) / (alpha + beta)
        suited = np.minimum(balance + beta / alpha * (unique + balance), size)
        surplus = np.expm1(size - suited)
        model = suited + np.log1p(-excess * np.expm1(-surplus / excess))
        tokens = unique + np.log1p(-pass_on * np.expm1(-repeats / pass_on))
        made: FloatArray = floor + np.exp(np.log(a) - alpha * model) + np.exp(np.log(b) - beta * tokens)
        return made
