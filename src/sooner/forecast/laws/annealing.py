"""The law of learning-rate annealing: the loss at every step of any schedule from two sums over the learning rates."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from sooner.forecast.along_schedule import AlongSchedule, less
from sooner.forecast.formula import Parameter, grid, unpack
from sooner.forecast.schedules import dense
from sooner.forecast.table import FloatArray, Table

MEMORY = 0.999
"""Lambda of the paper: by how much the effect of a drop fades into the next step; 0.99 to 0.9995 are about as good."""


class Annealing(AlongSchedule):
    """L(s) = L0 + A S1^-alpha - C S2: S1 the area under the learning rate, S2 its decrease with momentum, summed.

    Tissue et al., 2024, arXiv 2408.11029. S2 takes the rate as constant in warm-up: a rise from zero is no annealing.
    """

    name = "annealing"
    title = "loss curve under any learning-rate schedule"
    formula = "L(s) = L0 + A S1(s)^-alpha - C S2(s)"
    source = "Tissue et al., 2024, arXiv 2408.11029"
    parameters: ClassVar = (
        Parameter("L0", "loss", 1e-6, 1e3, "log"),
        Parameter("A", "loss x area^alpha", 1e-8, 1e6, "log"),
        Parameter("alpha", "exponent", 0.01, 5.0, "log"),
        Parameter("C", "loss per area", 1e-8, 1e8, "log"),
    )

    def starts(self, table: Table) -> FloatArray:
        """Return floors below the smallest loss with amplitudes that meet the first rows."""
        low, high = float(table[self.target].min()), float(table[self.target].max())
        area, fall = self.prepare(table)
        made = grid([0.5, 0.8, 0.95], [0.2, 0.5, 1.0], [0.01, 0.03, 0.1])
        floor, alpha, share = made.T
        amount = np.maximum(high - floor * low, 1e-3) * area.min() ** alpha
        gain = share * low / max(float(fall.max()), 1e-12) if fall.max() > 0 else np.full(len(made), 1e-8)
        return np.stack([floor * low, amount, alpha, gain], 1)

    def prepare(self, table: Table) -> tuple[FloatArray, FloatArray]:
        """Return S1 and S2 at the rows: summed over all steps of a run, then read off."""
        area, fall = np.empty(len(table)), np.empty(len(table))
        for name in table.runs:
            rows = table.run == name
            area[rows], fall[rows] = sums(table.where(rows))
        return area, fall

    def predict(self, values: FloatArray, data: tuple[FloatArray, FloatArray]) -> FloatArray:
        """Return the loss for (S1, S2)."""
        floor, amount, alpha, gain = unpack(values)
        return less(floor + np.exp(np.log(amount) - alpha * np.log(data[0])), gain * data[1])


def sums(run: Table, memory: float = MEMORY) -> tuple[FloatArray, FloatArray]:
    """Return S1 and S2 at the rows of one run."""
    from scipy.signal import lfilter  # here, because importing it takes longer than all of the forecast

    rate, steps = dense(run)
    drop = np.concatenate([[0.0], rate[:-1] - rate[1:]])
    drop[: int(np.argmax(rate)) + 1] = 0.0
    momentum = lfilter([1.0], [1.0, -memory], drop)
    at = np.clip(np.round(steps).astype(np.intp), 0, len(rate) - 1)
    return np.maximum(np.cumsum(rate), 1e-300)[at], np.cumsum(momentum)[at]
