"""From task loss to task accuracy, by a sigmoid: chance at a high loss, the ideal at none."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from sooner.forecast.fitted import Fit
from sooner.forecast.formula import Parameter, grid, unpack
from sooner.forecast.law import Law
from sooner.forecast.table import FloatArray, Table

IDEAL = "ideal point"
"""The name of the run that stands for a model without loss."""
_NO_LOSS = 1e-6
_FLAT = 2.0
"""Beyond this many widths 1/k from its middle a sigmoid has less than half of its slope."""


class LossToAccuracy(Law):
    """accuracy = a / (1 + exp(-k (x - x0))) + b, a < 0, with x the loss on the task's right answers.

    Bhagia et al., 2024, arXiv 2412.04403, eq. 2 (step 2 of the OLMo ladder). Plain least squares of the accuracy, with
    the ideal point (no loss, best accuracy) added to the rows, as published.

    Args:
        chance: the accuracy of guessing, where the fit starts from.
        ideal: the accuracy of a model without loss.
    """

    name = "loss_to_accuracy"
    title = "task accuracy from task loss"
    formula = "accuracy = a / (1 + exp(-k (x - x0))) + b"
    source = "Bhagia et al., 2024, arXiv 2412.04403"
    needs = ("loss",)
    target = "accuracy"
    link = "identity"
    delta = float("inf")
    over = "loss"
    toward = "small"
    parameters: ClassVar = (
        Parameter("a", "accuracy", -1.0, 0.0),
        Parameter("k", "1 / loss", 1e-3, 1e3, "log"),
        Parameter("x0", "loss", 0.0, 1e3),
        Parameter("b", "accuracy", 0.0, 1.0),
    )

    def __init__(self, *, chance: float = 0.0, ideal: float = 1.0) -> None:
        self.chance, self.ideal = chance, ideal

    def table(self, table: Table, *, target: bool = True) -> Table:
        """Return the checked table; with the target, with the ideal point as its last row, once.

        Raises:
            SoonerError: a column is missing, or a value in it can't be.
        """
        table = super().table(table, target=target)
        if not target or IDEAL in table.run:
            return table
        known = {"loss": _NO_LOSS, "accuracy": self.ideal}
        columns = {name: np.append(column, known.get(name, np.nan)) for name, column in table.columns.items()}
        return Table(columns, np.append(table.run, IDEAL), table.notes).with_notes(
            f"the ideal point (no loss, accuracy {self.ideal:g}) was added"
        )

    def doubts(self, fit: Fit) -> list[str]:
        """Return whether all runs are on the flat side."""
        told = on_flat_side(fit)
        return [] if told is None else [told]

    def starts(self, table: Table) -> FloatArray:
        """Return sigmoids from chance to the ideal, with middles across the losses seen and below."""
        real = table["loss"][table["loss"] > _NO_LOSS]
        middles = np.unique(np.concatenate([[0.5 * real.min()], np.quantile(real, [0.0, 0.25, 0.5, 0.9])]))
        depth, k, x0 = grid([0.5, 0.9], [0.9, 2.0, 5.0, 12.0], middles).T
        return np.stack([depth * (self.chance - self.ideal), k, x0, np.full(len(k), self.ideal)], 1)

    def prepare(self, table: Table) -> FloatArray:
        """Return the loss."""
        return table["loss"]

    def predict(self, values: FloatArray, data: FloatArray) -> FloatArray:
        """Return the accuracy at losses (n,), or at a row of losses per parameter set (k, n)."""
        a, k, x0, b = unpack(values)
        # tanh saturates where exp would overflow
        made: FloatArray = a * 0.5 * (1 + np.tanh(0.5 * k * (data - x0))) + b
        return made


def on_flat_side(fit: Fit) -> str | None:
    """Return a warning if every run is on the flat side of the sigmoid, where accuracy hardly moves, else None.

    Args:
        fit: of `LossToAccuracy`.
    """
    real = fit.table.where(fit.table.run != IDEAL)
    lowest = float(real["loss"].min())
    order = np.argsort(real["loss"], kind="stable")
    third = max(1, len(real) // 3)
    gain = float(real["accuracy"][order[:third]].mean() - real["accuracy"][order[-third:]].mean())
    noise = float(np.std(fit.residuals()[fit.table.run != IDEAL])) * np.sqrt(2 / third)
    if fit["k"] * (lowest - fit["x0"]) < _FLAT and gain > 2 * noise:
        return None
    return (
        f"every run is on the flat side of the sigmoid (lowest loss {lowest:.3g}, its middle at {fit['x0']:.3g}), "
        f"where accuracy hardly rises above chance: the ideal point decides the forecast; add runs with less loss"
    )
