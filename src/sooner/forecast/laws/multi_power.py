"""The multi-power law: every drop of the learning rate lowers the loss by an amount that saturates later."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from sooner.forecast.along_schedule import AlongSchedule, less
from sooner.forecast.formula import Parameter, grid
from sooner.forecast.schedules import dense
from sooner.forecast.table import FloatArray, Table

_DROPS = 24
"""A schedule's drops are gathered in at most this many: the sum is smooth in them."""


class _Run(NamedTuple):
    rows: npt.NDArray[np.intp]  # [n] in the table
    area: FloatArray  # [n]
    drop: FloatArray  # [p] of each pair of a row and a drop before it, row by row
    rate: FloatArray  # [p] logarithm of the learning rate after the drop
    after: FloatArray  # [p] area between the two
    first: npt.NDArray[np.intp]  # [m] first pair of each row that has any
    late: npt.NDArray[np.intp]  # [m] those rows, of n


class MultiPower(AlongSchedule):
    """L(t) = L0 + A S1(t)^-alpha - B sum_k (lr_{k-1} - lr_k) [1 - (1 + C lr_k^-gamma S_k(t))^-beta].

    Luo et al., 2025, arXiv 2503.12811. S1 is the area under the learning rate until t, S_k(t) that from step k until t.
    """

    name = "multi_power"
    title = "loss curve under any learning-rate schedule, each drop saturating"
    formula = "L(t) = L0 + A S1^-alpha - B sum_k (lr_k-1 - lr_k) [1 - (1 + C lr_k^-gamma S_k)^-beta]"
    source = "Luo et al., 2025, arXiv 2503.12811"
    parameters: ClassVar = (
        Parameter("L0", "loss", 1e-6, 1e3, "log"),
        Parameter("A", "loss x area^alpha", 1e-8, 1e6, "log"),
        Parameter("alpha", "exponent", 0.01, 5.0, "log"),
        Parameter("B", "loss per learning rate", 1e-6, 1e9, "log"),
        Parameter("C", "1 / (area x learning rate^-gamma)", 1e-6, 1e6, "log"),
        Parameter("beta", "exponent", 0.01, 5.0, "log"),
        Parameter("gamma", "exponent of the learning rate", 0.01, 3.0, "log"),
    )

    def starts(self, table: Table) -> FloatArray:
        """Return floors below the smallest loss, with C, beta and gamma about the paper's starting point."""
        low, high = float(table[self.target].min()), float(table[self.target].max())
        peak = float(table["lr"].max())
        first = float(min(run.area.min() for run in self.prepare(table)))
        made = grid([0.6, 0.9], [0.3, 0.7], [0.03, 0.15], [0.3, 2.0], [0.3, 0.8], [0.3, 0.8])
        floor, alpha, share, c, beta, gamma = made.T
        amount = np.maximum(high - floor * low, 1e-3) * first**alpha
        return np.stack([floor * low, amount, alpha, share * low / peak, c, beta, gamma], 1)

    def prepare(self, table: Table) -> list[_Run]:
        """Return, for each run, its rows, the area at them, and the drops with the area from each drop to each row."""
        return [_gathered(np.flatnonzero(table.run == name), table.where(table.run == name)) for name in table.runs]

    def predict(self, values: FloatArray, data: list[_Run]) -> FloatArray:
        """Return the loss."""
        rows = sum(len(run.rows) for run in data)
        out = np.empty((len(values), rows))
        floor, amount, alpha, b, c, beta, gamma = (values[:, i, None] for i in range(7))
        for run in data:
            loss = floor + np.exp(np.log(amount) - alpha * np.log(run.area))
            if run.drop.size:
                pace = np.exp(np.log(c) - gamma * run.rate)
                saturated = -np.expm1(-beta * np.log1p(pace * run.after)) * run.drop
                loss[:, run.late] = less(loss[:, run.late], b * np.add.reduceat(saturated, run.first, axis=1))
            out[:, run.rows] = loss
        return out


def _gathered(rows: npt.NDArray[np.intp], run: Table) -> _Run:
    """Return a run with its drops gathered in blocks of equal decrease, each at the mean step of its drops."""
    rate, steps = dense(run)
    total = np.maximum(np.cumsum(rate), 1e-300)
    at = np.clip(np.round(steps).astype(np.intp), 0, len(rate) - 1)
    change = np.concatenate([[0.0], rate[:-1] - rate[1:]])
    change[: int(np.argmax(rate)) + 1] = 0.0
    where = np.flatnonzero(np.abs(change) > 1e-9 * rate.max())
    if not where.size:
        none, no_row = np.empty(0), np.empty(0, dtype=np.intp)
        return _Run(rows, total[at], none, none, none, no_row, no_row)
    mass = np.abs(change[where])
    block = np.minimum((np.cumsum(mass) - mass / 2) / mass.sum() * _DROPS, _DROPS - 1).astype(np.intp)
    # between two rows the rate is a straight line that four drops follow well enough
    _, piece = np.unique(np.floor(4 * np.interp(where, np.sort(at), np.arange(len(at)))), return_index=True)
    block = block[piece[np.searchsorted(piece, np.arange(len(where)), side="right") - 1]]
    _, block = np.unique(block, return_inverse=True)
    weight = np.bincount(block, mass)
    drop = np.bincount(block, change[where]).astype(np.float64)
    centre = np.bincount(block, mass * total[where]) / weight
    level = np.maximum(np.bincount(block, mass * rate[where]) / weight, 1e-12 * rate.max())
    after = total[at][:, None] - centre
    row, column = np.nonzero(after > 0)
    late, first = np.unique(row, return_index=True)
    return _Run(rows, total[at], drop[column], np.log(level)[column], after[row, column], first, late)
