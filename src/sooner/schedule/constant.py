"""Constant learning rate, after an optional linear warm-up: the schedule for runs whose end is not known in advance.

    factor(t) = min(1, (t + 1) / (warmup + 1)),   t = 0, 1, …

Use it when the end of training is not known in advance, with `ema` for evaluation.

Leave it when the number of steps is fixed: decay ends lower.

It costs nothing: no pass, no state, nothing on the wire.

The warm-up is counted in steps (the other schedules take a share), so that the length of the run does not matter.
"""

from __future__ import annotations

import math

from torch.optim import Optimizer

from sooner.part import check_range
from sooner.schedule._schedule import Schedule


class Constant(Schedule):
    """Constant after `warmup` steps.

    Args:
        optimizer: the optimizer whose learning rates are scheduled.
        steps: number of steps planned (not used by this schedule).
        warmup: number of steps over which the rate rises linearly, default 0.
        last_epoch: number of the last step taken, -1 at the start.
    """

    def __init__(self, optimizer: Optimizer, steps: int, warmup: int = 0, last_epoch: int = -1) -> None:
        check_range("constant", "warmup", warmup, 0, math.inf, whole=True)
        self.warmup = warmup
        super().__init__(optimizer, steps, last_epoch)

    def factor(self, step: int) -> float:
        """Rise linearly during the warm-up, then 1."""
        return min(1.0, (step + 1) / (self.warmup + 1))
