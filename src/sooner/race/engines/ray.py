"""The engine `ray`: cells on the nodes of a Ray cluster, or on a local one that is started for the race.

Every node runs cells in the same worker processes as one machine alone would (`seat`), on nodes with this machine's
processor and versions only, so results are the same bit by bit. A cell whose node is lost is run again elsewhere.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from sooner.error import SoonerError
from sooner.race.engines import connection, nodes, packing, seat
from sooner.race.engines.nodes import Node
from sooner.race.engines.processes import SILENCE_SECONDS
from sooner.race.pool import WORKER, Cell, OnFailure, OnProgress, OnResult, failed
from sooner.race.pool_process import Attempt

_TICK_SECONDS = 1.0
_LOOK_SECONDS = 5.0
"""Between two looks at which nodes there are."""
_LOSSES = 3
"""So often a cell may lose its node before it is taken for the reason, and a node may fail to start a worker."""


@dataclass
class _Seat:
    """A worker on a node, seen from here.

    Args:
        node: where it is.
        actor: Ray's handle.
        awaited: what it is asked for and has not yet answered; None while it has nothing to do.
        started: whether it has said what its node is.
        attempt: the cell that it runs.
    """

    node: Node
    actor: Any
    awaited: Any
    started: bool = False
    attempt: Attempt | None = None


class Ray:
    """Runs `function(payload, report) -> dict` for every cell on a Ray cluster, in one worker process for each.

    Args:
        jobs: how many cells at once at most; None for as many as the cluster has room for.
        function: "package.module:name"; default what runs cells of races.
        address: of the cluster, "HOST:PORT" or "auto"; this machine has to be one of its nodes. None for what
            RAY_ADDRESS says, and without it for a cluster on this machine that ends with the pool.
        cpus: that a cell takes of a node.
        gpus: that a cell takes of a node, and sees.
        silence_seconds: as of `Processes`, and so is the next one.
        retries: how many more times a cell is tried after its worker process died. Lost nodes count apart.

    Raises:
        SoonerError: Ray is not installed, or a number that makes no sense.
    """

    def __init__(
        self,
        jobs: int | None = None,
        function: str = WORKER,
        *,
        address: str | None = None,
        cpus: int = 1,
        gpus: int = 0,
        silence_seconds: float = SILENCE_SECONDS,
        retries: int = 1,
    ) -> None:
        if importlib.util.find_spec("ray") is None:
            raise SoonerError("ray is not installed: pip install 'sooner[ray]', or run without --engine ray")
        for name, count, least in (("jobs", 1 if jobs is None else jobs, 1), ("CPUs", cpus, 1), ("GPUs", gpus, 0)):
            if count < least:
                raise SoonerError(f"the number of {name} is {count}: it must be {least} or more")
        address = connection.address_of(address)
        self._ray: Any = importlib.import_module("ray")
        self.function, self.address, self.cpus, self.gpus = function, address, cpus, gpus
        self._jobs = jobs
        self._options = {"silence_seconds": silence_seconds, "retries": retries}
        self._nodes: dict[str, Node] = {}
        self._seats: list[_Seat] = []
        self._looked = 0.0
        self._ours = False
        self._parcel: tuple[str, Any] = ("", None)

    @property
    def jobs(self) -> int:
        """How many cells run at once at most; starts Ray."""
        self._connect()
        self._look()
        room = sum(node.room for node in self._nodes.values() if not node.why_not)
        return room if self._jobs is None else self._jobs

    def run(
        self,
        cells: Iterable[Cell],
        on_result: OnResult,
        on_progress: OnProgress | None = None,
        on_failure: OnFailure | None = None,
    ) -> None:
        """Run the cells and return when all have ended: see `Pool.run`. What returns says on which node it was made.

        Raises:
            SoonerError: the cluster can't be reached, or no node of it can run these cells.
        """
        waiting = deque(Attempt(cell) for cell in cells)
        if not waiting:
            return
        try:
            self._connect()
            self._pack([attempt.cell for attempt in waiting])
            while True:
                self._look()
                self._hand_out(waiting)
                if not waiting and not any(one.attempt for one in self._seats):
                    return
                awaited = {one.awaited: one for one in self._seats if one.awaited is not None}
                if not awaited:  # until there is a node again
                    time.sleep(_TICK_SECONDS)
                    continue
                ready, _ = self._ray.wait(list(awaited), num_returns=1, timeout=_TICK_SECONDS)
                for answer in ready:
                    self._take(awaited[answer], waiting, on_result, on_progress, on_failure)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End every worker, now. The connection to the cluster stays, and `run` starts new workers."""
        ray = self._ray
        while self._seats:
            one = self._seats.pop()
            if ray.is_initialized():
                ray.kill(one.actor)

    def __enter__(self) -> Self:
        self._connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if self._ours:
            self._ray.shutdown()
            self._ours = False

    def _connect(self) -> None:
        ray = self._ray
        if ray.is_initialized():
            return
        wanted = None if self._jobs is None else max(self._jobs * self.cpus, os.cpu_count() or 1)
        connection.connect(ray, self.address, wanted)
        self._ours = True
        self._nodes, self._seats, self._parcel = {}, [], ("", None)  # those of a connection before are gone

    def _pack(self, cells: list[Cell]) -> None:
        """Send the code to the cluster once; where it has changed since, workers start anew."""
        parcel = packing.packed(cells)
        if parcel.digest == self._parcel[0]:
            return
        self.close()
        importlib.import_module("ray.cloudpickle").register_pickle_by_value(seat)
        self._parcel = parcel.digest, self._ray.put(parcel)

    def _look(self) -> None:
        """See, now and then, which nodes there are."""
        if self._nodes and time.monotonic() - self._looked < _LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        self._nodes = nodes.alive(self._ray, self._nodes, self.cpus, self.gpus)
        nodes.refuse_nowhere(self._nodes.values(), self.cpus, self.gpus)

    def _hand_out(self, waiting: deque[Attempt]) -> None:
        idle = [one for one in self._seats if one.started and not one.attempt]
        while waiting and idle:
            self._give(idle.pop(0), waiting.popleft())
        starting = sum(not one.started for one in self._seats)
        for _ in range(len(waiting) - starting):
            node = self._roomiest()
            if node is None:
                return
            self._start(node)

    def _roomiest(self) -> Node | None:
        """Return the node with the most room left; of one that is not known yet, a single seat at first."""
        if self._jobs is not None and len(self._seats) >= self._jobs:
            return None
        taken = {id: sum(one.node.id == id for one in self._seats) for id in self._nodes}
        free = {
            node.id: (node.room if node.known else 1) - taken[node.id]
            for node in self._nodes.values()
            if not node.why_not
        }
        most = max(free, key=lambda id: free[id], default=None)
        return self._nodes[most] if most is not None and free[most] > 0 else None

    def _start(self, node: Node) -> None:
        ray = self._ray
        strategies = importlib.import_module("ray.util.scheduling_strategies")
        here = strategies.NodeAffinitySchedulingStrategy(node.id, soft=False)
        actor = ray.remote(seat.Seat).options(
            num_cpus=self.cpus, num_gpus=self.gpus, scheduling_strategy=here, max_restarts=0
        )
        made = actor.remote(self._parcel[1], self.function, self._options)
        self._seats.append(_Seat(node, made, made.about.remote()))

    def _give(self, one: _Seat, attempt: Attempt) -> None:
        one.attempt = attempt
        one.awaited = one.actor.run.options(num_returns="streaming").remote(attempt.cell.key, attempt.cell.payload)

    def _take(
        self,
        one: _Seat,
        waiting: deque[Attempt],
        on_result: OnResult,
        on_progress: OnProgress | None,
        on_failure: OnFailure | None,
    ) -> None:
        """Take the next word of a seat."""
        ray = self._ray
        if not one.started:
            self._introduced(one)
            return
        attempt = one.attempt
        assert attempt is not None
        try:
            kind, *told = ray.get(next(one.awaited))
        except ray.exceptions.RayTaskError as error:
            one.attempt = one.awaited = None
            failed(attempt.cell, f"on node {one.node.name}: {_last_line(error)}", on_failure)
            return
        except ray.exceptions.RayError as error:
            self._lost(one, attempt, error, waiting, on_failure)
            return
        if kind == "progress":
            if on_progress:
                on_progress(attempt.cell, *told)
            return
        one.attempt = one.awaited = None
        if kind == "result":
            on_result(attempt.cell, {**told[0], "node": nodes.described(one.node)})
        else:
            failed(attempt.cell, told[0], on_failure)

    def _introduced(self, one: _Seat) -> None:
        """Take in what a new seat says of its node."""
        ray = self._ray
        try:
            about = ray.get(one.awaited)
        except ray.exceptions.RayError as error:
            self._drop(one)
            self._looked = -_LOOK_SECONDS  # at once: the node itself may be gone
            one.node.failures += 1
            if not one.node.known or one.node.failures >= _LOSSES:
                one.node.why_not = f"no worker starts there ({_last_line(error)})"
            return
        one.node.known, one.node.name, one.node.failures = True, about["name"], 0
        one.node.why_not = nodes.unlike_this_one(about) or one.node.why_not
        if one.node.why_not:
            self._drop(one)
            nodes.refuse_nowhere(self._nodes.values(), self.cpus, self.gpus)
            return
        one.started, one.awaited = True, None

    def _lost(
        self, one: _Seat, attempt: Attempt, error: Exception, waiting: deque[Attempt], on_failure: OnFailure | None
    ) -> None:
        self._drop(one)
        self._looked = -_LOOK_SECONDS  # at once
        causes = (*attempt.causes, f"node {one.node.name} was lost ({_last_line(error)})")
        if len(causes) < _LOSSES:
            waiting.appendleft(Attempt(attempt.cell, causes))
        else:
            failed(attempt.cell, "; then ".join(causes), on_failure)

    def _drop(self, one: _Seat) -> None:
        self._seats.remove(one)
        with contextlib.suppress(Exception):  # it may be gone already
            self._ray.kill(one.actor)


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__
