"""What the laws of loss curves share: they read steps and learning rates, leave warm-ups out, and weigh runs alike."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from sooner.forecast.law import Law
from sooner.forecast.schedules import after_warmup, warmed
from sooner.forecast.table import FloatArray, Table


class AlongSchedule(Law):
    """A law of the loss at every step of any learning-rate schedule."""

    needs = ("step", "lr")
    over = "step"
    floor: ClassVar[str | None] = "L0"

    def table(self, table: Table, *, target: bool = True) -> Table:
        """Return the checked table; with the target, without the rows of warm-ups."""
        table = super().table(table, target=target)
        return after_warmup(table) if target else table

    def holds(self, table: Table) -> npt.NDArray[np.bool_]:
        """Return (n,) which rows are not of a warm-up, nor of a beginning that was left out."""
        return warmed(table) & super().holds(table)

    def weights(self, table: Table) -> FloatArray:
        """Return (n,) weights: every run counts the same, and its rows by the square root of their step.

        A run departs from any law as a whole, so a run logged more often says no more; and it departs most at its
        beginning. Where Huber's loss is linear, the weight due is one over the spread, which falls about that fast.
        """
        weights = super().weights(table) * np.sqrt(np.maximum(table["step"], 1.0))
        for name in table.runs:
            rows = table.run == name
            weights[rows] /= max(weights[rows].sum(), 1e-300)
        made: FloatArray = weights * len(table) / weights.sum()
        return made


def less(loss: FloatArray, gain: FloatArray) -> FloatArray:
    """Return the loss less a gain; where that would be under half the loss it only approaches zero, smoothly.

    A law whose gain is a difference would forecast negative losses for long decays; this keeps its value and slope up
    to half the loss.
    """
    share = gain / loss
    return loss * np.where(share < 0.5, 1 - share, 0.25 / np.maximum(share, 0.5))
