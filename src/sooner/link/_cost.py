"""What a codec costs on a model: bytes of every kind of exchange, counted as they are made, and seconds of its own."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from sooner.communication._codec import Codec
from sooner.communication._exchange import Exchange
from sooner.communication._memory import Memory
from sooner.communication._outer import Outer, Window
from sooner.communication._refusals import only
from sooner.communication._wire import Payload, Sim
from sooner.error import SoonerError
from sooner.foundation.layout import Layout
from sooner.link._plan_rows import Cost
from sooner.part import Part

_SETTLED = 1_000_000
"""A number of exchanges after which every warm-up is over."""

_REPEATS = 3


class _Noting(Sim):
    """Two simulated workers that note which kind of exchange carries what."""

    def __init__(self) -> None:
        super().__init__(2)
        self.averaged = self.gathered = self.paired = 0.0
        self.averages = self.gathers = self.pairs = 0

    def mean(self, payload: Payload) -> Payload:
        self.averaged += self._bytes(payload)
        self.averages += 1
        return super().mean(payload)

    def gather(self, payload: Payload) -> Payload:
        self.gathered += self._bytes(payload)
        self.gathers += 1
        return super().gather(payload)

    def swap(self, payload: Payload, partners: Tensor) -> Payload:
        self.paired += self._bytes(payload)
        self.pairs += 1
        return super().swap(payload, partners)


def cost(parts: Sequence[Part], layout: Layout) -> Cost:
    """Run the parts on random vectors and note what they send and how long they take on one thread.

    Args:
        parts: a codec, a memory, an outer part, each at most once.
        layout: of the model's parameters.

    Raises:
        SoonerError: a part that is none of these.
    """
    codec, memory, outer = _sorted(parts)
    wire = _Noting()
    exchange = Exchange(layout, wire, codec, memory)
    vectors = torch.randn(2, layout.size, generator=torch.Generator().manual_seed(0))
    exchange(vectors.clone())
    exchange.steps = _SETTLED
    wire.averaged = wire.gathered = wire.paired = 0.0
    wire.averages = wire.gathers = wire.pairs = 0
    window = max(1, outer.every) if outer else 1
    if outer is None:
        exchange(vectors)
    else:
        _whole_window(outer, exchange, vectors, window)
    taken = _seconds(codec, memory, layout, vectors[:1])
    rounds = 1 if outer is None else sum(outer.due(step) for step in range(1, window + 1))
    return Cost(
        wire.averaged / window,
        wire.gathered / window,
        wire.paired / window,
        wire.averages / window,
        wire.gathers / window,
        wire.pairs / window,
        taken * rounds / window,
    )


def _sorted(parts: Sequence[Part]) -> tuple[Codec | None, Memory | None, Outer | None]:
    for part in parts:
        if not isinstance(part, Codec | Memory | Outer):
            raise SoonerError(
                f"{type(part).__name__} sends nothing of its own, so there is nothing to plan; "
                "name codecs, memories and outer parts, such as top_k + ef or local_sgd + fp16"
            )
    return only(parts, Codec), only(parts, Memory), only(parts, Outer)


def _whole_window(outer: Outer, exchange: Exchange, vectors: Tensor, window: int) -> None:
    slow = torch.zeros_like(vectors[0])
    if outer.own_slots:  # such rules keep a model of every worker's own
        slow = torch.zeros_like(vectors)
    state = {name: torch.zeros_like(vectors[0]) for name in outer.slots}
    state |= {name: torch.zeros_like(vectors) for name in outer.own_slots}
    for step in range(1, window + 1):
        if outer.due(step):
            outer.step(Window(slow, vectors, state, exchange, round=step, step=step))


def _seconds(codec: Codec | None, memory: Memory | None, layout: Layout, vectors: Tensor) -> float:
    """Return the seconds of an exchange of one worker with nobody."""
    exchange = Exchange(layout, Sim(1), codec, memory)
    exchange(vectors.clone())
    taken = []
    for _ in range(_REPEATS):
        # seconds of the processor, which on one thread are those of a quiet machine
        begun = time.process_time()
        exchange(vectors)
        taken.append(time.process_time() - begun)
    return min(taken)
