"""What a recipe does around a step that somebody else takes: the contexts of its parts, and what follows the step."""

from __future__ import annotations

import contextlib
from typing import Any, ClassVar, Protocol

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from sooner.foundation.hooks import AROUND, Attachment
from sooner.gradient._gradient import GradientPart


class Followed(Protocol):
    """What has parts that act around a step.

    Attributes:
        schedules: the schedules.
        others: all parts but optimizers and schedules.
    """

    schedules: list[Any]
    others: list[Any]


class LeftOut(Exception):  # noqa: N818  # nothing went wrong
    """Ends the contexts around a step that no optimizer has taken."""


class Around(Attachment):
    """What `Training.step` does around one optimizer's step, hung on that step.

    Args:
        training: whose parts follow the step. The whole of it, so that a copy is made with the training's own.
    """

    turn: ClassVar[int] = AROUND

    def __init__(self, training: Followed) -> None:
        self._training = training
        self._entered: contextlib.ExitStack | None = None

    def before(self, optimizer: Optimizer, evaluation: int) -> None:
        """Enter the contexts."""
        if evaluation > 1:
            return
        self._leave(False)
        self._entered = contextlib.ExitStack()
        for part in self._training.others:
            if hasattr(part, "around_step") and not isinstance(part, GradientPart):
                self._entered.enter_context(part.around_step(None))

    def after(self, optimizer: Optimizer, taken: bool) -> None:
        """Leave them, and let follow what follows a step."""
        self._leave(taken)
        for schedule in self._training.schedules if taken else ():
            if not isinstance(schedule, LRScheduler):  # such as one of batch sizes, which no Trainer would advance
                schedule.step()
        for part in self._training.others if taken else ():
            if hasattr(part, "after_step"):
                part.after_step()

    def _leave(self, taken: bool) -> None:
        entered, self._entered = self._entered, None
        if entered is not None:
            with contextlib.suppress(LeftOut), entered:
                if not taken:
                    raise LeftOut
