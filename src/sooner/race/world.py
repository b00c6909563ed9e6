"""A cell of a race that several processes run together: the pool's worker is rank 0 and keeps the others at hand.

They meet on the loopback interface for every cell anew, so that nothing of one cell reaches the next, but stay alive in
between, because importing torch takes seconds.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from typing import Any

import torch.distributed as dist

from sooner.communication import _lookout
from sooner.error import SoonerError
from sooner.race.cell import run_alone
from sooner.race.pool import Cell
from sooner.race.pool_process import Attempt, Worker

_Store: Any = dist.TCPStore  # type: ignore[attr-defined]

Report = Callable[..., None]

_FUNCTION = "sooner.race.world:run_rank"
_SECONDS = 300.0
"""The longest wait in one exchange, and for the others to begin or to end."""

_crew: list[Crew] = []


class Crew:
    """The other ranks, as this process sees them.

    Args:
        count: how many there are.
    """

    def __init__(self, count: int) -> None:
        self.others = [Worker(_FUNCTION) for _ in range(count)]

    def begin(self, payload: dict[str, Any], report: Report) -> None:
        """Have all of them run this cell, and return when all have started."""
        for rank, other in enumerate(self.others, 1):
            other.give(Attempt(Cell(f"rank {rank}", {**payload, "rank": rank})))
        waiting = list(self.others)
        while waiting := [other for other in waiting if not other.ready]:
            report(0.0)
            self._listen(waiting)

    def answers(self, report: Report) -> list[str]:
        """Wait until all have ended the cell and return what went wrong in them."""
        wrong, end = [], time.monotonic() + _SECONDS
        for rank, other in enumerate(self.others, 1):
            answer: list[Any] | None = None
            while answer is None and time.monotonic() < end:
                report(0.0)
                wait([other.connection], 0.2)
                answer = other.take(0.0)
                if answer is None and (trouble := other.trouble(_SECONDS)):
                    raise _DeadError(f"rank {rank}: {trouble}{other.last_words()}")
            if answer is None:
                raise _DeadError(f"rank {rank} did not end its run within {_SECONDS:g} s")
            if answer[0] == "failure":
                wrong.append(f"rank {rank}: {answer[1]}")
        return wrong

    def end(self) -> None:
        """End the other ranks."""
        for other in self.others:
            other.end()

    def _listen(self, waiting: list[Worker]) -> None:
        wait([other.connection for other in waiting], 0.2)
        for other in waiting:
            other.take(0.0)
            if trouble := other.trouble(_SECONDS):
                raise _DeadError(f"rank {self.others.index(other) + 1}: {trouble}{other.last_words()}")


class _DeadError(Exception):
    """A rank died or fell silent."""


def run_together(payload: dict[str, Any], report: Report) -> dict[str, Any]:
    """Run one cell with the other ranks and return what rank 0 found.

    Raises:
        SoonerError: the cell failed on one of them.
        SystemExit: one of them died; with this process the pool starts all of them anew.
    """
    _on_loopback()
    store = _Store("127.0.0.1", 0, payload["world"], is_master=True, wait_for_workers=False)
    try:
        if not _crew:
            _crew.append(Crew(payload["world"] - 1))
        _crew[0].begin({**payload, "port": store.port}, report)
        failure: Exception | None = None
        try:
            found = _run(payload, report, store, 0)
        except Exception as error:
            failure = error
        wrong = _crew[0].answers(report)
        if failure is not None or wrong:
            same = failure is not None and not isinstance(failure, _lookout.RankLostError)
            raise failure if same and failure else SoonerError("; ".join(wrong) or str(failure)) from failure
    except _DeadError as dead:
        print(dead, flush=True)  # the pool tells it as the last words of this process
        _disband()
        sys.exit(1)
    except BaseException:
        _disband()
        raise
    return found


def run_rank(payload: dict[str, Any], report: Report) -> dict[str, Any]:
    """Run one cell as one of the other ranks; what it finds is what rank 0 finds, so nothing is returned."""
    _on_loopback()
    store = _Store("127.0.0.1", payload["port"], payload["world"], is_master=False)
    _run(payload, lambda *_: None, store, payload["rank"])
    return {}


def _run(payload: dict[str, Any], report: Report, store: Any, rank: int) -> dict[str, Any]:
    timeout = datetime.timedelta(seconds=_SECONDS)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=payload["world"], timeout=timeout)
    try:
        return run_alone(payload, report)
    finally:
        _lookout.close()
        dist.destroy_process_group()


def _on_loopback() -> None:
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")


def _disband() -> None:
    with contextlib.suppress(IndexError):
        _crew.pop().end()
