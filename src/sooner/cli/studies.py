"""Running claims, or truths of the lab, one after the other: as many as fit into the time, stopped at will."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from rich.console import Console

from sooner.cli.progress import stoppable
from sooner.error import SoonerError
from sooner.race.pool import Pool
from sooner.watch import Watch

One = TypeVar("One")
Found = TypeVar("Found")


class Studies(Generic[One, Found]):
    """What is to be run, and how.

    Args:
        name: of one, as its command line calls it.
        introduced: the lines to print before one is run.
        minutes: estimate of one with these workers.
        run: runs one, or what is left of it.
        told: says in a line what came of one.
        out: where journals are kept.
    """

    def __init__(
        self,
        *,
        name: Callable[[One], str],
        introduced: Callable[[One], Sequence[str]],
        minutes: Callable[[One], float],
        run: Callable[[One, Watch, Pool], Found],
        told: Callable[[Found], str],
        out: Path,
    ) -> None:
        self._name, self._introduced, self._minutes = name, introduced, minutes
        self._run, self._told, self._out = run, told, out
        self.found: list[Found] = []
        self.left_out: list[str] = []
        self.took = 0.0

    def run(self, chosen: Sequence[One], pool: Pool, jobs: int, minutes: float | None) -> None:
        """Run them in this order into `found`; what does not fit into `minutes`, or fails, goes into `left_out`.

        The first is run in any case. Ctrl-C says what is kept and ends the process.

        Raises:
            SoonerError: the only one failed.
        """
        again = f"`{shlex.join(['sooner', *sys.argv[1:]])}`"
        console, began = Console(stderr=True, highlight=False), time.monotonic()
        for one in chosen:
            spent = (time.monotonic() - began) / 60
            if minutes is not None and self.found and spent + self._minutes(one) > minutes:
                self.left_out.append(self._name(one))
                continue
            for line in self._introduced(one):
                console.print(line, soft_wrap=True)
            with stoppable(console, jobs, lambda: f"what is finished is kept in {self._out}", again) as progress:
                try:
                    found = self._run(one, progress, pool)
                except SoonerError as error:
                    if len(chosen) == 1:
                        raise
                    progress.stop()
                    console.print(f"{self._name(one)}: {error}", markup=False, soft_wrap=True)
                    self.left_out.append(self._name(one))
                    continue
            self.found.append(found)
            if len(chosen) > 1:
                console.print(self._told(found))
        self.took = (time.monotonic() - began) / 60
