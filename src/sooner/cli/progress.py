"""What a running race shows on the terminal: the phase, what is running, and an honest estimate of what is left."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from sooner.watch import Cell, Watch
from sooner.watch._work import Work

_SECONDS_BEFORE_ESTIMATE = 5.0
_SECONDS_BETWEEN_LINES = 60.0
"""Where there is no terminal to draw a bar on."""


class RaceProgress(Watch):
    """Draws a bar for the whole race on a terminal, or prints a line per phase elsewhere.

    The estimate divides the work left (in training steps) by the pace of this session. Work that only turns out to be
    needed later, such as a wider tuning range, is not in it, so it is shown as a lower bound while tuning.

    Args:
        console: where to draw.
        jobs: number of workers, to show as many running cells.
    """

    def __init__(self, console: Console, jobs: int) -> None:
        self.console = console
        self._jobs = jobs
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=None, left="")
        self._work = Work()
        self._phase = ""
        self._open_end = False
        self._started = self._told = time.monotonic()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Take the bar off the screen."""
        self._bar.stop()

    def phase(self, name: str, cells: Sequence[Cell], later: float) -> None:
        """Show a new phase."""
        self._phase, self._open_end = name, name == "tuning"
        self._work.phase(cells, later)
        if cells and not self.console.is_terminal:
            self.console.print(f"{name}: {len(cells)} cell{'' if len(cells) == 1 else 's'}")
        self._draw()

    def progress(self, cell: Cell, fraction: float, info: Mapping[str, Any]) -> None:
        """Note how far a running cell is."""
        self._work.progress(cell, fraction)
        if info:
            self._draw()

    def finished(self, cell: Cell, data: Mapping[str, Any]) -> None:
        """Take a finished cell off what is left."""
        self._end(cell)

    def failed(self, cell: Cell, cause: str) -> None:
        """Say at once what failed; the race goes on."""
        self._end(cell)
        self.console.print(f"failed: {cell.key}: {cause}", markup=False)

    def _end(self, cell: Cell) -> None:
        self._work.end(cell)
        self._draw()

    def _draw(self) -> None:
        work = self._work
        done, left = work.spent + work.now, work.left
        running = ", ".join(key.split(" | ")[0] for key in list(work.running)[: self._jobs])
        if not self.console.is_terminal:
            self._line(done, left, len(work.running))
        text = f"[bold]{self._phase}[/bold] {escape(running[:60])}"
        self._bar.update(
            self._task, description=text, completed=done, total=max(done + left, 1.0), left=self._estimate(done, left)
        )

    def _line(self, done: float, left: float, running: int) -> None:
        """Say once a minute how far the race is."""
        if time.monotonic() - self._told < _SECONDS_BETWEEN_LINES:
            return
        self._told = time.monotonic()
        share = done / max(done + left, 1.0)
        ahead = self._estimate(done, left)
        self.console.print(
            f"{self._phase}: {share:.0%} done, {running} running{f', {ahead}' if ahead else ''}", markup=False
        )

    def _estimate(self, done: float, left: float) -> str:
        elapsed = time.monotonic() - self._started
        if elapsed < _SECONDS_BEFORE_ESTIMATE or done <= 0:
            return ""
        seconds = round(left / done * elapsed)
        shown = f"{seconds // 60} min {seconds % 60:02d} s" if seconds >= 60 else f"{seconds} s"
        return f"{'at least' if self._open_end else 'about'} {shown} left"


@contextlib.contextmanager
def stoppable(
    console: Console, jobs: int, kept: Callable[[], str], again: str = "the same command"
) -> Iterator[RaceProgress]:
    """Show progress; Ctrl-C says what is kept and how to go on, and ends the process with 130.

    Args:
        console: where to draw.
        jobs: number of workers.
        kept: says what is kept where, such as "3 finished cells are kept in races/x".
        again: what goes on from there.
    """
    with RaceProgress(console, jobs) as progress:
        try:
            yield progress
        except KeyboardInterrupt:
            progress.stop()
            console.print(f"stopped; {kept()}, and {again} goes on from there", markup=False, soft_wrap=True)
            sys.exit(130)
