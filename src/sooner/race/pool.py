"""What runs the cells of a race: the protocol that every engine follows.

An engine takes cells, calls `run_cell(cell.payload, report)` of `sooner.race.worker` for each of them somewhere, and
tells what came of it. Which cell runs where and which one ends first changes no number of a race. `engines` holds
those that come with sooner; docs/clusters.md has one of fifteen lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from sooner.error import SoonerError

WORKER = "sooner.race.worker:run_cell"
"""The function that runs a cell of any race, as package.module:function."""


@dataclass(frozen=True)
class Cell:
    """One piece of work: its name, what the function gets (picklable), and how much work it is (in any unit)."""

    key: str
    payload: dict[str, Any]
    weight: float = 1.0


OnResult = Callable[[Cell, dict[str, Any]], None]
OnProgress = Callable[[Cell, float, dict[str, Any]], None]
OnFailure = Callable[[Cell, str], None]


class Pool(Protocol):
    """Runs cells."""

    def run(
        self,
        cells: Iterable[Cell],
        on_result: OnResult,
        on_progress: OnProgress | None = None,
        on_failure: OnFailure | None = None,
    ) -> None:
        """Run the cells, in any order and as many at once as there is room for, and return when all have ended.

        The callbacks are called in the calling thread. An exception from one of them, or Ctrl-C, ends every cell that
        runs and goes on to the caller; `run` can be called again afterwards.

        Args:
            cells: what to run.
            on_result: gets each cell that finished and what its function returned, a dict of strict JSON content.
            on_progress: gets the cell, the fraction done and the info of its reports; any of them may be left out.
            on_failure: gets each cell that failed for good and one sentence on why. Without it a failure raises
                SoonerError (see `failed`).
        """

    def close(self) -> None:
        """End every worker, so that the next cell runs in a fresh process. Closing twice is fine."""


def failed(cell: Cell, cause: str, on_failure: OnFailure | None) -> None:
    """Tell that a cell failed for good; where nobody takes it, raise it.

    Raises:
        SoonerError: there is no `on_failure`.
    """
    if on_failure is None:
        raise SoonerError(f"{cell.key} failed: {cause}")
    on_failure(cell, cause)
