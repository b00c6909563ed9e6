"""A rule is written once, as a pure function of one step, and a chain of rules is an optimizer.

    (u, state) <- rule(u, state, theta, clock),   starting from u = gradient;   at the end  theta <- theta + u

Rules say at which grain they work and executors (`sooner.execute`) decide from that how to run them: "element" rules
read and write one element at a time, "tensor" rules need a whole parameter with its shape, "model" rules need a number
measured over all parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

Grain = Literal["element", "tensor", "model"]
State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Clock:
    """What a rule may know of time: `step` counts from 1, `learning_rate` is the current one (number or 0-d tensor)."""

    step: int
    learning_rate: float | Tensor


@dataclass(frozen=True)
class Transform:
    """One rule with its hyper-parameters. Subclasses are frozen dataclasses that define `rule`.

    Attributes:
        grain: "element" (tensors arrive as vectors ``[D]`` in any grouping), "tensor" (same-shaped parameters arrive
            stacked, ``[n, *shape]``) or "model" (like element, plus `total`, the sum of `measure` over all parameters).
        slots: names of the state tensors, shaped like the parameters, zero before the first step.
        reads_theta: whether the rule looks at the parameters (so that executors need not gather them otherwise).
    """

    grain: ClassVar[Grain] = "element"
    slots: ClassVar[tuple[str, ...]] = ()
    reads_theta: ClassVar[bool] = False

    def rule(self, u: Tensor, state: State, theta: Tensor | None, clock: Clock) -> tuple[Tensor, State]:
        """Return the new ``u`` and the new state; must not modify its arguments."""
        raise TypeError(f"{type(self).__name__} defines no rule")


@dataclass(frozen=True)
class ModelTransform(Transform):
    """A rule that needs one number measured over all parameters, such as the global gradient norm."""

    grain: ClassVar[Grain] = "model"

    def measure(self, u: Tensor) -> Tensor:
        """Return this vector's share of the total, a 0-d tensor; shares add up."""
        raise TypeError(f"{type(self).__name__} defines no measure")

    def rule_with(self, u: Tensor, total: Tensor) -> Tensor:
        """Return the new ``u`` given the total over all parameters."""
        raise TypeError(f"{type(self).__name__} defines no rule_with")


@dataclass(frozen=True)
class Chain:
    """Rules applied one after the other. The state of all of them lives side by side, so slot names must differ."""

    rules: tuple[Transform, ...]

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of all state tensors of the chain."""
        return tuple(slot for rule in self.rules for slot in rule.slots)

    @property
    def reads_theta(self) -> bool:
        """Whether any rule looks at the parameters."""
        return any(rule.reads_theta for rule in self.rules)


def chain(*rules: Transform | None) -> Chain:
    """Put rules in sequence: ``chain(moments(...), decay(0.1), descend())`` reads as the step it takes.

    A None stands for a rule that has nothing to do (see `decay`) and is left out.

    Raises:
        ValueError: two rules keep state under the same name.
    """
    made = Chain(tuple(rule for rule in rules if rule is not None))
    if len(set(made.slots)) != len(made.slots):
        raise ValueError(f"two rules of one chain use the same state name: {', '.join(made.slots)}")
    return made


@dataclass(frozen=True)
class Decay(Transform):
    """Adds ``weight_decay * theta``: coupled (L2) before the moments, decoupled after them."""

    weight_decay: float
    reads_theta: ClassVar[bool] = True

    def rule(self, u: Tensor, state: State, theta: Tensor | None, clock: Clock) -> tuple[Tensor, State]:
        """``u + weight_decay * theta``."""
        return u + self.weight_decay * theta, state  # type: ignore[operator]


def decay(weight_decay: float) -> Decay | None:
    """Return the rule for this weight decay; None for 0, so that the parameters are not read for nothing."""
    return Decay(weight_decay) if weight_decay else None


@dataclass(frozen=True)
class Descend(Transform):
    """Turns a direction into a displacement: ``-learning_rate * u``. The last rule of most chains."""

    def rule(self, u: Tensor, state: State, theta: Tensor | None, clock: Clock) -> tuple[Tensor, State]:
        """``-learning_rate * u``."""
        return -clock.learning_rate * u, state
