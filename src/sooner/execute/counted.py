"""A step count that is on the device, and what a rule makes of it: a captured graph counts on when it is replayed."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sooner.error import SoonerError


def capturing(device: torch.device) -> bool:
    """Whether what is launched on this device now is recorded in a CUDA graph, to be replayed without the host."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def refuse_capture() -> SoonerError:
    """Return what is said where a step would be recorded that counts on the host."""
    return SoonerError(
        "this step can't be captured in a CUDA graph, for it counts on the host, and a replay would repeat the same "
        "one; pass lr as a tensor on the device and take a few steps before you capture (executor triton, methods "
        "whose rules work by element, without sums), or step outside of the graph"
    )


class Counted:
    """The step counts of several sets of parameters on the device, or what a rule has made of them.

    Args:
        values: float64 ``[sets]``.
        least: no count is less; None for what was made of counts.
    """

    __slots__ = ("least", "values")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, values: Tensor, least: int | None = None) -> None:
        self.values, self.least = values, least

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Counted:
        """Let a learning rate on the device be an operand."""
        return Counted(function(*(a.values if isinstance(a, Counted) else a for a in args), **(kwargs or {})))

    def __neg__(self) -> Counted:
        return Counted(-self.values)

    def sqrt(self) -> Counted:
        """Return the square roots."""
        return Counted(self.values.sqrt())

    def __bool__(self) -> bool:
        raise TypeError("a decision that depends on a count on the device")

    def _settled(self, holds: Callable[[float, float], bool], other: Any) -> bool:
        """Return the answer to a comparison that stays the same however far the count goes."""
        if self.least is None or not isinstance(other, int | float) or self.least <= other:
            raise TypeError("a decision that depends on a count on the device")
        return holds(self.least, other)

    def __lt__(self, other: Any) -> bool:
        return self._settled(operator.lt, other)

    def __le__(self, other: Any) -> bool:
        return self._settled(operator.le, other)

    def __gt__(self, other: Any) -> bool:
        return self._settled(operator.gt, other)

    def __ge__(self, other: Any) -> bool:
        return self._settled(operator.ge, other)

    def __eq__(self, other: object) -> bool:
        return self._settled(operator.eq, other)

    def __ne__(self, other: object) -> bool:
        return self._settled(operator.ne, other)


def _operator(function: Callable[[Any, Any], Any], *, reverse: bool = False) -> Callable[[Counted, Any], Any]:
    def apply(self: Counted, other: Any) -> Any:
        if isinstance(other, Counted):
            other = other.values
        elif not isinstance(other, int | float | Tensor):
            return NotImplemented
        return Counted(function(other, self.values) if reverse else function(self.values, other))

    return apply


for _name in ("add", "sub", "mul", "truediv", "pow"):
    setattr(Counted, f"__{_name}__", _operator(getattr(operator, _name)))
    setattr(Counted, f"__r{_name}__", _operator(getattr(operator, _name), reverse=True))
