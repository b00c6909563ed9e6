"""Full participation: every worker takes part in every round, and all wait for the slowest.

    S_t = {1, ..., n},   seconds of a round = H * max_i s_i,   s_i ~ exp(spread * N(0, 1))

Use it when the seconds of a simulated cluster with slow and fast workers are to be compared with other ways to choose
them; without any such part a recipe has full participation and equal workers.

Leave it when many workers are slow or away: nobody goes on without the last of them.

It costs nothing of its own: no bytes on the wire, no state, no pass.

Textbook synchronous data parallelism.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from sooner.communication._cohort import Cohort, Round, synchronous
from sooner.part import check_range


@dataclass(frozen=True)
class Full(Cohort):
    """Everyone, always.

    Args:
        spread: standard deviation of the logarithm of the seconds per step, default 0: all equally fast.

    Raises:
        SoonerError: a value out of range.
    """

    spread: float = 0.0

    def __post_init__(self) -> None:
        check_range("full", "spread", self.spread, 0.0, math.inf)

    def round(self, number: int, workers: int, steps: int, seed: int) -> Round:
        """Return all workers."""
        return synchronous(torch.arange(workers), steps, workers, self.spread, seed)
