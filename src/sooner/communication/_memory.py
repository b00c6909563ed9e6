"""What a worker remembers of what it could not send."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor
from torch.optim import Optimizer

from sooner.communication._codec import Buffers, Moment
from sooner.part import Part


class Memory(Part):
    """A frozen dataclass of hyper-parameters with three functions around an exchange.

    They put new tensors into `state` and never write to those in it, so that an exchange can be undone.

    Attributes:
        slots: vectors (..., d) that every worker keeps for itself, zero before the first exchange.
        shared: vectors (d,) that are the same on all workers, zero before the first exchange.
        opens_dense: the first exchange is not compressed.
    """

    station: ClassVar[str] = "communication"
    owns: ClassVar[frozenset[str]] = frozenset({"memory"})
    order: ClassVar[int] = 40
    slots: ClassVar[tuple[str, ...]] = ()
    shared: ClassVar[tuple[str, ...]] = ()
    opens_dense: ClassVar[bool] = False

    def outgoing(self, g: Tensor, state: Buffers, moment: Moment) -> Tensor:
        """Return what to send in place of ``g`` (..., d): ``g`` itself or a new tensor."""
        return g

    def sent(self, g: Tensor, v: Tensor, own: Tensor, state: Buffers, moment: Moment) -> None:
        """Note what was lost: ``v`` was to be sent, the others got ``own``."""

    def incoming(self, mean: Tensor, state: Buffers, share: float) -> Tensor:
        """Return the update (d,) from the mean (d,) of what was received.

        Args:
            mean: over the workers that took part.
            state: of this worker.
            share: the share of all workers that took part, 1 for all.
        """
        return mean

    def check(self, optimizers: Sequence[Optimizer]) -> None:
        """Refuse optimizers that this memory must not stand in front of.

        Raises:
            SoonerError: there is one.
        """


class NoMemory(Memory):
    """Nothing is remembered."""
