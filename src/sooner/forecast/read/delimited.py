"""Tables in text: csv, tsv and semicolons, streamed, also compressed with gzip."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator
from pathlib import Path

from sooner.error import SoonerError
from sooner.forecast.read import wide
from sooner.forecast.read.mapping import Asked
from sooner.forecast.read.numbers import is_number
from sooner.forecast.read.rows import gather
from sooner.forecast.read.text import opened
from sooner.forecast.table import Table


def read_delimited(path: Path, given: Asked) -> Table:
    """Return the table of a csv or tsv file.

    Raises:
        SoonerError: it is not what its ending says, or a row or column is wrong.
    """
    with opened(path) as file:
        lines = _Lines(file)
        first = next(lines, "")
        if first.lstrip()[:1] in ("{", "<") or not first.strip():
            raise SoonerError(
                f"{path.name} does not begin with headings but with {first.strip()[:20]!r}, whatever its ending "
                "says; give csv, tsv, jsonl or a text log"
            )
        mark = max("\t;,", key=first.count)
        reader = csv.reader(itertools.chain([first], lines), delimiter=mark)
        headings = [heading.strip() for heading in next(reader)]
        if all(is_number(heading) for heading in headings):
            raise SoonerError(
                f"{path.name} has no headings: it begins with the numbers {', '.join(headings[:4])}; put a line with "
                "names above them, such as step,loss"
            )
        rows = ((lines.number, cells) for cells in reader)
        found = wide.unfold(headings, rows, given)
        if found is None:
            return gather(path, headings, rows, given, decimal_comma=mark != ",")
        made = gather(path, found.headings, found.rows, given, decimal_comma=mark != ",")
        return made.with_notes(f"the columns of {path.name} named RUN - METRIC were read as {found.count} runs")


class _Lines:
    """The lines of a file without blank ones and comments, and the number of the latest."""

    def __init__(self, file: Iterator[str]) -> None:
        self._file = file
        self.number = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        for line in self._file:
            self.number += 1
            if line.strip() and not line.startswith("#"):
                return line
        raise StopIteration
