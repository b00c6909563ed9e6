"""What happens every so many steps to weights that workers moved on their own in between."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from sooner.communication._codec import Buffers
from sooner.communication._exchange import Exchange
from sooner.communication._memory import NoMemory
from sooner.communication.dense import Dense
from sooner.error import SoonerError
from sooner.foundation.layout import Layout
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

    @property
    def common(self) -> Tensor:
        """(d,) the weights from which this window started, for rules whose workers all start from the same."""
        return self.slow if self.slow.ndim == 1 else self.slow[0]

    def backwards(self) -> Tensor:
        """Return (d,), how far each worker has come, backwards: its mean over them, through codec and memory."""
        return self.exchange(self.weighted(self.slow - self.fast), self.active)

    def plain_mean(self) -> Tensor:
        """Return (d,), the mean of the workers' weights, without codec and memory."""
        return self.exchange.wire.mean((self.weighted(self.fast),))[0]

    def weighted(self, v: Tensor) -> Tensor:
        """Return the workers' vectors (..., d) scaled so that their plain mean is the weighted one."""
        return v if self.weights is None else v * (len(self.weights) * self.weights)[:, None]

    def everyone(self, name: str) -> None:
        """Refuse rounds that some workers sit out.

        Raises:
            SoonerError: this is one.
        """
        if self.active is not None and len(self.active) < self.exchange.wire.size:
            raise SoonerError(
                f"{name} needs all {self.exchange.wire.size} workers in every round, and {len(self.active)} take part; "
                "leave the cohort out"
            )


class Outer(Part):
    """A frozen dataclass of hyper-parameters that says where workers go on from.

    Attributes:
        every: optimizer steps between two outer steps.
        slots: vectors (d,) that are the same on all workers, zero before the first outer step.
        own_slots: vectors (..., d) that every worker keeps for itself, zero before the first outer step.
        takes_stale: uses `Window.started`, so that workers may start from weights of earlier rounds.
        meets: when workers tell each other that they take the outer step together: "first", which waits for all of
            them, "meanwhile", heard when the rule waits for an average, or "never", where not all of them meet.
        weights_kept: names in the state under which the rule keeps weights (d,), rather than something like momentum.
        averages_gradients: workers average their gradients before every step, through codec and memory, and are the
            same when the outer step comes, which then sends nothing.

    A rule puts what else it keeps into the window's state under names of its own; it does not write to tensors there.
    """

    station: ClassVar[str] = "communication"
    owns: ClassVar[frozenset[str]] = frozenset({"outer step"})
    order: ClassVar[int] = 50
    slots: ClassVar[tuple[str, ...]] = ()
    own_slots: ClassVar[tuple[str, ...]] = ()
    takes_stale: ClassVar[bool] = False
    meets: ClassVar[Literal["first", "meanwhile", "never"]] = "first"
    weights_kept: ClassVar[frozenset[str]] = frozenset()
    averages_gradients: ClassVar[bool] = False
    every: int

    def check_every(self) -> None:
        """Refuse a window that is no number of steps.

        Raises:
            SoonerError: `every` is not a whole number of at least 1.
        """
        check_range(self.name(), "every", self.every, 1, math.inf, whole=True)

    def check(self, exchange: Exchange) -> None:
        """Refuse a model, a codec or a memory that does not go with this rule, before the first step.

        Raises:
            SoonerError: there is one.
        """

    def plain_only(self, exchange: Exchange) -> None:
        """Refuse codecs and memories.

        Raises:
            SoonerError: there is one.
        """
        found: Part = exchange.memory if isinstance(exchange.codec, Dense) else exchange.codec
        if not isinstance(found, Dense | NoMemory):
            raise SoonerError(f"{self.name()} sends weights as they are; leave {type(found).__name__} out")

    def due(self, step: int) -> bool:
        """Say whether an outer step follows optimizer step number `step` (from 1)."""
        return step % self.every == 0

    def step(self, window: Window) -> Tensor:
        """Return the weights (..., d) from which the workers go on; (d,) where all go on from the same."""
        raise TypeError(f"{type(self).__name__} defines no step")

    def finish(self, window: Window) -> Tensor:
        """Return the weights (d,) to end with, from a window that may be cut short: the mean of the workers'."""
        return window.plain_mean()

    def rests(self, layout: Layout, rank: int, workers: int) -> frozenset[str]:
        """Return the names of the parameters that worker `rank` does not train."""
        return frozenset()
