"""What happens every so many steps to weights that workers moved on their own in between."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sooner.communication._codec import Buffers
from sooner.communication._exchange import Exchange
from sooner.layout import Layout
from sooner.part import Part, check_range


@dataclass
class Window:
    """The steps between two outer steps, as an outer rule sees them.

    Attributes:
        slow: (..., d) the weights from which every worker started this window.
        fast: (..., d) the weights at which it has arrived.
        state: of the rule, changed in place.
        exchange: averages vectors through the recipe's codec and memory; `exchange.wire` has the other ways to send.
        round: number of this outer step, from 1.
        step: number of optimizer steps taken so far.
        weights: (m,) how much each taking-part worker counts, adding up to 1; None for equally much.
        active: (m,) numbers of the simulated workers that take part; None for all.
        started: (m, d) the weights from which they started, where these are older than `slow`; None otherwise.
        taken: (m,) optimizer steps that each of them took since; None for `every`.
    """

    slow: Tensor
    fast: Tensor
    state: Buffers
    exchange: Exchange
    round: int
    step: int
    weights: Tensor | None = None
    active: Tensor | None = None
    started: Tensor | None = None
    taken: Tensor | None = None

    @property
    def layout(self) -> Layout:
        """Where every parameter lies in the vectors."""
        return self.exchange.layout


class Outer(Part):
    """A frozen dataclass of hyper-parameters that says where workers go on from.

    Attributes:
        every: optimizer steps between two outer steps.
        slots: vectors (d,) that are the same on all workers, zero before the first outer step.
        own_slots: vectors (..., d) that every worker keeps for itself, zero before the first outer step.
        takes_stale: uses `Window.started`, so that workers may start from weights of earlier rounds.
    """

    station: ClassVar[str] = "communication"
    owns: ClassVar[frozenset[str]] = frozenset({"outer step"})
    order: ClassVar[int] = 50
    slots: ClassVar[tuple[str, ...]] = ()
    own_slots: ClassVar[tuple[str, ...]] = ()
    takes_stale: ClassVar[bool] = False
    every: int

    def check_every(self) -> None:
        """Refuse a window that is no number of steps.

        Raises:
            SoonerError: `every` is not a whole number of at least 1.
        """
        check_range(type(self).__module__.rpartition(".")[2], "every", self.every, 1, math.inf, whole=True)

    def due(self, step: int) -> bool:
        """Say whether an outer step follows optimizer step number `step` (from 1)."""
        return step % self.every == 0

    def step(self, window: Window) -> Tensor:
        """Return the weights (..., d) from which the workers go on; (d,) where all go on from the same."""
        raise TypeError(f"{type(self).__name__} defines no step")
