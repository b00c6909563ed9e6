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

from sooner.watch._sink import finite
from sooner.watch._watch import Cell, Watch

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
        self._weights: dict[str, float] = {}
        self._ended: dict[str, None] = {}
        self._later = 0.0
        self._told: dict[str, Any] = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "began": time.time(),
            "phase": "starting",
            "spent": 0.0,
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
        self._weights, self._later, self._ended = {c.key: c.weight for c in cells}, later, {}
        self._told.update(phase=name, running={})
        self._write(True)

    def progress(self, cell: Cell, fraction: float, info: Mapping[str, Any]) -> None:
        """Note how far a run is."""
        run = self._run(cell)
        run["fraction"] = max(fraction, run["fraction"])
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
        self._ended[cell.key] = None
        self._told["spent"] += self._weights.get(cell.key, 0.0)
        self._write(False)

    def _write(self, now: bool) -> None:
        if not now and time.monotonic() - self._written < _SECONDS:
            return
        if self._told["outcome"] is None and self.path.with_name(STOP).exists():
            self.path.with_name(STOP).unlink(missing_ok=True)
            raise KeyboardInterrupt("stopped from its live page")
        weights = self._weights
        now_done = sum(run["fraction"] * weights.get(key, 0.0) for key, run in self._told["running"].items())
        ahead = sum(weight for key, weight in weights.items() if key not in self._ended) + self._later
        told = {**self._told, "updated": time.time(), "left": max(0.0, ahead - now_done), "now": now_done}
        told["cells"] = {"done": len(self._ended), "of": len(weights)}
        unfinished = self.path.with_name(f".{FILE}.{os.getpid()}")
        self._written = time.monotonic()
        try:
            unfinished.write_text(json.dumps(finite(told), allow_nan=False, default=str), encoding="utf-8")
            unfinished.replace(self.path)
        except OSError:  # a full disk: the race itself says so, and this is only drawn
            with contextlib.suppress(OSError):
                unfinished.unlink(missing_ok=True)
