"""Doing again what the clock's numbers go through in a trace, without tracing: an operation for each, in their order.

A rule that is traced with a `Clock` of `Reckoned` numbers writes down what it makes of them. The next step has another
count and maybe another learning rate, and so other numbers for the same program; where a decision of the rule ("is it
the first step?") turns out otherwise, the rule is traced anew. What a trace can't show, hyper-parameters that somebody
may change in place, is excluded by `is_fixed`.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from sooner.transform import Chain, sqrt

Line = tuple[Callable[..., Any] | None, Any, int, bool | None]
"""Operation (None for a constant), first operand or the constant, second operand (-1 for none), the decision it was."""


class Tape:
    """What was reckoned from a step count and a learning rate.

    Args:
        step, rate: their values now; numbers or `Rates`.

    Attributes:
        step, rate: the same, as numbers that write down what becomes of them.
    """

    def __init__(self, step: Any, rate: Any) -> None:
        self._lines: list[Line] = []
        self.step, self.rate = Reckoned(self, 0, step), Reckoned(self, 1, rate)

    def add(self, operation: Callable[..., Any] | None, first: Any, second: int, value: Any) -> Reckoned:
        """Write down one operation, or a constant, and return its result."""
        self._lines.append((operation, first, second, None))
        return Reckoned(self, len(self._lines) + 1, value)

    def decide(self, one: Reckoned) -> bool:
        """Write down that a rule goes by whether this is true, and return it."""
        found = bool(one.value)
        self._lines.append((operator.truth, one.place, -1, found))
        return found

    def again(self, step: Any, rate: Any) -> list[Any] | None:
        """Return everything that was reckoned, for another step and rate; None where a decision differs."""
        values = [step, rate]
        try:
            for operation, first, second, decided in self._lines:
                if operation is None:
                    values.append(first)
                    continue
                value = operation(values[first]) if second < 0 else operation(values[first], values[second])
                if decided is not None and value is not decided:
                    return None
                values.append(value)
        except (ArithmeticError, TypeError, ValueError):
            return None
        return values


class Reckoned:
    """A number of the clock, or what a rule has made of it: does as its value does, and writes it down.

    Attributes:
        place: where `Tape.again` has it.
        value: what it is now.
    """

    __slots__ = ("place", "tape", "value")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, tape: Tape, place: int, value: Any) -> None:
        self.tape, self.place, self.value = tape, place, value

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> NoReturn:
        """Refuse to be an operand of a tensor."""
        raise TypeError("a number of the clock beside a tensor")

    def __bool__(self) -> bool:
        return self.tape.decide(self)

    def __neg__(self) -> Reckoned:
        return self.tape.add(operator.neg, self.place, -1, -self.value)

    def sqrt(self) -> Reckoned:
        """Return the square root."""
        return self.tape.add(sqrt, self.place, -1, sqrt(self.value))


def _operator(operation: Callable[[Any, Any], Any], *, reverse: bool = False) -> Callable[[Reckoned, Any], Any]:
    def apply(self: Reckoned, other: Any) -> Any:
        if type(other) in (int, float):
            other = self.tape.add(None, other, -1, other)
        elif not isinstance(other, Reckoned):
            return NotImplemented
        a, b = (other, self) if reverse else (self, other)
        return self.tape.add(operation, a.place, b.place, operation(a.value, b.value))

    return apply


for _name in ("add", "sub", "mul", "truediv", "pow"):
    setattr(Reckoned, f"__{_name}__", _operator(getattr(operator, _name)))
    setattr(Reckoned, f"__r{_name}__", _operator(getattr(operator, _name), reverse=True))
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(Reckoned, f"__{_name}__", _operator(getattr(operator, _name)))


def is_fixed(chain: Chain) -> bool:
    """Whether all hyper-parameters of a chain are numbers and words that nobody can change in place."""
    return all(
        _fixed(getattr(rule, field.name)) for rule in chain.rules for field in dataclasses.fields(rule)
    ) and not any(vars(rule).keys() - {field.name for field in dataclasses.fields(rule)} for rule in chain.rules)


def _fixed(value: Any) -> bool:
    if type(value) is tuple:
        return all(map(_fixed, value))
    return value is None or type(value) in (bool, int, float, str)


def numbers_of(traced: Sequence[Any], values: Sequence[Any]) -> list[Any]:
    """Return a program's numbers, those of the clock from what `Tape.again` returned."""
    return [values[one.place] if isinstance(one, Reckoned) else one for one in traced]
