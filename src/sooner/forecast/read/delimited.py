"""Tables in text, streamed: cells between commas, semicolons, tabs, bars or spaces, and tables of Markdown."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sooner.error import SoonerError
from sooner.forecast.numbers import is_number, looks_numeric
from sooner.forecast.read import wide
from sooner.forecast.read.mapping import Asked
from sooner.forecast.read.names import meaning
from sooner.forecast.read.rows import gather
from sooner.forecast.read.text import opened
from sooner.forecast.read.thin import Row
from sooner.forecast.table import Table

MARKS = ("\t", ";", "|", ",", "  ", " ")
"""What may stand between cells; two spaces stand for two or more."""
LOOKED_AT = 40
"""Lines by which a table is told from a log."""
LONGEST = 20_000
"""Characters of a line that are looked at by then."""
_RULE = re.compile(r"[\s|+:=\-─━┼├┤│]+")
_IN_BRACKETS = re.compile(r"\s*[(\[][^()\[\]]*[)\]]\s*|\s*")
_TELLING = ("loss", "perplexity", "accuracy", "error", "step", "epoch", "tokens", "parameters", "compute")
"""Columns of which a table has one, where its ending does not say that it is a table."""
_SEPARATOR = re.compile(r"\"?sep=.\"?\s*", re.IGNORECASE)
"""The line by which spreadsheets are told what stands between cells."""
_TEXT_OF_A_LOG = re.compile(r"[A-Za-z_][\w /]*[:=]\s*[-+]?\d|[{}]")


@dataclass(frozen=True)
class Layout:
    """How a table is written.

    Args:
        mark: between cells, one of `MARKS`.
        headings: of its columns.
        begin: number of the line with the headings, or of the one before the first row.
        note: what was assumed, nothing where it is plain.
    """

    mark: str
    headings: list[str]
    begin: int
    note: str = ""


def read_delimited(path: Path, given: Asked) -> Table:
    """Return the table of a file whose cells are parted by any of `MARKS`.

    Raises:
        SoonerError: it has no headings, or a row or column is wrong.
    """
    table = _Delimited(path)
    layout = table.layout()
    headings = _unique(layout.headings, given)
    unfolded = wide.unfold(headings, lambda: table.rows(headings), given)
    comma = layout.mark != ","
    if unfolded is None:
        made = gather(path, headings, lambda: table.rows(headings), given, decimal_comma=comma, cut=lambda: table.cut)
    else:
        made = gather(path, unfolded.headings, unfolded.rows, given, decimal_comma=comma, cut=lambda: table.cut)
        made = made.with_notes(f"the columns of {path.name} named RUN - METRIC were read as {unfolded.count} runs")
    told = [layout.note] if layout.note else []
    return made.with_notes(*told, *table.notes)


def headings_of(path: Path) -> list[str]:
    """Return the headings of a table.

    Raises:
        SoonerError: it has none.
    """
    return _Delimited(path).layout().headings


def layout_of(lines: Sequence[tuple[int, str]], *, certain: bool) -> Layout | None:
    """Return how a table is written that begins with these numbered lines; None where they are none.

    Args:
        lines: without blank ones.
        certain: whether the file's ending says that it is a table.
    """
    bare = [(n, line) for n, line in lines if not line.lstrip().startswith("#")]
    if not bare:
        return None
    remark = [(n, line) for n, line in lines if n < bare[0][0]]
    if (at := _of_markdown(bare)) is not None:
        return Layout("|", split(bare[at][1], "|"), bare[at][0])
    bare = [(n, line) for n, line in bare if not _RULE.fullmatch(line)]
    if not bare:
        return None
    number, first = bare[0]
    best: tuple[float, str] | None = None
    for mark in MARKS:
        cells, rest = split(first, mark), [split(line, mark) for _, line in bare[1:]]
        if len(cells) < 2:
            continue
        alike = sum(0 <= len(one) - len(cells) <= one.count("") for one in rest) / max(len(rest), 1)
        if (alike >= 0.5 and (best is None or alike > best[0] + 0.2)) or (best is None and certain and mark.strip()):
            best = (alike, mark)
    if best is None and all(len(line.split()) == 1 for _, line in bare):
        best = (1.0, ",")  # a single column
    if best is None:
        return None
    mark = best[1]
    cells, rest = split(first, mark), [split(line, mark) for _, line in bare[1:] if line.strip()]
    if all(looks_numeric(cell) for cell in cells):
        return _without_headings(remark, bare, mark, number)
    if certain:
        return Layout(mark, cells, number)
    numeric = sum(looks_numeric(cell) for one in rest for cell in one) / max(sum(map(len, rest)), 1)
    if not any((m := meaning(cell)) is not None and m.column in _TELLING for cell in cells):
        return None
    if not rest or _TEXT_OF_A_LOG.search(first) or any(is_number(cell) for cell in cells) or numeric < 0.5:
        return None
    return Layout(mark, cells, number)


def _of_markdown(lines: Sequence[tuple[int, str]]) -> int | None:
    """Return which line holds the headings of a table of Markdown: the one above |---|---|."""
    for at, (_, line) in enumerate(lines[1:]):
        if "-" in line and "|" in line and re.fullmatch(r"[\s|:\-]+", line) and "|" in lines[at][1]:
            return at
    return None


def _without_headings(
    remark: Sequence[tuple[int, str]], lines: Sequence[tuple[int, str]], mark: str, number: int
) -> Layout | None:
    """Return the layout of columns without headings: those of a remark, or of step and loss, or of MLflow."""
    rows = [split(line, mark) for _, line in lines]
    width = len(rows[0])
    for _, text in reversed(remark):
        headings = split(text.lstrip(" \t#"), mark if mark.strip() else " ")
        if len(headings) == width and any(meaning(h) for h in headings):
            return Layout(mark, headings, number - 1)
    try:
        made = [[float(cell) for cell in row] for row in rows if len(row) == width]
    except ValueError:
        return None
    columns = list(zip(*made, strict=True))
    rising = all(a < b for a, b in zip(columns[0], columns[0][1:], strict=False))
    if width == 3 and min(columns[0]) > 1e11 and all(step % 1 == 0 for step in columns[2]):
        return Layout(mark, ["timestamp (ms)", "value", "step"], number - 1, "time, value and step of an MLflow metric")
    if width == 1 and len(made) > 1:
        return Layout(mark, ["loss"], number - 1, "it has no headings: its one column was taken for losses")
    if width == 2 and len(made) > 1 and rising and min(columns[0]) >= 0:
        told = "it has no headings: its two columns were taken for step and loss"
        return Layout(mark, ["step", "loss"], number - 1, told)
    return None


def split(line: str, mark: str) -> list[str]:
    """Return the cells of a line."""
    line = line.strip("\n") if mark == "\t" else line.strip()
    if mark in ("  ", " "):
        return re.split(r"\s{2,}|\t" if mark == "  " else r"\s+", line.strip())
    if mark == "|":
        line = line.replace("│", "|")
        line = line[1:] if line.startswith("|") else line
        line = line[:-1] if line.endswith("|") else line
        return [cell.strip(" *`") for cell in line.split("|")]
    cells = next(csv.reader([line], delimiter=mark, skipinitialspace=True), [])
    return [cell.strip() for cell in cells]


class _Delimited:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._layout: Layout | None = None
        self.cut: int | None = None
        """The number of a last line that has no end."""
        self.notes: list[str] = []

    def layout(self) -> Layout:
        if self._layout is None:
            lines = head(self._path)
            first = lines[0][1].strip() if lines else ""
            if not first or first[:1] in "{<":
                raise SoonerError(
                    f"{self._path.name} does not begin with headings but with {first[:20]!r}, whatever its ending "
                    "says; give csv, tsv, json, jsonl or a text log"
                )
            found = layout_of(lines, certain=True)
            if found is None:
                shown = ", ".join(re.split(r"[\s,;|]+", first)[:4])
                raise SoonerError(
                    f"{self._path.name} has no headings: it begins with the numbers {shown}; put a line with names "
                    "above them, such as step,loss"
                )
            self._layout = found
        return self._layout

    def rows(self, headings: list[str]) -> Iterator[Row]:
        """Yield the rows, each with a cell for every heading; a last one that is cut off is left out."""
        layout = self.layout()
        width, self.notes = len(headings), []
        short: Row | None = None
        skipped = False
        for number, cells in self._cells(layout):
            if short is not None:
                yield short  # `gather` refuses it
            short = None
            if len(cells) > width and (surplus := len(cells) - width) <= cells.count(""):
                for _ in range(surplus):
                    cells.remove("")  # where two marks stand for one
            if cells == layout.headings:
                continue
            if not skipped and all(map(_IN_BRACKETS.fullmatch, cells)):
                skipped = True  # the units below the headings
                continue
            if len(cells) < width:
                short = number, cells
                continue
            yield number, cells
        if short is not None:
            self.cut = None
            self.notes.append(f"the last line of {self._path.name} is unfinished and was left out")

    def _cells(self, layout: Layout) -> Iterator[tuple[int, list[str]]]:
        with opened(self._path) as file:
            if layout.mark in ("|", "  ", " "):
                for number, line in self._lines(file):
                    if (
                        number > layout.begin
                        and not _RULE.fullmatch(line)
                        and (layout.mark != "|" or "|" in line or "│" in line)
                    ):
                        yield number, split(line, layout.mark)
                return
            at = [0]

            def lines() -> Iterator[str]:
                for number, line in self._lines(file):
                    if number > layout.begin:
                        at[0] = number
                        yield line

            for cells in csv.reader(lines(), delimiter=layout.mark, skipinitialspace=True):
                yield at[0], [cell.strip() for cell in cells]

    def _lines(self, file: Iterator[str]) -> Iterator[tuple[int, str]]:
        for number, line in enumerate(file, start=1):
            self.cut = None if line.endswith("\n") else number
            if "\0" in line:
                line = line.replace("\0", "")
            if line.strip() and not line.startswith("#") and not _SEPARATOR.fullmatch(line):
                yield number, line


def head(path: Path, count: int = LOOKED_AT) -> list[tuple[int, str]]:
    """Return the first lines of a file that are not blank, numbered."""
    found = []
    with opened(path) as file:
        for number, line in enumerate(file, start=1):
            if line.strip(" \t\r\n\0") and not _SEPARATOR.fullmatch(line):
                found.append((number, line.replace("\0", "")[:LONGEST]))
            if len(found) == count or number > 50 * count:
                break
    return found


def _unique(headings: list[str], given: Asked) -> list[str]:
    """Return the headings, those that are blank or twice and mean nothing by their place."""
    named = {*given.columns.values(), *given.where}
    made: list[str] = []
    for at, heading in enumerate(headings, start=1):
        twice = heading in made and not (heading in named or meaning(heading) is not None)
        made.append(f"column {at}" if not heading or twice else heading)
    return made
