"""The range in which a hyper-parameter (a knob) is tuned: logarithmic, linear, or a list of choices.

A part declares a `Space`, one knob per hyper-parameter worth tuning. A knob maps the unit interval onto its values, so
that one set of quasi-random points in [0, 1] serves every contender of a race. Standard library only.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from sooner.error import SoonerError

Value: TypeAlias = bool | int | float | str | None
Side: TypeAlias = Literal["low", "high"]
Settings: TypeAlias = dict[str, Value]


def _check_bounds(low: float, high: float, kind: str) -> None:
    for bound in (low, high):
        if isinstance(bound, bool) or not isinstance(bound, int | float) or not math.isfinite(bound):
            raise SoonerError(f"a {kind} range needs two finite numbers, got {low!r} and {high!r}")
    if low >= high:
        raise SoonerError(
            f"a {kind} range needs low < high, got low = {low!r} and high = {high!r}: swap or spread them"
        )


def _check_unit(u: float) -> None:
    if not 0 <= u <= 1:
        raise SoonerError(f"a position in a range lies between 0 and 1, got {u!r}")


def _significant(value: float, scale: float) -> float:
    """Round `value` to four significant digits of `scale`, so that settings print well."""
    return round(value, 3 - math.floor(math.log10(abs(scale))))


def _number(value: Value) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SoonerError(f"a numeric range has no place for {value!r}: give a number")
    return float(value)


@dataclass(frozen=True)
class Log:
    """A positive range whose points are evenly spread in the logarithm, such as a learning rate.

    Args:
        low: lower bound, above 0.
        high: upper bound, above `low`.

    Raises:
        SoonerError: the bounds are not finite, not positive or not in order.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_bounds(self.low, self.high, "logarithmic")
        if self.low <= 0:
            raise SoonerError(f"a logarithmic range starts above 0, got low = {self.low!r}: use Uniform to include 0")

    def at(self, u: float) -> float:
        """Return the value at position `u` in [0, 1], rounded to four significant digits and kept in the range."""
        _check_unit(u)
        value = math.exp((1 - u) * math.log(self.low) + u * math.log(self.high))
        return min(max(_significant(value, value), self.low), self.high)

    def unit(self, value: Value) -> float:
        """Return the position of `value`: below 0 or above 1 outside the range.

        Raises:
            SoonerError: `value` is not a positive number.
        """
        number = _number(value)
        if number <= 0:
            raise SoonerError(f"{value!r} has no place on a logarithmic range: give a number above 0")
        return math.log(number / self.low) / math.log(self.high / self.low)

    def widened(self, side: Side) -> "Log":
        """Return the range extended beyond that edge by half its width, measured in the logarithm."""
        factor = math.sqrt(self.high / self.low)
        if side == "low":
            return Log(_significant(self.low / factor, self.low / factor), self.high)
        return Log(self.low, _significant(self.high * factor, self.high * factor))

    def describe(self) -> dict[str, Any]:
        """Return the range as a JSON-able dict: kind, low and high."""
        return {"kind": "log", "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Uniform:
    """A range whose points are evenly spread, such as a momentum.

    Args:
        low: lower bound.
        high: upper bound, above `low`.

    Raises:
        SoonerError: the bounds are not finite or not in order.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_bounds(self.low, self.high, "uniform")

    def at(self, u: float) -> float:
        """Return the value at position `u` in [0, 1], rounded to four digits of the width and kept in the range."""
        _check_unit(u)
        value = _significant((1 - u) * self.low + u * self.high, self.high - self.low)
        return min(max(value, self.low), self.high)

    def unit(self, value: Value) -> float:
        """Return the position of `value`: below 0 or above 1 outside the range.

        Raises:
            SoonerError: `value` is not a number.
        """
        return (_number(value) - self.low) / (self.high - self.low)

    def widened(self, side: Side) -> "Uniform":
        """Return the range extended beyond that edge by half its width."""
        half = (self.high - self.low) / 2
        if side == "low":
            return Uniform(_significant(self.low - half, half), self.high)
        return Uniform(self.low, _significant(self.high + half, half))

    def describe(self) -> dict[str, Any]:
        """Return the range as a JSON-able dict: kind, low and high."""
        return {"kind": "uniform", "low": self.low, "high": self.high}


@dataclass(frozen=True, init=False)
class Choice:
    """A list of values, each taking an equal share of the unit interval; they have no order and hence no edges.

    Args:
        values: the values, at least one, all different.

    Raises:
        SoonerError: there is no value, or one is listed twice.
    """

    values: tuple[Value, ...]

    def __init__(self, *values: Value) -> None:
        if not values:
            raise SoonerError("a choice needs at least one value")
        for position, value in enumerate(values):
            if _find(values[:position], value) is not None:
                raise SoonerError(f"a choice lists each value once, got {value!r} twice")
        object.__setattr__(self, "values", values)

    def at(self, u: float) -> Value:
        """Return the value whose share of the unit interval holds `u`."""
        _check_unit(u)
        return self.values[min(int(u * len(self.values)), len(self.values) - 1)]

    def unit(self, value: Value) -> float:
        """Return the middle of the share of `value`.

        Raises:
            SoonerError: `value` is not among the choices.
        """
        position = _find(self.values, value)
        if position is None:
            raise SoonerError(f"{value!r} is not among the choices {', '.join(map(repr, self.values))}")
        return (position + 0.5) / len(self.values)

    def widened(self, side: Side) -> "Choice":
        """Return the same choice: nothing lies beyond it."""
        return self

    def describe(self) -> dict[str, Any]:
        """Return the choice as a JSON-able dict: kind and values."""
        return {"kind": "choice", "values": list(self.values)}


def _find(values: Sequence[Value], value: Value) -> int | None:
    """Return where `value` stands; unlike `index`, it tells True from 1 and False from 0."""
    for position, known in enumerate(values):
        if known == value and isinstance(known, bool) == isinstance(value, bool):
            return position
    return None


Knob: TypeAlias = Log | Uniform | Choice
Space: TypeAlias = dict[str, Knob]
