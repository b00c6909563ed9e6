"""Measurements as JSON, one object per line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sooner.error import SoonerError
from sooner.forecast.read.mapping import Asked
from sooner.forecast.read.rows import gather
from sooner.forecast.read.text import opened
from sooner.forecast.read.thin import Row
from sooner.forecast.table import Table


def read_lines(path: Path, given: Asked) -> Table:
    """Return the table of a jsonl file: the fields of all its objects are the columns.

    Raises:
        SoonerError: a line is no JSON object, or a value is wrong.
    """
    headings = list(dict.fromkeys(key for _, entry in _objects(path) for key in entry))
    if not headings:
        raise SoonerError(f"{path.name} has objects without fields; give a file with measurements")
    return gather(path, headings, _rows(path, headings), given)


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with opened(path) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                entry = json.loads(line)
            except ValueError:
                entry = None
            if not isinstance(entry, dict):
                raise SoonerError(
                    f"line {number} of {path.name} is no JSON object: {line.strip()[:40]!r}; mend the line, or give "
                    "the file the ending of what it is"
                )
            yield number, entry


def _rows(path: Path, headings: list[str]) -> Iterator[Row]:
    for number, entry in _objects(path):
        yield number, [entry.get(heading) for heading in headings]
