"""Writing down what element rules compute, without computing it: rules run on symbols, operations become lines.

A traced program holds operations only, no numbers: every number a rule uses (a decay rate, a bias correction, the
learning rate) is an argument of the program, in the order of appearance. So one compiled program serves all steps,
whatever the schedule does to the numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sooner.execute.counted import Counted
from sooner.execute.rates import Rates
from sooner.execute.replay import Reckoned

BINARY = (
    *("add", "sub", "mul", "div", "maximum", "minimum"),
    *("lt", "le", "gt", "ge", "eq", "ne", "logical_and", "logical_or"),
)
UNARY = ("neg", "abs", "sqrt", "rsqrt", "sign", "sigmoid", "square", "reciprocal", "exp", "isfinite", "logical_not")

_OPERANDS = {**dict.fromkeys(UNARY, 1), **dict.fromkeys(BINARY, 2), "where": 3, "as_theta": 1}
"""Operations and how many operands they take; "as_theta" rounds to the parameters' dtype and is not for rules."""

Operand = tuple[str, int]
"""``("in", i)``, ``("number", i)`` or ``("line", i)``."""


class UntraceableError(TypeError):
    """A rule does something that is not on the closed list of element operations; it runs eagerly instead."""


@dataclass
class Program:
    """Operations in order; each is ``(name, operand, …)`` with operands that are inputs, numbers or earlier results.

    Attributes:
        inputs: names of the input vectors, such as "gradient", "theta" or a state slot, in the order of first use.
        lines: the operations.
        numbers: the values in this trace, Python numbers, `Rates`, `Counted` or 0-d tensors; not part of the program's
            identity.
        outputs: what is written back, by name.
        sums: what is added up over rows.
        stochastic: whether parameters are written with stochastic rounding.
    """

    inputs: list[str] = field(default_factory=list)
    lines: list[tuple[Any, ...]] = field(default_factory=list)
    numbers: list[Any] = field(default_factory=list)
    outputs: dict[str, Operand] = field(default_factory=dict)
    sums: list[Operand] = field(default_factory=list)
    stochastic: bool = False

    @classmethod
    def from_key(cls, key: tuple[Any, ...]) -> Program:
        """Return the program of a key, with zeros for its numbers."""
        inputs, lines, numbers, outputs, sums, stochastic = key
        return cls(list(inputs), list(lines), [0.0] * numbers, dict(outputs), list(sums), stochastic)

    def key(self) -> tuple[Any, ...]:
        """Return what identifies the program: everything but the values of its numbers."""
        written = tuple(self.outputs.items())
        return tuple(self.inputs), tuple(self.lines), len(self.numbers), written, tuple(self.sums), self.stochastic

    def input(self, name: str) -> Symbol:
        """Return the symbol of an input vector."""
        if name not in self.inputs:
            self.inputs.append(name)
        return Symbol(self, ("in", self.inputs.index(name)))

    def operand(self, value: Any) -> Operand:
        """Return the operand for a symbol of this program or a number.

        Raises:
            UntraceableError: it is neither.
        """
        if isinstance(value, Symbol) and value.program is self:
            return value.operand
        if isinstance(value, bool | int | float | Rates | Reckoned | Counted) or (
            isinstance(value, Tensor) and value.ndim == 0
        ):
            self.numbers.append(value)
            return "number", len(self.numbers) - 1
        raise UntraceableError(f"an operand of type {type(value).__name__}")

    def apply(self, name: str, *values: Any) -> Symbol:
        """Append one operation and return the symbol of its result.

        Raises:
            UntraceableError: an operand is neither a symbol of this program nor a number, or there are too many or few.
        """
        if len(values) != _OPERANDS[name]:
            raise UntraceableError(f"{name} of {len(values)} operands")
        own = [v.operand if type(v) is Symbol and v.program is self else self.operand(v) for v in values]
        self.lines.append((name, *own))
        return Symbol(self, ("line", len(self.lines) - 1))


class Symbol:
    """Stands for a vector while a rule is traced; has the operators and methods of a tensor that work by element."""

    __slots__ = ("operand", "program")

    def __init__(self, program: Program, operand: Operand) -> None:
        self.program, self.operand = program, operand

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Symbol:
        """Let ``torch.where(…)`` and ``tensor * symbol`` be traced too."""
        name = _NAMES.get(function)
        if name is None or (kwargs and function is not torch.clamp):
            raise UntraceableError(f"{getattr(function, '__name__', function)} is not an element operation")
        if function is torch.clamp:
            if not isinstance(args[0], Symbol):
                raise UntraceableError("clamp of a vector from outside")
            return args[0].clamp(*args[1:], **(kwargs or {}))
        first = next(a for a in args if isinstance(a, Symbol))
        return first.program.apply(name, *(reversed(args) if function in _REVERSED else args))

    def clamp(self, min: Any = None, max: Any = None) -> Symbol:
        """Limit to [min, max]; NaN stays NaN."""
        limited = self if min is None else self.program.apply("maximum", self, min)
        return limited if max is None else limited.program.apply("minimum", limited, max)

    def clamp_min(self, min: Any) -> Symbol:
        """Raise what is below `min`."""
        return self.clamp(min)

    def clamp_max(self, max: Any) -> Symbol:
        """Lower what is above `max`."""
        return self.clamp(None, max)

    def where(self, condition: Symbol, other: Any) -> Symbol:
        """Return this where the condition holds, the other elsewhere."""
        return self.program.apply("where", condition, self, other)

    def __pow__(self, exponent: Any) -> Symbol:
        if not isinstance(exponent, int | float) or exponent != 2:
            raise UntraceableError(f"a power of {exponent}")
        return self.program.apply("square", self)

    def __rtruediv__(self, other: Any) -> Symbol:
        return self.program.apply("mul", self.reciprocal(), other)  # rounded twice, as PyTorch does it

    def __bool__(self) -> bool:
        raise UntraceableError("a decision that depends on the data")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise UntraceableError(f"{name} is not an element operation")


def _method(name: str, *, reverse: bool = False) -> Callable[..., Symbol]:
    def method(self: Symbol, *others: Any, **named: Any) -> Symbol:
        if named:
            raise UntraceableError(f"{name} with {', '.join(named)}=")
        return self.program.apply(name, *((*others, self) if reverse else (self, *others)))

    return method


_OPERATORS = {
    **{f"__{name}__": name for name in ("add", "sub", "mul", "lt", "le", "gt", "ge", "eq", "ne", "neg", "abs")},
    "__truediv__": "div",
    "__and__": "logical_and",
    "__or__": "logical_or",
    "__invert__": "logical_not",
}
for _name in (*UNARY, *BINARY):
    setattr(Symbol, _name, _method(_name))
for _operator, _name in _OPERATORS.items():
    setattr(Symbol, _operator, _method(_name))
for _name in ("add", "sub", "mul"):
    setattr(Symbol, f"__r{_name}__", _method(_OPERATORS[f"__{_name}__"], reverse=True))


def _refusal(name: str) -> Callable[..., Symbol]:
    def refuse(self: Symbol, *others: Any) -> Symbol:
        raise UntraceableError(f"{name} is not an element operation")

    return refuse


for _name in ("float", "int", "len", "iter", "getitem", "setitem", "mod", "floordiv", "matmul", "xor"):
    setattr(Symbol, f"__{_name}__", _refusal(_name))
for _name in ("pow", "mod", "floordiv", "matmul", "and", "or", "xor"):
    setattr(Symbol, f"__r{_name}__", _refusal(_name))

_REVERSED = {Tensor.__rsub__, Tensor.__rtruediv__, Tensor.__rdiv__}
_NAMES: dict[Any, str] = {
    **{getattr(torch, name): name for name in (*UNARY, *BINARY)},
    **{getattr(Tensor, name): name for name in (*UNARY, *BINARY)},
    **{getattr(Tensor, operator): name for operator, name in _OPERATORS.items()},
    **{getattr(Tensor, f"__r{name}__"): name for name in ("add", "mul", "sub")},
    **dict.fromkeys((Tensor.__rtruediv__, Tensor.__rdiv__), "div"),
    torch.where: "where",
    torch.clamp: "clamp",
}
