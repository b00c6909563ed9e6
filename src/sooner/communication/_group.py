"""The wire between real processes: collectives of a torch process group (gloo, NCCL), in program order."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from sooner.communication._lookout import lookout
from sooner.communication._packing import gathered, packed, unpacked
from sooner.communication._wire import Flight, Made, Payload, Wire
from sooner.error import SoonerError


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
        self._left_alone: list[Any] = []

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
        self._done(dist.all_reduce(flat, group=self.group, async_op=True))
        made = torch.split(flat, [part.numel() for part in payload])
        return tuple(one.view(part.shape) for one, part in zip(made, payload, strict=True))

    def _mean_in_place(self, part: Tensor) -> Tensor:
        if self.size > 1:
            part /= self.size
            self._done(dist.all_reduce(part, group=self.group, async_op=True))
        return part

    def _launch(self, part: Tensor) -> Flight:
        if self.size == 1:
            return Flight(part.clone())
        flat = part / self.size  # a copy: what training goes on to change must not be what is being sent
        with self.watching():
            work = dist.all_reduce(flat, group=self.group, async_op=True)
        return Flight(flat, lambda: self._timed(self._done, work))

    def _done(self, *works: Any) -> None:
        """Wait for collectives that are under way, once the others have been heard."""
        try:
            self.mind()
        except SoonerError:
            self._left_alone += works  # gloo takes back what nobody holds, and the other rank may still be sending
            raise
        for work in works:
            work.wait()

    def compare(self, numbers: Sequence[int]) -> Callable[[], tuple[Sequence[int], Sequence[int]]] | None:
        """Begin to compare whole numbers; what is returned waits for the least and the largest of all processes."""
        if self.size == 1:
            return None
        # the least as the largest of what is negative, in one collective; on the CPU where there is a way, so that the
        # accelerator goes on meanwhile
        both = torch.tensor([*numbers, *(-n for n in numbers)], device=self._whole_numbers_on())
        with self.watching():
            work = dist.all_reduce(both, dist.ReduceOp.MAX, group=self.group, async_op=True)

        def heard() -> tuple[Sequence[int], Sequence[int]]:
            with self.watching():
                work.wait()
                found = both.tolist()
            return [-n for n in found[len(numbers) :]], found[: len(numbers)]

        return heard

    def _whole_numbers_on(self) -> torch.device:
        if "cpu" in dist.get_backend_config(self.group) or dist.get_backend(self.group) in ("gloo", "mpi", "ucc"):
            return torch.device("cpu")
        return torch.device(torch.accelerator.current_accelerator() or "cpu")

    def __deepcopy__(self, memo: dict[int, Any]) -> Group:
        """Return another wire between the same processes, with counts of its own."""
        made = Group(self.group)
        made.traffic.load_state_dict(self.traffic.state_dict())
        return made

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
            everyone, work = gathered(mine, self.group, background=True)
            self._done(work)
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
        self._done(*(dist.batch_isend_irecv(operations) if operations else ()))
