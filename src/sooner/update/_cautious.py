"""Cautious updates: of a step, keep what agrees with the gradient of now, for any rule that remembers earlier ones.

    u <- the rule's direction;   a = 1 where u g > 0, else 0;   u <- u * a / max(mean(a), 0.001)

The mean is over a parameter, so a step with few parts left is as long as before. Weight decay stays as it is. It costs
no state; elementwise rules are one pass more.

Liang et al., 2024, arXiv 2411.16085, algorithm 1; the mean and its least value as in the authors' code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sooner.error import SoonerError
from sooner.transform import Chain, Clock, Decay, Descend, Grain, Reduction, Scope, State, Transform, chain

LEAST = 1e-3
"""The mean that a step is divided by at least."""


@dataclass(frozen=True)
class _Held:
    """Rules that another one holds: their state and what they read are its own."""

    rules: tuple[Transform, ...]

    @property
    def slots(self) -> tuple[str, ...]:
        """The state of the rules."""
        return tuple(slot for rule in self.rules for slot in rule.slots)

    @property
    def reads_theta(self) -> bool:
        """Whether any of the rules does."""
        return any(rule.reads_theta for rule in self.rules)

    def apply(self, u: Tensor, state: State, theta: Tensor | None, clock: Clock) -> tuple[Tensor, State]:
        """Apply the rules one after the other."""
        after: dict[str, Tensor] = {}
        for rule in self.rules:
            own = {slot: state[slot] for slot in rule.slots}
            u, new = rule.rule(u, own, theta if rule.reads_theta else None, clock)
            after.update(new)
        return u, after


@dataclass(frozen=True)
class CautiousStep(_Held, Reduction):  # type: ignore[override]  # slots and reads_theta are those of the rules
    """Element rules, and of what they make of a gradient the part that agrees with it."""

    over: ClassVar[Scope] = "parameter"

    def prepare(
        self, u: Tensor, state: State, theta: Tensor | None, clock: Clock
    ) -> tuple[Tensor, State, tuple[Tensor, ...]]:
        """Apply the rules; clear what disagrees and count what does not. A step that is NaN stays NaN."""
        direction, after = self.apply(u, state, theta, clock)
        agrees = direction * u
        return torch.where(agrees <= 0, 0.0, direction), after, (torch.where(agrees > 0, 1.0, 0.0),)

    def decide(
        self, sums: tuple[Tensor, ...], memory: State, shape: tuple[int, ...], clock: Clock
    ) -> tuple[tuple[Tensor, ...], State]:
        """One over the share that agrees."""
        return (1.0 / (sums[0] / max(math.prod(shape), 1)).clamp(min=LEAST),), memory

    def finish(self, u: Tensor, theta: Tensor | None, numbers: tuple[Tensor, ...], clock: Clock) -> Tensor:
        """Make the step as long as it was."""
        return u * numbers[0]


@dataclass(frozen=True)
class CautiousMatrixStep(_Held, Transform):  # type: ignore[override]  # as above
    """The same of rules that need whole parameters; their element rules then keep whole state too."""

    grain: ClassVar[Grain] = "tensor"

    def slot_shape(self, slot: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """As the rule has it whose state it is."""
        owner = next(rule for rule in self.rules if slot in rule.slots)
        return owner.slot_shape(slot, shape)

    def rule(self, u: Tensor, state: State, theta: Tensor | None, clock: Clock) -> tuple[Tensor, State]:
        """Apply the rules to parameters ``[n, *shape]``, and keep of each what agrees."""
        direction, after = self.apply(u, state, theta, clock)
        agrees = direction * u
        share = (agrees > 0).to(direction.dtype).flatten(1).mean(1).clamp(min=LEAST)
        kept = torch.where(agrees <= 0, 0.0, direction)
        return kept / share.view(-1, *[1] * (u.ndim - 1)), after


def cautious(part: str, own: Chain) -> Chain:
    """Return the chain with its direction made cautious: all between sums over rows or parameters and the decay.

    Raises:
        SoonerError: the chain's direction is the gradient itself, or ends with a sum: nothing could be left out of it.
    """
    kinds = [type(rule) for rule in own.rules]
    end = kinds.index(Descend) if Descend in kinds else 0
    while end and isinstance(own.rules[end - 1], Decay):
        end -= 1
    begin = max((i + 1 for i in range(end) if own.rules[i].grain == "sum"), default=0)
    body = own.rules[begin:end]
    if not any(rule.slots for rule in body):
        raise SoonerError(
            f"{part}: cautious=True keeps of a step what agrees with the gradient of now, and here the step's "
            "direction is that gradient, or is made of sums; leave it out, or take a rule with momentum, such as adamw"
        )
    whole = any(rule.grain == "tensor" for rule in body)
    wrapped = CautiousMatrixStep(body) if whole else CautiousStep(body)
    return chain(*own.rules[:begin], wrapped, *own.rules[end:])
