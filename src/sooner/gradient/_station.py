"""How rules for gradients reach the optimizers they are attached to: inside one's chains, or swapped in for its step.

Optimizers that share a rule are served together. When the first of them steps, the rules see the gradients of all; each
then finds its share in ``p.grad`` for the time of its own step. Nothing has to be called for that, and outside of steps
``p.grad`` holds what backpropagation has put there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

from sooner.error import SoonerError
from sooner.foundation.gradient_norm import global_norm, present
from sooner.foundation.hooks import CHANGES, UNSEEN, Attachment, hooks_of
from sooner.transform import Transform


class Swaps(Protocol):
    """What a station asks of the parts attached to it.

    Attributes:
        rule: what is done to the gradients.
        steps: steps taken with changed gradients put in place.
    """

    rule: Transform
    steps: int

    @property
    def joins(self) -> bool:
        """Whether the rule can run inside the optimizer's own chains."""

    @classmethod
    def name(cls) -> str:
        """Return what the user calls it."""

    def swap_in(self) -> None:
        """Put the changed gradients where the gradients are."""


class Station(Attachment):
    """The rules of optimizers that share some, in the order in which they were attached.

    Attributes:
        optimizers: whoever shares a rule with another one.
        parts: their rules.
    """

    turn: ClassVar[int] = CHANGES

    def __init__(self, optimizers: Iterable[Optimizer], parts: Iterable[Swaps]) -> None:
        self.optimizers = list(optimizers)
        self.parts = list(parts)
        self._waiting: dict[Tensor, tuple[Tensor, int, Tensor]] = {}  # original, its version, changed
        self._first: list[tuple[Tensor, Tensor, int]] = []  # the gradients of the one that opened the round
        self._norms: dict[int, Tensor | None] = {}  # of the gradients of every other one, by `id`
        self._swapped: list[tuple[Tensor, Tensor, Tensor]] = []
        self._counted = True

    @property
    def joins(self) -> bool:
        """Whether the rules run inside the optimizer's chains; one that can't keeps all out, for their order counts."""
        return len(self.optimizers) == 1 and all(part.joins for part in self.parts)

    def undo(self, optimizer: Optimizer) -> None:
        """Put the original gradients back, except where somebody else has put another one since."""
        for p, original, changed in self._swapped:
            if p.grad is changed:
                p.grad = original
        self._swapped.clear()

    def before(self, optimizer: Optimizer, evaluation: int) -> None:
        """Put the optimizer's changed gradients in place, after finding those of all where none are at hand."""
        if self.joins or _refuses(optimizer):
            return
        if evaluation == UNSEEN:
            raise SoonerError(
                f"{self.parts[0].name()}: {type(optimizer).__name__} finds its gradients inside its own step, where "
                "this rule can't reach them; call backward before the step and pass the loss as a sooner.objective."
                "Objective"
            )
        mine = with_gradients([optimizer])
        if not mine:
            return
        if len(self.optimizers) == 1:
            self._swapped = self._changed(mine)
            return
        if not self._holds(optimizer, mine, evaluation):
            self._open(optimizer, mine)
        for p in mine:
            original, _, changed = self._waiting.pop(p)
            p.grad = changed
            self._swapped.append((p, original, changed))
        if not self._waiting:
            self.close()

    def after(self, optimizer: Optimizer, taken: bool) -> None:
        """Put the gradients back; the parts count the step once, however many optimizers share it."""
        self.undo(optimizer)
        if taken and not self.joins and not self._counted:
            self._counted = True
            for part in self.parts:
                part.steps += 1

    def close(self) -> None:
        """Forget what was found for optimizers that have not stepped."""
        self._waiting.clear()
        self._first.clear()
        self._norms.clear()

    def _holds(self, optimizer: Optimizer, mine: Sequence[Tensor], evaluation: int) -> bool:
        """Whether the rules were run on these very gradients already, for another optimizer's step."""
        if not all(p in self._waiting for p in mine):
            return False
        same = all(_is_still(p, *self._waiting[p][:2]) for p in mine)
        # GradScaler.unscale_ writes in place without counting versions; reading this waits for the device
        if same and _equal(self._norms.get(id(optimizer)), global_norm(present([optimizer]))):
            return True
        if evaluation == 0 and all(_is_still(*one) for one in self._first):
            raise SoonerError(
                f"{self.parts[0].name()}: the gradients of {type(optimizer).__name__} have changed since the step of "
                "the optimizer that it shares the rule with; find them all, and let a GradScaler unscale_ them all, "
                "before the first of the steps"
            )
        return False

    def _open(self, optimizer: Optimizer, mine: Sequence[Tensor]) -> None:
        self.close()
        found = self._changed(with_gradients(self.optimizers))
        for p, original, _ in found:
            p.grad = original
        self._waiting = {p: (original, original._version, changed) for p, original, changed in found}
        self._first = [(p, *self._waiting[p][:2]) for p in mine]
        self._norms = {id(o): global_norm(present([o])) for o in self.optimizers if o is not optimizer}

    def _changed(self, parameters: Sequence[Tensor]) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Run the rules; return parameters, their gradients as they were and the changed ones, which are in place."""
        originals: list[Tensor] = [p.grad for p in parameters]  # type: ignore[misc]
        self._counted = False
        try:
            for part in self.parts:
                part.swap_in()
        except BaseException:
            for p, original in zip(parameters, originals, strict=True):
                if p.grad is not original:
                    p.grad = original
            raise
        return [(p, original, p.grad) for p, original in zip(parameters, originals, strict=True)]  # type: ignore[misc]


def attach(optimizers: Sequence[Optimizer], part: Swaps) -> None:
    """Run the part's rule in every step of these optimizers, behind those of the parts attached before."""
    known = dict.fromkeys(station for one in optimizers if (station := station_of(one)) is not None)
    everyone = dict.fromkeys([*(o for station in known for o in station.optimizers), *optimizers])
    made = Station(everyone, [*dict.fromkeys(p for station in known for p in station.parts), part])
    for one in everyone:
        hooks = hooks_of(one)
        for station in known:
            hooks.remove(station)
        hooks.add(made)
        if hasattr(one, "gradient_rules"):
            others = [rule for rule in one.gradient_rules if not any(rule is p.rule for p in made.parts)]
            one.gradient_rules = (*others, *(p.rule for p in made.parts if made.joins))


def station_of(optimizer: Optimizer) -> Station | None:
    """Return the rules that are attached to an optimizer."""
    return next((one for one in hooks_of(optimizer).attachments if isinstance(one, Station)), None)


def with_gradients(optimizers: Iterable[Optimizer]) -> list[Tensor]:
    """Return the parameters that have a gradient, each once."""
    found = [p for one in optimizers for group in one.param_groups for p in group["params"] if p.grad is not None]
    return found if len(set(map(id, found))) == len(found) else list(dict.fromkeys(found))


def _is_still(p: Tensor, gradient: Tensor, version: int) -> bool:
    return p.grad is gradient and gradient._version == version


def _equal(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    return bool(torch.isclose(one, other, rtol=0, atol=0, equal_nan=True))


def _refuses(optimizer: Optimizer) -> bool:
    """Whether the optimizer is about to leave this step out itself, which it sees from the gradients as they are."""
    if getattr(optimizer, "non_finite", "pass") == "pass":
        return False
    largest = global_norm(present([optimizer]), torch.inf)
    return largest is not None and not bool(torch.isfinite(largest))
