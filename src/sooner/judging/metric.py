"""Reading a metric from what a program wrote: text, JSON lines, or a csv file; a loss of NaN is a value like any other.

`sooner.forecast.read` leaves rows without a loss out, since laws are fitted on curves. Here the last value decides, and
a run that ended with NaN must not pass for the best that it ever was.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sooner.error import SoonerError

_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_NUMBER = r"([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?|[-+]?(?:nan|inf(?:inity)?)\b)"
_WHICH = r"(?:train|training|val|valid|validation|eval|evaluation|test|dev)"
"""Words in front of a metric that make it another one: `loss` is not `val loss`."""


@dataclass(frozen=True)
class Course:
    """All values of the metric in the order in which they were written."""

    values: tuple[float, ...]

    @property
    def last(self) -> float:
        """The value at the end of the run."""
        return self.values[-1]

    @property
    def digest(self) -> str:
        """Tells courses apart: runs that differ at all differ in it."""
        return hashlib.sha256(repr(self.values).encode()).hexdigest()[:16]


def pattern(metric: str) -> re.Pattern[str]:
    """Return what finds `val_loss: 3.2`, `val loss 3.2`, `'val_loss': 3.2` and `val-loss=3.2` in a line."""
    words = [re.escape(word) for word in re.split(r"[_\s-]+", metric.strip()) if word]
    name = r"[_\s-]?".join(words)
    return re.compile(
        rf"(?<![\w/.-])(?:(?P<which>{_WHICH})[\s_-]+)?['\"]?{name}['\"]?(?:\s*[:=]\s*|\s+)['\"]?(?:tensor\()?{_NUMBER}",
        re.IGNORECASE,
    )


def read(path: Path, metric: str) -> Course:
    """Return the course of the metric.

    Args:
        path: standard output, a text log, a .jsonl or a .csv file.
        metric: its name.

    Raises:
        SoonerError: the file is not there, or has no value of the metric.
    """
    try:
        with path.open(encoding="utf-8", errors="replace", newline=None) as file:
            if path.suffix in (".csv", ".tsv"):
                values = list(_cells(file, metric, "\t" if path.suffix == ".tsv" else ","))
            else:
                values = list(_lines(file, metric))
    except OSError as error:
        raise SoonerError(f"cannot read {path} ({error.strerror}); --log names a file that each run writes") from None
    if not values:
        raise SoonerError(
            f"{path.name} has no value of {metric!r}; print a line such as '{metric}: 3.21', or name another with "
            f"--metric. It ends with: {tail(path)}"
        )
    return Course(tuple(values))


def tail(path: Path, lines: int = 3) -> str:
    """Return the last lines of a file in one, for a message."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "(nothing)"
    last = [_COLOUR.sub("", line).strip() for line in text.splitlines() if line.strip()][-lines:]
    return " | ".join(line[:200] for line in last) or "(nothing)"


def _lines(file: Iterable[str], metric: str) -> Iterator[float]:
    search = pattern(metric)
    for raw in file:
        line = _COLOUR.sub("", raw).strip()
        if line.startswith("{") and (entry := _entry(line)) is not None:
            if metric in entry and (value := _value(entry[metric])) is not None:
                yield value
            continue
        found = [match for match in search.finditer(line) if match["which"] is None]
        if found:
            yield float(found[-1][2])


def _cells(file: Iterable[str], metric: str, delimiter: str) -> Iterator[float]:
    for row in csv.DictReader(file, delimiter=delimiter):
        if (value := _value(row.get(metric))) is not None:
            yield value


def _entry(line: str) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def _value(cell: Any) -> float | None:
    """Return a number; an empty cell or null is none: nothing was measured at that step."""
    if cell is None:
        return None
    if isinstance(cell, bool) or (isinstance(cell, str) and not cell.strip()):
        return None
    try:
        return float(cell)
    except (TypeError, ValueError):
        return None
