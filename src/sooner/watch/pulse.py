"""What a running race is about, in one small file beside its journal: `sooner live` draws it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sooner.foundation.strict_json import strict
from sooner.watch._watch import Cell, Watch
from sooner.watch._work import Work

FILE = "live.json"
STOP = "stop"
"""Whoever puts a file of this name into the folder stops the race as Ctrl-C does: what is finished is kept."""
_SECONDS = 0.5  # between two times that the file is written


class Pulse(Watch):
    """Keeps ``live.json`` in the race's folder up to date: replaced whole, at most twice a second.

    It also raises KeyboardInterrupt, in the thread that races, where somebody asks for that by a file: a signal would
    not reach a race that was started in the background, in another thread or on another machine.

    Args:
        folder: of the race.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._written = -_SECONDS
        self._work = Work()
        self._told: dict[str, Any] = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "began": time.time(),
            "phase": "starting",
            "running": {},
            "standing": [],
            "failed": [],
            "verdicts": [],
            "outcome": None,
        }

    def start(self, about: Mapping[str, Any]) -> None:
        """Note what it is."""
        self._told["about"] = dict(about)
        self.path.with_name(STOP).unlink(missing_ok=True)  # of an earlier session
        self._write(True)

    def phase(self, name: str, cells: Sequence[Cell], later: float) -> None:
        """Note the phase and the work known to be left."""
        self._work.phase(cells, later)
        self._told.update(phase=name, running={})
        self._write(True)

    def progress(self, cell: Cell, fraction: float, info: Mapping[str, Any]) -> None:
        """Note how far a run is."""
        self._work.progress(cell, fraction)
        self._run(cell)["fraction"] = self._work.running[cell.key]
        self._write(False)

    def evaluation(self, step: int, numbers: Mapping[str, float], cell: Cell | None = None) -> None:
        """Note a point of a run's curve."""
        if cell is not None:
            run = self._run(cell)
            run["steps"].append(step)
            run["values"].append(next(iter(numbers.values())))
            self._write(False)

    def finished(self, cell: Cell, data: Mapping[str, Any]) -> None:
        """Take a run off: its curve is in the journal."""
        self._end(cell)

    def failed(self, cell: Cell, cause: str) -> None:
        """Note what failed."""
        self._told["failed"].append({"cell": cell.key, "cause": cause})
        self._end(cell)

    def standing(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep how contenders stand, and how they stood with fewer seeds."""
        known = {(row["recipe"], row["seeds"]) for row in self._told["standing"]}
        self._told["standing"] += [dict(row) for row in rows if (row["recipe"], row["seeds"]) not in known]
        self._write(True)

    def verdict(self, name: str, word: str, sentence: str) -> None:
        """Note a verdict."""
        self._told["verdicts"].append({"recipe": name, "word": word, "sentence": sentence})

    def end(self, outcome: Mapping[str, Any]) -> None:
        """Note how it ended."""
        self._told.update(outcome=dict(outcome), running={})
        self._write(True)

    def _run(self, cell: Cell) -> dict[str, Any]:
        run: dict[str, Any] = self._told["running"].setdefault(cell.key, {"fraction": 0.0, "steps": [], "values": []})
        return run

    def _end(self, cell: Cell) -> None:
        self._told["running"].pop(cell.key, None)
        self._work.end(cell)
        self._write(False)

    def _write(self, now: bool) -> None:
        if not now and time.monotonic() - self._written < _SECONDS:
            return
        if self._told["outcome"] is None and self.path.with_name(STOP).exists():
            self.path.with_name(STOP).unlink(missing_ok=True)
            raise KeyboardInterrupt("stopped from its live page")
        work = self._work
        told = {**self._told, "updated": time.time(), "spent": work.spent, "left": work.left, "now": work.now}
        told["cells"] = {"done": len(work.ended), "of": work.of}
        unfinished = self.path.with_name(f".{FILE}.{os.getpid()}")
        self._written = time.monotonic()
        try:
            unfinished.write_text(json.dumps(strict(told), allow_nan=False, default=str), encoding="utf-8")
            unfinished.replace(self.path)
        except OSError:  # a full disk: the race itself says so, and this is only drawn
            with contextlib.suppress(OSError):
                unfinished.unlink(missing_ok=True)
