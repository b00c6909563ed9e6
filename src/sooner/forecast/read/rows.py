"""From rows of text to a table: numbers checked, columns named, runs told apart, every refusal with row and column."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sooner.error import SoonerError
from sooner.forecast.read import mapping
from sooner.forecast.read.numbers import commas_are_decimal, is_number, number
from sooner.forecast.read.runs import refuse_backward, told_apart
from sooner.forecast.read.thin import Backward, Row, Thinned
from sooner.forecast.table import FloatArray, Table, listed

NOT_NEGATIVE = (
    "step",
    "lr",
    "parameters",
    "tokens",
    "compute",
    "batch",
    "unique_tokens",
    "experts",
    "width",
    "seconds",
)


def gather(
    path: Path, headings: Sequence[str], rows: Iterable[Row], asked: mapping.Asked, *, decimal_comma: bool = False
) -> Table:
    """Return the table of one file.

    Args:
        path: for messages and for the name of the run.
        headings: of the columns.
        rows: numbered rows, streamed.
        asked: what the user says.
        decimal_comma: whether a comma that may be either is a decimal one.

    Raises:
        SoonerError: no rows, ragged rows, text in a column of numbers, or values that can't be.
    """
    chosen, notes = mapping.find(list(headings), asked, path.name)
    streamed = _Streamed(path, list(headings), chosen, asked.where)
    for row in rows:
        streamed.add(row)
    kept = streamed.finish()
    notes += streamed.kept.note(path.name)
    named = {heading: column for column, heading in chosen.items()}
    cells_of = {heading: [(n, cells[place]) for n, cells in kept] for place, heading in enumerate(headings)}
    texts = (cell for h in named if h in cells_of and named[h] != "run" for _, cell in cells_of[h])
    comma = commas_are_decimal((cell for cell in texts if isinstance(cell, str)), decimal_comma)
    columns: dict[str, FloatArray] = {}
    for heading in headings:
        column = named.get(heading, heading)
        if column != "run":
            made = _numbers(path, heading, cells_of[heading], comma, strict=heading in named)
            if made is not None:
                columns[column] = made
    if not columns:
        raise SoonerError(f"{path.name} has no column of numbers; it has {listed(headings) or 'no headings'}")
    named_runs = "run" in chosen
    run = np.array([streamed.run(cells) if named_runs else f"row {line}" for line, cells in kept])
    table = Table(columns, run, tuple(notes))
    numbers = np.array([number for number, _ in kept])
    _possible(path, table, numbers)
    if streamed.blank:
        table = table.with_notes(f"{streamed.blank} rows of {path.name} without a loss (empty or NaN) were left out")
    return told_apart(path, table, named_runs=named_runs)


class _Streamed:
    """Takes the rows of a file one by one: refuses ragged ones, picks, counts and thins the others."""

    def __init__(self, path: Path, headings: list[str], chosen: Mapping[str, str], where: Mapping[str, str]) -> None:
        self._name, self._width, self._where = path.name, len(headings), where
        self._tests = [(headings.index(heading), text) for heading, text in where.items()]
        self._loss, self._step = (headings.index(chosen[n]) if n in chosen else None for n in ("loss", "step"))
        self._run = [headings.index(one) for one in mapping.parts(chosen["run"], headings)] if "run" in chosen else []
        self._backward = Backward()
        self.kept = Thinned()
        self.blank = 0
        """Rows without a loss."""

    def run(self, cells: Sequence[object]) -> str:
        """Return the name of a row's run."""
        return "/".join(str(cells[place]) for place in self._run)

    def add(self, row: Row) -> None:
        """Take a row.

        Raises:
            SoonerError: it has more or fewer cells than there are headings.
        """
        line, cells = row
        if len(cells) != self._width:
            raise SoonerError(
                f"row {line} of {self._name} has {len(cells)} cell{'s' * (len(cells) != 1)} and the heading "
                f"{self._width}; mend the row"
            )
        if any(str(cells[place]).strip() != text for place, text in self._tests):
            return
        if self._loss is not None and _missing(cells[self._loss]):
            self.blank += 1
            return
        if self._step is not None:
            step = str(cells[self._step])
            self._backward.add(self.run(cells), float(step) if is_number(step) else float("nan"))
        self.kept.add(row)

    def finish(self) -> list[Row]:
        """Return the rows kept.

        Raises:
            SoonerError: there are none, or the file was long and its steps go back again and again.
        """
        kept = self.kept.rows
        if not kept and self.blank:
            raise SoonerError(f"{self._name} has no loss in any row; name the column with --column loss=HEADING")
        if not kept and self._where:
            wanted = ", ".join(f"{heading} {text!r}" for heading, text in self._where.items())
            raise SoonerError(f"{self._name} has no row with {wanted}; write the cells as they are in the file")
        if not kept:
            raise SoonerError(f"{self._name} has headings and no rows; give a file with measurements")
        refuse_backward(self._name, self._backward, self.kept)
        return kept


def _missing(cell: object) -> bool:
    return cell is None or cell == "" or cell != cell or str(cell).strip().lower() in ("", "nan", "none", "null")


def _numbers(
    path: Path, heading: str, cells: list[tuple[int, object]], decimal_comma: bool, *, strict: bool
) -> FloatArray | None:
    """Return a column, NaN where a cell is empty; None for a column of text that no law asked for."""
    made = np.empty(len(cells))
    for place, (line, cell) in enumerate(cells):
        text = str(cell).strip() if cell is not None else ""
        try:
            made[place] = number(text, decimal_comma)
        except ValueError:
            if not strict:
                return None
            raise SoonerError(
                f"row {line} of {path.name} has {text[:40]!r} in the column {heading!r}, which must be a number; "
                "mend the row, or read another column with --column NAME=HEADING"
            ) from None
    return None if np.isnan(made).all() and not strict else made


def _possible(path: Path, table: Table, numbers: npt.NDArray[np.intp]) -> None:
    """Refuse losses that no logarithm takes, and sizes and times that are negative or infinite."""
    if "loss" in table:
        loss = table["loss"]
        bad = np.flatnonzero(np.isinf(loss) | (loss <= 0))
        if bad.size:
            raise SoonerError(
                f"row {numbers[bad[0]]} of {path.name} has the loss {loss[bad[0]]:g}; losses must be positive and "
                "finite, as laws are fitted on their logarithm: drop the row, or name another column with "
                "--column loss=HEADING"
            )
    for name in NOT_NEGATIVE:
        bad = np.flatnonzero(np.isinf(table[name]) | (table[name] < 0)) if name in table else np.empty(0, dtype=int)
        if bad.size:
            raise SoonerError(
                f"row {numbers[bad[0]]} of {path.name} has {name} {table[name][bad[0]]:g}, which can't be negative or "
                f"infinite; mend the row, or name another column with --column {name}=HEADING"
            )
