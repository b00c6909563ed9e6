"""Loss of routed models with a part that neither size nor experts take away."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from sooner.forecast.formula import Parameter, grid
from sooner.forecast.laws.mixture_of_experts import LOG_TEN, MixtureOfExperts, saturated
from sooner.forecast.table import FloatArray, Table


class MixtureOfExpertsFloor(MixtureOfExperts):
    """L = L0 + 10^(a log N + b log G + c log N log G + d), with G the experts after saturation.

    The law of `MixtureOfExperts` above a floor. It is the joint law of Ludziejewski et al., 2025, arXiv 2502.05172, at
    one number of tokens, whose term is then part of the floor as far as it does not depend on the experts. Without a
    floor the losses of larger models are forecast too low.
    """

    name = "mixture_of_experts_floor"
    title = "loss from the size of the dense model and the number of experts, with a floor"
    formula = "L = L0 + 10^(a log N + b log G + c log N log G + d), 1/G = 1/(E - 1 + 1/(1/E_start - 1/E_max)) + 1/E_max"
    source = "Ludziejewski et al., 2025, arXiv 2502.05172, at one number of tokens"
    parameters: ClassVar = (Parameter("L0", "loss", 1e-8, 1e3, "log"), *MixtureOfExperts.parameters)
    floor = "L0"

    def starts(self, table: Table) -> FloatArray:
        """Return floors and saturations on a grid, each with its best a, b, c and d: the rest is linear."""
        size, experts = self.prepare(table)
        low, made = float(table["loss"].min()), []
        for share, start, most in grid([0.3, 0.6, 0.9], [1.0, 2.0, 5.0], [50.0, 300.0, 2000.0, 50000.0]):
            count = saturated(experts, np.array(start), np.array(most))
            design = np.stack([size, count, size * count, np.ones_like(size)], 1)
            target = np.log(table["loss"] - share * low) / LOG_TEN
            made.append([share * low, *np.linalg.lstsq(design, target, rcond=None)[0], start, most])
        return np.array(made)

    def predict(self, values: FloatArray, data: tuple[FloatArray, FloatArray]) -> FloatArray:
        """Return the loss for (log10 N, E)."""
        return values[:, :1] + super().predict(values[:, 1:], data)
