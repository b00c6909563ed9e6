"""The one scheduler class behind every schedule part: each group's learning rate times a factor of time."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from sooner.hooks import due
from sooner.part import Part, check_range


class Schedule(Part, LRScheduler):
    """Base of the schedule parts. Call ``step()`` after every optimizer step, as with any PyTorch scheduler.

    Args:
        optimizer: the optimizer whose learning rates are scheduled.
        steps: number of steps planned, at least 1.
        last_epoch: number of the last step taken, -1 at the start (PyTorch's name for it).
    """

    station: ClassVar[str] = "schedule"
    owns = frozenset({"learning rate"})

    def __init__(self, optimizer: Optimizer, steps: int, last_epoch: int = -1) -> None:
        check_range(self.name(), "steps", steps, 1, math.inf, whole=True)
        self.steps = steps
        super().__init__(optimizer, last_epoch)

    @classmethod
    def name(cls) -> str:
        """The part's name, which is the name of its file."""
        return cls.__module__.rpartition(".")[2]

    def step(self, epoch: int | None = None) -> None:
        """Advance by one step; not behind a step that the optimizer has left out, as for gradients that are not finite."""
        if self._is_initial or due(self.optimizer):
            super().step(epoch)

    def factor(self, step: int) -> float:
        """Return the multiple of the base learning rate used in step number `step`, counted from 0."""
        raise TypeError(f"{type(self).__name__} defines no factor")

    def mean_factor(self) -> float:
        """Return the mean of `factor` over the steps planned, to compare schedules at an equal total of steps."""
        return math.fsum(self.factor(step) for step in range(self.steps)) / self.steps

    def get_lr(self) -> list[Any]:
        """Return the learning rate of every group for the step about to be taken."""
        factor = self.factor(self.last_epoch)
        return [base * factor for base in self.base_lrs]


class DecayingSchedule(Schedule):
    """A schedule with linear warm-up and a decay that ends with the last step planned.

    Args:
        optimizer: the optimizer whose learning rates are scheduled.
        steps: number of steps planned, at least 1.
        warmup: share of the steps over which the rate rises linearly, in [0, 1).
        floor: smallest multiple of the base rate, reached one step after the last, in [0, 1].
        last_epoch: number of the last step taken, -1 at the start.
    """

    horizon_free = False

    def __init__(
        self, optimizer: Optimizer, steps: int, warmup: float = 0.05, floor: float = 0.0, last_epoch: int = -1
    ) -> None:
        check_range(self.name(), "warmup", warmup, 0.0, 1.0, open_high=True)
        check_range(self.name(), "floor", floor, 0.0, 1.0)
        self.warmup, self.floor = warmup, floor
        super().__init__(optimizer, steps, last_epoch)

    def shape(self, progress: float) -> float:
        """Return the decay's height in [0, 1] at `progress` in [0, 1] after the warm-up."""
        raise TypeError(f"{type(self).__name__} defines no shape")

    def factor(self, step: int) -> float:
        """Rise linearly during the warm-up, then follow `shape` down to the floor; constant past the last step."""
        warm = round(self.warmup * self.steps)
        if step < warm:
            return (step + 1) / (warm + 1)
        progress = min(1.0, (step - warm) / max(1, self.steps - warm))
        return self.floor + (1 - self.floor) * self.shape(progress)
