"""Step and metric from what a program prints or writes, while it runs: text, JSON lines, csv, and contenders' reports.

Stricter than the forecast's readers, which average and leave gaps out: here every value counts, NaN and infinity are
divergence, and two values for one step are refused. What a heading means is theirs (`sooner.forecast.read.names`), and
so are the steps of a line and every format that is not text.
"""

from __future__ import annotations

import ast
import csv
import json
import math
import re
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sooner.error import SoonerError
from sooner.forecast.numbers import number
from sooner.forecast.read import read as read_tables
from sooner.forecast.read.names import ALIASES, meaning, plain
from sooner.forecast.read.optional import EVENTS
from sooner.forecast.read.pairs import pairs, tidy

_NUMBER = r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?nan|[-+]?inf(?:inity)?)(?![\w])"
_SAME = (("val", "validation", "eval"), ("train", "training"))
_LAST_LINES = 3
_PARTED = re.compile(r"[\s_\-/.]+")
_WHOLE = (".parquet",)


def names_of(metric: str) -> list[list[str]]:
    """Return the ways to write a metric, each as its words, the one asked for first: val_loss is validation loss."""
    words = [word for word in _PARTED.split(metric.lower()) if word]
    ways = [words]
    for group in _SAME:
        if words and words[0] in group:
            ways += [[other, *words[1:]] for other in group if other != words[0]]
    return ways


class Scanner:
    """Takes text as it comes and keeps the value of the metric at each step.

    Args:
        metric: the name asked for.
        kind: ending of the file it reads, which tells a table from lines.
        rewinds: whether steps may go back, as in a file that a resumed program goes on writing: what was after is
            dropped. Elsewhere that is refused.
    """

    def __init__(self, metric: str, kind: str = "", *, rewinds: bool = False) -> None:
        self.metric, self.kind, self.rewinds = metric, kind, rewinds
        self.points: dict[float, float] = {}
        self.times: dict[float, float] = {}
        self.last: deque[str] = deque(maxlen=_LAST_LINES)
        self.without_step = False
        self._ways = ["".join(way) for way in names_of(metric)]
        patterns = [r"[\s_\-/.]?".join(map(re.escape, way)) for way in names_of(metric)]
        self._patterns = [re.compile(rf"(?<![\w/.]){one}\s*[:=]?\s*{_NUMBER}", re.IGNORECASE) for one in patterns]
        self._rest = ""
        self._headings: list[str] | None = None

    def feed(self, text: str, now: float, *, end: bool = False) -> bool:
        """Take more text and return whether it held the metric.

        Args:
            text: what follows the text before.
            now: when it was seen, in seconds.
            end: nothing follows, so that an unfinished line is one.

        Raises:
            SoonerError: two values for one step.
        """
        before = len(self.points)
        *lines, self._rest = re.split(r"\r\n|\n|\r", self._rest + text)
        if end:
            lines, self._rest = [*lines, self._rest], ""
        for line in lines:
            if line.strip():
                self.last.append(line.strip())
                self._line(line, now)
        return len(self.points) != before

    def _line(self, line: str, now: float) -> None:
        if self.kind in (".csv", ".tsv"):
            cells = next(csv.reader([line], delimiter="\t" if self.kind == ".tsv" else ","))
            if self._headings is None:
                self._headings = cells
            else:
                self._row(dict(zip(self._headings, cells, strict=False)), now)
            return
        start = line.find("{")
        if start >= 0 and line.rstrip().endswith("}"):
            row = _object(line[start:].strip())
            if row is not None:
                step = _step(line[:start])
                self._row(row if step is None else {"step": step, **row}, now)
                return
        for pattern in self._patterns:
            if found := next((m for m in pattern.finditer(line) if _alone(line, m.start())), None):
                step = _step(line[: found.start()])
                self._take(_step(line) if step is None else step, found[1], now)
                return

    def _row(self, row: Mapping[str, Any], now: float) -> None:
        """Take one object or row of a table."""
        named = {plain(str(name)): value for name, value in row.items()}
        value = next((named[way] for way in self._ways if named.get(way) not in (None, "")), None)
        if value is not None:
            step = next((named[a] for a in ALIASES["step"] if named.get(a) not in (None, "")), None)
            self._take(step, value, row.get("time", now) if self.kind == ".report" else now)

    def _take(self, step: Any, value: Any, now: float) -> None:
        try:
            at, number = float(step), float(value)
        except (TypeError, ValueError):
            self.without_step = self.without_step or step is None
            return
        if not math.isfinite(at):
            return
        latest = max(self.points, default=-1.0)
        if at <= latest and self.rewinds:
            self.points = {s: v for s, v in self.points.items() if s < at}
            self.times = {s: t for s, t in self.times.items() if s < at}
        elif at < latest or (at == latest and not _same(self.points[at], number)):
            was = f"after step {latest:g}" if at < latest else f"twice, {self.points[at]!r} and {number!r}"
            raise SoonerError(
                f"{self.metric} of step {at:g} comes {was}; print it once a step, from one process (rank 0)"
            )
        self.points[at] = number
        self.times.setdefault(at, now)


class Following:
    """Files that grow, read on from where the last look ended, as one stream.

    Args:
        metric: the name asked for.
        rewinds: see `Scanner`.
    """

    def __init__(self, metric: str, *, rewinds: bool = False) -> None:
        self.metric, self.rewinds = metric, rewinds
        self.scanners: dict[Path, Scanner] = {}
        self._read: dict[Path, int] = {}

    def look(self, paths: Iterable[Path], now: float, *, end: bool = False) -> bool:
        """Read what is new and return whether anything was; `end` says that nothing follows."""
        grown = False
        for path in paths:
            kind = ".report" if path.suffix == ".jsonl" and path.name.startswith("report-") else path.suffix
            scanner = self.scanners.setdefault(path, Scanner(self.metric, kind, rewinds=self.rewinds))
            if kind in _WHOLE or path.is_dir():
                if end:
                    _read_whole(path, scanner, now)
                continue
            if kind == ".json":
                if end:
                    _read_history(path, scanner, now)
                continue
            done = self._read.get(path, 0)
            try:
                with path.open("rb") as file:
                    file.seek(done)
                    new = file.read()
            except OSError:
                continue
            grown = grown or bool(new)
            if not end:
                new = new[: new.rfind(b"\n") + 1]  # half a line, or half a character, waits
            self._read[path] = done + len(new)
            scanner.feed(new.decode("utf-8", "replace"), now, end=end)
        return grown

    def points(self) -> tuple[dict[float, float], dict[float, float]]:
        """Return value and time by step: where a later file begins, what an earlier one said from there on is void."""
        values: dict[float, float] = {}
        times: dict[float, float] = {}
        for scanner in self.scanners.values():
            if scanner.points:
                first = min(scanner.points)
                values = {s: v for s, v in values.items() if s < first} | scanner.points
                times = {s: t for s, t in times.items() if s < first} | scanner.times
        return values, times


def log_files(folder: Path, pattern: str) -> list[Path]:
    """Return what a pattern finds in a run's folder, oldest first; event files stand for the folder they lie in."""
    found = {path.parent if path.name.startswith(EVENTS) else path for path in folder.glob(pattern)}
    kept = [path for path in found if path.is_file() or any(path.glob(f"{EVENTS}*"))]
    return sorted(kept, key=lambda path: (path.stat().st_mtime, path))


def _read_whole(path: Path, scanner: Scanner, now: float) -> None:
    """Read a format that is no text, such as TensorBoard's, as the forecast does."""
    table = read_tables([path], columns={"loss": scanner.metric})
    for step, value in zip(table["step"].tolist(), table["loss"].tolist(), strict=True):
        scanner._take(step, value, now)


def _read_history(path: Path, scanner: Scanner, now: float) -> None:
    """Read a JSON file that holds a list of objects, by itself or as log_history (transformers' trainer_state.json)."""
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    rows = held.get("log_history", []) if isinstance(held, dict) else held
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, dict):
            scanner._row(row, now)


def _step(text: str) -> float | None:
    """Return the step that a line says, by the forecast's grammar of logs; None without one."""
    known = [(m.rank, pair.text) for pair in pairs(tidy(text)) if (m := meaning(pair.name)) and m.column == "step"]
    try:
        return number(min(known)[1], False) if known else None
    except ValueError:
        return None


def _object(text: str) -> dict[str, Any] | None:
    """Return what a line of JSON, or of a printed dict, holds."""
    for reader in (json.loads, ast.literal_eval):
        try:
            found = reader(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(found, dict):
            return found
    return None


def _alone(line: str, start: int) -> bool:
    """Return whether the name that starts there is a whole one, and not the end of "best val loss"."""
    before = line[:start].rstrip()
    return not before or not before[-1].isalpha()


def _same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))
