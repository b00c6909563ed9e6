"""Several numbers in the place of one: a rule is traced once for parameters that differ in learning rate or steps."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, NoReturn


class Rates:
    """The learning rates or step counts of several sets of parameters, or what a rule has made of them.

    Every operation is that of Python's own numbers, one by one, so the results are those of a trace for each rate. What
    else is asked of it can't be answered once for all, and is refused.
    """

    __slots__ = ("values",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, values: Sequence[float]) -> None:
        self.values = values

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> NoReturn:
        """Refuse to be an operand of a tensor."""
        raise TypeError("several numbers beside a tensor")

    def __neg__(self) -> Rates:
        return Rates([-one for one in self.values])

    def sqrt(self) -> Rates:
        """Return the square roots."""
        return Rates([math.sqrt(one) for one in self.values])

    def __bool__(self) -> NoReturn:
        raise TypeError("a decision that depends on the clock")

    def __eq__(self, other: object) -> NoReturn:
        raise TypeError("a decision that depends on the clock")


def _operator(function: Callable[[Any, Any], Any], *, reverse: bool = False) -> Callable[[Rates, Any], Any]:
    def apply(self: Rates, other: Any) -> Any:
        if isinstance(other, Rates):
            others = other.values
        elif isinstance(other, int | float):
            others = [other] * len(self.values)
        else:
            return NotImplemented
        pairs = zip(self.values, others, strict=True)
        return Rates([function(b, a) if reverse else function(a, b) for a, b in pairs])

    return apply


for _name in ("add", "sub", "mul", "truediv", "pow"):
    setattr(Rates, f"__{_name}__", _operator(getattr(operator, _name)))
    setattr(Rates, f"__r{_name}__", _operator(getattr(operator, _name), reverse=True))
