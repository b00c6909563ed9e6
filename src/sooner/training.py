"""A recipe at work on one model: the parts that `Recipe.build` made, driven by a user's own loop.

training = Recipe("muon + cosine").build(model, steps=1000)
loss.backward(); training.step(); training.zero_grad()          # or, for parts that evaluate the loss themselves:
training.backward(objective); training.step(objective); training.zero_grad()
with training.view(): evaluate(model)
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from sooner.communication._attached import Communication
from sooner.communication._averages_itself import averages_itself
from sooner.communication._group import Group
from sooner.error import SoonerError
from sooner.objective import Averaging, Objective
from sooner.part import Part


class Training:
    """The parts of a recipe attached to one model. Parameters in memory are always the training weights.

    Attributes:
        model: the model.
        optimizers: its optimizers; together they hold every parameter once.
        schedules: the learning-rate schedules.
        others: all other parts. What they do depends on the methods they have: `backward(objective)` finds the
            gradients in place of backpropagation, `around_loss()` is a context for the training loss,
            `around_step(objective)` is a context for the optimizers' step, `after_step()` is called after every step
            and `view()` chooses the evaluation weights.
        communication: what lets several workers train the model together; None where nothing does.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[Optimizer],
        schedules: Sequence[LRScheduler],
        others: Sequence[Any] = (),
        communication: Communication | None = None,
    ) -> None:
        self.model = model
        self.optimizers = list(optimizers)
        self.schedules = list(schedules)
        self.others = list(others)
        self.communication = communication
        self._seen: tuple[nn.Module, bool] | None = None  # whose loss it was, and if that averages
        self.around_loss = self._offered("around_loss")
        self._sources = self._offered("backward")
        self._around_step = self._offered("around_step")
        self._after_step = self._offered("after_step")
        self._views = self._offered("view")

    def _offered(self, method: str) -> list[Callable[..., Any]]:
        return [getattr(part, method) for part in self.others if hasattr(part, method)]

    def backward(self, objective: Objective) -> Tensor:
        """Add the gradients of the step's mean loss to ``.grad`` and return that loss, 0-d and without its graph.

        Where the loss returns ``(sum, count)``, the mean is over all that micro-batches and workers have counted.
        """
        objective.around = self.around_loss
        objective.averaging = lambda: self._averaging(objective.model)
        objective.trained = self._trained
        for source in self._sources:
            found: Tensor = source(objective)
            return found
        return objective.backward()

    def _trained(self) -> Iterator[Tensor]:
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                yield from group["params"]

    def _averaging(self, model: nn.Module) -> Averaging | None:
        """Return what tells the workers of each other's counts, where their gradients are averaged."""
        at_once = False
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            if self._seen is None or self._seen[0] is not model:
                self._seen = model, averages_itself(model) or averages_itself(self.model)
            at_once = self._seen[1]
        sent = self.communication
        wire = sent.wire if sent is not None and sent.averages_gradients else Group() if at_once else None
        if wire is None or wire.size == 1:
            return None
        return Averaging(lambda numbers: wire.mean((numbers,))[0], at_once)

    def average_gradients(self) -> None:
        """Replace the gradients by the workers' average, where they are averaged; for whoever looks before `step`."""
        if self.communication is not None:
            self.communication.average_gradients()

    def step(self, objective: Objective | None = None) -> None:
        """Move the weights by the gradients now in ``.grad`` and advance the schedules.

        Args:
            objective: the step's loss; needed only where a part needs it.
        """
        self.average_gradients()
        with contextlib.ExitStack() as stack:
            for around_step in self._around_step:
                stack.enter_context(around_step(objective))
            for optimizer in self.optimizers:
                if isinstance(optimizer, Part):
                    optimizer.step(objective)  # type: ignore[arg-type]
                elif objective is not None and "closure" in required_arguments(type(optimizer)):
                    optimizer.step(_torch_closure(optimizer, objective))
                else:
                    optimizer.step()
        for schedule in self.schedules:
            schedule.step()
        for after_step in self._after_step:
            after_step()

    def zero_grad(self) -> None:
        """Drop the gradients."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        if self.communication is not None:  # where the step was not taken
            self.communication.skip_step()

    @contextlib.contextmanager
    def view(self) -> Iterator[nn.Module]:
        """Inside, the model holds the weights to evaluate or export; afterwards the training weights are back."""
        with contextlib.ExitStack() as stack:
            for view in self._views:
                stack.enter_context(view())
            if self.communication is not None:  # last, so that it averages what the others show
                stack.enter_context(self.communication.view())
            yield self.model

    def finish(self) -> None:
        """Bring to an end what is still under way between the workers, after the last step."""
        if self.communication is not None:
            self.communication.finish()

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
        """Return what has a state, of the workers' own (the last) or the same for all of them."""
        sent = [] if self.communication is None else [self.communication]
        return [p for p in (*self.optimizers, *self.schedules, *self.others, *sent) if hasattr(p, "state_dict")]

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


def required_arguments(factory: type[Any]) -> frozenset[str]:
    """Return what the `step` of a class of PyTorch can't do without, such as the closure of `torch.optim.LBFGS`."""
    arguments = list(inspect.signature(factory.step).parameters.values())[1:]
    return frozenset(a.name for a in arguments if a.default is a.empty and a.kind is a.POSITIONAL_OR_KEYWORD)


def _torch_closure(optimizer: Optimizer, objective: Objective) -> Callable[[], float]:
    """Return a closure as PyTorch's own optimizers expect it: one that goes back through the loss itself."""

    def closure() -> float:
        optimizer.zero_grad(set_to_none=True)
        with torch.enable_grad():
            loss = objective()
        torch.autograd.backward(loss)
        return float(loss.detach())

    return closure
