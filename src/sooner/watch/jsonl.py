"""Everything that happens as one JSON line each, appended to a file: needs no package and suits any other program."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sooner.foundation.strict_json import strict
from sooner.watch._watch import Cell, Watch


class Jsonl(Watch):
    """Appends a line per event: ``{"event": "step", "time": ..., "step": 20, "loss": 2.1, ...}``.

    Args:
        place: the file, default ``sooner.jsonl``; folders are made. Numbers that are not finite are texts: "nan".
    """

    def __init__(self, place: str = "") -> None:
        self.path = Path(place or "sooner.jsonl")

    def _write(self, event: str, **told: Any) -> None:
        line = json.dumps(strict({"event": event, "time": round(time.time(), 3), **told}), default=str)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def start(self, about: Mapping[str, Any]) -> None:  # noqa: D102
        self._write("start", **about)

    def step(self, step: int, numbers: Mapping[str, float]) -> None:  # noqa: D102
        self._write("step", step=step, **numbers)

    def evaluation(self, step: int, numbers: Mapping[str, float], cell: Cell | None = None) -> None:  # noqa: D102
        self._write("evaluation", step=step, **numbers, **({} if cell is None else {"cell": cell.key}))

    def phase(self, name: str, cells: Sequence[Cell], later: float) -> None:  # noqa: D102
        self._write("phase", name=name, cells=len(cells), later=later)

    def finished(self, cell: Cell, data: Mapping[str, Any]) -> None:  # noqa: D102
        self._write("cell", cell=cell.key, data=data)

    def failed(self, cell: Cell, cause: str) -> None:  # noqa: D102
        self._write("failure", cell=cell.key, cause=cause)

    def standing(self, rows: Sequence[Mapping[str, Any]]) -> None:  # noqa: D102
        self._write("standing", rows=rows)

    def verdict(self, name: str, word: str, sentence: str) -> None:  # noqa: D102
        self._write("verdict", name=name, word=word, sentence=sentence)

    def end(self, outcome: Mapping[str, Any]) -> None:  # noqa: D102
        self._write("end", **outcome)
