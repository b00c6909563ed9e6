"""What workers tell each other beside every exchange, so that none goes apart unnoticed and none waits in vain.

It is a handful of whole numbers: what this worker is about to do, and what is wrong here, if anything is. They travel
at the same time as the exchange itself, which no worker waits for before it has heard them. So all of them stop with
one sentence where one of them has to, or where they are at different places of the program.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sooner.communication._wire import Wire
from sooner.error import SoonerError

AVERAGE, CHANGED, OUTER, FINISH, VIEW = range(1, 6)
_DOING: Final = {
    AVERAGE: "average gradients",
    CHANGED: "train a changed model",
    OUTER: "take an outer step",
    FINISH: "finish",
    VIEW: "enter view()",
}

SPARSE, WRAPPED, STRANGER = range(1, 4)
_WRONG: Final = {
    SPARSE: "the gradient of {name} is sparse, and averages are dense; pass sparse=False there",
    WRAPPED: (
        "the model is wrapped in DistributedDataParallel too, which has just averaged the same gradients; train the "
        "module inside of it, or set require_backward_grad_sync = False on the wrapper, or leave Communication out and "
        "give the wrapper a DDPBuckets"
    ),
    STRANGER: (
        "an optimizer holds a parameter that the model does not have, so that nobody would average its gradient; pass "
        "a model that holds all of them, such as torch.nn.ModuleList([model, head])"
    ),
}

FROZEN, UNFROZEN, REPLACED, RESIZED, CAST, MOVED, ADDED, REMOVED = range(1, 9)
_BECAME: Final = {
    FROZEN: "was frozen",
    UNFROZEN: "was unfrozen",
    REPLACED: "was replaced",
    RESIZED: "has another shape now",
    CAST: "has another type now",
    MOVED: "is on another device now",
    ADDED: "is followed by a new one, or comes at another place,",
    REMOVED: "is no longer there or tied",
}

_INDEX, _RANK = 24, 20
"""Bits of a parameter's number and of a rank in one whole number."""


class Meeting:
    """The same numbers of all workers, compared.

    Args:
        wire: connects the workers.
        names: of the model's parameters, in their order, the same on all workers.
    """

    def __init__(self, wire: Wire, names: Sequence[str]) -> None:
        self.wire, self.names = wire, list(names)
        self.asked = False
        """Whether some worker, at the last meeting, had other gradients than those it had before."""
        self.others_average = False
        """Whether some worker, at the last meeting, was about to average gradients."""

    def begin(
        self,
        doing: int,
        *,
        wrong: tuple[int, int] | None = None,
        change: tuple[int, int] | None = None,
        asks: bool = False,
    ) -> None:
        """Tell the others; the next exchange hears what they tell before it waits.

        Args:
            doing: what this worker is about to do.
            wrong: why it can't, and the number of the parameter.
            change: what a parameter has become, and its number.
            asks: whether this worker has other gradients than before.
        """
        numbers = (doing, self._packed(wrong), self._packed(change), int(asks))
        answer = self.wire.compare(numbers)
        if answer is None:
            self._judge(numbers, numbers)
        else:
            self.wire.minding.append(lambda: self._judge(*answer()))

    def end(self) -> None:
        """Hear what the others told, where no exchange has heard it yet.

        Raises:
            SoonerError: on all workers: one of them can't go on, or they are about to do different things.
        """
        self.wire.mind()

    def _packed(self, what: tuple[int, int] | None) -> int:
        if what is None:
            return 0
        code, index = what
        return (code << (_INDEX + _RANK)) | (index << _RANK) | self.wire.rank

    def _judge(self, lows: Sequence[int], highs: Sequence[int]) -> None:
        self.asked, self.others_average = bool(highs[3]), lows[0] == AVERAGE
        if highs[1]:
            code, name, rank = self._unpacked(highs[1])
            alike = lows[1] >> _RANK == highs[1] >> _RANK
            text = sentence(code, name)
            raise SoonerError(text if alike else f"rank {rank}: {text}")
        if lows[0] == highs[0]:
            return
        if lows[0] in (AVERAGE, CHANGED) and highs[0] in (CHANGED, OUTER):
            code, name, rank = self._unpacked(highs[2])
            raise SoonerError(
                f"parameter {name} {_BECAME[code]} on rank {rank} and not on all ranks, so that they would go apart; "
                "change the model at the same step everywhere"
            )
        raise SoonerError(
            f"some ranks {_DOING[lows[0]]} while others {_DOING[highs[0]]}; give all ranks the same number of steps, "
            "and let all of them call the same methods in the same order"
        )

    def _unpacked(self, number: int) -> tuple[int, str, int]:
        code, rest = divmod(number, 1 << (_INDEX + _RANK))
        index, rank = divmod(rest, 1 << _RANK)
        return code, self.names[min(index, len(self.names) - 1)], rank


def sentence(code: int, name: str = "") -> str:
    """Return what is wrong, and what to do about it."""
    return _WRONG[code].format(name=name)
