"""A recipe at work on one model: the parts that `Recipe.build` made, driven by a user's own loop.

training = Recipe("muon + cosine").build(model, steps=1000)
loss.backward(); training.step(); training.zero_grad()
with training.view(): evaluate(model)
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from sooner.error import SoonerError


class Training:
    """The parts of a recipe attached to one model. Parameters in memory are always the training weights.

    Attributes:
        model: the model.
        optimizers: its optimizers; together they hold every parameter once.
        schedules: the learning-rate schedules.
        others: parts of other stations; those with `after_step` are called after every step, those with `view` choose
            evaluation weights.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[Optimizer],
        schedules: Sequence[LRScheduler],
        others: Sequence[Any] = (),
    ) -> None:
        self.model = model
        self.optimizers = list(optimizers)
        self.schedules = list(schedules)
        self.others = list(others)
        self._after_step = [part.after_step for part in self.others if hasattr(part, "after_step")]
        self._views = [part.view for part in self.others if hasattr(part, "view")]

    def step(self) -> None:
        """Move the weights by the gradients now in ``.grad`` and advance the schedules."""
        for optimizer in self.optimizers:
            optimizer.step()
        for schedule in self.schedules:
            schedule.step()
        for after_step in self._after_step:
            after_step()

    def zero_grad(self) -> None:
        """Drop the gradients."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    @contextlib.contextmanager
    def view(self) -> Iterator[nn.Module]:
        """Inside, the model holds the weights to evaluate or export; afterwards the training weights are back."""
        with contextlib.ExitStack() as stack:
            for view in self._views:
                stack.enter_context(view())
            yield self.model

    def learning_rates(self) -> list[float]:
        """Return the learning rate of every parameter group of every optimizer."""
        return [float(group["lr"]) for optimizer in self.optimizers for group in optimizer.param_groups]

    def state_bytes(self) -> int:
        """Return the bytes of optimizer state kept now (no parameters, no gradients; shared memory counted once)."""
        memory = {}
        for optimizer in self.optimizers:
            for state in optimizer.state.values():
                for value in state.values():
                    if hasattr(value, "untyped_storage"):
                        memory[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        return sum(memory.values())

    def _parts(self) -> list[Any]:
        return [p for p in (*self.optimizers, *self.schedules, *self.others) if hasattr(p, "state_dict")]

    def _names(self) -> list[str]:
        return [type(part).__name__ for part in self._parts()]

    def state_dict(self) -> dict[str, Any]:
        """Return everything but the model's own weights that is needed to go on bit for bit."""
        return {"names": self._names(), "parts": [part.state_dict() for part in self._parts()]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` returned.

        Raises:
            SoonerError: the state was saved by a recipe with other parts.
        """
        if state.get("names") != self._names():
            theirs, ours = (", ".join(names) or "nothing" for names in (state.get("names") or [], self._names()))
            raise SoonerError(
                f"the state holds {theirs} where this recipe has {ours}; load with the recipe that saved it"
            )
        for part, one in zip(self._parts(), state["parts"], strict=True):
            part.load_state_dict(one)
