"""Oracles: a recipe that takes additional steps, so that how much sooner it arrives is known by construction."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch.optim import Optimizer

from sooner.error import SoonerError
from sooner.objective import Objective
from sooner.objective.counting import mean_of
from sooner.part import Part, check_range


class ExtraSteps(Part):
    """After some steps, one more of the same optimizer on a batch of its own, which nobody counts.

    With one after every `every`-th step the n-th step is worth (1 + 1 / every) n of them: whatever the target, it is
    reached in every / (every + 1) of the steps. With one after each of the first `first` steps, every later target is
    reached that many steps sooner.

    Args:
        optimizer: takes the additional steps.
        every: steps from one additional step to the next; 0 (default) for none.
        first: steps at the beginning that are taken twice, default 0.

    Raises:
        SoonerError: a number out of range, or several optimizers.
    """

    station: ClassVar[str] = "update"
    needs = frozenset({"held-out loss"})
    order: ClassVar[int] = 70

    def __init__(self, optimizer: Optimizer | Sequence[Optimizer], every: int = 0, first: int = 0) -> None:
        check_range("ExtraSteps", "every", every, 0, math.inf, whole=True)
        check_range("ExtraSteps", "first", first, 0, math.inf, whole=True)
        if not isinstance(optimizer, Optimizer):
            raise SoonerError("ExtraSteps: this recipe has several optimizers, and one takes the additional steps")
        self.optimizer, self.every, self.first = optimizer, every, first
        self.steps = 0

    @contextlib.contextmanager
    def around_step(self, objective: Objective | None) -> Iterator[None]:
        """Let the optimizer step inside, and perhaps once more behind it.

        Raises:
            SoonerError: the loop offers no batch that is not trained on.
        """
        if objective is None or objective.held_out is None:
            raise SoonerError(
                "ExtraSteps needs batches that are not trained on, which this training loop doesn't offer"
            )
        yield
        self.steps += 1
        if self.steps <= self.first or (self.every and self.steps % self.every == 0):
            self.optimizer.zero_grad()
            with torch.enable_grad(), objective.training_loss():
                loss = mean_of(objective.loss(objective.model, objective.held_out()))
            torch.autograd.backward(loss)
            self.optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """Return how many steps were counted."""
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.steps = int(state["steps"])
