"""A rule is written once, as a pure function of one step, and a chain of rules is an optimizer.

    (u, state) <- rule(u, state, theta, clock),   starting from u = gradient;   at the end  theta <- theta + u

Rules say at which grain they work and executors (`sooner.execute`) decide from that how to run them: "element" rules
read and write one element at a time, "sum" rules need sums over rows, parameters or the whole model (see `Reduction`),
"tensor" rules need a whole parameter with its shape.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

Grain = Literal["element", "sum", "tensor"]
Scope = Literal["row", "parameter", "model"]
State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Clock:
    """What a rule may know of time: `step` counts from 1, `learning_rate` is the current one (number or 0-d tensor)."""

    step: int
    learning_rate: float | Tensor


def sqrt(number: Any) -> Any:
    """Return the square root of a number that is made of the clock's.

    An executor may ask a rule once for parameters whose clocks differ. The numbers are then several in one place,
    which have + - * / and powers like a number, but not what `math` makes of one.
    """
    return math.sqrt(number) if isinstance(number, int | float) else number.sqrt()


@dataclass(frozen=True, eq=False)  # else subclasses with eq=False would inherit an equality that sees no fields
class Transform:
    """One rule with its hyper-parameters. Subclasses are frozen dataclasses that define `rule`.

    Attributes:
        grain: "element" (tensors arrive as vectors ``[D]`` in any grouping), "tensor" (same-shaped parameters arrive
            stacked, ``[n, *shape]``) or "sum" (see `Reduction`).
        slots: names of the state tensors, zero before the first step and shaped as `slot_shape` says.
        reads_theta: whether the rule looks at the parameters (so that executors need not gather them otherwise).
    """

    grain: ClassVar[Grain] = "element"
    slots: ClassVar[tuple[str, ...]] = ()
    reads_theta: ClassVar[bool] = False

    def rule(self, u: Tensor, state: State, theta: Tensor | None, clock: Clock) -> tuple[Tensor, State]:
        """Return the new ``u`` and the new state; must not modify its arguments."""
        raise TypeError(f"{type(self).__name__} defines no rule")

    def slot_shape(self, slot: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of a state tensor for a parameter of this shape; only tensor rules may choose another."""
        return shape


@dataclass(frozen=True, eq=False)
class Reduction(Transform):
    """A rule that needs sums: of products over the rows of a weight, over a parameter, or over the whole model.

    It has three parts, so that executors can fuse the first and the last with the rules around them:
    `prepare` works element by element and names the vectors to add up; `decide` turns the sums into numbers, on small
    tensors, with any PyTorch operation; `finish` works element by element with these numbers.

    Attributes:
        over: "row" (all but the first dimension of a parameter with two or more; any other parameter is one row),
            "parameter" or "model" (all parameters that have a gradient, of all groups).
        slots: state shaped like the parameters, for `prepare`.
        memory: names of state kept as one number per parameter, zero before the first step, for `decide`. A model rule
            keeps the same number with every parameter.
        recalls: names of numbers that `recall` makes of the memory, which `prepare` finds among its state.
    """

    grain: ClassVar[Grain] = "sum"
    over: ClassVar[Scope] = "parameter"
    memory: ClassVar[tuple[str, ...]] = ()
    recalls: ClassVar[tuple[str, ...]] = ()

    def recall(self, memory: State, clock: Clock) -> State:
        """Return the numbers of `recalls`, for the memory as the last step has left it.

        So the state can be kept by numbers that are the model's or the parameter's own. A rule that only recalls, and
        adds up nothing, is a single pass.

        Args:
            memory: as in `decide`, but of parameters of any shapes, ``[n]``.
            clock: as everywhere.

        Returns:
            Numbers shaped as those of the memory, by the names of `recalls`.
        """
        raise TypeError(f"{type(self).__name__} defines no recall")

    def prepare(
        self, u: Tensor, state: State, theta: Tensor | None, clock: Clock
    ) -> tuple[Tensor, State, tuple[Tensor, ...]]:
        """Return the new ``u``, the new state and the vectors to add up, element by element.

        Beside the slots, `state` has what the rule `recalls`.
        """
        raise TypeError(f"{type(self).__name__} defines no prepare")

    def decide(
        self, sums: tuple[Tensor, ...], memory: State, shape: tuple[int, ...], clock: Clock
    ) -> tuple[tuple[Tensor, ...], State]:
        """Return the numbers for `finish` and the new memory.

        Args:
            sums: one tensor per vector of `prepare`, added up in float64: ``[n, rows]`` for rows, ``[n]`` for
                parameters, 0-d for the model.
            memory: per name one number per parameter, ``[n]``, float64; 0-d for the model.
            shape: of each of the n same-shaped parameters; ``()`` for the model.
            clock: as everywhere.

        Returns:
            Numbers shaped like the sums, or ``[n]`` for one number per parameter where the sums are over rows.
        """
        raise TypeError(f"{type(self).__name__} defines no decide")

    def finish(self, u: Tensor, theta: Tensor | None, numbers: tuple[Tensor, ...], clock: Clock) -> Tensor:
        """Return the new ``u``, element by element; numbers broadcast against ``u`` and `theta`."""
        raise TypeError(f"{type(self).__name__} defines no finish")


@dataclass(frozen=True, eq=False)
class Rescale(Reduction):
    """Multiplies by one number that `decide` makes of the sum of squares, over the whole model by default."""

    over: ClassVar[Scope] = "model"

    def prepare(
        self, u: Tensor, state: State, theta: Tensor | None, clock: Clock
    ) -> tuple[Tensor, State, tuple[Tensor, ...]]:
        """Add up the squares."""
        return u, state, (u * u,)

    def finish(self, u: Tensor, theta: Tensor | None, numbers: tuple[Tensor, ...], clock: Clock) -> Tensor:
        """Multiply by the number."""
        return u * numbers[0]


@dataclass(frozen=True, eq=False)
class Quantity(Reduction):
    """A model rule whose number is no sum, such as a quantile of all elements: `look` gets the whole vectors."""

    over: ClassVar[Scope] = "model"

    def prepare(
        self, u: Tensor, state: State, theta: Tensor | None, clock: Clock
    ) -> tuple[Tensor, State, tuple[Tensor, ...]]:
        """Add up nothing."""
        return u, state, ()

    def look(self, updates: Sequence[Tensor], clock: Clock) -> tuple[Tensor, ...]:
        """Return 0-d tensors computed from the flat vectors ``u``, one per device and dtype; `decide` gets them."""
        raise TypeError(f"{type(self).__name__} defines no look")


@dataclass(frozen=True)
class Chain:
    """Rules applied one after the other. The state of all of them lives side by side, so slot names must differ."""

    rules: tuple[Transform, ...]

    def shapes(self, shape: tuple[int, ...], piece: tuple[int, ...] | None = None) -> dict[str, tuple[int, ...]]:
        """Return the shape of every state tensor for a parameter of this shape.

        Args:
            shape: of the whole parameter.
            piece: of the part of it that this process has, where parameters are sharded. Rules that need whole
                parameters keep whole state, the others that of the piece.
        """
        own = shape if piece is None else piece
        return {
            slot: rule.slot_shape(slot, shape if rule.grain == "tensor" else own) if slot in rule.slots else ()
            for rule in self.rules
            for slot in _kept(rule)
        }

    def in_pieces(self) -> frozenset[str]:
        """Return the names of the state that is shaped like a process's own piece of a parameter."""
        return frozenset(slot for rule in self.rules if rule.grain != "tensor" for slot in rule.slots)

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of all state tensors of the chain."""
        return tuple(slot for rule in self.rules for slot in _kept(rule))

    @property
    def reads_theta(self) -> bool:
        """Whether any rule looks at the parameters."""
        return any(rule.reads_theta for rule in self.rules)


def _kept(rule: Transform) -> tuple[str, ...]:
    return (*rule.slots, *rule.memory) if isinstance(rule, Reduction) else rule.slots


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
