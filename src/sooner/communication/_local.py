"""What a worker does differently in the steps between two exchanges, such as being held back or looking ahead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sooner.communication._codec import Buffers
from sooner.part import Part

GradientAt = Callable[[Tensor], Tensor]
"""From weights (..., d) to the gradients (..., d) of the loss of one and the same batch there."""


@dataclass
class Place:
    """Where a worker is.

    Attributes:
        weights: (..., d) now.
        anchor: (..., d) where this window began.
        gradient: (..., d) at the weights.
        gradient_at: the gradient of the same batch elsewhere; every call is one more pass over the model.
        state: of the worker, changed in place.
    """

    weights: Tensor
    anchor: Tensor
    gradient: Tensor
    gradient_at: GradientAt
    state: Buffers


class Local(Part):
    """A frozen dataclass of hyper-parameters that turns a worker's gradient into what its optimizer gets.

    Attributes:
        slots: vectors (..., d) that every worker keeps for itself from window to window, zero at first.
        numbers: numbers (..., 1) that every worker keeps likewise, zero at first.
        passes: gradients computed per step.
        needs_window: means something only where an outer part lets workers step on their own.
    """

    station: ClassVar[str] = "communication"
    owns: ClassVar[frozenset[str]] = frozenset({"local step"})
    order: ClassVar[int] = 10
    slots: ClassVar[tuple[str, ...]] = ()
    numbers: ClassVar[tuple[str, ...]] = ()
    passes: ClassVar[int] = 1
    needs_window: ClassVar[bool] = True

    def direction(self, place: Place) -> Tensor:
        """Return (..., d), used in place of the gradient."""
        raise TypeError(f"{type(self).__name__} defines no direction")

    def window_begins(self, moved: Tensor, state: Buffers) -> None:
        """Note that a window begins; the common weights have `moved` (d,) in the round before, zero at first."""

    def step(self, move: Tensor, place: Place) -> Tensor:
        """Return what becomes of the move (..., d) that the optimizer made from `place.weights`, such as its half."""
        return move

    def window_ended(self, anchor: Tensor, weights: Tensor, state: Buffers) -> None:
        """Note that a worker's window, begun at `anchor`, has ended at `weights` (..., d)."""

    def correction(self, state: Buffers) -> Tensor | None:
        """Return (d,), added to the weights after averaging, from all workers' state (n, d); None for nothing."""
        return None
