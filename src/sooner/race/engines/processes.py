"""The engine `processes`: one-thread worker processes on this machine, which outlive what goes wrong in them.

Small models train faster as several one-thread processes than as one process with several threads. Workers stay alive
between cells, because importing torch takes seconds. A worker that dies or goes silent is replaced and its cell tried
again; a cell that raises an exception would raise it again and is reported at once.
"""

import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from multiprocessing.connection import wait
from types import TracebackType
from typing import Self

from sooner.error import SoonerError
from sooner.race.pool import WORKER, Cell, OnFailure, OnProgress, OnResult, failed
from sooner.race.pool_process import Attempt, Worker

_TICK_SECONDS = 0.5
SILENCE_SECONDS = 120.0
BUSY_SECONDS = 1800.0
"""How long a worker may compute without a word, as while it imports, reads data or compiles."""


class Processes:
    """Worker processes that run `function(payload, report) -> dict`, one cell at a time each.

    In a worker, `report(fraction, info)` is a sign of life that reaches `on_progress`; `info` is an optional JSON-able
    dict (calls without one are thinned out to ten a second). The returned dict must be JSON-able too. Worker processes
    import `function` by name, run with one thread and a fixed PYTHONHASHSEED, ignore Ctrl-C and die with the parent.

    Args:
        jobs: How many workers at most; they are started when there are cells for them.
        function: "package.module:name", importable with the present `sys.path`; default what runs cells of races.
        silence_seconds: A worker that neither reports nor computes for this long is killed, and so is one that only
            computes for `BUSY_SECONDS`, or this long where it is more.
        retries: How many more times a cell is tried, each time in a new worker, after its worker died or was killed.
        slots: Environment variables of each worker, such as the devices it may see; at least `jobs` of them, or none.
    """

    def __init__(
        self,
        jobs: int,
        function: str = WORKER,
        *,
        silence_seconds: float = SILENCE_SECONDS,
        retries: int = 1,
        slots: Sequence[Mapping[str, str]] = (),
    ) -> None:
        if jobs < 1:
            raise SoonerError(f"the number of jobs is {jobs}: it must be 1 or more")
        if silence_seconds <= 0:
            raise SoonerError(f"the allowed silence is {silence_seconds} s: it must be above 0")
        self.jobs = jobs
        self.function = function
        self.silence_seconds = silence_seconds
        self.busy_seconds = max(BUSY_SECONDS, silence_seconds)
        self.retries = retries
        if slots and len(slots) < jobs:
            raise SoonerError(f"{jobs} jobs need as many places, and there are {len(slots)}; give fewer jobs")
        self._slots = list(slots) or [{}] * jobs
        self._workers: list[Worker] = []

    @property
    def worker_pids(self) -> list[int]:
        """The process ids of the workers that are alive."""
        return [worker.process.pid for worker in self._workers if worker.process.poll() is None]

    def run(
        self,
        cells: Iterable[Cell],
        on_result: OnResult,
        on_progress: OnProgress | None = None,
        on_failure: OnFailure | None = None,
    ) -> None:
        """Run the cells, handed out in their order, and return when all have ended.

        The callbacks are called here, in the calling thread, as things happen. An exception from a callback, or Ctrl-C,
        stops every worker and goes on to the caller; the pool can be used again.

        Args:
            cells: What to run.
            on_result: Gets each cell that finished and its result.
            on_progress: Gets each report: the cell, the fraction done and the report's info.
            on_failure: Gets each cell that failed and one sentence on why. Without it a failure raises SoonerError.
        """
        waiting = deque(Attempt(cell) for cell in cells)
        tick = min(_TICK_SECONDS, self.silence_seconds / 4)
        last = time.monotonic()
        try:
            while True:
                self._hand_out(waiting)
                busy = [worker for worker in self._workers if worker.attempt]
                if not busy:
                    return
                outputs = [worker.output.fileno() for worker in busy if worker.output]
                wait([*outputs, *(worker.connection for worker in busy)], tick)
                # When this process itself was stopped (Ctrl-Z, a suspended machine) or kept busy by a callback, the gap
                # is no silence of the workers: what counts is one tick at most.
                now = time.monotonic()
                elapsed, last = min(now - last, tick), now
                for worker in busy:
                    attempt = worker.attempt
                    assert attempt is not None
                    match worker.take(elapsed):
                        case ["progress", fraction, info] if on_progress:
                            on_progress(attempt.cell, fraction, info)
                        case ["result", result]:
                            worker.attempt = None
                            on_result(attempt.cell, result)
                        case ["failure", cause]:
                            worker.attempt = None
                            failed(attempt.cell, cause, on_failure)
                        case None if trouble := worker.trouble(self.silence_seconds, self.busy_seconds):
                            self._replace(worker, attempt, trouble, waiting, on_failure)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End every worker, now. Closing twice is fine, and `run` starts new ones."""
        for worker in self._workers:
            worker.process.kill()
        while self._workers:
            self._workers[-1].end()
            self._workers.pop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _hand_out(self, waiting: deque[Attempt]) -> None:
        for worker in [worker for worker in self._workers if not worker.attempt and worker.process.poll() is not None]:
            self._remove(worker)  # it died with nothing to do: no cell is to blame
        while waiting:
            idle = [worker for worker in self._workers if not worker.attempt]
            # The worker of a failed attempt is gone, so there is room for the new one that the next attempt gets.
            if (not idle or waiting[0].causes) and len(self._workers) < self.jobs:
                taken = [worker.slot for worker in self._workers]
                slot = next(number for number in range(len(self._slots)) if number not in taken)
                self._workers.append(Worker(self.function, slot, self._slots[slot]))
                idle = self._workers[-1:]
            if not idle:
                return
            idle[0].give(waiting.popleft())

    def _replace(
        self, worker: Worker, attempt: Attempt, trouble: str, waiting: deque[Attempt], on_failure: OnFailure | None
    ) -> None:
        self._remove(worker)
        causes = (*attempt.causes, trouble + worker.last_words())
        if len(causes) <= self.retries:
            waiting.appendleft(Attempt(attempt.cell, causes))
        elif len(causes) > 1 and len(set(causes)) == 1:
            failed(attempt.cell, f"{causes[0]}, {len(causes)} times", on_failure)
        else:
            failed(attempt.cell, "; then ".join(causes), on_failure)

    def _remove(self, worker: Worker) -> None:
        worker.end()
        self._workers.remove(worker)
