"""The joint law of model size and data of the first language-model study: no floor, one bracket."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from sooner.forecast.formula import Parameter, grid, unpack
from sooner.forecast.law import Law
from sooner.forecast.table import FloatArray, Table


class Kaplan(Law):
    """L = [(N_c / N)^(alpha_N / alpha_D) + D_c / D]^alpha_D.

    Kaplan et al., 2020, arXiv 2001.08361, eq. 1.5; N is meant without the embeddings. There is no irreducible part: far
    out the law falls to zero, so it errs low where the data has a large entropy.
    """

    name = "kaplan"
    title = "loss from model size and data, without a floor"
    formula = "L = [(N_c / N)^(alpha_N / alpha_D) + D_c / D]^alpha_D"
    source = "Kaplan et al., 2020, arXiv 2001.08361"
    needs = ("parameters", "tokens")
    parameters: ClassVar = (
        Parameter("N_c", "parameters", 1e-10, 1e80, "log"),
        Parameter("D_c", "tokens", 1e-10, 1e80, "log"),
        Parameter("alpha_N", "exponent of parameters", 1e-3, 3.0),
        Parameter("alpha_D", "exponent of tokens", 1e-3, 3.0),
    )

    def starts(self, table: Table) -> FloatArray:
        """Return exponents on a grid, with scales that split the median loss between the two terms."""
        level = np.log(np.median(table["loss"]))
        size, tokens = np.mean(np.log(table["parameters"])), np.mean(np.log(table["tokens"]))
        exponents = [0.03, 0.076, 0.15, 0.3, 0.6]
        share, alpha, beta = grid([0.1, 0.4, 0.8], exponents, exponents).T
        scale_size = size + beta / alpha * (np.log(share) + level / beta)
        scale_tokens = tokens + np.log(1 - share) + level / beta
        return np.stack([np.exp(scale_size), np.exp(scale_tokens), alpha, beta], 1)

    def prepare(self, table: Table) -> tuple[FloatArray, FloatArray]:
        """Return log N and log D."""
        return np.log(table["parameters"]), np.log(table["tokens"])

    def predict(self, values: FloatArray, data: tuple[FloatArray, FloatArray]) -> FloatArray:
        """Return the loss for (log N, log D)."""
        scale_size, scale_tokens, alpha, beta = unpack(values)
        capacity = alpha / beta * (np.log(scale_size) - data[0])
        return np.exp(beta * np.logaddexp(capacity, np.log(scale_tokens) - data[1]))
