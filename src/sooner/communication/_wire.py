"""What carries payloads between workers, and counts them: `Sim` in one process, `Group` over a torch process group.

A worker's own tensors have the worker as dimension 0 in `Sim` (n, ...) and no such dimension in `Group`; what all
workers share afterwards, such as a mean, has none in either. Codecs and memories look only at the last dimension, so
that the same code runs on both.
"""

from __future__ import annotations

import abc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor

Payload: TypeAlias = tuple[Tensor, ...]
Made = TypeVar("Made")


@dataclass
class Traffic:
    """What one worker has sent so far.

    Attributes:
        payload_bytes: bytes of encoded payloads, one copy each.
        wire_bytes: bytes that leave a worker: 2 (n - 1) / n of a payload in a ring all-reduce, n - 1 of it in an
            all-gather, one copy per partner otherwise. Headers of the network are not in it, nor the 64 bytes with
            which workers tell each other that they go on together.
        messages: collectives, or exchanges with partners.
        encode_seconds: time spent in codecs and memories.
        wait_seconds: time from the start of an exchange to its end.
    """

    payload_bytes: float = 0.0
    wire_bytes: float = 0.0
    messages: int = 0
    encode_seconds: float = 0.0
    wait_seconds: float = 0.0

    def count(self, payload_bytes: float, copies: float) -> None:
        """Note one exchange of a payload that leaves the worker `copies` times."""
        self.payload_bytes += payload_bytes
        self.wire_bytes += payload_bytes * copies
        self.messages += 1

    def state_dict(self) -> dict[str, float]:
        """Return the counts."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Go on from these counts."""
        for name, value in state.items():
            setattr(self, name, value)


class Flight:
    """A mean that is under way while its workers do something else.

    Args:
        mean: where it arrives, a tensor of its own.
        arrive: waits until it is there; None where it is there already.
    """

    def __init__(self, mean: Tensor, arrive: Callable[[], Any] | None = None) -> None:
        self._mean, self._arrive = mean, arrive

    def wait(self) -> Tensor:
        """Return the mean once it is there."""
        if self._arrive is not None:
            self._arrive()
            self._arrive = None
        return self._mean


class Wire(abc.ABC):
    """Connects workers. Every method is a collective: all workers call it, in the same order."""

    def __init__(self) -> None:
        self.traffic = Traffic()
        self.minding: list[Callable[[], None]] = []
        """What the next exchange hears before it waits for its end."""

    def mind(self) -> None:
        """Hear what is to be heard now."""
        while self.minding:
            self.minding.pop(0)()

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """Number of workers."""

    @property
    @abc.abstractmethod
    def rank(self) -> int:
        """This worker's number; 0 where one process holds all of them."""

    @property
    @abc.abstractmethod
    def lead(self) -> tuple[int, ...]:
        """Leading dimensions of a worker's own tensors: ``(n,)`` in a simulation, ``()`` otherwise."""

    def mean(self, payload: Payload) -> Payload:
        """Return the means over the workers; the parts must add up (`Codec.reducible`)."""
        made = self._timed(self._mean, payload)
        n = self._count(payload)
        self.traffic.count(self._bytes(payload), 2 * (n - 1) / n)
        return made

    def mean_in_place(self, part: Tensor) -> Tensor:
        """Return the mean of ``part`` over the workers, in its memory where every worker has memory of its own."""
        made = self._timed(self._mean_in_place, part)
        n = self._count((part,))
        self.traffic.count(self._bytes((part,)), 2 * (n - 1) / n)
        return made

    def launch(self, part: Tensor) -> Flight:
        """Begin to average ``part`` (..., *) over the workers and return at once; `part` may be changed meanwhile."""
        flight = self._launch(part)
        n = self._count((part,))
        self.traffic.count(self._bytes((part,)), 2 * (n - 1) / n)
        return flight

    def tell(self, what: Any) -> list[Any]:
        """Return what every process says of itself, any picklable object, in the order of their ranks."""
        return [what]

    def compare(self, numbers: Sequence[int]) -> Callable[[], tuple[Sequence[int], Sequence[int]]] | None:
        """Begin to compare whole numbers; what is returned waits for the least and the largest of all workers.

        None where a worker has nobody to compare them with, or no way to.
        """
        return None

    def gather(self, payload: Payload) -> Payload:
        """Return every worker's payload, stacked: each part is (workers, ...)."""
        made = self._timed(self._gather, payload)
        self.traffic.count(self._bytes(payload), self._count(payload) - 1)
        return made

    def swap(self, payload: Payload, partners: Tensor) -> Payload:
        """Return the partner's payload.

        Args:
            payload: what this worker gives away.
            partners: (n,) the partner of every worker, an involution; who is its own partner sends nothing.
        """
        made = self._timed(self._swap, payload, partners)
        away = (
            float((partners != torch.arange(self.size)).double().mean())
            if self.lead
            else float(partners[self.rank] != self.rank)
        )
        self.traffic.count(self._bytes(payload), away)
        return made

    def mix(self, v: Tensor, weights: Tensor) -> Tensor:
        """Return ``sum_j weights[i, j] v_j`` for this worker i (or all of them); only neighbours exchange anything.

        Args:
            v: (..., d) of the worker.
            weights: (n, n) symmetric mixing matrix with rows that add up to 1, on the CPU.
        """
        made = self._timed(self._mix, v, weights)
        neighbours = (weights != 0).sum(1) - (weights.diagonal() != 0).long()
        copies = float(neighbours.double().mean()) if self.lead else float(neighbours[self.rank])
        self.traffic.count(self._bytes((v,)), copies)
        return made

    def _timed(self, exchange: Callable[..., Made], *args: Any) -> Made:
        begun = time.perf_counter()
        made = exchange(*args)
        self.traffic.wait_seconds += time.perf_counter() - begun
        return made

    def _count(self, payload: Payload) -> int:
        """Number of workers that take part in this exchange."""
        return payload[0].shape[0] if self.lead else self.size

    def _bytes(self, payload: Payload) -> float:
        whole = sum(part.numel() * part.element_size() for part in payload)
        return whole / self._count(payload) if self.lead else float(whole)

    def _mean_in_place(self, part: Tensor) -> Tensor:
        return self._mean((part,))[0]

    def _launch(self, part: Tensor) -> Flight:
        return Flight(self._timed(self._mean, (part,))[0].clone())

    @abc.abstractmethod
    def _mean(self, payload: Payload) -> Payload: ...

    @abc.abstractmethod
    def _gather(self, payload: Payload) -> Payload: ...

    @abc.abstractmethod
    def _swap(self, payload: Payload, partners: Tensor) -> Payload: ...

    @abc.abstractmethod
    def _mix(self, v: Tensor, weights: Tensor) -> Tensor: ...


class Sim(Wire):
    """Workers as dimension 0 of every tensor of one process: exact, seeded, and without any link.

    Args:
        workers: how many there are.
    """

    def __init__(self, workers: int) -> None:
        super().__init__()
        self._workers = workers

    @property
    def size(self) -> int:
        """Number of workers."""
        return self._workers

    @property
    def rank(self) -> int:
        """0: one process holds all workers."""
        return 0

    @property
    def lead(self) -> tuple[int, ...]:
        """``(n,)``."""
        return (self._workers,)

    def _mean(self, payload: Payload) -> Payload:
        # divided before the sum, as on a real wire, where sums of half-precision numbers could overflow
        return tuple((part / part.shape[0]).sum(0) for part in payload)

    def _gather(self, payload: Payload) -> Payload:
        return payload

    def _swap(self, payload: Payload, partners: Tensor) -> Payload:
        return tuple(part[partners.to(part.device)] for part in payload)

    def _mix(self, v: Tensor, weights: Tensor) -> Tensor:
        return weights.to(v) @ v
