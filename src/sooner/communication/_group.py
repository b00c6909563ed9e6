"""The wire between real processes: collectives of a torch process group (gloo, NCCL), in program order."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from sooner.communication._lookout import lookout
from sooner.communication._packing import gathered, packed, unpacked
from sooner.communication._wire import Flight, Made, Payload, Wire


class Group(Wire):
    """Connects the processes of a process group; a single process without one is a world of one that sends nothing.

    Args:
        group: a process group, None for the default one.

    Raises:
        SoonerError: several processes were started and torch.distributed was not initialised.
    """

    def __init__(self, group: Any = None) -> None:
        super().__init__()
        self.group = group
        self._alone = not dist.is_initialized()
        self._lookout = lookout()

    def watching(self) -> contextlib.AbstractContextManager[None]:
        """Return a context for collectives of torch's own: when one fails, the rank that is lost is named.

        All ranks enter it in the same order, as they do with every method here.
        """
        return self._lookout.watching() if self._lookout else contextlib.nullcontext()

    @property
    def size(self) -> int:
        """Number of processes."""
        return 1 if self._alone else dist.get_world_size(self.group)

    @property
    def rank(self) -> int:
        """Number of this process in the group."""
        return 0 if self._alone else dist.get_rank(self.group)

    @property
    def lead(self) -> tuple[int, ...]:
        """``()``."""
        return ()

    def _timed(self, exchange: Callable[..., Made], *args: Any) -> Made:
        with self.watching():
            return super()._timed(exchange, *args)

    def _mean(self, payload: Payload) -> Payload:
        if self.size == 1:
            return payload
        # divided before the sum: sums of half-precision numbers could overflow
        flat = torch.cat([part.reshape(-1) for part in payload]) if len(payload) > 1 else payload[0].reshape(-1).clone()
        flat /= self.size
        dist.all_reduce(flat, group=self.group)
        made = torch.split(flat, [part.numel() for part in payload])
        return tuple(one.view(part.shape) for one, part in zip(made, payload, strict=True))

    def _mean_in_place(self, part: Tensor) -> Tensor:
        if self.size > 1:
            part /= self.size
            dist.all_reduce(part, group=self.group)
        return part

    def _launch(self, part: Tensor) -> Flight:
        if self.size == 1:
            return Flight(part.clone())
        flat = part / self.size  # a copy: what training goes on to change must not be what is being sent
        with self.watching():
            work = dist.all_reduce(flat, group=self.group, async_op=True)
        return Flight(flat, lambda: self._timed(work.wait))

    def tell(self, what: Any) -> list[Any]:
        """Return what every process says of itself, any picklable object, in the order of their ranks."""
        if self.size == 1:
            return [what]
        heard: list[Any] = [None] * self.size
        with self.watching():
            dist.all_gather_object(heard, what, group=self.group)
        return heard

    def _gather(self, payload: Payload) -> Payload:
        if self.size == 1:
            return tuple(part[None] for part in payload)
        mine = packed(payload)
        if self.size == 2:  # a swap: gloo's gather sends before it receives, see `_send_and_receive`
            everyone = mine.repeat(2, 1)
            other = 1 - self.rank
            self._send_and_receive([(other, mine)], [(other, everyone[other])])
        else:
            everyone, _ = gathered(mine, self.group)
        return unpacked(everyone, payload)

    def _swap(self, payload: Payload, partners: Tensor) -> Payload:
        partner = int(partners[self.rank])
        if partner == self.rank:
            return payload
        mine = packed(payload)
        theirs = torch.empty_like(mine)
        self._send_and_receive([(partner, mine)], [(partner, theirs)])
        return tuple(part[0] for part in unpacked(theirs[None], payload))

    def _mix(self, v: Tensor, weights: Tensor) -> Tensor:
        row = weights[self.rank]
        neighbours = [j for j in range(self.size) if j != self.rank and row[j] != 0]
        theirs = [torch.empty_like(v) for _ in neighbours]
        self._send_and_receive([(j, v) for j in neighbours], list(zip(neighbours, theirs, strict=True)))
        made = v * float(row[self.rank])
        for j, other in zip(neighbours, theirs, strict=True):
            made.add_(other, alpha=float(row[j]))
        return made

    def _send_and_receive(self, out: list[tuple[int, Tensor]], into: list[tuple[int, Tensor]]) -> None:
        # receive first: gloo says "ready" on the connection it sends on, and behind 19 MB at 100 Mbit/s that word waits
        # until they are through; the two directions then take turns (1.9x of the time)
        operations = [dist.P2POp(dist.irecv, t, group=self.group, group_peer=j) for j, t in into]
        operations += [dist.P2POp(dist.isend, t.contiguous(), group=self.group, group_peer=j) for j, t in out]
        for work in dist.batch_isend_irecv(operations) if operations else ():
            work.wait()
